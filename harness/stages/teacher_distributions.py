"""Stage ``distributions``: a teacher's next-token distributions on a method's rows, computed once.

Kept per response token: the k most probable tokens with their log-probabilities, and the mass of all others. A second
teacher's store (input ``tokens``) holds its log-probabilities of the first one's tokens, so that both can be compared
token by token. Format and reader: ``harness/training/stored_signals.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.contracts.method import Stored
from harness.contracts.options import options_from
from harness.contracts.stage import Stage
from harness.stages.context import Work, train_options
from harness.stages.training_groups import training_groups
from harness.training.options import Training


def run(stage: Stage, work: Work) -> Mapping[str, Any]:
    """Write ``index.json``, ``ids.npy``, ``logps.npy`` and ``rest.npy``."""
    from harness.training.stored_signals import store_distributions

    params = stage.params
    method = work.registry.methods[params["method"]]
    training = Training(
        method=method,
        config=options_from(method.config, params["rows"]),
        groups=training_groups(stage, work, method.needs),
        student=work.checkpoint(stage, "student").location,
        options=train_options(stage),
        teacher=work.checkpoint(stage, "teacher").location,
    )
    return store_distributions(
        training,
        Stored(params["top_k"], params["temperature"]),
        work.folder,
        like=work.input(stage, "tokens") if "tokens" in stage.inputs else None,
        progress=lambda done, total, logs: work.progress(done, total, "batches"),
    )
