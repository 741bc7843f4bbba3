"""Runs one stage in this process: its function, the store it writes to, and what becomes of its errors."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

from harness.contracts.executor import StageResult
from harness.contracts.stage import Stage
from harness.errors import UserError
from harness.stages import STAGES
from harness.stages.context import Setup, StageContext

log = logging.getLogger(__name__)


class StageRunner:
    """A ``RunStage``. ``functools.partial(StageRunner, setup, ledger, started)`` is a picklable ``MakeRunStage``.

    ``started``: when the run began, seconds since 1970; budgets for judging count from there, in every worker.
    """

    def __init__(self, setup: Setup, ledger: Path, started: float) -> None:
        self.setup, self.ledger, self.started = setup, ledger, started
        self.registry, self.store = setup()

    def __call__(self, stage: Stage, progress: Callable[[int, int, str], None]) -> StageResult:
        """Run ``stage`` into the store. Any error is a result: one stage must not take the others with it."""
        begin = time.monotonic()
        name = f"{stage.key[:8]} {stage.label}"
        log.info("begin %s", name)

        def fill(folder: Path) -> Mapping[str, object]:
            context = StageContext(self.registry, self.store, self.ledger, folder, progress, self.setup, self.started)
            return STAGES[stage.kind].run(stage, context)

        error = None
        try:
            self.store.write(stage, fill)
        except UserError as problem:
            error = str(problem)
        except Exception:  # noqa: BLE001, a fault of ours: its traceback is what the report needs
            error = traceback.format_exc()
        seconds = time.monotonic() - begin
        log.info("failed %s after %.1f s" if error else "end %s: %.1f s", name, seconds)
        return StageResult(stage, seconds, error)
