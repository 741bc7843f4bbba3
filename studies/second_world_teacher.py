"""Makes the second world's teacher from its student, and measures how well a model judges there.

SmolLM2-135M cannot judge. So it is trained further, on instructions of the split ``teacher`` alone: on the best of its
own samples by the rules, and on ``harness.multiple_choice`` questions about its samples, with the soft target
``softmax(score / SOFTNESS)`` over the letters. A sample can be judged under other wishes than those that it was written
for, so half of the questions ask for another form. Letters alone teach little: at the closing label of each answer a
linear head, thrown away afterwards, predicts the score and which kinds of rules hold. It reads the model at two thirds
of its depth, so that the layers above can compare what those below have found.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import random
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch.nn import functional

from distilbench.premises import Premise, judging, room
from harness.contracts.model import Sampling
from harness.models.backends import LoadOptions, load_model
from harness.models.chat import encode, pad_id, prompt_text
from harness.models.checkpoint import resolve
from harness.models.load import load_tokenizer, load_weights
from harness.multiple_choice import LETTERS, QUESTION, block, mcq_messages
from harness.records import read_records, write_records
from harness.stages.kinds import reward
from harness.stats import seed_of
from harness.training.student import save
from harness.types import Group, Prompt
from studies.second_world_rules import KINDS, VERSION, Task, fresh_form, tasks

SOFTNESS: Final = 0.1
"""Temperature of the letters' target: a score gap of 0.1 is one nat."""
SIZES: Final = (2, 3, 4, 4)
"""Answers that a question shows: four, as in the recipe, and fewer, which are easier."""
ANSWER_SHARE: Final = 0.25
"""Of the examples: the best of the samples, so that the teacher writes better than the student."""
NAMES: Final = ("score", *KINDS)
"""Outputs of the head."""
CHUNK: Final = 64
"""Instructions whose samples are stored together."""
SAVED: Final = 100
"""Steps after which a training that is stopped goes on."""


@dataclass(frozen=True)
class TeacherOptions:
    """What makes a teacher; another value makes another one."""

    prompts: int
    """Instructions."""
    samples: int
    """Of the student, to each."""
    questions: int
    """Multiple-choice questions in training."""
    sampling: Sampling
    batch_tokens: int = 2048
    learning_rate: float = 2e-4
    head_rate: float = 1e-3
    seed: int = 0


@dataclass
class Example:
    """Token ids. ``answer``: positions that predict their next token; ``letters``: one position and its distribution
    over letters; ``marks``: positions and what the head is to say there, NaN for nothing."""

    ids: list[int]
    answer: list[int] = field(default_factory=list)
    letters: tuple[int, list[float]] | None = None
    marks: list[tuple[int, list[float]]] = field(default_factory=list)


@dataclass(frozen=True)
class Answered:
    """An instruction with the student's samples."""

    task: Task
    group: Group


def answered(
    student: str, found: Sequence[Task], n: int, sampling: Sampling, seed: int, folder: Path
) -> list[Answered]:
    """Sample, in chunks that are stored: what is there is not drawn again."""
    folder.mkdir(parents=True, exist_ok=True)
    model: Any = None
    pool: list[Answered] = []
    for start in range(0, len(found), CHUNK):
        chunk = found[start : start + CHUNK]
        file = folder / f"{start:05d}-{len(chunk)}.jsonl"
        if not file.is_file():
            model = model or load_model(student, LoadOptions("bfloat16"))
            rows = model.generate([task.messages for task in chunk], sampling, seed_of(seed, start), n=n)
            prompts = [Prompt(str(start + place), task.messages, source="rules") for place, task in enumerate(chunk)]
            write_records(file, [Group(one, samples=tuple(row)) for one, row in zip(prompts, rows, strict=True)])
            print(f"samples: {start + len(chunk)} of {len(found)} instructions", flush=True)
        pool += map(Answered, chunk, read_records(file, Group))
    return pool


def choice_example(tokenizer: Any, task: Task, responses: Sequence[str]) -> Example:
    """A multiple-choice question, as the stage ``reward`` asks it, with its targets."""
    messages = mcq_messages(task.messages, responses)
    text, content = prompt_text(tokenizer, messages), messages[0]["content"]
    encoding = tokenizer(text, add_special_tokens=False)
    example = Example(list(encoding["input_ids"]))
    values = [task.score(response) for response in responses]
    end = text.rindex(content) + len(content) - len("\n\n" + QUESTION)
    for letter, response, value in reversed(list(zip(LETTERS, responses, values, strict=False))):
        marks = dict.fromkeys(NAMES, math.nan) | {rule.kind: float(rule.holds(response)) for rule in task.rules}
        # The letter of the closing label, "(Answer A)".
        example.marks.append((encoding.char_to_token(end - 2), list((marks | {"score": value}).values())))
        end -= len(block(letter, response)) + len("\n\n")
    weights = [math.exp((value - max(values)) / SOFTNESS) for value in values]
    example.letters = (len(example.ids) - 1, [weight / sum(weights) for weight in weights])
    return example


def answer_example(tokenizer: Any, one: Answered) -> Example | None:
    """The best of the samples; ``None`` where it was cut."""
    best = max(one.group.samples, key=lambda response: one.task.score(response.text))
    if not best.finished or not best.text.strip():
        return None
    turn = encode(tokenizer, one.task.messages, best.text, ids=best.ids)
    first = len(turn.prompt) - 1
    return Example(turn.prompt + turn.response, answer=list(range(first, first + len(turn.response))))


def examples(tokenizer: Any, pool: Sequence[Answered], options: TeacherOptions) -> Iterator[Example]:
    """As many multiple-choice questions as the options say, with answers among them."""
    rng, asked = random.Random(f"second-world-teacher-{options.seed}"), 0
    while asked < options.questions:
        one = rng.choice(pool)
        if rng.random() < ANSWER_SHARE:
            if example := answer_example(tokenizer, one):
                yield example
            continue
        task = one.task if rng.random() < 0.5 else fresh_form(one.task, "teacher", rng)
        yield choice_example(tokenizer, task, shown(task, [response.text for response in one.group.samples], rng))
        asked += 1


def shown(task: Task, texts: Sequence[str], rng: random.Random) -> list[str]:
    """Some of the answers, of different scores if a few draws find such ones: equal ones teach no order."""
    size = min(rng.choice(SIZES), len(texts))
    for _ in range(4):
        chosen = rng.sample(texts, size)
        if len({task.score(text) for text in chosen}) > 1:
            break
    return chosen


def batches(source: Iterator[Example], options: TeacherOptions) -> list[list[Example]]:
    """Of similar length and at most ``batch_tokens`` padded tokens, in a random order within each chunk."""
    rng, found = random.Random(f"second-world-batches-{options.seed}"), []
    while chunk := sorted(itertools.islice(source, 256), key=lambda example: len(example.ids)):
        new: list[list[Example]] = [[]]
        for example in chunk:
            if new[-1] and (len(new[-1]) + 1) * len(example.ids) > options.batch_tokens:
                new.append([])
            new[-1].append(example)
        rng.shuffle(new)
        found += new
    return found


def losses(model: Any, head: Any, batch: Sequence[Example], letters: Sequence[int], pad: int) -> dict[str, Any]:
    """Means to be added: next-token loss on answers, KL divergence of the letters from their target, cross-entropy of
    the head's marks. Padding is on the right and attention is causal, so no mask is needed."""
    width = max(len(example.ids) for example in batch)
    ids = torch.tensor([example.ids + [pad] * (width - len(example.ids)) for example in batch])
    with torch.autocast("cpu", torch.bfloat16):
        states = model.model(input_ids=ids, output_hidden_states=True)
        middle = model.model.norm(states.hidden_states[2 * model.config.num_hidden_layers // 3])
    hidden = states.last_hidden_state
    parts: dict[str, Any] = {}
    if places := [(row, at) for row, example in enumerate(batch) for at in example.answer]:
        rows, columns = torch.tensor(places).T
        with torch.autocast("cpu", torch.bfloat16):
            logits = model.lm_head(hidden[rows, columns])
        parts["answer"] = functional.cross_entropy(logits.float(), ids[rows, columns + 1])
    if chosen := [(row, *example.letters) for row, example in enumerate(batch) if example.letters]:
        logits = model.lm_head(hidden[[row for row, _, _ in chosen], [at for _, at, _ in chosen]].float())
        target = torch.zeros_like(logits)
        for number, (_, _, share) in enumerate(chosen):
            target[number, letters[: len(share)]] = torch.tensor(share)
        parts["letters"] = functional.kl_div(logits.log_softmax(-1), target, reduction="batchmean")
    if marks := [(row, at, values) for row, example in enumerate(batch) for at, values in example.marks]:
        predictions = head(middle[[row for row, _, _ in marks], [at for _, at, _ in marks]].float())
        target = torch.tensor([values for _, _, values in marks])
        known = ~target.isnan()
        parts["marks"] = functional.binary_cross_entropy_with_logits(predictions[known], target[known])
    return parts


def train(student: str, pool: Sequence[Answered], options: TeacherOptions, out: Path) -> None:
    """AdamW with warm-up and cosine; the checkpoint is in ``out`` when all is done, and not before."""
    torch.manual_seed(options.seed)
    location = resolve(student).location
    tokenizer: Any = load_tokenizer(location)
    model: Any = load_weights(location, tokenizer, torch.float32)
    head = torch.nn.Linear(model.config.hidden_size, len(NAMES))
    letters = [tokenizer.convert_tokens_to_ids(letter) for letter in LETTERS[: max(SIZES)]]
    groups = [
        {"params": list(model.parameters()), "lr": options.learning_rate},
        {"params": list(head.parameters()), "lr": options.head_rate},
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    steps = batches(examples(tokenizer, pool, options), options)
    warm = max(1, len(steps) // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, 0.02 + 0.49 * (1 + math.cos(math.pi * step / len(steps))))
    )
    model.train()
    state, done = out.with_name("training.pt"), 0
    parts_of_state = {"model": model, "head": head, "optimizer": optimizer, "schedule": schedule}
    if state.is_file():
        stored = torch.load(state)
        done = stored.pop("done")
        for name, part in parts_of_state.items():
            part.load_state_dict(stored[name])
    begin, recent = time.monotonic(), dict[str, list[float]]()
    for step, batch in enumerate(steps[done:], done + 1):
        parts = losses(model, head, batch, letters, pad_id(tokenizer))
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(parts.values())).sum().backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_([*model.parameters(), *head.parameters()], 1.0)
        optimizer.step()
        schedule.step()
        for name, value in parts.items():
            recent.setdefault(name, []).append(value.item())
        if step % 20 == 0 or step == len(steps):
            means = ", ".join(f"{name} {np.mean(values):.3f}" for name, values in recent.items())
            print(f"teacher: step {step} of {len(steps)}, {means}, {time.monotonic() - begin:.0f} s", flush=True)
            recent.clear()
        if step % SAVED == 0:
            whole = {name: part.state_dict() for name, part in parts_of_state.items()} | {"done": step}
            torch.save(whole, state.with_suffix(".new"))
            state.with_suffix(".new").replace(state)
    beside = out.with_name(f"{out.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    save(model, tokenizer, beside, model.to(torch.bfloat16).state_dict())
    beside.rename(out)
    state.unlink(missing_ok=True)


def folder_of(runs: Path, kind: str, student: str, **options: Any) -> Path:
    """Another student, other options or other rules: another folder."""
    content = json.dumps([resolve(student).fingerprint, options, VERSION], sort_keys=True)
    return runs / "second-world" / kind / hashlib.sha256(content.encode()).hexdigest()[:12]


def make_teacher(student: str, options: TeacherOptions, runs: Path) -> Path:
    """The teacher's checkpoint; made if it is not there."""
    folder = folder_of(runs, "teachers", student, **asdict(options))
    if not (folder / "model").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        found = list(itertools.islice(tasks("teacher", options.seed), options.prompts))
        train(
            student,
            answered(student, found, options.samples, options.sampling, options.seed, runs),
            options,
            folder / "model",
        )
    return folder / "model"


def measure_judging(model: str, pool: Sequence[Answered], max_tokens: int) -> Premise:
    """How the model's question and its log-likelihood agree with the rules (``distilbench.premises``)."""
    judge = load_model(model, LoadOptions("bfloat16"))
    kept = [one for one in pool if all(response.text.strip() for response in one.group.samples)]
    groups = [one.group for one in kept]
    means = reward.mean_logps(judge, groups)
    selections, _ = reward.select(judge, groups, "cyclic", max_tokens, 0)
    truth = np.array([[one.task.score(response.text) for response in one.group.samples] for one in kept])
    question = np.array([selection.log_psel for selection in selections])
    likelihood = np.array([means[group.prompt.id] for group in groups], dtype=float)
    return judging(truth, question, likelihood, left_out=len(pool) - len(kept))


def measure_room(pool: Sequence[Answered]) -> Premise:
    """How much better the best of a group is than any."""
    return room(np.array([[one.task.score(response.text) for response in one.group.samples] for one in pool]))
