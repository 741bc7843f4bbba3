"""Stage ``judge``: which failures are judgments without verdict for good, and which leave the stage undone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from distilbench.plugins import load_registry
from harness.api_key import ApiKey
from harness.contracts.judge import AskOptions, JudgeError, refuse_failures
from harness.contracts.stage import Cost
from harness.errors import PERMANENT, UserError
from harness.plan.plan import make_plan
from harness.recipe.recipe import load_recipe
from harness.records import read_records, write_records
from harness.stages.kinds.judge import FINAL, read_judgment
from harness.types import Judgment, Reply, Request
from judges.benchmarks.mt_bench import BENCHMARK, MTBenchConfig
from judges.client.ask import ask
from judges.kinds.openai.judge import OpenAIConfig, OpenAIJudge
from judges.kinds.openai.responses import read_body
from tests.fakes.server import FakeServer

REPLY = Reply("[[7]]", "stop", "j", 1, 1)


@pytest.mark.parametrize("kind", ["empty", "bad-reply", "server", "timeout", "rate-limit", "truncated"])
def test_what_may_pass_leaves_the_stage_undone_unless_it_is_accepted(kind: str) -> None:
    with pytest.raises(
        UserError, match=f"1 of 3 judge calls failed .1 {kind}.: the first: no. 2 replies are kept;.* accept them"
    ):
        refuse_failures(
            [REPLY, JudgeError("refused", "no"), JudgeError(kind, "no")], FINAL, "judge calls", False, " accept them"
        )
    refuse_failures([REPLY, JudgeError(kind, "no")], FINAL, "judge calls", accept=True)


def test_of_several_failures_the_one_that_repeats_and_its_setting_come_first() -> None:
    setting = JudgeError("model", "HTTP 400: no", remedy="set leave_out: [temperature]")
    outcomes = [JudgeError("timeout", "late"), JudgeError("model", "not asked, no"), setting, REPLY]
    with pytest.raises(UserError) as error:
        refuse_failures(outcomes, FINAL, "judge calls")
    first = "3 of 4 judge calls failed (1 timeout, 2 model): set leave_out: [temperature]. The first: HTTP 400: no."
    assert str(error.value).startswith(f"{first} 1 replies are kept; {PERMANENT}: ")
    assert str(setting) == "HTTP 400: no (set leave_out: [temperature])"


def test_a_server_that_hides_its_thinking_up_to_the_limit_gave_no_verdict_and_is_not_asked_again() -> None:
    body: dict[str, Any] = {
        "choices": [{"message": {"content": ""}, "finish_reason": "length"}],
        "usage": {"completion_tokens": 64},
    }
    reply = read_body(body, ApiKey("K"))
    judgment = read_judgment(BENCHMARK, Request("81", "turn1", (), 64), reply, MTBenchConfig())
    assert judgment.verdict is None and "thinking_tokens" in str(judgment.reason)
    body["choices"][0]["finish_reason"] = "stop"
    with pytest.raises(JudgeError, match="no text"):
        read_body(body, ApiKey("K"))


def test_half_a_character_in_a_reply_does_not_stop_the_judging(tmp_path: Path) -> None:
    """The reply is paid for and in the ledger: its judgment must be writable, today and whenever it is read again."""
    request = Request("81", "turn1", ({"role": "user", "content": "rate"},), 16)
    half = json.loads('"nice \\ud83d [[7]]"')
    with FakeServer(lambda _: Reply(half, "stop", half, 5, 5, {half: -0.1})) as server:
        judge = OpenAIJudge(OpenAIConfig(model="fake", base_url=server.base_url))
        for _ in range(2):
            (reply,) = ask(judge, [request], tmp_path / "l.sqlite", AskOptions())
            assert isinstance(reply, Reply)
            assert reply.text == reply.model == "nice \ufffd [[7]]" and reply.first_token == {reply.text: -0.1}
            write_records(tmp_path / "j.jsonl", [read_judgment(BENCHMARK, request, reply, MTBenchConfig())])
            assert read_records(tmp_path / "j.jsonl", Judgment)[0].verdict == 7.0
    assert server.calls.total() == 1


def test_the_plan_prices_half_of_the_thoughts_of_a_judge() -> None:
    """442 calls (200 AlpacaEval, 2 x 120 Arena-Hard, 2 turns of 1 MT-Bench question), 1,000 tokens of thinking each.

    Half of them count, at a dollar per million tokens of the reply and nothing for the prompt: 442 x 500 / 1e6 = 0.221.
    """
    registry = load_registry()

    def dollars(**more: Any) -> float:
        judge = {"kind": "openai", "model": "m", "base_url": "http://x/v1", "price_in": 0, "price_out": 1, **more}
        entry = ", ".join(f"{name}: {value}" for name, value in judge.items())
        sets = [f"judges={{main: {{{entry}}}}}", "benchmarks.mt_bench.limit=1", "seeds=[0]"]
        plan = make_plan(load_recipe("pocket", sets, registry), registry, ("student",))
        price = Cost.total(plan.costs(plan.stages))
        assert price.judge_calls == 200 + 240 + 2 and price.dollars is not None
        return price.dollars

    assert dollars(thinking_tokens=1000) - dollars() == pytest.approx(0.221)


def test_a_verdict_on_a_prompt_that_the_server_cut_is_flagged() -> None:
    request = Request("q", "turn1", ({"role": "user", "content": "some word " * 1200},), 8)
    replies = [Reply("[[8]]", "stop", "m", count, 3) for count in (3000, 1024)]
    whole, cut = (read_judgment(BENCHMARK, request, reply, MTBenchConfig()) for reply in replies)
    assert (whole.flags, cut.flags, cut.verdict) == ((), ("prompt-cut",), 8.0)
