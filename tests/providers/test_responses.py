"""OpenAI's Responses and Azure's deployments: what is sent, what comes back, and what they cannot say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from journeys.asking import KEY
from tidegate import (
    CallError,
    Completion,
    ConfigError,
    ContextLengthExceeded,
    Image,
    Message,
    RateLimited,
    Text,
    Thought,
    Tool,
    ToolCall,
    Usage,
)
from tidegate.chat.messages import Prompt
from tidegate.chat.request import ChatRequest
from tidegate.options import SecretStr
from tidegate.providers.base import Account
from tidegate.providers.registry import HOSTS
from tidegate.providers.responses import ResponsesProvider

ROOT = Account("openai-responses", "https://api.example.com/v1", SecretStr(KEY))
TIDE = Tool("tide", "High tide.", {"type": "object", "properties": {"port": {"type": "string"}}})


def sent(prompt: Prompt, **options: Any) -> dict[str, Any]:
    request = ChatRequest.build(prompt, **options)
    body: dict[str, Any] = json.loads(ResponsesProvider(ROOT).encode(request, "m", streamed=False).body)
    return body


def read(*output: dict[str, Any], **fields: Any) -> Completion:
    answer = {"id": "r", "status": "completed", "output": list(output), **fields}
    return ResponsesProvider(ROOT).decode(json.dumps(answer).encode(), "m")


def test_a_request_is_what_the_documentation_shows() -> None:
    body = sent(
        "Hi", system="Be brief.", max_tokens=20, temperature=0.5, top_p=0.9, logprobs=2, tools=[TIDE],
        tool_choice="tide", schema={"type": "object"}, reasoning="low",
    )  # fmt: skip
    assert body == {
        "model": "m", "store": False, "temperature": 0.5, "top_p": 0.9, "max_output_tokens": 20, "top_logprobs": 2,
        "input": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        "include": ["reasoning.encrypted_content", "message.output_text.logprobs"],
        "reasoning": {"effort": "low", "summary": "auto"}, "tool_choice": {"type": "function", "name": "tide"},
        "tools": [{"type": "function", "name": "tide", "description": "High tide.", "strict": False,
                   "parameters": dict(TIDE.parameters)}],
        "text": {"format": {"type": "json_schema", "name": "answer", "schema": {"type": "object"}, "strict": False}},
    }  # fmt: skip


def test_a_turn_is_the_items_that_it_was() -> None:
    thoughts = (
        Thought("Moon.", hidden="gAAA", id="rs_1", provider="openai-responses"),
        Thought("Never encrypted.", provider="openai-responses"),
    )
    turns = [
        Message("user", (Text("When?"), Image("https://x.example/a.png", "low"))),
        Message("assistant", (Text("I look."),), (ToolCall("a", "tide", "{}"),), thoughts=thoughts),
        Message("tool", "04:12", tool_call_id="a"),
    ]
    assert sent(turns)["input"] == [
        {"role": "user", "content": [
            {"type": "input_text", "text": "When?"},
            {"type": "input_image", "image_url": "https://x.example/a.png", "detail": "low"},
        ]},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Moon."}],
         "encrypted_content": "gAAA"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "I look."}]},
        {"type": "function_call", "call_id": "a", "name": "tide", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "a", "output": "04:12"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "words"),
    [({"stop": "x"}, "no stop sequences"), ({"seed": 1}, "no seed"), ({"reasoning": 500}, "by name")],
)
def test_what_it_cannot_do_is_said_and_not_dropped(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        sent("Hi", **options)


def test_items_of_every_kind_are_read() -> None:
    token = {"token": "It", "logprob": -0.1, "top_logprobs": [{"token": "He", "logprob": -3}]}
    note = {"type": "url_citation", "url": "https://a.example", "title": "A", "start_index": 0, "end_index": 2}
    done = read(
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Moon."}],
         "encrypted_content": "gAAA"},
        {"type": "web_search_call", "id": "ws", "status": "completed"},
        {"type": "message", "content": [
            {"type": "output_text", "text": "It comes.", "annotations": [note], "logprobs": [token]},
            {"type": "refusal", "refusal": "No more."},
        ]},
        usage={"input_tokens": 9, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 8,
               "output_tokens_details": {"reasoning_tokens": 3}},
    )  # fmt: skip
    assert (done.text, done.refusal, done.reasoning) == ("It comes.", "No more.", "Moon.")
    assert done.usage == Usage(9, 8, 4, 0, 3)
    [thought], [citation], [probable] = done.thoughts, done.citations, done.logprobs
    assert (thought.id, thought.hidden) == ("rs_1", "gAAA")
    assert (citation.source, citation.title, citation.end) == ("https://a.example", "A", 2)
    assert (probable.token, probable.alternatives) == ("It", (("He", -3.0),))


def test_a_failed_response_is_an_error() -> None:
    error = {"code": "context_length_exceeded", "message": "Too long"}
    with pytest.raises(ContextLengthExceeded):
        read(status="failed", error=error)


# Azure


def azure(base: str, key: str = KEY, **environ: str) -> Any:  # noqa: ANN401 (whatever speaks for it)
    return HOSTS["azure"].speak(Account("azure", base, SecretStr(key)), environ)


HI = ChatRequest.build("Hi", max_tokens=5)


@pytest.mark.parametrize(
    ("base", "environ", "path"),
    [
        ("https://h.example", {}, "/openai/deployments/my%20gpt/chat/completions?api-version=2024-10-21"),
        ("https://h.example/openai", {}, "/openai/deployments/my%20gpt/chat/completions?api-version=2024-10-21"),
        (
            "https://h.example",
            {"OPENAI_API_VERSION": "2025-04-01-preview"},
            "/openai/deployments/my%20gpt/chat/completions?api-version=2025-04-01-preview",
        ),
        ("https://h.example/openai/v1", {}, "/openai/v1/chat/completions"),
    ],
)
def test_a_deployment_is_part_of_the_path(base: str, environ: dict[str, str], path: str) -> None:
    request = azure(base, **environ).encode(HI, "my gpt", streamed=False)
    assert request.url == f"https://h.example{path}"
    assert json.loads(request.body)["max_completion_tokens"] == 5


def test_a_key_and_a_token_have_each_their_header() -> None:
    bearer = "eyJhbGciOi.eyJhdWQi.c2lnbmF0dXJl"
    by_key = azure("https://h.example").encode(HI, "m", streamed=False).headers
    by_token = azure("https://h.example", bearer).encode(HI, "m", streamed=False).headers
    assert (by_key["api-key"], by_key.get("Authorization")) == (KEY, None)
    assert (by_token.get("api-key"), by_token["Authorization"]) == (None, f"Bearer {bearer}")


def test_a_version_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="OPENAI_API_VERSION"):
        azure("https://h.example", OPENAI_API_VERSION="2024 10")


@pytest.mark.parametrize(
    ("headers", "seconds"), [({}, 86_400), ({"retry-after": "3"}, 3), ({"retry-after-ms": "1500"}, 1.5)]
)
def test_how_long_to_wait_may_stand_in_words(headers: dict[str, str], seconds: float) -> None:
    body = {"error": {"code": "429", "message": "Exceeded token rate limit. Please retry after 86400 seconds."}}
    error: CallError = azure("https://h.example").refusal(429, headers, json.dumps(body).encode(), 0)
    assert (type(error), error.retry_after) == (RateLimited, seconds)
