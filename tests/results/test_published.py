"""The paper's numbers: all there, found by name, conflicts noted, unknown names refused."""

from __future__ import annotations

import pytest

from harness.errors import UserError
from results.published import TABLES, in_paper, published, published_table


def test_counts_are_those_of_the_paper() -> None:
    # Table 1: 2 families x 10 rows x 5 metrics; 2: 4 x 2; 3: 6 x 2; 4: 9; 5: 6; 6: 7 x 2
    assert [len(published_table(table)) for table in TABLES] == [100, 8, 12, 9, 6, 14]


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("table1", "gemma2", "pro", "alpaca_eval.lc"), 45.87),
        (("table1", "llama3", "pad-ppd", "gsm8k.acc"), 62.24),
        (("table2", "gemma2", "pad-ppd-2x4", "gpu_hours_a800"), 27.98),
        (("table3", "hetero", "dpo", "alpaca_eval.lc"), 49.42),
        (("table4", "llama3", "learning_rate", "value"), 1e-6),
        (("table4", "llama3", "beta", "value"), 10),  # one value for every family
        (("table5", "any", "Humans", "human_agreement"), 65.66),
        (("table6", "scaling", "teacher", "arena_hard.wr"), 76.09),
    ],
)
def test_a_number_is_found(place: tuple[str, str, str, str], value: float) -> None:
    found = published(*place)
    assert found.value == value
    assert "2502.14272" in found.source
    assert found.protocol


def test_deltas_of_table_1_agree_with_its_rows() -> None:
    delta = published("table1", "gemma2", "pad-ppd", "arena_hard.wr").value
    delta -= published("table1", "gemma2", "student", "arena_hard.wr").value
    assert delta == pytest.approx(22.45)  # 60.00 - 37.55, printed as 22.4


def test_the_known_conflict_is_noted_on_both_sides() -> None:
    for place in (("table1", "gemma2", "pad-ppd"), ("table2", "gemma2", "pad-ppd-1x4")):
        note = published(*place, "alpaca_eval.lc").note
        assert "49.62" in note
        assert "49.42" in note


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (("table9", "gemma2", "pro", "alpaca_eval.lc"), "table9.*table1, table2"),
        (("table1", "gema2", "pro", "alpaca_eval.lc"), "Did you mean 'gemma2'"),
        (("table1", "gemma2", "orpo", "alpaca_eval.lc"), "'orpo'.*simpo"),
        (("table1", "gemma2", "pro", "gsm8k"), "gsm8k.acc"),
    ],
)
def test_an_unknown_name_raises_with_the_choices(place: tuple[str, str, str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        published(*place)


def test_in_paper() -> None:
    assert in_paper("table1", "llama3")
    assert not in_paper("table1", "pocket")
