"""Files of annotations, read and checked: alpaca_eval's and plain tables, of judges or of people.

Read are JSON arrays, JSON lines, CSV and Parquet with one row per annotation:

    question, index or instruction   which question; ids stay text, ``001`` is not ``1``
    model or generator_2             whose answer is compared; baseline or generator_1: with whose
    annotator                        who says so; rows without it are told apart by their order, files by their names
    preference                       1 baseline ... 2 model, 1.5 or 0 a tie, empty: none given
    output_1, output_2, or len_1, len_2     optional: texts (or lengths) of baseline and model
    seed                             optional, for answers of a run: of which training seed (default: its first)

Answers whose authors are not named are told apart by their texts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.errors import UserError
from harness.text import counted
from reports.judge_comparison.answer_features import has_list, has_markdown
from reports.judge_comparison.panel import CALLS, FEATURES, ITEM

QUESTION = ("question", "index", "instruction")
MODEL = ("model", "generator_2", "row")
BASELINE = ("baseline", "generator_1")
TEXTS = ("output_1", "output_2")
_ABSENT = ("", "na", "nan", "null", "none")
"""What a table program writes where there is no number."""
_SHOWN = 10
_LONGEST = 40


@dataclass(frozen=True)
class Annotated:
    """What files of annotations hold."""

    calls: pd.DataFrame
    """``panel.CALLS``; the column ``judge`` is the annotator, ``turn`` the baseline (empty: not named)."""
    items: pd.DataFrame
    """As ``Panel.items``."""
    seeded: bool
    """Whether a file says of which training seed an answer is."""
    notes: tuple[str, ...]
    """What was left out."""


def read_calls(files: Sequence[Path], benchmark: str) -> Annotated:
    """All annotations of these files. The same annotation twice (one annotator, one item) becomes a repeat.

    Raises UserError for a file that is given twice or cannot be read, and for values that mean nothing.
    """
    for number, path in enumerate(files):
        if path.resolve() in [each.resolve() for each in files[:number]]:
            raise UserError(f"annotations {path} are given twice: each file counts once.")
    names = [path.stem for path in files]
    if len(set(names)) < len(names):
        names = [str(path.with_suffix("")) for path in files]
    parts = [_calls(path, benchmark, name if len(files) > 1 else "") for path, name in zip(files, names, strict=True)]
    calls = pd.concat([part.calls for part in parts], ignore_index=True)
    items = pd.concat([part.items for part in parts], ignore_index=True)
    calls["repeat"] = calls.groupby(["judge", *ITEM]).cumcount()
    filled = items.sort_values("length", na_position="last").drop_duplicates(["benchmark", *ITEM])
    notes = tuple(note for part in parts for note in part.notes)
    return Annotated(calls[CALLS], filled.sort_index(), any(part.seeded for part in parts), notes)


def read_table(path: Path) -> pd.DataFrame:
    """The rows of one file, values as they stand there. Raises UserError: not readable, no rows, no preferences."""
    try:
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
        elif path.suffix == ".csv":
            table = pd.read_csv(path, dtype=str, keep_default_na=False)
        else:
            table = pd.DataFrame(_json_rows(path.read_text(encoding="utf-8-sig").lstrip()), dtype=object)
    except (OSError, ValueError) as error:  # JSON, UTF-8, CSV and Parquet errors are ValueErrors
        raise UserError(f"annotations {path} cannot be read as JSON, JSON lines, CSV or Parquet: {error}") from error
    if table.empty or "preference" not in table.columns:
        have = ", ".join(map(str, table.columns[:_SHOWN])) or "nothing"
        raise UserError(f"annotations {path} need rows with a column 'preference' (1 to 2); it has: {have}.")
    return table.astype(object)


def _json_rows(text: str) -> list[dict[str, Any]]:
    """The rows of an array or of lines. Raises ValueError where one is no object."""
    rows = json.loads(text) if text.startswith("[") else [json.loads(x) for x in text.split("\n") if x.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("a row is not an object with names and values")
    return rows


def preferences(values: pd.Series[Any], path: Path) -> pd.Series[float]:
    """0..1 from alpaca_eval's 1..2. Raises UserError for a value outside."""
    numbers = values.map(_number)
    unread = numbers.isna() & ~values.map(_no_number)
    outside = numbers.notna() & (numbers != 0) & ~numbers.between(1, 2)
    wrong = values[unread | outside]
    if len(wrong):
        said = str(wrong.iloc[0])[:_LONGEST]
        raise UserError(f"annotations {path}: preference {said!r} is not 1 (baseline) to 2 (model), nor 0 (tie).")
    return numbers.where(numbers != 0, 1.5) - 1.0


def _calls(path: Path, benchmark: str, name: str) -> Annotated:
    """One file. ``name``: what its annotator is called where it names none; empty: by the order of its rows."""
    table = read_table(path)
    named = [each for each in QUESTION if each in table.columns]
    if not named:
        raise UserError(f"annotations {path}: no column names the question ({', '.join(QUESTION)}).")
    question, row = _ids(table[named[0]]), _who(table, MODEL, "output_2", path)
    whole = question.notna() & row.notna()
    if not whole.any():
        raise UserError(f"annotations {path}: no row says both which question and whose answer it is about.")
    notes: tuple[str, ...] = ()
    if not whole.all():
        rows = counted(int((~whole).sum()), "row")
        notes = (f"{path.name}: {rows} left out, without a question or without whose answer it is.",)
    table = table[whole].reset_index(drop=True)
    made = pd.DataFrame(index=table.index)
    made["question"], made["row"] = question[whole].to_numpy(object), row[whole].to_numpy(object)
    made["turn"] = _who(table, BASELINE, "output_1", None)  # two baselines are two comparisons, never one
    made["benchmark"], made["part"] = benchmark, "preference"
    seeds = _seeds(table, path)
    made["seed"] = 0 if seeds is None else seeds
    made["model_first"] = float("nan")  # alpaca_eval's files do not keep the order that was shown
    made["verdict"] = preferences(table["preference"], path)
    made["judge"] = _annotators(table, made, path, name)
    made["repeat"] = 0
    for feature in FEATURES:
        made[feature] = _feature(table, feature, path)
    return Annotated(made, made[["benchmark", *ITEM, *FEATURES]], seeds is not None, notes)


def _ids(values: pd.Series[Any]) -> pd.Series[Any]:
    """Ids as text. Programs write a column of numbers with a gap as 7.0, 8.0, ...: where all are so, 7 and 8 again."""
    found = values.map(_text)
    given = found.dropna()
    return found.str.removesuffix(".0") if len(given) and given.str.fullmatch(r"\d+\.0").all() else found


def _who(table: pd.DataFrame, names: Sequence[str], text: str, path: Path | None) -> pd.Series[Any]:
    """Whose answer: a named column, or a digest of the answer itself; ``None`` (a baseline: "") where a row lacks it.

    Raises UserError where there is neither column, unless ``path`` is ``None``.
    """
    for name in names:
        if name in table.columns:
            found = table[name].map(_text)
            return found if path is not None else found.map(lambda each: each or "")
    if text in table.columns:
        return table[text].map(lambda each: hashlib.sha256(str(each).encode()).hexdigest()[:12])
    if path is None:
        return pd.Series("", index=table.index, dtype=object)
    raise UserError(f"annotations {path}: no column says whose answer it is ({', '.join(names)}), nor {text}.")


def _annotators(table: pd.DataFrame, made: pd.DataFrame, path: Path, name: str) -> pd.Series[Any]:
    """Who annotated each row. Raises UserError where only some rows say."""
    if "annotator" in table.columns:
        given = table["annotator"].map(_text)
        if given.notna().all():
            return given
        if given.notna().any():
            raise UserError(
                f"annotations {path}: {counted(int(given.isna().sum()), 'row')} of {len(given):,} have no annotator "
                f"(row {int(given.isna().to_numpy().argmax()) + 1} is the first): fill it in, or leave the column out."
            )
    number = made.groupby(["question", "row", "turn", "seed"]).cumcount() + 1
    if name and number.max() == 1:
        return pd.Series(name, index=table.index, dtype=object)
    return number.map(lambda each: f"{name or 'annotator'} {each}")


def _seeds(table: pd.DataFrame, path: Path) -> pd.Series[Any] | None:
    """The training seeds; ``None`` where there are none. Raises UserError for one that is no whole number."""
    if "seed" not in table.columns or table["seed"].map(_no_number).all():
        return None
    numbers = table["seed"].map(_number)
    wrong = table["seed"][numbers.isna() | (numbers % 1 != 0)]
    if len(wrong):
        said = "is missing in some rows" if _no_number(wrong.iloc[0]) else f"{str(wrong.iloc[0])[:_LONGEST]!r} is wrong"
        raise UserError(f"annotations {path}: seed {said}; it is a whole number in every row, or no column at all.")
    return numbers.astype(int)


def _feature(table: pd.DataFrame, name: str, path: Path) -> pd.Series[float]:
    """Model's less baseline's, NaN where the file does not tell. Raises UserError for a length that is no number."""
    texts = set(TEXTS) <= set(table.columns)
    if name == "same":
        return (table["output_1"] == table["output_2"]).astype(float) if texts else pd.Series(0.0, index=table.index)
    if name == "length" and {"len_1", "len_2"} <= set(table.columns):
        sizes = {side: table[side].map(_number) for side in ("len_1", "len_2")}
        for side, numbers in sizes.items():
            wrong = table[side][numbers.isna() & ~table[side].map(_no_number)]
            if len(wrong):
                raise UserError(f"annotations {path}: {side} {str(wrong.iloc[0])[:_LONGEST]!r} is not a number.")
        return sizes["len_2"] - sizes["len_1"]
    counted_by = {"length": len, "words": lambda text: len(text.split()), "lists": has_list, "markdown": has_markdown}
    if not texts or name not in counted_by:
        return pd.Series(float("nan"), index=table.index)
    count = counted_by[name]
    sides = [
        table[side].map(lambda text: float(count(text)) if isinstance(text, str) else np.nan).astype(float)
        for side in ("output_2", "output_1")
    ]
    return sides[0] - sides[1]


def _text(value: object) -> str | None:
    """A value as text, ``None`` where there is none; a whole number has no fraction."""
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if str(value).strip() else None


def _no_number(value: object) -> bool:
    """Whether a cell is empty where a number could stand."""
    return _text(value) is None or str(value).strip().lower() in _ABSENT


def _number(value: object) -> float:
    """A number from JSON, or the text of one; NaN for anything else, ``true`` and ``false`` too."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | str | np.number):
        return float("nan")
    try:
        return float(value)
    except ValueError:
        return float("nan")
