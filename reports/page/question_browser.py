"""The question browser's data: an index per benchmark, and blocks of questions with all answers and judgments.

Nothing of it is read until a reader asks: the index is unpacked when its benchmark is chosen, a block when one of its
questions is. Answers of all models to one question lie side by side, where they compress best.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from harness.contracts.benchmark import questions_hash
from harness.contracts.stage import Ref
from harness.errors import UserError
from harness.types import Answer, Judgment, Question
from reports.page.verdict_help import verdict_help
from reports.page.widgets import Section, pack, render
from results.run.judging import JudgedBenchmark, JudgedEntrant
from results.run.record import BY_RULE
from results.run.results import Results

Questions = Mapping[str, Sequence[Question] | str]
"""By benchmark: the questions of the run, or why they are not available (answers are then shown without them)."""
Judgments = Mapping[str, Mapping[str, list[Judgment]]]
"""One entrant's judgments by judge and question."""
_BLOCK: Final = 400_000  # characters; some 20 ms to unpack
_SNIPPET: Final = 300  # characters of a question in the index, for the list and its search
_UNREADABLE: Final = (UserError, OSError, UnicodeDecodeError)


@dataclass(frozen=True)
class RunView:
    """One target's run: what the page has questions, answers and judgments from."""

    label: str
    """``Table 3``; set before a row's title where two targets have different rows of one name."""
    results: Results
    benchmarks: tuple[JudgedBenchmark, ...]
    questions: Questions = field(default_factory=dict)


@dataclass(frozen=True)
class EntrantView:
    """What can be put on either side: one row's answers under one seed."""

    title: str
    entrant: JudgedEntrant


@dataclass(frozen=True)
class BenchmarkView:
    """One benchmark with everything that is known of its questions."""

    title: str
    judged: JudgedBenchmark
    entrants: tuple[EntrantView, ...]
    judges: tuple[str, ...]
    questions: tuple[Question, ...]
    problem: str
    """Why the questions' texts are not available; empty where they are."""
    metrics: tuple[tuple[str, str], ...]
    """Id and title of the metrics with a value per question."""
    unavailable: tuple[tuple[str, str], ...]
    """Rows without a score, and why."""


def questions_section(runs: Sequence[RunView], title: str = "Questions") -> Section:
    """The browser over all runs. What is gone from the store, or damaged there, is stated where it would be shown."""
    views = benchmark_views(runs)
    data: dict[str, str] = {}
    for number, view in enumerate(views):
        index, blocks = contents(view)
        data[f"index-{number}"] = pack(index)
        data |= {f"block-{number}-{place}": block for place, block in enumerate(blocks)}
    return Section(title, render("questions.html.jinja", views=[view.title for view in views]), data)


def benchmark_views(runs: Sequence[RunView]) -> list[BenchmarkView]:
    """Benchmarks in the order of the runs; runs that asked the same questions share one."""
    together: dict[tuple[str, str, Ref | None], list[tuple[RunView, JudgedBenchmark]]] = {}
    for run in runs:
        for judged in run.benchmarks:
            together.setdefault((judged.benchmark, judged.questions, judged.baseline), []).append((run, judged))
    # two runs may have asked different questions of one benchmark: then the hash tells the two apart
    titles = Counter(_title(members[0][0], benchmark) for (benchmark, _, _), members in together.items())
    views = []
    for (benchmark, digest, _), members in together.items():
        title = _title(members[0][0], benchmark)
        sets = [one for _, judged in members for entrant in judged.entrants for one in entrant.judgments]
        metrics = {
            metric.id: metric.title
            for run, _ in members
            for metric in run.results.run.columns
            if metric.id.partition(".")[0] == benchmark
        }
        entrants = tuple(_entrants(members))
        questions, problem = _texts(members)
        views.append(
            BenchmarkView(
                title=f"{title} ({digest[:6]})" if titles[title] > 1 else title,
                judged=members[0][1],
                entrants=entrants,
                judges=tuple(dict.fromkeys(one.judge for one in sorted(sets, key=lambda one: not one.own))),
                questions=questions,
                problem=problem,
                metrics=tuple((i, t) for i, t in metrics.items() if any(_contributions(one, i) for one in entrants)),
                unavailable=tuple(dict.fromkeys(pair for run, _ in members for pair in _unavailable(run, benchmark))),
            )
        )
    return views


def _title(run: RunView, benchmark: str) -> str:
    metrics = run.results.run.columns
    return next((metric.group for metric in metrics if metric.id.partition(".")[0] == benchmark), benchmark)


def _entrants(members: Sequence[tuple[RunView, JudgedBenchmark]]) -> list[EntrantView]:
    """Every row and seed once; a second row of one name and seed with other answers is called after its target."""
    views: dict[tuple[Ref, tuple[Ref, ...]], EntrantView] = {}
    taken: set[tuple[str, int]] = set()
    for run, judged in members:
        for entrant in judged.entrants:
            # the same answers judged by the same judges: a second target adds nothing to look at
            identity = (entrant.answers, tuple(one.ref for one in entrant.judgments))
            if identity in views:
                continue
            again = (entrant.title, entrant.seed) in taken
            views[identity] = EntrantView(f"{run.label}: {entrant.title}" if again else entrant.title, entrant)
            taken.add((entrant.title, entrant.seed))
    return list(views.values())


def _unavailable(run: RunView, benchmark: str) -> list[tuple[str, str]]:
    return [
        (run.results.run.row(row).title, why)
        for (row, metric, _), why in run.results.missing.items()
        if metric.partition(".")[0] == benchmark
    ]


def _texts(members: Sequence[tuple[RunView, JudgedBenchmark]]) -> tuple[tuple[Question, ...], str]:
    """The questions that were asked, or placeholders that have only their ids, and then why."""
    problem = ""
    for run, judged in members:
        available = run.questions.get(judged.benchmark, "they were not given")
        if isinstance(available, str):
            problem = available
        elif questions_hash(available, whole=True) == judged.questions:
            return tuple(available), ""
        else:
            problem = "those at hand are not those that were asked"
    ids = (_answers(judged, entrant.answers)[0] for _, judged in members for entrant in judged.entrants)
    return tuple(Question(name, ()) for name in next((names for names in ids if names), {})), problem


def _answers(judged: JudgedBenchmark, ref: Ref) -> tuple[dict[str, Answer], str]:
    """Answers by question, or none and why: the scores that were made of them are whole all the same."""
    try:
        return judged.lineage.answers(ref), ""
    except _UNREADABLE:
        return {}, _lost(judged, "answers", ref)


def _judgments(judged: JudgedBenchmark, entrant: JudgedEntrant) -> tuple[dict[str, dict[str, list[Judgment]]], str]:
    """One entrant's judgments by judge and question, and whose judgments are lost."""
    by_judge: dict[str, dict[str, list[Judgment]]] = {}
    lost = [] if entrant.judgments else ["judgments no longer in the store"]
    for one in entrant.judgments:
        try:
            by_judge[one.judge] = judged.lineage.judgments(one.ref)
        except _UNREADABLE:
            lost.append(f"{one.judge}: {_lost(judged, 'judgments', one.ref)}")
    return by_judge, "; ".join(lost)


def _lost(judged: JudgedBenchmark, what: str, ref: Ref) -> str:
    try:
        judged.lineage.folder(ref)
    except UserError:
        return f"{what} no longer in the store"
    return f"{what} damaged in the store"


def contents(view: BenchmarkView) -> tuple[dict[str, Any], list[str]]:
    """The index as a JSON value, and the blocks of questions, packed."""
    judged, questions = view.judged, view.questions
    answers_read = [_answers(judged, one.entrant.answers) for one in view.entrants]
    judgments_read = [_judgments(judged, one.entrant) for one in view.entrants]
    answers, judgments = [found for found, _ in answers_read], [found for found, _ in judgments_read]
    baselines = {question.id: question.baseline for question in questions}
    if judged.baseline:  # its answers, or none: never the official ones in their place
        baselines = {name: answer.turns for name, answer in _answers(judged, judged.baseline)[0].items()}
    starts, blocks = _blocks(view.judges, questions, answers, judgments, baselines)
    every = [one for found in judgments for by in found.values() for some in by.values() for one in some]
    index = {
        "title": view.title,
        "problem": view.problem,
        "judges": view.judges,
        "baseline": judged.baseline_row or ("Baseline" if any(question.baseline for question in questions) else ""),
        "sides": [[one.title, one.entrant.seed] for one in view.entrants],
        "lost": [[a, j] for (_, a), (_, j) in zip(answers_read, judgments_read, strict=True)],
        "unavailable": view.unavailable,
        "reading": verdict_help(every, bool(view.metrics)),
        "starts": starts,
        "questions": [[each.id, each.category, " ".join(each.turns)[:_SNIPPET]] for each in questions],
        "measures": _measures(view, judgments),
        "unscored": [
            [sum(j.verdict is None for by in found.values() for j in by.get(q.id, ())) for q in questions]
            for found in judgments
        ],
    }
    return index, blocks


def _blocks(
    judges: Sequence[str],
    questions: Sequence[Question],
    answers: Sequence[Mapping[str, Answer]],
    judgments: Sequence[Judgments],
    baselines: Mapping[str, Sequence[str]],
) -> tuple[list[int], list[str]]:
    """Where each block begins, and the blocks: the questions up to the one that goes over the limit."""
    starts: list[int] = []
    blocks: list[str] = []
    block: list[dict[str, Any]] = []
    length = 0
    for place, question in enumerate(questions):
        if not block:
            starts.append(place)
        answered = [found.get(question.id) for found in answers]
        verdicts = [
            [(judge, found[judge].get(question.id, [])) for judge in judges if judge in found] for found in judgments
        ]
        length += sum(len(turn) for answer in answered if answer for turn in answer.turns)
        length += sum(len(one.reply) for side in verdicts for _, some in side for one in some)
        block.append(
            {
                "turns": question.turns,
                "baseline": baselines.get(question.id, ()),
                "reference": question.reference,
                "answers": [
                    answer and [answer.turns, answer.finished, answer.tokens, answer.meta] for answer in answered
                ],
                "judgments": [
                    [[judges.index(judge), list(map(_judgment, some))] for judge, some in side] for side in verdicts
                ],
            }
        )
        # closed after the question that goes over: a question is never split over two blocks
        if length > _BLOCK or place + 1 == len(questions):
            blocks.append(pack(block))
            block, length = [], 0
    return starts, blocks


def _judgment(judgment: Judgment) -> list[Any]:
    each = judgment
    plain = [each.part, each.repeat, _short(each.verdict), each.reason, each.flags]
    return [*plain, each.reply, each.judge_model, each.meta]


def _measures(view: BenchmarkView, judgments: Sequence[Judgments]) -> list[dict[str, Any]]:
    """What questions can be sorted and filtered by: a value (or null) per side and question."""
    measures: list[dict[str, Any]] = []
    means: list[dict[str, Any]] = []
    for judge in view.judges:
        values = [[_mean(found.get(judge, {}).get(q.id, [])) for q in view.questions] for found in judgments]
        means.append({"title": f"mean verdict, {judge}", "values": values})
    for metric, title in view.metrics:
        values = [[_short(_contributions(one, metric).get(q.id)) for q in view.questions] for one in view.entrants]
        measures.append({"title": f"share in {title}", "values": values})
    by_rule = view.judges == (BY_RULE,)  # a rule's verdicts are several readings of one answer; their mean says little
    return measures + means if by_rule else means + measures


def _contributions(view: EntrantView, metric: str) -> Mapping[str, float]:
    score = view.entrant.scores.get(metric)
    return score.per_question if score else {}


def _mean(judgments: Sequence[Judgment]) -> float | None:
    verdicts = [each.verdict for each in judgments if each.verdict is not None]
    return _short(sum(verdicts) / len(verdicts)) if verdicts else None


def _short(value: float | None) -> float | None:
    """Four significant digits: what is shown, and half the size."""
    return None if value is None else float(f"{value:.4g}")
