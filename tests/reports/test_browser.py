"""The page in a real browser: it opens without an error, sorts, shows questions, and runs nothing of theirs.

``tests/browsers.py`` says which browser.
"""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from reports.page.widgets import FOLDER, visible
from results.run.results import judged_benchmarks
from tests.browsers import SECONDS, browser
from tests.reports.shelves import HOSTILE, REFUSAL, books, rows, the_page, write

expect.set_options(timeout=SECONDS)

__all__ = ["browser"]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return the_page(tmp_path_factory.mktemp("page"))[0]


class OpenPage:
    """A page in a window of its own, with all that it said and asked for."""

    def __init__(self, browser: Any, address: str, **window: Any) -> None:
        self.context = browser.new_context(**({"viewport": {"width": 1400, "height": 900}} | window))
        self.page = self.context.new_page()
        self.page.set_default_timeout(SECONDS)
        self.console_messages: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.console_messages.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.console_messages.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("dialog", lambda dialog: self.console_messages.append(f"dialog: {dialog.message}"))
        self.page.goto(address)
        self.settle()

    def settle(self) -> None:
        self.page.wait_for_selector("#q-detail[aria-busy=false]")

    def column(self, number: int) -> list[str]:
        """The main texts of a column of the first table, of the rows that are shown."""
        cells = f"#table-1 tbody tr:not([hidden]) > :nth-child({number}) > :first-child"
        return list(self.page.locator(cells).all_inner_texts())

    def head(self, number: int) -> Any:
        return self.page.locator("#table-1 thead tr:last-child th").nth(number - 1)

    def choose(self, control: str, label: str) -> None:
        self.page.select_option(f"#q-{control}", label=label)
        self.settle()

    def list_items(self) -> list[str]:
        return self.page.locator("#q-list li .snippet").all_text_contents()  # those out of sight too

    def title(self) -> str:
        return str(self.page.inner_text("#q-detail h3"))

    def answers(self) -> list[str]:
        return self.page.locator("#q-detail .pair").first.locator(".text").all_inner_texts()


@pytest.fixture(scope="module")
def shared(browser: Any, path: Path) -> Iterator[OpenPage]:
    page = OpenPage(browser, path.as_uri())
    yield page
    page.context.close()


@pytest.fixture
def page(shared: OpenPage, path: Path) -> Iterator[OpenPage]:
    """The page, opened anew in the same window; nothing may have gone wrong in it."""
    shared.page.goto("about:blank")
    shared.console_messages.clear()
    shared.requests.clear()
    shared.page.goto(path.as_uri())
    shared.settle()
    yield shared
    assert shared.console_messages == []
    assert shared.page.evaluate("window.hacked") is None
    outside = [url for url in shared.requests if not url.startswith(("file://", "data:image/svg+xml", "about:"))]
    assert outside == []


def test_it_opens_whole(page: OpenPage) -> None:
    assert page.page.title() == visible(f"distilbench: made-up {HOSTILE}")
    assert page.page.locator("h2").all_inner_texts() == ["Table 1", "Questions", "Run card"]
    assert page.title() == "q0 (lists)"
    assert "The student names apple, pear and plum of question q0 with seed 0." in page.answers()
    page.page.locator("figure img").scroll_into_view_if_needed()
    width_script = "async (image) => { await image.decode(); return image.naturalWidth; }"
    assert page.page.locator("figure img").evaluate(width_script) > 100
    # The place of the image is known before it is drawn: nothing moves under the mouse when it is.
    shape = "(image) => image.width / image.height * (image.naturalHeight / image.naturalWidth)"
    assert page.page.locator("figure img").evaluate(shape) == pytest.approx(1, abs=0.01)
    assert page.page.locator("figure img[width][height]").count() == page.page.locator("figure img").count()


def test_tables_sort_both_ways_and_back(page: OpenPage) -> None:
    before = page.column(1)
    assert before == ["TEACHER", "STUDENT", "DPO"]
    page.head(2).locator("button").click()
    assert page.head(2).get_attribute("aria-sort") == "descending"
    down = [float(text) for text in page.column(2)]
    assert down == sorted(down, reverse=True)
    page.head(2).locator("button").press("Enter")  # the keyboard does the same
    assert page.head(2).get_attribute("aria-sort") == "ascending"
    assert [float(text) for text in page.column(2)] == sorted(down)
    page.head(1).locator("button").click()
    assert page.column(1) == ["DPO", "STUDENT", "TEACHER"]
    assert page.head(2).get_attribute("aria-sort") is None
    page.page.locator("#table-1 [data-reset]").click()
    assert page.column(1) == before


def test_rows_are_filtered(page: OpenPage) -> None:
    field = page.page.locator("#table-1 [data-filter]")
    field.fill("D p")
    assert page.column(1) == ["DPO"]
    page.head(2).locator("button").click()
    assert page.column(1) == ["DPO"]
    field.fill("")
    assert len(page.column(1)) == len(rows())


def test_missing_values_stay_last(browser: Any) -> None:
    """n/a has no value to sort by; text is sorted as people count: 2 before 10."""
    page = browser.new_page()
    page.set_content(
        "<table>" + "".join(f"<tr><td{f' data-sort={v}' if v else ''}>{v}</td></tr>" for v in ("2", "", "-1.5", "10")) +
        "</table>"
    )  # fmt: skip
    for name in ("data.js", "sortable.js"):
        page.add_script_tag(content=(FOLDER / "static" / name).read_text(encoding="utf-8"))
    sort = "(way) => sortedRows([...document.querySelectorAll('tr')], 0, way).map((row) => row.textContent)"
    assert page.evaluate(sort, "ascending") == ["-1.5", "2", "10", ""]
    assert page.evaluate(sort, "descending") == ["10", "2", "-1.5", ""]
    page.close()


def test_any_two_answers_side_by_side(page: OpenPage) -> None:
    book = books()[0]
    page.choose("a", "TEACHER, seed 0")
    page.choose("b", "DPO, seed 1")
    page.page.locator("#q-list li").nth(2).click()
    page.settle()
    question = book.questions[2]
    texts = [book.answer(question, row, seed).turns[0] for row, seed in (("teacher", 0), ("dpo", 1))]
    assert page.answers() == texts
    names = page.page.locator("#q-detail .pair").first.locator("h5").all_inner_texts()
    assert names == ["TEACHER, seed 0", "DPO, seed 1"]
    marks = page.page.locator("#q-detail mark").all_inner_texts()
    assert marks == ["teacher", "0", "dpo", "1"]  # what differs, and nothing else
    page.page.uncheck("#q-marked")
    page.settle()
    assert page.page.locator("#q-detail mark").count() == 0
    verdicts = page.page.locator("#q-detail .pair").nth(1).inner_text()
    for text in ("judge-a", "judge-b", "game1", "game2", "swapped", "first: true", "[[A>B]]", "not scored"):
        assert (text in verdicts) == (text != "not scored")


def test_a_judge_stands_at_one_height_on_both_sides(page: OpenPage) -> None:
    """Whatever else stands above it: the replies on the two sides differ in length."""
    page.choose("a", "TEACHER, seed 0")
    page.choose("b", "DPO, seed 0")
    names = page.page.locator("#q-detail .pair").nth(1).locator("h6")
    assert names.all_inner_texts() == ["judge-a", "judge-b"] * 2
    tops = [names.nth(place).bounding_box()["y"] for place in range(4)]
    assert tops[:2] == tops[2:] and tops[0] < tops[1]
    assert "0 is a tie" in page.page.inner_text("#q-reading")
    page.choose("b", "Baseline")
    assert page.answers()[1] == "Baseline answer 0."
    assert "not judged itself" in page.page.locator("#q-detail .pair").nth(1).inner_text()


def test_the_same_answer_and_nothing_in_common_are_said(page: OpenPage) -> None:
    page.page.locator("#q-list li").nth(4).click()
    page.settle()
    assert "The two answers are the same." in page.page.inner_text("#q-detail")
    page.page.locator("#q-list li").nth(5).click()
    page.settle()
    assert "share few words (0%)" in page.page.inner_text("#q-detail")
    assert page.page.locator("#q-detail mark").count() == 0
    page.choose("a", "TEACHER, seed 0")
    assert "(an empty answer)" in page.page.inner_text("#q-detail")
    page.page.locator("#q-list li").nth(6).click()
    page.settle()
    assert page.page.locator("#q-detail .badge").all_inner_texts() == ["cut at the token limit"] * 2


def test_why_something_is_not_scored(page: OpenPage) -> None:
    page.choose("show", "something not scored")
    assert page.title() == "q7 (facts)"
    assert page.page.locator("#q-list li").count() == 1
    assert f"not scored: {REFUSAL}" in page.page.inner_text("#q-detail")
    assert "I cannot say." in page.page.inner_text("#q-detail")
    page.page.fill("#q-search", "11")
    page.settle()
    assert page.list_items() == []  # a search counts here too


def test_the_list_is_searched_filtered_and_ordered(page: OpenPage) -> None:
    """DPO's mean verdict is 1, and -1 in questions 2, 5, 8, 11; the student's is 0, and missing in question 7."""
    dpo_behind = [2, 5, 8, 11]
    page.choose("show", "left is better")
    assert page.list_items() == [f"Name {n} fruits." for n in dpo_behind]
    page.choose("show", "right is better")
    assert len(page.list_items()) == 12 - len(dpo_behind) - 1
    page.choose("show", "equal")
    assert page.list_items() == []
    assert "No question is left" in page.page.inner_text("#q-detail")
    page.choose("show", "all questions")
    page.choose("order", "left minus right, largest first")
    assert page.list_items()[:4] == [f"Name {n} fruits." for n in dpo_behind]
    assert page.list_items()[-1] == "Name 7 fruits."
    assert page.title() == "q2 (lists)"  # the first in the new order
    page.choose("order", "as asked")
    page.choose("category", "facts")
    assert page.list_items() == [f"Name {n} fruits." for n in (1, 5, 7, 9, 11)]
    page.choose("category", "all")
    page.page.fill("#q-search", "NAME fruits 11")
    page.settle()
    assert page.list_items() == ["Name 11 fruits."]
    assert page.title() == "q11 (facts)"
    page.page.fill("#q-search", "")
    page.choose("measure", "mean verdict, judge-b")
    assert set(page.page.locator("#q-list .numbers").all_text_contents()) == {"-1 | -1"}


def test_the_keyboard_is_enough(page: OpenPage) -> None:
    page.page.locator("#q-list").focus()
    for key, place in (("ArrowDown", 1), ("ArrowDown", 2), ("ArrowUp", 1), ("End", 11), ("PageUp", 1), ("Home", 0)):
        page.page.keyboard.press(key)
        page.settle()
        assert page.page.get_attribute("#q-list", "aria-activedescendant") == f"q-option-{place}"
        assert page.title().split()[0] == f"q{place}"
    page.page.locator("#q-next").press("Enter")
    page.settle()
    assert page.title() == "q1 (facts)"
    assert page.page.evaluate("document.activeElement.textContent") == "Next"  # the focus stays where it was
    page.page.keyboard.press("Tab")
    assert page.page.evaluate("document.activeElement.closest('#browser') !== null")


def test_another_benchmark_with_two_turns_and_a_reference(page: OpenPage) -> None:
    page.choose("shelf", "MT-Bench")
    assert page.title() == "m0"
    text = page.page.inner_text("#q-detail")
    for words in ("Turn 1", "Turn 2", "And now shorter.", "Shorter: student.", "Rating: [[6]]"):
        assert words in text
    page.page.locator("#q-detail summary", has_text="Reference").click()
    assert "ref 0" in page.page.inner_text("#q-detail")
    assert not page.page.locator("#q-category").is_visible()


def test_an_address_brings_the_view_back(page: OpenPage, browser: Any) -> None:
    page.choose("shelf", "MT-Bench")
    page.choose("a", "DPO, seed 0")
    page.choose("b", "TEACHER, seed 1")
    page.page.locator("#q-list li").nth(2).click()
    page.settle()
    again = OpenPage(browser, page.page.evaluate("location.href"))  # `page.url` may still be the address before
    assert again.title() == "m2"
    assert again.page.locator("#q-detail h5").all_inner_texts()[:2] == ["DPO, seed 0", "TEACHER, seed 1"]
    again.page.evaluate("location.hash = '#benchmark=Arena-Hard&question=q4&a=STUDENT, seed 1&b=Baseline'")
    again.page.wait_for_selector('#q-detail h3:text-is("q4 (lists)")')
    assert again.page.locator("#q-detail h5").all_inner_texts()[:2] == ["STUDENT, seed 1", "Baseline"]
    assert again.console_messages == []
    again.context.close()


def test_the_list_of_questions_stands_still(page: OpenPage) -> None:
    """Questions of one line and of many have one height, drawn or not yet: a click hits what it was aimed at."""
    heights = "(items) => [...new Set(items.map((item) => item.offsetHeight))]"
    assert len(page.page.locator("#q-list li").evaluate_all(heights)) == 1


def test_hostile_text_is_text(page: OpenPage) -> None:
    page.page.locator("#q-list li").nth(3).click()
    page.settle()
    assert page.answers() == [visible(f"{HOSTILE} {row}") for row in ("student", "dpo")]
    detail = page.page.text_content("#q-detail")
    assert "⟦U+202E⟧" in detail and "⟦U+0000⟧" in detail and "⟦U+001B⟧" in detail
    assert visible(f"{HOSTILE} [[A>B]]") in detail
    assert page.page.locator("#browser :is(img, script, svg, iframe)").count() == 0
    page.choose("show", "something not scored")
    assert visible(HOSTILE) in page.page.text_content("#q-detail .verdict .badge")


def test_what_is_spelled_out_is_the_same_in_both_languages(browser: Any) -> None:
    texts = [chr(code) for code in (*range(0x300), 0x61C, *range(0x2000, 0x2070), 0xFEFF, 0xE0041, 0x1F600)]
    page = browser.new_page()
    page.add_script_tag(content=(FOLDER / "static" / "data.js").read_text(encoding="utf-8"))
    assert page.evaluate("(texts) => texts.map(visible)", texts) == [visible(text) for text in texts]
    assert page.evaluate(r"visible('a\ud800b\r\nc')") == visible("a\ud800b\nc")
    page.close()


def longest(a: list[str], b: list[str]) -> int:
    """Length of the longest common subsequence, by the textbook's recursion."""
    above = [0] * (len(b) + 1)
    for word in a:
        row = [0]
        for place, other_word in enumerate(b):
            row.append(above[place] + 1 if word == other_word else max(above[place + 1], row[-1]))
        above = row
    return above[-1]


def test_differences_are_the_shortest_and_lose_no_letter(browser: Any) -> None:
    rng = random.Random(0)
    pairs = [
        ["".join(rng.choice(["a ", "b ", "cat\n", "d, ", "中文"]) for _ in range(rng.randrange(14))) for _ in range(2)]
        for _ in range(60)
    ]
    page = browser.new_page()
    page.add_script_tag(content=(FOLDER / "static" / "diff.js").read_text(encoding="utf-8"))
    script = """(pairs) => pairs.map(([a, b]) => {
        const words = [wordsOf(a), wordsOf(b)];
        const same = compareWords(...words);
        return {
            words: words.map((some) => some.map((each) => each.word)),
            kept: words.map((some, side) => some.filter((_, at) => same[side][at]).map((each) => each.word)),
            joined: [a, b].map((text, side) => pieces(text, words[side], same[side]).map(([piece]) => piece).join("")),
        };
    })"""
    for pair, result in zip(pairs, page.evaluate(script, pairs), strict=True):
        (a, b), (kept_words, other_kept) = result["words"], result["kept"]
        assert result["joined"] == pair
        assert kept_words == other_kept
        assert len(kept_words) == longest(a, b)
    long = page.evaluate("() => compareWords(wordsOf('a '.repeat(5000)), wordsOf('b '.repeat(5000)))")
    assert long is None
    page.close()


def test_damaged_data_is_said_and_breaks_nothing_else(browser: Any, path: Path, tmp_path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    start = text.index('id="questions-block-1-0">') + len('id="questions-block-1-0">')
    broken = tmp_path / "broken.html"
    broken.write_text(f"{text[: start + 20]}AAAA{text[start + 24 :]}", encoding="utf-8")
    page = OpenPage(browser, broken.as_uri())
    page.choose("shelf", "MT-Bench")
    assert page.page.inner_text("#q-detail").startswith("This cannot be shown:")
    page.choose("shelf", "Arena-Hard")
    assert page.title() == "q0 (lists)"
    page.context.close()


def test_lost_answers_and_judgments_are_said_on_their_side(browser: Any, tmp_path: Path) -> None:
    _, results, store = the_page(tmp_path)
    student = next(entry for entry in judged_benchmarks(results, store)[0].entrants if entry.row == "student")
    shutil.rmtree(store.path(*student.answers))
    shutil.rmtree(store.path(*student.judgments[0].ref))
    page = OpenPage(browser, write(tmp_path / "lost.html", results, store).as_uri())
    detail = page.page.inner_text("#q-detail")
    assert page.title() == "q0 (lists)"
    assert detail.count("answers no longer in the store") == detail.count("judgments no longer in the store") == 1
    assert "The dpo names apple" in detail
    assert page.console_messages == []
    page.context.close()


CONTRAST = """() => {
    const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
    const light = ([r, g, b]) => {
        const part = (value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
        return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
    };
    const behind = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const found = parse(getComputedStyle(at).backgroundColor);
            if (found.length === 3 || found[3] > 0) return found;
        }
        return [255, 255, 255];
    };
    const poor = [];
    for (const element of document.querySelectorAll("body *")) {
        const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
        if (!own || !element.checkVisibility() || element.closest(":disabled, .skip, option")) continue;
        const [one, other] = [light(parse(getComputedStyle(element).color)), light(behind(element))];
        const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
        if (ratio < 4.5) poor.push(`${ratio.toFixed(2)} ${element.tagName} ${element.textContent.slice(0, 30)}`);
    }
    return poor;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_in_light_and_dark(browser: Any, path: Path, scheme: str) -> None:
    """Contrast of all text at least 4.5 (WCAG 2.2, AA)."""
    page = OpenPage(browser, path.as_uri(), color_scheme=scheme)
    assert page.page.evaluate(CONTRAST) == []
    ground = page.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
    page.context.close()


@pytest.mark.parametrize("width", [360, 800, 1900])
def test_it_fits_narrow_and_wide_windows(browser: Any, path: Path, width: int) -> None:
    page = OpenPage(browser, path.as_uri(), viewport={"width": width, "height": 800})
    assert page.page.evaluate("document.documentElement.scrollWidth") <= width
    page.context.close()


def test_every_control_has_a_name(page: OpenPage) -> None:
    script = """() => [...document.querySelectorAll("input, select, button, img, [role=listbox], [role=region]")]
        .filter((each) => !(each.labels?.length || each.getAttribute("aria-label") || each.getAttribute("alt")
                            || (each.tagName === "BUTTON" && each.textContent.trim())))
        .map((each) => each.outerHTML)"""
    assert page.page.evaluate(script) == []


def test_it_prints_without_its_controls(page: OpenPage) -> None:
    page.page.emulate_media(media="print")
    for selector in ("nav", ".tools", "#q-list", ".steps"):
        assert not page.page.locator(selector).first.is_visible()
    assert page.page.locator("#q-detail h3").is_visible()
    page.page.emulate_media(media="screen")


def test_without_a_script_the_tables_are_still_there(browser: Any, path: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    assert page.locator("#table-1 tbody tr").count() == len(rows())
    assert page.locator("noscript").inner_text() == "The question browser needs JavaScript."
    assert not page.locator("#browser").is_visible()
    context.close()


def test_a_cell_leads_to_its_verdicts_requests_and_thinking(page: OpenPage) -> None:
    """DPO's cell of the first benchmark: the row on the left, another one on the right, compared by its share."""
    page.page.locator("#table-1 tbody td a").nth(-2).click()
    expect(page.page.locator("#q-a option:checked")).to_have_text("DPO, seed 0")
    page.settle()
    assert page.page.locator("#q-measure option:checked").inner_text() == "share in WR"
    page.page.locator("#q-list li").nth(1).click()
    expect(page.page.locator("#q-detail h3").first).to_have_text(re.compile("^q1"))
    page.settle()
    summaries = page.page.locator("#q-detail details summary").all_inner_texts()
    assert sum(text.startswith("Thinking, set apart") for text in summaries) == 2 + 4  # answers, and replies to games
    assert summaries.count("Request") == 4
    texts = page.page.locator("#q-detail details .text").all_text_contents()
    answer = "The dpo names apple, pear and plum of question q1 with seed 0."
    assert f"user: Compare <b>Baseline answer 1.</b> with {answer}" in texts
    assert visible(f"dpo wonders {HOSTILE}") in texts
    assert any(text.startswith("distilbench explain table1 dpo arena_hard.wr") and "'q1'" in text for text in texts)


# What stands above, beside and below the tables


def test_the_page_says_first_what_the_table_says(page: OpenPage) -> None:
    assert page.page.inner_text(".lead") == "DPO is 0.3 points above STUDENT on Arena-Hard: not tested."
    facts = page.page.inner_text(".about")
    assert "Made " in facts and "By distilbench" in facts and "big teaches small" in facts and "judge-a" in facts


def test_signs_say_what_they_mean(page: OpenPage) -> None:
    """By mouse, by keyboard, and until Escape; the browser's own tip does not show beside it."""
    sign = page.page.locator("#table-1 tbody tr", has_text="DPO").locator("small.tip").first
    assert sign.get_attribute("title") is None and "change from STUDENT: " in sign.get_attribute("aria-description")
    assert page.page.locator("#tip").is_hidden()
    sign.hover()
    assert page.page.inner_text("#tip") == sign.get_attribute("aria-description")
    page.page.keyboard.press("Escape")
    assert page.page.locator("#tip").is_hidden()
    sign.focus()
    assert page.page.locator("#tip").is_visible()


@pytest.mark.parametrize(
    ("title", "start"), [("CSV", "target,run,"), ("JSON", "{"), ("LaTeX", "% "), ("Markdown", "**")]
)
def test_tables_can_be_saved(page: OpenPage, title: str, start: str) -> None:
    with page.page.expect_download() as event:
        page.page.locator("#table-1 button", has_text=title).click()
    ending = {"CSV": "csv", "JSON": "json", "LaTeX": "tex", "Markdown": "md"}[title]
    assert event.value.suggested_filename == f"table1.{ending}"
    assert event.value.path().read_text(encoding="utf-8").startswith(start)


CUT = """() => [...document.querySelectorAll("main *")].filter((one) => {
  const style = getComputedStyle(one);
  const hides = ["hidden", "clip"].includes(style.overflowX) && style.textOverflow !== "ellipsis";
  return hides && one.offsetParent && one.scrollWidth > one.clientWidth + 2 && !one.closest("svg");
}).map((one) => `${one.tagName} ${one.className}`)"""
"""What is wider than its box and neither scrolls, wraps nor ends with an ellipsis."""


def test_nothing_is_cut_without_a_sign(page: OpenPage) -> None:
    """The page itself never scrolls sideways; what does says so, and its first column stays."""
    window, before = page.page, page.page.viewport_size
    window.locator("details > summary", has_text="All ").click()  # the widest table
    for width in (390, 800, 1440):
        window.set_viewport_size({"width": width, "height": 900})
        window.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        assert window.evaluate("document.documentElement.scrollWidth") <= width
        boxes = window.locator(".scroll:visible")
        for place in range(boxes.count()):
            box = boxes.nth(place)
            more = box.evaluate("(box) => box.scrollWidth - box.clientWidth > 2")
            hint = box.locator("xpath=preceding-sibling::p[@class='hint']")
            assert hint.is_visible() == more and (box.get_attribute("data-more") is not None) == more
            if more and box.locator("tbody th").count():
                name = box.locator("tbody th").first
                x = name.bounding_box()["x"]
                box.evaluate("(box) => { box.scrollLeft = 9999; }")
                expect(box).not_to_have_attribute("data-more", re.compile(""))
                assert name.bounding_box()["x"] == pytest.approx(x, abs=1)
                box.evaluate("(box) => { box.scrollLeft = 0; }")
        assert [one for one in window.evaluate(CUT) if not one.startswith(("IMG", "SPAN snippet"))] == []
    window.set_viewport_size(before)


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_figures_follow_dark_mode(page: OpenPage, scheme: str) -> None:
    """The corner of a figure is the page's own colour in both."""
    page.page.emulate_media(color_scheme=scheme)
    corner = """async (image) => {
      image.loading = "eager";
      await image.decode();
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [8, 8];
      const pen = canvas.getContext("2d");
      pen.drawImage(image, 0, 0);
      return [...pen.getImageData(1, 1, 1, 1).data].slice(0, 3);
    }"""
    paper = page.page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert page.page.locator("figure img").first.evaluate(corner) == paper
