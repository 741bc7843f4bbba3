"""Panels of judges made up by hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from reports.judge_comparison.panel import FEATURES, ITEM, Facts, Panel, frame


def panel(
    calls: Iterable[tuple[str, str, object, str, float]], judges: Sequence[str] = (), truth: Mapping[str, float] = {}
) -> Panel:
    """A comparison ``annotations`` from (judge, row, question, turn, verdict); ``truth``: question to true quality.

    The same call twice is a repeat.
    """
    rows = [
        {"judge": judge, "benchmark": "annotations", "row": row, "seed": 0, "question": str(question), "turn": turn,
         "part": "p", "repeat": 0, "model_first": float("nan"), "verdict": verdict}
        for judge, row, question, turn, verdict in calls
    ]  # fmt: skip
    made = frame(rows)
    made["repeat"] = made.groupby(["judge", *ITEM]).cumcount()
    items = made[["benchmark", *ITEM]].drop_duplicates().reset_index(drop=True)
    for name in FEATURES:
        items[name] = 0.0 if name == "same" else float("nan")
    if truth:
        items["quality"] = [truth[question] for question in items["question"]]
    names = judges or list(dict.fromkeys(made["judge"]))
    return Panel(made, items, {"annotations": True}, {name: Facts(name) for name in names})
