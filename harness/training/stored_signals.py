"""What frozen models say about a method's rows, computed once by a stage and read while training.

``reference_logps``: log-probabilities under the starting student. ``store_distributions``: teachers' next-token
distributions on disk. A folder of those holds ``index.json`` (per group the number of stored positions of each of its
rows; a group that drops out has none), and three arrays over all stored positions, group by group and row by row:
``ids.npy`` [N, k] int32, ``logps.npy`` [N, k] float32 and ``rest.npy`` [N] float32 (the log of all other tokens' mass).
They are memory-mapped on both sides: 60 thousand prompts at k = 50 are tens of GB on disk, next to nothing in memory.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.contracts.method import Stored, TopK, log_probabilities
from harness.errors import UserError
from harness.models.chat import pad_id
from harness.models.load import load_tokenizer, load_weights, pick_device
from harness.models.logits import logits_of
from harness.models.vocabulary import tokenizer_difference
from harness.training.batches import Example, MicroBatch, micro_batch, prepare, shapes
from harness.training.options import Progress, Training
from harness.training.packing import choose
from harness.training.student import host
from harness.training.token_terms import CHUNK_NUMBERS, response_terms, states_of

REST_FLOOR = 1e-7
"""Smallest mass that the other tokens can have: what float32 can tell from nothing."""


def rest_of(logps: Tensor) -> Tensor:
    """[..., k] log-probabilities -> [...] log of the mass that is left, log1p(-exp(lse)), at least log 1e-7."""
    inside = logps.double().logsumexp(-1).exp()
    return torch.log1p(-inside.clamp(max=1 - REST_FLOOR)).to(logps.dtype)


class StoredDistributions:
    """The stores of one or more teachers over the same rows, as training reads them."""

    def __init__(self, folders: Mapping[str, str | Path]) -> None:
        self.arrays = {
            name: tuple(np.load(Path(folder) / f"{array}.npy", mmap_mode="r") for array in ("ids", "logps", "rest"))
            for name, folder in folders.items()
        }
        indices = [json.loads((Path(folder) / "index.json").read_text(encoding="utf-8")) for folder in folders.values()]
        if any(index["rows"] != indices[0]["rows"] for index in indices):
            raise ValueError("the teachers' stores are of different rows")
        self.rows: list[list[int]] = indices[0]["rows"]
        sizes = [sum(rows) for rows in self.rows]
        self.starts = [0, *np.cumsum(sizes).tolist()]

    def of(self, examples: Sequence[Example], device: torch.device) -> dict[str, TopK]:
        """Teacher to the distributions at all response tokens of these examples, in row order.

        Raises ValueError where a row has not as many tokens as when it was stored.
        """
        take: list[int] = []
        place: list[int] = []
        here = 0
        for example in examples:
            lengths = [len(row.response) for row in example.rows]
            stored = self.rows[example.group]
            if len(stored) != len(lengths) or any(
                s not in (0, length) for s, length in zip(stored, lengths, strict=True)
            ):
                raise ValueError(f"prompt {example.id!r}: rows of {lengths} tokens, but stored are {stored}")
            start = self.starts[example.group]
            for kept, length in zip(stored, lengths, strict=True):
                take += range(start, start + kept)
                place += range(here, here + kept)
                start, here = start + kept, here + length
        return {name: _gather(arrays, take, place, here, device) for name, arrays in self.arrays.items()}


def _gather(arrays: Sequence[Any], take: list[int], place: list[int], count: int, device: torch.device) -> TopK:
    """Positions ``take`` of the arrays at positions ``place`` of ``count``; zeros elsewhere."""
    tensors, chosen = [], np.asarray(take, dtype=np.int64)
    for array, dtype in zip(arrays, (torch.int64, torch.float32, torch.float32), strict=True):
        whole = torch.zeros((count, *array.shape[1:]), dtype=dtype)
        whole[place] = torch.from_numpy(np.asarray(array[chosen])).to(dtype)
        tensors.append(whole.to(device))
    return TopK(*tensors)


@torch.no_grad()
def store_distributions(
    training: Training, stored: Stored, out: Path, like: Path | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Write the distributions of ``training.teacher`` on the method's rows into the folder ``out``.

    Args:
        like: another teacher's store over the same rows; its tokens are taken, not this teacher's most probable.

    Returns:
        Counts: positions, tokens kept at each, mean mass of the tokens that are not kept.

    Raises:
        UserError: vocabularies that differ, or no usable prompt.
    """
    options = training.options
    trust = options.trust_remote_code
    tokenizer = load_tokenizer(training.student, trust)
    if training.teacher is None:
        raise ValueError("a store of distributions needs a teacher")
    reason = tokenizer_difference(tokenizer, load_tokenizer(training.teacher, trust))
    if reason:
        raise UserError(f"{training.method.name} needs a shared vocabulary: {reason}.")
    examples, _ = prepare(training, tokenizer)
    device = pick_device(options.device)
    teacher = load_weights(training.teacher, tokenizer, getattr(torch, options.dtype), trust)
    teacher = teacher.train(False).to(device)
    writer = _Writer(training, examples, out, min(stored.top_k, len(tokenizer)))
    tokens = None if like is None else StoredDistributions({"like": like})
    parts = by_length(writer.kept(examples), options.micro_batch)
    for done, part in enumerate(parts, 1):
        micro = micro_batch(part, pad_id(tokenizer), device)
        given = None if tokens is None else tokens.of(part, device)["like"].ids
        writer.write(part, *_top(teacher, micro, len(tokenizer), stored.temperature, writer.k, given))
        if progress is not None:
            progress(done, len(parts), {})
    return writer.finish()


def by_length(examples: Sequence[Example], size: int) -> list[list[Example]]:
    """Batches of ``size`` prompts of similar length: they pad little."""
    ordered = sorted(examples, key=lambda example: example.longest)
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def _top(
    teacher: Any, micro: MicroBatch, vocabulary: int, temperature: float, k: int, given: Tensor | None
) -> tuple[Tensor, Tensor]:
    """([N, k] ids, [N, k] log-probabilities) at the response tokens; ``given`` ids instead of the most probable."""
    states = states_of(teacher, micro)
    size = max(1, CHUNK_NUMBERS // vocabulary)
    ids, logps = [], []
    for start in range(0, len(states), size):
        values = (logits_of(teacher, states[start : start + size], vocabulary) / temperature).log_softmax(-1)
        kept = values.topk(k).indices if given is None else given[start : start + size]
        ids.append(kept)
        logps.append(values.gather(-1, kept))
    return torch.cat(ids), torch.cat(logps)


class _Writer:
    """Fills the arrays of one store, batch by batch, in whatever order they come."""

    def __init__(self, training: Training, examples: Sequence[Example], out: Path, k: int) -> None:
        self.out, self.k = out, k
        self.roles = training.method.needs.distribution_roles
        rows: list[list[int]] = [[] for _ in training.groups]
        for example in examples:
            rows[example.group] = [self.length(row.role, len(row.response)) for row in example.rows]
        self.starts = [0, *np.cumsum([sum(lengths) for lengths in rows]).tolist()]
        self.count = self.starts[-1]
        if not self.count:
            raise ValueError(f"{training.method.name}: no row has one of the roles {self.roles}")
        index = {"rows": rows, "k": k, "positions": self.count}
        (out / "index.json").write_text(json.dumps(index), encoding="utf-8")
        create = np.lib.format.open_memmap
        self.ids = create(out / "ids.npy", mode="w+", dtype=np.int32, shape=(self.count, k))
        self.logps = create(out / "logps.npy", mode="w+", dtype=np.float32, shape=(self.count, k))
        self.rest = create(out / "rest.npy", mode="w+", dtype=np.float32, shape=(self.count,))
        self.outside = 0.0

    def length(self, role: str, length: int) -> int:
        return length if not self.roles or role in self.roles else 0

    def kept(self, examples: Sequence[Example]) -> list[Example]:
        return [e for e in examples if any(self.length(row.role, len(row.response)) for row in e.rows)]

    def write(self, examples: Sequence[Example], ids: Tensor, logps: Tensor) -> None:
        """One batch: [N, k] at all response tokens of these examples, in row order."""
        rest = rest_of(logps)
        here = 0
        for example in examples:
            start = self.starts[example.group]
            for row in example.rows:
                kept = self.length(row.role, len(row.response))
                target, cut = slice(start, start + kept), slice(here, here + kept)
                self.ids[target] = ids[cut].cpu().numpy()
                self.logps[target] = logps[cut].float().cpu().numpy()
                self.rest[target] = rest[cut].float().cpu().numpy()
                self.outside += float(rest[cut].double().exp().sum())
                start, here = start + kept, here + len(row.response)

    def finish(self) -> dict[str, Any]:
        """Bring everything to disk; what was measured. Raises ValueError for a number that is not finite."""
        for array in (self.ids, self.logps, self.rest):
            array.flush()
        if not math.isfinite(self.outside):
            raise ValueError("the teacher gave log-probabilities that are not numbers")
        return {"positions": self.count, "top_k": self.k, "mean_rest_mass": self.outside / max(1, self.count)}


def with_stores(training: Training, teachers: Mapping[str, str | Path], out: Path) -> Training:
    """The run with the stores that its method wants, written under ``out``; the run itself where it wants none.

    ``teachers``: ``family`` and ``tuned`` to checkpoints. What the plan's stages do, for a run outside of a plan.
    """
    method = training.method
    stored = method.stored(training.config)
    if stored is None:
        return training
    folders: dict[str, str | Path] = {}
    like = None
    for name in method.needs.teachers:
        folder = out / name
        folder.mkdir(parents=True)
        store_distributions(replace(training, teacher=teachers[name]), stored, folder, like)
        folders[name] = folder
        like = like or folder
    return replace(training, teacher_distributions=folders)


@torch.no_grad()
def reference_logps(training: Training, progress: Progress | None = None) -> list[list[float]]:
    """Summed log-probability, nats, of each row of each group, in order; an empty list for a group that drops out.

    The same rows, forward pass and precision as in training, so that a loss against the reference starts where it must
    (DPO: log 2).

    ``progress`` counts forward passes. Raises UserError where no group can be used.
    """
    options = training.options
    trust = options.trust_remote_code
    tokenizer = load_tokenizer(training.student, trust)
    examples, _ = prepare(training, tokenizer)
    device = pick_device(options.device)
    student = host(load_weights(training.student, tokenizer, torch.float32, trust)).train(False).to(device)
    pad, vocabulary = pad_id(tokenizer), len(tokenizer)
    layout = choose(options, shapes(examples), [student], vocabulary)
    result: list[list[float]] = [[] for _ in training.groups]
    parts = by_length(examples, options.micro_batch)
    for done, part in enumerate(parts, 1):
        micro = micro_batch(part, pad, device, packed=layout.packed)
        with torch.autocast(device.type, torch.bfloat16, enabled=options.dtype == "bfloat16"):
            terms = response_terms(student, student, None, micro, log_probabilities, None, vocabulary, options.chunk)
        sums = iter(micro.batch.sum_rows(terms["logp"]).tolist())
        for example in part:
            result[example.group] = [next(sums) for _ in example.rows]
        if progress is not None:
            progress(done, len(parts), {})
    return result
