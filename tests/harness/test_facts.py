"""What is stated of public models: sizes that add up, stand-ins to plan with, and no run without the files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.contracts.benchmark import ConfiguredBenchmark
from harness.contracts.model import Checkpoint
from harness.errors import UserError
from harness.models.checkpoint import resolve
from harness.models.published_sizes import (
    checkpoint_difference,
    published_model,
    resolve_or_placeholder,
    size,
)
from harness.types import Question
from judges.benchmarks.mt_bench import MTBench, MTBenchConfig


def weights(vocabulary: int, hidden: int, layers: int, mlp: int, heads: tuple[int, int, int], more: str) -> int:
    """Embedding (twice where the head is its own), then per layer attention (heads, key-value heads, head size), a
    gated MLP and norms, then the last norm. ``more``: ``tied``, four ``norms`` a layer instead of two, ``bias`` on
    queries, keys and values."""
    query, key_value, width = heads
    attention = 2 * hidden * query * width + 2 * hidden * key_value * width
    attention += (query + 2 * key_value) * width if "bias" in more else 0
    norms = (4 if "norms" in more else 2) * hidden
    embedding = vocabulary * hidden * (1 if "tied" in more else 2)
    return embedding + layers * (attention + 3 * hidden * mlp + norms) + hidden


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("google/gemma-2-2b-it", (256000, 2304, 26, 9216, (8, 4, 256), "tied norms")),
        ("google/gemma-2-9b-it", (256000, 3584, 42, 14336, (16, 8, 256), "tied norms")),
        ("google/gemma-2-27b-it", (256000, 4608, 46, 36864, (32, 16, 128), "tied norms")),
        ("meta-llama/Llama-3.1-8B-Instruct", (128256, 4096, 32, 14336, (32, 8, 128), "")),
        ("meta-llama/Llama-3.2-3B-Instruct", (128256, 3072, 28, 8192, (24, 8, 128), "tied")),
        ("Qwen/Qwen2.5-7B-Instruct", (152064, 3584, 28, 18944, (28, 4, 128), "bias")),
        ("Qwen/Qwen2.5-1.5B-Instruct", (151936, 1536, 28, 8960, (12, 2, 128), "tied bias")),
        ("Qwen/Qwen2.5-0.5B-Instruct", (151936, 896, 24, 4864, (14, 2, 64), "tied bias")),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", (49152, 576, 30, 1536, (9, 3, 64), "tied")),
        ("HuggingFaceTB/SmolLM2-1.7B-Instruct", (49152, 2048, 24, 8192, (32, 32, 64), "tied")),
    ],
)
def test_stated_sizes_follow_from_the_shapes(
    name: str, shape: tuple[int, int, int, int, tuple[int, int, int], str]
) -> None:
    facts = published_model(name)
    assert facts is not None
    assert (facts.vocabulary, facts.hidden, facts.layers) == shape[:3]
    assert facts.parameters == weights(*shape)


def test_a_model_that_is_here_is_counted_not_believed(tmp_path: Path) -> None:
    """A header with a 3 x 4 matrix and a vector of 5: 17 weights; shapes from config.json."""
    header = {"__metadata__": {"format": "pt"}}
    header |= {"a": {"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 48]}}
    header |= {"b": {"dtype": "F32", "shape": [5], "data_offsets": [48, 68]}}
    text = json.dumps(header).encode()
    (tmp_path / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + b"\0" * 68)
    (tmp_path / "config.json").write_text('{"num_hidden_layers": 2, "hidden_size": 4}')
    counted = size(Checkpoint("m", str(tmp_path), None, "f", "t"))
    assert counted is not None
    assert (counted.parameters, counted.layers, counted.hidden, counted.stated) == (17, 2, 4, False)
    pocket = size(resolve("pocket:student"))
    assert pocket is not None and pocket.layers == 3 and not pocket.stated
    assert pocket.parameters == weights(348, 96, 3, 256, (3, 3, 32), "tied") == 365_856


def test_a_listed_model_that_cannot_be_had_is_planned_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    teacher, student = (
        resolve_or_placeholder("google/gemma-2-9b-it"),
        resolve_or_placeholder("meta-llama/Llama-3.2-3B-Instruct"),
    )
    assert "not in the local hub cache" in teacher.absence and "accept its licence (gemma)" in teacher.absence
    counted = size(teacher)
    assert counted is not None and counted.stated and counted.parameters == 9241705984
    assert checkpoint_difference(teacher, resolve_or_placeholder("google/gemma-2-2b-it")) is None
    assert checkpoint_difference(student, teacher) == (
        "as published, the teacher's tokenizer is gemma-2, the student's llama-3"
    )
    with pytest.raises(UserError, match="owner/unheard-of"):
        resolve_or_placeholder("owner/unheard-of")


class Absent(MTBench):
    """MT-Bench without its files."""

    def questions(self, config: MTBenchConfig) -> list[Question]:
        raise UserError("not here")


def test_placeholders_have_the_known_number_and_length() -> None:
    official = MTBenchConfig(questions="official")
    size, made = Absent().size(official), ConfiguredBenchmark.load(Absent(), official)
    assert size is not None and made.absence == "not here"
    assert len(made.questions) == 80 and {len(question.turns) for question in made.questions} == {2}
    assert {len(turn) for question in made.questions for turn in question.turns} == {size.characters}
    assert len(ConfiguredBenchmark.load(Absent(), MTBenchConfig(questions="official", limit=7)).questions) == 7
    with pytest.raises(UserError, match="not here"):
        ConfiguredBenchmark.load(Absent(), MTBenchConfig())  # pocket's are in the package: their size is not stated
