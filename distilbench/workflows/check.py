"""Checks: this machine for a recipe, an entry against its contract, and a judge against its earlier replies."""

from __future__ import annotations

import copy
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from http.client import HTTPException
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, Literal
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil
from packaging.requirements import Requirement

from distilbench.installation import check_folders
from distilbench.plugins import CONTRACTS, OURS, entries_of, load_registry
from distilbench.workflows.plan import plan
from distilbench.workflows.specs import JUDGE, judge_entry, overrides_of, parse_options
from harness import assets
from harness.checks.finding import Finding, run_checks
from harness.checks.suites import SUITES
from harness.contracts.benchmark import AnyBenchmark, Benchmark
from harness.contracts.judge import AskOptions, Judge, JudgeError
from harness.contracts.options import RecipeError, options_from
from harness.contracts.registry import Registry
from harness.contracts.stage import Stage
from harness.errors import UserError, unknown_choice
from harness.hardware import visible_gpus
from harness.recipe.reader import SectionReader
from harness.recipe.recipe import Recipe, load_recipe
from harness.stages.graph import StageGraph
from harness.text import format_count
from harness.types import Question
from judges.client.canary import CanaryRound, ask_round, rounds

GIB = 1 << 30
HUB_SECONDS = 3.0  # doctor is run when something is broken: it must not hang on a dead proxy
# Pocket's table with all its seeds takes about 1 GiB; below 0.3 GiB one seed does not fit.
ENOUGH_DISK, LEAST_DISK = 2 * GIB, 0.3 * GIB
FILES = (".jsonl", ".json", ".csv", ".parquet", ".txt", ".sqlite", ".yaml")
LONGEST_NAME = 4096
ENOUGH_MEMORY = 3 * GIB  # a worker that trains a pocket model needs about 1 GiB, and there are two of them


@dataclass(frozen=True)
class MachineFinding:
    state: Literal["ok", "warn", "fail"]
    text: str
    remedy: str = ""


def examine(
    recipe: str = "pocket", *, changes: Sequence[str] = (), plugins: Sequence[str] = (), runs: Path = Path("runs")
) -> Iterator[MachineFinding]:
    """The checks, one after the other. One that cannot be made is a finding: whoever asks has something broken."""
    yield from (folders(), python(), packages(), torch(), disk(runs), memory(), questions())
    try:
        with assets.asked_for() as asked:
            work = plan(recipe=recipe, set=changes, plugins=plugins, runs=runs)
        problems = [finding.text for finding in work.findings if finding.problem]
    except (UserError, ImportError) as error:
        remedy = f"Fix the recipe; see `distilbench recipe check {recipe}`."
        yield MachineFinding("fail", f"recipe {recipe}: {error}", remedy)
        return
    said = []
    for benchmark in work.first.graph.benchmarks.values():  # a plan stops looking at the first that is missing
        for name in benchmark.benchmark.files(benchmark.config):
            asked.setdefault(name, assets.check_asset(name))
    for finding in (*files(work.first.recipe, asked), *parts(work.first.graph)):
        yield finding
        said += [finding.text] if finding.state == "fail" else []
    # What the plan says of a part that failed stands above.
    problems = [text for text in problems if not any((text.partition(": ")[2] or text) in line for line in said)]
    for text in problems:
        yield MachineFinding("fail", f"recipe {recipe}: {text}")
    if not problems:
        yield MachineFinding("ok", f"recipe {recipe}: fine")


def files(recipe: Recipe, asked: Mapping[str, assets.AssetStatus]) -> Iterator[MachineFinding]:
    """Those that this recipe needs: pinned ones, by what the plan looked for, and those that it names."""
    for name, status in asked.items():
        if status.state == "ok":
            yield MachineFinding("ok", f"file {name}: found at {status.path}")
        else:
            yield MachineFinding("fail", f"file {name}: {status.message}")
    for path, value in leaves(recipe.to_tree()):
        place = Path(value).expanduser()
        if "/" in value and len(value) < LONGEST_NAME and os.path.exists(place):  # noqa: PTH110, a Path's own raises
            noun = "folder" if place.is_dir() else "file"
            yield MachineFinding("ok", f"{noun} {value} ({path}): found")
        elif value.endswith(FILES) and len(value) < LONGEST_NAME:
            state: Literal["ok", "fail"] = "ok" if place.is_file() else "fail"
            remedy = "" if place.is_file() else f"Put it there, or change {path}; paths are relative to this folder."
            yield MachineFinding(state, f"file {value} ({path}): {'found' if place.is_file() else 'missing'}", remedy)


def leaves(tree: object, path: str = "") -> Iterator[tuple[str, str]]:
    """The texts of a recipe, under their dotted paths."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from leaves(value, f"{path}.{key}" if path else str(key))
    elif isinstance(tree, str) and path != "title":
        yield path, tree


def parts(graph: StageGraph) -> Iterator[MachineFinding]:
    """What a recipe names, also where nothing of it is left to do."""
    yield hub(graph.recipe, graph.registry)
    yield from backends(graph.recipe, graph.registry)
    yield executor(graph.recipe, graph.registry)
    for name, judge in graph.judges.items():
        problem = judge.problem()
        remedy = "Start it, or name another under judges." if problem else ""
        text = f"judge {name} ({judge.kind.name}): {problem or 'it answers'}"
        yield MachineFinding("fail" if problem else "ok", text, remedy)


def folders() -> MachineFinding:
    try:
        check_folders()
    except UserError as error:
        return MachineFinding("fail", str(error), "A virtual environment of its own has no such conflicts.")
    return MachineFinding("ok", "packages harness, methods, judges, results, reports, recipes are distilbench's")


def python() -> MachineFinding:
    text = f"Python {platform.python_version()} on {platform.platform(terse=True)}"
    if sys.prefix != sys.base_prefix or "CONDA_PREFIX" in os.environ:
        return MachineFinding("ok", text)
    remedy = "Generic package names are safest in a virtual environment: python -m venv .venv"
    return MachineFinding("warn", text, remedy)


def packages() -> MachineFinding:
    try:
        requirements = [Requirement(text) for text in requires("distilbench") or []]
    except PackageNotFoundError:
        return MachineFinding("warn", "distilbench itself is not installed", "Run `pip install -e .` in the checkout.")
    # A marker that does not hold names another platform, or an extra that need not be installed.
    requirements = [line for line in requirements if line.marker is None or line.marker.evaluate({"extra": ""})]
    wrong = []
    for requirement in requirements:
        try:
            installed_version = version(requirement.name)
        except PackageNotFoundError:
            installed_version = "missing"
        if installed_version == "missing" or not requirement.specifier.contains(installed_version, prereleases=True):
            wrong.append(f"{requirement.name} is {installed_version}, needed is {requirement.specifier}")
    if wrong:
        remedy = "Run `pip install -e . -c constraints.txt` in the checkout."
        return MachineFinding("fail", "packages: " + "; ".join(wrong), remedy)
    return MachineFinding("ok", f"packages: all {len(requirements)} within the stated ranges")


def torch() -> MachineFinding:
    try:
        import torch as library
    except Exception as error:  # noqa: BLE001 - a broken installation raises whatever its loader finds first
        remedy = "Install it again; on a machine without a GPU use the CPU build, see the README."
        return MachineFinding("fail", f"torch cannot be imported: {type(error).__name__}: {error}", remedy)
    device = f"the CPU: {library.get_num_threads()} threads, {os.cpu_count() or 1} cores, no CUDA device"
    if library.cuda.is_available():
        names = ", ".join(library.cuda.get_device_name(index) for index in range(library.cuda.device_count()))
        device = f"{names} ({'with' if library.cuda.is_bf16_supported() else 'without'} bfloat16)"
    return MachineFinding("ok", f"torch {library.__version__} on {device}")


def disk(runs: Path) -> MachineFinding:
    existing_folder = next(folder for folder in (runs.absolute(), *runs.absolute().parents) if folder.exists())
    if not os.access(existing_folder, os.W_OK):
        remedy = "Point --runs (or DISTILBENCH_RUNS) to a folder of yours."
        return MachineFinding("fail", f"disk: {existing_folder} cannot be written", remedy)
    free = shutil.disk_usage(existing_folder).free
    text = f"disk: {free / GIB:.1f} GiB free at {existing_folder}"
    if free > ENOUGH_DISK:
        return MachineFinding("ok", text)
    remedy = "Free some space, or point --runs (or DISTILBENCH_RUNS) elsewhere."
    return MachineFinding("warn" if free > LEAST_DISK else "fail", text, remedy)


def memory() -> MachineFinding:
    usage = psutil.virtual_memory()
    text = f"memory: {usage.available / GIB:.1f} of {usage.total / GIB:.1f} GiB available"
    if usage.available >= ENOUGH_MEMORY:
        return MachineFinding("ok", text)
    return MachineFinding("warn", text, "Set compute.workers=1 if a worker is killed.")


def questions() -> MachineFinding:
    files = assets.status()
    good, wrong = (sum(file.state == "ok" for file in files), [file.file for file in files if file.state == "wrong"])
    text = f"official questions: {good} of {len(files)} files in {', '.join(map(str, assets.folders()))}"
    if wrong:
        text += f"; not the pinned ones: {', '.join(wrong)}"
        return MachineFinding("fail", text, "See `distilbench assets verify`.")
    if good == len(files):
        return MachineFinding("ok", text)
    return MachineFinding("warn", text, "Only recipes with official questions need them: `distilbench assets pull`.")


def hub(recipe: Recipe, registry: Registry) -> MachineFinding:
    names = [recipe.family.teacher, recipe.family.student]
    remote = [name for name in names if not name.startswith(("pocket:", "/", ".", "~")) and not Path(name).is_dir()]
    dataset = registry.sources[recipe.prompts.source].hub
    repositories = ", ".join(dict.fromkeys([*remote, *([dataset] if dataset else [])]))
    if not repositories:
        return MachineFinding("ok", "model hub: not needed by this recipe")
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        text = f"model hub: HF_HUB_OFFLINE is set; {repositories} must be in the cache"
        return MachineFinding("warn", text, "Unset it to download.")
    address = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        urlopen(Request(address, method="HEAD"), timeout=HUB_SECONDS).close()  # noqa: S310 - the user's own setting
    except HTTPError:
        pass  # it refuses this request, but it is there
    except (OSError, ValueError, HTTPException) as error:  # ValueError: no URL; HTTPException: no HTTP
        remedy = "Use local folders (family.student=./folder) and prompts.fallback, or fix the connection."
        text = f"model hub: {address} does not answer ({error}); needed for {repositories}"
        return MachineFinding("warn", text, remedy)
    return MachineFinding("ok", f"model hub: {address} answers (needed for {repositories})")


def backends(recipe: Recipe, registry: Registry) -> Iterator[MachineFinding]:
    """Each that the recipe names, with the options that it has for some model and kind of stage."""
    for name, options in {json.dumps(choice): choice for _, choice in recipe.family.backend_choices()}.values():
        backend = registry.backends[name]
        problem = backend.problem(options_from(backend.config, options))
        text = f"backend {name}: {problem or backend.summary}"
        yield MachineFinding("fail" if problem else "ok", text, "Change family.backend_options." if problem else "")


def executor(recipe: Recipe, registry: Registry) -> MachineFinding:
    """Whether it can be used, and has what each kind of stage is to get."""
    compute = recipe.compute
    kind, resources = registry.executors[compute.executor], compute.resources(registry.stages)
    stages = [Stage(name, {}, local={"models": {}} if runs else {}) for name, runs in registry.stages.items()]
    problems = list(kind.check(options_from(kind.config, compute.executor_options), resources, stages))
    if problems:
        return MachineFinding("fail", f"executor {kind.name}: {'; '.join(problems)}", "Change compute in the recipe.")
    counts = f"{format_count(len(visible_gpus()), 'CUDA device')} here, {len(resources.gpus)} in compute.gpus"
    return MachineFinding("ok", f"executor {kind.name}: {counts}")


def check(
    table: str, name_or_file: str, options: Mapping[str, object] | Sequence[str] = (), plugins: Sequence[str] = ()
) -> Iterator[tuple[Any, Finding]]:
    """Each entry (of a name, or of a Python file that brings some) with the outcome of each check, as they are made.

    Raises UserError: there is no such table or entry, or it has no such options.
    """
    if table not in OURS:
        raise unknown_choice("table", table, OURS)
    for entry, config in configured_entries(table, name_or_file, options, plugins):
        if table in SUITES:
            findings = run_checks(SUITES[table], entry, config)
        else:
            from harness.checks.method import check_method  # imports torch, which the other checks do without

            findings = check_method(entry, config)
        for finding in findings:
            yield entry, finding


def configured_entries(
    table: str, name_or_file: str, options: Mapping[str, object] | Sequence[str], plugins: Sequence[str]
) -> Iterator[tuple[Any, Any]]:
    """Entries with their options; of a recipe (``.yaml``) its columns, as it states them."""
    if CONTRACTS[table] is Benchmark and Path(name_or_file).suffix in (".yaml", ".yml"):
        registry = load_registry(plugins)
        recipe = load_recipe(name_or_file, overrides_of(options), registry)
        for name, column in recipe.benchmarks.items():
            benchmark = registry.benchmarks[column.kind].named(name, column.config)
            if column.baseline is not None:  # its answers are not made yet: any will do
                benchmark = with_any_baseline(benchmark)
            yield benchmark, column.config
        return
    for entry in entries_of(table, name_or_file, plugins):
        config = parse_options(entry.config, options)
        yield (entry.named(entry.name, config) if isinstance(entry, Benchmark) else entry), config


def with_any_baseline(benchmark: AnyBenchmark) -> AnyBenchmark:
    column, load = copy.copy(benchmark), benchmark.questions

    def questions(config: object) -> list[Question]:
        return [replace(q, baseline=tuple(f"an answer to {turn}" for turn in q.turns)) for q in load(config)]

    setattr(column, "questions", questions)  # noqa: B010, of this column alone
    return column


def ask_canary(
    judge: str, ledger: Path, *, timeout: float = 120.0, plugins: Sequence[str] = ()
) -> tuple[Judge, list[CanaryRound], list[JudgeError]]:
    """Ask a judge the canary's 16 questions again: the judge, all its rounds (the new one last), the calls that failed.

    ``timeout``: seconds per call. Raises UserError where the judge cannot be reached.
    """
    registry = load_registry(plugins)
    reader = SectionReader(registry)
    entries = reader.judges({JUDGE: judge_entry(judge, registry)})
    if reader.problems:
        raise RecipeError(reader.problems, "--judge")
    configured_judge = registry.judge(entries[JUDGE].kind, entries[JUDGE].config)
    client = configured_judge.make()
    if problem := client.check():
        raise UserError(problem)
    earlier_rounds = rounds(client, ledger)
    new_round, outcomes = ask_round(client, ledger, AskOptions(timeout=timeout), configured_judge.billing())
    errors = [outcome for outcome in outcomes if isinstance(outcome, JudgeError)]
    return client, [*earlier_rounds, new_round], errors
