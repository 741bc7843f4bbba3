"""What pocket says about each claim of the PAD paper: ``docs/claims.md``, from finished runs.

    distilbench reproduce all --seeds 0,1,2,3,4
    distilbench reproduce table1,figure5 --recipe studies/pocket_paper.yaml --seeds 0,1,2,3,4
    python -m studies.pocket_claims --out studies/pocket_claims.json --figures docs --page docs/methods.md
    python -m studies.pocket_claims --recipe studies/pocket_paper.yaml --out studies/pocket_claims_paper.json
    python -m studies.pocket_verdicts --out studies/pocket_verdicts.json --page docs/claims.md

A claim is a list of differences that must be above 0 (one row of a table less another), or not below minus ``MARGIN``
where the paper says that nothing is lost. Intervals and tests are the tables' own: paired over the same questions, with
the pooled variance of training seeds; p-values are corrected by Holm within a claim. A difference is

- confirmed, where it is significantly above 0 (or its interval above minus ``MARGIN``);
- refuted, where it is significantly below 0;
- undecided otherwise: neither can be said.

The paper's options (alpha 0.8, beta 10) stand beside the searched ones where both were run.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import distilbench
from distilbench.workflows.finished_run import FinishedRun
from harness.errors import UserError
from harness.stats import Estimate, contrast, detectable, holm, seed_noise
from reports.tables.summary import Summary, summarise
from reports.targets import find_target
from studies.marked_page import put_between

LC, ARENA, MT = "alpaca_eval.lc", "arena_hard.wr", "mt_bench.score"
MARGIN = 2.0
"""Points of a win rate that count as no loss, as in the tables' comparison with the paper."""
LEVEL = 0.05
CONFIRMED, REFUTED, UNDECIDED = "confirmed", "refuted", "undecided"


@dataclass(frozen=True)
class Difference:
    """``row`` of ``target`` less ``other`` of ``other_target`` (the same when it is empty), in one metric."""

    target: str
    row: str
    other: str
    metric: str = LC
    other_target: str = ""
    no_loss: bool = False
    """The paper says that ``row`` is not worse, rather than better."""


@dataclass(frozen=True)
class Claim:
    """One sentence of the paper, in our words, with its place, and what must hold for it."""

    title: str
    place: str
    differences: tuple[Difference, ...]


BASELINES = ("kd", "seqkd", "minillm", "dpo", "simpo", "pro")
ITERATED = ("dpo", "simpo", "pro", "pad-ppd")
HETERO = ("dpo", "simpo", "pro", "pad-vpd")

CLAIMS = (
    Claim(
        "PPD is better than every other method",
        "section 5.2, Table 1",
        tuple(Difference("table1", "pad-ppd", row, metric) for row in BASELINES for metric in (LC, ARENA)),
    ),
    Claim(
        "VPD is better than every other method but PPD",
        "section 5.2, Table 1",
        tuple(Difference("table1", "pad-vpd", row, metric) for row in BASELINES for metric in (LC, ARENA)),
    ),
    Claim(
        "The whole preference distribution (PPD) teaches more than the order alone (VPD)",
        "section 5.2, Table 1",
        tuple(Difference("table1", "pad-ppd", "pad-vpd", metric) for metric in (LC, ARENA, MT)),
    ),
    Claim(
        "Preference methods gain more than Standard KD and SeqKD",
        "section 5.2, Table 1",
        tuple(Difference("table1", row, other) for row in ("dpo", "simpo", "pro") for other in ("kd", "seqkd")),
    ),
    Claim(
        "A student of PPD can reach its teacher on MT-Bench",
        "section 5.2, Table 1 (Gemma-2: 7.02 against 6.99)",
        (Difference("table1", "pad-ppd", "teacher", MT),),
    ),
    Claim(
        "Two iterations of half as many responses lose nothing",
        "section 5.3, Table 2",
        (
            Difference("table2", "pad-ppd-2x2", "pad-ppd-1x4", no_loss=True),
            Difference("table2", "pad-ppd-2x4", "pad-ppd-1x8", no_loss=True),
        ),
    ),
    Claim(
        "Further iterations improve every method",
        "section 5.3, Figure 4",
        tuple(Difference("figure4", f"{row}-round3", row) for row in ITERATED),
    ),
    Claim(
        "After the iterations PPD is best",
        "section 5.3, Figure 4",
        tuple(Difference("figure4", "pad-ppd-round3", f"{row}-round3") for row in ITERATED[:-1]),
    ),
    Claim(
        "The calibrated reward teaches more than either of its parts alone",
        "section 5.3, Figure 5 (best at alpha 0.8)",
        (
            Difference("figure5", "pad-ppd-alpha0.8", "pad-ppd-alpha0.0"),
            Difference("figure5", "pad-ppd-alpha0.8", "pad-ppd-alpha1.0"),
        ),
    ),
    Claim(
        "PPD is best where teacher and student have different vocabularies",
        "section 5.3, Table 3",
        tuple(Difference("table3", "pad-ppd", row, metric) for row in HETERO for metric in (LC, ARENA)),
    ),
    Claim(
        "A larger teacher makes a better student",
        "appendix C, Table 6",
        # LC's fit depends a little on which rows a table has: by less than 0.1 points on pocket
        tuple(Difference("table6", "pad-ppd", "pad-ppd", metric, "table1") for metric in (LC, ARENA)),
    ),
    Claim(
        "More responses per prompt make a better student",
        "appendix C, Figure 6",
        (
            Difference("figure6", "pad-ppd-n4", "pad-ppd-n2"),
            Difference("figure6", "pad-ppd-n8", "pad-ppd-n4"),
            Difference("figure6", "pad-ppd-n8", "pad-ppd-n2"),
        ),
    ),
)  # fmt: skip

REWARD, MARGINS = "reward", "contrasts"
MEASURED = (
    (
        "The calibrated reward orders responses better than either of its parts alone",
        "section 4.1 (miscalibration) and Eq. 9",
        REWARD,
        (
            ("spearman_calibrated_less_likelihood", 1, "alpha 0.8 less alpha 0, Spearman"),
            ("spearman_calibrated_less_mcq", 1, "alpha 0.8 less alpha 1, Spearman"),
            ("regret_calibrated_less_likelihood", -1, "alpha 0.8 less alpha 0, regret (lower is better)"),
            ("regret_calibrated_less_mcq", -1, "alpha 0.8 less alpha 1, regret (lower is better)"),
        ),
    ),
    (
        "A student of PPD takes over the teacher's preferences, and their sizes",
        "section 4.3, Eqs. 11 and 12",
        MARGINS,
        (
            ("pad-ppd, end less start/jsd", -1, "divergence on held-out prompts, end less start (lower is better)"),
            ("pad-ppd, end less start/correlation", 1, "correlation of margins with the teacher's, end less start"),
            ("pad-ppd, end less start/size", 1, "correlation of their sizes, end less start"),
        ),
    ),
    (
        "It follows the teacher's margins more closely than students of other methods",
        "section 5.2 (nuanced signals)",
        MARGINS,
        tuple(
            (f"pad-ppd less {row}, end/{measure}", 1, f"{text}, PPD less {title}")
            for row, title in (("pad-vpd", "VPD"), ("dpo", "DPO"), ("simpo", "SimPO"))
            for measure, text in (("correlation", "correlation of margins"), ("size", "of their sizes"))
        ),
    ),
)
"""Of ``studies/pocket_claims.json``: claim, place, part of the file, and for each number its name, the sign that the
paper expects, and what it is."""


@dataclass(frozen=True)
class Finding:
    """One difference, measured."""

    label: str
    value: float
    low: float
    high: float
    detectable: float | None
    """The smallest true difference that such a comparison finds in 80 of 100 cases, before Holm."""
    p_holm: float | None
    verdict: str


def verdict(value: float, low: float, p: float, no_loss: bool) -> str:
    """See the head of this file; ``p`` is corrected already."""
    if no_loss and low > -MARGIN:
        return CONFIRMED
    if p < LEVEL and value < 0:
        return REFUTED
    return CONFIRMED if p < LEVEL and not no_loss else UNDECIDED


class Runs:
    """The summaries of a run's targets, each read once."""

    def __init__(self, run: FinishedRun) -> None:
        self.run = run
        self._summaries: dict[str, Summary] = {}

    def summary(self, target: str) -> Summary:
        """Raises UserError where the run has no such target."""
        if target not in self._summaries:
            self._summaries[target] = summarise(self.run.results(target), find_target(target))
        return self._summaries[target]

    def measure(self, claim: Claim) -> list[Finding]:
        """Its differences; none where this run has not all of its targets and rows."""
        rows = [
            (target, row, each.metric)
            for each in claim.differences
            for target, row in ((each.target, each.row), (each.other_target or each.target, each.other))
        ]
        if not {target for target, *_ in rows} <= set(self.run.targets):
            return []
        if any((row, metric) not in self.summary(target).cells for target, row, metric in rows):
            return []
        estimates = {each: self._estimate(each) for each in claim.differences}
        corrected = holm({str(at): estimate.p for at, (_, estimate) in enumerate(estimates.values())})
        findings = []
        for at, (each, (label, estimate)) in enumerate(estimates.items()):
            p, smallest = corrected[str(at)], detectable(estimate.error, estimate.freedom)
            value, low, high = (round(number, 3) for number in (estimate.value, estimate.low, estimate.high))
            mark = verdict(estimate.value, estimate.low, p, each.no_loss)
            findings.append(Finding(label, value, low, high, round(smallest, 2), round(p, 5), mark))
        return findings

    def _estimate(self, each: Difference) -> tuple[str, Estimate]:
        summaries = self.summary(each.target), self.summary(each.other_target or each.target)
        cells = summaries[0].cells[each.row, each.metric], summaries[1].cells[each.other, each.metric]
        first, second = cells[0].draws, cells[1].draws
        if first is None or second is None:
            raise UserError(f"{each.row} or {each.other} has no score of {each.metric}: they cannot be compared")
        # the same column once, where both rows stand in one target
        columns = {id(summary): summary.column(each.metric) for summary in summaries}
        noise = seed_noise([cell.draws for column in columns.values() for cell in column if cell.draws is not None])
        names = [summary.title(row) for summary, row in zip(summaries, (each.row, each.other), strict=True)]
        if each.other_target:
            labels = [find_target(target).label for target in (each.target, each.other_target)]
            names = [f"{name} ({label})" for name, label in zip(names, labels, strict=True)]
        metric = cells[0].metric
        label = f"{names[0]} less {names[1]}, {metric.group} {metric.title}"
        return label, contrast(first, second, min(cell.n for cell in cells), noise)


def measured(claims: Mapping[str, Any]) -> dict[str, list[Finding]]:
    """What ``studies/pocket_claims.py`` measured, by claim; without p-values, so by the intervals alone."""
    findings: dict[str, list[Finding]] = {}
    for title, _, part, numbers in MEASURED:
        for name, sign, label in numbers:
            contrast_name, _, measure = name.partition("/")
            value, low, high = claims[part][contrast_name][measure] if measure else claims[part][name]
            above, below = (low > 0, high < 0) if sign > 0 else (high < 0, low > 0)
            mark = CONFIRMED if above else REFUTED if below else UNDECIDED
            findings.setdefault(title, []).append(Finding(label, value, low, high, None, None, mark))
    return findings


def overall(findings: Sequence[Finding]) -> str:
    """The claim's verdict in words: one word where all differences agree."""
    counts = {mark: sum(each.verdict == mark for each in findings) for mark in (CONFIRMED, REFUTED, UNDECIDED)}
    present = [mark for mark, count in counts.items() if count]
    return present[0] if len(present) == 1 else ", ".join(f"{counts[mark]} {mark}" for mark in present)


def gather(runs: Mapping[str, Runs], claims: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """All claims as plain data: title, place, and under each option set the differences and the verdict."""
    measurements = [
        (claim.title, claim.place, {name: run.measure(claim) for name, run in runs.items()}) for claim in CLAIMS
    ]
    by_options = {name: measured(found) for name, found in claims.items()}
    for title, place, *_ in MEASURED:
        measurements.append((title, place, {name: found[title] for name, found in by_options.items()}))
    return [
        {
            "title": title,
            "place": place,
            "found": {name: [asdict(each) for each in findings] for name, findings in found.items() if findings},
            "verdict": {name: overall(findings) for name, findings in found.items() if findings},
        }
        for title, place, found in measurements
    ]


BEGIN, END = "<!-- verdicts: begin -->", "<!-- verdicts: end -->"


def page_text(entries: Sequence[Mapping[str, Any]]) -> str:
    """A table of verdicts, then each claim with its differences, in Markdown."""
    sets = list(dict.fromkeys(name for entry in entries for name in entry["found"]))
    lines = ["| claim | " + " | ".join(sets) + " |", "|---|" + "---|" * len(sets)]
    for entry in entries:
        marks = [entry["verdict"].get(name, "not run") for name in sets]
        lines += [f"| {entry['title']} | " + " | ".join(marks) + " |"]
    for entry in entries:
        lines += ["", f"### {entry['title']}", "", f"PAD paper, {entry['place']}.", ""]
        if not entry["found"]:
            lines += ["Not run."]
            continue
        lines += ["| options | difference | value | could see | verdict |", "|---|---|---|---|---|"]
        for name, findings in entry["found"].items():
            for each in findings:
                value = "{value:+.2f} [{low:+.2f}, {high:+.2f}]".format(**each)
                smallest = "" if each["detectable"] is None else f"{each['detectable']:.1f}"
                lines.append(f"| {name} | {each['label']} | {value} | {smallest} | {each['verdict']} |")
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> None:
    """Read the runs, test the differences, write the numbers and the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/pocket"), help="the run with searched options")
    parser.add_argument("--paper-run", type=Path, default=Path("runs/pocket-paper"), help="with the paper's options")
    parser.add_argument("--claims", type=Path, default=Path("studies/pocket_claims.json"))
    parser.add_argument("--paper-claims", type=Path, default=Path("studies/pocket_claims_paper.json"))
    parser.add_argument("--out", type=Path, default=Path("studies/pocket_verdicts.json"))
    parser.add_argument("--page", type=Path, help="a Markdown page with the two marks: docs/claims.md")
    options = parser.parse_args(words)
    folders = {"searched": options.run, "the paper's": options.paper_run}
    runs = {name: Runs(distilbench.load(folder)) for name, folder in folders.items() if folder.is_dir()}
    files = dict(zip(folders, (options.claims, options.paper_claims), strict=True))
    claims = {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items() if file.is_file()}
    entries = gather(runs, claims)
    options.out.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    print(page_text(entries))
    if options.page is not None:
        put_between(options.page, BEGIN, END, page_text(entries))


if __name__ == "__main__":
    main()
