"""Errors that the user must fix: printed as one clear message, no traceback, exit code 2."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something outside the program is wrong: a recipe, a name, a file, an endpoint.

    The message names the value, the rule, the choices and the remedy (charter, section 6).
    """


def near(value: str, choices: Iterable[str]) -> str:
    return next(iter(difflib.get_close_matches(value, list(choices), n=1, cutoff=0.5)), "")


def unknown(noun: str, value: str, choices: Iterable[str], remedy: str = "") -> UserError:
    """The error for a name that is not among ``choices``, with the nearest one suggested."""
    names = sorted(choices)
    hint = f" Did you mean {guess!r}?" if (guess := near(value, names)) else ""
    return UserError(f"unknown {noun} {value!r}.{hint} Choices: {', '.join(names) or 'none'}. {remedy}".rstrip())
