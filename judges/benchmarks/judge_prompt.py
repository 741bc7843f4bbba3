"""A judge prompt of the user's own: a file or a text with ``{placeholders}``.

The template is cut at its own placeholders once, and values are joined in between: no answer is ever read as a
template, whatever braces or code it holds.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from harness.errors import UserError, near
from harness.text import format_count
from harness.types import Message, Question

_PLACE = re.compile(r"\{\{\s*([A-Za-z_]\w*)\s*\}\}|\{([A-Za-z_]\w*)\}")
_LONGEST: Final = 500_000
CONVERSATION: Final = "conversation"


@dataclass(frozen=True)
class PromptTemplate:
    parts: tuple[tuple[str, str], ...]
    """In order: ``("text", words)`` or ``("place", name)``."""
    text: str

    @property
    def names(self) -> frozenset[str]:
        return frozenset(content for kind, content in self.parts if kind == "place")

    @property
    def digest(self) -> str:
        """As in ``Card.prompt_hash``."""
        return text_hash((self.text,))

    def fill(self, values: Mapping[str, str]) -> str:
        return "".join(values[content] if kind == "place" else content for kind, content in self.parts)

    def messages(self, values: Mapping[str, str]) -> tuple[Message, ...]:
        return ({"role": "user", "content": self.fill(values)},)


def is_inline(value: str) -> bool:
    """Whether the option holds the prompt itself: a text with a placeholder, or of several lines."""
    return "\n" in value or _PLACE.search(value) is not None


def check_inline(value: str | None, known: Sequence[str], needed: Sequence[str], option: str) -> None:
    """Raises UserError for a prompt that stands in the recipe itself; files are read when a plan is made."""
    if value is not None and is_inline(value):
        parse_prompt(value, tuple(known), tuple(needed), option)


def load_prompt(value: str, known: Sequence[str], needed: Sequence[str], option: str) -> PromptTemplate:
    """``value``: the prompt or the path of its file; ``known``: its placeholders; ``needed``: those that it must have.

    Raises UserError with everything that is wrong.
    """
    if is_inline(value):
        return parse_prompt(value, tuple(known), tuple(needed), option)
    path = Path(value).expanduser()
    try:
        state = path.stat()
        text = _read(str(path), state.st_mtime_ns, state.st_size)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"{option} = {value!r} is not a text file that can be read ({reason}). Give a file, or the prompt itself "
            f"with its placeholders {_listed(known)}."
        ) from error
    return parse_prompt(text, tuple(known), tuple(needed), f"{option} = {value!r}")


@lru_cache(maxsize=32)  # a prompt is filled thousands of times; a file that changes has another time or size
def _read(path: str, time: int, size: int) -> str:
    if size > _LONGEST:
        raise ValueError(f"it has {size:,} bytes, more than {_LONGEST:,}")
    return Path(path).read_text(encoding="utf-8-sig")


@lru_cache(maxsize=64)
def parse_prompt(text: str, known: tuple[str, ...], needed: tuple[str, ...], option: str) -> PromptTemplate:
    parts: list[tuple[str, str]] = []
    problems: list[str] = []
    seen: set[str] = set()
    end = 0
    for match in _PLACE.finditer(text):
        parts.append(("text", text[end : match.start()]))
        doubled, name = match.groups()
        seen.add(doubled or name)
        if doubled in known:
            problems.append(f"{match[0]} has two braces; one is enough: {{{doubled}}}")
        elif doubled:
            parts.append(("text", match[0][1:-1]))
        elif name in known:
            parts.append(("place", name))
        else:
            guess = near(name, known)
            hint = f" did you mean {{{guess}}}?" if guess else ""
            problems.append(f"{match[0]} is no placeholder;{hint} for the text itself write {{{match[0]}}}")
        end = match.end()
    parts.append(("text", text[end:]))
    lacking = [name for name in needed if name not in seen]
    problems += [f"it lacks {_listed(lacking)}"] * bool(lacking)
    if problems:
        raise UserError(f"{option}: {'; '.join(dict.fromkeys(problems))}. Placeholders: {_listed(known)}.")
    return PromptTemplate(tuple(parts), text)


def text_hash(texts: Sequence[str]) -> str:
    """First 12 hex digits of the sha256 over texts, each closed by a zero byte."""
    return hashlib.sha256("".join(text + "\0" for text in texts).encode()).hexdigest()[:12]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"{{{name}}}" for name in names)


def conversation(question: Question, answers: Sequence[str], turn: int) -> str:
    """What was said up to the user's turn ``turn`` (from 0), that turn included, with the model's earlier answers."""
    talk: list[str] = []
    for number in range(turn + 1):
        talk.append(f"[User, turn {number + 1}]\n{question.turns[number]}")
        if number < turn:
            talk.append(f"[Assistant, turn {number + 1}]\n{answers[number]}")
    return "\n\n".join(talk)


def reference_of(question: Question, turn: int) -> str:
    """The reference answer to a turn: its own where there is one for each, else all of them, a line each."""
    if len(question.turns) > 1 and len(question.reference) == len(question.turns):
        return question.reference[turn]
    return "\n".join(question.reference)


def check_references(prompt: PromptTemplate, questions: Sequence[Question], owner: str) -> None:
    """Raises UserError where the prompt shows reference answers and some question has none."""
    lacking = [question.id for question in questions if not question.reference]
    if "reference" in prompt.names and lacking:
        raise UserError(
            f"{owner} shows {{reference}}, and {format_count(len(lacking), 'question')} of {len(questions)} have none "
            f"(first: {lacking[0]})."
        )


GRADE_PLACES: Final = ("question", "answer", "reference", CONVERSATION, "low", "high")
PAIR_PLACES: Final = ("question", "answer_a", "answer_b", "reference", "conversation_a", "conversation_b")


def own_pair(prompt: PromptTemplate) -> Callable[[Question, str, str], tuple[Message, ...]]:
    """Of benchmarks that compare answers to one turn: (question, answer A, answer B) -> messages."""
    return lambda question, first, second: prompt.messages(pair_values(question, (first,), (second,), 0))


def grade_values(question: Question, answers: Sequence[str], turn: int, low: str, high: str) -> dict[str, str]:
    """Values of ``GRADE_PLACES`` for the answer to a turn (from 0)."""
    return {
        "question": question.turns[turn], "answer": answers[turn], "reference": reference_of(question, turn),
        CONVERSATION: conversation(question, answers, turn), "low": low, "high": high,
    }  # fmt: skip


def pair_values(question: Question, first: Sequence[str], second: Sequence[str], turn: int) -> dict[str, str]:
    """Values of ``PAIR_PLACES``; ``first`` are the answers of assistant A to all turns."""
    return {
        "question": question.turns[turn], "answer_a": first[turn], "answer_b": second[turn],
        "reference": reference_of(question, turn), "conversation_a": conversation(question, first, turn),
        "conversation_b": conversation(question, second, turn),
    }  # fmt: skip
