"""A stream that goes on with another one when it breaks off: `recover="restart"`, for retries and for fallbacks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from tidegate.chat.reply import Chunk, Completion, Reply, Stream
from tidegate.errors import CallError
from tidegate.pipeline.call import Call

Again = Callable[[Call, CallError], tuple[Call, Reply]]
"""`again(call, error)`: another call and its reply, after `call` broke off with `error`. Raises when there is to be
none."""


class Restarting:
    """The source of a stream that asks again when it breaks off, and marks the chunk with which the new answer begins.

    Each inner stream settles by itself; the outer one ends once, with the last of them.
    """

    def __init__(self, call: Call, opened: Stream, again: Again) -> None:
        self._call = call
        self._inner = opened
        self._again = again
        self._index = 0
        self._closed = False
        self._restarted = False

    def next_chunk(self) -> Chunk | None:
        """The next piece, of whichever stream it is by now."""
        while True:
            try:
                chunk = next(self._inner, None)
            except CallError as caught:
                error = caught
            else:
                return self._numbered(chunk)
            self._reopen(error)

    def _numbered(self, chunk: Chunk | None) -> Chunk | None:
        if chunk is None:
            return None
        chunk = dataclasses.replace(chunk, index=self._index, restarted=self._restarted or chunk.restarted)
        self._index += 1
        self._restarted = False
        return chunk

    def _reopen(self, error: CallError) -> None:
        self._call, reply = self._again(self._call, error)
        if isinstance(reply, Completion):
            raise error
        self._inner, self._restarted = reply, True
        if self._closed:
            reply.close()

    def close(self) -> None:
        """End it. From any thread."""
        self._closed = True
        self._call.cancel.cancel()
        self._inner.close()

    def completion(self, *, interrupted: bool) -> Completion:
        """The answer so far, of the last stream."""
        self._inner.close()
        return dataclasses.replace(self._inner.completion, interrupted=interrupted)
