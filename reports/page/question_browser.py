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
from harness.errors import UserError
from harness.types import Answer, Judgment, Question
from reports.page.verdict_help import reading
from reports.page.widgets import Section, pack, render
from results.run.judging import BY_RULE, Entry, Trail
from results.run.results import Results

Questions = Mapping[str, Sequence[Question] | str]
"""By benchmark: the questions of the run, or why they are not at hand (answers are then shown without them)."""
Said = Mapping[str, Mapping[str, list[Judgment]]]
"""One side's judgments by judge and question."""
_BLOCK: Final = 400_000  # characters; some 20 ms to unpack
_SNIPPET: Final = 300  # characters of a question in the index, for the list and its search


@dataclass(frozen=True)
class Source:
    """One target's run: what the page has questions, answers and judgments from."""

    label: str
    """``Table 3``; set before a row's title where two targets have different rows of one name."""
    results: Results
    trails: tuple[Trail, ...]
    questions: Questions = field(default_factory=dict)


@dataclass(frozen=True)
class Side:
    """What can be put on either side: one row's answers under one seed."""

    title: str
    entry: Entry


@dataclass(frozen=True)
class Shelf:
    """One benchmark with everything that is known of its questions."""

    benchmark: str
    title: str
    trail: Trail
    sides: tuple[Side, ...]
    judges: tuple[str, ...]
    questions: tuple[Question, ...]
    problem: str
    """Why the questions' texts are not at hand; empty where they are."""
    metrics: tuple[tuple[str, str], ...]
    """Id and title of the metrics with a value per question."""
    unavailable: tuple[tuple[str, str], ...]
    """Rows without a score, and why."""


def questions_section(sources: Sequence[Source], title: str = "Questions") -> Section:
    """The browser over all sources. What is gone from the store, or damaged there, is said in its place."""
    found = shelves(sources)
    data: dict[str, str] = {}
    for number, shelf in enumerate(found):
        index, blocks = contents(shelf)
        data[f"index-{number}"] = pack(index)
        data |= {f"block-{number}-{place}": block for place, block in enumerate(blocks)}
    names = [(number, shelf.title) for number, shelf in enumerate(found)]
    return Section(title, render("questions.html.jinja", shelves=names), data)


def shelves(sources: Sequence[Source]) -> list[Shelf]:
    """Benchmarks in the order of the runs; sources that asked the same questions share one."""
    together: dict[tuple[str, str, str | None], list[tuple[Source, Trail]]] = {}
    for source in sources:
        for trail in source.trails:
            together.setdefault((trail.benchmark, trail.questions, trail.baseline), []).append((source, trail))
    titles = Counter(_title(members[0][0], key[0]) for key, members in together.items())
    made = []
    for (benchmark, hashed, _), members in together.items():
        title = _title(members[0][0], benchmark)
        shown = f"{title} ({hashed[:6]})" if titles[title] > 1 else title
        judged = [each for _, trail in members for entry in trail.entries for each in entry.judged]
        judges = dict.fromkeys(each.judge for each in sorted(judged, key=lambda each: not each.own))
        metrics = {
            metric.id: metric.title
            for source, _ in members
            for metric in source.results.run.columns
            if metric.id.partition(".")[0] == benchmark
        }
        sides = tuple(_sides(members))
        able = [(i, t) for i, t in metrics.items() if any(_contributions(side, i) for side in sides)]
        why = tuple(dict.fromkeys(pair for source, _ in members for pair in _unavailable(source, benchmark)))
        texts, problem = _texts(members)
        made.append(Shelf(benchmark, shown, members[0][1], sides, tuple(judges), texts, problem, tuple(able), why))
    return made


def _title(source: Source, benchmark: str) -> str:
    metrics = source.results.run.columns
    return next((metric.group for metric in metrics if metric.id.partition(".")[0] == benchmark), benchmark)


def _sides(members: Sequence[tuple[Source, Trail]]) -> list[Side]:
    """Every row and seed once; a second row of one name and seed with other answers is called after its target."""
    found: dict[tuple[str, tuple[str, ...]], Side] = {}
    taken: set[tuple[str, int]] = set()
    for source, trail in members:
        for entry in trail.entries:
            identity = (entry.answers, tuple(each.key for each in entry.judged))
            if identity in found:
                continue
            again = (entry.title, entry.seed) in taken
            found[identity] = Side(f"{source.label}: {entry.title}" if again else entry.title, entry)
            taken.add((entry.title, entry.seed))
    return list(found.values())


def _unavailable(source: Source, benchmark: str) -> list[tuple[str, str]]:
    run = source.results.run
    return [
        (run.row(row).title, why)
        for (row, metric, _), why in source.results.missing.items()
        if metric.partition(".")[0] == benchmark
    ]


def _texts(members: Sequence[tuple[Source, Trail]]) -> tuple[tuple[Question, ...], str]:
    """The questions that were asked, or stand-ins that have only their ids, and then why."""
    problem = ""
    for source, trail in members:
        at_hand = source.questions.get(trail.benchmark, "they were not given")
        if isinstance(at_hand, str):
            problem = at_hand
        elif questions_hash(at_hand, whole=True) == trail.questions:
            return tuple(at_hand), ""
        else:
            problem = "those at hand are not those that were asked"
    given = (_answers(trail, entry.answers)[0] for _, trail in members for entry in trail.entries)
    return tuple(Question(name, ()) for name in next((ids for ids in given if ids), {})), problem


def _answers(trail: Trail, key: str) -> tuple[dict[str, Answer], str]:
    """Answers by question, or none and why: the scores that were made of them are whole all the same."""
    try:
        return trail.answers(key), ""
    except (UserError, OSError, UnicodeDecodeError):
        return {}, _lost(trail, "answer", key)


def _judgments(trail: Trail, entry: Entry) -> tuple[dict[str, dict[str, list[Judgment]]], str]:
    """By judge and question what was said of one side, and whose judgments are lost."""
    said: dict[str, dict[str, list[Judgment]]] = {}
    lost = [] if entry.judged else ["judgments no longer in the store"]
    for judged in entry.judged:
        try:
            said[judged.judge] = trail.judgments(judged.key)
        except (UserError, OSError, UnicodeDecodeError):
            lost.append(f"{judged.judge}: {_lost(trail, 'judge', judged.key)}")
    return said, "; ".join(lost)


def _lost(trail: Trail, kind: str, key: str) -> str:
    what = {"answer": "answers", "judge": "judgments"}[kind]
    try:
        trail.store.path(kind, key)
    except KeyError:
        return f"{what} no longer in the store"
    return f"{what} damaged in the store"


def contents(shelf: Shelf) -> tuple[dict[str, Any], list[str]]:
    """The index as a JSON value, and the blocks of questions, packed."""
    trail, questions = shelf.trail, shelf.questions
    read = [_answers(trail, side.entry.answers) for side in shelf.sides]
    heard = [_judgments(trail, side.entry) for side in shelf.sides]
    answers, judgments = [found for found, _ in read], [found for found, _ in heard]
    baselines = {question.id: question.baseline for question in questions}
    if trail.baseline:  # its answers, or none: never the official ones in their place
        baselines = {name: answer.turns for name, answer in _answers(trail, trail.baseline)[0].items()}
    starts, blocks = _blocks(shelf.judges, questions, answers, judgments, baselines)
    index = {
        "title": shelf.title,
        "problem": shelf.problem,
        "judges": shelf.judges,
        "baseline": trail.baseline_row or ("Baseline" if any(each.baseline for each in questions) else ""),
        "sides": [[side.title, side.entry.seed] for side in shelf.sides],
        "lost": [[answers, judgments] for (_, answers), (_, judgments) in zip(read, heard, strict=True)],
        "unavailable": shelf.unavailable,
        "reading": reading(
            [each for found in judgments for by in found.values() for some in by.values() for each in some],
            bool(shelf.metrics),
        ),
        "starts": starts,
        "questions": [[each.id, each.category, " ".join(each.turns)[:_SNIPPET]] for each in questions],
        "measures": _measures(shelf, judgments),
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
    judgments: Sequence[Said],
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
        given = [found.get(question.id) for found in answers]
        said = [
            [(judge, found[judge].get(question.id, [])) for judge in judges if judge in found] for found in judgments
        ]
        length += sum(len(turn) for answer in given if answer for turn in answer.turns)
        length += sum(len(each.reply) for side in said for _, some in side for each in some)
        block.append(
            {
                "turns": question.turns,
                "baseline": baselines.get(question.id, ()),
                "reference": question.reference,
                "answers": [answer and [answer.turns, answer.finished, answer.tokens, answer.meta] for answer in given],
                "judgments": [
                    [[judges.index(judge), list(map(_judgment, some))] for judge, some in side] for side in said
                ],
            }
        )
        if length > _BLOCK or place + 1 == len(questions):
            blocks.append(pack(block))
            block, length = [], 0
    return starts, blocks


def _judgment(judgment: Judgment) -> list[Any]:
    each = judgment
    plain = [each.part, each.repeat, _short(each.verdict), each.reason, each.flags]
    return [*plain, each.reply, each.judge_model, each.meta]


def _measures(shelf: Shelf, judgments: Sequence[Said]) -> list[dict[str, Any]]:
    """What questions can be sorted and filtered by: a value (or null) per side and question."""
    measures: list[dict[str, Any]] = []
    said: list[dict[str, Any]] = []
    for judge in shelf.judges:
        values = [[_mean(found.get(judge, {}).get(q.id, [])) for q in shelf.questions] for found in judgments]
        said.append({"title": f"mean verdict, {judge}", "values": values})
    for metric, title in shelf.metrics:
        values = [[_short(_contributions(side, metric).get(q.id)) for q in shelf.questions] for side in shelf.sides]
        measures.append({"title": f"share in {title}", "values": values})
    by_rule = shelf.judges == (BY_RULE,)  # a rule's verdicts are several readings of one answer; their mean says little
    return measures + said if by_rule else said + measures


def _contributions(side: Side, metric: str) -> Mapping[str, float]:
    score = side.entry.scores.get(metric)
    return score.per_question if score else {}


def _mean(judgments: Sequence[Judgment]) -> float | None:
    verdicts = [each.verdict for each in judgments if each.verdict is not None]
    return _short(sum(verdicts) / len(verdicts)) if verdicts else None


def _short(value: float | None) -> float | None:
    """Four significant digits: what is shown, and half the size."""
    return None if value is None else float(f"{value:.4g}")
