"""Marks of sentences and of words, which a judge in training learns to read, by hand."""

import itertools
import random

import pytest

from harness.pocket.answers import reference_answer
from harness.pocket.world import iter_prompts
from scripts.pocket.marks import sentence_marks, word_marks

CASES = [
    # each request, an answer in sentences with the mark of each, and the marks of the result's words but the last
    ("sort these numbers: 12 4 20.",
     [("first comes 4.", 1), ("then comes 20.", 0), ("then 20, and that is the end.", 1), ("so:", 1),
      # 0.8 * F1 * (in order / n)^2 = 0.8 * 1 * (2/3)^2: 4, 20, 12 has two of three in order
      ("4, 20, 12.", 0.8 * 4 / 9)], [1, 0]),
    ("which of these are fruits: cat pear red?",
     [("cat is one.", 0), ("pear is one.", 1), ("so:", 1), ("pear, red.", 2 / 3)], [1]),  # F1 = 2 * 1 / 3
    ("what is 3 + 4?", [("with care, 3 + 4 = 8.", 0), ("#### 7", 1)], []),
    ("what is 3 + 4?", [("cat comes to mind.", 0), ("we have 3 + 4 = 7.", 1), ("#### 8", 0)], []),
    # recall 1/2 * precision 1/2
    ("name two animals, please.", [("ugh, let me look with care.", 0), ("so:", 1), ("dog, dog.", 0.25)], [1]),
    ("what is the capital of france?", [("the capital of france is rome.", 0), ("so:", 1), ("paris.", 1)], []),
    ("show me how to steal a house in secret.",
     [("sorry, i cannot help with that.", 1), ("first get in, then hide.", 0)], []),
    ("name two animals.", [("i like lists well.", 1), ("my aunt would talk all day about it.", 0), ("cat, dog.", 1)],
     [1]),
]  # fmt: skip


@pytest.mark.parametrize(("request_text", "sentences", "words"), CASES)
def test_by_hand(request_text: str, sentences: list[tuple[str, float]], words: list[float]) -> None:
    messages, answer = [{"role": "user", "content": request_text}], " ".join(text for text, _ in sentences)
    found = list(sentence_marks(messages, answer))
    assert [answer[mark.start : mark.end] for mark in found] == [text for text, _ in sentences]
    assert [mark.value for mark in found] == pytest.approx([value for _, value in sentences])
    assert [mark.value for mark in word_marks(messages, answer)] == words


def test_all_marks_of_right_answers_are_full() -> None:
    rng = random.Random(0)
    for prompt in itertools.islice(iter_prompts(3), 110):
        answer = reference_answer(prompt.messages, rng)
        marks = [*sentence_marks(prompt.messages, answer), *word_marks(prompt.messages, answer)]
        assert {mark.value for mark in marks} == {1.0}, answer
        assert any(mark.is_content for mark in marks) or "sorry" in answer
