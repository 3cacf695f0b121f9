"""Streams: live, whole or a typed error (T6), watched by clocks that keep-alives do not turn back."""

from __future__ import annotations

import itertools
import json
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import pytest

from journeys.asking import PATIENCE, client_of, outcome_of
from support.fault_server import (
    LAST_CHUNK,
    Action,
    Close,
    FaultServer,
    Gate,
    Pause,
    RecordedRequest,
    Repeat,
    Reset,
    Send,
    Stall,
    Step,
    bytes_of,
    cut_at,
    error,
    head,
    http_chunk,
    json_reply,
    reply,
    sse,
    sse_event,
    sse_raw,
)
from support.openai_wire import (
    chunk,
    completion,
    error_body,
    stream_events,
    tool_call,
    tool_call_delta,
    usage_object,
)
from tidegate import (
    BadRequest,
    CallError,
    Client,
    Completion,
    ConfigError,
    ConnectionLost,
    ContentFiltered,
    DeadlineExceeded,
    FirstTokenTimeout,
    IdleTimeout,
    MalformedEvent,
    MalformedResponse,
    Overloaded,
    ProviderUnavailable,
    QuotaExhausted,
    RateLimited,
    Retry,
    Stream,
    StreamInterrupted,
    StreamUnfinished,
    Timeouts,
    TruncatedStream,
)

AGAIN = Retry(attempts=3, first=0.001, longest=0.001)
"""Retries that cost no time."""
BRISK = Timeouts(first_token=0.06, idle=0.06)
"""Seconds that a silent server gets."""

PING = http_chunk(sse_event('{"choices":[]}'))
NAMED_PING = http_chunk(sse_event('{"type":"ping"}', "ping"))
COMMENT = http_chunk(b": keep-alive\n\n")


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


def half(*pieces: str) -> list[str]:
    """The events of an answer whose end is still to come."""
    return stream_events(pieces, finish=None, usage=None)


def unended(*events: Any) -> Step:
    """A chunked stream that says no more after these events, and does not end either."""
    return sse(events, done=False)[:-1]


def then(opening: Iterable[Any], *actions: Action) -> Step:
    return (*unended(*opening), *actions)


def whole_text(client: Client, **options: Any) -> str:
    with client.stream("Hi", timeout=PATIENCE, **options) as answer:
        return "".join(piece.text for piece in answer)


def ask_stream(client: Client, **options: Any) -> Stream:
    return client.stream("Hi", timeout=PATIENCE, **options)


# Liveness


def test_the_first_chunk_is_there_while_the_server_withholds_the_second(server: FaultServer) -> None:
    gate = threading.Event()
    server.always(sse([*half("one"), Gate(gate), *stream_events([" two"])[1:]]))
    with client_of(server) as client:
        answer = ask_stream(client)
        assert (next(answer).text, answer.text) == ("one", "one")
        assert not gate.is_set()
        gate.set()
        assert "".join(piece.text for piece in answer) == " two"
    assert answer.completion.text == "one two"


def test_every_chunk_is_there_before_the_next_is_sent(server: FaultServer) -> None:
    """Not only the first: nothing is held back for a fuller buffer."""
    gates = [threading.Event() for _ in range(5)]
    events: list[Any] = half()
    for number, gate in enumerate(gates):
        events += [Gate(gate), chunk(str(number))]
    server.always(sse([*events, chunk(finish_reason="stop"), chunk(usage=(5, 7))]))
    gates[0].set()
    with client_of(server) as client, ask_stream(client) as answer:
        for number, gate in enumerate([*gates[1:], threading.Event()]):
            assert next(answer).text == str(number)
            gate.set()
        assert [piece.finish_reason for piece in answer] == ["stop"]


def test_an_event_is_read_wherever_the_network_cuts_it(server: FaultServer) -> None:
    text = "grün 🌊"
    body = b"".join(sse_event(json.dumps(json.loads(event), ensure_ascii=False)) for event in stream_events([text]))
    pieces = (body[at : at + 1] for at in range(len(body)))
    server.always(sse_raw(*pieces, sse_event("[DONE]")))
    with client_of(server) as client:
        assert whole_text(client) == text


def test_a_chunk_knows_its_place_and_its_moment(server: FaultServer) -> None:
    server.always(sse(stream_events(["a", "b"])))
    with client_of(server) as client:
        pieces = list(ask_stream(client))
    assert [(piece.index, piece.text, piece.finish_reason) for piece in pieces] == [
        (0, "a", None), (1, "b", None), (2, "", "stop"),
    ]  # fmt: skip
    assert pieces[0].timestamp <= pieces[2].timestamp
    assert not any(piece.restarted for piece in pieces)


def test_a_streamed_tool_call_is_put_together(server: FaultServer) -> None:
    deltas = [
        tool_call_delta(id="call_1", name="tide", arguments=""),
        tool_call_delta(arguments='{"port":'),
        tool_call_delta(arguments='"Emden"}'),
    ]
    server.always(sse([*half(), *(chunk(tool_call=delta) for delta in deltas), chunk(finish_reason="tool_calls")]))
    with client_of(server) as client, ask_stream(client) as answer:
        list(answer)
    (call,) = answer.completion.tool_calls
    assert (call.id, call.name, json.loads(call.arguments)) == ("call_1", "tide", {"port": "Emden"})
    assert answer.completion.complete == "yes"


def test_the_completion_is_known_after_the_last_chunk_only(server: FaultServer) -> None:
    server.always(sse(stream_events(["Hello"], usage=(3, 4))))
    with client_of(server) as client, ask_stream(client) as answer:
        with pytest.raises(StreamUnfinished):
            _ = answer.completion
        next(answer)
        with pytest.raises(StreamUnfinished):
            _ = answer.completion
        list(answer)
        done = answer.completion
    assert (done.text, done.finish_reason, done.complete) == ("Hello", "stop", "yes")
    assert done.usage is not None
    assert (done.usage.input_tokens, done.usage.output_tokens) == (3, 4)
    assert list(answer) == []


# Ends that are whole


def test_a_finished_stream_without_an_end_mark_completes_promptly(server: FaultServer) -> None:
    """The server sends finish reason and usage, no `[DONE]`, and keeps the connection open."""
    server.always(then(stream_events(["Hello"]), Stall()))
    with client_of(server) as client:
        answer = ask_stream(client)
        assert "".join(piece.text for piece in answer) == "Hello"
    assert answer.completion.complete == "yes"
    assert answer.completion.timeline.total < PATIENCE / 2


ENDINGS: dict[str, Step] = {
    "closed right after the finish reason": then(stream_events(["Hello"], usage=None), Close()),
    "reset right after the finish reason": then(stream_events(["Hello"], usage=None), Reset()),
    "closed without the last chunk": then(stream_events(["Hello"]), Close()),
    "ended by the connection's end": sse(stream_events(["Hello"]), chunked=False, done=False),
    "an end mark without its blank line": sse_raw(b"".join(map(sse_event, stream_events(["Hello"]))), b"data: [DONE]"),
    "usage before the finish reason": sse(
        [*half("Hello"), chunk(usage=(5, 7)), chunk(finish_reason="stop")], done=False
    ),
    "usage with the finish reason": sse(
        [*half("Hello"), chunk(finish_reason="stop") | {"usage": usage_object((5, 7))}], done=False
    ),
    "a trailer after the last chunk": (*sse(stream_events(["Hello"]))[:-1], Send(b"0\r\nx-checksum: 1\r\n\r\n")),
    "events after the end mark": sse([*stream_events(["Hello"]), "[DONE]", *half("more")]),
    "comments and pings in between": sse(
        [b": hi\n\n", *half("Hello"), NAMED_PING[4:-2], b": hi\n\n", *stream_events([])[1:]], done=False
    ),
}


@pytest.mark.parametrize("step", ENDINGS.values(), ids=ENDINGS)
def test_an_answer_with_a_finish_reason_is_whole_however_its_stream_ends(server: FaultServer, step: Step) -> None:
    server.always(step)
    with client_of(server) as client, ask_stream(client) as answer:
        assert "".join(piece.text for piece in answer) == "Hello"
        assert answer.completion.complete == "yes"
        again = client.complete("Hi", timeout=PATIENCE, stall_detection=True)
    assert (again.text, again.complete) == ("Hello", "yes")


def test_usage_that_comes_after_the_finish_reason_is_waited_for(server: FaultServer) -> None:
    server.always(sse([*stream_events(["Hello"], usage=None), Pause(0.1), chunk(usage=(3, 4))], done=False))
    with client_of(server) as client, ask_stream(client) as answer:
        list(answer)
    assert answer.completion.usage is not None
    assert answer.completion.usage.output_tokens == 4


@pytest.mark.slow
def test_usage_is_not_lost_to_a_consumer_that_thinks_about_the_last_chunk(server: FaultServer) -> None:
    """The grace for late usage runs while it is waited for, not while the consumer has the chunk before it."""
    gate = threading.Event()
    server.always(sse([*stream_events(["Hello"], usage=None), Gate(gate), chunk(usage=(3, 4))]))
    with client_of(server) as client, ask_stream(client) as answer:
        while next(answer).finish_reason is None:
            pass
        threading.Event().wait(1.3)  # longer than the grace
        gate.set()
        assert list(answer) == []
    assert answer.completion.usage is not None
    assert answer.completion.usage.output_tokens == 4


@pytest.mark.slow
def test_pings_after_the_finish_reason_do_not_put_the_end_off(server: FaultServer) -> None:
    server.always(then(stream_events(["Hello"], usage=None), Repeat(PING, 0.05)))
    with client_of(server) as client, ask_stream(client) as answer:
        assert "".join(piece.text for piece in answer) == "Hello"
    assert answer.completion.timeline.total < 5


def test_an_end_mark_without_a_finish_reason_leaves_it_open_whether_the_answer_is_whole(server: FaultServer) -> None:
    server.always(sse(half("Hello")))
    with client_of(server) as client:
        assert (streamed := ask_stream(client)) is not None
        assert "".join(piece.text for piece in streamed) == "Hello"
    assert streamed.completion.complete == "unknown"
    assert streamed.completion.finish_reason is None


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_an_answer_cut_by_the_provider_is_not_whole(server: FaultServer, reason: str) -> None:
    server.always(sse(stream_events(["Hello"], finish=reason)))
    with client_of(server) as client, ask_stream(client) as answer:
        list(answer)
    assert (answer.completion.finish_reason, answer.completion.complete) == (reason, "no")


def test_a_host_that_answers_a_stream_in_one_piece_is_understood(server: FaultServer) -> None:
    server.always(json_reply(completion("Hello")))
    with client_of(server) as client, ask_stream(client) as answer:
        assert [(piece.text, piece.finish_reason) for piece in answer] == [("Hello", "stop")]
    assert answer.completion.complete == "yes"


# Ends that are not whole

CUTS: dict[str, tuple[Step, type[CallError]]] = {
    "ended": (sse(half("Hel"), done=False), TruncatedStream),
    "closed": (then(half("Hel"), Close()), ConnectionLost),
    "reset": (then(half("Hel"), Reset()), ConnectionLost),
    "closed, not chunked": (sse(half("Hel"), chunked=False, done=False), TruncatedStream),
    "malformed": (sse([*half("Hel"), '{"choices": [', *stream_events(["lo"])[1:]]), MalformedEvent),
    "no object": (sse([*half("Hel"), "[1, 2]", *stream_events(["lo"])[1:]]), MalformedEvent),
    "no text": (sse([*half("Hel"), b"data: \xff\xfe\n\n", *stream_events(["lo"])[1:]]), MalformedEvent),
    "choices are a word": (sse([*half("Hel"), '{"choices": "x"}', *stream_events(["lo"])[1:]]), MalformedEvent),
    "an overload inside": (sse([*half("Hel"), error_body("overloaded_error")], done=False), Overloaded),
    "an error inside": (sse([*half("Hel"), error_body("server_error")], done=False), ProviderUnavailable),
    "a filter inside": (sse([*half("Hel"), error_body("x", "content_filter")], done=False), ContentFiltered),
    "an error event": (
        sse([*half("Hel"), b'event: error\ndata: {"type":"error","message":"no"}\n\n'], done=False),
        ProviderUnavailable,
    ),
}


@pytest.mark.parametrize(("step", "cause"), CUTS.values(), ids=CUTS)
def test_T6_a_stream_that_breaks_off_after_text_raises_with_what_there_was(
    server: FaultServer, step: Step, cause: type[CallError]
) -> None:
    server.always(step)
    with client_of(server, retry=AGAIN) as client:
        answer = ask_stream(client)
        seen: list[str] = []
        with pytest.raises(StreamInterrupted) as caught:
            seen.extend(piece.text for piece in iter(answer))
    failure = caught.value
    assert (failure.partial, answer.text) == ("Hel", "Hel")
    assert isinstance(failure.__cause__, cause)
    assert failure.retryable == failure.__cause__.retryable
    assert (failure.provider, failure.model) == ("openai", "gpt-4o-mini")
    assert [attempt.outcome for attempt in failure.attempts] == [cause.__name__]
    assert len(server.requests) == 1
    assert (answer.completion.text, answer.completion.complete) == ("Hel", "no")
    assert outcome_of(lambda: next(answer)) is failure


BEFORE_TEXT: dict[str, tuple[Step, type[CallError]]] = {
    "ended": (sse(half(), done=False), TruncatedStream),
    "ended at once": (sse([], done=False), TruncatedStream),
    "closed": (then(half(), Close()), ConnectionLost),
    "reset": (then(half(), Reset()), ConnectionLost),
    "reset before headers": ((Reset(),), ConnectionLost),
    "closed before headers": ((Close(),), ConnectionLost),
    "half the headers": ((Send(b"HTTP/1.1 200 OK\r\ncontent-ty"), Close()), TruncatedStream),
    "malformed": (sse([*half(), "{", *stream_events(["Hello"])[1:]]), MalformedEvent),
    "an overload inside": (sse([error_body("overloaded_error")], done=False), Overloaded),
    "a rate limit inside": (sse([error_body("rate_limit_error")], done=False), RateLimited),
    "an unknown error inside": (sse([error_body("strange")], done=False), ProviderUnavailable),
    "an error with a status inside": (sse(['{"error":{"code":503,"message":"x"}}'], done=False), Overloaded),
    "an overload as JSON": (json_reply(error_body("overloaded_error")), Overloaded),
    "no body": (reply(204), TruncatedStream),
    "a web page": (reply(200, b"<html>busy</html>", {"content-type": "text/html"}), TruncatedStream),
    "empty JSON": (reply(200, b"", {"content-type": "application/json"}), MalformedResponse),
    "half JSON": (reply(200, b'{"choices":', {"content-type": "application/json"}), MalformedResponse),
    "HTTP 500": (error(500), ProviderUnavailable),
    "not HTTP": ((Send(b"SSH-2.0-OpenSSH\r\n"), Close()), ConnectionLost),
}


@pytest.mark.parametrize(("step", "kind"), BEFORE_TEXT.values(), ids=BEFORE_TEXT)
def test_T6_a_stream_that_fails_before_text_is_asked_for_again(
    server: FaultServer, step: Step, kind: type[CallError]
) -> None:
    server.script(step)
    server.always(sse(stream_events(["Hello"])))
    with client_of(server, retry=AGAIN) as client, ask_stream(client) as answer:
        assert "".join(piece.text for piece in answer) == "Hello"
    assert [attempt.outcome for attempt in answer.completion.attempts] == [kind.__name__, "ok"]
    assert len(server.requests) == 2


@pytest.mark.parametrize(("step", "kind"), BEFORE_TEXT.values(), ids=BEFORE_TEXT)
def test_T6_without_retries_a_stream_that_fails_before_text_is_a_typed_error(
    server: FaultServer, step: Step, kind: type[CallError]
) -> None:
    server.always(step)
    with client_of(server) as client, pytest.raises(kind) as caught:
        ask_stream(client)
    assert (caught.value.partial, len(caught.value.attempts), len(server.requests)) == ("", 1, 1)


REFUSED_INSIDE: dict[str, tuple[Step, type[CallError]]] = {
    "quota": (sse([error_body("insufficient_quota")], done=False), QuotaExhausted),
    "filter": (sse([error_body("x", "content_policy_violation")], done=False), ContentFiltered),
    "bad request": (sse([error_body("invalid_request_error")], done=False), BadRequest),
    "quota as JSON": (json_reply(error_body("insufficient_quota")), QuotaExhausted),
}


@pytest.mark.parametrize(("step", "kind"), REFUSED_INSIDE.values(), ids=REFUSED_INSIDE)
def test_T5_a_refusal_inside_a_200_stream_is_not_asked_again(
    server: FaultServer, step: Step, kind: type[CallError]
) -> None:
    server.always(step)
    with client_of(server, retry=AGAIN) as client, pytest.raises(kind):
        ask_stream(client)
    assert len(server.requests) == 1


def test_a_redirect_of_a_stream_is_refused_with_a_reason(server: FaultServer) -> None:
    server.always(reply(307, headers={"location": "/elsewhere"}))
    with client_of(server, retry=AGAIN) as client, pytest.raises(BadRequest, match="redirect") as caught:
        ask_stream(client)
    assert "base_url" in caught.value.hint
    assert len(server.requests) == 1


def test_a_malformed_event_is_named_by_its_place(server: FaultServer) -> None:
    server.always(sse([*half("Hel"), '{"choices": ', *stream_events(["lo"])[1:]]))
    with client_of(server) as client, ask_stream(client) as answer, pytest.raises(StreamInterrupted) as caught:
        list(answer)
    assert "event 3" in str(caught.value)
    assert caught.value.body == '{"choices": '


# T6: cut at every byte

TEXT = "Tide 🌊"
EVENTS = [
    {"choices": [{"delta": {"content": "Ti"}}]},
    {"choices": [{"delta": {"content": "de 🌊"}, "finish_reason": None}]},
    {"choices": [{"delta": {}, "finish_reason": "stop"}]},
    {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}},
]
STREAM_EVENTS = [json.dumps(event, ensure_ascii=False, separators=(",", ":")) for event in EVENTS]
ANSWER = json.dumps(
    {"choices": [{"message": {"content": TEXT}, "finish_reason": "stop"}]}, ensure_ascii=False, separators=(",", ":")
).encode()
JSON_TYPE = {"content-type": "application/json"}

RECORDINGS: dict[str, bytes] = {
    "stream, chunked": bytes_of(sse(STREAM_EVENTS)),
    "stream, ended by its connection": bytes_of(sse(STREAM_EVENTS, chunked=False)),
    "answer with a length": bytes_of(reply(200, ANSWER, JSON_TYPE)),
    "answer, chunked": head(200, {**JSON_TYPE, "transfer-encoding": "chunked"})
    + http_chunk(ANSWER[:20]) + http_chunk(ANSWER[20:]) + LAST_CHUNK,
    "answer ended by its connection": head(200, JSON_TYPE) + ANSWER,
}  # fmt: skip
HOWS: tuple[Literal["close", "reset"], ...] = ("close", "reset")
HOW_ENDED: dict[str, Callable[[Client, str], str]] = {
    "stream": lambda client, prompt: "".join(piece.text for piece in client.stream(prompt, timeout=PATIENCE)),
    "stall_detection": lambda client, prompt: client.complete(prompt, timeout=PATIENCE, stall_detection=True).text,
    "complete": lambda client, prompt: client.complete(prompt, timeout=PATIENCE).text,
}
T6_WAYS = {"stream": ("stream", "stall_detection"), "answer": ("complete", "stream")}
T6_CASES = [
    # The first way of each kind is always tried, closed; the others are much alike.
    pytest.param(recording, way, how, marks=() if (way, how) == (ways[0], "close") else pytest.mark.slow)
    for recording in RECORDINGS
    for ways in [T6_WAYS[recording.split()[0].strip(",")]]
    for way, how in itertools.product(ways, HOWS)
]


def _cut_as_asked(recording: bytes) -> Callable[[RecordedRequest], Step]:
    """The prompt says where the recording is to be cut, and how: many cuts can then be tried at once."""

    def step_for(request: RecordedRequest) -> Step:
        offset, how = request.json["messages"][0]["content"].split()
        return cut_at(recording, int(offset), how)

    return step_for


@pytest.mark.parametrize(("recording", "way", "how"), T6_CASES)
def test_T6_a_recording_cut_at_any_byte_is_the_whole_answer_or_a_typed_error(
    server: FaultServer, caplog: pytest.LogCaptureFixture, recording: str, way: str, how: Literal["close", "reset"]
) -> None:
    caplog.set_level(logging.CRITICAL, "tidegate")  # hundreds of failures are what is wanted
    wire = RECORDINGS[recording]
    server.on(_cut_as_asked(wire))
    ask = HOW_ENDED[way]
    with client_of(server) as client, ThreadPoolExecutor(8) as pool:
        cuts = range(len(wire) + 1)
        outcomes = list(pool.map(lambda at: outcome_of(lambda: ask(client, f"{at} {how}")), cuts))

    for at, outcome in zip(cuts, outcomes, strict=True):
        if isinstance(outcome, CallError):
            assert not isinstance(outcome, DeadlineExceeded), f"cut at {at}: {outcome}"
            assert TEXT.startswith(outcome.partial), f"cut at {at}: {outcome.partial!r}"
        else:
            assert outcome == TEXT, f"cut at {at}: a quiet half, {outcome!r}"
    whole = [at for at, outcome in zip(cuts, outcomes, strict=True) if outcome == TEXT]
    if how == "reset" and recording == "answer ended by its connection":
        assert whole == []  # only an orderly end says that nothing is missing
    else:
        assert whole[-1] == len(wire)
        assert whole[0] >= _answered_at(wire)
    if how == "close":
        assert whole == list(range(whole[0], len(wire) + 1))


def _answered_at(wire: bytes) -> int:
    """The first byte after the one that says that the answer is whole."""
    mark = b'"finish_reason":"stop"'
    return wire.index(mark) + len(mark)


def test_T6_a_stream_cut_at_any_event_restarts_or_stays_a_typed_error(server: FaultServer) -> None:
    """With `recover="restart"` every cut heals, and no piece of the broken answer stays in the text."""
    wire = RECORDINGS["stream, chunked"]
    boundaries = [at + 2 for at in range(len(wire)) if wire.startswith(b"\n\n", at)]
    for at in boundaries:
        server.script(cut_at(wire, at), sse(STREAM_EVENTS))
    with client_of(server, retry=AGAIN) as client:
        for at in boundaries:
            server.requests.clear()
            answer = ask_stream(client, recover="restart")
            list(answer)
            assert answer.text == answer.completion.text == TEXT, f"cut at {at}"
            if len(server.requests) == 1:
                server.always(sse(STREAM_EVENTS))
                whole_text(client)  # uses up the script's second step


# The stream's clocks


@pytest.mark.parametrize(
    "step",
    [
        then([], Stall()),
        then([], Repeat(COMMENT, 0.01)),
        then([], Repeat(PING, 0.01)),
        then([], Repeat(NAMED_PING, 0.01)),
        then(half(), Repeat(http_chunk(sse_event(half()[0])), 0.01)),
        then([], Repeat(http_chunk(b"d"), 0.01)),
        (Stall(),),
        (Repeat(head(100), 0.01),),
    ],
    ids=["silence", "comments", "pings", "named pings", "empty deltas", "an endless line", "no headers", "interim"],
)
@pytest.mark.parametrize("way", ["stream", "stall_detection"])
def test_nothing_but_content_stops_the_clock_of_the_first_token(server: FaultServer, way: str, step: Step) -> None:
    server.always(step)
    with client_of(server, timeouts=Timeouts(first_token=0.06, idle=PATIENCE)) as client:
        failure = outcome_of(lambda: HOW_ENDED[way](client, "Hi"))
    assert isinstance(failure, FirstTokenTimeout)


@pytest.mark.parametrize(
    "noise",
    [Stall(), Repeat(COMMENT, 0.01), Repeat(PING, 0.01), Repeat(NAMED_PING, 0.01), Repeat(http_chunk(b"d"), 0.01)],
    ids=["silence", "comments", "pings", "named pings", "an endless line"],
)
def test_nothing_but_content_turns_the_idle_clock_back(server: FaultServer, noise: Action) -> None:
    server.always(then(half("Hel"), noise))
    with client_of(server, timeouts=Timeouts(first_token=PATIENCE, idle=0.06)) as client:
        streamed = outcome_of(lambda: whole_text(client))
        watched = outcome_of(lambda: client.complete("Hi", timeout=PATIENCE, stall_detection=True))
    assert isinstance(streamed, StreamInterrupted)
    assert isinstance(streamed.__cause__, IdleTimeout)
    assert streamed.partial == "Hel"
    assert isinstance(watched, IdleTimeout)


def test_content_turns_the_idle_clock_back(server: FaultServer) -> None:
    """Six pieces, each within the idle limit, all together far beyond it."""
    server.always(sse(stream_events(list("abcdef")), interval=0.05))
    with client_of(server, timeouts=Timeouts(idle=0.2)) as client:
        assert whole_text(client) == "abcdef"


def test_the_idle_clock_stands_still_while_the_consumer_thinks(server: FaultServer) -> None:
    gate = threading.Event()
    server.always(sse([*half("one"), Gate(gate), *stream_events([" two"])[1:]]))
    with client_of(server, timeouts=Timeouts(idle=0.1)) as client, ask_stream(client) as answer:
        next(answer)
        threading.Event().wait(0.15)
        gate.set()
        assert "".join(piece.text for piece in answer) == " two"


def test_the_time_before_the_first_next_belongs_to_the_consumer(server: FaultServer) -> None:
    """The program may look at a stream as late as it likes: that is not the provider's time."""
    server.always(sse(stream_events(["Hello"])))
    with client_of(server, timeouts=Timeouts(first_token=0.1, idle=0.1)) as client, ask_stream(client) as answer:
        threading.Event().wait(0.15)
        assert "".join(piece.text for piece in answer) == "Hello"
    timeline = answer.completion.timeline
    assert timeline.consumer >= 0.15
    assert timeline.total == pytest.approx(answer.completion.trace.duration)


def test_a_silent_stream_is_asked_for_again_when_nothing_was_shown(server: FaultServer) -> None:
    server.script(then(half(), Stall()))
    server.always(sse(stream_events(["Hello"])))
    with client_of(server, retry=AGAIN, timeouts=BRISK) as client, ask_stream(client) as answer:
        assert "".join(piece.text for piece in answer) == "Hello"
    assert [attempt.outcome for attempt in answer.completion.attempts] == ["FirstTokenTimeout", "ok"]


def test_a_plain_answer_has_neither_clock(server: FaultServer) -> None:
    server.always((Pause(0.15), *json_reply(completion("Hello"))))
    with client_of(server, timeouts=BRISK) as client:
        assert client.complete("Hi", timeout=PATIENCE).text == "Hello"


# Stall detection


def test_stall_detection_streams_underneath_and_answers_the_same(server: FaultServer) -> None:
    server.script(sse(stream_events(["Hel", "lo"], usage=(3, 4))), json_reply(completion("Hello", usage=(3, 4))))
    with client_of(server) as client:
        watched = client.complete("Hi", stall_detection=True)
        plain = client.complete("Hi")
    assert [request.json.get("stream") for request in server.requests] == [True, None]
    for field in ("text", "usage", "finish_reason", "complete", "cost", "provider", "model", "id"):
        assert getattr(watched, field) == getattr(plain, field), field


@pytest.mark.parametrize(("step", "cause"), CUTS.values(), ids=CUTS)
def test_stall_detection_asks_again_for_a_torn_answer(server: FaultServer, step: Step, cause: type[CallError]) -> None:
    server.script(step)
    server.always(sse(stream_events(["Hello"])))
    with client_of(server, retry=AGAIN) as client:
        outcome = outcome_of(lambda: client.complete("Hi", timeout=PATIENCE, stall_detection=True))
    if cause.retryable:
        assert isinstance(outcome, Completion)
        assert outcome.text == "Hello"
        assert [attempt.outcome for attempt in outcome.attempts] == [cause.__name__, "ok"]
    else:
        assert type(outcome) is cause
        assert len(server.requests) == 1


def test_stall_detection_books_the_stream_as_stream(server: FaultServer) -> None:
    gate = threading.Event()
    server.always(sse([*half("Hel"), Gate(gate), *stream_events(["lo"])[1:]]))
    with client_of(server) as client:
        future = client.submit("Hi", timeout=PATIENCE, stall_detection=True)
        server.wait_until(lambda: len(server.requests) == 1)
        threading.Event().wait(0.1)
        gate.set()
        timeline = future.result(PATIENCE).timeline
    assert timeline.stream >= 0.08
    assert timeline.first_token < timeline.stream


# Restarts


def test_a_restarted_stream_begins_anew_with_a_marked_chunk(server: FaultServer) -> None:
    server.script(then(half("Wrong", " start"), Reset()))
    server.always(sse(stream_events(["Right", " start"])))
    with client_of(server, retry=AGAIN) as client:
        answer = ask_stream(client, recover="restart")
        seen = [(piece.index, piece.text, piece.restarted, answer.text) for piece in answer]
    assert seen == [
        (0, "Wrong", False, "Wrong"),
        (1, " start", False, "Wrong start"),
        (2, "Right", True, "Right"),
        (3, " start", False, "Right start"),
        (4, "", False, "Right start"),
    ]
    done = answer.completion
    assert (done.text, done.complete) == ("Right start", "yes")
    assert [attempt.outcome for attempt in done.attempts] == ["ConnectionLost", "ok"]
    assert done.timeline.backoff >= 0
    assert client.metrics().calls == 1


def test_a_restarted_stream_may_break_off_again(server: FaultServer) -> None:
    server.script(then(half("one"), Reset()), then(half("two"), Close()))
    server.always(sse(stream_events(["three"])))
    with client_of(server, retry=AGAIN) as client, ask_stream(client, recover="restart") as answer:
        marks = [(piece.text, piece.restarted) for piece in answer]
    assert marks == [("one", False), ("two", True), ("three", True), ("", False)]
    assert answer.completion.text == "three"


def test_a_restart_whose_first_tries_fail_goes_on_trying(server: FaultServer) -> None:
    server.script(then(half("one"), Reset()), error(503))
    server.always(sse(stream_events(["two"])))
    with client_of(server, retry=AGAIN) as client, ask_stream(client, recover="restart") as answer:
        assert [piece.text for piece in answer] == ["one", "two", ""]
    outcomes = [attempt.outcome for attempt in answer.completion.attempts]
    assert outcomes == ["ConnectionLost", "Overloaded", "ok"]


def test_a_restart_that_fails_for_good_raises_with_what_there_was(server: FaultServer) -> None:
    server.script(then(half("one"), Reset()))
    server.always(error(401, "authentication_error"))
    with client_of(server, retry=AGAIN) as client:
        answer = ask_stream(client, recover="restart")
        with pytest.raises(StreamInterrupted) as caught:
            list(answer)
    assert (caught.value.partial, answer.text, answer.completion.text) == ("one", "one", "one")
    assert [attempt.outcome for attempt in caught.value.attempts] == ["ConnectionLost", "AuthenticationFailed"]
    assert answer.completion.complete == "no"
    assert client.metrics().failures == 1


def test_a_restart_uses_no_more_attempts_than_allowed(server: FaultServer) -> None:
    server.always(then(half("one"), Reset()))
    with client_of(server, retry=AGAIN) as client:
        answer = ask_stream(client, recover="restart")
        with pytest.raises(StreamInterrupted) as caught:
            list(answer)
    assert len(server.requests) == len(caught.value.attempts) == 3
    assert caught.value.partial == "one"


def test_a_restart_is_refused_where_the_failure_is_not_worth_it(server: FaultServer) -> None:
    server.always(sse([*half("one"), error_body("x", "content_filter")], done=False))
    with (
        client_of(server, retry=AGAIN) as client,
        ask_stream(client, recover="restart") as answer,
        pytest.raises(StreamInterrupted) as caught,
    ):
        list(answer)
    assert isinstance(caught.value.__cause__, ContentFiltered)
    assert len(server.requests) == 1


def test_T2_a_restart_shares_the_deadline(server: FaultServer) -> None:
    server.script(then(half("one"), Reset()))
    server.always(then(half(), Stall()))
    with client_of(server, retry=AGAIN) as client:
        answer = client.stream("Hi", recover="restart", timeout=0.2)
        failure = outcome_of(lambda: list(answer))
    assert isinstance(failure, DeadlineExceeded)
    assert failure.partial == "one"


def test_a_restart_after_which_the_host_answers_in_one_piece_is_whole(server: FaultServer) -> None:
    server.script(then(half("one"), Reset()))
    server.always(json_reply(completion("two")))
    with client_of(server, retry=AGAIN) as client, ask_stream(client, recover="restart") as answer:
        assert [(piece.text, piece.restarted) for piece in answer] == [("one", False), ("two", True)]
    assert answer.completion.text == "two"


def test_without_retries_a_restart_is_as_good_as_none(server: FaultServer) -> None:
    server.always(then(half("one"), Reset()))
    with (
        client_of(server, retry=None) as client,
        ask_stream(client, recover="restart") as answer,
        pytest.raises(StreamInterrupted),
    ):
        list(answer)
    assert len(server.requests) == 1


def test_an_unknown_way_to_recover_is_refused_before_anything_is_sent(server: FaultServer) -> None:
    with client_of(server) as client, pytest.raises(ConfigError, match="recover"):
        client.stream("Hi", recover="retry")  # type: ignore[arg-type]
    assert server.requests == []


# Plain answers


PLAIN: dict[str, tuple[Step, type[CallError]]] = {
    "a web page": (reply(200, b"<html>busy</html>", {"content-type": "text/html"}), MalformedResponse),
    "no body": (reply(204), MalformedResponse),
    "no choices": (json_reply({"choices": []}), MalformedResponse),
    "a list": (json_reply([]), MalformedResponse),
    "null": (json_reply(None), MalformedResponse),
    "an error inside": (json_reply(error_body("overloaded_error")), Overloaded),
    "broken compression": (
        reply(200, b"no gzip at all", {"content-type": "application/json", "content-encoding": "gzip"}),
        MalformedResponse,
    ),
    "two lengths": (
        (Send(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 7\r\n\r\n{}     "), Close()),
        ConnectionLost,
    ),
    "a bad chunk length": (
        (Send(head(200, {"transfer-encoding": "chunked"}) + b"zz\r\n{}\r\n0\r\n\r\n"), Close()),
        ConnectionLost,
    ),
    "too many headers": ((Send(head(200, [(f"x-{n}", "y") for n in range(200)])), Close()), ConnectionLost),
    "an endless header": ((Send(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000), Close()), ConnectionLost),
    "an old status line": ((Send(b"HTTP/0.9 200\r\n\r\n{}"), Close()), MalformedResponse),
}


@pytest.mark.parametrize(("step", "kind"), PLAIN.values(), ids=PLAIN)
def test_T6_a_plain_answer_that_is_none_is_a_typed_error_worth_a_retry(
    server: FaultServer, step: Step, kind: type[CallError]
) -> None:
    server.script(step)
    server.always(json_reply(completion("Hello")))
    with client_of(server, retry=AGAIN) as client:
        answer = client.complete("Hi", timeout=PATIENCE)
    assert answer.text == "Hello"
    assert [attempt.outcome for attempt in answer.attempts] == [kind.__name__, "ok"]


def test_a_tool_call_in_a_plain_answer_is_read(server: FaultServer) -> None:
    call = tool_call("tide", {"port": "Emden"})
    server.always(json_reply(completion(None, tool_calls=[call], finish_reason="tool_calls")))
    with client_of(server) as client:
        answer = client.complete("Hi")
    assert [(each.name, each.id) for each in answer.tool_calls] == [("tide", "call_1")]
    assert answer.complete == "yes"


# Connections


def test_the_connection_of_an_ended_stream_serves_the_next_call(server: FaultServer) -> None:
    server.always(sse(stream_events(["Hello"])))
    with client_of(server) as client:
        for _ in range(3):
            assert whole_text(client) == "Hello"
    assert len({request.connection_id for request in server.requests}) == 1


def test_a_server_that_closes_each_connection_after_use_is_served_without_a_failed_attempt(
    server: FaultServer,
) -> None:
    """It promises keep-alive and does not keep it: each call finds its connection dead, and none pays for it."""
    server.always((*json_reply(completion("Hello")), Close()))
    with client_of(server) as client:
        for _ in range(20):
            assert client.complete("Hi").text == "Hello"
        assert client.metrics().attempts == 20
    assert len(server.requests) == 20


def test_a_kept_connection_that_the_server_closed_meanwhile_costs_no_attempt(server: FaultServer) -> None:
    server.script((*json_reply(completion("one")), Pause(0.05), Close()))
    server.always(json_reply(completion("two")))
    with client_of(server) as client:
        client.complete("Hi")
        server.wait_until(lambda: server.open_connections == 0)
        answer = client.complete("Hi")
    assert answer.text == "two"
    assert [attempt.outcome for attempt in answer.attempts] == ["ok"]
    assert len(server.requests) == 2


def test_a_connection_with_more_in_it_than_the_answer_does_not_confuse_the_next(server: FaultServer) -> None:
    """Bytes beyond the declared length belong to nobody: they must not become the next call's answer."""
    extra = bytes_of(json_reply(completion("smuggled")))
    server.script((Send(bytes_of(json_reply(completion("one"))) + extra),))
    server.always(json_reply(completion("two")))
    with client_of(server, retry=AGAIN) as client:
        assert [client.complete("Hi").text for _ in range(2)] == ["one", "two"]
