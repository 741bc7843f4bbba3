"""The contract of a method: what data it needs, which rows it trains on, and a pure loss in two steps.

``token_terms`` reduces each position's logits to a few numbers, chunk by chunk (recomputed in the backward pass), so
batch x length x vocabulary is never held. ``loss`` sees those numbers; it returns *totals* and what each is divided by,
counted over the whole optimiser step, so no split of a batch changes the loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple

from typing_extensions import TypeVar

from harness.contracts.options import C
from harness.types import Group, Response

if TYPE_CHECKING:
    from torch import Tensor

C_contra = TypeVar("C_contra", contravariant=True, default=Any)
"""Options that are only read: methods with options of several types can share one value."""
Tensors = Mapping[str, "Tensor"]
Source = Literal["golden", "rejected", "teacher", "samples", "rollouts"]
"""Responses to train on: the prompt's own two, the teacher's, the student's stored samples, or its live answers."""
Teacher = Literal["family", "tuned"]
"""The family's teacher, or the same model after the recipe's preference tuning of it (``tuned_teacher``)."""


@dataclass(frozen=True)
class Needs:
    """What must exist before (or while) a method trains. Nothing undeclared reaches the method."""

    responses: tuple[Source, ...]
    signal: Literal["none", "response", "token"] = "none"
    """What it needs of the teacher: nothing, a reward per response (stored), or a distribution per token (shared
    vocabulary)."""
    reference: bool = False
    """Summed log-probabilities of the rows under the starting student (``Batch.signals["reference"]``)."""
    teachers: tuple[Teacher, ...] = ("family",)
    """Whose distributions. Several must be stored (``Method.storage``); the first decides which tokens are kept."""
    distribution_roles: tuple[str, ...] = ()
    """Roles of the rows for which distributions are stored; empty: all rows."""
    sampling: Mapping[str, float] = field(default_factory=dict)
    """Options of ``sampling`` that replace the recipe's (ADPA: one response, greedy), unless a row overrides them."""
    start: str | None = None
    """The method whose student this one starts from and samples with, unless a row names another row."""
    rounds: bool = False
    """May be trained in rounds on samples of the current student (PAD section 4.4)."""


class TopK(NamedTuple):
    """A teacher's next-token distributions, zeros outside ``distribution_roles``: ids [N, k] int64, their
    log-probabilities [N, k] float32, nats, and the log of all other mass [N] float32, at least log 1e-7."""

    ids: Tensor
    logps: Tensor
    rest_logps: Tensor


@dataclass(frozen=True)
class DistributionStorage:
    """How teachers' distributions are stored: tokens kept at each position, and what divides the logits before."""

    top_k: int
    temperature: float = 1.0


@dataclass(frozen=True)
class Row:
    """One response to train on, in the order in which the loss expects the rows of a prompt."""

    text: str
    role: str = "response"
    """Lets a loss divide by the tokens of these rows alone (``Term.per = "token:golden"``)."""
    finished: bool = True
    """Whether the end-of-turn token belongs to the response."""
    signals: Mapping[str, float] = field(default_factory=dict)
    """For ``Batch.signals``; every row of a method carries the same names."""
    ids: tuple[int, ...] = ()
    """The tokens of a response as a model drew them: trained as they are, where the student has the same vocabulary."""

    @classmethod
    def of(cls, response: Response, role: str = "response", signals: Mapping[str, float] | None = None) -> Row:
        return cls(response.text, role, response.finished, signals or {}, response.ids)


@dataclass(frozen=True)
class DroppedPrompt:
    """A prompt that cannot be used; the training report counts the reasons."""

    reason: str


@dataclass(frozen=True)
class Batch:
    """R rows (responses) of B prompts, N response tokens; rows of one prompt are neighbours, as in ``Method.rows``."""

    prompts: int
    prompt: Tensor
    """[R] int64, which prompt (0..B-1) a row answers."""
    row: Tensor
    """[N] int64, which row (0..R-1) a token belongs to."""
    position: Tensor
    """[N] int64, of the token within its response, from 0."""
    roles: tuple[str, ...]
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
    """One summand of a loss; ``name`` is for the training curves."""

    name: str
    total: Tensor
    """Differentiable scalar: a sum, never a mean."""
    per: str
    """What divides it, over the whole step: ``prompt``, ``row``, ``token`` (of all responses) or ``token:ROLE``."""


@dataclass(frozen=True)
class Loss:
    """The sum over terms of total / count. ``logs`` are sums over prompts, shown as means; no gradient."""

    terms: tuple[Term, ...]
    logs: Tensors = field(default_factory=dict)


TokenTerms = Callable[["Tensor", "Tensor", Any, C], dict[str, "Tensor"]]
"""(student logits [c, V] float32, labels [c], teacher, config) -> name to [c]. What ``teacher`` is: the live teacher's
logits [c, V] float32; where distributions are stored, ``{"family": TopK, ...}`` of these c positions; else ``None``."""


def log_probabilities(logits: Tensor, labels: Tensor, teacher: object, config: object) -> dict[str, Tensor]:
    """The default ``token_terms``: ``logp``, the log-probability of each label."""
    return {"logp": logits.log_softmax(-1).gather(-1, labels[:, None])[:, 0]}


@dataclass(frozen=True)
class Rollouts(Generic[C_contra]):
    """The student answers live: one response per prompt, for a whole optimiser step at once, so that ``weigh`` sees all
    its tokens. Steps that are not live train on the stored ``rows`` (one per prompt)."""

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


LEARNING_RATE: Mapping[str, str] = {"train.learning_rate": "log(0.1x, 10x)"}
"""What every method's search varies. Relative, because a sensible rate is a matter of the models' size."""


@dataclass(frozen=True)
class Method(Generic[C]):
    """An entry of METHODS, a row of the tables (``docs/add-a-method.md``). ``paper``: author, year, title, arXiv id."""

    name: str
    title: str
    paper: str
    needs: Needs
    config: type[C]
    rows: Callable[[Group, C], Sequence[Row] | DroppedPrompt]
    """Pure: which responses of a group to train on, in order. With ``rollouts``: for steps that are not live."""
    loss: Callable[[Batch, Tensors, C], Loss]
    """Pure: (batch, what ``token_terms`` gave, concatenated to [N], config) -> Loss."""
    token_terms: TokenTerms[C] = log_probabilities
    storage: Callable[[C], DistributionStorage | None] = lambda config: None
    """config -> how teachers' distributions are stored, or ``None``: the teacher is live."""
    rollouts: Rollouts[C] | None = None
    trl: Trl[C] | None = None
    check: Callable[[C, int], None] = lambda config, n: None
    """(config, responses per prompt): raises UserError where these options cannot take that many."""
    row_fields: tuple[str, ...] = ()
    """Fields of ``config`` that decide ``rows``: all that references and stored distributions depend on."""
    version: int = 1
    """Raised when the same options train something else: stored students are then not reused. Of a plug-in, the code of
    the file counts by itself, without comments and docstrings; this is for modules that it imports."""
    space: Mapping[str, str] = field(default_factory=lambda: LEARNING_RATE)
    """What a search varies, and how far: a field of ``config``, or ``train.FIELD``, to ``uniform(LOW, HIGH)``,
    ``log(LOW, HIGH)`` (uniform in the logarithm) or ``{A, B, C}`` (one of these). A bound with an x multiplies the
    recipe's value. All methods get the same number of trials, so name the two to four knobs that matter."""
