"""The rows of a recipe: which method, its options, and what a row may say beside them; and the tuned teacher.

A row is named after its method, or says ``method:`` and has a name of its own, so that one method can stand in a table
several times: ``pad-ppd-2x4: {method: pad-ppd, rounds: 2, sampling: {n: 4}}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeVar

from harness.contracts.method import Method
from harness.contracts.option_errors import Problem, show, unknown_name
from harness.contracts.options import Count, options, plain, read_options
from harness.contracts.registry import Registry
from harness.errors import UserError
from harness.recipe.sections import FOLDER_NAME, PLUGIN, SamplingOptions, options_by_name, read_section
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


@dataclass(frozen=True)
class TunedTeacher:
    """The family's teacher after preference tuning: what DCKD and ADPA learn from. One for all rows and seeds."""

    pairs: Literal["auto", "dataset", "samples"]
    """``dataset``: the prompt source's chosen and rejected answers. ``samples``: the teacher's own answers, rewarded as
    every row's are. ``auto``: the first where the source has them."""
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
        self.registry = registry
        self.train, self.sampling = train, sampling
        self.launch = launch
        """``compute.launch``."""
        self.problems: list[Problem] = []
        self.no_trl: list[str] = []
        """Rows that the recipe's own ``train.backend: trl`` asks too much of."""

    def read(self, tree: Any) -> dict[str, MethodEntry]:
        """All rows, those that others start from included (as optional rows, where the recipe does not list them)."""
        entries: dict[str, MethodEntry] = {}
        options, wrong = options_by_name(tree, "methods")
        self.problems += wrong
        for name, values in options.items():
            entry = self.row(name, values)
            if entry is not None:
                entries[name] = entry
        for name in list(entries):
            self.add_start(name, entries, options)
        if self.no_trl:
            self.problems.append(_no_trl(("train",), self.no_trl, self.registry))
        return entries

    def row(self, name: str, options: dict[str, Any]) -> MethodEntry | None:
        """One row, or ``None`` where something is wrong with it."""
        known = len(self.problems)
        said = {key: options.pop(key) for key in list(options) if key in ROW_OPTIONS}
        row, wrong = read_section(RowOptions, said, ("methods", name))
        self.problems += wrong
        asked = said.get("method") or name
        method = self.method(f"methods.{name}", asked) if isinstance(asked, str) else None
        if row is None or method is None:
            return None
        if FOLDER_NAME.fullmatch(name) is None or name in MODELS:
            rule = f"must be letters, digits, . _ + - and none of {', '.join(MODELS)}"
            self.problems.append(Problem(f"methods.{name}", f"cannot name a row: it {rule}"))
        self.check_rounds(name, asked, method, row)
        entry = self.entry(("methods", name), asked, options, row)
        return entry if len(self.problems) == known else None

    def entry(self, path: tuple[str, ...], name: str, options: dict[str, Any], row: RowOptions) -> MethodEntry | None:
        """Options, ``train`` and ``sampling`` of a row whose method is known to exist."""
        method = self.registry.methods[name]
        own = options.get("train")
        train = self.section(Hyperparameters, self.train, {}, options.pop("train", None), (*path, "train"))
        drawn = self.section(
            SamplingOptions, self.sampling, method.needs.sampling, options.pop("sampling", None), (*path, "sampling")
        )
        config, wrong = read_options(method.config, options, path, ROW_KEYS)
        self.problems += wrong
        if train is None or drawn is None or config is None:
            return None
        if train.backend == "trl" and method.trl is None:
            if path[0] == "methods" and not (isinstance(own, Mapping) and "backend" in own):
                self.no_trl.append(path[-1])
            else:
                self.problems.append(_no_trl((*path, "train"), [name], self.registry))
            return None
        said = own if isinstance(own, Mapping) else {}
        self.check_schedule(path, train, row, "schedule_over" in said)
        if train.backend == "trl":
            self.check_trl(path, train, said)
        if path[0] == "methods":
            self.check_responses(path, name, config, drawn)
        values = plain(config)
        decides = {field: values[field] for field in method.row_fields}
        return MethodEntry(method=name, config=config, row_config=decides, train=train, sampling=drawn, row_options=row)

    def section(self, kind: type[T], common: T, usual: Mapping[str, Any], own: Any, path: tuple[str, ...]) -> T | None:
        """A section of a row: the recipe's, what its method usually changes, and what the row itself says."""
        read, wrong = read_section(kind, own, path)
        if read is not None:
            read, wrong = read_section(kind, plain(common) | dict(usual) | dict(own or {}), path)
        self.problems += wrong
        return read

    def method(self, path: str, name: str) -> Method | None:
        """The method of this name."""
        found = self.registry.methods.get(name)
        if found is None:
            self.problems.append(
                unknown_name(path, "method", name, self.registry.methods, PLUGIN.format("method") + OWN_NAME)
            )
        return found

    def check_rounds(self, name: str, method: str, found: Method, row: RowOptions) -> None:
        """Rounds are for methods that train on the student's own samples."""
        if row.rounds > 1 and not found.needs.rounds:
            able = [other for other, each in self.registry.methods.items() if each.needs.rounds]
            rule = f"{method} does not train on samples of the current student, so it has one round"
            self.problems.append(
                Problem(
                    f"methods.{name}.rounds",
                    rule,
                    show(row.rounds),
                    remedy=f"Methods that can: {', '.join(able)}.",
                )
            )
        if not row.resample and row.rounds == 1:
            self.problems.append(Problem(f"methods.{name}.resample", "says nothing without rounds of at least 2"))

    def check_schedule(self, path: tuple[str, ...], train: Hyperparameters, row: RowOptions, said: bool) -> None:
        """One schedule over all rounds needs rounds, and our trainer. ``said``: by the row itself."""
        where, value = ".".join((*path, "train", "schedule_over")), show(train.schedule_over)
        if train.schedule_over == "run" and row.rounds > 1 and train.backend == "trl":
            remedy = "Leave it at 'round', or set train.backend to 'ours'."
            self.problems.append(Problem(where, "is for the backend 'ours', not 'trl'", value, remedy=remedy))
        if said and train.schedule_over == "run" and row.rounds == 1:
            self.problems.append(Problem(where, "says nothing without rounds of at least 2", value))

    def check_trl(self, path: tuple[str, ...], train: Hyperparameters, own: Mapping[str, Any]) -> None:
        """What TRL's trainers, as they are driven here, would do wrongly or pass over in silence. ``own``: what the row
        itself says of ``train``."""
        minutes = train.checkpoint_minutes if "checkpoint_minutes" in own else None
        asked = {
            "packing": (train.packing == "always", "TRL's trainers get separate rows", "Leave it at 'auto'"),
            "lora": (train.lora is not None, "the backend 'trl' trains all weights here", "Leave it at null"),
            "checkpoint_minutes": (minutes is not None, "a row that TRL trains does not resume", "Set it to null"),
        }
        for key, (wrong, rule, remedy) in asked.items():
            if wrong:
                where = ".".join((*path, "train", key)) if key in own else f"train.{key}"
                self.once(Problem(where, rule, show(getattr(train, key)), remedy=f"{remedy}, or {OURS}"))
        if self.launch is not None:
            rule = "rows with the backend 'trl' train in one process: TRL's batch would grow with their number"
            self.once(Problem("compute.launch", rule, show(self.launch), remedy=f"Leave it at null, or {OURS}"))

    def check_responses(
        self, path: tuple[str, ...], name: str, config: Mapping[str, Any], sampling: SamplingOptions
    ) -> None:
        """Whether the row's method takes as many responses as it will be given in a round."""
        method = self.registry.methods[name]
        if "samples" not in method.needs.responses:
            return
        try:
            method.check(config, sampling.n)
        except UserError as error:
            remedy = "Give this row its own sampling.n, or leave it out (--set 'methods=[NAME, ...]')."
            self.problems.append(Problem(".".join((*path, "sampling.n")), str(error), remedy=remedy))

    def once(self, problem: Problem) -> None:
        """Add a mistake that several rows may share."""
        if problem not in self.problems:
            self.problems.append(problem)

    def add_start(self, name: str, entries: dict[str, MethodEntry], options: Mapping[str, Any]) -> None:
        """Make sure that the row which ``name`` starts from is there, and that starting comes to an end."""
        chain = [name]
        while (start := self.start_of(entries[chain[-1]])) is not None:
            if start in chain:
                circle = " -> ".join([*chain, start])
                self.problems.append(Problem(f"methods.{name}.start", f"goes round in a circle ({circle})"))
                return
            if start not in entries and start in self.registry.methods and start not in options:
                made = self.entry(("methods", start), start, {}, RowOptions(optional=True))
                if made is not None:
                    entries[start] = made
            if start not in entries:
                if start not in options:  # else its own mistakes are told already
                    names = [other for other in entries if other != name]
                    self.problems.append(unknown_name(f"methods.{chain[-1]}.start", "row", start, names))
                return
            chain.append(start)

    def start_of(self, entry: MethodEntry) -> str | None:
        """The row that this one starts from."""
        return entry.row_options.start or self.registry.methods[entry.method].needs.start

    def tuned(self, tree: Any) -> TunedTeacher | None:
        """The section ``tuned_teacher``; ``None`` where it is wrong, or left out and DPO is not registered."""
        if tree is not None and not isinstance(tree, Mapping):
            self.problems.append(Problem("tuned_teacher", "must be a mapping of options", show(tree)))
            return None
        values = merge(TUNED, tree or {})  # a change of the method drops the options of the other one
        name, pairs = values.pop("method"), values.pop("pairs", "auto")
        if tree is None and name not in self.registry.methods:
            return None
        method = self.method("tuned_teacher.method", str(name))
        if method is not None and (method.needs.signal != "response" or method.needs.responses != ("samples",)):
            rule = "does not learn from rewarded responses alone, so it cannot tune the teacher"
            self.problems.append(Problem("tuned_teacher.method", rule, show(name)))
            method = None
        if pairs not in ("auto", "dataset", "samples"):
            rule, choices = "is not one of the choices", ("auto", "dataset", "samples")
            self.problems.append(Problem("tuned_teacher.pairs", rule, show(pairs), choices))
            return None
        if method is None:
            return None
        own = Rows(self.registry, replace(self.train, **TUNED_TRAIN), self.sampling, self.launch)
        row = own.entry(("tuned_teacher",), str(name), values, RowOptions())
        if row is not None and pairs == "samples":
            own.check_responses(("tuned_teacher",), row.method, row.config, row.sampling)
        for problem in own.problems:
            self.once(problem)
        return None if row is None else TunedTeacher(pairs=pairs, training=row)


OURS = "set train.backend to 'ours'."
OWN_NAME = " A row with a name of its own says `method: NAME`."


def _no_trl(section: tuple[str, ...], names: list[str], registry: Registry) -> Problem:
    """The mistake of asking TRL for losses that its stable trainers do not have; ``section``: where that was asked."""
    able = ", ".join(other for other, method in registry.methods.items() if method.trl) or "none"
    remedy = f"Leave it at 'ours'; methods that TRL can train: {able}."
    if section == ("train",):
        remedy += " Choose among those (--set 'methods=[NAME, ...]'), or ask it of a row (methods.NAME.train.backend)."
    rule = f"TRL's stable trainers have no loss for {', '.join(names)}"
    return Problem(".".join((*section, "backend")), rule, "'trl'", remedy=remedy)
