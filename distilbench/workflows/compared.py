"""A comparison of judges that was made of a run, made again from what is stored: for its page, and for the command.

``sources.json`` in ``runs/NAME/TARGET/judges`` says with which options, ``humans.csv`` what people said.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from distilbench.workflows.rejudging import Judged
    from reports.judge_comparison.compare import Comparison
    from reports.judge_comparison.panel import Panel
    from results.store.store import ArtifactStore

FOLDER = "judges"
"""Under ``runs/NAME/TARGET``: what was compared, and the tables."""
_PEOPLE = "humans.csv"


def check_names(names: Sequence[str]) -> None:
    """Raises UserError where a judge has the name of the people's own row."""
    from reports.judge_comparison.humans import HUMANS

    if HUMANS in names:
        raise UserError(f"a judge is called {HUMANS!r}, as the line of the people in the tables is: rename it.")


def people(panel: Panel, humans: Path | None, simulated: int | None) -> tuple[Panel, pd.DataFrame | None]:
    """Human annotations from a file, simulated ones, or none; the panel's notes say which."""
    from reports.judge_comparison.annotations import read_humans
    from reports.judge_comparison.simulated_humans import describe_humans, simulated_humans

    if humans is None and simulated is None:
        return panel, None
    check_names(list(panel.judges))
    if humans is not None:
        found, notes = read_humans(humans, None, panel)
        return replace(panel, notes=(*panel.notes, *notes)), found
    panel = replace(panel, notes=(*panel.notes, describe_humans(simulated or 0)))
    return panel, simulated_humans(panel, simulated or 0, seed=0)


def check_people(judged: Sequence[Judged], store: ArtifactStore, humans: Path | None, simulated: int | None) -> None:
    """Raises UserError, before anything is asked, where people's annotations fit no answer or cannot be simulated."""
    import pandas as pd

    from distilbench.workflows.rejudged import items
    from reports.judge_comparison.annotation_file import read_calls
    from reports.judge_comparison.annotations import match_humans
    from reports.judge_comparison.answer_features import truth
    from reports.judge_comparison.panel import ITEM
    from reports.judge_comparison.simulated_humans import NO_TRUTH

    if humans is None and simulated is None:
        return
    paired = [each for each in judged if each.paired]
    if humans is not None:
        read = read_calls([humans], paired[0].benchmark if paired else "")
        if not paired:
            raise UserError(f"--humans {humans}: no benchmark here compares answers with a baseline.")
        match_humans(read, pd.DataFrame([each[0] for each in items(paired[0], store)], columns=ITEM), humans)
    elif not paired or any(math.isnan(truth(q.turns, q.baseline, None)) for q in paired[0].questions):
        raise UserError(NO_TRUTH)


def keep_options(
    folder: Path,
    store: ArtifactStore,
    humans: Path | None = None,
    simulated: int | None = None,
    budget: float | None = None,
    replicates: int = 1000,
) -> None:
    """Put into ``sources.json`` what ``compared_again`` needs besides verdicts, and beside it what people said.

    Args:
        folder: ``runs/NAME/TARGET``, whose answers were judged.
    """
    from reports.judge_comparison.load_run import load_panel
    from results.store.locks import write_atomic

    place = folder / FOLDER
    options: dict[str, Any] = {"budget": budget, "replicates": replicates, "simulated": simulated, "humans": None}
    if humans is not None:
        panel, _ = load_panel(place, store)
        told, found = people(panel, humans, None)
        options["humans"] = list(told.notes[len(panel.notes) :])
        write_atomic(place / _PEOPLE, b"" if found is None else found.to_csv(index=False).encode())
    else:
        (place / _PEOPLE).unlink(missing_ok=True)
    sources = place / "sources.json"
    said = {**json.loads(sources.read_bytes()), "options": options}
    write_atomic(sources, (json.dumps(said, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def compared_again(folder: Path, store: ArtifactStore) -> Comparison | None:
    """The comparison that was made of a run, with the options it was made with; ``None`` where none was.

    Raises UserError where something of it is gone.
    """
    from reports.judge_comparison.compare import REPLICATES, compare
    from reports.judge_comparison.load_run import load_panel

    place = folder / FOLDER
    if not (place / "sources.json").is_file():
        return None
    panel, teacher = load_panel(place, store)
    options = json.loads((place / "sources.json").read_bytes()).get("options", {})
    panel, said = _kept_people(panel, place, options)
    replicates = options.get("replicates", REPLICATES)
    return compare(panel, said, budget=options.get("budget"), teacher=teacher, replicates=replicates)


def _kept_people(panel: Panel, place: Path, options: Mapping[str, Any]) -> tuple[Panel, pd.DataFrame | None]:
    """What people said, as ``keep_options`` left it."""
    import pandas as pd

    notes = options.get("humans")
    if notes is None:
        return people(panel, None, options.get("simulated"))
    try:
        found = pd.read_csv(place / _PEOPLE, dtype=str, keep_default_na=False)
        found = found.astype({"seed": int, "verdict": float})
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{place / _PEOPLE} cannot be read: {error}. Give the compare-judges command again.") from error
    return replace(panel, notes=(*panel.notes, *notes)), found
