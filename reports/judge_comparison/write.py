"""A comparison in files: ``judges.md``, ``.csv``, ``.json``, and two figures; and read back from its JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from harness.errors import UserError
from reports.formats.data import to_csv
from reports.formats.markdown import markdown
from reports.judge_comparison.compare import ADAPTER, JudgeComparison
from reports.judge_comparison.figures import agreement_figure, cost_figure
from reports.judge_comparison.tables import comparison_tables, csv_records
from reports.tables.table import Table
from results.store.locks import write_atomic

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

FIGURES: dict[str, tuple[str, Callable[[JudgeComparison], Figure | None]]] = {
    "judge-agreement": ("Agreement of every two judges", agreement_figure),
    "judge-cost": ("Accuracy against cost", cost_figure),
}
"""File name to title and drawing."""


def write_comparison(comparison: JudgeComparison, folder: Path) -> list[Path]:
    """Write all files, and remove a figure of an earlier comparison that this one does not have; the paths written."""
    from reports.figures.style import drawn, styled

    contents = {
        "judges.md": markdown(*comparison_tables(comparison)).encode(),
        "judges.csv": to_csv(Table("judges", "", (), (), records=list(csv_records(comparison)))).encode(),
        "judges.json": ADAPTER.dump_json(comparison, indent=1) + b"\n",
    }
    with styled():
        for name, (_, draw) in FIGURES.items():
            figure = draw(comparison)
            for kind in ("png", "pdf"):
                if figure is None:
                    (folder / f"{name}.{kind}").unlink(missing_ok=True)
                else:
                    contents[f"{name}.{kind}"] = drawn(figure, kind)
    return [write_atomic(folder / name, content) for name, content in contents.items()]


def read_comparison(folder: Path) -> JudgeComparison | None:
    """The comparison that was written to a folder; ``None`` where there is none. Raises UserError if it is damaged."""
    file = folder / "judges.json"
    try:
        return ADAPTER.validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise UserError(f"{file} cannot be read: {error}. Run compare-judges again.") from error
