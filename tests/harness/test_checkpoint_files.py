"""A plan passes no model folder that cannot be loaded, and says everything that is missing at once."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from harness.errors import UserError
from harness.models.checkpoint import resolve, token_ids
from harness.types import Json
from tests.harness.test_plan import checkpoint, plan
from tests.tiny import empty_weights, tiny_checkpoint

INDEX = "model.safetensors.index.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(checkpoint(tmp_path / "model", ("a", "b")))


def refusal(folder: Path) -> str:
    """What a plan says of this student."""
    with pytest.raises(UserError) as told:
        plan(f"family.student={folder}")
    assert f"model folder '{folder}' cannot be loaded: " in str(told.value)
    return str(told.value)


def test_a_whole_folder_is_taken(folder: Path) -> None:
    assert resolve(str(folder)).location == str(folder)


def test_all_that_is_missing_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    said = refusal(tmp_path / "empty")
    assert "no config.json; no weights (model.safetensors, or " in said and "; no tokenizer.json." in said


@pytest.mark.parametrize(
    ("file", "content", "part"),
    [
        ("tokenizer.json", "{", "tokenizer.json cannot be read as JSON"),
        ("tokenizer.json", "{}", "tokenizer.json holds no vocabulary"),
        ("tokenizer.json", "[]", "tokenizer.json is not a JSON object"),
        ("tokenizer.json", '{"model": {"vocab": 5}}', "tokenizer.json holds no vocabulary"),
        ("config.json", "{", "config.json cannot be read as JSON"),
        ("config.json", "{}", "config.json names no model_type"),
    ],
)
def test_broken_files_are_named(folder: Path, file: str, content: str, part: str) -> None:
    (folder / file).write_text(content)
    said = refusal(folder)
    assert part in said and "no weights" not in said


def test_pickles_are_refused_with_the_reason(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    (folder / "training_args.bin").write_bytes(b"")
    said = refusal(folder)
    assert "no model.safetensors; pytorch_model.bin is in a format that can run code when it is loaded" in said


def test_every_shard_must_be_there(folder: Path) -> None:
    shards = [f"model-{n}-of-2.safetensors" for n in (1, 2)]
    (folder / "model.safetensors").rename(folder / shards[0])
    (folder / INDEX).write_text(json.dumps({"weight_map": dict(zip("xyz", [*shards, shards[0]], strict=True))}))
    assert f"{INDEX} names {shards[1]}, not there" in refusal(folder)
    (folder / shards[1]).write_bytes(b"")
    with pytest.raises(UserError, match=rf"{shards[1]} is damaged \(its header is cut short\): copy it again"):
        resolve(str(folder))
    (folder / shards[1]).write_bytes(empty_weights("2"))
    assert resolve(str(folder)).location == str(folder)
    (folder / INDEX).write_text("{}")
    assert "has no weight_map" in refusal(folder)


def test_a_tokenizer_that_changed_is_read_again(folder: Path) -> None:
    file = folder / "tokenizer.json"
    assert token_ids(file) == {"a": 0, "b": 1}
    file.write_text('{"model": {"vocab": {"other": 0}}}')
    assert token_ids(file) == {"other": 0}


WHOLE = {"model.embed_tokens.weight": (6, 4), "model.layers.0.mlp.up_proj.weight": (8, 4), "lm_head.weight": (6, 4)}
CONFIG = {"model_type": "llama", "vocab_size": 6, "num_hidden_layers": 1, "tie_word_embeddings": False}


def stored(folder: Path, shapes: Mapping[str, tuple[int, ...]], dtype: type = np.float32, **config: object) -> str:
    """The folder with these weights and settings."""
    save_file({name: np.zeros(shape, dtype) for name, shape in shapes.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG | config))
    return str(folder)


@pytest.mark.parametrize(
    ("changes", "config", "part"),
    [
        ({f"_orig_mod.{name}": shape for name, shape in WHOLE.items()}, {}, "take '_orig_mod' out of the names"),
        ({f"module.{name}": shape for name, shape in WHOLE.items()}, {}, "saved from a wrapped module"),
        ({f"base_model.model.{name}": shape for name, shape in WHOLE.items()}, {}, "take 'base_model' out"),
        ({"model.layers.0._fsdp_wrapped_module.mlp.up_proj.weight": (8, 4)}, {}, "'_fsdp_wrapped_module'"),
        (WHOLE, {"vocab_size": 5}, "says vocab_size 5, and model.embed_tokens.weight has 6 rows"),
        (WHOLE, {"vocab_size": 7}, "says vocab_size 7, and model.embed_tokens.weight has 6 rows"),
        (WHOLE | {"lm_head.weight": (5, 4)}, {}, "lm_head.weight has 5 rows"),
        (WHOLE | {"model.embed_tokens.weight": (1, 4)}, {"vocab_size": 1}, "ids up to 1, and model.embed_tokens"),
        (WHOLE, {"num_hidden_layers": 3}, "says 3 layers, and the weights have no 1: it would"),
        ({"model.embed_tokens.weight": (6, 4)}, {}, "(tie_word_embeddings), and the weights have none"),
        (WHOLE, {"quantization_config": {"quant_method": "gptq"}}, "quantised (quantization_config: gptq)"),
        (WHOLE, {"quantization_config": {"quant_method": "bnb", "load_in_4bit": True}}, "bnb, 4 bits"),
        (WHOLE | {"model.layers.0.mlp.up_proj.qweight": (8, 4)}, {}, "up_proj.qweight is F32"),
        (WHOLE | {"model.layers.0.mlp.up_proj.W_q": (8, 4)}, {}, "up_proj.W_q is F32"),
        ({f"pretrained_model.{name}": shape for name, shape in WHOLE.items()}, {}, "'pretrained_model'"),
        (
            WHOLE | {"model.layers.0.mlp.up_proj.lora_A.weight": (8, 4)},
            {},
            "an adapter that is not merged ('model.layers",
        ),
        (
            WHOLE | {"model.layers.1.mlp.up_proj.weight": (8, 4)},
            {},
            "1 layers, and the weights have 2: the last would be",
        ),
        (WHOLE, {"hidden_size": 8}, "hidden_size 8, and the embedding has 4 columns"),
        (
            WHOLE,
            {"architectures": ["LlamaForSequenceClassification"]},
            "that it is LlamaForSequenceClassification, and",
        ),
        (WHOLE, {"is_encoder_decoder": True}, "an encoder-decoder, and only models that go on with a text"),
    ],
)
def test_weights_of_another_model_are_refused(
    folder: Path, changes: Mapping[str, tuple[int, ...]], config: dict[str, object], part: str
) -> None:
    with pytest.raises(UserError) as told:
        plan(f"family.student={stored(folder, changes, **config)}")
    assert part in str(told.value)


@pytest.mark.parametrize(
    ("shapes", "config"),
    [
        (WHOLE, {}),
        ({name: shape for name, shape in WHOLE.items() if "head" not in name}, {"tie_word_embeddings": True}),
        (WHOLE | {"model.layers.1.mlp.up_proj.weight": (8, 4)}, {"num_nextn_predict_layers": 1}),  # further tokens
        (WHOLE | {"visual.blocks.3.mlp.weight": (8, 4)}, {}),
        (WHOLE, {"architectures": ["LlamaForCausalLM"], "hidden_size": 4, "is_encoder_decoder": False}),
        (WHOLE | {"visual.embeddings.weight": (9, 4)}, {}),
        ({f"language_model.{name}": shape for name, shape in WHOLE.items()}, {"text_config": {"vocab_size": 6}}),
    ],
)
def test_whole_weights_are_taken(
    folder: Path, shapes: Mapping[str, tuple[int, ...]], config: dict[str, object]
) -> None:
    assert resolve(stored(folder, shapes, **config)).location == str(folder)


def test_weights_in_integers_are_refused_and_masks_are_not(folder: Path) -> None:
    with pytest.raises(UserError, match="quantised"):
        resolve(stored(folder, WHOLE, np.uint8))
    stored(folder, WHOLE)
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {"model.layers.0.attn.bias": np.ones((4, 4), np.uint8)}, folder / "model.safetensors")
    resolve(str(folder))


def test_a_file_that_was_cut_is_named(folder: Path) -> None:
    file = Path(stored(folder, WHOLE)) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"model.safetensors is damaged \(it has [\d,]+ bytes, and its header says"):
        resolve(str(folder))


@pytest.mark.parametrize(
    ("stated", "held", "beside", "part"),
    [
        (("x", "y", "z"), (("x",), ("y",)), False, "names z, which its file does not hold"),
        (("x", "y"), (("x",), ("x", "y")), False, "2.safetensors and a shard before it both hold x"),
        (("x", "y"), (("x",), ("y",)), True, "it holds model.safetensors, which a loader takes, and " + INDEX),
    ],
)
def test_files_of_two_saves_are_told(
    folder: Path, stated: tuple[str, ...], held: tuple[tuple[str, ...], ...], beside: bool, part: str
) -> None:
    names = ["1.safetensors", "2.safetensors"]
    for name, tensors in zip(names, held, strict=True):
        save_file({tensor: np.zeros(2, np.float32) for tensor in tensors}, folder / name)
    (folder / INDEX).write_text(json.dumps({"weight_map": {name: names[name != "x"] for name in stated}}))
    if not beside:
        (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=part):
        resolve(str(folder))


def test_headers_that_contradict_themselves_are_told(folder: Path) -> None:
    file = Path(stored(folder, WHOLE)) / "model.safetensors"
    whole = file.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    for change in (lambda entry: entry["shape"].append(2), lambda entry: entry["data_offsets"].sort(key=lambda n: -n)):
        header = json.loads(whole[8 : 8 + length])
        change(header["lm_head.weight"])
        text = json.dumps(header).encode()
        file.write_bytes(len(text).to_bytes(8, "little") + text + whole[8 + length :])
        with pytest.raises(UserError, match="its header contradicts itself at "):
            resolve(str(folder))
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
    with pytest.raises(UserError, match="`git lfs pull` brings them"):
        resolve(str(folder))


def tokenizer_settings(
    folder: Path, added: Sequence[str] = (), template: str = "{{ '<end>' }}", **settings: Any
) -> None:
    tokens = [{"content": token, "id": 2 + number, "special": True} for number, token in enumerate(added)]
    content = {"model": {"vocab": {"a": 0, "b": 1}}, "added_tokens": tokens}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    general = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(general | settings))


@pytest.mark.parametrize(
    ("file", "content", "part"),
    [
        ("generation_config.json", {"eos_token_id": [2, 1]}, "eos_token_id 1, and that is 'b', an ordinary token"),
        ("generation_config.json", {"eos_token_id": "2"}, "eos_token_id '2': a number or a list of numbers"),
        ("config.json", CONFIG | {"eos_token_id": 0}, "config.json says eos_token_id 0, and that is 'a'"),
        ("special_tokens_map.json", {"pad_token": {"id": 1}}, "one of its JSON files has another form than a loader"),
        ("added_tokens.json", {"<new>": 6}, "makes ids up to 6, and model.embed_tokens.weight has 6 rows"),
    ],
)
def test_ends_and_tokens_beside_the_tokenizer_are_read(folder: Path, file: str, content: Json, part: str) -> None:
    stored(folder, WHOLE)
    tokenizer_settings(folder, ["<end>"], eos_token="<end>")  # noqa: S106
    (folder / "generation_config.json").write_text('{"eos_token_id": [2, 99]}')
    resolve(str(folder))
    if file == "config.json":
        (folder / "generation_config.json").unlink()
    (folder / file).write_text(json.dumps(content))
    with pytest.raises(UserError, match=re.escape(part)):
        resolve(str(folder))


def test_a_tokenizer_without_any_end_is_refused_before_anything_runs(folder: Path) -> None:
    stored(folder, WHOLE)
    tokenizer_settings(folder, ["<pad>"])
    assert "no eos_token and its chat template no special token" in contents_refusal(folder)
    tokenizer_settings(folder, ["<pad>"], eos_token=None, tokenizer_class="LlamaTokenizer")
    assert "no eos_token" in contents_refusal(folder)
    for settings in ({"eos_token": "<end>"}, {"tokenizer_class": "LlamaTokenizer"}, {"added": ["<end>"]}):
        tokenizer_settings(folder, **{"added": ["<pad>"], **settings})
        resolve(str(folder))
    tokenizer_settings(folder, ["<end>"], template="")
    assert "no chat template (chat_template.jinja, or " in refusal(folder)


def contents_refusal(folder: Path) -> str:
    with pytest.raises(UserError) as told:
        plan(f"family.student={folder}")
    return str(told.value)


def test_an_adapter_beside_whole_weights_is_refused(folder: Path) -> None:
    stored(folder, WHOLE)
    (folder / "adapter_model.safetensors").write_bytes(b"")
    resolve(str(folder))  # no loader looks at it
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match=r"whole weights and an adapter \(adapter_config.json, adapter_model"):
        resolve(str(folder))


def test_special_tokens_that_nothing_writes_need_no_row(folder: Path) -> None:
    """As Gemma-3's of 1B: an id for images, one above the embedding. The template's and the end of text need theirs."""
    names = ("<image>", "<end>", "<turn>")
    for number, name in enumerate(names):
        added = [{"content": name, "id": 6, "special": True}]
        (folder / "tokenizer.json").write_text(
            json.dumps({"model": {"vocab": {"a": 0, "<end>": 1}}, "added_tokens": added})
        )
        settings = {"eos_token": {"content": "<end>"}, "chat_template": "{{ '<turn>' }}"}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        stored(folder, WHOLE)
        if number == 0:
            resolve(str(folder))
        else:
            with pytest.raises(UserError, match=r"makes ids up to 6, and model\.embed_tokens.weight has 6 rows"):
                resolve(str(folder))


def test_what_loading_reports_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Names that no header shows to be wrong: another prefix, a lost tensor, another size; one too many is noted."""
    from torch import float32

    from harness.models.load import load_tokenizer, load_weights

    folder = tiny_checkpoint(tmp_path / "model")
    file, tokenizer = folder / "model.safetensors", load_tokenizer(folder)
    whole = load_file(file)
    name = "model.layers.1.mlp.up_proj.weight"
    wrong = [
        ({f"policy.{key}": value for key, value in whole.items()}, "are not in its files and would be random: "),
        ({key: value for key, value in whole.items() if key != name}, "1 weights are not in its files"),
        (
            whole | {name: np.zeros((3, 3), np.float32)},
            f"1 weights are of another size there and would be random: {name}",
        ),
    ]
    for tensors, part in wrong:
        save_file(tensors, file, metadata={"format": "pt"})
        with pytest.raises(UserError, match=part):
            load_weights(folder, tokenizer, float32)
    bias = {"model.layers.1.self_attn.q_proj.bias": np.ones(16, np.float32)}
    save_file(whole | bias, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match="1 of its weights have no place in the LlamaForCausalLM that config"):
        load_weights(folder, tokenizer, float32)
    save_file(whole | {"model.norm.weight": np.full(16, np.nan, np.float32)}, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match="gives logits that are no numbers in torch"):
        load_weights(folder, tokenizer, float32)
    save_file(whole | {"value_head.weight": np.zeros((1, 16), np.float32)}, file, metadata={"format": "pt"})
    load_weights(folder, tokenizer, float32)
    assert "1 stored weights are no part of LlamaForCausalLM: value_head.weight" in caplog.text
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"tie_word_embeddings": True}))
    with pytest.raises(UserError, match="and its files hold another one, which some programs"):
        load_weights(folder, tokenizer, float32)
    (folder / "config.json").write_text(json.dumps(settings | {"max_position_embeddings": 0.5}))
    with pytest.raises(UserError, match="could not be loaded"):
        load_weights(folder, tokenizer, float32)
