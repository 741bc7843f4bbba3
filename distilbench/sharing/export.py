"""``export-model``: a student as a folder that ``from_pretrained`` and engines read, with a card made from its run."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from distilbench.sharing.card import CardOptions, licence_of, model_card, public_name, published_recipe
from distilbench.sharing.student import TrainedStudent, find_student
from distilbench.workflows.finished_run import load
from harness.errors import UserError
from harness.models.checkpoint import WEIGHTS
from results.run.find import RUNS

CARD, RECIPE, ADAPTER = "README.md", "recipe.yaml", "adapter"


@dataclass(frozen=True)
class ExportedModel:
    folder: Path
    student: TrainedStudent
    files: tuple[str, ...]
    remarks: tuple[str, ...]
    """What whoever shares it should know: a licence that is not known, an unfinished run."""


def export_model(
    run: str | Path, row: str, out: str | Path, *, seed: int = 0, adapter: bool = False, repo: str = "",
    runs: str | Path = RUNS,
    plugins: Sequence[str] = (),
) -> ExportedModel:  # fmt: skip
    """Copy the student of a row and seed of ``run`` (``find_run``) into the new folder ``out``, with a model card.

    A LoRA student is exported merged, its adapter beside it in ``adapter/``; ``adapter``: that adapter alone. ``repo``:
    the hub's name for it, which the card's examples then use. Raises UserError where there is no such student, its
    files are damaged, or ``out`` holds something.
    """
    student, place = find_student(load(run, runs=runs), row, seed), Path(out)
    if place.is_dir() and any(place.iterdir()):
        raise UserError(f"{place} is not empty: name a new folder, so that no other model's files stay beside these.")
    if adapter:
        check_adapter(student)
    options = CardOptions(repo or place.name or "model", adapter, tuple(plugins))
    source = student.finished.lineage.file(student.stage, "model")
    draft = place.absolute().with_name(f".{place.name}.{uuid.uuid4().hex}")
    try:
        draft.mkdir(parents=True)
        for file in files_of(source, student, adapter):
            (draft / file.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, draft / file.relative_to(source))
        if (draft / ADAPTER).is_dir():
            name_base(draft / ADAPTER / "adapter_config.json", student)
        if adapter:
            lift_adapter(draft)
        recipe = yaml.safe_dump(published_recipe(student.run.recipe), sort_keys=False, allow_unicode=True, width=120)
        (draft / RECIPE).write_text(recipe, encoding="utf-8")
        (draft / CARD).write_text(model_card(student, options), encoding="utf-8")
        if place.is_dir():
            place.rmdir()
        draft.rename(place)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    files = sorted(file.relative_to(place).as_posix() for file in place.rglob("*") if file.is_file())
    return ExportedModel(place, student, tuple(files), tuple(remarks(student)))


def check_adapter(student: TrainedStudent) -> None:
    if not student.has_adapter:
        raise UserError(
            f"{student.name} has no adapter: all of its weights were trained. Leave --adapter out, or train the row "
            "with train.lora."
        )
    if not student.starts_from_family:
        raise UserError(
            f"the adapter of {student.name} belongs to the student that its last round started from, not to "
            f"{student.run.family.student}: alone it would be of no use. Leave --adapter out for the merged student."
        )


def files_of(source: Path, student: TrainedStudent, adapter: bool) -> Iterator[Path]:
    """Of the checkpoint, what is to be copied; for the adapter alone, no weights of the model."""
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        in_adapter = file.parent.name == ADAPTER
        if in_adapter and not student.starts_from_family:  # it fits a student that nobody else has
            continue
        if adapter and not in_adapter and file.suffix == WEIGHTS[0][1:]:
            continue
        yield file


def name_base(path: Path, student: TrainedStudent) -> None:
    """Say in an adapter's configuration which model it belongs to: training knew a folder of this machine."""
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    name, _, revision = public_name(student.run.family.student).partition("@")
    config |= {"base_model_name_or_path": name, "revision": revision or None}
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def lift_adapter(folder: Path) -> None:
    """Put the files of ``adapter/`` in the place of the model's."""
    for file in (folder / ADAPTER).iterdir():
        file.rename(folder / file.name)
    (folder / ADAPTER).rmdir()
    for name in ("config.json", "generation_config.json"):  # a loader would look for weights of its own beside them
        (folder / name).unlink(missing_ok=True)


def remarks(student: TrainedStudent) -> Iterator[str]:
    run = student.run
    if licence_of(run.family.student) is None:
        yield f"the licence of {run.family.student} is not known here: look it up, and add `license:` to the card"
    yield from student.finished.damage(student.target)
    if not run.finished:
        yield "the run is not finished: the card has the scores that there are"
