"""Whether a row was trained as the paper says: its settings beside the paper's Table 4 and section 5.1.

Only what the paper states for a method is looked at. It states a learning rate, alpha and beta for PAD, and how the
student's responses are sampled for the methods that learn from them; epochs, batch and warm-up for all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isclose
from typing import Any, Final

from reports.targets.table4 import SETTINGS
from results.published import published_table

PAD: Final = frozenset({"pad-vpd", "pad-ppd"})
SAMPLED: Final = PAD | {"dpo", "simpo", "pro"}
"""Methods that the paper trains on the student's responses (section 5.1, appendix B.3)."""
_STATED: Final[Mapping[str, frozenset[str]]] = {
    "alpha": PAD, "beta": PAD, "learning_rate": PAD, "n": SAMPLED, "sampling_temperature": SAMPLED,
}  # fmt: skip
"""Setting to the methods that it is stated for; all where it is not listed."""


def other_settings(recipe: Mapping[str, Any], row: str, name: str, family: str) -> list[str]:
    """What a row was trained with that the paper states otherwise: ``alpha 0 (the paper: 0.8)``.

    Args:
        recipe: resolved.
        row: its id in the recipe.
        name: what the published table calls it. ``pad-ppd-2x4`` says how many rounds and responses there are.
        family: whose learning rate the paper states.
    """
    methods = recipe.get("methods") or {}
    if row not in methods:
        return []
    entry, found = methods[row] or {}, []
    method = entry.get("method") or row
    named = re.search(r"-\d+x\d+$", name) is not None
    for (of, setting, _), number in published_table("table4").items():
        title, value = SETTINGS[setting]
        told = named and setting == "n"
        if of not in (family, "any") or told or method not in _STATED.get(setting, {method}):
            continue
        used = value(recipe, row)
        if used is not None and not isclose(used, number.value):
            found.append(f"{title} {used:g} (the paper: {number.value:g})")
    rounds = entry.get("rounds") or 1
    if not named and rounds != 1:
        found.append(f"rounds {rounds} (the paper: 1)")
    if _value(recipe, entry, "lora"):
        found.append("adapters (the paper: all weights)")
    return found


def _value(recipe: Mapping[str, Any], entry: Mapping[str, Any], name: str) -> Any:
    """A training setting, the row's own first."""
    own, shared = entry.get("train") or {}, recipe.get("train") or {}
    return own.get(name, shared.get(name))
