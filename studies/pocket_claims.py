"""Three claims of the PAD paper, measured on pocket, where the truth is known.

    python -m studies.pocket_claims --out studies/pocket_claims.json --figures docs --page docs/methods.md

1. Calibrating (Eq. 9): how well do the teacher's log-likelihood, its multiple-choice answer, and their mixtures order a
   group of the student's samples as the world's rule does?
2. PPD (Eqs. 11-12): does the divergence between the teacher's and the student's distributions over rankings fall on
   held-out prompts while the student trains?
3. Does a student that PPD trains follow the *size* of the teacher's margins, and one that VPD, DPO or SimPO trains
   their order alone?

Models, sampling, reward, learning rates and options are the recipe's. Held-out prompts are of the world's dev split,
which no training prompt can share; each seed has its own, answered by the student before training. Everything about
the student is measured on its reward r, the mean log-probability of a response. Intervals: bootstrap over
prompts, then over seeds. The work is some minutes on one core, most of it the teacher's reading.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback

from distilbench.plugins import load_registry
from harness.contracts.method import DroppedPrompt, log_probabilities
from harness.contracts.model import Sampling
from harness.models.backends import load_model
from harness.models.chat import pad_id, vocabulary_size
from harness.models.checkpoint import resolve
from harness.pocket.scorer import score
from harness.pocket.world import iter_prompts
from harness.prompts import SOURCES, load_prompts, resolve_source
from harness.recipe.recipe import Recipe, load_recipe
from harness.stages.kinds import reward
from harness.stats import seed_of
from harness.training.batches import Example, micro_batch, prepare
from harness.training.fit import load_training, make_trainer, run
from harness.training.forward import response_terms
from harness.training.options import Training
from harness.training.stored_signals import reference_logps
from harness.training.trainer import LoadedTraining
from harness.types import Group, Prompt
from methods import METHODS, ranking
from scripts.pocket.measure import correlation, ranks
from studies.marked_page import put_between
from studies.pocket_claims_figures import draw
from studies.pocket_claims_statistics import ALPHAS, MEASURES, Array, Claims, moments

ROWS = ("pad-ppd", "pad-vpd", "dpo", "simpo")


def reward_groups(prompts: Sequence[Prompt], recipe: Recipe, seed: int) -> list[Group]:
    """The student's samples to these prompts, as the recipe draws them, and what the teacher says of each."""
    student, teacher = load_model(recipe.family.student), load_model(recipe.family.teacher)
    talks = [prompt.messages for prompt in prompts]
    options, spec = recipe.sampling, recipe.reward
    sampling = Sampling(options.max_new_tokens, options.temperature, options.top_p)
    responses = student.generate(talks, sampling, seed_of("claims-sample", seed), n=options.n)
    groups = [Group(prompt, samples=tuple(samples)) for prompt, samples in zip(prompts, responses, strict=True)]
    every = [(group.prompt.messages, response) for group in groups for response in group.samples]
    means = iter(teacher.mean_logps([talk for talk, _ in every], [response for _, response in every]))
    selections = reward.select(teacher, groups, spec.mcq, spec.max_response_tokens, seed_of("claims-reward", seed))[0]
    floor = math.log(spec.floor)
    return [
        replace(
            group,
            samples=tuple(
                replace(response, mean_logp=next(means), log_psel=max(value, floor))
                for response, value in zip(group.samples, selection.log_psel, strict=True)
            ),
        )
        for group, selection in zip(groups, selections, strict=True)
    ]


def held_out(count: int, seed: int) -> list[Prompt]:
    """Prompts of the dev split, another lot for each seed."""
    return list(itertools.islice(iter_prompts(seed_of("claims", seed), split="dev"), count))


def by_the_rule(groups: Sequence[Group]) -> Array:
    """[groups, 2 alphas + 1]: Spearman correlation with the rule's scores and regret for every alpha, then the regret
    of a pick at random.

    Regret: the best score of the group less that of the response with the largest reward (the first of equals). Groups
    whose responses all have one score say nothing and are left out. A constant reward counts as correlation 0.
    """
    rows = []
    for group in groups:
        truth = [score(group.prompt.messages, response.text) for response in group.samples]
        if max(truth) - min(truth) < 1e-9:
            continue
        scores = [ranking.teacher_scores(group, alpha) for alpha in ALPHAS]
        signals = [[0.0] * len(truth) if isinstance(row, DroppedPrompt) else row for row in scores]
        orders = [correlation(ranks(signal), ranks(truth)) or 0.0 for signal in signals]
        regrets = [max(truth) - truth[max(range(len(truth)), key=signal.__getitem__)] for signal in signals]
        rows.append([*orders, *regrets, max(truth) - sum(truth) / len(truth)])
    return np.array(rows)


def training(name: str, recipe: Recipe, groups: Sequence[Group], seed: int) -> Training:
    """One row of the recipe on these groups, with its reference where the method needs one."""
    entry = recipe.methods[name]
    method = METHODS[entry.method]
    result = Training(
        method,
        entry.config,
        groups,
        resolve(recipe.family.student).location,
        replace(entry.train, checkpoint_minutes=None),
        seed_of("claims-train", seed),
        device=recipe.compute.device,
    )
    return replace(result, reference=reference_logps(result)) if method.needs.reference else result


@torch.no_grad()
def student_rewards(setup: LoadedTraining, examples: Sequence[Example]) -> torch.Tensor:
    """[B, n] float64: the student's mean log-probability of every response of every held-out prompt."""
    student, rewards = setup.student, []
    was_training = student.training
    student.train(False)
    size = vocabulary_size(setup.tokenizer)
    for start in range(0, len(examples), 64):
        micro = micro_batch(examples[start : start + 64], pad_id(setup.tokenizer), student.device)
        terms = response_terms(student, student, None, micro, log_probabilities, None, size)
        rewards.append(micro.batch.per_prompt(micro.batch.mean_rows(terms["logp"])).double().cpu())
    student.train(was_training)
    return torch.cat(rewards)


class Watch(TrainerCallback):
    """Measures the student at ``points`` evenly spread steps, the start and the end included."""

    def __init__(
        self, setup: LoadedTraining, examples: Sequence[Example], points: int, betas: tuple[float, float]
    ) -> None:
        self.setup, self.examples, self.points, self.betas = setup, examples, points, betas
        self.scores = torch.tensor([[row.signals["score"] for row in example.rows] for example in examples]).double()
        self.steps: list[int] = []
        self.moments: list[Array] = []

    def look(self) -> None:
        """One point."""
        self.moments.append(moments(student_rewards(self.setup, self.examples), self.scores, *self.betas))

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The student as it starts."""
        self.steps = sorted({round(state.max_steps * k / (self.points - 1)) for k in range(self.points)})
        self.look()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """After a step that is to be measured."""
        if state.global_step in self.steps:
            self.look()


def measure_all(recipe: Recipe, rows: Sequence[str], seeds: int, held_out_count: int, points: int) -> Claims:
    """Sample, reward and train under every seed, and measure on the way."""
    spec = recipe.prompts
    source = resolve_source(SOURCES[spec.source], spec.config)
    prompts = load_prompts(source.source, source.config, source.pin.identity, spec.seed, spec.n)
    rule, steps, curves = [], {}, {row: [] for row in rows}  # type: ignore[var-annotated]
    for seed in range(seeds):
        test = reward_groups(held_out(held_out_count, seed), recipe, seed)
        train = reward_groups(prompts, recipe, seed)
        rule.append(by_the_rule(test))
        judge = training("pad-ppd", recipe, test, seed)
        beta, student_beta = judge.config.beta, judge.config.student_beta
        betas = (beta, beta if student_beta is None else student_beta)
        for row in rows:
            setup = load_training(training(row, recipe, train, seed))
            examples, _ = prepare(judge, setup.tokenizer)
            watch = Watch(setup, examples, points, betas)
            with tempfile.TemporaryDirectory() as folder:
                trainer = make_trainer(setup, Path(folder))
                trainer.add_callback(watch)
                run(trainer, Path(folder))
            curves[row].append(watch.moments)
            steps[row] = watch.steps
            print(f"seed {seed}: {row} trained", flush=True)
    return Claims(rule, steps, curves)


def show(measurements: Mapping[str, Any]) -> None:
    """The numbers of the page, on stdout."""
    table = measurements["reward"]
    print(f"{table['groups']} groups; regret of a random pick {table['random_regret'][0]:.3f}")
    for at, alpha in enumerate(table["alpha"]):
        texts = [f"{name} {{:.3f}} [{{:.3f}}, {{:.3f}}]".format(*table[name][at]) for name in ("spearman", "regret")]
        print(f"alpha {alpha:.1f}  " + "  ".join(texts))
    for row, measures in measurements["training"].items():
        for name in MEASURES:
            print(f"{row:8} {name:12} " + " ".join(f"{value[0]:.3f}" for value in measures[name]))
    for contrast, measures in measurements["contrasts"].items():
        texts = "  ".join(f"{name} {{:+.3f}} [{{:+.3f}}, {{:+.3f}}]".format(*value) for name, value in measures.items())
        print(f"{contrast}: {texts}")


BEGIN, END = "<!-- claims: begin -->", "<!-- claims: end -->"


def tables(measurements: Mapping[str, Any]) -> str:
    """Both figures and the numbers as two tables in Markdown, for the page that has the marks ``BEGIN`` and ``END``."""

    def cell(value: Sequence[float]) -> str:
        return "{:.2f} [{:.2f}, {:.2f}]".format(*value)

    table = measurements["reward"]
    lines = ["![Agreement of the teacher's rewards with the rule over alpha](pocket-claims-reward.png)", ""]
    lines += ["| alpha | Spearman correlation with the rule | regret |", "|---|---|---|"]
    for at, alpha in enumerate(table["alpha"]):
        lines.append(f"| {alpha:g} | {cell(table['spearman'][at])} | {cell(table['regret'][at])} |")
    lines.append(f"| a pick at random | 0 | {cell(table['random_regret'])} |")
    names = {"jsd": "JSD", "correlation": "correlation", "size": "of sizes", "slope": "slope", "order": "order (tau)"}
    lines += ["", "![Divergence and margins while four methods train](pocket-claims-training.png)", ""]
    lines += ["| student | " + " | ".join(names.values()) + " |", "|---|" + "---|" * len(names)]
    (first, start), *_ = measurements["training"].items()
    lines.append("| at the start | " + " | ".join(cell(start[name][0]) for name in names) + " |")
    for row, measures in measurements["training"].items():
        lines.append(f"| trained by `{row}` | " + " | ".join(cell(measures[name][-1]) for name in names) + " |")
    for contrast, measures in measurements["contrasts"].items():
        if contrast.startswith(first):
            lines.append(f"| {contrast} | " + " | ".join(cell(measures[name]) for name in names) + " |")
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print, write the numbers and the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="pocket", help="or studies/pocket_paper.yaml: the paper's options")
    parser.add_argument("--out", type=Path, default=Path("studies/pocket_claims.json"))
    parser.add_argument("--figures", type=Path, help="folder for the two PNG files; without it none are drawn")
    parser.add_argument("--page", type=Path, help="a Markdown page whose tables are to be replaced: docs/methods.md")
    parser.add_argument("--redraw", action="store_true", help="figures and tables from --out again, measure nothing")
    parser.add_argument(
        "--rows", default=",".join(ROWS), help="rows of the recipe; the others are compared with the first"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--held-out", type=int, default=256, help="prompts per seed")
    parser.add_argument("--points", type=int, default=9, help="measurements of each training, start and end included")
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="change the recipe: PATH=VALUE")
    options = parser.parse_args(words)
    if not options.redraw:
        start = time.process_time()
        recipe = load_recipe(options.recipe, options.overrides, load_registry())
        rows = tuple(options.rows.split(","))
        claims = measure_all(recipe, rows, options.seeds, options.held_out, options.points)
        measurements = {
            "reward": claims.reward(),
            "training": claims.training(),
            "contrasts": claims.contrasts(),
            "learning_rates": {row: recipe.methods[row].train.learning_rate for row in rows},
            "temperature": recipe.sampling.temperature,
            "seeds": options.seeds,
            "held_out": options.held_out,
            "cpu_seconds": round(time.process_time() - start),
        }
        options.out.write_text(json.dumps(measurements, indent=1) + "\n", encoding="utf-8")
        show(measurements)
    measurements = json.loads(options.out.read_text(encoding="utf-8"))
    if options.figures is not None:
        draw(measurements, options.figures)
    if options.page is not None:
        put_between(options.page, BEGIN, END, tables(measurements))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
