"""Every row against one that is chosen: the numbers of ``difference``, Holm's correction by hand, nothing hidden."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from distilbench.cli.reproduce import tables_of
from distilbench.workflows.finished_run import FinishedRun
from harness.errors import UserError
from harness.stats import detectable
from reports.formats.terminal import TerminalTable
from reports.tables.against import against, against_table
from reports.tables.summary import summarise
from reports.tables.table import Table
from reports.targets import TARGETS
from results.store.store import ArtifactStore
from tests.reports.world import make, with_missing

ROWS = ("student", "kd", "seqkd", "dpo", "pad-ppd")


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_changes_are_those_of_difference_and_holm_is_over_the_rows(seeds: tuple[int, ...]) -> None:
    """Four p-values in rising order times 4, 3, 2, 1, never falling and at most 1."""
    summary = summarise(make(ROWS, seeds), TARGETS["table1"])
    for metric, changes in against(summary, "dpo").items():
        assert list(changes) == ["student", "kd", "seqkd", "pad-ppd"]
        raw = {row: summary.difference(row, "dpo", metric) for row in changes}
        assert {row: (c.delta, c.low, c.high, c.p) for row, c in changes.items()} == {
            row: (d.change, d.low, d.high, d.p) for row, d in raw.items()
        }
        largest = 0.0
        for factor, row in zip((4, 3, 2, 1), sorted(raw, key=lambda row: raw[row].p), strict=True):
            largest = max(largest, min(1.0, factor * raw[row].p))
            assert changes[row].p_holm == pytest.approx(largest)


def test_the_table_says_change_interval_p_and_what_is_detected() -> None:
    results = with_missing(make(ROWS), "seqkd", "no shared vocabulary")
    summary = summarise(results, TARGETS["table1"])
    table = against_table(summary, "dpo")
    change = against(summary, "dpo")["gsm8k.acc"]["student"]
    rows = {row.cells[0].text: row.cells[5] for row in table.rows}
    assert list(rows) == ["Student", "Standard KD", "SeqKD", "PAD-PPD", "Detectable"]
    assert rows["Student"].text == f"{change.delta:+.1f}" and rows["Student"].sign == "*"
    assert rows["Student"].lines[0] == f"[{change.low:+.1f}, {change.high:+.1f}]" and "p" in rows["Student"].lines[1]
    assert rows["SeqKD"].text == "n/a"
    errors = against(summary, "dpo")["gsm8k.acc"].values()
    assert rows["Detectable"].text == f"{max(detectable(c.error, c.freedom) for c in errors):.1f}"
    console = Console(width=80, file=(file := io.StringIO()))
    console.print(TerminalTable(table))
    assert "Change from DPO [95% interval], p after Holm over 3 rows" in " ".join(file.getvalue().split())


def test_of_several_targets_those_without_the_row_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = summarise(make(ROWS), TARGETS["table1"])

    def against_one(run: FinishedRun, row: str, target: str, min_coverage: float | None) -> Table:
        if target == "table5":
            raise UserError("no scores of rows")
        return against_table(summary, row)

    monkeypatch.setattr(FinishedRun, "against", against_one)
    run = FinishedRun(tmp_path, ArtifactStore(tmp_path / "store"), {})
    assert [name for name, _ in tables_of(run, ("table5", "table1"), None, "dpo")] == ["table1"]
    assert capsys.readouterr().err == "note: table5: no scores of rows\n"
    for names, words in ((("table5",), "no scores of rows"), (("table5", "table1"), "no scores of rows")):
        with pytest.raises(UserError, match=words):
            list(tables_of(run, names, None, "dpo" if len(names) == 1 else "dpoo"))


def test_few_questions_are_not_tested_and_an_unknown_row_is_named() -> None:
    few = summarise(make(("student", "kd"), (0,), questions=8), TARGETS["table1"])
    (row, _) = against_table(few, "kd").rows
    assert all(cell.lines[-1] == "not tested" and not cell.sign for cell in row.cells[1:])
    with pytest.raises(UserError, match=r"unknown row 'dpoo'.*dpo"):
        against_table(summarise(make(ROWS, (0,)), TARGETS["table1"]), "dpoo")
