"""Answers and judgments of the official tools, in and out. What comes in is checked, scored and stored in a folder."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from distilbench.plugins import load_registry
from distilbench.workflows.specs import IMPORT_NOTE, ImportNote, find_benchmark, parse_options, read_note
from harness.contracts.benchmark import AnyBenchmark, Card, Entrant, against
from harness.contracts.options import json_data
from harness.errors import UserError
from harness.recipe.sections import stored_options
from harness.records import read_records, write_records
from harness.stats import seed_of
from harness.text import first_of_each_kind, format_count
from harness.types import Answer, Judgment, Question, Reply, Request, Score
from judges.formats import ExportedResults, export_files, import_files

if TYPE_CHECKING:
    from distilbench.workflows.finished_run import FinishedRun


@dataclass(frozen=True)
class AnswerSet:
    """One model's answers to a benchmark with these options, and the judgments on them.

    ``baseline``: whom they were compared with (empty: as the questions say); ``baseline_answers`` where it was a row.
    """

    benchmark: str
    options: Mapping[str, object]
    model: str
    answers: Sequence[Answer]
    judgments: Sequence[Judgment]
    judge: str = ""
    baseline: str = ""
    baseline_answers: Sequence[Answer] = ()


@dataclass(frozen=True)
class ImportReport:
    """What ``import_answers`` read and scored. ``questions``: of the benchmark, answered or not."""

    answers: AnswerSet
    questions: int
    problems: Sequence[str]
    """Rows that do not fit the questions, and questions without a row."""
    scores: Sequence[Score]
    card: Card
    notes: Sequence[str] = ()


def import_answers(  # noqa: PLR0913, the options of the command
    files: Sequence[str | Path],
    benchmark: str,
    out: str | Path,
    *,
    model: str | None = None,
    partial: bool = False,
    keep_failed: bool = False,
    replicates: int = 1000,
    set: Mapping[str, object] | Sequence[str] = (),  # noqa: A002, as in the other workflows
    plugins: Sequence[str] = (),
) -> ImportReport:
    """Read files of alpaca_eval, arena-hard-auto, FastChat or lm-eval, check them against the questions (official ones
    unless ``set`` has ``questions=pocket``), score the judgments, and store both in ``out``.

    ``model``: which one, where the files hold several. Raises UserError that lists missing, doubled and foreign rows,
    unless ``partial`` accepts them. ``keep_failed``: what reads like a generator's failure is the answer.
    """
    paths, out = [Path(file) for file in files], Path(out)
    entry = find_benchmark(benchmark, load_registry(plugins))
    # The official tools ask the official questions, whatever a benchmark's own default is.
    usual = {"questions": "official"} if entry.official else {}
    config = parse_options(entry.config, set, usual)
    questions = (adapter := entry.named(benchmark, config)).questions(config)
    imported = import_files(paths, benchmark, questions, model, keep_failed)
    # What the files show of how they were made goes before the defaults, and what was set before both.
    config = parse_options(adapter.config, set, {**usual, **imported.options})
    problems = list(imported.problems)
    problems += [
        f"the files' prompts show {name} {value}; the card states {getattr(config, name)}, as you set"
        for name, value in imported.options.items()
        if getattr(config, name) != value
    ]
    judgments = _without_odd_verdicts(imported.judgments, adapter.verdicts, problems)
    problems += other_verdicts(adapter, config, judgments)
    if not imported.answers and not judgments:
        raise _refusal("nothing in these files belongs to the questions", problems, questions)
    if problems and not partial:
        count = format_count(len(problems), "problem")
        raise _refusal(f"{count} with these rows; --partial imports the rest anyway", problems, questions)
    if not judgments:  # a benchmark that needs no judge grades by rule; the others give nothing here
        texts = {answer.question: answer for answer in imported.answers}
        grades = [adapter.grade(asked, texts[asked.id], config) for asked in questions if asked.id in texts]
        judgments = tuple(itertools.chain(*grades))
    name = imported.model or out.name
    # Only now: an import that was refused leaves nothing behind.
    out.mkdir(parents=True, exist_ok=True)
    for file, records in (("answers.jsonl", imported.answers), ("judgments.jsonl", judgments)):
        if records:
            write_records(out / file, records)
    hashes = {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    note: ImportNote = {
        "benchmark": benchmark, "config": json_data(config), "model": name, "baseline": imported.baseline,
        "files": hashes, "problems": problems,
    }  # fmt: skip
    (out / IMPORT_NOTE).write_text(json.dumps(note, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    entrants = {name: Entrant(imported.answers, judgments)} if judgments else {}
    scores = adapter.score(questions, entrants, config, seed_of("bootstrap", adapter.name), replicates)
    answers = AnswerSet(benchmark, json_data(config), name, imported.answers, judgments, baseline=imported.baseline)
    return ImportReport(answers, len(questions), problems, scores.get(name, ()), adapter.card(config), imported.notes)


def _refusal(reason: str, problems: Sequence[str], questions: Sequence[Question]) -> UserError:
    ids = [question.id for question in questions]
    asked = f"{format_count(len(ids), 'question')} asked: {', '.join(ids[:5])}{', ...' if ids[5:] else ''}"
    return UserError("\n".join([f"{reason} ({asked}):", *first_of_each_kind(problems)]))


def _without_odd_verdicts(
    judgments: Sequence[Judgment], limits: tuple[float, float], problems: list[str]
) -> tuple[Judgment, ...]:
    """One beyond the benchmark's verdicts loses it, with a sentence in ``problems``."""
    low, high = limits
    odd_judgments = [j for j in judgments if j.verdict is not None and not low <= j.verdict <= high]
    reason = f"the verdict is not {low:g} to {high:g}"
    problems += [
        f"question {j.question} ({j.part}): {reason}, but {j.verdict:g}; it counts as none" for j in odd_judgments
    ]
    return tuple(replace(j, verdict=None, reason=reason) if j in odd_judgments else j for j in judgments)


def other_verdicts(benchmark: AnyBenchmark, config: object, judgments: Sequence[Judgment]) -> Iterator[str]:
    """Where the reply without its thinking gives another verdict than the file, which may have read the thinking."""
    for judgment in judgments:
        if not judgment.thinking or judgment.verdict is None:
            continue
        request = Request(judgment.question, judgment.part, (), 0, repeat=judgment.repeat, meta=judgment.meta)
        ours = benchmark.parse(request, Reply(judgment.reply, "stop", judgment.judge_model, 0, 0), config).value
        if ours is not None and abs(ours - judgment.verdict) > 0.5:  # a letter stands for a probability
            yield (
                f"question {judgment.question}, {judgment.part}: the verdict is {judgment.verdict:g} in the file, and "
                f"{ours:g} by the reply without its thinking; the file's counts"
            )


def read_import(folder: str | Path) -> AnswerSet:
    """The answers that ``import_answers`` stored. Raises UserError for a folder that it did not write."""
    note = read_note(folder := Path(folder))
    files = folder / "answers.jsonl", folder / "judgments.jsonl"
    answers = read_records(files[0], Answer) if files[0].is_file() else []
    judgments = read_records(files[1], Judgment) if files[1].is_file() else []
    judge = next((judgment.judge_model for judgment in judgments if judgment.judge_model), "")
    return AnswerSet(note["benchmark"], note["config"], note["model"], answers, judgments, judge, note["baseline"])


def answers_of_row(
    run: FinishedRun, row: str | None = None, benchmark: str | None = None, *, seed: int = 0, target: str | None = None
) -> AnswerSet:
    """Answers of one row of a run to one benchmark. Raises UserError where these words do not name exactly one."""
    record, lineage, sources = run.results(target).run, run.lineage, run.sources(target)
    matches = [
        (name, source)
        for name, number, source in sources
        if number == seed and row in (None, name) and benchmark in (None, source.benchmark)
    ]
    if len(matches) != 1:
        choices = ", ".join(f"{name} {source.benchmark} seed {number}" for name, number, source in sources)
        raise UserError(f"{run.folder}: name one --row, --benchmark and --seed. It holds: {choices or 'no score yet'}.")
    name, source = matches[0]
    return AnswerSet(
        source.benchmark,
        stored_options(record.recipe, source.benchmark),
        f"{record.name}-{name}-{seed}",
        list(lineage.answers(source.answers).values()),
        [judgment for judgments in lineage.judgments(source.judgments).values() for judgment in judgments],
        record.judges.get(source.benchmark, ""),
        source.baseline_row,
        list(lineage.answers(source.baseline).values()) if source.baseline else (),
    )


def export_answers(
    answers: AnswerSet,
    out: str | Path,
    *,
    model: str | None = None,
    judge: str | None = None,
    plugins: Sequence[str] = (),
    partial: bool = False,
) -> list[Path]:
    """Write answers and judgments into ``out``, as files that alpaca_eval, arena-hard-auto, FastChat or lm-eval accept;
    returns their paths. ``model``, ``judge``: names to write in place of those in ``answers``.

    Raises UserError where a question has no answer, unless ``partial`` leaves it out.
    """
    adapter, config = load_registry(plugins).benchmark(answers.benchmark, answers.options)
    questions = adapter.questions(config)
    # A run whose baseline was a row compared with that row's answers: the files must show these.
    if answers.baseline_answers:
        questions = against(questions, answers.baseline_answers, answers.baseline)
    official = next((str(q.meta["baseline"]) for q in questions if "baseline" in q.meta), "baseline")
    judgments = answers.judgments if adapter.needs_judge else ()
    names = {"judge": judge or answers.judge, "baseline": answers.baseline or official}
    export = ExportedResults(
        model or answers.model, questions, answers.answers, judgments, **names, partial=partial, options=answers.options
    )
    return export_files(Path(out), export, adapter.kind or adapter.name)


def missing_answers(answers: AnswerSet, plugins: Sequence[str] = ()) -> list[str]:
    """The questions without an answer: what a ``partial`` export leaves out."""
    adapter, config = load_registry(plugins).benchmark(answers.benchmark, answers.options)
    known_questions = {answer.question for answer in answers.answers}
    questions = adapter.questions(config)
    return [question.id for question in questions if question.id not in known_questions]
