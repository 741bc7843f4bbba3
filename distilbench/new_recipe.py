"""A recipe from six answers (``distilbench init``): models, data, benchmarks, judge, budget, GPUs.

Each answer is a line of text, checked when it is given. The recipe that comes out is plain YAML, with the sentence of
each option above it (``docs/recipe.md`` has them all).
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from distilbench.plugins import load_registry
from distilbench.workflows.specs import JUDGE, judge_entry
from harness.contracts.benchmark import KIND
from harness.contracts.judge import AskOptions
from harness.contracts.options import RecipeError, read_options
from harness.contracts.registry import Registry
from harness.errors import UserError, unknown_choice
from harness.hardware import visible_gpus
from harness.models.published_sizes import context_length, resolve_or_placeholder
from harness.recipe import sections
from harness.recipe.reader import SectionReader
from harness.recipe.recipe import check_tree
from harness.recipe.schema import FILE, properties, recipe_schema, schema_text
from harness.recipe.yaml_source import expand_name_lists, merge, read_source
from harness.rows import FORMS
from harness.training.options import TrainOptions
from judges.benchmarks.own.questions import OwnConfig

POCKET, OFFICIAL = "pocket", "official"
PAPER: Final = ("alpaca_eval", "arena_hard", "mt_bench", "gsm8k")
ROWS: Final = ("kd", "seqkd", "minillm", "dpo", "simpo", "pro", "pad-vpd", "pad-ppd")
KNOWN_JUDGE: Final = "gpt-4.1-2025-04-14"
DOLLARS: Final = 50.0
"""Default budget where a judge has a price."""
USUAL_CONTEXT: Final = 8192
PROMPTS, POCKET_PROMPTS = 2048, 512
RESPONSES: Final = 4
EXAMPLE: Final = "facts=exact:facts.jsonl"
FRAME: Final = 80
"""Tokens of the reward question besides the prompt and the responses; each response has 14 more."""


@dataclass
class Answers:
    """What was answered so far; later questions have their defaults, and are checked, by it."""

    registry: Registry
    teacher: str = "pocket:teacher"
    student: str = "pocket:student"
    source: dict[str, Any] = field(default_factory=lambda: {"source": POCKET})
    benchmarks: tuple[str, ...] = PAPER
    own: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Of ``benchmarks``, those with questions of a file: their kind, and the file."""
    judge: dict[str, Any] | None = None
    budget: float | None = None
    gpus: tuple[int, ...] = ()
    questions: str = ""
    """``pocket`` or ``official``; empty: by the models."""
    notes: list[str] = field(default_factory=list)

    @property
    def in_pocket(self) -> bool:
        return all(model.startswith("pocket:") for model in (self.teacher, self.student))

    @property
    def question_set(self) -> str:
        return self.questions or (POCKET if self.in_pocket else OFFICIAL)

    @property
    def needs_judge(self) -> bool:
        return any(map(self.is_judged, self.benchmarks))

    def is_judged(self, name: str) -> bool:
        return self.registry.benchmarks[self.own.get(name, {}).get("kind", name)].needs_judge

    @property
    def price(self) -> float | None:
        """Dollars for a million tokens in and out; ``None``: not known."""
        if self.judge is None:
            return 0.0
        kind = self.registry.judges[self.judge["kind"]]
        config, _ = read_options(kind.config, {key: v for key, v in self.judge.items() if key != "kind"}, ())
        return kind.price(config, 10**6, 10**6) if config is not None else None


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[,\s]+", text.strip()) if word]


def read_models(text: str, answers: Answers) -> None:
    words = _words(text)
    if words == [POCKET]:
        words = ["pocket:teacher", "pocket:student"]
    if len(words) != 2:
        raise UserError(f"models {text!r}: write TEACHER,STUDENT (two hub ids or folders), or pocket.")
    values = {"name": "name", "teacher": words[0], "student": words[1]}
    _, problems = read_options(sections.Family, values, ("family",))
    if problems:
        raise UserError(" ".join(map(str, problems)))
    for model in words:
        if model.startswith(("/", ".", "~")) and not Path(model).expanduser().is_dir():
            raise UserError(f"models: {model!r} is not a folder. A model of the hub is written owner/name.")
    answers.teacher, answers.student = words


def read_data(text: str, answers: Answers) -> None:
    text, sources = text.strip(), answers.registry.sources
    if text in sources and read_options(sources[text].config, {}, ())[0] is not None:
        answers.source = {"source": text}
        return
    path = Path(text).expanduser()
    if not path.is_file():
        free = [name for name, source in sources.items() if read_options(source.config, {}, ())[0] is not None]
        remedy = f'Or the path of a file of yours ({FORMS}): a "prompt" in each row, with "golden" if you have it.'
        raise unknown_choice("source of prompts", text, free, remedy)
    options = {"path": text}
    source = sources["jsonl"]
    size = source.pin(read_options(source.config, options, ())[0]).size  # reads every line: mistakes are told now
    answers.source = {"source": source.name, **options, "n": min(size or PROMPTS, PROMPTS)}


def read_benchmarks(text: str, answers: Answers) -> None:
    known, own = answers.registry.benchmarks, dict[str, dict[str, Any]]()
    names = []
    for word in _words(text):
        name, is_own, rest = word.partition("=")
        names.append(name)
        if is_own:
            own[name] = _own_benchmark(name, rest, answers)
            continue
        if name not in known:
            raise unknown_choice("benchmark", name, known)
        if issubclass(known[name].config, OwnConfig):
            raise UserError(f"benchmark {name} asks questions of yours: write NAME={name}:FILE, as in {EXAMPLE}.")
        _, problems = read_options(known[name].config, {"questions": answers.question_set}, ("benchmarks", name))
        if problems:
            words = " ".join(map(str, problems))
            raise UserError(f"{words} What needs options of its own is added to the recipe by hand (docs/recipe.md).")
    if not names or len(set(names)) < len(names):
        raise UserError(f"benchmarks {text!r}: name at least one, each once.")
    answers.benchmarks, answers.own = tuple(names), own


def _own_benchmark(name: str, text: str, answers: Answers) -> dict[str, Any]:
    """From ``KIND:FILE``. Reads the file, because mistakes are told now."""
    known = answers.registry.benchmarks
    kind, _, file = text.partition(":")
    kinds = [each for each, entry in known.items() if issubclass(entry.config, OwnConfig)]
    if not kind or not file:
        raise UserError(f"benchmark {name}={text}: write NAME=KIND:FILE, as in {EXAMPLE}.")
    if kind not in kinds:
        raise unknown_choice("kind of benchmark", kind, kinds)
    reader = SectionReader(answers.registry)
    reader.benchmark(name, {KIND: kind})
    config, problems = read_options(known[kind].config, {"questions": file}, ("benchmarks", name))
    if config is None or reader.problems:
        raise RecipeError([*reader.problems, *problems], "--benchmarks")
    known[kind].questions(config)
    return {KIND: kind, "questions": file}


def read_judge(text: str, answers: Answers) -> None:
    entry = judge_entry(text.strip(), answers.registry)
    reader = SectionReader(answers.registry)
    reader.judges({JUDGE: entry})
    if reader.problems:
        raise RecipeError(reader.problems, "--judge")
    answers.judge = entry


def read_budget(text: str, answers: Answers) -> None:
    if text.strip().lower() in ("none", "no", ""):
        answers.budget = None
        return
    try:
        dollars = float(text.strip().removeprefix("$"))
    except ValueError as error:
        raise UserError(f"budget {text!r}: write dollars (20), or none.") from error
    _, problems = read_options(AskOptions, {"max_cost": dollars}, ("budget",))
    if problems or not dollars >= 0:
        raise UserError(" ".join(map(str, problems)) or f"budget {text!r}: must be 0 or more dollars.")
    if answers.price is None:
        raise UserError(
            "a budget needs the judge's price. Give the judge with it, dollars per million tokens (0: a server of your "
            "own): {kind: openai, model: NAME, base_url: URL, price_in: 0, price_out: 0}; or say none."
        )
    answers.budget = dollars


def read_gpus(text: str, answers: Answers) -> None:
    word, here = text.strip().lower(), len(visible_gpus())
    if word in ("none", "no", "", "0"):
        numbers: list[int] = []
    elif word == "all":
        numbers = [*range(here)]
    elif re.fullmatch(r"\d{1,4}", word):
        numbers = [*range(int(word))]
    elif re.fullmatch(r"\[?\d{1,4}(\s*,\s*\d{1,4})+\]?", word) or re.fullmatch(r"\[\d{1,4}\]", word):
        numbers = [int(number) for number in _words(word.strip("[]"))]
    else:
        raise UserError(f"GPUs {text!r}: write how many (4), which ([0] or 0,2), all, or none.")
    config, problems = read_options(sections.Compute, {"gpus": numbers}, ())
    if config is None:
        raise UserError(" ".join(map(str, problems)))
    if numbers and not here:
        answers.notes.append("this machine shows no GPU: the recipe names those of the machine that will run it.")
    elif numbers and max(numbers) >= here:
        raise UserError(f"GPUs {text!r}: this machine shows {here}. For another machine, set compute.gpus by hand.")
    answers.gpus = tuple(numbers)


@dataclass(frozen=True)
class InitQuestion:
    name: str
    """Of the option, too."""
    text: str
    read: Callable[[str, Answers], None]
    """Checks an answer and keeps it. Raises UserError."""
    default: Callable[[Answers], str]
    applies: Callable[[Answers], bool] = lambda answers: True


def _usual_budget(answers: Answers) -> str:
    return f"{DOLLARS:g}" if answers.price else "none"


QUESTIONS: Final = (
    InitQuestion("models", "Models: TEACHER,STUDENT (hub ids or folders), or pocket", read_models, lambda _: POCKET),
    InitQuestion(
        "data", f"Training prompts: pocket, ultrafeedback, gsm8k-train, or a file of yours ({FORMS})",
        read_data,
        lambda answers: POCKET if answers.in_pocket else "ultrafeedback",
    ),
    InitQuestion(
        "benchmarks", f"Benchmarks, with commas; with questions of yours: {EXAMPLE}", read_benchmarks,
        lambda _: ",".join(PAPER),
    ),
    InitQuestion(
        "judge", "Judge: a known model, NAME@http://HOST/v1, a checkpoint's folder, pocket (for pocket's questions)",
        read_judge,
        lambda answers: POCKET if answers.question_set == POCKET else KNOWN_JUDGE, lambda answers: answers.needs_judge,
    ),
    InitQuestion(
        "budget", "Budget for judging in dollars, or none", read_budget, _usual_budget,
        lambda answers: answers.needs_judge,
    ),
    InitQuestion(
        "gpus", "GPUs of the machine that runs it: how many, which (0,2), all, or none", read_gpus,
        lambda _: "all" if visible_gpus() else "none",
    ),
)  # fmt: skip


# The recipe


def recipe_tree(name: str, answers: Answers) -> dict[str, Any]:
    """The sections, as YAML holds them. Models of pocket extend its recipe: its settings were searched for them."""
    tree: dict[str, Any] = {"name": name, "title": f"{answers.teacher} teaches {answers.student}"}
    pocket = read_source(POCKET).tree
    if answers.in_pocket and answers.question_set == POCKET and pocket["benchmarks"].keys() >= {*answers.benchmarks}:
        models = {"teacher": answers.teacher, "student": answers.student}
        family = {"name": POCKET if models == _POCKET_MODELS else name, **models}
        tree = {"extends": POCKET, **tree, "family": family, "prompts": {"n": POCKET_PROMPTS, **answers.source}}
        # A list chooses among pocket's, which keep their options; a mapping would be merged with all of them.
        tree["benchmarks"] = [*answers.benchmarks]
    else:
        tree |= _own_models(name, answers)
        if answers.in_pocket:
            tree |= {section: pocket[section] for section in ("sampling", "reward", "train", "methods")}
        judged = {True: {"judge": JUDGE}, False: {}}
        usual = {"questions": answers.question_set}
        tree["benchmarks"] = {
            name: {**answers.own.get(name, usual), **judged[answers.is_judged(name)]} for name in answers.benchmarks
        }
    if answers.judge is not None:
        tree["judges"] = {JUDGE: answers.judge}
    tree["seeds"] = [0]
    tree["compute"] = {"workers": 1, **({"gpus": [*answers.gpus]} if answers.gpus else {})}
    if answers.budget is not None:
        tree["ask"] = {"max_cost": answers.budget}
    return tree


_POCKET_MODELS: Final = {"teacher": "pocket:teacher", "student": "pocket:student"}


def _own_models(name: str, answers: Answers) -> dict[str, Any]:
    """Settings for checkpoints of some billion weights, cut to what these two can read."""
    context = min(_context(answers.teacher), _context(answers.student))
    prompt = min(1800, context // 4)
    response = min(500, (context - FRAME - prompt) // RESPONSES - 14)
    dtype = "bfloat16" if answers.gpus else "float32"
    length = min(2048, context)
    count = POCKET_PROMPTS if answers.in_pocket else PROMPTS
    return {
        "title": f"{answers.teacher} teaches {answers.student}",
        "family": {"name": name, "teacher": answers.teacher, "student": answers.student, "dtype": dtype},
        "prompts": {"n": count, **answers.source, "max_prompt_tokens": prompt},
        "sampling": {"n": RESPONSES, "temperature": 0.8, "max_new_tokens": min(512, context // 4)},
        "reward": {"max_response_tokens": max(response, 16)},
        "train": {
            "epochs": 1, "batch_size": 32, "micro_batch": 1, "learning_rate": 1.0e-6, "max_length": length,
            "dtype": dtype,
        },
        "methods": [*ROWS],
    }  # fmt: skip


def _context(model: str) -> int:
    try:
        return context_length(resolve_or_placeholder(model)) or USUAL_CONTEXT
    except UserError:  # not here: the plan says so
        return USUAL_CONTEXT


HEAD: Final = f"""\
# yaml-language-server: $schema={FILE}
# Written by `distilbench init`. What it will do and cost: `distilbench plan table1 --recipe NAME`.
# All options: docs/recipe.md. Each value of this recipe: `distilbench recipe show NAME --explain`.
"""


def recipe_text(file: str, tree: Mapping[str, Any], registry: Registry) -> str:
    """YAML with a comment above each option, of the option's own sentence."""
    sentences = {name: properties(kind) for name, kind in _KINDS.items()}
    lines = [HEAD.replace("NAME", file).rstrip()]
    for key, value in tree.items():
        if not isinstance(value, Mapping):
            lines += ["", *_entry(key, value, _HEADINGS.get(key, ""), "")]
            continue
        lines += ["", *_comment(_HEADINGS[key], ""), f"{key}:"]
        for name, inner in value.items():
            text = str(sentences.get(key, {}).get(name, {}).get("description", ""))
            if "source" in value and not text:  # an option of the source itself
                text = str(properties(registry.sources[value["source"]].config).get(name, {}).get("description", ""))
            lines += _entry(name, inner, text, "  ")
    return "\n".join(lines) + "\n"


_KINDS: Final[Mapping[str, type]] = {
    "family": sections.Family,
    "prompts": sections.Prompts,
    "sampling": sections.SamplingOptions,
    "reward": sections.RewardOptions,
    "train": TrainOptions,
    "compute": sections.Compute,
    "ask": AskOptions,
}
_HEADINGS: Final[Mapping[str, str]] = {
    "extends": "What is not said here is as in this recipe.",
    "name": "Results go to the folder of this name under runs/.",
    "family": "The models.",
    "prompts": "The training prompts.",
    "sampling": "How models answer them.",
    "reward": "How the teacher rewards the answers.",
    "train": "How students are trained. A row overrides any of it: `dpo: {beta: 0.1, train: {learning_rate: 5.0e-7}}`.",
    "methods": "The rows: `distilbench list methods`. With options they are a mapping: `dpo: {beta: 0.1}`.",
    "benchmarks": "The columns: `distilbench list benchmarks`. To try a few questions first: `limit: 20`.",
    "judges": "Who judges. Keys are read from environment variables; none belongs here.",
    "seeds": "Training seeds. More of them give intervals over seeds too: [0, 1, 2].",
    "compute": "What to compute on. Changes no result.",
    "ask": "How the judge is asked. Changes no result.",
}


def _entry(key: str, value: object, comment: str, indent: str) -> list[str]:
    dumped = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6)
    text = dumped.rstrip().removesuffix("...").rstrip()  # the end of a document that is one value
    return [*_comment(comment, indent), f"{indent}{key}: {text}"]


def _comment(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text, 100, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ", break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


Ask = Callable[[InitQuestion, str, str], str]
"""(question, default, what was wrong with the answer before) -> answer."""


def start(path: Path, questions: str | None, plugins: Sequence[str] = (), *, force: bool = False) -> Answers:
    """No answers yet. Raises UserError where the recipe may not be written: told before anything is asked."""
    folder_name(path)
    refuse_overwriting(path, force)
    if questions not in (None, POCKET, OFFICIAL):
        raise unknown_choice("set of questions", questions, (POCKET, OFFICIAL))
    return Answers(load_registry(plugins), questions=questions or "")


def answer_all(given: Mapping[str, str], answers: Answers, ask: Ask | None = None) -> list[str]:
    """Read every answer that was given; of the others ask until it is right, or take the default. Returns notes.
    Raises UserError for a given answer that is wrong."""
    notes = []
    for question in QUESTIONS:
        text = given.get(question.name)
        if not question.applies(answers):
            if text is not None:
                notes.append(f"--{question.name}: not needed: {', '.join(answers.benchmarks)} is graded by rule.")
        elif text is not None or ask is None:
            question.read(question.default(answers) if text is None else text, answers)
        else:
            _ask_until_right(question, answers, ask)
    return [*notes, *answers.notes]


def _ask_until_right(question: InitQuestion, answers: Answers, ask: Ask) -> None:
    problem = ""
    while True:
        try:
            question.read(ask(question, question.default(answers), problem), answers)
            return
        except UserError as error:
            problem = str(error)


def write_recipe(path: Path, answers: Answers, force: bool = False) -> list[Path]:
    """The recipe, and the schema beside it where there is none yet. Raises UserError where the recipe is there."""
    tree = recipe_tree(folder_name(path), answers)
    _, problems = check_tree(read_tree(tree), answers.registry)
    if problems:
        raise RecipeError(problems, str(path))
    refuse_overwriting(path, force)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(recipe_text(str(path), tree, answers.registry), encoding="utf-8")
    schema = path.with_name(FILE)
    if schema.exists():
        return [path]
    schema.write_text(schema_text(recipe_schema(answers.registry)), encoding="utf-8")
    return [path, schema]


def read_tree(tree: Mapping[str, Any]) -> dict[str, Any]:
    """With what it extends."""
    base = read_source(tree["extends"]).tree if "extends" in tree else {}
    return expand_name_lists(merge(base, {key: value for key, value in tree.items() if key != "extends"}), [])


def refuse_overwriting(path: Path, force: bool) -> None:
    if path.exists() and not force:
        raise UserError(f"{path} is there already: choose another name, or overwrite it with --force.")


def folder_name(path: Path) -> str:
    """The run's name, of the file's. Raises UserError where none can be made of it."""
    if path.suffix not in (".yaml", ".yml"):
        raise UserError(f"{path}: a recipe is a .yaml file.")
    name = re.sub(r"[^A-Za-z0-9._+-]+", "-", path.stem).strip("-._+")[:100]
    if not name or name.lower() == "store" or not sections.FOLDER_NAME.fullmatch(name):
        raise UserError(f"{path}: no run can be called so; choose another file name.")
    return name
