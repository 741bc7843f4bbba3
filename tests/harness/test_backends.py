"""Backends say what their models can do, and the models can."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distilbench.plugins import load_registry
from harness.contracts.backend import Backend, Services
from harness.contracts.model import PROTOCOLS, Sampling
from harness.contracts.options import RecipeError
from harness.errors import UserError
from harness.models.backends import BACKENDS, LoadOptions
from harness.models.checkpoint import resolve
from harness.models.fake import FakeModel
from harness.models.server_model import ServerOptions
from harness.plan.plan import make_plan
from harness.plan.preflight import missing_capabilities
from harness.recipe.recipe import load_recipe
from tests.tiny import tiny_checkpoint


def offered(model: Any) -> set[str]:
    return {capability for capability, protocol in PROTOCOLS.items() if isinstance(model, protocol)}


def test_models_offer_exactly_the_capabilities_that_their_backend_declares(tmp_path: Path) -> None:
    def ask(*arguments: Any) -> list[Any]:
        return []

    made = {
        "transformers": (resolve(str(tiny_checkpoint(tmp_path))), LoadOptions(device="cpu"), Services()),
        "openai": (None, ServerOptions(config={"model": "m"}), Services(ask=ask)),
    }
    assert made.keys() == BACKENDS.keys()
    for name, arguments in made.items():
        assert offered(BACKENDS[name].load(*arguments)) == BACKENDS[name].capabilities
    assert BACKENDS["openai"].lacking_capabilities(["generate", "choices", "logps"]) == ["choices", "logps"]
    assert offered(FakeModel()) == set(PROTOCOLS)


def test_a_backend_says_what_it_lacks() -> None:
    with pytest.raises(UserError, match="name a folder or a hub id"):
        BACKENDS["transformers"].load(None, LoadOptions(), Services())
    with pytest.raises(UserError, match="through a run's ledger"):
        BACKENDS["openai"].load(None, ServerOptions(), Services())


def test_prompts_and_responses_can_be_token_ids(tmp_path: Path) -> None:
    """``generate`` is ``generate_tokens`` on encoded prompts, decoded."""
    model: Any = BACKENDS["transformers"].load(resolve(str(tiny_checkpoint(tmp_path))), LoadOptions(), Services())
    talks = [[{"role": "user", "content": "ba be"}], [{"role": "user", "content": "bi"}]]
    sampling = Sampling(6, 1.0)
    for subject in (model, FakeModel()):
        texts = subject.generate(talks, sampling, seed=3, n=2)
        tokens = subject.generate_tokens(subject.encode_prompts(talks), sampling, seed=3, n=2)
        finished = [[response.finish_reason == "stop" for response in row] for row in tokens]
        assert finished == [[response.finished for response in row] for row in texts]
    tokens = model.generate_tokens(model.encode_prompts(talks), sampling, seed=3, n=2)
    decoded = [[model.tokenizer.decode(response.ids, skip_special_tokens=True) for response in row] for row in tokens]
    assert decoded == [[response.text for response in row] for row in model.generate(talks, sampling, seed=3, n=2)]


WRITER = Backend("writer", "writes, reads nothing", frozenset({"generate"}), LoadOptions, lambda *_: FakeModel())


def test_a_plan_says_which_stage_the_backend_of_a_recipe_cannot_serve() -> None:
    registry = load_registry()
    registry = replace(registry, backends={**registry.backends, "writer": WRITER})
    recipe = load_recipe("pocket", ["family.backend=writer", "seeds=[0]", "prompts.n=8"], registry)
    plan = make_plan(recipe, registry, ["student", "dpo"])
    (issue,) = missing_capabilities(plan, plan.stages)
    assert issue.problem and "stage reward needs choices, logps, tokens of its teacher" in issue.text
    named = {stage.params["backend"]["name"] for stage in plan.stages if stage.kind in ("sample", "reward", "answer")}
    assert named == {"writer"}
    for text, part in (("vllm", "Choices: openai, transformers, writer"), ("openai", "must load checkpoints")):
        with pytest.raises(RecipeError, match=part):
            load_recipe("pocket", [f"family.backend={text}"], registry)
