"""A finished run judged by several judges as a panel: verdicts and answers read back as tables and the page read them.

panel = run_panel({"main": results, "gpt-4.1": other_results}, profiles, questions, store, target)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from harness.contracts.target import Target
from harness.pocket.scorer import score
from harness.pocket.tasks import UnknownInstruction
from harness.stats import Draws
from harness.types import Answer, Judgment, Message, Question, Score
from reports.judge_comparison.panel import FEATURES, ITEM, JudgeProfile, Panel, RowScore, calls_frame
from results.run.lineage import Lineage
from results.run.results import Results
from results.store.store import ArtifactStore


@dataclass(frozen=True)
class JudgedQuestions:
    """The questions of a benchmark, and what its verdicts mean."""

    questions: Sequence[Question]
    """With the baseline's answers, where answers are compared with one."""
    paired: bool
    verdicts: tuple[float, float]
    """Worst and best verdict."""


def run_panel(
    passes: Mapping[str, Results],
    profiles: Mapping[str, JudgeProfile],
    questions: Mapping[str, JudgedQuestions],
    store: ArtifactStore,
    target: Target,
) -> Panel:
    """The panel of these judges, each with the rows and seeds of the run scored from its verdicts.

    Raises UserError where answers or judgments are gone from the store.
    """
    calls: list[dict[str, object]] = []
    items: dict[tuple[object, ...], dict[str, object]] = {}
    scores: dict[str, dict[str, dict[str, RowScore]]] = {}
    for judge, results in passes.items():
        for metric, rows in row_scores(results).items():
            scores.setdefault(metric, {})[judge] = rows
        for item, judgments, measured in judged_items(results, Lineage(store), questions):
            items.setdefault(tuple(item.values()), {**item, **measured})
            calls += [{"judge": judge, **item, **_call(each, questions[item["benchmark"]])} for each in judgments]
    run = next(iter(passes.values())).run
    baselines = tuple(row.id for row in run.rows if row.baseline)
    names = {metric.id.partition(".")[0]: metric.group for metric in run.columns}
    names |= {metric.id: f"{metric.group} {metric.title}" for metric in run.columns}
    return Panel(
        calls_frame(calls),
        pd.DataFrame(list(items.values()), columns=["benchmark", *ITEM, *FEATURES]),
        {name: each.paired for name, each in questions.items()},
        profiles,
        scores,
        titles={row.id: row.title for row in run.rows},
        names=names,
        reference=target.reference if target.reference in baselines else "",
        baselines=baselines,
        focus=target.focus or "",
        teacher=run.family.teacher,
        source=f"run {run.name}",
    )


def judged_items(
    results: Results, lineage: Lineage, questions: Mapping[str, JudgedQuestions]
) -> Iterator[tuple[dict[str, Any], list[Judgment], dict[str, float]]]:
    """Every judged answer (or turn, where turns are judged apart): its key, its judgments, its features."""
    sources = {(row, source.benchmark, seed): source for (row, _, seed), source in results.sources.items()}
    for (row, name, seed), source in sources.items():
        if name not in questions:  # graded by rule
            continue
        answers, judgments = lineage.answers(source.answers), lineage.judgments(source.judgments)
        paired = questions[name].paired
        for question in questions[name].questions:
            answer = answers[question.id]
            by_turn: dict[str, list[Judgment]] = {}
            for each in judgments.get(question.id, ()):
                # A comparison's part is "turn:order", a grade's is the turn itself.
                turn = each.part.rpartition(":")[0] if paired else each.part
                by_turn.setdefault(turn, []).append(each)
            apart = len(by_turn) == len(answer.turns) and list(by_turn) != [""]
            for number, (turn, asked) in enumerate(by_turn.items()):
                item = {"benchmark": name, "row": row, "seed": seed, "question": question.id, "turn": turn}
                yield item, asked, features(question, answer, number if apart else None, paired)


def _call(judgment: Judgment, benchmark: JudgedQuestions) -> dict[str, object]:
    """A judgment as a line of ``Panel.calls``, comparisons rescaled to 0..1."""
    low, high = benchmark.verdicts
    verdict = float("nan") if judgment.verdict is None else judgment.verdict
    order = judgment.meta.get("model_first")
    return {
        "part": judgment.part,
        "repeat": judgment.repeat,
        "model_first": float("nan") if order is None else float(order),
        "verdict": (verdict - low) / (high - low) if benchmark.paired else verdict,
    }


def row_scores(results: Results) -> dict[str, dict[str, RowScore]]:
    """Metric to row to its score over the training seeds; rows without replicates are left out."""
    by_row: dict[tuple[str, str], list[Score]] = {}
    for (row, metric, _), each in results.scores.items():
        by_row.setdefault((metric, row), []).append(each)
    untrained = {row.id for row in results.run.rows if row.baseline}
    found: dict[str, dict[str, RowScore]] = {}
    for (metric, row), scores in by_row.items():
        scored = [each for each in scores if each.value is not None and each.replicates]
        if scored:
            values = np.array([each.value for each in scored], dtype=float)
            draws = Draws(values, np.array([each.replicates for each in scored]), trained=row not in untrained)
            asked = sum(each.n + each.unscored for each in scores)
            coverage = sum(each.covered for each in scores) / asked if asked else 0.0
            found.setdefault(metric, {})[row] = RowScore(draws, min(each.n for each in scored), coverage)
    return found


def features(question: Question, answer: Answer, turn: int | None, paired: bool) -> dict[str, float]:
    """``FEATURES`` of one item: the answer's, minus the baseline's where it is compared with one.

    ``turn``: which turn is judged, from 0; ``None``: all turns together.
    """
    own = _measured(question.turns, answer.turns, turn)
    if not paired:
        return {**own, "same": 0.0}
    other = _measured(question.turns, question.baseline, turn)
    chosen = slice(None) if turn is None else slice(turn, turn + 1)
    same = answer.turns[chosen] == question.baseline[chosen]
    return {**{name: own[name] - other[name] for name in own}, "same": float(same)}


def _measured(instructions: tuple[str, ...], turns: tuple[str, ...], turn: int | None) -> dict[str, float]:
    texts = turns if turn is None else turns[turn : turn + 1]
    length, words = (float(sum(map(size, texts))) for size in (len, lambda text: len(text.split())))
    return {"length": length, "words": words, "quality": true_score(instructions, turns, turn)}


@lru_cache(maxsize=4096)
def true_score(instructions: tuple[str, ...], answers: tuple[str, ...], turn: int | None) -> float:
    """The pocket world's own score of the answers, 0..1 (mean over turns); NaN where the questions are not its own."""
    talk: list[Message] = []
    scores: list[float] = []
    for number, (instruction, answer) in enumerate(zip(instructions, answers, strict=False)):
        talk = [*talk, {"role": "user", "content": instruction}]
        if turn is None or number == turn:
            try:
                scores.append(score(talk, answer))
            except UnknownInstruction:
                return float("nan")
        talk = [*talk, {"role": "assistant", "content": answer}]
    return sum(scores) / len(scores) if scores else float("nan")
