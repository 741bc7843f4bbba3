"""Are judges' biases measured at their true size? Judges of stated bias on simulated answers, over many seeds.

    python studies/judge_biases.py --out studies/judge_biases.json        # about two minutes of one core

Four models answer; the answers of two of them, of one family, carry a signature. Six judges compare each answer with
the baseline in both orders: three with one bias each and three without. Counted is in how many seeds the 95% interval
holds the stated value, and in how many an unbiased judge is flagged for anything (Holm over its effects). Each count
is made with the truth as quality, and with the opinions of two other unbiased judges in its place.

- pocket: answers to pocket's 100 development questions of AlpacaEval, judged through the benchmark's own requests and
  parser. Effects are measured as ``compare-judges`` measures them, length on the scale that a pocket judge states.
- drawn: 150 questions, quality and length normal with a correlation of 0.4, as where better answers are longer.

Verdicts are probabilities, or hard: won or lost, drawn from the probability. Stated are log-odds; where hard verdicts
are measured in shares of verdicts, the stated log-odds are turned into what they add to the judge's own probabilities.
Grades (drawn only): 1 to 10, length and own family are stated in points.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.pocket.answers import graded_answer
from harness.types import Answer, Question
from judges.benchmarks.alpaca_eval.benchmark import BENCHMARK, AlpacaEvalConfig
from judges.kinds.pocket import JUDGE, PocketConfig, PocketJudge
from reports.judge_comparison.bias import SHARES, bias_effects, is_flagged, log_odds
from reports.judge_comparison.panel import JudgeProfile, Number, Panel, judgment_frame
from reports.judge_comparison.run_panel import features

SIGNATURE = "at your service"
MODELS = {"plain-weak": 0.45, "plain-strong": 0.75, "family-weak": 0.5, "family-strong": 0.8}
"""Row to the quality of its answers (``graded_answer``)."""
FAMILY = ("family-weak", "family-strong")
BIASES = {"position": 0.4, "length": 0.8, "own": 0.5}
"""Log-odds."""
JUDGES = {
    "fair": PocketConfig(),
    "position": PocketConfig(position_bias=BIASES["position"]),
    "length": PocketConfig(length_bias=BIASES["length"]),
    "own": PocketConfig(signature_bias=BIASES["own"], signature=SIGNATURE),
    "other-1": PocketConfig(),
    "other-2": PocketConfig(),
}
OTHER_JUDGES = ("other-1", "other-2")
SIMULATED_QUESTIONS = 150
"""Questions of the drawn answers."""
CORRELATION = 0.4
"""Of quality and length there."""
CONFIG = AlpacaEvalConfig(questions="pocket", split="dev", order="both")


def answers(questions: list[Question], seed: int) -> dict[str, list[Answer]]:
    """Row to its answers, drawn by the seed."""
    by_row: dict[str, list[Answer]] = {}
    for row, quality in MODELS.items():
        rng = random.Random(f"judge-biases-{seed}-{row}")
        texts = [graded_answer([{"role": "user", "content": q.turns[0]}], quality, rng) for q in questions]
        signed_texts = [f"{text} {SIGNATURE}." if row in FAMILY else text for text in texts]
        by_row[row] = [Answer(q.id, (text,), (), ()) for q, text in zip(questions, signed_texts, strict=True)]
    return by_row


def simulate(seed: int, questions: list[Question], noise: float = PocketConfig().noise) -> Panel:
    """All judges on all of pocket's answers."""
    answers_by_row = answers(questions, seed)
    lines: list[dict[str, object]] = []
    judges = {
        name: PocketJudge(replace(config, seed=1000 * seed + number, noise=noise))
        for number, (name, config) in enumerate(JUDGES.items())
    }
    for row, row_answers in answers_by_row.items():
        for question, answer in zip(questions, row_answers, strict=True):
            item = {"benchmark": "alpaca_eval", "row": row, "seed": 0, "question": question.id, "turn": "", "repeat": 0}
            item |= features(question, answer, None, paired=True)
            for request in BENCHMARK.requests(question, answer, CONFIG):
                fields = {**item, "part": request.part, "model_first": request.meta["model_first"]}
                for name, judge in judges.items():
                    verdict = BENCHMARK.parse(request, judge.reply(request), CONFIG).value
                    lines.append({**fields, "judge": name, "verdict": verdict})
    return Panel(judgment_frame(lines), {"alpaca_eval": True}, facts())


def facts() -> dict[str, JudgeProfile]:
    """What ``compare-judges`` knows of the judges of a pocket run."""
    return {
        name: JudgeProfile(own_rows=FAMILY, length_words=JUDGE.length_words(config)) for name, config in JUDGES.items()
    }


def simulated_panel(seed: int, grades: bool = False) -> Panel:
    """All judges on answers whose quality (log-odds, standard deviation 1.2) goes with their length.

    Probabilities without noise, or grades: in points what else is log-odds, noise of 0.7, rounded.
    """
    rng = np.random.default_rng(seed)
    lines: list[dict[str, object]] = []
    for row in MODELS:
        for question in range(SIMULATED_QUESTIONS):
            z, noise = rng.normal(size=2)
            words = 10 * (CORRELATION * z + np.sqrt(1 - CORRELATION**2) * noise)
            item = {"row": row, "seed": 0, "question": str(question), "turn": "", "benchmark": "drawn", "repeat": 0}
            item |= {"length": 5 * words, "words": words, "quality": z, "same": 0.0}
            for name in JUDGES:
                bias = {
                    "length": BIASES["length"] * np.tanh(words / 10),
                    "own": BIASES["own"] * (row in FAMILY),
                }
                u = 1.2 * z + bias.get(name, 0.0)
                for first_place in (float("nan"),) if grades else (0.0, 1.0):
                    place = BIASES["position"] * (2 * first_place - 1) if name == "position" else 0.0
                    grade = float(np.clip(np.round(5.5 + u + 0.7 * rng.normal()), 1, 10))
                    verdict = grade if grades else float(1 / (1 + np.exp(-u - place)))
                    call = {"judge": name, "part": f"o{first_place}", "model_first": first_place, "verdict": verdict}
                    lines.append({**item, **call})
    return Panel(judgment_frame(lines), {"drawn": not grades}, facts())


def hard(panel: Panel, seed: int) -> Panel:
    """The judges say won or lost, drawn from their probabilities."""
    p = panel.judgments["verdict"].to_numpy(float)
    verdicts = (np.random.default_rng(seed).random(len(p)) < p).astype(float)
    return replace(panel, judgments=panel.judgments.assign(verdict=verdicts))


def in_shares(panel: Panel, name: str) -> float:
    """What a stated bias adds to the probabilities of its judge, per unit of its regressor.

    ``panel``: probabilities without noise.
    """
    lines = panel.judgments[panel.judgments["judge"] == name]
    p = lines["verdict"].to_numpy(float)
    regressors = {
        "position": 2 * lines["model_first"] - 1,
        "length": np.tanh(lines["words"] / 10),
        "own": lines["row"].isin(FAMILY).astype(float),
    }
    x = regressors[name].to_numpy(float)
    probability_without_bias = 1 / (1 + np.exp(BIASES[name] * x - log_odds(p)))
    return float(x @ (p - probability_without_bias) / (x @ x))


def measure(panel: Panel, judge: str, use_truth: bool) -> dict[str, Number]:
    """The effects of one judge; without the truth the two other unbiased judges stand for quality."""
    judgments = panel.judgments[panel.judgments["judge"].isin([judge, *OTHER_JUDGES])]
    (benchmark,) = panel.paired
    effects = bias_effects(replace(panel, judgments=judgments), benchmark, judge, use_truth)
    return {effect.measure: effect for effect in effects}


def count(panels: list[Panel], use_truth: bool, certain: list[Panel]) -> dict[str, Any]:
    """Per stated bias: seeds whose interval holds it, mean estimate; seeds in which the fair judge is flagged.

    ``certain``: the probabilities behind hard verdicts (or the panels themselves).
    """
    rows: dict[str, Any] = {}
    fair = [measure(panel, "fair", use_truth) for panel in panels]
    for name in [name for name in BIASES if name in fair[0]]:
        effects = [measure(panel, name, use_truth)[name] for panel in panels]
        shares = effects[0].unit == SHARES
        true_values = [in_shares(panel, name) if shares else BIASES[name] for panel in certain]
        rows[name] = {
            "stated": round(sum(true_values) / len(true_values), 4),
            "unit": effects[0].unit,
            "held": sum(e.low <= value <= e.high for e, value in zip(effects, true_values, strict=True)),
            "flagged": sum(map(is_flagged, effects)),
            "mean": round(sum(effect.value for effect in effects) / len(effects), 4),
            "mean_width": round(sum(effect.high - effect.low for effect in effects) / len(effects), 4),
        }
    rows["fair"] = {
        "flagged": sum(any(map(is_flagged, effect.values())) for effect in fair),
        "held": {name: sum(e[name].low <= 0 <= e[name].high for e in fair) for name in rows},
    }
    return rows


def counts_by_quality(panels: list[Panel], certain: list[Panel]) -> dict[str, Any]:
    """The counts with either kind of quality."""
    return {
        "quality is the truth": count(panels, True, certain),
        "quality is two other judges": count(panels, False, certain),
    }


def results(seeds: int) -> dict[str, Any]:
    """All counts."""
    questions = BENCHMARK.questions(CONFIG)
    soft = [simulate(seed, questions) for seed in range(seeds)]
    certain = [simulate(seed, questions, noise=0.0) for seed in range(seeds)]
    verdict_panels = [simulated_panel(seed) for seed in range(seeds)]
    graded_panels = [simulated_panel(seed, grades=True) for seed in range(seeds)]
    return {
        "seeds": seeds,
        "questions": {"pocket": len(questions), "drawn": SIMULATED_QUESTIONS},
        "models": MODELS,
        "pocket, probabilities": counts_by_quality(soft, soft),
        "pocket, hard verdicts": counts_by_quality([hard(panel, seed) for seed, panel in enumerate(certain)], certain),
        "drawn, hard verdicts": counts_by_quality(
            [hard(panel, seed) for seed, panel in enumerate(verdict_panels)], verdict_panels
        ),
        "drawn, grades": counts_by_quality(graded_panels, graded_panels),
    }


def main() -> None:
    """Simulate, count, print, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    start = time.process_time()
    result = {**results(options.seeds), "cpu_seconds": round(time.process_time() - start, 1)}
    text = json.dumps(result, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
