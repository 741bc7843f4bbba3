"""Stage ``train``: a student trained by one method, through our trainer or TRL's, in one process or in several."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from harness.contracts.options import options_from
from harness.contracts.stage import Stage
from harness.stages.context import Work, train_options
from harness.stages.training_groups import training_groups
from harness.training.options import Training, TrainReport


def run(stage: Stage, work: Work) -> Mapping[str, Any]:
    """Write ``model/`` (a checkpoint) with its ``training.jsonl`` (the training curve)."""
    if stage.local.get("launch") is None:
        return asdict(train_here(stage, work))
    from harness.stages.train_worker import Task
    from harness.training.launch import launch

    task = Task(work.setup, stage, work.ledger, work.folder)
    return launch(stage.local["launch"], stage.local["processes"], task, work.progress)


def train_here(stage: Stage, work: Work) -> TrainReport:
    """Train in this process (which may be one of several that ``accelerate launch`` started)."""

    def progress(done: int, total: int, logs: Mapping[str, float]) -> None:
        work.progress(done, total, f"steps, loss {logs['loss']:.3f}" if "loss" in logs else "steps")

    if stage.params["options"]["backend"] == "trl":
        from harness.training.trl_backend import fit_trl

        return fit_trl(training(stage, work), work.folder / "model", progress)
    from harness.training.fit import fit

    return fit(training(stage, work), work.folder / "model", progress, work.scratch(stage))


DISTRIBUTIONS = "distributions:"
"""Inputs of this form hold a teacher's stored distributions: ``distributions:family``, ``distributions:tuned``."""


def has_role(stage: Stage, role: str) -> bool:
    """Whether a stage names a model in this role: a checkpoint of the recipe's, or one trained before."""
    return role in stage.inputs or role in stage.params


def training(stage: Stage, work: Work) -> Training:
    """All that the trainer takes, from the stage's parameters and inputs."""
    params = stage.params
    method = work.registry.methods[params["method"]]
    reference = None
    if "reference" in stage.inputs:
        reference = json.loads((work.input(stage, "reference") / "reference.json").read_text(encoding="utf-8"))
    return Training(
        method=method,
        config=options_from(method.config, params["config"]),
        groups=training_groups(stage, work, method.needs),
        student=work.checkpoint(stage, "student").location,
        options=train_options(stage),
        teacher=work.checkpoint(stage, "teacher").location if has_role(stage, "teacher") else None,
        teacher_distributions={
            role.removeprefix(DISTRIBUTIONS): work.input(stage, role)
            for role in stage.inputs
            if role.startswith(DISTRIBUTIONS)
        },
        reference=reference,
        seed=params["seed"],
    )
