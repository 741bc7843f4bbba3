"""``report``: the tables of a run from its store alone. Where no page is asked for, no plug-in is imported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from distilbench.workflows.finished_run import FinishedRun, load
from harness.errors import UserError
from reports.targets import ALL, find_targets
from results.run.record import check_runs, recorded_targets


def report(
    targets: str = "table1",
    recipe: str = "pocket",
    *,
    runs: str | Path = "runs",
    min_coverage: float | None = None,
    html: bool = False,
    notes: bool = False,
    plugins: Sequence[str] = (),
    out: str | Path | None = None,
) -> FinishedRun:
    """Make tables (with ``html`` the page too) again from the store. ``recipe`` may be a folder's name under ``runs``.

    Nothing is run. ``out``: folder of the files, in place of ``runs/NAME/report``. Raises UserError for a target that
    was not run, and as ``FinishedRun.write`` does.
    """
    check_runs(Path(runs))
    names = [target.name for target in find_targets(targets)]
    folder = run_folder(Path(runs), recipe)
    if targets == ALL:  # where there is none, the first one's error says what to run
        names = [name for name in names if name in recorded_targets(folder)] or names[:1]
    finished = load(folder, names, None if out is None else Path(out))
    finished.write(min_coverage, notes)
    if html and not finished.unwritten:
        from distilbench.workflows.page import write_page

        write_page(finished, min_coverage, plugins)
    return finished


def run_folder(runs: Path, recipe: str) -> Path:
    """Of a recipe's run. A run can be read when its recipe is gone: the name of a folder comes first."""
    folder = runs / recipe
    if recorded_targets(folder):
        return folder
    from harness.recipe.yaml_source import read_source

    try:
        return runs / str(read_source(recipe).tree["name"])
    except UserError as error:
        folders = sorted({file.parent.parent.name for file in runs.glob("*/*/run.json")})
        raise UserError(f"{error}\nRuns under {runs}: {', '.join(folders) or 'none'}.") from error
