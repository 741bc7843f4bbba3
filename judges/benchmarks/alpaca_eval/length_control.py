"""Length-controlled win rates: the GLM of AlpacaEval 2, its refits, and an interval that is one.

Dubois et al. 2024, arXiv 2404.04475. Per instruction i with preference y (probability that the model beats the
baseline): logit P = a * tanh(delta_i / std(delta)) + w * difficulty_i + b, where delta is baseline length minus model
length in characters. LC is the mean prediction with the length term set to 0. The official fit adds the rows of two
"gamed" baselines (no b, weight 0.1 each), an L1 penalty, and takes C by 5-fold cross-validation.

The official ``lc_standard_error`` is the spread of fitted values, not an error of LC (it is about half as large).
Here instructions are resampled and the GLM is refitted each time, C held, by a batched Newton method in numpy: no
general solver refits a three-coefficient model on hundreds of resamples in a second.
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from io import StringIO
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.assets import check_asset, is_present, locate
from harness.errors import UserError
from harness.stats import Array, percentile_interval
from harness.types import Question, Score
from judges.benchmarks.scoring import Detail, resample_counts, sigmoid

METRIC = "alpaca_eval.lc"
HUB_FILE = "alpaca_eval/df_gamed.csv"
RECOVERED_GAMED = "alpaca_eval/df_gamed_recovered.csv"
RECOVERED_DIFFICULTY = "alpaca_eval/instruction_difficulty_recovered.csv"
OFFICIAL_BASELINE = "gpt4_1106_preview"
MIN_ENTRANTS = 3  # fewer cannot tell a hard instruction from a bad model: then there is no difficulty term
COST_GRID = np.logspace(-4, 4, 10)  # candidates for C, the inverse strength of the L1 penalty
FOLDS = 5
GAMED_WEIGHT = 0.1  # beside 1 for a row of the model: lambda 0.2 shared by two gamed baselines
MIN_QUESTIONS = 100  # below, the length and the difficulty term cannot be told from chance, and LC is not reported
WEAK_COST = 100.0
"""C without gamed rows. Of bias and length alone cross-validation at times chooses the strongest penalty, under which
every coefficient is 0 and LC is 50 whatever was judged. This one moves LC by at most 100 / (C n) points, 0.01 at 100
instructions, and still keeps a model that wins everything finite."""
MIN_SPREAD = 0.1
"""Standard deviation of the length feature below which, without gamed rows, length and ability cannot be told apart:
beside a mean near 1 (lengths some 3 standard deviations apart) LC has 100 times the variance of the win rate."""
RECONSTRUCTION_ERROR = ", +-0.2"
"""From the leaderboard: at most 0.152 for 57 models, where cross-validation chose another C; else below 1e-6."""
_SEED = 123  # of liblinear's coordinate order, fixed by the official code
_CHUNK = 128  # replicates solved at once: bounds memory and keeps the arrays in cache


class GamedRows(NamedTuple):
    """The annotated rows of the gamed baselines, the same for every model; ``length`` is a ``length_feature``."""

    preference: Array
    length: Array
    difficulty: Array


NO_GAMED = GamedRows(np.zeros(0), np.zeros(0), np.zeros(0))


@dataclass(frozen=True)
class JudgedRows:
    """One model's annotated instructions, and the gamed rows fitted with them; for its fields see ``Column``.

    A preference of nan is a row that the judge failed on: as in the official code it counts in the unit of length and
    in the mean of the predictions, but not in the fit.
    """

    preference: Array
    delta: Array
    difficulty: Array
    gamed: GamedRows = NO_GAMED

    @cached_property
    def x(self) -> Array:
        """[gamed + rows, 3] length, difficulty, bias; gamed rows first as in the official code, without a bias."""
        length = np.concatenate([self.gamed.length, length_feature(self.delta)])
        difficulty = np.concatenate([self.gamed.difficulty, self.difficulty])
        return np.column_stack([length, difficulty, np.arange(length.size) >= self.gamed.length.size])

    @cached_property
    def y(self) -> Array:
        return np.concatenate([self.gamed.preference, np.where(self.has_verdict, self.preference, 0.5)])

    @cached_property
    def weight(self) -> Array:
        return np.concatenate([np.full(self.gamed.preference.size, GAMED_WEIGHT), self.has_verdict])

    @cached_property
    def has_verdict(self) -> NDArray[np.bool_]:
        return ~np.isnan(self.preference)


@dataclass(frozen=True)
class LengthFit:
    """Coefficients of length, difficulty and bias at C ``cost``; ``predictions`` at equal length, percent."""

    coef: Array
    cost: float
    predictions: Array

    @property
    def value(self) -> float:
        return float(self.predictions.mean())

    @property
    def official_error(self) -> float:
        """The published ``lc_standard_error``, percent."""
        return float(self.predictions.std(ddof=1) / np.sqrt(self.predictions.size))


def length_feature(delta: Array) -> Array:
    """tanh of the length difference in units of its sample standard deviation; 0 where all differences are equal."""
    spread = float(delta.std(ddof=1)) if delta.size > 1 else 0.0
    return np.tanh(delta / spread) if spread > 0 else np.zeros_like(delta)


def is_confounded(delta: Array) -> bool:
    """Whether all answers are so much longer (or shorter) than the baseline's that the feature is near constant."""
    # It then explains the verdicts as well as the bias does, and their fit says 50 or anything else.
    feature = length_feature(delta)  # 0 of equal lengths or equal differences: no such case
    return bool(feature.any()) and float(feature.std()) < MIN_SPREAD


def _log_loss(logits: Array, preference: Array, weight: Array) -> float:
    # Clipped as in the official code, and its mean divides by the number of rows, not by the sum of their weights.
    p = np.clip(sigmoid(logits), 1e-15, 1 - 1e-15)
    losses = -(preference * np.log(p) + (1 - preference) * np.log(1 - p))
    return float((losses * weight).mean())


def _length_fit(coef: Array, cost: float, rows: JudgedRows) -> LengthFit:
    return LengthFit(coef, cost, 100 * sigmoid(coef[1] * rows.difficulty + coef[2]))


def fit_official(rows: JudgedRows) -> LengthFit:
    """The official fit: liblinear over 5 folds and 10 values of C, one random state per fold, then a refit."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    fitted = rows.weight > 0
    x, y, weight = rows.x[fitted], rows.y[fitted], rows.weight[fitted]

    def liblinear(mask: NDArray[np.bool_], cost: float, state: int | np.random.RandomState) -> Array:
        # scikit-learn takes no soft labels: each row enters once as a win and once as a loss, weighted by its share.
        labels = np.repeat([1, 0], int(mask.sum()))
        shares = np.concatenate([y[mask], 1 - y[mask]]) * np.tile(weight[mask], 2)
        model = LogisticRegression(
            C=cost, l1_ratio=1.0, solver="liblinear", fit_intercept=False, random_state=state, tol=1e-4, max_iter=100
        )
        model.fit(np.tile(x[mask], (2, 1)), labels, sample_weight=shares)
        return np.asarray(model.coef_[0], dtype=float)

    scores = np.zeros((FOLDS, COST_GRID.size))
    # What a grouped 5-fold split with a stable sort gives for groups of equal size.
    fold_of = (y.size - 1 - np.arange(y.size)) % FOLDS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # early stopping is part of the published numbers
        for fold in range(FOLDS):
            # One random state per fold, carried through all C: part of the published numbers.
            state = np.random.RandomState(_SEED)
            left_out = fold_of == fold
            for number, cost in enumerate(COST_GRID):
                coef = liblinear(~left_out, cost, state)
                scores[fold, number] = _log_loss(x[left_out] @ coef, y[left_out], weight[left_out])
        best = float(COST_GRID[np.argmin(scores.sum(axis=0))])
        coef = liblinear(np.ones(y.size, dtype=bool), best, _SEED)
    return _length_fit(coef, best, rows)


def fit_exactly(rows: JudgedRows, cost: float = WEAK_COST, start: Array | None = None) -> LengthFit:
    """The same objective solved to convergence at one C: what the replicates of ``bootstrap`` are centred on."""
    length, difficulty, bias = rows.x.T
    coef = solve(length, difficulty, bias, rows.y, rows.weight[None, :], np.array([cost]), start)[0]
    return _length_fit(coef, cost, rows)


def _penalised_step(gradient: Array, hessian: Array, coef: Array) -> Array:
    """The step [batch, 3] that minimises the quadratic model plus L1; a column of zeros keeps its coefficient."""
    sign = np.sign(coef)
    usable = np.einsum("bjj->bj", hessian) > 1e-12
    # Most replicates keep all three coefficients off zero: one linear solve serves them all at once.
    smooth = (~usable | (sign != 0)).all(axis=1)
    step = np.zeros_like(coef)
    # A trace of ridge, and 1 on unused columns, keeps the batch solve from failing on a singular member.
    ridge = 1e-12 * np.einsum("bjj->b", hessian)[:, None, None] * np.eye(3) + ~usable[:, :, None] * np.eye(3)
    pull = np.where(usable, -(gradient + sign), 0.0)
    step[smooth] = np.linalg.solve((hessian + ridge)[smooth], pull[smooth, :, None])[:, :, 0]
    unsolved = ~smooth | (np.sign(coef + step) != sign).any(axis=1)
    if unsolved.any():
        step[unsolved] = _descend(gradient[unsolved], hessian[unsolved], coef[unsolved])
    return step


def _descend(gradient: Array, hessian: Array, coef: Array) -> Array:
    """The same by coordinate descent with soft thresholds."""
    step, curvature = np.zeros_like(coef), np.einsum("bjj->bj", hessian)
    usable = curvature > 1e-12
    scale = np.where(usable, curvature, 1.0)
    for _ in range(100):
        earlier_step = step.copy()
        for j in range(coef.shape[1]):
            slope = gradient[:, j] + (hessian[:, j] * step).sum(axis=1)
            target = coef[:, j] + step[:, j] - slope / scale[:, j]
            shrunk = np.sign(target) * np.maximum(np.abs(target) - 1.0 / scale[:, j], 0.0)
            step[:, j] = np.where(usable[:, j], shrunk - coef[:, j], 0.0)
        if np.abs(step - earlier_step).max() < 1e-9:
            break
    return step


def solve(
    length: Array, difficulty: Array, bias: Array, preference: Array, weight: Array, cost: Array,
    start: Array | None = None,
) -> Array:  # fmt: skip
    """Coefficients [batch, 3] that minimise cost * sum(weight * log loss) + sum(abs(coef)), by proximal Newton.

    ``length`` is [rows] or [batch, rows], other features [rows], ``weight`` [batch, rows], ``cost`` [batch], ``start``
    [3] or [batch, 3].
    """
    batch = weight.shape[0]
    coef = np.zeros((batch, 3)) if start is None else np.array(np.broadcast_to(start, (batch, 3)))
    length = np.broadcast_to(length, weight.shape)
    design = np.stack([difficulty, bias])
    products = np.stack([difficulty * difficulty, difficulty * bias, bias * bias], axis=1)

    def objective(coef: Array) -> Array:
        logits = coef[:, :1] * length + coef[:, 1:] @ design
        losses = np.logaddexp(0.0, logits) - preference * logits
        return np.asarray(cost * np.einsum("bn,bn->b", weight, losses) + np.abs(coef).sum(axis=1))

    current = objective(coef)
    for _ in range(100):
        p = sigmoid(coef[:, :1] * length + coef[:, 1:] @ design)
        residual = weight * (p - preference)
        spread = weight * p * (1.0 - p)
        gradient = np.column_stack([np.einsum("bn,bn->b", residual, length), residual @ design.T]) * cost[:, None]
        scaled = spread * length
        cross, square = scaled @ design.T, np.einsum("bn,bn->b", scaled, length)
        dd, db, bb = (spread @ products).T
        entries = [square, cross[:, 0], cross[:, 1], cross[:, 0], dd, db, cross[:, 1], db, bb]
        hessian = np.stack(entries, axis=1).reshape(batch, 3, 3) * cost[:, None, None]
        step = _penalised_step(gradient, hessian, coef)
        # Halve the step of those replicates alone whose objective rose.
        size, next_coef = np.ones((batch, 1)), coef + step
        value = objective(next_coef)
        for _ in range(30):
            worse = value > current + 1e-9 * (1 + np.abs(current))
            if not worse.any():
                break
            size[worse] *= 0.5
            next_coef = coef + size * step
            value = objective(next_coef)
        change = float(np.abs(next_coef - coef).max())
        coef, current = next_coef, value
        if change < 1e-8:
            break
    return coef


def joint_difficulty(preference: Array, length: Array) -> Array:
    """One difficulty per instruction from all models together: logit P = b_m + a_m * length_mi + d_i.

    Ridge on d (a normal prior of unit spread, in logits) and a trace of it on a and b, by Newton's method with the
    diagonal block of d eliminated. Both arrays are [models, instructions]; ``preference`` is nan without a verdict.
    """
    models, n = preference.shape
    has_verdict = ~np.isnan(preference)
    y = np.where(has_verdict, preference, 0.5)
    effects, d = np.zeros((2, models)), np.zeros(n)
    for _ in range(100):
        p = sigmoid(effects[0][:, None] + effects[1][:, None] * length + d)
        residual, spread = np.where(has_verdict, y - p, 0.0), np.where(has_verdict, p * (1 - p), 0.0)
        scaled = spread * length
        down_d = residual.sum(axis=0) - d
        curve_d = spread.sum(axis=0) + 1.0
        down = np.concatenate([residual.sum(axis=1), (residual * length).sum(axis=1)]) - 1e-3 * effects.ravel()
        cross = np.concatenate([spread, scaled])
        corner = np.diag(scaled.sum(axis=1))
        curve = np.block([[np.diag(spread.sum(axis=1)), corner], [corner, np.diag((scaled * length).sum(axis=1))]])
        curve = curve + 1e-3 * np.eye(2 * models) - (cross / curve_d) @ cross.T
        # Bounded steps: an instruction that every model wins has no finite difficulty without the prior.
        step = np.clip(np.linalg.solve(curve, down - cross @ (down_d / curve_d)), -2.0, 2.0)
        step_d = np.clip((down_d - step @ cross) / curve_d, -2.0, 2.0)
        effects, d = effects + step.reshape(2, models), d + step_d
        if max(np.abs(step).max(), np.abs(step_d).max()) < 1e-8:
            break
    return d


def bootstrap(rows: JudgedRows, fit: LengthFit, counts: Array) -> Array:
    """LC in percent on each resample of the instructions, drawn ``counts`` [replicates, rows] times; C is held."""
    n = counts.sum(axis=1)
    mean = counts @ rows.delta / n
    variance = np.maximum(counts @ rows.delta**2 - n * mean**2, 0.0) / np.maximum(n - 1, 1)
    _, difficulty, bias = rows.x.T
    values = []
    for first in range(0, counts.shape[0], _CHUNK):
        chunk = counts[first : first + _CHUNK]
        # The length unit is estimated from the data, so each resample has its own.
        spread = np.sqrt(variance[first : first + _CHUNK])[:, None]
        feature = np.tanh(rows.delta / np.where(spread > 0, spread, np.inf))
        gamed_shape = (len(chunk), rows.gamed.length.size)
        length = np.concatenate([np.broadcast_to(rows.gamed.length, gamed_shape), feature], axis=1)
        weight = np.concatenate([np.full(gamed_shape, GAMED_WEIGHT), chunk * rows.has_verdict], axis=1)
        coef = solve(length, difficulty, bias, rows.y, weight, np.full(len(chunk), fit.cost), fit.coef)
        predictions = sigmoid(coef[:, 1:2] * rows.difficulty + coef[:, 2:])
        values.append(100 * (chunk * predictions).sum(axis=1) / n[first : first + _CHUNK])
    return np.concatenate(values)


def contributions(rows: JudgedRows, fit: LengthFit) -> Array:
    """Per instruction, percent: LC plus its influence on it, by the infinitesimal jackknife of the refit, C held."""
    n = rows.preference.size
    p = sigmoid(rows.x @ fit.coef)
    # a strong penalty holds a coefficient at 0, the weak one does not
    active = (np.abs(fit.coef) > 1e-12) | (rows.gamed.preference.size == 0)
    hessian = (rows.x * (rows.weight * p * (1 - p))[:, None]).T @ rows.x
    x, p, weight = rows.x[-n:], p[-n:], rows.weight[-n:]
    residual = weight * (rows.y[-n:] - p)
    pull = residual[:, None] * x
    # the length unit moves too: d tanh(delta / s) / ds, and ds per instruction
    spread = float(rows.delta.std(ddof=1))
    if spread > 0:
        slope = -(1 - x[:, 0] ** 2) * rows.delta / spread**2
        slack = residual * slope
        tilt = -(weight * p * (1 - p) * slope * fit.coef[0]) @ x + np.array([slack.sum(), 0.0, 0.0])
        unit = ((rows.delta - rows.delta.mean()) ** 2 - spread**2) / (2 * spread * (n - 1))
        pull = pull + unit[:, None] * tilt
    coef_shift = np.zeros((n, 3))
    coef_shift[:, active] = np.linalg.lstsq(hessian[np.ix_(active, active)], pull[:, active].T, rcond=None)[0].T
    q = fit.predictions / 100
    gradient = np.array([0.0, (q * (1 - q) * rows.difficulty).mean(), (q * (1 - q)).mean()])
    influence: Array = fit.predictions - fit.value + 100 * n * (coef_shift @ gradient)
    return np.asarray(fit.value + influence - influence.mean())


@dataclass(frozen=True)
class LengthData:
    """One difficulty per question, in their order, the gamed rows, and a label for every LC made from them."""

    difficulty: Array
    gamed: GamedRows
    label: str
    by_row: bool = False
    """Row i of the annotated ones gets difficulty i, as in the official code: behind a missing row all are shifted."""
    accuracy: str = ""
    """How near the leaderboard's value is; ends the label of an LC that follows it."""

    def label_of(self, row_count: int) -> str:
        missing_count = self.difficulty.size - row_count
        if not (self.gamed.preference.size and missing_count):
            return self.label + self.accuracy
        missing = f"{missing_count} of {self.difficulty.size} rows missing"
        if self.by_row:
            return f"{self.label}{self.accuracy}; {missing}: difficulties shifted, as on the leaderboard"
        return f"{self.label}; {missing}: difficulties by instruction, not the leaderboard's value"


@lru_cache(maxsize=4)
def read_length_files(gamed_file: str, difficulty_file: str | None = None) -> tuple[GamedRows, Array]:
    """Gamed rows, and difficulties by instruction index, from CSV files; ``None``: both stand in one, as the hub's."""
    texts = (Path(path).read_text(encoding="utf-8") for path in (gamed_file, difficulty_file or gamed_file))
    rows, source = (list(csv.DictReader(StringIO(text))) for text in texts)
    preference, length, hardness = (
        np.array([float(row[name]) for row in rows])
        for name in ("preference", "std_delta_len", "instruction_difficulty")
    )
    by_index = {int(row["index"]): float(row["instruction_difficulty"]) for row in source}
    difficulties = np.array([by_index[index] for index in range(len(by_index))])
    return GamedRows(preference, np.tanh(length), hardness), difficulties


@dataclass(frozen=True)
class Column:
    """One entrant's probabilities to beat the baseline and its length differences, by question."""

    preference: Array
    """nan without a verdict."""
    delta: Array
    """Baseline length minus model length, characters; nan where no judge was asked: the official file has no row."""
    identical: bool
    """Every answer is the baseline's own: 50% by construction."""


def length_files() -> tuple[str, ...]:
    """The hub's file, or those that were recovered where these alone are here."""
    recovered = (RECOVERED_GAMED, RECOVERED_DIFFICULTY)
    has_recovered = check_asset(HUB_FILE).state == "missing" and all(check_asset(f).state == "ok" for f in recovered)
    return recovered if has_recovered else (HUB_FILE,)


def length_data(
    questions: Sequence[Question], columns: Mapping[str, Column], difficulty_by: Literal["row", "instruction"]
) -> LengthData | str:
    # Another baseline than the official one has no published difficulties: below they are fitted over the entrants.
    if all(question.meta.get("baseline") == OFFICIAL_BASELINE for question in questions):
        hub = is_present(HUB_FILE)
        label, accuracy = ("LC (official)", "") if hub else ("LC reconstructed", RECONSTRUCTION_ERROR)
        try:
            files = (HUB_FILE,) if hub else (RECOVERED_GAMED, RECOVERED_DIFFICULTY)
            gamed_rows, by_index = read_length_files(*(str(locate(file)) for file in files))
        except UserError as error:
            return f"no LC: {error}"
        if len(questions) < by_index.size:
            # A part of the set has no leaderboard's value, and its rows are not the first ones.
            label, accuracy, difficulty_by = f"{label} on {len(questions)} of {by_index.size} rows", "", "instruction"
        difficulties = by_index[[int(str(question.meta["index"])) for question in questions]]
        return LengthData(difficulties, gamed_rows, label, difficulty_by == "row", accuracy)
    official = any("index" in question.meta for question in questions)
    label = "LC (other baseline): difficulties joint over the entrants" if official else "LC (pocket)"
    # An entrant with a single verdict has no spread of lengths to standardise by.
    full = [column for column in columns.values() if (~np.isnan(column.preference)).sum() > 1]
    if len(full) < MIN_ENTRANTS:
        label += f", no difficulty term below {MIN_ENTRANTS} entrants"
        return LengthData(np.zeros(len(questions)), NO_GAMED, label)
    length = np.zeros((len(full), len(questions)))
    for row, column in zip(length, full, strict=True):
        has_verdict = ~np.isnan(column.preference)
        row[has_verdict] = length_feature(column.delta[has_verdict])
    preference = np.stack([column.preference for column in full])
    return LengthData(joint_difficulty(preference, length), NO_GAMED, label)


def length_controlled(
    questions: Sequence[Question], column: Column, data: LengthData | str, seed: int, replicates: int
) -> Score:
    """LC of one entrant with its interval, or ``None`` with the reason: that in ``data``, or one of its own."""
    has_verdict = ~np.isnan(column.preference)
    n, gap_count = int(has_verdict.sum()), int((~has_verdict).sum())

    def score_without_value(note: str) -> Score:
        return Score(METRIC, None, None, None, n, gap_count, note)

    if isinstance(data, str):
        return score_without_value(data)
    if n < MIN_QUESTIONS:
        return score_without_value(
            f"LC is n/a below {MIN_QUESTIONS} scored questions ({n} here): length and ability cannot be told apart"
        )
    ids = [question.id for question, counts in zip(questions, has_verdict, strict=True) if counts]
    official = data.gamed.preference.size > 0
    is_row = ~np.isnan(column.delta) if official else has_verdict
    row_count = int(is_row.sum())
    label = data.label_of(row_count)
    if column.identical:
        note = f"{label}; the baseline's own answers: 50 by construction"
        return Score(METRIC, 50.0, 50.0, 50.0, n, gap_count, note, dict.fromkeys(ids, 50.0), (50.0,) * replicates)
    if not official and is_confounded(column.delta[has_verdict]):
        return score_without_value(
            "LC is n/a: the answers differ from the baseline's by so similar a length that it cannot be told "
            "from ability"
        )
    difficulty = data.difficulty[:row_count] if data.by_row else data.difficulty[is_row]
    rows = JudgedRows(column.preference[is_row], column.delta[is_row], difficulty, data.gamed)
    fit = fit_official(rows) if official else fit_exactly(rows)
    exact_fit = fit_exactly(rows, fit.cost, fit.coef) if official else fit
    detail: Detail = {
        "lc_standard_error": fit.official_error,
        "C": fit.cost,
        **dict(zip(("coef_length", "coef_difficulty", "coef_bias"), fit.coef.tolist(), strict=True)),
    }
    if official and not (fit.coef.any() and exact_fit.coef.any()):
        note = f"{label}; no interval: at the C of cross-validation ({fit.cost:g}) every coefficient is 0"
        note += ", which gives 50 whatever the verdicts"
        return Score(METRIC, fit.value, None, None, n, gap_count, note, detail=detail)
    # liblinear stops early: the replicates are solved exactly and moved by that (constant) difference
    early_stop = fit.value - exact_fit.value
    shares = dict(zip(ids, (contributions(rows, exact_fit) + early_stop)[rows.has_verdict].tolist(), strict=True))
    if not replicates:
        return Score(METRIC, fit.value, None, None, n, gap_count, label, shares, detail=detail)
    counts = resample_counts(len(questions), replicates, seed)[:, is_row]
    draws = bootstrap(rows, exact_fit, counts) + early_stop
    low, high = percentile_interval(draws, n)
    return Score(METRIC, fit.value, low, high, n, gap_count, label, shares, tuple(draws.tolist()), detail)
