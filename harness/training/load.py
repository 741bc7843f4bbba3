"""Checkpoints in and out.

``host`` gives a model's forward one further argument, so that loss terms are computed inside the forward call: that is
where wrappers (DDP, FSDP, peft) expect all work on parameters to happen.
"""

from __future__ import annotations

import copy
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from harness.errors import UserError
from harness.models.logits import check_head
from harness.training.options import TrainOptions

log = logging.getLogger(__name__)

Then = Callable[[Tensor], Any]
"""Last hidden states [R, T, H] -> whatever the forward call is to return."""


def device_of(options: TrainOptions) -> torch.device:
    """The device that ``options.device`` names; ``auto``: the GPU where there is one.

    Among several processes each has a GPU of its own, whatever number was named. Raises UserError where it is absent.
    """
    if options.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(options.device)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"compute.device = {options.device}, but there are {torch.cuda.device_count()} CUDA devices.")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError("compute.device = mps, but this machine has no such device.")
    return torch.device(device.type) if "LOCAL_RANK" in os.environ else device


def place(args: Any, device: torch.device) -> None:
    """Let a trainer with these ``TrainingArguments`` work on ``device``, if it is the only process.

    transformers knows the CPU and the first GPU only, and remembers its choice in the arguments.
    """
    if args.distributed_state.distributed_type.value != "NO" or str(device) in ("cpu", "cuda"):
        return
    vars(args)["_setup_devices"] = device
    args.distributed_state.device = device
    if device.type == "cuda":
        torch.cuda.set_device(device)


def load_tokenizer(path: str | Path, trust: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint folder or hub id. ``trust``: run code that comes with it."""
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(str(path), trust_remote_code=trust)
    return tokenizer


def pad_of(tokenizer: PreTrainedTokenizerBase) -> int:
    """An id for padding; masked out everywhere, so any will do."""
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    return 0


def load_model(
    path: str | Path, tokenizer: PreTrainedTokenizerBase, dtype: torch.dtype, trust: bool = False
) -> PreTrainedModel:
    """A causal language model without dropout, checked to have a head that ``logits_of`` reproduces.

    Attention is eager where the model caps attention scores (Gemma-2), which fused kernels leave out.

    ``trust``: run code that comes with the checkpoint.

    Raises:
        UserError: the vocabulary does not fit the tokenizer, or the architecture transforms its logits otherwise.
    """
    bars: Any = transformers_logging
    bars.disable_progress_bar()  # the stage reports progress itself
    start = time.perf_counter()
    config = AutoConfig.from_pretrained(str(path), trust_remote_code=trust)
    original = copy.deepcopy(config)
    text = config.get_text_config()
    for name, value in list(vars(text).items()):
        if ("drop" in name or "pdrop" in name) and isinstance(value, float):
            setattr(text, name, 0.0)
    eager = {"attn_implementation": "eager"} if getattr(text, "attn_logit_softcapping", None) else {}
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        str(path), config=config, dtype=dtype, trust_remote_code=trust, **eager
    )
    attach: Any = model
    attach.distilbench_config = original
    check_head(model, tokenizer)
    log.info("loaded %s to train or to read it: %s, %.1f s", path, dtype, time.perf_counter() - start)
    return model


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, state: Any = None) -> None:
    """Weights (safetensors), the config as it was loaded, tokenizer and chat template.

    ``state``: a state dict gathered from a sharded model; default, the model's own.
    """
    attached: Any = model
    attached.config = attached.distilbench_config
    model.save_pretrained(folder, state_dict=state)
    tokenizer.save_pretrained(folder)


def host(model: PreTrainedModel) -> PreTrainedModel:
    """Teach ``model.forward`` the argument ``then``: run the backbone alone and return ``then(hidden states)``."""
    original = model.forward

    def forward(*args: Any, then: Then | None = None, **kwargs: Any) -> Any:
        if then is None:
            return original(*args, **kwargs)
        given = {name: value for name, value in kwargs.items() if value is not None}
        return then(model.base_model(*args, **given, use_cache=False).last_hidden_state)

    model.forward = forward
    return model
