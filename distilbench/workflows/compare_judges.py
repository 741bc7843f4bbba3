"""Compare judges: other judges on the answers of a finished run, or annotations made elsewhere.

    comparison = distilbench.compare_judges("pocket", ["main", "noisy={kind: pocket, noise: 3.0}"])
    comparison.reference.accuracies["noisy"].value

A judge pass is a run of its own: the rows, seeds and answers of the finished run, and another judge. It is planned,
executed and recorded as every run is (``runs/NAME/TARGET/judges/JUDGE/run.json``): nothing in the ledger is asked
again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from distilbench.plugins import load_registry
from distilbench.workflows.execute import execute
from distilbench.workflows.finished_run import JUDGES, load
from distilbench.workflows.plan import WorkPlan
from distilbench.workflows.specs import judge_entry
from harness.contracts.benchmark import against
from harness.contracts.executor import RunListener
from harness.contracts.option_errors import RecipeError
from harness.contracts.registry import Registry
from harness.contracts.stage import Ref, Stage
from harness.errors import UserError
from harness.plan.evaluation import PLACEHOLDER
from harness.plan.plan import Plan, PlannedRow, Planner, plan_rows
from harness.recipe.recipe import Recipe, check_tree
from harness.stages.kinds.judge import judge_stage
from reports.targets import EVAL, TARGETS
from results.run.lineage import Lineage, ScoreSource
from results.run.record import Run, check_runs, read_run
from results.run.results import Results, read_results
from results.store.store import ArtifactStore

if TYPE_CHECKING:
    from reports.judge_comparison.annotations import Humans
    from reports.judge_comparison.compare import JudgeComparison
    from reports.judge_comparison.panel import JudgeProfile, Panel
    from reports.judge_comparison.run_panel import JudgedQuestions

_NAMED = re.compile(r"([A-Za-z0-9][\w.+-]*)=(.+)", re.DOTALL)
_KEPT = ("seeds", "baseline", "statistics", "compute")
"""Sections of a run's recipe that hold for its judge passes too."""


class JudgingOptions(TypedDict, total=False):
    """How the answers of a run are judged again."""

    benchmarks: Sequence[str]
    """Default: all of the run that a judge judges."""
    repeats: int
    """Ask every question this often; the default of 2 tells noise from bias."""
    max_cost: float | None
    """Dollars that judging may cost."""
    plugins: Sequence[str]
    """Python files or modules."""
    runs: str | Path
    """Folder of runs and of the store that they share; default: ``runs``."""


class ComparisonOptions(TypedDict, total=False):
    """How the verdicts are compared."""

    own_rows: Mapping[str, Sequence[str]]
    """Judge to the rows whose answers are by its own family; default: by the names of the models."""
    humans: Path | None
    """Human annotations of the same answers, the reference for accuracy."""
    replicates: int
    """Bootstrap resamples of the questions; default: 1,000."""
    budget: float | None
    """Dollars that the recommended judge may cost for the calls of this comparison; default: any."""
    out: Path | None
    """Folder of the files; default: ``runs/NAME/TARGET/judges``."""


@dataclass(frozen=True)
class JudgedRun:
    """A finished run whose answers are to be judged again."""

    folder: Path
    """``runs/NAME/TARGET``."""
    results: Results
    store: ArtifactStore
    registry: Registry

    @property
    def run(self) -> Run:
        return self.results.run

    @cached_property
    def sources(self) -> dict[str, dict[tuple[str, int], ScoreSource]]:
        """Benchmark that a judge judges to row and seed to answers and judgments."""
        result: dict[str, dict[tuple[str, int], ScoreSource]] = {}
        for (row, _, seed), source in self.results.sources.items():
            benchmark = self.registry.benchmarks.get(source.benchmark)
            if benchmark is not None and benchmark.judged:
                result.setdefault(source.benchmark, {})[row, seed] = source
        return result


def compare_judges(
    run: str = "pocket",
    judges: Sequence[str] = (),
    comparing: ComparisonOptions | None = None,
    *,
    force: bool = False,
    listener: RunListener | None = None,
    **judging: Unpack[JudgingOptions],
) -> JudgeComparison:
    """Judge the answers of a finished run with every judge, compare the judges, and write the files.

    Args:
        run: ``NAME`` or ``NAME/TARGET`` under ``runs``.
        judges: names of the run's recipe, known models, ``KIND:MODEL``, ``MODEL@URL``, ``{kind: ...}``; ``NAME=...``
            names one. Conclusions of the first are checked with the others. Default: the run's own judges.
        force: judge although the checks before it found problems.
        listener: is told of progress.

    Raises:
        UserError: before anything is asked, with everything that is wrong; or a judge gave no complete result.
    """
    from reports.judge_comparison.annotations import check_own_rows
    from reports.judge_comparison.run_panel import run_panel

    options: ComparisonOptions = comparing or {}
    judged = _judged_run(run, judging)
    work = _plan(judged, judges, judging)
    names = [next(iter(plan.recipe.judges)) for plan in work.plans.values()]
    own_rows = options.get("own_rows", {})
    check_own_rows(own_rows, names, [row.id for row in judged.run.rows])
    questions = _questions(work.first, judged)
    humans = _humans(judged, questions, options)  # read before any judge is asked
    rows, family = judged.run.rows, judged.run.family
    # A pass is planned with placeholders for models: its record names those of the run that was judged again.
    finished = execute(
        work, force=force, listener=listener, edit=lambda run: replace(run, rows=rows, family=family, notes=())
    )
    failed = finished.outcome.failed if finished.outcome else {}
    if failed:
        reason = next(iter(failed.values())).strip().splitlines()[-1]
        raise UserError(f"a judge gave no complete result: {reason} The same command asks only for what is missing.")
    passes = {name: read_results(judged.folder / JUDGES / name / "run.json", judged.store) for name in names}
    profiles = {
        name: _profile(plan, name, judged, own_rows.get(name))
        for name, plan in zip(names, work.plans.values(), strict=True)
    }
    target = TARGETS.get(judged.folder.name, EVAL)
    panel = run_panel(passes, profiles, questions, judged.store, target)
    panel = replace(panel, notes=tuple(_changed_options(work.first, judged.run)))
    return _compare(panel, humans, options, judged.folder / JUDGES)


def compare_annotations(
    files: Sequence[Path],
    judges: Sequence[str] = (),
    comparing: ComparisonOptions | None = None,
    runs: str | Path = "runs",
) -> JudgeComparison:
    """Compare the annotators of these files (alpaca_eval's JSON, CSV, Parquet): all of them, or those named."""
    from reports.judge_comparison.annotations import annotation_panel, read_humans

    options: ComparisonOptions = comparing or {}
    panel, file = annotation_panel(files, judges, options.get("own_rows")), options.get("humans")
    humans = None if file is None else read_humans(file, panel.calls, panel.benchmarks[0])
    return _compare(panel, humans, options, Path(runs) / f"{JUDGES}-{files[0].stem}")


def _compare(panel: Panel, humans: Humans | None, options: ComparisonOptions, out: Path) -> JudgeComparison:
    from reports.judge_comparison.compare import REPLICATES, compare_panel
    from reports.judge_comparison.reference import HUMANS
    from reports.judge_comparison.write import write_comparison

    votes = None
    if humans is not None:
        votes, notes = humans
        panel = replace(panel, notes=(*panel.notes, *notes))
        if HUMANS in panel.judges:
            raise UserError(f"a judge is called {HUMANS!r}, as the line of the people in the tables is: rename it.")
    comparison = compare_panel(panel, votes, options.get("replicates", REPLICATES), budget=options.get("budget"))
    write_comparison(comparison, options.get("out") or out)
    return comparison


def plan_judge_comparison(
    run: str = "pocket", judges: Sequence[str] = (), **judging: Unpack[JudgingOptions]
) -> WorkPlan:
    """What ``compare_judges`` would ask: a planned run per judge, in the order of ``judges``."""
    return _plan(_judged_run(run, judging), judges, judging)


def _plan(judged: JudgedRun, judges: Sequence[str], judging: JudgingOptions) -> WorkPlan:
    runs, plugins = Path(judging.get("runs", "runs")), tuple(judging.get("plugins", ()))
    chosen = judging.get("benchmarks") or list(judged.sources)
    missing = [name for name in chosen if name not in judged.sources]
    if missing or not chosen:
        have = ", ".join(judged.sources) or "none"
        raise UserError(
            f"run {judged.run.name!r} has no judged benchmark {', '.join(missing) or 'at all'}; it has: {have}."
        )
    titles, plans = {row.id: row.title for row in judged.run.rows}, {}
    for name, entry in judge_entries(judges, judged.run, judged.registry).items():
        recipe = _pass_recipe(judged, name, entry, chosen, judging)
        plan = plan_rows(RejudgingPlanner(recipe, judged), [row.id for row in judged.run.rows], titles)
        plans[f"{judged.folder.name}/{JUDGES}/{name}"] = plan
    work, max_cost = WorkPlan(plans, runs, plugins), judging.get("max_cost")
    dollars = work.cost(work.missing).dollars
    if max_cost is not None and dollars is not None and dollars > max_cost:  # each pass alone may be cheap enough
        raise UserError(f"judging is estimated at ${dollars:,.2f}, --max-cost allows ${max_cost:g}: name fewer judges.")
    return work


def _judged_run(run: str, judging: JudgingOptions) -> JudgedRun:
    runs = Path(judging.get("runs", "runs"))
    check_runs(runs)
    finished = load(runs / run)
    folder, results = finished.folder / finished.choose(), finished.results()
    return JudgedRun(folder, results, finished.store, load_registry(judging.get("plugins", ())))


class RejudgingPlanner(Planner):
    """Plans judge and score stages on the stored answers of a run. No answer is planned again, so any run will do:
    trained, evaluated, or made of answers from files."""

    def __init__(self, recipe: Recipe, judged: JudgedRun) -> None:
        super().__init__(recipe, judged.registry)
        self.judged_run = judged

    def row(self, row: str, seed: int) -> PlannedRow:
        """The judgments of one row's answers, where the run has such answers."""
        judge, answers, judgments = next(iter(self.recipe.judges)), {}, {}
        for name, sources in self.judged_run.sources.items():
            if name in self.recipe.benchmarks and (row, seed) in sources:
                answers[name] = self.stored(sources[row, seed].answers, row, seed)
                baseline = self.baseline(name)
                judgments[name] = judge_stage(self.graph, name, answers[name], baseline, f"by {judge}")
        return PlannedRow(row, seed, answers, judgments)

    def baseline(self, benchmark: str) -> Stage | None:
        """The stored answers that the run compared with."""
        source = next(iter(self.judged_run.sources[benchmark].values()))
        return None if source.baseline is None else self.stored(source.baseline, source.baseline_row, None)

    def stored(self, answers: Ref, row: str, seed: int | None) -> Stage:
        """The stage that made an artifact; another run may have made it for a row of another name."""
        return replace(Stage.of(self.judged_run.store.meta(*answers)), row=row, seed=seed)


def _pass_recipe(
    judged: JudgedRun, name: str, entry: Mapping[str, Any], benchmarks: Sequence[str], judging: JudgingOptions
) -> Recipe:
    """The run's recipe with another judge, asked in both orders and with repeats where a benchmark can."""
    original = judged.run.recipe
    tree: dict[str, Any] = {section: original[section] for section in _KEPT if section in original}
    tree |= {"name": judged.run.name, "title": f"judged by {name}", "judges": {name: dict(entry)}, "benchmarks": {}}
    tree["ask"] = {**original.get("ask", {}), "accept_failures": False, "max_cost": judging.get("max_cost")}
    # Nothing is trained or answered, so the models of the run need not be there.
    tree["family"] = {"name": judged.run.family.name, "teacher": PLACEHOLDER, "student": PLACEHOLDER}
    for benchmark in benchmarks:
        fields = judged.registry.benchmarks[benchmark].config.__dataclass_fields__
        changes = {"order": "both", "repeats": judging.get("repeats", 2)}
        changes = {key: value for key, value in changes.items() if key in fields}
        tree["benchmarks"][benchmark] = {**original["benchmarks"][benchmark], **changes, "judge": name}
    recipe, problems = check_tree(tree, judged.registry)
    if problems or recipe is None:
        raise RecipeError(problems, "--judges")
    return recipe


def _questions(plan: Plan, judged: JudgedRun) -> dict[str, JudgedQuestions]:
    """Benchmark to its questions, with the answers of the run's own baseline where it has one."""
    from reports.judge_comparison.run_panel import JudgedQuestions

    result = {}
    for name, benchmark in plan.graph.benchmarks.items():
        source, questions = next(iter(judged.sources[name].values())), benchmark.questions
        if source.baseline is not None:
            answers = Lineage(judged.store).answers(source.baseline)
            questions = against(questions, list(answers.values()), source.baseline_row)
        result[name] = JudgedQuestions(questions, benchmark.benchmark.pairwise, benchmark.benchmark.verdicts)
    return result


def _humans(judged: JudgedRun, questions: Mapping[str, JudgedQuestions], options: ComparisonOptions) -> Humans | None:
    """Human annotations, matched with the run's own judgments of the first benchmark that compares answers."""
    import pandas as pd

    from reports.judge_comparison.annotations import read_humans
    from reports.judge_comparison.run_panel import judged_items

    file = options.get("humans")
    if file is None:
        return None
    name = next((name for name, item in questions.items() if item.paired), None)
    if name is None:
        raise UserError(f"--humans {file}: no benchmark here compares answers with a baseline.")
    items = judged_items(judged.results, Lineage(judged.store), {name: questions[name]})
    return read_humans(file, pd.DataFrame([item for item, _, _ in items]), name)


def _changed_options(plan: Plan, judged: Run) -> list[str]:
    """Why the run's own judge has other values here than in the run's tables; nothing where it has not."""
    changed = []
    for name, benchmark in plan.graph.benchmarks.items():
        before = judged.recipe["benchmarks"][name]
        options = [f"{key} {value}, there {before[key]}" for key, value in benchmark.options.items()
                   if key in before and before[key] != value]  # fmt: skip
        changed += [f"{name}: {', '.join(options)}"] if options else []
    return [f"Values differ from the run's own tables, which ask less ({'; '.join(changed)})."] if changed else []


def _profile(plan: Plan, name: str, judged: JudgedRun, own_rows: Sequence[str] | None) -> JudgeProfile:
    """What the judge stages of a pass measured, and what the judge's name tells."""
    from reports.judge_comparison.model_families import family_of, own_family_rows
    from reports.judge_comparison.panel import JudgeProfile

    judge = plan.graph.judges[name]
    refs = {stage.ref for entrant in plan.entrants for stage in entrant.judgments.values()}
    measured = [judged.store.meta(*ref)["measurements"] for ref in refs]
    counts = ("calls", "prompt_tokens", "completion_tokens")
    calls, prompt, completion = (sum(item[count] for item in measured) for count in counts)
    model = next((served for item in measured for served in item["served"]), "")
    family, trained = family_of(model), [row.id for row in judged.run.rows if not row.baseline]
    own = own_family_rows(family, judged.run.family, trained) if own_rows is None else tuple(own_rows)
    dollars = judge.kind.price(judge.config, prompt, completion)
    thousand = None if dollars is None or not calls else 1000 * dollars / calls
    tokens = (prompt + completion) / calls if calls else None
    return JudgeProfile(model, family, own, thousand, tokens, judge.kind.length_words(judge.config))


def judge_entries(texts: Sequence[str], judged: Run, registry: Registry) -> dict[str, dict[str, Any]]:
    """Name to a judge's entry in a recipe. Raises UserError for one that cannot be read, or a name given twice."""
    own: Mapping[str, Mapping[str, Any]] = judged.recipe.get("judges", {})
    if not texts and not own:
        raise UserError(f"run {judged.name!r} names no judges: give --judges.")
    entries: dict[str, dict[str, Any]] = {}
    for text in texts or own:
        named = _NAMED.fullmatch(text)
        spec = named[2] if named else text
        kind, _, model = spec.partition(":")
        fields = registry.judges[kind].config.__dataclass_fields__ if model and kind in registry.judges else {}
        option = next((option for option in ("model", "path") if option in fields), None)
        entry = (
            dict(own[spec]) if spec in own else {"kind": kind, option: model} if option else judge_entry(spec, registry)
        )
        model = str(entry.get("model") or entry.get("path") or entry["kind"])
        name = named[1] if named else spec if spec in own else re.sub(r"[^\w.+-]", "-", model.rpartition("/")[2])
        if name in entries:
            raise UserError(f"--judges: two judges are called {name!r}; name one of them: NAME={spec}.")
        entries[name] = entry
    return entries


def judge_names(folder: Path, store: ArtifactStore) -> dict[str, str]:
    """Key of every judge artifact of the passes in ``runs/NAME/TARGET`` to the judge's name; empty without any."""
    names: dict[str, str] = {}
    for file in sorted((folder / JUDGES).glob("*/run.json")):
        lineage = Lineage(store)
        for cell in read_run(file).cells:
            source = lineage.source(cell.score, cell.entrant) if cell.score else None
            if source is not None:  # else its score was deleted by hand since
                names[source.judgments.key] = file.parent.name
    return names
