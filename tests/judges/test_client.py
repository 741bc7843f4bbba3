"""The client: nothing asked twice, nothing lost, retries, giving way to 429, stopping at a dead judge, speed."""

import asyncio
import collections
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from harness.contracts.judge import AskOptions, JudgeError
from harness.errors import UserError
from harness.types import Reply, Request
from judges.client.adaptive_limit import AdaptiveLimit
from judges.client.ask import Asking, Pace, ask
from judges.client.budget import Budget
from judges.kinds.openai.judge import OpenAIConfig, OpenAIJudge
from judges.kinds.replay import ReplayConfig, ReplayJudge
from judges.ledger.ledger import Ledger, request_key
from tests.fakes.server import FakeServer

QUICK = Pace(first=0.01, longest=0.05, patience=0.2)


def requests(count):
    return [
        Request(f"q{n}", "game1", ({"role": "user", "content": f"question {n}"},), 1, top_logprobs=5)
        for n in range(count)
    ]


def respond(request):
    return Reply("m", "stop", "fake", 10, 1, {"m": -0.1, "M": -2.4} if request.top_logprobs else None)


class ScriptedJudge:
    """Plays the outcomes given per question, then answers; counts its calls."""

    name, endpoint, model = "scripted", "in-process:scripted", "scripted"

    def __init__(self, outcomes=None, always=None, seconds=0.0):
        self.outcomes, self.always, self.seconds = outcomes or {}, always, seconds
        self.calls = collections.Counter()
        self.active = self.busiest = 0

    async def complete(self, request):
        self.calls[request.question] += 1
        self.active += 1
        self.busiest = max(self.busiest, self.active)
        try:
            if self.seconds:
                await asyncio.sleep(self.seconds)
        finally:
            self.active -= 1
        left = self.outcomes.get(request.question, [])
        kind = left.pop(0) if left else self.always
        if kind is not None:
            raise kind if isinstance(kind, JudgeError) else JudgeError(kind, f"scripted {kind}")
        return replace(respond(request), text=request.question)

    def check(self):
        return None


def run(judge, many, tmp_path, progress=None, pace=QUICK, **options):
    many = requests(many) if isinstance(many, int) else many
    return ask(judge, many, tmp_path / "l.sqlite", AskOptions(**options), progress, pace=pace)


def test_outcomes_stand_in_order_and_equal_requests_are_asked_once(tmp_path):
    judge, steps = ScriptedJudge(), []
    twice = [*requests(5), *(replace(request, part="game2", meta={"swapped": True}) for request in requests(5))]
    outcomes = ask(judge, twice, tmp_path / "l.sqlite", AskOptions(), steps.append)
    assert [outcome.text for outcome in outcomes] == [f"q{n}" for n in range(5)] * 2
    assert set(judge.calls.values()) == {1}
    assert sum(steps) == 10


def test_stored_replies_are_not_asked_again(tmp_path):
    judge = ScriptedJudge()
    first = run(judge, 5, tmp_path)
    steps = []
    assert run(judge, 7, tmp_path, steps.append)[:5] == first
    assert judge.calls.total() == 7
    assert steps == [5, 1, 1]


@pytest.mark.parametrize("kind", ["rate-limit", "server", "timeout", "connection", "truncated"])
def test_failures_that_may_pass_are_retried_and_logged(tmp_path, kind, caplog):
    caplog.set_level("INFO")
    judge = ScriptedJudge({"q1": [kind] * 3})
    outcomes = run(judge, 3, tmp_path, retries=3)
    assert [outcome.text for outcome in outcomes] == ["q0", "q1", "q2"]
    assert judge.calls["q1"] == 4
    lines = [record.getMessage() for record in caplog.records if record.name == "judges.client.ask"]
    assert [line.split(" in ")[0] for line in lines] == [
        f"{judge.model}: scripted {kind}; asked again ({number})" for number in (1, 2, 3)
    ]


@pytest.mark.parametrize(
    ("kind", "calls"),
    [("server", 3), ("rate-limit", 3), ("empty", 2), ("refused", 1), ("bad-reply", 1), ("missing", 1)],
)
def test_a_failure_is_returned_after_its_tries_and_never_stored(tmp_path, kind, calls):
    judge = ScriptedJudge({"q1": [kind] * 9})
    options = AskOptions(retries=2)
    outcomes = ask(judge, requests(3), tmp_path / "l.sqlite", options, pace=QUICK)
    assert isinstance(outcomes[1], JudgeError)
    assert outcomes[1].kind == kind
    assert judge.calls == {"q0": 1, "q1": calls, "q2": 1}
    with Ledger(tmp_path / "l.sqlite") as ledger:
        assert (ledger.served_models()[0].replies, ledger.failures()) == (2, {kind: 1})
    judge.outcomes.clear()
    assert [outcome.text for outcome in ask(judge, requests(3), tmp_path / "l.sqlite", options)] == ["q0", "q1", "q2"]
    assert judge.calls == {"q0": 1, "q1": calls + 1, "q2": 1}


@pytest.mark.parametrize("kind", ["auth", "model"])
def test_what_every_call_would_meet_stops_the_asking(tmp_path, kind):
    judge = ScriptedJudge({"q6": [kind]})
    outcomes = run(judge, 500, tmp_path, concurrency=4, max_concurrency=4)
    assert judge.calls.total() <= 12
    failed = [outcome for outcome in outcomes if isinstance(outcome, JudgeError)]
    assert {error.kind for error in failed} == {kind}
    assert len(failed) == 501 - judge.calls.total()  # all that was answered before is kept
    assert str(failed[-1]) == f"not asked, because the judge failed before: scripted {kind}"


@pytest.mark.parametrize("kind", ["connection", "timeout", "rate-limit", "server"])
def test_a_dead_judge_does_not_cost_hours(tmp_path, kind):
    judge = ScriptedJudge(always=kind)
    outcomes = run(judge, 2000, tmp_path)
    assert {outcome.kind for outcome in outcomes} == {kind}
    assert judge.calls.total() < 400  # rounds of 16 with pauses between them, for 0.2 s
    assert "calls in a row failed" in str(outcomes[-1])


def test_an_outage_shorter_than_the_patience_loses_nothing(tmp_path):
    start = time.monotonic()

    class Restarting(ScriptedJudge):
        async def complete(self, request):
            if time.monotonic() - start < 0.5:
                raise JudgeError("connection", "refused")
            return await super().complete(request)

    pace = Pace(first=0.05, longest=0.2, patience=5)
    outcomes = ask(Restarting(), requests(300), tmp_path / "l.sqlite", AskOptions(retries=8), pace=pace)
    assert all(isinstance(outcome, Reply) for outcome in outcomes)


def test_a_quota_for_hours_stops_the_asking(tmp_path):
    judge = ScriptedJudge({"q0": [JudgeError("rate-limit", "daily limit", retry_after=40_000)]})
    outcomes = run(judge, 100, tmp_path, concurrency=1)
    assert "asked to wait 40000 s" in str(outcomes[99])


def test_retry_after_is_honoured_by_all(tmp_path):
    judge = ScriptedJudge({"q0": [JudgeError("rate-limit", "slow down", retry_after=0.4)]})
    start = time.monotonic()
    outcomes = run(judge, 40, tmp_path, concurrency=2)
    assert time.monotonic() - start >= 0.4
    assert all(isinstance(outcome, Reply) for outcome in outcomes)


def test_retry_after_counts_for_the_request_itself(tmp_path, caplog):
    """The backoff is 0.01 s here; the endpoint asked for 0.3."""
    caplog.set_level("INFO")
    judge = ScriptedJudge({"q0": [JudgeError("server", "busy", retry_after=0.3)]})
    run(judge, 1, tmp_path)
    assert [line for line in caplog.messages if "asked again" in line] == ["scripted: busy; asked again (1) in 0.3 s"]


@pytest.mark.parametrize(("kind", "whole"), [("server", True), ("timeout", True), ("rate-limit", False)])
def test_only_too_many_requests_shrink_the_gate(tmp_path, kind, whole):
    """8 at a time and one failure: a 429 halves it to 4, and 8 more answers let it grow by 1 or 2, not to 8."""
    many = {str(number): request for number, request in enumerate(requests(8))}
    judge, options = ScriptedJudge({"q7": [kind]}), AskOptions(concurrency=8, max_concurrency=8)
    with Ledger(tmp_path / "l.sqlite") as ledger:
        asking = Asking(many, Budget(judge, ledger, options), QUICK, lambda key: None)
        outcomes = asyncio.run(asking.work())
    assert all(isinstance(outcome, Reply) for outcome in outcomes.values())
    assert asking.limit.limit == 8 if whole else 4 <= asking.limit.limit <= 6


def test_concurrency_is_bounded_and_used(tmp_path):
    judge = ScriptedJudge(seconds=0.01)
    run(judge, 200, tmp_path, concurrency=5, max_concurrency=20)
    assert judge.busiest == 20


def test_the_gate_halves_once_per_burst_and_grows_by_one_per_window():
    async def play():
        limit = AdaptiveLimit(16)
        started = [await limit.enter() for _ in range(16)]
        await asyncio.sleep(0.001)
        for moment in started:
            limit.note_throttling(moment)  # one burst: these calls all started before the first cut
            limit.leave()
        limits = [limit.limit]
        for _ in range(8 + 9):  # a window of 8 successes, then one of 9
            limit.note_success(0.1)
            limits.append(limit.limit)
        limit.note_throttling(asyncio.get_running_loop().time() + 1)
        return [limits[0], limits[7], limits[8], limits[16], limits[17], limit.limit]

    assert asyncio.run(play()) == [8, 8, 9, 9, 10, 5]


def test_the_gate_doubles_per_window_while_the_endpoint_keeps_up():
    limit = AdaptiveLimit(4, 20)
    for _ in range(4 + 8 + 16):  # windows of 4, 8 and 16 calls at the same speed: 4 -> 8 -> 16 -> 20
        limit.note_success(0.1)
    assert limit.limit == 20
    slow = AdaptiveLimit(4, 100)
    for _ in range(4):
        slow.note_success(0.1)
    for _ in range(8):  # the second window is sent before anybody knows: it still grows, but for its last call
        slow.note_success(0.25)
    for _ in range(60):  # 0.25 s is more than twice 0.1 s: the endpoint queues what it gets
        slow.note_success(0.25)
    assert slow.limit == 8 + 7


def test_a_call_that_is_cancelled_in_a_pause_gives_its_place_back():
    async def play():
        limit = AdaptiveLimit(1)
        limit.pause(60)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(limit.enter(), 0.01)
        limit.resume_at = 0.0
        await asyncio.wait_for(limit.enter(), 1)

    asyncio.run(play())


def test_a_request_that_takes_too_long_is_a_timeout(tmp_path):
    judge = ScriptedJudge(seconds=5)
    outcomes = run(judge, 1, tmp_path, timeout=0.05, retries=0)
    assert (outcomes[0].kind, outcomes[0].message) == ("timeout", "no reply within 0.05 s")
    assert outcomes[0].remedy.startswith("raise ask.timeout")


def test_a_broken_judge_or_ledger_is_not_hidden(tmp_path):
    class Broken(ScriptedJudge):
        async def complete(self, request):
            raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError):
        run(Broken(), 3, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="judge ledger"):
        ask(ScriptedJudge(), requests(3), tmp_path / "file" / "l.sqlite", AskOptions())


def test_it_runs_where_a_loop_is_running(tmp_path):
    async def notebook():
        return run(ScriptedJudge(), 2, tmp_path)

    assert [outcome.text for outcome in asyncio.run(notebook())] == ["q0", "q1"]


def test_batches_go_through_the_same_ledger_and_retries(tmp_path):
    sizes = []

    class Batched(ScriptedJudge):
        chunk = 8

        def complete_many(self, requests):
            sizes.append(len(requests))
            fails = self.outcomes
            return [JudgeError(fails[r.question].pop(), "x") if fails.get(r.question) else respond(r) for r in requests]

    judge = Batched({"q3": ["server"], "q9": ["refused"]})
    outcomes = run(judge, 20, tmp_path)
    assert sizes[:2] == [8, 8]
    assert sum(sizes) == 21  # one was tried twice
    assert [n for n, outcome in enumerate(outcomes) if isinstance(outcome, JudgeError)] == [9]


def test_two_askers_of_one_ledger_agree(tmp_path):
    """The other process answers while ours is under way: its reply was first, so it is the one that counts."""

    class Raced(ScriptedJudge):
        async def complete(self, request):
            with Ledger(tmp_path / "l.sqlite") as other:
                key = next(iter(wanted))
                other.put(key, self.endpoint, self.model, replace(respond(request), text="theirs"))
            return await super().complete(request)

    wanted = [request_key(Raced.endpoint, Raced.model, requests(1)[0])]
    assert run(Raced(), 1, tmp_path)[0].text == "theirs"


def test_what_another_process_has_asked_since_is_not_asked_again(tmp_path):
    path = tmp_path / "l.sqlite"
    keys = [request_key(ScriptedJudge.endpoint, ScriptedJudge.model, request) for request in requests(3)]

    class Overtaken(ScriptedJudge):
        async def complete(self, request):
            with Ledger(path) as other:
                other.put(keys[2], self.endpoint, self.model, replace(respond(request), text="theirs"))
            return await super().complete(request)

    judge = Overtaken()
    outcomes = ask(judge, requests(3), path, AskOptions(concurrency=1, max_concurrency=1))
    assert [outcome.text for outcome in outcomes] == ["q0", "q1", "theirs"]
    assert judge.calls == {"q0": 1, "q1": 1}


def test_two_who_ask_the_same_at_once_share_the_calls(tmp_path):
    """What one of them is asking the other waits for, also where it fails at first."""
    judges = [ScriptedJudge({"q1": ["server"]}, seconds=0.03) for _ in range(2)]
    options = AskOptions(concurrency=4, max_concurrency=4)

    def run(judge):
        return ask(judge, requests(40), tmp_path / "l.sqlite", options, pace=QUICK)

    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(run, judges)
    assert [outcome.text for outcome in one] == [outcome.text for outcome in two] == [f"q{n}" for n in range(40)]
    calls = judges[0].calls + judges[1].calls
    assert {name: count for name, count in calls.items() if count > 1}.keys() <= {"q1"}
    assert calls["q1"] <= 3  # its failure with the one, perhaps with the other too, and its reply
    with Ledger(tmp_path / "l.sqlite") as ledger:
        assert ledger._db.execute("SELECT COUNT(*) FROM claims").fetchone() == (0,)


def test_replay_answers_from_another_ledger_and_names_what_is_missing(tmp_path):
    stored = ask(ScriptedJudge(), requests(5), tmp_path / "old.sqlite", AskOptions())
    judge = ReplayJudge(ReplayConfig(str(tmp_path / "old.sqlite"), "in-process:scripted", "scripted"))
    assert judge.check() is None
    outcomes = ask(judge, requests(7), tmp_path / "new.sqlite", AskOptions())
    assert outcomes[:5] == stored
    assert [outcome.kind for outcome in outcomes[5:]] == ["missing"] * 2
    wrong = ReplayJudge(ReplayConfig(str(tmp_path / "old.sqlite"), "in-process:scripted", "gpt"))
    assert "It holds: scripted at in-process:scripted" in str(wrong.check())
    assert "no judge ledger" in str(ReplayJudge(ReplayConfig(str(tmp_path / "no.sqlite"), "e", "m")).check())


ASKER = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background hands down that it is ignored
from pathlib import Path
from harness.contracts.judge import AskOptions
from harness.types import Request
from judges.client.ask import ask
from judges.kinds.openai.judge import OpenAIConfig, OpenAIJudge
texts = [({"role": "user", "content": f"question {n}"},) for n in range(120)]
requests = [Request("q", "game1", text, 1, top_logprobs=5) for text in texts]
judge = OpenAIJudge(OpenAIConfig(model="fake", base_url=sys.argv[1]))
ask(judge, requests, Path(sys.argv[2]), AskOptions(concurrency=4, max_concurrency=4))
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_killed_in_the_middle_and_run_again_no_stored_call_is_repeated(tmp_path, end):
    path, resume = tmp_path / "l.sqlite", threading.Event()

    def held(request):
        if server.answered.total() >= 40:  # the asker dies here, with its calls under way
            resume.wait(60)
        return respond(request)

    with FakeServer(held) as server:
        process = subprocess.Popen([sys.executable, "-c", ASKER, server.base_url, str(path)], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while server.calls.total() < 44 and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(end)
        process.wait(timeout=60)
        resume.set()
        assert process.returncode != 0
        before = server.calls.copy()
        assert 40 <= before.total() < 120
        with Ledger(path) as ledger:
            stored = ledger.served_models()[0].replies
        assert stored >= before.total() - 8  # 4 under way, and at most 4 that came back in the last turn of the loop
        judge = OpenAIJudge(OpenAIConfig(model="fake", base_url=server.base_url))
        outcomes = ask(judge, requests(120), path, AskOptions(concurrency=4, max_concurrency=4))
        assert all(isinstance(outcome, Reply) for outcome in outcomes)
        assert len(server.calls) == 120
        assert server.calls.total() - before.total() == 120 - stored  # exactly those that were not stored


def test_ten_thousand_calls_in_process_cost_little(tmp_path):
    """Processor time, because a busy machine says nothing about us: 1.2 s measured, 0.12 ms per call."""
    start = time.process_time()
    run(ScriptedJudge(), 10_000, tmp_path)
    assert time.process_time() - start < 6
