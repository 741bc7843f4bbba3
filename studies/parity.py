"""How far our losses and gradients are from those of TRL, on the same batch, and over whole runs of 20 steps.

    python studies/parity.py --out studies/parity.json

Tiny random checkpoints in float32 on the CPU. TRL's own code runs on TRL's own batch layout; where its trainer needs a
dataset and a reward of its own to be built, only its loss function is called, as the table says. Everything under
``trl.experimental`` may change without notice. ``tests/methods/test_parity.py`` holds the same comparisons to bounds.
"""

from __future__ import annotations

import argparse
import importlib
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, TrainerCallback

from harness.checks.tiny_models import tiny_checkpoint, tiny_groups
from harness.contracts.method import DroppedPrompt
from harness.errors import UserError
from harness.models.chat import vocabulary_size
from harness.models.load import load_tokenizer, load_weights
from harness.training import Training, TrainOptions
from harness.training.batches import Example, micro_batch, prepare
from harness.training.fit import fit
from harness.training.forward import host, response_terms
from harness.training.stored_signals import reference_logps
from harness.training.trl_backend import fit_trl, make_trainer
from methods import METHODS

OPTIONS = TrainOptions(
    batch_size=8,
    micro_batch=8,
    learning_rate=1e-3,
    max_length=64,
    max_grad_norm=0.0,
    warmup_ratio=0.0,
)
Gradients = dict[str, Tensor]


@dataclass(frozen=True)
class Parity:
    """One comparison."""

    method: str
    options: str
    trl: str
    """What of TRL it is compared with."""
    loss: float
    """Ours."""
    loss_error: float
    """|ours - theirs|."""
    gradient_error: float
    """Largest over parameters of |ours - theirs| / |ours|, Euclidean norms."""


@dataclass(frozen=True)
class Bench:
    """Two checkpoints of one vocabulary, made in ``folder``: a student, and another as its teacher or reference."""

    folder: Path

    @property
    def student(self) -> Path:
        """The model that is trained."""
        return self.checkpoint("student", 0)

    @property
    def other(self) -> Path:
        """Teacher, or reference: not the student, so that no margin is 0."""
        return self.checkpoint("other", 1)

    def checkpoint(self, name: str, seed: int) -> Path:
        """A checkpoint, made when it is first asked for."""
        path = self.folder / name
        return path if path.exists() else tiny_checkpoint(path, seed=seed)

    def training(self, name: str, config: Any, count: int = 8) -> Training:
        """A run over made-up groups; ``reference``: log-probabilities under ``other``."""
        method = METHODS[name]
        result = Training(
            method,
            config,
            tiny_groups(count, n=4),
            self.student,
            OPTIONS,
            5,
            self.other,
            max_new_tokens=6,
            device="cpu",
        )
        if not method.needs.reference:
            return result
        return replace(result, reference=reference_logps(replace(result, student=self.other)))

    def model(self, path: Path) -> PreTrainedModel:
        """Loaded as our trainer loads it."""
        return host(load_weights(path, load_tokenizer(path), torch.float32))


def short_prompts(examples: Sequence[Example]) -> list[Example]:
    """Prompts cut to their first token, which no loss can train on (TRL's ORPO has the prompt in its cross-entropy)."""
    return [replace(example, prompt=example.prompt[:1]) for example in examples]


def ours(
    bench: Bench, training: Training, examples: Sequence[Example], trained_student: PreTrainedModel | None = None
) -> tuple[float, Gradients]:
    """Loss and gradients of one step over these examples, through the pieces of our trainer.

    ``trained_student``: the model that is to have the gradients, instead of a fresh one; of TRL's losses below as well.
    """
    method, tokenizer = training.method, load_tokenizer(training.student)
    student = trained_student or bench.model(bench.student)
    teacher = bench.model(bench.other).requires_grad_(False) if method.needs.signal == "token" else None
    micro = micro_batch(examples, 0, torch.device("cpu"))
    terms = response_terms(
        student, student, teacher, micro, method.token_terms, training.config, vocabulary_size(tokenizer)
    )
    batch = micro.batch
    counts = {"prompt": batch.prompts, "row": len(batch.roles), "token": len(batch.row)}
    counts |= {f"token:{role}": int(batch.where_role(role).sum()) for role in set(batch.roles)}
    loss_terms = method.loss(batch, terms, training.config).terms
    return finished(student, torch.stack([term.total / counts[term.per] for term in loss_terms]).sum())


def finished(student: PreTrainedModel, loss: Tensor) -> tuple[float, Gradients]:
    """Backward, and what it left."""
    loss.backward()
    parameters = student.named_parameters()
    return float(loss), {name: value.grad for name, value in parameters if value.grad is not None}


def padded(examples: Sequence[Example], row: int, keys: tuple[str, str, str]) -> dict[str, Tensor]:
    """TRL's layout of one row per prompt: ids, mask and labels (-100 outside the response), padded on the right."""
    rows = [(list(example.prompt), list(example.rows[row].response)) for example in examples]
    width = max(len(prompt) + len(response) for prompt, response in rows)

    def fill(lists: list[list[int]], value: int) -> Tensor:
        return torch.tensor([row + [value] * (width - len(row)) for row in lists])

    ids = fill([prompt + response for prompt, response in rows], 0)
    mask = fill([[1] * (len(prompt) + len(response)) for prompt, response in rows], 0)
    labels = fill([[-100] * len(prompt) + response for prompt, response in rows], -100)
    return dict(zip(keys, (ids, mask, labels), strict=True))


def pairs(examples: Sequence[Example]) -> dict[str, Tensor]:
    """TRL's layout of chosen and rejected rows."""
    batch: dict[str, Tensor] = {}
    for row, side in enumerate(("chosen", "rejected")):
        batch |= padded(examples, row, (f"{side}_input_ids", f"{side}_attention_mask", f"{side}_labels"))
    return batch


def bare_trainer(path: str, name: str, **attributes: Any) -> Any:
    """A trainer of TRL without its ``__init__`` (which wants datasets): its loss functions with these attributes."""
    kind = getattr(importlib.import_module(path), name)
    trainer = kind.__new__(kind)
    device = SimpleNamespace(device=torch.device("cpu"), gather_for_metrics=lambda value: value)
    vars(trainer).update(attributes, accelerator=device, is_encoder_decoder=False, aux_loss_enabled=False)
    return trainer


def trl_simpo(
    bench: Bench, training: Training, examples: Sequence[Example], trained_student: PreTrainedModel | None = None
) -> tuple[float, Gradients]:
    """CPOTrainer with ``loss_type="simpo"`` and ``cpo_alpha=0``."""
    config, student = training.config, trained_student or bench.model(bench.student)
    settings = {"loss_type": "simpo", "cpo_alpha": 0, "alpha": 0.0, "label_smoothing": 0.0, "pad_token_id": 0}
    gamma = config.beta * config.gamma_beta_ratio
    path = "trl.experimental.cpo.cpo_trainer"
    trainer = bare_trainer(path, "CPOTrainer", beta=config.beta, simpo_gamma=gamma, **settings)
    return finished(student, trainer.get_batch_loss_metrics(student, pairs(examples))[0])


def trl_orpo(
    bench: Bench, training: Training, examples: Sequence[Example], trained_student: PreTrainedModel | None = None
) -> tuple[float, Gradients]:
    """ORPOTrainer, on prompts of one token: TRL's cross-entropy covers the prompt."""
    student = trained_student or bench.model(bench.student)
    path = "trl.experimental.orpo.orpo_trainer"
    trainer = bare_trainer(path, "ORPOTrainer", beta=training.config.weight, padding_value=0)
    return finished(student, trainer.get_batch_loss_metrics(student, pairs(examples))[0])


def trl_gkd(
    bench: Bench, training: Training, examples: Sequence[Example], trained_student: PreTrainedModel | None = None
) -> tuple[float, Gradients]:
    """GKDTrainer's loss; it takes no temperature there, whatever its config says."""
    student, teacher = trained_student or bench.model(bench.student), bench.model(bench.other).requires_grad_(False)
    trainer = bare_trainer(
        "trl.experimental.gkd.gkd_trainer", "GKDTrainer", teacher_model=teacher, beta=training.config.beta
    )
    return finished(
        student, trainer.compute_loss(student, padded(examples, 0, ("input_ids", "attention_mask", "labels")))
    )


def trl_distillation(bench: Bench, training: Training, examples: Sequence[Example]) -> tuple[float, Gradients]:
    """The chunked divergence of the stable DistillationTrainer, on hidden states and heads."""
    divergence = importlib.import_module("trl.trainer.distillation_trainer")._chunked_divergence_loss
    student, teacher = bench.model(bench.student), bench.model(bench.other).requires_grad_(False)
    inputs = padded(examples, 0, ("input_ids", "attention_mask", "labels"))
    labels = inputs.pop("labels")
    states = [model.base_model(**inputs).last_hidden_state[:, :-1] for model in (student, teacher)]
    heads = [model.get_output_embeddings().weight for model in (student, teacher)]
    mask = (labels[:, 1:] != -100).long()
    beta, temperature = training.config.beta, training.config.temperature
    return finished(student, divergence(*states, *heads, mask, beta=beta, temperature=temperature)[0])


class _FirstGradients(TrainerCallback):
    """Keeps the gradients of the first step."""

    def __init__(self) -> None:
        self.gradients: Gradients = {}

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        parameters = kwargs["model"].named_parameters()
        self.gradients = {name: value.grad.clone() for name, value in parameters if value.grad is not None}


def trl_stable(bench: Bench, training: Training, examples: Sequence[Example]) -> tuple[float, Gradients]:
    """One step of the whole stable trainer (SFT, DPO), its reference exchanged for ``other``."""
    kind, student = training.method.trl, load_weights(training.student, load_tokenizer(training.student), torch.float32)
    if kind is None:
        raise UserError(f"{training.method.name} has no stable trainer in TRL")
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(training, kind, examples, student, Path(folder))
        if training.method.needs.reference:
            trainer.ref_model.load_state_dict(bench.model(bench.other).state_dict())
        first_gradients = _FirstGradients()
        trainer.add_callback(first_gradients)
        trainer.train()
    return trainer.state.log_history[0]["loss"], first_gradients.gradients


Theirs = Callable[[Bench, Training, Sequence[Example]], tuple[float, Gradients]]
CASES: dict[str, tuple[str, dict[str, Any], str, Theirs]] = {
    "sft": ("seqkd", {}, "SFTTrainer, one step", trl_stable),
    "best-of-n": ("best-of-n", {}, "SFTTrainer, one step", trl_stable),
    "dpo": ("dpo", {"beta": 0.1}, "DPOTrainer, one step", trl_stable),
    "ipo": ("ipo", {"beta": 0.1}, "DPOTrainer (ipo), one step", trl_stable),
    "simpo": ("simpo", {"beta": 10.0, "gamma_beta_ratio": 0.3}, "experimental CPOTrainer (simpo), its loss", trl_simpo),
    "orpo": ("orpo", {"weight": 0.1}, "experimental ORPOTrainer, its loss", trl_orpo),
    "gkd 0": ("gkd", {"beta": 0.0}, "experimental GKDTrainer, its loss", trl_gkd),
    "gkd 0.3": ("gkd", {"beta": 0.3}, "experimental GKDTrainer, its loss", trl_gkd),
    "gkd 1": ("gkd", {"beta": 1.0}, "experimental GKDTrainer, its loss", trl_gkd),
    "gkd stable": ("gkd", {"beta": 0.3, "temperature": 2.0}, "DistillationTrainer, its divergence", trl_distillation),
}
"""Name to (method, options, what of TRL, how). Whole runs of 20 steps: the methods with ``trl`` (``whole_run``)."""
LOSS_RUNS: dict[str, tuple[str, Callable[..., tuple[float, Gradients]]]] = {
    "simpo": ("simpo", trl_simpo),
    "orpo": ("orpo", trl_orpo),
    "gkd": ("gkd 0.3", trl_gkd),
}
"""Method to (case, TRL's loss) that is followed over 20 steps (``loss_run``). TRL's experimental trainers take texts
and tokenise them in their own way, so the trainers themselves cannot be given our rows."""


def compare(name: str, bench: Bench) -> Parity:
    """One case. Raises ImportError where the installed TRL lacks it."""
    method, options, trl, theirs = CASES[name]
    training = bench.training(method, METHODS[method].config(**options))
    examples, _ = prepare(training, load_tokenizer(training.student))
    if theirs is trl_orpo:
        examples = short_prompts(examples)
    loss, gradients = ours(bench, training, examples)
    trl_loss, trl_gradients = theirs(bench, training, examples)
    if gradients.keys() != trl_gradients.keys():
        raise ValueError(f"{name}: gradients of different parameters: {gradients.keys() ^ trl_gradients.keys()}")
    errors = [(gradients[key] - trl_gradients[key]).norm() / gradients[key].norm() for key in gradients]
    error = float(torch.stack(errors).max())  # a NaN would stay one
    return Parity(method, ", ".join(f"{k} = {v}" for k, v in options.items()), trl, loss, abs(loss - trl_loss), error)


@dataclass(frozen=True)
class WholeRun:
    """A whole run of 20 steps by both sides."""

    method: str
    how: str
    """What does TRL's side."""
    steps: int
    loss_error: float
    """Largest over steps of |ours - theirs|."""
    weight_error: float
    """Largest over all weights after the last step."""


def whole_run(name: str, bench: Bench) -> WholeRun:
    """20 steps of 8 prompts, the reference being the starting student, as in a table."""
    from safetensors.torch import load_file

    method = METHODS[name]
    options = replace(OPTIONS, epochs=2, micro_batch=4, max_grad_norm=1.0, warmup_ratio=0.1)
    groups = [group for group in tiny_groups(120) if not isinstance(method.rows(group, method.config()), DroppedPrompt)]
    training = Training(method, method.config(), groups[:80], bench.student, options, seed=5)
    if method.needs.reference:
        training = replace(training, reference=reference_logps(training))
    curves, weights = [], []
    for side, trainer in (("ours", fit), ("trl", fit_trl)):
        out = bench.folder / f"{name}-{side}"
        trainer(training, out)
        curves.append([json.loads(line)["loss"] for line in (out / "training.jsonl").read_text().splitlines()])
        weights.append(load_file(out / "model.safetensors"))
    losses = max(abs(mine - other) for mine, other in zip(*curves, strict=True))
    weight_error = max(float((weights[0][key] - weights[1][key]).abs().max()) for key in weights[0])
    return WholeRun(name, "its trainer", len(curves[0]), losses, weight_error)


def loss_run(name: str, bench: Bench) -> WholeRun:
    """20 steps of 8 prompts, two epochs: two students from the same weights, each trained by AdamW on the gradients of
    its own loss, ours or TRL's. GKD learns from golden answers here, the batches that both losses can have."""
    case, theirs = LOSS_RUNS[name]
    training = bench.training(name, METHODS[name].config(**CASES[case][1]), count=120)
    examples = prepare(training, load_tokenizer(training.student))[0][:80]
    examples = short_prompts(examples) if name == "orpo" else list(examples)
    sides = []
    for side in (ours, theirs):
        student, curve = bench.model(bench.student), []
        optimizer = torch.optim.AdamW(student.parameters(), lr=OPTIONS.learning_rate, weight_decay=0.0)
        for start in 2 * list(range(0, 80, 8)):
            optimizer.zero_grad()
            curve.append(side(bench, training, examples[start : start + 8], student)[0])
            optimizer.step()
        sides.append((curve, dict(student.named_parameters())))
    (curve, weights), (trl_curve, trl_weights) = sides
    losses = max(abs(mine - their) for mine, their in zip(curve, trl_curve, strict=True))
    weight_error = max(float((weights[key] - trl_weights[key]).detach().abs().max()) for key in weights)
    return WholeRun(name, "its loss", len(curve), losses, weight_error)


def lines(cases: Sequence[Parity], runs: Sequence[WholeRun]) -> Iterator[str]:
    """Both tables as Markdown."""
    yield "| method | options | compared with TRL's | loss | loss error | gradient error |"
    yield "|---|---|---|---|---|---|"
    for case in cases:
        errors = f"{case.loss_error:.1e} | {case.gradient_error:.1e}"
        yield f"| {case.method} | {case.options or 'defaults'} | {case.trl} | {case.loss:.4f} | {errors} |"
    yield ""
    yield "| method | TRL's side | steps | largest loss error | largest weight error |"
    yield "|---|---|---|---|---|"
    for run in runs:
        yield f"| {run.method} | {run.how} | {run.steps} | {run.loss_error:.1e} | {run.weight_error:.1e} |"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="Parity of our losses and gradients with TRL's.")
    parser.add_argument("--out", type=Path, help="JSON file for the numbers")
    out = parser.parse_args().out
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        cases = [compare(name, bench) for name in CASES]
        runs = [whole_run(name, bench) for name, method in METHODS.items() if method.trl]
        runs += [loss_run(name, bench) for name in LOSS_RUNS]
    print("\n".join(lines(cases, runs)))
    if out:
        versions = {name: importlib.import_module(name).__version__ for name in ("torch", "transformers", "trl")}
        results = {
            "versions": versions,
            "batch": [asdict(case) for case in cases],
            "runs": [asdict(run) for run in runs],
        }
        out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
