"""Low-rank adapters: what is trained, what is saved, and that nobody answers without them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from harness.contracts.model import Sampling
from harness.errors import UserError
from harness.models import load as loading
from harness.models.backends import load_model
from harness.training import student as student_module
from harness.training.fit import fit, load_training, make_trainer, run
from harness.training.forward import host
from harness.training.options import Lora
from methods import METHODS
from tests.tiny import tiny_checkpoint, tiny_groups, tiny_training


def training(name: str, student: Path, teacher: Path | None = None, **changes: Any) -> Any:
    options = {"batch_size": 4, "micro_batch": 2, "learning_rate": 1e-2, "lora": Lora(r=2, alpha=8.0)}
    changes = {"groups": tiny_groups(8), **options, **changes}
    return tiny_training(METHODS[name], student, teacher or student, **changes)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_adapters(name: str, student: Path, teacher: Path, tmp_path: Path) -> None:
    """Two steps; the saved checkpoint is a plain one whose adapted matrices moved by a matrix of rank 2, others not."""
    report = fit(training(name, student, teacher=teacher), tmp_path)
    assert report.adapter is not None and report.adapter.startswith("lora r=2 alpha=8 on all-linear")
    before, after = load_file(student / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    assert before.keys() == after.keys()
    for key, value in before.items():
        delta = after[key] - value
        if "_proj" not in key:
            assert not delta.any(), key
    moved = [key for key in before if (after[key] - before[key]).abs().max() > 1e-4]
    assert len(moved) >= 10
    assert all(int(torch.linalg.matrix_rank(after[key] - before[key], rtol=1e-3)) <= 2 for key in moved)


@pytest.mark.parametrize("change", [{"gradient_checkpointing": True}, {"dtype": "bfloat16"}, {"packing": "never"}])
def test_adapters_go_with_the_other_options(change: dict[str, Any], student: Path, tmp_path: Path) -> None:
    plain = fit(training("pad-ppd", student), tmp_path / "plain")
    other = fit(training("pad-ppd", student, **change), tmp_path / "other")
    near = 0.05 if "dtype" in change else 1e-5
    assert other.first_loss == pytest.approx(plain.first_loss, abs=near)
    assert other.final_loss == pytest.approx(plain.final_loss, abs=near)
    assert plain.final_loss != pytest.approx(plain.first_loss, abs=1e-3)


def test_dpo_with_adapters_starts_at_log_two(student: Path, tmp_path: Path) -> None:
    """The reference is the student without adapters; B = 0, so the first loss is log 2."""
    report = fit(training("dpo", student), tmp_path)
    assert report.first_loss == pytest.approx(0.693147, abs=1e-5)
    assert report.final_loss != pytest.approx(0.693147, abs=1e-3)


def test_the_checkpoint_answers_as_the_adapted_model(student: Path, tmp_path: Path) -> None:
    """check_merged passes on what was saved, and fails on the starting student."""
    loaded = load_training(training("pad-vpd", student))
    run(make_trainer(loaded, tmp_path), tmp_path)
    adapted, merged, start = (
        student_module.probe(model, len(loaded.tokenizer))
        for model in (
            loaded.student,
            *(host(loading.load_weights(folder, loaded.tokenizer, torch.float32)) for folder in (tmp_path, student)),
        )
    )
    student_module.check_merged(merged, adapted)
    with pytest.raises(AssertionError, match="does not answer as the adapted model does"):
        student_module.check_merged(start, adapted)
    ask = [[{"role": "user", "content": "ba"}]]
    first, second = (
        load_model(str(folder)).generate(ask, Sampling(8, 1.0), seed=0, n=8) for folder in (student, tmp_path)
    )
    assert first != second


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft reads what has a new name
def test_the_adapter_is_kept_as_peft_reads_it(student: Path, tmp_path: Path) -> None:
    """peft's own loader on the starting student gives the merged checkpoint; the adapter is the smaller file."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    fit(training("pad-ppd", student), tmp_path)
    ids = torch.arange(3, 15)[None]
    with torch.no_grad():
        plain, merged = (AutoModelForCausalLM.from_pretrained(folder) for folder in (student, tmp_path))
        before, after = (model(input_ids=ids).logits for model in (plain, merged))
        adapted = PeftModel.from_pretrained(plain, tmp_path / "adapter")(input_ids=ids).logits
    torch.testing.assert_close(adapted, after, atol=1e-5, rtol=1e-5)
    assert (before - after).abs().max() > 1e-3
    kept = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    shapes = load_file(student / "model.safetensors")
    matrices = [value.shape for name, value in shapes.items() if "_proj" in name]
    assert sum(value.numel() for value in kept.values()) == sum(2 * sum(shape) for shape in matrices)  # r = 2
    assert not list(tmp_path.glob("adapter*.json"))  # else the folder itself would be read as an adapter


def test_modules_that_do_not_exist_are_named(student: Path) -> None:
    for module, message in (
        ("q_prj", r"train\.lora\.target_modules = \('q_prj',\)"),
        ("lm_head", "must not name the output head"),
    ):
        with pytest.raises(UserError, match=message):
            load_training(training("simpo", student, lora=Lora(target_modules=(module,))))
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        Lora(r=0)


def test_layers_that_cannot_be_merged_are_refused_before_training(student: Path) -> None:
    """GPT-2's Conv1D holds its matrix the other way round, and is among all-linear; embeddings are no product."""
    from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

    ends = {"bos_token_id": None, "eos_token_id": 1}
    gpt2 = GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=20, n_positions=16, **ends))
    with pytest.raises(
        UserError, match=r"'all-linear' takes in transformer\.h\.0\.attn\.c_attn, a Conv1D: .*lora=null"
    ):
        student_module.add_adapters(gpt2, Lora(r=2), 0)
    llama = AutoModelForCausalLM.from_pretrained(student)
    with pytest.raises(UserError, match=r"takes in model\.embed_tokens, a Embedding: "):
        student_module.add_adapters(llama, Lora(r=2, target_modules=("embed_tokens",)), 0)


def test_a_tied_model_is_saved_whole(tmp_path: Path) -> None:
    """Tied embeddings: one weight under two names must come back as it was."""
    from transformers import AutoModelForCausalLM

    folder = tiny_checkpoint(tmp_path / "tied", seed=2)
    model = AutoModelForCausalLM.from_pretrained(folder, tie_word_embeddings=True)
    model.tie_weights()
    model.save_pretrained(folder)
    fit(training("simpo", folder), tmp_path / "out")
    assert load_file(folder / "model.safetensors").keys() == load_file(tmp_path / "out" / "model.safetensors").keys()
