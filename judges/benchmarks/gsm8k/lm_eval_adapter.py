"""lm-eval drives our models: a subclass of its ``LM`` over any ``GeneratesText``, and the GSM8K task it runs, offline.

Imported inside functions only (lm-eval is heavy). lm-eval hands the chat history to ``apply_chat_template``; the reply
here is the history itself as JSON, and ``generate_until`` decodes it and asks the model with its own chat template, so
that training, sampling and evaluation share one way from messages to tokens.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from importlib.resources import files
from typing import Any

import lm_eval.api.task
import yaml
from datasets import Dataset
from lm_eval.api.model import LM
from lm_eval.api.task import ConfigurableTask

from harness.contracts.model import GeneratesText, Sampling
from harness.types import Response

FEWSHOT_SEED = 1234
"""lm-eval's own default for drawing the shots."""
_GENERATES = "distilbench runs generation tasks through lm-eval; log-likelihood tasks need lm-eval's own models"
STOPS = ("Question:", "</s>", "<|im_end|>")


def cut(text: str, stops: Sequence[str]) -> str:
    """``text`` up to the first of the stop strings."""
    places = [at for stop in stops if stop and (at := text.find(stop)) >= 0]
    return text[: min(places)] if places else text


class ChatLM(LM):  # type: ignore[misc]  # lm-eval ships no types
    """lm-eval's model interface over a ``GeneratesText``; keeps every response, in the order asked."""

    tokenizer_name = "distilbench-chat"

    def __init__(self, model: GeneratesText, sampling: Sampling, seed: int) -> None:
        super().__init__()
        self.model = model
        self.sampling = sampling
        self.seed = seed
        self.responses: list[Response] = []

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The history as JSON text, to be decoded by ``generate_until``."""
        return json.dumps(chat_history, ensure_ascii=True)

    def chat_template(self, chat_template: bool | str = False) -> str:
        """What lm-eval records as the template: the model applies its own."""
        return "distilbench: the model's own chat template"

    def generate_until(self, requests: list[Any]) -> list[str]:
        """One call of the model for all requests; texts end before the first stop string."""
        talks = [json.loads(request.args[0]) for request in requests]
        replies = [each[0] for each in self.model.generate(talks, self.sampling, self.seed)]
        self.responses.extend(replies)
        stops = [tuple(request.args[1].get("until", ())) for request in requests]
        return [cut(reply.text, stop) for reply, stop in zip(replies, stops, strict=True)]

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        """Not offered: the tasks here generate."""
        raise NotImplementedError(_GENERATES)

    def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
        """Not offered: the tasks here generate."""
        raise NotImplementedError(_GENERATES)


def installed_task() -> dict[str, Any]:
    """The fields of ``gsm8k`` in the installed lm-eval."""
    text = files("lm_eval").joinpath("tasks/gsm8k/gsm8k.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


def task_config(
    test: Sequence[Mapping[str, str]],
    train: Sequence[Mapping[str, str]],
    ask: Callable[[Mapping[str, str]], str],
    fewshot: int,
    sampling: Sampling,
) -> dict[str, Any]:
    """lm-eval's own ``gsm8k`` with our rows (``question``, ``answer``) in place of the hub's.

    Filters, metric and version are those of the installed task. Texts come from functions rather than Jinja
    templates: lm-eval would compile a template anew for every question.
    """
    official = installed_task()
    greedy = sampling.temperature == 0
    splits = {"test": Dataset.from_list(list(test))} | ({"train": Dataset.from_list(list(train))} if train else {})
    return {
        "task": "gsm8k",
        "custom_dataset": lambda **_: splits,
        "output_type": "generate_until",
        "test_split": "test",
        "training_split": "train" if train else None,
        "fewshot_split": "train" if train else None,
        "doc_to_text": ask,
        "doc_to_target": lambda row: row["answer"],
        "metric_list": official["metric_list"],
        "generation_kwargs": {
            "until": list(STOPS),
            "do_sample": not greedy,
            "temperature": sampling.temperature,
            "max_gen_toks": sampling.max_new_tokens,
        },
        "num_fewshot": fewshot,
        "filter_list": official["filter_list"],
        "metadata": official["metadata"],
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """lm-eval logs each step, warns about custom data and draws a bar for building prompts; none of it is news here."""
    logger = logging.getLogger("lm_eval")
    # lm-eval has no switch for its bars: the name that it calls is replaced for the length of the block.
    before, bar = logger.level, lm_eval.api.task.tqdm
    logger.setLevel(logging.ERROR)
    lm_eval.api.task.tqdm = lambda rows, **_: rows
    try:
        yield
    finally:
        logger.setLevel(before)
        lm_eval.api.task.tqdm = bar


def run_gsm8k(model: GeneratesText, config: dict[str, Any], sampling: Sampling, seed: int) -> list[dict[str, Any]]:
    """Let lm-eval ask, filter and mark. One row per question: response, both extracted answers, both marks."""
    from lm_eval.evaluator import evaluate

    driver = ChatLM(model, sampling, seed)
    with _quiet():
        task = ConfigurableTask(config=config)
        task.set_fewshot_seed(seed=FEWSHOT_SEED)
        results = evaluate(
            driver, {"gsm8k": task}, bootstrap_iters=0, log_samples=True, apply_chat_template=True,
            fewshot_as_multiturn=config["num_fewshot"] > 0,
        )  # fmt: skip
    ran = f"gsm8k {config['metadata']['version']}, lm-eval {version('lm_eval')}"
    rows: list[dict[str, Any]] = [
        {"response": response, "text": cut(response.text, STOPS), "version": ran} for response in driver.responses
    ]
    for sample in results["samples"]["gsm8k"]:
        row = rows[sample["doc_id"]]
        row[sample["filter"]] = str(sample["filtered_resps"][0])
        row[f"{sample['filter']}:mark"] = float(sample["exact_match"])
    return rows
