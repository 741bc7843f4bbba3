"""How tests start the real vLLM on a CPU, where ``DISTILBENCH_VLLM`` names the Python of an environment with it."""

from __future__ import annotations

import os
from typing import Any

VLLM, SMOLLM2 = os.environ.get("DISTILBENCH_VLLM"), os.environ.get("DISTILBENCH_SMOLLM2")
OPTIONS: dict[str, Any] = {
    "command": [VLLM or "", "-m", "vllm.entrypoints.openai.api_server", "--model", "{model}"],
    # On a CPU, vLLM 0.32 dies of a seeded request whose prompt is read in two parts.
    "flags": ["--enforce-eager", "--no-enable-chunked-prefill"],
    "gpus": 0,
    "memory_share": 0.3,
    "environment": {
        "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "TORCH_COMPILE_DISABLE": "1",
        "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": os.environ.get("DISTILBENCH_VLLM_THREADS", "2"),
    },
}  # fmt: skip
