"""The command ``distilbench``: it parses options, calls ``distilbench.workflows``, and prints.

A UserError ends as one message on stderr and exit code 2, Ctrl-C as 130, SIGTERM as 143.
"""

from __future__ import annotations

import errno
import signal
import sys
from types import FrameType

from harness.errors import UserError


def main() -> None:
    """Entry point. Always leaves through SystemExit."""
    from distilbench.cli.app import app

    signals: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        signals.append(number)
        signal.signal(number, signal.SIG_DFL)  # a second one kills, should the workers not stop
        raise KeyboardInterrupt

    # SIGTERM stops the workers and leaves as Ctrl-C does.
    previous_handler = signal.signal(signal.SIGTERM, stop)
    try:
        app()
    except UserError as error:
        exit_with(str(error))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        file = f" writing {error.filename}" if error.filename else ""
        exit_with(f"no space left{file}. What was finished is kept: free some space and run the same command again.")
    except (KeyboardInterrupt, SystemExit) as error:
        # typer turns Ctrl-C inside a prompt or a command into SystemExit(130)
        if isinstance(error, SystemExit) and error.code != 130:
            raise
        sys.stderr.write("stopped: nothing is lost; run the same command again to go on.\n")
        sys.exit(128 + signals[0] if signals else 130)
    finally:
        signal.signal(signal.SIGTERM, previous_handler)


def exit_with(message: str) -> None:
    from rich.console import Console
    from rich.text import Text

    from distilbench.cli.screen import printable

    # A message may quote a model's text or a file's name, and a ``Text`` is not read as markup.
    Console(stderr=True, soft_wrap=True).print(Text.assemble(("error: ", "bold red"), printable(message)))
    sys.exit(2)
