"""A complete reply in the wrappings that gateways give it, and what a body's counters say of its cost."""

import json

import pytest

from harness.api_key import ApiKey
from harness.contracts.judge import JudgeError
from judges.kinds.openai.bodies import token_counts
from judges.kinds.openai.responses import read_body

KEY = ApiKey("JUDGE_KEY")


def completion(content, **choice):
    return {"model": "m", "choices": [{"message": {"content": content}, "finish_reason": "stop", **choice}]}


def events(*chunks, end="data: [DONE]\n\n"):
    return "".join(f"data: {json.dumps(chunk)}\r\n\r\n" for chunk in chunks) + end


PLAIN = completion("Good. [[8]]")
DELTAS = [
    {"model": "m", "choices": [{"delta": {"role": "assistant", "content": "Good. "}}]},
    {"choices": [{"delta": {"content": "[[8]]"}, "finish_reason": "stop"}]},
    {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}},
]


@pytest.mark.parametrize(
    "body",
    [
        PLAIN,
        json.dumps(PLAIN),  # labelled text/plain
        "\ufeff\n" + json.dumps(PLAIN),
        json.dumps(PLAIN).encode(),
        json.dumps(json.dumps(PLAIN)),
        [PLAIN],
        {"success": True, "errors": [], "result": PLAIN},
        {"data": PLAIN},
        ": KEEP-ALIVE\n\n: KEEP-ALIVE\n\n" + json.dumps(PLAIN),
        "\n".join(map(json.dumps, DELTAS)),  # one object a line
        "\n".join(
            json.dumps({"model": "m", "message": {"content": text}, "done": not text, "prompt_eval_count": 3})
            for text in ("Good. ", "[[8]]", "")
        ),
        completion(json.dumps([{"type": "thinking", "thinking": "[[3]]"}, {"type": "text", "text": "Good. [[8]]"}])),
        completion(str([{"type": "thinking", "thinking": "[[3]]"}, {"type": "text", "text": "Good. [[8]]"}])),
        {"model": "m", "message": {"content": [{"type": "text", "text": "Good. [[8]]"}]}, "finish_reason": "stop"},
        {"model": "m", "output": {"message": {"content": [{"text": "Good. [[8]]"}]}}, "stopReason": "stop"},
        ": ping\n\n" + events(*DELTAS),
        {"model": "m", "choices": [{"text": "Good. [[8]]", "finish_reason": "stop"}]},
        completion([{"type": "text", "text": "Good. "}, {"type": "text", "text": "[[8]]"}]),
        completion([{"type": "thinking", "thinking": [{"type": "text", "text": "[[2]]?"}]},
                    {"type": "text", "text": "Good. [[8]]"}]),
        completion([{"type": "reasoning", "summary": [{"type": "summary_text", "text": "[[2]]?"}]},
                    {"type": "redacted_thinking", "data": "c2VjcmV0"},
                    {"type": "output_text", "text": "Good. [[8]]", "annotations": []}]),
        completion({"parts": [{"text": "[[2]]?", "thought": True}, {"text": "Good. [[8]]"}]}),
        completion({"type": "text", "text": {"value": "Good. [[8]]"}}),
        completion(["Good. ", "[[8]]"]),
        completion([{"reasoningContent": {"reasoningText": {"text": "[[2]]?"}}}, {"text": "Good. [[8]]"}]),
        completion([{"type": "reasoning.text", "text": "[[2]]?"}, {"type": "text", "text": "Good. [[8]]"}]),
        completion([{"type": "summary_text", "text": "[[2]]?"}, {"type": "text", "text": "Good. [[8]]"}]),
        completion([{"type": "text", "text": None}, {"type": "text", "text": "Good. [[8]]"},
                    {"type": "tool_use", "id": "x", "input": {}}]),
        {"data": json.dumps({"result": [PLAIN]})},
        {"model": "m", "choices": PLAIN["choices"][0]},
        {"model": "m", "choices": [{"message": "Good. [[8]]", "finish_reason": "stop"}]},
        {"model": "m", "message": {"content": "Good. [[8]]", "thinking": "[[2]]?"},
         "done": True, "done_reason": "stop"},
        {"model": "m", "stop_reason": "stop", "content": [{"type": "thinking", "thinking": "[[2]]?"},
                                                          {"type": "text", "text": "Good. [[8]]"}]},
        {"model": "m", "candidates": [{"content": {"parts": [{"text": "[[2]]?", "thought": True},
                                                             {"text": "Good. [[8]]"}]}, "finishReason": "stop"}]},
        {"model": "m", "object": "response", "output": [
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "[[2]]?"}]},
            {"type": "message", "content": [{"type": "output_text", "text": "Good. [[8]]"}]}]},
    ],
)  # fmt: skip
def test_a_complete_reply_is_read_in_any_wrapping(body):
    reply = read_body(body, KEY)
    assert (reply.text, reply.finish_reason, reply.model) == ("Good. [[8]]", "stop", "m")


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning": {"content": "[[2]]?"}},
        {"provider_specific_fields": {"reasoning_content": "[[2]]?"}},
        {"reasoning_details": [{"type": "reasoning.text", "text": "[[2]]?"}]},
        {"thinking_blocks": [{"type": "thinking", "thinking": "[[2]]?", "signature": "c2lnbmVk"}]},
    ],
)
def test_thinking_beside_the_text_is_kept(fields):
    body = completion("[[8]]")
    body["choices"][0]["message"] |= fields
    reply = read_body(body, KEY)
    assert (reply.text, reply.thinking) == ("[[8]]", "[[2]]?")


def test_events_carry_counts_and_log_probabilities():
    token = {"token": "m", "logprob": -0.5, "top_logprobs": []}
    first = {"choices": [{"delta": {"content": "m"}, "logprobs": {"content": [token]}}]}
    reply = read_body(events(first, *DELTAS), KEY)
    assert (reply.text, reply.prompt_tokens, reply.completion_tokens) == ("mGood. [[8]]", 3, 4)
    assert reply.first_token == {"m": -0.5}


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (json.dumps(PLAIN)[:-9], "truncated"),
        (events(DELTAS[0], end=""), "truncated"),  # no finish reason, no end
        (events(DELTAS[0], end="data: {\n"), "truncated"),
        (events({"error": {"code": 429, "message": "slow down"}}), "rate-limit"),
        (json.dumps({"error": {"code": 503, "message": "busy"}}), "server"),
        ([{"error": {"code": 429, "message": "Gemini's errors are lists"}}], "rate-limit"),
        ("Welcome to nginx!", "bad-reply"),
        (completion([{"type": "image_url", "image_url": {"url": "x"}}]), "bad-reply"),
        (completion([{"type": "thinking", "thinking": "Rating: [[8]]"}]), "empty"),
        (completion([{"type": "refusal", "refusal": "I cannot"}]), "refused"),
        (completion("", stop_reason="refusal"), "refused"),
        ({"object": "response", "output": [], "incomplete_details": {"reason": "content_filter"}}, "refused"),
        ({"choices": [], "promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}, "refused"),
    ],
)
def test_what_is_no_complete_reply_is_named(body, kind):
    with pytest.raises(JudgeError) as caught:
        read_body(body, KEY)
    assert caught.value.kind == kind


@pytest.mark.parametrize(
    "reason",
    ["content_filter", "refusal", "PROHIBITED_CONTENT", "content_filter: SAFETY", "RECITATION", "guardrail_intervened",
     "SPII", "BLOCKLIST", "sensitive"],
)  # fmt: skip
def test_stop_reasons_of_a_refusal(reason):
    for text in ("", "Rating: [["):
        with pytest.raises(JudgeError) as caught:
            read_body(completion(text, finish_reason=reason), KEY)
        assert caught.value.kind == "refused"
    with pytest.raises(JudgeError) as caught:
        read_body(completion("", native_finish_reason=reason), KEY)
    assert caught.value.kind == "refused"


@pytest.mark.parametrize("reason", ["length", "MAX_TOKENS", "max_output_tokens", "model_length"])
def test_stop_reasons_of_a_cut_reply_are_one(reason):
    assert read_body(completion("Half an ans", finish_reason=reason), KEY).finish_reason == "length"


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 1110}, (100, 1010)),
        ({"prompt_tokens": 100, "completion_tokens": 10,
          "completion_tokens_details": {"reasoning_tokens": 1000}}, (100, 1010)),
        # Both say it: counted once.
        ({"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 1110,
          "completion_tokens_details": {"reasoning_tokens": 1000}}, (100, 1010)),
        # OpenAI: the thoughts are a part of the completion.
        ({"prompt_tokens": 100, "completion_tokens": 1010, "total_tokens": 1110,
          "completion_tokens_details": {"reasoning_tokens": 1000}}, (100, 1010)),
        ({"input_tokens": 7, "output_tokens": 3}, (7, 3)),
        ({"prompt_tokens": 100, "completion_tokens": 10, "reasoning_tokens": 1000}, (100, 1010)),
        ({"promptTokenCount": 100, "candidatesTokenCount": 1000, "thoughtsTokenCount": 10}, (100, 1010)),
        ({"prompt_eval_count": 7, "eval_count": 3}, (7, 3)),
        ({"total_tokens": 50}, (0, 0)),
        ({"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 5}, (9, 3)),
        ({"prompt_tokens": 9, "completion_tokens": 3, "completion_tokens_details": [1]}, (9, 3)),
    ],
)  # fmt: skip
def test_thinking_that_only_the_total_counts_is_paid(usage, counted):
    assert token_counts(usage) == counted
