"""Table 2 of the paper (section 5.3): iterations and responses of each, with what training cost.

The paper gives GPU hours on A800; here wall time and memory are measured on whatever machine ran the stages
(``results/run/costs.py``). The comparison that matters is within the table: 2/2 against 1/4, 2/4 against 1/8.
"""

from harness.contracts.target import Target, Variant

GRID = ((1, 4), (2, 2), (1, 8), (2, 4))
"""Iterations, and responses per prompt in each."""

TARGET = Target(
    name="table2",
    label="Table 2",
    title="Iterations / responses of each: quality and training cost",
    rows=tuple(f"pad-ppd-{rounds}x{n}" for rounds, n in GRID),
    columns=("alpaca_eval.lc", "cost.time", "cost.memory"),
    reference="pad-ppd-1x4",
    published="table2",
    variants={
        f"pad-ppd-{rounds}x{n}": Variant(
            "pad-ppd", {"title": f"PAD w/ PPD {rounds}/{n}", "rounds": rounds, "sampling": {"n": n}}
        )
        for rounds, n in GRID
    },
    layout="costs",
)
