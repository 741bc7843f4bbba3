"""``check-method``, ``check-benchmark``, ``check-judge``, ``check-source``, ``check-backend``, ``check-executor``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from distilbench.cli.options import Overrides, Plugins

app = typer.Typer()
CHECKS = {
    "method": "trains it on tiny random models",
    "benchmark": "asks a model without weights, reads hostile replies, scores",
    "judge": "asks it two questions",
    "source": "reads its first prompts",
    "backend": "generates and reads log-probabilities with a tiny checkpoint",
    "executor": "runs stages that compute nothing",
}
"""Entry of a table to the work of its checks."""
NameOrFile = Annotated[
    str, typer.Argument(metavar="NAME_OR_FILE", help="An entry's name, or a Python file that brings one.")
]


def check_command(entry: str) -> Callable[..., None]:
    """The command for one of the six tables."""

    def check(name_or_file: NameOrFile, plugins: Plugins = None, overrides: Overrides = None) -> None:
        from distilbench.workflows.check import check as run_checks

        failed, names = 0, set()
        for checked, finding in run_checks(f"{entry}s", name_or_file, overrides or [], plugins or []):
            if checked.name not in names:
                typer.echo(f"{checked.name}: {getattr(checked, 'paper', '') or getattr(checked, 'summary', '')}")
            names.add(checked.name)
            failed += finding.problem is not None
            state = "ok    " if finding.problem is None else "FAILED"
            typer.echo(f"{state} {finding.name:<14} {finding.problem or finding.detail}")
        if failed:
            typer.echo(f"{failed} failed: docs/add-a-{entry}.md says what the contract asks.", err=True)
            raise typer.Exit(1)

    article = "an" if entry[0] in "aeiou" else "a"
    check.__doc__ = f"Check {article} {entry} against its contract: {CHECKS[entry]}. Exit code 1 if a check failed."
    return check


for name in CHECKS:
    app.command(f"check-{name}")(check_command(name))
