"""One HTML file from one or several targets of a run; the same results give the same bytes. Its Content-Security-Policy
names our script and style by hash and forbids the network: nothing in a model's text could run or call home even if
escaping failed."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from markupsafe import Markup

from harness.errors import UserError
from reports.figures.style import figure_bytes, figure_style
from reports.page.question_browser import Questions, RequestsFunction, RunView, questions_section
from reports.page.run_card import PriceFunction, run_card
from reports.page.widgets import FOLDER, Section, figure, render, slug, table
from reports.tables.table import Table
from results.run.results import Results, judged_benchmarks, stages_behind
from results.store.locks import write_atomic
from results.store.store import ArtifactStore

SCRIPTS: Final = (
    "data.js",
    "sortable.js",
    "diff.js",
    "question.js",
    "browser.js",
    "live.js",
)


@dataclass(frozen=True)
class PageTarget:
    table: Table
    results: Results
    questions: Questions = field(default_factory=dict)
    price: PriceFunction = lambda benchmark, prompt_tokens, reply_tokens: None
    requests: Mapping[str, RequestsFunction] = field(default_factory=dict)


@dataclass(frozen=True)
class Frame:
    """What ``distilbench view`` puts around a page. ``attributes``: of the body, for the script (``data-events``)."""

    top: Markup = field(default_factory=Markup)
    links: Sequence[tuple[str, str]] = ()  # address and text
    attributes: Mapping[str, str] = field(default_factory=dict)


EMPTY: Final = Frame()


def write_page(
    path: Path,
    targets: Sequence[PageTarget],
    store: ArtifactStore,
    further: Sequence[Section] = (),
    names: Mapping[str, str] | None = None,
) -> Path:
    """Write the page, whole or not at all, and return its path. The rest as of ``page_of``."""
    return write_atomic(path, page_of(targets, store, further, names).encode("utf-8"))


def page_of(
    targets: Sequence[PageTarget],
    store: ArtifactStore,
    further: Sequence[Section] = (),
    names: Mapping[str, str] | None = None,
    frame: Frame = EMPTY,
) -> str:
    """The page. What is gone or damaged is said in its place. ``further``: sections before the questions; ``names``:
    judges by artifact key. Raises UserError without a part."""
    if not targets:
        raise UserError("a page needs at least one target (table1, for instance)")
    tables, runs, cards = [], [], []
    for target in targets:
        tables.append(table_section(target.table))
        benchmarks = judged_benchmarks(target.results, store, names)
        label = target.table.label
        runs.append(RunView(label, target.results, benchmarks, target.questions, target.table.name, target.requests))
        markers, label = stages_behind(target.results, store), target.table.label if len(targets) > 1 else ""
        cards.append(run_card(target.results.run, markers, target.price, label, target.results.scores))
    sections = [*tables, *further, questions_section(runs), Section("Run card", Markup("\n").join(cards))]
    return page(f"distilbench: {targets[0].results.run.name}", sections, frame)


def table_section(content: Table) -> Section:
    """The table and its figures as SVG, sharp at any size."""
    with figure_style():
        figures = [
            figure(
                f"{content.label}: {drawing.title}",
                figure_bytes(drawing.draw(), "svg"),
                f"{content.title} Figure: {drawing.title}.",
            )
            for drawing in content.drawings
        ]
    return Section(content.label, Markup("").join([table(content), *figures]))


def page(title: str, sections: Sequence[Section], frame: Frame = EMPTY) -> str:
    """Raises UserError where two sections have one title."""
    ids = [section.id for section in sections]
    repeated_ids = sorted({name for name in ids if ids.count(name) > 1})
    if repeated_ids:
        raise UserError(f"a page cannot have two sections with one title: {', '.join(repeated_ids)}")
    chunks = {f"{section.id}-{slug(name)}": content for section in sections for name, content in section.data.items()}
    for content in chunks.values():
        if not re.fullmatch(r"[A-Za-z0-9+/=]*", content):  # anything else could end the element that it stands in
            raise ValueError("a section's data must be what reports.page.widgets.pack made")
    # both stand inline: the policy allows exactly these two texts, by hash
    script, style = joined_scripts(), (FOLDER / "static" / "page.css").read_text(encoding="utf-8")
    return render(
        "page.html.jinja",
        title=title,
        sections=sections,
        top=frame.top,
        links=frame.links,
        attributes=frame.attributes,
        script=Markup(script),  # noqa: S704  (files of this package)
        style=Markup(style),  # noqa: S704
        script_hash=digest(script),
        style_hash=digest(style),
        chunks={name: Markup(content) for name, content in chunks.items()},  # noqa: S704  (checked above)
    )


def joined_scripts() -> str:
    texts = [(FOLDER / "static" / name).read_text(encoding="utf-8") for name in SCRIPTS]
    return "\n".join(['(() => {\n"use strict";', *texts, "})();\n"])


def digest(text: str) -> str:
    """How a Content-Security-Policy names an inline script or style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
