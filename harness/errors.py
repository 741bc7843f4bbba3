"""Errors that the user must mend: printed as one clear message, no traceback, exit code 2."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something outside the program is wrong: a recipe, a name, a file, an endpoint.

    The message names the value, the rule, the choices and the remedy (charter, section 6).
    """


def unknown(what: str, value: str, choices: Iterable[str], remedy: str = "") -> UserError:
    """The error for a name that is not among ``choices``, with the nearest one suggested."""
    names = sorted(choices)
    near = difflib.get_close_matches(value, names, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    tail = f" {remedy}" if remedy else ""
    return UserError(f"unknown {what} {value!r}.{hint} Choices: {', '.join(names) or 'none'}.{tail}")
