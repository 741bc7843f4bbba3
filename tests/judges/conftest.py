"""What the tests of the benchmarks share: a model that says what it is told, and the assets or a skip that says why."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.contracts.model import Sampling
from harness.types import Response


class Scripted:
    """A ``ChatModel`` whose reply is a function of the conversation; remembers how it was asked."""

    name = "scripted"

    def __init__(self, say: Callable[[Sequence[Any]], str], finished: bool = True) -> None:
        self.say = say
        self.finished = finished
        self.calls: list[tuple[list[Any], Sampling, int]] = []

    def generate(self, conversations: Sequence[Any], sampling: Sampling, seed: int, n: int = 1) -> list[list[Response]]:
        talks = [[dict(message) for message in talk] for talk in conversations]
        self.calls.append((talks, sampling, seed))
        return [[Response(self.say(talk), self.finished, len(self.say(talk).split()) + 1)] * n for talk in talks]


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
