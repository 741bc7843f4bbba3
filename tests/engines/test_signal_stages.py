"""Stages ``reference_logps`` and ``teacher_distributions`` behind an engine: where its numbers are those of training,
the same arrays; elsewhere training's own forward pass, and the plan says so."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distilbench.plugins import load_registry
from harness.models.engines.local import LocalEngines
from harness.plan.plan import Plan, make_plan
from harness.plan.preflight import backend_issues
from harness.recipe.recipe import load_recipe
from harness.stages import STAGES
from harness.stages.kind import StageContext
from results.store.store import ArtifactStore

FAKE = Path(__file__).parents[1] / "fakes" / "engine.py"
ENGINE = f"{{backend: vllm, command: [{sys.executable}, {FAKE}], gpus: 0}}"
SIGNALS = ("reference_logps", "teacher_distributions")
BEHIND = [f"family.backends.{kind}={ENGINE}" for kind in SIGNALS]
ROWS = ("dpo", "kd")
SMALL = ("prompts.n=6", "train.batch_size=3", "seeds=[0]", "sampling.max_new_tokens=12", "methods.kd.top_k=7",
         "methods.kd.temperature=1")  # fmt: skip


def plan(*overrides: str, rows: tuple[str, ...] = ROWS) -> Plan:
    registry = load_registry()
    return make_plan(load_recipe("pocket", [*SMALL, *overrides], registry), registry, rows)


def remarks(made: Plan) -> list[str]:
    return [issue.text for issue in backend_issues(made, made.stages, this_machine=True) if not issue.problem]


def engines_of(made: Plan) -> set[str]:
    return {stage.kind for stage in made.stages if stage.kind in SIGNALS and "backend" in stage.params}


def test_an_engine_serves_the_signals_in_float32() -> None:
    here, behind = plan(), plan(*BEHIND)
    assert engines_of(here) == set() and engines_of(behind) == set(SIGNALS)
    assert remarks(here) == remarks(behind) == []
    keys = {stage.label: stage.key for stage in here.stages}
    assert {stage.kind for stage in behind.stages if stage.key != keys[stage.label]} == {
        *SIGNALS, "train", "answer", "judge", "score"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "kept", "reason"),
    [
        (("train.dtype=bfloat16",), set(), "train.dtype is bfloat16, and the models' dtype float32"),
        (("train.dtype=bfloat16", "family.dtype=bfloat16"), {"teacher_distributions"}, "rounds bfloat16 otherwise"),
        (("methods.kd.temperature=2",), {"reference_logps"}, "at temperature 1, the method's at 2"),
    ],
)
def test_where_numbers_would_differ_training_reads_itself(
    overrides: tuple[str, ...], kept: set[str], reason: str
) -> None:
    made = plan(*BEHIND, *overrides)
    assert engines_of(made) == kept
    texts = remarks(made)
    assert texts and all(reason in text and "runs with transformers" in text for text in texts)


def test_tokens_of_another_teacher_are_read_in_process() -> None:
    made = plan(*BEHIND, rows=("adpa",))
    stores = [stage for stage in made.stages if stage.kind == "teacher_distributions"]
    assert [("tokens" in stage.inputs, "backend" in stage.params) for stage in stores] == [(False, True), (True, False)]
    (text,) = remarks(made)
    assert text == (
        "stage teacher_distributions runs with transformers: an engine gives its own most probable tokens, and those "
        "of another teacher are to be kept"
    )


@pytest.fixture
def engines() -> Iterator[LocalEngines]:
    host = LocalEngines()
    yield host
    host.close()


def test_both_give_the_same_signals(engines: LocalEngines, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="stages run models")
    torch.set_num_threads(1)
    store, found = ArtifactStore(tmp_path / "store"), []
    for made in (plan(), plan(*BEHIND)):
        folders: dict[str, Path] = {}
        for stage in made.stages:
            if stage.kind in ("train", "answer", "judge", "score"):
                continue

            def fill(folder: Path, stage: Any = stage) -> Mapping[str, object]:
                registry = load_registry()
                context = StageContext(registry, store, tmp_path / "ledger", folder, lambda *_: None, engines=engines)
                return STAGES[stage.kind].run(stage, context)

            store.write(stage, fill)
            folders[stage.kind] = store.path(stage.kind, stage.key)
        found.append(folders)
    here, behind = found
    assert all(here[kind] != behind[kind] for kind in SIGNALS)
    sums, others = (json.loads((folders["reference_logps"] / "reference.json").read_text()) for folders in found)
    assert len(sums) == len(others) == 6
    for row, other in zip(sums, others, strict=True):
        assert row == pytest.approx(other, abs=1e-3)
    for name in ("ids", "logps", "rest"):
        arrays = [np.load(folders["teacher_distributions"] / f"{name}.npy") for folders in found]
        np.testing.assert_allclose(*arrays, atol=1e-3)
