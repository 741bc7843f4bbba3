"""Figure 6 of the paper (appendix C): win rates for different n, the responses sampled to each prompt."""

from harness.contracts.target import Point, Target, Variant

SIZES = (2, 4, 6, 8)

TARGET = Target(
    name="figure6",
    label="Figure 6",
    title="Win rates with different numbers of responses",
    rows=("student", *(f"pad-ppd-n{n}" for n in SIZES)),
    columns=("alpaca_eval.lc", "alpaca_eval.wr"),
    variants={
        f"pad-ppd-n{n}": Variant("pad-ppd", {"sampling": {"n": n}, "title": f"PAD w/ PPD, n = {n}"}) for n in SIZES
    },
    layout="curves",
    points={f"pad-ppd-n{n}": Point("pad-ppd", n) for n in SIZES},
    axis="n: responses per prompt",
    notes=("The paper prints no numbers of this figure, and does not say which win rate it shows.",),
)
