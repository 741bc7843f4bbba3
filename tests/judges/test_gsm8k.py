"""GSM8K: extraction as lm-eval does it, lm-eval driving our model, and marks by rule."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.benchmark import Entrant
from harness.types import Answer, Question
from judges.common import read_jsonl
from judges.gsm8k import BENCHMARK, FILTERS, INVALID, GSM8KConfig, extract, marked


@pytest.mark.parametrize(
    ("text", "strict", "flexible"),
    [
        ("3 + 4 = 7\n#### 7", "7", "7"),
        ("#### 1,200. I checked it 2 ways", "1,200.", "2"),
        ("The answer is $18.", INVALID, "$18."),
        ("#### -5", "-5", "-5"),
        ("#### seven", INVALID, INVALID),
        ("", INVALID, INVALID),
    ],
)
def test_extraction(text: str, strict: str, flexible: str) -> None:
    assert (extract(text, "strict-match"), extract(text, "flexible-extract")) == (strict, flexible)


def test_marks() -> None:
    assert marked("$1,200.", "so many.\n#### 1200") == 1.0
    assert marked("1200.5", "#### 1200") == 0.0 and marked(INVALID, "#### 1") == 0.0


@settings(max_examples=150)
@given(st.text(alphabet="#$-.,0123456789 ax\n", max_size=60))
def test_extraction_is_lm_evals_own(text: str) -> None:
    from lm_eval.filters.extraction import RegexFilter

    strict = RegexFilter(r"#### (\-?[0-9\.\,]+)")
    flexible = RegexFilter(r"(-?[$0-9.,]{2,})|(-?[0-9]+)", group_select=-1)
    assert [extract(text, "strict-match")] == next(iter(strict.apply([[text]], [{}])))
    assert [extract(text, "flexible-extract")] == next(iter(flexible.apply([[text]], [{}])))


def test_lm_eval_drives_our_model(scripted) -> None:
    config = GSM8KConfig(limit=6, fewshot=2)
    questions = BENCHMARK.questions(config)
    right = {question.turns[0]: question.meta["number"] for question in questions}
    model = scripted(lambda talk: f"so 1 + 1. #### {right[talk[-1]['content']]} <|im_end|> Question: 99")
    answers = BENCHMARK.answer(model, questions, config, seed=3)
    ((talks, sampling, seed),) = model.calls
    assert [talk[-1] for talk in talks] == [{"role": "user", "content": question.turns[0]} for question in questions]
    assert [message["role"] for message in talks[0]] == ["user", "assistant", "user", "assistant", "user"]
    assert "####" in talks[0][1]["content"] and (sampling.temperature, seed) == (1.0, 3)
    assert [answer.question for answer in answers] == [question.id for question in questions]
    first = answers[0]
    assert first.meta["strict-match"] == questions[0].meta["number"] and "gsm8k 3.0" in str(first.meta["task"])
    assert first.turns[0].endswith(f"#### {questions[0].meta['number']} ")
    judgments = [
        judgment for q, a in zip(questions, answers, strict=True) for judgment in BENCHMARK.grade(q, a, config)
    ]
    (score,) = BENCHMARK.score(questions, {"x": Entrant(answers, judgments)}, config, 0, 30)["x"]
    assert score.value == 100 and (score.n, score.unscored) == (6, 0) and score.detail["strict-match"] == 100
    assert "gsm8k 3.0" in str(score.detail["task"]) and score.note == "flexible-extract, 2-shot"


def test_scores_follow_the_chosen_filter_and_count_what_is_missing() -> None:
    questions = [Question(name, ("q",), reference=("#### 4",)) for name in "abc"]
    answers = [Answer("a", ("it is 4",), (True,), (3,)), Answer("b", ("#### 4, of 5",), (True,), (4,))]
    judgments = [j for q, a in zip(questions, answers, strict=False) for j in BENCHMARK.grade(q, a, GSM8KConfig())]
    assert [judgment.flags for judgment in judgments] == [("no-number",), (), (), ()]
    for name in FILTERS:  # a is right by the last number only, b by the hashes only
        (score,) = BENCHMARK.score(questions, {"x": Entrant(answers, judgments)}, GSM8KConfig(filter=name), 0, 0)["x"]
        assert score.value == 50 and (score.n, score.unscored) == (2, 1)


def test_log_likelihood_is_refused_clearly(scripted) -> None:
    from harness.models import Sampling
    from judges.lm_eval_model import ChatLM

    model = ChatLM(scripted(lambda talk: ""), Sampling(5), 0)
    with pytest.raises(NotImplementedError, match="generation tasks"):
        model.loglikelihood([])
    with pytest.raises(NotImplementedError, match="generation tasks"):
        model.loglikelihood_rolling([])


def changed(solution: str, how: str) -> str:
    """The variants of ``extraction.expected.json``, as its header defines them."""
    if how == "A_line_to_hashes":
        return re.sub(r"^A: ", "#### ", solution, flags=re.MULTILINE)
    if how == "A_line_removed":
        return re.sub(r"^A: .*$", "", solution, flags=re.MULTILINE)
    if how == "A_line_sentence":
        return re.sub(r"^A: (.*)$", r"The answer is $\1.", solution, flags=re.MULTILINE)
    return solution


@pytest.mark.assets
def test_all_flags_of_the_example_solutions(assets) -> None:
    expected = json.loads((assets / "gsm8k/extraction.expected.json").read_text())
    gold = [row["answer"] for row in read_jsonl(assets / "gsm8k/test.jsonl")]
    rows = read_jsonl(assets / "gsm8k/example_model_solutions.jsonl")
    agree = 0
    for system, known in expected["systems"].items():
        for how in ("raw", "A_line_to_hashes", "A_line_removed", "A_line_sentence"):
            for name in FILTERS:
                found = [extract(changed(row[system]["solution"], how), name) for row in rows]
                marks = [marked(each, answer) for each, answer in zip(found, gold, strict=True)]
                entry = known[f"{how}/{name}"]
                assert (sum(marks), found.count(INVALID)) == (entry["n_correct"], entry["n_invalid"]), (
                    system,
                    how,
                    name,
                )
                if (how, name) == ("raw", "flexible-extract"):
                    flags = [row[system]["is_correct"] for row in rows]
                    agree += sum(bool(mark) == flag for mark, flag in zip(marks, flags, strict=True))
    assert agree == 5276
    assert all(marked(extract(answer, name), answer) for answer in gold for name in FILTERS)


@pytest.mark.assets
def test_official_shots_are_turns_of_the_training_problems(assets, scripted) -> None:
    config = GSM8KConfig(questions="official", limit=3)
    model = scripted(lambda talk: "#### 1")
    questions = BENCHMARK.questions(config)
    BENCHMARK.answer(model, questions, config, 0)
    talks = model.calls[0][0]
    assert [len(talk) for talk in talks] == [11, 11, 11] and model.calls[0][1].temperature == 0
    assert talks[0][-1]["content"] == f"Question: {questions[0].turns[0]}\nAnswer:"
    train = {row["answer"] for row in read_jsonl(assets / "gsm8k/train.jsonl")}
    assert all(talk[turn]["content"].strip() in train for talk in talks for turn in range(1, 11, 2))
