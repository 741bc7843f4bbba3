"""Errors that the user must fix: printed as one clear message, no traceback, exit code 2."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something outside the program is wrong. Says the value, the rule, the choices and the remedy."""


def near(value: str, choices: Iterable[str]) -> str:
    return next(iter(difflib.get_close_matches(value, list(choices), n=1, cutoff=0.5)), "")


def unknown_choice(noun: str, value: str, choices: Iterable[str], remedy: str = "") -> UserError:
    names = sorted(choices)
    hint = f" Did you mean {guess!r}?" if (guess := near(value, names)) else ""
    return UserError(f"unknown {noun} {value!r}.{hint} Choices: {', '.join(names) or 'none'}. {remedy}".rstrip())
