"""The grammar of a search's space, what it settles to on a row of a recipe, and the spaces that the methods state."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from distilbench.plugins import load_registry
from harness.contracts.options import options_from
from harness.errors import UserError
from harness.recipe.recipe import Recipe, load_recipe
from harness.recipe.space import (
    Bound,
    Choices,
    Range,
    RangeText,
    Space,
    own_value,
    parse_domain,
    parse_space,
    row_changes,
    row_values,
    settle_space,
)

REGISTRY = load_registry()
NUMBERS = st.floats(1e-8, 1e6)


@pytest.fixture(scope="module")
def pocket() -> Recipe:
    return load_recipe("pocket", ["methods.dpo={beta: 0.1, rounds: 1, train: {learning_rate: 3e-4}}"], REGISTRY)


def settled(recipe: Recipe, row: str, text: str) -> Space:
    return settle_space(parse_space(text), row, recipe.methods[row], REGISTRY)


def test_the_three_forms() -> None:
    space = parse_space("train.learning_rate=log(1e-5,1e-3); beta = uniform( 0.1x , 10 ) ;divergence={jsd, kl_ts}")
    assert space == {
        "train.learning_rate": RangeText(Bound(1e-5), Bound(1e-3), log=True),
        "beta": RangeText(Bound(0.1, relative=True), Bound(10.0), log=False),
        "divergence": Choices(("jsd", "kl_ts")),
    }
    # as in a recipe: numbers without a dot, true and null
    assert parse_domain("{1e-6, 2, true, null}") == Choices((1e-6, 2, True, None))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no knob"),
        ("beta", "must look like KNOB=DOMAIN"),
        ("=log(1, 2)", "must look like KNOB=DOMAIN"),
        ("beta=log(1, 2); beta=log(1, 3)", "beta stands twice"),
        ("beta=0.1..10", r"beta=0.1..10: is none of log\(a, b\), uniform\(a, b\)"),
        ("beta=log(1)", "needs two numbers"),
        ("beta=log(1, 2, 3)", "needs two numbers"),
        ("beta=log(one, 2)", "needs two numbers"),
        ("beta=log(0.1y, 2)", "needs two numbers"),
        ("beta={1}", "at least two values, all different"),
        ("beta={1, 1}", "at least two values, all different"),
        ("beta={[1], 2}", "plain values"),
        ("beta={a: 1, b: 2}", "plain values"),
    ],
)
def test_what_is_no_space_is_quoted(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_space(text)


@settings(max_examples=50)
@given(st.text(max_size=60))
def test_any_text_is_a_space_or_a_clear_message(text: str) -> None:
    try:
        space = parse_space(text)
    except UserError as error:
        message = str(error)
    else:
        message = f"space of {len(space)}"
    assert message.startswith("space ")


@given(NUMBERS, NUMBERS, st.booleans(), st.floats(0, 1))
def test_places_and_values_of_a_range(low: float, high: float, log: bool, place: float) -> None:
    """Every place gives a value inside, an end or one of three digits, and its own place back to that precision."""
    assume(high > 1.1 * low)
    domain = Range(low, high, log)
    value = domain.at(place)
    assert low <= value <= high and (value in (low, high) or float(f"{value:.3g}") == value)
    found = domain.place(value)
    assert found is not None
    # half a unit of the third digit: at most 0.5% of the value
    error = 0.0051 / math.log(high / low) if log else 0.0051 * high / (high - low)
    assert abs(found - place) <= error + 1e-9
    assert domain.at(0.0) == low or domain.at(0.0) == float(f"{low:.3g}")
    assert parse_domain(f"{'log' if log else 'uniform'}({low!r}, {high!r})") == RangeText(Bound(low), Bound(high), log)


@given(st.integers(1, 50), st.integers(1, 50), st.booleans(), st.floats(0, 1))
def test_whole_numbers_stay_whole(low: int, more: int, log: bool, place: float) -> None:
    domain = Range(low, low + more, log, integer=True)
    assert isinstance(domain.at(place), int) and low <= domain.at(place) <= low + more


def test_logarithmic_and_even_middles() -> None:
    """Half way from 0.1 to 10 is 1 by ratios, 5.05 by differences."""
    assert Range(0.1, 10, log=True).at(0.5) == 1.0
    assert Range(0.1, 10, log=False).at(0.5) == 5.05
    assert [Choices(("a", "b", "c")).at(place) for place in (0.0, 0.5, 1.0)] == ["a", "b", "c"]


def test_bounds_relative_to_the_recipes_own_value(pocket: Recipe) -> None:
    """0.1 * 3e-4 = 3e-5; DPO's beta of 0.1 times 10 is 1; three rounds of one: a whole number."""
    space = settled(pocket, "dpo", "train.learning_rate=log(0.1x, 10x); beta=log(0.01, 10x); rounds=uniform(1x, 3x)")
    assert space == {
        "train.learning_rate": Range(3e-5, 3e-3, log=True),
        "beta": Range(0.01, 1.0, log=True),
        "rounds": Range(1, 3, log=False, integer=True),
    }
    assert settled(pocket, "dpo", "train.epochs=uniform(0.5, 3.9)")["train.epochs"] == Range(1, 3, False, integer=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("betta=log(1, 2)", "unknown knob 'betta'. Did you mean 'beta'"),
        ("train.learning=log(1, 2)", "train.learning_rate"),
        ("train=log(1, 2)", "no single value"),
        ("beta=log(2, 1)", "is no range"),
        ("beta=log(0, 1)", "needs bounds above 0"),
        ("beta=log(10x, 0.1)", "is no range"),
        ("train.epochs=uniform(1.2, 1.8)", "takes whole numbers"),
        ("train.dtype=uniform(0.1x, 1x)", "needs a number above 0 in the recipe"),
    ],
)
def test_what_does_not_fit_a_row_is_said(pocket: Recipe, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        settled(pocket, "dpo", text)


def test_borders_are_the_outer_tenths() -> None:
    """log(0.1, 10) has two decades: a tenth of them is a factor of 10 ** 0.2 = 1.58."""
    domain = Range(0.1, 10, log=True)
    ends = {0.1: "low", 0.157: "low", 0.16: "", 1: "", 6.2: "", 6.4: "high", 10: "high"}
    assert {value: domain.border(value) for value in ends} == ends
    assert [domain.border(value) for value in (20, None, "x", True)] == ["", "", "", ""], "outside, and no numbers"
    assert [Choices((1, 2, 4)).border(value) for value in (1, 2, 4)] == ["low", "", "high"]
    assert Choices(("a", "b", "c")).border("a") == "", "names have no order"


def test_every_method_states_a_space_that_gives_valid_options(pocket: Recipe) -> None:
    """All 16: the space parses, its ends and its middle are options that the method takes."""
    rows = [row for row in pocket.methods if pocket.methods[row].method == row]
    assert len(rows) == 16 == len(REGISTRY.methods)
    spaces: dict[str, Space] = {}
    for row in rows:
        domains = {knob: parse_domain(text, knob) for knob, text in REGISTRY.methods[row].space.items()}
        spaces[row] = settle_space(domains, row, pocket.methods[row], REGISTRY)
        assert "train.learning_rate" in spaces[row]
    for place in (0.0, 0.5, 1.0):
        values = {row: {knob: domain.at(place) for knob, domain in space.items()} for row, space in spaces.items()}
        changes = [(f'methods."{row}"', row_changes(of_row)) for row, of_row in values.items()]
        recipe = load_recipe("pocket", changes, REGISTRY)
        for row, of_row in values.items():
            for knob, value in of_row.items():
                assert own_value(row, recipe.methods[row], knob) == value
                assert spaces[row][knob].place(value) is not None


def test_the_options_of_a_row_are_all_its_knobs(pocket: Recipe) -> None:
    values = row_values(pocket.methods["dpo"])
    assert values["beta"] == 0.1 and values["train"]["learning_rate"] == 3e-4 and values["rounds"] == 1
    assert options_from(REGISTRY.methods["dpo"].config, {"beta": values["beta"]}).beta == 0.1
