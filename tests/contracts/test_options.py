"""Options: strict when they are made, read from JSON with every mistake at its path, and plain data again."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from distilbench.plugins import OURS
from harness.contracts.judge import AskOptions
from harness.contracts.options import (
    Positive,
    explanations,
    is_options,
    json_data,
    options,
    options_from,
    read_options,
    require,
)
from harness.errors import UserError
from harness.recipe import sections
from harness.recipe.recipe import Heading
from harness.training.options import TrainOptions


@options
class Inner:
    rank: int = 1
    """Of the matrix."""


@options
class Outer:
    scale: Positive = 1.0
    """Factor."""
    bounds: Literal["none"] | tuple[float, float] = "none"
    inner: Inner | None = None

    def __post_init__(self) -> None:
        require(self.scale != 13, "scale must not be 13")


@options
class Further(Outer):
    more: bool = False
    """Whether."""


@dataclass(frozen=True)
class Unchecked:
    scale: float = 1.0


def rules(values: dict[str, Any]) -> list[str]:
    config, problems = read_options(Outer, values, ("methods", "x"), ("train",))
    assert config is None
    return [str(problem) for problem in problems]


def test_what_was_read_is_plain_data_again() -> None:
    written = {"scale": 2, "bounds": [-1, 1], "inner": {"rank": 3}}
    config = options_from(Outer, written)
    assert config == Outer(2.0, (-1.0, 1.0), Inner(3))
    assert json_data(config) == {"scale": 2.0, "bounds": [-1.0, 1.0], "inner": {"rank": 3}}
    assert options_from(Outer, json_data(config)) == config


def test_all_mistakes_are_found_at_once_each_at_its_path() -> None:
    found = rules({"scale": 0, "inner": {"rnk": 1}, "trian": {}})
    assert [line.split(" ")[0] for line in found] == ["methods.x.scale", "methods.x.inner.rnk", "methods.x.trian"]
    assert "Did you mean 'rank'?" in found[1] and "Did you mean 'train'?" in found[2]
    assert rules({"scale": 13}) == ["methods.x: scale must not be 13."]
    assert "must be a finite number" in rules({"scale": float("inf")})[0]


@pytest.mark.parametrize("wrong", [{"scale": "1"}, {"scale": True}, {"inner": 3}, {"bounds": [1]}, {"other": 1}])
def test_no_type_is_converted(wrong: dict[str, Any]) -> None:
    assert len(rules(wrong)) == 1
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Outer(**wrong)


def test_a_plain_dataclass_is_refused_with_the_remedy() -> None:
    with pytest.raises(UserError, match=r"methods\.mine .*Unchecked.* checks nothing: put @options"):
        read_options(Unchecked, {}, ("methods", "mine"))


def test_options_of_a_base_class_keep_their_explanations() -> None:
    assert explanations(Further) == {"scale": "Factor.", "more": "Whether."}


NUMBERS = 202
"""Options that are numbers, or lists of them. Who adds one raises it: what nobody finds here is not tested."""
SECTIONS = (
    Heading, TrainOptions, AskOptions, sections.Family, sections.Prompts, sections.SamplingOptions,
    sections.RewardOptions, sections.Statistics, sections.Compute, sections.RowOptions, sections.TunedPairs,
)  # fmt: skip
HOSTILE = (-(10**30), -1e300, 10**30, 1e300, math.inf, math.nan, "5", "\u0663", True, [[]], {})


def number_options(kind: type, place: str) -> Iterator[tuple[str, type, str, bool]]:
    """Name, class, field, and whether it is a list, of every number in a class of options and in those inside it."""
    for name, hint in get_type_hints(kind).items():
        for part in (hint, *get_args(hint)):
            if is_options(part):
                yield from number_options(part, f"{place}.{name}")
        parts = [hint] if get_origin(hint) is tuple else [hint, *get_args(hint)]
        is_list = any(get_origin(part) is tuple and get_args(part)[0] in (int, float) for part in parts)
        if is_list or {int, float} & set(parts):
            yield f"{place}.{name}", kind, name, is_list


def test_no_number_of_the_whole_option_table_is_without_limits() -> None:
    entries = {f"{table}.{name}": entry.config for table, group in OURS.items() for name, entry in group.items()}
    tables = {kind.__name__: kind for kind in SECTIONS} | entries
    found = [option for place, kind in tables.items() for option in number_options(kind, place)]
    assert len(found) == NUMBERS
    for place, kind, name, is_list in found:
        # the values of other options without a default do not matter: only what is said of this one is looked at
        needed = {field.name: "x" for field in fields(kind) if field.default is field.default_factory is MISSING}
        for value in HOSTILE:
            problems = read_options(kind, needed | {name: [value] if is_list else value}, ())[1]
            assert any(problem.path.startswith(name) for problem in problems), (place, value)
