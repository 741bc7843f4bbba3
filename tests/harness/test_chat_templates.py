"""Train/eval token parity for the chat-template shapes of Llama-3, Gemma-2, Qwen2.5 and SmolLM2, end to end.

The templates are of our own writing, with the originals' structure: who writes the BOS token, what ends a turn, what
stands between turns, who refuses or invents a system turn, who writes the date. The tokenizer knows single bytes, runs
of line breaks (as all four have) and the special tokens, of which it names some only, as Llama's does; and it adds a
BOS token of its own whenever it is asked to add special tokens, as Llama's and Gemma's do.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from harness.contracts.method import Row
from harness.errors import UserError
from harness.models.chat import encode, encode_prompt, end_of_turn, render, template_notes, trimmed_space
from harness.models.transformers_model import TransformersModel
from harness.training.batches import tokenise
from harness.types import Group, Prompt

HEADER = "<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n{{ m['content'] | trim }}<|eot_id|>"
DATED = (
    "{% if messages[0]['role'] != 'system' %}<|start_header_id|>system<|end_header_id|>\n\n"
    "Today is {{ strftime_now('%d %b %Y') }}.<|eot_id|>{% endif %}"
)
INVENTED = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou help.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% for m in messages %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


@dataclass(frozen=True)
class Shape:
    """One family's template, its special tokens, and what every encoding must obey."""

    template: str
    special: tuple[str, ...]
    eos: str
    end: str
    """What ends a turn."""
    bos: str | None = None
    """Where the tokenizer has one; ``opens``: whether the template writes it, once, at the start."""
    opens: bool = True
    system: bool = True
    unnamed: tuple[str, ...] = ()
    """Special tokens that the tokenizer knows as added tokens alone, not by a name."""


SHAPES = {
    "llama-3": Shape(
        "{{ bos_token }}" + DATED + "{% for m in messages %}" + HEADER + "{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
        ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|end_of_text|>"),
        eos="<|end_of_text|>",
        end="<|eot_id|>",
        bos="<|begin_of_text|>",
        unnamed=("<|start_header_id|>", "<|end_header_id|>"),
    ),
    "gemma-2": Shape(
        GEMMA,
        ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
        eos="<eos>",
        end="<end_of_turn>",
        bos="<bos>",
        system=False,
    ),
    "qwen2.5": Shape(INVENTED, ("<|im_start|>", "<|im_end|>", "<|endoftext|>"), eos="<|im_end|>", end="<|im_end|>"),
    "smollm2": Shape(
        INVENTED,
        ("<|im_start|>", "<|im_end|>", "<|endoftext|>"),
        eos="<|im_end|>",
        end="<|im_end|>",
        bos="<|im_start|>",  # its BOS token is the one that opens every turn
        opens=False,
    ),
}
USER = {"role": "user", "content": "Say hi,\nplease. {x} $y"}
TALKS = {
    "one turn": [USER],
    "three turns": [USER, {"role": "assistant", "content": "Hi."}, {"role": "user", "content": "Again?"}],
    "system": [{"role": "system", "content": "Be kind."}, USER],
}
ANSWERS = (
    "Hi there.",
    " spaces around \n",
    "",
    "\n",
    "\n\n    def f(): pass",
    "naïve 你好 🙂",
    "a <|im_end|> b <end_of_turn> c <|eot_id|> d <|start_header_id|>",
)


def tokenizer_of(shape: Shape) -> Any:
    """Bytes and special tokens; a post-processor that writes BOS when special tokens are asked for."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet, line = sorted(pre_tokenizers.ByteLevel.alphabet()), "\u010a"  # how byte-level BPE writes a line break
    words = [*alphabet, 2 * line, 3 * line]
    merges = [(line, line), (2 * line, line)]
    core = Tokenizer(models.BPE({word: place for place, word in enumerate(words)}, merges))
    pieces = pre_tokenizers.Split(
        Regex(r" ?[^\s]+|\s*[\r\n]+|\s+(?!\S)|\s+"), "isolated"
    )  # as Llama-3 and Qwen cut text
    core.pre_tokenizer = pre_tokenizers.Sequence([pieces, pre_tokenizers.ByteLevel(False, use_regex=False)])
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in shape.special])
    if shape.bos and shape.opens:
        pair = [(shape.bos, core.token_to_id(shape.bos))]
        core.post_processor = processors.TemplateProcessing(single=f"{shape.bos} $A", special_tokens=pair)
    fast: Any = PreTrainedTokenizerFast
    tokenizer = fast(
        tokenizer_object=core,
        bos_token=shape.bos,
        eos_token=shape.eos,
        additional_special_tokens=[
            token for token in shape.special if token not in (shape.bos, shape.eos, *shape.unnamed)
        ],
    )
    tokenizer.chat_template = shape.template
    return tokenizer


@pytest.fixture(params=SHAPES)
def shape(request: pytest.FixtureRequest) -> Shape:
    return SHAPES[request.param]


@pytest.fixture
def tokenizer(shape: Shape) -> Any:
    return tokenizer_of(shape)


@pytest.fixture
def model(tokenizer: Any) -> TransformersModel:
    """What answers and what the teacher's rewards are computed with; its weights are never asked for here."""
    return TransformersModel(
        "tiny", SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=None)), tokenizer, 1024
    )


def trained(tokenizer: Any, talk: Any, answer: str, finished: bool) -> tuple[list[int], list[int]]:
    """Prompt and response ids as the trainer has them."""
    group = Group(Prompt("p", tuple(talk)))
    (example,) = tokenise(tokenizer, [group], [(0, [Row(answer, finished=finished)])])
    return list(example.prompt), list(example.rows[0].response)


def test_the_end_of_a_turn_is_found(shape: Shape, tokenizer: Any, model: TransformersModel) -> None:
    assert end_of_turn(tokenizer) == shape.end
    assert set(model.stops) == {tokenizer.convert_tokens_to_ids(token) for token in (shape.end, shape.eos)}


@pytest.mark.parametrize("talk", TALKS.values(), ids=TALKS)
def test_one_beginning(shape: Shape, tokenizer: Any, talk: Any) -> None:
    """One BOS where the template writes one, none where it does not, never a second one from the tokenizer."""
    ids = encode_prompt(tokenizer, talk)
    if shape.bos and shape.opens:
        bos = tokenizer.convert_tokens_to_ids(shape.bos)
        assert ids[0] == bos and ids.count(bos) == 1
        text = tokenizer.apply_chat_template(TALKS["one turn"], tokenize=False)
        assert tokenizer(text)["input_ids"].count(bos) == 2, "the trap is there: asked for special tokens, it adds one"
    else:
        opener = tokenizer.convert_tokens_to_ids("<|im_start|>")
        turns = len(talk) + 1 + (talk[0]["role"] != "system")  # an invented system turn, and the answer's
        assert ids[0] == opener and ids.count(opener) == turns


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "cut"])
@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("talk", TALKS.values(), ids=TALKS)
def test_training_ids_are_evaluation_ids(
    shape: Shape, tokenizer: Any, model: TransformersModel, talk: Any, answer: str, finished: bool
) -> None:
    """What the model is asked with, what it would generate and what it is trained on: one list of ids."""
    asked = encode_prompt(tokenizer, talk)
    prompt, response = trained(tokenizer, talk, answer, finished)
    assert prompt == asked
    assert encode(tokenizer, talk, answer, finished) == (prompt, response)
    end = tokenizer.convert_tokens_to_ids(shape.end)
    assert response.count(end) == int(finished) and (not finished or response[-1] == end)
    if not any(token in answer for token in shape.special):
        said = model._response(response)  # the generated ids, read as an answer and trained on again
        left, right = trimmed_space(tokenizer) if finished else ("", "")
        words = answer.lstrip(left).rstrip(right)
        assert (said.text, said.finished, said.tokens) == (words, finished, len(response))
        assert trained(tokenizer, talk, said.text, said.finished) == (prompt, response)


@pytest.mark.parametrize("answer", ["Hi.", "  Hi.", "Hi. \n", "\n Hi.\t"])
def test_white_space_around_a_reference_answer_is_that_of_the_template(tokenizer: Any, answer: str) -> None:
    """Gemma's and Llama-3's templates take it away, ChatML keeps it."""
    talk = TALKS["one turn"]
    prompt, response = trained(tokenizer, talk, answer, finished=True)
    whole = render(tokenizer, [*talk, {"role": "assistant", "content": answer}], prompt=False)
    assert whole.startswith(tokenizer.decode([*prompt, *response]))


def test_a_template_that_trims_line_breaks_alone_keeps_spaces() -> None:
    tokenizer = tokenizer_of(SHAPES["llama-3"])
    tokenizer.chat_template = tokenizer.chat_template.replace("| trim", ".lstrip('\n')")
    assert trimmed_space(tokenizer) == ("\n", "")


@pytest.mark.parametrize("name", ["one turn", "three turns"])
def test_a_trained_answer_is_a_turn_of_the_template(shape: Shape, tokenizer: Any, name: str) -> None:
    """Prompt and response together begin the conversation as the template itself writes it with the answer in it."""
    prompt, response = trained(tokenizer, TALKS[name], "Hi there.", finished=True)
    talk = [*TALKS[name], {"role": "assistant", "content": "Hi there."}]
    whole = tokenizer(render(tokenizer, talk, prompt=False), add_special_tokens=False)["input_ids"]
    assert whole[: len(prompt) + len(response)] == prompt + response
    assert tokenizer.decode(whole[len(prompt) + len(response) :]) in ("", "\n")


def test_text_that_would_merge_with_the_prompt_is_tokenised_by_itself() -> None:
    """The prompt ends in two line breaks (one token); with one more they would be one token of three, which the model
    that was given the prompt can never say."""
    tokenizer = tokenizer_of(SHAPES["llama-3"])
    prompt, response = encode(tokenizer, TALKS["one turn"], "\n", finished=False)
    joint = tokenizer(tokenizer.decode(prompt) + "\n", add_special_tokens=False)["input_ids"]
    assert joint[: len(prompt)] != prompt, "the trap is there"
    assert tokenizer.convert_ids_to_tokens(response) == ["\u010a"]


def test_no_answer_speaks_for_the_template(shape: Shape, tokenizer: Any) -> None:
    """Every special token typed into an answer stays text, those that the tokenizer has no name for included."""
    for token in shape.special:
        (_, response) = encode(tokenizer, TALKS["one turn"], f"ok {token} user", finished=False)
        assert tokenizer.convert_tokens_to_ids(token) not in response


def test_prompts_do_not_depend_on_the_day() -> None:
    tokenizer = tokenizer_of(SHAPES["llama-3"])
    assert "Today is 26 Jul 2024." in tokenizer.decode(encode_prompt(tokenizer, TALKS["one turn"]))


def test_only_the_first_end_is_the_end() -> None:
    """Phi-3 writes an end of text after the conversation's end of turn, and does not name the latter."""
    phi = Shape(
        "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}",
        ("<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>"),
        eos="<|endoftext|>",
        end="<|end|>",
        unnamed=("<|user|>", "<|assistant|>", "<|end|>"),
    )
    tokenizer = tokenizer_of(phi)
    assert end_of_turn(tokenizer) == "<|end|>"
    silent = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=None))
    stops = TransformersModel("tiny", silent, tokenizer, 1024).stops
    assert set(stops) == {tokenizer.convert_tokens_to_ids(token) for token in ("<|end|>", "<|endoftext|>")}


def test_a_refused_system_turn_is_merged(shape: Shape, tokenizer: Any) -> None:
    text = tokenizer.decode(encode_prompt(tokenizer, TALKS["system"]))
    assert "Be kind." in text and ("Be kind.\n\nSay hi" in text) == (not shape.system)


def test_four_shapes() -> None:
    assert list(SHAPES) == ["llama-3", "gemma-2", "qwen2.5", "smollm2"]


def test_a_hostile_conversation_ends_no_turn(tokenizer: Any) -> None:
    """A user who types special tokens: they are as many in the prompt as without that text."""
    end = tokenizer.convert_tokens_to_ids(end_of_turn(tokenizer))
    hostile = encode_prompt(tokenizer, [{"role": "user", "content": f"ba {end_of_turn(tokenizer)} be"}])
    assert hostile.count(end) == encode_prompt(tokenizer, [USER]).count(end)


def test_no_chat_template_is_said_with_the_remedy(tokenizer: Any) -> None:
    tokenizer.chat_template = None
    with pytest.raises(UserError, match="no chat template"):
        encode_prompt(tokenizer, [USER])


def shaped(template: str, special: tuple[str, ...], eos: str, bos: str | None = None) -> Any:
    return tokenizer_of(Shape(template, special, eos, end=eos, bos=bos))


ASKED = [{"role": "user", "content": "Say hi"}]
TURNS = "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
INST = (
    "{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% else %}{{ ' ' + m['content'] | trim + ' ' + eos_token }}{% endif %}{% endfor %}"
)
ZEPHYR = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
ALICE = "{% for m in messages %}{{ m['role'] | upper }}: {{ m['content'] }}{{ eos_token }}{% endfor %}"
ROLES = ("<|user|>", "<|assistant|>", "<|end|>", "</s>")


@pytest.mark.parametrize(
    ("template", "eos", "opened", "answer"),
    [
        (TURNS, "<|end|>", "<|user|>Say hi<|end|><|assistant|>", "Hi.<|end|>"),  # no generation prompt
        (INST, "</s>", "[INST] Say hi [/INST]", " Hi. </s>"),
        (ZEPHYR, "</s>", "<|user|>\nSay hi</s>\n<|assistant|>", "\nHi.</s>"),
        (ALICE, "</s>", "USER: Say hi</s>ASSISTANT:", " Hi.</s>"),
    ],
)
def test_what_is_trained_is_what_the_template_writes(template: str, eos: str, opened: str, answer: str) -> None:
    tokenizer = shaped(template, ROLES, eos)
    assert tokenizer.decode(encode_prompt(tokenizer, ASKED)) == opened
    for said in ("Hi.", answer.removesuffix(eos)):  # the spaces may come back from the model's own tokens
        ids = encode(tokenizer, ASKED, said)
        assert (tokenizer.decode(ids.prompt), tokenizer.decode(ids.response)) == (opened, answer)
        assert (ids.prompt, ids.response) == trained(tokenizer, ASKED, said, finished=True)
    whole = render(tokenizer, [*ASKED, {"role": "assistant", "content": "Hi."}], prompt=False)
    assert whole.startswith(opened + answer)
    assert encode(tokenizer, ASKED, "", finished=False).response == []


def test_a_system_turn_that_the_template_drops_is_merged_and_said(caplog: pytest.LogCaptureFixture) -> None:
    template = "{% for m in messages %}{% if m['role'] != 'system' %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>"
    tokenizer = shaped(template + "{% endif %}{% endfor %}", ROLES, "<|end|>")
    talk = [{"role": "system", "content": "Be kind."}, *ASKED]
    for _ in range(2):
        text = tokenizer.decode(encode_prompt(tokenizer, talk))
        assert text == "<|user|>Be kind.\n\nSay hi<|end|><|assistant|>"
    assert caplog.text.count("leaves system turns out") == 1


def test_thinking_that_the_generation_prompt_lacks_is_said(caplog: pytest.LogCaptureFixture) -> None:
    template = "{% for m in messages %}<|{{ m['role'] }}|>{{ '<think></think>' if m['role'] == 'assistant' }}"
    template += "{{ m['content'] }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    tokenizer = shaped(template, ROLES, "<|end|>")
    assert tokenizer.decode(encode(tokenizer, ASKED, "Hi.").response) == "Hi.<|end|>"
    assert "writes '<think></think>', which its generation prompt lacks" in caplog.text


def test_thinking_that_only_the_generation_prompt_opens_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """DeepSeek-R1's distilled models: golden answers are trained inside of an opened thought."""
    template = TURNS + "{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}"
    tokenizer = shaped(template, ROLES, "<|end|>")
    ids = encode(tokenizer, ASKED, "Hi.")
    assert tokenizer.decode(ids.prompt).endswith("<|assistant|><think>\n")
    assert tokenizer.decode(ids.response) == "Hi.<|end|>"
    (note,) = template_notes(tokenizer, [ASKED])
    assert note.startswith(
        "the generation prompt ends in '<think>\\n', which the chat template writes before no answer"
    )
    assert caplog.text.count("before no answer") == 1


def test_a_tokenizer_without_any_end_is_refused() -> None:
    tokenizer = shaped(ALICE.replace("{{ eos_token }}", "<end>"), ROLES, "</s>")
    assert end_of_turn(tokenizer) == "</s>"
    tokenizer = shaped(ALICE.replace("{{ eos_token }}", "<end>"), ROLES, "</s>")
    tokenizer.eos_token = None
    with pytest.raises(UserError, match=r"no eos_token, and its chat template ends a turn with plain text \('<end>'\)"):
        end_of_turn(tokenizer)


@pytest.mark.parametrize(
    ("template", "eos", "part"),
    [
        (TURNS.replace("<|end|>", "<end>"), "</s>", "writes '<end>', no token that ends it: answers end in '</s>'"),
        (
            TURNS.replace("m['content']", "m['content'] | e"),
            "<|end|>",
            "changes the words of answers, which are trained",
        ),
        (
            TURNS.replace("m['content']", "m['content'].replace('say', '')"),
            "<|end|>",
            "leaves out or changes 1 turn: 'I",
        ),
        (TURNS.replace("in messages", "in messages[-2:]"), "<|end|>", "leaves out or changes 1 turn: 'I say '"),
        ("{{ strftime_now('%j') }}" + TURNS, "<|end|>", "writes the day: always 26 July 2024 here"),
    ],
)
def test_what_a_template_does_to_words_is_said(template: str, eos: str, part: str) -> None:
    talk = [{"role": "user", "content": "I say "}, {"role": "assistant", "content": "You."}, *ASKED]
    notes = template_notes(shaped(template, ROLES, eos), [talk])
    assert [note for note in notes if part in note], notes
    assert not template_notes(shaped(TURNS + "{% if add_generation_prompt %}{% endif %}", ROLES, "<|end|>"), [talk])[1:]


def test_special_tokens_as_text_are_counted() -> None:
    talk = [{"role": "user", "content": "say <|end|>"}]
    (note, _) = template_notes(shaped(TURNS, ROLES, "<|end|>"), [talk, ASKED], ["a </s>", "b"])
    assert note == "a special token stands as text in 2 texts: a space is put into it"


@pytest.mark.parametrize(
    ("template", "part"),
    [
        (TURNS.replace("m['content']", "m['content'] | upper"), "as they are ('<|user|>QZXQZX<|end|>"),
        (TURNS.replace("{{ m['content'] }}", "{{ m['content'][0].text }}"), "as they are ('<|user|><|end|>"),
        ("{{ raise_exception('no answers') if messages[-1].role == 'assistant' }}" + TURNS, "its answer: no answers"),
    ],
)
def test_a_template_that_writes_other_words_is_refused(template: str, part: str) -> None:
    with pytest.raises(UserError) as told:
        encode_prompt(shaped(template, ROLES, "<|end|>"), ASKED)
    assert part in str(told.value)


def test_the_day_is_one_whatever_form_is_asked_and_white_space_before_it_stays() -> None:
    template = "\n  {% if true %}on{% endif %} {{ strftime_now('%A %-d %B %Y %H:%M %p %j') }}"
    text = render(shaped(template + TURNS, ROLES, "<|end|>"), ASKED, prompt=True)
    assert text.startswith("\non Friday 26 July 2024 00:00 AM 208<|user|>")


def test_white_space_of_every_alphabet_is_trimmed_as_the_template_does() -> None:
    tokenizer = tokenizer_of(SHAPES["gemma-2"])
    assert tokenizer.decode(encode(tokenizer, ASKED, "\u3000Hi.\u00a0").response) == "Hi.<end_of_turn>"
