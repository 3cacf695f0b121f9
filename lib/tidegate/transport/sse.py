"""Server-sent events: from the bytes of a stream to its events, each as soon as its blank line has come.

sseclient-py, imported here alone, reads the fields of an event. It is given whole events only, framed and capped here:
left to itself it would lose the first event after a byte order mark, not see an end made of mixed line ends, take
the half event at the end of a cut stream for a whole one, and read on without limit.

The format is the one of https://html.spec.whatwg.org/multipage/server-sent-events.html, with two rules of our own. An
event with bytes that are no UTF-8 is an error, where the standard would put U+FFFD and leave a quiet hole in the
answer. And `data: [DONE]` at the very end is an event even without its blank line: it says that nothing was cut off.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from sseclient import SSEClient

from tidegate.errors import MalformedEvent, ResponseTooLarge

COLON = ord(":")
BOM = b"\xef\xbb\xbf"
END_MARKS = ([b"data: [DONE]"], [b"data:[DONE]"])
SLICE = 65536
"""Bytes that are split into lines at once, so that a huge piece of tiny lines does not become a huge list."""


class ServerSentEvent(NamedTuple):
    """One event of a stream."""

    event: str
    """Its name; `message` when the server gave none."""
    data: str
    """Its data lines, joined by line feeds."""


@dataclass(frozen=True, slots=True)
class SSELimits:
    """How large a stream may be. Beyond that `read_events` raises `ResponseTooLarge`, naming the limit.

    Comments, which servers send to keep a silent connection open, count for the stream, and not for an event.
    """

    event_bytes: int = 8 * 2**20
    """Bytes of one event, and of any single line. Default 8 MiB: room for an answer whole in one event, or an image."""
    event_lines: int = 512
    """Lines of one event. sseclient-py copies what it has of an event at each further line, so these are few."""
    stream_bytes: int = 64 * 2**20
    """Bytes of the whole stream, after decompression. Default 64 MiB."""


DEFAULT_LIMITS = SSELimits()


def read_events(chunks: Iterable[bytes], limits: SSELimits = DEFAULT_LIMITS) -> Iterator[ServerSentEvent]:
    """The events of a stream whose bytes come as `chunks`, cut anywhere.

    An event is yielded before `chunks` is asked for anything more. One that the end of the stream cuts off is dropped.
    Raises `MalformedEvent` for an event that is not UTF-8 and `ResponseTooLarge` beyond `limits`; what `chunks` raises
    passes through as it is.
    """
    framer = _Framer(limits)
    for event in _FieldReader(framer.blocks(chunks)).events():
        framer.dispatched += 1
        yield ServerSentEvent(event.event, event.data)


class _FieldReader(SSEClient):
    """sseclient-py, given whole blocks, and silent.

    It logs each event, and the text of a line that it does not know, under the name of its class's module: that is
    this one, whose logger says nothing. The host program's own use of sseclient-py logs as ever.
    """

    def __init__(self, blocks: Iterator[bytes]) -> None:
        super().__init__(blocks)
        self._blocks = blocks

    def _read(self) -> Iterator[bytes]:
        """The blocks as they are: to look for their ends once more costs 0.5 µs each, and a copy for each line."""
        return self._blocks


_LOGGER = logging.getLogger(__name__)
_LOGGER.disabled = True  # costs least
_LOGGER.addFilter(lambda _record: False)  # holds also when `logging.config` has enabled every logger again


class _Framer:
    """Cuts one stream into blocks: the lines before a blank line, comments left out."""

    def __init__(self, limits: SSELimits) -> None:
        self._limits = limits
        self.dispatched = 0
        """Events that the stream has given so far: not every block makes one."""

    def blocks(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Each block with its blank line, every line ended by a line feed."""
        limits = self._limits
        block: list[bytes] = []
        size = 0
        for line in self._lines(_without_bom(_with_line_feeds(self._capped(chunks)))):
            if not line:
                if block:
                    yield self._checked(b"\n".join(block) + b"\n\n")
                    block = []
                    size = 0
            elif line[0] != COLON:
                block.append(line)
                size += len(line) + 1
                if size > limits.event_bytes or len(block) > limits.event_lines:
                    raise self._event_too_large(size)
            elif len(line) > limits.event_bytes:
                raise self._event_too_large(len(line))
        if block in END_MARKS:
            yield block[0] + b"\n\n"

    def _checked(self, block: bytes) -> bytes:
        problem = None if block.isascii() else _utf8_problem(block)
        if problem:
            raise MalformedEvent(f"event {self.dispatched + 1} of the stream is not UTF-8: {problem}")
        return block

    def _event_too_large(self, size: int) -> ResponseTooLarge:
        limits = self._limits
        if size > limits.event_bytes:
            return ResponseTooLarge(f"an event of the stream is larger than {limits.event_bytes} bytes (`event_bytes`)")
        return ResponseTooLarge(f"an event of the stream has more than {limits.event_lines} lines (`event_lines`)")

    def _lines(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Each line without its end, as soon as its end has come; then what stands after the last end, if anything."""
        partial = bytearray()
        for piece in pieces:
            *ended, rest = piece.split(b"\n")
            if partial and ended:
                ended[0] = bytes(partial + ended[0])
                partial.clear()
            yield from ended
            partial += rest
            if len(partial) > self._limits.event_bytes:
                raise self._event_too_large(len(partial))
        if partial:
            yield bytes(partial)

    def _capped(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The chunks, none empty, none above `SLICE` bytes. All that comes before the cap is still read."""
        room = self._limits.stream_bytes
        for chunk in chunks:
            allowed = chunk[:room]
            for start in range(0, len(allowed), SLICE):
                yield allowed[start : start + SLICE]
            room -= len(chunk)
            if room < 0:
                raise ResponseTooLarge(f"the stream is larger than {self._limits.stream_bytes} bytes (`stream_bytes`)")


def _without_bom(pieces: Iterator[bytes]) -> Iterator[bytes]:
    start = b""
    for piece in pieces:
        start += piece
        if not BOM.startswith(start):
            break
    yield start.removeprefix(BOM)
    yield from pieces


def _with_line_feeds(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same lines, each ended by a line feed. A carriage return is an end at once: its line feed may never come."""
    after_return = False
    for piece in pieces:
        if after_return or b"\r" in piece:
            text = piece.removeprefix(b"\n") if after_return else piece
            after_return = piece.endswith(b"\r")
            yield text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        else:
            yield piece


def _utf8_problem(text: bytes) -> str | None:
    """What is wrong, and nothing of the text: a caught `UnicodeDecodeError` would carry all of it along."""
    try:
        text.decode()
    except UnicodeDecodeError as error:
        return error.reason
    return None
