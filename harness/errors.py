"""Errors that the user must fix: printed as one clear message, no traceback, exit code 2."""

import difflib
import errno
import textwrap
from collections.abc import Iterable
from typing import Final

PERMANENT: Final = "asking again would end the same way"
"""In the text of an error that the same command would only repeat: text is what crosses processes and run.json."""
NOT_FINITE: Final = "not finite"
"""In the text of the error of a training that diverged."""
MOST_CHOICES: Final = 40  # that a message lists: a benchmark has hundreds of questions


class UserError(Exception):
    """Something outside the program is wrong: a recipe, a file, a server. The message says the value, the rule, the
    choices and the remedy. The command line prints it without a traceback and ends with code 2."""


def near(value: str, choices: Iterable[str]) -> str:
    by_lower = {choice.lower(): choice for choice in choices}  # "DPO" has no letter in common with "dpo"
    return by_lower.get(next(iter(difflib.get_close_matches(value.lower(), by_lower, n=1, cutoff=0.5)), ""), "")


def unknown_choice(noun: str, value: str, choices: Iterable[str], remedy: str = "") -> UserError:
    names = sorted(choices)
    hint = f" Did you mean {guess!r}?" if (guess := near(value, names)) else ""
    more = f" and {len(names) - MOST_CHOICES:,} more" if len(names) > MOST_CHOICES else ""
    listed = ", ".join(names[:MOST_CHOICES]) or "none"
    return UserError(f"unknown {noun} {value!r}.{hint} Choices: {listed}{more}. {remedy}".rstrip())


_NO_MEMORY: Final = ("out of memory", "can't allocate memory", "cannot allocate memory", "status_alloc_failed")


def memory_error(error: BaseException) -> str | None:
    """Where memory ran out, in a message with a remedy. Torch's errors are known by their names and words, because
    torch is not imported here."""
    lines = [line for line in str(error).splitlines() if any(sign in line.lower() for sign in _NO_MEMORY)]
    if not lines and not isinstance(error, MemoryError):
        return None
    text = textwrap.shorten((lines or [str(error) or type(error).__name__])[0], _SHOWN_CHARACTERS, placeholder=" ...")
    return (
        f"memory ran out ({text}). Everything finished is kept. "
        "Training takes less with a smaller train.micro_batch, train.gradient_checkpointing=true or train.lora, other "
        "stages with a smaller compute.batch_tokens; with compute.workers=1 nothing runs beside them."
    )


UNWRITABLE: Final = (errno.EROFS, errno.EACCES, errno.EPERM)
_ELSEWHERE = "Name a folder elsewhere: --out for the files of a command that has it, else --runs."
_REMEDIES = {
    errno.EROFS: _ELSEWHERE,
    errno.EACCES: _ELSEWHERE,
    errno.EPERM: _ELSEWHERE,
    errno.ENAMETOOLONG: "File systems take names of up to 255 bytes, and paths of up to 4,096: choose a shorter one.",
    errno.ENOTDIR: "A part of this path is a file: name a folder.",
    errno.EEXIST: "This is a file already: name a folder.",
    errno.EISDIR: "This is a folder: name a file.",
    errno.ELOOP: "Its links lead round in a circle.",
}
_SHOWN_CHARACTERS = 200


def system_error(error: OSError) -> str | None:
    """What the system refused, as a message with a remedy; ``None`` where it may be our own mistake."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        file = f" writing {error.filename}" if error.filename else ""
        return f"no space left{file}. What was finished is kept: free some space and run the same command again."
    if error.filename is None or error.errno not in _REMEDIES:
        return None
    name = str(error.filename)
    shown_name = name if len(name) <= _SHOWN_CHARACTERS else f"{name[:_SHOWN_CHARACTERS]}... ({len(name):,} characters)"
    return f"{shown_name}: {(error.strerror or '').lower()}. {_REMEDIES[error.errno]}"
