"""Two CPU processes that split the weights follow one process: PyTorch's fully_shard, DeepSpeed's ZeRO-2 and ZeRO-3."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from harness.models.load import load_tokenizer, load_weights
from harness.training.launch import checkpoint_bytes

# Of 80,832 weights: most of a checkpoint, beside names and shapes.
WIDE = {"hidden": 64, "checkpoint_minutes": 0.0}
LORA = {"lora": {"r": 3}, "gradient_checkpointing": True}
# Name, method, options, and the step after which the first process is killed; then the same command again.
CASES: dict[str, tuple[str, dict[str, Any], int | None]] = {
    "kd": ("kd", {}, None),
    "pad-ppd": ("pad-ppd", WIDE, 4),
    "dpo": ("dpo", {"dtype": "bfloat16"}, None),
    "minillm": ("minillm", {"checkpoint_minutes": 0.0}, 4),
    "lora": ("pad-ppd", LORA, None),
    "lora-killed": ("kd", LORA | WIDE, 4),
}
SHARES = {"fsdp2": 0.5, "zero2": 1.0, "zero3": 0.5}
"""Of the weights that one of two processes holds between steps."""


@pytest.fixture(scope="module", params=SHARES)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The launch configuration, and the folder in which ``tests.fakes.ranks`` left all cases."""
    launch: str = request.param
    if launch.startswith("zero") and importlib.util.find_spec("deepspeed") is None:
        pytest.skip("deepspeed is not installed (pip install deepspeed)")
    folder = tmp_path_factory.mktemp(launch)
    cases = [
        {"name": name, "method": method, "options": options, "kill_at": kill_at}
        for name, (method, options, kill_at) in CASES.items()
    ]
    line = [sys.executable, "-m", "tests.fakes.ranks", launch, json.dumps(cases), str(folder)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(line, check=False, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "log").write_text(done.stdout + done.stderr, encoding="utf-8")
    return launch, folder


def count(file: Path) -> int:
    return sum(value.numel() for value in load_file(file).values()) if file.exists() else 0


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_with_split_weights_follow_one(case: str, trained: tuple[str, Path]) -> None:
    (launch, folder), (_, options, kill_at) = trained, CASES[case]
    place = folder / case
    codes = json.loads((place / "codes.json").read_text())
    # One alone; then two, of whom one is killed and the other ends without it; then two that go on.
    assert codes[:1] + codes[-2:] == [0, 0, 0], (folder / "log").read_text()[-4000:]
    assert len(codes) == (3 if kill_at is None else 5) and (kill_at is None or -9 in codes[1:3])
    one, first, second = (json.loads((place / file).read_text()) for file in ("one/0.json", "two/0.json", "two/1.json"))
    assert (one["share"], first["share"]) == (1.0, pytest.approx(SHARES[launch], abs=0.1))
    if "hidden" in options:
        per_weight, per_trained_weight = checkpoint_bytes(launch)
        weights = count(place / "two" / "model" / "model.safetensors")
        adapters = count(place / "two" / "model" / "adapter" / "adapter_model.safetensors")
        trained = adapters if "lora" in options else weights
        size = per_weight * (weights + adapters) + per_trained_weight * trained
        assert 0.75 < first["checkpoint_bytes"] / size < 1.25
    assert first["resumed_at"] == second["resumed_at"] == (0 if kill_at is None else kill_at - 1)
    alone, together = (
        [json.loads(line) for line in (place / name / "model" / "training.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    )
    assert len(alone) == len(together) == 6
    for record, other in zip(alone, together, strict=True):
        assert other["loss"] == pytest.approx(record["loss"], abs=1e-4)
        assert other["grad_norm"] == pytest.approx(record["grad_norm"], rel=1e-3)
        assert other["learning_rate"] == record["learning_rate"]
        assert other["terms"].keys() == record["terms"].keys()
    assert len({round(record["loss"], 4) for record in alone}) > 3
    expected, saved = (load_file(place / name / "model" / "model.safetensors") for name in ("one", "two"))
    assert saved.keys() == expected.keys()
    for name, value in expected.items():
        assert saved[name].dtype == value.dtype and float((saved[name] - value).abs().max()) <= 1e-5, name
    load_weights(place / "two" / "model", load_tokenizer(place / "student"), value.dtype)
    assert (place / "two" / "model" / "adapter").is_dir() == ("lora" in options)
