from harness.errors import unknown_choice


def test_a_message_lists_forty_choices_and_counts_the_rest() -> None:
    names = [f"q{number:03}" for number in range(42)]
    message = str(unknown_choice("question", "q0005", names))
    assert message.startswith("unknown question 'q0005'. Did you mean 'q005'? Choices: q000, q001, ")
    assert message.endswith("q038, q039 and 2 more.")
    assert str(unknown_choice("row", "x", ["b", "a"])) == "unknown row 'x'. Choices: a, b."
