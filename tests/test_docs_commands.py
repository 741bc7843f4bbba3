"""Every command and every snippet of README and ``docs`` is run: here, or by a test that is named in the table.

``tests/docs_commands.py`` is that table. The fast tests hold it against the pages; the slow ones run the commands, in
the order of their pages where one builds on another, offline and small.
"""

from __future__ import annotations

import ast
import json
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

import distilbench
from harness.prompts import SOURCES
from judges.kinds.pocket import MODEL, PocketJudge
from tests.command import ROOT, command, environment
from tests.command import distilbench as distilbench_command
from tests.docs_commands import (
    AROUND,
    ELSEWHERE,
    ELSEWHERE_SNIPPETS,
    LOOKS,
    NOT_RUN,
    RECIPES,
    SAME,
    SCENES,
    SERVER,
    Step,
)
from tests.fakes.hub import TOKEN, fake_hub
from tests.fakes.server import FakeServer
from tests.pages import PAGES, block, blocks, first_command, shell_lines, snippets
from tests.test_reproduce import Place, base, copy  # noqa: F401, fixtures

HERE = [step.line for waves in SCENES.values() for wave in waves for step in wave]
CLASSES: Mapping[str, set[str]] = {
    "run here": set(HERE),
    "run by a named test": set(ELSEWHERE),
    "the same as another": set(SAME),
    "not run": set(NOT_RUN),
}


def looks_around(line: str) -> bool:
    """Whether the command only looks around, and is in no other class."""
    words = first_command(line)
    if words[:1] != ["distilbench"] or any(line in lines for lines in CLASSES.values()):
        return False
    return f"{' '.join(words[1:])} ".startswith(tuple(f"{begin} " for begin in LOOKS))


def is_a_name(line: str) -> bool:
    """Whether it is the bare name of a command, of which a longer line is run: `distilbench eval`."""
    run = (*HERE, *ELSEWHERE)
    return not re.search(r" -|[.=:]", line) and any(f"{each} ".startswith(f"{line} ") for each in run)


def classes(line: str) -> list[str]:
    found = [name for name, lines in CLASSES.items() if line in lines]
    found += ["looks around"] if looks_around(line) else []
    return found or (["a name"] if is_a_name(line) else [])


# The table and the pages


def test_every_command_of_every_page_is_in_one_class() -> None:
    wrong = [
        f"{page}: `{line}` is in {' and '.join(found) or 'no class'}: give it one in tests/docs_commands.py"
        for page, line in shell_lines()
        if len(found := classes(line)) != 1
    ]
    assert not wrong, "\n".join(wrong)


def is_snippet(key: tuple[str, str], page: str, text: str) -> bool:
    return page == key[0] and text.startswith(key[1])


def test_every_snippet_of_every_page_is_run() -> None:
    wrong = []
    for page, text in snippets("python", "json", "jsonl", "csv", "toml"):
        found = [place for key, place in ELSEWHERE_SNIPPETS.items() if is_snippet(key, page, text)]
        if len(found) != 1:
            named = f"{page}: the snippet `{text.splitlines()[0]}` is run by {found or 'no test'}"
            wrong.append(f"{named}: name it in ELSEWHERE_SNIPPETS of tests/docs_commands.py")
    assert not wrong, "\n".join(wrong)


def test_nothing_is_listed_that_no_page_has() -> None:
    lines = {line for _, line in shell_lines()}
    gone = [line for line in (*HERE, *ELSEWHERE, *SAME, *NOT_RUN, *AROUND) if line not in lines]
    assert not [line for line in gone if line != "distilbench --version"], "no page has these any more"
    assert not [line for line in AROUND if not looks_around(line)], "in AROUND, and run elsewhere"
    assert not [line for line in SAME.values() if line not in (*HERE, *ELSEWHERE)], "the same as what nobody runs"
    texts = snippets("python", "json", "jsonl", "csv", "toml")
    assert not [key for key in ELSEWHERE_SNIPPETS if not any(is_snippet(key, *text) for text in texts)]


@cache
def functions(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("place", sorted({*ELSEWHERE.values(), *ELSEWHERE_SNIPPETS.values(), RECIPES}))
def test_the_tests_that_are_named_exist(place: str) -> None:
    file, _, function = place.partition("::")
    assert function in functions(file)


def test_how_many_there_are() -> None:
    """Whoever adds a command that no test can run sees it here."""
    lines = {line for _, line in shell_lines()}
    counts = Counter(name for line in lines for name in classes(line))
    assert counts["not run"] == len(NOT_RUN) == 39
    assert counts["run here"] + counts["looks around"] >= 90


def test_what_is_installed_exists() -> None:
    """Extras and files that the lines name which install something."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    lines = [line for _, line in shell_lines() if re.search(r"\b(pip install|conda env)\b", line)]
    named = [found for line in lines for found in re.findall(r"(?:distilbench|\.)\[([\w,]+)\]", line)]
    assert named and {extra for found in named for extra in found.split(",")} <= set(extras)
    files = {file for line in lines for file in re.findall(r"-[cf] (\S+)", line)}
    assert files and [file for file in files if not (ROOT / file).is_file()] == []


# Folders with what the pages presuppose


def write_examples(folder: Path) -> None:
    """The plug-ins, recipes and files of the pages, under the names that these give them."""
    for page in PAGES:
        if page.stem.startswith("add-a"):
            (folder / f"my_{page.stem.rpartition('-')[2]}.py").write_text(block(page.name, "python"), encoding="utf-8")
    for text in blocks(ROOT / "docs" / "add-a-benchmark.md", "yaml"):
        (folder / text.split(":")[0].removeprefix("# ")).write_text(text, encoding="utf-8")
    mine = next(text for text in blocks(ROOT / "docs" / "add-a-method.md", "yaml") if text.startswith("# mine.yaml"))
    files = {
        "questions.jsonl": block("add-a-benchmark.md", "jsonl"),
        "sums.csv": block("add-a-benchmark.md", "csv"),
        "grade.txt": block("add-a-benchmark.md", "text"),
        "strict.txt": "{conversation}\nAnswer: {answer}\nA rating: [[5]]\n",
        "mine.yaml": mine,
        "prompts.csv": "prompt,chosen,rejected\n" + "".join(f"{n}?,yes {n},no\n" for n in range(3000)),
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def write_annotations(folder: Path) -> None:
    """Two annotators of AlpacaEval, and three people who judged answers of the run ``pocket``."""
    names = ("weighted_alpaca_eval_gpt4_turbo", "alpaca_eval_gpt4_turbo_fn")
    rows = [
        {"instruction": f"say {number}", "output_1": "no", "output_2": "yes " * (1 + number), "generator_1": "base",
         "generator_2": f"model-{number % 2}", "annotator": name,
         "preference": 1 + (number + place * (number % 5 == 0)) % 2}
        for place, name in enumerate(names)
        for number in range(20)
    ]  # fmt: skip
    (folder / "annotations.json").write_text(json.dumps(rows), encoding="utf-8")
    if (folder / "runs" / "pocket").is_dir():
        answers = distilbench.load(folder / "runs" / "pocket").answers()
        questions = answers.query("benchmark == 'alpaca_eval' and row == 'dpo'")["question"]
        votes = [
            {"question": question, "model": "dpo", "annotator": f"person {who}", "preference": 1 + (n + who // 2) % 2}
            for n, question in enumerate(questions)
            for who in range(3)
        ]
        (folder / "people.json").write_text(json.dumps(votes), encoding="utf-8")


def write_official(folder: Path) -> None:
    """What the official tools would have left: exports of the run ``pocket``, under the names of the page."""
    from distilbench.workflows.answers import answers_of_row, export_answers, import_answers

    run = distilbench.load(folder / "runs" / "pocket")
    places = {
        "alpaca_eval": {"annotations.json": "my-model/annotations.json"},
        "arena_hard": {
            "model_answer/m.jsonl": "model_answer/m.jsonl",
            "gpt-4-1106-preview/m.jsonl": "model_judgment/gpt-4-1106-preview/m.jsonl",
        },
        "gsm8k": {"samples_gsm8k": "samples_gsm8k_2026.jsonl"},
    }
    for benchmark, names in places.items():
        out = folder / "made" / benchmark
        made = export_answers(answers_of_row(run, "dpo", benchmark), out, model="m", judge="gpt-4-1106-preview")
        for part, place in names.items():
            (file,) = [path for path in made if part in path.as_posix()]
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, folder / place)
    theirs = export_answers(answers_of_row(run, "seqkd", "arena_hard"), folder / "made" / "theirs")
    import_answers(theirs, "arena_hard", folder / "other", replicates=0, set=["questions=pocket", "limit=8"])


def write_clone(folder: Path) -> None:
    """What of a clone the commands read and write, and checkpoints under names of a reader's own."""
    for name in ("studies", "scripts", "docs", "examples"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.png"))
    (folder / "models").mkdir()
    places = {"my-student": "student", "mine": "student-other", "theirs": "teacher", "models/smollm2": "student"}
    for place, name in places.items():
        (folder / place).symlink_to(ROOT / "harness" / "pocket" / "checkpoints" / name)


class Server(FakeServer):
    """Judges as pocket's judge does; what is no judge's prompt gets a text."""

    def __init__(self) -> None:
        super().__init__(PocketJudge().reply, models=("gpt-4.1-2025-04-14", "judge", "my-model", "my-gpt"))
        self.batches.looks = 1


def run(step: Step, folder: Path, variables: Mapping[str, str]) -> None:
    """One line, in a process of its own."""
    line = step.line
    for there, here in step.instead.items():
        assert there in line, f"`{line}` has no {there}"
        line = line.replace(there, here)
    server = variables["SERVER"]
    words = [word.replace(SERVER.removesuffix("/v1"), server) for word in (*first_command(line), *step.more)]
    program = command(*words[1:]) if words[0] == "distilbench" else [sys.executable, *words[1:]]
    # a key and a token that belong to nobody: no command of ours asks anybody but the servers of this test
    more = {"OPENAI_API_KEY": "nobody", **variables, **step.variables}
    done = subprocess.run(
        program, capture_output=True, text=True, timeout=500, check=False, cwd=folder, env=environment(**more)
    )
    said = done.stdout + done.stderr
    assert done.returncode == step.code, f"{shlex.join(words)}\nexit code {done.returncode}\n{said}"
    assert "Traceback" not in said, said
    missing = [text for text in step.shows if text not in " ".join(said.split())]
    assert not missing, f"{shlex.join(words)}\ndoes not say {missing}\n{said}"
    gone = [name for name in step.files if not (folder / name).exists()]
    assert not gone, f"{shlex.join(words)}\nleaves no {gone}\n{said}"


def run_all(waves: Sequence[Sequence[Step]], folder: Path, variables: Mapping[str, str]) -> None:
    """Wave after wave; the steps of one run two at a time."""
    with ThreadPoolExecutor(2) as pool:
        for wave in waves:
            list(pool.map(lambda step: run(step, folder, variables), wave))


@pytest.fixture
def variables() -> Iterator[dict[str, str]]:
    """Of the environment: a judge and a hub on this machine."""
    with Server() as server, fake_hub() as hub:
        yield {
            "SERVER": server.base_url.removesuffix("/v1"),
            "HF_ENDPOINT": hub.address,
            "HF_TOKEN": TOKEN,
            "HF_HUB_DISABLE_XET": "1",
        }


# The commands


PREPARED = {
    "a finished run": (write_annotations,),
    "a method of one's own": (write_examples,),
    "files of the official tools": (write_official,),
    "judges and models behind servers": (write_clone,),
    "a recipe of one's own": (write_clone,),
    "a real model": (write_clone,),
    "claims": (write_clone,),
    "speed": (write_clone,),
    "search": (write_clone,),
}
WITHOUT_A_RUN = ("a recipe of one's own", "judges and models behind servers", "a real model", "speed", "search")


@pytest.mark.slow
@pytest.mark.parametrize("scene", SCENES)
def test_the_commands_run(
    scene: str, request: pytest.FixtureRequest, tmp_path: Path, variables: dict[str, str]
) -> None:
    if scene not in WITHOUT_A_RUN:
        request.getfixturevalue("copy")
    for prepare in PREPARED.get(scene, ()):
        prepare(tmp_path)
    run_all(SCENES[scene], tmp_path, variables)


@pytest.mark.slow
def test_what_only_looks_around_runs(copy: Place) -> None:  # noqa: F811
    """``doctor``, and recipes of models that are not here, may say what is missing (exit code 1), as a plan does whose
    judge needs a key, or does not read; of lm-eval's tasks a package may be missing, and the plan is not made (2)."""
    write_examples(copy.folder)
    recipe = next(text for text in blocks(ROOT / "README.md", "yaml") if text.startswith("extends: pocket"))
    (copy.folder / "mine.yaml").write_text(recipe, encoding="utf-8")
    lines = list(dict.fromkeys(line for _, line in shell_lines() if looks_around(line)))
    failed = []

    def look(line: str) -> None:
        words = first_command(line)[1:]
        done = distilbench_command(*words, cwd=copy.folder)
        said = done.stdout + done.stderr
        codes = [
            0,
            *(1 for _ in re.findall(r"doctor|gemma2|smollm2|grade\.yaml|strict\.yaml", line)),
            *(2 for _ in re.findall("reasoning", line)),
        ]
        if done.returncode not in codes or "Traceback" in said or AROUND.get(line, "") not in said:
            failed.append(f"`{line}`: exit code {done.returncode}, expected {AROUND.get(line)!r}\n{said}")

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(look, lines))
    assert not failed, "\n\n".join(failed)


@contextmanager
def served(folder: Path, *words: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A command that serves until Ctrl-C: its first line, and its process."""
    # where these tests run in the background of a shell, SIGINT is ignored, and a child would inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(command(*words), stderr=subprocess.PIPE, text=True, cwd=folder, env=environment()) as process:
        assert process.stderr is not None
        try:
            yield process.stderr.readline(), process
            process.send_signal(signal.SIGINT)
            assert process.wait(30) in (0, 130)
        finally:
            process.kill()
        assert "Traceback" not in process.stderr.read()


def get(address: str) -> str:
    with urllib.request.urlopen(address, timeout=60) as reply:  # noqa: S310, http of this machine
        return str(reply.read().decode("utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("line", ["distilbench view", "distilbench view pocket", "distilbench view pocket mine"])
def test_view_shows_the_run(line: str, copy: Place) -> None:  # noqa: F811
    shutil.copytree(copy.runs / "pocket", copy.runs / "mine")
    with served(copy.folder, *first_command(line)[1:], "--port", "0") as (said, _):
        (address,) = re.findall(r"http://127\.0\.0\.1:\d+/", said)
        page = get(address)
        assert "DPO" in page if line.endswith("view pocket") else 'href="/runs/pocket"' in page


@pytest.mark.slow
def test_the_pocket_judge_serves_and_has_its_canary(tmp_path: Path, variables: dict[str, str]) -> None:
    """``--port 8000`` and the judge's name are others here: the port may be taken."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    with served(tmp_path, "pocket-judge", "--port", port) as (said, _):
        assert said == f"serving {MODEL} on http://127.0.0.1:{port}/v1 (Ctrl-C stops it)\n"
        line = "distilbench judge canary --judge judge@http://127.0.0.1:8000/v1"
        swap = {"judge@": f"{MODEL}@", "8000": port}
        run(Step(line, instead=swap, shows=["round 1 of", "12 of 16 verdicts"]), tmp_path, variables)


# The snippets


@pytest.mark.slow
def test_python_that_reads_a_run(copy: Place, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.chdir(copy.folder)
    names: dict[str, object] = {"distilbench": distilbench}
    for page in ("README.md", "docs/tables.md", "docs/share-a-student.md"):
        for code in blocks(ROOT / page, "python"):
            exec(compile(code, page, "exec"), names)  # noqa: S102
    assert "model" in names, "the student was loaded"


def test_a_cell_names_its_artifacts(base: Place) -> None:  # noqa: F811
    """As in docs/tables.md, whose keys are cut."""
    (shown,) = blocks(ROOT / "docs" / "tables.md", "json")
    cut = json.loads(f"{{{shown}}}".replace("...", ""))
    cells: list[dict[str, dict[str, str]]] = []

    def collect(found: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
        cells.extend([found] if found.get("score") else [])
        return found

    json.loads((base.report / "table1.json").read_text(encoding="utf-8"), object_hook=collect)
    assert len(cells) == 16, "4 rows, and 4 metrics: LC has no number at this size"
    for cell in cells:
        for name, by_seed in cut.items():
            assert list(cell[name]) == list(by_seed) == ["0"], "the training seed"
            assert cell[name]["0"].partition("/")[0] == by_seed["0"].partition("/")[0]


def test_rates_of_ones_own(tmp_path: Path) -> None:
    """The file of docs/scale.md is read, and what a plan says of it names its sources."""
    file = tmp_path / "rates.json"
    file.write_text(block("scale.md", "json"), encoding="utf-8")
    changes = {"family.backend": "vllm"}
    work = distilbench.plan("table1", recipe="gemma2", methods=["dpo"], set=changes, runs=tmp_path / "runs")
    (found,) = distilbench.simulate([work], "gpus=8", device="H100-80GB", rates=file)
    basis = "\n".join(found.basis)
    for rate in json.loads(file.read_text(encoding="utf-8"))["devices"]["H100-80GB"]["rates"]:
        assert f"{rate['doing']}: {rate['tokens_per_second']:,} tokens/s" in basis and rate["source"] in basis
    assert "2,000,000 tokens a minute (our tier)" in basis


def test_prompts_of_ones_own(tmp_path: Path) -> None:
    """The file of docs/own-models.md: text and messages, with and without an id, golden and rejected answers."""
    file = tmp_path / "prompts.jsonl"
    file.write_text(block("own-models.md", "jsonl"), encoding="utf-8")
    source = SOURCES["jsonl"]
    config = source.config(path=str(file))
    prompts = {prompt.id: prompt for prompt in source.prompts(config, source.pin(config).identity, seed=0)}
    assert len(prompts) == 3 and prompts["rivers"].golden == "The Danube and the Rhine."
    assert [len(prompt.messages) for prompt in prompts.values()].count(2) == 1, "a system turn"
    assert sum(prompt.rejected is not None for prompt in prompts.values()) == 1
