"""The published value beside ours: comparable or not, difference, verdict; the paper's hyperparameters beside a run's.
The verdict is from the 95% interval of the difference. The paper gives no intervals: it is ours alone, moved by the
published value; with the paper's own error it would be wider."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isclose
from typing import Final, NamedTuple

from harness.contracts.benchmark import Card, Metric
from harness.contracts.target import Target
from harness.stats import FEW_QUESTIONS
from harness.text import clean, format_count
from reports.tables.table import Table, TableCell, TableColumn, TableRow, letter
from results.published import PublishedNumber, in_paper, published_table
from results.run.record import RowSpec, Run, section

AGREES, DIFFERS, INCONCLUSIVE, NOT_COMPARABLE = "agrees", "differs", "inconclusive", "not comparable"
MODELS: Mapping[str, tuple[str, str]] = {
    "gemma2": ("gemma-2-9b-it", "gemma-2-2b-it"),
    "llama3": ("llama-3.1-8b-instruct", "llama-3.2-3b-instruct"),
    "hetero": ("gemma-2-9b-it", "llama-3.2-3b-instruct"),
    "scaling": ("gemma-2-27b-it", "gemma-2-2b-it"),
}
"""Family to the paper's teacher and student (Section 5.1, Table 3, Table 6)."""
TRAINED_ON = "ultrafeedback"  # source of the paper's training prompts (Section 5.1)
PROMPTS = 50_000  # about 60,000, less those that are too long (Section 5.1)
GPU_HOURS = "gpu_hours_a800"  # of the paper's Table 2, where ours has ``cost.time``
SCORER = "v0.1"  # Arena-Hard's official one when the paper was written (2025-02)
# The paper writes "GPT-4 Turbo", which stands for any of its dated versions.
_TURBO = frozenset({"gpt-4-turbo", "gpt-4-1106-preview", "gpt-4-0125-preview", "gpt-4-turbo-2024-04-09"})


@dataclass(frozen=True)
class PublishedComparison:
    value: float
    protocol: str
    source: str
    note: str = ""
    difference: float | None = None  # ours minus the published value
    low: float | None = None
    high: float | None = None
    verdict: str = NOT_COMPARABLE
    reasons: tuple[str, ...] = ()  # the two cannot be compared
    doubts: tuple[str, ...] = ()  # they are compared, but cannot be said to agree
    text: str = ""  # as printed, where the paper has another unit: ``12.32 h (A800)``


def verdict(low: float, high: float, margin: float | None) -> str:
    """Agrees: the 95% interval lies within -margin..margin. Differs: else, and it excludes 0. Else inconclusive."""
    if margin is not None and -margin <= low and high <= margin:
        return AGREES
    return DIFFERS if low > 0 or high < 0 else INCONCLUSIVE


def published_values(
    run: Run, table: str | None, metrics: Sequence[Metric]
) -> dict[tuple[str, str], PublishedComparison]:
    """By row and metric id: what the paper's table has for this family, and why it may not be compared with ours."""
    family = run.family.name
    # a family that the paper lacks has nothing to stand beside, whatever its models are called
    if table is None or not in_paper(table, family):
        return {}
    numbers = {key[1:]: number for key, number in published_table(table).items() if key[0] == family}
    papers = {}
    for row in run.rows:
        name = paper_row(row.id, run, {row for row, _ in numbers})
        differences = other_settings(run.recipe, row.id, name, family)
        doubts = (f"trained with other settings: {', '.join(differences)}",) if differences else ()
        for metric in metrics:
            if metric.id == "cost.time" and (paper := numbers.get((name, GPU_HOURS))) is not None:
                reasons = ["another machine: the paper's hours are on A800 GPUs, and it does not say of which steps"]
                value, text = paper.value * (1 if metric.unit == "h" else 3600), f"{paper.value:g} h (A800)"
            elif (paper := numbers.get((name, metric.id))) is not None:
                reasons, value, text = why_not_comparable(run, row, metric, paper), paper.value, ""
            else:
                continue
            papers[row.id, metric.id] = PublishedComparison(
                value, paper.protocol, paper.source, paper.note, reasons=tuple(reasons), doubts=doubts, text=text
            )
    return papers


def paper_row(row: str, run: Run, names: set[str]) -> str:
    """What the published table calls a row: by its id, or as Table 2 is kept, ``pad-ppd-2x4`` (rounds, responses)."""
    if row in names:
        return row
    entry = section(run.recipe, "methods", row)
    n = {**section(run.recipe, "sampling"), **section(entry, "sampling")}.get("n")
    return f"{entry.get('method', row)}-{entry.get('rounds', 1)}x{n}"


def compare_with_paper(
    paper: PublishedComparison,
    value: float | None,
    interval: tuple[float | None, float | None],
    metric: Metric,
    n: int = FEW_QUESTIONS,
    notes: Sequence[str] = (),
) -> PublishedComparison:
    """With the difference to our value and its interval, unless there is a reason against it, or no value. Few
    questions (``n``) or other training settings are inconclusive, and ``doubts`` say why; a score whose ``notes`` call
    it reconstructed is not compared."""
    if any("reconstructed" in note or "other baseline" in note for note in notes):
        paper = replace(paper, reasons=(*paper.reasons, "reconstructed LC"))
    if paper.reasons or value is None:
        return paper
    difference, (low, high) = value - paper.value, interval
    if low is None or high is None:
        return replace(paper, difference=difference, verdict=INCONCLUSIVE, doubts=(*paper.doubts, "no interval"))
    # the paper states no error, so its value moves our interval and does not widen it
    low, high = low - paper.value, high - paper.value
    result, doubts = verdict(low, high, metric.margin), paper.doubts
    # before the settings: an interval of three questions is too narrow for any verdict
    if n < FEW_QUESTIONS:
        result, doubts = INCONCLUSIVE, (*doubts, f"only {format_count(n, 'question')}: too few for a verdict")
    elif doubts and result == AGREES:
        result = INCONCLUSIVE
    return replace(paper, difference=difference, low=low, high=high, verdict=result, doubts=doubts)


def why_not_comparable(run: Run, row: RowSpec, metric: Metric, paper: PublishedNumber) -> list[str]:
    """What a score's notes say comes on top."""
    run_models = (run.family.teacher, run.family.student)
    reasons = [
        f"another {role} ({name}, the paper's is {paper_name})"
        for role, name, paper_name in zip(
            ("teacher", "student"), run_models, MODELS.get(run.family.name, run_models), strict=True
        )
        if plain_name(name) != plain_name(paper_name)
    ]
    if not row.baseline:
        prompts = section(run.recipe, "prompts")
        source, count = prompts.get("source"), prompts.get("n")
        reasons += [] if source == TRAINED_ON else [f"other training prompts ({source})"]
        if isinstance(count, int) and count < PROMPTS:
            reasons.append(f"trained on {count:,} prompts, the paper on about 60,000")
        if section(run.recipe, "reward").get("shuffle"):
            reasons.append("a control: rewards shuffled among the responses")
    benchmark = metric.id.split(".")[0]
    card = next((card for card in run.cards if card.benchmark == benchmark), None)
    if card is None or card.parameters.get("questions") != "official":
        reasons.append("other questions")
    if card is not None:
        reasons += _other_protocol(card, paper)
    paper_judge, run_judge = judge_of(paper.protocol), run.judges.get(benchmark, "not stated")
    if paper_judge is not None and not same_judge(run_judge, paper_judge):
        reasons.append(f"another judge ({run_judge}, the paper's is {paper_judge})")
    return reasons


def _other_protocol(card: Card, paper: PublishedNumber) -> list[str]:
    options = card.parameters
    reasons: list[str] = []
    # a limit at or above the number of questions that the paper states leaves none out
    limit, question_count = options.get("limit"), re.search(r'([\d,]+)"? questions', paper.protocol)
    if isinstance(limit, int) and (question_count is None or limit < int(question_count[1].replace(",", ""))):
        reasons.append(f"only {format_count(limit, 'question')}")
    if options.get("style_control"):
        reasons.append("style-controlled, the paper's is the plain win rate")
    if options.get("scorer", SCORER) != SCORER:
        reasons.append(f"scorer {options['scorer']}, the paper's is {SCORER}")
    if any("head-to-head" in line for line in card.deviations):
        reasons.append("another baseline")
    return reasons


def judge_of(protocol: str) -> str | None:
    """The judge that a published protocol names; ``None`` where rules decide or nothing is judged."""
    match = re.search(r"judge ([^(,]+)", protocol)
    return match[1].strip() if match else None


def same_judge(judge: str, other_judge: str) -> bool:
    names = {plain_name(judge), plain_name(other_judge)}
    return len(names) == 1 or names <= _TURBO


def plain_name(name: str) -> str:
    """``meta-llama/Meta-Llama-3.1-8B-Instruct@abc`` as ``llama-3.1-8b-instruct``."""
    model = name.split("@", maxsplit=1)[0].rstrip("/").rsplit("/", 1)[-1].lower().strip().replace(" ", "-")
    return model.removeprefix("meta-")


ROW: Final = "pad-ppd"
PAD: Final = frozenset({"pad-vpd", "pad-ppd"})
SAMPLED: Final = PAD | {"dpo", "simpo", "pro"}
"""Methods that the paper trains on the student's responses (section 5.1, appendix B.3)."""


class PaperSetting(NamedTuple):
    title: str
    section: str  # of the recipe; empty: an option of the row's method
    name: str
    methods: frozenset[str] | None = None  # those for which the paper states it; ``None``: all

    def read(self, recipe: Mapping[str, object], row: str) -> object:
        """A row's own value before the recipe's; ``None`` where it has none."""
        entry = section(recipe, "methods", row)
        if not self.section:
            return entry.get(self.name)
        return {**section(recipe, self.section), **section(entry, self.section)}.get(self.name)


SETTINGS: Final[Mapping[str, PaperSetting]] = {
    "beta": PaperSetting("beta", "", "beta", PAD),
    "alpha": PaperSetting("alpha", "", "alpha", PAD),
    "learning_rate": PaperSetting("learning rate", "train", "learning_rate", PAD),
    "batch_size": PaperSetting("batch size (prompts)", "train", "batch_size"),
    "warmup_ratio": PaperSetting("warm-up ratio", "train", "warmup_ratio"),
    "epochs": PaperSetting("epochs", "train", "epochs"),
    "n": PaperSetting("responses per prompt", "sampling", "n", SAMPLED),
    "sampling_temperature": PaperSetting("sampling temperature", "sampling", "temperature", SAMPLED),
}
"""By row of ``results/published/table4.csv``."""


def hyperparameter_table(target: Target, run: Run) -> Table:
    lines = [
        "Values that the run trains with, from its resolved recipe; the paper's from its Table 4, sections 4.1 and 5.1."
    ]
    has_row = ROW in section(run.recipe, "methods")
    if not has_row:
        lines.append(f"This recipe has no row {ROW}.")
    paper = published_table("table4")
    place = {"target": target.name, "run": run.name, "family": run.family.name}
    notes: list[tuple[str, str]] = []
    rows, records, row_data = [], [], []
    for name in dict.fromkeys(row for _, row, _ in paper):
        by_family = {family: number for (family, row, _), number in paper.items() if row == name}
        # a family of one's own (pocket) is none of the paper's: then every stated value is shown
        paper_values = {
            family: number for family, number in by_family.items() if family in (run.family.name, "any")
        } or by_family
        run_value = SETTINGS[name].read(run.recipe, ROW) if has_row else None
        agreement = None if run_value is None else any(run_value == number.value for number in paper_values.values())
        marks = []
        for number in paper_values.values():
            if number.note:
                marks.append(letter(len(notes)))
                notes.append((marks[-1], f"paper: {clean(number.note)}"))
        values = [
            f"{number.value:g}" + (f" ({family})" if len(paper_values) > 1 else "")
            for family, number in paper_values.items()
        ]
        search_range = next(clean(number.protocol).removeprefix("searched: ") for number in paper_values.values())
        texts = (SETTINGS[name].title, "n/a" if run_value is None else f"{run_value:g}")
        text_cells = ({True: "yes", False: "no", None: "-"}[agreement], search_range)
        cells = [*map(TableCell, texts), TableCell(", ".join(values), marks=tuple(marks)), *map(TableCell, text_cells)]
        rows.append(TableRow(tuple(cells)))
        numbers = [
            {"family": family, "value": number.value, "searched": number.protocol, "note": number.note}
            for family, number in paper_values.items()
        ]
        row_data.append({"setting": name, "used": run_value, "same": agreement, "published": numbers})
        records += [
            {**place, "setting": name, "used": run_value, "published_family": entry["family"],
             "published": entry["value"], "searched": entry["searched"], "note": entry["note"]}
            for entry in numbers
        ]  # fmt: skip
    models = f"{clean(run.family.teacher)} teaches {clean(run.family.student)}"
    caption = f"{target.title}, row {ROW}. Run {clean(run.name)}: {models}."
    titles = (f"Setting ({clean(run.family.name)})", "this run", "paper", "the same", "searched by the paper")
    header = {"format": 1, "target": target.name, "title": f"{target.label}: {caption}", "run": {"name": run.name}}
    return Table(
        target.name, caption, tuple(TableColumn(title, numeric=False) for title in titles), tuple(rows), tuple(lines),
        tuple(notes), target.label, data={**header, "rows": row_data, "lines": lines}, records=records,
    )  # fmt: skip


def other_settings(recipe: Mapping[str, object], row: str, name: str, family: str) -> list[str]:
    """What a row was trained with that the paper states otherwise: ``alpha 0 (the paper: 0.8)``. ``name``: in the
    published table (``pad-ppd-2x4``: rounds, responses). ``family``: of the stated learning rate."""
    if row not in section(recipe, "methods"):
        return []
    entry, differences = section(recipe, "methods", row), []
    by_name = re.search(r"-\d+x\d+$", name) is not None
    for (paper_family, key, _), number in published_table("table4").items():
        setting = SETTINGS[key]
        applies = setting.methods is None or (entry.get("method") or row) in setting.methods
        if paper_family not in (family, "any") or not applies or (by_name and key == "n"):
            continue
        value = setting.read(recipe, row)
        # a setting that the method does not have cannot differ
        if isinstance(value, int | float) and not isclose(value, number.value):
            differences.append(f"{setting.title} {value:g} (the paper: {number.value:g})")
    rounds = entry.get("rounds") or 1
    if not by_name and rounds != 1:
        differences.append(f"rounds {rounds} (the paper: 1)")
    # the paper trains all weights; adapters are no number that could be compared
    if PaperSetting("adapters", "train", "lora").read(recipe, row):
        differences.append("adapters (the paper: all weights)")
    return differences
