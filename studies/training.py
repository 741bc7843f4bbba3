"""Speed and memory of training, rewarding and sampling, as ratios measured side by side in one process.

    python studies/training.py --model HuggingFaceTB/SmolLM2-135M-Instruct --out training.json

Random tokens of fixed sizes go through a real model (its weights, its layers); variants of one row take turns, and the
smallest time of each counts (CPU time, or wall time on a GPU), because other work only ever adds to it. Peak memory is
that of a process of its own per variant, on a random-weight model with a large vocabulary. Times are printed too, but
only ratios mean much.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from transformers import PreTrainedModel, TrainerCallback

from harness.contracts.model import Sampling
from harness.errors import UserError
from harness.hardware import bfloat16_flags
from harness.models import load as loading
from harness.models.backends import LoadOptions, load_model
from harness.models.load import load_tokenizer
from harness.models.prefix_cache import Reader
from harness.models.transformers_model import TransformersModel
from harness.multiple_choice import LETTERS, mcq_messages
from harness.stages.kinds.reward import cyclic_orders
from harness.training import Training, TrainOptions
from harness.training.batches import Example, TokenRow
from harness.training.fit import make_trainer
from harness.training.forward import Layout, choose, gain, host
from harness.training.trainer import LoadedTraining
from harness.types import Response
from methods import METHODS

TARGETS = {
    "pad: packed over separate rows": 1.5,
    "pad: ours over TRL's DPO, per response": 1.8,
    "dpo: ours over TRL's": 1.4,
    "reward: shared over separate rows": 1.5,
    "peak memory: ours over TRL's": 0.7,
}

SECTIONS = ("products", "memory", "rewarding", "training", "live", "profile")
KINDS = {
    "matrix products": ("mm", "addmm", "bmm"),
    "attention": ("_scaled_dot_product",),
    "casts, copies and zeroed gradients": ("copy_", "fill_", "cat"),
}


@dataclass
class Sizes:
    """What is measured."""

    prompt: int = 160
    response: int = 96
    n: int = 4
    prompts: int = 2
    repeats: int = 3
    micro: int = 1


class Clock(TrainerCallback):
    """Seconds of the forward and backward passes of each step. The update is left out: its time knows no responses."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.start = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.start = seconds_now()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seconds.append(seconds_now() - self.start)


def seconds_now() -> float:
    """Seconds: of the wall, all queued work on a GPU done; without a GPU, of this process's CPU time."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def alternate(variants: dict[str, Callable[[], float]], repeats: int) -> dict[str, float]:
    """Name to the smallest time: one warm-up of each, then ``repeats`` rounds in which they take turns."""
    for run in variants.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(repeats):
        for name, run in variants.items():
            times[name].append(run())
            print(f"  {name}: {times[name][-1]:.2f} s", file=sys.stderr, flush=True)
    return {name: min(seconds) for name, seconds in times.items()}


def quietly(call: Callable[[], Any]) -> Any:
    """TRL announces and warns at every start."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call()


def lengths_near(size: int, count: int, rng: random.Random) -> list[int]:
    """``count`` lengths with mean ``size``, spread evenly over a fifth of it to both sides, in random order."""
    spread = [0.0] if count == 1 else [0.4 * number / (count - 1) - 0.2 for number in range(count)]
    return [round(size * (1 + part)) for part in rng.sample(spread, count)]


def examples(sizes: Sizes, vocabulary: int, roles: tuple[str, ...], seed: int = 0) -> list[Example]:
    """Prompts with responses of random tokens and random teacher scores."""
    rng = random.Random(seed)

    def ids(size: int) -> list[int]:
        return [rng.randrange(vocabulary // 2) for _ in range(size)]

    def row(role: str, size: int) -> TokenRow:
        return TokenRow(ids(size), role, {"score": -rng.random(), "reference": -400.0})

    result = []
    for i, prompt in enumerate(lengths_near(sizes.prompt, sizes.prompts, rng)):
        lengths = lengths_near(sizes.response, len(roles), rng)
        rows = tuple(row(role, size) for role, size in zip(roles, lengths, strict=True))
        result.append(Example(f"p{i}", i, ids(prompt), rows))
    return result


def options_of(sizes: Sizes, dtype: str) -> TrainOptions:
    """One optimiser step over all prompts."""
    return TrainOptions(
        batch_size=sizes.prompts, micro_batch=sizes.micro, dtype=dtype, max_length=4096, learning_rate=1e-7
    )  # type: ignore[arg-type]


class Trainers:
    """One model, and a step of training by each variant."""

    def __init__(self, model: str, sizes: Sizes, dtype: str, place: Path) -> None:
        self.path, self.sizes, self.place = model, sizes, place
        self.options = options_of(sizes, dtype)
        self.tokenizer = load_tokenizer(model)
        self.student = host(self.weights(), getattr(torch, dtype))
        self.teacher: PreTrainedModel | None = None

    def weights(self) -> PreTrainedModel:
        return loading.load_weights(self.path, self.tokenizer, torch.float32)

    def ours(self, method: str, n: int, packed: bool) -> Callable[[], float]:
        """Seconds of one step of our trainer."""
        roles = ("chosen", "rejected") if method == "dpo" else ("response",) * n
        batch = examples(self.sizes, len(self.tokenizer), roles)

        def run() -> float:
            entry = METHODS[method]
            options = replace(self.options, packing="always" if packed else "never")
            layout = choose(options, batch, [self.student], len(self.tokenizer))
            training = Training(entry, entry.config(), [], self.path, self.options)
            setup = LoadedTraining(training, batch, self.student, self.tokenizer, layout)
            trainer, clock = make_trainer(setup, self.place / "ours"), Clock()
            trainer.add_callback(clock)
            trainer.train()
            return clock.seconds[0]

        return run

    def live(self, method: str) -> Callable[[], dict[str, float]]:
        """Seconds of one step on live responses: to draw them, and of the passes over them; and their tokens. The model
        is its own teacher."""
        batch = examples(self.sizes, len(self.tokenizer), ())
        if self.teacher is None:
            self.teacher = self.weights().to(getattr(torch, self.options.dtype)).requires_grad_(False).eval()

        def run() -> dict[str, float]:
            entry, layout = METHODS[method], Layout(False, "live responses")
            config = entry.config(on_policy=1.0) if method == "gkd" else entry.config()
            training = Training(entry, config, [], self.path, self.options, max_new_tokens=self.sizes.response)
            setup = LoadedTraining(training, batch, self.student, self.tokenizer, layout, self.teacher)
            trainer, clock, drawing = make_trainer(setup, self.place / "live"), Clock(), []
            trainer.add_callback(clock)
            roll_out = trainer.roll_out

            def timed(*args: Any) -> Any:
                start = seconds_now()
                micros = roll_out(*args)
                drawing.append(seconds_now() - start)
                return micros

            trainer.roll_out = timed  # type: ignore[method-assign]
            trainer.train()
            return {
                "rollouts": drawing[0],
                "passes": clock.seconds[0],
                "share": drawing[0] / (drawing[0] + clock.seconds[0]),
                "tokens": float(trainer.tokens["response"]),
            }

        return run

    def trl(self) -> Callable[[], float]:
        """Seconds of one step of TRL's DPO trainer on the same sizes, its reference computed before."""
        from harness.training import trl_backend

        batch = examples(self.sizes, len(self.tokenizer), ("chosen", "rejected"))

        def run() -> float:
            # Fresh: a model that went through a trainer once gets no autocast from accelerate a second time, and ours
            # changes its attention.
            student = self.weights()
            method = METHODS["dpo"]
            training = Training(method, method.config(), [], self.path, self.options)
            if method.trl is None:
                raise UserError("dpo has no TRL trainer")
            kind = replace(method.trl, arguments=lambda config: {"beta": 0.1, "precompute_ref_log_probs": True})
            place = self.place / "trl"
            trainer = quietly(lambda: trl_backend.make_trainer(training, kind, batch, student, place))
            clock = Clock()
            trainer.add_callback(clock)
            quietly(trainer.train)
            return clock.seconds[0]

        return run


def training(model: str, sizes: Sizes, dtype: str) -> dict[str, Any]:
    """(a) packed against separate rows, (b) against TRL's DPO, (e) the share of the exact PPD loss."""
    with tempfile.TemporaryDirectory() as place:
        trainers = Trainers(model, sizes, dtype, Path(place))
        times = alternate(
            {
                "pad-ppd packed": trainers.ours("pad-ppd", sizes.n, packed=True),
                "pad-ppd separate": trainers.ours("pad-ppd", sizes.n, packed=False),
                "dpo packed": trainers.ours("dpo", 2, packed=True),
                "dpo TRL": trainers.trl(),
            },
            sizes.repeats,
        )
        batch = examples(sizes, len(trainers.tokenizer), ("response",) * sizes.n)
        estimate = gain(trainers.student, batch)
    step = times["pad-ppd packed"] / sizes.prompts
    losses = {n: loss_seconds(n) for n in (4, 8)}
    per_response = times["pad-ppd packed"] / sizes.n, times["dpo TRL"] / 2
    return {
        "seconds": times,
        "estimated gain": estimate,
        "pad: packed over separate rows": times["pad-ppd separate"] / times["pad-ppd packed"],
        "pad: ours over TRL's DPO, per response": per_response[1] / per_response[0],
        "dpo: ours over TRL's": times["dpo TRL"] / times["dpo packed"],
        "ppd loss, n=4: share of a step": losses[4] / step,
        "ppd loss, n=8: share of a step with n=4": losses[8] / step,
    }


def live(model: str, sizes: Sizes, dtype: str) -> dict[str, Any]:
    """(g) the share of a step with live responses that goes into drawing them: the round with the shortest step."""
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        trainers = Trainers(model, sizes, dtype, Path(place))
        for method in ("minillm", "gkd"):
            run = trainers.live(method)
            run()
            best = min((run() for _ in range(sizes.repeats)), key=lambda times: times["rollouts"] + times["passes"])
            results[f"{method}: one step"] = best
            results[f"{method}: rollouts' share of a step"] = best["share"]
    return results


def profile(model: str, sizes: Sizes, dtype: str) -> dict[str, float]:
    """(h) shares of a packed PAD-PPD step by kind of operation, the update of the weights left out."""
    with tempfile.TemporaryDirectory() as place:
        run = Trainers(model, sizes, dtype, Path(place)).ours("pad-ppd", sizes.n, packed=True)
        run()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
            run()
    events = profiler.events() or []
    start = min(event.time_range.start for event in events if "mm" in event.name)
    end = min(event.time_range.start for event in events if "linalg_vector_norm" in event.name)
    seconds = dict.fromkeys([*KINDS, "the rest"], 0.0)
    for event in events:
        if start <= event.time_range.start < end:
            name = event.name.removeprefix("aten::")
            kind = next((kind for kind, starts in KINDS.items() if name.startswith(starts)), "the rest")
            seconds[kind] += event.self_cpu_time_total
    return {f"{kind}: share of a step": part / sum(seconds.values()) for kind, part in seconds.items()}


def products() -> dict[str, float]:
    """(i) a layer's matrix product in both precisions (``ONEDNN_MAX_CPU_ISA`` hides instructions); AdamW in one call
    for all of its arithmetic, as we use it, against one operation after another."""

    def fastest(call: Callable[[], object]) -> float:
        times = []
        for _ in range(10):
            start = seconds_now()
            call()
            times.append(seconds_now() - start)
        return min(times)

    def product(dtype: torch.dtype) -> float:
        states, weight = torch.randn(352, 576, dtype=dtype), torch.randn(1536, 576, dtype=dtype)
        return fastest(lambda: torch.nn.functional.linear(states, weight))

    def update(fused: bool) -> float:
        weight = torch.nn.Parameter(torch.randn(1 << 24))
        weight.grad = torch.randn(1 << 24)
        return fastest(torch.optim.AdamW([weight], fused=fused).step)

    exact, short = product(torch.float32), product(torch.bfloat16)
    operations = 2 * 352 * 576 * 1536
    return {
        "float32: GFLOP/s": operations / exact / 1e9,
        "bfloat16: GFLOP/s": operations / short / 1e9,
        "products: bfloat16 over float32, speed": exact / short,
        "AdamW: one call over many, speed": update(False) / update(True),
    }


def loss_seconds(n: int) -> float:
    """Seconds of the exact JSD over the n! rankings of one prompt, forward and backward, as PPD computes it."""
    from methods import plackett_luce

    def run() -> float:
        rewards = torch.randn(1, n, requires_grad=True)
        start = seconds_now()
        plackett_luce.jsd(10 * torch.randn(1, n).double(), 10 * rewards.double()).sum().backward()
        return seconds_now() - start

    run()
    return min(run() for _ in range(10))


def texts(model: TransformersModel, size: int, rng: random.Random) -> str:
    """Text of about ``size`` tokens."""
    ids = [rng.randrange(1000, len(model.tokenizer) // 2) for _ in range(size)]
    return str(model.tokenizer.decode(ids))


def rewarding(model: TransformersModel, sizes: Sizes) -> dict[str, Any]:
    """(c) log-likelihoods and multiple-choice questions, prompts shared against rows of their own; (f) sampling."""
    rng = random.Random(0)
    lengths = lengths_near(sizes.prompt, sizes.prompts, rng)
    prompts = [[{"role": "user", "content": texts(model, size, rng)}] for size in lengths]
    answers = [[texts(model, size, rng) for size in lengths_near(sizes.response, sizes.n, rng)] for _ in prompts]
    conversations = [messages for messages in prompts for _ in range(sizes.n)]
    responses = [Response(text, True, sizes.response) for group in answers for text in group]
    questions = [
        mcq_messages(messages, [group[i] for i in order])
        for messages, group in zip(prompts, answers, strict=True)
        for order in cyclic_orders(sizes.n, random.Random(0))
    ]
    padding: dict[str, float] = {}
    tokens: dict[str, int] = {}

    def timer(name: str, sharing: bool, call: Callable[[], Any]) -> Callable[[], float]:
        def run() -> float:
            reader = model.reader = Reader(model.model, model.pad, model.batch_tokens, sharing)
            start = seconds_now()
            call()
            seconds = seconds_now() - start
            if reader.counts["positions"]:
                tokens[name] = reader.counts["positions"]
                padding[name] = 1 - reader.counts["tokens"] / tokens[name]
            return seconds

        return run

    calls: dict[str, Callable[[], Any]] = {
        "log-likelihood": lambda: model.mean_logps(conversations, responses),
        "questions": lambda: model.choice_logps(questions, LETTERS[: sizes.n]),
        "sampling 16 tokens": lambda: model.generate(prompts, Sampling(16, 1.0), seed=0, n=sizes.n),
    }
    variants = {
        f"{name} {'shared' if sharing else 'separate'}": timer(f"{name} {sharing}", sharing, call)
        for name, call in calls.items()
        for sharing in (True, False)
    }
    times = alternate(variants, sizes.repeats)
    total = {
        variant: times[f"log-likelihood {variant}"] + times[f"questions {variant}"]
        for variant in ("shared", "separate")
    }
    return {
        "seconds": times,
        "reward: shared over separate rows": total["separate"] / total["shared"],
        **{f"{name}: shared over separate": times[f"{name} separate"] / times[f"{name} shared"] for name in calls},
        "padding share": max(padding.values()),
        "tokens computed": tokens,
    }


def memory_child(side: str, place: Path, sizes: Sizes) -> None:
    """One training step of DPO in this process; prints bytes: before training, and at the peak."""
    trainers = Trainers(str(place), sizes, "float32", place / side)
    run = trainers.trl() if side == "trl" else trainers.ours("dpo", 2, packed=side == "packed")
    rss_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    run()
    print(json.dumps([rss_before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024]))


def memory(model: str, sizes: Sizes) -> dict[str, Any]:
    """(d) peak memory of a DPO step at a vocabulary of 151,936, against TRL's, equal responses."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    with tempfile.TemporaryDirectory() as folder:
        config = Qwen2Config(
            vocab_size=151_936,
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            tie_word_embeddings=True,
        )
        Qwen2ForCausalLM(config).save_pretrained(folder)
        wide_tokenizer(model, 151_936).save_pretrained(folder)
        peaks_by_side: dict[str, list[int]] = {}
        for side in ("packed", "separate", "trl"):
            line = [sys.executable, __file__, "--memory-child", side, folder, json.dumps(asdict(sizes))]
            out = subprocess.run(line, capture_output=True, text=True, check=True)  # noqa: S603, this file
            peaks_by_side[side] = json.loads(out.stdout.splitlines()[-1])
    peaks = {side: peak for side, (_, peak) in peaks_by_side.items()}
    step = {side: peak - rss_before for side, (rss_before, peak) in peaks_by_side.items()}
    return {
        "bytes before and at the peak": peaks_by_side,
        "peak memory: ours over TRL's": peaks["packed"] / peaks["trl"],
        "memory of the step alone: ours over TRL's": step["packed"] / step["trl"],
        "memory of the step alone, separate rows: ours over TRL's": step["separate"] / step["trl"],
    }


def wide_tokenizer(model: str, size: int) -> Any:
    """The model's tokenizer with unused tokens added up to ``size``: the head then has no columns of padding."""
    tokenizer = load_tokenizer(model)
    tokenizer.add_tokens([f"<unused{i}>" for i in range(size - len(tokenizer))])
    return tokenizer


def processor() -> str:
    """The CPU's name, and which matrix products in bfloat16 it has: on those the ratios depend."""
    flags = bfloat16_flags()
    text = "" if flags is None else Path("/proc/cpuinfo").read_text(encoding="utf-8")
    name = re.search(r"model name\s*: (.+)", text)
    return f"{name[1] if name else platform.processor() or 'cpu'} ({', '.join(flags or ['no bfloat16'])})"


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M-Instruct")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=list(SECTIONS[:-1]), choices=SECTIONS)
    for name, value in asdict(Sizes()).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--memory-child", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.memory_child:
        side, place, sizes = args.memory_child
        memory_child(side, Path(place), Sizes(**json.loads(sizes)))
        return
    sizes = Sizes(**{name: getattr(args, name) for name in asdict(Sizes())})
    results: dict[str, Any] = {
        "model": args.model,
        "dtype": args.dtype,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else processor(),
        "threads": args.threads,
        "sizes": asdict(sizes),
    }
    calls: dict[str, Callable[[], dict[str, Any]]] = {
        "products": products,
        "memory": lambda: memory(args.model, replace(sizes, prompts=2, micro=2)),
        "rewarding": lambda: rewarding(load_model(args.model, LoadOptions(dtype=args.dtype)), sizes),
        "training": lambda: training(args.model, sizes, args.dtype),
        "live": lambda: live(args.model, sizes, args.dtype),
        "profile": lambda: profile(args.model, sizes, args.dtype),
    }
    for section in args.only:
        results[section] = calls[section]()
    for section in SECTIONS:
        for name, value in results.get(section, {}).items():
            target = f"  (target {TARGETS[name]:g})" if name in TARGETS else ""
            if isinstance(value, float):
                print(f"{name:60s} {value:8.4g}{target}")
    if args.out:
        args.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
