"""Source ``jsonl``: a user's own JSON-lines file, checked line by line before anything runs."""

import hashlib
import json
import random
from collections.abc import Mapping
from pathlib import Path

from harness.contracts.options import PathText, options
from harness.contracts.source import Pin, PromptSource
from harness.errors import UserError
from harness.prompts.layouts import to_prompt_row
from harness.text import replace_in_json
from harness.types import Json, Message, Prompt

RULE = 'one JSON object with "prompt" (text, or messages ending in a user turn), "golden", "rejected", "id" (text)'
CONVERSION = "in pandas, frame.to_json('prompts.jsonl', orient='records', lines=True)"
ROLES = ("system", "user", "assistant")


@options
class JsonlOptions:
    path: PathText
    """The file: one ``{"prompt": ..., "golden": ..., "rejected": ..., "id": ...}`` a line."""


class JsonlPrompts(PromptSource[JsonlOptions]):
    name = "jsonl"
    summary = "your own JSON-lines file, prompts.path"
    config = JsonlOptions

    def pin(self, config: JsonlOptions) -> Pin:
        digest, prompts = read_file(config.path)
        pairs = any(prompt.golden and prompt.rejected for prompt in prompts)
        return Pin({"sha256": digest}, pairs, any(prompt.golden for prompt in prompts), len(prompts))

    def prompts(self, config: JsonlOptions, identity: Mapping[str, object], seed: int) -> list[Prompt]:
        digest, prompts = read_file(config.path)
        # The key of the artifact was made from the content that was planned with: another content must not take it.
        if digest != identity["sha256"]:
            raise UserError(f"prompts.path = {config.path!r} has changed since this run was planned. Run again.")
        # Files are often sorted by topic or length: their first n lines would be no sample of them.
        random.Random(seed).shuffle(prompts)
        return prompts


SOURCE = JsonlPrompts()


def read_file(path: str) -> tuple[str, list[Prompt]]:
    """sha256, and the prompts in the lines. Raises UserError with file and line."""
    try:
        content = Path(path).expanduser().read_bytes()
    except OSError as error:
        reason = f"is not a file that can be read ({error.strerror}). Give the path of a JSON-lines file."
        raise UserError(f"prompts.path = {path!r} {reason}") from error
    lines: dict[str, int] = {}
    prompts = []
    if content.startswith(b"PAR1") or Path(path).suffix == ".csv":
        kind = "a Parquet file" if content.startswith(b"PAR1") else "a CSV table"
        raise UserError(f"prompts.path = {path!r} is {kind}; JSON lines are needed: {CONVERSION}.")
    for number, line in enumerate(_rows(content.removeprefix(b"\xef\xbb\xbf")), 1):
        if not line.strip():
            continue
        try:
            prompt = _prompt(path, number, json.loads(line.decode("utf-8")))
            if prompt.id in lines:
                raise ValueError(f"id {prompt.id!r} is that of line {lines[prompt.id]} too")  # noqa: TRY301, reported below
        except UnicodeDecodeError as error:
            at = f"byte {error.start + 1} of the line is 0x{line[error.start]:02x}"
            raise UserError(f"{path}, line {number}: not UTF-8 ({at}). Save the file as UTF-8.") from error
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}, line {number}: {error}. Each line must be {RULE}.") from error
        lines[prompt.id] = number
        prompts.append(prompt)
    return hashlib.sha256(content).hexdigest(), prompts


def _rows(content: bytes) -> list[bytes]:
    """The lines, or the elements of one JSON array."""
    if content.lstrip().startswith(b"["):
        try:
            return [json.dumps(row).encode() for row in json.loads(content)]
        except (ValueError, RecursionError):
            pass  # the line says what is wrong
    # Bytes are split, not text: a JSON string may hold U+2028, which ends a line for str.splitlines.
    return content.split(b"\n")


def _prompt(path: str, number: int, row: Json) -> Prompt:
    if not isinstance(row, dict):
        raise ValueError(f"a {type(row).__name__}, not an object")  # noqa: TRY004, all mistakes are reported alike
    row = to_prompt_row(replace_in_json(row))
    if "prompt" not in row:
        raise ValueError('there is no "prompt"')
    texts: dict[str, str | None] = {}
    for name in ("id", "golden", "rejected"):
        value = row.get(name)
        if name == "id" and isinstance(value, int) and not isinstance(value, bool):
            value = str(value)  # of a table
        if not (value is None or isinstance(value, str)):
            raise ValueError(f'"{name}" is {value!r}, not text')
        texts[name] = value
    name = f"line-{number}" if texts["id"] is None else texts["id"]
    return Prompt(name, _messages(row["prompt"]), texts["golden"], texts["rejected"], path)


def _messages(prompt: Json) -> tuple[Message, ...]:
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    if not isinstance(turns, list) or not turns:
        raise ValueError('"prompt" is neither text nor a list of messages')
    messages = []
    for turn in turns:
        if not isinstance(turn, dict) or turn.get("role") not in ROLES:
            raise ValueError(f"a message is {turn!r}, not an object with a role of {', '.join(ROLES)}")
        if not isinstance(turn.get("content"), str):
            raise ValueError(f'the "content" of a message is {turn.get("content")!r}, not text')  # noqa: TRY004
        messages.append({"role": str(turn["role"]), "content": str(turn["content"])})
    if messages[-1]["role"] != "user":
        raise ValueError("the last message is not a user turn")
    if not messages[-1]["content"].strip():
        raise ValueError("the prompt is empty")
    return tuple(messages)
