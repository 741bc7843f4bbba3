"""Stage ``split_pool``: one of k disjoint random blocks of a pool of responses (rounds that do not resample).

Every block of a pool comes from the same seeded shuffle of each prompt's responses, so that together they are the
pool, none twice. The teacher rewards a block after the split: its multiple-choice question has the m responses of
the block, exactly as when a round samples them afresh.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from harness.contracts.stage import Stage
from harness.records import write_records
from harness.stages.context import StageContext
from harness.stages.graph import StageGraph
from harness.stages.kind import StageKind
from harness.stats import seed_of
from harness.types import Group


def split_pool_stage(graph: StageGraph, pool: Stage, block: int, blocks: int, **labels: Any) -> Stage:
    """Block ``block`` (from 0) of ``blocks``. ``labels``: row, round and seed."""
    # The seed does not know the block: all blocks of a pool must come from one shuffle.
    params = {"block": block, "blocks": blocks, "seed": seed_of("block", labels["seed"])}
    n = pool.local["samples"] // blocks
    stage = Stage("split_pool", params, {"samples": pool.ref}, local={"samples": n}, variant=f"n={n}", **labels)
    return graph.add(stage)


def run(stage: Stage, context: StageContext) -> Mapping[str, Any]:
    """Write ``groups.jsonl``."""
    params = stage.params
    pool = context.records(stage, "samples", "groups.jsonl", Group)
    groups = [deal(group, params["block"], params["blocks"], params["seed"]) for group in pool]
    write_records(context.folder / "groups.jsonl", groups)
    return {"groups": len(groups), "responses": sum(len(group.samples) for group in groups)}


def deal(group: Group, block: int, blocks: int, seed: int) -> Group:
    """The group with the responses of one block, in dealt order. Raises ValueError where blocks cannot be equal."""
    size, rest = divmod(len(group.samples), blocks)
    if rest:
        raise ValueError(f"{len(group.samples)} responses cannot be dealt into {blocks} blocks of equal size")
    shuffled = list(group.samples)
    random.Random(f"block/{seed}/{group.prompt.id}").shuffle(shuffled)
    return replace(group, samples=tuple(shuffled[block * size : (block + 1) * size]))


KIND = StageKind("split_pool", run)
