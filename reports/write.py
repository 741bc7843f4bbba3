"""One call from results to files: ``write_report(results, "table1", Path("runs/pocket/report"))``.

The files depend on what is in the store only: an unchanged run writes the same bytes again. The tables do not depend
on when or how fast it was made; the figure of training costs is about that.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from reports.tables.summary import MIN_COVERAGE, summarise
from reports.tables.view import TableView, build
from reports.targets import find_target
from results.run.results import Results
from results.store.locks import write_atomic

if TYPE_CHECKING:
    from rich.console import RenderableType


def write_report(
    results: Results, target: str = "table1", out_dir: Path = Path(), min_coverage: float = MIN_COVERAGE
) -> list[Path]:
    """Write a target's table and figures under ``out_dir``, each file whole or not at all, and return their paths.

    The table: ``<target>.md .tex .csv .json``. Figures as ``.png .svg .pdf``: ``<target>`` (bars or curves), and where
    the data are there ``-length``, ``-cost``, ``-categories-<benchmark>``, ``-training``; not drawn again where nothing
    changed.
    ``min_coverage`` (0..1) is the share of scored questions below which a cell is refused; below the default the
    coverage of incomplete cells is printed, with the worst and the best that their value could be. Raises UserError
    for an unknown target and for scores that do not fit together.
    """
    from reports.figures.cache import drawn_from, keep, kept
    from reports.formats.data import to_json
    from reports.formats.latex import latex
    from reports.formats.markdown_csv import markdown, tidy_csv

    wanted = find_target(target)
    view = view_of(results, target, min_coverage)
    if wanted.layout == "settings":
        from reports.tables.hyperparameters import settings_csv, settings_json

        made = {"md": markdown(view), "tex": latex(view), "csv": settings_csv(wanted, results.run)}
        made["json"] = settings_json(wanted, view, results.run)
        return [write_atomic(out_dir / f"{target}.{kind}", content.encode()) for kind, content in made.items()]
    summary = summarise(results, wanted, min_coverage)
    data = to_json(summary, view, results.run)
    contents = {"md": markdown(view), "tex": latex(view), "csv": tidy_csv(summary, results.run), "json": data}
    paths = [write_atomic(out_dir / f"{target}.{kind}", content.encode()) for kind, content in contents.items()]
    source = drawn_from(data, results)
    figures = kept(out_dir, target, source)
    if figures is None:
        from reports.figures import all_figures

        drawn = all_figures(summary, results)
        figures = keep(out_dir, target, source, {f"{target}{name}": content for name, content in drawn.items()})
    return [*paths, *figures]


def view_of(results: Results, target: str, min_coverage: float = MIN_COVERAGE) -> TableView:
    """The laid-out table of a target, whatever its layout."""
    wanted = find_target(target)
    if wanted.layout == "settings":
        from reports.tables.hyperparameters import settings_view

        return settings_view(wanted, results.run)
    return build(summarise(results, wanted, min_coverage), results.run)


def terminal(results: Results, target: str = "table1", min_coverage: float = MIN_COVERAGE) -> RenderableType:
    """The same table for ``rich.console.Console.print``. Raises as ``write_report`` does."""
    from reports.formats.terminal import TerminalTable

    return TerminalTable(view_of(results, target, min_coverage))
