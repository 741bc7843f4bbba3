"""The paper's Table 5: how often each judge sides with the human majority, beside the paper's numbers.

The definition is AlpacaEval's (``reports/judge_comparison/humans.py``). A judge stands beside a number of the paper
only where it is the same model; every other number of the paper follows in lines of its own. None of them can be
compared with ours: agreement is of a judge with certain people on certain answers, and the paper's are AlpacaEval's.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

from reports.judge_comparison.compare import Comparison
from reports.judge_comparison.csv_export import inert, number
from reports.judge_comparison.humans import HUMANS
from reports.judge_comparison.render import Grid, latex, markdown, span
from reports.tables.published import NOT_COMPARABLE
from reports.text import clean
from results.published import Published, published_table
from results.store.locks import write_atomic

TABLE = "table5"
METRIC = "human_agreement"
SOFT = "Soft: the judge's probability in place of its label, as alpaca_eval counts by default (1 - mean distance)."
WHY = "other people and other answers (the paper's are AlpacaEval's evaluator leaderboard)"
_SHORT = {"gpt4": "gpt-4", "gpt4-turbo": "gpt-4-turbo"}


def same_model(name: str) -> str:
    """A model's name without owner and case: ``llama-3.1-70b-instruct`` for ``meta-llama/Meta-Llama-3.1-...``."""
    short = name.rpartition("/")[2].lower().removeprefix("meta-")
    return _SHORT.get(short, short)


def paper() -> dict[str, Published]:
    """The paper's row to its number."""
    return {row: each for (_, row, metric), each in published_table(TABLE).items() if metric == METRIC}


def _match(comparison: Comparison, name: str) -> str | None:
    """The paper's row of the same model; ``None``: it has none."""
    names = {same_model(name), same_model(comparison.judges[name].model)} if name != HUMANS else {HUMANS}
    return next((row for row in paper() if same_model(row) in names), None)


def table5(comparison: Comparison) -> Grid:
    """Judges by falling agreement, then what the paper has beside them. Raises ValueError without human annotations."""
    if not comparison.humans:
        raise ValueError("human agreement needs human annotations")
    theirs = paper()
    softs = any(each.soft is not None for each in comparison.humans.values())
    rows, used = [], set()
    for name, each in sorted(comparison.humans.items(), key=lambda item: -item[1].value):
        match = _match(comparison, name)
        used.add(match)
        beside = "-" if match is None else f"{theirs[match].value:.2f}, {NOT_COMPARABLE}"
        shown = f"{100 * each.value:.2f} {span(each.interval, 100)}".rstrip()
        soft = ("-" if each.soft is None else f"{100 * each.soft:.2f}",) if softs else ()
        rows.append((clean(name), shown, *soft, beside, f"{each.items:,}", f"{each.calls:,}"))
    none = ("-", "-") if softs else ("-",)
    rows += [
        (f"{row} (paper)", *none, f"{each.value:.2f}", "-", "-") for row, each in theirs.items() if row not in used
    ]
    notes = (
        "Human agreement: one annotation against the mode of all human annotations but one (AlpacaEval's definition).",
        "A tie counts one half. Intervals resample questions.",
        *([SOFT] if softs else []),
        f"{NOT_COMPARABLE.capitalize()} with the paper: {WHY}.",
        *comparison.notes,
    )  # fmt: skip
    soft = ("Soft (%)",) if softs else ()
    header = ("Judge", "Human agreement (%) [95%]", *soft, "Paper", "Items", "Verdicts")
    return Grid(TABLE, f"Table 5: judges and human agreement, {clean(comparison.source)}", header, tuple(rows), notes)


def write_table5(comparison: Comparison, folder: Path) -> list[Path]:
    """``table5.md .tex .csv``; the paths written."""
    grid = table5(comparison)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["judge", "human_agreement", "low", "high", "soft", "items", "verdicts", "paper", "beside_the_paper"]
    )
    for name, each in comparison.humans.items():
        low, high = each.interval or (None, None)
        numbers = [number(value) for value in (each.value, low, high, each.soft)]
        match = _match(comparison, name)
        beside = ["", ""] if match is None else [number(paper()[match].value / 100), f"{NOT_COMPARABLE}: {WHY}"]
        writer.writerow([inert(clean(name)), *numbers, each.items, each.calls, *beside])
    contents = {"md": markdown([grid]), "tex": latex([grid]), "csv": out.getvalue()}
    return [write_atomic(folder / f"{TABLE}.{kind}", text.encode()) for kind, text in contents.items()]
