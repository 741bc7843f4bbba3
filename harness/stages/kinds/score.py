"""Stage ``score``: all judgments of one benchmark into scores, for every entrant at once (LC shares difficulties).

Beside what the benchmark says of a score, its ``detail`` holds here, for any benchmark: ``lowest`` and ``highest``,
what it would be if each missing verdict were the worst and the best; ``judge_repeats`` and ``judge_variance``, how far
repeated verdicts on one answer lie apart.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from statistics import fmean, variance
from typing import Any

from harness.contracts.benchmark import AnyBenchmark, ConfiguredBenchmark, Entrant
from harness.contracts.options import options_from
from harness.contracts.stage import Ref, Stage
from harness.stages.context import StageContext
from harness.stages.kind import StageKind
from harness.stages.kinds.judge import judged_questions
from harness.stats import seed_of
from harness.types import Answer, Judgment, Question, Score

Entrants = Mapping[str, Entrant]
Details = dict[str, dict[str, dict[str, float]]]
"""Entrant and metric to what is added to the score's detail."""


def score_stage(
    benchmark: ConfiguredBenchmark, judgments: Sequence[Stage], replicates: int, variant: str = ""
) -> Stage:
    """Scores of all answers that these judge stages judged, of one benchmark and one judge.

    Args:
        replicates: bootstrap resamples of the questions.
        variant: what tells it apart from other score stages of the same answers, for people.
    """
    names = [f"{stage.row}/{stage.seed}" for stage in judgments]
    params: dict[str, Any] = {
        "benchmark": benchmark.name,
        "benchmark_version": benchmark.benchmark.version,
        "config": benchmark.options,
        "questions": benchmark.judged_hash,
        "entrants": names,
        "replicates": replicates,
        # One seed per benchmark: all entrants are resampled on the same questions, so they pair.
        "seed": seed_of("bootstrap", benchmark.name),
    }
    inputs: dict[str, Ref] = {}
    for name, stage in zip(names, judgments, strict=True):
        inputs |= {f"answers:{name}": stage.inputs["answers"], f"judgments:{name}": stage.ref}
        # All judge stages of a benchmark have the same baseline, so any of them may say it.
        if "baseline" in stage.inputs:
            params["baseline"], inputs["baseline"] = stage.params["baseline"], stage.inputs["baseline"]
    return Stage("score", params, inputs, version=4, variant=variant)


def run(stage: Stage, context: StageContext) -> Mapping[str, Any]:
    """Write ``scores.json``: entrant name to its list of scores."""
    params = stage.params
    benchmark = context.registry.benchmarks[params["benchmark"]]
    config = options_from(benchmark.config, params["config"])
    entrants = {
        name: Entrant(
            context.records(stage, f"answers:{name}", "answers.jsonl", Answer),
            context.records(stage, f"judgments:{name}", "judgments.jsonl", Judgment),
        )
        for name in params["entrants"]
    }
    questions = judged_questions(stage, context, benchmark, config)
    scores = benchmark.score(questions, entrants, config, params["seed"], params["replicates"])
    for more in (
        bounds(benchmark, questions, entrants, config, params["seed"]),
        judge_noise(benchmark, questions, entrants, config, params["seed"]),
    ):
        scores = {name: tuple(add_detail(score, more.get(name, {})) for score in rows) for name, rows in scores.items()}
    if "baseline" in stage.inputs:
        scores = {name: tuple(labelled(score, params["baseline"]) for score in rows) for name, rows in scores.items()}
    plain = {name: [asdict(score) for score in rows] for name, rows in scores.items()}
    (context.folder / "scores.json").write_text(json.dumps(plain, allow_nan=False), encoding="utf-8")
    return {"entrants": len(entrants), "unscored": sum(score.unscored for rows in scores.values() for score in rows)}


def add_detail(score: Score, more: Mapping[str, Mapping[str, float]]) -> Score:
    return replace(score, detail={**score.detail, **more.get(score.metric, {})})


def labelled(score: Score, name: str) -> Score:
    """A score that says what it was measured against: no published number can be compared with it."""
    note = f"not official: against the answers of {name}"
    return replace(score, note="; ".join(part for part in (note, score.note) if part))


def bounds(
    benchmark: AnyBenchmark, questions: Sequence[Question], entrants: Entrants, config: object, seed: int
) -> Details:
    """``lowest`` and ``highest`` of every entrant that lacks a verdict: the missing ones at either end, scored again.

    So a weighted score or a refit (LC) is bounded by its own rule, and a question of which one game is missing by that
    game alone. A question that nobody judged lacks what would be asked of it. Entrants with all verdicts are left out.
    """
    whole = add_missing_judgments(benchmark, questions, entrants, config)
    gaps = [name for name, entrant in whole.items() if any(j.verdict is None for j in entrant.judgments)]
    details: Details = {name: {} for name in gaps}
    if not gaps:
        return details
    for what, verdict in zip(("lowest", "highest"), benchmark.verdicts, strict=True):
        full = {name: Entrant(entrant.answers, fill_verdicts(entrant, verdict)) for name, entrant in whole.items()}
        # No replicates: the ends need no interval of their own.
        scored = benchmark.score(questions, full, config, seed, 0)
        for name in gaps:
            for score in scored[name]:
                if score.value is not None:
                    details[name].setdefault(score.metric, {})[what] = score.value
    return details


def add_missing_judgments(
    benchmark: AnyBenchmark, questions: Sequence[Question], entrants: Entrants, config: object
) -> Entrants:
    """The entrants with a judgment without verdict for everything that was to be judged and has none at all.

    What is asked of an answer follows from its benchmark (an answer equal to the baseline's needs no verdict); where
    the answer is not there either, it is what was asked of any other.
    """
    usual = {(j.part, j.repeat) for entrant in entrants.values() for j in entrant.judgments}
    more: dict[str, Entrant] = {}
    for name, entrant in entrants.items():
        there: dict[str, set[tuple[str, int]]] = {}
        for j in entrant.judgments:
            there.setdefault(j.question, set()).add((j.part, j.repeat))
        answers = {answer.question: answer for answer in entrant.answers}
        missing = [
            Judgment(question.id, part, None, "not judged", repeat)
            for question in questions
            if len(have := there.get(question.id, set())) < max(len(usual), 1)
            for part, repeat in sorted(
                expected_judgments(benchmark, question, answers.get(question.id), config, usual) - have
            )
        ]
        more[name] = Entrant(entrant.answers, [*entrant.judgments, *missing])
    return more


def expected_judgments(
    benchmark: AnyBenchmark, question: Question, answer: Answer | None, config: object, usual: set[tuple[str, int]]
) -> set[tuple[str, int]]:
    """Parts and repeats of the verdicts that an answer is to have."""
    if answer is None:
        return usual
    asked = benchmark.requests if benchmark.judged else benchmark.grade
    return {(each.part, each.repeat) for each in asked(question, answer, config)}


def fill_verdicts(entrant: Entrant, verdict: float) -> list[Judgment]:
    return [replace(j, verdict=verdict) if j.verdict is None else j for j in entrant.judgments]


def judge_noise(
    benchmark: AnyBenchmark, questions: Sequence[Question], entrants: Entrants, config: object, seed: int
) -> Details:
    """Where answers were judged R times: R, and the variance of one repeat's verdict about the mean of its question.

    Each repeat is scored by itself; the variances (R - 1 below) of a question's contributions are averaged over the
    questions that every repeat scored. Square of the metric's unit. Empty with one repeat.
    """
    repeats = sorted({judgment.repeat for entrant in entrants.values() for judgment in entrant.judgments})
    if len(repeats) < 2:
        return {}
    # A repeat is scored by itself, because a score may be no mean of verdicts (a refit, a vote over orders).
    each: dict[tuple[str, str], list[Mapping[str, float]]] = {}
    for repeat in repeats:
        alone = {
            name: Entrant(entrant.answers, [j for j in entrant.judgments if j.repeat == repeat])
            for name, entrant in entrants.items()
        }
        for name, rows in benchmark.score(questions, alone, config, seed, 0).items():
            for score in rows:
                each.setdefault((name, score.metric), []).append(score.per_question)
    details: Details = {}
    for (name, metric), shares in each.items():
        whole = [question for question in shares[0] if all(question in share for share in shares)]
        if whole:
            apart = fmean(variance(share[question] for share in shares) for question in whole)
            noise = {"judge_repeats": float(len(repeats)), "judge_variance": apart}
            details.setdefault(name, {})[metric] = noise
    return details


KIND = StageKind("score", run)
