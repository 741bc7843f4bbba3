"""Controls of the pocket world, by its own rule, over ten seeds: does the instrument see what is there, only that?

    python studies/pocket_controls.py --out studies/pocket_controls.json

``oracle-sft`` trains on the best sample by the rule: it must be significantly above the student. ``pad-ppd`` with the
teacher's rewards dealt out at random must not be, in at least 9 of 10 seeds. ``random-sft`` trains on any sample, and
says what samples alone are worth, without teacher and preference. "Significantly": the 95% interval of
the mean paired difference in score over all test questions (bootstrap over questions, both models answering under one
seed) lies above 0. Answers come from the same stages as the table's; no judge is asked.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from distilbench.cli.screen import Display
from distilbench.plugins import load_registry
from distilbench.workers import set_up_worker
from harness.plan.plan import Plan, make_plan
from harness.pocket.scorer import score
from harness.pocket.world import pocket_questions
from harness.recipe.recipe import load_recipe
from harness.records import read_records
from harness.run.scheduler import run_plans
from harness.stats import percentile_interval, resamples, seed_of
from harness.types import Answer
from results.store.store import ArtifactStore

PLUGIN = str(Path(__file__).with_name("oracle_sft.py"))
CONTROLS = {"oracle-sft": (), "pad-ppd": ("reward.shuffle=true",), "random-sft": ()}
"""Method of each control, and what it changes in the recipe."""
BENCHMARKS = ("alpaca_eval", "arena_hard", "mt_bench", "gsm8k")


def truth(plan: Plan, store: ArtifactStore, row: str, seed: int) -> dict[str, float]:
    """Question to the rule's score of the first-turn answer of one row under one seed."""
    (entrant,) = [entrant for entrant in plan.entrants if (entrant.row, entrant.seed) == (row, seed)]
    scores = {}
    for name in BENCHMARKS:
        turns = {question.id: question.turns[0] for question in pocket_questions(name, "test")}
        stage = entrant.answers[name]
        for answer in read_records(store.path("answer", stage.key) / "answers.jsonl", Answer):
            talk = [{"role": "user", "content": turns[answer.question]}]
            scores[f"{name}/{answer.question}"] = score(talk, answer.turns[0])
    return scores


def compare(plan: Plan, store: ArtifactStore, row: str, seed: int) -> dict[str, Any]:
    """Mean difference to the student under one seed, with its interval over questions."""
    ours, theirs = truth(plan, store, row, seed), truth(plan, store, "student", seed)
    differences = np.array([ours[name] - theirs[name] for name in theirs])
    means = differences[resamples(len(differences), 2000, seed_of("controls", seed))].mean(axis=1)
    low, high = percentile_interval(means)
    level = {"score": float(np.mean(list(ours.values()))), "student": float(np.mean(list(theirs.values())))}
    return {"seed": seed, **level, "difference": float(differences.mean()), "low": low, "high": high, "above": low > 0}


def control(row: str, changes: tuple[str, ...], seeds: list[int], runs: Path) -> list[dict[str, Any]]:
    """Train and answer under every seed, then compare."""
    registry = load_registry([PLUGIN])
    overrides = [f"name=control-{row}", f"seeds={seeds}", f"methods.{row}={{}}", *changes]
    plan = make_plan(load_recipe("pocket", overrides, registry), registry, ("student", row))
    store = ArtifactStore(runs / "store")
    with Display() as display:
        setup = partial(set_up_worker, (PLUGIN,), runs / "store")
        run_plans([plan], registry, store, runs / "ledger.sqlite", setup, display)
    return [compare(plan, store, row, seed) for seed in seeds]


def main() -> None:
    """Run both controls and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("studies/pocket_controls.json"))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    results = {}
    for row, changes in CONTROLS.items():
        results[row] = control(row, changes, list(range(options.seeds)), options.runs)
        seeds_above = sum(result["above"] for result in results[row])
        gain = np.mean([result["difference"] for result in results[row]])
        print(f"{row} {' '.join(changes)}: above the student in {seeds_above} of {options.seeds} seeds, by {gain:+.3f}")
    options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
