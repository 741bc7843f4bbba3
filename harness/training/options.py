"""How to train, and what training measured. Plain data: nothing here imports torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from harness.contracts.method import Method
from harness.errors import UserError
from harness.types import Group

Progress = Callable[[int, int, Mapping[str, float]], None]
"""(steps done, steps in total, {"loss": ...}); called after each optimiser step."""


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters in place of full fine-tuning; merged into the checkpoint that is left, and kept beside it."""

    r: int = 16
    """Rank of the update of each matrix."""
    alpha: float = 32.0
    """The update is scaled by alpha / r."""
    dropout: float = 0.0
    """On the adapters' inputs. Above 0 the loss of a step depends on its split into micro-batches."""
    target_modules: str | tuple[str, ...] = "all-linear"
    """Names of linear layers (``["q_proj", "v_proj"]``), or ``all-linear``: all but the output head."""

    def __post_init__(self) -> None:
        if self.r < 1 or self.alpha <= 0 or not 0 <= self.dropout < 1 or not self.target_modules:
            raise UserError(
                f"train.lora: r = {self.r} must be at least 1, alpha = {self.alpha} above 0, dropout = {self.dropout} "
                f"in [0, 1), target_modules = {self.target_modules!r} not empty"
            )


@dataclass(frozen=True)
class TrainOptions:
    """Hyperparameters that every method shares, so that rows of a table differ in the method alone."""

    epochs: int = 1
    """Passes over the prompts."""
    batch_size: int = 128
    """Prompts per optimiser step, over all processes."""
    micro_batch: int = 8
    """Prompts per forward pass; changes speed and memory, not the result."""
    learning_rate: float = 1e-6
    """Peak learning rate."""
    warmup_ratio: float = 0.1
    """Share of the steps over which the learning rate rises linearly from 0."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """Learning rate after the warm-up."""
    part: tuple[int, int] = (0, 1)
    """This training is part i (from 0) of k equal ones that share one schedule: rounds with ``schedule_over: run``."""
    weight_decay: float = 0.0
    """AdamW's, on matrices only (no biases, no norms)."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm; 0 leaves them alone."""
    optimizer: Literal["adamw"] = "adamw"
    """AdamW with betas (0.9, 0.999) and epsilon 1e-8."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """``bfloat16``: matrix products in bfloat16; weights, log-softmax and sums stay in float32 (updates of 1e-6
    would vanish in bfloat16 weights)."""
    max_length: int = 2048
    """Tokens of prompt and response together; prompts with a longer row are dropped and counted, never cut."""
    max_new_tokens: int = 512
    """Longest live response (methods with rollouts)."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    packing: Literal["auto", "always", "never"] = "auto"
    """Whether the responses to one prompt share one row (``harness.training.packing``): faster, the same numbers.
    ``auto``: where it is exact and pays; ``always``: or stop with the reason; ``never``: a row per response."""
    lora: Lora | None = None
    """Train low-rank adapters; ``None`` trains all weights."""
    trust_remote_code: bool = False
    """Whether code that comes with a checkpoint may run."""
    checkpoint_minutes: float | None = None
    """Minutes between checkpoints from which a killed run goes on (0: every step); ``None``: none are written."""
    chunk: int = 0
    """Positions per vocabulary chunk; 0 picks what keeps a chunk of logits below 64 MiB."""
    device: str = "auto"
    """``auto``: the GPU where there is one; or ``cpu``, ``mps``, ``cuda``, ``cuda:N``."""

    def __post_init__(self) -> None:
        problems = [
            *(f"{name} = {getattr(self, name)} must be at least 1" for name in POSITIVE if getattr(self, name) < 1),
            *(
                f"{name} = {getattr(self, name)} must not be negative"
                for name in NON_NEGATIVE
                if getattr(self, name) < 0
            ),
            *([] if 0 <= self.part[0] < self.part[1] else [f"part = {self.part} must be (i, k) with 0 <= i < k"]),
            *(["checkpoint_minutes must not be negative"] if (self.checkpoint_minutes or 0) < 0 else []),
            *([f"warmup_ratio = {self.warmup_ratio} must lie in [0, 1)"] if not 0 <= self.warmup_ratio < 1 else []),
            *(
                f"{name} = {getattr(self, name)!r}; choices: {', '.join(choices)}"
                for name, choices in CHOICES.items()
                if getattr(self, name) not in choices
            ),
            *([] if DEVICE.fullmatch(self.device) else [f"device = {self.device!r}; choices: {DEVICES}"]),
        ]
        if problems:
            raise UserError("train: " + "; ".join(problems))


DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
DEVICES = "auto, cpu, mps, cuda, cuda:N"
POSITIVE = ("epochs", "batch_size", "micro_batch", "max_length", "max_new_tokens")
NON_NEGATIVE = ("learning_rate", "weight_decay", "max_grad_norm", "chunk")
CHOICES = {
    "schedule": ("cosine", "linear", "constant"),
    "optimizer": ("adamw",),
    "dtype": ("float32", "bfloat16"),
    "packing": ("auto", "always", "never"),
}


@dataclass(frozen=True)
class Training:
    """One training run: everything that decides its checkpoint."""

    method: Method
    config: Any
    """Of type ``method.config``."""
    groups: Sequence[Group]
    student: str | Path
    """Checkpoint folder (or hub id) to start from."""
    options: TrainOptions
    seed: int = 0
    """Decides the order of prompts and the live responses; the same seed gives the same bytes on a CPU."""
    teacher: str | Path | None = None
    """Checkpoint of the live teacher, for methods with ``signal="token"``."""
    taught: Mapping[str, str | Path] = field(default_factory=dict)
    """Teacher (``family``, ``tuned``) to the folder of its stored distributions: where there are any, no teacher is
    live (``Method.stored``)."""
    reference: Sequence[Sequence[float]] | None = None
    """What ``reference_logps`` gave, for methods that need it: per group and row, empty for groups that drop out."""


@dataclass(frozen=True)
class TrainReport:
    """What one training run did and took."""

    steps: int
    """Optimiser steps."""
    prompts: int
    """Prompts that were trained on."""
    dropped: Mapping[str, int]
    """Reason to number of prompts that could not be used."""
    tokens: int
    """Tokens that went through the student (prompts and responses, no padding), all epochs."""
    response_tokens: int
    """Those of them that are response tokens."""
    first_loss: float
    """Loss of the first step, before any update."""
    final_loss: float
    """Loss of the last step."""
    packing: str
    """Whether responses to one prompt shared a row, and why."""
    adapter: str | None
    """What was adapted, in words; ``None`` for full fine-tuning."""
    seconds: float
    """Wall time of training, loading and saving left out; of the last part alone where a killed run was resumed."""
    resumed_at: int
    """Steps that were done before a killed run was resumed; 0 for a run in one go."""
    peak_memory: int
    """Bytes: of the GPU during training, or the resident set of the process so far where there is no GPU."""
