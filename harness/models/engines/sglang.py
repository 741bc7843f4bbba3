"""Backend ``sglang``: a checkpoint behind SGLang's server, asked with token ids (its native ``/generate``).

SGLang draws with the seed of each response only under ``--enable-deterministic-inference``, which is given to a server
that is started here; a server of others needs it too, or the same seed draws other responses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from harness.contracts.model import RowLogps, Sampling
from harness.models.engines.client import Call
from harness.models.engines.model import Dialect, EngineModel, backend_of, row_of

PATH = "/generate"


class SGLang(Dialect):
    name = "sglang"
    command = ("python", "-m", "sglang.launch_server", "--model-path", "{model}")
    in_path = False
    version = "/server_info"
    # A prompt may fill the model's context (``EngineModel.most_tokens``).
    environment: ClassVar[Mapping[str, str]] = {"SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN": "1"}

    def flags(self, model: EngineModel) -> list[str]:
        config = model.config
        flags = ["--host", "{host}", "--port", "{port}", "--served-model-name", model.served_name]
        flags += ["--dtype", config.dtype, "--enable-deterministic-inference", "--log-level", "warning"]
        flags += [] if model.most_tokens is None else ["--context-length", str(model.most_tokens)]
        flags += [] if config.tensor_parallel == 1 else ["--tp-size", str(config.tensor_parallel)]
        flags += [] if config.memory_share is None else ["--mem-fraction-static", str(config.memory_share)]
        return flags + ["--trust-remote-code"] * config.trust_remote_code

    def draw_calls(self, model: EngineModel, prompt: Sequence[int], sampling: Sampling, seeds: range) -> list[Call]:
        # As many requests in one, because its own ``n`` would draw every response with the same seed.
        bias = {"logit_bias": {str(number): -100.0 for number in model.banned}} if model.banned else {}
        common = {
            "max_new_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            # Ours alone end a response, as everywhere else.
            "ignore_eos": True,
            "stop_token_ids": model.stops,
            **bias,
        }
        rows = [{**common, "sampling_seed": seed} for seed in seeds]
        return [Call(PATH, {"input_ids": [prompt] * len(rows), "sampling_params": rows})]

    def drawn(self, replies: Sequence[Any]) -> list[list[int]]:
        return [list(response["output_ids"]) for response in replies[0]]

    def row_call(self, model: EngineModel, ids: Sequence[int], start: int, k: int) -> Call:
        # The last id is not read but asked for as the next token, so that a row may fill the context.
        return self._next(ids[:-1], ids[-1:], k, logprob_start_len=start - 1)

    def row_logps(self, reply: Any, ids: Sequence[int], start: int, k: int) -> RowLogps:
        meta, count = reply["meta_info"], len(ids) - start - 1
        # Nothing precedes the first position that is asked for, so its entry says nothing.
        own = [float(entry[0]) for entry in meta["input_token_logprobs"][-count:]] if count else []
        tops = [pairs(row) for row in meta["input_top_logprobs"][-count:]] if count and k else [{}] * count
        own.append(pairs(meta["output_token_ids_logprobs"][0])[ids[-1]])
        return row_of(own, [*tops, pairs(meta["output_top_logprobs"][0]) if k else {}], k)

    def next_call(self, model: EngineModel, prompt: Sequence[int], ids: Sequence[int], k: int) -> Call:
        return self._next(prompt, ids, k, logprob_start_len=-1)

    def next_logps(self, reply: Any) -> dict[int, float]:
        meta = reply["meta_info"]
        rows = meta.get("output_token_ids_logprobs") or meta.get("output_top_logprobs")
        return pairs(rows[0]) if rows else {}

    @staticmethod
    def _next(prompt: Sequence[int], ids: Sequence[int], k: int, **fields: Any) -> Call:
        """One token after ``prompt``, with the log-probabilities of ``ids`` and of the k most probable."""
        wanted: dict[str, object] = {"token_ids_logprob": list(ids)} if ids else {}
        wanted |= {"top_logprobs_num": k} if k else {}
        # At temperature 0 log-probabilities are those of the model itself.
        sampling = {"max_new_tokens": 1, "temperature": 0.0, "ignore_eos": True}
        body = {"input_ids": prompt, "sampling_params": sampling, "return_logprob": True, **wanted, **fields}
        return Call(PATH, body)


def pairs(entries: Iterable[Sequence[Any]]) -> dict[int, float]:
    """``[log-probability, id, text]`` each."""
    return {int(entry[1]): float(entry[0]) for entry in entries}


BACKEND = backend_of(SGLang(), "SGLang's server, started for each checkpoint or running already")
