"""Stage ``prompts``: the training prompts, from the source that the recipe names. One set for all rows and seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from harness.contracts.options import options_from, plain
from harness.contracts.stage import Stage
from harness.models.chat import encode_prompt
from harness.prompts import load_prompts
from harness.stages.graph import StageGraph
from harness.stages.kind import PlanIssue, StageContext, StageKind
from harness.types import Prompt


def prompts_stage(graph: StageGraph) -> Stage:
    spec, source, student = graph.recipe.prompts, graph.source, graph.models["student"]
    params = {"source": source.name, "n": spec.n, "seed": spec.seed, "identity": dict(source.pin.identity)}
    params |= {"max_prompt_tokens": spec.max_prompt_tokens, "tokenizer": student.tokenizer}
    local = {"source": plain(source.config), "tokenizers": {"student": student}}
    return graph.add_with_models("prompts", params, {}, {}, local)


def check(stages: Sequence[Stage], graph: StageGraph) -> Iterable[PlanIssue]:
    """A source that cannot be reached."""
    if graph.source.absent:
        yield PlanIssue(True, f"training prompts: {graph.source.absent}", forceable=False)


def run(stage: Stage, context: StageContext) -> Mapping[str, object]:
    params = stage.params
    trust = stage.local["trust_remote_code"]
    keep = short_enough(context.checkpoint(stage, "student").location, params["max_prompt_tokens"], trust)
    source = context.registry.sources[params["source"]]
    config = options_from(source.config, stage.local["source"])
    prompts = load_prompts(source, config, params["identity"], params["seed"], params["n"], keep)
    context.write(Prompt, prompts)
    return {"prompts": len(prompts), "with_golden": sum(prompt.golden is not None for prompt in prompts)}


def short_enough(tokenizer_folder: str, limit: int, trust: bool = False) -> Callable[[Prompt], bool]:
    """Whether a prompt fits into ``limit`` of the student's tokens (PAD section 5.1 drops longer ones)."""
    from harness.models.load import load_tokenizer  # imports torch

    tokenizer = load_tokenizer(tokenizer_folder, trust)
    return lambda prompt: len(encode_prompt(tokenizer, prompt.messages)) <= limit


KIND = StageKind("prompts", run, check=check)
