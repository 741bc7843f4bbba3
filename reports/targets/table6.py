"""Table 6 of the paper (appendix C): the same student with a larger teacher."""

from harness.contracts.target import Target

TARGET = Target(
    name="table6",
    label="Table 6",
    title="Scaling up: a larger teacher",
    rows=("teacher", "student", "dpo", "simpo", "pro", "pad-vpd", "pad-ppd"),
    columns=("alpaca_eval.lc", "arena_hard.wr"),
    focus="pad-ppd",
    published="table6",
    needs_own_family=True,
)
