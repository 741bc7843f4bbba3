"""A comparison of judges as a section of the HTML page: its figures, and its tables, which sort and filter."""

from __future__ import annotations

import re

from markupsafe import Markup

from reports.judge_comparison import render
from reports.judge_comparison.compare import Comparison
from reports.judge_comparison.figures import heat_map, pareto
from reports.judge_comparison.tables import grids
from reports.judge_comparison.write import plain
from reports.page.widgets import Grid, GridCell, GridColumn, Picture, Section, figure, pack, table

_NUMBER = re.compile(r"\s*([-+]?\d[\d,]*\.?\d*)")


def judges_section(comparison: Comparison, of: str) -> Section:
    """``of``: whose answers were judged (``table1``), for the title."""
    figures = (
        ("Agreement of every two judges", heat_map(comparison, ("svg",))),
        ("Agreement against cost", pareto(comparison, ("svg",))),
    )
    parts = [
        figure(Picture(name, made["svg"], f"{name}; the tables below have it in numbers."))
        for name, made in figures
        if made
    ]
    parts += [table(_grid(each)) for each in grids(comparison)]
    return Section(f"Judges compared, {of}", Markup("\n").join(parts), {"comparison": pack(plain(comparison))})


def _grid(made: render.Grid) -> Grid:
    first, *others = made.header
    columns = (GridColumn(first, numeric=False), *(GridColumn(name) for name in others))
    rows = tuple((GridCell(row[0]), *(GridCell(text, sort=_value(text)) for text in row[1:])) for row in made.rows)
    return Grid(made.title, columns, rows, notes=tuple(("", note) for note in made.notes))


def _value(text: str) -> float | str | None:
    """What a cell is sorted by: the number that it begins with, else its text; a dash is nothing."""
    if text.strip() in ("", "-"):
        return None
    found = _NUMBER.match(text)
    return float(found[1].replace(",", "")) if found else text
