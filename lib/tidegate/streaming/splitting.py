"""One stream, several readers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from tidegate.chat.reply import Chunk, Completion, Stream
from tidegate.errors import Cancelled, ConfigError


def tee(stream: Stream, readers: int = 2) -> tuple[StreamReader, ...]:
    """As many readers of one stream, each of which gets all of it, in a thread of its own if need be.

    Whoever is ahead reads on for all; what the slowest has not had yet is kept. An error that ends the stream reaches
    every reader, each after the chunks before it. The stream is closed when the last reader is; from here on it is
    read through them alone. Raises `ConfigError` for what is no stream or no number.
    """
    if not isinstance(stream, Stream):
        raise ConfigError(f"`tee` takes a `Stream`, not `{type(stream).__name__}`")
    if isinstance(readers, bool) or not isinstance(readers, int) or readers < 1:
        raise ConfigError(f"`tee` makes a whole number of readers of at least 1, not {readers!r}")
    source = _Source(stream, readers)
    return tuple(StreamReader(source) for _ in range(readers))


class _Link:
    """A chunk and what comes after it; the end of the list is a link that is not filled yet."""

    __slots__ = ("chunk", "following")

    def __init__(self) -> None:
        self.chunk: Chunk | None = None
        self.following: _Link | None = None


class _Source:
    def __init__(self, stream: Stream, readers: int) -> None:
        self.stream = stream
        self.first = _Link()
        self._turn = threading.Lock()
        self._left = readers
        self._ended: BaseException | None = None

    def read(self, link: _Link) -> _Link:
        """The link, filled. Raises what ended the stream, `StopIteration` among it."""
        if link.following is None:
            with self._turn:  # one reads on, and the others wait for the same chunk
                if link.following is None:
                    self._read_on(link)
        return link

    def _read_on(self, link: _Link) -> None:
        if self._ended is not None:
            raise self._ended
        try:
            link.chunk = next(self.stream)
        except BaseException as end:
            self._ended = end
            raise
        link.following = _Link()

    def leave(self) -> None:
        """A reader is done with it."""
        self._left -= 1  # under the interpreter's lock; a close too many does no harm
        if self._left <= 0:
            self.stream.close()


class StreamReader(Iterator[Chunk]):
    """One of the readers that `tee` made. Iterate it from one thread; close it when you want no more of it."""

    def __init__(self, source: _Source) -> None:
        self._source = source
        self._link = source.first
        self._closed = False
        self._pieces: list[str] = []

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Chunk:
        """The next chunk. Raises what the stream raises, and `Cancelled` when it is closed."""
        if self._closed:
            raise Cancelled("this reader of the stream is closed")
        link = self._source.read(self._link)
        chunk = link.chunk
        assert chunk is not None  # noqa: S101 (it was filled)
        assert link.following is not None  # noqa: S101
        self._link = link.following
        if chunk.restarted:
            self._pieces = []
        self._pieces.append(chunk.text)
        return chunk

    @property
    def text(self) -> str:
        """The answer as far as this reader has read it."""
        return "".join(self._pieces)

    @property
    def completion(self) -> Completion:
        """The stream's, once it has ended. Raises `StreamUnfinished` before that."""
        return self._source.stream.completion

    def close(self) -> None:
        """Read no more. The last reader to be closed closes the stream."""
        if not self._closed:
            self._closed = True
            self._source.leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
