"""Stage ``train``: a student trained by one method, through our trainer or TRL's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from harness.stage import Stage
from harness.stages.groups import training_groups
from harness.stages.work import Work, build, train_options


def run(stage: Stage, work: Work) -> Mapping[str, Any]:
    """Write ``model/`` (a checkpoint) with its ``training.jsonl`` (the training curve)."""
    params = stage.params
    method = work.registry.methods[params["method"]]
    groups = training_groups(stage, work, method.needs)
    reference = None
    if "reference" in stage.inputs:
        reference = json.loads((work.input(stage, "reference") / "reference.json").read_text(encoding="utf-8"))
    arguments: dict[str, Any] = {
        "method": method,
        "config": build(method.config, params["config"]),
        "groups": groups,
        "student_path": work.checkpoint(stage, "student").location,
        "out_dir": work.folder / "model",
        "options": train_options(stage),
        "seed": params["seed"],
        "progress": lambda done, total, logs: work.progress(done, total, f"steps, loss {logs.get('loss', 0.0):.3f}"),
    }
    if params["options"]["backend"] == "trl":
        from harness.trainer.trl_backend import fit_trl

        return asdict(fit_trl(**arguments))
    from harness.trainer.fit import fit

    teacher = work.checkpoint(stage, "teacher").location if "teacher" in params else None
    return asdict(fit(**arguments, teacher_path=teacher, reference=reference))
