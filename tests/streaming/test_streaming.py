"""Callbacks, writers, several readers and web views: of real streams over real sockets."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from journeys.asking import PATIENCE, client_of
from support.fault_server import FaultServer, Gate, Reset, sse
from support.openai_wire import chunk, stream_events
from tidegate import (
    Cancelled,
    Client,
    ConfigError,
    Stream,
    StreamInterrupted,
    StreamProcessor,
    WordWriter,
    sse_events,
    tee,
)
from tidegate.chat.reply import Chunk
from tidegate.testing import ManualClock

STORY = ["The tide ", "comes in. ", "It go", "es out.\n", "Twice"]


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        running.always(sse(stream_events(STORY)))
        yield running


@pytest.fixture
def stream(server: FaultServer) -> Iterator[Stream]:
    with client_of(server) as client, client.stream("Hi") as answer:
        yield answer


# Callbacks


def test_every_callback_gets_its_own(stream: Stream) -> None:
    chunks: list[str] = []
    words: list[str] = []
    sentences: list[str] = []
    lines: list[str] = []
    ends: list[Any] = []
    done = StreamProcessor(
        on_chunk=lambda each: chunks.append(each.text),
        on_word=words.append,
        on_sentence=sentences.append,
        on_line=lines.append,
        on_done=ends.append,
        on_error=ends.append,
    ).run(stream)
    assert "".join(chunks) == done.text == "".join(STORY)
    assert words == ["The", "tide", "comes", "in.", "It", "goes", "out.", "Twice"]
    assert sentences == ["The tide comes in.", "It goes out.", "Twice"]
    assert lines == ["The tide comes in. It goes out.", "Twice"]
    assert ends == [stream.completion] == [done.completion]
    assert (done.failures, done.drained) == ({}, True)


def test_a_callback_that_hangs_holds_nothing_up(stream: Stream) -> None:
    gate = threading.Event()
    seen: list[str] = []

    def slow(word: str) -> None:
        gate.wait(PATIENCE)
        seen.append(word)

    processor = StreamProcessor(on_word=slow, mailbox=1, drain=0.05)
    done = processor.run(stream)  # read to its end, though the callback has not even returned once
    assert done.text == "".join(STORY)
    assert not done.drained
    gate.set()


def test_what_does_not_fit_the_mailbox_is_joined_and_not_lost() -> None:
    gate, got = threading.Event(), []

    def slow(each: Chunk) -> None:
        gate.wait(PATIENCE)
        got.append(each.text)

    def source() -> Iterator[str]:
        yield from (f"{number} " for number in range(1_000))
        gate.set()

    done = StreamProcessor(on_chunk=slow, mailbox=4).run(source())
    assert "".join(got) == done.text == "".join(f"{number} " for number in range(1_000))
    assert done.chunks == 1_000
    assert len(got) <= 6


def test_a_callback_that_raises_is_left_out_and_the_others_go_on(stream: Stream) -> None:
    words: list[str] = []

    def broken(_: str) -> None:
        raise ZeroDivisionError

    done = StreamProcessor(on_word=words.append, on_sentence=broken).run(stream)
    assert len(words) == 8
    assert isinstance(done.failures["on_sentence"], ZeroDivisionError)


def test_a_stream_that_breaks_is_told_and_raised(server: FaultServer) -> None:
    server.always(sse([chunk("Half "), chunk("a wo"), Reset()]))
    told: list[BaseException] = []
    words: list[str] = []
    with client_of(server) as client, pytest.raises(StreamInterrupted) as caught:
        StreamProcessor(on_word=words.append, on_error=told.append).run(client.stream("Hi"))
    assert told == [caught.value]
    assert words == ["Half", "a", "wo"]


def test_an_answer_that_begins_anew_is_told() -> None:
    told: list[str] = []
    chunks = [Chunk("Half a", 0, 0.0), Chunk("Whole answer", 1, 0.0, restarted=True)]
    done = StreamProcessor(on_word=told.append, on_restart=lambda: told.append("|")).run(chunks)
    assert (told, done.text) == (["Half", "|", "Whole", "answer"], "Whole answer")


def test_a_loop_of_ones_own_has_the_callbacks_beside_it(stream: Stream) -> None:
    words: list[str] = []
    processor = StreamProcessor(on_word=words.append)
    assert "".join(each.text for each in processor.through(stream)) == "".join(STORY)
    assert len(words) == 8


@pytest.mark.parametrize(
    "wrong", [{"on_word": 3}, {"mailbox": 0}, {"mailbox": True}, {"drain": -1}, {"drain": "x"}], ids=str
)
def test_what_is_no_callback_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        StreamProcessor(**wrong)


@pytest.mark.slow
def test_a_real_model_is_followed_word_by_word() -> None:
    words: list[str] = []
    out = io.StringIO()
    with Client("local/smollm2-135m-instruct", timeout=PATIENCE) as client:
        stream = client.stream("Say something about the sea.", max_tokens=24, temperature=0)
        done = StreamProcessor(on_word=words.append, on_chunk=WordWriter(out)).run(stream)
    assert done.completion is not None
    assert done.completion.text == done.text
    assert words == done.text.split()
    assert done.text.startswith(out.getvalue())  # its last word is held back until it is whole


# Writers


class Recorded(io.StringIO):
    """Text, by the pieces that it was written in."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []

    def write(self, text: str) -> int:
        self.pieces.append(text)
        return super().write(text)


def test_words_are_written_whole(stream: Stream) -> None:
    out = Recorded()
    with WordWriter(out) as writer:
        for each in stream:
            writer(each)
    assert out.getvalue() == "".join(STORY)
    assert out.pieces == ["The", " tide", " comes", " in.", " It", " goes", " out.", "\nTwice"]


def test_marks_and_wide_characters_are_never_torn() -> None:
    out = Recorded()
    with WordWriter(out) as writer:
        for piece in ("cafe", "\u0301 潮", "が\u3099満", "👨", "\u200d👩"):
            writer.write(piece)
    assert out.pieces == ["cafe\u0301", " 潮", "が\u3099", "満", "👨\u200d👩"]


def test_a_pace_is_kept_and_the_end_does_not_wait() -> None:
    clock, out = ManualClock(), Recorded()
    writer = WordWriter(out, pace=4, clock=clock)
    began = clock.monotonic()
    writer.write("one two three four five ")
    assert clock.monotonic() - began == pytest.approx(1.0)  # the first at once, four after it
    assert clock.waits == pytest.approx((0.25, 0.25, 0.25, 0.25))
    writer.write("and the rest")
    writer.close()
    assert out.getvalue() == "one two three four five and the rest"


def test_a_terminal_is_not_steered() -> None:
    class Terminal(Recorded):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    with WordWriter(out) as writer:
        writer.write("red \x1b[31malert")
    assert "\x1b" not in out.getvalue()


def test_a_restart_is_seen() -> None:
    out = Recorded()
    with WordWriter(out, again="<again>") as writer:
        writer(Chunk("Half a", 0, 0.0))
        writer(Chunk("Whole", 1, 0.0, restarted=True))
    assert out.getvalue() == "Half a<again>Whole"


@pytest.mark.parametrize("pace", [0, -1, True, "fast", float("nan")])
def test_a_pace_that_is_none_is_refused(pace: Any) -> None:  # noqa: ANN401
    with pytest.raises(ConfigError, match="pace"):
        WordWriter(pace=pace)


# Several readers


def test_every_reader_gets_all_of_it(stream: Stream) -> None:
    first, second, third = tee(stream, 3)
    assert [next(first).text for _ in range(3)] == STORY[:3]
    assert [each.text for each in second if each.text] == STORY
    assert [each.text for each in first if each.text] == STORY[3:]
    assert "".join(each.text for each in third) == "".join(STORY)
    assert (first.text, second.completion, third.text) == ("".join(STORY), stream.completion, "".join(STORY))


def test_readers_in_threads_get_the_same(stream: Stream) -> None:
    found: dict[int, str] = {}

    def read(number: int, reader: Any) -> None:  # noqa: ANN401
        found[number] = "".join(each.text for each in reader)

    threads = [threading.Thread(target=read, args=each) for each in enumerate(tee(stream, 8))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(found.values()) == {"".join(STORY)}


def test_an_error_reaches_every_reader_after_its_chunks(server: FaultServer) -> None:
    server.always(sse([chunk("Half "), chunk("a wo"), Reset()]))
    with client_of(server) as client:
        for reader in tee(client.stream("Hi")):
            with pytest.raises(StreamInterrupted):
                list(reader)
            assert reader.text == "Half a wo"


def test_the_last_reader_closes_the_stream(stream: Stream) -> None:
    first, second = tee(stream)
    next(first)
    first.close()
    first.close()
    with pytest.raises(Cancelled):
        next(first)
    assert next(second).text == STORY[0]
    second.close()
    assert stream.completion.interrupted


@pytest.mark.parametrize("wrong", [("no stream", 2), (None, 0)])
def test_what_cannot_be_shared_is_refused(stream: Stream, wrong: Any) -> None:  # noqa: ANN401
    source, readers = wrong
    with pytest.raises(ConfigError, match="`tee`"):
        tee(source or stream, readers)


# Web views


def parsed(events: list[str]) -> list[tuple[str | None, Any]]:
    found = []
    for each in events:
        lines = each.rstrip("\n").split("\n")
        name = lines[0].removeprefix("event: ") if lines[0].startswith("event: ") else None
        found.append((name, json.loads(lines[-1].removeprefix("data: ")) if lines[-1].startswith("data: ") else None))
    return found


@pytest.mark.parametrize("keep_alive", [None, 15.0])
def test_a_stream_is_events_for_a_browser(stream: Stream, keep_alive: float | None) -> None:
    events = parsed(list(sse_events(stream, keep_alive=keep_alive)))
    assert [data["text"] for name, data in events if name is None] == STORY
    name, data = events[-1]
    assert name == "done"
    assert (data["finish_reason"], data["complete"], data["usage"]) == (
        "stop", "yes", {"input_tokens": 5, "output_tokens": 7},
    )  # fmt: skip


def test_silence_is_filled_with_comments(server: FaultServer) -> None:
    gate = threading.Event()
    server.always(sse([*map(chunk, STORY[:2]), Gate(gate), *stream_events(STORY[2:])]))
    with client_of(server) as client:
        events = sse_events(client.stream("Hi"), keep_alive=0.01)
        found = [next(events), next(events), next(events)]
        assert found[-1] == ": still there\n\n"
        gate.set()
        rest = [each for each in events if not each.startswith(":")]
    assert rest[-1].startswith("event: done\n")


def test_an_error_is_the_last_event(server: FaultServer) -> None:
    server.always(sse([chunk("Half "), Reset()]))
    with client_of(server) as client:
        *_, (name, data) = parsed(list(sse_events(client.stream("Hi"))))
    assert (name, data["type"], data["retryable"]) == ("error", "StreamInterrupted", True)


def test_a_browser_that_leaves_ends_the_stream(server: FaultServer) -> None:
    gate = threading.Event()
    server.always(sse([chunk("Half "), Gate(gate)]))
    with client_of(server) as client:
        stream = client.stream("Hi", timeout=PATIENCE)
        events = sse_events(stream)
        next(events)
        events.close()  # type: ignore[attr-defined]  # as Flask does
        assert stream.completion.interrupted
        gate.set()


@pytest.mark.parametrize("keep_alive", [0, -1, "x", True])
def test_a_pause_that_is_none_is_refused(stream: Stream, keep_alive: Any) -> None:  # noqa: ANN401
    with pytest.raises(ConfigError, match="keep_alive"):
        sse_events(stream, keep_alive=keep_alive)
