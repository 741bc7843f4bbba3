"""The rows of a recipe: which method, its options, and what a row may say beside them; and the tuned teacher.

A row is named after its method, or says ``method:`` and has a name of its own, so that one method can stand in a table
several times: ``pad-ppd-2x4: {method: pad-ppd, rounds: 2, sampling: {n: 4}}``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeVar

from harness.contracts.method import Method
from harness.contracts.option_errors import Problem, show, unknown_name
from harness.contracts.options import Count, is_options, options, plain, read_options
from harness.contracts.registry import Registry
from harness.errors import UserError
from harness.recipe.sections import FOLDER_NAME, PLUGIN, SamplingOptions, find_entry, options_by_name, read_section
from harness.recipe.yaml_source import merge
from harness.training.options import Hyperparameters

T = TypeVar("T")

MODELS = ("teacher", "student")
"""Rows that are not trained: the family's two checkpoints."""


@options
class RowOptions:
    """What a row says beside the options of its method."""

    method: str | None = None
    """Which method; default: the one that the row is named after."""
    title: str = ""
    """How tables call the row; default: the method's title, with rounds / responses where the row changes them."""
    optional: bool = False
    """Made only when ``--methods`` names it (or another row starts from it)."""
    rounds: Count = 1
    """Rounds of sampling from the current student, rewarding and training (PAD, section 4.4)."""
    resample: bool = True
    """``false``: all rounds share one pool of the first student's responses, dealt out at random without overlap."""
    start: str | None = None
    """The row whose student this one starts from and samples with; default: what the method says (ADPA+: DCKD)."""


ROW_OPTIONS = tuple(field.name for field in fields(RowOptions))
ROW_KEYS = (*ROW_OPTIONS, "train", "sampling")
"""Keys of a row that are not options of its method. A method's config must not have them."""


@dataclass(frozen=True)
class MethodEntry:
    """A row of the tables: the method's options, its training settings, and how its student comes to be."""

    method: str
    """A name in the registry's ``methods``."""
    config: Any
    """Of the type ``Method.config``."""
    row_config: dict[str, Any]
    """Those of them that decide the rows (``Method.row_fields``)."""
    train: Hyperparameters
    """The recipe's ``train`` with this row's overrides."""
    sampling: SamplingOptions
    """The recipe's ``sampling`` with the method's and then this row's overrides."""
    row_options: RowOptions
    """What else the row says."""

    def resolved(self, train: Hyperparameters, sampling: SamplingOptions) -> dict[str, Any]:
        """The row as a recipe would write it, over these common sections."""
        own: dict[str, Any] = {}
        for name, section, common in (("train", self.train, train), ("sampling", self.sampling, sampling)):
            changed = _changed(section, common)
            own |= {name: changed} if changed else {}
        return _changed(self.row_options, RowOptions()) | plain(self.config) | own


def _changed(section: Any, common: Any) -> dict[str, Any]:
    """The options of a section that differ from another one's."""
    base = plain(common)
    return {key: value for key, value in plain(section).items() if value != base[key]}


@options
class TunedPairs:
    """What the teacher is tuned on."""

    pairs: Literal["auto", "dataset", "samples"] = "auto"
    """``dataset``: the prompt source's chosen and rejected answers. ``samples``: the teacher's own answers, rewarded as
    every row's are. ``auto``: the first where the source has them."""


@dataclass(frozen=True)
class TunedTeacher:
    """The family's teacher after preference tuning: what DCKD and ADPA learn from. One for all rows and seeds."""

    pairs: Literal["auto", "dataset", "samples"]
    training: MethodEntry
    """The method that tunes it, with its options and training settings."""


TUNED = {"method": "dpo", "beta": 0.01}
"""What tunes the teacher where the recipe does not say: DPO with the beta that SimPO's authors tuned for 2B-8B."""
TUNED_TRAIN: dict[str, Any] = {"learning_rate": 5e-7, "epochs": 1}
"""And its training settings, from the same place; the others are the recipe's ``train``."""


class Rows:
    """Reads rows over the recipe's common sections, and collects what is wrong."""

    def __init__(
        self, registry: Registry, train: Hyperparameters, sampling: SamplingOptions, launch: str | None
    ) -> None:
        self.registry, self.train, self.sampling, self.launch = registry, train, sampling, launch
        self.problems: list[Problem] = []
        self.not_for_trl: list[str] = []
        """Rows that the recipe's own ``train.backend: trl`` cannot train."""

    def add(self, path: Sequence[str], rule: str, value: object = None, remedy: str = "") -> None:
        """Add a mistake, once: several rows may share it."""
        problem = Problem(
            ".".join(path),
            rule,
            None if value is None else show(plain(value) if is_options(type(value)) else value),
            remedy=remedy,
        )
        if problem not in self.problems:
            self.problems.append(problem)

    def read(self, tree: Any) -> dict[str, MethodEntry]:
        """All rows, and those that they start from (as optional rows, where the recipe does not list them)."""
        trees, self.problems = options_by_name(tree, "methods")
        read = {name: self.row(name, values) for name, values in trees.items()}
        entries = {name: entry for name, entry in read.items() if entry is not None}
        for name in list(entries):
            self.add_start(name, entries, trees)
        if self.not_for_trl:
            choose = "Choose among those (--set 'methods=[NAME, ...]'), or ask one row (methods.NAME.train.backend)."
            self.add_no_trl(("train",), self.not_for_trl, f" {choose}")
        return entries

    def row(self, name: str, tree: dict[str, Any]) -> MethodEntry | None:
        """One row, or ``None`` where something is wrong with it."""
        before = len(self.problems)
        own = {key: tree.pop(key) for key in list(tree) if key in ROW_OPTIONS}
        row, wrong = read_section(RowOptions, own, ("methods", name))
        self.problems += wrong
        method_name = own.get("method") or name
        method = self.method(f"methods.{name}", method_name) if isinstance(method_name, str) else None
        if row is None or method is None:
            return None
        if FOLDER_NAME.fullmatch(name) is None or name in MODELS:
            rule = f"must be letters, digits, . _ + - and none of {', '.join(MODELS)}"
            self.add(("methods", name), f"cannot name a row: it {rule}")
        if row.rounds > 1 and not method.needs.rounds:
            able = [other for other, each in self.registry.methods.items() if each.needs.rounds]
            rule = f"{method_name} does not train on samples of the current student, so it has one round"
            self.add(("methods", name, "rounds"), rule, row.rounds, f"Methods that can: {', '.join(able)}.")
        if not row.resample and row.rounds == 1:
            self.add(("methods", name, "resample"), NO_ROUNDS)
        entry = self.entry(("methods", name), method_name, tree, row)
        return entry if len(self.problems) == before else None

    def entry(self, path: tuple[str, ...], name: str, tree: dict[str, Any], row: RowOptions) -> MethodEntry | None:
        """Options, ``train`` and ``sampling`` of a row whose method exists. ``tree`` is used up."""
        method = self.registry.methods[name]
        own_train, own_sampling = tree.pop("train", None), tree.pop("sampling", None)
        train = self.section(Hyperparameters, self.train, {}, own_train, (*path, "train"))
        sampling = self.section(
            SamplingOptions, self.sampling, method.needs.sampling, own_sampling, (*path, "sampling")
        )
        config, wrong = read_options(method.config, tree, path, ROW_KEYS)
        self.problems += wrong
        if train is None or sampling is None or config is None:
            return None
        own = own_train if isinstance(own_train, Mapping) else {}
        if train.backend == "trl" and method.trl is None:
            # One mistake for all rows that the recipe's own ``train`` sends there, one each for those that ask for it.
            if path[0] == "methods" and "backend" not in own:
                self.not_for_trl.append(path[-1])
            else:
                self.add_no_trl((*path, "train"), [name])
            return None
        self.check_train(path, train, row, own)
        if path[0] == "methods":
            self.check_responses(path, name, config, sampling)
        values = plain(config)
        return MethodEntry(name, config, {field: values[field] for field in method.row_fields}, train, sampling, row)

    def section(
        self, kind: type[T], common: T, from_method: Mapping[str, Any], own: Any, path: tuple[str, ...]
    ) -> T | None:
        """A section of a row: the recipe's, with what its method changes, with what the row itself changes."""
        # The row's own keys first, alone: a mistake in the common section is not this row's mistake.
        read, wrong = read_section(kind, own, path)
        if read is not None:
            read, wrong = read_section(kind, plain(common) | dict(from_method) | dict(own or {}), path)
        self.problems += wrong
        return read

    def method(self, path: str, name: str) -> Method | None:
        remedy = f"{PLUGIN} A row with a name of its own says `method: NAME`."
        method, wrong = find_entry(self.registry.methods, name, path, "method", remedy)
        self.problems += wrong
        return method

    def check_train(
        self, path: tuple[str, ...], train: Hyperparameters, row: RowOptions, own: Mapping[str, Any]
    ) -> None:
        """A schedule over all rounds needs rounds and our trainer; and what TRL's trainers would ignore or do wrongly.

        ``own``: what the row itself states of ``train``.
        """
        spans_rounds = train.schedule_over == "run"
        if "schedule_over" in own and spans_rounds and row.rounds == 1:
            self.add((*path, "train", "schedule_over"), NO_ROUNDS, "run")
        if train.backend != "trl":
            return
        resumes = "checkpoint_minutes" in own and train.checkpoint_minutes is not None
        for key, wrong, rule, remedy in (
            ("schedule_over", spans_rounds and row.rounds > 1, "is for our own trainer", "Leave it at 'round'"),
            ("packing", train.packing == "always", "TRL's trainers get separate rows", "Leave it at 'auto'"),
            ("lora", train.lora is not None, "the backend 'trl' trains all weights here", "Leave it at null"),
            ("checkpoint_minutes", resumes, "a row that TRL trains does not resume", "Set it to null"),
        ):
            if wrong:
                where = (*path, "train", key) if key in own else ("train", key)
                self.add(where, rule, getattr(train, key), f"{remedy}, or {OURS}")
        if self.launch is not None:
            rule = "rows with the backend 'trl' train in one process: TRL's batch would grow with their number"
            self.add(("compute", "launch"), rule, self.launch, f"Leave it at null, or {OURS}")

    def add_no_trl(self, section: tuple[str, ...], names: list[str], more: str = "") -> None:
        """The mistake of asking TRL for losses that its stable trainers do not have, in the ``section`` that asks."""
        able = ", ".join(other for other, method in self.registry.methods.items() if method.trl) or "none"
        rule = f"TRL's stable trainers have no loss for {', '.join(names)}"
        self.add((*section, "backend"), rule, "trl", f"Leave it at 'ours'; methods that TRL can train: {able}.{more}")

    def check_responses(self, path: tuple[str, ...], name: str, config: Any, sampling: SamplingOptions) -> None:
        """Whether the row's method takes as many responses as it will get in a round."""
        method = self.registry.methods[name]
        if "samples" not in method.needs.responses:
            return
        try:
            method.check(config, sampling.n)
        except UserError as error:
            remedy = "Give this row its own sampling.n, or leave it out (--set 'methods=[NAME, ...]')."
            self.add((*path, "sampling.n"), str(error), remedy=remedy)

    def add_start(self, name: str, entries: dict[str, MethodEntry], trees: Mapping[str, Any]) -> None:
        """Make sure that the row which ``name`` starts from is there, and that starting comes to an end."""
        chain = [name]
        while (start := self.start_of(entries[chain[-1]])) is not None:
            if start in chain:
                circle = " -> ".join([*chain, start])
                self.add(("methods", name, "start"), f"goes round in a circle ({circle})")
                return
            if start not in entries and start in self.registry.methods and start not in trees:
                added = self.entry(("methods", start), start, {}, RowOptions(optional=True))
                entries |= {} if added is None else {start: added}
            if start not in entries:
                if start not in trees:  # a row that is listed has reported its own mistakes
                    names = [other for other in entries if other != name]
                    self.problems.append(unknown_name(f"methods.{chain[-1]}.start", "row", start, names))
                return
            chain.append(start)

    def start_of(self, entry: MethodEntry) -> str | None:
        return entry.row_options.start or self.registry.methods[entry.method].needs.start

    def tuned(self, tree: Any) -> TunedTeacher | None:
        """The section ``tuned_teacher``; ``None`` where it is wrong, or left out and ``TUNED`` names no method."""
        if tree is not None and not isinstance(tree, Mapping):
            self.add(("tuned_teacher",), "must be a mapping of options", tree)
            return None
        # As a section of a recipe, because only there another method drops the options of the default one.
        values = merge({"tuned_teacher": TUNED}, {"tuned_teacher": tree or {}})["tuned_teacher"]
        name = str(values.pop("method"))
        if tree is None and name not in self.registry.methods:
            return None
        method = self.method("tuned_teacher.method", name)
        if method is not None and (method.needs.signal != "response" or method.needs.responses != ("samples",)):
            rule = "does not learn from rewarded responses alone, so it cannot tune the teacher"
            self.add(("tuned_teacher", "method"), rule, name)
            method = None
        own = {key: values.pop(key) for key in ("pairs",) if key in values}
        pairs, wrong = read_section(TunedPairs, own, ("tuned_teacher",))
        self.problems += wrong
        if method is None or pairs is None:
            return None
        rows = Rows(self.registry, replace(self.train, **TUNED_TRAIN), self.sampling, self.launch)
        entry = rows.entry(("tuned_teacher",), name, values, RowOptions())
        if entry is not None and pairs.pairs == "samples":
            rows.check_responses(("tuned_teacher",), name, entry.config, entry.sampling)
        self.problems += [problem for problem in rows.problems if problem not in self.problems]
        return None if entry is None else TunedTeacher(pairs.pairs, entry)


OURS = "set train.backend to 'ours'."
NO_ROUNDS = "has no effect without rounds of at least 2"
