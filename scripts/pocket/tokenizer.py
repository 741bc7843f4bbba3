"""The two tokenizers of the pocket checkpoints, and their chat template.

``shared_tokenizer``: word level (teacher, teacher-large, student); a word, a number 0..20, a punctuation mark and a
newline are one token each, spaces are implied. ``other_tokenizer``: byte-level BPE, so that ``student-other`` shares no
vocabulary with its teacher. Both are built from the world's own text; ``scripts/pocket/build.py`` writes them out.

Special tokens in a user's text: ``apply_chat_template`` tokenizes one rendered string, in which ``<|end|>`` typed by a
user *is* the special token, as with every chat template of this kind. Where a text must stay text, tokenize it
by itself with ``split_special_tokens=True``, under which no text becomes a special id.
"""

import itertools
import re
from typing import TYPE_CHECKING, Any, Final

from harness.multiple_choice import INSTRUCTION, LETTERS, QUESTION
from harness.pocket import lexicon
from harness.pocket.world import iter_prompts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

UNK, PAD, BOS, USER, ASSISTANT, END = "<|unk|>", "<|pad|>", "<|begin|>", "<|user|>", "<|assistant|>", "<|end|>"
SPECIAL: Final = (UNK, PAD, BOS, USER, ASSISTANT, END)
MAX_LENGTH: Final = 1024
CHAT_TEMPLATE: Final = (
    "{{ bos_token }}"
    "{% set ns = namespace(system='') %}"
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{% set ns.system = ns.system + message['content'] + '\\n' %}"
    "{% elif message['role'] == 'user' %}{{ '<|user|>' + ns.system + message['content'] + '<|end|>' }}"
    "{% set ns.system = '' %}"
    "{% else %}{{ '<|assistant|>' + message['content'] + '<|end|>' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
WORD_PATTERN: Final = r"[A-Za-z]+|[0-9]+|#+|\n|[^\sA-Za-z0-9#]"
_PUNCTUATION: Final = (".", ",", ":", "?", "!", ";")  # written without a space before
_MARKS: Final = (*_PUNCTUATION, "####", "#", "+", "-", "*", "=", "\n", "(", ")")


def sample_text(n: int, seed: int = 0) -> list[str]:
    """``n`` conversations of the training split as texts one after the other: what tokenizers are built from."""
    texts: list[str] = []
    for prompt in itertools.islice(iter_prompts(seed), n):
        texts += [message["content"] for message in prompt.messages]
        texts += [prompt.golden, prompt.rejected]
    return texts


def _strings(value: object) -> list[str]:
    """All strings inside a nested constant of the lexicon."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [*_strings(list(value)), *_strings(list(value.values()))]
    return [text for item in value for text in _strings(item)] if isinstance(value, list | tuple | frozenset) else []


def shared_vocabulary() -> list[str]:
    """Special tokens, marks, 0..20, the letters, then all words of the world and of the multiple-choice text."""
    constants = [value for name, value in vars(lexicon).items() if name.isupper() and not name.startswith("_")]
    texts = [
        *sample_text(3000),
        *_strings(constants),
        INSTRUCTION,
        QUESTION,
        "Request: User: Assistant: System: Answer",
    ]
    words = {word for text in texts for word in re.findall(r"[A-Za-z]+", text)}
    first = [*SPECIAL, *_MARKS, *(str(number) for number in range(lexicon.MAX_NUMBER + 1)), *LETTERS[:10]]
    return [*first, *sorted(words - set(first))]


def _wrap(tokenizer: Any) -> "PreTrainedTokenizerFast":
    from transformers import PreTrainedTokenizerFast

    tokenizer_class: Any = PreTrainedTokenizerFast
    fast_tokenizer: PreTrainedTokenizerFast = tokenizer_class(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=END, pad_token=PAD, unk_token=UNK,
        extra_special_tokens=[USER, ASSISTANT], model_max_length=MAX_LENGTH,
        clean_up_tokenization_spaces=False, padding_side="left",
    )  # fmt: skip
    fast_tokenizer.chat_template = CHAT_TEMPLATE
    return fast_tokenizer


def shared_tokenizer() -> "PreTrainedTokenizerFast":
    """The word-level tokenizer; ``decode(encode(text)) == text`` for every text of the world."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {word: number for number, word in enumerate(shared_vocabulary())}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(WORD_PATTERN), behavior="removed", invert=True)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    # WordPiece joins tokens with spaces (its prefix never occurs); the marks then take theirs back.
    steps = [decoders.WordPiece(prefix="<|glue|>", cleanup=False), decoders.Fuse()]
    steps += [decoders.Replace(f" {mark}", mark) for mark in _PUNCTUATION]
    steps += [decoders.Replace(" \n", "\n"), decoders.Replace("\n ", "\n")]
    tokenizer.decoder = decoders.Sequence(steps)
    return _wrap(tokenizer)


def other_tokenizer(size: int = 800) -> "PreTrainedTokenizerFast":
    """A byte-level BPE of ``size`` entries trained on the world's text."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL],
    )  # fmt: skip
    tokenizer.train_from_iterator(sample_text(3000), trainer)
    return _wrap(tokenizer)
