"""The documentation as a site: it is built without a warning, every page is in its navigation, its search finds."""

from __future__ import annotations

import functools
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.browsers import SECONDS, browser  # noqa: F401, a fixture
from tests.command import ROOT

GENERATED = {"commands.md", "notebook.md"}
"""Pages that ``scripts/site.py`` makes."""


def pages(entry: Any) -> Iterator[str]:
    """The files of a navigation, in their order."""
    if isinstance(entry, str):
        yield entry
    else:
        for child in entry if isinstance(entry, list) else entry.values():
            yield from pages(child)


def test_every_page_is_in_the_navigation_once() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = list(pages(yaml.safe_load(text)["nav"]))
    assert sorted(listed) == sorted({path.name for path in (ROOT / "docs").glob("*.md")} | GENERATED)
    assert len(listed) == 37


def test_coverage_of_intervals_is_what_was_simulated() -> None:
    """The table of docs/statistics.md against studies/coverage.json, in percent; official shares without digits."""
    measured = json.loads((ROOT / "studies" / "coverage.json").read_text(encoding="utf-8"))
    text = (ROOT / "docs" / "statistics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+) \| ([\d,]+) \| ([\d.]+)% \| ?(\d*)", text, re.MULTILINE)
    names = {
        "AlpacaEval 2 WR": "alpaca_eval.wr",
        "AlpacaEval 2 LC": "alpaca_eval.lc",
        "AlpacaEval 2 LC, own baseline": "alpaca_eval.lc head-to-head",
        "Arena-Hard WR": "arena_hard.wr",
        "MT-Bench": "mt_bench.score",
        "GSM8K": "gsm8k.acc",
    }
    assert [row[0] for row in rows] == list(names)
    for title, questions, covered, official in rows:
        of = measured[names[title]]
        assert int(questions.replace(",", "")) == of["questions"]
        assert float(covered) == pytest.approx(100 * of["coverage"], abs=0.051)
        shares = [round(100 * share) for share in of["official_coverage"].values()]
        assert shares == ([int(official)] if official else [])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


@pytest.mark.slow
def test_the_reference_has_all_commands_and_functions(site: Path) -> None:
    import typer

    import distilbench
    from distilbench.cli.app import app

    command: Any = typer.main.get_command(app)
    text = (site / "commands.html").read_text(encoding="utf-8")
    names = [name for name, child in command.commands.items() if not child.hidden]
    assert [name for name in names if f'id="distilbench-{name}"' not in text] == []
    assert len(names) == 28
    assert not re.search(r"\[/?(?:bold|cyan|dim)\]", text)  # signs of the terminal
    reference = (site / "api.html").read_text(encoding="utf-8")
    missing = [name for name in distilbench.__all__ if not re.search(rf'id="[\w.]+\.{name}"', reference)]
    assert missing == []


@pytest.mark.slow
def test_nothing_comes_from_other_servers(site: Path) -> None:
    """Scripts, styles and pictures are files of the site: it works without a network."""
    for page in site.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert re.findall(r'<(?:script|img)[^>]* src="(https?:[^"]*)', text) == []
        assert re.findall(r'<link[^>]*rel="stylesheet"[^>]*href="(https?:[^"]*)', text) == []


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """The site behind a server: a browser lets no page of a disk search."""
    handler = functools.partial(QuietHandler, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, the name in the library
        """Nothing is written for each request."""


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 800, 1440])
def test_pages_fit_and_the_search_finds(site: Path, address: str, browser: Any, width: int) -> None:  # noqa: F811
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.set_default_timeout(SECONDS)
    for name in sorted(path.name for path in site.glob("*.html")):
        page.goto(f"{address}/{name}")
        too_wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert too_wide <= 0, f"{name} is {too_wide} pixels too wide at {width}"
    page.goto(f"{address}/index.html")
    if width < 960:
        page.locator("label.md-header__button[for=__search]").click()
    page.locator(".md-search__input").fill("student_beta")
    page.locator(".md-search-result__link").first.wait_for()
    found = page.locator(".md-search-result__link").evaluate_all("links => links.map(link => link.href)")
    assert any("methods.html" in link or "recipe.html" in link for link in found)
    page.close()


PASTED = (
    "error: the recipe 'mine.yaml' has 2 mistakes:",
    "judge model 'gpt-4.1' at https://api.openai.com/v1 refused the key: HTTP 401",
    "memory ran out (CUDA out of memory. Tried to allocate 2.00 GiB)",
    "judge ledger runs/ledger.sqlite: database is locked. Another process holds it",
    "its worker process died twice (signal 9, SIGKILL, most likely because memory ran out)",
    "dpo: the loss is not finite at step 3; prompts of the batch: p1",
    "LC is n/a below 100 scored questions (50 here)",
    "You exceeded your current quota",
)


@pytest.mark.slow
def test_a_message_that_is_pasted_into_the_search_is_found(address: str, browser: Any) -> None:  # noqa: F811
    lost = {}
    for message in PASTED:
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(SECONDS)
        page.goto(f"{address}/index.html")
        page.locator(".md-search__input").fill(message)
        page.locator(".md-search-result__link").first.wait_for()
        found = page.locator(".md-search-result__link").evaluate_all("links => links.map(link => link.href)")[:5]
        if not any("troubleshooting.html" in link for link in found):
            lost[message] = found
        page.close()
    assert not lost
