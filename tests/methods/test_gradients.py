"""Every method in float64: gradients from logits to the loss against finite differences; batches against prompts.

The batch: three prompts, rows of different lengths, a vocabulary of seven. The loss of a whole step = sum of totals
divided by their counts, as the trainer forms it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch

from harness.checks.method import teacher_input
from harness.checks.tiny_models import tiny_groups
from harness.contracts.method import Batch, DroppedPrompt, Method
from harness.training.batches import Example, TokenRow, describe
from methods import METHODS, minillm, pad_ppd, pro

VOCABULARY = 7
VARIANTS: dict[str, tuple[str, Any]] = {
    **{name: (name, method.config()) for name, method in METHODS.items()},
    "kd reverse": ("kd", METHODS["kd"].config(direction="reverse", temperature=2.0)),
    "kd stored": ("kd", METHODS["kd"].config(top_k=3)),
    "adpa clipped": ("adpa", METHODS["adpa"].config(clip_advantage="unit", rest_bin=True)),
    "minillm short": ("minillm", minillm.MinillmOptions(long_term=False)),
    "ipo sum": ("ipo", METHODS["ipo"].config(reduction="sum")),
    "pro mean": ("pro", pro.ProOptions(gap="probability", sft_reduction="mean")),
    "pad-ppd ag": ("pad-ppd", pad_ppd.PadPpdOptions(divergence="ag")),
    "pad-ppd kl_ts": ("pad-ppd", pad_ppd.PadPpdOptions(divergence="kl_ts")),
    "pad-ppd kl_st": ("pad-ppd", pad_ppd.PadPpdOptions(divergence="kl_st")),
    "pad-ppd scaled": ("pad-ppd", pad_ppd.PadPpdOptions(beta=2.0, student_beta=0.7, standardise_teacher=True)),
    "gkd forward": ("gkd", METHODS["gkd"].config(beta=0.0)),
    "gkd reverse": ("gkd", METHODS["gkd"].config(beta=1.0)),
    "distillm srkl": ("distillm", METHODS["distillm"].config(divergence="srkl")),
}
"""Name to (method, config): every method with its defaults, and the options that change a formula."""


def examples(method: Method, config: Any) -> list[Example]:
    """Three prompts as the method would have them; token ids are made up, one per word."""
    made = []
    for index, group in enumerate(tiny_groups(12, n=4, seed=1)):
        rows = method.rows(group, config)
        if isinstance(rows, DroppedPrompt):
            continue
        tokens = [TokenRow([1] * len(row.text.split()), row.role, row.signals) for row in rows]
        if method.rollouts is not None:
            tokens = [TokenRow([1] * (2 + len(made)))]  # live responses of 2, 3 and 4 tokens
        if method.needs.reference:
            tokens = [replace(row, signals={**row.signals, "reference": -2.0 * len(row.response)}) for row in tokens]
        made.append(Example(group.prompt.id, index, [1], tuple(tokens)))
    return made[:3]


def numbers(batch: Batch, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """For the batch's N tokens: student logits [N, V], labels [N], logits of two teachers [N, 2, V]."""
    generator = torch.Generator().manual_seed(seed)
    student, *teachers = torch.randn(3, len(batch.row), VOCABULARY, generator=generator, dtype=torch.float64)
    return student, torch.randint(VOCABULARY, (len(batch.row),), generator=generator), torch.stack(teachers, 1)


def weights(method: Method, config: Any, batch: Batch, seed: int) -> dict[str, torch.Tensor]:
    """What ``Rollouts.weigh`` fixes before the step."""
    if method.rollouts is None or method.rollouts.weigh is None:
        return {}
    generator = torch.Generator().manual_seed(seed)
    drawn = -2 * torch.rand(3, len(batch.row), generator=generator, dtype=torch.float64)
    return method.rollouts.weigh(batch, dict(zip(("behaviour", "student", "teacher"), drawn, strict=True)), config)


def counts(batch: Batch) -> Counter[str]:
    """What divides the terms."""
    found = Counter(prompt=batch.prompts, row=len(batch.roles), token=len(batch.row))
    for role, length in zip(batch.roles, batch.lengths.tolist(), strict=True):
        found[f"token:{role}"] += length
    return found


def loss_of(method: Method, config: Any, batch: Batch, inputs: Any, divide: Counter[str]) -> torch.Tensor:
    student, labels, teacher = inputs
    shown = teacher_input(method, config, teacher.transpose(0, 1)) if method.needs.signal == "token" else None
    found = method.loss(batch, method.token_terms(student, labels, shown, config), config)
    return torch.stack([term.total / divide[term.per] for term in found.terms]).sum()


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradient_against_finite_differences(variant: str) -> None:
    name, config = VARIANTS[variant]
    method = METHODS[name]
    batch = describe(examples(method, config), {}, torch.device("cpu"))
    batch = replace(batch, tokens=weights(method, config, batch, seed=2))
    student, labels, teacher = numbers(batch, seed=3)

    def loss(logits: torch.Tensor) -> torch.Tensor:
        return loss_of(method, config, batch, (logits, labels, teacher), counts(batch))

    student.requires_grad_()
    loss(student).backward()
    assert student.grad is not None and student.grad.abs().max() > 1e-4
    generator = torch.Generator().manual_seed(4)
    for _ in range(8):  # directional derivatives: central differences, error of order step^2
        direction = torch.randn(student.shape, generator=generator, dtype=torch.float64)
        step = 1e-5
        with torch.no_grad():
            numeric = (loss(student + step * direction) - loss(student - step * direction)).item() / (2 * step)
        assert (student.grad * direction).sum().item() == pytest.approx(numeric, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_batch_is_its_prompts_one_by_one(variant: str) -> None:
    """Totals of three prompts together = the sum over batches of one, in float64 to 1e-12."""
    name, config = VARIANTS[variant]
    method = METHODS[name]
    shown = examples(method, config)
    batch = describe(shown, {}, torch.device("cpu"))
    tokens = weights(method, config, batch, seed=2)
    inputs = numbers(batch, seed=3)
    whole = loss_of(method, config, replace(batch, tokens=tokens), inputs, counts(batch))
    parts, start = [], 0
    for example in shown:
        size = sum(len(row.response) for row in example.rows)
        cut = slice(start, start + size)
        alone = describe([example], {key: value[cut] for key, value in tokens.items()}, torch.device("cpu"))
        parts.append(loss_of(method, config, alone, [each[cut] for each in inputs], counts(batch)))
        start += size
    torch.testing.assert_close(whole, torch.stack(parts).sum(), atol=1e-12, rtol=1e-12)


def test_every_method_is_swept() -> None:
    assert {name for name, _ in VARIANTS.values()} == set(METHODS)
    assert len(METHODS) == 16
