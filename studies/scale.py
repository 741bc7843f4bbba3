"""How long a plan of 15,000 stages, its finished store and a ledger of a million judge calls take.

    python -m studies.scale                # makes them in a new folder: about 3 GB and ten minutes, then a minute
    python -m studies.scale --folder F     # the same in F, which is kept; what is there already is measured again

The plan is of pocket's recipe with 320 further rows of DPO that differ by beta, five seeds, and three targets. Its
artifacts are written through the store, one by one, with the files that later commands read: scores with a value per
question and 1,000 replicates, a training curve of one step, one answer, one judgment. The ledger is written through its
own methods. Times are CPU seconds of the whole command, but for the start of Python and its imports (about a second):
other work on the machine changes them less than seconds on the clock, which stand beside them.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext, redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import yaml

from distilbench.cli.app import app
from distilbench.workflows.plan import WorkPlan, plan
from harness.contracts.stage import Stage
from harness.records import write_records
from harness.stages.graph import StageGraph
from harness.types import Answer, Judgment, Reply, Request, Score
from judges.ledger.ledger import BATCH, Ledger, request_key
from results.store.store import ArtifactStore
from studies.simulate import processor

TARGETS = "table1,figure4,figure5"
ROWS, SEEDS, CALLS = 320, 5, 1_000_000
ENDPOINT, MODELS = "http://127.0.0.1:8000/v1", ("judge-a", "judge-b", "judge-c")
LOOKUPS = 1_000
TEXT = "The first answer names more facts and keeps to what was asked; the second one is shorter."


@dataclass(frozen=True)
class Timing:
    what: str
    cpu: float  # seconds
    wall: float
    limit: float  # CPU seconds

    def __str__(self) -> str:
        state = "ok" if self.cpu <= self.limit else "TOO SLOW"
        return f"| {self.what} | {self.cpu:.3g} s | {self.wall:.3g} s | {self.limit:g} s | {state} |"


def write_recipe(file: Path, rows: int, seeds: int) -> None:
    methods = {f"dpo-{number:03d}": {"method": "dpo", "beta": round(0.001 * (number + 1), 3)} for number in range(rows)}
    tree = {"extends": "pocket", "name": "scale", "seeds": list(range(seeds)), "methods": methods}
    file.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")


def write_artifacts(work: WorkPlan) -> None:
    graphs = {key: one.graph for one in work.plans.values() for key in one.graph.stages}
    for stage in work.stages:
        work.store.write(stage, lambda folder, stage=stage: fill(stage, graphs[stage.key], folder))


def fill(stage: Stage, graph: StageGraph, folder: Path) -> Mapping[str, object]:
    """The files that reports read, as small as a stage can leave them; the other kinds are read by stages alone."""
    writers: Mapping[str, Callable[[Stage, StageGraph, Path], Mapping[str, object]]] = {
        "train": write_student,
        "answer": write_answers,
        "judge": write_judgments,
        "score": write_scores,
    }
    return writers[stage.kind](stage, graph, folder) if stage.kind in writers else {}


def write_student(stage: Stage, graph: StageGraph, folder: Path) -> Mapping[str, object]:
    (folder / "model").mkdir()
    (folder / "model" / "training.jsonl").write_text('{"step": 1, "loss": 0.5, "learning_rate": 0.001}\n')
    return {"prompts": graph.recipe.prompts.n, "dropped": {}}


def write_answers(stage: Stage, graph: StageGraph, folder: Path) -> Mapping[str, object]:
    question = graph.benchmarks[stage.params["benchmark"]].questions[0]
    turns = ("an answer",) * len(question.turns)
    write_records(folder / "answers.jsonl", [Answer(question.id, turns, (True,) * len(turns), (2,) * len(turns))])
    return {"answers": 1, "empty": 0}


def write_judgments(stage: Stage, graph: StageGraph, folder: Path) -> Mapping[str, object]:
    question = graph.benchmarks[stage.params["benchmark"]].questions[0]
    write_records(folder / "judgments.jsonl", [Judgment(question.id, "", 0, 1.0)])
    return {"judgments": 1, "unscored": {}, "calls": 1}


def write_scores(stage: Stage, graph: StageGraph, folder: Path) -> Mapping[str, object]:
    benchmark, rng = graph.benchmarks[stage.params["benchmark"]], np.random.default_rng(0)
    ids = [question.id for question in benchmark.questions]

    def score(metric: str) -> dict[str, object]:
        values = rng.normal(50.0, 5.0, len(ids))
        mean = float(values.mean())
        replicates = tuple(rng.normal(mean, 1.0, stage.params["replicates"]).tolist())
        questions = dict(zip(ids, values.tolist(), strict=True))
        return asdict(Score(metric, mean, mean - 2, mean + 2, len(ids), 0, "", questions, replicates))

    metrics = [metric.id for metric in benchmark.benchmark.metrics]
    scores = {entrant: [score(metric) for metric in metrics] for entrant in stage.params["entrants"]}
    (folder / "scores.json").write_text(json.dumps(scores))
    return {"entrants": len(scores), "unscored": 0, "scored": len(scores) * len(metrics)}


def request(number: int) -> Request:
    """Of about 500 characters, different for each number."""
    texts = [f"{TEXT} {(number + 1) * place % 9973}" for place in range(5)]
    message = {"role": "user", "content": f"Which of these answers to question {number} is better? {' '.join(texts)}"}
    return Request(f"q{number}", "", ({"role": "system", "content": "You compare answers."}, message), 1, 0.0, 5)


def model_of(number: int) -> str:
    return MODELS[number % len(MODELS)]


def write_ledger(file: Path, calls: int) -> None:
    with Ledger(file) as ledger:
        for begin in range(0, calls, BATCH * 100):
            numbers = range(begin, min(calls, begin + BATCH * 100))
            for model in MODELS:
                own_requests = [request(number) for number in numbers if model_of(number) == model]
                ledger.note_requests(own_requests, ENDPOINT, model)
                for own in own_requests:
                    reply = Reply("m", "stop", f"{model}-2026", 150, 1, {"m": -0.1, "M": -2.4})
                    ledger.put(request_key(ENDPOINT, model, own), ENDPOINT, model, reply, 0.0002)


def time_command(what: str, limit: float, *arguments: str) -> Timing:
    """In a process of its own, where everything is imported before the time begins."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return Timing(what, *pool.submit(run_command, arguments).result(), limit)


def run_command(arguments: Sequence[str]) -> tuple[float, float]:
    """Seconds of the CPU and on the clock. Raises what the command raises."""
    with TemporaryDirectory() as empty_folder, redirect_stdout(StringIO()):
        app(["plan", "--runs", empty_folder], standalone_mode=False)
    cpu, wall = time.process_time(), time.monotonic()
    with redirect_stdout(StringIO()) as output, redirect_stderr(output):
        if app(arguments, standalone_mode=False):
            raise RuntimeError(f"distilbench {' '.join(arguments)}:\n{output.getvalue()}")
    return time.process_time() - cpu, time.monotonic() - wall


def time_lookups(file: Path, calls: int) -> Timing:
    """A look-up of one key, in the mean over many that lie far apart."""
    numbers = [number * 7919 % calls for number in range(LOOKUPS)]
    keys = [request_key(ENDPOINT, model_of(number), request(number)) for number in numbers]
    with Ledger(file, create=False) as ledger:
        begin, wall = time.process_time(), time.monotonic()
        found = sum(len(ledger.get([key])) for key in keys)
        cpu, wall = time.process_time() - begin, time.monotonic() - wall
    if found != LOOKUPS:
        raise SystemExit(f"{file} has {found} of {LOOKUPS} replies: it was made with another --calls")
    return Timing("look-up of one reply", cpu / LOOKUPS, wall / LOOKUPS, 0.001)


def measure(folder: Path, rows: int, seeds: int, calls: int) -> list[Timing]:
    recipe, runs = folder / "scale.yaml", folder / "runs"
    ledger = runs / "ledger.sqlite"
    write_recipe(recipe, rows, seeds)
    planned, in_runs = ("--recipe", str(recipe)), ("--runs", str(runs))
    work = plan(TARGETS, str(recipe), runs=runs)
    stages = f"{len(work.stages):,} stages"
    print(f"{stages}, {len(work.pending_stages):,} of them to do", flush=True)
    timings = [time_command(f"plan {stages}", 2.0, "plan", TARGETS, *planned, "--runs", str(folder / "no-runs"))]
    write_artifacts(work)
    if not ledger.exists():
        write_ledger(ledger, calls)
    print(f"{len(ArtifactStore(runs / 'store').list()):,} artifacts, {calls:,} judge calls", flush=True)
    arguments = (TARGETS, *planned, *in_runs)
    time_command("", 0.0, "reproduce", *arguments)  # the record of the run, and the first tables with their figures
    timings += [
        time_command(f"plan {stages} that are done", 2.0, "plan", *arguments),
        time_command(
            f"reproduce again, with {stages} that are done", 5.0, "run", "--recipe", str(recipe), "--runs", str(runs)
        ),
        time_lookups(ledger, calls),
        time_command(f"judge status of {calls:,} calls", 2.0, "judge", "status", *in_runs),
        time_command("report", 30.0, "report", *arguments),
    ]
    return timings


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where to make plan, store and ledger; kept")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--calls", type=int, default=CALLS)
    parser.add_argument("--out", type=Path, help="a JSON file for the times")
    options = parser.parse_args(arguments)
    place = TemporaryDirectory() if options.folder is None else nullcontext(str(options.folder))
    with place as name:
        Path(name).mkdir(parents=True, exist_ok=True)
        timings = measure(Path(name), options.rows, options.seeds, options.calls)
    print(processor(), "| what | CPU | clock | limit | |\n|---|---|---|---|---|", *timings, sep="\n")
    if options.out is not None:
        content = {"machine": processor(), "times": [asdict(one) for one in timings]}
        options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return int(any(timing.cpu > timing.limit for timing in timings))


if __name__ == "__main__":
    sys.exit(main())
