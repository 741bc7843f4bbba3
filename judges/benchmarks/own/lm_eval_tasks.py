"""Tasks of lm-eval as the kind ``lm_eval`` runs them: loaded, asked and marked by lm-eval itself.

Imported inside functions only (lm-eval is heavy).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from lm_eval.api.metrics import mean
from lm_eval.evaluator import evaluate
from lm_eval.tasks import TaskManager

from harness.contracts.model import Sampling
from harness.errors import UserError, near
from harness.text import replace_surrogates
from harness.types import Answer, Question, Response
from judges.benchmarks.lm_eval_model import ChatLM, quiet

FEWSHOT_SEED: Final = 1234  # lm-eval's own default
WRITES: Final = "generate_until"
READ: Final = frozenset({"multiple_choice", "loglikelihood"})
"""Kinds of tasks that need log-probabilities."""
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_SEPARATOR: Final = "/"


@dataclass(frozen=True)
class LoadedTask:
    """What a plan needs of a task, or of the tasks of a group: pure data."""

    questions: tuple[Question, ...]
    writes: bool
    metrics: tuple[str, ...]
    """Those that are means of one number per question, the higher the better, in the task's order."""
    filters: tuple[str, ...]
    shots: int
    version: str
    digest: str


def is_file(task: str) -> bool:
    return task.endswith((".yaml", ".yml"))


def load_task(task: str, fewshot: int | None) -> LoadedTask:
    """Raises UserError: no such task, its data set or a package is not here, or it is of a kind that is not run."""
    state = (0, 0)
    if is_file(task):
        path = Path(task).expanduser()
        if not path.is_file():
            raise UserError(f"task = {task!r} is not a file. Give the path of a task's YAML, or a name of lm-eval's.")
        state = (path.stat().st_mtime_ns, path.stat().st_size)
    return _loaded(task, fewshot, state)


@lru_cache(maxsize=8)  # ``state`` of the file: another content is another task
def _loaded(task: str, fewshot: int | None, state: tuple[int, int]) -> LoadedTask:
    tasks = open_tasks(task, fewshot)
    kinds = {loaded.OUTPUT_TYPE for loaded in tasks.values()}
    strange = kinds - {WRITES, *READ}
    if strange or len({kind == WRITES for kind in kinds}) > 1:
        names = ", ".join(sorted(kinds))
        raise UserError(
            f"task {task!r} is of the kind {names}; what can be run is {WRITES}, or {' and '.join(sorted(READ))}. Name "
            "one task of the group."
        )
    if unsafe := [name for name, loaded in tasks.items() if getattr(loaded, "UNSAFE_CODE", False)]:
        raise UserError(f"task {unsafe[0]!r} runs code that the model writes, which distilbench does not.")
    questions: list[Question] = []
    with quiet():
        for name, loaded in tasks.items():
            for number, doc in enumerate(loaded.eval_docs):
                text, target = str(loaded.doc_to_text(doc)), loaded.doc_to_target(doc)
                questions.append(
                    Question(
                        f"{name}{_SEPARATOR}{number}", (replace_surrogates(text) or "-",),
                        name if len(tasks) > 1 else "", reference=(replace_surrogates(str(target)),),
                    )
                )  # fmt: skip
    first = next(iter(tasks.values()))
    better = first.higher_is_better()  # tables mark the highest number as the best
    means = [name for name, aggregate in first.aggregation().items() if aggregate is mean and better.get(name, True)]
    filters = [ensemble.name for ensemble in getattr(first, "_filters", ())] or ["none"]
    versions = {str(loaded.VERSION) for loaded in tasks.values()}
    shots = max(int(loaded.config.num_fewshot or 0) for loaded in tasks.values())
    title = Path(task).stem if is_file(task) else task
    text = json.dumps([[name, loaded.dump_config()] for name, loaded in tasks.items()], default=str, sort_keys=True)
    content = json.dumps([[question.id, question.turns, question.reference] for question in questions])
    digest = hashlib.sha256((_ADDRESS.sub("", text) + content + version("lm_eval")).encode()).hexdigest()[:16]
    label = f"{title} {', '.join(sorted(versions))}, lm-eval {version('lm_eval')}"
    return LoadedTask(tuple(questions), WRITES in kinds, tuple(means), tuple(filters), shots, label, digest)


def open_tasks(task: str, fewshot: int | None) -> dict[str, Any]:
    """lm-eval's own objects, by name; new ones, because they keep the requests of a run. Raises UserError."""
    try:
        with quiet():
            tasks = _find(task)
            for loaded in tasks.values():
                if fewshot is not None:
                    loaded.set_config(key="num_fewshot", value=fewshot)
                loaded.set_fewshot_seed(seed=FEWSHOT_SEED)
                loaded.eval_docs  # noqa: B018, the data set is read now, not after training
    except UserError:
        raise
    except ImportError as error:
        remedy = f"pip install 'lm_eval[{task}]', where lm-eval has such an extra"
        raise UserError(f"lm-eval's task {task!r} needs a package that is not here: {error}. Try {remedy}.") from error
    except Exception as error:  # whatever lm-eval and datasets raise: no network, no such split, a mistake in the YAML
        text = " ".join(str(error).split())[:300]
        raise UserError(
            f"lm-eval's task {task!r} could not be loaded: {type(error).__name__}: {text}. Its data set is needed: "
            "fetch it where there is a network, or name a task of yours whose data are local files (task: FILE.yaml)."
        ) from error
    return tasks


def _find(task: str) -> dict[str, Any]:
    if is_file(task):
        path = str(Path(task).expanduser().absolute())
        try:
            return dict(TaskManager(include_defaults=False).load(path)["tasks"])
        except KeyError:  # it includes one of lm-eval's own
            return dict(TaskManager().load(path)["tasks"])
    manager = TaskManager()
    if task not in manager.all_tasks:
        guess = near(task, manager.all_tasks)
        hint = f" Did you mean {guess!r}?" if guess else ""
        raise UserError(
            f"lm-eval {version('lm_eval')} has no task {task!r}.{hint} `lm-eval ls tasks` lists all "
            f"{len(manager.all_tasks):,}; a task of your own is the path of its YAML file."
        )
    return dict(manager.load(task)["tasks"])


class TaskLM(ChatLM):
    """Draws as the task says, where the recipe does not."""

    def __init__(self, model: Any, seed: int, is_chat: bool, tokens: int | None, temperature: float | None) -> None:
        super().__init__(model, Sampling(tokens or 1), seed, is_chat)
        self.tokens, self.temperature = tokens, temperature
        self.by_doc: dict[tuple[str, int], Response] = {}

    def sampling_of(self, settings: Mapping[str, Any]) -> Sampling:
        tokens = self.tokens or int(settings.get("max_gen_toks") or settings.get("max_new_tokens") or 256)
        usual = float(settings.get("temperature") or 0.0) if settings.get("do_sample") else 0.0
        return Sampling(tokens, usual if self.temperature is None else self.temperature)

    def generate_until(self, requests: list[Any]) -> list[str]:
        start = len(self.responses)
        texts = super().generate_until(requests)
        for request, response in zip(requests, self.responses[start:], strict=True):
            self.by_doc[request.task_name, request.doc_id] = response
        return texts


def run_task(driver: TaskLM, task: str, fewshot: int | None, questions: Sequence[Question]) -> list[Answer]:
    """Let lm-eval ask and mark these questions. ``meta.metrics`` holds each metric of each filter."""
    tasks = open_tasks(task, fewshot)
    asked: dict[str, list[Question]] = {}
    for question in questions:
        asked.setdefault(question.id.rpartition(_SEPARATOR)[0], []).append(question)
    numbers = {name: [_number(question) for question in group] for name, group in asked.items()}
    tasks = {name: loaded for name, loaded in tasks.items() if name in asked}
    # lm-eval looks every document up in the list: not where all are asked.
    partial = {name: places for name, places in numbers.items() if len(places) < len(tasks[name].eval_docs)}
    with quiet():
        results: Any = evaluate(
            driver, {"tasks": tasks, "groups": {}, "group_map": {}}, samples=partial or None, bootstrap_iters=0,
            log_samples=True, apply_chat_template=driver.is_chat, fewshot_as_multiturn=driver.is_chat,
        )  # fmt: skip
    answers: dict[str, Answer] = {}
    for name, group in asked.items():
        by_number = {_number(question): (place, question) for place, question in enumerate(group)}
        for sample in results["samples"][name]:
            place, question = by_number[int(sample["doc_id"])]
            answer = answers.get(question.id) or _answer(
                question, sample, tasks[name], driver.by_doc.get((name, place))
            )
            metrics = {**answer.meta["metrics"], **_metrics(sample)}
            answers[question.id] = Answer(
                answer.question, answer.turns, answer.finished, answer.tokens, {**answer.meta, "metrics": metrics},
                answer.thinking,
            )  # fmt: skip
    return [answers[question.id] for question in questions]


def _number(question: Question) -> int:
    return int(question.id.rpartition(_SEPARATOR)[2])


def _metrics(sample: Mapping[str, Any]) -> dict[str, float]:
    values = {name: sample[name] for name in sample["metrics"]}
    return {
        f"{sample['filter']}{_SEPARATOR}{name}": float(value)
        for name, value in values.items()
        if isinstance(value, bool | int | float) or getattr(value, "shape", None) == ()
    }


def _answer(question: Question, sample: Mapping[str, Any], task: Any, response: Response | None) -> Answer:
    meta: dict[str, Any] = {"metrics": {}}
    if response is not None:
        text = replace_surrogates(str(sample["resps"][0][0]))
        # A text that lm-eval cut at a stop string ended there, however long the model went on.
        finished = response.finished or text != response.text
        thinking = (response.thinking,) if response.thinking else ()
        return Answer(question.id, (text,), (finished,), (response.tokens,), meta, thinking)
    logps = [float(row[0][0]) for row in sample["resps"]]
    choices = (
        [str(choice) for choice in task.doc_to_choice(sample["doc"])] if len(logps) > 1 else [sample["arguments"][0][1]]
    )
    best = max(range(len(logps)), key=logps.__getitem__)
    text = str(choices[best] if best < len(choices) else best)
    meta["logps"] = [round(logp, 6) for logp in logps]
    return Answer(question.id, (replace_surrogates(text),), (True,), (1,), meta)
