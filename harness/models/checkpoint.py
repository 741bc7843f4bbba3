"""Checkpoints on disk: where a model lies, whether its files can be loaded, and what they say. Imports no torch.

A name is ``pocket:NAME`` (shipped with the package), a local folder, or a hub id (``owner/name`` or
``owner/name@revision``). A stage's key holds the *fingerprint* of the content, never the place where it lies.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from harness.contracts.model import Checkpoint
from harness.errors import UserError
from harness.models.contents import StoredTensor, weight_problems, weight_shapes
from harness.text import parse_json
from harness.types import Json

WEIGHTS: Final = ("*.safetensors", "*.json", "*.jinja", "*.model")
CODE: Final = ("*.py",)  # fetched, and run, only under ``family.trust_remote_code``
TOKENIZER: Final = ("tokenizer*", "special_tokens_map.json", "*.jinja", "*.model")
HASH_WHOLE: Final = 1 << 30  # of larger files, size and the first and last MiB count: hashing 18 GB takes minutes
POCKET: Final = Path(__file__).parents[1] / "pocket" / "checkpoints"
SINGLE: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"
# PyTorch's own formats: loading one runs whatever code its writer put in, so they are refused.
PICKLES: Final = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
ROLES: Final = ("bos", "eos", "unk", "pad")
GENERAL_TOKENIZERS: Final = ("PreTrainedTokenizerFast", "TokenizersBackend")


def from_folder(name: str, folder: Path) -> Checkpoint:
    return Checkpoint(name, str(folder), None, fingerprint(folder, (*WEIGHTS, *CODE)), fingerprint(folder, TOKENIZER))


def resolve(name: str) -> Checkpoint:
    """Find a model by its name in a recipe. Raises UserError naming the value, the choices and the remedy."""
    if name.startswith("pocket:"):
        folder = POCKET / name.removeprefix("pocket:")
        if not (folder / SINGLE).is_file():
            choices = ", ".join(sorted(f"pocket:{file.parent.name}" for file in POCKET.glob(f"*/{SINGLE}")))
            raise UserError(f"model {name!r}: unknown pocket checkpoint; choose one of {choices}.")
        return from_folder(name, folder)
    path = Path(name).expanduser()
    if path.is_dir():
        check_folder(name, path)
        return from_folder(name, path)
    # A mistyped path must not be asked of the hub: the error would speak of a repository.
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise UserError(
            f"model {name!r} is neither a folder, nor 'pocket:NAME', nor a hub id 'owner/name[@revision]'. "
            "Check the path, or make the checkpoint first."
        )
    hub_id, _, revision = name.partition("@")
    commit = hub_commit(hub_id, revision or "main")
    checkpoint = Checkpoint(name, hub_id, commit, f"hub:{hub_id}@{commit}", f"hub:{hub_id}@{commit}")
    if (hub_folder(checkpoint) / "config.json").is_file():
        check_contents(name, hub_folder(checkpoint))
    return checkpoint


def download(checkpoint: Checkpoint, trust: bool = False) -> Checkpoint:
    """The checkpoint as a local folder, at its pinned commit; with its code only where ``trust``. Raises UserError."""
    if Path(checkpoint.location).is_dir():
        return checkpoint
    from huggingface_hub import snapshot_download

    patterns = [*WEIGHTS, *(CODE if trust else ())]
    try:
        folder = snapshot_download(checkpoint.location, revision=checkpoint.revision, allow_patterns=patterns)
    except Exception as error:  # no network, gated, removed: the hub client has a class for each
        raise UserError(
            f"model {checkpoint.name!r} could not be fetched from the hub: {error}. Try again, or give a local folder "
            "instead."
        ) from error
    return replace(checkpoint, location=folder)


def hub_folder(checkpoint: Checkpoint) -> Path:
    """Where a checkpoint's files lie: its folder, or its snapshot in the local hub cache (which may not exist)."""
    folder = Path(checkpoint.location)
    if folder.is_dir():
        return folder
    from huggingface_hub.constants import HF_HUB_CACHE

    repository = Path(HF_HUB_CACHE) / ("models--" + checkpoint.location.replace("/", "--"))
    return repository / "snapshots" / str(checkpoint.revision)


@lru_cache(maxsize=64)
def hub_commit(hub_id: str, revision: str, kind: Literal["model", "dataset"] = "model") -> str:
    """The commit that ``revision`` names now: asked of the hub, or read from the local cache when offline."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return str(HfApi().repo_info(hub_id, revision=revision, repo_type=kind, timeout=10).sha)
    except Exception as error:  # noqa: BLE001, many kinds: offline, gated, unknown; the cache may still have it
        try:
            return Path(snapshot_download(hub_id, revision=revision, repo_type=kind, local_files_only=True)).name
        except LocalEntryNotFoundError:
            raise UserError(
                f"{kind} {hub_id!r} (revision {revision!r}) is not in the local hub cache and the hub did not give it: "
                f"{error}. Log in for gated repositories (`hf auth login`), or give a local path instead."
            ) from error


def fingerprint(folder: Path, patterns: Sequence[str]) -> str:
    digest = hashlib.sha256()
    # Sorted, because the order of glob depends on the file system.
    for file in sorted({file for pattern in patterns for file in folder.glob(pattern)}):
        status = file.stat()
        digest.update(f"{file.name}\0{_digest(file.resolve(), status.st_size, status.st_mtime_ns)}\0".encode())
    return digest.hexdigest()[:32]


@lru_cache(maxsize=1024)
def _digest(file: Path, size: int, mtime: int) -> str:
    # Size and time are in the cache's key, so a plan reads each file once and a changed file again.
    digest = hashlib.sha256(str(size).encode())
    with file.open("rb") as stream:
        if size <= HASH_WHOLE:
            hashlib.file_digest(stream, lambda: digest)
        else:
            digest.update(stream.read(1 << 20))
            stream.seek(-(1 << 20), os.SEEK_END)
            digest.update(stream.read())
    return digest.hexdigest()


def check_folder(name: str, folder: Path) -> None:
    """Raises UserError that lists everything that is missing or broken; ``name`` is what the recipe calls the model."""
    problems: list[str] = []
    for check in (_check_config, _check_weights, lambda folder: token_ids(folder / "tokenizer.json"), _check_template):
        try:
            check(folder)
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError(
            f"model folder {name!r} cannot be loaded: {'; '.join(problems)}. "
            "Point to a checkpoint saved with save_pretrained, by the model and by its tokenizer."
        )
    check_contents(name, folder)


def check_contents(name: str, folder: Path) -> None:
    """Raises UserError where the weights, as far as they are here, are not those of the model that the folder says."""
    try:
        tokenizer = tokenizer_files(folder) if (folder / "tokenizer.json").is_file() else None
        highest_id = max(text_ids(tokenizer), default=-1) if tokenizer else -1
        problems = weight_problems(stored_weights(folder), text_config(folder), highest_id, adapter_files(folder))
        problems += end_problems(folder, tokenizer) if tokenizer else []
    except UserError as error:
        problems = [str(error)]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        problems = [f"one of its JSON files has another form than a loader reads ({error!r})"]
    if problems:
        raise UserError(f"model {name!r} would not be the model that its files say: {'; '.join(problems)}.")


def stored_weights(folder: Path) -> dict[str, StoredTensor]:
    """What a loader would read: the one file, or those of the index; none where one is not here. Raises UserError."""
    shards = read_object(folder / INDEX).get("weight_map") if (folder / INDEX).is_file() else {SINGLE: SINGLE}
    stated = shards if isinstance(shards, dict) else {}
    names = {str(shard) for shard in stated.values()}
    if (folder / SINGLE).is_file():
        if names and SINGLE not in names and all((folder / name).is_file() for name in names):
            raise UserError(
                f"it holds {SINGLE}, which a loader takes, and {INDEX} with other files: delete one of them"
            )
        names, stated = {SINGLE}, {}
    files = [folder / name for name in sorted(names)]
    tensors = weight_shapes(files) if all(file.is_file() for file in files) else {}
    if tensors and (absent := sorted(stated.keys() - tensors.keys())):
        raise UserError(f"{INDEX} names {absent[0]}, which its file does not hold: one of them is of another save")
    return tensors


def adapter_files(folder: Path) -> list[str]:
    # A loader looks for the configuration; without one, weights of an adapter are only a file beside.
    return sorted(file.name for file in folder.glob("adapter_*")) if (folder / "adapter_config.json").is_file() else []


def text_config(folder: Path) -> dict[str, Json]:
    """``config.json`` as ``PretrainedConfig.get_text_config`` gives it. Raises UserError where it cannot be read."""
    config = read_object(folder / "config.json")
    text_part = config.get("text_config")
    return {**config, **text_part} if isinstance(text_part, dict) else config


def context_of(config: Mapping[str, Any]) -> int | None:
    """Tokens that a model of this (text) configuration reads; ``None`` where it does not say.

    LongRoPE (Phi-3 and 4) has other frequencies once a row of a batch is longer than the original length: beside one,
    shorter rows are read otherwise than alone. So it is that length which counts.
    """
    # The second is the name of GPT-2 and its relatives, the third that of MPT.
    lengths = (config.get(name) for name in ("max_position_embeddings", "n_positions", "max_seq_len"))
    length = next((length for length in lengths if isinstance(length, int)), None)
    rope = config.get("rope_parameters") or config.get("rope_scaling")
    if isinstance(rope, Mapping) and rope.get("rope_type", rope.get("type")) in ("longrope", "su"):
        originals = (part.get("original_max_position_embeddings") for part in (config, rope))
        return next((original for original in originals if isinstance(original, int)), length)
    return length


def head_size_of(config: Mapping[str, Any]) -> int | None:
    """Of the attention of a model of this (text) configuration; ``None`` where it does not say."""
    width, heads = config.get("hidden_size"), config.get("num_attention_heads")
    usual = width // heads if isinstance(width, int) and isinstance(heads, int) and heads else None
    stated = config.get("head_dim")
    return stated if isinstance(stated, int) else usual


def _check_config(folder: Path) -> None:
    if not isinstance(read_object(folder / "config.json").get("model_type"), str):
        raise UserError("config.json names no model_type")


def _check_weights(folder: Path) -> None:
    if (folder / SINGLE).is_file():
        return
    if (folder / INDEX).is_file():
        shards = read_object(folder / INDEX).get("weight_map")
        if not isinstance(shards, dict):
            raise UserError(f"{folder / INDEX} has no weight_map")
        missing_shards = sorted({str(shard) for shard in shards.values() if not (folder / str(shard)).is_file()})
        if missing_shards:
            raise UserError(f"{INDEX} names {', '.join(missing_shards)}, not there")
        return
    if (folder / "adapter_config.json").is_file():
        raise UserError("an adapter alone: merge it into its base model (peft: merge_and_unload) and save that")
    # Trainer leaves training_args.bin beside good weights.
    pickles = sorted({file.name for pattern in PICKLES for file in folder.glob(pattern)} - {"training_args.bin"})
    if pickles:
        problem = "is in a format that can run code when it is loaded, save it again"
        raise UserError(f"no {SINGLE}; {', '.join(pickles)} {problem}")
    others = sorted(file.name for end in ("safetensors", "gguf", "onnx") for file in folder.glob(f"*.{end}"))
    beside = f"; {', '.join(others[:3])} is no file that a loader takes" if others else ""
    raise UserError(f"no weights ({SINGLE}, or {INDEX} with its shards){beside}")


def _check_template(folder: Path) -> None:
    settings = _any_object(folder / "tokenizer_config.json")
    has_file = any(file.stat().st_size for file in folder.glob("*.jinja"))
    if settings and not settings.get("chat_template") and not has_file:
        raise UserError("no chat template (chat_template.jinja, or chat_template in tokenizer_config.json)")


class TokenizerFiles(NamedTuple):
    """What ``tokenizer.json`` and the files beside it say."""

    ids: Mapping[str, int]
    added: Mapping[str, bool]
    """Tokens that are never cut, and whether each is special."""
    roles: Mapping[str, str | None]
    """As eos to its token; a role that no file speaks of is not here."""
    templates: str


def tokenizer_files(folder: Path) -> TokenizerFiles:
    """Raises UserError where one of the files cannot be read."""
    ids, content = dict(token_ids(folder / "tokenizer.json")), _any_object(folder / "tokenizer.json")
    settings = _any_object(folder / "tokenizer_config.json")
    added = {token["content"]: bool(token.get("special")) for token in content.get("added_tokens", [])}
    # A loader adds what these two name beside.
    beside = {token["content"]: int(number) for number, token in (settings.get("added_tokens_decoder") or {}).items()}
    beside |= _any_object(folder / "added_tokens.json")
    added, ids = dict.fromkeys(beside, False) | added, beside | ids
    roles: dict[str, str | None] = {}
    for source in (_any_object(folder / "special_tokens_map.json"), settings):
        named = {role: source[f"{role}_token"] for role in ROLES if f"{role}_token" in source}
        roles |= {role: token["content"] if isinstance(token, dict) else token for role, token in named.items()}
    for token in filter(None, roles.values()):
        ids.setdefault(token, max(ids.values(), default=-1) + 1)
    templates = [file.read_text(encoding="utf-8", errors="replace") for file in sorted(folder.glob("*.jinja"))]
    templates += [json.dumps(settings["chat_template"], ensure_ascii=False)] if settings.get("chat_template") else []
    return TokenizerFiles(ids, added, roles, "\n".join(templates))


def _any_object(file: Path) -> dict[str, Any]:
    return dict(read_object(file)) if file.is_file() else {}


def text_ids(tokenizer: TokenizerFiles) -> set[int]:
    """Ids that text can become: all but special tokens that neither the chat template nor a role (as eos) names."""
    return {
        number
        for token, number in tokenizer.ids.items()
        if not tokenizer.added.get(token) or token in tokenizer.roles.values() or token in tokenizer.templates
    }


def end_problems(folder: Path, tokenizer: TokenizerFiles) -> list[str]:
    """Why answers would end nowhere, or at an ordinary word."""
    file = folder / "generation_config.json"
    stated = (read_object(file) if file.is_file() else text_config(folder)).get("eos_token_id")
    ends: list[Any] = stated if isinstance(stated, list) else [] if stated is None else [stated]
    name = file.name if file.is_file() else "config.json"
    if not all(isinstance(end, int) for end in ends):
        return [f"{name} says eos_token_id {stated!r}: a number or a list of numbers"]
    roles, marks = tokenizer.roles, {*tokenizer.added, *tokenizer.roles.values()}
    words = {number: token for token, number in tokenizer.ids.items() if token not in marks}
    problems = [
        f"{name} says eos_token_id {end}, and that is {words[end]!r}, an ordinary token of the tokenizer: every answer "
        "would end where it stands; set it to the id of the token that ends a turn"
        for end in ends
        if end in words
    ]
    # Classes of tokenizers but the general ones have an end of text of their own where the files name none.
    is_general = _any_object(folder / "tokenizer_config.json").get("tokenizer_class") in GENERAL_TOKENIZERS
    has_end = bool(roles["eos"]) if "eos" in roles else not is_general
    special_tokens = [token for token, is_special in tokenizer.added.items() if is_special]
    if not has_end and tokenizer.templates and not any(token in tokenizer.templates for token in special_tokens):
        text = "its tokenizer has no eos_token and its chat template no special token, so no token ends an answer"
        problems.append(text + ": set eos_token, or make the text that ends a turn a special token")
    return problems


def token_ids(file: Path) -> dict[str, int]:
    """Token to id, added tokens included. Raises UserError when this is not a tokenizer of the tokenizers library."""
    status = file.stat() if file.is_file() else None
    return _token_ids(file, status and (status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=16)
def _token_ids(file: Path, stamp: tuple[int, int] | None) -> dict[str, int]:
    # ``stamp`` (size and time) is only there for the cache: a changed file is read again.
    content: Any = read_object(file)
    try:
        vocabulary = content["model"]["vocab"]
        if isinstance(vocabulary, list):  # Unigram: [token, score] pairs, the id is the position
            vocabulary = {token: number for number, (token, _) in enumerate(vocabulary)}
        return {**vocabulary, **{token["content"]: token["id"] for token in content.get("added_tokens", [])}}
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{file} holds no vocabulary (model.vocab)") from error


def read_object(file: Path) -> dict[str, Json]:
    """A JSON object. Raises UserError when the file is missing, unreadable or something else."""
    try:
        content = parse_json(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"no {file.name}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read as JSON ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} is not a JSON object")
    return content
