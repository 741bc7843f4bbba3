"""Options that several commands share, with the completion of their values."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from harness.errors import UserError
from reports.targets import TARGETS

Command = TypeVar("Command", bound=Callable[..., None])
ALL = "all"  # every row of --methods; of targets, every table and figure


def completing(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """Shell completion of one of these names (the shell itself completes paths)."""
    return lambda incomplete: [name for name in names() if name.startswith(incomplete)]


def recipe_names() -> Iterable[str]:
    from harness.recipe.yaml_source import shipped_recipes

    return shipped_recipes()


def complete_rows(incomplete: str) -> list[str]:
    """Method ids in a comma-separated list: the last one is completed."""
    from methods import METHODS

    head, comma, start = incomplete.rpartition(",")
    return [f"{head}{comma}{name}" for name in (ALL, "teacher", "student", *METHODS) if name.startswith(start)]


def words(text: str | None) -> list[str]:
    """A comma-separated option as a list, in order, repeated words once."""
    return list(dict.fromkeys(word.strip() for word in (text or "").split(",") if word.strip()))


def numbers(text: str | None) -> list[int]:
    try:
        return [int(word) for word in words(text)]
    except ValueError as error:
        raise UserError(f"--seeds {text}: must be whole numbers, separated by commas.") from error


_RECIPE = "A shipped recipe's name or the path of a YAML file."
_RUN = "A run: its name under --runs (pocket, or pocket/table1), the path of its folder, or its recipe."
_TARGET = "Table or figure of the paper (table1), several with commas, or all."
_METHODS = "Rows to make, separated by commas, or all; default: the target's and the recipe's."
_SEEDS = "Training seeds, separated by commas; default: the recipe's."
_PLUGIN = "A Python file (or module) of yours that defines METHOD, BENCHMARK, JUDGE, SOURCE, BACKEND or EXECUTOR."
_COVERAGE = "Refuse cells with a smaller share of scored questions; 0 shows all, with their coverage."
_COST = "Dollars that judging may cost, checked before the run and during it."
_BASELINE = "Compare with this row's answers (student, say): head-to-head, not official."
_EXECUTOR = "What runs the stages (`distilbench list executors`)."
_RUNS = "Folder of runs and of the store they share."
_NOTES = "Also print what the JSON contains: other tests, power, variance, protocols, deviations."
_SET = "Change one value of the recipe: train.learning_rate=1e-6."
_ENTRY_SET = "Set one option of the entry (the benchmark, the judge, ...): sft_weight=0.1."

Target = Annotated[str, typer.Argument(help=_TARGET, autocompletion=completing(lambda: (*TARGETS, ALL)))]
RecipeName = Annotated[str, typer.Option("--recipe", "-r", help=_RECIPE, autocompletion=completing(recipe_names))]
RecipeArgument = Annotated[str, typer.Argument(help=_RECIPE, autocompletion=completing(recipe_names))]
RunName = Annotated[str, typer.Option("--run", "--recipe", "-r", metavar="RUN", help=_RUN)]
RunOrNone = Annotated[str | None, typer.Option("--run", "--recipe", "-r", metavar="RUN", help=_RUN)]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help=_RUN)]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help=_SET)]
EntryOptions = Annotated[list[str] | None, typer.Option("--set", metavar="OPTION=VALUE", help=_ENTRY_SET)]
Plugins = Annotated[list[str] | None, typer.Option("--plugin", metavar="FILE", help=_PLUGIN)]
Methods = Annotated[str | None, typer.Option(help=_METHODS, autocompletion=complete_rows, callback=words)]
Seeds = Annotated[str | None, typer.Option(help=_SEEDS, callback=numbers)]
Baseline = Annotated[str | None, typer.Option(metavar="ROW", help=_BASELINE)]
Limit = Annotated[int | None, typer.Option(min=1, help="At most so many questions of each benchmark.")]
MinCoverage = Annotated[float | None, typer.Option(min=0.0, max=1.0, help=_COVERAGE)]
MaxCost = Annotated[float | None, typer.Option(min=0.0, help=_COST)]
Executor = Annotated[str | None, typer.Option(metavar="NAME", help=_EXECUTOR)]
Runs = Annotated[Path, typer.Option(envvar="DISTILBENCH_RUNS", help=_RUNS)]
# Flags are named, because typer would add a --no-force to one that is not.
Notes = Annotated[bool, typer.Option("--notes", help=_NOTES)]
Force = Annotated[bool, typer.Option("--force", help="Run although the checks before it found problems.")]
Listed = Annotated[bool, typer.Option("--plan", help="Show what would be asked and what it costs.")]

WORK_OPTIONS: Mapping[str, tuple[object, object]] = {
    "set": (Overrides, []),
    "max_cost": (MaxCost, None),
    "executor": (Executor, None),
    "plugins": (Plugins, []),
    "runs": (Runs, Path("runs")),
}
"""Keyword of a workflow (``WorkOptions``) to the option that fills it, and its default."""
RUN_OPTIONS = {
    "methods": (Methods, None), "seeds": (Seeds, None), "baseline": (Baseline, None), "limit": (Limit, None),
    **WORK_OPTIONS,
}  # fmt: skip


def takes(options: Mapping[str, tuple[object, object]]) -> Callable[[Command], Command]:
    """Give a command these options in place of its ``**options``: typer has no groups of options."""

    def declare(command: Command) -> Command:
        # Typer evaluates annotations; those of ``options`` would import the workflow, and with it numpy and pydantic.
        command.__annotations__.pop("options")
        signature = inspect.signature(command, eval_str=True)
        parameters = [
            parameter for parameter in signature.parameters.values() if parameter.kind is not parameter.VAR_KEYWORD
        ]
        parameters += [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for name, (annotation, default) in options.items()
        ]
        command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        return command

    return declare
