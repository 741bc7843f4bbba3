"""A comparison as plain grids of text, decided once: terminal, Markdown, LaTeX and page print the same strings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.stats import Interval
from reports.judge_comparison.agreement import BASELINE, LABELS, MODEL, TIE, Agreement
from reports.judge_comparison.answer_quality import NOTHING, ONE
from reports.judge_comparison.bias import EFFECTS, Effect
from reports.judge_comparison.compare import BenchmarkPart, Comparison, MetricPart
from reports.judge_comparison.ranking import Ranking
from reports.judge_comparison.reliability import Reliability, Share
from reports.judge_comparison.render import Grid, span
from reports.judge_comparison.table5 import table5
from reports.text import clean

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
    order = list(dict.fromkeys(row for each in metric.rankings.values() for row in each.values))
    rows = []
    for row in order:
        cells = [clean(comparison.titles.get(row, row))]
        for name in names:
            value = metric.rankings[name].values.get(row)
            where = metric.intervals[name].get(row)
            cells.append(
                NONE if value is None else f"{metric.rankings[name].ranks[row]}. {value:.2f} {span(where, 1)}".rstrip()
            )
        rows.append(tuple(cells))
    steady = [f"{name}: {_best(each, comparison.titles)}" for name, each in metric.rankings.items()]
    header, name = ("Rank. value [95%]", *map(clean, names)), title(comparison, metric.metric)
    return Grid(f"ranks-{metric.metric}", f"{name} by judge", header, tuple(rows), tuple(map(clean, steady)))


def _best(each: Ranking, titles: Mapping[str, str]) -> str:
    """Which row is best under one judge, and how surely."""
    tied = [titles.get(row, row) for row, rank in each.ranks.items() if rank == 1]
    if len(each.values) < 2:
        return "one row, no ranking"
    if not each.top:
        return f"no best row, {'all' if len(tied) == len(each.values) else ' and '.join(tied)} tie"
    share = "" if each.top_stability is None else f", in {each.top_stability:.0%} of the resamples"
    return f"best {tied[0]}{share}"


def rank_agreements(metric: MetricPart, name: str) -> Grid:
    """Rank correlations of every two judges."""
    rows = tuple(
        (clean(e.a), clean(e.b), str(len(e.rows)), number(e.spearman, e.spearman_interval),
         number(e.kendall, e.kendall_interval), NONE if e.same_top is None else f"{e.same_top:.0%}")
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
    "length": "length: for a longer answer ({per} of the difference).",
    "lists": "lists: for an answer that has some.",
    "markdown": "markdown: for an answer that has some.",
    "own": "own: for its own family's answers (difference in differences).",
}
"""What the columns of ``biases`` are; only those that are there are explained."""


def biases(part: BenchmarkPart, name: str) -> Grid:
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
        *(_MEANING[effect].format(per=per) for effect in present),
        f"{NONE}: not measured: the answers differ too little in it, or the files do not tell it.",
    ]
    given = {effect.given for effect in effects if not effect.sound}
    if NOTHING in given:
        notes.append("An effect given nothing may be quality, not bias (longer answers may be better): never marked.")
    if ONE in given:
        notes.append("With one other judge this one's bias and that one's taste cannot be told apart: never marked.")
    header = ("Judge", *present, "Scale")
    return Grid(f"bias-{part.benchmark}", f"{name}: biases [95%]", header, tuple(rows), tuple(notes))


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
