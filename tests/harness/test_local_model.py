"""The transformers model behind the small protocol: seeds, log-probabilities against a dense forward pass, letters."""

import math
from pathlib import Path
from typing import Any

import pytest

from harness.contracts.model import Sampling
from harness.errors import UserError
from harness.models.backends import load_model
from harness.models.chat import encode_prompt, prompt_text
from harness.models.prefix_cache import Reader, length_batches
from harness.types import Response
from tests.tiny import tiny_checkpoint, tiny_tokenizer

ASK = [
    [{"role": "user", "content": "ba be bi"}],
    [{"role": "user", "content": "bo"}],
    [{"role": "user", "content": "da de"}],
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_model(str(tiny_checkpoint(tmp_path_factory.mktemp("tiny"), seed=1, words=("A", "B", *WORDS))))


WORDS = tuple(f"{first}{second}" for first in "bdfgk" for second in ("a", "e", "i", "o"))


def test_the_same_seed_gives_the_same_answers_and_leaves_torch_alone(model: Any) -> None:
    import torch

    torch.manual_seed(0)
    before = torch.rand(1)
    first = model.generate(ASK, Sampling(8, 1.0), seed=5, n=3)
    torch.manual_seed(0)
    assert torch.rand(1) == before
    assert first == model.generate(ASK, Sampling(8, 1.0), seed=5, n=3)
    assert first != model.generate(ASK, Sampling(8, 1.0), seed=6, n=3)
    assert [len(rows) for rows in first] == [3, 3, 3]


def test_greedy_answers_do_not_depend_on_the_batch(model: Any) -> None:
    """Padding on the left and position ids: a short prompt answers alike alone and beside a long one."""
    together = model.generate(ASK, Sampling(8, 0.0), seed=0)
    alone = [model.generate([messages], Sampling(8, 0.0), seed=0)[0] for messages in ASK]
    assert together == alone


def test_unfinished_answers_are_marked(model: Any) -> None:
    flat = [r for rows in model.generate(ASK, Sampling(3, 1.0), seed=0, n=20) for r in rows]
    assert {r.finished for r in flat} == {True, False}
    assert all(r.tokens == 3 for r in flat if not r.finished)
    assert all("<|end|>" not in r.text for r in flat)


def test_mean_logps_equal_a_dense_forward_pass(model: Any) -> None:
    """One row at a time, full log-softmax, mean over response tokens with the end-of-turn: to 1e-5."""
    import torch

    from harness.models.chat import encode

    responses = [Response("bi bo ba", True, 4), Response("da", True, 2), Response("ba be", False, 2)]
    for messages, response, value in zip(ASK, responses, model.mean_logps(ASK, responses), strict=True):
        row = encode(model.tokenizer, messages, response.text, response.finished)
        with torch.no_grad():
            logps = model.model(torch.tensor([row.prompt + row.response])).logits.log_softmax(-1)[0]
        start = len(row.prompt) - 1
        expected = sum(float(logps[start + i, token]) for i, token in enumerate(row.response)) / len(row.response)
        assert value == pytest.approx(expected, abs=1e-5)


def test_a_conversation_is_written_once_for_responses_that_follow_one_another(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows in any order, drawn ones and texts mixed: the same means, and the template of each run of rows once."""
    from harness.models import token_model

    drawn = [response for row in model.generate(ASK[:2], Sampling(4, 1.0), seed=1, n=2) for response in row]
    pairs = [(ASK[0], drawn[0]), (ASK[0], drawn[1]), (ASK[1], Response("bi bo", True, 3)), (ASK[1], drawn[2]),
             (ASK[1], drawn[3]), (ASK[0], Response("da", True, 2)), (ASK[0], drawn[1])]  # fmt: skip
    alone = [model.mean_logps([talk], [response])[0] for talk, response in pairs]
    written = []
    monkeypatch.setattr(token_model, "encode_prompt", lambda *args: written.append(args[1]) or encode_prompt(*args))
    together = model.mean_logps([talk for talk, _ in pairs], [response for _, response in pairs])
    assert together == pytest.approx(alone, abs=1e-5)
    assert written == [ASK[0], ASK[1], ASK[0]]


def scaled(kind: str, folder: Path) -> Path:
    """A tiny model whose logits are not its head's: divided by 8 (Granite), multiplied by 1/16 (Cohere), capped softly
    at 2 under a name of its own (RecurrentGemma)."""
    import torch
    import transformers

    tiny_checkpoint(folder)
    tokenizer = tiny_tokenizer()
    sizes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 2, "num_key_value_heads": 1, "initializer_range": 1.0}
    sizes["vocab_size"] = len(tokenizer)
    ids: dict[str, Any] = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": 0}
    torch.manual_seed(0)
    family, option = {
        "granite": ("Granite", {"logits_scaling": 8.0}),
        "cohere": ("Cohere", {"logit_scale": 0.0625}),
        "recurrent-gemma": ("RecurrentGemma", {"logits_soft_cap": 2.0, "lru_width": 16, "num_hidden_layers": 3}),
    }[kind]
    config = getattr(transformers, family + "Config")(**sizes | ids | option)
    getattr(transformers, family + "ForCausalLM")(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["granite", "cohere", "recurrent-gemma"])
def test_models_that_scale_their_logits_are_read_as_they_are(kind: str, tmp_path: Path) -> None:
    """A teacher's mean log-probability with the scale forgotten is another number."""
    reader = load_model(str(scaled(kind, tmp_path)))
    test_mean_logps_equal_a_dense_forward_pass(reader)


def test_logits_that_are_not_known_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = scaled("granite", tmp_path)
    import harness.models.load

    known = harness.models.load.logits_of
    monkeypatch.setattr(harness.models.load, "logits_of", lambda model, *rest: 2 * known(model, *rest))
    with pytest.raises(UserError, match="GraniteForCausalLM transforms its logits"):
        load_model(str(folder))
    monkeypatch.setattr(harness.models.load, "logits_of", lambda model, *rest: known(None, *rest))
    with pytest.raises(UserError, match="GraniteForCausalLM cannot be run on three tokens: AttributeError"):
        load_model(str(folder))


def test_columns_that_only_pad_the_vocabulary_are_no_tokens(tmp_path: Path) -> None:
    """60 columns beyond the tokenizer's: never drawn, neither at random nor greedily, and no share of any softmax."""
    import torch

    wide = load_model(str(tiny_checkpoint(tmp_path / "wide", seed=3, extra_columns=60)))
    with torch.no_grad():  # greedily, the padding would always win
        wide.model.get_output_embeddings().weight[len(wide.tokenizer) :] *= 50
    prompts = wide.encode_prompts(ASK)
    for temperature in (1.0, 0.0):
        drawn = wide.generate_tokens(prompts, Sampling(6, temperature), seed=0, n=8)
        ids = [token for responses in drawn for response in responses for token in response.ids]
        assert len(ids) > 24 and max(ids) < len(wide.tokenizer)
    (total,) = wide._read_next(wide.encode_prompts(ASK[:1]), None, lambda logps: logps.logsumexp(0))
    assert float(total) == pytest.approx(0, abs=1e-5)


def test_a_prompt_is_computed_once_for_all_its_responses(model: Any) -> None:
    """20 greedy responses of 3 tokens to one prompt of W: W - 1 tokens once, then 20 per step, 3 steps at most."""
    width = len(model.tokenizer(prompt_text(model.tokenizer, ASK[0]), add_special_tokens=False)["input_ids"])
    sizes: list[int] = []
    decoder = model.model.get_decoder()
    assert model.reader.sharing
    hook = decoder.register_forward_pre_hook(
        lambda module, args, kwargs: sizes.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    drawn = model.generate(ASK[:1], Sampling(3, 0.0), seed=0, n=20)
    hook.remove()
    assert sizes[0] == width - 1 and set(sizes[1:]) == {20} and len(sizes) <= 4
    model.reader = Reader(model.model, model.pad, 1000, sharing=False)
    assert drawn == model.generate(ASK[:1], Sampling(3, 0.0), seed=0, n=20)
    del model.reader


def test_text_is_cut_after_its_tokens_as_it_stands(model: Any) -> None:
    """Two spaces stay two spaces: the text is cut, not decoded again."""
    assert model.truncate("ba  be bi", 2) == "ba  be"
    assert model.truncate("ba  be bi", 3) == model.truncate("ba  be bi", 9) == "ba  be bi"


def test_reading_says_what_it_took(model: Any) -> None:
    """Four responses to one prompt: fewer tokens than separate rows, and little of it padding."""
    model.__dict__.pop("reader", None)
    ask = [{"role": "user", "content": " ".join(["ba be bi bo"] * 5)}]
    model.mean_logps([ask] * 4, [Response("da de di", True, 4)] * 4)
    usage = model.usage()
    assert 0 <= usage["padding_share"] < 0.15
    assert usage["computed_over_separate"] < 0.5


def test_an_empty_unfinished_response_has_no_mean(model: Any) -> None:
    with pytest.raises(ValueError, match="no tokens"):
        model.mean_logps(ASK[:1], [Response("", False, 0)])


def test_choices_are_the_first_tokens_probabilities(model: Any) -> None:
    choices = model.choice_logps(ASK, ["A", "B"])
    tops = model.first_token(ASK, k=100)
    for row, top in zip(choices, tops, strict=True):
        assert row == pytest.approx([top["A"], top["B"]], abs=1e-5)
        assert sum(math.exp(value) for value in top.values()) == pytest.approx(1.0, abs=1e-4)


def test_a_letter_without_a_token_is_refused(model: Any) -> None:
    with pytest.raises(UserError, match="does not write each"):
        model.choice_logps(ASK, ["A", "C"])


def test_batches_are_sorted_by_length_and_bounded() -> None:
    """At most 10 tokens: lengths 9, 1, 2, 3 give [1, 2, 3] (3 rows x 3) and [9]; a row too long goes alone."""
    assert list(length_batches([9, 1, 2, 3, 20], 10, most_padding=1.0)) == [[1, 2, 3], [0], [4]]


def test_a_folder_without_a_model_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be loaded: no config\.json"):
        load_model(str(tmp_path))
    with pytest.raises(UserError, match="neither a folder"):
        load_model("./nowhere")
    with pytest.raises(UserError, match="teacher"):
        load_model("pocket:techer")


def test_unused_ids_are_no_tokens_and_the_highest_ids_are(tmp_path: Path) -> None:
    """The end of a turn has the id 70, the other 52 tokens stand below 53: it is drawn, and no id between is."""
    import json

    import torch

    from harness.models.prefix_cache import ReadRow

    folder = tiny_checkpoint(tmp_path / "holes", seed=3, extra_columns=60)
    content = json.loads((folder / "tokenizer.json").read_text())
    for token in content["added_tokens"]:
        token["id"] = 70 if token["content"] == "<|end|>" else token["id"]
    content["model"]["vocab"]["<|end|>"] = 70
    (folder / "tokenizer.json").write_text(json.dumps(content))
    model = load_model(str(folder))
    vocabulary = model.tokenizer.get_vocab()
    assert vocabulary["<|end|>"] == 70 and len(model.tokenizer) == 53 and 70 in model.stops
    holes = sorted(set(range(71)) - set(vocabulary.values()))
    head = model.model.get_output_embeddings().weight
    with torch.no_grad():
        head[holes] *= 50  # greedily, these would win
    prompts = model.encode_prompts(ASK)
    drawn = [r for t in (1.0, 0.0) for row in model.generate_tokens(prompts, Sampling(40, t), 0, 8) for r in row]
    assert {token for response in drawn for token in response.ids} <= set(vocabulary.values())
    for logps in model._read_next(model.encode_prompts(ASK[:1]), None, lambda logps: logps):
        assert float(logps.logsumexp(0)) == pytest.approx(0, abs=1e-5) and float(logps[holes].max()) < -1e3
    states = next(iter(model.reader.hidden([ReadRow(prompts[0], len(prompts[0]) - 1)])))[1][0]
    with torch.no_grad():
        head[70] = 50 * states / states.norm() ** 2
    (end,) = model.generate_tokens(prompts[:1], Sampling(6, 0.0), 0)[0]
    assert end.finish_reason == "stop" and end.ids == ()


def test_a_special_token_without_a_row_is_never_drawn(tmp_path: Path) -> None:
    """Gemma-3's of 1B has an id for images one above its embedding, and nothing writes it."""
    folder = tiny_checkpoint(tmp_path / "narrow", seed=3)
    model = load_model(str(folder))
    logps = model._read_next(model.encode_prompts(ASK[:1]), None, lambda logps: logps)[0]
    model.tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    model.tokenizer.save_pretrained(folder)
    wider = load_model(str(folder))
    more = wider._read_next(wider.encode_prompts(ASK[:1]), None, lambda logps: logps)[0]
    assert len(more) == len(logps) + 1 and float((more[:-1] - logps).abs().max()) == 0 and float(more[-1]) < -1e3
    assert wider.generate(ASK, Sampling(6, 1.0), 0) == load_model(str(folder)).generate(ASK, Sampling(6, 1.0), 0)
