"""Stage ``score``: all judgments of one benchmark into scores, for every entrant at once (LC shares difficulties).

``detail`` gets ``lowest`` and ``highest`` (each missing verdict the worst, the best), ``judge_repeats`` and
``judge_variance`` (how far repeated verdicts on one answer lie apart).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from statistics import fmean, variance

from harness.contracts.benchmark import ConfiguredBenchmark, Entrant
from harness.contracts.stage import Cost, Ref, Stage
from harness.stages.graph import StageGraph
from harness.stages.kind import StageContext, StageKind
from harness.stages.kinds.judge import judged_benchmark
from harness.stats import seed_of
from harness.types import Answer, Judgment, Score

Entrants = Mapping[str, Entrant]
Details = dict[tuple[str, str], dict[str, float]]
"""By entrant and metric."""


def score_stage(graph: StageGraph, name: str, judgments: Sequence[Stage]) -> Stage:
    benchmark = graph.benchmarks[name]
    # Rows that are the same training share its judgments, and are one entrant.
    judgments = list({stage.key: stage for stage in judgments}.values())
    entrants = list(map(entrant_name, judgments))
    params: dict[str, object] = {
        "benchmark": name,
        **graph.version_params(name),
        "config": benchmark.options,
        "questions": benchmark.judged_hash,
        "entrants": entrants,
        "replicates": graph.recipe.statistics.replicates,
        # One seed per benchmark: all entrants are resampled on the same questions, so they pair.
        "seed": seed_of("bootstrap", name),
    }
    inputs: dict[str, Ref] = {}
    for entrant, stage in zip(entrants, judgments, strict=True):
        inputs |= {f"answers:{entrant}": stage.inputs["answers"], f"judgments:{entrant}": stage.ref}
        # All judge stages of a benchmark have the same baseline, so any of them may say it.
        if "baseline" in stage.inputs:
            params["baseline"], inputs["baseline"] = stage.params["baseline"], stage.inputs["baseline"]
    return graph.add(Stage("score", params, inputs, version=4))


def entrant_name(judgments: Stage) -> str:
    return f"{judgments.row}/{judgments.seed}"


def run(stage: Stage, context: StageContext) -> Mapping[str, object]:
    """Write ``scores.json``: entrant name to its list of scores."""
    params = stage.params
    benchmark = judged_benchmark(stage, context, params["config"])
    entrants = {
        name: Entrant(
            context.records(stage, f"answers:{name}", Answer), context.records(stage, f"judgments:{name}", Judgment)
        )
        for name in params["entrants"]
    }
    scores = benchmark.score(entrants, params["seed"], params["replicates"])
    ends, noise = bounds(benchmark, entrants, params["seed"]), judge_noise(benchmark, entrants, params["seed"])
    rows: dict[str, list[Score]] = {name: [] for name in scores}
    for name, score in ((name, score) for name, row in scores.items() for score in row):
        key = name, score.metric
        full_score = replace(score, detail={**score.detail, **ends.get(key, {}), **noise.get(key, {})})
        rows[name].append(add_note(full_score, params.get("baseline"), benchmark))
    content = {name: [asdict(score) for score in row] for name, row in rows.items()}
    (context.folder / "scores.json").write_text(json.dumps(content, allow_nan=False), encoding="utf-8")
    for number, (name, row) in enumerate(rows.items(), 1):
        context.progress(number, len(rows), score_text(name, row[0]))
    all_scores = [score for row in rows.values() for score in row]
    unscored, scored = sum(score.unscored for score in all_scores), sum(score.value is not None for score in all_scores)
    return {"entrants": len(entrants), "unscored": unscored, "scored": scored}


def score_text(entrant: str, score: Score) -> str:
    """What is shown while other stages go on: ``dpo/0: mt_bench.score 6.52``."""
    return f"{entrant}: {score.metric} " + ("not scored" if score.value is None else f"{score.value:.2f}")


def add_note(score: Score, baseline: str | None, benchmark: ConfiguredBenchmark) -> Score:
    """No published number can be compared with another baseline's, or with that of another judge prompt."""
    notes = [] if baseline is None else [f"against the answers of {baseline}"]
    notes += [caveat] if (caveat := benchmark.benchmark.caveat(benchmark.config)) else []
    if not notes:
        return score
    note = ("not official: " if benchmark.benchmark.official else "") + ", ".join(notes)
    return replace(score, note="; ".join(part for part in (note, score.note) if part))


def bounds(benchmark: ConfiguredBenchmark, entrants: Entrants, seed: int) -> Details:
    """Of every entrant that lacks a verdict: the missing ones at either end, scored again."""
    full_entrants = add_missing_judgments(benchmark, entrants)
    gaps = [name for name, entrant in full_entrants.items() if any(j.verdict is None for j in entrant.judgments)]
    details: Details = {}
    for end, verdict in zip(("lowest", "highest"), benchmark.benchmark.verdicts, strict=True) if gaps else ():
        full = {
            name: Entrant(
                entrant.answers, [replace(j, verdict=verdict) if j.verdict is None else j for j in entrant.judgments]
            )
            for name, entrant in full_entrants.items()
        }
        # Over all entrants, because length control shares terms; without replicates: the ends need no interval.
        scores = benchmark.score(full, seed, 0)
        for entrant in gaps:
            for score in scores[entrant]:
                if score.value is not None:
                    details.setdefault((entrant, score.metric), {})[end] = score.value
    return details


def add_missing_judgments(benchmark: ConfiguredBenchmark, entrants: Entrants) -> Entrants:
    """The entrants with a judgment without verdict for everything that was to be judged and has none."""
    protocol, config = benchmark.benchmark, benchmark.config
    make_parts = protocol.requests if protocol.needs_judge else protocol.grade
    usual = {(j.part, j.repeat) for entrant in entrants.values() for j in entrant.judgments}
    full_entrants: dict[str, Entrant] = {}
    for name, entrant in entrants.items():
        parts_by_question: dict[str, set[tuple[str, int]]] = {}
        for j in entrant.judgments:
            parts_by_question.setdefault(j.question, set()).add((j.part, j.repeat))
        answers = {answer.question: answer for answer in entrant.answers}
        gaps: list[Judgment] = []
        for question in benchmark.questions:
            judged_parts, answer = parts_by_question.get(question.id, set()), answers.get(question.id)
            # Making requests is slow, and a question with as many judgments as any other lacks none.
            if len(judged_parts) < max(len(usual), 1):
                all_parts = usual
                if answer:
                    all_parts = {(request.part, request.repeat) for request in make_parts(question, answer, config)}
                parts = sorted(all_parts - judged_parts)
                gaps += [Judgment(question.id, part, None, "not judged", repeat) for part, repeat in parts]
        full_entrants[name] = Entrant(entrant.answers, [*entrant.judgments, *gaps])
    return full_entrants


def judge_noise(benchmark: ConfiguredBenchmark, entrants: Entrants, seed: int) -> Details:
    """Repeats R, and the variance of one repeat's verdict (R - 1 below), mean over the questions that all scored."""
    repeats = sorted({judgment.repeat for entrant in entrants.values() for judgment in entrant.judgments})
    if len(repeats) < 2:
        return {}
    # A repeat is scored by itself, because a score may be no mean of verdicts (a refit, a vote over orders).
    shares: dict[tuple[str, str], list[Mapping[str, float]]] = {}
    for repeat in repeats:
        alone = {
            name: Entrant(entrant.answers, [j for j in entrant.judgments if j.repeat == repeat])
            for name, entrant in entrants.items()
        }
        for name, scores in benchmark.score(alone, seed, 0).items():
            for score in scores:
                shares.setdefault((name, score.metric), []).append(score.per_question)
    details: Details = {}
    for key, parts in shares.items():
        if common_questions := [question for question in parts[0] if all(question in share for share in parts)]:
            noise = fmean(variance(share[question] for share in parts) for question in common_questions)
            details[key] = {"judge_repeats": float(len(repeats)), "judge_variance": noise}
    return details


def cost(stage: Stage, graph: StageGraph) -> Cost:
    return Cost(replicates=len(stage.params["entrants"]) * stage.params["replicates"])


KIND = StageKind("score", run, cost)
