"""The recovered length-control files can be made again from their pinned sources, byte for byte."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from scripts import recover_length_difficulties as length_recovery
from scripts.recover_length_difficulties import GAMED_MODELS, VICUNA, half_sample_mode, rebuild


def test_half_sample_mode_finds_the_dense_spot() -> None:
    """Halves of 9 values: 5, then 3; the median of the last three."""
    values = np.array([0.0, 10.0, 5.01, 5.0, 5.02, 20.0, -7.0, 8.0, 5.5])
    assert half_sample_mode(values) == 5.01


def test_without_sources_it_says_which_is_missing(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DISTILBENCH_ASSETS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    results = rebuild(tmp_path)
    assert [result.state for result in results] == ["source missing"] * 3
    assert "sources/alpaca_eval/vicuna-13b-v1.5" in results[0].message and "https://" in results[0].message


def gamed_lengths(assets: Path) -> dict[str, list[int]]:
    """Output lengths of the gamed baselines, from the shipped table: length differences are whole numbers."""
    baseline = [len(row["output"]) for row in json.loads((assets / length_recovery.BASELINE_FILE).read_text())]
    with (assets / length_recovery.GAMED_FILE).open() as file:
        rows = list(csv.DictReader(file))
    lengths = {}
    for name in GAMED_MODELS:
        unit = np.array([float(row["std_delta_len"]) for row in rows if row["model"] == name])
        steps = np.diff(np.unique(np.round(unit, 9)))
        spread = 1 / steps[steps > 1e-7].min()  # two differences are one character apart
        for _ in range(20):
            whole = np.round(unit * spread)
            spread = (whole @ whole) / (whole @ unit)
        assert np.abs(unit * spread - whole).max() < 1e-5
        lengths[name] = [own - int(delta) for own, delta in zip(baseline, whole, strict=True)]
    return lengths


@pytest.mark.assets
def test_rebuilt_files_are_the_pinned_ones(assets, monkeypatch, tmp_path: Path) -> None:
    lengths = gamed_lengths(assets)
    with (assets / length_recovery.PREFERENCE_FILE).open() as file:
        rows = list(csv.DictReader(file))

    def source(model: str, in_annotator_folder: bool) -> str:
        if in_annotator_folder:
            return json.dumps([{"glm_preference": float(row[model])} for row in rows])
        return json.dumps([{"output": "x" * length} for length in lengths[model]])

    monkeypatch.setattr(length_recovery, "_source", source)
    results = rebuild(tmp_path)
    assert {each.file for each in results} and VICUNA[0] in rows[0]
    assert [result.state for result in results[:2]] == ["identical", "identical"]
    # its last digit stands at a rounding border: another processor may write one of 1,610 labels 1e-10 apart
    assert results[2].state in ("identical", "equal values"), results[2].message
    assert all(result.path is not None and result.path.is_file() for result in results)
