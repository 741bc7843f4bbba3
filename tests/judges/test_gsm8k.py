"""GSM8K: extraction as lm-eval does it, lm-eval driving our model, and marks by rule."""

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.contracts.benchmark import Entrant
from harness.contracts.model import Sampling
from harness.errors import UserError
from harness.types import Answer, Question, Response
from judges.benchmarks.answer_files import read_jsonl
from judges.benchmarks.gsm8k.benchmark import (
    BENCHMARK,
    FILTERS,
    INVALID,
    JSON_BENCHMARK,
    GSM8KConfig,
    GSM8KJsonConfig,
    extract,
    extract_answer,
    mark_json,
    mark_of,
    number_in,
)


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
    assert mark_of("$1,200.", "so many.\n#### 1200") == 1.0
    assert mark_of("1200.5", "#### 1200") == 0.0 and mark_of(INVALID, "#### 1") == 0.0


@pytest.mark.parametrize("stop", ["Question:", "</s>", "<|im_end|>"])
def test_answers_made_elsewhere_end_at_the_stop_strings_of_lm_eval(stop: str) -> None:
    """lm-eval cuts a response before it extracts; what it extracted itself is kept. The JSON protocol has no stops."""
    question = Question("0", ("q",), reference=("w\n#### 4",))
    answer = Answer("0", (f"so #### 4 {stop} What is 2 + 3?\n#### 5",), (), ())
    config = GSM8KConfig(questions="official")
    marks = BENCHMARK.grade(question, answer, config)
    assert [(mark.verdict, mark.flags) for mark in marks] == [(1.0, ("cut-at-stop",))] * 2
    own = replace(answer, meta=dict.fromkeys(FILTERS, "5"))
    assert [(mark.verdict, mark.flags) for mark in BENCHMARK.grade(question, own, config)] == [(0.0, ())] * 2
    first = replace(answer, turns=(f"{stop} #### 4",))
    assert [mark.flags for mark in BENCHMARK.grade(question, first, config)] == [("no-number", "cut-at-stop")] * 2
    replied = replace(answer, turns=('Question: {"answer": 4}',))
    (mark,) = JSON_BENCHMARK.grade(question, replied, GSM8KJsonConfig())
    assert mark.verdict == 1.0


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
    assert "gsm8k 3.0" in str(score.detail["task"]) and score.note.startswith("flexible-extract, 2-shot; gsm8k")


def test_filters_metric_and_version_are_those_of_the_installed_task(monkeypatch) -> None:
    from judges.benchmarks.gsm8k import lm_eval_adapter as lm_eval_model

    real = lm_eval_model.installed_task()
    assert tuple(real["generation_kwargs"]["until"]) == lm_eval_model.STOPS
    assert [each["name"] for each in real["filter_list"]] == list(FILTERS)
    another = {"filter_list": ["f"], "metric_list": ["m"], "metadata": {"version": 9.5}}
    monkeypatch.setattr(lm_eval_model, "installed_task", lambda: another)
    config_of_task = lm_eval_model.task_config(
        [Question("q", ("q",), reference=("a",))], [], "{question}", 0, Sampling(8)
    )
    assert {name: config_of_task[name] for name in another} == another


@pytest.mark.parametrize(
    ("text", "gold", "told"),
    [
        ("That makes $29.00.", "29", True),
        ("It is 1,250.00 dollars", "1,250", True),
        ("So **29.0**", "29", True),
        ("It is \u221229", "-29", True),
        ("That makes $29.", "29", False),  # right
        ("It is 28.00", "29", False),
        ("nothing", "29", False),
    ],
)
def test_numbers_that_are_wrong_as_texts_alone_are_told(text: str, gold: str, told: bool) -> None:
    """The official mark is kept (lm-evaluation-harness issue 3214), and its bite counted once per question."""
    question, config = Question("q", ("q",), reference=(f"w\n#### {gold}",)), GSM8KConfig()
    answer = Answer("q", (text,), (True,), (9,))
    marks = BENCHMARK.grade(question, answer, config)
    assert ("right-as-number" in marks[-1].flags) == told and (not told or marks[-1].verdict == 0.0)
    (score,) = BENCHMARK.score([question], {"x": Entrant([answer], marks)}, config, 0, 0)["x"]
    assert score.detail.get("flag:right-as-number", 0.0) == float(told)


def test_scores_follow_the_chosen_filter_and_count_what_is_missing() -> None:
    questions = [Question(name, ("q",), reference=("#### 4",)) for name in "abc"]
    answers = [Answer("a", ("it is 4",), (True,), (3,)), Answer("b", ("#### 4, of 5",), (True,), (4,))]
    judgments = [j for q, a in zip(questions, answers, strict=False) for j in BENCHMARK.grade(q, a, GSM8KConfig())]
    assert [judgment.flags for judgment in judgments] == [("no-number",), (), (), ()]
    for name in FILTERS:  # a is right by the last number only, b by the hashes only
        (score,) = BENCHMARK.score(questions, {"x": Entrant(answers, judgments)}, GSM8KConfig(filter=name), 0, 0)["x"]
        assert score.value == 50 and (score.n, score.unscored) == (2, 1)


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
                numbers = [extract(changed(row[system]["solution"], how), name) for row in rows]
                marks = [mark_of(each, answer) for each, answer in zip(numbers, gold, strict=True)]
                entry = known[f"{how}/{name}"]
                assert (sum(marks), numbers.count(INVALID)) == (entry["n_correct"], entry["n_invalid"]), (
                    system,
                    how,
                    name,
                )
                if (how, name) == ("raw", "flexible-extract"):
                    flags = [row[system]["is_correct"] for row in rows]
                    agree += sum(bool(mark) == flag for mark, flag in zip(marks, flags, strict=True))
    assert agree == 5276
    assert all(mark_of(extract(answer, name), answer) for answer in gold for name in FILTERS)


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


@pytest.mark.parametrize("adds_bos", [False, True])
@pytest.mark.parametrize("form", ["turns", "one-turn", "plain"])
def test_every_prompt_form_is_lm_evals_own_token_by_token(form: str, adds_bos: bool, tmp_path, scripted) -> None:
    """The installed task with its Jinja templates, rendered and encoded by lm-eval's own model of transformers."""
    from importlib.resources import files

    import yaml
    from datasets import Dataset
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.models.huggingface import HFLM
    from tokenizers.processors import TemplateProcessing

    from harness.models.chat import encode_prompt
    from harness.models.checkpoint import resolve
    from harness.models.load import load_tokenizer

    tokenizer = load_tokenizer(resolve("pocket:student").location, False)
    if adds_bos:  # as Llama's and Gemma's do
        bos = (tokenizer.bos_token, tokenizer.bos_token_id)
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{bos[0]} $A", special_tokens=[bos])
    rows = {
        split: [{"question": f"Tom has {n} apples, and {n}?", "answer": f"{n} + {n}\n#### {2 * n}"} for n in numbers]
        for split, numbers in {"test": range(3), "train": range(10, 30)}.items()
    }
    for split, lines in rows.items():
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    config = GSM8KConfig(questions="official", source=str(tmp_path), prompt_form=form, fewshot=2)
    model = scripted(lambda talk: "#### 1")
    BENCHMARK.answer(model, BENCHMARK.questions(config), config, 0)

    official = yaml.safe_load(files("lm_eval").joinpath("tasks/gsm8k/gsm8k.yaml").read_text())
    splits = {split: Dataset.from_list(lines) for split, lines in rows.items()}
    official |= {"custom_dataset": lambda **_: splits, "dataset_path": None, "dataset_name": None, "tag": None}
    task = ConfigurableTask(config=official)
    task.set_fewshot_seed(1234)
    reader = object.__new__(HFLM)  # its model is not needed to write and encode prompts
    reader.tokenizer, reader.backend, reader.add_bos_token, reader.chat_template_args = tokenizer, "causal", None, {}
    for talk, row in zip(model.calls[0][0], rows["test"], strict=True):
        text = task.fewshot_context(
            row, 2, apply_chat_template=form != "plain", fewshot_as_multiturn=form == "turns",
            chat_template=reader.apply_chat_template,
        )  # fmt: skip
        ids, _ = reader.tok_batch_encode([text])
        assert encode_prompt(tokenizer, talk) == ids[0].tolist()
        assert adds_bos or ids[0, 0] == tokenizer.bos_token_id or form == "plain"
    version = {"turns": "as turns", "one-turn": "in one turn", "plain": "no chat template"}[form]
    assert version in BENCHMARK.card(config).version
    (score,) = BENCHMARK.score(BENCHMARK.questions(config), {"x": Entrant((), ())}, config, 0, 0)["x"]
    assert (version in score.note) == (form != "turns")


@pytest.mark.parametrize(
    ("text", "answer", "flags"),
    [
        ('{"reasoning": "2 + 2", "answer": "4"}', "4", ()),
        ('Sure!\n```json\n{"reasoning": "a {b}", "answer": 4.0}\n```', "4.0", ()),
        ('{"note": 1} then {"answer": "$1,200"}', "$1,200", ()),
        ('{"reasoning": "line\nbreak", "answer": "18 dollars"}', "18 dollars", ("broken-json",)),
        ('{"reasoning": "cut", "answer": 7', "7", ("broken-json",)),
        ("the answer is 4", None, ()),
        ('{"answer": ["4"]}', "[", ("broken-json",)),
        ("{" * 3000, None, ()),
        pytest.param('{"answer": ' + "[" * 100_000, "[" * 100_000, ("broken-json",), id="deep"),
        ('first "answer": "3", no: "answer": "18"', "18", ("broken-json",)),  # the last one counts
    ],
)
def test_json_answers(text: str, answer: str | None, flags: tuple[str, ...]) -> None:
    assert extract_answer(text) == (answer, flags)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *[("18", 18), ("$1,200.50", 1200.5), ("18.00", 18), ("-3 apples", -3), ("3/4", 0.75), ("3 / 4", 0.75)],
        *[(".5", 0.5), ("-.5", -0.5), ("no.5", 5), ("so...5", 5), ("1.8e1", 18), ("1E+16", 10**16), ("2.5e-1", 0.25)],
        *[("\u22123", -3), ("18 eggs", 18), ("1e999999999", None), ("1/0", None), ("none", None)],
    ],
)
def test_numbers_are_compared_as_numbers(text: str, number: float | None) -> None:
    assert number_in(text) == number


def test_a_number_of_thousands_of_digits_is_wrong_not_an_error() -> None:
    """Python refuses to read integers of more than 4,300 digits."""
    text = '{"reasoning": "r", "answer": ' + "9" * 5000 + "}"
    judgment = mark_json(Question("q", ("?",), reference=("#### 4",)), Answer("q", (text,), (True,), (1,)))
    assert judgment.verdict == 0.0 and judgment.flags == ("broken-json", "no-number")


@given(st.text(alphabet='{}[]":,answer0123456789./-$ \n\\', max_size=80))
def test_any_json_reply_is_marked_without_raising(text: str) -> None:
    (judgment,) = JSON_BENCHMARK.grade(
        Question("q", ("?",), reference=("#### 4",)), Answer("q", (text,), (True,), (1,)), GSM8KConfig(protocol="json")
    )
    assert judgment.verdict in (0.0, 1.0)


def test_the_json_protocol_from_prompt_to_score(scripted) -> None:
    """Four problems: right, right as 4.0, wrong, no JSON at all: 2 of 4, one flagged."""
    config = GSM8KJsonConfig(limit=4)
    benchmark = JSON_BENCHMARK
    questions = benchmark.questions(config)
    gold = [str(question.meta["number"]) for question in questions]
    texts = [f'{{"answer": "{gold[0]}"}}', f'{{"answer": "{gold[1]}.0"}}', '{"answer": "-77"}', f"it is {gold[3]}"]
    replies = iter(texts)
    model = scripted(lambda talk: "")
    model.generate = lambda talks, sampling, seed, n=1: (
        model.calls.append((talks, sampling, seed)) or [[Response(next(replies), True, 5)] for _ in talks]
    )
    answers = benchmark.answer(model, questions, config, 0)
    ((talks, sampling, _),) = model.calls
    assert all("JSON object" in talk[0]["content"] for talk in talks) and sampling.temperature == 1
    judgments = [j for q, a in zip(questions, answers, strict=True) for j in benchmark.grade(q, a, config)]
    (score,) = benchmark.score(questions, {"x": Entrant(answers, judgments)}, config, 0, 0)["x"]
    assert score.metric == "gsm8k_json.acc" and score.value == 50 and score.detail["flag:no-number"] == 1
    assert score.note == "JSON answer, 0-shot" and "own wording" in " ".join(benchmark.card(config).deviations)
    same = GSM8KConfig(limit=4, protocol="json")  # in the paper's column
    (other,) = BENCHMARK.score(questions, {"x": Entrant(answers, judgments)}, same, 0, 0)["x"]
    assert (other.metric, other.value, other.note) == ("gsm8k.acc", 50, score.note)


def test_wrong_combinations_of_protocol_are_refused() -> None:
    for source in ("", "  "):
        with pytest.raises(ValueError, match="source must be assets, hub, or a folder"):
            GSM8KConfig(source=source)
    with pytest.raises(ValueError, match="no worked examples"):
        GSM8KConfig(protocol="json", fewshot=5)
    with pytest.raises(ValueError, match="one prompt form"):
        GSM8KConfig(protocol="json", prompt_form="plain")
    with pytest.raises(ValueError, match="must be json"):
        GSM8KJsonConfig(protocol="lm-eval")


def test_problems_from_a_folder_or_the_hub(tmp_path, monkeypatch) -> None:
    rows = [{"question": "1 + 1?", "answer": "so\n#### 2"}, {"question": "2 + 2?", "answer": "#### 4"}]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = GSM8KConfig(questions="official", source=str(tmp_path), fewshot=0)
    assert [question.turns[0] for question in BENCHMARK.questions(config)] == ["1 + 1?", "2 + 2?"]
    assert "another source" in " ".join(BENCHMARK.card(config).deviations)
    with pytest.raises(UserError, match=r"nor a folder with train\.jsonl"):
        BENCHMARK.questions(GSM8KConfig(questions="official", source=str(tmp_path)))
    (tmp_path / "test.jsonl").write_text('{"question": "x", "answer": "4"}\n')
    with pytest.raises(UserError, match="row 1: a question and an answer with ####"):
        BENCHMARK.questions(config)
    for content, part in ((b'{"question": "caf\xe9"}', "not text in UTF-8"), (b"5\n", "row 1: an object was expected")):
        (tmp_path / "test.jsonl").write_bytes(content)
        with pytest.raises(UserError, match=part):
            BENCHMARK.questions(config)
    import datasets

    calls = []
    monkeypatch.setattr(datasets, "load_dataset", lambda *names, split: calls.append((names, split)) or rows)
    assert len(BENCHMARK.questions(GSM8KConfig(questions="official", source="hub"))) == 2
    assert calls == [(("openai/gsm8k", "main"), "test"), (("openai/gsm8k", "main"), "train")]

    def offline(*_: object, split: str) -> None:
        raise ConnectionError("offline")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(UserError, match="cannot load openai/gsm8k"):
        BENCHMARK.questions(GSM8KConfig(questions="official", source="hub"))


@pytest.mark.parametrize(("text", "is_flagged"), [("#### 9\nno, #### 4", True), ("#### 4\n#### 4", False)])
def test_several_final_numbers_are_told(text: str, is_flagged: bool) -> None:
    """lm-eval takes the first ``#### N``."""
    question = Question("q", ("q",), reference=("w\n#### 4",))
    strict = BENCHMARK.grade(question, Answer("q", (text,), (True,), (9,)), GSM8KConfig())[0]
    assert (strict.verdict, strict.flags) == ((0.0, ("several-labels",)) if is_flagged else (1.0, ()))
