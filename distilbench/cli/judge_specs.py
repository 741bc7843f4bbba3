"""What the options of ``compare-judges`` mean: several judges, and rows of their own, from a few words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distilbench.cli.options import words
from harness.errors import UserError

if TYPE_CHECKING:
    from harness.contracts.registry import Registry
    from harness.recipe.sections import JudgeEntry
    from results.run.record import Run

Judges = Annotated[
    str | None,
    typer.Option(
        help="Judges, separated by commas: names of the run's recipe, known models, KIND:MODEL, MODEL@URL, "
        "{kind: ..., ...}; NAME=... names one. The first is the one that conclusions are checked against. "
        "Default: the run's own, or all annotators.",
    ),
]
Annotations = Annotated[
    list[Path] | None,
    typer.Option(metavar="FILE", help="Compare these annotations (alpaca_eval's JSON, CSV, Parquet), not a run."),
]
Humans = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Human annotations of the same answers, several per answer.")
]
Simulated = Annotated[
    int | None,
    typer.Option(min=3, metavar="N", help="Pocket only: N people simulated from the truth, in place of --humans."),
]
Repeats = Annotated[
    int | None,
    typer.Option(min=1, help="Ask every question this often: 2 (default) tells noise from bias and doubles the calls."),
]
Own = Annotated[
    list[str] | None,
    typer.Option(metavar="JUDGE=ROW,ROW", help="Rows whose answers are by a judge's own family; default: by name."),
]
Budget = Annotated[
    float | None, typer.Option(min=0.0, help="Recommend a judge that costs at most so many dollars for one pass.")
]


def judges_of(run: Run) -> list[str]:
    """The judges that the run's recipe names. Raises UserError where it names none."""
    names = list(run.recipe.get("judges", {}))
    if not names:
        raise UserError(f"run {run.name!r} names no judges: give --judges.")
    return names


def split(text: str) -> list[str]:
    """Judges separated by commas, but not by those inside braces: ``main,{kind: pocket, noise: 1}``."""
    parts, depth, current = [], 0, ""
    for char in text:
        depth += (char in "{[") - (char in "}]")
        if char == "," and depth == 0:
            parts.append(current)
            current = ""
        else:
            current += char
    found = [part.strip() for part in (*parts, current)]
    return list(dict.fromkeys(part for part in found if part))


def judge_entries(texts: Sequence[str], run: Run, registry: Registry) -> dict[str, JudgeEntry]:
    """Name to judge. Raises UserError for one that cannot be read, or a name given twice."""
    from harness.contracts.option_errors import RecipeError
    from harness.recipe.sections import read_judges

    tree: dict[str, Any] = {}
    for text in texts:
        named = re.fullmatch(r"([A-Za-z0-9][\w.+-]*)=(.+)", text, re.DOTALL)
        entry = judge_of(named[2] if named else text, run, registry)
        plain = str(entry.get("model") or entry.get("path") or entry["kind"]) if text.startswith("{") else text
        base = named[1] if named else re.sub(r"@.*", "", plain).rstrip("/").rpartition("/")[2] or plain
        if named and base in tree:
            raise UserError(f"--judges: the name {base!r} is given twice; names tell judges apart in tables.")
        tree[next(each for n in range(1, len(tree) + 2) if (each := base if n == 1 else f"{base}-{n}") not in tree)] = (
            entry
        )
    entries, problems = read_judges(tree, registry)
    if problems:
        raise RecipeError(problems, "--judges")
    return entries


def judge_of(text: str, run: Run, registry: Registry) -> dict[str, Any]:
    """One judge's entry: of the run's recipe by its name, ``KIND:MODEL``, or as ``eval --judge`` reads it."""
    from distilbench.workflows.specs import judge_entry

    own = run.recipe.get("judges", {})
    if text in own:
        return dict(own[text])
    kind, colon, model = text.partition(":")
    if colon and kind in registry.judges:
        fields = registry.judges[kind].config.__dataclass_fields__
        for name in ("model", "path"):
            if name in fields:
                return {"kind": kind, name: model}
    return judge_entry(text, registry)


def own_rows_of(options: Sequence[str] | None) -> dict[str, list[str]]:
    """Judge to rows, from ``JUDGE=ROW,ROW``. Raises UserError for anything else."""
    found = {}
    for option in options or ():
        judge, equals, rows = option.partition("=")
        if not (judge and equals and words(rows)):
            raise UserError(f"--own {option}: must be JUDGE=ROW,ROW.")
        found[judge] = words(rows)
    return found


def refuse_for_annotations(given: Sequence[str]) -> None:
    """Raises UserError for options that mean nothing where verdicts are annotations."""
    if given:
        raise UserError(
            f"{', '.join(given)}: only for the answers of a run, of which --annotations has none. Leave out one or the "
            "other."
        )
