"""``list`` and ``report``: what can be named, and tables from what is in the store. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distilbench.cli.options import MinCoverage, Plugins, RecipeName, Runs, Target, check_runs

if TYPE_CHECKING:
    from results.run.results import Results
    from results.store.store import ArtifactStore


_UNWRAPPED = 300
"""Columns of a list where the output is no terminal: one line per row."""
_TABLE = 120
"""Columns of a table there."""


class What(StrEnum):
    """What ``list`` can list."""

    methods = "methods"
    benchmarks = "benchmarks"
    judges = "judges"
    recipes = "recipes"
    targets = "targets"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("list", epilog="Example: distilbench list methods --plugin my_method.py")(list_names)
    app.command(epilog="Example: distilbench report table1 --recipe pocket --min-coverage 0.9 --html")(report)


def list_names(
    what: Annotated[What | None, typer.Argument(help="Which of them; default: all.")] = None,
    plugins: Plugins = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Of methods: the paper, and every option with its default.")
    ] = False,
) -> None:
    """List what a recipe may name: methods, benchmarks, judges, recipes; and the targets of `reproduce`."""
    from distilbench.cli import list as listing
    from distilbench.plugins import load_registry
    from harness.recipe.yaml_source import shipped
    from reports.targets import TARGETS

    registry = load_registry(plugins or ())
    metrics = {name: ", ".join(metric.id for metric in each.metrics) for name, each in registry.benchmarks.items()}
    tables: dict[What, Sequence[tuple[str, ...]]] = {
        What.methods: [listing.row(method) for method in registry.methods.values()],
        What.benchmarks: [
            (name, "needs a judge" if each.judged else "graded by rule", metrics[name])
            for name, each in registry.benchmarks.items()
        ],
        What.judges: [(name, kind.summary, "") for name, kind in registry.judges.items()],
        What.recipes: [(name, title_of(name), "") for name in shipped()],
        What.targets: [(name, target.label, target.title) for name, target in TARGETS.items()],
    }
    for each in [what] if what else list(What):
        if each is What.methods and verbose:
            listing.print_details(list(registry.methods.values()))
        else:
            show_table(str(each.value), tables[each], listing.HEADS if each is What.methods else ())


def report(
    target: Target = "table1",
    recipe: RecipeName = "pocket",
    runs: Runs = Path("runs"),
    min_coverage: MinCoverage = None,
    html: Annotated[
        bool,
        typer.Option("--html", help="Also write report.html: tables, figures, run card, all questions and answers."),
    ] = False,
    plugins: Plugins = None,
) -> None:
    """Make a table again from what is in the store, without running anything (and without loading PyTorch).

    The recipe may be a shipped name, a YAML file, or the name of a folder under runs/.
    """
    from harness.recipe.yaml_source import read_source
    from reports.targets import ALL, find_targets
    from results.run.record import described, place
    from results.store.store import ArtifactStore

    wanted = [each.name for each in find_targets(target)]
    check_runs(runs)
    folder = runs / recipe
    if not described(folder):
        folder = runs / str(read_source(recipe).tree["name"])
    if target == ALL:  # those that there are
        wanted = [name for name in wanted if (place(folder, name) / "run.json").is_file()] or wanted[:1]
    store = ArtifactStore(runs / "store")
    found = [(name, write_target(folder, store, name, min_coverage)) for name in wanted]
    if html:
        shown = [(name, *made) for name, made in found if made is not None]
        from distilbench.workflows.page import write_run_page

        compared = [place(folder, name) for name in described(folder)]
        path = write_run_page(folder / "report" / "report.html", shown, store, plugins or (), compared)
        typer.echo(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)", err=True)


def write_target(
    folder: Path, store: ArtifactStore, target: str, min_coverage: float | None
) -> tuple[Results, float] | None:
    """Print a table on stdout and write its files under ``folder/report``; their paths go to stderr.

    ``folder`` is that of the recipe, ``runs/pocket``. ``min_coverage`` of ``None``: the recipe's own. Returns what the
    table was made from; nothing for a table of judges, which ``judges.json`` beside it describes.
    """
    from rich.console import Console

    from reports.targets import find_target
    from reports.write import terminal, write_report
    from results.run.costs import with_costs
    from results.run.record import place
    from results.run.results import load_results

    if find_target(target).layout == "judges":
        from distilbench.cli.compare_judges import write_judges

        write_judges(place(folder, target), store, folder / "report")
        return None
    results = load_results(place(folder, target), store)
    if find_target(target).measured:
        results = with_costs(results)
    coverage = results.run.recipe["statistics"]["min_coverage"] if min_coverage is None else min_coverage
    console = Console()
    if not console.is_terminal:
        console = Console(width=_TABLE)
    console.print(terminal(results, target, coverage))
    for path in write_report(results, target, folder / "report", coverage):
        typer.echo(f"wrote {path}", err=True)
    return results, coverage


def title_of(recipe: str) -> str:
    """A shipped recipe's own title."""
    from harness.recipe.yaml_source import read_source

    return str(read_source(recipe).tree.get("title", ""))


def show_table(title: str, rows: Sequence[tuple[str, ...]], heads: Sequence[str] = ()) -> None:
    """Rows under a title and, where there are any, heads; plain columns, so that grep and awk can read them."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    if heads:
        table.add_row(*(Text(head, style="italic") for head in heads))
    for row in rows:
        table.add_row(*(Text(cell, style="bold" if not position else "") for position, cell in enumerate(row)))
    console = Console()
    if not console.is_terminal:
        console = Console(width=_UNWRAPPED)
    console.print(Text(title, style="bold underline"))
    console.print(table)
    console.print()
