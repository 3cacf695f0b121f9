"""Every provider is held to the same: one row each, in its own words, over real sockets."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from typing import Any

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeys.asking import KEY, PATIENCE
from support.fault_server import FaultServer, Gate, Stall, Step, cut_at, json_reply, reply, sse_raw
from support.fault_server import bytes_of as bytes_of_step
from support.wires import BLOCKED, CALLS, CUT, THOUGHT, WIRES, OpenAIWire, Said, Wire, event
from tidegate import (
    AuthenticationFailed,
    BadRequest,
    CallError,
    Cancelled,
    CancelToken,
    Client,
    Completion,
    ConfigError,
    IdleTimeout,
    Image,
    MalformedEvent,
    MalformedResponse,
    Message,
    ModelNotFound,
    Overloaded,
    PayloadTooLarge,
    PermissionDenied,
    ProviderUnavailable,
    RateLimited,
    StreamInterrupted,
    Text,
    Timeouts,
    Tool,
    TruncatedStream,
)
from tidegate.chat.request import ChatRequest
from tidegate.options import SecretStr
from tidegate.providers.base import Account, Provider, StreamDecoder
from tidegate.providers.registry import HOSTS
from tidegate.transport.sse import read_events

TIDE = Tool(
    "tide",
    "When high tide comes.",
    {"type": "object", "properties": {"port": {"type": "string"}, "day": {"type": "integer"}}, "required": ["port"]},
)
PICTURE = b"\x89PNG\r\n\x1a\n and so on"

SOMETHING = Said()

rows = pytest.mark.parametrize("wire", WIRES, ids=[wire.provider for wire in WIRES])


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


def base_url(server: FaultServer, wire: Wire) -> str:
    return server.base_url if wire.provider in ("openai", "openai-responses", "groq") else server.url


def client_of(server: FaultServer, wire: Wire, **options: Any) -> Client:
    return Client(
        f"{wire.provider}/{wire.model}",
        **{"base_url": base_url(server, wire), "api_key": KEY, "retry": None, "breaker": None, **options},
    )


def provider_of(wire: Wire) -> Provider:
    account = Account(wire.provider, HOSTS[wire.provider].base_url or "https://x.example.com", SecretStr(KEY))
    return HOSTS[wire.provider].speak(account, {})


def a_stream(wire: Wire, said: Said = SOMETHING) -> Step:
    return sse_raw(*wire.events(said))


def assert_says(done: Completion, said: Said) -> None:
    assert done.text == said.text
    assert [(call.id, call.name, call.parsed()) for call in done.tool_calls] == list(said.calls)
    assert done.finish_reason == said.reason
    assert done.usage is not None
    assert (done.usage.input_tokens, done.usage.output_tokens) == said.usage
    assert not done.usage.estimated
    assert done.reasoning.startswith(said.thinking)
    assert done.model


# Answers

ALL_SAID = {"text": Said(), "two calls": CALLS, "cut": CUT, "filtered": BLOCKED, "thought": THOUGHT}


@rows
@pytest.mark.parametrize("what", ALL_SAID)
def test_a_whole_answer_says_what_it_says(server: FaultServer, wire: Wire, what: str) -> None:
    server.always(json_reply(wire.whole(ALL_SAID[what])))
    with client_of(server, wire) as client:
        assert_says(client.complete("When does the tide come in?"), ALL_SAID[what])


@rows
@pytest.mark.parametrize("what", ALL_SAID)
def test_a_streamed_answer_says_the_same(server: FaultServer, wire: Wire, what: str) -> None:
    said = ALL_SAID[what]
    server.always(a_stream(wire, said))
    with client_of(server, wire) as client, client.stream("When does the tide come in?") as answer:
        pieces = list(answer)
    assert tuple(piece.text for piece in pieces if piece.text) == said.pieces
    assert "".join(piece.reasoning for piece in pieces).startswith(said.thinking)
    assert [piece.finish_reason for piece in pieces if piece.finish_reason] == [said.reason]
    assert_says(answer.completion, said)


@rows
def test_the_key_is_in_its_header_and_nowhere_else(server: FaultServer, wire: Wire) -> None:
    server.script(json_reply(wire.whole(Said())), a_stream(wire))
    with client_of(server, wire) as client:
        client.complete("Hi")
        list(client.stream("Hi"))
    plain, stream = server.requests
    at = base_url(server, wire).removeprefix(server.url)
    assert plain.path == at + wire.path
    assert stream.path == at + (wire.stream_path or wire.path)
    for request in (plain, stream):
        assert KEY in request.headers[wire.key_header]
        assert [name for name, value in request.headers.pairs if KEY in value] == [
            name for name, _ in request.headers.pairs if name.lower() == wire.key_header
        ]
        assert KEY not in request.path
        assert KEY not in json.dumps(request.json)


@rows
def test_an_answer_says_what_its_provider_said_too(server: FaultServer, wire: Wire) -> None:
    body = {**wire.whole(Said()), "something_new": {"a": [1, None]}}
    server.always(json_reply(body))
    with client_of(server, wire) as client:
        done = client.complete("Hi")
    assert done.raw == body
    assert done.to_openai().choices[0].message.content == Said().text


@rows
def test_what_was_thought_goes_back_to_its_provider_and_to_nobody_else(wire: Wire) -> None:
    done = provider_of(wire).decode(json.dumps(wire.whole(THOUGHT)).encode(), wire.model)
    [thought] = done.thoughts
    assert (thought.text, thought.provider) == (THOUGHT.thinking, wire.provider)
    turns = [Message("user", "Why?"), done.message, Message("user", "Go on.")]
    for other in WIRES:
        body = provider_of(other).encode(ChatRequest.build(turns), other.model, streamed=False).body
        if other.provider != wire.provider:
            assert THOUGHT.thinking.encode() not in body


@rows
def test_a_speakers_name_is_sent_or_refused(wire: Wire) -> None:
    request = ChatRequest.build(Message("user", "Hi", name="Ada"))
    if isinstance(wire, OpenAIWire):
        assert b'"Ada"' in provider_of(wire).encode(request, wire.model, streamed=False).body
    else:
        with pytest.raises(ConfigError, match="`Ada` speaks"):
            provider_of(wire).encode(request, wire.model, streamed=False)


@rows
def test_an_empty_turn_of_the_assistant_breaks_nothing(wire: Wire) -> None:
    turns = [Message("user", "Hi"), Message("assistant", ""), Message("user", "Again")]
    body = provider_of(wire).encode(ChatRequest.build(turns), wire.model, streamed=False).body
    assert b"Again" in body
    assert b'"content":[]' not in body
    assert b'"parts":[]' not in body


@rows
def test_a_choice_without_tools_is_none(wire: Wire) -> None:
    body = provider_of(wire).encode(ChatRequest.build("Hi", tool_choice="none"), wire.model, streamed=False).body
    assert b"tool" not in body


# A conversation with tools


@rows
def test_a_loop_with_tools_loses_nothing(server: FaultServer, wire: Wire) -> None:
    server.script(json_reply(wire.whole(CALLS)), json_reply(wire.whole(Said())))
    with client_of(server, wire) as client:
        asked = Message("user", "When is high tide in Bremen and in Emden?")
        first = client.complete([asked], tools=[TIDE], tool_choice="required", system="Be exact.")
        results = [
            Message("tool", '{"at": "04:12"}', tool_call_id=first.tool_calls[0].id),
            Message("tool", "The table is lost.", tool_call_id=first.tool_calls[1].id, failed=True),
        ]
        last = client.complete([asked, first.message, *results], tools=[TIDE])
    assert_says(last, Said())
    asking, answering = (json.dumps(request.json) for request in server.requests)
    for word in ("Be exact.", "When is high tide", "When high tide comes.", '"port"', '"day"'):
        assert word in asking
    for word in ("call-1", "call-2", "Bremen", "Emden", "04:12", "The table is lost."):
        assert word in answering


@rows
def test_a_conversation_goes_on_with_any_other_provider(wire: Wire) -> None:
    """As it does when a fallback answers."""
    done = provider_of(wire).decode(json.dumps(wire.whole(CALLS)).encode(), wire.model)
    results = [Message("tool", f"at {n}", tool_call_id=call.id) for n, call in enumerate(done.tool_calls)]
    turns = [Message("user", "When?"), done.message, *results]
    for other in WIRES:
        body = provider_of(other).encode(ChatRequest.build(turns, tools=[TIDE]), other.model, streamed=False).body
        for word in (b"When?", b"Bremen", b"Emden", b"at 0", b"at 1", b"call-1", b"call-2"):
            assert word in body


@rows
def test_a_streamed_loop_gives_the_same_turn(wire: Wire) -> None:
    decoder = provider_of(wire).stream_decoder(wire.model)
    for each in read_events(iter(wire.events(CALLS))):
        decoder.feed(each.event, each.data)
    whole = provider_of(wire).decode(json.dumps(wire.whole(CALLS)).encode(), wire.model)
    streamed = decoder.completion().message
    assert [(call.id, call.name, call.parsed(), call.signature) for call in streamed.tool_calls] == [
        (call.id, call.name, call.parsed(), call.signature) for call in whole.message.tool_calls
    ]
    assert (streamed.text, streamed.thoughts) == (whole.message.text, whole.message.thoughts)


@rows
@pytest.mark.parametrize("choice", ["auto", "none", "required", "tide"])
def test_a_choice_of_tools_is_said(wire: Wire, choice: str) -> None:
    request = ChatRequest.build("Hi", tools=[TIDE], tool_choice=choice)
    body = json.loads(provider_of(wire).encode(request, wire.model, streamed=False).body)
    without = json.loads(
        provider_of(wire).encode(ChatRequest.build("Hi", tools=[TIDE]), wire.model, streamed=False).body
    )
    assert body != without or (choice == "auto" and wire.provider == "cohere")  # which has no word for its default


@rows
def test_a_picture_is_sent_whole(wire: Wire) -> None:
    turn = Message("user", (Text("What is this?"), Image.from_bytes(PICTURE, "image/png")))
    body = provider_of(wire).encode(ChatRequest.build(turn), wire.model, streamed=False).body.decode()
    assert base64.b64encode(PICTURE).decode() in body
    assert "image/png" in body
    assert "What is this?" in body


# Structured output


class Port(pydantic.BaseModel):
    harbour: str
    depth_in_feet: int


@rows
def test_a_value_comes_by_its_schema(server: FaultServer, wire: Wire) -> None:
    server.always(json_reply(wire.whole(Said(pieces=('{"harbour": "Emden", "depth_in_feet": 30}',)))))
    with client_of(server, wire) as client:
        assert client.parse("Which port?", Port) == Port(harbour="Emden", depth_in_feet=30)
    [request] = server.requests
    sent = request.json
    sent.pop("messages", None), sent.pop("input", None), sent.pop("contents", None)
    assert "depth_in_feet" in json.dumps(sent)  # as the provider's own schema, beside what is said in words


@rows
def test_what_only_a_provider_knows_is_passed_on(wire: Wire) -> None:
    request = ChatRequest.build("Hi", options={"brand_new": {"x": 1}})
    assert json.loads(provider_of(wire).encode(request, wire.model, streamed=False).body)["brand_new"] == {"x": 1}


# Errors

STATUSES: dict[int, type[CallError]] = {
    400: BadRequest, 401: AuthenticationFailed, 403: PermissionDenied, 404: ModelNotFound, 413: PayloadTooLarge,
    422: BadRequest, 429: RateLimited, 500: ProviderUnavailable, 502: ProviderUnavailable, 503: Overloaded,
    504: ProviderUnavailable, 529: Overloaded,
}  # fmt: skip


@rows
@pytest.mark.parametrize("status", STATUSES)
def test_every_status_means_its_error(server: FaultServer, wire: Wire, status: int) -> None:
    server.always(json_reply(wire.error(status, "No, for this reason"), status, {"retry-after": "7"}))
    with client_of(server, wire) as client, pytest.raises(CallError) as caught:
        client.complete("Hi")
    error = caught.value
    assert type(error) is STATUSES[status]
    assert (error.status, error.retry_after, error.provider, error.model) == (status, 7, wire.provider, wire.model)
    assert "No, for this reason" in str(error)


@rows
@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, b"", MalformedResponse),
        (200, b"<html>Sign in</html>", MalformedResponse),
        (200, b'{"choi', MalformedResponse),
        (200, b"null", MalformedResponse),
        (200, b"[]", MalformedResponse),
        (200, b"{}", MalformedResponse),
        (502, b"<html>Bad gateway</html>", ProviderUnavailable),
        (429, b"", RateLimited),
    ],
)
def test_a_body_that_is_no_answer_is_a_typed_error(
    server: FaultServer, wire: Wire, status: int, body: bytes, kind: type[CallError]
) -> None:
    server.always(reply(status, body, {"content-type": "application/json"}))
    with client_of(server, wire) as client, pytest.raises(kind):
        client.complete("Hi")


@rows
def test_an_error_before_the_first_text_is_what_it_is(server: FaultServer, wire: Wire) -> None:
    server.always(sse_raw(wire.error_event()))
    with client_of(server, wire) as client, pytest.raises((Overloaded, ProviderUnavailable)) as caught:
        client.stream("Hi")
    assert caught.value.retryable


@rows
def test_an_error_after_text_breaks_the_stream_and_names_its_cause(server: FaultServer, wire: Wire) -> None:
    text = wire.events(Said())[:-2] if wire.provider != "gemini" else wire.events(Said())[:1]
    server.always(sse_raw(*text, wire.error_event()))
    with (
        client_of(server, wire) as client,
        client.stream("Hi") as answer,
        pytest.raises(StreamInterrupted) as caught,
    ):
        list(answer)
    assert isinstance(caught.value.__cause__, Overloaded | ProviderUnavailable)
    assert caught.value.partial.startswith("The tide ")


# Streams that are not what they should be


def fed(wire: Wire, *pieces: bytes) -> StreamDecoder:
    decoder = provider_of(wire).stream_decoder(wire.model)
    for each in read_events(iter(pieces)):
        if not decoder.settled:
            decoder.feed(each.event, each.data)
    return decoder


@rows
@pytest.mark.parametrize("what", ["text", "two calls", "thought"])
def test_T6_a_stream_cut_anew_at_any_byte_reads_the_same(wire: Wire, what: str) -> None:
    whole = b"".join(wire.events(ALL_SAID[what]))
    expected = fed(wire, whole).completion()
    assert_says(expected, ALL_SAID[what])
    for cut in range(len(whole)):
        assert fed(wire, whole[:cut], whole[cut:]).completion() == expected
    assert fed(wire, *(whole[i : i + 1] for i in range(len(whole)))).completion() == expected


@rows
def test_T6_a_stream_that_ends_at_any_byte_is_whole_or_known_not_to_be(wire: Wire) -> None:
    said = Said()
    whole = b"".join(wire.events(said))
    for cut in range(len(whole) + 1):
        decoder = fed(wire, whole[:cut])
        done = decoder.completion()
        assert said.text.startswith(done.text)
        if decoder.finished:
            assert (done.text, done.finish_reason) == (said.text, "stop")
        else:
            assert done.finish_reason is None
    assert decoder.finished
    assert decoder.settled


@rows
def test_a_stream_that_ends_before_its_reason_is_truncated(server: FaultServer, wire: Wire) -> None:
    first = wire.events(Said())
    cut = len(b"".join(first[:3] if wire.provider == "gemini" else first[:-3]))
    response = bytes_of_step(sse_raw(b"".join(first), chunked=False))
    body = response.index(b"\r\n\r\n") + 4
    server.always(cut_at(response, body + cut - (len(first[2]) if wire.provider == "gemini" else 0)))
    with client_of(server, wire) as client, pytest.raises((StreamInterrupted, TruncatedStream)) as caught:
        list(client.stream("Hi"))
    assert "The tide comes in.".startswith(caught.value.partial)


@rows
def test_an_event_that_is_no_json_is_named(server: FaultServer, wire: Wire) -> None:
    server.always(sse_raw(b"data: {broken\n\n"))
    with client_of(server, wire) as client, pytest.raises(MalformedEvent, match="event 1"):
        client.stream("Hi")


@rows
def test_an_event_of_a_kind_that_nobody_knows_does_no_harm(server: FaultServer, wire: Wire) -> None:
    new = event({"type": "brand.new", "novelty": [1, {"a": None}]}, "brand.new")
    events = wire.events(Said())
    server.always(sse_raw(new, *(each for one in events[:-1] for each in (one, new)), events[-1]))
    with client_of(server, wire) as client, client.stream("Hi") as answer:
        list(answer)
    assert_says(answer.completion, Said())


@rows
def test_a_reason_that_nobody_knows_passes_through(server: FaultServer, wire: Wire) -> None:
    said = Said(reason="brand_new")
    server.script(json_reply(wire.whole(said)), a_stream(wire, said))
    with client_of(server, wire) as client:
        assert client.complete("Hi").finish_reason == "brand_new"
        with client.stream("Hi") as answer:
            list(answer)
    assert answer.completion.finish_reason == "brand_new"
    assert answer.completion.complete == "unknown"


@rows
def test_silence_amid_a_stream_is_noticed(server: FaultServer, wire: Wire) -> None:
    count = 1 if wire.provider == "gemini" else -3
    server.always((*sse_raw(*wire.events(Said())[:count])[:-1], Stall()))
    with (
        client_of(server, wire, timeouts=Timeouts(idle=0.1)) as client,
        client.stream("Hi", timeout=PATIENCE) as answer,
        pytest.raises(StreamInterrupted) as caught,
    ):
        list(answer)
    assert isinstance(caught.value.__cause__, IdleTimeout)


@rows
def test_a_cancelled_stream_ends_at_once(server: FaultServer, wire: Wire) -> None:
    gate = threading.Event()
    count = 1 if wire.provider == "gemini" else -3
    server.always((*sse_raw(*wire.events(Said())[:count])[:-1], Gate(gate)))
    cancel = CancelToken()
    with client_of(server, wire) as client, client.stream("Hi", cancel=cancel, timeout=PATIENCE) as answer:
        timer = threading.Timer(0.05, cancel.cancel)
        timer.start()
        with pytest.raises(Cancelled):
            list(answer)
        timer.join()
        assert answer.text.startswith("The tide ")
        gate.set()


# Whatever comes, an answer or a typed error

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 10**12) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def paths(value: object, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in a JSON value."""
    yield at
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from paths(inner, (*at, key))


def changed(value: Any, at: tuple[Any, ...], to: object) -> Any:  # noqa: ANN401 (any JSON value)
    if not at:
        return to
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[at[0]] = changed(value[at[0]], at[1:], to)
    return copy


@rows
@given(data=st.data())
def test_any_change_to_an_answer_is_read_or_a_typed_error(wire: Wire, data: st.DataObject) -> None:
    whole = wire.whole(data.draw(st.sampled_from(list(ALL_SAID.values()))))
    body = changed(whole, data.draw(st.sampled_from(list(paths(whole)))), data.draw(JSON))
    try:
        done = provider_of(wire).decode(json.dumps(body).encode(), wire.model)
    except CallError:
        return
    assert isinstance(done.text, str)
    assert isinstance(done.message, Message)


@rows
@given(data=st.data())
def test_any_change_to_an_event_is_read_or_a_typed_error(wire: Wire, data: st.DataObject) -> None:
    events = [each.data for each in read_events(iter(wire.events(data.draw(st.sampled_from(list(ALL_SAID.values()))))))]
    number = data.draw(st.integers(0, len(events) - 1))
    decoder = provider_of(wire).stream_decoder(wire.model)
    try:
        for index, text in enumerate(events):
            if index != number or text == "[DONE]":
                decoder.feed("message", text)
            else:
                said = json.loads(text)
                at = data.draw(st.sampled_from(list(paths(said))))
                decoder.feed("message", json.dumps(changed(said, at, data.draw(JSON))))
    except CallError:
        return
    assert isinstance(decoder.completion().text, str)
    assert isinstance(decoder.completion().message, Message)
