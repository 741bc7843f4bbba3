"""Thinking apart from the answer: models that think aloud write both into one text.

Verdicts and answers are read from what remains. The marks are those of model families, as inference servers know them
(vLLM ``vllm/reasoning/*_reasoning_parser.py``, SGLang ``python/sglang/srt/parser/reasoning_parser.py``); a server that
was not told the family leaves them in the text. A server that returns thinking in a field of its own needs no marks.
"""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Sequence
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
    # Open WebUI's server
    '|details(?=\\s+type="reasoning"|[^<>]*>\\s*<summary>\\s*(?:thinking|thought|reasoning))'
)
"""Tags that are thinking only where a text begins with them: in an answer they may be what the question asked for."""

TOKENS = (
    ("[THINK]", "[/THINK]"),  # Mistral: Magistral, Ministral 3
    ("◁think▷", "◁/think▷"),  # Moonshot: Kimi-VL, Kimi k1.5
    ("<|inner_prefix|>", "<|inner_suffix|>"),  # Apertus
    ("<|channel>thought", "<channel|>"),  # Gemma 4
    ("[unused16]", "[unused17]"),  # openPangu
    ("<|think|>", "<|content|>"),  # Solar Open
    ("<unused94>thought", "<unused95>"),  # MedGemma 1.5
    ("<|open|>think<|sep|>", "<|close|>think<|sep|>"),  # Kimi K3
    ("<|content_thinking|>", "<|content_text|>"),  # Inkling
)
"""Special tokens around thinking, where the server does not strip them. Those whose name says so need no entry:
``<|START_THINKING|>`` (Command A Reasoning), ``<|begin_of_thought|>`` (Sky-T1, OpenThinker, Bespoke-Stratos),
``<|think:start|>`` (Solar Open 2), ``<|plamo:begin_think:plamo|>`` (PLaMo 3), each with its ``end``."""

PHRASES = (
    # Granite 3.2 writes plain sentences
    (
        re.compile(r"[\s*]*Here(?: is|['’]s) my thought process:\**"),
        re.compile(r"\**Here(?: is|['’]s) my response:\**"),
    ),
    # Apriel: the prompt ends with the first sentence
    (re.compile(r"(?:\s*Here are my reasoning steps:)?"), re.compile(r"\[BEGIN FINAL RESPONSE\]")),
    # HuatuoGPT-o1
    (re.compile(r"\s*## Thinking\s"), re.compile(r"## Final Response\s")),
    # s1: roles of turns, with or without their special tokens
    (re.compile(r"\s*(?:<\|im_start\|>)?think\n"), re.compile(r"(?:<\|im_start\|>|\n)answer\n")),
    # HyperCLOVA X SEED Think 14B: a second turn of the assistant
    (re.compile(r"\s*/think\n"), re.compile(r"<\|im_end\|>\s*<\|im_start\|>assistant\s*")),
    # gpt-oss (harmony format) after the server stripped the special tokens: "analysis...assistantfinal..."
    (
        re.compile(r"\s*(?:assistant)?analysis(?=\w|\s)"),
        re.compile(r"assistantfinal|assistant\s+final(?=\W|[A-Z]|$)"),
    ),
)
"""Openings and closings that are only text: thinking only where both are there and the text begins with the first."""
CUT_PHRASE = re.compile(r"\s*(?:(?:assistant)?analysis(?=[A-Z])|Here are my reasoning steps:)")
"""Those of them that no answer begins with: thinking without their closing too."""

QUOTES = ("`", '"', "'")

WRAPPERS = (
    ("<answer>", "</answer>"),  # Hunyuan A13B
    ("<response>", "</response>"),  # Granite 3.3
    ("<output>", "</output>"),  # Marco-o1, Reflection-Llama
    ("<|open|>response<|sep|>", "<|close|>response<|sep|>"),
    ("<|begin_of_box|>", "<|end_of_box|>"),  # GLM-4.5V
    ("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    ("<|START_TEXT|>", "<|END_TEXT|>"),
    ("<|begin_of_solution|>", "<|end_of_solution|>"),
)
"""What some families put around the answer after their thinking."""
_TURN_ENDS = (
    *(f"<|{name}|>" for name in ("end", "return", "eom", "eot", "end_message", "im_end")),
    "<|close|>message<|sep|>", "[END FINAL RESPONSE]",
)  # fmt: skip

OF_WHOLE_TEXT: Final = frozenset({"token_len", "strict-match", "flexible-extract"})
"""In ``Answer.meta``: the length that a file states, and what lm-eval's filters took."""

_LIKELY: Final = -2.3  # log-probability, about 0.1
_closings = dict(TOKENS)
_MARK = re.compile(
    rf"(?P<opening>{'|'.join(map(re.escape, _closings))})"
    rf"|(?P<closing>{'|'.join(map(re.escape, _closings.values()))})"
    rf"|(?i:<(?P<close>/)?(?:[a-z0-9]+[:_])?(?:{TAGS})(?:[:_][a-z0-9]+)?(?:\s[^<>]*)?>)"
    r"|(?i:<[|｜](?P<name>[\w:/-]{0,16}?(?:think|thought|reasoning)[\w:/-]{0,16})[|｜]>)"
)
_END = re.compile("end|close|/", re.IGNORECASE)
_FIRST_TAG = re.compile(rf"\s*<(?P<tag>{OPENING_TAGS})(?:\s[^<>]*)?>", re.IGNORECASE)
_LAST_TAG = re.compile(r"</(?P<tag>reasoning|reasoning_content|internal_reasoning|scratchpad)\s*>", re.IGNORECASE)
_HARMONY = re.compile(
    r"(?:<\|start\|>\s*assistant\s*)?"
    r"(?:<\|channel\|>\s*(?P<channel>\w+)[^<]*(?:<\|constrain\|>[^<]*)?|to=(?P<recipient>self|user))<\|message\|>"
)  # with ``to=``: Muse Glimmer
_HARMONY_TOKENS = frozenset({"<|channel|>", "<|message|>", "<|start|>", "<|end|>", "<|constrain|>"})
_HARMONY_END = re.compile(r"<\|(?:end|return|call|start|eom|eot)\|>")
_FENCE = re.compile(r"^[ \t]{0,3}(`{3,}|~{3,})", re.MULTILINE)


class SeparatedText(NamedTuple):
    """A text in two parts. ``is_cut``: the thinking has no end, so nothing of the text is an answer.
    ``is_headless``: it has no beginning, because the prompt held it."""

    answer: str
    thinking: str
    is_cut: bool = False
    is_headless: bool = False


def separate(text: str) -> SeparatedText:
    """The answer and the thinking of a reply. A text without marks is returned as it is, to the last space.

    Thinking whose opening is missing counts too: templates such as DeepSeek-R1's end the prompt with ``<think>``, so
    the reply holds only the closing mark. Marks inside code (fences, backticks) are text. Linear in the text's length.
    """
    for part in (_separate_harmony, _separate_phrases, _separate_first_tag, _separate_marks):
        if (reply := part(text)) is not None:
            thinking = reply.thinking.strip() or (text.strip() if reply.is_cut else "")
            return reply._replace(answer=_unwrap(reply.answer), thinking=thinking)
    return SeparatedText(text, "")


def separate_texts(texts: Sequence[tuple[str, bool | None]]) -> list[SeparatedText]:
    """Each of (text, whether it ended by itself) of one model; ``None``: not known.

    A text that was cut before the only mark that it would have had is told by the model's other ones: where most of
    them begin inside of thinking, it is thinking.
    """
    parts = [separate(text) for text, _ in texts]
    unmarked = [place for place, part in enumerate(parts) if part.answer and part.answer == texts[place][0]]
    whole_count = sum(texts[place][1] is not False for place in unmarked)
    begin_inside = sum(part.is_headless for part in parts) > whole_count
    for place in unmarked:
        text, is_whole = texts[place]
        if (begin_inside and not is_whole) or (is_whole is False and PHRASES[0][0].match(text)):
            parts[place] = SeparatedText("", text.strip(), is_cut=True)
    return parts


def is_mark(token: str) -> bool:
    """Whether a special token tells thinking from the answer."""
    starts = any(mark.startswith(token) for pair in TOKENS for mark in pair)  # Gemma's "<|channel>" is half a mark
    return bool(_MARK.fullmatch(token)) or token in _HARMONY_TOKENS or (starts and len(token) > 2)


def final_opening(prompt: str) -> str:
    """The opening mark that a prompt ends with; empty where it ends with none."""
    mark = next(reversed(list(_MARK.finditer(prompt))), None)
    return mark[0] if mark is not None and _opens(mark) and not prompt[mark.end() :].strip() else ""


def _opens(mark: re.Match[str]) -> bool:
    return not (mark["close"] or mark["closing"] or (mark["name"] and _END.search(mark["name"])))


def _separate_harmony(text: str) -> SeparatedText | None:
    """gpt-oss: channels ``analysis`` and ``commentary`` are thinking, ``final`` is the answer."""
    starts = list(_HARMONY.finditer(text))
    head = text[: starts[0].start()] if starts else ""
    if not starts or head.endswith(QUOTES) or len(_FENCE.findall(head)) % 2:
        return None
    answer: list[str] = []
    thinking: list[str] = [_HARMONY_END.sub("", head)]  # the prompt may end with the first channel
    for number, start in enumerate(starts):
        limit = starts[number + 1].start() if number + 1 < len(starts) else len(text)
        end = _HARMONY_END.search(text, start.end(), limit)
        content = text[start.end() : end.start() if end else limit]
        is_final = start["recipient"] == "user" or (start["channel"] or "").lower() == "final"
        (answer if is_final else thinking).append(content)
    return SeparatedText("\n".join(answer), "\n".join(filter(None, thinking)), not answer, bool(head.strip()))


def _separate_phrases(text: str) -> SeparatedText | None:
    for opening, closing in PHRASES:
        start = opening.match(text)
        end = closing.search(text, start.end()) if start else None
        if start and end:
            return SeparatedText(text[end.end() :], text[start.end() : end.start()], is_headless=not start[0])
    start = CUT_PHRASE.match(text)
    return SeparatedText("", text[start.end() :], is_cut=True) if start else None


def _separate_first_tag(text: str) -> SeparatedText | None:
    start = _FIRST_TAG.match(text)
    if start is None:
        end = _LAST_TAG.search(text)
        head = text[: end.start()] if end else ""
        if end is None or f"<{end['tag']}" in head or head.endswith(QUOTES) or len(_FENCE.findall(head)) % 2:
            return None
        return SeparatedText(text[end.end() :], head, is_headless=True)
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
    is_headless = False
    for mark in _MARK.finditer(text):
        opens = _opens(mark)
        closing = (mark["closing"] or _closings.get(mark["opening"] or "")) or TAGS
        if closing_mark:
            if closing not in (closing_mark, TAGS):
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
        elif not thinking or nested_openings or _is_second_end(text, mark):
            # The prompt ended with the opening, or the thinking held one of its own or a closing: all so far is
            # thinking. A closing that ends the text ends nothing.
            is_headless = is_headless or not thinking
            answer.append(text[rest_start : mark.start()])
            if not thinking or text[mark.end() :].strip():
                thinking += answer
                answer.clear()
            rest_start, nested_openings = mark.end(), max(0, nested_openings - 1)
    # Where nothing closes an opening in the middle of a line, it is a word about the mark.
    if not thinking and (not closing_mark or text[:opening_start].rpartition("\n")[2].strip()):
        return None
    rest = text[rest_start:]
    if closing_mark:
        return SeparatedText("".join(answer), "\n".join([*thinking, rest]), is_cut=not "".join(answer).strip())
    return SeparatedText("".join([*answer, rest]), "\n".join(thinking), is_headless=is_headless)


def _is_second_end(text: str, mark: re.Match[str]) -> bool:
    """Whether a closing after the thinking is one more, and no word in a sentence, with blanks around."""
    return not (text[mark.start() - 1] == " " and text[mark.end() : mark.end() + 1] in (" ", ".", ",", ";", ":"))


def _unwrap(answer: str) -> str:
    end = len(answer)
    # By hand: a pattern that allows white space between the marks is quadratic in a text's line breaks.
    while end and (size := next((len(m) for m in _TURN_ENDS if answer.endswith(m, 0, end)), answer[end - 1].isspace())):
        end -= size
    answer = answer[:end].strip()
    for opening, closing in WRAPPERS:
        if answer[: len(opening)].lower() == opening.lower():
            content = answer[len(opening) :]
            end = content.lower().rfind(closing.lower())
            return (content if end < 0 else content[:end] + content[end + len(closing) :]).strip()
    return answer


def _join(earlier_text: str, new_text: str) -> str:
    return "\n".join(part for part in (earlier_text, new_text) if part)


def separate_replies(replies: Sequence[Reply]) -> list[Reply]:
    """Replies of one model as parsers are to see them; ``thinking`` may hold what the server sent beside."""
    # A server that knows the marks leaves none in the text.
    texts = [(r.text, bool(r.thinking) or (r.finish_reason != "length" if r.finish_reason else None)) for r in replies]
    return list(map(_separate_reply, replies, separate_texts(texts)))


def _separate_reply(reply: Reply, parts: SeparatedText) -> Reply:
    thinking = _join(reply.thinking, parts.thinking)
    if not thinking and parts.answer == reply.text:
        return reply
    # The first token of what a model wrote is its thinking's, unless the endpoint counts from the answer on.
    first = reply.first_token or {}
    starts = any(t.strip() and parts.answer.startswith(t.strip()) and logp > _LIKELY for t, logp in first.items())
    first_token = reply.first_token if starts else None
    return replace(
        reply, text=parts.answer, thinking=thinking, first_token=first_token, begins_inside=parts.is_headless
    )


def separate_response(response: Response) -> Response:
    if response.thinking:  # set apart where the server was asked
        return response
    parts = separate(response.text)
    return replace(response, text=parts.answer, thinking=parts.thinking)


def separate_answers(answers: Sequence[Answer]) -> list[Answer]:
    """Answers of one model, made elsewhere. With thinking goes what was counted or taken from the whole text."""
    texts = [
        (turn, answer.finished[number] if answer.finished else None)
        for answer in answers
        for number, turn in enumerate(answer.turns)
    ]
    parts = iter(separate_texts(texts))
    return [_separate_answer(answer, [next(parts) for _ in answer.turns]) for answer in answers]


def _separate_answer(answer: Answer, parts: Sequence[SeparatedText]) -> Answer:
    turns = tuple(part.answer for part in parts)
    if turns == answer.turns:
        return answer
    thinking = tuple(map(_join, answer.thinking or ("",) * len(turns), (part.thinking for part in parts)))
    meta = {key: value for key, value in answer.meta.items() if key not in OF_WHOLE_TEXT}
    return replace(answer, turns=turns, thinking=thinking if any(thinking) else (), tokens=(), meta=meta)


def cut_short(answer: Answer) -> Answer:
    """An answer of a model whose texts begin inside of thinking: a turn that was cut before its mark is thinking."""
    thinking = answer.thinking or ("",) * len(answer.turns)
    places = [n for n, turn in enumerate(answer.turns) if turn and not (thinking[n] or answer.finished[n])]
    turns = tuple("" if n in places else turn for n, turn in enumerate(answer.turns))
    kept = tuple(answer.turns[n] if n in places else thought for n, thought in enumerate(thinking))
    return replace(answer, turns=turns, thinking=kept) if places else answer


def separate_judgment(judgment: Judgment) -> Judgment:
    """A judgment made elsewhere: its verdict stays the one that was given."""
    parts = separate(judgment.reply)
    return replace(judgment, reply=parts.answer, thinking=_join(judgment.thinking, parts.thinking))
