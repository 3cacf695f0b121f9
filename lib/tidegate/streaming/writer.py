"""Text word by word, at a pace that people can read."""

from __future__ import annotations

import sys
import threading
from types import TracebackType
from typing import Self, TextIO

from tidegate.chat.reply import Chunk
from tidegate.clock import SYSTEM_CLOCK, Clock
from tidegate.errors import ConfigError
from tidegate.streaming.segments import Words
from tidegate.terminal import harmless


class WordWriter:
    """Writes text to a stream word by word, never half a word, half a wide character or a mark without its letter.

    ::

        with client.stream("Tell me about the moon") as stream, WordWriter(pace=8) as writer:
            for chunk in stream:
                writer.write(chunk.text)

    `out` is any text stream (standard output). `pace` is words a second at most; None: each word as soon as it is
    whole. The writer waits in the thread that writes: give it to a `StreamProcessor` (`on_chunk=writer`) where the
    socket must not wait. `close`, the end of the `with` and `flush` write what is left at once, even if it is half a
    word. Control characters are made visible on a terminal. A chunk that begins the answer anew is written below
    `again`. Not shared by threads. Raises `ConfigError` for a pace that is none; errors of `out` pass.
    """

    def __init__(
        self,
        out: TextIO | None = None,
        *,
        pace: float | None = None,
        again: str = "\n[once more, from the beginning]\n",
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if pace is not None and (isinstance(pace, bool) or not isinstance(pace, int | float) or not pace > 0):
            raise ConfigError(f"`pace` is a number of words a second above 0, not {pace!r}")
        self._out = out if out is not None else sys.stdout
        self._seconds = 0.0 if pace is None else 1 / pace
        self._again = again
        self._clock = clock
        self._never = threading.Event()
        self._next = -1.0
        self._words = Words(spaces=True)
        self._careful = self._out.isatty()

    def write(self, text: str) -> None:
        """Take a piece of the text, and write the words that are whole by now."""
        for word in self._words.feed(text):
            self._wait()
            self._put(word)

    def __call__(self, chunk: Chunk | str) -> None:
        """A chunk, as `StreamProcessor(on_chunk=…)` gives it."""
        if isinstance(chunk, Chunk) and chunk.restarted:
            self.flush()
            self._put(self._again)
        self.write(chunk if isinstance(chunk, str) else chunk.text)

    def flush(self) -> None:
        """Write what is left, whole or not."""
        for word in self._words.finish():
            self._put(word)

    def close(self) -> None:
        """The same: there will be no more. The stream that is written to stays open."""
        self.flush()

    def _wait(self) -> None:
        if not self._seconds:
            return
        now = self._clock.monotonic()
        if now < self._next:
            self._clock.wait(self._never, self._next - now)
        self._next = max(now, self._next) + self._seconds

    def _put(self, text: str) -> None:
        self._out.write(harmless(text) if self._careful else text)
        self._out.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
