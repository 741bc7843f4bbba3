"""Checks of a method against its contract, on tiny random models; they take (method, config, world).

They cannot see whether the equation is right: that takes a test with arithmetic by hand.
"""

import gc
import hashlib
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm
from transformers import TrainerCallback

from harness.checks.finding import CheckFailed, Checks, Finding, options_check, repeatable, require, run_checks
from harness.checks.tiny_models import tiny_checkpoint, tiny_groups
from harness.contracts.method import DroppedPrompt, Method, TopK
from harness.contracts.options import field_tree
from harness.errors import UserError
from harness.models.load import load_tokenizer
from harness.recipe.space import parse_domain
from harness.training.batches import describe, prepare
from harness.training.fit import fit, load_training, make_trainer, run
from harness.training.options import Training, TrainOptions
from harness.training.stored_signals import reference_logps, with_stores
from harness.training.trainer import LoadedTraining
from harness.types import Group

C = TypeVar("C")

# No warm-up: the first of very few steps must move the student already.
OPTIONS: Final = TrainOptions(batch_size=8, micro_batch=4, learning_rate=1e-3, warmup_ratio=0.0, max_length=64)
WIDTH: Final = 8
"""Vocabulary of the random logits that ``token_terms`` is asked about."""


class World:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.student = tiny_checkpoint(folder / "student", seed=0)
        # Twice as wide as the student: nothing may depend on equal sizes, the vocabulary alone is shared.
        self.teacher = tiny_checkpoint(folder / "teacher", seed=1, hidden=32)
        self.tuned_teacher = tiny_checkpoint(folder / "tuned", seed=2, hidden=32)
        self.groups = tiny_groups(24)

    def training(self, method: Method[C], config: C, options: TrainOptions = OPTIONS) -> Training:
        training = Training(
            method, config, self.groups, self.student, options, 3, self.teacher, max_new_tokens=6, device="cpu"
        )
        if method.needs.reference:
            training = replace(training, reference=reference_logps(training))
        if method.storage(config) is None:
            return training
        stores = Path(tempfile.mkdtemp(dir=self.folder))
        return with_stores(training, {"family": self.teacher, "tuned": self.tuned_teacher}, stores)


def check_config(method: Method[C], config: C, world: World) -> str:
    detail = options_check("train", "sampling", "method", "judge", "kind")(method)
    strangers = set(method.row_fields) - set(field_tree(method.config))
    require(not strangers, f"row_fields names {sorted(strangers)}, which are not options")
    knobs = {*field_tree(method.config), *(f"train.{name}" for name in field_tree(TrainOptions))}
    unknown = set(method.space) - knobs
    require(not unknown, f"space names {sorted(unknown)}, which are neither options nor train.OPTION")
    for knob, text in method.space.items():
        try:
            parse_domain(text, knob)
        except UserError as error:
            raise CheckFailed(str(error)) from error
    return detail


def check_rows(method: Method[C], config: C, world: World) -> str:
    outcomes = repeatable(lambda: [method.rows(group, config) for group in world.groups], "rows()")
    row_lists = [rows for rows in outcomes if not isinstance(rows, DroppedPrompt)]
    if not row_lists:
        reasons = sorted({rows.reason for rows in outcomes if isinstance(rows, DroppedPrompt)})
        raise CheckFailed(f"rows() drops every prompt ({'; '.join(reasons)})")
    sizes = sorted({len(rows) for rows in row_lists})
    counts_agree = len(sizes) == 1 and (sizes != [0] or method.rollouts is not None)
    require(counts_agree, f"prompts must have equally many rows, at least one; they have {sizes}")
    names = {frozenset(row.signals) for rows in row_lists for row in rows}
    require(len(names) < 2, f"rows carry different signals: {sorted(map(sorted, names))}")
    require(all(row.text for rows in row_lists for row in rows), "a row has no text")
    return f"{sizes[0]} per prompt, {len(row_lists)} of {len(outcomes)} prompts used"


def without_teacher_scores(group: Group) -> Group:
    samples = tuple(replace(sample, mean_logp=None, log_psel=None) for sample in group.samples)
    return replace(group, samples=samples, coverage=None)


SIGNAL: Final = "a teacher signal per response"
WITHOUT: Final[Mapping[str, Callable[[Group], Group]]] = {
    "golden": lambda group: replace(group, prompt=replace(group.prompt, golden=None)),
    "rejected": lambda group: replace(group, prompt=replace(group.prompt, rejected=None)),
    "teacher": lambda group: replace(group, teacher=()),
    "samples": lambda group: replace(group, samples=()),
    SIGNAL: without_teacher_scores,
}


def check_needs(method: Method[C], config: C, world: World) -> str:
    """What is used is declared, and what is declared is used: each kind of data is taken away in turn."""
    needs = method.needs
    is_default = config == method.config()  # other options may make a method need less
    live, by_token = method.rollouts is not None, needs.signal == "token"
    require(live == ("rollouts" in needs.responses), "rollouts and the response source 'rollouts' go together")
    declared_roles = {*needs.responses, *([SIGNAL] if needs.signal == "response" else [])}
    for name, without in WITHOUT.items():
        is_read = reads(method, config, world.groups, without)
        if is_read and name not in declared_roles:
            raise CheckFailed(f"rows() reads {name}, which Needs does not declare: in a run it would not be there")
        if is_default and not is_read and name in declared_roles:
            raise CheckFailed(f"Needs declares {name}, which rows() never uses: the plan would make it for nothing")
    is_read = reads_reference(method, config, world)
    if is_read and not needs.reference:
        raise CheckFailed("the loss reads signals['reference'], which Needs does not declare: say reference=True there")
    if is_default:
        require(is_read or not needs.reference, "Needs declares 'reference', which the loss never uses")
        require(not by_token or teacher_matters(method, config), "Needs declares 'token', which the loss never uses")
    extras = [*(["the teacher's distributions"] if by_token else []), *(["reference"] if needs.reference else [])]
    return ", ".join([*sorted(declared_roles), *extras]) + ": declared and used"


def reads(method: Method[C], config: C, groups: Sequence[Group], remove_input: Callable[[Group], Group]) -> bool:
    try:
        return any(method.rows(group, config) != method.rows(remove_input(group), config) for group in groups)
    except Exception:  # noqa: BLE001 - it stumbled over what is missing, so it reads it
        return True


def reads_reference(method: Method[C], config: C, world: World) -> bool:
    try:
        training = Training(method, config, world.groups, world.student, OPTIONS, seed=3)
        examples, _ = prepare(training, load_tokenizer(world.student))
        batch = describe(examples, {}, torch.device("cpu"))
        teacher = teaching(method, config, len(batch.row), 1) if method.needs.signal == "token" else None
        terms = method.token_terms(noise(0, len(batch.row), WIDTH), batch.row % WIDTH, teacher, config)
        method.loss(batch, terms, config)
    except KeyError as error:
        return error.args == ("reference",)
    except Exception:  # noqa: BLE001 - another fault (live answers are missing here), which is another check's to report
        return False
    return False


def teacher_matters(method: Method[C], config: C) -> bool:
    student, labels = noise(0, 5, WIDTH), torch.arange(5)
    first_terms, second_terms = (
        method.token_terms(student, labels, teaching(method, config, 5, seed), config) for seed in (1, 2)
    )
    return any(not torch.equal(first_terms[name], second_terms[name]) for name in first_terms)


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def teaching(method: Method[C], config: C, positions: int, seed: int) -> object:
    return teacher_input(method, config, noise(seed, len(method.needs.teachers), positions, WIDTH))


def teacher_input(method: Method[C], config: C, logits: Tensor) -> object:
    """Teachers' logits [teachers, c, V] as ``token_terms`` gets them: the live teacher's, or a store's."""
    storage = method.storage(config)
    if storage is None:
        return logits[0]
    logps = logits.log_softmax(-1)
    ids = logps[0].topk(min(storage.top_k, logits.shape[-1] // 2)).indices  # the first teacher decides what is kept
    tops = [values.gather(-1, ids) for values in logps]
    stores = [TopK(ids, top, torch.log1p(-top.exp().sum(-1))) for top in tops]
    return dict(zip(method.needs.teachers, stores, strict=False))


TOLERANCE: Final = 1e-6
"""Of losses, relative or absolute; of gradients, relative to their norm or 1."""


class _Gradients(TrainerCallback):
    def __init__(self) -> None:
        self.first: dict[str, Tensor] = {}

    def on_pre_optimizer_step(self, args: object, state: object, control: object, **kwargs: Any) -> None:
        if not self.first:
            parameters = kwargs["model"].named_parameters()
            self.first = {name: value.grad.clone() for name, value in parameters if value.grad is not None}


@contextmanager
def quiet() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the matrices are tiny
    gc.freeze()  # a trainer collects garbage as it starts; without this it walks over all of torch each time
    try:
        yield
    finally:
        gc.unfreeze()
        torch.set_num_threads(threads)


def train_once(training: Training, out: Path) -> tuple[list[float], dict[str, Tensor], LoadedTraining]:
    with quiet():
        trainer = make_trainer(load_training(training), out)
        gradients = _Gradients()
        trainer.add_callback(gradients)
        run(trainer, out)
    return [record["loss"] for record in trainer.curve], gradients.first, trainer.setup


def check_trains(method: Method[C], config: C, world: World) -> str:
    """Two steps and more with a finite loss; every step moves the student, and nothing but the student."""
    digests_before = {path: digest(path) for path in (world.student, world.teacher)}
    out = world.folder / "trains" / method.name
    losses, gradients, training = train_once(world.training(method, config), out)
    finite = len(losses) >= 2 and all(map(math.isfinite, losses))
    require(finite, f"two finite losses are wanted, these are the losses: {losses}")
    digests_after = {path: digest(path) for path in digests_before}
    require(digests_after == digests_before, "training wrote into the checkpoint that it started from")
    require(get_total_norm(gradients.values()) != 0, "the loss has no gradient to the student")
    teacher = training.teacher.parameters() if training.teacher is not None else ()
    require(all(value.grad is None for value in teacher), "the loss has a gradient to the teacher")
    require(digest(out) != digests_before[world.student], "training left the student as it was")
    # Each step has other prompts, so a rise is no fault: that a loss is learned is not checked in so few steps.
    size = f"finite losses ({losses[0]:.4f} to {losses[-1]:.4f}, which may rise)"
    return f"{len(losses)} steps, {size}; gradient to the student alone"


HINT: Final = (
    ". Terms are totals over the batch, not means. And an order that is taken from the student's own rewards depends "
    "on rounding where these are equal, as all are at the start (student = reference): rank by stored scores, or give "
    "ties a rule"
)


def check_micro_batches(method: Method[C], config: C, world: World) -> str:
    # Without clipping, which would hide a gradient of the wrong size.
    training = world.training(method, config, replace(OPTIONS, max_grad_norm=0.0))
    reference = training.reference[:8] if training.reference else None
    training = replace(training, groups=training.groups[:8], reference=reference)
    results = []
    # 3 leaves a last micro-batch of another size, where means of means would show.
    for micro in (8, 3, 1):
        split_training = replace(training, options=replace(training.options, micro_batch=micro))
        losses, gradient, _ = train_once(split_training, world.folder / "micro" / method.name)
        results.append((losses[0], gradient))
    (loss, gradient), *split_results = results
    norm = float(get_total_norm(gradient.values()))
    gap = max(abs(split_loss - loss) for split_loss, _ in split_results)
    worst = max(float((gradient[key] - values[key]).abs().max()) for _, values in split_results for key in gradient)
    gap, worst = gap / max(1.0, abs(loss)), worst / max(1.0, norm)
    for name, error, size in (("loss", gap, loss), ("gradient", worst, norm)):
        is_close = error <= TOLERANCE
        require(
            is_close,
            f"the {name} depends on the micro-batch: it moves by {error:.2g} (relative), its size is {size:.4g}{HINT}",
        )
    return f"1 x 8 = 3 + 3 + 2 = 8 x 1: loss within {gap:.1g}, gradient within {worst:.1g}"


def check_seed(method: Method[C], config: C, world: World) -> str:
    outs = [world.folder / "seed" / method.name / name for name in ("one", "two")]
    for out in outs:
        train_once(world.training(method, config), out)
    equal_weights = digest(outs[0]) == digest(outs[1])
    require(
        equal_weights, "two runs with one seed left different weights: draw from a generator with a seed of your own"
    )
    return "same seed, same bytes"


class _Killed(Exception): ...


def check_resume(method: Method[C], config: C, world: World) -> str:
    training = world.training(method, config, replace(OPTIONS, checkpoint_minutes=0.0))
    place = Path(tempfile.mkdtemp(dir=world.folder))  # of its own: a run would go on from any checkpoint it finds

    def killer(step: int, total: int, logs: object) -> None:
        # A checkpoint is written after its step was reported, so one step later that of step 1 is whole.
        if step == 2:
            raise _Killed

    with quiet():
        fit(training, place / "whole", scratch=place / "other")
        try:
            fit(training, place / "killed", killer, place / "scratch")
        except _Killed:
            report = fit(training, place / "resumed", scratch=place / "scratch")
        else:
            raise CheckFailed("it has a single step, so it cannot be broken off after one")
    require(report.resumed_at == 1, f"it went on from step {report.resumed_at}, not from the checkpoint of step 1")
    equal_weights = digest(place / "resumed") == digest(place / "whole")
    hint = "whatever the loss keeps between steps is lost with the process; compute it from the batch and the config"
    require(equal_weights, f"a run that goes on from a checkpoint leaves other weights: {hint} alone")
    return f"killed after step 1 of {report.steps}, resumed: the same bytes"


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


CHECKS: Checks = {
    "config": check_config,
    "rows": check_rows,
    "needs": check_needs,
    "trains": check_trains,
    "micro-batches": check_micro_batches,
    "seed": check_seed,
    "resume": check_resume,
}


def check_method(method: Method[C], config: C | None = None, world: World | None = None) -> Iterator[Finding]:
    config = method.config() if config is None else config
    with tempfile.TemporaryDirectory(prefix="distilbench-check-") as folder:
        yield from run_checks(CHECKS, method, config, world or World(Path(folder)))
