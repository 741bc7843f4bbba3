"""Checks of a source of training prompts against its contract (``harness/contracts/source.py``)."""

from __future__ import annotations

import itertools
from typing import Final, TypeVar

from harness.checks.finding import Checks, options_check, repeatable, require, require_json
from harness.contracts.source import PromptSource
from harness.types import Prompt

C = TypeVar("C")

SAMPLE: Final = 200
"""Prompts that are looked at."""
ROLES: Final = ("system", "user", "assistant")


def first(source: PromptSource[C], config: C, seed: int = 0) -> list[Prompt]:
    return list(itertools.islice(source.prompts(config, source.pin(config).identity, seed), SAMPLE))


def check_pin(source: PromptSource[C], config: C) -> str:
    """Plain JSON, the same twice: it decides the key of the prompts."""
    identity = dict(repeatable(lambda: source.pin(config), "pin()").identity)
    require_json(identity, "the identity that pin() gives")
    return f"identity {identity}" if identity else "pinned by the package or by its assets"


def check_prompts(source: PromptSource[C], config: C) -> str:
    """Prompts that a model can be asked: unique ids, known roles, a last turn of the user that says something."""
    prompts = first(source, config)
    require(prompts, "there is no prompt")
    require(all(isinstance(prompt, Prompt) for prompt in prompts), "prompts() must give harness.types.Prompt")
    require(len({prompt.id for prompt in prompts}) == len(prompts), "two prompts have the same id")
    for prompt in prompts:
        roles = [message["role"] for message in prompt.messages]
        require(roles and roles[-1] == "user", f"prompt {prompt.id!r} does not end in a turn of the user")
        require(set(roles) <= set(ROLES), f"prompt {prompt.id!r} has the roles {roles}; known are {', '.join(ROLES)}")
        require(prompt.messages[-1]["content"].strip(), f"prompt {prompt.id!r} is empty")
    return f"{len(prompts)} looked at"


def check_seed(source: PromptSource[C], config: C) -> str:
    """The seed decides the order, and nothing else does."""
    prompts = repeatable(lambda: first(source, config), "prompts() with the same seed")
    # A handful of prompts may come in the same order by chance.
    other = len(prompts) < 5 or prompts != first(source, config, seed=1)
    require(other, "another seed gives the prompts in the same order")
    return "the same seed gives the same prompts, another seed another order"


def check_pairs(source: PromptSource[C], config: C) -> str:
    """``pairs`` is what methods that need rejected answers go by."""
    stated, prompts = source.pin(config).pairs, first(source, config)
    count = sum(bool(prompt.golden and prompt.rejected) for prompt in prompts)
    require(stated == (count > 0), f"pin() says pairs={stated}, but {count} of {len(prompts)} prompts have both")
    return f"{count} of {len(prompts)} prompts have a chosen and a rejected answer"


CHECKS: Checks = {
    "options": options_check("source", "n", "fallback", "seed", "max_prompt_tokens", "allow_overlap"),
    "pin": check_pin,
    "prompts": check_prompts,
    "seed": check_seed,
    "pairs": check_pairs,
}
