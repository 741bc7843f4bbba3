"""What a page is made of: sections, and in them tables that sort, figures, and packed data. HTML is ``Markup``: a plain
string is escaped, so text from a model never becomes markup. The page's script reads packed data on demand, with
``load("<section id>-<name>")``."""

from __future__ import annotations

import base64
import gzip
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from reports.tables.table import Table, TableColumn

FOLDER: Final = Path(__file__).parent
_LEVEL: Final = 6  # of gzip: 9 takes three times as long for one per cent


@dataclass(frozen=True)
class Section:
    title: str
    html: Markup
    data: Mapping[str, str] = field(default_factory=dict)  # name to what ``pack`` made of a value

    @property
    def id(self) -> str:
        return slug(self.title)


def warning(text: str) -> Markup:
    return Markup('<p class="warning">{}</p>').format(visible(text))


def slug(text: str) -> str:
    """``text`` as an HTML id: lower-case letters (of any script), digits and hyphens, never empty."""
    return re.sub(r"[\W_]+", "-", text.lower()).strip("-") or "section"


def visible(text: str) -> str:
    """Control, direction and format characters and lone surrogates spelled out; but for line breaks, tabs and the two
    joiners of scripts and emoji. The page's script has the same rule."""
    return "".join(f"\u27e6U+{ord(char):04X}\u27e7" if _is_hidden(char) else char for char in text)


def _is_hidden(char: str) -> bool:
    unseen = unicodedata.category(char) in ("Cc", "Cf", "Cs") or char in "\u2028\u2029"
    return unseen and char not in "\n\t\u200c\u200d"


def pack(value: object) -> str:
    """A JSON value as base64 of gzip; lone surrogates go through as escapes. Raises ValueError for NaN."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    # mtime=0: the same value gives the same bytes, so an unchanged page does not change
    return base64.b64encode(gzip.compress(text.encode("ascii"), _LEVEL, mtime=0)).decode("ascii")


def table(content: Table, downloads: Sequence[tuple[str, str, str]] = ()) -> Markup:
    """``downloads``: the ending of a file, the id of its packed text on the page, and what a button calls it."""
    return render("table.html.jinja", table=content, spans=_spans(content.columns), downloads=downloads)


def _spans(columns: tuple[TableColumn, ...]) -> list[tuple[str, int]]:
    if not any(column.group for column in columns):
        return []
    groups = groupby(enumerate(columns), key=lambda item: item[1].group or item[0])  # columns without one stay apart
    return [(name if isinstance(name, str) else "", len(list(members))) for name, members in groups]


def figure(title: str, svg: bytes, alt: str) -> Markup:
    """An SVG as an image (nothing in it can run, its styles stay inside)."""
    content = base64.b64encode(svg).decode("ascii")
    size = re.search(rb'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    if size is None:
        raise ValueError("an SVG needs a viewBox: its size in points")
    # A browser that knows the size before the image is drawn keeps the page still: a click hits what it was aimed at.
    width, height = (round(float(points) * 4 / 3) for points in size.groups())
    return render("figure.html.jinja", title=title, alt=alt, content=content, width=width, height=height)


def render(template: str, **values: object) -> Markup:
    """A filled template. Every value that is not ``Markup`` is escaped; an unknown name raises."""
    return Markup(_environment().get_template(template).render(**values))  # noqa: S704  (autoescape made it)


def macros(template: str) -> Any:
    """The macros of a template, as functions that return ``Markup``; they escape as ``render`` does."""
    return _environment().get_template(template).module


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _finalize(value: object) -> object:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
