"""Source ``ultrafeedback``: argilla/ultrafeedback-binarized-preferences-cleaned, the data set of PAD section 5.1."""

import random
from collections.abc import Mapping

from harness.contracts.options import options
from harness.contracts.source import Pin, PromptSource
from harness.errors import UserError
from harness.models.checkpoint import hub_commit
from harness.types import Prompt


@options
class UltraFeedbackOptions:
    revision: str | None = None
    """Commit of the hub's data set; ``null``: its newest. The one that was used is recorded."""


class UltraFeedback(PromptSource[UltraFeedbackOptions]):
    name = "ultrafeedback"
    summary = "UltraFeedback, about 60,000 prompts with chosen and rejected answers; from the hub"
    config = UltraFeedbackOptions
    hub = "argilla/ultrafeedback-binarized-preferences-cleaned"
    pairs = True
    size = 65_000  # about 61,000

    def pin(self, config: UltraFeedbackOptions) -> Pin:
        return Pin({"revision": hub_commit(self.hub, config.revision or "main", "dataset")}, pairs=True, size=self.size)

    def prompts(self, config: UltraFeedbackOptions, identity: Mapping[str, object], seed: int) -> list[Prompt]:
        from datasets import load_dataset

        revision = identity["revision"]
        try:
            rows = load_dataset(self.hub, split="train", revision=revision)
        except Exception as error:  # datasets raises many kinds for "no network", "no such revision", "cache broken"
            raise UserError(
                f"the training prompts {self.hub!r} (revision {revision}) could not be loaded: {error}. Choose another "
                "prompts.source, or give your own file with prompts.source=jsonl and prompts.path."
            ) from error
        prompts = []  # rows with several turns keep their history
        for i, row in enumerate(rows):
            history = tuple({"role": m["role"], "content": m["content"]} for m in row["chosen"][:-1])
            golden, rejected = row["chosen"][-1]["content"], row["rejected"][-1]["content"]
            # A few rows have an empty chosen answer: nothing can be learned from them.
            if history and golden.strip():
                prompts.append(Prompt(f"{self.name}/{i}", history, golden, rejected or None, self.name))
        random.Random(seed).shuffle(prompts)
        return prompts


SOURCE = UltraFeedback()
