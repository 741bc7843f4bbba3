"""Stage ``contamination``: do training prompts contain test questions? Sampling and training wait for the answer.

Whole turns and 13-word sequences (Brown et al. 2020, GPT-3, appendix C) are compared, on normalised text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from harness.contracts.stage import Stage
from harness.errors import UserError
from harness.prompts import load_prompts
from harness.stages.graph import StageGraph
from harness.stages.kind import PlanIssue, StageContext, StageKind
from harness.types import Prompt, Question

NGRAM = 13
WORD = re.compile(r"\w+|(?<=\d)\s*[-+*/^=<>%×÷](?=\s*\d)")
"""Words, numbers, and operators between numbers: "11 - 7" is not "11 + 7"."""


@dataclass(frozen=True)
class Overlap:
    benchmark: str
    questions: int
    exact: tuple[str, ...]
    ngram: tuple[str, ...]


def words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in WORD.findall(text.lower()))


def ngrams(tokens: Sequence[str]) -> Iterable[tuple[str, ...]]:
    return (tuple(tokens[i : i + NGRAM]) for i in range(len(tokens) - NGRAM + 1))


def overlap(prompts: Iterable[Prompt], benchmark: str, questions: Sequence[Question]) -> Overlap:
    turns = [message["content"] for prompt in prompts for message in prompt.messages if message["role"] == "user"]
    texts = {words(turn) for turn in turns}
    grams = {gram for tokens in texts for gram in ngrams(tokens)}
    # Later turns are follow-ups ("now sort it"): the same few words in many conversations, so only the whole
    # conversation up to them could leak, and its first turn is compared.
    first_turns = [(question.id, words(question.turns[0])) for question in questions]
    exact = tuple(name for name, tokens in first_turns if tokens in texts)
    ngram = tuple(name for name, tokens in first_turns if not grams.isdisjoint(ngrams(tokens)))
    return Overlap(benchmark, len(questions), exact, ngram)


def contamination_stage(graph: StageGraph, prompts: Stage) -> Stage:
    params = {
        "benchmarks": {name: benchmark.options for name, benchmark in graph.benchmarks.items()},
        "questions": {name: benchmark.asked_hash for name, benchmark in graph.benchmarks.items()},
        "allowed": graph.recipe.prompts.allow_overlap,
    }
    return graph.add(Stage("contamination", params, {"prompts": prompts.ref}, version=2))


def check(stages: Sequence[Stage], graph: StageGraph) -> Iterable[PlanIssue]:
    """The overlap itself, where prompts and questions can be read now: better known before an hour of sampling. Where
    there is none, nothing is said."""
    spec, source = graph.recipe.prompts, graph.source
    if source.source.hub is not None or any(benchmark.absence for benchmark in graph.benchmarks.values()):
        text = f"overlap: prompts from {source.name!r} are read in the first stage and checked there"
        return [PlanIssue(False, text)]
    try:
        prompts = load_prompts(source.source, source.config, source.pin.identity, spec.seed, spec.n)
    except UserError as error:  # too few, or an asset that is not here: the first stage would fail too
        return [PlanIssue(True, f"training prompts: {error}", forceable=False)]
    issues = []
    for name, benchmark in graph.benchmarks.items():
        row = overlap(prompts, name, benchmark.questions)
        if not row.exact and not row.ngram:
            continue
        text = f"overlap of training prompts with {name}: {len(row.exact)} exact and {len(row.ngram)} by 13-grams "
        text += f"of {row.questions} questions (only exact overlap stops a run)"
        problem = bool(row.exact) and not spec.allow_overlap
        if problem:
            text += "; choose other prompts or set prompts.allow_overlap=true (--force does not pass this over)"
        issues.append(PlanIssue(problem, text, forceable=not problem))
    return issues


def run(stage: Stage, context: StageContext) -> Mapping[str, object]:
    """Raises UserError on exact overlap unless the recipe allows it."""
    prompts = context.records(stage, "prompts", Prompt)
    benchmarks = stage.params["benchmarks"].items()
    rows = [overlap(prompts, name, context.benchmark(name, options).questions) for name, options in benchmarks]
    (context.folder / "overlap.json").write_text(json.dumps([asdict(row) for row in rows], indent=1))
    exact = {row.benchmark: len(row.exact) for row in rows if row.exact}
    if exact and not stage.params["allowed"]:
        raise UserError(
            f"training prompts contain test questions: {exact} exact matches. A score on questions that were trained "
            "on is not a score. Choose other prompts, or set prompts.allow_overlap=true to go on all the same."
        )
    return {row.benchmark: {"exact": len(row.exact), "ngram": len(row.ngram)} for row in rows}


KIND = StageKind("contamination", run, check=check)
