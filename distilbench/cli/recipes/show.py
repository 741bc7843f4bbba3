"""``recipe show``, ``check``, ``schema`` and ``reference``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distilbench.cli.help import HelpGroup
from distilbench.cli.options import Overrides, Plugins, RecipeArgument
from distilbench.cli.screen import say
from harness.text import format_count

if TYPE_CHECKING:
    from harness.contracts.registry import Registry
    from harness.recipe.recipe import Recipe

app = typer.Typer()
recipes = typer.Typer(cls=HelpGroup, no_args_is_help=True, help="Show, explain or check a recipe; its JSON Schema.")
app.add_typer(recipes, name="recipe")
_EXPLAIN = "Show each value with its meaning, its type, its default, and where it was set."
_OUT = "Write it to this file."


@recipes.command(epilog="Example: distilbench recipe show pocket --set sampling.n=8 > mine.yaml")
def show(
    recipe: RecipeArgument = "pocket",
    overrides: Overrides = None,
    plugins: Plugins = None,
    explain: Annotated[bool, typer.Option("--explain", help=_EXPLAIN)] = False,
) -> None:
    """Print a recipe as YAML, with what it extends, --set and every default. The output is itself a recipe."""
    resolved = read_recipe(recipe, overrides, plugins)
    if explain:
        show_explained(resolved, recipe, overrides or [], plugins or [])
    else:
        typer.echo(resolved.to_yaml(), nl=False)


def show_explained(recipe: Recipe, name: str, overrides: list[str], plugins: list[str]) -> None:
    from harness.recipe.reference import explain
    from harness.recipe.yaml_source import read_source

    for line in explain(recipe, read_source(name, overrides), registry_of(plugins)):
        option = line.option
        default = "required" if option.default is None else f"default {option.default}"
        if line.value == option.default and not line.place:
            default = "the default"
        say(f": {line.value}", label=line.path)
        say(f"    {option.sentence}", hang=0)
        say(f"    ({'; '.join(filter(None, (option.type, default, line.place and f'set in {line.place}')))})", hang=1)


@recipes.command(epilog="Example: distilbench recipe schema --plugin my_method.py --out recipe.schema.json")
def schema(
    plugins: Plugins = None, out: Annotated[Path | None, typer.Option(metavar="FILE", help=_OUT)] = None
) -> None:
    """Print the JSON Schema (draft 2020-12) of recipe files, for editors and other programs.

    Beside a recipe that begins with `# yaml-language-server: $schema=recipe.schema.json`, editors complete and check.
    """
    from harness.recipe.schema import recipe_schema, schema_text

    text = schema_text(recipe_schema(registry_of(plugins)))
    if out is None:
        typer.echo(text, nl=False)
    else:
        out.write_text(text, encoding="utf-8")
        say(f"files: {out}", err=True)


@recipes.command(epilog="Example: distilbench recipe reference > docs/recipe.md")
def reference(plugins: Plugins = None) -> None:
    """Print the page docs/recipe.md: every option of a recipe, with type, default and a sentence."""
    from harness.recipe.reference import markdown

    typer.echo(markdown(registry_of(plugins)), nl=False)


@recipes.command(epilog="Example: distilbench recipe check mine.yaml")
def check(recipe: RecipeArgument = "pocket", overrides: Overrides = None, plugins: Plugins = None) -> None:
    """Check a recipe: all its mistakes at once, each with its line, the rule, the choices and the remedy."""
    checked_recipe = read_recipe(recipe, overrides, plugins)
    parts = (
        (checked_recipe.methods, "method"),
        (checked_recipe.benchmarks, "benchmark"),
        (checked_recipe.seeds, "seed"),
    )
    say(f"{recipe}: fine ({', '.join(format_count(len(part), noun) for part, noun in parts)})")


def read_recipe(recipe: str, overrides: list[str] | None, plugins: list[str] | None) -> Recipe:
    from harness.recipe.recipe import load_recipe

    return load_recipe(recipe, overrides or (), registry_of(plugins))


def registry_of(plugins: list[str] | None) -> Registry:
    from distilbench.plugins import load_registry

    return load_registry(plugins or ())
