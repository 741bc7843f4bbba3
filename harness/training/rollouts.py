"""Live responses: the student answers the prompts of a whole optimiser step, alone or mixed with the teacher.

Each token is drawn from ``mix * teacher + (1 - mix) * student`` (transformers' ``generate`` steps one model only). The
random numbers depend on the seed, the step and the prompt alone: neither batching nor processes change what is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from harness.models.chat import pad_id, stop_ids, vocabulary_size
from harness.models.load import logits_of
from harness.models.prefix_cache import Stepper, supports_stepping
from harness.models.transformers_model import invert
from harness.stats import seed_of
from harness.training.batches import Example, TokenRow, micro_batch
from harness.training.forward import states_of

NAMES = ("behaviour", "student", "teacher")
AT_ONCE = 64


@dataclass(frozen=True)
class Rollout:
    tokens: list[int]
    logps: Mapping[str, list[float]]
    """``behaviour`` (drawn from), ``student`` and ``teacher`` (at temperature 1; the last where it is known)."""


@dataclass(frozen=True)
class Speakers:
    student: PreTrainedModel
    teacher: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    temperature: float
    mix: float
    max_new_tokens: int
    teacher_logps: bool = True


def answer(examples: Sequence[Example], speakers: Speakers, seed: int, step: int) -> list[tuple[Example, Rollout]]:
    """Each example with its drawn response as its only row. Leaves the student in evaluation mode."""
    answers = []
    for start in range(0, len(examples), AT_ONCE):
        chunk = examples[start : start + AT_ONCE]
        seeds = [seed_of("rollout", seed, step, example.id) for example in chunk]
        for example, rollout in zip(chunk, draw([e.prompt for e in chunk], speakers, seeds), strict=True):
            answers.append((replace(example, rows=(TokenRow(rollout.tokens),)), rollout))
    return answers


@torch.no_grad()
def draw(prompts: Sequence[Sequence[int]], speakers: Speakers, seeds: Sequence[int]) -> list[Rollout]:
    speakers.student.train(False)
    device, vocabulary, limit = speakers.student.device, vocabulary_size(speakers.tokenizer), speakers.max_new_tokens
    width, pad = max(map(len, prompts)), pad_id(speakers.tokenizer)
    ids = torch.tensor([[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
    # A generator for each response, and all its numbers beforehand: neither the batch nor how long others go on decides
    # what is drawn. On the CPU, so that every device draws the same numbers.
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    uniforms = torch.stack([torch.rand(limit, generator=g, dtype=torch.float64) for g in generators]).to(device)
    models = [speakers.student, speakers.teacher][: 2 if speakers.mix else 1]
    steppers = [(model, Stepper(model, cached=supports_stepping(model))) for model in models]
    stops = torch.tensor(stop_ids(speakers.tokenizer, speakers.student.generation_config), device=device)
    running = torch.ones(len(prompts), dtype=torch.bool, device=device)
    columns: list[Tensor] = []
    for t in range(limit):
        q, *p = (logits_of(model, stepper.state(ids, mask), vocabulary) for model, stepper in steppers)
        token, logps = pick(q, p[0] if p else None, uniforms[:, t], speakers.temperature, speakers.mix)
        # Everything stays on the device until the end: reading a value would wait for the GPU at each token.
        columns.append(torch.stack([token.double(), *logps.double(), running.double()]))
        running = running & ~torch.isin(token, stops)
        if not running.any():
            break
        ids = token[:, None]
        mask = torch.cat([mask, torch.ones_like(ids)], 1)
    rollouts = [collect(row) for row in torch.stack(columns, -1).cpu().unbind(1)]
    return read_by_teacher(prompts, rollouts, speakers) if not speakers.mix and speakers.teacher_logps else rollouts


def read_by_teacher(prompts: Sequence[Sequence[int]], rollouts: Sequence[Rollout], speakers: Speakers) -> list[Rollout]:
    rows = [Example("", 0, p, (TokenRow(rollout.tokens),)) for p, rollout in zip(prompts, rollouts, strict=True)]
    micro = micro_batch(rows, pad_id(speakers.tokenizer), speakers.student.device)
    lengths = [len(rollout.tokens) for rollout in rollouts]
    columns = torch.split(states_of(speakers.teacher, micro), lengths), torch.split(micro.labels, lengths)
    scored_rollouts = []
    for rollout, states, labels in zip(rollouts, *columns, strict=True):
        logits = logits_of(speakers.teacher, states, vocabulary_size(speakers.tokenizer))
        logps = logits.log_softmax(-1).gather(-1, labels[:, None])[:, 0].tolist()
        scored_rollouts.append(replace(rollout, logps={**rollout.logps, "teacher": logps}))
    return scored_rollouts


def pick(q: Tensor, p: Tensor | None, uniform: Tensor, temperature: float, mix: float) -> tuple[Tensor, Tensor]:
    """Draw by inverting the cumulative distribution: tokens [B], log-probabilities [3, B] under mixture, student,
    teacher ([2, B] without ``p``). ``q``, ``p``: student's and teacher's logits [B, V]; ``uniform``: [B] in [0, 1)."""
    mixture = (q / temperature).softmax(-1)
    if p is not None:
        mixture = mix * (p / temperature).softmax(-1) + (1 - mix) * mixture
    # In float64, so that a long cumulative sum loses none of the small masses.
    token = invert(mixture.double(), uniform)[:, None]
    models = (q,) if p is None else (q, p)
    logps = [mixture.gather(1, token).log(), *(logits.log_softmax(-1).gather(1, token) for logits in models)]
    return token[:, 0], torch.stack(logps)[..., 0]


def collect(columns: Tensor) -> Rollout:
    """[5 or 4, T] of one response (token, log-probabilities, whether it was still going) -> its Rollout."""
    tokens, *logps = columns[:-1, columns[-1] > 0].tolist()
    return Rollout([int(token) for token in tokens], dict(zip(NAMES, logps, strict=False)))


def logps_of(rollouts: Sequence[Rollout], device: torch.device) -> dict[str, Tensor]:
    """Name to [N] float32, all tokens of all rollouts in order."""
    names = rollouts[0].logps if rollouts else NAMES
    values = {name: [logp for rollout in rollouts for logp in rollout.logps[name]] for name in names}
    return {name: torch.tensor(logps, dtype=torch.float32, device=device) for name, logps in values.items()}
