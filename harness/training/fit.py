"""Train one student by one method. A killed stage goes on from its last checkpoint, to the same bytes on a CPU."""

from __future__ import annotations

import gc
import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from harness.errors import NOT_FINITE, UserError
from harness.hardware import peak
from harness.models.chat import vocabulary_size
from harness.models.load import load_tokenizer, load_weights, pick_device
from harness.training.batches import ShuffledBatches, prepare
from harness.training.forward import choose, host
from harness.training.options import CURVE, Progress, Training, TrainReport
from harness.training.split_weights import device_arguments, load_whole, prepare_sharding
from harness.training.stored_signals import StoredDistributions, load_teacher
from harness.training.student import add_adapters, probe, save
from harness.training.trainer import DistilTrainer, LoadedTraining, StepRecord

# The reentrant kind loses the gradients of adapters, whose inputs have none.
CHECKPOINTING = {"activation_checkpointing": True, "activation_checkpointing_kwargs": {"use_reentrant": False}}
MARKER = "distilbench.json"
"""What transformers' checkpoint lacks (curve, token counts). Written last: a checkpoint without it is not whole."""


def fit(
    training: Training, out_dir: str | Path, progress: Progress | None = None, scratch: Path | None = None
) -> TrainReport:
    """Train, and leave a checkpoint in ``out_dir``; ``scratch`` outlives this process and holds checkpoints to resume
    from. Raises UserError where no prompt fits, vocabularies differ, a loss is not finite, or a checkpoint does not
    fit."""
    trainer = make_trainer(load_training(training), Path(out_dir), progress, scratch)
    return run(trainer, Path(out_dir), scratch)


def load_training(training: Training) -> LoadedTraining:
    method, options, stores = training.method, training.options, training.teacher_distributions
    if method.needs.reference and training.reference is None:
        raise ValueError(f"{method.name} needs reference log-probabilities (harness.training.stored_signals)")
    tokenizer = load_tokenizer(training.student, training.trust_remote_code)
    live = method.needs.signal == "token" and not stores
    teacher = load_teacher(training, tokenizer) if live else None
    examples, dropped = prepare(training, tokenizer)
    # Weights in float32 whatever ``dtype`` says: updates of 1e-6 would vanish in bfloat16.
    student = load_weights(training.student, tokenizer, torch.float32, training.trust_remote_code)
    models = [student] if teacher is None else [student, teacher]
    layout = choose(options, examples, models, vocabulary_size(tokenizer))
    adapter = None if options.lora is None else add_adapters(student, options.lora, training.seed)
    distributions = StoredDistributions(stores) if stores else None
    host(student, getattr(torch, options.dtype))
    return LoadedTraining(
        training, examples, student, tokenizer, layout, teacher, adapter, distributions, dict(dropped)
    )


def make_trainer(
    setup: LoadedTraining, out: Path, progress: Progress | None = None, scratch: Path | None = None
) -> DistilTrainer:
    out.mkdir(parents=True, exist_ok=True)
    training = setup.training
    args = TrainingArguments(**training_arguments(training, scratch or out))
    place(args, pick_device(training.device))
    prepare_sharding(args)
    sampler = ShuffledBatches(len(setup.examples), training.options, training.seed, args.world_size)
    args.gradient_accumulation_steps = sampler.rounds(training.options.batch_size)
    trainer = DistilTrainer(setup, args)
    trainer.add_callback(Recorder(trainer, out / CURVE, progress, scratch))
    if trainer.accelerator.is_main_process:
        (out / CURVE).unlink(missing_ok=True)
    return trainer


def place(args: Any, device: torch.device) -> None:
    """Let a trainer with these ``TrainingArguments`` work on ``device``, if it is the only process, on one GPU."""
    # Several GPUs in one process would mean nn.DataParallel; here, processes share the work.
    args._n_gpu = min(1, args.n_gpu)
    if args.distributed_state.distributed_type.value != "NO" or str(device) in ("cpu", "cuda"):
        return
    # transformers knows the CPU and the first GPU only, and remembers its choice in the arguments.
    vars(args)["_setup_devices"] = device
    args.distributed_state.device = device
    if device.type == "cuda":
        torch.cuda.set_device(device)


def training_arguments(training: Training, out: Path) -> dict[str, Any]:
    options, tracking = training.options, training.tracking
    return {
        "output_dir": str(out),
        "num_train_epochs": options.epochs,
        "per_device_train_batch_size": options.micro_batch,
        "learning_rate": options.learning_rate,
        # Below 1, transformers reads it as a share of the steps.
        "warmup_steps": options.warmup_ratio,
        # Its ``constant`` has no warm-up.
        "lr_scheduler_type": {"constant": "constant_with_warmup"}.get(options.schedule, options.schedule),
        "optim": "adamw_torch_fused",
        "weight_decay": options.weight_decay,
        "max_grad_norm": options.max_grad_norm,
        **(CHECKPOINTING if options.gradient_checkpointing else {}),
        "ddp_find_unused_parameters": False,
        **device_arguments(pick_device(training.device)),
        # NumPy takes 32 bits.
        "seed": training.seed % 2**31,
        "save_strategy": "no",  # ``Recorder`` asks for checkpoints
        "logging_strategy": "no",
        "report_to": "none" if tracking is None else list(tracking.trackers),
        **({} if tracking is None else {"run_name": tracking.run, "project": tracking.project}),
        "disable_tqdm": True,
        # Our batches are no columns of a data set.
        "remove_unused_columns": False,
        "dataloader_pin_memory": False,
    }


def run(trainer: DistilTrainer, out: Path, scratch: Path | None = None) -> TrainReport:
    setup = trainer.setup
    checkpoint = None if scratch is None else newest(scratch)
    if checkpoint is not None:
        restore(trainer, checkpoint, out / CURVE)
    first_step = len(trainer.curve)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    # Trainer collects garbage as it starts; walking over all of torch's objects would take half a second each time.
    gc.freeze()
    try:
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    finally:
        gc.unfreeze()
    seconds = time.perf_counter() - start
    # On every process: gathering a sharded model's weights needs all of them, and so does running it.
    training = setup.training
    adapted = None if training.options.lora is None else probe(trainer.model_wrapped, vocabulary_size(setup.tokenizer))
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    load_whole()
    if trainer.accelerator.is_main_process:
        # Losses and gradients are checked before a step: the last step has none after it.
        check_finite(training.method.name, state)
        options = training.options
        save(setup.student, setup.tokenizer, out, state, options.lora, adapted, training.trust_remote_code)
    trainer.accelerator.wait_for_everyone()
    return TrainReport(
        steps=len(trainer.curve),
        prompts=len(setup.examples),
        dropped=setup.dropped,
        foreign_rows=sum(row.is_foreign for example in setup.examples for row in example.rows),
        tokens=trainer.tokens["all"],
        response_tokens=trainer.tokens["response"],
        first_loss=trainer.curve[0]["loss"],
        final_loss=trainer.curve[-1]["loss"],
        packing=setup.layout.reason,
        adapter=setup.adapter,
        resumed_at=first_step,
        seconds=seconds,
        peak_memory=peak_memory(),
    )


def check_finite(method: str, state: Mapping[str, Tensor]) -> None:
    """Raises UserError where a weight is not a finite number."""
    if spoilt := [name for name, value in state.items() if not bool(torch.isfinite(value).all())]:
        raise UserError(
            f"{method}: {len(spoilt)} of {len(state)} weights are {NOT_FINITE} after the last step ({spoilt[0]}, ...): "
            "lower train.learning_rate."
        )


def peak_memory() -> int:
    """Bytes: the GPU's peak since it was last reset, or the largest resident set since the stage began."""
    return int(torch.cuda.max_memory_allocated()) if torch.cuda.is_available() else peak()


class Recorder(TrainerCallback):
    def __init__(self, trainer: DistilTrainer, curve: Path, progress: Progress | None, scratch: Path | None) -> None:
        self.trainer, self.curve, self.progress, self.scratch = trainer, curve, progress, scratch
        self.minutes = trainer.training.options.checkpoint_minutes
        self.rate = 0.0
        self.last_save = time.monotonic()

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        # Read now: when the step has ended, the schedule has moved on to the next step's rate.
        self.rate = float(kwargs["optimizer"].param_groups[0]["lr"])

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        trainer = self.trainer
        terms = sum_over_processes(trainer.terms)
        record: StepRecord = {
            "step": state.global_step,
            "loss": sum(terms.values()),
            "terms": terms,
            "logs": sum_over_processes(trainer.logs),
            "learning_rate": self.rate,
            "grad_norm": trainer.grad_norm,
        }
        trainer.curve.append(record)
        if trainer.training.tracking is not None:
            parts = {f"term_{name}": value for name, value in terms.items()} | dict(record["logs"])
            numbers = {name: record[name] for name in ("loss", "learning_rate", "grad_norm")}
            trainer.log({**numbers, **parts})
        if state.is_world_process_zero:
            with self.curve.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
            if self.progress is not None:
                self.progress(state.global_step, state.max_steps, {"loss": record["loss"]})
        if self.scratch is None or self.minutes is None:
            return
        is_due = time.monotonic() - self.last_save >= 60 * self.minutes
        save_flags = [is_due and state.global_step < state.max_steps]
        # The first process's clock decides for all: this overwrites the list with its own.
        broadcast_object_list(save_flags)
        control.should_save = save_flags[0]

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object) -> None:
        self.last_save = time.monotonic()
        trainer = self.trainer
        trainer.accelerator.wait_for_everyone()  # other processes' random states belong to it too
        if self.scratch is None or not state.is_world_process_zero:
            return
        folder = self.scratch / f"checkpoint-{state.global_step}"
        draft = folder / (MARKER + ".part")
        with draft.open("w", encoding="utf-8") as file:
            json.dump({"curve": trainer.curve, "tokens": dict(trainer.tokens)}, file)
            file.flush()
            # The marker must not get its name before its content is on disk.
            os.fsync(file.fileno())
        draft.rename(folder / MARKER)
        for checkpoint in checkpoints(self.scratch):
            if checkpoint != folder:
                shutil.rmtree(checkpoint)


def sum_over_processes(values: Mapping[str, Tensor]) -> dict[str, float]:
    """Scalars summed over processes; one that had fillers alone has no names at all."""
    totals: dict[str, float] = {}
    for share in gather_object([{name: float(value) for name, value in values.items()}]):
        for name, value in share.items():
            totals[name] = totals[name] + value if name in totals else value
    return totals


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoint folders, also those without a marker (their writing was cut off), oldest step first."""
    return sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))


def newest(folder: Path) -> Path | None:
    complete = [path for path in checkpoints(folder) if (path / MARKER).is_file()]
    return complete[-1] if complete else None


def restore(trainer: DistilTrainer, checkpoint: Path, curve: Path) -> None:
    marker = json.loads((checkpoint / MARKER).read_text(encoding="utf-8"))
    trainer.curve[:] = marker["curve"]
    trainer.tokens.update(marker["tokens"])
    if trainer.accelerator.is_main_process:
        curve.write_text("".join(json.dumps(record) + "\n" for record in marker["curve"]), encoding="utf-8")
