"""``import`` and ``export``: answers and judgments of the official tools, in and out; what comes in is scored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distilbench.cli.options import Overrides, Plugins, Runs
from harness.errors import UserError, unknown
from harness.plural import counted

if TYPE_CHECKING:
    from harness.contracts.benchmark import Benchmark
    from harness.types import Answer, Judgment, Question, Score
    from judges.formats import Imported

NOTE = "import.json"
"""What an import says of itself, beside ``answers.jsonl`` and ``judgments.jsonl``."""

BenchmarkName = Annotated[
    str, typer.Option("--benchmark", "-b", help="alpaca_eval, arena_hard, mt_bench, gsm8k or one of their variants.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("import", epilog="Example: distilbench import my-model/annotations.json -b alpaca_eval --out my-model")(
        import_
    )
    app.command(
        epilog="Example: distilbench export my-model --out official  (or: --run runs/pocket --row dpo -b gsm8k)"
    )(export)


@dataclass(frozen=True)
class Held:
    """Answers and judgments on disk, with what they belong to."""

    benchmark: str
    config: Mapping[str, Any]
    model: str
    answers: Sequence[Answer]
    judgments: Sequence[Judgment]
    judge: str
    baseline: str
    theirs: Sequence[Answer] = ()
    """The baseline's answers, where a run took them from one of its rows."""


def import_(
    files: Annotated[list[Path], typer.Argument(help="Files of alpaca_eval, arena-hard-auto, FastChat or lm-eval.")],
    benchmark: BenchmarkName,
    out: Annotated[Path, typer.Option(help="Folder to write answers.jsonl and judgments.jsonl to.")],
    model: Annotated[str | None, typer.Option(help="Which model, where the files hold several.")] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Accept missing, doubled and foreign rows; they are listed and counted.")
    ] = False,
    replicates: Annotated[int, typer.Option(min=0, help="Bootstrap resamples behind each interval.")] = 1000,
    overrides: Overrides = None,
    plugins: Plugins = None,
) -> None:
    """Read answers and judgments made elsewhere, check them against the questions, and score the judgments.

    The questions are the official ones unless --set questions=pocket. Exit code 2 when rows do not fit.
    """
    from distilbench.plugins import load_registry
    from harness.records import write_records
    from judges.formats import import_files

    adapter = _benchmark(benchmark, load_registry(plugins or ()).benchmarks)
    config, plain = _config(adapter, {"questions": "official"}, overrides or [])
    questions = adapter.questions(config)
    found = import_files(files, benchmark, questions, model)
    _refuse(found, partial)
    out.mkdir(parents=True, exist_ok=True)
    if found.answers:
        write_records(out / "answers.jsonl", found.answers)
    judgments = found.judgments or tuple(_graded(adapter, questions, found.answers, config))
    if judgments:
        write_records(out / "judgments.jsonl", judgments)
    name = found.model or out.name
    note = {
        "benchmark": benchmark,
        "config": plain,
        "model": name,
        "baseline": found.baseline,
        "files": {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
        "problems": list(found.problems),
    }
    (out / NOTE).write_text(json.dumps(note, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    typer.echo(
        f"{name}: {counted(len(found.answers), 'answer')}, {counted(len(judgments), 'judgment')} to "
        f"{counted(len(questions), 'question')} in {out}"
    )
    if judgments:
        _show(adapter, config, questions, (name, found.answers, judgments), replicates)


def _refuse(found: Imported, partial: bool) -> None:
    """Every problem on its own line. Raises UserError unless they are accepted."""
    if not found.answers and not found.judgments:
        raise UserError("\n".join(["nothing in these files belongs to the questions:", *found.problems]))
    for problem in found.problems:
        typer.echo(problem, err=True)
    if found.problems and not partial:
        count = counted(len(found.problems), "problem")
        raise UserError(f"{count} with these rows (listed above). --partial takes the rest all the same.")


def _show(
    adapter: Benchmark,
    config: Any,
    questions: Sequence[Question],
    entrant: tuple[str, Sequence[Answer], Sequence[Judgment]],
    replicates: int,
) -> None:
    from harness.contracts.benchmark import Entrant
    from harness.stats import seed_of

    name, answers, judgments = entrant
    scores = adapter.score(
        questions, {name: Entrant(answers, judgments)}, config, seed_of("bootstrap", adapter.name), replicates
    )[name]
    for score in scores:
        typer.echo(_line(score))
        for key, value in score.detail.items():
            typer.echo(f"    {key}: {value if isinstance(value, str) else format(value, '.6g')}")
    card = adapter.card(config)
    typer.echo(
        f"protocol: {card.version}; judge prompt {card.prompt_hash}; official judge {card.official_judge or 'none'}"
    )
    for deviation in card.deviations:
        typer.echo(f"  differs: {deviation}")


def _line(score: Score) -> str:
    value = "not scored" if score.value is None else f"{score.value:.2f}"
    interval = "" if score.low is None or score.high is None else f" [{score.low:.2f}, {score.high:.2f}]"
    note = f" ({score.note})" if score.note else ""
    return f"{score.metric} = {value}{interval}, n = {score.n}, unscored {score.unscored}{note}"


def export(
    folder: Annotated[Path | None, typer.Argument(help="A folder that `distilbench import` wrote.")] = None,
    out: Annotated[Path, typer.Option(help="Folder to write the official tool's files to.")] = Path("official"),
    run: Annotated[str | None, typer.Option(help="A run's name (or folder) instead of an imported folder.")] = None,
    row: Annotated[str | None, typer.Option(help="Which row of the run: student, dpo, ...")] = None,
    seed: Annotated[int, typer.Option(help="Which training seed of the row.")] = 0,
    benchmark: Annotated[str | None, typer.Option("--benchmark", "-b", help="Which benchmark of the run.")] = None,
    target: Annotated[
        str | None, typer.Option(help="Which target of the run; default: table1, or the only one.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Name that the files give the model.")] = None,
    judge: Annotated[str | None, typer.Option(help="Name that the files give the judge.")] = None,
    runs: Runs = Path("runs"),
    plugins: Plugins = None,
) -> None:
    """Write answers and judgments as files that alpaca_eval, arena-hard-auto, FastChat or lm-eval accept."""
    from distilbench.plugins import load_registry
    from harness.contracts.baseline import against
    from judges.formats import Exported, export_files

    if (folder is None) == (run is None):
        raise UserError("name either a folder that `distilbench import` wrote, or --run with --row and --benchmark.")
    held = _from_folder(folder) if folder is not None else _from_run(str(run), row, seed, benchmark, runs, target)
    adapter = _benchmark(held.benchmark, load_registry(plugins or ()).benchmarks)
    config, _ = _config(adapter, held.config, [])
    questions = adapter.questions(config)
    if held.theirs:
        questions = against(questions, held.theirs, held.baseline)
    baseline = held.baseline or next((str(q.meta["baseline"]) for q in questions if "baseline" in q.meta), "baseline")
    exported = Exported(
        model or held.model, questions, held.answers, held.judgments if adapter.judged else (),
        judge or held.judge, baseline,
    )  # fmt: skip
    for path in export_files(out, exported, held.benchmark):
        typer.echo(str(path))


def _from_folder(folder: Path) -> Held:
    from harness.records import read_records
    from harness.types import Answer, Judgment

    try:
        note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
        benchmark, config, model = note["benchmark"], note["config"], note["model"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder} is no folder that `distilbench import` wrote ({NOTE}: {error}).") from error
    answers, judgments = folder / "answers.jsonl", folder / "judgments.jsonl"
    given = read_records(judgments, Judgment) if judgments.is_file() else []
    judge = next((each.judge_model for each in given if each.judge_model), "")
    return Held(
        benchmark, config, model, read_records(answers, Answer) if answers.is_file() else [], given, judge,
        note.get("baseline", ""),
    )  # fmt: skip


def _from_run(
    run: str, row: str | None, seed: int, benchmark: str | None, runs: Path, target: str | None = None
) -> Held:
    """Answers and judgments of one row, found through the score that stands in its table."""
    from harness.records import read_records
    from harness.types import Answer, Judgment
    from results.run.record import read_run
    from results.store.store import ArtifactStore

    place = Path(run) if Path(run).is_dir() else runs / run
    read = read_run(_described(place, target) / "run.json")
    cells = [cell for cell in read.cells if cell.seed == seed and cell.score]
    cells = [cell for cell in cells if row in (None, cell.row) and benchmark in (None, cell.metric.split(".")[0])]
    places = {(cell.row, cell.metric.split(".")[0]) for cell in cells}
    if len(places) != 1:
        held = ", ".join(sorted({f"{c.row} {c.metric.split('.')[0]} seed {c.seed}" for c in read.cells if c.score}))
        raise UserError(f"{place}: name one --row, --benchmark and --seed. It holds: {held or 'no score yet'}.")
    cell = cells[0]
    name = cell.metric.split(".")[0]
    store = ArtifactStore(place.parent / "store")
    scored = store.meta("score", cell.score)

    def made(name: str, kind: str) -> Path:
        return store.path(*scored["inputs"][name].split("/")) / f"{kind}.jsonl"

    answers = read_records(made(f"answers:{cell.entrant}", "answers"), Answer)
    judgments = read_records(made(f"judgments:{cell.entrant}", "judgments"), Judgment)
    theirs = read_records(made("baseline", "answers"), Answer) if "baseline" in scored["inputs"] else []
    config = read.recipe["benchmarks"][name]
    options = {key: value for key, value in config.items() if key != "judge"}
    opponent = str(scored["params"].get("baseline", ""))
    return Held(
        name, options, f"{read.name}-{cell.row}-{seed}", answers, judgments, read.judges.get(name, ""), opponent, theirs
    )


def _described(place: Path, target: str | None) -> Path:
    """The folder of one target's run: the one that is named, else table1's, else the only one. Raises UserError."""
    from results.run.record import described

    names = described(place)
    default = "table1" if "table1" in names or not names else names[0] if len(names) == 1 else None
    if target is None and default is None:
        raise UserError(f"{place} holds several targets ({', '.join(names)}): name one with --target.")
    return place / str(target or default)


def _benchmark(name: str, known: Mapping[str, Benchmark]) -> Benchmark:
    if name not in known:
        raise unknown("benchmark", name, known)
    return known[name]


def _config(adapter: Benchmark, defaults: Mapping[str, Any], overrides: Sequence[str]) -> tuple[Any, dict[str, Any]]:
    """The benchmark's options. Raises RecipeError listing every mistake."""
    from harness.contracts.option_errors import RecipeError
    from harness.contracts.options import read_config
    from harness.recipe.yaml_source import read_overrides
    from harness.stages.context import build

    values, problems = read_overrides(overrides)
    plain, more = read_config(adapter.config, {**defaults, **values}, ())
    if problems + more:
        raise RecipeError(problems + more, "--set")
    return build(adapter.config, plain), plain


def _graded(
    adapter: Benchmark, questions: Sequence[Question], answers: Sequence[Answer], config: Any
) -> list[Judgment]:
    """Judgments by rule, where the benchmark has them."""
    known = {answer.question: answer for answer in answers}
    return [
        judgment
        for question in questions
        if question.id in known
        for judgment in adapter.grade(question, known[question.id], config)
    ]
