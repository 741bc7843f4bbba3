"""Chat text to token ids, one way for sampling, training, rewarding and answering.

Two traps this file exists for. Chat templates write the BOS token themselves, so encoding must not add a second one.
And the ids of a response are the suffix of the *joint* tokenisation of prompt and response, which only makes sense
if the prompt's ids are a prefix of it: a tokenizer that merges across the border is refused, not papered over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from harness.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Messages = Sequence[Mapping[str, str]]


class Encoded(NamedTuple):
    """Token ids of a prompt (up to and with the generation prompt) and of a response (end-of-turn included)."""

    prompt: list[int]
    response: list[int]


def plain(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """``text`` with the tokenizer's special tokens broken by a space, so that they stay text.

    An answer that contains ``<|end|>`` must not end the turn of the judge or the teacher who reads it.
    """
    for token in tokenizer.all_special_tokens:
        if len(token) > 1 and token in text:
            text = text.replace(token, token[0] + " " + token[1:])
    return text


def prompt_text(tokenizer: PreTrainedTokenizerBase, messages: Messages) -> str:
    """The conversation as the chat template writes it, ending where the assistant is to speak.

    A template that refuses a system turn (Gemma-2) gets it merged into the first user turn.
    """
    turns = [{**message, "content": plain(tokenizer, message["content"])} for message in messages]
    if not tokenizer.chat_template:
        raise UserError(
            f"the tokenizer of {tokenizer.name_or_path!r} has no chat template; distilbench trains and judges chat "
            "models: use an instruction-tuned checkpoint, or save a chat template with the tokenizer."
        )
    try:
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
    except Exception as error:  # jinja2.TemplateError, raised by templates without a system role
        if turns and turns[0]["role"] == "system" and len(turns) > 1:
            merged = {"role": "user", "content": turns[0]["content"] + "\n\n" + turns[1]["content"]}
            return prompt_text(tokenizer, [merged, *turns[2:]])
        raise UserError(f"the chat template of {tokenizer.name_or_path!r} refused the conversation: {error}") from error


@lru_cache(maxsize=64)
def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> str:
    """What the template writes right after an assistant turn, up to and with its end-of-turn token.

    Templates often add a newline after that token; it belongs to the next turn and is never generated.
    """
    probe = "qzx"
    before = prompt_text(tokenizer, [{"role": "user", "content": "q"}])
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": probe}]
    whole = str(tokenizer.apply_chat_template(turns, tokenize=False))
    if not whole.startswith(before + probe):
        whole = before + whole[whole.rindex(probe) :]
    tail = whole[len(before + probe) :]
    specials = [token for token in tokenizer.all_special_tokens if token in tail]
    if not specials:
        return str(tokenizer.eos_token)
    first = min(specials, key=tail.index)
    return tail[: tail.index(first) + len(first)]


def encode_prompt(tokenizer: PreTrainedTokenizerBase, messages: Messages) -> list[int]:
    """Ids of the prompt, with exactly the special tokens that the template writes."""
    return list(tokenizer(prompt_text(tokenizer, messages), add_special_tokens=False)["input_ids"])


def encode(tokenizer: PreTrainedTokenizerBase, messages: Messages, response: str, finished: bool = True) -> Encoded:
    """Ids of prompt and response. ``finished=False`` leaves the end-of-turn token out (a response cut by the limit).

    Raises:
        UserError: the prompt's ids are not a prefix of the joint ids (the tokenizer merges across the border).
    """
    before = prompt_text(tokenizer, messages)
    prompt = list(tokenizer(before, add_special_tokens=False)["input_ids"])
    joint_text = before + plain(tokenizer, response) + (end_of_turn(tokenizer) if finished else "")
    joint = list(tokenizer(joint_text, add_special_tokens=False)["input_ids"])
    if joint[: len(prompt)] != prompt:
        raise UserError(
            f"the tokenizer of {tokenizer.name_or_path!r} merges text across the border between prompt and response "
            f"(prompt ends in ids {prompt[-3:]}, joint text has {joint[len(prompt) - 3 : len(prompt)]} there)."
        )
    return Encoded(prompt, joint[len(prompt) :])
