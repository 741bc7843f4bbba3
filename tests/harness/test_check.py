"""The contract checks themselves: each finds the fault that it is there for, and the command says so."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from typer.testing import CliRunner

from distilbench.cli.app import app
from harness.checks.finding import CheckFailed
from harness.checks.method import CHECKS, World, check_method
from harness.contracts.method import Loss, Method, Needs, Row, Term
from harness.contracts.options import options
from methods import METHODS, dpo, seqkd


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@dataclass(frozen=True)
class Loose:
    """Not frozen."""

    weight: float = 1.0
    """w."""


@options
class Unexplained:
    """An option without a sentence."""

    weight: float = 1.0


@options
class Taken:
    """An option whose name a recipe needs."""

    train: bool = True
    """Whether."""


def total(make: Callable[[torch.Tensor], torch.Tensor]) -> Callable[..., Loss]:
    """A loss with one term per prompt, made from the log-probabilities."""
    return lambda batch, terms, config: Loss((Term("bad", make(terms["logp"]), per="prompt"),))


def golden_or_sample(group: Any, config: Any) -> list[Row]:
    return [Row(group.prompt.golden or group.samples[0].text)]


def uneven(group: Any, config: Any) -> list[Row]:
    return [Row(sample.text) for sample in group.samples[: 1 + len(group.samples[0].text) % 2]]


def fickle(group: Any, config: Any) -> list[Row]:
    return [Row(f"ba {torch.rand(()).item()}")]


CALLS = itertools.count(1)
"""What a loss might remember from step to step, and a new process does not."""


def unseeded(like: torch.Tensor) -> torch.Tensor:
    """Random numbers that no seed decides (those of torch's global generator are decided by the training seed)."""
    generator = torch.Generator()
    generator.seed()
    return torch.rand(like.shape, generator=generator)


def first_sample(group: Any, config: Any) -> list[Row]:
    return [Row(group.samples[0].text)]


SAMPLES = replace(seqkd.METHOD, rows=first_sample, needs=Needs(responses=("samples",)))
"""A method without fault: cross-entropy on the first sample."""


def faulty(check: str, problem: str, method: Method = SAMPLES, **changes: Any) -> tuple[str, Method, str]:
    return check, replace(method, **changes), problem


SEVERAL = ("samples",)
REFERENCE = "which Needs does not declare: say reference=True"
FAULTS = {
    "unchecked": faulty("config", "must be made with @options", config=Loose, row_fields=()),
    "unexplained": faulty("config", "no docstring under weight", config=Unexplained, row_fields=()),
    "taken name": faulty("config", "options may not be called train", config=Taken, row_fields=()),
    "row field": faulty("config", r"row_fields names \['depth'\]", row_fields=("depth",)),
    "knob": faulty("config", r"space names \['depth', 'train.rate'\]", space={"depth": "{1, 2}", "train.rate": "{1}"}),
    "domain": faulty("config", r"space train.learning_rate=1\.\.2: is none of", space={"train.learning_rate": "1..2"}),
    "uneven rows": faulty("rows", r"equally many rows.*\[1, 2\]", rows=uneven),
    "rows by chance": faulty("rows", "something else when it is called again", rows=fickle),
    "undeclared": faulty("needs", "reads golden, which Needs does not declare", rows=golden_or_sample),
    "undeclared score": faulty(
        "needs", "reads a teacher signal per response", dpo.METHOD, needs=Needs(responses=SEVERAL, reference=True)
    ),
    "undeclared reference": faulty("needs", REFERENCE, dpo.METHOD, needs=replace(dpo.METHOD.needs, reference=False)),
    "declared for nothing": faulty(
        "needs", "declares teacher, which rows.. never uses", needs=Needs(responses=("samples", "teacher"))
    ),
    "reference for nothing": faulty(
        "needs", "'reference', which the loss never uses", needs=Needs(responses=SEVERAL, reference=True)
    ),
    "teacher for nothing": faulty("needs", "'token', which the loss", needs=Needs(responses=SEVERAL, signal="token")),
    "no gradient": faulty("trains", "no gradient to the student", loss=total(lambda logp: (logp * 0).sum())),
    "a mean": faulty("micro-batches", "depends on the micro-batch", loss=total(lambda logp: -logp.mean())),
    "an order of ties": faulty(
        "micro-batches", "rank by stored scores", loss=total(lambda logp: (logp * logp.argsort()).sum())
    ),
    "chance": faulty("seed", "left different weights", loss=total(lambda logp: -(logp * unseeded(logp)).sum())),
    "memory": faulty(
        "resume", "from a checkpoint leaves other weights", loss=total(lambda logp: -(logp * next(CALLS)).sum())
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(fault: str, world: World) -> None:
    check, method, problem = FAULTS[fault]
    with pytest.raises(CheckFailed, match=problem):
        CHECKS[check](method, method.config(), world)


def test_options_may_make_a_method_need_less(world: World) -> None:
    """With live answers alone GKD has no use for golden ones; that is no fault of what it declares."""
    gkd = METHODS["gkd"]
    assert "golden" in CHECKS["needs"](gkd, gkd.config(), world)
    assert CHECKS["needs"](gkd, gkd.config(on_policy=1.0), world)


def test_every_check_has_a_fault_that_it_finds() -> None:
    assert {check for check, _, _ in FAULTS.values()} == set(CHECKS)


def test_a_method_without_fault_passes(world: World) -> None:
    findings = list(check_method(SAMPLES, world=world))
    assert [finding.name for finding in findings] == list(CHECKS)
    assert [finding.problem for finding in findings] == [None] * len(CHECKS)


def test_what_a_method_raises_is_reported_with_its_line(world: World) -> None:
    """A loss that reads the reference without having declared it finds nothing there."""
    undeclared = replace(dpo.METHOD, needs=replace(dpo.METHOD.needs, reference=False))
    findings = {finding.name: finding.problem for finding in check_method(undeclared, world=world)}
    assert "KeyError: 'reference' (dpo.py:" in str(findings["trains"])
    assert findings["rows"] is None


def command(*words: str) -> Result:
    return CliRunner().invoke(app, ["check-method", *words])


def test_the_command_prints_a_line_per_check() -> None:
    done = command("best-of-n", "--set", "keep_unfinished=true")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0].startswith("best-of-n: ") and [line.split()[0] for line in lines[1:]] == ["ok"] * len(CHECKS)
    assert [line.split()[1] for line in lines[1:]] == list(CHECKS)


def test_the_command_fails_on_a_bad_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from dataclasses import replace\n\n"
        "from methods.seqkd import METHOD as SEQKD\n\n"
        "METHOD = replace(SEQKD, name='mine', row_fields=('depth',), rows=lambda group, config: 1 / 0)\n"
    )
    done = command(str(file))
    assert done.exit_code == 1
    assert "FAILED config" in done.stdout and "FAILED rows           ZeroDivisionError" in done.stdout
