"""Backend ``openai``: a model behind a server that generates text, through the same client and ledger as judges.

The seed enters the ledger's key as the repeat index: another seed asks anew, the same one never does.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from harness.contracts.backend import AskServer, Backend, Services
from harness.contracts.judge import JudgeError, count_cut_prompts, refuse_failures
from harness.contracts.model import Checkpoint, Progress, Sampling
from harness.contracts.options import options
from harness.errors import UserError
from harness.types import Messages, Reply, Request, Response

HIDDEN = "[not sent by the server]"  # thinking that took all tokens
# Kinds of failure that are answers without text: the endpoint's filter, or the model's silence.
NO_TEXT = frozenset({"refused", "empty"})


@options
class ServerOptions:
    """How to reach the server: a kind of judge and its options (model, address, price)."""

    kind: str = "openai"
    """A kind of judge: its client is used."""
    config: dict[str, object] = Field(default_factory=dict)
    """Options of that kind."""

    @property
    def model(self) -> str:
        return str(self.config.get("model", self.kind))


class ServerModel:
    def __init__(self, config: ServerOptions, ask: AskServer, progress: Progress | None = None) -> None:
        self.config, self.ask, self.progress = config, ask, progress
        self.name = config.model
        self.cut_prompts = 0
        self.inside = 0  # replies that begin inside of thinking, less those that end without any

    def generate(
        self, conversations: Sequence[Messages], sampling: Sampling, seed: int, n: int = 1
    ) -> list[list[Response]]:
        """n answers to each conversation, in order; none to one that is longer than the model's context. Raises
        UserError when other calls failed, or all are too long; replies are kept."""
        limits = sampling.max_new_tokens, sampling.temperature
        requests = [
            Request(str(number), "answer", tuple(dict(message) for message in talk), *limits, repeat=seed + draw)
            for number, talk in enumerate(conversations)
            for draw in range(n)
        ]
        config = dict(self.config.config)
        # ``Request`` has no field for it, because no judge protocol cuts the distribution.
        if sampling.top_p < 1:
            extra = config.get("extra_body")
            config["extra_body"] = {**(extra if isinstance(extra, dict) else {}), "top_p": sampling.top_p}
        reply_count = 0

        def report_progress(count: int) -> None:
            nonlocal reply_count
            reply_count += count
            if self.progress:
                self.progress(reply_count, len(requests))

        outcomes = self.ask(self.config.kind, config, requests, report_progress)
        # One question may be too long; where all are, a setting is wrong.
        is_long = [isinstance(outcome, JudgeError) and outcome.kind == "context" for outcome in outcomes]
        refuse_failures(outcomes, NO_TEXT if all(is_long) else NO_TEXT | {"context"}, f"answers of {self.name}")
        self.cut_prompts += count_cut_prompts(requests, outcomes)
        replies = [outcome for outcome in outcomes if isinstance(outcome, Reply)]
        self.inside += sum(reply.begins_inside for reply in replies)
        self.inside -= sum(not reply.thinking and reply.finish_reason != "length" for reply in replies)
        responses = [
            # A failure without text is an empty answer, and judged as one; one without room is none.
            Response("", finished=outcome.kind != "context", tokens=0)
            if isinstance(outcome, JudgeError)
            else Response(
                outcome.text,
                outcome.finish_reason != "length",
                outcome.completion_tokens,
                thinking=outcome.thinking or HIDDEN * outcome.is_cut,
            )
            for outcome in outcomes
        ]
        return [responses[start : start + n] for start in range(0, len(responses), n)]


def _load(checkpoint: Checkpoint | None, config: ServerOptions, services: Services) -> ServerModel:
    if services.ask is None:
        raise UserError(f"backend openai asks {config.model} through a run's ledger; there is none here.")
    return ServerModel(config, services.ask, services.progress)


_SUMMARY = "an OpenAI-compatible server, asked for text alone"
SERVER = Backend("openai", _SUMMARY, frozenset({"generate"}), ServerOptions, _load, by_name=True)
