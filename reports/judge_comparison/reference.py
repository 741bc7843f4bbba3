"""How accurate is a judge: its agreement with human annotations, else with the truth (pocket), else with other judges.
Human agreement as alpaca_eval 0.6's ``analyze.py`` (paper, Appendix B.2): an annotation against the mode of all others.
Tied modes count in equal parts (there one is drawn), a tie against a decision one half. Judges meet the same modes
(there the mode of all k annotations: the same number for k = 4 without ties)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.errors import UserError
from harness.stats import Array
from harness.text import format_count
from reports.judge_comparison.agreement import LABELS, label_kappa, verdict_labels
from reports.judge_comparison.bias import EFFECTS, OTHER_JUDGES, TRUTH, bias_names
from reports.judge_comparison.panel import ITEM, Number, Panel, QuestionBootstrap, Share
from reports.tables.summary import MIN_COVERAGE

HUMANS = "humans"
HUMAN_MAJORITY = "the human majority"
RULES = {
    HUMAN_MAJORITY: "one annotation against the mode of the human annotations but one (AlpacaEval's definition); a tie "
    "counts one half.",
    TRUTH: "how often a judge picks the truly better answer, over all comparisons with a baseline in which the truth "
    "is not a tie; a judge's tie counts one half.",
    OTHER_JUDGES: "how close a judge's label (model, tie, baseline) is to each other judge's, averaged over "
    "comparisons with a baseline; a tie against a decision counts one half. Judges that agree may err alike.",
}
LEAST_KAPPA = 0.2  # Landis & Koch (1977): slight up to here, hardly more than two judges that guess alike
MOST_FLIPS = 0.3  # a judge that sees no difference between any two answers flips in half of the pairs
SHARPNESS = 3.0  # log-odds of a simulated person per unit of true score; the pocket judge has 8


@dataclass(frozen=True)
class Reference:
    basis: str  # a key of ``RULES``
    recommended: str | None  # ``None``: all are left out
    reason: str  # with what was left out


def judge_reference(
    panel: Panel,
    humans: pd.DataFrame | None,
    replicates: int,
    seed: int,
    judge_numbers: Sequence[Number],
    budget: float | None = None,
) -> tuple[Reference | None, list[Number]]:
    """The best reference at hand; each judge's accuracy, and its kappa with that (or the closest other judge).
    ``humans``: ``read_humans``'. ``judge_numbers``: flips and biases on each benchmark. ``budget``: dollars that the
    recommended judge may cost for ``panel.pass_calls``."""
    if not any(panel.paired[name] for name in panel.benchmarks):
        return None, []
    basis, labels, scores, witnesses = _measure(panel, humans)
    # Question ids repeat between benchmarks, so the cluster is the pair.
    questions = ["\x1f".join(map(str, pair)) for pair in scores.reset_index()[["benchmark", "question"]].to_numpy()]
    bootstrap = QuestionBootstrap(questions, replicates, seed)
    accuracies = {str(judge): bootstrap.mean(scores[judge].to_numpy(float), questions) for judge in scores.columns}
    accuracies = {judge: share for judge, share in accuracies.items() if share.value is not None}
    if not accuracies:
        return None, []
    judges = [judge for judge in panel.judges if judge in accuracies]
    kappas = {judge: _best_kappa(labels, judge, witnesses, questions, bootstrap) for judge in judges}
    numbers = [Number("accuracy", "", judge, "", "", *share) for judge, share in accuracies.items()]
    numbers += [Number("reference kappa", "", judge, "", "", *share) for judge, share in kappas.items()]
    flips = {n.judge for n in judge_numbers if n.measure == "flips" and (n.value or 0.0) > MOST_FLIPS}
    coverage = _coverage(panel, scores, basis)
    costs, left_out = _candidates(
        panel, {judge: (float(coverage[judge]), kappas[judge]) for judge in judges}, flips, budget
    )
    limit = "" if budget is None else f" for {format_count(panel.pass_calls, 'call')} within ${budget:g}"
    recommended: str | None = None
    reason = f"none{limit}."
    # The judges are compared on the same items, those that all candidates judged.
    common = scores.where(scores[list(costs)].notna().all(axis=1))
    if costs and not common.notna().to_numpy().any():
        reason = f"none: {' and '.join(costs)} gave no verdict on the same items."
    elif costs:
        recommended, reason = _cheapest(common, costs, questions, bootstrap, basis)
        effects = [number for number in judge_numbers if number.measure in EFFECTS and number.judge == recommended]
        reason += f" for {format_count(panel.pass_calls, 'call')}. Biases: {bias_names(effects)}."
    return Reference(basis, recommended, f"{reason} Left out: {'; '.join(left_out)}." if left_out else reason), numbers


def _candidates(
    panel: Panel, quality: Mapping[str, tuple[float, Share]], flips: Collection[str], budget: float | None
) -> tuple[dict[str, float | None], list[str]]:
    """Judge to its cost in dollars, of those that may be recommended; why each other one may not.
    ``quality``: judge to coverage and kappa."""
    costs: dict[str, float | None] = {}
    left_out = [f"{judge}: no verdict that can be compared" for judge in panel.judges if judge not in quality]
    for judge, (coverage, kappa) in quality.items():
        price = panel.judges[judge].dollars
        cost = None if price is None else price * panel.pass_calls / 1000
        if coverage < MIN_COVERAGE:
            reason = f"{coverage:.1%} of the verdicts are there, {MIN_COVERAGE:.0%} are needed"
        # Without an interval (one question, one label) nothing shows that the judge does better than chance.
        elif kappa.low is None or kappa.low < LEAST_KAPPA:
            reason = f"kappa may be below {LEAST_KAPPA:g}"
        elif judge in flips:
            reason = f"more than {MOST_FLIPS:.0%} of pairs flip with order"
        elif budget is not None and (cost is None or cost > budget):
            reason = "price unknown" if cost is None else f"${cost:,.2f}"
        else:
            costs[judge] = cost
            continue
        left_out.append(f"{judge}: {reason}")
    return costs, left_out


def _coverage(panel: Panel, scores: pd.DataFrame, basis: str) -> pd.Series[float]:
    """Judge to the share of its verdicts that are there, the mean over the items; 0 for an item it was not asked about.
    Only an item that two judges were asked about compares one with the other."""
    lines = panel.judgments
    shares = lines["verdict"].notna().groupby([lines[name] for name in [*ITEM, "judge"]]).mean().unstack("judge")
    shares = shares.reindex(scores.index)
    return (shares[shares.notna().sum(axis=1) > 1] if basis == OTHER_JUDGES else shares).fillna(0.0).mean()


def _measure(panel: Panel, humans: pd.DataFrame | None) -> tuple[str, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Basis, labels and closeness to the reference (0..1) [items, judges], labels of its witnesses [items, others]."""
    tables = [panel.matrix(name) for name in panel.benchmarks if panel.paired[name]]
    verdicts = pd.concat(tables).apply(lambda column: verdict_labels(column.to_numpy(float)))
    truth = panel.judgments.groupby(ITEM)["quality"].first().reindex(verdicts.index)
    if humans is not None:
        basis, scores = HUMAN_MAJORITY, _against_humans(verdicts, humans)
        votes = humans.groupby(ITEM)["verdict"].mean().reindex(scores.index)
        witnesses = pd.DataFrame({basis: verdict_labels(votes.to_numpy(float))}, index=scores.index)
    elif truth.notna().all():
        better = (truth[truth != 0] > 0).to_numpy(float)
        basis, scores = TRUTH, verdicts[truth != 0].apply(lambda column: 1 - np.abs(column - better))
        witnesses = pd.DataFrame({basis: better}, index=scores.index)
    else:
        # A label's distance to another's is 0, 0.5 (a tie and a decision) or 1; missing verdicts count for nothing.
        distances = {
            judge: 1 - verdicts.drop(columns=judge).sub(verdicts[judge], axis=0).abs().mean(axis=1)
            for judge in verdicts
        }
        basis, scores, witnesses = OTHER_JUDGES, pd.DataFrame(distances), verdicts
    return basis, verdicts.reindex(scores.index), scores, witnesses


def _best_kappa(
    labels: pd.DataFrame, judge: str, witnesses: pd.DataFrame, questions: Sequence[str], bootstrap: QuestionBootstrap
) -> Share:
    """With the witness that the judge agrees with most: a poor judge must not make a good one look poor."""
    shares = []
    for witness in witnesses.columns.drop(judge, errors="ignore"):
        pair = np.column_stack([labels[judge], witnesses[witness]]).astype(np.float64)
        complete = np.flatnonzero(~np.isnan(pair).any(axis=1))
        pair_questions = [questions[int(place)] for place in complete]
        shares.append(label_kappa(pair[complete, 0], pair[complete, 1], LABELS, pair_questions, bootstrap))
    return max(shares, key=lambda share: -1.0 if share.low is None else share.low, default=Share())


def _cheapest(
    scores: pd.DataFrame, costs: Mapping[str, float | None],
    questions: Sequence[str], bootstrap: QuestionBootstrap, basis: str,
) -> tuple[str, str]:  # fmt: skip
    """The cheapest of these judges that is not significantly less accurate than the best of them, and why."""
    values = {judge: float(scores[judge].mean()) for judge in costs}
    best = max(costs, key=lambda judge: values[judge])

    def as_good(judge: str) -> bool:
        # paired: two judges' own intervals overlap long after their difference is significant
        change = bootstrap.mean((scores[judge] - scores[best]).to_numpy(float), questions)
        return change.high is None or change.high >= 0

    def price(judge: str) -> tuple[float, float]:
        # an unknown price cannot be the lowest; among equal prices the more accurate judge
        cost = costs[judge]
        return float("inf") if cost is None else cost, -values[judge]

    cheapest = min(filter(as_good, costs), key=price)
    items = format_count(int(scores[cheapest].count()), "item")
    reason = f"{cheapest}: agrees with {basis} on {values[cheapest]:.1%} of {items}"
    if cheapest != best:
        reason += f", not significantly less than {best} ({values[best]:.1%})"
    cost = costs[cheapest]
    return cheapest, f"{reason}; {'price unknown' if cost is None else f'${cost:,.2f}'}"


def _against_humans(verdicts: pd.DataFrame, humans: pd.DataFrame) -> pd.DataFrame:
    """[items, judges and humans] closeness to the mode of all human annotations but one, 0..1."""
    lines = {}
    for item, group in humans.dropna(subset=["verdict"]).groupby(ITEM):
        votes = verdict_labels(group["verdict"].to_numpy(float))
        if len(votes) > 1 and item in verdicts.index:  # one vote leaves nothing to compare with
            modes = leave_one_out(votes)
            values = verdicts.to_numpy(float)[verdicts.index.get_loc(item)]
            line = {judge: closeness(value, modes.mean(axis=0)) for judge, value in zip(verdicts, values, strict=True)}
            line[HUMANS] = float(np.mean([closeness(vote, mode) for vote, mode in zip(votes, modes, strict=True)]))
            lines[item] = line
    return pd.DataFrame(list(lines.values()), index=pd.MultiIndex.from_tuples(list(lines), names=ITEM))


def leave_one_out(votes: Array) -> Array:
    """[k, 3] for votes [k] of 0, 0.5 or 1: the distribution of the mode of the votes without the i-th."""
    is_vote = votes[:, None] == LABELS[None, :]
    counts = is_vote.sum(axis=0) - is_vote
    modes = (counts == counts.max(axis=1, keepdims=True)).astype(float)
    return np.asarray(modes / modes.sum(axis=1, keepdims=True))


def closeness(verdict: float, shares: Array) -> float:
    """1 - |verdict - label|, in expectation over a label drawn from shares [3]."""
    return float(1.0 - np.abs(verdict - LABELS) @ shares)


def simulated_humans(judgments: pd.DataFrame, people: int, seed: int = 0) -> tuple[pd.DataFrame, list[str]]:
    """Votes of people who prefer the truly better answer with log-odds ``SHARPNESS`` x its advantage, and a note.
    Raises UserError where the true scores are not known."""
    items = judgments.drop_duplicates(ITEM)
    if items["quality"].isna().any():
        raise UserError(
            "--simulate-humans: the true scores of these answers are not known; only pocket's are. Give annotations of "
            "people with --humans FILE."
        )
    chances = 1 / (1 + np.exp(-SHARPNESS * items["quality"].to_numpy(float)))
    votes_for_model = np.random.default_rng(seed).random((people, len(items))) < chances
    votes = [
        items[ITEM].assign(annotator=f"simulated {number}", verdict=choices.astype(float))
        for number, choices in enumerate(votes_for_model, 1)
    ]
    note = f"Humans: {people} simulated from the true scores (log-odds {SHARPNESS:g} per unit), no people."
    return pd.concat(votes), [note]
