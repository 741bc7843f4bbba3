"""GSM8K: grade-school word problems, asked and extracted by lm-eval's own task, marked by rule.

Cobbe et al. 2021 (arXiv 2110.14168); lm-eval ``gsm8k`` v3. lm-eval drives our model (``judges/lm_eval_model.py``), so
the answers are artifacts like any other and carry what each filter extracted: ``strict-match`` wants ``#### N``,
``flexible-extract`` takes the last number. Marking is a pure function, so answers made elsewhere are marked alike.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from harness.benchmark import Benchmark, Card, Entrant, Metric
from harness.models import ChatModel, Sampling
from harness.types import Answer, Judgment, Question, Reply, Request, Score, Verdict
from judges.common import (
    ANSWER_FIELDS,
    QuestionSet,
    Ratio,
    Split,
    answer_detail,
    check_common,
    pocket_questions,
    ratio_score,
    read_jsonl,
    reasons,
    sampling_of,
    take,
    verdicts,
)

TEST_FILE = "gsm8k/test.jsonl"
TRAIN_FILE = "gsm8k/train.jsonl"
FILTERS = ("strict-match", "flexible-extract")
INVALID = "[invalid]"
"""What lm-eval's filters give when they find nothing; it is marked wrong, as lm-eval does."""
_STRICT = re.compile(r"#### (\-?[0-9\.\,]+)")
_FLEXIBLE = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")
_OFFICIAL = Sampling(max_new_tokens=256, temperature=0.0)


@dataclass(frozen=True)
class GSM8KConfig:
    """Options of GSM8K in a recipe."""

    questions: QuestionSet = "pocket"
    """``pocket``: the embedded world's word problems (150). ``official``: the 1,319 test problems, from the assets."""
    split: Split = "test"
    """``dev``: pocket questions to choose hyperparameters on."""
    limit: int | None = None
    """Use only this many questions: those whose hashed ids come first."""
    fewshot: int | None = None
    """Worked examples shown as earlier turns; null: 0 for pocket, 5 for official (from the training problems)."""
    filter: Literal["strict-match", "flexible-extract"] = "flexible-extract"
    """Which of lm-eval's filters makes the table's number; the other stands in the details."""
    max_new_tokens: int | None = None
    """Longest answer, tokens; null: 64 for pocket, 256 for official (lm-eval's default)."""
    temperature: float | None = None
    """Sampling temperature of the answers, 0 is greedy; null: 0.7 for pocket, 0 for official."""
    top_p: float = 1.0
    """Nucleus of the answers' sampling."""

    def __post_init__(self) -> None:
        check_common(self)
        if self.filter not in FILTERS:
            raise ValueError(f"filter must be one of {', '.join(FILTERS)}, got {self.filter!r}")
        if self.fewshot is not None and not 0 <= self.fewshot <= 32:
            raise ValueError(f"fewshot must be between 0 and 32, got {self.fewshot}")

    @property
    def shots(self) -> int:
        """The number of worked examples that will be shown."""
        if self.fewshot is not None:
            return self.fewshot
        return 5 if self.questions == "official" else 0


def asked_officially(row: Mapping[str, str]) -> str:
    """The user turn of lm-eval's task."""
    return f"Question: {row['question']}\nAnswer:"


def asked_plainly(row: Mapping[str, str]) -> str:
    """The user turn of a pocket problem."""
    return row["question"]


def extract(text: str, how: str) -> str:
    """What lm-eval's filter extracts from a response: the first ``#### N``, or the last number."""
    if how == "strict-match":
        found = _STRICT.findall(text)
        return found[0].strip() if found else INVALID
    groups = _FLEXIBLE.findall(text)
    return next((group for group in groups[-1] if group), INVALID).strip() if groups else INVALID


def plain_number(text: str) -> str:
    """Text as lm-eval compares it: without commas, dollar signs, what precedes ``#### `` and a final full stop."""
    for pattern in (",", r"\$", r"(?s).*#### ", r"\.$"):
        text = re.sub(pattern, "", text)
    return text.lower()


def marked(extracted: str, gold: str) -> float:
    """1.0 or 0.0: whether an extracted answer equals the gold answer's number, as strings."""
    return float(plain_number(extracted) == plain_number(gold))


class GSM8K:
    """The benchmark; see the head of this file."""

    name = "gsm8k"
    metrics: tuple[Metric, ...] = (Metric("gsm8k.acc", "Acc. (%)", "GSM8K"),)
    config = GSM8KConfig
    judged = False
    version = 1
    answer_fields: tuple[str, ...] = (*ANSWER_FIELDS, "fewshot")
    judge_fields: tuple[str, ...] = ()

    def questions(self, config: GSM8KConfig) -> list[Question]:
        """The problems; ``reference`` is the worked gold answer, which ends in ``#### N``."""
        if config.questions == "pocket":
            return take(pocket_questions(self.name, config.split), self.name, config.limit)
        from harness.assets import locate

        found = [
            Question(str(index), (row["question"],), "math", reference=(row["answer"],))
            for index, row in enumerate(read_jsonl(locate(TEST_FILE)))
        ]
        if config.shots:
            locate(TRAIN_FILE)  # missing examples must show before anything is generated
        return take(found, self.name, config.limit)

    def _train(self, config: GSM8KConfig) -> list[dict[str, str]]:
        if not config.shots:
            return []
        if config.questions == "pocket":
            from harness.pocket.world import train_prompts

            stories = [each for each in train_prompts(400, seed=0) if each.kind == "story"]
            return [{"question": each.messages[-1]["content"], "answer": each.golden} for each in stories]
        from harness.assets import locate

        return [{"question": row["question"], "answer": row["answer"]} for row in read_jsonl(locate(TRAIN_FILE))]

    def answer(self, model: ChatModel, questions: Sequence[Question], config: GSM8KConfig, seed: int) -> list[Answer]:
        """Answers through lm-eval; ``meta`` holds what each filter extracted and the task's version."""
        if not questions:
            return []
        from judges.lm_eval_model import run_gsm8k, task_config

        sampling = sampling_of(config, _OFFICIAL)
        rows = [{"question": question.turns[0], "answer": question.reference[0]} for question in questions]
        asked = asked_plainly if config.questions == "pocket" else asked_officially
        task = task_config(rows, self._train(config), asked, config.shots, sampling)
        return [
            Answer(
                question.id,
                (row["text"],),
                (row["response"].finished or row["text"] != row["response"].text,),
                (row["response"].tokens,),
                {**{name: row[name] for name in FILTERS}, "task": row["version"]},
            )
            for question, row in zip(questions, run_gsm8k(model, task, sampling, seed), strict=True)
        ]

    def requests(self, question: Question, answer: Answer, config: GSM8KConfig) -> list[Request]:
        """No judge is asked."""
        return []

    def parse(self, request: Request, reply: Reply, config: GSM8KConfig) -> Verdict:
        """No judge is asked."""
        return Verdict(None, "gsm8k is marked by rule")

    def grade(self, question: Question, answer: Answer, config: GSM8KConfig) -> list[Judgment]:
        """One mark per filter. A response without a number is wrong, and flagged."""
        judgments = []
        for name in FILTERS:
            found = str(answer.meta.get(name, "")) or extract(answer.turns[0], name)
            flags = ("no-number",) if found == INVALID else ()
            mark = marked(found, question.reference[0])
            judgments.append(Judgment(question.id, name, mark, flags=flags, judge_model="rule"))
        return judgments

    def score(
        self,
        questions: Sequence[Question],
        entrants: Mapping[str, Entrant],
        config: GSM8KConfig,
        seed: int,
        replicates: int,
    ) -> dict[str, tuple[Score, ...]]:
        """Accuracy of every entrant by the config's filter."""
        return {key: (_score(questions, entrant, config, seed, replicates),) for key, entrant in entrants.items()}

    def card(self, config: GSM8KConfig) -> Card:
        """The protocol."""
        from importlib.metadata import version

        sampling = sampling_of(config, _OFFICIAL)
        parameters = {**asdict(config), "max_new_tokens": sampling.max_new_tokens, "temperature": sampling.temperature}
        parameters["fewshot"] = config.shots
        parameters["lm_eval"] = version("lm_eval")
        deviations = []
        if config.questions == "pocket":
            deviations.append("Pocket word problems of distilbench's own wording, asked as they are.")
        if sampling.temperature > 0:
            deviations.append(f"Answers are sampled at temperature {sampling.temperature}; lm-eval's task is greedy.")
        if config.questions == "official" and config.shots != 5:
            deviations.append(f"{config.shots} worked examples; lm-eval's task shows 5.")
        if config.limit is not None:
            deviations.append(f"At most {config.limit} questions.")
        name = f"lm-eval gsm8k v3, {config.shots}-shot as turns, chat template, {config.filter}"
        return Card(self.name, name, "none", parameters, tuple(deviations))


def _ratio(questions: Sequence[Question], read: Mapping[str, Mapping[str, float]], how: str) -> Ratio:
    import numpy as np

    marks = [read.get(question.id, {}).get(how) for question in questions]
    return Ratio(
        tuple(question.id for question in questions),
        np.array([mark or 0.0 for mark in marks], dtype=float),
        np.array([float(mark is not None) for mark in marks], dtype=float),
    )


def _score(questions: Sequence[Question], entrant: Entrant, config: GSM8KConfig, seed: int, replicates: int) -> Score:
    read = verdicts(entrant.judgments)
    detail: dict[str, float | str] = {**answer_detail(questions, entrant), **reasons(entrant.judgments)}
    for name in FILTERS:
        value = _ratio(questions, read, name).value
        if value is not None:
            detail[name] = value
    tasks = {str(answer.meta["task"]) for answer in entrant.answers if "task" in answer.meta}
    if tasks:
        detail["task"] = ", ".join(sorted(tasks))
    note = f"{config.filter}, {config.shots}-shot"
    return ratio_score("gsm8k.acc", _ratio(questions, read, config.filter), replicates, seed, note, detail)


BENCHMARK: Benchmark = GSM8K()
