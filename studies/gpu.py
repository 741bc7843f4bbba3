"""What only a GPU can show, in eight minutes on one: packing, memory, rewards, vLLM, FSDP2, kill and resume.

    python -m studies.gpu --out gpu.json          # on a GPU; the table is printed, and lies beside it as gpu.md
    python -m studies.gpu --small --out gpu.json  # on a CPU, on tiny models: that it works

Models have random weights, so nothing is downloaded. Each part is a process of its own with a time limit: one that
fails or lasts too long is reported, and the others go on. Variants take turns; the smallest time counts.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib.util
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from harness.checks.tiny_models import SPECIAL, tiny_tokenizer
from harness.contracts.model import Sampling
from harness.models.prefix_cache import Reader
from harness.models.transformers_model import TransformersModel
from harness.multiple_choice import LETTERS, mcq_messages
from harness.stages.kinds.reward import cyclic_orders
from harness.training import Training, TrainOptions, fit
from harness.training.batches import Example, TokenRow
from harness.training.forward import Layout, host
from harness.training.launch import command
from harness.training.trainer import LoadedTraining
from harness.types import Response
from methods import METHODS

TOTAL = 480.0
"""Seconds for all parts."""


@dataclass(frozen=True)
class Shape:
    """A Qwen2 model, its embedding tied to its head."""

    hidden: int
    layers: int
    heads: int
    pairs: int
    """Heads of keys and values."""
    inner: int
    vocabulary: int = 151_936

    def make(self, dtype: torch.dtype, attention: str = "sdpa") -> Any:
        config = Qwen2Config(
            vocab_size=self.vocabulary,
            hidden_size=self.hidden,
            intermediate_size=self.inner,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.pairs,
            tie_word_embeddings=True,
            attn_implementation=attention,
            eos_token_id=SPECIAL.index("<|end|>"),
            bos_token_id=None,
            pad_token_id=0,
        )
        torch.manual_seed(0)
        with torch.device(DEVICE):
            model: Any = Qwen2ForCausalLM(config).to(dtype)
        model.distilbench_unused, model.distilbench_config = (), config
        return model

    def tokenizer(self) -> Any:
        numbers = range(self.vocabulary - len(SPECIAL) - len(LETTERS))
        return tiny_tokenizer((*LETTERS, *(f"w{number}" for number in numbers)))


@dataclass(frozen=True)
class Work:
    """Sizes of everything: tokens of a prompt and of a response, n responses, prompts per step."""

    shapes: Mapping[str, Shape]
    prompt: int = 512
    response: int = 384
    n: int = 4
    prompts: int = 4
    repeats: int = 3
    batch_tokens: int = 65_536
    write: int = 128

    @property
    def smallest(self) -> Shape:
        return next(iter(self.shapes.values()))


DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
REAL = Work(
    {
        "0.5B": Shape(896, 24, 14, 2, 4864),
        "1.5B": Shape(1536, 28, 12, 2, 8960),
        "2B": Shape(2048, 24, 16, 2, 11_008),
    }
)
SMALL = Work({"tiny": Shape(32, 2, 2, 1, 64, 300)}, 24, 12, 2, 2, 1, 512, 4)


def seconds_of(call: Callable[[], object]) -> float:
    """Seconds of the wall, with all queued work of a GPU done."""
    synchronize = torch.cuda.synchronize if DEVICE.type == "cuda" else lambda: None
    synchronize()
    start = time.perf_counter()
    call()
    synchronize()
    return time.perf_counter() - start


def alternate(variants: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Name to the smallest of ``repeats`` times, after one warm-up of each; variants take turns."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(repeats + 1):
        for name, call in variants.items():
            seconds = seconds_of(call)
            if turn:
                times[name].append(seconds)
    return {name: min(values) for name, values in times.items()}


def peak_gib(call: Callable[[], object]) -> float | None:
    """GPU memory at the peak of a call, what is there before it included."""
    if DEVICE.type != "cuda":
        return None
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    call()
    return torch.cuda.max_memory_allocated() / 2**30


def examples(work: Work, shape: Shape, roles: Sequence[str], count: int) -> list[Example]:
    """Random tokens, lengths spread by a fifth to both sides."""
    rng = random.Random(0)

    def ids(size: int) -> list[int]:
        return [rng.randrange(len(SPECIAL), shape.vocabulary) for _ in range(round(size * rng.uniform(0.8, 1.2)))]

    def row(role: str) -> TokenRow:
        return TokenRow(ids(work.response), role, {"score": -rng.random(), "reference": -9.0 * work.response})

    return [Example(f"p{i}", i, ids(work.prompt), tuple(map(row, roles))) for i in range(count)]


def trainer_of(
    method: str, model: Any, tokenizer: Any, rows: Sequence[Example], work: Work, place: Path, **settings: Any
) -> Any:
    """Our trainer over these examples; ``settings``: of ``TrainOptions``, and ``packed``, ``scratch``, ``progress``."""
    packed, scratch, progress = (settings.pop(name, None) for name in ("packed", "scratch", "progress"))
    entry = METHODS[method]
    options = TrainOptions(
        **{
            "batch_size": work.prompts,
            "micro_batch": 1,
            "dtype": "bfloat16",
            "learning_rate": 1e-5,
            "warmup_ratio": 0.0,
        }
        | settings
    )
    device = "auto" if DEVICE.type == "cuda" else "cpu"
    training = Training(entry, entry.config(), [], "random weights", options, device=device)
    layout = Layout(bool(packed), "chosen by the study")
    return fit.make_trainer(LoadedTraining(training, rows, model, tokenizer, layout), place, progress, scratch)


def step(trainer: Any, rows: Sequence[Example]) -> None:
    """Forward and backward of one optimiser step, a prompt at a time."""
    model = trainer.model.to(DEVICE).train()
    micros = [trainer.read([(example, False)], DEVICE) for example in rows]
    counts = trainer.count(micros)
    for micro in micros:
        trainer.compute_loss(model, {"micro": micro}, num_items_in_batch=counts).backward()
    model.zero_grad()


def part_training(work: Work, size: str, place: Path) -> dict[str, Any]:
    """Packed rows against separate ones: seconds and peak memory of a step, forward and backward."""
    shape = work.shapes[size]
    model = host(shape.make(torch.float32), torch.bfloat16)
    tokenizer, result = shape.tokenizer(), {"parameters": model.num_parameters()}
    for method, roles in (("pad-ppd", ["response"] * work.n), ("dpo", ["chosen", "rejected"])):
        rows = examples(work, shape, roles, work.prompts)
        calls = {}
        for name, packed in (("packed", True), ("separate", False)):
            trainer = trainer_of(method, model, tokenizer, rows, work, place, packed=packed)
            calls[name] = lambda trainer=trainer, rows=rows: step(trainer, rows)
        times = alternate(calls, work.repeats)
        peaks = {name: peak_gib(call) for name, call in calls.items()}
        tokens = sum(len(e.prompt) + len(row.response) for e in rows for row in e.rows)
        result |= {
            f"{method}: packed over separate rows, speed": times["separate"] / times["packed"],
            f"{method}: tokens of responses and their prompts per second, packed": tokens / times["packed"],
            f"{method}: seconds of a step": times,
        }
        if peaks["packed"] and peaks["separate"]:
            result |= {
                f"{method}: peak memory, packed over separate": peaks["packed"] / peaks["separate"],
                f"{method}: peak GiB": peaks,
            }
    return result


def part_attention(work: Work, place: Path) -> dict[str, Any]:
    """Kernels of attention over one packed prompt: a dense mask, flex attention's block mask; flash over the rows."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    from harness.training.batches import packed_inputs

    shape = work.smallest
    (example,) = examples(work, shape, ["response"] * work.n, 1)
    inputs, _ = packed_inputs([example], 0, DEVICE)
    mask, length = inputs["attention_mask"], inputs["input_ids"].shape[1]
    width = shape.hidden // shape.heads
    dtype = torch.bfloat16 if DEVICE.type == "cuda" else torch.float32
    packed = [torch.randn(1, shape.heads, length, width, device=DEVICE, dtype=dtype) for _ in range(3)]
    rows = len(example.prompt) + max(len(row.response) for row in example.rows)
    separate = [torch.randn(work.n, shape.heads, rows, width, device=DEVICE, dtype=dtype) for _ in range(3)]
    sdpa = torch.nn.functional.scaled_dot_product_attention
    calls: dict[str, Callable[[], object]] = {
        "packed, sdpa with a dense mask": lambda: with_backward(lambda q, k, v: sdpa(q, k, v, attn_mask=mask), packed),
        "separate rows, sdpa causal": lambda: with_backward(lambda q, k, v: sdpa(q, k, v, is_causal=True), separate),
    }
    if DEVICE.type == "cuda":
        allowed = mask[0, 0]
        block = create_block_mask(lambda b, h, q, k: allowed[q, k], None, None, length, length, device="cuda")
        flex: Any = torch.compile(flex_attention)
        calls["packed, flex attention"] = lambda: with_backward(lambda q, k, v: flex(q, k, v, block_mask=block), packed)
    if importlib.util.find_spec("flash_attn") is not None and DEVICE.type == "cuda":
        from flash_attn import flash_attn_func

        turned = [value.transpose(1, 2).contiguous() for value in separate]
        calls["separate rows, flash attention"] = lambda: with_backward(
            lambda q, k, v: flash_attn_func(q, k, v, causal=True), turned
        )
    times = alternate(calls, max(5, work.repeats))
    base = times["packed, sdpa with a dense mask"]
    return {
        "milliseconds": {name: 1000 * seconds for name, seconds in times.items()},
        **{f"{name}: speed over the dense mask": base / seconds for name, seconds in times.items()},
    }


def with_backward(attend: Callable[..., Any], values: Sequence[Any]) -> None:
    leaves = [value.detach().requires_grad_() for value in values]
    attend(*leaves).sum().backward()


def part_rewards(work: Work, place: Path) -> dict[str, Any]:
    """The reward stage: log-likelihoods and questions, prefixes shared against rows of their own."""
    shape = work.smallest
    dtype = torch.bfloat16 if DEVICE.type == "cuda" else torch.float32
    tokenizer, rng = shape.tokenizer(), random.Random(0)
    model = TransformersModel("random", shape.make(dtype).train(False), tokenizer, work.batch_tokens)

    def words(size: int) -> str:
        return " ".join(f"w{rng.randrange(shape.vocabulary // 2)}" for _ in range(size))

    prompts = [[{"role": "user", "content": words(work.prompt)}] for _ in range(4 * work.prompts)]
    answers = [[words(work.response) for _ in range(work.n)] for _ in prompts]
    conversations = [messages for messages in prompts for _ in range(work.n)]
    responses = [Response(text, True, work.response) for group in answers for text in group]
    questions = [
        mcq_messages(messages, [group[i] for i in order])
        for messages, group in zip(prompts, answers, strict=True)
        for order in cyclic_orders(work.n, random.Random(0))
    ]

    def read(sharing: bool) -> None:
        model.reader = Reader(model.model, model.pad, model.batch_tokens, sharing)
        model.mean_logps(conversations, responses)
        model.choice_logps(questions, LETTERS[: work.n])

    times = alternate({"shared": lambda: read(True), "separate": lambda: read(False)}, work.repeats)
    return {
        "reward stage: shared over separate prefixes, speed": times["separate"] / times["shared"],
        "prompts per second, shared": len(prompts) / times["shared"],
        "seconds": times,
    }


def part_writing(work: Work, place: Path) -> dict[str, Any]:
    """Tokens per second of ``generate`` as the stages call it, and of vLLM on the same checkpoint where it is there."""
    shape = work.smallest
    dtype = torch.bfloat16 if DEVICE.type == "cuda" else torch.float32
    tokenizer, module = shape.tokenizer(), shape.make(dtype).train(False)
    module.generation_config.eos_token_id = None  # all write to the end
    prompts, rng = 16 * work.prompts, random.Random(0)
    ids = [[rng.randrange(len(SPECIAL), shape.vocabulary) for _ in range(work.prompt)] for _ in range(prompts)]
    tokens = prompts * work.n * work.write
    draw = TransformersModel("random", module, tokenizer, work.batch_tokens).draw
    seconds = alternate({"generate": partial(draw, ids, Sampling(work.write, 1.0), 0, work.n)}, 1)["generate"]
    result: dict[str, Any] = {"generate: tokens per second": tokens / seconds}
    if importlib.util.find_spec("vllm") is None:
        return {**result, "vLLM": "not installed"}
    module.save_pretrained(place / "model")
    tokenizer.save_pretrained(place / "model")
    del draw, module
    gc.collect()
    torch.cuda.empty_cache()
    from vllm import LLM, SamplingParams

    engine = LLM(str(place / "model"), gpu_memory_utilization=0.5, max_model_len=work.prompt + work.write)
    sampling = SamplingParams(n=work.n, max_tokens=work.write, temperature=1.0, ignore_eos=True)
    texts = [{"prompt_token_ids": prompt} for prompt in ids]
    seconds = alternate({"vllm": lambda: engine.generate(texts, sampling, use_tqdm=False)}, 1)["vllm"]
    speed = tokens / seconds
    return {
        **result,
        "vLLM: tokens per second": speed,
        "vLLM over generate, speed": speed / result["generate: tokens per second"],
    }


def few_steps(work: Work, place: Path, name: str, **settings: Any) -> dict[str, Any]:
    """Four steps of KD's gold-free neighbour (best-of-n) by our trainer: the curve, seconds and peak memory."""
    shape = work.smallest
    rows = examples(work, shape, ["response"], 4 * work.prompts)
    model = host(shape.make(torch.float32), torch.bfloat16)
    trainer = trainer_of("best-of-n", model, shape.tokenizer(), rows, work, place / name, **settings)
    report = fit.run(trainer, place / name, settings.get("scratch"))
    return {
        "losses": [record["loss"] for record in trainer.curve],
        "norms": [record["grad_norm"] for record in trainer.curve],
        "steps": report.steps,
        "resumed_at": report.resumed_at,
        "seconds": report.seconds,
        "peak GiB": report.peak_memory / 2**30,
    }


def part_fsdp2(work: Work, place: Path) -> dict[str, Any]:
    """Four steps under ``compute.launch=fsdp2`` on one GPU (one process on a CPU), against four without."""
    plain = few_steps(work, place, "plain")
    gc.collect()
    if DEVICE.type == "cuda":
        torch.cuda.empty_cache()
    child = [*sys.argv[1:], "--child", "fsdp2", "--place", str(place)]
    launched(command("fsdp2", 1, "studies.gpu", *child))
    sharded = json.loads((place / "fsdp2.json").read_text(encoding="utf-8"))
    return {
        "largest difference of losses": most(plain["losses"], sharded["losses"]),
        "largest difference of gradient norms": most(plain["norms"], sharded["norms"]),
        "seconds of four steps": {"plain": plain["seconds"], "fsdp2": sharded["seconds"]},
        "peak GiB": {"plain": plain["peak GiB"], "fsdp2": sharded["peak GiB"]},
    }


def part_resume(work: Work, place: Path) -> dict[str, Any]:
    """A training killed with signal 9 after two of four steps, and the same command again."""
    whole = few_steps(work, place, "whole")
    child = [sys.executable, "-m", "studies.gpu", *sys.argv[1:], "--place", str(place), "--child"]
    killed = subprocess.run([*child, "killed"], check=False).returncode  # noqa: S603, this module
    launched([*child, "again"])
    again = json.loads((place / "again.json").read_text(encoding="utf-8"))
    return {
        "exit code of the first": killed,
        "steps before the resumption": again["resumed_at"],
        "largest difference of losses": most(whole["losses"], again["losses"]),
        "losses": again["losses"],
    }


def most(one: Sequence[float], other: Sequence[float]) -> float:
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


def launched(line: Sequence[str]) -> None:
    subprocess.run(line, check=True, stdout=sys.stderr)  # noqa: S603, this module


def child(name: str, work: Work, place: Path) -> None:
    """A process of ``part_fsdp2`` or ``part_resume``; leaves NAME.json."""

    def stop(done: int, total: int, logs: Mapping[str, float]) -> None:
        if name == "killed" and done == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    settings: dict[str, Any] = {} if name == "fsdp2" else {"scratch": place / "scratch", "checkpoint_minutes": 0.0}
    result = few_steps(work, place, name, progress=stop, **settings)
    if os.environ.get("RANK", "0") == "0":
        (place / f"{name}.json").write_text(json.dumps(result), encoding="utf-8")


PARTS: dict[str, tuple[float, Callable[[Work, Path], dict[str, Any]]]] = {
    "attention": (60.0, part_attention),
    "rewards": (60.0, part_rewards),
    "fsdp2": (80.0, part_fsdp2),
    "resume": (80.0, part_resume),
    "writing": (120.0, part_writing),
}
"""Name to seconds at most and what is measured; ``training SIZE`` comes first, for each size."""


def limits(work: Work) -> dict[str, float]:
    slow = 1.0 if DEVICE.type == "cuda" else 3.0  # to load torch on a busy CPU takes half a minute
    seconds = {f"training {size}": 70.0 for size in work.shapes} | {name: limit for name, (limit, _) in PARTS.items()}
    return {name: slow * limit for name, limit in seconds.items()}


def run_part(name: str, work: Work, place: Path) -> dict[str, Any]:
    if name.startswith("training "):
        return part_training(work, name.removeprefix("training "), place)
    return PARTS[name][1](work, place)


def measure(name: str, seconds: float, arguments: Sequence[str]) -> dict[str, Any]:
    """A part in a process of its own: what it measured, or why it did not."""
    with tempfile.TemporaryDirectory(prefix="distilbench-gpu-") as place:
        line = [sys.executable, "-m", "studies.gpu", *arguments, "--part", name, "--place", place]
        log = Path(place) / "log"
        with log.open("w") as stream:
            process = subprocess.Popen(line, stdout=stream, stderr=stream, start_new_session=True)  # noqa: S603, ours
            try:
                code: int | None = process.wait(seconds)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                # Its own children too: a launcher's processes, an engine.
                kill_group(process)
        out = Path(place) / "part.json"
        if code == 0 and out.is_file():
            result: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
            return result
        tail = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
        reason = f"longer than {seconds:.0f} s" if code is None else f"exit code {code}"
        return {"failed": f"{reason}: {' | '.join(tail)[-600:]}"}


def kill_group(process: subprocess.Popen[Any]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def table(results: Mapping[str, Any]) -> str:
    """Markdown."""
    lines = [f"Device: {results['device']}. torch {results['torch']}, transformers {results['transformers']}.", ""]
    lines += ["| part | what | value |", "|---|---|---|"]
    for part, values in results["parts"].items():
        for name, value in values.items():
            lines.append(f"| {part} | {name} | {cell(value)} |")
    return "\n".join(lines) + "\n"


def cell(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{name} {cell(part)}" for name, part in value.items())
    if isinstance(value, list):
        return ", ".join(map(cell, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "/")


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="tiny models, for a CPU")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    parser.add_argument("--only", nargs="*", default=None, help="names of parts")
    for hidden in ("--part", "--child", "--place"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    args = parser.parse_args()
    work = SMALL if args.small else REAL
    if args.child:
        child(args.child, work, Path(args.place))
        return
    if args.part:
        result = run_part(args.part, work, Path(args.place))
        (Path(args.place) / "part.json").write_text(json.dumps(result), encoding="utf-8")
        return
    import transformers

    names = limits(work)
    if unknown := [name for name in args.only or () if name not in names]:
        parser.error(f"--only: {unknown} are none of {', '.join(names)}")
    gpu = torch.cuda.get_device_name() if DEVICE.type == "cuda" else None
    results: dict[str, Any] = {
        "device": gpu or f"{platform.processor() or platform.machine()} (no GPU)",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "sizes": {**asdict(replace(work, shapes={})), "shapes": {k: asdict(v) for k, v in work.shapes.items()}},
        "parts": {},
    }
    end = time.monotonic() + (TOTAL if DEVICE.type == "cuda" else 3 * TOTAL)
    for name in args.only or names:
        left = end - time.monotonic()
        start = time.monotonic()
        values = (
            measure(name, min(names[name], left), ["--small"] * args.small) if left > 5 else {"failed": "no time left"}
        )
        results["parts"][name] = values
        print(f"{name}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
        # After each part: what is measured is kept whatever comes.
        args.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        args.out.with_suffix(".md").write_text(table(results), encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
