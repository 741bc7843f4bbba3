"""Stage ``prompts``: the training prompts, from a source that the recipe names.

Sources: ``pocket`` (generated), ``ultrafeedback`` (argilla/ultrafeedback-binarized-preferences-cleaned, PAD section
5.1), ``gsm8k-train`` (grade-school-math's training questions), ``jsonl`` (your own file). Benchmark test questions are
never a source.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Mapping
from typing import Any

from harness.contracts.stage import Stage
from harness.errors import UserError
from harness.prompts.jsonl import parse, read_content
from harness.prompts.source import ULTRAFEEDBACK
from harness.records import write_records
from harness.stages.context import Work
from harness.types import Prompt


def run(stage: Stage, work: Work) -> Mapping[str, Any]:
    """Write ``prompts.jsonl``."""
    params = stage.params
    trust = stage.local["trust_remote_code"]
    keep = short_enough(work.checkpoint(stage, "student").location, params["max_prompt_tokens"], trust)
    source = params["source"], params["n"], params["seed"], stage.local["path"], params["revision"]
    prompts = load_prompts(*source, keep=keep)
    count = write_records(work.folder / "prompts.jsonl", prompts)
    return {"prompts": count, "with_golden": sum(prompt.golden is not None for prompt in prompts)}


def short_enough(tokenizer_folder: str, limit: int, trust: bool = False) -> Callable[[Prompt], bool]:
    """Whether a prompt fits into ``limit`` of the student's tokens (PAD section 5.1 drops longer ones)."""
    from transformers import AutoTokenizer

    from harness.models.chat import encode_prompt

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder, trust_remote_code=trust)
    return lambda prompt: len(encode_prompt(tokenizer, prompt.messages)) <= limit


def load_prompts(
    source: str, n: int, seed: int, path: str | None, revision: str | None, keep: Callable[[Prompt], bool]
) -> list[Prompt]:
    """n training prompts that pass ``keep``, in an order drawn with ``seed``.

    Raises UserError when the source cannot be read or holds too few.
    """
    if source == "pocket":
        from harness.pocket.world import train_prompts

        return [Prompt(p.id, p.messages, p.golden, p.rejected, "pocket") for p in train_prompts(n, seed)]
    readers = {"ultrafeedback": _ultrafeedback, "gsm8k-train": _gsm8k_train, "jsonl": _jsonl}
    candidates = readers[source](path, revision)
    random.Random(seed).shuffle(candidates)
    prompts = list(itertools.islice(filter(keep, candidates), n))
    if len(prompts) < n:
        raise UserError(
            f"prompts.n = {n}, but source {source!r} has only {len(prompts)} prompts of at most "
            f"prompts.max_prompt_tokens ({len(candidates)} in all). Set prompts.n to at most that."
        )
    return prompts


def _gsm8k_train(path: str | None, revision: str | None) -> list[Prompt]:
    """Training questions of GSM8K with their worked solutions as golden answers."""
    from harness.assets import locate

    rows = [json.loads(line) for line in locate("gsm8k/train.jsonl").read_text(encoding="utf-8").splitlines()]
    return [
        Prompt(f"gsm8k-train/{i}", ({"role": "user", "content": row["question"]},), row["answer"], None, "gsm8k-train")
        for i, row in enumerate(rows)
    ]


def _ultrafeedback(path: str | None, revision: str | None) -> list[Prompt]:
    """UltraFeedback: the prompt with its chosen (golden) and rejected answers; multi-turn rows keep their history."""
    from datasets import load_dataset

    try:
        rows = load_dataset(ULTRAFEEDBACK, split="train", revision=revision)
    except Exception as error:  # datasets raises many kinds for "no network", "no such revision", "cache broken"
        raise UserError(
            f"the training prompts {ULTRAFEEDBACK!r} (revision {revision}) could not be loaded: {error}. Set "
            "prompts.source=gsm8k-train, or give your own file with prompts.source=jsonl and prompts.path."
        ) from error
    prompts = []
    for i, row in enumerate(rows):
        history = tuple({"role": m["role"], "content": m["content"]} for m in row["chosen"][:-1])
        golden, rejected = row["chosen"][-1]["content"], row["rejected"][-1]["content"]
        if history and golden.strip():
            prompts.append(Prompt(f"ultrafeedback/{i}", history, golden, rejected or None, "ultrafeedback"))
    return prompts


def _jsonl(path: str | None, revision: str | None) -> list[Prompt]:
    """The user's own file (``harness/prompts/jsonl.py``)."""
    return parse(str(path), read_content(str(path)))
