"""The command ``distilbench``: it parses options, calls ``distilbench.workflows``, and prints.

A UserError ends as one message on stderr and exit code 2, Ctrl-C as 130, SIGTERM as 143, a closed terminal as 129.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import time
from contextlib import suppress
from types import FrameType

from harness.errors import UserError, system_error

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATIENCE = 3.0  # seconds that stopping may take, in which a second Ctrl-C changes nothing
STOPPED = "stopped: what is done is kept; run the same command again to go on.\n"


def main() -> None:
    """Entry point. Always leaves through SystemExit."""
    stops: list[tuple[int, float]] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if not stops:
            stops.append((number, time.monotonic()))
            raise KeyboardInterrupt
        # A second one in the middle of stopping would only end in a traceback.
        if time.monotonic() - stops[0][1] > PATIENCE:
            os._exit(128 + number)  # the workers see it within a second; whatever is done is on the disk

    # Whoever ignores a signal (nohup, a shell's background jobs) goes on doing so.
    numbers = [number for number in STOPS if signal.getsignal(number) not in (signal.SIG_IGN, None)]
    previous_handlers = {number: signal.signal(number, stop) for number in numbers}
    # Python's end takes handlers away, and one more Ctrl-C would kill it then: first in, last out.
    atexit.register(lambda: [signal.signal(number, signal.SIG_IGN) for number in numbers])
    try:
        from distilbench.cli.app import app

        app(prog_name="distilbench")
    except UserError as error:
        exit_with(str(error))
    except OSError as error:
        message = system_error(error)
        if message is None:
            raise
        exit_with(message)
    except (KeyboardInterrupt, SystemExit) as error:
        # typer turns Ctrl-C inside a prompt or a command into SystemExit(130)
        if isinstance(error, SystemExit) and error.code != 130:
            raise
        with suppress(OSError):  # the terminal may be gone
            sys.stderr.write(STOPPED)
        sys.exit(128 + stops[0][0] if stops else 130)
    finally:
        # While a stopped command ends, another Ctrl-C must not meet Python's own handler.
        if not stops:
            for number, handler in previous_handlers.items():
                signal.signal(number, handler)


def exit_with(message: str) -> None:
    from distilbench.cli.screen import say

    say(message, err=True, label="error: ", style="bold red")
    sys.exit(2)
