"""A second world for cross-checking pocket's table: a real student, and rules that grade its answers.

    python scripts/prepare_smollm2.py models/smollm2
    python -m studies.second_world --student models/smollm2

Makes a teacher from the student and measures how well it judges (``second_world_teacher.py``), searches the learning
rate of every row with the same budget on development questions, and prints the table. Everything is kept under
``--runs``: a run that was stopped goes on when it is started again with the same options. What came out is written to
``--out``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import distilbench
from distilbench.cli.screen import Display
from distilbench.plugins import load_registry
from distilbench.premises import Premise
from harness.contracts.model import Sampling
from harness.recipe.recipe import load_recipe
from studies.second_world_rules import tasks
from studies.second_world_teacher import TeacherOptions, answered, make_teacher, measure_judging, measure_room

HERE = Path(__file__).parent
RECIPE, PLUGIN = str(HERE / "second_world.yaml"), str(HERE / "second_world_rules.py")
ROWS = ("dpo", "simpo", "pad-ppd")
SPACE = "train.learning_rate={3.0e-6, 3.0e-5, 1.0e-4}"
TRIALS, SAMPLER_SEED = 4, 4
"""The recipe's 1e-5 and three draws; under this seed they are the three of the space: a grid of four."""
PLACES = ("student", "teacher", "runs", "out")
"""Options that say where things lie."""


def plain(premise: Premise) -> dict[str, Any]:
    """Numbers with their intervals, for JSON."""
    return {
        name: value if isinstance(value, int | float) else [value.value, value.low, value.high]
        for name, value in premise.numbers.items()
    }


def above_chance(premise: Premise) -> bool:
    """Whether the question orders a group's answers better than chance: 95% interval above 0."""
    found = premise.numbers["Spearman, question"]
    return not isinstance(found, int | float) and found.low > 0


def report(title: str, premise: Premise) -> None:
    print(f"\n{title}")
    for name, value in premise.numbers.items():
        print(f"  {name}: {value}")


def study(options: argparse.Namespace) -> dict[str, Any]:
    """All of it, from what is there already."""
    clock, seconds = time.monotonic(), dict[str, float]()

    def lap(name: str) -> None:
        nonlocal clock
        seconds[name] = round(time.monotonic() - clock, 1)
        clock = time.monotonic()

    student, runs = str(options.student), options.runs
    changes = [f"family.student={student}", *options.set]
    recipe = load_recipe(RECIPE, [f"family.teacher={student}", "methods=[]", *changes], load_registry([PLUGIN]))
    drawn = Sampling(recipe.sampling.max_new_tokens, recipe.sampling.temperature, recipe.sampling.top_p)
    numbers = options.teacher_prompts, options.teacher_samples, options.teacher_questions
    teacher = options.teacher or str(make_teacher(student, TeacherOptions(*numbers, drawn), runs).absolute())
    changes.append(f"family.teacher={teacher}")
    lap("teacher")

    found = list(itertools.islice(tasks("dev", seed=1), options.judged))
    pool = answered(student, found, recipe.sampling.n, drawn, 1, runs)
    longest = recipe.reward.max_response_tokens
    premises = {
        "teacher": measure_judging(teacher, pool, longest),
        "student": measure_judging(student, pool, longest),
    }
    samples = measure_room(pool)
    for name, premise in premises.items():
        report(f"The {name} as a judge of the student's samples:", premise)
    report("The student's samples, by the rules:", samples)
    print(f"\nThe teacher's question is {'' if above_chance(premises['teacher']) else 'NOT '}above chance.")
    lap("judging")

    common: dict[str, Any] = {"set": changes, "plugins": [PLUGIN], "runs": runs}
    with Display() as display:
        searched = distilbench.search(
            ROWS, RECIPE, space=[SPACE], trials=options.trials, seed=SAMPLER_SEED, seeds=[options.seeds[0]],
            listener=display, **common,
        )  # fmt: skip
    if searched.unfinished:
        raise SystemExit(f"the search is not finished: {searched.unfinished}; {searched.outcome.errors}")
    lap("search")
    best = str(searched.search.folder / f"{'-'.join(ROWS)}.yaml")
    with Display() as display:
        run = distilbench.reproduce("table1", best, seeds=options.seeds, notes=True, listener=display, **common)
    lap("table")
    print(f"\n{run.text()}")
    frame = run.frame()
    return {
        "teacher above chance": above_chance(premises["teacher"]),
        "teacher": plain(premises["teacher"]), "student as judge": plain(premises["student"]),
        "samples": plain(samples),
        "tokens of a sample, median": statistics.median(r.tokens for one in pool for r in one.group.samples),
        "search": {row.row: trials(row) for row in searched.searches},
        "table": frame[["row", "metric", "seed", "value", "low", "high", "n"]].to_dict("records"),
        "options": {name: str(value) for name, value in vars(options).items() if name not in PLACES},
        "seconds of this start": seconds,
    }  # fmt: skip


def trials(row: Any) -> list[Mapping[str, Any]]:
    """The learning rate of each trial, with its score on development questions."""
    return [{**trial.values, "score": row.value(trial), "best": trial == row.best} for trial in row.trials]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", required=True, help="folder of SmolLM2-135M-Instruct")
    parser.add_argument("--teacher", help="a checkpoint to take as the teacher; default: make one")
    parser.add_argument("--out", type=Path, default=HERE / "second_world.json")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--trials", type=int, default=TRIALS, help="learning rates tried for each row")
    parser.add_argument("--judged", type=int, default=128, help="instructions on which judging is measured")
    parser.add_argument("--set", action="append", default=[], help="changes of the recipe, as in distilbench")
    parser.add_argument("--teacher-prompts", type=int, default=448, help="instructions that the teacher learns from")
    parser.add_argument("--teacher-samples", type=int, default=6, help="samples of each")
    parser.add_argument("--teacher-questions", type=int, default=2400, help="multiple-choice questions in its training")
    options = parser.parse_args(arguments)
    result = study(options)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
