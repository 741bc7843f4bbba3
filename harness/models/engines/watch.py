"""Runs a command and ends it, children included, as soon as standard input ends: when the process that holds the other
end of the pipe closes it, or is gone, whatever killed it. ``python watch.py COMMAND ...``; imports nothing of ours."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

GRACE = 8.0
"""Seconds between SIGTERM and SIGKILL."""


def end_group(process: subprocess.Popen[bytes]) -> None:
    # A session of its own: the group has its number, also when the command itself is gone and its children are not.
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
            end = time.monotonic() + GRACE
            while number == signal.SIGTERM and time.monotonic() < end:
                process.poll()
                os.killpg(process.pid, 0)
                time.sleep(0.05)


def die_with_parent() -> None:
    """On Linux: where this process is killed itself, as Ray kills the children of a worker, nobody ends the command."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, prctl(2)


def main() -> int:
    """The exit code of the command, or 128 and the number of the signal that ended it."""
    try:
        # No thread runs yet that could hold a lock.
        process = subprocess.Popen(  # noqa: S603
            sys.argv[1:],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509
        )
    except OSError as error:
        sys.stderr.write(f"{sys.argv[1]}: {error.strerror}\n")
        return 127

    def end_with_input() -> None:
        while os.read(0, 1024):
            pass
        end_group(process)

    threading.Thread(target=end_with_input, daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: end_group(process))
    code = process.wait()
    end_group(process)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
