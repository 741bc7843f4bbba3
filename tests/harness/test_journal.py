"""A stage that is stopped goes on where it was: the journal of its pieces, and every model call that keeps them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.contracts.backend import Services
from harness.contracts.method import DistributionStorage
from harness.contracts.model import Sampling
from harness.journal import FILE, Journal
from harness.models.backends import LoadOptions, load_model
from harness.types import Response
from methods import METHODS
from tests.tiny import WORDS, tiny_checkpoint, tiny_training


class Killed(Exception):
    """In the place of a kill: raised after some pieces."""


class Count:
    """A function that counts its calls, and dies at call number ``last``."""

    def __init__(self, function: Any, last: int = 10**9) -> None:
        self.function, self.last, self.calls = function, last, 0

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        if self.calls == self.last:
            raise Killed
        self.calls += 1
        return self.function(*arguments, **options)


def test_pieces_are_made_once_in_all_processes_together(tmp_path: Path) -> None:
    make = Count(lambda: [0.1 + 0.2, None, "µ"])
    first = Journal(lambda: tmp_path)
    assert [first.once(["a", 1], make), first.once(["b", 1], make)] == [[0.30000000000000004, None, "µ"]] * 2
    again = Journal(lambda: tmp_path)
    assert again.once(["a", 1], make) == [0.30000000000000004, None, "µ"] == again.once(["b", 1], make)
    assert make.calls == 2 and again.seconds >= 0
    assert again.once(["a", 2], make) and make.calls == 3, "other content"
    assert Journal(lambda: tmp_path).once(["a", 1], make, lambda kept: False) and make.calls == 4


def test_a_journal_without_a_folder_keeps_nothing() -> None:
    make = Count(lambda: 1)
    journal = Journal()
    assert journal.once("x", make) + journal.once("x", make) == 2 == make.calls


@pytest.mark.parametrize("cut", [1, 5, 12, 40])
def test_a_line_that_a_kill_cut_short_is_made_again_and_the_next_ones_are_whole(tmp_path: Path, cut: int) -> None:
    for name in "ab":
        Journal(lambda: tmp_path).once(name, lambda name=name: name * 3)
    file = tmp_path / FILE
    file.write_bytes(file.read_bytes()[:-cut])
    make = Count(lambda: "bbb")
    assert Journal(lambda: tmp_path).once("a", make) == "aaa" and make.calls == 0
    assert Journal(lambda: tmp_path).once("b", make) == "bbb" and make.calls == 1
    assert Journal(lambda: tmp_path).once("b", make) == "bbb" and make.calls == 1


def test_a_damaged_line_is_not_believed(tmp_path: Path) -> None:
    Journal(lambda: tmp_path).once("a", lambda: 5.25)
    file = tmp_path / FILE
    file.write_bytes(file.read_bytes().replace(b"5.25", b"9.25"))
    assert Journal(lambda: tmp_path).once("a", lambda: 5.25) == 5.25


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("tiny"), seed=1, words=("A", "B", *WORDS))


def model_of(checkpoint: Path, folder: Path | None = None) -> Any:
    journal = Journal() if folder is None else Journal(lambda: folder)
    return load_model(str(checkpoint), LoadOptions(device="cpu", batch_tokens=64), Services(journal=journal))


TALKS = [[{"role": "user", "content": " ".join(WORDS[start : start + 3 + start % 4])}] for start in range(12)]
ANSWERS = [Response(" ".join(WORDS[start : start + 2 + start % 3]), True, 3) for start in range(12)]
CALLS = {
    "samples": lambda model: model.generate(TALKS, Sampling(6, 1.0), seed=3, n=2),
    "greedy": lambda model: model.generate(TALKS, Sampling(6, 0.0), seed=3),
    "means": lambda model: [model.mean_logps(TALKS, ANSWERS), model.usage()],
    "shared": lambda model: [model.mean_logps([talk for talk in TALKS[:6] for _ in "12"], ANSWERS), model.usage()],
    "letters": lambda model: [model.choice_logps(TALKS, "AB"), model.usage()],
    "tokens": lambda model: model.first_token(TALKS, 3),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_model_goes_on_after_a_kill_to_the_same_bits(
    checkpoint: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import harness.models.transformers_model as module

    def count(last: int = 10**9) -> tuple[Count, Count]:
        counts = Count(generate, last), Count(read, last)
        monkeypatch.setattr(module.TransformersModel, "_generate_batch", lambda *a: counts[0](*a))  # noqa: PLW0108, it binds self
        monkeypatch.setattr(module.TransformersModel, "_read_batch", lambda *a: counts[1](*a))  # noqa: PLW0108
        return counts

    monkeypatch.setattr(module.TransformersModel, "cache_use", "shared")  # its trial would count as a batch
    generate, read = module.TransformersModel._generate_batch, module.TransformersModel._read_batch
    counts = count()
    whole = CALLS[name](model_of(checkpoint))
    batches = sum(each.calls for each in counts)
    assert batches > 2
    count(last=2)
    with pytest.raises(Killed):
        CALLS[name](model_of(checkpoint, tmp_path))
    counts = count()
    assert CALLS[name](model_of(checkpoint, tmp_path)) == whole
    assert sum(each.calls for each in counts) == batches - 2


def test_a_call_that_differs_takes_nothing_from_another(checkpoint: Path, tmp_path: Path) -> None:
    """Two turns, two seeds, other letters: pieces of one stage that must not be mixed up."""
    calls = [
        lambda model: model.generate(TALKS, Sampling(6, 1.0), seed=4, n=2),
        lambda model: model.generate(TALKS, Sampling(5, 1.0), seed=3, n=2),
        lambda model: model.generate(TALKS[1:], Sampling(6, 1.0), seed=3, n=2),
        lambda model: model.choice_logps(TALKS, "BA"),
        lambda model: model.mean_logps(TALKS, ANSWERS[::-1]),
    ]
    model, other = model_of(checkpoint), model_of(checkpoint, tmp_path)
    for name in ("samples", "means", "letters"):
        CALLS[name](other)
    calls.append(lambda model: model.mean_logps(TALKS[2:] + TALKS[:2], ANSWERS[2:] + ANSWERS[:2]))  # the same rows
    assert [call(other) for call in calls] == [call(model) for call in calls]


def test_stored_signals_go_on_after_a_kill_to_the_same_bytes(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import harness.training.stored_signals as module

    student = tiny_checkpoint(tmp_path / "student")
    teacher = tiny_checkpoint(tmp_path / "teacher", seed=2)
    run = tiny_training(METHODS["dckd"], student, teacher)

    def store(folder: Path, journal: Journal = Journal()) -> list[Any]:
        folder.mkdir()
        counts = module.store_distributions(run, DistributionStorage(5), folder, journal=journal)
        return [counts, *(np.load(folder / f"{name}.npy").tobytes() for name in module.ARRAYS)]

    def sums(folder: Path, journal: Journal = Journal()) -> Any:
        return module.reference_logps(run, journal=journal)

    for name, work in {"_top": store, "response_terms": sums}.items():
        original, scratch = getattr(module, name), tmp_path / name
        scratch.mkdir()
        whole = work(tmp_path / f"{name}-whole")
        monkeypatch.setattr(module, name, Count(original, last=2))
        with pytest.raises(Killed):
            work(tmp_path / f"{name}-killed", Journal(lambda scratch=scratch: scratch))
        counter = Count(original)
        monkeypatch.setattr(module, name, counter)
        assert work(tmp_path / f"{name}-resumed", Journal(lambda scratch=scratch: scratch)) == whole
        assert counter.calls == 2, "4 batches, 2 of them done before"
    # the arrays were lost or damaged, and the journal was not
    (tmp_path / "_top" / "ids.npy").unlink()
    values = np.lib.format.open_memmap(tmp_path / "_top" / "logps.npy", mode="r+")
    values[3] = 0
    values.flush()
    assert store(tmp_path / "again", Journal(lambda: tmp_path / "_top")) == store(tmp_path / "fresh")
