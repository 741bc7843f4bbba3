"""What commands print: tables, and progress while a run goes on."""

from __future__ import annotations

import textwrap
import threading
import time
from collections.abc import Callable, Sequence
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from harness.contracts.stage import RunListener

STAGES = "[bold]stages"  # the bar over all stages
QUIET = 10.0  # seconds between two lines of progress where there is no terminal


def console_of(width: int = 120) -> Console:
    """Standard output. Where it is no terminal a line may have ``width`` columns, so that rows do not wrap."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=width)


def printable(text: str) -> str:
    """Text of models, servers and files without what could rewrite a terminal; lines are kept."""
    return "".join(char if char.isprintable() or char == "\n" else "\ufffd" for char in text.expandtabs())


def say(text: str = "", *, err: bool = False, label: str = "", style: str = "bold", hang: int = 2) -> None:
    """Lines of text, the first behind a ``label`` in ``style``. On a terminal they are wrapped between words, with
    ``hang`` blanks before what is continued; elsewhere a line stays one, for grep."""
    console = Console(stderr=err, highlight=False)
    lines = wrapped(label + printable(text), console.width, hang) if console.is_terminal else [label + printable(text)]
    shown = Text("\n".join(lines))
    shown.stylize(style, 0, len(label))
    console.print(shown, soft_wrap=True)


def wrapped(text: str, width: int, hang: int = 2) -> list[str]:
    """Broken between words only: a word (a path, an address) that is longer than ``width`` stays whole."""
    lines = []
    for line in text.splitlines() or [""]:
        head = line[: len(line) - len(line.lstrip())]
        lines += textwrap.wrap(
            line,
            max(width, 20),
            subsequent_indent=head + " " * hang,
            break_long_words=False,
            break_on_hyphens=False,
        ) or [""]
    return lines


def show_rows(title: str, rows: Sequence[Sequence[str]], heads: Sequence[str] = (), width: int = 300) -> None:
    """Rows under a title and column heads, in plain columns that grep and awk can read."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    if heads:
        table.add_row(*(Text(head, style="italic") for head in heads))
    for row in rows:
        table.add_row(*(Text(printable(cell), style="" if column else "bold") for column, cell in enumerate(row)))
    console_of(width).print(Text(title, style="bold underline"), table, "")


class Display(RunListener):
    """Draws bars on a terminal, and elsewhere prints a line now and then. A context manager."""

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.console = console or Console(stderr=True)
        self._clock = clock
        self._lock = threading.RLock()  # the executor's thread reports progress, the main one results
        self._tasks: dict[str, TaskID] = {}
        self._total = self._done = self._failed = 0
        self._last_line = float("-inf")
        bars = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn())
        times = (TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[info]}", style="dim"))
        # Transient: the table is what stays on the screen.
        quiet = not self.console.is_terminal
        self._progress = Progress(*bars, *times, console=self.console, transient=True, disable=quiet)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def on_plan(self, total: int, cached: int) -> None:
        with self._lock:
            self._total, self._done = total, cached
            if total > cached:
                self._line(f"{total} stages, {cached} of them done already", always=True)
                self._tasks[STAGES] = self._progress.add_task(STAGES, total=total, completed=cached, info="")

    def on_start(self, label: str) -> None:
        with self._lock:
            if label not in self._tasks:
                self._tasks[label] = self._progress.add_task(escape(label), total=None, info="")

    def on_progress(self, label: str, done: int, total: int, info: str) -> None:
        with self._lock:
            self.on_start(label)
            self._progress.update(self._tasks[label], completed=done, total=total, info=escape(info))

    def on_finish(self, label: str, seconds: float) -> None:
        with self._lock:
            self._close(label)
            self._line(f"{label} ({duration(seconds)})")

    def on_finish_elsewhere(self, label: str) -> None:
        with self._lock:
            self._close(label)
            self._line(f"{label} (made by another command)")

    def on_failure(self, label: str, error: str) -> None:
        with self._lock:
            self._failed += 1
            self._close(label)
            self.console.print(Text.assemble(("failed: ", "bold red"), f"{label}: {error}"), soft_wrap=True)

    def _close(self, label: str) -> None:
        self._done += 1
        task = self._tasks.pop(label, None)
        if task is not None:
            self._progress.remove_task(task)
        if STAGES in self._tasks:
            info = f"{self._failed} failed" if self._failed else ""
            self._progress.update(self._tasks[STAGES], completed=self._done, info=info)

    def _line(self, text: str, always: bool = False) -> None:
        """A plain line where there is no terminal, at most one every ``QUIET`` seconds."""
        time_now = self._clock()
        is_due = always or self._done == self._total or time_now - self._last_line >= QUIET
        if is_due and not self.console.is_terminal:
            self._last_line = time_now
            self.console.print(Text(f"[{self._done}/{self._total}] {text}"), soft_wrap=True)


def duration(seconds: float) -> str:
    """``0.4 s``, ``2 min 5 s``, ``3 h 10 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"
