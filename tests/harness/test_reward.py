"""The multiple-choice reward (PAD Eq. 8): shifts, de-biasing and counts, with arithmetic shown."""

import json
import math
import random
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.contracts.method import DroppedPrompt
from harness.contracts.model import TooLong
from harness.contracts.stage import Stage
from harness.errors import UserError
from harness.models.fake import FakeModel
from harness.multiple_choice import mcq_messages
from harness.records import write_records
from harness.stages.kinds import reward
from harness.types import Group, Messages, Prompt, Response
from methods import ranking

MESSAGES = ({"role": "user", "content": "Name a fruit."},)


def group(*texts: str, name: str = "p") -> Group:
    return Group(Prompt(name, MESSAGES), samples=tuple(Response(text, True, 1) for text in texts))


class Letters(FakeModel):
    """Prefers answers by stated quality (log-odds), plus a bias for the first letter, plus mass outside the letters."""

    def __init__(self, quality: dict[str, float], first: float, outside: float = 0.0) -> None:
        super().__init__()
        self.quality, self.first, self.outside = quality, first, outside

    def choice_logps(self, conversations: list[Messages], choices: str) -> list[list[float]]:
        rows = []
        for messages in conversations:
            text = messages[-1]["content"]
            shown = [text.split(f"Answer {letter}:\n")[1].split("\n(Answer")[0] for letter in choices]
            scores = [self.quality[answer] + self.first * (place == 0) for place, answer in enumerate(shown)]
            norm = reward.logsumexp(scores) - math.log(1 - self.outside)
            rows.append([score - norm for score in scores])
        return rows


def test_cyclic_orders_put_each_response_at_each_letter_once() -> None:
    orders = reward.cyclic_orders(4, random.Random(3))
    for place in range(4):
        assert sorted(order[place] for order in orders) == [0, 1, 2, 3]


@pytest.mark.parametrize("mode", ["cyclic", "pairwise_both"])
def test_an_additive_position_bias_cancels_exactly(mode: str) -> None:
    """Qualities 0, 1, 2 with a bias of 1.5 for the first letter.

    cyclic: every response gets the bias once in three shifts, so log p_sel = softmax of the qualities up to the
    normalisers, which are common to all responses of a shift: the differences are exactly 1 and 2.
    pairwise_both: s_i = (1/3) sum_j (q_i - q_j) with the bias of the two orders cancelling: differences 1 and 2 too.
    """
    model = Letters({"x": 0.0, "y": 1.0, "z": 2.0}, first=1.5)
    (selection,), _ = reward.select(model, [group("x", "y", "z")], mode, 1000, seed=0)
    a, b, c = selection.log_psel
    assert b - a == pytest.approx(1.0)
    assert c - a == pytest.approx(2.0)
    assert sum(math.exp(value) for value in selection.log_psel) == pytest.approx(1.0)


def test_pairwise_once_keeps_the_bias_as_the_released_code_does() -> None:
    """Two equal responses, bias log(3) for the first: p(first wins) = 3/4, so log 0.75 and log 0.25."""
    model = Letters({"x": 0.0, "y": 0.0}, first=math.log(3))
    (selection,), _ = reward.select(model, [group("x", "y")], "pairwise_once", 1000, seed=0)
    assert selection.log_psel == pytest.approx((math.log(0.75), math.log(0.25)))


def test_coverage_is_the_mass_on_letters_and_truncation_is_counted() -> None:
    """Two words (the fake's tokens) are shown of four; a response that ends in the mark by itself is not cut."""
    model = Letters({"x [...]": 0.0, "long tail" + reward.TRUNCATED: 0.0}, first=0.0, outside=0.4)
    (selection,), truncated = reward.select(model, [group("x [...]", "long tail of text")], "cyclic", 2, seed=0)
    assert selection.coverage == pytest.approx(0.6)
    assert truncated == 1


def test_a_single_response_has_nothing_to_choose_from() -> None:
    (selection,), _ = reward.select(FakeModel(), [group("x")], "cyclic", 1000, seed=0)
    assert selection == reward.Selection((0.0,), 1.0)


@given(st.permutations(range(4)))
def test_relabelling_the_responses_permutes_the_selection(order: list[int]) -> None:
    """methods.md section 7: which slot a response is stored in must not matter (a bias-free teacher)."""
    texts = ["x", "y", "z", "w"]
    model = Letters({"x": 0.3, "y": -1.0, "z": 2.0, "w": 0.0}, first=0.7)
    (plain,), _ = reward.select(model, [group(*texts)], "cyclic", 1000, seed=0)
    (moved,), _ = reward.select(model, [group(*[texts[i] for i in order])], "cyclic", 1000, seed=0)
    assert moved.log_psel == pytest.approx([plain.log_psel[i] for i in order])


@given(st.lists(st.text(min_size=1, max_size=20), min_size=2, max_size=6))
def test_any_text_can_be_asked_about(texts: list[str]) -> None:
    """Braces, dollars, letters and newlines in responses are text."""
    content = mcq_messages(MESSAGES, texts)[0]["content"]
    assert all(text in content for text in texts)


def test_eq_8_as_printed_is_one_question_and_the_letters_own_probability() -> None:
    """Random letters, no second order, nothing renormalised: probabilities are those that the letters got."""
    model = Letters({"x": math.log(5), "y": math.log(2), "z": 0.0}, first=0.0, outside=0.2)
    groups = [group("x", "y", "z", name=f"p{number}") for number in range(20)]
    selections, _ = reward.select(model, groups, "once", 1000, seed=0)
    for selection in selections:
        assert [math.exp(value) for value in selection.log_psel] == pytest.approx([0.5, 0.2, 0.1])
        assert selection.coverage == pytest.approx(0.8)
    favoured = Letters({"x": 0.0, "y": 0.0, "z": 0.0}, first=1.0)
    selections, _ = reward.select(favoured, groups, "once", 1000, seed=0)
    assert {selection.log_psel.index(max(selection.log_psel)) for selection in selections} == {0, 1, 2}


def test_one_text_gets_one_reward_and_dpo_keeps_its_prompt(tmp_path: Path) -> None:
    """The first letter is favoured and the question asked once: equal responses can stand first and last."""
    model = Letters({"x": 0.0, "y": 0.0}, first=2.0)
    groups = [group("x", "y", "x", name=f"p{number}") for number in range(12)]
    counts, records = rewarded(model, groups, tmp_path, mcq="once", identical="mean")
    _, apart = rewarded(model, groups, tmp_path, mcq="once")
    assert counts["identical"] == 12
    for record, other in zip(records, apart, strict=True):
        first, second, third = (sample["log_psel"] for sample in record["samples"])
        before = [sample["log_psel"] for sample in other["samples"]]
        assert first == third == pytest.approx((before[0] + before[2]) / 2) and second == before[1]
        samples = tuple(
            Response("xyx"[place], True, 1, log_psel=value) for place, value in enumerate((first, second, third))
        )
        rows = ranking.pair(Group(groups[0].prompt, samples))
        assert not isinstance(rows, DroppedPrompt) and {row.text for row in rows} == {"x", "y"}


def test_groups_of_different_sizes_keep_their_places() -> None:
    model = Letters({"x": 0.0, "y": 1.0, "z": 2.0}, first=0.0)
    groups = [group("x", "y", "z", name="a"), group("z", "x", name="b")]
    selections, _ = reward.select(model, groups, "cyclic", 1000, seed=0)
    assert [len(selection.log_psel) for selection in selections] == [3, 2]
    assert selections[1].log_psel[0] - selections[1].log_psel[1] == pytest.approx(2.0)


def test_the_shuffled_control_deals_the_same_rewards_to_other_responses() -> None:
    samples = tuple(Response(text, True, 1, mean_logp=-float(i), log_psel=-10.0 * i) for i, text in enumerate("abcd"))
    groups = [Group(Prompt(f"p{number}", MESSAGES), samples=samples) for number in range(50)]
    dealt = [reward.shuffle_rewards(group, seed=1) for group in groups]
    for group in dealt:
        assert [response.text for response in group.samples] == list("abcd")
        assert sorted(response.log_psel or 0.0 for response in group.samples) == [-30.0, -20.0, -10.0, 0.0]
        assert all(response.log_psel == 10.0 * (response.mean_logp or 0.0) for response in group.samples)
    unmoved = sum(group.samples[0].log_psel == 0.0 for group in dealt)
    assert 3 <= unmoved <= 25  # a quarter of 50 stays in place on average
    assert dealt == [reward.shuffle_rewards(group, seed=1) for group in groups]


def rewarded(model: FakeModel, groups: list[Group], folder: Path, **changes: Any) -> tuple[dict[str, Any], Any]:
    """The stage with this teacher: its counts, and the records it wrote."""
    params = {"mcq": "cyclic", "floor": 1e-4, "max_response_tokens": 9, "identical": "apart"}
    params |= {"shuffle": False, "seed": 0} | changes
    write = lambda kind, records: write_records(folder / "groups.jsonl", records)  # noqa: E731
    work: Any = SimpleNamespace(write=write, model=lambda *args: model, records=lambda *args: groups)
    counts = reward.run(Stage("reward", params), work)
    return dict(counts), [json.loads(line) for line in (folder / "groups.jsonl").read_text().splitlines()]


def test_small_selection_probabilities_are_raised_to_the_floor_and_counted(tmp_path: Path) -> None:
    """Shares 0.9, 0.06 and 0.04 with a floor of 0.05: the last alone becomes 0.05; nothing is renormalised."""
    model = Letters({"x": math.log(0.9), "y": math.log(0.06), "z": math.log(0.04)}, first=0.0)
    counts, (record,) = rewarded(model, [group("x", "y", "z")], tmp_path, floor=0.05)
    shares = [math.exp(sample["log_psel"]) for sample in record["samples"]]
    assert shares == pytest.approx([0.9, 0.06, 0.05])
    assert (counts["floored"], counts["responses"], counts["mean_coverage"]) == (1, 3, pytest.approx(1.0))


@pytest.mark.parametrize("n", [27, 40])
def test_more_responses_than_letters_are_refused(n: int) -> None:
    with pytest.raises(UserError, match=f"needs 2 to 26 responses, one for each letter, got {n}"):
        reward.select(FakeModel(), [group(*(f"answer {i}" for i in range(n)))], "cyclic", 9, seed=0)
    two_at_a_time, _ = reward.select(FakeModel(), [group(*(f"answer {i}" for i in range(n)))], "pairwise_once", 9, 0)
    assert len(two_at_a_time[0].log_psel) == n


class Short(FakeModel):
    """Reads no text with the word "long" in it."""

    def mean_logps(self, conversations: list[Messages], responses: list[Response]) -> list[float]:
        self.refuse([response.text for response in responses])
        return super().mean_logps(conversations, responses)

    def choice_logps(self, conversations: list[Messages], choices: str) -> list[list[float]]:
        self.refuse([messages[-1]["content"] for messages in conversations])
        return super().choice_logps(conversations, choices)

    def refuse(self, texts: list[str]) -> None:
        places = [place for place, text in enumerate(texts) if "long" in text]
        if places:
            raise TooLong("they have up to 99 tokens, fake reads 9", places)


def test_prompts_beyond_the_teachers_context_are_left_out_and_named(tmp_path: Path) -> None:
    """One for a response, one for its multiple-choice question; the third is rewarded as it would be alone."""
    unfinished = Response("", finished=False, tokens=0)  # has no log-probability, so it shifts the places
    plain = Group(Prompt("plain", MESSAGES), (unfinished, Response("x", True, 1)))
    request = Prompt("c", ({"role": "user", "content": "a long request"},))
    answers = Group(request, (Response("x", True, 1), Response("y", True, 1)))
    groups = [plain, group("y", "long", name="b"), answers]
    counts, records = rewarded(Short(), groups, tmp_path)
    assert re.search(
        r"prompts with a response: .* reads 9\. Of prompts b\. Lower reward\.max_", counts["too_long"]["b"]
    )
    assert re.search(r"multiple-choice questions: .* Of prompts c\. ", counts["too_long"]["c"])
    assert [record.get("samples", []) for record in records[1:]] == [[], []] and counts["groups"] == 1
    (tmp_path / "alone").mkdir()
    assert rewarded(Short(), [plain], tmp_path / "alone")[1] == records[:1]
    with pytest.raises(UserError, match=r"no prompt can be read\. reward, multiple-choice questions: .* prompts c\. "):
        rewarded(Short(), [answers], tmp_path)
