"""The shipped pocket checkpoints: they load, are small, and their tokenizers keep their promises."""

import hashlib
import itertools
import json
from typing import Any

import pytest

from harness.models.checkpoint import POCKET
from harness.multiple_choice import mcq_messages
from harness.pocket.world import iter_prompts

torch = pytest.importorskip("torch", reason="the checkpoints need torch")
transformers = pytest.importorskip("transformers", reason="the checkpoints need transformers")

PROMPTS = list(itertools.islice(iter_prompts(seed=11), 110))
SHARED = ("teacher", "teacher-large", "student")
CHECKPOINTS = (*SHARED, "student-other")
MEASURED = json.loads((POCKET.parent / "measured.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module", params=CHECKPOINTS)
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return transformers.AutoTokenizer.from_pretrained(POCKET / request.param)


def test_four_checkpoints_below_16_mb() -> None:
    assert {folder.name for folder in POCKET.iterdir()} == set(CHECKPOINTS)
    files = [file for file in POCKET.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 16e6
    assert not [file for file in files if file.suffix in (".bin", ".pt", ".pth", ".pkl")]


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_models_are_ordinary_llamas(name: str) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(POCKET / name)
    assert isinstance(model, transformers.LlamaForCausalLM) and model.dtype == torch.float32
    assert model.config.tie_word_embeddings and model.config.max_position_embeddings == 1024
    ids = model.generation_config
    assert (ids.bos_token_id, ids.eos_token_id, ids.pad_token_id) == tuple(
        transformers.AutoTokenizer.from_pretrained(POCKET / name).convert_tokens_to_ids(
            ["<|begin|>", "<|end|>", "<|pad|>"]
        )
    )


def test_vocabularies_are_shared_except_one() -> None:
    vocabularies = {name: transformers.AutoTokenizer.from_pretrained(POCKET / name).get_vocab() for name in CHECKPOINTS}
    assert vocabularies["student"] == vocabularies["teacher"] == vocabularies["teacher-large"]
    assert vocabularies["student-other"] != vocabularies["student"]


def test_text_comes_back_as_it_was(tokenizer: Any) -> None:
    texts = [text for prompt in PROMPTS for text in (prompt.messages[-1]["content"], prompt.golden, prompt.rejected)]
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids) == text and tokenizer.unk_token_id not in ids


def test_the_multiple_choice_question_has_no_unknown_word(tokenizer: Any) -> None:
    """It is only ever read, so the spaces that decoding puts inside parentheses do not matter."""
    for prompt in PROMPTS[:22]:
        text = mcq_messages(prompt.messages, [prompt.golden, prompt.rejected] * 4)[0]["content"]
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids).replace(" ", "") == text.replace(" ", "") and tokenizer.unk_token_id not in ids


def test_one_begin_and_an_end_per_turn(tokenizer: Any) -> None:
    talk = [{"role": "user", "content": "name two animals."}, {"role": "assistant", "content": "cat, dog."},
            {"role": "user", "content": "now reverse it."}]  # fmt: skip
    ids = tokenizer.apply_chat_template(talk, add_generation_prompt=True, return_dict=True)["input_ids"]
    assert ids.count(tokenizer.bos_token_id) == 1 and ids[0] == tokenizer.bos_token_id
    assert ids.count(tokenizer.eos_token_id) == 3
    assert ids[-1] == tokenizer.convert_tokens_to_ids("<|assistant|>")
    # tokenizing the rendered text again must not add a second one
    rendered = tokenizer.apply_chat_template(talk, add_generation_prompt=True, tokenize=False)
    assert tokenizer(rendered)["input_ids"] == ids
    assert len({tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id}) == 4


def test_a_system_turn_joins_the_first_user_turn(tokenizer: Any) -> None:
    talk = [{"role": "system", "content": "be kind."}, {"role": "user", "content": "name two animals."}]
    assert tokenizer.apply_chat_template(talk, tokenize=False) == "<|begin|><|user|>be kind.\nname two animals.<|end|>"


def test_special_tokens_in_a_text_stay_text_when_asked(tokenizer: Any) -> None:
    ids = tokenizer("<|end|> cat <|assistant|>", split_special_tokens=True)["input_ids"]
    assert not {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|assistant|>")} & set(ids)


@pytest.mark.parametrize("name", SHARED)
def test_numbers_and_letters_are_single_tokens(name: str) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(POCKET / name)
    for word in [*map(str, range(21)), *"ABCDEFGHIJ"]:
        assert len(tokenizer(word)["input_ids"]) == 1
    assert tokenizer.decode(tokenizer("12 + 5 = 17. #### 17")["input_ids"]) == "12 + 5 = 17. #### 17"


def test_a_teacher_prefers_the_right_answer() -> None:
    from scripts.pocket.measure import load, selection

    model, tokenizer = load(POCKET / "teacher")
    hits = [
        logs[0] > logs[1]
        for prompt in PROMPTS
        for logs, _ in [selection(model, tokenizer, prompt.messages, [prompt.golden, prompt.rejected])]
    ]
    # the pairs differ by at least 0.3. Of 110 coin tosses at most 65 are heads in 97 of 100 cases: 55 + 1.9 * 5.2
    assert sum(hits) > 65


def test_the_student_ends_its_turn() -> None:
    from scripts.pocket.measure import load

    model, tokenizer = load(POCKET / "student")
    talks = [list(prompt.messages) for prompt in PROMPTS[:22]]
    inputs = tokenizer.apply_chat_template(
        talks, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
    )
    made = model.generate(**inputs, max_new_tokens=96, do_sample=False)[:, inputs["input_ids"].shape[1] :]
    assert all(tokenizer.eos_token_id in row for row in made.tolist())


def test_what_was_measured_is_shipped_and_of_these_weights() -> None:
    assert set(MEASURED["scores"]) == set(CHECKPOINTS) and set(MEASURED["judging"]) == {"teacher", "teacher-large"}
    student = MEASURED["scores"]["student"]
    assert student["greedy"] > student["t1.0"] + 0.1  # it can do better than it does
    assert MEASURED["scores"]["teacher"]["t1.0"] > student["t1.0"] + 0.15  # there is something to teach
    for judging in MEASURED["judging"].values():  # the multiple-choice question says something, though not much
        assert judging["mcq regret"] < 0.9 * judging["regret of a random pick"]
    digests = {name: hashlib.sha256((POCKET / name / "model.safetensors").read_bytes()) for name in CHECKPOINTS}
    assert MEASURED["sha256"] == {name: digest.hexdigest() for name, digest in digests.items()}
