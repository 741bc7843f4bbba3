"""Stage ``answer``: a model's answers to a benchmark's questions, all turns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.contracts.backend import Services
from harness.contracts.model import GeneratesText
from harness.contracts.options import options_from
from harness.contracts.stage import Stage
from harness.errors import UserError
from harness.models.backends import BACKENDS
from harness.models.server_model import ServerOptions
from harness.plural import counted
from harness.records import read_records, write_records
from harness.stages.context import Work
from harness.types import Answer, Question


def run(stage: Stage, work: Work) -> Mapping[str, Any]:
    """Write ``answers.jsonl``."""
    benchmark = work.registry.benchmarks[stage.params["benchmark"]]
    config = options_from(benchmark.config, stage.local["config"])
    questions = benchmark.questions(config)
    if "given" in stage.local:
        answers = given(Path(stage.local["given"]), questions)
    else:
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


def given(file: Path, questions: Sequence[Question]) -> list[Answer]:
    """Answers made elsewhere, in the order of the questions.

    Raises UserError listing what is missing, twice there, or belongs to other questions.
    """
    answers = read_records(file, Answer)
    counts = Counter(answer.question for answer in answers)
    known = {question.id: question for question in questions}
    wrong = {
        "without an answer": [name for name in known if name not in counts],
        "answered twice": [name for name, count in counts.items() if count > 1],
        "of another number of turns": [
            answer.question
            for answer in answers
            if answer.question in known and len(answer.turns) != len(known[answer.question].turns)
        ],
    }
    problems = [
        f"{counted(len(names), 'question')} {what}: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
        for what, names in wrong.items()
        if names
    ]
    if problems:
        foreign = sum(name not in known for name in counts)
        tail = f" ({counted(foreign, 'answer')} to other questions)" if foreign else ""
        raise UserError(f"{file} does not fit the {counted(len(known), 'question')}: {'; '.join(problems)}{tail}.")
    by_question = {answer.question: answer for answer in answers}
    return [by_question[name] for name in known]


def answering(stage: Stage, work: Work) -> GeneratesText:
    """The model that answers: a checkpoint in this process, or one behind a server."""
    if "endpoint" not in stage.local:
        return work.model(stage, "model")
    services = Services(lambda done, total: work.progress(done, total, "answers"), work.asking(stage))
    return BACKENDS["openai"].load(None, ServerOptions(**stage.local["endpoint"]), services)
