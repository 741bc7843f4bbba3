"""Which run is meant: the same words for every command and for ``distilbench.load``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from harness.errors import UserError, near
from harness.recipe.yaml_source import read_source, shipped_recipes
from results.run.record import JUDGES, check_runs, has_record, recorded_targets

RUNS = Path("runs")


class RunPlace(NamedTuple):
    folder: Path
    target: str | None
    """Where the words name one: ``NAME/TARGET``."""

    @property
    def path(self) -> Path:
        """What ``load`` takes."""
        return self.folder / self.target if self.target else self.folder


def find_run(words: str | Path, runs: Path = RUNS, is_run: Callable[[Path], bool] = has_record) -> RunPlace:
    """A run by its name under ``runs`` (``pocket``, ``pocket/table1``; judged again: ``pocket/JUDGE``), the path of its
    folder, or its recipe (a shipped name, a YAML file). Raises UserError with the nearest name and the runs that there
    are."""
    check_runs(runs)
    text = str(words)
    # A run can be read when its recipe is gone, and a plain name is that of a run: the folder called so comes second.
    places = [runs / text, Path(text).expanduser()]
    for place in places if "/" not in text else places[::-1]:
        folder = place.parent if place.name == "run.json" else place
        if is_run(folder):
            return RunPlace(folder, None)
        if (folder / "run.json").is_file():
            return RunPlace(folder.parent, folder.name)
    name, _, judge = text.partition("/")
    for target in recorded_targets(runs / name) if judge else ():
        if is_run(folder := runs / name / target / JUDGES / judge):
            return RunPlace(folder, None)
    if text in shipped_recipes() or Path(text).suffix in (".yaml", ".yml"):
        folder = runs / str(read_source(text).tree["name"])
        if is_run(folder):
            return RunPlace(folder, None)
        reason = f"the recipe {text!r} has not been run: there is no run {folder}."
        raise _not_found(reason, text, runs, is_run)
    raise _not_found(f"there is no run {text!r}.", text, runs, is_run)


def run_names(runs: Path, is_run: Callable[[Path], bool] = has_record) -> list[str]:
    return sorted(folder.name for folder in runs.glob("*") if folder.is_dir() and is_run(folder))


def _not_found(reason: str, text: str, runs: Path, is_run: Callable[[Path], bool]) -> UserError:
    path = Path(text)
    # Beside the folder that was named, where that is another place than --runs.
    place = path.parent if "/" in text and run_names(path.parent, is_run) else runs
    names = run_names(place, is_run)
    guess = near(path.name, names)
    head = "" if place == runs and "/" not in text else f"{place}/"
    hint = f" Did you mean {head + guess!r}?" if guess else ""
    listed = f"Runs under {place}: {', '.join(names) or 'none'}."
    recipe = text if text in shipped_recipes() or path.is_file() else "NAME"
    remedy = "Name a run, its folder, or its recipe"
    remedy += f"; `distilbench reproduce table1 --recipe {recipe}` makes one."
    return UserError(f"{reason}{hint} {listed} {remedy}")
