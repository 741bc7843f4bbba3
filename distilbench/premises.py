"""``pocket premises``: does pocket stand where the PAD paper stands? Seven conditions under which its claims can be
tested at all, each with its numbers. Rows, samples and rewards are those of the recipe's own Table 1.

    P1  the teacher judges better by the multiple-choice question than by log-likelihood: calibration has a use
    P2  log p_sel spreads within a group as much more than the mean log-probability as in the paper
    P3  fine-tuning on golden answers gains little: the student has what imitation gives
    P4  teacher and student are as far apart as in the paper
    P5  answers are long enough for beta = 10
    P6  the best of the student's own samples is well above the student: there is something to prefer
    P7  how much of that a judge as good as the teacher can find

Intervals are 95%, over prompts (bootstrap; the seeds of one prompt are drawn together). P3's are over questions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Unpack, cast

import numpy as np
import yaml
from numpy.typing import NDArray
from scipy.stats import rankdata

from distilbench.plugins import load_registry
from distilbench.workflows.execute import execute
from distilbench.workflows.plan import RunOptions, WorkOptions, changes_of, plan
from harness.contracts.stage import RunListener, Stage
from harness.errors import UserError
from harness.pocket.scorer import score
from harness.pocket.tasks import UnknownInstruction
from harness.prompts.pocket import SOURCE as PROMPTS
from harness.recipe.recipe import Recipe, load_recipe
from harness.records import read_records
from harness.stages.kinds import reward
from harness.stats import percentile_interval, resamples, seed_of
from harness.types import Answer, Group

if TYPE_CHECKING:
    from distilbench.workflows.finished_run import FinishedRun
    from harness.plan.plan import Plan

Matrix = NDArray[np.float64]
SFT: Final = "sft"
"""The row that is trained on golden answers: Standard KD without the teacher's term."""
ROWS: Final = ("student", "teacher", "dpo", "pad-ppd", SFT)
BETA: Final = 10.0
ALPHA: Final = 0.8
REPLICATES: Final = 2000
SPREAD: Final = (10.0, 50.0)
"""Spread of log p_sel over that of the mean log-probability: several nats over 0.05 to 0.2 nats for Gemma-2-9B."""
GAP: Final = (20.0, 30.0)
LENGTHS: Final = (30.0, 80.0)
STUDENT_RANGE: Final = 3.0
"""Nats: beta times the range of mean log-probabilities within a group; in PAD's log, margins lie in -0.3 to 0.8."""
IMITATION: Final = 0.02
ROOM: Final = 0.1


@dataclass(frozen=True)
class PromptMean:
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Premise:
    name: str
    claim: str
    bound: str
    """What must be so for the premise to hold; empty: it is a number to know, and nothing to hold."""
    holds: bool | None
    numbers: Mapping[str, PromptMean | float]


class PremiseOptions(WorkOptions, total=False):
    seeds: Sequence[int]


def premises(
    recipe: str = "pocket", *, force: bool = False, listener: RunListener | None = None,
    **options: Unpack[PremiseOptions],
) -> list[Premise]:  # fmt: skip
    """Raises UserError, before anything runs, where the recipe's prompts or questions are not pocket's, and as ``run``
    does."""
    base = load_recipe(recipe, changes_of(options), load_registry(tuple(options.get("plugins", ()))))
    check_recipe(base)
    rate = base.methods["kd"].train.learning_rate
    path, row = f"methods.{SFT}", f"{{method: kd, weight: 0, train: {{learning_rate: {rate}}}}}"
    # A run of its own: else ``runs/pocket`` would have this table, with these rows, in place of its Table 1.
    name, changes = f"{base.name}-premises", options.get("set", ())
    settings = (
        {**changes, path: yaml.safe_load(row), "name": name}
        if isinstance(changes, Mapping)
        else [*changes, f"{path}={row}", f"name={name}"]
    )
    needed = {**options, "set": settings, "methods": list(ROWS)}
    work = plan("table1", recipe, **cast("RunOptions", needed))
    check_questions(work.first)
    finished = execute(work, force=force, listener=listener)
    if finished.outcome is not None and finished.outcome.errors:
        raise UserError("premises need every row: " + "; ".join(finished.outcome.errors.values()))
    return measure(finished, work.first)


def check_recipe(recipe: Recipe) -> None:
    """Raises UserError for training prompts of another world, and for rows and questions that are not there."""
    if recipe.prompts.source != PROMPTS.name:
        raise UserError(f"premises are pocket's; recipe {recipe.name!r} has prompts from {recipe.prompts.source}.")
    needed = {"methods": ("kd", "dpo", "pad-ppd"), "benchmarks": ("alpaca_eval",)}
    absent = [f"{key}.{name}" for key, names in needed.items() for name in names if name not in getattr(recipe, key)]
    if absent:
        raise UserError(f"premises need {', '.join(absent)}; recipe {recipe.name!r} is without.")


def check_questions(work: Plan) -> None:
    """Raises UserError for a question that the rule cannot score an answer to."""
    for name, benchmark in work.graph.benchmarks.items():
        for question in benchmark.questions:
            try:
                score([{"role": "user", "content": question.turns[0]}], "")
            except UnknownInstruction as error:
                raise UserError(f"premises are pocket's; of {name}, {question.id} is {error}") from error


def measure(finished: FinishedRun, work: Plan) -> list[Premise]:
    drawn = [
        group
        for stage in first_rewards(work)
        for group in read_records(finished.store.path(*stage.ref) / "groups.jsonl", Group)
        if len(group.samples) == work.recipe.sampling.n
    ]
    groups = [group for group in drawn if is_measurable(group)]
    prompts = [group.prompt.id for group in groups]
    truth = matrix(groups, lambda group, place: score(group.prompt.messages, group.samples[place].text))
    selection = matrix(groups, lambda group, place: group.samples[place].log_psel)
    likelihood = matrix(groups, lambda group, place: group.samples[place].mean_logp)
    return [
        judging(truth, selection, likelihood, prompts, len(drawn) - len(groups)),
        spreads(selection, likelihood),
        imitation(finished, work),
        distance(finished),
        lengths(work, groups, selection, likelihood),
        room(truth, prompts),
        ceiling(truth, selection, prompts),
    ]


def first_rewards(work: Plan) -> list[Stage]:
    """Of the student as it is: later rounds, and rows that start from another, sample from a trained one."""
    return [stage for stage in work.stages if stage.kind == reward.KIND.name and stage.row == ROWS[0]]


def is_measurable(group: Group) -> bool:
    """Whether every response has its rewards: an empty one has none."""
    return all(None not in (response.log_psel, response.mean_logp) for response in group.samples)


def matrix(groups: Sequence[Group], value: Callable[[Group, int], float | None]) -> Matrix:
    """[groups, n]. Raises UserError where there is none, or a response has no value."""
    rows = [[value(group, place) for place in range(len(group.samples))] for group in groups]
    if not rows or any(entry is None for row in rows for entry in row):
        raise UserError("premises need groups with a reward for every response; some are empty, or were cut at once")
    return np.array(rows, dtype=float)


def estimate(values: Matrix, prompts: Sequence[str] | None = None) -> PromptMean:
    """Mean of one value per group. A prompt's groups, one for each seed, are drawn together; ``None``: one each."""
    place = np.arange(len(values)) if prompts is None else np.unique(np.array(prompts), return_inverse=True)[1]
    sums, counts = np.bincount(place, values), np.bincount(place)
    draws = resamples(len(sums), REPLICATES, seed_of("premises"))
    low, high = percentile_interval(sums[draws].sum(axis=1) / counts[draws].sum(axis=1), len(sums))
    return PromptMean(float(values.mean()), low, high)


def rank_correlations(signal: Matrix, truth: Matrix) -> Matrix:
    """Spearman's within each prompt; 0 where the signal does not tell the responses apart."""
    first, second = (rankdata(side, axis=1) for side in (signal, truth))
    first, second = (side - side.mean(axis=1, keepdims=True) for side in (first, second))
    spread = np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1))
    return np.asarray((first * second).sum(axis=1) / np.where(spread > 0, spread, 1.0))


def regrets(signal: Matrix, truth: Matrix) -> Matrix:
    """The best response's score less that of the response which the signal prefers."""
    return np.asarray(truth.max(axis=1) - truth[range(len(truth)), signal.argmax(axis=1)])


def judging(
    truth: Matrix, selection: Matrix, likelihood: Matrix, prompts: Sequence[str] | None = None, left_out: int = 0
) -> Premise:
    """``left_out``: groups without a reward for every response."""
    told_apart = truth.max(axis=1) - truth.min(axis=1) > 1e-9  # equal responses cannot be judged rightly or wrongly
    scores, chosen, likely = (side[told_apart] for side in (truth, selection, likelihood))
    kept = None if prompts is None else [prompt for prompt, told in zip(prompts, told_apart, strict=True) if told]
    ranks = [rank_correlations(side, scores) for side in (chosen, likely)]
    lost = [regrets(side, scores) for side in (chosen, likely)]
    better, saved = estimate(ranks[0] - ranks[1], kept), estimate(lost[1] - lost[0], kept)
    numbers: dict[str, PromptMean | float] = {
        "groups with different scores": len(scores),
        "groups left out, a response being empty": left_out,
        "Spearman, question": estimate(ranks[0], kept),
        "Spearman, log-likelihood": estimate(ranks[1], kept),
        "regret, question": estimate(lost[0], kept),
        "regret, log-likelihood": estimate(lost[1], kept),
        "regret, at random": estimate(scores.max(axis=1) - scores.mean(axis=1), kept),
        "Spearman, difference": better,
        "regret, difference": saved,
    }
    claim = "the teacher judges better by the multiple-choice question than by log-likelihood"
    return Premise("P1", claim, "both differences above 0", better.low > 0 and saved.low > 0, numbers)


def spreads(selection: Matrix, likelihood: Matrix) -> Premise:
    asked, likely = (float(np.median(side.std(axis=1))) for side in (selection, likelihood))
    ratio = asked / likely if likely else math.inf
    numbers = {"log p_sel, nats": asked, "mean log-probability, nats": likely, "ratio": ratio}
    claim = "log p_sel spreads within a group as much more than the mean log-probability as in the paper"
    return Premise("P2", claim, f"ratio {bounds(SPREAD)}", SPREAD[0] <= ratio <= SPREAD[1], numbers)


def bounds(pair: tuple[float, float]) -> str:
    return f"{pair[0]:g} to {pair[1]:g}"


def scores_of(finished: FinishedRun, work: Plan, row: str) -> Matrix:
    """[questions, seeds]: the rule's score of a row's first answers to all questions."""
    columns = []
    for entrant in (one for one in work.entrants if one.row == row):
        values: list[float] = []
        for name, stage in sorted(entrant.answers.items()):
            turns = {question.id: question.turns[0] for question in work.graph.benchmarks[name].questions}
            answers = read_records(finished.store.path("answer", stage.key) / "answers.jsonl", Answer)
            values += [
                score([{"role": "user", "content": turns[answer.question]}], answer.turns[0])
                for answer in sorted(answers, key=lambda one: one.question)
            ]
        columns.append(values)
    return np.array(columns).T


def imitation(finished: FinishedRun, work: Plan) -> Premise:
    student, tuned = (scores_of(finished, work, row).mean(axis=1) for row in ("student", SFT))
    gain = estimate(tuned - student)
    numbers = {"student, by the rule": estimate(student), "after fine-tuning": estimate(tuned), "gain": gain}
    claim = "one more pass over golden answers gains little: what imitation gives, the student has"
    return Premise("P3", claim, f"gain below {IMITATION}", gain.value < IMITATION, numbers)


def distance(finished: FinishedRun) -> Premise:
    frame = finished.frame()
    means = frame[frame.metric == "alpaca_eval.lc"].groupby("row").value.mean()
    gap = float(means["teacher"] - means["student"])
    numbers = {"teacher, LC": float(means["teacher"]), "student, LC": float(means["student"]), "points apart": gap}
    return Premise(
        "P4", "teacher and student are as far apart as in the paper", bounds(GAP), in_bounds(gap, GAP), numbers
    )


def in_bounds(value: float, pair: tuple[float, float]) -> bool:
    return pair[0] <= value <= pair[1]


def lengths(work: Plan, groups: Sequence[Group], selection: Matrix, likelihood: Matrix) -> Premise:
    import torch

    from harness.models.backends import load_model
    from methods.plackett_luce import DIVERGENCES

    student = load_model(work.recipe.family.student)
    rows = [(group.prompt.messages, response) for group in groups for response in group.samples]
    own = np.array(student.mean_logps([talk for talk, _ in rows], [one for _, one in rows])).reshape(selection.shape)
    sides = (BETA * (ALPHA * selection + (1 - ALPHA) * likelihood), BETA * own)
    jsd = DIVERGENCES["jsd"](*map(torch.from_numpy, sides)).numpy()
    tokens = float(np.median([response.tokens for _, response in rows]))
    spread = float(np.median(np.ptp(sides[1], axis=1)))
    numbers: dict[str, PromptMean | float] = {
        "tokens, median": tokens,
        "beta x range of the student, nats": spread,
        "JSD before training": estimate(jsd, [group.prompt.id for group in groups]),
        "prompts with a JSD above 0.65": float((jsd > 0.65).mean()),
    }
    bound = f"{bounds(LENGTHS)} tokens, range below {STUDENT_RANGE:g} nats"
    holds = in_bounds(tokens, LENGTHS) and spread < STUDENT_RANGE
    return Premise("P5", "answers are long enough for beta = 10", bound, holds, numbers)


def room(truth: Matrix, prompts: Sequence[str] | None = None) -> Premise:
    gain = estimate(truth.max(axis=1) - truth.mean(axis=1), prompts)
    sample, best = estimate(truth.mean(axis=1), prompts), estimate(truth.max(axis=1), prompts)
    numbers = {"a sample": sample, "the best of a group": best, "gain": gain}
    claim = "the best of the student's own samples is well above the student"
    return Premise("P6", claim, f"gain above {ROOM}", gain.low > ROOM, numbers)


def ceiling(truth: Matrix, selection: Matrix, prompts: Sequence[str] | None = None) -> Premise:
    chosen = truth[range(len(truth)), selection.argmax(axis=1)]
    found = (chosen.mean() - truth.mean()) / (truth.max(axis=1).mean() - truth.mean())
    first, second = np.triu_indices(truth.shape[1], 1)
    gaps, signs = truth[:, first] - truth[:, second], selection[:, first] - selection[:, second]
    right = (np.sign(gaps) == np.sign(signs))[gaps != 0]
    numbers: dict[str, PromptMean | float] = {
        "the teacher's choice": estimate(chosen, prompts),
        "share of the room that it finds": float(found),
        "pairs that it orders rightly": float(right.mean()),
    }
    return Premise("P7", "how much of that room a judge as good as the teacher finds", "", None, numbers)
