"""A training stage in several processes, started by accelerate; each runs ``harness/stages/train_worker.py``."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.contracts.stage import Stage
from harness.errors import UserError

PROGRESS = "@step "
CONFIGURATIONS = {path.stem: path for path in sorted(Path(__file__).with_name("launch_configs").glob("*.yaml"))}


def launch_configuration(name: str) -> Path:
    """A shipped configuration, or accelerate's file at this path. Raises ValueError."""
    path = CONFIGURATIONS.get(name, Path(name).expanduser())
    if not path.is_file() or "distributed_type" not in path.read_text(encoding="utf-8", errors="replace"):
        raise ValueError(f"{name!r} is neither accelerate's file nor one of {', '.join(CONFIGURATIONS)}")
    return path


def checkpoint_bytes(name: str | None) -> tuple[int, int]:
    """Of a checkpoint to resume from: per weight, and per trained weight. ``name``: of the launch configuration."""
    text = "" if name is None else launch_configuration(name).read_text(encoding="utf-8", errors="replace")
    kind = re.search(r"^distributed_type:\W*(\w+)", text, re.MULTILINE)
    # float32 weights and AdamW's two moments. Split weights lie there once more, in a format of their own; DeepSpeed's
    # optimiser has a float32 copy of what it trains (with ZeRO-3 that is the other format).
    return {"FSDP": (8, 8), "DEEPSPEED": (8, 12)}.get(kind[1] if kind else "", (4, 8))


def command(name: str, processes: int | None, module: str, *arguments: str) -> list[str]:
    # ``train.dtype`` decides, whatever the file says.
    process_options = ["--mixed_precision", "no", *([] if processes is None else ["--num_processes", str(processes)])]
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(launch_configuration(name))]
    # Port 0: any free one, so that two training stages can run at once.
    return [*launcher, *process_options, "--main_process_port", "0", "-m", module, *arguments]


@dataclass(frozen=True)
class LaunchTask:
    """``setup`` makes registry and store (``harness.run.scheduler.Setup``); ``folder``: of the artifact."""

    setup: Any
    stage: Stage
    ledger: Path
    folder: Path


def launch(
    name: str, processes: int | None, task: LaunchTask, progress: Callable[[int, int, str], None]
) -> Mapping[str, Any]:
    """What the first process measured. Raises UserError with the first failure, or the end of the output."""
    with tempfile.TemporaryDirectory(prefix="distilbench-launch-") as place:
        folder = Path(place)
        (folder / "task").write_bytes(pickle.dumps((os.getpid(), task)))
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        line = command(name, processes, "harness.stages.train_worker", str(folder))
        lines: list[str] = []
        with subprocess.Popen(  # noqa: S603, our own module under accelerate
            line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        ) as process:
            for text in process.stdout or ():
                if text.startswith(PROGRESS):
                    progress(*json.loads(text.removeprefix(PROGRESS)))
                else:
                    # The cause stands at the end; all that a long run prints need not be kept.
                    lines = [*lines[-40:], text]
        errors = sorted(folder.glob("error-*"), key=lambda path: path.stat().st_mtime_ns)
        if errors:
            raise UserError(errors[0].read_text(encoding="utf-8"))
        if process.returncode or not (folder / "report.json").is_file():
            raise UserError(f"accelerate launch ({name}) ended with code {process.returncode}:\n{''.join(lines)}")
        report: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        return report
