"""The files in ``examples/clusters`` are what they say: scripts that bash reads, Kubernetes objects, a recipe."""

from __future__ import annotations

import re
import shlex
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from click import Context
from typer.main import get_command

from distilbench.cli.app import app
from distilbench.plugins import load_registry
from harness.plan.plan import make_plan
from harness.recipe.recipe import load_recipe
from harness.run.slurm import EXECUTOR, SlurmJobOptions, SlurmOptions, job_options

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "examples" / "clusters"
SCRIPTS = sorted(FOLDER.glob("*.sbatch"))
KUBERNETES = FOLDER / "ray_on_kubernetes.yaml"


def options_of(line: str) -> dict[str, Any]:
    """Of a ``distilbench reproduce`` command, as our command line reads it."""
    words = shlex.split(line.replace("\\\n", " "))
    assert words[:2] == ["distilbench", "reproduce"]
    command: Any = get_command(app)
    reproduce = command.get_command(Context(command), "reproduce")
    params: dict[str, Any] = reproduce.make_context("reproduce", words[2:]).params
    return params


def test_every_file_is_on_the_page() -> None:
    page = (ROOT / "docs" / "clusters.md").read_text(encoding="utf-8")
    files = sorted(file.name for file in FOLDER.iterdir())
    assert len(files) == 4 and [name for name in files if f"../examples/clusters/{name})" not in page] == []


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda file: file.name)
def test_bash_and_our_command_line_read_the_scripts(script: Path) -> None:
    done = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    text = script.read_text(encoding="utf-8")
    requests = dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", text, re.MULTILINE))
    assert {"nodes", "time", "gpus-per-node", "cpus-per-task"} <= requests.keys()
    # Slurm reads no request after the first command.
    assert text.rindex("#SBATCH") < text.index("set -euo pipefail")
    (line,) = re.findall(r"^ *(distilbench (?:\\\n|[^\n])+)$", text, re.MULTILINE)
    recipe = load_recipe("gemma2", options_of(line)["set"], load_registry())
    assert len(recipe.compute.gpus) in (0, int(requests["gpus-per-node"]))


def test_the_kubernetes_objects_are_of_the_right_kinds() -> None:
    claim, job = yaml.safe_load_all(KUBERNETES.read_text(encoding="utf-8"))
    assert [(one["apiVersion"], one["kind"]) for one in (claim, job)] == [
        ("v1", "PersistentVolumeClaim"), ("ray.io/v1", "RayJob"),
    ]  # fmt: skip
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert options_of(job["spec"]["entrypoint"])["executor"] == "ray"
    cluster = job["spec"]["rayClusterSpec"]
    templates = [cluster["headGroupSpec"]["template"], *(group["template"] for group in cluster["workerGroupSpecs"])]
    for template in templates:
        (container,) = template["spec"]["containers"]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
        assert mounts["runs"] == str(options_of(job["spec"]["entrypoint"])["runs"]) and mounts.keys() == volumes.keys()
        assert volumes["runs"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    if find_spec("ray"):
        import ray

        assert cluster["rayVersion"].rpartition(".")[0] == ray.__version__.rpartition(".")[0]


def test_the_recipe_asks_slurm_for_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = load_registry()
    recipe = load_recipe(str(FOLDER / "slurm.yaml"), (), registry)
    config = SlurmOptions(**{**recipe.compute.executor_options, "setup": ("x",), "here": ("judge",)})
    resources = recipe.compute.resources(registry.stages)
    big = SlurmJobOptions("big", 2880, "gpu:{gpus}", {"account": "my-project"})
    assert job_options(config, resources, "train") == big
    assert job_options(config, resources, "answer").partition == "gpu"
    monkeypatch.setattr("shutil.which", lambda name: name)
    stages = [stage for stage in make_plan(recipe, registry, ("dpo",)).stages if stage.kind in ("train", "sample")]
    assert list(EXECUTOR.check(config, resources, stages)) == []
