"""The table of backends: how a run gets at models. A new one is a file of its own and one line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from harness.contracts.backend import Backend, Services
from harness.contracts.model import PROTOCOLS, ChatModel, Checkpoint
from harness.contracts.options import Count, options
from harness.errors import UserError
from harness.models.checkpoint import resolve
from harness.models.engines import sglang, vllm
from harness.models.server_model import SERVER


@options
class LoadOptions:
    """How to hold a checkpoint in this process's memory."""

    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number type of the weights."""
    device: str = "auto"
    """``auto`` (the first CUDA device, else the CPU), ``cpu``, ``cuda:1``, ..."""
    batch_tokens: Count = 16384
    """Padded tokens per batch, room for the answers included."""
    trust_remote_code: bool = False
    """Run Python code that comes with the checkpoint."""


def load_model(
    model: str | Checkpoint | None, config: LoadOptions = LoadOptions(), services: Services = Services()
) -> ChatModel:
    """In evaluation mode. Raises UserError when the checkpoint is not there or cannot be read."""
    if model is None:
        raise UserError("backend transformers loads a checkpoint: name a folder or a hub id.")
    from harness.models import transformers_model  # imports torch

    checkpoint = resolve(model) if isinstance(model, str) else model
    model_options = config.dtype, config.device, config.batch_tokens, config.trust_remote_code
    return transformers_model.load(checkpoint, *model_options, services)


_SUMMARY = "a checkpoint in this process (local folder or hub id)"
TRANSFORMERS = Backend(
    "transformers", _SUMMARY, frozenset(PROTOCOLS), LoadOptions, load_model,
    taken_gpus=lambda config: int(config.device != "cpu"),
)  # fmt: skip
BACKENDS: Final[Mapping[str, Backend]] = {
    backend.name: backend for backend in (TRANSFORMERS, vllm.BACKEND, sglang.BACKEND, SERVER)
}
"""By the name that recipes use."""
