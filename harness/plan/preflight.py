"""Can the plan run here? Every need checked before the first expensive stage, all problems at once.

Problems stop a run; remarks are printed and do not. Only work that is still to do is checked: a finished run asks
nothing of the judge, the disk or the memory.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.contracts.model import Checkpoint
from harness.contracts.registry import Registry
from harness.contracts.stage import Stage, Store
from harness.errors import UserError
from harness.models.checkpoint import weight_shapes
from harness.plan import context_length as context
from harness.plan.cost import total
from harness.plan.plan import Plan
from harness.prompts.contamination import Overlap, overlap
from harness.prompts.resolve import load_prompts

GIB = 1 << 30


@dataclass(frozen=True)
class Finding:
    """One thing that a user should know before the run."""

    problem: bool
    """Whether it stops the run."""
    text: str
    forceable: bool = True
    """Whether ``--force`` passes it over. Exact overlap needs ``prompts.allow_overlap``, which is recorded."""


def check(plan: Plan, registry: Registry, pending: Collection[Stage], place: Path, store: Store) -> list[Finding]:
    """All findings about the stages that are still to run, and the overlap that an earlier run found.

    ``place`` is the folder that the store lies in.
    """
    kinds = {stage.kind for stage in pending}
    note = plan.builder.source.note
    findings = [Finding(False, note)] if note else []
    findings += absent(plan) if pending else []
    findings += rows(plan)
    findings += judges(plan, registry, pending)
    if kinds & {"train", "sample"}:
        executor = registry.executors[plan.recipe.compute.executor]
        workers = executor.concurrency(plan.recipe.compute.workers)
        findings += disk(plan, pending, place, workers)
        if executor.this_machine:
            findings += memory(plan, pending, workers)
    findings += [Finding(problem, text) for problem, text in context.findings(plan, pending)]
    if kinds & {"overlap"}:
        findings += overlaps(plan)
    else:
        findings += stored_overlaps(plan, store)
    return findings


def absent(plan: Plan) -> list[Finding]:
    """Models, prompts and questions that are planned for as stated, and are not here."""
    texts = list(dict.fromkeys(each.absent for each in plan.builder.models.values() if each.absent))
    texts += [f"training prompts: {plan.builder.source.absent}"] if plan.builder.source.absent else []
    texts += [f"questions of {name}: {why}" for name, why in plan.builder.absent.items()]
    return [Finding(True, text, forceable=False) for text in texts]


def rows(plan: Plan) -> list[Finding]:
    """Rows that this family cannot have."""
    told = {entrant.row: entrant.unavailable for entrant in plan.entrants if entrant.unavailable}
    return [Finding(False, f"{row}: n/a, {reason}; the run goes on without it") for row, reason in told.items()]


def judges(plan: Plan, registry: Registry, pending: Collection[Stage]) -> list[Finding]:
    """Judges that do not answer, asked once each."""
    names = {str(plan.recipe.benchmarks[s.params["benchmark"]].judge) for s in pending if "judge" in s.params}
    findings = []
    for name in sorted(names):
        entry = plan.recipe.judges[name]
        kind = registry.judges[entry.kind]
        config = entry.config
        try:
            wrong = kind.make(config).check()
        except UserError as error:
            wrong = str(error)
        if wrong:
            findings.append(Finding(True, f"judge {name!r} ({entry.kind}): {wrong}"))
        findings += [Finding(False, f"judge {name!r}: {note}") for note in kind.notes(config)]
    return findings + budget(plan, pending)


def budget(plan: Plan, pending: Collection[Stage]) -> list[Finding]:
    """Whether the judge calls that are estimated fit what the recipe allows."""
    ask, price = plan.recipe.ask, total(list(pending))
    findings = []
    if ask.max_cost is not None and price.dollars is None:
        text = f"ask.max_cost is ${ask.max_cost:g}, but the price of a judge is not known: give its price_in and "
        findings.append(Finding(True, text + "price_out, dollars per million tokens (0 for a server of your own)"))
    elif ask.max_cost is not None and price.dollars is not None and price.dollars > ask.max_cost:
        text = f"judging is estimated at ${price.dollars:,.2f}, ask.max_cost allows ${ask.max_cost:g}: "
        findings.append(Finding(True, text + "raise it, set limits to the benchmarks, or name a cheaper judge"))
    if ask.max_calls is not None and price.judge_calls > ask.max_calls:
        text = f"{price.judge_calls:,} judge calls are to be made, ask.max_calls allows {ask.max_calls:,}: "
        findings.append(Finding(True, text + "raise it, or set limits to the benchmarks"))
    return findings


@dataclass(frozen=True)
class Weights:
    """Shapes of a checkpoint's weights, by name."""

    shapes: Mapping[str, tuple[int, ...]]

    @property
    def numbers(self) -> int:
        """How many."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def adapter(self, lora: Mapping[str, Any] | None) -> int:
        """About how many numbers low-rank adapters have: r (rows + columns) for each matrix that is adapted."""
        if lora is None:
            return 0
        targets = lora["target_modules"]
        total = 0
        for name, shape in self.shapes.items():
            module = name.removesuffix(".weight")
            if targets == "all-linear":
                chosen = not any(part in module for part in ("embed", "lm_head"))
            else:
                chosen = module.split(".")[-1] in ([targets] if isinstance(targets, str) else targets)
            total += int(lora["r"]) * sum(shape) if chosen and len(shape) == 2 else 0
        return total


def weights(checkpoint: Checkpoint) -> Weights | None:
    """What the headers of the weight files say; ``None`` where the checkpoint is not here yet, or cannot be read."""
    shapes = weight_shapes(checkpoint)
    return Weights(shapes) if shapes else None


def trained_model(plan: Plan, stage: Stage) -> Checkpoint:
    """The family's checkpoint that a train stage starts from, or whose trained version it goes on with."""
    given = stage.local["models"].get("student")  # of a round after the first: none, it is in the store
    return Checkpoint(**given) if given else plan.builder.models["student"]


UNKNOWN = "a model is not here yet, or cannot be read, so its size is not known"


def disk(plan: Plan, pending: Collection[Stage], place: Path, workers: int) -> list[Finding]:
    """Room for the student of each training stage, for checkpoints of those that run at once, and for stored
    distributions."""
    students, resume = [], []
    for stage in pending:
        if stage.kind == "train":
            sizes = checkpoint_bytes(plan, stage)
            if sizes is None:
                return [Finding(False, f"disk: {UNKNOWN}")]
            students.append(sizes[0])
            resume.append(sizes[1])
    stores = sum(store_bytes(plan, stage) for stage in pending if stage.kind == "distributions")
    scratch = sum(sorted(resume)[-workers:])
    needed = sum(students) + scratch + stores + (1 << 25)
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free >= needed:
        return []
    what = f"{(needed - stores - scratch) / GIB:.1f} GiB needed for trained students"
    remedy = "free space, train fewer rows or seeds, or point --runs elsewhere"
    if scratch:
        what += f", {scratch / GIB:.1f} GiB for checkpoints to resume from"
        remedy += ", or do without the latter (train.checkpoint_minutes=null)"
    what += f", about {stores / GIB:.1f} GiB for teachers' distributions" if stores else ""
    return [Finding(True, f"disk: {what}, {free / GIB:.1f} GiB free at {place}; {remedy}")]


def checkpoint_bytes(plan: Plan, stage: Stage) -> tuple[int, int] | None:
    """Of a training stage: bytes of what it leaves (float32, adapters merged and kept beside it), and at most of what
    it writes to resume from: two checkpoints for a moment, of weights and AdamW's two moments of those that are
    trained. ``None`` where the model's size is not known."""
    model = weights(trained_model(plan, stage))
    if model is None:
        return None
    lora, adapter = stage.params["options"]["lora"], model.adapter(stage.params["options"]["lora"])
    left = 4 * (model.numbers + adapter)
    never = stage.local["train"]["checkpoint_minutes"] is None or stage.params["options"]["backend"] != "ours"
    moments = 8 * (adapter if lora else model.numbers)
    return left, 0 if never else 2 * (left + moments)


def store_bytes(plan: Plan, stage: Stage) -> int:
    """About how large a store of distributions will be: 8 bytes per kept token of every response position."""
    rows = stage.price.tokens // plan.builder.pricer.row_tokens
    return int(rows * plan.builder.pricer.response_tokens * (8 * stage.params["top_k"] + 4))


def memory(plan: Plan, pending: Collection[Stage], workers: int) -> list[Finding]:
    """Whether this machine has room for as many of the largest trainings as run at once."""
    import psutil

    needs = [stage.price.peak_bytes for stage in pending if stage.kind == "train"]
    if None in needs:
        return [Finding(False, f"memory: {UNKNOWN}")]
    needed = workers * max((need or 0 for need in needs), default=0)
    total = psutil.virtual_memory().total
    device = plan.recipe.compute.device
    if device in ("auto", "cpu") and needed > total:
        text = f"memory: about {needed / GIB:.1f} GiB for {workers} workers, this machine has {total / GIB:.1f} GiB"
        return [Finding(device == "cpu", text + "; set compute.workers=1, a smaller model, or use a GPU")]
    return []


def overlaps(plan: Plan) -> list[Finding]:
    """Overlap of training prompts with each benchmark, where the prompts can be read now."""
    spec, source = plan.recipe.prompts, plan.builder.source
    if source.source.hub is not None or plan.builder.absent:
        return [Finding(False, f"overlap: prompts from {source.name!r} are read in the first stage and checked there")]
    try:
        prompts = load_prompts(source.source, source.config, source.pin.identity, spec.seed, spec.n)
    except UserError as error:  # too few, or an asset that is not here: the first stage would fail too
        return [Finding(True, f"training prompts: {error}", forceable=False)]
    found = [overlap(prompts, name, questions) for name, questions in plan.builder.questions.items()]
    return [described(row, plan.recipe.prompts.allow_overlap) for row in found]


def stored_overlaps(plan: Plan, store: Store) -> list[Finding]:
    """The counts of an overlap stage that is done; nothing where its artifact was deleted."""
    findings = []
    for stage in plan.stages:
        if stage.kind == "overlap" and store.done(stage):
            found = json.loads((store.path("overlap", stage.key) / "overlap.json").read_bytes())
            findings += [described(Overlap(**row), allowed=stage.params["allowed"]) for row in found]
    return findings


def described(row: Overlap, allowed: bool) -> Finding:
    """One line per benchmark; exact overlap is a problem unless the recipe allows it."""
    text = f"overlap of training prompts with {row.benchmark}: {len(row.exact)} exact and {len(row.ngram)} by 13-grams "
    text += f"of {row.questions} questions"
    if row.exact and not allowed:
        remedy = "; choose other prompts or set prompts.allow_overlap=true (--force does not pass this over)"
        return Finding(True, text + remedy, forceable=False)
    return Finding(False, text)
