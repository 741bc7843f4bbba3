"""Synthetic results for the report tests: no model, no judge, seeded numbers with a stated truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from harness.contracts.benchmark import Card, Metric
from harness.stats import percentile_interval, resamples, seed_of
from harness.types import Score
from reports.tables.score_table import score_table
from reports.tables.summary import MIN_COVERAGE, summarise
from reports.tables.table import Table
from reports.targets import TARGETS
from results.run.record import Cell, RowSpec, Run, RunFamily
from results.run.results import Results

METRICS = (
    Metric("alpaca_eval.lc", "LC", "AlpacaEval 2", margin=2.0),
    Metric("alpaca_eval.wr", "WR", "AlpacaEval 2", margin=2.0),
    Metric("arena_hard.wr", "WR", "Arena-Hard", margin=2.0),
    Metric("mt_bench.score", "Score", "MT-Bench", unit="1~10", margin=0.2),
    Metric("gsm8k.acc", "Acc.", "GSM8K", margin=2.0),
)
POCKET = RunFamily("pocket", "pocket-teacher", "pocket-student")
TRUTH = {
    "teacher": (0.62, "Teacher"),
    "student": (0.42, "Student"),
    "kd": (0.44, "Standard KD"),
    "seqkd": (0.47, "SeqKD"),
    "minillm": (0.48, "MiniLLM"),
    "dpo": (0.52, "DPO"),
    "simpo": (0.53, "SimPO"),
    "pro": (0.54, "PRO"),
    "pad-vpd": (0.55, "PAD-VPD"),
    "pad-ppd": (0.57, "PAD-PPD"),
}
CARDS = (
    Card("alpaca_eval", "pocket-1", "0f3a9c77d2e1", deviations=("200 pocket questions instead of 805",)),
    Card("arena_hard", "pocket-1", "81bb02aa9001"),
    Card("mt_bench", "pocket-1", "aa01ffed2390"),
    Card("gsm8k", "pocket-1", "none"),
)
JUDGES = {"alpaca_eval": "pocket-judge", "arena_hard": "pocket-judge", "mt_bench": "pocket-judge", "gsm8k": "by rule"}


def score(metric: Metric, truth: float, questions: int, seed: int, replicates: int = 400, unscored: int = 0) -> Score:
    """A score whose questions are noisy around ``truth``; questions are shared by all models, as in a benchmark."""
    shared = np.random.default_rng(7).normal(0, 0.2, questions)
    seeds = [seed, int(truth * 1000), seed_of(metric.id) % 1000]
    own_noise = np.random.default_rng(seeds).normal(0, 0.12, questions)
    offset = np.random.default_rng([*seeds, 5]).normal(0, 0.008)
    values = np.clip(truth + offset + shared + own_noise, 0, 1)
    scale = 100.0 if metric.unit == "%" else 10.0
    draws = values[resamples(questions, replicates, 3)].mean(axis=1) * scale
    low, high = percentile_interval(draws)
    return Score(
        metric.id, float(values.mean() * scale), low, high, questions, unscored, replicates=tuple(draws.tolist())
    )


def make(
    rows: tuple[str, ...] = tuple(TRUTH),
    seeds: tuple[int, ...] = (0, 1, 2),
    family: RunFamily = POCKET,
    questions: int = 150,
    replicates: int = 400,
) -> Results:
    """A whole table; the teacher is judged with the first seed only."""
    specs = tuple(RowSpec(row, TRUTH.get(row, (0.5, row))[1], row in ("teacher", "student")) for row in rows)
    cells, scores = [], {}
    for row in rows:
        for metric in METRICS:
            for seed in seeds[:1] if row == "teacher" else seeds:
                cells.append(Cell(row, metric.id, seed, "f" * 32, f"{row} {seed}"))
                truth = TRUTH.get(row, (0.5, row))[0]
                scores[row, metric.id, seed] = score(metric, truth, questions, seed, replicates)
    run = Run(
        family.name, {"family": family.name}, "2026-01-01T00:00:00+00:00", True, family, specs, METRICS, seeds,
        tuple(cells), CARDS, JUDGES,
    )  # fmt: skip
    return Results(run, scores)


def with_missing(results: Results, row: str, reason: str) -> Results:
    """The same results with a whole row unavailable."""
    cells = tuple(
        replace(c, score="", entrant="", unavailable=reason) if c.row == row else c for c in results.run.cells
    )
    scores = {place: cell_score for place, cell_score in results.scores.items() if place[0] != row}
    reasons = {(c.row, c.metric, c.seed): reason for c in cells if c.row == row}
    sources = {place: source for place, source in results.sources.items() if place[0] != row}
    return Results(replace(results.run, cells=cells), scores, {**results.missing_scores, **reasons}, sources=sources)


def with_score(results: Results, place: tuple[str, str, int], **changes: object) -> Results:
    """The same results with fields of one score changed."""
    changed_score = replace(results.scores[place], **changes)  # type: ignore[arg-type]
    return replace(results, scores={**results.scores, place: changed_score})


def paper(rows: tuple[str, ...] = tuple(TRUTH), seeds: tuple[int, ...] = (0, 1, 2)) -> Results:
    """The same numbers as if they were of the paper's own models, prompts, questions and judges."""
    results = make(rows, seeds, RunFamily("gemma2", "google/gemma-2-9b-it", "google/gemma-2-2b-it"))
    cards = tuple(
        replace(card, version="official", parameters={"questions": "official"}, deviations=()) for card in CARDS
    )
    judges = {"alpaca_eval": "Llama-3.1-70B-Instruct", "arena_hard": "meta-llama/Meta-Llama-3.1-70B-Instruct"}
    judges |= {"mt_bench": "gpt-4-1106-preview", "gsm8k": "by rule"}
    recipe = {"prompts": {"source": "ultrafeedback", "n": 60_000}}
    return Results(replace(results.run, recipe=recipe, cards=cards, judges=judges), results.scores)


def table_of(results: Results, min_coverage: float = MIN_COVERAGE, target: str = "table1") -> Table:
    """A table of scores without its figures."""
    return score_table(summarise(results, TARGETS[target], min_coverage), results)
