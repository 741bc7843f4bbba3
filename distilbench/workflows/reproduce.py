"""``reproduce``: run what is missing of a recipe, and write its tables; ``run`` only runs, ``report`` only writes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from markupsafe import Markup

from distilbench.plugins import load_registry
from distilbench.workflows.compare_judges import ComparisonOptions, compare_judges, judge_names
from distilbench.workflows.execute import execute
from distilbench.workflows.finished_run import JUDGES, FinishedRun, load
from distilbench.workflows.plan import RunOptions, plan
from harness.contracts.executor import RunListener
from harness.contracts.options import options_from
from harness.contracts.registry import Registry
from harness.errors import UserError
from harness.recipe.sections import split_judge
from harness.recipe.yaml_source import read_source
from harness.types import Question
from reports.targets import ALL, find_targets
from results.run.record import Run, check_runs, recorded_targets

if TYPE_CHECKING:
    from reports.page.widgets import Section


def reproduce(
    targets: str = "table1",
    recipe: str = "pocket",
    *,
    min_coverage: float | None = None,
    notes: bool = False,
    force: bool = False,
    listener: RunListener | None = None,
    **options: Unpack[RunOptions],
) -> FinishedRun:
    """Run what is missing of ``targets`` (``table1``, several with commas, or ``all``), and write their tables and
    figures under ``runs/NAME/report``; with ``notes`` also other tests, power, variance and protocols.

    ``recipe``: a shipped name or a YAML file; ``min_coverage``: cells with a smaller share of scored questions are
    refused; ``force``: run in spite of problems. Raises UserError, before anything runs, with everything that is wrong;
    or as ``FinishedRun.write`` does.
    """
    finished = execute(plan(targets, recipe, **options), force=force, listener=listener)
    compare = partial(run_judge_comparison, finished, options.get("plugins", ()), force=force, listener=listener)
    finished.write(min_coverage, notes, compare)
    return finished


def run(
    recipe: str = "pocket", *, force: bool = False, listener: RunListener | None = None, **options: Unpack[RunOptions]
) -> FinishedRun:
    """Run a recipe without writing its tables: sample, reward, train, answer, judge, score."""
    return execute(plan("table1", recipe, **options), force=force, listener=listener)


def report(
    targets: str = "table1",
    recipe: str = "pocket",
    *,
    runs: str | Path = "runs",
    min_coverage: float | None = None,
    html: bool = False,
    notes: bool = False,
    plugins: Sequence[str] = (),
) -> FinishedRun:
    """Make tables (with ``html`` the page too) again from the store. ``recipe`` may be a folder's name under ``runs``.

    Nothing is run. Raises UserError for a target that was not run, and as ``FinishedRun.write`` does.
    """
    check_runs(Path(runs))
    names = [target.name for target in find_targets(targets)]
    # A run can be reported when its recipe is gone: the name of a folder comes first.
    folder = Path(runs) / recipe
    if not recorded_targets(folder):
        folder = Path(runs) / str(read_source(recipe).tree["name"])
    if targets == ALL:  # where there is none, the first one's error says what to run
        names = [name for name in names if name in recorded_targets(folder)] or names[:1]
    finished = load(folder, names)
    finished.write(min_coverage, notes)
    if html:
        write_page(finished, min_coverage, plugins)
    return finished


def run_judge_comparison(
    finished: FinishedRun, plugins: Sequence[str], target: str, *, force: bool, listener: RunListener | None
) -> None:
    """Have the judges asked that a target's table compares. Nothing is asked twice."""
    options: ComparisonOptions = {"repeats": 1, "runs": finished.folder.parent, "plugins": plugins}
    options["max_cost"] = finished.records[target].recipe.get("ask", {}).get("max_cost")
    compare_judges(f"{finished.folder.name}/{target}", force=force, listener=listener, **options)


def write_page(finished: FinishedRun, min_coverage: float | None = None, plugins: Sequence[str] = ()) -> Path:
    """One page with the tables of a run, its figures, its run card, and all questions with answers and judgments."""
    from reports.page import page

    registry = load_registry(plugins)
    parts = []
    for name in (name for name in finished.score_tables if name not in finished.problems):
        results = finished.results(name)
        questions, price = questions_of(results.run, registry), partial(price_of, results.run, registry)
        parts.append(page.PagePart(finished.table(name, min_coverage), results, questions, price))
    compared = [finished.folder / name for name in recorded_targets(finished.folder)]
    sections = [section for folder in compared if (section := judges_of(folder))]
    names = {key: name for folder in compared for key, name in judge_names(folder, finished.store).items()}
    return page.write_page(finished.folder / "report" / "report.html", parts, finished.store, sections, names)


def judges_of(folder: Path) -> Section | None:
    from reports.figures.style import figure_bytes, figure_style
    from reports.judge_comparison.figures import FIGURES
    from reports.judge_comparison.tables import comparison_tables, read_comparison
    from reports.page.widgets import Section, figure, table

    comparison = read_comparison(folder / JUDGES)
    if comparison is None:
        return None
    with figure_style():
        drawings = {title: draw(comparison) for title, draw in FIGURES.values()}
        figures = [
            figure(title, figure_bytes(drawing, "svg"), f"{title}; the tables below have the numbers.")
            for title, drawing in drawings.items()
            if drawing is not None
        ]
    parts = [*figures, *map(table, comparison_tables(comparison))]
    return Section(f"Judges compared, {folder.name}", Markup("\n").join(parts))


def questions_of(run: Run, registry: Registry) -> dict[str, Sequence[Question] | str]:
    """Benchmark to its questions, or to why they cannot be had here (not pulled, a plug-in that was not named)."""
    result: dict[str, Sequence[Question] | str] = {}
    # A run from another machine, or with a plug-in, can be shown too: its answers then stand without the questions.
    for name, spec in run.recipe.get("benchmarks", {}).items():
        adapter = registry.benchmarks.get(name)
        if adapter is None:
            result[name] = f"no benchmark {name!r} is known here; name its file with --plugin"
            continue
        try:
            result[name] = adapter.questions(options_from(adapter.config, split_judge(spec)[1]))
        except UserError as error:
            result[name] = str(error)
    return result


def price_of(run: Run, registry: Registry, benchmark: str, read: int, written: int) -> float | None:
    """Dollars of so many tokens, by the recipe's judge of a benchmark; ``None`` where the price is not known."""
    judge, _ = split_judge(run.recipe.get("benchmarks", {}).get(benchmark, {}))
    options = dict(run.recipe.get("judges", {}).get(judge, {}))
    kind = registry.judges.get(options.pop("kind", ""))
    return None if kind is None else kind.price(options_from(kind.config, options), read, written)
