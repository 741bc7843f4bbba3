"""Table 4 of the paper (appendix B.1), with what section 5.1 adds: hyperparameters of PAD, used here and published.

It needs no run: the values are those that the recipe trains with. How a value is found in a recipe is in ``SETTINGS``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from harness.contracts.target import Target

ROW = "pad-ppd"
"""The row whose settings are shown."""

TARGET = Target(
    name="table4",
    label="Table 4",
    title="Hyperparameters of PAD training",
    rows=(),
    columns=(),
    published="table4",
    layout="settings",
)


Reader = Callable[[Mapping[str, Any], str], Any]
"""A resolved recipe and a row of it to the value that the row is trained with; ``None`` where it has none."""


def _of(section: str, name: str) -> Reader:
    """The row's own value before the recipe's."""

    def read(recipe: Mapping[str, Any], row: str) -> Any:
        own, shared = (recipe["methods"].get(row) or {}).get(section) or {}, recipe.get(section) or {}
        return own.get(name, shared.get(name))

    return read


def _train(name: str) -> Reader:
    return _of("train", name)


def _sampling(name: str) -> Reader:
    return _of("sampling", name)


def _option(name: str) -> Reader:
    return lambda recipe, row: (recipe["methods"].get(row) or {}).get(name)


SETTINGS: Mapping[str, tuple[str, Reader]] = {
    "beta": ("beta", _option("beta")),
    "alpha": ("alpha", _option("alpha")),
    "learning_rate": ("learning rate", _train("learning_rate")),
    "batch_size": ("batch size (prompts)", _train("batch_size")),
    "warmup_ratio": ("warm-up ratio", _train("warmup_ratio")),
    "epochs": ("epochs", _train("epochs")),
    "n": ("responses per prompt", _sampling("n")),
    "sampling_temperature": ("sampling temperature", _sampling("temperature")),
}
"""Row of the paper's table (``results/published/table4.csv``) to its title, and to how it is found."""
