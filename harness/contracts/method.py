"""The contract of a method: what data it needs, which rows it trains on, and a pure loss.

The trainer (``harness/training``) has no branch on a name. The loss is split in two, so that ``batch x length x
vocabulary`` is never held in float32:

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

from harness.contracts.options import C
from harness.types import Group

if TYPE_CHECKING:
    from torch import Tensor

C_contra = TypeVar("C_contra", contravariant=True, default=Any)
"""Options that are only read: methods with options of several types can share one value."""
Tensors = Mapping[str, "Tensor"]
"""Tensors by name."""
Source = Literal["golden", "rejected", "teacher", "samples", "rollouts"]
Teacher = Literal["family", "tuned"]
"""The family's teacher, or the same model after the recipe's preference tuning of it (``tuned_teacher``)."""


@dataclass(frozen=True)
class Needs:
    """What must exist before (or while) a method trains. Nothing undeclared reaches the method."""

    responses: tuple[Source, ...]
    """Whose answers: the dataset's, the teacher's, the student's n samples, or live rollouts of the student."""
    signal: Literal["none", "response", "token"] = "none"
    """Of the teacher: nothing, a reward per response (stored), or a distribution per token."""
    reference: bool = False
    """Summed log-probabilities of the rows under the starting student (``Batch.signals["reference"]``)."""
    shared_vocabulary: bool = False
    """Teacher and student must map every token to the same id."""
    teachers: tuple[Teacher, ...] = ("family",)
    """Whose distributions ``signal="token"`` means. Several (ADPA) must be stored (``Method.stored``); then the first
    decides which tokens are kept for all."""
    distribution_roles: tuple[str, ...] = ()
    """Roles of the rows for which the teachers' distributions are stored; empty: all rows."""
    sampling: Mapping[str, float] = field(default_factory=dict)
    """Options of ``sampling`` that replace the recipe's (ADPA: one response, greedy), unless a row overrides them."""
    start: str | None = None
    """The method whose student this one starts from and samples with (ADPA+: ``"dckd"``), unless a row names another
    row; ``None``: the family's student."""
    rounds: bool = False
    """May be trained in rounds on samples of the current student (PAD section 4.4)."""


class TopK(NamedTuple):
    """A teacher's stored next-token distributions at N positions; zeros in rows outside ``distribution_roles``."""

    ids: Tensor
    """[N, k] int64."""
    logps: Tensor
    """[N, k] float32, log-probabilities of these tokens, nats."""
    rest: Tensor
    """[N] float32, log of the probability mass of all other tokens, at least log 1e-7."""


@dataclass(frozen=True)
class Stored:
    """How teachers' next-token distributions are stored instead of a live teacher."""

    top_k: int
    """Tokens kept at each position; all others count as one."""
    temperature: float = 1.0
    """Divides the teacher's logits before they are stored."""


@dataclass(frozen=True)
class Row:
    """One response to train on, in the order in which the loss expects the rows of a prompt."""

    text: str
    role: str = "response"
    """So that a loss can divide by the tokens of such rows alone (``Term.per = "token:golden"``)."""
    finished: bool = True
    """Whether the end-of-turn token belongs to the response."""
    signals: Mapping[str, float] = field(default_factory=dict)
    """Numbers for ``Batch.signals``; every row of a method carries the same names."""


@dataclass(frozen=True)
class Dropped:
    """A prompt that cannot be used; the training report counts the reasons."""

    reason: str


@dataclass(frozen=True)
class Batch:
    """What a loss may know of a micro-batch: R rows (responses) of B prompts, N response tokens, in row order.

    Rows of one prompt are neighbours, in the order of ``Method.rows``.
    """

    prompts: int
    """B"""
    prompt: Tensor
    """[R] int64, which prompt (0..B-1) a row answers."""
    row: Tensor
    """[N] int64, which row (0..R-1) a token belongs to."""
    position: Tensor
    """[N] int64, of the token within its response, from 0."""
    roles: tuple[str, ...]
    """[R]."""
    lengths: Tensor
    """[R] int64, response tokens per row, end-of-turn included."""
    signals: Tensors
    """Name to [R] float32: ``Row.signals``, and ``"reference"`` where needed."""
    tokens: Tensors
    """Name to [N] float32: per-token numbers fixed before the step (``Rollouts.weigh``)."""

    def sum_rows(self, values: Tensor) -> Tensor:
        """[N] -> [R]: of log-probabilities, those of the sequences."""
        return values.new_zeros(len(self.roles)).index_add(0, self.row, values)

    def mean_rows(self, values: Tensor) -> Tensor:
        """[N] -> [R]: of log-probabilities, the length-normalised reward (PAD Eq. 7)."""
        return self.sum_rows(values) / self.lengths.to(values.dtype)

    def per_prompt(self, values: Tensor) -> Tensor:
        """[R] -> [B, n]. Raises ValueError where prompts differ in their row count."""
        if len(values) % self.prompts:
            raise ValueError(f"{len(values)} rows do not divide into {self.prompts} prompts of equal size")
        return values.view(self.prompts, -1)

    def where_role(self, role: str) -> Tensor:
        """[N] bool: the tokens of rows with this role."""
        mask = self.lengths.new_tensor([r == role for r in self.roles]).bool()
        return mask[self.row]


@dataclass(frozen=True)
class Term:
    name: str
    total: Tensor
    """Differentiable scalar: a sum, never a mean."""
    per: str
    """The unit whose count over the whole step divides it: ``prompt``, ``row``, ``token`` (of all responses) or
    ``token:ROLE``."""


@dataclass(frozen=True)
class Loss:
    """A loss = the sum over terms of total / count. ``logs`` are sums over prompts, shown as means."""

    terms: tuple[Term, ...]
    logs: Tensors = field(default_factory=dict)
    """Name to a scalar summed over prompts (reward margin, accuracy); no gradient."""


TokenTerms = Callable[["Tensor", "Tensor", Any, C], dict[str, "Tensor"]]
"""(student logits [c, V] float32, labels [c], teacher, config) -> name to [c]. What ``teacher`` is: the live teacher's
logits [c, V] float32; where distributions are stored, ``{"family": TopK, ...}`` of these c positions; else ``None``."""


def log_probabilities(logits: Tensor, labels: Tensor, teacher: object, config: object) -> dict[str, Tensor]:
    """The default ``token_terms``: ``logp``, the log-probability of each label."""
    return {"logp": logits.log_softmax(-1).gather(-1, labels[:, None])[:, 0]}


@dataclass(frozen=True)
class Rollouts(Generic[C_contra]):
    """How a method lets the student answer live: one response per prompt, drawn for a whole optimiser step at once.

    Then ``weigh`` sees all tokens of the step, so that whitening is over the global batch. Steps that are not live
    train on the stored ``rows`` (one per prompt).
    """

    sampling: Callable[[C_contra], tuple[float, float]]
    """config -> (temperature, teacher mix): each step samples from mix * teacher + (1 - mix) * student."""
    weigh: Callable[[Batch, Tensors, C_contra], dict[str, Tensor]] | None = None
    """(batch, {"behaviour", "student", "teacher": [N] log-probabilities of the drawn tokens, no gradient}, config) ->
    entries of ``Batch.tokens``; ``None``: there are none, and the teacher's log-probabilities are not needed."""
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
    """A row of the tables (``docs/add-a-method.md``)."""

    name: str
    title: str
    """The row label in tables."""
    paper: str
    """Citation, one line."""
    needs: Needs
    config: type[C]
    """Made with ``@options``, all with defaults, a docstring under each."""
    rows: Callable[[Group, C], Sequence[Row] | Dropped]
    """Pure: which responses of a group to train on, in order. With ``rollouts``: for steps that are not live."""
    loss: Callable[[Batch, Tensors, C], Loss]
    """Pure: (batch, what ``token_terms`` gave, concatenated to [N], config) -> Loss."""
    token_terms: TokenTerms[C] = log_probabilities
    stored: Callable[[C], Stored | None] = lambda config: None
    """config -> how teachers' distributions are stored, or ``None``: the teacher is live (``signal="token"`` only)."""
    rollouts: Rollouts[C] | None = None
    trl: Trl[C] | None = None
    """``None``: TRL's stable trainers have no such loss."""
    check: Callable[[C, int], None] = lambda config, n: None
    """(config, responses per prompt): raises UserError (``require``) where these options cannot take that many. Called
    for methods that train on samples when the recipe is read, before anything is sampled."""
    row_fields: tuple[str, ...] = ()
    """Fields of ``config`` that decide ``rows``: reference log-probabilities and stored distributions depend on these
    alone."""
    version: int = 1
    """Raised when rows or loss compute something else: students trained before are then not reused."""
