"""``distilbench search``: what is tried, on which questions, what is found, and what later tables say of it.

Stages are not run here: scores are written as if they had been, from a rule that the tests choose.
"""

from __future__ import annotations

import json
import math
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from distilbench.cli.reproduce import show_search, show_trials
from distilbench.plugins import load_registry
from distilbench.searching import FinishedSearch, plan_search, search
from distilbench.searching.run import command_of
from distilbench.viewing.library import Library
from distilbench.workflows.plan import plan
from harness.contracts.benchmark import Metric
from harness.contracts.stage import Stage
from harness.errors import NOT_FINITE, UserError
from harness.plan.plan import Plan
from harness.plan.trials import Trial
from harness.recipe.recipe import load_recipe
from harness.recipe.sections import MethodEntry
from harness.recipe.yaml_source import read_overrides
from harness.run.scheduler import RunOutcome, pending_stages
from harness.types import Score
from reports.figures.style import figure_style
from reports.formats.terminal import TerminalTable
from reports.tables.search import percent, trials_table, with_objective
from reports.tables.summary import scale
from results.run.record import read_run
from results.run.results import Results
from results.run.search_notes import search_notes
from tests.command import SMALL, command, distilbench, environment, settings

REGISTRY = load_registry()
Rule = Callable[[MethodEntry, int], float]
CHANGES = ("benchmarks=[mt_bench, gsm8k]", "methods.dpo.beta=0.1")
SPACE = "train.learning_rate=log(1e-5, 1e-2); beta=log(0.01, 10)"


def near_one(entry: MethodEntry, seed: int) -> float:
    """Best, 70, at beta = 1, two points of 100 apart between seeds 0 and 1."""
    return 70 - 10 * abs(math.log10(entry.config.beta)) + 2 * seed


def stages_of(plan_: Plan, score: Stage) -> list[Stage]:
    """The answers and judgments that a score is made from."""
    keys = {ref.key for ref in score.inputs.values()}
    return [stage for stage in plan_.stages if stage.key in keys]


class Runner:
    """Stands for ``run_plans``: makes the scores of a plan by a rule, and remembers what it made."""

    def __init__(self, rule: Rule = near_one, stop_at: int = 10**9) -> None:
        self.rule, self.stop_at = rule, stop_at
        self.made: list[str] = []
        self.failures: dict[tuple[str, int], str] = {}
        """Row and seed to the error of its training."""
        self.failed_round: int | None = None
        """Which of its trainings; ``None``: the last."""
        self.judge_error = ""

    def __call__(self, plans: list[Plan], registry: object, store: Any, *others: object) -> RunOutcome:
        (plan_,) = plans
        outcome = RunOutcome(len(plan_.stages), 0)
        if self.failures:  # then only what is judged is scored
            for row in plan_.entrants:
                for stage in row.judgments.values() if (row.row, row.seed) not in self.failures else ():
                    store.write(stage, lambda folder: {})
        failed = {self.training(plan_, *key): text for key, text in self.failures.items() if key[0] in plan_.rows}
        outcome.errors |= failed
        if self.judge_error:
            outcome.errors[next(stage.key for stage in plan_.stages if stage.kind == "judge")] = self.judge_error
            return outcome
        blocked = {f"{row}/{seed}" for row, seed in self.failures}
        for benchmark in plan_.recipe.benchmarks:
            rows = [row for row in plan_.entrants if row.name not in blocked]
            for stage in {stage.key: stage for stage in plan_.planner.scores(benchmark, rows).values()}.values():
                if store.has(stage):
                    continue
                if len(self.made) >= self.stop_at:
                    raise KeyboardInterrupt
                for source in stages_of(plan_, stage):
                    if not store.has(source):
                        store.write(source, lambda folder: {})
                store.write(stage, lambda folder, stage=stage: self.fill(plan_, stage.params, folder))
                self.made.append(stage.key)
        return outcome

    def training(self, plan_: Plan, row: str, seed: int) -> str:
        if self.failed_round is None:
            return plan_.planner.student(row, seed).key
        trainings = [stage for stage in plan_.stages if (stage.kind, stage.row, stage.seed) == ("train", row, seed)]
        return next(stage.key for stage in trainings if stage.round == self.failed_round)

    def fill(self, plan_: Plan, params: Mapping[str, Any], folder: Path) -> dict[str, object]:
        benchmark = plan_.graph.benchmarks[params["benchmark"]]
        noise = np.random.default_rng(0).normal(0, 2, 50)
        content = {}
        for name in params["entrants"]:
            row, _, seed = name.rpartition("/")
            value = self.rule(plan_.recipe.methods[row], int(seed))
            content[name] = [
                asdict(made_score(metric, value, noise, len(benchmark.questions)))
                for metric in benchmark.benchmark.metrics
            ]
        (folder / "scores.json").write_text(json.dumps(content), encoding="utf-8")
        return {"scored": 1}


def made_score(metric: Metric, share: float, noise: Any, n: int) -> Score:
    low, high = scale(metric) or (0.0, 100.0)
    value, replicates = low + (high - low) * share / 100, low + (high - low) * (share + noise) / 100
    return Score(metric.id, value, None, None, n, 0, replicates=tuple(map(float, replicates)))


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Runner:
    made = Runner()
    monkeypatch.setattr("reports.write.FIGURE_FORMATS", ())  # drawing takes longest; one test draws
    monkeypatch.setattr("distilbench.searching.run.run_plans", made)
    return made


def run(place: Path, rows: str = "dpo", **options: Any) -> FinishedSearch:
    """Of two benchmarks, which is faster than of four, and from a beta of 0.1."""
    changes = [*CHANGES, *options.pop("set", [])]
    return search(rows.split(","), runs=place, set=changes, **{"space": [SPACE], "seeds": [0, 1], **options})


def tried(finished: FinishedSearch) -> list[Mapping[str, Any]]:
    return [trial.values for row in finished.searches for trial in row.trials]


def best_of(finished: FinishedSearch, row: int = 0) -> Trial:
    best = finished.searches[row].best
    assert best is not None
    return best


def printed(finished: FinishedSearch) -> str:
    from io import StringIO

    from rich.console import Console

    console = Console(file=StringIO(), width=150)
    with console.capture() as capture:
        for table in finished.tables:
            console.print(TerminalTable(table, notes=True))
    return " ".join(capture.get().split())


# What is tried


def test_the_first_trial_is_the_recipes_own_row(tmp_path: Path) -> None:
    """Its training has the key that the row's has in Table 1: neither is done twice."""
    work, _ = plan_search(["dpo"], runs=tmp_path, trials=4, seeds=[0, 1]).planned
    table1 = plan("table1", methods=["dpo"], seeds=[0, 1], runs=tmp_path).first
    for seed in (0, 1):
        ours = work.first.planner.student("dpo-trial-00", seed).key
        assert ours == table1.planner.student("dpo", seed).key
        assert ours != work.first.planner.student("dpo-trial-01", seed).key


def test_every_row_has_the_same_budget_and_all_are_the_recipes(tmp_path: Path) -> None:
    """Of every row 3 trials with 2 seeds on four benchmarks; the spaces are those that the methods state."""
    work, known = plan_search(["all"], runs=tmp_path, trials=3, seeds=[0, 1]).planned
    rows = len(load_recipe("pocket", (), REGISTRY).methods)
    assert len(work.first.rows) == rows * 3 and known == 3
    assert len({(row.row, row.seed) for row in work.first.entrants if row.judgments}) == rows * 3 * 2
    assert len(work.first.scores) == 4 * rows * 3, "each row is scored alone, with its seeds"


def test_view_shows_the_trials_of_a_finished_search(tmp_path: Path, runner: Runner) -> None:
    """From the JSON beside the recipe, with the words that are printed; one trial has no score, and its reason."""
    runner.failures = {("dpo-trial-02", 1): f"{NOT_FINITE} loss"}
    finished = run(tmp_path, trials=3)
    (table,) = finished.tables
    stored = trials_table(json.loads((finished.search.folder / "search-dpo.json").read_text(encoding="utf-8")))
    assert (stored.title, stored.footnotes, stored.lines) == (table.title, table.footnotes, table.lines)
    texts = [[(cell.text, cell.change, cell.lines, cell.marks) for cell in row.cells] for row in stored.rows]
    assert texts == [[(cell.text, cell.change, cell.lines, cell.marks) for cell in row.cells] for row in table.rows]
    viewed = Library(tmp_path).run("pocket")
    page = viewed.report_page([])
    assert not viewed.is_live() and viewed.about() == ("finished", "search")
    assert 'id="search-dpo"' in page and "0 (as in the recipe)" in page and "Finished" in page
    (finished.search.folder / "search-dpo.json").write_text("{", encoding="utf-8")
    assert "search-dpo.json cannot be read" in viewed.report_page([])


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_killed_search_goes_on_with_the_same_trials(
    tmp_path: Path, runner: Runner, monkeypatch: pytest.MonkeyPatch, sampler: str
) -> None:
    """Killed after 5 of 6 * 2 scores; then the rest is made, and all trials are those of an undisturbed search."""
    options: dict[str, Any] = {"sampler": sampler, "trials": 6}
    if sampler == "tpe":
        pytest.importorskip("optuna")
        options["round_size"] = 2
    whole = run(tmp_path / "whole", **options)
    runner.made.clear()
    runner.stop_at = 5
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", **options)
    assert len(runner.made) == 5
    runner.stop_at = 10**9
    again = run(tmp_path / "killed", **options)
    assert len(runner.made) == 12 == len(set(runner.made)), "6 trials on two benchmarks, each once"
    assert tried(again) == tried(whole)
    runner.made.clear()
    assert tried(run(tmp_path / "killed", set=["compute.workers=7"], **options)) == tried(whole)
    assert runner.made == [], "the number of workers decides nothing"


@pytest.mark.slow
def test_a_sampler_that_learns_takes_rounds_of_a_stated_size(tmp_path: Path, runner: Runner) -> None:
    pytest.importorskip("optuna")
    fours = tried(run(tmp_path, sampler="tpe", trials=8))
    # of the eight all but the first six depend on results: TPE draws five at random before
    ones = tried(run(tmp_path, sampler="tpe", trials=8, round_size=1))
    assert ones[:5] == fours[:5] and ones != fours
    again = plan_search(["dpo"], runs=tmp_path, sampler="tpe", trials=8, seeds=[0, 1], space=[SPACE],
                        set=[*CHANGES])  # fmt: skip
    known = [stage for stage in again.planned[0].pending_stages if stage.kind == "score"]
    assert again.planned[1] == 8 and not known, "what is in the store is known beforehand"
    with pytest.raises(UserError, match="have no rounds; it is for tpe"):
        plan_search(["dpo"], runs=tmp_path, round_size=4)
    with pytest.raises(UserError, match="unknown sampler 'grid'"):
        plan_search(["dpo"], runs=tmp_path, sampler="grid")


def test_mistakes_are_said_before_anything_is_planned(tmp_path: Path) -> None:
    for rows, options, message in (
        (["dop"], {}, "unknown row 'dop'. Did you mean 'dpo'"),
        (["dpo"], {"space": ["simpo: beta=log(1, 2)"]}, "unknown row in --space 'simpo'"),
        (["dpo"], {"space": ["gamma=log(1, 2)"]}, "unknown knob 'gamma'"),
        (["dpo"], {"space": ["beta=uniform(-1, 1)"]}, r"--space has .*\n.*methods\.dpo\.beta = -1\.0: must be greater"),
        (["pad-ppd"], {"space": ["divergence={jsd, fo, ag, kl_ts, kl_st}"]}, r"methods\.pad-ppd\.divergence = 'fo'"),
        (["dpo"], {"space": [""]}, "names no knob"),
        (["dpo"], {"space": ["dpo: beta=log(1, 2)", "dpo: rounds={1, 2}"]}, "dpo has two spaces"),
        (["dpo"], {"space": ["beta=log(1, 2)", "rounds={1, 2}"]}, "two spaces for all rows"),
        (["dpo"], {"trials": 10**10, "seeds": [0, 1]}, "20,000,000,000 trainings, and 2,000 are the most"),
        (["dpo"], {"on": str(tmp_path / "no")}, "is no file. Say dev, or the path"),
        (["dpo"], {"space": ["train.dtype={float32, int3}"]}, r"train\.dtype = 'int3'"),
        (["dpo"], {"trials": 1}, "at least 2 are needed"),
        (["adpa"], {"set": ["family.student=pocket:student-other"]}, "adpa cannot be searched: needs a shared"),
    ):
        with pytest.raises(UserError, match=message):
            plan_search(rows, runs=tmp_path, **options)
    skipping = plan_search(["all"], runs=tmp_path, set=["family.student=pocket:student-other"], trials=2)
    assert "adpa" not in skipping.spaces and any(text.startswith("adpa: needs a shared") for text in skipping.skipped)


# On which questions


def test_development_questions_share_nothing_with_the_test_questions(tmp_path: Path) -> None:
    work, _ = plan_search(["dpo"], runs=tmp_path, trials=2, seeds=[0]).planned
    tests = plan("table1", methods=["dpo"], runs=tmp_path).first.graph.benchmarks
    for name, benchmark in work.first.graph.benchmarks.items():
        assert benchmark.options["split"] == "dev"
        for other in tests.values():
            assert not {question.id for question in benchmark.questions} & {each.id for each in other.questions}
            turns = {question.turns[0] for question in benchmark.questions}
            assert not turns & {question.turns[0] for question in other.questions}, name


def test_test_questions_are_refused(tmp_path: Path) -> None:
    """In the recipe's own section, and as a file."""
    with pytest.raises(UserError, match=r"\d+ of the questions of alpaca_eval are test questions of alpaca_eval"):
        plan_search(["dpo"], runs=tmp_path, set=["targets.search.benchmarks=[alpaca_eval]"])
    question = plan("table1", runs=tmp_path).first.graph.benchmarks["gsm8k"].questions[3]
    file = tmp_path / "mine.jsonl"
    rows = [{"prompt": "Name a bird.", "golden": "robin"}, {"prompt": question.turns[0].upper(), "golden": "4"}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(UserError, match="1 of the questions of alpaca_eval are test questions of gsm8k"):
        plan_search(["dpo"], runs=tmp_path, on=str(file))
    # neither a limit nor a benchmark that is left out now hides what is reported later
    for change in ("benchmarks.gsm8k.limit=1", "benchmarks=[alpaca_eval]"):
        with pytest.raises(UserError, match="1 of the questions of alpaca_eval are test questions of gsm8k"):
            plan_search(["dpo"], runs=tmp_path, on=str(file), set=[change])
    file.write_text(json.dumps(rows[0]) + "\n", encoding="utf-8")
    own = plan_search(["dpo"], runs=tmp_path, on=str(file))
    assert list(own.benchmarks) == ["alpaca_eval"] and own.benchmarks["alpaca_eval"].judge == "main"
    graph = own.planned[0].first.graph
    (question,) = graph.benchmarks["alpaca_eval"].questions
    assert (question.turns, question.baseline) == (("Name a bird.",), ("robin",))


def test_a_recipe_may_name_its_development_questions(tmp_path: Path) -> None:
    change = "targets.search={benchmarks: {gsm8k: {split: dev}, alpaca_eval: {split: dev}}}"
    chosen = plan_search(["dpo"], runs=tmp_path, set=[change])  # the other benchmarks of the recipe are left out
    assert {name: entry.config.split for name, entry in chosen.benchmarks.items()} == {
        "gsm8k": "dev", "alpaca_eval": "dev",
    }  # fmt: skip


def test_official_benchmarks_are_searched_on_held_out_training_prompts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """40 prompts in the source's order, training takes the first 16: of the other 24 one has two turns, and one no
    golden answer. 22 are left, against their golden answers, in both orders."""
    template = ({"role": "user", "content": "{instruction} {output_1} {output_2}"},)
    monkeypatch.setattr("judges.benchmarks.alpaca_eval.benchmark._official_template", lambda name: template)
    rows: list[dict[str, Any]] = [
        {"id": str(n), "prompt": f"question {n}?", "golden": f"answer {n}"} for n in range(40)
    ]
    file = tmp_path / "prompts.jsonl"
    source = REGISTRY.sources["jsonl"]

    def write() -> list[str]:
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        config = source.config(path=str(file))
        return [prompt.id for prompt in source.prompts(config, source.pin(config).identity, 0)]

    order = write()
    for name, change in ((order[20], {"golden": None}), (order[30], {"prompt": [
        {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"},
    ]})):  # fmt: skip
        rows[int(name)] |= change
    assert write() == order
    changes = [
        f"prompts={{source: jsonl, path: {file}, n: 16}}", "benchmarks=[alpaca_eval, mt_bench]",
        "benchmarks.alpaca_eval.questions=official", "benchmarks.mt_bench.questions=official",
    ]  # fmt: skip
    held_out = plan_search(["dpo"], runs=tmp_path, set=changes, trials=2)
    assert list(held_out.benchmarks) == ["alpaca_eval"]
    config = held_out.benchmarks["alpaca_eval"].config
    assert (config.questions, config.order) == ("own", "both")
    work, _ = held_out.planned
    questions = work.first.graph.benchmarks["alpaca_eval"].questions
    assert [question.id for question in questions] == [n for n in order[16:] if n not in (order[20], order[30])]
    assert questions[0].baseline == (f"answer {order[16]}",)
    assert not any("overlap" in finding.text for finding in work.findings)  # none to tell of
    assert work.cost(work.stages).judge_calls == 2 * 3 * 2 * 22, "trials, seeds, orders, questions"
    assert "22 held-out training prompts" in held_out.notes[0] and held_out.budget.on == "22 held-out training prompts"
    with pytest.raises(UserError, match=r"Set a smaller prompts\.n, or give a file"):
        plan_search(["dpo"], runs=tmp_path, set=[*changes, "prompts.n=40"])


def test_own_questions_are_single_and_have_golden_answers(tmp_path: Path) -> None:
    benchmark = REGISTRY.benchmarks["alpaca_eval"]
    file = tmp_path / "mine.jsonl"
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    for row, message in (({"prompt": turns, "golden": "g"}, "one question"), ({"prompt": "u"}, "no golden answer")):
        file.write_text(json.dumps(row) + "\n", encoding="utf-8")
        with pytest.raises(UserError, match=message):
            benchmark.questions(benchmark.config(questions="own", path=str(file)))
    line = json.dumps({"prompt": "u", "golden": "g"}) + "\n"
    for text, message in (("", "holds no questions"), (2 * line, "line-2: asks the same as line-1")):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=message):
            benchmark.questions(benchmark.config(questions="own", path=str(file)))
    for values in ({"questions": "own"}, {"path": "x.jsonl"}):
        with pytest.raises(ValueError, match="path goes with questions = 'own'"):
            benchmark.config(**values)


# What is found


def test_the_number_that_trials_are_chosen_by(tmp_path: Path, runner: Runner) -> None:
    """A rule of 70 on every benchmark: GSM8K 70, MT-Bench 1 + 9 * 0.7 = 7.3 of 1 to 10, which is 70 again.

    Replicates are averaged as the values are: 50 of them, whose spread over benchmarks is one noise here.
    """
    lc, wr = REGISTRY.benchmarks["alpaca_eval"].metrics
    assert (lc.id, lc.joint, wr.joint) == ("alpaca_eval.lc", True, False), "LC depends on the other rows: left out"
    assert percent(Metric("m.x", "x", "g", unit="1-10"), 7.3) == pytest.approx(70)
    assert percent(Metric("m.x", "x", "g"), 7.3) == 7.3
    runner.rule = lambda entry, seed: 70.0
    finished = run(tmp_path, trials=2, seeds=[0])
    row = finished.searches[0]
    score = row.results.scores["dpo-trial-01", "search.score", 0]
    assert score.value == pytest.approx(70)
    questions = {name: len(b.questions) for name, b in finished.search.planned[0].first.graph.benchmarks.items()}
    assert score.n == questions["mt_bench"] + questions["gsm8k"]
    assert np.std(score.replicates) == pytest.approx(np.std(np.random.default_rng(0).normal(0, 2, 50)))
    # benchmarks weigh alike: with MT-Bench at 5.5 (50 of 100) and GSM8K at 70, (50 + 70) / 2 = 60
    scores = dict(row.results.scores)
    key = "dpo-trial-01", "mt_bench.score", 0
    scores[key] = replace(scores[key], value=5.5)
    run_ = replace(row.results.run, columns=tuple(m for m in row.results.run.columns if m.id != "search.score"))
    mixed = with_objective(Results(run_, {k: s for k, s in scores.items() if k[1] != "search.score"}))
    assert mixed.scores["dpo-trial-01", "search.score", 0].value == pytest.approx(60)


def test_trials_are_ranked_by_their_mean_over_seeds(tmp_path: Path, runner: Runner) -> None:
    """The rule's best is beta = 1; the recipe has 0.1, so its score is 60 with seed 0, 62 with seed 1: 61."""
    finished = run(tmp_path, trials=6)
    (row,) = finished.searches
    assert row.trials[0].number == 0 and row.value(row.trials[0]) == pytest.approx(61)
    distance = {trial.number: abs(math.log10(trial.values["beta"])) for trial in row.trials}
    assert [trial.number for trial in row.ranked] == sorted(distance, key=lambda number: distance[number])
    text = printed(finished)
    assert "6 trials x 2 seeds (0, 1) on dev, random" in text and "0 (as in the recipe)" in text
    assert f"Best: trial {best_of(finished).number}" in text and "The best of 6 looks better here than it is" in text
    folder = tmp_path / "pocket" / "search"
    names = {"dpo.yaml", *(f"search-dpo.{end}" for end in ("csv", "json", "md", "tex"))}
    assert {file.name for file in folder.iterdir()} == names
    data = json.loads((folder / "search-dpo.json").read_text(encoding="utf-8"))
    assert data["best"] == best_of(finished).number and len(data["trials"]) == 6
    assert data["budget"] == {"trials": 6, "seeds": [0, 1], "on": "dev", "sampler": "random"}
    first = data["trials"][0]
    assert (first["beta"], first["seed_0"], first["seed_1"], first["mt_bench.score"]) == (0.1, 60.0, 62.0, 6.49)


@pytest.mark.slow
def test_a_best_value_at_the_border_is_said(tmp_path: Path, runner: Runner) -> None:
    """The larger beta the better: the best of 16 trials lies in the outer tenth of two decades."""
    runner.rule = lambda entry, seed: 50 + 10 * math.log10(entry.config.beta)
    finished = run(tmp_path, trials=16, seeds=[0], space=["beta=log(0.01, 1)"])
    (row,) = finished.searches
    assert best_of(finished).values["beta"] > 10**-0.2 and row.borders == {"beta": "high"}
    assert "lies at the upper border of log(0.01, 1): a wider space may hold better" in printed(finished)
    runner.rule = lambda entry, seed: 50 - abs(math.log10(entry.config.beta) + 1)
    inside = run(tmp_path / "b", trials=4, seeds=[0], space=["beta=log(0.01, 1)"])
    assert inside.searches[0].borders == {} and "No trial is better than the recipe's own" in printed(inside)


def test_several_rows_and_an_overview(tmp_path: Path, runner: Runner, capsys: pytest.CaptureFixture[str]) -> None:
    finished = run(tmp_path, "dpo,simpo", space=["simpo: beta=log(0.1, 30)", f"dpo: {SPACE}"], trials=4, seeds=[0])
    show_search(finished.search, is_error=False)
    show_trials(finished)
    captured = capsys.readouterr()
    out, recipe = " ".join(captured.out.split()), tmp_path / "pocket" / "search" / "dpo-simpo.yaml"
    assert f"next: distilbench reproduce table1 --recipe {recipe}" in " ".join(captured.err.split())
    assert "search of 2 rows, each with 4 trials x 1 seed (0) on dev, random" in out
    assert "what was found; every row had 4 trials" in out and "SimPO" in out
    tree = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    assert set(tree["methods"]) == {"dpo", "simpo"} and tree["extends"] == "pocket"


def test_a_training_that_diverges_is_a_trial_without_a_score(tmp_path: Path, runner: Runner) -> None:
    runner.failures = {("dpo-trial-02", 1): "dpo: the loss is not finite at step 3"}
    finished = run(tmp_path, trials=4)
    (row,) = finished.searches
    assert not finished.unfinished and row.value(row.trials[2]) is None and row.ranked[-1].number == 2
    assert "the loss is not finite at step 3" in printed(finished) and row.best is not None
    data = json.loads((tmp_path / "pocket" / "search" / "search-dpo.json").read_text(encoding="utf-8"))
    assert data["trials"][2]["score"] is None and "not finite" in data["trials"][2]["reason"]


def test_a_training_that_diverges_in_its_first_round_too(tmp_path: Path, runner: Runner) -> None:
    """Of two rounds only the last is the row's student; a full disk says nothing of a setting in either."""
    runner.failed_round = 1
    for text, unfinished in (("the loss is not finite at step 3", ""), ("no space left", "1 stage failed")):
        runner.failures = {("dpo-trial-02", 0): text}
        finished = run(tmp_path / text[-1], trials=4, seeds=[0], set=["methods.dpo.rounds=2"])
        assert finished.unfinished == unfinished


def test_any_other_failure_stops_the_search(tmp_path: Path, runner: Runner, capsys: pytest.CaptureFixture[str]) -> None:
    """A judge that is away says nothing of a setting: a sampler must not learn from it."""
    import typer

    pytest.importorskip("optuna")
    runner.judge_error = "the judge cannot be reached"
    finished = run(tmp_path, sampler="tpe", trials=6)
    assert finished.unfinished == "1 stage failed" and len(tried(finished)) == 4
    with pytest.raises(typer.Exit):
        show_trials(finished)
    assert (
        "UNFINISHED: 1 stage failed; see above. Once that is mended, the same command goes on."
        in capsys.readouterr().err
    )
    runner.judge_error = ""
    assert len(tried(run(tmp_path, sampler="tpe", trials=6))) == 6


def test_the_picture_has_a_panel_for_each_knob(tmp_path: Path, runner: Runner) -> None:
    runner.failures = {("dpo-trial-02", 1): "the loss is not finite"}
    spaces = [f"{SPACE}; train.schedule={{cosine, linear}}; train.epochs=uniform(1, 3); train.warmup_ratio={{0, 0.1}}"]
    finished = run(tmp_path, trials=4, space=spaces)
    with figure_style():
        figure = finished.tables[0].drawings[0].draw()
    panels = [axis for axis in figure.axes if axis.get_visible()]
    knobs = ["train.learning_rate", "beta", "train.schedule", "train.epochs", "train.warmup_ratio"]
    assert [axis.get_title(loc="left") for axis in panels] == knobs
    assert panels[0].get_xscale() == "log" and panels[3].get_xscale() == "linear"
    assert [label.get_text() for label in panels[2].get_xticklabels()] == ["cosine", "linear"]
    stars = [line for line in panels[1].lines if line.get_marker() == "*"]
    best = best_of(finished)
    assert [np.asarray(line.get_xdata()).tolist() for line in stars] == [[best.values["beta"]]]
    assert any(line.get_marker() == "x" for line in panels[1].lines), "the trial without a score"


# What later tables say


def notes(recipe: str, *changes: str, rows: tuple[str, ...] = ("dpo", "simpo")) -> str:
    loaded = load_recipe(recipe, changes, REGISTRY)
    return " ".join(search_notes(loaded, {row: row for row in rows}, REGISTRY))


def test_a_table_made_with_the_recipe_says_what_was_searched(tmp_path: Path, runner: Runner) -> None:
    run(tmp_path, "dpo,simpo", space=[f"dpo: {SPACE}", "simpo: beta=log(0.1, 30)"], trials=4, set=["prompts.n=64"])
    file = str(tmp_path / "pocket" / "search" / "dpo-simpo.yaml")
    changes = "benchmarks=[mt_bench, gsm8k], methods.dpo.beta=0.1 and 1 more change"
    # the table has the recipe's own 512 prompts again, and says so
    searched = f"Options searched: 4 trials each on dev, 2 seeds, random, with {changes}"
    line = f"{searched}, with OTHER settings: prompts.n (64, here 512)."
    assert notes(file) == line and notes(file, "prompts.n=64") == f"{searched}."
    assert load_recipe(file, (), REGISTRY).name == "pocket-searched"
    # through the store and back: a recipe is written out with its searches
    tree = load_recipe(file, (), REGISTRY).to_tree()
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    assert notes(str(tmp_path / "again.yaml")) == line
    # other budgets, none, and other values than those that were found
    changed = notes(file, "methods.simpo.searched.trials=8")
    assert "DIFFERENT BUDGETS: 4 trials each on dev, 2 seeds" in changed and "8 trials each" in changed
    plain = "methods.plain={method: pro}"
    assert "not searched (plain)" in notes(file, plain, rows=("dpo", "simpo", "plain"))
    assert "16 trials each on dev, 2 seeds, tpe (pro)" in notes(file, rows=("dpo", "simpo", "pro"))  # the recipe's own
    moved = notes(file, "methods.simpo.beta=3")
    assert "not searched (simpo)" in moved and "Not with the searched values: simpo." in moved
    assert notes("pocket") == "Options searched: 16 trials each on dev, 2 seeds, tpe."
    every = (*load_recipe("pocket", (), REGISTRY).methods,)
    assert notes("pocket", rows=every) == notes("pocket")
    # prompts, training or sampling that the search did not have
    assert notes(file, "prompts.n=32").endswith("with OTHER settings: prompts.n (64, here 32).")
    text = notes("pocket", "prompts.n=64", "methods.dpo.train.epochs=3", "sampling.temperature=0.8")
    assert "prompts.n (512, here 64), sampling.temperature (1.0, here the default) (simpo)" in text
    assert "sampling.temperature (1.0, here the default), 1 more (dpo)" in text and "BUDGETS" not in text
    assert "train.epochs (the default, here 3) (dpo)" in notes("pocket", "methods.dpo.train.epochs=3")


def test_a_plan_of_a_searched_recipe_trains_what_the_search_trained(tmp_path: Path, runner: Runner) -> None:
    finished = run(tmp_path, trials=4)
    file = str(tmp_path / "pocket" / "search" / "dpo.yaml")
    best = best_of(finished)
    work = finished.search.work([best])
    key = plan("table1", file, methods=["dpo"], seeds=[0], runs=tmp_path).first.planner.student("dpo", 0).key
    assert key == work.first.planner.student(best.name, 0).key
    assert not [stage for stage in pending_stages(work.first, work.store) if stage.kind == "score"]


def test_a_row_of_the_command_line_is_in_the_recipe_whole(tmp_path: Path, runner: Runner) -> None:
    """Its method and its other options stand nowhere else."""
    changes = ["methods.mine={method: dpo, beta: 0.3}", "methods.mine.train.epochs=2"]
    finished = run(tmp_path, "mine", trials=4, set=changes)
    file = str(tmp_path / "pocket" / "search" / "mine.yaml")
    key = plan("table1", file, methods=["mine"], seeds=[0], runs=tmp_path).first.planner.student("mine", 0).key
    best = best_of(finished)
    assert key == finished.search.work([best]).first.planner.student(best.name, 0).key


def test_what_the_recipe_says_for_searches_is_in_the_recipe_it_writes(tmp_path: Path, runner: Runner) -> None:
    """``targets.search`` changes the row and the training: the row carries the first, and names the second."""
    mine = tmp_path / "mine.yaml"
    section = "targets: {search: {methods: {simpo: {gamma_beta_ratio: 0.3}}, train: {epochs: 2}}}"
    mine.write_text(f"extends: pocket\n{section}\n", encoding="utf-8")
    run(tmp_path, "simpo", recipe=str(mine), trials=4)
    (file,) = tmp_path.glob("*/search/simpo.yaml")
    tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert tree["extends"] == "../../mine.yaml" and load_recipe(str(file), (), REGISTRY).name == "mine-searched"
    row = tree["methods"]["simpo"]
    assert row["gamma_beta_ratio"] == 0.3
    assert row["searched"]["set"][-1] == 'targets.search.train={"epochs": 2}'


def test_changes_from_python_are_written_as_set_takes_them(tmp_path: Path) -> None:
    changes = {"methods.mine": {"method": "pad-ppd", "student_beta": None}, "train.learning_rate": 1e-5}
    written = command_of(plan_search(["mine"], runs=tmp_path, space=["alpha=uniform(0, 1)"], trials=2, set=changes))
    words = shlex.split(written)
    texts = [words[place + 1] for place, word in enumerate(words) if word == "--set"]
    assert read_overrides(texts) == read_overrides(list(changes.items()))


def test_the_commands_of_a_search_with_a_plugin_name_it(tmp_path: Path) -> None:
    plugin = tmp_path / "my_method.py"
    plugin.write_text(
        "from dataclasses import replace\nfrom methods.dpo import METHOD as DPO\nMETHOD = replace(DPO, name='own')\n",
        encoding="utf-8",
    )
    searching = plan_search(["own"], runs=tmp_path, space=[SPACE], trials=2, plugins=[str(plugin)])
    finished = FinishedSearch(searching, (), RunOutcome(0, 0))
    for line in (command_of(searching), finished.next_command):
        words = shlex.split(line)
        assert words[words.index("--plugin") + 1] == str(plugin)


def test_one_space_for_all_rows_and_one_of_its_own(tmp_path: Path) -> None:
    for texts in (["beta=log(1, 2)", "dpo: beta=log(3, 4)"], ["dpo: beta=log(3, 4)", "beta=log(1, 2)"]):
        spaces = plan_search(["dpo", "simpo"], runs=tmp_path, space=texts, trials=2).spaces
        assert [str(spaces[row]["beta"]) for row in ("dpo", "simpo")] == ["log(3, 4)", "log(1, 2)"]


def test_few_choices_are_fewer_settings_than_trials(tmp_path: Path, runner: Runner) -> None:
    """Two values of beta: eight trials train two students a seed."""
    line = "Only 2 different settings: some were drawn again, and trained once."
    assert line in printed(run(tmp_path, trials=8, space=["beta={0.1, 1}"]))
    assert line not in printed(run(tmp_path, trials=2, space=["beta={0.1, 1}"]))


def test_rows_of_one_method_are_no_search(tmp_path: Path) -> None:
    rows = ["methods.dpo.searched=null", "methods.simpo.searched=null", "methods.dpo-sharp={method: dpo, beta: 1.0}"]
    text = notes("pocket", *rows, rows=("dpo", "dpo-sharp", "simpo"))
    assert text == (
        "Several rows are DPO with other options: who chooses among them by these columns chooses on test questions."
    )
    assert notes("pocket", *rows, rows=("dpo", "simpo")) == ""


# In full


@pytest.mark.slow
def test_a_search_that_is_killed_and_finished(tmp_path: Path) -> None:
    """Real stages: killed as soon as a training is in the store, then finished, then found finished."""
    words = [
        "search",
        "dpo",
        "--trials",
        "2",
        "--seeds",
        "0",
        *settings(*(text for text in SMALL if "seeds" not in text)),
    ]
    with subprocess.Popen(
        command(*words), cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        deadline = time.monotonic() + 200
        while not list((tmp_path / "runs" / "store").glob("train/*")) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    done = distilbench(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2 trials x 1 seed (0) on dev, random" in done.stdout and "0 unscored" in done.stdout
    assert (tmp_path / "runs" / "pocket" / "search" / "search-dpo.png").stat().st_size > 10_000
    again = distilbench(*words, cwd=tmp_path)
    assert again.stdout == done.stdout and " 0 ran now" in again.stderr
    table = distilbench(
        "reproduce", "table1", "--recipe", "runs/pocket/search/dpo.yaml", "--methods", "dpo", "--seeds", "0",
        *settings(*SMALL), cwd=tmp_path,
    )  # fmt: skip
    assert table.returncode == 0, table.stderr
    assert "Options searched: 2 trials each on dev, 1 seed" in " ".join(table.stdout.split())
    record = read_run(tmp_path / "runs" / "pocket-searched" / "table1" / "run.json")
    assert record.choices[0].startswith("Options searched")
