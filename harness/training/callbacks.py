"""What training writes on the way: its curve, one record per optimiser step, and checkpoints to resume from.

A stage that was killed goes on from its last checkpoint, to the same bytes on a CPU. transformers' Trainer writes
weights, optimiser, schedule, random states and step count. What it does not know (the training curve and token counts
so far) is written last, in one move, and marks the checkpoint as whole.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list, gather_object  # type: ignore[import-untyped]
from torch import Tensor
from transformers import TrainerCallback

from harness.training.options import Progress
from harness.training.trainer import DistilTrainer

CURVE = "training.jsonl"
"""The training curve in a checkpoint's folder: step, loss, terms, logs, learning_rate, grad_norm per line."""
MARKER = "distilbench.json"
"""Written last: a checkpoint without it is not whole."""


class Curve(TrainerCallback):
    """Writes ``training.jsonl``, one line per optimiser step, and reports progress."""

    def __init__(self, trainer: DistilTrainer, path: Path, progress: Progress | None) -> None:
        self.trainer, self.path, self.progress = trainer, path, progress
        self.rate = 0.0

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # Read now: when the step has ended, the schedule has moved on to the next step's rate.
        self.rate = float(kwargs["optimizer"].param_groups[0]["lr"])

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        trainer = self.trainer
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
    scalars = {name: float(value) for name, value in values.items()}
    if trainer.accelerator.num_processes == 1:
        return scalars
    shares = gather_object([scalars])
    return {
        name: sum(share.get(name, 0.0) for share in shares)
        for name in sorted({name for share in shares for name in share})
    }


class Checkpoints(TrainerCallback):
    """Saves every ``minutes`` (0: every step) into ``folder``, and keeps the newest whole checkpoint alone."""

    def __init__(self, trainer: DistilTrainer, folder: Path, minutes: float) -> None:
        self.trainer, self.folder, self.minutes = trainer, folder, minutes
        self.last = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ask for a checkpoint when it is time; the first process's clock decides for all."""
        due = [time.monotonic() - self.last >= 60 * self.minutes and state.global_step < state.max_steps]
        if self.trainer.accelerator.num_processes > 1:
            # Overwrites the list with that of the first process.
            broadcast_object_list(due)
        control.should_save = due[0]

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Mark the checkpoint that was just written, then remove older ones."""
        self.last = time.monotonic()
        trainer = self.trainer
        trainer.accelerator.wait_for_everyone()  # other processes' random states belong to it too
        if not state.is_world_process_zero:
            return
        folder = self.folder / f"checkpoint-{state.global_step}"
        draft = folder / (MARKER + ".part")
        with draft.open("w", encoding="utf-8") as file:
            json.dump({"curve": trainer.curve, "tokens": dict(trainer.tokens)}, file)
            file.flush()
            # The marker must not get its name before its content is on disk.
            os.fsync(file.fileno())
        draft.rename(folder / MARKER)
        for other in checkpoints(self.folder):
            if other != folder:
                shutil.rmtree(other)


def checkpoints(folder: Path) -> list[Path]:
    """All checkpoint folders, whole or not, oldest step first."""
    return sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))


def newest(folder: Path) -> Path | None:
    whole = [path for path in checkpoints(folder) if (path / MARKER).is_file()]
    return whole[-1] if whole else None


def restore(trainer: DistilTrainer, checkpoint: Path, curve: Path) -> None:
    """Give the trainer its records back, and rewrite the curve's file up to the checkpoint."""
    saved = json.loads((checkpoint / MARKER).read_text(encoding="utf-8"))
    trainer.curve[:] = saved["curve"]
    trainer.tokens.update(saved["tokens"])
    if trainer.accelerator.is_main_process:
        curve.write_text("".join(json.dumps(record) + "\n" for record in saved["curve"]), encoding="utf-8")
