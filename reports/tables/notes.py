"""The lines under a table of scores, the same in every format: ``short_lines`` (the terminal shows at most eight lines,
footnotes included), and ``detail_lines`` for ``--notes``, the page and the JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from harness.contracts.benchmark import FLAGS, Card, Metric
from harness.errors import PERMANENT
from harness.stats import FEW_QUESTIONS
from harness.text import clean, format_count
from reports.tables.judge_family import leakage_warning
from reports.tables.summary import MIN_COVERAGE, CellSummary, ColumnSummary, Summary, scale
from results.published import PAPER
from results.run.record import BY_RULE, FAILED, Run

FEW_STEPS = 5
_REASON = 280  # characters of a failure's reason above the other lines; a footnote has the rest
Benchmarks = Mapping[str, Sequence[ColumnSummary]]


def short_lines(summary: Summary, run: Run) -> tuple[str, ...]:
    """How to read a cell, what makes a row worthless, seeds, questions and judges, chosen options, the paper: in the
    order in which a reader needs them, and from the end of which a narrow terminal leaves lines out."""
    lines = [*first_lines(summary, run), *warnings(summary, run), *_leakage(summary, run)]
    if benchmarks := summary.benchmarks:
        lines += [_questions(summary, benchmarks), _judges(run, benchmarks)]
    return (*lines, *(clean(choice) for choice in run.choices), *paper_lines(summary, run))


def first_lines(summary: Summary, run: Run) -> tuple[str, ...]:
    """Before the footnotes of cells without a number: everything else assumes that a cell can be read."""
    unfinished = "UNFINISHED RUN: n/a may be missing, the rest may change."
    return (*([] if run.finished else [f"{unfinished} {_way_on(run)}"]), _cell_legend(summary, run))


def warnings(summary: Summary, run: Run) -> tuple[str, ...]:
    """What makes numbers worthless, and what a reader must know of the data."""
    # one line, because each line of its own may leave most of a terminal's line empty
    line = " ".join([*_few_steps(summary), *(clean(note) for note in run.notes)])
    return (line,) if line else ()


def paper_lines(summary: Summary, run: Run) -> tuple[str, ...]:
    """On the paper's table; none where no column, or no trained row, is one of it."""
    target = summary.target
    rows = {row.id for row in summary.rows if not row.baseline} or {row.id for row in summary.rows}
    is_papers = rows & {*target.rows} and {column.metric.id for column in summary.columns} & {*target.columns}
    line = " ".join([*_paper(summary, run), *_absent(summary)]) if is_papers else ""
    return (*([line] if line else []), *target.notes)


def _absent(summary: Summary) -> list[str]:
    rows = [name for name in summary.absent if name in summary.target.rows]
    columns = [name for name in summary.absent if name not in rows]
    parts = [format_count(len(rows), "row")] if rows else []
    parts += [f"column{'s' if len(columns) > 1 else ''} {', '.join(columns)}"] if columns else []
    return [f"Not in this run: {'; '.join(parts)}."] if parts else []


def _leakage(summary: Summary, run: Run) -> list[str]:
    """Judges that may prefer what the teacher taught."""
    if all(row.baseline for row in summary.rows):
        return []
    judges = dict.fromkeys(run.judges.get(name, "") for name in summary.benchmarks)
    # in brackets are the options of a judge
    texts = [leakage_warning(judge, judge.partition(" (")[0], run.family.teacher) for judge in judges]
    return [clean(text) for text in texts if text is not None]


def _way_on(run: Run) -> str:
    """What ends an unfinished run: the same command, unless it would only meet the same failure again."""
    all_reasons = dict.fromkeys(cell.unavailable or "" for cell in run.cells)
    reasons = [reason for reason in all_reasons if reason.startswith(FAILED)]
    if not reasons:
        return "The same command continues the run."
    permanent = [reason for reason in reasons if PERMANENT in reason]
    first = clean([*permanent, *reasons][0]).partition(f"; {PERMANENT}")[0]
    first = textwrap.shorten(first.rstrip("."), _REASON, placeholder=" ...")
    end = (
        "Asking again would end the same way" if permanent else "Once that is fixed, the same command continues the run"
    )
    others = f" (and {len(reasons) - 1} more in the notes)" if len(reasons) > 1 else ""
    return f"{first[:1].upper()}{first[1:]}.{others} {end}."


def detail_lines(summary: Summary, run: Run) -> tuple[str, ...]:
    lines = [*_other_tests(summary), *_precision(summary, run)]
    lines += [f"Not in this run: {', '.join(summary.absent)}."] if summary.absent else []
    titles = {row.id: row.title for row in summary.rows}
    for name, colon, text in (note.partition(": ") for note in run.training_notes):
        lines.append(clean(f"{titles.get(name, name[:1].upper() + name[1:])}{colon}{text}".rstrip(".") + "."))
    cards = {card.benchmark: card for card in run.cards}
    for benchmark, columns in summary.benchmarks.items():
        judge, group = clean(run.judges.get(benchmark, "not stated")), clean(columns[0].metric.group)
        line = f"{group}: judge: {judge}{_protocol(cards.get(benchmark))}{_readings(summary, columns)}"
        papers = [cell.paper for cell in summary.column(columns[0].metric.id) if cell.paper is not None]
        lines.append(line + (f" Paper: {clean(papers[0].protocol)}." if papers else ""))
    if any(cell.paper is not None and cell.paper.difference is not None for cell in summary.cells.values()):
        margins = {column.metric: column.metric.margin for column in summary.columns}
        margin_list = ", ".join(
            f"{margin:g} ({_name(metric)})" for metric, margin in margins.items() if margin is not None
        )
        lines.append(
            "agrees: the 95% interval of ours minus the paper's lies within the margin "
            f"({margin_list or 'none is stated'}); differs: it excludes 0; else inconclusive. Fewer than "
            f"{FEW_QUESTIONS} questions are inconclusive, and a row trained with other settings never agrees. The "
            "paper has no intervals: the interval is ours alone, the paper's value taken as exact."
        )
    return tuple(lines)


def _few_steps(summary: Summary) -> list[str]:
    trained_rows = [row for row in summary.rows if row.id in summary.steps]
    short_trainings = {row.id: summary.steps[row.id] for row in trained_rows if summary.steps[row.id] < FEW_STEPS}
    if not short_trainings:
        return []
    counts = " to ".join(str(count) for count in sorted({min(short_trainings.values()), max(short_trainings.values())}))
    names = [clean(summary.title(row.id)) for row in trained_rows if row.id in short_trainings]
    of_rows = f" ({', '.join(names)})" if len(short_trainings) < len(trained_rows) else ""
    steps = "step" if counts == "1" else "steps"
    return [f"Only {counts} optimiser {steps}{of_rows}: the options of a loss hardly matter."]


def _cell_legend(summary: Summary, run: Run) -> str:
    reference = clean(summary.title(summary.target.reference))
    has_changes = any(cell.change.delta is not None for cell in summary.cells.values())
    seeds = ", ".join(str(seed) for seed in run.seeds)
    units = f"questions, seed {seeds} only" if len(run.seeds) == 1 else f"questions and seeds {seeds}"
    # an interval that ends exactly at 0 or 100 looks precise; say that it was clipped
    is_clipped = any({cell.low, cell.high} & set(scale(cell.metric) or ()) for cell in summary.cells.values())
    legend = f"Value{f' (change from {reference})' if has_changes else ''} [95% interval over {units}"
    legend += ", clipped to the scale]" if is_clipped else "]"
    legend += "; bold: best trained row." if any(column.best for column in summary.columns) else "."
    if tests := max((column.comparisons for column in summary.columns), default=0):
        test = "paired bootstrap" if len(run.seeds) == 1 else "paired t-test"
        legend += f" *: significant ({test}, p < 0.05 after Holm over {format_count(tests, 'row')})."
    if summary.target.lengths or run.recipe.get("baseline"):
        legend += " chars: mean answer length; cut: share of answers that ended at the token limit."
    if summary.min_coverage < MIN_COVERAGE and any(cell.bounds is not None for cell in summary.cells.values()):
        legend += " could be: the value if each missing verdict were the worst, and the best."
    return legend


def _questions(summary: Summary, benchmarks: Benchmarks) -> str:
    benchmark_texts, total = [], 0
    for columns in benchmarks.values():
        rows = [[summary.cells[row.id, column.metric.id] for column in columns] for row in summary.rows]
        # metrics of one benchmark may score different numbers of questions (LC needs lengths)
        counts = sorted({cell.n for row in rows for cell in row if cell.values})
        n = "none" if not counts else f"{counts[0]:,}" + (f" to {counts[-1]:,}" if len(counts) > 1 else "")
        unscored_questions = _count_once(rows, lambda cell: cell.unscored)
        total += unscored_questions
        gaps = [f"{unscored_questions:,} unscored"] if unscored_questions else []
        if missing_verdicts := _count_once(rows, lambda cell: cell.total("verdicts_missing")):
            verdicts = _count_once(rows, lambda cell: cell.total("verdicts"))
            gaps.append(f"{missing_verdicts:,} of {format_count(verdicts, 'verdict')} missing")
        if injections := _count_once(rows, lambda cell: cell.total("injection")):
            gaps.append(f"{format_count(injections, 'answer')} with text directed at a judge")
        for kind, noun in (("answers", "answer"), ("replies", "judge reply")):
            if thoughts := _count_once(rows, partial(_total, f"thinking:{kind}")):
                gaps.append(f"thinking removed from {format_count(thoughts, noun)}")
        gaps += [f"{format_count(count, 'verdict')} flagged {flag}" for flag, count in _flags(rows).items()]
        in_part = f" ({', '.join(gaps)})" if gaps else ""
        # the number first: after "AlpacaEval 2" it would read as a part of the name
        benchmark_texts.append(f"{n} of {clean(columns[0].metric.group)}{in_part}")
    return f"Questions: {', '.join(benchmark_texts)}; {total:,} unscored."


def _readings(summary: Summary, columns: Sequence[ColumnSummary]) -> str:
    """How verdicts were read: weak readings, and the mean mass of the tokens asked for."""
    rows = [[summary.cells[row.id, column.metric.id] for column in columns] for row in summary.rows]
    parts = [flag_text(flag, count) for flag, count in _flags(rows).items()]
    details = [score.detail for row in rows for cell in row for score in cell.scores.values()]
    if masses := [float(detail["mean_mass"]) for detail in details if "mean_mass" in detail]:
        parts.append(f"the tokens asked for have a probability of {sum(masses) / len(masses):.3f} on average")
    return f" Verdicts: {'; '.join(parts)}." if parts else ""


def flag_text(flag: str, count: int) -> str:
    return f"{format_count(count, 'verdict')} flagged {flag}{f' ({FLAGS[flag]})' if flag in FLAGS else ''}"


def _total(detail: str, cell: CellSummary) -> int:
    return cell.total(detail)


def _flags(rows: Sequence[Sequence[CellSummary]]) -> dict[str, int]:
    """How many verdicts were read weakly, by the way in which."""
    all_names = (name for row in rows for cell in row for score in cell.scores.values() for name in score.detail)
    names = sorted({name for name in all_names if name.startswith("flag:")})
    return {name.removeprefix("flag:"): _count_once(rows, partial(_total, name)) for name in names}


def _count_once(rows: Sequence[Sequence[CellSummary]], count: Callable[[CellSummary], int]) -> int:
    # metrics of one benchmark share its judgments: count each model's questions once
    return sum(max(count(cell) for cell in row) for row in rows)


def _judges(run: Run, benchmarks: Benchmarks) -> str:
    groups = {name: clean(columns[0].metric.group) for name, columns in benchmarks.items()}
    judges = {name: clean(run.judges.get(name, "not stated")) for name in groups}
    # name the usual judge once and only the exceptions beside it: the line has to fit
    usual_judge = max(dict.fromkeys(judges.values()), key=list(judges.values()).count)
    exceptions = [f"{groups[name]}: {judge}" for name, judge in judges.items() if judge != usual_judge]
    line = f"Judge: {'; '.join([usual_judge, *exceptions])}."
    # the deviations are long: the short form only warns, and says where they are
    deviating_groups = [groups[card.benchmark] for card in run.cards if card.deviations and card.benchmark in groups]
    if deviating_groups:
        scope = "" if len(deviating_groups) == len(groups) else f" in {', '.join(deviating_groups)}"
        line += f" Not the official protocol{scope} (see the notes)."
    return line


def _paper(summary: Summary, run: Run) -> list[str]:
    target = summary.target
    papers = [cell.paper for cell in summary.cells.values() if cell.paper is not None]
    if target.published and not papers:
        judges = ", ".join(sorted({clean(judge) for judge in run.judges.values()} - {BY_RULE}))
        # the caption names the models
        return [f"Not comparable with the paper's {target.label}: other models, judge {judges or BY_RULE}."]
    if not papers:
        return []
    has_differences = any(paper.difference is not None for paper in papers)
    # a reader who sees a difference must be told that its interval is ours alone
    explanation = "; below it ours minus the paper's, and the verdict (the notes say how)" if has_differences else ""
    return [f"paper: the value in {PAPER}, {papers[0].source.split(', ', 1)[1]}{explanation}."]


def _other_tests(summary: Summary) -> list[str]:
    lines = []
    focus_tests = max((column.focus_comparisons for column in summary.columns), default=0)
    if focus_tests and summary.target.focus is not None:
        focus = clean(summary.title(summary.target.focus))
        lines.append(
            f"†: {focus} is significantly better than this row; ‡: worse (Holm over the "
            f"{format_count(focus_tests, 'comparison')} of {focus} with other trained rows of a column)."
        )
    if any(cell.tied for cell in summary.cells.values()):
        best = max(column.best_comparisons for column in summary.columns)
        lines.append(
            "≈: not significantly different from the best row of its column "
            f"(Holm over {format_count(best, 'comparison')})."
        )
    return lines


def _precision(summary: Summary, run: Run) -> list[str]:
    lines = []
    if len(run.seeds) > 1:
        lines.append("The seeds' variance is pooled over the trained rows of a column.")
    else:
        lines.append("With one seed, intervals and tests are over questions only: another seed may differ by more.")
    effects = {column.metric: column.detectable for column in summary.columns}
    effects_text = [f"{_name(metric)} {effect:.3g}" for metric, effect in effects.items() if effect is not None]
    if effects_text:
        restriction = "; of this seed's students only" if len(run.seeds) == 1 else ""
        lines.append(
            f"Detectable: minimum detectable effect (80% power, alpha 0.05, before Holm{restriction}): "
            f"{', '.join(effects_text)}."
        )
    shares = {column.metric: column.shares for column in summary.columns if column.shares is not None}
    if shares:
        judge_is_known = any(of_metric["judge"] is not None for of_metric in shares.values())
        link = "/" if judge_is_known else "with"
        texts = [
            f"{_name(metric)} {'/'.join(f'{100 * share:.0f}' for share in of_metric.values() if share is not None)}%"
            for metric, of_metric in shares.items()
        ]
        lines.append(
            "Variance: shares of the variance of a trained row's value: training seeds / questions / answers drawn "
            f"anew {link} the judge's noise: {', '.join(texts)}."
        )
    return lines


def _protocol(card: Card | None) -> str:
    if card is None:
        return "."
    prompt = "" if card.prompt_hash in ("", "none") else f", prompt {clean(card.prompt_hash)}"
    deviations = "; ".join(clean(deviation).rstrip(".") for deviation in card.deviations)
    difference = f" Differs from the official protocol: {deviations}." if deviations else ""
    return f"; protocol {clean(card.version)}{prompt}.{difference}"


def _name(metric: Metric) -> str:
    return clean(f"{metric.group} {metric.title}")
