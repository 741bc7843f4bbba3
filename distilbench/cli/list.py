"""What ``list methods`` says of a method: whose answers it learns from, what the teacher tells it, what it needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.contracts.options import config_values, explanations

if TYPE_CHECKING:
    from harness.contracts.method import Method

HEADS = ("method", "title", "learns from", "the teacher gives", "needs besides")
ANSWERS = {
    "golden": "golden answers",
    "rejected": "rejected answers",
    "teacher": "the teacher's answers",
    "samples": "own samples",
    "rollouts": "own live answers",
}
TEACHERS = {"family": "the teacher", "tuned": "the tuned teacher"}


def row(method: Method) -> tuple[str, ...]:
    """The columns of ``HEADS``."""
    return (method.name, method.title, *needs(method))


def needs(method: Method) -> tuple[str, str, str]:
    """Whose answers, which teacher signal (with the method's default options), what besides."""
    answers = " and ".join(ANSWERS[source] for source in method.needs.responses)
    return answers, signal(method), ", ".join(besides(method)) or "nothing"


def signal(method: Method) -> str:
    """What the teacher says while the method trains, or before."""
    kind = method.needs.signal
    if kind == "none":
        return "its answers" if "teacher" in method.needs.responses else "nothing"
    if kind == "response":
        return "a reward per response"
    stored = method.stored(method.config())
    if stored is None:
        tuned = " of the tuned teacher" if method.needs.teachers[0] == "tuned" else ""
        return f"live distributions{tuned}"
    whose = " and ".join(TEACHERS[teacher] for teacher in method.needs.teachers)
    return f"stored distributions of {whose} (top {stored.top_k})"


def besides(method: Method) -> list[str]:
    """The other needs, and what the method can do beyond one training."""
    asked = method.needs
    said = {
        "shared vocabulary": asked.shared_vocabulary,
        "reference": asked.reference,
        f"starts from {asked.start}": asked.start is not None,
        "can have rounds": asked.rounds,
    }
    own = [f"sampling.{name} = {value:g}" for name, value in asked.sampling.items()]
    return [text for text, holds in said.items() if holds] + own


def details(method: Method) -> list[tuple[str, str]]:
    """(what, text) lines: the paper, the needs, and every option with its default and its sentence."""
    lines = [("paper", method.paper), *zip(HEADS[2:], needs(method), strict=True)]
    told = explanations(method.config)
    for name, value in config_values(method.config()).items():
        lines.append((f"{name} = {shown(value)}", told.get(name, "")))
    return lines


def shown(value: object) -> str:
    """A default as YAML writes it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def print_details(methods: Sequence[Method]) -> None:
    """A block for each method."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        console = Console(width=120)
    for method in methods:
        console.print(Text(f"{method.name}  {method.title}", style="bold"))
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column()
        for what, text in details(method):
            table.add_row(Text(what), Text(text))
        console.print(Padding(table, (0, 0, 1, 2)))
