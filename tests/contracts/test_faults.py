"""Each contract check of benchmarks, sources, backends and executors finds the fault that it is there for.

An entry of ours gets one changed method or fact. Faults of methods: tests/harness/test_check.py; of judges:
tests/test_plugins.py.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from distilbench.plugins import load_registry
from harness.checks.finding import CheckFailed
from harness.checks.suites import SUITES
from harness.contracts.model import Sampling
from harness.contracts.options import options
from harness.contracts.source import Pin
from harness.contracts.stage import Stage
from harness.types import Response, Verdict

REGISTRY = load_registry()
BASES = {"benchmarks": "mt_bench", "sources": "pocket", "backends": "transformers", "executors": "inline"}
COUNTER = itertools.count()


@options
class Silent:
    limit: int | None = 2


def entry_of(table: str) -> Any:
    return copy.copy(getattr(REGISTRY, table)[BASES[table]])


MT_BENCH, POCKET = entry_of("benchmarks"), entry_of("sources")
TRANSFORMERS, INLINE = entry_of("backends"), entry_of("executors")


def questions(config: Any) -> list[Any]:
    return list(MT_BENCH.questions(config))


def scored(change: Callable[[Any], Any]) -> Callable[..., Any]:
    def score(*arguments: Any) -> Any:
        return {name: tuple(map(change, row)) for name, row in MT_BENCH.score(*arguments).items()}

    return score


def prompts(change: Callable[[list[Any]], Any]) -> Callable[..., Any]:
    return lambda config, identity, seed: change(list(itertools.islice(POCKET.prompts(config, identity, seed), 9)))


class Changed:
    """A model, or an executor, of which one method is another."""

    def __init__(self, subject: Any, name: str, method: Callable[..., Any]) -> None:
        self.subject, self.name, self.method = subject, name, method

    def __getattr__(self, name: str) -> Any:
        if name == self.name:
            return lambda *arguments, **options: self.method(self.subject, *arguments, **options)
        return getattr(self.subject, name)

    def __enter__(self) -> Any:
        self.subject.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.subject.__exit__(*error)


def model(name: str, method: Callable[..., Any]) -> dict[str, Any]:
    return {"load": lambda *arguments: Changed(TRANSFORMERS.load(*arguments), name, method)}


def executor(name: str, method: Callable[..., Any]) -> dict[str, Any]:
    return {"start": lambda *arguments: Changed(INLINE.start(*arguments), name, method)}


def deaf(stage_results: Any) -> Any:
    """Tells nobody that stages begin."""
    return lambda config, resources, make, listener: stage_results(config, resources, make, type(listener)())


def long(subject: Any, talks: Any, sampling: Sampling, seed: int, n: int = 1) -> Any:
    return [[Response("ba", finished=True, tokens=sampling.max_new_tokens + 1)] * n for _ in talks]


def at_once(subject: Any, stage: Stage) -> None:
    subject.submit(replace(stage, params={}))
    subject.results()


FAULTS: list[tuple[str, str, dict[str, Any], str]] = [
    ("benchmarks", "options", {"config": Silent}, "limit"),
    ("benchmarks", "facts", {"verdicts": (1.0, 1.0)}, "the worst must be below the best"),
    ("benchmarks", "facts", {"metrics": ()}, "there is no metric"),
    ("benchmarks", "facts", {"judge_fields": ("nothing",)}, "which are not options"),
    ("benchmarks", "questions", {"questions": lambda config: []}, "there is no question"),
    ("benchmarks", "questions", {"questions": lambda config: questions(config)[:1] * 2}, "have the same id"),
    ("benchmarks", "questions", {"questions": lambda config: questions(config)[: 1 + next(COUNTER) % 2]},
     "gives something else when it is called again"),
    ("benchmarks", "answers", {"answer": lambda *all, **more: MT_BENCH.answer(*all, **more)[::-1]}, "in order"),
    ("benchmarks", "answers", {"answer": lambda *all, **more: [
        replace(answer, turns=answer.turns[:1]) for answer in MT_BENCH.answer(*all, **more)]}, "1 answers to the 2"),
    ("benchmarks", "requests", {"requests": lambda *all: []}, "needs_judge = True, but 0 requests"),
    ("benchmarks", "requests", {"requests": lambda *all: MT_BENCH.requests(*all) * 2}, "the same part and repeat"),
    ("benchmarks", "requests", {"requests": lambda *all: [
        replace(request, question="another") for request in MT_BENCH.requests(*all)]}, "names another"),
    ("benchmarks", "replies", {"parse": lambda request, reply, config: Verdict(float(reply.text))}, "raises"),
    ("benchmarks", "replies", {"parse": lambda *all: Verdict(11.0)}, "out of range"),
    ("benchmarks", "replies", {"parse": lambda *all: Verdict(None, "")}, "no verdict and no reason"),
    ("benchmarks", "score", {"score": scored(lambda score: replace(score, unscored=0))}, "questions count"),
    ("benchmarks", "score", {"score": scored(lambda score: replace(score, low=9.0, high=9.5))}, "outside of its"),
    ("benchmarks", "score", {"score": scored(lambda score: replace(score, value=None))}, "does not say why"),
    ("benchmarks", "card", {"card": lambda config: replace(MT_BENCH.card(config), prompt_hash="xyz")}, "12 hex"),
    ("sources", "options", {"config": Silent}, "limit"),
    ("sources", "pin", {"pin": lambda config: Pin({"time": object}, pairs=False)}, "not plain JSON"),
    ("sources", "prompts", {"prompts": prompts(lambda rows: rows[:1] * 2)}, "two prompts have the same id"),
    ("sources", "prompts", {"prompts": prompts(lambda rows: [
        replace(rows[0], messages=({"role": "assistant", "content": "x"},))])}, "does not end in a turn of the user"),
    ("sources", "seed", {"prompts": prompts(lambda rows: rows[next(COUNTER) % 2 :])}, "gives something else"),
    ("sources", "seed", {"prompts": lambda config, identity, seed: prompts(list)(config, identity, 0)},
     "another seed gives the prompts in the same order"),
    ("sources", "pairs", {"pin": lambda config: Pin({}, pairs=False)}, "pin() says pairs=False, but 200 of 200"),
    ("backends", "options", {"config": Silent}, "limit"),
    ("backends", "capabilities", {"capabilities": TRANSFORMERS.capabilities | {"fly"}}, "nothing asks for: fly"),
    ("backends", "capabilities", {"capabilities": TRANSFORMERS.capabilities - {"logps"}}, "which are not declared"),
    ("backends", "generate", model("generate", long), "more than max_new_tokens = 6"),
    ("backends", "generate", model("generate", lambda model, talks, sampling, seed, n: model.generate(
        talks, sampling, seed=next(COUNTER), n=n)), "gives something else"),
    ("backends", "logps", model("mean_logps", lambda model, *all: [0.5, -1.0]), "mean_logps() gives [0.5, -1.0]"),
    ("backends", "logps", model("choice_logps", lambda model, *all: [[-0.1, -0.2]]), "more than probability 1"),
    ("backends", "tokens", model("truncate", lambda model, text, tokens: text), "gives 'ba be bi bo da'"),
    ("backends", "token_logps", model("token_logps", lambda model, rows, k=0: [
        row._replace(top_logps=[logps[::-1] for logps in row.top_logps]) for row in model.token_logps(rows, k)]),
     "the most probable tokens first"),
    ("executors", "options", {"config": Silent}, "limit"),
    ("executors", "results", executor("results", lambda executor: executor.results() * 2), "reported once"),
    ("executors", "results", {"start": deaf(INLINE.start)}, "must hear once that each stage began"),
    ("executors", "results", executor("results", lambda executor: []), "came back without a result"),
    ("executors", "concurrency", {"concurrency": lambda workers: workers + 1}, "there is one stage at a time, not 2"),
    ("executors", "abort", executor("submit", at_once), "waited for the end"),
]  # fmt: skip


def config_of(table: str, entry: Any) -> Any:
    config = getattr(REGISTRY, table)[BASES[table]].config
    return config(limit=2) if table == "benchmarks" and entry.config is config else entry.config()


@pytest.mark.parametrize(("table", "check", "change", "problem"), FAULTS)
def test_a_fault_is_found(table: str, check: str, change: dict[str, Any], problem: str) -> None:
    entry = entry_of(table)
    for name, value in change.items():
        object.__setattr__(entry, name, value)
    with pytest.raises(CheckFailed) as found:
        SUITES[table][check](entry, config_of(table, entry))
    assert problem in str(found.value)


@pytest.mark.parametrize("table", BASES)
def test_without_a_fault_all_pass_and_every_check_has_a_fault(table: str) -> None:
    for check in SUITES[table].values():
        assert check(entry_of(table), config_of(table, entry_of(table)))
    assert {check for name, check, _, _ in FAULTS if name == table} == set(SUITES[table])
