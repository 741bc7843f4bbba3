"""What frozen models say about a method's rows, computed once by a stage and read while training.

A folder of teachers' distributions holds ``index.json`` (positions of each row of each group) and, over all positions,
``ids.npy`` [N, k] int32, ``logps.npy`` [N, k] float32 and ``rest.npy`` [N] float32. Memory-mapped: 60 thousand prompts
at k = 50 are tens of GB.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from harness.contracts.method import DistributionStorage, TopK, log_probabilities
from harness.contracts.model import ReadsTokenLogps
from harness.errors import UserError
from harness.journal import Journal
from harness.models.chat import pad_id, tokenizer_difference, vocabulary_size
from harness.models.load import load_tokenizer, load_weights, logits_of, pick_device
from harness.training.batches import Example, MicroBatch, micro_batch, prepare
from harness.training.forward import choose, host, response_terms, states_of
from harness.training.options import Progress, Training
from harness.training.shortcuts import CHUNK_NUMBERS

REST_FLOOR = 1e-7
SLAB = 256
"""Prompts that an engine is asked about at once: enough to keep it busy to the last."""
ARRAYS = {"ids": torch.int64, "logps": torch.float32, "rest": torch.float32}


def rest_of(logps: Tensor) -> Tensor:
    """[..., k] log-probabilities -> [...] log of the mass that is left, log1p(-exp(lse)), at least log 1e-7."""
    top_mass = logps.double().logsumexp(-1).exp()
    return torch.log1p(-top_mass.clamp(max=1 - REST_FLOOR)).to(logps.dtype)


class StoredRows:
    """``rows``: per group, the number of stored positions of each row."""

    def __init__(self, rows: Sequence[Sequence[int]]) -> None:
        self.rows = rows
        self.starts: list[int] = np.cumsum([0, *map(sum, rows)]).tolist()

    def spans(self, examples: Sequence[Example]) -> Iterator[tuple[slice, slice]]:
        """Row by row: its place in the arrays, and among these examples' tokens. Raises ValueError on other lengths."""
        place = 0
        for example in examples:
            start, sizes = self.starts[example.group], self.rows[example.group]
            lengths = [len(row.response) for row in example.rows]
            for size, length in zip(sizes, lengths, strict=True):
                if size not in (0, length):
                    raise ValueError(f"prompt {example.id!r}: rows of {lengths} tokens, but stored are {sizes}")
                yield slice(start, start + size), slice(place, place + size)
                start, place = start + size, place + length


class StoredDistributions:
    def __init__(self, folders: Mapping[str, str | Path]) -> None:
        indices = [json.loads((Path(folder) / "index.json").read_text(encoding="utf-8")) for folder in folders.values()]
        if any(index["rows"] != indices[0]["rows"] for index in indices):
            raise ValueError("the teachers' stores are of different rows")
        self.rows = StoredRows(indices[0]["rows"])
        self.arrays = {
            name: [(np.load(Path(folder) / f"{array}.npy", mmap_mode="r"), dtype) for array, dtype in ARRAYS.items()]
            for name, folder in folders.items()
        }

    def of(self, examples: Sequence[Example], device: torch.device) -> dict[str, TopK]:
        spans = list(self.rows.spans(examples))
        count = sum(len(row.response) for example in examples for row in example.rows)
        result = {}
        for name, arrays in self.arrays.items():
            tensors = [torch.zeros((count, *array.shape[1:]), dtype=dtype) for array, dtype in arrays]
            for tensor, (array, _) in zip(tensors, arrays, strict=True):
                for source, place in spans:
                    # A copy: torch takes no read-only memory.
                    tensor[place] = torch.from_numpy(np.array(array[source]))
            result[name] = TopK(*(tensor.to(device) for tensor in tensors))
        return result


def check_vocabulary(training: Training, tokenizer: PreTrainedTokenizerBase) -> str | Path:
    """The teacher's place. Raises UserError where its vocabulary is not the student's."""
    name, trust = training.method.name, training.trust_remote_code
    if training.teacher is None:
        raise ValueError(f"{name} needs a teacher checkpoint")
    reason = tokenizer_difference(tokenizer, load_tokenizer(training.teacher, trust))
    if reason:
        raise UserError(f"{name} needs a shared vocabulary: {reason}. Choose a teacher of the student's family.")
    return training.teacher


def load_teacher(training: Training, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """Frozen, on its device. Raises as ``check_vocabulary``."""
    place, dtype = check_vocabulary(training, tokenizer), getattr(torch, training.options.dtype)
    teacher = load_weights(place, tokenizer, dtype, training.trust_remote_code)
    frozen: PreTrainedModel = teacher.requires_grad_(False).train(False).to(pick_device(training.device))
    return frozen


@torch.no_grad()
def store_distributions(
    training: Training,
    spec: DistributionStorage,
    out: Path,
    like: Path | None = None,
    progress: Progress | None = None,
    journal: Journal = Journal(),
    reader: ReadsTokenLogps | None = None,
) -> dict[str, int | float]:
    """Write the distributions of ``training.teacher`` on the method's rows; ``like``: another teacher's store whose
    tokens are taken; ``reader``: the teacher behind an engine, at temperature 1 and without ``like``. Returns counts.
    Raises UserError where vocabularies differ or no prompt can be used."""
    tokenizer = load_tokenizer(training.student, training.trust_remote_code)
    teacher = load_teacher(training, tokenizer) if reader is None else None
    if reader is not None:
        check_vocabulary(training, tokenizer)
    place = str(teacher.device) if teacher is not None else f"{cast('ReadsTokenLogps', reader).name} behind an engine"
    examples, _ = prepare(training, tokenizer)
    roles = training.method.needs.distribution_roles
    lengths: list[list[int]] = [[] for _ in training.groups]
    for example in examples:
        sizes = [len(row.response) if not roles or row.role in roles else 0 for row in example.rows]
        lengths[example.group] = sizes
    rows, k = StoredRows(lengths), min(spec.top_k, vocabulary_size(tokenizer))
    count = rows.starts[-1]
    if not count:
        raise ValueError(f"{training.method.name}: no row has one of the roles {roles}")
    (out / "index.json").write_text(json.dumps({"rows": lengths, "k": k, "positions": count}), encoding="utf-8")
    arrays = open_arrays(journal.folder or out, count, k)
    tokens = None if like is None else StoredDistributions({"like": like})
    rest_mass, sources = 0.0, [example for example in examples if any(lengths[example.group])]

    def store(chunk: Sequence[Example]) -> tuple[int, list[float]]:
        """(checksum of what is now in the arrays, mass beyond the top k of each row)."""
        if teacher is None:
            top_ids, top_logps = read_top(cast("ReadsTokenLogps", reader), chunk, lengths, k)
        else:
            micro = micro_batch(chunk, pad_id(tokenizer), teacher.device)
            fixed_ids = None if tokens is None else tokens.of(chunk, teacher.device)["like"].ids
            top_ids, top_logps = _top(teacher, micro, vocabulary_size(tokenizer), spec.temperature, k, fixed_ids)
        top_rest = rest_of(top_logps)
        for target, source in rows.spans(chunk):
            for array, values in zip(arrays, (top_ids, top_logps.float(), top_rest.float()), strict=True):
                array[target] = values[source].cpu().numpy()
        masses = [float(top_rest[source].double().exp().sum()) for _, source in rows.spans(chunk)]
        return stored_checksum(arrays, rows, chunk), masses

    for chunk in passes(training, sources, progress, None if reader is None else SLAB):
        content = ["distributions", place, k, spec.temperature, row_content(chunk)]
        # The journal may have outlived the arrays: after a power cut, or a kill while they were moved.
        _, masses = journal.once(content, partial(store, chunk), partial(is_stored, arrays, rows, chunk))
        for mass in masses:
            rest_mass += mass
    move_arrays(arrays, out)
    if not math.isfinite(rest_mass):
        raise ValueError("the teacher gave log-probabilities that are not numbers")
    return {"positions": count, "top_k": k, "mean_rest_mass": rest_mass / count}


Arrays = list[np.memmap[Any, Any]]


def open_arrays(folder: Path, count: int, k: int) -> Arrays:
    """``ids``, ``logps`` and ``rest``, to be written; files that are there and have this form are kept."""
    forms = (("ids", np.int32, (count, k)), ("logps", np.float32, (count, k)), ("rest", np.float32, (count,)))
    return [open_array(folder / f"{name}.npy", dtype, shape) for name, dtype, shape in forms]


def open_array(path: Path, dtype: type, shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    with suppress(OSError, ValueError):
        array = np.lib.format.open_memmap(path, mode="r+")
        if array.dtype == dtype and array.shape == shape:
            return array
    return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)


def move_arrays(arrays: Arrays, folder: Path) -> None:
    for array in arrays:
        array.flush()
        path = Path(str(array.filename))
        if path.parent != folder:
            try:
                # A kill before the artifact is in its place must not lose them, so they keep their first name too.
                (folder / path.name).hardlink_to(path)
            except OSError:  # a file system without links
                path.rename(folder / path.name)


def stored_checksum(arrays: Arrays, rows: StoredRows, chunk: Sequence[Example]) -> int:
    checksum = 0
    for target, _ in rows.spans(chunk):
        for array in arrays:
            checksum = zlib.crc32(array[target].tobytes(), checksum)
    return checksum


def is_stored(arrays: Arrays, rows: StoredRows, chunk: Sequence[Example], kept: tuple[int, list[float]]) -> bool:
    return kept[0] == stored_checksum(arrays, rows, chunk)


def row_content(chunk: Sequence[Example]) -> list[object]:
    """What a frozen model reads of these prompts, as JSON for the journal."""
    return [[list(example.prompt), [list(row.response) for row in example.rows]] for example in chunk]


def passes(
    training: Training, examples: Sequence[Example], progress: Progress | None, slab: int | None = None
) -> Iterator[list[Example]]:
    # Prompts of similar length together: they pad little.
    by_length, size = sorted(examples, key=lambda example: example.longest), slab or training.options.micro_batch
    starts = range(0, len(by_length), size)
    for count, start in enumerate(starts, 1):
        yield by_length[start : start + size]
        if progress is not None:
            progress(count, len(starts), {})


def read_top(
    reader: ReadsTokenLogps, chunk: Sequence[Example], lengths: Sequence[Sequence[int]], k: int
) -> tuple[Tensor, Tensor]:
    """As ``_top``; zeros for rows that are not stored."""
    rows = [
        (example.prompt, row.response, size)
        for example in chunk
        for row, size in zip(example.rows, lengths[example.group], strict=True)
    ]
    read = iter(reader.token_logps([(prompt, response) for prompt, response, size in rows if size], k))
    ids: list[list[int]] = []
    logps: list[list[float]] = []
    for _, response, size in rows:
        row = next(read) if size else None
        ids += row.top_ids if row else [[0] * k for _ in response]
        logps += row.top_logps if row else [[0.0] * k for _ in response]
    return torch.tensor(ids), torch.tensor(logps)


def _top(
    teacher: PreTrainedModel, micro: MicroBatch, vocabulary: int, temperature: float, k: int, fixed_ids: Tensor | None
) -> tuple[Tensor, Tensor]:
    """([N, k] ids, [N, k] log-probabilities) at the response tokens; ``fixed_ids`` instead of the most probable."""
    states = states_of(teacher, micro)
    size = max(1, CHUNK_NUMBERS // vocabulary)
    ids, logps = [], []
    for start in range(0, len(states), size):
        values = (logits_of(teacher, states[start : start + size], vocabulary) / temperature).log_softmax(-1)
        ids.append(values.topk(k).indices if fixed_ids is None else fixed_ids[start : start + size])
        logps.append(values.gather(-1, ids[-1]))
    return torch.cat(ids), torch.cat(logps)


def with_stores(training: Training, teachers: Mapping[str, str | Path], out: Path) -> Training:
    """The run with the stores that its method needs. ``teachers``: ``family``, ``tuned`` to checkpoints."""
    method = training.method
    storage = method.storage(training.config)
    if storage is None:
        return training
    folders: dict[str, str | Path] = {}
    like = None
    for name in method.needs.teachers:
        folder = out / name
        folder.mkdir(parents=True)
        store_distributions(replace(training, teacher=teachers[name]), storage, folder, like)
        folders[name] = folder
        # The first teacher decides which tokens are kept for all.
        like = like or folder
    return replace(training, teacher_distributions=folders)


@torch.no_grad()
def reference_logps(
    training: Training,
    progress: Progress | None = None,
    journal: Journal = Journal(),
    reader: ReadsTokenLogps | None = None,
) -> list[list[float]]:
    """Summed log-probability, nats, of each row of each group (none: the group drops out), computed as in training, so
    that a loss starts where it must (DPO: log 2). ``reader``: the student behind an engine, in float32, where training
    is in float32. Raises UserError where no group can be used."""
    options, trust = training.options, training.trust_remote_code
    tokenizer = load_tokenizer(training.student, trust)
    examples, _ = prepare(training, tokenizer)
    if reader is not None:
        return _read_reference(reader, training, examples, progress, journal)
    device, vocabulary = pick_device(training.device), vocabulary_size(tokenizer)
    weights = load_weights(training.student, tokenizer, torch.float32, trust)
    student = host(weights, getattr(torch, options.dtype)).train(False).to(device)
    layout = choose(options, examples, [student], vocabulary)
    result: list[list[float]] = [[] for _ in training.groups]

    def row_sums(chunk: Sequence[Example]) -> list[float]:
        micro = layout.batch(chunk, pad_id(tokenizer), device)
        terms = response_terms(student, student, None, micro, log_probabilities, None, vocabulary)
        sums: list[float] = micro.batch.sum_rows(terms["logp"]).tolist()
        return sums

    for chunk in passes(training, examples, progress):
        content = ["reference", str(device), options.dtype, layout.packed, row_content(chunk)]
        sums = iter(journal.once(content, partial(row_sums, chunk)))
        for example in chunk:
            result[example.group] = [next(sums) for _ in example.rows]
    return result


def _read_reference(
    reader: ReadsTokenLogps,
    training: Training,
    examples: Sequence[Example],
    progress: Progress | None,
    journal: Journal,
) -> list[list[float]]:
    result: list[list[float]] = [[] for _ in training.groups]

    def row_sums(chunk: Sequence[Example]) -> list[float]:
        rows = [(example.prompt, row.response) for example in chunk for row in example.rows]
        return [math.fsum(row.own) for row in reader.token_logps(rows)]

    for chunk in passes(training, examples, progress, SLAB):
        sums = iter(journal.once(["reference", "engine", row_content(chunk)], partial(row_sums, chunk)))
        for example in chunk:
            result[example.group] = [next(sums) for _ in example.rows]
    return result
