"""Durations by hand, and the shipped table: every number has a source."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from harness.contracts.stage import Work
from harness.errors import UserError
from harness.hardware import DEVICES
from harness.plan.throughput import OTHER, SHIPPED, JudgeRate, Rate, Speeds, load_throughputs, read_throughputs


def table(folder: Path, **devices: object) -> Path:
    file = folder / "rates.json"
    file.write_text(json.dumps({"devices": devices}), encoding="utf-8")
    return file


def rate(**values: object) -> dict[str, object]:
    return {"doing": "write", "tokens_per_second": 100, "parameters": 1000, "source": "a test", **values}


def test_a_larger_model_is_as_much_slower(tmp_path: Path) -> None:
    """100 tokens/s at 1,000 weights: 500 tokens of a model of 2,000 weights take 10 s."""
    device = Speeds("mine", load_throughputs(table(tmp_path, mine={"rates": [rate()]})))
    duration = device.duration(Work("write", 2000, 500), "any")
    assert duration is not None and duration.seconds == pytest.approx(10) and "a test" in duration.basis
    assert device.duration(Work("write", None, 500), "any") is None


def test_the_nearest_size_and_the_engine_decide(tmp_path: Path) -> None:
    rates = [
        rate(),
        rate(parameters=10**6, tokens_per_second=1),
        rate(engine="vllm", tokens_per_second=400),
        rate(doing="train", flops=6, tokens_per_second=10),
    ]
    device = Speeds("mine", load_throughputs(table(tmp_path, mine={"rates": rates})))

    def seconds(work: Work, engine: str) -> float:
        duration = device.duration(work, engine)
        assert duration is not None
        return duration.seconds

    assert seconds(Work("write", 1000, 100), "transformers") == pytest.approx(1.0)
    assert seconds(Work("write", 10**6, 100), "transformers") == pytest.approx(100.0)
    assert seconds(Work("write", 1000, 100), "vllm") == pytest.approx(0.25)
    # 8 FLOPs per weight with checkpointing where 6 were measured
    assert seconds(Work("train", 1000, 100, 8.0), "transformers") == pytest.approx(10 * 8 / 6)
    with pytest.raises(UserError, match=r"no rate to read with transformers; it has: train, write, write vllm"):
        device.duration(Work("read", 1000, 1), "transformers")


def test_gpus_without_a_rate_have_the_share_of_their_peak() -> None:
    """L4: 121 TFLOP/s, 40% of it to read: 10^12 weights x 121 tokens x 2 FLOPs are 5 s."""
    device = Speeds("L4", load_throughputs())
    duration = device.duration(Work("read", 10**12, 121), "transformers")
    assert duration is not None and duration.seconds == pytest.approx(5.0)
    assert "assumed (harness/hardware.py)" in duration.basis


def test_several_gpus_are_less_than_as_many_times_faster() -> None:
    device = Speeds("A100-80GB", load_throughputs())
    one, four = (device.duration(Work("read", 10**9, 10**6), "x", gpus) for gpus in (1, 4))
    assert one is not None and four is not None
    assert one.seconds / four.seconds == pytest.approx(4 * 0.72**2)


def test_a_device_may_be_like_another() -> None:
    table = load_throughputs()
    a800, a100 = Speeds("A800-80GB", table), Speeds("A100-80GB", table)
    work = Work("train", 10**9, 10**6, 6.0)
    assert a800.duration(work, "") == a100.duration(work, "")
    assert a800.startup == a100.startup and a800.price == a100.price


def test_judges_are_bounded_by_the_tightest_limit() -> None:
    limited = JudgeRate("a test", tokens_per_minute=600.0, calls_per_minute=6.0)
    assert limited.seconds(calls=1, read=500, written=100) == pytest.approx(60)
    assert limited.seconds(calls=12, read=500, written=100) == pytest.approx(120)
    own = JudgeRate("a test", read_per_second=100.0, written_per_second=10.0)
    assert own.seconds(calls=1, read=500, written=100) == pytest.approx(15)
    assert JudgeRate("a test").seconds(1, 10, 10) == 0 and JudgeRate("a test").text == "no limit"


def test_every_shipped_number_has_a_source() -> None:
    table = read_throughputs(SHIPPED)
    sources = [one.source for device in table.devices.values() for one in device.rates]
    sources += [device.price.source for device in table.devices.values() if device.price]
    sources += [judge.source for judge in table.judges.values()] + [table.scaling.source if table.scaling else ""]
    for source in sources:
        assert re.search(r"https://|studies/|assumed|in process", source), source
        assert re.search(r"20\d\d|assumed|in process", source), f"no date: {source}"
    assert OTHER in table.judges
    for name, device in table.devices.items():
        assert device.like is None or device.like in table.devices, name
        assert name in DEVICES or device.rates, name


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("{", "cannot be read"),
        ("[]", "must be a mapping"),
        ('{"devices": {"x": {"rates": [{"doing": "fly"}]}}}', "devices.x = 'fly': is not one of the choices"),
        ('{"divices": {}}', "Did you mean 'devices'"),
    ],
)
def test_mistakes_in_a_file_of_rates_are_named(tmp_path: Path, content: str, text: str) -> None:
    file = tmp_path / "rates.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(UserError) as error:
        load_throughputs(file)
    assert text in str(error.value) and "--rates" in str(error.value)


def test_an_unknown_device_is_named_with_the_choices() -> None:
    with pytest.raises(UserError, match=r"A100"):
        Speeds("A10O", load_throughputs())


def test_own_rates_stand_before_the_shipped_ones(tmp_path: Path) -> None:
    """What a file does not say of a device, the shipped table says: other work, other engines, its price, its start."""
    own = Rate("write", 100.0, 1000, "a test", engine="vllm")
    shipped = Speeds("H200", load_throughputs())
    device = Speeds("H200", load_throughputs(table(tmp_path, H200={"rates": [rate(engine="vllm")]})))
    others = tuple(row for row in shipped.rows if (row.doing, row.engine) != ("write", "vllm"))
    assert device.rows == (own, *others) and 0 < len(others) < len(shipped.rows)
    assert (device.price, device.startup) == (shipped.price, shipped.startup) and shipped.price is not None
    of_any = Speeds("H200", load_throughputs(table(tmp_path, H200={"rates": [rate()]})))
    assert {row.doing for row in of_any.rows[1:]} == {row.doing for row in others} - {"write"}, "of whatever engine"


def test_devices_that_are_like_each_other_or_like_an_unknown_one(tmp_path: Path) -> None:
    circle = table(tmp_path, a={"like": "b", "rates": [rate()]}, b={"like": "a", "rates": [rate(doing="read")]})
    assert [row.doing for row in Speeds("a", load_throughputs(circle)).rows] == ["write", "read"]
    itself = table(tmp_path, **{"H100-80GB": {"like": "H100-80GB"}})
    assert Speeds("H100-80GB", load_throughputs(itself)).price == Speeds("H100-80GB", load_throughputs()).price
    with pytest.raises(UserError, match="unknown device 'H1000'"):
        assert Speeds("a", load_throughputs(table(tmp_path, a={"like": "H1000"}))).rows
