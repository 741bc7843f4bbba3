"""GSM8K: grade-school word problems, asked and extracted by lm-eval's own task, marked by rule.

Cobbe et al. 2021 (arXiv 2110.14168); lm-eval ``gsm8k`` v3. lm-eval drives our model
(``judges/benchmarks/gsm8k/lm_eval_adapter.py``), so the answers are artifacts like any other and carry what each filter
extracted: ``strict-match`` wants ``#### N``, ``flexible-extract`` takes the last number. Marking is a pure function
(``judges/benchmarks/gsm8k/answer_extraction.py``), so answers made elsewhere are marked alike. ``protocol: json`` asks
without examples for a JSON object instead (``judges/benchmarks/gsm8k/json_protocol.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from harness.contracts.benchmark import Benchmark, Card, Entrant, Metric, QuestionSetSize
from harness.contracts.model import GeneratesText, Sampling
from harness.errors import UserError
from harness.plural import counted
from harness.types import Answer, Judgment, Question, Reply, Request, Score, Verdict
from judges.benchmarks.gsm8k.answer_extraction import FILTERS, INVALID, extract, marked
from judges.benchmarks.shared import (
    ANSWER_FIELDS,
    QuestionSet,
    Ratio,
    Split,
    answer_detail,
    check_common,
    official_size,
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
JSON_PART = "json-answer"
HUB = "openai/gsm8k"
_OFFICIAL = {
    "lm-eval": Sampling(max_new_tokens=256, temperature=0.0),
    "json": Sampling(max_new_tokens=4096, temperature=0.0),
}


OFFICIAL_SIZE = QuestionSetSize(
    questions=1319, turns=1, characters=240, requests=0, request_characters=0, reply_tokens=0
)


@dataclass(frozen=True)
class GSM8KConfig:
    """Options of GSM8K in a recipe."""

    questions: QuestionSet = "pocket"
    """``pocket``: the embedded world's word problems (150). ``official``: the 1,319 test problems, from the assets."""
    split: Split = "test"
    """``dev``: pocket questions to choose hyperparameters on."""
    limit: int | None = None
    """Use only this many questions: those whose hashed ids come first."""
    protocol: Literal["lm-eval", "json"] = "lm-eval"
    """``lm-eval``: its task. ``json``: zero-shot with a JSON answer, as the PAD authors did, in our own words."""
    source: str = "assets"
    """Official problems from: ``assets`` (pinned), ``hub`` (openai/gsm8k), or a folder with test.jsonl, train.jsonl."""
    fewshot: int | None = None
    """Worked examples shown as earlier turns; null: 0 for pocket and json, else 5 (from the training problems)."""
    filter: Literal["strict-match", "flexible-extract"] = "flexible-extract"
    """Which of lm-eval's filters makes the table's number; the other stands in the details."""
    max_new_tokens: int | None = None
    """Longest answer, tokens; null: 64 for pocket, 256 for official (lm-eval's default), 4096 for json."""
    temperature: float | None = None
    """Sampling temperature of the answers, 0 is greedy; null: 1 for pocket, 0 for official."""
    top_p: float = 1.0
    """Nucleus of the answers' sampling."""

    def __post_init__(self) -> None:
        check_common(self)
        if not self.source.strip():
            raise ValueError("source must be assets, hub, or a folder with test.jsonl and train.jsonl; it is empty")
        if self.filter not in FILTERS:
            raise ValueError(f"filter must be one of {', '.join(FILTERS)}, got {self.filter!r}")
        if self.fewshot is not None and not 0 <= self.fewshot <= 32:
            raise ValueError(f"fewshot must be between 0 and 32, got {self.fewshot}")
        if self.protocol == "json" and self.fewshot:
            raise ValueError("protocol: json shows no worked examples; leave fewshot out")

    @property
    def shots(self) -> int:
        """The number of worked examples that will be shown."""
        if self.fewshot is not None:
            return self.fewshot
        return 5 if self.questions == "official" and self.protocol == "lm-eval" else 0

    @property
    def parts(self) -> tuple[str, ...]:
        """The marks that each answer gets."""
        return (JSON_PART,) if self.protocol == "json" else FILTERS

    @property
    def chosen(self) -> str:
        """The mark that makes the table's number."""
        return JSON_PART if self.protocol == "json" else self.filter


def official_rows(source: str, split: Literal["test", "train"]) -> list[dict[str, str]]:
    """Problems with their worked answers (``question``, ``answer``).

    Args:
        source: ``assets``, ``hub``, or a folder with ``test.jsonl`` and ``train.jsonl``.

    Raises:
        UserError: there is no such file, or the hub cannot be reached.
    """
    from harness.assets import locate

    if source == "assets":
        rows = read_jsonl(locate(TEST_FILE if split == "test" else TRAIN_FILE))
    elif source == "hub":
        import datasets

        try:
            rows = list(datasets.load_dataset(HUB, "main", split=split))
        except Exception as error:  # whatever the hub's client raises when it is offline or refused
            raise UserError(
                f"cannot load {HUB} ({split}) from the hub: {error}. source: assets reads files."
            ) from error
    else:
        path = Path(source).expanduser() / f"{split}.jsonl"
        if not path.is_file():
            raise UserError(f"gsm8k: source {source!r} is neither assets, hub, nor a folder with {split}.jsonl.")
        rows = read_jsonl(path)
    for number, row in enumerate(rows, 1):
        if not isinstance(row.get("question"), str) or "####" not in str(row.get("answer", "")):
            raise UserError(f"gsm8k ({source}, {split}), row {number}: a question and an answer with #### are needed.")
    return rows


def asked_officially(row: Mapping[str, str]) -> str:
    """The user turn of lm-eval's task."""
    return f"Question: {row['question']}\nAnswer:"


def asked_plainly(row: Mapping[str, str]) -> str:
    """The user turn of a pocket problem."""
    return row["question"]


class GSM8K:
    """The benchmark; see the head of this file."""

    name: str = "gsm8k"
    metrics: tuple[Metric, ...] = (Metric("gsm8k.acc", "Acc. (%)", "GSM8K", margin=2.0),)
    config: type[GSM8KConfig] = GSM8KConfig
    verdicts: tuple[float, float] = (0.0, 1.0)
    judged = False
    pairwise = False
    version = 1
    answer_fields: tuple[str, ...] = (*ANSWER_FIELDS, "fewshot", "protocol")
    judge_fields: tuple[str, ...] = ()

    def questions(self, config: GSM8KConfig) -> list[Question]:
        """The problems; ``reference`` is the worked gold answer, which ends in ``#### N``."""
        if config.questions == "pocket":
            return take(pocket_questions("gsm8k", config.split), "gsm8k", config.limit)
        found = [
            Question(str(index), (row["question"],), "math", reference=(row["answer"],))
            for index, row in enumerate(official_rows(config.source, "test"))
        ]
        if config.shots:
            official_rows(config.source, "train")  # missing examples must show before anything is generated
        return take(found, "gsm8k", config.limit)

    def _train(self, config: GSM8KConfig) -> list[dict[str, str]]:
        if not config.shots:
            return []
        if config.questions == "pocket":
            from harness.pocket.world import train_prompts

            stories = [each for each in train_prompts(400, seed=0) if each.kind == "story"]
            return [{"question": each.messages[-1]["content"], "answer": each.golden} for each in stories]
        rows = official_rows(config.source, "train")
        return [{"question": row["question"], "answer": row["answer"]} for row in rows]

    def size(self, config: GSM8KConfig) -> QuestionSetSize | None:
        """Of the official questions with the protocol's baseline."""
        return official_size(config, OFFICIAL_SIZE)

    def answer(
        self, model: GeneratesText, questions: Sequence[Question], config: GSM8KConfig, seed: int
    ) -> list[Answer]:
        """Answers through lm-eval; ``meta`` holds what each filter extracted and the task's version."""
        if not questions:
            return []
        sampling = sampling_of(config, _OFFICIAL[config.protocol])
        if config.protocol == "json":
            from judges.benchmarks.gsm8k.json_protocol import answer_json

            return answer_json(model, questions, sampling, seed)
        from judges.benchmarks.gsm8k.lm_eval_adapter import run_gsm8k, task_config

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
        if config.protocol == "json":
            from judges.benchmarks.gsm8k.json_protocol import mark_json

            return [mark_json(question, answer)]
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
        metric = self.metrics[0].id
        return {
            key: (_score(metric, questions, entrant, config, seed, replicates),) for key, entrant in entrants.items()
        }

    def card(self, config: GSM8KConfig) -> Card:
        """The protocol."""
        from importlib.metadata import version

        sampling = sampling_of(config, _OFFICIAL[config.protocol])
        parameters = {**asdict(config), "max_new_tokens": sampling.max_new_tokens, "temperature": sampling.temperature}
        parameters["fewshot"] = config.shots
        parameters["lm_eval"] = version("lm_eval")
        deviations = []
        if config.questions == "pocket":
            deviations.append("Pocket word problems of distilbench's own wording, asked as they are.")
        if sampling.temperature > 0:
            deviations.append(
                f"Answers are sampled at temperature {sampling.temperature}; the official ones are greedy."
            )
        if config.limit is not None:
            deviations.append(f"At most {counted(config.limit, 'question')}.")
        if config.questions == "official" and config.source != "assets":
            deviations.append("Problems from another source than the pinned files.")
        if config.protocol == "json":
            from judges.benchmarks.gsm8k.json_protocol import PROMPT_HASH

            deviations.append("The prompt is distilbench's own wording of ZeroEval's.")
            return Card(self.name, "zero-shot JSON answer (ZeroEval-style)", PROMPT_HASH, parameters, tuple(deviations))
        if config.questions == "official" and config.shots != 5:
            deviations.append(f"{config.shots} worked examples; lm-eval's task shows 5.")
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


def _score(
    metric: str, questions: Sequence[Question], entrant: Entrant, config: GSM8KConfig, seed: int, replicates: int
) -> Score:
    read = verdicts(entrant.judgments)
    detail: dict[str, float | str] = {**answer_detail(questions, entrant, judged=False), **reasons(entrant.judgments)}
    for name in config.parts:
        value = _ratio(questions, read, name).value
        if value is not None:
            detail[name] = value
    tasks = {str(answer.meta["task"]) for answer in entrant.answers if "task" in answer.meta}
    if tasks:
        detail["task"] = ", ".join(sorted(tasks))
    how = "JSON answer" if config.protocol == "json" else config.filter
    note = "; ".join([f"{how}, {config.shots}-shot", *sorted(tasks)])
    return ratio_score(metric, _ratio(questions, read, config.chosen), replicates, seed, note, detail)


BENCHMARK: Benchmark = GSM8K()
