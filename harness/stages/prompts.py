"""Stage ``prompts``: the training prompts, from the source that the recipe names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from harness.contracts.options import options_from
from harness.contracts.stage import Stage
from harness.prompts.resolve import load_prompts
from harness.records import write_records
from harness.stages.context import Work
from harness.types import Prompt


def run(stage: Stage, work: Work) -> Mapping[str, Any]:
    """Write ``prompts.jsonl``."""
    params = stage.params
    trust = stage.local["trust_remote_code"]
    keep = short_enough(work.checkpoint(stage, "student").location, params["max_prompt_tokens"], trust)
    source = work.registry.sources[params["source"]]
    config = options_from(source.config, stage.local["source"])
    prompts = load_prompts(source, config, params["identity"], params["seed"], params["n"], keep)
    count = write_records(work.folder / "prompts.jsonl", prompts)
    return {"prompts": count, "with_golden": sum(prompt.golden is not None for prompt in prompts)}


def short_enough(tokenizer_folder: str, limit: int, trust: bool = False) -> Callable[[Prompt], bool]:
    """Whether a prompt fits into ``limit`` of the student's tokens (PAD section 5.1 drops longer ones)."""
    from harness.models.chat import encode_prompt
    from harness.models.load import load_tokenizer  # imports torch

    tokenizer = load_tokenizer(tokenizer_folder, trust)
    return lambda prompt: len(encode_prompt(tokenizer, prompt.messages)) <= limit
