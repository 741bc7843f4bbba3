"""A process of a training stage. The first leaves ``report.json``, one with a user's mistake ``error-RANK``."""

from __future__ import annotations

import json
import os
import pickle
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

from harness.errors import UserError, memory_error
from harness.stages.kind import StageContext
from harness.stages.kinds.train import train_here
from harness.training.launch import PROGRESS


def main(folder: Path) -> int:
    # Written a moment ago by the process that started this one.
    parent, task = pickle.loads((folder / "task").read_bytes())  # noqa: S301
    # accelerate does not pass a kill -9 of the run on to its processes.
    threading.Thread(target=leave_with, args=(parent,), daemon=True).start()
    rank = int(os.environ.get("RANK", "0"))

    def progress(done: int, total: int, info: str) -> None:
        if rank == 0:
            sys.stdout.write(PROGRESS + json.dumps([done, total, info]) + "\n")
            sys.stdout.flush()

    registry, store = task.setup()
    try:
        report = train_here(task.stage, StageContext(registry, store, task.ledger, task.folder, progress, task.setup))
    except Exception as error:
        text = str(error) if isinstance(error, UserError) else memory_error(error)
        if text is None:
            raise
        (folder / f"error-{rank}").write_text(text, encoding="utf-8")
        return 1
    if rank == 0:
        (folder / "report.json").write_text(json.dumps(asdict(report)), encoding="utf-8")
    return 0


def leave_with(parent: int) -> None:
    while True:
        try:
            os.kill(parent, 0)
        except ProcessLookupError:
            os._exit(1)
        time.sleep(1.0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
