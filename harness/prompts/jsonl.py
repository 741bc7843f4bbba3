"""Source ``jsonl``: a user's own file (JSON lines, CSV, Parquet), checked line by line before anything runs."""

import random
from collections.abc import Mapping

from harness.contracts.options import PathText, options
from harness.contracts.source import Pin, PromptSource
from harness.errors import UserError
from harness.prompts.layouts import OUR_KEYS, check_keys, to_prompt_row
from harness.rows import line_number, read_rows
from harness.text import first_of_each_kind
from harness.types import Json, Message, Prompt

RULE = 'one JSON object with "prompt" (text, or messages ending in a user turn), "golden", "rejected", "id" (text)'
ROLES = ("system", "user", "assistant")


@options
class JsonlOptions:
    path: PathText
    """The file: one ``{"prompt": ..., "golden": ..., "rejected": ..., "id": ...}`` a line; or a CSV, TSV or Parquet
    table with these columns."""


class JsonlPrompts(PromptSource[JsonlOptions]):
    name = "jsonl"
    summary = "your own file, prompts.path: JSON lines, CSV, TSV or Parquet"
    config = JsonlOptions

    def pin(self, config: JsonlOptions) -> Pin:
        digest, prompts = read_file(config.path)
        pairs = any(prompt.golden and prompt.rejected for prompt in prompts)
        characters = sum(len(message["content"]) for prompt in prompts for message in prompt.messages)
        mean = characters // len(prompts) if prompts else None
        return Pin({"sha256": digest}, pairs, any(prompt.golden for prompt in prompts), len(prompts), mean)

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
    """sha256, and the prompts in the rows. Raises UserError with file and line."""
    file = read_rows(path, "prompts.path")
    if file.columns:
        try:
            check_keys([name for name in file.columns if name])  # a spreadsheet may write an empty column
        except ValueError as error:
            raise UserError(f"{path}, line 1 (columns {', '.join(OUR_KEYS)}): {error}") from error
    lines: dict[str, str] = {}
    prompts = []
    problems = list(file.problems)
    for place, row in file.rows:
        try:
            prompt = _prompt(path, place.rpartition(" ")[2], row)
            if prompt.id in lines:
                raise ValueError(f"id {prompt.id!r} is that of {lines[prompt.id]} too")  # noqa: TRY301, reported below
        except ValueError as error:
            problems.append(f"{place}: {error}")
            continue
        lines[prompt.id] = place
        prompts.append(prompt)
    if problems:
        problems.sort(key=line_number)
        more = [f"  {line}" for line in first_of_each_kind(problems[1:])]
        rule = f"a row with {', '.join(OUR_KEYS)}" if file.columns else RULE
        text = "\n".join([f"{path}, {problems[0].removesuffix('.')}. Each line must be {rule}.", *more])
        raise UserError(text)
    return file.digest, prompts


def _prompt(path: str, number: str, row: Mapping[str, Json]) -> Prompt:
    row = to_prompt_row(row)
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
