"""Anthropic's Messages: what is sent, what comes back, and what it cannot say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from journeys.asking import KEY, PATIENCE
from tidegate import (
    BadRequest,
    CallError,
    Client,
    Completion,
    ConfigError,
    ContextLengthExceeded,
    Image,
    Message,
    Overloaded,
    QuotaExhausted,
    Text,
    Thought,
    Tool,
    ToolCall,
    Usage,
)
from tidegate.chat.messages import Prompt
from tidegate.chat.request import ChatRequest
from tidegate.options import SecretStr
from tidegate.providers import embedded
from tidegate.providers.anthropic import FORCED, AnthropicProvider, AnthropicStreamDecoder, read_usage
from tidegate.providers.base import Account

NEW, OLD = "claude-next", "claude-sonnet-4-20250514"
"""A model that nobody knows yet, and one whose ways are known."""

ROOT = Account("anthropic", "https://api.example.com", SecretStr(KEY))
TIDE = Tool("tide", "High tide.", {"properties": {"port": {"type": "string"}}}, strict=True)
PORT = {"type": "object", "properties": {"port": {"type": "string", "maxLength": 9}}, "required": ["port"]}


def sent(prompt: Prompt, model: str = NEW, **options: Any) -> dict[str, Any]:
    request = ChatRequest.build(prompt, **options)
    body: dict[str, Any] = json.loads(AnthropicProvider(ROOT).encode(request, model, streamed=False).body)
    return body


def read(*blocks: Any, **fields: Any) -> Completion:
    answer = {"id": "msg_1", "type": "message", "content": list(blocks), "stop_reason": "end_turn", **fields}
    return AnthropicProvider(ROOT).decode(json.dumps(answer).encode(), NEW)


def streamed(*events: dict[str, Any]) -> AnthropicStreamDecoder:
    decoder = AnthropicProvider(ROOT).stream_decoder(NEW)
    for each in events:
        decoder.feed(each["type"], json.dumps(each))
    return decoder


# What is sent


def test_a_request_is_what_the_documentation_shows() -> None:
    request = AnthropicProvider(ROOT).encode(
        ChatRequest.build(
            "Hi", system="Be brief.", max_tokens=20, temperature=0.5, top_p=0.9, stop=["END"], tools=[TIDE],
            tool_choice="required",
        ),
        NEW,
        streamed=True,
    )  # fmt: skip
    assert request.url == "https://api.example.com/v1/messages"
    assert request.headers["anthropic-version"] == "2023-06-01"
    assert request.headers["x-api-key"] == KEY
    assert json.loads(request.body) == {
        "model": NEW, "max_tokens": 20, "system": "Be brief.", "stream": True, "temperature": 0.5, "top_p": 0.9,
        "messages": [{"role": "user", "content": "Hi"}], "stop_sequences": ["END"], "tool_choice": {"type": "any"},
        "tools": [{
            "name": "tide", "description": "High tide.", "strict": True,
            "input_schema": {"type": "object", "properties": {"port": {"type": "string"}}},
        }],
    }  # fmt: skip


@pytest.mark.parametrize("base", ["https://api.example.com", "https://api.example.com/v1"])
def test_an_address_may_have_its_version(base: str) -> None:
    provider = AnthropicProvider(Account("anthropic", base, SecretStr(KEY)))
    assert provider.encode(ChatRequest.build("Hi"), NEW, streamed=False).url == "https://api.example.com/v1/messages"


@pytest.mark.parametrize(
    ("model", "bound"), [(NEW, 8_192), ("claude-3-haiku-20240307", 4_096), ("claude-haiku-4-5", 8_192)]
)
def test_an_answer_is_bounded_though_nobody_bounds_it(model: str, bound: int) -> None:
    assert sent("Hi", model)["max_tokens"] == bound


def test_all_results_of_a_turns_calls_come_in_one_turn() -> None:
    calls = (ToolCall("a", "tide", '{"port": "Emden"}'), ToolCall("b", "tide", "{broken"))
    body = sent(
        [
            Message("user", "When?"),
            Message("assistant", "  ", calls),
            Message("tool", "04:12", tool_call_id="a"),
            Message("tool", (Text("No "), Text("such port.")), tool_call_id="b", failed=True),
            Message("user", "And now?"),
        ]
    )
    assert body["messages"][1:] == [
        {"role": "assistant", "content": [
            {"type": "tool_use", "id": "a", "name": "tide", "input": {"port": "Emden"}},
            {"type": "tool_use", "id": "b", "name": "tide", "input": {"INVALID_JSON": "{broken"}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "a", "content": "04:12"},
            {"type": "tool_result", "tool_use_id": "b", "is_error": True,
             "content": [{"type": "text", "text": "No "}, {"type": "text", "text": "such port."}]},
            {"type": "text", "text": "And now?"},
        ]},
    ]  # fmt: skip


def test_thoughts_go_back_as_they_came_and_first() -> None:
    thoughts = (
        Thought("Moon.", "sig", provider="anthropic"),
        Thought(hidden="xyz", provider="anthropic"),
        Thought("Never signed.", provider="anthropic"),
        Thought("Somebody else's.", "sig", provider="gemini"),
    )
    [turn] = sent([Message("user", "Why?"), Message("assistant", "So.", thoughts=thoughts)])["messages"][1:]
    assert turn["content"] == [
        {"type": "thinking", "thinking": "Moon.", "signature": "sig"},
        {"type": "redacted_thinking", "data": "xyz"},
        {"type": "text", "text": "So."},
    ]


def test_pictures_are_sent_by_their_address_or_whole() -> None:
    pictures = (Image("https://x.example/a.png"), Image("data:image/PNG;base64,QUJD", "auto"))
    [turn] = sent(Message("user", pictures))["messages"]
    assert [part["source"] for part in turn["content"]] == [
        {"type": "url", "url": "https://x.example/a.png"},
        {"type": "base64", "media_type": "image/png", "data": "QUJD"},
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seed": 1}, "no seed"),
        ({"logprobs": 0}, "no probabilities"),
        ({"temperature": 1.5}, "from 0 to 1"),
        ({"reasoning": 500}, "1,024 tokens at least"),
        ({"reasoning": 2_000, "max_tokens": 2_000}, "leaves nothing to answer with"),
    ],
)
def test_what_it_cannot_do_is_said_and_not_dropped(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        sent("Hi", **options)


def test_what_is_said_to_no_one_amid_the_turns_is_refused() -> None:
    with pytest.raises(ConfigError, match="system messages before all others"):
        sent([Message("user", "Hi"), Message("system", "Be brief.")])
    with pytest.raises(ConfigError, match="detail"):
        sent(Message("user", (Image("https://x.example/a.png", "low"),)))


# Thinking and schemas, as each model wants them


@pytest.mark.parametrize(
    ("model", "reasoning", "thinking", "effort"),
    [
        (NEW, "none", {"type": "disabled"}, None),
        (NEW, "high", {"type": "adaptive"}, "high"),
        (NEW, "minimal", {"type": "adaptive"}, "low"),
        (NEW, 5_000, {"type": "enabled", "budget_tokens": 5_000}, None),
        (OLD, "medium", {"type": "enabled", "budget_tokens": 4_096}, None),
    ],
)
def test_how_much_to_think_is_said_as_the_model_wants_it(
    model: str, reasoning: str | int, thinking: dict[str, Any], effort: str | None
) -> None:
    body = sent("Hi", model, reasoning=reasoning)
    assert body["thinking"] == thinking
    assert body.get("output_config", {}).get("effort") == effort
    assert body["max_tokens"] > thinking.get("budget_tokens", 0)


def test_a_schema_is_closed_and_its_bounds_are_said_in_words() -> None:
    schema = {
        "type": "object",
        "properties": {
            "ports": {"type": "array", "minItems": 1, "maxItems": 3, "items": {"$ref": "#/$defs/Port"}},
            "minimum": {"type": "integer", "minimum": 0, "description": "A depth."},
            "kind": {"enum": [{"minimum": 1}]},
        },
        "$defs": {"Port": PORT},
    }
    body = sent("Hi", schema=schema)
    found = body["output_config"]["format"]["schema"]
    assert found["additionalProperties"] is False
    assert found["properties"]["ports"] == {
        "type": "array", "minItems": 1, "items": {"$ref": "#/$defs/Port"}, "description": "(maxItems: 3)",
    }  # fmt: skip
    assert found["properties"]["minimum"] == {"type": "integer", "description": "A depth. (minimum: 0)"}
    assert found["properties"]["kind"] == {"enum": [{"minimum": 1}]}
    assert found["$defs"]["Port"]["additionalProperties"] is False
    assert schema["properties"]["ports"]["maxItems"] == 3  # type: ignore[index]  # the caller's own is left alone


def test_an_older_model_is_made_to_call_a_tool_and_nobody_notices() -> None:
    body = sent("Hi", OLD, schema=PORT)
    assert body["tool_choice"] == {"type": "tool", "name": FORCED}
    assert body["tools"][0]["input_schema"] == PORT
    assert "output_config" not in body
    done = read({"type": "tool_use", "id": "t", "name": FORCED, "input": {"port": "Emden"}}, stop_reason="tool_use")
    assert (json.loads(done.text), done.tool_calls, done.finish_reason) == ({"port": "Emden"}, (), "stop")
    block = {"type": "tool_use", "id": "t", "name": FORCED, "input": {}}
    decoder = streamed(
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": '{"port": '}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": '"Emden"}'}},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 3}},
    )
    done = decoder.completion()
    assert (done.text, done.tool_calls, done.finish_reason) == ('{"port": "Emden"}', (), "stop")


@pytest.mark.parametrize("options", [{"tools": [TIDE]}, {"reasoning": 2_000}])
def test_where_no_tool_can_be_forced_the_schema_is_said_in_words(options: dict[str, Any]) -> None:
    body = sent("Hi", OLD, schema=PORT, system="Be brief.", **options)
    assert body["system"].startswith("Be brief.\n\nAnswer with one JSON value")
    assert '"port"' in body["system"]
    assert "tool_choice" not in body
    assert "output_config" not in body


def test_a_schema_of_any_keys_cannot_be_closed() -> None:
    body = sent("Hi", schema={"type": "object", "additionalProperties": {"type": "integer"}})
    assert body["tool_choice"] == {"type": "tool", "name": FORCED}


# What comes back


def test_blocks_of_every_kind_are_read() -> None:
    cited = {"type": "char_location", "cited_text": "twice a day", "document_index": 0, "document_title": "Tides",
             "start_char_index": 3, "end_char_index": 14}  # fmt: skip
    done = read(
        {"type": "thinking", "thinking": "Moon.", "signature": "sig"},
        {"type": "redacted_thinking", "data": "xyz"},
        {"type": "text", "text": "It comes "},
        {"type": "text", "text": "twice a day.", "citations": [cited]},
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
        {"type": "brand_new", "text": "?"},
    )
    assert done.text == "It comes twice a day."
    assert done.reasoning == "Moon."
    assert [(thought.text, thought.signature, thought.hidden) for thought in done.thoughts] == [
        ("Moon.", "sig", None), ("", None, "xyz"),
    ]  # fmt: skip
    [citation] = done.citations
    assert (citation.text, citation.start, citation.end) == ("twice a day.", 9, 21)
    assert (citation.source, citation.title, citation.quote) == ("Tides", "Tides", "twice a day")


def test_a_citation_of_a_stream_is_read() -> None:
    web = {"type": "web_search_result_location", "url": "https://t.example", "title": "T", "cited_text": "Twice."}
    decoder = streamed(
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "", "citations": []}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "citations_delta", "citation": web}},
    )
    [citation] = decoder.completion().citations
    assert (citation.source, citation.quote) == ("https://t.example", "Twice.")


def test_a_refusal_says_why() -> None:
    done = read(stop_reason="refusal", stop_details={"type": "refusal", "category": "bio", "explanation": "No."})
    assert (done.finish_reason, done.refusal, done.complete) == ("content_filter", "No.", "no")


@pytest.mark.parametrize(
    ("reason", "means"),
    [
        ("stop_sequence", "stop"),
        ("model_context_window_exceeded", "length"),
        ("pause_turn", "pause_turn"),
        (None, None),
    ],
)
def test_reasons_are_said_in_the_words_of_all(reason: str | None, means: str | None) -> None:
    assert read(stop_reason=reason).finish_reason == means


@pytest.mark.parametrize(
    ("usage", "means"),
    [
        (
            {"input_tokens": 3, "cache_creation_input_tokens": 4, "cache_read_input_tokens": 5, "output_tokens": 9,
             "output_tokens_details": {"thinking_tokens": 6}},
            Usage(12, 9, 5, 4, 6),
        ),
        ({"input_tokens": 3, "output_tokens": 0, "cache_read_input_tokens": None}, Usage(3, 0)),
        ({"output_tokens": 2}, Usage(0, 2)),
        ({}, None),
        (None, None),
    ],
)  # fmt: skip
def test_usage_adds_what_the_cache_read_and_wrote(usage: object, means: Usage | None) -> None:
    assert read_usage(usage) == means


def test_figures_of_a_stream_are_cumulative() -> None:
    first = {"input_tokens": 10, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 0, "output_tokens": 1}
    decoder = streamed(
        {"type": "message_start", "message": {"id": "m", "model": "claude-x", "usage": first}},
        {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 8}},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn"},
            "usage": {"output_tokens": 21, "input_tokens": 12},
        },
    )
    assert decoder.completion().usage == Usage(17, 21, 5)
    assert (decoder.finished, decoder.settled) == (True, False)
    decoder.feed("message_stop", '{"type": "message_stop"}')
    assert decoder.settled


def test_a_call_without_arguments_has_empty_ones() -> None:
    block = {"type": "tool_use", "id": "t", "name": "now", "input": {}}
    decoder = streamed(
        {"type": "content_block_start", "index": 1, "content_block": block},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": ""}},
    )
    assert decoder.completion().tool_calls == (ToolCall("t", "now", "{}"),)


# Errors


@pytest.mark.parametrize(
    ("kind", "message", "means"),
    [
        ("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum", ContextLengthExceeded),
        ("invalid_request_error", "Your credit balance is too low to access the API.", QuotaExhausted),
        ("invalid_request_error", "max_tokens: Field required", BadRequest),
        ("overloaded_error", "Overloaded", Overloaded),
        ("enforced_spend_limit_reached", "Limit", QuotaExhausted),
    ],
)
def test_a_refusal_means_what_it_says(kind: str, message: str, means: type[CallError]) -> None:
    body = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_7"}
    error = AnthropicProvider(ROOT).refusal(400, {"request-id": "req_7"}, json.dumps(body).encode(), 0)
    assert type(error) is means
    assert error.request_id == "req_7"


def test_an_error_inside_a_200_is_one() -> None:
    body = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    with pytest.raises(Overloaded):
        AnthropicProvider(ROOT).decode(json.dumps(body).encode(), NEW)


# Counting


def test_tokens_are_counted_at_its_own_endpoint() -> None:
    provider = AnthropicProvider(ROOT)
    request = provider.encode_count(ChatRequest.build("Hi", system="S", tools=[TIDE], max_tokens=3, stop="x"), NEW)
    assert request.url.endswith("/v1/messages/count_tokens")
    assert set(json.loads(request.body)) == {"model", "messages", "system", "tools"}
    assert provider.decode_count(b'{"input_tokens": 14}') == 14
    with pytest.raises(CallError, match="no `input_tokens`"):
        provider.decode_count(b"{}")


# For real: the embedded server speaks Messages too


@pytest.mark.slow
def test_a_real_server_answers_streams_and_counts() -> None:
    model = f"anthropic/{embedded.MODEL_NAME}"
    asked: dict[str, Any] = {"system": "Be brief.", "max_tokens": 12, "temperature": 0}
    with Client(model, base_url=embedded.base_url(), timeout=PATIENCE) as client:
        done = client.complete("Say hello.", **asked)
        with client.stream("Say hello.", **asked) as answer:
            pieces = [piece.text for piece in answer if piece.text]
        asked.pop("max_tokens")
        counted = client.count_tokens("Say hello.", remote=True, system="Be brief.")
        told = client.complete(
            [Message("user", "Remember 7."), done.message, Message("user", "Which number?")], max_tokens=8
        )
    assert done.text
    assert done.finish_reason == "length"
    assert (done.complete, answer.completion.finish_reason) == ("no", "length")
    assert len(pieces) > 3
    assert "".join(pieces) == done.text  # the likeliest words, twice
    for each in (done, answer.completion):
        assert each.usage is not None
        assert (each.usage.input_tokens, each.usage.output_tokens) == (counted, 12)
    assert told.usage is not None
    assert told.usage.input_tokens > counted
