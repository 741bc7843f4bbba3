"""What a judge favours besides quality: the first place, length, lists, markdown, its own family's answers.

One regression per judge and benchmark, each effect given the others, lines clustered by question. For a judge that
gives probabilities, on the log-odds scale:

    logit p(model preferred) = a + s quality + position (+-1) + length tanh(dl / scale) + lists d + markdown d + own f

``position`` is the log-odds in favour of whatever is shown first. ``quality`` is the truth where it is known (pocket),
else the opinion of the other judges (``quality.py``); then every effect is relative to them, and that of ``own`` is
the difference in differences of self-preference. Grades: the same in points.

Verdicts that are only won, tied or lost: given the truth, a fractional logit, whose scale is that of the judge's own
noise. Given other judges there is no instrument for a logit, and one of them who gives no probabilities tells quality
on no other scale than that of its verdicts: then all are shares of verdicts in a linear model, where an instrument
does its work. So are verdicts that a column separates, whose log-odds are infinite. Position is the log-odds of pairs
that flip (conditional logit) in any case.

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
from reports.judge_comparison.answer_quality import (
    MOST,
    NOTHING,
    OTHERS,
    TRUTH,
    Quality,
    is_soft,
    logit,
    quality_of,
    relevant,
    won,
)
from reports.judge_comparison.panel import ITEM, Codes, Panel, cluster_sums, clusters
from reports.judge_comparison.regression import Fit, independent, least_squares, logistic

ALPHA = 0.05
FEW: Final = 20
"""Items with a difference (in lists, say) below which its effect is not estimated."""
BINS: Final = 20
"""Quantiles of a quality in whose straight line shares of verdicts need not rise; at least ``BIN`` lines in each."""
BIN: Final = 10
_SAME: Final = 1 - 1e-9
EFFECTS: Final = ("position", "length", "lists", "markdown", "own")
LOG_ODDS: Final = "log-odds"
VERDICTS: Final = "log-odds of verdicts"
SHARES: Final = "share of verdicts"
POINTS: Final = "points"
Found = tuple[float, float, Interval, float]
"""Value, standard error, interval, p-value."""


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
    """``LOG_ODDS`` (of a probability), ``VERDICTS`` (log-odds), ``SHARES`` (of verdicts, 0..1) or ``POINTS``."""
    given: str
    """What quality was: ``TRUTH``, ``OTHERS``, ``ONE`` (other judge) or ``NOTHING``."""
    per: str = ""
    """Of what it is the effect, where the name does not say: ``tanh(words / 10)``."""
    also: tuple[str, ...] = ()
    """Effects that cannot be told from this one: answers differ in all of them or in none."""

    @property
    def sound(self) -> bool:
        """Whether it can be called a bias. Longer answers may simply be better: not without quality, and the one other
        judge may have a taste of its own. Position needs no quality."""
        return self.given in (TRUTH, OTHERS) or self.name == "position"

    @property
    def flagged(self) -> bool:
        """Whether the judge is said to have this bias."""
        return self.p_holm < ALPHA and self.sound


@dataclass(frozen=True)
class Setting:
    """How effects are measured."""

    length: str = "length"
    """Column of ``Panel.items``: ``length`` (characters) or ``words``."""
    length_scale: float | None = None
    """Difference at which tanh reaches 0.76; ``None``: that of the judge's own stated bias in words
    (``Facts.length_words``), else the standard deviation of the differences, as AlpacaEval's."""
    use_truth: bool = True
    """Whether the truth, where it is known, stands for quality."""


@dataclass(frozen=True)
class Columns:
    """The regressors of one judge on one benchmark."""

    values: Mapping[str, Array]
    """Effect to [lines]; no one is determined by the others."""
    also: Mapping[str, tuple[str, ...]]
    """Effect to others that are the same on all lines."""
    per: str
    """What length is the effect of."""


def effects(panel: Panel, benchmark: str, judge: str, setting: Setting = Setting()) -> list[Effect]:
    """All effects of one judge that the data can show; empty without verdicts."""
    calls = panel.of(benchmark, judge).dropna(subset=["verdict"])
    if calls.empty:
        return []
    paired = panel.paired[benchmark]
    lines = calls.merge(panel.items[panel.items["benchmark"] == benchmark], on=["benchmark", *ITEM], how="left")
    soft = paired and is_soft(lines["verdict"].to_numpy(float))
    flips = conditional_position(lines) if paired and not soft else None
    quality = quality_of(panel, benchmark, judge, lines, setting.use_truth)
    lines, quality = _whole(lines, quality, _length(setting, panel.judges[judge].length_words)[0])
    columns: Columns
    found: dict[str, Found]
    units: dict[str, str]
    columns, found, units = Columns({}, {}, ""), {}, {}
    if len(lines):
        columns = _columns(panel, judge, lines, setting, quality)
        quality = _usable(lines, columns, quality)
        found, units = _measured(lines, columns, quality, paired, soft)
    if flips is not None:
        others = {name: each for name, each in found.items() if name != "position"}
        found, units = {"position": flips, **others}, units | {"position": VERDICTS}
    adjusted = holm({name: each[3] for name, each in found.items()})
    return [
        Effect(
            name, value, interval, p, adjusted[name], units[name], quality.given,
            columns.per if name == "length" else "", columns.also.get(name, ()),
        )
        for name, (value, _, interval, p) in found.items()
    ]  # fmt: skip


def _whole(lines: pd.DataFrame, quality: Quality, length: str) -> tuple[pd.DataFrame, Quality]:
    """The lines that lack nothing which most lines have."""
    whole = np.ones(len(lines), dtype=bool)
    for name in ("model_first", length, "lists", "markdown"):
        has = lines[name].notna().to_numpy()
        whole &= has | (has.mean() <= MOST)
    if quality.halves is None:
        return lines[whole], quality
    first, second = quality.halves
    whole &= ~np.isnan(first + second)
    kept = first[whole]
    return lines[whole], Quality(quality.given, (kept, second[whole] if quality.twice else kept), quality.shares)


def _length(setting: Setting, stated: float | None) -> tuple[str, float | None]:
    """Column and scale of length: as set, else as the judge's stated bias has it."""
    if setting.length_scale is None and stated is not None:
        return "words", stated
    return setting.length, setting.length_scale


def _columns(panel: Panel, judge: str, lines: pd.DataFrame, setting: Setting, quality: Quality) -> Columns:
    """The regressors that vary (in more than a few items) and that the others do not determine."""
    paired = panel.paired[lines["benchmark"].iloc[0]]
    found: dict[str, Array] = {}
    order = lines["model_first"].to_numpy(float)
    if paired and not np.isnan(order).any() and len(np.unique(order)) == 2:
        found["position"] = 2 * order - 1
    column, fixed = _length(setting, panel.judges[judge].length_words)
    size = lines[column].to_numpy(float)
    per = ""
    if not np.isnan(size).any() and np.ptp(size) > 0:
        centre = 0.0 if paired else float(size.mean())
        scale = float(size.std()) if fixed is None else fixed
        found["length"] = np.tanh((size - centre) / scale)
        per = f"tanh({'characters' if column == 'length' else column} / {'SD' if fixed is None else f'{fixed:g}'})"
    items = lines.drop_duplicates(ITEM)
    for name in ("lists", "markdown"):
        values = lines[name].to_numpy(float)
        common = items[name].mode()
        if len(common) and not np.isnan(values).any() and int((items[name] != common.iloc[0]).sum()) >= FEW:
            found[name] = values
    own = np.asarray(lines["row"].isin(panel.judges[judge].own), dtype=np.float64)
    if 0 < own.sum() < len(own):
        found["own"] = own
    known = [np.ones(len(lines)), *(quality.halves or ())]
    kept = independent(np.column_stack(known), found)
    twins: dict[str, tuple[str, ...]] = {}
    for name in found:
        same = [each for each in kept if np.corrcoef(kept[each], found[name])[0, 1] > _SAME]
        if same and name not in kept:
            twins[same[0]] = (*twins.get(same[0], ()), name)
    return Columns(kept, twins, per)


def _usable(lines: pd.DataFrame, columns: Columns, quality: Quality) -> Quality:
    """The quality, unless its two halves have nothing in common: then they are no instruments."""
    if quality.halves is None or not quality.twice:
        return quality
    base = np.column_stack([np.ones(len(lines)), *columns.values.values()])
    return quality if relevant(base, quality.halves, len(lines.drop_duplicates(ITEM))) else Quality(NOTHING)


def _measured(
    lines: pd.DataFrame, columns: Columns, quality: Quality, paired: bool, soft: bool
) -> tuple[dict[str, Found], dict[str, str]]:
    """(effect to what was found, effect to its unit)."""
    codes, count = clusters(lines["question"])
    verdicts = lines["verdict"].to_numpy(float)
    y = verdicts if soft or not paired else won(verdicts)
    unit = POINTS if not paired else SHARES if quality.shares else LOG_ODDS if soft else VERDICTS
    fit = None
    if unit == VERDICTS:
        used = _regressors(columns, quality, len(y), bins=False)
        fit = logistic(list(used), np.column_stack(list(used.values())), y, codes, count)
        unit = VERDICTS if fit else SHARES
    if fit is None:
        fit = _linear(columns, quality, logit(y) if unit == LOG_ODDS else y, (codes, count), unit == SHARES)
    if fit is None:
        return {}, {}
    found = {name: fit.effect(name) for name in columns.values}
    units = dict.fromkeys(found, unit)
    if soft and unit == SHARES and "position" in found:  # which needs no quality: on the scale of other soft judges
        alone = _linear(columns, Quality(NOTHING), logit(verdicts), (codes, count), bins=False)
        if alone:
            found["position"], units["position"] = alone.effect("position"), LOG_ODDS
    return found, units


def _regressors(columns: Columns, quality: Quality, lines: int, bins: bool) -> dict[str, Array]:
    """Name to [lines]: a constant, the effects, and quality (or its bins too) where there is one measurement of it."""
    base = {"constant": np.ones(lines), **columns.values}
    if quality.halves is None or quality.twice:
        return base
    values = quality.halves[0]
    more = {"quality": values}
    if bins:
        count = min(BINS, lines // BIN)
        places = np.digitize(values, np.quantile(values, np.arange(1, count) / max(count, 1)))
        more |= {f"quality bin {place}": (places == place).astype(float) for place in range(1, count)}
    return base | independent(np.column_stack(list(base.values())), more)


def _linear(columns: Columns, quality: Quality, y: Array, cluster: tuple[Codes, int], bins: bool) -> Fit | None:
    """Least squares; with two measurements of quality, each is once regressor and once the instrument of the other.

    Each has its own constant and slope, since the two halves of the judges need not be equally sharp.
    """
    codes, count = cluster
    used = _regressors(columns, quality, len(y), bins)
    names, x = list(used), np.column_stack(list(used.values()))
    if quality.halves is None or not quality.twice:
        return least_squares(names, x, y, codes, count)
    none = np.zeros(len(y))
    blocks = []
    for first, second in (quality.halves, quality.halves[::-1]):
        upper = np.column_stack([x, none, first, none])
        lower = np.column_stack([x, none + 1, none, second])
        blocks.append(np.vstack([upper, lower]))
    names = [*names, "second constant", "first half", "second half"]
    return least_squares(names, blocks[0], np.tile(y, 2), np.tile(codes, 2), count, blocks[1])


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
