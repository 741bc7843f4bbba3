"""The one loader of models and tokenizers, to read them and to train them, and the one reading of a model's head.

Logits are computed away from the model's own forward, so that they exist only at the positions that are read. A model
that does something unknown to them is refused when loaded.
"""

from __future__ import annotations

import copy
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import linear, pad
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from harness.errors import UserError
from harness.models.chat import highest_text_id, unused_ids, vocabulary_size
from harness.models.contents import LAYER

log = logging.getLogger(__name__)
NO_WEIGHTS = ("_scale", ".inv_freq", "attn.bias", "attention.bias", ".masked_bias")
NO_TOKEN = -1e4  # a logit whose probability is 0 in float32, and finite: 0 times infinity is no number


def pick_device(name: str) -> torch.device:
    """``auto``: the GPU where there is one; else what ``name`` says. Raises UserError where it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"compute.device = {name}, but there are {torch.cuda.device_count()} CUDA devices.")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError("compute.device = mps, but this machine has no such device.")
    # Among several processes each has a GPU of its own, whatever number was named.
    return torch.device(device.type) if "LOCAL_RANK" in os.environ else device


def load_tokenizer(location: str | Path, trust: bool = False, revision: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint folder or hub id. ``trust``: run code that comes with it."""
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            str(location), revision=revision, trust_remote_code=trust
        )
    except Exception as error:  # as of a model
        raise UserError(f"the tokenizer of {str(location)!r} could not be loaded: {error}") from error
    return tokenizer


def load_weights(
    location: str | Path,
    tokenizer: PreTrainedTokenizerBase,
    dtype: torch.dtype,
    trust: bool = False,
    revision: str | None = None,
) -> PreTrainedModel:
    """A causal language model without dropout, on the CPU. Raises UserError where ``logits_of`` cannot read its head.

    ``model.distilbench_config`` is the configuration as it was loaded, dropout included.
    """
    cast(
        "Any", transformers_logging
    ).disable_progress_bar()  # one bar per weight tensor would drown the bars of the run
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
        # Sizes that do not fit are told by the report, by name, and not by an exception that names none.
        loaded_model, report = cast("Any", AutoModelForCausalLM).from_pretrained(
            str(location),
            config=config,
            dtype=dtype,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **eager,
            **hub,
        )
    except Exception as error:  # of transformers, safetensors and the hub: each has classes of its own
        raise UserError(f"model {str(location)!r} could not be loaded: {error}") from error
    _check_report(loaded_model, report)
    loaded_model.distilbench_unused, loaded_model.distilbench_config = unused_ids(tokenizer), original
    model: PreTrainedModel = loaded_model
    _check_head(model, tokenizer)
    log.info("loaded %s: %s, %.1f s", location, dtype, time.perf_counter() - start)
    return model


def short_list(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _check_report(model: Any, report: Mapping[str, Any]) -> None:
    """Raises UserError where weights of the model are not those of its files; says which of these were not used."""
    name = model.name_or_path
    if getattr(model, "_hf_peft_config_loaded", False):
        raise UserError(f"model {name!r} holds an adapter too, and it was applied to its weights: merge or delete it.")
    conflicts = {"not in its files": report["missing_keys"], "of another size there": report["mismatched_keys"]}
    for reason, keys in conflicts.items():
        if keys:
            names = sorted(str(key[0] if isinstance(key, tuple) else key) for key in keys)
            raise UserError(
                f"model {name!r}: {len(names)} weights are {reason} and would be random: {short_list(names)}. "
                "Save the checkpoint again with save_pretrained, from the model itself and not from a wrapper."
            )
    unused = sorted(map(str, report["unexpected_keys"]))
    layers = {match[0] for match in map(LAYER.search, model.state_dict()) if match}
    # Beside scales of FP8 caches and masks of old checkpoints, no tensor of a layer may be left out.
    places = [(key, LAYER.search(key)) for key in unused if not key.endswith(NO_WEIGHTS)]
    if lost := [key for key, match in places if match and match[0] in layers]:
        raise UserError(
            f"model {name!r}: {len(lost)} of its weights have no place in the {type(model).__name__} that config.json "
            f"describes and would be left out: {short_list(lost)}. Correct config.json (as attention_bias, model_type)."
        )
    configs = model.config, model.config.get_text_config()
    is_tied = bool(model._tied_weights_keys) and all(getattr(part, "tie_word_embeddings", False) for part in configs)
    if is_tied and model.get_output_embeddings().weight is not model.get_input_embeddings().weight:
        raise UserError(
            f"model {name!r}: config.json says that its output layer is its embedding (tie_word_embeddings), and its "
            "files hold another one, which some programs read and others do not: correct config.json, or delete it."
        )
    if unused:
        log.warning(
            "%s: %d stored weights are no part of %s: %s", name, len(unused), type(model).__name__, short_list(unused)
        )


def scale_of(model: PreTrainedModel) -> tuple[float, float]:
    """What multiplies logits (Cohere's ``logit_scale``; MPT has ``None``) and what divides them (Granite)."""
    config: Any = model.config.get_text_config()
    return getattr(config, "logit_scale", None) or 1.0, getattr(config, "logits_scaling", None) or 1.0


def cap_of(model: PreTrainedModel) -> float | None:
    """The bound that Gemma-2's tanh puts on logits. RecurrentGemma has another name for it."""
    config: Any = model.config.get_text_config()
    return getattr(config, "final_logit_softcapping", None) or getattr(config, "logits_soft_cap", None)


def logits_of(model: PreTrainedModel, states: Tensor, vocabulary: int) -> Tensor:
    """Hidden states [..., H] -> next-token logits [..., vocabulary] float32, without columns that only pad the head.

    Ids below ``vocabulary`` that have no token, or no row in the head, get ``NO_TOKEN``: no share of any softmax.
    """
    head = cast("Any", model).get_output_embeddings()
    # A quantised head must run as it is, and one that is split and not gathered (ZeRO-3) by its own call.
    is_linear = type(head) is torch.nn.Linear and head.weight.numel() > 0
    if is_linear:
        weight, bias = head.weight, head.bias
        if weight.shape[0] > vocabulary:
            weight, bias = weight[:vocabulary], None if bias is None else bias[:vocabulary]
        logits = linear(states, weight, bias)
    else:
        logits = head(states)[..., :vocabulary]
    logits = logits.float()
    scale, divisor = scale_of(model)
    logits = logits if scale == 1 else logits * scale
    logits = logits if divisor == 1 else logits / divisor
    cap = cap_of(model)
    logits = logits if cap is None else cap * torch.tanh(logits / cap)
    if logits.shape[-1] < vocabulary:
        logits = pad(logits, (0, vocabulary - logits.shape[-1]), value=NO_TOKEN)
    unused = getattr(model, "distilbench_unused", ())
    return logits.index_fill(-1, torch.tensor(unused, device=logits.device), NO_TOKEN) if unused else logits


@torch.no_grad()
def _check_head(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Compare ``logits_of`` with the model's own logits on three tokens. Raises UserError where they differ."""
    vocabulary, module = vocabulary_size(tokenizer), cast("Any", model)
    head = module.get_output_embeddings()
    widths = [0 if layer is None else layer.weight.shape[0] for layer in (head, module.get_input_embeddings())]
    if min(widths) <= highest_text_id(tokenizer):
        raise UserError(
            f"{model.name_or_path!r} has {min(widths)} output embeddings for {vocabulary} tokens of its tokenizer; "
            "resize the embeddings and save the checkpoint again."
        )
    was_training = model.training
    model.train(False)
    ids = torch.arange(3, device=model.device)[None] % min(widths)
    inputs: Any = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False}
    try:
        ours = logits_of(model, model.base_model(**inputs).last_hidden_state[0], vocabulary)
        theirs = model(**inputs).logits[0, :, :vocabulary].float()
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
        reason = f"{type(model).__name__} cannot be run on three tokens: {type(error).__name__}: {error}"
        raise UserError(f"model {model.name_or_path!r}: {reason}") from error
    model.train(was_training)
    ours = ours[:, : theirs.shape[1]]
    theirs = theirs.where(ours > NO_TOKEN, ours)
    if not theirs.isfinite().all():
        raise UserError(
            f"{model.name_or_path!r} gives logits that are no numbers in {model.dtype}: its weights are damaged, or "
            "too large for that number format (try float32)."
        )
    if not torch.allclose(ours, theirs, rtol=1e-3, atol=1e-3 * float(theirs.abs().max())):
        raise UserError(
            f"{type(model).__name__} transforms its logits in a way that distilbench does not know (largest "
            f"difference {float((ours - theirs).abs().max()):.3g}); extend logits_of in harness/models/load.py."
        )
