"""A run's judge comparison read back from the store: ``sources.json`` says which score artifact is whose.

The door (``distilbench compare-judges``) writes ``sources.json`` and ``items.csv`` into ``runs/NAME/judges``; from
them and the store every table can be made again without a judge.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.errors import UserError
from harness.records import read_records
from harness.stats import Draws
from harness.types import Judgment, Score
from reports.judge_comparison.panel import FEATURES, Estimate, Facts, Panel, frame
from reports.tables.cell import scored_share
from reports.targets import EVAL, TARGETS
from results.run.record import read_scores
from results.store.store import ArtifactStore

FORMAT = 1


def load_panel(folder: Path, store: ArtifactStore) -> tuple[Panel, str]:
    """The panel in ``folder`` and the family of the run's teacher (empty: not known).

    Raises UserError where no comparison was made there, or its artifacts are gone.
    """
    said = _description(folder / "sources.json")
    calls: list[dict[str, Any]] = []
    rates: dict[str, dict[str, dict[str, Estimate]]] = {}
    baselines = tuple(said["baselines"])
    for each in said["scores"]:
        judge, benchmark = each["judge"], each["benchmark"]
        try:
            meta = store.meta("score", each["score"])
            scores = read_scores(store.path("score", each["score"]) / "scores.json")
            calls += _calls(judge, benchmark, meta, said["benchmarks"][benchmark], store)
        except KeyError as error:
            raise UserError(f"{folder}: {error.args[0]}. Give the compare-judges command again.") from error
        for metric, rows in estimates(scores, baselines).items():
            rates.setdefault(metric, {})[judge] = rows
    items = pd.read_csv(folder / "items.csv", dtype={"question": str, "row": str, "turn": str}, keep_default_na=False)
    items[list(FEATURES)] = items[list(FEATURES)].replace("", np.nan).astype(float)
    items["seed"] = items["seed"].astype(int)
    facts = {name: _facts(each) for name, each in said["judges"].items()}
    paired = {name: bool(each["paired"]) for name, each in said["benchmarks"].items()}
    target = TARGETS.get(folder.parent.name, EVAL)
    passes = {name: int(each["calls"]) for name, each in said["benchmarks"].items() if "calls" in each}
    panel = Panel(
        frame(calls), items, paired, facts, rates, said["titles"],
        target.reference if target.reference in baselines else "", baselines,
        f"run {said['run']}", tuple(said.get("notes", ())), said.get("names", {}),
        target.focus or "", said.get("teacher_model", ""), passes,
    )  # fmt: skip
    return panel, said["teacher"]


def judge_names(folder: Path, store: ArtifactStore) -> dict[str, str]:
    """Key of every judge artifact of the comparison in ``folder`` to the judge's name there; empty without one."""
    if not (folder / "sources.json").is_file():
        return {}
    found: dict[str, str] = {}
    for each in _description(folder / "sources.json")["scores"]:
        try:
            inputs = store.meta("score", each["score"])["inputs"]
        except KeyError:  # deleted by hand since: its judgments then have no name of ours
            continue
        keys = [ref.split("/")[1] for name, ref in inputs.items() if name.startswith("judgments:")]
        found |= dict.fromkeys(keys, each["judge"])
    return found


def _facts(said: Mapping[str, Any]) -> Facts:
    own, stated = tuple(said["own"]), said.get("length_words")
    return Facts(said["model"], said["family"], own, said["dollars"], said["seconds"], stated)


def _description(place: Path) -> dict[str, Any]:
    try:
        said = json.loads(place.read_bytes())
    except FileNotFoundError as error:
        raise UserError(f"{place} is not there: compare judges first (distilbench compare-judges).") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{place} cannot be read: {error}. Give the compare-judges command again.") from error
    if not isinstance(said, dict) or said.get("format") != FORMAT:
        raise UserError(f"{place} is not of format {FORMAT}. Give the compare-judges command again.")
    return said


def turn_of(part: str, paired: bool) -> str:
    """Which turn a judge was asked about: of a comparison what stands before the colon, of a grade the part itself."""
    return part.rpartition(":")[0] if paired else part


def _calls(
    judge: str, benchmark: str, meta: Mapping[str, Any], said: Mapping[str, Any], store: ArtifactStore
) -> list[dict[str, Any]]:
    """The calls behind one score artifact."""
    low, high = said["range"]
    paired = bool(said["paired"])
    found: list[dict[str, Any]] = []
    for entrant in meta["params"]["entrants"]:
        row, _, seed = entrant.rpartition("/")
        kind, key = meta["inputs"][f"judgments:{entrant}"].split("/")
        for each in read_records(store.path(kind, key) / "judgments.jsonl", Judgment):
            verdict = float("nan") if each.verdict is None else each.verdict
            order = each.meta.get("model_first")
            found.append(
                {
                    "judge": judge, "benchmark": benchmark, "row": row, "seed": int(seed), "question": each.question,
                    "turn": turn_of(each.part, paired), "part": each.part, "repeat": each.repeat,
                    "model_first": float("nan") if order is None else float(order),
                    "verdict": (verdict - low) / (high - low) if paired else verdict,
                }
            )  # fmt: skip
    return found


def estimates(scores: Mapping[str, Sequence[Score]], baselines: Sequence[str] = ()) -> dict[str, dict[str, Estimate]]:
    """Metric to row to its mean over the seeds, with replicates over questions: the students are those of the run, for
    every judge, so judges and rows are paired. ``baselines``: rows that are not trained."""
    grouped: dict[str, dict[str, list[Score]]] = {}
    for entrant, each in scores.items():
        for score in each:
            grouped.setdefault(score.metric, {}).setdefault(entrant.rpartition("/")[0], []).append(score)
    found: dict[str, dict[str, Estimate]] = {}
    for metric, rows in grouped.items():
        for row, every in rows.items():
            several = [score for score in every if score.value is not None]
            if not several:
                continue
            values = np.array([score.value for score in several], dtype=float)
            grid = np.array([score.replicates for score in several]) if all(s.replicates for s in several) else None
            draws = None if grid is None else Draws(values, grid, trained=row not in baselines)
            found.setdefault(metric, {})[row] = Estimate(
                float(values.mean()), np.empty(0) if draws is None else draws.centre,
                min(score.n for score in several), draws, scored_share(every) or 0.0,
            )  # fmt: skip
    return found
