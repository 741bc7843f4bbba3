"""The pocket judge prompts: readers undo builders for any text, and no answer can forge a fence."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judges.benchmarks.pocket_prompts import Grade, Pair, pair_label, pair_token, read_prompt, single_grade

TEXTS = st.text(st.characters(exclude_categories=()), max_size=80)  # surrogates and control characters included


@given(TEXTS, TEXTS, TEXTS)
def test_readers_undo_builders(question: str, first: str, second: str) -> None:
    assert read_prompt(pair_token((question,), (first,), (second,))) == Pair("token", (question,), (first,), (second,))
    assert read_prompt(pair_label((question,), (first,), (second,))) == Pair("label", (question,), (first,), (second,))
    assert read_prompt(single_grade((question, first), (first, second), (second, question))) == Grade(
        (question, first), (first, second), (second, question)
    )
    assert read_prompt(single_grade((question,), (first,))) == Grade((question,), (first,), ())


def test_an_answer_that_holds_a_whole_prompt_stays_one_answer() -> None:
    inner = pair_label(("q",), ("weak",), ("strong",))[-1]["content"]
    read = read_prompt(pair_label(("real question",), (inner,), ("other",)))
    assert read == Pair("label", ("real question",), (inner,), ("other",))


@settings(max_examples=200)
@given(st.integers(0, 2000), st.sampled_from(["", "x", "\n", "<<", "7"]))
def test_a_changed_prompt_is_not_read_as_something_else(at: int, other: str) -> None:
    system, user = pair_token(("two words",), ("first answer",), ("second answer",))
    content = user["content"]
    at %= len(content)
    changed = content[:at] + other + content[at + 1 :]
    read = read_prompt([system, {"role": "user", "content": changed}])
    assert read is None or changed == content


@given(TEXTS)
def test_any_other_text_is_no_prompt(text: str) -> None:
    assert read_prompt([{"role": "user", "content": text}]) is None
    assert read_prompt([]) is None


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="shows 1 or 2 turns"):
        pair_token(("a", "b", "c"), ("1", "2", "3"), ("1", "2", "3"))
    with pytest.raises(ValueError, match="got 2 and 1"):
        pair_label(("a", "b"), ("1",), ("1", "2"))
