"""One HTML file from one or several targets of a run; the same results give the same bytes. Its Content-Security-Policy
names our script and style by hash and forbids the network: nothing in a model's text could run or call home even if
escaping failed."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Final

from markupsafe import Markup

from harness.errors import UserError
from reports.figures.style import figure_style, following_svg
from reports.formats.files import table_texts
from reports.page.question_browser import Questions, RequestsFunction, RunView, questions_section
from reports.page.run_card import JudgePrompt, PriceFunction, run_card, version_of
from reports.page.widgets import FOLDER, Section, figure, pack, render, slug, table
from reports.tables.table import Table
from results.run.lineage import ArtifactMarker
from results.run.record import BY_RULE
from results.run.results import Results, judged_benchmarks, stages_behind
from results.store.locks import write_atomic
from results.store.store import ArtifactStore

SCRIPTS: Final = (
    "data.js", "sortable.js", "diff.js", "question.js", "tips.js", "browser.js", "live.js",
)  # fmt: skip

FILES: Final = {"csv": "CSV", "json": "JSON", "tex": "LaTeX", "md": "Markdown"}


@dataclass(frozen=True)
class PageTarget:
    table: Table
    results: Results
    questions: Questions = field(default_factory=dict)
    price: PriceFunction = lambda benchmark, prompt_tokens, reply_tokens: None
    requests: Mapping[str, RequestsFunction] = field(default_factory=dict)
    prompts: Mapping[str, Sequence[JudgePrompt]] = field(default_factory=dict)  # by benchmark
    runs: str = ""  # --runs of the commands on the page, where it is not the usual one


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
    all_markers: list[ArtifactMarker] = []
    for target in targets:
        tables.append(table_section(target.table))
        benchmarks = judged_benchmarks(target.results, store, names)
        label = target.table.label
        view = RunView(label, target.results, benchmarks, target.questions, target.table.name, target.requests)
        runs.append(replace(view, runs=target.runs))
        markers, label = stages_behind(target.results, store), target.table.label if len(targets) > 1 else ""
        all_markers += markers
        cards.append(run_card(target.results, markers, target.price, label, target.prompts))
    sections = [*tables, *further, questions_section(runs), Section("Run card", Markup("\n").join(cards))]
    frame = replace(frame, top=top_of(targets, all_markers))
    return page(f"distilbench: {targets[0].results.run.name}", sections, frame)


def table_section(content: Table) -> Section:
    """The table, its files to download, and its figures as SVG, sharp at any size."""
    with figure_style():
        figures = [
            figure(
                f"{content.label}: {drawing.title}",
                following_svg(drawing.draw()),
                f"{content.title} Figure: {drawing.title}.",
            )
            for drawing in content.drawings
        ]
    texts = table_texts(content)
    downloads = [(kind, f"{slug(content.label)}-{kind}", title) for kind, title in FILES.items()]
    files = {kind: pack(text) for kind, text in texts.items()}
    return Section(content.label, Markup("").join([table(content, downloads), *figures]), files)


def top_of(targets: Sequence[PageTarget], markers: Sequence[ArtifactMarker]) -> Markup:
    """What the tables say, and when, by which version and from which recipe they were made."""
    run = targets[0].results.run
    # of the results, not of the last look at them: an unchanged run gives the same page
    made = max((str(marker["started"]) for marker in markers), default=run.created)
    models = f"{run.family.teacher} teaches {run.family.student}" if run.family.teacher else run.family.student
    judges = ", ".join(dict.fromkeys(judge for judge in run.judges.values() if judge != BY_RULE)) or BY_RULE
    facts = [
        ("Made", f"{datetime.fromisoformat(made):%d %B %Y, %H:%M} UTC"),
        ("By", version_of(markers)),
        ("Recipe", f"{run.recipe.get('name', run.name)}: {models}"),
        ("Judge", judges),
        ("Seeds", ", ".join(map(str, run.seeds))),
    ]
    said = [(target.table.label if len(targets) > 1 else "", target.table.summary) for target in targets]
    return render("top.html.jinja", said=said, facts=[fact for fact in facts if fact[1]])


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
