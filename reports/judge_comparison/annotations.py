"""Annotations made elsewhere, of judges or of people: alpaca_eval's files (JSON) and plain tables (JSON lines, CSV,
Parquet), one row per annotation; the columns: ``COLUMNS`` and ``docs/compare-judges.md``. Ids stay text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from harness.errors import UserError
from harness.text import format_count, parse_json, replace_in_json
from reports.judge_comparison.panel import FEATURES, ITEM, JUDGMENT, JudgeProfile, Panel

COLUMNS = {
    "question": ("question", "index", "instruction"),
    "row": ("model", "generator_2"),
    "turn": ("baseline", "generator_1"),
    "judge": ("annotator",),
}  # column of a judgment to the names that files have for it
COSTS = ["price_per_example", "time_per_example"]
"""What alpaca_eval notes of each annotation: dollars and seconds."""
ANSWER = ["row", "seed", "question"]
_MISSING_WORDS = ("", "na", "nan", "null", "none")  # what spreadsheet programs write for a missing number
_MAX_CHOICES = 10


def annotation_panel(
    files: Sequence[Path], judges: Sequence[str] = (), own_rows: Mapping[str, Sequence[str]] | None = None
) -> Panel:
    """The annotators of these files, or those named, as judges; the same annotation twice becomes a repeat.
    ``own_rows``: judge to the rows of its own family. Raises UserError: unreadable, or no such judge or row."""
    stems, own_rows = [path.stem for path in files], own_rows or {}
    if len(set(stems)) < len(stems):
        raise UserError(f"annotations {', '.join(map(str, files))}: two files of one name; names tell judges apart.")
    contents = [read_annotations(path, "annotations", path.stem if len(files) > 1 else "") for path in files]
    judgments = pd.concat([frame for frame, _ in contents], ignore_index=True)
    judgments["seed"] = judgments["seed"].fillna(0).astype(int)
    judgments["repeat"] = judgments.groupby(["judge", *ITEM]).cumcount()
    # Lines of one item may know its length or not, or differ: all judges are measured with the smallest.
    judgments[FEATURES] = judgments.groupby(ITEM)[FEATURES].transform("min")
    annotators = list(dict.fromkeys(judgments["judge"]))
    unknown_judges = [name for name in judges if name not in annotators]
    if unknown_judges:
        choices = ", ".join(annotators[:_MAX_CHOICES])
        raise UserError(f"--judges {', '.join(unknown_judges)}: not among the annotators: {choices}.")
    compared_judges = list(judges) or annotators
    judgments = judgments[judgments["judge"].isin(compared_judges)]
    rows = list(dict.fromkeys(judgments["row"]))
    check_own_rows(own_rows, compared_judges, rows)
    notes = [note for _, notes in contents for note in notes]
    costs = judgments.groupby("judge")[COSTS].mean()
    prices, seconds = (costs[column].dropna() for column in COSTS)
    unpriced_judges = [name for name in compared_judges if name not in prices]
    gaps = "order of the answers is unknown" if not unpriced_judges else "order of the answers and price are unknown"
    scope = f" (price: of {', '.join(unpriced_judges[:_MAX_CHOICES])})" if unpriced_judges and len(prices) else ""
    notes.append(f"Verdicts from annotation files: {gaps}{scope}.")
    if len(seconds):
        times = ", ".join(f"{name} {seconds[name]:.3g}" for name in compared_judges if name in seconds)
        notes.append(f"Mean seconds per annotation, as the files say: {times}.")
    if judgments["turn"].nunique() > 1:
        notes.append("Several baselines: only annotations against the same baseline are compared item by item.")
    return Panel(
        judgments[JUDGMENT],
        {"annotations": True},
        {
            name: JudgeProfile(
                name, tuple(own_rows.get(name, ())), dollars=1000 * float(prices[name]) if name in prices else None
            )
            for name in compared_judges
        },
        titles={row: row for row in rows},
        source=", ".join(path.name for path in files),
        notes=tuple(notes),
    )


def check_own_rows(own_rows: Mapping[str, Sequence[str]], judges: Sequence[str], rows: Sequence[str]) -> None:
    for judge, judge_rows in own_rows.items():
        for kind, names, choices in (("judge", [judge], judges), ("row", judge_rows, rows)):
            if unknown := [name for name in names if name not in choices]:
                choice_list = ", ".join(choices[:_MAX_CHOICES])
                raise UserError(f"--own {judge}: no {kind} {unknown[0]!r} is compared; there are: {choice_list}.")


def read_annotations(path: Path, benchmark: str, annotator: str = "") -> tuple[pd.DataFrame, list[str]]:
    """One file as judgments (``judge``: annotator, ``turn``: baseline, ``seed``: NaN if absent), and what was left out.
    ``annotator``: if the file names nobody (empty: the order of rows tells). UserError: unreadable, no meaning."""
    table = _read_table(path)
    frame = pd.DataFrame({name: _ids(table, columns) for name, columns in COLUMNS.items()}, dtype=object)
    for name, meaning in (("question", "the question"), ("row", "whose answer it is")):
        if not set(COLUMNS[name]) & set(table.columns):
            raise UserError(f"annotations {path}: no column says {meaning} ({', '.join(COLUMNS[name])}).")
    complete = frame["question"].notna() & frame["row"].notna()
    if not complete.any():
        raise UserError(f"annotations {path}: no row says both which question and whose answer it is about.")
    left_out = format_count(int((~complete).sum()), "row")
    notes = [] if complete.all() else [f"{path.name}: {left_out} left out, without a question or a model."]
    seeds = _numbers(table, "seed", path)
    if seeds.notna().any() and (seeds[complete] % 1 != 0).any():  # NaN differs from 0 too
        raise UserError(f"annotations {path}: seed must be a whole number in every row, or no column at all.")
    frame["benchmark"], frame["part"], frame["repeat"], frame["seed"] = benchmark, "preference", 0, seeds
    frame["turn"] = frame["turn"].fillna("")  # two baselines are two comparisons, never one
    frame["model_first"] = float("nan")  # alpaca_eval's files do not keep the order that was shown
    frame["verdict"], odd_cells = _verdicts(table, path)
    notes += [f"{path.name}: {text}." for text in odd_cells]
    failures = int((table["preference"][complete].map(_number) == -1).sum())
    notes += [f"{path.name}: {format_count(failures, 'annotation')} failed (preference -1)."] if failures else []
    for column in COSTS:
        frame[column] = _numbers(table, column, path)
    frame[FEATURES] = _features(table, path)
    frame = frame[complete].reset_index(drop=True)
    lacks_annotator = frame["judge"].isna()
    if lacks_annotator.any() and not lacks_annotator.all():
        raise UserError(f"annotations {path}: some rows have no annotator: fill it in, or remove the column.")
    if lacks_annotator.all():
        number = frame.groupby([*ANSWER, "turn"], dropna=False).cumcount() + 1
        add_number = not annotator or number.max() > 1
        frame["judge"] = [f"{annotator or 'annotator'} {place}" for place in number] if add_number else annotator
    return frame[[*JUDGMENT, *COSTS]], notes


def _read_table(path: Path) -> pd.DataFrame:
    """The rows as text, ``None`` for missing values. Raises UserError: not readable, no preferences."""
    try:
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
        elif path.suffix == ".csv":
            table = pd.read_csv(path, dtype=str, keep_default_na=False)  # ids such as 001 and NA stay text
        else:
            text = path.read_text(encoding="utf-8-sig").lstrip()
            rows = parse_json(text) if text.startswith("[") else [parse_json(x) for x in text.split("\n") if x.strip()]
            table = pd.DataFrame([dict(replace_in_json(row).items()) for row in rows], dtype=object)
        table = table.map(_text).astype(object)
    except Exception as error:  # of damaged bytes: errors of many classes; a JSON row that is no object has no items
        raise UserError(f"annotations {path} cannot be read as JSON, JSON lines, CSV or Parquet: {error}") from error
    if table.empty or "preference" not in table.columns:
        columns = ", ".join(map(str, table.columns[:_MAX_CHOICES])) or "nothing"
        raise UserError(f"annotations {path} need rows with a column 'preference' (1 to 2); it has: {columns}.")
    return table


def _text(value: object) -> str | None:
    return None if value is None or (isinstance(value, float) and math.isnan(value)) else str(value)


def _ids(table: pd.DataFrame, columns: Sequence[str]) -> pd.Series[str]:
    """The first of these columns, ``None`` if empty. If all ids are 7.0, 8.0 (numbers with a gap), they are 7 and 8."""
    column = next((name for name in columns if name in table.columns), None)
    if column is None:
        return pd.Series(None, index=table.index, dtype=object)
    texts = table[column].where(table[column].str.strip() != "", None)
    valid_texts = texts.dropna()
    return texts.str.removesuffix(".0") if len(valid_texts) and valid_texts.str.fullmatch(r"\d+\.0").all() else texts


def _numbers(table: pd.DataFrame, column: str, path: Path) -> pd.Series[float]:
    """A column of numbers, NaN if empty. Raises UserError for a cell that is no number; ``true`` is none."""
    if column not in table.columns:
        return pd.Series(float("nan"), index=table.index)
    texts = table[column].fillna("")
    is_empty = texts.str.strip().str.lower().isin(_MISSING_WORDS)
    numbers = pd.to_numeric(texts.where(~is_empty, None), errors="coerce")
    wrong_texts = texts[numbers.isna() & ~is_empty]
    if len(wrong_texts):
        raise UserError(f"annotations {path}: {column} {wrong_texts.iloc[0][:40]!r} is not a number.")
    return numbers.astype(float)


def _verdicts(table: pd.DataFrame, path: Path) -> tuple[pd.Series[float], list[str]]:
    """0..1 from alpaca_eval's 1..2 (0: its other code for a tie; -1: it failed); NaN with a sentence where it is no
    such number. Raises UserError where none is."""
    texts = table["preference"].fillna("")
    numbers = texts.map(_number)
    is_empty = texts.str.strip().str.lower().isin(_MISSING_WORDS) | (numbers == -1)
    is_odd = ~is_empty & (numbers != 0) & ~numbers.between(1, 2)
    rule = "not 1 (baseline) to 2 (model), nor 0 (tie)"
    if is_odd.any() and (is_odd | is_empty).all():
        raise UserError(f"annotations {path}: preference {texts[is_odd].iloc[0][:40]!r} is {rule}.")
    places = [place for place, odd in enumerate(is_odd) if odd][:3]
    examples = ", ".join(f"row {place + 1}: {texts.iloc[place][:40]!r}" for place in places)
    count = format_count(int(is_odd.sum()), "annotation")
    notes = [f"{count} without a verdict, {rule}: {examples}"] if is_odd.any() else []
    return numbers.where(~is_odd & ~is_empty).where(numbers != 0, 1.5) - 1.0, notes


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")


def _features(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """``FEATURES``: model minus baseline, NaN where the file does not tell."""
    features = pd.DataFrame(float("nan"), index=table.index, columns=FEATURES).assign(same=0.0)
    sizes = [_numbers(table, column, path) for column in ("len_1", "len_2")]
    if {"output_1", "output_2"} <= set(table.columns):
        texts = table["output_1"], table["output_2"]
        sizes = [text.str.len().astype(float) for text in texts]
        features["same"] = (texts[0] == texts[1]).astype(float)
    return features.assign(length=sizes[1] - sizes[0])


def read_humans(path: Path, items: pd.DataFrame, benchmark: str) -> tuple[pd.DataFrame, list[str]]:
    """One line per person and item (``ITEM``, ``annotator``, ``verdict`` 0..1: the person's mean), and notes. An
    annotation without a baseline (or seed) means the one (the first) of the row. Raises UserError: none fits ``items``,
    an unclear baseline, or no answer with two people."""
    (humans, notes), items = read_annotations(path, benchmark), items[ITEM].drop_duplicates()
    humans = _complete(humans.rename(columns={"judge": "annotator"}), items, path)
    annotations = humans.merge(items, on=ITEM)
    if annotations.empty:
        file_items, known_items = (
            "; ".join(f"question {q!r} of {r!r}" for q, r in frame[["question", "row"]].head(3).to_numpy())
            for frame in (humans, items)
        )
        raise UserError(
            f"--humans {path}: it annotates no answer that is compared here. It has {file_items}; known: {known_items}."
        )
    votes = annotations.dropna(subset=["verdict"])
    people = votes.groupby([*ITEM, "annotator"], sort=False)["verdict"].mean().reset_index()
    counts = people.groupby(ITEM).size()
    if not (counts >= 2).any():
        raise UserError(
            f"--humans {path}: no answer has preferences of two people. Agreement leaves one person out and compares "
            "with the others; AlpacaEval has four for each answer."
        )
    omissions = (
        (len(humans) - len(annotations), "annotation", "of no answer that is compared here"),
        (len(annotations) - len(votes), "annotation", "without a preference"),
        (int((counts < 2).sum()), "answer", "with only one person"),
    )
    omission_text = "; ".join(f"{format_count(count, noun)} {reason}" for count, noun, reason in omissions if count)
    total = f"{format_count(len(votes), 'annotation')} of {format_count(len(counts), 'answer')}"
    summary = f"Humans: {path.name}, {total} compared."
    return people, [summary, *notes, *([f"Humans, left out: {omission_text}."] if omission_text else [])]


def _complete(humans: pd.DataFrame, items: pd.DataFrame, path: Path) -> pd.DataFrame:
    seeds = set(items["seed"])
    humans["seed"] = humans["seed"].fillna(0 if 0 in seeds else min(seeds)).astype(int)
    if set(items["turn"]) == {""}:
        return humans.assign(turn="")
    lacks_baseline = humans["turn"] == ""
    turns = items.groupby(ANSWER)["turn"].agg(["first", "nunique"]).reindex(pd.MultiIndex.from_frame(humans[ANSWER]))
    is_unclear = lacks_baseline.to_numpy() & (turns["nunique"] > 1).to_numpy()
    if is_unclear.any():
        row, _, question = humans[is_unclear][ANSWER].iloc[0]
        raise UserError(
            f"--humans {path}: question {question!r} of {row!r} is compared several times (baselines or turns); name "
            "the baseline that the annotations mean (column 'baseline' or 'generator_1')."
        )
    humans["turn"] = humans["turn"].where(~lacks_baseline, turns["first"].to_numpy())
    return humans
