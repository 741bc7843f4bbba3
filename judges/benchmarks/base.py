"""What all benchmarks share: common options, question sets (pocket, official), how a model is asked, the card."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Generic, Literal, TypeVar

from harness.contracts.benchmark import Benchmark, Card, Entrant, QuestionSetSize
from harness.contracts.model import GeneratesText, Sampling
from harness.contracts.options import Count, Nucleus, Temperature, Tokens, options, require
from harness.errors import UserError
from harness.pocket.world import pocket_questions
from harness.text import format_count
from harness.types import Answer, Message, Question, Reply, Request, Response, Score, Verdict
from judges.benchmarks.answer_files import Row, with_baseline
from judges.benchmarks.judge_prompt import PromptTemplate, check_references, load_prompt, text_hash
from judges.benchmarks.pocket_prompts import PROMPT_TEXTS

# Draws from the model's own distribution: a greedy student shows little of what preferences change.
POCKET_SAMPLING = Sampling(max_new_tokens=96, temperature=1.0)
POCKET_ANSWER_TOKENS = 34  # the rows' means are 24 to 41 by benchmark


@options
class BenchmarkConfig:
    """Options that every benchmark has."""

    questions: Literal["pocket", "official"] = "pocket"
    """``pocket``: questions of the embedded world. ``official``: the benchmark's own, read from the assets."""
    split: Literal["test", "dev"] = "test"
    """``dev``: pocket questions to choose hyperparameters on."""
    limit: Count | None = None
    """Use only this many questions: those whose hashed ids come first."""
    max_new_tokens: Tokens | None = None
    """Longest answer per turn, tokens; null: the protocol's limit (96 for pocket)."""
    temperature: Temperature | None = None
    """Sampling temperature of the answers, 0 is greedy; null: the protocol's (1 for pocket)."""
    top_p: Nucleus = 1.0
    """Nucleus of the answers' sampling."""

    def __post_init__(self) -> None:
        fits = self.questions not in ("official", "own") or self.split == "test"
        require(fits, f"split: {self.questions} questions have only the split test")


C = TypeVar("C", bound=BenchmarkConfig)
Prompt = TypeVar("Prompt")


@dataclass(frozen=True)
class QuestionProtocol(Generic[C, Prompt]):
    """One set of questions with the part of the protocol that depends on it."""

    load: Callable[[C], Sequence[Question]]
    prompt: Prompt
    """Builds the judge's messages; its arguments are the benchmark's own."""
    sampling: Sampling
    """Of the answers, where the options do not say."""
    version: Callable[[C], str]
    prompt_hash: Callable[[C], str]
    read: Callable[[str], Verdict] | None = None
    """Reads the verdict in a reply, on the answer shown first where two are; ``None``: no judge, or more than text."""
    continuation: str = ""
    """What a judge whose reply holds no verdict is told next; empty: it is not asked again."""
    size: QuestionSetSize | None = None
    files: Callable[[C], Sequence[str]] = lambda config: ()
    """As ``Benchmark.files``."""
    deviations: Callable[[C], tuple[str, ...]] = lambda config: ()
    temperatures: Mapping[str, float] = field(default_factory=dict)
    """By category of the question, where the protocol has one each."""
    answer_tokens: int | None = None
    """About: of one answer, where it was measured."""


def pocket_set(
    benchmark: str, title: str, prompt: Prompt, kind: str, deviations: tuple[str, ...],
    read: Callable[[str], Verdict] | None = None,
) -> QuestionProtocol[C, Prompt]:  # fmt: skip
    """The pocket world's questions of a judged benchmark. ``kind``: key of ``PROMPT_TEXTS``."""
    digest = text_hash(PROMPT_TEXTS[kind])
    return QuestionProtocol(
        lambda config: pocket_questions(benchmark, config.split), prompt, POCKET_SAMPLING,
        lambda config: f"pocket 1 ({title} protocol)", lambda config: digest, read,
        deviations=lambda config: deviations, answer_tokens=POCKET_ANSWER_TOKENS,
    )  # fmt: skip


class BenchmarkBase(Benchmark[C], Generic[C, Prompt]):
    """A benchmark over question ``sets``, by the value of the option ``questions``."""

    official_judge: str = ""
    sets: Mapping[str, QuestionProtocol[C, Prompt]]

    @staticmethod
    def read_answer(row: Row, location: str) -> tuple[str, Answer] | None:
        """A row of the official tool's file, see ``answer_files.ReadAnswer``."""
        return None

    places: tuple[str, ...] = ()
    """Placeholders of a judge prompt of the user's own."""
    needed: tuple[str, ...] = ()
    """Those without which there is nothing to judge."""

    def own_prompt(self, config: C) -> PromptTemplate | None:
        """The prompt that ``judge_prompt`` names; ``None``: the protocol's. Raises UserError."""
        value = getattr(config, "judge_prompt", None)
        return None if value is None else load_prompt(value, self.places, self.needed, f"{self.name}.judge_prompt")

    def pins(self, config: C) -> dict[str, str]:
        prompt = self.own_prompt(config)
        return {} if prompt is None else {"judge_prompt": prompt.digest}

    def caveat(self, config: C) -> str:
        return "" if self.own_prompt(config) is None else "by a judge prompt of one's own"

    def questions(self, config: C) -> list[Question]:
        prompt = self.own_prompt(config)  # its mistakes must show when a plan is made
        # The same questions for all columns of one entry, whatever a recipe calls them.
        questions = limit_questions(self.sets[config.questions].load(config), self.kind or self.name, config.limit)
        if prompt is not None:
            check_references(prompt, questions, f"{self.name}.judge_prompt")
        baseline = getattr(config, "baseline", None)
        return questions if baseline is None else with_baseline(questions, baseline, self.name, self.read_answer)

    def files(self, config: C) -> Sequence[str]:
        return self.sets[config.questions].files(config)

    def size(self, config: C) -> QuestionSetSize | None:
        """``None`` where the set needs no files, or those of a baseline of the user's."""
        size = self.sets[config.questions].size
        if size is None or getattr(config, "baseline", None) is not None:
            return None
        return size if config.limit is None else replace(size, questions=min(config.limit, size.questions))

    def answer_tokens(self, config: C) -> int | None:
        return self.sets[config.questions].answer_tokens

    def sampling(self, config: C, category: str = "") -> Sampling:
        """The config's own values, else the protocol's for this category of question."""
        questions = self.sets[config.questions]
        default = questions.temperatures.get(category, questions.sampling.temperature)
        return Sampling(
            questions.sampling.max_new_tokens if config.max_new_tokens is None else config.max_new_tokens,
            default if config.temperature is None else config.temperature,
            config.top_p,
        )

    def answer(self, model: GeneratesText, questions: Sequence[Question], config: C, seed: int) -> list[Answer]:
        return ask(model, questions, lambda question: self.sampling(config, question.category), seed)

    def parse(self, request: Request, reply: Reply, config: C) -> Verdict:
        read = self.sets[config.questions].read
        return super().parse(request, reply, config) if read is None else self.of_model(read(reply.text), request)

    def of_model(self, verdict: Verdict, request: Request) -> Verdict:
        """A verdict on the answer shown first as one on the model's, which ``meta.model_first`` places."""
        if not self.pairwise or verdict.value is None or request.meta.get("model_first", False):
            return verdict
        low, high = self.verdicts
        # low + high first: 0.0 - 0.0 is 0.0, where -0.0 would be stored as another number
        return replace(verdict, value=low + high - verdict.value)

    def score(
        self, questions: Sequence[Question], entrants: Mapping[str, Entrant], config: C, seed: int, replicates: int
    ) -> dict[str, tuple[Score, ...]]:
        run = config, seed, replicates
        return {key: (self.score_entrant(questions, entrant, *run),) for key, entrant in entrants.items()}

    def score_entrant(
        self, questions: Sequence[Question], entrant: Entrant, config: C, seed: int, replicates: int
    ) -> Score:
        raise NotImplementedError

    def deviations(self, config: C) -> list[str]:
        """Where these options depart from the official protocol, beyond what the set of questions does."""
        return []

    def parameters(self, config: C) -> dict[str, object]:
        """What the card states besides the options."""
        return {}

    def _has_official_baseline(self, config: C) -> bool:
        """Whether the file given as ``baseline`` holds the protocol's own answers (with token counts, say)."""
        no_file: dict[str, Any] = {"baseline": None}
        try:
            questions, official_questions = self.questions(config), self.questions(replace(config, **no_file))
        except UserError:  # nothing here to compare
            return False
        return [q.baseline for q in questions] == [q.baseline for q in official_questions]

    def card(self, config: C) -> Card:
        questions, sampling = self.sets[config.questions], self.sampling(config)
        parameters: dict[str, object] = {**asdict(config), "max_new_tokens": sampling.max_new_tokens}
        # The card shows what is in force: one temperature, or the protocol's table of them.
        by_category = config.temperature is None and questions.temperatures
        parameters["temperature"] = dict(questions.temperatures) if by_category else sampling.temperature
        deviations = [*questions.deviations(config), *self.deviations(config)]
        if parameters.get("baseline") is not None and not self._has_official_baseline(config):
            deviations.append("The baseline is a given answer file: a head-to-head comparison, not official.")
        if config.limit is not None:
            deviations.append(f"At most {format_count(config.limit, 'question')}.")
        version, digest, prompt = questions.version(config), questions.prompt_hash(config), self.own_prompt(config)
        if prompt is not None:
            digest = prompt.digest
            deviations.append("Judge prompt of one's own: not official.")
        parameters |= self.parameters(config)
        return Card(self.name, version, digest, parameters, tuple(deviations), self.official_judge)


def limit_questions(questions: Sequence[Question], benchmark: str, limit: int | None) -> list[Question]:
    """``limit`` questions in their own order: those whose ids hash lowest, so a larger limit holds a smaller one."""
    if limit is None or limit >= len(questions):
        return list(questions)
    # By hash, not by position: official files are grouped by source, so a prefix would be one-sided.
    ranks = {question.id: hashlib.sha256(f"{benchmark}/{question.id}".encode()).hexdigest() for question in questions}
    chosen = set(sorted(ranks, key=ranks.__getitem__)[:limit])
    return [question for question in questions if question.id in chosen]


def ask(
    model: GeneratesText,
    questions: Sequence[Question],
    sampling: Callable[[Question], Sampling],
    seed: int,
    system: str = "",
) -> list[Answer]:
    """Ask all turns of all questions, one call per turn and sampling; later turns see the model's earlier answers."""
    responses: list[list[Response]] = [[] for _ in questions]
    opening: list[Message] = [{"role": "system", "content": system}] if system else []
    conversations: list[list[Message]] = [list(opening) for _ in questions]
    for turn in range(max((len(question.turns) for question in questions), default=0)):
        groups: dict[Sampling, list[int]] = {}
        for index, question in enumerate(questions):
            if turn < len(question.turns):
                groups.setdefault(sampling(question), []).append(index)
                conversations[index].append({"role": "user", "content": question.turns[turn]})
        for number, (group_sampling, members) in enumerate(groups.items()):
            # a seed of its own per call: equal prompts of two turns or groups must not draw equal answers
            call_seed = seed + 1000 * turn + number
            replies = model.generate([conversations[index] for index in members], group_sampling, call_seed)
            for index, (reply, *_) in zip(members, replies, strict=True):
                responses[index].append(reply)
                conversations[index].append({"role": "assistant", "content": reply.text})
    return [
        Answer(
            q.id, tuple(r.text for r in turns), tuple(r.finished for r in turns), tuple(r.tokens for r in turns),
            thinking=tuple(r.thinking for r in turns) if any(r.thinking for r in turns) else (),
        )
        for q, turns in zip(questions, responses, strict=True)
    ]  # fmt: skip


def fill(template: str, values: Mapping[str, str]) -> str:
    """``template`` with each ``{name}`` replaced by its value. Values are never read as templates."""
    # An answer may hold ``{answer_2}``: cut at the template's own names and joined once, no value is looked at again.
    sections = re.split("(" + "|".join(re.escape("{" + name + "}") for name in values) + ")", template)
    return "".join(values[section[1:-1]] if index % 2 else section for index, section in enumerate(sections))


def repeat_requests(requests: Sequence[Request], repeats: int) -> list[Request]:
    return [replace(request, repeat=number) for request in requests for number in range(repeats)]
