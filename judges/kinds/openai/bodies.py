"""A complete reply in whatever wrapping an endpoint sent it: as text, as events, inside of another object, in parts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from harness.contracts.judge import JudgeError

_MAX_TOKENS: Final = 10**9  # of one call; more is a broken counter
_WRAPPERS: Final = ("data", "result", "response", "body")  # where gateways put a completion that they wrap
_THINKING: Final = frozenset({"thinking", "redacted_thinking", "reasoning", "reasoning_content", "thought"})


def unwrap(body: object) -> Mapping[str, Any]:
    """The chat completion (or error) in a body; empty where there is none. Raises JudgeError ``truncated``."""
    for _ in range(3):  # JSON inside of a JSON string inside of a list has been seen; no end to that has not
        if isinstance(body, bytes):
            body = body.decode("utf-8", "replace")
        if isinstance(body, str):
            body = _parse(body.removeprefix("\ufeff").strip())
        if isinstance(body, list) and len(body) == 1:
            body = body[0]
    if not isinstance(body, Mapping):
        return {}
    if "choices" not in body and not body.get("error"):
        inner_bodies = (body.get(name) for name in _WRAPPERS)
        body = next((part for part in inner_bodies if isinstance(part, Mapping) and "choices" in part), body)
    return body


def _parse(text: str) -> object:
    if text.startswith(("data:", "event:", "id:", ":")):
        return _join_events(text)
    if not text.startswith(("{", "[", '"')):
        return {}
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise JudgeError("truncated", "the reply's body is not valid JSON; it was cut on the way") from None


def _join_events(text: str) -> dict[str, object]:
    """The completion in a stream of server-sent events, which some gateways send without being asked to."""
    lines = [line[5:].strip() for line in text.replace("\r\n", "\n").split("\n") if line.startswith("data:")]
    completion: dict[str, object] = {}
    choice: dict[str, Any] = {}
    message: dict[str, Any] = {}
    logprobs: list[object] = []
    try:
        for chunk in (json.loads(line) for line in lines if line not in ("", "[DONE]")):
            completion |= {name: value for name, value in chunk.items() if value and name != "choices"}
            for part in (chunk.get("choices") or [])[:1]:
                for name, value in (part.get("delta") or part.get("message") or {}).items():
                    if isinstance(value, str | list):
                        message[name] = message[name] + value if name in message else value
                logprobs += (part.get("logprobs") or {}).get("content") or []
                choice |= {name: part[name] for name in ("finish_reason", "error") if part.get(name)}
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise JudgeError("truncated", "the reply came as a stream of events, and one cannot be read") from None
    if completion.get("error"):
        return completion
    if not choice and "[DONE]" not in lines:
        raise JudgeError("truncated", "the reply came as a stream of events that ends before its end")
    choice |= {"message": message, "logprobs": {"content": logprobs} if logprobs else None}
    return completion | {"choices": [choice]}


def text_and_thinking(content: object) -> tuple[str, str]:
    """Of a message's content: text, or typed parts (Mistral, Anthropic, Gemini, Cohere). TypeError for others."""
    if content is None or isinstance(content, str):
        return content or "", ""
    if isinstance(content, Mapping):
        content = content["parts"] if isinstance(content.get("parts"), list) else [content]
    if not isinstance(content, list):
        raise TypeError(f"content is {type(content).__name__}, not text")
    texts: dict[bool, list[str]] = {False: [], True: []}
    for part in content:
        kind = str(part.get("type") or "") if isinstance(part, Mapping) else ""
        is_thinking = kind in _THINKING or (isinstance(part, Mapping) and part.get("thought") is True)
        texts[is_thinking].append(_part_text(part, is_thinking))
    return "".join(texts[False]), "".join(texts[True])


def _part_text(part: object, is_thinking: bool) -> str:
    """Text of one part, however deep: ``{"thinking": [{"type": "text", "text": ...}]}``."""
    if isinstance(part, str):
        return part
    if isinstance(part, list):
        return "".join(_part_text(item, is_thinking) for item in part)
    if isinstance(part, Mapping):
        names = ("text", "value", *_THINKING, "summary") if is_thinking else ("text", "value")
        for name in names:
            if isinstance(part.get(name), str | list | Mapping):
                return _part_text(part[name], is_thinking)
    if is_thinking:
        return ""  # encrypted, or in a form of its own: no part of the answer in any case
    raise TypeError(f"a part of the content is no text: {str(part)[:80]}")


def token_counts(counts: object) -> tuple[int, int]:
    """(read, written) of a body's ``usage``, 0 where not counted. Thinking counts as written: it is paid like text.

    Gemini's and xAI's gateways leave it out of ``completion_tokens``; ``total_tokens`` or the details have it.
    """
    if not isinstance(counts, Mapping):
        return 0, 0
    read_count = whole_number(counts.get("prompt_tokens"))
    if not read_count:  # Anthropic's own counter leaves out what its cache took and gave
        names = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
        read_count = sum(whole_number(counts.get(name)) for name in names)
    written_count = whole_number(counts.get("completion_tokens")) or whole_number(counts.get("output_tokens"))
    details = counts.get("completion_tokens_details") or counts.get("output_tokens_details")
    thinking_count = whole_number(details.get("reasoning_tokens")) if isinstance(details, Mapping) else 0
    if thinking_count > written_count:  # a part cannot be larger than the whole: it was not counted in
        written_count += thinking_count
    # Without a count of the prompt, the total says nothing of the reply.
    return read_count, max(written_count, whole_number(counts.get("total_tokens")) - read_count if read_count else 0)


def whole_number(value: object) -> int:
    """0 where the value of a foreign body is no number, below 0, or beyond reason."""
    try:
        number = int(value)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError):
        return 0
    return number if 0 <= number <= _MAX_TOKENS else 0
