"""Schedules small enough to be played by hand."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pytest

from harness.errors import UserError
from harness.plan.simulation import Cluster, SimulatedStage, Timeline, play


def task(key: str, seconds: float, waits_for: Sequence[str] = (), **more: Any) -> SimulatedStage:
    return SimulatedStage(key, key, more.pop("kind", "train"), frozenset(waits_for), seconds, **more)


def spans(timeline: Timeline) -> dict[str, tuple[float, float]]:
    return {span.job.key: (round(span.start, 6), round(span.end, 6)) for span in timeline.spans}


def test_two_workers_take_tasks_in_the_order_of_the_plan() -> None:
    """b ends at 3, a at 2, so c (after a) runs from 2 to 3; d takes the next free worker; the score is last."""
    tasks = [task("a", 2), task("b", 3), task("c", 1, "a"), task("d", 2), task("z", 1, last=True)]
    timeline = play(tasks, Cluster(2))
    assert spans(timeline) == {"a": (0, 2), "b": (0, 3), "d": (2, 4), "c": (3, 4), "z": (4, 5)}
    assert timeline.seconds == 5
    assert timeline.busy == {"workers": pytest.approx(9 / 10)}
    assert [span.job.key for span in timeline.critical_path][-1] == "z"


def test_what_is_not_among_the_tasks_is_done() -> None:
    assert spans(play([task("a", 1, ["in the store"])], Cluster(1))) == {"a": (0, 1)}


def test_gpus_and_workers_are_apart() -> None:
    """Two GPUs for three trainings; the judge needs none and waits for its own worker alone."""
    tasks = [task(name, 4, gpus=1) for name in "abc"] + [task("j", 1), task("k", 1)]
    timeline = play(tasks, Cluster(1, gpus=2))
    assert spans(timeline) == {"a": (0, 4), "b": (0, 4), "c": (4, 8), "j": (0, 1), "k": (1, 2)}
    assert timeline.gpu_seconds == 12
    assert timeline.busy == {"GPUs": pytest.approx(12 / 16), "workers": pytest.approx(2 / 8)}
    assert timeline.bottleneck == "GPUs" and timeline.bound()["GPUs"] == pytest.approx(6)


def test_what_needs_several_gpus_waits_for_them_and_nothing_passes_it() -> None:
    tasks = [task("a", 3, gpus=1), task("b", 2, gpus=2), task("c", 1, gpus=1), task("j", 1)]
    assert spans(play(tasks, Cluster(1, gpus=2))) == {"a": (0, 3), "b": (3, 5), "c": (5, 6), "j": (0, 1)}


def test_memory_is_shared() -> None:
    tasks = [task("a", 2, memory_gib=6), task("b", 2, memory_gib=6), task("c", 1, memory_gib=2)]
    assert spans(play(tasks, Cluster(3, memory_gib=8))) == {"a": (0, 2), "b": (2, 4), "c": (2, 3)}
    alone = [task("a", 2, memory_gib=99), task("b", 2, memory_gib=1)]
    assert spans(play(alone, Cluster(2, memory_gib=8))) == {"a": (0, 2), "b": (2, 4)}, "more than there is runs alone"


def test_a_judge_is_shared_by_those_who_ask_it() -> None:
    """The endpoint needs 4 s for each: alone 4 s, because calls in flight would allow 1 s; together 8 s."""
    asking = {"judge": "gpt", "judge_seconds": 4.0}
    both = play([task("a", 1, **asking), task("b", 1, **asking)], Cluster(2))
    assert spans(both) == {"a": (0, 8), "b": (0, 8)}
    assert both.busy["judge gpt"] == pytest.approx(1.0) and both.bottleneck == "judge gpt"
    apart = play([task("a", 1, **asking), task("b", 1, judge="other", judge_seconds=4.0)], Cluster(2))
    assert apart.seconds == 4
    # and where the calls in flight are the limit, sharing costs nothing
    assert play([task("a", 9, **asking), task("b", 9, **asking)], Cluster(2)).seconds == 9


def test_a_server_is_started_once_for_tasks_in_a_row_on_its_gpu() -> None:
    served = {"gpus": 1, "server": "vllm teacher", "server_seconds": 60.0}
    tasks = [task("a", 10, **served), task("b", 10, **served), task("c", 10, gpus=1), task("d", 10, **served)]
    timeline = play(tasks, Cluster(1, gpus=1))
    assert spans(timeline) == {"a": (0, 70), "b": (70, 80), "c": (80, 90), "d": (90, 160)}, "c took the GPU"


def test_workers_start_once_and_slow_each_other_down() -> None:
    """5 s of imports for each worker; then at half speed while two run."""
    tasks = [task("a", 2), task("b", 4), task("c", 1, "a")]
    timeline = play(tasks, Cluster(2), worker_seconds=5, together=lambda count: 0.5 if count > 1 else 1.0)
    # from 5 on both at half speed: a until 9, c from 9 to 11, then b has 4 - 3 = 1 s left, alone
    assert spans(timeline) == {"a": (0, 9), "c": (9, 11), "b": (0, 12)}


def test_the_critical_path_is_what_ended_last_before_each_start() -> None:
    tasks = [task("a", 5, gpus=1), task("b", 1, gpus=1), task("c", 2, ["a", "b"], gpus=1), task("z", 1, last=True)]
    timeline = play(tasks, Cluster(1, gpus=4))
    assert [span.job.key for span in timeline.critical_path] == ["a", "c", "z"]
    assert timeline.bottleneck == "critical path" and timeline.bound()["critical path"] == 8
    wide = [*tasks, *(task(name, 3, gpus=1) for name in "defg")]
    assert play(wide, Cluster(1, gpus=1)).bottleneck == "GPUs"


def test_storage_counts_what_running_tasks_keep() -> None:
    tasks = [task("a", 1, stored_bytes=10, scratch_bytes=30), task("b", 1, stored_bytes=5, scratch_bytes=7)]
    timeline = play(tasks, Cluster(1))
    assert (timeline.stored_bytes, timeline.peak_bytes) == (15, 30)
    assert play(tasks, Cluster(2)).peak_bytes == 37


def test_what_can_never_start_is_refused() -> None:
    with pytest.raises(UserError) as error:
        play([task("a", 1, gpus=4)], Cluster(1, 2))
    assert "a train stage gets 4 (compute.stages.train.gpus); the cluster has 2 GPUs" in str(error.value)


def test_a_worker_of_the_same_kind_goes_on() -> None:
    """As executor ``processes`` does: GPU 0 trained last, so the training goes there, though GPU 1 was used later."""
    tasks = [
        task("a", 1, gpus=1), task("b", 2, gpus=1, kind="answer"),
        task("c", 1, ["a", "b"], gpus=1), task("d", 1, ["a", "b"], gpus=1, kind="answer"),
    ]  # fmt: skip
    timeline = play(tasks, Cluster(1, gpus=2), worker_seconds=5)
    assert {span.job.key: span.lanes for span in timeline.spans} == {"a": (0,), "b": (1,), "c": (0,), "d": (1,)}
    assert timeline.seconds == 5 + 2 + 1, "no worker is started twice"


def test_nothing_to_do_takes_no_time() -> None:
    timeline = play([], Cluster(1))
    assert (timeline.seconds, timeline.busy, timeline.critical_path, timeline.peak_bytes) == (0.0, {}, [], 0)


def test_thousands_of_tasks_are_quick() -> None:
    tasks = [
        task(str(number), 1 + number % 7, [str(number - 300)] if number >= 300 else (), gpus=number % 2)
        for number in range(3000)
    ]
    begin = time.process_time()
    timeline = play(tasks, Cluster(16, gpus=64))
    assert timeline.bottleneck == "workers"
    assert time.process_time() - begin < 3
    assert len(timeline.spans) == 3000
