"""``import distilbench``: what it exports, what it costs, and the snippets of docs/python.md."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from typing import Any

import pytest

import distilbench
from tests.command import ROOT, SMALL, environment
from tests.test_reproduce import WORDS, Place, base, copy  # noqa: F401, fixtures

EXPORTED = {
    "FinishedRun", "FinishedSearch", "Search", "UserError", "WorkPlan", "compare_annotations", "compare_judges",
    "evaluate", "export_answers", "import_answers", "load", "plan", "plan_evaluation", "plan_judge_comparison",
    "plan_search", "read_import", "report", "reproduce", "run", "search", "simulate", "write_page",
}  # fmt: skip
HEAVY = ("torch", "transformers", "trl", "lm_eval", "matplotlib", "datasets", "peft", "pandas", "numpy", "pydantic")
CALLS = 40_000
"""Of our own functions while a finished run is read again and its table written."""

TRACE = """
import json, sys
root, folders, report = sys.argv[1], tuple(f"{sys.argv[1]}/{name}/" for name in sys.argv[2].split(",")), sys.argv[3]
calls, callers = 0, {}
def ours(frame):
    code = frame.f_code
    return code.co_filename.startswith(folders) and not code.co_name.startswith("<")
def note(frame, event, argument):
    global calls
    if event == "call" and frame.f_code.co_filename.startswith(folders):
        calls += 1
        names = []
        while frame is not None and len(names) < 2:
            if ours(frame):
                names.append(frame.f_code.co_filename[len(root) + 1:] + " " + frame.f_code.co_qualname)
            frame = frame.f_back
        name, caller = (*names, "", "")[:2]
        callers.setdefault(name, []).append(caller)
sys.argv = ["distilbench", *sys.argv[4:]]
from distilbench.cli import main
sys.setprofile(note)
try:
    main()
except SystemExit as error:
    assert not error.code, error.code
sys.setprofile(None)
json.dump([calls, callers], open(report, "w"))
"""


def test_what_is_exported_is_listed_and_there() -> None:
    assert set(distilbench.__all__) == EXPORTED == set(dir(distilbench))
    for name in EXPORTED:
        assert getattr(distilbench, name).__name__ == name
        assert getattr(distilbench, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'reprodce'"):
        distilbench.reprodce  # noqa: B018


def test_the_import_loads_nothing_heavy() -> None:
    code = f"import sys, distilbench; print([name for name in {HEAVY!r} if name in sys.modules], len(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
    loaded, modules = done.stdout.rsplit(maxsplit=1)
    assert loaded == "[]"
    assert int(modules) < 200


def test_a_finished_run_is_read_with_few_calls_along_the_documented_path(copy: Place) -> None:  # noqa: F811
    """The main path of docs/architecture.md: in this order, and each called directly by one above it."""
    folders, report = "distilbench,harness,methods,judges,results,reports,recipes", copy.folder / "trace.json"
    done = subprocess.run(
        [sys.executable, "-c", TRACE, str(ROOT), folders, str(report), *WORDS],
        capture_output=True, text=True, check=True, env=environment(), cwd=copy.folder,
    )  # fmt: skip
    assert "44 were done already, 0 ran now" in done.stderr
    calls, callers = json.loads(report.read_text(encoding="utf-8"))
    assert calls <= CALLS
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    path = [
        f"{file} {name}" for name, file in re.findall(r"^\| \d+ \| `([\w.]+)` \| `([\w/.]+)` \|", page, re.MULTILINE)
    ]
    assert len(path) == 15
    for place, name in enumerate(path[1:], 1):
        assert set(callers.get(name, ())) & set(path[:place]), f"{name}: called by {callers.get(name)}"
    assert sorted(path, key=list(callers).index) == path


def test_the_snippets_of_the_page_run(copy: Place, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """In the folder of the small run, which the snippet that reproduces table1 finds finished."""
    monkeypatch.chdir(copy.folder)
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    snippets = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(snippets) == 8
    small = f"set={list(SMALL)!r}, min_coverage=0.0"
    names: dict[str, Any] = {}
    for snippet in snippets:
        code = snippet.replace('methods=["dpo", "seqkd"]', f'methods=["dpo", "seqkd"], {small}')
        exec(compile(code, "docs/python.md", "exec"), names)  # noqa: S102
    run = names["run"]
    assert isinstance(run, distilbench.FinishedRun)
    assert run.targets == ("eval",) and list(run.frame()["row"]) == ["student"]
    table1 = distilbench.load("runs/pocket")
    assert "DPO" in table1.text(notes=True)
    assert set(table1.frame()["row"]) == {"teacher", "student", "seqkd", "dpo"}
    answers, judgments = table1.answers(), table1.judgments()
    questions = answers.groupby(["row", "benchmark"])["question"].nunique()
    assert questions.tolist() == [8] * 16, "4 rows on 4 benchmarks"
    assert judgments["verdict"].between(-2, 10).all(), "MT-Bench grades from 1 to 10, the others compare"
    assert set(judgments["row"]) == {"teacher", "student", "seqkd", "dpo"}
    assert ((judgments["request"] == "") == (judgments["benchmark"] == "gsm8k")).all(), "the ledger's keys"
    told, values = names["tested"], table1.frame().set_index(["row", "metric"])["value"]
    assert told == table1.difference("dpo", "seqkd", "alpaca_eval.wr") and told.p is None, "8 questions, no test"
    assert told.change == pytest.approx(values["dpo", "alpaca_eval.wr"] - values["seqkd", "alpaca_eval.wr"])
    with pytest.raises(distilbench.UserError, match=r"dpo has no value of alpaca_eval.lc: .*below 100 scored"):
        table1.difference("dpo", "seqkd", "alpaca_eval.lc")
    request, reply = table1.judge_call(names["judged"]["request"])
    answer = answers.set_index(["row", "seed", "benchmark", "question"]).loc[
        tuple(names["judged"][["row", "seed", "benchmark", "question"]]), "answer"
    ]
    assert any(answer in message["content"] for message in request["messages"]), "what was judged is in the request"
    assert reply.text == names["judged"]["reply"]
    with pytest.raises(distilbench.UserError, match="no request with a reply under 'gone'"):
        table1.judge_call("gone")
    with pytest.raises(distilbench.UserError, match=r"unknown target 'table2'"):
        table1.frame("table2")


def test_every_path_may_be_text() -> None:
    """Whatever a public function takes as a ``Path``, also as a keyword of its options, it takes as ``str`` too."""
    hints: dict[tuple[str, str], str] = {}
    for function in filter(inspect.isfunction, (getattr(distilbench, name) for name in distilbench.__all__)):
        for name, annotation in inspect.get_annotations(function).items():
            if options := re.fullmatch(r"Unpack\[(\w+)\]", str(annotation)):
                for base in getattr(sys.modules[function.__module__], options[1]).__mro__[:1]:
                    hints |= {(options[1], key): str(hint) for key, hint in inspect.get_annotations(base).items()}
            elif name != "return":
                hints[function.__name__, name] = str(annotation)
    paths = {place: hint for place, hint in hints.items() if "Path" in hint and "Callable" not in hint}
    assert len(paths) > 10 and ("ComparisonOptions", "out") in paths
    assert {place: hint for place, hint in paths.items() if "str | Path" not in hint} == {}
