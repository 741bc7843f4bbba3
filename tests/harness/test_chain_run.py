"""The stages of rounds, tuned teachers and stored distributions, run on pocket in this process: what each leaves."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from distilbench.plugins import load_registry
from harness.contracts.stage import Stage
from harness.models.chat import end_of_turn
from harness.models.checkpoint import resolve
from harness.models.load import load_tokenizer
from harness.plan.plan import Plan, make_plan
from harness.recipe.recipe import load_recipe
from harness.records import read_records
from harness.stages import STAGES
from harness.stages.kind import StageContext
from harness.stages.kinds.prompts import FLOOR, pair
from harness.types import Group, Prompt
from results.store.store import ArtifactStore

SMALL = ("prompts.n=6", "train.batch_size=3", "train.micro_batch=3", "seeds=[0]", "sampling.max_new_tokens=64")
TRAINING = ("answer", "judge", "score")


@dataclasses.dataclass
class Made:
    """A plan whose training stages have run."""

    plan: Plan
    store: ArtifactStore

    def stage(self, label: str) -> Stage:
        return next(stage for stage in self.plan.stages if stage.label == label)

    def folder(self, label: str) -> Path:
        stage = self.stage(label)
        return self.store.path(stage.kind, stage.key)

    def groups(self, label: str) -> list[Group]:
        return read_records(self.folder(label) / "groups.jsonl", Group)

    def counts(self, label: str) -> dict[str, Any]:
        return dict(json.loads((self.folder(label) / "counts.json").read_text()))


def run(store: ArtifactStore, place: Path, *overrides: str, rows: tuple[str, ...]) -> Made:
    """Everything up to the trained students."""
    registry = load_registry()
    plan = make_plan(load_recipe("pocket", [*SMALL, *overrides], registry), registry, rows)
    for stage in plan.stages:
        if stage.kind not in TRAINING:

            def fill(folder: Path, stage: Stage = stage) -> Any:
                counts = STAGES[stage.kind].run(
                    stage, StageContext(registry, store, place / "ledger", folder, lambda *_: None)
                )
                (folder / "counts.json").write_text(json.dumps(counts))
                return counts

            store.write(stage, fill)
    return Made(plan, store)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """One run that has all of it."""
    torch.set_num_threads(1)
    place = tmp_path_factory.mktemp("chain")
    rows = {
        "two": "{method: pad-ppd, rounds: 2, sampling: {n: 2}}",
        "pool": "{method: dpo, rounds: 2, resample: false, sampling: {n: 2}}",
        "adpa+": "{top_k: 20}",
    }
    more = [f"methods.{name}={value}" for name, value in rows.items()]
    tuned = ("tuned_teacher.train.learning_rate=1e-4", "tuned_teacher.beta=0.1")
    return run(ArtifactStore(place / "store"), place, *more, *tuned, rows=tuple(rows))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def distance(first: Path, second: Path) -> float:
    one, other = weights(first), weights(second)
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def curve(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "model" / "training.jsonl").read_text().splitlines()]


def test_each_round_goes_on_from_the_last(made: Made) -> None:
    first, second = made.folder("train two round 1 seed 0"), made.folder("train two round 2 seed 0")
    assert distance(first, second) > 0
    drawn = [made.groups(label) for label in ("sample student n=2 seed 0", "sample two round 1 n=2 seed 0")]
    assert [g.prompt.id for g in drawn[0]] == [g.prompt.id for g in drawn[1]]
    texts = [[response.text for group in groups for response in group.samples] for groups in drawn]
    assert len(texts[0]) == len(texts[1]) == 12 and texts[0] != texts[1]


def test_the_blocks_of_a_pool_are_the_pool(made: Made) -> None:
    pool = made.groups("sample student seed 0")  # 2 rounds of 2: as many as the recipe's n, so labelled without it
    blocks = [made.groups(f"split_pool pool round {number} n=2 seed 0") for number in (1, 2)]
    for whole, first, second in zip(pool, *blocks, strict=True):
        assert len(first.samples) == len(second.samples) == 2
        together = sorted((*first.samples, *second.samples), key=lambda response: response.text)
        assert together == sorted(whole.samples, key=lambda response: response.text)
    orders = {
        tuple(group.samples.index(r) for r in first.samples) for group, first in zip(pool, blocks[0], strict=True)
    }
    assert len(orders) > 1  # every prompt's responses are shuffled anew


def test_dpo_starts_every_round_at_its_reference(made: Made) -> None:
    for number in (1, 2):
        assert curve(made.folder(f"train pool round {number} seed 0"))[0]["loss"] == pytest.approx(
            math.log(2), abs=1e-5
        )


def test_the_tuned_teacher_is_the_teacher_moved_by_the_pairs(made: Made) -> None:
    tuned, own = made.folder("train tuned teacher seed 0"), Path(resolve("pocket:teacher").location)
    moved, before = weights(tuned), load_file(own / "model.safetensors")
    assert moved.keys() == before.keys()
    assert 0 < max(float((moved[name] - before[name].float()).abs().max()) for name in moved) < 0.1
    assert curve(tuned)[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)  # its reference is itself
    assert end_of_turn(load_tokenizer(tuned / "model")) == end_of_turn(load_tokenizer(own))
    pairs = made.groups("dataset_pairs")
    assert all((group.samples[0].log_psel, group.samples[1].log_psel) == (0.0, math.log(FLOOR)) for group in pairs)


def test_adpa_plus_trains_on_what_dckd_answered(made: Made) -> None:
    drawn = made.groups("sample dckd n=1 seed 0")
    assert all(len(group.samples) == 1 for group in drawn)
    dckd, plus = made.folder("train dckd seed 0"), made.folder("train adpa+ seed 0")
    assert distance(dckd, plus) > 0
    terms = curve(plus)[0]["terms"]
    assert set(terms) == {"ce", "advantage"} and terms["advantage"] != 0
    assert set(curve(dckd)[0]["terms"]) == {"ce", "kl_chosen", "kl_rejected"}
    counts = made.counts("teacher_distributions adpa+ tuned teacher seed 0")
    assert counts["top_k"] == 20 and counts["positions"] == sum(group.samples[0].tokens for group in drawn)


@pytest.mark.parametrize(("golden", "rejected"), [(None, "b"), ("a", None), (" ", "b"), ("a", "")])
def test_prompts_without_a_pair_have_an_empty_group(golden: str | None, rejected: str | None) -> None:
    prompt = Prompt("p", ({"role": "user", "content": "x"},), golden=golden, rejected=rejected)
    assert pair(prompt) == Group(prompt)


def test_across_tokenizers_text_methods_train_and_token_methods_say_why_not(tmp_path: Path) -> None:
    """Table 3's setting: pocket's other student has a tokenizer of its own, so only text crosses over."""
    text = ("seqkd", "dpo", "simpo", "pro", "pad-vpd", "pad-ppd")
    token = ("kd", "minillm", "dckd", "adpa", "adpa+")
    other = ("family.student=pocket:student-other", "sampling.n=2")
    made = run(ArtifactStore(tmp_path / "store"), tmp_path, *other, rows=(*text, *token))
    for name in text:
        assert all(math.isfinite(step["loss"]) for step in curve(made.folder(f"train {name} seed 0")))
    why = {entrant.row: entrant.unavailable for entrant in made.plan.entrants if entrant.unavailable}
    assert set(why) == set(token)
    assert all("needs a shared vocabulary" in str(reason) for reason in why.values())
