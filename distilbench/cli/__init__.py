"""The one door: the command ``distilbench``. Only here do all the folders meet.

Whatever a user has to mend ends as one message on stderr and exit code 2, without a traceback; Ctrl-C as 130, SIGTERM
as 143. Commands import what is heavy when they are called, so that ``--help`` answers at once.
"""

from __future__ import annotations

import errno
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

FULL = (errno.ENOSPC, errno.EDQUOT)


def main() -> None:
    """Entry point of ``distilbench`` and ``python -m harness``. Always leaves through SystemExit."""
    from distilbench.cli.app import app
    from harness.errors import UserError

    signals: list[int] = []
    try:
        with _terminated_like_interrupted(signals):
            app()
    except UserError as error:
        _say(str(error))
        sys.exit(2)
    except OSError as error:
        if error.errno not in FULL:
            raise
        place = f" writing {error.filename}" if error.filename else ""
        _say(f"no space left{place}. What was finished is kept: free some space and run the same command again.")
        sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as error:
        stopped = isinstance(error, KeyboardInterrupt) or error.code == 130
        if not stopped:
            raise
        sys.stderr.write("stopped: nothing is lost; run the same command again to go on.\n")
        sys.exit(128 + signals[0] if signals else 130)


@contextmanager
def _terminated_like_interrupted(signals: list[int]) -> Iterator[None]:
    """SIGTERM stops the workers and leaves as Ctrl-C does, instead of dropping everything; a second one kills.

    What came is put into ``signals``.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        signals.append(number)
        signal.signal(number, signal.SIG_DFL)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _say(message: str) -> None:
    """``error: message`` on stderr. The message may hold model text or file names: no control character passes."""
    from rich.console import Console
    from rich.text import Text

    shown = "".join(char if char.isprintable() or char == "\n" else "\ufffd" for char in message.expandtabs())
    Console(stderr=True, soft_wrap=True).print(Text.assemble(("error: ", "bold red"), shown))
