"""``page_of_run``: a run's tables, figures, questions and judge comparisons on one page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from markupsafe import Markup

from distilbench.plugins import load_registry
from distilbench.workflows.compare_judges import judge_names
from distilbench.workflows.finished_run import FinishedRun
from harness.contracts.benchmark import AnyBenchmark
from harness.contracts.options import options_from
from harness.contracts.registry import Registry
from harness.errors import UserError
from harness.recipe.sections import split_judge, stored_options
from harness.text import format_count, parse_json
from harness.types import Answer, Question, Request
from reports.figures.style import figure_style, following_svg
from reports.judge_comparison.figures import FIGURES
from reports.judge_comparison.tables import comparison_tables, read_comparison
from reports.page import page
from reports.page.question_browser import RequestsFunction
from reports.page.run_card import JudgePrompt
from reports.page.widgets import Section, figure, visible, warning
from reports.page.widgets import table as table_html
from reports.tables.search import trials_table
from reports.targets import SEARCH
from reports.write import keep_other
from results.run.record import JUDGES, Run, recorded_targets
from results.store.locks import write_atomic

NOUNS = {"turns": "question", "baseline": "answer of the baseline", "reference": "reference"}


def write_page(
    finished: FinishedRun, min_coverage: float | None = None, plugins: Sequence[str] = (), *, keep: bool = False
) -> Path:
    """Write ``report.html`` into ``report_folder``: tables, figures, run card, and every question with its answers and
    verdicts. ``plugins``: as the run had them; ``keep``: as of ``FinishedRun.write``. Raises UserError where no table
    can be made."""
    place, content = finished.report_folder / "report.html", page_of_run(finished, min_coverage, plugins).encode()
    if keep and (copy := keep_other(place, content)):
        finished.kept.append(copy)
    return write_atomic(place, content)


def page_of_run(
    finished: FinishedRun,
    min_coverage: float | None = None,
    plugins: Sequence[str] = (),
    frame: page.Frame = page.EMPTY,
    runs: str = "",
) -> str:
    """One page with the tables of a run, its figures, its run card, and all questions with answers and judgments.
    ``runs``: --runs of the commands on it, where that is not the usual folder."""
    registry = load_registry(plugins)
    parts = []
    for name in (name for name in finished.score_tables if name not in finished.problems):
        try:
            results, table = finished.results(name), finished.table(name, min_coverage)
        except UserError as error:
            finished.problems[name] = str(error)
            continue
        questions, price = questions_of(results.run, registry), partial(price_of, results.run, registry)
        requests = requests_of(results.run, registry, questions)
        prompts = {benchmark: prompts_of(requests[benchmark], questions[benchmark]) for benchmark in requests}
        parts.append(page.PageTarget(table, results, questions, price, requests, prompts, runs))
    if not parts and finished.problems:
        raise UserError("\n".join(finished.problems.values()))
    sections = [Section(f"{name}: not shown", warning(text)) for name, text in finished.problems.items()]
    damage = dict.fromkeys(text for part in parts for text in finished.damage(part.table.name))
    sections += [Section("Damaged", Markup("").join(map(warning, damage)))] if damage else []
    target_folders = [finished.folder / name for name in recorded_targets(finished.folder)]
    sections += searches_of(finished.folder)
    sections += [section for folder in target_folders if (section := judges_of(folder))]
    names = {key: name for folder in target_folders for key, name in judge_names(folder, finished.store).items()}
    return page.page_of(parts, finished.store, sections, names, frame)


def searches_of(folder: Path) -> list[Section]:
    """The trials of each row that was searched, as ``distilbench search`` prints them."""
    sections = []
    for file in search_files(folder):
        title = f"Search, {file.stem.removeprefix('search-')}"
        try:
            content = trials_table(parse_json(file.read_bytes()))
            sections.append(page.table_section(replace(content, label=title)))
        except (OSError, ValueError, LookupError, TypeError) as error:
            sections.append(Section(title, warning(f"{file} cannot be read: {error}")))
    return sections


def search_files(folder: Path) -> list[Path]:
    return sorted((folder / SEARCH.name).glob("search-*.json"))


def judges_of(folder: Path) -> Section | None:
    title = f"Judges compared, {folder.name}"
    try:
        comparison = read_comparison(folder / JUDGES)
    except UserError as error:  # the page is made all the same, and says it where the comparison would stand
        return Section(title, warning(str(error)))
    if comparison is None:
        return None
    with figure_style():
        drawings = {title: draw(comparison) for title, draw in FIGURES.values()}
        figures = [
            figure(title, following_svg(drawing), f"{title}; the tables below have the numbers.")
            for title, drawing in drawings.items()
            if drawing is not None
        ]
    tables = comparison_tables(comparison)
    sentences = [Markup("<p>{}</p>").format(visible(sentence)) for sentence in tables[0].summary]
    parts = [*sentences, *figures, *map(table_html, tables)]
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


def prompts_of(requests: RequestsFunction, questions: Sequence[Question] | str) -> list[JudgePrompt]:
    """What a judge is asked, with names in place of the texts, once for all questions that are asked about alike."""
    found: dict[str, Counter[str]] = {}
    for question in questions if not isinstance(questions, str) else ():
        named = {field: _names(noun, len(getattr(question, field))) for field, noun in NOUNS.items()}
        # without one of its own a question is compared with a row's answers, one for each turn
        named["baseline"] = named["baseline"] or _names(NOUNS["baseline"], len(question.turns))
        answers = tuple(text.replace(NOUNS["turns"], "answer of the row") for text in named["turns"])
        answer = Answer(question.id, answers, (True,) * len(answers), (1,) * len(answers))
        for request in requests(Question(question.id, category=question.category, meta=question.meta, **named), answer):
            text = "\n\n".join(f"{message['role']}: {message['content']}" for message in request.messages)
            found.setdefault(text, Counter())[request.part] += request.repeat == 0
    return [
        JudgePrompt(", ".join(f"{part}: {format_count(count, 'question')}" for part, count in parts.items()), text)
        for text, parts in found.items()
    ]


def _names(noun: str, count: int) -> tuple[str, ...]:
    return tuple(f"[{noun}, turn {turn}]" if count > 1 else f"[{noun}]" for turn in range(1, count + 1))


def price_of(run: Run, registry: Registry, benchmark: str, read: int, written: int) -> float | None:
    """Dollars of so many tokens, by the recipe's judge of a benchmark; ``None`` where the price is not known."""
    judge, _ = split_judge(run.recipe.get("benchmarks", {}).get(benchmark, {}))
    options = dict(run.recipe.get("judges", {}).get(judge, {}))
    kind = registry.judges.get(options.pop("kind", ""))
    return None if kind is None else kind.price(options_from(kind.config, options), read, written)
