"""TRL's trainers as a second backend (``backend: trl``) and as a yardstick: the same rows, tokens, batches and order.

Two differences remain: TRL's DPO computes the reference itself, from the starting checkpoint in memory; and it averages
micro-batches with equal weight, so a last step of uneven ones weighs its prompts unevenly. One process, no resuming.
"""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from harness.contracts.method import Trl
from harness.errors import UserError
from harness.models.chat import pad_id
from harness.models.load import load_tokenizer, load_weights, pick_device
from harness.training.batches import Example, Order, prepare
from harness.training.fit import check_finite, peak_memory, place, training_arguments
from harness.training.options import CURVE, Progress, Training, TrainReport
from harness.training.student import save


def fit_trl(training: Training, out_dir: str | Path, progress: Progress | None = None) -> TrainReport:
    """Raises UserError where TRL has no loss for this method, or would train otherwise than the options say."""
    method, options, trust = training.method, training.options, training.trust_remote_code
    if method.trl is None:
        raise UserError(
            f"backend trl cannot train {method.name!r}: TRL's stable trainers have supervised fine-tuning and DPO "
            "alone (of the shipped methods: seqkd, best-of-n, dpo, ipo). Use the default backend for this method."
        )
    # A recipe that asks for these is refused as it is read; here a call from Python would train in silence otherwise.
    if options.lora is not None or options.packing == "always" or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(
            "backend trl trains all weights, on separate rows, in one process: set train.lora to null, "
            "train.packing to auto and compute.launch to null, or use the default backend."
        )
    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = load_tokenizer(training.student, trust)
    examples, dropped = prepare(training, tokenizer)
    student = load_weights(training.student, tokenizer, torch.float32, trust)
    trainer = make_trainer(training, method.trl, examples, student, out)
    trainer.add_callback(_Report(progress))
    start = time.perf_counter()
    with warnings.catch_warnings():
        # TRL 1.16 reads attributes that transformers 5.23 has renamed.
        warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*deprecated", category=FutureWarning)
        trainer.train()
    seconds = time.perf_counter() - start
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    check_finite(training.method.name, state)
    save(student, tokenizer, out, state)
    names = ("loss", "learning_rate", "grad_norm")
    curve = [
        {"step": entry["step"], **{name: float(entry[name]) for name in names if name in entry}}
        for entry in trainer.state.log_history
        if "loss" in entry  # the last entry sums up the run
    ]
    (out / CURVE).write_text("".join(json.dumps(record) + "\n" for record in curve), encoding="utf-8")
    rows = [(len(example.prompt), len(row.response)) for example in examples for row in example.rows]
    return TrainReport(
        steps=len(curve),
        prompts=len(examples),
        dropped=dict(dropped),
        foreign_rows=sum(row.is_foreign for example in examples for row in example.rows),
        tokens=options.epochs * sum(map(sum, rows)),
        response_tokens=options.epochs * sum(response for _, response in rows),
        first_loss=curve[0]["loss"],
        final_loss=curve[-1]["loss"],
        packing="separate rows: TRL's trainer",
        adapter=None,
        resumed_at=0,
        seconds=seconds,
        peak_memory=peak_memory(),
    )


def make_trainer(
    training: Training, kind: Trl, examples: Sequence[Example], student: PreTrainedModel, out: Path
) -> Any:
    options, trust = training.options, training.trust_remote_code
    tokenizer = load_tokenizer(training.student, trust)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(pad_id(tokenizer))
    arguments = training_arguments(training, out) | {
        "bf16": options.dtype == "bfloat16",
        "activation_checkpointing": options.gradient_checkpointing,  # on in TRL where nothing is said
        "gradient_accumulation_steps": options.batch_size // options.micro_batch,
        "logging_strategy": "steps",
        "logging_steps": 1,
        "max_length": options.max_length,
        **kind.arguments(training.config),
    }
    trainer: Any
    args: Any
    # TRL's tokenised forms of a prompt's rows: the one response with labels on itself, or chosen and rejected.
    tokens = [(list(example.prompt), [list(row.response) for row in example.rows]) for example in examples]
    if kind.trainer == "sft":
        args = SFTConfig(**arguments, dataset_kwargs={"skip_prepare_dataset": True})
        place(args, pick_device(training.device))
        rows = [{"input_ids": p + r[0], "labels": [-100] * len(p) + r[0]} for p, r in tokens]
        trainer = _Sft(student, args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
    else:
        args = DPOConfig(**arguments)
        place(args, pick_device(training.device))
        rows = [{"prompt_ids": p, "chosen_ids": r[0], "rejected_ids": r[1]} for p, r in tokens]
        reference = load_weights(training.student, tokenizer, torch.float32, trust).requires_grad_(False)
        trainer = _Dpo(student, reference, args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
    trainer.remove_callback(PrinterCallback)
    trainer.order = Order(len(examples), training.seed)
    return trainer


class _OurOrder:
    order: Order

    def _get_train_sampler(self, *args: object, **kwargs: object) -> Order:
        return self.order


class _Sft(_OurOrder, SFTTrainer): ...  # type: ignore[misc, unused-ignore]


class _Dpo(_OurOrder, DPOTrainer):  # type: ignore[misc, unused-ignore]
    def _prepare_dataset(self, dataset: Dataset, *args: object, **kwargs: object) -> Dataset:
        return dataset


class _Report(TrainerCallback):
    def __init__(self, progress: Progress | None) -> None:
        self.progress = progress

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        logs = kwargs.get("logs")
        if self.progress is not None and logs and "loss" in logs:
            self.progress(state.global_step, state.max_steps, {"loss": logs["loss"]})
