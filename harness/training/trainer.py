"""The trainer: transformers' ``Trainer`` with the loss of a ``Method`` and counts over the whole optimiser step.

It reads the method's contract and has no branch on a name. What differs from the parent: micro-batches come step by
step from a seeded sampler; live responses are drawn for a whole step; each term of a loss is divided by its count over
all micro-batches and processes, so no split of a batch changes loss or gradient; a loss that is not finite stops the
run and names the prompts.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from accelerate.utils import gather_object  # type: ignore[import-untyped]
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from harness.contracts.method import Loss, Method
from harness.errors import UserError
from harness.models.chat import pad_id
from harness.stats import seed_of
from harness.training.batches import Example, MicroBatch, Shuffled, describe, micro_batch
from harness.training.options import TrainOptions
from harness.training.packing import Layout
from harness.training.rollouts import Rollout, Speakers, answer, logps_of
from harness.training.stored_signals import StoredDistributions
from harness.training.token_terms import response_terms


@dataclass(frozen=True)
class TrainingJob:
    """What one training run is about."""

    method: Method
    config: Any
    examples: Sequence[Example]
    student: PreTrainedModel
    """Prepared by ``harness.training.student.host``."""
    teacher: PreTrainedModel | None
    """Frozen, for methods with ``signal="token"``."""
    tokenizer: PreTrainedTokenizerBase
    options: TrainOptions
    seed: int
    layout: Layout
    adapter: str | None = None
    """What ``add_adapters`` did, in words."""
    teacher_distributions: StoredDistributions | None = None
    """Teachers' stored distributions, instead of a live teacher."""


class _Examples(Dataset[tuple[Example, bool]]):
    """Index -> (example, whether it is a filler); fillers are written as ``-1 - index`` (``batches.Shuffled``)."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> tuple[Example, bool]:
        return (self.examples[index], False) if index >= 0 else (self.examples[-1 - index], True)


class _Loader(DataLoader[tuple[Example, bool]]):
    """Hands the epoch on to the sampler."""

    def set_epoch(self, epoch: int) -> None:
        sampler: Any = self.batch_sampler
        sampler.set_epoch(epoch)


@dataclass
class Tally:
    """Sums over one optimiser step, for the training curve."""

    terms: dict[str, Tensor] = field(default_factory=dict)
    logs: dict[str, Tensor] = field(default_factory=dict)
    ids: list[str] = field(default_factory=list)

    def add(self, into: dict[str, Tensor], name: str, value: Tensor) -> None:
        """Add a scalar to one of the two dicts."""
        value = value.detach().double()
        into[name] = into[name] + value if name in into else value


class DistilTrainer(Trainer):
    """See the module's docstring. ``curve``: one record per optimiser step done so far."""

    # The parent would divide by the accumulation steps; each term is divided by its own count already.
    loss_is_scaled_for_ga = True

    def __init__(self, job: TrainingJob, args: TrainingArguments) -> None:
        super().__init__(model=job.student, args=args, train_dataset=_Examples(job.examples))
        self.refuse_sharded_rollouts(job.method)
        self.remove_callback(PrinterCallback)
        self.job = job
        self.pad = pad_id(job.tokenizer)
        self.tally = Tally()
        self.curve: list[dict[str, Any]] = []
        self.tokens: Counter[str] = Counter()
        self.grad_norm = math.nan

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The recipe's schedule over this training, or over all k parts that share it, from where this one begins.

        All parts count as equally long: as many steps as this one.
        """
        number, parts = self.job.options.schedule_segment
        whole: Any = super().create_scheduler(parts * num_training_steps, optimizer)
        if parts > 1:
            # partial, not a lambda: a lambda would see the last rate of the loop only.
            rates: list[Callable[[int], float]] = [
                partial(_later, rate, number * num_training_steps) for rate in whole.lr_lambdas
            ]
            self.lr_scheduler = LambdaLR(whole.optimizer, rates)
        return self.lr_scheduler

    def refuse_sharded_rollouts(self, method: Method) -> None:
        """Live responses run the student outside the wrapper that gathers its shards, and end at different lengths."""
        deepspeed = self.accelerator.state.deepspeed_plugin
        if method.rollouts and (self.is_fsdp_enabled or (deepspeed is not None and deepspeed.zero_stage == 3)):
            raise UserError(
                f"{method.name} samples from the student while it trains, which cannot be done with sharded weights: "
                "use compute.launch = ddp or zero2."
            )

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Micro-batches of this process in the seeded order; nothing here is left to accelerate's sharding."""
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        sampler: Any = Shuffled(len(self.job.examples), self.job.options, self.job.seed, world, rank)
        dataset: Any = self.train_dataset
        return _Loader(dataset, batch_sampler=sampler, collate_fn=list)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """All micro-batches of one optimiser step, and the counts that divide its terms."""
        parts = [next(epoch_iterator) for _ in range(num_batches)]
        micros = self.roll_out(parts, device) if self.live() else self.read(parts, device)
        counts = self.count(micros)
        self.tally = Tally(ids=[prompt for micro in micros for prompt in micro.ids if not micro.filler])
        return [{"micro": micro} for micro in micros], counts

    def live(self) -> bool:
        """Whether the student answers in this step; every process and every restart draws the same."""
        rollouts, job = self.job.method.rollouts, self.job
        if rollouts is None:
            return False
        return random.Random(seed_of("live", job.seed, self.state.global_step)).random() < rollouts.share(job.config)

    def read(self, parts: Sequence[Sequence[tuple[Example, bool]]], device: torch.device) -> list[MicroBatch]:
        """Micro-batches of stored responses."""
        micros = []
        for part in parts:
            examples = [example for example, _ in part]
            micro = micro_batch(examples, self.pad, device, filler=part[0][1], packed=self.job.layout.packed)
            if self.job.teacher_distributions is not None:
                micro = replace(micro, teacher_distributions=self.job.teacher_distributions.of(examples, device))
            micros.append(micro)
        return micros

    def roll_out(self, parts: Sequence[Sequence[tuple[Example, bool]]], device: torch.device) -> list[MicroBatch]:
        """Micro-batches of live responses: drawn for the whole step, weighed once over all processes, then split."""
        rollouts, teacher, options = self.job.method.rollouts, self.job.teacher, self.job.options
        if rollouts is None or teacher is None:
            raise ValueError(f"{self.job.method.name}: rollouts need a method with rollouts and a teacher")
        temperature, mix = rollouts.sampling(self.job.config)
        tokenizer, limit = self.job.tokenizer, options.max_new_tokens
        scored = rollouts.weigh is not None
        speakers = Speakers(self.job.student, teacher, tokenizer, temperature, mix, limit, scored)
        # One draw for the whole step: weights that are normalised over it must not depend on the micro-batch size.
        with self.compute_loss_context_manager():  # the precision of training, so that the loss sees what was drawn
            drawn = answer([e for part in parts for e, _ in part], speakers, self.job.seed, self.state.global_step)
        fillers = [filler for part in parts for _, filler in part]
        # Fillers answer too, because their forward pass must run, but they must not weigh on the others.
        real = [pair for pair, filler in zip(drawn, fillers, strict=True) if not filler]
        weights = self.weigh(real, device)
        micros, start, taken = [], 0, 0
        for part in parts:
            examples = [example for example, _ in drawn[start : start + len(part)]]
            start += len(part)
            # ``weights`` hold the tokens of all real responses in a row: cut out those of this micro-batch.
            size = sum(len(row.response) for example in examples for row in example.rows)
            filler = part[0][1]
            tokens = {
                name: torch.zeros(size, device=device) if filler else values[taken : taken + size]
                for name, values in weights.items()
            }
            taken += 0 if filler else size
            micros.append(micro_batch(examples, self.pad, device, tokens, filler=filler))
        return micros

    def weigh(self, real: Sequence[tuple[Example, Rollout]], device: torch.device) -> dict[str, Tensor]:
        """``Rollouts.weigh`` over all processes' responses; this process's share of the result."""
        rollouts, everyone, before = self.job.method.rollouts, list(real), 0
        if rollouts is None or rollouts.weigh is None:
            return {}
        # Normalised over the step, so every process needs everybody's responses and keeps its own slice.
        own = sum(len(rollout.tokens) for _, rollout in real)
        if self.accelerator.num_processes > 1:
            shares = gather_object([list(real)])
            everyone = [pair for share in shares for pair in share]
            earlier = shares[: self.accelerator.process_index]
            before = sum(len(rollout.tokens) for share in earlier for _, rollout in share)
        batch = describe([example for example, _ in everyone], {}, device)
        weights = rollouts.weigh(batch, logps_of([rollout for _, rollout in everyone], device), self.job.config)
        return {name: values.detach()[before : before + own] for name, values in weights.items()}

    def count(self, micros: Sequence[MicroBatch]) -> dict[str, float]:
        """Unit to count over this step: prompts, rows, response tokens, and the last for each role."""
        counts: Counter[str] = Counter()
        for micro in micros:
            if micro.filler:
                continue
            lengths = micro.batch.lengths.tolist()
            counts["prompt"] += micro.batch.prompts
            counts["row"] += len(lengths)
            counts["token"] += sum(lengths)
            counts["all"] += micro.fed
            for role, length in zip(micro.batch.roles, lengths, strict=True):
                counts[f"token:{role}"] += length
        if self.accelerator.num_processes > 1:
            counts = sum((Counter(share) for share in gather_object([dict(counts)])), Counter())
        self.tokens.update(all=counts.pop("all"), response=counts["token"])
        return {name: float(count) for name, count in counts.items()}

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        """The step's loss as far as this micro-batch adds to it. ``num_items_in_batch``: what ``count`` gave."""
        job, micro, counts = self.job, inputs["micro"], num_items_in_batch
        terms = response_terms(
            model,
            job.student,
            job.teacher,
            micro,
            job.method.token_terms,
            job.config,
            len(job.tokenizer),
            job.options.chunk,
        )
        loss = job.method.loss(micro.batch, terms, job.config)
        for term in loss.terms:
            if term.per not in counts:
                units = ", ".join(counts)
                raise ValueError(f"{job.method.name}: term {term.name!r} is per {term.per!r}; this step has {units}")
        parts = {term.name: term.total / counts[term.per] for term in loss.terms}
        total = torch.stack([part.float() for part in parts.values()]).sum()
        if not bool(torch.isfinite(total)):
            raise self.not_finite("loss", micro.ids)
        if micro.filler:
            return total * 0.0  # not 0 itself: the backward pass must reach all parameters
        self.note(parts, loss, counts)
        # Wrappers average gradients over processes; the counts already are those of all processes.
        scaled: Tensor = total * self.accelerator.num_processes
        return scaled

    def note(self, parts: Mapping[str, Tensor], loss: Loss, counts: Mapping[str, float]) -> None:
        """Add this micro-batch to the step's record."""
        for name, value in parts.items():
            self.tally.add(self.tally.terms, name, value)
        for name, value in loss.logs.items():
            self.tally.add(self.tally.logs, name, value / counts["prompt"])

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """The parent's norm; one that is not finite stops the run before the optimiser spoils the weights."""
        parent: Any = super()
        norm = parent._get_grad_norm(model, grad_norm)
        self.grad_norm = float(norm)
        if not math.isfinite(self.grad_norm):
            raise self.not_finite("gradient", self.tally.ids)
        return norm

    def not_finite(self, what: str, ids: Sequence[str]) -> UserError:
        """The error for a NaN or infinity."""
        named = ", ".join(ids[:16]) + (f" and {len(ids) - 16} more" if len(ids) > 16 else "")
        return UserError(
            f"{self.job.method.name}: the {what} is not finite at step {self.state.global_step + 1}; prompts of the "
            f"batch: {named}. Look at these prompts' scores and texts, lower the learning rate, or train in float32."
        )

    def floating_point_ops(self, inputs: Any) -> int:
        return 0  # the parent would look for input ids in ``inputs``


def _later(rate: Callable[[int], float], steps: int, step: int) -> float:
    """A schedule that begins ``steps`` steps on."""
    return rate(step + steps)
