"""What judges in this process share: they answer many requests at once, and cost nothing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TypeVar

from harness.contracts.judge import JudgeError, JudgeKind, Outcome
from harness.types import Reply, Request

C = TypeVar("C")


class InProcessJudge(ABC):
    chunk: int
    """Requests per call of ``complete_many``, and between two writes to the ledger."""

    @abstractmethod
    def complete_many(self, requests: Sequence[Request]) -> list[Outcome]:
        """One outcome per request, in order. Raises UserError when no request can be answered."""

    async def complete(self, request: Request) -> Reply:
        (outcome,) = self.complete_many([request])
        if isinstance(outcome, JudgeError):
            raise outcome
        return outcome


class InProcessKind(JudgeKind[C]):
    def price(self, config: C, prompt_tokens: int, completion_tokens: int) -> float:
        return 0.0
