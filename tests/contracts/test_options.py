"""Options: strict when they are made, read from JSON with every mistake at its path, and plain data again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pytest

from harness.contracts.options import Positive, explanations, json_data, options, options_from, read_options, require
from harness.errors import UserError


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
