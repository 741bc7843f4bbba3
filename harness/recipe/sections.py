"""The sections of a recipe, with a sentence under each option; defaults that differ from the paper say so."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, WithJsonSchema

from harness.contracts.benchmark import KIND
from harness.contracts.executor import Resources, StageOptions
from harness.contracts.model import Sampling
from harness.contracts.options import (
    Count,
    PathText,
    Seed,
    Share,
    Temperature,
    Tokens,
    json_data,
    options,
    require,
)
from harness.hardware import DEVICES
from harness.training.launch import launch_configuration
from harness.training.options import DeviceName, TrainOptions

MODELS = ("teacher", "student")


def _model_text(text: str) -> str:
    folder = text.startswith(("/", "./", "../", "~")) or (text != "" and Path(text).is_dir())
    require(
        folder or re.fullmatch(r"pocket:[\w-]+|[\w.-]+/[\w.-]+(@[\w./-]+)?", text) is not None,
        "is not a model: write pocket:NAME, the path of a folder (starting with /, ./ or ~), "
        "or a hub id owner/name, with @revision if wanted",
    )
    return text


FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
COLUMN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}")
TAKEN_COLUMNS = ("cost", "search")
"""Metrics that are no benchmark's begin with these."""


def _folder_name(text: str) -> str:
    rule = "must be usable as a folder's name: up to 100 letters, digits, . _ + -, starting with a letter or digit"
    require(FOLDER_NAME.fullmatch(text) is not None, rule)
    return text


def _gpu(text: str) -> str:
    require(text in DEVICES, f"must be one of {', '.join(DEVICES)}, or null")
    return text


def _launch(text: str) -> str:
    launch_configuration(text)
    return text


ModelText = Annotated[PathText, AfterValidator(_model_text)]
FolderName = Annotated[
    str, AfterValidator(_folder_name), WithJsonSchema({"type": "string", "pattern": f"^{FOLDER_NAME.pattern}$"})
]


@options
class Family:
    name: FolderName
    """Short name for tables and paths."""
    teacher: ModelText
    """The large model that is learned from: ``pocket:NAME``, a local folder, or a hub id (``owner/name`` or
    ``owner/name@revision``)."""
    student: ModelText
    """The small model that is trained, named in the same way."""
    trust_remote_code: bool = False
    """Whether code that comes with a checkpoint may run. Off unless you know the checkpoint."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of model weights when sampling, rewarding and answering."""
    backend: str = "transformers"
    """How these models are run to sample, reward and answer (``distilbench list backends``). Training always loads them
    itself."""
    backend_options: dict[str, Any] = Field(default_factory=dict)
    """Options of that backend, besides ``dtype``, ``trust_remote_code`` and what ``compute`` says."""
    backends: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """What differs for one model (``teacher``, ``student``) or kind of stage (``answer``, which takes precedence):
    options of the backend, or another ``backend`` (``answer: {backend: transformers}``)."""

    def backend_choices(self) -> Iterator[tuple[str, tuple[str, dict[str, Any]]]]:
        """All that may be, with the name of the entry that has the last word, if any."""
        yield "", (self.backend, self.backend_options)
        for kind in ("", *(name for name in self.backends if name not in MODELS)):
            for model in MODELS:
                yield kind or (model if model in self.backends else ""), self.backend_choice(model, kind)

    def backend_choice(self, model: str, kind: str) -> tuple[str, dict[str, Any]]:
        """The backend of ``model`` in a stage of this kind, and its options. Another backend inherits none."""
        name, options = self.backend, self.backend_options
        for entry in (self.backends.get(model, {}), self.backends.get(kind, {})):
            if entry.get("backend", name) != name:
                name, options = entry["backend"], {}
            options = {**options, **{key: value for key, value in entry.items() if key != "backend"}}
        return name, options


@options
class Prompts:
    """The training prompts. In YAML the options of the source stand in the section itself."""

    source: str = "pocket"
    """Where they come from (``distilbench list sources``)."""
    config: Any = None
    """The source's options (``path`` of ``jsonl``), of the type ``PromptSource.config``."""
    n: Annotated[int, Field(ge=1, le=100_000_000)] = 2048
    """How many prompts."""
    fallback: str | None = None
    """Another source, without network or options: used when ``source`` cannot be reached, and noted in every table."""
    seed: Seed = 0
    """Decides which prompts are drawn; the same for all training seeds."""
    max_prompt_tokens: Tokens = 1800
    """Longer prompts (in the student's tokens, chat template included) are left out, as in the paper's code."""
    allow_overlap: bool = False
    """Train although a prompt equals a benchmark's test question (never for a published number)."""


@options
class SamplingOptions(Sampling):
    """How the student (and for SeqKD the teacher) answers training prompts."""

    n: Annotated[int, Field(ge=1, le=26)] = 4
    """Responses per prompt, at most the 26 letters of a multiple-choice question."""
    temperature: Temperature = 0.8
    """Softmax temperature of the student; 0 is greedy, for a single response."""
    teacher_temperature: Temperature = 0.8
    """Softmax temperature of the teacher (SeqKD); 0 is greedy."""
    max_new_tokens: Tokens = 48
    """Responses are cut here (and marked unfinished)."""

    def __post_init__(self) -> None:
        varied = self.temperature > 0 or self.n == 1
        require(varied, f"temperature 0 gives the same response {self.n} times; set n to 1 or a temperature")


@options
class RewardOptions:
    """How the teacher rewards responses (PAD, section 4.2)."""

    mcq: Literal["cyclic", "once", "pairwise_both", "pairwise_once"] = "cyclic"
    """How the multiple-choice question is repeated so that no position is favoured (docs/methods.md); ``once``: not at
    all, as PAD's Eq. 8 is printed."""
    identical: Literal["mean", "apart"] = "mean"
    """Responses with the same text get the ``mean`` of their rewards; or ``apart``, each its own, which differ by their
    letters (DPO then drops a prompt whose best and worst responses are one text)."""
    floor: Annotated[float, Field(ge=1e-30, lt=1)] = 1e-4
    """Smallest selection probability; smaller ones count as this."""
    max_response_tokens: Tokens = 500
    """In the question, longer responses are cut to this many of the teacher's tokens, and marked; their number is
    reported."""
    shuffle: bool = False
    """Give every response another one's reward: a control in which preference distillation must not help."""


@options
class Statistics:
    replicates: Annotated[int, Field(ge=100, le=100_000)] = 1000
    """Bootstrap resamples of the questions."""
    min_coverage: Share = 0.98
    """Cells with a smaller share of scored questions are refused."""


@options
class Compute:
    """What to compute on. Changes no result key."""

    executor: str = "processes"
    """What runs the stages (``distilbench list executors``)."""
    executor_options: dict[str, Any] = Field(default_factory=dict)
    """Options of that executor."""
    workers: Annotated[int, Field(ge=1, le=1024)] = 2
    """Stages that run at once; with ``gpus``, those without a GPU."""
    threads: Annotated[int, Field(ge=1, le=1024)] = 1
    """CPU threads per stage."""
    gpus: tuple[Annotated[int, Field(ge=0, le=1023)], ...] = ()
    """This machine's GPUs for stages, each for one stage at a time: ``[0, 1, 2, 3]``, counted within
    ``CUDA_VISIBLE_DEVICES`` if that is set. If empty, every stage sees all GPUs."""
    stages: dict[str, StageOptions] = Field(default_factory=dict)
    """What stages of a kind get: ``{train: {gpus: 2, threads: 8, memory_gib: 40, retries: 1}}``."""
    device: DeviceName = "auto"
    """``auto`` (a GPU if there is one), ``cpu``, ``mps``, ``cuda`` or ``cuda:N``."""
    gpu: Annotated[str, AfterValidator(_gpu), WithJsonSchema({"enum": [*DEVICES]})] | None = None
    """The GPU that ``distilbench plan`` estimates hours for (``harness/hardware.py``); ``null``: no estimate."""
    batch_tokens: Count = 16384
    """Tokens per batch when generating and rewarding."""
    launch: Annotated[PathText, AfterValidator(_launch)] | None = None
    """Train in several processes: ``cpu``, ``ddp``, ``fsdp2``, ``zero2``, ``zero3``, or an accelerate file's path."""
    processes: Annotated[int, Field(ge=1, le=65_536)] | None = None
    """How many processes ``launch`` starts; ``null``: as many as the stage has GPUs, or, without ``gpus``, as its
    configuration says."""

    def __post_init__(self) -> None:
        doubled_gpus = sorted({gpu for gpu in self.gpus if self.gpus.count(gpu) > 1})
        require(not doubled_gpus, f"gpus names {', '.join(map(str, doubled_gpus))} twice: a GPU is for one stage")
        rule = f"device = {self.device} does not go with gpus: a stage sees its own GPUs alone, counted from 0"
        require(not self.gpus or self.device in ("auto", "cuda"), f"{rule}; write auto or cuda, or leave gpus out")

    def resources(self, runs_model: Mapping[str, bool]) -> Resources:
        """``runs_model``: of each kind of stage (``Registry.stages``)."""
        model_kinds = frozenset(kind for kind, runs in runs_model.items() if runs)
        return Resources(self.workers, self.threads, self.gpus, self.stages, model_kinds)


@dataclass(frozen=True)
class BenchmarkEntry:
    """A column: its entry in BENCHMARKS, which may have another name, and what the recipe says of it."""

    kind: str
    judge: str | None
    """``None``: graded by rule."""
    config: Any
    """Of the type ``Benchmark.config``."""
    baseline: str | None = None
    """The row whose answers replace the protocol's baseline; ``None``: the recipe's, or the protocol's."""

    def to_tree(self, name: str) -> dict[str, Any]:
        tree = {KIND: self.kind} if self.kind != name else {}
        tree |= {JUDGE: self.judge} if self.judge else {}
        return tree | json_data(self.config) | ({BASELINE: self.baseline} if self.baseline else {})


JUDGE, JUDGE_PROMPT, BASELINE = "judge", "judge_prompt", "baseline"


def split_judge(section: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    options = dict(section)
    return options.pop(JUDGE, None), options


def stored_options(recipe: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The options of a column of ``Recipe.to_tree`` for ``Registry.benchmark``: without its judge, and without a
    baseline that is a row."""
    options = split_judge(recipe.get("benchmarks", {}).get(name, {}))[1]
    if options.get(BASELINE) in {*MODELS, *recipe.get("methods", {})}:
        del options[BASELINE]
    return options


@dataclass(frozen=True)
class JudgeEntry:
    kind: str
    config: Any
    """Of the type ``JudgeKind.config``."""


@options
class Searched:
    """How a row's values were chosen, as ``distilbench search`` writes it; tables print it."""

    trials: Count
    """Number of settings that were tried, the recipe's own included."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]
    """Training seeds of each trial."""
    questions: Annotated[str, Field(min_length=1)]
    """``dev``, or a file."""
    sampler: Annotated[str, Field(min_length=1)]
    """``random`` or ``tpe``."""
    values: Annotated[dict[str, Any], Field(min_length=1)]
    """The chosen value of each option (``beta``, ``train.learning_rate``). A row with other values counts as not
    searched."""
    space: dict[str, str] = Field(default_factory=dict)
    """The range of each option."""
    set: tuple[str, ...] = ()
    """What else the search changed in the recipe."""
    settings: dict[str, Any] | None = None
    """Settings of ``prompts``, ``train`` and ``sampling`` in the trials that were not defaults (``prompts.n``). Tables
    name those that differ now; ``null``: not known."""


@options
class RowOptions:
    """What a row says beside its method's options: ``pad-ppd-2x4: {like: pad-ppd, rounds: 2, sampling: {n: 4}}``."""

    method: str | None = None
    """The row's method; default: the one that the row is named after, or that of the row it is ``like``."""
    like: str | None = None
    """Another row whose options this one takes, except title, ``optional`` and those that it states itself."""
    title: str = ""
    """The row's name in tables; default: the method's title, with rounds / responses if the row changes them."""
    optional: bool = False
    """Made only when ``--methods`` names it (or another row starts from it)."""
    rounds: Annotated[int, Field(ge=1, le=100)] = 1
    """Rounds of sampling from the current student, rewarding and training (PAD, section 4.4)."""
    resample: bool = True
    """``false``: all rounds share one pool of the first student's responses, dealt out at random without overlap."""
    start: str | None = None
    """The row whose student this one starts from and samples with; default: the method's (ADPA+: DCKD)."""
    searched: Searched | None = None
    """How its values were chosen."""


@dataclass(frozen=True)
class MethodEntry:
    """A row of the tables: the method's options, its training settings, and how its student comes to be."""

    method: str
    config: Any
    """Of the type ``Method.config``."""
    row_config: dict[str, Any]
    """Those of them that decide the rows (``Method.row_fields``)."""
    train: TrainOptions
    sampling: SamplingOptions
    """The recipe's, with the method's and then this row's overrides; so is ``train``."""
    row_options: RowOptions

    def to_tree(self, train: TrainOptions, sampling: SamplingOptions) -> dict[str, Any]:
        sections = {"train": _differences(self.train, train), "sampling": _differences(self.sampling, sampling)}
        differences = {name: section for name, section in sections.items() if section}
        return _differences(self.row_options, RowOptions()) | json_data(self.config) | differences


def _differences(section: object, common: object) -> dict[str, Any]:
    base = json_data(common)
    return {key: value for key, value in json_data(section).items() if value != base[key]}


@options
class TunedPairs:
    pairs: Literal["auto", "dataset", "samples"] = "auto"
    """``dataset``: the prompt source's chosen and rejected answers. ``samples``: the teacher's own answers, rewarded
    like every row's. ``auto``: ``dataset`` if the source has such answers."""


@dataclass(frozen=True)
class TunedTeacher:
    """The family's teacher after preference tuning (DCKD, ADPA learn from it). One for all rows and seeds."""

    pairs: Literal["auto", "dataset", "samples"]
    training: MethodEntry


@options
class TargetOptions:
    """What ``targets.NAME`` says beside sections of the recipe."""

    rows: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Only these of the target's trained rows are made."""
    skip: Annotated[str, Field(min_length=1)] | None = None
    """Leave the target out, for this reason."""
