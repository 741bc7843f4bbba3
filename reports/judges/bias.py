"""What a judge favours besides quality: the first place, length, lists, markdown, its own family's answers.

One regression per judge and benchmark, each effect given the others, lines clustered by question. For a judge that
gives probabilities, on the log-odds scale:

    logit p(model preferred) = a + s quality + position (+-1) + length tanh(dl / scale) + lists d + markdown d + own f

``position`` is the log-odds in favour of whatever is shown first. ``quality`` is the truth where it is known (pocket),
else the opinion of the other judges; then every effect is relative to them, and that of ``own`` is the difference in
differences of self-preference. Since other judges' opinions are noisy, one half of them is the instrument of the
other half (Fuller 1987, Measurement Error Models). A judge that only says won, tied or lost gets the same regression
as a fractional logit. There the scale is that of its own verdict noise. Grades: least squares, in points.

Position has a second measure, on pairs asked in both orders: the flip rate less the disagreement of plain repeats
(Shi et al. 2024, arXiv 2406.07791), so that noise is not called bias.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from harness.stats import Array, Interval, holm
from reports.judges.panel import ITEM, Panel, cluster_sums, clusters
from reports.judges.regression import Fit, least_squares, logistic

ALPHA = 0.05
CLIP: Final = 1e-6
"""Probabilities are kept this far from 0 and 1 before their log-odds are taken."""
FEW: Final = 20
"""Items with a difference (in lists, say) below which its effect is not estimated."""
NOTHING: Final = "nothing"
EFFECTS: Final = ("position", "length", "lists", "markdown", "own")


@dataclass(frozen=True)
class Effect:
    """One bias of one judge on one benchmark."""

    name: str
    """One of ``EFFECTS``."""
    value: float
    interval: Interval
    p: float
    p_holm: float
    """After Holm's correction over this judge's effects on this benchmark."""
    unit: str
    """``log-odds`` (of a probability), ``log-odds of verdicts`` or ``points``."""
    given: str
    """What quality was: ``the truth``, ``the other judges`` or ``nothing``."""

    @property
    def flagged(self) -> bool:
        """Whether the judge is said to have this bias. Longer answers may simply be better: not without quality."""
        return self.p_holm < ALPHA and (self.given != NOTHING or self.name == "position")


@dataclass(frozen=True)
class Setting:
    """How effects are measured."""

    length: str = "length"
    """Column of ``Panel.items``: ``length`` (characters) or ``words``."""
    length_scale: float | None = None
    """Difference at which tanh reaches 0.76; ``None``: the standard deviation of the differences, as AlpacaEval's."""
    use_truth: bool = True
    """Whether the truth, where it is known, stands for quality."""


def is_soft(verdicts: Array) -> bool:
    """Whether a judge gives probabilities rather than won / tied / lost (or five steps between them)."""
    given = verdicts[~np.isnan(verdicts)]
    return bool(len(given)) and float(np.isin(given, [0.0, 0.25, 0.5, 0.75, 1.0]).mean()) < 0.5


def logit(p: Array) -> Array:
    """Log-odds of probabilities, which are kept ``CLIP`` away from 0 and 1."""
    kept = np.clip(p, CLIP, 1 - CLIP)
    found: Array = np.log(kept) - np.log1p(-kept)
    return found


def effects(panel: Panel, benchmark: str, judge: str, setting: Setting = Setting()) -> list[Effect]:
    """All effects of one judge that the data can show; empty without verdicts."""
    calls = panel.of(benchmark, judge).dropna(subset=["verdict"])
    if calls.empty:
        return []
    paired = panel.paired[benchmark]
    lines = calls.merge(panel.items[panel.items["benchmark"] == benchmark], on=["benchmark", *ITEM], how="left")
    soft = paired and is_soft(lines["verdict"].to_numpy(float))
    quality, given = _quality(panel, benchmark, judge, lines, setting)
    if quality is not None:  # items on which nobody else gave an opinion say nothing about bias given quality
        known = ~np.isnan(quality[0] + quality[1])
        lines, quality = lines[known], (quality[0][known], quality[1][known])
    columns = _columns(panel, judge, lines, setting, paired)
    y = lines["verdict"].to_numpy(float)
    if soft:
        y = logit(y)
    elif paired:
        y = (1 + np.sign(y - 0.5)) / 2
    fit = _fit(columns, quality, y, lines["question"], linear=soft or not paired)
    if fit is None:
        return []
    unit = "points" if not paired else "log-odds" if soft else "log-odds of verdicts"
    found = {name: fit.effect(name) for name in columns if name in EFFECTS}
    if paired and not soft and "position" in found and (pairs := conditional_position(lines)) is not None:
        found["position"] = pairs
    adjusted = holm({name: effect[3] for name, effect in found.items()})
    return [
        Effect(name, value, interval, p, adjusted[name], unit, given) for name, (value, _, interval, p) in found.items()
    ]


def _columns(panel: Panel, judge: str, lines: pd.DataFrame, setting: Setting, paired: bool) -> dict[str, Array]:
    """Regressor to its values; those that do not vary (or vary in a few items only) are left out."""
    found: dict[str, Array] = {}
    order = lines["model_first"].to_numpy(float)
    if paired and not np.isnan(order).any() and len(np.unique(order)) == 2:
        found["position"] = 2 * order - 1
    size = lines[setting.length].to_numpy(float)
    if not np.isnan(size).any() and np.ptp(size) > 0:
        centre = 0.0 if paired else float(size.mean())
        scale = float(size.std()) if setting.length_scale is None else setting.length_scale
        found["length"] = np.tanh((size - centre) / scale)
    items = lines.drop_duplicates(ITEM)
    for name in ("lists", "markdown"):
        values = lines[name].to_numpy(float)
        common = items[name].mode()
        if len(common) and not np.isnan(values).any() and int((items[name] != common.iloc[0]).sum()) >= FEW:
            found[name] = values
    own = np.asarray(lines["row"].isin(panel.judges[judge].own), dtype=np.float64)
    if 0 < own.sum() < len(own):
        found["own"] = own
    return found


def _quality(
    panel: Panel, benchmark: str, judge: str, lines: pd.DataFrame, setting: Setting
) -> tuple[tuple[Array, Array] | None, str]:
    """Two measurements of each line's quality (the same one twice where there is one only), and what they are."""
    truth = lines["quality"].to_numpy(float)
    if setting.use_truth and not np.isnan(truth).any():
        return (truth, truth), "the truth"
    halves = _opinions(panel, benchmark, judge)
    if halves is None:
        return None, NOTHING
    keys = pd.MultiIndex.from_frame(lines[ITEM])
    first, second = (np.asarray(half.reindex(keys), dtype=np.float64) for half in halves)
    if np.isnan(first + second).mean() > 0.5:
        return None, NOTHING
    return (first, second), "the other judges"


def _opinions(panel: Panel, benchmark: str, judge: str) -> tuple[pd.Series[float], pd.Series[float]] | None:
    """Two independent halves of what the others say of each item: half of the judges, of the orders, or of repeats."""
    others = panel.of(benchmark).query("judge != @judge").dropna(subset=["verdict"])
    if others.empty:
        return None
    names = list(dict.fromkeys(others["judge"]))
    keys = [*ITEM, "judge"]
    if len(names) > 1:
        half = others["judge"].map({name: number % 2 for number, name in enumerate(names)})
    else:
        half = others.sort_values(["part", "repeat"]).groupby(ITEM).cumcount() % 2
        half = half.reindex(others.index)
    paired = panel.paired[benchmark]
    sides: list[pd.Series[float]] = []
    for side in (0, 1):
        chosen = others[half == side]
        if chosen.empty:  # a single judgment of each item: no second half, and slopes shrink by its noise
            return (sides[0], sides[0]) if sides else None
        opinion = chosen.groupby(keys)["verdict"].agg(["mean", "size"])
        if paired:
            softs = {name: is_soft(others.loc[others["judge"] == name, "verdict"].to_numpy(float)) for name in names}
            chosen = chosen.assign(opinion=_log_odds(chosen, softs))
            opinion_of = chosen.groupby(keys)["opinion"].mean()
        else:
            opinion_of = opinion["mean"]
        sides.append(opinion_of.groupby(ITEM).mean())
    return sides[0], sides[1]


def _log_odds(calls: pd.DataFrame, softs: Mapping[str, bool]) -> Array:
    """Each call as log-odds: its own for a probability, those of 3/4 for a win of a judge that gives none."""
    soft = calls["judge"].map(dict(softs)).to_numpy(bool)
    verdicts = calls["verdict"].to_numpy(float)
    found: Array = np.where(soft, logit(verdicts), logit(0.5 + 0.25 * np.sign(verdicts - 0.5)))
    return found


def _fit(
    columns: Mapping[str, Array], quality: tuple[Array, Array] | None, y: Array, questions: pd.Series[str], linear: bool
) -> Fit | None:
    """The regression; with two different measurements of quality, each is once regressor and once instrument."""
    names = ["constant", *columns]
    base = np.column_stack([np.ones(len(y)), *columns.values()])
    codes, count = clusters(questions)
    if quality is None:
        return (least_squares if linear else logistic)(names, base, y, codes, count)
    names = [*names, "quality"]
    with_first, with_second = (np.column_stack([base, half]) for half in quality)
    if not linear:
        return logistic(names, np.column_stack([base, (quality[0] + quality[1]) / 2]), y, codes, count)
    if np.array_equal(quality[0], quality[1]):
        return least_squares(names, with_first, y, codes, count)
    x, z = np.vstack([with_first, with_second]), np.vstack([with_second, with_first])
    return least_squares(names, x, np.tile(y, 2), np.tile(codes, 2), count, z)


def conditional_position(lines: pd.DataFrame) -> tuple[float, float, Interval, float] | None:
    """Log-odds for the first place from pairs asked in both orders: half the log-ratio of the two kinds of flip.

    Conditioning on a pair removes its quality altogether (conditional logit). A half is added to either count. The
    error is that of the log-ratio with questions as clusters (delta method), at least that of independent pairs.
    """
    from scipy.stats import t

    wide = both_orders(lines)
    if wide.empty:
        return None
    first = (np.sign(wide[1.0] - 0.5) - np.sign(wide[0.0] - 0.5)).to_numpy(float) / 2
    codes, count = clusters(wide.index.get_level_values("question"))
    kinds = cluster_sums(np.column_stack([np.maximum(first, 0), np.maximum(-first, 0)]), codes, count)
    if count < 2:
        return None
    ahead, behind = kinds.sum(axis=0) + 0.5
    value = float(np.log(ahead / behind) / 2)
    influence = (kinds[:, 0] / ahead - kinds[:, 1] / behind) / 2
    error = float(np.sqrt((influence**2).sum() * count / (count - 1)))
    # Clusters say nothing of a kind that never occurred: never less than the error of independent pairs.
    error = max(error, float(np.sqrt(1 / ahead + 1 / behind) / 2))
    reach = float(t.ppf(0.975, count - 1)) * error
    return value, error, Interval(value - reach, value + reach), float(2 * t.sf(abs(value) / error, count - 1))


def both_orders(lines: pd.DataFrame) -> pd.DataFrame:
    """[items, (0.0, 1.0)] mean verdict of each item shown second and first, where both were asked."""
    known = lines.dropna(subset=["model_first", "verdict"])
    wide = known.pivot_table("verdict", ITEM, "model_first", aggfunc="mean")
    return wide.dropna() if {0.0, 1.0} <= set(wide.columns) else wide.iloc[:0]
