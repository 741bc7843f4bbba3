"""How students come to be, as the plan has it: rounds, pools, rows that start from others, the tuned teacher."""

from __future__ import annotations

from pathlib import Path

import pytest

from distilbench.plugins import load_registry
from distilbench.workflows.execute import notes, title_of
from harness.contracts.stage import Stage
from harness.errors import UserError
from harness.plan.plan import Plan
from harness.recipe.recipe import load_recipe
from tests.harness.test_plan import checkpoint, plan

ROUNDS = "methods.pad-ppd-2x4={like: pad-ppd, rounds: 2, sampling: {n: 4}}"


@pytest.fixture
def family(tmp_path: Path) -> list[str]:
    teacher, student = checkpoint(tmp_path / "teacher", ("a", "b")), checkpoint(tmp_path / "student", ("a", "b"))
    return [f"family.teacher={teacher}", f"family.student={student}", "seeds=[0]"]


def training_stages(work: Plan) -> dict[str, Stage]:
    """By label."""
    return {stage.label: stage for stage in work.stages if stage.kind not in ("answer", "judge", "score")}


def read(work: Plan, stage: Stage) -> dict[str, str]:
    """Role to the label of what fills it."""
    labels = {stage.key: stage.label for stage in work.stages}
    return {role: labels[ref.key] for role, ref in stage.inputs.items()}


def test_each_round_samples_from_the_student_of_the_last(family: list[str]) -> None:
    work = plan(*family, ROUNDS, rows=("pad-ppd-2x4",))
    stages = training_stages(work)
    second = stages["train pad-ppd-2x4 round 2 seed 0"]
    assert read(work, second)["student"] == "train pad-ppd-2x4 round 1 seed 0"
    rewarded = stages[read(work, second)["samples"]]
    drawn = stages[read(work, rewarded)["samples"]]
    assert read(work, drawn)["model"] == "train pad-ppd-2x4 round 1 seed 0"
    first = stages["sample student seed 0"]
    assert (first.params["n"], drawn.params["n"]) == (4, 4)
    assert first.params["seed"] != drawn.params["seed"] and "model" not in drawn.params
    assert "student" not in second.params  # what it starts from is an input, not a checkpoint of the recipe
    assert second.params["seed"] != stages["train pad-ppd-2x4 round 1 seed 0"].params["seed"]


def test_rounds_in_common_are_shared(family: list[str]) -> None:
    """The first round of 2/4 is the row 1/4, and the first two of 3/4 are 2/4: one more of each stage per round."""
    third = "methods.pad-ppd-3x4={like: pad-ppd, rounds: 3}"
    counts = []
    for rows in (("pad-ppd",), ("pad-ppd", "pad-ppd-2x4"), ("pad-ppd", "pad-ppd-2x4", "pad-ppd-3x4")):
        stages = plan(*family, ROUNDS, third, rows=rows).stages
        counts.append([sum(stage.kind == kind for stage in stages) for kind in ("sample", "reward", "train")])
    assert counts == [[1, 1, 1], [2, 2, 2], [3, 3, 3]]


@pytest.mark.parametrize("name", ["pad-vpd", "pad-ppd", "dpo", "simpo", "pro"])
def test_all_preference_methods_have_rounds(family: list[str], name: str) -> None:
    work = plan(*family, f"methods.row={{method: {name}, rounds: 3, sampling: {{n: 2}}}}", rows=("row",))
    trained = [stage for stage in work.stages if stage.kind == "train"]
    assert [stage.label for stage in trained] == [f"train row round {number} seed 0" for number in (1, 2, 3)]
    references = [read(work, stage).get("student") for stage in work.stages if stage.kind == "reference_logps"]
    expected = [None, "train row round 1 seed 0", "train row round 2 seed 0"]
    assert references == (expected if name == "dpo" else [])  # of each round: the student that the round starts from


def test_without_resampling_the_rounds_share_one_pool(family: list[str]) -> None:
    row = "methods.row={like: pad-ppd, rounds: 2, resample: false, sampling: {n: 3}}"
    work = plan(*family, row, rows=("row",))
    (pool,) = [stage for stage in work.stages if stage.kind == "sample"]
    blocks = [stage for stage in work.stages if stage.kind == "split_pool"]
    assert pool.params["n"] == 6 and "model" in pool.params
    assert [(stage.params["block"], stage.params["blocks"]) for stage in blocks] == [(0, 2), (1, 2)]
    assert len({stage.params["seed"] for stage in blocks}) == 1
    assert all(read(work, stage)["samples"] == pool.label for stage in blocks)
    rewards = [read(work, stage)["samples"] for stage in work.stages if stage.kind == "reward"]
    assert rewards == [stage.label for stage in blocks]
    last = training_stages(work)["train row round 2 seed 0"]
    assert read(work, last)["student"] == "train row round 1 seed 0"


def test_prices_follow_the_rows_own_sampling(family: list[str]) -> None:
    row = "methods.row={like: pad-ppd, sampling: {n: 2}}"
    small = ("prompts.n=10", "train.batch_size=2", "train.micro_batch=1")
    work = plan(*family, *small, row, rows=("pad-ppd", "row"))
    costs = {label: work.costs([stage])[0] for label, stage in training_stages(work).items()}
    assert costs["sample student n=2 seed 0"].responses == 20
    assert costs["sample student seed 0"].responses == 40
    assert 2 * costs["train row seed 0"].tokens == costs["train pad-ppd seed 0"].tokens


def test_adpa_plus_starts_from_dckd_and_samples_with_it(family: list[str]) -> None:
    work = plan(*family, "methods.adpa+={}", rows=("adpa+",))
    stages = training_stages(work)
    assert read(work, stages["train adpa+ seed 0"]) == {
        "prompts": "prompts",
        "samples": "sample dckd n=1 seed 0",
        "student": "train dckd seed 0",
        "distributions:tuned": "teacher_distributions adpa+ tuned teacher seed 0",
        "distributions:family": "teacher_distributions adpa+ family teacher seed 0",
    }
    drawn = stages["sample dckd n=1 seed 0"]
    assert (drawn.params["n"], drawn.params["temperature"]) == (1, 0.0)
    assert read(work, stages["teacher_distributions adpa+ family teacher seed 0"])["tokens"] == (
        "teacher_distributions adpa+ tuned teacher seed 0"
    )
    assert (
        read(work, stages["teacher_distributions adpa+ tuned teacher seed 0"])["teacher"]
        == "train tuned teacher seed 0"
    )
    assert "answer alpaca_eval dckd seed 0" not in {stage.label for stage in work.stages}  # not asked for as a row


def test_one_tuned_teacher_serves_all_rows_and_seeds(family: list[str]) -> None:
    work = plan(*family, "seeds=[0, 1]", *(f"methods.{name}={{}}" for name in ("dckd", "adpa", "adpa+")),
                rows=("dckd", "adpa", "adpa+"))  # fmt: skip
    labels = [stage.label for stage in work.stages]
    assert labels.count("train tuned teacher seed 0") == 1
    assert "train tuned teacher seed 1" not in labels
    assert "tuned teacher: dpo on the prompts' chosen and rejected answers" in notes(work)
    tuned = training_stages(work)["train tuned teacher seed 0"]
    assert tuned.params["config"]["beta"] == 0.1  # pocket's own
    assert (tuned.params["options"]["learning_rate"], tuned.params["options"]["epochs"]) == (3e-5, 1)
    teacher, student = (work.graph.models[name].fingerprint for name in ("teacher", "student"))
    assert tuned.params["student"] == teacher != student  # the model that is trained
    assert training_stages(work)["reference_logps tuned teacher seed 0"].params["student"] == teacher


def test_pairs_come_from_the_prompts_or_from_the_teacher(family: list[str], tmp_path: Path) -> None:
    work = plan(*family, "methods.adpa={}", rows=("adpa",))
    assert read(work, training_stages(work)["train tuned teacher seed 0"])["samples"] == "dataset_pairs"
    work = plan(*family, "methods.adpa={}", "tuned_teacher.pairs=samples", rows=("adpa",))
    assert read(work, training_stages(work)["train tuned teacher seed 0"])["samples"] == "reward teacher seed 0"
    assert training_stages(work)["sample teacher seed 0"].params["field"] == "samples"
    assert training_stages(work)["sample teacher seed 0"].params["n"] == 4
    file = tmp_path / "prompts.jsonl"
    for line, expected in (
        ('{"prompt": "a", "golden": "b", "rejected": "c"}', "dataset_pairs"),
        ('{"prompt": "a", "golden": "b"}', "reward teacher seed 0"),
    ):
        file.write_text(f"{line}\n", encoding="utf-8")
        jsonl = f"prompts={{source: jsonl, path: {file}, n: 1}}"
        work = plan(*family, "methods.adpa={}", jsonl, rows=("adpa",))
        assert read(work, training_stages(work)["train tuned teacher seed 0"])["samples"] == expected
    with pytest.raises(UserError, match=r"tuned_teacher\.pairs=samples"):
        plan(*family, "methods.adpa={}", jsonl, "tuned_teacher.pairs=dataset", rows=("adpa",))


def test_another_method_may_tune_the_teacher(family: list[str]) -> None:
    work = plan(*family, "methods.adpa={}", "tuned_teacher={method: simpo, gamma_beta_ratio: 0.3}", rows=("adpa",))
    tuned = training_stages(work)["train tuned teacher seed 0"]
    assert tuned.params["config"] == {"beta": 10.0, "gamma_beta_ratio": 0.3}  # not the beta that pocket gives to DPO
    assert tuned.params["options"]["learning_rate"] == 5e-7
    assert "reference_logps tuned teacher seed 0" not in training_stages(work)


def test_rows_that_cannot_be_had_say_why(tmp_path: Path) -> None:
    teacher, student = checkpoint(tmp_path / "t", ("a", "b")), checkpoint(tmp_path / "s", ("b", "a"))
    rows = ("dckd", "adpa+", "pad-ppd")
    more = ["methods.dckd={}", "methods.adpa+={}", "seeds=[0]", f"family.student={student}"]
    work = plan(f"family.teacher={teacher}", *more, rows=rows)
    why = {entrant.row: entrant.unavailable for entrant in work.entrants}
    assert "needs a shared vocabulary" in str(why["dckd"]) and "needs a shared vocabulary" in str(why["adpa+"])
    assert why["pad-ppd"] is None
    assert not any(stage.kind == "teacher_distributions" for stage in work.stages)
    work = plan(f"family.teacher={student}", *more, "prompts.source=gsm8k-train", rows=rows)
    why = {entrant.row: entrant.unavailable for entrant in work.entrants}
    assert why["dckd"] == "needs rejected answers (prompts from 'gsm8k-train' have none)"
    assert str(why["adpa+"]).startswith("starts from dckd, which needs rejected answers")


def test_any_row_may_start_from_another(family: list[str]) -> None:
    work = plan(*family, "methods.row={method: dpo, start: seqkd}", rows=("row",))
    stages = training_stages(work)
    assert read(work, stages["train row seed 0"])["student"] == "train seqkd seed 0"
    assert read(work, stages["sample seqkd seed 0"])["model"] == "train seqkd seed 0"
    assert read(work, stages["reference_logps row seed 0"])["student"] == "train seqkd seed 0"


def test_kd_may_store_its_teacher_and_shares_the_store_between_seeds(family: list[str]) -> None:
    work = plan(*family, "seeds=[0, 1]", "methods.kd={top_k: 100, temperature: 2.0}", rows=("kd",))
    (store,) = [stage for stage in work.stages if stage.kind == "teacher_distributions"]
    assert (store.params["top_k"], store.params["temperature"]) == (100, 2.0)
    for stage in work.stages:
        if stage.kind == "train":
            assert stage.inputs["distributions:family"] == store.ref and "teacher" not in stage.params
    live = training_stages(plan(*family, rows=("kd",)))["train kd seed 0"]
    assert "teacher" in live.params and "teacher" in live.local["models"]


def test_titles_say_what_sets_a_row_apart() -> None:
    registry = load_registry()
    rows = ("strong={method: dpo, beta: 1}", "own={method: dpo, title: My DPO}", "adpa={}")
    pool = "methods.pool={like: pad-ppd, rounds: 2, resample: false, sampling: {n: 2}}"
    recipe = load_recipe("pocket", [ROUNDS, pool, *(f"methods.{row}" for row in rows)], registry)
    rows = ("pad-ppd", "pad-ppd-2x4", "pool", "strong", "own", "adpa")
    titles = [title_of(row, recipe, registry) for row in rows]
    assert titles == ["PAD w/ PPD", "PAD w/ PPD 2/4", "PAD w/ PPD 2/2, one pool", "DPO (strong)", "My DPO", "ADPA"]


def test_one_schedule_may_span_all_rounds(family: list[str]) -> None:
    """Each round then knows its place in the schedule, and is shared with no row of other rounds."""
    row = "methods.whole={like: pad-ppd, rounds: 2, train: {schedule_over: run}}"
    work = plan(*family, ROUNDS, row, rows=("pad-ppd", "pad-ppd-2x4", "whole"))
    trains = {stage.label: stage.params.get("schedule_segment") for stage in work.stages if stage.kind == "train"}
    assert trains == {
        "train pad-ppd seed 0": None,  # also the first round of 2/4
        "train pad-ppd-2x4 round 2 seed 0": None,
        "train whole round 1 seed 0": [0, 2],
        "train whole round 2 seed 0": [1, 2],
    }
    common = plan(*family, "train.schedule_over=run", rows=("pad-ppd",))
    assert common.stages == plan(*family, rows=("pad-ppd",)).stages  # one round: the same student


def test_a_schedule_over_rounds_needs_rounds_and_our_trainer(family: list[str]) -> None:
    with pytest.raises(UserError, match=r"methods\.dpo\.train\.schedule_over = 'run': has no effect without rounds"):
        plan(*family, "methods.dpo.train.schedule_over=run")
    with pytest.raises(UserError, match=r"schedule_over = 'run': is for our own trainer"):
        plan(*family, "methods.x={method: dpo, rounds: 2, train: {schedule_over: run, backend: trl}}")
