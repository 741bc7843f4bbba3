"""Table 1 of the paper (section 5.2): every method on the four benchmarks, beside the untrained models."""

from harness.contracts.target import Target

TARGET = Target(
    name="table1",
    label="Table 1",
    title="Main results",
    rows=("teacher", "student", "kd", "seqkd", "minillm", "dpo", "simpo", "pro", "pad-vpd", "pad-ppd"),
    columns=("alpaca_eval.lc", "alpaca_eval.wr", "arena_hard.wr", "mt_bench.score", "gsm8k.acc"),
    focus="pad-ppd",
    published="table1",
    open=True,
)
