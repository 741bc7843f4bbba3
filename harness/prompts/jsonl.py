"""Source ``jsonl``: a user's own JSON-lines file, checked line by line before anything runs."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.contracts.options import options
from harness.contracts.source import Pin, PromptSource
from harness.errors import UserError
from harness.types import Message, Prompt

RULE = 'one JSON object with "prompt" (text, or messages ending in a user turn), "golden", "rejected", "id" (text)'
ROLES = ("system", "user", "assistant")


@options
class JsonlOptions:
    path: str
    """The file: one ``{"prompt": ..., "golden": ..., "rejected": ..., "id": ...}`` a line."""


class JsonlPrompts(PromptSource[JsonlOptions]):
    name = "jsonl"
    summary = "your own JSON-lines file, prompts.path"
    config = JsonlOptions

    def pin(self, config: JsonlOptions) -> Pin:
        content = read_content(config.path)
        pairs = any(prompt.golden and prompt.rejected for prompt in parse(config.path, content))
        return Pin({"sha256": hashlib.sha256(content).hexdigest()}, pairs)

    def prompts(self, config: JsonlOptions, identity: Mapping[str, Any], seed: int) -> list[Prompt]:
        content = read_content(config.path)
        # The key of the artifact was made from the content that was planned with: another content must not take it.
        if hashlib.sha256(content).hexdigest() != identity["sha256"]:
            raise UserError(f"prompts.path = {config.path!r} has changed since this run was planned. Run again.")
        prompts = parse(config.path, content)
        # Files are often sorted by topic or length: their first n lines would be no sample of them.
        random.Random(seed).shuffle(prompts)
        return prompts


SOURCE = JsonlPrompts()


def read_content(path: str) -> bytes:
    """The bytes of the file; ``~`` is the home folder. Raises UserError when it is not a file or cannot be read."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise UserError(f"prompts.path = {path!r} is not a file. Give the path of a JSON-lines file.")
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"prompts.path = {path!r} cannot be read: {error}.") from error


def parse(path: str, content: bytes) -> list[Prompt]:
    """Lines ``{"prompt": text or messages, "golden": text?, "rejected": text?, "id": text?}``; blank lines are skipped.

    ``path`` is what the messages call the file. Raises UserError with file and line: not UTF-8, not such an object, an
    id that an earlier line has.
    """
    prompts: list[Prompt] = []
    seen: dict[str, int] = {}
    # Bytes are split, not text: a JSON string may hold U+2028, which ends a line for str.splitlines.
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            prompt = _row(path, number, line.decode("utf-8"))
            if prompt.id in seen:
                raise ValueError(f"id {prompt.id!r} is that of line {seen[prompt.id]} too")  # noqa: TRY301, reported below
        except UnicodeDecodeError as error:
            at = f"byte {error.start + 1} of the line is 0x{line[error.start]:02x}"
            raise UserError(f"{path}, line {number}: not UTF-8 ({at}). Save the file as UTF-8.") from error
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}, line {number}: {error}. Each line must be {RULE}.") from error
        seen[prompt.id] = number
        prompts.append(prompt)
    return prompts


def _row(path: str, number: int, line: str) -> Prompt:
    row = json.loads(line)
    if not isinstance(row, Mapping):
        raise ValueError(f"a {type(row).__name__}, not an object")  # noqa: TRY004, all mistakes are reported alike
    if "prompt" not in row:
        raise ValueError('there is no "prompt"')
    texts = {name: row.get(name) for name in ("id", "golden", "rejected")}
    for name, value in texts.items():
        if not (value is None or isinstance(value, str)):
            raise ValueError(f'"{name}" is {value!r}, not text')
    turns = _messages(row["prompt"])
    name = f"line-{number}" if texts["id"] is None else texts["id"]
    return Prompt(name, turns, texts["golden"], texts["rejected"], path)


def _messages(prompt: Any) -> tuple[Message, ...]:
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    if not isinstance(messages, list) or not messages:
        raise ValueError('"prompt" is neither text nor a list of messages')
    for message in messages:
        if not isinstance(message, Mapping) or message.get("role") not in ROLES:
            raise ValueError(f"a message is {message!r}, not an object with a role of {', '.join(ROLES)}")
        if not isinstance(message.get("content"), str):
            raise ValueError(f'the "content" of a message is {message.get("content")!r}, not text')  # noqa: TRY004
    if messages[-1]["role"] != "user":
        raise ValueError("the last message is not a user turn")
    if not messages[-1]["content"].strip():
        raise ValueError("the prompt is empty")
    return tuple({"role": message["role"], "content": message["content"]} for message in messages)
