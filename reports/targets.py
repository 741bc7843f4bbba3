"""What can be reproduced: a target is a table of the paper, written down as rows and columns.

A new one is one more entry in ``TARGETS``. What its cells mean is said by the run, not here.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.errors import unknown


@dataclass(frozen=True)
class Target:
    """The grid of one table, and how to lay it out."""

    name: str
    label: str
    """``Table 1``: its name in the paper."""
    title: str
    rows: tuple[str, ...]
    """Row ids, top to bottom."""
    columns: tuple[str, ...]
    """Metric ids, left to right."""
    reference: str = "student"
    """The row that every trained method is compared with."""
    focus: str | None = None
    """The row whose comparisons with every other trained row are a family of tests of their own."""
    published: str | None = None
    """The paper's table to print beside (``results.published``)."""
    open: bool = False
    """Whether further rows and columns of the run are appended (a method of your own, another benchmark)."""
    lengths: bool = False
    """Whether mean answer length and truncation rate stand in the cells of win rates; a run with a baseline of its own
    always has them."""


TARGETS = {
    target.name: target
    for target in (
        Target(
            name="table1",
            label="Table 1",
            title="Main results",
            rows=("teacher", "student", "kd", "seqkd", "minillm", "dpo", "simpo", "pro", "pad-vpd", "pad-ppd"),
            columns=("alpaca_eval.lc", "alpaca_eval.wr", "arena_hard.wr", "mt_bench.score", "gsm8k.acc"),
            focus="pad-ppd",
            published="table1",
            open=True,
        ),
        Target(
            name="eval", label="Evaluation", title="Models as they are", rows=(), columns=(), open=True, lengths=True
        ),
    )
}


def find_target(name: str) -> Target:
    """The target of this name. Raises UserError that names the choices."""
    if name not in TARGETS:
        raise unknown("target", name, TARGETS)
    return TARGETS[name]
