"""On a narrow terminal nothing breaks inside a word, and nothing is cut."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console

import distilbench
from distilbench.cli import main
from distilbench.cli.app import app
from distilbench.cli.screen import show_table, wrapped
from harness.types import Reply
from judges.ledger.ledger import Ledger
from reports.formats.terminal import TerminalTable
from tests.command import ROOT, settings
from tests.reports.world import make, table_of

NUMBER = re.compile(r"\d+(?:\.\d+)?")  # free memory, say: it is another one each time
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
    "doctor": ["doctor", "--set", "benchmarks.mt_bench.questions=official"],
    "judge status": ["judge", "status", "--runs", "{tmp}"],
}


def helps(command: Any, *words: str) -> dict[str, list[str]]:
    """``--help`` of a command and of all below it."""
    found = {" ".join((*words, "--help")): [*words, "--help"]}
    for name, inner in getattr(command, "commands", {}).items():
        found |= helps(inner, *words, name)
    return found


HELPS = helps(typer.main.get_command(app))


def shown(words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(sys, "argv", ["distilbench", *words])
    with pytest.raises(SystemExit):
        main()
    output, errors = capsys.readouterr()
    return ESCAPES.sub("", output + errors)


def check_words(
    words: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    widths: Sequence[int] = (80, 60),
) -> str:
    """Whatever a narrow terminal shows are words of what a pipe gets, and a line is too long for one long word only."""
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    whole = shown(words, capsys, monkeypatch)
    monkeypatch.setenv("FORCE_COLOR", "1")  # for rich that is a terminal
    for columns in widths:
        monkeypatch.setenv("COLUMNS", str(columns))
        text = shown(words, capsys, monkeypatch)
        known = {word + end for word in NUMBER.sub("0", whole).split() for end in ("", ":", ";")}
        assert not [word for word in NUMBER.sub("0", text).split() if word not in known], columns
        too_long = [line for line in text.splitlines() if len(line) > columns]
        assert not [line for line in too_long if len(line.split()) > 1], columns
    return whole


@pytest.mark.parametrize("name", HELPS)
def test_help_breaks_between_words_only(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = check_words(HELPS[name], capsys, monkeypatch, widths=(80,))
    assert text.startswith("Usage: distilbench") and not re.search(r"[a-z]\.\.\.$", text, re.MULTILINE)


@pytest.mark.slow
def test_what_a_run_shows_breaks_between_words_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where a number comes from, and judges compared; the last line is that of the files."""
    run = distilbench.evaluate(
        ["pocket:student", "pocket:teacher"], "pocket", benchmarks=["mt_bench"], limit=6, name="small", runs=tmp_path,
        set={"compute.executor": "inline"},
    )  # fmt: skip
    question = run.judgments()["question"].iloc[0]
    place = ["--run", "small", "--runs", str(tmp_path)]
    row = next(iter(run.frame()["row"]))
    assert "mt_bench.score" in check_words(
        ["explain", "eval", row, "mt_bench.score", "--question", question, *place], capsys, monkeypatch
    )
    monkeypatch.delenv("FORCE_COLOR")
    compared = shown(["compare-judges", "--replicates", "100", *place], capsys, monkeypatch)
    files = compared.rstrip().splitlines()[-1]
    assert files.startswith(f"files: {tmp_path}/small/eval/judges/ (judges.md, ") and "judges.json" in files
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    table = shown(["compare-judges", "--replicates", "100", *place], capsys, monkeypatch)
    assert not [line for line in table.splitlines() if len(line) > 80 and len(line.split()) > 1]


@pytest.mark.parametrize("name", COMMANDS)
def test_nothing_breaks_inside_a_word(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("DISTILBENCH_ASSETS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if name == "judge status":
        with Ledger(tmp_path / "ledger.sqlite") as ledger:
            ledger.put(
                "a", "https://example.org/a/long/address/v1", "a-model", Reply("m", "stop", "b-model", 9, 1), 0.5
            )
    check_words([word.replace("{tmp}", str(tmp_path)) for word in COMMANDS[name]], capsys, monkeypatch)


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
