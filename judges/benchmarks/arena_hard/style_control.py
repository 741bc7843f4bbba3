"""Style control of Arena-Hard: what the win rate would be if answers did not differ in length and markdown.

Bradley-Terry with style terms, as lmarena/arena-hard-auto fits it: one strength per model, the baseline at 0, and four
coefficients that all models share, code blocks removed. ``v0.1`` (and Chatbot Arena) takes (baseline - model) /
(baseline + model + 1) of the length and of the counts of headers, list items and bold spans. ``2025-06`` takes the
length without the + 1 and, instead of the counts, their density: count / (length + 1). Its optimiser stops after 50
short steps, up to half a point from the maximum. That is in the numbers that it prints, so it is followed here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
_RIDGE = 1e-6  # keeps a model that won or lost everything finite; moves no other printed digit
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


def _solve(battles: Battles, counts: Array, start: tuple[Array, Array]) -> tuple[Array, Array]:
    """Strengths [replicates, entrants] and coefficients [replicates, 4] by Newton's method; rows weigh ``counts``.

    Only an entrant's own rows hold its strength, so the Hessian is an arrow: strengths are eliminated first.
    """
    x, size = battles.features, len(FEATURES)
    theta, coef = (np.tile(values, (len(counts), 1)) for values in start)
    products = (x[..., :, None] * x[..., None, :]).reshape(*x.shape[:2], size * size)
    for _ in range(50):
        # Gradient and Hessian of the ridge first; each entrant adds its own games below.
        down, down_shared = -_RIDGE * theta, -_RIDGE * coef
        curve = np.full(theta.shape, _RIDGE)
        cross = np.zeros((len(counts), len(battles.names), size))
        block = np.tile(_RIDGE * np.eye(size), (len(counts), 1, 1))
        for m in range(len(battles.names)):
            p = sigmoid(theta[:, m : m + 1] - coef @ x[m].T)
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
        theta, coef = theta + step_theta, coef + step
        if max(np.abs(step_theta).max(), np.abs(step).max()) < 1e-9:
            break
    return theta, coef


def _centre(battles: Battles, counts: Array) -> Array:
    """[replicates, 4] mean feature over weighted battles."""
    weight = battles.weight @ counts.T  # [entrants, replicates]
    totals = sum((counts * battles.weight[m]) @ battles.features[m] for m in range(len(battles.names)))
    return np.asarray(totals / np.maximum(weight.sum(axis=0), 1e-12)[:, None])


def follow_official_steps(battles: Battles, centre: Array, spread: Array) -> tuple[Array, Array]:
    """Strengths and coefficients where the script of 2025 stops: L-BFGS without a line search, from 0.5."""
    scale = np.where(spread > 1e-9, 1 / np.maximum(spread, 1e-9), 0.0)  # a style that all share has no coefficient
    z = (battles.features - centre) * scale
    models = len(battles.names)

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
    coef = scale * x[models + 1 :]
    return x[:models] - x[models] + centre @ coef, coef


def _influence(battles: Battles, theta: Array, coef: Array, centre: Array) -> list[Array]:
    """What each question adds to the official win rates: infinitesimal jackknife, percent, one array per entrant."""
    models, n, size = battles.features.shape
    hessian, pull = _RIDGE * np.eye(models + size), np.zeros((n, models + size))
    for m in range(models):
        x = np.zeros((n, models + size))
        x[:, m], x[:, models:] = 1.0, -battles.features[m]
        p = sigmoid(x @ np.concatenate([theta, coef]))
        hessian += (x * (battles.weight[m] * p * (1 - p))[:, None]).T @ x
        pull += (battles.wins[m] - battles.weight[m] * p)[:, None] * x
    mean_features = np.einsum("mn,mnf->nf", battles.weight, battles.features - centre) / battles.weight.sum()
    influences = []
    for row, q in enumerate(sigmoid(theta - centre @ coef)):
        # The logit of the win rate is the strength less the mean style, which moves with the questions too.
        gradient = np.concatenate([np.eye(models)[row], -centre])
        coef_shift = pull @ np.linalg.solve(hessian, gradient)
        influence = 100 * q * (1 - q) * n * (coef_shift - mean_features @ coef)
        influences.append(influence - influence.mean())
    return influences


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
    n = len(questions)
    all_questions = np.ones((1, n))
    theta, coef = _solve(battles, all_questions, (np.zeros(len(battles.names)), np.zeros(len(FEATURES))))
    centre = _centre(battles, all_questions)[0]
    features, weight = battles.features.reshape(-1, len(FEATURES)), battles.weight.ravel()
    spread = np.sqrt(weight @ (features - centre) ** 2 / weight.sum())
    strengths, slopes = theta[0], coef[0]
    if scorer == "2025-06":
        strengths, slopes = follow_official_steps(battles, centre, spread)
    shortfall = strengths - centre @ slopes - (theta[0] - centre @ coef[0])
    draws = []
    # The same resamples as the plain win rates, so that their difference is paired.
    counts = resample_counts(n, replicates, seed) if replicates else np.zeros((0, n))
    for first in range(0, len(counts), _CHUNK):
        chunk = counts[first : first + _CHUNK]
        chunk_theta, chunk_coef = _solve(battles, chunk, (theta[0], coef[0]))
        shift = np.einsum("bf,bf->b", _centre(battles, chunk), chunk_coef)
        # Resamples are solved whole, and moved by what the script's own fit falls short (0 for v0.1).
        draws.append(100 * sigmoid(chunk_theta - shift[:, None] + shortfall))
    draws_of_rows = np.concatenate(draws) if draws else np.zeros((0, len(battles.names)))
    influences = _influence(battles, theta[0], coef[0], centre)
    official, equal = 100 * sigmoid(strengths - centre @ slopes), 100 * sigmoid(strengths)
    return {
        name: StyleFit(
            float(official[row]), float(equal[row]), dict(zip(FEATURES, (slopes * spread).tolist(), strict=True)),
            tuple(draws_of_rows[:, row].tolist()), influences[row], battles.by_tokens,
        )
        for row, name in enumerate(battles.names)
        if battles.weight[row].any()
    }  # fmt: skip
