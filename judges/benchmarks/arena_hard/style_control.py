"""Style control of Arena-Hard: what the win rate would be if answers did not differ in length and markdown.

Bradley-Terry with style terms, as lmarena/arena-hard-auto (v0.1 era) and Chatbot Arena fit it: one strength per model,
the baseline at 0, and four coefficients that all models share, on (baseline - model) / (baseline + model + 1) of the
length and of the counts of headers, list items and bold spans, code blocks removed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.contracts.benchmark import Entrant, pair_answers
from harness.stats import Array
from harness.types import Question
from judges.benchmarks.scoring import Ratio, resample_counts, sigmoid

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


def _style(text: str, tokens: object) -> Array:
    length = tokens if isinstance(tokens, int) and not isinstance(tokens, bool) else len(text)
    return np.array([length, *(sum(kinds.values()) for kinds in markdown_breakdown(text).values())], dtype=float)


@dataclass(frozen=True)
class Battles:
    """Weighted wins and weights [entrants, questions] against the baseline, and style features [..., 4].

    All are 0 where there is no answer or no game. Lengths are in tokens where all answers came with counts.
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


def _gather(questions: Sequence[Question], entrants: Mapping[str, Entrant], ratios: Mapping[str, Ratio]) -> Battles:
    names = tuple(name for name in entrants if entrants[name].answers)
    features = np.zeros((len(names), len(questions), len(FEATURES)))
    wins, weight = np.zeros(features.shape[:2]), np.zeros(features.shape[:2])
    places = {question.id: place for place, question in enumerate(questions)}
    with_answers = {name: pair_answers(questions, entrants[name].answers) for name in names}
    by_tokens = bool(names) and all(
        isinstance(answer.meta.get("token_len"), int) and isinstance(question.meta.get("baseline_token_len"), int)
        for name in names
        for question, answer in with_answers[name]
    )
    base = [_style(q.baseline[0], q.meta.get("baseline_token_len") if by_tokens else None) for q in questions]
    for row, name in enumerate(names):
        for question, answer in with_answers[name]:
            place = places[question.id]
            style = _style(answer.turns[0], answer.meta.get("token_len") if by_tokens else None)
            features[row, place] = (base[place] - style) / (base[place] + style + 1)
            wins[row, place], weight[row, place] = ratios[name].numerator[place], ratios[name].denominator[place]
    return Battles(names, features, wins, weight, by_tokens)


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
    replicates: int, seed: int,
) -> dict[str, StyleFit]:  # fmt: skip
    """Style-controlled win rates of every entrant from one joint fit of the weighted wins in ``ratios``."""
    battles = _gather(questions, entrants, ratios)
    if not battles.names or not battles.weight.any():
        return {}
    n = len(questions)
    all_questions = np.ones((1, n))
    theta, coef = _solve(battles, all_questions, (np.zeros(len(battles.names)), np.zeros(len(FEATURES))))
    centre = _centre(battles, all_questions)[0]
    features, weight = battles.features.reshape(-1, len(FEATURES)), battles.weight.ravel()
    spread = np.sqrt(weight @ (features - centre) ** 2 / weight.sum())
    draws = []
    # The same resamples as the plain win rates, so that their difference is paired.
    counts = resample_counts(n, replicates, seed) if replicates else np.zeros((0, n))
    for first in range(0, len(counts), _CHUNK):
        chunk = counts[first : first + _CHUNK]
        strength, slopes = _solve(battles, chunk, (theta[0], coef[0]))
        shift = np.einsum("bf,bf->b", _centre(battles, chunk), slopes)
        draws.append(100 * sigmoid(strength - shift[:, None]))
    draws_of_rows = np.concatenate(draws) if draws else np.zeros((0, len(battles.names)))
    influences = _influence(battles, theta[0], coef[0], centre)
    official, equal = 100 * sigmoid(theta[0] - centre @ coef[0]), 100 * sigmoid(theta[0])
    return {
        name: StyleFit(
            float(official[row]), float(equal[row]), dict(zip(FEATURES, (coef[0] * spread).tolist(), strict=True)),
            tuple(draws_of_rows[:, row].tolist()), influences[row], battles.by_tokens,
        )
        for row, name in enumerate(battles.names)
        if battles.weight[row].any()
    }  # fmt: skip
