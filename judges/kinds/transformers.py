"""Judge kind ``transformers``: a model in this process as the judge, loaded at the first question.

Greedy requests are answered in batches; drawn ones (temperature above 0) one at a time under a seed made from the
request, so that a reply does not depend on which others were asked with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from harness.contracts.judge import CallOutcome, JudgeError, JudgeKind
from harness.contracts.model import ChatModel, Sampling
from harness.contracts.options import Count, PathText, options, require
from harness.models.backends import LoadOptions, load_model
from harness.models.checkpoint import resolve
from harness.types import Reply, Request, Response, is_plain
from judges.client.ask import ChunkJudge
from judges.ledger.ledger import request_key


@options
class TransformersConfig(LoadOptions):
    """Options of a judge model in this process."""

    path: PathText = ""
    """A local folder, a hub id (``owner/name[@revision]``) or ``pocket:NAME``. It must be given."""
    chunk: Count = 32
    """Judgments between two writes to the ledger."""

    def __post_init__(self) -> None:
        require(bool(self.path), "path is empty; name a folder or a hub id")


class TransformersJudge(ChunkJudge):
    """Raises UserError where the checkpoint cannot be found."""

    name = "transformers"

    def __init__(self, config: TransformersConfig) -> None:
        self.config, self.model, self.chunk = config, config.path, config.chunk
        # The fingerprint of the checkpoint is in it: other weights under the same path are another judge.
        self.endpoint = "in-process:transformers:{fingerprint}:{dtype}".format(**JUDGE.identity(config))

    @cached_property
    def chat_model(self) -> ChatModel:
        return load_model(self.config.path, self.config)

    def complete_many(self, requests: Sequence[Request]) -> list[CallOutcome]:
        outcomes: dict[int, CallOutcome] = {}
        # Greedy requests share a batch only where one call of the model can serve them all.
        groups: dict[tuple[int, int], list[int]] = {}
        for index, request in enumerate(requests):
            if (error := too_long(self.chat_model, request)) is not None:
                outcomes[index] = error
            elif request.temperature > 0:
                seed = int(request_key("", "", request)[:8], 16)
                (outcomes[index],) = self._answer([request], seed)
            else:
                groups.setdefault((request.max_tokens, request.top_logprobs), []).append(index)
        for members in groups.values():
            outcomes.update(zip(members, self._answer([requests[index] for index in members], 0), strict=True))
        return [outcomes[index] for index in range(len(requests))]

    def check(self) -> str | None:
        return None  # the checkpoint was found when this judge was made, or UserError said why not

    def _answer(self, requests: Sequence[Request], seed: int) -> list[CallOutcome]:
        """For requests that differ in their messages alone."""
        limit, top, temperature = requests[0].max_tokens, requests[0].top_logprobs, requests[0].temperature
        talks = [request.messages for request in requests]
        firsts = self.chat_model.first_token(talks, top) if top else [None] * len(requests)
        if limit == 1 and top and temperature == 0:  # the most probable token is the whole reply
            best = [max(first, key=first.__getitem__) if first else "" for first in firsts]
            rows = [Response(text, finished=False, tokens=1) for text in best]
        else:
            rows = [row[0] for row in self.chat_model.generate(talks, Sampling(limit, temperature), seed)]
        # A prompt that ends inside of thinking: its reply begins there too.
        opening = "" if is_plain(talks[0]) else getattr(self.chat_model, "opening", "")
        return [
            Reply(opening + row.text, "stop" if row.finished else "length", self.model, 0, row.tokens, first)
            if row.text.strip() or first
            else JudgeError("empty", "the model ended its turn without a word")
            for row, first in zip(rows, firsts, strict=True)
        ]


def too_long(model: ChatModel, request: Request) -> JudgeError | None:
    """The failure of a prompt that leaves no room in the model's context: read past it, a model writes nonsense."""
    if model.context is None:
        return None
    (prompt,) = model.encode_prompts([request.messages])
    if len(prompt) < model.context:
        return None
    return JudgeError("context", f"the judge prompt has {len(prompt):,} tokens, the model reads {model.context:,}")


class TransformersKind(JudgeKind[TransformersConfig]):
    name = "transformers"
    summary = "a model in this process (local folder or hub id), in batches"
    config = TransformersConfig

    def make(self, config: TransformersConfig) -> TransformersJudge:
        return TransformersJudge(config)

    def identity(self, config: TransformersConfig) -> dict[str, str]:
        """The content of the checkpoint and the number type; not where it lies, nor device and batch size."""
        return {"fingerprint": resolve(config.path).fingerprint, "dtype": config.dtype}

    def price(self, config: TransformersConfig, prompt_tokens: int, completion_tokens: int) -> float:
        return 0.0


JUDGE = TransformersKind()
