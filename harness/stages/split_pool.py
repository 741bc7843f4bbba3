"""Stage ``block``: one of k disjoint random blocks of a pool of responses (rounds that do not resample).

Every block of a pool is dealt from the same seeded shuffle of each prompt's responses, so that together they are the
pool, none twice. The teacher rewards a block after it was dealt: its multiple-choice question has the m responses of
the block, exactly as when a round samples them afresh.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping
from typing import Any

from harness.contracts.stage import Stage
from harness.records import write_records
from harness.stages.context import Work
from harness.types import Group


def run(stage: Stage, work: Work) -> Mapping[str, Any]:
    """Write ``groups.jsonl`` with block ``params["block"]`` (from 0) of ``params["blocks"]``."""
    params = stage.params
    pool = work.records(stage, "samples", "groups.jsonl", Group)
    groups = [dealt(group, params["block"], params["blocks"], params["seed"]) for group in pool]
    write_records(work.folder / "groups.jsonl", groups)
    return {"groups": len(groups), "responses": sum(len(group.samples) for group in groups)}


def dealt(group: Group, block: int, blocks: int, seed: int) -> Group:
    """The group with the responses of one block, in dealt order. Raises ValueError where blocks cannot be equal."""
    size, rest = divmod(len(group.samples), blocks)
    if rest:
        raise ValueError(f"{len(group.samples)} responses cannot be dealt into {blocks} blocks of equal size")
    shuffled = list(group.samples)
    random.Random(f"block/{seed}/{group.prompt.id}").shuffle(shuffled)
    return dataclasses.replace(group, samples=tuple(shuffled[block * size : (block + 1) * size]))
