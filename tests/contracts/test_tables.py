"""The contract suites: every entry of the six tables keeps its contract, those of installed plug-ins included.

The checks are those of ``distilbench check-method`` and its like, one test for each entry and check.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from distilbench.plugins import CONTRACTS, OURS, load_registry
from harness import assets
from harness.checks import method, suites
from harness.checks.finding import Checks
from harness.checks.method import World
from harness.errors import UserError
from judges.ledger.ledger import Ledger
from tests.fakes.engine import FakeEngine
from tests.tiny import tiny_checkpoint

REGISTRY = load_registry()
SUITES: Mapping[str, Checks] = {"methods": method.CHECKS, **suites.SUITES}
COUNTS = {"methods": 16, "benchmarks": 13, "judges": 4, "sources": 4, "backends": 4, "executors": 4}
"""Entries of ours. Who adds one raises the number here: a suite that lost an entry would pass in silence."""
CHECKS = {"methods": 7, "benchmarks": 8, "judges": 6, "sources": 5, "backends": 6, "executors": 4}


def test_the_suites_cover_every_table_entry_and_check() -> None:
    assert set(OURS) == set(CONTRACTS) == set(SUITES)
    assert {table: len(entries) for table, entries in OURS.items()} == COUNTS
    assert {table: len(suite) for table, suite in SUITES.items()} == CHECKS
    assert all(set(OURS[table]) <= set(getattr(REGISTRY, table)) for table in OURS)


def options(table: str, name: str, folder: Path) -> dict[str, Any]:
    """What an entry needs beside its defaults to be tried on this machine, with no network."""
    if (table, name) == ("sources", "jsonl"):
        file = folder / "mine.jsonl"
        file.write_text("".join(f'{{"prompt": "{n}?", "golden": "y", "rejected": "n"}}\n' for n in range(9)))
        return {"path": str(file)}
    if (table, name) == ("benchmarks", "lm_eval"):
        return {"task": str(lm_eval_task(folder))}
    if table == "benchmarks" and "questions" not in optional_fields(REGISTRY.benchmarks[name]):
        file = folder / "questions.jsonl"
        row = '{{"question": "{n} + 1?", "reference": "{n}", "choices": ["{n}", "x"], "baseline": "y"}}\n'
        file.write_text("".join(row.format(n=n) for n in range(2, 11)))
        return {"questions": str(file)}
    needed: dict[tuple[str, str], dict[str, Any]] = {
        # Port 9 is closed: the judge that cannot be reached must say so in the right way.
        ("executors", "slurm"): {"cluster": "local"},
        ("judges", "openai"): {"model": "m", "base_url": "http://127.0.0.1:9/v1"},
    }
    if (table, name) == ("judges", "replay"):
        with Ledger(folder / "empty.sqlite"):  # no reply in it
            return {"ledger": str(folder / "empty.sqlite"), "endpoint": "e", "model": "m"}
    if table == "backends" and REGISTRY.backends[name].engine:
        return {"server": fake_engine()}
    if (table, name) == ("judges", "transformers"):
        return {"path": str(tiny_checkpoint(folder / "tiny", seed=0)), "device": "cpu"}
    return needed.get((table, name), {})


LM_EVAL_TASK = """
task: sums
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/sums.jsonl}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["\\n"], max_gen_toks: 16}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
metadata: {{version: 1.0}}
"""


def lm_eval_task(folder: Path) -> Path:
    (folder / "sums.jsonl").write_text("".join(f'{{"question": "{n} + 1?", "answer": "{n + 1}"}}\n' for n in range(9)))
    (folder / "sums.yaml").write_text(LM_EVAL_TASK.format(folder=folder))
    return folder / "sums.yaml"


def optional_fields(entry: Any) -> set[str]:
    fields = dataclasses.fields(entry.config)
    return {field.name for field in fields if field.default is not dataclasses.MISSING}


@cache
def fake_engine() -> str:
    """A server of the checkpoint that the suite makes."""
    folder = tiny_checkpoint(Path(tempfile.mkdtemp(prefix="distilbench-test-")), seed=0)
    return FakeEngine(str(folder)).__enter__().url


def cases() -> Iterator[Any]:
    for table, suite in SUITES.items():
        for name in getattr(REGISTRY, table):
            marks = []
            if (table, name) == ("sources", "ultrafeedback"):
                marks = [pytest.mark.skip(reason="needs the hub")]
            elif name == "slurm":
                marks = [pytest.mark.skipif(find_spec("submitit") is None, reason="needs submitit")]
            elif name == "gsm8k-train":
                is_here = assets.check_asset("gsm8k/train.jsonl").state == "ok"
                marks = [pytest.mark.assets, pytest.mark.skipif(not is_here, reason="gsm8k/train.jsonl is not here")]
            elif name == "ray":
                marks = [pytest.mark.slow, pytest.mark.skipif(find_spec("ray") is None, reason="needs ray: tox -e ray")]
            for check in suite:
                yield pytest.param(table, name, check, id=f"{table}-{name}-{check}", marks=marks)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize(("table", "name", "check"), list(cases()))
def test_an_entry_keeps_its_contract(table: str, name: str, check: str, world: World, tmp_path: Path) -> None:
    entry = getattr(REGISTRY, table)[name]
    config = entry.config(**options(table, name, tmp_path))
    more = (world,) if table == "methods" else ()
    if table == "benchmarks":
        try:
            entry.questions(config)
        except UserError as error:  # official questions that do not ship
            if "asset" not in str(error):
                raise
            pytest.skip(str(error)[:100])
        entry = entry.named(entry.name, config)
    assert SUITES[table][check](entry, config, *more)


@pytest.mark.parametrize("share", [0.0, 1.0])
@pytest.mark.parametrize("name", ["gkd", "distillm"])
def test_both_kinds_of_steps_keep_the_contract(name: str, share: float, world: World) -> None:
    """All golden, and all live; the defaults above mix them."""
    entry = REGISTRY.methods[name]
    config = entry.config(on_policy=share)
    for check in ("rows", "trains", "micro-batches"):
        if check != "rows" or share == 0:
            assert method.CHECKS[check](entry, config, world)
