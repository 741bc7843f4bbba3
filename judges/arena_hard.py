"""Arena-Hard v0.1: two games per question against a baseline, five verdict labels, two official scorers.

Li et al. 2024 (arXiv 2406.11939), lmarena/arena-hard-auto. Game 1 shows the baseline as assistant A, game 2 the model.
A verdict is stored as the model's margin: 2 much better, 1 better, 0 equal, -1, -2. A strong verdict weighs 3.

``scorer: v0.1`` is the script of the paper's time: Bradley-Terry by logistic regression on weighted battles, where a
game without a verdict is dropped alone. Against one baseline its maximum is the weighted share of wins (ties count
half), so no optimiser is needed. ``scorer: 2025-06`` is the later script: the mean of weighted verdicts, where the
whole question is dropped when either game has none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from statistics import fmean
from typing import Literal, NamedTuple

from harness.benchmark import Benchmark, Card, Entrant, Metric
from harness.models import ChatModel, Sampling
from harness.types import Answer, Judgment, Message, Question, Reply, Request, Score, Verdict
from judges import pocket_prompts
from judges.common import (
    ANSWER_FIELDS,
    QuestionSet,
    Ratio,
    Split,
    answer_detail,
    ask,
    check_common,
    fill,
    pocket_questions,
    ratio_score,
    read_jsonl,
    reasons,
    repeated,
    sampling_of,
    take,
    text_hash,
    verdicts,
)

QUESTION_FILE = "arena_hard_v0.1/question.jsonl"
BASELINE_FILE = "arena_hard_v0.1/model_answer/gpt-4-0314.jsonl"
PROMPT_FILE = "arena_hard_v0.1/judge_config.yaml"
STRONG_WEIGHT = 3.0
LABELS = {"A>>B": 2.0, "A>B": 1.0, "A=B": 0.0, "B>A": -1.0, "B>>A": -2.0}
"""Margin of assistant A."""
MIRRORED = {"B<<A": 2.0, "B<A": 1.0, "B=A": 0.0, "A<B": -1.0, "A<<B": -2.0}
"""The same verdicts written backwards; the 2025-06 script reads them, v0.1 counted them as no verdict."""
MIRRORED_FLAG = "mirrored-label"
_LABEL = re.compile(r"\[\[([AB<>=]+)\]\]")
_OFFICIAL = Sampling(max_new_tokens=4096, temperature=0.0)
GAMES = ("game1", "game2")


@dataclass(frozen=True)
class ArenaHardConfig:
    """Options of Arena-Hard in a recipe."""

    questions: QuestionSet = "pocket"
    """``pocket``: the embedded world's hard questions (120). ``official``: the 500 of v0.1, read from the assets."""
    split: Split = "test"
    """``dev``: pocket questions to choose hyperparameters on."""
    limit: int | None = None
    """Use only this many questions: those whose hashed ids come first."""
    max_new_tokens: int | None = None
    """Longest answer, tokens; null: 64 for pocket, 4096 for official."""
    temperature: float | None = None
    """Sampling temperature of the answers, 0 is greedy; null: 0.7 for pocket, 0 for official."""
    top_p: float = 1.0
    """Nucleus of the answers' sampling."""
    scorer: Literal["v0.1", "2025-06"] = "v0.1"
    """Which official script: they differ in what is dropped when a game has no verdict."""
    judge_max_tokens: int = 4096
    """Longest verdict text, tokens."""
    judge_temperature: float = 0.0
    """0 as official."""
    repeats: int = 1
    """Play each game this often and average its margin."""

    def __post_init__(self) -> None:
        check_common(self)
        if self.scorer not in ("v0.1", "2025-06"):
            raise ValueError(f"scorer must be v0.1 or 2025-06, got {self.scorer!r}")


class Battle(NamedTuple):
    """Weighted wins and total weight of one question."""

    wins: float
    weight: float


def battle(margins: Sequence[float], strong: float = STRONG_WEIGHT) -> Battle:
    """Margins of a question's games as weighted wins: (0.5 * weight for equal); an averaged margin interpolates.

    >>> battle([2.0, -1.0])
    Battle(wins=3.0, weight=4.0)
    """
    wins = weight = 0.0
    for margin in margins:
        heft = 1.0 + (strong - 1.0) * max(0.0, abs(margin) - 1.0)
        wins += heft * (0.5 + 0.5 * max(-1.0, min(1.0, margin)))
        weight += heft
    return Battle(wins, weight)


def read_label(text: str) -> Verdict:
    """Margin of assistant A by the official rule: labels that contradict each other are no verdict."""
    found = {label for label in _LABEL.findall(text) if label}
    if len(found) != 1:
        what = "no verdict label" if not found else f"contradicting labels {', '.join(sorted(found)[:4])}"
        return Verdict(None, f"{what} in the reply")
    label = found.pop()
    if label in LABELS:
        return Verdict(LABELS[label])
    if label in MIRRORED:
        return Verdict(MIRRORED[label], None, (MIRRORED_FLAG,))
    return Verdict(None, f"unknown label [[{label[:12]}]]")


@lru_cache(maxsize=1)
def _official_prompt() -> tuple[str, str]:
    """(system text, user template) of the official judge configuration."""
    import yaml

    from harness.assets import locate

    settings = yaml.safe_load(locate(PROMPT_FILE).read_text(encoding="utf-8"))
    return str(settings["system_prompt"]), str(settings["prompt_template"][0])


def _messages(question: Question, first: str, second: str, config: ArenaHardConfig) -> tuple[Message, ...]:
    if config.questions == "pocket":
        return pocket_prompts.pair_label(question.turns[:1], (first,), (second,))
    system, template = _official_prompt()
    values = {"question_1": question.turns[0], "answer_1": first, "answer_2": second}
    return ({"role": "system", "content": system}, {"role": "user", "content": fill(template, values)})


class ArenaHard:
    """The benchmark; see the head of this file."""

    name = "arena_hard"
    metrics: tuple[Metric, ...] = (Metric("arena_hard.wr", "WR (%)", "Arena-Hard"),)
    config = ArenaHardConfig
    judged = True
    version = 1
    answer_fields = ANSWER_FIELDS
    judge_fields: tuple[str, ...] = ("judge_max_tokens", "judge_temperature", "repeats")

    def questions(self, config: ArenaHardConfig) -> list[Question]:
        """The questions with the baseline's answers."""
        if config.questions == "pocket":
            return take(pocket_questions(self.name, config.split), self.name, config.limit)
        from harness.assets import locate

        baseline = {row["uid"]: row["messages"][-1]["content"]["answer"] for row in read_jsonl(locate(BASELINE_FILE))}
        found = [
            Question(
                row["uid"], (row["prompt"],), row["cluster"], (baseline[row["uid"]],), meta={"baseline": "gpt-4-0314"}
            )
            for row in read_jsonl(locate(QUESTION_FILE))
        ]
        return take(found, self.name, config.limit)

    def answer(
        self, model: ChatModel, questions: Sequence[Question], config: ArenaHardConfig, seed: int
    ) -> list[Answer]:
        """One answer per question."""
        sampling = sampling_of(config, _OFFICIAL)
        return ask(model, questions, lambda question: sampling, seed)

    def requests(self, question: Question, answer: Answer, config: ArenaHardConfig) -> list[Request]:
        """Both games; the model is assistant B in the first and A in the second."""
        games = []
        for part, model_first in zip(GAMES, (False, True), strict=True):
            texts = (answer.turns[0], question.baseline[0])
            first, second = texts if model_first else texts[::-1]
            games.append(
                Request(
                    question.id, part, _messages(question, first, second, config),
                    config.judge_max_tokens, config.judge_temperature, meta={"model_first": model_first},
                )
            )  # fmt: skip
        return repeated(games, config.repeats)

    def parse(self, request: Request, reply: Reply, config: ArenaHardConfig) -> Verdict:
        """The model's margin, -2 to 2."""
        read = read_label(reply.text)
        if read.value is None or request.meta.get("model_first", False):
            return read
        return Verdict(0.0 - read.value, read.reason, read.flags)  # 0.0 - 0.0 is 0.0, -0.0 is not

    def grade(self, question: Question, answer: Answer, config: ArenaHardConfig) -> list[Judgment]:
        """Nothing is graded by rule."""
        return []

    def score(
        self,
        questions: Sequence[Question],
        entrants: Mapping[str, Entrant],
        config: ArenaHardConfig,
        seed: int,
        replicates: int,
    ) -> dict[str, tuple[Score, ...]]:
        """Win rate of every entrant, questions resampled with both their games."""
        scorer = config.scorer
        return {key: (_score(questions, entrant, scorer, seed, replicates),) for key, entrant in entrants.items()}

    def card(self, config: ArenaHardConfig) -> Card:
        """The protocol."""
        sampling = sampling_of(config, _OFFICIAL)
        parameters = {**asdict(config), "max_new_tokens": sampling.max_new_tokens, "temperature": sampling.temperature}
        parameters["strong_weight"] = STRONG_WEIGHT
        deviations = ["The interval resamples questions; the official scripts resample verdicts, which is too narrow."]
        if config.questions == "pocket":
            version = "pocket 1 (Arena-Hard v0.1 protocol)"
            prompt_hash = text_hash(pocket_prompts.PROMPT_TEXTS["label"])
            deviations.insert(0, "Pocket questions, baseline answers and judge prompt of distilbench's own wording.")
        else:
            from harness.assets import asset

            version, prompt_hash = "Arena-Hard v0.1, baseline gpt-4-0314", asset(PROMPT_FILE).sha256[:12]
            deviations.append("A judge that gives no label is not asked to go on; the official script asks once more.")
        if config.limit is not None:
            deviations.append(f"At most {config.limit} questions.")
        return Card(self.name, f"{version}, scorer {config.scorer}", prompt_hash, parameters, tuple(deviations))


def _ratio(questions: Sequence[Question], judgments: Sequence[Judgment], scorer: str, strong: float) -> Ratio:
    import numpy as np

    if scorer == "v0.1":  # its script knows the five labels only; a mirrored one was a game without a verdict
        judgments = [judgment for judgment in judgments if MIRRORED_FLAG not in judgment.flags]
    read = verdicts(judgments)
    battles = []
    for question in questions:
        games = [read[question.id][game] for game in GAMES if game in read.get(question.id, {})]
        dropped = scorer == "2025-06" and len(games) < len(GAMES)
        battles.append(battle([] if dropped else games, strong))
    wins, weights = np.array(battles, dtype=float).reshape(-1, 2).T
    return Ratio(tuple(question.id for question in questions), wins, weights)


def _game_detail(read: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Win rate in each game alone, and how often the games disagree: what position does to this judge."""
    detail = {}
    for game in GAMES:
        battles = [battle([parts[game]]) for parts in read.values() if game in parts]
        if battles:
            detail[game] = 100 * sum(each.wins for each in battles) / sum(each.weight for each in battles)
    both = [parts for parts in read.values() if len(parts) == len(GAMES)]
    if both:
        detail["flips"] = fmean(float(parts["game1"] * parts["game2"] < 0) for parts in both)
    return detail


def _score(questions: Sequence[Question], entrant: Entrant, scorer: str, seed: int, replicates: int) -> Score:
    detail: dict[str, float | str] = {
        **answer_detail(questions, entrant),
        **reasons(entrant.judgments),
        **_game_detail(verdicts(entrant.judgments)),
    }
    for name, script, strong in (
        ("weight_1", scorer, 1.0),
        ("scorer_v0.1", "v0.1", STRONG_WEIGHT),
        ("scorer_2025-06", "2025-06", STRONG_WEIGHT),
    ):
        other = _ratio(questions, entrant.judgments, script, strong).value
        if other is not None:
            detail[name] = other
    if questions:
        detail["baseline_length"] = fmean(len(question.baseline[0]) for question in questions)
    ratio = _ratio(questions, entrant.judgments, scorer, STRONG_WEIGHT)
    return ratio_score("arena_hard.wr", ratio, replicates, seed, f"scorer {scorer}", detail)


BENCHMARK: Benchmark = ArenaHard()
