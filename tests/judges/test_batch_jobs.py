"""Batch jobs against the fake server: submit, leave, collect; untidy result files; a job whose making got lost."""

import asyncio
import json
import time
from types import SimpleNamespace

import pytest

from harness.contracts.judge import AskOptions, Billing, ConfiguredJudge, JudgeError
from harness.types import Reply, Request
from judges.client.ask import ask
from judges.kinds.openai.judge import JUDGE, OpenAIConfig, OpenAIJudge
from judges.ledger.ledger import Ledger, StoredBatch
from tests.fakes.server import FakeServer, shares


def requests(count):
    return [
        Request(f"q{n}", "preference", ({"role": "user", "content": f"question {n}"},), 1, top_logprobs=5)
        for n in range(count)
    ]


def respond(request):
    number = int(request.messages[0]["content"].split()[1])
    return Reply("m", "stop", "fake", 100 + number, 1, {"m": -0.1, "M": -2.4})


def run(server, count, path, wait=0.0, billing=Billing(), prices=None, **limits):
    config = OpenAIConfig(model="fake", base_url=server.base_url, batch=True, batch_wait=wait, **(prices or {}))
    judge = OpenAIJudge(config)
    judge.jobs.poll = 0.01
    return ask(judge, requests(count), path, AskOptions(**limits), billing=billing)


_PRICES = {"price_in": 1e6, "price_out": 1e6}
PRICED = {"prices": _PRICES, "billing": ConfiguredJudge(JUDGE, OpenAIConfig("fake", batch=True, **_PRICES)).billing()}
"""A dollar a token, and half of it for a batch."""


def kinds(outcomes):
    return [outcome.kind if isinstance(outcome, JudgeError) else "reply" for outcome in outcomes]


def test_submit_leave_collect_later(tmp_path):
    path = tmp_path / "l.sqlite"
    with FakeServer(respond) as server:
        server.batches.looks = 2
        first = run(server, 5, path)
        assert kinds(first) == ["pending"] * 5
        assert "batch_1: handed over now, 5 requests" in str(first[0])
        assert "in_progress, 0 of 5 done" in str(run(server, 5, path)[0])  # the first look
        third = run(server, 7, path)  # two more than before: only they go into a second job
        assert kinds(third) == ["reply"] * 5 + ["pending"] * 2
        assert [reply.prompt_tokens for reply in third[:5]] == [100 + n for n in range(5)]  # in order, though reordered
        run(server, 7, path)
        assert kinds(run(server, 7, path)) == ["reply"] * 7
        assert (server.batches.made, set(server.answered.values())) == (2, {1})
        live = ask(OpenAIJudge(OpenAIConfig(model="fake", base_url=server.base_url)), requests(7), path, AskOptions())
        assert kinds(live) == ["reply"] * 7  # the same keys: what a job brought counts for calls too
        assert server.calls.total() == 7


def test_waiting_instead_of_leaving(tmp_path):
    with FakeServer(respond) as server:
        server.batches.looks = 3
        assert kinds(run(server, 3, tmp_path / "l.sqlite", wait=30)) == ["reply"] * 3


@pytest.mark.parametrize(
    ("role", "url", "field"), [("user", "chat/completions", "messages"), ("plain", "completions", "prompt")]
)
def test_a_job_goes_to_the_route_of_its_requests(monkeypatch, role, url, field):
    """Text without a chat template (GSM8K's prompt_form=plain) is continued, by a job as by a call."""
    sent = {}

    class Files:
        async def create(self, file, purpose):
            sent["line"] = json.loads(file[1])
            return SimpleNamespace(id="file-1")

    class Batches:
        async def create(self, **fields):
            sent["endpoint"] = fields["endpoint"]
            return SimpleNamespace(id="batch_1")

    client = SimpleNamespace(with_options=lambda **_: SimpleNamespace(files=Files(), batches=Batches()))
    judge = OpenAIJudge(OpenAIConfig(model="fake", batch=True))
    monkeypatch.setattr(judge.jobs, "_client", lambda: client)
    request = Request("q", "answer", ({"role": role, "content": "2 + 2 ="},), 8)
    assert asyncio.run(judge.jobs.submit({"key": request}, "token")) == "batch_1"
    assert sent["endpoint"] == sent["line"]["url"] == f"/v1/{url}" and field in sent["line"]["body"]


def test_untidy_result_files_lose_nothing(tmp_path):
    """Lines twice, none, half or expired: all are answered in the end, and only what was not is asked again."""
    faults = ("duplicate-line", "missing-line", "broken-line", "expired-line", "content-filter", "server-500")
    path = tmp_path / "l.sqlite"
    with FakeServer(respond, shares(dict.fromkeys(faults, 0.1), seed=3)) as server:
        first = run(server, 200, path, wait=30)
        assert set(server.faults) == set(faults)
        assert set(kinds(first)) == {"reply", "refused", "server"}  # the other faults were repaired by a second job
        assert kinds(first).count("refused") == server.faults["content-filter"]
        assert kinds(first).count("server") == server.faults["server-500"]
        assert server.batches.made == 2
        assert kinds(run(server, 200, path, wait=30)) == ["reply"] * 200  # failures are asked again by the next run
        again = server.faults["missing-line"] + server.faults["broken-line"]  # paid, but lost by the endpoint
        assert server.answered.total() == 200 + again
        assert [r.prompt_tokens for r in run(server, 200, path)] == [100 + n for n in range(200)]


def test_a_reply_outdoes_a_failure_wherever_it_stands():
    """One key has a failure and a reply, in both orders and in either file: the reply was paid for."""
    judge = OpenAIJudge(OpenAIConfig(model="fake", base_url="http://x/v1", batch=True))
    body = {"choices": [{"message": {"content": "m"}, "finish_reason": "stop"}]}
    reply = json.dumps({"custom_id": "a", "response": {"status_code": 200, "body": body}})
    failure = json.dumps({"custom_id": "a", "response": {"status_code": 500, "body": {"error": {"message": "busy"}}}})
    for texts in ([reply, failure], [failure, reply], [f"{reply}\n{failure}"], [f"{failure}\n{reply}"]):
        assert dict(judge.jobs._outcomes(texts))["a"].text == "m"
    assert dict(judge.jobs._outcomes([failure]))["a"].kind == "server"


def test_lines_of_any_form_are_named_not_trusted():
    judge = OpenAIJudge(OpenAIConfig(model="fake", base_url="http://x/v1", batch=True))
    limited = {"error": {"code": 429, "message": "too many"}}
    responses = [
        {"status_code": "odd", "body": None},
        {"status_code": 200, "body": limited},
        [1],
        {"status_code": 1e400},
    ]
    lines = [json.dumps({"custom_id": str(number), "response": each}) for number, each in enumerate(responses)]
    found = dict(judge.jobs._outcomes(["\n".join(lines)]))
    assert {key: outcome.kind for key, outcome in found.items()} == {"0": "server", "1": "rate-limit", "3": "server"}


def test_calls_in_jobs_count_and_those_refused_are_no_failures(tmp_path):
    """Ten calls are allowed: 8 lie in a job, so 8 more do not fit; when they have come, 2 more do."""
    path, limits = tmp_path / "l.sqlite", {"max_calls": 10, "billing": Billing(start_time=time.time() - 1)}
    with FakeServer(respond) as server:
        server.batches.looks = 2
        assert kinds(run(server, 8, path, **limits)) == ["pending"] * 8
        more = run(server, 16, path, **limits)
        assert kinds(more) == ["pending"] * 8 + ["budget"] * 8
        with Ledger(path) as ledger:
            assert (ledger.failures(), ledger.spending(0)[1]) == ({}, 0)
        assert kinds(run(server, 10, path, **limits)) == ["reply"] * 8 + ["pending"] * 2
        assert kinds(run(server, 11, path, **limits))[10] == "budget"
        assert server.batches.made == 2


def test_two_processes_hand_the_same_requests_over_once(tmp_path):
    """The second one begins while the first one's file goes up: its job is noted, but has no id yet."""
    path, second = tmp_path / "l.sqlite", []
    with FakeServer(respond) as server:
        post = server.batches.post

        def upload(handler):
            if not second:
                second.append("begun")
                second[:] = kinds(run(server, 7, path))
            return post(handler)

        server.batches.post = upload
        assert kinds(run(server, 5, path)) == ["pending"] * 5
        assert (second, server.batches.made) == (["pending"] * 7, 2)  # 5 are in the making, 2 are its own
        assert kinds(run(server, 7, path)) == ["reply"] * 7
        assert set(server.answered.values()) == {1}


def test_a_line_without_text_is_paid_for(tmp_path):
    """100 tokens read and 1 written, at half of a dollar each: $50.5, though there is nothing to read."""
    with FakeServer(lambda request: Reply("", "stop", "fake", 100, 1)) as server:
        run(server, 1, tmp_path / "l.sqlite", **PRICED)
        assert kinds(run(server, 1, tmp_path / "l.sqlite", **PRICED)) == ["empty"]
    with Ledger(tmp_path / "l.sqlite") as ledger:
        assert ledger.failed_cost() == (50.5, 1)


def test_a_job_whose_making_got_lost_is_found_again(tmp_path):
    path = tmp_path / "l.sqlite"
    with FakeServer(respond) as server:
        server.batches.lose_create = 1
        assert kinds(run(server, 4, path)) == ["pending"] * 4
        assert kinds(run(server, 4, path)) == ["reply"] * 4
        assert server.batches.made == 1


def test_killed_between_making_and_noting_the_job_is_not_paid_twice(tmp_path):
    path = tmp_path / "l.sqlite"
    with FakeServer(respond) as server:
        assert kinds(run(server, 4, path)) == ["pending"] * 4
        with Ledger(path) as ledger:  # as it stands when the process died before it heard the id
            (job,) = ledger.batches()
            ledger.open_batch(StoredBatch(job.token, job.endpoint, job.model, None, job.keys, job.dollars, job.time))
        assert kinds(run(server, 4, path)) == ["reply"] * 4
        with Ledger(path) as ledger:  # and one that died before the job was made at all
            ledger.open_batch(StoredBatch("unheard-of", job.endpoint, job.model, None, ("x",), None, job.time))
        run(server, 5, path)
        assert kinds(run(server, 5, path)) == ["reply"] * 5
        assert server.batches.made == 2


@pytest.mark.parametrize(("end", "kind", "made"), [("failed", "batch", 1), ("expired", "missing", 2)])
def test_a_job_that_ends_badly_is_a_named_failure_and_no_loop(tmp_path, end, kind, made):
    with FakeServer(respond) as server:
        server.batches.end = end
        outcomes = run(server, 3, tmp_path / "l.sqlite", wait=20)
        assert kinds(outcomes) == [kind] * 3
        assert ("line 1 is broken" if end == "failed" else "no line of the batch jobs") in str(outcomes[0])
        assert server.batches.made == made  # an expired job is handed over once more within a run, a refused one is not
        server.batches.end = "completed"
        run(server, 3, tmp_path / "l.sqlite", wait=5)
        assert kinds(run(server, 3, tmp_path / "l.sqlite", wait=5)) == ["reply"] * 3


def test_an_endpoint_without_batches_is_a_named_failure(tmp_path):
    with FakeServer(respond) as server:
        server.batches.post = lambda handler: False  # an endpoint that knows chat only
        outcomes = run(server, 2, tmp_path / "l.sqlite")
        assert kinds(outcomes) == ["model"] * 2  # HTTP 404 on /v1/files
        assert "404" in str(outcomes[0])


def test_a_batch_costs_half_and_must_fit_the_budget(tmp_path):
    """One request: 10 characters / 4 = 2 prompt tokens, 1 completion token, at $1 each per token x 1/2 = $1.50."""
    assert PRICED["billing"].price(100, 1) == 50.5  # (100 + 1) / 2
    with FakeServer(respond) as server:
        outcomes = run(server, 2, tmp_path / "l.sqlite", max_cost=2.9, **PRICED)
        assert kinds(outcomes) == ["budget"] * 2
        assert "about $3.0000 more does not fit the budget of $2.9" in str(outcomes[0])
        assert server.batches.made == 0
        assert kinds(run(server, 2, tmp_path / "l.sqlite", max_cost=3.1, **PRICED)) == ["pending"] * 2
        run(server, 2, tmp_path / "l.sqlite", max_cost=3.1, **PRICED)
        with Ledger(tmp_path / "l.sqlite") as ledger:
            assert ledger.served_models()[0].dollars == 50.5 + 51.0  # the endpoint counted 100 and 101 prompt tokens
