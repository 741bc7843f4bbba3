"""Scores of AlpacaEval: raw, discrete and length-controlled win rates with intervals over instructions.

The length control has two data sources. Official questions against the official baseline use the rows of the gamed
baselines and the published difficulties: exact from the hub's ``df_gamed.csv`` where it is among the assets, else from
the recovered files (within 0.15 of the leaderboard, and labelled so). Everything else fits the difficulties jointly
over all entrants of the call and has no gamed rows, so its penalty is weak and fixed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import fmean

import numpy as np

from harness.contracts.benchmark import Entrant
from harness.errors import UserError
from harness.stats import Array, percentile_interval
from harness.types import Question, Score
from judges.benchmarks.alpaca_eval.benchmark import drawn
from judges.benchmarks.alpaca_eval.length_control import (
    MIN_QUESTIONS,
    NO_GAMED,
    Fit,
    Gamed,
    Rows,
    bootstrap,
    confounded,
    contributions,
    converged,
    fit_official,
    fit_plain,
    length_feature,
)
from judges.benchmarks.coverage import Given, given
from judges.benchmarks.glm import joint_difficulty
from judges.benchmarks.shared import Ratio, answer_detail, pairs, ratio_score, reasons, resample_counts, verdicts

HUB_FILE = "alpaca_eval/df_gamed.csv"
RECOVERED_GAMED = "alpaca_eval/df_gamed_recovered.csv"
RECOVERED_DIFFICULTY = "alpaca_eval/instruction_difficulty_recovered.csv"
OFFICIAL_BASELINE = "gpt4_1106_preview"
MIN_ENTRANTS = 3
"""Fewer entrants cannot tell a hard instruction from a bad model: then there is no difficulty term."""


@dataclass(frozen=True)
class LengthData:
    """What the length control reads besides the verdicts."""

    difficulty: Array
    """One per question, in the order of the questions."""
    gamed: Gamed
    label: str
    """Printed with every LC made from it."""
    official: bool
    """Whether the official liblinear loop makes the point estimate."""


def read_length_files(gamed: str, difficulty: str | None) -> tuple[Gamed, Array]:
    """Gamed rows and difficulties by instruction index; the hub's file holds both. Paths of CSV files."""
    import csv

    with open(gamed, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = {
        name: np.array([float(row[name]) for row in rows])
        for name in ("preference", "std_delta_len", "instruction_difficulty")
    }
    if difficulty is None:
        by_index = {int(row["index"]): float(row["instruction_difficulty"]) for row in rows}
    else:
        with open(difficulty, encoding="utf-8", newline="") as file:
            by_index = {int(row["index"]): float(row["instruction_difficulty"]) for row in csv.DictReader(file)}
    ordered = np.array([by_index[index] for index in range(len(by_index))])
    feature = np.tanh(columns["std_delta_len"])
    return Gamed(columns["preference"], feature, columns["instruction_difficulty"]), ordered


@lru_cache(maxsize=4)
def _read_cached(gamed: str, difficulty: str | None) -> tuple[Gamed, Array]:
    return read_length_files(gamed, difficulty)


def official_files() -> tuple[Gamed, Array, str]:
    """(gamed rows, difficulties by index, label). Raises UserError when neither source is among the assets."""
    from harness.assets import locate, present

    if present(HUB_FILE):
        return *_read_cached(str(locate(HUB_FILE)), None), "LC (official)"
    gamed, difficulty = locate(RECOVERED_GAMED), locate(RECOVERED_DIFFICULTY)
    return *_read_cached(str(gamed), str(difficulty)), "LC reconstructed, +-0.15"


@dataclass(frozen=True)
class Column:
    """One entrant's preferences and lengths, in the order of the questions; nan where there is none."""

    preference: Array
    delta: Array
    """Baseline length minus model length, characters."""
    identical: bool
    """Every answer is the baseline's own: 50% by construction."""


def column_of(questions: Sequence[Question], entrant: Entrant) -> Column:
    read = verdicts(entrant.judgments)
    answers = {question.id: answer for question, answer in pairs(questions, entrant)}
    preference, delta = np.full(len(questions), np.nan), np.full(len(questions), np.nan)
    same = True
    for index, question in enumerate(questions):
        parts, answer = read.get(question.id), answers.get(question.id)
        if answer and drawn(question, answer):
            parts = {"identical": 0.5}
        if parts and answer:
            preference[index] = fmean(parts.values())
            delta[index] = len(question.baseline[0]) - len(answer.turns[0])
            same = same and answer.turns[0] == question.baseline[0]
    return Column(preference, delta, same)


def _coverage(questions: Sequence[Question], entrant: Entrant, column: Column) -> dict[str, float]:
    """Verdicts that are missing, and the questions that count by the share of theirs; a draw needs none."""
    parts = sorted({judgment.part for judgment in entrant.judgments}) or ["preference"]
    found, counts = given(questions, entrant.judgments, parts), ~np.isnan(column.preference)
    found = Given(found.read, np.where(counts & (found.read == 0), 0.0, found.asked))
    return found.detail(np.where(counts, found.share, 0.0))


def raw_metrics(preference: Array) -> dict[str, float]:
    """The official raw metrics of preferences in 0..1 without nan: percent, and counts."""
    n = preference.size
    wins, losses = int((preference > 0.5).sum()), int((preference < 0.5).sum())
    draws = n - wins - losses
    spread = float(preference.std(ddof=1)) / np.sqrt(n) if n > 1 else float("nan")
    return {
        "win_rate": 100 * float(preference.mean()),
        "standard_error": 100 * float(spread),
        "n_wins": float(wins),
        "n_wins_base": float(losses),
        "n_draws": float(draws),
        "n_total": float(n),
        "discrete_win_rate": 100 * (wins + 0.5 * draws) / n,
    }


def raw_score(questions: Sequence[Question], entrant: Entrant, column: Column, seed: int, replicates: int) -> Score:
    here = ~np.isnan(column.preference)
    ratio = Ratio(
        tuple(question.id for question in questions), np.where(here, column.preference, 0.0), here.astype(float)
    )
    counted = reasons(entrant.judgments)
    notes = []
    if "flag:no-logprobs" in counted:
        notes.append(f"{counted['flag:no-logprobs']:.0f} of {counted['judgments']:.0f} verdicts from text: no-logprobs")
    detail: dict[str, float | str] = {**answer_detail(questions, entrant), **counted}
    detail["identical"] = float(sum(drawn(question, answer) for question, answer in pairs(questions, entrant)))
    if here.any():
        detail.update(raw_metrics(column.preference[here]))
    detail["baseline_length"] = fmean(len(question.baseline[0]) for question in questions)
    return ratio_score("alpaca_eval.wr", ratio, replicates, seed, "; ".join(notes), detail)


def _length_data(
    questions: Sequence[Question], columns: Mapping[str, Column], compat_leaderboard: bool
) -> LengthData | str:
    """The data for this call, or why there is none."""
    if all(question.meta.get("baseline") == OFFICIAL_BASELINE for question in questions):
        try:
            gamed, by_index, label = official_files()
        except UserError as error:
            return f"no LC: {error}"
        difficulty = by_index[[int(question.meta["index"]) for question in questions]]
        if compat_leaderboard:  # the leaderboard's row-index bug: see ``length_controlled``
            difficulty, label = by_index[: len(questions)], label + ", difficulties by row position"
        return LengthData(difficulty, gamed, label, True)
    official = any("index" in question.meta for question in questions)
    label = "LC (other baseline): difficulties joint over the entrants" if official else "LC (pocket)"
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
    here = ~np.isnan(column.preference)
    n, missing = int(here.sum()), int((~here).sum())
    if isinstance(data, str):
        return Score("alpaca_eval.lc", None, None, None, n, missing, data)
    if n < MIN_QUESTIONS:
        note = f"LC is n/a below {MIN_QUESTIONS} scored questions ({n} here): length and ability cannot be told apart"
        return Score("alpaca_eval.lc", None, None, None, n, missing, note)
    ids = [question.id for question, counted in zip(questions, here, strict=True) if counted]
    if column.identical:
        note = f"{data.label}; the baseline's own answers: 50 by construction"
        return Score(
            "alpaca_eval.lc", 50.0, 50.0, 50.0, n, missing, note, dict.fromkeys(ids, 50.0), (50.0,) * replicates
        )
    if not data.official and confounded(column.delta[here]):
        note = "LC is n/a: the answers differ from the baseline's by so similar a length that it cannot be told"
        return Score("alpaca_eval.lc", None, None, None, n, missing, f"{note} from ability")
    difficulty = data.difficulty[:n] if compat and data.official else data.difficulty[here]
    rows = Rows(column.preference[here], column.delta[here], difficulty)
    fit = fit_official(rows, data.gamed) if data.official else fit_plain(rows)
    exact = converged(rows, data.gamed, fit) if data.official else fit
    if data.official and not (fit.coef.any() and exact.coef.any()):
        note = f"{data.label}; no interval: at the C of cross-validation ({fit.cost:g}) every coefficient is 0"
        note += ", which gives 50 whatever the verdicts"
        return Score("alpaca_eval.lc", fit.value, None, None, n, missing, note, detail=_lc_detail(fit, rows))
    draws: Array = np.zeros(0)
    if replicates:
        # liblinear stops early: the replicates are solved exactly and moved by that (constant) difference
        counts = resample_counts(len(questions), replicates, seed)[:, here]
        draws = bootstrap(rows, data.gamed, exact, counts) + (fit.value - exact.value)
    low, high = percentile_interval(draws, n) if replicates else (None, None)
    shares = contributions(rows, data.gamed, exact) + (fit.value - exact.value)
    return Score(
        "alpaca_eval.lc", fit.value, low, high, n, missing, data.label,
        dict(zip(ids, shares.tolist(), strict=True)), tuple(draws.tolist()), _lc_detail(fit, rows),
    )  # fmt: skip


def _lc_detail(fit: Fit, rows: Rows) -> dict[str, float | str]:
    raw = 100 * float(rows.preference.mean())
    return {
        "lc_standard_error": fit.official_error,
        "C": fit.cost,
        "coef_length": float(fit.coef[0]),
        "coef_difficulty": float(fit.coef[1]),
        "coef_bias": float(fit.coef[2]),
        "raw_minus_lc": raw - fit.value,
    }


def score(
    questions: Sequence[Question], entrants: Mapping[str, Entrant], compat: bool, seed: int, replicates: int
) -> dict[str, tuple[Score, ...]]:
    """LC and WR of every entrant, on the same resamples. Pure but for reading (and keeping) the length files."""
    columns = {key: column_of(questions, entrant) for key, entrant in entrants.items()}
    data = _length_data(questions, columns, compat) if questions else "no questions"
    scored: dict[str, tuple[Score, ...]] = {}
    for key, entrant in entrants.items():
        lc = length_controlled(questions, columns[key], data, compat, seed, replicates)
        wr = raw_score(questions, entrant, columns[key], seed, replicates)
        coverage = _coverage(questions, entrant, columns[key])
        scored[key] = (replace(lc, detail={**lc.detail, **coverage}), replace(wr, detail={**wr.detail, **coverage}))
    return scored
