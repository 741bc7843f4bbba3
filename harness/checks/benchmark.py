"""Checks of a benchmark against its contract (``harness/contracts/benchmark.py``), with a model that has no weights.

What they cannot see is whether the numbers are the official tool's: that takes a test beside the tool itself.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

from harness.checks.finding import options_check, require, require_json
from harness.contracts.benchmark import Benchmark, Entrant
from harness.errors import UserError
from harness.models.fake import FakeModel
from harness.text import counted
from harness.types import Answer, Judgment, Question, Reply, Verdict

SAMPLE: Final = 24
"""Questions that are answered, judged and scored."""
REPLICATES: Final = 50
TEXTS: Final = (
    "", " ", "\x00", "\ud800", "yes", "m", "M", "[[A>B]]", "[[B>>A]] [[A=B]]", "[[A]]", "[[C]]", "Rating: [[5]]",
    "[[11]]", "[[-3]]", "[[1e400]]", "[[nan]]", "{", '{"answer": 1e999}', "[" * 3000, "9" * 5000, "[[" + "9" * 5000,
)  # fmt: skip
"""Replies of a judge that is weak, cut off, or hostile."""
FIRST_TOKENS: Final[Sequence[Mapping[str, float] | None]] = (
    None,
    {},
    {"m": math.nan},
    {"m": -math.inf, "M": -math.inf},
    {"m": 800.0},
    {"\u2603": -0.1},
)


class Trial:
    """A benchmark tried on its first questions."""

    def __init__(self, benchmark: Benchmark, config: Any) -> None:
        self.benchmark, self.config = benchmark, config

    @cached_property
    def questions(self) -> list[Question]:
        try:
            return self.benchmark.questions(self.config)[:SAMPLE]
        except UserError as error:
            require(False, f"the questions are not here: {error}")
            raise

    def answers(self, word: str) -> list[Answer]:
        """Those of a model that repeats the question after ``word``."""
        model = FakeModel(answer=lambda talk, seed: f"{word} {talk[-1]['content']} #### 4")
        return self.benchmark.answer(model, self.questions, self.config, seed=1)

    def entrant(self, word: str, missing: bool = False) -> Entrant:
        """With a judge that likes every answer alike; ``missing``: but has no verdict on the first question."""
        answers = self.answers(word)
        judgments: list[Judgment] = []
        for number, (question, answer) in enumerate(zip(self.questions, answers, strict=True)):
            judgments += [
                dataclasses.replace(judgment, verdict=None, reason="no reply") if missing and not number else judgment
                for judgment in self.judge(question, answer)
            ]
        return Entrant(answers, judgments)

    def judge(self, question: Question, answer: Answer) -> list[Judgment]:
        """Verdicts of half way between the worst and the best, or by rule."""
        if not self.benchmark.judged:
            return self.benchmark.grade(question, answer, self.config)
        middle = sum(self.benchmark.verdicts) / 2
        requests = self.benchmark.requests(question, answer, self.config)
        return [Judgment(question.id, request.part, middle, repeat=request.repeat) for request in requests]


def check_facts(benchmark: Benchmark, config: Any) -> str:
    """Columns are the benchmark's own, verdicts have a range, and the fields that decide are options."""
    ids = [metric.id for metric in benchmark.metrics]
    require(ids, "there is no metric")
    require(len(set(ids)) == len(ids), f"two metrics have the same id: {ids}")
    foreign = [name for name in ids if not name.startswith(f"{benchmark.name}.")]
    require(not foreign, f"ids of metrics must begin with {benchmark.name}.: {', '.join(foreign)}")
    worst, best = benchmark.verdicts
    require(worst < best, f"verdicts = {benchmark.verdicts}: the worst must be below the best")
    fields = {field.name for field in dataclasses.fields(benchmark.config)}
    strangers = {*benchmark.answer_fields, *benchmark.judge_fields} - fields
    require(not strangers, f"answer_fields and judge_fields name {sorted(strangers)}, which are not options")
    return f"{', '.join(ids)}; verdicts from {worst:g} to {best:g}"


def check_questions(benchmark: Benchmark, config: Any) -> str:
    """Unique ids, turns that say something, the same set whenever it is loaded."""
    questions = Trial(benchmark, config).questions
    require(questions, "there is no question")
    ids = [question.id for question in benchmark.questions(config)]
    require(len(set(ids)) == len(ids), "two questions have the same id")
    require(questions == benchmark.questions(config)[:SAMPLE], "questions() gives others when it is called again")
    blank = [question.id for question in questions if not question.turns or not all(map(str.strip, question.turns))]
    require(not blank, f"questions without words: {', '.join(blank)}")
    size = benchmark.size(config)
    if size is not None:
        require(size.questions == len(ids), f"size() says {size.questions} questions, questions() gives {len(ids)}")
    return counted(len(ids), "question")


def check_answers(benchmark: Benchmark, config: Any) -> str:
    """One answer to each question, in order, with a text for each turn."""
    trial = Trial(benchmark, config)
    answers = trial.answers("one")
    require(
        [a.question for a in answers] == [q.id for q in trial.questions],
        "answers must be those of the questions, in order",
    )
    for question, answer in zip(trial.questions, answers, strict=True):
        turns = f"{len(answer.turns)} answers to the {len(question.turns)} turns of {question.id!r}"
        require(len(answer.turns) == len(question.turns), turns)
        require_json(_plain(answer), f"the answer to {question.id!r}")
    require(answers == trial.answers("one"), "the same model gives other answers when it is asked again")
    return counted(len(answers), "answer")


def check_requests(benchmark: Benchmark, config: Any) -> str:
    """Pure, about the question, and each another entry of the ledger; none where a rule decides."""
    trial = Trial(benchmark, config)
    count = 0
    for question, answer in zip(trial.questions, trial.answers("one"), strict=True):
        requests = benchmark.requests(question, answer, config)
        require(requests == benchmark.requests(question, answer, config), "requests() gives others when called again")
        require(bool(requests) == benchmark.judged, f"judged = {benchmark.judged}, but {len(requests)} requests")
        require(all(r.question == question.id for r in requests), f"a request about {question.id!r} names another")
        places = [(request.part, request.repeat) for request in requests]
        require(len(set(places)) == len(places), f"two requests about {question.id!r} have the same part and repeat")
        for request in requests:
            require_json(_plain(request), f"a request about {question.id!r}")
        count += len(requests)
    return f"{count} to the judge" if benchmark.judged else "none: a rule decides"


def check_parse(benchmark: Benchmark, config: Any) -> str:
    """Any reply at all gives a verdict within the range, or none and the reason."""
    trial = Trial(benchmark, config)
    if not benchmark.judged:
        return check_grade(benchmark, trial)
    worst, best = benchmark.verdicts
    replies = [Reply(text, "stop", "judge", 1, 1, token) for text in TEXTS for token in FIRST_TOKENS]
    read = 0
    for request in benchmark.requests(trial.questions[0], trial.answers("one")[0], config):
        for reply in replies:
            shown = f"the reply {reply.text[:40]!r} with first_token={reply.first_token}"
            try:
                verdict = benchmark.parse(request, reply, config)
            except Exception as error:
                require(False, f"parse() raises {type(error).__name__} on {shown}: {error}")
                raise
            require(isinstance(verdict, Verdict), f"parse() gives a {type(verdict).__name__}")
            if verdict.value is None:
                require(verdict.reason, f"no verdict and no reason on {shown}")
                continue
            read += 1
            require(worst <= verdict.value <= best, f"the verdict {verdict.value} is out of range on {shown}")
    return f"{len(replies)} hostile replies, {read} verdicts"


def check_grade(benchmark: Benchmark, trial: Trial) -> str:
    """By rule: the same judgments twice, within the range, or none and the reason; hostile answers included."""
    worst, best = benchmark.verdicts
    count = 0
    for question in trial.questions:
        for text in TEXTS:
            answer = Answer(question.id, (text,) * len(question.turns), (), ())
            try:
                judgments = benchmark.grade(question, answer, trial.config)
            except Exception as error:
                require(False, f"grade() raises {type(error).__name__} on the answer {text[:40]!r}: {error}")
                raise
            require(judgments, f"grade() gives no judgment on the answer {text[:40]!r}")
            for judgment in judgments:
                fine = judgment.reason if judgment.verdict is None else worst <= judgment.verdict <= best
                require(fine, f"the judgment on the answer {text[:40]!r} is {judgment}")
            count += len(judgments)
    return f"{count} judgments by rule on hostile answers"


def check_score(benchmark: Benchmark, config: Any) -> str:
    """Pure; every question counts or is counted as unscored; a missing verdict is never a zero."""
    trial = Trial(benchmark, config)
    entrants = {"one": trial.entrant("one"), "two": trial.entrant("two"), "gap": trial.entrant("one", missing=True)}
    scores = benchmark.score(trial.questions, entrants, config, 0, REPLICATES)
    require(
        scores == benchmark.score(trial.questions, entrants, config, 0, REPLICATES), "score() is not a pure function"
    )
    require(set(scores) == set(entrants), f"scores of {sorted(scores)}, entrants were {sorted(entrants)}")
    metrics = [metric.id for metric in benchmark.metrics]
    for name, row in scores.items():
        require([score.metric for score in row] == metrics, f"{name} has scores of {[s.metric for s in row]}")
        for score in row:
            total = f"{score.metric}: {score.n} questions count and {score.unscored} do not, of {len(trial.questions)}"
            require(score.n + score.unscored == len(trial.questions), total)
            if score.value is None:
                require(score.note, f"{score.metric} has no value, and its note does not say why")
            elif score.low is not None and score.high is not None:
                shown = f"{score.metric} = {score.value} lies outside of its interval {score.low} to {score.high}"
                # Percentiles of equal replicates differ from the value by rounding.
                require(score.low - 1e-9 <= score.value <= score.high + 1e-9, shown)
            require_json(_plain(score), f"the score {score.metric}")
    require(
        all(score.unscored > 0 for score in scores["gap"]), "a question without a verdict is not counted as unscored"
    )
    return f"{counted(len(metrics), 'metric')} of 3 models, one of them without a verdict on a question"


def check_card(benchmark: Benchmark, config: Any) -> str:
    """The protocol behind the number, complete."""
    card = benchmark.card(config)
    require(card.benchmark, "the card names no benchmark")
    require(card.version, "the card names no version of the protocol")
    good = card.prompt_hash == "none" or re.fullmatch(r"[0-9a-f]{12}", card.prompt_hash)
    require(good, f"prompt_hash is {card.prompt_hash!r}: 12 hex digits, or none where rules decide")
    require(card.prompt_hash != "none" or not benchmark.judged, "a judged benchmark must have a prompt_hash")
    require_json(dict(card.parameters), "the card's parameters")
    return f"{card.benchmark}, {card.version}; {counted(len(card.deviations), 'deviation')}"


def _plain(value: Any) -> Any:
    """As it is written to a file: tuples are lists there."""
    return _lists(dataclasses.asdict(value))


def _lists(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _lists(item) for key, item in value.items()}
    return [_lists(item) for item in value] if isinstance(value, list | tuple) else value


CHECKS: Mapping[str, Callable[[Benchmark, Any], str]] = {
    "options": options_check("judge"),
    "facts": check_facts,
    "questions": check_questions,
    "answers": check_answers,
    "requests": check_requests,
    "replies": check_parse,
    "score": check_score,
    "card": check_card,
}
