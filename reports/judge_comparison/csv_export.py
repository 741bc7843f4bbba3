"""A comparison as tidy CSV: one number a line with its interval, full precision."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import numpy as np

from harness.stats import Interval
from reports.judge_comparison.compare import BenchmarkPart, Comparison, MetricPart
from reports.judge_comparison.reliability import Share
from reports.text import clean

CSV_COLUMNS = ("source", "benchmark", "judge", "other", "quantity", "value", "low", "high", "n", "note")
"""``benchmark`` is a metric where rows are ranked."""
Line = dict[str, object]


def tidy_csv(comparison: Comparison) -> str:
    """One line per number; what is not known stays empty."""
    out = io.StringIO()
    writer = csv.DictWriter(out, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    lines = [*_judges(comparison)]
    for part in comparison.benchmarks:
        lines += [*_pairs(part), *_alone(part)]
    for metric in comparison.metrics:
        lines += _ranks(metric)
    for line in lines:
        texts = {name: inert(clean(str(line.get(name, "")))) for name in ("judge", "other", "quantity", "note")}
        numbers = {name: number(line.get(name)) for name in ("value", "low", "high", "n")}
        fixed = {"source": inert(clean(comparison.source)), "benchmark": inert(clean(str(line["benchmark"])))}
        writer.writerow({**fixed, **texts, **numbers})
    return out.getvalue()


def number(value: object) -> str:
    """Nine digits after the point; empty for what is not there."""
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return ""
    return repr(round(float(value), 9)) if isinstance(value, float) else str(value)


def inert(text: str) -> str:
    """A spreadsheet runs a cell that starts like a formula; an apostrophe in front keeps it text."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text


def _line(benchmark: str, judge: str, quantity: str, value: float | None, interval: Interval | None) -> Line:
    low, high = interval or (None, None)
    return {"benchmark": benchmark, "judge": judge, "quantity": quantity, "value": value, "low": low, "high": high}


def _judges(comparison: Comparison) -> Iterator[Line]:
    if comparison.yardstick:
        for name, each in comparison.yardstick.standings.items():
            what = f"agrees with {comparison.yardstick.basis}"
            yield _line("", name, what, each.value, each.interval) | {"n": each.items}
    for name, human in comparison.humans.items():
        yield _line("", name, "human agreement", human.value, human.interval) | {"n": human.items}
        if human.soft is not None:
            yield _line("", name, "human agreement of probabilities", human.soft, None) | {"n": human.items}
    for name, facts in comparison.judges.items():
        yield _line("", name, "dollars per 1000 calls", facts.dollars, None)
        yield _line("", name, "seconds per 1000 calls", facts.seconds, None)


def _pairs(part: BenchmarkPart) -> Iterator[Line]:
    for pair in part.agreements:
        both = {"other": pair.b, "n": pair.n}
        yield _line(part.benchmark, pair.a, "agreement", pair.agreement, pair.agreement_interval) | both
        yield _line(part.benchmark, pair.a, "kappa", pair.kappa, pair.kappa_interval) | both
        yield _line(part.benchmark, pair.a, "ac1", pair.ac1, pair.ac1_interval) | both
        yield _line(part.benchmark, pair.a, "spearman", pair.spearman, None) | both
    alpha = {"n": part.alpha.items, "note": part.alpha.metric}
    yield _line(part.benchmark, "all", "krippendorff alpha", part.alpha.value, part.alpha.interval) | alpha


def _alone(part: BenchmarkPart) -> Iterator[Line]:
    for judge, found in part.effects.items():
        for effect in found:
            note = {"note": f"{effect.unit}, given {effect.given}; Holm p {effect.p_holm:.4g}"}
            yield _line(part.benchmark, judge, f"bias: {effect.name}", effect.value, effect.interval) | note
    for judge, steady in part.reliability.items():
        for quantity, each in vars(steady).items():
            if isinstance(each, Share):
                yield _line(part.benchmark, judge, quantity, each.value, each.interval) | {"n": each.n}


def _ranks(metric: MetricPart) -> Iterator[Line]:
    for judge, ranked in metric.rankings.items():
        for row, value in ranked.values.items():
            yield _line(metric.metric, judge, f"value of {row}", value, metric.intervals[judge][row])
        if ranked.top:
            yield _line(metric.metric, judge, f"{ranked.top} stays best", ranked.top_stability, None)
    for each in metric.agreements:
        both = {"other": each.b, "n": len(each.rows)}
        yield _line(metric.metric, each.a, "rank spearman", each.spearman, each.spearman_interval) | both
        yield _line(metric.metric, each.a, "rank kendall", each.kendall, each.kendall_interval) | both
        yield _line(metric.metric, each.a, "same best row", each.same_top, None) | both
    for said in metric.conclusions:
        note = {"other": said.against, "note": said.line, "n": len(said.kept) + len(said.lost) + len(said.reversed)}
        yield _line(metric.metric, said.judge, "differences kept", float(len(said.kept)), None) | note
