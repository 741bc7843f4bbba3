"""``check-method``: the contract checks over a method of ours or of somebody else's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from distilbench.cli.options import Overrides, Plugins

if TYPE_CHECKING:
    from harness.contracts.method import Method


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("check-method")(check_method)


def check_method(
    what: Annotated[str, typer.Argument(metavar="FILE_OR_NAME", help="A Python file with METHOD, or a method's name.")],
    plugins: Plugins = None,
    overrides: Overrides = None,
) -> None:
    """Check a method against its contract: trains it on tiny random models, in seconds, and prints a line per check.

    Options of the method are set by --set beta=0.05. Exit code 1 if a check failed.
    """
    from distilbench.workflows.specs import read_options
    from harness.checks.method import check_method as run_checks

    failed = 0
    for method in chosen(what, plugins or []):
        typer.echo(f"{method.name}: {method.paper}")
        for finding in run_checks(method, read_options(method.config, overrides or [])):
            failed += finding.problem is not None
            state = "ok    " if finding.problem is None else "FAILED"
            typer.echo(f"{state} {finding.name:<14} {finding.problem or finding.detail}")
    if failed:
        typer.echo(f"{failed} failed: docs/add-a-method.md says what the contract asks.", err=True)
        raise typer.Exit(1)


def chosen(what: str, plugins: Sequence[str]) -> list[Method]:
    """The methods that a file brings, or the one of this name. Raises UserError where there is none."""
    from distilbench.plugins import load_registry
    from harness.errors import UserError, unknown

    if not what.endswith(".py"):
        methods = load_registry(plugins).methods
        if what not in methods:
            raise unknown("method", what, methods, "Or give the path of a Python file that ends in .py.")
        return [methods[what]]
    before = load_registry(plugins).methods
    new = [method for name, method in load_registry([*plugins, what]).methods.items() if name not in before]
    if not new:
        raise UserError(f"the plug-in {what!r} brings no method: define METHOD (or METHODS) in it.")
    return new
