"""The seven premises of pocket: their arithmetic by hand, and the command on a small run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from distilbench import premises
from distilbench.cli.app import app
from distilbench.workflows.plan import plan
from harness.errors import UserError
from harness.types import Group, Prompt, Response

TRUTH = np.array([[0.1, 0.2, 0.3, 0.9]] * 40)
RIGHT = np.array([[-4.0, -3.0, -2.0, -1.0]] * 40)
SWAPPED = np.array([[-4.0, -2.0, -3.0, -1.0]] * 40)  # one neighbouring pair the wrong way round
REVERSED = -RIGHT
BLIND = np.zeros((40, 4))


def test_rank_correlations_are_spearmans() -> None:
    """1 - 6 * (1 + 1) / (4 * 15) = 0.8 for one swapped pair of four; a signal that says nothing counts as 0."""
    for signal, expected in ((RIGHT, 1.0), (SWAPPED, 0.8), (REVERSED, -1.0), (BLIND, 0.0)):
        assert premises.rank_correlations(signal, TRUTH) == pytest.approx([expected] * 40)


def test_ties_share_their_rank() -> None:
    """Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: 4.5 / sqrt(4.5 * 5) = 0.9487."""
    tied = np.array([[0.1, 0.2, 0.2, 0.9]])
    assert premises.rank_correlations(tied, np.array([[1.0, 2.0, 3.0, 4.0]])) == pytest.approx([0.948683])


def test_regret_is_what_the_preferred_response_lacks() -> None:
    for signal, expected in ((RIGHT, 0.0), (SWAPPED, 0.0), (REVERSED, 0.8)):
        assert premises.regrets(signal, TRUTH) == pytest.approx([expected] * 40)


def test_the_question_must_rank_better_and_choose_better() -> None:
    assert premises.judging(TRUTH, RIGHT, REVERSED).holds
    assert not premises.judging(TRUTH, REVERSED, RIGHT).holds
    ranks_only = premises.judging(TRUTH, RIGHT, SWAPPED)  # both choose the best response
    assert not ranks_only.holds and ranks_only.numbers["regret, question"].value == 0.0  # type: ignore[union-attr]


def test_groups_of_equal_responses_do_not_count_for_judging() -> None:
    truth = np.vstack([TRUTH, np.full((40, 4), 0.5)])
    found = premises.judging(truth, np.vstack([RIGHT, RIGHT]), np.vstack([REVERSED, REVERSED]))
    assert found.numbers["regret, at random"].value == pytest.approx(0.9 - 0.375)  # type: ignore[union-attr]


def test_the_seeds_of_a_prompt_are_no_further_prompts() -> None:
    """40 prompts of three equal seeds say as much as 40 of one, so the interval is the same and not 1 / sqrt(3)."""
    values, prompts = np.random.default_rng(0).random(40), [f"p{number:02d}" for number in range(40)]
    once, thrice = premises.estimate(values, prompts), premises.estimate(np.tile(values, 3), 3 * prompts)
    assert (once.value, once.low, once.high) == pytest.approx((thrice.value, thrice.low, thrice.high))
    assert once == premises.estimate(values)


@pytest.mark.parametrize(("factor", "holds"), [(9.0, False), (11.0, True), (49.0, True), (51.0, False)])
def test_spreads_are_compared_within_groups(factor: float, holds: bool) -> None:
    found = premises.spreads(factor * RIGHT + 100 * np.arange(40)[:, None], RIGHT)
    assert found.numbers["ratio"] == pytest.approx(factor) and found.holds is holds


def test_room_and_ceiling() -> None:
    """Mean 0.375, best 0.9, so 0.525 of room; who takes the third finds (0.3 - 0.375) / 0.525 of it; one pair of six
    is the wrong way round."""
    assert premises.room(TRUTH).numbers["gain"].value == pytest.approx(0.525)  # type: ignore[union-attr]
    third = np.array([[-4.0, -3.0, -1.0, -2.0]] * 40)
    found = premises.ceiling(TRUTH, third).numbers
    assert found["share of the room that it finds"] == pytest.approx(-1 / 7)
    assert found["pairs that it orders rightly"] == pytest.approx(5 / 6)
    assert premises.ceiling(TRUTH, RIGHT).numbers["share of the room that it finds"] == pytest.approx(1.0)


def test_a_response_without_a_reward_is_refused() -> None:
    group = Group(
        Prompt("p", ({"role": "user", "content": "q"},)), samples=(Response("a", True, 1), Response("b", True, 1))
    )
    assert not premises.is_measurable(group)
    with pytest.raises(UserError, match="a reward for every response"):
        premises.matrix([group], lambda one, place: one.samples[place].log_psel)
    with pytest.raises(UserError, match="a reward for every response"):
        premises.matrix([], lambda one, place: 0.0)


@pytest.mark.parametrize(
    ("recipe", "change", "message"),
    [
        (
            "gemma2",
            "seeds=[0]",
            "premises are pocket's; recipe 'gemma2' has prompts from ultrafeedback",
        ),
        ("pocket", "benchmarks=[gsm8k]", r"premises need benchmarks\.alpaca_eval"),
        (
            "pocket",
            "benchmarks.alpaca_eval={questions: own, path: OWN}",
            "of alpaca_eval, line-1 is not an instruction",
        ),
        ("pocket", "methods=[dpo]", r"premises need methods\.kd, methods\.pad-ppd"),
    ],
)
def test_what_is_not_pocket_is_refused_before_anything_runs(
    tmp_path: Path, recipe: str, change: str, message: str
) -> None:
    own = tmp_path / "own.jsonl"
    own.write_text(json.dumps({"prompt": "Who are you?", "golden": "a model"}) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=message):
        premises.premises(recipe, runs=tmp_path, set=[change.replace("OWN", str(own))])


def test_only_the_untrained_students_samples_are_measured(tmp_path: Path) -> None:
    """Of two rounds the second samples from a trained student."""
    changes = ["methods=[kd, dpo, pad-ppd]", "methods.dpo.rounds=2"]
    work = plan("table1", "pocket", methods=["dpo"], seeds=[0], runs=tmp_path, set=changes).first
    rewards = [stage for stage in work.stages if stage.kind == "reward"]
    assert len(rewards) == 2 and [stage.key for stage in premises.first_rewards(work)] == [rewards[0].key]


@pytest.mark.slow
def test_the_command_measures_all_seven_and_runs_nothing_twice(tmp_path: Path) -> None:
    options = ["--seeds", "0", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "premises.json")]
    options += ["--set", "prompts.n=64", "--set", "compute.workers=1"]
    for name in ("alpaca_eval", "arena_hard", "mt_bench", "gsm8k"):
        options += ["--set", f"benchmarks.{name}.limit=40"]
    first = CliRunner().invoke(app, ["pocket", "premises", *options])
    assert first.exit_code == 0, first.output
    rows = json.loads((tmp_path / "premises.json").read_text(encoding="utf-8"))
    assert [row["name"] for row in rows] == ["P1", "P2", "P3", "P4", "P5", "P6", "P7"]
    # a record of its own: that of a finished Table 1 stays as it is
    assert sorted(folder.name for folder in (tmp_path / "runs").glob("*/")) == ["pocket-premises", "store"]
    again = CliRunner().invoke(app, ["pocket", "premises", *options])
    assert again.stdout == first.stdout and "train" not in again.stderr
