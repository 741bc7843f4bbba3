"""A checkpoint behind an engine's server: prompts go as token ids that are ours, and drawn ids come back.

Each prompt has a seed of its own (of the stage's seed and the prompt's number), so what is drawn does not hang on which
other prompts are asked, but for rounding: an engine adds numbers in another order when other requests share its batch.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import shutil
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from http.client import HTTPException
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from harness.api_key import ApiKey
from harness.contracts.backend import Backend, Services
from harness.contracts.engine import EngineSpec
from harness.contracts.model import PROTOCOLS, Checkpoint, RowLogps, Sampling, check_lengths
from harness.contracts.options import Count, Positive, Tokens, options, require
from harness.errors import UserError
from harness.models.chat import EncodedTurn, stop_ids, unused_ids, vocabulary_size
from harness.models.checkpoint import context_of, download, text_config
from harness.models.engines.client import ATTEMPTS, Call, EngineClient, pause
from harness.models.engines.local import LocalEngines
from harness.models.token_model import TokenModel, room
from harness.text import parse_json

T = TypeVar("T")
PROGRESS_SECONDS = 0.5
CHECK_SECONDS = 10.0
LONG_ROPE = ("longrope", "su")
"""Positions of Phi-3 and 4: other frequencies as soon as an engine may read more than the original length."""


def _base_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        fits = re.fullmatch("https?://[^@?#]+", text) is not None and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, half of an IPv6 address
        fits = False
    require(fits and not re.search("[^!-~]", text), "must be the base URL of a server, as http://gpu7:8000")
    return text.rstrip("/")


@options
class EngineOptions:
    """How to start a server of an engine, or reach one that runs."""

    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number type of the weights."""
    trust_remote_code: bool = False
    """Run Python code that comes with the checkpoint."""
    command: Annotated[tuple[str, ...], Field(min_length=1)] = ()
    """Command that starts the engine, in an environment of its own or a container; ``{model}`` is replaced by the
    checkpoint's folder, which otherwise goes at the end. distilbench's flags, then yours, follow."""
    flags: tuple[str, ...] = ()
    """Further flags of the engine. They may change numbers, so a change makes its stages again."""
    window: Tokens | None = None
    """Longest prompt and answer together; ``null``: the checkpoint's context. A smaller one saves memory, and makes
    stages again."""
    server: Annotated[str, AfterValidator(_base_url)] | None = None
    """Base URL, without ``/v1``, of a server that already serves this checkpoint; none is started then."""
    api_key_env: str = ""
    """Environment variable with the key of that server."""
    environment: dict[str, str] = field(default_factory=dict)
    """Environment variables for the engine, besides those of this process (without ``PYTHONPATH``)."""
    tensor_parallel: Count = 1
    """GPUs that the weights are split over."""
    gpus: Annotated[int, Field(ge=0, le=1024)] | None = None
    """GPUs that a server takes: 0 on a CPU; ``null``: as many as ``tensor_parallel``."""
    memory_share: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of each GPU's memory (on a CPU, of the machine's) that the engine may take; ``null``: its own default."""
    concurrency: Annotated[int, Field(ge=1, le=4096)] = 128
    """Requests under way at once; one asks for all responses to a prompt."""
    start_minutes: Positive = 15.0
    """How long the server may take to start."""
    request_minutes: Positive = 60.0
    """How long one request may take, waiting in the server included."""
    keep: Count = 1
    """Servers that each worker keeps for later stages; the least recently used one ends first."""

    def __post_init__(self) -> None:
        require(self.server is None or not self.flags, "flags are for a server that is started here; leave them out")

    @property
    def taken_gpus(self) -> int:
        if self.server is not None:
            return 0
        return self.tensor_parallel if self.gpus is None else self.gpus


DECIDING = ("flags", "window")
"""Of these options, those that change numbers, beside ``dtype``."""


@dataclass(frozen=True)
class EngineJob(Generic[T]):
    """One prompt or row: what is asked, and what its replies say."""

    content: object
    """Plain JSON of all that decides the result within a stage (``Journal``)."""
    calls: Sequence[Call]
    read: Callable[[Sequence[Any]], T]
    """Of the replies to ``calls``; plain JSON."""
    tokens: Callable[[T], int]
    """Of the result, for the rate that is shown."""


class Dialect(ABC):
    """What is one engine's own: its command line and its HTTP protocol."""

    name: ClassVar[str]
    command: ClassVar[tuple[str, ...]]
    """That starts it where the recipe names none."""
    in_path: ClassVar[bool] = True
    """Whether a program of that name in ``PATH`` is the engine's."""
    environment: ClassVar[Mapping[str, str]] = {}
    health: ClassVar[str] = "/health"
    models: ClassVar[str] = "/v1/models"
    version: ClassVar[str]
    """Path that gives ``{"version": ...}``."""

    def misfit(self, config: EngineOptions, checkpoint: Checkpoint) -> str | None:
        """As of ``Backend``."""
        return None

    @abstractmethod
    def flags(self, model: EngineModel) -> list[str]:
        """Of a server for this model, address included (``{host}``, ``{port}``)."""

    @abstractmethod
    def draw_calls(self, model: EngineModel, prompt: Sequence[int], sampling: Sampling, seeds: range) -> list[Call]:
        """That draw a response for each seed."""

    @abstractmethod
    def drawn(self, replies: Sequence[Any]) -> list[list[int]]:
        """Ids of the responses, the one that ended each included."""

    @abstractmethod
    def row_call(self, model: EngineModel, ids: Sequence[int], start: int, k: int) -> Call:
        """For the log-probabilities of ``ids[start:]``, and of the k most probable tokens in the place of each."""

    @abstractmethod
    def row_logps(self, reply: Any, ids: Sequence[int], start: int, k: int) -> RowLogps: ...

    @abstractmethod
    def next_call(self, model: EngineModel, prompt: Sequence[int], ids: Sequence[int], k: int) -> Call:
        """For the log-probabilities of ``ids`` as the next token, or, without them, of the k most probable."""

    @abstractmethod
    def next_logps(self, reply: Any) -> dict[int, float]: ...


class EngineModel(TokenModel):
    def __init__(
        self, engine: Dialect, checkpoint: Checkpoint | None, config: EngineOptions, services: Services
    ) -> None:
        """Reads the tokenizer; a server is asked for, or started, at the first request. Raises UserError."""
        if checkpoint is None:
            raise UserError(f"backend {engine.name} serves a checkpoint: name a folder or a hub id.")
        from transformers import AutoConfig, GenerationConfig

        from harness.models.load import load_tokenizer

        self.engine, self.config, self.services = engine, config, services
        # Here, because outside of a run a name of the hub may come.
        self.checkpoint = download(checkpoint, config.trust_remote_code)
        self.folder = Path(self.checkpoint.location)
        tokenizer = load_tokenizer(self.folder, config.trust_remote_code)
        if (self.folder / "generation_config.json").is_file():
            generation_config = GenerationConfig.from_pretrained(self.folder)
        else:
            model_config = AutoConfig.from_pretrained(self.folder, trust_remote_code=config.trust_remote_code)
            generation_config = GenerationConfig.from_model_config(model_config)
        super().__init__(checkpoint.name, tokenizer, stop_ids(tokenizer, generation_config))
        seconds = 60 * config.request_minutes
        key, proxy = ApiKey(config.api_key_env), is_elsewhere(config.server)
        self.client = EngineClient(engine.name, self._connect, config.concurrency, seconds, key, proxy)
        if config.server is not None:  # its window may be smaller than the checkpoint's
            self._meet(config.server)

    @cached_property
    def text_config(self) -> Mapping[str, Any]:
        return text_config(self.folder)

    @cached_property
    def context(self) -> int | None:
        lengths = [length for length in (context_of(self.text_config), self.config.window) if length is not None]
        return min(lengths, default=None)

    @cached_property
    def most_tokens(self) -> int | None:
        """That the server is to hold of one request: a token more than the context, because an engine reads no prompt
        without room for an answer, and a question may fill it."""
        rope = self.text_config.get("rope_parameters") or self.text_config.get("rope_scaling") or {}
        is_fixed = rope.get("rope_type", rope.get("type")) in LONG_ROPE
        return self.context and self.context + (not is_fixed)

    @cached_property
    def banned(self) -> list[int]:
        """Ids that are no tokens: they only pad the model's head."""
        rows, size = self.text_config.get("vocab_size"), vocabulary_size(self.tokenizer)
        wider = range(size, rows) if isinstance(rows, int) else range(0)
        inside = [number for number in unused_ids(self.tokenizer) if not isinstance(rows, int) or number < rows]
        return [*inside, *wider]

    @cached_property
    def served_name(self) -> str:
        """A server that another process started at the same port in the meantime does not have it."""
        return "checkpoint-" + hashlib.sha256(self.checkpoint.fingerprint.encode()).hexdigest()[:12]

    @cached_property
    def spec(self) -> EngineSpec:
        config, engine = self.config, self.engine
        command = [expand(part) for part in config.command or engine.command]
        command = [part.replace("{model}", str(self.folder)) for part in command] + (
            [] if any("{model}" in part for part in command) else [str(self.folder)]
        )
        environment = {**engine.environment, **config.environment}
        return EngineSpec(
            engine.name,
            (*command, *engine.flags(self), *config.flags),
            tuple(sorted(environment.items())),
            config.taken_gpus,
            engine.health,
            60 * config.start_minutes,
            config.keep,
        )

    def _connect(self) -> str:
        if self.config.server is not None:  # whether it is there again, the next attempt shows
            return self.config.server
        url = (self.services.serve or self._serve_alone)(self.spec)
        if url != self.client.url:
            self._meet(url)
        return url

    def _serve_alone(self, spec: EngineSpec) -> str:
        log = Path(tempfile.gettempdir(), f"distilbench-{spec.name}-{os.getpid()}.log")
        return self._own_engines.address(spec, log)

    @cached_property
    def _own_engines(self) -> LocalEngines:
        return LocalEngines()

    def _meet(self, url: str) -> None:
        """Raises UserError where a server lacks the model, or one of others has several; learns how much it reads."""
        engine, config = self.engine, self.config
        data = fetch(url + engine.models, config, ATTEMPTS).get("data")
        models = [model for model in data if isinstance(model, dict)] if isinstance(data, list) else []
        names = [str(model.get("id")) for model in models]
        version = fetch(url + engine.version, config, ATTEMPTS).get("version", "of an unknown version")
        self.services.notes["engine"] = f"{engine.name} {version}"
        if config.server is None and self.served_name in names:
            return
        if config.server is None or len(models) != 1:
            raise UserError(f"{url} serves {', '.join(names) or 'none'}: {self.name} is needed, and no other model.")
        longest = models[0].get("max_model_len")
        if isinstance(longest, int) and (self.context is None or longest < self.context):
            self.context = longest
        if isinstance(longest, int) and self.most_tokens is not None:
            self.most_tokens = min(longest, self.most_tokens)
        self.served_name = names[0]

    def draw(self, prompts: Sequence[Sequence[int]], sampling: Sampling, seed: int, n: int) -> list[list[list[int]]]:
        rooms = [room(prompt, self.context, sampling.max_new_tokens) for prompt in prompts]
        places = [place for place, space in enumerate(rooms) if space]
        jobs = []
        for place in places:
            prompt, limits = list(prompts[place]), replace(sampling, max_new_tokens=rooms[place])
            calls = self.engine.draw_calls(self, prompt, limits, seeds_of(seed, place, n))
            jobs.append(
                EngineJob(["generate", vars(limits), seed, n, place, prompt], calls, self.engine.drawn, count_tokens)
            )
        rows = dict(zip(places, self._ask(jobs), strict=True))
        return [[self.cut_at_stop(row) for row in rows.get(place, [[]] * n)] for place in range(len(prompts))]

    def read_rows(self, rows: Sequence[EncodedTurn], k: int) -> list[RowLogps]:
        def job(row: EncodedTurn) -> EngineJob[list[Any]]:
            ids, start = [*row.prompt, *row.response], len(row.prompt)

            def read(replies: Sequence[Any]) -> list[Any]:
                return list(self.engine.row_logps(replies[0], ids, start, k))

            return EngineJob(
                ["row", ids, start, k], [self.engine.row_call(self, ids, start, k)], read, lambda _: len(ids)
            )

        return [RowLogps(*values) for values in self._ask([job(row) for row in rows])]

    def read_sums(self, prompts: Sequence[Sequence[int]], groups: Sequence[Sequence[int]]) -> list[list[float]]:
        ids = [token for group in groups for token in group]
        rows = self._read_next(prompts, ids, 0)
        return [[log_sum([row[token] for token in group]) for group in groups] for row in rows]

    def read_top(self, prompts: Sequence[Sequence[int]], k: int) -> list[dict[int, float]]:
        rows = self._read_next(prompts, [], k)
        return [dict(sorted(row.items(), key=lambda item: -item[1])[:k]) for row in rows]

    def _read_next(self, prompts: Sequence[Sequence[int]], ids: list[int], k: int) -> list[dict[int, float]]:
        """Log-probabilities of ``ids``, or of the k most probable, as the next token of each prompt. Raises TooLong."""
        check_lengths(self.name, [len(prompt) for prompt in prompts], self.most_tokens and self.most_tokens - 1)

        def read(replies: Sequence[Any]) -> list[tuple[int, float]]:
            logps = self.engine.next_logps(replies[0])
            if absent := [token for token in ids if token not in logps]:
                raise UserError(
                    f"{self.engine.name} sends no log-probabilities of the tokens {absent[:8]} that it was asked for: "
                    "it is too old for multiple-choice questions; install the version that docs/engines.md names"
                )
            return list(logps.items())

        def job(prompt: list[int]) -> EngineJob[list[tuple[int, float]]]:
            call = self.engine.next_call(self, prompt, ids, k)
            return EngineJob(["next", prompt, ids, k], [call], read, lambda _: len(prompt))

        return list(map(dict, self._ask([job(list(prompt)) for prompt in prompts])))

    def _ask(self, jobs: Sequence[EngineJob[T]]) -> list[T]:
        """The results of the jobs, in order; those that an earlier process has kept are not asked for again."""
        journal, results = self.services.journal, dict[int, T]()
        for number, job in enumerate(jobs):
            found = journal.find(job.content)
            if found is not None:
                results[number] = found
        asked = [number for number in range(len(jobs)) if number not in results]
        replies: dict[int, dict[int, Any]] = {number: {} for number in asked}
        # A call's own number: a job may have several.
        places = [(number, part) for number in asked for part in range(len(jobs[number].calls))]
        begin = last = shown = time.monotonic()
        tokens = 0

        def take(call: int, reply: Any) -> None:
            nonlocal tokens, last, shown
            number, part = places[call]
            job, parts = jobs[number], replies[number]
            parts[part] = reply
            if len(parts) < len(job.calls):
                return
            try:
                results[number] = job.read([parts[place] for place in range(len(job.calls))])
            except (LookupError, TypeError, ValueError, AttributeError) as error:
                raise UserError(
                    f"{self.engine.name} at {self.client.url} sends another form of reply than the versions that "
                    f"docs/engines.md names ({type(error).__name__}: {error}): install one of those."
                ) from error
            del replies[number]  # of long rows they are large
            tokens += job.tokens(results[number])
            now = time.monotonic()
            # Requests run side by side: what each adds is the time since the one before it.
            journal.keep(job.content, results[number], now - last)
            last = now
            if self.services.progress and (now - shown > PROGRESS_SECONDS or len(results) == len(jobs)):
                shown = now
                rate = tokens / max(1e-3, now - begin)
                self.services.progress(len(results), len(jobs), f"{rate:,.0f} tokens/s")

        calls = (jobs[number].calls[part] for number, part in places)
        self.client.post_all(enumerate(calls), take)
        return [results[number] for number in range(len(jobs))]


def row_of(own: Sequence[float], tops: Sequence[Mapping[int, float]], k: int) -> RowLogps:
    """``tops``: at each token at least the k most probable ones."""
    best = [sorted(top.items(), key=lambda item: (-item[1], item[0]))[:k] for top in tops]
    ids = [[token for token, _ in row] for row in best]
    return RowLogps(list(own), ids, [[logp for _, logp in row] for row in best])


def count_tokens(rows: Sequence[Sequence[int]]) -> int:
    return sum(map(len, rows))


def log_sum(logps: Sequence[float]) -> float:
    highest = max(logps)
    return highest + math.log(sum(math.exp(logp - highest) for logp in logps))


def seeds_of(seed: int, prompt: int, n: int) -> range:
    """Seeds of the n responses to a prompt, side by side (engines count on from one), far from other prompts'."""
    digest = hashlib.sha256(f"{seed}/{prompt}".encode()).digest()
    first = int.from_bytes(digest[:8], "big") >> 2
    return range(first, first + n)


def expand(part: str) -> str:
    """A home folder is what a shell would read."""
    return str(Path(part).expanduser()) if part.startswith("~") else part


def backend_of(engine: Dialect, summary: str) -> Backend:
    """Its entry in the table of backends."""
    return Backend(
        engine.name,
        summary,
        frozenset(PROTOCOLS),
        EngineOptions,
        partial(EngineModel, engine),
        deciding=DECIDING,
        engine=True,
        taken_gpus=lambda config: config.taken_gpus,
        problem=partial(problem_of, engine),
        misfit=engine.misfit,
    )


def problem_of(engine: Dialect, config: EngineOptions) -> str | None:
    """Why no server can be had here: its command is not there, or one that is to run does not answer."""
    if config.server is not None:
        try:
            fetch(config.server + engine.models, config)
        except UserError as error:
            return str(error)
        return None
    program = expand((config.command or engine.command)[0])
    if not config.command and not engine.in_path:
        lack = f"no command is named, and a {program!r} in PATH need not have {engine.name}"
    elif shutil.which(program, path=config.environment.get("PATH")) is None:
        lack = f"there is no command {program!r}"
    else:
        return None
    return (
        f"{lack}. Install {engine.name} in an environment of its own and name it in the backend's options (command: "
        f"[/path/to/venv/bin/{', '.join(engine.command)}]), or name a server that runs (server: URL)"
    )


def fetch(url: str, config: EngineOptions, attempts: int = 1) -> dict[str, Any]:
    """A JSON object. Raises UserError."""
    import urllib.request

    key = ApiKey(config.api_key_env)
    if config.api_key_env and key.value == "none":
        raise UserError(f"{url}: the environment variable {config.api_key_env} (api_key_env) is not set.")
    if problem := key.problem():
        raise UserError(f"{url}: {problem}")
    headers = {"Authorization": f"Bearer {key.value}"} if config.api_key_env else {}
    handlers = [] if is_elsewhere(config.server) else [urllib.request.ProxyHandler({})]
    opener = urllib.request.build_opener(*handlers)
    reason = ""
    for attempt in range(attempts):
        time.sleep(pause(attempt))
        try:
            # ``EngineOptions.server`` begins with http.
            with opener.open(urllib.request.Request(url, headers=headers), timeout=CHECK_SECONDS) as reply:  # noqa: S310
                found = parse_json(reply.read())
            if isinstance(found, dict):
                return found
            reason = "no JSON object"
        except (OSError, ValueError, HTTPException) as error:
            reason = key.scrub(str(error))
    raise UserError(f"{url} cannot be asked ({reason}): start that server, or correct its address.")


def is_elsewhere(server: str | None) -> bool:
    """Whether a proxy may stand between."""
    host = urlsplit(server).hostname if server else None
    try:
        return host is not None and host != "localhost" and not ip_address(host).is_loopback
    except ValueError:  # a name
        return True
