"""Backends say what their models can do, and the models can."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.contracts.backend import Services
from harness.contracts.model import PROTOCOLS, Sampling
from harness.errors import UserError
from harness.models.backends import BACKENDS, LoadOptions
from harness.models.checkpoint import resolve
from harness.models.fake import FakeModel
from harness.models.server_model import ServerOptions
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
    assert BACKENDS["openai"].missing(["generate", "choices", "logps"]) == ["choices", "logps"]
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
