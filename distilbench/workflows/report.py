"""``report``: the tables of a run from its store alone. Where no page is asked for, no plug-in is imported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from distilbench.workflows.finished_run import FinishedRun, load
from reports.targets import ALL, find_targets
from results.run.find import find_run
from results.run.record import recorded_targets


def report(
    targets: str = "table1",
    run: str = "pocket",
    *,
    runs: str | Path = "runs",
    min_coverage: float | None = None,
    html: bool = False,
    plugins: Sequence[str] = (),
    out: str | Path | None = None,
) -> FinishedRun:
    """Make tables (with ``html`` the page too) of a run again from the store.

    Nothing is run. ``run``: its name under ``runs``, its folder, or its recipe; ``out``: folder of the files, in place
    of ``runs/NAME/report``. A file that said something else is kept beside the new one (``kept``). Raises UserError for
    a target that was not run, and as ``FinishedRun.write`` does.
    """
    names = [target.name for target in find_targets(targets)]
    folder = find_run(run, Path(runs)).folder
    if targets == ALL:  # where there is none, the first one's error says what to run
        names = [name for name in names if name in recorded_targets(folder)] or names[:1]
    finished = load(folder, names, out)
    finished.write(min_coverage, keep=True)
    if html and not finished.unwritten:
        from distilbench.workflows.page import write_page

        write_page(finished, min_coverage, plugins, keep=True)
    return finished
