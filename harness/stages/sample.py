"""Stage ``sample``: n responses of a model to each training prompt (PAD section 4.1; SeqKD's teacher answers)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.contracts.model import Sampling
from harness.contracts.stage import Stage
from harness.records import write_records
from harness.stages.context import Work
from harness.types import Group, Prompt


def run(stage: Stage, work: Work) -> Mapping[str, Any]:
    """Write ``groups.jsonl``: each prompt with the responses under ``params["field"]`` (``samples`` or ``teacher``)."""
    params = stage.params
    prompts = work.records(stage, "prompts", "prompts.jsonl", Prompt)
    sampling = Sampling(params["max_new_tokens"], params["temperature"], params["top_p"])
    conversations = [prompt.messages for prompt in prompts]
    model = work.model(stage, "model")
    responses = model.generate(conversations, sampling, seed=params["seed"], n=params["n"])
    own = params["field"] == "samples"
    groups = [
        Group(prompt, samples=tuple(drawn)) if own else Group(prompt, teacher=tuple(drawn))
        for prompt, drawn in zip(prompts, responses, strict=True)
    ]
    write_records(work.folder / "groups.jsonl", groups)
    flat = [response for drawn in responses for response in drawn]
    return {
        "responses": len(flat),
        "tokens": sum(response.tokens for response in flat),
        "unfinished": sum(not response.finished for response in flat),
        "distinct_per_prompt": sum(len({r.text for r in drawn}) for drawn in responses) / max(1, len(responses)),
    }
