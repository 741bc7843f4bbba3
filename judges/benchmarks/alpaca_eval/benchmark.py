"""AlpacaEval 2: win rate against a baseline's answers, judged by the probability of one token, and its length control.

Dubois et al. 2024 (arXiv 2404.04475), alpaca_eval 0.6.6 (annotator ``weighted_alpaca_eval_gpt4_turbo``). The judge sees
an instruction and two answers called m and M, in an order drawn from the instruction, and replies with one token; the
verdict is P(token of the model) / (P(m) + P(M)). ``alpaca_eval.wr`` is the mean, ``alpaca_eval.lc`` its GLM-based
length-controlled version (``judges/benchmarks/alpaca_eval/length_control.py``,
``judges/benchmarks/alpaca_eval/score.py``).
"""

from __future__ import annotations

import ast
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Literal

from harness.contracts.benchmark import Benchmark, Card, Entrant, Metric, QuestionSetSize
from harness.contracts.model import GeneratesText, Sampling
from harness.plural import counted
from harness.types import Answer, Judgment, Message, Question, Reply, Request, Score, Verdict
from judges.benchmarks import pocket_prompts
from judges.benchmarks.shared import (
    ANSWER_FIELDS,
    OTHER_BASELINE,
    QuestionSet,
    Split,
    against,
    ask,
    check_common,
    fill,
    official_size,
    pocket_questions,
    repeated,
    sampling_of,
    take,
    text_hash,
)

BASELINE = "gpt4_1106_preview"
BASELINE_FILE = "alpaca_eval/alpaca_eval_gpt4_baseline.json"
PROMPT_FILES = {
    "weighted": "alpaca_eval/judge_prompts/alpaca_eval_clf.txt",
    "ranking": "alpaca_eval/judge_prompts/alpaca_eval_llama3_70b_fn.txt",
}
TOP_LOGPROBS = 5
_OFFICIAL = Sampling(max_new_tokens=2048, temperature=0.7)


OFFICIAL_SIZE = QuestionSetSize(
    questions=805, turns=1, characters=165, requests=1, request_characters=3520, reply_tokens=1
)


@dataclass(frozen=True)
class AlpacaEvalConfig:
    """Options of AlpacaEval in a recipe."""

    questions: QuestionSet = "pocket"
    """``pocket``: the embedded world (200). ``official``: the 805 instructions, read from the assets."""
    split: Split = "test"
    """``dev``: pocket questions to choose hyperparameters on."""
    limit: int | None = None
    """Use only this many questions: those whose hashed ids come first."""
    max_new_tokens: int | None = None
    """Longest answer, tokens; null: 64 for pocket, 2048 for official."""
    temperature: float | None = None
    """Sampling temperature of the answers, 0 is greedy; null: 1 for pocket, else 0.7. Official: up to the model."""
    top_p: float = 1.0
    """Nucleus of the answers' sampling."""
    judge_prompt: Literal["weighted", "ranking"] = "weighted"
    """``weighted``: one token with log-probabilities. ``ranking``: the text prompt of the Llama-3-70B annotator."""
    order: Literal["seeded", "both"] = "seeded"
    """``seeded``: one order per instruction, drawn as the official code draws it. ``both``: ask both and average."""
    order_seed: int = 0
    """Seed of the drawn order; the official one is 0."""
    judge_temperature: float = 1.0
    """1 as official: without effect where log-probabilities are read. 0 is steadier where only text comes back."""
    repeats: int = 1
    """Ask the judge this often and average."""
    compat_leaderboard: bool = False
    """Look difficulties up by row position after dropped rows, as the leaderboard did, not by instruction."""

    baseline: str | None = None
    """Compare with the answers in this file (of the official tool, or ours) instead of the protocol's baseline."""

    def __post_init__(self) -> None:
        check_common(self)
        if self.questions == "pocket" and self.judge_prompt == "ranking":
            raise ValueError("judge_prompt: ranking needs the official questions; pocket has the weighted prompt only")


def switched(instruction: str, seed: int) -> bool:
    """Whether the official annotator shows the model before the baseline for this instruction (processors.py)."""
    return random.Random("is_switched_outputs" + instruction + str(seed)).choices([False, True], k=1)[0]


@lru_cache(maxsize=2)
def _official_template(name: str) -> tuple[Message, ...]:
    """The official prompt file, cut at its chat marks before any answer is put in."""
    from harness.assets import locate

    messages: list[Message] = []
    for piece in locate(PROMPT_FILES[name]).read_text(encoding="utf-8").split("<|im_start|>")[1:]:
        role, _, rest = piece.partition("\n")
        messages.append({"role": role.strip(), "content": rest.split("<|im_end|>", 1)[0].strip()})
    return tuple(messages)


def drawn(question: Question, answer: Answer) -> bool:
    """Whether the answer is the baseline's, word for word: a draw by the official code, and no judge is asked.

    Pocket answers are so short that equal ones are common: there the judge is asked all the same.
    """
    return "index" in question.meta and answer.turns[0] == question.baseline[0]


def _messages(question: Question, first: str, second: str, config: AlpacaEvalConfig) -> tuple[Message, ...]:
    if config.questions == "pocket":
        return pocket_prompts.pair_token(question.turns[:1], (first,), (second,))
    values = {"instruction": question.turns[0], "output_1": first, "output_2": second}
    return tuple(
        {"role": message["role"], "content": fill(message["content"], values)}
        for message in _official_template(config.judge_prompt)
    )


def _token_weights(first_token: Mapping[str, float]) -> tuple[float, float, bool] | None:
    """(P(m), P(M), whether blanks had to be stripped) among the reported tokens; ``None`` when neither is there."""
    for stripped in (False, True):
        mass = {"m": 0.0, "M": 0.0}
        for token, logp in first_token.items():
            name = token.strip() if stripped else token
            if name in mass and not math.isnan(logp):
                mass[name] += math.exp(min(logp, 0.0))
        if sum(mass.values()) > 0:
            return mass["m"], mass["M"], stripped
    return None


def read_token(reply: Reply) -> Verdict:
    """Probability that the answer called m is better, from the first token or, failing that, from the text."""
    if reply.first_token:
        weights = _token_weights(reply.first_token)
        if weights is None:
            shown = ", ".join(repr(token) for token in list(reply.first_token)[:TOP_LOGPROBS])
            return Verdict(None, f"neither m nor M among the first tokens ({shown})")
        return Verdict(weights[0] / (weights[0] + weights[1]), None, ("stripped-token",) if weights[2] else ())
    said = reply.text.strip().strip("\"'`.*").strip()
    if said in ("m", "M"):
        return Verdict(float(said == "m"), None, ("no-logprobs",))
    return Verdict(None, f"the reply is neither m nor M: {reply.text[:40]!r}", ("no-logprobs",))


def read_ranking(reply: Reply) -> Verdict:
    """1 or 0: whether model_1 is ranked first in a Python list of ``{'model': ..., 'rank': ...}``."""
    try:
        rows = ast.literal_eval(reply.text.strip()[:10_000])
        ranks = [row["rank"] for row in rows if row["model"] == "model_1"]
    except (ValueError, SyntaxError, TypeError, KeyError, IndexError, MemoryError, RecursionError):
        return Verdict(None, f"the reply is no list of ranks: {reply.text[:40]!r}")
    if not ranks or isinstance(ranks[0], bool) or ranks[0] not in (1, 2):
        return Verdict(None, f"model_1 has no rank 1 or 2: {reply.text[:40]!r}")
    return Verdict(float(ranks[0] == 1))


class AlpacaEval:
    """The benchmark; see the head of this file."""

    name = "alpaca_eval"
    metrics: tuple[Metric, ...] = (
        Metric("alpaca_eval.lc", "LC (%)", "AlpacaEval 2", margin=2.0),
        Metric("alpaca_eval.wr", "WR (%)", "AlpacaEval 2", margin=2.0),
    )
    config = AlpacaEvalConfig
    verdicts: tuple[float, float] = (0.0, 1.0)
    judged = True
    pairwise = True
    version = 1
    answer_fields = ANSWER_FIELDS
    judge_fields: tuple[str, ...] = ("judge_prompt", "order", "order_seed", "judge_temperature", "repeats")

    def questions(self, config: AlpacaEvalConfig) -> list[Question]:
        """The instructions with the baseline's answers."""
        if config.questions == "pocket":
            found = take(pocket_questions(self.name, config.split), self.name, config.limit)
            return against(found, config.baseline, self.name)
        import json

        from harness.assets import locate

        rows = json.loads(locate(BASELINE_FILE).read_text(encoding="utf-8"))
        found = [
            Question(
                str(index), (row["instruction"],), row["dataset"], (row["output"],),
                meta={"index": index, "baseline": BASELINE},
            )
            for index, row in enumerate(rows)
        ]  # fmt: skip
        return against(take(found, self.name, config.limit), config.baseline, self.name)

    def size(self, config: AlpacaEvalConfig) -> QuestionSetSize | None:
        """Of the official questions with the protocol's baseline."""
        return official_size(config, OFFICIAL_SIZE)

    def answer(
        self, model: GeneratesText, questions: Sequence[Question], config: AlpacaEvalConfig, seed: int
    ) -> list[Answer]:
        """One answer per instruction."""
        sampling = sampling_of(config, _OFFICIAL)
        return ask(model, questions, lambda question: sampling, seed)

    def requests(self, question: Question, answer: Answer, config: AlpacaEvalConfig) -> list[Request]:
        """One request per order, none for an answer that equals the baseline's; ``meta.model_first``: its place."""
        if drawn(question, answer):
            return []
        model_first = switched(question.turns[0], config.order_seed)
        orders = (model_first,) if config.order == "seeded" else (False, True)
        asked = []
        for model_first in orders:
            texts = (answer.turns[0], question.baseline[0])
            first, second = texts if model_first else texts[::-1]
            weighted = config.judge_prompt == "weighted"
            asked.append(
                Request(
                    question.id,
                    "preference" if config.order == "seeded" else f"order{1 + model_first}",
                    _messages(question, first, second, config),
                    max_tokens=1 if weighted else 100,
                    temperature=config.judge_temperature if weighted else 0.0,
                    top_logprobs=TOP_LOGPROBS if weighted else 0,
                    meta={"model_first": model_first},
                )
            )
        return repeated(asked, config.repeats)

    def parse(self, request: Request, reply: Reply, config: AlpacaEvalConfig) -> Verdict:
        """Probability that the model beats the baseline, 0..1."""
        read = read_token(reply) if config.judge_prompt == "weighted" else read_ranking(reply)
        if read.value is None or request.meta.get("model_first", False):
            return read
        return Verdict(1.0 - read.value, read.reason, read.flags)

    def grade(self, question: Question, answer: Answer, config: AlpacaEvalConfig) -> list[Judgment]:
        """Nothing is graded by rule."""
        return []

    def score(
        self,
        questions: Sequence[Question],
        entrants: Mapping[str, Entrant],
        config: AlpacaEvalConfig,
        seed: int,
        replicates: int,
    ) -> dict[str, tuple[Score, ...]]:
        """LC and WR of every entrant."""
        from judges.benchmarks.alpaca_eval.score import score

        return score(questions, entrants, config.compat_leaderboard, seed, replicates)

    def card(self, config: AlpacaEvalConfig) -> Card:
        """The protocol."""
        sampling = sampling_of(config, _OFFICIAL)
        parameters = {**asdict(config), "max_new_tokens": sampling.max_new_tokens, "temperature": sampling.temperature}
        parameters["judge_max_tokens"] = 1 if config.judge_prompt == "weighted" else 100
        if config.questions == "pocket":
            texts = pocket_prompts.PROMPT_TEXTS["token"]
            deviations = ["Pocket instructions, baseline answers and judge prompt of distilbench's own wording."]
            version, prompt_hash = "pocket 1 (AlpacaEval 2 protocol)", text_hash(texts)
            deviations.append("LC (pocket): difficulties fitted jointly over all entrants, no gamed baselines.")
        else:
            from harness.assets import asset

            prompt_hash = asset(PROMPT_FILES[config.judge_prompt]).sha256[:12]
            version, deviations = f"AlpacaEval 2.0, {config.judge_prompt} annotator prompt of alpaca_eval 0.6.6", []
            if not config.compat_leaderboard:
                deviations.append("Difficulties are looked up by instruction; the leaderboard did by row position.")
        if config.baseline is not None:
            deviations.append(OTHER_BASELINE)
        if config.order == "both":
            deviations.append("Both orders are asked and averaged; official asks one.")
        if config.limit is not None:
            deviations.append(f"At most {counted(config.limit, 'question')}.")
        judge = "gpt-4-1106-preview" if config.judge_prompt == "weighted" else "meta-llama/Llama-3-70b-chat-hf"
        return Card(self.name, version, prompt_hash, parameters, tuple(deviations), judge)


BENCHMARK: Benchmark = AlpacaEval()
