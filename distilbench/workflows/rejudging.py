"""The judge stages of a finished run, once more with other judges: same answers, same ledger, nothing asked twice.

A judge stage is data: with another ``judge`` in its parameters it is the stage of that judge, and with the run's own
one it has the key that the run left in the store. So no recipe is planned again, and any run will do: trained,
evaluated, or given answers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.contracts.baseline import against
from harness.contracts.options import options_from, plain
from harness.contracts.stage import Ref, Stage
from harness.errors import UserError
from harness.types import Answer, Question, Request

if TYPE_CHECKING:
    from harness.contracts.benchmark import Benchmark
    from harness.contracts.registry import Registry
    from harness.recipe.sections import JudgeEntry
    from results.run.record import Run
    from results.store.store import ArtifactStore

CHARS_PER_TOKEN = 4
WRITTEN = 512
"""Most tokens that a reply is priced at."""


@dataclass(frozen=True)
class Judged:
    """One benchmark of a run, as it was scored."""

    benchmark: str
    adapter: Benchmark
    score: Mapping[str, Any]
    """What the store says of the score stage."""
    judges: Mapping[str, Mapping[str, Any]]
    """Entrant to what the store says of its judge stage."""
    config: Any
    """The benchmark's config as the comparison asks: in both orders, with repeats."""
    questions: Sequence[Question]
    paired: bool


@dataclass
class Task:
    """One judge on one benchmark."""

    judge: str
    entry: JudgeEntry
    judged: Judged
    stages: dict[str, Stage]
    """Entrant to its judge stage."""
    score: Stage
    stored: int = 0
    """Requests of stages still to run whose replies are in the ledger."""
    asked: int = 0
    """Requests of stages still to run whose replies are not."""
    dollars: float | None = 0.0
    """Estimated price of ``asked``."""
    fresh: list[str] = field(default_factory=list)
    """Keys of stages of which nothing is in the ledger: their wall time is that of asking."""


def judged_benchmarks(
    run: Run, store: ArtifactStore, registry: Registry, chosen: Sequence[str], repeats: int
) -> list[Judged]:
    """The benchmarks of a run that a judge model judged. Raises UserError where there are none, or it is unfinished."""
    keys: dict[str, None] = {cell.score: None for cell in run.cells if cell.score}
    found: dict[str, Judged] = {}
    for key in keys:
        try:
            meta = store.meta("score", key)
        except KeyError as error:
            raise UserError(
                f"run {run.name!r} is not finished: run it first (distilbench run), then compare."
            ) from error
        name = meta["params"]["benchmark"]
        if name in registry.benchmarks and registry.benchmarks[name].judged and (not chosen or name in chosen):
            found[name] = _judged(name, meta, store, registry, repeats)
    missing = [name for name in chosen if name not in found]
    if missing or not found:
        have = ", ".join(cards.benchmark for cards in run.cards)
        raise UserError(f"run {run.name!r} has no judged benchmark {', '.join(missing) or 'at all'}; it has: {have}.")
    return list(found.values())


def _judged(name: str, meta: Mapping[str, Any], store: ArtifactStore, registry: Registry, repeats: int) -> Judged:
    adapter = registry.benchmarks[name]
    values = dict(meta["params"]["config"])
    values |= {key: new for key, new in (("order", "both"), ("repeats", repeats)) if key in values}
    config = options_from(adapter.config, values)
    questions = adapter.questions(config)
    if "baseline" in meta["inputs"]:
        theirs = answers_in(store, Ref.parse(meta["inputs"]["baseline"]))
        questions = against(questions, theirs, meta["params"]["baseline"])
    judges = {}
    for entrant in meta["params"]["entrants"]:
        try:
            judges[entrant] = store.meta(*Ref.parse(meta["inputs"][f"judgments:{entrant}"]))
        except KeyError as error:
            raise UserError(
                f"the judgments of {entrant} on {name} are not in the store: run the recipe again."
            ) from error
    return Judged(name, adapter, meta, judges, config, questions, adapter.pairwise)


def answers_in(store: ArtifactStore, ref: Ref) -> list[Answer]:
    """The answers of an ``answer`` artifact."""
    from harness.records import read_records

    return read_records(store.path(*ref) / "answers.jsonl", Answer)


def task(name: str, entry: JudgeEntry, judged: Judged, registry: Registry, ask: Mapping[str, Any]) -> Task:
    """The stages of one judge on one benchmark. ``ask``: options of ``AskOptions``."""
    kind = registry.judges[entry.kind]
    identity = {"kind": entry.kind, **kind.identity(entry.config)}
    values = plain(judged.config)
    stages: dict[str, Stage] = {}
    for entrant, meta in judged.judges.items():
        params = {**meta["params"], "judge": identity}
        params["config"] = {each: values[each] for each in judged.adapter.judge_fields}
        local = {"config": values, "judge": {"kind": entry.kind, "config": plain(entry.config)}, "ask": dict(ask)}
        row, _, seed = entrant.rpartition("/")
        inputs = {role: Ref.parse(text) for role, text in meta["inputs"].items()}
        of = {"row": row, "seed": int(seed), "variant": f"by {name}"}
        stages[entrant] = Stage("judge", params, inputs, meta["version"], **of, local=local)
    inputs = {role: Ref.parse(text) for role, text in judged.score["inputs"].items()}
    inputs |= {f"judgments:{entrant}": stage.ref for entrant, stage in stages.items()}
    params = {**judged.score["params"], "config": values}
    score = Stage("score", params, inputs, judged.score["version"], variant=f"by {name}")
    return Task(name, entry, judged, stages, score)


def estimate(
    made: Task, store: ArtifactStore, registry: Registry, ledger: Path, known: dict[Ref, list[Request]]
) -> None:
    """Count what is to be asked, and what of it is in the ledger; price the rest.

    ``known``: filled with what was asked about each answer artifact; the same for every judge.
    """
    from judges.ledger.ledger import Ledger, request_key

    kind = registry.judges[made.entry.kind]
    config = made.entry.config
    judge = kind.make(config)
    prompt = written = 0
    for stage in made.stages.values():
        if store.done(stage):
            continue
        answers = stage.inputs["answers"]
        if answers not in known:
            known[answers] = requests(made.judged, stage, store)
        keys = {request_key(judge.endpoint, judge.model, each): each for each in known[answers]}
        stored: Mapping[str, Any] = {}
        if ledger.is_file():
            with Ledger(ledger, create=False) as opened:
                stored = opened.get(keys)
        open_ = [request for key, request in keys.items() if key not in stored]
        made.stored, made.asked = made.stored + len(stored), made.asked + len(open_)
        if not stored:
            made.fresh.append(stage.key)
        prompt += sum(len(message["content"]) for each in open_ for message in each.messages) // CHARS_PER_TOKEN
        written += sum(min(each.max_tokens, WRITTEN) for each in open_) // 2
    made.dollars = kind.price(config, prompt, written) if made.asked else 0.0


def requests(judged: Judged, stage: Stage, store: ArtifactStore) -> list[Request]:
    """Everything that a judge stage asks."""
    given = {answer.question: answer for answer in answers_in(store, stage.inputs["answers"])}
    return [each for q in judged.questions for each in judged.adapter.requests(q, given[q.id], judged.config)]


def execute(tasks: Sequence[Task], run: Run, registry: Registry, store: ArtifactStore, plugins: tuple[str, ...]) -> int:
    """Run the stages that are not in the store; how many failed. Their messages are shown as they come."""
    from distilbench.cli.screen import Display
    from distilbench.workflows.workers import set_up_worker, verbosity
    from harness.recipe.sections import Compute
    from harness.run.scheduler import Outcome, run_stages, start_executor

    stages = [stage for each in tasks for stage in each.stages.values() if not store.done(stage)]
    scores = [each.score for each in tasks if not store.done(each.score)]
    outcome = Outcome(len(stages) + len(scores), 0)
    compute = options_from(Compute, run.recipe.get("compute", {}))
    setup = partial(set_up_worker, plugins, store.root, verbosity())

    def scores_of_the_judged() -> list[Stage]:
        judged = [each.score for each in tasks if all(store.done(stage) for stage in each.stages.values())]
        return [score for score in judged if not store.done(score)]

    with Display() as display:
        start = partial(start_executor, compute, registry, store.root.parent / "ledger.sqlite", setup, display)
        return len(run_stages(stages, scores_of_the_judged, outcome, start, display).failed)


def describe(
    tasks: Sequence[Task], run: Run, registry: Registry, store: ArtifactStore, own: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """What ``sources.json`` says: which score artifact is whose, and what is known of each judge."""
    from reports.judge_comparison.model_families import family_of, own_rows

    teacher, student = family_of(run.family.teacher), family_of(run.family.student)
    trained = [row.id for row in run.rows if not row.baseline]
    judges: dict[str, Any] = {}
    for made in tasks:
        if not store.done(made.score):
            continue
        facts = judges.setdefault(made.judge, {"kind": made.entry.kind, "calls": 0, "prompt": 0, "written": 0})
        used = [store.meta("judge", stage.key) for stage in made.stages.values()]
        for meta in used:
            facts["calls"] += meta["measurements"]["calls"]
            facts["prompt"] += meta["measurements"]["prompt_tokens"]
            facts["written"] += meta["measurements"]["completion_tokens"]
        served = [name for meta in used for name in meta["measurements"]["served"]]
        facts["model"] = served[0] if served else ""
        timed = [meta for meta in used if meta["key"] in made.fresh]
        if timed:
            facts["timed"] = facts.get("timed", 0) + sum(meta["measurements"]["calls"] for meta in timed)
            facts["waited"] = facts.get("waited", 0.0) + sum(meta["wall_seconds"] for meta in timed)
        facts["family"] = family_of(facts["model"])
        facts["own"] = list(own.get(made.judge, own_rows(facts["family"], teacher, student, trained)))
    for name, facts in judges.items():
        entry = next(each.entry for each in tasks if each.judge == name)
        kind = registry.judges[entry.kind]
        config = entry.config
        facts["length_words"] = kind.length_words(config)
        dollars = kind.price(config, facts.pop("prompt"), facts.pop("written"))
        facts["dollars"] = None if dollars is None else 1000 * dollars / max(facts["calls"], 1)
        waited, timed_calls = facts.pop("waited", None), facts.pop("timed", 0)
        facts["seconds"] = 1000 * waited / timed_calls if waited is not None and timed_calls else None
    return {
        "format": 1,
        "run": run.name,
        "teacher": teacher,
        "teacher_model": run.family.teacher,
        "titles": {row.id: row.title for row in run.rows},
        "baselines": [row.id for row in run.rows if row.baseline],
        "judges": judges,
        "names": {metric.id.partition(".")[0]: metric.group for metric in run.columns}
        | {metric.id: f"{metric.group} {metric.title}" for metric in run.columns},
        "notes": asked_otherwise(tasks, run),
        "benchmarks": {
            each.benchmark: {"paired": each.paired, "range": list(each.adapter.verdicts),
                             "calls": sum(meta["measurements"]["calls"] for meta in each.judges.values())}
            for each in {made.judged.benchmark: made.judged for made in tasks}.values()
        },
        "scores": [
            {"judge": made.judge, "benchmark": made.judged.benchmark, "score": made.score.key}
            for made in tasks if store.done(made.score)
        ],
    }  # fmt: skip


def asked_otherwise(tasks: Sequence[Task], run: Run) -> list[str]:
    """Why the run's own judge has other values here than in the run's tables: a line, or none where it has not."""
    groups = {metric.id.partition(".")[0]: metric.group for metric in run.columns}
    found = {}
    for judged in {made.judged.benchmark: made.judged for made in tasks}.values():
        before, now = judged.score["params"]["config"], asdict(judged.config)
        changed = [f"{name} {now[name]}, there {before.get(name)}" for name in now if now[name] != before.get(name)]
        if changed:
            found[groups.get(judged.benchmark, judged.benchmark)] = ", ".join(changed)
    if not found:
        return []
    said = "; ".join(f"{name}: {changed}" for name, changed in found.items())
    return [f"Values differ from the run's own tables, for its own judge too: more is asked here ({said})."]


def write_description(folder: Path, content: Mapping[str, Any], items: str) -> None:
    """``sources.json`` and ``items.csv``. A time that was measured before and not now is kept."""
    from results.store.locks import write_atomic

    place = folder / "sources.json"
    before: Mapping[str, Any] = {}
    if place.is_file():
        try:
            before = json.loads(place.read_bytes()).get("judges", {})
        except ValueError:
            before = {}
    for name, facts in content["judges"].items():
        old = before.get(name, {})
        if facts["seconds"] is None and old.get("model") == facts["model"] and old.get("kind") == facts["kind"]:
            facts["seconds"] = old.get("seconds")
    write_atomic(folder / "items.csv", items.encode())
    write_atomic(place, (json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())
