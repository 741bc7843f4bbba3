"""How often a table's statistics are right, on simulated runs whose truth is known, through the product's own code.

    python studies/table_statistics.py --out studies/table_statistics.json

A simulated column has a student, eight trained rows, S seeds and n questions. Row m's score under seed s on question q:

    y = truth_m + question_q + own_mq + seed_ms + noise_msq

with normal parts; question effects are shared by all rows, as in a benchmark. The scores go through
``reports.tables.summary.summarise`` like any run's. Counted over ``--runs`` columns per setting:

- how often the 95% intervals hold the truth, of values and of changes; of changes also the row that does worst;
- with nothing to find, how often a column has any false positive after Holm's correction (family-wise error), against
  the student and for the focus row; and with half of the rows truly better, how often one of the others is called so;
- how often the truly best row is told apart from the row that happens to look best (it should not be);
- how often a change of the size that the table calls detectable is found (one test, before Holm: 80% wanted);
- how often the verdict beside a published value is wrong: ``agrees`` when the truth is just outside of the margin,
  ``differs`` when there is no difference;
- the seed's share of a value's variance, as printed and in truth.

``unpooled`` are the changes with a seed variance of each method's own instead of the pooled one: the reason for
pooling. One core, about five minutes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.contracts.benchmark import Metric
from harness.contracts.target import Target
from harness.stats import Array, Draws, contrast, percentile_interval, resamples, seed_noise
from harness.types import Score
from reports.tables.published import AGREES, DIFFERS, verdict
from reports.tables.summary import Summary, summarise
from results.run.record import Cell, RowSpec, Run, RunFamily
from results.run.results import Results

METRIC = Metric("simulated.wr", "WR (%)", "Simulated", margin=2.0)
ROWS = tuple(f"m{number}" for number in range(8))
TARGET = Target("simulated", "Table", "Simulated", ("student", *ROWS), (METRIC.id,), focus=ROWS[-1])


@dataclass(frozen=True)
class Setting:
    """One kind of run; standard deviations in the metric's points."""

    seeds: int = 3
    questions: int = 200
    question: float = 30.0
    """Effect of the question that all rows share."""
    own: float = 10.0
    """Effect of the question on one row, under all its seeds."""
    noise: float = 25.0
    """Answers drawn anew and the judge's noise."""
    seed: float = 0.0
    """Effect of the training seed; of row m ``uneven`` to the power -1 to 1 times as much."""
    uneven: float = 1.0
    gains: tuple[float, ...] = (0.0,) * len(ROWS)
    """Truth of each row minus the student's."""


SETTINGS: Mapping[str, Setting] = {
    "one seed": Setting(seeds=1),
    "three seeds, no seed effect": Setting(),
    "three seeds, small seed effect": Setting(seed=1.0),
    "three seeds, large seed effect": Setting(seed=3.0),
    "three seeds, large and uneven seed effect": Setting(seed=3.0, uneven=2.0),
    "five seeds, large seed effect": Setting(seeds=5, seed=3.0),
    "48 questions, three seeds": Setting(questions=48, seed=1.0),
}


def truths(setting: Setting) -> dict[str, float]:
    """Row to its true value."""
    return {"student": 40.0, **{row: 40.0 + gain for row, gain in zip(ROWS, setting.gains, strict=True)}}


def column(setting: Setting, rng: np.random.Generator, replicates: int) -> Results:
    """One simulated column."""
    n, question_effects = setting.questions, rng.normal(0, setting.question, setting.questions)
    counts = resample_counts(n, replicates, int(rng.integers(2**31)))
    scores: dict[tuple[str, str, int], Score] = {}
    powers = dict(zip(ROWS, np.linspace(-1, 1, len(ROWS)), strict=True))
    for row, truth in truths(setting).items():
        row_effects = rng.normal(0, setting.own, n)
        for seed in range(setting.seeds):
            luck = 0.0 if row == "student" else rng.normal(0, setting.seed * setting.uneven ** powers[row])
            y = truth + question_effects + row_effects + luck + rng.normal(0, setting.noise, n)
            draws = counts @ y / n
            low, high = percentile_interval(draws)
            value = float(y.mean())
            scores[row, METRIC.id, seed] = Score(METRIC.id, value, low, high, n, 0, replicates=tuple(draws.tolist()))
    rows = (RowSpec("student", "Student", True), *(RowSpec(row, row) for row in ROWS))
    seeds = tuple(range(setting.seeds))
    cells = tuple(Cell(row, metric, seed, "k", "e") for row, metric, seed in scores)
    run = Run("simulated", {}, "", True, RunFamily("simulated", "t", "s"), rows, (METRIC,), seeds, cells)
    return Results(run, scores)


def resample_counts(n: int, replicates: int, seed: int) -> Array:
    """[replicates, n] how often each question is drawn."""
    picks = resamples(n, replicates, seed) + n * np.arange(replicates)[:, None]
    return np.bincount(picks.ravel(), minlength=n * replicates).reshape(replicates, n).astype(float)


def interval_without_pooling(results: Results, row: str) -> tuple[float, float]:
    """The interval of a row's change with a seed variance of its own."""
    draws = {}
    for name in (row, "student"):
        scores = [score for (scored_row, _, _), score in sorted(results.scores.items()) if scored_row == name]
        grid = np.array([score.replicates for score in scores])
        draws[name] = Draws(np.array([score.value for score in scores], dtype=float), grid, name != "student")
    n = scores[0].n
    change = contrast(draws[row], draws["student"], n, seed_noise([draws[row]]))
    return change.low, change.high


def coverage(setting: Setting, runs: int, replicates: int) -> dict[str, Any]:
    """With nothing to find: intervals, false positives, ties, shares of variance."""
    hits, changes, unpooled_hits = np.zeros(len(ROWS)), np.zeros(len(ROWS)), 0
    wide, unpooled_width, false_columns, false_focus, left_out, shares = 0.0, 0.0, 0, 0, 0, []
    for run in range(runs):
        results = column(setting, np.random.default_rng(run), replicates)
        summary = summarise(results, TARGET)
        cells = [summary.cells[row, METRIC.id] for row in ROWS]
        for place, cell in enumerate(cells):
            if cell.low is None or cell.high is None or cell.change.low is None or cell.change.high is None:
                raise SystemExit(f"run {run}: {cell.row.id} has no interval")
            hits[place] += cell.low <= 40.0 <= cell.high
            changes[place] += cell.change.low <= 0.0 <= cell.change.high
            wide += (cell.change.high - cell.change.low) / len(ROWS)
        if setting.seeds > 1:
            low, high = interval_without_pooling(results, ROWS[run % len(ROWS)])
            unpooled_hits += low <= 0.0 <= high
            unpooled_width += high - low
        false_columns += any(cell.change.significant for cell in cells)
        false_focus += any(cell.focus.significant for cell in cells)
        best = summary.columns[0].best
        left_out += not (cells[run % len(ROWS)].tied or ROWS[run % len(ROWS)] in best)
        variance = summary.columns[0].shares
        shares += [variance["seed"]] if variance is not None else []
    measures: dict[str, Any] = {
        "interval_of_value": share(hits.sum(), runs * len(ROWS)),
        "interval_of_change": share(changes.sum(), runs * len(ROWS)),
        "interval_of_change_worst_row": share(changes.min(), runs),
        "mean_width_of_change": round(wide / runs, 3),
        "family_wise_error_against_student": share(false_columns, runs),
        "family_wise_error_of_focus": share(false_focus, runs),
        "best_row_left_out": share(left_out, runs),
    }
    if setting.seeds > 1:
        measures |= {
            "interval_of_change_unpooled": share(unpooled_hits, runs),
            "mean_width_of_change_unpooled": round(unpooled_width / runs, 3),
            "seed_share_printed": round(float(np.mean(shares)), 3),
            "seed_share_true": round(true_share(setting), 3),
        }
    return measures


def true_share(setting: Setting) -> float:
    """The seed's share in the variance of a row's value, mean over the rows' own."""
    powers = np.linspace(-1, 1, len(ROWS))
    seed = float(np.mean((setting.seed * setting.uneven**powers) ** 2)) / setting.seeds
    question = (setting.question**2 + setting.own**2) / setting.questions
    return seed / (seed + question + setting.noise**2 / setting.questions / setting.seeds)


def half_with_gain(setting: Setting, runs: int, replicates: int) -> dict[str, Any]:
    """Half of the rows truly better by 6 points: how often one of the others is called different."""
    gains = (0.0,) * 4 + (6.0,) * 4
    mixed_setting, false_columns, power_sum = replace(setting, gains=gains), 0, 0.0
    for run in range(runs):
        cells = summarise(column(mixed_setting, np.random.default_rng(10**6 + run), replicates), TARGET).cells
        false_columns += any(cells[row, METRIC.id].change.significant for row in ROWS[:4])
        power_sum += sum(cells[row, METRIC.id].change.significant for row in ROWS[4:]) / 4
    return {
        "family_wise_error_half": share(false_columns, runs),
        "power_of_6_points_after_holm": round(power_sum / runs, 3),
    }


def power(setting: Setting, runs: int, replicates: int) -> dict[str, Any]:
    """A true change of the size that the runs call detectable, on average: how often its own test finds it."""
    summaries = [summarise(column(setting, np.random.default_rng(run), replicates), TARGET) for run in range(20)]
    size = float(np.mean([summary.columns[0].detectable or 0.0 for summary in summaries]))
    gain_setting = replace(setting, gains=(size,) * len(ROWS))
    hits = 0
    for run in range(runs):
        cells = summarise(column(gain_setting, np.random.default_rng(2 * 10**6 + run), replicates), TARGET).cells
        hits += sum((cells[row, METRIC.id].change.p or 1.0) < 0.05 for row in ROWS)
    return {"detectable": round(size, 3), "power_at_detectable": share(hits, runs * len(ROWS))}


def verdicts(runs: int, replicates: int) -> dict[str, Any]:
    """A run precise enough to agree: verdicts when the truth is the published value, and when it is 2.01 points off."""
    setting = Setting(questions=4000, seed=0.3)
    verdicts_of: dict[str, list[str]] = {"same": [], "outside": []}
    for run in range(runs):
        summary = summarise(column(setting, np.random.default_rng(3 * 10**6 + run), replicates), TARGET)
        for row in ROWS:
            for case, published in (("same", 40.0), ("outside", 40.0 - 2.01)):
                verdicts_of[case].append(one_verdict(summary, row, published))
    count = runs * len(ROWS)
    return {
        "differs_when_equal": share(verdicts_of["same"].count(DIFFERS), count),
        "agrees_when_equal": round(verdicts_of["same"].count(AGREES) / count, 3),
        "agrees_when_outside_of_margin": share(verdicts_of["outside"].count(AGREES), count),
    }


def one_verdict(summary: Summary, row: str, published: float) -> str:
    """As ``reports.tables.published`` has it."""
    cell = summary.cells[row, METRIC.id]
    if cell.low is None or cell.high is None:
        raise SystemExit(f"{row} has no interval")
    return verdict(cell.low - published, cell.high - published, METRIC.margin)


def share(count: float, of: int) -> dict[str, float]:
    """A rate with its Monte Carlo standard error; a little small, as the rows of a column are not independent."""
    rate = float(count) / of
    return {"rate": round(rate, 4), "error": round(float(np.sqrt(rate * (1 - rate) / of)), 4)}


def simulate(names: Sequence[str], runs: int, replicates: int) -> dict[str, Any]:
    """Every setting of these names, and the verdicts."""
    results: dict[str, Any] = {"runs": runs, "replicates": replicates, "rows": len(ROWS), "settings": {}}
    for name in names:
        start, setting = time.perf_counter(), SETTINGS[name]
        result = coverage(setting, runs, replicates) | half_with_gain(setting, runs // 2, replicates)
        result |= power(setting, runs // 4, replicates)
        results["settings"][name] = result
        print(f"{name}: {json.dumps(result)} ({time.perf_counter() - start:.0f} s)", flush=True)
    results["verdicts"] = verdicts(max(runs // 3, 5), replicates)
    return results


def main() -> None:
    """Simulate, print, store."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    parser.add_argument("--runs", type=int, default=1000, help="simulated columns per setting")
    parser.add_argument("--replicates", type=int, default=500, help="bootstrap resamples")
    chosen = parser.parse_args()
    results = simulate(list(SETTINGS), chosen.runs, chosen.replicates)
    print(f"verdicts: {json.dumps(results['verdicts'])}")
    if chosen.out:
        chosen.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
