"""Executors: stages end up in the store, byte for byte the same whichever ran them."""

from __future__ import annotations

import hashlib
import json
import time
from asyncio import CancelledError
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from distilbench.plugins import load_registry
from distilbench.workers import set_up_worker
from harness.contracts.executor import Resources, StageResult
from harness.contracts.registry import Registry
from harness.contracts.stage import RunListener, Stage
from harness.plan.plan import make_plan
from harness.recipe.recipe import load_recipe
from harness.run import EXECUTORS
from harness.run.scheduler import RunOutcome, run_plans, run_ready, stage_runner
from harness.stages import STAGES
from harness.stages.kind import StageKind
from results.store.store import MARKER, ArtifactStore

OPTIONS = {"slurm": {"cluster": "local"}}
HERE = [name for name, kind in EXECUTORS.items() if kind.this_machine or (name in OPTIONS and find_spec("submitit"))]
"""A cluster has tests of its own (``test_ray.py``, ``test_slurm.py``)."""
SMALL = (
    "prompts.n=8",
    "seeds=[0]",
    "train.batch_size=4",
    "train.micro_batch=2",
    "benchmarks.gsm8k.limit=4",
    "statistics.replicates=100",
)


def run(folder: Path, executor: str) -> RunOutcome:
    registry = load_registry()
    changes = [
        *SMALL,
        f"compute.executor={executor}",
        f"compute.executor_options={json.dumps(OPTIONS.get(executor, {}))}",
    ]
    recipe = load_recipe("pocket", changes, registry)
    # One benchmark: a job of Slurm is a process that imports everything.
    recipe = replace(recipe, benchmarks={"gsm8k": recipe.benchmarks["gsm8k"]})
    store = ArtifactStore(folder / "store")
    setup = partial(set_up_worker, (), folder / "store")
    plan = make_plan(recipe, registry, ("student", "dpo"))
    return run_plans([plan], registry, store, folder / "ledger.sqlite", setup, RunListener())


def contents(store: Path) -> dict[str, str]:
    """File to sha256, the markers apart: they hold times."""
    files = [file for file in store.rglob("*") if file.is_file() and file.name != MARKER and "locks" not in file.parts]
    return {file.relative_to(store).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.mark.slow
def test_artifacts_are_the_same_whatever_runs_the_stages(tmp_path: Path) -> None:
    outcomes = {name: run(tmp_path / name, name) for name in HERE}
    assert all(outcome.completed_keys and not outcome.errors for outcome in outcomes.values()), outcomes
    first, *others = (contents(tmp_path / name / "store") for name in HERE)
    assert len(first) > 10
    assert all(other == first for other in others)


EMPTY = Registry({}, {}, {}, {}, {}, {}, cast(Any, None))


def failing_setup(store: Path) -> tuple[Registry, ArtifactStore]:
    """An empty registry, so that every stage that needs an entry fails; picklable, as executors ask for."""
    return EMPTY, ArtifactStore(store)


def test_of_commands_at_once_one_makes_a_stage_and_the_others_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(stage: Stage, context: Any) -> dict[str, object]:
        time.sleep(0.3)
        return {}

    monkeypatch.setitem(STAGES, "prompts", StageKind("prompts", make))

    def command(_: int) -> StageResult:
        run_stage = stage_runner(partial(failing_setup, tmp_path), tmp_path / "ledger", time.time())
        return run_stage(Stage("prompts", {}), lambda done, total, info: None)

    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(command, range(3)))
    assert [result.error for result in results] == [None] * 3
    assert sorted(result.elsewhere for result in results) == [False, True, True]
    outcome = RunOutcome(1, 0)
    for result in results:
        executor = SimpleNamespace(submit=lambda stage: None, results=lambda result=result: [result])
        run_ready([result.stage], cast(Any, executor), RunListener(), outcome)
    assert (len(outcome.completed_keys), len(outcome.elsewhere_keys)) == (1, 2)


@pytest.mark.parametrize("name", HERE)
def test_a_fault_is_a_result_and_the_next_stage_runs(name: str, tmp_path: Path) -> None:
    kind = EXECUTORS[name]
    make_run_stage = partial(stage_runner, partial(failing_setup, tmp_path), tmp_path / "ledger", time.time())
    stages = [Stage("prompts", {"n": n}, row=str(n)) for n in range(3)]
    config, resources = kind.config(**OPTIONS.get(name, {})), Resources(workers=2, threads=1, folder=tmp_path)
    with kind.start(config, resources, make_run_stage, RunListener()) as executor:
        for stage in stages:
            executor.submit(stage)
        results = []
        while len(results) < len(stages):
            results += executor.results()
    assert sorted(result.stage.label for result in results) == [stage.label for stage in stages]
    assert all("KeyError: 'trust_remote_code'" in str(result.error) for result in results)


@pytest.mark.parametrize("end", [SystemExit(0), GeneratorExit(), CancelledError(), RecursionError(), MemoryError()])
def test_whatever_ends_a_stage_is_its_error_and_not_the_end_of_the_command(
    end: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(stage: Stage, context: Any) -> dict[str, object]:
        raise end

    monkeypatch.setitem(STAGES, "prompts", StageKind("prompts", make))
    run_stage = stage_runner(partial(failing_setup, tmp_path), tmp_path / "ledger", time.time())
    result = run_stage(Stage("prompts", {}), lambda done, total, info: None)
    assert type(end).__name__ in str(result.error)
