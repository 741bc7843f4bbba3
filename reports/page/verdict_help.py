"""How to read the verdicts of the question browser, in a sentence or two per benchmark.

Decided by what stands in the judgments (names of their parts, what is noted beside them), not by the benchmark: a
benchmark of one's own that names its parts alike is explained alike, and one that does not is left to its own words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from harness.types import Judgment

PARTS: Final = {
    r"^(preference|order\d)$": "Verdicts lie between 0 (the baseline's answer is better) and 1 (this row's is better); "
    "0.5 is a tie.",
    r"\bgame\d": "Verdicts: above 0 this row's answer is better, below 0 the baseline's; 0 is a tie.",
    r"^turn\d+$": "Verdicts are grades of the answer to that turn; higher is better.",
    r"^(strict-match|flexible-extract)$": "Verdicts: 1 is right, 0 is wrong. The answer is read in two ways: "
    "strict-match wants the prescribed form, flexible-extract takes the last number.",
}
"""Part of a judgment (a regular expression) to the sentence that explains its verdicts."""
ORDERS: Final = ((r"^order\d$", "order1 and order2"), (r"\bgame\d", "game1 and game2"))
FIRST: Final = "model_first"
SHARE: Final = (
    "Share in a metric: what this question contributes to it. The mean over the questions is the row's value, with "
    "length control nearly so; there a share may lie outside of the metric's range."
)


def verdict_help(judgments: Iterable[Judgment], shares: bool) -> list[str]:
    """The sentences that fit. ``shares``: whether questions can be compared by a metric's share too."""
    found = list(judgments)
    parts = {each.part for each in found}
    help_lines = [text for pattern, text in PARTS.items() if any(re.search(pattern, part) for part in parts)]
    help_lines += [
        f"{names}: the same two answers, shown to the judge in either order."
        for pattern, names in ORDERS
        if any(re.search(pattern, part) for part in parts)
    ]
    if any(FIRST in each.meta for each in found):
        letters = any(each.reply.strip() in ("m", "M") for each in found)
        also = " A reply of m picks the answer shown first, M the second." if letters else ""
        help_lines.append(f"{FIRST}: whether this row's answer was shown before the baseline's.{also}")
    return [*help_lines, *([SHARE] if shares else [])]
