"""The tables of contents: ``list``, ``check-method`` and its like."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distilbench.cli.options import EntryOptions, Plugins, Runs, completing
from distilbench.cli.screen import say, show_rows
from harness.errors import UserError, unknown_choice
from reports.targets import TARGETS

if TYPE_CHECKING:
    from harness.contracts.method import Method

app = typer.Typer()
HEADS = ("method", "title", "learns from", "the teacher gives", "needs besides", "rounds")
ANSWERS = {
    "golden": "reference answers", "rejected": "rejected answers", "teacher": "the teacher's answers",
    "samples": "own samples", "rollouts": "answers it samples while training",
}  # fmt: skip
TEACHERS = {"family": "the teacher", "tuned": "the tuned teacher"}
LISTS = ("methods", "benchmarks", "judges", "sources", "backends", "executors", "recipes", "targets")
RUNS = "runs"
_LIST = f"Which of them: {', '.join(LISTS)}, or {RUNS}; default: all but the runs."
_VERBOSE = "For methods: the paper, what a search varies, and every option with its default."


def row(method: Method) -> tuple[str, ...]:
    """The columns of ``HEADS``, with the method's default options."""
    needs = method.needs
    answers = " and ".join(ANSWERS[source] for source in needs.responses)
    conditions = {
        "shared vocabulary": needs.signal == "token",
        "reference": needs.reference,
        f"starts from {needs.start}": needs.start,
    }
    other_needs = [text for text, holds in conditions.items() if holds]
    other_needs += [f"sampling.{name} = {value:g}" for name, value in needs.sampling.items()]
    return (
        method.name,
        method.title,
        answers,
        signal(method),
        ", ".join(other_needs) or "nothing",
        "yes" if needs.rounds else "no",
    )


def signal(method: Method) -> str:
    """The teacher's part, while the method trains or before."""
    needs = method.needs
    if needs.signal != "token":
        answers = "its answers" if "teacher" in needs.responses else "nothing"
        return "a reward per response" if needs.signal == "response" else answers
    teachers = " and ".join(TEACHERS[teacher] for teacher in needs.teachers)
    storage = method.storage(method.config())
    return f"live distributions of {teachers}" if storage is None else f"top {storage.top_k} of {teachers}, stored"


def details(method: Method) -> list[tuple[str, str]]:
    from harness.contracts.options import explanations, json_data

    texts = explanations(method.config)
    options = [
        (f"{name} = {json.dumps(value)}", texts.get(name, "")) for name, value in json_data(method.config()).items()
    ]
    space = "; ".join(f"{knob}={text}" for knob, text in method.space.items())
    facts = zip(HEADS[2:], row(method)[2:], strict=True)
    return [("paper", method.paper), *facts, ("a search varies", space), *options]


@app.command("list", epilog="Example: distilbench list methods --plugin my_method.py")
def list_names(
    table: Annotated[str | None, typer.Argument(help=_LIST, autocompletion=completing(lambda: (*LISTS, RUNS)))] = None,
    plugins: Plugins = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help=_VERBOSE)] = False,
    runs: Runs = Path("runs"),
) -> None:
    """List what a recipe may name, the shipped recipes, and the targets; with the word runs, your runs."""
    from distilbench.plugins import load_registry
    from harness.recipe.yaml_source import read_source, shipped_recipes

    if table is not None and table not in (*LISTS, RUNS):
        raise unknown_choice("list", table, (*LISTS, RUNS))
    if table == RUNS:
        show_runs(runs)
        return
    registry = load_registry(plugins or ())
    if table == "methods" and verbose:
        for method in registry.methods.values():
            show_rows(f"{method.name}  {method.title}", details(method), width=120)
        return
    tables: dict[str, list[tuple[str, ...]]] = {
        noun: [(name, entry.summary) for name, entry in getattr(registry, noun).items()]
        for noun in ("judges", "sources", "backends", "executors")
    }
    # Methods have more columns: their needs decide which of them suit a family and a budget.
    tables["methods"] = [row(method) for method in registry.methods.values()]
    tables["benchmarks"] = [
        (
            name,
            "needs a judge" if entry.needs_judge else "graded by rule",
            ", ".join(metric.id for metric in entry.metrics) if entry.official else f"kind: {entry.summary}",
        )
        for name, entry in registry.benchmarks.items()
    ]
    tables["recipes"] = [(name, str(read_source(name).tree.get("title", ""))) for name in shipped_recipes()]
    tables["targets"] = [(name, target.label, target.title) for name, target in TARGETS.items()]
    for noun in [table] if table else LISTS:
        show_rows(noun, tables[noun], HEADS if noun == "methods" else ())


def show_runs(runs: Path) -> None:
    from results.run.find import run_names
    from results.run.record import read_run, recorded_targets, run_facts

    rows: list[tuple[str, ...]] = []
    heads: tuple[str, ...] = ()
    for name in run_names(runs):
        try:
            records = {target: read_run(runs / name / target / "run.json") for target in recorded_targets(runs / name)}
            facts = run_facts(records)
        except UserError as error:  # of one run: the others are listed
            rows.append((name, f"cannot be read: {error}"))
            continue
        heads = ("run", *facts)
        rows.append((name, *facts.values()))
    if not rows:
        raise UserError(f"{runs} holds no run: run a recipe first (distilbench run), or name --runs FOLDER.")
    show_rows(str(runs), rows, heads)


CHECKS = {
    "method": "trains it on tiny random models",
    "benchmark": "asks a model without weights, reads hostile replies, scores",
    "judge": "asks it two questions",
    "source": "reads its first prompts",
    "backend": "generates and reads log-probabilities with a tiny checkpoint",
    "executor": "runs stages that compute nothing",
}
_ENTRY = "An entry's name, or a Python file that defines one; of a benchmark also a recipe with columns of your own."
NameOrFile = Annotated[str, typer.Argument(metavar="NAME_OR_FILE", help=_ENTRY)]


def check_command(entry: str) -> Callable[..., None]:
    def check(name_or_file: NameOrFile, plugins: Plugins = None, overrides: EntryOptions = None) -> None:
        from distilbench.workflows.check import check as run_checks

        failure_count, names = 0, set()
        for checked_entry, finding in run_checks(f"{entry}s", name_or_file, overrides or [], plugins or []):
            if checked_entry.name not in names:  # a file may bring several entries: each has a heading
                about = getattr(checked_entry, "paper", "") or getattr(checked_entry, "summary", "")
                say(f"{checked_entry.name}: {about}")
            names.add(checked_entry.name)
            failure_count += finding.problem is not None
            state = "ok    " if finding.problem is None else "FAILED"
            say(f"{state} {finding.name:<14} {finding.problem or finding.detail}")
        if failure_count:
            say(f"{failure_count} failed: docs/add-a-{entry}.md says what the contract asks.", err=True)
            raise typer.Exit(1)

    article = "an" if entry[0] in "aeiou" else "a"
    # Typer's help of a command is its docstring.
    check.__doc__ = f"Check {article} {entry} against its contract: {CHECKS[entry]}. Exit code 1 if a check failed."
    return check


for name in CHECKS:
    app.command(f"check-{name}")(check_command(name))
