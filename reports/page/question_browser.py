"""The question browser's data: an index per benchmark, and blocks of questions with all answers and judgments. A
reader's choice unpacks the one or the other. Answers to one question lie side by side, where they compress best."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

from harness.contracts.benchmark import questions_hash
from harness.contracts.stage import Ref
from harness.errors import UserError
from harness.types import Answer, Judgment, Question, Request
from reports.page.widgets import Section, pack, render
from results.run.record import BY_RULE
from results.run.results import JudgedBenchmark, JudgedEntrant, Results

Questions = Mapping[str, Sequence[Question] | str]
"""By benchmark: the run's questions, or why they are not available (answers are then shown without them)."""
RequestsFunction = Callable[[Question, Answer], Sequence[Request]]  # what a judge is asked about an answer
Judgments = Mapping[str, Mapping[str, list[Judgment]]]  # one entrant's judgments by judge and question
_BLOCK: Final = 400_000  # characters; some 20 ms to unpack
_KEY: Final = 16  # hex digits of a ledger's key: enough to find it, and whole keys would be a tenth of the page
_LEAST_NAMED: Final = 30  # characters; shorter texts are written again
_SNIPPET: Final = 300  # characters of a question in the index, for the list and its search
_UNREADABLE: Final = (UserError, OSError, UnicodeDecodeError)

# Verdicts are explained by the parts of judgments, not by the benchmark's name: a plug-in's benchmark that names its
# parts alike is explained alike.
PART_HELP: Final = {
    r"(^preference|\border\d)$": "Verdicts lie between 0 (the baseline's answer is better) and 1 (this row's is "
    "better); 0.5 is a tie.",
    r"\bgame\d": "Verdicts: above 0 this row's answer is better, below 0 the baseline's; 0 is a tie.",
    r"^turn\d+$": "Verdicts are grades of the answer to that turn; higher is better.",
    r"^answer$": "Verdicts lie between 0 (wrong) and 1 (right).",
    r"^(strict-match|flexible-extract)$": "Verdicts: 1 is right, 0 is wrong. The answer is read in two ways: "
    "strict-match wants the prescribed form, flexible-extract takes the last number.",
}
ORDERS: Final = ((r"\border\d$", "order1 and order2"), (r"\bgame\d", "game1 and game2"))
MODEL_FIRST: Final = "model_first"
SHARE: Final = (
    "Share in a metric: what this question contributes to it. The mean over the questions is the row's value, with "
    "length control nearly so; there a share may lie outside of the metric's range."
)


@dataclass(frozen=True)
class RunView:
    label: str  # before a row's title where two targets have different rows of one name
    results: Results
    benchmarks: tuple[JudgedBenchmark, ...]
    questions: Questions = field(default_factory=dict)
    target: str = ""  # as ``distilbench explain`` takes it
    requests: Mapping[str, RequestsFunction] = field(default_factory=dict)  # by benchmark
    runs: str = ""  # as --runs takes it; empty: the usual folder

    def title(self, benchmark: str) -> str:
        metrics = self.results.run.columns
        return next((metric.group for metric in metrics if metric.id.partition(".")[0] == benchmark), benchmark)


@dataclass(frozen=True)
class BenchmarkView:
    title: str
    benchmark: JudgedBenchmark
    entrants: tuple[JudgedEntrant, ...]  # each row under each seed, with a title of its own
    commands: tuple[str, ...]  # of each entrant: what says where its score comes from, to the exact requests
    judges: tuple[str, ...]
    questions: tuple[Question, ...]
    problem: str  # why the questions have no texts; empty: they have
    metrics: Mapping[str, str]  # id to title of the metrics with a value per question
    unavailable: tuple[tuple[str, str], ...]  # rows without a score, and why
    requests: RequestsFunction = lambda question, answer: ()


def questions_section(runs: Sequence[RunView]) -> Section:
    views = benchmark_views(runs)
    packed_data: dict[str, str] = {}
    for number, view in enumerate(views):
        index, blocks = contents(view)
        packed_data[f"index-{number}"] = pack(index)
        packed_data |= {f"block-{number}-{place}": block for place, block in enumerate(blocks)}
    return Section("Questions", render("questions.html.jinja", views=[view.title for view in views]), packed_data)


def benchmark_views(runs: Sequence[RunView]) -> list[BenchmarkView]:
    """Benchmarks in the order of the runs; runs that asked the same questions share one."""
    groups: dict[tuple[str, str, Ref | None], list[tuple[RunView, JudgedBenchmark]]] = {}
    for run in runs:
        for judged_benchmark in run.benchmarks:
            groups.setdefault(
                (judged_benchmark.benchmark, judged_benchmark.questions, judged_benchmark.baseline), []
            ).append((run, judged_benchmark))
    # two runs may have asked different questions of one benchmark: then the hash tells the two apart
    titles = Counter(members[0][0].title(benchmark) for (benchmark, _, _), members in groups.items())
    views = []
    for (benchmark, digest, _), members in groups.items():
        title = members[0][0].title(benchmark)
        metrics: dict[str, str] = {}
        unavailable: dict[tuple[str, str], None] = {}
        for results in (run.results for run, _ in members):
            metrics |= {metric.id: metric.title for metric in results.run.columns}
            unavailable |= {
                (results.run.row_by_id[row].title, reason): None
                for (row, metric, _), reason in results.missing_scores.items()
                if metric.partition(".")[0] == benchmark
            }
        commands, entrants = zip(*_entrants(members), strict=True)
        sets = [judgments for entrant in entrants for judgments in entrant.judgments]
        judges = dict.fromkeys(item.judge for item in sorted(sets, key=lambda item: not item.used_in_scores))
        question_metrics = {
            name: metric_title for name, metric_title in metrics.items() if any(_shares(e, name) for e in entrants)
        }
        title = f"{title} ({digest[:6]})" if titles[title] > 1 else title
        questions, problem = _texts(members)
        fields = (entrants, commands, tuple(judges), questions, problem, question_metrics, tuple(unavailable))
        view = BenchmarkView(title, members[0][1], *fields)
        run_requests = members[0][0].requests.get(benchmark)
        views.append(view if problem or run_requests is None else replace(view, requests=run_requests))
    return views


def _entrants(members: Sequence[tuple[RunView, JudgedBenchmark]]) -> Iterable[tuple[str, JudgedEntrant]]:
    """Every row and seed once, with the command that explains its score; a second row of one name and seed with other
    answers is called after its target."""
    views: dict[tuple[Ref, tuple[Ref, ...]], tuple[str, JudgedEntrant]] = {}
    titles: set[tuple[str, int]] = set()
    for run, judged_benchmark in members:
        for entrant in judged_benchmark.entrants:
            # the same answers judged by the same judges: a second target adds nothing to look at
            identity = (entrant.answers, tuple(judgments.ref for judgments in entrant.judgments))
            if identity not in views:
                is_repeated = (entrant.title, entrant.seed) in titles
                view = replace(entrant, title=f"{run.label}: {entrant.title}") if is_repeated else entrant
                views[identity] = (explain_command(run, entrant), view)
                titles.add((entrant.title, entrant.seed))
    return views.values()


def explain_command(run: RunView, entrant: JudgedEntrant) -> str:
    """Without the question, which the page's script adds."""
    metric = next(iter(entrant.scores), "")
    place = ["--recipe", run.results.run.name, *(["--runs", run.runs] if run.runs else [])]
    return shlex.join(["distilbench", "explain", run.target, entrant.row, metric, *place, "--question"])


def _texts(members: Sequence[tuple[RunView, JudgedBenchmark]]) -> tuple[tuple[Question, ...], str]:
    """The questions that were asked, or placeholders that have only their ids, and then why."""
    problem = ""
    for run, judged_benchmark in members:
        available = run.questions.get(judged_benchmark.benchmark, "they were not given")
        if isinstance(available, str):
            problem = available
        elif questions_hash(available, all_fields=True) == judged_benchmark.questions:
            return tuple(available), ""
        else:
            problem = "those at hand are not those that were asked"
    # Any entrant's answers name all questions, but its file may be gone: the first that can be read.
    ids = (
        _answers(judged_benchmark, entrant.answers)[0]
        for _, judged_benchmark in members
        for entrant in judged_benchmark.entrants
    )
    return tuple(Question(name, ()) for name in next((names for names in ids if names), {})), problem


def _answers(judged_benchmark: JudgedBenchmark, ref: Ref) -> tuple[dict[str, Answer], str]:
    """Answers by question, or none and why: the scores that were made of them are whole all the same."""
    try:
        return judged_benchmark.lineage.answers(ref), ""
    except _UNREADABLE:
        return {}, _loss(judged_benchmark, "answers", ref)


def _judgments(
    judged_benchmark: JudgedBenchmark, entrant: JudgedEntrant
) -> tuple[dict[str, dict[str, list[Judgment]]], str]:
    by_judge: dict[str, dict[str, list[Judgment]]] = {}
    problems = [] if entrant.judgments else ["judgments no longer in the store"]
    for judge, ref in ((judgments.judge, judgments.ref) for judgments in entrant.judgments):
        try:
            by_judge[judge] = judged_benchmark.lineage.judgments(ref)
        except _UNREADABLE:
            problems.append(f"{judge}: {_loss(judged_benchmark, 'judgments', ref)}")
    return by_judge, "; ".join(problems)


def _loss(judged_benchmark: JudgedBenchmark, records: str, ref: Ref) -> str:
    try:
        judged_benchmark.lineage.file(ref)
    except UserError:
        return f"{records} no longer in the store"
    return f"{records} damaged in the store"


def contents(view: BenchmarkView) -> tuple[dict[str, object], list[str]]:
    judged_benchmark, questions = view.benchmark, view.questions
    answers, lost_answers = zip(
        *(_answers(judged_benchmark, entrant.answers) for entrant in view.entrants), strict=True
    )
    judgments, lost_judgments = zip(*(_judgments(judged_benchmark, entrant) for entrant in view.entrants), strict=True)
    baselines = {question.id: question.baseline for question in questions}
    if judged_benchmark.baseline:  # its answers, or none: never the official ones in their place
        baselines = {
            name: answer.turns for name, answer in _answers(judged_benchmark, judged_benchmark.baseline)[0].items()
        }
    starts, blocks = _blocks(view, answers, judgments, baselines)
    tables = [table for by_judge in judgments for table in by_judge.values()]
    all_judgments = [judgment for table in tables for calls in table.values() for judgment in calls]
    index: dict[str, object] = {
        "problem": view.problem,
        "judges": view.judges,
        "baseline": judged_benchmark.baseline_row
        or ("Baseline" if any(question.baseline for question in questions) else ""),
        "sides": [[entrant.title, entrant.seed] for entrant in view.entrants],
        "commands": view.commands,
        "lost": list(zip(lost_answers, lost_judgments, strict=True)),
        "unavailable": view.unavailable,
        "reading": verdict_help(all_judgments, bool(view.metrics)),
        "starts": starts,
        "questions": [[q.id, q.category, " ".join(q.turns)[:_SNIPPET]] for q in questions],
        "measures": _measures(view, judgments),
        "unscored": [
            [sum(j.verdict is None for table in by_judge.values() for j in table.get(q.id, ())) for q in questions]
            for by_judge in judgments
        ],
    }
    return index, blocks


def verdict_help(judgments: Sequence[Judgment], shares: bool) -> list[str]:
    parts = {judgment.part for judgment in judgments}
    help_lines = [text for pattern, text in PART_HELP.items() if any(re.search(pattern, part) for part in parts)]
    help_lines += [
        f"{names}: the same two answers, shown to the judge in either order."
        for pattern, names in ORDERS
        if any(re.search(pattern, part) for part in parts)
    ]
    if any(MODEL_FIRST in judgment.meta for judgment in judgments):
        letters = any(judgment.reply.strip() in ("m", "M") for judgment in judgments)
        meaning = " A reply of m picks the answer shown first, M the second." if letters else ""
        help_lines.append(f"{MODEL_FIRST}: whether this row's answer was shown before the baseline's.{meaning}")
    return [*help_lines, *([SHARE] if shares else [])]


def _blocks(
    view: BenchmarkView,
    answers: Sequence[Mapping[str, Answer]],
    judgments: Sequence[Judgments],
    baselines: Mapping[str, Sequence[str]],
) -> tuple[list[int], list[str]]:
    """Where each block begins, and the blocks: the questions up to the one that goes over the limit."""
    starts, blocks, length = [], [], 0
    block: list[dict[str, object]] = []
    for place, question in enumerate(view.questions):
        if not block:
            starts.append(place)
        replies = [by_question.get(question.id) for by_question in answers]
        verdicts = [
            [(number, table[judge].get(question.id, [])) for number, judge in enumerate(view.judges) if judge in table]
            for table in judgments
        ]
        asked = replace(question, baseline=tuple(baselines.get(question.id, ())))
        requests = [_requests(view, asked, answer, calls) for answer, calls in zip(replies, verdicts, strict=True)]
        pieces = [piece for by_part in requests for request in by_part.values() for piece in request]
        length += sum(len(piece) for piece in pieces if isinstance(piece, str))
        length += sum(len(text) for answer in replies if answer for text in (*answer.turns, *answer.thinking))
        all_calls = [judgment for by_judge in verdicts for _, calls in by_judge for judgment in calls]
        length += sum(len(judgment.reply) + len(judgment.thinking) for judgment in all_calls)
        block.append({
            "turns": question.turns,
            "baseline": baselines.get(question.id, ()),
            "reference": question.reference,
            "answers": [a and [a.turns, a.finished, a.tokens, a.meta, a.thinking] for a in replies],
            "judgments": [[[judge, list(map(_judgment, calls))] for judge, calls in by_judge] for by_judge in verdicts],
            "requests": requests,
        })  # fmt: skip
        # closed after the question that goes over: a question is never split over two blocks
        if length > _BLOCK or place + 1 == len(view.questions):
            blocks.append(pack(block))
            block, length = [], 0
    return starts, blocks


def _name(piece: object, text: str, name: list[object]) -> Iterator[object]:
    """``piece`` with ``name`` wherever ``text`` stands in it."""
    parts = piece.split(text) if isinstance(piece, str) else [piece]
    for place, part in enumerate(parts):
        if place:
            yield name
        if part:
            yield part


def _requests(
    view: BenchmarkView, question: Question, answer: Answer | None, by_judge: Sequence[tuple[int, Sequence[Judgment]]]
) -> dict[str, list[object]]:
    """What a judge was asked about one answer, by part and repeat; texts that stand beside it are named, not written
    again: ``["answers", 0]``."""
    if answer is None or not any(judgment.request for _, calls in by_judge for judgment in calls):
        return {}
    fields = {"turns": question.turns, "answers": answer.turns, "baseline": question.baseline}
    texts = [(text, [name, place]) for name, turns in fields.items() for place, text in enumerate(turns)]
    names = {text: name for text, name in texts if len(text) > _LEAST_NAMED}
    requests: dict[str, list[object]] = {}
    asked: Sequence[Request] = ()
    with suppress(UserError):  # the baseline's answers are gone from the store
        asked = view.requests(question, answer)
    for request in asked:
        pieces: list[object] = ["\n\n".join(f"{message['role']}: {message['content']}" for message in request.messages)]
        for text in sorted(names, key=len, reverse=True):  # a longer text may hold a shorter one
            pieces = [part for piece in pieces for part in _name(piece, text, names[text])]
        requests[f"{request.part} {request.repeat}"] = pieces
    return requests


def _judgment(judgment: Judgment) -> list[object]:
    j, verdict = judgment, _round_value(judgment.verdict)
    return [j.part, j.repeat, verdict, j.reason, j.flags, j.reply, j.judge_model, j.meta, j.thinking, j.request[:_KEY]]


def _measures(view: BenchmarkView, judgments: Sequence[Judgments]) -> list[dict[str, object]]:
    """What questions can be sorted and filtered by: a value (or null) per side and question."""
    means: list[dict[str, object]] = []
    shares: list[dict[str, object]] = []
    for judge in view.judges:
        values = [[_mean(by_judge.get(judge, {}).get(q.id, [])) for q in view.questions] for by_judge in judgments]
        means.append({"title": f"mean verdict, {judge}", "values": values})
    for metric, title in view.metrics.items():
        values = [
            [_round_value(_shares(entrant, metric).get(q.id)) for q in view.questions] for entrant in view.entrants
        ]
        shares.append({"title": f"share in {title}", "values": values})
    by_rule = view.judges == (BY_RULE,)  # a rule's verdicts are several readings of one answer; their mean says little
    return shares + means if by_rule else means + shares


def _shares(entrant: JudgedEntrant, metric: str) -> Mapping[str, float]:
    score = entrant.scores.get(metric)
    return score.per_question if score else {}


def _mean(judgments: Sequence[Judgment]) -> float | None:
    verdicts = [judgment.verdict for judgment in judgments if judgment.verdict is not None]
    return _round_value(sum(verdicts) / len(verdicts)) if verdicts else None


def _round_value(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
