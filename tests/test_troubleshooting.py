"""``docs/troubleshooting.md`` quotes messages as they are printed: its headings in code letters, where ``…`` stands for
what differs. Each is looked for in the texts of the product, and many are provoked and compared with what is printed.
"""

from __future__ import annotations

import ast
import difflib
import errno
import io
import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from shutil import copytree
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml

from harness.errors import UserError
from tests.command import ROOT
from tests.test_architecture import FOLDERS

PAGE = ROOT / "docs" / "troubleshooting.md"
GAP, VALUE = "…", "\0"
"""What stands for a value: on the page, and in a text of the product below."""
MOST_WORDS = 80


def entries() -> dict[str, str]:
    """Heading -> what is said below it."""
    parts = re.split(r"^### (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    texts = [text.partition("\n## ")[0].strip() for text in parts[1::2]]
    return dict(zip(parts[::2], texts, strict=True))


def messages() -> list[str]:
    return [head[1:-1] for head in entries() if head.startswith("`") and head.endswith("`")]


# Against the source


def text_of(node: ast.expr) -> str | None:
    """A string literal, or an f-string with ``VALUE`` in the place of each value."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(VALUE if isinstance(part, ast.FormattedValue) else text_of(part) or "" for part in node.values)
    return None


def texts_in(source: bytes) -> Iterator[str]:
    """The string literals and f-strings of a file; no docstrings, which nobody prints."""
    stack: list[ast.AST] = [ast.parse(source)]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        text = text_of(node) if isinstance(node, ast.expr) else None
        if text:
            yield text
        if not isinstance(node, ast.JoinedStr):
            stack += ast.iter_child_nodes(node)
        else:  # a value may hold texts of its own
            stack += [part.value for part in node.values if isinstance(part, ast.FormattedValue)]


@cache
def product() -> dict[str, list[str]]:
    files = [file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.py"))]
    return {str(file.relative_to(ROOT)): [*texts_in(file.read_bytes())] for file in files}


def pieces(message: str) -> list[str]:
    """The words of a message that do not differ; marks at their ends may be of another text."""
    return [piece.strip(" .,:;()") for piece in message.split(GAP) if re.search(r"\w", piece)]


def home(message: str, sources: dict[str, list[str]]) -> str | None:
    """The file that prints the message: one text of it has all pieces in their order, or several texts of one file
    have them. Of a short piece (" is ") alone nothing follows, so the longest counts first."""
    words = pieces(message)
    in_order = re.compile(".*?".join(map(re.escape, words)), re.DOTALL)
    longest = max(words, key=len)
    files = [name for name, texts in sources.items() if any(longest in text for text in texts)]
    for name in files:
        if any(in_order.search(text) for text in sources[name]):
            return name
    return next((n for n in files if all(any(word in text for text in sources[n]) for word in words)), None)


def reworded(message: str, sources: dict[str, list[str]]) -> str:
    """What to say of a message that nobody prints."""
    all_texts = {text.replace(VALUE, GAP) for texts in sources.values() for text in texts if len(text) > 20}
    near = difflib.get_close_matches(message, all_texts, n=1, cutoff=0.4)
    hint = f" Nearest: {near[0]!r}." if near else ""
    return f"{PAGE.name} quotes {message!r}, and no text of the product has these words any more.{hint}"


def test_every_message_of_the_page_is_one_of_the_product() -> None:
    sources = product()
    assert sum(map(len, sources.values())) > 10_000
    lost = [reworded(message, sources) for message in messages() if home(message, sources) is None]
    assert not lost, "\n".join(lost)


def test_a_reworded_message_is_noticed_and_shown() -> None:
    """The page says "a … b"; the product says "a {x} b", then "a {x} c"; or says it in two texts of one file."""
    assert home("no room in … for it", {"a.py": [f"there is no room in {VALUE} for it."]}) == "a.py"
    assert home("no room in … for it", {"a.py": ["no room in "], "b.py": ["for it"]}) is None
    assert home("no room in … for it", {"a.py": ["no room in ", "for it"]}) == "a.py"
    changed = {"a.py": [f"there is no space in {VALUE} for it."]}
    assert home("no room in … for it", changed) is None
    assert "Nearest: 'there is no space in … for it.'" in reworded("there is no room in … for it", changed)


def test_texts_are_those_that_can_be_printed() -> None:
    source = b'"""Module."""\ndef f(x):\n    "Doc."\n    return f"a {g(x, \'b\'):.1f} c" "d" + "e"\n'
    assert sorted(texts_in(source)) == [f"a {VALUE} cd", "b", "e"]


def test_the_page_has_short_entries() -> None:
    said = entries()
    assert 35 <= len(said) <= 65
    assert len(messages()) >= 50
    assert len(set(messages())) == len(messages())
    assert [head for head, text in said.items() if not 5 <= len(text.split()) <= MOST_WORDS] == []


def test_links_of_the_page_lead_to_headings() -> None:
    for file, anchor in re.findall(r"\]\(([\w.-]+\.md)#([\w-]+)\)", PAGE.read_text(encoding="utf-8")):
        heads = re.findall(r"^#+ (.+)$", (PAGE.parent / file).read_text(encoding="utf-8"), re.MULTILINE)
        anchors = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
        assert anchor in anchors, f"{file} has no #{anchor}"


# Against what is printed

Provoke = Callable[[Path, pytest.MonkeyPatch], str]
QUICK: dict[Provoke, tuple[str, ...]] = {}
SLOW: dict[Provoke, tuple[str, ...]] = {}
"""A function that provokes messages and returns what is printed -> their first words. Those in ``SLOW`` load much."""


def provokes(*beginnings: str, slow: bool = False) -> Callable[[Provoke], Provoke]:
    def keep(function: Provoke) -> Provoke:
        (SLOW if slow else QUICK)[function] = beginnings
        return function

    return keep


def refusal(function: Callable[..., object], *arguments: object, **options: object) -> str:
    with pytest.raises(UserError) as error:
        function(*arguments, **options)
    return str(error.value)


def command(*words: str) -> str:
    """What ``distilbench WORDS`` prints, in this process."""
    from typer.testing import CliRunner

    from distilbench.cli.app import app

    result = CliRunner(env={"COLUMNS": "1000"}).invoke(app, words)
    assert isinstance(result.exception, UserError | SystemExit | None), result.exception
    return f"{result.output}\n{result.exception}"


def changed(*changes: str) -> list[str]:
    return [word for change in changes for word in ("--set", change)]


def recipe(folder: Path, **sections: object) -> str:
    file = folder / "mine.yaml"
    file.write_text(yaml.safe_dump({"extends": "pocket", **sections}), encoding="utf-8")
    return str(file)


def entry(beginning: str) -> str:
    found = [message for message in messages() if message.startswith(beginning)]
    assert len(found) == 1, f"{beginning!r} begins {len(found)} messages of {PAGE.name}"
    return found[0]


def check(beginnings: Sequence[str], printed: str) -> None:
    for message in map(entry, beginnings):
        pattern = ".*?".join(re.escape(part.strip()) for part in message.split(GAP))
        assert re.search(pattern, printed, re.DOTALL), f"{PAGE.name} quotes {message!r}; what is printed:\n{printed}"


def name(function: Provoke) -> str:
    return function.__name__


def test_most_messages_are_provoked() -> None:
    provoked = [entry(beginning) for beginnings in {**QUICK, **SLOW}.values() for beginning in beginnings]
    assert len(set(provoked)) == len(provoked) >= 40


@pytest.mark.parametrize("provoke", QUICK, ids=name)
def test_a_message_is_printed_as_it_is_quoted(
    provoke: Provoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(QUICK[provoke], provoke(tmp_path, monkeypatch))


@pytest.mark.slow
@pytest.mark.parametrize("provoke", SLOW, ids=name)
def test_a_message_of_a_command_is_printed_as_it_is_quoted(
    provoke: Provoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(SLOW[provoke], provoke(tmp_path, monkeypatch))


# Installation and files


@provokes("the top-level package", slow=True)
def foreign_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    from importlib.machinery import ModuleSpec

    from distilbench.installation import check_folders

    module = ModuleType("reports")
    module.__spec__ = ModuleSpec("reports", None, origin=str(folder / "reports" / "__init__.py"), is_package=True)
    monkeypatch.setitem(sys.modules, "reports", module)
    return refusal(check_folders)


@provokes("packages: ", slow=True)
def old_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    from distilbench.workflows import check

    monkeypatch.setattr(check, "requires", lambda name: ["typer>=999"])
    return check.packages().text


@provokes("… needs …: pip install")
def missing_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    from harness.plan.trials import TpeSampler

    monkeypatch.setitem(sys.modules, "optuna", None)
    return refusal(TpeSampler, {}, 0)


@provokes("asset … is missing")
def missing_asset(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    from harness import assets

    monkeypatch.setattr(assets, "folders", lambda: [folder])
    return refusal(assets.locate, next(iter(assets.manifest())))


# Recipe and command line


@provokes("the recipe …", "… is an unknown key", "… is not the name of a", slow=True)
def mistakes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return command("plan", "--recipe", recipe(folder, methods={"dpo": {"bta": 0.1}, "dpa": {}}))


@provokes("nothing was started", "context: ", "compute.gpus: ", "memory: about", slow=True)
def problems(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Pocket's context has 512 tokens; this machine has no GPU with the number 9, and is given 1 MiB of memory."""
    import psutil

    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=1 << 20))
    words = ["--runs", str(folder), "--methods", "dpo"]
    planned = command("plan", *words, *changed("compute.gpus=[9]", "benchmarks.mt_bench.max_new_tokens=4000"))
    return planned + command("run", *words, *changed("compute.device=cpu"))


@provokes("prompts.n = …")
def too_few_prompts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    from harness.prompts import load_prompts
    from harness.types import Prompt

    prompts = [Prompt(str(number), ({"role": "user", "content": "?"},)) for number in range(3)]
    source: Any = SimpleNamespace(name="mine", prompts=lambda config, identity, seed: iter(prompts))
    return refusal(load_prompts, source, None, {}, 0, 4)


@provokes("overlap of training prompts", slow=True)
def overlap(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    shared = "name the largest river of the country in which you were born, and say how long it is in kilometres"
    (folder / "prompts.jsonl").write_text(json.dumps({"prompt": f"Please: {shared}."}), encoding="utf-8")
    (folder / "questions.jsonl").write_text(json.dumps({"question": shared, "reference": "a"}), encoding="utf-8")
    prompts = {"source": "jsonl", "path": str(folder / "prompts.jsonl"), "n": 1}
    benchmarks = {"own": {"kind": "exact", "questions": str(folder / "questions.jsonl")}}
    changes = [f"prompts={json.dumps(prompts)}", f"benchmarks={json.dumps(benchmarks)}", "seeds=[0]"]
    return command("plan", "--methods", "dpo", "--runs", str(folder), *changed(*changes))


# Models


@provokes("model … is neither a folder")
def no_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    from harness.models.checkpoint import resolve

    return refusal(resolve, "./nowhere")


@provokes("… is not in the local hub cache", slow=True)
def no_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    from harness.models.checkpoint import hub_commit

    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", lambda *words, **options: 1 / 0)
    return refusal(hub_commit, "owner/none", "main")


@provokes("model folder …", "… no chat template")
def half_a_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Without its weights, and without a template."""
    from harness.models.checkpoint import POCKET, resolve

    copytree(POCKET / "student", folder / "model")
    (folder / "model" / "model.safetensors").unlink()
    for file in (folder / "model").glob("*.jinja"):
        file.unlink()
    settings = json.loads((folder / "model" / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings.pop("chat_template", None)
    (folder / "model" / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return refusal(resolve, str(folder / "model"))


# Judges and servers


def openai_judge(**options: Any) -> Any:
    from judges.kinds.openai.judge import OpenAIConfig, OpenAIJudge

    return OpenAIJudge(OpenAIConfig(**{"model": "fake", **options}))


def requests(count: int) -> list[Any]:
    from harness.types import Request

    return [Request(f"q{n}", "game1", ({"role": "user", "content": f"{n}?"},), 8) for n in range(count)]


class FailingJudge:
    """Takes its time, or fails."""

    name, endpoint, model = "failing", "in-process:failing", "failing"

    async def complete(self, request: Any) -> Any:
        import asyncio

        from harness.contracts.judge import JudgeError

        if request.question == "q0":
            await asyncio.sleep(1)
        raise JudgeError("connection", "ConnectError: all connection attempts failed")

    def check(self) -> None: ...


def asked(folder: Path, count: int, billing: Any = None, **options: Any) -> str:
    from harness.contracts.judge import AskOptions, Billing
    from judges.client.ask import Pace, ask

    pace = Pace(first=0.001, longest=0.002, patience=0.0)
    options = {"retries": 0, **options}
    outcomes = ask(
        FailingJudge(), requests(count), folder / "l.sqlite", AskOptions(**options), None, billing or Billing(), pace
    )
    return "\n".join(map(str, outcomes))


@provokes("judge model … at OpenAI needs a key")
def no_key(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    return str(openai_judge(model="gpt-4.1-2025-04-14").check())


@provokes("judge model … cannot be reached", slow=True)
def no_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return str(openai_judge(base_url="http://127.0.0.1:1/v1").check())


@provokes("… the endpoint does not serve this model", slow=True)
def other_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    from tests.fakes.server import FakeServer, script

    with FakeServer(lambda request: 1 / 0, script(["no-model"]), models=("other",)) as server:  # type: ignore[arg-type,return-value]
        return str(openai_judge(base_url=server.base_url).check())


@provokes("judge model … refused the key", slow=True)
def wrong_key(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    from tests.fakes.server import FakeServer, script

    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong")
    with FakeServer(lambda request: 1 / 0, script(["auth"]), models=("other",)) as server:  # type: ignore[arg-type,return-value]
        return str(openai_judge(base_url=server.base_url).check())


def status(number: int, message: str, code: str = "") -> str:
    from harness.api_key import ApiKey
    from judges.kinds.openai.responses import status_failure

    return str(status_failure(number, {"message": message, "code": code}, ApiKey("NO_KEY")))


@provokes("… the account has no credit left")
def no_credit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return status(429, "You exceeded your current quota", "insufficient_quota")


@provokes("… set …")
def refused_field(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    text = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    printed = status(400, text, "unsupported_parameter")
    assert "max_tokens_field: max_completion_tokens" in printed
    return printed


@provokes("prompt and token limit together")
def small_window(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return status(400, "This model's maximum context length is 4096 tokens, and max_tokens=2048 were asked for.")


@provokes("no reply within …")
def slow_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return asked(folder, 1, timeout=0.02)


@provokes("… calls in a row failed")
def dead_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return asked(folder, 12, timeout=0.02, concurrency=1)


@provokes("about $… more")
def empty_budget(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    from harness.contracts.judge import Billing

    return asked(folder, 2, Billing(lambda prompt, completion: 1.0), max_cost=0.5)


@provokes("… failed (…): … replies are kept")
def unfinished_stage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    from harness.contracts.judge import JudgeError, refuse_failures
    from harness.types import Reply

    outcomes = [Reply("m", "stop", "fake", 1, 1), JudgeError("timeout", "the endpoint did not answer in time")]
    return refusal(refuse_failures, outcomes, (), "judge calls")


@provokes("judging is estimated at", slow=True)
def dear_judge(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    server = {"kind": "openai", "model": "m", "base_url": "http://127.0.0.1:1/v1", "price_in": 1e6, "price_out": 1e6}
    words = ("--methods", "dpo", "--runs", str(folder), "--max-cost", "1")
    return command("plan", "--recipe", recipe(folder, judges={"main": server}, seeds=[0]), *words)


# Runs


@provokes("stopped: ")
def stop(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    from distilbench import cli
    from distilbench.cli import app

    def interrupted(prog_name: str) -> None:
        raise KeyboardInterrupt

    errors = io.StringIO()
    monkeypatch.setattr(app, "app", interrupted)
    monkeypatch.setattr(sys, "stderr", errors)
    with pytest.raises(SystemExit, match="130"):
        cli.main()
    return errors.getvalue()


@provokes("… failed, … more wait for them")
def failed_stages(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    from distilbench.cli.reproduce import show_run

    outcome = SimpleNamespace(errors={"a": "no"}, blocked_keys=["b"])
    errors = io.StringIO()
    monkeypatch.setattr(sys, "stderr", errors)
    with pytest.raises(Exception, match="1"):  # typer.Exit(1)
        show_run(SimpleNamespace(work=None, outcome=outcome))  # type: ignore[arg-type]
    return errors.getvalue()


@provokes("… (made by another command)")
def made_elsewhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    from rich.console import Console

    from distilbench.cli.screen import Display

    page = io.StringIO()
    with Display(Console(file=page)) as display:
        display.on_plan(1, 0)
        display.on_finish_elsewhere("sample dpo seed 0")
    return page.getvalue()


@provokes("no space left in …")
def full_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    from harness.contracts.stage import Stage
    from results.store.store import ArtifactStore

    def fill(work: Path) -> dict[str, object]:
        raise OSError(errno.ENOSPC, "No space left on device")

    return refusal(ArtifactStore(folder).write, Stage("train", {}, row="dpo", seed=0), fill)


@provokes("… was changed since the run wrote it")
def edited_record(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    from results.run.record import read_run, write_run
    from tests.reports.world import make

    file = write_run(folder / "run.json", make(("student", "dpo"), seeds=(0,)).run)
    file.write_text(file.read_text(encoding="utf-8").replace("dpo", "ipo"), encoding="utf-8")
    return refusal(read_run, file)


@provokes("judge ledger …")
def locked_ledger(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    from judges.ledger import ledger

    monkeypatch.setattr(ledger, "BUSY_SECONDS", 0.05)
    with closing(sqlite3.connect(folder / "l.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        return refusal(ledger.Ledger, folder / "l.sqlite")


@provokes("… none of … prompts can be trained on", "… the … is … at step", slow=True)
def no_training(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    from harness.training import Training, TrainOptions
    from harness.training.batches import prepare
    from harness.training.trainer import DistilTrainer
    from methods import METHODS
    from tests.tiny import tiny_group, tiny_tokenizer

    kd = METHODS["kd"]
    training = Training(kd, kd.config(), [tiny_group([("ba", -1.0)])], folder, TrainOptions(), 0)
    stub: Any = SimpleNamespace(method=kd, state=SimpleNamespace(global_step=2))
    return refusal(prepare, training, tiny_tokenizer()) + str(DistilTrainer.not_finite(stub, "loss", ["p1"]))


# Memory


@provokes("its worker process died")
def killed_worker(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    from harness.run.processes import death_message
    from harness.text import describe_exit

    printed = death_message(describe_exit(-9), 2, was_alone=True)
    assert "signal 9" in printed and "memory ran out" in printed
    return printed


@provokes("memory ran out")
def no_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The stage's own function raises what torch raises on a GPU."""
    from distilbench.plugins import load_registry
    from harness.contracts.stage import Stage
    from harness.run import scheduler
    from results.store.store import ArtifactStore

    class OutOfMemoryError(RuntimeError):
        pass

    def run(stage: Stage, context: object) -> dict[str, object]:
        raise OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 1 GiB.")

    monkeypatch.setattr(scheduler, "STAGES", {"train": SimpleNamespace(run=run, runs_model=True)})
    store = ArtifactStore(folder / "store")
    run_stage = scheduler.stage_runner(lambda: (load_registry(), store), folder / "l.sqlite", 0.0)
    result = run_stage(Stage("train", {}, row="dpo", seed=0), lambda done, total, info: None)
    return str(result.error)


# Engines and clusters


@provokes("… did not start", slow=True)
def dead_engine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    from harness.contracts.engine import EngineSpec
    from harness.models.engines.local import EngineServer

    spec = EngineSpec("vllm", ("sh", "-c", "echo ValueError: no memory is left; exit 1"))
    return refusal(EngineServer(spec, "127.0.0.1", folder / "ENGINE.log").wait)


@provokes("the executor slurm hands jobs over")
def no_slurm(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    from harness.contracts.executor import Resources
    from harness.run.slurm import EXECUTOR, SlurmOptions

    monkeypatch.setenv("PATH", str(folder))
    return "\n".join(EXECUTOR.check(SlurmOptions(), Resources(1, 1), ()))


# Signs under a table


def printed_table(results: Any, **options: Any) -> str:
    from tests.reports.world import table_of

    table = table_of(results, **options)
    cells = [text for row in table.rows for cell in row.cells for text in (cell.text, *cell.lines)]
    return "\n".join([*cells, *table.lines, *table.detail_lines, *(text for _, text in table.footnotes)])


@provokes("UNFINISHED RUN", "refused:", "fewer than …")
def odd_table(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """20 questions; 8 of them have no verdict of DPO."""
    from dataclasses import replace

    from tests.reports.world import make, with_score

    results = make(("student", "dpo"), seeds=(0,), questions=20)
    results = with_score(results, ("dpo", "mt_bench.score", 0), n=12, unscored=8)
    return printed_table(replace(results, run=replace(results.run, finished=False)))


@provokes("Only … optimiser …")
def few_steps(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    from dataclasses import replace

    from reports.tables.score_table import score_table
    from reports.tables.summary import summarise
    from reports.targets import TARGETS
    from tests.reports.world import make

    results = make(("student", "dpo"), seeds=(0,))
    summary = replace(summarise(results, TARGETS["table1"]), steps={"dpo": 2})
    return "\n".join(score_table(summary, results).lines)


@provokes("no question has a verdict")
def no_verdict(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    from harness.contracts.benchmark import Entrant
    from harness.types import Answer, Judgment, Question
    from judges.benchmarks.scoring import Ratio, entrant_detail, ratio_score

    question = Question("1", ("?",))
    judgment = Judgment(question="1", part="turn1", verdict=None, reason="no rating in the reply")
    detail = entrant_detail([question], Entrant([Answer("1", ("a",), (True,), (1,))], [judgment]))
    return ratio_score("mt_bench.score", Ratio.of_sums([question], [[]]), 100, 0, "", detail).note


@provokes("LC is n/a below")
def few_for_length_control(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    import numpy as np

    from harness.types import Question
    from judges.benchmarks.alpaca_eval.length_control import Column, length_controlled, length_data

    questions = [Question(str(number), ("?",)) for number in range(5)]
    column = Column(np.full(5, 0.4), np.arange(5.0), identical=False)
    data = length_data(questions, {"dpo": column}, "row")
    return length_controlled(questions, column, data, 0, 100).note


@provokes("… seems to have cut …")
def cut_prompts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    from results.run.training_notes import Measured, training_notes

    return "\n".join(training_notes([Measured("judge", "dpo", {"cut_prompts": 3})]))


def test_a_script_above_the_clone_finds_an_empty_package(tmp_path: Path) -> None:
    """Without what an installation adds to the path, as where a finder of its own comes last."""
    (tmp_path / "distilbench").mkdir()
    words = [sys.executable, "-S", "-c", "import distilbench; distilbench.load"]
    done = subprocess.run(words, cwd=tmp_path, env={}, capture_output=True, text=True, check=False)
    assert done.stderr.strip().endswith("module 'distilbench' has no attribute 'load'")
    assert "`module … has no attribute …`" in entries()
