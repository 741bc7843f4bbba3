"""Tiny random checkpoints and made-up groups, for ``distilbench check-method`` and for tests of your own."""

import random
from pathlib import Path
from typing import Any

from harness.types import Group, Prompt, Response

SPECIAL = ("<pad>", "<unk>", "<|user|>", "<|assistant|>", "<|end|>")
WORDS = tuple(f"{first}{second}" for first in "bdfgklmnprst" for second in ("a", "e", "i", "o"))
TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def tiny_tokenizer(words: tuple[str, ...] = WORDS) -> Any:
    """Word-level, split at spaces; ids: ``SPECIAL`` first, then ``words``."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: number for number, token in enumerate((*SPECIAL, *words))}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL[1]))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast: Any = PreTrainedTokenizerFast  # untyped in transformers
    names = {"pad_token": SPECIAL[0], "unk_token": SPECIAL[1], "eos_token": SPECIAL[4]}
    tokenizer = fast(tokenizer_object=core, additional_special_tokens=list(SPECIAL[2:4]), **names)
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def tiny_checkpoint(
    folder: Path,
    seed: int = 0,
    hidden: int = 16,
    *,
    words: tuple[str, ...] = WORDS,
    extra_columns: int = 0,
    dropout: float = 0.0,
) -> Path:
    """A random two-layer Llama. ``extra_columns``: how much wider than the tokenizer the embedding is."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    tokenizer = tiny_tokenizer(words)
    config = LlamaConfig(
        vocab_size=len(tokenizer) + extra_columns,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        attention_dropout=dropout,
        initializer_range=0.3,  # large enough for distributions that are far from uniform
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_groups(count: int, n: int = 3, seed: int = 0, words: tuple[str, ...] = WORDS) -> list[Group]:
    """``count`` prompts of 1-4 words, each with n scored samples of 1-6 words (one in four cut short)."""
    rng = random.Random(seed)

    def text(low: int, high: int) -> str:
        return " ".join(rng.choices(words, k=rng.randint(low, high)))

    def sample() -> Response:
        answer = text(1, 6)
        finished, tokens = rng.random() > 0.25, len(answer.split()) + 1
        return Response(answer, finished, tokens, mean_logp=-rng.uniform(0.5, 2.0), log_psel=-rng.uniform(0.1, 6.0))

    groups = []
    for number in range(count):
        turn = {"role": "user", "content": text(1, 4)}
        prompt = Prompt(f"p{number}", (turn,), golden=text(2, 5), rejected=text(2, 5))
        answer = text(2, 5)
        teacher = (Response(answer, finished=True, tokens=len(answer.split()) + 1),)
        groups.append(Group(prompt, samples=tuple(sample() for _ in range(n)), teacher=teacher))
    return groups
