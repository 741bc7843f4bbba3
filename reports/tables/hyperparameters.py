"""The hyperparameters that the paper states (its Table 4, section 5.1) beside those that a recipe trains with.

Nothing is measured here. The same comparison tells whether a row of another table was trained as the paper says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isclose
from typing import Any, Final

from harness.contracts.target import Target
from reports.tables.table import Table, TableCell, TableColumn, TableRow
from reports.text import clean
from results.published import Published, published_table
from results.run.record import Run

ROW: Final = "pad-ppd"
"""The row whose settings are shown."""
PAD: Final = frozenset({"pad-vpd", "pad-ppd"})
SAMPLED: Final = PAD | {"dpo", "simpo", "pro"}
"""Methods that the paper trains on the student's responses (section 5.1, appendix B.3)."""


@dataclass(frozen=True)
class PaperSetting:
    """One hyperparameter: how it is called, and where a resolved recipe has it."""

    title: str
    section: str
    """``train`` or ``sampling``; empty: an option of the row's method."""
    name: str
    methods: frozenset[str] | None = None
    """The methods for which the paper states it; ``None``: all."""

    def read(self, recipe: Mapping[str, Any], row: str) -> Any:
        """What a row is trained with, its own value before the recipe's; ``None`` where it has none."""
        entry = recipe["methods"].get(row) or {}
        if not self.section:
            return entry.get(self.name)
        own, shared = entry.get(self.section) or {}, recipe.get(self.section) or {}
        return own.get(self.name, shared.get(self.name))


SETTINGS: Final[Mapping[str, PaperSetting]] = {
    "beta": PaperSetting("beta", "", "beta", PAD),
    "alpha": PaperSetting("alpha", "", "alpha", PAD),
    "learning_rate": PaperSetting("learning rate", "train", "learning_rate", PAD),
    "batch_size": PaperSetting("batch size (prompts)", "train", "batch_size"),
    "warmup_ratio": PaperSetting("warm-up ratio", "train", "warmup_ratio"),
    "epochs": PaperSetting("epochs", "train", "epochs"),
    "n": PaperSetting("responses per prompt", "sampling", "n", SAMPLED),
    "sampling_temperature": PaperSetting("sampling temperature", "sampling", "temperature", SAMPLED),
}
"""By row of the paper's table (``results/published/table4.csv``)."""


@dataclass(frozen=True)
class SettingComparison:
    """One line: a hyperparameter here and in the paper."""

    name: str
    used: float | None
    """``None``: the recipe has no such row, so nothing is trained with it."""
    published: Mapping[str, Published]
    """Family (``any``: every one) to what the paper states; several where this run's family is none of them."""

    @property
    def same(self) -> bool | None:
        """Whether the run uses a published value; ``None`` where it has none."""
        return None if self.used is None else any(self.used == paper.value for paper in self.published.values())


def compare_settings(run: Run) -> list[SettingComparison]:
    """Every hyperparameter that the paper states, in its order."""
    paper = published_table("table4")
    lines = []
    for name in dict.fromkeys(row for _, row, _ in paper):
        stated = {family: number for (family, row, _), number in paper.items() if row == name}
        # a family of one's own (pocket) is none of the paper's: then every stated value is shown
        ours = {family: number for family, number in stated.items() if family in (run.family.name, "any")} or stated
        used = SETTINGS[name].read(run.recipe, ROW) if ROW in run.recipe["methods"] else None
        lines.append(SettingComparison(name, used, ours))
    return lines


def hyperparameter_table(target: Target, run: Run) -> Table:
    notes: list[tuple[str, str]] = []
    rows, records, data = [], [], []
    for line in compare_settings(run):
        marks = []
        for number in line.published.values():
            if number.note:
                notes.append((chr(ord("a") + len(notes)), f"paper: {clean(number.note)}"))
                marks.append(notes[-1][0])
        several = len(line.published) > 1
        paper = ", ".join(
            f"{number.value:g}" + (f" ({family})" if several else "") for family, number in line.published.items()
        )
        searched = next(clean(number.protocol).removeprefix("searched: ") for number in line.published.values())
        texts = (SETTINGS[line.name].title, "n/a" if line.used is None else f"{line.used:g}")
        same = {True: "yes", False: "no", None: "-"}[line.same]
        cells = [*map(TableCell, texts), TableCell(paper, marks=tuple(marks)), TableCell(same), TableCell(searched)]
        rows.append(TableRow(tuple(cells)))
        stated = [
            {"family": family, "value": number.value, "searched": number.protocol, "note": number.note}
            for family, number in line.published.items()
        ]
        data.append({"setting": line.name, "used": line.used, "same": line.same, "published": stated})
        place = {"target": target.name, "run": run.name, "family": run.family.name, "setting": line.name}
        records += [
            {**place, "used": line.used, "published_family": one["family"], "published": one["value"],
             "searched": one["searched"], "note": one["note"]}
            for one in stated
        ]  # fmt: skip
    caption = f"{target.title}, row {ROW}. Run {clean(run.name)}: {clean(run.family.teacher)} teaches "
    caption += f"{clean(run.family.student)}."
    titles = (f"Setting ({clean(run.family.name)})", "this run", "paper", "the same", "searched by the paper")
    whole = {"format": 1, "target": target.name, "title": f"{target.label}: {caption}", "run": {"name": run.name}}
    return Table(
        target.name, caption, tuple(TableColumn(title, numeric=False) for title in titles), tuple(rows),
        _lines(run), tuple(notes), target.label, data={**whole, "rows": data, "lines": list(_lines(run))},
        records=records,
    )  # fmt: skip


def _lines(run: Run) -> tuple[str, ...]:
    lines = [
        "Values that the run trains with, from its resolved recipe; the paper's from its Table 4, sections 4.1 and 5.1."
    ]
    if ROW not in run.recipe["methods"]:
        lines.append(f"This recipe has no row {ROW}.")
    return tuple(lines)


def other_settings(recipe: Mapping[str, Any], row: str, name: str, family: str) -> list[str]:
    """What a row was trained with that the paper states otherwise: ``alpha 0 (the paper: 0.8)``.

    Only what the paper states for a method is looked at: a learning rate, alpha and beta for PAD, how the student's
    responses are sampled for the methods that learn from them; epochs, batch and warm-up for all.

    Args:
        recipe: resolved.
        row: its id in the recipe.
        name: what the published table calls it. ``pad-ppd-2x4`` says how many rounds and responses there are.
        family: whose learning rate the paper states.
    """
    methods = recipe.get("methods") or {}
    if row not in methods:
        return []
    entry, others = methods[row] or {}, []
    method = entry.get("method") or row
    by_name = re.search(r"-\d+x\d+$", name) is not None
    for (of, key, _), number in published_table("table4").items():
        setting = SETTINGS[key]
        stated = setting.methods is None or method in setting.methods
        if of not in (family, "any") or not stated or (by_name and key == "n"):
            continue
        # a setting that the method does not have cannot differ
        used = setting.read(recipe, row)
        if used is not None and not isclose(used, number.value):
            others.append(f"{setting.title} {used:g} (the paper: {number.value:g})")
    rounds = entry.get("rounds") or 1
    if not by_name and rounds != 1:
        others.append(f"rounds {rounds} (the paper: 1)")
    # the paper trains all weights; adapters are no number that could be compared
    if PaperSetting("adapters", "train", "lora").read(recipe, row):
        others.append("adapters (the paper: all weights)")
    return others
