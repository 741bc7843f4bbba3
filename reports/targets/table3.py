"""Table 3 of the paper (section 5.3): a student of another family, whose vocabulary is not the teacher's.

The paper leaves the methods that compare token distributions out; here they stand in the table as n/a, with why.
"""

from harness.contracts.target import Target

TARGET = Target(
    name="table3",
    label="Table 3",
    title="Heterogeneous study: a student with another vocabulary",
    rows=("student", "kd", "minillm", "dpo", "simpo", "pro", "pad-vpd", "pad-ppd"),
    columns=("alpaca_eval.lc", "arena_hard.wr"),
    focus="pad-ppd",
    published="table3",
    needs_own_family=True,
)
