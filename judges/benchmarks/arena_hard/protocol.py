"""The protocol of Arena-Hard: games, labels and how its scripts read and weigh them.

A verdict is a margin, -2 to 2, assistant A's until it is turned to the model's side. lmarena/arena-hard-auto,
``gen_judgment.py``. v0.1: exactly one label may occur, and a judge that wrote none is asked once more. 2025: the last
label counts, also in small letters or, failing that, in single brackets; nobody is asked again.
"""

from __future__ import annotations

import re
from typing import Final, Literal

from harness.types import Verdict

Scorer = Literal["v0.1", "2025-06"]
STRONG_WEIGHT: Final = 3.0
"""A strong verdict counts as three plain ones."""
GAMES: Final = ("game1", "game2")
LABELS: Final = {"A>>B": 2.0, "A>B": 1.0, "A=B": 0.0, "B>A": -1.0, "B>>A": -2.0}
"""Margin of assistant A."""
MIRRORED: Final = {"B<<A": 2.0, "B<A": 1.0, "B=A": 0.0, "A<B": -1.0, "A<<B": -2.0}
"""The same verdicts written backwards; the 2025-06 script scores them, v0.1 counted them as no verdict."""
MIRRORED_FLAG: Final = "mirrored-label"
NO_LABEL: Final = "no verdict label in the reply"
CONTINUE: Final = "continue your judgment and finish by outputting a final verdict label"
"""What the script of v0.1 says to a judge that wrote no label."""
LABEL: Final = re.compile(r"\[\[([AB<>=]+)\]\]")
_SINGLE = re.compile(r"\[([AB<>=]+)\]")


def read_label(text: str) -> Verdict:
    """Margin of assistant A by the rule of v0.1: labels that contradict each other are no verdict."""
    # A set: the same label twice is one verdict, as in the script.
    labels = set(LABEL.findall(text))
    if len(labels) > 1:
        return Verdict(None, f"contradicting labels {', '.join(sorted(labels)[:4])} in the reply")
    return _margin(labels.pop()) if labels else Verdict(None, NO_LABEL)


def read_last_label(text: str) -> Verdict:
    """Margin of assistant A by the rule of 2025: the last label, in double brackets if there are any."""
    # Only here: v0.1 reads capital letters alone.
    capital = text.upper()
    labels = LABEL.findall(capital) or _SINGLE.findall(capital)
    return _margin(labels[-1]) if labels else Verdict(None, NO_LABEL)


def _margin(label: str) -> Verdict:
    if label in LABELS:
        return Verdict(LABELS[label])
    if label in MIRRORED:
        return Verdict(MIRRORED[label], None, (MIRRORED_FLAG,))
    return Verdict(None, f"unknown label [[{label[:12]}]]")
