"""A comparison of judges as tables of text, and Table 5 of the paper; each format prints the same strings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.stats import Interval
from harness.text import counted
from reports.judge_comparison.bias import ALPHA, EFFECTS, BiasEffect
from reports.judge_comparison.compare import ADAPTER, BenchmarkComparison, JudgeComparison, MetricComparison
from reports.judge_comparison.panel import Share
from reports.judge_comparison.ranking import ConclusionCheck, Difference
from reports.judge_comparison.reference import HUMANS, RULES
from reports.tables.table import Table, text_table
from reports.text import clean
from results.published import published_table

NONE = "-"
_NAMES = ("benchmark", "metric", "a", "b", "judge", "name", "row")
_MEANING = {
    "position": "position: in favour of the answer shown first.",
    "length": "length: in favour of a longer answer, per {per} of the difference.",
    "own": "own: in favour of answers of its own family, relative to other answers.",
}


def comparison_tables(comparison: JudgeComparison) -> list[Table]:
    """All tables, the most asked for first."""
    tables = [judges_table(comparison)]
    if comparison.reference and HUMANS in comparison.reference.accuracies:
        tables.append(table5(comparison))
    tables += [rank_table(comparison, metric) for metric in comparison.metrics]
    if any(part.agreements for part in comparison.benchmarks):
        tables.append(pairs_table(comparison))
    return tables + [benchmark_table(comparison, part) for part in comparison.benchmarks]


def judges_table(comparison: JudgeComparison) -> Table:
    """One line per judge: how accurate, how biased, how expensive."""
    basis = comparison.reference.basis if comparison.reference else "nothing to compare with"
    accuracies = comparison.reference.accuracies if comparison.reference else {}
    rows = []
    for name, profile in comparison.judges.items():
        effects = [effect for part in comparison.benchmarks for effect in part.biases.get(name, ())]
        unparsed = [part.consistency[name].unparsed for part in comparison.benchmarks if name in part.consistency]
        calls = sum(share.n for share in unparsed)
        missing = sum((share.value or 0.0) * share.n for share in unparsed)
        rows.append((
            clean(name),
            clean(profile.model) or NONE,
            _share(accuracies[name]) if name in accuracies else NONE,
            f"{missing / calls:.1%}" if calls else NONE,
            bias_names(effects),
            NONE if profile.dollars is None else f"{profile.dollars:,.2f}",
            NONE if profile.tokens is None else f"{profile.tokens:,.0f}",
        ))  # fmt: skip
    lines = [f"Recommended: {comparison.reference.recommendation.reason}"] if comparison.reference else []
    lines += conclusion_lines(comparison)
    lines += [f"Agrees with {basis}: {RULES[basis]}"] if comparison.reference else []
    header = ("Judge", "Model", f"Agrees with {basis}", "Unparsed", "Biases", "$ / 1,000 calls", "tokens / call")
    lines += comparison.notes
    return text_table("judges", f"Judges compared: {clean(comparison.source)}", header, rows, [*map(clean, lines)])


def conclusion_lines(comparison: JudgeComparison) -> list[str]:
    """Whether the first judge's conclusions hold; metrics with the same sentence share a line."""
    metrics: dict[str, list[str]] = {}
    for metric in comparison.metrics:
        for check in metric.checks:
            text = conclusion_text(check, comparison.titles)
            metrics.setdefault(text, []).append(_title(comparison, metric.metric))
    return [f"{', '.join(names)}: {text}" for text, names in metrics.items()]


def conclusion_text(check: ConclusionCheck, titles: Mapping[str, str]) -> str:
    """``under noisy the conclusion holds in part: 3 of 4 significant differences confirmed; ...``."""

    def listed(differences: Sequence[Difference]) -> str:
        return "; ".join(
            f"{titles.get(each.row, each.row)} {'>' if each.sign > 0 else '<'} {titles.get(each.other, each.other)}"
            for each in differences
        )

    if not check.tested:
        return f"{check.first} and {check.judge} scored no two rows well enough to test a difference."
    if check.verdict == "nothing to check":
        return f"{check.first} shows no significant difference, so there is no conclusion to check."
    total = len(check.confirmed) + len(check.lost) + len(check.reversed)
    parts = [f"{len(check.confirmed)} of {counted(total, 'significant difference')} confirmed"]
    parts += [f"not significant: {listed(check.lost)}"] if check.lost else []
    parts += [f"reversed: {listed(check.reversed)}"] if check.reversed else []
    if check.best:
        first, other = (titles.get(row, row) for row in check.best)
        parts.append(f"best row the same ({first})" if first == other else f"best row {other}, not {first}")
    return f"under {check.judge} the conclusion {check.verdict}: {', '.join(parts)}."


def bias_names(effects: Sequence[BiasEffect]) -> str:
    """The biases that are flagged, else which effects were measured; "not measured" where none could be."""
    flagged = dict.fromkeys(effect.name for effect in effects if effect.flagged)
    identified = dict.fromkeys(effect.name for effect in effects if effect.identified)
    return ", ".join(flagged) or (f"none of {', '.join(identified)}" if identified else "not measured")


def rank_table(comparison: JudgeComparison, metric: MetricComparison) -> Table:
    """Rows by judges: rank, value, interval; below it the rank correlation of every two judges."""
    cells = {name: {each.row: each for each in ranked} for name, ranked in metric.rankings.items()}
    order = dict.fromkeys(row for ranked in cells.values() for row in ranked)
    rows = []
    for row in order:
        found = [ranked.get(row) for ranked in cells.values()]
        texts = [NONE if one is None else f"{one.rank}. {one.value:.2f} {_span(one.interval, 1)}" for one in found]
        rows.append((clean(comparison.titles.get(row, row)), *(text.rstrip() for text in texts)))
    lines = [
        f"Spearman's rank correlation of {clean(each.a)} and {clean(each.b)} over {counted(each.spearman.n, 'row')}: "
        + _number(each.spearman)
        for each in metric.correlations
    ]
    header = ("Rank. value [95%]", *map(clean, cells))
    return text_table(f"ranks-{metric.metric}", f"{_title(comparison, metric.metric)} by judge", header, rows, lines)


def pairs_table(comparison: JudgeComparison) -> Table:
    """Every two judges, item by item."""
    rows, lines = [], ["When one verdict dominates, kappa is low and raw agreement inflated."]
    for part in comparison.benchmarks:
        name = _title(comparison, part.benchmark)
        for each in part.agreements:
            numbers = f"{each.agreement.n:,}", _share(each.agreement), _number(each.kappa)
            rows.append((name, clean(each.a), clean(each.b), *numbers))
        if not part.paired and part.agreements:
            lines.append(f"{name}: agreement is the same rounded grade; kappa has quadratic weights.")
    header = ("Benchmark", "Judge", "Judge", "Items", "Agreement [95%]", "Cohen's kappa [95%]")
    return text_table("agreement", "Agreement of every two judges", header, rows, lines)


def benchmark_table(comparison: JudgeComparison, part: BenchmarkComparison) -> Table:
    """Noise, flips and biases of every judge on one benchmark."""
    effects = [effect for found in part.biases.values() for effect in found]
    names = [name for name in EFFECTS if any(effect.name == name for effect in effects)]
    rows = []
    for judge, steady in part.consistency.items():
        found = {effect.name: effect for effect in part.biases.get(judge, ())}
        shares = (steady.repeats_differ, *((steady.flips, steady.flips_beyond_noise) if part.paired else ()))
        biases = [_effect(found[name]) if name in found else NONE for name in names]
        scale = ", ".join(dict.fromkeys(effect.unit for effect in found.values())) or NONE
        rows.append((clean(judge), *map(_share, shares), *biases, scale))
    header = ["Judge", "Repeats differ", *(("Flips with order", "Flips beyond noise") if part.paired else ())]
    lines = ["Flips beyond noise: flips when the order changes, minus what plain repeats differ."] * part.paired
    given = ", ".join(dict.fromkeys(effect.given for effect in effects))
    lines += [f"Biases at equal quality, given {given}; *: p < {ALPHA:g} after Holm's correction."] if effects else []
    per = " or ".join(dict.fromkeys(effect.per for effect in effects if effect.per))
    lines += [_MEANING[name].format(per=per) for name in names]
    if any(not effect.identified for effect in effects):
        lines.append("Without the truth or two other judges, length and own may be quality, not bias: never marked.")
    title = f"{_title(comparison, part.benchmark)}: noise and biases [95%]"
    return text_table(f"biases-{part.benchmark}", title, (*header, *names, "Scale"), rows, lines)


def table5(comparison: JudgeComparison) -> Table:
    """The paper's Table 5: judges by falling agreement, beside the paper's numbers.

    A judge stands beside a number of the paper only where it is the same model. None of them is comparable: the
    paper's are agreement with AlpacaEval's annotators on AlpacaEval's answers.
    """
    reference = comparison.reference
    basis = reference.basis if reference else "nothing to compare with"
    accuracies = dict(reference.accuracies) if reference else {}
    paper = {
        row: each.value for (_, row, metric), each in published_table("table5").items() if metric == "human_agreement"
    }
    rows, records, matched = [], [], set()
    for name, share in sorted(accuracies.items(), key=lambda entry: -(entry[1].value or 0.0)):
        models = {_model(name), _model(comparison.judges[name].model if name in comparison.judges else name)}
        match = next((row for row in paper if _model(row) in models), None)
        matched.add(match)
        beside = NONE if match is None else f"{paper[match]:.2f}, not comparable"
        rows.append((clean(name), _share(share), beside, f"{share.n:,}"))
        low, high = share.interval or (None, None)
        numbers = {"agreement": share.value, "low": low, "high": high, "items": share.n}
        records.append({"judge": name, **numbers, "paper": None if match is None else paper[match]})
    rows += [(f"{row} (paper)", NONE, f"{value:.2f}", NONE) for row, value in paper.items() if row not in matched]
    lines = [
        f"Agreement with {basis}: {RULES.get(basis, '')}",
        "Not comparable with the paper: its numbers are of other people and other answers (AlpacaEval's leaderboard).",
        *comparison.notes,
    ]
    caption = f"Judges and their agreement with {basis}, {clean(comparison.source)}"
    header = ("Judge", f"Agrees with {basis}", "Paper: human agreement (%)", "Items")
    table = text_table("table5", f"Table 5: {caption}", header, rows, [*map(clean, lines)])
    return replace(table, records=records, data={"reference": basis, "judges": records, "paper": paper})


def _model(name: str) -> str:
    """A model's name without owner and case: ``llama-3.1-70b-instruct`` for ``meta-llama/Meta-Llama-3.1-...``."""
    short = name.rpartition("/")[2].lower().removeprefix("meta-")
    return short.replace("gpt4", "gpt-4")


def csv_records(comparison: JudgeComparison) -> Iterator[dict[str, object]]:
    """Every number of a comparison with its interval, by its place in ``judges.json``."""

    def walk(place: tuple[str, ...], node: Any) -> Iterator[dict[str, object]]:
        if isinstance(node, list):
            for number, each in enumerate(node):
                # An entry of a list is named by what it is about: judges, a benchmark, a metric, an effect.
                names = [str(each[key]) for key in _NAMES if key in each] if isinstance(each, dict) else [str(number)]
                yield from walk((*place, " ".join(names)), each)
        elif isinstance(node, dict) and {"value", "interval"} <= set(node):
            low, high = node["interval"] or (None, None)
            line = {"value": node["value"], "low": low, "high": high, "n": node.get("n"), "unit": node.get("unit")}
            yield {"place": "/".join(place), **line}
        elif isinstance(node, dict):
            for key, each in node.items():
                yield from walk((*place, key), each)

    return walk((), ADAPTER.dump_python(comparison, mode="json"))


def _title(comparison: JudgeComparison, name: str) -> str:
    return clean(comparison.names.get(name, name))


def _effect(effect: BiasEffect) -> str:
    return f"{effect.value:+.2f}{'*' if effect.flagged else ''} {_span(effect.interval, 1)}"


def _share(share: Share) -> str:
    return NONE if share.value is None else f"{share.value:.1%} {_span(share.interval, 100)}".rstrip()


def _number(share: Share) -> str:
    return NONE if share.value is None else f"{share.value:.2f} {_span(share.interval, 1)}".rstrip()


def _span(interval: Interval | None, scale: float) -> str:
    """``[43.1, 48.6]`` on a scale of hundred, else with two digits; empty without an interval."""
    if interval is None:
        return ""
    digits = 1 if scale == 100 else 2
    return f"[{scale * interval.low:.{digits}f}, {scale * interval.high:.{digits}f}]"
