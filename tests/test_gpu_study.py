"""``studies/gpu.py`` on a CPU: a part that works, one that fails, and the table of both."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from studies import gpu

ROOT = Path(__file__).resolve().parents[1]


def test_a_part_that_fails_or_lasts_is_reported_and_the_table_goes_on() -> None:
    late = gpu.measure("training tiny", 0.01, ["--small"])
    assert late.keys() == {"failed"} and late["failed"].startswith("longer than 0 s")
    parts = {"training tiny": {"speed": 1.23456, "seconds": {"a": 1.0, "b": 2.0}}, "attention": late}
    text = gpu.table({"device": "NVIDIA X", "torch": "2.11", "transformers": "5.17", "parts": parts})
    assert text.startswith("Device: NVIDIA X. torch 2.11, transformers 5.17.")
    assert "| training tiny | speed | 1.235 |" in text and "| training tiny | seconds | a 1; b 2 |" in text
    assert "| attention | failed | longer than 0 s" in text


@pytest.mark.slow
@pytest.mark.parametrize("part", ["training tiny", "attention", "rewards", "fsdp2", "resume", "writing"])
def test_a_part_runs_small(part: str, tmp_path: Path) -> None:
    line = [sys.executable, "-m", "studies.gpu", "--small", "--out", str(tmp_path / "gpu.json"), "--only", part]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    values = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))["parts"][part]
    assert "failed" not in values, values
    assert f"| {part} | " in (tmp_path / "gpu.md").read_text(encoding="utf-8")
    if part == "resume":
        assert values["exit code of the first"] == -9 and values["steps before the resumption"] == 2
    if part in ("resume", "fsdp2"):
        assert values["largest difference of losses"] < 1e-4
