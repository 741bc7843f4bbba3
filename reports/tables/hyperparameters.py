"""The hyperparameters that the paper states (its Table 4, section 5.1) beside those that a recipe trains with.

Nothing is measured here. The same comparison tells whether a row of another table was trained as the paper says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isclose
from typing import Final, NamedTuple

from harness.contracts.target import Target
from reports.tables.table import Table, TableCell, TableColumn, TableRow, letter
from reports.text import clean
from results.published import published_table
from results.run.record import Run, section

ROW: Final = "pad-ppd"
"""The row whose settings are shown."""
PAD: Final = frozenset({"pad-vpd", "pad-ppd"})
SAMPLED: Final = PAD | {"dpo", "simpo", "pro"}
"""Methods that the paper trains on the student's responses (section 5.1, appendix B.3)."""


class PaperSetting(NamedTuple):
    """One hyperparameter: how it is called, and where a resolved recipe has it."""

    title: str
    section: str
    """``train`` or ``sampling``; empty: an option of the row's method."""
    name: str
    methods: frozenset[str] | None = None
    """The methods for which the paper states it; ``None``: all."""

    def read(self, recipe: Mapping[str, object], row: str) -> object:
        """What a row is trained with, its own value before the recipe's; ``None`` where it has none."""
        entry = section(recipe, "methods", row)
        if not self.section:
            return entry.get(self.name)
        return {**section(recipe, self.section), **section(entry, self.section)}.get(self.name)


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


def hyperparameter_table(target: Target, run: Run) -> Table:
    """Every hyperparameter that the paper states, in its order, with the run's value."""
    lines = [
        "Values that the run trains with, from its resolved recipe; the paper's from its Table 4, sections 4.1 and 5.1."
    ]
    known = ROW in section(run.recipe, "methods")
    if not known:
        lines.append(f"This recipe has no row {ROW}.")
    paper = published_table("table4")
    place = {"target": target.name, "run": run.name, "family": run.family.name}
    notes: list[tuple[str, str]] = []
    rows, records, data = [], [], []
    for name in dict.fromkeys(row for _, row, _ in paper):
        stated = {family: number for (family, row, _), number in paper.items() if row == name}
        # a family of one's own (pocket) is none of the paper's: then every stated value is shown
        ours = {family: number for family, number in stated.items() if family in (run.family.name, "any")} or stated
        used = SETTINGS[name].read(run.recipe, ROW) if known else None
        same = None if used is None else any(used == number.value for number in ours.values())
        marks = []
        for number in ours.values():
            if number.note:
                marks.append(letter(len(notes)))
                notes.append((marks[-1], f"paper: {clean(number.note)}"))
        values = [f"{one.value:g}" + (f" ({family})" if len(ours) > 1 else "") for family, one in ours.items()]
        searched = next(clean(number.protocol).removeprefix("searched: ") for number in ours.values())
        texts = (SETTINGS[name].title, "n/a" if used is None else f"{used:g}")
        words = ({True: "yes", False: "no", None: "-"}[same], searched)
        cells = [*map(TableCell, texts), TableCell(", ".join(values), marks=tuple(marks)), *map(TableCell, words)]
        rows.append(TableRow(tuple(cells)))
        numbers = [
            {"family": family, "value": number.value, "searched": number.protocol, "note": number.note}
            for family, number in ours.items()
        ]
        data.append({"setting": name, "used": used, "same": same, "published": numbers})
        records += [
            {**place, "setting": name, "used": used, "published_family": one["family"], "published": one["value"],
             "searched": one["searched"], "note": one["note"]}
            for one in numbers
        ]  # fmt: skip
    models = f"{clean(run.family.teacher)} teaches {clean(run.family.student)}"
    caption = f"{target.title}, row {ROW}. Run {clean(run.name)}: {models}."
    titles = (f"Setting ({clean(run.family.name)})", "this run", "paper", "the same", "searched by the paper")
    whole = {"format": 1, "target": target.name, "title": f"{target.label}: {caption}", "run": {"name": run.name}}
    return Table(
        target.name, caption, tuple(TableColumn(title, numeric=False) for title in titles), tuple(rows), tuple(lines),
        tuple(notes), target.label, data={**whole, "rows": data, "lines": lines}, records=records,
    )  # fmt: skip


def other_settings(recipe: Mapping[str, object], row: str, name: str, family: str) -> list[str]:
    """What a row was trained with that the paper states otherwise: ``alpha 0 (the paper: 0.8)``.

    Only what the paper states for a method is looked at: a learning rate, alpha and beta for PAD, how the student's
    responses are sampled for the methods that learn from them; epochs, batch and warm-up for all.

    Args:
        recipe: resolved.
        row: its id in the recipe.
        name: what the published table calls it. ``pad-ppd-2x4`` says how many rounds and responses there are.
        family: whose learning rate the paper states.
    """
    if row not in section(recipe, "methods"):
        return []
    entry, others = section(recipe, "methods", row), []
    by_name = re.search(r"-\d+x\d+$", name) is not None
    for (stated_for, key, _), number in published_table("table4").items():
        setting = SETTINGS[key]
        stated = setting.methods is None or (entry.get("method") or row) in setting.methods
        if stated_for not in (family, "any") or not stated or (by_name and key == "n"):
            continue
        used = setting.read(recipe, row)
        # a setting that the method does not have cannot differ
        if isinstance(used, int | float) and not isclose(used, number.value):
            others.append(f"{setting.title} {used:g} (the paper: {number.value:g})")
    rounds = entry.get("rounds") or 1
    if not by_name and rounds != 1:
        others.append(f"rounds {rounds} (the paper: 1)")
    # the paper trains all weights; adapters are no number that could be compared
    if PaperSetting("adapters", "train", "lora").read(recipe, row):
        others.append("adapters (the paper: all weights)")
    return others
