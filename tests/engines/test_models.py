"""A checkpoint behind an engine's server gives what it gives in this process, at every edge."""

from __future__ import annotations

import math
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from harness.contracts.backend import Services
from harness.contracts.model import Sampling, TooLong
from harness.contracts.options import options_from
from harness.errors import UserError
from harness.journal import Journal
from harness.models.backends import BACKENDS, load_model
from harness.models.checkpoint import POCKET, resolve
from harness.models.engines.model import is_elsewhere, seeds_of
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


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEngine]:
    """A server that a test may spoil."""
    monkeypatch.setattr("harness.models.engines.client.PAUSE", 0.0)
    with FakeEngine(str(FOLDER), window=1025) as engine:
        yield engine


@pytest.mark.parametrize("name", ENGINES)
def test_a_server_that_is_away_has_four_attempts(name: str, other: FakeEngine) -> None:
    """At the first question of a stage, whose model asks for name and version, and at any later one."""
    sampling = Sampling(2, 0.0)
    other.away = 3
    subject = model(name, other)
    expected = subject.generate(TALKS[:1], sampling, 0)
    other.away = 3
    assert subject.generate(TALKS[:1], sampling, 0) == expected
    other.away = 4
    with pytest.raises(UserError, match=r"gives no answer \(status 503"):
        subject.generate(TALKS[:1], sampling, 0)
    other.away = 4
    with pytest.raises(UserError, match=r"/v1/models cannot be asked .*503"):
        model(name, other)


@pytest.mark.parametrize("name", ENGINES)
def test_a_server_of_others_must_have_one_model(name: str, other: FakeEngine) -> None:
    backend = BACKENDS[name]
    with pytest.raises(UserError, match=r"cannot be asked.*404"):
        backend.load(resolve("pocket:student"), backend.config(server=other.url + "/v1"), Services())
    for data, names in (([], "none"), (None, "none"), ([{"id": "a"}, {"id": "b"}], "a, b")):
        other.pages["/v1/models"] = {"data": data}
        with pytest.raises(UserError, match=f"{other.url} serves {names}: pocket:student is needed, and no other"):
            model(name, other)


@pytest.mark.parametrize("name", ENGINES)
def test_a_server_of_ours_must_have_our_model(name: str, other: FakeEngine) -> None:
    """SGLang's requests do not name it, so another program's server at our port would answer them."""
    backend = BACKENDS[name]
    services = Services(serve=lambda spec: other.url)
    subject = backend.load(resolve("pocket:student"), backend.config(gpus=0), services)
    with pytest.raises(UserError, match="serves model: pocket:student is needed"):
        subject.generate(TALKS[:1], Sampling(2, 0.0), 0)
    assert not other.requests
    other.name = subject.served_name
    assert subject.generate(TALKS[:1], Sampling(2, 0.0), 0) and services.notes["engine"] == f"{name} 0.0.fake"


@pytest.mark.parametrize("name", ENGINES)
def test_a_key_is_never_printed(name: str, other: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-hidden\r\n")  # of a file with Windows' ends of lines
    subject = model(name, other, api_key_env="MY_KEY")
    subject.generate(TALKS[:1], Sampling(2, 0.0), 0)
    assert other.keys == {"Bearer sk-hidden"}
    for key in ("sk-\rhidden", "sk-hidden\u20ac"):
        monkeypatch.setenv("MY_KEY", key)
        with pytest.raises(UserError, match="the key in the environment variable MY_KEY holds a character") as error:
            model(name, other, api_key_env="MY_KEY")
        assert "hidden" not in str(error.value)
    monkeypatch.setenv("MY_KEY", " ")
    with pytest.raises(UserError, match=r"MY_KEY \(api_key_env\) is not set"):
        model(name, other, api_key_env="MY_KEY")


@pytest.mark.parametrize(
    "url",
    ["http://host:port", "http://a b:80", "http://[::1", "http://:80", "http://", "ftp://a", "http://me:word@a",
     "http://a/?b", "http://a\n"],
)  # fmt: skip
def test_what_is_no_address_of_a_server_is_refused(url: str) -> None:
    with pytest.raises(UserError, match=r"server.*: must be the base URL of a server, as http://gpu7:8000"):
        options_from(BACKENDS["vllm"].config, {"server": url})


def test_proxies_stand_between_machines_alone() -> None:
    urls = [
        "http://localhost:1",
        "http://127.0.0.2",
        "http://[::1]:8000",
        "http://gpu7:8000",
        "https://[fd00::1]",
        None,
    ]
    assert [is_elsewhere(url) for url in urls] == [False, False, False, True, True, False]
    assert options_from(BACKENDS["vllm"].config, {"server": "http://[::1]:8000/"}).server == "http://[::1]:8000"


@pytest.mark.parametrize("name", ENGINES)
def test_other_programs_and_other_versions_are_an_error(
    name: str, other: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = model(name, other)
    monkeypatch.setattr(other, "complete", lambda body: {"choices": [{"index": 0}]})
    monkeypatch.setattr(other, "generate", lambda body: [{"text": "Yes."}])
    with pytest.raises(
        UserError, match=r"another form of reply .*docs/engines.md names .KeyError: '(token|output)_ids"
    ):
        subject.generate(TALKS[:1], Sampling(2, 0.0), 0)
    for page in (None, [1]):
        other.pages["/v1/models"] = page
        with pytest.raises(UserError, match=r"/v1/models cannot be asked \(no JSON object\)"):
            model(name, other)

    def greet() -> None:
        with ssh.accept()[0] as connection:
            connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
            connection.recv(10**4)

    with socket.create_server(("127.0.0.1", 0)) as ssh:
        thread = Thread(target=greet)
        thread.start()
        problem = BACKENDS[name].problem(BACKENDS[name].config(server=f"http://127.0.0.1:{ssh.getsockname()[1]}"))
        thread.join()
    assert problem and "cannot be asked (SSH-2.0-OpenSSH_9.6" in problem


def test_seeds_of_prompts_lie_apart() -> None:
    starts = [seeds_of(0, prompt, 4) for prompt in range(1000)]
    assert all(row.start >= 0 and row.stop < 2**63 and len(row) == 4 for row in starts)
    assert len({number for row in starts for number in row}) == 4000
    assert seeds_of(1, 0, 4) != seeds_of(0, 0, 4) == starts[0]
