"""A complete reply in whatever wrapping an endpoint sent it: as text, as events, inside of another object, in parts."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from harness.contracts.judge import JudgeError
from harness.text import parse_json

_MAX_TOKENS: Final = 10**9  # of one call; more is a broken counter
_WRAPPERS: Final = ("data", "result", "response", "body", "output")  # where gateways put a completion that they wrap
# Types and names of parts: thinking, redacted_thinking, reasoning, reasoning.text, reasoningContent, summary_text, ...
_PART: Final = re.compile("(output_)?text|(redacted_)?thinking|reasoning")
_REMARKS: Final = re.compile("^:.*$", re.MULTILINE)
_THINKING: Final = re.compile("think|thought|reason|summary", re.IGNORECASE)


def unwrap(body: object) -> Mapping[str, Any]:
    """The chat completion (or error) in a body; empty where there is none. Raises JudgeError ``truncated``."""
    outer: Mapping[str, Any] = {}
    for _ in range(6):  # JSON inside of a JSON string inside of a list has been seen; no end to that has not
        if isinstance(body, bytes):
            body = body.decode("utf-8", "replace")
        if isinstance(body, str):
            body = _parse(body.removeprefix("\ufeff").strip())
        elif isinstance(body, list) and len(body) == 1:
            body = body[0]
        elif isinstance(body, Mapping) and "choices" not in body and not body.get("error"):
            if completion := _foreign(body):
                return completion
            outer = outer or body
            body = next((body[name] for name in _WRAPPERS if body.get(name)), None)
    is_reply = isinstance(body, Mapping) and ("choices" in body or body.get("error"))
    return body if is_reply and isinstance(body, Mapping) else outer


def _foreign(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """A reply in another interface's form (Ollama, Anthropic, Gemini, Cohere, OpenAI's Responses) as a completion."""
    candidates, output = body.get("candidates"), body.get("output")
    usage, reason = body.get("usage") or body.get("usageMetadata") or body, body.get("stop_reason")
    if isinstance(body.get("message"), Mapping) and {"done", "finish_reason"} & set(body):  # the latter: Cohere
        message, reason = body["message"], body.get("done_reason") or body.get("finish_reason")
    elif isinstance(output, Mapping) and isinstance(output.get("message"), Mapping):  # Amazon Bedrock
        message, reason = output["message"], body.get("stopReason")
    elif isinstance(body.get("content"), list) and "stop_reason" in body:
        message = {"content": body["content"]}
    elif isinstance(candidates, list) and candidates and isinstance(candidates[0], Mapping):
        message, reason = {"content": candidates[0].get("content")}, candidates[0].get("finishReason")
    elif isinstance(output, list) and body.get("object") == "response":
        parts = [part for part in output if isinstance(part, Mapping)]
        content = [inner for part in parts if isinstance(part.get("content"), list) for inner in part["content"]]
        details = body.get("incomplete_details")
        reason = details.get("reason") if isinstance(details, Mapping) else "stop"
        message = {"content": [*(part for part in parts if part.get("type") == "reasoning"), *content]}
    else:
        return {}
    return {"model": body.get("model"), "usage": usage, "choices": [{"message": message, "finish_reason": reason}]}


def _parse(text: str) -> object:
    if text.startswith(":"):  # remarks that keep a connection open, before an answer or within a stream
        rest = _REMARKS.sub("", text).lstrip()
        text = rest if rest.startswith("{") else text
    if text.startswith(("data:", "event:", "id:", ":")):
        lines = text.replace("\r\n", "\n").split("\n")
        return _join_events(line[5:] for line in lines if line.startswith("data:"))
    if not text.startswith(("{", "[", '"')):
        return {}
    try:
        return parse_json(text)
    except ValueError:
        if text.count("\n") and text.startswith("{") and text.endswith("}"):
            return _join_events(text.split("\n"))  # one object a line
        raise JudgeError("truncated", "the reply's body is not valid JSON; it was cut on the way") from None


def _join_events(data: Iterable[str]) -> dict[str, object]:
    """The completion in a stream of server-sent events, which some gateways send without being asked to."""
    lines = [line.strip() for line in data]
    completion: dict[str, object] = {}
    choice: dict[str, Any] = {}
    message: dict[str, Any] = {}
    logprobs: list[object] = []
    try:
        for chunk in (parse_json(line) for line in lines if line not in ("", "[DONE]")):
            completion |= {name: value for name, value in chunk.items() if value and name != "choices"}
            # Ollama's own: the message stands outside
            done = chunk.get("done_reason") or ("stop" if chunk.get("done") is True else None)
            own = [{"delta": chunk["message"], "finish_reason": done}] if "message" in chunk else []
            for part in (chunk.get("choices") or own)[:1]:
                for name, value in (part.get("delta") or part.get("message") or {}).items():
                    if isinstance(value, str | list):
                        message[name] = message[name] + value if name in message else value
                logprobs += (part.get("logprobs") or {}).get("content") or []
                choice |= {name: part[name] for name in ("finish_reason", "error") if part.get(name)}
    except (ValueError, TypeError, AttributeError):
        raise JudgeError("truncated", "the reply came as a stream of events, and one cannot be read") from None
    if completion.get("error"):
        return completion
    if not choice and "[DONE]" not in lines:
        raise JudgeError("truncated", "the reply came as a stream of events that ends before its end")
    choice |= {"message": message, "logprobs": {"content": logprobs} if logprobs else None}
    return completion | {"choices": [choice]}


def text_and_thinking(content: object) -> tuple[str, str]:
    """Of a message's content: text, or typed parts (Mistral, Anthropic, Gemini, Cohere). TypeError for others.

    Raises JudgeError ``refused`` for a part that is a refusal.
    """
    if isinstance(content, str) and content.startswith(('[{"type":', "[{'type':")):
        content = _parts(content)
    if content is None or isinstance(content, str):
        return content or "", ""
    if isinstance(content, Mapping):
        content = content["parts"] if isinstance(content.get("parts"), list) else [content]
    if not isinstance(content, list):
        raise TypeError(f"content is {type(content).__name__}, not text")
    texts: dict[bool, list[str | None]] = {False: [], True: []}
    for part in content:
        fields = part if isinstance(part, Mapping) else {}
        kind = str(fields.get("type") or next(iter(fields), ""))  # Bedrock's parts have no type, but one field
        if kind == "refusal":
            raise JudgeError("refused", f"the model refused: {fields.get('refusal')}")
        is_thinking = bool(_THINKING.search(kind)) or fields.get("thought") is True
        texts[is_thinking].append(part_text(part, is_thinking))
    if content and None in texts[False] and not any(texts[False]):
        raise TypeError(f"no part of the content is text: {str(content)[:80]}")
    return "".join(filter(None, texts[False])), "".join(filter(None, texts[True]))


def _parts(text: str) -> object:
    """The typed parts that a gateway turned into text, as JSON or as Python prints them; else the text itself."""
    try:
        parts = parse_json(text) if text.startswith('[{"') else ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text
    is_content = all(isinstance(part, Mapping) and _PART.fullmatch(str(part.get("type"))) for part in parts)
    return parts if is_content else text


def part_text(part: object, is_thinking: bool) -> str | None:
    """Text of one part, however deep: ``{"thinking": [{"type": "text", "text": ...}]}``; none of a call of a tool."""
    if isinstance(part, str):
        return part
    if isinstance(part, list):
        return "".join(part_text(item, is_thinking) or "" for item in part)
    if isinstance(part, Mapping):
        names = [name for name in part if is_thinking and name != "type" and _THINKING.search(str(name))]
        for name in ("text", "value", *names, "content"):
            if isinstance(part.get(name), str | list | Mapping):
                return part_text(part[name], is_thinking)
        if "text" in part:
            return ""  # null
    return None  # encrypted, or in a form of its own


def token_counts(counts: object) -> tuple[int, int]:
    """(read, written) of a body's ``usage``, 0 where not counted. Thinking counts as written: it is paid like text.

    Gemini's and xAI's gateways leave it out of ``completion_tokens``; ``total_tokens`` or the details have it.
    """
    if not isinstance(counts, Mapping):
        return 0, 0

    counts = counts["tokens"] if isinstance(counts.get("tokens"), Mapping) else counts

    def count(fields: Mapping[str, Any], *names: str) -> int:
        return next(filter(None, (whole_number(fields.get(name)) for name in names)), 0)

    read_count = count(counts, "prompt_tokens", "promptTokenCount", "prompt_eval_count", "inputTokens")
    if not read_count:  # Anthropic's own counter leaves out what its cache took and gave
        parts = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
        read_count = sum(whole_number(counts.get(name)) for name in parts)
    names = "completion_tokens", "output_tokens", "candidatesTokenCount", "eval_count", "outputTokens"
    written_count = count(counts, *names)
    details = counts.get("completion_tokens_details") or counts.get("output_tokens_details")
    # Perplexity counts them beside the others.
    thinking_names = "reasoning_tokens", "thinking_tokens", "thoughtsTokenCount", "thoughts_token_count"
    thinking_count = max(count(part, *thinking_names) for part in (details, counts) if isinstance(part, Mapping))
    # A part cannot be larger than the whole: it was not counted in. Gemini's own interface never counts it in.
    if thinking_count > written_count or "candidatesTokenCount" in counts:
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
