"""``run.json`` and the frames: round trips, contradictions refused, missing scores told apart."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from distilbench import load
from harness.contracts.benchmark import Card, Metric
from harness.contracts.stage import Stage
from harness.errors import UserError
from harness.types import Score
from results.run.record import Cell, RowSpec, Run, RunFamily, read_run, read_scores, write_run
from results.run.results import read_results
from results.store.checksums import marker_text
from results.store.store import ArtifactStore

STAGE = Stage("score", {"benchmark": "gsm8k"})
SCORE = Score("gsm8k.acc", 62.5, 50.0, 75.0, 8, 0, replicates=(60.0, 65.0))
RUN = Run(
    name="pocket",
    recipe={"family": "pocket", "seeds": [0]},
    created="2026-01-01T00:00:00+00:00",
    finished=True,
    family=RunFamily("pocket", "teacher", "student"),
    rows=(RowSpec("student", "Student", True), RowSpec("kd", "Standard KD")),
    columns=(Metric("gsm8k.acc", "Acc.", "GSM8K"),),
    seeds=(0,),
    cells=(
        Cell("student", "gsm8k.acc", 0, STAGE.key, "student 0"),
        Cell("kd", "gsm8k.acc", 0, unavailable="needs a shared vocabulary"),
    ),
    cards=(Card("gsm8k", "1", "none", {"shots": 5}, ("pocket questions",)),),
    judges={"gsm8k": "by rule"},
    notes=("a note",),
)


def put_scores(store: ArtifactStore, scores: dict[str, list[Score]]) -> None:
    contents = {entrant: [asdict(score) for score in entrant_scores] for entrant, entrant_scores in scores.items()}

    def fill(folder: Path) -> dict[str, object]:
        (folder / "scores.json").write_text(json.dumps(contents))
        return {}

    store.write(STAGE, fill)


def test_round_trip(tmp_path: Path) -> None:
    path = write_run(tmp_path / "runs" / "run.json", RUN)
    assert read_run(path) == RUN
    write_run(path, replace(RUN, finished=False))
    assert not read_run(path).finished
    assert [file.name for file in path.parent.iterdir()] == ["run.json"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": (*RUN.rows, RUN.rows[0])}, "row 'student' is there twice"),
        ({"columns": RUN.columns * 2}, "column 'gsm8k.acc' is there twice"),
        ({"seeds": (0, 0)}, "seed 0 is there twice"),
        ({"cells": (*RUN.cells, RUN.cells[0])}, r"cell \('student', 'gsm8k.acc', 0\) is there twice"),
        ({"cells": RUN.cells[:1]}, r"cell \('kd', 'gsm8k.acc', 0\) is missing"),
        ({"cells": RUN.cells[1:]}, r"cell \('student', 'gsm8k.acc', 0\) is missing"),
        ({"cells": (*RUN.cells, Cell("dpo", "gsm8k.acc", 0, "k", "e"))}, r"cell \('dpo', .*\) is outside"),
        ({"cells": (*RUN.cells, Cell("kd", "gsm8k.acc", 1, "k", "e"))}, r"cell \('kd', 'gsm8k.acc', 1\) is outside"),
        ({"cells": (RUN.cells[0], Cell("kd", "gsm8k.acc", 0))}, "neither a score nor a reason"),
    ],
)
def test_a_run_that_contradicts_itself_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    run = replace(RUN, **change)
    (tmp_path / "run.json").write_text(marker_text(asdict(run)))
    with pytest.raises(UserError, match=message) as error:
        read_run(tmp_path / "run.json")
    assert "; " not in str(error.value), "one fault, one mistake"
    with pytest.raises(UserError, match=message):
        write_run(tmp_path / "new.json", run)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "has format None"),
        (marker_text({**asdict(RUN), "format": 99}), "has format 99, this distilbench reads 1"),
        (marker_text({**asdict(RUN), "seeds": ["zero"]}), "seeds.0"),
        (marker_text({**asdict(RUN), "surprise": 1}), "surprise"),
        (json.dumps(asdict(RUN)), "was changed since the run wrote it"),
        (marker_text(asdict(RUN)).replace('"checksum"', '"Checksum"'), "was changed since the run wrote it"),
    ],
)
def test_a_damaged_file_is_a_user_error(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(UserError, match=message):
        read_run(tmp_path / "run.json")
    with pytest.raises(UserError, match="run the recipe first"):
        read_run(tmp_path / "nowhere" / "run.json")


def test_results_join_the_run_with_the_store(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "store")
    put_scores(store, {"student 0": [SCORE]})
    write_run(tmp_path / "run.json", RUN)
    results = read_results(tmp_path / "run.json", store)
    assert results.scores == {("student", "gsm8k.acc", 0): SCORE}
    assert results.missing_scores == {("kd", "gsm8k.acc", 0): "needs a shared vocabulary"}
    frame = results.frame().set_index("row")
    assert frame.loc["student", "value"] == 62.5
    assert frame.loc["student", "coverage"] == 1.0
    assert frame.loc["kd", ["value", "low", "coverage"]].isna().all()
    assert frame.loc["kd", "note"] == "needs a shared vocabulary"


def test_a_missing_score_is_not_run_yet_or_an_error(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "store")
    write_run(tmp_path / "run.json", replace(RUN, finished=False))
    assert read_results(tmp_path / "run.json", store).missing_scores["student", "gsm8k.acc", 0] == "not run yet"
    write_run(tmp_path / "run.json", RUN)
    with pytest.raises(UserError, match=r"not in the store\. Run the recipe again"):
        read_results(tmp_path / "run.json", store)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({"someone else": [SCORE]}, "no entrant 'student 0'; it has: someone else"),
        ({"student 0": [replace(SCORE, metric="gsm8k.em")]}, "no 'gsm8k.acc'; it has: gsm8k.em"),
        ({"student 0": [replace(SCORE, value=float("nan"))]}, r"student 0\.0\.value: Input should be a finite number"),
        ({"student 0": [replace(SCORE, n="many")]}, r"student 0\.0\.n"),
    ],
)
def test_scores_that_do_not_fit_are_named(tmp_path: Path, scores: dict[str, list[Score]], message: str) -> None:
    store = ArtifactStore(tmp_path / "store")
    put_scores(store, scores)
    write_run(tmp_path / "run.json", RUN)
    with pytest.raises(UserError, match=message):
        read_results(tmp_path / "run.json", store)


def test_none_is_a_score_without_a_value(tmp_path: Path) -> None:
    (tmp_path / "scores.json").write_text(
        '{"m": [{"metric": "a.b", "value": null, "low": null, "high": null, "n": 0, "unscored": 3}]}'
    )
    assert read_scores(tmp_path / "scores.json")["m"]["a.b"].value is None


def test_a_run_is_found_by_its_own_folder(tmp_path: Path) -> None:
    """``runs/pocket`` means its main table, or the only target that there is; the store lies beside it."""
    put_scores(ArtifactStore(tmp_path / "store"), {"student 0": [SCORE]})
    write_run(tmp_path / "pocket" / "table2" / "run.json", replace(RUN, name="second"))
    assert load(tmp_path / "pocket").results().run.name == "second"
    write_run(tmp_path / "pocket" / "table6" / "run.json", RUN)
    with pytest.raises(UserError, match=r"several targets \(table2, table6\): name one"):
        load(tmp_path / "pocket").results()
    write_run(tmp_path / "pocket" / "table1" / "run.json", replace(RUN, name="main"))
    assert load(tmp_path / "pocket").results().run.name == "main"
    assert load(tmp_path / "pocket" / "table2").results().run.name == "second"
    assert load(tmp_path / "pocket").results("table2").run.name == "second"
    with pytest.raises(
        UserError, match=r"has table1, table2, table6, but not table3: run it first \(distilbench repro"
    ):
        load(tmp_path / "pocket", ["table3"])
    with pytest.raises(UserError, match=r"Did you mean .*pocket.*Runs under .*: pocket"):
        load(tmp_path / "poket")
