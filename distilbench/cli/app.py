"""The commands, put together. ``distilbench --help`` prints this; each command lives in its own file."""

from __future__ import annotations

import logging
from importlib import metadata
from typing import Annotated

import typer

from distilbench.cli import compare_judges, doctor, judge, plan, reproduce, tables, verify
from distilbench.cli.exchange import answers, models
from distilbench.cli.help import HelpGroup
from distilbench.cli.recipes import init, show
from distilbench.installation import check_folders
from distilbench.workers import start_logging

LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)  # of no -v, -v and -vv
EXAMPLES = (
    ("what would run, and what it costs", "plan table1"),
    ("the main table on the embedded default, in minutes", "reproduce table1"),
    ("one row changes: only that row is trained again", "reproduce table1 --set methods.dpo.beta=0.05"),
    ("a recipe of your own from six questions", "init mine.yaml"),
    ("your recipe, your method", "reproduce table1 --recipe mine.yaml --plugin my_method.py"),
    ("judge a model as it is", "eval --model NAME@http://HOST/v1 --judge gpt-4.1-2025-04-14"),
    ("what this machine has and lacks", "doctor"),
)
EPILOG = "\n\n".join(["Examples:", *(f"\b\n{aim}:\n  distilbench {words}" for aim, words in EXAMPLES)])
"""``\b``: what follows is not wrapped anew."""

app = typer.Typer(
    name="distilbench",
    cls=HelpGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a traceback of ours should be the plain one that people can report
    rich_markup_mode=None,  # rich's boxes cut long options where a terminal is narrow; plain help keeps words whole
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def print_version(show: bool) -> None:
    if show:
        try:
            typer.echo(f"distilbench {metadata.version('distilbench')}")
        except metadata.PackageNotFoundError:  # run from a checkout that is not installed
            typer.echo("distilbench (not installed: running from a source tree)")
        raise typer.Exit


_VERBOSE = "Log what happens; twice for details. Keys are hidden."
_VERSION = "Print the version and exit."
Verbose = Annotated[int, typer.Option("--verbose", "-v", count=True, help=_VERBOSE, show_default=False)]
Version = Annotated[bool, typer.Option("--version", callback=print_version, is_eager=True, help=_VERSION)]


@app.callback()
def distilbench(context: typer.Context, verbose: Verbose = 0, show_version: Version = False) -> None:
    """Benchmark preference distillation: train small students by many methods from a teacher's preferences, judge them,
    and print the paper's tables with intervals. What a run will do and cost is known before anything is trained, and
    nothing is computed twice."""
    start_logging(LEVELS[min(verbose, 2)])
    if context.invoked_subcommand != "doctor":  # which reports the same thing among others
        check_folders()


for commands in (plan, reproduce, verify, answers, models, compare_judges, tables, show, init, doctor, judge):
    app.add_typer(commands.app)
