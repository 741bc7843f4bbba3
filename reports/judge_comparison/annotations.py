"""Annotations made elsewhere as a panel of judges, and people's annotations of the answers of a panel.

The files are read in ``annotation_file.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from harness.errors import UserError
from harness.text import counted
from reports.judge_comparison.annotation_file import Annotated, read_calls
from reports.judge_comparison.model_families import family_of
from reports.judge_comparison.panel import ITEM, Facts, Panel

ANSWER = ["row", "seed", "question"]
_SHOWN = 10


def annotation_panel(
    files: Sequence[Path],
    judges: Sequence[str],
    own: Mapping[str, Sequence[str]] | None = None,
    benchmark: str = "annotations",
) -> Panel:
    """The annotators of these files as judges: all of them, or those named, in that order.

    Args:
        own: judge to the rows whose answers are by its own family.

    Raises:
        UserError: no row has a judge, or a row of its own, that was named.
    """
    read = read_calls(files, benchmark)
    calls = read.calls
    have = list(dict.fromkeys(calls["judge"]))
    missing = [name for name in judges if name not in have]
    if missing:
        raise UserError(f"--judges {', '.join(missing)}: not among the annotators: {', '.join(have[:_SHOWN])}.")
    chosen = list(judges) or have
    calls = calls[calls["judge"].isin(chosen)]
    titles = {row: row for row in dict.fromkeys(calls["row"])}
    check_own(own or {}, chosen, list(titles))
    facts = {name: Facts(name, family_of(name), tuple((own or {}).get(name, ()))) for name in chosen}
    notes = [*read.notes, "Verdicts as annotated elsewhere: order of the answers, price and time are not in the files."]
    if len(set(calls["turn"])) > 1:
        notes.append("Several baselines: only annotations against the same baseline are compared item by item.")
    source = ", ".join(path.name for path in files)
    return Panel(calls, read.items, {benchmark: True}, facts, {}, titles, source=source, notes=tuple(notes))


def check_own(own: Mapping[str, Sequence[str]], judges: Sequence[str], rows: Sequence[str]) -> None:
    """Raises UserError where ``--own`` names a judge or a row that is not compared."""
    for judge, named in own.items():
        option = f"--own {judge}={','.join(named)}"
        if judge not in judges:
            raise UserError(f"{option}: no judge of this name is compared; there are: {', '.join(judges[:_SHOWN])}.")
        missing = [row for row in named if row not in rows]
        if missing:
            known = ", ".join(rows[:_SHOWN])
            raise UserError(f"{option}: no row {missing[0]!r} is compared; there are: {known}.")


def read_humans(path: Path, benchmark: str | None, panel: Panel) -> tuple[pd.DataFrame, list[str]]:
    """Human annotations of a panel's items, and what a table must say of them.

    Args:
        benchmark: whose answers they annotate; ``None``: the first that compares answers.

    Returns:
        Columns ``benchmark``, ``ITEM``, ``annotator``, ``verdict`` (0..1): one line per person and answer.

    Raises:
        UserError: as ``match_humans``, or nothing is compared with a baseline.
    """
    paired = [name for name in panel.benchmarks if panel.paired[name]]
    if not paired:
        raise UserError(f"--humans {path}: no benchmark here compares answers with a baseline.")
    name = benchmark or paired[0]
    return match_humans(read_calls([path], name), panel.of(name)[ITEM].drop_duplicates(), path)


def match_humans(read: Annotated, known: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Annotations of people beside the items that are judged (columns ``ITEM``), as ``read_humans`` returns them.

    They name the question by its id (or instruction) and the row by its id; where they name no baseline (or no seed),
    they mean the one (the first) that the row is judged with. One person's annotations of one answer are averaged.

    Raises:
        UserError: none of them fits, which baseline is meant is not clear, or no answer has two people.
    """
    humans = _placed(read, known, path)
    fitting = humans.merge(known, on=ITEM)
    if fitting.empty:
        shown = "; ".join(
            f"question {q!r} of {r!r}" for q, r in humans[["question", "row"]].drop_duplicates().head(3).to_numpy()
        )
        wanted = "; ".join(
            f"question {q!r} of {r!r}" for q, r in known[["question", "row"]].drop_duplicates().head(3).to_numpy()
        )
        raise UserError(
            f"--humans {path}: it annotates no answer that is compared here. It has {shown}; known: {wanted}."
        )
    given = fitting.dropna(subset=["verdict"])
    people = given.groupby(["benchmark", *ITEM, "annotator"], sort=False)["verdict"].mean().reset_index()
    each = people.groupby(ITEM).size()
    if not (each >= 2).any():
        raise UserError(
            f"--humans {path}: no answer has preferences of two people. Agreement leaves one person out and compares "
            "with the others; AlpacaEval has four for each answer."
        )
    notes = [f"Humans: {path.name}, {counted(len(given), 'annotation')} of {counted(len(each), 'answer')} compared."]
    left = (
        (len(humans) - len(fitting), "annotation", "of no answer that is compared here"),
        (len(fitting) - len(given), "annotation", "without a preference"),
        (int((each < 2).sum()), "answer", "with one person, whom nobody can be compared with"),
    )
    out = "; ".join(f"{counted(count, noun)} {why}" for count, noun, why in left if count)
    notes += [*read.notes, *([f"Humans, left out: {out}."] if out else [])]
    if len(people) < len(given):
        again = counted(len(given) - len(people), "annotation")
        notes.append(f"Humans: {again} by a person who had annotated the same answer; one person has one vote.")
    return people, notes


def _placed(read: Annotated, known: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The annotations with the seed and the turn (baseline) of ``known`` where they name none themselves."""
    humans = read.calls.rename(columns={"judge": "annotator"})
    if not read.seeded and not set(humans["seed"]) & set(known["seed"]):
        humans["seed"] = min(known["seed"])
    if set(known["turn"]) == {""}:
        return humans.assign(turn="")
    bare = humans["turn"] == ""
    if not bare.any():
        return humans
    turns = known.groupby(ANSWER)["turn"].agg(["first", "nunique"])
    mine = turns.reindex(pd.MultiIndex.from_frame(humans[ANSWER]))
    several = bare.to_numpy() & (mine["nunique"] > 1).to_numpy()
    if several.any():
        row, _, question = humans[several][ANSWER].iloc[0]
        raise UserError(
            f"--humans {path}: question {question!r} of {row!r} is compared several times (baselines or turns), and "
            "the annotations do not say which is meant: name the baseline (column 'baseline' or 'generator_1')."
        )
    humans["turn"] = humans["turn"].where(~bare, mine["first"].to_numpy())
    return humans
