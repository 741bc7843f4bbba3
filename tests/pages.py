"""What README and the pages of ``docs`` hold: code blocks, commands, and files that are named. For tests."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.command import ROOT

PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAMS = "distilbench|python|pip|tox"


class Text(NamedTuple):
    """A command or a code block, and the page where it stands (``docs/search.md``)."""

    page: str
    text: str


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    """Contents of a page's code blocks in this language."""
    return [text for kind, text in BLOCK.findall(read(page)) if kind == language]


def block(name: str, language: str, number: int = 0) -> str:
    return blocks(ROOT / "docs" / name, language)[number]


def snippets(*languages: str) -> list[Text]:
    """All code blocks in these languages."""
    found = [(page, kind, text) for page in PAGES for kind, text in BLOCK.findall(read(page))]
    return [Text(name_of(page), text) for page, kind, text in found if kind in languages]


def without_comment(line: str) -> str:
    """A shell line up to its comment, quotes as they stand."""
    quote = ""
    for place, letter in enumerate(line):
        if letter == "#" and not quote and line[place - 1 : place].isspace() | (place == 0):
            return line[:place]
        if letter in "'\"" and quote in ("", letter):
            quote = "" if quote else letter
    return line


def written(page: Path) -> Iterator[str]:
    """Every shell line of a page, every command in its running text, and in the comments that head its recipes."""
    text = read(page)
    for kind, content in BLOCK.findall(text):
        if kind == "sh":
            lines = content.replace("\\\n", " ").splitlines()
            yield from filter(None, (" ".join(without_comment(line).split()) for line in lines))
        elif kind == "yaml":
            yield from re.findall(r"^# [\w.]+: (distilbench .+)$", content, re.MULTILINE)
    for content in re.findall(rf"`((?:{PROGRAMS})\s[^`]+)`", BLOCK.sub("", text)):
        yield " ".join(content.split())


def shell_lines() -> list[Text]:
    """All of them, each once for a page: continued lines joined, white space single, comments left out."""
    return list(dict.fromkeys(Text(name_of(page), line) for page in PAGES for line in written(page)))


def first_command(line: str) -> list[str]:
    """The words of a shell line up to the pipe, redirection or ``&&`` after its first command; variables before it are
    left out."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words = list(itertools.takewhile(lambda word: not word or set(word) - set("();<>|&"), lexer))
    return list(itertools.dropwhile(lambda word: re.fullmatch(r"[A-Z_]+=.*", word), words))


def commands() -> list[Text]:
    """The lines that start ``distilbench``."""
    lines = [(page, first_command(line)) for page, line in shell_lines()]
    return list(dict.fromkeys(Text(page, shlex.join(words)) for page, words in lines if words[:1] == ["distilbench"]))
