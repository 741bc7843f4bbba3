"""From results to a table, and from a table to files.

    table = make_table(results, "table1")
    write_table(table, Path("runs/pocket/report"))      # table1.md .tex .csv .json, and the figures

The files depend on what is in the store only: an unchanged run writes the same bytes again. The tables do not depend
on when or how fast it was made; the figure of training costs is about that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from harness.contracts.target import Target
from reports.figures import bar_drawings, sweep_drawings
from reports.formats.data import to_csv, to_json
from reports.formats.latex import latex
from reports.formats.markdown import markdown
from reports.tables.hyperparameters import hyperparameter_table
from reports.tables.score_table import score_table
from reports.tables.summary import MIN_COVERAGE, summarise
from reports.tables.table import Table
from reports.targets import find_target
from results.run.costs import with_costs
from results.run.results import Results
from results.store.locks import write_atomic

FIGURE_FORMATS = ("png", "pdf")

Builder = Callable[[Results, Target, float], Table]
"""Results, target and the smallest coverage (0..1) of a cell to the table."""


def bars_table(results: Results, target: Target, min_coverage: float) -> Table:
    summary = summarise(results, target, min_coverage)
    return replace(score_table(summary, results), drawings=bar_drawings(summary, results))


def cost_table(results: Results, target: Target, min_coverage: float) -> Table:
    """The same with measured training time and memory beside the scores."""
    return bars_table(with_costs(results), target, min_coverage)


def sweep_table(results: Results, target: Target, min_coverage: float) -> Table:
    summary = summarise(results, target, min_coverage)
    return replace(score_table(summary, results), drawings=sweep_drawings(summary, results))


def settings_table(results: Results, target: Target, min_coverage: float) -> Table:
    """Hyperparameters: no scores, so no coverage either."""
    return hyperparameter_table(target, results.run)


BUILDERS: Mapping[str, Builder] = {
    "table": bars_table,
    "costs": cost_table,
    "curves": sweep_table,
    "settings": settings_table,
}
"""By ``Target.layout``. A new kind of table is a function and a line here."""


def make_table(results: Results, target: str = "table1", min_coverage: float | None = None) -> Table:
    """A target's table, to be printed or written in any format.

    Args:
        min_coverage: share of scored questions (0..1) below which a cell is refused; by default the recipe's. Below
            98% the coverage of incomplete cells is printed, with the worst and the best that their value could be.

    Raises UserError for an unknown target and for scores that do not fit together.
    """
    wanted = find_target(target)
    if min_coverage is None:
        min_coverage = results.run.recipe.get("statistics", {}).get("min_coverage", MIN_COVERAGE)
    return BUILDERS[wanted.layout](results, wanted, min_coverage)


def write_table(table: Table, folder: Path, notes: bool = False) -> list[Path]:
    """Write a table and its figures, each file whole or not at all, and return their paths.

    Figures are ``.png`` and ``.pdf``. They are drawn only where the table's JSON has changed, or a figure is missing or
    older than the scores: drawing takes longer than all the rest of a report.
    """
    json = to_json(table).encode()
    place = folder / f"{table.name}.json"
    # the JSON has the keys of all scores and every printed number: equal bytes, equal figures
    unchanged = place.is_file() and place.read_bytes() == json
    contents = {
        "md": markdown(table, notes=notes).encode(),
        "tex": latex(table, notes=notes).encode(),
        "csv": to_csv(table).encode(),
    }
    paths = [write_atomic(folder / f"{table.name}.{kind}", content) for kind, content in contents.items()]
    figures = [folder / f"{table.name}{one.suffix}.{kind}" for one in table.drawings for kind in FIGURE_FORMATS]
    # as make does it; newest covers training time, which is measured and not in the JSON
    if not unchanged or not all(path.is_file() and path.stat().st_mtime >= table.newest for path in figures):
        _draw(table, folder)
    # last: a JSON whose figures were never finished must not pass for an unchanged one
    return [*paths, write_atomic(place, json), *figures]


def _draw(table: Table, folder: Path) -> None:
    from reports.figures.style import drawn, styled

    # drawn and written one after the other: only one figure is in memory
    with styled():
        for drawing in table.drawings:
            figure = drawing.draw()
            for kind in FIGURE_FORMATS:
                write_atomic(folder / f"{table.name}{drawing.suffix}.{kind}", drawn(figure, kind))
