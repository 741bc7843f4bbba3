"""Where lm-eval's ``gsm8k`` task ends a response: before the first of its stop strings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

STOPS: Final = ("Question:", "</s>", "<|im_end|>")


def cut_at_stop(text: str, stops: Sequence[str] = STOPS) -> str:
    """The text before the first stop string."""
    places = [at for stop in stops if stop and (at := text.find(stop)) >= 0]
    return text[: min(places)] if places else text
