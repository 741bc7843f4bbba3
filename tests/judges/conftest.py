"""What the tests of the benchmarks share: a model that says what it is told, and the assets or a skip that says why."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from harness.contracts.model import Sampling
from harness.models.fake import FakeModel
from harness.types import Messages, Response


class Scripted(FakeModel):
    """A model whose reply is a function of the conversation; remembers how it was asked."""

    def __init__(self, say: Callable[[Messages], str]) -> None:
        super().__init__("scripted", lambda messages, seed: say(messages))
        self.calls: list[tuple[list[Messages], Sampling, int]] = []

    def generate(
        self, conversations: Sequence[Messages], sampling: Sampling, seed: int, n: int = 1
    ) -> list[list[Response]]:
        self.calls.append(([[dict(message) for message in talk] for talk in conversations], sampling, seed))
        return super().generate(conversations, sampling, seed, n)


@pytest.fixture
def scripted() -> type[Scripted]:
    return Scripted


@pytest.fixture
def assets() -> Path:
    """The folder of official files; skips, saying how to have it, when there is none."""
    named = os.environ.get("DISTILBENCH_ASSETS")
    if not named:
        pytest.skip("DISTILBENCH_ASSETS is unset: set it to the folder of `distilbench assets pull`")
    folder = Path(named)
    if not folder.is_dir():
        pytest.skip(f"DISTILBENCH_ASSETS names {folder}, which is no folder")
    return folder
