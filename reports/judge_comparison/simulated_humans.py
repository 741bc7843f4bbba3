"""Human annotators simulated from the truth: for pocket, where the truth is known and no people are.

An annotator prefers the better answer with log-odds proportional to the difference in true score, each annotator and
item drawn by itself. Nothing of a judge enters, so that judges of different noise can be told apart by them.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from harness.errors import UserError
from reports.judge_comparison.panel import ITEM, Panel

SHARPNESS = 3.0
"""Log-odds per unit of score (which lies in 0..1). The pocket judge has 8: people here are less sure than it is."""

NO_TRUTH = (
    "people can be simulated only where the truth is known and answers are compared: on pocket's alpaca_eval or "
    "arena_hard. Elsewhere give their annotations with --humans FILE."
)


def simulated_humans(panel: Panel, annotators: int, seed: int, sharpness: float = SHARPNESS) -> pd.DataFrame:
    """``annotators`` binary annotations of every item of the first paired benchmark, as ``read_humans`` gives them.

    Raises UserError where the truth of an item is not known, or nothing is compared with a baseline.
    """
    paired = [name for name in panel.benchmarks if panel.paired[name]]
    items = panel.items[panel.items["benchmark"] == paired[0]] if paired else panel.items.iloc[:0]
    if items.empty or items["quality"].isna().any():
        raise UserError(NO_TRUTH)
    odds = sharpness * items["quality"].to_numpy(float)
    drawn = np.random.default_rng(seed).random((annotators, len(items))) < 1 / (1 + np.exp(-odds))
    parts = [
        items[["benchmark", *ITEM]].assign(annotator=f"simulated {number}", verdict=votes.astype(float))
        for number, votes in enumerate(drawn, 1)
    ]
    return pd.concat(parts, ignore_index=True)


def describe_humans(annotators: int, sharpness: float = SHARPNESS) -> str:
    """What a table must say of them."""
    return (
        f"Humans: {annotators} annotators simulated from the truth (log-odds {sharpness:g} per unit of true score), "
        "not people."
    )
