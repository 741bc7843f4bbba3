"""What ``compute`` grants: to each kind of stage its GPUs, threads, memory and retries, and what cannot be granted."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from distilbench.plugins import load_registry
from distilbench.workflows.check import executor
from harness.contracts.executor import Resources, StageOptions
from harness.contracts.stage import Stage
from harness.hardware import visible_gpus
from harness.plan.preflight import check
from harness.recipe.recipe import load_recipe
from harness.stages.kinds import train
from harness.training.options import CURVE
from tests.harness.test_plan import plan

MODEL = {"models": {}}
KINDS = frozenset({"train", "answer"})
TWO, FOUR = (
    f"family.backends={{sample: {{backend: vllm, command: [sh], tensor_parallel: {count}}}}}" for count in (2, 4)
)


@pytest.mark.parametrize(
    ("kind", "local", "resources", "expected"),
    [
        ("train", MODEL, Resources(2, 3), (0, 3, None, 1)),
        ("train", MODEL, Resources(2, 3, (0, 1), {}, KINDS), (1, 3, None, 1)),
        ("train", MODEL, Resources(2, 3, (), {}, KINDS, cluster_gpus=True), (1, 3, None, 1)),
        ("answer", {"file": "x"}, Resources(2, 3, (0, 1), {}, KINDS), (0, 3, None, 1)),
        ("judge", {"ask": {}}, Resources(2, 3, (0, 1), {}, KINDS), (0, 3, None, 1)),
        ("judge", {}, Resources(2, 3, (0, 1), {"judge": StageOptions(gpus=1)}, KINDS), (1, 3, None, 1)),
        ("judge", {"ask": {}, "gpus": 2}, Resources(2, 3, (0, 1), {}, KINDS), (2, 3, None, 1)),
        ("judge", {"ask": {}, "gpus": 2}, Resources(2, 3, (), {}, KINDS), (0, 3, None, 1)),
        ("train", MODEL, Resources(1, 1, (0,), {"train": StageOptions(0, 8, 40, 5)}, KINDS), (0, 8, 40, 5)),
    ],
)
def test_what_a_stage_gets(
    kind: str, local: dict[str, object], resources: Resources, expected: tuple[object, ...]
) -> None:
    assert tuple(resources.of(Stage(kind, {}, local=local))) == expected


@pytest.mark.parametrize(
    ("options", "gpus", "has_engine"),
    [
        ("", 1, False),
        (", device: cpu", 0, False),
        (", backend: vllm, backend_options: {tensor_parallel: 2}", 2, True),
        (", backend: vllm, backend_options: {server: 'http://x'}", 0, True),
    ],
)
def test_a_checkpoint_that_judges_gets_gpus_and_other_judges_none(options: str, gpus: int, has_engine: bool) -> None:
    changes = f"judges={{main: {{kind: transformers, path: 'pocket:teacher'{options}}}}}", "compute.gpus=[0, 1]"
    for words, expected in ((changes, (gpus, has_engine)), (changes[1:], (0, False))):
        work = plan(*words, rows=("dpo",))
        resources = work.recipe.compute.resources(work.graph.registry.stages)
        judged = [stage for stage in work.stages if stage.kind == "judge" and "ask" in stage.local]
        assert {(resources.of(stage).gpus, stage.local.get("engine", False)) for stage in judged} == {expected}


@pytest.mark.parametrize(
    ("text", "names"), [("0,1,3", ["0", "1", "3"]), ("", []), ("-1", []), ("GPU-5a, GPU-7b,-1,2", ["GPU-5a", "GPU-7b"])]
)
def test_gpus_are_those_that_cuda_would_show(text: str, names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", text)
    assert visible_gpus() == names


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (("compute.gpus=[0, 1]",), None),
        (("compute.gpus=[1, 2, 7]",), "this machine shows 2 CUDA devices, counted from 0, so there is no 2, 7"),
        (("compute.gpus=[0]", "compute.stages={answer: {gpus: 2}}"), "compute.stages.answer.gpus = 2: compute.gpus gr"),
        (("compute.stages={judge: {gpus: 1}}",), "compute.stages.judge.gpus = 1: compute.gpus grants 0"),
        (("compute.gpus=[0, 1]", "compute.stages={train: {gpus: 2}}"), "2: one process trains on one GPU. Set compute"),
        (("compute.gpus=[0, 1]", "compute.stages={train: {gpus: 2}}", "compute.launch=ddp"), None),
        (
            ("compute.gpus=[0, 1]", "compute.stages={train: {gpus: 2}}", "compute.launch=ddp", "compute.processes=4"),
            "compute.processes = 4, but a train stage has 2 GPUs: leave it at null",
        ),
        (("compute.gpus=[0, 1]", "compute.launch=ddp"), "compute.launch = ddp starts a process for each GPU, and a t"),
        (("compute.gpus=[0, 1]", FOUR), "compute.stages.sample.gpus = 4: compute.gpus grants 2"),
        (("compute.gpus=[0, 1]", TWO, "compute.stages={sample: {gpus: 1}}"), "sample.gpus = 1, and the stage's engine"),
        (("compute.gpus=[0, 1]", TWO, "compute.stages={sample: {gpus: 2}}"), None),
        (("compute.gpus=[0]", "compute.executor=inline"), "the executor inline runs stages in this process"),
    ],
)
def test_what_cannot_be_granted_is_said_before_anything_runs(
    changes: tuple[str, ...], expected: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    work = plan("seeds=[0]", "prompts.n=32", *changes, rows=("dpo",))
    problems = [issue.text for issue in check(work, work.stages, tmp_path) if issue.problem]
    assert [expected is not None and expected in text for text in problems] == ([True] if expected else []), problems


@pytest.mark.parametrize(("devices", "processes", "count"), [("3,5", None, 2), ("3,5", 1, 1), (None, None, None)])
def test_a_launched_stage_has_a_process_for_each_of_its_gpus(
    devices: str | None, processes: int | None, count: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int | None] = []
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if devices:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", devices)
    monkeypatch.setattr(train, "launch", lambda name, number, task, progress: counts.append(number) or {})
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / CURVE).write_text('{"learning_rate": 1}\n')
    context: Any = SimpleNamespace(setup=None, ledger=tmp_path, folder=tmp_path, progress=None)
    train.run(Stage("train", {}, local={"launch": "ddp", "processes": processes}), context)
    assert counts == [count]


@pytest.mark.parametrize(
    ("changes", "state", "text"),
    [
        (("compute.gpus=[0, 1]",), "ok", "executor processes: 2 CUDA devices here, 2 in compute.gpus"),
        (("compute.gpus=[0, 5]",), "fail", "shows 2 CUDA devices, counted from 0, so there is no 5"),
        (("compute.stages={sample: {gpus: 1}}",), "fail", "compute.stages.sample.gpus = 1: compute.gpus grants 0"),
    ],
)
def test_doctor_says_what_the_executor_can_be_asked(
    changes: tuple[str, ...], state: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    registry = load_registry()
    finding = executor(load_recipe("pocket", changes, registry), registry)
    assert finding.state == state and text in finding.text
