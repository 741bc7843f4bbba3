"""A comparison in formats: terminal, Markdown, LaTeX, CSV, JSON (the section of the HTML page: ``page.py``).

All text from outside is escaped everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.stats import Interval
from reports.judge_comparison.compare import Comparison
from reports.judge_comparison.csv_export import tidy_csv
from reports.judge_comparison.figures import FORMATS, heat_map, pareto
from reports.judge_comparison.render import latex, markdown, terminal
from reports.judge_comparison.table5 import TABLE, write_table5
from reports.judge_comparison.tables import grids
from results.store.locks import write_atomic

if TYPE_CHECKING:
    from rich.console import RenderableType

NAME = "judges"
FIGURES = ("judge-agreement", "judge-cost")
QUIET = ("confusion",)
"""Grids that the terminal leaves out; files have them."""


def write_comparison(comparison: Comparison, folder: Path) -> list[Path]:
    """``judges.md .tex .csv .json``, figures ``judge-agreement`` and ``judge-cost``; with humans ``table5`` too.

    What an earlier comparison left there and this one does not have (``table5``, a figure) is removed.
    """
    made = grids(comparison)
    contents = {
        f"{NAME}.md": markdown(made).encode(),
        f"{NAME}.tex": latex(made).encode(),
        f"{NAME}.csv": tidy_csv(comparison).encode(),
        f"{NAME}.json": (json.dumps(plain(comparison), indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode(),
        **{f"{FIGURES[0]}.{kind}": content for kind, content in heat_map(comparison).items()},
        **{f"{FIGURES[1]}.{kind}": content for kind, content in pareto(comparison).items()},
    }
    earlier = _of_an_earlier_one(folder)
    paths = [write_atomic(folder / name, content) for name, content in contents.items()]
    paths += write_table5(comparison, folder) if comparison.humans else []
    for path in earlier - set(paths):
        path.unlink(missing_ok=True)
    return paths


def _of_an_earlier_one(folder: Path) -> set[Path]:
    """The files that ``judges.json`` of an earlier comparison in the folder stands for, as far as they may differ."""
    try:
        before = json.loads((folder / f"{NAME}.json").read_bytes())
    except (OSError, ValueError):  # there is none, or it is not ours
        return set()
    names = [f"{figure}.{kind}" for figure in FIGURES for kind in FORMATS]
    if isinstance(before, dict) and before.get("humans"):
        names += [f"{TABLE}.{kind}" for kind in ("md", "tex", "csv")]
    return {folder / name for name in names}


def screen(comparison: Comparison) -> RenderableType:
    """The grids for ``rich.console.Console.print``, without the confusion tables."""
    return terminal([grid for grid in grids(comparison) if not grid.name.startswith(QUIET)])


def plain(comparison: Comparison) -> dict[str, Any]:
    """Everything but bootstrap replicates as plain JSON values."""
    found: dict[str, Any] = _plain(comparison)
    return {"format": 1, **found}


def _plain(value: Any) -> Any:
    if isinstance(value, Interval):
        return [_plain(float(value.low)), _plain(float(value.high))]
    if is_dataclass(value) and not isinstance(value, type):
        return {name: _plain(getattr(value, name)) for name in vars(value) if name != "replicates"}
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value
