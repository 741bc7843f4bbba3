"""What commands print: tables, and progress while a run goes on."""

from __future__ import annotations

import os
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from harness.contracts.stage import RunListener
from harness.errors import UserError
from results.run.progress import SCORE

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
            max(width, 1),
            subsequent_indent=head + " " * hang,
            break_long_words=False,
            break_on_hyphens=False,
        ) or [""]
    return lines


def show_files(paths: Sequence[Path]) -> None:
    """The last line of a command: what it wrote."""
    folder = Path(os.path.commonpath([path.parent for path in paths]))
    say(f"files: {folder}/ ({', '.join(str(path.relative_to(folder)) for path in paths)})", err=True)


GAP = 2  # blanks between two columns


def show_rows(title: str, rows: Sequence[Sequence[str]], heads: Sequence[str] = (), width: int = 300) -> None:
    """Rows under a title and column heads, in plain columns that grep and awk can read."""
    say(label=title, style="bold underline")
    show_table(heads, rows, left=heads, width=width, bold=True)
    say()


def show_table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], *, left: Sequence[str] = (), dropped: str | None = None,
    width: int = 120, bold: bool = False,
) -> None:  # fmt: skip
    """Columns as wide as their texts. Where a terminal has less room, the column ``dropped`` goes, then cells are
    wrapped between words, and where a word would not fit, each row becomes lines of ``head: cell``. ``left``: heads of
    columns that are not of numbers; without heads, all are."""
    console = console_of(width)
    cells = [[printable(cell) for cell in row] for row in rows]
    grid = [list(heads), *cells] if heads else cells
    keep = list(range(max(map(len, grid), default=0)))
    widths = _column_widths(grid, keep, console.width)
    whole = sum(max(len(row[place]) for row in grid if place < len(row)) + GAP for place in keep) - GAP
    if whole > console.width and dropped in heads:
        keep.remove(list(heads).index(str(dropped)))
        widths = _column_widths(grid, keep, console.width)
    if widths is None:
        _show_stacked(console, heads, cells)
        return
    for number, row in enumerate(grid):
        is_head = bool(heads) and number == 0
        columns = [wrapped(row[place], widths[place], 0) if place < len(row) else [""] for place in keep]
        for line in range(max(map(len, columns))):
            texts = []
            for place, column in zip(keep, columns, strict=True):
                text = column[line] if line < len(column) else ""
                is_left = not heads or heads[place] in left
                texts.append(text.ljust(widths[place]) if is_left else text.rjust(widths[place]))
            shown = Text((" " * GAP).join(texts).rstrip(), style="italic" if is_head and bold else "")
            if bold and not is_head:
                shown.stylize("bold", 0, widths[keep[0]])
            console.print(shown, soft_wrap=True)


def _column_widths(grid: Sequence[Sequence[str]], keep: Sequence[int], room: int) -> dict[int, int] | None:
    """Of the columns that are kept; ``None`` where their longest words do not fit beside each other."""
    texts = {place: [row[place] for row in grid if place < len(row)] for place in keep}
    wanted = {place: max(map(len, column), default=0) for place, column in texts.items()}
    least = {
        place: max((len(word) for text in column for word in text.split()), default=0)
        for place, column in texts.items()
    }
    spare = room - GAP * (len(keep) - 1) - sum(least.values())
    if spare < 0:
        return None
    # The columns that need least get it first: then few are left to wrap.
    for number, place in enumerate(sorted(keep, key=lambda place: wanted[place] - least[place])):
        extra = min(wanted[place] - least[place], spare // (len(keep) - number))
        least[place] += extra
        spare -= extra
    return least


def _show_stacked(console: Console, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    for row in rows:
        parts = [f"{heads[place]}: {cell}" if heads else cell for place, cell in enumerate(row) if cell and place]
        lines = [*wrapped(row[0], console.width), *wrapped("  " + "; ".join(parts), console.width, 0)]
        text = Text("\n".join(line for line in lines if line.strip()))
        text.stylize("bold", 0, len(row[0]))
        console.print(text, soft_wrap=True)


class StageTimeLeft(TimeRemainingColumn):
    """Of one stage: stages of several kinds do not go on at one speed."""

    def render(self, task: Task) -> Text:
        return Text() if task.description == STAGES else super().render(task)


class Display(RunListener):
    """Draws bars on a terminal, and elsewhere prints a line now and then: stage, rate, time left, what judging has
    cost, the last score. ``spent``: dollars since the begin. A context manager."""

    def __init__(
        self,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
        spent: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.console = console or Console(stderr=True)
        self._clock = clock
        self._lock = threading.RLock()  # the executor's thread reports progress, the main one results
        self._tasks: dict[str, TaskID] = {}
        self._total = self._done = self._failed = 0
        self._score = ""  # the last
        self._last_line = float("-inf")
        self._ahead: Counter[str] = Counter()  # kinds of the stages that are not over
        self._seconds: dict[str, list[float]] = {}  # by kind, of those that are
        self._worked = 0.0  # seconds of all stages since the last plan: a search has one for each round
        self._spent, self._begin, self._cached = spent, clock(), 0
        self._firsts: dict[str, tuple[float, int]] = {}  # of each stage under way: when it was first heard of, how far
        bars = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn())
        times = (TimeElapsedColumn(), StageTimeLeft(), TextColumn("{task.fields[info]}", style="dim"))
        # Transient: the table is what stays on the screen.
        quiet = not self.console.is_terminal
        self._progress = Progress(*bars, *times, console=self.console, transient=True, disable=quiet)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def on_plan(self, total: int, cached: int, kinds: Mapping[str, int] = MappingProxyType({})) -> None:
        with self._lock:
            self._ahead, self._worked = Counter(kinds), 0.0
            self._total, self._done, self._cached, self._begin = total, cached, cached, self._clock()
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
            if label.partition(" ")[0] == SCORE:
                self._score = f"last score: {info}"
            first = self._firsts.setdefault(label, (self._clock(), done))
            shown = ", ".join(filter(None, (rate_text(done - first[1], self._clock() - first[0]), info)))
            self._progress.update(self._tasks[label], completed=done, total=total, info=escape(shown))

    def on_finish(self, label: str, seconds: float) -> None:
        with self._lock:
            self._seconds.setdefault(label.partition(" ")[0], []).append(seconds)
            self._worked += seconds
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
            self._show(f"{label}: {error}", "failed: ")

    def _close(self, label: str) -> None:
        self._done += 1
        self._ahead[label.partition(" ")[0]] -= 1  # a label begins with the kind
        self._firsts.pop(label, None)
        task = self._tasks.pop(label, None)
        if task is not None:
            self._progress.remove_task(task)
        if STAGES in self._tasks:
            failed = f"{self._failed} failed" if self._failed else ""
            info = ", ".join(filter(None, (self._time_left(self._clock()), failed, self._cost(), self._score)))
            self._progress.update(self._tasks[STAGES], completed=self._done, info=escape(info))

    def _line(self, text: str, always: bool = False) -> None:
        """A plain line where there is no terminal, at most one every ``QUIET`` seconds."""
        time_now = self._clock()
        is_due = always or self._done == self._total or time_now - self._last_line >= QUIET
        if is_due and not self.console.is_terminal:
            self._last_line = time_now
            further = ", ".join(filter(None, (self._time_left(time_now), self._cost(), self._score)))
            self._show(f"[{self._done}/{self._total}] {text}" + (f"; {further}" if further else ""))

    def _time_left(self, time_now: float) -> str:
        """From what finished stages of each kind took, and how many ran at once: a bound, where more than a fifth of
        the stages to come are of kinds of which none has finished."""
        unknown = sum(max(0, count) for kind, count in self._ahead.items() if kind not in self._seconds)
        left = sum(max(0, self._ahead[kind]) * fmean(times) for kind, times in self._seconds.items())
        at_once = self._worked / max(time_now - self._begin, 1e-9)
        words = "about" if 5 * unknown <= self._total - self._done else "at least"
        return f"{words} {duration(left / max(1.0, at_once))} left" if left else ""

    def _cost(self) -> str:
        dollars = self._spent()
        return f"judging ${dollars:,.2f} so far" if dollars else ""

    def _show(self, text: str, label: str = "") -> None:
        whole = label + printable(text)
        lines = wrapped(whole, self.console.width) if self.console.is_terminal else [whole]
        shown = Text("\n".join(lines))
        shown.stylize("bold red", 0, len(label))
        self.console.print(shown, soft_wrap=True)


def spending(runs: str | Path) -> Callable[[], float]:
    """What judging has cost since now, by the ledger of these runs: of all commands that ask there."""
    from judges.ledger.ledger import Ledger

    begin, file = time.time(), Path(runs) / "ledger.sqlite"

    def dollars() -> float:
        if not file.is_file():
            return 0.0
        try:
            with Ledger(file, create=False) as ledger:
                return ledger.spending(begin)[0]
        except UserError:  # locked for a moment, or damaged, which the run itself reports
            return 0.0

    return dollars


def rate_text(items: int, seconds: float) -> str:
    """``12/s``, ``3.5/min``; empty where nothing is known yet."""
    if items <= 0 or seconds <= 0:
        return ""
    rate = items / seconds
    return f"{rate:,.3g}/s" if rate >= 1 else f"{rate * 60:,.3g}/min"


def duration(seconds: float) -> str:
    """``0.4 s``, ``2 min 5 s``, ``3 h 10 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"
