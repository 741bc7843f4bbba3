"""A second world for cross-checking pocket's table: a real student, and rules that grade its answers.

    python scripts/prepare_smollm2.py models/smollm2
    python -m studies.second_world --student models/smollm2

Makes a teacher from the student and measures how well it judges (``second_world_teacher.py``), searches the learning
rate of every row with the same budget on development questions, and prints the table. Everything is kept under
``--runs``: a run that was stopped goes on when it is started again with the same options. What came out is written to
``--out``, and with ``--page docs/real-run.md`` as tables between that page's two marks.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import distilbench
from distilbench.cli.screen import Display
from distilbench.plugins import load_registry
from distilbench.premises import Premise
from harness.contracts.model import Sampling
from harness.recipe.recipe import load_recipe
from studies.marked_page import put_between
from studies.second_world_rules import tasks
from studies.second_world_teacher import TeacherOptions, answered, make_teacher, measure_judging, measure_room

HERE = Path(__file__).parent
RECIPE, PLUGIN = str(HERE / "second_world.yaml"), str(HERE / "second_world_rules.py")
ROWS = ("dpo", "simpo", "pad-ppd")
RATE = "train.learning_rate"
SPACE = f"{RATE}={{3.0e-6, 3.0e-5, 1.0e-4}}"
TRIALS, SAMPLER_SEED = 4, 4
"""The recipe's 1e-5 and three draws; under this seed they are the three of the space: a grid of four."""
PLACES = ("student", "teacher", "runs", "out", "page")
"""Options that say where things lie."""
BEGIN, END = "<!-- second world: begin -->", "<!-- second world: end -->"
JUDGING = {
    "Spearman, question": "Spearman's correlation with the rules, by its multiple-choice question",
    "Spearman, log-likelihood": "the same, by log-likelihood",
    "regret, question": "regret of best-of-4, by its question",
    "regret, log-likelihood": "by log-likelihood",
    "regret, at random": "at random",
}
"""Numbers of a judge, and their names in the page."""


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
    return {
        "teacher above chance": above_chance(premises["teacher"]),
        "teacher": plain(premises["teacher"]), "student as judge": plain(premises["student"]),
        "samples": plain(samples),
        "tokens of a sample, median": statistics.median(r.tokens for one in pool for r in one.group.samples),
        "search": {row.row: trials(row) for row in searched.searches},
        **table_of(run),
        "options": {name: str(value) for name, value in vars(options).items() if name not in PLACES},
        "seconds of this start": seconds,
    }  # fmt: skip


def table_of(run: distilbench.FinishedRun) -> dict[str, Any]:
    """Scores by row, metric and seed, and the difference of each two rows, paired on the questions."""
    frame = run.frame()
    rows, metrics = list(dict.fromkeys(frame["row"])), list(dict.fromkeys(frame["metric"]))
    pairs = [(row, other) for other, row in itertools.combinations(rows, 2)]
    return {
        "table": frame[["row", "metric", "seed", "value", "low", "high", "n"]].to_dict("records"),
        "differences": [
            {"row": row, "other": other, "metric": metric, **run.difference(row, other, metric)._asdict()}
            for row, other in pairs for metric in metrics
        ],
    }  # fmt: skip


def page_text(found: Mapping[str, Any]) -> str:
    """What ``study`` returned, as four tables in Markdown."""
    sides = found["teacher"], found["student as judge"]
    judging = {title: [interval(side[name]) for side in sides] for name, title in JUDGING.items()}
    rates = sorted({trial[RATE] for row in found["search"].values() for trial in row})
    searched = {}
    for row, tried in found["search"].items():
        scores = {trial[RATE]: f"{trial['score']:.2f}" + " (taken)" * trial["best"] for trial in tried}
        searched[row] = [scores.get(rate, "") for rate in rates]
    metrics = list(dict.fromkeys(score["metric"] for score in found["table"]))
    values: dict[str, dict[str, list[float]]] = {}
    for score in found["table"]:
        values.setdefault(score["row"], {}).setdefault(score["metric"], []).append(score["value"])
    rows = {row: [f"{statistics.fmean(seeds[metric]):.2f}" for metric in metrics] for row, seeds in values.items()}
    differences: dict[str, list[str]] = {}
    for each in found["differences"]:
        differences.setdefault(f"{each['row']} - {each['other']}", []).append(difference(each))
    tables = [
        markdown("as a judge of the student's samples", ["teacher", "student"], judging),
        markdown("development score at the learning rate", [f"{rate:g}" for rate in rates], searched),
        markdown("test questions, mean of the seeds", metrics, rows),
        markdown("difference, with its p-value alone", metrics, differences),
    ]
    return "\n\n".join(tables)


def markdown(head: str, columns: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    cells = [[head, *columns], ["---"] * (len(columns) + 1), *([name, *row] for name, row in rows.items())]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def difference(each: Mapping[str, Any]) -> str:
    """``p``: none with too few questions."""
    bounds = "" if each["low"] is None else " [{low:+.2f}, {high:+.2f}]".format(**each)
    return f"{each['change']:+.2f}{bounds}" + ("" if each["p"] is None else f", p = {each['p']:.2g}")


def interval(estimate: Sequence[float]) -> str:
    return "{:.3f} [{:.3f}, {:.3f}]".format(*estimate)


def trials(row: Any) -> list[Mapping[str, Any]]:
    """The learning rate of each trial, with its score on development questions."""
    return [{**trial.values, "score": row.value(trial), "best": trial == row.best} for trial in row.trials]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", required=True, help="folder of SmolLM2-135M-Instruct")
    parser.add_argument("--teacher", help="a checkpoint to take as the teacher; default: make one")
    parser.add_argument("--out", type=Path, default=HERE / "second_world.json")
    parser.add_argument("--page", type=Path, help="a Markdown page with the two marks: docs/real-run.md")
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
    if options.page is not None:
        put_between(options.page, BEGIN, END, page_text(result))


if __name__ == "__main__":
    main()
