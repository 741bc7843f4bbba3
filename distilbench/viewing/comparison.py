"""Runs side by side on one page: one of them against each other one."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from distilbench.viewing.library import ViewedRun
from distilbench.workflows.finished_run import FinishedRun
from harness.errors import UserError
from reports.page.page import Frame, page, table_section
from reports.page.widgets import Section, render, table, warning
from reports.tables.runs_compared import change_table, check_shared, compare_runs, setting_table
from reports.targets import find_target


def comparison_page(runs: Sequence[ViewedRun], links: Sequence[tuple[str, str]]) -> str:
    """The first run against every other one."""
    finished, said, sections = dict[str, FinishedRun](), list[tuple[str, tuple[str, ...]]](), list[Section]()
    for run in runs:
        try:
            finished[run.name] = with_tables(run)
        except UserError as error:  # of one run: the others can be compared
            sections.append(Section(f"{run.name}: not compared", warning(str(error))))
    first, *others = list(finished) or [""]
    addresses = {run.name: run.address for run in runs}
    for other in others:
        try:
            address = f"{addresses[other]}/report"
            found = compared((first, other), finished[first], finished[other], address)
        except UserError as error:
            sections.append(Section(f"{other} against {first}", warning(str(error))))
            continue
        said += [(section.title.partition(":")[0] if len(found) > 1 else "", lines) for section, lines in found]
        sections += [section for section, _ in found]
        sections.append(settings((first, other), finished[first], finished[other]))
    facts = [(name, about(run)) for name, run in finished.items()]
    top = render("top.html.jinja", said=said, facts=facts)
    return page("distilbench: runs side by side", sections, Frame(top, links))


def with_tables(run: ViewedRun) -> FinishedRun:
    finished = run.finished()
    if not finished.score_tables:
        raise UserError(f"{run.name} has no table of scores yet.")
    return finished


def compared(
    names: tuple[str, str], first: FinishedRun, other: FinishedRun, address: str
) -> list[tuple[Section, tuple[str, ...]]]:
    """A section per target that both have, with what it says."""
    sections = []
    for target in check_shared(first.score_tables, other.score_tables, names):
        changes = compare_runs(names, first.results(target), other.results(target), find_target(target))
        content = change_table(changes, address)
        sections.append((table_section(content), content.summary))
    return sections


def settings(names: tuple[str, str], first: FinishedRun, other: FinishedRun) -> Section:
    recipes = [next(iter(run.records.values())).recipe for run in (first, other)]
    title = f"Settings: {names[1]} against {names[0]}"
    return Section(title, Markup("") + table(setting_table(names, recipes[0], recipes[1])))


def about(run: FinishedRun) -> str:
    record = next(iter(run.records.values()))
    seeds = ", ".join(map(str, record.seeds))
    judges = ", ".join(dict.fromkeys(record.judges.values()))
    state = "" if record.finished else ", not finished"
    return f"{record.created[:10]}, seeds {seeds}, judge {judges}{state}; {run.folder}"
