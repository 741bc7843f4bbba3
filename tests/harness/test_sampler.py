"""Drawing tokens: hand-made cases, the distribution that is drawn from, and independence of the batch.

Run: python -m pytest tests/harness/test_sampler.py
"""

import itertools
import math

import pytest

torch = pytest.importorskip("torch", reason="draws from logits")

from harness.contracts.model import Sampling  # noqa: E402
from harness.models.backends import LoadOptions, load_model  # noqa: E402
from harness.models.transformers_model import RowSampler, draw, streams  # noqa: E402
from harness.pocket.world import iter_prompts  # noqa: E402


def logits(*probabilities: float) -> "torch.Tensor":
    return torch.tensor([[math.log(p) if p else -math.inf for p in probabilities]])


@pytest.mark.parametrize(
    ("number", "token"),
    [(0.0, 0), (0.19, 0), (0.21, 1), (0.49, 1), (0.51, 3), (0.999999, 3), (1.0, 3)],  # cumulative: 0.2, 0.5, 0.5, 1.0
)
def test_a_token_is_where_the_number_falls(number: float, token: int) -> None:
    assert draw(logits(0.2, 0.3, 0.0, 0.5), torch.tensor([number]), 1.0, 1.0).tolist() == [token]


def test_a_last_token_without_mass_is_never_drawn() -> None:
    assert draw(logits(0.5, 0.5, 0.0), torch.tensor([1.0]), 1.0, 1.0).tolist() == [1]


def test_temperature_divides_the_logits() -> None:
    """At temperature 0.5 probabilities are squared: 0.04, 0.09, 0.25 of 0.38; the first two end at 0.34."""
    row = logits(0.2, 0.3, 0.5)
    assert [int(draw(row, torch.tensor([u]), 0.5, 1.0)) for u in (0.10, 0.11, 0.34, 0.35)] == [0, 1, 1, 2]


def test_the_nucleus_keeps_the_most_probable_tokens() -> None:
    """Of 0.5, 0.3, 0.2 up to 0.6: 0.5 alone falls short, so 0.3 joins; drawn from 0.3 and 0.5 of 0.8, cut at 0.375."""
    row = logits(0.2, 0.3, 0.5)
    assert [int(draw(row, torch.tensor([u]), 1.0, 0.6)) for u in (0.0, 0.37, 0.38, 0.99)] == [1, 1, 2, 2]
    assert int(draw(row, torch.tensor([0.0]), 1.0, 1e-6)) == 2  # at least one


def test_frequencies_are_the_probabilities() -> None:
    """20,000 draws: the standard error of a share is at most sqrt(0.25 / 20000) = 0.0035; allowed four times that."""
    numbers = torch.tensor(streams(7, [0], 1, 20_000)[0])
    drawn = draw(logits(0.2, 0.3, 0.5).expand(20_000, 3), numbers, 1.0, 1.0)
    shares = (drawn.bincount(minlength=3) / 20_000).tolist()
    assert shares == pytest.approx([0.2, 0.3, 0.5], abs=0.0142)


def test_streams_belong_to_seed_prompt_and_response() -> None:
    assert streams(1, [4, 9], 2, 3)[2:] == streams(1, [9], 2, 3)
    rows = [*streams(1, [4, 9], 2, 3), *streams(2, [4], 2, 3)]
    assert len({tuple(row) for row in rows}) == 6


def test_the_processor_reads_one_number_per_step() -> None:
    sampler = RowSampler([[0.1, 0.9], [0.9, 0.1]], width=3, temperature=1.0, top_p=1.0)
    for new, tokens in ((0, [0, 1]), (1, [1, 0])):
        left = sampler(torch.zeros(2, 3 + new, dtype=torch.long), logits(0.5, 0.5).expand(2, 2))
        assert left.argmax(-1).tolist() == tokens and int(left.isfinite().sum()) == 2


def test_responses_do_not_depend_on_the_batch() -> None:
    """What is left is rounding: at most one in fifty responses differs."""
    talks = [list(prompt.messages) for prompt in itertools.islice(iter_prompts(seed=2), 22)]
    texts = []
    for size in (700, 16384):  # one prompt or nine in a batch, and all
        model = load_model("pocket:student", LoadOptions(batch_tokens=size))
        drawn = model.generate(talks, Sampling(24, 1.0), 5, n=4)
        texts.append([response.text for responses in drawn for response in responses])
    same = sum(one == other for one, other in zip(*texts, strict=True))
    assert same >= 0.98 * len(texts[0]) and len(set(texts[0])) > 40
