"""One model, the same numbers, whatever computes them: every backend with a tokenizer of ours against a plain forward
pass of transformers in float32.

Engines are their protocol over a fake server, always, and the real one where ``DISTILBENCH_VLLM`` names the Python of
an environment with it (``tox -e engines``); SmolLM2-135M joins where ``DISTILBENCH_SMOLLM2`` names its folder.

Run: python -m pytest tests/contracts/test_same_numbers.py -s
"""

from __future__ import annotations

import itertools
import math
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="a plain forward pass is what all are compared with")

from scipy.stats import chisquare  # noqa: E402

from harness.contracts.backend import Services  # noqa: E402
from harness.contracts.model import Sampling, TooLong  # noqa: E402
from harness.contracts.options import options_from  # noqa: E402
from harness.models.backends import BACKENDS  # noqa: E402
from harness.models.checkpoint import hub_folder, resolve  # noqa: E402
from harness.models.engines.local import LocalEngines  # noqa: E402
from harness.multiple_choice import mcq_messages  # noqa: E402
from harness.pocket.world import iter_prompts  # noqa: E402
from harness.types import PLAIN, Messages, Response  # noqa: E402
from tests.vllm_on_cpu import OPTIONS, SMOLLM2, VLLM  # noqa: E402

FAKE = str(Path(__file__).parents[1] / "fakes" / "engine.py")
TOLERANCE = 1e-3  # nats per token
DRAWS, TIMES = 200, 100  # responses to a prompt in one request, and how often it is asked: 20,000
LEAST_P = 1e-4  # of a chi-square test: one run in 10,000 fails by chance
UNICODE = ["naïve café", "猫が好きです", "\U0001f600\U0001f9d1\u200d\U0001f52c", "שלום\u202e", "e\u0301 \ufb01 \u00a0x"]
FAKES: dict[str, dict[str, Any]] = {
    name: {"command": [sys.executable, FAKE], "gpus": 0} for name, backend in BACKENDS.items() if backend.engine
}
# Of 200 draws, more than 4 requests would only wait in a server on two cores.
REAL_ONES: dict[str, dict[str, Any]] = {"vllm-real": {**OPTIONS, "window": 1024, "concurrency": 4}}
NEEDS_REAL = pytest.mark.skipif(not VLLM, reason="DISTILBENCH_VLLM names no Python of vLLM: tox -e engines")
NEEDS_SMOLLM2 = pytest.mark.skipif(not SMOLLM2, reason="DISTILBENCH_SMOLLM2 names no folder: tox -e engines")


def subjects() -> Iterator[Any]:
    for name in ("transformers", *FAKES, *REAL_ONES):
        marks = [NEEDS_REAL] if name in REAL_ONES else []
        yield pytest.param((name, "pocket:teacher"), id=f"{name}-pocket", marks=marks)
        # A fake is a plain forward pass itself: with it the protocol is tried, and the small model will do.
        if name not in FAKES:
            yield pytest.param((name, SMOLLM2 or ""), id=f"{name}-smollm2", marks=[*marks, NEEDS_SMOLLM2])


@pytest.fixture(scope="module", params=list(subjects()))
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    name, checkpoint = request.param
    backend = BACKENDS[name.removesuffix("-real")]
    engines, log = LocalEngines(), tmp_path_factory.mktemp("engine") / "server.log"
    services = Services(serve=lambda spec: engines.address(spec, log))
    config = options_from(backend.config, {**FAKES, **REAL_ONES}.get(name, {}))
    try:
        yield backend.load(resolve(checkpoint), config, services)
    finally:
        engines.close()


class Plain:
    """A forward pass of one row, no cache, no batch, none of our code."""

    def __init__(self, folder: str) -> None:
        from transformers import AutoModelForCausalLM

        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    @lru_cache(maxsize=256)  # noqa: B019, it lives as long as the tests
    def logps(self, ids: tuple[int, ...]) -> torch.Tensor:
        """[tokens, vocabulary]"""
        with torch.inference_mode():
            return self.model(torch.tensor([ids])).logits[0].float().log_softmax(-1)

    def greedy(self, prompt: Sequence[int], stops: Sequence[int], limit: int) -> list[int]:
        ids = torch.tensor([list(prompt)])
        with torch.inference_mode():
            rows = self.model.generate(ids, max_new_tokens=limit, do_sample=False, eos_token_id=list(stops))
        return rows[0, len(prompt) :].tolist()


@lru_cache(maxsize=2)
def plain_of(folder: str) -> Plain:
    return Plain(folder)


@pytest.fixture
def plain(subject: Any, request: pytest.FixtureRequest) -> Plain:
    _, checkpoint = request.node.callspec.params["subject"]
    return plain_of(str(hub_folder(resolve(checkpoint))))


def tell(text: str) -> None:
    sys.stdout.write(f"\n  {text}")


def questions(count: int) -> list[Messages]:
    return [list(prompt.messages) for prompt in itertools.islice(iter_prompts(seed=5), count)]


def ask(text: str) -> Messages:
    return [{"role": "user", "content": text}]


def of_length(subject: Any, length: int) -> list[int]:
    """A prompt of so many tokens, all of them ordinary."""
    (ids,) = subject.encode_prompts([ask("the red cat and the blue dog. ")])
    return (ids * (1 + length // len(ids)))[:length]


def test_log_probabilities_of_every_token(subject: Any, plain: Plain) -> None:
    """Those of drawn tokens and of the 20 most probable at each place; the means that rewards are made of."""
    talks = [*questions(6), *map(ask, UNICODE)]
    prompts = subject.encode_prompts(talks)
    drawn = subject.generate_tokens(prompts, Sampling(16, 1.0), seed=3, n=2)
    stop = subject.stops[0]
    rows = [(prompt, [*one.ids, *[stop] * (one.finish_reason == "stop")])
            for prompt, responses in zip(prompts, drawn, strict=True) for one in responses]  # fmt: skip
    read, worst, worst_top = subject.token_logps(rows, 20), 0.0, 0.0
    for (prompt, response), row in zip(rows, read, strict=True):
        expected = plain.logps((*prompt, *response))[len(prompt) - 1 : -1]
        own = expected.gather(-1, torch.tensor(response)[:, None])[:, 0]
        worst = max(worst, float((torch.tensor(row.own) - own).abs().max()))
        top = expected.gather(-1, torch.tensor(row.top_ids))
        worst_top = max(worst_top, float((torch.tensor(row.top_logps) - top).abs().max()))
        # No other token is more probable than the last of them, but by rounding.
        assert float((expected.topk(20).values - top).abs().max()) < TOLERANCE
    tell(f"{len(rows)} rows: off by at most {worst:.1e} nats per token, {worst_top:.1e} in the top 20")
    assert max(worst, worst_top) < TOLERANCE
    assert [len(row.own) for row in read] == [len(response) for _, response in rows]
    only_own = subject.token_logps(rows)
    assert [len(ids) for row in only_own for ids in row.top_ids] == [0] * sum(len(row.own) for row in only_own)
    responses = [row[0] for row in subject.generate(talks, Sampling(16, 1.0), seed=3)]
    readable = [(talk, one) for talk, one in zip(talks, responses, strict=True) if one.ids]
    means = subject.mean_logps([talk for talk, _ in readable], [one for _, one in readable])
    for (talk, one), mean in zip(readable, means, strict=True):
        (prompt,) = subject.encode_prompts([talk])
        values = plain.logps((*prompt, *one.ids))[len(prompt) - 1 : -1]
        assert mean == pytest.approx(float(values.gather(-1, torch.tensor(one.ids)[:, None]).mean()), abs=TOLERANCE)


def test_log_probabilities_of_the_first_token(subject: Any, plain: Plain) -> None:
    """Letters of multiple-choice questions, and what a judge's ``top_logprobs`` are."""
    talks = [mcq_messages(talk, ["a red one", "猫", "no", "yes, two"]) for talk in questions(6)]
    prompts = subject.encode_prompts(talks)
    expected = [plain.logps(tuple(prompt))[-1] for prompt in prompts]
    for logps, row in zip(expected, subject.choice_logps(talks, "ABCD"), strict=True):
        # Each letter stands for one or several tokens, of which the plain one is the least.
        ids = [subject.tokenizer.convert_tokens_to_ids(letter) for letter in "ABCD"]
        assert all(value >= float(logps[number]) - TOLERANCE for value, number in zip(row, ids, strict=True))
        texts = Counter[str]()
        for number, logp in enumerate(logps.tolist()):
            texts[subject.tokenizer.decode([number]).strip()] += math.exp(logp)
        assert [math.exp(value) for value in row] == pytest.approx([texts[letter] for letter in "ABCD"], rel=TOLERANCE)
    for logps, top in zip(expected, subject.first_token(talks, 5), strict=True):
        assert len(top) <= 5 and max(top.values()) == pytest.approx(float(logps.max()), abs=TOLERANCE)
        assert list(top.values()) == sorted(top.values(), reverse=True)


def test_greedy_answers(subject: Any, plain: Plain) -> None:
    """Equal for 95 of 100 questions; where one differs, the two tokens were as good as equally probable."""
    count = 40
    prompts = subject.encode_prompts(questions(count))
    rows = [row[0] for row in subject.generate_tokens(prompts, Sampling(32, 0.0), seed=0)]
    different = 0
    for prompt, one in zip(prompts, rows, strict=True):
        expected = plain.greedy(prompt, subject.stops, 32)
        ended = expected[-1] in subject.stops
        ours = [*one.ids, expected[-1]] if ended and one.finish_reason == "stop" else list(one.ids)
        if ours == expected:
            continue
        different += 1
        place = next((at for at, pair in enumerate(zip(ours, expected, strict=False)) if pair[0] != pair[1]), 0)
        logps = plain.logps((*prompt, *expected[:place]))[-1]
        gap = float(logps[expected[place]] - logps[ours[place]])
        tell(f"differs at token {place}: {ours[place]} for {expected[place]}, {gap:.1e} nats apart")
        assert gap < TOLERANCE
    tell(f"{count - different} of {count} greedy answers are equal")
    assert different <= 0.05 * count


@pytest.mark.slow
@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.6, 1.0), (1.0, 0.9)])
def test_draws_follow_the_distribution(subject: Any, plain: Plain, temperature: float, top_p: float) -> None:
    """Chi-square of 20,000 draws in requests of 200; tokens that are expected less than five times are one class."""
    (prompt,) = subject.encode_prompts([[{"role": PLAIN, "content": "the cat"}]])  # short: it is read 20,000 times
    rows = subject.generate_tokens([prompt] * TIMES, Sampling(1, temperature, top_p), seed=11, n=DRAWS)
    # A stop that was drawn is told by the reason alone.
    counts = Counter(one.ids[0] if one.ids else -1 for row in rows for one in row)
    probabilities = (plain.logps(tuple(prompt))[-1].double() / temperature).softmax(-1)
    ordered, places = probabilities.sort(descending=True)
    kept = ordered * (ordered.cumsum(-1) - ordered < top_p)
    expected = torch.zeros_like(probabilities).scatter(0, places, kept / kept.sum()) * DRAWS * TIMES
    allowed = set(expected.nonzero()[:, 0].tolist())
    stops = [number for number in subject.stops if number < len(expected)]
    classes = {number: float(expected[number]) for number in allowed - set(stops)}
    classes[-1] = float(expected[stops].sum())
    assert set(counts) <= set(classes), "tokens outside of the nucleus were drawn"
    usual = [number for number, value in classes.items() if value >= 5]
    observed = [counts[number] for number in usual]
    wanted = [classes[number] for number in usual]
    rest = DRAWS * TIMES - sum(wanted)
    if rest >= 5:
        observed, wanted = [*observed, DRAWS * TIMES - sum(observed)], [*wanted, rest]
    else:
        wanted = [value * sum(observed) / sum(wanted) for value in wanted]
    p = float(chisquare(observed, wanted).pvalue)
    tell(f"temperature {temperature}, top_p {top_p}: {len(observed)} classes, p = {p:.3f}")
    assert len(observed) > 2 and p > LEAST_P


def test_seeds_n_lengths_and_stops(subject: Any) -> None:
    prompts = subject.encode_prompts(questions(3))
    sampling = Sampling(9, 1.0)
    rows = subject.generate_tokens([*prompts, prompts[0]], sampling, seed=4, n=5)
    assert [len(row) for row in rows] == [5] * 4
    drawn = [one for row in rows for one in row]
    assert all(len(one.ids) == 9 if one.finish_reason == "length" else len(one.ids) < 9 for one in drawn)
    assert not any(token in subject.stops for one in drawn for token in one.ids)
    assert rows == subject.generate_tokens([*prompts, prompts[0]], sampling, seed=4, n=5)
    assert rows != subject.generate_tokens([*prompts, prompts[0]], sampling, seed=5, n=5)
    # Equal prompts are draws of their own, and so are the n of one.
    assert rows[0] != rows[3] and len({one.ids for one in rows[0]}) > 1
    ends = subject.generate_tokens(subject.encode_prompts(questions(12)), Sampling(64, 0.7), seed=1)
    assert {one.finish_reason for (one,) in ends} >= {"stop"}
    texts = subject.generate(questions(12), Sampling(64, 0.7), seed=1)
    for (one,), (text,) in zip(ends, texts, strict=True):
        assert text.finished == (one.finish_reason == "stop")
        assert text.ids == ((*one.ids, text.ids[-1]) if text.finished else one.ids)
        assert not text.finished or text.ids[-1] in subject.stops


def test_text_of_every_script(subject: Any) -> None:
    """Text to ids and back through a server: what comes out is what the drawn ids say."""
    talks = [ask(f"repeat: {text}") for text in UNICODE]
    for (one,) in subject.generate(talks, Sampling(12, 1.0), seed=2):
        ids = one.ids[:-1] if one.finished else one.ids
        assert isinstance(one, Response) and one.tokens == len(one.ids)
        assert one.text == subject.tokenizer.decode(ids, skip_special_tokens=True)


def test_prompts_at_the_edge_of_the_window(subject: Any, plain: Plain) -> None:
    context = subject.context
    if context > 2048:
        pytest.skip(f"a plain pass over {context} tokens takes too long here")
    full, last, two = (of_length(subject, context - spare) for spare in (0, 1, 2))
    (none,), (one,), (pair,) = subject.generate_tokens([full, last, two], Sampling(8, 0.0), seed=0)
    assert none.ids == () and none.finish_reason == "length"
    assert len(one.ids) <= 1 and len(pair.ids) <= 2
    assert one.finish_reason == "stop" or len(one.ids) == 1
    (row,) = subject.token_logps([(full[:-3], full[-3:])], 2)
    expected = plain.logps(tuple(full))[-4:-1]
    own = expected.gather(-1, torch.tensor(full[-3:])[:, None])[:, 0].tolist()
    assert row.own == pytest.approx(own, abs=TOLERANCE)
    assert torch.tensor(row.top_logps).flatten().tolist() == pytest.approx(
        expected.topk(2).values.flatten().tolist(), abs=TOLERANCE
    )
    with pytest.raises(TooLong):
        subject.token_logps([(full, full[:1])])
