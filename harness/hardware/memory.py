"""Peak resident memory of this process, from a point of our choosing (Linux: proc(5), ``clear_refs`` and ``VmHWM``)."""

from __future__ import annotations

import resource
import sys
from pathlib import Path


def reset_peak() -> None:
    """Let ``peak`` count from now on, where the system can do that."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:  # another system, or a sandbox without /proc: the peak stays that of the whole process
        return


def peak() -> int:
    """Bytes: since ``reset_peak`` on Linux, else since the process began."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    except (OSError, IndexError, ValueError):
        largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return largest if sys.platform == "darwin" else largest * 1024  # Linux counts in KiB
