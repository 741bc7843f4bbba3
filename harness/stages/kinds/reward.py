"""Stage ``reward``: what the teacher says of each response: mean log-probability and selection probability.

PAD section 4.2: r_tch(y) = mean log-probability (Eq. 7), p_sel(y) from a multiple-choice question (Eq. 8). They are
stored apart; a method mixes them with its own alpha (Eq. 9). Modes of the multiple-choice question:

``cyclic``         n questions per group, each response once at each letter, from a seeded random order; the letters'
                   log-probabilities are averaged and renormalised. Exact when position bias is additive in log-odds.
``pairwise_both``  all pairs in both orders; scores are the least-squares fit of the averaged log-odds; softmax of them.
``pairwise_once``  all pairs, the first drawn always shown first, mean win probability (what the released code does).
``once``           Eq. 8 as printed: one question, each response at a random letter, and the probability of its letter.
"""

from __future__ import annotations

import itertools
import logging
import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from harness.contracts.model import ChatModel, TooLong
from harness.contracts.options import json_data
from harness.contracts.stage import Cost, Stage
from harness.errors import UserError
from harness.multiple_choice import LETTERS, mcq_messages
from harness.stages.graph import StageGraph, TrainingRow, model_cost
from harness.stages.kind import StageContext, StageKind, TextLength
from harness.types import Group, Message, Response

T = TypeVar("T")
log = logging.getLogger(__name__)
TRUNCATED = " [...]"
QUESTION_FRAME, LABEL = 80, 14
"""In tokens, about: the multiple-choice question without its texts, and the label around each response."""
Order = tuple[int, ...]
ChoiceReplies = Sequence[tuple[Order, Sequence[float]]]


class ChoiceQuestion(NamedTuple):
    group: int
    order: Order
    messages: list[Message]


class Selection(NamedTuple):
    log_psel: tuple[float, ...]
    coverage: float
    """Mean probability mass on the letters before renormalising."""


def reward_stage(row: TrainingRow, number: int, samples: Stage) -> Stage:
    graph = row.graph
    teacher = graph.model("teacher")
    backend = graph.backend_use(KIND.name, KIND.needs["teacher"], teacher)
    params = {**backend.params, **json_data(graph.recipe.reward)}
    params["seed"] = row.round_seed("reward", number=number)  # of the order in which responses are shown
    # Labelled like the samples: rows that share these share their rewards.
    labels: dict[str, Any] = {name: getattr(samples, name) for name in ("row", "round", "seed", "variant")}
    local, models = {"samples": samples.local["samples"], **backend.local}, {"teacher": teacher}
    return graph.add_with_models("reward", params, {"samples": samples.ref}, models, local, **labels)


def cost(stage: Stage, graph: StageGraph) -> Cost:
    n = int(stage.local["samples"])
    orders = MODES[stage.params["mcq"]].orders(n, random.Random(0))
    response_count = sum(map(len, orders))
    per_prompt = n * graph.row_tokens + len(orders) * graph.prompt_tokens + response_count * graph.response_tokens
    return model_cost(stage, "teacher", graph.recipe.prompts.n * per_prompt)


def texts(stage: Stage, graph: StageGraph) -> Iterable[TextLength]:
    orders = MODES[stage.params["mcq"]].orders(int(stage.local["samples"]), random.Random(0))
    count = max(map(len, orders), default=1)
    response = min(stage.params["max_response_tokens"], graph.recipe.sampling.max_new_tokens)
    question_tokens, prompt = QUESTION_FRAME + count * (response + LABEL), graph.recipe.prompts.max_prompt_tokens
    remedy = "lower reward.max_response_tokens, prompts.max_prompt_tokens or sampling.n (reward.mcq=pairwise_both "
    remedy += "shows two responses at a time). A prompt that does not fit is left out, and counted under the table"
    usual = question_tokens + min(prompt, graph.prompt_tokens)
    return [TextLength(f"multiple-choice questions with {count} responses", question_tokens + prompt, usual, remedy)]


def run(stage: Stage, context: StageContext) -> Mapping[str, object]:
    groups = context.records(stage, "samples", Group)
    model: ChatModel = context.model(stage, "teacher")
    params = stage.params
    options = {"mode": params["mcq"], "max_tokens": params["max_response_tokens"], "seed": params["seed"]}
    too_long: dict[str, str] = {}
    means = read_what_fits(groups, too_long, partial(mean_logps, model))
    selections, truncated_count = read_what_fits(groups, too_long, partial(select, model, **options))
    if too_long and len(too_long) == len(groups):
        raise UserError(f"reward: no prompt can be read. {next(iter(too_long.values()))}")
    floor = math.log(params["floor"])
    rewards = dict(
        zip([group.prompt.id for group in groups if group.prompt.id not in too_long], selections, strict=True)
    )
    rewarded_groups = []
    for group in groups:
        if group.prompt.id in too_long:
            rewarded_groups.append(Group(group.prompt))
            continue
        selection = rewards[group.prompt.id]
        samples = tuple(
            replace(response, mean_logp=mean, log_psel=max(value, floor))
            for response, mean, value in zip(group.samples, means[group.prompt.id], selection.log_psel, strict=True)
        )
        rewarded_groups.append(replace(group, coverage=selection.coverage, samples=samples))
    if params["identical"] == "mean":
        rewarded_groups = [share_rewards(group) for group in rewarded_groups]
    if params["shuffle"]:
        rewarded_groups = [shuffle_rewards(group, params["seed"]) for group in rewarded_groups]
    context.write(Group, rewarded_groups)
    values = [value for selection in selections for value in selection.log_psel]
    coverage = [selection.coverage for selection in selections]
    # Counts that tell whether the rewards can be trusted. Only models in process can say what reading took.
    usage: dict[str, float] = getattr(model, "usage", dict)()
    return {
        "groups": len(selections),
        "too_long": too_long,
        "responses": len(values),
        "truncated": truncated_count,
        "floored": sum(value < floor for value in values),
        "identical": sum(len(group.samples) - len({r.text for r in group.samples}) for group in groups),
        "mean_coverage": sum(coverage) / max(1, len(coverage)),
        "low_coverage_groups": sum(value < 0.5 for value in coverage),
        **usage,
    }


def share_rewards(group: Group) -> Group:
    """One reward for samples of one text: the mean of theirs."""

    def mean(text: str, field: str) -> float | None:
        values = [getattr(sample, field) for sample in group.samples if sample.text == text]
        known_values = [value for value in values if value is not None]
        return sum(known_values) / len(known_values) if known_values else None

    means = {r.text: (mean(r.text, "mean_logp"), mean(r.text, "log_psel")) for r in group.samples}
    samples = (replace(r, mean_logp=means[r.text][0], log_psel=means[r.text][1]) for r in group.samples)
    return replace(group, samples=tuple(samples))


def shuffle_rewards(group: Group, seed: int) -> Group:
    """A control that must teach nothing."""
    dealt = list(group.samples)
    random.Random(f"shuffle/{seed}/{group.prompt.id}").shuffle(dealt)
    samples = [
        replace(response, mean_logp=donor.mean_logp, log_psel=donor.log_psel)
        for response, donor in zip(group.samples, dealt, strict=True)
    ]
    return replace(group, samples=tuple(samples))


def mean_logps(model: ChatModel, groups: Sequence[Group]) -> dict[str, list[float | None]]:
    """By id of the prompt, of each response; ``None`` for one that was cut before its first token. Raises as ``select``
    does."""
    readable = [(group.prompt, r) for group in groups for r in group.samples if r.finished or r.text]
    with name_prompts([prompt.id for prompt, _ in readable], "prompts with a response"):
        means = iter(model.mean_logps([prompt.messages for prompt, _ in readable], [r for _, r in readable]))
    return {group.prompt.id: [next(means) if r.finished or r.text else None for r in group.samples] for group in groups}


def select(
    model: ChatModel, groups: Sequence[Group], mode: str, max_tokens: int, seed: int
) -> tuple[list[Selection], int]:
    """log p_sel of every response, and how many were cut. Raises PromptsTooLong for texts longer than the context."""
    texts_by_group = [[shown_text(model, response, max_tokens) for response in group.samples] for group in groups]
    pairs = zip(itertools.chain(*texts_by_group), (r for group in groups for r in group.samples), strict=True)
    truncated_count = sum(text != response.text for text, response in pairs)
    orders, scores = MODES[mode]
    questions = [
        ChoiceQuestion(index, order, mcq_messages(groups[index].prompt.messages, [texts[i] for i in order]))
        for index, texts in enumerate(texts_by_group)
        if len(texts) > 1
        for order in orders(len(texts), random.Random(f"{seed}/{groups[index].prompt.id}"))
    ]
    replies: list[list[tuple[Order, list[float]]]] = [[] for _ in groups]
    # Groups can have fewer responses than others; a model is asked about one set of letters per call.
    for width in sorted({len(question.order) for question in questions}):
        alike = [question for question in questions if len(question.order) == width]
        with name_prompts([groups[question.group].prompt.id for question in alike], "multiple-choice questions"):
            rows = model.choice_logps([question.messages for question in alike], LETTERS[:width])
        for question, row in zip(alike, rows, strict=True):
            replies[question.group].append((question.order, row))
    # Where there is nothing to choose from: probability 1, and all of it on the letters.
    selections = [Selection((0.0,) * len(texts), 1.0) for texts in texts_by_group]
    for index, answers in enumerate(replies):
        if answers:
            mass = [math.exp(logsumexp(row)) for _, row in answers]
            selections[index] = Selection(tuple(scores(len(texts_by_group[index]), answers)), sum(mass) / len(mass))
    return selections, truncated_count


class PromptsTooLong(UserError):
    """``prompts``: ids of those whose texts are longer than the teacher's context."""

    def __init__(self, message: str, prompts: Sequence[str]) -> None:
        super().__init__(message)
        self.prompts = tuple(prompts)


def read_what_fits(groups: Sequence[Group], too_long: dict[str, str], read: Callable[[list[Group]], T]) -> T:
    """``read`` of the groups that are not ``too_long``; those that prove to be join them, with the reason."""
    while True:
        try:
            return read([group for group in groups if group.prompt.id not in too_long])
        except PromptsTooLong as error:  # lengths are checked before anything is read
            log.warning("left out: %s", error)
            too_long.update(dict.fromkeys(error.prompts, str(error)))


@contextmanager
def name_prompts(ids: Sequence[str], texts: str) -> Iterator[None]:
    """Turns TooLong into PromptsTooLong, which names the prompts and the remedy."""
    try:
        yield
    except TooLong as error:
        prompts = list(dict.fromkeys(ids[index] for index in error.places))
        names = ", ".join(prompts[:8]) + (f" and {len(prompts) - 8} more" if len(prompts) > 8 else "")
        raise PromptsTooLong(
            f"reward, {texts}: {error}. Of prompts {names}. Lower reward.max_response_tokens, sampling.max_new_tokens "
            "or prompts.max_prompt_tokens, or take a teacher with a longer context.",
            prompts,
        ) from error


def shown_text(model: ChatModel, response: Response, max_tokens: int) -> str:
    start = model.truncate(response.text, max_tokens)
    return start if start == response.text else start + TRUNCATED


def cyclic_orders(n: int, rng: random.Random) -> list[Order]:
    """The n cyclic shifts of one random order: each response stands once at each letter."""
    start = rng.sample(range(n), n)
    return [tuple(start[shift:] + start[:shift]) for shift in range(n)]


def mean_shifts(n: int, replies: ChoiceReplies) -> list[float]:
    """Mean over the shifts of each response's letter log-probability, renormalised over the responses."""
    totals = [0.0] * n
    for order, row in replies:
        norm = logsumexp(row)
        for response, value in zip(order, row, strict=True):
            totals[response] += (value - norm) / len(replies)
    norm = logsumexp(totals)
    return [total - norm for total in totals]


def pairwise_scores(n: int, replies: ChoiceReplies) -> list[float]:
    """Least-squares scores from log-odds of all ordered pairs: s_i = (1/n) sum_j (logit_ij - logit_ji) / 2, softmax."""
    scores = [0.0] * n
    for (first, second), (a, b) in replies:
        scores[first] += (a - b) / (2 * n)
        scores[second] -= (a - b) / (2 * n)
    norm = logsumexp(scores)
    return [score - norm for score in scores]


def letter_probabilities(n: int, replies: ChoiceReplies) -> list[float]:
    ((order, row),) = replies
    return [value for _, value in sorted(zip(order, row, strict=True))]


def mean_wins(n: int, replies: ChoiceReplies) -> list[float]:
    """log of the mean probability of winning a pair (the released code's score; not a distribution over responses)."""
    wins = [0.0] * n
    for (first, second), (a, b) in replies:
        p = 1 / (1 + math.exp(min(700.0, b - a)))  # exp overflows above 709
        wins[first] += p / (n - 1)
        wins[second] += (1 - p) / (n - 1)
    # A response that lost every pair has probability 0, and its log must stay finite until the floor is applied.
    return [math.log(max(win, 1e-300)) for win in wins]


def logsumexp(values: Sequence[float]) -> float:
    top = max(values)
    return top + math.log(sum(math.exp(value - top) for value in values))


class Mode(NamedTuple):
    orders: Callable[[int, random.Random], list[Order]]
    scores: Callable[[int, ChoiceReplies], list[float]]


MODES: Final[Mapping[str, Mode]] = {
    "cyclic": Mode(cyclic_orders, mean_shifts),
    "pairwise_both": Mode(lambda n, rng: list(itertools.permutations(range(n), 2)), pairwise_scores),
    "once": Mode(lambda n, rng: [tuple(rng.sample(range(n), n))], letter_probabilities),
    "pairwise_once": Mode(lambda n, rng: list(itertools.combinations(range(n), 2)), mean_wins),
}
KIND = StageKind(
    "reward", run, cost, texts=texts, needs={"teacher": frozenset({"tokens", "logps", "choices"})}, training=True
)
