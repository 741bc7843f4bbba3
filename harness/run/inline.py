"""Executor ``inline``: stages in this process, one after the other. For debuggers, profilers and notebooks."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from threadpoolctl import threadpool_limits

from harness.contracts.executor import Executor, ExecutorKind, MakeRunStage, Resources, StageResult
from harness.contracts.options import NoOptions
from harness.contracts.stage import RunListener, Stage
from harness.models.engines.local import LocalEngines


class InlineExecutor(Executor):
    def __init__(self, resources: Resources, make_run_stage: MakeRunStage, listener: RunListener) -> None:
        import torch

        # Worker processes set the thread count by the environment before anything is imported. Here libraries may be
        # loaded already: each must be told, or a sum is split differently and the last digits of a result change.
        self.limits = threadpool_limits(limits=resources.threads)
        self.torch_threads, self.set_torch_threads = torch.get_num_threads(), torch.set_num_threads
        self.resources = resources
        # This process outlives the run, and its servers must not.
        self.engines = LocalEngines()
        self.run_stage, self.listener = make_run_stage(self.engines), listener
        self.waiting: deque[Stage] = deque()

    def submit(self, stage: Stage) -> None:
        self.waiting.append(stage)

    def results(self) -> list[StageResult]:
        stage = self.waiting.popleft()
        threads = self.resources.of(stage).threads
        threadpool_limits(limits=threads)
        self.set_torch_threads(threads)
        self.listener.on_start(stage.label)
        return [
            self.run_stage(stage, lambda done, total, info: self.listener.on_progress(stage.label, done, total, info))
        ]

    def shutdown(self, abort: bool) -> None:

        self.engines.close()
        self.limits.restore_original_limits()
        self.set_torch_threads(self.torch_threads)


class InlineKind(ExecutorKind[NoOptions]):
    name = "inline"
    summary = "in this process, one stage at a time: for debugging and notebooks"
    config = NoOptions

    def concurrency(self, workers: int) -> int:
        return 1

    def check(self, config: NoOptions, resources: Resources, stages: Sequence[Stage]) -> Iterable[str]:
        if resources.gpus or any(resources.of(stage).gpus for stage in stages):
            yield (
                "compute.gpus and compute.stages.KIND.gpus: the executor inline runs stages in this process, which has "
                "opened its GPUs already; set CUDA_VISIBLE_DEVICES before you start, or use another executor"
            )

    def start(
        self, config: NoOptions, resources: Resources, make_run_stage: MakeRunStage, listener: RunListener
    ) -> InlineExecutor:
        return InlineExecutor(resources, make_run_stage, listener)


EXECUTOR = InlineKind()
