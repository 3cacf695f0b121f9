"""X6: what a server sends is capped after decompression, before it is kept, and what an error keeps is 8 KB of it.

The caps are 64 MiB for a body or a stream, and 8 MiB for one event. `MEMORY` is twice the larger one (the body, and
the pieces that it is made of) and some; a bomb would decode to several times as much.
"""

from __future__ import annotations

import gzip
import pickle
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from functools import cache

import pytest

from journeys.asking import client_of, outcome_of
from support.fault_server import (
    FaultServer,
    Repeat,
    Send,
    Stall,
    Step,
    error,
    gzip_bomb,
    head,
    http_chunk,
    json_reply,
    reply,
    sse,
    sse_event,
)
from support.openai_wire import completion, stream_events
from tidegate import (
    CallError,
    Client,
    ConnectionLost,
    MalformedResponse,
    ProviderUnavailable,
    ResponseTooLarge,
    StreamInterrupted,
)
from tidegate.dispatch import BODY_LIMIT
from tidegate.errors import BODY_LIMIT as KEPT

Ask = Callable[[Client], object]

MB = 2**20
BOMB = 400 * MB
MEMORY = 3 * BODY_LIMIT + 32 * MB
"""Bytes at the peak, of all that Python allocates: three times, for an encoding inside an encoding."""
MEMORY_OF_A_STREAM = 40 * MB
MEMORY_OF_AN_ERROR = 8 * MB
JSON = {"content-type": "application/json"}
EVENTS = {"content-type": "text/event-stream"}
CHUNKED = {"transfer-encoding": "chunked"}


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


def complete(client: Client) -> object:
    return client.complete("Hi")


def complete_watched(client: Client) -> object:
    return client.complete("Hi", stall_detection=True)


def stream(client: Client) -> int:
    with client.stream("Hi") as answer:
        return sum(1 for _ in answer)


WAYS: list[Ask] = [complete, complete_watched, stream]
STREAMED: list[Ask] = [complete_watched, stream]


def failure_of(server: FaultServer, ask: Ask, step: Step) -> tuple[CallError, int]:
    """How the call fails, and how many bytes it needed at its peak."""
    server.always(step)
    with client_of(server, timeout=50) as client:
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            failure = outcome_of(lambda: ask(client))
            peak = tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()
    assert isinstance(failure, CallError)
    return failure, peak


# Bombs


@cache
def zeros(encoding: str) -> bytes:
    """`BOMB` spaces, packed."""
    if encoding == "gzip, gzip":
        return gzip.compress(zeros("gzip"))
    bits = {"gzip": 31, "deflate": 15, "deflate without a head": -15}[encoding]
    packer = zlib.compressobj(9, zlib.DEFLATED, bits)
    return b"".join([*(packer.compress(b" " * MB) for _ in range(BOMB // MB)), packer.flush()])


def bomb(encoding: str, status: int = 200, content_type: str = "application/json") -> Step:
    body = zeros(encoding)
    assert len(body) < MB
    name = encoding.partition(" without")[0]
    return reply(status, body, {"content-type": content_type, "content-encoding": name})


@pytest.mark.parametrize("ask", WAYS)
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "deflate without a head", "gzip, gzip"])
def test_X6_a_small_body_that_decodes_to_a_huge_one_is_refused(server: FaultServer, encoding: str, ask: Ask) -> None:
    failure, peak = failure_of(server, ask, bomb(encoding))
    assert isinstance(failure, ResponseTooLarge)
    assert f"larger than {BODY_LIMIT} bytes" in str(failure)
    assert not failure.retryable
    assert peak < MEMORY < BOMB


@pytest.mark.parametrize("ask", STREAMED)
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "gzip, gzip"])
def test_X6_a_stream_that_decodes_to_a_huge_one_is_refused(server: FaultServer, encoding: str, ask: Ask) -> None:
    """It was asked for without compression, and does it all the same."""
    failure, peak = failure_of(server, ask, bomb(encoding, content_type="text/event-stream"))
    assert isinstance(failure, ResponseTooLarge)
    assert "`event_bytes`" in str(failure)
    assert peak < MEMORY_OF_A_STREAM
    assert server.requests[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("ask", WAYS)
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "gzip, gzip"])
def test_X6_an_error_that_decodes_to_a_huge_one_is_that_error(server: FaultServer, encoding: str, ask: Ask) -> None:
    """Its beginning is enough to say what it is."""
    failure, peak = failure_of(server, ask, bomb(encoding, status=500))
    assert type(failure) is ProviderUnavailable
    assert failure.body is not None
    assert len(failure.body) == KEPT
    assert peak < MEMORY_OF_AN_ERROR


def test_X6_too_many_encodings_are_refused(server: FaultServer) -> None:
    names = ", ".join(["gzip"] * 40)
    server.script(reply(200, zeros("gzip"), {**JSON, "content-encoding": names}))
    with client_of(server) as client:
        assert isinstance(outcome_of(lambda: client.complete("Hi")), MalformedResponse)


def test_X6_a_compressed_answer_of_a_sane_size_is_read(server: FaultServer) -> None:
    text = "Hello. " * 100_000
    whole = json_reply(completion(text))[0]
    assert isinstance(whole, Send)
    body = whole.data.partition(b"\r\n\r\n")[2]
    server.script(reply(200, gzip.compress(body), {**JSON, "content-encoding": "gzip"}))
    with client_of(server) as client:
        assert client.complete("Hi").text == text


def test_X6_the_bomb_of_these_tests_goes_off_where_nobody_caps_it() -> None:
    """In case all of the above could not fail."""
    assert sum(len(piece) for piece in inflated(zeros("gzip"))) == BOMB
    answer = gzip_bomb(MB)[0]
    assert isinstance(answer, Send)
    assert len(answer.data) < MB / 100


def inflated(data: bytes) -> Iterator[bytes]:
    unpacker = zlib.decompressobj(31)
    while data:
        yield unpacker.decompress(data, MB)
        data = unpacker.unconsumed_tail
    yield unpacker.flush()


# Bodies without an end


def endless(content_type: str, piece: bytes, status: int = 200) -> Step:
    return (Send(head(status, {"content-type": content_type, **CHUNKED})), Repeat(http_chunk(piece), 0))


@pytest.mark.parametrize("ask", WAYS)
@pytest.mark.parametrize(
    "step",
    [
        endless("application/json", b" " * 262_144),
        (Send(head(200, JSON)), Repeat(b" " * 262_144, 0)),
        (Send(head(200, {**JSON, "content-length": "9" * 30})), Repeat(b" " * 262_144, 0)),
    ],
    ids=["chunked", "without a length", "with a huge length"],
)
def test_X6_a_body_without_an_end_is_refused(server: FaultServer, step: Step, ask: Ask) -> None:
    failure, peak = failure_of(server, ask, step)
    assert isinstance(failure, ResponseTooLarge)
    assert peak < MEMORY


@pytest.mark.parametrize("ask", WAYS)
def test_X6_an_error_without_an_end_is_that_error(server: FaultServer, ask: Ask) -> None:
    failure, peak = failure_of(server, ask, endless("application/json", b"x" * 262_144, status=503))
    assert failure.status == 503
    assert failure.body == "x" * KEPT
    assert peak < MEMORY_OF_AN_ERROR


@pytest.mark.parametrize("ask", STREAMED)
def test_X6_an_event_without_an_end_is_refused(server: FaultServer, ask: Ask) -> None:
    failure, peak = failure_of(server, ask, endless("text/event-stream", b"x" * 262_144))
    assert isinstance(failure, ResponseTooLarge)
    assert "`event_bytes`" in str(failure)
    assert peak < MEMORY_OF_A_STREAM


def test_X6_a_stream_of_text_without_an_end_is_refused(server: FaultServer) -> None:
    """The consumer has seen some of it: an interruption, whose cause says why."""
    event = sse_event(stream_events(["x" * 500_000])[1])
    server.always(endless("text/event-stream", event))
    with client_of(server, timeout=50) as client:
        failure = outcome_of(lambda: stream(client))
    assert isinstance(failure, StreamInterrupted)
    assert isinstance(failure.__cause__, ResponseTooLarge)
    assert "`stream_bytes`" in str(failure)
    assert not failure.retryable
    assert len(failure.partial) <= BODY_LIMIT


@pytest.mark.slow
@pytest.mark.parametrize("ask", STREAMED)
def test_X6_a_stream_of_comments_without_an_end_is_refused(server: FaultServer, ask: Ask) -> None:
    failure, peak = failure_of(server, ask, endless("text/event-stream", b": x\n\n" * 65_536))
    assert isinstance(failure, ResponseTooLarge)
    assert peak < MEMORY_OF_AN_ERROR


# Heads

OK = b"HTTP/1.1 200 OK\r\n"
LONG = b"a" * MB

HEADS: dict[str, bytes] = {
    "a status line without an end": b"HTTP/1.1 200 " + LONG,
    "a header without an end": OK + b"x-long: " + LONG,
    "a header's name without an end": OK + LONG,
    "very many headers": OK + b"x: y\r\n" * 100_000,
    "a chunk's length without an end": head(200, {**JSON, **CHUNKED}) + b"0" * MB,
    "a chunk's extension without an end": head(200, {**JSON, **CHUNKED}) + b"1;" + LONG,
}


@pytest.mark.parametrize("ask", WAYS)
@pytest.mark.parametrize("data", HEADS.values(), ids=HEADS)
def test_X6_a_huge_head_is_refused(server: FaultServer, data: bytes, ask: Ask) -> None:
    """The server sends no more, and waits: the refusal does not wait for it."""
    failure, peak = failure_of(server, ask, (Send(data), Stall()))
    assert isinstance(failure, ConnectionLost)
    assert "the answer's head has a line that is too long, or too many lines" in str(failure)
    assert peak < MEMORY_OF_AN_ERROR


def test_X6_a_large_head_of_a_sane_size_is_read(server: FaultServer) -> None:
    server.script(json_reply(completion(), headers={f"x-{n}": "a" * 60_000 for n in range(20)}))
    with client_of(server) as client:
        assert client.complete("Hi").text == "Hello."


# What an error keeps

KINDS: dict[str, Step] = {
    "text": reply(400, b"x" * MB),
    "a message": error(400, message="x" * MB),
    "two bytes a character": reply(400, "é".encode() * MB),
    "no UTF-8": reply(400, b"\xff" * MB),
    "a type and a code": error(400, "t" * 20_000, "c" * 20_000),
    "headers": error(400, headers=dict.fromkeys(("x-request-id", "retry-after", "location"), "a" * 60_000)),
    "a redirect": reply(302, headers={"location": "https://elsewhere.test/" + "a" * 60_000}),
    "a broken answer": reply(200, b"x" * MB, JSON),
    "a broken event": sse(["x" * MB]),
    "an error event": sse(['{"error": {"message": "' + "x" * MB + '"}}']),
}


@pytest.mark.parametrize("ask", STREAMED)
@pytest.mark.parametrize("step", KINDS.values(), ids=KINDS)
def test_X6_an_error_keeps_eight_kilobytes_of_a_body(server: FaultServer, step: Step, ask: Ask) -> None:
    """And no more of anything else: its text stays readable, its pickle small."""
    failure, _ = failure_of(server, ask, step)
    assert len(failure.body or "") <= KEPT == 8 * 1024
    assert len(str(failure)) < 2000
    assert len(pickle.dumps(failure)) < 6 * KEPT
