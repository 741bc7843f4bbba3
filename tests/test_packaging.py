"""The wheel: what is read at run time is inside, nothing else is, and it works when installed, away from the checkout.

Nothing is downloaded: it is installed without its dependencies into an environment that sees those of this one.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("distilbench", "harness", "methods", "judges", "results", "reports", "recipes")
NOT_SHIPPED = {".pyc", ".md"}
LIMIT = 30_000_000
"""Bytes; the four checkpoints have 16 MB of them."""

pytestmark = pytest.mark.slow


def quiet(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, because a build leaves files in the folder it is made in."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    here = importlib.util.find_spec("setuptools") is not None  # else pip fetches it for the build
    isolation = ["--no-build-isolation"] if here else []
    pip = (sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "--disable-pip-version-check")
    quiet(*pip, *isolation, "--wheel-dir", str(out), str(source))
    return next(out.glob("distilbench-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command in an environment of its own: the wheel, and the dependencies of this environment."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", "--quiet")
    quiet(*pip, "--disable-pip-version-check", str(wheel))
    (site,) = (folder / "lib").glob("python*/site-packages")
    places = dict.fromkeys((sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))
    (site / "dependencies.pth").write_text("\n".join(places) + "\n", encoding="utf-8")
    return folder / "bin" / "distilbench"


def run(program: Path, folder: Path, *words: str) -> str:
    """What a program of the new environment prints, run in ``folder``; it sees no checkout."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"COLUMNS": "200", "HF_HUB_OFFLINE": "1"}
    command = [str(program), *words]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, cwd=folder, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(wheel: Path) -> None:
    assert wheel.stat().st_size < LIMIT
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name for name in archive.namelist() if not name.endswith("/")}
    ours = {
        file.relative_to(ROOT).as_posix()
        for name in PACKAGES
        for file in (ROOT / name).rglob("*")
        if file.is_file() and file.suffix not in NOT_SHIPPED
    }
    assert len(ours) > 60
    assert not ours - shipped, f"not in the wheel: {sorted(ours - shipped)}"
    strangers = {name.split("/")[0] for name in shipped} - set(PACKAGES)
    assert all(name.endswith(".dist-info") for name in strangers), strangers
    assert "recipes/pocket.yaml" in shipped and "harness/assets/manifest.json" in shipped
    assert "results/published/table1.csv" in shipped
    assert "recipes/recipe.schema.json" in shipped, "every recipe names it as the schema beside it"


def test_what_is_installed_is_the_wheel(installed: Path, tmp_path: Path) -> None:
    """Not the checkout, which an editable installation of it would bring in."""
    code = "import harness, methods; print(harness.__file__); print(methods.__file__)"
    printed = run(installed.with_name("python"), tmp_path, "-c", code)
    assert all(line.startswith(str(installed.parents[1])) for line in printed.split())


def test_the_installed_command_looks_around(installed: Path, tmp_path: Path) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert run(installed, tmp_path, "--version").strip() == f"distilbench {version}"
    listed = run(installed, tmp_path, "list")
    for name in ("pad-ppd", "alpaca_eval", "openai", "smollm2", "table1"):
        assert any(line.startswith(name) for line in listed.splitlines()), name
    run(installed, tmp_path, "recipe", "check", "smollm2")
    assert "to do:" in run(installed, tmp_path, "plan", "table1")
    assert not list(tmp_path.iterdir()), "looking around leaves no files"


def test_the_installed_command_runs(installed: Path, tmp_path: Path) -> None:
    """Models, questions, judge and published numbers are read from what was installed."""
    words = ["prompts.n=8", "train.batch_size=4", "train.micro_batch=4", "seeds=[0]", "statistics.replicates=100"]
    words += [f"benchmarks.{name}.limit=2" for name in ("alpaca_eval", "arena_hard", "mt_bench", "gsm8k")]
    overrides = [word for value in words for word in ("--set", value)]
    shown = run(installed, tmp_path, "reproduce", "table1", "--methods", "dpo", *overrides)
    assert "DPO" in shown
    assert (tmp_path / "runs" / "pocket" / "report" / "table1.csv").is_file()
