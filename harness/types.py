"""The nouns of the harness: plain frozen records that stages hand to each other and the store keeps as JSON lines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, TypeAlias, Union

Json: TypeAlias = Union[dict[str, "Json"], list["Json"], str, int, float, bool, None]  # noqa: UP007, it names itself
Message = dict[str, str]
"""``{"role": "user" | "assistant" | "system", "content": text}``; ``Messages``: such ones in order."""
Messages = Sequence[Mapping[str, str]]
PLAIN: Final = "plain"
"""Role of a message that stands alone and is no chat: text that a model continues, without a chat template."""


def is_plain(messages: Messages) -> bool:
    return bool(messages) and messages[0]["role"] == PLAIN


Meta = Mapping[str, Any]


@dataclass(frozen=True)
class Prompt:
    """A training prompt: ``golden`` is its good answer (the chosen one of a pair), ``rejected`` the bad one."""

    id: str
    messages: tuple[Message, ...]
    golden: str | None = None
    rejected: str | None = None
    source: str = ""


@dataclass(frozen=True)
class Response:
    """One response that a model drew, without its end-of-turn token."""

    text: str
    finished: bool
    """``False``: cut at the token limit."""
    tokens: int
    """Length in the sampling model's tokens, end-of-turn included."""
    mean_logp: float | None = None
    """Teacher's mean log-probability per token, nats (PAD Eq. 7)."""
    log_psel: float | None = None
    """Teacher's log selection probability, nats (PAD Eq. 8)."""
    thinking: str = ""
    """Thinking that was removed from ``text`` (``harness/thinking.py``)."""
    ids: tuple[int, ...] = ()
    """The tokens as they were drawn, end-of-turn included; empty where only text is known (a server)."""

    def is_cut_before(self, limit: int) -> bool:
        """Whether the model's context ended well before ``limit`` tokens. Servers may count a few less than they wrote,
        and none of those of thinking."""
        return not self.finished and not self.thinking and 0 < 1.05 * self.tokens < limit - 1


@dataclass(frozen=True)
class Group:
    """A prompt with the student's ``samples`` and the ``teacher``'s responses: what ``Method.rows`` chooses from."""

    prompt: Prompt
    samples: tuple[Response, ...] = ()
    teacher: tuple[Response, ...] = ()
    coverage: float | None = None
    """Probability mass that the teacher put on any letter in the multiple-choice question, before renormalising."""


@dataclass(frozen=True)
class Question:
    """One or two user turns; baseline (pairwise) and reference (MT-Bench math, GSM8K gold) hold an answer per turn."""

    id: str
    turns: tuple[str, ...]
    category: str = ""
    baseline: tuple[str, ...] = ()
    reference: tuple[str, ...] = ()
    meta: Meta = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """A model's answer to the question with this id: a text for each turn."""

    question: str
    turns: tuple[str, ...]
    finished: tuple[bool, ...]
    """Per turn; empty where it is not known (answers made elsewhere), as in ``tokens``."""
    tokens: tuple[int, ...]
    meta: Meta = field(default_factory=dict)
    thinking: tuple[str, ...] = ()
    """Removed from each turn; empty where no turn held any."""

    @property
    def is_cut(self) -> bool:
        """Whether a turn holds nothing but thinking."""
        return any(thought and not turn.strip() for turn, thought in zip(self.turns, self.thinking, strict=False))

    @property
    def has_no_room(self) -> bool:
        """Whether no token of a turn could be drawn."""
        turns = zip(self.turns, self.finished, self.tokens, strict=False)
        return not self.is_cut and any(not (turn or is_finished or count) for turn, is_finished, count in turns)

    @property
    def absence(self) -> str:
        """Why there is no answer to judge; empty where there is one."""
        if self.is_cut:
            return "no answer: the thinking of the model (or of its baseline) was cut short; raise max_new_tokens"
        if self.has_no_room:
            return (
                "no answer: the question (behind a server: with max_new_tokens) does not fit into the model's context, "
                "or its chat template refuses it"
            )
        return ""


@dataclass(frozen=True)
class Request:
    """One question to a judge about the answer to ``question``; ``part`` tells several apart (``game1``, ``turn2``).

    The ledger's key is the hash of all that decides the reply: with ``repeat``, which asks the same once more, and the
    judge's endpoint and model, but without ``question``, ``part`` and ``meta``.
    """

    question: str
    part: str
    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float = 0.0
    top_logprobs: int = 0
    repeat: int = 0
    meta: Meta = field(default_factory=dict)
    """For the parser (``{"swapped": true}``); not sent to the judge."""


@dataclass(frozen=True)
class Reply:
    """What a judge sent back. ``request``: the ledger's key."""

    text: str
    finish_reason: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    first_token: Mapping[str, float] | None = None
    """Token text to log-probability at the first position; ``None`` where the endpoint gives none."""
    request: str = ""
    flags: tuple[str, ...] = ()
    """How the request had to be changed to be taken (``system-folded``); they join those of the judgment."""
    thinking: str = ""
    """Removed from ``text`` or sent beside it; in the ledger only the latter, with the text as it came."""
    begins_inside: bool = False
    """Whether the text began inside of its thinking, because the prompt held the opening."""

    @property
    def is_cut(self) -> bool:
        """Whether there is nothing but thinking; a server that hides it sends no text up to the token limit."""
        is_hidden = self.finish_reason == "length" and not self.first_token
        return not self.text.strip() and (bool(self.thinking) or is_hidden)


@dataclass(frozen=True)
class Verdict:
    """What ``Benchmark.parse`` reads from a reply: a value, or none and the reason. ``flags``: keys of ``FLAGS``."""

    value: float | None
    reason: str | None = None
    flags: tuple[str, ...] = ()
    mass: float | None = None
    """Probability of all tokens that are verdicts, where probabilities were read; in the judgment's ``meta`` too."""


@dataclass(frozen=True)
class Judgment:
    """A verdict on one answer, with the reply that it was read from; ``repeat`` counts equal requests from 0."""

    question: str
    part: str
    verdict: float | None
    reason: str | None = None
    repeat: int = 0
    flags: tuple[str, ...] = ()
    reply: str = ""
    judge_model: str = ""
    request: str = ""
    """The ledger's key of the last request; empty where rules decided."""
    meta: Meta = field(default_factory=dict)
    thinking: str = ""
    """Removed from ``reply``."""


@dataclass(frozen=True)
class Score:
    """One cell of a table (``alpaca_eval.lc``) of one seed, in the metric's unit, with its 95% interval over questions.
    ``n``: questions that were scored; ``unscored``: the others."""

    __pydantic_config__: ClassVar = {"allow_inf_nan": False}  # a missing score is None

    metric: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    unscored: int
    note: str = ""
    """Why the number is weaker than it should be, or missing."""
    per_question: Mapping[str, float] = field(default_factory=dict)
    replicates: tuple[float, ...] = ()
    """On bootstrap resamples of the questions: replicate b uses the same one for every model, so differences pair."""
    detail: Mapping[str, float | str] = field(default_factory=dict)

    @property
    def covered_questions(self) -> float:
        return float(self.detail.get("questions_covered", self.n))
