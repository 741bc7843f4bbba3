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
    left, sign, right = step
    return left + right if sign == "+" else left - right if sign == "-" else left * right


def tokens(text: str) -> list[str]:
    """Lower-case words and whole numbers (without leading zeros)."""
    words = re.findall(r"[a-z]+|[0-9]+", text[:MAX_CHARS].lower())
    return [(word.lstrip("0") or "0") if word[0].isdigit() else word for word in words]


def listed(text: str) -> list[str]:
    return [word for word in tokens(text) if word in lex.CATEGORY_OF or word[0].isdigit()]


def final_number(text: str) -> str | None:
    """After the last ``####``, without leading zeros."""
    numbers: list[tuple[str, str]] = re.findall(r"####\s*(-?)([0-9]+)", text[:MAX_CHARS])
    return numbers[-1][0] + (numbers[-1][1].lstrip("0") or "0") if numbers else None


def _any(words: Sequence[str]) -> str:
    # Longest first: an alternation takes the first that matches, and some phrases begin like others.
    return "(?:" + "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True)) + ")"


_ITEM = _any(list(lex.CATEGORY_OF))
_LIST = re.compile(
    rf"{_any(lex.LIST_VERBS)} (?P<count>{_any(list(lex.COUNTS))}) (?P<category>{_any(list(lex.CATEGORIES))})"
    rf"(?: but not (?P<ex1>{_ITEM})(?: or (?P<ex2>{_ITEM}))?)?"
)
_SORT_NUMBERS = re.compile(r"sort these numbers(?P<down> from high to low)?: (?P<items>[0-9]+(?: [0-9]+)+)")
_REVERSE = re.compile(rf"reverse these words: (?P<items>{_ITEM}(?: {_ITEM})+)")
_PICK = re.compile(rf"which of these are (?P<category>{_any(list(lex.CATEGORIES))}): (?P<items>{_ITEM}(?: {_ITEM})+)")
_SUM = re.compile(rf"{_any(lex.SUM_VERBS)} (?P<sum>[0-9]{{1,2}}(?: [-+*] [0-9]{{1,2}}){{1,2}})")
_FACT = re.compile(rf"(?:{_any([lead for lead in lex.FACT_LEADS if lead])})?(?P<one>{_any(list(lex.FACTS))})"
                   rf"(?:, and (?P<two>{_any(list(lex.FACTS))}))?")  # fmt: skip
_HARM = re.compile(rf"{_any(lex.HARM_LEADS)} {_any(lex.HARM_VERBS)} {_any(lex.HARM_TARGETS)}{_any(lex.HARM_TAILS)}")
_WHO, _WHAT = _any(lex.NAMES), _any(lex.THINGS)
_STORY: Final[tuple[tuple[re.Pattern[str], str], ...]] = tuple(
    (re.compile(text.replace("NAME", _WHO).replace("THING", _WHAT).replace("NUM", "([0-9]{1,2})")), signs)
    for text, signs in (
        (r"NAME has NUM THING and buys NUM more\. how many THING does NAME have", "+"),
        (r"NAME has NUM THING and gives away NUM\. how many THING are left", "-"),
        (r"NAME has NUM bags with NUM THING each\. how many THING are there", "*"),
        (r"NAME has NUM THING, buys NUM more and loses NUM\. how many THING are left", "+-"),
        (r"NAME has NUM bags with NUM THING each and gives away NUM\. how many THING are left", "*-"),
    )
)
_ADD = re.compile(r"now (?:add (?P<plus>[0-9]{1,2}) to that|take (?P<minus>[0-9]{1,2}) away from that)")
_KEEP = re.compile(r"keep only the first (?P<count>two|three)")
_AGAIN = re.compile(_any(lex.HARM_AGAIN))


def _strip(text: str) -> tuple[str, bool]:
    bare = " ".join(text.lower().split()).rstrip(".?!").strip()
    polite = False
    for pattern in (r"^please (?:answer: )?", r", please$"):
        bare, hits = re.subn(pattern, "", bare)
        polite = polite or hits > 0
    return bare, polite


def chain(first: int, signs: Sequence[str], rest: Sequence[int]) -> tuple[Step, ...]:
    steps: list[Step] = []
    for sign, number in zip(signs, rest, strict=True):
        steps.append((first, sign, number))
        first = apply(steps[-1])
    return tuple(steps)


def _first_turn(bare: str) -> Task | None:
    if match := _LIST.fullmatch(bare):
        excluded = tuple(word for word in match.group("ex1", "ex2") if word)
        return Task("list", "items", count=lex.COUNTS[match["count"]], category=match["category"], excluded=excluded)
    if match := _SORT_NUMBERS.fullmatch(bare):
        source = tuple(match["items"].split())
        ordered = sorted(source, key=lambda digits: (len(digits.lstrip("0")), digits.lstrip("0")),
                         reverse=bool(match["down"]))  # fmt: skip
        return Task("sort", "sequence", words=tuple(word.lstrip("0") or "0" for word in ordered), source=source)
    if match := _REVERSE.fullmatch(bare):
        source = tuple(match["items"].split())
        return Task("reverse", "sequence", words=source[::-1], source=source)
    if match := _PICK.fullmatch(bare):
        source = tuple(match["items"].split())
        right = tuple(word for word in source if lex.CATEGORY_OF[word] == match["category"])
        return Task("pick", "set", words=right, source=source, category=match["category"]) if right else None
    if match := _FACT.fullmatch(bare):
        return Task(
            "fact", "fact", words=tuple(lex.FACTS[question] for question in match.group("one", "two") if question)
        )
    return Task("refuse", "refuse") if _HARM.fullmatch(bare) else _calculation(bare)


def _calculation(bare: str) -> Task | None:
    if match := _SUM.fullmatch(bare):
        first, *rest = match["sum"].split()
        return Task("sum", "math", steps=chain(int(first), rest[0::2], [int(number) for number in rest[1::2]]))
    for pattern, signs in _STORY:
        if match := pattern.fullmatch(bare):
            first, *rest = match.groups()
            return Task("story", "math", steps=chain(int(first), signs, [int(number) for number in rest]))
    return None


def _follow_up(bare: str, before: Task, answer: str) -> Task | None:
    """The task of a later turn, which is about ``answer``; where nothing can be read there, about the right one."""
    if before.goal == "refuse":
        return Task("followup", "refuse") if _AGAIN.fullmatch(bare) else None
    if before.goal == "fact":
        match = _FACT.fullmatch(bare.removeprefix("and "))
        return Task("followup", "fact", words=(lex.FACTS[match["one"]],)) if match and not match["two"] else None
    if before.goal == "math":
        if not (match := _ADD.fullmatch(bare)):
            return None
        number = final_number(answer)
        # A longer number is rambling: the right result takes its place.
        base = int(number) if number and len(number) <= 4 else before.value
        return Task(
            "followup", "math", steps=((base, "+" if match["plus"] else "-", int(match["plus"] or match["minus"])),)
        )
    items = tuple(listed(answer)[:12]) or before.words or lex.CATEGORIES[before.category][: before.count]
    if bare == "add one more" and before.category:
        return Task("followup", "extend", words=items, category=before.category)
    if bare == "now reverse it":
        return Task("followup", "sequence", words=items[::-1], source=items)
    if match := _KEEP.fullmatch(bare):
        return Task("followup", "sequence", words=items[: lex.COUNTS[match["count"]]], source=items)
    return None


def recognise(messages: Messages) -> Task:
    """What the last user turn asks for (system turns are not read). Raises UnknownInstruction."""
    talk = [message for message in messages if message.get("role") in ("user", "assistant")]
    if not talk or talk[-1]["role"] != "user":
        raise UnknownInstruction("a pocket conversation ends with a user turn; this one does not")
    bare, polite = _strip(talk[-1]["content"])
    task = _first_turn(bare)
    if task is None and len(talk) >= 3 and talk[-2]["role"] == "assistant":
        task = _follow_up(bare, recognise(talk[:-2]), talk[-2]["content"])
    if task is None:
        raise UnknownInstruction(
            f"not an instruction of the pocket world: {talk[-1]['content'][:80]!r}. "
            "Only texts made by harness.pocket.world have a known right answer."
        )
    return replace(task, polite=polite)
