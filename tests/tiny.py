"""Short ways to batches and groups for tests by hand; the tiny checkpoints and groups that ship are passed on."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from shutil import copytree
from tempfile import mkdtemp
from typing import Any

from harness.checks.tiny_models import SPECIAL, TEMPLATE, WORDS, tiny_checkpoint, tiny_groups, tiny_tokenizer
from harness.models.checkpoint import POCKET
from harness.types import Group, Prompt, Response

__all__ = [
    "SPECIAL",
    "TEMPLATE",
    "WORDS",
    "empty_weights",
    "student_with_heads_of_24",
    "tiny_batch",
    "tiny_checkpoint",
    "tiny_group",
    "tiny_groups",
    "tiny_tokenizer",
    "tiny_training",
]


def empty_weights(mark: str) -> bytes:
    """A safetensors file without tensors; another mark makes another file."""
    header = json.dumps({"__metadata__": {"mark": mark}}).encode()
    return len(header).to_bytes(8, "little") + header


def student_with_heads_of_24(folder: Path) -> Path:
    """Pocket's student with four heads in place of three of 32 numbers: vLLM on a CPU computes no heads of 24."""
    copytree(POCKET / "student", folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["hidden_size"] == 96
    heads = {"num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 24}
    (folder / "config.json").write_text(json.dumps({**config, **heads}), encoding="utf-8")
    return folder


def tiny_batch(
    lengths: list[int],
    prompts: int = 1,
    signals: dict[str, list[float]] | None = None,
    tokens: dict[str, list[float]] | None = None,
    roles: tuple[str, ...] | None = None,
) -> Any:
    """A ``Batch`` of rows of these lengths, dealt evenly to ``prompts`` prompts; numbers in float32."""
    import torch

    from harness.contracts.method import Batch

    rows = len(lengths)
    row = [number for number, length in enumerate(lengths) for _ in range(length)]
    return Batch(
        prompts=prompts,
        prompt=torch.arange(rows) // (rows // prompts),
        row=torch.tensor(row),
        position=torch.tensor([place for length in lengths for place in range(length)]),
        roles=roles or ("response",) * rows,
        lengths=torch.tensor(lengths),
        signals={name: torch.tensor(values) for name, values in (signals or {}).items()},
        tokens={name: torch.tensor(values) for name, values in (tokens or {}).items()},
    )


def tiny_group(
    samples: list[tuple[str, float | None]], golden: str | None = None, teacher: tuple[Response, ...] = ()
) -> Group:
    """One group from (text, log p_sel) pairs; mean log-probability -1 throughout."""
    responses = tuple(
        Response(text, finished=True, tokens=2, mean_logp=-1.0, log_psel=score) for text, score in samples
    )
    return Group(Prompt("p", ({"role": "user", "content": "ba"},), golden=golden), samples=responses, teacher=teacher)


def tiny_training(method: Any, student: Path, teacher: Path, **changes: Any) -> Any:
    """A run over 16 groups, with all that the method needs; ``changes`` are fields of ``Training`` or its options."""
    from harness.training import Training, TrainOptions
    from harness.training.stored_signals import reference_logps, with_stores

    options = {"batch_size": 8, "micro_batch": 4, "learning_rate": 1e-3, "warmup_ratio": 0.0, "max_length": 64}
    options |= {field.name: changes.pop(field.name) for field in fields(TrainOptions) if field.name in changes}
    run = Training(method, method.config(), tiny_groups(16), student, TrainOptions(**options), 3, teacher)
    run = replace(run, max_new_tokens=6, device="cpu", **changes)
    if "teacher_distributions" not in changes:
        run = with_stores(run, {"tuned": teacher, "family": student}, Path(mkdtemp(dir=student.parent)))
    return replace(run, reference=reference_logps(run)) if method.needs.reference else run
