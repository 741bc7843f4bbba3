"""Annotations made elsewhere, of judges or of people, as a panel: alpaca_eval's files and plain tables.

Read are JSON arrays, JSON lines, CSV and Parquet with one row per annotation:

    question, index or instruction   which question
    model or generator_2             whose answer is compared; baseline or generator_1: with whose
    annotator                        who says so; rows without it are told apart by their order
    preference                       1 baseline ... 2 model, 1.5 or 0 a tie, empty: none given
    output_1, output_2, or len_1, len_2     optional: texts (or lengths) of baseline and model
    seed                             optional, for answers of a run: of which training seed (default: its first)

Answers whose authors are not named are told apart by their texts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from harness.errors import UserError
from reports.judges.families import family_of
from reports.judges.features import has_list, has_markdown
from reports.judges.panel import CALLS, FEATURES, ITEM, Facts, Panel

QUESTION = ("question", "index", "instruction")
MODEL = ("model", "generator_2", "row")
BASELINE = ("baseline", "generator_1")
_SHOWN = 10
_LONGEST = 40


def read_table(path: Path) -> pd.DataFrame:
    """The rows of one file. Raises UserError: not there, not readable, no rows, no preferences."""
    try:
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
        elif path.suffix == ".csv":
            table = pd.read_csv(path)
        else:
            text = path.read_text(encoding="utf-8-sig").lstrip()
            rows = json.loads(text) if text.startswith("[") else [json.loads(x) for x in text.split("\n") if x.strip()]
            table = pd.DataFrame(rows)
    except (OSError, ValueError) as error:  # JSON, UTF-8 and Parquet errors are ValueErrors
        raise UserError(f"annotations {path} cannot be read as JSON, JSON lines, CSV or Parquet: {error}") from error
    if table.empty or "preference" not in table.columns:
        have = ", ".join(map(str, table.columns[:_SHOWN])) or "nothing"
        raise UserError(f"annotations {path} need rows with a column 'preference' (1 to 2); it has: {have}.")
    return table


def preferences(values: pd.Series[float], path: Path) -> pd.Series[float]:
    """0..1 from alpaca_eval's 1..2. Raises UserError for a value outside."""
    numbers = pd.to_numeric(values, errors="coerce")
    unread = values.notna() & numbers.isna()
    outside = numbers.notna() & (numbers != 0) & ~numbers.between(1, 2)
    if (unread | outside).any():
        wrong = values[unread | outside].iloc[0]
        raise UserError(
            f"annotations {path}: preference {str(wrong)[:_LONGEST]!r} is not 1 (baseline) to 2 (model), nor 0 (tie)."
        )
    return numbers.where(numbers != 0, 1.5) - 1.0


def read_calls(files: Sequence[Path], benchmark: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(calls, items) of all files, as ``Panel`` holds them; the column ``judge`` is the annotator.

    The same annotation twice (one annotator, one item) becomes a repeat.
    """
    parts = [_calls(path, benchmark) for path in files]
    calls = pd.concat([part[0] for part in parts], ignore_index=True)
    items = pd.concat([part[1] for part in parts], ignore_index=True)
    calls["repeat"] = calls.groupby(["judge", *ITEM]).cumcount()
    filled = items.sort_values("length", na_position="last").drop_duplicates(["benchmark", *ITEM])
    return calls[CALLS], filled.sort_index()


def _calls(path: Path, benchmark: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    table = read_table(path)
    named = [name for name in QUESTION if name in table.columns]
    if not named:
        raise UserError(f"annotations {path}: no column names the question ({', '.join(QUESTION)}).")
    made = pd.DataFrame(index=table.index)
    made["question"] = table[named[0]].astype(str)
    made["row"] = _who(table, MODEL, "output_2", path)
    baseline = _who(table, BASELINE, "output_1", None)
    made["turn"] = baseline  # two baselines are two comparisons, never one
    made["benchmark"], made["part"] = benchmark, "preference"
    made["seed"] = table["seed"].astype(int) if "seed" in table.columns else 0
    made["model_first"] = float("nan")  # alpaca_eval's files do not keep the order that was shown
    made["verdict"] = preferences(table["preference"], path)
    keys = ["question", "row", "turn"]
    number = (made.groupby(keys).cumcount() + 1).astype(str)
    made["judge"] = table["annotator"].astype(str) if "annotator" in table.columns else "annotator " + number
    made["repeat"] = 0
    for name in FEATURES:
        made[name] = _feature(table, name)
    return made, made[["benchmark", *ITEM, *FEATURES]]


def _who(table: pd.DataFrame, names: Sequence[str], text: str, path: Path | None) -> pd.Series[str]:
    """Whose answer: a named column, or a digest of the answer itself. Raises UserError where there is neither."""
    for name in names:
        if name in table.columns:
            return table[name].astype(str)
    if text in table.columns:
        return table[text].astype(str).map(lambda each: hashlib.sha256(each.encode()).hexdigest()[:12])
    if path is None:
        return pd.Series("", index=table.index)
    raise UserError(f"annotations {path}: no column says whose answer it is ({', '.join(names)}), nor {text}.")


def _feature(table: pd.DataFrame, name: str) -> pd.Series[float]:
    """Model's less baseline's, NaN where the file does not tell."""
    texts = {"output_1", "output_2"} <= set(table.columns)
    if name == "same":
        return (table["output_1"] == table["output_2"]).astype(float) if texts else pd.Series(0.0, index=table.index)
    if name == "length" and {"len_1", "len_2"} <= set(table.columns):
        return table["len_2"].astype(float) - table["len_1"].astype(float)
    counted = {"length": len, "words": lambda text: len(text.split()), "lists": has_list, "markdown": has_markdown}
    if not texts or name not in counted:
        return pd.Series(float("nan"), index=table.index)
    sides = [table[side].astype(str).map(counted[name]).astype(float) for side in ("output_2", "output_1")]
    return sides[0] - sides[1]


def annotation_panel(files: Sequence[Path], judges: Sequence[str], benchmark: str = "annotations") -> Panel:
    """The annotators of these files as judges: all of them, or those named, in that order.

    Raises UserError for a name that no row has, and where fewer than one item is judged by two of them.
    """
    calls, items = read_calls(files, benchmark)
    have = list(dict.fromkeys(calls["judge"]))
    missing = [name for name in judges if name not in have]
    if missing:
        raise UserError(f"--judges {', '.join(missing)}: not among the annotators: {', '.join(have[:_SHOWN])}.")
    chosen = list(judges) or have
    calls = calls[calls["judge"].isin(chosen)]
    titles = {row: row for row in dict.fromkeys(calls["row"])}
    facts = {name: Facts(name, family_of(name)) for name in chosen}
    notes = ["Verdicts as annotated elsewhere: order of the answers, price and time are not in the files."]
    if len(set(calls["turn"])) > 1:
        notes.append("Several baselines: only annotations against the same baseline are compared item by item.")
    source = ", ".join(path.name for path in files)
    return Panel(calls, items, {benchmark: True}, facts, {}, titles, source=source, notes=tuple(notes))


def read_humans(path: Path, benchmark: str | None, panel: Panel) -> pd.DataFrame:
    """Human annotations of a panel's items: columns ``benchmark``, ``ITEM``, ``annotator``, ``verdict``.

    They name the question by its id (or instruction) and the row by its id. Raises UserError where none of them fits.
    """
    calls, _ = read_calls([path], benchmark or panel.benchmarks[0])
    humans = calls.rename(columns={"judge": "annotator"})
    known = panel.of(benchmark or panel.benchmarks[0])[ITEM].drop_duplicates()
    if set(known["turn"]) == {""}:
        humans["turn"] = ""
    if not set(humans["seed"]) & set(known["seed"]):
        humans["seed"] = min(known["seed"])
    fitting = humans.merge(known, on=ITEM)
    if fitting.empty:
        shown = "; ".join(f"question {q!r} of {r!r}" for q, r in humans[["question", "row"]].head(3).to_numpy())
        wanted = "; ".join(f"question {q!r} of {r!r}" for q, r in known[["question", "row"]].head(3).to_numpy())
        raise UserError(
            f"--humans {path}: it annotates no answer that is compared here. It has {shown}; known: {wanted}."
        )
    return fitting[["benchmark", *ITEM, "annotator", "verdict"]]
