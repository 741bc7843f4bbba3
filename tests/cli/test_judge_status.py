"""``judge status``: of many judge stages those that lack most verdicts."""

from __future__ import annotations

from pathlib import Path

import pytest

from distilbench.cli import judge
from distilbench.cli.judge import stage_rows
from harness.contracts.stage import Stage
from results.store.store import ArtifactStore


def test_of_many_stages_those_that_lack_most_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows a to d lack 0, 1, 0 and 3 of 4 verdicts: with two lines, b and d."""
    store = ArtifactStore(tmp_path)
    for row, missing in (("a", 0), ("b", 1), ("c", 0), ("d", 3)):
        unscored = {"refused": missing} if missing else {}
        stage = Stage("judge", {"benchmark": "mt_bench", "row": row}, row=row, seed=0)
        store.write(stage, lambda folder, unscored=unscored: {"judgments": 4, "unscored": unscored})
    whole = stage_rows(store)
    assert [row[0] for row in whole] == [f"judge mt_bench {row} seed 0" for row in "abcd"]
    assert whole[3][1:] == ("1 of 4 with a verdict", "3 refused")
    monkeypatch.setattr(judge, "SHOWN_STAGES", 2)
    assert stage_rows(store) == [whole[1], whole[3], ("and 2 more", "that lack no more", "")]
