"""Questions of the user's own: of a file (JSON lines, CSV, Parquet) or of a hub data set, in one canonical form.

``{"question": text, or a list of turns, "reference": text or a list, "choices": [...], "baseline": ..., "id": ...,
"category": ...}``; the names under ``FIELDS`` are read too, and ``fields`` maps any other. Mistakes are reported all at
once, each with its line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from pydantic import Field

from harness.contracts.benchmark import Card
from harness.contracts.model import Sampling
from harness.contracts.options import Count, Nucleus, PathText, Temperature, Tokens, json_data, options, require
from harness.errors import UserError, near
from harness.rows import line_number, read_rows
from harness.text import first_of_each_kind, format_count, parse_json
from harness.types import Json, Question
from judges.benchmarks.answer_files import dig, is_missing
from judges.benchmarks.base import limit_questions
from judges.benchmarks.replies import plain_text

HUB: Final = "hub:"
FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "question": ("question", "prompt", "instruction", "messages", "turns"),
    "reference": ("reference", "answer", "golden", "target", "references", "answers"),
    "choices": ("choices", "options"),
    "baseline": ("baseline",),
    "id": ("id", "question_id", "uid"),
    "category": ("category", "subject"),
}
"""Canonical field to the names that are read for it, the first that a row has."""
READ: Final = frozenset(name for names in FIELDS.values() for name in names)
MOST_SHOWN: Final = 20


@options
class OwnConfig:
    """Options that all benchmarks without code have."""

    questions: PathText
    """A file of questions (JSON lines, CSV, TSV, Parquet), or ``hub:OWNER/NAME``, a data set of the hub."""
    fields: dict[str, str] = Field(default_factory=dict)
    """What the file calls a field: ``{question: instruction}``; ``a.b`` is b inside of a."""
    hub_config: str | None = None
    """Which configuration of the hub's data set."""
    hub_split: str | None = None
    """Which split of the hub's data set; null: test."""
    hub_revision: str | None = None
    """Which commit of the hub's data set; null: its newest. Questions are pinned by their content."""
    title: str = ""
    """Heading of the column; empty: its name."""
    limit: Count | None = None
    """Use only this many questions: those whose hashed ids come first."""
    system: str = ""
    """System message before each question; empty: none."""
    max_new_tokens: Tokens = 1024
    """Longest answer per turn, tokens."""
    temperature: Temperature = 0.0
    """Sampling temperature of the answers; 0 is greedy."""
    top_p: Nucleus = 1.0
    """Nucleus of the answers' sampling."""

    def __post_init__(self) -> None:
        require(bool(self.questions.strip()), "questions must name a file or hub:OWNER/NAME")
        for name in self.fields:
            guess = near(name, FIELDS)
            hint = f"; did you mean {guess}?" if guess and guess != name else ""
            require(name in FIELDS, f"fields: {name} is no field of questions{hint} (there are: {', '.join(FIELDS)})")
        on_hub = self.questions.startswith(HUB)
        for name in ("hub_config", "hub_split", "hub_revision"):
            require(on_hub or getattr(self, name) is None, f"{name} goes with questions: {HUB}OWNER/NAME")

    @property
    def sampling(self) -> Sampling:
        return Sampling(self.max_new_tokens, self.temperature, self.top_p)


SOURCE_FIELDS: Final = ("questions", "fields", "hub_config", "hub_split", "hub_revision", "limit", "title")
"""Options that are in no key: what the questions say has a hash of its own, so a file may move."""


@dataclass(frozen=True)
class RowNeeds:
    """What rows must hold beside the question."""

    required: frozenset[str] = frozenset()
    choices: bool = False
    why: Mapping[str, str] = field(default_factory=dict)
    """Field to who asks for it, for the message."""


def load_questions(config: OwnConfig, name: str, needs: RowNeeds = RowNeeds()) -> list[Question]:
    """Raises UserError that lists every bad line of the file."""
    fields = tuple(sorted(config.fields.items()))
    rows: Sequence[tuple[str, Mapping[str, Json]]]
    if config.questions.startswith(HUB):
        hub = (config.hub_config, config.hub_split or "test", config.hub_revision)
        rows, problems = _hub_rows(config.questions.removeprefix(HUB), *hub), []
    else:
        file = read_rows(config.questions, "questions")
        # In a table, a list stands in a cell as JSON; in JSON, a text that looks like a list is a text.
        is_table = Path(config.questions).suffix.lower() in (".csv", ".tsv")
        rows = (
            [(place, {key: _unpacked(cell) for key, cell in row.items()}) for place, row in file.rows]
            if is_table
            else file.rows
        )
        problems = list(file.problems)
    questions: list[Question] = []
    places: dict[str, str] = {}
    texts: dict[object, str] = {}
    check_columns([row for _, row in rows], config.fields)
    for number, (place, row) in enumerate(rows, 1):
        try:
            question = question_of(row, dict(fields), str(number), needs)
            if question.id in places:
                raise ValueError(f"id {question.id!r} is that of {places[question.id]} too")  # noqa: TRY301
            content = (question.turns, json.dumps(question.meta.get("choices")))
            if content in texts:  # intervals take questions for independent
                raise ValueError(f"asks the same as {texts[content]}; remove one of them")  # noqa: TRY301
        except ValueError as error:
            problems.append(f"{place}: {error}")
            continue
        places[question.id], texts[content] = place, place
        questions.append(question)
    if problems:
        problems.sort(key=line_number)
        lines = "\n".join(f"  {line}" for line in first_of_each_kind(problems, MOST_SHOWN))
        count = format_count(len(problems), "line")
        raise UserError(f"{config.questions} has {count} that cannot be asked:\n{lines}\n{RULE}")
    if not questions:
        raise UserError(f"{config.questions} holds no questions. {RULE}")
    return limit_questions(questions, name, config.limit)


RULE: Final = (
    'Canonical: {"question": text or a list of turns, "reference": text or a list, "choices": [texts], "baseline": '
    'text or one per turn, "id": text, "category": text}. Other names: `fields: {question: instruction}`.'
)


@lru_cache(maxsize=4)
def _hub_rows(
    name: str, config: str | None, split: str, revision: str | None
) -> tuple[tuple[str, dict[str, Json]], ...]:
    from datasets import load_dataset

    try:
        data = load_dataset(name, config, split=split, revision=revision)
        return tuple((f"row {number}", dict(row)) for number, row in enumerate(data, 1))
    except Exception as error:  # whatever datasets raises for "no network", "no such split", "cache broken"
        text = " ".join(str(error).split())[:300]
        raise UserError(
            f"the questions {HUB}{name} ({split}) could not be loaded: {text}. Choose another hub_config or hub_split, "
            "fetch it where there is a network, or give a file."
        ) from error


def check_columns(rows: Sequence[Mapping[str, Any]], fields: Mapping[str, str]) -> None:
    """Raises UserError where ``fields`` names what no row has; that one row lacks it is the row's own matter."""
    for name, column in fields.items():
        if rows and all(_column(row, column) is None for row in rows):
            columns = sorted({str(key) for row in rows[:MOST_SHOWN] for key in row})
            guess = near(column, columns)
            hint = f"; did you mean {guess!r}?" if guess else f"; there are: {', '.join(columns[:12])}"
            raise UserError(f"fields: {name} is {column!r}, which no row has{hint}")


def question_of(
    row: Mapping[str, Any], fields: Mapping[str, str], number: str, needs: RowNeeds = RowNeeds()
) -> Question:
    """Raises ValueError that says what is wrong with the row."""
    found = {name: _value(row, fields.get(name), names) for name, names in FIELDS.items()}
    values = {name: value for name, (_, value) in found.items()}
    for name in ("question", *sorted(needs.required)):
        if values[name] is None:
            columns = ", ".join(sorted(map(str, row))[:12]) or "none"
            why = f" ({needs.why[name]})" if name in needs.why else ""
            read = [fields[name]] if name in fields else FIELDS[name]
            if empty := next((key for key in read if key in row), ""):
                raise ValueError(f'"{empty}" is empty{why}')
            guess = near(name, [str(key) for key in row if key not in READ])
            hint = f", did you mean {guess!r}?" if guess else ""
            raise ValueError(f'no "{name}"{why}; the row has: {columns}{hint}')
        if name != "question" and values[name] in ("", []):
            raise ValueError(f'"{found[name][0]}" is empty')
    turns = _turns(values["question"])
    extra = row.get("input")
    is_alpaca = found["question"][0] == "instruction" and len(turns) == 1
    if is_alpaca and isinstance(extra, str) and extra.strip():
        turns = (f"{turns[0]}\n\n{extra}",)
    meta: dict[str, Any] = {}
    if needs.choices:
        meta = {"choices": list(_choices(values["choices"])), "labels": _labels(values["choices"])}
        if not meta["choices"]:
            raise ValueError('"choices" is not a list of at least two texts')
        if meta["labels"] and len(meta["labels"]) != len(meta["choices"]):
            raise ValueError(f'"choices" has {len(meta["choices"])} texts and {len(meta["labels"])} labels')
    baseline = _texts(values["baseline"], "baseline")
    if baseline and len(baseline) != len(turns):
        raise ValueError(f'"baseline" has {len(baseline)} answers to {format_count(len(turns), "turn")}')
    return Question(
        _name(values["id"], number), turns, _name(values["category"], ""), baseline,
        _texts(values["reference"], "reference"), meta,
    )  # fmt: skip


def _value(row: Mapping[str, Any], column: str | None, names: Sequence[str]) -> tuple[str, Any]:
    """The column that is read, and what stands there; ``None``: nothing."""
    if column is None:
        column = next((name for name in names if not is_missing(row.get(name))), names[0])
    value = _column(row, column)
    return column, None if is_missing(value) else value


def _column(row: Mapping[str, Any], column: str) -> Any:
    if column in row:
        return row[column]
    return dig(row, *(int(part) if part.isdecimal() else part for part in column.split(".")))


def _turns(value: Any) -> tuple[str, ...]:
    entries = value if isinstance(value, list) else [value]
    turns: list[str] = []
    for entry in entries:
        if isinstance(entry, Mapping):
            role, entry = entry.get("role", entry.get("from")), entry.get("content", entry.get("value"))  # noqa: PLW2901
            if role == "system":
                raise ValueError("a system message stands in the question; give it as `system:` of the benchmark")
            if role not in ("user", "human"):
                raise ValueError(
                    f"a message of the role {role!r} stands in the question; only the user's turns are asked, one "
                    "after the other, with the model's own answers between them"
                )
        if not isinstance(entry, str):
            raise ValueError(f"the question is {_shown(value)}, not text or a list of turns")  # noqa: TRY004
        turns.append(entry)
    if not turns or not all(map(str.strip, turns)):
        raise ValueError("the question is empty")
    return tuple(turns)


def _texts(value: Any, name: str) -> tuple[str, ...]:
    if value is None or value == "":
        return ()
    entries = value if isinstance(value, list) else [value]
    texts = []
    for entry in entries:
        if isinstance(entry, bool) or not isinstance(entry, str | int | float) or is_missing(entry):
            raise ValueError(f'"{name}" is {_shown(value)}, not text or a list of texts')
        texts.append(plain_text(entry))
    if not all(map(str.strip, texts)):
        raise ValueError(f'"{name}" is empty')
    return tuple(texts)


def _choices(value: Any) -> tuple[str, ...]:
    if isinstance(value, Mapping):  # {"A": text, "B": text}, or the hub's {"text": [...], "label": [...]}
        value = value["text"] if isinstance(value.get("text"), list) else list(value.values())
    if not isinstance(value, list):
        return ()
    given = (entry for entry in value if not isinstance(entry, bool) and not is_missing(entry))
    texts = [plain_text(entry) for entry in given if isinstance(entry, str | int | float)]
    return tuple(texts) if len(texts) == len(value) >= 2 and all(map(str.strip, texts)) else ()


def _labels(value: Any) -> list[str]:
    """What a file calls its choices, where it does not count them."""
    if not isinstance(value, Mapping):
        return []
    labels = value["label"] if isinstance(value.get("label"), list) else list(value)
    return list(map(str, labels))


def _unpacked(value: Any) -> Any:
    """A list that stands as JSON in a cell of a table."""
    if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
        try:
            inner = parse_json(value)
        except ValueError:
            return value
        return inner if isinstance(inner, list | dict) and inner else value
    return value


def _name(value: Any, default: str) -> str:
    if value is None or value == "":
        return default
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"an id or category is {_shown(value)}, not text")  # noqa: TRY004
    return plain_text(value)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def heading(config: OwnConfig, name: str) -> str:
    return config.title or name


def own_card(name: str, config: OwnConfig, what: str, digest: str) -> Card:
    """``what``: how answers are judged; ``digest``: of the judge's prompt."""
    source = config.questions if config.questions.startswith(HUB) else Path(config.questions).name
    limit = f", at most {format_count(config.limit, 'question')}" if config.limit is not None else ""
    return Card(name, f"own benchmark: {what}, questions {source}{limit}", digest, json_data(config))
