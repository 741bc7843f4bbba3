"""GSM8K: grade-school word problems, asked and extracted by lm-eval's own task, marked by rule.

Cobbe et al. 2021 (arXiv 2110.14168); lm-eval ``gsm8k`` v3. ``protocol: json`` is the zero-shot protocol of the PAD
authors (Lin 2024, ZeroEval) in our own words, so its numbers are close to ZeroEval's, not equal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field

from harness.assets import locate
from harness.contracts.benchmark import Entrant, Metric, QuestionSetSize
from harness.contracts.model import GeneratesText, Sampling
from harness.contracts.options import PathText, options, require
from harness.errors import UserError
from harness.pocket.tasks import recognise
from harness.pocket.world import iter_prompts, pocket_questions
from harness.types import Answer, Judgment, Question, Score
from judges.benchmarks.answer_files import locate_rows, read_jsonl
from judges.benchmarks.base import (
    POCKET_ANSWER_TOKENS,
    POCKET_SAMPLING,
    BenchmarkBase,
    BenchmarkConfig,
    QuestionProtocol,
    ask,
)
from judges.benchmarks.gsm8k.stops import cut_at_stop
from judges.benchmarks.judge_prompt import text_hash
from judges.benchmarks.numbers import MINUS, number_in
from judges.benchmarks.scoring import Ratio, entrant_detail, ratio_score, verdicts

FILTERS: Final = ("strict-match", "flexible-extract")
INVALID: Final = "[invalid]"  # what lm-eval's filters give when they find nothing; it is marked wrong
JSON_PART: Final = "json-answer"
FORMS: Final = {
    "turns": "as turns, chat template",
    "one-turn": "in one turn, chat template",
    "plain": "as plain text, no chat template",
}
"""Of a ``prompt_form``; lm-eval's flags are --apply_chat_template with --fewshot_as_multiturn, without it, neither."""
_STRICT = re.compile(r"#### (\-?[0-9\.\,]+)")
_FLEXIBLE = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")
_BROKEN = re.compile(r'"answer"\s*:\s*"?([^"\n}]*)')
_MOST_STARTS = 200  # opening braces tried in one reply: a reply of braces must not cost quadratic time
HUB = "openai/gsm8k"
JSON_PROMPT = (
    "Solve the problem below. Work it out step by step, then reply with one JSON object and nothing else. It has two "
    'keys: "reasoning", a string with your steps, and "answer", the final number alone, without a unit.\n\n'
    "Problem:\n{question}"
)
Problem = dict[str, str]  # {"question": text, "answer": worked answer}


@options
class GSM8KConfig(BenchmarkConfig):
    """Options of GSM8K in a recipe. Pocket has 150 problems, official 1,319 (256 tokens, 4096 for json; greedy)."""

    protocol: Literal["lm-eval", "json"] = "lm-eval"
    """``lm-eval``: its task. ``json``: zero-shot with a JSON answer, as the PAD authors did, in our own words."""
    source: PathText = "assets"
    """Official problems from: ``assets`` (pinned), ``hub`` (openai/gsm8k), or a folder with test.jsonl, train.jsonl."""
    fewshot: Annotated[int, Field(ge=0, le=32)] | None = None
    """Worked examples; null: 0 for pocket and json, else 5 (from the training problems)."""
    prompt_form: Literal["turns", "one-turn", "plain"] = "turns"
    """Examples as earlier ``turns``; all in ``one-turn`` with the question; or ``plain`` text, no chat template."""
    filter: Literal["strict-match", "flexible-extract"] = "flexible-extract"
    """Which of lm-eval's filters makes the table's number; the other stands in the details."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.source.strip()), "source must be assets, hub, or a folder with test.jsonl and train.jsonl")
        with_examples = self.protocol == "json" and self.fewshot
        require(not with_examples, "protocol: json shows no worked examples; leave fewshot out")
        one_form = self.protocol != "json" or self.prompt_form == "turns"
        require(one_form, "protocol: json has one prompt form; leave prompt_form out")

    @property
    def shots(self) -> int:
        if self.fewshot is not None:
            return self.fewshot
        return GSM8K.sets[self.questions].prompt.shots if self.protocol == "lm-eval" else 0


@options
class GSM8KJsonConfig(GSM8KConfig):
    """Options of GSM8K with JSON answers in a recipe."""

    protocol: Literal["lm-eval", "json"] = "json"
    """Only ``json``."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.protocol == "json", "protocol must be json: the benchmark gsm8k has lm-eval's")


def official_rows(source: str, split: Literal["test", "train"]) -> list[Problem]:
    """Problems with their worked answers. Raises UserError: there is no such file, or the hub cannot be reached."""
    if source == "assets":
        rows = read_jsonl(locate(f"gsm8k/{split}.jsonl"))
    elif source == "hub":
        import datasets

        try:
            rows = list(datasets.load_dataset(HUB, "main", split=split))
        except Exception as error:  # whatever the hub's client raises when it is offline or refused
            problem = f"cannot load {HUB} ({split}) from the hub: {error}. source: assets reads files."
            raise UserError(problem) from error
    else:
        path = Path(source).expanduser() / f"{split}.jsonl"
        if not path.is_file():
            raise UserError(f"gsm8k: source {source!r} is neither assets, hub, nor a folder with {split}.jsonl.")
        rows = [dict(row) for _, row in locate_rows([path])]
    for number, row in enumerate(rows, 1):
        if not isinstance(row.get("question"), str) or "####" not in str(row.get("answer", "")):
            raise UserError(f"gsm8k ({source}, {split}), row {number}: a question and an answer with #### are needed.")
    return rows


def _official_questions(config: GSM8KConfig) -> list[Question]:
    """``reference`` is the worked gold answer, which ends in ``#### N``."""
    rows = official_rows(config.source, "test")
    if config.shots:
        official_rows(config.source, "train")  # missing examples must show before anything is generated
    return [Question(str(n), (row["question"],), "math", reference=(row["answer"],)) for n, row in enumerate(rows)]


def _official_files(config: GSM8KConfig) -> Sequence[str]:
    splits = ("test", "train") if config.shots else ("test",)
    return tuple(f"gsm8k/{split}.jsonl" for split in splits) if config.source == "assets" else ()


def _official_examples(config: GSM8KConfig) -> list[Problem]:
    return [{name: row[name] for name in ("question", "answer")} for row in official_rows(config.source, "train")]


def _pocket_examples(config: GSM8KConfig) -> list[Problem]:
    stories = [prompt for prompt in islice(iter_prompts(seed=0), 400) if recognise(prompt.messages).kind == "story"]
    return [{"question": prompt.messages[-1]["content"], "answer": str(prompt.golden)} for prompt in stories]


def _official_deviations(config: GSM8KConfig) -> tuple[str, ...]:
    other_source = ("Problems from another source than the pinned files.",) * (config.source != "assets")
    other_shots = config.protocol == "lm-eval" and config.shots != OFFICIAL.shots
    return other_source + (f"{config.shots} worked examples; lm-eval's task shows {OFFICIAL.shots}.",) * other_shots


def _version(config: GSM8KConfig) -> str:
    if config.protocol == "json":
        return "zero-shot JSON answer (ZeroEval-style)"
    return f"lm-eval gsm8k v3, {config.shots}-shot {FORMS[config.prompt_form]}, {config.filter}"


def _prompt_hash(config: GSM8KConfig) -> str:
    return text_hash((JSON_PROMPT,)) if config.protocol == "json" else "none"


def extract(text: str, filter_name: str) -> str:
    """What lm-eval's filter extracts from a response: the first ``#### N``, or the last number."""
    if filter_name == "strict-match":
        numbers = _STRICT.findall(text)
        return numbers[0].strip() if numbers else INVALID
    groups = _FLEXIBLE.findall(text)
    return next((group for group in groups[-1] if group), INVALID).strip() if groups else INVALID


def filter_answer(answer: Answer, name: str) -> str:
    # Answers made through lm-eval carry its own extraction; those made elsewhere are cut and extracted alike.
    return str(answer.meta.get(name, "")) or extract(cut_at_stop(answer.turns[0]), name)


def mark_of(answer: str, gold: str) -> float:
    """1.0 or 0.0: whether both are the same text without commas, dollar signs, what precedes ``#### ``, a full stop."""

    # As lm-eval compares them, not as numbers.
    def bare_number(text: str) -> str:
        return re.sub(r"\.$", "", text.replace(",", "").replace("$", "").rpartition("#### ")[2]).lower()

    return float(bare_number(answer) == bare_number(gold))


def extract_answer(text: str) -> tuple[str | None, tuple[str, ...]]:
    """What a reply gives as its answer, and how it had to be read (``broken-json``); ``None`` when it gives none."""
    decoder = json.JSONDecoder()
    # The first object that has the key, not the first object: models like to show the schema before they answer.
    for start in [match.start() for match in re.finditer(r"\{", text)][:_MOST_STARTS]:
        try:
            value, _ = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):  # no JSON, a number of thousands of digits, brackets without end
            continue
        if isinstance(value, dict) and isinstance(value.get("answer"), str | int | float):
            return str(value["answer"]), ()
    broken = _BROKEN.findall(text)
    return (broken[-1].strip(), ("broken-json",)) if broken else (None, ())


def is_right_number(answer: Answer, name: str, gold: str) -> bool:
    """Whether lm-eval's mark of 0 is one of spelling alone: ``$29.00`` for 29, a minus sign of Unicode."""
    candidates, text = [filter_answer(answer, name)], answer.turns[0]
    if MINUS in text:
        candidates.append(extract(cut_at_stop(text.replace(MINUS, "-")), name))
    number = number_in(gold.rsplit("####", 1)[-1])
    return number is not None and number in map(number_in, candidates)


def mark_json(question: Question, answer: Answer) -> Judgment:
    """One mark. A reply without an answer, or without a number in it, is wrong, and flagged."""
    text, flags = extract_answer(answer.turns[0])
    number = None if text is None else number_in(text)
    gold = number_in(question.reference[0].rsplit("####", 1)[-1])
    flags = flags if number is not None else (*flags, "no-number")
    mark = float(number is not None and number == gold)
    meta = {} if number is None else {"compared": str(number)}
    return Judgment(question.id, JSON_PART, mark, flags=flags, judge_model="rule", meta=meta)


@dataclass(frozen=True)
class ProblemPrompt:
    """How a set of problems is put to the model; ``shots`` of the ``examples`` are shown in lm-eval's protocol."""

    turn: str
    """User turn of lm-eval's protocol, with the problem as ``{question}``."""
    examples: Callable[[GSM8KConfig], list[Problem]]
    example_characters: int
    """About: of a worked example."""
    shots: int = 0
    json_tokens: int | None = None
    """Longest reply in the JSON protocol; ``None``: that of the set."""


# A reply of reasoning inside of a JSON object is far longer than lm-eval's 256 tokens.
OFFICIAL = ProblemPrompt("Question: {question}\nAnswer:", _official_examples, 525, shots=5, json_tokens=4096)


class GSM8K(BenchmarkBase[GSM8KConfig, ProblemPrompt]):
    name = "gsm8k"
    metrics: tuple[Metric, ...] = (Metric("gsm8k.acc", "Acc. (%)", "GSM8K", margin=2.0),)
    config = GSM8KConfig
    verdicts = (0.0, 1.0)
    needs_judge = False
    spreads = (55.0,)  # 49 to 54; on pocket up to 57
    spread_source = "its four example systems"
    score_fields = ("filter",)  # every answer is graded by both filters
    sets = {  # noqa: RUF012, a table of contents
        "pocket": QuestionProtocol(
            lambda config: pocket_questions("gsm8k", config.split), ProblemPrompt("{question}", _pocket_examples, 100),
            POCKET_SAMPLING, _version, _prompt_hash,
            deviations=lambda config: ("Pocket word problems of distilbench's own wording, asked as they are.",),
            answer_tokens=POCKET_ANSWER_TOKENS,
        ),
        "official": QuestionProtocol(
            _official_questions, OFFICIAL, Sampling(max_new_tokens=256, temperature=0.0), _version, _prompt_hash,
            size=QuestionSetSize(
                questions=1319, turns=1, characters=240, requests=0, request_characters=0, reply_tokens=0
            ),
            files=_official_files, deviations=_official_deviations,
        ),
    }  # fmt: skip

    def pins(self, config: GSM8KConfig) -> dict[str, str]:
        """Of ``source`` the worked examples that are shown: the problems themselves have a hash of their own."""
        if config.questions != "official" or not config.shots:
            return {"source": ""}
        try:
            return {"source": text_hash([json.dumps(_official_examples(config))])}
        except UserError:  # without their files answers are only planned
            return {}

    def example_characters(self, config: GSM8KConfig) -> int:
        return config.shots * self.sets[config.questions].prompt.example_characters

    def sampling(self, config: GSM8KConfig, category: str = "") -> Sampling:
        sampling = super().sampling(config, category)
        longer = self.sets[config.questions].prompt.json_tokens
        if config.protocol != "json" or config.max_new_tokens is not None or longer is None:
            return sampling
        return replace(sampling, max_new_tokens=longer)

    def answer(
        self, model: GeneratesText, questions: Sequence[Question], config: GSM8KConfig, seed: int
    ) -> list[Answer]:
        sampling = self.sampling(config)
        if config.protocol == "json":
            json_questions = [replace(q, turns=(JSON_PROMPT.replace("{question}", q.turns[0]),)) for q in questions]
            return ask(model, json_questions, lambda question: sampling, seed)
        from judges.benchmarks.gsm8k.lm_eval_adapter import answer_with_lm_eval

        prompt = self.sets[config.questions].prompt
        examples = prompt.examples(config) if config.shots else []
        shots, form = config.shots, config.prompt_form
        return answer_with_lm_eval(model, questions, examples, prompt.turn, shots, form, sampling, seed)

    def grade(self, question: Question, answer: Answer, config: GSM8KConfig) -> list[Judgment]:
        if config.protocol == "json":
            return [mark_json(question, answer)]
        judgments, text = [], cut_at_stop(answer.turns[0])
        for name in FILTERS:
            number = filter_answer(answer, name)
            flags = ("no-number",) * (number == INVALID)
            if not answer.meta.get(name) and text != answer.turns[0]:
                flags += ("cut-at-stop",)
            mark = mark_of(number, question.reference[0])
            flags += ("several-labels",) * (name == "strict-match" and len(set(_STRICT.findall(text))) > 1)
            flags += ("right-as-number",) * (not mark and is_right_number(answer, name, question.reference[0]))
            meta = {} if number == INVALID else {"compared": number}
            judgments.append(Judgment(question.id, name, mark, flags=flags, judge_model="rule", meta=meta))
        return judgments

    def score_entrant(
        self, questions: Sequence[Question], entrant: Entrant, config: GSM8KConfig, seed: int, replicates: int
    ) -> Score:
        """Accuracy by the config's filter; that by the other one stands in the details."""
        parts, main = ((JSON_PART,), JSON_PART) if config.protocol == "json" else (FILTERS, config.filter)
        by_question = verdicts(entrant.judgments)
        marks_of_questions = [by_question.get(question.id, {}) for question in questions]
        marks = {part: [[row[part]] if part in row else [] for row in marks_of_questions] for part in parts}
        accuracy = {part: Ratio.of_sums(questions, column) for part, column in marks.items()}
        # Both filters grade every answer: flags are counted for the one that makes the number.
        of_main = [judgment for judgment in entrant.judgments if judgment.part == main]
        detail = entrant_detail(questions, replace(entrant, judgments=of_main), needs_judge=False)
        detail |= {part: ratio.value for part, ratio in accuracy.items() if ratio.value is not None}
        tasks = sorted({str(answer.meta["task"]) for answer in entrant.answers if "task" in answer.meta})
        if tasks:
            detail["task"] = ", ".join(tasks)
        protocol = "JSON answer" if config.protocol == "json" else config.filter
        form = f" {FORMS[config.prompt_form]}" if config.prompt_form != "turns" else ""
        note = "; ".join([f"{protocol}, {config.shots}-shot{form}", *tasks])
        return ratio_score(self.metrics[0].id, accuracy[main], replicates, seed, note, detail)

    def deviations(self, config: GSM8KConfig) -> list[str]:
        temperature = self.sampling(config).temperature
        sampling_note = f"Answers are sampled at temperature {temperature}; the official ones are greedy."
        own_wording = "The prompt is distilbench's own wording of ZeroEval's."
        return [sampling_note] * (temperature > 0) + [own_wording] * (config.protocol == "json")

    def parameters(self, config: GSM8KConfig) -> dict[str, object]:
        return {"fewshot": config.shots, "lm_eval": version("lm_eval")}


class GSM8KJson(GSM8K):
    name = "gsm8k_json"
    metrics: tuple[Metric, ...] = (Metric("gsm8k_json.acc", "Acc. (%)", "GSM8K (JSON answer)", margin=2.0),)
    config = GSM8KJsonConfig


BENCHMARK = GSM8K()
JSON_BENCHMARK = GSM8KJson()
