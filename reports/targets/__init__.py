"""What can be reproduced: tables and figures. A new one is a new file and a line in ``TARGETS``. What its cells mean is
said by the run, what differs by family by the recipe (section ``targets``)."""

from __future__ import annotations

from harness.contracts.target import Target
from harness.errors import UserError, unknown_choice
from reports.targets import paper

EVAL = Target("eval", "Evaluation", "Models as they are", rows=(), columns=(), open=True, lengths=True)
SEARCH = Target("search", "Search", "Settings of a row on development questions", rows=(), columns=(), open=True)
"""No table of its own name: a recipe may say what differs for searches in ``targets.search``."""

TARGETS = {
    target.name: target
    for target in (
        paper.TABLE1, paper.TABLE2, paper.TABLE3, paper.TABLE4, paper.TABLE5, paper.TABLE6,
        paper.FIGURE4, paper.FIGURE5, paper.FIGURE6,
        EVAL,
    )
}  # fmt: skip
ALL = "all"  # every table and figure of the paper


def find_target(name: str) -> Target:
    """Raises UserError that names the choices."""
    if name not in TARGETS:
        raise unknown_choice("target", name, [*TARGETS, ALL])
    return TARGETS[name]


def find_targets(text: str) -> list[Target]:
    """``all``, one name, or several with commas between. Raises UserError for another."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UserError(f"no target is named in {text!r}. Choices: {', '.join([*TARGETS, ALL])}.")
    if ALL in names:
        return [target for target in TARGETS.values() if target is not EVAL]
    return [find_target(name) for name in dict.fromkeys(names)]
