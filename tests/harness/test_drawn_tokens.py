"""What a model drew is what is read and trained: ids go with a response, and text becomes tokens only where none do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness.contracts.method import Row
from harness.contracts.model import Sampling
from harness.models.chat import decode, drawn_tokens, encode
from harness.records import read_records, write_records
from harness.training.batches import tokenise
from harness.types import Group, Prompt, Response
from tests.harness.test_chat_templates import SHAPES, TALKS, tokenizer_of
from tests.tiny import tiny_checkpoint, tiny_tokenizer

TALK = TALKS["one turn"]


def trained(tokenizer: object, *rows: Row) -> list[list[int]]:
    (example,) = tokenise(tokenizer, [Group(Prompt("p", tuple(TALK)))], [(0, rows)])  # type: ignore[arg-type]
    return [list(row.response) for row in example.rows]


@pytest.mark.parametrize("text", ["ok \U0001f30d", "\u0645\u0631\u062d\u0628\u0627", "e\u0301", "plain words"])
def test_an_answer_that_is_cut_anywhere_keeps_its_tokens(text: str) -> None:
    """Inside an emoji, its bytes become U+FFFD as text, whose three bytes nobody drew."""
    tokenizer = tokenizer_of(SHAPES["llama-3"])
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    for length in range(1, len(ids) + 1):
        cut = ids[:length]
        response = Response(decode(tokenizer, cut), False, length, ids=tuple(cut))
        assert trained(tokenizer, Row.of(response)) == [cut]
        assert encode(tokenizer, TALK, response.text, response.finished, response.ids).response == cut


def test_answers_of_another_vocabulary_are_read_as_text_and_counted() -> None:
    """Of a character that the limit cut, nothing is trained: U+FFFD is three bytes that nobody wrote."""
    theirs, ours = tokenizer_of(SHAPES["llama-3"]), tiny_tokenizer(("so",))
    groups, text = [Group(Prompt("p", tuple(TALK)))], "so \U0001f30d"
    ids = theirs(text, add_special_tokens=False)["input_ids"]
    cut = Response(decode(theirs, ids[:-1]), False, len(ids) - 1, ids=tuple(ids[:-1]))
    assert cut.text.endswith("\ufffd")
    for tokenizer, is_foreign, words in ((theirs, False, cut.text), (ours, True, "so")):
        (example,) = tokenise(tokenizer, groups, [(0, [Row.of(cut), Row(text)])])
        assert [row.is_foreign for row in example.rows] == [is_foreign, False]
        assert decode(tokenizer, example.rows[0].response).strip() == words
    assert encode(ours, TALK, cut.text, False, cut.ids).response == encode(ours, TALK, "so ", False).response


def test_another_way_to_write_the_same_words_is_kept() -> None:
    tokenizer = tokenizer_of(SHAPES["llama-3"])
    letters = [tokenizer.convert_tokens_to_ids(letter) for letter in "Hithere"]
    end = tokenizer.convert_tokens_to_ids("<|eot_id|>")
    response = Response("Hithere", True, len(letters) + 1, ids=(*letters, end))
    assert trained(tokenizer, Row.of(response), Row("Hithere")) == [
        [*letters, end],
        encode(tokenizer, TALK, "Hithere").response,
    ]


def test_ids_of_another_vocabulary_are_not_taken() -> None:
    tokenizer = tokenizer_of(SHAPES["llama-3"])
    for ids in [(5, 6, 7), (10**6,), ()]:
        assert drawn_tokens(tokenizer, "Hi there.", False, ids) is None
        assert encode(tokenizer, TALK, "Hi there.", False, ids) == encode(tokenizer, TALK, "Hi there.", False)


def test_the_end_of_another_template_becomes_that_of_this_one() -> None:
    tokenizer = tokenizer_of(SHAPES["llama-3"])
    words = tokenizer("Hi there.", add_special_tokens=False)["input_ids"]
    other, end = (tokenizer.convert_tokens_to_ids(token) for token in ("<|start_header_id|>", "<|eot_id|>"))
    assert drawn_tokens(tokenizer, "Hi there.", True, [*words, other]) == [*words, end]
    assert drawn_tokens(tokenizer, "Hi there.", True, [*words, tokenizer.eos_token_id])[-1] == tokenizer.eos_token_id


def test_responses_are_drawn_stored_and_read_with_their_tokens(tmp_path: Path) -> None:
    from harness.models.backends import load_model

    model = load_model(str(tiny_checkpoint(tmp_path / "model", seed=1)))
    conversations = [[{"role": "user", "content": "ba be bi"}]]
    sampling = Sampling(6, 1.0)
    (responses,) = model.generate(conversations, sampling, 0, 30)
    (drawn,) = model.generate_tokens(model.encode_prompts(conversations), sampling, 0, 30)
    for response, tokens in zip(responses, drawn, strict=True):
        assert len(response.ids) == response.tokens and response.finished == (tokens.finish_reason == "stop")
        assert response.ids[: len(tokens.ids)] == tokens.ids
    assert {response.finished for response in responses} == {True, False}
    group = Group(Prompt("p", tuple(conversations[0])), samples=tuple(responses))
    write_records(tmp_path / "groups.jsonl", [group])
    assert read_records(tmp_path / "groups.jsonl", Group) == [group]
    tokenizer = tiny_tokenizer()
    assert trained(tokenizer, *map(Row.of, responses)) == [list(response.ids) for response in responses]
    (prompt,) = model.encode_prompts(conversations)
    for response, mean in zip(responses, model.mean_logps(conversations * 30, responses), strict=True):
        with torch.no_grad():
            logits = model.model(input_ids=torch.tensor([[*prompt, *response.ids]])).logits[0, len(prompt) - 1 : -1]
        logps = logits[:, : len(tokenizer)].log_softmax(-1).gather(1, torch.tensor(response.ids)[:, None])
        assert mean == pytest.approx(float(logps.mean()), abs=1e-5)
