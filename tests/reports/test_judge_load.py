"""A comparison of judges read back from the store: verdicts, seeds, what the run's own tables compare."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest

from harness.errors import UserError
from harness.records import write_records
from harness.types import Judgment, Score
from reports.judge_comparison.load_run import _calls, estimates, load_panel
from reports.judge_comparison.panel import FEATURES, ITEM
from reports.judge_comparison.ranking import comparisons, significant
from reports.tables.summary import summarise
from reports.targets import TARGETS
from tests.reports.world import make


class Shelf:
    """A store of one score artifact and its judgments."""

    def __init__(self, folder, meta=None):
        self.folder, self.said = folder, meta

    def path(self, kind, key):
        return self.folder / kind / key

    def meta(self, kind, key):
        if not self.path(kind, key).is_dir():
            raise KeyError(f"no {kind} {key}")
        return self.said


def test_verdicts_on_another_scale_come_to_0_and_1(tmp_path):
    """Arena-Hard's -2..2: the ends are 0 and 1, -1 is a quarter. Grades stay what they are."""
    (tmp_path / "judge" / "k").mkdir(parents=True)
    given = [Judgment(question="q", part=f"{n}", repeat=0, verdict=v, reason="", meta={"model_first": n % 2 == 0})
             for n, v in enumerate((-2.0, -1.0, 2.0, None))]  # fmt: skip
    write_records(tmp_path / "judge" / "k" / "judgments.jsonl", given)
    meta = {"params": {"entrants": ["dpo/1"]}, "inputs": {"judgments:dpo/1": "judge/k"}}
    read = _calls("j", "b", meta, {"range": [-2, 2], "paired": True}, Shelf(tmp_path))
    assert [each["verdict"] for each in read[:3]] == [0.0, 0.25, 1.0]
    assert np.isnan(read[3]["verdict"])
    assert [(each["row"], each["seed"], each["model_first"]) for each in read[:2]] == [("dpo", 1, 1.0), ("dpo", 1, 0.0)]
    graded = _calls("j", "b", meta, {"range": [-2, 2], "paired": False}, Shelf(tmp_path))
    assert [each["verdict"] for each in graded[:3]] == [-2.0, -1.0, 2.0]


META = {
    "params": {"entrants": ["dpo/0", "dpo/1"]},
    "inputs": {"judgments:dpo/0": "judge/a", "judgments:dpo/1": "judge/b"},
}
SAID = {
    "format": 1, "run": "r", "teacher": "gemma", "teacher_model": "google/gemma-2-9b-it", "titles": {"dpo": "DPO"},
    "baselines": ["teacher", "student"], "names": {"b": "Bench"},
    "judges": {"j": {"model": "m", "family": "", "own": [], "dollars": 2.0, "seconds": None}},
    "benchmarks": {"b": {"paired": True, "range": [0, 1], "calls": 2}},
    "scores": [{"judge": "j", "benchmark": "b", "score": "s"}],
}  # fmt: skip


def shelf(tmp_path):
    """One row of two seeds, scored 40 and 50 from one verdict each."""
    for key, verdict in (("a", 0.4), ("b", 0.5)):
        (tmp_path / "judge" / key).mkdir(parents=True)
        given = [Judgment(question="q", part="p", repeat=0, verdict=verdict, reason="", meta={})]
        write_records(tmp_path / "judge" / key / "judgments.jsonl", given)
    (tmp_path / "score" / "s").mkdir(parents=True)
    scores = {
        f"dpo/{seed}": [asdict(Score("b.wr", value, None, None, 1, 0, replicates=(value - 1, value + 1)))]
        for seed, value in enumerate((40.0, 50.0))
    }
    (tmp_path / "score" / "s" / "scores.json").write_text(json.dumps(scores))
    return Shelf(tmp_path, META)


def described(folder, **changes):
    """The folder of a comparison as the command leaves it."""
    folder.mkdir(parents=True)
    (folder / "sources.json").write_text(json.dumps({**SAID, **changes}))
    (folder / "items.csv").write_text(",".join(["benchmark", *ITEM, *FEATURES]) + "\n")
    return folder


def test_a_panel_is_read_with_what_its_run_compares(tmp_path):
    """Mean of the seeds 40 and 50; the main table's focus and reference; a table without a focus has none."""
    store = shelf(tmp_path)
    read, teacher = load_panel(described(tmp_path / "r/table1/judges"), store)
    each = read.rates["b.wr"]["j"]["dpo"]
    assert (each.value, each.replicates.tolist(), each.questions) == (45.0, [44.0, 46.0], 1)
    assert (each.seeds.values.tolist(), each.seeds.trained) == ([40.0, 50.0], True)
    assert read.calls["verdict"].tolist() == [0.4, 0.5]
    assert (read.reference, read.focus, read.baselines) == ("student", "pad-ppd", ("teacher", "student"))
    assert (teacher, read.teacher, read.passes) == ("gemma", "google/gemma-2-9b-it", {"b": 2})
    given = {"dpo/0": [Score("b.wr", 1.0, None, None, 1, 0, replicates=(1.0, 2.0))]}
    assert not estimates(given, ("dpo",))["b.wr"]["dpo"].seeds.trained
    other, _ = load_panel(described(tmp_path / "r/eval/judges", baselines=[]), store)
    assert (other.reference, other.focus) == ("", "")
    gone = described(tmp_path / "r/table2/judges", scores=[{"judge": "j", "benchmark": "b", "score": "gone"}])
    with pytest.raises(UserError, match=r"no score gone\. Give the compare-judges command again"):
        load_panel(gone, store)


def test_the_first_judge_finds_what_the_runs_table_finds():
    """Ten rows of three seeds: each star of the table against the student and each of PAD-PPD against another row."""
    results = make()
    target, baselines = TARGETS["table1"], ("teacher", "student")
    table = summarise(results, target)
    found = {"star": 0, "none": 0}
    for metric in ("alpaca_eval.wr", "mt_bench.score"):
        scores = {f"{row}/{seed}": [one] for (row, name, seed), one in results.scores.items() if name == metric}
        rates = estimates(scores, baselines)[metric]
        signs = significant(rates, comparisons(list(rates), target.reference, baselines, target.focus))
        trained = [row for row in rates if row not in baselines]
        expected = {(row, "student"): table.cells[row, metric].significant for row in trained}
        expected |= {
            ("pad-ppd", row): table.cells[row, metric].focus.significant for row in trained if row != "pad-ppd"
        }
        assert {pair: sign != 0 for pair, sign in signs.items()} == expected
        found["star"] += sum(expected.values())
        found["none"] += len(expected) - sum(expected.values())
    assert min(found.values()) >= 2  # both kinds occur, else this would say nothing
