"""The registry: entry points, plug-in files, names taken twice, and packages that are not ours."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest

from distilbench import evaluate, installation, plugins
from distilbench.workflows.check import check
from distilbench.workflows.plan import WorkPlan, plan
from harness.contracts.stage import Stage
from harness.errors import UserError
from harness.records import write_records
from harness.types import Answer
from judges import BENCHMARKS
from tests.command import SMALL

PLUGIN = """
from dataclasses import dataclass, replace
from methods.dpo import METHOD as DPO

METHOD = replace(DPO, name={name!r}, title="Mine")
"""


def write(folder: Path, text: str, name: str = "my_method.py") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (PLUGIN.format(name="dpo"), ("my_method.py", "'dpo'", "distilbench has one", "Rename")),
        ("import nothing_of_this_name\n", ("my_method.py", "ModuleNotFoundError", "my_method.py:1")),
        ("def f(:\n", ("SyntaxError", "my_method.py, line 1")),
        ("x = 1\n", ("defines none of METHOD, METHODS",)),
        ("METHOD = 3\n", ("is a int, not a harness.contracts.method.Method",)),
        (PLUGIN.format(name="a") + "METHODS = {'b': METHOD}\ndel METHOD\n", ("'b'", "calls itself 'a'")),
    ],
)
def test_a_plugin_that_does_not_fit_is_named_with_the_reason(tmp_path: Path, text: str, parts: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as caught:
        plugins.load_registry([write(tmp_path, text)])
    assert all(part in str(caught.value) for part in parts), str(caught.value)


def test_a_plugin_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a file"):
        plugins.load_registry([str(tmp_path / "none.py")])
    with pytest.raises(UserError, match="ModuleNotFoundError"):
        plugins.load_registry(["no_such_module_of_mine"])


def test_an_entry_point_joins_and_a_broken_one_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write(tmp_path, PLUGIN.format(name="theirs"), "their_methods.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    points = [EntryPoint("theirs", "their_methods:METHOD", "distilbench.methods")]

    monkeypatch.setattr(plugins, "entry_points", lambda: EntryPoints(points))
    assert "theirs" in plugins.load_registry().methods
    points.append(EntryPoint("gone", "their_methods:NOTHING", "distilbench.judges"))
    with pytest.raises(UserError, match=r"entry point 'gone'.*AttributeError"):
        plugins.load_registry()


def test_annotations_of_a_file_are_what_python_makes_of_them(tmp_path: Path) -> None:
    """The ``from __future__ import annotations`` of our own loader is not the file's."""
    module = plugins.import_plugin(write(tmp_path, "def loss(x: int) -> float: ...\n"))
    assert module.loss.__annotations__ == {"x": int, "return": float}


def test_code_counts_without_comments_and_docstrings(tmp_path: Path) -> None:
    def code(text: str, name: str = "own") -> str:
        return plugins.load_registry([write(tmp_path, text)]).code["methods", name]

    text = PLUGIN.format(name="own") + "\ndef loss(x):\n    return 0.1 * x\n"
    same = text.replace("    return", '    """Of x."""\n    # a tenth\n    return').replace("0.1 * x", "0.1*x")
    assert len(text) == len(text.replace("0.1", "0.2"))  # of one size and second: stored bytecode would be the old one
    assert code(text) == code(same) != code(text.replace("0.1", "0.2"))
    assert not [key for key in plugins.load_registry([write(tmp_path, text)]).code if key != ("methods", "own")]


def test_code_of_a_package_is_that_of_the_modules_that_define_the_entry(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = tmp_path / "their_package"
    package.mkdir()
    write(package, "from their_package.deep import METHOD\n", "__init__.py")
    rows = "def rows(group, config):\n    return [{}]\nMETHOD = replace(METHOD, rows=rows)\n"
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(
        plugins,
        "entry_points",
        lambda: EntryPoints([EntryPoint("theirs", "their_package:METHOD", "distilbench.methods")]),
    )
    codes = []
    for number in (1, 2):
        write(package, PLUGIN.format(name="theirs") + rows.format(number), "deep.py")
        codes.append(plugins.load_registry().code["methods", "theirs"])
        for name in [name for name in sys.modules if name.startswith("their_package")]:
            monkeypatch.delitem(sys.modules, name)
        importlib.invalidate_caches()
    assert codes[0] != codes[1]


def test_code_that_a_benchmark_of_a_package_inherits_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The class stands in ``entry``, what it inherits in ``base``, its options in ``config``, and what they
    inherit in ``limits``; ``other`` is imported."""
    package, files = tmp_path / "their_suite", {}
    package.mkdir()
    files["base"] = "from judges.benchmarks.gsm8k.benchmark import GSM8K\nclass Base(GSM8K):\n    x = 1\n"
    files["limits"] = "from harness.contracts.options import options\n@options\nclass Limits:\n    x: int = 1\n"
    files["config"] = "from their_suite.limits import Limits, options\n@options\nclass Config(Limits):\n  y: int = 1\n"
    files["other"] = "x = 1\n"
    files["entry"] = (
        "from their_suite import other\nfrom their_suite.base import Base\nfrom their_suite.config import Config\n"
        "class Suite(Base):\n    name = 'suite'\n    config = Config\nBENCHMARK = Suite()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))

    def code(changed: str = "") -> str:
        for name in [name for name in sys.modules if name.startswith("their_suite")]:
            monkeypatch.delitem(sys.modules, name)
        importlib.invalidate_caches()
        for name, text in {**files, "__init__": ""}.items():
            write(package, text + ("y = 2\n" if name == changed else ""), f"{name}.py")
        return plugins.load_registry(["their_suite.entry"]).code["benchmarks", "suite"]

    assert code() == code("other")
    assert len({code(name) for name in ("", "entry", "base", "config", "limits")}) == 5


def test_stages_of_other_code_are_named_in_the_plan_and_not_run_with_it(tmp_path: Path) -> None:
    def planned(text: str) -> WorkPlan:
        file = write(tmp_path, PLUGIN.format(name="own") + text)
        options = {"methods": ["own"], "plugins": [file], "runs": tmp_path, "set": SMALL}
        return plan("table1", **options)  # type: ignore[arg-type]

    def train(work: WorkPlan) -> Stage:
        return next(stage for stage in work.stages if stage.kind == "train")

    first = planned("x = 1\n")
    assert train(first).params["method_code"].startswith("own ") and first.changed_code == []
    for stage in first.stages:
        if "method_code" in stage.params:  # the training, and the reference that it reads
            first.store.write(stage, lambda folder: {})
    assert planned("x = 1  # one\n").changed_code == []  # it is in the store
    changed = planned("x = 2\n")
    assert [text.partition(" since")[0] for text in changed.changed_code] == ["the code of 'own' has changed"]
    assert changed.changed_code[0] in [finding.text for finding in changed.findings]
    changed.first.graph.registry.refuse_other_code(train(changed))
    with pytest.raises(UserError, match="the code of 'own' has changed since"):
        changed.first.graph.registry.refuse_other_code(train(first))


JUDGE_PLUGIN = """
from harness.contracts.judge import JudgeKind
from harness.contracts.options import options
from harness.types import Reply


@options
class FixedOptions:
    pass


class FixedJudge:
    name, model, endpoint = "fixed", "fixed-1", {endpoint!r}

    async def complete(self, request):
        return Reply("[[{grade}]]", "stop", self.model, 1, 1)

    def check(self):
        return None


class Fixed(JudgeKind):
    name, summary, config = "fixed", "gives one grade", FixedOptions

    def make(self, config):
        return FixedJudge()

    def identity(self, config):
        return {{"rule": "fixed"}}

    def price(self, config, prompt_tokens, completion_tokens):
        return 0.0


JUDGE = Fixed()
"""


@pytest.mark.parametrize(("endpoint", "second"), [("in-process:fixed", 3.0), ("http://judge", 7.0)])
def test_a_rule_that_is_edited_replies_anew_and_a_server_is_not_asked_again(
    endpoint: str, second: float, tmp_path: Path
) -> None:
    questions = BENCHMARKS["mt_bench"].questions(BENCHMARKS["mt_bench"].config(limit=2))
    (tmp_path / "mine").mkdir()
    answers = [Answer(question.id, ("a", "b"), (True, True), (1, 1)) for question in questions]
    write_records(tmp_path / "mine" / "mt_bench.jsonl", answers)

    def grade(value: int) -> float:
        file = write(tmp_path, JUDGE_PLUGIN.format(endpoint=endpoint, grade=value), "my_judge.py")
        run = evaluate(
            [f"mine=answers:{tmp_path / 'mine'}"], "{kind: fixed}", questions="pocket", limit=2,
            benchmarks=["mt_bench"], set=["statistics.replicates=100", "compute.executor=inline"], plugins=[file],
            name="mine", runs=tmp_path / "runs",
        )  # fmt: skip
        return float(run.frame()["value"].iloc[0])

    assert [grade(7), grade(3)] == [7.0, second]


def test_a_judge_that_is_made_only_once_keeps_its_endpoint(tmp_path: Path) -> None:
    text = JUDGE_PLUGIN.format(endpoint="in-process:fixed", grade=7).replace("FixedJudge()", "ONE")
    registry = plugins.load_registry([write(tmp_path, text + "\n\nONE = FixedJudge()\n")])
    judge = registry.judge("fixed", registry.judges["fixed"].config())
    endpoints = [judge.make().endpoint for _ in range(2)]
    assert endpoints == [f"in-process:fixed#{registry.code['judges', 'fixed']}"] * 2


@pytest.mark.parametrize(
    ("old", "new", "name", "problem"),
    [
        ("pass\n", "weight: float = 1.0\n", "options", "weight"),
        ('{"rule": "fixed"}', "{}", "identity", "identity() is empty"),
        ('{"rule": "fixed"}', '{"rule": object}', "identity", "JSON"),
        ('"fixed-1"', '""', "names", "the judge's model is ''"),
        ("async def", "endpoint = property(lambda self: 'in-process:x')\n\n    async def", "names", "can be set"),
        (
            "class FixedJudge",
            "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass FixedJudge",
            "names",
            "can be set",
        ),
        ("return 0.0", "return -1.0 * prompt_tokens", "price", "0, 1000 and 2000 tokens cost"),
        ("return None", "return 3", "reachable", "check() gives 3"),
        ('Reply("[[7]]"', 'Reply(""', "replies", "an empty reply must be a JudgeError"),
        ('return Reply("[[7]]", "stop", self.model, 1, 1)', 'return "[[7]]"', "replies", "a str, not a Reply"),
    ],
)
def test_the_fault_of_a_judge_is_found_by_its_check(
    old: str, new: str, name: str, problem: str, tmp_path: Path
) -> None:
    text = JUDGE_PLUGIN.format(endpoint="in-process:fixed", grade=7)
    assert old in text
    found = {finding.name: finding.problem for _, finding in check("judges", write(tmp_path, text.replace(old, new)))}
    assert problem in str(found.pop(name)) and not any(found.values())


def test_a_package_of_another_distribution_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    installation.check_folders()  # ours are ours
    real = importlib.util.find_spec

    def find(name: str, *more: Any) -> ModuleSpec | None:
        if name != "judges":
            return real(name, *more)
        spec = ModuleSpec("judges", None, origin=str(tmp_path / "judges/__init__.py"), is_package=True)
        spec.submodule_search_locations = [str(tmp_path / "judges")]
        return spec

    monkeypatch.setattr(importlib.util, "find_spec", find)
    monkeypatch.setattr(installation, "packages_distributions", lambda: {"judges": ["trial-by-jury"]})
    with pytest.raises(UserError, match=r"'judges' is not distilbench's.*trial-by-jury.*virtual environment"):
        installation.check_folders()
