"""Is there an OpenAI-compatible endpoint at this address, does it take our key, does it know the model?

Standard library only, so that ``plan`` stays light. Costs nothing, save where the endpoint's list fails or lacks the
model: then one token is asked for, because many servers answer to names that they do not list (``transformers serve``
fails at its list where the hub's cache is missing, and answers all the same).
"""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from typing import Any, Final

_SECONDS: Final = 30.0  # a small server that answers one call at a time may be busy with one
_BYTES: Final = 4_000_000


def probe(base_url: str, model: str, key: str, max_tokens_field: str, key_name: str) -> str | None:
    """``None`` if judging can start, or what is wrong and the remedy. May hold what the endpoint said, key included."""
    where = f"judge model {model!r} at {base_url}"
    status, body = _call(f"{base_url}/models", key)
    if status is None and "timed out" in body:
        return f"{where} did not answer within {_SECONDS:.0f} s. It may be busy with other calls: wait for them."
    if status is None:
        return f"{where} cannot be reached ({body}). Start the server, or correct base_url."
    if status in (401, 403):
        return f"{where} refused the key (HTTP {status}). Check the environment variable {key_name}."
    names = _names(body) if status == 200 else []
    if status < 500 and (not names or model in names):
        return None  # 404 and the like: an endpoint without a list of models can still judge
    question = [{"role": "user", "content": "m or M?"}]
    status, body = _call(
        f"{base_url}/chat/completions", key, {"model": model, "messages": question, max_tokens_field: 1}
    )
    if status is None:
        return f"{where} did not answer one token ({body}). It may be busy or still loading the model: try again."
    if status in (400, 404, 422):
        lists = f" It lists: {', '.join(sorted(names)[:20])}{', ...' if len(names) > 20 else ''}." if names else ""
        return f"{where}: the endpoint does not serve this model ({_message(body)}).{lists}"
    return None if status < 500 else f"{where} is failing (HTTP {status}: {_message(body)}). Try again when it is well."


def _call(url: str, key: str, payload: Any = None) -> tuple[int | None, str]:
    """(HTTP status, body); (None, reason) when there was no HTTP answer."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    data = None if payload is None else json.dumps(payload).encode()
    try:
        # base_url was checked to be http(s) when the config was made, so no file: address gets here.
        request = urllib.request.Request(url, data=data, headers=headers)  # noqa: S310
        with urllib.request.urlopen(request, timeout=_SECONDS) as response:  # noqa: S310
            return response.status, response.read(_BYTES).decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(_BYTES).decode("utf-8", "replace")
    except (OSError, ValueError, http.client.HTTPException) as error:
        return None, str(getattr(error, "reason", "") or error) or type(error).__name__


def _names(body: str) -> list[str]:
    try:
        entries = json.loads(body)["data"]
        return [str(entry["id"]) for entry in entries]
    except (ValueError, KeyError, TypeError):
        return []


def _message(body: str) -> str:
    try:
        return str(json.loads(body)["error"]["message"])[:200]
    except (ValueError, KeyError, TypeError):
        return body[:200]
