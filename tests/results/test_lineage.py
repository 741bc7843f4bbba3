"""What a student took, read back from the markers of a store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from harness.contracts.benchmark import Metric
from harness.contracts.stage import Stage
from results.run.lineage import Lineage, StudentTraining
from results.run.record import Cell, RowSpec, Run, RunFamily
from results.store.checksums import marker_text
from results.store.store import ArtifactStore

PROMPTS = Stage("prompts", {})
SAMPLE = Stage("sample", {}, {"prompts": PROMPTS.ref})
REFERENCE = Stage("reference", {}, {"samples": SAMPLE.ref})
FIRST_ROUND = Stage("train", {"round": 1}, {"samples": SAMPLE.ref, "reference": REFERENCE.ref})
SECOND_ROUND = Stage("train", {"round": 2}, {"samples": SAMPLE.ref, "student": FIRST_ROUND.ref})
ANSWERS = Stage("answer", {}, {"model": SECOND_ROUND.ref})
STUDENT_ANSWERS = Stage("answer", {"model": "student"})
JUDGMENTS = Stage("judge", {}, {"answers": ANSWERS.ref})
INPUTS = {
    "answers:dpo/0": ANSWERS,
    "answers:student/0": STUDENT_ANSWERS,
    "judgments:dpo/0": JUDGMENTS,
    "judgments:student/0": JUDGMENTS,
}
SCORE = Stage("score", {"benchmark": "m"}, {role: stage.ref for role, stage in INPUTS.items()})
STAGES = (PROMPTS, SAMPLE, REFERENCE, FIRST_ROUND, SECOND_ROUND, ANSWERS, STUDENT_ANSWERS, JUDGMENTS, SCORE)
RUN = Run(
    "r", {}, "", True, RunFamily("f", "t", "s"), (RowSpec("student", "Student", True), RowSpec("dpo", "DPO")),
    (Metric("m.x", "X", "M"),), (0,),
    (Cell("student", "m.x", 0, SCORE.key, "student/0"), Cell("dpo", "m.x", 0, SCORE.key, "dpo/0")),
)  # fmt: skip


def fill(folder: Path, stage: Stage) -> Mapping[str, object]:
    if stage.kind == "train":
        (folder / "model").mkdir()
        lines = [json.dumps({"step": step, "loss": 1.0 / step}) for step in (1, 2)]
        (folder / "model" / "training.jsonl").write_text("\n".join(lines) + "\n")
    return {}


def trainings_of(run: Run, store: ArtifactStore) -> dict[tuple[str, int], StudentTraining]:
    lineage = Lineage(store)
    return lineage.trainings(lineage.sources(run))


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    """Every stage took 10 s, but for the second round's 25."""
    store = ArtifactStore(tmp_path)
    for stage in STAGES:
        marker = store.write(stage, lambda folder, stage=stage: fill(folder, stage)) / "meta.json"
        meta = json.loads(marker.read_text())
        meta |= {"wall_seconds": 25.0 if stage is SECOND_ROUND else 10.0, "peak_memory_bytes": len(stage.label)}
        marker.write_text(marker_text(meta))
    return store


def test_all_that_ran_a_model_counts_once(store: ArtifactStore) -> None:
    """Sample 10 s, reference log-probabilities 10 s, both rounds 10 + 25 s; prompts run no model. Steps of the second
    round go on after the first's."""
    students = trainings_of(RUN, store)
    assert list(students) == [("dpo", 0)]  # nobody trained the student
    dpo = students["dpo", 0]
    assert dpo.seconds == {"sample": 10.0, "reference": 10.0, "train": 35.0}
    assert dpo.hours == pytest.approx(55 / 3600)
    assert dpo.peak_memory == len("reference")
    assert [record["step"] for record in dpo.curve] == [1, 2, 3, 4]


def test_what_was_cleared_away_is_left_out(store: ArtifactStore) -> None:
    (store.path("train", SECOND_ROUND.key) / "meta.json").unlink()
    assert trainings_of(RUN, store) == {}
    failed_run = replace(RUN, cells=(Cell("dpo", "m.x", 0, unavailable="failed"),))
    assert trainings_of(failed_run, store) == {}


def test_a_number_is_two_hops_from_the_judges_reply(store: ArtifactStore) -> None:
    """Score to judgments artifact; that artifact holds the replies. What it was made from lies behind it."""
    lineage = Lineage(store)
    source = lineage.source(SCORE.key, "dpo/0")
    assert source is not None
    assert (source.benchmark, source.answers, source.judgments) == ("m", ANSWERS.ref, JUDGMENTS.ref)
    assert source.student == SECOND_ROUND.ref
    refs = [ref for ref, _ in lineage.artifacts_behind(source.judgments)]
    assert refs == [stage.ref for stage in (PROMPTS, SAMPLE, REFERENCE, FIRST_ROUND, SECOND_ROUND, ANSWERS, JUDGMENTS)]
    assert lineage.source(SCORE.key, "somebody/0") is None
