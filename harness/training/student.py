"""The student in training: its low-rank adapters (LoRA, Hu et al. 2021, arXiv 2106.09685), and what is saved of it.

Injected without peft's wrapper, so that what works on a full model works on an adapted one. Saved is one plain
checkpoint, adapters merged in float32: whoever answers with it cannot forget them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from harness.errors import UserError
from harness.models.chat import vocabulary_size
from harness.models.load import load_weights
from harness.training.forward import host
from harness.training.options import Lora

BASE = ".base_layer."


def save(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    state: Mapping[str, Tensor],
    lora: Lora | None = None,
    adapted: Tensor | None = None,
    trust: bool = False,
) -> None:
    """One checkpoint, adapters merged; ``adapter/``. ``state``: the whole state dict; ``adapted``: what ``probe`` gave
    with adapters, for the merged model to be compared with; ``trust``: run its code."""
    wrapped_model: Any = model
    # Trained without dropout; saved as it was loaded.
    wrapped_model.config = wrapped_model.distilbench_config
    model.save_pretrained(folder, state_dict=dict(state) if lora is None else merged_weights(state, model))
    tokenizer.save_pretrained(folder)
    if lora is not None and adapted is not None:
        save_adapter(state, model, lora, folder / "adapter")
        merged_model = load_weights(folder, tokenizer, torch.float32, trust).to(adapted.device)  # type: ignore[arg-type]
        check_merged(probe(host(merged_model), vocabulary_size(tokenizer)), adapted)


def add_adapters(model: PreTrainedModel, options: Lora, seed: int) -> str:
    """Inject adapters; only they are trained. B is zero, so the model starts as it was. Returns a line for the report.
    Raises UserError for a module that the model lacks, or that is no plain linear layer."""
    targets = options.target_modules
    # Outside, the random state must not depend on whether there are adapters.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**63)  # A is drawn at random
        try:
            with warnings.catch_warnings():  # of layers that are refused below
                warnings.filterwarnings("ignore", message="fan_in_fan_out", category=UserWarning)
                inject_adapter_in_model(peft_config(options), model)
        except ValueError as error:
            raise UserError(f"train.lora.target_modules = {targets!r}: {error}") from error
    head: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    for name, layer in adapted_layers(model):
        if not isinstance(layer.base_layer, torch.nn.Linear):
            kind = type(layer.base_layer).__name__
            raise UserError(
                f"train.lora.target_modules = {targets!r} takes in {name}, a {kind}: adapters are merged into plain "
                "linear layers (nn.Linear) alone. Name such layers, or train all weights (train.lora=null)."
            )
        if layer is head:
            raise UserError(
                "train.lora.target_modules must not name the output head, which may be tied to the embeddings."
            )
    trainable = sum(value.numel() for value in model.parameters() if value.requires_grad)
    count = sum(value.numel() for value in model.parameters())
    return f"lora r={options.r} alpha={options.alpha:g} on {targets}: {trainable} of {count} parameters, merged"


def peft_config(options: Lora) -> LoraConfig:
    targets = options.target_modules
    return LoraConfig(
        r=options.r,
        lora_alpha=options.alpha,  # type: ignore[arg-type, unused-ignore]  # only ever divided by r
        lora_dropout=options.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        task_type="CAUSAL_LM",
    )


def adapted_layers(model: PreTrainedModel) -> Iterator[tuple[str, Any]]:
    modules: Any = model.named_modules()
    return ((name, module) for name, module in modules if isinstance(module, LoraLayer))


def merged_weights(state: Mapping[str, Tensor], model: PreTrainedModel) -> dict[str, Tensor]:
    """A whole state dict with W + scale * B A in place of each adapted W, under the names of the plain model."""
    weights = {name.replace(BASE, "."): value for name, value in state.items() if ".lora_" not in name}
    for name, layer in adapted_layers(model):
        (adapter,) = layer.active_adapters
        a, b = (state[f"{name}.lora_{factor}.{adapter}.weight"] for factor in "AB")
        key = f"{name}.weight"
        delta = layer.scaling[adapter] * (b.float() @ a.float())
        weights[key] = (weights[key].float() + delta.to(weights[key].device)).to(weights[key].dtype)
    return weights


def save_adapter(state: Mapping[str, Tensor], model: PreTrainedModel, options: Lora, folder: Path) -> None:
    """For ``PeftModel.from_pretrained(the starting student, folder)``."""
    tensors = {}
    for name, layer in adapted_layers(model):
        (adapter,) = layer.active_adapters
        for factor in "AB":
            value = state[f"{name}.lora_{factor}.{adapter}.weight"]
            tensors[f"base_model.model.{name}.lora_{factor}.weight"] = value.detach().cpu().contiguous()
    config = peft_config(options)
    config.inference_mode = True
    targets: Any = config.target_modules
    if isinstance(targets, set):  # a set is written in an order that changes from run to run
        config.target_modules = sorted(targets)
    config.save_pretrained(str(folder))
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})


@torch.no_grad()
def probe(model: torch.nn.Module, vocabulary: int) -> Tensor:
    """[1, T, H] hidden states of a few tokens. ``model``: prepared by ``forward.host``, perhaps wrapped; where its
    weights are split over processes, each of them has to call this."""
    ids = torch.arange(3, 3 + min(16, vocabulary - 3), device=next(model.parameters()).device)[None]
    model.train(False)  # DeepSpeed's engine returns nothing here
    states: Tensor = model(input_ids=ids, read_states=torch.clone, exact=True)
    return states


def check_merged(merged: Tensor, adapted: Tensor) -> None:
    """Raises AssertionError unless the saved checkpoint answers as the adapted model did."""
    if not torch.allclose(merged, adapted, rtol=1e-3, atol=1e-3 * float(adapted.abs().max())):
        worst = float((merged - adapted).abs().max())
        raise AssertionError(f"the saved checkpoint does not answer as the adapted model does (off by {worst:.3g})")
