"""Forward passes on a cache, each behind a trial against plain ones on a few tokens; where it fails, there is no cache.

The teacher reads n responses to one prompt, and n orders of the same answers after the same request. ``Reader`` runs
the beginnings (padded on the left), then the rest of each row on the cache of its beginning. ``Stepper`` runs rows that
grow token by token.
"""

from __future__ import annotations

import copy
import inspect
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

LEAST_SHARED = 8  # a shared beginning of fewer tokens is not worth a pass of its own
DEEPEST = 100  # branchings in a row after which rows are taken one by one (texts that nest without end)
MOST_PADDING = 0.1  # a batch is cut where more of it than this would be padding
NO_CACHE = (AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError)
"""What models raise that have no such cache."""
log = logging.getLogger(__name__)


class ReadRow(NamedTuple):
    """Token ids, and the first position whose hidden state is read (all later ones are too)."""

    ids: Sequence[int]
    first_read: int


class PrefixGroup(NamedTuple):
    """Indices of rows with a common beginning of ``shared_tokens`` (0: a row by itself)."""

    shared_tokens: int
    rows: tuple[int, ...]


def group_by_prefix(rows: Sequence[ReadRow]) -> list[PrefixGroup]:
    """Every row in one group, by the cheapest grouping of one level."""
    # In lexicographic order, rows with a common beginning stand side by side.
    order = sorted(range(len(rows)), key=lambda index: (list(rows[index].ids), index))
    return _split(rows, order, 0)[1]


def _split(rows: Sequence[ReadRow], order: Sequence[int], depth: int) -> tuple[int, list[PrefixGroup]]:
    """(tokens to compute, groups) of rows in lexicographic order, by trying every branching of their common tree."""
    single_rows = [PrefixGroup(0, (index,)) for index in order]
    if len(order) == 1 or depth > DEEPEST:
        return sum(len(rows[index].ids) for index in order), single_rows
    # In sorted order, what the first and the last row share is shared by all rows between them.
    first, last = rows[order[0]].ids, rows[order[-1]].ids
    shortest = min(len(first), len(last))
    common = next((place for place in range(shortest) if first[place] != last[place]), shortest)
    # A beginning ends before the first wanted position of its rows, so that each row has something of its own.
    prefix = min([common, *(rows[index].first_read for index in order)])
    joint = prefix + sum(len(rows[index].ids) - prefix for index in order)
    branches: dict[tuple[int, int], list[int]] = {}
    for index in order:
        is_whole = len(rows[index].ids) <= common
        branches.setdefault((-1, index) if is_whole else (0, rows[index].ids[common]), []).append(index)
    separate, groups = 0, list[PrefixGroup]()
    for branch in branches.values():
        tokens, inner = _split(rows, branch, depth + 1)
        separate, groups = separate + tokens, groups + inner
    if prefix >= LEAST_SHARED and joint < separate:
        return joint, [PrefixGroup(prefix, tuple(order))]
    return separate, groups


def length_batches(lengths: Sequence[int], limit: int, most_padding: float = MOST_PADDING) -> Iterator[list[int]]:
    """Indices sorted by length, cut where longest x count would exceed ``limit``, or padding ``most_padding``."""
    batch: list[int] = []
    token_count = 0
    for index in sorted(range(len(lengths)), key=lambda index: (lengths[index], index)):
        padded = lengths[index] * (len(batch) + 1)
        if batch and (padded > limit or token_count + lengths[index] < (1 - most_padding) * padded):
            yield batch
            batch, token_count = [], 0
        batch.append(index)
        token_count += lengths[index]
    if batch:
        yield batch


def padded(
    rows: Sequence[Sequence[int]], pad: int, side: Literal["left", "right"], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, [B, T] each, of rows padded to the longest."""

    ids = pad_sequence([torch.tensor(row) for row in rows], True, pad, side)
    mask = pad_sequence([torch.ones(len(row), dtype=torch.long) for row in rows], True, 0, side)
    return ids.to(device), mask.to(device)


class Reader:
    """Hidden states of many rows through one model, beginnings shared. Counts what it computes."""

    def __init__(self, model: Any, pad: int, batch_tokens: int, sharing: bool = True) -> None:
        self.model, self.pad, self.batch_tokens, self.sharing = model, pad, batch_tokens, sharing
        # ``positions``: tokens that went through the model, padding included; ``tokens``: those without it;
        # ``separate``: what separate rows would have had, without any padding
        self.counts: Counter[str] = Counter()

    def hidden(self, rows: Sequence[ReadRow]) -> Iterator[tuple[int, Tensor]]:
        """(index, [tokens from ``first_read`` on, H]) of every row, in the order of computation."""
        for batch in self.batches(rows):
            yield from self.read(rows, batch)

    def batches(self, rows: Sequence[ReadRow]) -> Iterator[list[PrefixGroup]]:
        """All rows, in groups that are computed together: what ``read`` takes."""
        groups = group_by_prefix(rows) if self.sharing else [PrefixGroup(0, (index,)) for index in range(len(rows))]
        single = [group for group in groups if not group.shared_tokens]
        sharing = [group for group in groups if group.shared_tokens]
        for batch in length_batches([len(rows[group.rows[0]].ids) for group in single], self.batch_tokens):
            yield [single[place] for place in batch]
        # Room for the caches of a batch: what its rows would take.
        for batch in length_batches([group.shared_tokens for group in sharing], self.batch_tokens):
            yield [sharing[place] for place in batch]

    def read(self, rows: Sequence[ReadRow], batch: Sequence[PrefixGroup]) -> Iterator[tuple[int, Tensor]]:
        self.counts["separate"] += sum(len(rows[index].ids) for group in batch for index in group.rows)
        with torch.inference_mode():
            if not batch[0].shared_tokens:
                yield from self._continue_prefixes(rows, batch, None)
                return
            starts = [list(rows[group.rows[0]].ids[: group.shared_tokens]) for group in batch]
            # Padded on the left, so that every beginning ends where the rest of its rows begins.
            ids, mask = padded(starts, self.pad, "left", self.model.device)
            self._count(ids, starts)
            yield from self._continue_prefixes(rows, batch, (prefill(self.model, ids, mask), mask))

    def _continue_prefixes(
        self, rows: Sequence[ReadRow], groups: Sequence[PrefixGroup], prefix_state: tuple[Any, Tensor] | None
    ) -> Iterator[tuple[int, Tensor]]:
        """The rest of the groups' rows after their beginnings (``prefix_state``: cache and mask, one row per group)."""
        device = self.model.device
        members = [(place, index) for place, group in enumerate(groups) for index in group.rows]
        starts = [groups[place].shared_tokens for place, _ in members]
        rests = [list(rows[index].ids[start:]) for (_, index), start in zip(members, starts, strict=True)]
        for batch in length_batches(list(map(len, rests)), self.batch_tokens):
            ids, mask = padded([rests[number] for number in batch], self.pad, "right", device)
            begin = torch.tensor([starts[number] for number in batch], device=device)
            positions = begin[:, None] + torch.arange(ids.shape[1], device=device)
            cache: dict[str, Any] = {"use_cache": False}
            if prefix_state is not None:
                cache_rows = torch.tensor([members[number][0] for number in batch], device=device)
                mask = torch.cat([prefix_state[1][cache_rows], mask], 1)
                cache = with_cache(self.model.get_decoder(), select_rows(prefix_state[0], cache_rows))
            decoder = self.model.get_decoder()
            out = decoder(input_ids=ids, attention_mask=mask, position_ids=positions, **cache).last_hidden_state
            self._count(ids, [rests[number] for number in batch])
            for line, number in enumerate(batch):
                index, start = members[number][1], starts[number]
                yield index, out[line, rows[index].first_read - start : len(rows[index].ids) - start]

    def _count(self, ids: Tensor, rows: Sequence[Sequence[int]]) -> None:
        self.counts.update(positions=ids.numel(), tokens=sum(map(len, rows)))


class Stepper:
    """The hidden state after the last token of rows that grow: on a cache, or from the whole rows each time."""

    def __init__(self, model: Any, cached: bool) -> None:
        self.model, self.ids = model, torch.empty(0, dtype=torch.long)
        self.cache = DynamicCache(config=model.config) if cached else None

    def state(self, ids: Tensor, mask: Tensor) -> Tensor:
        """[B, H]. ``ids`` [B, t]: the tokens after those of the last call; ``mask`` [B, T]: of all, 0 at the left."""
        if self.cache is not None:
            positions = (mask.cumsum(1) - 1).clamp_min(0)[:, -ids.shape[1] :]
            cache = with_cache(self.model.base_model, self.cache)
            out = self.model.base_model(input_ids=ids, attention_mask=mask, position_ids=positions, **cache)
            last: Tensor = out.last_hidden_state[:, -1]
            return last
        self.ids = torch.cat([self.ids.to(ids).reshape(len(ids), -1), ids], 1)
        # Padding goes to the right, where no token sees it.
        order, lengths = mask.argsort(dim=1, descending=True, stable=True), mask.sum(1, keepdim=True)
        positions = torch.arange(mask.shape[1], device=mask.device).minimum(lengths - 1)
        out = self.model.base_model(
            input_ids=self.ids.gather(1, order), attention_mask=mask.gather(1, order), position_ids=positions,
            use_cache=False,
        )  # fmt: skip
        states: Tensor = out.last_hidden_state
        return states[torch.arange(len(ids), device=mask.device), lengths[:, 0] - 1]


def with_cache(decoder: Any, cache: Any) -> dict[str, Any]:
    """Arguments of a forward pass on ``cache``. Mamba takes it by another name, and ignores the usual one."""
    names = inspect.signature(decoder.forward).parameters
    return {"use_cache": True, ("cache_params" if "cache_params" in names else "past_key_values"): cache}


def prefill(model: Any, ids: Tensor, mask: Tensor) -> Any:
    """The cache of left-padded rows [B, T]."""
    positions = (mask.cumsum(1) - 1).clamp_min(0)
    cache, decoder = DynamicCache(config=model.config), model.get_decoder()
    decoder(input_ids=ids, attention_mask=mask, position_ids=positions, **with_cache(decoder, cache))
    return cache


def select_rows(cache: Any, rows: Tensor) -> Any:
    # Shallow copies are enough: selecting rows replaces the tensors of a layer, it does not write into them.
    selection = copy.copy(cache)
    selection.layers = [copy.copy(layer) for layer in cache.layers]
    selection.batch_select_indices(rows)
    return selection


def is_close(values: Tensor, plain_values: Tensor, dtype: torch.dtype) -> bool:
    """Whether two computations of [..., H] are one up to rounding, at every position: a mean over H, because a few
    entries of hidden states are far larger than the rest."""
    difference = (values - plain_values).abs().mean(-1) / plain_values.abs().mean(-1)
    # bfloat16 has 8 significant bits: what differs by a few percent there may be rounding.
    return bool((difference <= (1e-3 if dtype == torch.float32 else 0.1)).all())


def supports_prefix_sharing(model: Any) -> bool:
    """Whether rows on shared caches give the hidden states of separate rows: a trial."""
    rows = []
    for start in (range(3, 3 + LEAST_SHARED), range(7, 7 + LEAST_SHARED + 3)):  # the shorter is padded
        rows += [ReadRow(trial_ids(model, (*start, *tail)), len(start) - 1) for tail in ([5, 4], [6, 7, 8])]
    try:
        shared = dict(Reader(model, 0, 1024).hidden(rows))
    except NO_CACHE:
        return False
    separate = dict(Reader(model, 0, 1024, sharing=False).hidden(rows))
    return all(is_close(shared[index], separate[index], model.dtype) for index in separate)


@torch.no_grad()
def supports_stepping(model: Any) -> bool:
    """Whether ``Stepper`` gives the same with a cache as without: a trial, once per model. The model is in evaluation
    mode."""
    known: bool | None = getattr(model, "distilbench_stepping", None)
    if known is None:
        known = model.distilbench_stepping = _steps_exactly(model)
        if not known:
            log.warning("%s: its cache does not give what whole rows give; live responses are drawn without it, "
                        "which takes longer", model.name_or_path)  # fmt: skip
    return known


def _steps_exactly(model: Any) -> bool:
    ids, mask = padded([trial_ids(model, range(3, 10)), trial_ids(model, range(10, 13))], 0, "left", model.device)
    cached, plain = Stepper(model, cached=True), Stepper(model, cached=False)
    # In the precision of the weights: that of training would hide a small difference.
    with torch.autocast(model.device.type, enabled=False):
        for step in range(3):
            plain_state = plain.state(ids, mask)
            try:
                if not is_close(cached.state(ids, mask), plain_state, model.dtype):
                    return False
            except NO_CACHE:
                return False
            ids = torch.tensor([trial_ids(model, [13 + step]), trial_ids(model, [17 - step])], device=model.device)
            mask = torch.cat([mask, torch.ones_like(ids)], 1)
    return True


def trial_ids(model: Any, numbers: Iterable[int]) -> list[int]:
    """Token ids of a trial. ``numbers`` from 3 on: the first ids are often special."""
    rows = model.get_input_embeddings().weight.shape[0]
    return [number % rows for number in numbers]
