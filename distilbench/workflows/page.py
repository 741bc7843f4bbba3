"""``page_of_run``: a run's tables, figures, questions and judge comparisons on one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from markupsafe import Markup

from distilbench.plugins import load_registry
from distilbench.workflows.compare_judges import judge_names
from distilbench.workflows.finished_run import JUDGES, FinishedRun
from harness.contracts.benchmark import AnyBenchmark
from harness.contracts.options import options_from
from harness.contracts.registry import Registry
from harness.errors import UserError
from harness.recipe.sections import split_judge, stored_options
from harness.types import Answer, Question, Request
from reports.figures.style import figure_bytes, figure_style
from reports.judge_comparison.figures import FIGURES
from reports.judge_comparison.tables import comparison_tables, read_comparison
from reports.page import page
from reports.page.question_browser import RequestsFunction
from reports.page.widgets import Section, figure, table
from results.run.record import Run, recorded_targets
from results.store.locks import write_atomic


def write_page(finished: FinishedRun, min_coverage: float | None = None, plugins: Sequence[str] = ()) -> Path:
    """``report.html``."""
    content = page_of_run(finished, min_coverage, plugins)
    return write_atomic(finished.report_folder / "report.html", content.encode())


def page_of_run(
    finished: FinishedRun,
    min_coverage: float | None = None,
    plugins: Sequence[str] = (),
    frame: page.Frame = page.EMPTY,
) -> str:
    """One page with the tables of a run, its figures, its run card, and all questions with answers and judgments."""
    registry = load_registry(plugins)
    parts = []
    for name in (name for name in finished.score_tables if name not in finished.problems):
        results = finished.results(name)
        questions, price = questions_of(results.run, registry), partial(price_of, results.run, registry)
        requests = requests_of(results.run, registry, questions)
        parts.append(page.PageTarget(finished.table(name, min_coverage), results, questions, price, requests))
    target_folders = [finished.folder / name for name in recorded_targets(finished.folder)]
    sections = [section for folder in target_folders if (section := judges_of(folder))]
    names = {key: name for folder in target_folders for key, name in judge_names(folder, finished.store).items()}
    return page.page_of(parts, finished.store, sections, names, frame)


def judges_of(folder: Path) -> Section | None:
    title = f"Judges compared, {folder.name}"
    try:
        comparison = read_comparison(folder / JUDGES)
    except UserError as error:  # the page is made all the same, and says it where the comparison would stand
        return Section(title, Markup('<p class="warning">{}</p>').format(str(error)))
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
    return Section(title, Markup("\n").join(parts))


def questions_of(run: Run, registry: Registry) -> dict[str, Sequence[Question] | str]:
    """Benchmark to its questions, or to why they cannot be had here (not pulled, a plug-in that was not named)."""
    result: dict[str, Sequence[Question] | str] = {}
    # A run from another machine, or with a plug-in, can be shown too: its answers then stand without the questions.
    for name in run.recipe.get("benchmarks", {}):
        try:
            benchmark, config = registry.benchmark(name, stored_options(run.recipe, name))
            result[name] = benchmark.questions(config)
        except UserError as error:
            result[name] = str(error)
    return result


def requests_of(
    run: Run, registry: Registry, questions: Mapping[str, Sequence[Question] | str]
) -> dict[str, RequestsFunction]:
    """Benchmark to what its judge is asked about an answer, of those whose questions are there."""
    result: dict[str, RequestsFunction] = {}
    for name in (name for name, texts in questions.items() if not isinstance(texts, str)):
        benchmark, config = registry.benchmark(name, stored_options(run.recipe, name))
        if benchmark.needs_judge:
            result[name] = partial(_requests, benchmark, config)
    return result


def _requests(benchmark: AnyBenchmark, config: object, question: Question, answer: Answer) -> Sequence[Request]:
    return benchmark.requests(question, answer, config)


def price_of(run: Run, registry: Registry, benchmark: str, read: int, written: int) -> float | None:
    """Dollars of so many tokens, by the recipe's judge of a benchmark; ``None`` where the price is not known."""
    judge, _ = split_judge(run.recipe.get("benchmarks", {}).get(benchmark, {}))
    options = dict(run.recipe.get("judges", {}).get(judge, {}))
    kind = registry.judges.get(options.pop("kind", ""))
    return None if kind is None else kind.price(options_from(kind.config, options), read, written)
