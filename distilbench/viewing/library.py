"""The runs that are viewed, and their pages: live, finished, compared; and one request to a judge with its reply."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import quote

from distilbench.plugins import load_registry
from distilbench.workflows.finished_run import FinishedRun
from distilbench.workflows.page import page_of_run, price_of, questions_of, search_files, searches_of
from harness.contracts.registry import Registry
from harness.errors import UserError, unknown_choice
from judges.ledger.ledger import Ledger
from reports.page.live import JudgeCalls, JudgeReply, LiveRun, state
from reports.page.page import Frame, page
from reports.page.widgets import Section, render, slug
from results.run.find import find_run, run_names
from results.run.progress import newest_progress
from results.run.record import Run, check_runs, read_run, recorded_targets, run_facts, runs_of
from results.store.store import ArtifactStore

REPLIES = 3  # newest replies of judges on a live page


@dataclass
class ViewedRun:
    """One run. Its page is made when it is first asked for, and anew once its scores have changed."""

    name: str  # in addresses
    folder: Path
    plugins: Sequence[str] = ()
    runs: str = ""  # --runs, as the commands on the page repeat it; empty: the usual folder
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _page: tuple[object, str] | None = None
    _records: tuple[object, dict[str, Run]] = (None, {})
    _live: LiveRun | None = None
    _questions: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"/runs/{quote(self.name, safe='')}"

    @property
    def ledger(self) -> Path:
        return runs_of(self.folder) / "ledger.sqlite"

    def records(self) -> dict[str, Run]:
        """Read anew once they have changed: a live page asks every second, for the price of every stage."""
        stamp = stamp_of(self.folder.glob("*/run.json"))
        if self._records[0] != stamp:
            names = recorded_targets(self.folder)
            self._records = stamp, {name: read_run(self.folder / name / "run.json") for name in names}
        return self._records[1]

    def finished(self) -> FinishedRun:
        store = ArtifactStore(runs_of(self.folder) / "store", sweep=False)
        return FinishedRun(self.folder, store, self.records())

    def about(self) -> tuple[str, str]:
        """Its state, and which tables it has from when."""
        try:
            progress = self.live().progress()
            records = {} if (progress and progress.alive) else self.records()
            is_live = progress is not None and self.is_live()
        except (UserError, OSError) as error:  # of one run: the others can be looked at
            return f"cannot be read: {error}", ""
        searches = ["search"] if search_files(self.folder) else []
        tables = ", ".join([*(f"{name} of {record.created[:10]}" for name, record in records.items()), *searches])
        if progress is not None and is_live:
            return str(state(progress)["word"]).rstrip(".").lower(), tables
        return "finished" if all(record.finished for record in records.values()) else "not finished", tables

    def facts(self) -> str:
        """As ``distilbench list runs`` has them; empty where no record can be read."""
        try:
            facts = run_facts(self.records())
        except (UserError, OSError, IndexError):  # begun a moment ago, or damaged, which ``about`` says
            return ""
        return (
            f"{facts['models']}; rows {facts['rows']}, seeds {facts['seeds']}; judge {facts['judge']}; {facts['date']}"
        )

    def is_live(self) -> bool:
        """Whether a command runs, or ended so early that there is nothing else to show."""
        progress = self.live().progress()
        return progress is not None and (
            progress.alive or progress.was_killed or bool(progress.problem) or not has_tables(self.folder)
        )

    def live(self) -> LiveRun:
        if self._live is None:
            registry = load_registry(self.plugins)
            self._live = LiveRun(
                self.folder,
                ArtifactStore(runs_of(self.folder) / "store", sweep=False),
                partial(self._price, registry),
                partial(self._question, registry),
                self._calls,
                lambda key: f"{self.address}/requests/{key}",
            )
        return self._live

    def parts(self) -> dict[str, str]:
        """Of the live page. One at a time: several windows may follow one run."""
        with self._lock:
            return self.live().parts()

    def live_page(self, links: Sequence[tuple[str, str]]) -> str:
        with self._lock:
            sections = [*self.live().sections(), *searches_of(self.folder)]
        attributes = {"events": f"{self.address}/events", "report": f"{self.address}/report"}
        if recorded_targets(self.folder):
            links = [*links, (f"{self.address}/report", "Tables so far")]
        return page(f"distilbench: {self.name}", sections, Frame(links=links, attributes=attributes))

    def report_page(self, links: Sequence[tuple[str, str]]) -> str:
        """Raises UserError where no table can be made."""
        if not recorded_targets(self.folder):  # a search has tables of its own
            with self._lock:
                sections = [*searches_of(self.folder), *self.live().sections()]
            return page(f"distilbench: {self.name}", sections, Frame(links=links))
        with self._lock:
            stamp = (tuple(links), self._stamp())
            if self._page is None or self._page[0] != stamp:
                frame = Frame(links=links, attributes={"ledger": f"{self.address}/requests/"})
                self._page = stamp, page_of_run(self.finished(), plugins=self.plugins, frame=frame, runs=self.runs)
            return self._page[1]

    def _stamp(self) -> object:
        """Changes when the page would: the records name all scores, and an unfinished run gets more of them."""
        files = [*self.folder.glob("*/run.json"), *self.folder.glob("*/judges/*.json"), *search_files(self.folder)]
        return stamp_of([*files, *(runs_of(self.folder) / "store" / "score").glob("??")])

    def _price(self, registry: Registry, benchmark: str, read: int, written: int) -> float | None:
        for record in self.records().values():
            return price_of(record, registry, benchmark, read, written)
        return None

    def _question(self, registry: Registry, benchmark: str, name: str) -> str:
        if benchmark not in self._questions:
            texts = [questions_of(record, registry).get(benchmark, "") for record in self.records().values()]
            questions = next((one for one in texts if not isinstance(one, str)), ())
            self._questions[benchmark] = {question.id: "\n\n".join(question.turns) for question in questions}
        return self._questions[benchmark].get(name, "")

    def _calls(self, since: float) -> JudgeCalls | None:
        if not self.ledger.is_file():
            return None
        try:
            with Ledger(self.ledger, create=False) as ledger:
                newest = ledger.latest(REPLIES, since)
                found, requests = ledger.get(newest), ledger.requests(newest)
                replies = [
                    JudgeReply(found[key].model, requests[key]["messages"][-1]["content"], found[key].text, key)
                    for key in newest
                    if key in found and key in requests
                ]
                return JudgeCalls(*ledger.spending(since), tuple(replies))
        except UserError:  # locked for a moment, or damaged, which the run itself reports
            return None

    def request_page(self, start: str, links: Sequence[tuple[str, str]]) -> str:
        """One request to a judge, exactly as it was sent, and the reply. Raises UserError where there is none."""
        with Ledger(self.ledger, create=False) as ledger:
            keys = ledger.keys(start)
            if len(keys) != 1:
                raise UserError(f"{self.name}: the ledger has {'several requests' if keys else 'no request'} {start}.")
            request, reply = ledger.requests(keys)[keys[0]], ledger.get(keys).get(keys[0])
        options = {name: value for name, value in request.items() if name not in ("messages", "endpoint", "model")}
        html = render(
            "request.html.jinja",
            key=keys[0],
            request=request,
            options=json.dumps(options),
            reply=reply,
            content=json.dumps({"request": request, "reply": vars(reply) if reply else None}, indent=1, default=dict),
        )
        return page(f"distilbench: {self.name}", [Section("Request and reply", html)], Frame(links=links))


class Library:
    """Runs by the name that they have in addresses: no part of an address is ever a path."""

    def __init__(self, runs: Path, words: Sequence[str] = (), plugins: Sequence[str] = ()) -> None:
        """Raises UserError where a word names no run, or there is none at all."""
        check_runs(runs)
        self._runs, self._plugins = runs, plugins
        self._chosen = [folder_of(runs, word) for word in words]
        self._viewed: dict[Path, ViewedRun] = {}
        self._lock = threading.Lock()
        if not self.all():
            raise UserError(f"{runs} holds no run: run a recipe first (distilbench run), or name --runs FOLDER.")

    def all(self) -> dict[str, ViewedRun]:
        """The chosen runs; where none was chosen, all that there are now: a run may begin later."""
        with self._lock:
            for folder in self._chosen or [one.absolute() for one in run_folders(self._runs)]:
                if folder not in self._viewed:
                    ids = {slug(run.name) for run in self._viewed.values()}  # of sections of a page with several
                    options = (folder.name, *(f"{folder.name}-{number}" for number in range(2, len(ids) + 3)))
                    name = next(name for name in options if slug(name) not in ids)
                    self._viewed[folder] = ViewedRun(name, folder, self._plugins, self._place(folder))
            return {run.name: run for run in self._viewed.values()}

    def _place(self, folder: Path) -> str:
        return "" if runs_of(folder) == Path("runs").absolute() else str(runs_of(folder))

    def run(self, name: str) -> ViewedRun:
        runs = self.all()
        if name not in runs:
            raise unknown_choice("run", name, runs)
        return runs[name]

    def index(self) -> str:
        html = render("runs.html.jinja", runs=[(run, *run.about(), run.facts()) for run in self.all().values()])
        return page("distilbench: runs", [Section("Runs", html)], Frame())


def stamp_of(files: Iterable[Path]) -> list[tuple[str, int]]:
    return [(str(file), file.stat().st_mtime_ns) for file in sorted(files)]


def has_tables(folder: Path) -> bool:
    return bool(recorded_targets(folder) or search_files(folder))


def is_run(folder: Path) -> bool:
    return has_tables(folder) or newest_progress(folder) is not None


def run_folders(runs: Path) -> list[Path]:
    return [runs / name for name in run_names(runs, is_run)]


def folder_of(runs: Path, word: str) -> Path:
    """Of a run that has begun, by the words that every command takes."""
    return find_run(word, runs, is_run).folder.absolute()
