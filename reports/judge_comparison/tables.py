"""A comparison of judges as tables of text and as files, and Table 5 of the paper."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from pydantic import ValidationError

from harness.errors import UserError
from harness.records import first_mistakes
from harness.text import clean, format_count
from reports.formats.data import to_csv
from reports.formats.latex import latex
from reports.formats.markdown import escape_markdown, markdown
from reports.judge_comparison.bias import EFFECTS, bias_names, is_flagged, is_identified
from reports.judge_comparison.compare import ADAPTER, JudgeComparison
from reports.judge_comparison.figures import FIGURES
from reports.judge_comparison.panel import Number
from reports.judge_comparison.ranking import CONFIRMED, LOST, OWN_TABLE, REVERSED, SIGNIFICANT
from reports.judge_comparison.reference import HUMAN_MAJORITY, HUMANS, RULES
from reports.tables.score_table import p_text
from reports.tables.summary import ALPHA
from reports.tables.table import Table, TableCell, TableColumn, TableRow, text_table
from results.published import published_table
from results.store.locks import write_atomic

NONE, NOT_TESTED = "-", "not tested"
VERDICTS, SHOWN = (CONFIRMED, LOST, REVERSED, NOT_TESTED), 5  # differences that a sentence names
_MEANING = {
    "position": "position: in favour of the answer shown first.",
    "length": "length: in favour of a longer answer, per {per} of the difference.",
    "own": "own: in favour of answers of its own family, relative to other answers.",
}


def write_comparison(comparison: JudgeComparison, folder: Path) -> list[Path]:
    """Write ``judges.md``, ``.tex``, ``.csv``, ``.json`` and two figures (removed where there is none
    now); the paths written."""
    from reports.figures.style import figure_bytes, figure_style

    tables = comparison_tables(comparison)
    in_text = [replace(tables[0], lines=(*tables[0].summary, *tables[0].lines)), *tables[1:]]
    contents = {
        "judges.md": "\n".join([*map(escape_markdown, tables[0].summary), "", markdown(*tables)]).lstrip().encode(),
        "judges.tex": "\n".join(map(latex, in_text)).encode(),
        "judges.csv": to_csv(Table("judges", "", (), (), records=list(map(asdict, comparison.numbers)))).encode(),
        "judges.json": ADAPTER.dump_json(comparison, indent=1) + b"\n",
    }
    with figure_style():
        for name, (_, draw) in FIGURES.items():
            figure = draw(comparison)
            for kind in ("png", "pdf"):
                if figure is None:
                    (folder / f"{name}.{kind}").unlink(missing_ok=True)
                else:
                    contents[f"{name}.{kind}"] = figure_bytes(figure, kind)
    return [write_atomic(folder / name, content) for name, content in contents.items()]


def read_comparison(folder: Path) -> JudgeComparison | None:
    """``None`` where the folder has none. Raises UserError if it is damaged."""
    file = folder / "judges.json"
    try:
        return ADAPTER.validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error}. Run compare-judges again.") from error
    except ValidationError as error:
        raise UserError(f"{file} does not fit: {first_mistakes(error)}. Run compare-judges again.") from error


def comparison_tables(comparison: JudgeComparison) -> list[Table]:
    tables = [judges_table(comparison), *([conclusion_table(comparison)] if comparison.conclusions else [])]
    if HUMANS in comparison.accuracies():
        tables.append(table5(comparison))
    metrics = dict.fromkeys(number.on for number in comparison.select("score"))
    tables += [rank_table(comparison, metric) for metric in metrics]
    if comparison.select("agreement"):
        tables.append(pairs_table(comparison))
    return tables + [benchmark_table(comparison, name) for name in comparison.paired if comparison.select(on=name)]


def judges_table(comparison: JudgeComparison) -> Table:
    reference, rows = comparison.reference, []
    agreement = f"Agrees with {reference.basis}" if reference else "Agreement with reference: none available"
    for name, profile in comparison.judges.items():
        unparsed_shares = comparison.select("unparsed", judge=name)
        calls = sum(share.n for share in unparsed_shares)
        unparsed_calls = sum((share.value or 0.0) * share.n for share in unparsed_shares)
        dollars = NONE if profile.dollars is None else f"{profile.dollars:,.2f}"
        tokens = NONE if profile.tokens is None else f"{profile.tokens:,.0f}"
        biases = bias_names(comparison.select(*EFFECTS, judge=name))
        unparsed = f"{unparsed_calls / calls:.1%}" if calls else NONE
        last_cells: tuple[str, ...] = (unparsed, biases, dollars, tokens)
        for asking, pass_calls in comparison.askings.items():
            cost = profile.cost(pass_calls)
            price = NONE if cost is None else f"{cost:,.2f}"
            accuracy = _share(comparison.accuracies(asking).get(name))
            rows.append((clean(name), clean(profile.model) or NONE, asking, accuracy, price, *last_cells))
            last_cells = ("",) * len(last_cells)
    lines = [f"Recommended: {reference.reason}"] if reference else []
    lines += [f"{agreement}: {RULES[reference.basis]}"] if reference else []
    header = ("Judge", "Model", "Asked", agreement, "$", "Unparsed", "Biases", "$ / 1,000 calls", "tokens / call")
    passes = [f"{asking} {format_count(calls, 'call')}" for asking, calls in comparison.askings.items()]
    lines.append(f"Asked, and $: one pass over these answers without repeats ({', '.join(passes)}).")
    lines += comparison.notes
    title = f"Judges compared: {clean(comparison.source)}"
    content = text_table("judges", title, header, rows, [*map(clean, lines)])
    return replace(content, summary=tuple(map(clean, summary_of(comparison))))


def summary_of(comparison: JudgeComparison) -> list[str]:
    """What becomes of the conclusions under every judge, the first one asked here included."""
    names, conclusions = list(comparison.judges), comparison.conclusions
    tests = comparison.select("difference")
    has_own_table = any(test.judge == OWN_TABLE for test in tests)
    if len(names) < 2 and not has_own_table:
        return []
    places = f"in the run's own table or under {names[0]}" if has_own_table else f"under {names[0]}"
    if not tests:
        return ["No difference of two rows could be tested: too few questions or verdicts."]
    if not conclusions:
        return [f"No difference is significant {places}: there is no conclusion to check."]
    sentences = []
    for name in names:
        checks_table = has_own_table and name == names[0]
        checked = [found for found in conclusions if _verdict(found, name) != SIGNIFICANT]
        sentences += [_judge_sentence(comparison, checked, name, checks_table)] if checked else []
        changes = [_changed_by_asking(comparison, found, name) for found in conclusions] if checks_table else []
        sentences += [*filter(None, changes)][:SHOWN]
    return sentences


def _judge_sentence(
    comparison: JudgeComparison, checked: Sequence[Mapping[str, Number]], judge: str, checks_table: bool
) -> str:
    groups = {verdict: [found for found in checked if _verdict(found, judge) == verdict] for verdict in VERDICTS}
    confirmed, lists = len(groups.pop(CONFIRMED)), ""
    holds = confirmed > 0 and not groups[REVERSED]
    state = "hold" if confirmed == len(checked) else "hold in part" if holds else "do not hold"
    state = "cannot be checked" if len(groups[NOT_TESTED]) == len(checked) else state
    for verdict, pairs in groups.items():
        more = f" and {len(pairs) - SHOWN} more" if len(pairs) > SHOWN else ""
        lists += f"; {verdict}: {', '.join(_pair(comparison, found) for found in pairs[:SHOWN])}{more}" if pairs else ""
    # it need not be the run's own judge
    whose = ", asked here, the conclusions of the run's own table" if checks_table else " the conclusions"
    total = format_count(len(checked), "significant difference")
    return f"Under {judge}{whose} {state}: {confirmed} of {total} confirmed{lists}."


def _changed_by_asking(comparison: JudgeComparison, found: Mapping[str, Number], first_judge: str) -> str:
    """A conclusion that the run's own table and the first judge, asked here, do not share; empty if they do."""
    own, again = found.get(OWN_TABLE), found.get(first_judge)
    verdicts = {_verdict(found, OWN_TABLE), _verdict(found, first_judge)}
    if own is None or verdicts == {SIGNIFICANT, CONFIRMED}:
        return ""
    asked = comparison.asked.get(own.on.partition(".")[0], "")
    places = [f"in the run's own table ({_p(own)})", f"when {first_judge} is asked {asked} ({_p(again)})"]
    if _verdict(found, OWN_TABLE) != SIGNIFICANT:
        places.reverse()
    end = "reversed" if REVERSED in verdicts else "not"
    return f"{_pair(comparison, found)}: significant {places[0]}, {end} {places[1]}."


def conclusion_table(comparison: JudgeComparison) -> Table:
    """A row per conclusion, a column per judge: the better row minus the other, interval, p-value and verdict."""
    conclusions, names = comparison.conclusions, list(comparison.judges)
    names = [OWN_TABLE] * any(OWN_TABLE in found for found in conclusions) + names
    titles = [f"{clean(name)}, asked here" if names[0] == OWN_TABLE and place == 1 else clean(name)
              for place, name in enumerate(names)]  # fmt: skip
    rows = []
    for found in conclusions:
        test = next(iter(found.values()))
        pair = f"{comparison.title(test.row)} > {comparison.title(test.against)}"
        cells = [TableCell(pair, sort=pair, lines=(comparison.title(test.on),))]
        cells += [_test_cell(found.get(name), _verdict(found, name)) for name in names]
        rows.append(TableRow(tuple(cells)))
    columns = (TableColumn("Better > worse", numeric=False), *map(TableColumn, titles))
    again = ", ".join(f"{comparison.title(name)} {asked}" for name, asked in comparison.asked.items())
    lines = [
        "Conclusions: the differences that are significant in the run's own table, or under the first judge.",
        "Each cell: better row minus the other [95% interval, before Holm]; p after Holm, as in the run's tables.",
        f"Asked here: {again}.",
    ]
    return Table("conclusions", "Do the conclusions hold under every judge?", columns, tuple(rows), tuple(lines))


def _test_cell(test: Number | None, verdict: str) -> TableCell:
    if test is None:
        return TableCell(NONE, lines=(NOT_TESTED,), tone="faint")
    text = f"{test.value:+.2f} {_span(test, 1, 2)}".rstrip()
    tone = {CONFIRMED: "good", REVERSED: "bad"}.get(verdict, "")
    return TableCell(text, lines=(f"{_p(test)}, {verdict}",), sort=test.value, tone=tone)


def _verdict(found: Mapping[str, Number], judge: str) -> str:
    return found[judge].verdict if judge in found else NOT_TESTED


def _pair(comparison: JudgeComparison, found: Mapping[str, Number]) -> str:
    test = next(iter(found.values()))
    return f"{comparison.title(test.row)} > {comparison.title(test.against)} on {comparison.title(test.on)}"


def _p(test: Number | None) -> str:
    return NOT_TESTED if test is None or test.p is None else p_text(test.p)


def rank_table(comparison: JudgeComparison, metric: str) -> Table:
    scores = comparison.select("score", on=metric)
    cells = {(score.row, score.judge): f"{score.rank}. {_number(score)}" for score in scores}
    judges, order = (dict.fromkeys(names) for names in ([s.judge for s in scores], [s.row for s in scores]))
    rows = [(comparison.title(row), *(cells.get((row, judge), NONE) for judge in judges)) for row in order]
    lines = [
        f"Spearman's rank correlation of {clean(pair.judge)} and {clean(pair.other)} over {format_count(pair.n, 'row')}"
        + (f" ({ties})" if (ties := _ties(scores, pair)) else "")
        + f": {'n/a, fewer than 3 distinct values' if pair.value is None else _number(pair)}"
        for pair in comparison.select("rank correlation", on=metric)
    ]
    header = ("Rank. value [95%]", *map(clean, judges))
    return text_table(f"ranks-{metric}", f"{comparison.title(metric)} by judge", header, rows, lines)


def _ties(scores: Sequence[Number], pair: Number) -> str:
    """How many of the rows of both judges tie with another one, under which judge."""
    ranks = [{score.row: score.rank for score in scores if score.judge == judge} for judge in (pair.judge, pair.other)]
    common = ranks[0].keys() & ranks[1].keys()
    counts = [Counter(judge_ranks[row] for row in common) for judge_ranks in ranks]
    tie_counts = [sum(count for count in counter.values() if count > 1) for counter in counts]
    return ", ".join(
        f"{number} tied under {clean(judge)}"
        for number, judge in zip(tie_counts, (pair.judge, pair.other), strict=True)
        if number
    )


def pairs_table(comparison: JudgeComparison) -> Table:
    lines = ["When one verdict dominates, kappa is low and raw agreement inflated."]
    agreements = comparison.select("agreement")
    rows = [
        (comparison.title(pair.on), clean(pair.judge), clean(pair.other), f"{pair.n:,}", _share(pair), _number(kappa))
        for pair, kappa in zip(agreements, comparison.select("kappa"), strict=True)
    ]
    graded_titles = dict.fromkeys(comparison.title(pair.on) for pair in agreements if not comparison.paired[pair.on])
    lines += [f"{name}: agreement is the same rounded grade; kappa has quadratic weights." for name in graded_titles]
    header = ("Benchmark", "Judge", "Judge", "Items", "Agreement [95%]", "Cohen's kappa [95%]")
    return text_table("agreement", "Agreement of every two judges", header, rows, lines)


def benchmark_table(comparison: JudgeComparison, benchmark: str) -> Table:
    shares = {"repeats differ": "Repeats differ"}
    if comparison.paired[benchmark]:
        shares |= {"flips": "Flips with order", "flips beyond noise": "Flips beyond noise"}
    effects = comparison.select(*EFFECTS, on=benchmark)
    names = [name for name in EFFECTS if any(effect.measure == name for effect in effects)]
    rows = []
    for judge in dict.fromkeys(number.judge for number in comparison.select("unparsed", on=benchmark)):
        numbers = {number.measure: number for number in comparison.select(*shares, *names, on=benchmark, judge=judge)}
        biases = [_effect(numbers[name]) if name in numbers else NONE for name in names]
        scale = ", ".join(dict.fromkeys(numbers[name].unit for name in names if name in numbers)) or NONE
        rows.append((clean(judge), *(_share(numbers[name]) for name in shares), *biases, scale))
    lines = ["Flips beyond noise: flips when the order changes, minus what plain repeats differ."] * (len(shares) > 1)
    quality_sources = ", ".join(dict.fromkeys(effect.given for effect in effects))
    if effects:
        lines.append(f"Biases at equal quality, given {quality_sources}; *: p < {ALPHA:g} after Holm's correction.")
    per = " or ".join(dict.fromkeys(effect.per for effect in effects if effect.per))
    lines += [_MEANING[name].format(per=per) for name in names]
    if not all(map(is_identified, effects)):
        lines.append("Without the truth or two other judges, length and own may be quality, not bias: never marked.")
    title = f"{comparison.title(benchmark)}: noise and biases [95%]"
    return text_table(f"biases-{benchmark}", title, ("Judge", *shares.values(), *names, "Scale"), rows, lines)


def table5(comparison: JudgeComparison) -> Table:
    """Beside the same models' published numbers, never comparable: the paper's are of other people and answers."""
    numbers_in_paper = published_table("table5").items()
    paper = {row: number.value for (_, row, metric), number in numbers_in_paper if metric == "human_agreement"}
    rows: list[tuple[str, ...]] = []
    records: list[Mapping[str, object]] = []
    matched_rows = set()
    for name, share in sorted(comparison.accuracies().items(), key=lambda entry: -(entry[1].value or 0.0)):
        models = {_model(name), _model(comparison.judges[name].model if name in comparison.judges else name)}
        match = next((row for row in paper if _model(row) in models), None)
        matched_rows.add(match)
        paper_text = NONE if match is None else f"{paper[match]:.2f}, not comparable"
        rows.append((clean(name), _share(share), paper_text, f"{share.n:,}"))
        numbers = {"agreement": share.value, "low": share.low, "high": share.high, "items": share.n}
        records.append({"judge": name, **numbers, "paper": None if match is None else paper[match]})
    rows += [(f"{row} (paper)", NONE, f"{value:.2f}", NONE) for row, value in paper.items() if row not in matched_rows]
    lines = [
        f"Agreement with {HUMAN_MAJORITY}: {RULES[HUMAN_MAJORITY]}",
        "Not comparable with the paper: its numbers are of other people and other answers (AlpacaEval's leaderboard).",
        *comparison.notes,
    ]
    caption = f"Table 5: Judges and their agreement with {HUMAN_MAJORITY}, {clean(comparison.source)}"
    header = ("Judge", f"Agrees with {HUMAN_MAJORITY}", "Paper: human agreement (%)", "Items")
    table = text_table("table5", caption, header, rows, [*map(clean, lines)])
    return replace(table, records=records, data={"reference": HUMAN_MAJORITY, "judges": records, "paper": paper})


def _model(name: str) -> str:
    """A model's name without owner and case: ``llama-3.1-70b-instruct`` for ``meta-llama/Meta-Llama-3.1-...``."""
    return name.rpartition("/")[2].lower().removeprefix("meta-").replace("gpt4", "gpt-4")


def _effect(effect: Number) -> str:
    return f"{effect.value:+.2f}{'*' if is_flagged(effect) else ''} {_span(effect, 1, 2)}"


def _share(number: Number | None) -> str:
    return NONE if number is None or number.value is None else f"{number.value:.1%} {_span(number, 100, 1)}".rstrip()


def _number(number: Number) -> str:
    return NONE if number.value is None else f"{number.value:.2f} {_span(number, 1, 2)}".rstrip()


def _span(number: Number, scale: float, digits: int) -> str:
    if number.low is None or number.high is None:
        return ""
    return f"[{scale * number.low:.{digits}f}, {scale * number.high:.{digits}f}]"
