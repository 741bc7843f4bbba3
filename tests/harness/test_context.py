"""Texts longer than a model reads: told before a run, and an error where they are read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.contracts.model import Checkpoint, Sampling, TooLong, check_lengths
from harness.errors import UserError
from harness.models.backends import LoadOptions, load_model
from harness.models.checkpoint import from_folder
from harness.models.published_sizes import context_length
from harness.plan.plan import Plan
from harness.plan.preflight import context_issues
from harness.prompts import load_prompts
from harness.stages.kinds.prompts import PromptFilter
from harness.types import Answer, Prompt, Response
from tests.harness.test_plan import checkpoint, plan


def make(place: Path, teacher: int, student: int, *changes: str, rows: tuple[str, ...] = ("pro",)) -> Plan:
    """Models that read so many tokens. Prompts of up to 256, responses of up to 48, rows of up to 512; n = 4."""
    family = []
    place.mkdir(exist_ok=True)
    for name, length in (("teacher", teacher), ("student", student)):
        folder = Path(checkpoint(place / name, ("a", "b")))
        (folder / "config.json").write_text(json.dumps({"model_type": "llama", "max_position_embeddings": length}))
        family.append(f"family.{name}={folder}")
    return plan(*family, "seeds=[0]", "sampling.max_new_tokens=48", *changes, rows=("student", *rows))


def told(work: Plan) -> list[tuple[bool, str]]:
    """Of answers only what ``test_answers_beyond_the_context`` looks at."""
    issues = [issue for issue in context_issues(work, work.stages) if "with their answers" not in issue.text]
    return [(issue.problem, issue.text) for issue in issues]


def test_answers_beyond_the_context(tmp_path: Path) -> None:
    """Pocket's answers have 96 tokens, questions some 25, and MT-Bench asks twice: too much for a student of 64."""
    work = make(tmp_path / "a", 2048, 64, rows=())
    issues = [issue for issue in context_issues(work, work.stages) if "with their answers" in issue.text]
    assert len(issues) == 4 and not issues[0].problem
    assert issues[0].text.startswith("context: questions of alpaca_eval with their answers of up to ")
    assert "the student reads 64; lower benchmarks.alpaca_eval.max_new_tokens" in issues[0].text
    # Eight worked examples of 100 characters are 200 tokens before each question.
    shown = make(tmp_path / "c", 2048, 128, "benchmarks.gsm8k.fewshot=8", rows=())
    (issue,) = [issue for issue in context_issues(shown, shown.stages) if "of gsm8k with their answers" in issue.text]
    assert issue.problem and issue.text.endswith("or show fewer worked examples")
    tiny = make(tmp_path / "b", 2048, 2, rows=())
    assert all(issue.problem for issue in context_issues(tiny, tiny.stages) if "with their answers" in issue.text)


def test_what_fits_is_not_told(tmp_path: Path) -> None:
    """Rows: 512. Question: 256 + 80 + 4 (48 + 14) = 584."""
    assert told(make(tmp_path, 584, 512, "methods.pro.rounds=2")) == []


def test_training_rows_and_responses_beyond_the_students_context(tmp_path: Path) -> None:
    """511 is too short for rows of 512; 303 also for prompts of 256 with responses of 48: told once for both rounds."""
    ((problem, text),) = told(make(tmp_path / "a", 2048, 511))
    assert problem and "train.max_length) of up to 512 tokens, the student reads 511; lower train.max_length" in text
    issues = told(make(tmp_path / "b", 2048, 303, "methods.pro.rounds=2"))
    assert all(problem for problem, _ in issues) and len(issues) == 2
    assert "prompts.max_prompt_tokens + sampling.max_new_tokens) of up to 304 tokens, the student" in issues[0][1]


def test_a_question_beyond_the_teachers_context(tmp_path: Path) -> None:
    """583 is too short for the longest prompts alone: a remark. With pocket's usual prompts of 17, 17 + 80 + 248 = 345:
    a problem below that. Pairs need 256 + 80 + 2 (48 + 14) = 460, and blocks of a pool of 4 are of 2."""
    ((problem, text),) = told(make(tmp_path / "a", 583, 512))
    assert not problem and "questions with 4 responses of up to 584 tokens, the teacher reads 583" in text
    ((problem, _),) = told(make(tmp_path / "b", 344, 512))
    assert problem
    assert told(make(tmp_path / "c", 460, 512, "reward.mcq=pairwise_both")) == []
    assert told(make(tmp_path / "d", 460, 512, "methods.pro={rounds: 2, resample: false, sampling: {n: 2}}")) == []


def test_a_live_or_stored_teacher_reads_the_rows_too(tmp_path: Path) -> None:
    ((_, text),) = told(make(tmp_path / "a", 511, 512, rows=("kd",)))
    assert "training rows" in text and "the teacher reads 511" in text
    issues = told(make(tmp_path / "b", 511, 512, "methods.kd.top_k=8", rows=("kd",)))
    assert [text] == [other for _, other in issues]


def test_rollouts_are_as_long_as_prompt_and_answer(tmp_path: Path) -> None:
    changes = ("train.max_length=64", "prompts.max_prompt_tokens=50")
    ((_, text),) = told(make(tmp_path, 97, 97, *changes, rows=("minillm",)))[:1]
    assert "of up to 98 tokens" in text
    assert told(make(tmp_path / "fits", 98, 98, *changes, rows=("minillm",))) == []


LONG = {"max_position_embeddings": 131_072, "original_max_position_embeddings": 4096}  # Phi-3.5 and Phi-4-mini


@pytest.mark.parametrize(
    ("config", "length"),
    [
        ({"max_position_embeddings": 7}, 7),
        ({"n_positions": 8}, 8),
        ({"max_seq_len": 10}, 10),
        (LONG | {"rope_scaling": {"type": "longrope"}}, 4096),
        (LONG | {"rope_parameters": {"rope_type": "longrope"}}, 4096),
        ({"max_position_embeddings": 64, "rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, 64),
        ({"text_config": {"max_position_embeddings": 9}}, 9),
        ({"model_type": "mamba"}, None),
        ("no object", None),
    ],
)
def test_where_a_configuration_says_it(config: object, length: int | None, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert context_length(from_folder("model", tmp_path)) == length


def test_a_model_that_is_not_here_reads_what_is_stated(tmp_path: Path) -> None:
    """By its hub id, as published; its own configuration comes first."""
    absent = Checkpoint("m", "google/gemma-2-9b-it", None, "stated:m", "stated:gemma-2", absence="not here")
    assert context_length(absent) == 8192
    assert context_length(replace(absent, location="nobody/nothing")) is None


def test_lengths_above_the_context_are_named() -> None:
    check_lengths("m", [5, 9], None)
    check_lengths("m", [5, 9], 9)
    with pytest.raises(TooLong, match="2 texts of up to 10 tokens, m reads 8") as caught:
        check_lengths("m", [5, 9, 10], 8)
    assert caught.value.places == [1, 2]


def reader(kind: str, place: Path) -> Any:
    """A model that reads 256 tokens; Phi-3 with LongRoPE says 512 and reads longer rows in another way."""
    from transformers import GPT2Config, GPT2LMHeadModel, Phi3Config, Phi3ForCausalLM

    from tests.tiny import tiny_checkpoint, tiny_tokenizer

    folder = tiny_checkpoint(place / "model")
    if kind == "gpt2":
        size = {"n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 256}
        tokenizer = tiny_tokenizer()
        GPT2LMHeadModel(
            GPT2Config(**size, vocab_size=len(tokenizer), bos_token_id=None, eos_token_id=4)
        ).save_pretrained(folder)
    if kind == "phi3":
        rope = {"rope_type": "longrope", "short_factor": [1.0] * 2, "long_factor": [4.0] * 2, "factor": 2.0}
        sizes: dict[str, Any] = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
        sizes |= {"num_key_value_heads": 2, "intermediate_size": 8, "max_position_embeddings": 512, "pad_token_id": 0}
        sizes |= {"original_max_position_embeddings": 256, "rope_parameters": {"rope_theta": 1e4, **rope}}
        sizes |= {"vocab_size": len(tiny_tokenizer()), "bos_token_id": None, "eos_token_id": 4}
        Phi3ForCausalLM(Phi3Config(**sizes)).save_pretrained(folder)
    return load_model(str(folder), LoadOptions(device="cpu"))


@pytest.mark.parametrize("kind", ["llama", "gpt2", "phi3"])
def test_a_model_does_not_score_what_it_cannot_read(kind: str, tmp_path: Path) -> None:
    """Rotary positions would go on without a word; learned ones (GPT-2) used to end in an IndexError."""
    model = reader(kind, tmp_path)
    short, long = ([{"role": "user", "content": " ".join(["ba"] * count)}] for count in (3, 250))
    answer = Response("be bi bo", True, 4)  # with the template's three tokens: 7 more
    assert len(model.mean_logps([short], [answer])) == 1
    with pytest.raises(TooLong, match=r"1 texts of up to 257 tokens, .* reads 256") as caught:
        model.mean_logps([short, long], [answer, answer])
    assert caught.value.places == [1]
    with pytest.raises(TooLong):
        model.choice_logps([[{"role": "user", "content": " ".join(["ba"] * 254)}]], ["ba", "be"])


STRICT = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def talk(*contents: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": content} for content in contents]


@pytest.mark.parametrize("kind", ["llama", "gpt2", "phi3"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_an_answer_ends_where_the_context_does(kind: str, temperature: float, tmp_path: Path) -> None:
    """The model reads 256. Prompts of 4 and 250 tokens (3 of the template): room for 48 and 6; 256 and 300: none."""
    model = reader(kind, tmp_path)
    talks = [talk(" ".join(["ba"] * count)) for count in (1, 247, 253, 297)]
    prompts = model.encode_prompts(talks)
    assert [len(prompt) for prompt in prompts] == [4, 250, 256, 300]
    model.stops = []
    rows = model.generate_tokens(prompts, Sampling(48, temperature), seed=1, n=2)
    assert [[len(row.ids) for row in drawn] for drawn in rows] == [[48] * 2, [6] * 2, [0] * 2, [0] * 2]
    assert {row.finish_reason for drawn in rows for row in drawn} == {"length"}
    assert rows[0] == model.generate_tokens(prompts[:1], Sampling(48, temperature), seed=1, n=2)[0], "as it is alone"
    answers = model.generate(talks, Sampling(48, temperature), seed=1)
    turns = [Answer("q", (row.text,), (row.finished,), (row.tokens,)) for (row,) in answers]
    assert [bool(turn.absence) for turn in turns] == [False, False, True, True]
    assert [row.is_cut_before(48) for (row,) in answers] == [False, True, False, False]
    assert not Response("", finished=False, tokens=47).is_cut_before(48), "a server's count"


def test_a_refused_conversation_has_no_answer_and_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = reader("llama", tmp_path)
    model.tokenizer.chat_template = STRICT
    (first,), (second,) = model.generate([talk("ba"), talk("ba", "be bi")], Sampling(4, 0.0), seed=0)
    assert first.tokens and second == Response("", finished=False, tokens=0)
    assert "the conversation that ends in 'be bi': roles must alternate" in caplog.text
    with pytest.raises(UserError, match="roles must alternate"):
        model.generate([talk("ba", "be bi")], Sampling(4, 0.0), seed=0)


def test_prompts_of_no_token_and_of_one(tmp_path: Path) -> None:
    """Plain text of no words has no answer; one token is a prompt, also beside a longer one, whose padding it sees
    nothing of."""
    model = reader("llama", tmp_path)
    plain = [[{"role": "plain", "content": text}] for text in ("", "ba", "ba be bi bo bu")]
    assert model.generate(plain[:1], Sampling(4, 0.0), seed=0) == [[Response("", finished=False, tokens=0)]]
    together = model.generate(plain, Sampling(4, 0.0), seed=0, n=2)
    assert together[1:] == [model.generate([text], Sampling(4, 0.0), seed=0, n=2)[0] for text in plain[1:]]


def test_prompts_that_the_teachers_template_refuses_are_left_out_in_the_first_stage() -> None:
    """Of 4 prompts one is refused by the teacher and one is too long for the student."""
    from tests.tiny import tiny_tokenizer

    strict = tiny_tokenizer()
    strict.chat_template = STRICT
    texts = [["ba"], ["ba", "be"], ["ba " * 9], ["bo"]]
    prompts = [Prompt(f"p{number}", tuple(talk(*words))) for number, words in enumerate(texts)]
    source: Any = SimpleNamespace(name="mine", prompts=lambda *args: prompts)

    def load(n: int) -> tuple[list[str], PromptFilter]:
        usable = PromptFilter({"student": tiny_tokenizer(), "teacher": strict}, limit=8)
        kept = load_prompts(source, None, {}, 0, n, usable, usable.refused)
        return [prompt.id for prompt in kept], usable

    ids, usable = load(3)
    assert ids == ["p0", "p3"] and usable.too_long == 1
    assert list(usable.refused) == ["p1"] and "roles must alternate" in usable.refused["p1"]
    with pytest.raises(UserError, match=r"prompts\.n = 4, but 1 of 4 prompts are refused: p1: .* must alternate"):
        load(4)


def test_half_a_character_leaves_its_prompt_out_and_no_other() -> None:
    from tests.tiny import tiny_tokenizer

    usable = PromptFilter({"student": tiny_tokenizer()}, limit=8)
    prompts = [Prompt("a", tuple(talk("ba \ud83c"))), Prompt("b", tuple(talk("ba")), golden="\udf0d be")]
    assert [usable(prompt) for prompt in (*prompts, Prompt("c", tuple(talk("ba"))))] == [False, False, True]
    assert "'\\ud83c' in position 3: surrogates not allowed" in usable.refused["a"]
    assert list(usable.refused) == ["a", "b"]


def test_what_templates_do_is_told() -> None:
    from tests.tiny import tiny_tokenizer

    strict, plain = tiny_tokenizer(), tiny_tokenizer()
    strict.chat_template = STRICT
    other = tiny_tokenizer(("ba", "be"))
    system = [{"role": "system", "content": "be"}, *talk("ba")]
    notes = PromptFilter({"student": plain, "teacher": strict}, 99).template_notes([talk("ba"), system])
    assert notes == ["teacher: the chat template has no system turn: that of 1 prompt was put into the first user turn"]
    (note,) = PromptFilter({"student": plain, "teacher": other}, 99).template_notes([])
    assert note.startswith("vocabularies: teacher's 7 and student's 53 tokens differ")
