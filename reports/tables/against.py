"""Every row of a table against one of them: changes with their intervals, tests as one family, and what is detected."""

from __future__ import annotations

from harness.errors import UserError, unknown_choice
from harness.stats import FEW_QUESTIONS, seed_noise
from harness.text import clean, format_count
from reports.tables.score_table import coarse_digits, metric_title, p_text
from reports.tables.summary import ALPHA, NOT_COMPARED, CellSummary, Comparison, Summary, compare, smallest_effect
from reports.tables.table import Table, TableCell, TableColumn, TableRow


def against(summary: Summary, reference: str) -> dict[str, dict[str, Comparison]]:
    """By metric, every other row minus ``reference``, paired and tested as in the table, Holm's correction over the
    rows of a column. Rows that cannot be compared are left out. Raises UserError for an unknown row."""
    if reference not in (names := [row.id for row in summary.rows]):
        raise unknown_choice("row", reference, names)
    found = {}
    for metric in (column.metric.id for column in summary.columns):
        column = {cell.row.id: cell for cell in summary.column(metric)}
        noise = seed_noise([cell.draws for cell in column.values() if cell.draws is not None])
        found[metric] = compare(column, column, reference, noise)
    return found


def against_table(summary: Summary, reference: str) -> Table:
    """Raises UserError as ``against`` does, and where the table has no other row."""
    changes, title = against(summary, reference), clean(summary.title(reference))
    others = [row for row in summary.rows if row.id != reference]
    if not others:
        raise UserError(f"--against {reference}: the table has no other row.")
    metrics = [column.metric for column in summary.columns if not column.metric.measured]
    columns = [TableColumn(metric_title(metric), clean(metric.group)) for metric in metrics]
    rows = []
    for row in others:
        cells = [TableCell(clean(row.title), tone="faint" if row.baseline else "")]
        for metric in metrics:
            change = changes[metric.id].get(row.id, NOT_COMPARED)
            cells.append(_cell(change, summary.cells[row.id, metric.id], summary.cells[reference, metric.id]))
        rows.append(TableRow(tuple(cells), row.baseline))
    tests = {metric: [test for test in changes[metric.id].values() if test.p is not None] for metric in metrics}
    effects = {metric: smallest_effect(metric, of_metric) for metric, of_metric in tests.items()}
    texts = ["n/a" if effect is None else f"{effect:.{coarse_digits(metric)}f}" for metric, effect in effects.items()]
    rows.append(TableRow((TableCell("Detectable", tone="faint"), *map(TableCell, texts))))
    family = format_count(max(map(len, tests.values()), default=0), "row")
    reading = f"Change from {title} [95% interval], p after Holm over {family} of a column. *: p < {ALPHA:g}."
    border = "The sign follows p: at the border, the interval may say otherwise."
    untested = f"not tested: fewer than {FEW_QUESTIONS} questions, or no bootstrap replicates."
    power = "Detectable: smallest true change that is found with 80% power (5% two-sided, before Holm), in the row with"
    lines = (f"{reading} {border}", f"{untested} {power} the largest error.")
    target = summary.target
    caption = f"every row against {title}"
    return Table(f"{target.name}-against", caption, (TableColumn("Row", numeric=False), *columns), tuple(rows), lines,
                 label=target.label)  # fmt: skip


def _cell(change: Comparison, cell: CellSummary, base: CellSummary) -> TableCell:
    if change.delta is None:
        if cell.value is None or base.value is None:
            return TableCell("n/a")
        change = Comparison(cell.value - base.value)  # without replicates a change is still a change, only untested
    delta, digits = change.delta or 0.0, coarse_digits(cell.metric)
    lines = [] if change.low is None else [f"[{change.low:+.{digits}f}, {change.high:+.{digits}f}]"]
    lines.append("not tested" if change.p_holm is None else p_text(change.p_holm))
    tone = ("good" if delta > 0 else "bad") if change.significant else ""
    return TableCell(f"{delta:+.{digits}f}", sign="*" if change.significant else "", lines=tuple(lines), tone=tone)
