"""Which prompts a run uses: the revision that the recipe pins, and the fallback, which is said."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from distilbench.cli.plan import show_plan
from distilbench.workflows.execute import execute, notes
from harness.contracts.options import NoOptions
from harness.errors import UserError
from harness.plan.preflight import check
from harness.prompts import SOURCES, gsm8k_train, load_prompts, resolve_source, ultrafeedback
from harness.prompts.jsonl import SOURCE, JsonlOptions, read_file
from harness.types import Prompt
from tests.harness.test_plan import changed, checkpoint, plan
from tests.workflows.test_plan_rows import job

COMMITS = {"main": "1" * 40, "v2": "2" * 40}
FALLBACK = ("prompts.source=ultrafeedback", "prompts.fallback=gsm8k-train", "prompts.n=4")
SMALL = ("train.batch_size=2", "train.micro_batch=1")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that has UltraFeedback at two revisions."""

    def commit(name: str, revision: str, kind: str) -> str:
        assert (name, kind) == (SOURCES["ultrafeedback"].hub, "dataset")
        return COMMITS[revision]

    monkeypatch.setattr(ultrafeedback, "hub_commit", commit)


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def commit(name: str, revision: str, kind: str) -> str:
        raise UserError(f"{name} at {revision} cannot be reached.")

    monkeypatch.setattr(ultrafeedback, "hub_commit", commit)


@pytest.mark.usefixtures("hub")
def test_the_recipes_revision_is_the_one_that_is_read() -> None:
    newest, pinned = (plan("prompts.source=ultrafeedback", *more) for more in ((), ("prompts.revision=v2",)))
    revisions = [
        [stage.params["identity"]["revision"] for stage in made.stages if stage.kind == "prompts"]
        for made in (newest, pinned)
    ]
    assert revisions == [["1" * 40], ["2" * 40]]
    assert "prompts" in changed(newest, pinned)


def test_an_option_of_another_source_can_be_taken_back() -> None:
    assert plan("prompts.revision=null", rows=("student",)).recipe.prompts.config == NoOptions()


def test_too_few_prompts_are_counted() -> None:
    with pytest.raises(UserError, match=r"source 'pocket' has only 0 prompts of at most .* \(\d{4,} in all\)"):
        load_prompts(SOURCES["pocket"], None, {}, seed=0, n=1, keep=lambda prompt: False)


@pytest.mark.usefixtures("no_hub")
def test_without_a_fallback_there_is_a_plan_and_no_run(tmp_path: Path) -> None:
    """The remedy is named, and --force does not help."""
    source = resolve_source(SOURCES["ultrafeedback"], ultrafeedback.UltraFeedbackOptions())
    assert "cannot be reached. Or set prompts.fallback to a source" in source.absence
    made = job(tmp_path / "runs", "pad-ppd", "prompts.source=ultrafeedback")
    with pytest.raises(UserError, match=r"nothing was started.*\n.*training prompts: .* cannot be reached\. Or set"):
        execute(made, force=True)
    assert not made.runs.exists()


@pytest.mark.usefixtures("no_hub")
def test_a_plan_says_that_the_fallback_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train = tmp_path / "train.jsonl"
    train.write_text("".join(json.dumps({"question": f"{n}?", "answer": "#### 1"}) + "\n" for n in range(4)))
    monkeypatch.setattr(gsm8k_train, "locate", lambda name: train)
    said = "training prompts: gsm8k-train instead of ultrafeedback, which could not be reached"
    made = job(tmp_path / "runs", "pad-ppd", *FALLBACK, *SMALL)
    assert not show_plan(made), "a remark, and no problem"
    assert f"note: {said}\n" in capsys.readouterr().out
    assert said in notes(made.first)
    # of a finished run too
    found = check(made.first, [], made.runs)
    assert [finding.text for finding in found] == [said]
    (prompts,) = [stage for stage in made.first.stages if stage.kind == "prompts"]
    assert prompts.params["source"] == "gsm8k-train"


@pytest.mark.usefixtures("no_hub")
def test_a_fallback_that_is_not_here_is_a_problem_beside_the_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> Path:
        raise UserError(f"asset {name!r} is missing")

    monkeypatch.setattr(gsm8k_train, "locate", missing)
    made = job(tmp_path / "runs", "pad-ppd", *FALLBACK, *SMALL)
    found = check(made.first, made.first.stages, made.runs)
    assert next(each.text for each in found if not each.problem).startswith("training prompts: gsm8k-train instead")
    (problem,) = [each for each in found if each.problem]
    assert problem.text == "training prompts: asset 'gsm8k/train.jsonl' is missing" and not problem.forceable


GOOD = b'{"prompt": "a", "golden": "b"}\n'


def test_lines_become_prompts(tmp_path: Path) -> None:
    talk = b'{"prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "u\xe2\x80\xa8v"}], "id": "t"}'
    file = tmp_path / "mine.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + GOOD + b"\n" + talk)
    _, (first, second) = read_file(str(file))
    assert (first.id, first.messages, first.golden) == ("line-1", ({"role": "user", "content": "a"},), "b")
    assert second.id == "t" and second.rejected is None
    assert second.messages[1]["content"] == "u\u2028v", "a line separator inside of a text ends no line"
    file.write_bytes(b'{"prompt": "cut \\ud83d", "completion": [{"role": "assistant", "content": "b"}], "id": 7}')
    _, (prompt,) = read_file(str(file))
    assert (prompt.id, prompt.messages[0]["content"], prompt.golden) == ("7", "cut \ufffd", "b")


@pytest.mark.parametrize(
    ("line", "part"),
    [
        (b'{"prompt": "caf\xe9"}', "not UTF-8 (byte 16 of the line is 0xe9)"),
        (b'{"prompt": "a", "golden": 5}', '"golden" is 5, not text'),
        (b'{"prompt": "a", "rejected": ["b"]}', "\"rejected\" is ['b'], not text"),
        (b'{"prompt": "a", "id": "line-1"}', "id 'line-1' is that of line 1 too"),
        (b'{"prompt": 5}', "neither text nor a list"),
        (b"prompt: a", "line 3: not JSON (expecting value, at character 1)"),
        (b'{"promt": "a"}', 'unknown key "promt"; did you mean "prompt"?'),
        (b'{"golden": "a"}', 'there is no "prompt"'),
        (b'{"prompt": "a", "goldn": "b"}', 'unknown key "goldn"; did you mean "golden"?'),
        (b'{"prompt": "a", "response": "b"}', 'unknown key "response"'),
        (b'{"prompt": "a", "completion": "b", "label": true}', 'unknown key "label" (with "completion" go prompt'),
        (b'{"prompt": "a", "chosen": "b", "score_chosen": 5}', 'unknown key "score_chosen"; did you mean "chosen"?'),
        (b'{"prompt": "a", "chosen": [{"role": "user", "content": "a"}]}', "does not end in an assistant turn"),
        (b'{"conversations": [{"from": "bot", "value": "a"}]}', 'not an object with "from" of human'),
        (b'{"messages": "a"}', '"messages" is not a list of messages'),
        (b'{"prompt": "a"', "not JSON (expecting ',' delimiter, at character 15)"),
        (b'["a"]', "a list, not an object"),
        (b'{"prompt": []}', "neither text nor a list"),
        (b'{"prompt": " "}', "the prompt is empty"),
        (b'{"prompt": ["a"]}', "a message is 'a'"),
        (b'{"prompt": [{"role": "user", "content": 5}]}', '"content" of a message is 5'),
        (b'{"prompt": [{"role": "assistant", "content": "a"}]}', "not a user turn"),
    ],
)
def test_a_mistake_names_file_and_line_when_the_plan_is_made(line: bytes, part: str, tmp_path: Path) -> None:
    """Line 2 is blank, so the mistake is in line 3."""
    file = tmp_path / "mine.jsonl"
    file.write_bytes(GOOD + b"\n" + line + b"\n")
    with pytest.raises(UserError) as told:
        plan(f"prompts={{source: jsonl, path: {file}}}", rows=("student",))
    assert f"{file}, line 3: " in str(told.value) and part in str(told.value)


def test_the_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.jsonl").write_bytes(GOOD)
    options = JsonlOptions("~/mine.jsonl")
    identity = SOURCE.pin(options).identity
    (prompt,) = load_prompts(SOURCE, options, identity, seed=0, n=1)
    assert prompt.golden == "b"
    (tmp_path / "mine.jsonl").write_bytes(GOOD + b"\n")
    with pytest.raises(UserError, match="has changed since this run was planned"):
        load_prompts(SOURCE, options, identity, seed=0, n=1)
    family = [f"family.{name}={checkpoint(tmp_path / name, ('a', 'b'))}" for name in ("teacher", "student")]
    made = plan("prompts={source: jsonl, path: ~/mine.jsonl, n: 1}", *family, rows=("student", "dpo"))
    assert made.graph.source.pin.identity["sha256"]


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a file"):
        read_file(str(tmp_path))


USER, SYSTEM = {"role": "user", "content": "ask"}, {"role": "system", "content": "s"}
YES, NO = ({"role": "assistant", "content": text} for text in ("yes", "no"))
PAIR = ("yes", "no")
SHARED = {"from": "gpt", "value": "yes"}


@pytest.mark.parametrize(
    ("row", "messages", "answers"),
    [
        ({"prompt": "ask", "chosen": "yes", "rejected": "no"}, (USER,), PAIR),
        ({"prompt": [USER], "chosen": [YES], "rejected": [NO]}, (USER,), PAIR),
        ({"prompt": "ask", "chosen": [USER, YES], "rejected": [USER, NO], "id": "x"}, (USER,), PAIR),
        ({"chosen": [SYSTEM, USER, YES], "rejected": [SYSTEM, USER, NO]}, (SYSTEM, USER), PAIR),
        ({"messages": [USER, NO, USER, YES]}, (USER, NO, USER), ("yes", None)),
        ({"messages": [SYSTEM, USER]}, (SYSTEM, USER), (None, None)),
        ({"conversations": [{"from": "human", "value": "ask"}, SHARED]}, (USER,), ("yes", None)),
        ({"instruction": "ask", "input": "", "output": "yes"}, (USER,), ("yes", None)),
        ({"instruction": "as", "input": "k", "output": "yes"}, ({**USER, "content": "as\n\nk"},), ("yes", None)),
    ],
)  # fmt: skip
def test_layouts_of_other_trainers_are_read(row: dict, messages: tuple, answers: tuple, tmp_path: Path) -> None:
    """As JSON lines, and as one JSON array."""
    for text in (json.dumps(row) + "\n", json.dumps([row], indent=1)):
        (tmp_path / "mine.jsonl").write_text(text)
        _, (prompt,) = read_file(str(tmp_path / "mine.jsonl"))
        assert (prompt.messages, (prompt.golden, prompt.rejected)) == (messages, answers)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "other", "chosen": [USER, YES], "rejected": [USER, NO]},
        {"chosen": [USER, YES], "rejected": [SYSTEM, USER, NO]},
    ],
)
def test_a_pair_about_two_prompts_is_refused(row: dict, tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text(json.dumps(row))
    with pytest.raises(UserError, match=r"line 1: .*(other|different) turns"):
        read_file(str(tmp_path / "mine.jsonl"))


def test_tables_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("prompt,golden,rejected\na?,b,c\n", encoding="utf-8")
    assert read_file(str(tmp_path / "a.csv"))[1] == [
        Prompt("line-2", ({"role": "user", "content": "a?"},), "b", "c", str(tmp_path / "a.csv"))
    ]
    (tmp_path / "a").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="Parquet file that cannot be read"):
        read_file(str(tmp_path / "a"))


def test_golden_answers_that_a_method_needs_are_looked_for_in_the_plan(tmp_path: Path) -> None:
    """Standard KD trains on golden answers alone: without one it is unavailable; DPO trains on the student's own."""
    (tmp_path / "mine.jsonl").write_bytes(b'{"prompt": "a"}\n')
    made = plan(f"prompts={{source: jsonl, path: {tmp_path}/mine.jsonl, n: 1}}", rows=("student", "kd", "dpo"))
    reasons = {row.row: row.unavailable for row in made.entrants if row.unavailable}
    assert reasons == {"kd": "needs golden answers (prompts from 'jsonl' have none)"}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("text,golden\na,b\n", 'line 1 (columns prompt, golden, rejected, id): unknown key "text"'),
        ("promt\na\n", 'id): unknown key "promt"; did you mean "prompt"?'),
        ("golden\na\n", 'line 1 (columns prompt, golden, rejected, id): there is no "prompt"'),
        ("prompt;golden\na;b\n", "line 1: the columns seem to be divided by ';', and not by commas (.csv). Save it"),
        ("\nprompt,golden\na,b\n", "the first line must hold a name for each column, all different."),
    ],
)
def test_a_wrong_heading_of_a_table_is_said_once(content: str, text: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(UserError) as error:
        read_file(str(file))
    assert text in str(error.value) and "\n" not in str(error.value)


def test_an_empty_column_of_a_spreadsheet_is_passed_over(tmp_path: Path) -> None:
    """But not what stands in it."""
    file = tmp_path / "mine.csv"
    file.write_text("prompt,golden,\na,b,\n", encoding="utf-8")
    assert [(prompt.messages[0]["content"], prompt.golden) for prompt in read_file(str(file))[1]] == [("a", "b")]
    file.write_text("prompt,golden,\na,b,c\n", encoding="utf-8")
    with pytest.raises(UserError, match='line 2: unknown key ""'):
        read_file(str(file))


def test_bad_lines_are_named_in_the_order_of_the_file(tmp_path: Path) -> None:
    """Lines that are no JSON were found before the others. Of five alike, three are shown."""
    file = tmp_path / "mine.jsonl"
    rows = ['{"prompt": ""}', "no", '{"prompt": "a"}', "{", *['{"prompt": 1}'] * 5, '{"prompt": " "}']
    file.write_text("\n".join(rows), encoding="utf-8")
    with pytest.raises(UserError) as error:
        read_file(str(file))
    found = re.findall(r"line (\d+)|(and 2 more)", str(error.value))
    assert [number or more for number, more in found] == ["1", "2", "4", "5", "6", "7", "and 2 more", "10"]
