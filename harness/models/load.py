"""The one loader of models and tokenizers, to read them and to train them."""

from __future__ import annotations

import copy
import logging
import os
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from harness.errors import UserError
from harness.models.logits import check_head

log = logging.getLogger(__name__)


def pick_device(name: str) -> torch.device:
    """``auto``: the GPU where there is one; else what ``name`` says. Raises UserError where it is not there.

    Among several processes each has a GPU of its own, whatever number was named.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"compute.device = {name}, but there are {torch.cuda.device_count()} CUDA devices.")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError("compute.device = mps, but this machine has no such device.")
    return torch.device(device.type) if "LOCAL_RANK" in os.environ else device


def load_tokenizer(location: str | Path, trust: bool = False, revision: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint folder or hub id. ``trust``: run code that comes with it."""
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            str(location), revision=revision, trust_remote_code=trust
        )
    except (OSError, ValueError) as error:
        raise UserError(f"the tokenizer of {str(location)!r} could not be loaded: {error}") from error
    return tokenizer


def load_weights(
    location: str | Path,
    tokenizer: PreTrainedTokenizerBase,
    dtype: torch.dtype,
    trust: bool = False,
    revision: str | None = None,
) -> PreTrainedModel:
    """A causal language model without dropout, on the CPU, checked to have a head that ``logits_of`` reproduces.

    ``model.distilbench_config`` is the configuration as it was loaded, dropout included. ``trust``: run code that comes
    with the checkpoint.

    Raises:
        UserError: it cannot be loaded, the vocabulary does not fit the tokenizer, or the architecture transforms its
            logits in an unknown way.
    """
    bars: Any = transformers_logging
    bars.disable_progress_bar()  # one bar per weight tensor would drown the bars of the run
    start = time.perf_counter()
    hub: dict[str, Any] = {"revision": revision, "trust_remote_code": trust}
    try:
        config = AutoConfig.from_pretrained(str(location), **hub)
        # Saved with the student: whoever fine-tunes it next must find the dropout of the original.
        original = copy.deepcopy(config)
        text = config.get_text_config()
        # Dropout would make losses depend on the split into micro-batches, and the reference another model.
        for name, value in list(vars(text).items()):
            if "drop" in name and isinstance(value, float):
                setattr(text, name, 0.0)
        # Gemma-2 soft-caps its attention scores, which only the eager kernel does exactly (transformers #32390).
        eager = {"attn_implementation": "eager"} if getattr(text, "attn_logit_softcapping", None) else {}
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            str(location), config=config, dtype=dtype, **eager, **hub
        )
    except (OSError, ValueError) as error:
        raise UserError(f"model {str(location)!r} could not be loaded: {error}") from error
    attach: Any = model
    attach.distilbench_config = original
    check_head(model, tokenizer)
    log.info("loaded %s: %s, %.1f s", location, dtype, time.perf_counter() - start)
    return model
