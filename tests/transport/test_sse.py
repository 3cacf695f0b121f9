"""Streamed events: the same bytes give the same events however they are cut, in linear time and within limits."""

from __future__ import annotations

import itertools
import logging
import re
import sys
import time
import tracemalloc
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tidegate.errors import CallError, ConnectionLost, MalformedEvent, ResponseTooLarge
from tidegate.transport import sse
from tidegate.transport.sse import DEFAULT_LIMITS, ServerSentEvent, SSELimits, read_events

BOM = b"\xef\xbb\xbf"
RECORDING = (
    BOM + b"data: {}\n\n: hi\n\nevent: delta\r\nid: 1\r\ndata: two\r\ndata:lines\r\n\r\nretry: 9\r\rdata\r\r"
    b"\n\r\nnew: x\ndata:  \xc3\xa9\xf0\x9f\x98\x80\r\n\n:data: no\ndata: a\n:\ndata: b\n\r\nevent: x\n\n"
    b"data: [DONE]\r\n"
)
BROKEN_RECORDING = (
    b"data: one\r\n\r\nretry: 5\n\n: \xff\rdata: two\r\rid: 3\ndata: \xe2\x82\r\ndata: x\n\ndata: four\n\n"
)


class Outcome(NamedTuple):
    events: list[ServerSentEvent]
    problem: str | None = None


def outcome(chunks: Iterable[bytes], limits: SSELimits = DEFAULT_LIMITS) -> Outcome:
    events: list[ServerSentEvent] = []
    try:
        events.extend(read_events(chunks, limits))  # keeps what came before an error
    except CallError as error:
        return Outcome(events, str(error).partition(":")[0])
    return Outcome(events)


def data_of(*chunks: bytes) -> list[str]:
    return [event.data for event in read_events(chunks)]


def reference(stream: bytes, *, ended: bool = True) -> Outcome:
    """The standard's rules, applied to the stream as a whole, and the project's two: on UTF-8 and on the tail."""
    *lines, rest = re.split(rb"\r\n|\r|\n", stream.removeprefix(BOM))
    events: list[ServerSentEvent] = []
    block: list[bytes] = []
    for line in lines:
        if line:
            block.append(line)
            continue
        try:
            events += dispatched(block)
        except UnicodeDecodeError:
            return Outcome(events, f"event {len(events) + 1} of the stream is not UTF-8")
        block = []
    tail = without_comments([*block, rest] if rest else block)
    if ended and tail in ([b"data: [DONE]"], [b"data:[DONE]"]):
        events.append(ServerSentEvent("message", "[DONE]"))
    return Outcome(events)


def dispatched(block: list[bytes]) -> list[ServerSentEvent]:
    name, data = "", ""
    for line in without_comments(block):
        field, _, value = line.decode().partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data += value + "\n"
    return [ServerSentEvent(name or "message", data.removesuffix("\n"))] if data else []


def without_comments(lines: list[bytes]) -> list[bytes]:
    return [line for line in lines if not line.startswith(b":")]


def bytewise(stream: bytes) -> list[bytes]:
    return [stream[at : at + 1] for at in range(len(stream))]


def cut(stream: bytes, places: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted(min(place, len(stream)) for place in places), len(stream)]
    return [stream[start:end] for start, end in itertools.pairwise(edges)]


FRAGMENTS = [
    *(b"\n", b"\r", b"\r\n", b"\n\n", b"\r\r", b"\r\n\r\n", b"\n\r", BOM, b":", b" ", b": keep-alive\n"),
    *(
        b"data",
        b"data:",
        b"data: x",
        b"data: {}\n\n",
        b"data:y\r\n\r\n",
        b"event: e\n",
        b"event",
        b"id: 7\n",
        b"retry: 1\n",
    ),
    *(b"data: [DONE]", b"data:[DONE]", b"Data: x\n", b"xdata: x\n", b" data: x\n", b"\xff", b"\xe2\x82", b"\xac"),
    *("data: é😀\n".encode(), "\u2028\x85\x0b\x0c\x1c\0".encode(), b"data: " + BOM),
]
STREAMS = st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=3), max_size=25).map(b"".join)
SOUND_STREAMS = st.lists(st.sampled_from(FRAGMENTS[:21]), max_size=25).map(b"".join)
CUTS = st.lists(st.integers(0, 120), max_size=12)


# ---- S1: every way of cutting


@given(STREAMS | SOUND_STREAMS, CUTS)
@example(BOM + b"data: x\r\r\n\r\n", [1, 2])
def test_S1_any_bytes_under_any_cuts_give_what_the_standard_says(stream: bytes, cuts: list[int]) -> None:
    expected = reference(stream)
    assert outcome([stream]) == expected
    assert outcome(cut(stream, cuts)) == expected
    assert outcome(bytewise(stream)) == expected


@pytest.mark.parametrize("stream", [RECORDING, BROKEN_RECORDING])
def test_S1_a_recording_gives_the_same_events_under_every_one_or_two_cuts_and_byte_by_byte(stream: bytes) -> None:
    expected = reference(stream)
    assert outcome(bytewise(stream)) == expected
    for cuts in itertools.combinations_with_replacement(range(len(stream) + 1), 2):
        assert outcome(cut(stream, cuts)) == expected, cuts


def test_S1_the_recordings_hold_these_events() -> None:
    events = [("message", "{}"), ("delta", "two\nlines"), ("message", ""), ("message", " é😀"), ("message", "a\nb")]
    assert outcome([RECORDING]) == ([*events, ("message", "[DONE]")], None)
    problem = "event 3 of the stream is not UTF-8"
    assert outcome([BROKEN_RECORDING]) == ([("message", "one"), ("message", "two")], problem)


@pytest.mark.parametrize("size", range(1, 9))
def test_S1_large_pieces_give_the_same_events_wherever_they_are_sliced(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "SLICE", size)
    for start in range(size):
        assert outcome([RECORDING[:start], RECORDING[start:]]) == reference(RECORDING)


def test_S1_the_events_are_the_same_if_sseclient_stops_asking_how_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(sse._FieldReader, "_read")  # what a later version might not call
    assert outcome([RECORDING]) == reference(RECORDING)
    assert outcome(bytewise(BROKEN_RECORDING)) == reference(BROKEN_RECORDING)


def test_S1_an_event_longer_than_a_slice_is_whole() -> None:
    text = "".join(map(str, range(50_000)))
    assert data_of(f"data: {text}\r\ndata: end\r\n\r\n".encode()) == [f"{text}\nend"]


@pytest.mark.parametrize("stream", [RECORDING, b"data: a\r\r\ndata: b\n\n", b"data: a\r\n\r\ndata: b\r\r\r"])
def test_S1_each_event_comes_with_the_very_byte_that_ends_its_blank_line(stream: bytes) -> None:
    unread = bytewise(stream)[::-1]
    events = read_events(unread.pop() for _ in range(len(stream)))
    taken = [len(stream) - len(unread) for event in events if event.data != "[DONE]"]
    counts = [len(reference(stream[:length], ended=False).events) for length in range(len(stream) + 1)]
    assert taken == [counts.index(number) for number in range(1, max(counts) + 1)]


@pytest.mark.parametrize("end", [b"\n\n", b"\r\r", b"\r\n\r\n", b"\r\n\r", b"\n\r", b"\r\n\n", b"\r\r\n", b"\n\r\n"])
def test_S1_an_event_is_shown_before_anything_more_is_asked_for(end: bytes) -> None:
    shown: list[str] = []

    def chunks() -> Iterator[bytes]:
        yield b"data: one" + end
        assert shown == ["one"], "asked for more while an event was ready"
        yield b"\ndata: two" + end + b"data: three" + end + b"data: fo"
        assert shown == ["one", "two", "three"], "asked for more while an event was ready"

    for event in read_events(chunks()):
        shown += [event.data]
    assert shown == ["one", "two", "three"]


def test_S1_a_byte_order_mark_counts_only_at_the_very_start() -> None:
    assert data_of(BOM + b"data: a\n\n" + BOM + b"data: b\n\ndata: " + BOM + b"\n\n") == ["a", "\ufeff"]
    assert data_of(BOM + BOM + b"data: a\n\ndata: b\n\n") == ["b"]
    assert data_of(BOM[:2], BOM[2:], BOM, b"data: a\n\ndata: b\n\n") == ["b"]


# ---- S1: the tail


@pytest.mark.parametrize("end", [b"", b"\n", b"\r", b"\r\n"])
@pytest.mark.parametrize("before", [b"", BOM, b": bye\n", b"data: x\n\n", b"\r\n\r\n"])
@pytest.mark.parametrize("mark", [b"data: [DONE]", b"data:[DONE]"])
def test_S1_the_end_mark_needs_no_blank_line(mark: bytes, before: bytes, end: bytes) -> None:
    stream = before + mark + end
    for pieces in ([stream], bytewise(stream)):
        assert data_of(*pieces)[-1:] == ["[DONE]"]


@pytest.mark.parametrize(
    "tail",
    [
        *(b"data: x", b"data: x\n", b"data: {}\r", b"data: {}\r\n", b"data: [DONE", b"data:  [DONE]", b"data: [DONE] "),
        *(b"data: [DONE]\ndata: x", b"data: x\ndata: [DONE]", b"event: e\ndata: [DONE]\n", b"[DONE]", b"data: \xff"),
    ],
)
def test_S1_an_event_that_the_end_of_the_stream_cuts_off_is_dropped(tail: bytes) -> None:
    stream = b"data: whole\n\n" + tail
    for pieces in ([stream], bytewise(stream)):
        assert data_of(*pieces) == ["whole"]


def test_S1_a_stream_cut_at_any_byte_gives_a_beginning_of_its_events() -> None:
    whole = outcome([RECORDING]).events
    for length in range(len(RECORDING)):
        events, problem = outcome([RECORDING[:length]])
        assert problem is None
        assert events == whole[: len(events)]


@pytest.mark.parametrize(
    "stream", [[], [b""], [b"", b"\n\n\n", b""], [b"\r\n" * 9], [b": only\n\n"], [BOM], [b"event: e\n\n"]]
)
def test_S1_a_stream_without_events_has_none(stream: list[bytes]) -> None:
    assert outcome(stream) == ([], None)


# ---- S1: what is wrong is said


@pytest.mark.parametrize(
    "line", [b"data: \xff", b"data: \xed\xa0\x80", b"data: \xe2\x82", b"event: \xc0\x80", b"da\xffta: x"]
)
def test_S1_bad_utf8_in_an_event_is_an_error_that_names_the_event(line: bytes) -> None:
    events = read_events([b"retry: 1\n\ndata: one\n\ndata: two\n\n" + line + b"\n\ndata: four\n\n"])
    assert [next(events).data, next(events).data] == ["one", "two"]
    with pytest.raises(MalformedEvent, match=r"^event 3 of the stream is not UTF-8: .") as caught:
        next(events)
    assert caught.value.retryable
    assert caught.value.__cause__ is caught.value.__context__ is None  # a UnicodeDecodeError would hold the text


def test_S1_bad_utf8_in_a_comment_does_no_harm() -> None:
    assert data_of(b": \xff\ndata: one\n:\xff\n\n") == ["one"]


@pytest.mark.parametrize(
    "problem",
    [
        ConnectionLost("the connection broke"),
        MalformedEvent("of another stream"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "of another text"),
        KeyboardInterrupt(),
    ],
    ids=lambda problem: type(problem).__name__,
)
def test_what_the_chunks_raise_passes_through_after_the_events_before_it(problem: BaseException) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"data: one\n\ndata: two\n\ndata: thr"
        raise problem

    events = read_events(chunks())
    assert [next(events).data, next(events).data] == ["one", "two"]
    with pytest.raises(type(problem)) as caught:
        next(events)
    assert caught.value is problem
    assert list(events) == []


def test_closing_the_events_ends_them_and_asks_for_nothing_more() -> None:
    def chunks() -> Iterator[bytes]:
        yield b"data: one\n\ndata: two\n\n"
        pytest.fail("asked for more after the close")

    events = read_events(chunks())
    assert next(events).data == "one"
    assert isinstance(events, Generator)
    events.close()
    assert list(events) == []


def test_nothing_of_a_stream_is_logged_even_when_every_logger_is_at_debug(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(sse.__name__), "disabled", False)  # as `logging.config` may do
    monkeypatch.setattr(logging.getLogger(sse.__name__), "level", logging.DEBUG)
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("sseclient").debug("the host program's own")
        assert data_of(b"canary: canary\ncanary\nevent: canary\nid: canary\ndata: x\n\n") == ["x"]
    assert [record.message for record in caplog.records] == ["the host program's own"]


# ---- S2: limits


@given(
    STREAMS | SOUND_STREAMS,
    CUTS,
    st.builds(SSELimits, st.integers(1, 40), st.integers(1, 4), st.integers(1, 150)),
)
def test_S2_limits_are_met_at_the_same_byte_under_any_cuts(stream: bytes, cuts: list[int], limits: SSELimits) -> None:
    expected = outcome(bytewise(stream), limits)
    assert outcome([stream], limits) == expected
    assert outcome(cut(stream, cuts), limits) == expected


@pytest.mark.parametrize("size", [4_099, 65_536, 2**24])
def test_S2_an_event_of_8_MiB_is_read_whole_and_one_byte_more_is_too_large(size: int) -> None:
    line = b"data: " + b"x" * (2**23 - 7)
    for stream, expected in ((line + b"\n\n", [len(line) - 6]), (line + b"x\n\n", [])):
        events, problem = outcome(stream[at : at + size] for at in range(0, len(stream), size))
        assert [len(event.data) for event in events] == expected
        assert problem == (None if events else "an event of the stream is larger than 8388608 bytes (`event_bytes`)")


EVENT_OF_20 = b"data: 1\n" + b"data: 23456\n"
"""20 bytes, in two lines."""


def test_S2_an_event_may_be_as_large_as_its_limits_and_no_larger() -> None:
    stream = b"data: 0\n\n" + EVENT_OF_20 + b"\n"
    assert [event.data for event in read_events([stream], SSELimits(20, 2, len(stream)))] == ["0", "1\n23456"]
    for limits, problem in (
        (SSELimits(event_bytes=19), r"an event of the stream is larger than 19 bytes \(`event_bytes`\)"),
        (SSELimits(event_lines=1), r"an event of the stream has more than 1 lines \(`event_lines`\)"),
        (SSELimits(stream_bytes=len(stream) - 1), r"the stream is larger than 29 bytes \(`stream_bytes`\)"),
    ):
        events = read_events([stream], limits)
        assert next(events).data == "0"
        with pytest.raises(ResponseTooLarge, match=problem) as caught:
            next(events)
        assert not caught.value.retryable


ENDLESS: dict[str, Callable[[], Iterator[bytes]]] = {
    "a line": lambda: itertools.repeat(b"x" * 100),
    "a comment": lambda: itertools.chain([b":"], itertools.repeat(b"x" * 100)),
    "lines": lambda: itertools.repeat(b"data: " + b"x" * 100 + b"\n"),
    "short lines": lambda: itertools.repeat(b"data\r\n" * 10),
    "comments": lambda: itertools.repeat(b": keep-alive\n"),
    "blank lines": lambda: itertools.repeat(b"\n" * 100),
    "events": lambda: itertools.repeat(b"data: x\n\n"),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_S2_an_endless_stream_ends_at_a_limit_with_little_memory(kind: str) -> None:
    limits = SSELimits(event_bytes=20_000, event_lines=500, stream_bytes=100_000)
    tracemalloc.start()
    try:
        with pytest.raises(ResponseTooLarge):
            for _ in read_events(ENDLESS[kind](), limits):
                pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * limits.event_bytes


def test_S2_comments_do_not_count_for_an_event() -> None:
    silence = b": keep-alive\n" * 1_000
    stream = silence + b"data: a\n" + silence + b"data: b\n\n"
    assert [event.data for event in read_events([stream], SSELimits(event_bytes=30, event_lines=2))] == ["a\nb"]


def test_S2_a_huge_piece_of_tiny_lines_is_not_held_as_lines_all_at_once() -> None:
    piece = b"\n" * 2**21
    tracemalloc.start()
    try:
        assert list(read_events([piece])) == []
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < len(piece)


# ---- S2: linear


def calls_made(work: Callable[[], object]) -> int:
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize("size", [1, 100, 10_000])
def test_S2_four_times_the_stream_takes_four_times_the_calls(size: int) -> None:
    def work(events: int) -> int:
        stream = b"data: 0123456789\n\n" * events
        pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
        return calls_made(lambda: list(read_events(pieces)))

    assert work(1_200) <= 4 * work(300)


def seconds(pieces: list[bytes]) -> float:
    """CPU time of this thread for reading them all: the best of three."""

    def once() -> float:
        began = time.thread_time()
        for _ in read_events(pieces):
            pass
        return time.thread_time() - began

    return min(once() for _ in range(3))


@pytest.mark.slow
def test_S2_a_64_MB_stream_of_small_events_takes_about_four_times_as_long_as_16_MB() -> None:
    event = b"data: " + b"x" * 192 + b"\n\n"
    read = event * 300

    def stream(size: int) -> list[bytes]:
        return [read] * (size // len(read))

    assert seconds(stream(64 * 2**20)) < 8 * seconds(stream(16 * 2**20))


@pytest.mark.slow
@pytest.mark.parametrize(("piece", "total"), [(1, 2**20), (64, 2**23)])
def test_S2_a_large_event_takes_about_four_times_as_long_as_a_quarter_of_it(piece: int, total: int) -> None:
    def event(size: int) -> list[bytes]:
        stream = b"data: " + b"x" * (size - 7) + b"\n\n"
        return [stream[at : at + piece] for at in range(0, len(stream), piece)]

    assert seconds(event(total)) < 8 * seconds(event(total // 4))


@pytest.mark.slow
def test_S2_eight_times_the_largest_event_with_the_most_lines_takes_about_eight_times_as_long() -> None:
    line = b"data: " + b"x" * (2**23 // 512 - 7) + b"\n"
    event = line * 511 + b"data: \xf0\x9f\x98\x80\n\n"
    assert seconds([event] * 7) < 14 * seconds([event])
