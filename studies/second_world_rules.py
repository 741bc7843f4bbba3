"""The second world: short instructions whose answers rules grade. Plug-in with the source and the benchmark ``rules``.

    distilbench plan table1 --recipe studies/second_world.yaml --plugin studies/second_world_rules.py

An instruction is a question (a sum, numbers to sort, words to pick, a text about a topic) and up to four wishes about
its form. The score of an answer is the share of its rules that hold, in [0, 1]; an empty answer has 0. No model has a
say. Instructions are generated from seeds, and the hash of its text puts each into one of four splits, so ``teacher``,
``train``, ``dev`` and ``test`` share none.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Literal, NamedTuple

from harness.contracts.benchmark import Benchmark, Card, Entrant, Metric
from harness.contracts.model import GeneratesText, Sampling
from harness.contracts.options import Count, NoOptions, Temperature, Tokens, options
from harness.contracts.source import Pin, PromptSource
from harness.types import Answer, Judgment, Prompt, Question, Score
from judges.benchmarks.scoring import Ratio, entrant_detail, ratio_score, verdicts

Split = Literal["test", "dev", "teacher", "train"]
SHARES: Final[Mapping[Split, int]] = {"test": 1, "dev": 1, "teacher": 4, "train": 4}
"""Tenths of all instructions."""
VERSION: Final = 1
"""Raised when instructions or rules change: stored prompts and teachers are then not reused."""


MOST_DIGITS: Final = 15
"""Python refuses to read a number of thousands."""


class Kind(NamedTuple):
    """A kind of rule. ``wish``: how an instruction says it; empty where the question itself does."""

    holds: Callable[[str, Any], bool]
    wish: Callable[[Any], str] = lambda value: ""


def words_of(text: str) -> list[str]:
    return re.findall(r"[A-Za-z0-9]+(?:['-][A-Za-z0-9]+)*", text.lower())


def numbers_of(text: str) -> list[int]:
    """Whole numbers in digits; the commas of 1,000 are none."""
    found = re.findall(r"-?\d+", re.sub(r"(?<=\d),(?=\d{3}\b)", "", text))
    return [int(number) for number in found if len(number) <= MOST_DIGITS]


def lines_of(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def line_number(line: str) -> int | None:
    """Of ``2. text`` or ``2) text``."""
    match = re.match(r"(\d{1,3})[.)] ", line)
    return int(match[1]) if match else None


def sentence_count(text: str) -> int:
    return len(re.findall(r"\w[^.!?]*", re.sub(r"(?<=\d)\.(?=\d)", "", text)))


def _sorted_run(text: str, wanted: Sequence[int]) -> bool:
    numbers, size = numbers_of(text), len(wanted)
    return any(numbers[start : start + size] == list(wanted) for start in range(len(numbers) - size + 1))


def _json_object(text: str, key: str) -> bool:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and list(value) == [key]


KINDS: Final[Mapping[str, Kind]] = {
    "number": Kind(lambda text, value: numbers_of(text)[-1:] == [value]),
    "order": Kind(_sorted_run),
    "names": Kind(lambda text, value: set(value) <= set(words_of(text))),
    "avoids": Kind(lambda text, value: set(value).isdisjoint(words_of(text))),
    "about": Kind(lambda text, value: value in text.lower()),
    "bullets": Kind(
        lambda text, value: len(lines_of(text)) == value and all(re.match(r"[-*•] ", line) for line in lines_of(text)),
        lambda value: f"Write exactly {value} bullet points, one a line, each starting with a dash, and nothing else.",
    ),
    "numbered": Kind(
        lambda text, value: [line_number(line) for line in lines_of(text)] == list(range(1, value + 1)),
        lambda value: f"Write exactly {value} numbered lines, from 1. to {value}., and nothing else.",
    ),
    "sentences": Kind(
        lambda text, value: sentence_count(text) == value,
        lambda value: f"Write exactly {value} sentence{'s' * (value > 1)}.",
    ),
    "json": Kind(_json_object, lambda value: f'Reply with one JSON object that has only the key "{value}".'),
    "max_words": Kind(lambda text, value: len(words_of(text)) <= value, lambda value: f"Use at most {value} words."),
    "min_words": Kind(lambda text, value: len(words_of(text)) >= value, lambda value: f"Use at least {value} words."),
    "lower": Kind(lambda text, value: text == text.lower(), lambda value: "Use lower case letters only."),
    "upper": Kind(lambda text, value: text == text.upper(), lambda value: "Use CAPITAL LETTERS only."),
    "ends": Kind(lambda text, value: words_of(text)[-1:] == [value], lambda value: f'End with the word "{value}".'),
    "starts": Kind(lambda text, value: words_of(text)[:1] == [value], lambda value: f'Start with the word "{value}".'),
    "has": Kind(lambda text, value: value in words_of(text), lambda value: f'Use the word "{value}".'),
    "no_comma": Kind(lambda text, value: "," not in text, lambda value: "Do not use any comma."),
    "quoted": Kind(
        lambda text, value: len(text) > 2 and text[0] == text[-1] == '"',
        lambda value: "Put the whole answer in double quotes.",
    ),
}


class Rule(NamedTuple):
    kind: str
    value: Any = None

    def holds(self, answer: str) -> bool:
        """Of an answer that is not empty, white space at its ends aside."""
        return bool(answer.strip()) and KINDS[self.kind].holds(answer.strip(), self.value)


@dataclass(frozen=True)
class Task:
    """A question with the rules of its content, and wishes about the form."""

    topic: str
    question: str
    content: tuple[Rule, ...]
    form: tuple[Rule, ...] = ()

    @property
    def text(self) -> str:
        return " ".join([self.question, *(KINDS[rule.kind].wish(rule.value) for rule in self.form)])

    @property
    def rules(self) -> tuple[Rule, ...]:
        return (*self.content, *self.form)

    @property
    def messages(self) -> tuple[dict[str, str], ...]:
        return ({"role": "user", "content": self.text},)

    def score(self, answer: str) -> float:
        return score(self.rules, answer)


def score(rules: Sequence[Rule], answer: str) -> float:
    """The share of the rules that hold."""
    return sum(rule.holds(answer) for rule in rules) / len(rules)


NAMES: Final = ("Anna", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Henry", "Iris", "Jack", "Kate", "Leo")
THINGS: Final = ("apples", "books", "coins", "eggs", "marbles", "pencils", "shells", "stamps", "tickets", "cards")
TENS: Final = ("", "", "twenty", "thirty", "forty")
UNITS: Final = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "animals": ("cat", "horse", "rabbit", "tiger", "whale", "goat", "eagle", "frog"),
    "colors": ("red", "blue", "yellow", "purple", "brown", "white", "gray", "pink"),
    "fruits": ("banana", "cherry", "grape", "lemon", "mango", "peach", "pear", "plum"),
    "tools": ("hammer", "saw", "wrench", "drill", "shovel", "pliers", "chisel", "rake"),
    "countries": ("france", "japan", "kenya", "peru", "norway", "india", "canada", "egypt"),
}
TOPICS: Final = (
    *("the sea", "winter", "trains", "bread", "music", "sleep", "gardens", "the moon", "books", "rain", "coffee"),
    *("mountains", "dogs", "bridges", "birthdays", "chess", "rivers", "soup", "kites", "museums", "friends", "bees"),
    *("clocks", "football", "islands", "painting", "volcanoes", "school", "cheese", "forests", "bicycles", "letters"),
    *("markets", "snow", "dancing", "deserts", "maps", "farms", "the sun", "libraries", "ships", "tea", "mirrors"),
)
LEADS: Final = ("Write about {}.", "Describe {}.", "Say something about {}.", "Tell a child about {}.")
ENDINGS: Final = ("done", "today", "always", "thanks", "again", "forever")
OPENINGS: Final = ("well", "today", "yes", "sometimes", "here", "first")
HELPERS: Final = ("green", "small", "because", "people", "water", "never", "old", "light")
LAYOUTS: Final = ("bullets", "numbered", "sentences", "json")


def number_word(number: int) -> str:
    """Of 0 to 49."""
    tens, unit = divmod(number, 10)
    return UNITS[number] if number < len(UNITS) else TENS[tens] + (f"-{UNITS[unit]}" if unit else "")


def _sum(rng: random.Random) -> Task:
    sign = rng.choice("+-*")
    a, b = (rng.randint(2, 9), rng.randint(2, 9)) if sign == "*" else (rng.randint(11, 40), rng.randint(2, 10))
    result = {"+": a + b, "-": a - b, "*": a * b}[sign]
    name, things = rng.choice(NAMES), rng.choice(THINGS)
    word = {"+": "plus", "-": "minus", "*": "times"}[sign]
    story = {
        "+": f"{name} has {a} {things} and gets {b} more. How many {things} does {name} have now?",
        "-": f"{name} has {a} {things} and gives {b} away. How many {things} are left?",
        "*": f"{name} has {a} boxes with {b} {things} each. How many {things} are there?",
    }[sign]
    plain = rng.choice((f"What is {a} {word} {b}?", f"What is {number_word(a)} {word} {number_word(b)}, in digits?"))
    return Task("sum", rng.choice((story, plain)), (Rule("number", result),))


def _sort(rng: random.Random) -> Task:
    numbers = rng.sample(range(1, 60), rng.choice((3, 4, 4, 5)))
    down = rng.random() < 0.5
    order = "largest to smallest" if down else "smallest to largest"
    question = f"Sort these numbers from {order}: {', '.join(map(str, numbers))}."
    return Task("sort", question, (Rule("order", tuple(sorted(numbers, reverse=down))),))


def _pick(rng: random.Random) -> Task:
    group = rng.choice(list(GROUPS))
    others = [word for name, members in GROUPS.items() if name != group for word in members]
    members, wrong = rng.sample(GROUPS[group], rng.choice((1, 2, 2))), rng.sample(others, 2)
    shown = rng.sample(members + wrong, len(members) + 2)
    question = f"Which of these are {group}: {', '.join(shown)}? Name only those."
    return Task("pick", question, (Rule("names", tuple(members)), Rule("avoids", tuple(wrong))))


def _write(rng: random.Random) -> Task:
    topic = rng.choice(TOPICS)
    return Task("write", rng.choice(LEADS).format(topic), (Rule("about", re.sub(r"^the |(?<!s)s$", "", topic)),))


QUESTIONS: Final = (_sum, _write, _sort, _write, _pick, _write)
"""In turn: half of the instructions ask for a text."""


def with_form(task: Task, rng: random.Random) -> Task:
    """The same question with fresh wishes, which one answer can fulfil together."""
    text = task.topic == "write"
    layout = rng.choice((*LAYOUTS, "", "")) if text else rng.choice(("sentences", "json", "", ""))
    rules = []
    if layout:
        low, high = (2, 4) if layout in ("bullets", "numbered") else (1, 3 if text else 1)
        rules.append(
            Rule(layout, rng.choice(("answer", "text", "reply")) if layout == "json" else rng.randint(low, high))
        )
    free = layout in ("", "sentences")  # the first and the last word are not the layout's
    further = [
        *([Rule(rng.choice(("lower", "upper")))] if layout != "json" else []),
        Rule("max_words", rng.choice((12, 16, 20, 24) if text else (8, 10, 12))),
        *([Rule("min_words", rng.choice((15, 20, 25)))] if text else []),
        *([Rule("ends", rng.choice(ENDINGS)), Rule("starts", rng.choice(OPENINGS)), Rule("quoted")] if free else []),
        *([Rule("has", rng.choice(HELPERS))] if text else []),
        *([Rule("no_comma")] if task.topic in ("write", "sum") else []),
    ]
    count = rng.randint(max(1, 2 - len(rules)), 3)
    chosen = rng.sample(further, min(count, len(further)))
    kinds = {rule.kind for rule in chosen}
    if {"max_words", "min_words"} <= kinds:
        chosen = [rule for rule in chosen if rule.kind != "max_words"]
    return Task(task.topic, task.question, task.content, (*rules, *chosen))


def split_of(text: str) -> Split:
    bucket = int(hashlib.sha256(text.encode()).hexdigest(), 16) % sum(SHARES.values())
    for split, share in SHARES.items():
        if bucket < share:
            return split
        bucket -= share
    raise AssertionError(bucket)


def fresh_form(task: Task, split: Split, rng: random.Random) -> Task:
    """``with_form``, drawn until the instruction is of ``split``."""
    while split_of((found := with_form(task, rng)).text) != split:
        pass
    return found


def tasks(split: Split, seed: int = 0) -> Iterator[Task]:
    """Distinct instructions without end: equal arguments give equal ones on any machine."""
    rng, used, number = random.Random(f"second-world/{split}/{seed}"), set[str](), 0
    while True:
        task = fresh_form(QUESTIONS[number % len(QUESTIONS)](rng), split, rng)
        if task.text not in used:
            used.add(task.text)
            number += 1
            yield task


class RulePrompts(PromptSource[NoOptions]):
    """Source ``rules``: instructions of the split ``train``, without reference answers."""

    name = "rules"
    summary = "short instructions whose answers rules grade; generated"
    config = NoOptions
    lengths = (80, 45)
    size = 20_000

    def pin(self, config: NoOptions) -> Pin:
        return Pin({"version": VERSION}, pairs=False, golden=False, size=self.size)

    def prompts(self, config: NoOptions, identity: Mapping[str, object], seed: int) -> Iterator[Prompt]:
        for number, task in enumerate(islice(tasks("train", seed), self.size)):
            yield Prompt(f"rules-train-{seed}-{number}", task.messages, source=self.name)


@options
class RuleOptions:
    """Options of the benchmark."""

    split: Literal["test", "dev"] = "test"
    """``dev``: to choose options on."""
    size: Count = 240
    """How many questions: a larger set holds a smaller one."""
    max_new_tokens: Tokens = 64
    """Longest answer, tokens."""
    temperature: Temperature = 0.0
    """0: greedy."""


class Rules(Benchmark[RuleOptions]):
    """Benchmark ``rules``: the mean share of rules that hold, and the share of answers whose rules all hold."""

    name = "rules"
    metrics = (Metric("rules.score", "Rules kept (%)", "Rules"), Metric("rules.all", "All kept (%)", "Rules"))
    config = RuleOptions
    verdicts = (0.0, 1.0)
    needs_judge = False
    version = VERSION

    def questions(self, config: RuleOptions) -> list[Question]:
        return [
            Question(f"rules-{config.split}-{n}", (task.text,), task.topic, meta={"rules": list(map(list, task.rules))})
            for n, task in enumerate(islice(tasks(config.split), config.size))
        ]

    def answer_tokens(self, config: RuleOptions) -> int:
        return min(45, config.max_new_tokens)

    def answer(
        self, model: GeneratesText, questions: Sequence[Question], config: RuleOptions, seed: int
    ) -> list[Answer]:
        talks = [[{"role": "user", "content": question.turns[0]}] for question in questions]
        rows = model.generate(talks, Sampling(config.max_new_tokens, config.temperature), seed)
        return [
            Answer(question.id, (response.text,), (response.finished,), (response.tokens,))
            for question, (response,) in zip(questions, rows, strict=True)
        ]

    def grade(self, question: Question, answer: Answer, config: RuleOptions) -> list[Judgment]:
        share = score([Rule(kind, value) for kind, value in question.meta["rules"]], answer.turns[0])
        return [Judgment(question.id, "score", share), Judgment(question.id, "all", float(share == 1.0))]

    def score(
        self,
        questions: Sequence[Question],
        entrants: Mapping[str, Entrant],
        config: RuleOptions,
        seed: int,
        replicates: int,
    ) -> dict[str, tuple[Score, ...]]:
        return {name: self._scores(questions, entrant, seed, replicates) for name, entrant in entrants.items()}

    def _scores(self, questions: Sequence[Question], entrant: Entrant, seed: int, replicates: int) -> tuple[Score, ...]:
        found, detail = verdicts(entrant.judgments), entrant_detail(questions, entrant, needs_judge=False)
        ratios = (
            (metric, [[found[q.id][part]] if part in found.get(q.id, {}) else [] for q in questions])
            for metric, part in zip(self.metrics, ("score", "all"), strict=True)
        )
        return tuple(
            ratio_score(metric.id, Ratio.of_sums(questions, values), replicates, seed, "", detail)
            for metric, values in ratios
        )

    def card(self, config: RuleOptions) -> Card:
        greedy = {"max_new_tokens": config.max_new_tokens, "temperature": config.temperature}
        return Card(self.name, str(VERSION), "none", {"split": config.split, "size": config.size, **greedy})


SOURCE = RulePrompts()
BENCHMARK = Rules()
