"""How accurate is a judge: its agreement with human annotations, else with the truth (pocket), else with other judges.

Human agreement is AlpacaEval's (``analyze.py`` of alpaca_eval 0.6; paper, Appendix B.2): one annotation against the
mode of all human annotations but one, averaged over the one that is left out. Tied modes count in equal parts
(AlpacaEval draws one at random); a tie against a decision counts one half. A judge is compared with the same modes, so
that its number stands beside the humans' own; alpaca_eval compares a judge with the mode of all k annotations, which
is the same number for k = 4 without ties.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.stats import Array
from reports.judge_comparison.agreement import won
from reports.judge_comparison.panel import ITEM, Panel, QuestionBootstrap, Share

HUMANS = "humans"
"""The line of the humans themselves."""
HUMAN, TRUTH, OTHERS = "the human majority", "the truth", "the other judges"
RULES = {
    HUMAN: "one annotation against the mode of the human annotations but one (AlpacaEval's definition); a tie counts "
    "one half.",
    TRUTH: "how often a judge picks the truly better answer, over all comparisons with a baseline in which the truth "
    "is not a tie; a judge's tie counts one half.",
    OTHERS: "how close a judge's label (model, tie, baseline) is to each other judge's, averaged over comparisons with "
    "a baseline; a tie against a decision counts one half. Judges that agree may err alike.",
}
_LABELS = np.array([0.0, 0.5, 1.0])


@dataclass(frozen=True)
class Reference:
    """All judges against one reference; grades compare nothing and take no part."""

    basis: str
    """A key of ``RULES``."""
    accuracies: Mapping[str, Share]
    """Judge (and ``HUMANS``, against human annotations) to its agreement with the reference."""


def judge_reference(panel: Panel, humans: pd.DataFrame | None, replicates: int, seed: int) -> Reference | None:
    """The best reference at hand; ``None`` where there is none.

    ``humans``: columns ``benchmark``, ``ITEM``, ``annotator``, ``verdict`` (0..1), one line per person and item.
    """
    tables = {name: panel.matrix(name) for name in panel.benchmarks if panel.paired[name]}
    if not tables:
        return None
    verdicts = pd.concat(tables, names=["benchmark"]).apply(lambda column: won(column.to_numpy(float)))
    truth = panel.items.set_index(["benchmark", *ITEM])["quality"].reindex(verdicts.index)
    if humans is not None:
        basis, scores = HUMAN, _against_humans(verdicts, humans)
    elif truth.notna().all():
        better = (truth[truth != 0] > 0).to_numpy(float)
        basis, scores = TRUTH, verdicts[truth != 0].apply(lambda column: 1 - np.abs(column - better))
    else:
        others = {
            judge: 1 - verdicts.drop(columns=judge).sub(verdicts[judge], axis=0).abs().mean(axis=1)
            for judge in verdicts
        }
        basis, scores = OTHERS, pd.DataFrame(others)
    # Question ids repeat between benchmarks, so the cluster is the pair.
    questions = list(zip(*(scores.index.get_level_values(name) for name in ("benchmark", "question")), strict=True))
    bootstrap, accuracies = QuestionBootstrap(questions, replicates, seed), {}
    for judge in scores.columns:
        values = scores[judge].to_numpy(float)
        known = ~np.isnan(values)
        share, _ = bootstrap.ratio(np.where(known, values, 0.0), known.astype(float), questions)
        if share.value is not None:
            accuracies[str(judge)] = share
    return Reference(basis, accuracies) if accuracies else None


def _against_humans(verdicts: pd.DataFrame, humans: pd.DataFrame) -> pd.DataFrame:
    """[items, judges and humans] closeness to the mode of all human annotations but one, 0..1."""
    lines = {}
    for item, group in humans.dropna(subset=["verdict"]).groupby(["benchmark", *ITEM]):
        votes = won(group["verdict"].to_numpy(float))
        if len(votes) > 1 and item in verdicts.index:  # one vote leaves nothing to compare with
            modes = leave_one_out(votes)
            own = np.mean([closeness(vote, mode) for vote, mode in zip(votes, modes, strict=True)])
            values = verdicts.to_numpy(float)[verdicts.index.get_loc(item)]
            judged = {
                judge: closeness(value, modes.mean(axis=0)) for judge, value in zip(verdicts, values, strict=True)
            }
            lines[item] = {**judged, HUMANS: own}
    frame = pd.DataFrame.from_dict(lines, orient="index")
    frame.index = pd.MultiIndex.from_tuples(list(lines), names=["benchmark", *ITEM])
    return frame


def leave_one_out(votes: Array) -> Array:
    """[k, 3] for votes [k] of 0, 0.5 or 1: the distribution of the mode of the votes without the i-th."""
    cast = votes[:, None] == _LABELS[None, :]
    counts = cast.sum(axis=0) - cast
    modes = (counts == counts.max(axis=1, keepdims=True)).astype(float)
    return np.asarray(modes / modes.sum(axis=1, keepdims=True))


def closeness(verdict: float, shares: Array) -> float:
    """1 - |verdict - label|, in expectation over a label drawn from shares [3]."""
    return float(1.0 - np.abs(verdict - _LABELS) @ shares)
