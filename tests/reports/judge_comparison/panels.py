"""Panels of judges made up by hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from harness.stats import Draws
from reports.judge_comparison.panel import ITEM, JudgeProfile, Number, Panel, RowScore, judgment_frame

Call = tuple[str, str, object, str, float]


def panel(calls: Iterable[Call], judges: Sequence[str] = (), truth: Mapping[str, float] = {}, paired=True) -> Panel:
    """From (judge, row, question, turn, verdict); ``truth``: question to true quality. The same call twice is a repeat.

    The turn stands for the baseline, as in annotation files.
    """
    frame = judgment_frame(
        {"judge": judge, "benchmark": "b", "row": row, "seed": 0, "question": str(question), "turn": turn, "part": "p",
         "repeat": 0, "verdict": verdict, "quality": truth.get(str(question)), "same": 0.0}
        for judge, row, question, turn, verdict in calls
    )  # fmt: skip
    frame["repeat"] = frame.groupby(["judge", *ITEM]).cumcount()
    names = judges or list(dict.fromkeys(frame["judge"]))
    return Panel(frame, {"b": paired}, {name: JudgeProfile(name) for name in names})


def matrix(columns: Mapping[str, Sequence[float]]) -> pd.DataFrame:
    """Verdicts of judges on items of as many questions, as ``Panel.matrix``."""
    table = pd.DataFrame(columns, dtype=float)
    table.index = pd.MultiIndex.from_tuples([("b", "m", 0, str(n), "") for n in range(len(table))], names=ITEM)
    return table


def only(numbers: Iterable[Number], measure: str) -> Number:
    """The one number of this measure."""
    (number,) = [number for number in numbers if number.measure == measure]
    return number


def row_scores(
    values: Mapping[str, float], spread: float = 0.1, seed: int = 0, questions: int = 100, coverage: float = 1.0
) -> dict[str, RowScore]:
    """Scores of one seed with independent replicates of this standard error."""
    rng = np.random.default_rng(seed)
    grids = {row: (value + spread * rng.normal(size=400))[None, :] for row, value in values.items()}
    return {
        row: RowScore(Draws(np.array([float(value)]), grids[row]), questions, coverage) for row, value in values.items()
    }
