"""What this machine has and lacks for a recipe: one finding per line, each with a remedy."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from distilbench.installation import check_folders
from distilbench.plugins import load_registry
from distilbench.workflows.specs import judge_problem
from harness import assets
from harness.contracts.options import plain
from harness.contracts.registry import Registry
from harness.errors import UserError
from harness.recipe.recipe import load_recipe

if TYPE_CHECKING:
    from harness.recipe.recipe import Recipe

GIB = 1 << 30
HUB_SECONDS = 3.0
"""How long to wait for the model hub."""


@dataclass(frozen=True)
class MachineFinding:
    """One line of ``distilbench doctor``."""

    state: Literal["ok", "warn", "fail"]
    text: str
    remedy: str = ""


def examine(
    recipe: str = "pocket", *, changes: Sequence[str] = (), plugins: Sequence[str] = (), runs: Path = Path("runs")
) -> Iterator[MachineFinding]:
    """Check Python, packages, PyTorch, disk, memory, question files, hub and judges, one after the other.

    A check that cannot be made is a finding, not an error.
    """
    checks: list[Callable[[], Iterator[MachineFinding]]] = [
        folders, python, packages, torch, lambda: disk(runs), memory, questions,
    ]  # fmt: skip
    for check in checks:
        yield from check()
    try:
        registry = load_registry(plugins)
        loaded = load_recipe(recipe, changes, registry)
    except (UserError, ImportError) as error:
        yield MachineFinding("fail", f"recipe {recipe}: {error}", "Fix the recipe; see `distilbench recipe check`.")
        return
    yield MachineFinding("ok", f"recipe {recipe}: fine")
    yield from hub(loaded, registry)
    yield from judges(loaded, registry)


def folders() -> Iterator[MachineFinding]:
    """The top-level packages have generic names: are they ours?"""
    try:
        check_folders()
        yield MachineFinding("ok", "packages harness, methods, judges, results, reports, recipes are distilbench's")
    except UserError as error:
        yield MachineFinding("fail", str(error), "A virtual environment of its own has no such conflicts.")


def python() -> Iterator[MachineFinding]:
    own = sys.prefix != sys.base_prefix or "CONDA_PREFIX" in os.environ
    remedy = "" if own else "Generic package names are safest in a virtual environment: python -m venv .venv"
    text = f"Python {platform.python_version()} on {platform.platform(terse=True)}"
    yield MachineFinding("ok" if own else "warn", text, remedy)


def packages() -> Iterator[MachineFinding]:
    """Installed versions against the ranges that the distribution states."""
    from importlib.metadata import PackageNotFoundError, requires, version

    from packaging.requirements import Requirement

    try:
        stated = [Requirement(text) for text in requires("distilbench") or []]
    except PackageNotFoundError:
        yield MachineFinding("warn", "distilbench itself is not installed", "Run `pip install -e .` in the checkout.")
        return
    required = [each for each in stated if each.marker is None or each.marker.evaluate({"extra": ""})]
    wrong = []
    for each in required:
        try:
            installed = version(each.name)
        except PackageNotFoundError:
            wrong.append(f"{each.name} is missing (needs {each.specifier})")
            continue
        if not each.specifier.contains(installed, prereleases=True):
            wrong.append(f"{each.name} {installed} is outside of {each.specifier}")
    if wrong:
        remedy = "Run `pip install -e . -c constraints.txt` in the checkout."
        yield MachineFinding("fail", "packages: " + "; ".join(wrong), remedy)
    else:
        yield MachineFinding("ok", f"packages: all {len(required)} within the stated ranges")


def torch() -> Iterator[MachineFinding]:
    """Whether PyTorch loads, and on what it runs."""
    try:
        import torch as library
    except Exception as error:  # noqa: BLE001 - a broken installation raises whatever its loader finds first
        remedy = "Install it again; on a machine without a GPU use the CPU build, see the README."
        yield MachineFinding("fail", f"torch cannot be imported: {type(error).__name__}: {error}", remedy)
        return
    if library.cuda.is_available():
        names = ", ".join(library.cuda.get_device_name(index) for index in range(library.cuda.device_count()))
        bf16 = "with" if library.cuda.is_bf16_supported() else "without"
        place = f"{names} ({bf16} bfloat16)"
    else:
        place = f"the CPU: {library.get_num_threads()} threads, {os.cpu_count() or 1} cores, no CUDA device"
    yield MachineFinding("ok", f"torch {library.__version__} on {place}")


def disk(runs: Path) -> Iterator[MachineFinding]:
    """Free space where runs go."""
    place = next(folder for folder in (runs.absolute(), *runs.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free / GIB
    # Pocket's table with all seeds takes about 1 GiB; below 0.3 GiB not even one row fits.
    state: Literal["ok", "warn", "fail"] = "ok" if free > 2 else "warn" if free > 0.3 else "fail"
    remedy = "" if free > 2 else "Free some space, or point --runs (or DISTILBENCH_RUNS) elsewhere."
    yield MachineFinding(state, f"disk: {free:.1f} GiB free at {place}", remedy)
    if not os.access(place, os.W_OK):
        remedy = "Point --runs (or DISTILBENCH_RUNS) to a folder of yours."
        yield MachineFinding("fail", f"{place} cannot be written", remedy)


def memory() -> Iterator[MachineFinding]:
    import psutil

    found = psutil.virtual_memory()
    remedy = "Set compute.workers=1 if a worker is killed." if found.available < 3 * GIB else ""
    text = f"memory: {found.available / GIB:.1f} of {found.total / GIB:.1f} GiB available"
    yield MachineFinding("warn" if remedy else "ok", text, remedy)


def questions() -> Iterator[MachineFinding]:
    """The official question files; pocket needs none of them."""
    found = assets.status()
    good = sum(each.state == "ok" for each in found)
    wrong = [each.file for each in found if each.state == "wrong"]
    text = f"official questions: {good} of {len(found)} files in {', '.join(map(str, assets.folders()))}"
    if wrong:
        yield MachineFinding(
            "fail", f"{text}; not the pinned ones: {', '.join(wrong)}", "See `distilbench assets verify`."
        )
    elif good < len(found):
        yield MachineFinding("warn", text, "Only recipes with official questions need them: `distilbench assets pull`.")
    else:
        yield MachineFinding("ok", text)


def hub(recipe: Recipe, registry: Registry) -> Iterator[MachineFinding]:
    """Whether the model hub answers, where the recipe needs it."""
    import urllib.error
    import urllib.request

    names = [recipe.family.teacher, recipe.family.student]
    needs = [name for name in names if not name.startswith(("pocket:", "/", ".", "~")) and not Path(name).is_dir()]
    dataset = registry.sources[recipe.prompts.source].hub
    needed = ", ".join(dict.fromkeys([*needs, *([dataset] if dataset else [])]))
    address = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    if not needed:
        yield MachineFinding("ok", "model hub: not needed by this recipe")
    elif os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        text = f"model hub: HF_HUB_OFFLINE is set; {needed} must be in the cache"
        yield MachineFinding("warn", text, "Unset it to download.")
    elif not address.startswith(("https://", "http://")):
        remedy = "It must start with https:// or http://."
        yield MachineFinding("fail", f"model hub: HF_ENDPOINT is {address!r}", remedy)
    else:
        try:
            request = urllib.request.Request(address, method="HEAD")  # noqa: S310 - the scheme is checked above
            urllib.request.urlopen(request, timeout=HUB_SECONDS).close()  # noqa: S310
            yield MachineFinding("ok", f"model hub: {address} answers (needed for {needed})")
        except urllib.error.HTTPError as error:
            yield MachineFinding("ok", f"model hub: {address} answers with {error.code} (needed for {needed})")
        except OSError as error:
            remedy = "Use local folders (family.student=./folder) and prompts.fallback, or fix the connection."
            text = f"model hub: {address} does not answer ({error}); needed for {needed}"
            yield MachineFinding("warn", text, remedy)


def judges(recipe: Recipe, registry: Registry) -> Iterator[MachineFinding]:
    """Whether the recipe's judges can be reached."""
    for name, entry in recipe.judges.items():
        problem = judge_problem(entry.kind, plain(entry.config), registry)
        if problem:
            remedy = "Start it, or name another under judges."
            yield MachineFinding("fail", f"judge {name} ({entry.kind}): {problem}", remedy)
        else:
            yield MachineFinding("ok", f"judge {name} ({entry.kind}): it answers")
