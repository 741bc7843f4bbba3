"""A run is named by the same words everywhere; a wrong one is answered with the nearest name and the runs there are."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import distilbench
from distilbench.cli import main
from harness.errors import UserError
from results.run.find import RunPlace, find_run
from results.run.record import runs_of


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``runs`` in the working directory, with two runs; one is that of the recipe ``mine.yaml``."""
    for place in ("pocket/table1", "pocket/table2", "mine-1/table1"):
        (tmp_path / "runs" / place).mkdir(parents=True)
        (tmp_path / "runs" / place / "run.json").write_text("{}", encoding="utf-8")
    (tmp_path / "runs" / "empty").mkdir()
    (tmp_path / "pocket").mkdir()  # a folder of that name that is no run
    (tmp_path / "mine.yaml").write_text("extends: pocket\nname: mine-1\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return Path("runs")


@pytest.mark.parametrize(
    ("words", "folder", "target"),
    [
        ("pocket", "pocket", None),
        ("runs/pocket", "pocket", None),
        ("./runs/pocket/", "pocket", None),
        ("pocket/table2", "pocket", "table2"),
        ("runs/pocket/table2", "pocket", "table2"),
        ("runs/pocket/table2/run.json", "pocket", "table2"),
        ("mine-1", "mine-1", None),
        ("mine.yaml", "mine-1", None),
    ],
)
def test_a_run_by_its_name_its_folder_or_its_recipe(runs: Path, words: str, folder: str, target: str | None) -> None:
    found = find_run(words, runs)
    assert (found.folder.resolve(), found.target) == ((runs / folder).resolve(), target)
    assert find_run(runs.absolute() / folder, runs) == RunPlace(runs.absolute() / folder, None)


def test_the_store_of_a_run_lies_beside_it_and_of_a_judge_s_run_beside_the_one_that_was_judged(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of runs may be called ``judges`` too."""
    assert runs_of(runs / "pocket") == runs and runs_of(Path("judges/pocket")) == Path("judges")
    again = runs / "pocket/table1/judges/strict"
    whole = runs.absolute()
    assert runs_of(again) == whole
    monkeypatch.chdir(whole / "pocket/table1")
    assert runs_of(Path("judges/strict")) == whole
    monkeypatch.chdir(whole.parent)
    (runs / "pocket/table1/judges").mkdir()
    monkeypatch.chdir(runs / "pocket/table1/judges")
    assert runs_of(Path("strict")) == whole


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("pockt", ["no run 'pockt'", "Did you mean 'pocket'?", "Runs under runs: mine-1, pocket."]),
        ("runs/pockt", ["Did you mean 'runs/pocket'?"]),
        ("empty", ["no run 'empty'", "Runs under runs: mine-1, pocket."]),
        ("smollm2", ["the recipe 'smollm2' has not been run", "reproduce table1 --recipe smollm2"]),
        ("none.yaml", ["neither a shipped recipe nor a file"]),
        ("pocket/tabel2", ["no run 'pocket/tabel2'", "Runs under runs: mine-1, pocket."]),
        ("", ["no run ''"]),
    ],
)
def test_wrong_words(runs: Path, words: str, parts: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        find_run(words, runs)
    assert not [part for part in parts if part not in str(caught.value)], str(caught.value)
    with pytest.raises(UserError):
        distilbench.load(words)


COMMANDS = (
    "report --run {}",
    "report --recipe {}",
    "explain table1 dpo gsm8k.acc --run {}",
    "verify {}",
    "export {} --row dpo",
    "export --run {} --row dpo",
    "compare-judges --run {}",
    "plan --pilot {}",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_answers_alike(
    runs: Path, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["distilbench", *command.format("pockt").split()])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    assert "there is no run 'pockt'. Did you mean 'pocket'? Runs under runs: mine-1, pocket." in capsys.readouterr().err
