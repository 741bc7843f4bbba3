"""Backend ``vllm``: a checkpoint behind vLLM's OpenAI-compatible server, asked with token ids (``/v1/completions``).

Log-probabilities are those of the model itself (temperature 1, nothing cut), as ``--logprobs-mode`` has it by default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from harness.contracts.model import Checkpoint, RowLogps, Sampling
from harness.models.checkpoint import head_size_of, hub_folder, text_config
from harness.models.engines.client import Call
from harness.models.engines.model import Dialect, EngineModel, EngineOptions, backend_of, row_of

PATH = "/v1/completions"
ID_PREFIX = "token_id:"  # how the server writes the keys of log-probabilities, where texts of two tokens may be equal


CPU_HEADS = frozenset({32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512})
"""Sizes of attention heads that vLLM 0.32 computes on a CPU."""


class VLLM(Dialect):
    name = "vllm"
    command = ("vllm", "serve")
    version = "/version"
    # Nothing is reported to its authors; and a prompt may fill the model's context (``EngineModel.most_tokens``).
    environment: ClassVar[Mapping[str, str]] = {
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1",
    }

    def misfit(self, config: EngineOptions, checkpoint: Checkpoint) -> str | None:
        folder = hub_folder(checkpoint)
        on_cpu = config.server is None and not config.taken_gpus
        size = head_size_of(text_config(folder)) if on_cpu and (folder / "config.json").is_file() else None
        if size is None or size in CPU_HEADS:
            return None
        return (
            f"{checkpoint.name} has attention heads of {size}, vLLM 0.32 on a CPU (gpus: 0) computes "
            f"{', '.join(map(str, sorted(CPU_HEADS)))}; take another model, or backend: transformers for it"
        )

    def flags(self, model: EngineModel) -> list[str]:
        config = model.config
        flags = ["--host", "{host}", "--port", "{port}", "--served-model-name", model.served_name]
        # Its own defaults would come from the checkpoint (top-k, a repetition penalty), ours from the recipe.
        flags += ["--dtype", config.dtype, "--generation-config", "vllm", "--max-logprobs=-1"]
        flags += ["--uvicorn-log-level", "warning"]  # else a line in the log for each request
        flags += [] if model.most_tokens is None else ["--max-model-len", str(model.most_tokens)]
        flags += [] if config.tensor_parallel == 1 else ["--tensor-parallel-size", str(config.tensor_parallel)]
        flags += [] if config.memory_share is None else ["--gpu-memory-utilization", str(config.memory_share)]
        return flags + ["--trust-remote-code"] * config.trust_remote_code

    def _call(self, model: EngineModel, prompt: Sequence[int], **fields: Any) -> Call:
        # Stated also where they are defaults: a server of others may have other ones.
        plain = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "skip_special_tokens": False}
        return Call(PATH, {"model": model.served_name, "prompt": prompt, **plain, **fields})

    def draw_calls(self, model: EngineModel, prompt: Sequence[int], sampling: Sampling, seeds: range) -> list[Call]:
        # Response i of a request is drawn with its seed + i.
        bias = {"logit_bias": {str(number): -100.0 for number in model.banned}} if model.banned else {}
        call = self._call(
            model,
            prompt,
            n=len(seeds),
            seed=seeds.start,
            max_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            # Ours alone end a response, as everywhere else.
            ignore_eos=True,
            stop_token_ids=model.stops,
            return_token_ids=True,
            **bias,
        )
        return [call]

    def drawn(self, replies: Sequence[Any]) -> list[list[int]]:
        choices = sorted(replies[0]["choices"], key=lambda choice: choice["index"])
        return [list(choice["token_ids"]) for choice in choices]

    def row_call(self, model: EngineModel, ids: Sequence[int], start: int, k: int) -> Call:
        # The last id is not read but drawn, alone among those allowed, which changes no log-probability: a row may
        # fill the context.
        last = {"allowed_token_ids": [ids[-1]], "logprobs": k}
        reading = {"prompt_logprobs": k} if len(ids) - start > 1 else {}
        return self._next(model, ids[:-1], **last, **reading)

    def row_logps(self, reply: Any, ids: Sequence[int], start: int, k: int) -> RowLogps:
        rows = reply["choices"][0]["prompt_logprobs"] or []
        tops = [{int(token): float(entry["logprob"]) for token, entry in row.items()} for row in rows[start:]]
        tops.append(self.next_logps(reply))
        return row_of([top[token] for top, token in zip(tops, ids[start:], strict=True)], tops, k)

    def next_call(self, model: EngineModel, prompt: Sequence[int], ids: Sequence[int], k: int) -> Call:
        wanted = {"logprob_token_ids": list(ids), "logprobs": len(ids)} if ids else {"logprobs": k}
        return self._next(model, prompt, **wanted)

    def next_logps(self, reply: Any) -> dict[int, float]:
        (top,) = reply["choices"][0]["logprobs"]["top_logprobs"]
        return {int(token.removeprefix(ID_PREFIX)): float(logp) for token, logp in top.items()}

    def _next(self, model: EngineModel, prompt: Sequence[int], **fields: Any) -> Call:
        return self._call(
            model, prompt, max_tokens=1, temperature=0.0, ignore_eos=True, return_tokens_as_token_ids=True, **fields
        )


BACKEND = backend_of(VLLM(), "vLLM's server, started for each checkpoint or running already")
