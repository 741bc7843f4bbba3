"""Our losses and gradients against TRL's on the same batch: loss to 1e-5, gradients to 1e-4 of their norm.

The comparisons are those of ``benchmarks/parity.py``, which prints their errors. SFT, DPO, IPO and the divergence of the
DistillationTrainer are TRL's stable code; SimPO (CPOTrainer), ORPO and GKD live under ``trl.experimental`` and are skipped
where the installed TRL has moved them. Whole runs of 20 steps: ``tests/harness/test_trl_backend.py``.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator

import pytest
import torch

from benchmarks.parity import CASES, Bench, compare
from methods import METHODS


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


def test_no_margin_is_zero(bench: Bench) -> None:
    """A batch on which the loss is log 2 whatever the margin's scale would compare nothing."""
    training = bench.training("dpo", METHODS["dpo"].config())
    same = bench.training("dpo", METHODS["dpo"].config(beta=1.0))
    assert training.reference == same.reference
    assert any(abs(a - b) > 1 for a, b in (rows for rows in training.reference or () if len(rows) == 2))


def test_what_is_compared() -> None:
    assert {CASES[name][0] for name in CASES} == {"seqkd", "best-of-n", "dpo", "ipo", "simpo", "orpo", "gkd"}
