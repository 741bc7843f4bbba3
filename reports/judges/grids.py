"""A comparison as plain grids of text, decided once: terminal, Markdown, LaTeX and page print the same strings."""

from __future__ import annotations

from harness.stats import Interval
from reports.judges.agreement import BASELINE, LABELS, MODEL, TIE, Agreement
from reports.judges.bias import EFFECTS, NOTHING, Effect
from reports.judges.compare import BenchmarkPart, Comparison, MetricPart
from reports.judges.reliability import Reliability, Share
from reports.judges.render import Grid, span
from reports.judges.table5 import table5
from reports.wording import clean

NONE = "-"


def grids(comparison: Comparison) -> list[Grid]:
    """All tables of a comparison, the most asked for first."""
    made = [judges(comparison), *([table5(comparison)] if comparison.humans else [])]
    for metric in comparison.metrics:
        made.append(rankings(comparison, metric))
        if metric.agreements:
            made.append(rank_agreements(metric, title(comparison, metric.metric)))
    for part in comparison.benchmarks:
        name = title(comparison, part.benchmark)
        if part.agreements:
            made.append(agreements(part, name))
        made += [biases(part, name), steadiness(part, name)]
        made += [confusion(part, each, name) for each in part.agreements]
    return made


def title(comparison: Comparison, name: str) -> str:
    """What tables call a benchmark or metric: ``AlpacaEval 2 LC``; its id where nobody said."""
    return clean(comparison.names.get(name, name))


def judges(comparison: Comparison) -> Grid:
    """One line per judge: what it agrees with, what is wrong with it, what it costs."""
    measure = comparison.yardstick
    rows = []
    for name, facts in comparison.judges.items():
        standing = measure.standings.get(name) if measure else None
        parts = [part.reliability[name] for part in comparison.benchmarks if name in part.reliability]
        missing = sum(round((each.unparsed.value or 0) * each.unparsed.n) for each in parts)
        asked = sum(each.unparsed.n for each in parts)
        found = [e for part in comparison.benchmarks for e in part.effects.get(name, ()) if e.flagged]
        rows.append((
            clean(name), clean(facts.model) or NONE,
            NONE if standing is None else f"{standing.value:.1%} {span(standing.interval, 100)}",
            f"{missing / asked:.1%}" if asked else NONE,
            ", ".join(dict.fromkeys(effect.name for effect in found)) or "none found",
            NONE if facts.dollars is None else f"{facts.dollars:,.2f}",
            NONE if facts.seconds is None else f"{facts.seconds:,.1f}",
        ))  # fmt: skip
    basis = measure.basis if measure else "nothing to compare with"
    header = ("Judge", "Model", f"Agrees with {basis}", "Unparsed", "Biases", "$ / 1,000 calls", "s / 1,000 calls")
    notes = [f"Recommended: {comparison.choice.reason}", *conclusions(comparison)]
    if measure:
        notes.append(f"Agrees with {basis}: {measure.rule}")
    notes += comparison.notes
    if any(facts.seconds is not None for facts in comparison.judges.values()):
        notes.append("s / 1,000 calls: wall time as this run asked, concurrency included.")
    if any(facts.seconds is None for facts in comparison.judges.values()):
        notes.append(
            "s / 1,000 calls, -: not measured, because verdicts that are stored or made elsewhere take no time."
        )
    return Grid("judges", f"Judges compared: {clean(comparison.source)}", header, tuple(rows), tuple(map(clean, notes)))


def conclusions(comparison: Comparison) -> list[str]:
    """What becomes of the first judge's conclusions; metrics of which the same is to be said share a line."""
    metrics: dict[str, dict[str, None]] = {}
    for metric in comparison.metrics:
        for each in metric.conclusions:
            metrics.setdefault(each.line, {})[title(comparison, metric.metric)] = None
    return [f"{', '.join(names)}: {line}" for line, names in metrics.items()]


def rankings(comparison: Comparison, metric: MetricPart) -> Grid:
    """Rows by judges: value, interval, rank."""
    names = list(metric.rankings)
    ranks = {name: {row: place for place, row in enumerate(each.values, 1)} for name, each in metric.rankings.items()}
    order = list(dict.fromkeys(row for each in metric.rankings.values() for row in each.values))
    rows = []
    for row in order:
        cells = [clean(comparison.titles.get(row, row))]
        for name in names:
            value = metric.rankings[name].values.get(row)
            where = metric.intervals[name].get(row)
            cells.append(NONE if value is None else f"{ranks[name][row]}. {value:.2f} {span(where, 1)}")
        rows.append(tuple(cells))
    steady = [
        f"{name}: best {comparison.titles.get(each.top, each.top)}, in {each.top_stability:.0%} of the resamples"
        for name, each in metric.rankings.items()
    ]
    header, name = ("Rank. value [95%]", *map(clean, names)), title(comparison, metric.metric)
    return Grid(f"ranks-{metric.metric}", f"{name} by judge", header, tuple(rows), tuple(map(clean, steady)))


def rank_agreements(metric: MetricPart, name: str) -> Grid:
    """Rank correlations of every two judges."""
    rows = tuple(
        (clean(e.a), clean(e.b), str(len(e.rows)), f"{e.spearman:.3f} {span(e.spearman_interval, 1)}",
         f"{e.kendall:.3f} {span(e.kendall_interval, 1)}", f"{e.same_top:.0%}")
        for e in metric.agreements
    )  # fmt: skip
    header = ("Judge", "Judge", "Rows", "Spearman [95%]", "Kendall [95%]", "Same best row")
    return Grid(f"rank-agreement-{metric.metric}", f"{name}: agreement of rankings", header, rows)


def agreements(part: BenchmarkPart, name: str) -> Grid:
    """Every two judges, item by item."""
    rows = tuple(
        (clean(e.a), clean(e.b), f"{e.n:,}", f"{e.agreement:.1%} {span(e.agreement_interval, 100)}",
         number(e.kappa, e.kappa_interval), number(e.ac1, e.ac1_interval), number(e.spearman, None),
         f"{e.dropped:,}")
        for e in part.agreements
    )  # fmt: skip
    kappa = "Cohen's kappa [95%]" if part.paired else "Weighted kappa [95%]"
    alpha = part.alpha
    notes = ["Kappa sinks where one verdict is common, AC1 does not; raw agreement flatters there."]
    if alpha.value is not None:
        what = number(alpha.value, alpha.interval)
        notes.insert(0, f"Krippendorff's alpha of all judges ({alpha.metric}, {alpha.items:,} items): {what}")
    if not part.paired:
        notes = [*notes[:-1], "Agreement: the same rounded grade. Kappa has quadratic weights."]
    notes += [
        f"{clean(e.a)} and {clean(e.b)} gave the same verdicts on every item: they do not differ on {name}."
        for e in part.agreements
        if e.identical
    ]
    header = ("Judge", "Judge", "Items", "Agreement [95%]", kappa, "AC1 [95%]", "Spearman", "Unscored")
    return Grid(f"agreement-{part.benchmark}", f"{name}: agreement", header, rows, tuple(notes))


_MEANING = {
    "position": "position: for the answer shown first.",
    "length": "length: for a longer answer (tanh of the difference in SDs).",
    "lists": "lists: for an answer that has some.",
    "markdown": "markdown: for an answer that has some.",
    "own": "own: for its own family's answers (difference in differences).",
}
"""What the columns of ``biases`` are; only those that are there are explained."""


def biases(part: BenchmarkPart, name: str) -> Grid:
    """Effects by judge."""
    present = [name for name in EFFECTS if any(e.name == name for each in part.effects.values() for e in each)]
    rows = []
    for judge, found in part.effects.items():
        by_name = {effect.name: effect for effect in found}
        cells = [_effect(by_name[name]) if name in by_name else NONE for name in present]
        units = {f"{effect.unit}, given {effect.given}" for effect in found}
        rows.append((clean(judge), *cells, "; ".join(sorted(units)) or NONE))
    notes = [
        "*: differs from 0 (p < 0.05 after Holm's correction over a judge's effects). Each effect is given the others.",
        *(_MEANING[effect] for effect in present),
    ]
    if any(effect.given == NOTHING for found in part.effects.values() for effect in found):
        notes.append("An effect given nothing may be quality, not bias: longer answers may be better.")
    header = ("Judge", *present, "Scale")
    return Grid(f"bias-{part.benchmark}", f"{name}: biases [95%]", header, tuple(rows), tuple(notes))


def _effect(effect: Effect) -> str:
    return f"{effect.value:+.2f}{'*' if effect.flagged else ''} {span(effect.interval, 1)}"


def steadiness(part: BenchmarkPart, name: str) -> Grid:
    """Noise and order by judge."""
    rows = []
    for judge, each in part.reliability.items():
        shares = _shares(each) if part.paired else (each.unparsed, each.repeat_disagreement)
        rows.append((clean(judge), f"{each.calls:,}", *map(share, shares)))
    header: tuple[str, ...] = ("Judge", "Calls", "Unparsed [95%]", "Repeats differ [95%]")
    if part.paired:
        header = (*header, "Flips with order [95%]", "Flips beyond noise [95%]", "Longer wins", "List wins")
    notes = (
        ("Flips beyond noise: flips when the order is changed, less what plain repeats differ.",) if part.paired else ()
    )
    return Grid(f"steadiness-{part.benchmark}", f"{name}: noise and order", header, tuple(rows), notes)


def _shares(each: Reliability) -> tuple[Share, ...]:
    return (each.unparsed, each.repeat_disagreement, each.flip, each.flip_excess, each.longer, each.lists)


def confusion(part: BenchmarkPart, each: Agreement, name: str) -> Grid:
    """Rows the first judge, columns the second: from the model's side to the baseline's, grades rising."""
    order = (MODEL, TIE, BASELINE) if each.levels == LABELS else range(len(each.levels))
    rows = tuple(
        (f"{clean(each.a)}: {each.levels[row]}", *(str(each.confusion[row][column]) for column in order))
        for row in order
    )
    header = ("", *(f"{clean(each.b)}: {each.levels[column]}" for column in order))
    heading = f"{name}: {clean(each.a)} against {clean(each.b)}"
    return Grid(f"confusion-{part.benchmark}-{each.a}-{each.b}", heading, header, rows)


def number(value: float | None, interval: Interval | None) -> str:
    """A coefficient with its interval."""
    return NONE if value is None else f"{value:.3f} {span(interval, 1)}".rstrip()


def share(each: Share) -> str:
    """A share with its interval."""
    return NONE if each.value is None else f"{each.value:.1%} {span(each.interval, 100)}"
