"""The run card: recipe, protocols, versions, hashes and costs. All that one needs to judge or repeat a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

import yaml
from markupsafe import Markup

from harness.types import Score
from reports.page.widgets import render, table
from reports.tables.notes import flag_text
from reports.tables.table import Table, TableCell, TableColumn, TableRow
from results.run.lineage import ArtifactMarker, CellKey
from results.run.record import Run
from results.run.results import Results
from results.store.provenance import json_value

PriceFunction = Callable[[str, int, int], float | None]  # (benchmark, tokens read, written) to dollars
Sortable = tuple[str, float | str | None]  # text, and what the page sorts by
COUNTS = ("tokens", "calls", "prompt_tokens", "completion_tokens")


@dataclass(frozen=True)
class JudgePrompt:
    """What a judge is asked, with names in place of the question and the answers."""

    title: str
    text: str


def run_card(
    results: Results,
    markers: Sequence[ArtifactMarker],
    price: PriceFunction,
    label: str = "",
    prompts: Mapping[str, Sequence[JudgePrompt]] = MappingProxyType({}),
) -> Markup:
    """``markers``: of all stages behind the scores; ``label``: of the target, where the page has several."""
    run = results.run
    return render(
        "run_card.html.jinja",
        label=label,
        facts=_facts(run, markers),
        protocols=[
            {**_protocol(run, card.benchmark, markers, results.scores), "prompts": prompts.get(card.benchmark, ())}
            for card in run.cards
        ],
        recipe=yaml.safe_dump(json_value(run.recipe), sort_keys=False, allow_unicode=True, width=100),
        costs=table(costs(markers, price)),
        stages=table(stages(markers)),
        count=len(markers),
        versions=_versions(markers),
    )


def _facts(run: Run, markers: Sequence[ArtifactMarker]) -> list[tuple[str, str]]:
    models = f"{run.family.teacher} teaches {run.family.student}" if run.family.teacher else run.family.student
    facts = [("Run", run.name), ("Family", run.family.name), ("Models", models)]
    facts += [("Seeds", ", ".join(map(str, run.seeds))), ("Finished", "yes" if run.finished else "NO")]
    if markers:
        start_times = dict.fromkeys(_time(marker) for marker in (markers[0], markers[-1]))
        facts += [("Stages began", f"{' to '.join(start_times)} (UTC)")]
    return facts + [("Note", note) for note in (*run.notes, *run.training_notes)]


def _flag_lines(scores: Mapping[CellKey, Score], benchmark: str) -> list[tuple[str, str]]:
    """How verdicts had to be read. Metrics of one benchmark share them: each row and seed counts once."""
    by_entrant: dict[tuple[str, int], Counter[str]] = {}
    for (row, metric, seed), score in scores.items():
        if metric.partition(".")[0] == benchmark:
            counts = {name: int(count) for name, count in score.detail.items() if name.startswith("flag:")}
            by_entrant[row, seed] = by_entrant.get((row, seed), Counter()) | Counter(counts)
    total = sum(by_entrant.values(), Counter[str]())
    lines = [("Verdicts", flag_text(name.removeprefix("flag:"), count)) for name, count in sorted(total.items())]
    masses = [
        float(score.detail["mean_mass"])
        for (_, metric, _), score in scores.items()
        if metric.partition(".")[0] == benchmark and "mean_mass" in score.detail
    ]
    mean = [("Mean probability of the tokens asked for", f"{sum(masses) / len(masses):.3f}")] if masses else []
    return lines + mean


def _protocol(
    run: Run, benchmark: str, markers: Sequence[ArtifactMarker], scores: Mapping[CellKey, Score]
) -> dict[str, object]:
    card = next(card for card in run.cards if card.benchmark == benchmark)
    groups = [metric.group for metric in run.columns if metric.id.partition(".")[0] == benchmark]
    lines = [("Protocol", card.version), ("Judge", run.judges.get(benchmark, "not stated"))]
    lines += [("Official judge", card.official_judge)] if card.official_judge else []
    lines += [("Judge prompt", card.prompt_hash)]
    lines += [(name.replace("_", " "), readable(value)) for name, value in card.parameters.items()]
    # by the run's own keys: other scores of this benchmark may lie in the store
    keys = {cell.score for cell in run.cells if cell.metric.partition(".")[0] == benchmark}
    score_markers = [marker for marker in markers if marker["key"] in keys]
    lines += _flag_lines(scores, benchmark)
    lines += [("Questions (hash)", str(marker["params"]["questions"])) for marker in score_markers]
    lines += [("Score (key)", str(marker["key"])) for marker in score_markers]
    return {"name": groups[0] if groups else benchmark, "lines": lines, "deviations": card.deviations}


def readable(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {True: "yes", False: "no", None: "none"}[value]
    return ", ".join(map(readable, value)) if isinstance(value, list | tuple) else str(value)


def version_of(markers: Sequence[ArtifactMarker]) -> str:
    """``distilbench 0.1.0, commit 0123456789ab``: what made the artifacts; usually one version."""
    known = dict(_versions(markers))
    commits = ", ".join(f"{text[:12]}{text[40:]}" for text in known.get("git commit", "").split(", ") if text)
    return f"distilbench {known.get('distilbench', '')}".strip() + (f", commit {commits}" if commits else "")


def _versions(markers: Sequence[ArtifactMarker]) -> list[tuple[str, str]]:
    """Package (or ``python``, ``git``, ``platform``) to the versions that made the artifacts; usually one each."""
    versions: dict[str, dict[str, None]] = {}
    for marker in markers:
        git = marker.get("git") or {}
        # A store can hold artifacts of several versions: whoever repeats a number needs the one that made it.
        commit = f"{git['commit']}{' (with changes)' if git.get('dirty') else ''}" if git else "not known"
        state = {"git commit": commit, "python": marker["python"], "platform": marker["platform"], **marker["packages"]}
        for name, version in state.items():
            versions.setdefault(name, {})[str(version)] = None
    return [(name, ", ".join(texts)) for name, texts in versions.items()]


def costs(markers: Sequence[ArtifactMarker], price: PriceFunction) -> Table:
    """What each kind of stage took; an artifact counts once however many rows share it."""
    kinds = dict.fromkeys(marker["kind"] for marker in markers)
    rows = [_costs(kind, [marker for marker in markers if marker["kind"] == kind], price) for kind in kinds]
    names = ("Artifacts", "Wall time", "Peak memory", "Model tokens", "Judge calls", "Judge tokens", "Judge cost")
    columns = (TableColumn("Stage", numeric=False), *map(TableColumn, names))
    notes = (
        "Wall time is summed over stages, which may have run side by side.",
        "What was in the store already is counted with what it took when it was made.",
        "Judge cost: the judge's list price of all replies, also of those that came from the ledger for nothing.",
    )
    total = _costs("all", markers, price)
    return Table("costs", "What the run took", columns, tuple(rows), notes, detail_rows=(total,))


def _costs(name: str, markers: Sequence[ArtifactMarker], price: PriceFunction) -> TableRow:
    seconds = sum(float(marker["wall_seconds"]) for marker in markers)
    memory = max((int(marker["peak_memory_bytes"]) for marker in markers), default=0)
    total: Counter[str] = Counter()
    for marker in markers:
        total.update(_counts(marker))
    counts = (total["tokens"], total["calls"], total["prompt_tokens"] + total["completion_tokens"])
    return _row(
        (name, name), (str(len(markers)), len(markers)), (duration(seconds), seconds), (size(memory), memory),
        *((f"{count:,}", count) if count else ("-", None) for count in counts), _dollars(markers, price),
    )  # fmt: skip


def _row(*cells: Sortable) -> TableRow:
    return TableRow(tuple(TableCell(text, sort=sort) for text, sort in cells))


def _counts(marker: ArtifactMarker) -> dict[str, int]:
    measurements = marker.get("measurements")  # a plug-in's stage may have measured nothing
    return {name: int(measurements.get(name) or 0) for name in COUNTS} if isinstance(measurements, Mapping) else {}


def _dollars(markers: Sequence[ArtifactMarker], price: PriceFunction) -> Sortable:
    judge_markers = [(marker, counts) for marker in markers if (counts := _counts(marker)).get("calls")]
    amounts = [
        price(str(marker["params"]["benchmark"]), counts["prompt_tokens"], counts["completion_tokens"])
        for marker, counts in judge_markers
    ]
    if not amounts:
        return "-", None
    total = sum(amount for amount in amounts if amount is not None)
    if None in amounts:
        return f"${total:,.2f} + unknown" if total else "unknown", total or None
    return f"${total:,.2f}", total


def stages(markers: Sequence[ArtifactMarker]) -> Table:
    rows = []
    for marker in markers:
        label, kind, key, start_time = (str(marker[name]) for name in ("label", "kind", "key", "started"))
        seconds, memory = float(marker["wall_seconds"]), int(marker["peak_memory_bytes"])
        measurements = (duration(seconds), seconds), (size(memory), memory), (_time(marker), start_time)
        rows.append(_row((label, label), (kind, kind), *measurements, (key, key)))
    names, numeric = ("Stage", "Kind", "Wall time", "Peak memory", "Began (UTC)", "Key"), ("Wall time", "Peak memory")
    columns = tuple(TableColumn(name, numeric=name in numeric) for name in names)
    return Table("stages", "All artifacts behind the scores", columns, tuple(rows))


def _time(marker: ArtifactMarker) -> str:
    return datetime.fromisoformat(marker["started"]).strftime("%Y-%m-%d %H:%M:%S")


def duration(seconds: float) -> str:
    """``0.4 s``, ``12 s``, ``3 min 05 s``, ``2 h 10 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, remainder = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {remainder:02d} s" if minutes else f"{remainder} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
