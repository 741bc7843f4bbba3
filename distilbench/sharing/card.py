"""The model card of a student, made from its run alone: what it is, its scores and protocols, how to make it again.

Nothing of this machine gets into it: paths lose their folders, addresses of servers their hosts, and no host or user is
named. The front matter is what huggingface_hub's ``ModelCardData`` writes, with an ``EvalResult`` per score.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from huggingface_hub import EvalResult, ModelCardData, metadata_load, try_to_load_from_cache
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from distilbench.plugins import OURS
from distilbench.sharing.student import TrainedStudent
from harness.contracts.benchmark import Metric
from harness.models.published_sizes import published_model
from harness.text import clean, format_count
from harness.types import Score
from reports.formats.markdown import escape_markdown
from reports.tables.summary import CellSummary, Summary, summarise
from reports.targets import find_target
from results.run.record import section

POCKET = "pocket:"
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
LICENCES = {"gemma": "https://ai.google.dev/gemma/terms"}
"""Terms behind the hub's names of licences, where the name does not lead to them."""


@dataclass(frozen=True)
class CardOptions:
    name: str
    """How the examples call the model: a folder's name, or ``owner/name``."""
    adapter: bool = False
    plugins: tuple[str, ...] = ()


def model_card(student: TrainedStudent, options: CardOptions) -> str:
    """``README.md``: front matter and text."""
    run, summary = student.run, summarise(student.finished.results(student.target), find_target(student.target))
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, autoescape=False,  # noqa: S701, Markdown
    )  # fmt: skip
    environment.filters["md"] = lambda text: escape_markdown(clean(str(text)))
    text = environment.get_template("card.jinja").render(
        title=f"{public_name(run.family.student)}, {student.spec.title}, seed {student.seed}",
        student=student, run=run, options=options, spec=student.spec,
        base=public_name(run.family.student), teacher=public_name(run.family.teacher),
        base_place=base_place(run.family.student),
        base_licence=licence_of(run.family.student), teacher_licence=licence_of(run.family.teacher), terms=LICENCES,
        method=OURS["methods"].get(method_of(student)), method_name=method_of(student),
        plugins=[Path(plugin).name for plugin in options.plugins],
        scores=list(score_lines(student, summary)), notes=list(notes(student, summary)), cards=run.cards,
        judges=run.judges, groups={metric.id.partition(".")[0]: metric.group for metric in run.columns},
        data=list(data_lines(student)), settings=settings(student), reproduce=reproduce(student, options),
        export=export_command(student, options), training=student.finished.lineage.training(student.stage),
        version=distilbench_version(), commit=commit(student), count=format_count, is_toy=is_toy(run.family.student),
        name=shlex.quote(clean(options.name)), name_in_python=json.dumps(options.name),
    )  # fmt: skip
    return f"---\n{front_matter(student, options).to_yaml()}\n---\n\n{text}"


def front_matter(student: TrainedStudent, options: CardOptions) -> ModelCardData:
    run, licence = student.run, licence_of(student.run.family.student)
    known: dict[str, Any] = {"license": licence} if licence else {}
    known |= {"base_model": hub_id(run.family.student)} if on_hub(run.family.student) else {}
    source = OURS["sources"].get(str(section(run.recipe, "prompts").get("source", "")))
    known |= {"datasets": [source.hub]} if source is not None and source.hub else {}
    return ModelCardData(
        model_name=student.name, library_name="peft" if options.adapter else "transformers",
        pipeline_tag="text-generation", eval_results=list(eval_results(student)),
        tags=["distilbench", "preference-distillation", method_of(student)], **known,
    )  # fmt: skip


def eval_results(student: TrainedStudent) -> Iterator[EvalResult]:
    """Of this seed, as the hub shows them; scores without a value are left out."""
    run = student.run
    for metric, score in own_scores(student):
        if score.value is None:
            continue
        benchmark = metric.id.partition(".")[0]
        judge = clean(run.judges.get(benchmark, "not stated"))
        arguments: dict[str, Any] = {"n": score.n, "unscored": score.unscored, "judge": judge}
        if score.low is not None and score.high is not None:
            arguments["interval_95"] = [round(end, metric.digits + 2) for end in (score.low, score.high)]
        yield EvalResult(
            task_type="text-generation", dataset_type=benchmark, dataset_name=clean(metric.group),
            metric_type=metric.id, metric_name=clean(metric.title), metric_args=arguments,
            metric_value=round(score.value, metric.digits + 2),
        )  # fmt: skip


def own_scores(student: TrainedStudent) -> Iterator[tuple[Metric, Score]]:
    results = student.finished.results(student.target)
    for metric in student.run.columns:
        if (score := results.scores.get((student.spec.id, metric.id, student.seed))) is not None:
            yield metric, score


@dataclass(frozen=True)
class ScoreLine:
    metric: Metric
    own: str
    """Of this checkpoint, with its interval over questions."""
    row: str
    """Mean over the run's seeds, with the table's interval."""
    before: str
    teacher: str
    n: int
    unscored: int
    judge: str


def score_lines(student: TrainedStudent, summary: Summary) -> Iterator[ScoreLine]:
    judges = student.run.judges
    for metric, score in own_scores(student):
        cells = [summary.cells.get((row, metric.id)) for row in (student.spec.id, "student", "teacher")]
        row, before, teacher = (cell_text(cell) for cell in cells)
        own, judge = score_text(metric, score.value, score.low, score.high), judges.get(metric.id.partition(".")[0], "")
        yield ScoreLine(metric, own, row, before, teacher, score.n, score.unscored, judge)


def cell_text(cell: CellSummary | None) -> str:
    if cell is None:
        return "not in this run"
    change = cell.change
    text = score_text(cell.metric, cell.value, cell.low, cell.high)
    if change.delta is None or cell.value is None:
        return text
    return f"{text}, {change.delta:+.{cell.metric.digits}f}{'*' if change.significant else ''}"


def score_text(metric: Metric, value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "not scored"
    ends = "" if low is None or high is None else f" [{low:.{metric.digits}f}, {high:.{metric.digits}f}]"
    return f"{value:.{metric.digits}f}{ends}"


def notes(student: TrainedStudent, summary: Summary) -> Iterator[str]:
    """What a reader of the scores must know, as it stands under the run's own table."""
    run = student.run
    if not run.finished:
        yield "The run is not finished: scores are missing, and the others may change."
    reasons = student.finished.results(student.target).missing_scores
    for metric in run.columns:
        if reason := reasons.get((student.spec.id, metric.id, student.seed)):
            yield f"{metric.group} {metric.title}: no score ({reason})."
    for metric, score in own_scores(student):
        if score.note:
            yield f"{metric.group} {metric.title}: {score.note.rstrip('.')}."
    yield from dict.fromkeys(warning for column in summary.columns for warning in column.warnings)
    yield from (*run.choices, *run.notes)


def method_of(student: TrainedStudent) -> str:
    return str(student.marker["params"]["method"])


def data_lines(student: TrainedStudent) -> Iterator[tuple[str, str]]:
    """What it learned from, by what the stages behind it say of themselves."""
    for _, marker in student.finished.lineage.artifacts_behind(student.stage):
        if marker is None:
            continue
        params, measured = marker["params"], marker.get("measurements") or {}
        if "source" in params:
            revision = params.get("identity", {}).get("revision")
            pin = f" at revision {revision}" if revision else ""
            source = OURS["sources"].get(params["source"])
            hub = f" ({source.hub}{pin})" if source is not None and source.hub else ""
            count = format_count(measured.get("prompts", params["n"]), "prompt")
            yield "prompts", f"{count} of the source {params['source']}{hub}, drawn with seed {params['seed']}"
        elif "temperature" in params:
            who = "the student" if params["field"] == "samples" else "the teacher"
            count = format_count(params["n"], "response")
            sampling = f"temperature {params['temperature']:g}, top-p {params['top_p']:g}"
            yield "responses", f"{count} per prompt by {who}, {sampling}, up to {params['max_new_tokens']} tokens"
        elif "final_loss" in measured:
            round_text = f"round {marker['round']}: " if marker["round"] else ""
            loss = f"loss {measured['first_loss']:.4g} to {measured['final_loss']:.4g}"
            count, steps = format_count(measured["prompts"], "prompt"), format_count(measured["steps"], "step")
            yield "training", f"{round_text}{marker['row']}, {steps} on {count}, {loss}"


def settings(student: TrainedStudent) -> dict[str, object]:
    """Options of the method and of training, as the last round had them."""
    params = student.marker["params"]
    lora = params["options"].get("lora")
    options = {name: value for name, value in params["options"].items() if name != "lora"}
    return {**params["config"], **options, **({"lora": lora} if lora else {}), "seed": student.seed}


def reproduce(student: TrainedStudent, options: CardOptions) -> str:
    """All rows of the table: joint scores and corrected tests depend on which others are there."""
    rows = ",".join(row.id for row in student.run.rows)
    words = ["distilbench", "reproduce", student.target, "--recipe", "recipe.yaml", "--methods", rows]
    return shlex.join([*words, *plugin_words(options)])


def export_command(student: TrainedStudent, options: CardOptions) -> str:
    words = ["distilbench", "export-model", student.spec.id, "again", "--seed", str(student.seed)]
    words += ["--run", student.run.name] + (["--adapter"] if options.adapter else [])
    return shlex.join(words)


def plugin_words(options: CardOptions) -> list[str]:
    return [word for plugin in options.plugins for word in ("--plugin", Path(plugin).name)]


def distilbench_version() -> str:
    try:
        return version("distilbench")
    except PackageNotFoundError:  # a checkout on the path
        return ""


def commit(student: TrainedStudent) -> str:
    """Of the source that trained it, unless it had changes of its own."""
    git = student.marker.get("git") or {}
    return "" if git.get("dirty", True) else str(git.get("commit", ""))


# Names and licences of models


def hub_id(model: str) -> str:
    return model.partition("@")[0]


def on_hub(model: str) -> bool:
    return HUB_ID.fullmatch(model) is not None and not is_path(model) and not Path(model).is_dir()


def is_path(text: str) -> bool:
    return text.startswith(("/", "./", "../", "~"))


def public_name(model: str) -> str:
    """A hub id or ``pocket:NAME`` as it is; of a folder, its last part."""
    return model if model.startswith(POCKET) or on_hub(model) else Path(model).name


def base_place(model: str) -> tuple[str, str]:
    """How Python and vLLM name a model: the revision of a hub's is an argument of its own."""
    name, _, revision = public_name(model).partition("@") if on_hub(model) else (public_name(model), "", "")
    python = json.dumps(name) + (f", revision={json.dumps(revision)}" if revision else "")
    return python, shlex.quote(clean(name)) + (f" --revision {shlex.quote(revision)}" if revision else "")


def is_toy(model: str) -> bool:
    return model.startswith(POCKET)


def licence_of(model: str) -> str | None:
    """The hub's name of a model's licence, from what is published here or from its own card; ``None``: not known."""
    if is_toy(model):
        return "apache-2.0"  # made by distilbench, shipped under its licence
    if known := published_model(hub_id(model)):
        return known.licence
    card = (
        try_to_load_from_cache(hub_id(model), "README.md") if on_hub(model) else Path(model).expanduser() / "README.md"
    )
    try:
        found = (metadata_load(card) or {}).get("license") if isinstance(card, str | Path) else None
    except Exception:  # noqa: BLE001, of somebody's front matter: YAML has errors of many classes
        return None
    return found if isinstance(found, str) else None


# The recipe, fit to be shown to others

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>)\]]+")
PLACE = re.compile(r"(?<![^\s=:,'\"(\[])(?:(?:~|\.\.?)(?:/[^\s/:,'\"<>)\]]+)+|(?:/[^\s/:,'\"<>)\]]+){2,})")
"""A path in a text, of two parts at least where it begins at the root: ``/no_think`` is a word to a model."""


def published_recipe(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Without what tells of this machine: folders of paths, hosts of servers, what it computed on."""
    shown = {name: value for name, value in recipe.items() if name != "compute"}
    result = without_places(shown)
    assert isinstance(result, dict)  # noqa: S101, of a mapping
    return result


def without_places(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(without_places(str(key))): without_places(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_places(item) for item in value]
    if not isinstance(value, str):
        return value
    value = URL.sub(lambda found: public_address(found[0]), value)
    place = os.path.expanduser(value)  # noqa: PTH111, a Path's own raises where there is no such user
    # with spaces in it, perhaps; a Path's own ``exists`` raises for a long text
    if is_path(value) and "\n" not in value and Path(value).name and os.path.exists(place):  # noqa: PTH110
        return f"./{Path(value).name}"
    return PLACE.sub(lambda found: f"./{Path(found[0]).name}", value)


def public_address(url: str) -> str:
    """The address of a server without user and password, and ``HOST`` in place of a host that others cannot reach."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "HOST"
    try:
        reachable = ipaddress.ip_address(host).is_global
    except ValueError:
        reachable = "." in host and not host.endswith((".local", ".internal", ".lan", ".localdomain"))
    return f"{parts.scheme}://{host + port if reachable else 'HOST'}{parts.path}"
