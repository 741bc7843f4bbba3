"""How often the 95% intervals hold the truth: simulated judgments of every benchmark, scored by the product's own code.

    python studies/coverage.py --out studies/coverage.json

Questions are the clusters: the verdicts of one question (both orders, both games, both turns) share an effect, as they
do in life. The truth is the same estimand over a million simulated questions (for LC its value in the model that
makes the data). AlpacaEval LC: ``--refits`` refits per interval, C chosen anew in every run by the official
cross-validation; ``head-to-head`` is LC against a baseline of one's own, without gamed rows and at a fixed C. Beside
it how often the intervals of the official scripts hold the truth. The Monte Carlo error is the binomial standard error
of the coverage. One core, some 20 minutes, nearly all of them for LC. Results are written every 50 runs, and the same
command goes on from there unless the code behind the intervals has changed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from harness import stats
from harness.contracts.benchmark import Entrant
from harness.stats import Array
from harness.types import Judgment, Question, Score
from judges.benchmarks import mt_bench, scoring
from judges.benchmarks.alpaca_eval import benchmark as alpaca_eval
from judges.benchmarks.alpaca_eval import length_control
from judges.benchmarks.alpaca_eval.length_control import (
    NO_GAMED,
    Column,
    GamedRows,
    LengthData,
    length_controlled,
    length_feature,
)
from judges.benchmarks.arena_hard import benchmark as arena_hard
from judges.benchmarks.arena_hard import score as arena_score
from judges.benchmarks.arena_hard.score import GAMES
from judges.benchmarks.gsm8k import benchmark as gsm8k
from judges.benchmarks.mt_bench import TURNS
from judges.benchmarks.scoring import sigmoid

SIZES = {
    "alpaca_eval.wr": 805,
    "alpaca_eval.lc": 805,
    "alpaca_eval.lc head-to-head": 200,
    "arena_hard.wr": 500,
    "mt_bench.score": 80,
    "gsm8k.acc": 1319,
}
"""Questions of each official set; of pocket's for the comparison of two models."""
LARGE = 1_000_000
_LENGTH, _DIFFICULTY, _BIAS = -0.9, 0.8, -1.0
_EVEN = 0.1  # bias of a model nearly as good as its baseline, 52.5%: where a strong penalty would say 50
_SPREAD = 700.0  # standard deviation of the length differences, characters
Simulation = tuple[Score, dict[str, tuple[float, float]]]
"""A score, and the intervals that official scripts would print beside it."""


def bare_questions(n: int) -> list[Question]:
    """Questions without text: scoring reads their ids."""
    return [Question(str(number), ("",), baseline=("",)) for number in range(n)]


def preferences(rng: np.random.Generator, n: int) -> Array:
    """[n, 2] soft preferences of both orders: a question effect, a little position noise, confident verdicts."""
    question = rng.normal(-1.2, 2.0, (n, 1))
    return sigmoid(question + rng.normal(0.0, 1.5, (n, 2)))


def win_rate(rng: np.random.Generator, n: int, seed: int, replicates: int) -> Simulation:
    """AlpacaEval's raw win rate, both orders; 1% of the verdicts are missing."""
    questions, values = bare_questions(n), preferences(rng, n)
    judgments = [
        Judgment(question.id, f"order{order + 1}", None if rng.random() < 0.01 else float(values[row, order]))
        for row, question in enumerate(questions)
        for order in range(2)
    ]
    mean = np.full(n, np.nan)
    for row in range(n):
        pair = [j.verdict for j in judgments[2 * row : 2 * row + 2] if j.verdict is not None]
        mean[row] = np.mean(pair) if pair else np.nan
    return alpaca_eval.win_rate(
        questions, Entrant((), judgments), Column(mean, np.zeros(n), False), seed, replicates
    ), {}


def lengths(rng: np.random.Generator, n: int) -> tuple[Array, Array]:
    """Length differences (whole characters) and difficulties of n instructions."""
    return rng.normal(-200.0, _SPREAD, n).round(), rng.normal(0.0, 1.0, n)


def length_rows(
    rng: np.random.Generator, n: int, bias: float, hard: float = _DIFFICULTY
) -> tuple[Array, Array, Array, Array]:
    """Length differences, their feature, difficulties and confident soft preferences whose mean is the GLM's."""
    delta, difficulty = lengths(rng, n)
    p = sigmoid(_LENGTH * np.tanh(delta / _SPREAD) + hard * difficulty + bias)
    return delta, length_feature(delta), difficulty, rng.beta(0.6 * p, 0.6 * (1 - p))


def length_win_rate(rng: np.random.Generator, n: int, seed: int, replicates: int) -> Simulation:
    """AlpacaEval's length-controlled win rate by the official fit, with 1,610 gamed rows of the same judge."""
    gamed_rng = np.random.default_rng(0)  # the gamed rows are one published file, not a sample of this run
    _, feature, difficulty, preference = length_rows(gamed_rng, 1610, 0.0)
    delta, _, difficulties, values = length_rows(rng, n, _BIAS)
    data = LengthData(difficulties, GamedRows(preference, feature, difficulty), "simulated")
    score = length_controlled(bare_questions(n), Column(values, delta, False), data, seed, replicates)
    margin = 1.96 * float(score.detail["lc_standard_error"])
    value = score.value or 0.0
    return score, {"lc_standard_error": (value - margin, value + margin)}


def head_to_head(rng: np.random.Generator, n: int, seed: int, replicates: int) -> Simulation:
    """LC of one model against a baseline of one's own: no gamed rows and, with one entrant, no difficulty term."""
    delta, _, _, values = length_rows(rng, n, _EVEN, hard=0.0)
    data = LengthData(np.zeros(n), NO_GAMED, "simulated")
    return length_controlled(bare_questions(n), Column(values, delta, False), data, seed, replicates), {}


def margins(rng: np.random.Generator, n: int) -> Array:
    """[n, 2] margins of two games, -2 to 2, with a question effect."""
    quality = rng.normal(-0.8, 1.4, (n, 1)) + rng.normal(0.0, 0.9, (n, 2))
    return np.digitize(quality, [-1.6, -0.3, 0.3, 1.6]) - 2.0


def arena(rng: np.random.Generator, n: int, seed: int, replicates: int) -> Simulation:
    """Arena-Hard, scorer v0.1; 2% of the games have no verdict."""
    questions, values = bare_questions(n), margins(rng, n)
    judgments = [
        Judgment(question.id, game, None if rng.random() < 0.02 else float(values[row, number]))
        for row, question in enumerate(questions)
        for number, game in enumerate(GAMES)
    ]
    config = arena_hard.ArenaHardConfig()
    (score,) = arena_hard.BENCHMARK.score(questions, {"x": Entrant((), judgments)}, config, seed, replicates)["x"]
    return score, {"resampled verdicts": (float(score.detail["official_low"]), float(score.detail["official_high"]))}


def ratings(rng: np.random.Generator, n: int) -> Array:
    """[n, 2] ratings of two turns, whole numbers from 1 to 10, with a question effect."""
    return np.clip(np.round(rng.normal(6.5, 1.8, (n, 1)) + rng.normal([0.0, -0.6], 1.2, (n, 2))), 1, 10)


def turns(rng: np.random.Generator, n: int, seed: int, replicates: int) -> Simulation:
    """MT-Bench; 1% of the ratings are missing."""
    questions, values = bare_questions(n), ratings(rng, n)
    judgments = [
        Judgment(question.id, turn, None if rng.random() < 0.01 else float(values[row, number]))
        for row, question in enumerate(questions)
        for number, turn in enumerate(TURNS)
    ]
    config = mt_bench.MTBenchConfig()
    return mt_bench.BENCHMARK.score(questions, {"x": Entrant((), judgments)}, config, seed, replicates)["x"][0], {}


def problems(rng: np.random.Generator, n: int) -> Array:
    """[n] marks: problems differ in how likely they are solved."""
    return (rng.random(n) < sigmoid(rng.normal(0.3, 1.5, n))).astype(float)


def accuracy(rng: np.random.Generator, n: int, seed: int, replicates: int) -> Simulation:
    """GSM8K."""
    questions, values = bare_questions(n), problems(rng, n)
    config = gsm8k.GSM8KConfig()
    judgments = [Judgment(q.id, config.filter, float(mark)) for q, mark in zip(questions, values, strict=True)]
    return gsm8k.BENCHMARK.score(questions, {"x": Entrant((), judgments)}, config, seed, replicates)["x"][0], {}


def truths() -> dict[str, float]:
    """The estimands over a million questions."""
    rng = np.random.default_rng(2**31)
    games = margins(rng, LARGE)
    weight = np.where(np.abs(games) == 2, 3.0, 1.0)
    _, difficulty = lengths(rng, LARGE)
    return {
        "alpaca_eval.wr": 100 * float(preferences(rng, LARGE).mean()),
        "alpaca_eval.lc": 100 * float(sigmoid(_DIFFICULTY * difficulty + _BIAS).mean()),
        "alpaca_eval.lc head-to-head": 100 * float(sigmoid(np.array(_EVEN))),
        "arena_hard.wr": 100 * float((weight * (0.5 + 0.5 * np.sign(games))).sum() / weight.sum()),
        "mt_bench.score": float(ratings(rng, LARGE).mean()),
        "gsm8k.acc": 100 * float(problems(rng, LARGE).mean()),
    }


SIMULATIONS: dict[str, Callable[[np.random.Generator, int, int, int], Simulation]] = {
    "alpaca_eval.wr": win_rate,
    "alpaca_eval.lc": length_win_rate,
    "alpaca_eval.lc head-to-head": head_to_head,
    "arena_hard.wr": arena,
    "mt_bench.score": turns,
    "gsm8k.acc": accuracy,
}


def code() -> str:
    """Hash of the files that decide an interval or simulate: results of other code are not gone on with."""
    modules = (alpaca_eval, arena_score, scoring, length_control, stats)
    files = [Path(__file__), *(Path(str(module.__file__)) for module in modules)]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


@dataclass
class Tally:
    """What was found in ``runs`` simulated data sets."""

    runs: int = 0
    hits: int = 0
    """Intervals that hold the truth."""
    widths: float = 0.0
    """Sum over the runs, as the next one."""
    estimates: float = 0.0
    official: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    def result(self) -> dict[str, object]:
        """The numbers to print, and this tally to go on from."""
        share = self.hits / self.runs
        return {
            "runs": self.runs,
            "mean_estimate": round(self.estimates / self.runs, 4),
            "coverage": round(share, 4),
            "monte_carlo_error": round(float(np.sqrt(share * (1 - share) / self.runs)), 4),
            "mean_width": round(self.widths / self.runs, 4),
            "official_coverage": {name: round(count / self.runs, 4) for name, count in self.official.items()},
            "tally": asdict(self),
        }


def simulate(
    metric: str, truth: float, tally: Tally, runs: int, replicates: int, report: Callable[[Tally], None]
) -> None:
    """Go on to ``runs`` simulated data sets of one metric; ``report`` is told every 50 of them and at the end."""
    while tally.runs < runs:
        start = time.process_time()
        run = tally.runs
        score, other_intervals = SIMULATIONS[metric](np.random.default_rng(run), SIZES[metric], run + 10**6, replicates)
        if score.value is None or score.low is None or score.high is None:
            raise SystemExit(f"{metric}, run {run}: no interval ({score.note})")
        tally.runs += 1
        tally.hits += score.low <= truth <= score.high
        tally.widths += score.high - score.low
        tally.estimates += score.value
        for name, (low, high) in other_intervals.items():
            tally.official[name] = tally.official.get(name, 0) + (low <= truth <= high)
        tally.seconds = round(tally.seconds + time.process_time() - start, 3)
        if tally.runs == runs or tally.runs % 50 == 0:
            report(tally)


def main() -> None:
    """Simulate, print, store."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    parser.add_argument("--runs", type=int, default=1000, help="simulated data sets per metric")
    parser.add_argument("--replicates", type=int, default=1000, help="resamples per interval")
    parser.add_argument("--refits", type=int, default=200, help="resamples per interval of LC")
    parser.add_argument("--only", choices=list(SIMULATIONS), help="one metric")
    chosen = parser.parse_args()
    true_values, results = truths(), {}
    if chosen.out and chosen.out.is_file():
        results = json.loads(chosen.out.read_text(encoding="utf-8"))
    for metric in [chosen.only] if chosen.only else list(SIMULATIONS):
        replicates = chosen.refits if metric.startswith("alpaca_eval.lc") else chosen.replicates
        setting = {
            "questions": SIZES[metric],
            "replicates": replicates,
            "truth": round(true_values[metric], 4),
            "code": code(),
        }
        entry = results.get(metric, {})
        same_setting = all(entry.get(key) == value for key, value in setting.items())

        def save(tally: Tally, metric: str = metric, setting: dict[str, object] = setting) -> None:
            results[metric] = setting | tally.result()
            if chosen.out:
                chosen.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")

        simulate(
            metric,
            true_values[metric],
            Tally(**entry["tally"]) if same_setting else Tally(),
            chosen.runs,
            replicates,
            save,
        )
        print(metric, json.dumps(results[metric]), flush=True)


if __name__ == "__main__":
    main()
