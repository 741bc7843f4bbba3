"""Checks of what a method says of itself and of its data: options, rows, and needs that are honest.

The world of the checks is here too: tiny checkpoints and groups (``check_world``), made once for all checks.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from harness.checks.finding import Failed, options_check
from harness.checks.tiny_models import tiny_checkpoint, tiny_groups
from harness.contracts.method import Dropped, Method, TopK
from harness.models.load import load_tokenizer
from harness.training.batches import describe, prepare
from harness.training.options import Training, TrainOptions
from harness.training.stored_signals import reference_logps, with_stores
from harness.types import Group

OPTIONS = TrainOptions(
    batch_size=8, micro_batch=4, learning_rate=1e-3, warmup_ratio=0.0, max_length=64, max_new_tokens=6, device="cpu"
)


WIDTH = 8
"""Vocabulary of the random logits that ``token_terms`` is asked about."""


@dataclass(frozen=True)
class World:
    """Tiny checkpoints and groups, made once in ``folder`` and used by all checks."""

    folder: Path

    @cached_property
    def student(self) -> Path:
        """A random student."""
        return tiny_checkpoint(self.folder / "student", seed=0)

    @cached_property
    def teacher(self) -> Path:
        """A random teacher with the student's vocabulary, twice as wide."""
        return tiny_checkpoint(self.folder / "teacher", seed=1, hidden=32)

    @cached_property
    def tuned(self) -> Path:
        """Another random teacher, in the place of the tuned one."""
        return tiny_checkpoint(self.folder / "tuned", seed=2, hidden=32)

    @cached_property
    def groups(self) -> list[Group]:
        """Prompts with everything that any method may need."""
        return tiny_groups(24)

    def training(self, method: Method, config: Any, **changes: Any) -> Training:
        """A run of the method over ``groups``; ``changes`` are training options."""
        options = replace(OPTIONS, **changes)
        made = Training(method, config, self.groups, self.student, options, seed=3, teacher=self.teacher)
        if method.needs.reference:
            made = replace(made, reference=reference_logps(made))
        if method.stored(config) is None:
            return made
        stores = Path(tempfile.mkdtemp(dir=self.folder))
        return with_stores(made, {"family": self.teacher, "tuned": self.tuned}, stores)


def check_config(method: Method, config: Any, world: World) -> str:
    """Options as every contract asks for, and the fields that decide a row are among them."""
    detail = options_check("train", "sampling", "method", "judge", "kind")(method)
    strangers = set(method.row_fields) - {field.name for field in dataclasses.fields(method.config)}
    if strangers:
        raise Failed(f"row_fields names {sorted(strangers)}, which are not options")
    return detail


def check_rows(method: Method, config: Any, world: World) -> str:
    """Pure, and of one shape: equally many rows for each prompt, the same signals on each, texts not empty."""
    chosen = [method.rows(group, config) for group in world.groups]
    if chosen != [method.rows(group, config) for group in world.groups]:
        raise Failed("rows() gives something else when it is called again")
    used = [rows for rows in chosen if not isinstance(rows, Dropped)]
    if not used:
        reasons = sorted({rows.reason for rows in chosen if isinstance(rows, Dropped)})
        raise Failed(f"rows() drops every prompt ({'; '.join(reasons)})")
    sizes = sorted({len(rows) for rows in used})
    if len(sizes) > 1 or (sizes == [0] and method.rollouts is None):
        raise Failed(f"prompts must have equally many rows, at least one; they have {sizes}")
    names = {frozenset(row.signals) for rows in used for row in rows}
    if len(names) > 1:
        raise Failed(f"rows carry different signals: {sorted(map(sorted, names))}")
    if any(not row.text for rows in used for row in rows):
        raise Failed("a row has no text")
    return f"{sizes[0]} per prompt, {len(used)} of {len(chosen)} prompts used"


SOURCES: Mapping[str, Callable[[Group], Group]] = {
    "golden": lambda group: replace(group, prompt=replace(group.prompt, golden=None)),
    "rejected": lambda group: replace(group, prompt=replace(group.prompt, rejected=None)),
    "teacher": lambda group: replace(group, teacher=()),
    "samples": lambda group: replace(group, samples=()),
}
"""Source of ``Needs.responses`` to a group without it, as the train stage leaves it where it was not declared."""


def unscored(group: Group) -> Group:
    """The group as it is where no teacher signal per response was declared."""
    samples = tuple(replace(sample, mean_logp=None, log_psel=None) for sample in group.samples)
    return replace(group, samples=samples, coverage=None)


def check_needs(method: Method, config: Any, world: World) -> str:
    """What is used is declared, and what is declared is used: each kind of data is taken away in turn.

    The second holds for the defaults alone: options may make a method need less.
    """
    needs, usual = method.needs, config == method.config()
    if (method.rollouts is not None) != ("rollouts" in needs.responses):
        raise Failed("rollouts and the response source 'rollouts' go together")
    if needs.shared_vocabulary != (needs.signal == "token"):
        raise Failed("signal='token' and shared_vocabulary=True go together")
    takes = {**SOURCES, "a teacher signal per response": unscored}
    declared = {*needs.responses, *(["a teacher signal per response"] if needs.signal == "response" else [])}
    for name, without in takes.items():
        used = reads(method, config, world.groups, without)
        if used and name not in declared:
            raise Failed(f"rows() reads {name}, which Needs does not declare: in a run it would not be there")
        if usual and not used and name in declared:
            raise Failed(f"Needs declares {name}, which rows() never uses: the plan would make it for nothing")
    if not needs.reference and misses_reference(method, config, world):
        raise Failed("the loss reads signals['reference'], which Needs does not declare: say reference=True there")
    matter = {"reference": (needs.reference, reference_matters), "token": (needs.signal == "token", teacher_matters)}
    for name, (stated, matters) in matter.items():
        if usual and stated and not matters(method, config, world):
            raise Failed(f"Needs declares {name!r}, which the loss never uses")
    live = ["the teacher's distributions"] if needs.signal == "token" else []
    return ", ".join([*sorted(declared), *live, *(["reference"] if needs.reference else [])]) + ": declared and used"


def reads(method: Method, config: Any, groups: Sequence[Group], without: Callable[[Group], Group]) -> bool:
    """Whether ``rows`` does anything else when some data is taken away."""
    try:
        return any(method.rows(group, config) != method.rows(without(group), config) for group in groups)
    except Exception:  # noqa: BLE001 - it stumbled over what is missing, so it reads it
        return True


def reference_matters(method: Method, config: Any, world: World) -> bool:
    """Whether the loss changes with the reference log-probabilities of the rows."""
    made = world.training(method, config)
    tokenizer = load_tokenizer(made.student)
    values, generator = [], torch.Generator()
    for shift in (0.0, 1.0):
        moved = [[logp + shift * place for place, logp in enumerate(logps, 1)] for logps in made.reference or ()]
        examples, _ = prepare(replace(made, reference=moved), tokenizer)
        batch = describe(examples, {}, torch.device("cpu"))
        student = torch.randn(len(batch.row), WIDTH, generator=generator.manual_seed(0))
        shown = teaching(method, config, student, 1) if method.needs.signal == "token" else None
        terms = method.token_terms(student, batch.row % WIDTH, shown, config)
        values.append(sum(float(term.total) for term in method.loss(batch, terms, config).terms))
    return values[0] != values[1]


def misses_reference(method: Method, config: Any, world: World) -> bool:
    """Whether the loss asks for reference log-probabilities that it was not given."""
    try:
        reference_matters(method, config, world)
    except KeyError as error:
        return error.args == ("reference",)
    except Exception:  # noqa: BLE001 - another fault, which is another check's to report
        return False
    return False


def teacher_matters(method: Method, config: Any, world: World) -> bool:
    """Whether the numbers per token change with the teacher's logits."""
    student, labels = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(0)), torch.arange(5)
    one, other = (
        method.token_terms(student, labels, teaching(method, config, student, seed), config) for seed in (1, 2)
    )
    return any(not torch.equal(one[name], other[name]) for name in one)


def teaching(method: Method, config: Any, student: torch.Tensor, seed: int) -> Any:
    """Random teachers for ``token_terms``, as wide as the student's logits [c, V]."""
    shape = (len(method.needs.teachers), *student.shape)
    return as_given(method, config, torch.randn(shape, generator=torch.Generator().manual_seed(seed)))


def as_given(method: Method, config: Any, logits: torch.Tensor) -> Any:
    """Teachers' logits [teachers, c, V] in the shape that ``token_terms`` gets: the live teacher's, or a store's."""
    stored = method.stored(config)
    if stored is None:
        return logits[0]
    logps = logits.log_softmax(-1)
    ids = logps[0].topk(min(stored.top_k, logits.shape[-1] // 2)).indices  # the first teacher decides what is kept
    kept = [values.gather(-1, ids) for values in logps]
    rests = [torch.log1p(-values.exp().sum(-1)) for values in kept]
    tops = (TopK(ids, values, rest) for values, rest in zip(kept, rests, strict=True))
    return dict(zip(method.needs.teachers, tops, strict=False))
