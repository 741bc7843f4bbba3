"""The run card: recipe, protocols, versions, hashes and costs. All that one needs to judge or repeat a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import yaml
from markupsafe import Markup

from reports.page.widgets import Section, render, table
from reports.tables.table import Table, TableCell, TableColumn, TableRow
from results.run.lineage import Marker
from results.run.record import Run
from results.store.provenance import plain

Price = Callable[[str, int, int], float | None]
"""(benchmark, tokens that its judge read, tokens that it wrote) -> dollars; ``None`` when the price is not known."""


@dataclass(frozen=True)
class ProtocolCard:
    """One benchmark's protocol for people: name, its judge, and lines of (what, value)."""

    name: str
    lines: tuple[tuple[str, str], ...]
    deviations: tuple[str, ...]


def unknown(benchmark: str, read: int, written: int) -> float | None:
    return None


def cards_section(cards: Sequence[tuple[str, Markup]], title: str = "Run card") -> Section:
    """Run cards by the label of their target; several are folded."""
    return Section(title, render("run_cards.html.jinja", cards=cards))


def run_card(run: Run, markers: Sequence[Marker], price: Price) -> Markup:
    """``markers``: of all stages behind the run's scores (``results.run.judging.stages_behind``)."""
    return render(
        "run_card.html.jinja",
        facts=_facts(run, markers),
        protocols=[_protocol(run, card.benchmark, markers) for card in run.cards],
        recipe=yaml.safe_dump(plain(run.recipe), sort_keys=False, allow_unicode=True, width=100),
        costs=table(costs(markers, price)),
        stages=table(stages(markers)),
        count=len(markers),
        versions=_versions(markers),
    )


def _facts(run: Run, markers: Sequence[Marker]) -> list[tuple[str, str]]:
    models = f"{run.family.teacher} teaches {run.family.student}" if run.family.teacher else run.family.student
    facts = [("Run", run.name), ("Family", run.family.name), ("Models", models)]
    facts += [("Seeds", ", ".join(map(str, run.seeds))), ("Finished", "yes" if run.finished else "NO")]
    if markers:
        first, last = _time(markers[0]), _time(markers[-1])
        facts += [("Stages began", f"{first if first == last else f'{first} to {last}'} (UTC)")]
    return facts + [("Note", note) for note in run.notes]


def _protocol(run: Run, benchmark: str, markers: Sequence[Marker]) -> ProtocolCard:
    card = next(card for card in run.cards if card.benchmark == benchmark)
    groups = [metric.group for metric in run.columns if metric.id.partition(".")[0] == benchmark]
    lines = [("Protocol", card.version), ("Judge", run.judges.get(benchmark, "not stated"))]
    lines += [("Official judge", card.official_judge)] if card.official_judge else []
    lines += [("Judge prompt", card.prompt_hash)]
    lines += [(name.replace("_", " "), readable(value)) for name, value in card.parameters.items()]
    # by the run's own keys: other scores of this benchmark may lie in the store
    keys = {cell.score for cell in run.cells if cell.metric.partition(".")[0] == benchmark}
    scored = [marker for marker in markers if marker["key"] in keys]
    lines += [("Questions (hash)", str(marker["params"]["questions"])) for marker in scored]
    lines += [("Score (key)", str(marker["key"])) for marker in scored]
    return ProtocolCard(groups[0] if groups else benchmark, tuple(lines), tuple(card.deviations))


def readable(value: Any) -> str:
    """A protocol's value as a reader writes it, not as Python does."""
    if value is None or isinstance(value, bool):
        return {True: "yes", False: "no", None: "none"}[value]
    return ", ".join(map(readable, value)) if isinstance(value, list | tuple) else str(value)


def _versions(markers: Sequence[Marker]) -> list[tuple[str, str]]:
    """Package (or ``python``, ``git``, ``platform``) to the versions that made the artifacts; usually one each."""
    versions: dict[str, dict[str, None]] = {}
    for marker in markers:
        git = marker.get("git") or {}
        commit = f"{git['commit']}{' (with changes)' if git.get('dirty') else ''}" if git else "not known"
        state = {"git commit": commit, "python": marker["python"], "platform": marker["platform"], **marker["packages"]}
        for name, version in state.items():
            versions.setdefault(name, {})[str(version)] = None
    return [(name, ", ".join(several)) for name, several in versions.items()]


def costs(markers: Sequence[Marker], price: Price) -> Table:
    """What each kind of stage took, each artifact counted once however many rows share it."""
    kinds = list(dict.fromkeys(marker["kind"] for marker in markers))
    rows = [_costs([marker for marker in markers if marker["kind"] == kind], kind, price) for kind in kinds]
    total = _costs(markers, "all", price)
    names = ("Artifacts", "Wall time", "Peak memory", "Model tokens", "Judge calls", "Judge tokens", "Judge cost")
    columns = (TableColumn("Stage", numeric=False), *(TableColumn(name) for name in names))
    notes = (
        "Wall time is summed over stages, which may have run side by side.",
        "What was in the store already is counted with what it took when it was made.",
        "Judge cost: the judge's list price of all replies, also of those that came from the ledger for nothing.",
    )
    return Table("costs", "What the run took", columns, tuple(rows), notes, detail_rows=(total,))


def _costs(markers: Sequence[Marker], name: str, price: Price) -> TableRow:
    seconds = sum(float(marker["wall_seconds"]) for marker in markers)
    memory = max(int(marker["peak_memory_bytes"]) for marker in markers) if markers else 0
    measured = [_measured(marker) for marker in markers]
    tokens, calls, read, written = (
        sum(int(stage.get(name) or 0) for stage in measured)
        for name in ("tokens", "calls", "prompt_tokens", "completion_tokens")
    )
    cells = (
        TableCell(name, sort=name),
        TableCell(str(len(markers)), sort=len(markers)),
        TableCell(duration(seconds), sort=seconds),
        TableCell(size(memory), sort=memory),
        _count(tokens),
        _count(calls),
        _count(read + written),
        _dollars(markers, price) if calls else TableCell("-"),
    )
    return TableRow(cells)


def _count(number: int) -> TableCell:
    return TableCell(f"{number:,}", sort=number) if number else TableCell("-")


def _dollars(markers: Sequence[Marker], price: Price) -> TableCell:
    amounts = []
    for marker in markers:
        measured = _measured(marker)
        if measured.get("calls"):
            spent = (int(measured.get("prompt_tokens") or 0), int(measured.get("completion_tokens") or 0))
            amounts.append(price(str(marker["params"]["benchmark"]), *spent))
    known = sum(amount for amount in amounts if amount is not None)
    if any(amount is None for amount in amounts):
        return TableCell(f"${known:,.2f} + unknown" if known else "unknown", sort=known or None)
    return TableCell(f"${known:,.2f}", sort=known)


def _measured(marker: Marker) -> Mapping[str, Any]:
    measurements = marker.get("measurements")
    return measurements if isinstance(measurements, Mapping) else {}


def stages(markers: Sequence[Marker]) -> Table:
    rows = [TableRow(tuple(TableCell(text, sort=sort) for text, sort in _stage(marker))) for marker in markers]
    names = (("Stage", False), ("Kind", False), ("Wall time", True), ("Peak memory", True), ("Began (UTC)", False))
    columns = (*(TableColumn(name, numeric=numeric) for name, numeric in names), TableColumn("Key", numeric=False))
    return Table("stages", "All artifacts behind the scores", columns, tuple(rows))


def _stage(marker: Marker) -> list[tuple[str, float | str]]:
    label, kind, started, key = (str(marker[name]) for name in ("label", "kind", "started", "key"))
    seconds, memory = float(marker["wall_seconds"]), int(marker["peak_memory_bytes"])
    times: list[tuple[str, float | str]] = [
        (duration(seconds), seconds),
        (size(memory), float(memory)),
        (_time(marker), started),
    ]
    return [(label, label), (kind, kind), *times, (key, key)]


def _time(marker: Marker) -> str:
    return datetime.fromisoformat(marker["started"]).strftime("%Y-%m-%d %H:%M:%S")


def duration(seconds: float) -> str:
    """``0.4 s``, ``12 s``, ``3 min 05 s``, ``2 h 10 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
