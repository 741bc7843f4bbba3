"""Judge kind ``transformers``: a model in this process as the judge, loaded at the first question.

    judges: {local: {kind: transformers, path: HuggingFaceTB/SmolLM2-1.7B-Instruct}}

Greedy requests are answered in batches; drawn ones (temperature above 0) one at a time under a seed made from the
request, so that a reply does not depend on which others were asked with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from harness.contracts.judge import JudgeError, JudgeKind, Outcome
from harness.contracts.model import Sampling
from harness.contracts.options import Count, options, require
from harness.models.backends import LoadOptions, load_model
from harness.models.checkpoint import resolve
from harness.types import Reply, Request
from judges.ledger.ledger import request_key

if TYPE_CHECKING:
    from harness.contracts.model import ChatModel


@options
class TransformersConfig:
    """Options of a judge model in this process."""

    path: str
    """A local folder, a hub id (``owner/name[@revision]``) or ``pocket:NAME``."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number type of the weights."""
    device: str = "auto"
    """``auto`` (the first CUDA device, else the CPU), ``cpu``, ``cuda:1``, ..."""
    batch_tokens: Count = 16384
    """Padded tokens per batch; less needs less memory."""
    chunk: Count = 32
    """Judgments between two writes to the ledger."""
    trust_remote_code: bool = False
    """Run Python code that comes with the checkpoint."""

    def __post_init__(self) -> None:
        require(bool(self.path), "path is empty; name a folder or a hub id")


class TransformersJudge:
    """A causal language model as judge. ``load`` is an argument, so that tests bring a model of their own.

    Raises UserError where the checkpoint cannot be found.
    """

    name = "transformers"

    def __init__(
        self, config: TransformersConfig, load: Callable[[TransformersConfig], ChatModel] | None = None
    ) -> None:
        self.config = config
        self.model = config.path
        self.chunk = config.chunk
        # The fingerprint of the checkpoint is in it: other weights under the same path are another judge.
        self.endpoint = "in-process:transformers:{fingerprint}:{dtype}".format(**JUDGE.identity(config))
        self._load = load or _load
        self._loaded: ChatModel | None = None

    async def complete(self, request: Request) -> Reply:
        outcome = self.complete_many([request])[0]
        if isinstance(outcome, JudgeError):
            raise outcome
        return outcome

    def complete_many(self, requests: Sequence[Request]) -> list[Outcome]:
        """One outcome per request, in order. Raises UserError when the model cannot be loaded."""
        if self._loaded is None:
            self._loaded = self._load(self.config)
        outcomes: dict[int, Outcome] = {}
        # Greedy requests share a batch only where one call of the model can serve them all.
        groups: dict[tuple[int, int], list[int]] = {}
        for index, request in enumerate(requests):
            if (error := too_long(self._loaded, request)) is not None:
                outcomes[index] = error
            # A sampled reply needs a seed of its own request, so it cannot share a batch.
            elif request.temperature > 0:
                outcomes[index] = self._drawn(self._loaded, request)
            else:
                groups.setdefault((request.max_tokens, request.top_logprobs), []).append(index)
        for members in groups.values():
            replies = self._greedy(self._loaded, [requests[index] for index in members])
            outcomes.update(zip(members, replies, strict=True))
        return [outcomes[index] for index in range(len(requests))]

    def check(self) -> str | None:
        return None  # the checkpoint was found when this judge was made, or UserError said why not

    def _greedy(self, model: ChatModel, requests: Sequence[Request]) -> list[Outcome]:
        """Replies at temperature 0 to requests of one token limit and one number of log-probabilities."""
        limit, top = requests[0].max_tokens, requests[0].top_logprobs
        talks = [request.messages for request in requests]
        firsts = model.first_token(talks, top) if top else [None] * len(requests)
        if limit == 1 and top:  # the most probable token is the whole reply
            best = [max(first, key=first.__getitem__) if first else "" for first in firsts]
            pairs = zip(best, firsts, strict=True)
            return [Reply(text, "length", self.model, 0, 1, first) if text else _empty() for text, first in pairs]
        rows = model.generate(talks, Sampling(limit, temperature=0.0), seed=0)
        return [
            self._reply(row[0].text, row[0].finished, row[0].tokens, first)
            for row, first in zip(rows, firsts, strict=True)
        ]

    def _drawn(self, model: ChatModel, request: Request) -> Outcome:
        seed = int(request_key("", "", request)[:8], 16)
        response = model.generate([request.messages], Sampling(request.max_tokens, request.temperature), seed)[0][0]
        first = model.first_token([request.messages], request.top_logprobs)[0] if request.top_logprobs else None
        return self._reply(response.text, response.finished, response.tokens, first)

    def _reply(self, text: str, finished: bool, tokens: int, first: dict[str, float] | None) -> Outcome:
        if not text.strip() and not first:
            return _empty()
        return Reply(text, "stop" if finished else "length", self.model, 0, tokens, first)


def too_long(model: ChatModel, request: Request) -> JudgeError | None:
    """The failure of a prompt that leaves no room in the model's context: read past it, a model writes nonsense."""
    if model.context is None:
        return None
    (prompt,) = model.encode_prompts([request.messages])
    if len(prompt) < model.context:
        return None
    return JudgeError("context", f"the judge prompt has {len(prompt):,} tokens, the model reads {model.context:,}")


def _empty() -> JudgeError:
    return JudgeError("empty", "the model ended its turn without a word")


def _load(config: TransformersConfig) -> ChatModel:
    return load_model(
        config.path, LoadOptions(config.dtype, config.device, config.batch_tokens, config.trust_remote_code)
    )


class TransformersKind(JudgeKind[TransformersConfig]):
    name = "transformers"
    summary = "a model in this process (local folder or hub id), in batches"
    config = TransformersConfig

    def make(self, config: TransformersConfig) -> TransformersJudge:
        return TransformersJudge(config)

    def identity(self, config: TransformersConfig) -> dict[str, Any]:
        """The content of the checkpoint and the number type; not where it lies, nor device and batch size."""
        return {"fingerprint": resolve(config.path).fingerprint, "dtype": config.dtype}

    def price(self, config: TransformersConfig, prompt_tokens: int, completion_tokens: int) -> float:
        return 0.0


JUDGE = TransformersKind()
