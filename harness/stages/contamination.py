"""Stage ``overlap``: training prompts against every benchmark's questions, before anything is sampled or trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from harness.contracts.options import options_from
from harness.contracts.stage import Stage
from harness.errors import UserError
from harness.prompts.contamination import overlap
from harness.stages.context import Work
from harness.types import Prompt


def run(stage: Stage, work: Work) -> Mapping[str, Any]:
    """Write ``overlap.json``. Raises UserError on exact overlap unless the recipe allows it."""
    prompts = work.records(stage, "prompts", "prompts.jsonl", Prompt)
    found = []
    for name, values in stage.params["benchmarks"].items():
        benchmark = work.registry.benchmarks[name]
        found.append(overlap(prompts, name, benchmark.questions(options_from(benchmark.config, values))))
    (work.folder / "overlap.json").write_text(json.dumps([asdict(row) for row in found], indent=1))
    exact = {row.benchmark: len(row.exact) for row in found if row.exact}
    if exact and not stage.params["allowed"]:
        raise UserError(
            f"training prompts contain test questions: {exact} exact matches. A score on questions that were trained "
            "on is not a score. Choose other prompts, or set prompts.allow_overlap=true to go on all the same."
        )
    return {row.benchmark: {"exact": len(row.exact), "ngram": len(row.ngram)} for row in found}
