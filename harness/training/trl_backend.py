"""TRL's stable trainers as a second backend (``backend: trl``) and as a yardstick for ours.

The same rows, tokens, batches, order and hyperparameters go to ``trl.SFTTrainer`` or ``trl.DPOTrainer``; what a method
becomes there it says itself (``Method.trl``). Two differences cannot be removed: TRL's DPO computes the reference
log-probabilities itself, from the starting checkpoint held in memory; and it averages micro-batches of a step with
equal weight, so a last step whose micro-batches differ in size weighs its prompts unevenly (ours does not). It trains
in one process, on separate rows, all weights, and a run that is killed starts again.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedModel, TrainerCallback
from transformers.trainer_callback import PrinterCallback
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from harness.contracts.method import Trl
from harness.errors import UserError
from harness.models.chat import pad_id
from harness.models.load import load_tokenizer, load_weights, pick_device
from harness.training.batches import Example, Shuffled, prepare
from harness.training.callbacks import CURVE
from harness.training.fit import peak_memory, place, training_arguments
from harness.training.options import Progress, Training, TrainOptions, TrainReport
from harness.training.student import save


def fit_trl(training: Training, out_dir: str | Path, progress: Progress | None = None) -> TrainReport:
    """Like ``fit``, through TRL: the same checkpoint files, the same curve (without terms).

    Raises:
        UserError: TRL's stable trainers have no loss for this method, the micro-batch does not divide the batch, or
            the options ask for what TRL is not given here (several processes, packing, adapters).
    """
    kind = translation(training)
    out, options = Path(out_dir), training.options
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = load_tokenizer(training.student, training.options.trust_remote_code)
    examples, dropped = prepare(training, tokenizer)
    student = load_weights(training.student, tokenizer, torch.float32, options.trust_remote_code)
    trainer = make_trainer(training, kind, examples, student, out)
    trainer.add_callback(_Report(progress))
    start = time.perf_counter()
    with warnings.catch_warnings():
        # TRL 1.16 reads attributes that transformers 5.23 has renamed.
        warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*deprecated", category=FutureWarning)
        trainer.train()
    seconds = time.perf_counter() - start
    save(student, tokenizer, out, trainer.accelerator.get_state_dict(trainer.model_wrapped))
    curve = read_curve(trainer.state.log_history)
    (out / CURVE).write_text("".join(json.dumps(record) + "\n" for record in curve), encoding="utf-8")
    rows = [(len(example.prompt), len(row.response)) for example in examples for row in example.rows]
    return TrainReport(
        steps=len(curve),
        prompts=len(examples),
        dropped=dict(dropped),
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


def translation(training: Training) -> Trl:
    """What the method becomes in TRL. Raises UserError for what this backend cannot do."""
    method, options = training.method, training.options
    if method.trl is None:
        raise UserError(
            f"backend trl cannot train {method.name!r}: TRL's stable trainers have supervised fine-tuning and DPO "
            "alone (of the shipped methods: seqkd, best-of-n, dpo, ipo). Use the default backend for this method."
        )
    if options.lora is not None:
        raise UserError("backend trl trains all weights here; for train.lora use the default backend.")
    if options.packing == "always":
        raise UserError("backend trl trains on separate rows; for train.packing = always use the default backend.")
    return method.trl


def make_trainer(
    training: Training, kind: Trl, examples: Sequence[Example], student: PreTrainedModel, out: Path
) -> Any:
    """TRL's trainer on our tokens, in our order."""
    options = training.options
    tokenizer = load_tokenizer(training.student, training.options.trust_remote_code)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(pad_id(tokenizer))
    arguments = training_arguments(options, out, training.seed) | {
        "gradient_accumulation_steps": options.batch_size // options.micro_batch,
        "logging_strategy": "steps",
        "logging_steps": 1,
        "max_length": options.max_length,
        **kind.arguments(training.config),
    }
    trainer: Any
    args: Any
    if kind.trainer == "sft":
        args = one_process(SFTConfig(**arguments, dataset_kwargs={"skip_prepare_dataset": True}), options)
        trainer = _Sft(student, args, train_dataset=sft_dataset(examples), processing_class=tokenizer)
    else:
        args = one_process(DPOConfig(**arguments), options)
        reference = load_weights(training.student, tokenizer, torch.float32, options.trust_remote_code).requires_grad_(
            False
        )
        trainer = _Dpo(student, reference, args, train_dataset=dpo_dataset(examples), processing_class=tokenizer)
    trainer.remove_callback(PrinterCallback)
    trainer.order = _Order(Shuffled(len(examples), options, training.seed))
    return trainer


def one_process(args: Any, options: TrainOptions) -> Any:
    """The arguments, on the recipe's device and one GPU at most: every process and GPU would multiply TRL's batch.

    Raises:
        UserError: this is one of several processes.
    """
    if args.world_size > 1:
        raise UserError(
            f"backend trl trains in one process, this is one of {args.world_size}: its batch would be as many times "
            "too large. Leave compute.launch at null, or use the default backend."
        )
    args._n_gpu = min(1, args.n_gpu)
    place(args, pick_device(options.device))
    return args


def sft_dataset(examples: Sequence[Example]) -> Dataset:
    """TRL's tokenised form: the one row of a prompt, with labels on the response alone."""
    rows = [(list(example.prompt), list(example.rows[0].response)) for example in examples]
    return Dataset.from_list(
        [{"input_ids": prompt + response, "labels": [-100] * len(prompt) + response} for prompt, response in rows]
    )


def dpo_dataset(examples: Sequence[Example]) -> Dataset:
    """TRL's tokenised form: prompt, chosen, rejected."""
    return Dataset.from_list(
        [
            {
                "prompt_ids": list(example.prompt),
                "chosen_ids": list(example.rows[0].response),
                "rejected_ids": list(example.rows[1].response),
            }
            for example in examples
        ]
    )


class _Order(torch.utils.data.Sampler[int]):
    """The prompts in the order in which our own trainer takes them."""

    def __init__(self, shuffled: Shuffled) -> None:
        self.shuffled = shuffled

    def set_epoch(self, epoch: int) -> None:
        self.shuffled.set_epoch(epoch)

    def __len__(self) -> int:
        return self.shuffled.count

    def __iter__(self) -> Iterator[int]:
        return iter(self.shuffled.order())


class _Sft(SFTTrainer):  # type: ignore[misc, unused-ignore]
    order: _Order

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> _Order:
        return self.order


class _Dpo(DPOTrainer):  # type: ignore[misc, unused-ignore]
    order: _Order

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> _Order:
        return self.order

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        """The rows are tokens already, tokenised exactly as for our own trainer."""
        return dataset


class _Report(TrainerCallback):
    """Hands TRL's log of each step on to the progress callback."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress = progress

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        logs = kwargs.get("logs")
        if self.progress is not None and logs and "loss" in logs:
            self.progress(state.global_step, state.max_steps, {"loss": logs["loss"]})


def read_curve(history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """TRL's log as lines of ``training.jsonl``."""
    keep = ("loss", "learning_rate", "grad_norm")
    return [
        {"step": entry["step"], **{name: float(entry[name]) for name in keep if name in entry}}
        for entry in history
        if "loss" in entry
    ]
