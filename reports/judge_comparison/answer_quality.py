"""How good each judged answer is, for measuring biases at equal quality: the truth, or what the other judges say.

What others say is quality plus noise, and a noisy regressor passes part of quality on to whatever goes with it
(length, say). So their opinions come in two halves with separate noise, one the instrument of the other (Fuller 1987,
Measurement Error Models). That needs two other judges: the taste of a single one is in both of its halves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from harness.stats import Array
from reports.judge_comparison.panel import ITEM, Panel

CLIP: Final = 1e-6
"""Probabilities are kept this far from 0 and 1 before their log-odds are taken."""
TRUTH: Final = "the truth"
OTHERS: Final = "the other judges"
ONE: Final = "one other judge"
NOTHING: Final = "nothing"
MOST: Final = 0.5
"""A feature or an opinion that fewer lines have is not used; where more have it, lines without it are left out."""
RELEVANT: Final = 10.0
"""F statistic of one half on the other, below which it is no instrument (Staiger & Stock 1997)."""


@dataclass(frozen=True)
class Quality:
    """Quality of each line."""

    given: str
    """``TRUTH``, ``OTHERS``, ``ONE`` or ``NOTHING``."""
    halves: tuple[Array, Array] | None = None
    """Two measurements [lines], the same array twice where there is one only; NaN where nobody said. ``None``: none."""
    shares: bool = False
    """Whether the measurements are shares of verdicts, since somebody gave no probabilities; else log-odds, points."""

    @property
    def twice(self) -> bool:
        """Whether there are two measurements."""
        return self.halves is not None and self.halves[0] is not self.halves[1]


def is_soft(verdicts: Array) -> bool:
    """Whether a judge gives probabilities rather than won / tied / lost (or five steps between them)."""
    given = verdicts[~np.isnan(verdicts)]
    return bool(len(given)) and float(np.isin(given, [0.0, 0.25, 0.5, 0.75, 1.0]).mean()) < 0.5


def logit(p: Array) -> Array:
    """Log-odds of probabilities, which are kept ``CLIP`` away from 0 and 1."""
    kept = np.clip(p, CLIP, 1 - CLIP)
    found: Array = np.log(kept) - np.log1p(-kept)
    return found


def won(verdicts: Array) -> Array:
    """0, 0.5 or 1: lost, tied, won."""
    found: Array = (1 + np.sign(verdicts - 0.5)) / 2
    return found


def quality_of(panel: Panel, benchmark: str, judge: str, lines: pd.DataFrame, use_truth: bool) -> Quality:
    """The quality of ``lines`` (calls of ``judge`` with the features of their items): the truth first."""
    truth = lines["quality"].to_numpy(float)
    if use_truth and np.mean(~np.isnan(truth)) > MOST:
        return Quality(TRUTH, (truth, truth))
    others = panel.of(benchmark).query("judge != @judge").dropna(subset=["verdict"])
    if others.empty:
        return Quality(NOTHING)
    opinion, shares = _opinions(panel.of(benchmark), others, panel.paired[benchmark])
    names = list(dict.fromkeys(others["judge"]))
    half = _halves(others, names)
    sides = []
    for side in (0, 1):
        by_judge = opinion[half == side].groupby([others[name] for name in (*ITEM, "judge")]).mean()
        sides.append(by_judge.groupby(ITEM).mean())
    keys = pd.MultiIndex.from_frame(lines[ITEM])
    first, second = (np.asarray(side.reindex(keys), dtype=np.float64) for side in sides)
    if np.mean(~np.isnan(first)) <= MOST:
        return Quality(NOTHING)
    if len(names) < 2 or np.mean(~np.isnan(first + second)) <= MOST:
        return Quality(ONE, (first, first), shares)
    return Quality(OTHERS, (first, second), shares)


def _opinions(calls: pd.DataFrame, others: pd.DataFrame, paired: bool) -> tuple[pd.Series[float], bool]:
    """(each call's opinion about its judge's mean, whether in shares): log-odds only if all judges give probabilities.

    Args:
        calls: of all judges.
        others: those whose opinions they are.
    """
    verdicts = others["verdict"].to_numpy(float)
    shares = False
    if paired:
        softs = {name: is_soft(each.to_numpy(float)) for name, each in calls.groupby("judge")["verdict"]}
        shares = not all(softs.values())
        soft = others["judge"].map(softs).to_numpy(bool)
        verdicts = np.where(soft, verdicts, won(verdicts)) if shares else logit(verdicts)
    opinion = pd.Series(verdicts, index=others.index)
    return opinion - opinion.groupby(others["judge"]).transform("mean"), shares


def _halves(others: pd.DataFrame, names: list[str]) -> pd.Series[int]:
    """0 or 1 for each call: every second judge; of a single one, all that it said is one half."""
    return others["judge"].map({name: number % 2 for number, name in enumerate(names)})


def relevant(base: Array, halves: tuple[Array, Array], items: int) -> bool:
    """Whether two halves [lines] of what is said of ``items`` have something in common besides ``base`` [lines, k]."""
    one, two = (half - base @ np.linalg.lstsq(base, half, rcond=None)[0] for half in halves)
    size = float(np.sqrt((one @ one) * (two @ two)))
    if size < 1e-12:
        return False
    r = float(one @ two) / size
    free = items - base.shape[1] - 1
    return r > 0 and free > 0 and (r >= 1 or r * r / (1 - r * r) * free > RELEVANT)
