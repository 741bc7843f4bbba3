"""A model behind a server, as ``ChatModel``: asked for answers only, through the same client and ledger as judges.

So answers that were paid for survive a crash, an interrupted run asks only for the rest, and budgets hold. The seed
enters the ledger's key as the repeat index: another seed asks anew, the same one never does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from harness.contracts.judge import AskOptions, JudgeError, JudgeKind
from harness.contracts.model import Sampling
from harness.contracts.registry import Registry
from harness.errors import UserError
from harness.models.chat import Messages
from harness.stages.context import build
from harness.types import Reply, Request, Response

NO_TEXT = frozenset({"refused", "empty"})
"""Kinds of failure that are answers without text: the endpoint's filter, or the model's silence."""


@dataclass(frozen=True)
class Endpoint:
    """A way to reach a model, as plain data: a kind of judge and its options."""

    kind: str
    config: Mapping[str, Any]

    def identity(self, registry: Registry) -> dict[str, Any]:
        """What decides its answers."""
        kind = registry.judges[self.kind]
        return {"kind": self.kind, **kind.identity(build(kind.config, self.config))}


class EndpointModel:
    """``ChatModel`` over an ``Endpoint``. ``progress`` is told (done, total)."""

    def __init__(
        self,
        endpoint: Endpoint,
        registry: Registry,
        ledger: Path,
        options: AskOptions,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.endpoint, self.registry, self.ledger, self.options = endpoint, registry, ledger, options
        self.progress = progress
        self.name = str(endpoint.config.get("model", endpoint.kind))

    @property
    def _kind(self) -> JudgeKind[Any]:
        return self.registry.judges[self.endpoint.kind]

    def generate(
        self, conversations: Sequence[Messages], sampling: Sampling, seed: int, n: int = 1
    ) -> list[list[Response]]:
        """n answers to each conversation, in order. Raises UserError when calls failed; the others are kept."""
        requests = [
            Request(
                str(number), "answer", tuple(dict(message) for message in talk), sampling.max_new_tokens,
                sampling.temperature, repeat=seed + draw,
            )
            for number, talk in enumerate(conversations)
            for draw in range(n)
        ]  # fmt: skip
        config = self._config(sampling)
        done = 0

        def answered(more: int) -> None:
            nonlocal done
            done += more
            if self.progress:
                self.progress(done, len(requests))

        kind = self._kind
        options = replace(self.options, price=partial(kind.price, config), thinking=kind.thinking(config))
        outcomes = self.registry.ask(kind.make(config), requests, self.ledger, options, answered)
        refuse_failures(self.name, outcomes)
        responses = [response(outcome) for outcome in outcomes]
        return [responses[start : start + n] for start in range(0, len(responses), n)]

    def _config(self, sampling: Sampling) -> Any:
        values = dict(self.endpoint.config)
        if sampling.top_p < 1:
            values["extra_body"] = {**values.get("extra_body", {}), "top_p": sampling.top_p}
        return build(self._kind.config, values)

    def mean_logps(self, conversations: Sequence[Messages], responses: Sequence[Response]) -> NoReturn:
        """Not offered."""
        self._refuse("log-probabilities of given texts")

    def choice_logps(self, conversations: Sequence[Messages], choices: Sequence[str]) -> NoReturn:
        """Not offered."""
        self._refuse("probabilities of letters")

    def cut(self, text: str, max_tokens: int) -> NoReturn:
        """Not offered."""
        self._refuse("tokens of a text")

    def first_token(self, conversations: Sequence[Messages], k: int) -> NoReturn:
        """Not offered."""
        self._refuse("first tokens")

    def _refuse(self, what: str) -> NoReturn:
        raise UserError(f"{self.name} is reached through a server and gives answers only, not {what}; load it instead.")


def response(outcome: Reply | JudgeError) -> Response:
    """A reply as an answer; what gave no text is an empty answer, and judged as one."""
    if isinstance(outcome, JudgeError):
        return Response("", finished=True, tokens=0)
    return Response(outcome.text, finished=outcome.finish_reason != "length", tokens=outcome.completion_tokens)


def refuse_failures(name: str, outcomes: Sequence[Reply | JudgeError]) -> None:
    """Raise UserError for answers that did not come: the next run asks only for them."""
    failed = [each for each in outcomes if isinstance(each, JudgeError) and each.kind not in NO_TEXT]
    if not failed:
        return
    if all(each.kind == "pending" for each in failed):
        raise UserError(
            f"{len(failed)} of {len(outcomes)} answers of {name} are in batch jobs ({failed[0]}). Run the same command "
            "again later to collect them."
        )
    raise UserError(
        f"{len(failed)} of {len(outcomes)} answers of {name} did not come (the first: {failed[0].kind}, {failed[0]}). "
        f"{len(outcomes) - len(failed)} are kept; run the same command again to ask only for the rest."
    )
