"""A finished run judged by several judges as a panel: judgments and answers read back as the page reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

import numpy as np
import pandas as pd

from harness.contracts.benchmark import ConfiguredBenchmark, against
from harness.contracts.target import Target
from harness.pocket.scorer import score
from harness.pocket.tasks import UnknownInstruction
from harness.stats import Draws
from harness.types import Answer, Judgment, Message, Question, Score
from reports.judge_comparison.panel import JudgeProfile, Pair, Panel, RowScore, judgment_frame
from reports.judge_comparison.ranking import planned_comparisons
from reports.tables.summary import Comparison, least_coverage, summarise
from results.run.lineage import Lineage
from results.run.results import Results
from results.store.store import ArtifactStore


def run_panel(
    own: Results,
    passes: Mapping[str, Results],
    profiles: Mapping[str, JudgeProfile],
    benchmarks: Mapping[str, ConfiguredBenchmark],
    store: ArtifactStore,
    target: Target,
    notes: tuple[str, ...] = (),
) -> Panel:
    """Each judge with the run's rows and seeds scored from its verdicts. ``own``: the results that its tables show.
    Raises UserError: gone from the store."""
    scores: dict[str, dict[str, dict[str, RowScore]]] = {}
    for judge, results in passes.items():
        for metric, rows in row_scores(results).items():
            scores.setdefault(metric, {})[judge] = rows
    run = next(iter(passes.values())).run
    baselines = [row.id for row in run.rows if row.baseline]
    titles = {row.id: row.title for row in run.rows}
    titles |= {metric.id.partition(".")[0]: metric.group for metric in run.columns}
    titles |= {metric.id: f"{metric.group} {metric.title}" for metric in run.columns}
    return Panel(
        pd.concat([run_judgments(results, store, benchmarks, judge) for judge, results in passes.items()]),
        {name: benchmark.benchmark.pairwise for name, benchmark in benchmarks.items()},
        profiles,
        scores,
        planned_comparisons([row.id for row in run.rows], target.reference, baselines, target.focus or ""),
        own_tests(own, target),
        titles=titles,
        one_order=frozenset(name for name, configured in benchmarks.items() if "order" in configured.options),
        teacher=run.family.teacher,
        source=f"run {run.name}",
        notes=notes,
    )


def own_tests(results: Results, target: Target) -> dict[str, dict[Pair, Comparison]]:
    """Metric to the tests of a run's own table: rows against the reference, the focus row against others."""
    summary = summarise(results, target, least_coverage(results.run))
    tests: dict[str, dict[Pair, Comparison]] = {}
    for (row, metric), cell in summary.cells.items():
        families = {(row, target.reference): cell.change, (target.focus or "", row): cell.focus}
        tests.setdefault(metric, {}).update({pair: test for pair, test in families.items() if test.p_holm is not None})
    return tests


def run_judgments(
    results: Results, store: ArtifactStore, benchmarks: Mapping[str, ConfiguredBenchmark], judge: str = ""
) -> pd.DataFrame:
    """One line per judgment of a run on these benchmarks, columns ``JUDGMENT``, comparisons rescaled to 0..1."""
    lineage, lines = Lineage(store), []
    sources = {(row, source.benchmark, seed): source for (row, _, seed), source in results.sources.items()}
    for (row, name, seed), source in sources.items():
        if name not in benchmarks:  # graded by rule, say
            continue
        benchmark, questions = benchmarks[name].benchmark, benchmarks[name].questions
        if source.baseline is not None:
            questions = against(questions, list(lineage.answers(source.baseline).values()), source.baseline_row)
        answers, judgments = lineage.answers(source.answers), lineage.judgments(source.judgments)
        paired, (low, high) = benchmark.pairwise, benchmark.verdicts
        for question in questions:
            columns = {"judge": judge, "benchmark": name, "row": row, "seed": seed, "question": question.id}
            for turn, judgment, answer_features in _by_turn(
                question, answers[question.id], judgments.get(question.id, ()), paired
            ):
                verdict = float("nan") if judgment.verdict is None else judgment.verdict
                order = judgment.meta.get("model_first")
                lines.append({
                    **columns, **answer_features, "turn": turn, "part": judgment.part, "repeat": judgment.repeat,
                    "model_first": float("nan") if order is None else float(order),
                    "verdict": (verdict - low) / (high - low) if paired else verdict,
                })  # fmt: skip
    return judgment_frame(lines)


def _by_turn(
    question: Question, answer: Answer, judgments: Sequence[Judgment], paired: bool
) -> Iterator[tuple[str, Judgment, Mapping[str, float]]]:
    """Each judgment with its turn (empty: all together) and the features of that turn's answer."""
    # A comparison's part is "turn:order", a grade's is the turn itself.
    turns = [judgment.part.rpartition(":")[0] if paired else judgment.part for judgment in judgments]
    names = list(dict.fromkeys(turns))
    by_turn = len(names) == len(answer.turns) and names != [""]
    values = {turn: features(question, answer, place if by_turn else None, paired) for place, turn in enumerate(names)}
    return ((turn, judgment, values[turn]) for turn, judgment in zip(turns, judgments, strict=True))


def row_scores(results: Results) -> dict[str, dict[str, RowScore]]:
    """Metric to row to its score over the training seeds; rows without replicates are left out."""
    by_row: dict[tuple[str, str], list[Score]] = {}
    for (row, metric, _), score_of_seed in results.scores.items():
        by_row.setdefault((metric, row), []).append(score_of_seed)
    untrained_rows = {row.id for row in results.run.rows if row.baseline}
    by_metric: dict[str, dict[str, RowScore]] = {}
    for (metric, row), scores in by_row.items():
        valued_scores = [s for s in scores if s.value is not None and s.replicates]
        if valued_scores:
            values = np.array([s.value for s in valued_scores], dtype=float)
            draws = Draws(values, np.array([s.replicates for s in valued_scores]), trained=row not in untrained_rows)
            total = sum(s.n + s.unscored for s in scores)
            coverage = sum(s.covered_questions for s in scores) / total if total else 0.0
            by_metric.setdefault(metric, {})[row] = RowScore(draws, min(s.n for s in valued_scores), coverage)
    return by_metric


def features(question: Question, answer: Answer, turn: int | None, paired: bool) -> dict[str, float]:
    """``FEATURES`` of one item, minus the baseline's if ``paired``. ``turn``: from 0; ``None``: all turns together."""
    answer_features = _text_features(question.turns, answer.turns, turn)
    if not paired:
        return {**answer_features, "same": 0.0}
    baseline = _text_features(question.turns, question.baseline, turn)
    turns = slice(None) if turn is None else slice(turn, turn + 1)
    same = answer.turns[turns] == question.baseline[turns]
    return {**{name: answer_features[name] - baseline[name] for name in answer_features}, "same": float(same)}


@lru_cache(maxsize=4096)  # every judge, order and seed reads the same baseline
def _text_features(instructions: tuple[str, ...], turns: tuple[str, ...], turn: int | None) -> dict[str, float]:
    texts = turns if turn is None else turns[turn : turn + 1]
    length, words = float(sum(map(len, texts))), float(sum(len(text.split()) for text in texts))
    return {"length": length, "words": words, "quality": true_score(instructions, turns, turn)}


def true_score(instructions: tuple[str, ...], answers: tuple[str, ...], turn: int | None) -> float:
    """The pocket world's own score, 0..1 (mean over turns); NaN where the questions are not its own."""
    conversation: list[Message] = []
    scores: list[float] = []
    for number, (instruction, answer) in enumerate(zip(instructions, answers, strict=False)):
        conversation = [*conversation, {"role": "user", "content": instruction}]
        if turn is None or number == turn:
            try:
                scores.append(score(conversation, answer))
            except UnknownInstruction:
                return float("nan")
        conversation = [*conversation, {"role": "assistant", "content": answer}]
    return sum(scores) / len(scores) if scores else float("nan")
