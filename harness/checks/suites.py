"""The checks of benchmarks, judges, sources, backends and executors against their contracts (``harness/contracts``).

Whether a benchmark's numbers are the official tool's takes a test beside the tool. A judge that cannot be asked must
fail in the right way; a backend gets a tiny checkpoint and a fake server, an executor stages that compute nothing.
"""

import asyncio
import itertools
import math
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from harness.checks.finding import CheckFailed, Checks, options_check, repeatable, require, require_json
from harness.checks.tiny_models import WORDS, tiny_checkpoint
from harness.contracts.backend import Backend, Services
from harness.contracts.benchmark import AnyBenchmark, Entrant
from harness.contracts.engine import EngineHost
from harness.contracts.executor import Copies, Executor, ExecutorKind, Resources, RunStage, StageResult
from harness.contracts.judge import ERROR_KINDS, Judge, JudgeError, JudgeKind
from harness.contracts.model import PROTOCOLS, Sampling
from harness.contracts.options import field_tree
from harness.contracts.source import PromptSource
from harness.contracts.stage import RunListener, Stage
from harness.errors import UserError
from harness.models.checkpoint import resolve
from harness.models.fake import FakeModel
from harness.text import format_count
from harness.types import Answer, Judgment, Messages, Prompt, Question, Reply, Request, Response, Verdict

C = TypeVar("C")
T = TypeVar("T")

QUESTIONS: Final = 24
REPLICATES: Final = 50
TEXTS: Final = (
    "", " ", "\x00", "\ud800", "yes", "m", "M", "[[A>B]]", "[[B>>A]] [[A=B]]", "[[A]]", "[[C]]", "Rating: [[5]]",
    "[[11]]", "[[-3]]", "[[1e400]]", "[[nan]]", "{", '{"answer": 1e999}', "[" * 3000, "9" * 5000, "[[" + "9" * 5000,
)  # fmt: skip
FIRST_TOKENS: Final[Sequence[Mapping[str, float] | None]] = (
    None, {}, {"m": math.nan}, {"m": -math.inf, "M": -math.inf}, {"m": 800.0}, {"\u2603": -0.1},
)  # fmt: skip


def questions_of(benchmark: AnyBenchmark, config: object) -> list[Question]:
    try:
        return benchmark.questions(config)[:QUESTIONS]
    except UserError as error:
        raise CheckFailed(f"the questions are not here: {error}") from error


def answers_of(benchmark: AnyBenchmark, config: object, word: str = "one") -> list[tuple[Question, Answer]]:
    model = FakeModel(answer=lambda talk, seed: f"{word} {talk[-1]['content']} #### 4")
    questions = questions_of(benchmark, config)
    answers = repeatable(partial(benchmark.answer, model, questions, config, seed=1), "answer() with the same model")
    in_order = [answer.question for answer in answers] == [question.id for question in questions]
    require(in_order, "answers must be those of the questions, in order")
    return list(zip(questions, answers, strict=True))


def entrant(benchmark: AnyBenchmark, config: object, word: str, with_gap: bool = False) -> Entrant:
    """With a judge that likes every answer alike; ``with_gap``: but has no verdict on the first question."""
    middle_verdict = sum(benchmark.verdicts) / 2
    answers = answers_of(benchmark, config, word)
    judgments: list[Judgment] = []
    for question, answer in answers:
        requests = benchmark.requests(question, answer, config)
        judgments += [
            Judgment(question.id, request.part, middle_verdict, repeat=request.repeat) for request in requests
        ]
        judgments += [] if benchmark.needs_judge else benchmark.grade(question, answer, config)
    if with_gap:
        gap = answers[0][0].id
        judgments = [replace(j, verdict=None, reason="no reply") if j.question == gap else j for j in judgments]
    return Entrant([answer for _, answer in answers], judgments)


def survives(call: Callable[[], T], name: str, text: str) -> T:
    try:
        return call()
    except Exception as error:
        raise CheckFailed(f"{name} raises {type(error).__name__} on {text}: {error}") from error


def check_facts(benchmark: AnyBenchmark, config: object) -> str:
    ids = [metric.id for metric in benchmark.metrics]
    require(ids, "there is no metric")
    require(len(set(ids)) == len(ids), f"two metrics have the same id: {ids}")
    foreign = [name for name in ids if not name.startswith(f"{benchmark.name}.")]
    require(not foreign, f"ids of metrics must begin with {benchmark.name}.: {', '.join(foreign)}")
    worst, best = benchmark.verdicts
    require(worst < best, f"verdicts = {benchmark.verdicts}: the worst must be below the best")
    strangers = {*benchmark.judge_fields, *benchmark.score_fields} - set(field_tree(benchmark.config))
    require(not strangers, f"judge_fields and score_fields name {sorted(strangers)}, which are not options")
    both = set(benchmark.judge_fields) & set(benchmark.score_fields)
    require(not both, f"{sorted(both)} cannot be in judge_fields and in score_fields")
    return f"{', '.join(ids)}; verdicts from {worst:g} to {best:g}"


def check_questions(benchmark: AnyBenchmark, config: object) -> str:
    require(questions_of(benchmark, config), "there is no question")
    questions = repeatable(partial(benchmark.questions, config), "questions()")
    require(len({question.id for question in questions}) == len(questions), "two questions have the same id")
    blank = [question.id for question in questions if not question.turns or not all(map(str.strip, question.turns))]
    require(not blank, f"questions without words: {', '.join(blank)}")
    size = benchmark.size(config)
    count = len(questions) if size is None else size.questions
    require(count == len(questions), f"size() says {count} questions, questions() gives {len(questions)}")
    return format_count(len(questions), "question")


def check_answers(benchmark: AnyBenchmark, config: object) -> str:
    answers = answers_of(benchmark, config)
    for question, answer in answers:
        turns = f"{len(answer.turns)} answers to the {len(question.turns)} turns of {question.id!r}"
        require(len(answer.turns) == len(question.turns), turns)
        require_json(answer, f"the answer to {question.id!r}")
    return format_count(len(answers), "answer")


def check_requests(benchmark: AnyBenchmark, config: object) -> str:
    """Pure, about the question, and each another entry of the ledger; none where a rule decides."""
    count = 0
    for question, answer in answers_of(benchmark, config):
        requests = repeatable(partial(benchmark.requests, question, answer, config), "requests()")
        require(
            bool(requests) == benchmark.needs_judge,
            f"needs_judge = {benchmark.needs_judge}, but {len(requests)} requests",
        )
        places = {(request.part, request.repeat) for request in requests}
        require(len(places) == len(requests), f"two requests about {question.id!r} have the same part and repeat")
        for request in requests:
            require(request.question == question.id, f"a request about {question.id!r} names another")
            require_json(request, f"a request about {question.id!r}")
        count += len(requests)
    return f"{count} to the judge" if benchmark.needs_judge else "none: a rule decides"


def check_parse(benchmark: AnyBenchmark, config: object) -> str:
    """Any reply at all gives a verdict within the range, or none and the reason."""
    if not benchmark.needs_judge:
        return check_grade(benchmark, config)
    worst, best = benchmark.verdicts
    replies = [Reply(text, "stop", "judge", 1, 1, token) for text in TEXTS for token in FIRST_TOKENS]
    verdicts = 0
    for request in benchmark.requests(*answers_of(benchmark, config)[0], config):
        for reply in replies:
            subject = f"the reply {reply.text[:40]!r} with first_token={reply.first_token}"
            verdict = survives(partial(benchmark.parse, request, reply, config), "parse()", subject)
            require(isinstance(verdict, Verdict), f"parse() gives a {type(verdict).__name__}")
            if verdict.value is None:
                require(verdict.reason, f"no verdict and no reason on {subject}")
            else:
                verdicts += 1
                require(worst <= verdict.value <= best, f"the verdict {verdict.value} is out of range on {subject}")
    return f"{len(replies)} hostile replies, {verdicts} verdicts"


def check_grade(benchmark: AnyBenchmark, config: object) -> str:
    """By rule: a judgment within the range, or none and the reason, on any answer."""
    worst, best = benchmark.verdicts
    count = 0
    for question in questions_of(benchmark, config):
        for text in TEXTS:
            answer, subject = Answer(question.id, (text,) * len(question.turns), (), ()), f"the answer {text[:40]!r}"
            judgments = survives(partial(benchmark.grade, question, answer, config), "grade()", subject)
            require(judgments, f"grade() gives no judgment on {subject}")
            for judgment in judgments:
                is_valid = judgment.reason if judgment.verdict is None else worst <= judgment.verdict <= best
                require(is_valid, f"the judgment on {subject} is {judgment}")
            count += len(judgments)
    return f"{count} judgments by rule on hostile answers"


def check_score(benchmark: AnyBenchmark, config: object) -> str:
    """Pure; every question counts or is counted as unscored; a missing verdict is never a zero."""
    questions = questions_of(benchmark, config)
    entrants = {name: entrant(benchmark, config, name) for name in ("one", "two")}
    entrants["gap"] = entrant(benchmark, config, "one", with_gap=True)
    scores = repeatable(partial(benchmark.score, questions, entrants, config, 0, REPLICATES), "score()")
    require(set(scores) == set(entrants), f"scores of {sorted(scores)}, entrants were {sorted(entrants)}")
    metrics = [metric.id for metric in benchmark.metrics]
    for name, row in scores.items():
        require([score.metric for score in row] == metrics, f"{name} has scores of {[s.metric for s in row]}")
        for score in row:
            total = f"{score.metric}: {score.n} questions count and {score.unscored} do not, of {len(questions)}"
            require(score.n + score.unscored == len(questions), total)
            if score.value is None:
                require(score.note, f"{score.metric} has no value, and its note does not say why")
            elif score.low is not None and score.high is not None:
                subject = f"{score.metric} = {score.value} lies outside of its interval {score.low} to {score.high}"
                # Percentiles of equal replicates differ from the value by rounding.
                require(score.low - 1e-9 <= score.value <= score.high + 1e-9, subject)
            require_json(score, f"the score {score.metric}")
    counts = all(score.unscored > 0 for score in scores["gap"])
    require(counts, "a question without a verdict is not counted as unscored")
    return f"{format_count(len(metrics), 'metric')} of 3 models, one of them without a verdict on a question"


def check_card(benchmark: AnyBenchmark, config: object) -> str:
    card = benchmark.card(config)
    require(card.benchmark, "the card names no benchmark")
    require(card.version, "the card names no version of the protocol")
    well_formed = card.prompt_hash == "none" or re.fullmatch(r"[0-9a-f]{12}", card.prompt_hash)
    require(well_formed, f"prompt_hash is {card.prompt_hash!r}: 12 hex digits, or none where rules decide")
    require(card.prompt_hash != "none" or not benchmark.needs_judge, "a judged benchmark must have a prompt_hash")
    require_json(dict(card.parameters), "the card's parameters")
    return f"{card.benchmark}, {card.version}; {format_count(len(card.deviations), 'deviation')}"


SECONDS: Final = 120.0
MESSAGES: Final = (
    {"role": "user", "content": "Which is better, A or B? Reply with [[A]] or [[B]].\n\nA: yes\n\nB: no"},
)
REQUESTS: Final = (
    Request("check", "label", MESSAGES, max_tokens=16),
    Request("check", "token", MESSAGES, max_tokens=1, temperature=1.0, top_logprobs=5, repeat=1),
)


def check_identity(kind: JudgeKind[C], config: C) -> str:
    identity = repeatable(lambda: dict(kind.identity(config)), "identity()")
    require_json(identity, "identity()")
    require(identity, "identity() is empty: two judges of this kind would share their judgments")
    return ", ".join(identity)


def check_names(kind: JudgeKind[C], config: C) -> str:
    judge, second_judge = kind.make(config), kind.make(config)
    for name in ("name", "endpoint", "model"):
        value: object = getattr(judge, name)
        require(isinstance(value, str) and value, f"the judge's {name} is {value!r}, not a text")
        require(value == getattr(second_judge, name), f"two judges of the same options differ in {name}")
    try:
        judge.endpoint = judge.endpoint
    except AttributeError as error:  # of a property, a frozen dataclass, a named tuple
        raise CheckFailed("the judge's endpoint must be an attribute that can be set") from error
    return f"{judge.model} at {judge.endpoint}"


def check_price(kind: JudgeKind[C], config: C) -> str:
    free_price, *prices = (kind.price(config, tokens, tokens) for tokens in (0, 1000, 2000))
    thinking: object = kind.thinking(config)
    require(isinstance(thinking, int) and thinking >= 0, f"thinking() is {thinking!r}, not a number of tokens")
    require(all(isinstance(note, str) for note in kind.notes(config)), "notes() must give texts")
    if free_price is None:
        require(prices == [None, None], f"price() knows the price of some calls only: {prices}")
        return "unknown: budgets in dollars are refused"
    dollar_prices = [price for price in prices if price is not None]
    rises = free_price == 0 and len(dollar_prices) == 2 and 0 <= dollar_prices[0] <= dollar_prices[1]
    require(rises, f"0, 1000 and 2000 tokens cost {free_price}, {prices}")
    return f"${dollar_prices[0]:g} for 1000 prompt and 1000 completion tokens"


def check_reachable(kind: JudgeKind[C], config: C) -> str:
    problem: object = kind.make(config).check()
    require(problem is None or (isinstance(problem, str) and problem), f"check() gives {problem!r}")
    return "the judge can be asked" if problem is None else f"the judge cannot be asked now: {problem}"


def check_replies(kind: JudgeKind[C], config: C) -> str:
    outcomes = [outcome(kind.make(config), request) for request in REQUESTS]
    for result in outcomes:
        if isinstance(result, JudgeError):
            kinds = ", ".join(sorted(ERROR_KINDS))
            require(result.kind in ERROR_KINDS, f"a JudgeError of the kind {result.kind!r}; known are {kinds}")
            continue
        if not isinstance(result, Reply):
            raise CheckFailed(f"complete() gives a {type(result).__name__}, not a Reply")
        require(isinstance(result.text, str), "the reply's text is no text")
        require(result.text or result.first_token, "an empty reply must be a JudgeError of the kind 'empty'")
        require(min(result.prompt_tokens, result.completion_tokens) >= 0, "a reply counts less than 0 tokens")
        for logp in (result.first_token or {}).values():
            # Some servers round, and a certain token then comes a little above 0.
            require(logp <= 1e-6, f"a log-probability of the first token is {logp}, above 0")
    return "; ".join(f"{result.kind}: {result}" if isinstance(result, JudgeError) else "a reply" for result in outcomes)


def outcome(judge: Judge, request: Request) -> object:
    try:
        return asyncio.run(asyncio.wait_for(judge.complete(request), SECONDS))
    except JudgeError as error:
        return error


PROMPTS: Final = 200
ROLES: Final = ("system", "user", "assistant")


def first_prompts(source: PromptSource[C], config: C, seed: int = 0) -> list[Prompt]:
    return list(itertools.islice(source.prompts(config, source.pin(config).identity, seed), PROMPTS))


def check_pin(source: PromptSource[C], config: C) -> str:
    identity = dict(repeatable(lambda: source.pin(config), "pin()").identity)
    require_json(identity, "the identity that pin() gives")
    return f"identity {identity}" if identity else "pinned by the package or by its assets"


def check_prompts(source: PromptSource[C], config: C) -> str:
    prompts = first_prompts(source, config)
    require(prompts, "there is no prompt")
    require(all(isinstance(prompt, Prompt) for prompt in prompts), "prompts() must give harness.types.Prompt")
    require(len({prompt.id for prompt in prompts}) == len(prompts), "two prompts have the same id")
    for prompt in prompts:
        roles = [message["role"] for message in prompt.messages]
        require(roles and roles[-1] == "user", f"prompt {prompt.id!r} does not end in a turn of the user")
        require(set(roles) <= set(ROLES), f"prompt {prompt.id!r} has the roles {roles}; known are {', '.join(ROLES)}")
        require(prompt.messages[-1]["content"].strip(), f"prompt {prompt.id!r} is empty")
    return f"{len(prompts)} looked at"


def check_seed(source: PromptSource[C], config: C) -> str:
    prompts = repeatable(lambda: first_prompts(source, config), "prompts() with the same seed")
    # A handful of prompts may come in the same order by chance.
    differs = len(prompts) < 5 or prompts != first_prompts(source, config, seed=1)
    require(differs, "another seed gives the prompts in the same order")
    return "the same seed gives the same prompts, another seed another order"


def check_pairs(source: PromptSource[C], config: C) -> str:
    has_pairs, prompts = source.pin(config).pairs, first_prompts(source, config)
    count = sum(bool(prompt.golden and prompt.rejected) for prompt in prompts)
    require(has_pairs == (count > 0), f"pin() says pairs={has_pairs}, but {count} of {len(prompts)} prompts have both")
    return f"{count} of {len(prompts)} prompts have a chosen and a rejected answer"


TALKS: Final[Sequence[Messages]] = (
    ({"role": "user", "content": "ba be"},),
    ({"role": "user", "content": "bi"}, {"role": "assistant", "content": "bo"}, {"role": "user", "content": "da"}),
)
SAMPLING: Final = Sampling(max_new_tokens=6)


def fake_server(
    kind: str,
    options: Mapping[str, object],
    requests: Sequence[Request],
    progress: Callable[[int], None] | None = None,
) -> list[Reply | JudgeError]:
    return [Reply(request.messages[-1]["content"], "stop", "fake", 1, 1) for request in requests]


@contextmanager
def model(backend: Backend[C], config: C) -> Iterator[Any]:
    with tempfile.TemporaryDirectory(prefix="distilbench-check-") as folder:
        checkpoint = resolve(str(tiny_checkpoint(Path(folder), seed=0)))
        yield backend.load(checkpoint, config, Services(ask=fake_server))


def check_capabilities(backend: Backend[C], config: C) -> str:
    unknown = sorted(backend.capabilities - set(PROTOCOLS))
    require(not unknown, f"capabilities that nothing asks for: {', '.join(unknown)}")
    with model(backend, config) as subject:
        offers = {capability for capability, protocol in PROTOCOLS.items() if isinstance(subject, protocol)}
    lacking, extras = (
        sorted(backend.capabilities - offers),
        sorted(offers - backend.capabilities),
    )
    require(not lacking, f"declared, but the model has no methods for: {', '.join(lacking)}")
    require(not extras, f"the model has methods for {', '.join(extras)}, which are not declared")
    return ", ".join(sorted(backend.capabilities))


def check_generate(backend: Backend[C], config: C) -> str:
    if "generate" not in backend.capabilities:
        return "not offered"
    with model(backend, config) as subject:
        responses = repeatable(lambda: subject.generate(TALKS, SAMPLING, seed=3, n=2), "generate() with the same seed")
    require([len(row) for row in responses] == [2, 2], "there must be n responses to each conversation, in order")
    for response in (response for row in responses for response in row):
        require(isinstance(response, Response), "responses must be Response")
        limit = SAMPLING.max_new_tokens
        require(response.tokens <= limit, f"a response has more than max_new_tokens = {limit} tokens")
    return "2 responses to each of 2 conversations"


def check_logps(backend: Backend[C], config: C) -> str:
    parts = []
    with model(backend, config) as subject:
        if "logps" in backend.capabilities:
            answers = [Response("ba bi", finished=True, tokens=2), Response("be", finished=False, tokens=1)]
            logps = subject.mean_logps(TALKS, answers)
            valid = len(logps) == len(answers) and all(math.isfinite(logp) and logp <= 0 for logp in logps)
            require(valid, f"mean_logps() gives {logps}")
            parts.append("mean log-probabilities")
        if "choices" in backend.capabilities:
            rows = subject.choice_logps(TALKS, WORDS[:2])  # single tokens of the tiny checkpoint
            # Sums of rounded probabilities may exceed 1 a little.
            require(all(sum(map(math.exp, row)) <= 1 + 1e-4 for row in rows), "choices have more than probability 1")
            tops = subject.first_token(TALKS, 3)
            require(all(0 < len(top) <= 3 for top in tops), "first_token(k=3) must give 1 to 3 tokens")
            parts.append("choices and first tokens")
    return " and ".join(parts) or "not offered"


def check_token_logps(backend: Backend[C], config: C) -> str:
    """The k most probable tokens come in order, and a token of the response among them has one log-probability."""
    if "token_logps" not in backend.capabilities:
        return "not offered"
    with model(backend, config) as subject:
        prompts = subject.encode_prompts(TALKS)
        drawn = [row[0].ids for row in subject.generate_tokens(prompts, SAMPLING, seed=3)]
        # An answer that ended at once has no token but its end, which is not told.
        rows = [(prompt, ids) for prompt, ids in zip(prompts, drawn, strict=True) if ids]
        for (_, response), row in zip(rows, subject.token_logps(rows, 3), strict=True):
            places = list(zip(response, row.own, row.top_ids, row.top_logps, strict=True))
            valid = all(len(ids) == len(logps) == 3 for _, _, ids, logps in places)
            require(valid, "token_logps(k=3) must give 3 tokens at each place")
            valid = all(logps == sorted(logps, reverse=True) and logps[0] <= 0 for _, _, _, logps in places)
            require(valid, "token_logps() must give the most probable tokens first")
            known = [(own, dict(zip(ids, logps, strict=True)).get(token)) for token, own, ids, logps in places]
            equal = all(other is None or math.isclose(own, other, abs_tol=1e-4) for own, other in known)
            require(equal, "token_logps() gives a response's token and the same token of the top two values")
        means = [math.fsum(row.own) / len(row.own) for row in subject.token_logps(rows)]
        require(all(math.isfinite(mean) and mean <= 0 for mean in means), f"token_logps() gives means of {means}")
    return f"{format_count(len(rows), 'row')} of token ids"


def check_tokens(backend: Backend[C], config: C) -> str:
    """``generate`` is ``generate_tokens`` on the encoded prompts; a truncated text begins like the whole."""
    if "tokens" not in backend.capabilities:
        return "not offered"
    with model(backend, config) as subject:
        prompts = subject.encode_prompts(TALKS)
        require(len(prompts) == len(TALKS) and all(prompts), "encode_prompts() must give ids of each conversation")
        rows = subject.generate_tokens(prompts, SAMPLING, seed=3, n=2)
        texts = subject.generate(TALKS, SAMPLING, seed=3, n=2)
        ends = [[tokens.finish_reason == "stop" for tokens in row] for row in rows]
        equal_ends = ends == [[response.finished for response in row] for row in texts]
        require(equal_ends, "generate_tokens() on encode_prompts() draws other responses than generate()")
        text = "ba be bi bo da"
        shortened = subject.truncate(text, 2)
        require(text.startswith(shortened) and len(shortened) < len(text), f"truncate({text!r}, 2) gives {shortened!r}")
        require(subject.truncate(text, 99) == text, "truncate() changes a text that is short enough")
    return "token ids in and out"


RESOURCES: Final = Resources(workers=2, threads=1)
NAPS: Final = 12_000
"""Of 0.05 s, of a stage that lasts for ten minutes."""


def run_stage(folder: Path, stage: Stage, progress: Callable[[int, int, str], None]) -> StageResult:
    progress(1, 2, "half")
    if stage.params.get("fails"):
        return StageResult(stage, 0.0, "it was asked to fail")
    # Naps are counted: the clock of a machine that was paused jumps.
    for _ in range(stage.params.get("naps", 0)):
        # A thread cannot be stopped: it ends with the check's folder, or the process could not exit after an abort.
        if folder.is_dir():
            time.sleep(0.05)
    if not folder.is_dir():
        return StageResult(stage, 0.0, "the check is over")
    (folder / stage.key).touch()
    return StageResult(stage, 0.1)


def runner_in(folder: Path, engines: EngineHost | None = None, copies: Copies | None = None) -> RunStage:
    """Of stages that compute nothing: they need neither."""
    return partial(run_stage, folder)


class Notes(RunListener):
    def __init__(self) -> None:
        self.started_labels: list[str] = []
        self.halves: list[str] = []

    def on_start(self, label: str) -> None:
        self.started_labels.append(label)

    def on_progress(self, label: str, done: int, total: int, info: str) -> None:
        self.halves.append(label)


@contextmanager
def running_executor(kind: ExecutorKind[C], config: C, listener: RunListener) -> Iterator[tuple[Executor, Path]]:
    # What an aborted process still writes may stand in the way of the folder's end.
    with tempfile.TemporaryDirectory(prefix="distilbench-check-", ignore_cleanup_errors=True) as folder:
        # Picklable, because a worker may be another process.
        yield kind.start(config, RESOURCES, partial(runner_in, Path(folder)), listener), Path(folder)


def check_results(kind: ExecutorKind[C], config: C) -> str:
    stages = [Stage("check", {"number": number, "fails": number == 1}, row=str(number)) for number in range(5)]
    notes = Notes()
    results: list[StageResult] = []
    with running_executor(kind, config, notes) as (executor, folder), executor:
        for stage in stages:
            executor.submit(stage)
        while len(results) < len(stages):
            batch = executor.results()
            require(batch, "results() came back without a result")
            results += batch
        files = {file.name for file in folder.iterdir()}
    require(sorted(result.stage.key for result in results) == sorted(stage.key for stage in stages),
            "each submitted stage must be reported once")  # fmt: skip
    errors = {result.stage.row: result.error for result in results if result.error is not None}
    require(errors == {"1": "it was asked to fail"}, f"the second stage alone fails; reported were {errors}")
    require(files == {stage.key for stage in stages if stage.row != "1"}, "not every stage was run")
    labels = sorted(stage.label for stage in stages)
    require(sorted(notes.started_labels) == labels, "the listener must hear once that each stage began")
    require(sorted(notes.halves) == labels, "the listener must hear of each stage's progress")
    return f"{len(stages)} stages, one of which failed"


def check_concurrency(kind: ExecutorKind[C], config: C) -> str:
    counts = [kind.concurrency(workers) for workers in (1, 4)]
    require(counts[0] == 1, f"with one worker there is one stage at a time, not {counts[0]}")
    require(1 <= counts[1] <= 4, f"with 4 workers concurrency() is {counts[1]}")
    return f"{counts[1]} of 4 workers run at once"


def check_abort(kind: ExecutorKind[C], config: C) -> str:
    with running_executor(kind, config, Notes()) as (executor, folder):
        executor.submit(Stage("check", {"naps": NAPS}))
        executor.shutdown(abort=True)
        require(not list(folder.iterdir()), "shutdown(abort=True) waited for the end of a stage of ten minutes")
    return "a stage of ten minutes was stopped"


SUITES: Mapping[str, Checks] = {
    "benchmarks": {
        "options": options_check("judge", "kind"),
        "facts": check_facts,
        "questions": check_questions,
        "answers": check_answers,
        "requests": check_requests,
        "replies": check_parse,
        "score": check_score,
        "card": check_card,
    },
    "judges": {
        "options": options_check("kind"),
        "identity": check_identity,
        "names": check_names,
        "price": check_price,
        "reachable": check_reachable,
        "replies": check_replies,
    },
    "sources": {
        "options": options_check("source", "n", "fallback", "seed", "max_prompt_tokens", "allow_overlap"),
        "pin": check_pin,
        "prompts": check_prompts,
        "seed": check_seed,
        "pairs": check_pairs,
    },
    "backends": {
        "options": options_check(),
        "capabilities": check_capabilities,
        "generate": check_generate,
        "logps": check_logps,
        "tokens": check_tokens,
        "token_logps": check_token_logps,
    },
    "executors": {
        "options": options_check(),
        "results": check_results,
        "concurrency": check_concurrency,
        "abort": check_abort,
    },
}
"""Table to its checks; those of methods import torch (``harness/checks/method.py``)."""
