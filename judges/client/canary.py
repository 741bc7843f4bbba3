"""A canary: a few fixed questions put to a judge again and again, to see whether it is still the judge it was.

Each round asks the same requests under repeat indices of its own, so the ledger keeps all rounds. The texts are ours:
six pairs of answers, one token with log-probabilities each way round, and four grades.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Final, NamedTuple

from harness.contracts.judge import AskOptions, Billing, CallOutcome, Judge
from harness.types import Reply, Request
from judges.benchmarks.alpaca_eval.benchmark import read_token
from judges.benchmarks.mt_bench import read_rating
from judges.client.ask import ask
from judges.ledger.ledger import Ledger, request_key

FIRST_ROUND: Final = 1_000_000  # repeat index of round 0: benchmarks never ask that often

_PAIRS: Final = (
    ("Name three primary colours.", "Red, yellow and blue.", "Colours are nice. Green is one, and so is brown."),
    ("What is 17 + 26?", "17 + 26 = 43.", "17 + 26 = 33."),
    ("Write a polite refusal to a dinner invitation in one sentence.",
     "Thank you so much for the invitation; sadly I cannot come that evening.", "No."),
    ("Give a synonym of 'rapid'.", "Swift.", "Rapid means that something happens at high speed, for example a train."),
    ("Which is heavier, a kilogram of iron or a kilogram of feathers?",
     "Neither: both weigh one kilogram.", "The iron, because iron is a heavy metal."),
    ("Explain in one sentence why the sky is blue.",
     "Air scatters short, blue waves of sunlight far more than long, red ones.",
     "Because it reflects the colour of the sea."),
)  # fmt: skip
_CHOOSE: Final = (
    "Two answers to an instruction follow. Reply with m if the first is better and with M if the second is better. "
    "Reply with this one letter only.\n\nInstruction: {question}\n\nAnswer m: {first}\n\nAnswer M: {second}"
)
_GRADE: Final = (
    "Grade the answer to the instruction from 1 (useless) to 10 (perfect). Reply with the grade in double square "
    "brackets, like [[5]], and nothing else.\n\nInstruction: {question}\n\nAnswer: {answer}"
)


def canary(number: int) -> list[Request]:
    """One round: both orders of every pair, and a grade of both answers of the first two."""

    def request(question: str, part: str, text: str, max_tokens: int, top_logprobs: int) -> Request:
        messages = ({"role": "user", "content": text},)
        return Request(question, part, messages, max_tokens, 0.0, top_logprobs, repeat=FIRST_ROUND + number)

    pairs = [
        request(f"pair{index}", part, _CHOOSE.format(question=question, first=first, second=second), 1, 5)
        for index, (question, better, worse) in enumerate(_PAIRS, 1)
        for part, first, second in (("good-first", better, worse), ("bad-first", worse, better))
    ]
    grades = [
        request(f"grade{index}", part, _GRADE.format(question=question, answer=answer), 16, 0)
        for index, (question, better, worse) in enumerate(_PAIRS[:2], 1)
        for part, answer in (("good", better), ("bad", worse))
    ]
    return pairs + grades


def verdict(request: Request, reply: CallOutcome | None) -> float | None:
    """Probability of m (pairs, 0..1) or the grade as a share of 10; ``None`` where there is none."""
    if not isinstance(reply, Reply):
        return None
    if request.question.startswith("pair"):
        return read_token(reply).value
    rating = read_rating(reply.text).value
    return None if rating is None else rating / 10


@dataclass(frozen=True)
class CanaryRound:
    """One round's verdicts, in the order of ``canary``."""

    number: int
    verdicts: tuple[float | None, ...]
    served: tuple[str, ...]  # model ids that the endpoint says it served
    logprobs: bool  # whether pairs came with log-probabilities


class RoundAgreement(NamedTuple):
    """Requests with one side or grade in two rounds, of those judged in either; mean absolute difference (0..1)."""

    same_count: int
    judged_count: int
    shift: float | None

    def __str__(self) -> str:
        shift = "" if self.shift is None else f", mean shift {self.shift:.3f}"
        return f"{self.same_count} of {self.judged_count} verdicts are the same{shift}"


def agreement(earlier: CanaryRound, later: CanaryRound) -> RoundAgreement:
    """How far a judge agrees with its earlier self. A verdict in one round only is a disagreement."""
    names = [request.question for request in canary(0)]
    rows = list(zip(names, earlier.verdicts, later.verdicts, strict=True))
    pairs = [(name, a, b) for name, a, b in rows if a is not None and b is not None]
    agreements = sum(a == b if name.startswith("grade") else (a > 0.5) == (b > 0.5) for name, a, b in pairs)
    verdict_count = sum(a is not None or b is not None for _, a, b in rows)
    return RoundAgreement(agreements, verdict_count, fmean(abs(a - b) for _, a, b in pairs) if pairs else None)


def rounds(judge: Judge, ledger: Path) -> list[CanaryRound]:
    """All rounds that the ledger holds of this judge; none where there is no ledger yet."""
    earlier: list[CanaryRound] = []
    if not ledger.is_file():
        return earlier
    with Ledger(ledger, create=False) as open_ledger:
        while True:
            requests = canary(len(earlier))
            keys = [request_key(judge.endpoint, judge.model, request) for request in requests]
            if not (replies := open_ledger.get(keys)):
                return earlier
            earlier.append(_read_round(len(earlier), requests, list(map(replies.get, keys))))


def ask_round(
    judge: Judge, ledger: Path, options: AskOptions, billing: Billing = Billing()
) -> tuple[CanaryRound, list[CallOutcome]]:
    """Ask one more round. A round in which no call came through is not counted: the next one takes its number."""
    requests = canary(number := len(rounds(judge, ledger)))
    outcomes = ask(judge, requests, ledger, options, billing=billing)
    return _read_round(number, requests, outcomes), outcomes


def _read_round(number: int, requests: Sequence[Request], outcomes: Sequence[CallOutcome | None]) -> CanaryRound:
    replies = [outcome for outcome in outcomes if isinstance(outcome, Reply)]
    served_models = tuple(sorted({reply.model for reply in replies}))
    return CanaryRound(
        number, tuple(map(verdict, requests, outcomes)), served_models, any(reply.first_token for reply in replies)
    )
