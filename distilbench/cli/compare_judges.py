"""``compare-judges``: other judges on the answers of a run, or annotations made elsewhere, compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distilbench.cli.options import Force, Listed, MaxCost, Plugins, RunOrNone, Runs, words
from distilbench.cli.plan import show_plan
from distilbench.cli.screen import Display, console_of, say, show_files, spending
from harness.errors import UserError

if TYPE_CHECKING:
    from distilbench.workflows.compare_judges import ComparisonOptions
    from reports.judge_comparison.compare import JudgeComparison

app = typer.Typer()
_JUDGES = (
    "Judges, separated by commas: names of the run's recipe, known models, KIND:MODEL, MODEL@URL, {kind: ..., ...}; "
    "NAME=... names one. The first one's conclusions are checked against the others. "
    "Default: the run's own, or all annotators."
)
_ANNOTATIONS = "Compare these annotations (alpaca_eval's JSON, CSV, Parquet), not a run."
_HUMANS = "Human annotations of the same answers, several per answer."
_SIMULATED = "On pocket: N people simulated from the true scores, instead of a file."
_BENCHMARKS = "Only these benchmarks of the run."
_REPEATS = "Ask every question this often: 2 (default) tells noise from bias, at double the cost."
_OWN = "Rows whose answers come from a judge's own family; default: by their names."
_BUDGET = "Recommend a judge, and a way to ask it, that costs at most so many dollars for one pass."
_OUT = "Folder of tables and figures; default: runs/NAME/TARGET/judges. Runs and replies of judges go under --runs."


@app.command(epilog="Example: distilbench compare-judges --run pocket --judges main,gpt-4.1,small=llama@http://HOST/v1")
def compare_judges(
    judges: Annotated[str | None, typer.Option(help=_JUDGES)] = None,
    run: RunOrNone = None,
    annotations: Annotated[list[Path] | None, typer.Option(metavar="FILE", help=_ANNOTATIONS)] = None,
    humans: Annotated[Path | None, typer.Option(metavar="FILE", help=_HUMANS)] = None,
    simulate_humans: Annotated[int | None, typer.Option(min=2, metavar="N", help=_SIMULATED)] = None,
    benchmarks: Annotated[str | None, typer.Option(help=_BENCHMARKS)] = None,
    repeats: Annotated[int | None, typer.Option(min=1, help=_REPEATS)] = None,
    own: Annotated[list[str] | None, typer.Option(metavar="JUDGE=ROW,ROW", help=_OWN)] = None,
    budget: Annotated[float | None, typer.Option(min=0.0, help=_BUDGET)] = None,
    max_cost: MaxCost = None,
    plugins: Plugins = None,
    runs: Runs = Path("runs"),
    out: Annotated[Path | None, typer.Option(help=_OUT)] = None,
    replicates: Annotated[int, typer.Option(min=100, help="Bootstrap resamples of the questions.")] = 1000,
    plan_only: Listed = False,
    force: Force = False,
) -> None:
    """Compare judges: do they agree, do they rank the methods alike, what are they biased by, what do they cost.

    A run's answers are judged again in both orders, through the ledger, so nothing is asked twice.
    """
    from distilbench.workflows import compare_judges as workflow

    names = split_judges(judges or "")
    paths: list[Path] = []
    options: ComparisonOptions = {"humans": humans, "replicates": replicates, "out": out, "runs": runs}
    options["on_files"] = paths.extend
    if own:
        options["own_rows"] = own_rows(own)
    if annotations:
        for_runs = {"--run": run, "--benchmarks": benchmarks, "--repeats": repeats, "--budget": budget,
                    "--simulate-humans": simulate_humans, "--max-cost": max_cost, "--plugin": plugins,
                    "--plan": plan_only or None}  # fmt: skip
        useless = [option for option, value in for_runs.items() if value is not None]
        if useless:
            raise UserError(f"{', '.join(useless)}: only for the answers of a run, which --annotations has none of.")
        show(workflow.compare_annotations(annotations, names, **options), paths)
        return
    options |= {"max_cost": max_cost, "budget": budget, "repeats": repeats or 2, "plugins": tuple(plugins or ())}
    options |= {"benchmarks": words(benchmarks or ""), "simulate_humans": simulate_humans or 0}
    if plan_only:
        show_plan(workflow.plan_judge_comparison(run or "pocket", names, **options), "judges")
        return
    with Display(spent=spending(runs)) as display:
        comparison = workflow.compare_judges(run or "pocket", names, force=force, listener=display, **options)
    show(comparison, paths)


def show(comparison: JudgeComparison, paths: Sequence[Path]) -> None:
    """The tables, and one line of the files that hold them."""
    from reports.formats.terminal import TerminalTable
    from reports.judge_comparison.tables import comparison_tables

    console, tables = console_of(160), comparison_tables(comparison)
    for sentence in tables[0].summary:
        say(label=sentence)
    for table in tables:
        console.print(TerminalTable(table), "")
    if paths:
        show_files(paths)


def split_judges(text: str) -> list[str]:
    """Judges separated by commas, but not by those inside braces: ``main,{kind: pocket, noise: 1}``."""
    parts, depth = [""], 0
    for char in text:
        depth += (char in "{[") - (char in "}]")
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return list(dict.fromkeys(part.strip() for part in parts if part.strip()))


def own_rows(options: Sequence[str]) -> dict[str, list[str]]:
    """Judge to rows, from ``JUDGE=ROW,ROW``. Raises UserError for anything else."""
    rows_by_judge = {}
    for option in options:
        judge, _, rows = option.partition("=")
        if not (judge and words(rows)):
            raise UserError(f"--own {option}: must be JUDGE=ROW,ROW.")
        rows_by_judge[judge] = words(rows)
    return rows_by_judge
