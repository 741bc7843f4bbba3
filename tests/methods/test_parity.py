"""Our losses and gradients against TRL's on the same batch: loss to 1e-5, gradients to 1e-4 of their norm.

The comparisons are those of ``studies/parity.py``, which prints their errors. SFT, DPO, IPO and the divergence of
the DistillationTrainer are TRL's stable code; SimPO (CPOTrainer), ORPO and GKD live under ``trl.experimental`` and are
skipped where the installed TRL has moved them. Whole runs of 20 steps by TRL's stable trainers:
``tests/harness/test_trl_backend.py``.
"""

from __future__ import annotations

import gc
import json
import math
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from studies.parity import CASES, LOSS_RUNS, Bench, Parity, WholeRun, compare, lines, loss_run

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    gc.freeze()  # a trainer collects garbage as it starts
    yield Bench(tmp_path_factory.mktemp("parity"))
    gc.unfreeze()
    torch.set_num_threads(threads)


@pytest.mark.parametrize("case", CASES)
def test_parity(case: str, bench: Bench) -> None:
    with warnings.catch_warnings():
        # TRL warns of its experimental parts, and reads attributes that transformers 5.23 has renamed.
        warnings.simplefilter("ignore")
        try:
            found = compare(case, bench)
        except ImportError as error:
            if "experimental" not in CASES[case][2]:
                raise
            pytest.skip(f"this TRL has no such experimental trainer: {error}")
    assert found.loss_error <= 1e-5 * max(1.0, abs(found.loss))
    assert found.gradient_error <= 1e-4
    assert abs(found.loss - math.log(2)) > 1e-3, "at a margin of 0 nothing would be compared"


@pytest.mark.parametrize("name", LOSS_RUNS)
def test_twenty_steps_on_either_loss_stay_together(name: str, bench: Bench) -> None:
    """Each side trains on the gradients of its own loss: what differs a little at each step would grow."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as above
        try:
            found = loss_run(name, bench)
        except ImportError as error:
            pytest.skip(f"this TRL has no such experimental trainer: {error}")
    assert found.steps == 20
    assert found.loss_error < 1e-5 and found.weight_error < 1e-5


def test_the_page_shows_the_measured_numbers() -> None:
    """``docs/methods.md`` holds the tables of ``studies/parity.json``, all of it within the bounds above."""
    found = json.loads((ROOT / "studies" / "parity.json").read_text(encoding="utf-8"))
    cases, runs = [Parity(**case) for case in found["batch"]], [WholeRun(**run) for run in found["runs"]]
    page = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    assert [line for line in lines(cases, runs) if line not in page] == []
    assert len(cases) == len(CASES) and [run.steps for run in runs] == [20] * 7
    assert max(case.loss_error / max(1.0, case.loss) for case in cases) <= 1e-5
    assert max(case.gradient_error for case in cases) <= 1e-4
