"""Recompute the recovered files of the length control from pinned public sources, and compare with the pinned ones.

The hub's ``df_gamed.csv`` holds the instruction difficulties and 1,610 annotations of two gamed baselines. Where the
hub cannot be reached both can be had from the public repository:

- difficulty: two nested annotation files hold ``glm_preference`` per row, and the GLM weights are published, so
  difficulty = (logit(glm_preference) - bias) / weight; the mean over the two models.
- gamed rows: their lengths are public. Their preferences enter a fit only through sums of y * length and
  y * difficulty. Every published weight row is the solution of an L1 problem, so its optimality conditions give these
  sums; the mode over the development models is taken, and each gamed baseline's own row splits them. Soft labels with
  exactly these sums (a logistic model: maximum entropy) stand in for the annotations. They are pseudo labels.

    python -m scripts.recover_length_difficulties --fetch

The tables go into the user's folder of assets, where the length control of AlpacaEval looks for them.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from harness.assets import Progress, asset, cache_folder, check_asset, digest_of, is_present, locate, pull
from harness.errors import UserError
from harness.stats import Array
from judges.benchmarks.alpaca_eval.length_control import COST_GRID, GAMED_WEIGHT, length_feature
from judges.benchmarks.scoring import sigmoid

FOLDER = "alpaca_eval/"
PREFERENCE_FILE = FOLDER + "vicuna_glm_preference.csv"
DIFFICULTY_FILE = FOLDER + "instruction_difficulty_recovered.csv"
GAMED_FILE = FOLDER + "df_gamed_recovered.csv"
WEIGHT_FILE = FOLDER + "glm_weights_length_controlled_v1.csv"
BOARD_FILE = FOLDER + "leaderboard_weighted_alpaca_eval_gpt4_turbo.csv"
ANNOTATION_FILE = FOLDER + "annotations_dev.parquet"
OFFICIAL_BASELINE = "gpt4_1106_preview"
BASELINE_FILE = FOLDER + "alpaca_eval_gpt4_baseline.json"
VICUNA = ("vicuna-13b-v1.5", "vicuna-7b-v1.5")
GAMED_MODELS = ("gpt4_1106_preview_verbose", "gpt4_1106_preview_concise")
SUMS_TOLERANCE = 1e-6
"""Largest difference of a value that still counts as the same file."""


@dataclass(frozen=True)
class Rebuilt:
    """What came of one recovered file."""

    file: str
    state: Literal["identical", "equal values", "different", "source missing"]
    message: str
    path: Path | None = None
    """Where the rebuilt file is; only identical ones pass the check by sha256 and are put in place."""


def _table(text: str) -> dict[str, list[str]]:
    rows = list(csv.reader(io.StringIO(text)))
    return {name: [row[column] for row in rows[1:]] for column, name in enumerate(rows[0])}


def _numbers(text: str) -> Array:
    """All numbers of a CSV text, row by row, for a comparison by value."""
    cells = [cell for row in list(csv.reader(io.StringIO(text)))[1:] for cell in row]
    return np.array([float(cell) for cell in cells if cell.lstrip("-").replace(".", "", 1).replace("e-", "").isdigit()])


def glm_preferences(annotations: dict[str, str]) -> str:
    """The table of ``glm_preference`` from the two nested annotation files (JSON texts by model)."""
    columns = {name: [row["glm_preference"] for row in json.loads(annotations[name])] for name in VICUNA}
    lines = ["index," + ",".join(VICUNA)]
    for index, values in enumerate(zip(*columns.values(), strict=True)):
        lines.append(",".join([str(index), *(str(round(float(value), 10)) for value in values)]))
    return "\n".join(lines) + "\n"


def _weights(text: str) -> dict[str, Array]:
    """Model to its published coefficients: length, difficulty, bias."""
    rows = list(csv.reader(io.StringIO(text)))[1:]
    return {row[0]: np.array([float(cell) for cell in row[1:4]]) for row in rows}


def difficulties(preferences: str, weights: str) -> Array:
    """One difficulty per instruction, unrounded."""
    table, coef = _table(preferences), _weights(weights)
    estimates = []
    for name in reversed(VICUNA):
        p = np.array([float(value) for value in table[name]])
        estimates.append((np.log(p / (1 - p)) - coef[name][2]) / coef[name][1])
    values = np.asarray(np.mean(estimates, axis=0))
    values[0] = 0.0  # the reference of the original dummy coding; 2e-10 by the formula
    return values


def difficulty_table(values: Array) -> str:
    """The shipped form of the difficulties."""
    lines = [f"{index},{float(np.round(value, 8))}" for index, value in enumerate(values)]
    return "\n".join(["index,instruction_difficulty", *lines]) + "\n"


def half_sample_mode(values: Array) -> float:
    """The densest spot: halve to the narrowest half until three or fewer are left, then their median."""
    sample = np.sort(values)
    while sample.size > 3:
        half_size = -(-sample.size // 2)
        widths = sample[half_size - 1 :] - sample[: sample.size - half_size + 1]
        first = int(np.argmin(widths))
        sample = sample[first : first + half_size]
    return float(np.median(sample))


@dataclass(frozen=True)
class _GamedRows:
    """Lengths and difficulties of the gamed baselines, 805 rows each, in the order of ``GAMED_MODELS``."""

    unit: dict[str, Array]
    """Length difference in its own standard deviations."""
    difficulty: Array

    def design_rows(self) -> Array:
        """[1610, 2]: tanh of the length difference, difficulty."""
        return np.concatenate([np.column_stack([np.tanh(self.unit[name]), self.difficulty]) for name in GAMED_MODELS])


def _grid_penalty(bias_sum: float, bias: float) -> float:
    """1/C from the bias equation sum(y - p) = sign(bias) / C, which no gamed row enters; C is one of the grid's."""
    cost = max(float(np.sign(bias) / bias_sum), 1e-12) if bias_sum else float(COST_GRID[-1])
    return 1.0 / float(COST_GRID[np.argmin(np.abs(np.log(COST_GRID) - np.log(cost)))])


def gamed_sums(models: dict[str, tuple[Array, Array]], coef: dict[str, Array], gamed: _GamedRows) -> Array:
    """sum(y * length) and sum(y * difficulty) over the gamed rows, from each model's optimality conditions.

    Args:
        models: name to (preference, length difference in characters), rows in leaderboard order.
    """
    x = gamed.design_rows()
    estimates = []
    for name, (preference, delta) in models.items():
        design = np.column_stack([length_feature(delta), gamed.difficulty[: delta.size]])  # by position, as published
        residual = preference - sigmoid(design @ coef[name][:2] + coef[name][2])
        penalty = _grid_penalty(float(residual.sum()), float(coef[name][2])) * np.sign(coef[name][:2])
        estimates.append((penalty - residual @ design) / GAMED_WEIGHT + sigmoid(x @ coef[name][:2]) @ x)
    return np.array([half_sample_mode(column) for column in np.array(estimates).T])


def gamed_labels(sums: Array, coef: dict[str, Array], wins: dict[str, float], gamed: _GamedRows) -> dict[str, Array]:
    """Soft labels of each gamed baseline with the right sums of y, y * length and y * difficulty.

    Args:
        wins: leaderboard win rate of each gamed baseline, percent: gives sum(y).
    """
    x = gamed.design_rows()
    targets = {}
    for name in GAMED_MODELS:
        features = np.column_stack([np.tanh(gamed.unit[name]), gamed.difficulty])
        p = sigmoid(features @ coef[name][:2] + coef[name][2])
        total = wins[name] / 100 * gamed.difficulty.size
        penalty = _grid_penalty(total - float(p.sum()), float(coef[name][2])) * np.sign(coef[name][:2])
        other_rows = GAMED_WEIGHT * (sums - sigmoid(x @ coef[name][:2]) @ x)
        targets[name] = np.array([total, *(p @ features + penalty - other_rows)])
    excess = (sum(targets[name][1:] for name in GAMED_MODELS) - sums) / len(
        GAMED_MODELS
    )  # both fits stopped early, each its way
    labels = {}
    for name in GAMED_MODELS:
        goal = targets[name] - np.array([0.0, *excess])
        design = np.column_stack([np.ones_like(gamed.difficulty), np.tanh(gamed.unit[name]), gamed.difficulty])
        theta = np.zeros(3)
        for _ in range(100):
            p = sigmoid(design @ theta)
            step = np.linalg.solve((design * (p * (1 - p))[:, None]).T @ design, goal - p @ design)
            theta = theta + step
            if np.abs(step).max() < 1e-13:
                break
        labels[name] = sigmoid(design @ theta)
    return labels


def gamed_table(labels: dict[str, Array], gamed: _GamedRows) -> str:
    """The shipped form: 10 digits."""
    lines = ["model,index,preference,std_delta_len,instruction_difficulty,not_gamed_baseline"]
    for name in GAMED_MODELS:
        for index, (label, unit, value) in enumerate(
            zip(labels[name], gamed.unit[name], gamed.difficulty, strict=True)
        ):
            numbers = [round(float(label), 10), round(float(unit), 10), float(np.round(value, 8))]
            lines.append(",".join([name, str(index), *map(str, numbers), "False"]))
    return "\n".join(lines) + "\n"


def _source(model: str, in_annotator_folder: bool) -> str:
    """The text of a pinned source file. Raises UserError when it is missing."""
    path = "weighted_alpaca_eval_gpt4_turbo/weighted_alpaca_eval_gpt4_turbo/annotations.json"
    tail = path if in_annotator_folder else "model_outputs.json"
    return locate(f"sources/alpaca_eval/{model}/{tail}").read_text(encoding="utf-8")


def _make_preferences() -> str:
    return glm_preferences({name: _source(name, in_annotator_folder=True) for name in VICUNA})


def _current_preferences() -> str:
    return locate(PREFERENCE_FILE).read_text(encoding="utf-8") if is_present(PREFERENCE_FILE) else _make_preferences()


def _make_difficulties() -> str:
    return difficulty_table(difficulties(_current_preferences(), locate(WEIGHT_FILE).read_text(encoding="utf-8")))


def _annotations() -> dict[str, tuple[Array, Array]]:
    """Model to (preference 0..1, length difference), from the trimmed table or from the annotation files themselves."""
    if is_present(ANNOTATION_FILE):
        import pandas as pd

        frame = pd.read_parquet(locate(ANNOTATION_FILE)).sort_values(["model", "row"])
        return {
            str(name): (table["preference"].to_numpy() - 1, (table["len_1"] - table["len_2"]).to_numpy(dtype=float))
            for name, table in frame.groupby("model")
        }
    models = {}
    for source in asset(GAMED_FILE).made_from:
        model, *path = source.removeprefix("sources/alpaca_eval/").split("/")
        if path == ["annotations.json"]:
            rows = json.loads(locate(source).read_text(encoding="utf-8"))
            preference = np.array([float(row["preference"]) for row in rows]) - 1
            models[model] = (preference, np.array([len(row["output_1"]) - len(row["output_2"]) for row in rows], float))
    return models


def _make_gamed() -> str:
    coef_text = locate(WEIGHT_FILE).read_text(encoding="utf-8")
    baseline = [len(row["output"]) for row in json.loads(locate(BASELINE_FILE).read_text(encoding="utf-8"))]
    units = {}
    for name in GAMED_MODELS:
        lengths = [len(row["output"]) for row in json.loads(_source(name, in_annotator_folder=False))]
        delta = np.array(baseline, dtype=float) - np.array(lengths, dtype=float)
        units[name] = delta / delta.std(ddof=1)
    gamed = _GamedRows(units, difficulties(_current_preferences(), coef_text))
    coef, board = _weights(coef_text), _table(locate(BOARD_FILE).read_text(encoding="utf-8"))
    rates = dict(zip(board[""], board["win_rate"], strict=True))
    models = {name: rows for name, rows in _annotations().items() if name in coef and name != OFFICIAL_BASELINE}
    sums = gamed_sums(models, coef, gamed)
    return gamed_table(gamed_labels(sums, coef, {name: float(rates[name]) for name in GAMED_MODELS}, gamed), gamed)


def _compare(name: str, text: str, folder: Path) -> Rebuilt:
    """Write a rebuilt table and hold it against the pinned one: in place when identical, beside it otherwise."""
    place = folder / asset(name).file
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = place.with_name(place.name + ".rebuilt")
    draft.write_text(text, encoding="utf-8", newline="")
    if digest_of(draft) == asset(name).sha256:
        draft.replace(place)
        return Rebuilt(name, "identical", "equal to the pinned file byte for byte", place)
    asset_state = check_asset(name)
    if asset_state.state != "ok" or asset_state.path is None:
        message = f"its sha256 is {digest_of(draft)}, pinned is {asset(name).sha256}; no pinned file to compare with"
        return Rebuilt(name, "different", message, draft)
    official, rebuilt = _numbers(asset_state.path.read_text(encoding="utf-8")), _numbers(text)
    worst = float(np.abs(official - rebuilt).max()) if official.shape == rebuilt.shape else float("inf")
    state: Literal["equal values", "different"] = "equal values" if worst <= SUMS_TOLERANCE else "different"
    return Rebuilt(name, state, f"largest difference of a value: {worst:.2g}", draft)


def missing_sources() -> list[str]:
    """Names of the raw files (some 110 MB in all) that ``rebuild`` needs and that are not on this machine."""
    sources = {source for name in (PREFERENCE_FILE, GAMED_FILE) for source in asset(name).made_from}
    if is_present(PREFERENCE_FILE):  # the table itself is enough for the difficulties
        sources -= set(asset(PREFERENCE_FILE).made_from)
    if is_present(ANNOTATION_FILE):
        sources -= {source for source in sources if source.count("/") == 3 and source.endswith("/annotations.json")}
    sources |= {WEIGHT_FILE, BOARD_FILE, BASELINE_FILE}
    return sorted(name for name in sources if check_asset(name).state != "ok")


def rebuild(folder: Path | None = None, fetch: bool = False, progress: Progress | None = None) -> list[Rebuilt]:
    """Recompute every recovered file whose sources are there; says of the others which source is missing.

    Args:
        folder: where to write; the user's cache when left out (never a mirror that others read).
        fetch: pull the missing sources first.
        progress: told of every piece that comes down.
    """
    if fetch:
        pull(missing_sources(), progress)
    makers: dict[str, Callable[[], str]] = {
        PREFERENCE_FILE: _make_preferences,
        DIFFICULTY_FILE: _make_difficulties,
        GAMED_FILE: _make_gamed,
    }
    results = []
    for name, maker in makers.items():
        try:
            text = maker()
        except UserError as error:
            results.append(Rebuilt(name, "source missing", str(error)))
        else:
            results.append(_compare(name, text, folder or cache_folder()))
    return results


def main() -> int:
    """Exit code 1 when a source is missing or a value differs from the pinned file."""
    parser = argparse.ArgumentParser(description="Recover the files of AlpacaEval's length control.")
    parser.add_argument("--fetch", action="store_true", help="pull missing sources first (some 110 MB)")
    parser.add_argument("--folder", type=Path, help="where to write; default: the user's folder of assets")
    options = parser.parse_args()
    results = rebuild(options.folder, options.fetch)
    for result in results:
        print(f"{result.file}  {result.state}: {result.message}")
    return int(any(result.state in ("different", "source missing") for result in results))


if __name__ == "__main__":
    sys.exit(main())
