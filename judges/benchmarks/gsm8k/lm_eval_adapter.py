"""lm-eval's GSM8K task on our questions and models, offline. Imported inside functions only (lm-eval is heavy)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.resources import files
from typing import Any, Literal

import yaml
from datasets import Dataset
from lm_eval.api.task import ConfigurableTask

from harness.contracts.model import GeneratesText, Sampling
from harness.types import Answer, Question
from judges.benchmarks.gsm8k.stops import STOPS, cut_at_stop
from judges.benchmarks.lm_eval_model import ChatLM, quiet

PromptForm = Literal["turns", "one-turn", "plain"]
FEWSHOT_SEED = 1234  # lm-eval's own default for drawing the shots


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


def answer_with_lm_eval(
    model: GeneratesText, questions: Sequence[Question], examples: Sequence[Mapping[str, str]], turn: str,
    shots: int, form: PromptForm, sampling: Sampling, seed: int,
) -> list[Answer]:  # fmt: skip
    """Let lm-eval ask and filter. ``meta`` holds what each filter extracted and the task's version."""
    from lm_eval.evaluator import evaluate

    is_chat, config = form != "plain", task_config(questions, examples, turn, shots, sampling)
    driver = ChatLM(model, sampling, seed, is_chat)
    with quiet():
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
