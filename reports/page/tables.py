"""A table on the page: sortable, with its notes, and its figures."""

from __future__ import annotations

from markupsafe import Markup

from reports.figures.style import drawn, styled
from reports.page.widgets import Picture, Section, figure, table
from reports.tables.table import Table


def table_section(made: Table) -> Section:
    """The table and its figures."""
    return Section(made.label, Markup("").join([table(made), *map(figure, pictures(made))]))


def pictures(made: Table) -> list[Picture]:
    """The table's figures as SVG, drawn in memory: the page shows them sharp at any size."""
    with styled():
        return [
            Picture(f"{made.label}: {one.title}", drawn(one.draw(), "svg"), f"{made.title} Figure: {one.title}.")
            for one in made.drawings
        ]
