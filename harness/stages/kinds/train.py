"""Stage ``train``: a model trained by one method, through our trainer or TRL's, in one process or in several."""

from __future__ import annotations

import importlib.util
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace

from harness.contracts.method import DroppedPrompt, Method, Needs
from harness.contracts.options import json_data, options_from
from harness.contracts.stage import Cost, Stage, Work
from harness.errors import UserError
from harness.hardware import training_bytes, training_factor, visible_gpus, weight_bytes
from harness.models.published_sizes import size
from harness.stages.graph import EXECUTION_ONLY, Model, StageGraph, TrainingRow
from harness.stages.kind import DiskUse, PlanIssue, StageContext, StageKind, TextLength
from harness.stages.kinds.sample import generated_texts
from harness.text import format_count
from harness.training.launch import LaunchTask, checkpoint_bytes, launch
from harness.training.options import CURVE, Training, TrainOptions, TrainReport
from harness.training.tracking import Tracking, tracked, tracking_problem
from harness.types import Group, Prompt, Response

FEW_STEPS = 20
"""Of an optimiser: with fewer, a warm-up and a schedule hardly happen."""
DISTRIBUTIONS = "distributions:"  # a role: ``distributions:family``, ``distributions:tuned``


def train_stage(
    row: TrainingRow, number: int, student: Model, teacher: Model | None, data: Mapping[str, Stage]
) -> Stage:
    """``teacher``: a live one. ``data``: rows, stored distributions and reference log-probabilities, by role."""
    entry, compute = row.entry, row.graph.recipe.compute
    # ``schedule_over`` decides something with several rounds alone: the key has what it means for a round, below.
    names_outside_key = {*EXECUTION_ONLY, "schedule_over"}
    params: dict[str, object] = {
        "method": entry.method,
        "method_version": row.method.version,
        **row.graph.registry.code_param("methods", entry.method),
        "config": json_data(entry.config),
        "options": {name: value for name, value in json_data(entry.train).items() if name not in names_outside_key},
        "seed": row.round_seed("train", number=number),
    }
    if row.rounds > 1 and entry.train.schedule_over == "run":
        # One schedule spans all rounds: this is a part of it. Such rows share no training with other rows.
        params["schedule_segment"] = [number, row.rounds]
    # In the key of methods with live responses alone: for others the length of samples decides nothing here.
    if "rollouts" in row.method.needs.responses:
        params["max_new_tokens"] = entry.sampling.max_new_tokens
    models = {"student": student} | ({"teacher": teacher} if teacher else {})
    local = {"launch": compute.launch, "processes": compute.processes, "project": row.graph.recipe.name}
    return row.add("train", number, params, data, models, local)


def rows_per_prompt(stage: Stage, graph: StageGraph, config: Mapping[str, object]) -> int:
    """Rows that a method trains on of each prompt, from what it makes of a prompt with all that it declared."""
    method: Method = graph.registry.methods[stage.params["method"]]
    scores = [-1.0 - number for number in range(stage.local["samples"])]
    samples = tuple(Response(f"text {-s}", True, 1, mean_logp=s, log_psel=s) for s in scores)
    prompt = Prompt("made", ({"role": "user", "content": "?"},), golden="golden", rejected="rejected")
    group = Group(prompt, samples=samples, teacher=(Response("taught", True, 1),))
    rows = method.rows(group, options_from(method.config, config))
    return 0 if isinstance(rows, DroppedPrompt) else len(rows)


def row_texts(stage: Stage, graph: StageGraph) -> Iterable[TextLength]:
    longest = stage.params["options"]["max_length"]
    remedy = "lower train.max_length: longer rows are then dropped"
    return [TextLength("training rows (train.max_length)", longest, longest, remedy)]


def texts(stage: Stage, graph: StageGraph) -> Iterable[TextLength]:
    rollout = stage.params.get("max_new_tokens")
    return [*row_texts(stage, graph), *([] if rollout is None else [generated_texts(graph, rollout)])]


def cost(stage: Stage, graph: StageGraph) -> Cost:
    """Every row of every prompt, once per epoch; live rollouts are drawn and then trained on."""
    train, models, config = train_options(stage), stage.local["models"], stage.params["config"]
    method: Method = graph.registry.methods[stage.params["method"]]
    rows, live = rows_per_prompt(stage, graph, config), 0.0
    if method.rollouts is not None:  # a step is live or not
        live = method.rollouts.share(options_from(method.config, config))
    prompts = graph.recipe.prompts.n * train.epochs
    responses, trained = round(prompts * live), round(prompts * (rows * (1 - live) + live)) * graph.row_tokens
    adapters, checkpointing = train.lora is not None, train.gradient_checkpointing
    student, teacher = size(models["student"]), size(models["teacher"]) if "teacher" in models else None
    weights = {role: None if (found := size(model)) is None else found.parameters for role, model in models.items()}
    work = [Work("train", weights["student"], trained, training_factor(adapters, checkpointing))]
    if "teacher" in models:
        work.append(Work("read", weights["teacher"], trained))
    if responses:  # both models draw them, in turn
        work += [Work("read", count, responses * graph.prompt_tokens) for count in weights.values()]
        work += [Work("write", count, responses * graph.response_tokens) for count in weights.values()]
    memory = None
    if student is not None and None not in weights.values():
        # All rows of a prompt go through the model together, so they share a micro-batch.
        micro_batch = train.micro_batch * max(1, rows) * graph.row_tokens
        memory = training_bytes(student, micro_batch, train.dtype, adapters, checkpointing)
        memory += 0 if teacher is None else weight_bytes(teacher, train.dtype)
    return Cost(responses, trained + responses * graph.row_tokens, work=tuple(work), peak_bytes=memory)


def disk(stage: Stage, graph: StageGraph) -> DiskUse | None:
    """float32 weights, and checkpoints to resume from."""
    student, train = size(stage.local["models"]["student"]), train_options(stage)
    if student is None:
        return None
    per_weight, per_trained_weight = checkpoint_bytes(stage.local.get("launch"))
    checkpoint = student.parameters * (per_weight + (0 if train.lora is not None else per_trained_weight))
    resumable = train.checkpoint_minutes is not None and not train.with_trl
    # Two, because the new checkpoint is written before the old one is removed.
    return DiskUse(4 * student.parameters, 2 * checkpoint if resumable else 0)


def check(stages: Sequence[Stage], graph: StageGraph) -> Iterable[PlanIssue]:
    yield from few_steps(stages, graph.recipe.prompts.n)
    if any(train_options(stage).with_trl for stage in stages) and importlib.util.find_spec("trl") is None:
        text = "train.backend = trl: the package trl is not installed: pip install 'distilbench[trl]', or leave it out"
        yield PlanIssue(True, text, forceable=False)
    trackers = {name: None for stage in stages for name in train_options(stage).report_to}
    if problem := tracking_problem(list(trackers)):
        yield PlanIssue(True, f"train.report_to: {problem}", forceable=False)
    compute = graph.recipe.compute
    gpus = compute.resources(graph.registry.stages).of(stages[0]).gpus
    if gpus > 1 and compute.launch is None:
        text = f"compute.stages.train.gpus = {gpus}: one process trains on one GPU. Set compute.launch to ddp, fsdp2"
        yield PlanIssue(True, f"{text} or your own configuration, or gpus to 1")
    if gpus == 1 and compute.launch is not None:
        text = f"compute.launch = {compute.launch} starts a process for each GPU, and a train stage has 1 GPU: set "
        yield PlanIssue(True, f"{text}compute.stages.train.gpus to 2 or more, or launch to null")
    elif 0 < gpus < (compute.processes or 0):
        text = f"compute.processes = {compute.processes}, but a train stage has {format_count(gpus, 'GPU')}"
        yield PlanIssue(True, f"{text}: leave it at null, for one process on each")


def few_steps(stages: Sequence[Stage], prompts: int) -> Iterable[PlanIssue]:
    """What the table would say afterwards."""
    rows: dict[str, dict[str, None]] = {}
    for stage in stages:
        train = train_options(stage)
        steps = train.epochs * math.ceil(prompts / train.batch_size)
        if steps >= FEW_STEPS:
            continue
        text = format_count(steps, "optimiser step") + " a round" * (stage.round is not None)
        if train.warmup_ratio and "schedule_segment" not in stage.params:
            text += ", the first at rate 0 (warm-up)" if steps > 1 else " at rate 0 (warm-up): nothing is learnt"
        rows.setdefault(text, {})[stage.row] = None
    for text, names in rows.items():
        remedy = "more prompts or epochs, or a smaller train.batch_size, make more"
        yield PlanIssue(False, f"{', '.join(names)}: {text}; {remedy}")


def run(stage: Stage, context: StageContext) -> Mapping[str, object]:
    """Write ``model/`` (a checkpoint) with its training curve. Raises UserError where no step could change a weight."""
    report: Mapping[str, object]
    if stage.local.get("launch") is None:
        report = asdict(train_here(stage, context))
    else:
        task = LaunchTask(context.setup, stage, context.ledger, context.folder)
        # Executors that hand out GPUs show a stage its own alone.
        gpus = len(visible_gpus()) if "CUDA_VISIBLE_DEVICES" in os.environ else 0
        report = launch(stage.local["launch"], stage.local["processes"] or gpus or None, task, context.progress)
    steps = [json.loads(line) for line in (context.folder / "model" / CURVE).read_text(encoding="utf-8").splitlines()]
    # The first step of a warm-up has rate 0. Where rounds share one schedule, the later ones learn.
    if "schedule_segment" not in stage.params and not any(step["learning_rate"] for step in steps):
        raise UserError(
            f"row {stage.row}: the learning rate was 0 in all {len(steps)} steps, so the student did not change; train "
            "more prompts or set train.warmup_ratio=0"
        )
    return report


def train_here(stage: Stage, context: StageContext) -> TrainReport:
    def progress(done: int, total: int, logs: Mapping[str, float]) -> None:
        context.progress(done, total, f"steps, loss {logs['loss']:.3f}" if "loss" in logs else "steps")

    task = training(stage, context)
    with tracked(task.tracking):
        if task.options.with_trl:
            from harness.training.trl_backend import fit_trl

            return fit_trl(task, context.folder / "model", progress)
        from harness.training.fit import fit

        return fit(task, context.folder / "model", progress, context.store.scratch(stage))


def tracking(stage: Stage, context: StageContext) -> Tracking | None:
    trackers, project = train_options(stage).report_to, stage.local["project"]
    if not trackers:
        return None
    names = [stage.row, f"seed{stage.seed}", *([f"round{stage.round}"] if stage.round else []), stage.key[:8]]
    return Tracking(trackers, project, "-".join(map(str, names)).replace(" ", "-"), context.ledger.parent / project)


def training(stage: Stage, context: StageContext) -> Training:
    reference = None
    if "reference" in stage.inputs:
        reference = json.loads(context.input(stage, "reference", "reference.json").read_text(encoding="utf-8"))
    distribution_roles = [role for role in stage.inputs if role.startswith(DISTRIBUTIONS)]
    number, segments = stage.params.get("schedule_segment", (0, 1))
    return replace(
        row_training(stage, context, stage.params["config"]),
        teacher_distributions={
            role.removeprefix(DISTRIBUTIONS): context.input(stage, role, ".") for role in distribution_roles
        },
        reference=reference,
        seed=stage.params["seed"],
        schedule_segment=(number, segments),
        max_new_tokens=stage.params.get("max_new_tokens", 0),
        tracking=tracking(stage, context),
    )


def row_training(stage: Stage, context: StageContext, config: Mapping[str, object]) -> Training:
    method = context.registry.methods[stage.params["method"]]
    return Training(
        method=method,
        config=options_from(method.config, config),
        groups=training_groups(stage, context, method.needs),
        student=context.checkpoint(stage, "student").location,
        options=train_options(stage),
        teacher=context.checkpoint(stage, "teacher").location if "teacher" in stage.local["models"] else None,
        device=stage.local["device"],
        trust_remote_code=stage.local["trust_remote_code"],
    )


def train_options(stage: Stage) -> TrainOptions:
    return options_from(TrainOptions, {**stage.params["options"], **stage.local["train"]})


def training_groups(stage: Stage, context: StageContext, needs: Needs) -> list[Group]:
    """What the method declared that it needs; other data never reach it."""
    prompts = context.records(stage, "prompts", Prompt)
    # From empty groups up, not by removal: a field that is new in ``Group`` then stays hidden by itself.
    groups = [Group(hide_undeclared(prompt, needs)) for prompt in prompts]
    if "samples" in needs.responses:
        pairs = pair_groups(groups, context.records(stage, "samples", Group))
        groups = [replace(group, samples=other.samples, coverage=other.coverage) for group, other in pairs]
    if "teacher" in needs.responses:
        pairs = pair_groups(groups, context.records(stage, "responses", Group))
        groups = [replace(group, teacher=other.teacher) for group, other in pairs]
    return groups


def hide_undeclared(prompt: Prompt, needs: Needs) -> Prompt:
    golden = prompt.golden if "golden" in needs.responses else None
    return replace(prompt, golden=golden, rejected=prompt.rejected if "rejected" in needs.responses else None)


def pair_groups(groups: Sequence[Group], others: Sequence[Group]) -> list[tuple[Group, Group]]:
    # The artifacts of a plan hold the same prompts in the same order; else a method would learn from foreign answers.
    if [group.prompt.id for group in groups] != [group.prompt.id for group in others]:
        raise AssertionError(f"stage inputs hold different prompts: {len(groups)} against {len(others)}")
    return list(zip(groups, others, strict=True))


KIND = StageKind("train", run, cost, disk, texts, check, training=True)
