"""``--help``: plain text that breaks between words only, with each command's sentence whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import typer
from typer.core import TyperGroup

HYPHEN: Final = "\N{NON-BREAKING HYPHEN}"
Formatter: Any = typer.Context.formatter_class


class WholeWords(Formatter):  # type: ignore[misc]  # typer ships click's classes without public names
    """As click's, which also breaks words at their hyphens."""

    def write_text(self, text: str) -> None:
        super().write_text(text.replace("-", HYPHEN))

    def write_dl(self, rows: Sequence[tuple[str, str]], *limits: int, **named: int) -> None:
        super().write_dl([(name, text.replace("-", HYPHEN)) for name, text in rows], *limits, **named)

    def getvalue(self) -> str:
        return str(super().getvalue()).replace(HYPHEN, "-")


class HelpContext(typer.Context):
    formatter_class = WholeWords


class HelpGroup(TyperGroup):
    """Gives its commands the same help."""

    context_class = HelpContext

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command: Any = super().get_command(ctx, cmd_name)
        if command is not None:
            command.context_class = HelpContext
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        names = self.list_commands(ctx)
        rows = [(name, command.get_short_help_str(1000)) for name in names if (command := self.get_command(ctx, name))]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)
