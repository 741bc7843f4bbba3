"""Chat text to token ids, one way for sampling, training, rewarding and answering; and whether two models share them.

Traps: chat templates write the BOS token themselves, so encoding must not add a second one; the ids of a response are
the suffix of the *joint* tokenisation, except where text would merge across the border (an answer that begins with a
line break after a template that ends in one); templates that write today's date (Llama-3.2) depend on the day.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import date
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.contracts.options import show
from harness.errors import UserError
from harness.text import format_count
from harness.thinking import is_mark
from harness.types import Messages, is_plain

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedTokenizerBase

TODAY = date(2024, 7, 26)  # the day that Llama-3's own template falls back to
CODES = ("%-d", "%-m", *(f"%{code}" for code in "aAbBcdDeFHIjmMpSTuUVwWxXyY"))
CLOCK = (
    "{%- macro strftime_now(form) -%}{{ form"
    + "".join(f" | replace('{code}', '{TODAY.strftime(code)}')" for code in CODES)
    + " }}{%- endmacro %}\n"  # a template's own first white space stays
)  # stands before a template that asks: takes the place of the clock that transformers gives it


PROBE = "qzx"  # no template changes it, so it can be found again in what one writes
ANSWERS = ("Hi.", 'x <b> & "y" {z} [1]\n\n- *w*')  # what templates might change: ends, marks, line breaks
SPACES = "".join(filter(str.isspace, map(chr, range(0x3001))))  # Jinja's trim takes Unicode's too


log = logging.getLogger(__name__)


class TemplateRefusal(UserError):
    """A chat template that does not take a conversation."""


class EncodedTurn(NamedTuple):
    """Token ids of a prompt (up to and with the generation prompt) and of a response (end-of-turn included)."""

    prompt: list[int]
    response: list[int]


@lru_cache(maxsize=64)
def special_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """Every token that is not text: named ones, and added ones marked special (Llama-3's headers), longest first."""
    added_tokens = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    return tuple(sorted(added_tokens | set(tokenizer.all_special_tokens), key=lambda token: (-len(token), token)))


@lru_cache(maxsize=64)
def vocabulary_size(tokenizer: PreTrainedTokenizerBase) -> int:
    """One more than the highest id. ``len(tokenizer)`` counts tokens, and a vocabulary may have unused ids."""
    return 1 + max(tokenizer.get_vocab().values())


@lru_cache(maxsize=64)
def unused_ids(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Ids below ``vocabulary_size`` that stand for no token."""
    return tuple(sorted(set(range(vocabulary_size(tokenizer))) - set(tokenizer.get_vocab().values())))


def highest_text_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The highest id that text can become: a special token counts where the template writes it or it has a role."""
    turns = [{"role": role, "content": "q"} for role in ("user", "assistant", "user")]
    template_text = f"{tokenizer.chat_template}{prompt_text(tokenizer, turns)}" if tokenizer.chat_template else ""
    roles = {tokenizer.bos_token, tokenizer.eos_token, tokenizer.unk_token, tokenizer.pad_token}
    unwritten_tokens = {token for token in special_tokens(tokenizer) if token not in template_text} - roles
    return max(number for token, number in tokenizer.get_vocab().items() if token not in unwritten_tokens)


def defuse(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """``text`` with special tokens broken by a space: an ``<|end|>`` in an answer must not end the reader's turn."""
    for token in special_tokens(tokenizer):
        if len(token) > 1 and token in text:
            text = text.replace(token, token[0] + " " + token[1:])
    return text


def render(tokenizer: PreTrainedTokenizerBase, turns: Sequence[Mapping[str, str]], prompt: bool) -> str:
    """What the chat template makes of these turns on the day ``TODAY``."""
    template = tokenizer.get_chat_template()
    if "strftime_now" in template:
        # A Jinja macro shadows the function of the same name that transformers hands to the template.
        template = CLOCK + template
    apply: Any = tokenizer.apply_chat_template
    return str(apply(turns, chat_template=template, tokenize=False, add_generation_prompt=prompt))


def prompt_text(tokenizer: PreTrainedTokenizerBase, messages: Messages) -> str:
    """The conversation as the chat template writes it, ending where the assistant is to speak."""
    turns = [{**message, "content": defuse(tokenizer, message["content"])} for message in messages]
    if is_plain(messages):
        return turns[0]["content"]
    if not tokenizer.chat_template:
        raise UserError(
            f"the tokenizer of {tokenizer.name_or_path!r} has no chat template; distilbench trains and judges chat "
            "models: use an instruction-tuned checkpoint, or save a chat template with the tokenizer."
        )
    system = bool(turns) and turns[0]["role"] == "system" and len(turns) > 1
    try:
        if not (system and drops_system(tokenizer)):
            return render(tokenizer, turns, prompt=True) + opening(tokenizer).prompt
    except UserError:
        raise
    except Exception as error:  # jinja2.TemplateError, raised by templates without a system role
        if not system:
            end = show(turns[-1]["content"] if turns else "")
            raise TemplateRefusal(
                f"the chat template of {tokenizer.name_or_path!r} refused the conversation that ends in {end}: {error}"
            ) from error
    # Gemma-2's template refuses a system turn, Phi-3's first one leaves it out: it goes into the first user turn.
    user_turn = {"role": "user", "content": turns[0]["content"] + "\n\n" + turns[1]["content"]}
    return prompt_text(tokenizer, [user_turn, *turns[2:]])


class Opening(NamedTuple):
    """What a template writes between a user's turn and an answer's words, beyond the generation prompt."""

    prompt: str  # ends the prompt, where the template has no generation prompt
    lead: str  # white space that begins the answer
    omission: str = ""  # what answers are drawn and trained without
    surplus: str = ""  # the end of the generation prompt that no turn of an answer has: thinking that is opened


@lru_cache(maxsize=64)
def opening(tokenizer: PreTrainedTokenizerBase) -> Opening:
    turns = [{"role": "user", "content": PROBE * 2}, {"role": "assistant", "content": PROBE}]
    try:
        prefix, rendering = render(tokenizer, turns[:1], prompt=True), render(tokenizer, turns, prompt=False)
    except Exception as error:
        name = tokenizer.name_or_path
        raise UserError(f"the chat template of {name!r} takes no question with its answer: {error}") from error
    if PROBE * 2 not in prefix or PROBE not in rendering[rendering.rfind(PROBE * 2) + 2 * len(PROBE) :]:
        raise UserError(
            f"the chat template of {tokenizer.name_or_path!r} does not write the words of a question and its answer as "
            f"they are ({rendering!r} for {PROBE * 2!r} and {PROBE!r}): it wants content of another form"
        )
    if not rendering.startswith(prefix):
        pairs = enumerate(zip(prefix, rendering, strict=False))
        surplus = prefix[next((place for place, (left, right) in pairs if left != right), len(rendering)) :]
        log.warning("%s: the generation prompt ends in %r, which the chat template writes before no answer: answers "
                    "are drawn and trained after it", tokenizer.name_or_path, surplus)  # fmt: skip
        return Opening("", "", surplus=surplus)
    lead_text = rendering[len(prefix) : rendering.rindex(PROBE)]
    if not lead_text.strip():
        return Opening("", lead_text)
    if render(tokenizer, turns[:1], prompt=False) == prefix:
        prompt = lead_text.rstrip(" ")
        return Opening(prompt, lead_text[len(prompt) :])
    log.warning("%s: before an answer the chat template writes %r, which its generation prompt lacks: answers are "
                "drawn and trained without it", tokenizer.name_or_path, lead_text)  # fmt: skip
    return Opening("", "", lead_text)


@lru_cache(maxsize=64)
def drops_system(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the template leaves system turns out without a word. Raises what a template raises that refuses them."""
    turns = [{"role": "system", "content": PROBE}, {"role": "user", "content": "q"}]
    is_dropped = PROBE not in render(tokenizer, turns, prompt=True)
    if is_dropped:
        name = tokenizer.name_or_path
        log.warning("%s: the chat template leaves system turns out; their text goes into the first user turn", name)
    return is_dropped


def merges_system(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the text of a system turn goes into the first user turn: the template refuses it, or leaves it out."""
    try:
        return drops_system(tokenizer)
    except Exception:  # noqa: BLE001 - a template without a system role, as in ``prompt_text``
        return True


def template_notes(
    tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Messages], answers: Sequence[str] = ()
) -> list[str]:
    """What a reader must know of what the template does to these prompts, and to the answers after them."""
    notes, start = [], opening(tokenizer)
    merged_count = sum(talk[0]["role"] == "system" for talk in conversations) if merges_system(tokenizer) else 0
    if merged_count:
        notes.append(
            f"the chat template has no system turn: that of {format_count(merged_count, 'prompt')} was put into the "
            "first user turn"
        )
    contents = [[turn["content"] for turn in talk] for talk in conversations]
    marked_count = sum(defuse(tokenizer, text) != text for text in [*chain(*contents), *answers])
    if marked_count:
        notes.append(f"a special token stands as text in {format_count(marked_count, 'text')}: a space is put into it")
    prompts = [prompt_text(tokenizer, talk) for talk in conversations]
    lost = [text for texts, prompt in zip(contents, prompts, strict=True) for text in texts
            if defuse(tokenizer, text).strip() not in prompt]  # fmt: skip
    if lost:
        notes.append(f"the chat template leaves out or changes {format_count(len(lost), 'turn')}: {show(lost[0])}")
    if "strftime_now" in tokenizer.get_chat_template():
        notes.append(f"the chat template writes the day: always {TODAY:%d %B %Y} here")
    if start.prompt:
        notes.append(f"the chat template has no generation prompt: {start.prompt!r} ends each prompt")
    if start.lead:
        notes.append(f"an answer begins with {start.lead!r}, as the chat template writes it")
    asked, end = {"role": "user", "content": "q"}, end_of_turn(tokenizer)
    wholes = [render(tokenizer, [asked, {"role": "assistant", "content": text}], prompt=False) for text in ANSWERS]
    if changed := [whole for text, whole in zip(ANSWERS, wholes, strict=True) if text not in whole]:
        notes.append(f"the chat template changes the words of answers, which are trained as they are: {changed[0]!r}")
    elif end not in (tail := wholes[0].rpartition(ANSWERS[0])[2]):
        notes.append(
            f"after an answer the chat template writes {tail!r}, no token that ends it: answers end in {end!r}"
        )
    if start.omission:
        notes.append(
            f"before an answer the chat template writes {start.omission!r}, which its generation prompt lacks: answers "
            "are drawn and trained without it"
        )
    if start.surplus:
        notes.append(
            f"the generation prompt ends in {start.surplus!r}, which the chat template writes before no answer: "
            "answers are drawn and trained after it (golden answers too, which hold no thinking)"
        )
    return notes


def answer_text(tokenizer: PreTrainedTokenizerBase, response: str, finished: bool) -> str:
    """What follows the prompt: the words as the template writes them, and the end of the turn where ``finished``."""
    text, lead = defuse(tokenizer, response), opening(tokenizer).lead
    # The first bytes of a character that the limit cut are no text: nobody wrote the three of U+FFFD.
    if not finished:
        text = text.rstrip("\ufffd") or text
    else:
        left, right = trimmed_space(tokenizer)
        text = text.lstrip(left).rstrip(right)
    # Some tokenizers give the spaces around an answer back when its tokens become text, others do not.
    if (text or finished) and not text.startswith(lead):
        text = lead + text
    return text + (end_after(tokenizer, text) if finished else "")


@lru_cache(maxsize=64)
def trimmed_space(tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    """White space that the template takes away before and after an answer (Gemma's and Llama-3's: all)."""

    def rendering(content: str) -> str:
        turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": content}]
        return render(tokenizer, turns, prompt=False)

    plain = rendering(PROBE)
    left = "".join(space for space in SPACES if rendering(space + PROBE) == plain)
    right = "".join(space for space in SPACES if rendering(PROBE + space) == plain)
    return left, right


def end_after(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """The end of a turn, without its white space where ``text`` ends in it."""
    end = end_of_turn(tokenizer)
    gap = end[: len(end) - len(end.lstrip())]
    return end[len(gap) :] if text.endswith(gap) else end


@lru_cache(maxsize=64)
def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> str:
    """What the template writes right after an assistant turn, up to and with its end-of-turn token."""
    probe = PROBE
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": probe}]
    prefix, rendering = prompt_text(tokenizer, turns[:1]), render(tokenizer, turns, prompt=False)
    prefix += opening(tokenizer).lead
    if not rendering.startswith(prefix + probe):
        # The generation prompt may hold more than an assistant turn has (an opened thinking block).
        rendering = prefix + rendering[rendering.rindex(probe) :]
    tail = rendering[len(prefix + probe) :]
    specials = [token for token in special_tokens(tokenizer) if token in tail]
    if not specials and tokenizer.eos_token is None:
        raise UserError(
            f"the tokenizer of {tokenizer.name_or_path!r} has no eos_token, and its chat template ends a turn with "
            f"plain text ({tail!r}): no token ends an answer. Set eos_token, or make that text a special token."
        )
    if not specials:
        return str(tokenizer.eos_token)
    # A newline after that token belongs to the next turn and is never generated.
    first_special = min(specials, key=tail.index)
    return tail[: tail.index(first_special) + len(first_special)]


def stop_ids(tokenizer: PreTrainedTokenizerBase, generation_config: GenerationConfig) -> list[int]:
    """Ids that end a response: the template's end-of-turn token and the end-of-text ids of tokenizer and checkpoint."""
    stops = {tokenizer(end_of_turn(tokenizer), add_special_tokens=False)["input_ids"][-1], tokenizer.eos_token_id}
    config_ids = getattr(generation_config, "eos_token_id", None)
    stops.update(config_ids if isinstance(config_ids, list) else [config_ids])
    return sorted(token for token in stops if token is not None)


def pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """An id for padding. Padding is masked everywhere, so any token will do where the tokenizer names none."""
    return next(int(token) for token in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0) if token is not None)


@lru_cache(maxsize=64)
def skipped_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Special tokens but for marks of thinking, where such marks are special (Magistral, gpt-oss): dropping those would
    make one text of thinking and answer. Empty where none is: then all special tokens are dropped."""
    tokens = special_tokens(tokenizer)
    marks = {token for token in tokens if is_mark(token)}
    ids: Any = tokenizer.convert_tokens_to_ids([token for token in tokens if token not in marks]) if marks else ()
    return frozenset(ids)


def decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The words of a response."""
    skipped = skipped_ids(tokenizer)
    words = [token for token in ids if token not in skipped]
    return str(tokenizer.decode(words, skip_special_tokens=not skipped))


def drawn_tokens(tokenizer: PreTrainedTokenizerBase, text: str, finished: bool, ids: Sequence[int]) -> list[int] | None:
    """``ids`` where this tokenizer reads ``text`` in them, else ``None``: text back to tokens may give others, for an
    answer that was cut inside a character for one. An end that is none here (another model's) is the template's."""
    words = list(ids[:-1] if finished else ids)
    if not ids or max(ids) >= vocabulary_size(tokenizer) or decode(tokenizer, words) != text:
        return None
    template_end = ids_of(tokenizer, end_after(tokenizer, text)) if finished else []
    is_end = finished and ids[-1] in (template_end[-1], tokenizer.eos_token_id)
    return list(ids) if is_end else words + template_end


def ids_of(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def encode_prompt(tokenizer: PreTrainedTokenizerBase, messages: Messages) -> list[int]:
    """Ids of the prompt, with exactly the special tokens that the template writes; of plain text, the tokenizer."""
    text = prompt_text(tokenizer, messages)
    return list(tokenizer(text, add_special_tokens=is_plain(messages))["input_ids"])


def encode(
    tokenizer: PreTrainedTokenizerBase,
    messages: Messages,
    response: str,
    finished: bool = True,
    ids: Sequence[int] = (),
    prompt_ids: Sequence[int] | None = None,
) -> EncodedTurn:
    """Ids of prompt and response. ``finished=False`` leaves the end-of-turn token out (a response cut by the limit).
    ``ids``: as the response was drawn; ``prompt_ids``: what ``encode_prompt`` gives, where it was asked before."""
    if drawn := drawn_tokens(tokenizer, response, finished, ids):
        return EncodedTurn(list(prompt_ids or encode_prompt(tokenizer, messages)), drawn)
    prompt_string = prompt_text(tokenizer, messages)
    response_text = answer_text(tokenizer, response, finished)
    prompt, joint = tokenizer([prompt_string, prompt_string + response_text], add_special_tokens=False)["input_ids"]
    return EncodedTurn(list(prompt), continuation(tokenizer, prompt, joint, response_text))


def continuation(
    tokenizer: PreTrainedTokenizerBase, prompt: Sequence[int], joint: Sequence[int], text: str
) -> list[int]:
    """Ids of ``text`` after a prompt, given the ids of both together; its own where the two would merge."""
    if list(joint[: len(prompt)]) == list(prompt):
        return list(joint[len(prompt) :])
    return ids_of(tokenizer, text)


def vocabulary_difference(student: Mapping[str, int], teacher: Mapping[str, int]) -> str | None:
    """What differs between two maps from token to id, for a person; ``None`` where they are equal."""
    if student == teacher:
        return None
    difference = sorted(student.keys() ^ teacher.keys())
    other_ids = sorted(token for token in student.keys() & teacher.keys() if student[token] != teacher[token])
    examples = ", ".join(repr(token) for token in (difference or other_ids)[:3])
    kind = f"{len(difference)} tokens exist in one only" if difference else f"{len(other_ids)} tokens have other ids"
    return f"teacher's {len(teacher)} and student's {len(student)} tokens differ: {kind}, {examples}"


def tokenizer_difference(student: PreTrainedTokenizerBase, teacher: PreTrainedTokenizerBase) -> str | None:
    """Like ``vocabulary_difference``; the end of a turn and the special ids must agree too."""
    if difference := vocabulary_difference(student.get_vocab(), teacher.get_vocab()):
        return difference
    if end_of_turn(student) != end_of_turn(teacher):
        return f"chat templates end a turn differently ({end_of_turn(teacher)!r} and {end_of_turn(student)!r})"
    for name in ("bos_token_id", "eos_token_id"):
        if getattr(student, name) != getattr(teacher, name):
            return f"teacher and student differ in {name} ({getattr(teacher, name)} and {getattr(student, name)})"
    return None
