"""How accurate is a judge: its agreement with human annotations, else with the truth (pocket), else with other judges.
Human agreement as alpaca_eval 0.6's ``analyze.py`` (paper, Appendix B.2): an annotation against the mode of all others.
Tied modes count in equal parts (there one is drawn), a tie against a decision one half. Judges meet the same modes
(there the mode of all k annotations: the same number for k = 4 without ties)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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
    asking: str = ""  # how the recommended judge is asked


@dataclass(frozen=True)
class JudgeCandidate:
    """A judge and a way to ask it (``Panel.askings``)."""

    judge: str
    asking: str
    name: str
    cost: float | None
    closeness: pd.Series[float]  # per item, to the reference
    kappa: Share


def judge_reference(
    panel: Panel,
    humans: pd.DataFrame | None,
    replicates: int,
    seed: int,
    judge_numbers: Sequence[Number],
    budget: float | None = None,
) -> tuple[Reference | None, list[Number]]:
    """The best reference at hand; the accuracy of each judge, asked in each way and of all calls together, and its
    kappa with the reference (or the closest other judge). ``humans``: ``read_humans``'. ``judge_numbers``: flips and
    biases on each benchmark. ``budget``: dollars that the recommended judge may cost, asked as it is recommended."""
    if not any(panel.paired[name] for name in panel.benchmarks):
        return None, []
    candidates: list[JudgeCandidate] = []
    numbers: list[Number] = []
    for asking in ("", *panel.askings):
        basis, labels, scores, witnesses = _measure(panel, humans, asking)
        # An item that was asked several times in this way counts once.
        items = scores.groupby(ITEM).mean() if asking else scores
        # Question ids repeat between benchmarks, so the cluster is the pair.
        line_questions, questions = _question_pairs(scores), _question_pairs(items)
        bootstrap = QuestionBootstrap(questions, replicates, seed)
        shares = {str(judge): bootstrap.mean(items[judge].to_numpy(float), questions) for judge in items.columns}
        valued_shares = {judge: share for judge, share in shares.items() if share.value is not None}
        numbers += [
            Number("accuracy", "", judge, "", "", *share, asking=asking) for judge, share in valued_shares.items()
        ]
        for judge in [judge for judge in panel.judges if judge in valued_shares]:
            kappa = _best_kappa(labels, judge, witnesses, line_questions, bootstrap)
            numbers.append(Number("reference kappa", "", judge, "", "", *kappa, asking=asking))
            if asking:
                name = f"{judge}, {asking}" if len(panel.askings) > 1 else judge
                cost = panel.judges[judge].cost(panel.askings[asking])
                candidates.append(JudgeCandidate(judge, asking, name, cost, items[judge], kappa))
    if not candidates:
        return None, []
    return _recommendation(panel, candidates, judge_numbers, basis, budget, bootstrap), numbers


def _question_pairs(table: pd.DataFrame) -> list[str]:
    return ["\x1f".join(map(str, pair)) for pair in table.reset_index()[["benchmark", "question"]].to_numpy()]


def _recommendation(
    panel: Panel, candidates: Sequence[JudgeCandidate], judge_numbers: Sequence[Number], basis: str,
    budget: float | None, bootstrap: QuestionBootstrap,
) -> Reference:  # fmt: skip
    """The cheapest of the candidates that can be trusted and paid, and is not significantly worse than their best."""
    coverage, flips = _coverage(panel, candidates[0].closeness.index, basis), _flips(judge_numbers)
    choices: list[JudgeCandidate] = []
    too_dear: dict[str, str] = {}
    left_out = dict.fromkeys(panel.judges, "no verdict that can be compared")
    for candidate in candidates:
        left_out.pop(candidate.judge, None)
        if reason := _distrust(float(coverage[candidate.judge]), flips.get(candidate.judge, 0.0)):
            left_out[candidate.judge] = reason  # however it is asked
        elif reason := _distrust_kappa(candidate.kappa):
            left_out[candidate.name] = reason
        elif budget is not None and (candidate.cost is None or candidate.cost > budget):
            too_dear[candidate.name] = _price(candidate)
        else:
            choices.append(candidate)
    left_out |= too_dear
    remark = f" Left out: {'; '.join(f'{name}: {reason}' for name, reason in left_out.items())}." if left_out else ""
    if not choices:
        reason = f"none within ${budget:g}." if too_dear else "none of these can be trusted."
        return Reference(basis, None, reason + remark)
    # They are compared on the same items, those that all of them judged.
    common = pd.DataFrame({candidate.name: candidate.closeness for candidate in choices}).dropna()
    if common.empty:
        names = " and ".join(candidate.name for candidate in choices)
        return Reference(basis, None, f"none: {names} gave no verdict on the same items." + remark)
    choice, reason = _cheapest(choices, common, bootstrap, basis)
    effects = [number for number in judge_numbers if number.measure in EFFECTS and number.judge == choice.judge]
    calls = format_count(panel.askings[choice.asking], "call")
    reason = f"{reason}; {_price(choice)} for {calls}. Biases: {bias_names(effects)}." + remark
    return Reference(basis, choice.judge, reason, choice.asking)


def _flips(judge_numbers: Sequence[Number]) -> dict[str, float]:
    """Judge to the share of pairs that the order alone flips, on its worst benchmark; all flips, where no repeats tell
    what is noise."""
    flips = {(number.judge, number.on): number.value or 0.0 for number in judge_numbers if number.measure == "flips"}
    for number in judge_numbers:
        if number.measure == "flips beyond noise" and number.value is not None:
            flips[number.judge, number.on] = number.value
    worst: dict[str, float] = {}
    for (judge, _), share in flips.items():
        worst[judge] = max(share, worst.get(judge, 0.0))
    return worst


def _distrust(coverage: float, flips: float) -> str:
    """Why a judge may not be recommended, whatever it costs; empty if it may."""
    if coverage < MIN_COVERAGE:
        return f"{coverage:.1%} of the verdicts are there, {MIN_COVERAGE:.0%} are needed"
    if flips >= MOST_FLIPS:
        return f"{flips:.0%} of pairs flip with the order beyond noise, must be below {MOST_FLIPS:.0%}"
    return ""


def _distrust_kappa(kappa: Share) -> str:
    # Without an interval (one question, one label) nothing shows that the judge does better than chance.
    if kappa.value is None or kappa.low is None or kappa.high is None:
        return "kappa cannot be estimated"
    span = f"{kappa.value:.2f} [{kappa.low:.2f}, {kappa.high:.2f}]"
    return "" if kappa.low > LEAST_KAPPA else f"kappa {span} is not surely above {LEAST_KAPPA:g}"


def _price(candidate: JudgeCandidate) -> str:
    return "price unknown" if candidate.cost is None else f"${candidate.cost:,.2f}"


def _coverage(panel: Panel, items: pd.Index[Any], basis: str) -> pd.Series[float]:
    """Judge to the share of its verdicts that are there, the mean over the items; 0 for an item it was not asked about.
    Only an item that two judges were asked about compares one with the other."""
    lines = panel.judgments
    shares = lines["verdict"].notna().groupby([lines[name] for name in [*ITEM, "judge"]]).mean().unstack("judge")
    shares = shares.reindex(items)
    return (shares[shares.notna().sum(axis=1) > 1] if basis == OTHER_JUDGES else shares).fillna(0.0).mean()


def _measure(
    panel: Panel, humans: pd.DataFrame | None, asking: str
) -> tuple[str, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Basis, and of each line of ``Panel.matrix``: labels and closeness to the reference (0..1) [lines, judges], labels
    of the reference's witnesses [lines, others]."""
    tables = [panel.matrix(name, asking) for name in panel.benchmarks if panel.paired[name]]
    verdicts = pd.concat(tables).apply(lambda column: verdict_labels(column.to_numpy(float)))
    items = (verdicts.reset_index("call", drop=True) if asking else verdicts).index
    truth = panel.judgments.groupby(ITEM)["quality"].first().reindex(items).to_numpy(float)
    if humans is not None:
        basis, scores = HUMAN_MAJORITY, _against_humans(verdicts, items, humans)
        votes = humans.groupby(ITEM)["verdict"].mean()
        votes = votes.reindex((scores.reset_index("call", drop=True) if asking else scores).index)
        witnesses = pd.DataFrame({basis: verdict_labels(votes.to_numpy(float))}, index=scores.index)
    elif not np.isnan(truth).any():
        better = (truth[truth != 0] > 0).astype(float)
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
    choices: Sequence[JudgeCandidate], scores: pd.DataFrame, bootstrap: QuestionBootstrap, basis: str
) -> tuple[JudgeCandidate, str]:
    """The cheapest that is not significantly less accurate than the best of them, on these items, and why."""
    values = {name: float(scores[name].mean()) for name in scores}
    best, questions = max(choices, key=lambda choice: values[choice.name]), _question_pairs(scores)

    def as_good(choice: JudgeCandidate) -> bool:
        # paired: two judges' own intervals overlap long after their difference is significant
        change = bootstrap.mean((scores[choice.name] - scores[best.name]).to_numpy(float), questions)
        return change.high is None or change.high >= 0

    def price(choice: JudgeCandidate) -> tuple[float, float]:
        # an unknown price cannot be the lowest; among equal prices the more accurate one
        return float("inf") if choice.cost is None else choice.cost, -values[choice.name]

    cheapest = min(filter(as_good, choices), key=price)
    reason = (
        f"{cheapest.name}: agrees with {basis} on {values[cheapest.name]:.1%} of {format_count(len(scores), 'item')}"
    )
    if cheapest is not best:
        reason += f", not significantly less than {best.name} ({values[best.name]:.1%})"
    return cheapest, reason


def _against_humans(verdicts: pd.DataFrame, items: pd.Index[Any], humans: pd.DataFrame) -> pd.DataFrame:
    """[lines, judges and humans] closeness to the mode of all human annotations of the line's item but one, 0..1."""
    modes, people = {}, {}
    for item, group in humans.dropna(subset=["verdict"]).groupby(ITEM):
        votes = verdict_labels(group["verdict"].to_numpy(float))
        if len(votes) > 1:  # one vote leaves nothing to compare with
            others = leave_one_out(votes)
            modes[item], people[item] = others.mean(axis=0), float(closeness(votes, others).mean())
    is_voted = np.array([item in modes for item in items], dtype=bool)
    shares = np.array([modes[item] for item in items[is_voted]]).reshape(-1, len(LABELS))
    scores = verdicts[is_voted].apply(lambda column: closeness(column.to_numpy(float), shares))
    return scores.assign(**{HUMANS: [people[item] for item in items[is_voted]]})


def leave_one_out(votes: Array) -> Array:
    """[k, 3] for votes [k] of 0, 0.5 or 1: the distribution of the mode of the votes without the i-th."""
    is_vote = votes[:, None] == LABELS[None, :]
    counts = is_vote.sum(axis=0) - is_vote
    modes = (counts == counts.max(axis=1, keepdims=True)).astype(float)
    return np.asarray(modes / modes.sum(axis=1, keepdims=True))


def closeness(labels: Array, shares: Array) -> Array:
    """1 - |label - other| of each label [k], in expectation over another label drawn from its shares [k, 3]."""
    return np.asarray(1.0 - (np.abs(labels[:, None] - LABELS) * shares).sum(axis=1))


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
