"""Budgets of money, calls and time over one ledger, and the catalogue they take prices from."""

import asyncio
import time
from dataclasses import replace
from datetime import date

import pytest

from harness.contracts.judge import AskOptions, Billing, JudgeError
from harness.errors import UserError
from harness.types import Reply, Request
from judges.client.ask import ask
from judges.client.budget import Budget
from judges.kinds.openai import catalogue
from judges.kinds.openai.judge import JUDGE, OpenAIConfig, OpenAIJudge
from judges.ledger.ledger import Ledger, StoredBatch


class Judge:
    """Answers 100 prompt tokens and 10 completion tokens, or fails for the questions named."""

    name, endpoint, model = "counted", "in-process:counted", "counted"

    def __init__(self, fails=(), seconds=0.0):
        self.fails, self.seconds, self.calls = set(fails), seconds, 0

    async def complete(self, request):
        self.calls += 1
        await asyncio.sleep(self.seconds)
        if request.question in self.fails:
            raise JudgeError("refused", "no")
        return Reply("m", "stop", "counted", 100, 10)

    def check(self):
        return None


def requests(count):
    return [Request(f"q{n}", "game1", ({"role": "user", "content": "x" * 400 + str(n)},), 20) for n in range(count)]


def cent(prompt, completion):
    """A tenth of a cent per prompt token and nothing else: a reply costs 100 x 0.001 = 10 cents."""
    return 0.001 * prompt


def dollar(prompt, completion):
    """A dollar a token, each way."""
    return float(prompt + completion)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "l.sqlite"


def run(judge, count, path, billing=Billing(cent), concurrency=1, **limits):
    many = requests(count) if isinstance(count, int) else count
    options = AskOptions(concurrency=concurrency, max_concurrency=concurrency, **limits)
    return ask(judge, many, path, options, billing=billing)


def answered(outcomes):
    return sum(isinstance(outcome, Reply) for outcome in outcomes)


def test_money_stops_before_the_call_that_would_not_fit(path):
    """10 cents a reply, a dollar: 10 replies. The estimate of a request is the same: 400 characters, 100 tokens."""
    judge = Judge()
    outcomes = run(judge, 50, path, max_cost=1.0001)
    assert (answered(outcomes), judge.calls) == (10, 10)
    assert {outcome.kind for outcome in outcomes[10:]} == {"budget"}
    problem = "not asked, about $0.1000 more does not fit the budget of $1.0001 ($1.0000 spent or under way)"
    assert str(outcomes[-1]) == problem
    with Ledger(path) as ledger:
        assert ledger.served_models()[0].dollars == pytest.approx(1.0)
        assert ledger.failures() == {}  # what was not asked is no failed call
    more = run(judge, 50, path, max_cost=1.0001)  # a new run: a new budget, the old replies kept
    assert (answered(more), judge.calls) == (20, 20)


@pytest.mark.parametrize(("limit", "count"), [({"max_cost": 1.0001}, 10), ({"max_calls": 5}, 5)])
def test_calls_under_way_are_counted(path, limit, count):
    assert answered(run(Judge(seconds=0.02), 50, path, concurrency=8, **limit)) == count


def test_everyone_who_writes_into_the_ledger_shares_the_budget(path):
    billing = Billing(cent, start_time=time.time())
    assert answered(run(Judge(), 7, path, billing, max_cost=1.0001)) == 7
    other = Judge()
    other.model = "other"
    assert answered(run(other, 7, path, billing, max_cost=1.0001)) == 3


def test_a_free_judge_fits_any_budget_and_an_unknown_price_none(path):
    assert answered(run(Judge(), 5, path, Billing(lambda prompt, completion: 0.0), max_cost=0.0)) == 5
    with pytest.raises(UserError, match="price of judge model 'counted' at in-process:counted is not known"):
        run(Judge(), 6, path, Billing(), max_cost=0.0)


def test_calls_are_counted_with_the_failed_ones(path):
    judge = Judge(fails={"q0", "q3"})
    outcomes = run(judge, 20, path, max_calls=6)
    assert (judge.calls, answered(outcomes)) == (6, 4)
    assert "budget of 6 calls" in str(outcomes[19])
    with Ledger(path) as ledger:  # nobody charges for those that failed
        assert (ledger.spending(0), ledger.failed_cost()) == ((pytest.approx(0.4), 6, 4), (0.0, 0))


def test_time_ends_the_asking_but_not_the_calls_under_way(path):
    judge = Judge(seconds=0.05)
    start = time.monotonic()
    outcomes = run(judge, 200, path, concurrency=2, max_seconds=0.2)
    assert time.monotonic() - start < 5  # 200 calls by two would take 5 s
    assert answered(outcomes) == judge.calls < 200
    assert "time budget of 0.2 s" in str(outcomes[-1])


@pytest.mark.parametrize(("kind", "usage"), [("empty", (100, 20)), ("refused", (100, 20)), ("empty", (0, 0))])
def test_calls_that_give_nothing_to_read_are_paid_all_the_same(path, kind, usage):
    """100 + 20 tokens; not counted: 400 characters / 4 + half of 40: $120 a call, of $370 the third is the last."""

    class Nothing(Judge):
        async def complete(self, request):
            self.calls += 1
            raise JudgeError(kind, "nothing to read", usage=usage)

    judge, started = Nothing(), time.time()
    message = {"role": "user", "content": "x" * 400}
    many = [replace(r, messages=(message,), max_tokens=39, repeat=n) for n, r in enumerate(requests(9))]
    limits = {"retries": 0, "max_cost": 370.0}
    outcomes = run(judge, many, path, Billing(dollar, start_time=started), **limits)
    assert [outcome.kind for outcome in outcomes] == [kind] * 3 + ["budget"] * 6
    again = run(judge, many, path, Billing(dollar, start_time=started), **limits)  # another process of the same run
    assert {outcome.kind for outcome in again} == {"budget"} and judge.calls == 3
    with Ledger(path) as ledger:
        assert (ledger.spending(started), ledger.failed_cost()) == ((360.0, 3, 3), (360.0, 3))
        assert ledger.spending(time.time() + 1) == (0.0, 0, 0)


def test_a_reply_without_a_count_of_tokens_costs_as_estimated(tmp_path):
    """401 characters / 4 = 100 tokens read, 40 characters / 4 + 1 = 11 written and half of 50 thought: $136 a call."""

    class Uncounted(Judge):
        async def complete(self, request):
            self.calls += 1
            return Reply("x" * 40, "stop", "counted", 0, 0)

    assert answered(run(Uncounted(), 9, tmp_path / "l", Billing(dollar, thinking=50), max_cost=300.0)) == 2
    with Ledger(tmp_path / "l") as ledger:
        (line,) = ledger.served_models()
        assert (line.dollars, line.unpriced_replies, line.estimated_replies) == (272.0, 0, 2)
    run(Uncounted(), 1, tmp_path / "free", Billing(lambda prompt, completion: 0.0))
    with Ledger(tmp_path / "free") as ledger:
        assert ledger.served_models()[0].estimated_replies == 0  # nothing to estimate


def test_thoughts_are_estimated_with_the_reply(path):
    """401 characters / 4 = 100 tokens read; half of 20 + 1,001, rounded up, written: $611."""
    with Ledger(path) as ledger:
        budget = Budget(Judge(), ledger, AskOptions(), Billing(dollar, thinking=1001))
        assert budget.estimate(requests(1)[0]) == 100 + 511


def test_batch_jobs_under_way_count_if_this_run_made_them(path):
    """A job of 3 requests, estimated at $1, made a second after the start: 2 more calls fit 5, and $0.5 more fit $1.6.

    One estimate is 100 tokens read at a tenth of a cent: $0.1.
    """
    job = StoredBatch("t", "e", "m", "batch_1", ("a", "b", "c"), 1.0, time.time())
    with Ledger(path) as ledger:

        def refused(count, since, **limits):
            budget = Budget(Judge(), ledger, AskOptions(**limits), Billing(cent, start_time=job.time + since))
            return budget.refusal(requests(count), [job])

        assert refused(2, -1, max_calls=5) is None
        assert "budget of 5 calls" in str(refused(3, -1, max_calls=5))
        assert refused(5, 1, max_calls=5) is None  # made before this run: not of its budget
        assert refused(5, -1, max_cost=1.6) is None
        assert "$1.0000 spent or under way" in str(refused(7, -1, max_cost=1.6))
        assert refused(7, 1, max_cost=1.6) is None


def test_a_batch_of_an_in_process_judge_fits_as_a_whole_or_not(path):
    class Batched(Judge):
        chunk = 4

        def complete_many(self, many):
            self.calls += len(many)
            return [Reply("m", "stop", "counted", 100, 10) for _ in many]

    judge = Batched()
    assert answered(run(judge, 20, path, max_cost=1.0001)) == judge.calls == 8  # 2 x 4 at 10 cents; 4 more: $1.20


def test_every_price_has_a_date_and_a_source_and_every_substitute_is_known():
    for model in catalogue.MODELS.values():
        assert model.context > 0
        if model.price is not None:
            assert model.price.prompt <= model.price.completion
            assert date.fromisoformat(f"{model.price.as_of}-01") < date(2027, 1, 1)
            assert model.price.source.startswith("https://")
        if model.substitute is not None:
            substitute = catalogue.MODELS[model.substitute]
            assert substitute.retired is None or model.retired is None or substitute.retired > model.retired
            assert substitute.quirks.logprobs or not model.quirks.logprobs


def test_retirement_and_undated_names_are_remarked_on():
    (remark,) = catalogue.remarks("gpt-4-1106-preview", date(2026, 9, 1))
    assert "retired in 52 days, on 2026-10-23" in remark and "gpt-4.1-2025-04-14" in remark
    assert catalogue.remarks("gpt-4-1106-preview", date(2026, 1, 1)) == []
    (remark,) = catalogue.remarks("gpt-4-0613", date(2026, 11, 1))
    assert "was to be retired on 2026-10-23" in remark
    assert "undated name, for now of gpt-4o-2024-08-06" in catalogue.remarks("gpt-4o", date(2026, 1, 1))[0]
    assert catalogue.remarks("my-own-model", date(2026, 1, 1)) == []


def test_the_catalogue_is_for_openais_own_endpoint_and_options_override_it():
    hosted, mine = OpenAIConfig(model="gpt-5-mini-2025-08-07"), OpenAIConfig(model="gpt-4o", base_url="http://x/v1")
    assert JUDGE.price(hosted, 1_000_000, 1_000_000) == 2.25
    assert JUDGE.price(mine, 1, 1) is None and not JUDGE.notes(mine)
    body = OpenAIJudge(hosted).body(Request("q", "p", ({"role": "user", "content": "?"},), 1, 0.0, 5))
    assert body["max_completion_tokens"] == 4097 and body["temperature"] == 1.0 and "logprobs" not in body
    assert OpenAIJudge(hosted).endpoint.endswith("#temperature=1,max_completion_tokens,no-logprobs,thinking=4096")
    own = OpenAIConfig(model="gpt-5-mini-2025-08-07", thinking_tokens=0, logprobs=True, price_in=9, price_out=9)
    body = OpenAIJudge(own).body(Request("q", "p", ({"role": "user", "content": "?"},), 1, 0.0, 5))
    assert (body["max_completion_tokens"], body["logprobs"]) == (1, True)
    assert JUDGE.price(own, 1_000_000, 0) == 9.0
