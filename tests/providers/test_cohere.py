"""Cohere's chat: what is sent, what comes back, and what it cannot say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from journeys.asking import KEY
from tidegate import (
    BadRequest,
    CallError,
    Completion,
    ConfigError,
    ContextLengthExceeded,
    Image,
    Message,
    ProviderUnavailable,
    QuotaExhausted,
    RateLimited,
    Thought,
    Tool,
    ToolCall,
    Usage,
)
from tidegate.chat.messages import Prompt
from tidegate.chat.request import ChatRequest
from tidegate.options import SecretStr
from tidegate.providers.base import Account
from tidegate.providers.cohere import PLAN, CohereProvider, CohereStreamDecoder, read_usage

MODEL = "command-next"
ROOT = Account("cohere", "https://api.example.com", SecretStr(KEY))
TIDE = Tool("tide", "High tide.", {"type": "object", "properties": {"port": {"type": "string"}}})
NOW = Tool("now")


def sent(prompt: Prompt, **options: Any) -> dict[str, Any]:
    request = ChatRequest.build(prompt, **options)
    body: dict[str, Any] = json.loads(CohereProvider(ROOT).encode(request, MODEL, streamed=False).body)
    return body


def read(message: object, **fields: Any) -> Completion:
    answer = {"id": "c", "finish_reason": "COMPLETE", "message": message, **fields}
    return CohereProvider(ROOT).decode(json.dumps(answer).encode(), MODEL)


def streamed(*events: dict[str, Any]) -> CohereStreamDecoder:
    decoder = CohereProvider(ROOT).stream_decoder(MODEL)
    for each in events:
        decoder.feed(each["type"], json.dumps(each))
    return decoder


def test_a_request_is_what_the_documentation_shows() -> None:
    body = sent(
        "Hi", system="Be brief.", max_tokens=20, temperature=0.5, top_p=0.9, stop=["END"], seed=3, logprobs=0,
        schema={"type": "object"}, reasoning=700,
    )  # fmt: skip
    assert body == {
        "model": MODEL, "stream": False, "temperature": 0.5, "p": 0.9, "max_tokens": 20, "stop_sequences": ["END"],
        "seed": 3, "logprobs": True, "thinking": {"type": "enabled", "token_budget": 700},
        "response_format": {"type": "json_object", "json_schema": {"type": "object"}},
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
    }  # fmt: skip


@pytest.mark.parametrize("base", ["https://api.example.com", "https://api.example.com/v2"])
def test_an_address_may_have_its_version(base: str) -> None:
    provider = CohereProvider(Account("cohere", base, SecretStr(KEY)))
    assert provider.encode(ChatRequest.build("Hi"), MODEL, streamed=False).url == "https://api.example.com/v2/chat"


@pytest.mark.parametrize(
    ("choice", "names", "said"),
    [
        (None, ["tide", "now"], None),
        ("auto", ["tide", "now"], None),
        ("none", ["tide", "now"], "NONE"),
        ("required", ["tide", "now"], "REQUIRED"),
        ("now", ["now"], "REQUIRED"),
    ],
)
def test_one_tool_is_chosen_by_leaving_the_others_out(choice: str | None, names: list[str], said: str | None) -> None:
    body = sent("Hi", tools=[TIDE, NOW], tool_choice=choice)
    assert [tool["function"]["name"] for tool in body["tools"]] == names
    assert body.get("tool_choice") == said


def test_beside_tools_a_schema_is_said_in_words() -> None:
    body = sent("Hi", tools=[TIDE], schema={"type": "object", "properties": {"high": {"type": "integer"}}})
    assert "response_format" not in body
    assert '"high"' in body["messages"][0]["content"]


def test_a_turn_with_calls_has_its_plan_and_its_thoughts() -> None:
    thoughts = (
        Thought("I look it up.", id=PLAN, provider="cohere"),
        Thought("Moon.", provider="cohere"),
        Thought("Not ours.", provider="gemini"),
    )
    turns = [
        Message("user", "When?"),
        Message("assistant", "", (ToolCall("a", "tide", '{"port": "Emden"}'),), thoughts=thoughts),
        Message("tool", "04:12", tool_call_id="a"),
    ]
    assert sent(turns)["messages"][1:] == [
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "Moon."}], "tool_plan": "I look it up.",
         "tool_calls": [
             {"id": "a", "type": "function", "function": {"name": "tide", "arguments": '{"port": "Emden"}'}},
        ]},
        {"role": "tool", "tool_call_id": "a", "content": "04:12"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("prompt", "options", "words"),
    [
        ("Hi", {"logprobs": 3}, "say `logprobs=0`"),
        ("Hi", {"reasoning": "low"}, "`none`, `high` or a number"),
        (
            [Message("user", "?"), Message("tool", (Image("https://x.example/a.png"),), tool_call_id="c")],
            {},
            "no pictures in a tool's result",
        ),
    ],
)
def test_what_it_cannot_do_is_said_and_not_dropped(prompt: Prompt, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        sent(prompt, **options)


def test_citations_and_probabilities_are_read() -> None:
    document = {"type": "document", "id": "doc:0", "document": {"title": "Tides", "snippet": "Twice a day."}}
    cited = {"start": 3, "end": 8, "text": "comes", "sources": [document], "type": "TEXT_CONTENT"}
    probable = {"text": "It comes", "token_ids": [1, 2], "logprobs": [-0.1, -0.2]}
    done = read({"content": [{"type": "text", "text": "It comes."}], "citations": [cited]}, logprobs=[probable])
    started = streamed(
        {"type": "content-delta", "delta": {"message": {"content": {"text": "It comes."}}}, "logprobs": probable},
        {"type": "citation-start", "index": 0, "delta": {"message": {"citations": cited}}},
    )
    for found in (done, started.completion()):
        [citation] = found.citations
        assert (citation.text, citation.start, citation.end) == ("comes", 3, 8)
        assert (citation.source, citation.title, citation.quote) == ("doc:0", "Tides", "Twice a day.")
        assert [(token.token, token.logprob) for token in found.logprobs] == [("It comes", -0.1), ("", -0.2)]


@pytest.mark.parametrize("reason", ["ERROR", "TIMEOUT"])
def test_a_failure_inside_a_200_is_one(reason: str) -> None:
    with pytest.raises(ProviderUnavailable, match=f"{reason}.*broke"):
        read({"content": []}, finish_reason=reason, error="It broke")
    with pytest.raises(ProviderUnavailable, match=reason):
        streamed({"type": "message-end", "delta": {"finish_reason": reason}})


@pytest.mark.parametrize(
    ("usage", "means"),
    [
        ({"billed_units": {"input_tokens": 5, "output_tokens": 7}, "tokens": {"input_tokens": 71, "output_tokens": 9},
          "cached_tokens": 64}, Usage(5, 7, 5)),
        ({"billed_units": {"input_tokens": 5.0, "output_tokens": 7.0}}, Usage(5, 7)),
        ({"tokens": {"input_tokens": 71, "output_tokens": 9}, "cached_tokens": 64}, Usage(71, 9, 64)),
        ({"billed_units": {"search_units": 1}}, None),
        (None, None),
    ],
)  # fmt: skip
def test_what_is_billed_is_what_counts(usage: object, means: Usage | None) -> None:
    assert read_usage(usage) == means


@pytest.mark.parametrize(
    ("status", "message", "means"),
    [
        (400, "too many tokens: size limit exceeded by 3 tokens", ContextLengthExceeded),
        (429, "You are using a Trial key, which is limited to 1000 API calls / month", QuotaExhausted),
        (429, "You are using a Trial key, which is limited to 20 API calls / minute", RateLimited),
        (422, "invalid request: message is empty", BadRequest),
    ],
)
def test_a_refusal_means_what_it_says(status: int, message: str, means: type[CallError]) -> None:
    error = CohereProvider(ROOT).refusal(status, {}, json.dumps({"message": message}).encode(), 0)
    assert type(error) is means
