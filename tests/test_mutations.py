"""400 recipes, 1,000 replies and 1,000 files changed at random: each is refused with a reason or read, never with a
traceback, and never believed where a checksum or a format says otherwise."""

from __future__ import annotations

import asyncio
import json
import math
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml

from distilbench.plugins import load_registry
from distilbench.workflows.finished_run import load
from distilbench.workflows.verify import verify
from harness.contracts.judge import CallOutcome, JudgeError
from harness.contracts.options import RecipeError
from harness.errors import UserError
from harness.plan.plan import make_plan
from harness.recipe.recipe import load_recipe
from harness.thinking import separate_replies
from harness.types import Answer, Question, Reply, Request
from judges import BENCHMARKS
from judges.formats import export_files, import_files
from judges.kinds.openai.judge import OpenAIConfig, OpenAIJudge
from judges.kinds.pocket_server import Handler, Server, completion_body
from judges.ledger.ledger import Ledger
from results.store.store import ArtifactStore
from tests.command import distilbench, settings
from tests.fakes.server import FakeServer
from tests.judges.test_formats import BENCHES, exported
from tests.test_chaos import respond, rng

pytestmark = pytest.mark.slow
__all__ = ["rng"]  # the fixture that prints its seed

REGISTRY = load_registry()
ROWS = ("teacher", "student")
VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 10**9, 2**63, 1e300, -1e-300, math.inf, math.nan, "", " ", "no", "[[A>B]]", "\x00", "\ud800",
    "é" * 300, "9" * 5000, [], {}, [[]], [None], {"": None}, {"x": [1]}, ["a", "b"], "../..", "http://[", "2001-01-01",
)  # fmt: skip
SNIPPETS = (
    "", "~", "yes", "0", "-1", "1e300", "1e-300", ".inf", ".nan", "1_000", "0x10", "1e9", "1000000", "9" * 400,
    "9" * 5000, "a" * 300, "é", "[]", "{}", "[[[]]]", "{a: b}", "[a, b]", "*x", "&x [*x]", "&a [&b [*a, *b]]",
    "!!python/object:os.system {}", "!!binary aGk=", "2001-01-01", '"\\ud800"', "'", '"', "|", ">", "- -", "%", "@",
    "cuda:99", "pocket:nobody", "../../etc", "? x", "<<",
)  # fmt: skip


def change_text(text: str, rng: random.Random) -> str:
    """Lines and characters, as an editor's slip would have it, and hostile values in the place of others."""
    lines = text.splitlines() or [""]
    number = rng.randrange(len(lines))
    line = lines[number]
    key = line.partition(":")[0] + ":" if ":" in line else line
    change = rng.randrange(9)
    if change <= 2:
        lines[number] = f"{key} {rng.choice(SNIPPETS)}"
    elif change == 3:
        lines[number : number + 1] = rng.choice([[], [line, line], [f"  {line}"], [line.lstrip()]])
    elif change == 4:
        other = rng.randrange(len(lines))
        lines[number], lines[other] = lines[other], line
    elif change == 5:
        lines[number] = f"{key.replace(key.strip(), 'x' + key.strip())}{line[len(key) :]}"
    elif change == 6:
        return text[: rng.randrange(len(text) + 1)]
    else:
        place = rng.randrange(len(text) + 1)
        inserted = rng.choice(["", *"{}[]:,&*#?|-<>=!%@'\"\\\t\n\x00é\u2028\U0001f600"])
        return text[:place] + inserted + text[place + rng.randrange(3) :]
    return "\n".join(lines) + "\n"


def change_bytes(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(data) + 1)
    length = rng.choice([1, 1, 1, 8, 64, 1000])
    inserted = rng.choice([b"", b"\x00", b"\xff", b"\n", b'"', b"{", b"9", b"NaN", b"\\ud800", rng.randbytes(length)])
    changed = data[:place] + inserted + data[place + rng.choice([0, len(inserted), length]) :]
    return rng.choice([changed, changed, changed, data[:place], data + data[:place], b""])


def change_tree(tree: Any, rng: random.Random) -> Any:
    """Some value, or key, of parsed JSON becomes another."""
    if isinstance(tree, dict) and tree and rng.random() < 0.9:
        name = rng.choice(list(tree))
        changed = {key: change_tree(value, rng) if key == name else value for key, value in tree.items()}
        if rng.random() < 0.1:
            changed[rng.choice([f"{name}x", *tree, "error", "data", "text", "content"])] = changed.pop(name)
        return changed
    if isinstance(tree, list) and tree and rng.random() < 0.9:
        place = rng.randrange(len(tree))
        rest = rng.choice([tree[place + 1 :], tree[place + 1 :], tree[place:]])
        return [*tree[:place], change_tree(tree[place], rng), *rest]
    if isinstance(tree, str) and rng.random() < 0.3:
        return change_text(tree, rng)
    return rng.choice(VALUES)


def until_changed(value: Any, change: Callable[[Any, random.Random], Any], rng: random.Random) -> Any:
    while repr(changed := change(value, rng)) == repr(value):
        pass
    return changed


# Recipes


def test_changed_recipes_are_refused_with_path_and_rule_or_planned(tmp_path: Path, rng: random.Random) -> None:
    shipped = [file.read_text(encoding="utf-8") for file in sorted(Path("recipes").glob("*.yaml"))]
    every_option = yaml.safe_dump(load_recipe("pocket", (), REGISTRY).to_tree(), sort_keys=False)
    ends: Counter[str] = Counter()
    for number in range(400):
        text = rng.choice([*shipped, *[every_option] * len(shipped)])
        for _ in range(rng.choice([1, 1, 2, 5])):
            text = until_changed(text, change_text, rng)
        file = tmp_path / f"changed-{number}.yaml"
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
        begin, mistake = time.process_time(), None
        try:
            recipe = load_recipe(str(file), (), REGISTRY)
            if recipe.family.teacher.startswith("pocket:"):
                make_plan(recipe, REGISTRY, [*ROWS, *recipe.methods])
            ends["accepted"] += 1
        except UserError as error:
            mistake = error
        except Exception as error:
            raise AssertionError(f"{file}: {type(error).__name__}: {error}") from error
        if isinstance(mistake, RecipeError):
            # where it is no YAML there is no path, and the line stands there
            assert all((problem.path or problem.value) and problem.rule for problem in mistake.problems), (
                file,
                mistake,
            )
            ends["mistakes"] += 1
        elif mistake is not None:
            assert str(mistake).strip(), file
            ends["refused"] += 1
        assert time.process_time() - begin < 2, file
    assert ends["accepted"] > 20 and ends["mistakes"] > 200, ends


# Replies


def replies() -> list[Reply]:
    first = {"m": -0.2, "M": -1.7, "x": -4.0}
    texts = ("m", "[[7]]", "My final verdict is: [[A>B]]", "[[B]]", "<think>[[9]]</think>\n[[3]]", "#### 42", "é" * 50)
    return [Reply(text, "stop", "fake", 10, 5, first if number % 2 == 0 else None) for number, text in enumerate(texts)]


def judge_requests(folder: Path) -> list[tuple[str, Request]]:
    """Some of every benchmark that has a judge, with the benchmark's name; official prompts may not be here."""
    prompt, found = folder / "prompt.txt", []
    prompt.write_text("{question} {answer_a} {answer_b}", encoding="utf-8")
    for name, benchmark in BENCHMARKS.items():
        # one without code needs a file of questions: its replies are changed in test_own_benchmarks.py
        if not benchmark.needs_judge or not benchmark.official:
            continue
        own = {"judge_prompt": str(prompt)} if name.startswith("arena_hard_v2") else {"questions": "pocket"}
        question = Question("q", ("one", "two"), "writing", ("a", "b"), ("c", "d"), {"baseline": "base"})
        answer = Answer("q", ("first", "second"), (True, True), (1, 1))
        found += [(name, request) for request in benchmark.requests(question, answer, benchmark.config(**own))]
    return found


async def outcomes_of(judge: OpenAIJudge, count: int) -> list[CallOutcome]:
    free = asyncio.Semaphore(16)

    async def one(number: int) -> CallOutcome:
        request = Request("q", "p", ({"role": "user", "content": str(number)},), 9)
        async with free:
            try:
                return await judge.complete(request)
            except JudgeError as error:
                return error

    async with judge:
        return await asyncio.gather(*map(one, range(count)))


def test_changed_replies_are_failures_or_what_their_json_says(tmp_path: Path, rng: random.Random) -> None:
    bodies: list[bytes] = []
    for _ in range(1000):
        body = completion_body(rng.choice(replies()))
        if rng.random() < 0.6:
            bodies.append(json.dumps(until_changed(body, change_tree, rng)).encode())
        else:
            bodies.append(until_changed(json.dumps(body).encode(), change_bytes, rng))

    class Changed(Handler):
        models = ("fake",)

        def chat(self, request: Request, model: str) -> None:
            self.send(200, bodies[int(request.messages[0]["content"])])

    with Server(("127.0.0.1", 0), Changed) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        judge = OpenAIJudge(OpenAIConfig(model="fake", base_url=f"http://127.0.0.1:{server.server_address[1]}/v1"))
        outcomes = asyncio.run(outcomes_of(judge, len(bodies)))
        server.shutdown()
    requests, read = judge_requests(tmp_path), 0
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        for number, (body, outcome) in enumerate(zip(bodies, outcomes, strict=True)):
            if isinstance(outcome, JudgeError):
                assert str(outcome).strip(), body
                continue
            read += 1
            content = said(body)
            assert content is None or outcome.text == content, body
            ledger.put(f"key {number}", "here", "fake", outcome)
            ledger.flush()
            assert repr(ledger.get([f"key {number}"])[f"key {number}"]) == repr(outcome), body
            for name, request in requests:
                benchmark = BENCHMARKS[name]
                verdict = benchmark.parse(request, separate_replies([outcome])[0], benchmark.config())
                low, high = sorted(benchmark.verdicts)
                assert verdict.reason if verdict.value is None else low <= verdict.value <= high, (name, body)
    assert 200 < read < 900


def said(body: bytes) -> str | None:
    """The text of a completion, read by nothing of ours; ``None``: in a form that has no single one."""
    content = json.loads(body)  # what is no JSON was no reply: this raises
    try:
        text = content["choices"][0]["message"]["content"]
    except (KeyError, TypeError, IndexError):
        return None
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if isinstance(text, str) else None


# Files


def test_changed_artifacts_are_noticed_and_nothing_else_ends_in_a_traceback(tmp_path: Path, rng: random.Random) -> None:
    with FakeServer(respond) as server:
        place = f"fake@{server.base_url}"
        words = ["eval", "--model", f"mine={place}", "--judge", place, "--questions", "pocket", "--limit", "4"]
        words += ["--benchmarks", "alpaca_eval,mt_bench", *settings("statistics.replicates=100", "compute.workers=1")]
        done = distilbench(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    runs = tmp_path / "runs"
    folder = runs / "eval-mine"
    whole = verify(folder)
    assert whole.problems == [] and whole.equal == whole.scores > 0
    scores = {key: (score.value, score.low) for key, score in load(folder).results().scores.items()}
    refs = ArtifactStore(runs / "store").list()
    artifacts = [file for ref in refs for file in ArtifactStore(runs / "store").path(*ref).rglob("*") if file.is_file()]
    others = [folder / "eval" / "run.json", runs / "ledger.sqlite"]
    noticed = 0
    for _ in range(700):
        file = rng.choice([*artifacts, *artifacts, *others])
        content = file.read_bytes()
        file.write_bytes(until_changed(content, change_bytes, rng))
        kept = tmp_path / "changed"
        kept.write_bytes(file.read_bytes())  # to look at, should this fail
        try:
            try:
                results = load(folder).results().scores
                believed = {key: (score.value, score.low) for key, score in results.items()}
                assert file in others or all(scores[key] == value for key, value in believed.items()), file
            except UserError:
                pass
            try:
                problems = verify(folder)
                is_noticed = bool(problems.problems or problems.missing)
            except UserError as error:
                is_noticed = bool(str(error).strip())
            assert is_noticed or file in others, f"{file} was changed to {kept}, and believed"
            noticed += is_noticed
        finally:
            file.write_bytes(content)
            for left in runs.glob("ledger.sqlite-*"):
                left.unlink()
    assert noticed > 500
    assert verify(folder) == whole


def test_changed_files_of_other_tools_are_read_or_refused(tmp_path: Path, rng: random.Random) -> None:
    read = 0
    for number in range(300):
        name = rng.choice(BENCHES)
        results = exported(name)
        files = export_files(tmp_path / str(number), results, name)
        file = rng.choice(files)
        array = file.suffix == ".json"
        if rng.random() < 0.5:
            file.write_bytes(until_changed(file.read_bytes(), change_bytes, rng))
        else:
            text = file.read_text(encoding="utf-8")
            rows = json.loads(text) if array else [json.loads(line) for line in text.split("\n") if line]
            rows = until_changed(rows, change_tree, rng)
            lines = rows if isinstance(rows, list) else [rows]
            file.write_text(json.dumps(rows) if array else "".join(json.dumps(row) + "\n" for row in lines))
        try:
            imported = import_files(files, name, results.questions)
        except UserError:
            continue
        except Exception as error:
            raise AssertionError(f"{file} ({name}): {type(error).__name__}: {error}") from error
        read += 1
        if array:
            json.loads(file.read_bytes().decode("utf-8-sig"))  # what is no JSON was not read: this raises
        asked = {question.id for question in results.questions}
        assert {item.question for item in (*imported.answers, *imported.judgments)} <= asked, file
        low, high = sorted(BENCHMARKS[name].verdicts)
        verdicts = [judgment.verdict for judgment in imported.judgments if judgment.verdict is not None]
        assert all(low <= verdict <= high for verdict in verdicts), (file, verdicts)
    assert read > 100
