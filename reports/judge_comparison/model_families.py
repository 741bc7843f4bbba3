"""Which family a model is of, by its name, and whose answers a judge may favour as its own.

A judge of the teacher's family may prefer what that teacher taught (preference leakage, Li et al. 2025,
arXiv 2502.01534): rows taught by its family count as its own too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from reports.tables.published import plain_name
from results.run.record import RunFamily

_NAMED_ALIKE = "gemma gemini llama qwen mistral phi smollm olmo deepseek claude gpt gpt2 cohere yi glm falcon grok nova"
FAMILIES: Final[dict[str, str]] = {
    **{name: name for name in f"{_NAMED_ALIKE} kimi minimax granite".split()},
    "qwq": "qwen", "mixtral": "mistral", "ministral": "mistral", "tulu": "olmo", "chatglm": "glm", "command": "cohere",
    "chatgpt": "gpt", "davinci": "gpt", "o1": "gpt", "o3": "gpt", "o4": "gpt",
}  # fmt: skip
"""Word in a model's name to its family; the first word that is listed decides."""
_OTHER_GPT = re.compile(r"gpt-(2|neox?|j)(?![a-z0-9.])")
"""Models whose names begin like those of OpenAI's GPT-3.5 and later, and have nothing else in common with them."""


def family_of(model: str) -> str:
    """``llama`` for ``meta-llama/Llama-3.1-70B-Instruct``; empty where no word of the name is known."""
    owner, _, name = model.rpartition("/")
    for text in (name, owner):  # the owner counts only when the name itself tells nothing
        for word in re.findall(r"[a-z]+\d?", _OTHER_GPT.sub(r"gpt\1", text.lower())):
            for known in (word, word.rstrip("0123456789")):
                if known in FAMILIES:
                    return FAMILIES[known]
    return ""


def own_family_rows(model: str, family: RunFamily, trained: Sequence[str]) -> tuple[str, ...]:
    """Rows of a run that a judge may take for those of its own family; empty where that is none or all of them.

    Trained rows count too: they descend from the student and are distilled from the teacher.
    """
    judge, teacher, student = (family_of(name) for name in (model, family.teacher, family.student))
    if not judge or judge not in (teacher, student) or teacher == student:
        return ()
    return ("teacher" if judge == teacher else "student", *trained)


def leakage_warning(judge: str, model: str, teacher: str) -> str | None:
    """A sentence where a judge's model is the teacher or of its family."""
    family = family_of(model)
    if model and teacher and plain_name(model) == plain_name(teacher):
        relation = "is the run's teacher itself"
    elif family and family == family_of(teacher):
        relation = f"is of the teacher's family ({family})"
    else:
        return None
    return (
        f"{judge} {relation}: it may prefer what that teacher taught (preference leakage). "
        "Check the conclusion with a judge of another family."
    )
