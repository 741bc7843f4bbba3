"""A plan passes no model folder that cannot be loaded, and says everything that is missing at once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from harness.errors import UserError
from harness.models.checkpoint import resolve, token_ids
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
        (WHOLE | {"model.layers.1.mlp.up_proj.weight": (8, 4)}, {}),  # layers that predict further tokens
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
        (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"a": 0}}, "added_tokens": added}))
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
    save_file(whole | {"value_head.weight": np.zeros((1, 16), np.float32)}, file, metadata={"format": "pt"})
    load_weights(folder, tokenizer, float32)
    assert "1 stored weights are no part of LlamaForCausalLM: value_head.weight" in caplog.text
