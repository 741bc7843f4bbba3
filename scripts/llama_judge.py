"""llama-cpp-python's OpenAI-compatible server with log-probabilities, as a judge for the real run (docs/real-run.md).

    python scripts/llama_judge.py models/smollm2.gguf --port 8000

The server that ships with llama-cpp-python 0.3.36 crashes at the first decode on CPUs with AMX unless the model
parameter ``use_extra_bufts`` is false, and has no option for it: this sets the default, then starts the server as it
is. Run it in an environment that has ``llama-cpp-python[server]``; distilbench itself is not needed.
"""

from __future__ import annotations

import argparse
import runpy
import sys
from typing import Any

import llama_cpp

DEFAULTS = llama_cpp.llama_model_default_params


def without_extra_buffers() -> Any:
    """The library's default model parameters, repacked buffers off."""
    parameters = DEFAULTS()
    parameters.use_extra_bufts = False
    return parameters


def main() -> None:
    """Patch the default and hand over to the server's own command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gguf", help="the model file")
    parser.add_argument("--port", default="8000")
    parser.add_argument("--threads", default="1")
    options = parser.parse_args()
    llama_cpp.llama_model_default_params = without_extra_buffers
    llama_cpp.llama_cpp.llama_model_default_params = without_extra_buffers
    # logits_all: without it the server keeps the last position only and refuses top_logprobs.
    sys.argv = ["server", "--model", options.gguf, "--model_alias", "judge", "--logits_all", "true"]
    sys.argv += ["--n_ctx", "8192", "--port", options.port, "--n_threads", options.threads]
    runpy.run_module("llama_cpp.server", run_name="__main__")


if __name__ == "__main__":
    main()
