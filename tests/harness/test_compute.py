"""What a stage does with ``compute.device`` and ``family.trust_remote_code``."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from transformers import AutoTokenizer, TrainingArguments

from harness.contracts.model import Checkpoint
from harness.contracts.stage import Stage
from harness.errors import UserError
from harness.models import load as loading
from harness.models.backends import LoadOptions, load_model
from harness.models.checkpoint import from_folder
from harness.models.load import pick_device
from harness.prompts import SOURCES
from harness.recipe.sections import Compute
from harness.stages.kind import StageContext
from harness.stages.kinds import prompts
from harness.training.fit import place
from tests.tiny import tiny_checkpoint

HUB = Checkpoint("owner/name", "owner/name", "c0ffee", "hub:x", "hub:x")


def test_a_device_is_taken_as_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("cuda:1") == torch.device("cuda:1")
    assert pick_device("cpu") == torch.device("cpu")
    monkeypatch.setenv("LOCAL_RANK", "0")  # one of several processes: each has its own
    assert pick_device("cuda:1") == torch.device("cuda")
    with pytest.raises(UserError, match="cuda:2, but there are 2 CUDA devices"):
        pick_device("cuda:2")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match="no such device"):
        pick_device("mps")
    with pytest.raises(ValueError, match="must be auto, cpu, mps, cuda or cuda:N"):
        Compute(device="gpu")


def test_the_trainer_works_on_the_device_that_was_named(tmp_path: Path) -> None:
    """``meta`` stands for a second GPU: transformers would not choose it by itself."""
    args: Any = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none")
    try:
        place(args, torch.device("cpu"))
        place(args, torch.device("cuda"))  # without a number: transformers' own choice stands
        assert args.device == torch.device("cpu")
        place(args, torch.device("meta"))
        assert args.device == torch.device("meta") and Accelerator().device == torch.device("meta")
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize("trust", [True, False])
def test_code_is_fetched_and_run_only_where_it_is_trusted(
    trust: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_checkpoint(tmp_path / "model")
    fetched: list[str] = []
    trusted: list[bool] = []
    read = AutoTokenizer.from_pretrained

    def download(location: str, revision: str, allow_patterns: list[str]) -> str:
        fetched.extend(allow_patterns)
        return str(folder)

    def load(place: str, trust_remote_code: bool = False, revision: str | None = None) -> Any:
        trusted.append(trust_remote_code)
        return read(place)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", load)
    params = {"source": "pocket", "n": 2, "seed": 0, "identity": {}, "max_prompt_tokens": 100}
    local = {"trust_remote_code": trust, "models": {"student": HUB}, "source": {}}
    nothing: Any = SimpleNamespace(sources=SOURCES)
    made = tmp_path / "made"
    made.mkdir()
    prompts.run(
        Stage("prompts", params, local=local),
        StageContext(nothing, nothing, tmp_path / "ledger", made, lambda done, total, info: None),
    )
    assert trusted == [trust]
    assert "*.safetensors" in fetched and ("*.py" in fetched) == trust


def test_loading_a_model_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tiny_checkpoint(tmp_path / "model")
    caplog.set_level("INFO")
    load_model(from_folder("tiny", folder), LoadOptions(device="cpu"))
    loading.load_weights(folder, loading.load_tokenizer(folder), torch.float32)
    told = [record.getMessage() for record in caplog.records if record.name.startswith("harness.")]
    assert [line.split(":")[0] for line in told] == [f"loaded {folder}", f"loaded {folder}"]


def test_code_is_part_of_what_a_checkpoint_is(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "model")
    before = from_folder("model", folder)
    (folder / "modeling_new.py").write_text("x = 1\n", encoding="utf-8")
    after = from_folder("model", folder)
    assert after.fingerprint != before.fingerprint and after.tokenizer == before.tokenizer
