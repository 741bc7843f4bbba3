"""Are judges' biases measured at their true size? Judges of stated bias on simulated answers, over many seeds.

    python benchmarks/judge_biases.py --out benchmarks/judge_biases.json        # about a minute of one core

Four models answer pocket's 100 development questions of AlpacaEval; the answers of two of them, of one family, carry
a signature. Six judges compare each answer with the baseline in both orders, through the benchmark's own requests and
parser: three with one bias each and three without. Counted is in how many seeds the 95% interval holds the stated
log-odds, and in how many an unbiased judge is flagged for anything (Holm over its effects). Each count is made twice:
with the truth as quality, and with the opinions of the other unbiased judges in its place.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from harness.pocket.world import graded_answer
from harness.types import Answer, Question
from judges.alpaca_eval import BENCHMARK, AlpacaEvalConfig
from judges.pocket_judge import PocketConfig, PocketJudge
from reports.judges.bias import Effect, Setting, effects
from reports.judges.features import differences
from reports.judges.panel import CALLS, Facts, Panel, frame

SIGNATURE = "at your service"
MODELS = {"plain-weak": 0.45, "plain-strong": 0.75, "family-weak": 0.5, "family-strong": 0.8}
"""Row to the quality of its answers (``graded_answer``)."""
FAMILY = ("family-weak", "family-strong")
STATED = {"position": 0.4, "length": 0.8, "own": 0.5}
"""Log-odds."""
JUDGES = {
    "fair": PocketConfig(),
    "position": PocketConfig(position_bias=STATED["position"]),
    "length": PocketConfig(length_bias=STATED["length"]),
    "own": PocketConfig(signature_bias=STATED["own"], signature=SIGNATURE),
    "other-1": PocketConfig(),
    "other-2": PocketConfig(),
}
OTHERS = ("other-1", "other-2")
CONFIG = AlpacaEvalConfig(questions="pocket", split="dev", order="both")


def answers(questions: list[Question], seed: int) -> dict[str, list[Answer]]:
    """Row to its answers, drawn by the seed."""
    found: dict[str, list[Answer]] = {}
    for row, quality in MODELS.items():
        rng = random.Random(f"judge-biases-{seed}-{row}")
        texts = [graded_answer([{"role": "user", "content": q.turns[0]}], quality, rng) for q in questions]
        signed = [f"{text} {SIGNATURE}." if row in FAMILY else text for text in texts]
        found[row] = [Answer(q.id, (text,), (), ()) for q, text in zip(questions, signed, strict=True)]
    return found


def simulate(seed: int, questions: list[Question]) -> Panel:
    """All judges on all answers."""
    given = answers(questions, seed)
    calls: list[dict[str, object]] = []
    items: list[dict[str, object]] = []
    judges = {
        name: PocketJudge(replace(config, seed=1000 * seed + number))
        for number, (name, config) in enumerate(JUDGES.items())
    }
    for row, each in given.items():
        for question, answer in zip(questions, each, strict=True):
            item = {"row": row, "seed": 0, "question": question.id, "turn": ""}
            items.append({"benchmark": "alpaca_eval", **item, **differences(question, answer, None, paired=True)})
            for request in BENCHMARK.requests(question, answer, CONFIG):
                shared = {**item, "benchmark": "alpaca_eval", "part": request.part, "repeat": 0}
                shared["model_first"] = float(request.meta["model_first"])
                for name, judge in judges.items():
                    verdict = BENCHMARK.parse(request, judge.reply(request), CONFIG).value
                    calls.append({**shared, "judge": name, "verdict": verdict})
    facts = {name: Facts(own=FAMILY) for name in JUDGES}
    return Panel(frame(calls)[CALLS], pd.DataFrame(items), {"alpaca_eval": True}, facts)


def measure(panel: Panel, judge: str, use_truth: bool) -> dict[str, Effect]:
    """The effects of one judge; without the truth the two other unbiased judges stand for quality."""
    seen = panel.calls[panel.calls["judge"].isin([judge, *OTHERS])]
    setting = Setting("words", PocketConfig().length_scale, use_truth)
    return {each.name: each for each in effects(replace(panel, calls=seen), "alpaca_eval", judge, setting)}


def count(panels: list[Panel], use_truth: bool) -> dict[str, Any]:
    """Per stated bias: seeds whose interval holds it, mean estimate; seeds in which the fair judge is flagged."""
    found: dict[str, Any] = {}
    for name, stated in STATED.items():
        measured = [measure(panel, name, use_truth)[name] for panel in panels]
        found[name] = {
            "stated": stated,
            "held": sum(each.interval.low <= stated <= each.interval.high for each in measured),
            "flagged": sum(each.flagged for each in measured),
            "mean": sum(each.value for each in measured) / len(measured),
            "mean_width": sum(each.interval.high - each.interval.low for each in measured) / len(measured),
        }
    fair = [measure(panel, "fair", use_truth) for panel in panels]
    found["fair"] = {
        "flagged": sum(any(effect.flagged for effect in each.values()) for each in fair),
        "held": {
            name: sum(each[name].interval.low <= 0 <= each[name].interval.high for each in fair) for name in STATED
        },
    }
    return found


def main() -> None:
    """Simulate, count, print, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    began = time.process_time()
    questions = BENCHMARK.questions(CONFIG)
    panels = [simulate(seed, questions) for seed in range(given.seeds)]
    result = {
        "seeds": given.seeds,
        "questions": len(questions),
        "models": MODELS,
        "calls_per_judge": len(panels[0].calls) // len(JUDGES),
        "quality is the truth": count(panels, use_truth=True),
        "quality is two other judges": count(panels, use_truth=False),
        "cpu_seconds": round(time.process_time() - began, 1),
    }
    text = json.dumps(result, indent=1)
    print(text)
    if given.out:
        given.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
