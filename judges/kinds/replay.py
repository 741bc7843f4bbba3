"""Judge kind ``replay``: answers only from the ledger of an earlier run; asks nobody and costs nothing.

Endpoint and model are those the replies were stored under; ``distilbench judge status`` lists them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.contracts.judge import CallOutcome, JudgeError, JudgeKind
from harness.contracts.options import options
from harness.errors import UserError
from harness.types import Reply, Request
from judges.client.ask import ChunkJudge
from judges.ledger.ledger import Ledger, request_key


@options
class ReplayConfig:
    ledger: str
    """The ledger's file (``.sqlite``)."""
    endpoint: str
    """Endpoint under which the replies were stored (options that follow ``#`` included)."""
    model: str
    """Model id that was asked for."""


class ReplayJudge(ChunkJudge):
    name = "replay"
    chunk = 500

    def __init__(self, config: ReplayConfig) -> None:
        # Endpoint and model of the original, so that ledger keys are the same.
        self.config, self.endpoint, self.model = config, config.endpoint, config.model

    def complete_many(self, requests: Sequence[Request]) -> list[CallOutcome]:
        keys = [request_key(self.endpoint, self.model, request) for request in requests]
        with Ledger(Path(self.config.ledger), create=False) as ledger:
            replies = ledger.get(keys)
        return [replies.get(key) or self._missing_reply(request) for key, request in zip(keys, requests, strict=True)]

    async def complete(self, request: Request) -> Reply:
        """The stored reply. Raises JudgeError of kind ``missing`` when there is none, or no ledger."""
        try:
            return await super().complete(request)
        except UserError as error:  # for one call it is a reply that is missing; ``complete_many`` ends the run
            raise JudgeError("missing", str(error)) from None

    def check(self) -> str | None:
        try:
            with Ledger(Path(self.config.ledger), create=False) as ledger:
                judges = {(line.endpoint, line.model) for line in ledger.served_models()}
        except UserError as error:
            return str(error)
        if (self.endpoint, self.model) in judges:
            return None
        choices = "; ".join(f"{model} at {endpoint}" for endpoint, model in sorted(judges)) or "nothing"
        return f"{self.config.ledger} holds no reply of {self.model} at {self.endpoint}. It holds: {choices}."

    def _missing_reply(self, request: Request) -> JudgeError:
        return JudgeError(
            "missing",
            f"{self.config.ledger} holds no reply to {request.question!r} {request.part} (repeat {request.repeat}); "
            "the prompt, the answer or a parameter differs from the run that was judged, or it was never judged.",
        )


class ReplayKind(JudgeKind[ReplayConfig]):
    name = "replay"
    summary = "stored replies of an earlier run's ledger; asks nobody"
    config = ReplayConfig

    def make(self, config: ReplayConfig) -> ReplayJudge:
        return ReplayJudge(config)

    def identity(self, config: ReplayConfig) -> dict[str, str]:
        """Endpoint and model of the original: replies are keyed by content, so their place decides nothing."""
        return {"endpoint": config.endpoint, "model": config.model}

    def price(self, config: ReplayConfig, prompt_tokens: int, completion_tokens: int) -> float:
        return 0.0


JUDGE = ReplayKind()
