"""A stream as server-sent events, for views of Flask or of anything else that takes an iterator of text.

Format: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator
from typing import Any

from tidegate import jsontext
from tidegate.chat.reply import Chunk, Completion, Stream
from tidegate.errors import CallError, ConfigError

KEEP_ALIVE = 15.0
"""Seconds of silence after which a comment is sent, so that nobody between takes the connection for dead."""

_AHEAD = 64
"""Chunks that may wait for a slow browser; the stream is not read on meanwhile."""


def sse_events(stream: Stream, *, keep_alive: float | None = KEEP_ALIVE) -> Iterator[str]:
    """The stream as text of the type `text/event-stream`, an event at a time.

    ::

        @app.get("/answer")
        def answer():
            stream = client.stream(request.args["question"])
            return Response(sse_events(stream), mimetype="text/event-stream")

    Unnamed events hold `{"text": …}` (and `"reasoning"`, where there is some); `restart` says that the answer begins
    anew; `done` has `finish_reason`, `usage` and `cost`, and `error` the type of the error, its message and whether it
    is worth another try; nothing follows those two. `keep_alive` is in seconds; None sends no comments and needs no
    thread. A browser that leaves closes the iterator, and with it the stream. Raises `ConfigError` for what is no
    stream.
    """
    if not isinstance(stream, Stream):
        raise ConfigError(f"`sse_events` takes a `Stream`, not `{type(stream).__name__}`")
    if keep_alive is not None and (
        isinstance(keep_alive, bool) or not isinstance(keep_alive, int | float) or keep_alive <= 0
    ):
        raise ConfigError(f"`keep_alive` is a number of seconds above 0, or None, not {keep_alive!r}")
    return _events(stream, keep_alive)


def _events(stream: Stream, keep_alive: float | None) -> Iterator[str]:
    chunks = stream if keep_alive is None else _with_pauses(stream, keep_alive)
    try:
        for chunk in chunks:
            if chunk is None:
                yield ": still there\n\n"
                continue
            if chunk.restarted:
                yield event({}, "restart")
            said = {name: text for name, text in (("text", chunk.text), ("reasoning", chunk.reasoning)) if text}
            if said:
                yield event(said)
        yield event(_done(stream.completion), "done")
    except CallError as error:
        told = {"type": type(error).__name__, "message": error.message, "retryable": error.retryable}
        yield event(told, "error")
    finally:
        stream.close()


class _Ahead:
    """Reads a stream in a thread of its own, a little ahead of whoever takes the chunks."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._waiting: queue.Queue[Chunk | BaseException | None] = queue.Queue(_AHEAD)
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._read, name="tidegate-sse", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for chunk in self._stream:
                self._put(chunk)
                if self._left.is_set():
                    return
            self._put(None)
        except BaseException as error:  # noqa: BLE001 (raised where the chunks are taken)
            self._put(error)

    def _put(self, item: Chunk | BaseException | None) -> None:
        while not self._left.is_set():
            with contextlib.suppress(queue.Full):
                self._waiting.put(item, timeout=0.5)
                return

    def take(self, seconds: float) -> Chunk | BaseException | None:
        """The next; None for the end. Raises `queue.Empty` after so many seconds of silence."""
        return self._waiting.get(timeout=seconds)

    def close(self) -> None:
        """Nobody takes any more."""
        self._left.set()
        self._stream.close()
        self._thread.join()


def _with_pauses(stream: Stream, seconds: float) -> Iterator[Chunk | None]:
    """The chunks, and None for every so many seconds of silence."""
    ahead = _Ahead(stream)
    try:
        while True:
            try:
                item = ahead.take(seconds)
            except queue.Empty:
                yield None
                continue
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        ahead.close()


def event(data: dict[str, Any], name: str | None = None) -> str:
    """One event, its data as JSON on one line."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {jsontext.encode(data).decode()}\n\n"


def _done(done: Completion) -> dict[str, Any]:
    usage = done.usage
    return {
        "finish_reason": done.finish_reason,
        "complete": done.complete,
        "model": f"{done.provider}/{done.model}",
        "usage": None if usage is None else {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens},
        "cost": None if done.cost is None else str(done.cost),
    }
