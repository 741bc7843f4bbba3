"""What a search may choose: ``train.learning_rate=log(1e-5, 1e-3); beta=log(0.1x, 10x); divergence={jsd, kl_ts}``.

A knob is a path in its row (``beta``, ``train.learning_rate``). Its domain is ``log(a, b)`` or
``uniform(a, b)`` (an ``x`` behind a number: times the recipe's own value), or ``{a, b, ...}``. All pure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

from harness.contracts.options import is_options, json_data
from harness.contracts.registry import Registry
from harness.errors import UserError, unknown_choice
from harness.recipe.sections import MethodEntry, RowOptions, SamplingOptions
from harness.recipe.yaml_source import Tree, merge, read_overrides
from harness.training.options import TrainOptions

FORMS = "log(a, b), uniform(a, b), where 0.1x is a tenth of the recipe's own value, or {a, b, ...}"
DIGITS = 3
"""Significant digits of a drawn number: a recipe can be read, and nothing depends on the fourth."""
OUTER = 0.1
"""A value in this share of its range at either end lies at the border."""
_RANGE = re.compile(r"(log|uniform)\s*\(([^()]*)\)")
_BOUND = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(x?)")
_KNOB = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


@dataclass(frozen=True)
class Bound:
    value: float
    relative: bool = False


@dataclass(frozen=True)
class RangeText:
    """A range as it is written."""

    low: Bound
    high: Bound
    log: bool


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included; ``log``: even on a logarithmic scale."""

    low: float
    high: float
    log: bool
    integer: bool = False

    def at(self, place: float) -> float | int:
        """The value at a place of the range, 0..1: a whole number, or one of ``DIGITS`` digits."""
        if self.log:
            value = math.exp(math.log(self.low) + place * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + place * (self.high - self.low)
        return self.rounded(value)

    def rounded(self, value: float) -> float | int:
        if self.integer:
            return min(max(round(value), int(self.low)), int(self.high))
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)

    def place(self, value: object) -> float | None:
        """The opposite of ``at``; ``None``: outside, or no number."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return None
        ends = (self.low, self.high, float(value))
        low, high, inner = map(math.log, ends) if self.log else ends
        return (inner - low) / (high - low)

    def border(self, value: object) -> str:
        """``low`` or ``high`` where a value lies at that end, else empty."""
        place = self.place(value)
        if place is None or OUTER <= place <= 1 - OUTER:
            return ""
        return "low" if place < OUTER else "high"

    def __str__(self) -> str:
        return f"{'log' if self.log else 'uniform'}({self.low:g}, {self.high:g})"


@dataclass(frozen=True)
class Choices:
    values: tuple[Any, ...]

    def at(self, place: float) -> Any:
        return self.values[min(int(place * len(self.values)), len(self.values) - 1)]

    def place(self, value: object) -> float | None:
        return (self.values.index(value) + 0.5) / len(self.values) if value in self.values else None

    def border(self, value: object) -> str:
        """As of a range, where the choices are three rising numbers or more; names have no order."""
        numbers = [item for item in self.values if isinstance(item, int | float) and not isinstance(item, bool)]
        ordered = len(numbers) == len(self.values) > 2 and numbers == sorted(numbers)
        if not ordered or value not in (numbers[0], numbers[-1]):
            return ""
        return "low" if value == numbers[0] else "high"

    def __str__(self) -> str:
        return "{" + ", ".join("null" if value is None else str(value) for value in self.values) + "}"


Domain = Range | Choices
Space = Mapping[str, Domain]
"""Knob to what it may be."""


def parse_space(text: str) -> dict[str, RangeText | Choices]:
    """``KNOB=DOMAIN; KNOB=DOMAIN``. Raises UserError that quotes the part and names the forms."""
    space: dict[str, RangeText | Choices] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        knob, equals, domain = (piece.strip() for piece in part.partition("="))
        if not equals or not _KNOB.fullmatch(knob):
            raise UserError(f"space {part!r}: must look like KNOB=DOMAIN, as in beta=log(0.1, 10); {FORMS}.")
        if knob in space:
            raise UserError(f"space {text!r}: {knob} stands twice.")
        space[knob] = parse_domain(domain, knob)
    if not space:
        raise UserError(f"space {text!r}: names no knob, as in beta=log(0.1, 10).")
    return space


def parse_domain(text: str, knob: str = "knob") -> RangeText | Choices:
    """Raises UserError."""
    text = text.strip()
    if text.startswith("{") and text.endswith("}"):
        return _choices(text, knob)
    match = _RANGE.fullmatch(text)
    if match is None:
        raise UserError(f"space {knob}={text}: is none of {FORMS}. Between two knobs stands a semicolon.")
    bounds = [_BOUND.fullmatch(part.strip()) for part in match[2].split(",")]
    if len(bounds) != 2 or None in bounds:
        raise UserError(f"space {knob}={text}: needs two numbers, as in {match[1]}(0.1, 10) or {match[1]}(0.1x, 10x).")
    low, high = (Bound(float(bound[1]), bound[2] == "x") for bound in bounds if bound is not None)
    return RangeText(low, high, match[1] == "log")


def _choices(text: str, knob: str) -> Choices:
    # As a recipe reads a list, so that 1e-6, true and null mean here what they mean there.
    tree, problems = read_overrides([f"values=[{text[1:-1]}]"])
    values = tree.get("values") or []
    plain = all(value is None or isinstance(value, str | int | float | bool) for value in values)
    if problems or not plain:
        raise UserError(f"space {knob}={text}: must be plain values with commas between, as in {{1, 2, 4}}.")
    if len(values) < 2 or any(value in values[:place] for place, value in enumerate(values)):
        raise UserError(f"space {knob}={text}: needs at least two values, all different.")
    return Choices(tuple(values))


def settle_space(texts: Mapping[str, RangeText | Choices], row: str, entry: MethodEntry, registry: Registry) -> Space:
    """The domains of a recipe's row: relative bounds times its own values, whole numbers where its option takes only
    those. Raises UserError for a knob that the row lacks, and for a range that is none."""
    return {knob: _settle(domain, row, knob, entry, registry) for knob, domain in texts.items()}


def _settle(domain: RangeText | Choices, row: str, knob: str, entry: MethodEntry, registry: Registry) -> Domain:
    own, name = own_value(row, entry, knob), f"space of {row}: {knob}"
    if isinstance(domain, Choices):
        return domain
    for bound in (domain.low, domain.high):
        if bound.relative and (isinstance(own, bool) or not isinstance(own, int | float) or own <= 0):
            raise UserError(f"{name}: {bound.value:g}x needs a number above 0 in the recipe, which has {own!r}.")
    low, high = (bound.value * (float(own) if bound.relative else 1.0) for bound in (domain.low, domain.high))
    # 3 * 0.1 is 0.30000000000000004: a bound is what a reader expects.
    low, high = float(f"{low:.12g}"), float(f"{high:.12g}")
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(f"{name}: from {low:g} to {high:g} is no range; the lower bound comes first.")
    if domain.log and low <= 0:
        raise UserError(f"{name}: log(...) needs bounds above 0, and {low:g} is none; uniform(...) takes any.")
    if not _is_whole(knob, registry.methods[entry.method].config):
        return Range(low, high, domain.log)
    whole = Range(math.ceil(low), math.floor(high), domain.log, integer=True)
    if whole.low >= whole.high:
        raise UserError(f"{name}: takes whole numbers, and from {low:g} to {high:g} there are not two.")
    return whole


def row_values(entry: MethodEntry) -> Tree:
    """All options of a row with their values, as a recipe would write them."""
    sections = {"train": json_data(entry.train), "sampling": json_data(entry.sampling)}
    return {"rounds": entry.row_options.rounds, **json_data(entry.config), **sections}


def own_value(row: str, entry: MethodEntry, knob: str) -> Any:
    """The value that a row has in its recipe. Raises UserError where it has no such option."""
    node: Any = row_values(entry)
    for key in knob.split("."):
        if not isinstance(node, Mapping) or key not in node:
            names = sorted(_knobs(row_values(entry)))
            raise unknown_choice("knob", knob, names, f"Knobs are the options of the row {row!r}.")
        node = node[key]
    if isinstance(node, Mapping | list):
        raise UserError(f"space of {row}: {knob} is no single value. Name what is in it.")
    return node


def _knobs(tree: Mapping[str, Any], prefix: str = "") -> list[str]:
    return [
        name
        for key, value in tree.items()
        for name in (_knobs(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [f"{prefix}{key}"])
    ]


def _is_whole(knob: str, config: type) -> bool:
    """Whether an option takes whole numbers and no others."""
    kinds: dict[str, type] = {"train": TrainOptions, "sampling": SamplingOptions}
    head, _, rest = knob.partition(".")
    kind, path = (kinds[head], rest.split(".")) if head in kinds and rest else (config, knob.split("."))
    hint: object = None
    for key in path:
        hints = get_type_hints(kind)
        hint = hints[key] if key in hints else get_type_hints(RowOptions)[key]
        kind = next((inner for inner in (hint, *get_args(hint)) if isinstance(inner, type) and is_options(inner)), kind)
    parts = _parts(hint)
    return int in parts and float not in parts


def _parts(hint: object) -> set[object]:
    return {hint}.union(*map(_parts, get_args(hint)))


def row_changes(values: Mapping[str, object]) -> Tree:
    """Knobs with their values as the section of a row."""
    tree: Tree = {}
    for knob, value in values.items():
        branch: Any = value
        for key in reversed(knob.split(".")):
            branch = {key: branch}
        tree = merge(tree, branch)
    return tree
