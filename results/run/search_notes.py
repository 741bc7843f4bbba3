"""What a table says of the choice of its rows' options: which were searched and with what budget, and that choosing
among rows by the table's own columns is a search too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from harness.contracts.registry import Registry
from harness.errors import UserError
from harness.recipe.recipe import Recipe
from harness.recipe.sections import MethodEntry, Searched
from harness.recipe.space import own_value
from harness.text import clean, format_count

SHOWN = 2  # changes of a search in its line


def search_notes(recipe: Recipe, titles: Mapping[str, str], registry: Registry) -> list[str]:
    """Lines under a table with these rows of the recipe and their titles."""
    return [*_budgets(recipe, titles), *_several_of_one_method(recipe, titles, registry)]


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


def _budgets(recipe: Recipe, titles: Mapping[str, str]) -> list[str]:
    searches = {row: found(row, recipe.methods[row]) for row in titles}
    if not any(searches.values()):
        return []
    texts = {row: "not searched" if searched is None else budget(searched) for row, searched in searches.items()}
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
    return [f"Options searched with DIFFERENT BUDGETS: {'; '.join(parts)}.{others}"]


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
