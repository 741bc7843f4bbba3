"""Train one student by one method: the call that the train stage makes."""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, TrainingArguments

from harness.errors import UserError
from harness.hardware.memory import peak
from harness.models.load import load_tokenizer, load_weights, pick_device
from harness.models.vocabulary import tokenizer_difference
from harness.training.batches import Shuffled, prepare, shapes
from harness.training.callbacks import CURVE, Checkpoints, Curve, newest, restore
from harness.training.options import Progress, Training, TrainOptions, TrainReport
from harness.training.packing import choose
from harness.training.stored_signals import StoredDistributions
from harness.training.student import add_adapters, check_merged, host, merged_weights, save, save_adapter
from harness.training.trainer import DistilTrainer, TrainingJob


def fit(
    training: Training, out_dir: str | Path, progress: Progress | None = None, scratch: Path | None = None
) -> TrainReport:
    """Train, and leave a checkpoint (safetensors, tokenizer, chat template) and its training curve in ``out_dir``.

    ``scratch``: a folder that outlives this process; a run that was killed goes on from the checkpoint in it
    (``options.checkpoint_minutes``). Runs under ``accelerate launch`` and ``torchrun`` too.

    Raises:
        UserError: no usable prompt, vocabularies that differ, a loss that is not finite, an unfit checkpoint.
    """
    job, dropped = make_job(training)
    trainer = make_trainer(job, Path(out_dir), progress, scratch)
    return run(trainer, job, Path(out_dir), dropped, scratch)


def make_job(training: Training) -> tuple[TrainingJob, Mapping[str, int]]:
    """Load the models and tokenise the rows. Returns the job and the reasons for dropped prompts."""
    method, config, options = training.method, training.config, training.options
    if method.needs.reference and training.reference is None:
        raise ValueError(f"{method.name} needs reference log-probabilities (harness.training.stored_signals)")
    trust = options.trust_remote_code
    tokenizer = load_tokenizer(training.student, trust)
    live = method.needs.signal == "token" and not training.teacher_distributions
    if live:
        check_teacher(training, tokenizer)
    examples, dropped = prepare(training, tokenizer)
    student = host(load_weights(training.student, tokenizer, torch.float32, trust))
    teacher = None
    if live and training.teacher is not None:
        teacher = load_weights(training.teacher, tokenizer, getattr(torch, options.dtype), trust)
        teacher = teacher.requires_grad_(False).train(False).to(pick_device(options.device))
    stored = StoredDistributions(training.teacher_distributions) if training.teacher_distributions else None
    models = [student] if teacher is None else [student, teacher]
    layout = choose(options, shapes(examples), models, len(tokenizer))
    adapter = None if options.lora is None else add_adapters(student, options.lora, training.seed)
    job = TrainingJob(
        method, config, examples, student, teacher, tokenizer, options, training.seed, layout, adapter, stored
    )
    return job, dropped


def check_teacher(training: Training, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises UserError where the live teacher's vocabulary is not the student's."""
    if training.teacher is None:
        raise ValueError(f"{training.method.name} needs a teacher checkpoint: its teacher is live")
    reason = tokenizer_difference(tokenizer, load_tokenizer(training.teacher, training.options.trust_remote_code))
    if reason:
        raise UserError(
            f"{training.method.name} needs a shared vocabulary: {reason}. Choose a teacher of the student's family."
        )


def make_trainer(
    job: TrainingJob, out: Path, progress: Progress | None = None, scratch: Path | None = None
) -> DistilTrainer:
    """The trainer of a job, with its curve attached, and its checkpoints where ``scratch`` is given."""
    out.mkdir(parents=True, exist_ok=True)
    args = TrainingArguments(**training_arguments(job.options, scratch or out, job.seed))
    # Several GPUs in one process would mean nn.DataParallel; here, processes share the work.
    args._n_gpu = min(1, args.n_gpu)
    place(args, pick_device(job.options.device))
    args.gradient_accumulation_steps = Shuffled(len(job.examples), job.options, job.seed, args.world_size).rounds
    trainer = DistilTrainer(job, args)
    trainer.add_callback(Curve(trainer, out / CURVE, progress))
    if trainer.accelerator.is_main_process:
        (out / CURVE).unlink(missing_ok=True)
    if scratch is not None and job.options.checkpoint_minutes is not None:
        trainer.add_callback(Checkpoints(trainer, scratch, job.options.checkpoint_minutes))
    return trainer


def place(args: Any, device: torch.device) -> None:
    """Let a trainer with these ``TrainingArguments`` work on ``device``, if it is the only process."""
    if args.distributed_state.distributed_type.value != "NO" or str(device) in ("cpu", "cuda"):
        return
    # transformers knows the CPU and the first GPU only, and remembers its choice in the arguments.
    vars(args)["_setup_devices"] = device
    args.distributed_state.device = device
    if device.type == "cuda":
        torch.cuda.set_device(device)


def training_arguments(options: TrainOptions, out: Path, seed: int) -> dict[str, Any]:
    """Arguments for transformers' and TRL's trainers alike."""
    return {
        "output_dir": str(out),
        "num_train_epochs": options.epochs,
        "per_device_train_batch_size": options.micro_batch,
        "learning_rate": options.learning_rate,
        # Below 1, transformers reads it as a share of the steps.
        "warmup_steps": options.warmup_ratio,
        # Its ``constant`` has no warm-up.
        "lr_scheduler_type": {"constant": "constant_with_warmup"}.get(options.schedule, options.schedule),
        "optim": "adamw_torch",
        "weight_decay": options.weight_decay,
        "max_grad_norm": options.max_grad_norm,
        "bf16": options.dtype == "bfloat16",
        "activation_checkpointing": options.gradient_checkpointing,
        # The reentrant kind loses the gradients of adapters, whose inputs have none.
        "activation_checkpointing_kwargs": {"use_reentrant": False} if options.gradient_checkpointing else None,
        "ddp_find_unused_parameters": False,
        "use_cpu": pick_device(options.device).type == "cpu",
        # NumPy takes 32 bits.
        "seed": seed % 2**31,
        "save_strategy": "no",  # harness.training.callbacks asks for checkpoints
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        # Our batches are no columns of a data set.
        "remove_unused_columns": False,
        "dataloader_pin_memory": False,
    }


def run(
    trainer: DistilTrainer, job: TrainingJob, out: Path, dropped: Mapping[str, int], scratch: Path | None = None
) -> TrainReport:
    """Train (from the checkpoint in ``scratch``, if there is one), save, report."""
    checkpoint = None if scratch is None else newest(scratch)
    if checkpoint is not None:
        restore(trainer, checkpoint, out / CURVE)
    before = len(trainer.curve)
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
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if trainer.accelerator.is_main_process:
        if job.adapter is None:
            save(job.student, job.tokenizer, out, state)
        else:
            save_merged(job, out, state)
    trainer.accelerator.wait_for_everyone()
    return TrainReport(
        steps=len(trainer.curve),
        prompts=len(job.examples),
        dropped=dict(dropped),
        tokens=trainer.tokens["all"],
        response_tokens=trainer.tokens["response"],
        first_loss=trainer.curve[0]["loss"],
        final_loss=trainer.curve[-1]["loss"],
        packing=job.layout.why,
        adapter=job.adapter,
        resumed_at=before,
        seconds=seconds,
        peak_memory=peak_memory(),
    )


def save_merged(job: TrainingJob, out: Path, state: Mapping[str, Any]) -> None:
    """One plain checkpoint, adapters merged, loaded again and compared with the adapted model; adapters beside it."""
    save(job.student, job.tokenizer, out, merged_weights(state, job.student))
    if job.options.lora is not None:
        save_adapter(state, job.student, job.options.lora, out / "adapter")
    whole = all(value.numel() for value in job.student.parameters())  # not split over processes
    if whole:
        saved = load_weights(out, job.tokenizer, torch.float32, job.options.trust_remote_code)
        check_merged(saved, job.student, len(job.tokenizer))


def peak_memory() -> int:
    """Bytes: the GPU's peak since it was last reset, or the largest resident set since the stage began."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return peak()
