"""Progress: quiet where there is no terminal, bars where there is, and complete either way."""

from __future__ import annotations

import io

from rich.console import Console

from distilbench.cli.screen import QUIET, Display, duration, rate_text


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def shown(terminal: bool) -> tuple[Display, io.StringIO, Clock]:
    stream, clock = io.StringIO(), Clock()
    console = Console(file=stream, force_terminal=terminal, width=120, color_system=None)
    return Display(console, clock=clock), stream, clock


def test_without_a_terminal_there_is_at_most_one_line_every_ten_seconds() -> None:
    display, stream, clock = shown(terminal=False)
    with display:
        display.on_plan(total=102, cached=1)
        for stage in range(100):
            clock.now += 1
            display.on_start(f"train dpo seed {stage}")
            display.on_progress(f"train dpo seed {stage}", 1, 2, "loss 0.5")
            display.on_finish(f"train dpo seed {stage}", 1.0)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "[1/102] 102 stages, 1 of them done already"
    assert 9 <= len(lines) - 1 <= 100 / QUIET
    assert "train dpo seed" in lines[1] and "(1.0 s)" in lines[1]
    assert "\x1b" not in stream.getvalue()


def test_the_last_stage_and_every_failure_are_always_told() -> None:
    display, stream, _ = shown(terminal=False)
    with display:
        display.on_plan(total=2, cached=0)
        display.on_failure("train kd", "it [broke]")
        display.on_finish("train dpo", 61.0)
    assert stream.getvalue().splitlines()[1:] == ["failed: train kd: it [broke]", "[2/2] train dpo (1 min 1 s)"]


def test_a_line_says_how_long_it_will_take_and_what_it_has_cost() -> None:
    """One of four stages was there, one took 30 s: two more take about a minute."""
    stream, clock, dollars = io.StringIO(), Clock(), [0.0]
    display = Display(Console(file=stream, width=120), clock=clock, spent=lambda: dollars[0])
    with display:
        display.on_plan(total=4, cached=1, kinds={"judge": 3})
        clock.now, dollars[0] = 30.0, 1.5
        display.on_finish("judge gsm8k", 30.0)
    assert stream.getvalue().splitlines()[1] == "[2/4] judge gsm8k (30.0 s); about 1 min 0 s left, judging $1.50 so far"


def test_there_is_no_estimate_of_what_was_never_measured() -> None:
    """Ten trainings, ten answers and a score: 1 s of prompts says nothing of them; one training of 20 s in 21 s leaves
    at least nine more; with an answer of 2 s after that, about 9 * 20 + 9 * 2 s, the score being one of 19."""
    display, stream, clock = shown(terminal=False)
    with display:
        display.on_plan(total=22, cached=0, kinds={"prompts": 1, "train": 10, "answer": 10, "score": 1})
        for seconds, label in ((1.0, "prompts"), (20.0, "train dpo seed 0"), (2.0, "answer gsm8k dpo seed 0")):
            clock.now += max(seconds, 20.0)
            display.on_finish(label, seconds)
    lines = stream.getvalue().splitlines()
    assert lines[1] == "[1/22] prompts (1.0 s)"
    assert lines[2] == "[2/22] train dpo seed 0 (20.0 s); at least 3 min 0 s left"
    assert lines[3] == "[3/22] answer gsm8k dpo seed 0 (2.0 s); about 3 min 18 s left"


def test_the_next_round_of_a_search_goes_on_as_fast_as_the_one_before_and_not_faster() -> None:
    """Four trainings of 100 s in 400 s, one at a time; of the next four, three are left: 300 s."""
    display, stream, clock = shown(terminal=False)
    with display:
        for _ in range(2):
            display.on_plan(total=4, cached=0, kinds={"train": 4})
            for number in range(4):
                clock.now += 100.0
                display.on_finish(f"train dpo-trial-{number}", 100.0)
    ends = [line.partition("; ")[2] for line in stream.getvalue().splitlines() if line.startswith("[1/4] ")]
    assert ends == ["about 5 min 0 s left"] * 2


def test_rates_read_as_people_say_them() -> None:
    assert [rate_text(*pair) for pair in ((120, 10.0), (7, 120.0), (0, 5.0), (3, 0.0))] == ["12/s", "3.5/min", "", ""]


def test_a_finished_run_says_nothing() -> None:
    display, stream, _ = shown(terminal=False)
    with display:
        display.on_plan(total=5, cached=5)
    assert stream.getvalue() == ""


def test_on_a_terminal_stages_have_bars_with_items_and_info() -> None:
    display, stream, _ = shown(terminal=True)
    with display:
        display.on_plan(total=3, cached=1)
        display.on_start("answer [gsm8k]")
        display.on_progress("answer [gsm8k]", 5, 10, "tokens 12")
        display._progress.refresh()
    text = stream.getvalue()
    assert "stages" in text and "1/3" in text
    assert "answer [gsm8k]" in text and "5/10" in text and "tokens 12" in text


def test_durations_read_as_people_say_them() -> None:
    assert [duration(value) for value in (0.44, 125, 11400)] == ["0.4 s", "2 min 5 s", "3 h 10 min"]


def test_the_last_score_stays_in_view() -> None:
    """Of the last row of the benchmark that was scored last, while other benchmarks are still judged."""
    display, stream, clock = shown(terminal=False)
    with display:
        display.on_plan(total=3, cached=0, kinds={"score": 3})
        display.on_progress("score gsm8k", 1, 2, "student/0: gsm8k.acc 31.00")
        display.on_progress("score gsm8k", 2, 2, "dpo/0: gsm8k.acc 33.50")
        clock.now = 20.0
        display.on_finish("score gsm8k", 20.0)
    line = stream.getvalue().splitlines()[1]
    assert line == "[1/3] score gsm8k (20.0 s); about 40.0 s left, last score: dpo/0: gsm8k.acc 33.50"
