"""Can a local checkpoint be loaded? What its files say, without importing torch or transformers."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.errors import UserError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
"""PyTorch's own formats. Loading one runs whatever code its writer put in, so they are refused."""


def check_folder(name: str, folder: Path) -> None:
    """Raises UserError that lists everything that is missing or broken; ``name`` is what the recipe calls the model."""
    wrong = [text for text in (_config(folder), _weights(folder), _tokenizer(folder)) if text]
    if wrong:
        raise UserError(
            f"model folder {name!r} cannot be loaded: {'; '.join(wrong)}. "
            "Point to a checkpoint saved with save_pretrained, by the model and by its tokenizer."
        )


def token_ids(file: Path) -> dict[str, int]:
    """Token to id, added tokens included. Raises UserError when this is not a tokenizer of the tokenizers library."""
    status = file.stat()
    return _token_ids(file, (status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=16)
def _token_ids(file: Path, stamp: tuple[int, int]) -> dict[str, int]:
    plain = read_object(file)
    try:
        vocabulary = plain["model"]["vocab"]
        if isinstance(vocabulary, list):  # Unigram: [token, score] pairs, the id is the position
            vocabulary = {token: number for number, (token, _) in enumerate(vocabulary)}
        return {**vocabulary, **{token["content"]: token["id"] for token in plain.get("added_tokens", [])}}
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{file} holds no vocabulary (model.vocab)") from error


def read_object(file: Path) -> dict[str, Any]:
    """A JSON object. Raises UserError when the file is missing, unreadable or something else."""
    try:
        plain = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"no {file.name}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read as JSON ({error})") from error
    if not isinstance(plain, dict):
        raise UserError(f"{file} is not a JSON object")
    return plain


def _config(folder: Path) -> str | None:
    try:
        named = read_object(folder / "config.json").get("model_type")
    except UserError as error:
        return str(error)
    return None if isinstance(named, str) else "config.json names no model_type"


def _weights(folder: Path) -> str | None:
    if (folder / SINGLE).is_file():
        return None
    if (folder / INDEX).is_file():
        try:
            shards = sorted(set(map(str, read_object(folder / INDEX)["weight_map"].values())))
        except (KeyError, AttributeError):
            return f"{folder / INDEX} has no weight_map"
        except UserError as error:
            return str(error)
        gone = [shard for shard in shards if not (folder / shard).is_file()]
        return f"{INDEX} names {', '.join(gone)}, not there" if gone else None
    pickles = sorted({file.name for pattern in PICKLES for file in folder.glob(pattern)} - {"training_args.bin"})
    if pickles:
        return f"no {SINGLE}; {', '.join(pickles)} is in a format that can run code when it is loaded, save it again"
    return f"no weights ({SINGLE}, or {INDEX} with its shards)"


def _tokenizer(folder: Path) -> str | None:
    try:
        token_ids(folder / "tokenizer.json")
    except FileNotFoundError:
        return "no tokenizer.json"
    except UserError as error:
        return str(error)
    return None
