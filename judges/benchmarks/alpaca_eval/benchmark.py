"""AlpacaEval 2: win rate against a baseline's answers, judged by the probability of one token, and its length control.

Dubois et al. 2024 (arXiv 2404.04475), alpaca_eval 0.6.6 (annotator ``weighted_alpaca_eval_gpt4_turbo``). The judge
replies with one token, m or M; the verdict is P(token of the model) / (P(m) + P(M)).
"""

from __future__ import annotations

import ast
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from statistics import fmean
from typing import Literal

import numpy as np

from harness.assets import asset, locate
from harness.contracts.benchmark import Card, Entrant, Metric, QuestionSetSize, pair_answers
from harness.contracts.model import Sampling
from harness.contracts.options import PathText, Repeats, Temperature, options, require
from harness.errors import UserError
from harness.prompts.jsonl import read_file
from harness.stats import Array
from harness.types import Answer, Message, Question, Reply, Request, Score, Verdict
from judges.benchmarks import pocket_prompts
from judges.benchmarks.alpaca_eval.length_control import (
    MIN_QUESTIONS,
    OFFICIAL_BASELINE,
    Column,
    length_controlled,
    length_data,
    length_files,
)
from judges.benchmarks.answer_files import Row, has, name_of, require_field
from judges.benchmarks.base import BenchmarkBase, BenchmarkConfig, QuestionProtocol, fill, pocket_set, repeat_requests
from judges.benchmarks.judge_prompt import PAIR_PLACES, PromptTemplate, own_pair
from judges.benchmarks.replies import LEAST_MASS, LITTLE_MASS, read_tokens
from judges.benchmarks.scoring import Ratio, count_verdicts, entrant_detail, ratio_score, verdicts

BASELINE_FILE = "alpaca_eval/alpaca_eval_gpt4_baseline.json"
TOP_LOGPROBS = 5


@options
class AlpacaEvalConfig(BenchmarkConfig):
    """Options of AlpacaEval in a recipe. Pocket has 200 questions, official 805 (2048 tokens, temperature 0.7)."""

    questions: Literal["pocket", "official", "own"] = "pocket"  # type: ignore[assignment]
    """``pocket``, ``official``, or ``own``: the prompts of a file of yours, ``path``, asked and judged as the official
    ones are. Their golden answers are the baseline."""
    path: PathText | None = None
    """With ``questions: own``: one ``{"prompt": ..., "golden": ...}`` a line, as in ``prompts.path``."""
    judge_prompt: str = "weighted"
    """``weighted``: one token with log-probabilities. ``ranking``: the text prompt of the Llama-3-70B annotator. Or one
    of yours, which is not official: a file (or the text) with ``{question}``, ``{answer_a}`` and ``{answer_b}`` that
    asks for one token, m where the first answer is better, else M."""
    order: Literal["seeded", "both"] = "seeded"
    """``seeded``: one order per instruction, drawn as the official code draws it. ``both``: ask both and average."""
    judge_temperature: Temperature = 1.0
    """1 as official: without effect where log-probabilities are read. 0 is steadier where only text comes back."""
    repeats: Repeats = 1
    """Ask the judge this often and average."""
    difficulty_by: Literal["row", "instruction"] = "row"
    """Which difficulty an instruction gets: by ``row``, as in alpaca_eval and on its leaderboard, where a missing row
    shifts all later ones; or its own."""
    baseline: PathText | None = None
    """Compare with the answers in this file (of the official tool, or ours) instead of the protocol's baseline."""

    def __post_init__(self) -> None:
        super().__post_init__()
        fits = self.judge_prompt not in ANNOTATORS or self.judge_prompt in AlpacaEval.sets[self.questions].prompt
        require(fits, "judge_prompt: ranking needs the official questions; pocket has the weighted prompt only")
        rule = "path goes with questions = 'own': the file that they stand in"
        require((self.questions == "own") == (self.path is not None), rule)


Prompt = Mapping[str, Callable[[Question, str, str], tuple[Message, ...]]]
"""Value of ``judge_prompt`` to (question, answer called m, answer called M) -> messages."""


def _official_questions(config: AlpacaEvalConfig) -> list[Question]:
    rows = json.loads(locate(BASELINE_FILE).read_text(encoding="utf-8"))
    return [
        Question(
            str(index), (row["instruction"],), row["dataset"], (row["output"],),
            meta={"index": index, "baseline": OFFICIAL_BASELINE},
        )
        for index, row in enumerate(rows)
    ]  # fmt: skip


def _own_questions(config: AlpacaEvalConfig) -> list[Question]:
    """Raises UserError with the line of a prompt that is no single question, stands twice, or has no golden answer."""
    questions: list[Question] = []
    first_ids: dict[str, str] = {}
    for prompt in read_file(str(config.path))[1]:
        if [message["role"] for message in prompt.messages] != ["user"]:
            raise UserError(f"{config.path}: {prompt.id}: AlpacaEval asks one question, without turns before it.")
        golden = (prompt.golden or "").strip()
        if not golden and config.baseline is None:
            raise UserError(f"{config.path}: {prompt.id}: no golden answer, which would be the baseline's.")
        turns = (prompt.messages[0]["content"],)
        # Intervals take questions for independent.
        if (first_id := first_ids.setdefault(turns[0], prompt.id)) != prompt.id:
            raise UserError(f"{config.path}: {prompt.id}: asks the same as {first_id}. Remove one of them.")
        questions.append(Question(prompt.id, turns, "own", (golden,), meta={"baseline": "golden answers"}))
    if not questions:
        raise UserError(f"{config.path}: holds no questions.")
    return questions


@lru_cache(maxsize=2)
def _official_template(name: str) -> tuple[Message, ...]:
    messages: list[Message] = []
    # Cut at its chat marks before any answer is put in: an answer may hold such marks.
    for section in locate(ANNOTATORS[name].file).read_text(encoding="utf-8").split("<|im_start|>")[1:]:
        role, _, body = section.partition("\n")
        messages.append({"role": role.strip(), "content": body.split("<|im_end|>", 1)[0].strip()})
    return tuple(messages)


def _official_prompt(name: str, question: Question, first: str, second: str) -> tuple[Message, ...]:
    values = {"instruction": question.turns[0], "output_1": first, "output_2": second}
    template = _official_template(name)
    return tuple({"role": message["role"], "content": fill(message["content"], values)} for message in template)


def _pocket_prompt(question: Question, first: str, second: str) -> tuple[Message, ...]:
    return pocket_prompts.pair_token(question.turns[:1], (first,), (second,))


def model_shown_first(instruction: str) -> bool:
    """Whether the official annotator shows the model before the baseline for this instruction (processors.py)."""
    # The very call of the official code, with its seed 0: another generator would put other answers first.
    return random.Random("is_switched_outputs" + instruction + "0").choices([False, True], k=1)[0]


def equals_baseline(question: Question, answer: Answer) -> bool:
    """Whether the answer is the baseline's, word for word: a draw by the official code, and no judge is asked."""
    # Pocket answers, without an index, are so short that equal ones are common: there the judge is asked all the same.
    return "index" in question.meta and answer.turns[0] == question.baseline[0]


def read_token(reply: Reply) -> Verdict:
    """Probability that the answer called m is better, from the first token or, failing that, from the text."""
    return read_tokens(reply, {"m": 1.0, "M": 0.0})


def read_ranking(reply: Reply) -> Verdict:
    """1 or 0: whether model_1 is ranked first in a Python list of ``{'model': ..., 'rank': ...}``."""
    try:
        # The official parser evaluates the reply as Python; cut first, because parsing a long nest is slow.
        rows = ast.literal_eval(reply.text.strip()[:10_000])
        ranks = [row["rank"] for row in rows if row["model"] == "model_1"]
    except (ValueError, SyntaxError, TypeError, KeyError, IndexError, MemoryError, RecursionError):
        return Verdict(None, f"the reply is no list of ranks: {reply.text[:40]!r}")
    if not ranks or isinstance(ranks[0], bool) or ranks[0] not in (1, 2):
        return Verdict(None, f"model_1 has no rank 1 or 2: {reply.text[:40]!r}")
    return Verdict(float(ranks[0] == 1))


@dataclass(frozen=True)
class Annotator:
    """An official judge prompt, and how its judge is asked and read; verdicts are on the answer called m or model_1."""

    file: str
    judge: str
    max_tokens: int
    top_logprobs: int
    read: Callable[[Reply], Verdict]


ANNOTATORS = {
    "weighted": Annotator(
        "alpaca_eval/judge_prompts/alpaca_eval_clf.txt", "gpt-4-1106-preview", 1, TOP_LOGPROBS, read_token
    ),
    "ranking": Annotator(
        "alpaca_eval/judge_prompts/alpaca_eval_llama3_70b_fn.txt", "meta-llama/Llama-3-70b-chat-hf",
        100, 0, read_ranking,
    ),
}  # fmt: skip


def prompt_name(config: AlpacaEvalConfig) -> str:
    if config.judge_prompt not in ANNOTATORS:
        return "a judge prompt of one's own"
    return f"{config.judge_prompt} annotator prompt of alpaca_eval 0.6.6"


def annotator_of(config: AlpacaEvalConfig) -> Annotator:
    """A prompt of the user's own is asked and read as ``weighted`` is."""
    return ANNOTATORS.get(config.judge_prompt, ANNOTATORS["weighted"])


def prompt_files(config: AlpacaEvalConfig) -> Sequence[str]:
    return (ANNOTATORS[config.judge_prompt].file,) if config.judge_prompt in ANNOTATORS else ()


def official_files(config: AlpacaEvalConfig) -> Sequence[str]:
    length = () if config.baseline is not None else length_files()
    return (BASELINE_FILE, *prompt_files(config), *length)


class AlpacaEval(BenchmarkBase[AlpacaEvalConfig, Prompt]):
    name = "alpaca_eval"
    metrics: tuple[Metric, ...] = (
        Metric("alpaca_eval.lc", "LC (%)", "AlpacaEval 2", margin=2.0, joint=True, least=MIN_QUESTIONS),
        Metric("alpaca_eval.wr", "WR (%)", "AlpacaEval 2", margin=2.0),
    )
    config = AlpacaEvalConfig
    verdicts = (0.0, 1.0)
    spreads = (55.0, 35.0)  # medians over pairs of ten models: 54 and 27; up to 35 and 34 on pocket
    spread_source = "models of the leaderboard"
    pairwise = True
    judge_fields: tuple[str, ...] = ("judge_prompt", "order", "judge_temperature", "repeats")
    score_fields: tuple[str, ...] = ("path", "difficulty_by", "baseline")
    places, needed = PAIR_PLACES, ("answer_a", "answer_b")
    sets = {  # noqa: RUF012, a table of contents
        "pocket": pocket_set(
            "alpaca_eval", "AlpacaEval 2", {"weighted": _pocket_prompt}, "token",
            (
                "Pocket instructions, baseline answers and judge prompt of distilbench's own wording.",
                "LC (pocket): difficulties fitted jointly over all entrants, no gamed baselines.",
            ),
        ),
        "official": QuestionProtocol(
            _official_questions, {name: partial(_official_prompt, name) for name in ANNOTATORS},
            Sampling(max_new_tokens=2048, temperature=0.7),
            lambda config: f"AlpacaEval 2.0, {prompt_name(config)}",
            lambda config: asset(annotator_of(config).file).sha256[:12],
            size=QuestionSetSize(
                questions=805, turns=1, characters=165, requests=1, request_characters=3520, reply_tokens=1
            ),
            files=official_files,
            deviations=lambda config: (config.difficulty_by != "row")
            * ("Difficulties are looked up by instruction; alpaca_eval and its leaderboard do by row.",),
        ),
        "own": QuestionProtocol(
            _own_questions, {name: partial(_official_prompt, name) for name in ANNOTATORS},
            Sampling(max_new_tokens=2048, temperature=0.7),
            lambda config: f"AlpacaEval 2.0 protocol on own questions, {prompt_name(config)}",
            lambda config: asset(annotator_of(config).file).sha256[:12],
            files=prompt_files,
            deviations=lambda config: ("Questions of one's own, against their golden answers.",),
        ),
    }  # fmt: skip

    @staticmethod
    def read_answer(row: Row, location: str) -> tuple[str, Answer] | None:
        if "preference" in row and not has(row, "output"):  # an annotation, which holds two answers
            return None
        turns = (require_field(row, "output", str, location),)
        return name_of(row.get("generator")), Answer(require_field(row, "instruction", str, location), turns, (), ())

    def stored_config(self, values: Mapping[str, object]) -> AlpacaEvalConfig:
        """``compat_leaderboard`` was the name of ``difficulty_by: row``; ``order_seed`` is always the official 0."""
        names = dict(values)
        if names.get("order_seed") == 0:
            del names["order_seed"]
        if "compat_leaderboard" in names:
            names["difficulty_by"] = "row" if names.pop("compat_leaderboard") else "instruction"
        return super().stored_config(names)

    def requests(self, question: Question, answer: Answer, config: AlpacaEvalConfig) -> list[Request]:
        """One request per order, none for an answer that equals the baseline's; ``meta.model_first``: its place."""
        if equals_baseline(question, answer):
            return []
        both_orders, annotator, own = config.order == "both", annotator_of(config), self.own_prompt(config)
        prompt = own_pair(own) if own else self.sets[config.questions].prompt[config.judge_prompt]
        model, baseline = answer.turns[0], question.baseline[0]
        requests = []
        for model_first in (False, True) if both_orders else (model_shown_first(question.turns[0]),):
            first, second = (model, baseline) if model_first else (baseline, model)
            requests.append(
                Request(
                    question.id, f"order{1 + model_first}" if both_orders else "preference",
                    prompt(question, first, second),
                    annotator.max_tokens, config.judge_temperature if annotator.top_logprobs else 0.0,
                    annotator.top_logprobs, meta={"model_first": model_first},
                )
            )  # fmt: skip
        return repeat_requests(requests, config.repeats)

    def parse(self, request: Request, reply: Reply, config: AlpacaEvalConfig) -> Verdict:
        return self.of_model(annotator_of(config).read(reply), request)

    def own_prompt(self, config: AlpacaEvalConfig) -> PromptTemplate | None:
        if config.judge_prompt in ANNOTATORS:
            return None
        try:
            return super().own_prompt(config)
        except UserError as error:
            raise UserError(f"{error} The official ones are {' and '.join(ANNOTATORS)}.") from error

    def score(
        self, questions: Sequence[Question], entrants: Mapping[str, Entrant], config: AlpacaEvalConfig,
        seed: int, replicates: int,
    ) -> dict[str, tuple[Score, ...]]:  # fmt: skip
        """LC and WR of every entrant, on the same resamples. Pure but for reading (and caching) the length files."""
        columns = {key: column_of(questions, entrant) for key, entrant in entrants.items()}
        data = length_data(questions, columns, config.difficulty_by)
        scores: dict[str, tuple[Score, ...]] = {}
        for key, entrant in entrants.items():
            column = columns[key]
            lc = length_controlled(questions, column, data, seed, replicates)
            wr = win_rate(questions, entrant, column, seed, replicates)
            parts = sorted({judgment.part for judgment in entrant.judgments}) or ["preference"]
            count, has_verdict = count_verdicts(questions, entrant.judgments, parts), ~np.isnan(column.preference)
            # A draw by equal answers scores without a judge: nothing was expected there.
            count = replace(count, expected=np.where(has_verdict & (count.received == 0), 0.0, count.expected))
            coverage = count.detail(np.where(has_verdict, count.share, 0.0))
            scores[key] = tuple(replace(score, detail={**score.detail, **coverage}) for score in (lc, wr))
        return scores

    def remarks(self, questions: int, config: AlpacaEvalConfig) -> list[str]:
        return [f"LC will be n/a: it needs {MIN_QUESTIONS} scored questions"] if questions < MIN_QUESTIONS else []

    def deviations(self, config: AlpacaEvalConfig) -> list[str]:
        return ["Both orders are asked and averaged; official asks one."] if config.order == "both" else []

    def parameters(self, config: AlpacaEvalConfig) -> dict[str, object]:
        annotator = annotator_of(config)
        mass = {"least_mass": LEAST_MASS, "little_mass": LITTLE_MASS} if annotator.top_logprobs else {}
        return {"judge_max_tokens": annotator.max_tokens, **mass}

    def card(self, config: AlpacaEvalConfig) -> Card:
        return replace(super().card(config), official_judge=annotator_of(config).judge)


def column_of(questions: Sequence[Question], entrant: Entrant) -> Column:
    by_question = verdicts(entrant.judgments)
    answers = {question.id: answer for question, answer in pair_answers(questions, entrant.answers)}
    judged = {judgment.question for judgment in entrant.judgments}
    preference, delta = np.full(len(questions), np.nan), np.full(len(questions), np.nan)
    identical = True
    for index, question in enumerate(questions):
        parts, answer = by_question.get(question.id), answers.get(question.id)
        if answer and equals_baseline(question, answer):
            parts = {"identical": 0.5}
        if answer and (parts or question.id in judged):
            delta[index] = len(question.baseline[0]) - len(answer.turns[0])
        if answer and parts:
            preference[index] = fmean(parts.values())
            identical = identical and answer.turns[0] == question.baseline[0]
    return Column(preference, delta, identical)


def raw_metrics(preference: Array) -> dict[str, float]:
    """The official raw metrics of preferences in 0..1 without nan: percent, and counts."""
    n = preference.size
    wins, losses = int((preference > 0.5).sum()), int((preference < 0.5).sum())
    draws = n - wins - losses
    spread = float(preference.std(ddof=1)) / np.sqrt(n) if n > 1 else float("nan")
    counts = {"n_wins": wins, "n_wins_base": losses, "n_draws": draws, "n_total": n}
    return {
        "win_rate": 100 * float(preference.mean()),
        "standard_error": 100 * float(spread),
        **{name: float(count) for name, count in counts.items()},
        "discrete_win_rate": 100 * (wins + 0.5 * draws) / n,
    }


def win_rate(questions: Sequence[Question], entrant: Entrant, column: Column, seed: int, replicates: int) -> Score:
    has_verdict = ~np.isnan(column.preference)
    ids = tuple(question.id for question in questions)
    ratio = Ratio(ids, np.where(has_verdict, column.preference, 0.0), has_verdict.astype(float))
    detail = entrant_detail(questions, entrant)
    note = ""
    if "flag:no-logprobs" in detail:
        note = f"{detail['flag:no-logprobs']:.0f} of {detail['judgments']:.0f} verdicts from text: no-logprobs"
    detail["identical"] = float(sum(equals_baseline(*pair) for pair in pair_answers(questions, entrant.answers)))
    if has_verdict.any():
        detail.update(raw_metrics(column.preference[has_verdict]))
    detail["baseline_length"] = fmean(len(question.baseline[0]) for question in questions)
    return ratio_score("alpaca_eval.wr", ratio, replicates, seed, note, detail)


BENCHMARK = AlpacaEval()
