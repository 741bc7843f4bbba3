"""What a recipe can name, handed to the plan and the run as one argument. No global, no import side effects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.contracts.backend import Backend
from harness.contracts.benchmark import AnyBenchmark
from harness.contracts.executor import ExecutorKind
from harness.contracts.judge import Ask, JudgeKind
from harness.contracts.method import Method
from harness.contracts.source import PromptSource
from harness.contracts.target import Target


@dataclass(frozen=True)
class Registry:
    methods: Mapping[str, Method]
    benchmarks: Mapping[str, AnyBenchmark]
    judges: Mapping[str, JudgeKind]
    sources: Mapping[str, PromptSource]
    backends: Mapping[str, Backend]
    executors: Mapping[str, ExecutorKind]
    ask: Ask
    targets: Mapping[str, Target] = field(default_factory=dict)
    stages: Mapping[str, bool] = field(default_factory=dict)
    """The kinds of stages, and whether each runs a model."""
