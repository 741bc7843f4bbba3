"""``plan --simulate`` as a user meets it: what it prints and draws, and its mistakes."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

import distilbench
from distilbench.cli.app import app
from distilbench.simulation import Simulation, pending, plan_grid, read_clusters
from harness.errors import UserError
from harness.plan.simulation import Cluster
from tests.command import ROOT, SMALL, settings
from tests.command import distilbench as distilbench_command

PNG = b"\x89PNG\r\n"
ROWS = ["dpo", "kd"]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> distilbench.WorkPlan:
    return distilbench.plan("table1", methods=ROWS, seeds=[0, 1], runs=tmp_path_factory.mktemp("runs"))


def on_gpus(work: distilbench.WorkPlan, clusters: str, folder: Path, price: float = 2.0) -> list[Simulation]:
    rates = [
        {"doing": doing, "tokens_per_second": 1e5, "parameters": 10**6, "flops": flops, "source": "a test"}
        for doing, flops in (("read", 2), ("write", 2), ("train", 6))
    ]
    startup = {"worker": 10, "each": 1, "stage": 0, "gib": 0, "call": 0, "replicate": 0}
    file = folder / "rates.json"
    file.write_text(json.dumps({"devices": {"mine": {"rates": rates, "startup": startup}}}), encoding="utf-8")
    return distilbench.simulate([work], clusters, device="mine", rates=file, gpu_price=price)


def test_every_stage_runs_once_and_after_its_inputs(work: distilbench.WorkPlan, tmp_path: Path) -> None:
    one, eight = on_gpus(work, "gpus=1,8", tmp_path)
    keys = {stage.key for stage in work.stages}
    for simulation in (one, eight):
        spans = {span.job.key: span for span in simulation.timeline.spans}
        assert set(spans) == keys and len(spans) == len(simulation.timeline.spans)
        for stage in work.stages:
            assert all(spans[ref.key].end <= spans[stage.key].start + 1e-6 for ref in stage.waits_for), stage.label
        scores = [span.start for span in spans.values() if span.job.last]
        assert len(scores) == 4 and min(scores) >= max(span.end for span in spans.values() if not span.job.last) - 1e-6
    assert one.seconds > eight.seconds
    # judges, scores and prompts get no GPU; what runs a model gets one
    assert {span.job.kind for span in one.timeline.spans if not span.job.gpus} == {
        "prompts", "contamination", "judge", "score"
    }  # fmt: skip
    assert {span.job.gpus for span in one.timeline.spans} == {0, 1}
    assert one.timeline.bottleneck == "GPUs"


def test_hours_and_dollars(work: distilbench.WorkPlan, tmp_path: Path) -> None:
    (simulation,) = on_gpus(work, "gpus=4", tmp_path)
    assert simulation.reserved_gpu_hours == pytest.approx(4 * simulation.seconds / 3600)
    assert simulation.gpu_dollars == pytest.approx(2.0 * simulation.reserved_gpu_hours)
    assert simulation.judge_dollars == 0 and 0 < simulation.gpu_hours < simulation.reserved_gpu_hours
    # DPO trains on two rows of 58 tokens: 512 x 116 tokens at 10^5 per second and 10^6 weights, 365,856 here, 1 s each
    train = next(span for span in simulation.timeline.spans if span.job.label == "train dpo seed 0")
    assert train.job.seconds == pytest.approx(1 + 512 * 116 * 0.365856 / 1e5)
    assert any("a test" in text for text in simulation.basis)


def test_stages_get_what_the_recipe_grants(tmp_path: Path) -> None:
    changes = {"compute.stages": {"train": {"gpus": 2}}, "compute.launch": "ddp"}
    work = distilbench.plan("table1", methods=["dpo"], seeds=[0], runs=tmp_path, set=changes)
    (two,) = on_gpus(work, "gpus=2", tmp_path)
    assert {span.lanes for span in two.timeline.spans if span.job.kind == "train"} == {(0, 1)}
    with pytest.raises(UserError, match=r"a train stage gets 2 \(compute.stages.train.gpus\); the cluster has 1 GPU"):
        on_gpus(work, "gpus=1", tmp_path)


def test_a_server_that_runs_already_takes_no_time_to_start(tmp_path: Path) -> None:
    seconds = {}
    for server in (None, "http://127.0.0.1:9"):
        changes = {"family.backends": {"teacher": {"backend": "vllm", "server": server}}}
        work = distilbench.plan("table1", methods=["dpo"], seeds=[0], runs=tmp_path, set=changes)
        (one,) = on_gpus(work, "gpus=1", tmp_path)
        seconds[server] = {span.job.kind: span.job.server_seconds for span in one.timeline.spans if span.job.server}
        assert any(text.startswith("an engine's start: ") for text in one.basis) == (server is None)
    assert seconds[None].keys() == seconds["http://127.0.0.1:9"].keys() >= {"reward"}
    assert min(seconds[None].values()) >= 80 and set(seconds["http://127.0.0.1:9"].values()) == {0.0}


def test_what_a_simulation_rests_on_is_said(tmp_path: Path) -> None:
    """Prompts of 120 characters: 30 tokens, and 10 of the chat template. Responses: half of at most 64."""
    file = tmp_path / "mine.jsonl"
    prompts = [json.dumps({"prompt": f"{number:0120d}"}) for number in range(8)]
    file.write_text("\n".join(prompts), encoding="utf-8")
    changes = {
        "prompts": {"source": "jsonl", "path": str(file), "n": 8}, "compute.executor": "slurm", "name": "own",
        "sampling.max_new_tokens": 64,
    }  # fmt: skip
    work = distilbench.plan("table1", methods=["dpo"], seeds=[0], runs=tmp_path, set=changes)
    (one,) = on_gpus(work, "gpus=1", tmp_path)
    assert (
        "prompts of 40 tokens (by the characters of the file), responses of 32 tokens (assumed, not measured); recipe "
        "'own'"
    ) in one.basis
    assert "reserved machines from the first stage to the last: no job waits in the queue of slurm" in one.basis


def test_several_recipes_and_judges_share_what_is_equal(tmp_path: Path) -> None:
    judges = {"judges.second": {"kind": "pocket", "noise": 3.0}}
    works = plan_grid(
        "table1", ["pocket"], ["main", "second"], methods=["dpo"], seeds=[0], runs=tmp_path, set=judges
    )  # fmt: skip
    stages = [stage for _, stage, _ in pending(works)]
    alone = [stage.kind for _, stage, _ in pending(works[:1])]
    kinds = [stage.kind for stage in stages]
    assert kinds.count("train") == alone.count("train") and kinds.count("answer") == alone.count("answer")
    # three judged benchmarks of three rows are judged twice, GSM8K once
    assert (kinds.count("judge"), alone.count("judge")) == (3 * 3 * 2 + 3, 3 * 3 + 3)


@pytest.mark.parametrize(
    ("text", "clusters"),
    [
        ("gpus=1,8", [Cluster(5, 1), Cluster(5, 8)]),
        ("workers=1,2", [Cluster(1), Cluster(2)]),
        ("gpus=8 workers=16 memory=512.5", [Cluster(16, 8, 512.5)]),
    ],
)
def test_clusters(text: str, clusters: list[Cluster]) -> None:
    assert read_clusters(text, 5) == clusters


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "write gpus=1,8,64"),
        ("8", "write gpus=1,8,64"),
        ("gpus", "write gpus=1,8,64"),
        ("gpus=0", "gpus=0 must be a whole number from 1 to 100,000"),
        ("gpus=1.5", "gpus=1.5 must be a whole number"),
        ("gpus=1 workers=1,2", "one number for workers"),
        ("memory=3", "write gpus=1,8,64"),
        ("gpus=1 gpus=2", "write gpus=1,8,64"),
    ],
)
def test_a_cluster_that_is_none_is_refused(text: str, rule: str) -> None:
    with pytest.raises(UserError) as error:
        read_clusters(text, 2)
    assert rule in str(error.value) and repr(text) in str(error.value)


def test_the_command_prints_and_draws(tmp_path: Path) -> None:
    words = ["plan", "table1", "--methods", "dpo", *settings(*SMALL), "--simulate", "workers=1,2"]
    done = CliRunner().invoke(app, [*words, "--runs", str(tmp_path)])
    assert done.exit_code == 0, done.output
    for text in ("wall time", "bottleneck", "critical path on 2 workers:", "studies/simulate.py", "1 worker  "):
        assert text in done.output, text
    assert "GPU" not in done.output
    for name in ("1-worker", "2-workers"):
        assert (tmp_path / "pocket" / "simulation" / f"{name}.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--simulate", "gpus=2"], "name the GPU, --set compute.gpu=NAME"),
        (["--simulate", "workers=2", "--rates", "nowhere.json"], "--rates nowhere.json: cannot be read"),
        (["--gpu-price", "0"], "--gpu-price: only with --simulate"),
        (["--simulate", "workers=2", "--judges", "nobody"], "nobody"),
    ],
)
def test_mistakes_have_one_message(tmp_path: Path, words: list[str], text: str) -> None:
    done = CliRunner().invoke(app, ["plan", "table1", *words, "--runs", str(tmp_path)])
    assert isinstance(done.exception, UserError) and text in str(done.exception)


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_the_page_shows_what_its_commands_print(tmp_path: Path, number: int) -> None:
    """docs/scale.md: the tables of the full grid."""
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    command = re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[1 + number]
    table = re.findall(r"^```text\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[number]
    words = shlex.split(command.replace("\\\n", " "))
    done = distilbench_command(*words[1:], "--runs", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [line for line in table.splitlines() if line.rstrip() not in done.stdout] == []
    assert done.stdout.count("picture: ") == (3, 1)[number]
