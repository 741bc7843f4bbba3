"""Builds the four pocket checkpoints and measures them; under 40 minutes on two free cores, seeded.

    python -m scripts.pocket.build                     # everything, into harness/pocket/checkpoints
    python -m scripts.pocket.build --only student      # one of them (a teacher needs the student in place)
    python -m scripts.pocket.build --out /tmp/pocket   # elsewhere

Two processes of one thread. The first trains the student, draws its samples, grows the teacher from the student by
three layers, which learns to judge exactly those samples beside graded answers, and the larger teacher from that by
two more. The second trains ``student-other``. ``measured.json`` is written at the end; losses, samples and times are
kept in ``OUT/logs``.
"""

import argparse
import functools
import itertools
import json
import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.pocket.world import QUESTIONS, iter_prompts
from harness.types import Prompt
from scripts.pocket.measure import measure_all
from scripts.pocket.train import Pool, Spec, train

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

FOLDER: Final = QUESTIONS.parent
SEED: Final = 20
SPECS: Final[dict[str, Spec]] = {
    "student": Spec(3, 96, 3, 256, steps=6000, batch_tokens=2048, rate=3e-3),
    "teacher": Spec(6, 96, 3, 256, steps=5000, batch_tokens=2048, rate=1.5e-3, judges=True, grown_from="student"),
    "teacher-large": Spec(
        8, 96, 3, 256, steps=600, batch_tokens=2048, rate=1e-3, judges=True, grown_from="teacher", judged_before=True
    ),
    "student-other": Spec(3, 96, 3, 256, steps=6000, batch_tokens=2560, rate=3e-3, shared_vocabulary=False),
}
POOL_SIZE: Final = 6000  # prompts of which the student's samples are drawn for the teachers
POOL_ROUNDS: Final = 4  # one sample of each prompt in each; few prompts and many samples would be learned by heart


def _tokenizer(spec: Spec) -> "PreTrainedTokenizerFast":
    from scripts.pocket.tokenizer import other_tokenizer, shared_tokenizer

    return shared_tokenizer() if spec.shared_vocabulary else other_tokenizer()


def _quiet() -> None:
    import torch
    from transformers.utils import logging

    torch.set_num_threads(1)
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def build_one(name: str, out: Path, max_steps: int | None = None) -> None:
    """Trains ``name`` (at most ``max_steps`` steps), saves it in ``out/name`` and notes the seconds it took."""
    start = time.monotonic()
    spec = SPECS[name] if max_steps is None else replace(SPECS[name], steps=min(max_steps, SPECS[name].steps))
    _quiet()
    tokenizer = _tokenizer(spec)
    model = train(spec, tokenizer, functools.partial(read_pool, out), SEED + list(SPECS).index(name), out, name)
    model.save_pretrained(out / name)
    tokenizer.save_pretrained(out / name)
    _note(out, name, start)


def _note(out: Path, name: str, start: float) -> None:
    (out / "logs" / f"{name}.seconds").write_text(f"{time.monotonic() - start:.0f}", encoding="utf-8")


def _pool_prompts() -> list[Prompt]:
    return list(itertools.islice(iter_prompts(SEED + 1000), POOL_SIZE))


def draw_pool(out: Path) -> None:
    """Samples of the student to every pool prompt, into ``out/logs/pool.json`` (moved there in whole)."""
    from scripts.pocket.measure import generate, load

    _quiet()
    start = time.monotonic()
    model, tokenizer = load(out / "student")
    prompts = _pool_prompts()
    talks = [prompt.messages for prompt in prompts]
    rounds = [generate(model, tokenizer, talks, temperature=1.0, seed=SEED + number) for number in range(POOL_ROUNDS)]
    rows = {prompt.id: list(texts) for prompt, texts in zip(prompts, zip(*rounds, strict=True), strict=True)}
    draft = out / "logs" / "pool.part"
    draft.write_text(json.dumps(rows), encoding="utf-8")
    draft.replace(out / "logs" / "pool.json")
    _note(out, "pool", start)


@functools.cache
def read_pool(out: Path) -> Pool:
    """The pool that ``draw_pool`` left, or leaves within the hour.

    Raises:
        TimeoutError: the student's samples do not come; build everything, or ``--only student`` first.
    """
    file = out / "logs" / "pool.json"
    for _ in range(1800):
        if file.is_file():
            rows: dict[str, list[str]] = json.loads(file.read_text(encoding="utf-8"))
            return [(prompt, rows[prompt.id]) for prompt in _pool_prompts()]
        time.sleep(2)
    raise TimeoutError(f"no samples of the student in {file}; run: python -m scripts.pocket.build --only student")


def _lane(names: Sequence[str], out: Path, max_steps: int | None = None) -> None:
    """Builds these one after the other; the student's samples are drawn as soon as it is there."""
    for name in names:
        build_one(name, out, max_steps)
        if name == "student":
            draw_pool(out)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: see the module's text."""
    parser = argparse.ArgumentParser(description="Build the pocket checkpoints.")
    parser.add_argument("--out", type=Path, default=FOLDER / "checkpoints", help="folder to write to")
    parser.add_argument("--only", choices=tuple(SPECS), help="build this one only")
    parser.add_argument("--steps", type=int, help="with --only: at most so many, to try the script")
    options = parser.parse_args(arguments)
    out: Path = options.out
    (out / "logs").mkdir(parents=True, exist_ok=True)
    if options.only:
        if options.only.startswith("teacher") and not (out / "logs" / "pool.json").is_file():
            parser.error(f"no samples of the student in {out / 'logs'}: build everything, or --only student first")
        _lane([options.only], out, options.steps)
        return
    if options.steps is not None:
        parser.error("--steps goes with --only: a whole build of untrained models has nothing to measure")
    (out / "logs" / "pool.json").unlink(missing_ok=True)  # of an earlier student
    lanes = (("student", "teacher", "teacher-large"), ("student-other",))
    with multiprocessing.get_context("spawn").Pool(2, maxtasksperchild=1) as workers:
        workers.starmap(_lane, [(lane, out) for lane in lanes], chunksize=1)
    seconds = {file.stem: int(file.read_text(encoding="utf-8")) for file in sorted((out / "logs").glob("*.seconds"))}
    path = FOLDER / "measured.json" if out == FOLDER / "checkpoints" else out / "measured.json"
    path.write_text(json.dumps(measure_all(out, seconds, SEED), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
