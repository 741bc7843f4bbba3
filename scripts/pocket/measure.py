"""Measures the pocket checkpoints against the world's own scorer: what goes into ``measured.json``.

Everything is measured on prompts of the dev split, which no training prompt can share.
"""

import hashlib
import itertools
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from harness.multiple_choice import LETTERS, mcq_messages
from harness.pocket.scorer import score
from harness.pocket.tasks import recognise
from harness.pocket.world import iter_prompts
from harness.types import Prompt

Talk = Sequence[dict[str, str]]
PROMPTS: Final = 330  # for the scores: 30 rounds of the eleven kinds in turn
GROUPS: Final = 220  # for the teachers' judging
GROUP_SIZE: Final = 4
_BATCH: Final = 110


def load(folder: Path) -> tuple[Any, Any]:
    """A checkpoint and its tokenizer, for inference in float32."""
    from transformers import AutoTokenizer, LlamaForCausalLM

    model: Any = LlamaForCausalLM.from_pretrained(folder)
    return model.eval(), AutoTokenizer.from_pretrained(folder)


def generate(model: Any, tokenizer: Any, talks: Sequence[Talk], temperature: float, seed: int) -> list[str]:
    """One answer to each conversation (greedy at temperature 0), at most 96 tokens (240 for a finer vocabulary)."""
    import torch

    torch.manual_seed(seed)
    limit = 96 if len(tokenizer.encode("reverse these words")) == 3 else 240
    sampling = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}
    order = sorted(range(len(talks)), key=lambda number: len(str(talks[number])))
    answers = [""] * len(talks)
    for start in range(0, len(order), _BATCH):
        batch = order[start : start + _BATCH]
        inputs = tokenizer.apply_chat_template(
            [list(talks[number]) for number in batch], add_generation_prompt=True, padding=True, return_tensors="pt",
            return_dict=True,
        )  # fmt: skip
        with torch.inference_mode():
            ids = model.generate(**inputs, max_new_tokens=limit, **sampling)
        texts = tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        for number, text in zip(batch, texts, strict=True):
            answers[number] = text
    return answers


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean."""
    return sum(values) / len(values)


def ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 0, ties sharing their mean rank."""
    return [sum(x < value for x in values) + (sum(x == value for x in values) - 1) / 2 for value in values]


def correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Pearson's correlation; None if either side is constant."""
    a, b = mean(first), mean(second)
    products = sum((x - a) * (y - b) for x, y in zip(first, second, strict=True))
    spread = sum((x - a) ** 2 for x in first) * sum((y - b) ** 2 for y in second)
    return float(products / spread**0.5) if spread > 1e-18 else None


def selection(model: Any, tokenizer: Any, messages: Talk, responses: Sequence[str]) -> tuple[list[float], float]:
    """Mean log-probability of each response's letter over the cyclic shifts, and the mean mass on the letters."""
    import torch

    n = len(responses)
    orders = [[(place + shift) % n for place in range(n)] for shift in range(n)]
    talks = [mcq_messages(messages, [responses[number] for number in order]) for order in orders]
    inputs = tokenizer.apply_chat_template(
        talks, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
    )
    letters = tokenizer.convert_tokens_to_ids(list(LETTERS[:n]))
    with torch.inference_mode():
        logs = model(**inputs, logits_to_keep=1).logits[:, -1].log_softmax(-1)[:, letters]
    total = logs.exp().sum(-1).mean().item()
    means = [0.0] * n
    for order, row in zip(orders, logs.log_softmax(-1).tolist(), strict=True):
        for number, value in zip(order, row, strict=True):
            means[number] += value / n
    return means, total


def likelihoods(model: Any, tokenizer: Any, messages: Talk, responses: Sequence[str]) -> list[float]:
    """Mean log-probability per token of each response with its end mark."""
    import torch

    prompt = tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, return_dict=True)["input_ids"]
    means = []
    for response in responses:
        tail = [*tokenizer(response, split_special_tokens=True)["input_ids"], tokenizer.eos_token_id]
        with torch.inference_mode():
            logs = model(input_ids=torch.tensor([prompt + tail])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        means.append(logs[range(len(tail)), tail].mean().item())
    return means


def measure_scores(folder: Path, prompts: Sequence[Prompt], seed: int) -> dict[str, Any]:
    """Mean scores of one model's answers: sampled at temperatures 1 and 0.8, and greedy (also by kind)."""
    model, tokenizer = load(folder)
    talks = [prompt.messages for prompt in prompts]
    row: dict[str, Any] = {"n": len(prompts)}
    for name, temperature in (("t1.0", 1.0), ("t0.8", 0.8), ("greedy", 0.0)):
        answers = generate(model, tokenizer, talks, temperature, seed)
        values = [score(talk, answer) for talk, answer in zip(talks, answers, strict=True)]
        row[name] = round(mean(values), 4)
        kinds = [recognise(talk).kind for talk in talks]
        row[f"{name} by kind"] = {
            kind: round(mean([value for label, value in zip(kinds, values, strict=True) if label == kind]), 3)
            for kind in sorted(set(kinds))
        }
    return row


def measure_judging(folder: Path, prompts: Sequence[Prompt], groups: Sequence[Sequence[str]]) -> dict[str, Any]:
    """How a teacher's choice and its likelihood agree with the scorer on groups of answers.

    ``regret`` is the best score of the group less the chosen one's; ``spearman``: mean over groups of unequal scores.
    """
    model, tokenizer = load(folder)
    series: dict[str, list[float]] = {
        name: [] for name in ("top", "regret", "chance_regret", "mass", "mcq", "likelihood")
    }
    pairs: list[tuple[float, float]] = []
    for prompt, responses in zip(prompts, groups, strict=True):
        values = [score(prompt.messages, response) for response in responses]
        logs, mass = selection(model, tokenizer, prompt.messages, responses)
        likely = likelihoods(model, tokenizer, prompt.messages, responses)
        pairs += zip(likely, values, strict=True)
        series["mass"].append(mass)
        for name, signal in (("mcq", logs), ("likelihood", likely)):
            if (value := correlation(ranks(signal), ranks(values))) is not None:
                series[name].append(value)
        if max(values) - min(values) > 1e-9:
            chosen = values[max(range(len(values)), key=logs.__getitem__)]
            series["top"].append(float(chosen >= max(values) - 1e-9))
            series["regret"].append(max(values) - chosen)
            series["chance_regret"].append(max(values) - mean(values))
    pearson = correlation([a for a, _ in pairs], [b for _, b in pairs])
    return {
        "groups": len(groups), "groups with different scores": len(series["top"]), "group size": len(groups[0]),
        "mcq spearman within group": round(mean(series["mcq"]), 4),
        "mcq picks a best one": round(mean(series["top"]), 4),
        "mcq regret": round(mean(series["regret"]), 4),
        "regret of a random pick": round(mean(series["chance_regret"]), 4),
        "letter mass": round(mean(series["mass"]), 4),
        "likelihood spearman within group": round(mean(series["likelihood"]), 4),
        "likelihood pearson pooled": None if pearson is None else round(pearson, 4),
    }  # fmt: skip


def sha256_of(file: Path) -> str:
    """Hex digest of a file: which weights the numbers are of."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def measure_all(out: Path, seconds: dict[str, int], seed: int) -> dict[str, Any]:
    """Everything about the four checkpoints under ``out``, with versions, sizes and the training times given."""
    import tokenizers
    import torch
    import transformers

    torch.set_num_threads(1)
    start = time.monotonic()
    prompts = list(itertools.islice(iter_prompts(seed, split="dev"), PROMPTS))
    folders = [path.parent for path in sorted(out.glob("*/model.safetensors"))]
    model, tokenizer = load(out / "student")
    judged_prompts = prompts[:GROUPS]
    rounds = [
        generate(model, tokenizer, [prompt.messages for prompt in judged_prompts], 1.0, seed + 100 + number)
        for number in range(GROUP_SIZE)
    ]
    groups = list(zip(*rounds, strict=True))
    return {
        "scores": {folder.name: measure_scores(folder, prompts, seed) for folder in folders},
        "judging": {
            folder.name: measure_judging(folder, judged_prompts, groups)
            for folder in folders
            if folder.name.startswith("teacher")
        },
        "sha256": {folder.name: sha256_of(folder / "model.safetensors") for folder in folders},
        "bytes": {folder.name: sum(file.stat().st_size for file in folder.iterdir()) for folder in folders},
        "seconds": {**seconds, "measuring": round(time.monotonic() - start)},
        "seed": seed,
        "versions": {"python": platform.python_version(), "torch": torch.__version__,
                     "transformers": transformers.__version__, "tokenizers": tokenizers.__version__},
    }  # fmt: skip
