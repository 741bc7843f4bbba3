"""What people expect around a project: a citation, images that build, workflows, packages that an index takes.

The containers are linted by the rules of hadolint that matter here, and their pip steps are followed in a new
environment; the slow tests build the distributions.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRA = re.compile(r"\.\[([\w,]+)\]")


def instructions(text: str) -> list[tuple[str, str]]:
    """(instruction, words) of a Dockerfile, continued lines joined."""
    lines = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    return [(line.split()[0], line.split(maxsplit=1)[1].strip()) for line in lines if line.strip()]


DOCKERFILE = instructions((ROOT / "Dockerfile").read_text(encoding="utf-8"))
DEVCONTAINER: dict[str, Any] = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))


def workflow(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8"))
    return content


def test_the_citation_is_this_version_and_names_no_person() -> None:
    """``cffconvert --validate`` has read it; here is what changes from release to release."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors", "type"} <= set(citation)
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])
    assert all(set(author) == {"name"} for author in citation["authors"]), "an entity, no given-names"


def test_the_image_is_pinned_small_and_runs_without_rights() -> None:
    words = [name for name, _ in DOCKERFILE]
    first = DOCKERFILE[0]
    assert first[0] == "FROM" and re.fullmatch(r"python:3\.\d+-slim-\w+", first[1]), (
        "a tag, not latest (DL3006, DL3007)"
    )
    steps = [text for name, text in DOCKERFILE if name == "RUN"]
    assert not any("sudo" in text or " cd " in f" {text} " for text in steps)  # DL3003, DL3004
    assert all(text.startswith("/") for name, text in DOCKERFILE if name == "WORKDIR")  # DL3000
    assert "ADD" not in words and "apt-get" not in str(DOCKERFILE)  # DL3020, DL3008
    assert ("USER", "distilbench") in DOCKERFILE[-4:], "the last user is not root (DL3002)"
    assert words.count("ENTRYPOINT") == words.count("CMD") == 1
    assert json.loads(dict(DOCKERFILE)["ENTRYPOINT"]) == ["distilbench"]  # exec form, DL3025
    assert "PIP_NO_CACHE_DIR=1" in dict(DOCKERFILE)["ENV"]  # DL3042
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert {".git", ".tox", "runs"} <= set(ignored)


def test_the_rules_catch_a_bad_image() -> None:
    parsed = instructions("FROM python\n# a\nRUN cd /tmp && \\\n  pip install x\n")
    assert parsed == [("FROM", "python"), ("RUN", "cd /tmp &&    pip install x")]


def pip_steps() -> list[tuple[str, list[str]]]:
    """(where it stands, words of a pip command) of all containers and environment files."""
    texts = [("Dockerfile", text) for name, text in DOCKERFILE if name == "RUN"]
    texts += [("devcontainer", DEVCONTAINER["postCreateCommand"])]
    parts = [(place, shlex.split(part)) for place, text in texts for part in text.split("&&")]
    found = [(place, words) for place, words in parts if words[1:3] == ["-m", "pip"]]
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    (pip,) = [line["pip"] for line in environment["dependencies"] if isinstance(line, dict)]
    lines = [word for line in pip for word in shlex.split(line)]
    return [*found, ("environment.yml", ["python", "-m", "pip", "install", *lines])]


def test_pip_steps_name_extras_and_files_that_exist() -> None:
    assert [place for place, _ in pip_steps()] == ["Dockerfile", "devcontainer", "environment.yml"]
    for _, words in pip_steps():
        extras = [extra for word in words if (found := EXTRA.fullmatch(word)) for extra in found[1].split(",")]
        assert extras and set(extras) <= set(PROJECT["optional-dependencies"])
        assert "constraints.txt" in words


UNPINNED = {"deepspeed", "tiktoken", "trackio", "wandb"}
"""Of extras that tox does not install: they need a GPU's compiler, an account, or files of another server."""


def test_lower_bounds_are_what_was_tested() -> None:
    """As pyproject.toml says of them: a bound is the pinned version, as far as it is written (26 for 26.0.1)."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {line.split("==")[0].lower().replace("_", "-"): line.split("==")[1] for line in lines if "==" in line}
    texts = [*PROJECT["dependencies"], *(text for extra in PROJECT["optional-dependencies"].values() for text in extra)]
    requirements = [found for found in map(Requirement, texts) if found.name != "distilbench"]
    unpinned, wrong = set(), []
    for requirement in requirements:
        if (pin := pins.get(requirement.name.lower().replace("_", "-"))) is None:
            unpinned.add(requirement.name)
            continue
        (bound,) = [part.version for part in requirement.specifier if part.operator == ">="]
        if not requirement.specifier.contains(pin) or not f"{pin}.".startswith(f"{bound}."):
            wrong.append(f"{requirement}: constraints.txt has {pin}")
    assert wrong == [] and unpinned == UNPINNED and len(requirements) > 40


def test_workflows_call_what_is_here_and_publish_without_a_password() -> None:
    names = ("ci.yml", "docs.yml", "release.yml")
    ci, docs, release = map(workflow, names)
    steps = [step for each in (ci, docs, release) for job in each["jobs"].values() for step in job["steps"]]
    assert {"run": ".ci/run"} in steps and os.access(ROOT / ".ci" / "run", os.X_OK)
    assert all(re.fullmatch(r"[\w-]+/[\w.-]+@[\w./-]+", step["uses"]) for step in steps if "uses" in step)
    assert ci["permissions"] == docs["permissions"] == release["permissions"] == {"contents": "read"}
    # what is published is what `tox -e docs` writes (site/)
    assert {"run": "tox -e docs"} in steps and docs["jobs"]["build"]["steps"][-1]["with"] == {"path": "site"}
    publish = release["jobs"]["publish"]
    assert publish["permissions"] == {"id-token": "write"} and publish["needs"] == "build"
    assert publish["steps"][-1] == {"uses": "pypa/gh-action-pypi-publish@release/v1"}
    texts = [(ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8") for name in names]
    assert not any(re.search("secrets|password:|token:(?! write)", text) for text in texts)


# In an environment of its own


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, as ``COPY . .`` makes it: a build leaves files beside what it reads."""
    ignored = [line.removeprefix("**/") for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").split()]
    folder = tmp_path_factory.mktemp("copy") / "distilbench"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*ignored))
    return folder


def quiet(*words: str, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300, cwd=cwd, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("place", ["Dockerfile", "environment.yml"])
def test_the_pip_step_works_in_a_new_environment(source: Path, tmp_path: Path, place: str) -> None:
    """The command as it stands, without an index: dependencies are found among those of this environment."""
    venv.create(tmp_path / "new", with_pip=True, symlinks=True)
    python = tmp_path / "new" / "bin" / "python"
    (site,) = (tmp_path / "new" / "lib").glob("python*/site-packages")
    places = dict.fromkeys((sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))
    (site / "dependencies.pth").write_text("\n".join(places) + "\n", encoding="utf-8")
    for own in (*site.glob("setuptools*"), *site.glob("pkg_resources")):
        shutil.rmtree(own)  # of ensurepip, too old to build this; the one of this environment is next on the path
    (words,) = [words for where, words in pip_steps() if where == place]
    words = [word for word in words if "://" not in word and word != "--extra-index-url"]
    quiet(str(python), *words[1:], cwd=source)
    printed = quiet(str(python.with_name("distilbench")), "--version", cwd=tmp_path)
    assert printed.strip() == f"distilbench {PROJECT['version']}"


@pytest.mark.slow
def test_the_distributions_pass_the_check_of_the_index(source: Path, tmp_path: Path) -> None:
    pytest.importorskip("twine")
    pytest.importorskip("build")
    quiet(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), str(source), cwd=tmp_path)
    files = sorted(str(file) for file in tmp_path.glob("distilbench-*"))
    assert {Path(file).suffix for file in files} == {".whl", ".gz"}
    assert quiet(sys.executable, "-m", "twine", "check", "--strict", *files, cwd=tmp_path).count("PASSED") == 2
