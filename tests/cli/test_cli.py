"""The command line as a user meets it: in a process of its own, with exit codes, messages and what it imports."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from distilbench.cli import main
from distilbench.cli.app import app
from distilbench.workflows import workers
from harness.errors import UserError
from tests import command
from tests.command import ROOT

distilbench = partial(command.distilbench, cwd=ROOT)


def test_help_teaches_with_examples() -> None:
    done = distilbench("--help")
    assert done.returncode == 0
    commands = "plan run reproduce report eval judge list recipe doctor assets pocket-judge"
    for word in (*commands.split(), "Examples", "--install-completion"):
        assert word in done.stdout
    for name in ("plan", "run", "reproduce", "eval", "report", "list"):
        shown = CliRunner().invoke(app, [name, "--help"])
        assert shown.exit_code == 0 and "Example" in shown.stdout
    assert distilbench("--version").stdout.startswith("distilbench ")


def test_reproduce_and_eval_share_their_options() -> None:
    """Each is declared once (``distilbench/cli/options.py``) and named alike everywhere."""
    shared = {name: {option for one in typer.main.get_command(app).commands[name].params for option in one.opts}
              for name in ("plan", "run", "reproduce", "eval")}  # type: ignore[attr-defined]  # fmt: skip
    assert set.intersection(*shared.values()) >= {"--set", "--executor", "--max-cost", "--plugin", "--runs"}
    assert shared["run"] >= {"--methods", "--seeds", "--baseline", "--force"}


HEAVY = ("torch", "transformers", "datasets", "trl", "lm_eval", "matplotlib")


@pytest.mark.parametrize(
    ("words", "heavy"),
    [
        (["--help"], (*HEAVY, "pandas", "numpy")),
        (["reproduce", "--help"], (*HEAVY, "pandas", "numpy")),
        (["list"], HEAVY),
        (["judge", "list"], HEAVY),
        (["recipe", "check"], HEAVY),
        (["assets", "status"], HEAVY),
    ],
)
def test_looking_around_loads_nothing_heavy(words: list[str], heavy: tuple[str, ...]) -> None:
    code = f"""
import sys
sys.argv = ["distilbench", *{words!r}]
from distilbench.cli import main
try:
    main()
except SystemExit as error:
    assert not error.code, error.code
loaded = [name for name in {heavy!r} if name in sys.modules]
assert not loaded, loaded
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr


def test_a_bad_recipe_ends_in_one_message_and_exit_code_2(tmp_path: Path) -> None:
    recipe = tmp_path / "bad.yaml"
    recipe.write_text("extends: pocket\nmethods: {dop: {}}\ntrain: {learning_rte: 1}\nseeds: [a]\n", encoding="utf-8")
    done = distilbench("recipe", "check", str(recipe))
    assert done.returncode == 2
    assert done.stdout == ""
    assert "has 3 mistakes" in done.stderr
    assert "Did you mean 'dpo'" in done.stderr and "bad.yaml:2" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["recipe", "show", "pockt"], "Did you mean 'pocket'"),
        (["recipe", "check", "--set", "judges.main.kind=poket"], "Did you mean 'pocket'"),
        (["recipe", "check", "--set", "benchmarks.gsm9k={}"], "Did you mean 'gsm8k'"),
        (["recipe", "check", "--plugin", "none.py"], "'none.py' is not a file"),
        (["report", "--runs", "{tmp}"], "run the recipe first"),
        (["report", "tabel1", "--runs", "{tmp}"], "Did you mean 'table1'"),
        (["plan", "--runs", str(ROOT / "LICENSE")], "LICENSE' is a file"),
        (["run", "--runs", str(ROOT / "LICENSE" / "runs")], "LICENSE' is a file"),
        (["report", "--runs", str(ROOT / "LICENSE")], "LICENSE' is a file"),
        (["plan", "--set", "family.student={tmp}"], "no config.json; no weights"),
        (["list", "methos"], "methods"),
        (["pocket-judge", "--set", "nois=1"], "Did you mean 'noise'"),
    ],
)
def test_a_wrong_name_gets_a_suggestion(words: list[str], part: str, tmp_path: Path) -> None:
    done = distilbench(*(word.replace("{tmp}", str(tmp_path)) for word in words))
    assert done.returncode == 2, done.stderr
    assert part in done.stderr
    assert "Traceback" not in done.stderr


def test_recipe_show_prints_a_recipe_that_gives_itself_again(tmp_path: Path) -> None:
    first = distilbench("recipe", "show", "pocket", "--set", "methods.dpo.beta=0.25")
    assert first.returncode == 0, first.stderr
    assert yaml.safe_load(first.stdout)["methods"]["dpo"]["beta"] == 0.25
    copy = tmp_path / "copy.yaml"
    copy.write_text(first.stdout, encoding="utf-8")
    assert distilbench("recipe", "show", str(copy), cwd=tmp_path).stdout == first.stdout


def test_list_names_everything_one_line_each() -> None:
    lines = distilbench("list").stdout.splitlines()
    for name in ("pad-ppd", "alpaca_eval", "replay", "ultrafeedback", "inline", "smollm2", "table1"):
        assert sum(line.startswith(name) for line in lines) == 1, name


WAITING = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background hands down that it is ignored
from distilbench.cli import main
from distilbench.cli.app import app
app.command("wait")(lambda: (print("ready", flush=True), time.sleep(60)))
sys.argv = ["distilbench", "wait"]
main()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_and_sigterm_say_that_nothing_is_lost(number: signal.Signals, code: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.1)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == code
    assert errors == "stopped: nothing is lost; run the same command again to go on.\n"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(28, "No space left on device", "runs/x"), "no space left writing runs/x"),
        (UserError("bad \x1b[2J[red]name[/red]\x07"), "[red]name[/red]"),  # a model's text may be hostile
    ],
)
def test_an_error_is_a_message_without_control_characters(
    error: Exception, message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("distilbench.cli.app.app", fail)
    with pytest.raises(SystemExit) as exit_code:
        main()
    shown = capsys.readouterr().err
    assert exit_code.value.code == 2 and message in shown
    assert "\x1b" not in shown and "\x07" not in shown


def test_logs_hide_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "correct-horse-battery")
    record = logging.LogRecord(
        "x", logging.INFO, "f", 1, "%s and %s", ("correct-horse-battery", "sk-abcdefgh1234"), None
    )
    assert workers.RedactingFormatter("%(message)s").format(record) == "(hidden) and (hidden)"


def test_doctor_reports_line_by_line_and_names_a_judge_that_is_down(tmp_path: Path) -> None:
    down = "judges.main={kind: openai, model: m, base_url: 'http://127.0.0.1:9/v1'}"
    done = distilbench("doctor", "--runs", str(tmp_path), "--set", down, DISTILBENCH_ASSETS=str(tmp_path))
    lines = [line for line in done.stdout.splitlines() if not line.startswith("      ->")]
    assert {line.split()[0] for line in lines} <= {"ok", "warn", "fail"}
    for word in ("Python", "torch", "disk", "memory", "official questions", "judge main", "model hub"):
        assert any(word in line for line in lines), word
    assert any(line.startswith("fail") and "judge main" in line for line in lines)
    assert done.returncode == 1
