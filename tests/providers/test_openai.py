"""OpenAI's chat completions: what is sent in which dialect, and streams that are not what they should be."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeys.asking import KEY, PATIENCE, client_of
from support.fault_server import FaultServer, Gate, Stall, json_reply, sse, sse_event
from support.openai_wire import chunk, completion, error_body, stream_events
from tidegate import (
    CallError,
    Completion,
    ConfigError,
    MalformedEvent,
    MalformedResponse,
    Message,
    Overloaded,
    StreamInterrupted,
)
from tidegate.chat.request import ChatRequest
from tidegate.options import SecretStr
from tidegate.providers.base import Account
from tidegate.providers.openai import Dialect, OpenAIProvider, OpenAIStreamDecoder, read_usage

ACCOUNT = Account("openai", "https://api.example.com/v1", SecretStr(KEY))


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


def sent(dialect: Dialect, *, streamed: bool = False, **options: Any) -> dict[str, Any]:
    request = ChatRequest.build([Message("developer", "Be brief."), Message("user", "Hi")], **options)
    body: dict[str, Any] = json.loads(OpenAIProvider(ACCOUNT, dialect).encode(request, "m", streamed=streamed).body)
    return body


def decoder() -> OpenAIStreamDecoder:
    return OpenAIStreamDecoder(ACCOUNT, "m")


# Dialects


def test_the_plain_dialect_is_what_most_hosts_speak() -> None:
    body = sent(Dialect(), streamed=True, max_tokens=5, seed=3)
    assert body == {
        "model": "m", "max_tokens": 5, "seed": 3, "stream": True, "stream_options": {"include_usage": True},
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
    }  # fmt: skip


def test_a_dialect_renames_what_it_calls_otherwise() -> None:
    dialect = Dialect(max_tokens="max_completion_tokens", seed="random_seed", stream_usage=False, developer_role=True)
    body = sent(dialect, streamed=True, max_tokens=5, seed=3)
    assert body == {
        "model": "m", "max_completion_tokens": 5, "random_seed": 3, "stream": True,
        "messages": [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
    }  # fmt: skip


def test_usage_is_asked_for_in_a_stream_alone() -> None:
    assert "stream_options" not in sent(Dialect())
    assert "stream" not in sent(Dialect())


def test_options_may_take_the_place_of_what_tidegate_would_send() -> None:
    body = sent(Dialect(), streamed=True, options={"stream_options": {"include_usage": False}})
    assert body["stream_options"] == {"include_usage": False}


def test_an_account_without_a_key_sends_none() -> None:
    request = OpenAIProvider(Account("vllm", "http://127.0.0.1:1/v1")).encode(
        ChatRequest.build("Hi"), "m", streamed=False
    )
    assert "Authorization" not in request.headers
    assert request.url == "http://127.0.0.1:1/v1/chat/completions"
    assert request.headers["Content-Length"] == str(len(request.body))


@given(st.text(min_size=1).filter(str.strip))
def test_any_text_arrives_as_it_was_written_or_is_refused(words: str) -> None:
    body = OpenAIProvider(ACCOUNT).encode(ChatRequest.build(words), "m", streamed=False).body
    assert json.loads(body)["messages"][0]["content"] == words


def test_half_a_character_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be written as JSON"):
        OpenAIProvider(ACCOUNT).encode(ChatRequest.build("\ud83c"), "m", streamed=False)


# Answers that are none

NO_ANSWER: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "the answer is empty"),
    "spaces": (b" \n", "the answer is empty"),
    "a page": (b"<html>", "the answer is not JSON"),
    "half of one": (b'{"choices": [', "the answer is not JSON"),
    "bad UTF-8": (b'{"choices": "\xff"}', "the answer is not JSON"),
    "NaN": (b'{"choices": NaN}', "the answer is not JSON"),
    "too deep": (b"[" * 100_000, "the answer is not JSON"),
    "null": (b"null", "has no choices"),
    "a list": (b"[]", "has no choices"),
    "no choices": (b"{}", "has no choices"),
    "choices of null": (b'{"choices": null}', "has no choices"),
    "no choice": (b'{"choices": []}', "has no choices"),
    "a choice that is a word": (b'{"choices": ["Hi"]}', "has no choices"),
    "a choice without a message": (b'{"choices": [{}]}', "has no choices"),
    "a message that is a word": (b'{"choices": [{"message": "Hi"}]}', "has no choices"),
}


@pytest.mark.parametrize("body", NO_ANSWER)
def test_a_body_that_is_no_answer_says_what_is_wrong_with_it(body: str) -> None:
    data, says = NO_ANSWER[body]
    with pytest.raises(MalformedResponse, match=says) as caught:
        OpenAIProvider(ACCOUNT).decode(data, "m")
    assert caught.value.body == data.decode("utf-8", "replace")[:8192]
    assert caught.value.retryable


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "message",
                    "delta",
                    "content",
                    "tool_calls",
                    "function",
                    "name",
                    "arguments",
                    "index",
                    "id",
                    "usage",
                    "prompt_tokens",
                    "error",
                    "code",
                    "type",
                    "finish_reason",
                    "prompt_tokens_details",
                    "cached_tokens",
                    "refusal",
                    "reasoning",
                    "model",
                    "object",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(JSON)
def test_any_json_is_an_answer_or_a_typed_error(value: object) -> None:
    try:
        done = OpenAIProvider(ACCOUNT).decode(json.dumps(value).encode(), "m")
    except CallError:
        return
    assert isinstance(done, Completion)
    assert isinstance(done.text, str)


@given(st.lists(JSON, max_size=4))
def test_any_json_is_an_event_or_a_typed_error(values: list[object]) -> None:
    reader = decoder()
    try:
        for value in values:
            reader.feed("message", json.dumps(value))
    except CallError:
        pass
    done = reader.completion()
    assert isinstance(done.text, str)
    assert all(isinstance(call.arguments, str) for call in done.tool_calls)


@given(JSON)
def test_any_json_is_usage_or_unknown(value: object) -> None:
    usage = read_usage(value)
    if usage is not None:
        assert 0 <= usage.cached_input_tokens <= usage.input_tokens
        assert usage.output_tokens >= 0
        assert usage.reasoning_tokens >= 0


# Events that cannot be read

ODD_EVENTS: dict[str, tuple[str, str]] = {
    "half of one": ('{"choices": [', "unexpected end"),
    "a word": ("Hello", "unexpected character"),
    "a list": ("[]", "it is not an object"),
    "null": ("null", "it is not an object"),
    "choices that are a word": ('{"choices": "x"}', "its `choices` are not a list of objects"),
    "choices of words": ('{"choices": ["x"]}', "its `choices` are not a list of objects"),
    "choices that are an object": ('{"choices": {"delta": {}}}', "its `choices` are not a list of objects"),
    "a delta that is a word": ('{"choices": [{"delta": "x"}]}', "its `delta` is not an object"),
    "calls that are a word": ('{"choices": [{"delta": {"tool_calls": "x"}}]}', "its `tool_calls` are not a list"),
    "calls of words": ('{"choices": [{"delta": {"tool_calls": ["x"]}}]}', "its `tool_calls` are not a list"),
}


@pytest.mark.parametrize("what", ODD_EVENTS)
def test_an_event_that_cannot_be_read_is_named(server: FaultServer, what: str) -> None:
    event, says = ODD_EVENTS[what]
    server.always(sse([*stream_events(["Hel"], finish=None, usage=None), event, *stream_events(["lo"])[1:]]))
    with client_of(server) as client, client.stream("Hi") as answer, pytest.raises(StreamInterrupted) as caught:
        list(answer)
    cause = caught.value.__cause__
    assert isinstance(cause, MalformedEvent)
    assert str(cause).startswith("openai/gpt-4o-mini: event 3 of the stream cannot be read: ")
    assert says in str(cause)
    assert (cause.body, caught.value.partial) == (event, "Hel")


def test_a_number_of_an_event_counts_every_event_before_it() -> None:
    reader = decoder()
    for event in (*stream_events(["a", "b"])[:3], '{"type": "ping"}', json.dumps(chunk(usage=(1, 1)))):
        reader.feed("message", event)
    with pytest.raises(MalformedEvent, match="event 6 of the stream"):
        reader.feed("message", "{")


def test_a_malformed_event_keeps_no_key() -> None:
    with pytest.raises(MalformedEvent) as caught:
        decoder().feed("message", f'{{"key": "{KEY}"')
    assert KEY not in repr(vars(caught.value))


HARMLESS: dict[str, str] = {
    "no choices": '{"choices": []}',
    "choices of null": '{"choices": null}',
    "an empty object": "{}",
    "a ping": '{"type": "ping"}',
    "a choice without a delta": '{"choices": [{"index": 0}]}',
    "a delta of null": '{"choices": [{"delta": null}]}',
    "an empty delta": '{"choices": [{"delta": {}}]}',
    "another field": '{"choices": [{"delta": {"mood": "good"}}], "obfuscation": "x7"}',
    "no error": '{"error": null, "choices": []}',
    "filter results": '{"choices": [], "prompt_filter_results": [{"prompt_index": 0}]}',
}


@pytest.mark.parametrize("what", HARMLESS)
def test_an_event_that_brings_nothing_does_no_harm(server: FaultServer, what: str) -> None:
    events = [HARMLESS[what], *stream_events(["Hel"], finish=None, usage=None), HARMLESS[what]]
    server.always(sse([*events, *stream_events(["lo"])[1:]]))
    with client_of(server) as client, client.stream("Hi") as answer:
        assert [piece.text for piece in answer] == ["Hel", "lo", ""]


# Ends


@pytest.mark.parametrize("usage", [(5, 7), None], ids=["with usage", "without"])
def test_a_whole_answer_without_its_end_mark_completes_though_the_server_stays(
    server: FaultServer, usage: tuple[int, int] | None
) -> None:
    """Far within the deadline: with its usage at once, without it when a second of grace is over."""
    server.always((*sse(stream_events(["Hello"], usage=usage), done=False)[:-1], Stall()))
    with client_of(server) as client, client.stream("Hi", timeout=PATIENCE) as answer:
        assert "".join(piece.text for piece in answer) == "Hello"
    assert answer.completion.complete == "yes"
    assert answer.completion.usage is not None
    assert answer.completion.usage.estimated == (usage is None)
    assert answer.completion.timeline.total < PATIENCE / 2


def test_the_last_chunk_does_not_wait_for_the_end_mark(server: FaultServer) -> None:
    gate = threading.Event()
    server.always(sse([*stream_events(["Hello"]), Gate(gate)]))
    with client_of(server) as client, client.stream("Hi", timeout=PATIENCE) as answer:
        reasons = [piece.finish_reason for piece in answer]
        assert not gate.is_set()
        gate.set()
    assert reasons == [None, "stop"]


@pytest.mark.parametrize("mark", ["[DONE]", " [DONE] ", "[DONE]\n"])
def test_the_end_mark_may_have_spaces(mark: str) -> None:
    reader = decoder()
    assert reader.feed("message", mark) is None
    assert reader.finished
    assert reader.settled


def test_a_finish_reason_ends_an_answer_and_usage_settles_it() -> None:
    reader = decoder()
    states = []
    for event in (*stream_events(["Hello"]), "[DONE]"):
        reader.feed("message", event)
        states.append((reader.finished, reader.settled))
    assert states == [(False, False), (False, False), (True, False), (True, True), (True, True)]


def test_usage_before_the_finish_reason_does_not_settle_the_answer() -> None:
    """A host that counts with every chunk has the last word still to come."""
    reader = decoder()
    reader.feed("message", json.dumps(chunk("Hello") | {"usage": {"prompt_tokens": 5, "completion_tokens": 1}}))
    reader.feed("message", json.dumps(chunk(finish_reason="stop")))
    assert (reader.finished, reader.settled) == (True, False)


# Errors in the midst


def test_an_error_after_text_is_classified_like_any_other(server: FaultServer) -> None:
    server.always(
        sse([*stream_events(["Hel"], finish=None, usage=None), error_body("overloaded_error", None, "Busy.")])
    )
    with client_of(server) as client, client.stream("Hi") as answer, pytest.raises(StreamInterrupted) as caught:
        list(answer)
    assert isinstance(caught.value.__cause__, Overloaded)
    assert (caught.value.code, caught.value.partial) == ("overloaded_error", "Hel")
    assert caught.value.retryable


@pytest.mark.parametrize("data", ['{"message": "busy"}', '{"error": {"message": "busy"}}', "{}"])
def test_an_event_named_error_is_one_whatever_it_holds(data: str) -> None:
    with pytest.raises(CallError) as caught:
        decoder().feed("error", data)
    assert caught.value.retryable


def test_an_error_event_on_the_wire_is_found_by_its_name(server: FaultServer) -> None:
    server.always(sse([sse_event('{"type": "overloaded_error", "message": "Busy."}', "error")], done=False))
    with client_of(server) as client, pytest.raises(Overloaded, match=r"Busy"):
        client.stream("Hi")


def test_a_200_that_is_an_error_is_not_an_empty_answer(server: FaultServer) -> None:
    server.always(json_reply(error_body("overloaded_error") | {"choices": completion("")["choices"]}))
    with client_of(server) as client, pytest.raises(Overloaded):
        client.complete("Hi")


@pytest.mark.parametrize(
    ("reported", "output", "reasoning"),
    [
        ({"completion_tokens": 100, "total_tokens": 132}, 100, 94),
        ({"completion_tokens": 9, "total_tokens": 135}, 103, 94),
        ({"completion_tokens": 9}, 9, 9),
        ({"completion_tokens": 9, "total_tokens": 41}, 9, 9),
    ],
    ids=["within the answer", "beside the answer", "no total", "more than the answer"],
)
def test_what_was_thought_is_counted_once(reported: dict[str, int], output: int, reasoning: int) -> None:
    """Whether a provider counts reasoning within the answer or beside it is told by the total."""
    details = {"completion_tokens_details": {"reasoning_tokens": 94}}
    usage = read_usage({"prompt_tokens": 32, **reported, **details})
    assert usage is not None
    assert (usage.output_tokens, usage.reasoning_tokens) == (output, reasoning)
