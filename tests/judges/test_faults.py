"""Every fault on 5% of 2,000 calls, and kill -9 in the middle: the same verdicts, and no paid call twice."""

import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from harness.contracts.judge import AskOptions, JudgeError
from harness.types import Reply, Request
from judges.benchmarks.alpaca_eval.benchmark import read_token
from judges.client.ask import Pace, ask
from judges.kinds.openai.judge import OpenAIConfig, OpenAIJudge
from judges.ledger.ledger import Ledger, request_key
from tests.command import environment
from tests.fakes.server import COMPLETE, FakeServer, shares

CALLS = 2000
PASSING = ("rate-limit", "rate-limit-wait", "server-500", "overloaded-503", "hang", "reset", "truncated", "broken-json")
STAYING = ("no-choices", "content-filter", "context", "wrong-label", "no-logprobs", "other-model")
"""What the endpoint would say again; a fault that every call would meet (a wrong key) has tests of its own."""
DRAWN = shares(dict.fromkeys((*PASSING, *STAYING), 0.05), seed=5)
QUICK = Pace(first=0.02, longest=0.2, patience=20)
OPTIONS = AskOptions(concurrency=32, max_concurrency=32, timeout=20)

ASKER = """
import sys
from pathlib import Path
from judges.client.ask import ask
from judges.kinds.openai.judge import OpenAIConfig, OpenAIJudge
from tests.judges.test_faults import OPTIONS, QUICK, requests
judge = OpenAIJudge(OpenAIConfig(model="fake", base_url=sys.argv[1]))
ask(judge, requests(), Path(sys.argv[2]), OPTIONS, pace=QUICK)
"""


def requests():
    return [
        Request(f"q{n}", "preference", ({"role": "user", "content": f"question {n}"},), 1, top_logprobs=5)
        for n in range(CALLS)
    ]


def choose(content, visit):
    """Passing faults come at the first call, staying ones always."""
    fault = DRAWN(content, 0)
    return fault if fault in STAYING or visit == 0 else None


def respond(request):
    number = int(request.messages[0]["content"].split()[1])
    return Reply("m", "stop", "fake", 10, 1, {"m": -0.1 - number / CALLS, "M": -2.4})


def table(outcomes):
    """What a benchmark makes of each outcome: a verdict, or its named failure."""
    return [
        f"call failed: {outcome.kind}" if isinstance(outcome, JudgeError) else (read_token(outcome), outcome.model)
        for outcome in outcomes
    ]


@pytest.mark.slow
def test_all_faults_and_kill_9_end_in_the_same_verdicts(tmp_path):
    with FakeServer(respond, choose, hang=0.3) as server:
        judge = OpenAIJudge(OpenAIConfig(model="fake", base_url=server.base_url))
        whole = table(ask(judge, requests(), tmp_path / "whole.sqlite", OPTIONS, pace=QUICK))
        assert set(server.faults) == {*PASSING, *STAYING}
        for fault in PASSING:  # 5% of 2,000, give or take four standard deviations of 9.7
            assert 60 <= server.faults[fault] <= 140, fault
        assert set(server.answered.values()) == {1}
        contents = [request_key("", "", request) for request in requests()]
        kinds = Counter(DRAWN(content, 0) for content in contents)
        failed = Counter(row for row in whole if isinstance(row, str))
        assert failed == {
            "call failed: empty": kinds["no-choices"],
            "call failed: refused": kinds["content-filter"],
            "call failed: context": kinds["context"],
        }
        unread = sum(not isinstance(row, str) and row[0].value is None for row in whole)
        assert unread == kinds["wrong-label"]

    with FakeServer(respond, choose, hang=0.3) as server:
        path = tmp_path / "killed.sqlite"
        words = [sys.executable, "-c", ASKER, server.base_url, str(path)]
        process = subprocess.Popen(words, stderr=subprocess.DEVNULL, env=environment())
        deadline = time.monotonic() + 300
        while server.answered.total() < CALLS // 3 and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
        time.sleep(0.5)  # what the server still sends to nobody
        with Ledger(path) as ledger:
            kept = ledger.served_models()
        stored = sum(line.replies for line in kept)
        sent = server.answered.total()
        assert CALLS // 4 < stored <= sent < CALLS
        judge = OpenAIJudge(OpenAIConfig(model="fake", base_url=server.base_url))
        assert table(ask(judge, requests(), path, OPTIONS, pace=QUICK)) == whole
        twice = sum(count - 1 for count in server.answered.values())
        assert twice <= sent - stored <= 2 * OPTIONS.concurrency  # only what was under way when it died
        assert set(COMPLETE) <= set(server.faults)
