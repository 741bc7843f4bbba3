"""The wheel: everything that is read at run time is inside, and it works away from the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("harness", "methods", "judges", "results", "reports", "recipes")
NOT_SHIPPED = {".pyc", ".md"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content. Built from a copy, because a build leaves files in the folder it is made in."""
    source, out, inside = (tmp_path_factory.mktemp(name) for name in ("source", "out", "inside"))
    for name in (*PACKAGES, "pyproject.toml", "README.md", "LICENSE"):
        subprocess.run(["cp", "-r", str(ROOT / name), str(source)], check=True)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "--wheel-dir", str(out), str(source)]
    subprocess.run(command, check=True, timeout=300)
    (wheel,) = out.glob("distilbench-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(inside)
    return inside


def test_the_wheel_holds_every_file_of_the_packages(unpacked: Path) -> None:
    there = {file.relative_to(unpacked).as_posix() for file in unpacked.rglob("*") if file.is_file()}
    ours = {
        file.relative_to(ROOT).as_posix()
        for name in PACKAGES
        for file in (ROOT / name).rglob("*")
        if file.is_file() and file.suffix not in NOT_SHIPPED
    }
    assert len(ours) > 60
    assert not ours - there, f"not in the wheel: {sorted(ours - there)}"
    strangers = {name.split("/")[0] for name in there} - set(PACKAGES)
    assert all(name.endswith(".dist-info") for name in strangers), strangers


@pytest.mark.parametrize("words", [["--version"], ["list"], ["recipe", "check", "smollm2"], ["plan", "table1"]])
def test_the_wheel_works_away_from_the_checkout(unpacked: Path, tmp_path: Path, words: list[str]) -> None:
    environment = {**os.environ, "PYTHONPATH": str(unpacked)}
    command = [sys.executable, "-P", "-m", "harness", *words]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stderr
