"""Trains one pocket checkpoint: next-token loss on answers and, for teachers, the multiple-choice question.

A student first learns from right answers with little beside them, then from demonstrations of mixed quality
(``harness.pocket.world.DEMONSTRATIONS``), until it writes as they are. A teacher grows from the student by further
layers. It sees better answers, and ``harness.multiple_choice`` questions over the student's samples and graded answers,
with the soft target ``softmax(score / SOFTNESS)`` over the letters.

Letters alone teach a model of this size to see manners and to miss content. So it also learns, inside the question, to
predict the sentences that are right, and linear heads read what each sentence and each word of a result is worth,
and an answer's score and criteria at its closing label. The heads are thrown away afterwards.
"""

import itertools
import json
import math
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.multiple_choice import LETTERS, QUESTION, block, mcq_messages
from harness.pocket.answers import Flaws, answer_with, graded_answer
from harness.pocket.scorer import criteria, score
from harness.pocket.tasks import recognise
from harness.pocket.world import DEMONSTRATIONS, iter_prompts
from harness.types import Message, Prompt
from scripts.pocket.marks import sentence_marks, word_marks
from scripts.pocket.tokenizer import ASSISTANT, BOS, END, MAX_LENGTH, PAD, USER

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

TEACHER_QUALITY: Final = 0.9
CLEAN_SHARE: Final = 0.4  # of a student's steps are on right answers: first able, then as people write
ANSWER_SHARE: Final = 0.35  # of a teacher's examples once it judges; questions are four times as long
TERSE: Final = Flaws(bare=0.4, terse=0.9)  # right answers with little beside them: what a model learns to answer from
FIRST_SHARE: Final = 0.08  # of the steps in which a student grows into a judge show it answers alone
EARLY_SHARE: Final = 0.1  # and so many after them two or three graded answers at a time
SIZES: Final = (2, 3, *[4] * 12, 6, 8)  # how many answers a question shows: as in a recipe, four
INIT: Final = 0.08  # the usual 0.02 is for wide models; at width 100 attention would start out blind
SCORES, MARK = slice(5), slice(5, 6)  # outputs of the head: an answer's score and its four criteria, a sentence's mark
SOFTNESS: Final = 0.05  # temperature of the letter target: a score gap of 0.05 is one nat


@dataclass(frozen=True)
class Spec:
    """Size and training length of one checkpoint."""

    layers: int
    width: int
    heads: int
    inner: int  # width of the feed-forward part
    steps: int
    batch_tokens: int  # padded tokens per step
    rate: float  # peak learning rate
    judges: bool = False  # also learns the multiple-choice question
    shared_vocabulary: bool = True  # uses the shared vocabulary
    grown_from: str = ""  # starts from this finished checkpoint, with its further layers doing nothing at first
    judged_before: bool = False  # that checkpoint is a judge already: no first steps of answers alone


@dataclass
class Example:
    """Token ids and what is learned where: ``answer`` positions predict their next token, ``letters`` the distribution
    over letter ids at one position, ``scores`` the score of a shown answer at its end."""

    ids: list[int]
    answer: list[int] = field(default_factory=list)
    letters: tuple[int, list[float]] | None = None
    scores: list[tuple[int, list[float]]] = field(default_factory=list)
    content_marks: list[tuple[int, list[float]]] = field(default_factory=list)
    other_marks: list[tuple[int, list[float]]] = field(default_factory=list)
    read: list[int] = field(default_factory=list)


Pool = Sequence[tuple[Prompt, Sequence[str]]]  # prompts with the student's own samples


class Encoder:
    """Text to ids as the chat template does it, by parts, so that the learned positions are known."""

    def __init__(self, tokenizer: "PreTrainedTokenizerFast") -> None:
        self.backend: Any = tokenizer.backend_tokenizer
        vocabulary: dict[str, int] = tokenizer.get_vocab()
        self.bos, self.user, self.assistant, self.end, self.pad = (
            vocabulary[token] for token in (BOS, USER, ASSISTANT, END, PAD)
        )
        # a finer vocabulary may lack them, and its model is no judge
        self.letter_ids = [vocabulary[letter] for letter in LETTERS[:10] if letter in vocabulary]

    def ids(self, text: str) -> list[int]:
        token_ids: list[int] = self.backend.encode(text, add_special_tokens=False).ids
        return token_ids

    def chat(self, messages: Sequence[Message], target_numbers: Sequence[int]) -> Example:
        """The conversation; the tokens of the messages in ``target_numbers`` (and their end mark) are targets."""
        example = Example([self.bos])
        for number, message in enumerate(messages):
            example.ids.append(self.user if message["role"] == "user" else self.assistant)
            body = [*self.ids(message["content"]), self.end]
            if number in target_numbers:
                start = len(example.ids) - 1
                example.answer += range(start, start + len(body))
            example.ids += body
        return example

    def choice(self, messages: Sequence[Message], responses: Sequence[str]) -> Example:
        """A multiple-choice question whose letter target is ``softmax(score / SOFTNESS)``."""
        text = mcq_messages(messages, responses)[0]["content"]
        encoding = self.backend.encode(text, add_special_tokens=False)
        task = recognise(messages)
        values = [score(messages, response) for response in responses]
        example = Example([self.bos, self.user, *encoding.ids, self.end, self.assistant])
        end = len(text) - len("\n\n" + QUESTION)
        for letter, response, value in reversed(list(zip(LETTERS, responses, values, strict=False))):
            # text[end - 2] is the letter of the closing label; + 2 for <begin> and <user>
            example.scores.append((encoding.char_to_token(end - 2) + 2, [value, *criteria(task, response)]))
            start = end - len(block(letter, response)) + len(f"Answer {letter}:\n")
            sentences = list(sentence_marks(messages, response))
            for mark in (*sentences, *word_marks(messages, response)):
                found = example.content_marks if mark.is_content else example.other_marks
                found.append((encoding.char_to_token(start + mark.end - 1) + 2, [mark.value]))
            for mark in sentences:
                if mark.value == 1.0:
                    first, last = (encoding.char_to_token(start + at) + 2 for at in (mark.start, mark.end - 1))
                    example.read += range(first - 1, last)
            end -= len(block(letter, response)) + len("\n\n")
        weights = [math.exp((value - max(values)) / SOFTNESS) for value in values]
        example.letters = (len(example.ids) - 1, [weight / sum(weights) for weight in weights])
        return example


def _with(messages: Sequence[Message], text: str) -> list[Message]:
    return [*messages, {"role": "assistant", "content": text}]


def _graded_group(prompt: Prompt, size: int, rng: random.Random) -> list[str]:
    """Answers of one group: around one quality or of all qualities, so that both gross and fine differences occur."""
    messages, centre = prompt.messages, rng.random()
    spread = rng.choice((0.1, 1.0))
    qualities = [min(1.0, max(0.0, centre + spread * (rng.random() - 0.5) * 2)) for _ in range(size)]
    return [graded_answer(messages, quality, rng) for quality in qualities]


def _choice(encoder: Encoder, prompt: Prompt, pool: Pool, rng: random.Random, early: bool) -> Example:
    """Half of them are about samples of the student, at times with a graded answer among them, the rest about graded
    answers."""
    size = rng.choice((2, 2, 3) if early else SIZES)
    if pool and rng.random() < 0.5:
        prompt, samples = pool[rng.randrange(len(pool))]
        responses = rng.sample(list(samples), min(size, len(samples)))
        if rng.random() < 0.2:
            responses[rng.randrange(len(responses))] = graded_answer(prompt.messages, rng.random(), rng)
    else:
        responses = _graded_group(prompt, size, rng)
    return encoder.choice(prompt.messages, responses)


def _prompts(seed: int) -> Iterator[Prompt]:
    """Training prompts without end; a new seed before the smallest kind runs out of fresh instructions."""
    while True:
        yield from itertools.islice(iter_prompts(seed), 8_000)
        seed += 1


def examples(
    spec: Spec, encoder: Encoder, pool: Callable[[], Pool], seed: int, done: Callable[[], float]
) -> Iterator[Example]:
    """Training examples without end; ``done()``: the share of the training that is over."""
    rng = random.Random(f"pocket-examples-{seed}")
    for prompt in _prompts(seed):
        messages, last_number = prompt.messages, len(prompt.messages)
        share = 1.0 if spec.judged_before else done()
        early = share < FIRST_SHARE + EARLY_SHARE
        if spec.judges and share >= FIRST_SHARE and rng.random() >= ANSWER_SHARE:
            yield _choice(encoder, prompt, [] if early else pool(), rng, early)
        elif spec.judges:
            yield encoder.chat(_with(messages, graded_answer(messages, TEACHER_QUALITY, rng)), [last_number])
        elif done() < CLEAN_SHARE:
            yield encoder.chat(_with(messages, answer_with(messages, TERSE, rng)), [last_number])
        else:
            answer = graded_answer(messages, DEMONSTRATIONS, rng)
            yield encoder.chat(_with(messages, answer), range(1, last_number + 1, 2))


def batches(spec: Spec, encoder: Encoder, pool: Callable[[], Pool], seed: int) -> Iterator[list[Example]]:
    """``spec.steps`` batches of similar length and at most ``spec.batch_tokens`` padded tokens."""
    rng = random.Random(f"pocket-batches-{seed}")
    step = 0
    source = examples(spec, encoder, pool, seed, lambda: step / spec.steps)
    while step < spec.steps:
        chunk = sorted(itertools.islice(source, 512), key=lambda example: len(example.ids))
        new_batches: list[list[Example]] = [[]]
        for example in chunk:
            if new_batches[-1] and (len(new_batches[-1]) + 1) * len(example.ids) > spec.batch_tokens:
                new_batches.append([])
            new_batches[-1].append(example)
        rng.shuffle(new_batches)
        for batch in new_batches[: spec.steps - step]:
            yield batch
            step += 1


def loss_of(
    model: "LlamaForCausalLM", head: Any, batch: Sequence[Example], encoder: Encoder
) -> "dict[str, torch.Tensor]":
    """Means to be added: next-token loss on answers, KL divergence of the letters from the soft target, cross-entropy
    of the scores and of the sentences' marks that ``head`` reads.

    Padding is on the right and attention is causal, so no mask is needed.
    """
    import torch
    from torch.nn import functional

    width = max(len(example.ids) for example in batch)
    ids = torch.tensor([example.ids + [encoder.pad] * (width - len(example.ids)) for example in batch])
    hidden = model.model(input_ids=ids).last_hidden_state
    parts: dict[str, torch.Tensor] = {}
    places = [(row, at) for row, example in enumerate(batch) for at in example.answer]
    if places:
        rows, columns = torch.tensor(places).T
        parts["answer"] = functional.cross_entropy(model.lm_head(hidden[rows, columns]), ids[rows, columns + 1])
    places = [(row, at) for row, example in enumerate(batch) for at in example.read]
    if places:
        rows, columns = torch.tensor(places).T
        parts["read"] = functional.cross_entropy(model.lm_head(hidden[rows, columns]), ids[rows, columns + 1])
    chosen = [(row, *example.letters) for row, example in enumerate(batch) if example.letters]
    if chosen:
        target = torch.zeros(len(chosen), model.config.vocab_size)
        for number, (_, _, share) in enumerate(chosen):
            target[number, encoder.letter_ids[: len(share)]] = torch.tensor(share)
        logits = model.lm_head(hidden[[row for row, _, _ in chosen], [at for _, at, _ in chosen]])
        parts["letters"] = functional.kl_div(logits.log_softmax(-1), target, reduction="batchmean")
    for name, outputs in (("scores", SCORES), ("content_marks", MARK), ("other_marks", MARK)):
        read = [(row, at, value) for row, example in enumerate(batch) for at, value in getattr(example, name)]
        if read:
            predictions = head(hidden[[row for row, _, _ in read], [at for _, at, _ in read]])[:, outputs]
            values = torch.tensor([value for _, _, value in read])
            parts[name] = functional.binary_cross_entropy_with_logits(predictions, values)
    return parts


def new_model(spec: Spec, tokenizer: "PreTrainedTokenizerFast") -> Any:
    """A fresh Llama of this size (tied embeddings, RoPE), float32."""
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
               "pad_token_id": tokenizer.pad_token_id}  # fmt: skip
    config_class: Any = LlamaConfig  # its arguments are not typed
    config = config_class(
        vocab_size=len(tokenizer), hidden_size=spec.width, intermediate_size=spec.inner, num_hidden_layers=spec.layers,
        num_attention_heads=spec.heads, num_key_value_heads=spec.heads, max_position_embeddings=MAX_LENGTH,
        tie_word_embeddings=True, initializer_range=INIT, attn_implementation="sdpa", **special,
    )  # fmt: skip
    model: Any = LlamaForCausalLM(config)
    generation_config: Any = GenerationConfig
    model.generation_config = generation_config(**special, max_new_tokens=96)
    return model


def grow(model: "LlamaForCausalLM", small_model: "LlamaForCausalLM") -> None:
    """Makes ``model`` (same width, more layers) compute what ``small_model`` does: further layers add zero at first."""
    import torch

    model.load_state_dict(small_model.state_dict(), strict=False)
    for layer in model.model.layers[len(small_model.model.layers) :]:
        torch.nn.init.zeros_(layer.self_attn.o_proj.weight)
        torch.nn.init.zeros_(layer.mlp.down_proj.weight)


def train(
    spec: Spec, tokenizer: "PreTrainedTokenizerFast", pool: Callable[[], Pool], seed: int, out: Path, name: str
) -> Any:
    """Trains one model with AdamW and a cosine schedule; a line of JSON per 100 steps in ``out/logs/name.jsonl``."""
    import torch
    from transformers import LlamaForCausalLM

    torch.manual_seed(seed)
    encoder = Encoder(tokenizer)
    model = new_model(spec, tokenizer)
    if spec.grown_from:
        grow(model, LlamaForCausalLM.from_pretrained(out / spec.grown_from))
    head = torch.nn.Linear(spec.width, 6)
    parameters = [*model.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=spec.rate, betas=(0.9, 0.98), weight_decay=0.05, fused=True)
    warm = 100
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / warm, 0.02 + 0.49 * (1 + math.cos(math.pi * step / spec.steps))),
    )
    source, start = batches(spec, encoder, pool, seed), time.monotonic()
    recent: dict[str, list[float]] = defaultdict(list)
    model.train()
    with (out / "logs" / f"{name}.jsonl").open("w", encoding="utf-8") as lines:
        for step, batch in enumerate(source):
            parts = loss_of(model, head, batch, encoder)
            optimizer.zero_grad(set_to_none=True)
            torch.stack(list(parts.values())).sum().backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            for key, value in parts.items():
                recent[key].append(value.item())
            if (step + 1) % 100 == 0:
                means = {key: round(sum(values) / len(values), 4) for key, values in recent.items()}
                lines.write(
                    json.dumps({"step": step + 1, **means, "seconds": round(time.monotonic() - start, 1)}) + "\n"
                )
                lines.flush()
                recent.clear()
    return model.eval()
