"""Whether a judge is of a model's family, by their names: it may then prefer what that model wrote or taught."""

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
_OTHER_GPT = re.compile(r"gpt-(2|neox?|j)(?![a-z0-9.])")  # begin like GPT-3.5 and later, with nothing else in common


def family_of(model: str) -> str:
    """``llama`` for ``meta-llama/Llama-3.1-70B-Instruct``; empty where no word of the name is known."""
    owner, _, name = model.rpartition("/")
    for text in (name, owner):  # the owner counts only when the name itself tells nothing
        for word in re.findall(r"[a-z]+\d?", _OTHER_GPT.sub(r"gpt\1", text.lower())):
            for prefix in (word, word.rstrip("0123456789")):
                if prefix in FAMILIES:
                    return FAMILIES[prefix]
    return ""


def own_family_rows(model: str, family: RunFamily, trained_rows: Sequence[str]) -> tuple[str, ...]:
    """Rows that a judge may take for its own family's; empty: none or all of them. Trained rows count, as a judge may
    prefer what its family taught (preference leakage, Li et al. 2025, arXiv 2502.01534)."""
    judge, teacher, student = (family_of(name) for name in (model, family.teacher, family.student))
    if not judge or judge not in (teacher, student) or teacher == student:
        return ()
    return ("teacher" if judge == teacher else "student", *trained_rows)


def leakage_warning(judge: str, model: str, teacher: str) -> str | None:
    """That the judge may prefer the students of this teacher; ``None``: nothing in their names says so."""
    family = family_of(model)
    if model and teacher and plain_name(model) == plain_name(teacher):
        relation = "is the run's teacher itself"
    elif family and family == family_of(teacher):
        relation = f"is of the teacher's family ({family})"
    else:
        return None
    return f"{judge} {relation}: it may prefer what that teacher taught. Check with a judge of another family."
