"""One call from results to files: ``write_report(results, "table1", Path("runs/pocket/report"))``.

The files depend on the scores and the run's description only, not on when or how fast they were made: an unchanged
run writes the same bytes again.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from reports.layout import TableView, build
from reports.summary import MIN_COVERAGE, Summary, summarise
from reports.targets import find_target
from results.frames import Results
from results.locks import write_atomic
from results.run import Run

if TYPE_CHECKING:
    from rich.console import RenderableType


def write_report(
    results: Results, target: str = "table1", out_dir: Path = Path(), min_coverage: float = MIN_COVERAGE
) -> list[Path]:
    """Write ``<target>.md .tex .csv`` and its figure (``.png .svg``, curves ``.pdf`` too) under ``out_dir``.

    Each is written whole or not at all. Returns their paths.

    ``min_coverage`` (0..1) is the share of scored questions below which a cell is refused; below the default the
    coverage is printed in every cell. Raises UserError for an unknown target and for scores that do not fit together.
    """
    from reports.latex import latex
    from reports.tables import markdown, tidy_csv

    wanted = find_target(target)
    view = view_of(results, target, min_coverage)
    contents = {"md": markdown(view).encode(), "tex": latex(view).encode()}
    if wanted.layout == "settings":
        from reports.settings import settings_csv

        contents |= {"csv": settings_csv(wanted, results.run).encode()}
    else:
        summary = summarise(results, wanted, min_coverage)
        contents |= {"csv": tidy_csv(summary, results.run).encode(), **figure(summary, results.run)}
    return [write_atomic(out_dir / f"{target}.{kind}", content) for kind, content in contents.items()]


def view_of(results: Results, target: str, min_coverage: float = MIN_COVERAGE) -> TableView:
    """The laid-out table of a target, whatever its layout."""
    wanted = find_target(target)
    if wanted.layout == "settings":
        from reports.settings import settings_view

        return settings_view(wanted, results.run)
    return build(summarise(results, wanted, min_coverage), results.run)


def figure(summary: Summary, run: Run) -> dict[str, bytes]:
    """The picture that goes with a target: format to file content."""
    if summary.target.layout == "curves":
        from reports.curves import curve_chart

        return curve_chart(summary, run)
    from reports.figures import bar_chart

    return bar_chart(summary, run)


def terminal(results: Results, target: str = "table1", min_coverage: float = MIN_COVERAGE) -> RenderableType:
    """The same table for ``rich.console.Console.print``. Raises as ``write_report`` does."""
    from reports.screen import TerminalTable

    return TerminalTable(view_of(results, target, min_coverage))
