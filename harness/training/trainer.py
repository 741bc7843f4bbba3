"""transformers' ``Trainer`` with the loss of a ``Method`` and counts over the whole optimiser step.

Each term is divided by its count over all micro-batches and processes, so no split of a batch changes loss or gradient;
a loss that is not finite stops the run and names the prompts.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypedDict

import torch
from accelerate.utils import gather_object
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from harness.errors import NOT_FINITE, UserError
from harness.models.chat import pad_id, vocabulary_size
from harness.stats import seed_of
from harness.training.batches import Example, MicroBatch, ShuffledBatches, describe, micro_batch
from harness.training.forward import Layout, autocast, response_terms
from harness.training.options import Training
from harness.training.rollouts import Rollout, Speakers, answer, logps_of
from harness.training.split_weights import embeddings_in_root, keep_head_gathered, refresh, splits_weights, whole_copy
from harness.training.stored_signals import StoredDistributions

MicroExamples = Sequence[tuple[Example, bool]]
"""Prompts of a micro-batch, and whether each is a filler (then it is the only one)."""


class StepRecord(TypedDict):
    step: int
    loss: float
    terms: Mapping[str, float]
    logs: Mapping[str, float]
    learning_rate: float
    grad_norm: float


@dataclass(frozen=True)
class LoadedTraining:
    """Rows as tokens, models in memory; ``student`` is prepared by ``forward.host``, ``teacher`` is frozen."""

    training: Training
    examples: Sequence[Example]
    student: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    layout: Layout
    teacher: PreTrainedModel | None = None
    adapter: str | None = None
    teacher_distributions: StoredDistributions | None = None
    dropped: Mapping[str, int] = field(default_factory=dict)


class DistilTrainer(Trainer):
    # The parent would divide by the accumulation steps; each term is divided by its own count already.
    loss_is_scaled_for_ga = True

    def __init__(self, setup: LoadedTraining, args: TrainingArguments) -> None:
        # Every prompt twice, the second time as a filler: index ``count + i`` of ``batches.ShuffledBatches``.
        dataset: Any = [(example, filler) for filler in (False, True) for example in setup.examples]
        super().__init__(model=setup.student, args=args, train_dataset=dataset)
        self.setup, self.training, self.method = setup, setup.training, setup.training.method
        # Live responses end at different lengths: gathering split weights at each token would not go round.
        is_split = self.method.rollouts is not None and splits_weights(self.accelerator)
        self.speaker = whole_copy(setup.student, args.device) if is_split else setup.student
        keep_head_gathered(self.accelerator, setup.student)
        self.remove_callback(PrinterCallback)
        self.pad = pad_id(setup.tokenizer)
        self.curve: list[StepRecord] = []
        self.tokens: Counter[str] = Counter()
        # Of the step that is under way: sums of terms and logs, and the prompts.
        self.terms: dict[str, Tensor] = {}
        self.logs: dict[str, Tensor] = {}
        self.prompts: list[str] = []
        self.grad_norm = math.nan

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        parent: Any = super()
        with embeddings_in_root(self.setup.student) if self.is_fsdp_enabled else nullcontext():
            return parent._prepare_for_training(*args, **kwargs)

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:
        """The recipe's schedule over all segments that share it (each as long as this one), from where this begins."""
        number, segments = self.training.schedule_segment
        if not 0 <= number < segments:
            raise ValueError(f"schedule_segment = ({number}, {segments}): must be (i, k) with 0 <= i < k")
        scheduler: Any = super().create_scheduler(segments * num_training_steps, optimizer)
        if segments > 1:
            # partial, not a lambda: a lambda would see the last rate of the loop only.
            start = number * num_training_steps
            rates: list[Callable[[int], float]] = [partial(_later, rate, start) for rate in scheduler.lr_lambdas]
            self.lr_scheduler = LambdaLR(scheduler.optimizer, rates)
        return self.lr_scheduler

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Micro-batches of this process in the seeded order, without accelerate's sharding."""
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        training = self.training
        sampler = ShuffledBatches(len(self.setup.examples), training.options, training.seed, world, rank)
        dataset: Any = self.train_dataset
        loader: Any = DataLoader(dataset, batch_sampler=sampler, collate_fn=list)
        # The parent tells the loader which epoch begins, and torch's own has nobody to pass it on to.
        loader.set_epoch = sampler.set_epoch
        return loader  # type: ignore[no-any-return]

    def get_batch_samples(
        self, epoch_iterator: Iterator[MicroExamples], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, MicroBatch]], Any]:
        micro_examples = [next(epoch_iterator) for _ in range(num_batches)]
        micros = (
            self.roll_out(micro_examples, device)
            if self.live()
            else [self.read(rows, device) for rows in micro_examples]
        )
        self.terms, self.logs = {}, {}
        self.prompts = [prompt for micro in micros for prompt in micro.ids if not micro.filler]
        return [{"micro": micro} for micro in micros], self.count(micros)

    def live(self) -> bool:
        rollouts, training = self.method.rollouts, self.training
        if rollouts is None:
            return False
        draw = random.Random(seed_of("live", training.seed, self.state.global_step)).random()
        return draw < rollouts.share(training.config)

    def read(self, micro_examples: MicroExamples, device: torch.device) -> MicroBatch:
        examples, stores = [example for example, _ in micro_examples], self.setup.teacher_distributions
        micro = self.setup.layout.batch(examples, self.pad, device, filler=micro_examples[0][1])
        return micro if stores is None else replace(micro, teacher_distributions=stores.of(examples, device))

    def roll_out(self, micro_batches: Sequence[MicroExamples], device: torch.device) -> list[MicroBatch]:
        rollouts, training, setup = self.method.rollouts, self.training, self.setup
        if rollouts is None or setup.teacher is None:
            raise ValueError(f"{self.method.name}: rollouts need a method with rollouts and a teacher")
        temperature, mix = rollouts.sampling(training.config)
        if self.speaker is not setup.student:
            refresh(self.speaker, setup.student)
        speakers = Speakers(
            self.speaker, setup.teacher, setup.tokenizer, temperature, mix, training.max_new_tokens,
            teacher_logps=rollouts.weigh is not None,
        )  # fmt: skip
        # One draw for the whole step: weights that are normalised over it must not depend on the micro-batch size. In
        # the precision of training, so that the loss sees what was drawn.
        with autocast(self.speaker, getattr(torch, training.options.dtype)):
            answers = answer(
                [e for examples in micro_batches for e, _ in examples], speakers, training.seed, self.state.global_step
            )
        pairs = iter(answers)
        micro_pairs = [(rows[0][1], [next(pairs) for _ in rows]) for rows in micro_batches]
        # Fillers answer too, because their forward pass must run, but they must not weigh on the others.
        weights = self.weigh([pair for filler, rows in micro_pairs if not filler for pair in rows], device)
        micros, start = [], 0
        for filler, rows in micro_pairs:
            # ``weights`` hold the tokens of all real responses in a row: cut out those of this micro-batch.
            size = sum(len(rollout.tokens) for _, rollout in rows)
            zeros, span = torch.zeros(size, device=device), slice(start, start + size)
            tokens = {name: zeros if filler else values[span] for name, values in weights.items()}
            start += 0 if filler else size
            micros.append(micro_batch([example for example, _ in rows], self.pad, device, tokens, filler=filler))
        return micros

    def weigh(self, own_pairs: Sequence[tuple[Example, Rollout]], device: torch.device) -> dict[str, Tensor]:
        """``Rollouts.weigh`` over all processes' responses; this process's share of the result."""
        rollouts = self.method.rollouts
        if rollouts is None or rollouts.weigh is None:
            return {}
        # Normalised over the step, so every process needs everybody's responses and keeps its own slice.
        shares: list[list[tuple[Example, Rollout]]] = gather_object([list(own_pairs)])
        all_pairs = [pair for share in shares for pair in share]
        first, size = (
            sum(len(rollout.tokens) for share in members for _, rollout in share)
            for members in (shares[: self.accelerator.process_index], [own_pairs])
        )
        batch = describe([example for example, _ in all_pairs], {}, device)
        logps = logps_of([rollout for _, rollout in all_pairs], device)
        weights = rollouts.weigh(batch, logps, self.training.config)
        return {name: values.detach()[first : first + size] for name, values in weights.items()}

    def count(self, micros: Sequence[MicroBatch]) -> dict[str, float]:
        """Unit to count over this step: prompts, rows, response tokens, and the last for each role."""
        counts: Counter[str] = Counter()
        for micro in micros:
            if micro.filler:
                continue
            lengths = micro.batch.lengths.tolist()
            counts.update(prompt=micro.batch.prompts, row=len(lengths), token=sum(lengths), all=micro.fed)
            for role, length in zip(micro.batch.roles, lengths, strict=True):
                counts[f"token:{role}"] += length
        totals: Counter[str] = Counter()
        for share in gather_object([dict(counts)]):
            totals.update(share)
        self.tokens.update(all=totals.pop("all"), response=totals["token"])
        return {name: float(total) for name, total in totals.items()}

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        setup, training, method = self.setup, self.training, self.method
        micro: MicroBatch = inputs["micro"]
        counts: Mapping[str, float] = num_items_in_batch
        vocabulary = vocabulary_size(setup.tokenizer)
        terms = response_terms(
            model, setup.student, setup.teacher, micro, method.token_terms, training.config, vocabulary
        )
        loss = method.loss(micro.batch, terms, training.config)
        for term in loss.terms:
            if term.per not in counts:
                units = ", ".join(counts)
                raise ValueError(f"{method.name}: term {term.name!r} is per {term.per!r}; this step has {units}")
        term_values = {term.name: term.total / counts[term.per] for term in loss.terms}
        total = torch.stack([part.float() for part in term_values.values()]).sum()
        if not bool(torch.isfinite(total)):
            raise self.not_finite("loss", micro.ids)
        if micro.filler:
            return total * 0.0  # not 0 itself: the backward pass must reach all parameters
        logs = {name: value / counts["prompt"] for name, value in loss.logs.items()}
        for sums, values in ((self.terms, term_values), (self.logs, logs)):
            for name, value in values.items():
                # In float64, so that the curve does not depend on how many micro-batches it is summed over.
                scalar = value.detach().double()
                sums[name] = sums[name] + scalar if name in sums else scalar
        # Wrappers average gradients over processes; the counts already are those of all processes.
        loss_of_step: Tensor = total * self.accelerator.num_processes
        return loss_of_step

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        parent: Any = super()
        norm = parent._get_grad_norm(model, grad_norm)
        self.grad_norm = float(norm)
        if not math.isfinite(self.grad_norm):  # stops before the optimiser spoils the weights
            raise self.not_finite("gradient", self.prompts)
        return norm

    def not_finite(self, quantity: str, ids: Sequence[str]) -> UserError:
        names = ", ".join(ids[:16]) + (f" and {len(ids) - 16} more" if len(ids) > 16 else "")
        return UserError(
            f"{self.method.name}: the {quantity} is {NOT_FINITE} at step {self.state.global_step + 1}; prompts of the "
            f"batch: {names}. Look at these prompts' scores and texts, lower the learning rate, or train in float32."
        )

    def floating_point_ops(self, inputs: object) -> int:
        return 0  # the parent would look for input ids in ``inputs``


def _later(rate: Callable[[int], float], start: int, step: int) -> float:
    return rate(start + step)
