"""``train.report_to``: the curve arrives whole, the student stays the same, and what is missing is said before."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.training.fit import fit
from harness.training.tracking import Tracker, Tracking, tracked, tracking_problem
from methods import METHODS
from tests.tiny import tiny_checkpoint, tiny_training


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("tracked") / "student", seed=1)


def train(student: Path, folder: Path, *trackers: Tracker) -> tuple[str, list[dict[str, Any]]]:
    """Sha256 of the trained weights, and the curve."""
    task = tiny_training(METHODS["simpo"], student, student)
    if trackers:
        task = replace(task, tracking=Tracking(trackers, "mine", "simpo-seed3-0badcafe", folder / "runs" / "mine"))
    with tracked(task.tracking):
        fit(task, folder / "model")
    lines = (folder / "model" / "training.jsonl").read_text(encoding="utf-8").splitlines()
    weights = (folder / "model" / "model.safetensors").read_bytes()
    return hashlib.sha256(weights).hexdigest(), [json.loads(line) for line in lines]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of tensorboard's own imports
def test_tensorboard_gets_every_step_and_the_student_stays_the_same(student: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    before = dict(os.environ)
    weights, curve = train(student, tmp_path / "a", "tensorboard")
    assert dict(os.environ) == before
    events = EventAccumulator(str(tmp_path / "a" / "runs" / "mine" / "tensorboard" / "simpo-seed3-0badcafe"))
    events.Reload()
    assert {"train/loss", "train/learning_rate", "train/grad_norm"} <= set(events.Tags()["scalars"])
    assert any(name.startswith("train/term_") for name in events.Tags()["scalars"])
    for name in ("loss", "learning_rate", "grad_norm"):
        points = [(point.step, point.value) for point in events.Scalars(f"train/{name}")]
        assert points == [(step["step"], pytest.approx(step[name])) for step in curve]
    assert train(student, tmp_path / "b") == (weights, curve)


class FakeWandb(types.ModuleType):
    """What transformers' callback asks of the package; runs as (project, name), points by run."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.runs: list[tuple[str, str]] = []
        self.points: list[dict[str, float]] = []
        self.folders: list[str] = []
        self.run: Any = None
        self.config: Any = type("Config", (dict,), {"update": lambda self, *words, **more: None})()

    def init(self, project: str, name: str, **more: object) -> None:
        assert self.run is None, "the run before was ended"
        self.runs.append((project, name))
        self.folders.append(os.environ["WANDB_DIR"])
        self.run = types.SimpleNamespace(id="1", name=name, url="", summary={}, _label=lambda **words: None)

    def log(self, values: dict[str, float], **more: object) -> None:
        self.points.append(values)

    def define_metric(self, *words: object, **more: object) -> None: ...

    def finish(self) -> None:
        self.run = None


def test_each_student_is_a_run_of_its_own_in_wandb(
    student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers.integrations.integration_utils as integrations

    fake = FakeWandb()
    errors = types.ModuleType("wandb.sdk.lib.config_util")
    errors.ConfigError = type("ConfigError", (Exception,), {})  # type: ignore[attr-defined]
    for name, module in (("wandb", fake), ("wandb.sdk", fake), ("wandb.sdk.lib", fake)):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "wandb.sdk.lib.config_util", errors)
    monkeypatch.setattr(integrations, "is_wandb_available", lambda: True)
    _, curve = train(student, tmp_path / "a", "wandb")
    train(student, tmp_path / "b", "wandb")
    assert fake.runs == [("mine", "simpo-seed3-0badcafe")] * 2 and fake.run is None
    assert [Path(folder).name for folder in fake.folders] == ["mine", "mine"]
    losses = [point["train/loss"] for point in fake.points if "train/loss" in point]
    assert losses == pytest.approx([step["loss"] for step in curve] * 2)


def test_what_is_missing_is_said_before_anything_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distilbench.workflows.plan import plan

    def problems(*changes: str) -> list[str]:
        work = plan("table1", methods=["dpo"], set=changes, runs=tmp_path / "runs")
        return [finding.text for finding in work.findings if finding.problem]

    monkeypatch.setattr("importlib.util.find_spec", lambda name, *more: None if name == "trackio" else object())
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    assert problems() == []
    (text,) = problems("train.report_to=[trackio]")
    assert text.startswith("train.report_to: the package trackio is not installed: pip install 'distilbench[trackio]'")
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *more: None if name == "trl" else object())
    (text,) = problems("methods.dpo.train.backend=trl")
    assert "the package trl is not installed: pip install 'distilbench[trl]'" in text
    (text,) = problems("methods.dpo.train.report_to=[wandb]")
    assert "set WANDB_API_KEY, or WANDB_MODE=offline" in text
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert problems("train.report_to=[wandb]") == []
    monkeypatch.delenv("WANDB_MODE")
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password secret-key\n", encoding="utf-8")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert tracking_problem(["wandb"]) is None


def test_no_key_changes_with_it(tmp_path: Path) -> None:
    from distilbench.workflows.plan import plan

    plain, told = (
        {stage.key for stage in plan("table1", methods=["dpo"], set=changes, runs=tmp_path / "runs").stages}
        for changes in ((), ("train.report_to=[tensorboard]",))
    )
    assert plain == told
