"""The second world (``studies/second_world.py``): rules by hand, splits, the teacher's questions, a tiny run."""

from __future__ import annotations

import json
import math
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distilbench.searching.questions import full_set
from distilbench.workflows.check import check
from harness.contracts.benchmark import Entrant
from harness.contracts.model import Sampling
from harness.contracts.options import Count, options
from harness.models.chat import prompt_text
from harness.multiple_choice import mcq_messages
from harness.types import Answer, Group, Prompt, Question, Response
from studies import second_world, second_world_teacher
from studies.second_world import BEGIN, END
from studies.second_world_rules import (
    BENCHMARK,
    KINDS,
    SHARES,
    SOURCE,
    Rule,
    RuleOptions,
    Split,
    Task,
    number_word,
    split_of,
    tasks,
)
from studies.second_world_teacher import SOFTNESS, Answered, Example, TeacherOptions, choice_example, examples
from tests.tiny import WORDS, tiny_checkpoint, tiny_tokenizer

HOLDS: list[tuple[str, Any, str, str]] = [
    # kind, value, an answer that keeps the rule, one that breaks it
    ("number", 1234, "He has 7 and then 1,234.", "1,234 and then 7"),
    ("number", -3, "-3", "3"),
    ("order", (3, 5, 9), "From 9, 3, 5: 3, 5, 9", "3, 9, 5"),
    ("order", (3, 5), "3 5", "3, 4, 5"),
    ("names", ("cat", "goat"), "Goat and CAT.", "goats and a cat"),
    ("avoids", ("red",), "redder", "It is Red!"),
    ("about", "bee", "BEES hum.", "They hum."),
    ("bullets", 2, "- a\n\n* b\n", "- a\n- b\nDone."),
    ("numbered", 2, "1. a\n2) b", "1. a\n3. b"),
    ("numbered", 2, "1. a\n2. b", "a\nb"),
    ("sentences", 2, "It costs 2.50 now. Fine!", "It costs 2.50 now"),
    ("json", "text", '{"text": [1]}', '{"text": 1, "b": 2}'),
    ("json", "text", '{"text": 1}', 'Sure: {"text": 1}'),
    ("max_words", 3, "one two-three four's", "a b c d"),
    ("min_words", 3, "a b c", "a b"),
    ("lower", None, "a, 1.", "A"),
    ("upper", None, "A, 1.", "a"),
    ("ends", "done", "All is Done.", "Done it"),
    ("starts", "yes", '"Yes, it is"', "Well yes"),
    ("has", "old", "The OLD man", "The older man"),
    ("no_comma", None, "a; b", "a, b"),
    ("quoted", None, ' "a" ', '"a" b'),
]


@pytest.mark.parametrize(("kind", "value", "good", "bad"), HOLDS)
def test_a_rule_by_hand(kind: str, value: Any, good: str, bad: str) -> None:
    assert Rule(kind, value).holds(good)
    assert not Rule(kind, value).holds(bad)


def test_every_kind_of_rule_is_tested_and_asked_for() -> None:
    assert {kind for kind, *_ in HOLDS} == set(KINDS)
    assert {rule.kind for task in islice(tasks("test"), 400) for rule in task.rules} == set(KINDS)


@given(st.text(), st.integers(0, 200))
def test_any_text_has_a_score_and_an_empty_one_has_0(text: str, place: int) -> None:
    task = TASKS[place]
    shares = [number / len(task.rules) for number in range(len(task.rules) + 1)]
    assert task.score(text) in shares
    assert task.score(" \n") == 0


TASKS = list(islice(tasks("dev"), 201))


@given(st.lists(st.sampled_from(["Rain", "falls", "on", "7", "old", "roofs"]), min_size=1, max_size=30))
def test_length_and_case_are_counted_as_written(words: list[str]) -> None:
    text = " ".join(words)
    for limit in (len(words) - 1, len(words), len(words) + 1):
        assert Rule("max_words", limit).holds(text) == (len(words) <= limit)
        assert Rule("min_words", limit).holds(text) == (len(words) >= limit)
    assert Rule("lower").holds(text.lower()) and Rule("upper").holds(text.upper())
    assert Rule("starts", words[0].lower()).holds(text) and Rule("ends", words[-1].lower()).holds(text + ".")
    assert Rule("bullets", len(words)).holds("\n".join(f"- {word}" for word in words))
    assert Rule("numbered", len(words)).holds("\n".join(f"{n}. {word}" for n, word in enumerate(words, 1)))
    assert Rule("sentences", len(words)).holds(" ".join(f"{word}." for word in words))


def test_instructions_are_distinct_disjoint_and_the_same_again() -> None:
    """By the sha256 of the text: tenths 0 test, 1 dev, 2 to 5 teacher, 6 to 9 train."""
    texts = {split: [task.text for task in islice(tasks(split), 600)] for split in get_args(Split)}
    for split, found in texts.items():
        assert len(set(found)) == 600
        assert {split_of(text) for text in found} == {split}
        assert found[:50] == [task.text for task in islice(tasks(split), 50)]
        assert found[:50] != [task.text for task in islice(tasks(split, seed=1), 50)]
    assert list(SHARES.values()) == [1, 1, 4, 4]
    prompts = list(islice(SOURCE.prompts(SOURCE.config(), {}, 0), 50))
    assert [prompt.messages[0]["content"] for prompt in prompts] == texts["train"][:50]


def test_one_answer_can_keep_all_rules_of_any_instruction() -> None:
    """Pairs that exclude each other never stand together, and words that must be there leave room for the others."""
    for task in islice(tasks("train"), 1500):
        kinds = [rule.kind for rule in task.rules]
        assert len(kinds) == len(set(kinds))
        for pair in ({"lower", "upper"}, {"max_words", "min_words"}, {"order", "no_comma"}):
            assert not pair <= set(kinds)
        if {"json", "bullets", "numbered"} & set(kinds):
            assert not {"starts", "ends", "quoted"} & set(kinds)
        values = dict(task.rules)
        content = len(values.get("order", values.get("names", "1")))
        needed = content + sum(kind in values for kind in ("starts", "ends", "has", "json"))
        assert needed <= values.get("max_words", 99)
        assert values.get("numbered", 0) * 2 <= values.get("max_words", 99)


def test_numbers_in_words() -> None:
    assert [number_word(n) for n in (0, 13, 20, 41)] == ["zero", "thirteen", "twenty", "forty-one"]


@pytest.mark.parametrize("table", ["sources", "benchmarks"])
def test_the_plug_in_passes_the_contract_checks(table: str) -> None:
    results = list(check(table, second_world.PLUGIN))
    assert results
    assert [finding for _, finding in results if finding.problem] == []


def test_the_benchmark_scores_the_mean_share_and_the_share_of_whole_answers() -> None:
    """One answer keeps 2 of 2 rules, one 1 of 2, one is empty: (1 + 0.5 + 0) / 3 and 1 / 3."""
    rules = {"rules": [["lower", None], ["names", ["cat"]]]}
    questions = [Question(name, ("?",), meta=rules) for name in "abc"]
    answers = [Answer(name, (text,), (True,), (1,)) for name, text in zip("abc", ("a cat", "A cat", ""), strict=True)]
    judgments = [
        judgment
        for question, answer in zip(questions, answers, strict=True)
        for judgment in BENCHMARK.grade(question, answer, RuleOptions())
    ]
    share, whole = BENCHMARK.score(questions, {"x": Entrant(answers, judgments)}, RuleOptions(), 0, 100)["x"]
    assert share.value == pytest.approx(50) and whole.value == pytest.approx(100 / 3)
    assert (share.n, share.unscored) == (3, 0)
    assert BENCHMARK.questions(RuleOptions(size=2)) == BENCHMARK.questions(RuleOptions(size=3))[:2]


@options
class Limited:
    """Options of a benchmark whose limit is always a number."""

    limit: Count = 5
    """How many."""


def test_a_search_takes_a_benchmark_whose_limit_cannot_be_null() -> None:
    assert full_set(Limited()) == Limited(5)


TASK = Task("write", "Write about bees.", (Rule("about", "bee"),), (Rule("lower"), Rule("max_words", 2)))


def test_a_question_of_the_teacher_reads_each_answer_at_its_closing_label() -> None:
    """Scores 3/3 and 1/3: weights 1 and exp(-(2/3) / 0.1). Of kinds that are not asked for nothing is learned."""
    tokenizer = tiny_tokenizer((*WORDS, "Answer", "A", "B", "A)", "B)", "(Answer"))
    example = choice_example(tokenizer, TASK, ["bees hum", "Bees hum all day"])
    assert (
        example.ids
        == tokenizer(prompt_text(tokenizer, mcq_messages(TASK.messages, ["bees hum", "Bees hum all day"])))["input_ids"]
    )
    marks = {tokenizer.convert_ids_to_tokens(example.ids[at]): values for at, values in example.marks}
    assert set(marks) == {"A)", "B)"}
    known = [
        {
            name: value
            for name, value in zip(second_world_teacher.NAMES, marks[label], strict=True)
            if not math.isnan(value)
        }
        for label in ("A)", "B)")
    ]
    assert known[0] == {"score": 1, "about": 1, "lower": 1, "max_words": 1}
    assert known[1] == {"score": pytest.approx(1 / 3), "about": 1, "lower": 0, "max_words": 0}
    assert example.letters is not None
    weight = math.exp(-2 / 3 / SOFTNESS)
    place, shares = example.letters
    assert place == len(example.ids) - 1
    assert shares == pytest.approx([1 / (1 + weight), weight / (1 + weight)])


def test_half_of_the_teacher_s_questions_ask_for_another_form_of_its_own_split() -> None:
    tokenizer = tiny_tokenizer()
    pool = [
        Answered(
            task, Group(Prompt(task.text, task.messages), samples=tuple(Response(t, True, 2) for t in ("ba be", "da")))
        )
        for task in islice(tasks("teacher"), 8)
    ]
    made = TeacherOptions(8, 2, 60, Sampling(8))
    found = list(examples(tokenizer, pool, made))
    assert sum(example.letters is not None for example in found) == 60
    assert all((example.letters is None) == bool(example.answer) for example in found)
    assert found == list(examples(tokenizer, pool, made))
    batches = second_world_teacher.batches(iter(found), made)
    assert sorted(len(example.ids) for batch in batches for example in batch) == sorted(len(e.ids) for e in found)
    assert all(len(batch) * max(len(e.ids) for e in batch) <= made.batch_tokens for batch in batches)


def test_the_loss_of_a_model_that_answers_as_the_target_is_the_target_s() -> None:
    """A batch of one question and one answer: every part is there, and padding changes none of them."""
    torch = pytest.importorskip("torch")
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=60, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
                                         num_attention_heads=2, num_key_value_heads=1))  # fmt: skip
    head = torch.nn.Linear(16, len(second_world_teacher.NAMES))
    asked = Example([5, 6, 7, 8], letters=(3, [0.75, 0.25]), marks=[(2, [1.0] + [math.nan] * len(KINDS))])
    told = Example([5, 6, 9, 10, 11, 12], answer=[1, 2])
    parts = second_world_teacher.losses(model, head, [asked, told], [20, 21], 0)
    assert set(parts) == {"answer", "letters", "marks"}
    alone = second_world_teacher.losses(model, head, [asked], [20, 21], 0)
    assert alone["letters"].item() == pytest.approx(parts["letters"].item(), rel=0.02)
    assert alone["marks"].item() == pytest.approx(parts["marks"].item(), rel=0.02)


def test_a_training_that_was_stopped_ends_with_the_same_teacher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in its second step of some, with a state stored after each."""
    student = str(tiny_checkpoint(tmp_path / "student", words=(*WORDS, *"ABCD")))
    texts = ("ba be", "da", "fa fa fe", "ga")
    pool = [
        Answered(task, Group(Prompt(task.text, task.messages), samples=tuple(Response(t, True, 2) for t in texts)))
        for task in islice(tasks("teacher"), 4)
    ]
    made = TeacherOptions(4, 4, 12, Sampling(8), batch_tokens=400)
    for place in ("whole", "stopped"):
        (tmp_path / place).mkdir()
    second_world_teacher.train(student, pool, made, tmp_path / "whole" / "model")
    monkeypatch.setattr(second_world_teacher, "SAVED", 1)
    losses, calls = second_world_teacher.losses, list[int]()

    def interrupted(*arguments: Any) -> dict[str, Any]:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return losses(*arguments)

    monkeypatch.setattr(second_world_teacher, "losses", interrupted)
    with pytest.raises(KeyboardInterrupt):
        second_world_teacher.train(student, pool, made, tmp_path / "stopped" / "model")
    assert not (tmp_path / "stopped" / "model").exists()
    second_world_teacher.train(student, pool, made, tmp_path / "stopped" / "model")
    weights = [(tmp_path / place / "model" / "model.safetensors").read_bytes() for place in ("whole", "stopped")]
    assert weights[0] == weights[1] != Path(student, "model.safetensors").read_bytes()
    assert [file.name for file in (tmp_path / "stopped").iterdir()] == ["model"]


def test_the_tables_of_the_page() -> None:
    """The mean of the seeds' 40 and 50 is 45; a rate that a row did not try stays empty."""
    judged = {name: [0.5, 0.25, 0.75] for name in second_world.JUDGING}
    score = {"row": "dpo", "metric": "rules.score", "low": None, "high": None, "n": 240}
    change = {"row": "dpo", "other": "student", "metric": "rules.score", "n": 240}
    found = {
        "teacher": judged, "student as judge": judged | {"regret, at random": [1.0, 1.0, 1.0]},
        "search": {
            "dpo": [{second_world.RATE: 3e-6, "score": 41.0, "best": False}],
            "simpo": [{second_world.RATE: 1e-4, "score": 42.5, "best": True}],
        },
        "table": [{**score, "seed": 0, "value": 40.0}, {**score, "seed": 1, "value": 50.0}],
        "differences": [{**change, "change": 1.5, "low": -0.5, "high": 3.5, "p": 0.141}],
    }  # fmt: skip
    judging, search, table, differences = second_world.page_text(found).split("\n\n")
    assert judging.splitlines()[-1] == "| at random | 0.500 [0.250, 0.750] | 1.000 [1.000, 1.000] |"
    assert search.splitlines()[0] == "| development score at the learning rate | 3e-06 | 0.0001 |"
    assert search.splitlines()[2:] == ["| dpo | 41.00 |  |", "| simpo |  | 42.50 (taken) |"]
    assert table.splitlines()[2:] == ["| dpo | 45.00 |"]
    assert differences.splitlines()[2:] == ["| dpo - student | +1.50 [-0.50, +3.50], p = 0.14 |"]
    few = {**change, "change": 1.5, "low": None, "high": None, "p": None}
    assert second_world.difference(few) == "+1.50"


@pytest.mark.slow
def test_the_whole_study_with_a_tiny_student(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    student = tiny_checkpoint(tmp_path / "student", words=(*WORDS, *"ABCD"))
    words = [
        "--student", str(student), "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out.json"),
        "--teacher-prompts", "6", "--teacher-samples", "4", "--teacher-questions", "8", "--judged", "40",
        "--trials", "2", "--seeds", "0", "--set", "prompts.n=8", "--set", "benchmarks.rules.size=6",
        "--set", "sampling.max_new_tokens=8", "--set", "prompts.max_prompt_tokens=80",
        "--set", "reward.max_response_tokens=8", "--set", "train.max_length=128", "--set", "train.warmup_ratio=0",
    ]  # fmt: skip
    page = tmp_path / "page.md"
    page.write_text(f"a\n{BEGIN}\n{END}\nb\n", encoding="utf-8")
    second_world.main([*words, "--page", str(page)])
    first = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert set(first["search"]) == set(second_world.ROWS)
    assert {row["row"] for row in first["table"]} == {"teacher", "student", *second_world.ROWS}
    assert len(first["differences"]) == 10 * 2  # pairs of five rows, two metrics
    assert page.read_text(encoding="utf-8") == f"a\n{BEGIN}\n{second_world.page_text(first)}\n{END}\nb\n"
    assert "Spearman, question" in first["teacher"]
    assert "teacher: step" in capsys.readouterr().out
    second_world.main(words)
    assert "teacher: step" not in capsys.readouterr().out, "the checkpoint is there"
    again = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert {**again, "seconds of this start": 0} == {**first, "seconds of this start": 0}
