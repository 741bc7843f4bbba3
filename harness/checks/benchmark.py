"""Checks of a benchmark against its contract (``harness/contracts/benchmark.py``), with a model that has no weights.

What they cannot see is whether the numbers are the official tool's: that takes a test beside the tool itself.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, TypeVar

from harness.checks.finding import Checks, Failed, options_check, repeatable, require, require_json
from harness.contracts.benchmark import AnyBenchmark, Entrant
from harness.contracts.options import field_tree
from harness.errors import UserError
from harness.models.fake import FakeModel
from harness.text import counted
from harness.types import Answer, Judgment, Question, Reply, Verdict

T = TypeVar("T")

SAMPLE: Final = 24
"""Questions that are answered, judged and scored."""
REPLICATES: Final = 50
TEXTS: Final = (
    "", " ", "\x00", "\ud800", "yes", "m", "M", "[[A>B]]", "[[B>>A]] [[A=B]]", "[[A]]", "[[C]]", "Rating: [[5]]",
    "[[11]]", "[[-3]]", "[[1e400]]", "[[nan]]", "{", '{"answer": 1e999}', "[" * 3000, "9" * 5000, "[[" + "9" * 5000,
)  # fmt: skip
"""Replies of a judge that is weak, cut off, or hostile."""
FIRST_TOKENS: Final[Sequence[Mapping[str, float] | None]] = (
    None, {}, {"m": math.nan}, {"m": -math.inf, "M": -math.inf}, {"m": 800.0}, {"\u2603": -0.1},
)  # fmt: skip


def questions_of(benchmark: AnyBenchmark, config: object) -> list[Question]:
    try:
        return benchmark.questions(config)[:SAMPLE]
    except UserError as error:
        raise Failed(f"the questions are not here: {error}") from error


def answers_of(benchmark: AnyBenchmark, config: object, word: str = "one") -> list[tuple[Question, Answer]]:
    """The first questions with the answers of a model that repeats the question after ``word``."""
    model = FakeModel(answer=lambda talk, seed: f"{word} {talk[-1]['content']} #### 4")
    questions = questions_of(benchmark, config)
    answers = repeatable(partial(benchmark.answer, model, questions, config, seed=1), "answer() with the same model")
    same = [answer.question for answer in answers] == [question.id for question in questions]
    require(same, "answers must be those of the questions, in order")
    return list(zip(questions, answers, strict=True))


def entrant(benchmark: AnyBenchmark, config: object, word: str, missing: bool = False) -> Entrant:
    """With a judge that likes every answer alike; ``missing``: but has no verdict on the first question."""
    middle = sum(benchmark.verdicts) / 2
    answers = answers_of(benchmark, config, word)
    judgments: list[Judgment] = []
    for question, answer in answers:
        requests = benchmark.requests(question, answer, config)
        judgments += [Judgment(question.id, request.part, middle, repeat=request.repeat) for request in requests]
        judgments += [] if benchmark.judged else benchmark.grade(question, answer, config)
    if missing:
        gap = answers[0][0].id
        judgments = [replace(j, verdict=None, reason="no reply") if j.question == gap else j for j in judgments]
    return Entrant([answer for _, answer in answers], judgments)


def survives(call: Callable[[], T], name: str, text: str) -> T:
    """What ``call`` gives on a hostile text; raises ``Failed`` where it raises anything."""
    try:
        return call()
    except Exception as error:
        raise Failed(f"{name} raises {type(error).__name__} on {text}: {error}") from error


def check_facts(benchmark: AnyBenchmark, config: object) -> str:
    ids = [metric.id for metric in benchmark.metrics]
    require(ids, "there is no metric")
    require(len(set(ids)) == len(ids), f"two metrics have the same id: {ids}")
    foreign = [name for name in ids if not name.startswith(f"{benchmark.name}.")]
    require(not foreign, f"ids of metrics must begin with {benchmark.name}.: {', '.join(foreign)}")
    worst, best = benchmark.verdicts
    require(worst < best, f"verdicts = {benchmark.verdicts}: the worst must be below the best")
    strangers = {*benchmark.answer_fields, *benchmark.judge_fields} - set(field_tree(benchmark.config))
    require(not strangers, f"answer_fields and judge_fields name {sorted(strangers)}, which are not options")
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
    return counted(len(questions), "question")


def check_answers(benchmark: AnyBenchmark, config: object) -> str:
    answers = answers_of(benchmark, config)
    for question, answer in answers:
        turns = f"{len(answer.turns)} answers to the {len(question.turns)} turns of {question.id!r}"
        require(len(answer.turns) == len(question.turns), turns)
        require_json(answer, f"the answer to {question.id!r}")
    return counted(len(answers), "answer")


def check_requests(benchmark: AnyBenchmark, config: object) -> str:
    """Pure, about the question, and each another entry of the ledger; none where a rule decides."""
    count = 0
    for question, answer in answers_of(benchmark, config):
        requests = repeatable(partial(benchmark.requests, question, answer, config), "requests()")
        require(bool(requests) == benchmark.judged, f"judged = {benchmark.judged}, but {len(requests)} requests")
        places = {(request.part, request.repeat) for request in requests}
        require(len(places) == len(requests), f"two requests about {question.id!r} have the same part and repeat")
        for request in requests:
            require(request.question == question.id, f"a request about {question.id!r} names another")
            require_json(request, f"a request about {question.id!r}")
        count += len(requests)
    return f"{count} to the judge" if benchmark.judged else "none: a rule decides"


def check_parse(benchmark: AnyBenchmark, config: object) -> str:
    """Any reply at all gives a verdict within the range, or none and the reason."""
    if not benchmark.judged:
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
                fine = judgment.reason if judgment.verdict is None else worst <= judgment.verdict <= best
                require(fine, f"the judgment on {subject} is {judgment}")
            count += len(judgments)
    return f"{count} judgments by rule on hostile answers"


def check_score(benchmark: AnyBenchmark, config: object) -> str:
    """Pure; every question counts or is counted as unscored; a missing verdict is never a zero."""
    questions = questions_of(benchmark, config)
    entrants = {name: entrant(benchmark, config, name) for name in ("one", "two")}
    entrants["gap"] = entrant(benchmark, config, "one", missing=True)
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
    return f"{counted(len(metrics), 'metric')} of 3 models, one of them without a verdict on a question"


def check_card(benchmark: AnyBenchmark, config: object) -> str:
    card = benchmark.card(config)
    require(card.benchmark, "the card names no benchmark")
    require(card.version, "the card names no version of the protocol")
    good = card.prompt_hash == "none" or re.fullmatch(r"[0-9a-f]{12}", card.prompt_hash)
    require(good, f"prompt_hash is {card.prompt_hash!r}: 12 hex digits, or none where rules decide")
    require(card.prompt_hash != "none" or not benchmark.judged, "a judged benchmark must have a prompt_hash")
    require_json(dict(card.parameters), "the card's parameters")
    return f"{card.benchmark}, {card.version}; {counted(len(card.deviations), 'deviation')}"


CHECKS: Checks = {
    "options": options_check("judge"),
    "facts": check_facts,
    "questions": check_questions,
    "answers": check_answers,
    "requests": check_requests,
    "replies": check_parse,
    "score": check_score,
    "card": check_card,
}
