"""Judge kind ``openai``: any endpoint that speaks the OpenAI chat protocol, hosted or local, through the openai SDK.

One call, without retries, and the name of what went wrong. The API key is read from the environment when a call is
made and goes nowhere else. Options that are left out come from ``catalogue.py``, for OpenAI's own models.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import urllib.parse
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import field, fields, replace
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self

from pydantic import Field

from harness.api_key import ApiKey
from harness.contracts.judge import JudgeError, JudgeKind
from harness.contracts.options import InvalidOption, NotNegative, options, require
from harness.types import Messages, Reply, Request, is_plain
from judges.client.batch_jobs import BatchJobs
from judges.kinds.openai.batch_api import OpenAIBatchJobs
from judges.kinds.openai.bodies import unwrap
from judges.kinds.openai.catalogue import BATCH_DISCOUNT, JudgeModel, Quirks, find, remarks, today
from judges.kinds.openai.responses import NO_SYSTEM, errors_named, read_body

if TYPE_CHECKING:
    from openai import AsyncOpenAI

API_VERSION: Final = "api-version"  # Azure's; any other query of an address may be a secret
ROUTE: Final = "/chat/completions"
PLAIN_ROUTE: Final = "/completions"
OPENAI_URL: Final = "https://api.openai.com/v1"
_CHECK_SECONDS: Final = 30.0  # a small server that answers one call at a time may be busy with one
_NOT_OF_ROLES: Final = frozenset({"auth", "rate-limit", "timeout", "connection", "refused", "empty", "truncated"})
_CHECK_TOKENS: Final = 16  # some endpoints take no lower limit
_CONNECTIONS: Final = 512  # the client bounds the calls; the pool must only not be narrower than it


@options
class OpenAIConfig:
    model: str
    """Model id to ask for; give the dated one where there is one (``gpt-4-1106-preview``)."""
    base_url: str | None = None
    """Endpoint up to and with ``/v1``; none means OpenAI's own."""
    api_key_env: str = "OPENAI_API_KEY"
    """Name of the environment variable that holds the key. Local servers need none: leave it unset."""
    temperature: Annotated[float, Field(ge=0, le=100)] | None = None
    """Overrides the protocol's temperature (some models take only 1)."""
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] | None = None
    """The request field for the token limit; newer OpenAI models take only ``max_completion_tokens``."""
    logprobs: bool | None = None
    """Ask for log-probabilities where the protocol wants them; ``false`` for endpoints that refuse."""
    thinking_tokens: Annotated[int, Field(ge=0, le=10_000_000)] | None = None
    """Added to the protocol's token limit for models whose thinking counts towards it."""
    leave_out: tuple[str, ...] = ()
    """Request fields that the model does not take at all, and that are not sent (``[temperature]``)."""
    fold_system: bool = False
    """Put system text into the first user turn. Done anyway, and recorded, where a server refuses a system turn."""
    extra_body: Mapping[str, object] = field(default_factory=dict)
    """Further request fields, sent as they are (a thinking budget, say). No secrets: recipes are stored."""
    price_in: NotNegative | None = None
    """Dollars per million prompt tokens; unknown if not given."""
    price_out: NotNegative | None = None
    """Dollars per million completion tokens; unknown if not given."""
    batch: bool = False
    """Hand requests over as batch jobs (OpenAI's Batch API, half price): submit, leave, collect with a later run."""
    batch_wait: NotNegative = 0.0
    """Seconds to wait for batch jobs before leaving them to a later run."""

    def __post_init__(self) -> None:
        try:
            parts = urllib.parse.urlsplit(self.base_url or OPENAI_URL)
        except ValueError as error:
            raise InvalidOption(f"base_url {self.base_url!r} is no http(s) address ({error})") from error
        require(
            parts.scheme in ("http", "https") and bool(parts.hostname),
            f"base_url {self.base_url!r} is no http(s) address; an example is http://127.0.0.1:8000/v1",
        )
        query = {name for name, _ in urllib.parse.parse_qsl(parts.query, keep_blank_values=True)}
        require(
            not (parts.username or parts.password or query - {API_VERSION} or parts.fragment),
            f"base_url holds a user name, password, fragment or query (only {API_VERSION} may stand there); it is "
            "stored, so give the key through the environment variable that api_key_env names",
        )
        required_fields = {"model", "messages"} & set(self.leave_out)
        require(not required_fields, f"leave_out names {', '.join(sorted(required_fields))}, which every request needs")
        require(bool(self.model), "model is empty; name the model id to ask for")
        both_or_neither = (self.price_in is None) == (self.price_out is None)
        require(both_or_neither, "price_in and price_out go together: give both, or neither")

    @property
    def catalogue_model(self) -> JudgeModel | None:
        """What the catalogue says of this model; nothing at endpoints other than OpenAI's own."""
        host = urllib.parse.urlsplit(self.base_url or OPENAI_URL).hostname
        return find(self.model) if host == urllib.parse.urlsplit(OPENAI_URL).hostname else None

    @property
    def quirks(self) -> Quirks:
        """The options given, else the catalogue's, else none."""
        # Options and quirks have the same names.
        overrides = {quirk.name: getattr(self, quirk.name) for quirk in fields(Quirks)}
        base = self.catalogue_model.quirks if self.catalogue_model else Quirks()
        return replace(base, **{name: value for name, value in overrides.items() if value is not None})


def route_of(request: Request) -> str:
    return PLAIN_ROUTE if is_plain(request.messages) else ROUTE


class OpenAIJudge:
    """One endpoint and model. ``complete`` may be called from several event loops, each with connections of its own."""

    name = "openai"

    def __init__(self, config: OpenAIConfig) -> None:
        self.config, self.model, self.quirks = config, config.model, config.quirks
        address, separator, query = (config.base_url or OPENAI_URL).partition("?")
        self.base_url = address.rstrip("/").removesuffix(ROUTE)  # some copy the whole address of the route
        self.query = dict(urllib.parse.parse_qsl(query))
        self._folds_system = config.fold_system  # or found out by the first refusal
        self.endpoint = (
            self.base_url + separator + query + _suffix(config)
        )  # the address and what else decides replies. Never the key.
        self._key = ApiKey(config.api_key_env)
        jobs = OpenAIBatchJobs(self._client, self.body, route_of, self._key, config.batch_wait)
        self.jobs: BatchJobs | None = jobs if config.batch else None
        self._clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncOpenAI] = weakref.WeakKeyDictionary()

    async def complete(self, request: Request) -> Reply:
        """One call, no retry. Raises JudgeError with the kind of what went wrong; the key is in no message."""
        if not any(message["role"] == "system" for message in request.messages):
            return await self._post(request)
        if not self._folds_system:
            try:
                return await self._post(request)
            except JudgeError as error:
                if error.kind in _NOT_OF_ROLES or not NO_SYSTEM.search(error.message):
                    raise
        folded_messages = tuple(dict(message) for message in fold_system_text(request.messages))
        reply = await self._post(replace(request, messages=folded_messages))
        self._folds_system = True  # from now on, without the call that is refused
        return replace(reply, flags=("system-folded",))

    async def _post(self, request: Request) -> Reply:
        with errors_named(self._key):
            # The SDK's plain ``post``: ``chat.completions.create`` also walks the whole request by its type hints and
            # builds a model of the reply, which takes a third of a call's processor time (all of it on one core).
            sent = self.body(request)
            body = await self._client().post(route_of(request), cast_to=object, body=sent)
        reply = read_body(body, self._key)
        # Some servers say "stop" of a reply that they cut: their count tells.
        limit = sent.get(self.quirks.max_tokens_field)
        is_cut = reply.finish_reason == "stop" and reply.completion_tokens == limit != 1
        return replace(reply, finish_reason="length") if is_cut else reply

    def body(self, request: Request) -> dict[str, object]:
        quirks = self.quirks
        prompt: dict[str, object] = {
            "messages": fold_system_text(request.messages) if self._folds_system else list(request.messages)
        }
        if is_plain(request.messages):
            prompt = {"prompt": request.messages[0]["content"]}
        body: dict[str, object] = {
            "model": self.model,
            **prompt,
            "temperature": request.temperature if quirks.temperature is None else quirks.temperature,
            quirks.max_tokens_field: request.max_tokens + quirks.thinking_tokens,
        }
        if request.top_logprobs and quirks.logprobs:
            body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
        body |= dict(self.config.extra_body)
        return {name: value for name, value in body.items() if name not in self.config.leave_out}

    def check(self) -> str | None:
        """By the list of models, or by a question where that does not help: servers answer to unlisted names too."""
        if (key_problem := self._key.problem()) is not None:
            return f"judge model {self.model!r}: {key_problem}"
        if self.config.base_url is None and self._key.value == "none":
            return (
                f"judge model {self.model!r} at OpenAI needs a key: put it into the environment variable "
                f"{self.config.api_key_env}, or give base_url for another endpoint."
            )
        names: list[str] = []
        has_no_list = False
        try:
            names = self._listed_models()
            if not names or self.model in names:
                return None
        except JudgeError as error:
            # An endpoint without a list of models can still judge, and one whose list fails may answer all the same.
            has_no_list = error.kind in ("model", "bad-reply")
            if error.kind in ("timeout", "auth", "connection"):
                return self._problem(error, names)
        try:
            self._ask_once()
        except JudgeError as error:
            # Without a list, a server may refuse the question for a reason of its own; "not found" and keys count.
            return None if has_no_list and error.kind not in ("model", "auth") else self._problem(error, names)
        return None

    def _problem(self, error: JudgeError, names: Sequence[str]) -> str | None:
        """What a failed call and the list of models say; ``None`` where it is nothing against judging."""
        models = f" It lists: {', '.join(sorted(names)[:20])}{', ...' if len(names) > 20 else ''}." if names else ""
        texts = {
            "auth": f" refused the key: {error}.",
            "connection": f" cannot be reached ({error}). Start the server, or correct base_url.",
            "server": f" is failing ({error}). Try again when it is well.",
        }
        absence = f"the endpoint does not serve this model ({error}).{models}"
        is_option = error.remedy.startswith("set ")  # which it would not name for a model that is not there
        texts |= dict.fromkeys(["model", "bad-reply"], f": {f'{error}.' if is_option else absence}")
        slow = f" did not answer ({error}). It may be busy or still loading the model: try again."
        texts |= dict.fromkeys(["timeout", "truncated"], slow)
        if error.kind not in texts:
            return None
        problem = f"judge model {self.model!r} at {self.base_url}{texts[error.kind]}"
        return " ".join([problem, *(f"Note: {note}." for note in JUDGE.notes(self.config))])

    def _listed_models(self) -> list[str]:
        """Ids; none where the endpoint lists its models in a form of its own."""
        entries = unwrap(self._call_once("/models")).get("data")
        model_entries = entries if isinstance(entries, list) else []
        return [str(entry["id"]) for entry in model_entries if isinstance(entry, Mapping) and "id" in entry]

    def _ask_once(self) -> None:
        request = Request("check", "", ({"role": "user", "content": "m or M?"},), _CHECK_TOKENS)
        self._call_once(ROUTE, self.body(request))

    def _call_once(self, route: str, body: Mapping[str, object] | None = None) -> object:
        """One call outside of any event loop, which waits as long as a busy small server may need."""
        from openai import OpenAI

        key, url = self._key, self.base_url
        with (
            errors_named(key),
            OpenAI(
                api_key=key.value,
                base_url=url,
                max_retries=0,
                timeout=_CHECK_SECONDS,
                default_query=self.query,
                default_headers=self._headers(),
            ) as client,
        ):
            return client.get(route, cast_to=object) if body is None else client.post(route, cast_to=object, body=body)

    def _headers(self) -> dict[str, str]:
        """Azure's addresses with a version take a key in a header of their own, and only tokens as a bearer's."""
        return {"api-key": self._key.value} if self.query else {}

    async def __aenter__(self) -> Self:
        """Import the SDK and make the client of the running event loop, which takes a second the first time."""
        if self._key.problem() is None:  # else every call says so
            self._client()
        return self

    async def __aexit__(self, *error: object) -> None:
        if (client := self._clients.pop(asyncio.get_running_loop(), None)) is not None:
            await client.close()

    def _client(self) -> AsyncOpenAI:
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            if (problem := self._key.problem()) is not None:
                raise JudgeError("auth", problem)
            from openai import DEFAULT_CONNECTION_LIMITS, AsyncOpenAI, DefaultAsyncHttpxClient

            # The type of the SDK's own limits: which HTTP library it stands on changed, and is its business.
            widths = {"max_connections": _CONNECTIONS, "max_keepalive_connections": _CONNECTIONS}
            # No timeout here: the asking client's own covers the whole call.
            http = DefaultAsyncHttpxClient(limits=type(DEFAULT_CONNECTION_LIMITS)(**widths), timeout=None)
            # The address is always given: the SDK would read OPENAI_BASE_URL, and the ledger not know it.
            client = self._clients[loop] = AsyncOpenAI(
                api_key=self._key.value,
                base_url=self.base_url,
                max_retries=0,
                timeout=None,
                http_client=http,
                default_query=self.query,
                default_headers=self._headers(),
            )
        return client


def fold_system_text(messages: Messages) -> list[Mapping[str, str]]:
    """System text at the head of the first user turn, with an empty line between."""
    system_text = "\n\n".join(message["content"] for message in messages if message["role"] == "system")
    others = [message for message in messages if message["role"] != "system"]
    if not system_text:
        return others
    first = next((place for place, message in enumerate(others) if message["role"] == "user"), None)
    if first is None:
        return [{"role": "user", "content": system_text}, *others]
    user_turn = {**others[first], "content": f"{system_text}\n\n{others[first]['content']}"}
    return [*others[:first], user_turn, *others[first + 1 :]]


def _suffix(config: OpenAIConfig) -> str:
    """What decides replies besides address, model and request, as a suffix of the endpoint: empty by default."""
    quirks = config.quirks
    body = json.dumps(dict(config.extra_body), sort_keys=True).encode()
    settings = [
        "" if quirks.temperature is None else f"temperature={quirks.temperature:g}",
        "" if quirks.max_tokens_field == "max_tokens" else quirks.max_tokens_field,
        "" if quirks.logprobs else "no-logprobs",
        f"thinking={quirks.thinking_tokens}" if quirks.thinking_tokens else "",
        f"without={'+'.join(sorted(config.leave_out))}" if config.leave_out else "",
        "fold-system" if config.fold_system else "",
        f"extra={hashlib.sha256(body).hexdigest()[:12]}" if config.extra_body else "",
    ]
    return "#" + ",".join(filter(None, settings)) if any(settings) else ""


class OpenAIKind(JudgeKind[OpenAIConfig]):
    name = "openai"
    deciding = frozenset({"temperature", "logprobs", "thinking_tokens", "leave_out", "fold_system", "extra_body"})
    summary = "any OpenAI-compatible endpoint: OpenAI, vLLM, SGLang, llama.cpp, ..."
    config = OpenAIConfig

    def make(self, config: OpenAIConfig) -> OpenAIJudge:
        return OpenAIJudge(config)

    def identity(self, config: OpenAIConfig) -> dict[str, str]:
        judge = OpenAIJudge(config)
        return {"endpoint": judge.endpoint, "model": judge.model}

    def price(self, config: OpenAIConfig, prompt_tokens: int, completion_tokens: int) -> float | None:
        """By the options or else the catalogue."""
        catalogue_price = config.catalogue_model.price if config.catalogue_model else None
        per_prompt, per_completion = config.price_in, config.price_out
        if per_prompt is None or per_completion is None:
            if catalogue_price is None:
                return None
            per_prompt, per_completion = catalogue_price.prompt, catalogue_price.completion
        share = BATCH_DISCOUNT if config.batch else 1.0
        return share * (per_prompt * prompt_tokens + per_completion * completion_tokens) / 1e6

    def notes(self, config: OpenAIConfig) -> list[str]:
        return remarks(config.model, today()) if config.catalogue_model else []

    def thinking(self, config: OpenAIConfig) -> int:
        return config.quirks.thinking_tokens


JUDGE = OpenAIKind()
