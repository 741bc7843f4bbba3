"""The head of a language model: hidden states to float32 logits over exactly the tokenizer's vocabulary.

Logits are computed here, away from the model's own forward, so that they exist only at the positions that are read.
What a model does to them beyond its head is repeated here, and one that does something else is refused when loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from harness.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def logits_of(model: PreTrainedModel, states: Tensor, vocabulary: int) -> Tensor:
    """Hidden states [..., H] -> next-token logits [..., vocabulary] float32.

    Columns that only pad the embedding matrix are left out before any softmax. Scales: Granite divides
    (``logits_scaling``), Cohere multiplies (``logit_scale``). Final soft-capping: Gemma-2.
    """
    untyped: Any = model
    head = untyped.get_output_embeddings()
    # A quantised head must run as it is, and one that is split over processes (ZeRO-3) is gathered by its own call.
    plain = type(head) is torch.nn.Linear and not hasattr(head.weight, "ds_id")
    if plain and head.weight.shape[0] > vocabulary:
        bias = None if head.bias is None else head.bias[:vocabulary]
        logits = linear(states, head.weight[:vocabulary], bias)
    else:
        logits = head(states)[..., :vocabulary]
    logits = logits.float()
    config: Any = model.config.get_text_config()
    logits = logits * getattr(config, "logit_scale", 1.0) / getattr(config, "logits_scaling", 1.0)
    cap = getattr(config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)


@torch.no_grad()
def check_head(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Compare ``logits_of`` with the model's own logits on three tokens. Raises UserError where they differ."""
    untyped: Any = model
    head = untyped.get_output_embeddings()
    vocabulary = len(tokenizer)
    if head is None or head.weight.shape[0] < vocabulary:
        width = None if head is None else head.weight.shape[0]
        raise UserError(
            f"{model.name_or_path!r} has {width} output embeddings for {vocabulary} tokens of its tokenizer; "
            "resize the embeddings and save the checkpoint again."
        )
    was_training = model.training
    model.train(False)
    ids = torch.arange(3, device=model.device)[None] % vocabulary
    ours = logits_of(model, model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0], vocabulary)
    theirs = model(input_ids=ids, use_cache=False).logits[0, :, :vocabulary].float()
    model.train(was_training)
    if not torch.allclose(ours, theirs, rtol=1e-3, atol=1e-3 * float(theirs.abs().max())):
        raise UserError(
            f"{type(model).__name__} transforms its logits in a way that distilbench does not know (largest "
            f"difference {float((ours - theirs).abs().max()):.3g}); extend logits_of in harness/models/logits.py."
        )
