"""Source ``gsm8k-train``: grade-school-math's training questions, with their worked solutions as reference answers."""

import json
import random
from collections.abc import Mapping

from harness.assets import locate
from harness.contracts.options import NoOptions
from harness.contracts.source import PromptSource
from harness.types import Prompt


class Gsm8kTrain(PromptSource[NoOptions]):
    name = "gsm8k-train"
    summary = "GSM8K's 7,473 training questions with worked solutions; a pinned asset"
    config = NoOptions
    size = 7473
    assets = ("gsm8k/train.jsonl",)

    def prompts(self, config: NoOptions, identity: Mapping[str, object], seed: int) -> list[Prompt]:
        prompts = []
        for i, line in enumerate(locate(self.assets[0]).read_text(encoding="utf-8").splitlines()):
            row = json.loads(line)
            turn = {"role": "user", "content": row["question"]}
            prompts.append(Prompt(f"{self.name}/{i}", (turn,), row["answer"], None, self.name))
        random.Random(seed).shuffle(prompts)
        return prompts


SOURCE = Gsm8kTrain()
