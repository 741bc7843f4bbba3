"""The table of contents: which methods there are, that each says what it needs, and that naming them costs nothing."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import methods
from harness.contracts.method import Method
from methods import METHODS

SHARED = {"__init__", "folded", "on_policy", "plackett_luce", "ranking"}


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


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
def test_needs_are_consistent(method: Method) -> None:
    needs = method.needs
    assert (method.rollouts is not None) == ("rollouts" in needs.responses)
    assert needs.shared_vocabulary == (needs.signal == "token")
    assert method.paper.rsplit("arXiv ", 1)[1]


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
def test_configs_are_frozen_and_documented(method: Method) -> None:
    """Defaults for every field, and a docstring under each."""
    config = method.config()
    own = [each for each in method.config.__mro__ if dataclasses.is_dataclass(each)]  # ADPA+ inherits ADPA's
    source = "".join(inspect.getsource(each) for each in own)
    for field in dataclasses.fields(config):
        after = source.split(f"    {field.name}: ", 1)[1].split("\n", 1)[1]
        assert after.lstrip().startswith('"""'), f"{method.name}.{field.name} has no docstring"
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(config, field.name, None)


def test_importing_methods_does_not_import_torch() -> None:
    code = "import sys, methods, harness.training; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(str(methods.__file__)).parents[1])
