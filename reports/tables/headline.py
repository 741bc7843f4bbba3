"""What a table says, in two or three sentences: the row that the target is about against the best other one, and which
rows are significantly above (or below) the reference and that row. The page and ``distilbench view`` print them first,
the JSON has them as ``summary``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from harness.contracts.benchmark import Metric
from harness.text import clean, format_count
from reports.tables.summary import CellSummary, ColumnSummary, Comparison, Summary

Test = Callable[[CellSummary], Comparison]


def headline(summary: Summary, finished: bool = True) -> tuple[str, ...]:
    """Empty where nothing has a value."""
    columns = [
        column
        for column in summary.columns
        if not column.metric.measured and any(cell.value is not None for cell in summary.column(column.metric.id))
    ]
    if not columns:
        return ()
    target = summary.target
    sentences = [] if finished else ["This run is not finished: values may change."]
    sentences.append(_lead(summary, columns[0]))
    if target.reference in {row.id for row in summary.rows}:
        sentences += _against(summary, columns, target.reference, lambda cell: cell.change)
    if target.focus and any(column.focus_comparisons for column in columns):
        # seen from the other rows: above the focus row is where the focus row is below them
        sentences += _against(summary, columns, target.focus, lambda cell: reverse(cell.focus))
    return tuple(sentences)


def reverse(test: Comparison) -> Comparison:
    delta, low, high = (None if value is None else -value for value in (test.delta, test.high, test.low))
    return Comparison(delta, low, high, test.p, test.p_holm, test.error, test.freedom)


def _lead(summary: Summary, column: ColumnSummary) -> str:
    """The focus row against the best other trained row; without a focus row the best row against the next; one trained
    row against the reference."""
    cells = [cell for cell in summary.column(column.metric.id) if cell.value is not None]
    trained = [cell for cell in cells if not cell.row.baseline]
    where = name(summary, column.metric)
    reference = next((cell for cell in cells if cell.row.id == summary.target.reference), None)
    if len(trained) == 1 and reference is not None:
        text = difference((trained[0].value or 0.0) - (reference.value or 0.0), column.metric)
        titles = clean(trained[0].row.title), clean(reference.row.title)
        return f"{titles[0]} is {text} {titles[1]} on {where}: {_significance(trained[0].change)}."
    compared, noun = (trained, "trained row") if len(trained) > 1 else (cells, "row")
    first = next((cell for cell in trained if cell.row.id == summary.target.focus), None)
    ranked = sorted(compared, key=lambda cell: -(cell.value or 0.0))  # stable: equal ones stay in the table's order
    is_focus = first is not None and len(trained) > 1
    first = first if first is not None and is_focus else ranked[0]
    other = next((cell for cell in ranked if cell is not first), None)
    if other is None:
        return f"{clean(first.row.title)} has {first.value:.{column.metric.digits}f} on {where}{_interval(first)}."
    significance = _significance(other.focus if is_focus else other.to_best)
    role = f"the best other {noun}" if first is not ranked[0] else f"the next best {noun}"
    text = difference((first.value or 0.0) - (other.value or 0.0), column.metric)
    return f"{clean(first.row.title)} is {text} {clean(other.row.title)}, {role}, on {where}: {significance}."


def _significance(test: Comparison) -> str:
    return "not tested" if test.p is None else "significant" if test.significant else "not significant"


def difference(delta: float, metric: Metric) -> str:
    """``4.1 points above``, by the printed digits; the change of a percentage has one digit less than its value."""
    digits = max(metric.digits - 1, 0) if metric.unit == "%" else metric.digits
    size = f"{abs(delta):.{digits}f}"
    if float(size) == 0:
        return "level with"
    return f"{size} {'point' if float(size) == 1 else 'points'} {'above' if delta > 0 else 'below'}"


def _interval(cell: CellSummary) -> str:
    if cell.low is None or cell.high is None:
        return ""
    digits = cell.metric.digits
    return f" [{cell.low:.{digits}f}, {cell.high:.{digits}f}]"


def _against(summary: Summary, columns: Sequence[ColumnSummary], row: str, test: Test) -> list[str]:
    """Which rows are significantly above ``row``, and which below, by column."""
    title = clean(summary.title(row))
    tests = {
        column.metric: [
            (cell, test(cell)) for cell in summary.column(column.metric.id) if test(cell).p is not None
        ]
        for column in columns
    }  # fmt: skip
    tested = {metric: found for metric, found in tests.items() if found}
    if not tested:
        return [f"No difference from {title} was tested."]
    above, below = (
        {
            metric: [cell for cell, one in found if one.significant and ((one.delta or 0) > 0) is is_above]
            for metric, found in tested.items()
        }
        for is_above in (True, False)
    )
    sentences = []
    if not any(above.values()):
        sentences.append(f"No row is significantly above {title}{_scope(summary, columns, tested)}.")
    else:
        counts = {metric: _rows(cells, len(tested[metric])) for metric, cells in above.items()}
        sentences.append(f"Significantly above {title}: {_by_count(summary, counts)}.")
    if any(below.values()):
        counts = {metric: _rows(cells, len(tested[metric])) for metric, cells in below.items() if cells}
        sentences.append(f"Significantly below {title}: {_by_count(summary, counts)}.")
    return sentences


def _rows(cells: Sequence[CellSummary], total: int) -> str:
    if not cells:
        return "no row"
    if len(cells) == total and total > 1:
        return "both rows" if total == 2 else f"all {format_count(total, 'row')}"
    return clean(cells[0].row.title) if len(cells) == 1 else f"{len(cells)} of {format_count(total, 'row')}"


def _by_count(summary: Summary, counts: Mapping[Metric, str]) -> str:
    """``all 8 rows on AlpacaEval 2 LC and WR; no row on GSM8K``."""
    groups: dict[str, list[Metric]] = {}
    for metric, text in counts.items():
        groups.setdefault(text, []).append(metric)
    return "; ".join(f"{text} on {names(summary, metrics)}" for text, metrics in groups.items())


def _scope(summary: Summary, columns: Sequence[ColumnSummary], tested: Mapping[Metric, object]) -> str:
    if len(tested) == len(columns):
        return " in any column" if len(columns) > 1 else f" on {name(summary, columns[0].metric)}"
    return f" on {names(summary, list(tested))}; the other columns were not tested"


def names(summary: Summary, metrics: Sequence[Metric]) -> str:
    texts = [name(summary, metric) for metric in metrics]
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def name(summary: Summary, metric: Metric) -> str:
    """``AlpacaEval 2 LC``; of a benchmark with one column its name alone."""
    group, title = clean(metric.group), clean(metric.title).removesuffix(" (%)")
    alone = sum(column.metric.group == metric.group for column in summary.columns) == 1
    return (group if alone else f"{group} {title}".strip()) or title
