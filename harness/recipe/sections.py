"""The sections of a recipe: their options, a sentence under each, and how each is read.

``train`` is in ``harness.training.options``, ``ask`` in ``harness.contracts.judge``, ``methods`` and ``tuned_teacher``
in ``harness.recipe.rows``. Defaults that differ from the paper say so. Benchmarks, judges, sources and executors are
looked up in the registry, and their options are read into their own classes.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field

from harness.contracts.benchmark import Benchmark
from harness.contracts.model import Sampling
from harness.contracts.option_errors import Problem, dotted, near, show, unknown_name
from harness.contracts.options import Count, NotNegative, Seed, Share, options, plain, read_options, require
from harness.contracts.registry import Registry
from harness.contracts.source import PromptSource
from harness.hardware.gpu import DEVICES
from harness.training.launch import launch_configuration
from harness.training.options import DeviceName

T = TypeVar("T")


def _model_text(text: str) -> str:
    folder = text.startswith(("/", "./", "../", "~")) or Path(text).is_dir()
    require(
        folder or re.fullmatch(r"pocket:[\w-]+|[\w.-]+/[\w.-]+(@[\w./-]+)?", text) is not None,
        "is not a model: write pocket:NAME, the path of a folder (starting with /, ./ or ~), "
        "or a hub id owner/name, with @revision if wanted",
    )
    return text


FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


def _folder_name(text: str) -> str:
    rule = "must be usable as a folder's name: letters, digits, . _ + -, starting with a letter or digit"
    require(FOLDER_NAME.fullmatch(text) is not None, rule)
    return text


def _gpu(text: str) -> str:
    require(text in DEVICES, f"must be one of {', '.join(DEVICES)}, or null")
    return text


def _launch(text: str) -> str:
    launch_configuration(text)
    return text


ModelText = Annotated[str, AfterValidator(_model_text)]
FolderName = Annotated[str, AfterValidator(_folder_name)]


@options
class Family:
    """A teacher and a student that go together."""

    name: FolderName
    """Short name for tables and paths."""
    teacher: ModelText
    """``pocket:NAME``, a local folder, or a hub id (``owner/name`` or ``owner/name@revision``)."""
    student: ModelText
    """As ``teacher``."""
    trust_remote_code: bool = False
    """Whether code that comes with a checkpoint may run. Off unless you know the checkpoint."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of model weights when sampling, rewarding and answering."""
    backend: str = "transformers"
    """What samples, rewards and answers with these models: a name in BACKENDS. Training always loads them itself."""
    backend_options: dict[str, Any] = Field(default_factory=dict)
    """Options of that backend, besides ``dtype``, ``trust_remote_code`` and what ``compute`` says."""


@options
class Prompts:
    """The training prompts. In YAML the options of the source stand in the section itself."""

    source: str = "pocket"
    """A name in SOURCES."""
    config: Any = None
    """The source's options (``path`` of ``jsonl``), of the type ``PromptSource.config``."""
    n: Count = 2048
    """How many prompts."""
    fallback: str | None = None
    """A source that needs no network and no options: used, and noted in every table, when ``source`` cannot be
    reached."""
    seed: Seed = 0
    """Decides which prompts are drawn; the same for all training seeds."""
    max_prompt_tokens: Count = 1800
    """Longer prompts (in the student's tokens, chat template included) are left out, as in the paper's code."""
    allow_overlap: bool = False
    """Train although a prompt equals a benchmark's test question (never for a published number)."""


@options
class SamplingOptions(Sampling):
    """How the student (and for SeqKD the teacher) answers training prompts."""

    n: Annotated[int, Field(ge=1, le=26)] = 4
    """Responses per prompt (a multiple-choice question has 26 letters)."""
    temperature: NotNegative = 0.8
    """Softmax temperature of the student; 0 is greedy, for a single response."""
    teacher_temperature: NotNegative = 0.8
    """Softmax temperature of the teacher (SeqKD); 0 is greedy."""
    max_new_tokens: Count = 48
    """Responses are cut here (and marked unfinished)."""

    def __post_init__(self) -> None:
        varied = self.temperature > 0 or self.n == 1
        require(varied, f"temperature 0 gives the same response {self.n} times; set n to 1 or a temperature")


@options
class RewardOptions:
    """How the teacher rewards responses (PAD, section 4.2)."""

    mcq: Literal["cyclic", "pairwise_both", "pairwise_once"] = "cyclic"
    """How the multiple-choice question is repeated so that no position is favoured (``stages/kinds/reward.py``)."""
    floor: Annotated[float, Field(gt=0, lt=1)] = 1e-4
    """Selection probabilities below this count as this."""
    max_response_tokens: Count = 500
    """Responses are cut to this many of the teacher's tokens, with a mark, in the question; how many is reported."""
    shuffle: bool = False
    """Give every response another one's reward: a control in which preference distillation must not help."""


@options
class Statistics:
    """How numbers become intervals."""

    replicates: Annotated[int, Field(ge=100)] = 1000
    """Bootstrap resamples of the questions."""
    min_coverage: Share = 0.98
    """A table refuses cells with a smaller share of scored questions."""


@options
class Compute:
    """What to compute on. Changes no result key."""

    executor: str = "processes"
    """What runs the stages: a name in EXECUTORS."""
    executor_options: dict[str, Any] = Field(default_factory=dict)
    """Options of that executor."""
    workers: Count = 2
    """Stages that run at once."""
    threads: Count = 1
    """CPU threads per worker."""
    device: DeviceName = "auto"
    """``auto``: a GPU when there is one."""
    gpu: Annotated[str, AfterValidator(_gpu)] | None = None
    """The GPU that ``distilbench plan`` estimates hours for (``harness/hardware/gpu.py``); ``null``: no estimate."""
    batch_tokens: Count = 16384
    """Tokens per batch when generating and rewarding."""
    launch: Annotated[str, AfterValidator(_launch)] | None = None
    """Train in several processes: ``cpu``, ``ddp``, ``fsdp2``, ``zero2``, ``zero3``, or an accelerate file's path."""
    processes: Count | None = None
    """How many processes ``launch`` starts; ``null``: what its configuration says."""


JUDGE = "judge"
"""Key of a benchmark's section that names its judge; the benchmark's own options stand beside it."""


def split_judge(section: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """(the judge's name or ``None``, the benchmark's own options) of a section of ``benchmarks``."""
    options = dict(section)
    return options.pop(JUDGE, None), options


@dataclass(frozen=True)
class BenchmarkEntry:
    """A benchmark and who judges it."""

    judge: str | None
    """A name in ``judges``; ``None`` for a benchmark that is graded by rule."""
    config: Any
    """Of the type ``Benchmark.config``."""


@dataclass(frozen=True)
class JudgeEntry:
    kind: str
    """A name in the registry's ``judges``."""
    config: Any
    """Of the type ``JudgeKind.config``."""


Entry = TypeVar("Entry")
PLUGIN = "To use one of your own, add --plugin my_file.py."


def find_entry(
    table: Mapping[str, Entry], name: object, path: str, what: str, remedy: str = PLUGIN
) -> tuple[Entry | None, list[Problem]]:
    """The entry of a table of the registry, or ``None`` and the mistake of a name that it does not have."""
    entry = table.get(name) if isinstance(name, str) else None
    return entry, [unknown_name(path, what, name, table, remedy)] if entry is None else []


def read_benchmarks(tree: Any, registry: Registry, judges: Any) -> tuple[dict[str, BenchmarkEntry], list[Problem]]:
    """What is measured. ``judges`` is the recipe's section of that name, for the names that ``judge:`` may give."""
    entries: dict[str, BenchmarkEntry] = {}
    names = [str(name) for name in judges] if isinstance(judges, Mapping) else []
    trees, problems = options_by_name(tree, "benchmarks")
    for name, values in trees.items():
        benchmark, wrong = find_entry(registry.benchmarks, name, f"benchmarks.{name}", "benchmark")
        if benchmark is not None:
            stated, own = split_judge(values)
            judge, misjudged = _judge_of(benchmark, stated, names)
            config, unreadable = read_options(benchmark.config, own, ("benchmarks", name))
            entries[name] = BenchmarkEntry(judge, config)
            wrong = [*([misjudged] if misjudged else []), *unreadable]
        problems += wrong
    return entries, problems


def read_judges(tree: Any, registry: Registry) -> tuple[dict[str, JudgeEntry], list[Problem]]:
    """The judges, by the recipe's own names for them."""
    entries: dict[str, JudgeEntry] = {}
    trees, problems = options_by_name(tree, "judges")
    for name, values in trees.items():
        path = f"judges.{name}.kind"
        if "kind" not in values:
            kinds = tuple(sorted(registry.judges))
            problems.append(Problem(path, "is required and missing", choices=kinds))
            continue
        kind_name = values.pop("kind")
        kind, wrong = find_entry(registry.judges, kind_name, path, "kind of judge")
        if kind is not None:
            config, wrong = read_options(kind.config, values, ("judges", name))
            entries[name] = JudgeEntry(kind_name, config)
        problems += wrong
    return entries, problems


PROMPT_KEYS = tuple(field.name for field in dataclasses.fields(Prompts) if field.name != "config")


def read_prompts(tree: Any, registry: Registry) -> tuple[Prompts | None, list[Problem]]:
    """The training prompts: the section's own fields, and beside them the options of the source that it names."""
    if not isinstance(tree, Mapping | None):
        return read_section(Prompts, tree, ("prompts",))
    own = {key: value for key, value in (tree or {}).items() if key in PROMPT_KEYS}
    section, problems = read_section(Prompts, own, ("prompts",))
    name = own.get("source", Prompts().source)
    source, wrong = find_entry(registry.sources, name, "prompts.source", "source of prompts")
    if source is None:
        return None, problems + wrong
    problems += _fallback(own.get("fallback"), registry.sources)
    others = {option for each in registry.sources.values() for option in each.config.__dataclass_fields__}
    options = {
        key: value
        for key, value in (tree or {}).items()
        # An option of another source at null undoes one that the recipe inherits.
        if key not in PROMPT_KEYS and not (value is None and key in others - source.config.__dataclass_fields__.keys())
    }
    config, wrong = read_options(source.config, options, ("prompts",), PROMPT_KEYS)
    if section is None or config is None or problems:
        return None, problems + wrong
    return replace(section, config=config), []


def check_backend(family: Family, registry: Registry) -> list[Problem]:
    """What is wrong with the backend that a family names, or with its options."""
    kind, wrong = find_entry(registry.backends, family.backend, "family.backend", "backend")
    if kind is None:
        return wrong
    if kind.by_name:
        rule = "must load checkpoints: the students that a run trains answer too"
        remedy = "For a model behind a server use `distilbench eval --model NAME@URL`."
        return [Problem("family.backend", rule, show(family.backend), remedy=remedy)]
    return read_options(kind.config, family.backend_options, ("family", "backend_options"))[1]


def read_compute(tree: Any, registry: Registry) -> tuple[Compute, list[Problem]]:
    """The section ``compute``, the options of its executor filled in; all defaults where something is wrong."""
    compute, problems = read_section(Compute, tree, ("compute",))
    if compute is None:
        return Compute(), problems
    kind, wrong = find_entry(registry.executors, compute.executor, "compute.executor", "kind of executor")
    if kind is None:
        return Compute(), wrong
    config, problems = read_options(kind.config, compute.executor_options, ("compute", "executor_options"))
    return (compute if config is None else replace(compute, executor_options=plain(config))), problems


def _fallback(name: object, sources: Mapping[str, PromptSource[Any]]) -> list[Problem]:
    """A fallback must be there when the network is not, with its default options."""

    def needs_nothing(source: PromptSource[Any]) -> bool:
        options, unset = dataclasses.fields(source.config), dataclasses.MISSING
        return source.hub is None and not any(one.default is unset is one.default_factory for one in options)

    able = {other: source for other, source in sources.items() if needs_nothing(source)}
    if name is None:
        return []
    return find_entry(able, name, "prompts.fallback", "source that needs no network and no options", "")[1]


def read_section(kind: type[T], values: Any, path: Sequence[object]) -> tuple[T | None, list[Problem]]:
    """One section of a recipe; nothing (``null``) means all defaults."""
    if values is not None and not isinstance(values, Mapping):
        return None, [Problem(dotted(path), "must be a mapping (key: value lines)", show(values))]
    return read_options(kind, values or {}, path)


def options_by_name(tree: Any, section: str) -> tuple[dict[str, dict[str, Any]], list[Problem]]:
    """Name to a copy of its options; an entry without any (``dpo:``) has all defaults."""
    if tree is None:
        return {}, []
    if not isinstance(tree, Mapping):
        return {}, [Problem(section, "must be a mapping from names to options, or a list of names", show(tree))]
    problems: list[Problem] = []
    trees: dict[str, dict[str, Any]] = {}
    for name, values in tree.items():
        if values is not None and not isinstance(values, Mapping):
            rule = "must be a mapping of options (or nothing, for all defaults)"
            problems.append(Problem(f"{section}.{name}", rule, show(values)))
        elif not all(isinstance(key, str) for key in (name, *(values or {}))):
            problems.append(Problem(f"{section}.{name}", "must have texts as keys", show(values)))
        else:
            trees[name] = dict(values or {})
    return trees, problems


def _judge_of(benchmark: Benchmark, judge: object, names: Sequence[str]) -> tuple[str | None, Problem | None]:
    """Who judges a benchmark: as stated, or the only judge there is."""
    path = f"benchmarks.{benchmark.name}.judge"
    if not benchmark.judged:
        if judge is None:
            return None, None
        return None, Problem(
            path, f"{benchmark.name} is graded by rule and takes no judge", show(judge), remedy="Remove it."
        )
    if judge is None and len(names) == 1:
        return names[0], None
    if not isinstance(judge, str) or judge not in names:
        remedy = "" if names else "Add a section `judges:` with one."
        value = None if judge is None else show(judge)
        meant = near(str(judge), names)
        return None, Problem(path, "must name one of the recipe's judges", value, tuple(names), meant, remedy)
    return judge, None
