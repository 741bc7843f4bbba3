"""Stage ``answer``: a model's answers to a benchmark's questions, all turns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.models import ChatModel
from harness.records import write_records
from harness.registry import AskOptions
from harness.stage import Stage
from harness.stages.work import Work, build


def run(stage: Stage, work: Work) -> Mapping[str, Any]:
    """Write ``answers.jsonl``."""
    benchmark = work.registry.benchmarks[stage.params["benchmark"]]
    config = build(benchmark.config, stage.local["config"])
    questions = benchmark.questions(config)
    answers = benchmark.answer(answering(stage, work), questions, config, stage.params["seed"])
    if [answer.question for answer in answers] != [question.id for question in questions]:
        raise AssertionError(f"{benchmark.name}: answers and questions do not match one to one")
    write_records(work.folder / "answers.jsonl", answers)
    return {
        "questions": len(answers),
        "tokens": sum(sum(answer.tokens) for answer in answers),
        "unfinished": sum(not all(answer.finished) for answer in answers),
        "characters": sum(len(turn) for answer in answers for turn in answer.turns),
    }


def answering(stage: Stage, work: Work) -> ChatModel:
    """The model that answers: a checkpoint in this process, or one behind a server."""
    if "endpoint" not in stage.local:
        return work.model(stage, "model")
    from harness.endpoint import Endpoint, EndpointModel  # which builds configs as stages do

    options = AskOptions(**stage.local["ask"], started=work.started)
    endpoint = Endpoint(**stage.local["endpoint"])
    return EndpointModel(
        endpoint, work.registry, work.ledger, options, lambda done, total: work.progress(done, total, "answers")
    )
