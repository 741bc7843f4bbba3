"""The head that runs once and the attention without masked pairs, against autograd's and against separate rows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from harness.contracts.method import log_probabilities
from harness.models.load import logits_of
from harness.training import forward, shortcuts
from harness.training.batches import micro_batch
from harness.training.forward import FEW_PAIRS, Layout, choose, host, response_terms
from harness.training.options import TrainOptions
from harness.training.shortcuts import BY_PARTS, head_of, logps_of_labels
from tests.harness.test_packing import SIZES, example, examples, model_of

HEADS: dict[str, dict[str, Any]] = {
    "plain": {},
    "tied": {"tie_word_embeddings": True},
    "padded": {"vocab_size": 64},
    "Granite's divisor": {"logits_scaling": 3.0},
    "Cohere's factor": {"logit_scale": 0.25},
    "Gemma-2's cap": {"final_logit_softcapping": 2.0},
    "all": {"vocab_size": 64, "logits_scaling": 3.0, "logit_scale": 0.25, "final_logit_softcapping": 2.0},
}


def head_model(kind: str) -> Any:
    """Two ids have no token; ``all`` has a bias too."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        config = LlamaConfig(**SIZES | HEADS[kind])
        for name, value in HEADS[kind].items():
            setattr(config, name, value)
        model: Any = LlamaForCausalLM(config)
        if kind == "all":
            model.lm_head.bias = torch.nn.Parameter(torch.randn(64))
    model.distilbench_unused = (3, 59)
    return host(model)


def gradients(model: Any, states: torch.Tensor, labels: torch.Tensor, fused: bool, dtype: torch.dtype) -> list[Any]:
    """Log-probabilities, and gradients of a nonlinear function of them by states and by all weights."""
    model.zero_grad()
    states = states.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        if fused:
            head = head_of(model, 60)
            assert head is not None
            logps = logps_of_labels(head, states, labels)
        else:
            logps = log_probabilities(logits_of(model, states, 60), labels, None, None)["logp"]
    (logps[:9].mean().sigmoid() - logps[9:].mean().exp()).backward()
    return [logps.detach(), states.grad, *(p.grad for p in model.get_output_embeddings().parameters())]


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("kept", [0, 5, 8, 100], ids=lambda count: f"{count} kept")
def test_the_fused_head_gives_autograds_gradients(kind: str, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In chunks of 4 positions, of which none, one, two and all are kept for the backward pass."""
    monkeypatch.setattr(shortcuts, "CHUNK_NUMBERS", 4 * 60)
    monkeypatch.setattr(shortcuts, "KEPT_BYTES", kept * 60 * 4)
    model = head_model(kind)
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(14, 32, generator=generator)
    labels = torch.randint(4, 59, (14,), generator=generator)
    expected, found = (gradients(model, states, labels, fused, torch.float32) for fused in (False, True))
    assert len(expected) == (4 if kind == "all" else 3)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6 * float(other.abs().max()), rtol=1e-5)
    with torch.no_grad():
        head: Any = head_of(model, 60)
        assert torch.equal(logps_of_labels(head, states, labels), found[0]), "a reference begins where training does"


def test_in_bfloat16_the_fused_head_is_as_near_to_float32_as_autograd_is() -> None:
    model = head_model("plain")
    states = torch.randn(200, 32, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(4, 59, (200,), generator=torch.Generator().manual_seed(0))
    exact, plain, fused = (
        gradients(model, states, labels, *way)
        for way in ((False, torch.float32), (False, torch.bfloat16), (True, torch.bfloat16))
    )
    for true, usual, ours in zip(exact, plain, fused, strict=True):
        assert 0 < float((ours - true).norm()) < 1.2 * float((usual - true).norm()) < 0.05 * float(true.norm())


def test_a_frozen_head_keeps_nothing_of_the_vocabularys_size() -> None:
    model = head_model("plain")
    model.get_output_embeddings().requires_grad_(False)
    states = torch.randn(14, 32, requires_grad=True)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x.numel()) or x, lambda x: x):
        head: Any = head_of(model, 60)
        logps = logps_of_labels(head, states, torch.full((14,), 7))
    weight = model.get_output_embeddings().weight
    assert max(size for size in saved if size != weight.numel()) <= 14 * 32
    logps.sum().backward()
    assert states.grad is not None and weight.grad is None


def test_a_head_that_only_its_own_call_can_run_is_left_alone() -> None:
    model = head_model("plain")
    assert head_of(model, 61) is None, "narrower than the vocabulary"
    model.lm_head.weight.ds_id = 3
    assert head_of(model, 60) is None, "split over processes by ZeRO-3"
    model.lm_head = torch.nn.Sequential(model.lm_head)
    assert head_of(model, 60) is None, "no plain linear layer"


@pytest.mark.parametrize("family", ["Llama", "Qwen2", "GPT2"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_attention_by_parts_gives_what_separate_rows_give(
    family: str, checkpointing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four prompts in one batch, so that rows are padded; a response of one token feeds none."""
    monkeypatch.setattr(forward, "FEW_LOGITS", 0)
    monkeypatch.setattr(forward, "FEW_PAIRS", 0)
    model, rows = model_of(family), [*examples(), example([7, 8, 9], [5], [6, 4], [4], [9, 9, 4])]
    layout = choose(TrainOptions(packing="always"), rows, [model], 60)
    assert layout.packed and layout.by_parts and model.config._attn_implementation == BY_PARTS
    if checkpointing:
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        model.train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    found = []
    for micro in (micro_batch(rows, 0, torch.device("cpu")), layout.batch(rows, 0, torch.device("cpu"))):
        model.zero_grad()
        values = response_terms(model, model, None, micro, log_probabilities, None, 60)["logp"]
        (values * torch.linspace(-1, 1, len(values))).sum().backward()
        found.append((values.detach(), {name: p.grad.clone() for name, p in model.named_parameters()}))
    (apart, apart_gradient), (together, together_gradient) = found
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=0)
    for name, value in apart_gradient.items():
        torch.testing.assert_close(together_gradient[name], value, atol=1e-4 * float(value.abs().max()) + 1e-6, rtol=0)


def test_no_response_is_multiplied_with_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompt of 5, responses of 3 and 2 fed tokens: 5 x 5 pairs, then 3 x 8 and 2 x 7, and no 10 x 10."""
    calls = []
    original = torch.nn.functional.scaled_dot_product_attention

    def spy(query: torch.Tensor, key: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        calls.append((query.shape[2], key.shape[2]))
        return original(query, key, *args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    x = torch.randn(1, 2, 12, 8)
    out, _ = shortcuts.attend_by_parts(torch.nn.Module(), x, x, x, None, packed_lengths=((5, 3, 0, 2),), scaling=1.0)
    assert calls == [(5, 5), (3, 8), (2, 7)]
    assert out.shape == (1, 12, 2, 8) and not out[:, 10:].any()


def test_short_rows_and_models_that_lose_the_lengths_stay_with_one_masked_call(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = examples()
    longest = max(len(e.prompt) + sum(len(row.response) - 1 for row in e.rows) for e in rows)
    assert longest**2 * SIZES["hidden_size"] < FEW_PAIRS
    assert not choose(TrainOptions(packing="always"), rows, [model_of("Llama")], 60).by_parts
    monkeypatch.setattr(forward, "FEW_PAIRS", 0)
    model = model_of("Llama")
    whole = model.base_model.forward

    def refuse(*args: Any, **kwargs: Any) -> Any:
        if "packed_lengths" in kwargs:
            raise TypeError("unexpected keyword argument 'packed_lengths'")
        return whole(*args, **kwargs)

    model.base_model.forward = refuse
    layout = choose(TrainOptions(packing="always"), rows, [model], 60)
    assert layout == Layout(True, layout.reason) and model.config._attn_implementation == "sdpa"
