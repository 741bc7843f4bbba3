"""What pocket says about the paper's claims (``studies/pocket_verdicts.py``): the verdicts, and the page, by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from methods import METHODS
from reports.tables.summary import summarise
from reports.targets import find_target
from studies import pocket_verdicts
from studies.marked_page import put_between
from studies.pocket_verdicts import (
    ARENA,
    CLAIMS,
    CONFIRMED,
    LC,
    MARGIN,
    REFUTED,
    UNDECIDED,
    Claim,
    Difference,
    Finding,
    Runs,
    overall,
    verdict,
)
from tests.reports import world


@pytest.mark.parametrize(
    ("value", "low", "p", "no_loss", "found"),
    [
        (3.0, 1.0, 0.01, False, CONFIRMED),
        (-3.0, -5.0, 0.01, False, REFUTED),
        (3.0, -0.1, 0.06, False, UNDECIDED),
        (-3.0, -7.0, 0.06, False, UNDECIDED),
        (-1.0, -MARGIN + 0.1, 0.01, True, CONFIRMED),  # significantly lower, but by no more than the margin
        (-1.0, -MARGIN - 0.1, 0.20, True, UNDECIDED),
        (-4.0, -6.0, 0.01, True, REFUTED),
        (9.0, -3.0, 0.01, True, UNDECIDED),  # what is no loss is read off the interval
    ],
)
def test_verdicts(value: float, low: float, p: float, no_loss: bool, found: str) -> None:
    assert verdict(value, low, p, no_loss) == found


def test_one_word_where_all_agree() -> None:
    finding = Finding("a less b", 1.0, 0.5, 1.5, 2.0, 0.01, CONFIRMED)
    assert overall([finding, finding]) == CONFIRMED
    assert overall([finding, replace(finding, verdict=UNDECIDED), finding]) == "2 confirmed, 1 undecided"


def test_differences_are_the_tables_own() -> None:
    """PPD less DPO and less VPD, as Table 1 tests them; Holm over the two of this claim: the smaller p twice."""
    results = world.make()
    runs = Runs(SimpleNamespace(targets=("table1",), results=lambda target: results))  # type: ignore[arg-type]
    rows = ("dpo", "pad-vpd")
    claim = Claim("PPD is better", "Table 1", tuple(Difference("table1", "pad-ppd", row, ARENA) for row in rows))
    found = runs.measure(claim)
    cells = [summarise(results, find_target("table1")).cells[row, ARENA].focus for row in rows]
    for finding, cell in zip(found, cells, strict=True):
        assert cell.delta is not None and cell.low is not None and cell.high is not None
        assert (finding.value, finding.low, finding.high) == pytest.approx((cell.delta, cell.low, cell.high), abs=6e-4)
    p_values = sorted(cell.p for cell in cells if cell.p is not None)
    assert sorted(finding.p_holm or 0.0 for finding in found) == pytest.approx(
        sorted([min(1, 2 * p_values[0]), max(2 * p_values[0], p_values[1])]), abs=1e-5
    )
    assert found[0].label == "PAD-PPD less DPO, Arena-Hard WR"
    assert runs.measure(replace(claim, differences=(Difference("table2", "a", "b", LC),))) == []


def test_every_claim_names_rows_of_its_target() -> None:
    """Twelve claims; each row is the target's, or a method's."""
    assert len(CLAIMS) == 12
    for claim in CLAIMS:
        assert claim.differences, claim.title
        for each in claim.differences:
            for target, row in ((each.target, each.row), (each.other_target or each.target, each.other)):
                assert row in find_target(target).rows or row in METHODS, (claim.title, row)


def test_page_has_every_claim(tmp_path: Path) -> None:
    found = [{"label": "a less b", "value": 1.0, "low": 0.5, "high": 1.5, "detectable": 2.04, "verdict": CONFIRMED}]
    entries = [
        {"title": "A is better", "place": "Table 1", "found": {"searched": found}, "verdict": {"searched": CONFIRMED}},
        {"title": "B is better", "place": "Table 2", "found": {}, "verdict": {}},
    ]
    page = tmp_path / "claims.md"
    page.write_text(f"a\n{pocket_verdicts.BEGIN}\nold\n{pocket_verdicts.END}\nb\n", encoding="utf-8")
    put_between(page, pocket_verdicts.BEGIN, pocket_verdicts.END, pocket_verdicts.page_text(entries))
    text = page.read_text(encoding="utf-8")
    assert text.startswith("a\n") and text.endswith("\nb\n") and "old" not in text
    assert "| A is better | confirmed |" in text and "| B is better | not run |" in text
    assert "| searched | a less b | +1.00 [+0.50, +1.50] | 2.0 | confirmed |" in text
    page.write_text("no marks", encoding="utf-8")
    with pytest.raises(ValueError, match="verdicts: begin"):
        put_between(page, pocket_verdicts.BEGIN, pocket_verdicts.END, pocket_verdicts.page_text(entries))
