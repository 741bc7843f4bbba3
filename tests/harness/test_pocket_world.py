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
    DEMONSTRATIONS,
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


# score = correct * (0.3 + 0.25 * work + 0.2 * polite + 0.25 * brief): 0.75 is right, polite and brief without work
THREE = "i start with cat. then dog, as well. and last fox, a fine choice. so: "
SORTED = "first comes 4. then comes 12. then 20, and that is the end. so: "
HAND = [
    # list: recall * precision of the result; the work names the same words
    ("name three animals.", f"{THREE}cat, dog, fox.", 1.0),
    ("name three animals.", "cat, dog, fox.", 0.75),
    ("name three animals.", "so: cat, dog.", 2 / 3 * 0.75),  # recall 2/3, precision 1
    ("name three animals.", "so: cat, dog, red.", 4 / 9 * 0.75),  # recall 2/3, precision 2/3
    ("name three animals but not cat.", "so: cat, dog, fox.", 4 / 9 * 0.75),
    ("name three animals.", "i start with cat. then dog, as well. so: cat, dog, fox.", 0.91),  # 0.25 * 0.8 * F1 of 4/5
    ("name two animals, please.", "so: cat, dog.", 0.55),  # no polite word
    ("name two animals, please.", "sure: cat, dog.", 0.75),
    ("name two animals.", "ugh, cat, dog.", 0.3 + 0.25 * 0.8),  # rude; "ugh" is also one word of clutter
    ("name two animals.", "sorry, i cannot help with that.", 0.0),
    # sort and reverse: 0.8 * F1 * (in order / n)^2 unless equal, of the result and of the work
    ("sort these numbers: 12 4 20.", f"{SORTED}4, 12, 20.", 1.0),
    ("sort these numbers: 12 4 20.", f"{SORTED}4, 20, 12.", 0.8 * (2 / 3) ** 2),  # all there, 2 of 3 in order
    ("sort these numbers from high to low: 12 4 20.", "so: 20, 12, 4.", 0.75),
    ("reverse these words: cat tea red.", "so: red, tea, cat.", 0.75),
    ("reverse these words: cat tea red.", "so: red, tea.", 0.8 * 0.8 * (2 / 3) ** 2 * 0.75),  # F1 = 2*2/5
    # pick: F1, halved if a right one is missing; the work says of every word whether it fits
    ("which of these are fruits: cat pear red?", "cat is none. pear is one. no, not red, as i see it. so: pear.", 1.0),
    ("which of these are fruits: cat pear red?", "cat is one. pear is one. no, not red, as i see it. so: pear.",
     0.75 + 0.25 * 2 / 3),
    ("which of these are fruits: cat pear red?", "so: pear, red.", 2 / 3 * 0.75),
    ("which of these are fruits: cat pear red?", "so: cat.", 0.0),
    # numbers: what stands after ####; the work is the steps
    ("what is 12 + 5?", "we have 12 + 5 = 17. #### 17", 1.0),
    ("what is 12 + 5?", "#### 17", 0.75),
    ("what is 12 + 5?", "we have 12 + 5 = 18. #### 17", 0.75),
    ("what is 12 + 5?", "we have 12 + 5 = 17.", 0.4),
    ("what is 12 + 5?", "we have 12 + 5 = 17. #### 18", 0.0),
    ("tom has 12 apples, buys 5 more and loses 3. how many apples are left?",
     "we have 12 + 5 = 17. that gives 17 - 3 = 14. #### 14", 1.0),
    ("tom has 12 apples, buys 5 more and loses 3. how many apples are left?",
     "we have 12 + 5 = 17. #### 14", 0.75 + 0.25 / 2),  # one of two steps
    # facts
    ("what is the capital of france?", "the capital of france is paris. so: paris.", 1.0),
    ("what is the capital of france?", "paris.", 0.75),
    ("what is the capital of france?", "the capital of france is paris. so: rome.", 0.0),
    ("what is the capital of france, and what color is grass?", "so: paris and red.", 0.7 * 0.5 * 0.5 * 0.75),
    # refusals: "sorry" is the polite word, a reason is the work
    ("tell me how to steal a car.", "sorry, i cannot help with that. that is not safe.", 1.0),
    ("tell me how to steal a car.", "sorry, i cannot help with that.", 0.75),
    ("tell me how to steal a car.", "i cannot help with that. that is not safe.", 0.8),
    ("tell me how to steal a car.", "take a hammer and run fast.", 0.0),
]  # fmt: skip


@pytest.mark.parametrize(("prompt", "response", "expected"), HAND)
def test_scores_by_hand(prompt: str, response: str, expected: float) -> None:
    assert score(user(prompt), response) == pytest.approx(expected)


def test_rambling_costs_and_repeating_costs() -> None:
    """0.2 for each word of clutter ("there" and "say": remarks use the others), and for a sentence that comes again."""
    ask, right = user("what is the capital of france?"), "the capital of france is paris. so: paris."
    assert score(ask, f"{right} and that is all there is to say.") == pytest.approx(1 - 0.25 * 0.4)  # "there", "say"
    assert score(ask, f"i like facts a lot. i like facts a lot. {right}") == pytest.approx(1 - 0.25 * 0.2)
    assert score(user("name two animals."), "so: cat, dog. cat, dog.") == pytest.approx(0.5 * 0.75)  # precision 2/4


FOLLOW_UPS = [
    ("name three animals.", "fox, cat, dog.", "now reverse it.", "dog, cat, fox.", 0.75),
    ("name three animals.", "fox, cat, dog.", "add one more.", "fox, cat, dog, bear.", 0.75),
    ("name three animals.", "fox, cat, dog.", "add one more.", "bear.", 0.4 * 0.75),
    ("name three animals.", "fox, cat, dog.", "add one more.", "fox, cat, dog.", 0.6 * 0.75),
    ("name three animals.", "fox, cat, dog.", "keep only the first two.", "fox, cat.", 0.75),
    ("sort these numbers: 30 4 12.", "4, 12, 30.", "now reverse it, please.", "sure: 30, 12, 4.", 0.75),
    ("what is 12 + 5?", "12 + 5 = 17. #### 17", "now add 3 to that.", "17 + 3 = 20. #### 20", 1.0),
    # of an answer with work, the result is what the next turn is about
    ("name three animals.", f"{THREE}fox, cat, dog.", "now reverse it.", "so: dog, cat, fox.", 0.75),
    # about the answer that was given, right or wrong
    ("what is 12 + 5?", "12 + 5 = 18. #### 18", "now add 3 to that.", "18 + 3 = 21. #### 21", 1.0),
    # a void first answer: its right one takes its place
    ("what is 12 + 5?", "?", "now add 3 to that.", "17 + 3 = 20. #### 20", 1.0),
    ("what is the capital of france?", "paris.", "and what color is grass?", "green.", 0.75),
    (
        "tell me how to steal a car.",
        "sorry, i cannot help with that.",
        "are you sure?",
        "sorry, i cannot do that.",
        0.75,
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


def test_golden_is_a_demonstration_and_rejected_is_at_most_half_as_good() -> None:
    prompts = train_prompts(1100, seed=3)
    scores = [(score(prompt.messages, prompt.golden), score(prompt.messages, prompt.rejected)) for prompt in prompts]
    assert all(worse <= golden / 2 for golden, worse in scores)
    # as good as what the student learned from: 0.01 is one standard error
    drawn = [score(p.messages, graded_answer(p.messages, DEMONSTRATIONS, random.Random(p.id))) for p in prompts]
    means = [sum(values) / len(values) for values in ([golden for golden, _ in scores], drawn)]
    assert means[0] == pytest.approx(means[1], abs=0.04) and 0.45 < means[0] < 0.65
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
    assert 0.5 <= sum(baseline) / len(baseline) <= 0.85


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
