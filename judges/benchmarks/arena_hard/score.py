"""Labels and scores of Arena-Hard: how both official scripts read, weigh and score, and intervals over questions.

``scorer: v0.1`` (lmarena/arena-hard-auto until 2024-12) is Bradley-Terry on weighted battles, a game without a verdict
dropped alone: against one baseline its maximum is the weighted share of wins (ties count half), so no optimiser is
needed. ``scorer: 2025-06`` is the mean of weighted verdicts; a question is dropped when either game has none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from statistics import fmean
from typing import Final, get_args

import numpy as np

from harness.contracts.benchmark import Entrant
from harness.stats import percentile_interval
from harness.types import Judgment, Question, Score, Verdict
from judges.benchmarks.arena_hard.style_control import Scorer, StyleFit
from judges.benchmarks.scoring import Detail, Ratio, count_verdicts, entrant_detail, verdicts

STRONG_WEIGHT: Final = 3.0
GAMES: Final = ("game1", "game2")
LABELS: Final = {"A>>B": 2.0, "A>B": 1.0, "A=B": 0.0, "B>A": -1.0, "B>>A": -2.0}  # margins of assistant A
MIRRORED_LABELS: Final = {"B<<A": 2.0, "B<A": 1.0, "B=A": 0.0, "A<B": -1.0, "A<<B": -2.0}
"""The same verdicts written backwards; the 2025-06 script scores them, v0.1 counted them as no verdict."""
MIRRORED_FLAG: Final = "mirrored-label"
NO_LABEL: Final = "no verdict label in the reply"
CONTINUE: Final = "continue your judgment and finish by outputting a final verdict label"
LABEL: Final = re.compile(r"\[\[([AB<>=]+)\]\]")
_SINGLE = re.compile(r"\[([AB<>=]+)\]")
_OFFICIAL_ROUNDS = 1000  # the scripts resample 100 times, which leaves the ends uncertain by some 0.3 points
_OFFICIAL_ENDS = {"v0.1": (2.5, 97.5), "2025-06": (5.0, 95.0)}  # percentiles: the later one prints a 90% interval


def read_label(text: str) -> Verdict:
    """Margin of assistant A by the rule of v0.1: labels that contradict each other are no verdict."""
    # A set: the same label twice is one verdict, as in the script.
    labels = set(LABEL.findall(text))
    if len(labels) > 1:
        return Verdict(None, f"contradicting labels {', '.join(sorted(labels)[:4])} in the reply")
    return _margin(labels.pop()) if labels else Verdict(None, NO_LABEL)


def read_last_label(text: str) -> Verdict:
    """Margin of assistant A by the rule of 2025: the last label, in double brackets if there are any."""
    # Only here: v0.1 reads capital letters alone.
    capital = text.upper()
    labels = LABEL.findall(capital)
    flags = () if labels else ("single-bracket",)
    labels = labels or _SINGLE.findall(capital)
    if not labels:
        return Verdict(None, NO_LABEL)
    verdict = _margin(labels[-1])
    if verdict.value is None:
        return verdict
    return replace(verdict, flags=(*verdict.flags, *flags, *("several-labels",) * (len(set(labels)) > 1)))


def _margin(label: str) -> Verdict:
    if label in LABELS:
        return Verdict(LABELS[label])
    if label in MIRRORED_LABELS:
        return Verdict(MIRRORED_LABELS[label], None, (MIRRORED_FLAG,))
    return Verdict(None, f"unknown label [[{label[:12]}]]")


def battle(margins: Sequence[float]) -> tuple[float, float]:
    """(weighted wins, weight) of a question's games: half the weight for equal; an averaged margin interpolates."""
    wins = weight = 0.0
    for margin in margins:
        # Repeats are averaged, so a margin may lie between 1 and 2: its weight then lies between 1 and 3.
        game_weight = 1.0 + (STRONG_WEIGHT - 1.0) * max(0.0, abs(margin) - 1.0)
        wins += game_weight * (0.5 + 0.5 * max(-1.0, min(1.0, margin)))
        weight += game_weight
    return wins, weight


def _without_unknown_labels(judgments: Sequence[Judgment], scorer: Scorer) -> Sequence[Judgment]:
    # The script of v0.1 knows five labels only: a mirrored one is no verdict.
    if scorer != "v0.1":
        return judgments
    return [replace(judgment, verdict=None) if MIRRORED_FLAG in judgment.flags else judgment for judgment in judgments]


def _games(questions: Sequence[Question], judgments: Sequence[Judgment], scorer: Scorer) -> list[list[float]]:
    margins = verdicts(_without_unknown_labels(judgments, scorer))
    games = [[margins[q.id][game] for game in GAMES if game in margins.get(q.id, {})] for q in questions]
    # The later script keeps only complete pairs of games, the earlier one every single game.
    return [[] if scorer == "2025-06" and len(row) < len(GAMES) else row for row in games]


def weighted_wins(questions: Sequence[Question], judgments: Sequence[Judgment], scorer: Scorer) -> Ratio:
    battles = [battle(games) for games in _games(questions, judgments, scorer)]
    wins, weights = np.array(battles, dtype=float).reshape(-1, 2).T
    return Ratio(tuple(question.id for question in questions), wins, weights)


def official_interval(
    questions: Sequence[Question], judgments: Sequence[Judgment], scorer: Scorer, seed: int
) -> tuple[float, float] | None:
    """What the official script prints as interval (percent): it resamples verdicts as if no two shared a question."""
    rows = np.zeros(3, dtype=np.int64)  # losses, ties, wins
    for margin in chain.from_iterable(_games(questions, judgments, scorer)):
        # The scripts copy a strong verdict three times before they resample.
        rows[int(np.sign(margin)) + 1] += round(battle([margin])[1])
    total = int(rows.sum())
    if not total:
        return None
    # Rows are exchangeable: to draw how many of them are wins, ties and losses is to draw rows.
    draws = np.random.default_rng(seed).multinomial(total, rows / total, size=_OFFICIAL_ROUNDS)
    low, high = np.percentile(100 * draws @ np.array([0.0, 0.5, 1.0]) / total, _OFFICIAL_ENDS[scorer])
    return float(low), float(high)


def score_detail(questions: Sequence[Question], entrant: Entrant, ratio: Ratio, scorer: Scorer, seed: int) -> Detail:
    judgments, margins = entrant.judgments, verdicts(entrant.judgments)
    detail = entrant_detail(questions, entrant)
    # Win rate in each game alone, and how often the games disagree: how much position sways this judge.
    for game in GAMES:
        battles = [battle([parts[game]]) for parts in margins.values() if game in parts]
        if battles:
            detail[game] = 100 * sum(wins for wins, _ in battles) / sum(weight for _, weight in battles)
    pairs = [parts for parts in margins.values() if len(parts) == len(GAMES)]
    if pairs:
        detail["flips"] = fmean(float(parts["game1"] * parts["game2"] < 0) for parts in pairs)
    # The same verdicts under both scripts, so that a reader sees what the choice of one does.
    for script in get_args(Scorer):
        value = weighted_wins(questions, judgments, script).value
        detail |= {} if value is None else {f"scorer_{script}": value}
    official = official_interval(questions, judgments, scorer, seed)
    if official is not None:
        detail["official_low"], detail["official_high"] = official
    detail["baseline_length"] = fmean(len(question.baseline[0]) for question in questions)
    # a question that the script drops covers nothing, one with one game covers half
    count = count_verdicts(questions, _without_unknown_labels(judgments, scorer), GAMES)
    return detail | count.detail(np.where(ratio.denominator > 0, count.share, 0.0))


def style_detail(fit: StyleFit | None, ratio: Ratio) -> Detail:
    if fit is None:
        return {}
    detail: Detail = {"style_controlled": fit.official, "style_controlled_equal": fit.equal_style}
    if fit.replicates:
        interval = percentile_interval(fit.replicates, ratio.scored_count)
        detail |= {"style_controlled_low": interval.low, "style_controlled_high": interval.high}
    detail["style_length_unit"] = "tokens" if fit.by_tokens else "characters"
    return detail | {f"style:{name}": value for name, value in fit.coefficients.items()}


def style_score(metric: str, scorer: Scorer, ratio: Ratio, fit: StyleFit | None, detail: Detail) -> Score:
    missing_count = len(ratio.ids) - ratio.scored_count
    if fit is None:
        note = "no style control: no answers, or no question has a verdict"
        return Score(metric, None, None, None, ratio.scored_count, missing_count, note, detail=detail)
    low, high = percentile_interval(fit.replicates, ratio.scored_count) if fit.replicates else (None, None)
    counts = ratio.denominator > 0
    shares = fit.official + fit.influence[counts] - fit.influence[counts].mean()
    per_question = dict(zip(np.array(ratio.ids)[counts].tolist(), shares.tolist(), strict=True))
    note = f"scorer {scorer}, style-controlled (length in {detail['style_length_unit']} and markdown)"
    if not fit.by_tokens:
        note += "; not official: the script takes the length in tokens (count_tokens: true)"
    return Score(
        metric, fit.official, low, high, ratio.scored_count, missing_count, note, per_question, fit.replicates, detail
    )
