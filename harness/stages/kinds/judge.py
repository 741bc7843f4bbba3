"""Stage ``judge``: every answer of one model on one benchmark judged, through the ledger; or graded by rule.

A refusal (content filter, too long) is a judgment without verdict; so is any failure with ``accept_failures``.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

from harness.contracts.benchmark import AnyBenchmark, ConfiguredBenchmark, against
from harness.contracts.judge import (
    PROMPT_CUT,
    CallOutcome,
    ConfiguredJudge,
    JudgeError,
    count_cut_prompts,
    is_prompt_cut,
    refuse_failures,
)
from harness.contracts.options import json_data
from harness.contracts.stage import Cost, Stage
from harness.errors import UserError
from harness.stages.graph import CHARS_PER_TOKEN, StageGraph
from harness.stages.kind import PlanIssue, StageContext, StageKind
from harness.stages.kinds.answer import ANSWER_TOKENS
from harness.text import format_count
from harness.thinking import CUT
from harness.types import Answer, Judgment, Question, Reply, Request

FINAL = frozenset({"refused", "context"})
"""Kinds of failure that asking again would repeat. An empty reply or one of a strange form may be whole next time."""


def judge_stage(graph: StageGraph, name: str, answers: Stage, baseline: Stage | None, variant: str = "") -> Stage:
    """``baseline``: answers in the place of the official baseline's."""
    benchmark, judge, ask = graph.benchmarks[name], graph.judge_of(name), graph.recipe.ask
    # Only the options that judges depend on: a change of how answers are drawn shows in the key of the answers.
    params: dict[str, object] = {
        "benchmark": name,
        **graph.version_params(name),
        "config": benchmark.judge_options,
        "questions": benchmark.judged_hash,
    }
    local: dict[str, object] = {"config": benchmark.options}
    if judge is not None:
        params |= {"judge": judge.identity, "accept_failures": ask.accept_failures}
        params |= graph.registry.code_param("judges", judge.kind.name)
        local |= {"judge": judge.json_data, "ask": json_data(ask), **judge.kind.local(judge.config)}
    inputs = {"answers": answers.ref}
    if baseline is not None:
        params["baseline"], inputs["baseline"] = baseline.row, baseline.ref
    return graph.add(Stage("judge", params, inputs, 2, answers.row, None, answers.seed, variant, local))


def cost(stage: Stage, graph: StageGraph) -> Cost:
    benchmark = graph.benchmarks[stage.params["benchmark"]]
    judge = graph.judge_of(benchmark.name)
    if judge is None:
        return Cost()
    # The answers do not matter for the estimate: all rows of a benchmark cost the same.
    calls, input_tokens, output_tokens = expected_requests(benchmark, "baseline" in stage.inputs)
    input_tokens += calls * ANSWER_TOKENS // 2  # the answer itself, which is blank in the requests that are counted
    output_tokens += calls * judge.kind.thinking(judge.config) // 2
    dollars = judge.kind.price(judge.config, input_tokens, output_tokens)
    tokens = input_tokens + output_tokens
    return Cost(judge_calls=calls, judge_tokens=tokens, judge_written=output_tokens, dollars=dollars)


@lru_cache(maxsize=32)
def expected_requests(benchmark: ConfiguredBenchmark, own_baseline: bool) -> tuple[int, int, int]:
    """Judge calls for one model's answers, tokens read, and written (half of what replies may be)."""
    # The known size of the question set counts where the questions or the judge's prompts are not here.
    config, size = benchmark.config, benchmark.benchmark.size(benchmark.config)
    requests: list[Request] = []
    try:
        for question in [] if benchmark.absence else benchmark.questions:
            requests += blank_requests(benchmark, question, own_baseline)
    except UserError:
        if size is None:
            raise
    if size is not None and not requests:
        calls = size.requests * size.questions * getattr(config, "repeats", 1)
        return calls, calls * size.request_characters // CHARS_PER_TOKEN, calls * size.reply_tokens // 2
    characters = sum(len(message["content"]) for request in requests for message in request.messages)
    return (
        len(requests),
        characters // CHARS_PER_TOKEN,
        sum(min(request.max_tokens, ANSWER_TOKENS) for request in requests) // 2,
    )


def blank_requests(benchmark: ConfiguredBenchmark, question: Question, own_baseline: bool) -> list[Request]:
    """Those about an empty answer. Raises UserError where there is no baseline to compare with."""
    blank = ("",) * len(question.turns)
    # The answers of a row that is the baseline are not known yet, and the protocol may have none.
    asked = replace(question, baseline=blank) if own_baseline and not question.baseline else question
    answer = Answer(question.id, blank, (True,) * len(blank), (0,) * len(blank))
    return benchmark.benchmark.requests(asked, answer, benchmark.config)


def check(stages: Sequence[Stage], graph: StageGraph) -> Iterable[PlanIssue]:
    names = {graph.recipe.benchmarks[stage.params["benchmark"]].judge for stage in stages}
    for name in dict.fromkeys(stage.params["benchmark"] for stage in stages if "baseline" not in stage.inputs):
        yield from without_baseline(graph.benchmarks[name])
    asked = dict.fromkeys((stage.params["benchmark"], "baseline" in stage.inputs) for stage in stages)
    for name, own_baseline in asked:
        if (judge := graph.judge_of(name)) is not None:
            yield from without_verdict(graph.benchmarks[name], judge, own_baseline)
    for name in sorted(names - {None}, key=str):
        judge = graph.judges[str(name)]
        if problem := judge.problem():
            yield PlanIssue(True, f"judge {name!r} ({judge.kind.name}): {problem}")
        yield from (PlanIssue(False, f"judge {name!r}: {note}") for note in judge.kind.notes(judge.config))


def without_baseline(benchmark: ConfiguredBenchmark) -> Iterable[PlanIssue]:
    questions = [] if benchmark.absence or not benchmark.benchmark.pairwise else benchmark.questions
    lacking = [question.id for question in questions if len(question.baseline) < len(question.turns)]
    if lacking:
        text = (
            f"{benchmark.name}: {format_count(len(lacking), 'question')} of {len(questions)} have no baseline answer "
        )
        text += f"(first: {lacking[0]}); say benchmarks.{benchmark.name}.baseline, a row or a file of answers"
        yield PlanIssue(True, text, forceable=False)


def without_verdict(benchmark: ConfiguredBenchmark, judge: ConfiguredJudge, own_baseline: bool) -> Iterable[PlanIssue]:
    """What this judge can give no verdict on, whatever the answers: told before a run, not by an empty column."""
    objections: list[str] = []
    with suppress(UserError):  # no baseline, which is told by itself
        for question in [] if benchmark.absence else benchmark.questions:
            requests = blank_requests(benchmark, question, own_baseline)
            objections += [text for request in requests[:1] if (text := judge.kind.objection(judge.config, request))]
    if objections:
        count = f"{len(objections)} of {format_count(len(benchmark.questions), 'question')}"
        text = f"{benchmark.name}: no verdict on {count}, because {objections[0]}"
        is_all = len(objections) == len(benchmark.questions)
        yield PlanIssue(is_all, f"{text}; name another judge (benchmarks.{benchmark.name}.judge)")


def run(stage: Stage, context: StageContext) -> Mapping[str, object]:
    benchmark = judged_benchmark(stage, context, stage.local["config"])
    entry, config, counts = benchmark.benchmark, benchmark.config, dict[str, object]()
    answers = {answer.question: answer for answer in context.records(stage, "answers", Answer)}
    pairs = [(question, answers[question.id]) for question in benchmark.questions]
    baselines = context.records(stage, "baseline", Answer) if "baseline" in stage.inputs else []
    absent = {answer.question: answer for answer in (*baselines, *answers.values()) if answer.absence}
    if entry.needs_judge:
        all_requests = [request for pair in pairs for request in entry.requests(*pair, config)]
        requests = [request for request in all_requests if request.question not in absent]
        ask = partial(ask_judge, stage, context)
        first_outcomes = ask(requests)
        outcomes, extra_calls = ask_again(benchmark, ask, requests, first_outcomes)
        counts = usage(outcomes) | {"calls": len(requests) + extra_calls}
        counts["cut_prompts"] = count_cut_prompts(requests, first_outcomes)
        outcome_pairs = zip(requests, outcomes, strict=True)
        judgments = [read_judgment(entry, request, outcome, config) for request, outcome in outcome_pairs]
        judgments += [
            missing_answer(request_fields(request), absent[request.question])
            for request in all_requests
            if request.question in absent
        ]
        # Last, because what was read is lost with the stage, but every reply is in the ledger by now.
        remedy = ", or set ask.accept_failures=true to count them as not scored"
        # A single prompt may be too long; where every call is, a setting is wrong and the stage must not count as done.
        too_long = all(isinstance(outcome, JudgeError) and outcome.kind == "context" for outcome in outcomes)
        final = FINAL - {"context"} if too_long else FINAL
        refuse_failures(outcomes, final, "judge calls", stage.params["accept_failures"], remedy)
    else:
        grades = [judgment for pair in pairs for judgment in entry.grade(*pair, config)]
        judgments = [
            missing_answer(vars(grade), absent[grade.question]) if grade.question in absent else grade
            for grade in grades
        ]
    context.write(Judgment, judgments)
    reasons = collections.Counter(judgment.reason for judgment in judgments if judgment.verdict is None)
    return {"judgments": len(judgments), "unscored": dict(reasons), **counts}


def judged_benchmark(stage: Stage, context: StageContext, options: Mapping[str, Any]) -> ConfiguredBenchmark:
    benchmark = context.benchmark(stage.params["benchmark"], options)
    if "baseline" not in stage.inputs:
        return benchmark
    answers = context.records(stage, "baseline", Answer)
    return replace(benchmark, questions=against(benchmark.questions, answers, stage.params["baseline"]))


def ask_judge(stage: Stage, context: StageContext, requests: Sequence[Request]) -> list[CallOutcome]:
    calls_done = 0

    def advance(new_calls: int) -> None:
        nonlocal calls_done
        calls_done += new_calls
        context.progress(calls_done, len(requests), "judge calls")

    judge = stage.local["judge"]
    return context.asking(stage)(judge["kind"], judge["config"], requests, advance)


def ask_again(
    benchmark: ConfiguredBenchmark,
    ask: Callable[[Sequence[Request]], list[CallOutcome]],
    requests: Sequence[Request],
    outcomes: Sequence[CallOutcome],
) -> tuple[list[CallOutcome], int]:
    """The outcomes with second replies joined to the first, and how many there were."""
    protocol, final, further = benchmark.benchmark, list(outcomes), dict[int, Request]()
    for number, (request, outcome) in enumerate(zip(requests, outcomes, strict=True)):
        if isinstance(outcome, JudgeError) or outcome.is_cut:
            continue
        second = protocol.second_request(request, outcome, benchmark.config)
        if second is not None:
            further[number] = second
    # A second question follows from the first reply, so they are a second round over all requests.
    replies = ask(list(further.values())) if further else []
    for number, reply in zip(further, replies, strict=True):
        final[number] = join_replies(final[number], reply)
    return final, len(further)


def join_replies(first: CallOutcome, second: CallOutcome) -> CallOutcome:
    """Two replies as one. A second call that came back with nothing adds nothing; one that failed is a failure."""
    if isinstance(first, JudgeError) or (isinstance(second, JudgeError) and second.kind in FINAL):
        return first
    if isinstance(second, JudgeError):
        return second
    return replace(
        second,
        text=f"{first.text}\n{second.text}",
        thinking="\n".join(part for part in (first.thinking, second.thinking) if part),
        prompt_tokens=first.prompt_tokens + second.prompt_tokens,
        completion_tokens=first.completion_tokens + second.completion_tokens,
    )


NO_VERDICT = "the judge's thinking was cut short; raise thinking_tokens of this judge"


def request_fields(request: Request) -> dict[str, Any]:
    return {
        "question": request.question, "part": request.part, "repeat": request.repeat, "meta": dict(request.meta)
    }  # fmt: skip


def missing_answer(fields: Mapping[str, Any], answer: Answer) -> Judgment:
    """No judge is asked about an answer that is none."""
    return Judgment(**{**fields, "verdict": None, "reason": answer.absence, "flags": (CUT,) * answer.is_cut})


def read_judgment(benchmark: AnyBenchmark, request: Request, outcome: CallOutcome, config: object) -> Judgment:
    fields = request_fields(request)
    if isinstance(outcome, JudgeError):
        return Judgment(verdict=None, reason=f"call failed: {outcome.kind}", **fields)
    fields |= {"reply": outcome.text, "judge_model": outcome.model, "request": outcome.request}
    fields["thinking"] = outcome.thinking
    if outcome.is_cut:
        return Judgment(verdict=None, reason=NO_VERDICT, flags=(CUT,), **fields)
    verdict = benchmark.parse(request, outcome, config)
    if verdict.mass is not None:
        fields["meta"]["mass"] = round(verdict.mass, 6)
    flags = (*outcome.flags, *(PROMPT_CUT,) * is_prompt_cut(request, outcome), *verdict.flags)
    return Judgment(verdict=verdict.value, reason=verdict.reason, flags=flags, **fields)


def usage(outcomes: Sequence[CallOutcome]) -> dict[str, object]:
    replies = [outcome for outcome in outcomes if isinstance(outcome, Reply)]
    return {
        "calls": len(outcomes),
        "prompt_tokens": sum(reply.prompt_tokens for reply in replies),
        "completion_tokens": sum(reply.completion_tokens for reply in replies),
        "served": dict(collections.Counter(reply.model for reply in replies)),
    }


KIND = StageKind("judge", run, cost, check=check)
