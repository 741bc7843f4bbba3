"""What a judge favours besides quality, by one regression per judge and benchmark, errors clustered by question:

    verdict = a + position (+-1) + length tanh(difference / scale) + own (0 or 1) [+ s quality]

Without the true quality (pocket's), the other judges' mean verdict is subtracted: a bias that all share is not seen.
Probabilities are in log-odds (least squares); won, tied, lost in log-odds of the verdict (fractional logit, Papke &
Wooldridge 1996) given the true quality, else in shares of verdicts; grades in points."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import pandas as pd

from harness.stats import Array, Interval, holm, t_quantile, t_test
from reports.judge_comparison.agreement import verdict_labels
from reports.judge_comparison.panel import ITEM, Number, Panel
from reports.tables.summary import ALPHA

TRUTH: Final = "the truth"
OTHER_JUDGES: Final = "the other judges"
ONE_JUDGE: Final = "one other judge"
NOTHING: Final = "nothing"
LOG_ODDS: Final = "log-odds"
VERDICTS: Final = "log-odds of verdicts"
SHARES: Final = "share of verdicts"
POINTS: Final = "points"
EFFECTS: Final = ("position", "length", "own")
_CLIP: Final = 1e-6
_MIN_SHARE: Final = 0.5
"""A regressor that fewer lines have is not used; where more have it, the lines without it are dropped."""
_DIVERGED: Final = 15.0  # log-odds of an effect beyond which a logit has no finite solution


def is_identified(effect: Number) -> bool:
    """Whether it can be called a bias: position is randomised; without quality, longer answers may simply be better."""
    return effect.given in (TRUTH, OTHER_JUDGES) or effect.measure == "position"


def is_flagged(effect: Number) -> bool:
    return is_identified(effect) and effect.p is not None and effect.p < ALPHA


def bias_names(effects: Sequence[Number]) -> str:
    names = dict.fromkeys(effect.measure for effect in effects if is_flagged(effect))
    identified_names = dict.fromkeys(effect.measure for effect in effects if is_identified(effect))
    return ", ".join(names) or (f"{', '.join(identified_names)}: no bias shown" if identified_names else "not measured")


def bias_effects(panel: Panel, benchmark: str, judge: str, use_truth: bool = True) -> list[Number]:
    """All effects of one judge that the data can show; empty without verdicts."""
    lines = panel.judgments_of(benchmark, judge).dropna(subset=["verdict"])
    if lines.empty:
        return []
    y, unit, quality_source = _response(panel, benchmark, judge, lines, use_truth)
    regressors, per = _regressors(panel, judge, lines)
    controls = {"quality": lines["quality"].to_numpy(float)} if quality_source == TRUTH else {}
    complete = np.flatnonzero(~np.isnan(np.column_stack([y, *regressors.values(), *controls.values()])).any(axis=1))
    effects = {name: values[complete] for name, values in regressors.items() if np.ptp(values[complete]) > 0}
    if not effects:
        return []
    x = effects | {name: values[complete] for name, values in controls.items()}
    y, questions = y[complete], lines["question"].iloc[complete]
    fit = _fit(x, y, questions, logit=unit == VERDICTS)
    if fit is None and unit == VERDICTS:  # always the longer answer, say: infinite log-odds, but a finite share
        unit, fit = SHARES, _fit(x, y, questions, logit=False)
    if fit is None:
        return []
    adjusted_p = holm({name: fit[name][2] for name in effects})
    return [
        Number(
            name, benchmark, judge, "", "", fit[name][0], *fit[name][1], n=len(y), unit=unit, given=quality_source,
            per=per if name == "length" else "", p=adjusted_p[name],
        )
        for name in effects
    ]  # fmt: skip


def _response(panel: Panel, benchmark: str, judge: str, lines: pd.DataFrame, use_truth: bool) -> tuple[Array, str, str]:
    """What the regression explains [lines], in which unit, and what quality is."""
    verdicts, paired = lines["verdict"].to_numpy(float), panel.paired[benchmark]
    soft = paired and gives_probabilities(verdicts)
    truth = lines["quality"].to_numpy(float)
    if use_truth and np.mean(~np.isnan(truth)) > _MIN_SHARE:
        if not paired:
            return verdicts, POINTS, TRUTH
        return (log_odds(verdicts), LOG_ODDS, TRUTH) if soft else (verdict_labels(verdicts), VERDICTS, TRUTH)
    other_lines = panel.judgments_of(benchmark).query("judge != @judge").dropna(subset=["verdict"])
    by_judge = [group for _, group in other_lines.groupby("judge", sort=False)]
    # One judge that gives no probabilities has no other scale than its verdicts, so then all are on that scale.
    odds = soft and all(gives_probabilities(group["verdict"].to_numpy(float)) for group in by_judge)

    def opinion(values: Array) -> Array:
        return values if not paired else log_odds(values) if odds else verdict_labels(values) if not soft else values

    unit = POINTS if not paired else LOG_ODDS if odds else SHARES
    keys = pd.MultiIndex.from_frame(lines[ITEM])
    # Orders and repeats of the others are averaged first: what they think of an answer, whatever they were shown.
    opinions = [
        group.assign(opinion=opinion(group["verdict"].to_numpy(float))).groupby(ITEM)["opinion"].mean().reindex(keys)
        for group in by_judge
    ]
    y = opinion(verdicts)
    if not opinions or np.mean([column.notna().mean() for column in opinions]) <= _MIN_SHARE:
        return y, unit, NOTHING
    return y - np.mean(opinions, axis=0), unit, OTHER_JUDGES if len(opinions) > 1 else ONE_JUDGE


def _regressors(panel: Panel, judge: str, lines: pd.DataFrame) -> tuple[dict[str, Array], str]:
    """Effect to its regressor [lines], and what length is the effect of."""
    regressors: dict[str, Array] = {}
    paired, profile = panel.paired[lines["benchmark"].iloc[0]], panel.judges[judge]
    order = lines["model_first"].to_numpy(float)
    if paired and np.mean(~np.isnan(order)) > _MIN_SHARE:
        regressors["position"] = 2 * order - 1
    # A judge with a stated bias (pocket) states it in words; else AlpacaEval's scale, the SD of the difference.
    stated_words = profile.length_words
    size = lines["words" if stated_words else "length"].to_numpy(float)
    per = f"tanh(words / {stated_words:g})" if stated_words else "tanh(characters / SD)"
    if np.mean(~np.isnan(size)) > _MIN_SHARE and np.nanstd(size) > 0:
        # A comparison's difference has a zero, equal lengths; a grade's own length has none but its mean.
        centre = 0.0 if paired else float(np.nanmean(size))
        regressors["length"] = np.tanh((size - centre) / (stated_words or float(np.nanstd(size))))
    regressors["own"] = np.asarray(lines["row"].isin(profile.own_rows), dtype=np.float64)
    return regressors, per


def _fit(
    x: Mapping[str, Array], y: Array, questions: pd.Series[str], logit: bool
) -> dict[str, tuple[float, Interval, float]] | None:
    """Regressor to (coefficient, interval, p); ``None`` where the data do not determine the coefficients."""
    from statsmodels.genmod.families import Binomial
    from statsmodels.genmod.generalized_linear_model import GLM
    from statsmodels.regression.linear_model import OLS
    from statsmodels.tools.sm_exceptions import PerfectSeparationWarning

    columns = np.column_stack([np.ones(len(y)), *x.values()])
    clusters, names = pd.factorize(questions)
    if len(names) < 2 or np.linalg.matrix_rank(columns) < columns.shape[1]:
        return None
    model = GLM(y, columns, family=Binomial()) if logit else OLS(y, columns)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PerfectSeparationWarning)  # recognised below by its coefficients
        warnings.simplefilter("ignore", RuntimeWarning)  # probabilities of exactly 0 and 1, from the same cause
        fit = model.fit(cov_type="cluster", cov_kwds={"groups": clusters})
    estimates = list(zip(x, map(float, fit.params[1:]), map(float, fit.bse[1:]), strict=True))
    if logit and max(abs(value) for name, value, _ in estimates if name in EFFECTS) > _DIVERGED:
        return None
    # with few clusters sandwich errors are too small for a normal distribution
    freedom, result = len(names) - 1, {}
    for name, value, error in estimates:
        exact = max(abs(value), error) < 1e-9  # without noise: a rounding error is no effect
        p = 1.0 if exact else t_test(value / error, freedom) if error > 0 else 0.0
        reach = t_quantile(0.975, freedom) * error
        result[name] = (value, Interval(value - reach, value + reach), p)
    return result


def gives_probabilities(verdicts: Array) -> bool:
    """Whether a judge gives probabilities rather than won / tied / lost (or the five steps of a mean of two)."""
    valid_verdicts = verdicts[~np.isnan(verdicts)]
    return bool(len(valid_verdicts)) and float(np.isin(valid_verdicts, [0.0, 0.25, 0.5, 0.75, 1.0]).mean()) < 0.5


def log_odds(p: Array) -> Array:
    """Log-odds of probabilities, clipped to 1e-6 from 0 and 1 so that a certain judge stays finite."""
    probabilities = np.clip(p, _CLIP, 1 - _CLIP)
    return np.asarray(np.log(probabilities) - np.log1p(-probabilities))
