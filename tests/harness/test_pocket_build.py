"""The script that builds the pocket checkpoints: it trains, saves what loads, and refuses what makes no sense.

Run: python -m pytest tests/harness/test_pocket_build.py
"""

import json
from pathlib import Path

import pytest

from scripts.pocket.build import main

pytest.importorskip("torch", reason="the script trains")


@pytest.mark.slow
def test_the_script_builds_a_checkpoint_that_loads(tmp_path: Path) -> None:
    from scripts.pocket.measure import generate, load

    main(["--out", str(tmp_path), "--only", "student-other", "--steps", "100"])
    model, tokenizer = load(tmp_path / "student-other")
    assert len(generate(model, tokenizer, [[{"role": "user", "content": "name two animals."}]], 1.0, 0)) == 1
    row = json.loads((tmp_path / "logs" / "student-other.jsonl").read_text(encoding="utf-8"))
    assert row["step"] == 100 and row["answer"] < 6.68  # log(800) = 6.68: a guess among 800 tokens


def test_steps_without_a_model_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--out", str(tmp_path), "--steps", "3"])
    assert stop.value.code == 2 and "--only" in capsys.readouterr().err


def test_a_teacher_alone_needs_the_samples_of_a_student(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--out", str(tmp_path), "--only", "teacher"])
    assert stop.value.code == 2 and "student first" in capsys.readouterr().err
