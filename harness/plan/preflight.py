"""Can the plan run here? All problems of the work that is still to do, before its first stage."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from harness.contracts.model import Checkpoint
from harness.contracts.options import options_from
from harness.contracts.stage import Cost, Stage
from harness.hardware import bfloat16_flags, visible_gpus
from harness.models.published_sizes import context_length
from harness.models.server_model import ServerOptions
from harness.plan.plan import Plan
from harness.stages import STAGES
from harness.stages.kind import PlanIssue
from harness.text import format_count

GIB = 1 << 30
DISK_RESERVE = 1 << 25
UNKNOWN = "a model is not here yet, or cannot be read, so its size is not known"


def check(
    plan: Plan, pending: Collection[Stage], folder: Path, stored_calls: Callable[[], Mapping[str, int]] = dict
) -> list[PlanIssue]:
    """``folder``: the one that the store lies in; ``stored_calls``: judge calls that have a reply, by stage."""
    graph = plan.graph
    issues = [PlanIssue(False, graph.source.note)] if graph.source.note else []
    issues += absent_files(plan) + question_counts(plan) if pending else []
    reasons = {entrant.row: entrant.unavailable for entrant in plan.entrants if entrant.unavailable}
    issues += [PlanIssue(False, f"{row}: n/a, {reason}; the run goes on without it") for row, reason in reasons.items()]
    for name, kind in STAGES.items():
        stages = [stage for stage in pending if stage.kind == name]
        issues += kind.check(stages, graph) if stages else []
    compute = plan.recipe.compute
    executor = graph.registry.executors[compute.executor]
    workers = executor.concurrency(compute.workers) + len(compute.gpus)
    issues += backend_issues(plan, pending, executor.this_machine)
    issues += budget(plan, pending, stored_calls) + disk(plan, pending, folder, workers)
    if executor.this_machine and pending:
        issues += memory(plan, pending, workers) + device(plan) + slow_precision(plan, pending)
    options = options_from(executor.config, compute.executor_options)
    problems = executor.check(options, compute.resources(graph.registry.stages), list(pending)) if pending else ()
    issues += [PlanIssue(True, text) for text in problems]
    return issues + context_issues(plan, pending)


def absent_files(plan: Plan) -> list[PlanIssue]:
    texts = [checkpoint.absence for checkpoint in plan.graph.models.values()]
    texts += [
        entry.absence and f"questions of {name}: {entry.absence}" for name, entry in plan.graph.benchmarks.items()
    ]
    return [PlanIssue(True, text, forceable=False) for text in dict.fromkeys(texts) if text]


def question_counts(plan: Plan) -> list[PlanIssue]:
    """Limits above what there is, and what so few questions cannot give."""
    texts: list[str] = []
    for name, entry in plan.graph.benchmarks.items():
        count, limit = len(entry.questions), getattr(entry.config, "limit", None)
        if limit is not None and limit > count:
            texts.append(f"benchmarks.{name}.limit = {limit:,}, and there are {format_count(count, 'question')}")
        texts += [
            f"{name}, {format_count(count, 'question')}: {text}"
            for text in entry.benchmark.remarks(count, entry.config)
        ]
    return [PlanIssue(False, text) for text in texts]


def backend_issues(plan: Plan, pending: Collection[Stage], this_machine: bool) -> list[PlanIssue]:
    """What stages do without their backend; and backends that cannot be had here, or not for a model."""
    texts, misfits, problems = dict[str, None](), dict[str, None](), dict[str, None]()
    readers = defaultdict[str, dict[str, str]](dict)
    choices: dict[str, tuple[str, dict[str, Any], dict[Checkpoint, None]]] = {}
    for stage in pending:
        if "remark" in stage.local:
            texts[stage.local["remark"]] = None
        if not (STAGES[stage.kind].needs and "backend_options" in stage.local):
            continue
        name, values = stage.local["backend"], {**stage.params["backend"]["options"], **stage.local["backend_options"]}
        _, _, checkpoints = choices.setdefault(json.dumps([name, values], sort_keys=True), (name, values, {}))
        served = stage.local["models"].keys() - stage.local.get("tokenizers", {}).keys()
        for role in sorted(served):
            checkpoint = stage.local["models"][role]
            checkpoints[checkpoint] = None
            server = values.get("server")
            trained = str(stage.inputs.get(role, ""))
            if server:
                readers[server][trained or checkpoint.fingerprint] = stage.row or checkpoint.name
    for name, values, checkpoints in choices.values():
        backend = plan.graph.registry.backends[name]
        config = options_from(backend.config, values)
        for checkpoint in checkpoints:
            if misfit := backend.misfit(config, checkpoint):
                misfits[f"backend {name}: {misfit}"] = None
        if this_machine and (problem := backend.problem(config)):
            problems[f"backend {name}: {problem}"] = None
    for server, names in readers.items():
        if len(names) > 1:
            models = ", ".join(sorted(set(names.values())))
            problems[
                f"{server} serves one checkpoint, and {len(names)} would be asked there (of {models}): leave `server` "
                "out to have a server started for each, or name one for the model that it serves (family.backends)"
            ] = None
    issues = [PlanIssue(False, text) for text in texts] + [PlanIssue(True, text) for text in misfits]
    return issues + [PlanIssue(True, text, forceable=False) for text in problems]


def budget(plan: Plan, pending: Collection[Stage], stored_calls: Callable[[], Mapping[str, int]]) -> list[PlanIssue]:
    ask = plan.recipe.ask
    # Estimates of judge calls build every request: not for nothing.
    if ask.max_cost is None and ask.max_calls is None:
        return []
    stored, issues = stored_calls(), list[PlanIssue]()
    costs = {s.key: cost.without(stored.get(s.key, 0)) for s, cost in zip(pending, plan.costs(pending), strict=True)}
    cost = Cost.total(costs.values())
    if ask.max_cost is not None and cost.dollars is None:
        names = " and of ".join(names_without_price(plan, pending, costs))
        text = (
            f"ask.max_cost is ${ask.max_cost:g}, but the price of {names} is not known: give its price_in and "
            "price_out, dollars per million tokens (0 for a server of your own)"
        )
        if "model " in names:
            text += ". A model takes them in --model '{model: NAME, base_url: URL, price_in: 0, price_out: 0}'"
        issues.append(PlanIssue(True, text))
    elif ask.max_cost is not None and cost.dollars is not None and cost.dollars > ask.max_cost:
        text = f"judging is estimated at ${cost.dollars:,.2f}, ask.max_cost allows ${ask.max_cost:g}: "
        issues.append(PlanIssue(True, text + "raise it, set limits to the benchmarks, or name a cheaper judge"))
    if ask.max_calls is not None and cost.judge_calls > ask.max_calls:
        text = f"{cost.judge_calls:,} judge calls are to be made, ask.max_calls allows {ask.max_calls:,}: "
        issues.append(PlanIssue(True, text + "raise it, or set limits to the benchmarks"))
    return issues


def names_without_price(plan: Plan, pending: Collection[Stage], costs: Mapping[str, Cost]) -> list[str]:
    """The judges and the served models whose price is not known."""
    names: dict[str, None] = {}
    for stage in pending:
        if costs[stage.key].dollars is None:
            server = stage.local.get("endpoint")
            judge = None if server else plan.recipe.benchmarks[stage.params["benchmark"]].judge
            names[f"model {ServerOptions(**server).model!r}" if server else f"judge {judge!r}"] = None
    return list(names)


def disk(plan: Plan, pending: Collection[Stage], folder: Path, workers: int) -> list[PlanIssue]:
    uses = [STAGES[stage.kind].disk(stage, plan.graph) for stage in pending]
    known_uses = [use for use in uses if use is not None]
    # A sum with an unknown part would say that there is room where there may be none.
    if len(known_uses) < len(uses):
        return [PlanIssue(False, f"disk: {UNKNOWN}")]
    artifact_bytes = sum(use.artifact for use in known_uses)
    scratch = sum(sorted(use.scratch for use in known_uses)[-workers:])
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if not artifact_bytes + scratch or free >= artifact_bytes + scratch + DISK_RESERVE:
        return []
    text = (
        f"disk: {(artifact_bytes + DISK_RESERVE) / GIB:.1f} GiB needed for trained models and teachers' distributions"
    )
    remedy = "free space, train fewer rows or seeds, or point --runs elsewhere"
    if scratch:
        text += f", {scratch / GIB:.1f} GiB for checkpoints to resume from"
        remedy += ", or do without the latter (train.checkpoint_minutes=null)"
    return [PlanIssue(True, f"{text}, {free / GIB:.1f} GiB free at {folder}; {remedy}")]


def memory(plan: Plan, pending: Collection[Stage], workers: int) -> list[PlanIssue]:
    import psutil

    sizes = [cost.peak_bytes for cost in plan.costs(pending)]
    known_sizes = [size for size in sizes if size is not None]
    if len(known_sizes) < len(sizes):
        return [PlanIssue(False, f"memory: {UNKNOWN}")]
    device = plan.recipe.compute.device
    amount = workers * max(known_sizes, default=0.0)
    total = psutil.virtual_memory().total
    if device not in ("auto", "cpu") or amount <= total:
        return []
    text = f"memory: about {amount / GIB:.1f} GiB for {format_count(workers, 'worker')}, "
    text += f"this machine has {total / GIB:.1f} GiB"
    # With ``auto`` it may be a GPU that trains.
    fewer = "set compute.workers=1, " if workers > 1 else ""
    return [PlanIssue(device == "cpu", f"{text}; {fewer}take a smaller model, or use a GPU")]


def device(plan: Plan) -> list[PlanIssue]:
    name, count = plan.recipe.compute.device, len(visible_gpus())
    number = int(name.partition(":")[2] or 0) if name.startswith("cuda") else -1
    if number < count or (not count and number == 0):
        return []
    text = f"compute.device = {name}: this machine shows {format_count(count, 'CUDA device')}, counted from cuda:0"
    return [PlanIssue(True, text)]


def slow_precision(plan: Plan, pending: Collection[Stage]) -> list[PlanIssue]:
    name = plan.recipe.compute.device
    # Of all stages, those that train have such options.
    trained = any(stage.params.get("options", {}).get("dtype") == "bfloat16" for stage in pending)
    if not trained or name not in ("auto", "cpu") or (name == "auto" and visible_gpus()) or bfloat16_flags() != []:
        return []
    text = "train.dtype = bfloat16 is slow here: this CPU has no instructions for matrix products in bfloat16 (AMX, "
    return [PlanIssue(False, text + "AVX512_BF16); float32 is faster")]


def context_issues(plan: Plan, pending: Collection[Stage]) -> list[PlanIssue]:
    names = {checkpoint.location: name for name, checkpoint in plan.graph.models.items()}
    contexts = {checkpoint.location: context_length(checkpoint) for checkpoint in plan.graph.models.values()}
    issues: dict[str, PlanIssue] = {}
    for stage in pending:
        readers = {checkpoint.location for checkpoint in stage.local.get("models", {}).values()}
        for text in STAGES[stage.kind].texts(stage, plan.graph):
            for location in sorted(readers, key=names.__getitem__):
                context = contexts[location]
                if context is not None and text.longest > context:
                    line = f"context: {text.content} of up to {text.longest:,} tokens, the {names[location]} reads "
                    line += f"{context:,}; {text.remedy}"
                    # Of stages that say the same, the first counts.
                    issues.setdefault(line, PlanIssue(text.usual > context, line))
    return list(issues.values())
