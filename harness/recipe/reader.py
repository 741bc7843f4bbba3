"""Reads the sections of a recipe from a merged tree, and collects everything that is wrong with them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from harness.contracts.backend import STATED
from harness.contracts.benchmark import KIND, AnyBenchmark
from harness.contracts.executor import StageOptions
from harness.contracts.method import Method
from harness.contracts.options import Problem, dotted_path, is_options, json_data, read_options, show, unknown_name
from harness.contracts.registry import Registry
from harness.errors import UserError
from harness.recipe import sections
from harness.recipe.yaml_source import Tree, as_mapping, merge, over_like
from harness.training.options import TrainOptions

T = TypeVar("T")
Keys = tuple[object, ...]

PLUGIN = "To use one of your own, add --plugin my_file.py."
OURS = "set train.backend to 'ours'."
NO_ROUNDS = "has no effect without rounds of at least 2"
SECTION = "targets"
TARGET_KEYS = tuple(sections.TargetOptions.__dataclass_fields__)
PROMPT_KEYS = tuple(field.name for field in dataclasses.fields(sections.Prompts) if field.name != "config")
ROW_OPTIONS = tuple(field.name for field in dataclasses.fields(sections.RowOptions))
ROW_KEYS = (*ROW_OPTIONS, "train", "sampling")
"""Not options of its method: a method's config must not have them."""
TUNED = {"method": "dpo", "beta": 0.01}
"""Where the recipe does not say, with what SimPO's authors tuned for 2B-8B. Other settings: the recipe's ``train``."""
TUNED_TRAIN: Mapping[str, Any] = {"learning_rate": 5e-7, "epochs": 1}


class SectionReader:
    """Every method reads one section: its options, or ``None`` (or defaults) where ``problems`` says what is wrong."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.problems: list[Problem] = []
        self.train, self.sampling, self.compute = TrainOptions(), sections.SamplingOptions(), sections.Compute()
        self.not_for_trl: list[str] = []

    def add(self, path: Keys, rule: str, value: object = None, remedy: str = "") -> None:
        value_text = None if value is None else show(json_data(value) if is_options(type(value)) else value)
        self.note(Problem(dotted_path(path), rule, value_text, remedy=remedy))

    def note(self, *problems: Problem) -> None:
        self.problems += [problem for problem in problems if problem not in self.problems]

    def options(self, kind: type[T], values: object, path: Keys, other_names: Sequence[str] = ()) -> T | None:
        """One class of options; ``null`` means all defaults. ``other_names``: keys that are read elsewhere."""
        if not isinstance(values, Mapping | None):
            self.add(path, "must be a mapping (key: value lines)", values)
            return None
        config, problems = read_options(kind, values or {}, path, other_names)
        self.note(*problems)
        return config

    def entry(self, table: Mapping[str, T], name: object, path: Keys, noun: str, remedy: str = PLUGIN) -> T | None:
        if isinstance(name, str) and name in table:
            return table[name]
        self.note(unknown_name(dotted_path(path), noun, name, table, remedy))
        return None

    def by_name(self, tree: object, section: str) -> dict[str, Tree]:
        if not isinstance(tree, Mapping | None):
            self.add((section,), "must be a mapping from names to options, or a list of names", tree)
        trees: dict[str, Tree] = {}
        for name, values in as_mapping(tree).items():
            if not isinstance(values, Mapping | None):
                self.add((section, name), "must be a mapping of options (or nothing, for all defaults)", values)
            elif not all(isinstance(key, str) for key in (name, *(values or {}))):
                self.add((section, str(name)), "must have texts as keys", values)
            else:
                trees[name] = dict(values or {})
        return trees

    def family(self, tree: object) -> sections.Family | None:
        if not tree:
            return None
        family = self.options(sections.Family, tree, ("family",))
        if family is None:
            return None
        kinds = [kind for kind, runs_model in self.registry.stages.items() if runs_model]
        for name in family.backends:
            noun = "model or kind of stage that a backend serves"
            self.entry(dict.fromkeys([*sections.MODELS, *kinds], name), name, ("family", "backends", name), noun, "")
        for name, choice in family.backend_choices():
            path: Keys = ("family", "backends", name) if name else ("family", "backend_options")
            self.backend(*choice, (*path, "backend") if name else ("family", "backend"), path)
        return family

    def backend(self, name: object, values: Mapping[str, Any], path: Keys, options_path: Keys) -> None:
        backend = self.entry(self.registry.backends, name, path, "backend")
        if backend and backend.by_name:
            rule = "must load checkpoints: the students that a run trains answer too"
            self.add(path, rule, name, "For a model behind a server use `distilbench eval --model NAME@URL`.")
        elif backend:
            for option in sorted(STATED.keys() & values.keys()):
                self.add((*options_path, option), f"stands in {STATED[option]}, for all backends", values[option])
            self.options(backend.config, values, options_path, ("backend",))

    def prompts(self, tree: object) -> sections.Prompts | None:
        values, sources = as_mapping(tree), self.registry.sources
        prompt_values = {key: value for key, value in values.items() if key in PROMPT_KEYS}
        section = self.options(
            sections.Prompts, prompt_values if isinstance(tree, Mapping | None) else tree, ("prompts",)
        )
        name = prompt_values.get("source", sections.Prompts().source)
        source = self.entry(sources, name, ("prompts", "source"), "source of prompts")
        if section is None or source is None:
            return None
        if section.fallback is not None:
            able = {
                name: candidate
                for name, candidate in sources.items()
                if candidate.hub is None and read_options(candidate.config, {}, ())[0] is not None
            }
            noun = "source that needs no network and no options"
            self.entry(able, section.fallback, ("prompts", "fallback"), noun, "")
        foreign_options = {option for candidate in sources.values() for option in candidate.config.__dataclass_fields__}
        foreign_options -= source.config.__dataclass_fields__.keys()
        # An option of another source at null undoes one that the recipe inherits.
        options = {
            key: value
            for key, value in values.items()
            if key not in PROMPT_KEYS and not (value is None and key in foreign_options)
        }
        config = self.options(source.config, options, ("prompts",), PROMPT_KEYS)
        return replace(section, config=config)

    def common(self, tree: Mapping[str, Any]) -> dict[str, object]:
        """The sections that rows are read over; defaults where one is wrong, so that mistakes of rows still show."""
        self.train = self.options(TrainOptions, tree.get("train"), ("train",)) or self.train
        self.sampling = self.options(sections.SamplingOptions, tree.get("sampling"), ("sampling",)) or self.sampling
        compute = self.compute_section(tree.get("compute"))
        executors = self.registry.executors
        kind = compute and self.entry(executors, compute.executor, ("compute", "executor"), "kind of executor")
        if compute and kind:
            config = self.options(kind.config, compute.executor_options, ("compute", "executor_options"))
            self.compute = replace(compute, executor_options=json_data(config)) if config else compute
            for name, stage in compute.stages.items():
                self.options(kind.stage_config, stage.options, ("compute", "stages", name, "options"))
        return {"train": self.train, "sampling": self.sampling, "compute": self.compute}

    def compute_section(self, tree: object) -> sections.Compute | None:
        values, stage_trees = tree, None
        if isinstance(tree, Mapping):
            values = {key: value for key, value in tree.items() if key != "stages"}
            stage_trees = tree.get("stages")
        compute = self.options(sections.Compute, values, ("compute",), ("stages",))
        if not isinstance(stage_trees, Mapping | None):
            self.add(("compute", "stages"), "must be a mapping from kinds of stages to what they get", stage_trees)
            return compute
        stages: dict[str, StageOptions] = {}
        for name, stage_tree in (stage_trees or {}).items():
            path = ("compute", "stages", str(name))
            if self.entry(self.registry.stages, name, path, "kind of stage", "") is not None:
                options = self.options(StageOptions, stage_tree, path)
                stages |= {name: options} if options else {}
        return replace(compute, stages=stages) if compute else None

    def judges(self, tree: object) -> dict[str, sections.JudgeEntry]:
        entries: dict[str, sections.JudgeEntry] = {}
        for name, values in self.by_name(tree, "judges").items():
            kind_name = values.pop("kind", None)
            kind = self.entry(self.registry.judges, kind_name, ("judges", name, "kind"), "kind of judge")
            if kind is not None:
                entries[name] = sections.JudgeEntry(str(kind_name), self.options(kind.config, values, ("judges", name)))
        return entries

    def benchmarks(self, tree: object, judges: object, methods: object) -> dict[str, sections.BenchmarkEntry]:
        entries: dict[str, sections.BenchmarkEntry] = {}
        names = [str(name) for name in as_mapping(judges)]
        rows = {*sections.MODELS, *map(str, as_mapping(methods))}
        for name, values in self.by_name(tree, "benchmarks").items():
            path: Keys = ("benchmarks", name)
            kind, benchmark = self.benchmark(name, values)
            if benchmark is None:
                continue
            judge, config_values = sections.split_judge(values)
            baseline = config_values.get(sections.BASELINE)
            # A row by its name: the file of that name would be ``./student``.
            row = baseline if isinstance(baseline, str) and baseline in rows and benchmark.pairwise else None
            if row is not None:
                del config_values[sections.BASELINE]
            if sections.JUDGE_PROMPT in config_values and not benchmark.needs_judge:
                rule = f"{kind} is graded by rule: no judge reads a prompt"
                self.add((*path, sections.JUDGE_PROMPT), rule, config_values.pop(sections.JUDGE_PROMPT), "Remove it.")
            config = self.options(benchmark.config, config_values, path, (KIND, sections.JUDGE))
            judge_name = self.judge_of(name, benchmark, judge, names)
            entries[name] = sections.BenchmarkEntry(kind, judge_name, config, row)
        return entries

    def benchmark(self, name: str, values: Tree) -> tuple[str, AnyBenchmark | None]:
        """The entry behind a column, by the ``kind`` among its values, which is taken out, or by the column's name."""
        path, table = ("benchmarks", name), self.registry.benchmarks
        if KIND not in values:
            remedy = f"{PLUGIN} A column with a name of its own says `kind: NAME`."
            return name, self.entry(table, name, path, "benchmark", remedy)
        kind = values.pop(KIND)
        entry = self.entry(table, kind, (*path, KIND), "benchmark")
        if name in table and name != kind:
            self.add(path, f"is the name of another benchmark, and its kind is {kind}", remedy="Choose another name.")
        elif sections.COLUMN_NAME.fullmatch(name) is None or name in sections.TAKEN_COLUMNS:
            rule = "cannot name a column: it must be up to 60 letters, digits, _ and -, and none of "
            self.add(path, rule + ", ".join(sections.TAKEN_COLUMNS))
        return str(kind), entry

    def judge_of(self, name: str, benchmark: AnyBenchmark, judge: object, names: Sequence[str]) -> str | None:
        path = ("benchmarks", name, sections.JUDGE)
        if not benchmark.needs_judge:
            if judge is not None:
                self.add(path, f"{benchmark.name} is graded by rule and takes no judge", judge, "Remove it.")
            return None
        if judge is None and len(names) == 1:
            return names[0]
        remedy = "" if names else "Add a section `judges:` with one."
        return self.entry({name: name for name in names}, judge, path, "judge of this recipe", remedy)

    def rows(self, tree: object) -> dict[str, sections.MethodEntry]:
        """All rows, and those that they start from (as optional rows, where the recipe does not list them)."""
        trees: dict[str, Tree] = over_like(self.by_name(tree, "methods"))
        entries = {
            name: entry for name, values in trees.items() if (entry := self.row(name, values, [*trees])) is not None
        }
        for name in list(entries):
            self.add_start(name, entries, trees)
        if self.not_for_trl:
            choose = "Choose among those (--set 'methods=[NAME, ...]'), or ask one row (methods.NAME.train.backend)."
            self.add_no_trl(("train",), self.not_for_trl, f" {choose}")
        return entries

    def row(self, name: str, tree: Tree, rows: Sequence[str]) -> sections.MethodEntry | None:
        path = ("methods", name)
        if tree.get("like") is not None:
            self.add_unlike(path, tree, rows)
            return None
        row_values = {key: value for key, value in tree.items() if key in ROW_OPTIONS}
        row = self.options(sections.RowOptions, row_values, path)
        method_name = row_values.get("method") or name
        method = self.method(path, method_name)
        if row is None or method is None:
            return None
        if sections.FOLDER_NAME.fullmatch(name) is None or name in sections.MODELS:
            rule = f"must be up to 100 letters, digits, . _ + - and none of {', '.join(sections.MODELS)}"
            self.add(path, f"cannot name a row: it {rule}")
        if row.rounds > 1 and not method.needs.rounds:
            able = [candidate for candidate, entry in self.registry.methods.items() if entry.needs.rounds]
            rule = f"{method_name} does not train on samples of the current student, so it has one round"
            self.add((*path, "rounds"), rule, row.rounds, f"Methods that can: {', '.join(able)}.")
        if not row.resample and row.rounds == 1:
            self.add((*path, "resample"), NO_ROUNDS)
        return self.method_entry(path, method_name, tree, row, self.train)

    def add_unlike(self, path: Keys, tree: Tree, rows: Sequence[str]) -> None:
        """Why a row cannot be like another: ``over_like`` has resolved all that can."""
        like = tree["like"]
        if self.entry(dict.fromkeys(rows, like), like, (*path, "like"), "row of this recipe", "") is None:
            return
        if tree.get("method") is not None:
            rule = f"is not the method of the row {like}, which this row is like"
            self.add((*path, "method"), rule, tree["method"], "Leave one of the two out.")
        else:
            self.add((*path, "like"), "leads back to this row, or to a row that is like none", like)

    def method(self, path: Keys, name: object) -> Method | None:
        remedy = f"{PLUGIN} A row with a name of its own says `method: NAME`."
        return self.entry(self.registry.methods, name, path, "method", remedy)

    def method_entry(
        self,
        path: Keys,
        name: str,
        tree: Tree,
        row: sections.RowOptions,
        common: TrainOptions,
        needs_samples: bool = True,
    ) -> sections.MethodEntry | None:
        """``common``: what the row's ``train`` stands over; ``needs_samples``: responses are drawn for it."""
        method, train_tree = self.registry.methods[name], tree.get("train")
        train = self.section(TrainOptions, json_data(common), train_tree, (*path, "train"))
        usual = json_data(self.sampling) | dict(method.needs.sampling)
        sampling = self.section(sections.SamplingOptions, usual, tree.get("sampling"), (*path, "sampling"))
        config = self.options(method.config, {k: v for k, v in tree.items() if k not in ROW_KEYS}, path, ROW_KEYS)
        if train is None or sampling is None or config is None:
            return None
        if train.with_trl and method.trl is None:
            # One mistake for all rows that the recipe's own ``train`` sends there, one each for those that ask for it.
            if path[0] == "methods" and "backend" not in as_mapping(train_tree):
                self.not_for_trl.append(str(path[-1]))
            else:
                self.add_no_trl((*path, "train"), [name])
            return None
        self.check_train(path, train, row, as_mapping(train_tree))
        if needs_samples and "samples" in method.needs.responses:
            try:
                method.check(config, sampling.n)
            except UserError as error:
                remedy = "Give this row its own sampling.n, or leave it out (--set 'methods=[NAME, ...]')."
                self.add((*path, "sampling", "n"), str(error), remedy=remedy)
        values = json_data(config)
        decisive = {field: values[field] for field in method.row_fields}
        return sections.MethodEntry(name, config, decisive, train, sampling, row)

    def section(self, kind: type[T], common: Mapping[str, Any], tree: object, path: Keys) -> T | None:
        # The row's own keys first, alone: a mistake in the common section is not this row's mistake.
        alone = self.options(kind, tree, path)
        return None if alone is None else self.options(kind, {**common, **as_mapping(tree)}, path)

    def check_train(
        self, path: Keys, train: TrainOptions, row: sections.RowOptions, row_train: Mapping[str, Any]
    ) -> None:
        """What TRL would ignore, and schedules over rounds. ``row_train``: what the row itself says of ``train``."""
        spans_rounds = train.schedule_over == "run"
        if "schedule_over" in row_train and spans_rounds and row.rounds == 1:
            self.add((*path, "train", "schedule_over"), NO_ROUNDS, "run")
        if not train.with_trl:
            return
        resumes = "checkpoint_minutes" in row_train and train.checkpoint_minutes is not None
        for key, is_wrong, rule, remedy in (
            ("schedule_over", spans_rounds and row.rounds > 1, "is for our own trainer", "Leave it at 'round'"),
            ("packing", train.packing == "always", "TRL's trainers get separate rows", "Leave it at 'auto'"),
            ("lora", train.lora is not None, "the backend 'trl' trains all weights here", "Leave it at null"),
            ("checkpoint_minutes", resumes, "a row that TRL trains does not resume", "Set it to null"),
        ):
            if is_wrong:
                option_path = (*path, "train", key) if key in row_train else ("train", key)
                self.add(option_path, rule, getattr(train, key), f"{remedy}, or {OURS}")
        if self.compute.launch is not None:
            rule = "rows with the backend 'trl' train in one process: TRL's batch would grow with their number"
            self.add(("compute", "launch"), rule, self.compute.launch, f"Leave it at null, or {OURS}")

    def add_no_trl(self, section: Keys, names: Sequence[str], hint: str = "") -> None:
        able = ", ".join(name for name, method in self.registry.methods.items() if method.trl) or "none"
        rule = f"TRL's stable trainers have no loss for {', '.join(names)}"
        self.add((*section, "backend"), rule, "trl", f"Leave it at 'ours'; methods that TRL can train: {able}.{hint}")

    def add_start(self, name: str, entries: dict[str, sections.MethodEntry], trees: Mapping[str, Tree]) -> None:
        methods, chain, entry = self.registry.methods, [name], entries[name]
        while (start := entry.row_options.start or methods[entry.method].needs.start) is not None:
            if start in chain:
                circle = " -> ".join([*chain, start])
                self.add(("methods", name, "start"), f"goes round in a circle ({circle})")
                return
            if start not in entries and start in methods and start not in trees:
                start_entry = self.method_entry(
                    ("methods", start), start, {}, sections.RowOptions(optional=True), self.train
                )
                entries |= {} if start_entry is None else {start: start_entry}
            if start not in entries:
                if start not in trees:  # a row that is listed has reported its own mistakes
                    names = [row for row in entries if row != name]
                    self.problems.append(unknown_name(f"methods.{chain[-1]}.start", "row", start, names))
                return
            chain.append(start)
            entry = entries[start]

    def tuned_teacher(self, tree: object) -> sections.TunedTeacher | None:
        """``None`` where it is wrong, or left out and ``TUNED`` names no method."""
        path = ("tuned_teacher",)
        if not isinstance(tree, Mapping | None):
            self.add(path, "must be a mapping of options", tree)
            return None
        # As a section of a recipe, because only there another method drops the options of the default one.
        values = merge({"": TUNED}, {"": tree or {}})[""]
        name = values.pop("method")
        if tree is None and name not in self.registry.methods:
            return None
        method = self.method((*path, "method"), name)
        if method is not None and (method.needs.signal != "response" or method.needs.responses != ("samples",)):
            rule = "does not learn from rewarded responses alone, so it cannot tune the teacher"
            self.add((*path, "method"), rule, name)
            method = None
        for key in {*ROW_OPTIONS} & values.keys():
            self.add((*path, str(key)), "is an option of rows, and the tuned teacher is none", values[key])
        pair_values = {key: values.pop(key) for key in ("pairs",) if key in values}
        pairs = self.options(sections.TunedPairs, pair_values, path)
        if method is None or pairs is None:
            return None
        train, needs_samples = replace(self.train, **TUNED_TRAIN), pairs.pairs == "samples"
        entry = self.method_entry(path, name, values, sections.RowOptions(), train, needs_samples)
        return None if entry is None else sections.TunedTeacher(pairs.pairs, entry)

    def targets(self, tree: object) -> Mapping[str, Any]:
        if not isinstance(tree, Mapping | None):
            self.add((SECTION,), "must be a mapping from targets to what differs for them", tree)
        for name, values in as_mapping(tree).items():
            path = (SECTION, name)
            target = self.entry(self.registry.targets, name, path, "target", "")
            if target is not None and not isinstance(values, Mapping):
                self.add(path, "must be a mapping of what differs for it", values)
            elif target is not None:
                option_values = {key: value for key, value in values.items() if key in TARGET_KEYS}
                options = self.options(sections.TargetOptions, option_values, path)
                row_names = {row: row for row in target.rows if row not in sections.MODELS}
                for row in (options.rows or ()) if options else ():
                    self.entry(row_names, row, (*path, "rows"), "row of it", "")
                for key in {"name", "extends", SECTION} & values.keys():
                    self.add((*path, key), "cannot differ between the targets of a recipe")
        return as_mapping(tree)
