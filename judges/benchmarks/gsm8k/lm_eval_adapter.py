"""lm-eval drives our models: a subclass of its ``LM`` over any ``GeneratesText``, and the GSM8K task it runs, offline.

Imported inside functions only (lm-eval is heavy). ``apply_chat_template`` returns the history as JSON, for
``generate_until`` to ask the model with its own template: training and evaluation share one way to tokens. Without a
chat template, lm-eval's text is what the model continues.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from importlib.resources import files
from typing import Any, Literal

import lm_eval.api.task
import yaml
from datasets import Dataset
from lm_eval.api.model import LM
from lm_eval.api.task import ConfigurableTask

from harness.contracts.model import GeneratesText, Sampling
from harness.types import PLAIN, Answer, Question, Response
from judges.benchmarks.gsm8k.stops import STOPS, cut_at_stop

PromptForm = Literal["turns", "one-turn", "plain"]
FEWSHOT_SEED = 1234  # lm-eval's own default for drawing the shots
_GENERATES = "distilbench runs generation tasks through lm-eval; log-likelihood tasks need lm-eval's own models"


class ChatLM(LM):  # type: ignore[misc]  # lm-eval ships no types
    """lm-eval's model interface over a ``GeneratesText``; keeps every response, in the order asked."""

    tokenizer_name = "distilbench-chat"

    def __init__(self, model: GeneratesText, sampling: Sampling, seed: int, is_chat: bool) -> None:
        super().__init__()
        self.model, self.sampling, self.seed, self.is_chat = model, sampling, seed, is_chat
        self.responses: list[Response] = []

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        return json.dumps(chat_history, ensure_ascii=True)

    def chat_template(self, chat_template: bool | str = False) -> str:
        return "distilbench: the model's own chat template"

    def generate_until(self, requests: list[Any]) -> list[str]:
        """One call of the model for all requests; texts end before the first stop string."""
        texts = [request.args[0] for request in requests]
        talks = [json.loads(text) if self.is_chat else [{"role": PLAIN, "content": text}] for text in texts]
        replies = [row[0] for row in self.model.generate(talks, self.sampling, self.seed)]
        self.responses.extend(replies)
        stops = [tuple(request.args[1].get("until", ())) for request in requests]
        return [cut_at_stop(reply.text, stop) for reply, stop in zip(replies, stops, strict=True)]

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        raise NotImplementedError(_GENERATES)

    def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
        raise NotImplementedError(_GENERATES)


def installed_task() -> dict[str, Any]:
    text = files("lm_eval").joinpath("tasks/gsm8k/gsm8k.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


def task_config(
    questions: Sequence[Question], examples: Sequence[Mapping[str, str]], turn: str, shots: int, sampling: Sampling
) -> dict[str, object]:
    """lm-eval's own ``gsm8k``, as it is installed, with our questions and examples in place of the hub's."""
    official = installed_task()
    rows = [{"question": question.turns[0], "answer": question.reference[0]} for question in questions]
    splits = {"test": Dataset.from_list(rows)} | ({"train": Dataset.from_list(list(examples))} if examples else {})
    return {
        "task": "gsm8k", "custom_dataset": lambda **_: splits, "output_type": "generate_until", "test_split": "test",
        "training_split": "train" if examples else None, "fewshot_split": "train" if examples else None,
        # Functions rather than Jinja templates: lm-eval would compile a template anew for every question.
        "doc_to_text": lambda row: turn.replace("{question}", row["question"]),
        "doc_to_target": lambda row: row["answer"],
        "generation_kwargs": {
            "until": list(STOPS), "do_sample": sampling.temperature > 0, "temperature": sampling.temperature,
            "max_gen_toks": sampling.max_new_tokens,
        },
        "num_fewshot": shots,
        **{name: official[name] for name in ("metric_list", "filter_list", "metadata")},
    }  # fmt: skip


@contextmanager
def _quiet() -> Iterator[None]:
    """lm-eval logs each step, warns about custom data and draws a bar for building prompts; none of it is news here."""
    logger = logging.getLogger("lm_eval")
    # lm-eval has no switch for its bars: the name that it calls is replaced for the length of the block.
    level, bar = logger.level, lm_eval.api.task.tqdm
    logger.setLevel(logging.ERROR)
    lm_eval.api.task.tqdm = lambda rows, **_: rows
    try:
        yield
    finally:
        logger.setLevel(level)
        lm_eval.api.task.tqdm = bar


def answer_with_lm_eval(
    model: GeneratesText, questions: Sequence[Question], examples: Sequence[Mapping[str, str]], turn: str,
    shots: int, form: PromptForm, sampling: Sampling, seed: int,
) -> list[Answer]:  # fmt: skip
    """Let lm-eval ask and filter. ``meta`` holds what each filter extracted and the task's version."""
    from lm_eval.evaluator import evaluate

    is_chat, config = form != "plain", task_config(questions, examples, turn, shots, sampling)
    driver = ChatLM(model, sampling, seed, is_chat)
    with _quiet():
        task = ConfigurableTask(config=config)
        task.set_fewshot_seed(seed=FEWSHOT_SEED)
        results = evaluate(
            driver, {"gsm8k": task}, bootstrap_iters=0, log_samples=True, apply_chat_template=is_chat,
            fewshot_as_multiturn=form == "turns" and shots > 0,
        )  # fmt: skip
    task_version = f"gsm8k {task.VERSION}, lm-eval {version('lm_eval')}"
    extractions: list[dict[str, object]] = [{} for _ in questions]
    for sample in results["samples"]["gsm8k"]:
        extractions[sample["doc_id"]][sample["filter"]] = str(sample["filtered_resps"][0])
    answers = []
    for question, response, meta in zip(questions, driver.responses, extractions, strict=True):
        text = cut_at_stop(response.text)
        # A text that lm-eval cut at a stop string ended there, however long the model went on.
        finished = response.finished or text != response.text
        thinking = (response.thinking,) if response.thinking else ()
        meta["task"] = task_version
        answers.append(Answer(question.id, (text,), (finished,), (response.tokens,), meta, thinking))
    return answers
