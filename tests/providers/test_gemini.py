"""Gemini: what is sent, what comes back, and what it cannot say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from journeys.asking import KEY
from tidegate import (
    AuthenticationFailed,
    BadRequest,
    CallError,
    Completion,
    ConfigError,
    ContentFiltered,
    ContextLengthExceeded,
    Image,
    Message,
    Overloaded,
    QuotaExhausted,
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
from tidegate.providers.gemini import MADE_ID, UNSIGNED, GeminiProvider, read_usage

MODEL = "gemini-next"
ROOT = Account("gemini", "https://api.example.com", SecretStr(KEY))
TIDE = Tool("tide", "High tide.", {"type": "object", "properties": {"port": {"type": "string"}}})


def sent(prompt: Prompt, model: str = MODEL, **options: Any) -> dict[str, Any]:
    request = ChatRequest.build(prompt, **options)
    body: dict[str, Any] = json.loads(GeminiProvider(ROOT).encode(request, model, streamed=False).body)
    return body


def read(*parts: dict[str, Any], **candidate: Any) -> Completion:
    answer = {"candidates": [{"content": {"parts": list(parts)}, "finishReason": "STOP", **candidate}]}
    return GeminiProvider(ROOT).decode(json.dumps(answer).encode(), MODEL)


# What is sent


def test_a_request_is_what_the_documentation_shows() -> None:
    body = sent(
        "Hi", system="Be brief.", max_tokens=20, temperature=0.5, top_p=0.9, stop=["END"], seed=3, logprobs=2,
        tools=[TIDE], tool_choice="tide", schema={"type": "object"}, reasoning="low",
    )  # fmt: skip
    assert body == {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
        "tools": [{"functionDeclarations": [
            {"name": "tide", "description": "High tide.", "parametersJsonSchema": dict(TIDE.parameters)},
        ]}],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["tide"]}},
        "generationConfig": {
            "temperature": 0.5, "topP": 0.9, "maxOutputTokens": 20, "stopSequences": ["END"], "seed": 3,
            "responseMimeType": "application/json", "responseJsonSchema": {"type": "object"},
            "responseLogprobs": True, "logprobs": 2,
            "thinkingConfig": {"thinkingLevel": "LOW", "includeThoughts": True},
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    ("base", "model", "path"),
    [
        ("https://h.example", "m", "/v1beta/models/m:generateContent"),
        ("https://h.example/v1", "m", "/v1/models/m:generateContent"),
        ("https://h.example", "tunedModels/m", "/v1beta/tunedModels/m:generateContent"),
        ("https://h.example", "m?key=x#y", "/v1beta/models/m%3Fkey%3Dx%23y:generateContent"),
    ],
)
def test_a_model_is_part_of_the_path_and_no_more(base: str, model: str, path: str) -> None:
    provider = GeminiProvider(Account("gemini", base, SecretStr(KEY)))
    url = provider.encode(ChatRequest.build("Hi"), model, streamed=False).url
    assert url.removeprefix("https://h.example") == path


def test_a_model_that_leads_elsewhere_is_refused() -> None:
    with pytest.raises(ConfigError, match="no model's name"):
        sent("Hi", "models/../../secrets")


def test_options_go_into_the_object_that_is_there() -> None:
    body = sent("Hi", temperature=0.5, options={"generationConfig": {"topK": 5}, "safetySettings": []})
    assert body["generationConfig"] == {"temperature": 0.5, "topK": 5}
    assert body["safetySettings"] == []


def test_calls_and_their_results_go_by_their_names() -> None:
    calls = (
        ToolCall("own", "tide", '{"port": "Emden"}', signature="sig"),
        ToolCall(f"{MADE_ID}r-1", "now", "[1]"),
    )
    body = sent(
        [
            Message("user", "When?"),
            Message("assistant", "", calls),
            Message("tool", '{"at": "04:12"}', tool_call_id="own"),
            Message("tool", "no clock", tool_call_id=f"{MADE_ID}r-1", failed=True),
            Message("user", "And?"),
        ]
    )
    assert body["contents"][1:] == [
        {"role": "model", "parts": [
            {"functionCall": {"id": "own", "name": "tide", "args": {"port": "Emden"}}, "thoughtSignature": "sig"},
            {"functionCall": {"name": "now", "args": {"invalid_json": "[1]"}}},
        ]},
        {"role": "user", "parts": [
            {"functionResponse": {"id": "own", "name": "tide", "response": {"at": "04:12"}}},
            {"functionResponse": {"name": "now", "response": {"error": "no clock"}}},
        ]},
        {"role": "user", "parts": [{"text": "And?"}]},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("model", "signed"), [(MODEL, True), ("gemini-3-pro-preview", True), ("gemini-2.5-pro", False)]
)
def test_calls_of_another_provider_are_marked_as_such(model: str, *, signed: bool) -> None:
    calls = (ToolCall("toolu_1", "tide"), ToolCall("toolu_2", "tide"))
    parts = sent([Message("user", "?"), Message("assistant", "I look.", calls)], model)["contents"][1]["parts"]
    assert [part.get("thoughtSignature") for part in parts] == [None, UNSIGNED if signed else None, None]


@pytest.mark.parametrize("text", ["12", "[1]", '"x"', "no json"])
def test_a_result_that_is_no_object_is_put_into_one(text: str) -> None:
    turns = [
        Message("user", "?"),
        Message("assistant", "", (ToolCall("c", "t"),)),
        Message("tool", text, tool_call_id="c"),
    ]
    assert sent(turns)["contents"][-1]["parts"][0]["functionResponse"]["response"] == {"result": text}


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ([Message("user", "Hi"), Message("tool", "x", tool_call_id="c")], "wants the name of the tool"),
        ([Message("user", "Hi"), Message("system", "x")], "system messages before all others"),
        (Message("user", (Image("https://x.example/a.png"),)), "fetches no pictures"),
        (Message("user", (Image("data:image/png;base64,QQ==", "high"),)), "detail"),
        (
            [
                Message("user", "Hi"),
                Message("tool", (Image("data:image/png;base64,QQ=="),), tool_call_id="c", name="t"),
            ],
            "no pictures in a tool's result",
        ),
    ],
)
def test_what_it_cannot_do_is_said_and_not_dropped(prompt: Prompt, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        sent(prompt)


def test_pictures_are_sent_whole_or_by_what_it_fetches() -> None:
    own = "https://generativelanguage.googleapis.com/v1beta/files/abc"
    [turn] = sent(Message("user", (Text("Look"), Image("data:image/png;base64,QUJD"), Image(own))))["contents"]
    assert turn["parts"] == [
        {"text": "Look"},
        {"inlineData": {"mimeType": "image/png", "data": "QUJD"}},
        {"fileData": {"fileUri": own}},
    ]


@pytest.mark.parametrize(
    ("model", "reasoning", "config"),
    [
        (MODEL, "none", {"thinkingBudget": 0, "includeThoughts": False}),
        (MODEL, "high", {"thinkingLevel": "HIGH", "includeThoughts": True}),
        (MODEL, 2_000, {"thinkingBudget": 2_000, "includeThoughts": True}),
        ("gemini-2.5-flash", "medium", {"thinkingBudget": 8_192, "includeThoughts": True}),
    ],
)
def test_how_much_to_think_is_said_as_the_model_wants_it(
    model: str, reasoning: str | int, config: dict[str, Any]
) -> None:
    assert sent("Hi", model, reasoning=reasoning)["generationConfig"]["thinkingConfig"] == config


def test_a_signature_goes_back_on_the_text_it_came_with() -> None:
    done = read({"text": "Moon.", "thought": True}, {"text": "So.", "thoughtSignature": "sig"})
    assert (done.text, done.reasoning) == ("So.", "Moon.")
    body = sent([Message("user", "Why?"), done.message])
    assert body["contents"][1] == {"role": "model", "parts": [{"text": "So.", "thoughtSignature": "sig"}]}
    foreign = Message("assistant", "So.", thoughts=(Thought("x", "sig", provider="anthropic"),))
    assert sent([Message("user", "Why?"), foreign])["contents"][1] == {"role": "model", "parts": [{"text": "So."}]}


# What comes back


def test_a_call_without_an_id_gets_one_that_stays_the_same() -> None:
    call = {"functionCall": {"name": "tide"}}
    done = read(call, {"functionCall": {"name": "tide", "args": {"port": "Emden"}}})
    assert [(found.name, found.parsed()) for found in done.tool_calls] == [("tide", {}), ("tide", {"port": "Emden"})]
    assert len({found.id for found in done.tool_calls}) == 2
    assert done.finish_reason == "tool_calls"
    assert done.tool_calls == read(call, {"functionCall": {"name": "tide", "args": {"port": "Emden"}}}).tool_calls


def test_citations_and_probabilities_are_read() -> None:
    done = read(
        {"text": "It comes twice a day."},
        citationMetadata={"citationSources": [{"startIndex": 3, "endIndex": 8, "uri": "https://a.example"}]},
        groundingMetadata={
            "groundingChunks": [{"web": {"uri": "https://b.example", "title": "B"}}],
            "groundingSupports": [
                {"segment": {"endIndex": 21, "text": "It comes twice a day."}, "groundingChunkIndices": [0, 9]}
            ],
        },
        logprobsResult={
            "chosenCandidates": [{"token": "It", "logProbability": -0.1}],
            "topCandidates": [
                {"candidates": [{"token": "It", "logProbability": -0.1}, {"token": "He", "logProbability": -3}]}
            ],
        },
    )
    assert [(found.start, found.end, found.source) for found in done.citations] == [
        (3, 8, "https://a.example"), (0, 21, "https://b.example"), (0, 21, None),
    ]  # fmt: skip
    [token] = done.logprobs
    assert (token.token, token.logprob, token.alternatives) == ("It", -0.1, (("It", -0.1), ("He", -3.0)))


@pytest.mark.parametrize(
    ("usage", "means"),
    [
        (
            {"promptTokenCount": 9, "cachedContentTokenCount": 4, "toolUsePromptTokenCount": 2,
             "candidatesTokenCount": 5, "thoughtsTokenCount": 7, "totalTokenCount": 23},
            Usage(11, 12, 4, 0, 7),
        ),
        ({"promptTokenCount": 9}, Usage(9, 0)),
        ({}, None),
    ],
)  # fmt: skip
def test_thoughts_are_counted_with_the_answer(usage: object, means: Usage | None) -> None:
    assert read_usage(usage) == means


def test_a_question_that_is_blocked_is_refused() -> None:
    body = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 3}}
    with pytest.raises(ContentFiltered, match="SAFETY"):
        GeminiProvider(ROOT).decode(json.dumps(body).encode(), MODEL)


@pytest.mark.parametrize("reason", ["SAFETY", "RECITATION", "PROHIBITED_CONTENT", "SPII", "BLOCKLIST"])
def test_an_answer_that_is_filtered_says_so(reason: str) -> None:
    done = read(finishReason=reason, finishMessage="Not this.")
    assert (done.finish_reason, done.complete, done.refusal) == ("content_filter", "no", "Not this.")


# Errors


def refused(status: int, word: str, message: str, *details: dict[str, Any]) -> CallError:
    body = {"error": {"code": status, "message": message, "status": word, "details": list(details)}}
    return GeminiProvider(ROOT).refusal(status, {}, json.dumps(body).encode(), 0)


RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "26.5s"}


def quota(quota_id: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": quota_id}]}


def test_how_long_to_wait_stands_in_the_body() -> None:
    error = refused(429, "RESOURCE_EXHAUSTED", "Quota", quota("GenerateRequestsPerMinutePerProject"), RETRY)
    assert type(error) is RateLimited
    assert error.retry_after == 26.5


def test_a_days_quota_is_not_waited_for() -> None:
    error = refused(429, "RESOURCE_EXHAUSTED", "Quota", RETRY, quota("GenerateRequestsPerDayPerProjectPerModel"))
    assert type(error) is QuotaExhausted
    assert not error.retryable


@pytest.mark.parametrize(
    ("status", "word", "message", "means"),
    [
        (400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", AuthenticationFailed),
        (400, "INVALID_ARGUMENT", "The input token count (9) exceeds the maximum number of tokens allowed (8).",
         ContextLengthExceeded),
        (400, "INVALID_ARGUMENT", "Unknown name", BadRequest),
        (503, "UNAVAILABLE", "The model is overloaded.", Overloaded),
    ],
)  # fmt: skip
def test_a_refusal_means_what_it_says(status: int, word: str, message: str, means: type[CallError]) -> None:
    assert type(refused(status, word, message)) is means


def test_an_error_may_come_in_a_list() -> None:
    body = [{"error": {"code": 429, "message": "Quota", "status": "RESOURCE_EXHAUSTED", "details": [RETRY]}}]
    with pytest.raises(RateLimited) as caught:
        GeminiProvider(ROOT).decode(json.dumps(body).encode(), MODEL)
    assert caught.value.retry_after == 26.5
    error = GeminiProvider(ROOT).refusal(429, {}, json.dumps(body).encode(), 0)
    assert (type(error), error.retry_after) == (RateLimited, 26.5)


# Counting


def test_tokens_are_counted_at_its_own_endpoint() -> None:
    provider = GeminiProvider(ROOT)
    request = provider.encode_count(ChatRequest.build("Hi", system="S"), "m")
    assert request.url.endswith("/v1beta/models/m:countTokens")
    assert json.loads(request.body) == {
        "generateContentRequest": {
            "model": "models/m",
            "systemInstruction": {"parts": [{"text": "S"}]},
            "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
        }
    }
    assert provider.decode_count(b'{"totalTokens": 31}') == 31
    with pytest.raises(CallError, match="totalTokens"):
        provider.decode_count(b'{"totalTokens": -1}')
