"""The questions that a search may see: development questions, which share nothing with the test questions.

Pocket has its own (``split: dev``). The official benchmarks have none: there, training prompts that are held out are
asked and judged as AlpacaEval's are, against their golden answers. A recipe may name others in ``targets.search``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from harness.contracts.benchmark import ConfiguredBenchmark
from harness.contracts.options import json_data, options_from
from harness.contracts.registry import Registry
from harness.errors import UserError
from harness.recipe.recipe import Recipe
from harness.recipe.sections import BenchmarkEntry
from harness.stages.graph import CHARS_PER_TOKEN, StageGraph
from harness.stages.kinds.contamination import overlap, words
from harness.text import format_count
from harness.types import Prompt, Question
from reports.targets import SEARCH
from results.store.locks import write_atomic

PAIRWISE = "alpaca_eval"
"""The benchmark whose protocol judges questions of one's own: an answer against another, one question at a time."""
DEV = "dev"
SHIPPED = ("pocket", "official")
HELD_OUT = 256


class Development(NamedTuple):
    benchmarks: Mapping[str, BenchmarkEntry]
    name: str
    """What tables call the questions."""
    remarks: tuple[str, ...] = ()


def development_questions(
    base: Recipe, searched: Recipe, registry: Registry, tests: Tests, on: str, folder: Path
) -> Development:
    """What a search asks. ``searched``: the recipe with its section ``targets.search``; ``folder``: where held-out
    prompts go, which are none of ``tests``. Raises UserError where there are no such questions."""
    if on != DEV:
        file = Path(on).expanduser()
        if not file.is_file():
            raise UserError(f"--on {on}: is no file. Say {DEV}, or the path of a JSON-lines file of questions.")
        return Development({PAIRWISE: own_questions(base, registry, file)}, file.name)
    # A target's section is merged into the recipe: the recipe's other benchmarks, on test questions, stand there too.
    if named := base.targets.get(SEARCH.name, {}).get("benchmarks"):
        return Development({name: searched.benchmarks[name] for name in named}, f"the recipe's targets.{SEARCH.name}")
    splits = {name: dev for name, entry in base.benchmarks.items() if (dev := dev_split(entry)) is not None}
    if splits:
        left_out = ", ".join(name for name in base.benchmarks if name not in splits)
        return Development(splits, DEV, (f"no development questions: {left_out}",) if left_out else ())
    file, count = hold_out(base, registry, tests, folder)
    name = format_count(count, "held-out training prompt")
    return Development({PAIRWISE: own_questions(base, registry, file)}, name, (f"{name}: {file}",))


def dev_split(entry: BenchmarkEntry) -> BenchmarkEntry | None:
    """``None`` for questions that have no development split."""
    try:
        config = options_from(type(entry.config), {**json_data(entry.config), "split": DEV})
    except UserError:
        return None
    return replace(entry, config=config)


def untested(development: Development, tests: Tests) -> tuple[str, ...]:
    """A remark where questions come from outside and cannot be compared with all test questions."""
    is_outside = any(getattr(entry.config, "questions", "") not in SHIPPED for entry in development.benchmarks.values())
    if not tests.absent or not is_outside:
        return ()
    return (f"not compared with the test questions of {', '.join(tests.absent)}: these are not here",)


def own_questions(base: Recipe, registry: Registry, file: Path) -> BenchmarkEntry:
    """The file's prompts in the pairwise benchmark, with the recipe's options and judge of it where it has them."""
    benchmark, entry = registry.benchmarks[PAIRWISE], base.benchmarks.get(PAIRWISE)
    judged = [entry.judge for entry in base.benchmarks.values() if entry.judge]
    judge = entry.judge if entry is not None else next(iter(judged or base.judges), None)
    if judge is None:
        raise UserError(
            "search: the recipe has no judge, and answers to questions of one's own need one. "
            f"Name questions that need none in targets.{SEARCH.name}.benchmarks."
        )
    options: dict[str, Any] = {"questions": "own", "path": str(file.absolute())}
    for name in ("judge_prompt", "order", "repeats", "max_new_tokens", "temperature"):
        if entry is not None:
            options[name] = getattr(entry.config, name)
    # Two students of one search lie close together: the judge's preference for a place must not decide between them.
    options["order"] = "both"
    return BenchmarkEntry(PAIRWISE, judge, options_from(benchmark.config, options))


def hold_out(base: Recipe, registry: Registry, tests: Tests, folder: Path) -> tuple[Path, int]:
    """Write the last prompts of the source's order, which training takes from its beginning. The stage
    ``contamination`` stops a search whose training takes them all the same."""
    graph = StageGraph(base, registry)
    source = graph.source
    if source.absence:
        raise UserError(f"search: the held-out questions are training prompts, which are not here: {source.absence}")
    if source.source.size is None and source.pin.size is None:
        raise UserError(
            f"search: the source {source.name!r} does not say how many prompts it has, so none can be held out. "
            "Give a file of questions: --on FILE.jsonl."
        )
    tested = {words(question.turns[0]) for _, questions in tests.questions for question in questions}
    prompts = list(source.source.prompts(source.config, source.pin.identity, base.prompts.seed))
    longest = CHARS_PER_TOKEN * base.prompts.max_prompt_tokens  # about: there is no tokenizer yet
    usable = [prompt for prompt in prompts[base.prompts.n :] if _is_question(prompt, tested, longest)]
    if not usable:
        raise UserError(
            f"search: training takes prompts.n = {base.prompts.n} of {format_count(len(prompts), 'prompt')}, and of "
            "the others none is a single question with a golden answer. Set a smaller prompts.n, or give a file of "
            "questions: --on FILE.jsonl."
        )
    kept = usable[-HELD_OUT:]
    rows = [{"id": p.id, "prompt": p.messages[0]["content"], "golden": p.golden} for p in kept]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    # Named by its content: another search of this recipe may hold out others at the same time.
    name = f"held-out-{hashlib.sha256(text).hexdigest()[:8]}.jsonl"
    return write_atomic(folder / name, text), len(kept)


def _is_question(prompt: Prompt, tested: set[tuple[str, ...]], longest: int) -> bool:
    if [message["role"] for message in prompt.messages] != ["user"] or not (prompt.golden or "").strip():
        return False
    text = prompt.messages[0]["content"]
    return len(text) <= longest and words(text) not in tested


class Tests(NamedTuple):
    questions: Sequence[tuple[str, Sequence[Question]]]
    """Benchmark and questions; one benchmark may have several sets."""
    absent: Sequence[str]
    """Benchmarks whose questions are not here."""


def load_tests(recipes: Sequence[Recipe], registry: Registry) -> Tests:
    """The test questions of these recipes, all of them: a ``limit`` now does not bind who reports later."""
    entries = [
        (name, entry.kind, full_set(entry.config)) for recipe in recipes for name, entry in recipe.benchmarks.items()
    ]
    distinct = {(name, kind, json.dumps(json_data(config), sort_keys=True)): config for name, kind, config in entries}
    loaded = [
        (name, ConfiguredBenchmark.load(registry.benchmarks[kind].named(name, config), config))
        for (name, kind, _), config in distinct.items()
    ]
    return Tests(
        [(name, benchmark.questions) for name, benchmark in loaded if not benchmark.absence],
        list(dict.fromkeys(name for name, benchmark in loaded if benchmark.absence)),
    )


def full_set(config: Any) -> Any:
    """Without a limit, where the option can have none: a benchmark of the user's own may always want a number."""
    if getattr(config, "limit", None) is None:
        return config
    try:
        return options_from(type(config), {**json_data(config), "limit": None})
    except UserError:
        return config


def check_questions(graph: StageGraph, tests: Tests) -> None:
    """Raises UserError where a search would see a question that results are reported on."""
    for name, benchmark in graph.benchmarks.items():
        prompts = [
            Prompt(question.id, ({"role": "user", "content": question.turns[0]},)) for question in benchmark.questions
        ]
        for test_name, questions in tests.questions:
            if shared := overlap(prompts, test_name, questions).exact:
                raise UserError(
                    f"search: {len(shared)} of the questions of {name} are test questions of {test_name} "
                    f"({', '.join(shared[:3])}). What is chosen on test questions cannot be tested on them: give "
                    f"others, --on FILE.jsonl or targets.{SEARCH.name}.benchmarks."
                )
