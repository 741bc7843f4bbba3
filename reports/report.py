"""One call from results to files: ``write_report(results, "table1", Path("runs/pocket/report"))``.

The files depend on the scores and the run's description only, not on when or how fast they were made: an unchanged
run writes the same bytes again.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from reports.layout import build
from reports.summary import MIN_COVERAGE, summarise
from reports.targets import find_target
from results.frames import Results
from results.locks import write_atomic

if TYPE_CHECKING:
    from rich.console import RenderableType


def write_report(
    results: Results, target: str = "table1", out_dir: Path = Path(), min_coverage: float = MIN_COVERAGE
) -> list[Path]:
    """Write ``<target>.md .tex .csv .png .svg`` under ``out_dir``, each whole or not at all, and return their paths.

    ``min_coverage`` (0..1) is the share of scored questions below which a cell is refused; below the default the
    coverage is printed in every cell. Raises UserError for an unknown target and for scores that do not fit together.
    """
    from reports.figures import bar_chart
    from reports.latex import latex
    from reports.tables import markdown, tidy_csv

    summary = summarise(results, find_target(target), min_coverage)
    view = build(summary, results.run)
    contents = {
        "md": markdown(view).encode(),
        "tex": latex(view).encode(),
        "csv": tidy_csv(summary, results.run).encode(),
        **bar_chart(summary, results.run),
    }
    return [write_atomic(out_dir / f"{target}.{kind}", content) for kind, content in contents.items()]


def terminal(results: Results, target: str = "table1", min_coverage: float = MIN_COVERAGE) -> RenderableType:
    """The same table for ``rich.console.Console.print``. Raises as ``write_report`` does."""
    from reports.screen import TerminalTable

    return TerminalTable(build(summarise(results, find_target(target), min_coverage), results.run))
