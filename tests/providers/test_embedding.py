"""Texts become vectors: in their order, in few requests, through everything that any call goes through."""

from __future__ import annotations

import base64
import json
import struct
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

from journeys.asking import KEY, PATIENCE
from support.fault_server import FaultServer, RecordedRequest, Step, error, json_reply
from support.llmock import LLMock
from tidegate import (
    Budget,
    BudgetExceeded,
    CallError,
    Cancelled,
    CancelToken,
    Client,
    ConfigError,
    MalformedResponse,
    Price,
    Retry,
    Usage,
)
from tidegate.embedding import MOST_BYTES, batches

Json = dict[str, Any]


def vector(text: str) -> list[float]:
    """One that its text can be told by."""
    return [float(len(text)), sum(map(ord, text)) / 1_000, -0.5]


def by_openai(body: Json) -> tuple[list[str], Json]:
    texts = body["input"]
    data = [{"object": "embedding", "index": index, "embedding": vector(text)} for index, text in enumerate(texts)]
    usage = {"prompt_tokens": 2 * len(texts), "total_tokens": 2 * len(texts)}
    return texts, {"object": "list", "model": "e-1", "data": data[::-1], "usage": usage}


def by_cohere(body: Json) -> tuple[list[str], Json]:
    texts = body["texts"]
    meta = {"api_version": {"version": "2"}, "billed_units": {"input_tokens": 2 * len(texts)}}
    return texts, {"id": "x", "texts": texts, "embeddings": {"float": [vector(text) for text in texts]}, "meta": meta}


def by_gemini(body: Json) -> tuple[list[str], Json]:
    texts = [each["content"]["parts"][0]["text"] for each in body["requests"]]
    return texts, {"embeddings": [{"values": vector(text)} for text in texts]}


ROWS: dict[str, tuple[Callable[[Json], tuple[list[str], Json]], str, int]] = {
    "openai": (by_openai, "/embeddings", 256),
    "mistral": (by_openai, "/embeddings", 256),
    "azure": (by_openai, "/openai/deployments/e-1/embeddings?api-version=2024-10-21", 256),
    "cohere": (by_cohere, "/v2/embed", 96),
    "gemini": (by_gemini, "/v1beta/models/e-1:batchEmbedContents", 100),
}
"""How each answers (https://platform.openai.com/docs/api-reference/embeddings, https://docs.cohere.com/v2/reference/embed,
https://ai.google.dev/api/embeddings), where it is asked, and how many texts it takes at once.
"""


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


def client_of(server: FaultServer, provider: str = "openai", **options: Any) -> Client:
    answer = ROWS[provider][0]
    server.on(lambda request: json_reply(answer(request.json)[1]))
    return Client(f"{provider}/e-1", **{"api_key": KEY, "base_url": server.url, "retry": None, **options})


@pytest.mark.parametrize("provider", ROWS)
def test_every_text_has_its_vector_in_its_place(server: FaultServer, provider: str) -> None:
    texts = [f"text {'x' * (number % 7)}{number}" for number in range(600)]
    _, path, most = ROWS[provider]
    with client_of(server, provider) as client:
        found = client.embed(texts)
    assert list(found) == [tuple(vector(text)) for text in texts]
    assert (len(found), found.dimensions, found[3], found.provider) == (600, 3, tuple(vector(texts[3])), provider)
    assert {request.path for request in server.requests} == {path}
    sizes = [len(ROWS[provider][0](request.json)[0]) for request in server.requests]
    assert max(sizes) == most
    assert len(sizes) == -(-600 // most)
    assert len(found.attempts) == len(sizes)
    assert found.usage is not None
    assert found.usage.estimated == (provider == "gemini")  # which gives no figures
    if provider != "gemini":
        assert found.usage == Usage(1_200, 0)


@pytest.mark.parametrize(
    ("provider", "options", "sent"),
    [
        ("openai", {"dimensions": 64}, {"dimensions": 64, "encoding_format": "float"}),
        ("mistral", {"dimensions": 64}, {"output_dimension": 64}),
        ("cohere", {}, {"input_type": "search_document", "embedding_types": ["float"]}),
        ("cohere", {"purpose": "query", "dimensions": 64}, {"input_type": "search_query", "output_dimension": 64}),
        ("openai", {"options": {"user": "u-1"}}, {"user": "u-1"}),
    ],
)
def test_what_is_wished_is_said_in_each_ones_words(
    server: FaultServer, provider: str, options: Json, sent: Json
) -> None:
    with client_of(server, provider) as client:
        client.embed("one text", **options)
    [request] = server.requests
    assert {name: request.json.get(name) for name in sent} == sent


def test_gemini_is_told_of_each_text(server: FaultServer) -> None:
    with client_of(server, "gemini") as client:
        client.embed(["a", "b"], purpose="similarity", dimensions=64)
    assert server.requests[0].json == {
        "requests": [
            {"model": "models/e-1", "taskType": "SEMANTIC_SIMILARITY", "outputDimensionality": 64,
             "content": {"parts": [{"text": text}]}}
            for text in ("a", "b")
        ]
    }  # fmt: skip


@pytest.mark.parametrize(
    ("texts", "options", "words"),
    [
        ([], {}, "no text"),
        (["a", ""], {}, "empty text .number 1"),
        (["a", 3], {}, "number 1 is `int`"),
        (7, {}, "not `int`"),
        (b"abc", {}, "not `bytes`"),
        (["a"], {"dimensions": 0}, "`dimensions`"),
        (["a"], {"purpose": "quary"}, "did you mean `query`"),
        (["a"], {"purpose": "query"}, "one kind of vector for all purposes"),
        (["a"], {"workers": 0}, "`workers`"),
        (["a"], {"options": {"model": "x"}}, "`options` may not set `model`"),
        (["a"], {"timeout": -1}, "`timeout`"),
    ],
)
def test_bad_input_is_named_and_nothing_is_sent(server: FaultServer, texts: Any, options: Json, words: str) -> None:  # noqa: ANN401
    with client_of(server) as client, pytest.raises(ConfigError, match=words):
        client.embed(texts, **options)
    assert server.requests == []


@pytest.mark.parametrize("provider", ["anthropic", "openai-responses", "local"])
def test_who_embeds_nothing_says_so(provider: str) -> None:
    model = "smollm2-135m-instruct" if provider == "local" else "m"
    key: Json = {} if provider == "local" else {"api_key": KEY}
    with Client(f"{provider}/{model}", **key) as client, pytest.raises(ConfigError, match="embeds no texts"):
        client.embed("a")


ODD: dict[str, tuple[str, Any]] = {
    "one too few": ("openai", {"data": [{"index": 0, "embedding": [1.0]}]}),
    "no list": ("openai", {"data": {"embedding": [1.0]}}),
    "nothing": ("openai", {}),
    "null": ("openai", None),
    "words": ("openai", {"data": [{"index": 0, "embedding": ["a"]}, {"index": 1, "embedding": ["b"]}]}),
    "no base64": ("openai", {"data": [{"index": 0, "embedding": "?"}, {"index": 1, "embedding": "?"}]}),
    "of two lengths": ("openai", {"data": [{"index": 0, "embedding": [1]}, {"index": 1, "embedding": [1, 2]}]}),
    "empty": ("gemini", {"embeddings": [{"values": []}, {"values": []}]}),
    "of another kind": ("cohere", {"embeddings": {"int8": [[1], [2]]}}),
    "truth values": ("cohere", {"embeddings": {"float": [[True], [False]]}}),
}


@pytest.mark.parametrize("what", ODD)
def test_vectors_that_are_none_are_a_typed_error(server: FaultServer, what: str) -> None:
    provider, body = ODD[what]
    with client_of(server, provider) as client:
        server.on(lambda _: json_reply(body))
        with pytest.raises(MalformedResponse):
            client.embed(["a", "b"])


def test_packed_vectors_are_read_too(server: FaultServer) -> None:
    packed = base64.b64encode(struct.pack("<3f", 1.5, -2.0, 0.25)).decode()
    with client_of(server) as client:
        server.on(lambda _: json_reply({"data": [{"index": 0, "embedding": packed}]}))
        assert client.embed("a").vectors == ((1.5, -2.0, 0.25),)


def test_long_texts_are_spread_over_requests() -> None:
    groups = list(batches(["x" * (MOST_BYTES // 2)] * 3 + ["y"] * 5 + ["ü" * MOST_BYTES], 100))
    assert [len(group) for group in groups] == [2, 6, 1]
    assert [text for group in groups for text in group][-1] == "ü" * MOST_BYTES


def test_an_error_is_retried_and_the_vectors_are_whole(server: FaultServer) -> None:
    with client_of(server, retry=Retry(attempts=2, first=0.001, longest=0.001)) as client:
        server.script(error(503))
        found = client.embed(["a", "b"])
    assert [attempt.outcome for attempt in found.attempts] == ["Overloaded", "ok"]
    assert len(found) == 2


def test_one_request_that_fails_ends_the_others(server: FaultServer) -> None:
    def answer(request: RecordedRequest) -> Step:
        return error(400) if "text 300" in request.json["input"] else json_reply(by_openai(request.json)[1])

    with client_of(server) as client:
        server.on(answer)
        with pytest.raises(CallError) as caught:
            client.embed([f"text {number}" for number in range(1_000)], workers=1)
    assert caught.value.status == 400
    assert len(server.requests) == 2


def test_vectors_of_another_model_never_take_their_place(server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROQ_API_KEY", KEY)
    with client_of(server, fallbacks=["groq/e-2"]) as client:
        server.on(lambda _: error(503))
        with pytest.raises(CallError):
            client.embed("a")
    assert len(server.requests) == 1


def test_it_is_cancelled_like_any_call(server: FaultServer) -> None:
    gate, cancel = threading.Event(), CancelToken()

    def answer(request: RecordedRequest) -> Step:
        gate.set()
        return (lambda connection: connection.wait(PATIENCE),)

    def stop() -> None:
        gate.wait(PATIENCE)
        cancel.cancel()

    with client_of(server) as client:
        server.on(answer)
        stopper = threading.Thread(target=stop)
        stopper.start()
        with pytest.raises(Cancelled):
            client.embed([f"text {number}" for number in range(600)], cancel=cancel, timeout=PATIENCE)
        stopper.join()


def test_it_is_paid_for_recorded_and_bounded(server: FaultServer, tmp_path: Any) -> None:  # noqa: ANN401 (pytest's path)
    options: Json = {
        "ledger": f"sqlite:///{tmp_path}/usage.db",
        "prices": {"openai/e-1": Price(input=1_000, output=0)},
        "budgets": [Budget(usd=0.2, per="day")],
    }
    with client_of(server, **options) as client:
        found = client.embed(["a", "b"], task="index")
        assert found.cost == Decimal("0.004")  # 4 tokens at 1,000 dollars for a million
        with pytest.raises(BudgetExceeded):
            client.embed(["many words " * 200])
        assert client.metrics().calls >= 1
    assert len(server.requests) == 1


def test_prices_of_embedding_models_are_known() -> None:
    with LLMock() as mock, Client("openai/text-embedding-3-small", api_key=KEY, base_url=mock.base_url()) as client:
        found = client.embed(["The tide comes in."] * 3)
    assert found.dimensions == 1_536
    assert found.cost is not None
    assert 0 < found.cost < Decimal("0.0001")


# Counting


def test_tokens_are_counted_here_unless_the_provider_is_asked(server: FaultServer) -> None:
    server.on(lambda _: json_reply({"input_tokens": 77}))
    with Client("anthropic/m", api_key=KEY, base_url=server.url, retry=None) as client:
        assert 0 < client.count_tokens("The tide comes in.") < 30
        assert server.requests == []
        assert client.count_tokens("The tide comes in.", remote=True, system="Be brief.") == 77
        assert client.metrics().calls == 0
    [request] = server.requests
    assert request.path == "/v1/messages/count_tokens"
    assert json.loads(request.body)["system"] == "Be brief."


def test_a_count_is_retried_and_fails_like_any_call(server: FaultServer) -> None:
    again = Retry(attempts=2, first=0.001, longest=0.001)
    server.script(error(503), json_reply({"totalTokens": 5}), error(401))
    with Client("gemini/m", api_key=KEY, base_url=server.url, retry=again) as client:
        assert client.count_tokens("Hi", remote=True) == 5
        with pytest.raises(CallError) as caught:
            client.count_tokens("Hi", remote=True)
    assert caught.value.status == 401


def test_who_counts_for_nobody_says_so() -> None:
    with Client("openai/gpt-4o", api_key=KEY) as client, pytest.raises(ConfigError, match="remote=True"):
        client.count_tokens("Hi", remote=True)
