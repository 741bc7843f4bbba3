"""How much of a teacher's probability its letters have is told; under the table where it is little."""

from distilbench.workflows.execute import letter_mass
from results.run.training_notes import Measured


def reward(groups: int, mean: float, low: int) -> Measured:
    return Measured("reward", "student", {"groups": groups, "mean_coverage": mean, "low_coverage_groups": low})


def test_a_teacher_with_little_mass_on_its_letters_is_told() -> None:
    """3 groups at 0.9 and 1 at 0.02 in one stage, 4 at 0.1 in another: (3 * 0.9 + 0.02 + 4 * 0.1) / 8 = 39%."""
    assert letter_mass([Measured("sample", "student", {})]) == ([], False)
    (text,), is_low = letter_mass([reward(4, 2.72 / 4, 1), reward(4, 0.1, 4)])
    assert is_low and "39%" in text and "5 of 8 multiple-choice questions" in text and "take a teacher" in text
    (text,), is_low = letter_mass([reward(4, 0.982, 0)])
    assert not is_low and "98.2%" in text and "below 50% in 0 of 4" in text and "rest on" not in text
