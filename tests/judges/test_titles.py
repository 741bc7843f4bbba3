"""The names of judges in tables: what decides their verdicts, where it is not the default."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.contracts.judge import JudgeKind
from harness.contracts.options import options_from
from judges.kinds import pocket, replay, transformers
from judges.kinds.openai import judge as openai
from tests.harness.test_plan import checkpoint

GPT = {"model": "gpt-4-1106-preview"}


@pytest.mark.parametrize(
    ("kind", "values", "title"),
    [
        (pocket.JUDGE, {}, "pocket"),
        (pocket.JUDGE, {"noise": 5.0}, "pocket (noise 5)"),
        (pocket.JUDGE, {"noise": 0.5, "length_bias": -0.25, "seed": 3}, "pocket (length bias -0.25, seed 3)"),
        # a model that is not favoured, and a signature without a bias, change nothing
        (pocket.JUDGE, {"favours": "pocket:student", "signature": "Sure!"}, "pocket"),
        (pocket.JUDGE, {"signature": "Sure!", "signature_bias": 1.0}, "pocket (signature bias 1, signature Sure!)"),
        (openai.JUDGE, GPT, "gpt-4-1106-preview"),
        # where it is reached, what it costs and how it is paid decide nothing
        (
            openai.JUDGE,
            {**GPT, "base_url": "http://127.0.0.1:9/v1", "price_in": 1.0, "price_out": 2.0, "batch": True},
            "gpt-4-1106-preview",
        ),
        (
            openai.JUDGE,
            {**GPT, "temperature": 1.0, "logprobs": False, "leave_out": ["seed"], "extra_body": {"think": 1}},
            'gpt-4-1106-preview (temperature 1, logprobs false, leave out ["seed"], extra body {"think": 1})',
        ),
        (replay.JUDGE, {"ledger": "old.sqlite", "endpoint": "http://h/v1", "model": "m"}, "m"),
    ],
)
def test_a_judge_is_named_by_what_decides_its_verdicts(
    kind: JudgeKind[object], values: dict[str, object], title: str
) -> None:
    assert kind.title(options_from(kind.config, values)) == title


def test_a_checkpoint_that_judges_is_named_without_its_place(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "my-judge", ("a", "b"))
    config = options_from(transformers.TransformersConfig, {"path": folder, "dtype": "float16", "batch_tokens": 9})
    assert transformers.JUDGE.title(config) == "my-judge (dtype float16)"
