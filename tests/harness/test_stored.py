"""Stored token distributions: what is written is what the teacher says, and training on a store is training live."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.contracts.method import DistributionStorage
from harness.models.backends import load_model
from harness.models.load import load_tokenizer, load_weights
from harness.training import Training
from harness.training.batches import prepare
from harness.training.fit import fit
from harness.training.stored_signals import StoredDistributions, reference_logps, store_distributions, with_stores
from methods import METHODS, kd
from tests.tiny import tiny_checkpoint, tiny_groups, tiny_training

GROUPS = [*tiny_groups(6), replace(tiny_groups(1)[0], samples=(), prompt=replace(tiny_groups(1)[0].prompt, golden=""))]
"""The last one is dropped by every method."""
CPU = torch.device("cpu")
training = partial(tiny_training, groups=GROUPS, micro_batch=3, teacher_distributions={})


def teacher_logps(teacher: Path, run: Training, group: int, row: int) -> torch.Tensor:
    """[tokens, V] what the teacher itself says at a row's response tokens, one row at a time, without padding."""
    tokenizer = load_tokenizer(run.student)
    example = next(e for e in prepare(run, tokenizer)[0] if e.group == group)
    prompt, response = list(example.prompt), list(example.rows[row].response)
    with torch.no_grad():
        logits = load_weights(teacher, tokenizer, torch.float32)(input_ids=torch.tensor([prompt + response])).logits[0]
    return logits[len(prompt) - 1 : -1, : len(tokenizer)].log_softmax(-1)


def test_a_store_holds_what_the_teachers_say(student: Path, teacher: Path, tmp_path: Path) -> None:
    """ADPA: own rows only; both teachers at the most probable tokens of the tuned one."""
    run = with_stores(training(METHODS["adpa"], student, teacher), {"tuned": teacher, "family": student}, tmp_path)
    stores = StoredDistributions(run.teacher_distributions)
    example = prepare(run, load_tokenizer(student))[0][2]
    both = stores.of([example], CPU)
    golden, own = (len(row.response) for row in example.rows)
    models = {"tuned": teacher, "family": student}
    direct = {name: teacher_logps(model, run, example.group, 1) for name, model in models.items()}
    kept = direct["tuned"].topk(50).indices
    for name, top in both.items():
        assert top.ids.shape == (golden + own, 50) and top.ids[golden:].equal(kept)
        torch.testing.assert_close(top.logps[golden:], direct[name].gather(-1, kept), atol=1e-5, rtol=1e-5)
        rest = direct[name].exp().scatter(-1, kept, 0.0).sum(-1).log()
        torch.testing.assert_close(top.rest_logps[golden:], rest, atol=1e-4, rtol=1e-4)
        assert not top.ids[:golden].any() and not top.logps[:golden].any() and not top.rest_logps[:golden].any()


def test_the_index_says_which_rows_are_there(student: Path, teacher: Path, tmp_path: Path) -> None:
    run = training(METHODS["adpa"], student, teacher)
    counts = store_distributions(run, DistributionStorage(5), tmp_path)
    rows = json.loads((tmp_path / "index.json").read_text())["rows"]
    assert rows[-1] == [] and [len(lengths) for lengths in rows[:-1]] == [2] * 6
    assert all(lengths[0] == 0 and lengths[1] > 0 for lengths in rows[:-1])  # golden rows need no teacher
    assert counts["positions"] == sum(map(sum, rows)) == len(np.load(tmp_path / "ids.npy"))
    assert counts["top_k"] == 5 and 0 < counts["mean_rest_mass"] < 1


def test_an_engine_stores_what_the_teacher_in_process_does(student: Path, teacher: Path, tmp_path: Path) -> None:
    """Same tokens, same numbers but for rounding, zeros where no row is stored; and the same reference."""
    run, stores = training(METHODS["adpa"], student, teacher), []
    for name, reader in (("here", None), ("engine", load_model(str(teacher)))):
        (tmp_path / name).mkdir()
        counts = store_distributions(run, DistributionStorage(5), tmp_path / name, reader=reader)
        arrays = [np.load(tmp_path / name / f"{part}.npy") for part in ("ids", "logps", "rest")]
        stores.append((counts.pop("mean_rest_mass"), counts, (tmp_path / name / "index.json").read_text(), arrays))
    (mass, *first, arrays), (other_mass, *second, other_arrays) = stores
    assert first == second and mass == pytest.approx(other_mass, abs=1e-5)
    np.testing.assert_array_equal(arrays[0], other_arrays[0])
    for values, others in zip(arrays[1:], other_arrays[1:], strict=True):
        np.testing.assert_allclose(values, others, atol=1e-5)
    here = reference_logps(training(METHODS["dpo"], student, teacher))
    there = reference_logps(training(METHODS["dpo"], student, teacher), reader=load_model(str(student)))
    assert here[-1] == there[-1] == [] and [len(row) for row in here] == [len(row) for row in there]
    for sums, others in zip(here, there, strict=True):
        assert sums == pytest.approx(others, abs=1e-4)


def test_training_on_a_store_of_all_tokens_is_training_live(student: Path, teacher: Path, tmp_path: Path) -> None:
    """k = the whole vocabulary of 53: the loss of each step as with the live teacher."""
    assert len(load_tokenizer(student)) == 53
    for temperature in (1.0, 2.0):
        live = training(METHODS["kd"], student, teacher, config=kd.KdOptions(temperature=temperature))
        kept = replace(live, config=kd.KdOptions(temperature=temperature, top_k=53), teacher=None)
        place = tmp_path / str(temperature)
        kept = with_stores(kept, {"family": teacher}, place / "stores")
        first, second = fit(live, place / "live"), fit(kept, place / "kept")
        assert second.first_loss == pytest.approx(first.first_loss, abs=1e-5)
        assert second.final_loss == pytest.approx(first.final_loss, abs=1e-4)


def test_columns_that_pad_the_teachers_vocabulary_are_not_stored(student: Path, tmp_path: Path) -> None:
    """The student's weights with 7 more embedding rows, the new logits made large: the store must not see them."""
    wide = tiny_checkpoint(tmp_path / "wide", seed=0, extra_columns=7)
    tokenizer = load_tokenizer(student)
    narrow, model = load_weights(student, tokenizer, torch.float32), load_weights(wide, tokenizer, torch.float32)
    with torch.no_grad():
        for (key, value), (_, own) in zip(model.named_parameters(), narrow.named_parameters(), strict=True):
            value.fill_(3.0)
            value[: len(own)].copy_(own)
            assert value.shape == own.shape or key in ("model.embed_tokens.weight", "lm_head.weight")
    model.save_pretrained(wide)
    found = []
    for name, checkpoint in (("narrow", student), ("wide", wide)):
        (tmp_path / f"store-{name}").mkdir()
        run = training(METHODS["dckd"], student, checkpoint)
        store_distributions(run, DistributionStorage(8), tmp_path / f"store-{name}")
        found.append([np.load(tmp_path / f"store-{name}" / f"{part}.npy") for part in ("ids", "logps", "rest")])
    for first, second in zip(*found, strict=True):
        np.testing.assert_allclose(first, second, atol=1e-6)


def test_a_store_of_other_rows_is_refused(student: Path, teacher: Path, tmp_path: Path) -> None:
    run = with_stores(training(METHODS["dckd"], student, teacher), {"tuned": teacher}, tmp_path)
    stores = StoredDistributions(run.teacher_distributions)
    examples, _ = prepare(run, load_tokenizer(student))
    longer = replace(examples[0], rows=(replace(examples[0].rows[0], response=[5] * 9), examples[0].rows[1]))
    with pytest.raises(ValueError, match="but stored are"):
        stores.of([longer], CPU)
    other = with_stores(
        training(METHODS["adpa"], student, teacher), dict.fromkeys(("tuned", "family"), teacher), tmp_path / "b"
    )
    mixed = {"tuned": run.teacher_distributions["tuned"], "family": other.teacher_distributions["family"]}
    with pytest.raises(ValueError, match="different rows"):
        StoredDistributions(mixed)


def test_a_role_that_no_row_has_is_a_mistake_of_the_method(student: Path, teacher: Path, tmp_path: Path) -> None:
    needs = replace(METHODS["dckd"].needs, distribution_roles=("gold",))
    with pytest.raises(ValueError, match="no row has one of the roles"):
        store_distributions(
            training(replace(METHODS["dckd"], needs=needs), student, teacher), DistributionStorage(5), tmp_path
        )
