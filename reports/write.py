"""From results to a table, and from a table to files: an unchanged run writes the same bytes again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

from harness.contracts.target import Target
from reports.figures.bars import bars, sweeps
from reports.figures.scatter import cost_points, costs, length_columns, lengths
from reports.figures.search import panels
from reports.figures.style import figure_bytes, figure_style
from reports.figures.training_curves import logged_rows, training_curves
from reports.formats.files import table_texts
from reports.tables.published import hyperparameter_table
from reports.tables.score_table import score_table
from reports.tables.search import RowSearch, search_table
from reports.tables.summary import Summary, least_coverage, summarise
from reports.tables.table import Drawing, Table
from reports.targets import find_target
from results.run.results import Results, with_costs
from results.store.locks import write_atomic

FIGURE_FORMATS = ("png", "pdf")


def drawings(summary: Summary, results: Results) -> tuple[Drawing, ...]:
    run = results.run
    all_drawings = [Drawing("", "values with 95% intervals", partial(bars, summary, run))]
    if summary.target.points:
        all_drawings = [Drawing("", f"score over {summary.target.axis}", partial(sweeps, summary, run))]
    if length_columns(summary):
        all_drawings.append(Drawing("-length", "score against mean answer length", partial(lengths, summary, run)))
    if cost_points(summary, results):
        all_drawings.append(Drawing("-cost", "score against training cost", partial(costs, summary, results)))
    if logged_rows(summary, results):
        all_drawings.append(Drawing("-training", "training curves", partial(training_curves, summary, results)))
    return tuple(all_drawings)


def table_with_figures(results: Results, target: Target, min_coverage: float) -> Table:
    summary = summarise(results, target, min_coverage)
    return replace(score_table(summary, results), drawings=drawings(summary, results))


BUILDERS: Mapping[str, Callable[[Results, Target, float], Table]] = {
    "table": table_with_figures,
    "costs": lambda results, target, min_coverage: table_with_figures(with_costs(results), target, min_coverage),
    "curves": table_with_figures,
    # no scores, so no coverage either
    "settings": lambda results, target, _: hyperparameter_table(target, results.run),
}
"""``Target.layout`` to what makes the table from results, target and smallest coverage (0..1) of a cell."""


def make_table(results: Results, target: str = "table1", min_coverage: float | None = None) -> Table:
    """A target's table, to be printed or written in any format. ``min_coverage``: scored share (0..1) below which a
    cell is refused, by default the recipe's; below 98% cells show coverage and bounds. Raises UserError for an unknown
    target and for scores that do not fit together."""
    grid = find_target(target)
    coverage = least_coverage(results.run) if min_coverage is None else min_coverage
    return BUILDERS[grid.layout](results, grid, coverage)


def make_search_table(search: RowSearch) -> Table:
    return replace(search_table(search), drawings=(Drawing("", "value against score", partial(panels, search)),))


def write_table(table: Table, folder: Path, kept: list[Path] | None = None) -> list[Path]:
    """Write a table and its figures (png, pdf), each whole or not at all; the paths. Drawing takes long: only where
    the table's JSON has changed, or a figure is missing or older than the scores. ``kept``: gets the copies of files
    that said something else (``keep_other``)."""
    texts = {folder / f"{table.name}.{kind}": text.encode() for kind, text in table_texts(table).items()}
    if kept is not None:
        kept += [copy for path, content in texts.items() if (copy := keep_other(path, content))]
    place = folder / f"{table.name}.json"
    json = texts.pop(place)
    # the JSON has the keys of all scores and every printed number: equal bytes, equal figures
    unchanged = place.is_file() and place.read_bytes() == json
    paths = [write_atomic(path, content) for path, content in texts.items()]
    figures = [folder / f"{table.name}{drawing.suffix}.{kind}" for drawing in table.drawings for kind in FIGURE_FORMATS]
    # as make does it; newest covers training time, which is measured and not in the JSON
    if figures and not (unchanged and all(path.is_file() and path.stat().st_mtime >= table.newest for path in figures)):
        # drawn and written one after the other: only one figure is in memory
        with figure_style():
            for drawing in table.drawings:
                figure = drawing.draw()
                for kind in FIGURE_FORMATS:
                    write_atomic(folder / f"{table.name}{drawing.suffix}.{kind}", figure_bytes(figure, kind))
    # last: a JSON whose figures were never finished must not pass for an unchanged one
    return [*paths, write_atomic(place, json), *figures]


def keep_other(path: Path, content: bytes) -> Path | None:
    """Where a file says something else: a copy of it, beside it (``table1.csv.before``, ``table1.csv.before-2``)."""
    try:
        old = path.read_bytes()
    except FileNotFoundError:
        return None
    if old == content:
        return None
    for number in count(1):
        copy = path.with_name(f"{path.name}.before" + (f"-{number}" if number > 1 else ""))
        if not copy.exists():
            return write_atomic(copy, old)
        if copy.read_bytes() == old:
            return copy
    raise AssertionError
