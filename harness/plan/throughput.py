"""How long a stage takes on a device: from measured rates (``throughputs.json``, or a file like it), each with its
source, and from ``harness/hardware.py``'s assumed shares of a GPU's peak where nothing was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple

from pydantic import Field

from harness.contracts.options import NotNegative, Positive, RecipeError, options, read_options
from harness.contracts.stage import Doing, Work
from harness.errors import UserError, unknown_choice
from harness.hardware import DEVICES, SHARE
from harness.text import parse_json

OTHER: Final = "*"
SHIPPED: Final = Path(__file__).with_name("throughputs.json")


@options
class Rate:
    """What a device reached with a model."""

    doing: Literal["train", "read", "write"]
    tokens_per_second: Positive
    parameters: Annotated[int, Field(ge=1, le=10**15)]
    """Weights of the model that was measured; others are as much slower as they are larger."""
    source: str
    """Where it was read, and when."""
    flops: Positive = 2.0
    """Per weight and token: 6 for training, 8 with gradient checkpointing."""
    engine: str = ""
    """The backend; empty: any."""


@options
class Startup:
    """Seconds that are no work."""

    source: str = "assumed"
    worker: NotNegative = 10.0
    """Before the first stage of a worker process: it imports its libraries."""
    each: NotNegative = 0.1
    """Of each stage, whatever it does: its files, and the time until the next one begins."""
    stage: NotNegative = 0.5
    """Of each stage that runs a model, besides reading its weights."""
    gib: NotNegative = 1.2
    """Per GiB of weights."""
    engine: NotNegative = 80.0
    """Until a server of a backend that starts one answers, besides reading its weights."""
    call: NotNegative = 0.001
    """Of our own code for each judge call."""
    replicate: NotNegative = 1e-4
    """Of a score: for each entrant and bootstrap resample."""


@options
class Rent:
    dollars_per_hour: NotNegative
    source: str


@options
class DeviceRates:
    """What is known of a GPU of ``harness/hardware.py``, or of a machine's CPU."""

    rates: tuple[Rate, ...] = ()
    startup: Startup | None = None
    price: Rent | None = None
    like: str | None = None
    """A device of which all that is missing here holds."""
    together: Annotated[float, Field(gt=0, le=1)] | None = None
    """Speed of each of two stages on two cores of a CPU, where one alone has 1: they share memory and caches."""

    def before(self, other: DeviceRates) -> DeviceRates:
        """With what ``other`` knows besides."""
        further = [
            rate
            for rate in other.rates
            if not any(own.doing == rate.doing and own.engine in ("", rate.engine) for own in self.rates)
        ]
        return DeviceRates(
            (*self.rates, *further),
            self.startup or other.startup,
            self.price or other.price,
            self.like or other.like,
            self.together or other.together,
        )


@options
class JudgeRate:
    """What an endpoint takes. Stages that ask it share it."""

    source: str
    read_per_second: Positive | None = None
    """Prompt tokens, of a server of one's own."""
    written_per_second: Positive | None = None
    tokens_per_minute: Positive | None = None
    """Limit of prompts and replies together, of a hosted one."""
    calls_per_minute: Positive | None = None
    first_token: NotNegative = 1.0
    """Seconds until a reply begins."""
    stream: Positive = 50.0
    """Tokens per second of one reply."""

    def seconds(self, calls: int, read: int, written: int) -> float:
        """That the endpoint needs for these calls when it does nothing else."""
        own = sum(count / speed for count, speed in ((read, self.read_per_second), (written, self.written_per_second))
                  if speed is not None)  # fmt: skip
        limits = ((calls, self.calls_per_minute), (read + written, self.tokens_per_minute))
        return max([own, *(60 * count / limit for count, limit in limits if limit is not None)])

    @property
    def text(self) -> str:
        values = {
            "reads {:,.0f} tokens/s": self.read_per_second,
            "writes {:,.0f} tokens/s": self.written_per_second,
            "{:,.0f} tokens a minute": self.tokens_per_minute,
            "{:,.0f} calls a minute": self.calls_per_minute,
        }
        return ", ".join(text.format(value) for text, value in values.items() if value is not None) or "no limit"


@options
class Scaling:
    """Share of the ideal speed that is left with each doubling of the GPUs of one stage."""

    train: Annotated[float, Field(gt=0, le=1)] = 1.0
    read: Annotated[float, Field(gt=0, le=1)] = 1.0
    write: Annotated[float, Field(gt=0, le=1)] = 1.0
    source: str = ""


@options
class Throughputs:
    about: str = ""
    devices: dict[str, DeviceRates] = field(default_factory=dict)
    judges: dict[str, JudgeRate] = field(default_factory=dict)
    """By the judge's model, or its kind; ``*``: any other."""
    scaling: Scaling | None = None

    def merged(self, other: Throughputs) -> Throughputs:
        """With the entries of ``other`` before those of the same name."""
        devices = {**self.devices}
        for name, own in other.devices.items():
            devices[name] = own.before(devices.get(name, DeviceRates()))
        judges = {**self.judges, **other.judges}
        return Throughputs(other.about or self.about, devices, judges, other.scaling or self.scaling)


def load_throughputs(file: Path | None = None) -> Throughputs:
    """The shipped table, with the entries of ``file`` before it. Raises UserError."""
    shipped = read_throughputs(SHIPPED)
    return shipped if file is None else shipped.merged(read_throughputs(file))


def read_throughputs(file: Path) -> Throughputs:
    try:
        values = parse_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"--rates {file}: cannot be read ({error}). docs/scale.md shows the format.") from error
    if not isinstance(values, dict):
        raise UserError(f"--rates {file}: must be a mapping. docs/scale.md shows the format.")
    table, problems = read_options(Throughputs, values, ())
    if table is None:
        raise RecipeError(problems, f"--rates {file}")
    return table


class Duration(NamedTuple):
    seconds: float
    basis: str
    """The source, in words."""


@dataclass(frozen=True)
class Speeds:
    """One row of the table, ready to be asked."""

    name: str
    table: Throughputs

    def __post_init__(self) -> None:
        self._check(self.name)

    def _check(self, name: str) -> None:
        if name not in self.table.devices and name not in DEVICES:
            raise unknown_choice("device", name, sorted({*DEVICES, *self.table.devices}), "Or give --rates FILE.")

    @cached_property
    def known(self) -> DeviceRates:
        """Of this device, then of those that it is like."""
        known, names = DeviceRates(), set[str]()
        name: str | None = self.name
        while name is not None and name not in names:
            self._check(name)
            entry = self.table.devices.get(name, DeviceRates())
            known = known.before(entry)
            names.add(name)
            name = entry.like
        return known

    @property
    def rows(self) -> Sequence[Rate]:
        return self.known.rates

    @property
    def startup(self) -> Startup:
        return self.known.startup or Startup()

    @property
    def price(self) -> Rent | None:
        return self.known.price

    def duration(self, work: Work, engine: str, gpus: int = 1) -> Duration | None:
        """Of one piece of work; ``None`` where the size of the model is not known. Raises UserError without a rate."""
        if work.parameters is None:
            return None
        amount = work.flops * work.parameters * work.tokens
        doubling = getattr(self.table.scaling or Scaling(), work.doing)
        speed = max(1, gpus) * doubling ** math.log2(max(1, gpus))
        rate = self.rate(work.doing, work.parameters, engine)
        if rate is None:
            peak = SHARE[work.doing] * DEVICES[self.name].tflops * 1e12
            text = f"{work.doing}: {SHARE[work.doing]:.0%} of the peak of {self.name}, assumed (harness/hardware.py)"
            return Duration(amount / peak / speed, text)
        seconds = amount / (rate.flops * rate.parameters * rate.tokens_per_second) / speed
        millions = rate.parameters / 1e6
        weights = f"{millions / 1000:.3g}B" if millions >= 1000 else f"{millions:.3g}M"
        text = f"{work.doing}: {rate.tokens_per_second:,.0f} tokens/s at {weights} weights ({rate.source})"
        return Duration(seconds, text)

    def rate(self, doing: Doing, parameters: int, engine: str) -> Rate | None:
        """Of the model nearest in size; ``None``: the share of the peak stands. Raises UserError for neither."""
        alike = [rate for rate in self.rows if rate.doing == doing]
        rows = [rate for rate in alike if rate.engine == engine] or [rate for rate in alike if not rate.engine]
        if not rows and self.name not in DEVICES:
            names = ", ".join(sorted({f"{rate.doing} {rate.engine}".strip() for rate in self.rows})) or "nothing"
            raise UserError(
                f"device {self.name!r}: no rate to {doing} with {engine}; it has: {names}. Measure it "
                "(studies/simulate.py --measure) and give --rates FILE."
            )
        return min(rows, key=lambda rate: abs(math.log(rate.parameters / parameters)), default=None)

    def with_peers(self, count: int) -> float:
        """Speed of each of ``count`` stages on a CPU."""
        return 1.0 if count < 2 else self.known.together or 1.0
