"""What a recipe can name, handed to the plan and the run as one argument. No global, no import side effects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.contracts.backend import Backend
from harness.contracts.benchmark import KIND, AnyBenchmark
from harness.contracts.executor import ExecutorKind
from harness.contracts.judge import Ask, ConfiguredJudge, JudgeKind
from harness.contracts.method import Method
from harness.contracts.source import PromptSource
from harness.contracts.stage import Stage
from harness.contracts.target import Target
from harness.errors import UserError


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
    code: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """Table (``methods``) and name of each entry of a plug-in to a hash of its code."""

    def code_param(self, table: str, name: str) -> dict[str, str]:
        """For the key of a stage: the name and the code of a plug-in's entry; nothing for a shipped one."""
        code = self.code.get((table, name))
        return {f"{table[:-1]}_code": f"{name} {code}"} if code else {}

    def judge(self, kind: str, config: Any) -> ConfiguredJudge[Any]:
        return ConfiguredJudge(self.judges[kind], config, self.code.get(("judges", kind), ""))

    def refuse_other_code(self, stage: Stage) -> None:
        """Raises UserError where a plug-in is not the one with which the stage was planned."""
        for table in ("methods", "benchmarks", "judges", "sources", "backends"):
            planned = stage.params.get(f"{table[:-1]}_code")
            if planned is not None:
                name = planned.rpartition(" ")[0]
                if self.code_param(table, name) != {f"{table[:-1]}_code": planned}:
                    raise UserError(f"the code of {name!r} has changed since this run was planned: start it again.")

    def benchmark(self, name: str, options: Mapping[str, Any]) -> tuple[AnyBenchmark, Any]:
        """A recipe's column and its options, from ``ConfiguredBenchmark.options``. Raises UserError."""
        values = dict(options)
        kind = values.pop(KIND, name)
        if kind not in self.benchmarks:
            raise UserError(f"no benchmark {kind!r} is known here; name its file with --plugin")
        entry = self.benchmarks[kind]
        config = entry.stored_config(values)
        return entry.named(name, config), config
