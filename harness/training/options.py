"""How to train, and what training measured. Plain data: nothing here imports torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from harness.contracts.method import Method
from harness.contracts.options import NotNegative, Positive, ShareBelowOne, Tokens, not_tiny, options, require
from harness.training.tracking import Tracker, Tracking
from harness.types import Group

CURVE = "training.jsonl"
"""The training curve in a checkpoint's folder: a ``StepRecord`` per line."""
Progress = Callable[[int, int, Mapping[str, float]], None]
"""(steps done, steps in total, {"loss": ...}); called after each optimiser step."""


def _device(text: str) -> str:
    rule = "must be auto, cpu, mps, cuda or cuda:N with N up to 63"
    require(re.fullmatch(r"auto|cpu|mps|cuda(:([0-5]?[0-9]|6[0-3]))?", text) is not None, rule)
    return text


DeviceName = Annotated[str, AfterValidator(_device)]
"""``auto``: the GPU where there is one; or ``cpu``, ``mps``, ``cuda``, ``cuda:N``."""


@options
class Lora:
    """Low-rank adapters in place of full fine-tuning; merged into the saved student, alone in ``adapter/``."""

    r: Annotated[int, Field(ge=1, le=65_536)] = 16
    """Rank of the update of each matrix."""
    alpha: Positive = 32.0
    """The update is scaled by alpha / r."""
    dropout: ShareBelowOne = 0.0
    """Dropout on the adapters' inputs. Above 0, the loss of a step depends on its split into micro-batches."""
    target_modules: str | Annotated[tuple[str, ...], Field(min_length=1)] = "all-linear"
    """Names of linear layers (``[q_proj, v_proj]``), or ``all-linear``: all but the output head."""


@options
class TrainOptions:
    """The section ``train`` of a recipe, shared by all methods; ``methods.NAME.train`` overrides any of these."""

    epochs: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Passes over the training prompts."""
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = 128
    """Prompts per optimiser step, over all processes."""
    micro_batch: Annotated[int, Field(ge=1, le=1_000_000)] = 4
    """Prompts per forward pass; changes memory, not the loss."""
    learning_rate: Annotated[float, Field(gt=0, le=10), AfterValidator(not_tiny)] = 1e-6
    """Peak learning rate of AdamW (betas 0.9 and 0.999, epsilon 1e-8)."""
    warmup_ratio: ShareBelowOne = 0.1
    """Share of the steps over which the learning rate rises linearly from 0."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """Learning rate after the warm-up."""
    schedule_over: Literal["round", "run"] = "round"
    """In a row with ``rounds``, whether warm-up and schedule span each ``round`` or the whole ``run``. The optimiser
    starts afresh in each round either way."""
    weight_decay: Annotated[float, Field(ge=0, le=100), AfterValidator(not_tiny)] = 0.0
    """AdamW's decoupled weight decay, on matrices only (no biases, no norms)."""
    max_grad_norm: NotNegative = 1.0
    """Gradients are scaled down to this norm; 0 leaves them alone."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """``bfloat16``: matrix products in bfloat16; weights, log-softmax and sums stay in float32 (updates of 1e-6
    would vanish in bfloat16 weights). No float16: it would need scaled losses, which the trainer does not have."""
    max_length: Tokens = 2048
    """Tokens of prompt and response together; prompts with a longer row are dropped and counted, never cut."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    packing: Literal["auto", "always", "never"] = "auto"
    """Whether the responses to one prompt share one row: faster, the same numbers. ``auto``: where it is exact and
    worthwhile; ``always``: or stop with the reason; ``never``: a row per response."""
    lora: Lora | None = None
    """Train low-rank adapters; ``null`` trains all weights."""
    checkpoint_minutes: NotNegative | None = 20.0
    """Minutes between checkpoints from which a killed training continues (0: every step); ``null``: none, it starts
    again."""
    report_to: tuple[Tracker, ...] = ()
    """Where the training curves also go: ``tensorboard`` (files under ``runs/NAME/tensorboard``), ``wandb``,
    ``trackio``. Each needs its own package; keys of services are read from the environment only."""
    backend: Literal["ours", "trl"] = "ours"
    """``trl``: TRL's stable SFT and DPO trainers, for comparison, for the methods that they have."""

    def __post_init__(self) -> None:
        # Our trainer takes any split of a batch; TRL counts accumulation steps, all of one size.
        divides = not self.with_trl or self.batch_size % self.micro_batch == 0
        require(
            divides,
            f"backend trl: micro_batch = {self.micro_batch} must divide batch_size = {self.batch_size}, because "
            "TRL averages micro-batches with equal weight",
        )

    @property
    def with_trl(self) -> bool:
        return self.backend == "trl"


@dataclass(frozen=True)
class Training:
    method: Method
    config: object
    groups: Sequence[Group]
    student: str | Path
    options: TrainOptions
    seed: int = 0
    """The same seed gives the same bytes on a CPU."""
    teacher: str | Path | None = None
    teacher_distributions: Mapping[str, str | Path] = field(default_factory=dict)
    """Teacher to the folder of its stored distributions; with these, no teacher is live."""
    reference: Sequence[Sequence[float]] | None = None
    """What ``reference_logps`` returned: per group and row, empty for dropped groups."""
    schedule_segment: tuple[int, int] = (0, 1)
    """(i, k): segment i (from 0) of k equal ones under one schedule."""
    max_new_tokens: int = 512
    tracking: Tracking | None = None
    device: str = "auto"
    trust_remote_code: bool = False


@dataclass(frozen=True)
class TrainReport:
    """``dropped``: reason to prompts; ``foreign_rows``: those that are ``TokenRow.is_foreign``; ``tokens``: through the
    student in all epochs, no padding; ``seconds``: without loading and saving, since ``resumed_at`` (steps);
    ``peak_memory``: bytes of the GPU, or of the resident set."""

    steps: int
    prompts: int
    dropped: Mapping[str, int]
    foreign_rows: int
    tokens: int
    response_tokens: int
    first_loss: float
    final_loss: float
    packing: str
    adapter: str | None
    seconds: float
    resumed_at: int
    peak_memory: int
