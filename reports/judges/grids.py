"""A comparison as plain grids of text, decided once: terminal, Markdown, LaTeX and page print the same strings."""

from __future__ import annotations

from collections.abc import Sequence

from harness.stats import Interval
from reports.judges.agreement import Agreement
from reports.judges.bias import EFFECTS, Effect
from reports.judges.compare import BenchmarkPart, Comparison, MetricPart
from reports.judges.quality import NOTHING, ONE
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
            made.append(rank_agreements(metric))
    for part in comparison.benchmarks:
        if part.agreements:
            made.append(agreements(part))
        made += [biases(part), steadiness(part)]
        made += [confusion(part, each) for each in part.agreements]
    return made


def judges(comparison: Comparison) -> Grid:
    """One line per judge: what it agrees with, what is wrong with it, what it costs."""
    measure = comparison.yardstick
    rows = []
    for name, facts in comparison.judges.items():
        standing = measure.standings.get(name) if measure else None
        parts = [part.reliability[name] for part in comparison.benchmarks if name in part.reliability]
        missing = sum(round((each.unparsed.value or 0) * each.unparsed.n) for each in parts)
        asked = sum(each.unparsed.n for each in parts)
        found = [effect for part in comparison.benchmarks for effect in part.effects.get(name, ())]
        rows.append((
            clean(name), clean(facts.model) or NONE,
            NONE if standing is None else f"{standing.value:.1%} {span(standing.interval, 100)}",
            f"{missing / asked:.1%}" if asked else NONE,
            bias_words(found),
            NONE if facts.dollars is None else f"{facts.dollars:,.2f}",
            NONE if facts.seconds is None else f"{facts.seconds:,.1f}",
        ))  # fmt: skip
    basis = measure.basis if measure else "nothing to compare with"
    header = ("Judge", "Model", f"Agrees with {basis}", "Unparsed", "Biases", "$ / 1,000 calls", "s / 1,000 calls")
    conclusions = [f"{metric.metric}: {each.line}" for metric in comparison.metrics for each in metric.conclusions]
    notes = [f"Recommended: {comparison.choice.reason}", *conclusions, *comparison.notes]
    if any(facts.seconds is not None for facts in comparison.judges.values()):
        notes.append("s / 1,000 calls: wall time as this run asked, concurrency included.")
    return Grid("judges", f"Judges compared: {clean(comparison.source)}", header, tuple(rows), tuple(map(clean, notes)))


def bias_words(found: Sequence[Effect]) -> str:
    """The biases of a judge, or which were looked for in vain; not the same as that none could be looked for."""
    flagged = list(dict.fromkeys(named(effect) for effect in found if effect.flagged))
    sound = list(dict.fromkeys(named(effect) for effect in found if effect.sound))
    return ", ".join(flagged) or (f"none found of {', '.join(sound)}" if sound else "not measured")


def named(effect: Effect) -> str:
    """Its name, with those that it cannot be told from."""
    return " or ".join((effect.name, *effect.also))


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
    notes = [*steady, *(each.line for each in metric.conclusions)]
    header = ("Rank. value [95%]", *map(clean, names))
    return Grid(f"ranks-{metric.metric}", f"{metric.metric} by judge", header, tuple(rows), tuple(map(clean, notes)))


def rank_agreements(metric: MetricPart) -> Grid:
    """Rank correlations of every two judges."""
    rows = tuple(
        (clean(e.a), clean(e.b), str(len(e.rows)), f"{e.spearman:.3f} {span(e.spearman_interval, 1)}",
         f"{e.kendall:.3f} {span(e.kendall_interval, 1)}", f"{e.same_top:.0%}")
        for e in metric.agreements
    )  # fmt: skip
    header = ("Judge", "Judge", "Rows", "Spearman [95%]", "Kendall [95%]", "Same best row")
    return Grid(f"rank-agreement-{metric.metric}", f"{metric.metric}: agreement of rankings", header, rows)


def agreements(part: BenchmarkPart) -> Grid:
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
    header = ("Judge", "Judge", "Items", "Agreement [95%]", kappa, "AC1 [95%]", "Spearman", "Unscored")
    return Grid(f"agreement-{part.benchmark}", f"{part.benchmark}: agreement", header, rows, tuple(notes))


def biases(part: BenchmarkPart) -> Grid:
    """Effects by judge."""
    effects = [effect for found in part.effects.values() for effect in found]
    present = [name for name in EFFECTS if any(name in (each.name, *each.also) for each in effects)]
    rows = []
    for judge, found in part.effects.items():
        by_name = {effect.name: effect for effect in found}
        twins = {name: f"as {effect.name}" for effect in found for name in effect.also}
        cells = [_effect(by_name[name]) if name in by_name else twins.get(name, NONE) for name in present]
        rows.append((clean(judge), *cells, _scales(found)))
    per = " or ".join(dict.fromkeys(effect.per for effect in effects if effect.per)) or "tanh"
    notes = [
        "*: differs from 0 (p < 0.05 after Holm's correction over a judge's effects). Each effect is given the others.",
        f"position: for the answer shown first; length: for a longer one ({per} of the difference).",
        "lists, markdown: for an answer that has some; own: for its own family's answers (difference in differences).",
        f"{NONE}: not measured: the answers differ too little in it, or the files do not tell it.",
    ]  # fmt: skip
    given = {effect.given for effect in effects if not effect.sound}
    if NOTHING in given:
        notes.append("An effect given nothing may be quality, not bias (longer answers may be better): never marked.")
    if ONE in given:
        notes.append("With one other judge this one's bias and that one's taste cannot be told apart: never marked.")
    header = ("Judge", *present, "Scale")
    return Grid(f"bias-{part.benchmark}", f"{part.benchmark}: biases [95%]", header, tuple(rows), tuple(notes))


def _scales(found: Sequence[Effect]) -> str:
    """In what units a judge's effects are, and given what; which effects, where units differ. Position needs none."""
    units: dict[str, list[Effect]] = {}
    for effect in found:
        units.setdefault(effect.unit, []).append(effect)
    said = []
    for unit, those in units.items():
        given = list(dict.fromkeys(effect.given for effect in those if effect.name != "position"))
        what = ", given ".join((unit, *given))
        said.append(what if len(units) == 1 else f"{', '.join(effect.name for effect in those)}: {what}")
    return "; ".join(said) or NONE


def _effect(effect: Effect) -> str:
    return f"{effect.value:+.2f}{'*' if effect.flagged else ''} {span(effect.interval, 1)}"


def steadiness(part: BenchmarkPart) -> Grid:
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
    return Grid(f"steadiness-{part.benchmark}", f"{part.benchmark}: noise and order", header, tuple(rows), notes)


def _shares(each: Reliability) -> tuple[Share, ...]:
    return (each.unparsed, each.repeat_disagreement, each.flip, each.flip_excess, each.longer, each.lists)


def confusion(part: BenchmarkPart, each: Agreement) -> Grid:
    """Rows the first judge, columns the second."""
    rows = tuple(
        (f"{clean(each.a)}: {name}", *map(str, line)) for name, line in zip(each.levels, each.confusion, strict=True)
    )
    header = ("", *(f"{clean(each.b)}: {name}" for name in each.levels))
    title = f"{part.benchmark}: {clean(each.a)} against {clean(each.b)}"
    return Grid(f"confusion-{part.benchmark}-{each.a}-{each.b}", title, header, rows)


def number(value: float | None, interval: Interval | None) -> str:
    """A coefficient with its interval."""
    return NONE if value is None else f"{value:.3f} {span(interval, 1)}".rstrip()


def share(each: Share) -> str:
    """A share with its interval."""
    return NONE if each.value is None else f"{each.value:.1%} {span(each.interval, 100)}"
