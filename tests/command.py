"""The command line in a process of its own, and the smallest recipe that runs the whole road: for tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

SMALL = (
    "prompts.n=16",
    "train.batch_size=8",
    "train.micro_batch=8",
    "seeds=[0]",
    "benchmarks.alpaca_eval.limit=8",
    "benchmarks.arena_hard.limit=8",
    "benchmarks.mt_bench.limit=8",
    "benchmarks.gsm8k.limit=8",
    "statistics.replicates=100",
    "compute.workers=1",
)
"""Two optimiser steps per method and 32 questions: about 20 s of one core, most of it importing."""


def settings(*values: str) -> list[str]:
    """``--set`` for each of these."""
    return [word for value in values for word in ("--set", value)]


def environment(**more: str) -> dict[str, str]:
    """Of a user: our packages are found wherever the command runs, no hub is asked, lines are not wrapped."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "COLUMNS": "200", **more}


def command(*words: str) -> list[str]:
    """How ``distilbench WORDS`` is started. ``-P``: what lies in the working directory shadows nothing."""
    return [sys.executable, "-P", "-m", "distilbench", *words]


def distilbench(*words: str, cwd: Path, timeout: float = 300, **more: str) -> subprocess.CompletedProcess[str]:
    """Run ``distilbench WORDS`` in ``cwd``; keyword arguments are environment variables."""
    return subprocess.run(
        command(*words),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        cwd=cwd,
        env=environment(**more),
    )
