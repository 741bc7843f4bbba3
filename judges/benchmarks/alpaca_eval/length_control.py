"""Length-controlled win rates: the GLM of AlpacaEval 2, its refits, and an interval that is one.

Dubois et al. 2024, arXiv 2404.04475. Per instruction i with preference y (probability that the model beats the
baseline): logit P = a * tanh(delta_i / std(delta)) + w * difficulty_i + b, where delta is baseline length minus model
length in characters. LC is the mean prediction with the length term set to 0. The official fit adds the rows of two
"gamed" baselines (no b, weight 0.1 each), an L1 penalty, and takes C by 5-fold cross-validation; liblinear's early
stopping is part of the published numbers, so the point estimate runs liblinear exactly as the official code does.
Without gamed rows (any other baseline, pocket) nothing ties the fit to theirs: one weak penalty, no cross-validation.

The official ``lc_standard_error`` is the spread of fitted values, not an error of LC (it is about half as large).
Here instructions are resampled and the GLM is refitted each time, C held, by a batched Newton method in numpy.
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.assets import locate, present
from harness.errors import UserError
from harness.stats import Array, percentile_interval
from harness.types import Question, Score
from judges.benchmarks.logistic import joint_difficulty, sigmoid, solve
from judges.benchmarks.scoring import resample_counts

METRIC = "alpaca_eval.lc"

HUB_FILE = "alpaca_eval/df_gamed.csv"
RECOVERED_GAMED = "alpaca_eval/df_gamed_recovered.csv"
RECOVERED_DIFFICULTY = "alpaca_eval/instruction_difficulty_recovered.csv"
OFFICIAL_BASELINE = "gpt4_1106_preview"
MIN_ENTRANTS = 3
"""Fewer entrants cannot tell a hard instruction from a bad model: then there is no difficulty term."""
COST_GRID = np.logspace(-4, 4, 10)
"""Candidates for C, the inverse strength of the L1 penalty."""
FOLDS = 5
GAMED_WEIGHT = 0.1
"""Weight of a gamed row beside 1 for a row of the model: lambda 0.2 shared by two gamed baselines."""
MIN_QUESTIONS = 100
"""Below this the length and the difficulty term cannot be told from chance, and LC is not reported."""
WEAK_COST = 100.0
"""C without gamed rows. Of bias and length alone cross-validation at times chooses the strongest penalty, under which
every coefficient is 0 and LC is 50 whatever was judged. This one moves LC by at most 100 / (C n) points, 0.01 at 100
instructions, and still keeps a model that wins everything finite."""
MIN_SPREAD = 0.1
"""Standard deviation of the length feature below which, without gamed rows, length and ability cannot be told apart:
beside a mean near 1 (lengths some 3 standard deviations apart) LC has 100 times the variance of the win rate."""
_SEED = 123  # of liblinear's coordinate order, fixed by the official code
_CHUNK = 128  # replicates solved at once: bounds memory and keeps the arrays in cache


class GamedRows(NamedTuple):
    """The annotated rows of the gamed baselines, the same for every model."""

    preference: Array
    length: Array
    """tanh of the standardised length difference."""
    difficulty: Array


NO_GAMED = GamedRows(np.zeros(0), np.zeros(0), np.zeros(0))


class JudgedRows(NamedTuple):
    """One model's annotated instructions."""

    preference: Array
    """Probability that the model beats the baseline, 0..1."""
    delta: Array
    """Baseline length minus model length, characters."""
    difficulty: Array


@dataclass(frozen=True)
class LengthFit:
    """A fitted GLM."""

    coef: Array
    """Length, difficulty, bias."""
    cost: float
    """The C that cross-validation chose, or ``WEAK_COST``."""
    value: float
    """LC in percent."""
    predictions: Array
    """Per instruction, percent, at equal length."""

    @property
    def official_error(self) -> float:
        """The published ``lc_standard_error``: the standard error of the mean of the predictions, percent."""
        return float(self.predictions.std(ddof=1) / np.sqrt(self.predictions.size))


def length_feature(delta: Array) -> Array:
    """tanh of the length difference in units of its sample standard deviation; 0 where all differences are equal."""
    spread = float(delta.std(ddof=1)) if delta.size > 1 else 0.0
    return np.tanh(delta / spread) if spread > 0 else np.zeros_like(delta)


def confounded(delta: Array) -> bool:
    """Whether all answers are so much longer (or shorter) than the baseline's that the length feature is near constant.

    It then explains the verdicts as well as the bias does, and their fit says 50 or anything else. Equal lengths and
    equal differences have the feature 0 and are no such case; neither are fits with gamed rows, which have no bias.
    """
    feature = length_feature(delta)
    return bool(feature.any()) and float(feature.std()) < MIN_SPREAD


def _design(rows: JudgedRows, gamed: GamedRows) -> tuple[Array, Array, Array]:
    """(x [gamed + rows, 3], preference, weight), gamed rows first as in the official code."""
    n, extra = rows.preference.size, gamed.preference.size
    length = np.concatenate([gamed.length, length_feature(rows.delta)])
    difficulty = np.concatenate([gamed.difficulty, rows.difficulty])
    bias = np.concatenate([np.zeros(extra), np.ones(n)])
    preference = np.concatenate([gamed.preference, rows.preference])
    return np.column_stack([length, difficulty, bias]), preference, np.where(bias > 0, 1.0, GAMED_WEIGHT)


def _folds(size: int) -> NDArray[np.int64]:
    """Fold of each row: what a grouped 5-fold split with a stable sort gives for groups of equal size."""
    folds: NDArray[np.int64] = (size - 1 - np.arange(size, dtype=np.int64)) % FOLDS
    return folds


def _log_loss(logits: Array, preference: Array, weight: Array) -> Array:
    """Weighted mean log loss over the last axis, probabilities clipped as in the official code."""
    p = np.clip(sigmoid(logits), 1e-15, 1 - 1e-15)
    losses = -(preference * np.log(p) + (1 - preference) * np.log(1 - p))
    return np.asarray((losses * weight).mean(axis=-1))


def _length_fit(coef: Array, cost: float, rows: JudgedRows) -> LengthFit:
    predictions = 100 * sigmoid(coef[1] * rows.difficulty + coef[2])
    return LengthFit(coef, float(cost), float(predictions.mean()), predictions)


def fit_official(rows: JudgedRows, gamed: GamedRows) -> LengthFit:
    """The official fit: liblinear over 5 folds and 10 values of C, one random state per fold, then a refit."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    x, preference, weight = _design(rows, gamed)

    def liblinear(keep: NDArray[np.bool_], cost: float, state: int | np.random.RandomState) -> Array:
        # scikit-learn takes no soft labels: each row enters once as a win and once as a loss, weighted by its share.
        labels = np.repeat([1, 0], int(keep.sum()))
        shares = np.concatenate([preference[keep], 1 - preference[keep]]) * np.tile(weight[keep], 2)
        model = LogisticRegression(
            C=cost, l1_ratio=1.0, solver="liblinear", fit_intercept=False, random_state=state, tol=1e-4, max_iter=100
        )
        model.fit(np.tile(x[keep], (2, 1)), labels, sample_weight=shares)
        return np.asarray(model.coef_[0], dtype=float)

    scores = np.zeros((FOLDS, COST_GRID.size))
    fold_of = _folds(preference.size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # early stopping is part of the published numbers
        for fold in range(FOLDS):
            # One random state per fold, carried through all C: part of the published numbers.
            state = np.random.RandomState(_SEED)
            left_out = fold_of == fold
            for number, cost in enumerate(COST_GRID):
                coef = liblinear(~left_out, cost, state)
                scores[fold, number] = _log_loss(x[left_out] @ coef, preference[left_out], weight[left_out])
        best = float(COST_GRID[np.argmin(scores.sum(axis=0))])
        coef = liblinear(np.ones(preference.size, dtype=bool), best, _SEED)
    return _length_fit(coef, best, rows)


def fit_plain(rows: JudgedRows) -> LengthFit:
    """The fit without gamed rows: the same objective at ``WEAK_COST``, solved to convergence."""
    x, preference, weight = _design(rows, NO_GAMED)
    coef = solve(x[:, 0], x[:, 1], x[:, 2], preference, weight[None, :], np.array([WEAK_COST]))[0]
    return _length_fit(coef, WEAK_COST, rows)


def bootstrap(rows: JudgedRows, gamed: GamedRows, fit: LengthFit, counts: Array) -> Array:
    """LC in percent on each resample of the instructions, refitted with C held at ``fit.cost``.

    Args:
        counts: [replicates, rows] how often each instruction is drawn. The length unit (standard deviation of the
            length differences) is recomputed on every resample; gamed rows are the same in all.
    """
    n = counts.sum(axis=1)
    mean = counts @ rows.delta / n
    variance = np.maximum(counts @ rows.delta**2 - n * mean**2, 0.0) / np.maximum(n - 1, 1)
    difficulty = np.concatenate([gamed.difficulty, rows.difficulty])
    bias = np.concatenate([np.zeros(gamed.preference.size), np.ones(rows.preference.size)])
    preference = np.concatenate([gamed.preference, rows.preference])
    values = []
    for first in range(0, counts.shape[0], _CHUNK):
        part = counts[first : first + _CHUNK]
        # The length unit is estimated from the data, so each resample has its own.
        spread = np.sqrt(variance[first : first + _CHUNK])[:, None]
        own = np.tanh(rows.delta / np.where(spread > 0, spread, np.inf))
        length = np.concatenate([np.broadcast_to(gamed.length, (len(part), gamed.length.size)), own], axis=1)
        weight = np.concatenate([np.full((len(part), gamed.length.size), GAMED_WEIGHT), part], axis=1)
        cost = np.full(len(part), fit.cost)
        coef = solve(length, difficulty, bias, preference, weight, cost, fit.coef)
        predictions = sigmoid(coef[:, 1:2] * rows.difficulty + coef[:, 2:])
        values.append(100 * (part * predictions).sum(axis=1) / n[first : first + _CHUNK])
    return np.concatenate(values) if values else np.zeros(0)


def converged(rows: JudgedRows, gamed: GamedRows, fit: LengthFit) -> LengthFit:
    """The same fit at the same C, solved to convergence: what the replicates of ``bootstrap`` are centred on."""
    x, preference, weight = _design(rows, gamed)
    coef = solve(x[:, 0], x[:, 1], x[:, 2], preference, weight[None, :], np.array([fit.cost]), fit.coef)[0]
    return _length_fit(coef, fit.cost, rows)


def contributions(rows: JudgedRows, gamed: GamedRows, fit: LengthFit) -> Array:
    """Per instruction, percent: LC plus the influence of that instruction on it. Their mean is LC to first order.

    The infinitesimal jackknife of the refitted GLM (C and the active coefficients held), so that the spread of these
    values gives the standard error of LC, where the spread of the predictions does not.
    """
    n = rows.preference.size
    x, _, weight = _design(rows, gamed)
    p = sigmoid(x @ fit.coef)
    # a strong penalty holds a coefficient at 0, the weak one does not
    active = (np.abs(fit.coef) > 1e-12) | (gamed.preference.size == 0)
    hessian = (x * (weight * p * (1 - p))[:, None]).T @ x
    own = x[-n:]
    pull = (rows.preference - p[-n:])[:, None] * own
    # the length unit moves too: d tanh(delta / s) / ds, and ds per instruction
    spread = float(rows.delta.std(ddof=1))
    if spread > 0:
        slope = -(1 - own[:, 0] ** 2) * rows.delta / spread**2
        slack = (rows.preference - p[-n:]) * slope
        tilt = -(p[-n:] * (1 - p[-n:]) * slope * fit.coef[0]) @ own + np.array([slack.sum(), 0.0, 0.0])
        unit = ((rows.delta - rows.delta.mean()) ** 2 - spread**2) / (2 * spread * (n - 1))
        pull = pull + unit[:, None] * tilt
    moved = np.zeros((n, 3))
    moved[:, active] = np.linalg.lstsq(hessian[np.ix_(active, active)], pull[:, active].T, rcond=None)[0].T
    q = fit.predictions / 100
    gradient = np.array([0.0, (q * (1 - q) * rows.difficulty).mean(), (q * (1 - q)).mean()])
    influence: Array = fit.predictions - fit.value + 100 * n * (moved @ gradient)
    return np.asarray(fit.value + influence - influence.mean())


@dataclass(frozen=True)
class LengthData:
    """What the length control reads besides the verdicts."""

    difficulty: Array
    """One per question, in the order of the questions."""
    gamed: GamedRows
    label: str
    """Printed with every LC made from it."""
    official: bool
    """Whether the official liblinear loop makes the point estimate."""


@lru_cache(maxsize=4)
def read_length_files(gamed: str, difficulty: str | None) -> tuple[GamedRows, Array]:
    """Gamed rows, and difficulties by instruction index, from CSV files; ``None``: both stand in one, as the hub's."""
    rows = _csv_rows(gamed)
    preference, length, hardness = (
        np.array([float(row[name]) for row in rows])
        for name in ("preference", "std_delta_len", "instruction_difficulty")
    )
    source = rows if difficulty is None else _csv_rows(difficulty)
    by_index = {int(row["index"]): float(row["instruction_difficulty"]) for row in source}
    ordered = np.array([by_index[index] for index in range(len(by_index))])
    return GamedRows(preference, np.tanh(length), hardness), ordered


def _csv_rows(path: str) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def official_files() -> tuple[GamedRows, Array, str]:
    """(gamed rows, difficulties by index, label). Raises UserError when neither source is among the assets."""
    if present(HUB_FILE):
        return *read_length_files(str(locate(HUB_FILE)), None), "LC (official)"
    gamed, difficulty = str(locate(RECOVERED_GAMED)), str(locate(RECOVERED_DIFFICULTY))
    return *read_length_files(gamed, difficulty), "LC reconstructed, +-0.15"


@dataclass(frozen=True)
class Column:
    """One entrant's preferences and lengths, in the order of the questions; nan where there is none."""

    preference: Array
    delta: Array
    """Baseline length minus model length, characters."""
    identical: bool
    """Every answer is the baseline's own: 50% by construction."""


def length_data(
    questions: Sequence[Question], columns: Mapping[str, Column], compat_leaderboard: bool
) -> LengthData | str:
    """The data for this call, or why there is none."""
    # Another baseline than the official one has no published difficulties: below they are fitted over the entrants.
    if all(question.meta.get("baseline") == OFFICIAL_BASELINE for question in questions):
        try:
            gamed, by_index, label = official_files()
        except UserError as error:
            return f"no LC: {error}"
        difficulty = by_index[[int(question.meta["index"]) for question in questions]]
        if compat_leaderboard:
            difficulty, label = by_index[: len(questions)], label + ", difficulties by row position"
        return LengthData(difficulty, gamed, label, True)
    official = any("index" in question.meta for question in questions)
    label = "LC (other baseline): difficulties joint over the entrants" if official else "LC (pocket)"
    # An entrant with a single verdict has no spread of lengths to standardise by.
    full = [column for column in columns.values() if (~np.isnan(column.preference)).sum() > 1]
    if len(full) < MIN_ENTRANTS:
        label += f", no difficulty term below {MIN_ENTRANTS} entrants"
        return LengthData(np.zeros(len(questions)), NO_GAMED, label, False)
    length = np.zeros((len(full), len(questions)))
    for row, column in zip(length, full, strict=True):
        here = ~np.isnan(column.preference)
        row[here] = length_feature(column.delta[here])
    preference = np.stack([column.preference for column in full])
    return LengthData(joint_difficulty(preference, length), NO_GAMED, label, False)


def length_controlled(
    questions: Sequence[Question], column: Column, data: LengthData | str, compat: bool, seed: int, replicates: int
) -> Score:
    """LC of one entrant with its interval, or ``None`` with the reason: that in ``data``, or one of its own.

    ``compat`` is the leaderboard's row-index bug: difficulties by position among the annotated rows.
    """
    scored = ~np.isnan(column.preference)
    n, missing = int(scored.sum()), int((~scored).sum())

    def unscored(note: str) -> Score:
        return Score(METRIC, None, None, None, n, missing, note)

    if isinstance(data, str):
        return unscored(data)
    if n < MIN_QUESTIONS:
        note = f"LC is n/a below {MIN_QUESTIONS} scored questions ({n} here): length and ability cannot be told apart"
        return unscored(note)
    ids = [question.id for question, counted in zip(questions, scored, strict=True) if counted]
    if column.identical:
        note = f"{data.label}; the baseline's own answers: 50 by construction"
        shares = dict.fromkeys(ids, 50.0)
        return Score(METRIC, 50.0, 50.0, 50.0, n, missing, note, shares, (50.0,) * replicates)
    if not data.official and confounded(column.delta[scored]):
        return unscored(
            "LC is n/a: the answers differ from the baseline's by so similar a length that it cannot be told "
            "from ability"
        )
    # The leaderboard numbered rows after dropping unannotated ones, and so shifted the difficulties.
    difficulty = data.difficulty[:n] if compat and data.official else data.difficulty[scored]
    rows = JudgedRows(column.preference[scored], column.delta[scored], difficulty)
    fit = fit_official(rows, data.gamed) if data.official else fit_plain(rows)
    exact = converged(rows, data.gamed, fit) if data.official else fit
    if data.official and not (fit.coef.any() and exact.coef.any()):
        note = f"{data.label}; no interval: at the C of cross-validation ({fit.cost:g}) every coefficient is 0"
        note += ", which gives 50 whatever the verdicts"
        return Score(METRIC, fit.value, None, None, n, missing, note, detail=_fit_detail(fit, rows))
    # liblinear stops early: the replicates are solved exactly and moved by that (constant) difference
    early_stop = fit.value - exact.value
    draws: Array = np.zeros(0)
    if replicates:
        counts = resample_counts(len(questions), replicates, seed)[:, scored]
        draws = bootstrap(rows, data.gamed, exact, counts) + early_stop
    low, high = percentile_interval(draws, n) if replicates else (None, None)
    shares = dict(zip(ids, (contributions(rows, data.gamed, exact) + early_stop).tolist(), strict=True))
    detail = _fit_detail(fit, rows)
    return Score(METRIC, fit.value, low, high, n, missing, data.label, shares, tuple(draws.tolist()), detail)


def _fit_detail(fit: LengthFit, rows: JudgedRows) -> dict[str, float | str]:
    return {
        "lc_standard_error": fit.official_error,
        "C": fit.cost,
        "coef_length": float(fit.coef[0]),
        "coef_difficulty": float(fit.coef[1]),
        "coef_bias": float(fit.coef[2]),
        "raw_minus_lc": 100 * float(rows.preference.mean()) - fit.value,
    }
