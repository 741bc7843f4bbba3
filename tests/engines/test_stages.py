"""Stages of a run whose models are behind a server that the worker starts; it dies in the middle of one."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from distilbench.plugins import load_registry
from distilbench.workers import set_up_worker
from harness.contracts.stage import Stage
from harness.models.engines.local import LocalEngines
from harness.plan.plan import Plan, make_plan
from harness.recipe.recipe import load_recipe
from harness.run.scheduler import stage_runner
from results.store.store import ArtifactStore

FAKE = Path(__file__).parents[1] / "fakes" / "engine.py"
SMALL = ("prompts.n=5", "seeds=[0]", "sampling.n=2", "sampling.max_new_tokens=6")
KINDS = ("prompts", "sample")


FAKED = {"command": [sys.executable, str(FAKE)], "gpus": 0, "concurrency": 1}


def plan(*changes: str, options: Mapping[str, Any]) -> Plan:
    registry = load_registry()
    backend = ["family.backend=vllm", f"family.backend_options={json.dumps(options)}"]
    return make_plan(load_recipe("pocket", [*SMALL, *backend, *changes], registry), registry, ["dpo"])


def stages_of(made: Plan) -> list[Stage]:
    """The first of each kind until there are samples."""
    first = {stage.kind: stage for stage in reversed(made.stages)}
    return [first[kind] for kind in KINDS]


@pytest.fixture
def engines() -> Iterator[LocalEngines]:
    host = LocalEngines()
    yield host
    host.close()


@pytest.mark.slow
def test_a_server_that_dies_in_a_stage_is_started_once_more(engines: LocalEngines, tmp_path: Path) -> None:
    """The stage says so, and its numbers are those of a server that lived; what had come was kept."""
    stores = {name: ArtifactStore(tmp_path / name) for name in ("well", "dying")}
    once, notes, shown = tmp_path / "died", dict[tuple[str, str], Any](), list[str]()
    folders = dict[tuple[str, str], Path]()
    for name, store in stores.items():
        flags = ("--die-at", "3", "--once", str(once)) if name == "dying" else ()
        made = plan(options=FAKED | {"flags": flags})
        run = stage_runner(partial(set_up_worker, (), store.root), tmp_path / "ledger", time.time(), engines)
        for stage in stages_of(made):
            result = run(stage, lambda done, total, info: shown.append(info))
            assert result.error is None
            notes[name, stage.kind] = store.meta(stage.kind, stage.key)["measurements"]
            folders[name, stage.kind] = store.path(*stage.ref)
    well, dying = ((folders[name, "sample"] / "groups.jsonl").read_bytes() for name in stores)
    assert well == dying and notes["well", "sample"]["engine"] == "vllm 0.0.fake"
    (note,) = notes["dying", "sample"]["engine_deaths"]
    assert "exit code 7" in note and "RuntimeError: the engine died as it was told" in note
    assert "engine_deaths" not in notes["well", "sample"]
    assert any(text.startswith("rows, ") and text.endswith("tokens/s") for text in shown)


@pytest.mark.slow
def test_a_server_that_dies_twice_fails_the_stage_and_the_same_command_goes_on(
    engines: LocalEngines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.models.engines.client.PAUSE", 0.05)
    store = ArtifactStore(tmp_path / "store")
    run = stage_runner(partial(set_up_worker, (), store.root), tmp_path / "ledger", time.time(), engines)
    prompts, sample = stages_of(plan(options=FAKED | {"flags": ("--die-at", "2")}))
    assert run(prompts, lambda *_: None).error is None
    result = run(sample, lambda *_: None)
    assert result.error is not None and "vllm died twice in this stage (exit code 7)" in result.error
    assert "the engine died as it was told" in result.error and "Traceback" not in result.error
    log = (store.scratch(sample) / "vllm.log").read_text()
    assert log.count("started as") == 2, "the log lies beside the stage"
    for _ in range(12):  # each attempt keeps what came before a death; on a busy machine some get nothing
        result = run(sample, lambda *_: None)
        if result.error is None:
            break
    assert result.error is None and len(store.path(*sample.ref).joinpath("groups.jsonl").read_text().splitlines()) == 5
