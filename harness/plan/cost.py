"""What a stage will cost, estimated from the recipe alone: responses, model tokens, GPU time, judge calls, dollars.

Estimates, not promises: answers are assumed to use half of the tokens they may, prompts to be as long as the questions
are (or 200 tokens where they are not known yet). ``distilbench plan`` prints them before anything runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from harness.contracts.model import Checkpoint
from harness.contracts.options import options_from
from harness.contracts.stage import Price, Stage
from harness.errors import UserError
from harness.hardware.gpu import Size, flops, training_bytes, training_factor, weight_bytes
from harness.models.published_sizes import published_questions, size
from harness.training.options import TrainOptions
from harness.types import Question

if TYPE_CHECKING:
    from harness.contracts.registry import Registry
    from harness.recipe.recipe import Recipe

CHARS_PER_TOKEN = 4
PROMPT_TOKENS = 200
"""Assumed length of a training prompt: UltraFeedback's mean is about 160, with the chat template a little more."""
ANSWER_TOKENS = 512
"""Assumed limit of an answer where a benchmark leaves it to its protocol."""


class Pricer:
    """Prices the stages of one recipe. Holds what prices depend on, so that each stage kind is a small function."""

    def __init__(
        self,
        recipe: Recipe,
        registry: Registry,
        questions: Mapping[str, Sequence[Question]],
        configs: Mapping[str, Any],
        models: Mapping[str, Checkpoint],
    ) -> None:
        self.recipe = recipe
        self.registry = registry
        self.questions = questions
        self.configs = configs
        self.models = models
        self.judged: dict[str, Price] = {}

    def price(self, stage: Stage, n: int) -> Price:
        """The estimate for one stage, with n responses per prompt; kinds that cost nothing worth naming get zero."""
        kind = stage.kind
        if kind in ("sample", "reward", "distributions", "train"):
            some = {"sample": self.sample, "reward": self.reward, "distributions": self.forward, "train": self.train}
            price = some[kind](stage, n)
        elif kind in ("reference", "answer", "judge"):
            price = {"reference": self.reference, "answer": self.answer, "judge": self.judge}[kind](stage)
        else:
            return Price()
        return replace(price, peak_flops=self.peak_flops(stage, price), peak_bytes=self.peak_bytes(stage, n))

    def size(self, stage: Stage, role: str) -> Size | None:
        """How large the model in this role of a stage is; one that the run trains is as large as it was before."""
        given = stage.local.get("models", {}).get(role)
        if given is not None:
            return size(Checkpoint(**given))
        return size(self.models["teacher" if role == "teacher" else "student"])

    def peak_flops(self, stage: Stage, price: Price) -> float | None:
        """GPU time of a stage (``harness/hardware/gpu.py``); 0 for what needs no model here."""
        kind = stage.kind
        if kind == "judge" or (kind == "answer" and {"endpoint", "given"} & set(stage.local)):
            return 0.0
        written = self.written(stage, price)
        role = {"sample": "model", "answer": "model", "reward": "teacher", "distributions": "teacher"}.get(
            kind, "student"
        )
        own = self.size(stage, role)
        teacher = self.size(stage, "teacher") if self.live_teacher(stage) else None
        if own is None or (self.live_teacher(stage) and teacher is None):
            return None
        if kind != "train":
            reading = flops("read", own.parameters, price.tokens - written)
            return reading + flops("write", own.parameters, written)
        train = self.row_train(stage)
        factor = training_factor(train.lora is not None, train.gradient_checkpointing)
        beside = 0 if teacher is None else teacher.parameters
        training = flops("train", own.parameters, price.tokens, factor) + flops("read", beside, price.tokens)
        return training + flops("write", own.parameters + beside, written)

    def written(self, stage: Stage, price: Price) -> int:
        """Tokens that are generated one by one."""
        if stage.kind in ("sample", "train"):
            return price.responses * self.response_tokens
        return price.responses * self.answer_tokens(stage) // 2 if stage.kind == "answer" else 0

    def live_teacher(self, stage: Stage) -> bool:
        """Whether a stage trains with the teacher beside the student."""
        return stage.kind == "train" and ("teacher" in stage.inputs or "teacher" in stage.params)

    def row_train(self, stage: Stage) -> TrainOptions:
        """The training settings of a train stage."""
        said = {**stage.params["options"], **stage.local["train"]}
        return options_from(TrainOptions, said)

    def peak_bytes(self, stage: Stage, n: int) -> float | None:
        """Memory of a train stage with n responses per prompt; 0 for other kinds, ``None``: a size is not known."""
        if stage.kind != "train":
            return 0.0
        student = self.size(stage, "student")
        teacher = self.size(stage, "teacher") if self.live_teacher(stage) else None
        if student is None or (self.live_teacher(stage) and teacher is None):
            return None
        train = self.row_train(stage)
        tokens = train.micro_batch * max(1, self.rows_of(stage, n)) * self.row_tokens
        beside = 0.0 if teacher is None else weight_bytes(teacher, train.dtype)
        return beside + training_bytes(
            student, tokens, train.dtype, adapters=train.lora is not None, checkpointing=train.gradient_checkpointing
        )

    @property
    def row_tokens(self) -> int:
        """Assumed length of a training prompt with a response."""
        return PROMPT_TOKENS + self.response_tokens

    @property
    def response_tokens(self) -> int:
        """Assumed length of a training response."""
        return max(1, self.recipe.sampling.max_new_tokens // 2)

    def sample(self, stage: Stage, n: int) -> Price:
        """The stage's number of answers to every training prompt, the prompt read once for each."""
        responses = self.recipe.prompts.n * int(stage.params["n"])
        return Price(responses=responses, tokens=responses * self.row_tokens)

    def reward(self, stage: Stage, n: int) -> Price:
        """One log-likelihood pass per response, and the multiple-choice questions of the mode."""
        shown = {"cyclic": n * n, "pairwise_both": 2 * n * (n - 1), "pairwise_once": n * (n - 1)}[stage.params["mcq"]]
        asked = {"cyclic": n, "pairwise_both": n * (n - 1), "pairwise_once": n * (n - 1) // 2}[stage.params["mcq"]]
        per_prompt = n * self.row_tokens + asked * PROMPT_TOKENS + shown * self.response_tokens
        return Price(tokens=self.recipe.prompts.n * per_prompt)

    def reference(self, stage: Stage) -> Price:
        """Two rows per prompt through the starting student."""
        return Price(tokens=2 * self.recipe.prompts.n * self.row_tokens)

    def forward(self, stage: Stage, n: int) -> Price:
        """The rows that distributions are kept for, once through the teacher."""
        return Price(tokens=self.recipe.prompts.n * self.rows_of(stage, n) * self.row_tokens)

    def rows_of(self, stage: Stage, n: int) -> int:
        """Stored rows per prompt: n samples, and one for each other kind of response."""
        responses = self.registry.methods[stage.params["method"]].needs.responses
        return sum(n if source == "samples" else 1 for source in responses if source != "rollouts")

    def train(self, stage: Stage, n: int) -> Price:
        """Every row of every prompt, once per epoch; live rollouts are generated and then trained on as well."""
        live = "rollouts" in self.registry.methods[stage.params["method"]].needs.responses
        prompts = self.recipe.prompts.n * int(stage.params["options"]["epochs"])
        rows = self.rows_of(stage, n) + 2 * live
        return Price(responses=prompts * live, tokens=prompts * rows * self.row_tokens)

    def answer(self, stage: Stage) -> Price:
        """All turns of all questions, at half of the tokens allowed."""
        questions = self.questions[stage.params["benchmark"]]
        allowed = self.answer_tokens(stage)
        turns = sum(len(question.turns) for question in questions)
        read = sum(len(turn) for question in questions for turn in question.turns) // CHARS_PER_TOKEN
        return Price(responses=turns, tokens=read + turns * allowed // 2)

    def answer_tokens(self, stage: Stage) -> int:
        """The limit of an answer."""
        return int(stage.params["config"].get("max_new_tokens") or ANSWER_TOKENS)

    def judge(self, stage: Stage) -> Price:
        """One request per part of each question; dollars from the judge's own price list."""
        name = stage.params["benchmark"]
        if name not in self.judged:  # the answers do not matter for the estimate: all rows of a benchmark cost the same
            self.judged[name] = self.judged_price(name)
        return self.judged[name]

    def judged_price(self, name: str) -> Price:
        """The price of judging one model's answers on a benchmark."""
        adapter = self.registry.benchmarks[name]
        if not adapter.judged:
            return Price()
        calls, read, written = self.asked(name)
        read += calls * ANSWER_TOKENS // 2  # the answer itself, which is blank here
        entry = self.recipe.judges[str(self.recipe.benchmarks[name].judge)]
        kind = self.registry.judges[entry.kind]
        config = entry.config
        written += calls * kind.thinking(config) // 2
        dollars = kind.price(config, read, written)
        return Price(judge_calls=calls, judge_tokens=read + written, dollars=dollars)

    def asked(self, name: str) -> tuple[int, int, int]:
        """Judge calls for one model's answers, tokens of their prompts, and of the replies (half of what they may be).

        As stated (``harness/models/published_sizes.py``) where the questions or the judge's prompts are not here.
        """
        questions, config, adapter = self.questions[name], self.configs[name], self.registry.benchmarks[name]
        if self.recipe.baseline is not None:  # it is not known yet, and the official questions may come without one
            questions = [
                each if each.baseline else replace(each, baseline=("",) * len(each.turns)) for each in questions
            ]
        try:
            asked = [r for question in questions for r in adapter.requests(question, blank(question), config)]
        except (UserError, IndexError):  # a stand-in has no baseline answer either
            facts = published_questions(name)
            if facts is None:
                raise
            calls = facts.requests * len(questions) * getattr(config, "repeats", 1)
            return calls, calls * facts.request_characters // CHARS_PER_TOKEN, calls * facts.reply_tokens // 2
        read = sum(len(message["content"]) for request in asked for message in request.messages) // CHARS_PER_TOKEN
        return len(asked), read, sum(min(request.max_tokens, ANSWER_TOKENS) for request in asked) // 2


def blank(question: Question) -> Any:
    """An empty answer of the right number of turns: enough to count a benchmark's requests."""
    from harness.types import Answer

    turns = len(question.turns)
    return Answer(question.id, ("",) * turns, (True,) * turns, (0,) * turns)


def total(stages: Sequence[Stage]) -> Price:
    """The sum of the prices, and the largest memory; what is unknown of one is ``None``."""
    prices = [stage.price for stage in stages]
    sums: dict[str, Any] = {}
    for field in fields(Price):
        values = [getattr(price, field.name) for price in prices]
        over = max if field.name == "peak_bytes" else sum
        sums[field.name] = None if None in values else over([0, *values])
    return Price(**sums)
