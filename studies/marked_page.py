"""Numbers of a study in a page of the documentation: what stands between two marks is replaced."""

from __future__ import annotations

from pathlib import Path


def put_between(page: Path, begin: str, end: str, text: str) -> None:
    """Put ``text`` between the page's two marks, each on a line of its own. Raises ValueError where it has none."""
    head, found_begin, tail = page.read_text(encoding="utf-8").partition(begin)
    _, found_end, tail_text = tail.partition(end)
    if not found_begin or not found_end:
        raise ValueError(f"{page} has no {begin} ... {end}")
    page.write_text(f"{head}{begin}\n{text}\n{end}{tail_text}", encoding="utf-8")
