"""Table 5 of the paper (appendix B.2): how often judges side with the human majority.

The paper's own numbers are AlpacaEval's, from annotations of its 2023 answers. Here other judges judge the answers of
table 1: on pocket, whose recipe lists this target, against the known truth instead of people. With real annotations
it is ``distilbench compare-judges --annotations FILE --humans FILE``.
"""

from harness.contracts.target import Target

TARGET = Target(
    name="table5",
    label="Table 5",
    title="Judges and human agreement",
    rows=("teacher", "student", "kd", "seqkd", "minillm", "dpo", "simpo", "pro", "pad-vpd", "pad-ppd"),
    columns=("alpaca_eval.wr",),
    published="table5",
    compares_judges=True,
    requires_listing=(
        "needs human annotations, or a recipe whose answers have a known truth. With annotations of your own: "
        "distilbench compare-judges --annotations FILE --humans FILE."
    ),
)
