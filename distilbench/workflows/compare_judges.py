"""Compare judges: other judges on the answers of a finished run, or annotations made elsewhere.

A judge pass is a run in ``runs/NAME/TARGET/judges/JUDGE``, of the same target: rows, seeds and answers of another, its
own judge.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

from distilbench.plugins import load_registry
from distilbench.workflows.execute import execute
from distilbench.workflows.finished_run import load
from distilbench.workflows.plan import WorkPlan
from distilbench.workflows.specs import judge_entry
from harness.contracts.benchmark import ConfiguredBenchmark
from harness.contracts.options import RecipeError
from harness.contracts.registry import Registry
from harness.contracts.stage import Ref, RunListener, Stage
from harness.errors import UNWRITABLE, UserError
from harness.plan.plan import PLACEHOLDER, Plan, PlannedRow, Planner, plan_rows
from harness.recipe.recipe import Recipe, check_tree
from harness.recipe.sections import stored_options
from harness.stages.kinds.judge import judge_stage
from harness.text import times
from reports.targets import EVAL, TARGETS
from results.run.lineage import ArtifactMarker, Lineage, ScoreSource
from results.run.record import JUDGES, Run, read_run
from results.run.results import Results, read_results
from results.store.locks import write_atomic
from results.store.store import ArtifactStore

if TYPE_CHECKING:
    import pandas as pd

    from reports.judge_comparison.compare import JudgeComparison
    from reports.judge_comparison.panel import JudgeProfile, Panel

_NAMED_JUDGE = re.compile(r"([A-Za-z0-9][\w.+-]*)=(.+)", re.DOTALL)
_SHARED_SECTIONS = ("seeds", "baseline", "statistics", "compute")  # of a run's recipe: its judge passes share them


class ComparisonOptions(TypedDict, total=False):
    """How answers are judged again, and the verdicts compared. ``plugins`` and ``runs``: see ``WorkOptions``."""

    benchmarks: Sequence[str]
    """By default all of the run that a judge judges."""
    repeats: int
    """How often every question is asked; the default of 2 tells noise from bias."""
    max_cost: float | None
    """Dollars that all of it may cost."""
    plugins: Sequence[str]
    runs: str | Path
    own_rows: Mapping[str, Sequence[str]]
    """Judge to the rows of its own family; by default those whose models' names say so."""
    humans: str | Path | None
    """A file of human annotations of the same answers: the reference for accuracy."""
    simulate_humans: int
    """So many people, simulated from the true scores, in place of ``humans`` (pocket)."""
    replicates: int
    """Bootstrap resamples of the questions; by default 1,000."""
    budget: float | None
    """Dollars that the recommended judge may cost for one pass over these answers; by default any."""
    on_files: Callable[[Sequence[Path]], None]
    """Called with the paths that were written."""
    out: str | Path | None
    """Folder of tables and figures; by default ``runs/NAME/TARGET/judges``, of annotations ``runs/judges-FILE``. The
    judges' runs and replies go under ``runs`` all the same."""


@dataclass(frozen=True)
class JudgedRun:
    """The finished run in ``runs/NAME/TARGET``, whose answers are to be judged again."""

    folder: Path
    results: Results
    store: ArtifactStore
    registry: Registry

    @property
    def run(self) -> Run:
        return self.results.run

    @cached_property
    def sources(self) -> dict[str, dict[tuple[str, int], ScoreSource]]:
        """Benchmark that a judge judges to row and seed to answers and judgments."""
        sources: dict[str, dict[tuple[str, int], ScoreSource]] = {}
        for (row, _, seed), source in self.results.sources.items():
            with suppress(UserError):  # a benchmark that is not known here
                benchmark, _ = self.registry.benchmark(
                    source.benchmark, stored_options(self.run.recipe, source.benchmark)
                )
                if benchmark.needs_judge:
                    sources.setdefault(source.benchmark, {})[row, seed] = source
        return sources

    def marker(self, ref: Ref, source: ScoreSource) -> ArtifactMarker:
        """Of answers or judgments behind a score. Raises UserError where they are gone."""
        try:
            return self.store.meta(*ref)
        except KeyError as error:
            raise UserError(
                f"{error.args[0]}, though a score was made from it. Run the recipe again: only what is missing is made."
            ) from error


def compare_judges(
    run: str = "pocket",
    judges: Sequence[str] = (),
    *,
    force: bool = False,
    listener: RunListener | None = None,
    **options: Unpack[ComparisonOptions],
) -> JudgeComparison:
    """Judge the answers of a run (``NAME`` or ``NAME/TARGET``) with every judge, compare the judges, write the files.

    ``judges``: names of the recipe's, or as ``evaluate`` takes one, also as ``NAME=JUDGE``; by default the run's.
    Conclusions of the first are checked with the others. Raises UserError before anything is asked, with everything
    that is wrong; or a judge gave no complete result.
    """
    from reports.judge_comparison.annotations import check_own_rows
    from reports.judge_comparison.run_panel import run_panel

    judged_run = _judged_run(run, options)
    work = _plan(judged_run, judges, options)
    plans = {next(iter(plan.recipe.judges)): plan for plan in work.plans.values()}
    rows, family, own_rows = judged_run.run.rows, judged_run.run.family, options.get("own_rows", {})
    check_own_rows(own_rows, list(plans), [row.id for row in rows])
    benchmarks = work.first.graph.benchmarks
    humans = _humans(judged_run, benchmarks, options)  # read before any judge is asked
    # A pass is planned with placeholders for models: its record names those of the run that was judged again.
    finished_run = execute(
        work, force=force, listener=listener, edit=lambda record: replace(record, rows=rows, family=family, notes=())
    )
    errors = finished_run.outcome.errors if finished_run.outcome else {}
    if errors:
        reason = next(iter(errors.values())).strip().splitlines()[-1]
        raise UserError(f"a judge gave no complete result: {reason}")
    records = {name: work.record(target) for target, name in zip(work.plans, plans, strict=True)}
    passes = {name: read_results(record, judged_run.store) for name, record in records.items()}
    profiles = {name: _profile(plan, name, judged_run, own_rows.get(name)) for name, plan in plans.items()}
    target, notes = TARGETS.get(judged_run.folder.name, EVAL), _changed_options(work.first, judged_run.run)
    panel = run_panel(judged_run.results, passes, profiles, benchmarks, judged_run.store, target, notes)
    return _compare(panel, humans, options, judged_run.folder / JUDGES)


def compare_annotations(
    files: Sequence[str | Path], judges: Sequence[str] = (), **options: Unpack[ComparisonOptions]
) -> JudgeComparison:
    """Compare the annotators of these files (alpaca_eval's JSON, CSV, Parquet): all of them, or those named. Nothing is
    asked. Raises UserError for files that do not fit together."""
    from reports.judge_comparison.annotations import annotation_panel, read_humans

    paths, file = [Path(path) for path in files], options.get("humans")
    panel = annotation_panel(paths, judges, options.get("own_rows"))
    humans = None if file is None else read_humans(Path(file), panel.judgments, panel.benchmarks[0])
    return _compare(panel, humans, options, Path(options.get("runs", "runs")) / f"{JUDGES}-{paths[0].stem}")


def _compare(
    panel: Panel, humans: tuple[pd.DataFrame, list[str]] | None, options: ComparisonOptions, out: Path
) -> JudgeComparison:
    from reports.judge_comparison.compare import REPLICATES, compare_panel
    from reports.judge_comparison.reference import HUMANS
    from reports.judge_comparison.tables import write_comparison

    votes, notes = humans or (None, [])
    if votes is not None and HUMANS in panel.judges:
        raise UserError(f"a judge is called {HUMANS!r}, as the line of the people in the tables is: rename it.")
    panel = replace(panel, notes=(*panel.notes, *notes))
    comparison = compare_panel(panel, votes, options.get("replicates", REPLICATES), budget=options.get("budget"))
    folder = Path(options.get("out") or out)
    try:
        paths = write_comparison(comparison, folder)
        if votes is None:
            (folder / "human-votes.csv").unlink(missing_ok=True)
        else:
            paths.append(write_atomic(folder / "human-votes.csv", votes.to_csv(index=False).encode()))
        if "on_files" in options:
            options["on_files"](paths)
    except OSError as error:
        if options.get("out") is not None or error.errno not in UNWRITABLE:
            raise
        reason = f"No files: {folder}: {(error.strerror or '').lower()}. --out FOLDER writes them elsewhere."
        comparison = replace(comparison, notes=(*comparison.notes, reason))
    return comparison


def plan_judge_comparison(
    run: str = "pocket", judges: Sequence[str] = (), **options: Unpack[ComparisonOptions]
) -> WorkPlan:
    """The calls that ``compare_judges`` would make: a plan per judge, in the order of ``judges``. Raises as it does."""
    return _plan(_judged_run(run, options), judges, options)


def _plan(judged_run: JudgedRun, judges: Sequence[str], options: ComparisonOptions) -> WorkPlan:
    names = options.get("benchmarks") or list(judged_run.sources)
    absent_names = [name for name in names if name not in judged_run.sources]
    if absent_names or not names:
        lack, have = ", ".join(absent_names) or "at all", ", ".join(judged_run.sources) or "none"
        raise UserError(f"run {judged_run.run.name!r} has no judged benchmark {lack}; it has: {have}.")
    titles, plans = {row.id: row.title for row in judged_run.run.rows}, {}
    for name, entry in judge_entries(judges, judged_run.run, judged_run.registry).items():
        planner = RejudgingPlanner(_pass_recipe(judged_run, name, entry, names, options), judged_run)
        target = judged_run.folder.name
        plans[f"{target}/{JUDGES}/{name}/{target}"] = plan_rows(planner, list(titles), titles)
    work = WorkPlan(plans, Path(options.get("runs", "runs")), tuple(options.get("plugins", ())))
    max_cost, dollars = options.get("max_cost"), work.cost(work.pending_stages).dollars
    if max_cost is not None and dollars is not None and dollars > max_cost:  # each pass alone may be cheap enough
        raise UserError(f"judging is estimated at ${dollars:,.2f}, --max-cost allows ${max_cost:g}: name fewer judges.")
    return work


def _judged_run(run: str, options: ComparisonOptions) -> JudgedRun:
    runs = Path(options.get("runs", "runs"))
    finished_run, registry = load(run, runs=runs), load_registry(options.get("plugins", ()))
    if finished_run.folder.parent.name == JUDGES:
        raise UserError(f"{run} is a judge's run on the answers of another one: name that one.")
    return JudgedRun(finished_run.folder / finished_run.choose(), finished_run.results(), finished_run.store, registry)


class RejudgingPlanner(Planner):
    """Plans judge and score stages on the stored answers of a run."""

    def __init__(self, recipe: Recipe, judged_run: JudgedRun) -> None:
        super().__init__(recipe, judged_run.registry)
        self.judged_run = judged_run

    def row(self, row: str, seed: int) -> PlannedRow:
        judge, answers, judgments = next(iter(self.recipe.judges)), {}, {}
        for name, sources in self.judged_run.sources.items():
            if name in self.recipe.benchmarks and (row, seed) in sources:
                answers[name] = self.stored_stage(sources[row, seed].answers, sources[row, seed], row, seed)
                baseline = self.baseline(name)
                judgments[name] = judge_stage(self.graph, name, answers[name], baseline, f"by {judge}")
        return PlannedRow(row, seed, answers, judgments)

    def baseline(self, benchmark: str) -> Stage | None:
        source = next(iter(self.judged_run.sources[benchmark].values()))
        if source.baseline is None:
            return None
        return self.stored_stage(source.baseline, source, source.baseline_row, None)

    def stored_stage(self, answers: Ref, source: ScoreSource, row: str, seed: int | None) -> Stage:
        """The stage that made an artifact; another run may have made it for a row of another name."""
        return replace(Stage.of(self.judged_run.marker(answers, source)), row=row, seed=seed)


def _pass_recipe(
    judged_run: JudgedRun, name: str, entry: Mapping[str, object], benchmarks: Sequence[str], options: ComparisonOptions
) -> Recipe:
    """The run's recipe with another judge, asked in both orders and with repeats where a benchmark can."""
    original = judged_run.run.recipe
    tree: dict[str, object] = {section: original[section] for section in _SHARED_SECTIONS if section in original}
    # Only pairs of calls that differ in nothing but the order, or in nothing, can tell a bias from noise.
    changes, specs = {"order": "both", "repeats": options.get("repeats", 2)}, {}
    for benchmark in benchmarks:
        values = stored_options(original, benchmark)
        fields = judged_run.registry.benchmark(benchmark, values)[0].config.__dataclass_fields__
        benchmark_changes = {key: value for key, value in changes.items() if key in fields}
        specs[benchmark] = {**values, **benchmark_changes, "judge": name}
    tree |= {
        "name": judged_run.run.name,
        "title": f"judged by {name}",
        "judges": {name: dict(entry)},
        "benchmarks": specs,
        # A failed call is asked again, never counted: judges would be compared on different items.
        "ask": {**original.get("ask", {}), "accept_failures": False, "max_cost": options.get("max_cost")},
        # Nothing is trained or answered, so the models of the run need not be there.
        "family": {"name": judged_run.run.family.name, "teacher": PLACEHOLDER, "student": PLACEHOLDER},
    }
    recipe, problems = check_tree(tree, judged_run.registry)
    if problems or recipe is None:
        raise RecipeError(problems, "--judges")
    rows = {name: next(iter(judged_run.sources[name].values())).baseline_row or None for name in benchmarks}
    # Rows are not planned here, so the recipe cannot name them.
    columns = {name: replace(entry, baseline=rows[name]) for name, entry in recipe.benchmarks.items()}
    return replace(recipe, benchmarks=columns)


def _humans(
    judged_run: JudgedRun, benchmarks: Mapping[str, ConfiguredBenchmark], options: ComparisonOptions
) -> tuple[pd.DataFrame, list[str]] | None:
    """Votes on the run's answers to the first benchmark that compares answers, and notes."""
    from reports.judge_comparison.annotations import read_humans
    from reports.judge_comparison.reference import simulated_humans
    from reports.judge_comparison.run_panel import run_judgments

    file, people = options.get("humans"), options.get("simulate_humans")
    if file is None and not people:
        return None
    if file is not None and people:
        raise UserError("--humans and --simulate-humans: give one of them.")
    name = next((name for name, benchmark in benchmarks.items() if benchmark.benchmark.pairwise), None)
    if name is None:
        raise UserError("--humans: no benchmark here compares answers with a baseline.")
    judgments = run_judgments(judged_run.results, judged_run.store, {name: benchmarks[name]})
    return read_humans(Path(file), judgments, name) if file is not None else simulated_humans(judgments, people or 0)


def _changed_options(plan: Plan, run: Run) -> tuple[str, ...]:
    """Why the run's own judge has other values here than in the run's tables; nothing where it has not."""
    titles = {metric.id.partition(".")[0]: metric.group for metric in run.columns}
    benchmarks: dict[str, list[str]] = {}
    for name, benchmark in plan.graph.benchmarks.items():
        run_options, pass_options = run.recipe["benchmarks"][name], benchmark.options
        if run_options.get("repeats", pass_options.get("repeats")) != pass_options.get("repeats"):
            text = f"{times(run_options['repeats'])} per answer, not {times(pass_options['repeats'])}"
            benchmarks.setdefault(text, []).append(titles[name])
        if run_options.get("order", pass_options.get("order")) != pass_options.get("order"):
            benchmarks.setdefault("in one order, not in both", []).append(titles[name])
    differences = " and ".join(f"{text} ({', '.join(names)})" for text, names in benchmarks.items())
    return (f"Values differ from the run's own tables, which ask the judge {differences}.",) if differences else ()


def _profile(plan: Plan, name: str, judged_run: JudgedRun, own_rows: Sequence[str] | None) -> JudgeProfile:
    """What the judge stages of a pass measured, and what the judge's name tells."""
    from reports.judge_comparison.panel import JudgeProfile
    from reports.tables.judge_family import own_family_rows

    judge = plan.graph.judges[name]
    refs = {stage.ref for entrant in plan.entrants for stage in entrant.judgments.values()}
    measurements = [judged_run.store.meta(*ref)["measurements"] for ref in refs]
    counts = ("calls", "prompt_tokens", "completion_tokens")
    calls, prompt, completion = (sum(measurement[count] for measurement in measurements) for count in counts)
    model = next((served_model for measurement in measurements for served_model in measurement["served"]), "")
    if own_rows is None:
        trained_rows = [row.id for row in judged_run.run.rows if not row.baseline]
        own_rows = own_family_rows(model, judged_run.run.family, trained_rows)
    dollars = judge.kind.price(judge.config, prompt, completion)
    thousand = None if dollars is None or not calls else 1000 * dollars / calls
    tokens = (prompt + completion) / calls if calls else None
    return JudgeProfile(model, tuple(own_rows), thousand, tokens, judge.kind.length_words(judge.config))


def judge_entries(texts: Sequence[str], run: Run, registry: Registry) -> dict[str, dict[str, object]]:
    """Name to a judge's entry in a recipe. Raises UserError for one that cannot be read, or a name given twice."""
    run_judges: Mapping[str, Mapping[str, object]] = run.recipe.get("judges", {})
    if not texts and not run_judges:
        raise UserError(f"run {run.name!r} names no judges: give --judges.")
    entries: dict[str, dict[str, object]] = {}
    for text in texts or run_judges:
        match = _NAMED_JUDGE.fullmatch(text)
        spec = match[2] if match else text
        kind, _, model = spec.partition(":")
        fields = registry.judges[kind].config.__dataclass_fields__ if model and kind in registry.judges else {}
        option = next((option for option in ("model", "path") if option in fields), None)
        if spec in run_judges:
            entry = dict(run_judges[spec])
        else:
            entry = {"kind": kind, option: model} if option else judge_entry(spec, registry)
        model = str(entry.get("model") or entry.get("path") or entry["kind"])
        name = match[1] if match else spec if spec in run_judges else re.sub(r"[^\w.+-]", "-", model.rpartition("/")[2])
        if name in entries:
            raise UserError(f"--judges: two judges are called {name!r}; name one of them: NAME={spec}.")
        entries[name] = entry
    return entries


def judge_names(folder: Path, store: ArtifactStore) -> dict[str, str]:
    """Key of every judge artifact of the passes in ``runs/NAME/TARGET`` to the judge's name; empty without any."""
    lineage, files = Lineage(store), sorted((folder / JUDGES).glob("*/*/run.json"))
    passes = {file.parts[-3]: lineage.sources(read_run(file)).values() for file in files}
    return {source.judgments.key: name for name, sources in passes.items() for source in sources}
