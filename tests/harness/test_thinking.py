"""Thinking apart from the answer: marks of model families, cut thinking, marks that are only text, linear time."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import harness.thinking
from harness.api_key import ApiKey
from harness.contracts.judge import AskOptions
from harness.contracts.model import Sampling
from harness.models.server_model import ServerModel, ServerOptions
from harness.stages.kinds.answer import ThinkingSeparator
from harness.stages.kinds.judge import read_judgment
from harness.thinking import (
    CUT,
    cut_short,
    final_opening,
    is_mark,
    separate,
    separate_answers,
    separate_judgment,
    separate_replies,
    separate_response,
    separate_texts,
)
from harness.types import PLAIN, Answer, Judgment, Question, Reply, Request, Response
from judges.benchmarks.base import ask as ask_turns
from judges.benchmarks.mt_bench import BENCHMARK, MTBenchConfig
from judges.client.ask import ask
from judges.kinds.openai.responses import read_body
from judges.ledger.ledger import Ledger

CASES = [
    ("plain text\n", "plain text\n", "", False),
    ("<think>a [[3]]</think>\n\nRating: [[9]]", "Rating: [[9]]", "a [[3]]", False),
    ("a [[3]]\n</think>\nRating: [[9]]", "Rating: [[9]]", "a [[3]]", False),
    ("<think>a [[3]]", "", "a [[3]]", True),
    ("<think>\n\n</think>\n\nYes", "Yes", "", False),
    ("Sure.\n<think>x</think>Paris", "Sure.\nParis", "x", False),
    ("<think><think>x</think>y", "y", "<think>x", False),
    ("<think>a <think>b</think>c</think>d", "d", None, False),
    ("<seed:think>x</seed:think>y", "y", "x", False),
    ("[THINK]x[/THINK]y", "y", "x", False),
    ("x[/THINK]y", "y", "x", False),
    ("◁think▷x◁/think▷y", "y", "x", False),
    (
        "<|channel|>analysis<|message|>We [[A>B]]<|end|><|start|>assistant<|channel|>final<|message|>[[B>A]]<|return|>",
        "[[B>A]]",
        "We [[A>B]]",
        False,
    ),
    ("<|channel|>analysis<|message|>We [[A>B]]", "", "We [[A>B]]", True),
    ("analysisWe need. assistantfinalParis", "Paris", "We need.", False),
    ("analysis of the text", "analysis of the text", "", False),
    ("Here is my thought process: x Here is my response: y", "y", "x", False),
    ("<think>x</think>\n<answer>y</answer>", "y", "x", False),
    ("<reasoning>x</reasoning>y", "y", "x", False),
    ("Use <reasoning>x</reasoning>", "Use <reasoning>x</reasoning>", "", False),
    ("Write `<think>` and `</think>`.", "Write `<think>` and `</think>`.", "", False),
    ("```\n<think>\nx\n</think>\n```\nSo.", "```\n<think>\nx\n</think>\n```\nSo.", "", False),
    ("<|channel>thought\nx<channel|>y", "y", "x", False),
    ("<THINK>x</Think>y", "y", "x", False),
    ("<think>x</think>a<think>y</think>b", "ab", "x\ny", False),
    ("<think>x</think>a<think>y", "a", "x\ny", False),
    ("Use <think> to reason.", "Use <think> to reason.", "", False),
    ("So:\n```\n</think>\n```\nclose it.", "So:\n```\n</think>\n```\nclose it.", "", False),
    ("a\n```\nb</think>c", "c", "a\n```\nb", False),
    ("<|START_THINKING|>x<|END_THINKING|><|START_RESPONSE|>y<|END_RESPONSE|>", "y", "x", False),
    ('<details type="reasoning" done="true">\n<summary>Thought</summary>\n> x\n</details>\ny', "y", None, False),
    ("<details>\nx\n</details>\ny", "<details>\nx\n</details>\ny", "", False),
    ("<unused94>thought\nx<unused95>y", "y", "x", False),
    ("x<|think:end|>y", "y", "x", False),
    ("<|think|>x<|end|><|begin|>assistant<|content|>y", "y", None, False),
    ("/think\nx<|im_end|>\n<|im_start|>assistant\ny", "y", "x", False),
    ("<think_fast>x</think_fast>y", "y", "x", False),
    ("<think:opensource>x", "", "x", True),
    ('<think duration="3">x', "", "x", True),
    ("<think>x</thinking>y", "y", "x", False),
    ("<chain_of_thought>x</chain_of_thought>y", "y", "x", False),
    ("<think>`</think>` is [[3]]</think>[[9]]", "[[9]]", None, False),
    ("<think>x is '</think>'y", "'y", "x is '", False),
    (
        "<|channel|>analysis<|message|>x<|end|><|start|>assistant<|channel|>final <|constrain|>json<|message|>y",
        "y",
        "x",
        False,
    ),
    ("<think>[[A>B]]</think> [[B>A]] <think>[[A>B]]", "[[B>A]]", "[[A>B]]\n[[A>B]]", False),
    ("<think>", "", "<think>", True),
    ("x<|end|><|start|>assistant<|channel|>final<|message|>y", "y", "x", False),
    ("to=self<|message|>x<|eom|><|start|>assistant to=user<|message|>y<|eot|>", "y", "x", False),
    ("`<|channel|>analysis<|message|>` opens it.", "`<|channel|>analysis<|message|>` opens it.", "", False),
    ("analysisuser asks. assistantanalysisMore.assistantfinalm", "m", "user asks. assistantanalysisMore.", False),
    ("analysisWe need [[3]]", "", "We need [[3]]", True),
    ("**Here’s my thought process:** x **Here’s my response:** y", "y", "x", False),
    ("x\n[BEGIN FINAL RESPONSE]\ny\n[END FINAL RESPONSE]\n<|end|>", "y", "x", False),
    ("Here are my reasoning steps:\n[[3]]", "", "[[3]]", True),
    ("## Thinking\n\nx\n\n## Final Response\n\ny", "y", "x", False),
    ("<|im_start|>think\nx<|im_start|>answer\ny", "y", "x", False),
    ("<Thought>x</Thought>\n<Output>\ny\n</Output>", "y", "x", False),
    ("x<|close|>think<|sep|><|open|>response<|sep|>y<|close|>response<|sep|><|close|>message<|sep|>", "y", "x", False),
    ("<|content_thinking|>x<|end_message|><|message_model|><|content_text|>y<|end_message|>", "y", None, False),
    ("<|plamo:begin_think:plamo|>x<|plamo:end_think:plamo|>y", "y", "x", False),
    ("<|startofthink|>x<|endofthink|>y", "y", "x", False),
    ("<think>x</think><|begin_of_box|>y<|end_of_box|>", "y", "x", False),
    ("[THINK]x</think>y", "y", "x", False),
    ("<mm:think>x</mm:think>y", "y", "x", False),
    ("x [[3]]\n</reasoning>\ny", "y", "x [[3]]", False),
    ("<a>x</a>\n<reasoning>x</reasoning>\ny", "<a>x</a>\n<reasoning>x</reasoning>\ny", "", False),
    ("<details>\n<summary>Thinking</summary>\nx\n</details>\ny", "y", None, False),
    ("<think>x</think>\n</think>\ny", "y", None, False),
    ("<think>x</think>[[3]]</think>\n[[9]]", "[[9]]", None, False),
    ("<think>x</think>y</think>", "y", "x", False),
]  # (text, answer, thinking, cut)


@pytest.mark.parametrize(("text", "answer", "thinking", "cut"), CASES)
def test_the_answer_stands_apart(text: str, answer: str, thinking: str | None, cut: bool) -> None:
    parted = separate(text)
    assert (parted.answer, parted.is_cut) == (answer, cut)
    if thinking is not None:
        assert parted.thinking == thinking
    assert separate(parted.answer).answer == parted.answer


@pytest.mark.parametrize(
    "unit", ["<think>", "</think>", "```\n<think>\n", "`<think>`", " \n", "<|channel|>a<|message|>"]
)
def test_time_is_linear(unit: str) -> None:
    """Counted in lines of the module that are run, which no other load on the machine changes."""

    def lines(size: int) -> int:
        count = 0

        def trace(frame: object, event: str, argument: object) -> object:
            nonlocal count
            count += 1
            return trace if frame.f_code.co_filename == harness.thinking.__file__ else None  # type: ignore[attr-defined]

        sys.settrace(trace)  # type: ignore[arg-type]
        try:
            separate(unit * size)
        finally:
            sys.settrace(None)
        return count

    assert lines(4000) <= 4.2 * lines(1000) + 100


def separate_one(reply: Reply) -> Reply:
    return separate_replies([reply])[0]


def separate_one_answer(answer: Answer) -> Answer:
    return separate_answers([answer])[0]


def test_a_closing_within_a_sentence_is_a_word() -> None:
    assert separate("<think>x</think>Use </think> to close.").answer == "Use </think> to close."


def test_a_cut_text_without_any_mark_is_told_by_the_others() -> None:
    whole, cut, plain = ("a</think>b", True), ("[[3]] so", False), ("[[3]]", True)
    assert [part.answer for part in separate_texts([whole, cut])] == ["b", ""]
    assert [part.answer for part in separate_texts([cut, plain])] == ["[[3]] so", "[[3]]"]
    assert [part.answer for part in separate_texts([whole, cut, plain])] == ["b", "[[3]] so", "[[3]]"]
    assert [part.answer for part in separate_texts([whole, ("[[3]]", None)])] == [
        "b",
        "[[3]]",
    ]  # one of two may be whole
    assert [part.answer for part in separate_texts([whole, whole, ("[[3]]", None)])] == ["b", "b", ""]
    assert [
        part.answer for part in separate_texts([("Here is my thought process: x", end) for end in (True, False)])
    ] == ["Here is my thought process: x", ""]
    replies = [Reply("a</think>[[9]]", "stop", "j", 1, 1), Reply("[[3]] so", "length", "j", 1, 1)]
    assert [(reply.text, reply.is_cut) for reply in separate_replies(replies)] == [("[[9]]", False), ("", True)]
    beside = [replies[0], Reply("[[3]] so", "length", "j", 1, 1, thinking="x")]
    assert separate_replies(beside)[1].text == "[[3]] so"


def test_a_served_model_that_begins_inside_of_thinking_is_known_after_all_its_calls() -> None:
    """One question a call, as MT-Bench's temperatures want it: two whole replies, then one that was cut."""
    replies = iter([("a</think>b", "stop"), ("[[3]] so", "length"), ("c</think>d", "stop")])

    def ask_server(kind: str, config: Any, requests: Any, progress: Any) -> list[Reply]:
        return separate_replies([Reply(text, end, "m", 1, 1) for text, end in [next(replies)]])

    model: Any = ServerModel(ServerOptions(), ask_server)
    questions = [Question(name, ("x",)) for name in "123"]
    answers = [
        answer
        for question in questions
        for answer in ask_turns(ThinkingSeparator(model), [question], lambda question: Sampling(9), 0)
    ]
    assert model.inside == 2 and [answer.turns for answer in answers] == [("b",), ("[[3]] so",), ("d",)]
    assert [(answer.turns, answer.is_cut) for answer in map(cut_short, answers)] == [
        (("b",), False),
        (("",), True),
        (("d",), False),
    ]
    assert cut_short(answers[1]).thinking == ("[[3]] so",)


def test_hidden_thinking_that_took_all_tokens_is_no_empty_answer() -> None:
    ask_server: Any = lambda *asked: [Reply("", "length", "o3", 9, 512)]  # noqa: E731
    model = ServerModel(ServerOptions(), ask_server)
    (answer,) = ask_turns(ThinkingSeparator(model), [Question("1", ("x",))], lambda question: Sampling(512), 0)
    assert answer.is_cut and answer.thinking == ("[not sent by the server]",)


def test_empty_thinking_is_no_part_of_the_answer() -> None:
    text = "<think>\n\n</think>\n\nm"
    assert separate_one(Reply(text, "stop", "j", 1, 1)).text == "m"
    assert separate_response(Response(text, True, 9)).text == "m"
    assert separate_one_answer(Answer("q", (text,), (), (9,))) == Answer("q", ("m",), (), ())
    assert separate_judgment(Judgment("q", "turn1", 3.0, reply=text)).reply == "m"
    assert separate_one(Reply("<think>", "length", "j", 1, 1)).is_cut


def test_a_first_token_of_thinking_is_no_verdict() -> None:
    thinking = {"<think>": -0.01, "m": -9.0}
    assert separate_one(Reply("<think>x</think>m", "stop", "j", 1, 1, thinking)).first_token is None
    assert separate_one(Reply("m", "stop", "j", 1, 1, {"m": -0.1}, thinking="x")).first_token == {"m": -0.1}
    plain = Reply("m", "stop", "j", 1, 1, thinking)
    assert separate_one(plain) is plain


def test_what_was_made_elsewhere_keeps_its_thinking_beside() -> None:
    answer = separate_one_answer(Answer("q", ("<think>x</think>a", "b"), (), (9, 9), {"token_len": 9, "k": 1}))
    assert answer == Answer("q", ("a", "b"), (), (), {"k": 1}, ("x", "")) and not answer.is_cut
    assert separate_one_answer(Answer("q", ("<think>x",), (), ())).is_cut
    judged = separate_judgment(Judgment("q", "turn1", 3.0, reply="<think>[[3]]</think>[[9]]"))
    assert (judged.verdict, judged.reply, judged.thinking) == (3.0, "[[9]]", "[[3]]")


def test_marks_among_special_tokens_and_at_the_end_of_a_prompt() -> None:
    marks = ["[THINK]", "<think>", "<|channel|>", "<|channel>", "<|START_THINKING|>", "</s>", "<|im_end|>", "<unk>"]
    assert [is_mark(token) for token in marks] == [True] * 5 + [False] * 3
    assert final_opening("<|user|>q<|assistant|><think>\n") == "<think>"
    assert final_opening("<|user|>q<|assistant|><think>\n\n</think>\n\n") == final_opening("q") == ""


def test_a_later_turn_and_the_judge_see_answers_alone() -> None:
    seen: list[Any] = []

    def generate(talks: Any, sampling: Sampling, seed: int, n: int = 1) -> list[list[Response]]:
        seen.extend(list(talk) for talk in talks)
        return [[Response("why</think>Paris." if len(talk) == 1 else "so", False, 9)] for talk in talks]

    model: Any = SimpleNamespace(name="m", generate=generate, opening="<think>")  # as DeepSeek-R1's template ends
    (answer,) = ask_turns(ThinkingSeparator(model), [Question("q", ("a", "b"))], lambda question: Sampling(9), 0)
    assert seen[1][1]["content"] == "Paris."
    assert answer.turns == ("Paris.", "") and answer.thinking == ("why", "so") and answer.is_cut
    plain = [{"role": PLAIN, "content": "2 + 2 ="}]  # no template, so nothing that it writes
    model.generate = lambda talks, sampling, seed, n=1: [[Response(" 4", True, 1)] for _ in talks]
    ((response,),) = ThinkingSeparator(model).generate([plain], Sampling(9), 0)
    assert (response.text, response.thinking) == (" 4", "")


def test_the_ledger_keeps_replies_as_they_came(tmp_path: Path) -> None:
    async def complete(request: Request) -> Reply:
        return Reply("<think>[[3]]</think>Rating: [[9]]", "stop", "j", 1, 1)

    judge: Any = SimpleNamespace(name="j", endpoint="e", model="j", complete=complete)
    request = Request("q", "turn1", ({"role": "user", "content": "x"},), 9)
    for _ in range(2):  # asked, then from the ledger
        (reply,) = ask(judge, [request], tmp_path / "l.sqlite", AskOptions())
        assert isinstance(reply, Reply) and (reply.text, reply.thinking) == ("Rating: [[9]]", "[[3]]")
        judgment = read_judgment(BENCHMARK, request, reply, MTBenchConfig())
        assert (judgment.verdict, judgment.thinking) == (9.0, "[[3]]")
    with Ledger(tmp_path / "l.sqlite") as ledger:
        assert ledger.get([reply.request])[reply.request].text.startswith("<think>")


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "thinking"])
def test_thinking_in_a_field_of_its_own(field: str) -> None:
    def body(text: str | None, finish: str) -> dict[str, object]:
        return {"choices": [{"message": {"content": text, field: "[[3]]"}, "finish_reason": finish}]}

    whole = separate_one(read_body(body("[[9]]", "stop"), ApiKey("K")))
    assert (whole.text, whole.thinking, whole.is_cut) == ("[[9]]", "[[3]]", False)
    cut = separate_one(read_body(body(None, "length"), ApiKey("K")))
    judgment = read_judgment(BENCHMARK, Request("q", "turn1", (), 9), cut, MTBenchConfig())
    assert (judgment.verdict, judgment.flags, judgment.thinking) == (None, (CUT,), "[[3]]")


@pytest.mark.parametrize("filler", ["\n", " ", "<|end|>", "<|end|> ", "<think>\n</think>\n", "[END FINAL RESPONSE]"])
def test_degenerate_answers_after_thinking_take_linear_time(filler: str) -> None:
    """32,768 line breaks behind a thinking took 13 seconds."""
    start = time.process_time()
    parts = separate("<think>x</think>a" + filler * 32_768 + "b")
    assert parts.answer.endswith("b") and separate("<think>x</think>a" + filler * 32_768).answer == "a"
    assert time.process_time() - start < 4
