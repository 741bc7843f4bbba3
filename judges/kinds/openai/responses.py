"""Reading what an OpenAI-compatible endpoint sent: a complete reply, or the kind of failure it was.

Kinds are those of ``harness.contracts.judge.JudgeError``. Endpoints differ, so the HTTP status decides first and
the error's code and words only where the status says too little. Messages never hold the API key.
"""

from __future__ import annotations

import email.utils
import json
import math
import re
import time
from collections.abc import Mapping
from typing import Any, Final

from harness.contracts.judge import JudgeError
from harness.text import replace_surrogates
from harness.types import Reply

LOWEST_LOGPROB: Final = -9999.0  # what OpenAI itself writes for "impossible"
# 409 and 425 (conflict, too early) pass like a failing server's errors do.
_KINDS = {401: "auth", 403: "auth", 404: "model", 408: "timeout", 409: "server", 425: "server", 429: "rate-limit"}
_CONTEXT = re.compile(
    r"context.{0,20}(length|window|size)|maximum context|too many tokens|exceed.{0,40}context", re.IGNORECASE
)
_FILTER = re.compile(r"content.?(filter|policy|management)|safety|moderation", re.IGNORECASE)
_UNSUPPORTED = re.compile(
    r"unsupported|not support|unrecognized|unknown (parameter|field|argument)|extra (inputs|fields)", re.IGNORECASE
)
_NO_MODEL = re.compile(
    r"model.{0,80}(not (found|exist)|does not exist|unknown)|no such model|unknown model", re.IGNORECASE
)
_MOST_TOKENS: Final = 10**9  # of one call; more is a broken counter
_NAMED_STATUS: Final = (
    (re.compile(r"rate.?limit|too many requests|quota|billing", re.IGNORECASE), 429),
    (re.compile(r"unauth|auth(enti|ori[sz])|api.?key|permission|credential", re.IGNORECASE), 401),
    (re.compile(r"context_length|invalid_request|unsupported|not_found|content.?filter", re.IGNORECASE), 400),
)
"""Words in the code of an error that comes without a status, and the status they stand for."""


def read_body(body: object, key: str, key_name: str) -> Reply:
    """The reply in what came with status 200: a completion, or an error that a gateway passed on under that status.

    Raises JudgeError; the key is in no message.
    """
    if isinstance(body, Mapping) and (failure := _passed_on(body)) is not None:
        status = _status_of(failure)
        error = status_failure(status, failure, {}, key, key_name, f"error {status} in a response of status 200")
        usage = _usage(body)
        error.usage = usage if any(usage) else None
        raise error
    try:
        return read_completion(body)
    except JudgeError as error:  # it may quote the body, and a careless gateway echoes the key
        raise JudgeError(error.kind, scrub(str(error), key), usage=error.usage) from None


def _passed_on(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The error in a body, or in its first choice, that stands in the place of a reply."""
    # Gateways put it beside the choices, or (after a stream was cut) into the first of them.
    choices = body.get("choices")
    error = body.get("error") if not choices else None
    if isinstance(choices, list) and choices and isinstance(choices[0], Mapping):
        error = choices[0].get("error")
    if not error:
        return None
    return error if isinstance(error, Mapping) else {"message": str(error)}


def _status_of(failure: Mapping[str, Any]) -> int:
    """The HTTP status that an error names or means; 500 where nothing is known: asking again may help."""
    for name in ("code", "status", "status_code"):
        status = whole_number(failure.get(name))
        if 400 <= status <= 599:
            return status
    code, words = (str(failure.get("code") or failure.get("type") or ""), str(failure.get("message") or ""))
    for text in (code, words):  # a code is chosen from a list, words are free: they may mention anything
        for pattern, status in _NAMED_STATUS:
            if pattern.search(text):
                return status
    return 400 if any(pattern.search(words) for pattern in (_CONTEXT, _FILTER, _NO_MODEL, _UNSUPPORTED)) else 500


def whole_number(value: object) -> int:
    """A number of a foreign body, which may be anything: 0 where it is none, below 0, or beyond reason."""
    try:
        number = int(value)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError):
        return 0
    return number if 0 <= number <= _MOST_TOKENS else 0


def read_completion(body: object) -> Reply:
    """The complete reply in a decoded ``chat.completion`` body. Nothing about its form is taken for granted.

    A reply that ended at the token limit is complete for us: its ``finish_reason`` says so and the parsers decide.
    Token counts that were not said are 0. Lone surrogates become U+FFFD.
    Raises JudgeError of kind ``empty refused`` or ``bad-reply``.
    """
    if not isinstance(body, Mapping) or not isinstance(body.get("choices"), list):
        raise JudgeError("bad-reply", "the endpoint sent something that is no chat completion; check base_url (/v1?)")
    usage = _usage(body)
    if not body["choices"]:
        raise JudgeError("empty", "the reply has no choices", usage=usage if any(usage) else None)
    try:
        return _read_choice(body, body["choices"][0], usage)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise JudgeError("bad-reply", f"the chat completion has a form of its own ({error!r})", usage=usage) from error


def _usage(body: Mapping[str, Any]) -> tuple[int, int]:
    """(prompt tokens, completion tokens) as the endpoint counts them, 0 where it does not."""
    usage = body.get("usage")
    if not isinstance(usage, Mapping):
        return 0, 0
    return whole_number(usage.get("prompt_tokens")), whole_number(usage.get("completion_tokens"))


def _read_choice(body: Mapping[str, Any], choice: Mapping[str, Any], usage: tuple[int, int]) -> Reply:
    finish = replace_surrogates(str(choice.get("finish_reason") or ""))
    # Text that the filter cut is half a verdict: it is none.
    if finish == "content_filter":
        raise JudgeError("refused", "the endpoint's content filter cut the reply", usage=usage)
    message = choice.get("message") or {}
    text = message.get("content") or ""
    if not isinstance(text, str):
        raise TypeError(f"content is {type(text).__name__}, not text")
    first = _first_token(choice.get("logprobs") or {})
    if not text.strip() and not first:
        if message.get("refusal"):
            raise JudgeError("refused", f"the model refused: {message['refusal']}", usage=usage)
        spent = " up to the token limit (thinking took it all, perhaps)" if finish == "length" else ""
        raise JudgeError("empty", f"the reply has no text{spent}", usage=usage)
    return Reply(
        text=replace_surrogates(text),
        finish_reason=finish,
        model=replace_surrogates(str(body.get("model") or "")),
        prompt_tokens=usage[0],
        completion_tokens=usage[1],
        first_token=first,
    )


def _first_token(logprobs: Mapping[str, Any]) -> dict[str, float] | None:
    """Token text to log-probability at the first position; two tokens of one text count together."""
    content = logprobs.get("content")
    if not content:
        return None
    logprobs_by_text: dict[str, float] = {}
    for entry in content[0].get("top_logprobs") or [content[0]]:
        token, logprob = replace_surrogates(str(entry["token"])), float(entry["logprob"])
        logprob = logprob if math.isfinite(logprob) else LOWEST_LOGPROB
        before = logprobs_by_text.get(token)
        if before is not None:  # log(exp(before) + exp(logprob)), from the larger one so that nothing overflows
            high, low = max(before, logprob), min(before, logprob)
            logprob = high + math.log1p(math.exp(low - high))
        logprobs_by_text[token] = logprob
    return logprobs_by_text


def judge_error(error: Exception, key: str, key_name: str) -> JudgeError:
    """What an exception of the SDK means for the client: kind, message without the key, Retry-After."""
    import openai

    cause = error.__cause__
    if isinstance(error, openai.APITimeoutError):
        return JudgeError("timeout", "the endpoint did not answer in time")
    if isinstance(error, openai.APIStatusError):
        body = error.body if isinstance(error.body, Mapping) else {"message": error.message}
        return status_failure(int(error.status_code), body, error.response.headers, key, key_name)
    if isinstance(error, UnicodeError):
        return JudgeError("bad-reply", f"the request holds text that is not valid Unicode: {error}")
    if isinstance(error, openai.APIConnectionError):
        # A body that breaks off is a protocol error below the SDK; no byte at all is a connection that failed.
        cut = "incomplete" in str(cause) or "without sending complete" in str(cause)
        detail = scrub(f"{type(cause).__name__}: {cause}" if cause else str(error), key)
        return JudgeError("truncated" if cut else "connection", detail)
    if isinstance(error, ValueError) or isinstance(cause, ValueError):
        return JudgeError(
            "truncated", "the reply's body is not valid JSON; it was cut on the way, or the endpoint is broken"
        )
    return JudgeError("bad-reply", scrub(f"{type(error).__name__}: {error}", key))


def status_failure(
    status: int, body: Mapping[str, Any], headers: Mapping[str, str], key: str, key_name: str, where: str = ""
) -> JudgeError:
    """What an HTTP status with an error in OpenAI's form (``body``: its inner object) means.

    ``where`` says how the status came to be known, where it was not the response's own.
    """
    code = str(body.get("code") or body.get("type") or "")
    words = scrub(str(body.get("message") or "no message"), key)[:300]
    message = f"{where or f'HTTP {status}'}: {words}"
    if status == 402 or (status == 429 and code in ("insufficient_quota", "billing_hard_limit_reached")):
        return JudgeError("auth", f"{message} (the account has no credit left: retrying cannot help)")
    # Before the words are read: a failing server may say anything.
    if status >= 500:
        return JudgeError("server", message, _retry_after(headers))
    kind = _KINDS.get(status)
    if kind == "auth":
        return JudgeError(kind, f"{message} (the key is read from the environment variable {key_name})")
    if kind is not None:
        return JudgeError(kind, message, _retry_after(headers))
    return _request_error(code, words, message, str(body.get("param") or ""))


def _request_error(code: str, words: str, message: str, param: str) -> JudgeError:
    """HTTP 400, 413, 422 and the like: about this request, or about every request to this model?"""
    if _FILTER.search(code) or _FILTER.search(words):
        return JudgeError("refused", message)
    if "context_length" in code or _CONTEXT.search(words):
        return JudgeError("context", f"{message} (the judge prompt is longer than the model's context)")
    if "model_not_found" in code or _NO_MODEL.search(words):
        return JudgeError("model", message)
    if "unsupported" in code or _UNSUPPORTED.search(words):
        remedy = "set max_tokens_field, temperature, logprobs or extra_body of this judge to what the model takes"
        return JudgeError("model", f"{message} ({f'{param}: ' if param else ''}{remedy})")
    return JudgeError("bad-reply", message)


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


def scrub(text: str, key: str) -> str:
    """``text`` fit to be printed and stored: without the key that an endpoint echoed, without lone surrogates."""
    if key and key != "none":
        for form in (key, repr(key)[1:-1], json.dumps(key)[1:-1]):
            text = text.replace(form, "[api key]")
    return replace_surrogates(text)
