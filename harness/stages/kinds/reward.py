"""Stage ``reward``: what the teacher says of each response: mean log-probability and selection probability.

PAD section 4.2: r_tch(y) = mean log-probability (Eq. 7), p_sel(y) from a multiple-choice question (Eq. 8). They are
stored apart; a method mixes them with its own alpha (Eq. 9). Modes of the multiple-choice question:

``cyclic``         n questions per group, each response once at each letter, from a seeded random order; the letters'
                   log-probabilities are averaged and renormalised. Exact when position bias is additive in log-odds.
``pairwise_both``  all pairs in both orders; scores are the least-squares fit of the averaged log-odds; softmax of them.
``pairwise_once``  all pairs, the first drawn always shown first, mean win probability (what the released code does).
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

from harness.contracts.model import ChatModel, TooLong
from harness.contracts.options import plain
from harness.contracts.stage import Cost, Stage
from harness.errors import UserError
from harness.hardware.gpu import generation_flops
from harness.models.published_sizes import size
from harness.multiple_choice import LETTERS, mcq_messages
from harness.records import write_records
from harness.stages.context import StageContext
from harness.stages.graph import PROMPT_TOKENS, Model, StageGraph
from harness.stages.kind import StageKind, TextLength
from harness.types import Group, Message, Response

TRUNCATED = " [...]"
QUESTION_FRAME, LABEL = 80, 14
"""About how many tokens a multiple-choice question takes besides the request and the responses, and the label around
each response (``harness/multiple_choice.py``)."""


class ChoiceQuestion(NamedTuple):
    """One multiple-choice question: which group, and which response stands at which letter."""

    group: int
    order: tuple[int, ...]
    messages: list[Message]


class Selection(NamedTuple):
    log_psel: tuple[float, ...]
    coverage: float
    """Mean probability mass on the letters before renormalising."""


def reward_stage(graph: StageGraph, samples: Stage, teacher: Model, seed: int) -> Stage:
    """The teacher's rewards for these samples. ``seed``: of the order in which responses are shown."""
    params = {**graph.backend_params(), **plain(graph.recipe.reward), "seed": seed}
    labels = {"row": samples.row, "round": samples.round, "seed": samples.seed, "variant": samples.variant}
    local = {"samples": samples.local["samples"]}
    return graph.add_with_models("reward", params, {"samples": samples.ref}, {"teacher": teacher}, local, **labels)


def cost(stage: Stage, graph: StageGraph) -> Cost:
    """One log-likelihood pass per response, and the multiple-choice questions of the mode."""
    n, mode = int(stage.local["samples"]), stage.params["mcq"]
    pairs = n * (n - 1)
    # Questions per prompt, and responses shown in all of them.
    questions, shown = {
        "cyclic": (n, n * n),
        "pairwise_both": (pairs, 2 * pairs),
        "pairwise_once": (pairs // 2, pairs),
    }[mode]
    per_prompt = n * graph.row_tokens + questions * PROMPT_TOKENS + shown * graph.response_tokens
    tokens = graph.recipe.prompts.n * per_prompt
    return Cost(tokens=tokens, peak_flops=generation_flops(size(stage.local["models"]["teacher"]), tokens, 0))


def texts(stage: Stage, graph: StageGraph) -> Iterable[TextLength]:
    """A multiple-choice question: the prompt, and the responses that it shows at a time."""
    count = int(stage.local["samples"]) if stage.params["mcq"] == "cyclic" else 2
    response = min(stage.params["max_response_tokens"], graph.recipe.sampling.max_new_tokens)
    shown, prompt = QUESTION_FRAME + count * (response + LABEL), graph.recipe.prompts.max_prompt_tokens
    remedy = "lower reward.max_response_tokens, prompts.max_prompt_tokens or sampling.n (reward.mcq=pairwise_both "
    remedy += "shows two responses at a time). A prompt that does not fit stops the reward stage"
    usual = shown + min(prompt, PROMPT_TOKENS)
    return [TextLength(f"multiple-choice questions with {count} responses", shown + prompt, usual, remedy)]


def run(stage: Stage, context: StageContext) -> Mapping[str, Any]:
    """Write ``groups.jsonl``: the groups of ``samples`` with both rewards filled in."""
    groups = context.records(stage, "samples", "groups.jsonl", Group)
    model: ChatModel = context.model(stage, "teacher")
    params = stage.params
    pairs = [(group.prompt.messages, response) for group in groups for response in group.samples]
    # A response that was cut before its first token has nothing to read: it keeps no mean log-probability.
    usable = [(messages, response) for messages, response in pairs if response.finished or response.text]
    ids = [group.prompt.id for group in groups for response in group.samples if response.finished or response.text]
    with name_prompts(ids, "prompts with a response"):
        means = iter(model.mean_logps([m for m, _ in usable], [r for _, r in usable]))
    selections, truncated = select(model, groups, params["mcq"], params["max_response_tokens"], params["seed"])
    floor = math.log(params["floor"])
    rewarded = []
    for group, selection in zip(groups, selections, strict=True):
        samples = tuple(
            replace(r, mean_logp=next(means) if r.finished or r.text else None, log_psel=max(value, floor))
            for r, value in zip(group.samples, selection.log_psel, strict=True)
        )
        rewarded.append(replace(group, coverage=selection.coverage, samples=samples))
    if params["shuffle"]:
        rewarded = [shuffle_rewards(group, params["seed"]) for group in rewarded]
    write_records(context.folder / "groups.jsonl", rewarded)
    # Only models in process can say what reading took.
    usage: dict[str, float] = getattr(model, "usage", dict)()
    return measurements(rewarded, selections, truncated, floor) | usage


def shuffle_rewards(group: Group, seed: int) -> Group:
    """The group with its rewards dealt out to the responses at random: a control that must teach nothing."""
    dealt = list(group.samples)
    random.Random(f"shuffle/{seed}/{group.prompt.id}").shuffle(dealt)
    samples = [
        replace(response, mean_logp=other.mean_logp, log_psel=other.log_psel)
        for response, other in zip(group.samples, dealt, strict=True)
    ]
    return replace(group, samples=tuple(samples))


def measurements(
    groups: Sequence[Group], selections: Sequence[Selection], truncated: int, floor: float
) -> dict[str, float]:
    """Counts that tell whether the rewards can be trusted."""
    values = [value for selection in selections for value in selection.log_psel]
    coverage = [selection.coverage for selection in selections]
    return {
        "groups": len(groups),
        "responses": len(values),
        "truncated": truncated,
        "floored": sum(value < floor for value in values),
        "mean_coverage": sum(coverage) / max(1, len(coverage)),
        "low_coverage_groups": sum(value < 0.5 for value in coverage),
    }


def select(
    model: ChatModel, groups: Sequence[Group], mode: str, max_tokens: int, seed: int
) -> tuple[list[Selection], int]:
    """log p_sel of every response of every group, and how many responses had to be cut to be shown.

    Groups with fewer than two responses get log p_sel = 0 and coverage 1 (there is nothing to choose).

    Raises:
        UserError: more responses than letters, or a question that is longer than the teacher reads.
    """
    shown = [[shown_text(model, response, max_tokens) for response in group.samples] for group in groups]
    truncated = sum(
        text != response.text
        for texts, group in zip(shown, groups, strict=True)
        for text, response in zip(texts, group.samples, strict=True)
    )
    orders = {"cyclic": cyclic_orders, "pairwise_both": both_orders, "pairwise_once": once_orders}[mode]
    questions = [
        ChoiceQuestion(index, order, mcq_messages(groups[index].prompt.messages, [texts[i] for i in order]))
        for index, texts in enumerate(shown)
        if len(texts) > 1
        for order in orders(len(texts), random.Random(f"{seed}/{groups[index].prompt.id}"))
    ]
    replies: list[list[float]] = [[] for _ in questions]
    # Groups can have fewer responses than others; a model is asked about one set of letters per call.
    for width in sorted({len(question.order) for question in questions}):
        places = [place for place, question in enumerate(questions) if len(question.order) == width]
        with name_prompts([groups[questions[place].group].prompt.id for place in places], "multiple-choice questions"):
            rows = model.choice_logps([questions[place].messages for place in places], LETTERS[:width])
        for place, row in zip(places, rows, strict=True):
            replies[place] = row
    gathered: list[list[tuple[tuple[int, ...], list[float]]]] = [[] for _ in groups]
    for question, row in zip(questions, replies, strict=True):
        gathered[question.group].append((question.order, row))
    combine = mean_shifts if mode == "cyclic" else pairwise_scores if mode == "pairwise_both" else mean_wins
    selections = []
    for texts, answers in zip(shown, gathered, strict=True):
        if not answers:
            selections.append(Selection((0.0,) * len(texts), 1.0))
            continue
        mass = [math.exp(logsumexp(row)) for _, row in answers]
        selections.append(Selection(tuple(combine(len(texts), answers)), sum(mass) / len(mass)))
    return selections, truncated


@contextmanager
def name_prompts(ids: Sequence[str], what: str) -> Iterator[None]:
    """Turns TooLong over texts of these prompts into a UserError that names the prompts and the remedy."""
    try:
        yield
    except TooLong as error:
        prompts = list(dict.fromkeys(ids[place] for place in error.places))
        named = ", ".join(prompts[:8]) + (f" and {len(prompts) - 8} more" if len(prompts) > 8 else "")
        raise UserError(
            f"reward, {what}: {error}. Of prompts {named}. Lower reward.max_response_tokens, sampling.max_new_tokens "
            "or prompts.max_prompt_tokens, or take a teacher with a longer context."
        ) from error


def shown_text(model: ChatModel, response: Response, max_tokens: int) -> str:
    """A response as the teacher sees it: whole, or its first tokens (the teacher's) with a visible mark."""
    kept = model.truncate(response.text, max_tokens)
    return kept if kept == response.text else kept + TRUNCATED


def cyclic_orders(n: int, rng: random.Random) -> list[tuple[int, ...]]:
    """The n cyclic shifts of one random order: each response stands once at each letter."""
    start = rng.sample(range(n), n)
    return [tuple(start[shift:] + start[:shift]) for shift in range(n)]


def both_orders(n: int, rng: random.Random) -> list[tuple[int, ...]]:
    return list(itertools.permutations(range(n), 2))


def once_orders(n: int, rng: random.Random) -> list[tuple[int, ...]]:
    """Every pair once, the earlier response first."""
    return list(itertools.combinations(range(n), 2))


Answers = Sequence[tuple[tuple[int, ...], list[float]]]


def mean_shifts(n: int, answers: Answers) -> list[float]:
    """Mean over the shifts of each response's letter log-probability, renormalised over the responses."""
    totals = [0.0] * n
    for order, row in answers:
        norm = logsumexp(row)
        for response, value in zip(order, row, strict=True):
            totals[response] += (value - norm) / len(answers)
    norm = logsumexp(totals)
    return [total - norm for total in totals]


def pairwise_scores(n: int, answers: Answers) -> list[float]:
    """Least-squares scores from log-odds of all ordered pairs: s_i = (1/n) sum_j (logit_ij - logit_ji) / 2, softmax."""
    scores = [0.0] * n
    for (first, second), (a, b) in answers:
        scores[first] += (a - b) / (2 * n)
        scores[second] -= (a - b) / (2 * n)
    norm = logsumexp(scores)
    return [score - norm for score in scores]


def mean_wins(n: int, answers: Answers) -> list[float]:
    """log of the mean probability of winning a pair (the released code's score; not a distribution over responses)."""
    wins = [0.0] * n
    for (first, second), (a, b) in answers:
        p = 1 / (1 + math.exp(min(700.0, b - a)))  # exp overflows above 709
        wins[first] += p / (n - 1)
        wins[second] += (1 - p) / (n - 1)
    # A response that lost every pair has probability 0, and its log must stay finite until the floor is applied.
    return [math.log(max(win, 1e-300)) for win in wins]


def logsumexp(values: Sequence[float]) -> float:
    top = max(values)
    return top + math.log(sum(math.exp(value - top) for value in values))


KIND = StageKind(
    "reward", run, cost, texts=texts, needs={"teacher": frozenset({"tokens", "logps", "choices"})}, training=True
)
