"""A run while it runs, in parts of HTML: what it does, loss curves, first answers and verdicts, cost so far.

It reads what a run writes anyway: its progress file, the store's finished artifacts, the training logs of stages in the
making. Text of models is escaped like all other text."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from markupsafe import Markup

from harness.contracts.stage import Ref
from harness.errors import UserError
from harness.text import format_count, parse_json
from harness.types import Answer, Judgment
from reports.page.run_card import PriceFunction, costs, duration
from reports.page.widgets import Section, macros, table
from results.run.lineage import ArtifactMarker, Lineage
from results.run.progress import (
    BEFORE,
    DONE,
    ELSEWHERE,
    FAILED,
    RUNNING,
    WAITING,
    CommandProgress,
    ProgressReader,
    StageProgress,
    newest_progress,
)
from results.store.store import ArtifactStore

CURVES: Final = 12  # that are drawn at most: what runs, then what finished last
POINTS: Final = 150  # of a curve
SAMPLES: Final = 4
JUDGMENTS, ANSWERS = "judgments.jsonl", "answers.jsonl"
SHOWN: Final = 700  # characters of a question or an answer
TITLES: Final = {
    "state": "State", "stages": "Stages", "training": "Loss", "answers": "Answers and verdicts", "costs": "Cost so far"
}  # fmt: skip


@dataclass(frozen=True)
class JudgeReply:
    model: str
    asked: str
    text: str
    key: str


@dataclass(frozen=True)
class JudgeCalls:
    """What the ledger says of judging since the command began, whoever asked."""

    dollars: float
    calls: int
    priced: int
    replies: tuple[JudgeReply, ...] = ()


@dataclass
class LiveRun:
    """Follows the newest command of a run."""

    folder: Path
    store: ArtifactStore
    price: PriceFunction = lambda benchmark, read, written: None
    question: Callable[[str, str], str] = lambda benchmark, name: ""  # text of a question, where it can be had
    calls: Callable[[float], JudgeCalls | None] = lambda since: None
    link: Callable[[str], str] = lambda key: ""  # address of a request in the ledger
    _reader: ProgressReader | None = None
    _samples: dict[str, dict[str, Any]] = field(default_factory=dict)
    _markers: dict[str, ArtifactMarker] = field(default_factory=dict)
    _files: dict[tuple[str, str], Path | None] = field(default_factory=dict)
    _curves: dict[str, dict[str, object]] = field(default_factory=dict)

    def progress(self) -> CommandProgress | None:
        """``None``: no command has left a progress file."""
        path = newest_progress(self.folder)
        if path is None:
            return None
        if self._reader is None or self._reader.progress.path != path:
            self._reader = ProgressReader(path)
        return self._reader.read()

    def parts(self) -> dict[str, str]:
        """Id of a place on the page to its HTML; empty where there is nothing to follow."""
        progress = self.progress()
        if progress is None:
            return {}
        make = macros("live.html.jinja")
        calls = self.calls(progress.began)
        parts = {
            "state": make.state(state(progress)),
            "stages": make.stages(*_stages(progress)),
            "training": make.training(*self._training(progress)),
            "answers": make.answers(*self._answers(progress, calls)),
            "costs": make.costs(*self._costs(progress, calls)),
        }
        return {f"live-{name}": str(html) for name, html in parts.items()}

    def sections(self) -> list[Section]:
        if not (parts := self.parts()):
            return []
        box = Markup('<div id="live-{}">{}</div>')
        return [
            Section(title, box.format(name, Markup(parts[f"live-{name}"])))  # noqa: S704  (autoescape made it)
            for name, title in TITLES.items()
        ]

    def _training(self, progress: CommandProgress) -> tuple[list[dict[str, object]], str]:
        logs = [
            (stage, log)
            for stage in progress.of(RUNNING, DONE, BEFORE, ELSEWHERE)
            if (log := self._file(stage, "model/training.jsonl"))
        ]
        logs.sort(key=lambda item: (item[0].state != RUNNING, -item[0].ended))
        curves = [curve for stage, log in logs[:CURVES] if (curve := self._curve(stage, log))]
        rest = len(logs) - CURVES
        return curves, f"{format_count(rest, 'earlier training')} not shown." if rest > 0 else ""

    def _curve(self, stage: StageProgress, log: Path) -> dict[str, object]:
        if stage.key in self._curves:
            return self._curves[stage.key]
        losses = read_losses(log)
        curve = _curve(stage, losses) if losses else {}
        if stage.state != RUNNING:  # it grows no more
            self._curves[stage.key] = curve
        return curve

    def _file(self, stage: StageProgress, name: str) -> Path | None:
        """A file of a finished stage, or of one in the making; ``None``: it has none (yet)."""
        if (stage.key, name) in self._files:
            return self._files[stage.key, name]
        if stage.state == RUNNING:  # a stage that was killed leaves its folder behind, and the newest one counts
            return next(
                (folder / name for folder in self.store.unfinished(stage.key) if (folder / name).is_file()), None
            )
        file = None
        with suppress(KeyError, UserError):
            file = self.store.path(stage.kind, stage.key) / name
        self._files[stage.key, name] = file if file is not None and file.is_file() else None
        return self._files[stage.key, name]

    def _answers(
        self, progress: CommandProgress, calls: JudgeCalls | None
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, str]]]:
        over = progress.of(DONE, BEFORE, ELSEWHERE)
        judged = [stage for stage in over if stage.answers and self._file(stage, JUDGMENTS)]
        keys = {Ref.parse(stage.answers).key for stage in judged}
        answered = [stage for stage in over if stage.key not in keys and self._file(stage, ANSWERS)]
        # stable: what was there before stays in the order of the plan
        newest = sorted([*judged, *answered], key=lambda stage: -stage.ended)
        samples = [sample for stage in newest[: 2 * SAMPLES] if (sample := self._sample(stage))][:SAMPLES]
        means = [mean for stage in judged if (mean := self._sample(stage)) and mean["count"]]
        replies = [
            {
                "model": reply.model,
                "asked": cut(reply.asked, 2000),
                "text": cut(reply.text, 120),
                "link": self.link(reply.key),
            }
            for reply in (calls.replies if calls else ())
        ]
        return samples, means, replies

    def _sample(self, stage: StageProgress) -> dict[str, Any]:
        """One answer of a stage with its verdicts, and the mean of all; empty where the artifact cannot be read."""
        if stage.key not in self._samples:
            lineage, found = Lineage(self.store), dict[str, Any]()
            with suppress(UserError, OSError, ValueError):
                judgments: Mapping[str, Sequence[Judgment]] = {}
                answers = Ref(stage.kind, stage.key)
                if stage.answers:
                    judgments = lineage.judgments(Ref(stage.kind, stage.key))
                    answers = Ref.parse(stage.answers)
                found = self._shown(stage, lineage.answers(answers), judgments)
            self._samples[stage.key] = found
        return self._samples[stage.key]

    def _shown(
        self, stage: StageProgress, answers: Mapping[str, Answer], judgments: Mapping[str, Sequence[Judgment]]
    ) -> dict[str, Any]:
        verdicts = [judgment.verdict for calls in judgments.values() for judgment in calls]
        values = [verdict for verdict in verdicts if verdict is not None]
        name, answer = next(iter(answers.items()), ("", None))
        return {
            "label": stage.label.partition(" ")[2],
            "count": len(verdicts),
            "mean": f"{sum(values) / len(values):.3f}" if values else "none",
            "unscored": len(verdicts) - len(values),
            "question": cut(self.question(stage.benchmark, name)),
            "answer": cut("\n\n".join(answer.turns)) if answer else "",
            "verdicts": [
                {
                    "part": one.part,
                    "value": f"not scored: {one.reason}" if one.verdict is None else f"{one.verdict:.3g}",
                    "link": self.link(one.request) if one.request else "",
                }
                for one in judgments.get(name, ())
            ],
        }

    def _costs(self, progress: CommandProgress, calls: JudgeCalls | None) -> tuple[list[tuple[str, str]], Markup]:
        for stage in progress.of(DONE, ELSEWHERE):
            if stage.key not in self._markers:
                with suppress(KeyError, UserError):
                    self._markers[stage.key] = self.store.meta(stage.kind, stage.key)
        markers = [self._markers[one.key] for one in progress.of(DONE, ELSEWHERE) if one.key in self._markers]
        lines = []
        if calls is not None:
            known = f"${calls.dollars:,.2f}" if calls.priced else "no price known" if calls.calls else "$0.00"
            if 0 < calls.priced < calls.calls:
                known += f" and {format_count(calls.calls - calls.priced, 'call')} without a known price"
            lines = [("Judge calls in the ledger since it began", f"{calls.calls:,} ({known})")]
        content = costs(markers, self.price)
        return lines, table(content) if markers else Markup("")


def read_losses(log: Path) -> list[tuple[int, float]]:
    """(step, loss) of a training log, which may grow while it is read."""
    losses: list[tuple[int, float]] = []
    with suppress(OSError):
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError, KeyError, TypeError, OverflowError):
                record = parse_json(line)
                losses.append((int(record["step"]), float(record["loss"])))
    return losses


def cut(text: str, length: int = SHOWN) -> str:
    return text if len(text) <= length else f"{text[:length]} … ({len(text) - length:,} more characters)"


def state(progress: CommandProgress) -> dict[str, object]:
    """The first line of the page."""
    total = len(progress.stages)
    over, failed, running = progress.of(BEFORE, DONE, ELSEWHERE), progress.of(FAILED), progress.of(RUNNING)
    counts = f"{len(over)} of {format_count(total, 'stage')} done"
    counts += f", {len(failed)} failed" if failed else ""
    end = progress.ended or (time.time() if progress.alive else progress.heard)
    since, last = (f"{datetime.fromtimestamp(one, UTC):%d %B, %H:%M} UTC" for one in (progress.began, end))
    span = f"Began {since}" + (f"; last heard of {last}" if progress.was_killed else "")
    lines = [
        {"text": f"{span}; {duration(end - progress.began)}{' so far' if progress.alive else ''}.", "is_bad": False}
    ]
    if progress.alive:
        word, tone = "Running.", "good"
        text = f"{counts}, {len(running)} running, {len(progress.of(WAITING))} waiting."
        lines.append({"text": _left(*progress.time_left()), "is_bad": False})
        lines += [{"text": f"Last score: {score}.", "is_bad": False}] if (score := progress.last_score) else []
    elif progress.was_killed:
        word, tone = "Killed.", "bad"
        text = f"{counts}. The command (process {progress.pid} on {progress.host}) is gone and wrote no last line."
        names = ", ".join(stage.label for stage in running) or "none"
        lines.append({"text": f"Running when it was killed: {names}.", "is_bad": True})
        lines.append({"text": "What is done is kept: the same command goes on from here.", "is_bad": False})
    elif progress.problem:
        word, tone = ("Stopped.", "bad") if progress.problem == "stopped" else ("Ended by an error.", "bad")
        text = f"{counts}. What is done is kept: the same command goes on from here."
        lines += [{"text": progress.problem, "is_bad": True}] if progress.problem != "stopped" else []
    else:
        word, tone = ("Finished with failures.", "bad") if failed else ("Finished.", "good")
        text = f"{counts}."
    share = len(over) / total if total else None
    return {
        "word": word, "tone": tone, "text": text, "lines": lines, "share": share,
        "percent": f"{100 * (share or 0):.0f}%",
    }  # fmt: skip


def _left(seconds: float | None, unknown: Sequence[str]) -> str:
    kinds = ", ".join(unknown)
    if seconds is None:
        return f"How much time is left is not known before stages of these kinds have finished: {kinds}."
    return f"About {duration(seconds)} left{f', not counting {kinds}: none has finished yet' if unknown else ''}."


def _stages(progress: CommandProgress) -> tuple[Any, ...]:
    columns = {
        "done before": (BEFORE,), "done": (DONE, ELSEWHERE), "running": (RUNNING,), "waiting": (WAITING,),
        "failed": (FAILED,),
    }  # fmt: skip
    if not progress.alive:
        columns["was running"] = columns.pop("running")
    rows = []
    for kind in dict.fromkeys(stage.kind for stage in progress.stages):
        stages = [stage for stage in progress.stages if stage.kind == kind]
        times = [stage.seconds for stage in stages if stage.state == DONE]
        mean = duration(sum(times) / len(times)) if times else "–"
        counts = [sum(stage.state in states for stage in stages) or "–" for states in columns.values()]
        rows.append([kind, *counts, mean])
    running = [
        {
            "label": stage.label,
            "share": stage.done / stage.total if stage.total else None,
            "text": _pace(stage, progress),
        }
        for stage in progress.of(RUNNING)
        if progress.alive
    ]
    failed = [{"label": stage.label, "error": stage.error} for stage in progress.of(FAILED)]
    heads = ["Kind", *(name.capitalize() for name in columns), "Mean time"]
    return rows, heads, running, failed, [stage.label for stage in progress.of(WAITING)]


def _pace(stage: StageProgress, progress: CommandProgress) -> str:
    """``120 of 400 steps, loss 0.631; 5.2 per second; 54 s left``."""
    texts = [f"{stage.done:,} of {stage.total:,} {stage.info}"] if stage.total else ["begun"]
    if rate := stage.rate:
        texts.append(f"{rate:.3g} per second" if rate >= 1 else f"{1 / rate:.3g} s each")
    if stage.seconds_left:
        texts.append(f"{duration(stage.seconds_left)} left")
    return "; ".join(texts)


def _curve(stage: StageProgress, losses: Sequence[tuple[int, float]]) -> dict[str, object]:
    """A line from the first step to the last, in a box of 300 by 90."""
    values = [loss for _, loss in losses]
    low, high = min(values), max(values)
    every = max(1, len(losses) // POINTS)
    kept = [*losses[::every], losses[-1]]
    first, last = losses[0][0], losses[-1][0]
    points = [
        f"{300 * (step - first) / max(1, last - first):.1f},{85 - 80 * (loss - low) / ((high - low) or 1):.1f}"
        for step, loss in kept
    ]
    is_running = stage.state == RUNNING
    text = f"step {last:,}" + (f" of {stage.total:,}" if is_running and stage.total else "")
    text += f", loss {values[-1]:.4g} (first {values[0]:.4g})" + (", running" if is_running else "")
    return {
        "label": stage.label.partition(" ")[2], "text": text, "points": " ".join(points), "top": f"{high:.3g}",
        "bottom": f"{low:.3g}",
    }  # fmt: skip
