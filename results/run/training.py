"""How the students of a run were trained, read back from the store: what it cost, and the training curves.

    trained = trainings(run, store)
    trained["dpo", 0].seconds      # {"sample": 8.1, "reward": 21.0, "reference": 2.2, "train": 9.6}
    trained["dpo", 0].curve[0]     # {"step": 1, "loss": 0.69, "terms": {...}, "logs": {...}, ...}

Everything is found from the score artifacts, by following the inputs in their markers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from harness.contracts.stage import Store
from results.run.record import Run

FREE = frozenset({"prompts", "overlap", "pairs", "block"})
"""Kinds of stages behind a student that run no model."""
MARKER, CURVE = "meta.json", "training.jsonl"
Row = tuple[str, int]
"""Row and training seed."""


@dataclass(frozen=True)
class Training:
    """One trained student."""

    seconds: Mapping[str, float]
    """Wall time by kind of stage, of every stage behind the student that ran a model, as measured when it ran. A
    stage that several rows share counts in full for each: what this student alone would have taken."""
    peak_memory: int
    """Bytes, of the stage that needed most: the GPU's where it ran on one, else the process's resident memory."""
    curve: tuple[Mapping[str, Any], ...]
    """One record per optimiser step, all rounds one after the other with steps counted on."""
    torch: str = ""
    """Its version, which names CPU and CUDA builds."""
    complete: bool = True
    """False where a stage is no longer in the store: then ``seconds`` is less than it took."""

    @property
    def hours(self) -> float:
        """All of ``seconds``, in hours."""
        return sum(self.seconds.values()) / 3600


def trainings(run: Run, store: Store) -> dict[Row, Training]:
    """Every trained row and seed of which the store still has the stages; an untrained row has no entry."""
    behind = _Lineage(store)
    found: dict[Row, Training] = {}
    for cell in run.cells:
        place = (cell.row, cell.seed)
        if place in found or cell.unavailable is not None:
            continue
        student = behind.student(cell.score, cell.entrant)
        if student is not None:
            found[place] = behind.training(student)
    return found


@dataclass(frozen=True)
class _Lineage:
    store: Store

    @cached_property
    def markers(self) -> dict[str, Mapping[str, Any] | None]:
        """Artifacts that were looked at, by ``kind/key``; ``None``: not in the store."""
        return {}

    def marker(self, name: str) -> Mapping[str, Any] | None:
        if name not in self.markers:
            kind, key = name.split("/")
            try:
                text = (self.store.path(kind, key) / MARKER).read_text(encoding="utf-8")
                self.markers[name] = json.loads(text)
            except (KeyError, OSError, ValueError):  # cleared away, or damaged: then nothing is known of it
                self.markers[name] = None
        return self.markers[name]

    def student(self, score: str, entrant: str) -> str | None:
        """The train artifact whose model answered for this entrant."""
        answers = ((self.marker(f"score/{score}") or {}).get("inputs") or {}).get(f"answers:{entrant}")
        model = ((self.marker(answers) or {}).get("inputs") or {}).get("model") if answers else None
        return str(model) if model is not None and self.marker(model) is not None else None

    def behind(self, name: str, seen: set[str]) -> Iterator[tuple[str, Mapping[str, Any] | None]]:
        """An artifact and all that it was made from, each once; ``None``: no longer in the store."""
        if name in seen:
            return
        seen.add(name)
        marker = self.marker(name)
        for reads in (marker or {}).get("inputs", {}).values():
            yield from self.behind(reads, seen)
        yield name, marker

    def training(self, student: str) -> Training:
        seconds: dict[str, float] = {}
        peak, torch, complete = 0, "", True
        for name, marker in self.behind(student, set()):
            kind = name.split("/")[0]
            if kind in FREE:
                continue
            if marker is None:
                complete = False
                continue
            seconds[kind] = seconds.get(kind, 0.0) + float(marker["wall_seconds"])
            measured = marker.get("measurements") or {}
            peak = max(peak, int(measured.get("peak_memory") or marker["peak_memory_bytes"]))
            torch = str(marker.get("packages", {}).get("torch", ""))
        return Training(seconds, peak, tuple(self.curve(student)), torch, complete)

    def curve(self, student: str) -> list[Mapping[str, Any]]:
        """The steps of a train stage, after those of the rounds before it."""
        marker = self.marker(student)
        if marker is None:
            return []
        before = marker["inputs"].get("student")
        earlier = self.curve(before) if before else []
        kind, key = student.split("/")
        path = self.store.path(kind, key) / "model" / CURVE
        if not path.is_file():  # trained elsewhere, by a backend that keeps no curve
            return earlier
        done = int(earlier[-1]["step"]) if earlier else 0
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        return [*earlier, *({**line, "step": done + int(line["step"])} for line in lines)]
