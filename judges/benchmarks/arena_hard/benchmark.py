"""Arena-Hard: two games per question against a baseline, five verdict labels, two official scorers.

Li et al. 2024 (arXiv 2406.11939), lmarena/arena-hard-auto, v0.1 and v2.0 (2025-04). Game 1 shows the baseline as
assistant A, game 2 the model. A verdict is the model's margin: 2 much better, 1 better, 0 equal, -1, -2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import yaml

from harness.assets import asset, locate
from harness.contracts.benchmark import Card, Entrant, Metric, QuestionSetSize, against
from harness.contracts.model import Sampling
from harness.contracts.options import PathText, Repeats, Temperature, Tokens, options, require
from harness.errors import UserError
from harness.types import Answer, Message, Question, Reply, Request, Score, Verdict
from judges.benchmarks import pocket_prompts
from judges.benchmarks.answer_files import Row, dig, has, name_of, number_of, read_jsonl, require_field, shorten
from judges.benchmarks.arena_hard import score as rules
from judges.benchmarks.arena_hard.score import read_label, read_last_label
from judges.benchmarks.arena_hard.style_control import Scorer, style_control
from judges.benchmarks.arena_hard.token_counts import baseline_counts, token_counter
from judges.benchmarks.base import BenchmarkBase, BenchmarkConfig, QuestionProtocol, fill, pocket_set, repeat_requests
from judges.benchmarks.judge_prompt import PAIR_PLACES, own_pair
from judges.benchmarks.scoring import ratio_score

PROMPT_FILE = "arena_hard_v0.1/judge_config.yaml"


@options
class ArenaHardConfig(BenchmarkConfig):
    """Options of Arena-Hard in a recipe. Pocket has 120 questions, official 500 (4096 tokens, temperature 0)."""

    scorer: Scorer = "v0.1"
    """Which official script: they differ in what is dropped when a game has no verdict, and in style control."""
    style_control: bool = False
    """Make the style-controlled win rate (length and markdown) the table's number; it stands in the details anyway."""
    count_tokens: bool = False
    """Count all answers' tokens for style control with tiktoken, as the official scripts do; false: the counts in the
    files, or characters where an answer has none."""
    judge_max_tokens: Tokens = 4096
    """Longest verdict text, tokens."""
    judge_temperature: Temperature = 0.0
    """0 as official."""
    ask_again: bool = True
    """Ask a judge that wrote no label once more, as the script of v0.1 does (that of 2025 does not)."""
    repeats: Repeats = 1
    """Play each game this often and average its margin."""
    baseline: PathText | None = None
    """Compare with the answers in this file (of the official tool, or ours) instead of the protocol's baseline."""
    judge_prompt: str | None = None
    """A judge prompt of yours, which is not official: a file (or the text) with ``{question}``, ``{answer_a}`` and
    ``{answer_b}`` that asks for one of the labels [[A>>B]], [[A>B]], [[A=B]], [[B>A]], [[B>>A]]."""


Prompt = Callable[[Question, str, str], tuple[Message, ...]]
"""(question, answer of assistant A, answer of assistant B) -> messages."""


@dataclass(frozen=True)
class ArenaHardVersion:
    """An official version: its questions, its baseline model, its leaderboard's judge, how its script asks and reads.

    ``folder`` of the assets holds ``question.jsonl`` and the baseline's ``model_answer``. ``system`` makes the system
    prompt from that of v0.1; ``prompt_hash`` is stated where it is another.
    """

    name: str
    folder: str
    baseline: str
    judge: str
    category: str | None = None
    read: Callable[[str], Verdict] = read_label
    system: Callable[[str], str] = str
    prompt_hash: str = ""
    size: QuestionSetSize | None = None

    def files(self, config: ArenaHardConfig) -> Sequence[str]:
        answers = () if config.baseline is not None else (f"{self.folder}/model_answer/{self.baseline}.jsonl",)
        return (f"{self.folder}/question.jsonl", *answers, *(() if config.judge_prompt is not None else (PROMPT_FILE,)))

    def load(self, config: ArenaHardConfig) -> list[Question]:
        questions = [
            Question(row["uid"], (row["prompt"],), row.get("cluster") or row.get("subcategory") or row["category"])
            for row in read_jsonl(locate(f"{self.folder}/question.jsonl"))
            if self.category in (None, row["category"])
        ]
        if config.baseline is not None:  # the answers in that file stand in for the protocol's, which may not be here
            return questions
        file = f"{self.folder}/model_answer/{self.baseline}.jsonl"
        try:
            answer_rows = read_jsonl(locate(file))
        except UserError as error:
            raise UserError(
                f"{error} Or let baseline name a file of other answers: a head-to-head comparison."
            ) from error
        for row, count in zip(answer_rows, baseline_counts().get(self.baseline, ()), strict=False):
            row["metadata"] = {"token_len": count}
        answers = [
            replace(answer[1], question=row["uid"])
            for row in answer_rows
            if (answer := ArenaHard.read_answer(row, file)) is not None
        ]
        return against(questions, answers, self.baseline)

    def prompt(self, question: Question, first: str, second: str) -> tuple[Message, ...]:
        system, template = _official_prompt()
        user = fill(template, {"question_1": question.turns[0], "answer_1": first, "answer_2": second})
        return ({"role": "system", "content": self.system(system)}, {"role": "user", "content": user})

    def as_set(self) -> QuestionProtocol[ArenaHardConfig, Prompt]:
        return QuestionProtocol(
            self.load, self.prompt, Sampling(max_new_tokens=4096, temperature=0.0),
            lambda config: f"{self.name}, baseline {self.baseline}",
            lambda config: self.prompt_hash or asset(PROMPT_FILE).sha256[:12],
            self.read, rules.CONTINUE, self.size, self.files,
        )  # fmt: skip


V01 = ArenaHardVersion(
    "Arena-Hard v0.1", "arena_hard_v0.1", "gpt-4-0314", "gpt-4-1106-preview",
    size=QuestionSetSize(questions=500, turns=1, characters=406, requests=2, request_characters=4160, reply_tokens=512),
)  # fmt: skip


@lru_cache(maxsize=1)
def _official_prompt() -> tuple[str, str]:
    settings = yaml.safe_load(locate(PROMPT_FILE).read_text(encoding="utf-8"))
    return str(settings["system_prompt"]), str(settings["prompt_template"][0])


def _pocket_prompt(question: Question, first: str, second: str) -> tuple[Message, ...]:
    return pocket_prompts.pair_label(question.turns[:1], (first,), (second,))


class ArenaHard(BenchmarkBase[ArenaHardConfig, Prompt]):
    verdicts = (-2.0, 2.0)
    spreads = (35.0,)  # up to 33
    spread_source = "pocket alone"
    pairwise = True
    judge_fields: tuple[str, ...] = ("judge_prompt", "judge_max_tokens", "judge_temperature", "ask_again", "repeats")
    score_fields: tuple[str, ...] = ("scorer", "style_control", "count_tokens", "baseline")
    places, needed = PAIR_PLACES, ("answer_a", "answer_b")

    def __init__(
        self, metric: Metric, config: type[ArenaHardConfig], official: ArenaHardVersion, version: int = 1
    ) -> None:
        self.name = metric.id.partition(".")[0]
        self.metrics, self.config, self.version = (metric,), config, version
        self.official_judge = official.judge
        # The pocket questions belong to v0.1: the options of v2.0 refuse them.
        self.sets = {"official": official.as_set(), "pocket": POCKET}

    @staticmethod
    def read_answer(row: Row, location: str) -> tuple[str, Answer] | None:
        """A row of a ``model_answer`` file, of 2025 (``uid``, ``messages``) or of v0.1's time (``choices``)."""
        if has(row, "games"):
            return None
        uid = name_of(row.get("uid", row.get("question_id")))
        model = require_field(row, "model" if "model" in row else "model_id", str, location)
        metadata, thinking = row.get("metadata") or row.get("conv_metadata") or {}, tuple[str, ...]()
        if not isinstance(metadata, Mapping):
            raise UserError(f"{location}: metadata must be an object, got {shorten(metadata)}")
        tokens = metadata.get("token_len")
        if has(row, "messages"):
            turn = dig(require_field(row, "messages", list, location)[-1:], 0)
            content = None if dig(turn, "role") == "user" else dig(turn, "content")
            text = dig(content, "answer") if isinstance(content, Mapping) else content
            if isinstance(thought := dig(content, "thought"), str) and thought:
                thinking = (thought,)
        else:
            turn = dig(require_field(row, "choices", list, location), 0, "turns", 0)
            text = dig(turn, "content")
            tokens = tokens or dig(turn, "token_len")
        if not isinstance(text, str):
            raise UserError(f"{location}: no answer text in this row")
        count = number_of(tokens)
        if count is None or not count.is_integer():
            return model, Answer(uid, (text,), (), (), thinking=thinking)
        return model, Answer(uid, (text,), (), (int(count),), {"token_len": int(count)}, thinking)

    def questions(self, config: ArenaHardConfig) -> list[Question]:
        if config.count_tokens:
            token_counter(config.scorer)  # refused before anything is answered or judged
        return super().questions(config)

    def requests(self, question: Question, answer: Answer, config: ArenaHardConfig) -> list[Request]:
        model, baseline = answer.turns[0], question.baseline[0]
        own, limits = self.own_prompt(config), (config.judge_max_tokens, config.judge_temperature)
        prompt = own_pair(own) if own else self.sets[config.questions].prompt
        games = []
        for part, model_first in zip(rules.GAMES, (False, True), strict=True):
            messages = prompt(question, *((model, baseline) if model_first else (baseline, model)))
            games.append(Request(question.id, part, messages, *limits, meta={"model_first": model_first}))
        return repeat_requests(games, config.repeats)

    def second_request(self, request: Request, reply: Reply, config: ArenaHardConfig) -> Request | None:
        """The second question of the script of v0.1 to a judge whose reply holds no label at all."""
        continuation = self.sets[config.questions].continuation
        if not config.ask_again or not continuation or rules.LABEL.search(reply.text):
            return None
        talk: list[Message] = [{"role": "assistant", "content": reply.text}, {"role": "user", "content": continuation}]
        return replace(request, messages=(*request.messages, *talk))

    def score(
        self, questions: Sequence[Question], entrants: Mapping[str, Entrant], config: ArenaHardConfig,
        seed: int, replicates: int,
    ) -> dict[str, tuple[Score, ...]]:  # fmt: skip
        """Win rate of every entrant, plain or style-controlled; questions are resampled with both their games."""
        metric, scorer = self.metrics[0].id, config.scorer
        ratios = {name: rules.weighted_wins(questions, entrant.judgments, scorer) for name, entrant in entrants.items()}
        count = token_counter(scorer) if config.count_tokens else None
        # Style control needs the entrants of the call together: they share its coefficients.
        fits = style_control(questions, entrants, ratios, scorer, count, replicates, seed)
        scores: dict[str, tuple[Score, ...]] = {}
        for name, entrant in entrants.items():
            ratio, fit = ratios[name], fits.get(name)
            detail = rules.score_detail(questions, entrant, ratio, scorer, seed) | rules.style_detail(fit, ratio)
            if config.style_control:
                scores[name] = (rules.style_score(metric, scorer, ratio, fit, detail),)
            else:
                scores[name] = (ratio_score(metric, ratio, replicates, seed, f"scorer {scorer}", detail),)
        return scores

    def deviations(self, config: ArenaHardConfig) -> list[str]:
        departures = ["The interval resamples questions; the official scripts resample verdicts, which is too narrow."]
        if self.sets[config.questions].continuation and config.ask_again != self.config.ask_again:
            departures.append(f"A judge without a label is {'' if config.ask_again else 'not '}asked once more.")
        if config.style_control:
            departures.append("Style-controlled: not the plain win rate.")
        return departures

    def card(self, config: ArenaHardConfig) -> Card:
        card = super().card(config)
        return replace(card, version=f"{card.version}, scorer {config.scorer}")

    def parameters(self, config: ArenaHardConfig) -> dict[str, object]:
        return {"strong_weight": rules.STRONG_WEIGHT}


POCKET: QuestionProtocol[ArenaHardConfig, Prompt] = pocket_set(
    "arena_hard", "Arena-Hard v0.1", _pocket_prompt, "label",
    ("Pocket questions, baseline answers and judge prompt of distilbench's own wording.",), read_label,
)  # fmt: skip
BENCHMARK = ArenaHard(Metric("arena_hard.wr", "WR (%)", "Arena-Hard", margin=2.0), ArenaHardConfig, V01)


_WRITING_PROMPT = "171489efbca7f19fb520e1b3c23783c76af7c723e770fe897a55f391684aa358"
"""sha256 of the published system prompt for creative writing (``utils/judge_utils.py`` of arena-hard-auto)."""


def writing_prompt(system: str) -> str:
    """That of v0.1 without the judge's own answer. Raises UserError."""
    paragraphs = [text for text in system.split("\n\n") if not text.startswith("Begin your evaluation by")]
    writing = "\n\n".join(paragraphs).replace("both assistants' answers with your answer.", "both assistants' answers.")
    if hashlib.sha256(writing.encode()).hexdigest() != _WRITING_PROMPT:
        raise UserError(f"{PROMPT_FILE} does not hold the system prompt of Arena-Hard v0.1: pull it again.")
    return writing


V2_HARD = ArenaHardVersion(
    "Arena-Hard v2.0, hard prompts", "arena_hard_v2.0", "o3-mini-2025-01-31", "gpt-4.1", "hard_prompt", read_last_label,
    size=QuestionSetSize(500, turns=1, characters=1208, requests=2, request_characters=6711, reply_tokens=512),
)  # fmt: skip
V2_WRITING = ArenaHardVersion(
    "Arena-Hard v2.0, creative writing", "arena_hard_v2.0", "gemini-2.0-flash-001", "gpt-4.1", "creative_writing",
    read_last_label, writing_prompt, _WRITING_PROMPT[:12],
)  # fmt: skip


@options
class ArenaHardV2Config(ArenaHardConfig):
    """Options of Arena-Hard v2.0 in a recipe."""

    questions: Literal["pocket", "official"] = "official"
    """Only ``official``: the questions of v2.0, read from the assets."""
    scorer: Scorer = "2025-06"
    """Which official script: they differ in what is dropped when a game has no verdict, and in style control."""
    judge_max_tokens: Tokens = 16_000
    """Longest verdict text, tokens."""
    ask_again: bool = False
    """Ask a judge that wrote no label once more, as the script of v0.1 does (that of 2025 does not)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        rule = "questions must be official (questions=official): the pocket questions belong to arena_hard"
        require(self.questions == "official", rule)


V2_BENCHMARK = ArenaHard(
    Metric("arena_hard_v2.wr", "WR (%)", "Arena-Hard v2.0", margin=2.0), ArenaHardV2Config, V2_HARD, version=2
)
V2_WRITING_BENCHMARK = ArenaHard(
    Metric("arena_hard_v2_writing.wr", "WR (%)", "Arena-Hard v2.0 (writing)"), ArenaHardV2Config, V2_WRITING
)
