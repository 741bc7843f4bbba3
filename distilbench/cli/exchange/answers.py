"""``import`` and ``export``: answers and judgments of the official tools, in and out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from distilbench.cli.options import EntryOptions, Plugins, RunOrNone, Runs
from distilbench.cli.screen import say, show_files
from harness.errors import UserError
from harness.text import first_of_each_kind, format_count

app = typer.Typer()
_BENCHMARK = "alpaca_eval, arena_hard, mt_bench, gsm8k or one of their variants."
_PARTIAL = "Accept missing, duplicate, unknown and contradicting rows; they are listed and counted."
_KEEP_FAILED = "Keep what reads like a failed generation (nan, $ERROR$) as the answer."
_LEFT_OUT = "Leave out questions without an answer; they are counted and listed."
_ANSWERS = "A folder that `distilbench import` wrote; or a run, as with --run."
_TARGET = "Which target of the run; default: table1, or the only one."


@app.command("import", epilog="Example: distilbench import my-model/annotations.json -b alpaca_eval --out my-model")
def import_(
    files: Annotated[list[Path], typer.Argument(help="Files of alpaca_eval, arena-hard-auto, FastChat or lm-eval.")],
    benchmark: Annotated[str, typer.Option("--benchmark", "-b", help=_BENCHMARK)],
    out: Annotated[Path, typer.Option(help="Folder to write answers.jsonl and judgments.jsonl to.")],
    model: Annotated[str | None, typer.Option(help="Which model, if the files hold several.")] = None,
    partial: Annotated[bool, typer.Option("--partial", help=_PARTIAL)] = False,
    keep_failed: Annotated[bool, typer.Option("--keep-failed", help=_KEEP_FAILED)] = False,
    replicates: Annotated[int, typer.Option(min=0, help="Bootstrap resamples behind each interval.")] = 1000,
    overrides: EntryOptions = None,
    plugins: Plugins = None,
) -> None:
    """Read answers and judgments made elsewhere, check them against the questions, and score them.

    The questions are the official ones unless --set questions=pocket.
    """
    from distilbench.workflows.answers import import_answers

    report = import_answers(
        files, benchmark, out, model=model, partial=partial, keep_failed=keep_failed, replicates=replicates,
        set=overrides or [], plugins=plugins or [],
    )  # fmt: skip
    answers = report.answers
    for problem in first_of_each_kind(report.problems):
        say(problem, err=True)
    count = f"{format_count(len(answers.answers), 'answer')}, {format_count(len(answers.judgments), 'judgment')}"
    say(f"{answers.model}: {count} to {format_count(report.questions, 'question')} in {out}")
    for score in report.scores:
        value = "not scored" if score.value is None else f"{score.value:.2f}"
        interval = "" if score.low is None or score.high is None else f" [{score.low:.2f}, {score.high:.2f}]"
        note = f" ({score.note})" if score.note else ""
        say(f"{score.metric} = {value}{interval}, n = {score.n}, unscored {score.unscored}{note}")
        for key, detail in score.detail.items():
            say(f"    {key}: {detail if isinstance(detail, str) else format(detail, '.6g')}")
    if report.scores:
        judge = report.card.official_judge or "none"
        say(f"protocol: {report.card.version}; judge prompt {report.card.prompt_hash}; official judge {judge}")
        for deviation in report.card.deviations:
            say(f"  differs: {deviation}")
    for note in report.notes:
        say(f"note: {note}")


@app.command(epilog="Example: distilbench export my-model --out official  (or: export pocket --row dpo -b gsm8k)")
def export(
    answers: Annotated[str | None, typer.Argument(metavar="FOLDER|RUN", help=_ANSWERS)] = None,
    out: Annotated[Path, typer.Option(help="Folder to write the official tool's files to.")] = Path("official"),
    run: RunOrNone = None,
    row: Annotated[str | None, typer.Option(help="Which row of the run: student, dpo, ...")] = None,
    seed: Annotated[int, typer.Option(help="Which training seed of the row.")] = 0,
    benchmark: Annotated[str | None, typer.Option("--benchmark", "-b", help="Which benchmark of the run.")] = None,
    target: Annotated[str | None, typer.Option(help=_TARGET)] = None,
    model: Annotated[str | None, typer.Option(help="Name that the files give the model.")] = None,
    judge: Annotated[str | None, typer.Option(help="Name that the files give the judge.")] = None,
    partial: Annotated[bool, typer.Option("--partial", help=_LEFT_OUT)] = False,
    runs: Runs = Path("runs"),
    plugins: Plugins = None,
) -> None:
    """Write answers and judgments as files that alpaca_eval, arena-hard-auto, FastChat or lm-eval accept."""
    from distilbench.workflows.answers import answers_of_row, export_answers, missing_answers, read_import
    from distilbench.workflows.finished_run import load
    from results.run.record import has_record

    if (answers is None) == (run is None):
        raise UserError("name either a folder that `distilbench import` wrote, or a run with --row and --benchmark.")
    folder = Path(answers or "")
    if answers and folder.is_dir() and not (has_record(folder) or (folder / "run.json").is_file()):
        exported = read_import(folder)
    else:
        exported = answers_of_row(load(run or str(answers), runs=runs), row, benchmark, seed=seed, target=target)
    paths = export_answers(exported, out, model=model, judge=judge, plugins=plugins or [], partial=partial)
    if partial and (question_ids := missing_answers(exported, plugins or [])):
        examples = ", ".join(question_ids[:10]) + (", ..." if len(question_ids) > 10 else "")
        say(f"left out, without an answer: {format_count(len(question_ids), 'question')} ({examples})", err=True)
    show_files(paths)
