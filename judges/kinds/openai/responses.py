"""Reading what an OpenAI-compatible endpoint sent: a complete reply, or the kind of failure it was.

Endpoints differ, so the HTTP status decides first, and the error's code and words only where the status says too
little. Messages never hold the API key.
"""

from __future__ import annotations

import email.utils
import math
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from harness.api_key import ApiKey
from harness.contracts.judge import JudgeError
from harness.text import replace_surrogates
from harness.types import Reply
from judges.kinds.openai.bodies import part_text, text_and_thinking, token_counts, unwrap, whole_number

LOWEST_LOGPROB: Final = -9999.0  # what OpenAI itself writes for "impossible"
_MOST_WORDS: Final = 300  # characters of an endpoint's message: some send a page of HTML
_NO_CREDIT: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
# 409 and 425 (conflict, too early) pass like a failing server's errors do; 501 (not implemented) does not.
_STATUS: Final[Mapping[int, str]] = {
    401: "auth", 402: "auth", 403: "auth", 404: "model", 405: "model", 408: "timeout", 409: "server", 410: "model",
    413: "context", 415: "bad-reply", 425: "server", 429: "rate-limit", 451: "refused", 501: "model",
}  # fmt: skip
_FIELD: Final = re.compile(
    r"\b(temperature|top_p|(?:top_)?logprobs|max_tokens|max_completion_tokens)\b", re.IGNORECASE
)  # of a request; the first of them that an error names is the one it is about
_UNSUPPORTED_MODEL: Final = re.compile(
    r"unsupported|not support|unrecognized|unknown (parameter|field|argument|name)|extra (inputs|fields)"
    rf"|{_FIELD.pattern}.{{0,40}}(cannot|must|has to|should|only|deprecated|removed|range|greater|less|at most|maximum"
    r"|not (allowed|permitted|available|accepted))"
    rf"|(not (allow|permit|accept)|cannot|only|invalid|requested|less than).{{0,60}}{_FIELD.pattern}",
    re.IGNORECASE,
)
# What servers say whose chat template or model has no system turn: vLLM, SGLang and llama.cpp with Gemma's and
# Mistral's templates, OpenAI's o1, Gemini's endpoint with Gemma, Anthropic's.
# Their words differ too much to be listed: whoever speaks of roles gets the request once more without a system turn,
# and only a request that is taken then changes anything.
NO_SYSTEM: Final = re.compile(
    r"\broles?\b|system.{0,3}(message|prompt|instruction|turn)s?\b|developer instruction|.system. is not one of"
    r"|value.{0,10}system|\bsystem\].{0,20}not|(start|be|begin).{0,10}(with|from) (an? )?.?user|alternate between",
    re.IGNORECASE,
)
_TOKEN_LIMIT: Final = re.compile(
    r"max_(completion_|new_|output_)?tokens|maximum (output|completion|tokens)|tokens (for|in) the completion"
    r"|\d+ in the completion",
    re.IGNORECASE,
)
_MODERATION: Final = re.compile(r"moderation|flagged|content.?(filter|policy|management)", re.IGNORECASE)
_CREDIT: Final = re.compile(r"credit balance|insufficient.{0,10}(balance|credit|fund)|\blimit: 0\b", re.IGNORECASE)
_TOO_LARGE: Final = re.compile(r"request too large", re.IGNORECASE)  # Groq, OpenAI: for the tokens of any one minute
# Those of HTTP 400, 422 and the like, which are about this request or about every request to this model.
_OF_REQUEST: Final = tuple(
    (kind, re.compile(pattern, re.IGNORECASE))
    for kind, pattern in (
        ("refused", _MODERATION.pattern + r"|safety|data_?inspection|inappropriate content|usage polic"),
        ("refused", r"content exists risk|guardrail|prohibited.content|violates.{0,30}policy|敏感|违规|不安全"),
        ("context", r"context.{0,20}(length|window|size)|maximum context|too many tokens|exceed.{0,40}context"),
        ("context", r"max_(completion_|new_|output_)?tokens.{0,40}(too large|exceed|at most| > |less than|be <|range)"),
        ("context", r"tokens.{0,40}(be greater than (?!or equal to [01]\b)|requested exceed)"),
        ("context", r"exceed.{0,20}tokens|have less than \d+ tokens"),
        ("context", r"(prompt|input).{0,60}(exceed|is too long|too large)|range of (input length|max_tokens)"),
        # xAI and vLLM; Groq and Cerebras; Moonshot.
        ("context", r"maximum (prompt|model|input) length|reduce the length of|exceeded model token limit"),
        ("context", r"too many (input|prompt) tokens|sequence length.{0,20}exceed"),
        ("auth", r"api.?key.{0,20}(not valid|invalid|expired)|location is not supported|" + _CREDIT.pattern),
        ("model", r"model.{0,80}(not.(found|exist|loaded|available)|does not exist|unknown)|no such model"),
        ("model", r"(unknown|invalid|not a valid) model|no models? loaded|chat template"),
        ("model", r"model.{0,80}(deprecated|decommissioned|retired)"),
        ("model", _UNSUPPORTED_MODEL.pattern),
    )
)  # what an error's code and words say of its kind, where its status does not; the first pattern that is found counts
_OF_ANY: Final = tuple(
    (kind, re.compile(pattern, re.IGNORECASE))
    for kind, pattern in (
        ("rate-limit", r"rate.?limit|too many requests|quota|billing"),
        ("auth", r"unauth|auth(enti|ori[sz])|api.?key|permission|credential"),
        ("bad-reply", r"invalid_request|not_found"),
    )
)
# Stop reasons of a refusal: OpenAI and Azure, Anthropic, Gemini, Amazon Bedrock, Zhipu.
_REFUSAL_REASON: Final = re.compile(
    r"refus|declin|content.?filter|safety|prohibit|recitation|block|\bspii\b|guardrail|sensitive|moderation|violation",
    re.IGNORECASE,
)
# Stop reasons of a reply cut at its token limit: OpenAI; Gemini and Anthropic; Mistral.
_LENGTH_REASONS: Final = frozenset({"length", "max_tokens", "max_output_tokens", "max_length", "model_length"})


@contextmanager
def errors_named(key: ApiKey) -> Iterator[None]:
    """What the SDK raises leaves the block as JudgeError."""
    from openai import OpenAIError

    try:
        yield
    except (OpenAIError, ValueError, RecursionError) as error:  # a body that is no JSON, or nested without end
        raise _sdk_failure(error, key) from None


def _sdk_failure(error: Exception, key: ApiKey) -> JudgeError:
    import openai

    cause = error.__cause__
    if isinstance(error, openai.APITimeoutError):
        return JudgeError("timeout", "the endpoint did not answer in time")
    if isinstance(error, openai.APIStatusError):
        body = error.body if isinstance(error.body, Mapping) else {"message": error.message}
        return status_failure(int(error.status_code), body, key, error.response.headers)
    if isinstance(error, UnicodeError):
        return JudgeError("bad-reply", f"the request holds text that is not valid Unicode: {error}")
    if isinstance(error, openai.APIConnectionError):
        # A body that breaks off is a protocol error below the SDK; no byte at all is a connection that failed.
        is_truncated = "incomplete" in str(cause) or "without sending complete" in str(cause)
        detail = key.scrub(f"{type(cause).__name__}: {cause}" if cause else str(error))
        return JudgeError("truncated" if is_truncated else "connection", detail)
    if isinstance(error, ValueError) or isinstance(cause, ValueError):
        text = "the reply's body is not valid JSON; it was cut on the way, or the endpoint is broken"
        return JudgeError("truncated", text)
    return JudgeError("bad-reply", key.scrub(f"{type(error).__name__}: {error}"))


def status_failure(
    status: int, failure: object, key: ApiKey, headers: Mapping[str, str] | None = None, location: str = ""
) -> JudgeError:
    """What an HTTP status (0: not known) with an error in OpenAI's form (its inner object, or its words) means."""
    error = failure if isinstance(failure, Mapping) else {"message": failure}
    metadata = error.get("metadata")
    # OpenRouter says "Provider returned error", and has the provider's own words one level down.
    raw = metadata.get("raw") if isinstance(metadata, Mapping) else None
    code = str(error.get("code") or error.get("type") or "")
    words = str(error.get("message") or error.get("detail") or "no message") + (f": {raw}" if raw else "")
    # a failing server may say anything: words do not count
    kind = _STATUS.get(status) or ("server" if status >= 500 else None)
    # OpenRouter and Azure refuse a prompt with 403 too, and the next prompt is another matter.
    if status == 403 and (_MODERATION.search(code) or _MODERATION.search(words)):
        kind = "refused"
    elif status == 429 and _TOO_LARGE.search(words):
        kind = "context"
    if kind is None:
        patterns = _OF_REQUEST if status else _OF_REQUEST + _OF_ANY
        # A code is chosen from a list, words are free: they may mention anything.
        kinds = (kind for text in (code, words) for kind, pattern in patterns if pattern.search(text))
        # Of an error without a status nothing is known: asking again may help.
        kind = next(kinds, "bad-reply" if status else "server")
    remedy = ""
    if status == 402 or (kind in ("rate-limit", "auth") and (code in _NO_CREDIT or _CREDIT.search(words))):
        kind, remedy = "auth", "the account has no credit left: retrying cannot help"
    elif kind == "auth":
        remedy = f"the key is read from the environment variable {key.variable}"
    elif kind == "context":
        remedy = (
            "prompt and token limit together exceed the model's window: lower judge_max_tokens of the benchmark for a "
            "judge, max_new_tokens for a model, below window minus prompt; or serve it with a larger window"
            if _TOKEN_LIMIT.search(words)
            else "the prompt is longer than the model's context: serve it with a larger window, or name another model"
        )
    elif kind in ("model", "bad-reply"):
        remedy = _remedy_of_request(status, f"{code} {words}")
    # Without the key first, and cut then: half a key would not be recognised.
    message = f"{location or f'HTTP {status}'}: {key.scrub(words)[:_MOST_WORDS].rstrip()}"
    return JudgeError(kind, message, _retry_after(headers or {}), remedy=remedy)


def _remedy_of_request(status: int, words: str) -> str:
    """The option of a judge or model that decides whether its server takes the request; empty where none is known."""
    if NO_SYSTEM.search(words):
        return "set fold_system: true to put the system text into the first user turn"
    if status in (404, 405) and re.search("resource not found|not allowed", words, re.IGNORECASE):
        return (
            "nothing is at this address; check base_url. Azure's older addresses (/openai/deployments/NAME) need "
            "?api-version=DATE at its end; its /openai/v1 does not"
        )
    if status == 404 or not _UNSUPPORTED_MODEL.search(words):
        return ""
    field = _FIELD.search(words)
    name = field[1].lower() if field else ""
    if name == "max_tokens" and "max_completion_tokens" in words:
        option = "max_tokens_field: max_completion_tokens"
    elif name.startswith("max_"):
        option = "max_tokens_field, or thinking_tokens, which adds to the limit,"
    elif name == "top_logprobs":
        option = "extra_body: {top_logprobs: N} with the most that it gives, or logprobs: false,"
    elif name == "logprobs":
        option = "logprobs: false"
    elif name:
        option = f"leave_out: [{name}], or temperature to what it takes,"
    elif re.search("param|field|argument|inputs|name", words, re.IGNORECASE):
        option = "leave_out: [FIELD], or extra_body without it,"
    else:
        return ""
    return f"set {option} in the options of this judge or model"


def read_body(body: object, key: ApiKey) -> Reply:
    """The complete reply in what came with status 200, in whatever form; cut at the token limit, it is complete too.

    Raises JudgeError: ``empty``, ``refused`` or ``bad-reply``; or the kind of an error that a gateway passed on.
    """
    content = unwrap(body)
    usage = token_counts(content.get("usage"))
    paid_usage = usage if any(usage) else None
    choices = content.get("choices")
    choices = [choices] if isinstance(choices, Mapping) else choices
    choice = choices[0] if isinstance(choices, list) and choices else None
    # Gateways pass an error on beside the choices, or (after a stream was cut) in the first of them.
    error = content.get("error") if not choices else choice.get("error") if isinstance(choice, Mapping) else None
    if error:
        codes = [error.get(name) for name in ("code", "status", "status_code")] if isinstance(error, Mapping) else []
        status = next((number for number in map(whole_number, codes) if 400 <= number <= 599), 0)
        failure = status_failure(status, error, key, location=f"error {status or ''} in a response of status 200")
        failure.usage = paid_usage
        raise failure
    if not isinstance(choices, list):
        raise JudgeError("bad-reply", "the endpoint sent something that is no chat completion; check base_url (/v1?)")
    if not choices:
        # Gemini's gateways say in this way that the prompt was blocked.
        feedback = content.get("promptFeedback") or content.get("prompt_feedback")
        reason = feedback.get("blockReason") or feedback.get("block_reason") if isinstance(feedback, Mapping) else None
        if reason:
            raise JudgeError("refused", key.scrub(f"the endpoint blocked the prompt: {reason}"), usage=paid_usage)
        raise JudgeError("empty", "the reply has no choices", usage=paid_usage)
    try:
        return _read_choice(content, choices[0], usage)
    except JudgeError as failure:
        raise JudgeError(failure.kind, key.scrub(str(failure)), usage=usage) from None
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as problem:
        text = key.scrub(f"the chat completion has a form of its own ({problem!r})")  # it may quote the body
        raise JudgeError("bad-reply", text, usage=usage) from None


def _read_choice(body: Mapping[str, Any], choice: Mapping[str, Any], usage: tuple[int, int]) -> Reply:
    finish_reason = replace_surrogates(str(choice.get("finish_reason") or ""))
    # Text that a filter cut, or that ends in a refusal, is half a verdict: it is none.
    if _REFUSAL_REASON.search(finish_reason):
        raise JudgeError(
            "refused", f"the endpoint's content filter cut the reply, or the model declined ({finish_reason})"
        )
    finish = "length" if finish_reason.lower() in _LENGTH_REASONS else finish_reason
    message = choice.get("message") or choice.get("delta") or {}
    message = {"content": message} if isinstance(message, str) else message
    text, parts = text_and_thinking(message.get("content") if message else choice.get("text"))
    first_token = _first_token(choice.get("logprobs") or {})
    thinking = _thinking(message) or replace_surrogates(parts.strip())
    # A reply that is thinking up to the token limit, shown or hidden, would be so again: it is complete.
    if not text.strip() and not first_token and finish != "length":
        if message.get("refusal"):
            raise JudgeError("refused", f"the model refused: {message['refusal']}")
        # OpenRouter has the provider's own word there, vLLM and others a second field.
        native_reason = str(choice.get("native_finish_reason") or choice.get("stop_reason") or "")
        if _REFUSAL_REASON.search(native_reason):
            raise JudgeError("refused", f"the provider's content filter stopped the reply ({native_reason})")
        raise JudgeError("empty", f"the reply has no text{', only thinking' if thinking.strip() else ''}")
    served_model = replace_surrogates(str(body.get("model") or ""))
    return Reply(replace_surrogates(text), finish, served_model, *usage, first_token=first_token, thinking=thinking)


def _thinking(message: Mapping[str, Any]) -> str:
    """What a server that knows the model's marks sends beside the answer: ``reasoning_content`` (DeepSeek, SGLang,
    llama.cpp, vLLM to 0.11), ``reasoning`` (OpenRouter, Groq, Ollama, vLLM later), ``thinking``; or in parts
    (OpenRouter's ``reasoning_details``, LiteLLM's ``thinking_blocks``)."""
    names = ("reasoning_content", "reasoning", "thinking", "reasoning_text", "reasoning_details", "thinking_blocks")
    message = {**(message.get("provider_specific_fields") or {}), **message}  # LiteLLM
    texts = ((part_text(message.get(name), True) or "").strip() for name in names)
    return replace_surrogates(next(filter(None, texts), ""))


def _first_token(logprobs: Mapping[str, Any]) -> dict[str, float] | None:
    """Token text to log-probability at the first position; two tokens of one text count together."""
    content = logprobs.get("content")
    if not content:
        return None
    logprobs_by_text: dict[str, float] = {}
    for entry in content[0].get("top_logprobs") or [content[0]]:
        token, logprob = replace_surrogates(str(entry["token"])), float(entry["logprob"])
        logprob = logprob if math.isfinite(logprob) else LOWEST_LOGPROB
        earlier_logprob = logprobs_by_text.get(token)
        if earlier_logprob is not None:  # log(exp(a) + exp(b)), from the larger one so that nothing overflows
            high, low = max(earlier_logprob, logprob), min(earlier_logprob, logprob)
            logprob = high + math.log1p(math.exp(low - high))
        logprobs_by_text[token] = logprob
    return logprobs_by_text


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from ``retry-after-ms`` or ``Retry-After`` (seconds or an HTTP date); ``None``: not stated."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) * unit
        except ValueError:
            try:
                seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
            except (TypeError, ValueError, OverflowError):  # no date, or one in no year that a clock has
                continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    return None
