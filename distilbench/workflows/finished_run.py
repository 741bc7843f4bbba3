"""A finished run: its tables, its scores, and the answers and judgments behind them."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UNWRITABLE, UserError, unknown_choice
from reports.tables.summary import Difference, least_coverage, summarise
from reports.targets import find_target
from reports.write import make_table, write_table
from results.run.find import RUNS, find_run
from results.run.lineage import Lineage, ScoreSource
from results.run.record import JUDGES, Run, read_run, recorded_targets, runs_of
from results.run.results import Results, join
from results.store.store import ArtifactStore

if TYPE_CHECKING:
    import pandas as pd

    from distilbench.workflows.plan import WorkPlan
    from harness.contracts.stage import Ref
    from harness.run.scheduler import RunOutcome
    from harness.types import Reply
    from reports.tables.table import Table


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """One recipe's folder ``runs/NAME``, with one or more targets; loaded ones have no ``outcome`` and no ``work``.

    Methods take the name of a target; without one they mean ``table1``, or the only target that there is. Frames are
    pandas frames. ``records``: by target, what was run: recipe, rows, columns, seeds, times. ``store``: the artifacts.
    ``problems``: target to why ``write`` could not make its table. ``out``: where its files go, in place of
    ``folder/report``; ``unwritten``: why there are none, where nothing may be written; ``kept``: copies of
    files that said something else before they were written again.
    """

    folder: Path
    store: ArtifactStore
    records: Mapping[str, Run]
    outcome: RunOutcome | None = None
    work: WorkPlan | None = None
    problems: dict[str, str] = field(default_factory=dict)
    out: Path | None = None
    unwritten: list[str] = field(default_factory=list)
    kept: list[Path] = field(default_factory=list)
    # A table is printed, written and put on the page: its scores are read and tested once.
    _results: dict[str, Results] = field(default_factory=dict)
    _tables: dict[tuple[str, float | None], Table] = field(default_factory=dict)

    def __repr__(self) -> str:
        finished = all(record.finished for record in self.records.values())
        return f"FinishedRun({self.folder.name!r}, targets={self.targets}, finished={finished})"

    @property
    def report_folder(self) -> Path:
        """Where ``write`` puts its files."""
        return self.out or self.folder / "report"

    @property
    def targets(self) -> tuple[str, ...]:
        """Their names: ``table1``, ``figure4``."""
        return tuple(self.records)

    @property
    def score_tables(self) -> tuple[str, ...]:
        """The targets that are tables of scores; the others compare judges (``table5``)."""
        return tuple(name for name in self.records if not find_target(name).compares_judges)

    @property
    def ledger(self) -> Path:
        """The file of all requests to judges and their replies, for all runs of a folder."""
        return runs_of(self.folder) / "ledger.sqlite"

    @cached_property
    def lineage(self) -> Lineage:
        """The artifacts behind the scores: ``run.lineage.judgments(source.judgments)``."""
        return Lineage(self.store)

    @property
    def is_unscored(self) -> bool:
        """Whether there are scores, and none of them has a value. The markers say it: scores take long to read."""
        keys = {cell.score for name in self.score_tables for cell in self.records[name].cells if cell.score}
        markers = [self.store.meta("score", key) for key in keys]
        return bool(markers) and not any(marker["measurements"]["scored"] for marker in markers)

    def results(self, target: str | None = None) -> Results:
        """Scores of a target joined with its record. Raises UserError for a score that is gone from the store."""
        name = self.choose(target)
        if name not in self._results:
            self._results[name] = join(self.records[name], self.store, self.folder / name / "run.json")
        return self._results[name]

    def frame(self, target: str | None = None) -> pd.DataFrame:
        """Tidy scores: one line per row, metric and seed, missing numbers as NaN.

        ``baseline``: whether the row is a model as it is; ``value`` in the metric's unit; ``low``, ``high``: its 95%
        interval over questions; ``n``, ``unscored``: questions; ``coverage``: their scored share, 0 to 1; ``note``: why
        a number is missing, or weaker than others.
        """
        return self.results(target).frame()

    def table(self, target: str | None = None, min_coverage: float | None = None) -> Table:
        """The table as data. ``min_coverage``: smallest share (0 to 1) of scored questions in a cell, by default the
        recipe's. Raises UserError where scores are gone, or a target's judges were not compared."""
        name = self.choose(target)
        if name not in self.score_tables:
            from reports.judge_comparison.tables import read_comparison, table5

            comparison = read_comparison(self.folder / name / JUDGES)
            if comparison is None:
                raise UserError(
                    f"no judges were compared for {name} of {self.folder}: run distilbench reproduce {name} "
                    "(with the --recipe of this run, if it has another than pocket)."
                )
            return table5(comparison)
        if (name, min_coverage) not in self._tables:
            self._tables[name, min_coverage] = make_table(self.results(name), name, min_coverage)
        return self._tables[name, min_coverage]

    def difference(
        self, row: str, other: str, metric: str, target: str | None = None, min_coverage: float | None = None
    ) -> Difference:
        """``row`` minus ``other`` in a column (``alpaca_eval.wr``), paired on the questions and tested as in the table,
        where p-values are corrected for all rows of a column (Holm). Raises UserError for a name that is not in the
        table, and for a row without a value there."""
        results, name = self.results(target), self.choose(target)
        coverage = least_coverage(results.run) if min_coverage is None else min_coverage
        return summarise(results, find_target(name), coverage).difference(row, other, metric)

    def against(self, row: str, target: str | None = None, min_coverage: float | None = None) -> Table:
        """Every other row's change from ``row``, as a table: 95% interval, p-value after Holm's correction over the
        rows of a column, and the smallest change that is detected. Raises UserError for a row that is not there."""
        from reports.tables.against import against_table

        name = self.choose(target)
        if name not in self.score_tables or find_target(name).layout == "settings":
            raise UserError(f"{name} has no scores of rows to compare: take table1.")
        results = self.results(name)
        coverage = least_coverage(results.run) if min_coverage is None else min_coverage
        return against_table(summarise(results, find_target(name), coverage), row)

    def text(self, target: str | None = None, *, notes: bool = False, width: int = 120) -> str:
        """The table as the command line prints it, ``width`` characters wide, with ``notes`` in full."""
        from rich.console import Console

        from reports.formats.terminal import TerminalTable

        # a notebook makes a console show the table itself, and colour what it captures
        console = Console(file=StringIO(), width=width, color_system=None, force_jupyter=False)
        with console.capture() as capture:
            console.print(TerminalTable(self.table(target), notes))
        return capture.get()

    def sources(self, target: str | None = None) -> list[tuple[str, int, ScoreSource]]:
        """Row, seed, and what its scores on a benchmark were made from, once for each benchmark."""
        sources = self.results(target).sources
        return list(dict.fromkeys((row, seed, source) for (row, _, seed), source in sources.items()))

    def damage(self, target: str | None = None) -> list[str]:
        """A sentence for each set of judgments behind the cells that is not what the run wrote, by its checksum. Scores
        are checked where they are read; answers, checkpoints and replies by ``distilbench verify``."""
        cells: dict[Ref, set[str]] = {}
        for (row, metric, _), source in self.results(target).sources.items():
            cells.setdefault(source.judgments, set()).add(f"{row} {metric}")
        sentences = []
        for ref, names in cells.items():
            try:
                self.store.path(*ref, "judgments.jsonl")
            except KeyError:  # cleared away
                continue
            except UserError:
                sentences.append(
                    f"the judgments behind {', '.join(sorted(names))} are not those that the run wrote ({ref}): "
                    f"distilbench verify {shlex.quote(str(self.folder))} says what that changes"
                )
        return sentences

    def answers(self, target: str | None = None) -> pd.DataFrame:
        """One line per ``row``, ``seed``, ``benchmark``, ``question`` and ``turn`` (from 0), with the ``answer``.
        Raises UserError where answers are gone from the store."""
        import pandas as pd

        lines = [
            (row, seed, source.benchmark, answer.question, turn, text)
            for row, seed, source in self.sources(target)
            for answer in self.lineage.answers(source.answers).values()
            for turn, text in enumerate(answer.turns)
        ]
        return pd.DataFrame(lines, columns=["row", "seed", "benchmark", "question", "turn", "answer"])

    def judgments(self, target: str | None = None) -> pd.DataFrame:
        """Of the run's own judges: one line per ``row``, ``seed``, ``benchmark``, ``question``, ``part``, ``repeat``.

        ``part``: which question about an answer (``game1``, ``turn2``); ``verdict``: as the benchmark reads it from
        ``reply`` (a preference from 0 to 1, a grade from 1 to 10); ``reason``: why there is none; ``request``: the
        ledger's key of the reply, for ``judge_call``, empty where a rule graded. Raises UserError as ``answers`` does.
        """
        import pandas as pd

        lines = [
            (row, seed, source.benchmark, judgment.question, judgment.part, judgment.repeat,
             judgment.verdict, judgment.reason, judgment.reply, judgment.request)
            for row, seed, source in self.sources(target)
            for judgments in self.lineage.judgments(source.judgments).values()
            for judgment in judgments
        ]  # fmt: skip
        names = ["row", "seed", "benchmark", "question", "part", "repeat", "verdict", "reason", "reply", "request"]
        return pd.DataFrame(lines, columns=names)

    def judge_call(self, request: str) -> tuple[dict[str, Any], Reply]:
        """What was sent to a judge, exactly (``messages``, ``temperature``, ``model``, ...), and what came back.
        ``request``: its key, as ``judgments`` has it. Raises UserError where the ledger does not hold both."""
        from judges.ledger.ledger import Ledger

        with Ledger(self.ledger, create=False) as ledger:
            sent, reply = ledger.requests([request]).get(request), ledger.get([request]).get(request)
        if sent is None or reply is None:
            raise UserError(f"{self.ledger} has no request with a reply under {request!r}.")
        return sent, reply

    def write(
        self,
        min_coverage: float | None = None,
        keep: bool = False,
        compare: Callable[[str], object] = lambda target: None,
    ) -> list[Path]:
        """Write every target's table and figures into ``report_folder``; their paths. ``compare`` is called with each
        target that compares judges. ``keep``: copy what is there first where it says something else (``kept``). Raises
        UserError where no table could be made; else see ``problems``. Where nothing may be written, the tables are made
        all the same (``unwritten``), unless ``out`` was asked for."""
        paths: list[Path] = []
        # Tables of scores first: they are there while judges are asked, and if a judge fails.
        for name in sorted(self.targets, key=lambda name: name not in self.score_tables):
            try:
                if name not in self.score_tables:
                    compare(name)
                table = self.table(name, min_coverage)
                self.problems.pop(name, None)
                paths += [] if self.unwritten else write_table(table, self.report_folder, self.kept if keep else None)
            except OSError as error:
                if self.out is not None or error.errno not in UNWRITABLE:
                    raise
                self.unwritten.append(f"{self.report_folder}: {(error.strerror or '').lower()}")
            except UserError as error:
                self.problems[name] = str(error)
        if len(self.problems) == len(self.targets):
            raise UserError("\n".join(self.problems.values()))
        return paths

    def choose(self, target: str | None = None) -> str:
        """The name of the target that is meant. Raises UserError where none of this name is there, or none is named."""
        if target is not None and target not in self.records:
            raise unknown_choice("target", target, self.records, f"Run it first: distilbench reproduce {target}.")
        if target is None and "table1" not in self.records and len(self.records) > 1:
            raise UserError(f"{self.folder} holds several targets ({', '.join(self.records)}): name one.")
        # The main table is what most runs are made for.
        return target or ("table1" if "table1" in self.records else self.targets[0])


def load(
    run: str | Path, targets: Sequence[str] = (), out: str | Path | None = None, *, runs: str | Path = RUNS
) -> FinishedRun:
    """A run made before: its name under ``runs``, its folder, or its recipe; with these targets, or all that it has.
    Nothing is run. ``out``: where ``write`` puts its files. Raises UserError where there is none."""
    place, target = find_run(run, Path(runs))
    recorded = recorded_targets(place)
    targets = targets or ([target] if target else recorded)
    for name in targets:
        if name not in recorded:
            names = ", ".join(recorded)
            raise UserError(f"{place} has {names}, but not {name}: run it first (distilbench reproduce {name}).")
    records = {name: read_run(place / name / "run.json") for name in targets}
    return FinishedRun(place, ArtifactStore(runs_of(place) / "store"), records, out=None if out is None else Path(out))
