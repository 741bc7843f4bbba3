"""The key of a server of others."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

from harness.text import replace_surrogates


@dataclass(frozen=True)
class ApiKey:
    """Read from the environment when it is needed, and in no file, message or log."""

    variable: str  # the environment variable that holds it

    @property
    def value(self) -> str:
        """``none`` where the variable is not set: local servers take anything."""
        return os.environ.get(self.variable, "").strip() or "none"

    def problem(self) -> str | None:
        """Why it cannot be sent, without a character of it: an HTTP library's own message would quote it."""
        if all("\x21" <= char <= "\x7e" for char in self.value):
            return None
        return (
            f"the key in the environment variable {self.variable} holds a character that no key has (a line break or a "
            "space inside of it, or a letter outside ASCII). Set the variable to the key alone."
        )

    def scrub(self, text: str) -> str:
        """``text`` fit to be printed and stored: without the key that an endpoint echoed, without lone surrogates."""
        key = self.value
        if key != "none":
            # As it is, as Python quotes it, as JSON does.
            for spelling in (key, repr(key)[1:-1], json.dumps(key)[1:-1]):
                text = text.replace(spelling, "[api key]")
        return replace_surrogates(text)
