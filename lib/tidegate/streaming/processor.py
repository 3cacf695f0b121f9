"""Callbacks for a stream: in a thread of their own, so that a slow one never holds the socket up."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pykka

from tidegate.chat.reply import Chunk, Completion, Stream
from tidegate.errors import ConfigError
from tidegate.streaming.segments import Lines, Sentences, Words

MAILBOX = 256
"""Chunks that may wait for the callbacks; what comes beyond that is added to the last of them."""

DRAIN = 10.0
"""Seconds that the end of a stream waits for the callbacks."""

_log = logging.getLogger("tidegate")

Callback = Callable[..., object]


@dataclass(frozen=True, slots=True)
class Processed:
    """What became of a stream and of its callbacks."""

    text: str
    """The whole answer, or what there was of it."""
    chunks: int
    """How many came."""
    completion: Completion | None = None
    """Of a `Stream`: its completion."""
    failures: dict[str, Exception] = field(default_factory=dict)
    """What callbacks raised, by their names. Each was called no more after its failure."""
    drained: bool = True
    """Whether the callbacks have seen it all. False: they were given up after `drain` seconds."""


class StreamProcessor:
    """Calls functions with the chunks, words, sentences and lines of a stream, in a thread of their own.

    ::

        processor = StreamProcessor(on_word=speak, on_done=lambda done: print(done.usage))
        with client.stream("Tell me about the moon") as stream:
            processor.run(stream)

    `on_chunk(chunk)`, `on_word(text)`, `on_sentence(text)` and `on_line(text)` are called in the order of the text;
    `on_restart()` when the answer begins anew: what was given before counts no more; `on_done(completion)` at the end
    (with the text, where the source has no completion), `on_error(error)` when the stream breaks.

    The stream is read as fast as it comes, whatever the callbacks do: `mailbox` chunks wait for them, and beyond that
    the text of further chunks is added to the last that waits, so that nothing is lost. A callback that raises is
    logged, is kept in `failures`, and is not called again; the stream and the other callbacks go on. At the end `run`
    waits at most `drain` seconds for them. One processor may work on several streams, one after the other. The source
    may be any iterable of chunks or of text. Raises `ConfigError` for what is no callback.
    """

    def __init__(
        self,
        *,
        on_chunk: Callable[[Chunk], object] | None = None,
        on_word: Callable[[str], object] | None = None,
        on_sentence: Callable[[str], object] | None = None,
        on_line: Callable[[str], object] | None = None,
        on_restart: Callable[[], object] | None = None,
        on_done: Callable[[Any], object] | None = None,
        on_error: Callable[[BaseException], object] | None = None,
        mailbox: int = MAILBOX,
        drain: float = DRAIN,
    ) -> None:
        given: dict[str, Callback | None] = {
            "on_chunk": on_chunk,
            "on_word": on_word,
            "on_sentence": on_sentence,
            "on_line": on_line,
            "on_restart": on_restart,
            "on_done": on_done,
            "on_error": on_error,
        }
        odd = next((name for name, callback in given.items() if callback is not None and not callable(callback)), None)
        if odd is not None:
            raise ConfigError(f"`{odd}` is a function, not `{type(given[odd]).__name__}`")
        if isinstance(mailbox, bool) or not isinstance(mailbox, int) or mailbox < 1:
            raise ConfigError(f"`mailbox` is a whole number of at least 1, not {mailbox!r}")
        if isinstance(drain, bool) or not isinstance(drain, int | float) or not drain >= 0:
            raise ConfigError(f"`drain` is a number of seconds, not {drain!r}")
        self._callbacks = {name: callback for name, callback in given.items() if callback is not None}
        self._mailbox = mailbox
        self._drain = drain

    def run(self, stream: Iterable[Chunk | str]) -> Processed:
        """Read the stream to its end. Raises what the stream raises, when `on_error` has been told."""
        reading = _Reading(self._callbacks, self._mailbox)
        try:
            for _ in reading.through(stream):
                pass
        finally:
            drained = reading.end(self._drain)
        return reading.processed(stream, drained=drained)

    def through(self, stream: Iterable[Chunk | str]) -> Iterator[Chunk]:
        """The stream's own chunks, for a loop of one's own; the callbacks are called beside it."""
        reading = _Reading(self._callbacks, self._mailbox)
        try:
            yield from reading.through(stream)
        finally:
            reading.end(self._drain)

    def __repr__(self) -> str:
        return f"StreamProcessor({', '.join(self._callbacks)})"


class _Desk(pykka.ThreadingActor):
    """Where the callbacks are called."""

    use_daemon_thread = True  # a callback that hangs must not keep the program from ending

    def __init__(self, work: Callable[[], None]) -> None:
        super().__init__()
        self._work = work

    def on_receive(self, message: Any) -> None:  # noqa: ANN401, ARG002 (as the base class has it)
        """There is something in the mailbox."""
        self._work()


class _Reading:
    """One stream on its way to the callbacks."""

    def __init__(self, callbacks: dict[str, Callback], mailbox: int) -> None:
        self._callbacks = dict(callbacks)
        self._most = mailbox
        self._lock = threading.Lock()
        self._waiting: deque[tuple[str, Any]] = deque()
        self._called = False
        """Whether the desk has been told that there is something, and has not yet found nothing."""
        self._over = threading.Event()
        self._desk: pykka.ActorRef[_Desk] | None = None
        self._failures: dict[str, Exception] = {}
        self._segments = self._new_segments()
        self._pieces: list[str] = []
        self._chunks = 0

    def _new_segments(self) -> list[tuple[str, Words | Sentences | Lines]]:
        kinds: dict[str, type[Words | Sentences | Lines]] = {
            "on_word": Words,
            "on_sentence": Sentences,
            "on_line": Lines,
        }
        return [(name, kind()) for name, kind in kinds.items() if name in self._callbacks]

    # In the reader's thread

    def through(self, stream: Iterable[Chunk | str]) -> Iterator[Chunk]:
        """The chunks, each posted to the desk before it is passed on."""
        try:
            for number, each in enumerate(stream):
                chunk = each if isinstance(each, Chunk) else Chunk(each, number, 0.0)
                if chunk.restarted:
                    self._pieces.clear()
                self._pieces.append(chunk.text)
                self._chunks += 1
                self._post("chunk", chunk)
                yield chunk
        except GeneratorExit:
            raise
        except BaseException as error:
            self._post("error", error)
            raise
        else:
            self._post("done", stream.completion if isinstance(stream, Stream) else "".join(self._pieces))

    def _post(self, kind: str, what: object) -> None:
        if not self._callbacks:
            return
        with self._lock:
            last = self._waiting[-1] if len(self._waiting) >= self._most else None
            if last is not None and last[0] == kind == "chunk" and isinstance(what, Chunk) and not what.restarted:
                self._waiting[-1] = (kind, _joined(last[1], what))
                return
            self._waiting.append((kind, what))
            if self._called:
                return
            self._called = True
            if self._desk is None:
                self._desk = _Desk.start(self._work)
        with contextlib.suppress(pykka.ActorDeadError):
            self._desk.tell(None)

    def end(self, seconds: float) -> bool:
        """Wait for the callbacks; says whether they have seen it all."""
        if self._desk is None:
            return True
        with self._lock:
            self._waiting.append(("over", None))
            called, self._called = self._called, True
        if not called:
            self._desk.tell(None)
        drained = self._over.wait(seconds)
        if not drained:
            _log.warning("the callbacks of a stream are still busy %g s after its end: they are given up", seconds)
            with self._lock:
                self._waiting.clear()
        self._desk.stop(block=False)
        return drained

    def processed(self, stream: Iterable[Chunk | str], *, drained: bool) -> Processed:
        """What became of it."""
        completion = stream.completion if isinstance(stream, Stream) else None
        return Processed("".join(self._pieces), self._chunks, completion, dict(self._failures), drained)

    # In the desk's thread

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._called = False
                    return
                kind, what = self._waiting.popleft()
            if kind == "chunk":
                self._chunk(what)
            elif kind == "over":
                self._over.set()
            elif kind == "done":
                self._finish()
                self._call("on_done", what)
            else:
                self._finish()
                self._call("on_error", what)

    def _chunk(self, chunk: Chunk) -> None:
        if chunk.restarted:
            self._segments = self._new_segments()
            self._call("on_restart")
        self._call("on_chunk", chunk)
        if chunk.text:
            for name, segments in self._segments:
                for each in segments.feed(chunk.text):
                    self._call(name, each)

    def _finish(self) -> None:
        for name, segments in self._segments:
            for each in segments.finish():
                self._call(name, each)

    def _call(self, name: str, *arguments: object) -> None:
        callback = self._callbacks.get(name)
        if callback is None or name in self._failures:
            return
        try:
            callback(*arguments)
        except Exception as error:  # noqa: BLE001 (whatever it is, the stream is not to blame)
            self._failures[name] = error
            _log.warning("`%s` of a stream raised, and is not called again", name, exc_info=error)


def _joined(first: Chunk, more: Chunk) -> Chunk:
    return replace(
        first,
        text=first.text + more.text,
        reasoning=first.reasoning + more.reasoning,
        finish_reason=more.finish_reason or first.finish_reason,
    )
