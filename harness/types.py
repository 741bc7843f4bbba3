"""The nouns of the harness: plain frozen records that stages hand to each other and the store keeps as JSON lines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, Union

Json: TypeAlias = Union[dict[str, "Json"], list["Json"], str, int, float, bool, None]  # noqa: UP007, it names itself
"""A decoded JSON or YAML value of which nothing is known yet."""
Message = dict[str, str]
"""``{"role": "user" | "assistant" | "system", "content": text}``, as chat templates take it."""
Messages = Sequence[Mapping[str, str]]
"""A conversation: such messages in order."""
Meta = Mapping[str, Any]
"""What only the protocol that wrote it reads."""


@dataclass(frozen=True)
class Prompt:
    id: str
    messages: tuple[Message, ...]
    golden: str | None = None
    """The dataset's good answer (KD trains on it)."""
    rejected: str | None = None
    """The dataset's worse answer (DCKD needs it)."""
    source: str = ""


@dataclass(frozen=True)
class Response:
    """One answer to a training prompt, and what the teacher said of it (``None`` until the reward stage)."""

    text: str
    finished: bool
    """Whether the model ended its turn (``False``: cut at the token limit)."""
    tokens: int
    """Length in the sampling model's tokens, end-of-turn included."""
    mean_logp: float | None = None
    """Teacher's mean log-probability per token, nats (PAD Eq. 7)."""
    log_psel: float | None = None
    """Teacher's log selection probability, nats (PAD Eq. 8)."""


@dataclass(frozen=True)
class Group:
    """One prompt with its responses: the one training datum that every offline method reads."""

    prompt: Prompt
    samples: tuple[Response, ...] = ()
    """n responses of the student."""
    teacher: tuple[Response, ...] = ()
    """Responses of the teacher (SeqKD)."""
    coverage: float | None = None
    """Probability mass that the teacher put on any letter in the multiple-choice question, before renormalising."""


@dataclass(frozen=True)
class Question:
    """One benchmark question: one or two user turns, and what its protocol puts beside the answer."""

    id: str
    turns: tuple[str, ...]
    category: str = ""
    baseline: tuple[str, ...] = ()
    """The baseline model's answer per turn (pairwise protocols)."""
    reference: tuple[str, ...] = ()
    """Reference answer per turn (MT-Bench math, GSM8K gold)."""
    meta: Meta = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    question: str
    turns: tuple[str, ...]
    finished: tuple[bool, ...]
    """Whether each turn ended by itself; empty where that is not known (answers made elsewhere)."""
    tokens: tuple[int, ...]
    """Length of each turn; empty where it is not known."""
    meta: Meta = field(default_factory=dict)
    """What the answering harness reported (lm-eval's filtered responses, for instance)."""


@dataclass(frozen=True)
class Request:
    """One question to a judge. All that decides the reply is in it; the ledger's key is its full content."""

    question: str
    part: str
    """Which of the benchmark's questions about this answer: ``game1``, ``turn2``, ..."""
    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float = 0.0
    top_logprobs: int = 0
    """How many alternatives of the first token to ask for (0: none)."""
    repeat: int = 0
    meta: Meta = field(default_factory=dict)
    """For the parser (``{"swapped": true}``); not sent to the judge, not part of the key."""


@dataclass(frozen=True)
class Reply:
    """What a judge answered, complete."""

    text: str
    finish_reason: str
    model: str
    """The model id that the endpoint says it served."""
    prompt_tokens: int
    completion_tokens: int
    first_token: Mapping[str, float] | None = None
    """Token text to log-probability at the first position; ``None`` where the endpoint gives none."""
    request: str = ""
    """The ledger's key of the request that it answers."""


@dataclass(frozen=True)
class Verdict:
    """What a parser read in a reply: a value, or ``None`` and why."""

    value: float | None
    reason: str | None = None
    flags: tuple[str, ...] = ()
    """Weaker readings that the table must footnote (``"no-logprobs"``)."""


@dataclass(frozen=True)
class Judgment:
    """One verdict on one answer, with the reply it was read from."""

    question: str
    part: str
    verdict: float | None
    reason: str | None = None
    """Why ``verdict`` is ``None``."""
    repeat: int = 0
    flags: tuple[str, ...] = ()
    reply: str = ""
    judge_model: str = ""
    request: str = ""
    """The ledger's key of the request (the last one, where the protocol asks twice); empty where rules decided."""
    meta: Meta = field(default_factory=dict)


@dataclass(frozen=True)
class Score:
    """One cell of a table: a number with its interval, its n, and what it took to make it."""

    metric: str
    """``alpaca_eval.lc`` and so on."""
    value: float | None
    low: float | None
    """95% interval over questions."""
    high: float | None
    n: int
    """Questions that count in ``value``."""
    unscored: int
    """Questions that do not, because a verdict is missing."""
    note: str = ""
    """Protocol of a weaker or reconstructed number, or why ``value`` is ``None``."""
    per_question: Mapping[str, float] = field(default_factory=dict)
    """Question id to this question's contribution; paired tests and variance splits read it."""
    replicates: tuple[float, ...] = ()
    """The estimate on bootstrap resamples of the questions. Replicate b uses the same resample for every model, so
    differences of replicates are paired."""
    detail: Mapping[str, float | str] = field(default_factory=dict)
    """Companions: mean answer length, truncation rate, discrete win rate, both GSM8K filters, ..."""

    @property
    def covered(self) -> float:
        """Questions that count, each by the share of its verdicts that is used."""
        return float(self.detail.get("questions_covered", self.n))
