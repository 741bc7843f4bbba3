"""``recipe show`` and ``recipe check``."""

from __future__ import annotations

from typing import Annotated

import typer

from distilbench.cli.options import Overrides, Plugins, complete_recipe

app = typer.Typer(no_args_is_help=True, help="Show a recipe with every default written out, or check it.")

Name = Annotated[
    str, typer.Argument(help="A shipped recipe's name or the path of a YAML file.", autocompletion=complete_recipe)
]


@app.command(epilog="Example: distilbench recipe show pocket --set sampling.n=8 > mine.yaml")
def show(recipe: Name = "pocket", overrides: Overrides = None, plugins: Plugins = None) -> None:
    """Print the resolved recipe as YAML: what it extends merged, overrides applied, every default written out.

    What is printed is itself a recipe that gives the same results.
    """
    from distilbench.plugins import load_registry
    from harness.recipe.recipe import load_recipe

    typer.echo(load_recipe(recipe, overrides or [], load_registry(plugins or ())).to_yaml(), nl=False)


@app.command(epilog="Example: distilbench recipe check mine.yaml")
def check(recipe: Name = "pocket", overrides: Overrides = None, plugins: Plugins = None) -> None:
    """Check a recipe: all its mistakes at once, each with its line, the rule, the choices and the remedy."""
    from distilbench.plugins import load_registry
    from harness.plural import counted
    from harness.recipe.recipe import load_recipe

    loaded = load_recipe(recipe, overrides or [], load_registry(plugins or ()))
    parts = ((loaded.methods, "method"), (loaded.benchmarks, "benchmark"), (loaded.seeds, "seed"))
    counts = [counted(len(part), noun) for part, noun in parts]
    typer.echo(f"{recipe}: fine ({', '.join(counts)})")
