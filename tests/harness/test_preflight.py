"""Disk and memory before a run: what is trained, and stores of distributions, are counted by their own sizes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from harness import preflight
from harness.plan import Plan
from harness.stage import Stage
from tests.harness.test_plan import checkpoint, plan

MIB = 1 << 20


@pytest.fixture
def made(tmp_path: Path) -> Plan:
    """A teacher of 8 MiB and a student of 2 MiB; ADPA+ with 10 prompts, responses of 24 tokens assumed."""
    sizes = {"teacher": 8, "student": 2}
    folders = {name: checkpoint(tmp_path / name, ("a", "b")) for name in sizes}
    for name, size in sizes.items():
        (tmp_path / name / "model.safetensors").write_bytes(name.encode().ljust(size * MIB, b"\0"))
    family = [f"family.{name}={folder}" for name, folder in folders.items()]
    small = ["seeds=[0]", "prompts.n=10", "train.batch_size=2", "train.micro_batch=1", "compute.workers=1"]
    return plan(*family, *small, rows=("adpa+",))


def stages(made: Plan, kind: str) -> list[Stage]:
    return [stage for stage in made.stages if stage.kind == kind]


def test_stores_are_counted(made: Plan) -> None:
    """k = 50: 8 * 50 + 4 = 404 bytes a position, 24 positions a row (half of 48), 10 prompts: DCKD 2 rows, ADPA 2."""
    sizes = {stage.label: preflight.store_bytes(made, stage) for stage in stages(made, "distributions")}
    assert set(sizes.values()) == {404 * 24 * 10 * 2} and len(sizes) == 3


def test_the_tuned_teacher_needs_room_of_its_own(made: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Checkpoints: the teacher's 8 MiB, DCKD and ADPA+ 2 MiB each; 32 MiB beside; stores below 1 MiB."""
    free = SimpleNamespace(free=0)
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda place: free)
    for room, enough in ((44 * MIB, False), (45 * MIB, True)):
        free.free = room
        found = preflight.disk(made, made.stages, tmp_path)
        assert (found == []) == enough
    free.free = 0
    (finding,) = preflight.disk(made, made.stages, tmp_path)
    assert finding.problem and "teachers' distributions" in finding.text


def test_memory_is_that_of_the_largest_training(made: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tuning the teacher: 4 * 8 MiB. The students: 4 * 2 MiB, with no teacher beside, because it is stored."""
    machine = {"SC_PAGE_SIZE": MIB, "SC_PHYS_PAGES": 31}
    monkeypatch.setattr(preflight.os, "sysconf", machine.__getitem__)
    (finding,) = preflight.memory(made, made.stages)
    assert "memory" in finding.text
    machine["SC_PHYS_PAGES"] = 32
    assert preflight.memory(made, made.stages) == []
    machine["SC_PHYS_PAGES"] = 8
    students = [stage for stage in stages(made, "train") if "tuned" not in stage.label]
    assert preflight.memory(made, students) == []
