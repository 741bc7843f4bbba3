"""The measured controls of the pocket world (``studies/pocket_controls.py``): the instrument sees what is there."""

from __future__ import annotations

import json
from pathlib import Path

FILE = Path(__file__).resolve().parents[1] / "studies" / "pocket_controls.json"
CONTROLS = json.loads(FILE.read_text(encoding="utf-8"))


def test_ten_seeds_each_and_above_means_that_the_interval_is() -> None:
    assert set(CONTROLS) == {"oracle-sft", "pad-ppd", "random-sft"}
    for rows in CONTROLS.values():
        assert [row["seed"] for row in rows] == list(range(10))
        assert [row["above"] for row in rows] == [row["low"] > 0 for row in rows]
        assert all(row["low"] <= row["difference"] <= row["high"] for row in rows)
        assert all(abs(row["score"] - row["student"] - row["difference"]) < 1e-9 for row in rows)


def test_training_on_the_best_sample_is_seen_and_shuffled_rewards_are_not() -> None:
    assert sum(row["above"] for row in CONTROLS["oracle-sft"]) >= 9
    assert sum(row["above"] for row in CONTROLS["pad-ppd"]) <= 1


def test_peeking_is_worth_more_than_samples_alone() -> None:
    """In every seed; what samples alone are worth is told in docs/pocket.md."""
    pairs = zip(CONTROLS["oracle-sft"], CONTROLS["random-sft"], strict=True)
    assert all(best["difference"] > other["difference"] for best, other in pairs)
