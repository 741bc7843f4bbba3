"""Every way of drawing or reading on a cache, against plain forward passes of whole rows, whatever the cache does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from harness.contracts.model import Sampling
from harness.models.prefix_cache import supports_prefix_sharing, supports_stepping
from harness.models.transformers_model import TransformersModel
from harness.training.forward import host
from harness.training.rollouts import Speakers, draw
from tests.harness.test_packing import SIZES
from tests.tiny import tiny_tokenizer

PROMPTS = [[2, 7, 4, 3, 9, 9, 10], [2, 9, 10], [2, 30, 4]]
CONVOLUTION = {"layer_types": ["conv", "full_attention"], "block_dim": 32, "conv_dim": 32}
STATE = {"state_size": 8, "num_heads": 8, "head_dim": 8, "n_groups": 1, "chunk_size": 4}


def model_of(family: str, **sizes: Any) -> Any:
    tokenizer = tiny_tokenizer()
    config = getattr(transformers, family + "Config")(**SIZES | sizes | {"vocab_size": len(tokenizer)})
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return transformers.AutoModelForCausalLM.from_config(config).train(False)


def forgetful_model() -> Any:
    """Fills its cache and never looks into it."""
    model = model_of("Llama")
    original = model.base_model.forward

    def forward(input_ids: Any, attention_mask: Any = None, position_ids: Any = None, **rest: Any) -> Any:
        out = original(input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids, **rest)
        mask = None if attention_mask is None else attention_mask[:, -input_ids.shape[1] :]
        alone = original(input_ids=input_ids, attention_mask=mask, position_ids=position_ids, use_cache=False)
        out.last_hidden_state = alone.last_hidden_state
        return out

    model.base_model.forward = forward
    return model


def refusing_model() -> Any:
    model = model_of("Llama")
    original = model.base_model.forward

    def forward(use_cache: bool = False, **rest: Any) -> Any:
        if use_cache:
            raise NotImplementedError("no cache")
        return original(use_cache=False, **rest)

    model.base_model.forward = forward
    return model


def plain_logps(model: Any, prompt: list[int], response: list[int]) -> torch.Tensor:
    """[t, V]"""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + response]), use_cache=False).logits
    return logits[0, len(prompt) - 1 : -1].log_softmax(-1)


MODELS = {
    "Llama": lambda: model_of("Llama"),
    "windows": lambda: model_of("Mistral", sliding_window=4),
    "Mamba-2": lambda: model_of("Mamba2", **STATE),
    "LFM2": lambda: model_of("Lfm2", **CONVOLUTION),
    "forgetful": forgetful_model,
    "refusing": refusing_model,
}


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> Any:
    return MODELS[request.param]()


def test_live_responses_have_the_log_probabilities_of_whole_rows(model: Any) -> None:
    student = host(model)
    speakers = Speakers(student, student, tiny_tokenizer(), 1.0, 0.4, 8)
    for prompt, rollout in zip(PROMPTS, draw(PROMPTS, speakers, [1, 2, 3]), strict=True):
        plain = plain_logps(student, prompt, rollout.tokens).gather(1, torch.tensor(rollout.tokens)[:, None])[:, 0]
        for name in ("behaviour", "student", "teacher"):
            torch.testing.assert_close(torch.tensor(rollout.logps[name]), plain, atol=1e-4, rtol=0)


@pytest.mark.parametrize("n", [1, 2])
def test_greedy_answers_are_those_of_whole_rows(model: Any, n: int) -> None:
    reader = TransformersModel("m", model, tiny_tokenizer(), 4096)
    for prompt, responses in zip(PROMPTS, reader.generate_tokens(PROMPTS, Sampling(8, 0.0), 0, n), strict=True):
        for response in responses:
            ids = list(response.ids)
            plain = plain_logps(model, prompt, [*ids, 0] if response.finish_reason == "stop" else ids)
            best = plain[:, : len(tiny_tokenizer())].argmax(1).tolist()
            assert best[: len(ids)] == ids and all(token in reader.stops for token in best[len(ids) :])


@pytest.mark.parametrize(
    ("name", "cache_use", "steps", "shares"),
    [
        ("Llama", "shared", True, True),
        ("windows", "shared", True, True),
        ("Mamba-2", "own", True, False),
        ("forgetful", "none", False, False),
        ("refusing", "none", False, False),
    ],
)
def test_the_trial_takes_a_cache_that_is_exact_and_no_other(
    name: str, cache_use: str, steps: bool, shares: bool, caplog: pytest.LogCaptureFixture
) -> None:
    model = MODELS[name]()
    assert supports_prefix_sharing(model) == shares
    assert supports_stepping(model) == steps
    assert TransformersModel("m", model, tiny_tokenizer(), 4096).cache_use == cache_use
    assert len([line for line in caplog.messages if "its cache does not give" in line]) == (0 if steps else 2)
