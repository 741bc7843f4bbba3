"""The tables and figures of the PAD paper (arXiv 2502.14272), in its order."""

from harness.contracts.target import Point, Target, Variant

UNTRAINED = ("teacher", "student")
METHODS = ("kd", "seqkd", "minillm", "dpo", "simpo", "pro", "pad-vpd", "pad-ppd")

# Section 5.2: every method on the four benchmarks, beside the untrained models.
TABLE1 = Target(
    "table1", "Table 1", "Main results", rows=(*UNTRAINED, *METHODS),
    columns=("alpaca_eval.lc", "alpaca_eval.wr", "arena_hard.wr", "mt_bench.score", "gsm8k.acc"),
    focus="pad-ppd", published="table1", open=True,
)  # fmt: skip

# Section 5.3. The paper gives GPU hours on A800; here wall time and memory are measured on whatever machine ran the
# stages (results/run/results.py). The comparison that matters is within the table: 2/2 against 1/4, 2/4 against 1/8.
_GRID = ((1, 4), (2, 2), (1, 8), (2, 4))  # iterations, and responses per prompt in each
TABLE2 = Target(
    "table2", "Table 2", "Iterations / responses of each: quality and training cost",
    rows=tuple(f"pad-ppd-{rounds}x{n}" for rounds, n in _GRID),
    columns=("alpaca_eval.lc", "cost.time", "cost.memory"), reference="pad-ppd-1x4", published="table2",
    variants={
        f"pad-ppd-{rounds}x{n}": Variant(
            "pad-ppd", {"title": f"PAD w/ PPD {rounds}/{n}", "rounds": rounds, "sampling": {"n": n}}
        )
        for rounds, n in _GRID
    },
    layout="costs",
)  # fmt: skip

# Section 5.3: a student of another family, whose vocabulary is not the teacher's. The paper leaves the methods that
# compare token distributions out; here they stand in the table as n/a, with why.
TABLE3 = Target(
    "table3", "Table 3", "Heterogeneous study: a student with another vocabulary",
    rows=("student", "kd", "minillm", "dpo", "simpo", "pro", "pad-vpd", "pad-ppd"),
    columns=("alpaca_eval.lc", "arena_hard.wr"), focus="pad-ppd", published="table3", needs_own_family=True,
)  # fmt: skip

# Appendix B.1, with what section 5.1 adds. It needs no run: the values are those that the recipe trains with
# (reports/tables/published.py).
TABLE4 = Target(
    "table4", "Table 4", "Hyperparameters of PAD training", rows=(), columns=(), published="table4", layout="settings"
)

# Appendix B.2: how often judges side with the human majority. The paper's own numbers are AlpacaEval's, from
# annotations of its 2023 answers. Here other judges judge the answers of table 1: on pocket, whose recipe lists this
# target, against the known truth instead of people.
TABLE5 = Target(
    "table5", "Table 5", "Judges and human agreement", rows=TABLE1.rows, columns=("alpaca_eval.wr",),
    published="table5", compares_judges=True,
    requires_listing=(
        "needs human annotations, or a recipe whose answers have a known truth. With annotations of your own: "
        "distilbench compare-judges --annotations FILE --humans FILE."
    ),
)  # fmt: skip

# Appendix C: the same student with a larger teacher.
TABLE6 = Target(
    "table6", "Table 6", "Scaling up: a larger teacher",
    rows=(*UNTRAINED, "dpo", "simpo", "pro", "pad-vpd", "pad-ppd"), columns=("alpaca_eval.lc", "arena_hard.wr"),
    focus="pad-ppd", published="table6", needs_own_family=True,
)  # fmt: skip

# Section 5.3: after each iteration, for the methods that train on the student's samples. Every iteration samples anew
# from the student that the one before has trained.
_ITERATED = {
    method if rounds == 1 else f"{method}-round{rounds}": (method, rounds)
    for method in ("dpo", "simpo", "pro", "pad-ppd")
    for rounds in (1, 2, 3)
}
FIGURE4 = Target(
    "figure4", "Figure 4", "AlpacaEval 2 LC with different iterations", rows=("student", *_ITERATED),
    columns=("alpaca_eval.lc",), focus="pad-ppd",
    variants={row: Variant(method, {"rounds": n}) for row, (method, n) in _ITERATED.items() if n > 1},
    layout="curves", points={row: Point(method, n) for row, (method, n) in _ITERATED.items()}, axis="iterations",
    notes=("The paper prints no numbers of this figure; how many iterations it has is our reading.",),
)  # fmt: skip

# Section 5.3: the share of the selection probability in the reward.
_ALPHAS = {f"pad-ppd-alpha{alpha}": alpha for alpha in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)}
FIGURE5 = Target(
    "figure5", "Figure 5", "AlpacaEval 2 LC with different alpha", rows=("student", *_ALPHAS),
    columns=("alpaca_eval.lc",),
    variants={
        row: Variant("pad-ppd", {"alpha": alpha, "title": f"PAD w/ PPD, alpha {alpha}"})
        for row, alpha in _ALPHAS.items()
    },
    layout="curves", points={row: Point("pad-ppd", alpha) for row, alpha in _ALPHAS.items()},
    axis="alpha: share of the selection probability in the teacher's reward",
    notes=("The paper prints no numbers of this figure; steps of 0.2 are our reading.",),
)  # fmt: skip

# Appendix C: the responses sampled to each prompt.
_SIZES = {f"pad-ppd-n{n}": n for n in (2, 4, 6, 8)}
FIGURE6 = Target(
    "figure6", "Figure 6", "Win rates with different numbers of responses", rows=("student", *_SIZES),
    columns=("alpaca_eval.lc", "alpaca_eval.wr"),
    variants={
        row: Variant("pad-ppd", {"sampling": {"n": n}, "title": f"PAD w/ PPD, n = {n}"}) for row, n in _SIZES.items()
    },
    layout="curves", points={row: Point("pad-ppd", n) for row, n in _SIZES.items()}, axis="n: responses per prompt",
    notes=("The paper prints no numbers of this figure, and does not say which win rate it shows.",),
)  # fmt: skip
