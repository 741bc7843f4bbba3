"""The command line as a user meets it: exit codes, messages, and what it imports."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from distilbench import workers
from distilbench.cli import main
from distilbench.cli.app import app
from harness.errors import UserError
from tests.command import ROOT, distilbench


def test_help_teaches_with_examples() -> None:
    done = distilbench("--help", cwd=ROOT)
    assert done.returncode == 0
    commands = "plan run reproduce report eval judge list recipe doctor assets pocket-judge"
    for word in (*commands.split(), "Examples", "--install-completion"):
        assert word in done.stdout
    for name in ("plan", "run", "reproduce", "eval", "report", "list"):
        shown = CliRunner().invoke(app, [name, "--help"])
        assert shown.exit_code == 0 and "Example" in shown.stdout
    assert distilbench("--version", cwd=ROOT).stdout.startswith("distilbench ")


def test_reproduce_and_eval_share_their_options() -> None:
    """Each is declared once (``distilbench/cli/options.py``) and named alike everywhere."""
    shared = {name: {option for one in typer.main.get_command(app).commands[name].params for option in one.opts}
              for name in ("plan", "run", "reproduce", "eval")}  # type: ignore[attr-defined]  # fmt: skip
    assert set.intersection(*shared.values()) >= {"--set", "--executor", "--max-cost", "--plugin", "--runs"}
    assert shared["run"] >= {"--methods", "--seeds", "--baseline", "--force"}


def test_every_option_says_what_it_does() -> None:
    """An alias such as ``RunName | None`` would lose its name, its metavar and its sentence."""

    def options(command: Any, name: str) -> Iterator[tuple[str, str]]:
        for option in command.params:
            yield f"{name} {option.name}", option.help or ""
        for word, inner in getattr(command, "commands", {}).items():
            yield from options(inner, f"{name} {word}")

    found = dict(options(typer.main.get_command(app), "distilbench"))
    assert len(found) > 100
    assert [name for name, sentence in found.items() if not sentence.strip()] == []


HEAVY = ("torch", "transformers", "datasets", "trl", "lm_eval", "matplotlib")


@pytest.mark.parametrize(
    ("words", "heavy"),
    [
        (["--help"], (*HEAVY, "pandas", "numpy", "pydantic")),
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
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr


Run = Callable[..., tuple[object, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Exit code, output and errors of a command in this process."""
    monkeypatch.setenv("COLUMNS", "200")

    def run_command(*words: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["distilbench", *words])
        with pytest.raises(SystemExit) as left:
            main()
        return (left.value.code or 0, *capsys.readouterr())

    return run_command


def test_a_bad_recipe_ends_in_one_message_and_exit_code_2(tmp_path: Path, run: Run) -> None:
    recipe = tmp_path / "bad.yaml"
    recipe.write_text("extends: pocket\nmethods: {dop: {}}\ntrain: {learning_rte: 1}\nseeds: [a]\n", encoding="utf-8")
    code, output, errors = run("recipe", "check", str(recipe))
    assert (code, output) == (2, "")
    assert "has 3 mistakes" in errors
    assert "Did you mean 'dpo'" in errors and "bad.yaml:2" in errors


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["recipe", "show", "pockt"], "Did you mean 'pocket'"),
        (["recipe", "check", "--set", "judges.main.kind=poket"], "Did you mean 'pocket'"),
        (["recipe", "check", "--set", "benchmarks.gsm9k={}"], "Did you mean 'gsm8k'"),
        (["recipe", "check", "--plugin", "none.py"], "'none.py' is not a file"),
        (["report", "--runs", "{tmp}"], "has not been run"),
        (["report", "tabel1", "--runs", "{tmp}"], "Did you mean 'table1'"),
        (["report", "--run", "pockt", "--runs", "{tmp}"], ": none."),
        (["plan", "--runs", str(ROOT / "LICENSE")], "LICENSE' is a file"),
        (["run", "--runs", str(ROOT / "LICENSE" / "runs")], "LICENSE' is a file"),
        (["report", "--runs", str(ROOT / "LICENSE")], "LICENSE' is a file"),
        (["plan", "--set", "family.student={tmp}"], "no config.json; no weights"),
        (["plan", "--seeds", "one"], "must be whole numbers, separated by commas"),
        (["list", "methos"], "unknown list 'methos'. Did you mean 'methods'"),
        (["pocket-judge", "--set", "nois=1"], "Did you mean 'noise'"),
    ],
)
def test_a_wrong_name_gets_a_suggestion(words: list[str], part: str, tmp_path: Path, run: Run) -> None:
    code, _, errors = run(*(word.replace("{tmp}", str(tmp_path)) for word in words))
    assert code == 2 and part in errors, errors


def test_recipe_show_prints_a_recipe_that_gives_itself_again(tmp_path: Path, run: Run) -> None:
    _, first, _ = run("recipe", "show", "pocket", "--set", "methods.dpo.beta=0.25")
    assert yaml.safe_load(first)["methods"]["dpo"]["beta"] == 0.25
    copy = tmp_path / "copy.yaml"
    copy.write_text(first, encoding="utf-8")
    assert run("recipe", "show", str(copy)) == (0, first, "")


def test_list_names_everything_one_line_each(run: Run) -> None:
    _, output, _ = run("list")
    for name in ("pad-ppd", "alpaca_eval", "replay", "ultrafeedback", "inline", "smollm2", "table1"):
        assert sum(line.startswith(name) for line in output.splitlines()) == 1, name


WAITING = """
import signal, sys, time
for number in (signal.SIGINT, signal.SIGHUP):  # a suite in the background hands down that they are ignored
    signal.signal(number, signal.default_int_handler)
from distilbench import cli
from distilbench.cli.app import app
def wait():
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        print("stopping", flush=True)
        time.sleep(SECONDS)
SECONDS, cli.PATIENCE = float(sys.argv[1]), float(sys.argv[2])
app.command("wait")(wait)
sys.argv = ["distilbench", "wait"]
cli.main()
"""
STOPPED = "stopped: what is done is kept; run the same command again to go on.\n"


def waiting(seconds: float = 0, patience: float = 3) -> subprocess.Popen[str]:
    """A command that takes ``seconds`` to stop."""
    words = [sys.executable, "-c", WAITING, str(seconds), str(patience)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.1)
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_stopped_command_says_that_its_work_is_kept(number: signal.Signals, code: int) -> None:
    process = waiting()
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (code, STOPPED)


@pytest.mark.parametrize(("seconds", "patience", "said"), [(0.5, 3, STOPPED), (60, 0.0, "")])
def test_a_second_ctrl_c_ends_without_a_traceback(seconds: float, patience: float, said: str) -> None:
    """A command that is stopping is left to it, and one that does not stop ends at once."""
    process = waiting(seconds, patience)
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    assert process.stdout.readline() == "stopping\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, said)


def test_ctrl_c_all_the_way_to_the_end_of_python() -> None:
    process = waiting()
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        time.sleep(0.002)
    assert (process.returncode, process.communicate()[1]) == (130, STOPPED)


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
    def fail(prog_name: str) -> None:
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


def test_a_verbose_command_logs_what_we_do_and_not_what_libraries_do(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        workers.start_logging(logging.DEBUG)
        for name in ("httpx", "matplotlib.font_manager", "fontTools.subset", "judges.client.ask", "harness.run"):
            logging.getLogger(name).debug("detail of %s", name)
            logging.getLogger(name).warning("warning of %s", name)
    finally:
        workers.start_logging(logging.WARNING)
    logging.getLogger("harness.run").info("quiet")
    shown = capsys.readouterr().err
    assert [line.split(" of ")[1].split()[0] for line in shown.splitlines() if "detail of" in line] == [
        "judges.client.ask", "harness.run",
    ]  # fmt: skip
    assert shown.count("warning of") == 5 and "quiet" not in shown


def test_doctor_reports_line_by_line_and_names_a_judge_that_is_down(tmp_path: Path) -> None:
    down = "judges.main={kind: openai, model: m, base_url: 'http://127.0.0.1:9/v1'}"
    done = distilbench("doctor", "--runs", str(tmp_path), "--set", down, cwd=ROOT, DISTILBENCH_ASSETS=str(tmp_path))
    lines = [line for line in done.stdout.splitlines() if not line.startswith("      ->")]
    assert {line.split()[0] for line in lines} <= {"ok", "warn", "fail"}
    for word in ("Python", "torch", "disk", "memory", "official questions", "judge main", "model hub"):
        assert any(word in line for line in lines), word
    assert any(line.startswith("fail") and "judge main" in line for line in lines)
    assert sum("cannot be reached" in line for line in lines) == 1
    assert done.returncode == 1
