"""Checks of a method by training tiny models: the student alone learns, and neither batching nor chance matters."""

from __future__ import annotations

import gc
import hashlib
import math
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback

from harness.checks.data_checks import World
from harness.checks.finding import Failed
from harness.contracts.method import Method
from harness.training.fit import fit, make_job, make_trainer, run
from harness.training.options import Training

TOLERANCE = 1e-6
"""Of losses, relative or absolute; of gradients, relative to their norm or 1."""


class _Gradients(TrainerCallback):
    """Keeps the gradients of the first step."""

    def __init__(self) -> None:
        self.first: dict[str, Tensor] = {}

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not self.first:
            named = kwargs["model"].named_parameters()
            self.first = {name: value.grad.clone() for name, value in named if value.grad is not None}


@contextmanager
def quiet() -> Iterator[None]:
    """One thread, and no long walks of the garbage collector."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the matrices are tiny
    gc.freeze()  # a trainer collects garbage as it starts; without this it walks over all of torch each time
    try:
        yield
    finally:
        gc.unfreeze()
        torch.set_num_threads(threads)


def trained(training: Training, out: Path) -> tuple[list[dict[str, Any]], dict[str, Tensor], Any]:
    """Train: the curve, the gradients of the first step, and the job with its models as they were left."""
    with quiet():
        job, dropped = make_job(training)
        trainer = make_trainer(job, out)
        gradients = _Gradients()
        trainer.add_callback(gradients)
        run(trainer, job, out, dropped)
    return trainer.curve, gradients.first, job


def check_trains(method: Method, config: Any, world: World) -> str:
    """Two steps and more with a finite loss; every step moves the student, and nothing but the student."""
    before = {path: digest(path) for path in (world.student, world.teacher)}
    out = world.folder / "trains" / method.name
    curve, gradients, job = trained(world.training(method, config), out)
    losses = [record["loss"] for record in curve]
    if len(losses) < 2 or not all(map(math.isfinite, losses)):
        raise Failed(f"two finite losses are wanted, these are the losses: {losses}")
    if any(digest(path) != old for path, old in before.items()):
        raise Failed("training wrote into the checkpoint that it started from")
    norm = norm_of(gradients)
    if norm == 0:
        raise Failed("the loss has no gradient to the student")
    if job.teacher is not None and any(value.grad is not None for value in job.teacher.parameters()):
        raise Failed("the loss has a gradient to the teacher")
    if digest(out) == before[world.student]:
        raise Failed("training left the student as it was")
    return f"{len(losses)} steps, loss {losses[0]:.4f} to {losses[-1]:.4f}; gradient to the student alone"


HINT = (
    ". Terms are totals over the batch, not means. And an order that is taken from the student's own rewards depends "
    "on rounding where these are equal, as all are at the start (student = reference): rank by stored scores, or give "
    "ties a rule"
)
"""What usually lies behind a loss that depends on the micro-batch."""


def check_micro_batches(method: Method, config: Any, world: World) -> str:
    """One step as one micro-batch, as 3 + 3 + 2 prompts and prompt by prompt: the same loss, the same gradient."""
    made = world.training(method, config, max_grad_norm=0.0)
    made = replace(made, groups=made.groups[:8], reference=made.reference[:8] if made.reference else None)
    results = []
    for micro in (8, 3, 1):
        option = replace(made, options=replace(made.options, micro_batch=micro))
        curve, gradient, _ = trained(option, world.folder / "micro" / method.name)
        results.append((curve[0]["loss"], gradient))
    loss, gradient = results[0]
    norm, worst, gap = norm_of(gradient), 0.0, 0.0
    for other, values in results[1:]:
        gap = max(gap, abs(other - loss))
        worst = max(worst, *(float((gradient[key] - values[key]).abs().max()) for key in gradient))
    if gap > TOLERANCE * max(1.0, abs(loss)):
        raise Failed(f"the loss depends on the micro-batch: it moves by {gap:.2g} of {loss:.4f}{HINT}")
    if worst > TOLERANCE * max(1.0, norm):
        raise Failed(f"the gradient depends on the micro-batch: it moves by {worst:.2g} of a norm {norm:.2g}{HINT}")
    return f"1 x 8 = 3 + 3 + 2 = 8 x 1: loss within {gap:.1g}, gradient within {worst:.1g}"


def check_seed(method: Method, config: Any, world: World) -> str:
    """The same seed leaves the same bytes."""
    digests = []
    for number in range(2):
        out = world.folder / "seed" / method.name / str(number)
        trained(world.training(method, config), out)
        digests.append(digest(out))
    if digests[0] != digests[1]:
        raise Failed("two runs with one seed left different weights: draw from a generator with a seed of your own")
    return "same seed, same bytes"


class _Killed(Exception):
    """Stands in for a process that dies."""


def check_resume(method: Method, config: Any, world: World) -> str:
    """A run that is killed after its first step and goes on from the checkpoint leaves the bytes of an unbroken one."""
    made = world.training(method, config, checkpoint_minutes=0.0)
    place = Path(tempfile.mkdtemp(dir=world.folder))  # of its own: a run would go on from any checkpoint it finds

    def killer(done: int, total: int, logs: Any) -> None:
        if done == 2:
            raise _Killed

    with quiet():
        fit(made, place / "whole", scratch=place / "other")
        try:
            fit(made, place / "killed", killer, place / "scratch")
        except _Killed:
            report = fit(made, place / "resumed", scratch=place / "scratch")
        else:
            raise Failed("it has a single step, so it cannot be broken off after one")
    if report.resumed_at != 1:
        raise Failed(f"it went on from step {report.resumed_at}, not from the checkpoint of step 1")
    if digest(place / "resumed") != digest(place / "whole"):
        raise Failed(
            "a run that goes on from a checkpoint leaves other weights: whatever the loss keeps between steps is lost "
            "with the process; compute it from the batch and the config alone"
        )
    return f"killed after step 1 of {report.steps}, resumed: the same bytes"


def digest(folder: Path) -> str:
    """Hash of a checkpoint's weights."""
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def norm_of(gradients: Mapping[str, Tensor]) -> float:
    """Euclidean norm over all parameters."""
    return math.sqrt(sum(float(value.double().pow(2).sum()) for value in gradients.values()))
