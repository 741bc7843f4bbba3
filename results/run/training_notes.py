"""What changed how rows were trained and answered, from the measurements of their stages: chat templates, vocabularies,
prompts that were left out, prompts and questions that a model had no room for. Sentences for ``--notes``, the page and
the JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from harness.text import format_count

NAMED = 5


class Measured(NamedTuple):
    kind: str
    row: str
    measurements: Mapping[str, Any]


def training_notes(stages: Sequence[Measured]) -> Iterator[str]:
    for _, _, measurements in of_kind(stages, "prompts"):
        if refused := measurements.get("refused"):
            reason = next(iter(refused.values()))
            yield f"{format_count(len(refused), 'training prompt')} left out ({short_list(list(refused))}): {reason}"
        if too_long := measurements.get("too_long"):
            yield f"{format_count(too_long, 'training prompt')} left out as longer than prompts.max_prompt_tokens"
        yield from measurements.get("templates", ())
    yield from other_templates(stages)
    too_long_rewards: dict[str, str] = {}
    for _, _, measurements in of_kind(stages, "reward"):
        too_long_rewards |= measurements.get("too_long") or {}
    if too_long_rewards:
        yield (
            f"{format_count(len(too_long_rewards), 'training prompt')} without rewards "
            f"({short_list(list(too_long_rewards))}): {next(iter(too_long_rewards.values()))}"
        )
    yield from cut_texts(stages)
    yield from dropped_prompts(stages)


def other_templates(stages: Sequence[Measured]) -> Iterator[str]:
    """What the chat templates of models do that answer here and are neither student nor teacher."""
    known = {
        note.partition(": ")[2]
        for _, _, measurements in of_kind(stages, "prompts")
        for note in measurements.get("templates", ())
    }
    for row, notes in by_row(stages, "answer", "templates").items():
        yield from (f"{row}: {note}" for note in dict.fromkeys(notes) if note not in known)


def cut_texts(stages: Sequence[Measured]) -> Iterator[str]:
    for kind, noun in (("sample", "training prompt"), ("answer", "question")):
        for row, names in by_row(stages, kind, "without_room").items():
            yield f"{row}: {format_count(len(names), noun)} left no room in the model's context ({short_list(names)})"
    for kind, server in (("answer", "server"), ("judge", "judge's server")):
        for row, count in sums_by_row(stages, kind, "cut_prompts").items():
            prompts = format_count(count, "prompt")
            yield f"{row}: the {server} seems to have cut {prompts}: serve it with a larger window"
    for kind, noun in (("sample", "response"), ("answer", "answer")):
        for row, count in sums_by_row(stages, kind, "cut_by_context").items():
            reason = "where the model's context (or its server's limit) ended"
            yield f"{row}: {format_count(count, noun)} cut before max_new_tokens, {reason}"
    for row, count in sums_by_row(stages, "answer", "empty").items():
        yield f"{row}: {format_count(count, 'empty answer')}, judged as they are"
    truncated = sum(int(measurements.get("truncated") or 0) for _, _, measurements in of_kind(stages, "reward"))
    if truncated:
        yield f"{format_count(truncated, 'response')} cut to reward.max_response_tokens in multiple-choice questions"


def dropped_prompts(stages: Sequence[Measured]) -> Iterator[str]:
    """Of each row, over its rounds and seeds; and its responses whose tokens are not those that were drawn."""
    for row, count in sums_by_row(stages, "train", "foreign_rows").items():
        other_tokens = "other tokens than were drawn (by a model of another vocabulary or end of turn)"
        yield f"{row}: {format_count(count, 'response')} trained on {other_tokens}"
    dropped: dict[str, Counter[str]] = {}
    trained: Counter[str] = Counter()
    for _, row, measurements in of_kind(stages, "train"):
        trained[row] += int(measurements.get("prompts") or 0)
        dropped.setdefault(row, Counter()).update(measurements.get("dropped") or {})
    for row, reasons in dropped.items():
        if count := sum(reasons.values()):
            reason_list = ", ".join(f"{number:,} x {reason}" for reason, number in reasons.most_common())
            yield f"{row}: not trained on {count:,} of {format_count(count + trained[row], 'prompt')}: {reason_list}"


def of_kind(stages: Sequence[Measured], kind: str) -> list[Measured]:
    return [stage for stage in stages if stage.kind == kind]


def by_row(stages: Sequence[Measured], kind: str, name: str) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for _, row, measurements in of_kind(stages, kind):
        if measurements.get(name):
            names.setdefault(row, []).extend(measurements[name])
    return names


def sums_by_row(stages: Sequence[Measured], kind: str, name: str) -> Counter[str]:
    """Rows with a count above 0."""
    counts: Counter[str] = Counter()
    for _, row, measurements in of_kind(stages, kind):
        counts[row] += int(measurements.get(name) or 0)
    return +counts


def short_list(names: Sequence[str]) -> str:
    names = list(dict.fromkeys(names))
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
