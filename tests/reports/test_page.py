"""The HTML page without a browser: packed data, escaping, what the question browser is given, the run card."""

from __future__ import annotations

import base64
import gzip
import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from markupsafe import Markup

from harness.contracts.stage import Ref, Stage
from harness.errors import UserError
from harness.types import Judgment, Question
from reports.page import page, widgets
from reports.page import question_browser as questions
from reports.page import run_card as card
from reports.page.question_browser import SHARE, RunView, benchmark_views, verdict_help
from reports.write import make_table
from results.run.results import Results, judged_benchmarks, stages_behind
from results.store.store import ArtifactStore
from tests.reports import shelves, world
from tests.reports.shelves import HOSTILE, books, rows, the_page, write


class Reader(HTMLParser):
    """Collects elements, attributes and the text inside scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, list[str]] = {"script": [], "style": []}
        self.text = ""
        self.now = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.now = tag
        if tag in self.inside:
            self.inside[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        self.now = ""

    def handle_data(self, data: str) -> None:
        if self.now in self.inside:
            self.inside[self.now][-1] += data
        else:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def page_world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Results, ArtifactStore]:
    return the_page(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def reader(page_world: tuple[Path, Results, ArtifactStore]) -> Reader:
    return Reader(page_world[0].read_text(encoding="utf-8"))


def unpack(text: str) -> Any:
    """What the page's script reads."""
    return json.loads(gzip.decompress(base64.b64decode(text, validate=True)))


def chunks(reader: Reader) -> dict[str, Any]:
    """All packed data of a page, unpacked."""
    names = [str(attributes["id"]) for attributes in reader.all("script") if attributes.get("type") == "text/plain"]
    texts = [text for text, at in zip(reader.inside["script"], reader.all("script"), strict=True) if at.get("type")]
    return {name: unpack(text) for name, text in zip(names, texts, strict=True)}


# Packing and escaping


@pytest.mark.parametrize(
    "text", [HOSTILE, "\ud800 alone", "a\x00\x1b\u202e\r\n", "中文 \U0001f600", "", "</script>" * 99]
)
def test_packed_text_comes_back_and_cannot_end_its_element(text: str) -> None:
    packed = widgets.pack({"text": [text]})
    assert re.fullmatch(r"[A-Za-z0-9+/=]+", packed)
    assert unpack(packed) == {"text": [text]}
    assert widgets.pack({"text": [text]}) == packed


def test_packing_saves_space_and_refuses_nan() -> None:
    assert len(widgets.pack(["the same answer"] * 1000)) < 200
    with pytest.raises(ValueError, match="not JSON compliant"):
        widgets.pack({"score": float("nan")})


def test_only_packed_data_goes_in_unescaped() -> None:
    section = widgets.Section("One", Markup("<p>fine</p>"), {"x": "</script><script>alert(1)</script>"})
    with pytest.raises(ValueError, match="pack"):
        page.page("t", [section])


def test_a_plain_string_is_never_markup() -> None:
    html = page.page("<b>", [widgets.Section("<i>", "<script>alert(1)</script>")])  # type: ignore[arg-type]
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "<b>" not in html and "<i>" not in html


def test_two_sections_of_one_title_are_refused() -> None:
    with pytest.raises(UserError, match="judges-compared"):
        page.page(
            "t", [widgets.Section("Judges compared", Markup("")), widgets.Section("Judges, compared", Markup(""))]
        )


def test_what_cannot_be_seen_is_spelled_out() -> None:
    assert widgets.visible("a\x1b[31m\u202eb\ud800\x00") == "a⟦U+001B⟧[31m⟦U+202E⟧b⟦U+D800⟧⟦U+0000⟧"
    assert widgets.visible("tab\tline\n\U0001f468\u200d\U0001f469 é") == "tab\tline\n\U0001f468\u200d\U0001f469 é"
    assert "⟦U+202E⟧" in widgets.figure("\u202e", b'<svg viewBox="0 0 3 4"/>', "")


def test_our_scripts_can_stand_in_a_page() -> None:
    script = page.joined_scripts()
    assert "</script" not in script.lower()
    assert "<!--" not in script
    assert not re.search(r"\b(innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval|Function)\b", script)


def test_the_policy_names_our_script_and_style_and_nothing_else(reader: Reader) -> None:
    (policy,) = [str(at["content"]) for at in reader.all("meta") if at.get("http-equiv") == "Content-Security-Policy"]
    script = [
        text for text, at in zip(reader.inside["script"], reader.all("script"), strict=True) if not at.get("type")
    ]
    assert policy.split("; ") == [
        "default-src 'none'",
        f"script-src '{page.digest(script[0])}'",
        f"style-src '{page.digest(reader.inside['style'][0])}'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    assert len(script) == len(reader.inside["style"]) == 1


def test_hostile_text_makes_no_element_and_no_address(reader: Reader) -> None:
    assert HOSTILE.startswith("</script><script>")  # else this would test nothing
    assert {tag for tag, _ in reader.elements} & {"iframe", "object", "embed", "base", "link", "svg", "b"} == set()
    for tag, attributes in reader.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href", "action", "data"):
                assert str(value).startswith(("#", "data:image/svg+xml;base64,")), (tag, value)
    assert "{{ 7 * 7 }}" in reader.text  # template syntax of a row's title stays what it is
    assert "49" not in re.findall(r"\{\{.*?\}\}", reader.text)


def test_the_same_results_give_the_same_bytes(page_world: tuple[Path, Results, ArtifactStore], tmp_path: Path) -> None:
    again = write(tmp_path / "page.html", page_world[1], page_world[2])
    assert again.read_bytes() == page_world[0].read_bytes()


def test_every_id_is_there_once_and_every_anchor_leads_somewhere(reader: Reader) -> None:
    ids = [str(attributes["id"]) for _, attributes in reader.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    anchors = [str(at["href"]).removeprefix("#") for at in reader.all("a")]
    links = [anchor for anchor in anchors if anchor.startswith("benchmark=")]
    assert len(anchors) > len(links) and set(anchors) - set(links) <= set(ids)
    # A cell leads to the verdicts behind it.
    assert links[-1] == "benchmark=MT-Bench&a=DPO&measure=share+in+Score" and len(links) == 2 * len(rows())


# Tables


def test_a_table_on_the_page_has_its_notes() -> None:
    results = world.with_score(world.make(seeds=(0,)), ("pro", "gsm8k.acc", 0), n=100, unscored=50)
    results = world.with_missing(results, "kd", "needs a shared vocabulary")
    table = world.table_of(results)
    by_row = {row.cells[0].text: row.cells for row in table.rows}
    assert [cell.sort for cell in by_row["Standard KD"][1:]] == [None] * 5  # n/a
    assert by_row["PRO"][5].text == "refused:" and by_row["PRO"][5].sort is None
    best = by_row["PAD-PPD"][1]
    assert f"{best.sort:.2f}" == best.text and best.best and best.tone == "good"
    table_reader = Reader(str(widgets.table(table)))
    assert [at.get("colspan") for at in table_reader.all("th") if at.get("scope") == "colgroup"] == ["2", "1", "1", "1"]
    assert len(table_reader.all("td")) == 1 + 10 * 5  # the empty corner and ten rows
    assert next(at["data-sort"] for at in table_reader.all("td") if "data-sort" in at) == str(by_row["Teacher"][1].sort)
    for text in ("needs a shared vocabulary", "Detectable: minimum detectable effect", "Differs from the official"):
        assert text in table_reader.text


# Questions


def test_the_browser_has_every_answer_and_verdict(reader: Reader) -> None:
    data = chunks(reader)
    for number, book in enumerate(books()):
        index = data[f"questions-index-{number}"]
        assert [one[0] for one in index["questions"]] == [question.id for question in book.questions]
        assert index["sides"] == [[row.upper(), seed] for row in rows() for seed in (0, 1)]
        blocks = [data[f"questions-block-{number}-{block}"] for block in range(len(index["starts"]))]
        assert [len(block) for block in blocks] == [
            end - start for start, end in zip(index["starts"], [*index["starts"][1:], len(book.questions)], strict=True)
        ]
        records = [record for block in blocks for record in block]
        for question, record in zip(book.questions, records, strict=True):
            assert record["turns"] == list(question.turns)
            assert record["baseline"] == list(question.baseline)
            for place, (row, seed) in enumerate((row, seed) for row in rows() for seed in (0, 1)):
                answer = book.answer(question, row, seed)
                assert record["answers"][place][0] == list(answer.turns)
                replies = next(
                    replies_of_judge
                    for judge, replies_of_judge in record["judgments"][place]
                    if index["judges"][judge] == "judge-a"
                )
                expected = [
                    [judgment.part, judgment.verdict, judgment.reason, judgment.reply]
                    for judgment in book.judge(question, row, seed)
                ]
                assert [[part, value, reason, reply] for part, _, value, reason, _, reply, *_ in replies] == expected


def test_thinking_and_requests_stand_beside_an_answer_and_a_reply(reader: Reader) -> None:
    """In a request, texts that stand beside it are named: question, answer and baseline are written once."""
    data = chunks(reader)
    record, place = data["questions-block-0-0"][1], 4  # q1, dpo under seed 0
    assert record["answers"][place][4] == [f"dpo wonders {HOSTILE}"]
    (game, _) = record["judgments"][place][0][1]
    assert game[8:] == [f"Hm, dpo. {HOSTILE}", "0123456789abcdef"]
    assert record["requests"][place]["game1 0"] == [
        "user: Compare <b>Baseline answer 1.</b> with ", ["answers", 0]  # a short text is written again
    ]  # fmt: skip
    assert data["questions-block-0-0"][2]["requests"][place] == {}  # no stored reply
    assert data["questions-index-0"]["commands"][place] == (
        f"distilbench explain table1 dpo arena_hard.wr --recipe {shlex.quote(f'made-up {HOSTILE}')} --question"
    )


def test_the_index_has_the_numbers_of_the_list(reader: Reader) -> None:
    index = chunks(reader)["questions-index-0"]
    book = books()[0]
    assert [measure["title"] for measure in index["measures"]] == [
        "mean verdict, judge-a", "mean verdict, judge-b", "share in WR",
    ]  # fmt: skip
    student = index["sides"].index(["STUDENT", 0])
    for place, question in enumerate(book.questions):
        judgments = book.judge(question, "student", 0)
        verdicts = [judgment.verdict for judgment in judgments if judgment.verdict is not None]
        mean = sum(verdicts) / len(verdicts) if verdicts else None
        assert index["measures"][0]["values"][student][place] == mean
        assert index["unscored"][student][place] == sum(judgment.verdict is None for judgment in judgments)
    assert sum(index["unscored"][student]) > 0


def test_where_rules_decide_the_metric_comes_first(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    results = shelves.make(store, [replace(books()[1], judges={})], ("student",), (0,))
    results = replace(results, run=replace(results.run, judges={"mt_bench": "by rule"}))
    view = RunView("T", results, judged_benchmarks(results, store))
    index, _ = questions.contents(benchmark_views([view])[0])
    assert [measure["title"] for measure in index["measures"]] == ["share in Score", "mean verdict, by rule"]


def test_long_answers_are_cut_into_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Limit 100 characters: a block is closed by the question that goes over it."""
    monkeypatch.setattr(questions, "_BLOCK", 100)
    store = ArtifactStore(tmp_path)
    results = shelves.make(store, books()[:1], ("student", "dpo"), (0,))
    texts = {"arena_hard": books()[0].questions}
    (view,) = benchmark_views([RunView("Table 1", results, judged_benchmarks(results, store), texts)])
    index, blocks = questions.contents(view)
    record_count = 0
    for start, block in zip(index["starts"], blocks, strict=True):
        records = unpack(block)
        assert start == record_count
        record_count += len(records)
        sizes = [
            sum(len(turn) for answer in record["answers"] for turn in answer[0])
            + sum(len(judgment[5]) for side in record["judgments"] for _, judgments in side for judgment in judgments)
            for record in records
        ]
        assert sum(sizes[:-1]) <= 100
    assert record_count == len(books()[0].questions)
    assert len(blocks) > 1


def test_questions_that_are_not_at_hand_leave_their_answers(
    page_world: tuple[Path, Results, ArtifactStore], tmp_path: Path
) -> None:
    _, results, store = page_world
    other_questions = [Question("new", ("something else",))]
    path = write(tmp_path / "p.html", results, store, {"arena_hard": other_questions, "mt_bench": "pull them first"})
    data = chunks(Reader(path.read_text(encoding="utf-8")))
    assert data["questions-index-0"]["problem"] == "those at hand are not those that were asked"
    assert data["questions-index-1"]["problem"] == "pull them first"
    assert [question[0] for question in data["questions-index-0"]["questions"]] == [q.id for q in books()[0].questions]
    assert data["questions-block-0-0"][0]["turns"] == []
    assert data["questions-block-0-0"][0]["answers"][0][0] == list(
        books()[0].answer(books()[0].questions[0], rows()[0], 0).turns
    )


def test_two_targets_share_what_is_the_same(tmp_path: Path) -> None:
    """The second run has one row that the first has too, and one of the same name with other answers."""
    store = ArtifactStore(tmp_path)
    book = books()[0]
    results = shelves.make(store, [book], ("student", "dpo"), (0,))
    changed_book = replace(book, answer=lambda q, row, seed: book.answer(q, row, seed + 7 * (row == "dpo")))
    aside = ArtifactStore(tmp_path / "aside")
    two = shelves.make(aside, [changed_book], ("student", "dpo"), (0,))
    runs = [RunView("Table 1", results, judged_benchmarks(results, store))]
    (shared_view,) = benchmark_views([*runs, RunView("Table 3", results, judged_benchmarks(results, store))])
    assert [entrant.title for entrant in shared_view.entrants] == ["STUDENT", "DPO"]
    (third,) = judged_benchmarks(two, aside)
    moved_benchmark = replace(
        third,
        entrants=tuple(
            replace(entrant, answers=Ref("answer", entrant.answers.key + "x" * (entrant.row == "dpo")))
            for entrant in third.entrants
        ),
    )
    (both_view,) = benchmark_views([*runs, RunView("Table 3", two, (moved_benchmark,))])
    assert [entrant.title for entrant in both_view.entrants] == ["STUDENT", "DPO", "Table 3: DPO"]


def test_a_row_without_a_score_says_why(page_world: tuple[Path, Results, ArtifactStore]) -> None:
    _, results, store = page_world
    with_gap = world.with_missing(results, "dpo", "needs a shared vocabulary")
    view = benchmark_views([RunView("Table 1", with_gap, judged_benchmarks(with_gap, store))])[0]
    assert view.unavailable == (("DPO", "needs a shared vocabulary"),)
    assert "DPO" not in [entrant.title for entrant in view.entrants]


def test_another_baseline_takes_the_place_of_the_official_one(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    results = shelves.make(store, books()[:1], ("student", "dpo"), (0,))
    texts = {"arena_hard": books()[0].questions}
    (benchmark,) = judged_benchmarks(results, store)
    student = next(entry for entry in benchmark.entrants if entry.row == "student")
    other_baseline = replace(benchmark, baseline=student.answers, baseline_row="student")
    (view,) = benchmark_views([RunView("Table 1", results, (other_baseline,), texts)])
    index, blocks = questions.contents(view)
    assert index["baseline"] == "student"
    question = books()[0].questions[0]
    assert unpack(blocks[0])[0]["baseline"] == list(books()[0].answer(question, "student", 0).turns)


# Behind the scores


def test_stages_are_found_once_and_in_order(page_world: tuple[Path, Results, ArtifactStore]) -> None:
    _, results, store = page_world
    markers = stages_behind(results, store)
    # per benchmark: an answer and a judge stage for each row and each of two seeds, and one score stage
    counts = {"answer": 2 * len(rows()) * 2, "judge": 2 * len(rows()) * 2, "score": 2}
    assert {kind: sum(marker["kind"] == kind for marker in markers) for kind in counts} == counts
    assert len(markers) == len({marker["key"] for marker in markers}) == sum(counts.values())
    assert [marker["started"] for marker in markers] == sorted(marker["started"] for marker in markers)


def test_a_page_of_a_store_with_lost_and_damaged_artifacts_says_so(tmp_path: Path) -> None:
    """The student's answers are deleted, the teacher's file of them is gone, DPO's answers and verdicts damaged."""
    store = ArtifactStore(tmp_path / "store")
    results = shelves.make(store, books()[:1], rows(), (0,))
    (benchmark,) = judged_benchmarks(results, store)
    teacher, student, dpo = benchmark.entrants
    shutil.rmtree(store.path(*student.answers))
    (store.path(*teacher.answers) / "answers.jsonl").unlink()
    (store.path(*dpo.answers) / "answers.jsonl").write_bytes(b'{"broken\xff')
    (store.path(*dpo.judgments[0].ref) / "judgments.jsonl").write_text('{"broken')
    shutil.rmtree(store.path(*student.judgments[0].ref))
    (store.path(*teacher.judgments[1].ref) / "meta.json").write_text("{")
    reader = Reader(write(tmp_path / "p.html", results, store).read_text(encoding="utf-8"))
    assert "STUDENT" in reader.text and "No question" not in reader.text  # the table is there
    data = chunks(reader)
    judge = dpo.judgments[0].judge
    assert data["questions-index-0"]["sides"] == [["TEACHER", 0], ["STUDENT", 0], ["DPO", 0]]
    assert data["questions-index-0"]["lost"] == [
        ["answers damaged in the store", ""],
        ["answers no longer in the store", "judgments no longer in the store"],
        ["answers damaged in the store", f"{judge}: judgments damaged in the store"],
    ]
    first = data["questions-block-0-0"][0]
    assert first["answers"] == [None, None, None] and first["turns"] == ["Name 0 fruits."]
    assert [len(side) for side in first["judgments"]] == [1, 0, 1]
    with_baseline = replace(benchmark, baseline=student.answers, baseline_row="student")
    texts = {"arena_hard": books()[0].questions}
    (view,) = benchmark_views([RunView("Table 1", results, (with_baseline,), texts)])
    assert unpack(questions.contents(view)[1][0])[0]["baseline"] == []  # not the official one in its place


def test_a_run_that_has_only_begun_has_nothing_to_browse(tmp_path: Path) -> None:
    results = world.make(("student", "kd"), (0,))
    unfinished_results = Results(replace(results.run, finished=False), {}, dict.fromkeys(results.scores, "not run yet"))
    path = page.write_page(
        tmp_path / "p.html",
        [page.PageTarget(make_table(unfinished_results, "table1", 0.98), unfinished_results)],
        ArtifactStore(tmp_path / "store"),
    )
    reader = Reader(path.read_text(encoding="utf-8"))
    assert "nothing to browse" in reader.text
    assert "UNFINISHED RUN" in reader.text
    assert set(chunks(reader)) == {f"table-1-{kind}" for kind in ("csv", "json", "tex", "md")}


def test_a_judge_has_one_name_and_one_place_on_both_sides(tmp_path: Path) -> None:
    """Two rows and seeds, four more settings of one judge: the keys of artifacts, which are hashes, come in any order.
    Of two judges with one name, neither is called by the bare name; names of compare-judges take the model's place."""
    store = ArtifactStore(tmp_path)
    book = replace(books()[0], judges={})
    results = shelves.make(store, [book], ("student", "dpo"), (0, 1))
    (benchmark,) = judged_benchmarks(results, store)
    names = {}
    for entry in benchmark.entrants:
        for value in (0.9, 0.1, 0.5, 0.7):
            params = {"benchmark": book.name, "judge": {"kind": "openai", "model": "judge-a", "temperature": value}}
            stage = Stage("judge", params, {"answers": entry.answers})
            store.write(stage, lambda folder: {"n": (folder / "judgments.jsonl").write_text("")})
            names |= {stage.key: "warm"} if value > 0.6 else {}
        for seed in (1, 2):  # the same to a reader's eye: another kind's settings are not spelled out
            params = {"benchmark": book.name, "judge": {"kind": "pocket", "seed": seed}}
            stage = Stage("judge", params, {"answers": entry.answers})
            store.write(stage, lambda folder: {"n": (folder / "judgments.jsonl").write_text("")})
    (benchmark,) = judged_benchmarks(results, store, names)
    judges = [[judgments.judge for judgments in entry.judgments] for entry in benchmark.entrants]
    assert all(names_of_row == judges[0] for names_of_row in judges)
    assert judges[0][0] == "judge-a"
    assert judges[0][1:3] == ["judge-a (temperature=0.1)", "judge-a (temperature=0.5)"]
    assert [name.split("#")[0] for name in judges[0][3:5]] == ["pocket ", "pocket "]
    assert judges[0][5:] == ["warm (temperature=0.7)", "warm (temperature=0.9)"]
    view = benchmark_views([RunView("Table 1", results, (benchmark,))])[0]
    assert list(view.judges) == judges[0]


def test_verdicts_are_explained_by_what_stands_in_them() -> None:
    def help_text(*judgments: Judgment) -> str:
        return " ".join(verdict_help(judgments, shares=False))

    judgment = Judgment("q", "preference", 0.509, reply="M", meta={"model_first": False})
    assert "between 0 (the baseline's answer is better) and 1" in help_text(judgment)
    assert "A reply of m picks the answer shown first" in help_text(judgment) and "order1" not in help_text(judgment)
    games = help_text(
        *(Judgment("q", f"turn1:game{n}", -2.0, reply="[[A>>B]]", meta={"model_first": n == 2}) for n in (1, 2))
    )
    assert "below 0 the baseline's" in games and "game1 and game2: the same two answers" in games
    assert "reply of m" not in games and "grades" not in games
    assert help_text(Judgment("q", "turn1", 8.0)) == "Verdicts are grades of the answer to that turn; higher is better."
    # an own comparison: 0 is a loss, where Arena-Hard's 0 is a tie
    own = help_text(*(Judgment("q", f"turn1:order{n}", 0.0, meta={"model_first": n == 2}) for n in (1, 2)))
    assert "0.5 is a tie" in own and "order1 and order2: the same two answers" in own and "below 0" not in own
    assert help_text(Judgment("q", "answer", 1.0)) == "Verdicts lie between 0 (wrong) and 1 (right)."
    assert "flexible-extract takes the last number" in help_text(Judgment("q", "strict-match", 1.0))
    assert verdict_help([Judgment("q", "my-own", 1.0)], shares=False) == []
    assert verdict_help([], shares=True) == [SHARE]


def test_the_run_card_adds_up() -> None:
    """Two judge stages: 3 + 5 s; 2 + 3 calls; (100 + 10) + (200 + 30) = 340 tokens; $0.01 per call."""

    def marker(kind: str, key: str, seconds: float, memory: int, **measured: int) -> dict[str, Any]:
        return {
            "kind": kind, "key": key, "label": f"{kind} {key}", "params": {"benchmark": "b"}, "wall_seconds": seconds,
            "peak_memory_bytes": memory, "measurements": measured, "started": "2026-01-01T00:00:00+00:00",
            "python": "3.11", "platform": "linux", "packages": {"numpy": "2"}, "git": None,
        }  # fmt: skip

    markers = [
        marker("train", "a", 60.0, 2_000_000_000, tokens=5000),
        marker("judge", "b", 3.0, 500_000_000, calls=2, prompt_tokens=100, completion_tokens=10),
        marker("judge", "c", 5.0, 700_000_000, calls=3, prompt_tokens=200, completion_tokens=30),
    ]
    table = card.costs(markers, lambda benchmark, prompt, reply: 0.02 if prompt == 100 else 0.03)
    texts = [[cell.text for cell in row.cells] for row in (*table.rows, *table.detail_rows)]
    assert texts == [
        ["train", "1", "1 min 00 s", "2.0 GB", "5,000", "-", "-", "-"],
        ["judge", "2", "8.0 s", "700 MB", "-", "5", "340", "$0.05"],
        ["all", "3", "1 min 08 s", "2.0 GB", "5,000", "5", "340", "$0.05"],
    ]
    unknown = card.costs(markers, lambda benchmark, prompt, reply: None if prompt == 100 else 0.03)
    assert unknown.rows[1].cells[7].text == "$0.03 + unknown"


def test_the_run_card_speaks_no_python() -> None:
    assert [card.readable(value) for value in (True, False, None, 0, 0.5, "both", ["a", None])] == [
        "yes", "no", "none", "0", "0.5", "both", "a, none",
    ]  # fmt: skip


def test_durations_and_sizes() -> None:
    assert [card.duration(seconds) for seconds in (0.44, 12.4, 59.7, 185, 7800)] == [
        "0.4 s", "12 s", "1 min 00 s", "3 min 05 s", "2 h 10 min",
    ]  # fmt: skip
    assert [card.size(count) for count in (1_600_000, 2_500_000_000)] == ["2 MB", "2.5 GB"]


def test_the_run_card_says_what_made_the_numbers(
    reader: Reader, page_world: tuple[Path, Results, ArtifactStore]
) -> None:
    _, results, store = page_world
    keys = {cell.score for cell in results.run.cells}
    assert all(key in reader.text for key in keys)
    assert "min_coverage: 0.98" in reader.text
    assert "0123456789ab" in reader.text
    assert "made up" in reader.text
    assert store.meta("score", keys.pop())["packages"]["numpy"] in reader.text


def test_a_page_needs_a_target(page_world: tuple[Path, Results, ArtifactStore], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least one target"):
        page.write_page(tmp_path / "p.html", [], page_world[2])
    assert not list(tmp_path.iterdir())


def test_several_targets_stand_on_one_page(page_world: tuple[Path, Results, ArtifactStore], tmp_path: Path) -> None:
    _, results, store = page_world
    further = widgets.Section("Judges compared", Markup("<p>extra</p>"), {"x": widgets.pack([1])})
    targets = [page.PageTarget(make_table(results, name, 0.0), results) for name in ("table1", "eval")]
    path = page.write_page(tmp_path / "p.html", targets, store, further=[further])
    reader = Reader(path.read_text(encoding="utf-8"))
    assert [at["id"] for at in reader.all("section")] == [
        "table-1", "evaluation", "judges-compared", "questions", "run-card",
    ]  # fmt: skip
    assert len([at for at in reader.all("details") if at.get("class") == "card"]) == 2
    assert chunks(reader)["judges-compared-x"] == [1]
    assert chunks(reader)["questions-index-0"]["sides"] == [[row.upper(), seed] for row in rows() for seed in (0, 1)]


def test_a_page_is_made_without_torch() -> None:
    code = (
        "import sys; import reports.page.page; from reports.page.widgets import render\n"
        "reports.page.page.page('t', [])\n"
        "heavy = {'torch', 'transformers', 'pandas', 'matplotlib', 'judges', 'methods'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    root = Path(__file__).parents[2]
    process = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr


# The command line


def test_the_command_line_gives_the_questions_or_says_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    from distilbench.plugins import load_registry
    from distilbench.workflows.page import price_of, questions_of

    registry = load_registry()

    monkeypatch.setenv("DISTILBENCH_ASSETS", "/nowhere")
    results = world.make(("student",), (0,))
    benchmarks = {
        "alpaca_eval": {"judge": "main", "questions": "pocket", "limit": 3},
        "arena_hard": {"judge": "main", "questions": "official"},
        "mine": {},
    }
    recipe = {"benchmarks": benchmarks, "judges": {"main": {"kind": "openai", "model": "gpt-4.1-2025-04-14"}}}
    run = replace(results.run, recipe=recipe)
    questions = questions_of(run, registry)
    assert len(questions["alpaca_eval"]) == 3
    assert "assets pull" in questions["arena_hard"]
    assert questions["mine"] == "no benchmark 'mine' is known here; name its file with --plugin"
    price = partial(price_of, run, registry)
    assert price("alpaca_eval", 1_000_000, 0) == pytest.approx(2.0)  # dollars per million tokens read
    assert price("mine", 1_000_000, 0) is None


def test_the_command_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from distilbench.cli.reproduce import report
    from results.run.record import write_run

    results = shelves.make(ArtifactStore(tmp_path / "store"), books()[:1], ("student", "dpo"), (0,))
    write_run(tmp_path / "mine" / "table1" / "run.json", results.run)
    report("table1", "mine", tmp_path, 0.0, html=True)
    path = tmp_path / "mine" / "report" / "report.html"
    assert capsys.readouterr().err == f"files: {path.parent}/ (table1.*, report.html)\n"
    data = chunks(Reader(path.read_text(encoding="utf-8")))
    assert data["questions-index-0"]["sides"] == [["STUDENT", 0], ["DPO", 0]]
