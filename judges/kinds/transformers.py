"""Judge kind ``transformers``: a checkpoint as the judge, in this process or behind an engine, loaded at the first
question.

Greedy requests are answered in batches; drawn ones (temperature above 0) one at a time under a seed made from the
request, so that a reply does not depend on which others were asked with it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import Final, cast

from pydantic import Field

from harness.contracts.backend import STATED, Backend, Services
from harness.contracts.judge import CallOutcome, JudgeError, JudgeKind
from harness.contracts.model import Capability, ChatModel, Sampling
from harness.contracts.options import Count, PathText, options, options_from, require
from harness.errors import UserError
from harness.models.backends import BACKENDS, LoadOptions
from harness.models.checkpoint import resolve
from harness.types import Reply, Request, Response, is_plain
from judges.client.ask import ChunkJudge
from judges.ledger.ledger import request_key

NEEDS: Final[frozenset[Capability]] = frozenset({"generate", "tokens", "choices"})


@options
class TransformersConfig(LoadOptions):
    """Options of a checkpoint as the judge."""

    path: PathText = ""
    """A local folder, a hub id (``owner/name[@revision]``) or ``pocket:NAME``. It must be given."""
    chunk: Count = 32
    """Judgments between two writes to the ledger; an engine answers so many at once."""
    backend: str = "transformers"
    """What holds the model: ``transformers``, or an engine, for which a server is started (docs/engines.md)."""
    backend_options: dict[str, object] = Field(default_factory=dict)
    """Options of that backend, beside ``dtype``, ``device``, ``batch_tokens`` and ``trust_remote_code`` above."""

    def __post_init__(self) -> None:
        require(bool(self.path), "path is empty; name a folder or a hub id")
        names = sorted(name for name, backend in BACKENDS.items() if backend.capabilities >= NEEDS)
        require(self.backend in names, f"backend = {self.backend!r}; choose one of {', '.join(names)}")
        stated = sorted(STATED.keys() & self.backend_options.keys())
        require(not stated, f"backend_options: {', '.join(stated)} must stand beside backend, not in its options")
        try:
            self.backend_config()
        except UserError as error:
            require(False, f"backend_options: {error}")

    @property
    def backend_entry(self) -> Backend:
        return BACKENDS[self.backend]

    def backend_values(self) -> dict[str, object]:
        names = {field.name for field in fields(self.backend_entry.config)}
        common = {field.name: getattr(self, field.name) for field in fields(LoadOptions)}
        return {name: value for name, value in common.items() if name in names} | self.backend_options

    def backend_config(self) -> object:
        """Raises UserError where an option is none of the backend's."""
        return options_from(self.backend_entry.config, self.backend_values())


class TransformersJudge(ChunkJudge):
    """Raises UserError where the checkpoint cannot be found."""

    name = "transformers"

    def __init__(self, config: TransformersConfig) -> None:
        self.config, self.model, self.chunk = config, config.path, config.chunk
        # The fingerprint of the checkpoint is in it: other weights under the same path are another judge.
        identity = {**JUDGE.identity(config)}
        self.endpoint = "in-process:transformers:{fingerprint}:{dtype}".format(**identity)
        if "backend" in identity:
            self.endpoint += ":" + json.dumps(identity["backend"], sort_keys=True)
        self.services = Services()

    @cached_property
    def chat_model(self) -> ChatModel:
        config = self.config
        # ``NEEDS`` was asked for when the options were read.
        return cast(
            "ChatModel", config.backend_entry.load(resolve(config.path), config.backend_config(), self.services)
        )

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
        # The checkpoint was found when this judge was made, or UserError said why not.
        backend, config = self.config.backend_entry, self.config.backend_config()
        return backend.problem(config) or backend.misfit(config, resolve(self.config.path))

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
    summary = "a checkpoint (local folder or hub id), in this process or behind an engine"
    config = TransformersConfig
    deciding = frozenset({"backend"})

    def make(self, config: TransformersConfig) -> TransformersJudge:
        return TransformersJudge(config)

    def model(self, config: TransformersConfig) -> str:
        """Of a folder its name: where it lies is nobody's business."""
        folder = Path(config.path)
        return folder.resolve().name if folder.exists() or folder.is_absolute() else config.path

    def identity(self, config: TransformersConfig) -> dict[str, object]:
        """The content of the checkpoint, the number type, an engine's name and what decides its numbers; not where the
        checkpoint lies, nor device, server and batch size."""
        identity: dict[str, object] = {"fingerprint": resolve(config.path).fingerprint, "dtype": config.dtype}
        if config.backend_entry.engine:
            deciding, _ = config.backend_entry.split(config.backend_values())
            identity["backend"] = {"name": config.backend, **deciding}
        return identity

    def local(self, config: TransformersConfig) -> dict[str, object]:
        backend = config.backend_entry
        return {"gpus": backend.taken_gpus(config.backend_config()), "engine": backend.engine}

    def price(self, config: TransformersConfig, prompt_tokens: int, completion_tokens: int) -> float:
        return 0.0


JUDGE = TransformersKind()
