"""``list`` and ``recipe``: what a recipe may name, and a recipe with every default written out."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from distilbench.cli.options import Overrides, Plugins, RecipeArgument
from harness.contracts.options import explanations, plain

if TYPE_CHECKING:
    from harness.contracts.method import Method

HEADS = ("method", "title", "learns from", "the teacher gives", "needs besides")
ANSWERS = {
    "golden": "golden answers",
    "rejected": "rejected answers",
    "teacher": "the teacher's answers",
    "samples": "own samples",
    "rollouts": "own live answers",
}
TEACHERS = {"family": "the teacher", "tuned": "the tuned teacher"}


def row(method: Method) -> tuple[str, ...]:
    """The columns of ``HEADS``."""
    return (method.name, method.title, *needs(method))


def needs(method: Method) -> tuple[str, str, str]:
    """Whose answers, which teacher signal (with the method's default options), what besides."""
    answers = " and ".join(ANSWERS[source] for source in method.needs.responses)
    return answers, signal(method), ", ".join(besides(method)) or "nothing"


def signal(method: Method) -> str:
    """What the teacher says while the method trains, or before."""
    kind = method.needs.signal
    if kind == "none":
        return "its answers" if "teacher" in method.needs.responses else "nothing"
    if kind == "response":
        return "a reward per response"
    stored = method.stored(method.config())
    if stored is None:
        tuned = " of the tuned teacher" if method.needs.teachers[0] == "tuned" else ""
        return f"live distributions{tuned}"
    whose = " and ".join(TEACHERS[teacher] for teacher in method.needs.teachers)
    return f"stored distributions of {whose} (top {stored.top_k})"


def besides(method: Method) -> list[str]:
    """The other needs, and what the method can do beyond one training."""
    needs = method.needs
    said = {
        "shared vocabulary": needs.shared_vocabulary,
        "reference": needs.reference,
        f"starts from {needs.start}": needs.start is not None,
        "can have rounds": needs.rounds,
    }
    own = [f"sampling.{name} = {value:g}" for name, value in needs.sampling.items()]
    return [text for text, holds in said.items() if holds] + own


def details(method: Method) -> list[tuple[str, str]]:
    """(what, text) lines: the paper, the needs, and every option with its default and its sentence."""
    lines = [("paper", method.paper), *zip(HEADS[2:], needs(method), strict=True)]
    told = explanations(method.config)
    for name, value in plain(method.config()).items():
        lines.append((f"{name} = {shown(value)}", told.get(name, "")))
    return lines


def shown(value: object) -> str:
    """A default as YAML writes it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


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
    recipes = typer.Typer(no_args_is_help=True, help="Show a recipe with every default written out, or check it.")
    recipes.command("show", epilog="Example: distilbench recipe show pocket --set sampling.n=8 > mine.yaml")(show)
    recipes.command("check", epilog="Example: distilbench recipe check mine.yaml")(check)
    app.add_typer(recipes, name="recipe")


def list_names(
    what: Annotated[What | None, typer.Argument(help="Which of them; default: all.")] = None,
    plugins: Plugins = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Of methods: the paper, and every option with its default.")
    ] = False,
) -> None:
    """List methods, benchmarks, judges, recipes and targets."""
    from distilbench.cli.screen import show_rows
    from distilbench.plugins import load_registry
    from harness.recipe.yaml_source import read_source, shipped
    from reports.targets import TARGETS

    registry = load_registry(plugins or ())
    metrics = {name: ", ".join(metric.id for metric in each.metrics) for name, each in registry.benchmarks.items()}
    tables: dict[What, Sequence[tuple[str, ...]]] = {
        What.methods: [row(method) for method in registry.methods.values()],
        What.benchmarks: [
            (name, "needs a judge" if each.judged else "graded by rule", metrics[name])
            for name, each in registry.benchmarks.items()
        ],
        What.judges: [(name, kind.summary) for name, kind in registry.judges.items()],
        What.recipes: [(name, str(read_source(name).tree.get("title", ""))) for name in shipped()],
        What.targets: [(name, target.label, target.title) for name, target in TARGETS.items()],
    }
    for each in [what] if what else list(What):
        if each is What.methods and verbose:
            for method in registry.methods.values():
                show_rows(f"{method.name}  {method.title}", details(method), width=120)
        else:
            show_rows(str(each.value), tables[each], HEADS if each is What.methods else ())


def show(recipe: RecipeArgument = "pocket", overrides: Overrides = None, plugins: Plugins = None) -> None:
    """Print a recipe as YAML, with what it extends, --set and every default. The output is itself a recipe."""
    from distilbench.plugins import load_registry
    from harness.recipe.recipe import load_recipe

    typer.echo(load_recipe(recipe, overrides or [], load_registry(plugins or ())).to_yaml(), nl=False)


def check(recipe: RecipeArgument = "pocket", overrides: Overrides = None, plugins: Plugins = None) -> None:
    """Check a recipe: all its mistakes at once, each with its line, the rule, the choices and the remedy."""
    from distilbench.plugins import load_registry
    from harness.plural import counted
    from harness.recipe.recipe import load_recipe

    loaded = load_recipe(recipe, overrides or [], load_registry(plugins or ()))
    parts = ((loaded.methods, "method"), (loaded.benchmarks, "benchmark"), (loaded.seeds, "seed"))
    typer.echo(f"{recipe}: fine ({', '.join(counted(len(part), noun) for part, noun in parts)})")
