"""Prompt files in the layouts of other trainers, turned into ours: ``prompt``, ``golden``, ``rejected``, ``id``.

Read are TRL's preference rows (``prompt``, ``chosen``, ``rejected``, texts or messages, the prompt also only inside of
them) and completions, chats (``messages``), ShareGPT (``conversations``) and Alpaca (``instruction``, ``input``,
``output``).
"""

from collections.abc import Collection, Mapping

from harness.errors import near
from harness.types import Json

OUR_KEYS = ("prompt", "golden", "rejected", "id")
_SHAREGPT = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
LAYOUTS: Mapping[str, tuple[str, ...]] = {
    "messages": ("messages", "id"),
    "conversations": ("conversations", "id"),
    "instruction": ("instruction", "input", "output", "system", "id"),
    "chosen": ("prompt", "chosen", "rejected", "id"),
    "completion": ("prompt", "completion", "id"),
}
"""The key that tells a layout, and all keys that it may have."""


def to_prompt_row(row: Mapping[str, Json]) -> dict[str, Json]:
    """The same row in our layout. Raises ValueError for a key of no layout, and for what cannot be told apart."""
    layout = check_keys(row)
    result = {key: row[key] for key in OUR_KEYS if key in row}
    if layout in ("chosen", "completion"):
        return result | _answers(row, layout)
    if layout == "instruction":
        texts = [text for key in ("instruction", "input") if isinstance(text := row.get(key), str) and text]
        user: Json = {"role": "user", "content": "\n\n".join(texts)}
        system: list[Json] = [{"role": "system", "content": row["system"]}] if row.get("system") else []
        return result | {"prompt": [*system, user], "golden": row.get("output")}
    if layout == "conversations":
        return result | _chat([_turn(turn) for turn in _turns(row[layout], layout)])
    return result | _chat(_turns(row[layout], layout)) if layout else result


def check_keys(found: Collection[str]) -> str:
    """The layout, empty for ours. Raises ValueError for a key of no layout."""
    layout = next((key for key in LAYOUTS if key in found), "")
    keys = LAYOUTS.get(layout, OUR_KEYS)
    for key in found:
        if key not in keys:
            hint = f'; did you mean "{guess}"?' if (guess := near(key, keys)) else ""
            raise ValueError(
                f'unknown key "{key}"{hint}' + (f' (with "{layout}" go {", ".join(keys)})' if layout else "")
            )
    if not layout and "prompt" not in found:
        raise ValueError('there is no "prompt"')
    return layout


def _turn(turn: Json) -> Json:
    if not isinstance(turn, dict) or turn.get("from") not in _SHAREGPT:
        raise ValueError(f'a turn is {turn!r}, not an object with "from" of {", ".join(_SHAREGPT)}')
    return {"role": _SHAREGPT[str(turn["from"])], "content": turn.get("value")}


def _turns(value: Json, key: str) -> list[Json]:
    if not isinstance(value, list) or not value:
        raise ValueError(f'"{key}" is not a list of messages')
    return value


def _chat(turns: list[Json]) -> dict[str, Json]:
    """The last answer is the golden one; a chat that ends with the user has none."""
    last = turns[-1]
    if isinstance(last, dict) and last.get("role") == "assistant":
        return {"prompt": turns[:-1], "golden": last.get("content")}
    return {"prompt": turns}


def _answers(row: Mapping[str, Json], best: str) -> dict[str, Json]:
    openings: list[list[Json]] = []
    result: dict[str, Json] = {}
    for key, name in ((best, "golden"), ("rejected", "rejected")):
        value = row.get(key)
        if isinstance(value, list):
            chat = _chat(_turns(value, key))
            if "golden" not in chat:
                raise ValueError(f'"{key}" does not end in an assistant turn')
            openings.append(chat["prompt"] if isinstance(chat["prompt"], list) else [])
            value = chat["golden"]
        result[name] = value
    prompt = row.get("prompt")
    prompt_turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    shared_turns = [turns for turns in openings if turns]
    if shared_turns and any(turns != shared_turns[0] for turns in shared_turns):
        raise ValueError('"chosen" and "rejected" begin with different turns')
    if shared_turns and prompt_turns is not None and shared_turns[0] != prompt_turns:
        raise ValueError(f'"{best}" begins with other turns than "prompt"')
    return result | {"prompt": shared_turns[0]} if shared_turns and prompt is None else result
