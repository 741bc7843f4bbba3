"""Stage ``answer``: a model's answers (of a checkpoint, a server or a file) to a benchmark's questions, all turns."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.contracts.benchmark import ConfiguredBenchmark
from harness.contracts.judge import ConfiguredJudge
from harness.contracts.model import GeneratesText, Sampling
from harness.contracts.options import json_data, options_from
from harness.contracts.stage import Cost, Stage
from harness.errors import UserError
from harness.models.chat import template_notes
from harness.models.server_model import SERVER, ServerOptions
from harness.records import read_records
from harness.stages.graph import CHARS_PER_TOKEN, Model, StageGraph, model_cost
from harness.stages.kind import PlanIssue, StageContext, StageKind, TextLength
from harness.stats import seed_of
from harness.text import format_count
from harness.thinking import cut_short, separate_answers, separate_response
from harness.types import Answer, Messages, Question, Response, is_plain

ANSWER_TOKENS = 512  # assumed limit of an answer where a benchmark leaves it to its protocol


def answer_params(graph: StageGraph, name: str, seed: int) -> dict[str, object]:
    benchmark = graph.benchmarks[name]
    return {
        "benchmark": benchmark.name,
        **graph.version_params(name),
        "config": benchmark.answer_options,
        "questions": benchmark.asked_hash,
        # The same for every row: differences between rows are then not differences of draws.
        "seed": seed_of("answer", seed),
    }


def answer_stage(graph: StageGraph, name: str, model: Model, row: str, seed: int) -> Stage:
    benchmark = graph.benchmarks[name]
    backend = graph.backend_use(KIND.name, benchmark.benchmark.needs(benchmark.config), model)
    params = {**answer_params(graph, name, seed), **backend.params}
    local = {"config": benchmark.options, **backend.local}
    return graph.add_with_models("answer", params, {}, {"model": model}, local, version=2, row=row, seed=seed)


def server_answer_stage(graph: StageGraph, name: str, server: ServerOptions, row: str, seed: int) -> Stage:
    params = {**answer_params(graph, name, seed), "endpoint": client_of(server, graph).identity}
    params |= graph.registry.code_param("judges", server.kind)
    local = {"config": graph.benchmarks[name].options, "ask": json_data(graph.recipe.ask), "backend": SERVER.name}
    local["endpoint"] = {"kind": server.kind, "config": dict(server.config)}
    return graph.add(Stage("answer", params, version=2, row=row, seed=seed, local=local))


def client_of(server: ServerOptions, graph: StageGraph) -> ConfiguredJudge:
    kind = graph.registry.judges[server.kind]
    return ConfiguredJudge(kind, options_from(kind.config, server.config))


def file_answer_stage(graph: StageGraph, name: str, file: Path | None, row: str, seed: int) -> Stage:
    """Keyed by the content of the file (``Answer`` records). Raises UserError where there is none."""
    if file is None or not file.is_file():
        raise UserError(f"there are no answers of {row!r} to {name}" + (f": no file {file}" if file else "."))
    benchmark = graph.benchmarks[name]
    # By content: the file may move, and what it says may not change.
    content = hashlib.sha256(file.read_bytes()).hexdigest()
    params = {"benchmark": name, "questions": benchmark.asked_hash, "file": content, "config": {}}
    local = {"config": benchmark.options, "file": str(file.absolute())}
    return graph.add(Stage("answer", params, version=2, row=row, seed=seed, local=local))


def cost(stage: Stage, graph: StageGraph) -> Cost:
    if "file" in stage.local:
        return Cost()
    benchmark = graph.benchmarks[stage.params["benchmark"]]
    turns, characters = question_size(benchmark)
    max_tokens = int(stage.params["config"].get("max_new_tokens") or ANSWER_TOKENS)
    read_tokens = characters // CHARS_PER_TOKEN
    usual_tokens = benchmark.benchmark.answer_tokens(benchmark.config)
    written_tokens = turns * max_tokens // 2 if usual_tokens is None else turns * min(max_tokens, usual_tokens)
    if "endpoint" not in stage.local:
        return model_cost(stage, "model", read_tokens, written_tokens, turns)
    dollars = client_of(ServerOptions(**stage.local["endpoint"]), graph).billing().price(read_tokens, written_tokens)
    return Cost(responses=turns, tokens=read_tokens + written_tokens, dollars=dollars)


@lru_cache(maxsize=32)
def question_size(benchmark: ConfiguredBenchmark) -> tuple[int, int]:
    """Turns of all questions, and the characters that a model reads for them."""
    turns = [turn for question in benchmark.questions for turn in question.turns]
    examples = benchmark.benchmark.example_characters(benchmark.config)
    return len(turns), sum(map(len, turns)) + examples * len(turns)


def texts(stage: Stage, graph: StageGraph) -> Iterable[TextLength]:
    """About: characters stand for tokens. A remark, unless no question fits."""
    if "file" in stage.local or "endpoint" in stage.local:
        return []
    return question_texts(graph.benchmarks[stage.params["benchmark"]])


@lru_cache(maxsize=32)
def question_texts(benchmark: ConfiguredBenchmark) -> Sequence[TextLength]:
    name = benchmark.name
    limit = benchmark.benchmark.card(benchmark.config).parameters.get("max_new_tokens")
    answer = limit if isinstance(limit, int) else 1
    examples = benchmark.benchmark.example_characters(benchmark.config)
    lengths = [(examples + len("".join(q.turns)), len(q.turns)) for q in benchmark.questions]
    sizes = [(length // CHARS_PER_TOKEN, turns * answer) for length, turns in lengths]
    remedy = f"lower benchmarks.{name}.max_new_tokens: answers are cut there, and questions without room not scored"
    remedy += ", or show fewer worked examples" if examples else ""
    content = f"questions of {name} with their answers"
    return [TextLength(content, max(map(sum, sizes)), min(sizes)[0], remedy)] if sizes else []


def check(stages: Sequence[Stage], graph: StageGraph) -> Iterable[PlanIssue]:
    for stage in (stage for stage in stages if "endpoint" in stage.local):
        benchmark = graph.benchmarks[stage.params["benchmark"]]
        backend = graph.registry.backends[stage.local["backend"]]
        if lack := ", ".join(backend.lacking_capabilities(benchmark.benchmark.needs(benchmark.config))):
            text = f"{benchmark.name} needs {lack} of a model, which {stage.row}, behind a server, does not offer"
            yield PlanIssue(True, f"{text}; name a checkpoint, or leave this benchmark out", forceable=False)
    # Every benchmark has its own answer stage of the same server: one request per server is enough.
    servers = [ServerOptions(**stage.local["endpoint"]) for stage in stages if "endpoint" in stage.local]
    for model, server in {server.model: server for server in servers}.items():
        if problem := client_of(server, graph).problem():
            yield PlanIssue(True, f"{model}: {problem}")


def run(stage: Stage, context: StageContext) -> Mapping[str, object]:
    benchmark = context.benchmark(stage.params["benchmark"], stage.local["config"])
    questions = benchmark.questions
    model: Any = None
    cut_count = 0
    if "file" in stage.local:
        answers = separate_answers(read_answers(Path(stage.local["file"]), questions))
    else:
        if "endpoint" in stage.local:
            server, services = ServerOptions(**stage.local["endpoint"]), context.services(stage, "answers")
            model = context.registry.backends[stage.local["backend"]].load(None, server, services)
        else:
            model = context.model(stage, "model")
        speaker = ThinkingSeparator(model)
        answers = benchmark.benchmark.answer(speaker, questions, benchmark.config, stage.params["seed"])
        if getattr(model, "inside", 0) > 0:  # only now: each call knows its own questions alone
            answers = list(map(cut_short, answers))
        cut_count = speaker.cut_by_context
    if [answer.question for answer in answers] != [question.id for question in questions]:
        raise AssertionError(f"{benchmark.name}: answers and questions do not match one to one")
    context.write(Answer, answers)
    return {
        "questions": len(answers),
        "tokens": sum(sum(answer.tokens) for answer in answers),
        "cut_prompts": getattr(model, "cut_prompts", 0),
        "cut_by_context": cut_count,
        "templates": template_notes(model.tokenizer, first_turns(questions)) if hasattr(model, "tokenizer") else [],
        "empty": sum(not (answer.absence or all(turn.strip() for turn in answer.turns)) for answer in answers),
        "without_room": [answer.question for answer in answers if answer.has_no_room],
        "unfinished": sum(not all(answer.finished) for answer in answers),
        "thinking": sum(any(answer.thinking) for answer in answers),
        "characters": sum(len(turn) for answer in answers for turn in answer.turns),
    }


def first_turns(questions: Sequence[Question]) -> list[Messages]:
    return [[{"role": "user", "content": question.turns[0]}] for question in questions]


class ThinkingSeparator:
    """A model whose thinking stands beside its text: neither a judge nor its own next turn reads it."""

    def __init__(self, model: GeneratesText) -> None:
        self.model, self.name = model, model.name
        self.cut_by_context = 0

    def __getattr__(self, name: str) -> Any:
        """What ``Benchmark.needs`` names beside ``generate``: log-probabilities hold no thinking."""
        return getattr(self.model, name)

    def generate(
        self, conversations: Sequence[Messages], sampling: Sampling, seed: int, n: int = 1
    ) -> list[list[Response]]:
        template_opening = getattr(self.model, "opening", "")
        openings = ["" if is_plain(messages) else template_opening for messages in conversations]
        rows = self.model.generate(conversations, sampling, seed, n)
        answers = [
            [separate_response(replace(response, text=opening + response.text)) for response in row]
            for opening, row in zip(openings, rows, strict=True)
        ]
        self.cut_by_context += sum(answer.is_cut_before(sampling.max_new_tokens) for row in answers for answer in row)
        return answers


def read_answers(file: Path, questions: Sequence[Question]) -> list[Answer]:
    """In the order of the questions. Raises UserError listing where they do not fit."""
    answers = read_records(file, Answer)
    counts = Counter(answer.question for answer in answers)
    questions_by_id = {question.id: question for question in questions}
    mistakes = {
        "without an answer": [name for name in questions_by_id if name not in counts],
        "answered twice": [name for name, count in counts.items() if count > 1],
        "of another number of turns": [
            answer.question
            for answer in answers
            if answer.question in questions_by_id and len(answer.turns) != len(questions_by_id[answer.question].turns)
        ],
    }
    problems = [
        f"{format_count(len(names), 'question')} {mistake}: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
        for mistake, names in mistakes.items()
        if names
    ]
    if problems:
        foreign = format_count(sum(name not in questions_by_id for name in counts), "answer")
        raise UserError(f"{file} does not fit ({foreign} to other questions): {'; '.join(problems)}.")
    by_question = {answer.question: answer for answer in answers}
    return [by_question[name] for name in questions_by_id]


KIND = StageKind("answer", run, cost, texts=texts, check=check, needs={"model": frozenset({"generate"})})
