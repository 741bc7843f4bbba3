"""A checkpoint behind an engine's server gives what it gives in this process, at every edge."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.contracts.backend import Services
from harness.contracts.model import Sampling, TooLong
from harness.errors import UserError
from harness.journal import Journal
from harness.models.backends import BACKENDS, load_model
from harness.models.checkpoint import POCKET, resolve
from harness.models.engines.model import seeds_of
from harness.types import PLAIN, Response
from tests.fakes.engine import FakeEngine

FOLDER = POCKET / "student"
TALKS = [
    [{"role": "user", "content": "What is 3 + 4?"}],
    [{"role": "user", "content": "häß 日本 🙂 <|end|>"}],
    [{"role": PLAIN, "content": "The answer is"}],
    [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes."}, {"role": "user", "content": "ok"}],
]
ENGINES = ["vllm", "sglang"]


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeEngine]:
    with FakeEngine(str(FOLDER), window=1025) as engine:
        yield engine


@pytest.fixture(scope="module")
def plain() -> Any:
    return load_model("pocket:student")


def model(name: str, fake: FakeEngine, services: Services | None = None, **options: Any) -> Any:
    fake.requests.clear()
    backend = BACKENDS[name]
    config = backend.config(server=fake.url, **options)
    return backend.load(resolve("pocket:student"), config, services or Services())


@pytest.mark.parametrize("name", ENGINES)
def test_greedy_answers_are_those_of_this_process(name: str, fake: FakeEngine, plain: Any) -> None:
    sampling = Sampling(max_new_tokens=12, temperature=0.0)
    assert model(name, fake).generate(TALKS, sampling, seed=0) == plain.generate(TALKS, sampling, seed=0)


@pytest.mark.parametrize("name", ENGINES)
def test_log_probabilities_are_those_of_this_process(name: str, fake: FakeEngine, plain: Any) -> None:
    answers = [
        Response("7", True, 2),
        Response("日本 is far", False, 4),
        Response(" 12.", False, 2),
        Response("", True, 1),  # the end of the turn alone
    ]
    subject = model(name, fake)
    assert subject.mean_logps(TALKS, answers) == pytest.approx(plain.mean_logps(TALKS, answers), abs=1e-4)
    pairs = zip(subject.choice_logps(TALKS, "AB"), plain.choice_logps(TALKS, "AB"), strict=True)
    assert all(ours == pytest.approx(theirs, abs=1e-4) for ours, theirs in pairs)
    for ours, theirs in zip(subject.first_token(TALKS, 5), plain.first_token(TALKS, 5), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4) and list(ours) == list(theirs)
    with pytest.raises(ValueError, match="empty, unfinished"):
        subject.mean_logps(TALKS[:1], [Response("", False, 0)])


@pytest.mark.parametrize("name", ENGINES)
def test_n_responses_have_seeds_of_their_own(name: str, fake: FakeEngine) -> None:
    subject, sampling = model(name, fake), Sampling(max_new_tokens=5, temperature=2.0, top_p=0.95)
    rows = subject.generate([TALKS[2], TALKS[2]], sampling, seed=3, n=4)
    assert [len(row) for row in rows] == [4, 4]
    texts = [[response.text for response in row] for row in rows]
    assert len(set(texts[0])) > 1 and texts[0] != texts[1], "equal prompts are drawn apart"
    assert rows == subject.generate([TALKS[2], TALKS[2]], sampling, seed=3, n=4)
    assert rows != subject.generate([TALKS[2], TALKS[2]], sampling, seed=4, n=4)
    for response in (response for row in rows for response in row):
        assert len(response.ids) == response.tokens <= 5
        assert response.finished == (response.ids[-1] in subject.stops)
        assert not set(response.ids[:-1]) & set(subject.stops)


@pytest.mark.parametrize("name", ENGINES)
def test_draws_follow_the_distribution(name: str, fake: FakeEngine, plain: Any) -> None:
    count, temperature = 400, 0.7
    (row,) = model(name, fake).generate_tokens(plain.encode_prompts(TALKS[:1]), Sampling(1, temperature), 5, count)
    (first,) = plain.read_top(plain.encode_prompts(TALKS[:1]), 10**6)
    weights = {token: math.exp(logp / temperature) for token, logp in first.items()}
    total = sum(weights.values())
    # The token that ends a turn is not among the ids of a token response.
    drawn = Counter(next(iter(response.ids), None) for response in row)
    for token in sorted(weights, key=weights.__getitem__)[-3:]:
        share = weights[token] / total
        seen = drawn[None if token in plain.stops else token]
        assert abs(seen - count * share) < 4 * math.sqrt(count * share * (1 - share)) + 1


@pytest.mark.parametrize("name", ENGINES)
def test_prompts_at_the_edge_of_the_window(name: str, fake: FakeEngine, plain: Any) -> None:
    subject, sampling = model(name, fake), Sampling(max_new_tokens=3, temperature=0.0)
    (base,) = plain.encode_prompts(TALKS[:1])
    prompts = [(base * 200)[:length] for length in (1021, 1022, 1023, 1024, 1500)] + [[]]
    rows = subject.generate_tokens(prompts, sampling, seed=0)
    assert rows == plain.generate_tokens(prompts, sampling, seed=0)
    assert [row[0].ids == () for row in rows] == [False, False, False, True, True, True]
    row, longer = (prompts[3][:1020], [40, 41, 42, 43]), (prompts[3], [40])
    ((ours,), (theirs,)) = subject.token_logps([row], 2), plain.token_logps([row], 2)
    assert ours.own == pytest.approx(theirs.own, abs=1e-4) and ours.top_ids == theirs.top_ids
    groups = [[20], [21, 22]]
    expected = plain.read_sums([prompts[3]], groups)[0]
    assert subject.read_sums([prompts[3]], groups)[0] == pytest.approx(expected, abs=1e-4)
    for reader in (subject, plain):
        with pytest.raises(TooLong) as error:
            reader.token_logps([row, longer])
        assert error.value.places == [1]
    smaller = model(name, fake, window=600)
    assert smaller.context == 600 and smaller.generate_tokens([prompts[0]], sampling, 0)[0][0].ids == ()


@pytest.mark.parametrize("name", ENGINES)
def test_what_is_kept_is_not_asked_again(name: str, fake: FakeEngine, tmp_path: Path) -> None:
    sampling, seen = Sampling(max_new_tokens=4), []

    def run() -> Any:
        services = Services(
            lambda done, total, info="": seen.append((done, total, info)), journal=Journal(lambda: tmp_path)
        )
        return model(name, fake, services).generate(TALKS, sampling, seed=1, n=2), services

    first, services = run()
    assert len(fake.requests) >= len(TALKS) and services.notes == {"engine": f"{name} 0.0.fake"}
    assert seen[-1][:2] == (4, 4) and seen[-1][2].endswith("tokens/s")
    again, services = run()
    assert again == first and not fake.requests and services.journal.seconds > 0


@pytest.mark.parametrize("name", ENGINES)
def test_a_busy_server_is_asked_again_and_a_refusal_is_not(
    name: str, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.models.engines.client.PAUSE", 0.0)
    subject, sampling = model(name, fake, concurrency=1), Sampling(2, 0.0)
    expected = subject.generate(TALKS[:2], sampling, 0)
    for status in (503, 429):
        fake.requests.clear()
        fake.faults = {1: status, 2: status}
        assert subject.generate(TALKS[:2], sampling, 0) == expected and len(fake.requests) == 4
    fake.requests.clear()
    fake.faults = {2: 400}
    with pytest.raises(UserError, match=rf"{name} at {fake.url}/\S+ gives no answer \(status 400: .*busy"):
        subject.generate(TALKS, sampling, 0)
    assert len(fake.requests) == 2
    fake.faults = {}


@pytest.mark.parametrize("name", ENGINES)
def test_a_server_of_others_must_have_one_model(name: str, fake: FakeEngine) -> None:
    backend = BACKENDS[name]
    config = backend.config(server=fake.url + "/v1")
    with pytest.raises(UserError, match=r"cannot be asked.*404"):
        backend.load(resolve("pocket:student"), config, Services())


def test_seeds_of_prompts_lie_apart() -> None:
    starts = [seeds_of(0, prompt, 4) for prompt in range(1000)]
    assert all(row.start >= 0 and row.stop < 2**63 and len(row) == 4 for row in starts)
    assert len({number for row in starts for number in row}) == 4000
    assert seeds_of(1, 0, 4) != seeds_of(0, 0, 4) == starts[0]
