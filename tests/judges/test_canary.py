"""The canary: rounds are kept apart, agreement by hand, and a judge that changes is seen."""

import math
from dataclasses import replace

import pytest

from harness.contracts.judge import AskOptions, JudgeError
from harness.types import Reply, Request
from judges.client.canary import CanaryRound, agreement, ask_round, canary, rounds, verdict


class Judge:
    """Prefers the better answer with probability ``sure`` (or the first one, if it is biased), and grades by length."""

    endpoint, name, model = "in-process:canary", "canary", "canary-1"

    def __init__(self, sure=0.9, served="canary-1", dead=False):
        self.sure, self.served, self.dead, self.calls = sure, served, dead, 0

    async def complete(self, request):
        self.calls += 1
        if self.dead:
            raise JudgeError("auth", "no key")
        if request.question.startswith("grade"):
            grade = 9 if request.part == "good" else 2
            return Reply(f"[[{grade}]]", "stop", self.served, 50, 5)
        first = self.sure if request.part == "good-first" else 1 - self.sure
        return Reply("m", "stop", self.served, 50, 1, {"m": math.log(first), "M": math.log(1 - first)})

    def check(self):
        return None


def test_rounds_are_asked_anew_and_kept_apart(tmp_path):
    path, judge = tmp_path / "l.sqlite", Judge()
    first, _ = ask_round(judge, path, AskOptions())
    second, _ = ask_round(judge, path, AskOptions())
    assert (first.number, second.number, judge.calls) == (0, 1, 32)
    assert rounds(judge, path) == [first, second]
    assert str(agreement(first, second)) == "16 of 16 verdicts are the same, mean shift 0.000"


def test_a_judge_that_changes_under_its_name_is_seen(tmp_path):
    """From 0.9 to 0.6: the same side still, shifted by 0.3 in 12 of 16 verdicts: 12 x 0.3 / 16 = 0.225."""
    path = tmp_path / "l.sqlite"
    before, _ = ask_round(Judge(0.9), path, AskOptions())
    softer, _ = ask_round(Judge(0.6, served="canary-1-quantised"), path, AskOptions())
    assert agreement(before, softer).same_count == 16
    assert agreement(before, softer).shift == pytest.approx(0.225)
    assert (before.served, softer.served) == (("canary-1",), ("canary-1-quantised",))
    turned, _ = ask_round(Judge(0.2), path, AskOptions())  # all 12 pairs on the other side, the 4 grades as before
    assert (agreement(before, turned).same_count, agreement(before, turned).judged_count) == (4, 16)


def test_a_round_that_did_not_come_through_is_no_round(tmp_path):
    path = tmp_path / "l.sqlite"
    now, outcomes = ask_round(Judge(dead=True), path, AskOptions())
    assert set(now.verdicts) == {None} and len(outcomes) == 16
    assert rounds(Judge(), path) == []
    assert ask_round(Judge(), path, AskOptions())[0].number == 0


def test_a_verdict_in_one_round_only_is_a_disagreement():
    one = CanaryRound(0, (0.9, None, *[None] * 14), ("m",), True)
    two = CanaryRound(1, (0.8, 0.4, *[None] * 14), ("m",), True)
    assert agreement(one, two).same_count == 1 and agreement(one, two).judged_count == 2
    assert agreement(one, two).shift == pytest.approx(0.1)


def test_verdicts_from_tokens_and_grades():
    pair, grade = canary(0)[0], canary(0)[-1]
    reply = Reply("m", "stop", "x", 1, 1, {"m": math.log(0.3), "M": math.log(0.1), "the": math.log(0.5)})
    assert verdict(pair, reply) == pytest.approx(0.75)  # 0.3 / (0.3 + 0.1)
    assert verdict(grade, replace(reply, text="[[7.5]]")) == 0.75
    assert verdict(grade, replace(reply, text="7")) is None
    assert verdict(pair, JudgeError("server", "x")) is None


def test_each_request_of_a_round_differs():
    texts = {request.messages[0]["content"] for request in canary(0)}
    assert len(texts) == len(canary(0)) == 16
    assert all(isinstance(request, Request) and request.repeat == 1_000_003 for request in canary(3))
