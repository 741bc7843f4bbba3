"""Stage ``reference``: summed log-probabilities of a method's rows under the student it starts from, computed once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from harness.contracts.options import options_from
from harness.contracts.stage import Stage
from harness.stages.context import Work, train_options
from harness.stages.training_groups import training_groups
from harness.training.options import Training


def run(stage: Stage, work: Work) -> Mapping[str, Any]:
    """Write ``reference.json``: per group its rows' log-probabilities (empty where the group was dropped)."""
    from harness.training.stored_signals import reference_logps

    method = work.registry.methods[stage.params["method"]]
    training = Training(
        method=method,
        config=options_from(method.config, stage.params["rows"]),
        groups=training_groups(stage, work, method.needs),
        student=work.checkpoint(stage, "student").location,
        options=train_options(stage),
    )
    values = reference_logps(training, lambda done, total, logs: work.progress(done, total, "batches"))
    (work.folder / "reference.json").write_text(json.dumps(values, allow_nan=False), encoding="utf-8")
    return {"groups": len(values), "rows": sum(len(row) for row in values)}
