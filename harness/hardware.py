"""GPU-hours and memory, estimated from weights and tokens before anything runs; and the memory that a process took.

    FLOPs of a token     2 N to read or write it (N weights), 6 N to train on it, 8 N with gradient checkpointing;
                         with low-rank adapters 4 N and 6 N, because the frozen weights get no gradient
    GPU-hours            sum of FLOPs / share of the peak that is reached, / (peak FLOP/s * 3600)
    training memory      16 bytes per weight (float32 weight, gradient, two moments) with all weights trained, 4 with
                         adapters; a teacher beside it at its own width; activations of one micro-batch

Forward 2 N and backward 4 N: Kaplan et al. 2020 (arXiv 2001.08361), section 2.1. Activations: 34 bytes per token, layer
and width in half precision (Korthikanti et al. 2022, arXiv 2205.05198, equation 2 without its attention scores); 2
with checkpointing, plus one layer whole. The shares reached (``SHARE``) are ours: what a well-fed single GPU gets with
these libraries, give or take a factor of two, and so are the hours.
"""

from __future__ import annotations

import os
import re
import resource
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Final

from harness.contracts.stage import Doing, Work


@dataclass(frozen=True)
class Device:
    tflops: float  # dense bfloat16 peak, 10^12 FLOP/s, from its maker's data sheet
    gib: int


DEVICES: Final[Mapping[str, Device]] = {
    "A100-40GB": Device(312, 40),
    "A100-80GB": Device(312, 80),
    "A800-80GB": Device(312, 80),
    "H100-80GB": Device(989, 80),
    "H200": Device(989, 141),
    "L40S": Device(362, 48),
    "RTX4090": Device(165, 24),
    "L4": Device(121, 24),
}
SHARE: Final[Mapping[Doing, float]] = {"train": 0.35, "read": 0.4, "write": 0.1}
"""Of the peak: training, reading a prompt in one pass, generating token by token."""
_WEIGHT_BYTES: Final = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Size:
    parameters: int
    layers: int | None
    hidden: int | None
    stated: bool
    """From ``published_sizes.json``, not from the files."""


def training_factor(adapters: bool, checkpointing: bool) -> float:
    """FLOPs per weight and trained token; ``checkpointing``: activations are recomputed in the backward pass."""
    return (4.0 if adapters else 6.0) + (2.0 if checkpointing else 0.0)


def hours(work: Iterable[Work], device: str) -> float | None:
    """``None`` where the size of a model is not known."""
    total = 0.0
    for doing, parameters, tokens, flops in work:
        if parameters is None:
            return None
        total += flops * parameters * tokens / SHARE[doing]
    return total / (DEVICES[device].tflops * 1e12 * 3600)


def weight_bytes(model: Size, dtype: str) -> float:
    return model.parameters * _WEIGHT_BYTES[dtype]


def training_bytes(student: Size, tokens: int, dtype: str, adapters: bool, checkpointing: bool) -> float:
    """Peak memory of training on micro-batches of so many tokens, without a teacher beside it."""
    weights = student.parameters * (4 if adapters else 16)
    if student.layers is None or student.hidden is None:
        return weights
    layer_bytes = 34 * student.hidden * tokens * (2 if dtype == "float32" else 1)
    activations = (2 * student.layers / 34 + 1) * layer_bytes if checkpointing else student.layers * layer_bytes
    return weights + activations


def visible_gpus() -> list[str]:
    """What ``CUDA_VISIBLE_DEVICES`` may name in a process started from here, in the order of CUDA's numbers."""
    named_gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named_gpus is not None:
        names = [name.strip() for name in named_gpus.split(",")]
        return list(takewhile(lambda name: name and not name.startswith("-"), names))  # as CUDA reads it: -1 ends it
    # NVIDIA's driver shows them as files; a plan and its executor import no torch.
    return [str(number) for number in range(len(list(Path("/dev").glob("nvidia[0-9]*"))))]


def bfloat16_flags() -> list[str] | None:
    """The CPU's instructions for matrix products in bfloat16; ``None`` where the system does not tell (not Linux)."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return None
    names = set(re.split(r"\s", text))
    return [name for name in ("amx_bf16", "avx512_bf16", "bf16") if name in names]  # Intel, Intel and AMD, ARM


def reset_peak() -> None:
    """Let ``peak`` count from now on, where the system can do that (Linux: proc(5), ``clear_refs``)."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:  # another system, or a sandbox without /proc: the peak stays that of the whole process
        return


def peak() -> int:
    """Bytes: since ``reset_peak`` on Linux, else since the process began."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    except (OSError, IndexError, ValueError):
        largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return largest if sys.platform == "darwin" else largest * 1024  # Linux counts in KiB
