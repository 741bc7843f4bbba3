"""Checks of a kind of judge against its contract (``harness/contracts/judge.py``).

They ask the judge two questions. It need not be reachable: a judge that cannot be asked must fail in the right way.
"""

from __future__ import annotations

import asyncio
from typing import Final, TypeVar

from harness.checks.finding import Checks, Failed, options_check, repeatable, require, require_json
from harness.contracts.judge import ERROR_KINDS, Judge, JudgeError, JudgeKind
from harness.types import Reply, Request

C = TypeVar("C")

SECONDS: Final = 120.0
"""How long one question may take."""
MESSAGES: Final = (
    {"role": "user", "content": "Which is better, A or B? Reply with [[A]] or [[B]].\n\nA: yes\n\nB: no"},
)
REQUESTS: Final = (
    Request("check", "label", MESSAGES, max_tokens=16),
    Request("check", "token", MESSAGES, max_tokens=1, temperature=1.0, top_logprobs=5, repeat=1),
)


def check_identity(kind: JudgeKind[C], config: C) -> str:
    """Plain JSON, the same twice: it decides the key of the judgments."""
    identity = repeatable(lambda: dict(kind.identity(config)), "identity()")
    require_json(identity, "identity()")
    require(identity, "identity() is empty: two judges of this kind would share their judgments")
    return ", ".join(identity)


def check_names(kind: JudgeKind[C], config: C) -> str:
    """Endpoint and model are the key of the ledger: the same for each judge of the same options."""
    one, other = kind.make(config), kind.make(config)
    for name in ("name", "endpoint", "model"):
        value: object = getattr(one, name)
        require(isinstance(value, str) and value, f"the judge's {name} is {value!r}, not a text")
        require(value == getattr(other, name), f"two judges of the same options differ in {name}")
    return f"{one.model} at {one.endpoint}"


def check_price(kind: JudgeKind[C], config: C) -> str:
    """Dollars grow with the tokens, or are unknown."""
    first, *rest = (kind.price(config, tokens, tokens) for tokens in (0, 1000, 2000))
    thinking: object = kind.thinking(config)
    require(isinstance(thinking, int) and thinking >= 0, f"thinking() is {thinking!r}, not a number of tokens")
    require(all(isinstance(note, str) for note in kind.notes(config)), "notes() must give texts")
    if first is None:
        require(rest == [None, None], f"price() knows the price of some calls only: {rest}")
        return "unknown: budgets in dollars are refused"
    known = [price for price in rest if price is not None]
    rises = first == 0 and len(known) == 2 and 0 <= known[0] <= known[1]
    require(rises, f"0, 1000 and 2000 tokens cost {first}, {rest}")
    return f"${known[0]:g} for 1000 prompt and 1000 completion tokens"


def check_reachable(kind: JudgeKind[C], config: C) -> str:
    """``check`` says whether the judge can be asked; it raises nothing."""
    problem: object = kind.make(config).check()
    require(problem is None or (isinstance(problem, str) and problem), f"check() gives {problem!r}")
    return "the judge can be asked" if problem is None else f"the judge cannot be asked now: {problem}"


def check_replies(kind: JudgeKind[C], config: C) -> str:
    """A complete reply, or a JudgeError of a known kind; nothing else ever."""
    outcomes = [outcome(kind.make(config), request) for request in REQUESTS]
    for result in outcomes:
        if isinstance(result, JudgeError):
            known = ", ".join(sorted(ERROR_KINDS))
            require(result.kind in ERROR_KINDS, f"a JudgeError of the kind {result.kind!r}; known are {known}")
            continue
        if not isinstance(result, Reply):
            raise Failed(f"complete() gives a {type(result).__name__}, not a Reply")
        require(isinstance(result.text, str), "the reply's text is no text")
        require(result.text or result.first_token, "an empty reply must be a JudgeError of the kind 'empty'")
        require(min(result.prompt_tokens, result.completion_tokens) >= 0, "a reply counts less than 0 tokens")
        for logp in (result.first_token or {}).values():
            # Some servers round, and a certain token then comes a little above 0.
            require(logp <= 1e-6, f"a log-probability of the first token is {logp}, above 0")
    return "; ".join(f"{result.kind}: {result}" if isinstance(result, JudgeError) else "a reply" for result in outcomes)


def outcome(judge: Judge, request: Request) -> object:
    async def ask() -> object:
        return await asyncio.wait_for(judge.complete(request), SECONDS)

    try:
        return asyncio.run(ask())
    except JudgeError as error:
        return error


CHECKS: Checks = {
    "options": options_check("kind"),
    "identity": check_identity,
    "names": check_names,
    "price": check_price,
    "reachable": check_reachable,
    "replies": check_replies,
}
