"""Executor ``inline``: stages in this process, one after the other. For debuggers, profilers and notebooks."""

from __future__ import annotations

from collections import deque

from threadpoolctl import threadpool_limits

from harness.contracts.executor import Executor, ExecutorKind, MakeRunStage, Resources, StageResult
from harness.contracts.options import NoOptions
from harness.contracts.stage import RunListener, Stage
from harness.models.engines.local import LocalEngines


class InlineExecutor(Executor):
    def __init__(self, threads: int, make_run_stage: MakeRunStage, listener: RunListener) -> None:
        import torch

        # Worker processes set the thread count by the environment before anything is imported. Here libraries may be
        # loaded already: each must be told, or a sum is split differently and the last digits of a result change.
        self.limits = threadpool_limits(limits=threads)
        self.torch_threads = torch.get_num_threads()
        torch.set_num_threads(threads)
        # This process outlives the run, and its servers must not.
        self.engines = LocalEngines()
        self.run_stage, self.listener = make_run_stage(self.engines), listener
        self.waiting: deque[Stage] = deque()

    def submit(self, stage: Stage) -> None:
        self.waiting.append(stage)

    def results(self) -> list[StageResult]:
        stage = self.waiting.popleft()
        self.listener.on_start(stage.label)
        return [
            self.run_stage(stage, lambda done, total, info: self.listener.on_progress(stage.label, done, total, info))
        ]

    def shutdown(self, abort: bool) -> None:
        import torch

        self.engines.close()
        self.limits.restore_original_limits()
        torch.set_num_threads(self.torch_threads)


class InlineKind(ExecutorKind[NoOptions]):
    name = "inline"
    summary = "in this process, one stage at a time: for debugging and notebooks"
    config = NoOptions

    def concurrency(self, workers: int) -> int:
        return 1

    def start(
        self, config: NoOptions, resources: Resources, make_run_stage: MakeRunStage, listener: RunListener
    ) -> InlineExecutor:
        return InlineExecutor(resources.threads, make_run_stage, listener)


EXECUTOR = InlineKind()
