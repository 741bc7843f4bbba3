"""A judge that thinks aloud has one verdict, however it is asked: live, in batch jobs, in process, from a ledger."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.contracts.judge import AskOptions, Judge
from harness.stages.kinds.judge import read_judgment
from harness.types import Judgment, Reply, Request, Response
from judges.benchmarks.mt_bench import BENCHMARK, MTBenchConfig
from judges.client.ask import ask
from judges.kinds.openai.judge import OpenAIConfig, OpenAIJudge
from judges.kinds.replay import ReplayConfig, ReplayJudge
from judges.kinds.transformers import TransformersJudge
from tests.fakes.server import FakeServer

TEXTS = {
    "tags": "<think>a [[3]]</think>\nRating: [[9]]",
    "opening in the prompt": "a [[3]]</think>\nRating: [[9]]",
    "channels": "<|channel|>analysis<|message|>a [[3]]<|end|><|channel|>final<|message|>Rating: [[9]]",
    "cut": "<think>a [[3]]",
}
REQUEST = Request("q", "turn1", ({"role": "user", "content": "x"},), 9)


def in_process(text: str) -> TransformersJudge:
    judge = TransformersJudge.__new__(TransformersJudge)
    judge.endpoint, judge.model, judge.chunk = "in-process:transformers:f", "m", 4
    # As R1's template does: the prompt ends with the opening mark.
    opening = "" if text.startswith("<") else "<think>"
    rows = [[Response(text, True, 9)]]
    model: Any = SimpleNamespace(
        context=None, opening=opening, generate=lambda talks, sampling, seed: rows * len(talks)
    )
    judge.__dict__["chat_model"] = model
    return judge


@pytest.fixture
def make_judge(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[[str], Judge]]:
    """A judge of the kind that the test names, which says this text."""
    texts: list[str] = []
    with FakeServer(lambda asked: Reply(texts[0], "stop", "fake", 1, 1)) as server:

        def make(text: str) -> Judge:
            texts[:] = [text]
            if request.param == "transformers":
                return in_process(text)
            judge = OpenAIJudge(
                OpenAIConfig(model="fake", base_url=server.base_url, batch=request.param == "batch", batch_wait=30)
            )
            if judge.jobs:
                judge.jobs.poll = 0.01
            if request.param == "replay":
                ask(judge, [REQUEST], tmp_path / "old.sqlite", AskOptions())
                return ReplayJudge(ReplayConfig(str(tmp_path / "old.sqlite"), judge.endpoint, judge.model))
            return judge

        yield make


def judgment_of(judge: Judge, ledger: Path) -> Judgment:
    (reply,) = ask(judge, [REQUEST], ledger, AskOptions())
    assert isinstance(reply, Reply)
    return read_judgment(BENCHMARK, REQUEST, reply, MTBenchConfig())


@pytest.mark.parametrize("make_judge", ["live", "batch", "replay", "transformers"], indirect=True)
@pytest.mark.parametrize("form", TEXTS)
def test_the_verdict_is_read_after_the_thinking(make_judge: Callable[[str], Judge], form: str, tmp_path: Path) -> None:
    judgment = judgment_of(make_judge(TEXTS[form]), tmp_path / "new.sqlite")
    assert judgment.thinking == "a [[3]]"
    assert judgment.verdict == (None if form == "cut" else 9.0)
    assert judgment.flags == (("thinking-cut",) if form == "cut" else ())


def test_a_stop_at_the_token_limit_is_a_cut(tmp_path: Path) -> None:
    """Some servers say "stop" of every reply; of thinking without a mark, others of the model tell what it is."""
    texts = iter([("a</think>Rating: [[9]]", 5), ("[[3]]", REQUEST.max_tokens)])

    def answer(asked: Any) -> Reply:
        text, count = next(texts)
        return Reply(text, "stop", "fake", 1, count)

    with FakeServer(answer) as server:
        judge = OpenAIJudge(OpenAIConfig(model="fake", base_url=server.base_url))
        requests = [replace(REQUEST, repeat=number) for number in range(2)]
        replies = ask(judge, requests, tmp_path / "l.sqlite", AskOptions(concurrency=1, max_concurrency=1))
    assert [(reply.text, reply.finish_reason) for reply in replies if isinstance(reply, Reply)] == [
        ("Rating: [[9]]", "stop"),
        ("", "length"),
    ]


def test_a_batch_line_may_hold_thinking_in_a_field_or_a_part() -> None:
    judge = OpenAIJudge(OpenAIConfig(model="fake", base_url="http://x/v1", batch=True))
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "[[3]]"}]}, {"type": "text", "text": "[[9]]"}]
    messages = [{"content": "[[9]]", "reasoning_content": "[[3]]"}, {"content": parts}]
    bodies = [{"choices": [{"message": message, "finish_reason": "stop"}]} for message in messages]
    lines = [
        json.dumps({"custom_id": str(number), "response": {"status_code": 200, "body": body}})
        for number, body in enumerate(bodies)
    ]
    assert judge.jobs is not None
    replies: Any = dict(judge.jobs._outcomes(["\n".join(lines)]))
    assert [(replies[key].text, replies[key].thinking) for key in "01"] == [("[[9]]", "[[3]]")] * 2
