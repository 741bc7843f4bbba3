"""The table of contents: which methods there are, that each says what it needs, and that naming them costs nothing."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import methods
from methods import METHODS

SHARED = {"__init__", "plackett_luce", "ranking"}


def test_table_of_contents() -> None:
    paper = ["kd", "seqkd", "minillm", "dpo", "simpo", "pro", "pad-vpd", "pad-ppd"]
    assert list(METHODS)[: len(paper)] == paper
    assert set(METHODS) - set(paper) == {
        *("best-of-n", "ipo", "orpo", "gkd", "distillm"),
        *("dckd", "adpa", "adpa+"),
    }


def test_every_file_is_in_the_table() -> None:
    folder = Path(str(methods.__file__)).parent
    files = {path.stem for path in folder.glob("*.py")} - SHARED
    assert files == {name.replace("-", "_").replace("+", "_plus") for name in METHODS}


WRONG: dict[str, dict[str, object]] = {
    "kd": {"weight": 1.5, "temperature": 0.0, "direction": "backward", "top_k": 0},
    "minillm": {"teacher_mix": 1.0, "gamma": 2.0, "clip": 0.0, "reward_scale": 0.0, "temperature": 0.0},
    "dpo": {"beta": 0},
    "simpo": {"beta": 0.0, "gamma_beta_ratio": -1.0},
    "pro": {"gap": "wide", "gap_limit": 0.0, "gap_scale": 0.0, "beta": -1.0, "sft_weight": -1.0, "sft_reduction": "x"},
    "pad-vpd": {"alpha": 1.1, "beta": 0.0},
    "pad-ppd": {"alpha": -0.1, "beta": 0.0, "student_beta": 0.0, "divergence": "js", "numerics": "fast", "draws": 1},
    "dckd": {"weight": -1.0, "chosen_weight": -0.1, "rejected_weight": -1.0, "top_k": 0},
    "adpa": {"gamma": -1.0, "top_k": 0, "clip_advantage": (1.0, 1.0)},
    "ipo": {"beta": 0.0, "reduction": "max"},
    "orpo": {"weight": 0},
    "gkd": {"beta": 1.1, "on_policy": -0.1, "temperature": 0.0, "sampling_temperature": 0.0},
    "distillm": {"divergence": "kl", "skew": 1.0, "on_policy": 1.1, "sampling_temperature": 0.0},
}


@pytest.mark.parametrize(("name", "option"), [(name, option) for name, options in WRONG.items() for option in options])
def test_options_out_of_range_are_refused(name: str, option: str) -> None:
    with pytest.raises(ValueError, match=option):
        METHODS[name].config(**{option: WRONG[name][option]})


def test_a_search_varies_what_each_method_has() -> None:
    """The learning rate everywhere, and up to three options of the method itself: all get the same number of trials."""
    for name, method in METHODS.items():
        assert set(method.space) <= {"train.learning_rate"} | {field.name for field in fields(method.config)}, name
        assert "train.learning_rate" in method.space and len(method.space) <= 4, name
    assert {name for name, method in METHODS.items() if len(method.space) == 1} == {"seqkd", "best-of-n"}


def test_importing_methods_does_not_import_torch() -> None:
    code = "import sys, methods, harness.training; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(str(methods.__file__)).parents[1])
