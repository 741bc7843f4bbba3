"""A recipe's hyperparameters beside the paper's (its Table 4): used here, published, and searched.

Nothing is measured here; the values are those of the run's resolved recipe.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass

from harness.contracts.target import Target
from reports.formats.markdown_csv import inert
from reports.tables.legend import clean
from reports.tables.view import CellView, ColumnView, RowView, TableView
from reports.targets.table4 import ROW, SETTINGS
from results.published import Published, published_table
from results.run.record import Run


@dataclass(frozen=True)
class Setting:
    """One line: a hyperparameter here and in the paper."""

    name: str
    title: str
    used: float | None
    """``None``: the recipe has no such row, so nothing is trained with it."""
    published: tuple[tuple[str, Published], ...]
    """Family (``any``: every one) and what the paper states for it; several where this run's family is none of them."""

    @property
    def same(self) -> bool | None:
        """Whether the run uses a published value; ``None`` where it has none."""
        return None if self.used is None else any(self.used == each.value for _, each in self.published)


def settings(run: Run) -> list[Setting]:
    """Every hyperparameter that the paper states, in its order."""
    paper = published_table("table4")
    names = list(dict.fromkeys(row for _, row, _ in paper))
    found = []
    for name in names:
        stated = {family: number for (family, row, _), number in paper.items() if row == name}
        ours = {family: number for family, number in stated.items() if family in (run.family.name, "any")} or stated
        title, value = SETTINGS[name]
        used = value(run.recipe, ROW) if ROW in run.recipe["methods"] else None
        found.append(Setting(name, title, used, tuple(ours.items())))
    return found


def settings_view(target: Target, run: Run) -> TableView:
    """The table, for every format."""
    notes: list[tuple[str, str]] = []
    rows = []
    for each in settings(run):
        marks = []
        for _, number in each.published:
            if number.note:
                notes.append((chr(ord("a") + len(notes)), f"paper: {clean(number.note)}"))
                marks.append(notes[-1][0])
        paper = ", ".join(
            f"{number.value:g}" + (f" ({family})" if len(each.published) > 1 else "")
            for family, number in each.published
        )
        searched = [clean(number.protocol).removeprefix("searched: ") for _, number in each.published[:1]]
        cells = (
            CellView("n/a" if each.used is None else f"{each.used:g}"),
            CellView(paper, marks=tuple(marks)),
            CellView({True: "yes", False: "no", None: "-"}[each.same]),
            CellView(searched[0]),
        )
        rows.append(RowView(each.title, False, cells))
    caption = f"{target.title}, row {ROW}. Run {clean(run.name)}: {clean(run.family.teacher)} teaches "
    titles = ("this run", "paper", "the same", "searched by the paper")
    return TableView(
        target.name, target.label, f"{caption}{clean(run.family.student)}.", clean(run.family.name),
        tuple(ColumnView("", title, "") for title in titles), tuple(rows), legend(run), tuple(notes), head="Setting",
    )  # fmt: skip


def legend(run: Run) -> tuple[str, ...]:
    """How to read it."""
    lines = [
        "Values that the run trains with, from its resolved recipe; the paper's from its Table 4, sections 4.1 and 5.1."
    ]
    if ROW not in run.recipe["methods"]:
        lines.append(f"This recipe has no row {ROW}.")
    return tuple(lines)


def settings_csv(target: Target, run: Run) -> str:
    """One line per hyperparameter and published value."""
    out = io.StringIO()
    names = ("target", "run", "family", "setting", "used", "published_family", "published", "searched", "note")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    for each in settings(run):
        lines: Sequence[tuple[str, Published]] = each.published
        for family, number in lines:
            used = "" if each.used is None else repr(each.used)
            texts = (run.name, run.family.name, number.protocol, number.note)
            name, ours, searched, note = (inert(clean(text)) for text in texts)
            writer.writerow((target.name, name, ours, each.name, used, family, repr(number.value), searched, note))
    return out.getvalue()


def settings_json(target: Target, view: TableView, run: Run) -> str:
    """One object: the run, and every hyperparameter with what was used and what the paper states."""
    rows = [
        {
            "setting": each.name,
            "used": each.used,
            "same": each.same,
            "published": [
                {"family": family, "value": number.value, "searched": number.protocol, "note": number.note}
                for family, number in each.published
            ],
        }
        for each in settings(run)
    ]
    whole = {"format": 1, "target": target.name, "title": view.title, "run": {"name": clean(run.name)}, "rows": rows}
    return json.dumps({**whole, "legend": list(view.legend)}, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
