"""Stage ``judge``: every answer of one model on one benchmark put to the judge, through the ledger; or graded by rule.

A request that the judge refuses (content filter, too long for it) leaves a judgment without verdict and its reason.
A call that failed in another way (rate limit, server, timeout, key, an empty reply) leaves the stage undone: its
siblings are in the ledger, and the next run asks only for the rest. ``accept_failures`` makes them judgments without
verdict too.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from harness.contracts.baseline import against
from harness.contracts.benchmark import AsksAgain, Benchmark
from harness.contracts.judge import AskOptions, JudgeError, Outcome
from harness.contracts.options import options_from
from harness.contracts.stage import Stage
from harness.errors import UserError
from harness.records import write_records
from harness.stages.context import Work
from harness.types import Answer, Judgment, Reply, Request

FINAL = frozenset({"refused", "context"})
"""Kinds of failure that asking again would repeat. An empty reply or one of a strange form may be whole next time."""


def run(stage: Stage, work: Work) -> Mapping[str, Any]:
    """Write ``judgments.jsonl``."""
    benchmark = work.registry.benchmarks[stage.params["benchmark"]]
    config = options_from(benchmark.config, stage.local["config"])
    questions = benchmark.questions(config)
    if "baseline" in stage.inputs:
        theirs = work.records(stage, "baseline", "answers.jsonl", Answer)
        questions = against(questions, theirs, stage.params["baseline"])
    answers = {answer.question: answer for answer in work.records(stage, "answers", "answers.jsonl", Answer)}
    counts: dict[str, Any] = {}
    if benchmark.judged:
        requests = [r for question in questions for r in benchmark.requests(question, answers[question.id], config)]
        outcomes, more = ask_judge(stage, work, requests), 0
        if isinstance(benchmark, AsksAgain):
            outcomes, more = ask_again(benchmark, stage, work, config, requests, outcomes)
        counts = usage(outcomes) | {"calls": len(requests) + more}
        judgments = [
            read(benchmark, request, outcome, config) for request, outcome in zip(requests, outcomes, strict=True)
        ]
        refuse_failures(stage, outcomes)
    else:
        judgments = [j for question in questions for j in benchmark.grade(question, answers[question.id], config)]
    write_records(work.folder / "judgments.jsonl", judgments)
    missing = collections.Counter(judgment.reason for judgment in judgments if judgment.verdict is None)
    return {"judgments": len(judgments), "unscored": dict(missing), **counts}


def ask_judge(stage: Stage, work: Work, requests: Sequence[Request]) -> list[Outcome]:
    """All requests through the ledger."""
    spec = stage.local["judge"]
    kind = work.registry.judges[spec["kind"]]
    config = options_from(kind.config, spec["config"])
    judge = kind.make(config)
    price, thinking = partial(kind.price, config), kind.thinking(config)
    options = AskOptions(**stage.local["ask"], started=work.started, price=price, thinking=thinking)
    done = 0

    def answered(more: int) -> None:
        nonlocal done
        done += more
        work.progress(done, len(requests), "judge calls")

    return work.registry.ask(judge, requests, work.ledger, options, answered)


def ask_again(
    benchmark: AsksAgain, stage: Stage, work: Work, config: Any, requests: Sequence[Request], outcomes: list[Outcome]
) -> tuple[list[Outcome], int]:
    """The outcomes with what a second question added, and how many second questions there were."""
    follow: dict[int, Request] = {}
    for number, (request, outcome) in enumerate(zip(requests, outcomes, strict=True)):
        further = benchmark.again(request, outcome, config) if isinstance(outcome, Reply) else None
        if further is not None:
            follow[number] = further
    settled = list(outcomes)
    for number, second in zip(follow, ask_judge(stage, work, list(follow.values())) if follow else [], strict=True):
        settled[number] = joined(settled[number], second)
    return settled, len(follow)


def joined(first: Outcome, second: Outcome) -> Outcome:
    """Two replies as one. A second call that came back with nothing adds nothing; one that failed is a failure."""
    if isinstance(first, JudgeError) or (isinstance(second, JudgeError) and second.kind in FINAL):
        return first
    if isinstance(second, JudgeError):
        return second
    return replace(
        second,
        text=f"{first.text}\n{second.text}",
        prompt_tokens=first.prompt_tokens + second.prompt_tokens,
        completion_tokens=first.completion_tokens + second.completion_tokens,
    )


def read(benchmark: Benchmark, request: Request, outcome: Outcome, config: Any) -> Judgment:
    """One judgment: the parser's verdict on a reply, or the reason for which there is none."""
    shared: dict[str, Any] = {"question": request.question, "part": request.part}
    shared |= {"repeat": request.repeat, "meta": dict(request.meta)}
    if isinstance(outcome, JudgeError):
        return Judgment(verdict=None, reason=f"call failed: {outcome.kind}", **shared)
    verdict = benchmark.parse(request, outcome, config)
    return Judgment(
        verdict=verdict.value,
        reason=verdict.reason,
        flags=verdict.flags,
        reply=outcome.text,
        judge_model=outcome.model,
        request=outcome.request,
        **shared,
    )


def refuse_failures(stage: Stage, outcomes: Sequence[Outcome]) -> None:
    """Calls that did not get through leave the stage undone, unless the recipe accepts them as not scored."""
    failures = [outcome for outcome in outcomes if isinstance(outcome, JudgeError) and outcome.kind not in FINAL]
    pending = [failure for failure in failures if failure.kind == "pending"]
    if pending and len(pending) == len(failures):
        raise UserError(
            f"{len(pending)} of {len(outcomes)} judge calls are in batch jobs ({pending[0]}). Run the same command "
            "again later to collect them."
        )
    if failures and (pending or not stage.params["accept_failures"]):
        kinds = ", ".join(f"{count} {kind}" for kind, count in collections.Counter(f.kind for f in failures).items())
        raise UserError(
            f"{len(failures)} of {len(outcomes)} judge calls failed ({kinds}; the first: {failures[0]}). "
            f"{len(outcomes) - len(failures)} replies are kept; run the same command again to ask only for the rest, "
            "or set ask.accept_failures=true to count them as not scored."
        )


def usage(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Tokens that the judge read and wrote, and which models the endpoint says it served."""
    replies = [outcome for outcome in outcomes if isinstance(outcome, Reply)]
    return {
        "calls": len(outcomes),
        "prompt_tokens": sum(reply.prompt_tokens for reply in replies),
        "completion_tokens": sum(reply.completion_tokens for reply in replies),
        "served": dict(collections.Counter(reply.model for reply in replies)),
    }
