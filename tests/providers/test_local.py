"""The embedded provider: what it can be asked, without starting it. What it answers is in `test_embedded`."""

from __future__ import annotations

import pytest

from tidegate import AuthenticationFailed, Client, ConfigError, ContextLengthExceeded, Image, Message, Tool
from tidegate.chat.request import ChatRequest
from tidegate.providers import embedded
from tidegate.providers.local import LocalProvider, checked_model
from tidegate.providers.registry import LOCAL_MODEL

MODEL = embedded.MODEL_NAME
SEA = Image("https://example.com/sea.png")


@pytest.fixture(autouse=True)
def _never_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def started(_: float = 0) -> str:
        raise AssertionError("the server was started")

    monkeypatch.setattr(embedded, "base_url", started)


def test_there_is_one_embedded_model() -> None:
    assert checked_model(MODEL) == MODEL
    with pytest.raises(ConfigError, match=f"`local/gpt-4o`: the one embedded model is `{LOCAL_MODEL}`"):
        checked_model("gpt-4o")


def test_a_client_of_it_starts_nothing() -> None:
    with Client(LOCAL_MODEL) as client:
        assert client.model == LOCAL_MODEL


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (ChatRequest.build("Hi", tools=[Tool("now")]), "cannot call tools"),
        (ChatRequest.build(Message("user", (SEA,))), "cannot see pictures"),
        (ChatRequest.build([Message("user", ("What is it?", SEA)), Message("user", "Hi")]), "cannot see pictures"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_what_it_cannot_do_is_refused(request_: ChatRequest, says: str) -> None:
    for streamed in (False, True):
        with pytest.raises(ConfigError, match=f"`{LOCAL_MODEL}` {says}"):
            LocalProvider().encode(request_, MODEL, streamed=streamed)


def test_its_requests_go_to_its_server_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "base_url", lambda _=0: "http://127.0.0.1:9/v1")
    sent = LocalProvider().encode(ChatRequest.build("Hi", max_tokens=5), MODEL, streamed=True)
    assert sent.url == "http://127.0.0.1:9/v1/chat/completions"
    assert "Authorization" not in sent.headers
    assert b'"max_tokens":5' in sent.body
    assert b'"include_usage":true' in sent.body


def test_its_errors_are_read_like_any_other() -> None:
    body = b'{"error": {"code": 400, "type": "exceed_context_size_error", "message": "too long"}}'
    failure = LocalProvider().refusal(400, {}, body, 0.0)
    assert (type(failure), failure.message) == (ContextLengthExceeded, "too long")
    assert type(LocalProvider().refusal(401, {}, b"", 0.0)) is AuthenticationFailed
    assert LocalProvider().request_id({"x-request-id": "7"}) == "7"


def test_its_answers_are_read_like_any_other() -> None:
    body = b'{"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}], "model": "m"}'
    done = LocalProvider().decode(body, MODEL)
    assert (done.text, done.provider, done.complete) == ("Hi", "local", "yes")
    reader = LocalProvider().stream_decoder(MODEL)
    reader.feed("message", '{"choices": [{"delta": {"content": "Hi"}}]}')
    assert (reader.completion().text, reader.completion().provider) == ("Hi", "local")
