"""Stage ``split_pool``: one of k disjoint random blocks of a pool of responses (rounds that do not resample).

Every block of a pool comes from the same seeded shuffle of each prompt's responses, so that together they are the
pool, none twice. The teacher rewards a block after the split: its multiple-choice question has the m responses of
the block, exactly as when a round samples them afresh.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

from harness.contracts.stage import Stage
from harness.stages.graph import TrainingRow
from harness.stages.kind import StageContext, StageKind
from harness.stats import seed_of
from harness.types import Group


def split_pool_stage(row: TrainingRow, number: int, pool: Stage) -> Stage:
    """The block of one round."""
    # The seed does not know the round: all blocks of a pool must come from one shuffle.
    params = {"block": number, "blocks": row.rounds, "seed": seed_of("block", row.seed)}
    n = pool.local["samples"] // row.rounds
    labels = {**row.labels(number), "variant": f"n={n}"}
    return row.graph.add(Stage("split_pool", params, {"samples": pool.ref}, local={"samples": n}, **labels))


def run(stage: Stage, context: StageContext) -> Mapping[str, object]:
    params = stage.params
    pool = context.records(stage, "samples", Group)
    groups = [deal(group, params["block"], params["blocks"], params["seed"]) for group in pool]
    context.write(Group, groups)
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
