"""Thinking apart from the answer: models that think aloud write both into one text.

Verdicts and answers are read from what remains. The marks are those of model families, as inference servers know them
(vLLM ``vllm/reasoning/*_reasoning_parser.py``, SGLang ``python/sglang/srt/parser/reasoning_parser.py``); a server that
was not told the family leaves them in the text. A server that returns thinking in a field of its own needs no marks.
"""

from __future__ import annotations

import re
from bisect import bisect
from dataclasses import replace
from typing import Final, NamedTuple

from harness.types import Answer, Judgment, Reply, Response

CUT: Final = "thinking-cut"
"""Flag of a judgment that is none because nothing followed the thinking, of the judge or of the model judged."""

TAGS = "think|thinking|thought|thoughts"
"""XML-like tags that are thinking wherever they stand outside code. ``<think>``: DeepSeek-R1, QwQ, Qwen3, GLM-4.5,
Phi-4-reasoning, Granite 3.3, Hunyuan, MiniMax, Nemotron, SmolLM3, OLMo 3, ERNIE 4.5, Kimi K2; ``<thought>``: EXAONE
Deep, Marco-o1; ``<thinking>``: Reflection-Llama and prompts for Claude. With a prefix: ``<seed:think>`` (Seed-OSS),
``<longcat_think>`` (LongCat); with a suffix: ``<think_fast>`` (K2-Think-V2), ``<think:opensource>`` (Hunyuan 3). Any of
them closes any: models mix them up."""

OPENING_TAGS = (
    "reasoning|reasoning_content|internal_reasoning|reflection|scratchpad|inner_thoughts|inner_monologue|analysis"
    "|chain_of_thought|cot|rationale|antthinking"
    '|details(?=\\s+type="reasoning")'  # Open WebUI's server
)
"""Tags that are thinking only where a text begins with them: in an answer they may be what the question asked for."""

TOKENS = (
    ("[THINK]", "[/THINK]"),  # Mistral: Magistral, Ministral 3
    ("◁think▷", "◁/think▷"),  # Moonshot: Kimi-VL, Kimi k1.5
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Cohere: Command A Reasoning
    ("<|begin_of_thought|>", "<|end_of_thought|>"),  # Sky-T1, OpenThinker, Bespoke-Stratos
    ("<|inner_prefix|>", "<|inner_suffix|>"),  # Apertus
    ("<|channel>thought", "<channel|>"),  # Gemma 4
    ("[unused16]", "[unused17]"),  # openPangu
    ("<|think:start|>", "<|think:end|>"),  # Solar Open 2
    ("<|think|>", "<|content|>"),  # Solar Open
    ("<unused94>thought", "<unused95>"),  # MedGemma 1.5
    ("<|thinking|>", "<|/thinking|>"),  # community templates
)
"""Special tokens around thinking, where the server does not strip them."""

PHRASES = (
    # Granite 3.2 writes plain sentences
    (re.compile(r"\s*Here(?: is|'s) my thought process:"), re.compile(r"Here(?: is|'s) my response:")),
    # HyperCLOVA X SEED Think 14B: a second turn of the assistant
    (re.compile(r"\s*/think\n"), re.compile(r"<\|im_end\|>\s*<\|im_start\|>assistant\s*")),
    # gpt-oss (harmony format) after the server stripped the special tokens: "analysis...assistantfinal..."
    (re.compile(r"\s*analysis(?=[A-Z\s])"), re.compile(r"assistant\s*final(?=\W|[A-Z]|$)")),
)
"""Openings and closings that are only text: thinking only where both are there and the text begins with the first."""

QUOTES = ("`", '"', "'")

WRAPPERS = (
    ("<answer>", "</answer>"),  # Hunyuan A13B
    ("<response>", "</response>"),  # Granite 3.3
    ("<output>", "</output>"),  # Marco-o1, Reflection-Llama
    ("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    ("<|START_TEXT|>", "<|END_TEXT|>"),
    ("<|begin_of_solution|>", "<|end_of_solution|>"),
)
"""What some families put around the answer after their thinking."""

_LIKELY: Final = -2.3  # log-probability, about 0.1
_closings = dict(TOKENS)
_MARK = re.compile(
    rf"(?i:<(?P<close>/)?(?P<tag>(?:[a-z0-9]+[:_])?(?:{TAGS})(?:[:_][a-z0-9]+)?)(?:\s[^<>]*)?>)"
    rf"|(?P<opening>{'|'.join(map(re.escape, _closings))})"
    rf"|(?P<closing>{'|'.join(map(re.escape, _closings.values()))})"
)
_FIRST_TAG = re.compile(rf"\s*<(?P<tag>{OPENING_TAGS})(?:\s[^<>]*)?>", re.IGNORECASE)
_HARMONY = re.compile(r"<\|channel\|>\s*(?P<channel>\w+)[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>")
_HARMONY_TOKENS = frozenset({"<|channel|>", "<|message|>", "<|start|>", "<|end|>", "<|constrain|>"})
_HARMONY_END = re.compile(r"<\|(?:end|return|call|start)\|>")
_FENCE = re.compile(r"^[ \t]{0,3}(`{3,}|~{3,})", re.MULTILINE)


class SeparatedText(NamedTuple):
    """A text in two parts. ``is_cut``: the thinking has no end, so nothing of the text is an answer."""

    answer: str
    thinking: str
    is_cut: bool = False


def separate(text: str) -> SeparatedText:
    """The answer and the thinking of a reply. A text without marks is returned as it is, to the last space.

    Thinking whose opening is missing counts too: templates such as DeepSeek-R1's end the prompt with ``<think>``, so
    the reply holds only the closing mark. Marks inside code (fences, backticks) are text. Linear in the text's length.
    """
    for part in (_separate_harmony, _separate_phrases, _separate_first_tag, _separate_marks):
        if (reply := part(text)) is not None:
            return reply._replace(answer=_unwrap(reply.answer), thinking=reply.thinking.strip())
    return SeparatedText(text, "")


def is_mark(token: str) -> bool:
    """Whether a special token tells thinking from the answer."""
    starts = any(mark.startswith(token) for pair in TOKENS for mark in pair)  # Gemma's "<|channel>" is half a mark
    return bool(_MARK.fullmatch(token)) or token in _HARMONY_TOKENS or (starts and len(token) > 2)


def final_opening(prompt: str) -> str:
    """The opening mark that a prompt ends with; empty where it ends with none."""
    mark = next(reversed(list(_MARK.finditer(prompt))), None)
    opens = mark is not None and not prompt[mark.end() :].strip() and not mark["close"] and not mark["closing"]
    return mark[0] if mark is not None and opens else ""


def _separate_harmony(text: str) -> SeparatedText | None:
    """gpt-oss: channels ``analysis`` and ``commentary`` are thinking, ``final`` is the answer."""
    starts = list(_HARMONY.finditer(text))
    if not starts:
        return None
    answer: list[str] = []
    thinking: list[str] = []
    for number, start in enumerate(starts):
        limit = starts[number + 1].start() if number + 1 < len(starts) else len(text)
        end = _HARMONY_END.search(text, start.end(), limit)
        content = text[start.end() : end.start() if end else limit]
        (answer if start["channel"].lower() == "final" else thinking).append(content)
    return SeparatedText("\n".join(answer), "\n".join(thinking), is_cut=not answer)


def _separate_phrases(text: str) -> SeparatedText | None:
    for opening, closing in PHRASES:
        start = opening.match(text)
        end = closing.search(text, start.end()) if start else None
        if start and end:
            return SeparatedText(text[end.end() :], text[start.end() : end.start()])
    return None


def _separate_first_tag(text: str) -> SeparatedText | None:
    start = _FIRST_TAG.match(text)
    if start is None:
        return None
    end = re.compile(rf"</{start['tag']}\s*>", re.IGNORECASE).search(text, start.end())
    if end is None:
        return SeparatedText("", text[start.end() :], is_cut=True)
    return SeparatedText(text[end.end() :], text[start.end() : end.start()])


def _separate_marks(text: str) -> SeparatedText | None:
    fences = [fence.start() for fence in _FENCE.finditer(text)]
    answer: list[str] = []
    thinking: list[str] = []
    rest_start = 0  # where the text that is not yet assigned begins
    last_end = opening_start = 0  # where the last opening mark ends, and where that of the thinking begins
    closing_mark = ""  # the closing mark of the thinking that is read
    nested_openings = 0  # openings within the thinking: a model may write its own mark while it thinks
    code_openings = 0  # openings within code: text, and so are their closings
    for mark in _MARK.finditer(text):
        opens = bool(mark["opening"] or (mark["tag"] and not mark["close"]))
        closing = (mark["closing"] or _closings.get(mark["opening"] or "")) or TAGS
        if closing_mark:
            if closing != closing_mark:
                continue
            if opens:
                # "<think>\n<think>" is one opening: the template wrote the first, the model the second
                nested_openings += bool(text[last_end : mark.start()].strip())
                last_end = mark.end()
                continue
            thinking.append(text[rest_start : mark.start()])
            rest_start, closing_mark = mark.end(), ""
            # A closing in quotes may be a word about the mark: then a further one follows.
            nested_openings += text[mark.start() - 1] in QUOTES and text[mark.end() : mark.end() + 1] in QUOTES
        elif opens:
            if text[max(0, mark.start() - 1) : mark.start()] in QUOTES or bisect(fences, mark.start()) % 2:
                code_openings += 1
                continue
            answer.append(text[rest_start : mark.start()])
            opening_start, rest_start = mark.start(), (last_end := mark.end())
            closing_mark, nested_openings = closing, 0
        elif (
            code_openings
            or text[max(0, mark.start() - 1) : mark.start()] in QUOTES
            or (
                # A fence that closes behind the mark holds it; one that thinking left open does not.
                bisect(fences, mark.start()) % 2 and len(fences) % 2 == 0
            )
        ):
            code_openings = max(0, code_openings - 1)
        elif not thinking or nested_openings:
            # The prompt ended with the opening, or the thinking held an opening of its own: all so far is thinking.
            thinking += [*answer, text[rest_start : mark.start()]]
            answer, rest_start, nested_openings = [], mark.end(), max(0, nested_openings - 1)
    if not thinking and not closing_mark:
        return None
    rest = text[rest_start:]
    if closing_mark and not thinking and text[:opening_start].rpartition("\n")[2].strip():
        return None  # nothing closes an opening in the middle of a line: a word about the mark
    if closing_mark:
        return SeparatedText("".join(answer), "\n".join([*thinking, rest]), is_cut=not "".join(answer).strip())
    return SeparatedText("".join([*answer, rest]), "\n".join(thinking))


def _unwrap(answer: str) -> str:
    answer = answer.strip()
    for opening, closing in WRAPPERS:
        if answer.startswith(opening):
            return answer[len(opening) :].removesuffix(closing).strip()
    return answer


def _join(earlier_text: str, new_text: str) -> str:
    return "\n".join(part for part in (earlier_text, new_text) if part)


def separate_reply(reply: Reply) -> Reply:
    """The reply as parsers are to see it; ``thinking`` may hold what the server sent in a field of its own."""
    parts = separate(reply.text)
    thinking = _join(reply.thinking, parts.thinking)
    if not thinking:
        return reply
    # The first token of what a model wrote is its thinking's, unless the endpoint counts from the answer on.
    first = reply.first_token or {}
    starts = any(t.strip() and parts.answer.startswith(t.strip()) and logp > _LIKELY for t, logp in first.items())
    return replace(reply, text=parts.answer, thinking=thinking, first_token=reply.first_token if starts else None)


def separate_response(response: Response) -> Response:
    parts = separate(response.text)
    thinking = _join(response.thinking, parts.thinking)
    return replace(response, text=parts.answer, thinking=thinking) if thinking else response


def separate_answer(answer: Answer) -> Answer:
    """An answer made elsewhere: its stated length in tokens goes too, because it counts the thinking."""
    turns = [separate(turn) for turn in answer.turns]
    if not any(turn.thinking for turn in turns):
        return answer
    thinking = tuple(map(_join, answer.thinking or ("",) * len(turns), (turn.thinking for turn in turns)))
    meta = {key: value for key, value in answer.meta.items() if key != "token_len"}
    return replace(answer, turns=tuple(turn.answer for turn in turns), thinking=thinking, tokens=(), meta=meta)


def separate_judgment(judgment: Judgment) -> Judgment:
    """A judgment made elsewhere: its verdict stays the one that was given."""
    parts = separate(judgment.reply)
    thinking = _join(judgment.thinking, parts.thinking)
    return replace(judgment, reply=parts.answer, thinking=thinking) if thinking else judgment
