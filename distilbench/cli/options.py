"""Options that several commands share, with the completion of their values."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.errors import UserError
from methods import METHODS
from reports.targets import TARGETS

if TYPE_CHECKING:
    from distilbench.workflows.plan import RunOptions

ALL = "all"
"""Completes ``--methods`` (every row) and a target (every table and figure)."""


def complete_recipe(incomplete: str) -> list[str]:
    """Shipped recipes (the shell itself completes paths)."""
    from harness.recipe.yaml_source import shipped

    return [name for name in shipped() if name.startswith(incomplete)]


def complete_target(incomplete: str) -> list[str]:
    return [name for name in (*TARGETS, ALL) if name.startswith(incomplete)]


def complete_rows(incomplete: str) -> list[str]:
    """Method ids in a comma-separated list: the last one is completed."""
    head, comma, last = incomplete.rpartition(",")
    return [f"{head}{comma}{name}" for name in (ALL, "teacher", "student", *METHODS) if name.startswith(last)]


Target = Annotated[
    str,
    typer.Argument(
        help="Table or figure of the paper (table1), several with commas, or all.", autocompletion=complete_target
    ),
]
RecipeName = Annotated[
    str,
    typer.Option(
        "--recipe", "-r", help="A shipped recipe's name or the path of a YAML file.", autocompletion=complete_recipe
    ),
]
RecipeArgument = Annotated[
    str, typer.Argument(help="A shipped recipe's name or the path of a YAML file.", autocompletion=complete_recipe)
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Change one value of the recipe: train.learning_rate=1e-6."),
]
Plugins = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin",
        metavar="FILE",
        help="A Python file (or module) of yours that defines METHOD, BENCHMARK, JUDGE, SOURCE, BACKEND or EXECUTOR.",
    ),
]
Methods = Annotated[
    str | None,
    typer.Option(
        "--methods",
        help="Rows to make, separated by commas, or all; default: the target's and the recipe's.",
        autocompletion=complete_rows,
    ),
]
Seeds = Annotated[
    str | None, typer.Option("--seeds", help="Training seeds, separated by commas; default: the recipe's.")
]
Notes = Annotated[
    bool,
    typer.Option(
        "--notes", help="Print all that the table's JSON has to say too: other tests, power, variance, protocols."
    ),
]
MinCoverage = Annotated[
    float | None,
    typer.Option(
        "--min-coverage",
        min=0.0,
        max=1.0,
        help="Refuse cells with a smaller share of scored questions; 0 shows all, with their coverage.",
    ),
]
MaxCost = Annotated[
    float | None,
    typer.Option(
        "--max-cost", min=0.0, help="Dollars that judging may cost; checked before it starts and while asking."
    ),
]
Baseline = Annotated[
    str | None,
    typer.Option(
        "--baseline", metavar="ROW", help="Compare with this row's answers (student, say): head-to-head, not official."
    ),
]
Executor = Annotated[
    str | None,
    typer.Option("--executor", metavar="NAME", help="What runs the stages (`distilbench list executors`)."),
]
Runs = Annotated[
    Path, typer.Option("--runs", envvar="DISTILBENCH_RUNS", help="Folder of runs and of the store they share.")
]


Force = Annotated[bool, typer.Option("--force", help="Run although the checks before it found problems.")]


def run_options(
    overrides: list[str] | None,
    methods: str | None,
    seeds: str | None,
    plugins: list[str] | None,
    runs: Path,
    max_cost: float | None,
    baseline: str | None,
    executor: str | None,
) -> RunOptions:
    options: RunOptions = {"set": overrides or [], "methods": words(methods), "plugins": plugins or [], "runs": runs}
    try:
        options["seeds"] = [int(seed) for seed in words(seeds)]
    except ValueError as error:
        raise UserError(f"--seeds {seeds}: must be whole numbers, separated by commas.") from error
    return {**options, "max_cost": max_cost, "baseline": baseline, "executor": executor}


def words(text: str | None) -> list[str]:
    """A comma-separated option as a list, in order, repeated words once."""
    return list(dict.fromkeys(word.strip() for word in (text or "").split(",") if word.strip()))
