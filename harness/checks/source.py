"""Checks of a source of training prompts against its contract (``harness/contracts/source.py``)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any, Final

from harness.checks.finding import options_check, require, require_json
from harness.contracts.source import PromptSource
from harness.types import Prompt

SAMPLE: Final = 200
"""Prompts that are looked at."""
ROLES: Final = ("system", "user", "assistant")


def first(source: PromptSource[Any], config: Any, seed: int) -> list[Prompt]:
    return list(itertools.islice(source.prompts(config, source.pin(config).identity, seed), SAMPLE))


def check_pin(source: PromptSource[Any], config: Any) -> str:
    """Plain JSON, the same twice: it decides the key of the prompts."""
    pin = source.pin(config)
    require_json(dict(pin.identity), "the identity that pin() gives")
    require(pin == source.pin(config), "pin() gives something else when it is called again")
    return f"identity {dict(pin.identity)}" if pin.identity else "pinned by the package or by its assets"


def check_prompts(source: PromptSource[Any], config: Any) -> str:
    """Prompts that a model can be asked: unique ids, known roles, a last turn of the user that says something."""
    prompts = first(source, config, seed=0)
    require(prompts, "there is no prompt")
    require(all(isinstance(prompt, Prompt) for prompt in prompts), "prompts() must give harness.types.Prompt")
    ids = [prompt.id for prompt in prompts]
    require(len(set(ids)) == len(ids), "two prompts have the same id")
    for prompt in prompts:
        roles = [message["role"] for message in prompt.messages]
        require(roles and roles[-1] == "user", f"prompt {prompt.id!r} does not end in a turn of the user")
        require(set(roles) <= set(ROLES), f"prompt {prompt.id!r} has the roles {roles}; known are {', '.join(ROLES)}")
        require(prompt.messages[-1]["content"].strip(), f"prompt {prompt.id!r} is empty")
    return f"{len(prompts)} looked at"


def check_seed(source: PromptSource[Any], config: Any) -> str:
    """The seed decides the order, and nothing else does."""
    prompts = first(source, config, seed=0)
    require(prompts == first(source, config, seed=0), "the same seed gives other prompts when it is used again")
    other = first(source, config, seed=1)
    # A handful of prompts may come in the same order by chance.
    require(len(prompts) < 5 or prompts != other, "another seed gives the prompts in the same order")
    return "the same seed gives the same prompts, another seed another order"


def check_pairs(source: PromptSource[Any], config: Any) -> str:
    """``pairs`` is what methods that need rejected answers go by."""
    stated = source.pin(config).pairs
    prompts = first(source, config, seed=0)
    paired = sum(bool(prompt.golden and prompt.rejected) for prompt in prompts)
    require(stated == (paired > 0), f"pin() says pairs={stated}, but {paired} of {len(prompts)} prompts have both")
    return f"{paired} of {len(prompts)} prompts have a chosen and a rejected answer"


CHECKS: Mapping[str, Callable[[PromptSource[Any], Any], str]] = {
    "options": options_check("source", "n", "fallback", "seed", "max_prompt_tokens", "allow_overlap"),
    "pin": check_pin,
    "prompts": check_prompts,
    "seed": check_seed,
    "pairs": check_pairs,
}
