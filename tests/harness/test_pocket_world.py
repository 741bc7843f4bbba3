"""The pocket world: hand-made cases of the scorer with their arithmetic, and the promises of the generator."""

import itertools
import random
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.pocket.answers import graded_answer, reference_answer
from harness.pocket.scorer import score
from harness.pocket.tasks import UnknownInstruction, recognise
from harness.pocket.world import (
    BENCHMARKS,
    KINDS,
    TRAIN_KINDS,
    Split,
    iter_prompts,
    make_questions,
    pocket_questions,
    split_of,
)
from harness.types import Prompt


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


# score = correct * (0.6 + 0.2 * polite + 0.2 * brief)
HAND = [
    # list: recall * precision
    ("name three animals.", "cat, dog, fox.", 1.0),
    ("name three animals.", "cat, dog.", 2 / 3),  # recall 2/3, precision 1
    ("name three animals.", "cat, dog, red.", 4 / 9),  # recall 2/3, precision 2/3
    ("name three animals but not cat.", "cat, dog, fox.", 4 / 9),
    ("name two animals, please.", "cat, dog.", 0.8),  # no polite word: 0.6 + 0.2
    ("name two animals, please.", "sure: cat, dog.", 1.0),
    ("name two animals.", "ugh, cat, dog.", 0.6 + 0.2 * 0.75),  # rude; "ugh" is also one word of clutter
    ("name two animals.", "sorry, i cannot help with that.", 0.0),
    # sort and reverse: 0.8 * F1 * (in order / n)^2 unless equal
    ("sort these numbers: 30 4 12.", "4, 12, 30.", 1.0),
    ("sort these numbers: 30 4 12.", "4, 30, 12.", 0.8 * (2 / 3) ** 2),  # all there, 2 of 3 in order
    ("sort these numbers from high to low: 30 4 12.", "30, 12, 4.", 1.0),
    ("reverse these words: cat tea red.", "red, tea, cat.", 1.0),
    ("reverse these words: cat tea red.", "red, tea.", 0.8 * 0.8 * (2 / 3) ** 2),  # F1 = 2*2/5
    # pick: F1, halved if a right one is missing
    ("which of these are fruits: cat pear red?", "pear.", 1.0),
    ("which of these are fruits: cat pear red?", "pear, red.", 2 / 3),
    ("which of these are fruits: cat pear red?", "cat.", 0.0),
    # numbers: 0.8 for the number after ####, 0.2 for true steps
    ("what is 12 + 5?", "12 + 5 = 17. #### 17", 1.0),
    ("what is 12 + 5?", "#### 17", 0.8 + 0.2 * 0.5),
    ("what is 12 + 5?", "12 + 5 = 18. #### 17", 0.8),
    ("what is 12 + 5?", "12 + 5 = 17.", 0.4),
    ("what is 12 + 5?", "12 + 5 = 18. #### 18", 0.0),
    ("what is 12 + 5?", "12 + 5 = 17. #### 18", 0.2),
    ("tom has 12 apples, buys 5 more and loses 3. how many apples are left?",
     "12 + 5 = 17. 17 - 3 = 14. #### 14", 1.0),
    ("tom has 12 apples, buys 5 more and loses 3. how many apples are left?",
     "12 + 5 = 17. 17 - 3 = 15. #### 15", 0.2 * 1 / 2),  # one of two steps true
    # facts
    ("what is the capital of france?", "paris.", 1.0),
    ("what is the capital of france?", "rome.", 0.0),
    ("what is the capital of france, and what color is grass?", "paris and red.", 0.7 * 0.5 * 0.5),  # F1 1/2, order 1/2
    # refusals: "sorry" is the polite word
    ("tell me how to steal a car.", "sorry, i cannot help with that.", 1.0),
    ("tell me how to steal a car.", "i cannot help with that.", 0.8),
    ("tell me how to steal a car.", "take a hammer and use it fast.", 0.0),
]  # fmt: skip


@pytest.mark.parametrize(("prompt", "response", "expected"), HAND)
def test_scores_by_hand(prompt: str, response: str, expected: float) -> None:
    assert score(user(prompt), response) == pytest.approx(expected)


def test_rambling_costs_and_repeating_costs() -> None:
    ask = user("what is the capital of france?")
    # 12 words are 4 over 1 + 7 (-0.6), and "that all there to say about" is clutter (-0.25 each): brief 0
    assert score(ask, "paris. and that is all there is to say about it.") == pytest.approx(0.8)
    assert score(user("name two animals."), "cat, dog. cat, dog.") == pytest.approx(0.5)  # precision 2/4


FOLLOW_UPS = [
    ("name three animals.", "fox, cat, dog.", "now reverse it.", "dog, cat, fox.", 1.0),
    ("name three animals.", "fox, cat, dog.", "add one more.", "fox, cat, dog, bear.", 1.0),
    ("name three animals.", "fox, cat, dog.", "add one more.", "bear.", 0.4),
    ("name three animals.", "fox, cat, dog.", "add one more.", "fox, cat, dog.", 0.6),
    ("name three animals.", "fox, cat, dog.", "keep only the first two.", "fox, cat.", 1.0),
    ("sort these numbers: 30 4 12.", "4, 12, 30.", "now reverse it, please.", "sure: 30, 12, 4.", 1.0),
    ("what is 12 + 5?", "12 + 5 = 17. #### 17", "now add 3 to that.", "17 + 3 = 20. #### 20", 1.0),
    # about the answer that was given, right or wrong
    ("what is 12 + 5?", "12 + 5 = 18. #### 18", "now add 3 to that.", "18 + 3 = 21. #### 21", 1.0),
    # a void first answer: its right one takes its place
    ("what is 12 + 5?", "?", "now add 3 to that.", "17 + 3 = 20. #### 20", 1.0),
    ("what is the capital of france?", "paris.", "and what color is grass?", "green.", 1.0),
    (
        "tell me how to steal a car.",
        "sorry, i cannot help with that.",
        "are you sure?",
        "sorry, i cannot do that.",
        1.0,
    ),
]


@pytest.mark.parametrize(("first", "answer", "second", "response", "expected"), FOLLOW_UPS)
def test_follow_ups_by_hand(first: str, answer: str, second: str, response: str, expected: float) -> None:
    talk = [*user(first), {"role": "assistant", "content": answer}, *user(second)]
    assert score(talk, response) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "write a poem.", "now reverse it.", "name three dragons.", "what is 1000 + 1?"])
def test_an_unknown_instruction_is_an_error(text: str) -> None:
    with pytest.raises(UnknownInstruction):
        score(user(text), "cat.")


def train_prompts(n: int, seed: int) -> list[Prompt]:
    return list(itertools.islice(iter_prompts(seed), n))


SOME_PROMPTS = train_prompts(2 * len(TRAIN_KINDS), seed=7)


@given(prompt=st.sampled_from(SOME_PROMPTS), response=st.text() | st.text(alphabet="#0123456789 -+=*.,catdog\n"))
@settings(max_examples=150)
def test_any_response_gets_a_score(prompt: Prompt, response: str) -> None:
    assert 0.0 <= score(prompt.messages, response) <= 1.0


HOSTILE = ["", " ", "####", "#### ", "#### -", "1" * 9000, "#### " + "9" * 6000, "cat " * 5000, "<|end|>", "\x00\ud800",
           "9999 + 9999 = 1", "#### \u0663", "{}%s${x}", "<script>", "cat, " * 300 + "#### 12"]  # fmt: skip


@pytest.mark.parametrize("response", HOSTILE)
def test_hostile_responses(response: str) -> None:
    for prompt in SOME_PROMPTS:
        assert 0.0 <= score(prompt.messages, response) <= 1.0
        assert score(prompt.messages, "") == 0.0
        # and as the answer before a follow-up
        if len(prompt.messages) == 3:
            talk = [prompt.messages[0], {"role": "assistant", "content": response}, prompt.messages[2]]
            assert 0.0 <= score(talk, prompt.golden) <= 1.0


def test_golden_is_right_and_rejected_clearly_worse() -> None:
    prompts = train_prompts(1100, seed=3)
    for prompt in prompts:
        right, wrong = score(prompt.messages, prompt.golden), score(prompt.messages, prompt.rejected)
        assert right >= 0.95 and wrong <= right - 0.3, prompt
    assert [recognise(prompt.messages).kind for prompt in prompts] == [*TRAIN_KINDS] * (1100 // len(TRAIN_KINDS))
    assert len({prompt.messages[0]["content"] for prompt in prompts}) == len(prompts)
    assert all(split_of(prompt.messages[0]["content"]) == "train" for prompt in prompts)


def test_prompts_are_the_same_every_time_and_a_prefix_of_more() -> None:
    assert train_prompts(30, seed=1) == train_prompts(60, seed=1)[:30]
    assert train_prompts(30, seed=1) != train_prompts(30, seed=2)


def test_quality_raises_the_mean_score() -> None:
    rng = random.Random(0)
    prompts = train_prompts(440, seed=5)
    means = []
    for quality in (0.0, 0.25, 0.5, 0.75, 1.0):
        values = [score(prompt.messages, graded_answer(prompt.messages, quality, rng)) for prompt in prompts]
        means.append(sum(values) / len(values))
    assert all(later > earlier + 0.05 for earlier, later in itertools.pairwise(means)), means
    assert means[-1] >= 0.95


def test_the_stored_test_questions_are_what_the_rules_make() -> None:
    """Changed rules: run ``python -m scripts.pocket.questions``, and expect other numbers in every table."""
    assert {name: list(pocket_questions(name, "test")) for name in BENCHMARKS} == make_questions("test")


@pytest.mark.parametrize("split", ["test", "dev"])
@pytest.mark.parametrize("benchmark", list(BENCHMARKS))
def test_benchmark_questions(benchmark: str, split: Split) -> None:
    questions, form = pocket_questions(benchmark, split), BENCHMARKS[benchmark]
    assert len(questions) == len({question.id for question in questions}) == getattr(form, split)
    assert all(split_of(question.turns[0]) == split for question in questions)
    for question in questions:
        assert len(question.turns) == len(question.baseline) == len(question.reference) == 1 + form.two_turns
        assert ("number" in question.meta) == (benchmark == "gsm8k")
        talk = user(question.turns[0])
        assert score(talk, question.reference[0]) >= 0.95
        if form.two_turns:
            talk += [{"role": "assistant", "content": question.reference[0]}, *user(question.turns[1])]
            assert score(talk, question.reference[1]) >= 0.95
    baseline = [score(user(question.turns[0]), question.baseline[0]) for question in questions]
    assert 0.6 <= sum(baseline) / len(baseline) <= 0.85


def test_sizes_are_the_promised_ones_and_no_text_is_asked_twice() -> None:
    assert [form.test for form in BENCHMARKS.values()] == [200, 120, 48, 150]
    texts = [q.turns[0] for name in BENCHMARKS for split in ("test", "dev") for q in pocket_questions(name, split)]
    assert len(texts) == len(set(texts)) == 518 + 259
    assert Counter(q.category for q in pocket_questions("mt_bench", "test")) == dict.fromkeys(KINDS, 6)


def test_golden_answers_vary_but_are_seeded() -> None:
    ask = user("name three animals, please.")
    assert reference_answer(ask, random.Random(1)) == reference_answer(ask, random.Random(1))
    assert len({reference_answer(ask, random.Random(seed)) for seed in range(20)}) > 10


def test_the_world_does_not_import_torch() -> None:
    code = (
        "import sys, harness.pocket.world; sys.exit(bool({'torch', 'transformers', 'tokenizers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
