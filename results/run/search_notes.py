"""What a table says of the choice of its rows' options: which were searched and with what budget, and that choosing
among rows by the table's own columns is a search too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from harness.contracts.options import json_data
from harness.contracts.registry import Registry
from harness.errors import UserError
from harness.recipe.recipe import Recipe
from harness.recipe.sections import MethodEntry, Prompts, SamplingOptions, Searched
from harness.recipe.space import own_value
from harness.stages.graph import EXECUTION_ONLY
from harness.text import clean, format_count
from harness.training.options import TrainOptions

SHOWN = 2  # changes of a search in its line


def search_notes(recipe: Recipe, titles: Mapping[str, str], registry: Registry) -> list[str]:
    """Lines under a table with these rows of the recipe and their titles."""
    return [*_budgets(recipe, titles, registry), *_several_of_one_method(recipe, titles, registry)]


def found(row: str, entry: MethodEntry) -> Searched | None:
    """How a row's values were found; ``None`` where it has others by now."""
    searched = entry.row_options.searched
    if searched is None:
        return None
    try:
        is_same = all(own_value(row, entry, knob) == value for knob, value in searched.values.items())
    except UserError:  # a knob that another method of this row does not have
        return None
    return searched if is_same else None


def settings(recipe: Recipe, entry: MethodEntry, registry: Registry, knobs: Collection[str]) -> dict[str, Any]:
    """What of a row's prompts, training and sampling is no default, and neither searched nor the method's own."""
    own = {f"sampling.{name}" for name in registry.methods[entry.method].needs.sampling}
    sections = {"prompts": (recipe.prompts, Prompts()), "train": (entry.train, TrainOptions()),
                "sampling": (entry.sampling, SamplingOptions())}  # fmt: skip
    found: dict[str, Any] = {}
    for section, pair in sections.items():
        values, usual = map(json_data, pair)
        found |= {
            f"{section}.{name}": value
            for name, value in values.items()
            if value != usual[name] and name not in {*EXECUTION_ONLY, "config"}
        }
    return {path: value for path, value in found.items() if path not in {*own, *knobs}}


def _changed_since(recipe: Recipe, row: str, searched: Searched, registry: Registry) -> str:
    if searched.settings is None:
        return ""
    here = settings(recipe, recipe.methods[row], registry, searched.values)
    # a recipe may state one set of settings for all rows, of which a method has some of its own
    own = {f"sampling.{name}" for name in registry.methods[recipe.methods[row].method].needs.sampling}
    then = {path: value for path, value in searched.settings.items() if path not in {*own, *searched.values}}
    paths = [path for path in {**then, **here} if then.get(path) != here.get(path)]
    usual = "the default"
    texts = [f"{path} ({clean(str(then.get(path, usual)))}, here {here.get(path, usual)})" for path in paths[:SHOWN]]
    more = [f"{len(paths) - SHOWN} more"] if len(paths) > SHOWN else []
    return f", with OTHER settings: {', '.join([*texts, *more])}" if paths else ""


def _budgets(recipe: Recipe, titles: Mapping[str, str], registry: Registry) -> list[str]:
    searches = {row: found(row, recipe.methods[row]) for row in titles}
    if not any(searches.values()):
        return []
    texts = {
        row: "not searched" if searched is None else budget(searched) + _changed_since(recipe, row, searched, registry)
        for row, searched in searches.items()
    }
    groups: dict[str, list[str]] = {}
    for row, text in texts.items():
        groups.setdefault(text, []).append(clean(titles[row]))
    changed = [
        row for row, searched in searches.items() if searched is None and recipe.methods[row].row_options.searched
    ]
    others = f" Not with the searched values: {', '.join(clean(titles[row]) for row in changed)}." if changed else ""
    if len(groups) == 1:
        return [f"Options searched: {next(iter(groups))}."]
    parts = [f"{text} ({', '.join(names)})" for text, names in groups.items()]
    is_equal = len({searched and budget(searched) for searched in searches.values()}) == 1
    return [f"Options searched{'' if is_equal else ' with DIFFERENT BUDGETS'}: {'; '.join(parts)}.{others}"]


def budget(searched: Searched) -> str:
    """``16 trials each on dev, 2 seeds``."""
    text = f"{format_count(searched.trials, 'trial')} each on {clean(searched.questions)}"
    text += f", {format_count(len(searched.seeds), 'seed')}, {clean(searched.sampler)}"
    changes = [clean(change) for change in searched.set[:SHOWN]]
    more = f" and {format_count(len(searched.set) - SHOWN, 'more change')}" if len(searched.set) > SHOWN else ""
    return text + (f", with {', '.join(changes)}{more}" if changes else "")


def _several_of_one_method(recipe: Recipe, titles: Mapping[str, str], registry: Registry) -> list[str]:
    counts = Counter(recipe.methods[row].method for row in titles)
    several = [clean(registry.methods[name].title) for name, count in counts.items() if count > 1]
    if not several:
        return []
    names = ", ".join(several)
    rule = "who chooses among them by these columns chooses on test questions"
    return [f"Several rows are {names} with other options: {rule}."]
