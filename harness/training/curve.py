"""The training curve: one record per optimiser step, summed over processes, and progress on the way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerate.utils import gather_object  # type: ignore[import-untyped]
from torch import Tensor
from transformers import TrainerCallback

from harness.training.options import Progress

if TYPE_CHECKING:
    from harness.training.trainer import DistilTrainer


class Curve(TrainerCallback):
    """Writes ``training.jsonl``, one line per optimiser step, and reports progress."""

    def __init__(self, path: Path, progress: Progress | None) -> None:
        self.path, self.progress = path, progress
        self.trainer: DistilTrainer | None = None
        """Set by the caller once the trainer exists."""
        self.rate = 0.0

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Remember the learning rate that this step uses."""
        self.rate = float(kwargs["optimizer"].param_groups[0]["lr"])

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the step's record."""
        trainer = self.trainer
        if trainer is None:
            raise ValueError("set Curve.trainer before training")
        terms, logs = (summed(part, trainer) for part in (trainer.tally.terms, trainer.tally.logs))
        record = {
            "step": state.global_step,
            "loss": sum(terms.values()),
            "terms": terms,
            "logs": logs,
            "learning_rate": self.rate,
            "grad_norm": trainer.grad_norm,
        }
        trainer.curve.append(record)
        if state.is_world_process_zero:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
            if self.progress is not None:
                self.progress(state.global_step, state.max_steps, {"loss": record["loss"]})


def summed(values: Mapping[str, Tensor], trainer: DistilTrainer) -> dict[str, float]:
    """Scalars summed over processes."""
    own = {name: float(value) for name, value in values.items()}
    if trainer.accelerator.num_processes == 1:
        return own
    shares = gather_object([own])
    return {name: sum(share.get(name, 0.0) for share in shares) for name in sorted({n for s in shares for n in s})}
