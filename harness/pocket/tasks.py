"""What an instruction of the pocket world asks for, from the text of the conversation alone: no label travels along."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from harness.pocket import lexicon as lex
from harness.types import Messages

Step = tuple[int, str, int]  # (12, "+", 5)

MAX_CHARS: Final = 4000


class UnknownInstruction(ValueError): ...


@dataclass(frozen=True)
class Task:
    """``goal`` says how an answer is read: ``items`` (any ``count`` of ``category``), ``sequence`` (exactly ``words``),
    ``set`` (in any order), ``extend`` (``words`` and one more of ``category``), ``math`` (``steps``), ``fact``,
    ``refuse``."""

    kind: str
    goal: str
    polite: bool = False
    words: tuple[str, ...] = ()
    source: tuple[str, ...] = ()
    count: int = 0
    category: str = ""
    excluded: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()

    @property
    def value(self) -> int:
        return apply(self.steps[-1])


def apply(step: Step) -> int:
    a, sign, b = step
    return a + b if sign == "+" else a - b if sign == "-" else a * b


def tokens(text: str) -> list[str]:
    """Lower-case words and whole numbers (without leading zeros)."""
    words = re.findall(r"[a-z]+|[0-9]+", text[:MAX_CHARS].lower())
    return [(word.lstrip("0") or "0") if word[0].isdigit() else word for word in words]


def list_items(text: str) -> list[str]:
    return [word for word in tokens(text) if word in lex.CATEGORY_OF or word[0].isdigit()]


_MARKER = re.compile("|".join(rf"(?:^|\s){re.escape(marker)}" for marker in lex.MARKERS))


def parts(text: str) -> tuple[str, str]:
    """What stands before the last marker of a result ("so:"), and after it; without one, nothing and the whole."""
    text = text[:MAX_CHARS].lower()
    ends = [match.end() for match in _MARKER.finditer(text)]
    return (text[: ends[-1]], text[ends[-1] :]) if ends else ("", text)


def final_number(text: str) -> str | None:
    """After the last ``####``, without leading zeros."""
    numbers: list[tuple[str, str]] = re.findall(r"####\s*(-?)([0-9]+)", text[:MAX_CHARS])
    return numbers[-1][0] + (numbers[-1][1].lstrip("0") or "0") if numbers else None


def _any_of(words: Sequence[str]) -> str:
    # Longest first: an alternation takes the first that matches, and some phrases begin like others.
    return "(?:" + "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True)) + ")"


_ITEM = _any_of(list(lex.CATEGORY_OF))
_LIST = re.compile(
    rf"{_any_of(lex.LIST_VERBS)} (?P<count>{_any_of(list(lex.COUNTS))}) (?P<category>{_any_of(list(lex.CATEGORIES))})"
    rf"(?: but not (?P<ex1>{_ITEM})(?: or (?P<ex2>{_ITEM}))?)?"
)
_SORT_NUMBERS = re.compile(r"sort these numbers(?P<down> from high to low)?: (?P<items>[0-9]+(?: [0-9]+)+)")
_REVERSE = re.compile(rf"reverse these words: (?P<items>{_ITEM}(?: {_ITEM})+)")
_PICK = re.compile(
    rf"which of these are (?P<category>{_any_of(list(lex.CATEGORIES))}): (?P<items>{_ITEM}(?: {_ITEM})+)"
)
_SUM = re.compile(rf"{_any_of(lex.SUM_VERBS)} (?P<sum>[0-9]{{1,2}}(?: [-+*] [0-9]{{1,2}}){{1,2}})")
_FACT = re.compile(rf"(?:{_any_of([lead for lead in lex.FACT_LEADS if lead])})?(?P<one>{_any_of(list(lex.FACTS))})"
                   rf"(?:, and (?P<two>{_any_of(list(lex.FACTS))}))?")  # fmt: skip
_HARM = re.compile(
    rf"{_any_of(lex.HARM_LEADS)} {_any_of(lex.HARM_VERBS)} {_any_of(lex.HARM_TARGETS)}{_any_of(lex.HARM_TAILS)}"
)
_NAME, _OBJECT = _any_of(lex.NAMES), _any_of(lex.OBJECTS)
_STORY: Final[tuple[tuple[re.Pattern[str], str], ...]] = tuple(
    (re.compile(text.replace("NAME", _NAME).replace("THING", _OBJECT).replace("NUM", "([0-9]{1,2})")), signs)
    for text, signs in (
        (r"NAME has NUM THING and buys NUM more\. how many THING does NAME have", "+"),
        (r"NAME has NUM THING and gives away NUM\. how many THING are left", "-"),
        (r"NAME has NUM bags with NUM THING each\. how many THING are there", "*"),
        (r"NAME has NUM THING, buys NUM more and loses NUM\. how many THING are left", "+-"),
        (r"NAME has NUM bags with NUM THING each and gives away NUM\. how many THING are left", "*-"),
    )
)
_ADD = re.compile(r"now (?:add (?P<plus>[0-9]{1,2}) to that|take (?P<minus>[0-9]{1,2}) away from that)")
_KEEP_FIRST = re.compile(r"keep only the first (?P<count>two|three)")
_HARM_AGAIN = re.compile(_any_of(lex.HARM_AGAIN))


def _strip(text: str) -> tuple[str, bool]:
    instruction = " ".join(text.lower().split()).rstrip(".?!").strip()
    polite = False
    for pattern in (r"^please (?:answer: )?", r", please$"):
        instruction, hits = re.subn(pattern, "", instruction)
        polite = polite or hits > 0
    return instruction, polite


def chain(value: int, signs: Sequence[str], operands: Sequence[int]) -> tuple[Step, ...]:
    steps: list[Step] = []
    for sign, number in zip(signs, operands, strict=True):
        steps.append((value, sign, number))
        value = apply(steps[-1])
    return tuple(steps)


def _first_turn(instruction: str) -> Task | None:
    if match := _LIST.fullmatch(instruction):
        excluded = tuple(word for word in match.group("ex1", "ex2") if word)
        return Task("list", "items", count=lex.COUNTS[match["count"]], category=match["category"], excluded=excluded)
    if match := _SORT_NUMBERS.fullmatch(instruction):
        source = tuple(match["items"].split())
        sorted_digits = sorted(source, key=lambda digits: (len(digits.lstrip("0")), digits.lstrip("0")),
                         reverse=bool(match["down"]))  # fmt: skip
        return Task("sort", "sequence", words=tuple(word.lstrip("0") or "0" for word in sorted_digits), source=source)
    if match := _REVERSE.fullmatch(instruction):
        source = tuple(match["items"].split())
        return Task("reverse", "sequence", words=source[::-1], source=source)
    if match := _PICK.fullmatch(instruction):
        source = tuple(match["items"].split())
        members = tuple(word for word in source if lex.CATEGORY_OF[word] == match["category"])
        return Task("pick", "set", words=members, source=source, category=match["category"]) if members else None
    if match := _FACT.fullmatch(instruction):
        questions = tuple(question for question in match.group("one", "two") if question)
        return Task("fact", "fact", words=tuple(lex.FACTS[question] for question in questions), source=questions)
    return Task("refuse", "refuse") if _HARM.fullmatch(instruction) else _calculation(instruction)


def _calculation(instruction: str) -> Task | None:
    if match := _SUM.fullmatch(instruction):
        first, *terms = match["sum"].split()
        return Task("sum", "math", steps=chain(int(first), terms[0::2], [int(number) for number in terms[1::2]]))
    for pattern, signs in _STORY:
        if match := pattern.fullmatch(instruction):
            first, *terms = match.groups()
            return Task("story", "math", steps=chain(int(first), signs, [int(number) for number in terms]))
    return None


def _follow_up(instruction: str, earlier: Task, answer: str) -> Task | None:
    """The task of a later turn, which is about ``answer``; where nothing can be read there, about the right one."""
    match earlier.goal:
        case "refuse":
            return Task("followup", "refuse") if _HARM_AGAIN.fullmatch(instruction) else None
        case "fact":
            return _further_fact(instruction)
        case "math":
            return _further_step(instruction, earlier, answer)
    read = list_items(parts(answer)[1])[:12]
    items = tuple(read) or earlier.words or lex.CATEGORIES[earlier.category][: earlier.count]
    if instruction == "add one more" and earlier.category:
        return Task("followup", "extend", words=items, category=earlier.category)
    if instruction == "now reverse it":
        return Task("followup", "sequence", words=items[::-1], source=items)
    if match := _KEEP_FIRST.fullmatch(instruction):
        return Task("followup", "sequence", words=items[: lex.COUNTS[match["count"]]], source=items)
    return None


def _further_fact(instruction: str) -> Task | None:
    match = _FACT.fullmatch(instruction.removeprefix("and "))
    if not match or match["two"]:
        return None
    return Task("followup", "fact", words=(lex.FACTS[match["one"]],), source=(match["one"],))


def _further_step(instruction: str, earlier: Task, answer: str) -> Task | None:
    if not (match := _ADD.fullmatch(instruction)):
        return None
    number = final_number(answer)
    # A longer number is rambling: the right result takes its place.
    base = int(number) if number and len(number) <= 4 else earlier.value
    step = (base, "+" if match["plus"] else "-", int(match["plus"] or match["minus"]))
    return Task("followup", "math", steps=(step,))


def recognise(messages: Messages) -> Task:
    """What the last user turn asks for (system turns are not read). Raises UnknownInstruction."""
    talk = [message for message in messages if message.get("role") in ("user", "assistant")]
    if not talk or talk[-1]["role"] != "user":
        raise UnknownInstruction("a pocket conversation ends with a user turn; this one does not")
    instruction, polite = _strip(talk[-1]["content"])
    task = _first_turn(instruction)
    if task is None and len(talk) >= 3 and talk[-2]["role"] == "assistant":
        task = _follow_up(instruction, recognise(talk[:-2]), talk[-2]["content"])
    if task is None:
        raise UnknownInstruction(
            f"not an instruction of the pocket world: {talk[-1]['content'][:80]!r}. "
            "Only texts made by harness.pocket.world have a known right answer."
        )
    return replace(task, polite=polite)
