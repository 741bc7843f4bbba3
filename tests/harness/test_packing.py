"""Shared prompts: packed rows in training, shared caches in reading, against rows of their own."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.contracts.method import log_probabilities
from harness.errors import UserError
from harness.models.prefix_cache import LEAST_SHARED, PrefixGroup, Reader, ReadRow, group_by_prefix, length_batches
from harness.training.batches import Example, TokenRow, micro_batch, packed_inputs
from harness.training.forward import choose, gain, host, response_terms
from harness.training.options import TrainOptions

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 60,
    "initializer_range": 0.3,
    "bos_token_id": None,
    "eos_token_id": 4,
    "pad_token_id": 0,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "Llama": SIZES,
    "Qwen2": SIZES,
    "Gemma2": SIZES | {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 24},
    "Mistral": SIZES | {"sliding_window": 24},
    "GPT2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 60, "bos_token_id": None, "eos_token_id": 4},
    "Bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4, "vocab_size": 60, "bos_token_id": None, "eos_token_id": 4},
}


def model_of(family: str) -> Any:
    """A random model in evaluation mode."""
    config = getattr(transformers, family + "Config")(**FAMILIES[family])
    kernel = {"attn_implementation": "eager"} if family == "Gemma2" else {}
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = transformers.AutoModelForCausalLM.from_config(config, **kernel)
    return host(model).train(False)


def examples(count: int = 3, n: int = 4, seed: int = 0) -> list[Example]:
    """Prompts of 9-14 tokens with n responses of 1-9."""
    rng = random.Random(seed)

    def ids(low: int, high: int) -> list[int]:
        return rng.choices(range(5, 60), k=rng.randint(low, high))

    rows = [(ids(9, 14), [TokenRow(ids(1, 9)) for _ in range(n)]) for _ in range(count)]
    return [Example(f"p{i}", i, prompt, tuple(responses)) for i, (prompt, responses) in enumerate(rows)]


def example(prompt: list[int], *responses: list[int]) -> Example:
    return Example("p", 0, prompt, tuple(map(TokenRow, responses)))


def logps(model: Any, part: list[Example], packed: bool) -> torch.Tensor:
    """[N] log-probabilities of all response tokens."""
    micro = micro_batch(part, 0, torch.device("cpu"), packed=packed)
    return response_terms(model, model, None, micro, log_probabilities, None, 60)["logp"]


@pytest.mark.parametrize("family", ["Llama", "Qwen2", "GPT2"])
@pytest.mark.parametrize("kernel", ["plain", "gradient checkpointing"])
def test_packed_rows_give_the_log_probabilities_and_gradients_of_separate_rows(family: str, kernel: str) -> None:
    model = model_of(family)
    if kernel != "plain":
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        model.train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    found = []
    for packed in (False, True):
        model.zero_grad()
        values = logps(model, examples(), packed)
        (values * torch.linspace(-1, 1, len(values))).sum().backward()
        found.append((values.detach(), {name: p.grad.clone() for name, p in model.named_parameters()}))
    (apart, apart_gradient), (together, together_gradient) = found
    assert len(together) > 40 and float(together.min()) < -4 < float(together.max())
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=0)
    for name, value in apart_gradient.items():
        torch.testing.assert_close(together_gradient[name], value, atol=1e-4 * float(value.abs().max()) + 1e-6, rtol=0)


def test_a_packed_row_by_hand() -> None:
    """Prompt 7 8, responses 5 6 4 and 9 4. Fed: 7 8 | 5 6 | 9 (last tokens predict nothing). Positions 0 1 | 2 3 | 2.

    Tokens 5 6 4 are predicted at 1, 2, 3 and tokens 9 4 at 1, 4. Token 9 (query 4) sees 7 8 and itself, not 5 6.
    """
    both = [example([7, 8], [5, 6, 4], [9, 4]), example([7], [4], [4])]
    inputs, index = packed_inputs(both, 0, torch.device("cpu"))
    assert index.tolist() == [1, 2, 3, 1, 4, 5, 5]  # the second row begins at 5
    assert inputs["input_ids"].tolist() == [[7, 8, 5, 6, 9], [7, 0, 0, 0, 0]]
    assert inputs["position_ids"].tolist() == [[0, 1, 2, 3, 2], [0, 0, 0, 0, 0]]
    seen = inputs["attention_mask"][0, 0].int().tolist()
    assert seen == [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 0, 0, 1]]
    assert inputs["attention_mask"][1, 0].any(1).all(), "padding sees itself: no row of the softmax is empty"


def layout(family: str, packing: str = "auto", **sizes: int) -> Any:
    options = TrainOptions(packing=packing)  # type: ignore[arg-type]
    row = example([9] * sizes["prompt"], *[[9] * sizes["response"]] * 4)
    return choose(options, [row], [model_of(family)], 60)


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        ("Gemma2", "Gemma2ForCausalLM caps its attention scores, which needs eager attention"),
        ("Mistral", "attends within a window of 24 tokens and rows have up to 50"),
        ("Bloom", "packed|packing needs sdpa|refuses|hidden states"),
    ],
)
def test_models_that_cannot_be_packed_fall_back_with_the_reason(family: str, reason: str) -> None:
    import re

    found = layout(family, prompt=40, response=10)
    assert not found.packed and re.search(reason, found.reason)
    with pytest.raises(UserError, match=r"train\.packing = 'always' is impossible here"):
        layout(family, "always", prompt=40, response=10)


def test_packing_is_chosen_where_it_pays() -> None:
    assert layout("Llama", prompt=40, response=10).packed
    assert layout("Mistral", prompt=19, response=5).packed, "a window that no row fills is no obstacle"
    assert "never" in layout("Llama", "never", prompt=160, response=96).reason
    short = layout("Llama", prompt=2, response=200)
    assert not short.packed and "prompts are short" in short.reason
    assert layout("Llama", "always", prompt=2, response=200).packed
    assert "one response" in choose(TrainOptions(), [example([9], [5])], [model_of("Llama")], 60).reason


def test_the_estimate_counts_tokens_and_pairs() -> None:
    """Prompt 10, two responses of 5: packed 20 tokens and 400 pairs, separate 30 tokens and 2 x 225 = 450 pairs."""
    model = model_of("Llama")
    body = sum(value.numel() for value in model.model.layers.parameters()) + model.model.norm.weight.numel()
    pair = 2 * 32 * 2
    expected = (body * 30 + pair * 450) / (body * 20 + pair * 400)
    assert gain(model, [example([9] * 10, [9] * 5, [9] * 5)]) == pytest.approx(expected)


def test_rows_are_grouped_where_that_saves_tokens() -> None:
    """Ten common tokens, then two pairs with ten more: 10 + 4 x 14 = 66 together, 2 x (20 + 2 x 4) = 56 apart."""
    start, left, right = [9] * 10, [1] * 10, [2] * 10
    tails = [[5, 5, 5, 5], [6, 6, 6, 6]]
    rows = [ReadRow([*start, *middle, *tail], 22) for middle in (left, right) for tail in tails]
    assert sorted(group_by_prefix(rows), key=lambda f: f.rows) == [PrefixGroup(20, (0, 1)), PrefixGroup(20, (2, 3))]
    early = [row._replace(first_read=12) for row in rows]
    assert min(group_by_prefix(early), key=lambda f: f.rows).shared_tokens <= 12, (
        "every wanted position belongs to a row itself"
    )
    assert group_by_prefix([ReadRow([1] * 30, 29), ReadRow([2] * 30, 29)]) == [
        PrefixGroup(0, (0,)),
        PrefixGroup(0, (1,)),
    ]
    assert group_by_prefix([ReadRow([1] * 30, 29), ReadRow([1] * 30, 29)]) == [PrefixGroup(29, (0, 1))]


@given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=30), min_size=1, max_size=20), st.randoms())
def test_every_row_is_planned_once(texts: list[list[int]], rng: random.Random) -> None:
    rows = [ReadRow(ids, rng.randrange(len(ids))) for ids in texts]
    families = group_by_prefix(rows)
    assert sorted(index for family in families for index in family.rows) == list(range(len(rows)))
    for family in families:
        starts = {tuple(rows[index].ids[: family.shared_tokens]) for index in family.rows}
        assert len(starts) == 1 or not family.shared_tokens
        assert all(family.shared_tokens <= rows[index].first_read for index in family.rows)
        assert family.shared_tokens == 0 or family.shared_tokens >= LEAST_SHARED


def test_texts_that_nest_without_end_are_planned() -> None:
    """1, 1 1, 1 1 1, ...: a naive recursion over branchings would be 1500 deep."""
    assert len(group_by_prefix([ReadRow([1] * length, length - 1) for length in range(1, 1500)])) > 1


@given(st.lists(st.integers(1, 500), min_size=1, max_size=60))
def test_batches_waste_little(lengths: list[int]) -> None:
    batches = list(length_batches(lengths, 1000))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        width = max(lengths[index] for index in batch)
        assert len(batch) == 1 or width * len(batch) <= 1000
        assert sum(lengths[index] for index in batch) >= 0.9 * width * len(batch)


@pytest.mark.parametrize("family", ["Llama", "Qwen2", "Gemma2", "Mistral", "GPT2"])
def test_shared_caches_give_the_hidden_states_of_separate_rows(family: str) -> None:
    """Sliding windows of 24 tokens are filled, prompts have different lengths, responses too."""
    model = model_of(family)
    rng = random.Random(3)
    rows = []
    for length in (30, 33, 12, 11):
        prompt = rng.choices(range(5, 60), k=length)
        rows += [ReadRow(prompt + rng.choices(range(5, 60), k=rng.randint(1, 30)), length - 1) for _ in range(3)]
    together, apart = Reader(model, 0, 200), Reader(model, 0, 200, sharing=False)
    expected = dict(apart.hidden(rows))
    for index, hidden in together.hidden(rows):
        assert len(hidden) == len(rows[index].ids) - rows[index].first_read
        torch.testing.assert_close(hidden, expected[index], atol=2e-5 * float(expected[index].abs().max()), rtol=0)
    assert together.counts["positions"] < 0.75 * apart.counts["positions"]
    assert together.counts["tokens"] < together.counts["separate"] == apart.counts["tokens"]


def test_no_padding_waste_above_15_percent() -> None:
    """Responses between 1 and 120 tokens under prompts between 20 and 200, as a teacher reads them."""
    rng = random.Random(0)
    rows = []
    for _ in range(40):
        prompt = rng.choices(range(5, 60), k=rng.randint(20, 200))
        rows += [ReadRow(prompt + rng.choices(range(5, 60), k=rng.randint(1, 120)), len(prompt) - 1) for _ in range(4)]
    reader = Reader(model_of("Llama"), 0, 4096)
    assert len(list(reader.hidden(rows))) == 160
    assert 1 - reader.counts["tokens"] / reader.counts["positions"] < 0.15
    assert reader.counts["positions"] < 0.65 * reader.counts["separate"]


@settings(max_examples=10)
@given(st.integers(1, 5), st.integers(2, 6), st.integers(0, 100))
def test_packing_is_exact_for_any_shape(count: int, n: int, seed: int) -> None:
    model, made = model_of("Llama"), examples(count, n, seed)
    with torch.no_grad():
        torch.testing.assert_close(logps(model, made, True), logps(model, made, False), atol=1e-5, rtol=0)
