"""Judge kind ``pocket``: a rule with noise and biases of stated size, in the reply formats of real judges.

It scores the answers in prompts of ``judges/benchmarks/pocket_prompts.py`` by the pocket world's own rule
(``harness.pocket.scorer``). The log-odds that it prefers the first answer (m, A) to the second:

    u = sharpness * (score_1 - score_2) + position_bias + length_bias * tanh((words_1 - words_2) / length_scale)
        + self_preference * (mean_logp_1 - mean_logp_2) + signature_bias * (signed_1 - signed_2)
        + noise * z,    z ~ N(0, 1) fixed by the request and the seed
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import cached_property
from typing import Final

from harness.contracts.judge import JudgeKind
from harness.contracts.model import ChatModel
from harness.contracts.options import NotNegative, Positive, Seed, Signed, options, require
from harness.models.backends import load_model
from harness.models.checkpoint import resolve
from harness.pocket.scorer import score
from harness.pocket.tasks import UnknownInstruction, recognise
from harness.types import Json, Message, Reply, Request, Response
from judges.benchmarks.pocket_prompts import Grade, Pair, read_prompt
from judges.ledger.ledger import request_key

MODEL: Final = "pocket-judge-1"  # raised when the same request gets another reply
NO_VERDICT: Final = "I cannot judge this."
_SELDOM: Final = math.log(0.01)  # log-probability of a token besides the expected one when there is nothing to judge


@options
class PocketConfig:
    """How the pocket judge judges. Biases are log-odds: +1 turns a toss-up into 73% for the favoured answer."""

    sharpness: NotNegative = 8.0
    """Log-odds per unit of difference between the two answers' scores (which lie in 0..1)."""
    noise: NotNegative = 0.5
    """Standard deviation of the Gaussian noise on the log-odds."""
    position_bias: Signed = 0.0
    """Log-odds in favour of the answer that is shown first."""
    length_bias: Signed = 0.0
    """Log-odds in favour of an answer that is very much longer (it saturates as tanh)."""
    length_scale: Positive = 10.0
    """Difference in words at which the length bias has three quarters of its full effect."""
    self_preference: Signed = 0.0
    """Log-odds per nat of mean log-probability that the model ``favours`` gives one answer more than the other."""
    favours: str = "pocket:teacher"
    """The model whose own style it prefers; loaded only if ``self_preference`` is not 0."""
    signature_bias: Signed = 0.0
    """Log-odds in favour of an answer that contains ``signature``: self-preference by a habit of its own family."""
    signature: str = ""
    """Words by which answers of its family are recognised (case is ignored)."""
    tie: NotNegative = 0.5
    """Labels: log-odds within which the answers are about equal, ``[[A=B]]``."""
    much: NotNegative = 3.0
    """Labels: log-odds beyond which one is much better, ``[[A>>B]]``."""
    grade_noise: NotNegative = 0.7
    """Standard deviation of the Gaussian noise on a grade from 1 to 10, before rounding; scaled with the width of
    another scale."""
    seed: Seed = 0
    """Seed of the noise. The same request always gets the same reply; another repeat or seed is another draw. Judges
    with the same seed share their draws, whatever else differs: give judges that you compare different seeds."""

    def __post_init__(self) -> None:
        has_signature = bool(self.signature.strip()) or not self.signature_bias
        require(has_signature, "signature_bias needs the words that it favours: signature")
        require(self.much >= self.tie, f"much ({self.much}) must be at least tie ({self.tie})")


class PocketJudge:
    """The rule as a judge in this process. Never fails: what it cannot read gets a reply without a verdict."""

    name = "pocket"
    model = MODEL

    def __init__(self, config: PocketConfig = PocketConfig()) -> None:
        self.config = config
        settings = JUDGE.identity(config)
        self.endpoint = "in-process:pocket?" + "&".join(f"{name}={value}" for name, value in settings.items())

    @cached_property
    def favoured_model(self) -> ChatModel:
        return load_model(self.config.favours)

    async def complete(self, request: Request) -> Reply:
        return self.reply(request)

    def check(self) -> str | None:
        return None

    def reply(self, request: Request) -> Reply:
        """A pure function of the request and the config."""
        prompt = read_prompt(request.messages)
        # Seeded by the content: the same request gets the same reply in every process and order.
        rng = random.Random(request_key(MODEL, str(self.config.seed), request))
        # An instruction of another world gets no verdict, like a prompt of another world.
        with suppress(UnknownInstruction):
            if isinstance(prompt, Grade):
                return _reply(request, self._grade(prompt, rng))
            if isinstance(prompt, Pair):
                log_odds = self.log_odds(prompt) + self.config.noise * rng.gauss(0.0, 1.0)
                if prompt.kind == "label":
                    return _reply(request, self._label(log_odds))
                return _reply(request, *_token(log_odds, request.temperature, rng))
        # Log-probabilities that favour neither, after what the judge says.
        return _reply(request, NO_VERDICT, {NO_VERDICT.split()[0]: math.log(0.98), "m": _SELDOM, "M": _SELDOM})

    def log_odds(self, pair: Pair) -> float:
        """Log-odds, without noise, that the first answer is preferred. Raises UnknownInstruction."""
        config = self.config
        quality = _quality(pair.turns, pair.first) - _quality(pair.turns, pair.second)
        words = sum(len(answer.split()) for answer in pair.first) - sum(len(answer.split()) for answer in pair.second)
        utility = config.sharpness * quality + config.position_bias
        utility += config.length_bias * math.tanh(words / config.length_scale)
        if config.signature_bias:
            signature = config.signature.strip().lower()
            first, second = (any(signature in answer.lower() for answer in side) for side in (pair.first, pair.second))
            utility += config.signature_bias * (first - second)
        if config.self_preference:
            utility += config.self_preference * self._own_style(pair)
        return utility

    def _own_style(self, pair: Pair) -> float:
        """Mean log-probability per token of the first answer less that of the second, nats, under ``favours``."""
        sides = (pair.first, pair.second)
        conversations = [talk for answers in sides for talk in _conversations(pair.turns, answers)]
        responses = [Response(answer, finished=True, tokens=0) for answers in sides for answer in answers]
        values = self.favoured_model.mean_logps(conversations, responses)
        turn_count = len(pair.turns)
        return (sum(values[:turn_count]) - sum(values[turn_count:])) / turn_count

    def _label(self, log_odds: float) -> str:
        if abs(log_odds) <= self.config.tie:
            return "Both replies do about equally well. [[A=B]]"
        strength, sign = ("far better", ">>") if abs(log_odds) > self.config.much else ("better", ">")
        better, worse = ("A", "B") if log_odds > 0 else ("B", "A")
        return f"The reply of {better} is {strength} than the other one. [[{better}{sign}{worse}]]"

    def _grade(self, prompt: Grade, rng: random.Random) -> str:
        conversation = _conversations(prompt.turns, prompt.answers)[-1]
        low, high = prompt.scale
        width = high - low
        noise = self.config.grade_noise * (width / 9) * rng.gauss(0.0, 1.0)
        grade = min(high, max(low, round(low + width * score(conversation, prompt.answers[-1]) + noise)))
        words = "good" if grade - low >= 7 / 9 * width else "mixed" if grade - low >= 3 / 9 * width else "poor"
        return f"The reply is {words} in content and form. [[{grade}]]"


def _conversations(turns: Sequence[str], answers: Sequence[str]) -> list[list[Message]]:
    """What stood before each answer: all turns up to its own, with the answers given so far."""
    talk: list[Message] = []
    for turn, answer in zip(turns, answers, strict=True):
        talk += [{"role": "user", "content": turn}, {"role": "assistant", "content": answer}]
    return [talk[:end] for end in range(1, len(talk), 2)]


def _quality(turns: Sequence[str], answers: Sequence[str]) -> float:
    """Mean score of the answers, 0..1."""
    scores = [score(talk, answer) for talk, answer in zip(_conversations(turns, answers), answers, strict=True)]
    return sum(scores) / len(scores)


def _token(log_odds: float, temperature: float, rng: random.Random) -> tuple[str, dict[str, float]]:
    """The token, m or M, and the log-probability of each, whatever the temperature: drawn above 0, greedy at 0."""
    prefers_first = rng.random() < math.exp(-_softplus(-log_odds / temperature)) if temperature > 0 else log_odds >= 0
    return ("m" if prefers_first else "M"), {"m": -_softplus(-log_odds), "M": -_softplus(log_odds)}


def _softplus(x: float) -> float:
    """log(1 + exp(x)) without overflow."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def _reply(request: Request, text: str, logprobs: Mapping[str, float] | None = None) -> Reply:
    """The text as an endpoint would return it: cut at the token limit (a token is a word), usage counted."""
    words = text.split(" ")
    reply_words = words[: request.max_tokens]
    finish = "length" if len(words) > len(reply_words) else "stop"
    prompt_tokens = sum(len(message["content"].split()) for message in request.messages)
    by_probability = sorted((logprobs or {words[0]: 0.0}).items(), key=lambda pair: -pair[1])
    first_token = dict(by_probability[: request.top_logprobs]) if request.top_logprobs else None
    return Reply(" ".join(reply_words), finish, MODEL, prompt_tokens, len(reply_words), first_token)


class PocketKind(JudgeKind[PocketConfig]):
    name = "pocket"
    summary = "the pocket world's rule with noise and biases of stated size; in process, no key"
    config = PocketConfig

    def make(self, config: PocketConfig) -> PocketJudge:
        return PocketJudge(config)

    def identity(self, config: PocketConfig) -> dict[str, Json]:
        """Every option decides verdicts, and so does the content of the favoured model where there is one."""
        values: dict[str, Json] = {"rule": MODEL, **asdict(config)}
        # An option that is not at work must not part judges that give the same verdicts.
        del values["favours"]
        if config.self_preference:
            values["favours"] = resolve(config.favours).fingerprint
        if not config.signature_bias:
            del values["signature"], values["signature_bias"]
        return values

    def price(self, config: PocketConfig, prompt_tokens: int, completion_tokens: int) -> float:
        return 0.0

    def objection(self, config: PocketConfig, request: Request) -> str:
        prompt = read_prompt(request.messages)
        if prompt is None:
            return "the pocket judge reads distilbench's own judge prompts alone"
        try:
            recognise([{"role": "user", "content": prompt.turns[0]}])
        except UnknownInstruction:
            return "the pocket judge knows tasks of the pocket world alone"
        return ""

    def length_words(self, config: PocketConfig) -> float:
        return float(config.length_scale)


JUDGE = PocketKind()
