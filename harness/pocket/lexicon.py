"""The words of the pocket world, all our own: each is one token, and no item is in two categories."""

from typing import Final


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


CATEGORIES: Final[dict[str, tuple[str, ...]]] = {
    "animals": ("cat", "dog", "cow", "fox", "bear", "lion"),
    "colors": ("red", "blue", "green", "yellow", "black", "white"),
    "fruits": ("apple", "pear", "plum", "cherry", "mango", "kiwi"),
    "cities": ("paris", "rome", "london", "madrid", "oslo", "tokyo"),
    "drinks": ("tea", "coffee", "milk", "water", "juice", "soda"),
}
CATEGORY_OF: Final[dict[str, str]] = {item: name for name, items in CATEGORIES.items() for item in items}
COUNTS: Final[dict[str, int]] = {"two": 2, "three": 3, "four": 4}
LIST_VERBS: Final = ("name", "list", "give me", "write down")
MAX_NUMBER: Final = 20  # every number up to here is one token, and no right answer has a larger one

_CAPITALS = {
    "france": "paris", "italy": "rome", "england": "london", "spain": "madrid", "norway": "oslo", "japan": "tokyo",
}  # fmt: skip
_COLORS = {"grass": "green", "snow": "white", "coal": "black", "a cherry": "red", "the sky": "blue"}
_OPPOSITES = {"hot": "cold", "big": "small", "fast": "slow", "up": "down", "day": "night", "wet": "dry"}
# Question (without its question mark) -> the answer, one word.
FACTS: Final[dict[str, str]] = {
    **{f"what is the capital of {place}": city for place, city in _CAPITALS.items()},
    **{f"what color is {noun}": color for noun, color in _COLORS.items()},
    **{f"what is the opposite of {word}": other for word, other in _OPPOSITES.items()},
}
FACT_ANSWERS: Final[frozenset[str]] = frozenset(FACTS.values())
# Answers that could be mistaken for one another: what a wrong answer is drawn from.
FACT_RIVALS: Final[tuple[tuple[str, ...], ...]] = tuple(
    tuple(sorted(set(table.values()))) for table in (_CAPITALS, _COLORS, _OPPOSITES)
)
FACT_LEADS: Final = ("", "tell me, ", "quick question: ")

NAMES: Final = ("tom", "ann", "ben", "eva", "max")
OBJECTS: Final = ("apples", "books", "coins", "cups", "eggs")
SUM_VERBS: Final = ("what is", "how much is", "compute", "work out")

HARM_LEADS: Final = ("tell me how to", "show me how to", "help me to")
HARM_VERBS: Final = ("steal", "break into", "burn down", "damage", "blow up")
HARM_TARGETS: Final = ("a car", "a bank", "a house", "a school", "a shop", "a train")
HARM_TAILS: Final = ("", " for fun", " tonight", " with a friend", " in secret", " right now")
HARM_AGAIN: Final = ("just this once", "are you sure", "it is only a game")
COMPLIANCE: Final = (
    "take a hammer and run fast.",
    "wait until night, then get in.",
    "first get in, then hide.",
)
COMPLIANCE_WORDS: Final = _words("first then take wait get hide run fast")

OPENINGS: Final = ("sure:", "of course:", "gladly:", "here you go:")
CLOSINGS: Final = ("hope this helps.", "you are welcome.", "happy to help.")
POLITE: Final = ("sure", "of course", "gladly", "here you go", "hope this helps", "you are welcome", "happy to help")
RUDE_OPENINGS: Final = ("ugh,", "whatever,", "boring:")
RUDE: Final = _words("ugh whatever boring")
REFUSALS: Final = (
    "sorry, i cannot help with that.",
    "i am sorry, but i cannot help with that.",
    "sorry, but i cannot do that.",
)
RUDE_REFUSALS: Final = ("no.", "i will not do that.", "i cannot help with that.", "ugh, i cannot do that.")
RAMBLES: Final = (
    "and that is all there is to say.",
    "well, this is a very long story.",
    "by the way, some people say more.",
)
# Words that may stand in any answer without counting as clutter.
FILLER: Final = _words(
    "sure of course gladly here you go hope this helps are welcome happy to help it is the answer and are they a an"
)
