"""Searches the learning rate of every method on pocket's development questions, with the same budget for each.

    python studies/pocket_search.py --out studies/pocket_search.csv

Five trials per method: five learning rates. All trials train on the same 1,024 prompts and samples of a seed that no
table uses, and are scored by the world's rule on answers to the development questions, which share no instruction with
the test questions. Every trial is a row of the output; the best mean score is what ``recipes/pocket.yaml`` uses. About
ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import math
import multiprocessing
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

METHODS = (
    *("kd", "seqkd", "minillm", "dpo", "simpo", "pro", "pad-vpd", "pad-ppd"),
    *("best-of-n", "ipo", "orpo", "gkd", "distillm"),
)
"""Those that need a tuned teacher are searched by ``pocket_search_tuned.py``, with the same budget."""
RATES = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3)
"""Around 1e-4, from too little to too much. Everything else is at the defaults of the methods, for all alike."""
SEED = 1000
"""Of prompts, samples and training: not a seed of any table."""


def prepare(folder: Path) -> None:
    """Prompts, the student's samples with rewards, the teacher's answers, and the reference log-probabilities."""
    from harness.contracts.model import Sampling
    from harness.models.backends import load_model
    from harness.prompts import SOURCES, load_prompts, resolve_source
    from harness.records import write_records
    from harness.stages.kinds import reward
    from harness.types import Group

    student, teacher = load_model("pocket:student"), load_model("pocket:teacher")
    source = resolve_source(SOURCES["pocket"], SOURCES["pocket"].config())
    prompts = load_prompts(source.source, source.config, source.pin.identity, SEED, 1024)
    talks = [prompt.messages for prompt in prompts]
    samples = student.generate(talks, Sampling(48, 1.0), SEED, n=4)
    taught = teacher.generate(talks, Sampling(48, 1.0), SEED, n=1)
    groups = []
    for prompt, samples_of_prompt, answers in zip(prompts, samples, taught, strict=True):
        groups.append(Group(prompt, samples=tuple(samples_of_prompt), teacher=tuple(answers)))
    every = [(group.prompt.messages, response) for group in groups for response in group.samples]
    means = iter(teacher.mean_logps([talk for talk, _ in every], [response for _, response in every]))
    selections, _ = reward.select(teacher, groups, "cyclic", 400, SEED)
    rewarded_groups = [
        dataclasses.replace(
            group,
            coverage=selection.coverage,
            samples=tuple(
                dataclasses.replace(response, mean_logp=next(means), log_psel=max(value, math.log(1e-4)))
                for response, value in zip(group.samples, selection.log_psel, strict=True)
            ),
        )
        for group, selection in zip(groups, selections, strict=True)
    ]
    write_records(folder / "groups.jsonl", rewarded_groups)


def trial(job: tuple[Path, str, float]) -> dict[str, Any]:
    """Train and score one trial."""
    folder, name, rate = job
    from harness.models.backends import load_model
    from harness.models.checkpoint import resolve
    from harness.records import read_records
    from harness.training.fit import fit
    from harness.training.options import Training, TrainOptions
    from harness.training.stored_signals import reference_logps
    from harness.types import Group
    from methods import METHODS

    method = METHODS[name]
    options = TrainOptions(learning_rate=rate, batch_size=32, micro_batch=32, max_length=512)
    training = Training(
        method=method,
        config=method.config(),
        groups=read_records(folder / "groups.jsonl", Group),
        student=resolve("pocket:student").location,
        options=options,
        seed=SEED,
        teacher=resolve("pocket:teacher").location,
        max_new_tokens=48,
    )
    if method.needs.reference:
        training = dataclasses.replace(training, reference=reference_logps(training))
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as out:
        fit(training, out)
        seconds = time.monotonic() - start
        scores = dev_scores(load_model(out))
    rounded_scores = {
        key: round(value, 4) for key, value in {"score": statistics.mean(scores.values()), **scores}.items()
    }
    return {"method": name, "learning_rate": rate, **rounded_scores, "train_seconds": round(seconds, 1)}


def dev_scores(model: Any) -> dict[str, float]:
    """Mean score of answers sampled at temperature 1, per development set, by the world's own rule."""
    from harness.contracts.model import Sampling
    from harness.pocket.scorer import score
    from harness.pocket.world import pocket_questions

    means = {}
    for name in ("alpaca_eval", "arena_hard", "mt_bench", "gsm8k"):
        talks = [[{"role": "user", "content": question.turns[0]}] for question in pocket_questions(name, "dev")]
        answers = model.generate(talks, Sampling(64, 1.0), SEED, n=4)
        means[name] = statistics.mean(
            score(talk, response.text) for talk, responses in zip(talks, answers, strict=True) for response in responses
        )
    return means


def _one_thread() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"


def main() -> None:
    """Run all trials in two processes and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("studies/pocket_search.csv"))
    parser.add_argument("--methods", default=",".join(METHODS), help="only these, comma-separated")
    options = parser.parse_args()
    chosen = set(options.methods.split(","))
    _one_thread()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        prepare(folder)
        jobs = [(folder, name, rate) for name in METHODS if name in chosen for rate in RATES]
        with multiprocessing.get_context("spawn").Pool(2, initializer=_one_thread) as workers:
            rows = []
            for row in workers.imap(trial, jobs):
                rows.append(row)
                print(row, flush=True)
    with options.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
