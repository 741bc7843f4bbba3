"""Do training prompts contain benchmark questions? Exact matches and shared 13-word sequences, on normalised text.

13-grams are the contamination unit of Brown et al. 2020 (GPT-3, appendix C). Normalised: lower case, words,
numbers and the operators between numbers.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.types import Prompt, Question

NGRAM = 13
WORD = re.compile(r"\w+|(?<=\d)\s*[-+*/^=<>%×÷](?=\s*\d)")
"""Words, numbers, and operators between numbers: "11 - 7" is not "11 + 7"."""


@dataclass(frozen=True)
class Overlap:
    benchmark: str
    questions: int
    exact: tuple[str, ...]
    """Ids of questions of which a turn is also a training prompt's user turn."""
    ngram: tuple[str, ...]
    """Ids of questions that share a 13-word sequence with a training prompt (exact ones included when long enough)."""


def words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in WORD.findall(text.lower()))


def ngrams(tokens: Sequence[str]) -> Iterable[tuple[str, ...]]:
    """All sequences of 13 words; none from a shorter text."""
    return (tuple(tokens[i : i + NGRAM]) for i in range(len(tokens) - NGRAM + 1))


def overlap(prompts: Iterable[Prompt], benchmark: str, questions: Sequence[Question]) -> Overlap:
    """Compare every user turn of the prompts with every first turn of the questions."""
    turns = [message["content"] for prompt in prompts for message in prompt.messages if message["role"] == "user"]
    texts = {words(turn) for turn in turns}
    grams = {gram for tokens in texts for gram in ngrams(tokens)}
    # Later turns are follow-ups ("now sort it"): the same few words in many conversations, so only the whole
    # conversation up to them could leak, and its first turn is compared.
    first = [(question.id, words(question.turns[0])) for question in questions]
    return Overlap(
        benchmark=benchmark,
        questions=len(questions),
        exact=tuple(name for name, tokens in first if tokens in texts),
        ngram=tuple(name for name, tokens in first if not grams.isdisjoint(ngrams(tokens))),
    )
