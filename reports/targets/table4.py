"""Table 4 of the paper (appendix B.1), with what section 5.1 adds: hyperparameters of PAD, used here and published.

It needs no run: the values are those that the recipe trains with (``reports/tables/hyperparameters.py``).
"""

from harness.contracts.target import Target

TARGET = Target(
    name="table4",
    label="Table 4",
    title="Hyperparameters of PAD training",
    rows=(),
    columns=(),
    published="table4",
    layout="settings",
)
