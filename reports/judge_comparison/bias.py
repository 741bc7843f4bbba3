"""What a judge favours besides quality: the answer shown first, the longer answer, answers of its own family.

One regression per judge and benchmark, with errors clustered by question:

    verdict = a + position (+-1) + length tanh(difference / scale) + own (0 or 1) [+ s quality]

Where the true quality is known (pocket) it is a regressor. Elsewhere the mean verdict of the other judges is
subtracted from the judge's own, so that quality which all judges see alike cancels: each effect is a difference in
differences, relative to the other judges. A bias that all judges share cannot be seen that way.

Verdicts that are probabilities are measured in log-odds (least squares). Verdicts that are only won, tied or lost are
measured in log-odds of the verdict (fractional logit, Papke & Wooldridge 1996) given the true quality, and in shares
of verdicts relative to other judges. Grades are measured in points.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from harness.stats import Array, Interval, holm, t_quantile, t_test
from reports.judge_comparison.agreement import won
from reports.judge_comparison.panel import ITEM, Panel

ALPHA: Final = 0.05
TRUTH: Final = "the truth"
OTHERS: Final = "the other judges"
ONE: Final = "one other judge"
NOTHING: Final = "nothing"
LOG_ODDS: Final = "log-odds"
VERDICTS: Final = "log-odds of verdicts"
SHARES: Final = "share of verdicts"
POINTS: Final = "points"
EFFECTS: Final = ("position", "length", "own")
_CLIP: Final = 1e-6
_MOST: Final = 0.5
"""A regressor that fewer lines have is not used; where more have it, the lines without it are dropped."""
_DIVERGED: Final = 15.0
"""Log-odds of an effect beyond which a logit has no finite solution: its regressor separates the verdicts."""


@dataclass(frozen=True)
class BiasEffect:
    """One bias of one judge on one benchmark."""

    name: str
    """One of ``EFFECTS``."""
    value: float
    interval: Interval
    p_holm: float
    """After Holm's correction over this judge's effects on this benchmark."""
    unit: str
    """``LOG_ODDS`` (of a probability), ``VERDICTS`` (log-odds), ``SHARES`` (of verdicts, 0..1) or ``POINTS``."""
    given: str
    """What quality is: ``TRUTH``, ``OTHERS``, ``ONE`` (other judge) or ``NOTHING``."""
    per: str = ""
    """What ``length`` is the effect of: ``tanh(words / 10)``."""

    @property
    def identified(self) -> bool:
        """Whether it can be called a bias. Without quality, longer answers may simply be better; one other judge may
        have a taste of its own. Position is randomised and needs no quality."""
        return self.given in (TRUTH, OTHERS) or self.name == "position"

    @property
    def flagged(self) -> bool:
        """Whether the tables report it as a bias."""
        return self.identified and self.p_holm < ALPHA


@dataclass(frozen=True)
class BiasResponse:
    """What the regression explains."""

    y: Array
    """[lines]"""
    unit: str
    given: str
    quality: Array | None = None
    """[lines] the true quality, where it is a regressor."""


def bias_effects(panel: Panel, benchmark: str, judge: str, use_truth: bool = True) -> tuple[BiasEffect, ...]:
    """All effects of one judge that the data can show; empty without verdicts."""
    calls = panel.of(benchmark, judge).dropna(subset=["verdict"])
    items = panel.items[panel.items["benchmark"] == benchmark]
    lines = calls.merge(items, on=["benchmark", *ITEM], how="left")
    if lines.empty:
        return ()
    response = _response(panel, benchmark, judge, lines, use_truth)
    columns, per = _columns(panel, judge, lines)
    whole = ~np.isnan(response.y)
    for values in (*columns.values(), *(() if response.quality is None else (response.quality,))):
        whole &= ~np.isnan(values)
    columns = {name: values[whole] for name, values in columns.items() if np.ptp(values[whole]) > 0}  # else no effect
    if not columns:
        return ()
    controls = {} if response.quality is None else {"quality": response.quality[whole]}
    y, questions, unit = response.y[whole], lines["question"][whole], response.unit
    fit = _fit({**columns, **controls}, y, questions, logit=unit == VERDICTS)
    if fit is None and unit == VERDICTS:  # always the longer answer, say: infinite log-odds, but a finite share
        unit, fit = SHARES, _fit({**columns, **controls}, y, questions, logit=False)
    if fit is None:
        return ()
    adjusted = holm({name: fit[name][2] for name in columns})
    return tuple(
        BiasEffect(name, *fit[name][:2], adjusted[name], unit, response.given, per if name == "length" else "")
        for name in columns
    )


def _response(panel: Panel, benchmark: str, judge: str, lines: pd.DataFrame, use_truth: bool) -> BiasResponse:
    verdicts, paired = lines["verdict"].to_numpy(float), panel.paired[benchmark]
    soft = paired and gives_probabilities(verdicts)
    truth = lines["quality"].to_numpy(float)
    if use_truth and np.mean(~np.isnan(truth)) > _MOST:
        if not paired:
            return BiasResponse(verdicts, POINTS, TRUTH, truth)
        return BiasResponse(log_odds(verdicts) if soft else won(verdicts), LOG_ODDS if soft else VERDICTS, TRUTH, truth)
    others = panel.of(benchmark).query("judge != @judge").dropna(subset=["verdict"])
    by_judge = {str(name): group for name, group in others.groupby("judge", sort=False)}
    # One judge that gives no probabilities has no other scale than its verdicts, so then all are on that scale.
    odds = soft and all(gives_probabilities(group["verdict"].to_numpy(float)) for group in by_judge.values())

    def opinion(values: Array) -> Array:
        return values if not paired else log_odds(values) if odds else won(values) if not soft else values

    unit = POINTS if not paired else LOG_ODDS if odds else SHARES
    keys = pd.MultiIndex.from_frame(lines[ITEM])
    opinions = [
        group.assign(opinion=opinion(group["verdict"].to_numpy(float))).groupby(ITEM)["opinion"].mean().reindex(keys)
        for group in by_judge.values()
    ]
    y = opinion(verdicts)
    if not opinions or np.mean([each.notna().mean() for each in opinions]) <= _MOST:
        return BiasResponse(y, unit, NOTHING)
    return BiasResponse(y - np.mean(opinions, axis=0), unit, OTHERS if len(opinions) > 1 else ONE)


def _columns(panel: Panel, judge: str, lines: pd.DataFrame) -> tuple[dict[str, Array], str]:
    """Effect to its regressor [lines], and what length is the effect of."""
    columns: dict[str, Array] = {}
    paired, profile = panel.paired[lines["benchmark"].iloc[0]], panel.judges[judge]
    order = lines["model_first"].to_numpy(float)
    if paired and np.mean(~np.isnan(order)) > _MOST:
        columns["position"] = 2 * order - 1
    # A judge with a stated bias (pocket) states it in words; else AlpacaEval's scale, the SD of the difference.
    stated = profile.length_words
    size = lines["words" if stated else "length"].to_numpy(float)
    per = f"tanh(words / {stated:g})" if stated else "tanh(characters / SD)"
    if np.mean(~np.isnan(size)) > _MOST and np.nanstd(size) > 0:
        centre = 0.0 if paired else float(np.nanmean(size))
        columns["length"] = np.tanh((size - centre) / (stated or float(np.nanstd(size))))
    columns["own"] = np.asarray(lines["row"].isin(profile.own_rows), dtype=np.float64)
    return columns, per


def _fit(
    columns: dict[str, Array], y: Array, questions: pd.Series[str], logit: bool
) -> dict[str, tuple[float, Interval, float]] | None:
    """Regressor to (coefficient, interval, p); ``None`` where the data do not determine the coefficients.

    Student's t with clusters - 1 degrees of freedom, because few questions make sandwich errors too small.
    """
    from statsmodels.genmod.families import Binomial
    from statsmodels.genmod.generalized_linear_model import GLM
    from statsmodels.regression.linear_model import OLS
    from statsmodels.tools.sm_exceptions import PerfectSeparationWarning

    x = np.column_stack([np.ones(len(y)), *columns.values()])
    clusters, names = pd.factorize(questions)
    if len(names) < 2 or np.linalg.matrix_rank(x) < x.shape[1]:
        return None
    model = GLM(y, x, family=Binomial()) if logit else OLS(y, x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PerfectSeparationWarning)  # recognised below by its coefficients
        warnings.simplefilter("ignore", RuntimeWarning)  # probabilities of exactly 0 and 1, from the same cause
        fitted = model.fit(cov_type="cluster", cov_kwds={"groups": clusters})
    effects = [abs(value) for name, value in zip(columns, fitted.params[1:], strict=True) if name in EFFECTS]
    if logit and max(effects) > _DIVERGED:
        return None
    freedom = len(names) - 1
    found = {}
    for name, value, error in zip(columns, fitted.params[1:], fitted.bse[1:], strict=True):
        exact = max(abs(value), error) < 1e-9  # without noise: a rounding error is no effect
        p = 1.0 if exact else t_test(value / error, freedom) if error > 0 else 0.0
        reach = t_quantile(0.975, freedom) * float(error)
        found[name] = (float(value), Interval(float(value) - reach, float(value) + reach), p)
    return found


def gives_probabilities(verdicts: Array) -> bool:
    """Whether a judge gives probabilities rather than won / tied / lost (or the five steps of a mean of two)."""
    known = verdicts[~np.isnan(verdicts)]
    return bool(len(known)) and float(np.isin(known, [0.0, 0.25, 0.5, 0.75, 1.0]).mean()) < 0.5


def log_odds(p: Array) -> Array:
    """Log-odds of probabilities, clipped to 1e-6 from 0 and 1 so that a certain judge stays finite."""
    clipped = np.clip(p, _CLIP, 1 - _CLIP)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))
