"""Kind ``lm_eval``: a task of lm-eval as a column (IFEval, MMLU, TruthfulQA, or a YAML file of yours).

lm-eval asks and marks; the model behind it is ours. Tasks of log-likelihoods need a model with log-probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import Field

from harness.contracts.benchmark import Card, Entrant, Metric
from harness.contracts.model import Capability
from harness.contracts.options import Count, PathText, Temperature, Tokens, json_data, options, require
from harness.errors import UserError, near
from harness.text import format_count
from harness.types import Answer, Judgment, Question, Score
from judges.benchmarks.base import limit_questions
from judges.benchmarks.own.exact import PART, accuracy
from judges.benchmarks.own.judged import OwnBenchmark

if TYPE_CHECKING:
    from judges.benchmarks.own.lm_eval_tasks import LoadedTask

ELSEWHERE: Final = "lm-eval did not mark this answer: it was made elsewhere"


@options
class LmEvalConfig:
    """Options of a task of lm-eval. What is null is the task's own."""

    task: PathText
    """A task or group of lm-eval by name (``ifeval``, ``mmlu``), or the path of a task's YAML file."""
    metric: str | None = None
    """Which of the task's metrics makes the number; null: its first that is a mean."""
    filter: str | None = None
    """Which of the task's filters; null: its first."""
    fewshot: Annotated[int, Field(ge=0, le=64)] | None = None
    """Worked examples before each question."""
    chat: bool | None = None
    """Whether questions are asked in the model's chat template; null: yes if the model writes, no if its
    log-probabilities are read."""
    title: str = ""
    """Heading of the column; empty: its name."""
    limit: Count | None = None
    """Use only this many questions: those whose hashed ids come first."""
    max_new_tokens: Tokens | None = None
    """Longest answer, tokens."""
    temperature: Temperature | None = None
    """Sampling temperature of the answers; 0 is greedy."""

    def __post_init__(self) -> None:
        require(bool(self.task.strip()), "task must name a task of lm-eval, or a YAML file")


class LmEval(OwnBenchmark[Any]):
    name = "lm_eval"
    summary = "a task of lm-eval by name (ifeval, mmlu, ...), or a task file of yours; no judge"
    metrics: tuple[Metric, ...] = (Metric("lm_eval.score", "Score (%)", "lm_eval", margin=2.0),)
    config = LmEvalConfig
    verdicts = (0.0, 1.0)
    needs_judge = False
    version = 2
    judge_fields: tuple[str, ...] = ("metric", "filter")
    score_fields: tuple[str, ...] = ("title",)

    def metric(self, name: str, config: LmEvalConfig) -> Metric:
        # Which metric a task has first is not known before it is read.
        title = f"{config.metric} (%)" if config.metric else "Score (%)"
        return Metric(f"{name}.{config.metric or 'score'}", title, config.title or name, margin=2.0)

    def task(self, config: LmEvalConfig) -> LoadedTask:
        """Raises UserError."""
        from judges.benchmarks.own.lm_eval_tasks import load_task

        task = load_task(config.task, config.fewshot)
        rule = " that is a mean of one number per question, the higher the better"
        if not task.metrics:
            raise UserError(f"task {config.task!r} has no metric{rule}.")
        for noun, value, choices in (("metric", config.metric, task.metrics), ("filter", config.filter, task.filters)):
            if value is not None and value not in choices:
                guess = near(value, choices)
                hint = f" Did you mean {guess!r}?" if guess else ""
                which = f"{noun} {value!r}{rule if noun == 'metric' else ''}"
                raise UserError(f"task {config.task!r} has no {which}.{hint} It has: {', '.join(choices)}.")
        if config.chat and not task.writes:
            raise UserError(f"task {config.task!r} reads log-probabilities, after plain text: leave chat out.")
        if not task.writes and (config.max_new_tokens is not None or config.temperature is not None):
            raise UserError(f"task {config.task!r} writes no answers: leave max_new_tokens and temperature out.")
        return task

    def questions(self, config: LmEvalConfig) -> list[Question]:
        return limit_questions(self.task(config).questions, self.kind or self.name, config.limit)

    def pins(self, config: LmEvalConfig) -> dict[str, str]:
        return {"task": self.task(config).digest}

    def needs(self, config: LmEvalConfig) -> frozenset[Capability]:
        return frozenset({"generate"} if self.task(config).writes else {"tokens", "token_logps"})

    def example_characters(self, config: LmEvalConfig) -> int:
        task = self.task(config)
        lengths = [len(question.turns[0]) + len(question.reference[0]) for question in task.questions[:200]]
        return task.shots * sum(lengths) // max(1, len(lengths))

    def answer_tokens(self, config: LmEvalConfig) -> int | None:
        return None if self.task(config).writes else 1

    def answer(self, model: Any, questions: Sequence[Question], config: LmEvalConfig, seed: int) -> list[Answer]:
        from judges.benchmarks.own.lm_eval_tasks import TaskLM, run_task

        chat = self.task(config).writes if config.chat is None else config.chat
        driver = TaskLM(model, seed, chat, config.max_new_tokens, config.temperature)
        return run_task(driver, config.task, config.fewshot, questions)

    def grade(self, question: Question, answer: Answer, config: LmEvalConfig) -> list[Judgment]:
        task = self.task(config)
        key = f"{config.filter or task.filters[0]}/{config.metric or task.metrics[0]}"
        metrics: Mapping[str, float] = answer.meta.get("metrics", {})
        value, reason = metrics.get(key), None
        if value is None:
            reason = ELSEWHERE if not metrics else f"lm-eval gives no number for {key}"
        elif not 0 <= value <= 1:
            value, reason = None, f"lm-eval's {key} is {value:g}, which is no share"
        return [Judgment(question.id, PART, value, reason, judge_model="lm-eval")]

    def score_entrant(
        self, questions: Sequence[Question], entrant: Entrant, config: LmEvalConfig, seed: int, replicates: int
    ) -> Score:
        task = self.task(config)
        note = f"{self.what(config)}, {task.shots}-shot; {task.version}"
        return accuracy(self.metrics[0].id, questions, entrant, seed, replicates, note)

    def what(self, config: LmEvalConfig) -> str:
        """The metric that makes the number, and its filter."""
        task = self.task(config)
        name = config.filter or task.filters[0]
        return f"{config.metric or task.metrics[0]}" + ("" if len(task.filters) == 1 else f" after {name}")

    def card(self, config: LmEvalConfig) -> Card:
        task = self.task(config)
        chat = task.writes if config.chat is None else config.chat
        form = "chat template" if chat else "plain text"
        limit = f", at most {format_count(config.limit, 'question')}" if config.limit is not None else ""
        version = f"lm-eval task {task.version}, {task.shots}-shot, {form}, {self.what(config)}{limit}"
        return Card(self.name, version, "none", json_data(config))


BENCHMARK = LmEval()
