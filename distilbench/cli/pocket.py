"""``pocket premises``: whether pocket is in the regime of the paper that it stands for."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Unpack

import typer

from distilbench.cli.options import RUN_OPTIONS, Force, RecipeName, takes
from distilbench.cli.screen import Display, console_of

if TYPE_CHECKING:
    from distilbench.workflows.plan import RunOptions

app = typer.Typer()
pocket = typer.Typer(help="The pocket world: what it is like.", no_args_is_help=True)
app.add_typer(pocket, name="pocket")


@pocket.callback()
def group() -> None: ...


@pocket.command(epilog="Example: distilbench pocket premises --seeds 0,1,2")
@takes(RUN_OPTIONS)
def premises(
    recipe: RecipeName = "pocket",
    out: Annotated[Path | None, typer.Option(help="A JSON file for the numbers.")] = None,
    force: Force = False,
    **options: Unpack[RunOptions],
) -> None:
    """Measure the seven conditions under which pocket can test the paper's claims, and say which hold.

    The rows of Table 1 that they need are run, where they are missing.
    """
    from distilbench.workflows.premises import premises as measure

    with Display() as display:
        found = measure(recipe, force=force, listener=display, **options)
    console = console_of()
    for premise in found:
        verdict = {True: "holds", False: "does not hold", None: "to know"}[premise.holds]
        bound = f" ({premise.bound})" if premise.bound else ""
        console.print(f"{premise.name} {verdict}: {premise.claim}{bound}", highlight=False)
        width = max(map(len, premise.numbers))
        for name, value in premise.numbers.items():
            shown = f"{value:.3f}" if isinstance(value, float) else str(value)
            console.print(f"   {name:<{width}}  {shown}", highlight=False, markup=False)
    if out is not None:
        out.write_text(json.dumps([asdict(premise) for premise in found], indent=1) + "\n", encoding="utf-8")
