"""What the documentation site has beside docs/: the commands, the notebook, and the files of examples/.

Hooks of MkDocs, which ``mkdocs.yml`` names. The pages are made while the site is built, and are in no folder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
NOTEBOOK = "examples/read_a_run.ipynb"
INTRODUCTION = """# Commands

All commands with their options. `distilbench COMMAND --help` prints the same in a terminal.
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the generated pages, and the examples that pages link to."""
    files.append(File.generated(config, "commands.md", content=commands_page()))
    files.append(File.generated(config, "notebook.md", content=notebook_page(ROOT / NOTEBOOK)))
    for path in sorted((ROOT / "examples").rglob("*.*")):
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links between docs/ and examples/ lead into the site."""
    markdown = markdown.replace(f"](../{NOTEBOOK})", "](notebook.md)")
    return markdown.replace("](../examples/", "](examples/").replace("](../docs/", "](")


def commands_page() -> str:
    """Each command: its help, usage, arguments and options, as the command line states them."""
    import typer

    from distilbench.cli.app import app

    return "\n".join([INTRODUCTION, *sections(typer.main.get_command(app), "distilbench", 2)])


def sections(command: Any, name: str, level: int) -> Iterator[str]:
    """Markdown of a command and of those below it."""
    if name != "distilbench":
        context = command.make_context(name, [], resilient_parsing=True)
        yield f"{'#' * level} `{name}`\n\n{sentences(command.help)}\n"
        usage = " ".join([name, *command.collect_usage_pieces(context)])
        yield f"```console\n{usage}\n```\n"
        rows = [row for parameter in command.get_params(context) if (row := parameter.get_help_record(context))]
        yield "\n".join(
            [
                "| option | meaning |",
                "|---|---|",
                *(f"| {cell(term)} | {sentences(text, row=True)} |" for term, text in rows),
            ]
        )
        yield ""
        if command.epilog:
            yield f"{sentences(command.epilog)}\n"
    for child in getattr(command, "commands", {}).values():
        if not child.hidden:
            yield from sections(child, f"{name} {child.name}", min(level + (name != "distilbench"), 3))


def cell(term: str) -> str:
    return f"`{term}`".replace("|", r"\|")


def sentences(text: str | None, row: bool = False) -> str:
    """Help without the signs of the terminal; in a row of a table, on one line."""
    plain = re.sub(r"\[/?(?:bold|cyan|dim)\]", "", (text or "").replace("\f", "").replace("\b", ""))
    plain = plain.replace("<", "&lt;").replace("*", r"\*")
    return " ".join(plain.split()).replace("|", r"\|") if row else plain


def notebook_page(path: Path) -> str:
    """Its title, a link to the file, then text cells as they are and code cells as code blocks."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    texts = ["".join(each["source"]) for each in cells]
    title, _, rest = texts[0].partition("\n")
    parts = [title, f"This page is a notebook: [{path.name}](examples/{path.name}).", rest.strip()]
    for each, text in list(zip(cells, texts, strict=True))[1:]:
        parts.append(text if each["cell_type"] == "markdown" else f"```python\n{text}\n```")
    return "\n\n".join(part for part in parts if part) + "\n"
