"""The contract of a method: what data it needs, which rows it trains on, and a pure loss.

A method is one file in ``methods/`` that ends in ``METHOD = Method(...)``. The trainer (``harness/training``) reads
only this contract and has no branch on a name. The loss is split in two, so that ``batch x length x vocabulary`` is
never held in float32:

1. ``token_terms`` sees a chunk of positions with full next-token logits and reduces each position to a few numbers
   (a log-probability, a divergence). The trainer recomputes it in the backward pass, chunk by chunk.
2. ``loss`` sees those numbers, one per response token, with sums over rows and prompts at hand.

A loss returns *totals* and names what each is divided by. The trainer divides by the count over the whole optimiser
step (all micro-batches, all processes), so no split of a batch changes the loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple

from typing_extensions import TypeVar

from harness.types import Group

if TYPE_CHECKING:
    from torch import Tensor

C = TypeVar("C", default=Any)
"""The type of a method's options. ``Method`` alone is a method of any options."""
C_contra = TypeVar("C_contra", contravariant=True, default=Any)
"""The same where options are only read, so that methods with options of several types can share one value."""
Tensors = Mapping[str, "Tensor"]
"""Tensors by name."""
Source = Literal["golden", "rejected", "teacher", "samples", "rollouts"]
Teacher = Literal["family", "tuned"]
"""The family's teacher, or the same model after the recipe's preference tuning of it (``tuned_teacher``)."""


@dataclass(frozen=True)
class Needs:
    """What must exist before (or while) a method trains. The plan reads it; nothing undeclared reaches the method."""

    responses: tuple[Source, ...]
    """Whose answers: the dataset's, the teacher's, the student's n samples, or live rollouts of the student."""
    signal: Literal["none", "response", "token"] = "none"
    """What the teacher says: nothing, a reward per response (stored), or a distribution per token."""
    reference: bool = False
    """Summed log-probabilities of the rows under the starting student (``Batch.signals["reference"]``)."""
    shared_vocabulary: bool = False
    """Teacher and student must map every token to the same id."""
    teachers: tuple[Teacher, ...] = ("family",)
    """Whose distributions ``signal="token"`` means. More than one (ADPA: the tuned teacher and the untouched one) only
    where they are stored (``Method.stored``); then the first decides which tokens are kept for all."""
    distribution_roles: tuple[str, ...] = ()
    """Roles of the rows for which the teachers' distributions are stored; empty: all rows."""
    sampling: Mapping[str, float] = field(default_factory=dict)
    """Options of ``sampling`` that replace the recipe's for this method (ADPA: one response, greedy). A row of the
    recipe may override them again."""
    start: str | None = None
    """The method whose student this one starts from, and with which it draws its samples (ADPA+: ``"dckd"``); ``None``:
    the family's student. A row of the recipe may name another row."""
    rounds: bool = False
    """May be trained in rounds on samples of the current student (PAD section 4.4)."""


class TopK(NamedTuple):
    """A teacher's next-token distributions at N positions, as stored: k tokens by name, all others together.

    Positions of rows without a stored distribution (``Needs.distribution_roles``) hold zeros throughout.
    """

    ids: Tensor
    """[N, k] int64."""
    logps: Tensor
    """[N, k] float32, log-probabilities of these tokens, nats."""
    rest: Tensor
    """[N] float32, log of the probability mass of all other tokens, at least log 1e-7."""


@dataclass(frozen=True)
class Stored:
    """How teachers' next-token distributions on a method's rows are kept, computed once, instead of a live teacher."""

    top_k: int
    """Tokens kept at each position; the others count as one."""
    temperature: float = 1.0
    """Divides the teacher's logits before they are stored."""


@dataclass(frozen=True)
class Row:
    """One response to train on, in the order in which the loss expects the rows of a prompt."""

    text: str
    role: str = "response"
    """Names a kind of row, so that a loss can divide by its tokens alone (``Term.per = "token:golden"``)."""
    finished: bool = True
    """Whether the end-of-turn token belongs to the response."""
    signals: Mapping[str, float] = field(default_factory=dict)
    """Numbers for ``Batch.signals``; every row of a method carries the same names."""


@dataclass(frozen=True)
class Dropped:
    """Returned by ``Method.rows`` for a prompt that cannot be used; the trainer counts reasons and reports them."""

    reason: str


@dataclass(frozen=True)
class Batch:
    """What a loss may know of a micro-batch. R rows (responses) of B prompts, N response tokens, in row order.

    Rows of one prompt are neighbours, in the order of ``Method.rows``.
    """

    prompts: int
    """B."""
    prompt: Tensor
    """[R] int64, which prompt (0..B-1) a row answers."""
    row: Tensor
    """[N] int64, which row (0..R-1) a token belongs to."""
    position: Tensor
    """[N] int64, position of the token within its response, from 0."""
    roles: tuple[str, ...]
    """[R]."""
    lengths: Tensor
    """[R] int64, response tokens per row, end-of-turn included."""
    signals: Tensors
    """Name to [R] float32: what ``Row.signals`` held, and ``"reference"`` where needed."""
    tokens: Tensors
    """Name to [N] float32: per-token numbers fixed before the step (``Rollouts.weigh``)."""

    def sum_rows(self, values: Tensor) -> Tensor:
        """[N] -> [R]: sum over the tokens of each row (a sequence log-probability)."""
        return values.new_zeros(len(self.roles)).index_add(0, self.row, values)

    def mean_rows(self, values: Tensor) -> Tensor:
        """[N] -> [R]: mean over the tokens of each row (the length-normalised reward, PAD Eq. 7)."""
        return self.sum_rows(values) / self.lengths.to(values.dtype)

    def per_prompt(self, values: Tensor) -> Tensor:
        """[R] -> [B, n]: rows of a prompt side by side. Raises ValueError where prompts differ in their row count."""
        if len(values) % self.prompts:
            raise ValueError(f"{len(values)} rows do not divide into {self.prompts} prompts of equal size")
        return values.view(self.prompts, -1)

    def where_role(self, role: str) -> Tensor:
        """[N] bool: the tokens of rows with this role."""
        mask = self.lengths.new_tensor([r == role for r in self.roles]).bool()
        return mask[self.row]


@dataclass(frozen=True)
class Term:
    """One part of a loss: a differentiable total, and the unit whose count over the whole step divides it."""

    name: str
    total: Tensor
    """Scalar: a sum, never a mean."""
    per: str
    """``"prompt"``, ``"row"``, ``"token"`` (all response tokens) or ``"token:ROLE"``."""


@dataclass(frozen=True)
class Loss:
    """A loss = the sum over terms of total / count. ``logs`` are sums over prompts, shown as means."""

    terms: tuple[Term, ...]
    logs: Tensors = field(default_factory=dict)
    """Name to a scalar summed over prompts (reward margin, accuracy); no gradient."""


TokenTerms = Callable[["Tensor", "Tensor", Any, C], dict[str, "Tensor"]]
"""(student logits [c, V] float32, labels [c], teacher, config) -> name to [c]. What ``teacher`` is: the live teacher's
logits [c, V] float32; where distributions are stored, ``{"family": TopK, ...}`` of these c positions; else ``None``."""


def log_probabilities(logits: Tensor, labels: Tensor, teacher: Tensor | None, config: Any) -> dict[str, Tensor]:
    """The default ``token_terms``: ``logp``, the log-probability of each label."""
    return {"logp": logits.log_softmax(-1).gather(-1, labels[:, None])[:, 0]}


def accept_any_count(config: Any, n: int) -> None:
    """The default ``check``."""


def no_stored_distributions(config: Any) -> None:
    """The default ``stored``: the teacher is live."""


@dataclass(frozen=True)
class Rollouts(Generic[C_contra]):
    """How a method lets the student answer live: one response per prompt, drawn at the start of each step.

    A method whose ``share`` is below 1 trains on its stored ``rows`` (one per prompt) in the other steps.

    The trainer draws for the whole optimiser step, then calls ``weigh`` once on all its tokens (so that whitening is
    over the global batch) and splits the result into micro-batches.
    """

    sampling: Callable[[C_contra], tuple[float, float]]
    """config -> (temperature, teacher mix): each step samples from mix * teacher + (1 - mix) * student."""
    weigh: Callable[[Batch, Tensors, C_contra], dict[str, Tensor]] | None = None
    """(batch, {"behaviour", "student", "teacher": [N] log-probabilities of the drawn tokens, no gradient}, config) ->
    entries of ``Batch.tokens``; ``None``: there are none, and a teacher that does not draw along is not asked."""
    share: Callable[[C_contra], float] = lambda config: 1.0
    """config -> probability that a step is live; drawn per step from the training seed."""


@dataclass(frozen=True)
class Trl(Generic[C_contra]):
    """Which of TRL's stable trainers minimises the same loss (``backend: trl``)."""

    trainer: Literal["sft", "dpo"]
    """``sft``: token-mean cross-entropy of the one row. ``dpo``: rows are chosen, rejected."""
    arguments: Callable[[C_contra], Mapping[str, Any]] = lambda config: {}
    """config -> arguments of TRL's ``SFTConfig`` or ``DPOConfig`` (``beta``)."""


@dataclass(frozen=True)
class Method(Generic[C]):
    """A row of the tables. See ``docs/add-a-method.md`` for a worked example."""

    name: str
    title: str
    """The row label in tables."""
    paper: str
    """Citation, one line."""
    needs: Needs
    config: type[C]
    """Its options: a class made with ``@options``, all with defaults, a docstring under each."""
    rows: Callable[[Group, C], Sequence[Row] | Dropped]
    """Pure: which responses of a group to train on, in order. With ``rollouts``: for steps that are not live."""
    loss: Callable[[Batch, Tensors, C], Loss]
    """Pure: (batch, what ``token_terms`` gave, concatenated to [N], config) -> Loss."""
    token_terms: TokenTerms[C] = log_probabilities
    stored: Callable[[C], Stored | None] = no_stored_distributions
    """config -> how teachers' distributions are stored, or ``None``: the teacher is live (``signal="token"`` only)."""
    rollouts: Rollouts[C] | None = None
    trl: Trl[C] | None = None
    """``None``: TRL's stable trainers have no such loss."""
    check: Callable[[C, int], None] = accept_any_count
    """(config, responses per prompt) -> nothing, or raises UserError (``require``) where these options cannot take that
    many. Asked of methods that train on the student's samples, when the recipe is read: before anything is sampled."""
    row_fields: tuple[str, ...] = ()
    """Fields of ``config`` that decide ``rows``; what is stored beside the rows (reference log-probabilities, teachers'
    distributions) depends on these alone."""
    version: int = 1
    """Raised when rows or loss compute something else: students trained before are then not reused."""
