"""Weights that are split over processes (PyTorch's ``fully_shard``, DeepSpeed's ZeRO): told to accelerate, read whole.

What ``accelerate launch`` was told stands in the environment; without it, nothing here changes anything.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel
from transformers.integrations.deepspeed import unset_hf_deepspeed_config


def _launched_with(kind: str) -> bool:
    return os.environ.get(f"ACCELERATE_USE_{kind}", "false").lower() == "true"


def device_arguments(device: torch.device) -> dict[str, Any]:
    """``TrainingArguments`` for this device. accelerate takes DeepSpeed for a matter of GPUs alone."""
    if device.type != "cpu" or not _launched_with("DEEPSPEED"):
        return {"use_cpu": device.type == "cpu"}
    os.environ |= {"DS_ACCELERATOR": "cpu", "ACCELERATE_TORCH_DEVICE": "cpu"}
    return {"use_cpu": False, "ddp_backend": "gloo"}


def prepare_sharding(args: Any) -> None:
    """Let ``TrainingArguments`` shard as the launcher was told, on a CPU too, with gradients sharded at all times."""
    if not _launched_with("FSDP"):
        return
    if args.use_cpu:
        # accelerate shards over what it takes for GPUs alone; gloo does it as well.
        args.distributed_state.distributed_type = DistributedType.MULTI_GPU
    # Else every process would keep whole gradients until the last micro-batch of a step.
    args.accelerator_config.gradient_accumulation_kwargs = {"sync_each_batch": True}


@contextmanager
def embeddings_in_root(model: PreTrainedModel) -> Iterator[None]:
    """While accelerate shards the model: its embeddings and head belong to the whole model's own unit, which is
    gathered once per pass. In one of their own, as accelerate would have it, each chunk of logits would be a call that
    all processes must make in step, and they have different numbers of chunks."""
    names = ("get_input_embeddings", "get_output_embeddings")
    vars(model).update(dict.fromkeys(names, lambda: None))
    try:
        yield
    finally:
        for name in names:
            del vars(model)[name]


def keep_head_gathered(accelerator: Accelerator, model: PreTrainedModel) -> None:
    """With ZeRO-3, the head's weight is gathered once per pass of the whole model: the same reason."""
    if accelerator.distributed_type == DistributedType.DEEPSPEED and splits_weights(accelerator):
        from deepspeed.runtime.zero import register_external_parameter

        register_external_parameter(model, cast("Any", model).get_output_embeddings().weight)


def splits_weights(accelerator: Accelerator) -> bool:
    plugin = getattr(accelerator.state, "deepspeed_plugin", None)
    return accelerator.distributed_type == DistributedType.FSDP or (plugin is not None and plugin.zero_stage == 3)


def load_whole() -> None:
    """Models that are loaded from now on are whole: with ZeRO-3, transformers would split them over all processes, and
    one that loads alone would wait for the others."""
    cast("Any", unset_hf_deepspeed_config)()


def whole_copy(model: PreTrainedModel, device: torch.device) -> PreTrainedModel:
    """A copy, made before the weights are split, for as many forward passes as a process needs; see ``refresh``."""
    twin = copy.deepcopy(model)
    # ``forward.host`` put there what runs the original.
    vars(twin).pop("forward", None)
    cast("Any", twin.requires_grad_(False)).to(device)
    return twin


@torch.no_grad()
def refresh(twin: PreTrainedModel, model: PreTrainedModel) -> None:
    """Give the copy the trained weights of the model. Every process has to call it."""
    for target, source in zip(twin.parameters(), model.parameters(), strict=True):
        if source.requires_grad:
            with _whole(source) as value:
                target.copy_(value)


@contextmanager
def _whole(weight: Tensor) -> Iterator[Tensor]:
    if hasattr(weight, "ds_id"):
        from deepspeed.runtime.zero import GatheredParameters

        with GatheredParameters([weight]):
            yield weight
    else:
        yield weight.full_tensor() if isinstance(weight, DTensor) else weight
