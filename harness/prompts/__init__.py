"""The sources of training prompts, one file each. ``SOURCES`` is the table of contents."""

from __future__ import annotations

from harness.contracts.source import PromptSource
from harness.prompts import gsm8k_train, jsonl, pocket, ultrafeedback

SOURCES: dict[str, PromptSource] = {
    source.name: source for source in (pocket.SOURCE, ultrafeedback.SOURCE, gsm8k_train.SOURCE, jsonl.SOURCE)
}
