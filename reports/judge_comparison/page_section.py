"""A comparison of judges as a section of the HTML page: its figures, and its tables, which sort and filter."""

from __future__ import annotations

from markupsafe import Markup

from reports.judge_comparison.compare import Comparison
from reports.judge_comparison.figures import heat_map, pareto
from reports.judge_comparison.tables import grids
from reports.judge_comparison.write import plain
from reports.page.widgets import Picture, Section, figure, pack, table
from reports.tables.table import text_table


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
    parts += [
        table(text_table(each.name, each.title, each.header, each.rows, each.notes)) for each in grids(comparison)
    ]
    return Section(f"Judges compared, {of}", Markup("\n").join(parts), {"comparison": pack(plain(comparison))})
