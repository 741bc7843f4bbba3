"""The coverage simulation (``studies/coverage.py``): it goes on where it was, around the right truths."""

import json
import sys
from pathlib import Path

import pytest

from studies import coverage


def run(out: Path, monkeypatch: pytest.MonkeyPatch, runs: int, replicates: int = 40) -> dict[str, object]:
    words = ["coverage.py", "--out", str(out), "--only", "mt_bench.score", "--runs", str(runs)]
    monkeypatch.setattr(sys, "argv", [*words, "--replicates", str(replicates)])
    coverage.main()
    return dict(json.loads(out.read_text())["mt_bench.score"])


def test_it_goes_on_where_it_was_unless_something_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs and then four are the four of one go; other replicates or other code begin anew."""
    run(tmp_path / "a.json", monkeypatch, 2)
    known = ("runs", "coverage", "mean_width", "mean_estimate")
    first, second = run(tmp_path / "a.json", monkeypatch, 4), run(tmp_path / "b.json", monkeypatch, 4)
    assert [first[key] for key in known] == [second[key] for key in known] and first["runs"] == 4
    assert run(tmp_path / "a.json", monkeypatch, 3, replicates=41)["runs"] == 3
    monkeypatch.setattr(coverage, "code", lambda: "other")
    assert run(tmp_path / "b.json", monkeypatch, 2)["runs"] == 2


def test_every_benchmark_is_simulated_around_its_truth() -> None:
    """The mean of 8 estimates lies within 4 standard errors of the truth, taken from the width of the intervals."""
    truths = coverage.truths()
    assert set(truths) == set(coverage.SIMULATIONS) == set(coverage.SIZES)
    assert {name.split(".")[0] for name in truths} == {"alpaca_eval", "arena_hard", "mt_bench", "gsm8k"}
    for metric, truth in truths.items():
        if metric != "alpaca_eval.lc":  # whose official fit takes a second: tests/judges/test_length_control.py
            tally = coverage.Tally()
            coverage.simulate(metric, truth, tally, 8, 60, lambda _: None)
            error = tally.widths / 8 / (2 * 1.96) / 8**0.5
            assert abs(tally.estimates / 8 - truth) < 4 * error, metric
