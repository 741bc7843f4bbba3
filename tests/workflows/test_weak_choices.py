"""A teacher that hardly says a letter is told under the table."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from distilbench.workflows.execute import weak_choices
from harness.contracts.stage import Stage
from results.store.store import ArtifactStore


def test_a_teacher_with_little_mass_on_its_letters_is_told(tmp_path: Path) -> None:
    """3 groups at 0.9 and 1 at 0.02 in one stage, 4 at 0.1 in another: (3 * 0.9 + 0.02 + 4 * 0.1) / 8 = 39%."""
    store = ArtifactStore(tmp_path)
    first, second = (Stage("reward", {"name": name}) for name in "ab")
    plan: Any = SimpleNamespace(stages=[first, second, Stage("sample", {})])
    assert not list(weak_choices(plan, store))
    store.write(first, lambda folder: {"groups": 4, "mean_coverage": 2.72 / 4, "low_coverage_groups": 1})
    store.write(second, lambda folder: {"groups": 4, "mean_coverage": 0.1, "low_coverage_groups": 4})
    (text,) = weak_choices(plan, store)
    assert "39%" in text and "5 of 8 multiple-choice questions" in text
