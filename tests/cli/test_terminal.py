"""On a narrow terminal nothing breaks inside a word, and nothing is cut."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import pytest
from rich.console import Console

from distilbench.cli import main
from distilbench.cli.screen import show_table, wrapped
from reports.formats.terminal import TerminalTable
from tests.command import ROOT, settings
from tests.reports.world import make, table_of

ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
COMMANDS = {
    "plan": ["plan", "table1", *settings("prompts.n=16", "seeds=[0]")],
    "plan --all": ["plan", "table1", "--all", *settings("prompts.n=16", "seeds=[0]")],
    "plan with problems": ["plan", "table1", "--recipe", "smollm2"],
    "list": ["list"],
    "list methods": ["list", "methods"],
    "list methods -v": ["list", "methods", "-v"],
    "judge list": ["judge", "list"],
    "assets status": ["assets", "status"],
    "recipe show --explain": ["recipe", "show", "smollm2", "--explain"],
    "recipe check": ["recipe", "check", "pocket"],
    "a recipe with mistakes": ["recipe", "check", "--set", "train.learning_rte=1", "--set", "judges.main.kind=opnai"],
    "a run that is not there": ["verify", "pockt"],
    "a file that is there": ["init", str(ROOT / "recipes" / "gemma2.yaml")],
    "a wrong target": ["report", "tabel1"],
}


def shown(words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(sys, "argv", ["distilbench", *words])
    with pytest.raises(SystemExit):
        main()
    output, errors = capsys.readouterr()
    return ESCAPES.sub("", output + errors)


@pytest.mark.parametrize("name", COMMANDS)
def test_nothing_breaks_inside_a_word(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever a narrow terminal shows are words of what a pipe gets, and a line is too long for one long word only."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("DISTILBENCH_ASSETS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    words = COMMANDS[name]
    whole = shown(words, capsys, monkeypatch)
    monkeypatch.setenv("FORCE_COLOR", "1")  # for rich that is a terminal
    for columns in (80, 60):
        monkeypatch.setenv("COLUMNS", str(columns))
        text = shown(words, capsys, monkeypatch)
        known = {*whole.split(), *(word + end for word in re.split(r"[\s]+", whole) for end in ":;")}
        assert not [word for word in text.split() if word not in known], columns
        too_long = [line for line in text.splitlines() if len(line) > columns]
        assert not [line for line in too_long if len(line.split()) > 1], columns


@pytest.mark.parametrize("columns", [60, 80])
def test_a_table_of_results_is_never_cut(columns: int) -> None:
    """Where five columns do not fit, they stand in two tables, each with the names of the rows."""
    table = table_of(make())
    console = Console(width=columns, record=True, file=io.StringIO())
    console.print(TerminalTable(table))
    text = console.export_text()
    assert "…" not in text and max(map(len, text.splitlines())) <= columns
    for row in table.rows:
        assert row.cells[0].text in text
        for cell in row.cells[1:]:
            assert all(part in text for part in (cell.text, *cell.lines))


def test_columns_shrink_then_a_column_goes_then_rows_become_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    heads, rows = (
        ("name", "what it does", "calls"),
        [("first", "one or two long words", "12"), ("second", "three", "1,234")],
    )
    monkeypatch.setenv("FORCE_COLOR", "1")

    def lines(columns: int, dropped: str | None = None) -> list[str]:
        monkeypatch.setenv("COLUMNS", str(columns))
        show_table(heads, rows, left=("name", "what it does"), dropped=dropped)
        return ESCAPES.sub("", capsys.readouterr().out).splitlines()

    assert lines(40) == [
        "name    what it does           calls",
        "first   one or two long words     12",
        "second  three                  1,234",
    ]
    assert lines(28) == [
        "name    what it does   calls",
        "first   one or two        12",
        "        long words",
        "second  three          1,234",
    ]
    assert lines(28, dropped="what it does") == ["name    calls", "first      12", "second  1,234"]
    assert lines(16) == ["first", "  what it does:", "  one or two", "  long words;", "  calls: 12", "second",
                         "  what it does:", "  three; calls:", "  1,234"]  # fmt: skip


def test_a_word_that_is_too_long_stays_whole() -> None:
    assert wrapped("see https://example.org/a-long-address for-more of it", 20) == [
        "see", "  https://example.org/a-long-address", "  for-more of it",
    ]  # fmt: skip
    assert wrapped("", 20) == [""]
