"""What the files of a checkpoint say of its weights, read from ``config.json`` and the safetensors headers. No torch.

A loader draws weights that it does not find at random, and applies an adapter that it finds: both end in a table of
numbers of another model. So a plan refuses such a folder before anything runs.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from harness.errors import UserError
from harness.text import parse_json

# torch.compile, FSDP, activation checkpointing, DeepSpeed, value heads, DataParallel and PEFT put these into keys.
WRAPPERS: Final = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module",
                   "pretrained_model")  # fmt: skip
OUTER: Final = ("module", "base_model")  # wrappers where a key begins with them; elsewhere names like any other
ADAPTERS: Final = re.compile(r"\.(?:lora_\w+|base_layer|ia3_l)(?:\.|$)")
# Classes that end in these have another head, or fill gaps: their weights write no text.
OTHER_TASKS: Final = ("Classification", "QuestionAnswering", "MaskedLM", "RewardModel", "ForScore", "MultipleChoice")
# Tensors that GPTQ, AWQ, bitsandbytes, FP8, compressed-tensors, HQQ, AQLM, quanto and MXFP4 store.
PACKING: Final = (".qweight", ".qzeros", ".g_idx", ".SCB", ".absmax", ".quant_map", ".weight_scale", "_scale_inv")
PACKING_NAMES: Final = (".weight_packed", "_blocks", "_scales", ".W_q", ".codebooks", "._data", "_zero_point")
EMBEDDINGS: Final = ("embed_tokens", "wte", "word_embeddings", "embed_in", "embeddings", "embedding", "tok_embeddings")
HEADS: Final = ("lm_head", "embed_out", "output", "output_layer")
LAYER: Final = re.compile(r"(?:^|\.)(?:layers|h|blocks|block)\.(\d+)\.")
HEADER_LIMIT: Final = 100_000_000  # bytes: the limit of the safetensors library


class StoredTensor(NamedTuple):
    dtype: str
    shape: tuple[int, ...]


def weight_shapes(files: Sequence[Path]) -> dict[str, StoredTensor]:
    """Name to type and shape, from the headers of safetensors files. Raises UserError for a damaged file."""
    tensors: dict[str, StoredTensor] = {}
    for file in files:
        status = file.stat()
        shard = _read_header(file, status.st_size, status.st_mtime_ns)
        if twice := sorted(tensors.keys() & shard):
            raise UserError(f"{file.name} and a shard before it both hold {twice[0]}: one is of another save")
        tensors |= shard
    return tensors


@lru_cache(maxsize=256)
def _read_header(file: Path, size: int, mtime: int) -> dict[str, StoredTensor]:
    # Size and time are in the cache's key: a changed file is read again.
    try:
        with file.open("rb") as stream:
            beginning = stream.read(8)
            length = int.from_bytes(beginning, "little")
            header = parse_json(stream.read(length)) if length <= min(HEADER_LIMIT, size - 8) else None
        if beginning == b"version ":
            problem = "it is a Git LFS pointer, without the weights; `git lfs pull` brings them"
        elif header is None:
            problem = "its header is cut short"
        else:
            header.pop("__metadata__", None)
            if not (problem := _contradiction(header, 8 + length, size)):
                return {name: StoredTensor(entry["dtype"], tuple(entry["shape"])) for name, entry in header.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, MemoryError) as error:
        problem = f"its header: {error!r}"
    raise UserError(f"{file.name} is damaged ({problem}): copy it again")


def _contradiction(header: Mapping[str, Any], place: int, size: int) -> str:
    """What shows that a header, which ends at ``place``, is not that of a file of this size; or empty."""
    start = place
    for name, entry in sorted(header.items(), key=lambda pair: pair[1]["data_offsets"]):
        begin, end = entry["data_offsets"]
        bits = int((re.findall(r"\d+", entry["dtype"]) or [8])[0])  # BOOL has no number
        if start + begin != place or 8 * (end - begin) != bits * math.prod(entry["shape"]):
            return f"its header contradicts itself at {name}"
        place = start + end
    return "" if place == size else f"it has {size:,} bytes, and its header says {place:,}"


def weight_problems(
    tensors: Mapping[str, StoredTensor], config: Mapping[str, Any], highest_id: int, adapter: Sequence[str]
) -> list[str]:
    """What makes these weights another model than the folder says; empty where nothing does.

    ``config``: of the language model; ``highest_id``: the largest that text can become; ``adapter``: files beside.
    """
    problems: list[str] = []
    if adapter:
        problems.append(
            f"it holds whole weights and an adapter ({', '.join(adapter)}), which a loader applies on top: delete the "
            "adapter's files if it is merged already, else merge it first (peft: merge_and_unload)"
        )
    task = next((name for name in config.get("architectures") or () if str(name).endswith(OTHER_TASKS)), None)
    if task or config.get("is_encoder_decoder"):
        text = f"config.json says that it is {task or 'an encoder-decoder'}, and only models that go on with a text "
        problems.append(text + "(ForCausalLM) can be read and trained")
    if part := next(filter(ADAPTERS.search, tensors), None):
        text = f"it holds the tensors of an adapter that is not merged ({part!r}), which a loader leaves out: merge it "
        return [*problems, text + "(peft: merge_and_unload) and save that"]
    if quantisation := _quantisation(config, tensors):
        text = f"its weights are quantised ({quantisation}), and training and log-probabilities need plain ones: "
        return [*problems, text + "save it in bfloat16, or serve it and evaluate it as NAME@URL"]
    for name in tensors:
        parts = name.split(".")
        wrapper = next((part for part in parts if part in WRAPPERS), parts[0] if parts[0] in OUTER else None)
        if wrapper:
            problems.append(
                f"its weights were saved from a wrapped module ({name!r}), so a loader finds none of these names and "
                f"draws the weights at random: save the module inside, or take {wrapper!r} out of the names"
            )
            return problems
    return problems + list(_size_problems(tensors, config, highest_id))


def _quantisation(config: Mapping[str, Any], tensors: Mapping[str, StoredTensor]) -> str:
    """How, or empty."""
    settings = config.get("quantization_config") or config.get("compression_config")
    if isinstance(settings, Mapping):
        bits = [f", {bits} bits" for bits in (4, 8) if settings.get(f"load_in_{bits}bit")]
        return f"quantization_config: {settings.get('quant_method', 'unknown')}{''.join(bits[:1])}"
    for name, (dtype, shape) in tensors.items():
        # Masks of old checkpoints are integers too, but they are no weights.
        if name.endswith((*PACKING, *PACKING_NAMES)) or (
            (name.endswith("weight") and len(shape) > 1 and dtype[0] not in "BF") or dtype.startswith(("F8", "F4"))
        ):
            return f"{name} is {dtype}"
    return ""


def _size_problems(tensors: Mapping[str, StoredTensor], config: Mapping[str, Any], highest_id: int) -> Iterator[str]:
    stated_size = config.get("vocab_size")
    rows_by_part = {}
    for names, part in ((EMBEDDINGS, "embedding"), (HEADS, "output layer")):
        ends = tuple(f".{name}.weight" for name in names)
        outside = {name: tensor.shape for name, tensor in tensors.items() if not LAYER.search(name)}
        shapes = {name: shape for name, shape in outside.items() if f".{name}".endswith(ends)}
        row_counts = {name: shape[0] for name, shape in shapes.items() if len(shape) == 2}
        rows_by_part[part] = row_counts
        # A model of several media embeds other things too: the tensor with the vocabulary's size is meant.
        if not row_counts or any(count == stated_size and count > highest_id for count in row_counts.values()):
            continue
        name, count = max(row_counts.items(), key=lambda pair: pair[1])
        if isinstance(stated_size, int) and count != stated_size:
            yield (
                f"config.json says vocab_size {stated_size}, and {name} has {count} rows: one of them is of another "
                f"checkpoint; set vocab_size to {count} if the tokenizer fits these weights"
            )
        elif count <= highest_id:
            yield (
                f"the tokenizer makes ids up to {highest_id}, and {name} has {count} rows: it is another model's "
                "tokenizer, or tokens were added to it alone (resize_token_embeddings, then save again)"
            )
    if rows_by_part["embedding"] and not rows_by_part["output layer"] and config.get("tie_word_embeddings") is False:
        yield "config.json says that its output layer is its own (tie_word_embeddings), and the weights have none"
    width, stated_width = {tensors[name].shape[1] for name in rows_by_part["embedding"]}, config.get("hidden_size")
    is_factored = config.get("embedding_size") or config.get("word_embed_proj_dim")
    if isinstance(stated_width, int) and width and stated_width not in width and not is_factored:
        yield f"config.json says hidden_size {stated_width}, and the embedding has {max(width)} columns"
    stacks = defaultdict[str, set[int]](set)  # of a model of several media, one is the language model's
    for match in filter(None, map(LAYER.search, tensors)):
        stacks[match.string[: match.start()]].add(int(match[1]))
    stated_count = config.get("num_hidden_layers") or config.get("n_layer")
    if not isinstance(stated_count, int) or not stacks:
        return
    # DeepSeek-V3 and GLM-4.5 store layers that predict further tokens behind their own.
    wanted, known = set(range(stated_count)), set(range(stated_count + (config.get("num_nextn_predict_layers") or 0)))
    stack = min(stacks.values(), key=lambda layers: (len(wanted - layers), len(layers - known)))
    if wanted - stack:
        absent = min(wanted - stack)
        yield f"config.json says {stated_count} layers, and the weights have no {absent}: it would be random"
    elif stack - known:
        yield (
            f"config.json says {stated_count} layers, and the weights have {len(stack)}: the last would be left out; "
            "correct num_hidden_layers, or save the model without them"
        )
