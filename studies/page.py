"""How large the HTML page is at the size of the official benchmarks, and how fast it opens in a browser.

    PYTHONPATH=. python studies/page.py     # 805 + 500 + 80 + 1,319 questions x 11 rows, made up; needs chromium

Answers and replies are drawn word by word from a Zipf distribution, in the lengths that models of this size write;
gzip makes 2.5 times less of them, of AlpacaEval's GPT-4 answers 2.7 times. Every round is a fresh browser. Times, as
seconds on the clock and as CPU seconds of all the browser's processes: from the address until the tables sort
(``interactive``), until the first question stands there with both answers (``first question``), until the whole file
is read (``loaded``), and from a choice until it is shown: of another benchmark, of a question in another block. Where
other work shares the machine, CPU seconds and the fastest round say more than the median; all but the main thread's
part of the CPU seconds can go on at the same time.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from harness.contracts.benchmark import Metric
from harness.stats import seed_of
from harness.types import Answer, Judgment, Question, Request
from reports.page.page import PageTarget, write_page
from reports.page.question_browser import RequestsFunction
from reports.write import make_table
from results.store.store import ArtifactStore
from tests.reports.shelves import Book, make

ROWS = ("teacher", "student", "kd", "seqkd", "minillm", "dpo", "simpo", "pro", "pad-vpd", "pad-ppd", "adpa")
SIZES = {
    # questions, turns, characters of a question, of an answer's turn, judgments per turn, characters of a reply
    "alpaca_eval": (805, 1, 165, 1900, 1, 1),
    "arena_hard": (500, 1, 400, 2600, 2, 2000),
    "mt_bench": (80, 2, 250, 1500, 1, 700),
    "gsm8k": (1319, 1, 240, 600, 2, 0),
}
PROMPT = 1_600  # characters that a judge's prompt has around question and answers
TITLES = {"alpaca_eval": "AlpacaEval 2", "arena_hard": "Arena-Hard", "mt_bench": "MT-Bench", "gsm8k": "GSM8K"}
ROUNDS = 5


class Words:
    """Text of a wanted length: made-up words by Zipf's law, in sentences and paragraphs."""

    def __init__(self, count: int = 20_000) -> None:
        rng = np.random.default_rng(0)
        letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
        weights = 1 / (np.arange(26) + 2.0)
        lengths = rng.integers(2, 11, count)
        self.words = np.array(["".join(rng.choice(letters, size, p=weights / weights.sum())) for size in lengths])
        chances = 1 / (np.arange(count) + 2.7)
        self.reach = np.cumsum(chances / chances.sum())

    def text(self, characters: int, *seed: object) -> str:
        """About so many characters; the same for the same seed."""
        rng = np.random.default_rng(seed_of(*map(str, seed)))
        length = int(characters * rng.lognormal(-0.08, 0.4)) if characters > 1 else characters
        words = self.words[np.minimum(np.searchsorted(self.reach, rng.random(length // 6 + 1)), len(self.words) - 1)]
        ends = rng.random(len(words))
        sentences = [
            f"{word}{'.' + chr(10) * 2 if end < 0.015 else '. ' if end < 0.08 else ' '}"
            for word, end in zip(words, ends, strict=True)
        ]
        return "".join(sentences)[:length]


def book(name: str, words: Words, share: float) -> Book:
    """One benchmark of ``share`` of its official size."""
    count, turns, question_length, answer_length, games, reply_length = SIZES[name]
    questions = [
        Question(f"{name}-{number}", tuple(words.text(question_length, name, number, turn) for turn in range(turns)))
        for number in range(max(3, round(count * share)))
    ]

    def answer(question: Question, row: str, seed: int) -> Answer:
        texts = tuple(words.text(answer_length, question.id, row, seed, turn) for turn in range(turns))
        return Answer(question.id, texts, (True,) * turns, tuple(len(text) // 4 for text in texts))

    def key(*request: object) -> str:
        return hashlib.sha256(repr(request).encode()).hexdigest() if reply_length else ""  # by rule: no request

    @cache  # the scores ask again
    def judgments(question: str, row: str, seed: int) -> list[Judgment]:
        return [
            Judgment(question, f"turn{turn + 1} game{game + 1}", float(seed_of(question, row) % 100),
                     reply=words.text(reply_length, "reply", question, row, seed, turn, game),
                     request=key(question, row, turn, game))
            for turn in range(turns)
            for game in range(games)
        ]  # fmt: skip

    def judge(question: Question, row: str, seed: int) -> list[Judgment]:
        return judgments(question.id, row, seed)

    return Book(Metric(f"{name}.score", "Score", TITLES[name]), questions, answer, judge)


def requests_of(name: str, words: Words) -> RequestsFunction:
    """What the judge of a benchmark is asked: its prompt, the question and the answer."""
    _, turns, _, _, games, reply_length = SIZES[name]
    prompt = words.text(PROMPT, "prompt", name)

    def requests(question: Question, answer: Answer) -> list[Request]:
        return [
            Request(question.id, f"turn{turn + 1} game{game + 1}",
                    ({"role": "user", "content": f"{prompt}\n{question.turns[turn]}\n{answer.turns[turn]}"},), 2048)
            for turn in range(turns)
            for game in range(games if reply_length else 0)
        ]  # fmt: skip

    return requests


def build(share: float, folder: Path) -> tuple[Path, dict[str, Any]]:
    """The page's file, and how long it took to write."""
    words = Words()
    store = ArtifactStore(folder / "store")
    books = [book(name, words, share) for name in SIZES]
    results = make(store, books, ROWS, (0,))
    stored_bytes = sum(file.stat().st_size for file in (folder / "store").rglob("*.jsonl"))
    start = time.perf_counter()
    texts = {shelf.name: shelf.questions for shelf in books}
    target = PageTarget(
        make_table(results, "table1", 0.0), results, texts, requests={name: requests_of(name, words) for name in SIZES}
    )
    path = write_page(folder / "page.html", [target], store)
    write_seconds = time.perf_counter() - start
    counts = {shelf.name: len(shelf.questions) for shelf in books}
    sizes = {"stored_mb": round(stored_bytes / 1e6, 1), "page_mb": round(path.stat().st_size / 1e6, 1)}
    return path, {"questions": counts, "rows": len(ROWS), **sizes, "write_seconds": round(write_seconds, 1)}


def measure(path: Path, rounds: int) -> dict[str, Any]:
    """Per step over fresh browsers: median and least seconds on the clock, median CPU seconds."""
    from playwright.sync_api import sync_playwright

    times: dict[str, list[tuple[float, float]]] = {}
    with sync_playwright() as driver:
        for _ in range(rounds):
            others = set(psutil.Process().children(recursive=True))
            browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1400, "height": 900})
            processes = [process for process in psutil.Process().children(recursive=True) if process not in others]
            for name, step_times in open_page(page, path, processes).items():
                times.setdefault(name, []).append(step_times)
            browser.close()
    return {
        name: {
            "median": round(statistics.median(seconds for seconds, _ in runs_of_step), 2),
            "least": round(min(seconds for seconds, _ in runs_of_step), 2),
            "cpu": round(statistics.median(cpu for _, cpu in runs_of_step), 2),
        }
        for name, runs_of_step in times.items()
    }


def open_page(page: Any, path: Path, processes: Sequence[psutil.Process]) -> dict[str, tuple[float, float]]:
    """(Seconds, CPU seconds) of each step in one browser."""

    def cpu() -> float:
        return sum(sum(process.cpu_times()[:2]) for process in processes if process.is_running())

    def timer(act: Callable[[], object], selector: str) -> tuple[float, float]:
        start, cpu_start = time.perf_counter(), cpu()
        act()
        page.wait_for_selector(selector)
        return time.perf_counter() - start, cpu() - cpu_start

    def title(name: str) -> str:
        return f'#q-detail h3:text-is("{name}")'

    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    first_start, first_cpu = time.perf_counter(), cpu()
    address = path.as_uri()
    times = {"interactive": timer(lambda: page.goto(address, wait_until="commit"), "th button")}
    page.wait_for_selector("#q-detail .pair .text")
    times["first question"] = (time.perf_counter() - first_start, cpu() - first_cpu)
    page.wait_for_load_state("load")
    times["loaded"] = (time.perf_counter() - first_start, cpu() - first_cpu)
    times["loaded, main thread"] = (time.perf_counter() - first_start, main_thread(session))
    times["other benchmark"] = timer(lambda: page.select_option("#q-shelf", label="GSM8K"), title("gsm8k-0"))
    last = page.locator("#q-list li").count() - 1
    times["other block"] = timer(lambda: page.locator("#q-list").press("End"), title(f"gsm8k-{last}"))
    return times


def main_thread(session: Any) -> float:
    """CPU seconds of all tasks of the page's main thread so far."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return float(next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what was measured; ``--out`` keeps it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=1.0, help="of the official number of questions")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--keep", type=Path, help="copy the page to this file")
    parser.add_argument("--page", type=Path, help="open a page that was kept; what --out says of its making stays")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        if options.page:
            path, facts = options.page.absolute(), json.loads(options.out.read_text(encoding="utf-8"))
        else:
            path, facts = build(options.share, Path(folder))
        if options.keep:
            shutil.copy(path, options.keep)
        facts |= {"seconds": measure(path, options.rounds), "rounds": options.rounds}
        load = f"load average {os.getloadavg()[0]:.1f}, niceness {os.nice(0)}"
        facts |= {"machine": f"{platform.machine()}, {os.cpu_count()} cores, {load}"}
    text = json.dumps(facts, indent=1)
    options.out.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
