"""What a stage will cost, estimated from the recipe alone: responses, model tokens, judge calls, dollars.

Estimates, not promises: answers are assumed to use half of the tokens they may, prompts to be as long as the questions
are (or 200 tokens where they are not known yet). ``distilbench plan`` prints them before anything runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from harness.stage import Price, Stage
from harness.stages.work import build
from harness.types import Question

if TYPE_CHECKING:
    from harness.recipe import Recipe
    from harness.registry import Registry

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
    ) -> None:
        self.recipe = recipe
        self.registry = registry
        self.questions = questions
        self.configs = configs
        self.judged: dict[str, Price] = {}

    def price(self, stage: Stage, n: int) -> Price:
        """The estimate for one stage, with n responses per prompt; kinds that cost nothing worth naming get zero."""
        kind = stage.kind
        if kind in ("sample", "reward", "distributions", "train"):
            some = {"sample": self.sample, "reward": self.reward, "distributions": self.forward, "train": self.train}
            return some[kind](stage, n)
        known = {"reference": self.reference, "answer": self.answer, "judge": self.judge}
        return known[kind](stage) if kind in known else Price()

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
        allowed = int(stage.params["config"].get("max_new_tokens") or ANSWER_TOKENS)
        turns = sum(len(question.turns) for question in questions)
        read = sum(len(turn) for question in questions for turn in question.turns) // CHARS_PER_TOKEN
        return Price(responses=turns, tokens=read + turns * allowed // 2)

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
        questions, config = self.questions[name], self.configs[name]
        if self.recipe.baseline is not None:  # it is not known yet, and the official questions may come without one
            questions = [
                each if each.baseline else replace(each, baseline=("",) * len(each.turns)) for each in questions
            ]
        asked = [r for question in questions for r in adapter.requests(question, blank(question), config)]
        read = sum(len(message["content"]) for request in asked for message in request.messages) // CHARS_PER_TOKEN
        read += len(asked) * ANSWER_TOKENS // 2  # the answer itself, which is blank here
        written = sum(min(request.max_tokens, ANSWER_TOKENS) for request in asked) // 2
        entry = self.recipe.judges[str(self.recipe.benchmarks[name].judge)]
        kind = self.registry.judges[entry.kind]
        dollars = kind.price(build(kind.config, entry.config), read, written)
        return Price(judge_calls=len(asked), judge_tokens=read + written, dollars=dollars)


def blank(question: Question) -> Any:
    """An empty answer of the right number of turns: enough to count a benchmark's requests."""
    from harness.types import Answer

    turns = len(question.turns)
    return Answer(question.id, ("",) * turns, (True,) * turns, (0,) * turns)


def total(stages: Sequence[Stage]) -> Price:
    """The sum of the prices; dollars are ``None`` as soon as one is unknown."""
    prices = [stage.price for stage in stages]
    sums: dict[str, Any] = {}
    for field in fields(Price):
        values = [getattr(price, field.name) for price in prices]
        sums[field.name] = None if None in values else sum(values)
    return Price(**sums)
