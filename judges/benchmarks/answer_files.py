"""Answer files, our own and those of the official tools, matched to questions; nothing is dropped in silence."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from harness.contracts.benchmark import against, pair_answers
from harness.errors import UserError
from harness.records import record
from harness.text import format_count, parse_json, replace_in_json
from harness.thinking import separate_answers
from harness.types import Answer, Question

T = TypeVar("T")
X = TypeVar("X")
Row = Mapping[str, object]
Rows = Sequence[tuple[str, Row]]
"""Rows with their place for messages: ``answers.jsonl, row 3``."""
_FAILURE = re.compile(
    r"(?i:[$\[<(]+[a-z_ ]{0,20}error[$\]>)]+)|ERROR|(?i:\*\*network error due to high traffic.*)"
    r"|(?i:\$moderation\$.*)|(?i:\**(?:api|generation|request|server)(?:[ _-]request)?[ _-]?(?:error|failed|failure)"
    r"\**[.!]?(?: *[:(.-].*)?)"
    # what is left of an exception: of clients (openai, anthropic, litellm), of a server, of torch
    r"|(?:[\w.]+\.)?(?:RateLimit|API\w{0,12}|Timeout|ServiceUnavailable|InternalServer|BadRequest|Authentication"
    r"|ContextWindowExceeded|InvalidRequest|PermissionDenied|NotFound|OutOfMemory)Error(?:\W.*)?"
    r"|Error code: \d{3}\b.*|(?:HTTP )?(?:5\d\d )?(?:Internal Server Error|Bad Gateway|Service Unavailable)"
    r"|(?:504 )?Gateway Timeout|Request timed out\.?|(?:ERROR: )?CUDA out of memory.*|\[?(?i:no response)\]|nan|NaN"
)
"""What generators write for an answer where they failed: FastChat ``$ERROR$`` (API) and ``ERROR`` (local), and what its
servers say instead of an answer; arena-hard-auto ``$ERROR$``; others ``[ERROR]``, ``API Error: reason``, the message of
an exception, pandas' ``nan``."""
_MAGIC = {b"PAR1": "a Parquet file", b"\x1f\x8b": "compressed (gzip)", b"PK\x03\x04": "a zip archive or spreadsheet"}

ReadAnswer = Callable[[Row, str], tuple[str, Answer] | None]
"""(row, its place for messages) -> the model, empty where the row names none, and its answer, whose ``question`` is an
id or a text; ``None`` for a row of another kind. Raises UserError."""


class RowMatcher(Generic[T]):
    """The first row offered for each (question id, slot), and a sentence in ``problems`` for all others.

    ``content``: what the rows hold, for messages (``answers``). What a row says of its question and is not so is a
    problem too; the row counts all the same.
    """

    def __init__(self, questions: Sequence[Question], content: str) -> None:
        self.questions, self.content = questions, content
        self.rows: dict[tuple[str, str], T] = {}
        self.problems: list[str] = []
        self.reported: set[tuple[str, str]] = set()
        self.by_id = {question.id: question for question in questions}
        # Some tools write ids, others the instruction itself, with other white space.
        texts = [(question.turns[0], question.id) for question in questions if question.turns]
        compact_texts = Counter(compact(text) for text, _ in texts)
        self.ids = {compact(text): name for text, name in texts if compact_texts[compact(text)] == 1}
        self.ids |= {**dict(texts), **{question.id: question.id for question in questions}}

    def offer(self, name: str, location: str, row: T, slot: str = "", source_row: Row = {}) -> None:  # noqa: B006, only read
        """Take one row of the question that has this id or text; one per ``slot`` (a turn, a filter).

        ``source_row``: the row as it is in the file.
        """
        question = self.find(name)
        if not question:
            self.problems.append(f"{location}: {self.content} for a question that is not asked here: {shorten(name)}")
        elif (question, slot) in self.rows:
            place = f"question {question}" + (f" ({slot})" if slot else "")
            self.problems.append(f"{location}: a second row of {self.content} for {place}; the first counts")
        else:
            self.rows[question, slot] = row
            for field, theirs, ours in contradictions(source_row, self.by_id[question]):
                # One baseline is that of all rows: it is told once.
                key = (field, theirs if field == "baseline" else question)
                if key not in self.reported:
                    self.reported.add(key)
                    text = (
                        f"the {field} of question {question} differs (file: {shorten(theirs)}, ours: {shorten(ours)})"
                    )
                    self.problems.append(f"{location}: {text}; ours counts")

    def find(self, name: str) -> str:
        """The id of the question that has this id or text; empty where none has."""
        return self.ids.get(name) or self.ids.get(compact(name), "")

    def in_order(self, slots: Sequence[str] = ("",)) -> list[tuple[Question, str, T]]:
        places = [(question, slot) for question in self.questions for slot in slots]
        return [(q, slot, self.rows[q.id, slot]) for q, slot in places if (q.id, slot) in self.rows]

    def all_problems(self, slots: Sequence[str] = ("",)) -> list[str]:
        """``problems``, and what is missing; nothing where no row was offered: such files hold something else."""
        return [*self.problems, *self.missing_rows(slots)] if self.rows or self.problems else []

    def missing_rows(self, slots: Sequence[str] = ("",)) -> list[str]:
        problems = []
        for question in self.questions:
            lacking = [slot for slot in slots if (question.id, slot) not in self.rows]
            if lacking:
                slot_list = f" ({', '.join(lacking)})" if any(lacking) else ""
                problems.append(f"{self.content} missing for question {question.id}{slot_list}")
        return problems


def contradictions(row: Row, question: Question) -> list[tuple[str, str, str]]:
    """(field, in the file, ours) where a foreign row says something else of a question than the question does."""
    messages = row.get("messages")
    turns = messages if isinstance(messages, list) else []
    user_texts = [dig(turn, "content") for turn in turns if dig(turn, "role") == "user"][:1]
    texts = dig(row, "doc", "question"), row.get("instruction"), row.get("prompt"), *user_texts
    golds = dig(row, "doc", "answer"), row.get("target")
    # Where the baseline's answer stands beside its name, the answer is compared.
    baselines = row.get("baseline"), None if "output_1" in row else row.get("generator_1")
    comparisons: tuple[tuple[str, tuple[object, ...], Sequence[object]], ...] = (
        ("text", texts, question.turns[:1]),
        ("gold answer", golds, question.reference[:1]),
        ("baseline", baselines, [question.meta[key] for key in ("baseline",) if key in question.meta]),
        ("category", (row.get("dataset"),), [question.category] if question.category else []),
    )
    differences = []
    for field, file_values, our_values in comparisons:
        for ours in map(str, our_values):
            # A gold answer may come with its working, which ends in "#### N".
            pairs = [
                [text.rpartition("####")[2].strip() for text in (theirs, ours)]
                for theirs in map(str, filter(_is_written, file_values))
            ]
            unequal = [(theirs, own) for theirs, own in pairs if not _is_same(theirs, own)]
            differences += [(field, *unequal[0])] if unequal else []
    return differences


def _is_written(value: object) -> bool:
    return value != "" and isinstance(value, str | int | float) and not is_missing(value)


def _is_same(first: str, second: str) -> bool:
    """Whether two texts are the same, as texts or as numbers (``$18`` and ``18.0``)."""
    texts = [compact(text) for text in (first, second)]
    numbers = [number_of(text.strip("$").removesuffix(".")) for text in texts]
    return texts[0] == texts[1] or (numbers[0] is not None and numbers[0] == numbers[1])


def compact(text: str) -> str:
    """Without white space and commas, which differ between copies of one text."""
    return "".join(text.replace(",", "").split())


def parse_rows(rows: Iterable[tuple[str, X]], read: Callable[[X, str], T], problems: list[str]) -> list[T]:
    """What ``read`` makes of each (place, row). A row that it refuses is left out, with a sentence in ``problems``.

    Raises UserError, the first one's, where it refuses all: that is a file of another kind.
    """
    results, refusals = [], []
    for location, row in rows:
        try:
            results.append(read(row, location))
        except UserError as error:
            refusals.append(str(error))
    if refusals and not results:
        count = f" ({format_count(len(refusals), 'row')} alike or worse)" if len(refusals) > 1 else ""
        raise UserError(refusals[0] + count)
    problems += [f"{text}: the row is left out" for text in refusals]
    return results


def with_baseline(questions: Sequence[Question], path: str, benchmark: str, read: ReadAnswer) -> list[Question]:
    file = Path(path).expanduser()
    if not file.is_file():
        raise UserError(f"{benchmark}: baseline {path!r} is not a file of answers.")
    model, answers, problems = read_answers([file], questions, read)
    try:
        return against(questions, answers, model or file.stem)
    except UserError as error:
        raise UserError(f"{benchmark}: {error} {problems[0]}") from error


def read_answers(
    files: Sequence[Path], questions: Sequence[Question], read: ReadAnswer = lambda row, location: None
) -> tuple[str, list[Answer], list[str]]:
    """(model, answers in the order of the questions, problems) of files that hold answers. Raises UserError."""
    rows = locate_rows(files)
    model, answers = match_answers(rows, own_answer if is_own(rows[0][1]) else read, (), None, questions)
    complete_answers, dropped = whole_answers(
        separate_answers([answer for *_, answer in answers.in_order()]), questions
    )
    return model, complete_answers, [*answers.problems, *answers.missing_rows(), *dropped]


def own_answer(row: Row, location: str) -> tuple[str, Answer]:
    """A row of our own ``answers.jsonl``, as ``ReadAnswer``."""
    return "", own_record(row, Answer, location)


def own_record(row: Row, kind: type[T], location: str) -> T:
    """A record of ours, also as pandas writes it: ids that became numbers, NaN in empty cells. Raises UserError."""
    values = {key: value for key, value in row.items() if not is_missing(value) or key == "verdict"}
    if "verdict" in row and is_missing(row["verdict"]):
        values = {"reason": "no verdict in the file", **values, "verdict": None}
    return record({**values, "question": name_of(row["question"])}, kind, location)


def match_answers(
    rows: Rows, read: ReadAnswer, judged_models: Sequence[str], model: str | None, questions: Sequence[Question]
) -> tuple[str, RowMatcher[Answer]]:  # fmt: skip
    """(the model to read, its answers). Raises UserError: several models and none was named, or not the named one."""
    answers = RowMatcher[Answer](questions, "answers")
    pairs = parse_rows(rows, lambda row, location: (location, row, read(row, location)), answers.problems)
    read_rows = [(location, row, *pair) for location, row, pair in pairs if pair is not None]
    models = list(dict.fromkeys([*(name for *_, name, _ in read_rows if name), *judged_models]))
    model_list = ", ".join(models[:20])
    if model is None and len(models) > 1:
        raise UserError(f"the files hold several models: {model_list}. Name one with --model.")
    if model is not None and models and model not in models:
        raise UserError(f"no rows of model {model!r}; the files hold: {model_list}.")
    chosen = model or (models[0] if models else "")
    for location, row, name, answer in read_rows:
        if name in ("", chosen):  # a row that names no model belongs to every one
            question = answers.find(answer.question)
            answers.offer(answer.question, location, replace(answer, question=question), source_row=row)
    return chosen, answers


def whole_answers(answers: Sequence[Answer], questions: Sequence[Question]) -> tuple[list[Answer], list[str]]:
    """The answers with all turns, none a mark of failure; a problem for each of the others."""
    complete_answers, problems = [], []
    for question, answer in pair_answers(questions, answers):
        if mark := failure_mark(answer):
            way_on = "`distilbench import --keep-failed` takes it for an answer"
            reason = f"is {shorten(mark)}, the mark of a generator that failed ({way_on})"
        elif len(answer.turns) != len(question.turns):
            reason = f"has {format_count(len(answer.turns), 'turn')}, not {len(question.turns)}"
        else:
            complete_answers.append(answer)
            continue
        problems.append(f"the answer to question {question.id} {reason}: it is left out")
    return complete_answers, problems


def failure_mark(answer: Answer) -> str:
    """What a generator wrote where it failed, instead of an answer; empty where there is none, or someone said that it
    is the answer (``meta.verbatim``)."""
    texts = [" ".join(text.split()) for text in answer.turns if len(text) < 2000 and "verbatim" not in answer.meta]
    return next((text for text in texts if _FAILURE.fullmatch(text)), "")


def is_own(row: Row) -> bool:
    """Whether a row is one of our records: they name ``question`` and ``turns`` or ``part``."""
    return "question" in row and ("turns" in row or "part" in row)


def is_missing(value: object) -> bool:
    """``null``, or the NaN that pandas writes for it."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def has(row: Row, key: str) -> bool:
    """Whether a field is there and not empty: pandas gives every row the columns of all."""
    return not is_missing(row.get(key))


def is_no_verdict(value: object) -> bool:
    """Whether a cell of verdicts is empty; spreadsheets and ``str()`` write it as a word."""
    return is_missing(value) or (isinstance(value, str) and value.strip().lower() in ("nan", "none", "null", "<na>"))


def number_of(value: object) -> float | None:
    """A number, also where it is written as text; ``None`` for anything else, and for NaN."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return None if math.isnan(number) else number


def name_of(value: object) -> str:
    """A name (of a model, a judge, a question) as text: the first of a list, 81 for 81.0; empty where there is none."""
    if isinstance(value, list | tuple):
        return name_of(value[0]) if value else ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if is_missing(value) else str(value)


def shorten(value: object) -> str:
    """A foreign value for a message: quoted, on one line, cut."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSON lines file. Raises UserError naming the line that is not JSON."""
    rows = []
    # not str.splitlines: some answers hold U+2028, which ends no line in JSON lines
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), 1):
        if line.strip():
            try:
                rows.append(parse_json(line))
            except ValueError as error:  # also a number of thousands of digits
                raise UserError(f"{path}, line {number}: not JSON ({error}): {shorten(line)}") from error
    return rows


def locate_rows(files: Sequence[Path]) -> list[tuple[str, Row]]:
    """The objects of JSON arrays, JSON lines or pandas' JSON by columns, see ``Rows``. Raises UserError."""
    rows_with_places: list[tuple[str, Row]] = []
    for path in files:
        rows: list[Any]
        try:
            text = path.read_text(encoding="utf-8-sig")
            rows = parse_json(text) if text.lstrip().startswith("[") else _columns(text) or read_jsonl(path)
        except OSError as error:
            raise UserError(f"cannot read {path}: {error}") from error
        except UnicodeDecodeError as error:
            start = path.read_bytes()[:4]
            kind = next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), "not text in UTF-8")
            raise UserError(f"cannot read {path}: it is {kind}; a JSON array or JSON lines are needed.") from error
        except ValueError as error:
            raise UserError(f"{path} is neither a JSON array nor JSON lines: {error}") from error
        if not rows:
            raise UserError(f"{path} holds no rows")
        # UTF-8 cannot hold a lone surrogate. The walk through every text is slow: only where one occurs at all.
        has_surrogates = "\\ud" in text.lower()
        for number, row in enumerate(rows, 1):
            if not isinstance(row, Mapping):
                raise UserError(f"{path}, row {number}: an object was expected, found {shorten(row)}")
            rows_with_places.append((f"{path.name}, row {number}", replace_in_json(row) if has_surrogates else row))
    return rows_with_places


def _columns(text: str) -> list[Row]:
    """Rows of ``DataFrame.to_json()``, one object of columns by row number; none where the text is something else."""
    try:
        table = parse_json(text)
    except ValueError:
        return []
    columns = list(table.values()) if isinstance(table, dict) else []
    if not columns or not all(isinstance(column, dict) and all(map(str.isdigit, column)) for column in columns):
        return []
    return [{name: column.get(number) for name, column in table.items()} for number in columns[0]]


def require_field(row: Row, key: str, kind: type[T], location: str) -> T:
    """A field of a row. Raises UserError when it is missing or of another type."""
    if key not in row:
        raise UserError(f"{location}: no field {key!r} (there are: {', '.join(sorted(map(str, row))) or 'none'})")
    value: Any = row[key]
    number = number_of(value) if kind is int else None
    if number is not None and number.is_integer():
        value = int(number)  # pandas turns whole numbers into 81.0 where a column has a gap, and tables into text
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise UserError(f"{location}: {key} must be a {kind.__name__}, got {shorten(value)}")
    return value


def dig(value: object, *path: str | int) -> object:
    """``None`` where the path ends early."""
    for step in path:
        if isinstance(value, Mapping) and isinstance(step, str):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return None
    return value
