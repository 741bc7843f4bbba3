"""Disk and memory before a run: what is trained, and stores of distributions, are counted by their own sizes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import save_file

from harness.contracts.stage import Stage
from harness.plan import preflight
from harness.plan.plan import Plan
from harness.stages import STAGES
from harness.stages.kind import DiskUse
from tests.harness.test_plan import checkpoint, plan

MIB = 1 << 20


def with_memory(monkeypatch: pytest.MonkeyPatch, total: int) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(total=total))


@pytest.fixture
def work(tmp_path: Path) -> Plan:
    """See ``make``."""
    return make(tmp_path)


def make(place: Path, *changes: str, dtype: type = np.float32, rows: tuple[str, ...] = ("adpa+",)) -> Plan:
    """A teacher of 8 MiB in float32 (2 Mi numbers), a student of 2 MiB; 10 prompts, responses of 24 tokens assumed."""
    family = []
    for name, height in (("teacher", 8), ("student", 2)):
        folder = checkpoint(place / name, ("a", "b"))
        shapes = {
            "model.embed_tokens.weight": (128 * height, 1024),
            "model.layers.0.mlp.up_proj.weight": (64 * height, 1024),
            "model.layers.0.mlp.down_proj.weight": (1024, 64 * height),
        }
        tensors = {name: np.zeros(shape, dtype) for name, shape in shapes.items()}
        save_file(tensors, Path(folder) / "model.safetensors")
        family.append(f"family.{name}={folder}")
    small = ["seeds=[0]", "prompts.n=10", "train.batch_size=2", "train.micro_batch=1", "compute.workers=1"]
    return plan(*family, *small, *changes, rows=rows)


def room_for(work: Plan, place: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """The MiB of free disk from which on the plan has enough."""
    free = SimpleNamespace(free=0)
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda where: free)
    for size in range(200):
        free.free = size * MIB
        if not preflight.disk(work, work.stages, place, work.recipe.compute.workers):
            return size
    raise AssertionError("200 MiB are not enough")


@pytest.mark.parametrize(
    ("flags", "changes", "notes"),
    [
        ("fpu avx512f", ["train.dtype=bfloat16"], 1),
        ("fpu avx512f avx512_bf16", ["train.dtype=bfloat16"], 0),
        ("fpu avx512f", ["train.dtype=float32"], 0),
        ("fpu avx512f", ["train.dtype=bfloat16", "compute.device=cuda"], 0),
        (None, ["train.dtype=bfloat16"], 0),
    ],
)
def test_bfloat16_on_a_cpu_without_it_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str | None, changes: list[str], notes: int
) -> None:
    def read(path: Path, encoding: str) -> str:
        if flags is None:
            raise FileNotFoundError(path)
        return f"model name\t: A\nflags\t\t: {flags}\n"

    work = make(tmp_path, *changes)
    monkeypatch.setattr("harness.hardware.Path.read_text", read)
    monkeypatch.setattr(preflight, "visible_gpus", list)
    issues = preflight.slow_precision(work, work.stages)
    assert [issue.problem for issue in issues] == [False] * notes


def stages(work: Plan, kind: str) -> list[Stage]:
    return [stage for stage in work.stages if stage.kind == kind]


def test_stores_are_counted(work: Plan) -> None:
    """k = 50: 8 * 50 + 4 = 404 bytes a position, 34 positions a row (pocket), 10 prompts: DCKD 2 rows, ADPA 2."""
    kind = STAGES["teacher_distributions"]
    sizes = {stage.label: kind.disk(stage, work.graph) for stage in stages(work, kind.name)}
    assert set(sizes.values()) == {DiskUse(404 * 34 * 10 * 2)} and len(sizes) == 3


def test_the_tuned_teacher_needs_room_of_its_own(work: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Left: the teacher's 8 MiB, DCKD and ADPA+ 2 MiB each; 32 MiB beside; stores below 1 MiB: 44 and a bit.

    To resume: tuning the teacher is the largest, 8 MiB of weights and twice that of moments, two of them: 48.
    """
    assert room_for(work, tmp_path, monkeypatch) == 44 + 48 + 1
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda place: SimpleNamespace(free=0))
    (finding,) = preflight.disk(work, work.stages, tmp_path, work.recipe.compute.workers)
    assert finding.problem and "teachers' distributions" in finding.text
    assert "to resume from" in finding.text and "train.checkpoint_minutes=null" in finding.text


@pytest.mark.parametrize(
    ("changes", "room"),
    [
        ((), 2 + 32 + 2 * (2 + 4)),
        (("train.checkpoint_minutes=null",), 2 + 32),
        (("methods.dpo.train.backend=trl",), 2 + 32),
        (("seeds=[0, 1, 2]",), 3 * 2 + 32 + 2 * (2 + 4)),
        (("seeds=[0, 1, 2]", "compute.workers=2"), 3 * 2 + 32 + 2 * 2 * (2 + 4)),
    ],
)
def test_checkpoints_to_resume_from_are_counted(
    changes: tuple[str, ...], room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One student of 2 MiB per seed, 32 MiB beside; two checkpoints of 2 + 4 MiB for every training at once."""
    work = make(tmp_path, *changes, rows=("student", "dpo"))
    assert room_for(work, tmp_path, monkeypatch) == room


def test_sizes_are_those_of_float32_whatever_lies_on_the_disk(tmp_path: Path) -> None:
    """The same numbers stored in half precision: the same room."""
    work = make(tmp_path, dtype=np.float16, rows=("student", "dpo"))
    (stage,) = stages(work, "train")
    assert STAGES["train"].disk(stage, work.graph) == DiskUse(2 * MIB, 2 * 6 * MIB)


@pytest.mark.parametrize(
    ("launch", "lora", "bytes_per_weight"),
    [("ddp", False, 12), ("fsdp2", False, 16), ("zero2", False, 20), ("fsdp2", True, 8), ("zero3", True, 8)],
)
def test_checkpoints_of_split_weights_are_larger(
    launch: str, lora: bool, bytes_per_weight: int, tmp_path: Path
) -> None:
    """2 MiB of float32 are 1/2 Mi weights, and two checkpoints lie there at once: as many MiB as bytes per weight. How
    large they are is measured in ``test_split_weights.py``."""
    changes = ("compute.processes=2", *(("train.lora={r: 8}",) if lora else ()))
    work = make(tmp_path, f"compute.launch={launch}", *changes, rows=("student", "dpo"))
    (stage,) = stages(work, "train")
    assert STAGES["train"].disk(stage, work.graph) == DiskUse(2 * MIB, bytes_per_weight * MIB)


def test_adapters_are_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Left: the merged weights. To resume: these, twice. Memory: the weights once. The adapter itself is left out."""
    work = make(tmp_path, "train.lora={r: 8}", rows=("student", "dpo"))
    (stage,) = stages(work, "train")
    assert STAGES["train"].disk(stage, work.graph) == DiskUse(2 * MIB, 2 * 2 * MIB)
    with_memory(monkeypatch, 2 * MIB)
    assert preflight.memory(work, work.stages, 1) == []
    with_memory(monkeypatch, 2 * MIB - 1)
    (finding,) = preflight.memory(work, work.stages, 1)
    assert "1 worker," in finding.text and "compute.workers" not in finding.text


def test_a_file_that_cannot_be_read_has_no_known_size(work: Plan, tmp_path: Path) -> None:
    (tmp_path / "student" / "model.safetensors").write_bytes(b"no weights")
    (finding,) = preflight.disk(work, work.stages, tmp_path, work.recipe.compute.workers)
    assert not finding.problem and "size is not known" in finding.text


def test_memory_is_that_of_the_largest_training(work: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tuning the teacher: 4 * 8 MiB. The students: 4 * 2 MiB, with no teacher beside, because it is stored."""
    with_memory(monkeypatch, 31 * MIB)
    (finding,) = preflight.memory(work, work.stages, work.recipe.compute.workers)
    assert "memory" in finding.text
    with_memory(monkeypatch, 32 * MIB)
    assert preflight.memory(work, work.stages, work.recipe.compute.workers) == []
    with_memory(monkeypatch, 8 * MIB)
    students = [stage for stage in stages(work, "train") if "tuned" not in stage.label]
    assert preflight.memory(work, students, work.recipe.compute.workers) == []
