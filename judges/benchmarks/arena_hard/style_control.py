"""Style control of Arena-Hard: what the win rate would be if answers did not differ in length and markdown.

Bradley-Terry with style terms, as lmarena/arena-hard-auto fits it: one strength per model, the baseline at 0, and four
coefficients that all models share, code blocks removed. ``v0.1`` (and Chatbot Arena) takes (baseline - model) /
(baseline + model + 1) of the length and of the counts of headers, list items and bold spans. ``2025-06`` takes the
length without the + 1 and, instead of the counts, their density: count / (length + 1). Its optimiser stops after 50
short steps, up to half a point from the maximum. That is in the numbers that it prints, so it is followed here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, Literal

import numpy as np

from harness.contracts.benchmark import Entrant, pair_answers
from harness.stats import Array
from harness.types import Question
from judges.benchmarks.scoring import Ratio, resample_counts, sigmoid

Scorer = Literal["v0.1", "2025-06"]
FEATURES = ("length", "headers", "lists", "bold")
_CODE = re.compile(r"```([^`]*)```")
_RULES = {
    "header_count": {f"h{level}": re.compile(rf"^#{{{level}}}\s", re.MULTILINE) for level in range(1, 7)},
    "list_count": {
        # The official \s* crosses line breaks, quadratic in their number; without them it counts the same.
        "ordered": re.compile(r"^[^\S\n]*\d+\.\s", re.MULTILINE),
        "unordered": re.compile(r"^[^\S\n]*[-*+]\s", re.MULTILINE),
    },
    "bold_count": {"**": re.compile(r"\*\*[^*\n]+\*\*"), "__": re.compile(r"__[^_\n]+__")},
}
_RIDGES: Final[Mapping[Scorer, tuple[float, ...]]] = {
    # scikit-learn's default penalty (C = 1, every game twice, strengths in units of ln 10) is in the script's numbers.
    "v0.1": (0.5 / math.log(10) ** 2,) * 2 + (0.5,) * 4,
    # That of 2025 has none: a trace keeps a model that won or lost everything finite; the baseline's strength is 0.
    "2025-06": (1e-6, 1e12, *(1e-6,) * 4),
}
"""Of an entrant's strength, of the baseline's, of each coefficient."""
_CHUNK = 64  # replicates solved at once: bounds memory
# torch.optim.LBFGS as ``utils/math_utils.py`` of the 2025 script sets it up.
_STEPS: Final = 50
_STEP_SIZE: Final = 0.1
_START: Final = 0.5


def markdown_breakdown(text: str) -> dict[str, dict[str, int]]:
    """Headers, list items and bold spans by kind, outside code blocks, as the official ``metadata`` holds them."""
    # The official script removes what stands between the fences wherever it occurs, and leaves the fences.
    absent_blocks: set[str] = set()  # a block that stands in the text a thousand times is looked for once
    for code in _CODE.findall(text):
        if code not in absent_blocks:
            shortened_text = text.replace(code, "")
            absent_blocks = {*absent_blocks, code} if shortened_text == text else set()
            text = shortened_text
    return {name: {kind: len(rule.findall(text)) for kind, rule in rules.items()} for name, rules in _RULES.items()}


def _style(text: str, length: int) -> Array:
    return np.array([length, *(sum(kinds.values()) for kinds in markdown_breakdown(text).values())], dtype=float)


@dataclass(frozen=True)
class Battles:
    """Weighted wins and weights [entrants, questions] against the baseline, and style features [..., 4].

    All are 0 where there is no answer or no game. Lengths are in tokens where they are counted, or all answers came
    with counts.
    """

    names: tuple[str, ...]
    features: Array
    wins: Array
    weight: Array
    by_tokens: bool

    @cached_property
    def shared_features(self) -> Array:
        """[entrants, questions, 5]: the baseline's strength is the coefficient of a feature that is 1 in every game."""
        return np.concatenate([np.ones((*self.weight.shape, 1)), self.features], axis=2)


@dataclass(frozen=True)
class StyleFit:
    """One entrant's style-controlled win rates, percent, at the mean difference of style and at equal style.

    ``replicates`` and ``influence`` (what each question adds, of mean 0) are of ``official``.
    """

    official: float  # the official script centres its features
    equal_style: float
    coefficients: Mapping[str, float]
    """Per standard deviation of each feature, in the baseline's favour; shared by all entrants of the call."""
    replicates: tuple[float, ...]
    influence: Array
    by_tokens: bool


def style_difference(base: Array, model: Array, scorer: Scorer) -> Array:
    """[4] of two answers' length and counts; a longer baseline is positive."""
    if scorer == "v0.1":
        return np.asarray((base - model) / (base + model + 1))
    dense_base, dense_model = (np.append(style[0], style[1:] / (style[0] + 1)) for style in (base, model))
    sums = dense_base + dense_model + np.array([0.0, 1.0, 1.0, 1.0])
    return np.asarray((dense_base - dense_model) / np.maximum(sums, 1e-12))  # of two empty answers 0, not 0 / 0


def _gather(
    questions: Sequence[Question], entrants: Mapping[str, Entrant], ratios: Mapping[str, Ratio], scorer: Scorer,
    count: Callable[[str], int] | None,
) -> Battles:  # fmt: skip
    names = tuple(name for name in entrants if entrants[name].answers)
    features = np.zeros((len(names), len(questions), len(FEATURES)))
    wins, weight = np.zeros(features.shape[:2]), np.zeros(features.shape[:2])
    places = {question.id: place for place, question in enumerate(questions)}
    with_answers = {name: pair_answers(questions, entrants[name].answers) for name in names}
    have_counts = all(
        isinstance(answer.meta.get("token_len"), int) and isinstance(question.meta.get("baseline_token_len"), int)
        for name in names
        for question, answer in with_answers[name]
    )

    def style(text: str, tokens: object) -> Array:
        if count is not None:
            return _style(text, count(text))
        return _style(text, tokens if have_counts and isinstance(tokens, int) else len(text))

    base = [style(question.baseline[0], question.meta.get("baseline_token_len")) for question in questions]
    for row, name in enumerate(names):
        for question, answer in with_answers[name]:
            place = places[question.id]
            model_style = style(answer.turns[0], answer.meta.get("token_len"))
            features[row, place] = style_difference(base[place], model_style, scorer)
            wins[row, place], weight[row, place] = ratios[name].numerator[place], ratios[name].denominator[place]
    return Battles(names, features, wins, weight, count is not None or (bool(names) and have_counts))


def _solve(battles: Battles, counts: Array, ridge: Sequence[float], start: Array) -> Array:
    """[replicates, entrants + 5] by Newton's method; rows weigh ``counts``. All entrants share the last five, the
    baseline's strength and the coefficients.

    Only an entrant's own rows hold its strength, so the Hessian is an arrow: strengths are eliminated first.
    """
    x, models = battles.shared_features, len(battles.names)
    n, size = x.shape[1:]
    theta, shared = (np.tile(values, (len(counts), 1)) for values in np.split(start, [models]))
    products, penalty = (x[..., :, None] * x[..., None, :]).reshape(models, n, size * size), np.array(ridge[1:])
    for _ in range(50):
        # Gradient and Hessian of the ridge first; each entrant adds its own games below.
        down, down_shared = -ridge[0] * theta, -penalty * shared
        curve = np.full(theta.shape, ridge[0])
        cross = np.zeros((len(counts), models, size))
        block = np.tile(np.diag(penalty), (len(counts), 1, 1))
        for m in range(models):
            p = sigmoid(theta[:, m : m + 1] - shared @ x[m].T)
            residual = counts * (battles.wins[m] - battles.weight[m] * p)
            spread = counts * battles.weight[m] * p * (1 - p)
            down[:, m] += residual.sum(axis=1)
            down_shared -= residual @ x[m]
            curve[:, m] += spread.sum(axis=1)
            cross[:, m] = -(spread @ x[m])
            block += (spread @ products[m]).reshape(-1, size, size)
        block -= np.einsum("bmi,bmj->bij", cross / curve[..., None], cross)
        rhs = down_shared - np.einsum("bmi,bm->bi", cross, down / curve)
        # Steps are bounded: separable games would send Newton far out before the ridge pulls it back.
        step = np.clip(np.linalg.solve(block, rhs[..., None])[..., 0], -5, 5)
        step_theta = np.clip((down - np.einsum("bmi,bi->bm", cross, step)) / curve, -2, 2)
        theta, shared = theta + step_theta, shared + step
        if max(np.abs(step_theta).max(), np.abs(step).max()) < 1e-9:
            break
    return np.concatenate([theta, shared], axis=1)


def _centre(battles: Battles, counts: Array) -> Array:
    """[replicates, 4] mean feature over weighted battles."""
    weight = battles.weight @ counts.T  # [entrants, replicates]
    totals = sum((counts * battles.weight[m]) @ battles.features[m] for m in range(len(battles.names)))
    return np.asarray(totals / np.maximum(weight.sum(axis=0), 1e-12)[:, None])


def follow_official_steps(battles: Battles) -> tuple[Array, Array]:
    """Strengths and coefficients where the script of 2025 stops: L-BFGS without a line search, from 0.5."""
    z, models = battles.features, len(battles.names)

    def gradient(x: Array) -> Array:
        p = sigmoid((x[:models] - x[models])[:, None] - z @ x[models + 1 :])
        residual = battles.weight * p - battles.wins
        return np.concatenate([residual.sum(axis=1), [-residual.sum()], -np.einsum("mn,mnf->f", residual, z)])

    # The baseline's strength is a parameter too, the last before the coefficients, and takes part in every step.
    x = np.full(models + 1 + len(FEATURES), _START)
    history: list[tuple[Array, Array]] = []  # (step, change of the gradient)
    slope = gradient(x)
    step = -slope * _STEP_SIZE * min(1.0, 1.0 / max(np.abs(slope).sum(), 1e-12))
    for _ in range(_STEPS - 1):
        x, earlier = x + step, slope
        slope = gradient(x)
        change = slope - earlier
        if step @ change > 1e-10:
            history.append((step, change))
        if not history:
            break
        direction, shares = -slope, []
        for s, y in reversed(history):
            shares.append(s @ direction / (s @ y))
            direction = direction - shares[-1] * y
        s, y = history[-1]
        direction = direction * (s @ y) / (y @ y)
        for (s, y), share in zip(history, reversed(shares), strict=True):
            direction = direction + s * (share - y @ direction / (s @ y))
        step = _STEP_SIZE * direction
    x = x + step
    return x[:models] - x[models], np.where(z.any(axis=(0, 1)), x[models + 1 :], 0.0)  # 0.5 of what all share is none


def _influence(battles: Battles, fit: Array, ridge: Sequence[float]) -> list[Array]:
    """What each question adds to the official win rates: infinitesimal jackknife, percent, one array per entrant."""
    models, n = battles.weight.shape
    hessian, pull = np.diag([ridge[0]] * models + list(ridge[1:])), np.zeros((n, fit.size))
    for m in range(models):
        x = np.zeros((n, fit.size))
        x[:, m], x[:, models:] = 1.0, -battles.shared_features[m]
        p = sigmoid(x @ fit)
        hessian += (x * (battles.weight[m] * p * (1 - p))[:, None]).T @ x
        pull += (battles.wins[m] - battles.weight[m] * p)[:, None] * x
    mean_features = np.einsum("mn,mnf->nf", battles.weight, battles.features) / battles.weight.sum()
    influences = []
    for row, q in enumerate(sigmoid(fit[:models] - fit[models])):
        # The logit of the win rate is the strength less the mean style, which moves with the questions too.
        gradient = np.eye(fit.size)[row] - np.eye(fit.size)[models]
        fit_shift = pull @ np.linalg.solve(hessian, gradient)
        influence = 100 * q * (1 - q) * n * (fit_shift - mean_features @ fit[models + 1 :])
        influences.append(influence - influence.mean())
    return influences


def standardise(battles: Battles) -> tuple[Battles, Array]:
    """Features of mean 0 and standard deviation 1 over the weighted games, and what equal style is in these units."""
    weight = battles.weight.ravel() / battles.weight.sum()
    centre = weight @ battles.features.reshape(-1, len(FEATURES))
    spread = np.sqrt(weight @ (battles.features - centre).reshape(-1, len(FEATURES)) ** 2)
    scale = np.where(spread > 1e-9, 1 / np.maximum(spread, 1e-9), 0.0)  # a style that all share has no coefficient
    return replace(battles, features=(battles.features - centre) * scale), -centre * scale


def style_control(
    questions: Sequence[Question], entrants: Mapping[str, Entrant], ratios: Mapping[str, Ratio],
    scorer: Scorer, count: Callable[[str], int] | None, replicates: int, seed: int,
) -> dict[str, StyleFit]:  # fmt: skip
    """Style-controlled win rates of every entrant from one joint fit of the weighted wins in ``ratios``.

    ``count``: tokens of a text; ``None``: the counts that came with the answers, or characters where one lacks them.
    """
    battles = _gather(questions, entrants, ratios, scorer, count)
    if not battles.names or not battles.weight.any():
        return {}
    battles, equal_style = standardise(battles)
    n, models, ridge = len(questions), len(battles.names), _RIDGES[scorer]
    (fit,) = _solve(battles, np.ones((1, n)), ridge, np.zeros(models + 1 + len(FEATURES)))
    optimum = fit[:models] - fit[models]
    strengths, slopes = optimum, fit[models + 1 :]
    if scorer == "2025-06":
        strengths, slopes = follow_official_steps(battles)
    draws = []
    # The same resamples as the plain win rates, so that their difference is paired.
    counts = resample_counts(n, replicates, seed) if replicates else np.zeros((0, n))
    for first in range(0, len(counts), _CHUNK):
        chunk = counts[first : first + _CHUNK]
        chunk_fit = _solve(battles, chunk, ridge, fit)
        shift = chunk_fit[:, models] + np.einsum("bf,bf->b", _centre(battles, chunk), chunk_fit[:, models + 1 :])
        # Resamples are solved whole, and moved by what the script's own fit falls short (0 for v0.1).
        draws.append(100 * sigmoid(chunk_fit[:, :models] - shift[:, None] + strengths - optimum))
    draws_of_rows = np.concatenate(draws) if draws else np.zeros((0, models))
    influences = _influence(battles, fit, ridge)
    official, equal = 100 * sigmoid(strengths), 100 * sigmoid(strengths - equal_style @ slopes)
    return {
        name: StyleFit(
            float(official[row]), float(equal[row]), dict(zip(FEATURES, slopes.tolist(), strict=True)),
            tuple(draws_of_rows[:, row].tolist()), influences[row], battles.by_tokens,
        )
        for row, name in enumerate(battles.names)
        if battles.weight[row].any()
    }  # fmt: skip
