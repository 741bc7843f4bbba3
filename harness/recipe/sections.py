"""The sections of a recipe, a sentence under each field. Defaults that differ from the paper say so.

Checked values only: names of methods, benchmarks and judges are the business of ``harness/recipe/recipe.py``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from harness.contracts.options import Number, Strict
from harness.hardware.gpu import DEVICES
from harness.training.launch import configuration

Positive = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Number, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Dtype = Literal["float32", "bfloat16", "float16"]
TrainDtype = Literal["float32", "bfloat16"]
"""Training in float16 would need scaled losses, which the trainer does not have."""


def _model_text(text: str) -> str:
    folder = text.startswith(("/", "./", "../", "~")) or Path(text).is_dir()
    if not folder and not re.fullmatch(r"pocket:[\w-]+|[\w.-]+/[\w.-]+(@[\w./-]+)?", text):
        raise ValueError(
            "is not a model: write pocket:NAME, the path of a folder (starting with /, ./ or ~), "
            "or a hub id owner/name, with @revision if wanted"
        )
    return text


FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


def _folder_name(text: str) -> str:
    if not FOLDER_NAME.fullmatch(text):
        raise ValueError("must be usable as a folder's name: letters, digits, . _ + -, starting with a letter or digit")
    return text


def _run_name(text: str) -> str:
    if text.lower() == "store" or text.lower().startswith("ledger.sqlite"):
        raise ValueError("is taken: runs/store and runs/ledger.sqlite hold what all runs share; choose another name")
    return text


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", text):
        raise ValueError("must be auto, cpu, mps, cuda or cuda:N")
    return text


def _gpu(text: str) -> str:
    if text not in DEVICES:
        raise ValueError(f"must be one of {', '.join(DEVICES)}, or null")
    return text


def _launch(text: str) -> str:
    configuration(text)
    return text


ModelText = Annotated[str, AfterValidator(_model_text)]
FolderName = Annotated[str, AfterValidator(_folder_name)]
RunName = Annotated[FolderName, AfterValidator(_run_name)]
"""A folder beside what all runs share."""


class Family(Strict):
    """A teacher and a student that go together."""

    name: FolderName
    """Short name for tables and paths."""
    teacher: ModelText
    """``pocket:NAME``, a local folder, or a hub id (``owner/name`` or ``owner/name@revision``)."""
    student: ModelText
    """As ``teacher``."""
    trust_remote_code: bool = False
    """Whether code that comes with a checkpoint may run. Off unless you know the checkpoint."""
    dtype: Dtype = "float32"
    """Number format of model weights when sampling, rewarding and answering."""


class Prompts(Strict):
    """The training prompts."""

    source: str = "pocket"
    """A name in SOURCES; its options stand beside it (``path`` of ``jsonl``, ``revision`` of ``ultrafeedback``)."""
    config: dict[str, Any] = Field(default_factory=dict)
    """All options of the source's config dataclass, as plain data; in YAML they stand in the section itself."""
    n: Count = 2048
    """How many prompts."""
    fallback: str | None = None
    """A source that needs no network and no options: used, and noted in every table, when ``source`` cannot be
    reached."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Decides which prompts are drawn; the same for all training seeds."""
    max_prompt_tokens: Count = 1800
    """Longer prompts (in the student's tokens, chat template included) are left out, as in the paper's code."""
    allow_overlap: bool = False
    """Train although a prompt equals a benchmark's test question (never for a published number)."""

    def plain(self) -> dict[str, Any]:
        """The section as a recipe has it: the source's options beside the others."""
        own = self.model_dump(exclude={"config"})
        return {"source": own.pop("source")} | self.config | own


class SamplingPart(Strict):
    """How the student (and for SeqKD the teacher) answers training prompts."""

    n: Annotated[int, Field(ge=1, le=26)] = 4
    """Responses per prompt (a multiple-choice question has 26 letters)."""
    temperature: NotNegative = 0.8
    """Softmax temperature of the student; 0 is greedy, for a single response."""
    teacher_temperature: NotNegative = 0.8
    """Softmax temperature of the teacher (SeqKD); 0 is greedy."""
    top_p: Annotated[Number, Field(gt=0, le=1)] = 1.0
    """Nucleus: the smallest set of tokens with this probability mass."""
    max_new_tokens: Count = 48
    """Responses are cut here (and marked unfinished)."""

    @model_validator(mode="after")
    def _greedy_is_one(self) -> Self:
        if self.temperature == 0 and self.n > 1:
            raise ValueError(f"temperature 0 gives the same response {self.n} times; set n to 1 or a temperature")
        return self


class RewardPart(Strict):
    """How the teacher rewards responses (PAD, section 4.2)."""

    mcq: Literal["cyclic", "pairwise_both", "pairwise_once"] = "cyclic"
    """How the multiple-choice question is repeated so that no position is favoured (``harness/stages/reward.py``)."""
    floor: Annotated[Number, Field(gt=0, lt=1)] = 1e-4
    """Selection probabilities below this count as this."""
    max_response_tokens: Count = 500
    """Responses are cut to this many of the teacher's tokens, with a mark, in the question; how many is reported."""
    shuffle: bool = False
    """Give every response another one's reward: a control in which preference distillation must not help."""


class LoraPart(Strict):
    """Low-rank adapters in place of full fine-tuning; the student that is saved has them merged, and ``adapter/`` has
    them alone."""

    r: Count = 16
    """Rank of the update of each matrix."""
    alpha: Positive = 32.0
    """The update is scaled by alpha / r."""
    dropout: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    """On the adapters' inputs."""
    target_modules: str | Annotated[list[str], Field(min_length=1)] = "all-linear"
    """Names of linear layers (``[q_proj, v_proj]``), or ``all-linear``: all but the output head."""


class Train(Strict):
    """Optimisation. A method may override any of these under ``methods.NAME.train``."""

    epochs: Count = 1
    """Passes over the training prompts."""
    batch_size: Count = 128
    """Prompts per optimiser step, over all processes."""
    micro_batch: Count = 4
    """Prompts per forward pass; changes memory, not the loss."""
    learning_rate: Positive = 1e-6
    """Peak learning rate of AdamW."""
    warmup_ratio: Annotated[Number, Field(ge=0, lt=1)] = 0.1
    """Share of the steps with rising learning rate."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """Learning rate after warm-up."""
    schedule_over: Literal["round", "run"] = "round"
    """What one warm-up and schedule span in a row with ``rounds``: each round, or all of them. The optimiser starts
    afresh in each round either way."""
    weight_decay: NotNegative = 0.0
    """AdamW's decoupled weight decay."""
    max_grad_norm: Positive = 1.0
    """Gradients are scaled down to this norm."""
    dtype: TrainDtype = "float32"
    """Number format of the forward pass in training (optimiser states stay float32)."""
    max_length: Count = 2048
    """Prompt and response together; a prompt with a longer row is dropped and counted."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    packing: Literal["auto", "always", "never"] = "auto"
    """Whether responses to one prompt share a row: faster, the same log-probabilities; ``auto``: where it is exact."""
    lora: LoraPart | None = None
    """Train low-rank adapters; ``null`` trains all weights."""
    checkpoint_minutes: NotNegative | None = 20.0
    """Minutes between checkpoints from which a killed training goes on; ``null``: it starts again."""
    backend: Literal["ours", "trl"] = "ours"
    """``trl``: TRL's stable SFT and DPO trainers, as a yardstick for the methods that they have."""

    @model_validator(mode="after")
    def _micro_batch_fits(self) -> Self:
        if self.batch_size % self.micro_batch:
            raise ValueError(f"batch_size ({self.batch_size}) must be a multiple of micro_batch ({self.micro_batch})")
        return self


class Statistics(Strict):
    """How numbers become intervals."""

    replicates: Annotated[int, Field(ge=100)] = 1000
    """Bootstrap resamples of the questions."""
    min_coverage: Annotated[Number, Field(ge=0, le=1)] = 0.98
    """A table refuses cells with a smaller share of scored questions."""


class Compute(Strict):
    """What to compute on. Changes no result key."""

    executor: str = "processes"
    """What runs the stages: a name in EXECUTORS."""
    executor_options: dict[str, Any] = Field(default_factory=dict)
    """Options of that executor."""
    workers: Count = 2
    """Stages that run at once."""
    threads: Count = 1
    """CPU threads per worker."""
    device: Annotated[str, AfterValidator(_device)] = "auto"
    """``auto``: a GPU when there is one."""
    gpu: Annotated[str, AfterValidator(_gpu)] | None = None
    """The GPU that ``distilbench plan`` estimates hours for (``harness/hardware/gpu.py``); ``null``: no estimate."""
    batch_tokens: Count = 16384
    """Tokens per batch when generating and rewarding."""
    launch: Annotated[str, AfterValidator(_launch)] | None = None
    """Train in several processes: ``cpu``, ``ddp``, ``fsdp2``, ``zero2``, ``zero3``, or an accelerate file's path."""
    processes: Count | None = None
    """How many processes ``launch`` starts; ``null``: what its configuration says."""


class AskPart(Strict):
    """How judges are asked. Changes no result key, ``accept_failures`` apart."""

    concurrency: Count = 16
    """Requests in flight at the start."""
    max_concurrency: Count | None = None
    """How far that may grow while the endpoint answers as fast as before; ``null``: four times ``concurrency``."""
    timeout: Positive = 120.0
    """Seconds per request."""
    retries: Annotated[int, Field(ge=0)] = 5
    """Further tries of a request after a transient failure."""
    max_cost: NotNegative | None = None
    """Dollars that one run may spend on judging; checked before the first call, and while asking."""
    max_calls: Annotated[int, Field(ge=0)] | None = None
    """Judge calls that one run may make, failed ones included."""
    max_seconds: Positive | None = None
    """No judge call begins later than this after the run began."""
    accept_failures: bool = False
    """Count calls that failed for good as not scored, instead of stopping so that the next run asks again. It decides
    what the judgments hold, so it is part of the keys of judge stages (and of the scores made from them)."""

    def options(self) -> dict[str, Any]:
        """The fields of ``AskOptions``, as plain data."""
        return self.model_dump(exclude={"accept_failures"})
