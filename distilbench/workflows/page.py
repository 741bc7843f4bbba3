"""What the HTML page needs from outside the store: the benchmarks' questions and the judges' prices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UserError

if TYPE_CHECKING:
    from harness.contracts.registry import Registry
    from harness.types import Question
    from reports.page.widgets import Section
    from results.run.record import Run
    from results.run.results import Results
    from results.store.store import ArtifactStore


def write_run_page(
    path: Path,
    shown: Sequence[tuple[str, Results, float]],
    store: ArtifactStore,
    plugins: Sequence[str],
    compared: Sequence[Path] = (),
) -> Path:
    """One page with these targets: (target, results, smallest coverage of a cell). Raises as ``write_page`` does.

    ``compared``: folders of runs; those whose answers other judges have judged have a section on that.
    """
    from distilbench.plugins import load_registry
    from distilbench.workflows.compared import FOLDER
    from reports.judge_comparison.load_run import judge_names
    from reports.page.page import Part, write_page

    registry = load_registry(plugins)
    parts = [
        Part(target, results, coverage, questions_of(results.run, registry), prices(results.run, registry))
        for target, results, coverage in shown
    ]
    sections = [judged for folder in compared if (judged := judges_of(folder, store))]
    names = {key: name for folder in compared for key, name in judge_names(folder / FOLDER, store).items()}
    return write_page(path, parts, store, sections, names)


def judges_of(folder: Path, store: ArtifactStore) -> Section | None:
    """The comparison of judges on the answers of a run; ``None`` where there is none."""
    from distilbench.workflows.compared import compared_again

    comparison = compared_again(folder, store)
    if comparison is None:
        return None
    from reports.judge_comparison.page_section import judges_section

    return judges_section(comparison, folder.name)


def questions_of(run: Run, registry: Registry) -> dict[str, Sequence[Question] | str]:
    """Benchmark to its questions, or to why they cannot be had here (not pulled, a plug-in that was not named)."""
    from harness.stages.context import build

    found: dict[str, Sequence[Question] | str] = {}
    for name, spec in run.recipe.get("benchmarks", {}).items():
        if name not in registry.benchmarks:
            found[name] = f"no benchmark {name!r} is known here; name its file with --plugin"
            continue
        adapter = registry.benchmarks[name]
        try:
            found[name] = adapter.questions(build(adapter.config, settings(spec)))
        except UserError as error:
            found[name] = str(error)
    return found


def settings(spec: Any) -> dict[str, Any]:
    """A benchmark's own options in a resolved recipe, where its judge stands beside them."""
    return {key: value for key, value in spec.items() if key != "judge"}


def prices(run: Run, registry: Registry) -> Callable[[str, int, int], float | None]:
    """(benchmark, tokens read, tokens written) -> dollars, by the recipe's judges; ``None`` where it is not known."""
    from harness.stages.context import build

    def price(benchmark: str, read: int, written: int) -> float | None:
        name = run.recipe.get("benchmarks", {}).get(benchmark, {}).get("judge")
        spec = run.recipe.get("judges", {}).get(name)
        if spec is None or spec["kind"] not in registry.judges:
            return None
        kind = registry.judges[spec["kind"]]
        return kind.price(
            build(kind.config, {key: value for key, value in spec.items() if key != "kind"}), read, written
        )

    return price
