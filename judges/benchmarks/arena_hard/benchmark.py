"""Arena-Hard: two games per question against a baseline, five verdict labels, two official scorers.

Li et al. 2024 (arXiv 2406.11939), lmarena/arena-hard-auto. Game 1 shows the baseline as assistant A, game 2 the model.
A verdict is stored as the model's margin: 2 much better, 1 better, 0 equal, -1, -2. A strong verdict weighs 3. Labels:
``judges/benchmarks/arena_hard/labels.py``. Scores, style control and intervals:
``judges/benchmarks/arena_hard/score.py``. Here is v0.1 (500 questions, baseline gpt-4-0314);
``judges/benchmarks/arena_hard/v2.py`` is v2.0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any, Literal

from harness.contracts.benchmark import Benchmark, Card, Entrant, Metric, QuestionSetSize
from harness.contracts.model import GeneratesText, Sampling
from harness.plural import counted
from harness.types import Answer, Judgment, Message, Question, Reply, Request, Score, Verdict
from judges.benchmarks import pocket_prompts
from judges.benchmarks.arena_hard.labels import GAMES, GO_ON, LABEL, read_label
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
    read_jsonl,
    repeated,
    sampling_of,
    take,
    text_hash,
)

Scorer = Literal["v0.1", "2025-06"]
SCORERS: tuple[Scorer, ...] = ("v0.1", "2025-06")
STRONG_WEIGHT = 3.0
PROMPT_FILE = "arena_hard_v0.1/judge_config.yaml"
_OFFICIAL = Sampling(max_new_tokens=4096, temperature=0.0)


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
    """Sampling temperature of the answers, 0 is greedy; null: 1 for pocket, 0 for official."""
    top_p: float = 1.0
    """Nucleus of the answers' sampling."""
    scorer: Scorer = "v0.1"
    """Which official script: they differ in what is dropped when a game has no verdict."""
    style_control: bool = False
    """Make the style-controlled win rate (length and markdown) the table's number; it stands in the details anyway."""
    judge_max_tokens: int = 4096
    """Longest verdict text, tokens."""
    judge_temperature: float = 0.0
    """0 as official."""
    ask_again: bool = True
    """Ask a judge that wrote no label once more, as the script of v0.1 does (that of 2025 does not)."""
    repeats: int = 1
    """Play each game this often and average its margin."""

    baseline: str | None = None
    """Compare with the answers in this file (of the official tool, or ours) instead of the protocol's baseline."""

    def __post_init__(self) -> None:
        check_common(self)
        if self.scorer not in SCORERS:
            raise ValueError(f"scorer must be {' or '.join(SCORERS)}, got {self.scorer!r}")


@dataclass(frozen=True)
class Rules:
    """How one call scores."""

    scorer: Scorer
    style: bool
    """Whether the table's number is the style-controlled win rate."""
    metric: str


@dataclass(frozen=True)
class ArenaSet:
    """An official set of questions: where it is and what its baseline is."""

    version: str
    questions: str
    """Asset with the questions, one JSON object a line: uid, category, prompt."""
    baseline: str
    """Model whose answers are the baseline."""
    answers: str
    """Asset with its answers."""
    judge: str
    """The judge of the official leaderboard."""
    category: str | None = None
    """Only the questions of this category."""
    read: Callable[[str], Verdict] = read_label
    """How its script reads a judge's reply."""
    system: Callable[[str], str] = str
    """Its system prompt, made from that of v0.1."""
    prompt_hash: str = ""
    """Of the prompt, where it is not that of v0.1."""
    size: QuestionSetSize | None = None
    """To plan with where its files are not here."""


V01 = ArenaSet(
    "Arena-Hard v0.1",
    "arena_hard_v0.1/question.jsonl",
    "gpt-4-0314",
    "arena_hard_v0.1/model_answer/gpt-4-0314.jsonl",
    "gpt-4-1106-preview",
    size=QuestionSetSize(questions=500, turns=1, characters=406, requests=2, request_characters=4160, reply_tokens=512),
)


@lru_cache(maxsize=1)
def _official_prompt() -> tuple[str, str]:
    """(system text, user template) of the official judge configuration of v0.1."""
    import yaml

    from harness.assets import locate

    settings = yaml.safe_load(locate(PROMPT_FILE).read_text(encoding="utf-8"))
    return str(settings["system_prompt"]), str(settings["prompt_template"][0])


def read_answers(rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, int | None]]:
    """uid to (answer, length in the official tokeniser's tokens where the file says it) of a ``model_answer`` file."""
    found = {}
    for row in rows:
        content = row["messages"][-1]["content"]
        counted = (row.get("metadata") or row.get("conv_metadata") or {}).get("token_len")
        found[row["uid"]] = (content["answer"] if isinstance(content, Mapping) else content, counted)
    return found


def load_set(official: ArenaSet) -> list[Question]:
    """The questions of an official set with the baseline's answers. Raises UserError when a file is missing."""
    from harness.assets import locate

    asked = read_jsonl(locate(official.questions))
    baseline = read_answers(read_jsonl(locate(official.answers)))
    questions = []
    for row in asked:
        if official.category is None or row["category"] == official.category:
            text, tokens = baseline[row["uid"]]
            meta = {"baseline": official.baseline} | ({} if tokens is None else {"baseline_token_len": tokens})
            category = row.get("cluster") or row.get("subcategory") or row["category"]
            questions.append(Question(row["uid"], (row["prompt"],), category, (text,), meta=meta))
    return questions


@dataclass(eq=False)
class ArenaHard:
    """The benchmark; see the head of this file."""

    name: str = "arena_hard"
    metrics: tuple[Metric, ...] = (Metric("arena_hard.wr", "WR (%)", "Arena-Hard", margin=2.0),)
    config: type[ArenaHardConfig] = ArenaHardConfig
    official: ArenaSet = V01
    verdicts: tuple[float, float] = (-2.0, 2.0)
    judged: bool = True
    pairwise: bool = True
    version: int = 1
    answer_fields: tuple[str, ...] = ANSWER_FIELDS
    judge_fields: tuple[str, ...] = ("judge_max_tokens", "judge_temperature", "ask_again", "repeats")

    def questions(self, config: ArenaHardConfig) -> list[Question]:
        """The questions with the baseline's answers."""
        pocket = config.questions == "pocket"
        found = pocket_questions(self.name, config.split) if pocket else load_set(self.official)
        return against(take(found, self.name, config.limit), config.baseline, self.name)

    def size(self, config: ArenaHardConfig) -> QuestionSetSize | None:
        """Of the official questions with the protocol's baseline."""
        return official_size(config, self.official.size)

    def answer(
        self, model: GeneratesText, questions: Sequence[Question], config: ArenaHardConfig, seed: int
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
                    question.id, part, self._messages(question, first, second, config),
                    config.judge_max_tokens, config.judge_temperature, meta={"model_first": model_first},
                )
            )  # fmt: skip
        return repeated(games, config.repeats)

    def _messages(self, question: Question, first: str, second: str, config: ArenaHardConfig) -> tuple[Message, ...]:
        if config.questions == "pocket":
            return pocket_prompts.pair_label(question.turns[:1], (first,), (second,))
        system, template = _official_prompt()
        user = fill(template, {"question_1": question.turns[0], "answer_1": first, "answer_2": second})
        return ({"role": "system", "content": self.official.system(system)}, {"role": "user", "content": user})

    def again(self, request: Request, reply: Reply, config: ArenaHardConfig) -> Request | None:
        """The second question of the script of v0.1 to a judge whose reply holds no label at all."""
        if not config.ask_again or config.questions == "pocket" or LABEL.search(reply.text):
            return None
        said: tuple[Message, ...] = (
            {"role": "assistant", "content": reply.text},
            {"role": "user", "content": GO_ON},
        )
        return replace(request, messages=request.messages + said)

    def parse(self, request: Request, reply: Reply, config: ArenaHardConfig) -> Verdict:
        """The model's margin, -2 to 2."""
        read = self.official.read(reply.text)
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
        from judges.benchmarks.arena_hard.score import score

        rules = Rules(config.scorer, config.style_control, self.metrics[0].id)
        return score(questions, entrants, rules, seed, replicates)

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

            version = f"{self.official.version}, baseline {self.official.baseline}"
            prompt_hash = self.official.prompt_hash or asset(PROMPT_FILE).sha256[:12]
            if config.ask_again != self.config.ask_again:
                deviations.append(f"A judge without a label is {'' if config.ask_again else 'not '}asked once more.")
        if config.baseline is not None:
            deviations.append(OTHER_BASELINE)
        if config.style_control:
            deviations.append("Style-controlled: not the plain win rate.")
        if config.limit is not None:
            deviations.append(f"At most {counted(config.limit, 'question')}.")
        version = f"{version}, scorer {config.scorer}"
        return Card(self.name, version, prompt_hash, parameters, tuple(deviations), self.official.judge)


BENCHMARK: Benchmark = ArenaHard()
