"""Stage ``score``: all judgments of one benchmark into scores, for every entrant at once (LC shares difficulties)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from harness.benchmark import Entrant
from harness.stage import Stage
from harness.stages.baseline import against, labelled
from harness.stages.work import Work, build
from harness.types import Answer, Judgment


def run(stage: Stage, work: Work) -> Mapping[str, Any]:
    """Write ``scores.json``: entrant name to its list of scores."""
    params = stage.params
    benchmark = work.registry.benchmarks[params["benchmark"]]
    config = build(benchmark.config, params["config"])
    entrants = {
        name: Entrant(
            work.records(stage, f"answers:{name}", "answers.jsonl", Answer),
            work.records(stage, f"judgments:{name}", "judgments.jsonl", Judgment),
        )
        for name in params["entrants"]
    }
    questions = benchmark.questions(config)
    if "baseline" in stage.inputs:
        questions = against(questions, work.records(stage, "baseline", "answers.jsonl", Answer), params["baseline"])
    scores = benchmark.score(questions, entrants, config, params["seed"], params["replicates"])
    if "baseline" in stage.inputs:
        scores = {name: tuple(labelled(score, params["baseline"]) for score in rows) for name, rows in scores.items()}
    plain = {name: [asdict(score) for score in rows] for name, rows in scores.items()}
    (work.folder / "scores.json").write_text(json.dumps(plain, allow_nan=False), encoding="utf-8")
    return {"entrants": len(entrants), "unscored": sum(score.unscored for rows in scores.values() for score in rows)}
