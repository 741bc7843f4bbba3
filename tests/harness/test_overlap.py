"""Overlap of training prompts and questions: exact after normalising, and by 13 words."""

from harness.stages.kinds.contamination import overlap
from harness.types import Prompt, Question

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen"


def prompt(text: str) -> Prompt:
    return Prompt("p", ({"role": "user", "content": text},))


def test_exact_overlap_ignores_case_and_punctuation() -> None:
    found = overlap(
        [prompt("Name a fruit!")], "b", [Question("q1", ("name a FRUIT",)), Question("q2", ("Name fruit",))]
    )
    assert found.exact == ("q1",)
    assert found.ngram == ()  # four words hold no 13-gram


def test_thirteen_words_in_a_row_are_found_and_twelve_are_not() -> None:
    twelve = LONG.rsplit(" ", 1)[0]
    questions = [Question("q13", (f"Well: {LONG}, and so on.",)), Question("q12", (f"Well: {twelve}, and so on.",))]
    found = overlap([prompt(f"Please read {LONG} aloud")], "b", questions)
    assert found.ngram == ("q13",)
    assert found.exact == ()


def test_follow_up_turns_are_not_compared() -> None:
    found = overlap([prompt("Now sort it.")], "b", [Question("q", ("Name a fruit.", "Now sort it."))])
    assert (found.exact, found.questions) == ((), 1)


def test_assistant_turns_of_prompts_are_not_prompts() -> None:
    history = (
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    )
    found = overlap([Prompt("p", history)], "b", [Question("b", ("b",)), Question("c", ("c",))])
    assert found.exact == ("c",)


def test_an_operator_between_numbers_counts() -> None:
    """Without the operator, 11 - 7 and 11 + 7 are the same three words; a dash between words stays no word."""
    questions = [Question("plus", ("Work out 11 + 7.",)), Question("dash", ("A well-known fruit",))]
    found = overlap([prompt("work out 11 - 7"), prompt("work out 11+7"), prompt("a well known fruit!")], "b", questions)
    assert found.exact == ("plus", "dash")
    assert overlap([prompt("work out 11 - 7")], "b", questions).exact == ()
