"""A response whose head has arrived: its body, read within the exchange's limits."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from tidegate.errors import CallError, ConnectionLost, MalformedResponse, ResponseTooLarge
from tidegate.transport.limits import LIBRARY_ERRORS, Limits

READ_BYTES = 65536
"""How much one read of a stream takes at most."""


class Response:
    """A response whose head has arrived."""

    def __init__(self, raw: Any, limits: Limits) -> None:  # noqa: ANN401 (urllib3's response)
        self._raw = raw
        self._limits = limits
        self._reading = threading.Lock()  # held while a thread is inside the library: closing waits for it
        self._finished = False
        self.status: int = raw.status
        self.headers: Mapping[str, str] = raw.headers

    def read(self, limit: int) -> bytes:
        """The whole decoded body, at most `limit` bytes."""
        data = self._guarded_read(limit + 1)
        self._finish(whole=len(data) <= limit)
        if len(data) > limit:
            raise ResponseTooLarge(f"the answer is larger than {limit} bytes")
        return data

    def read_some(self, limit: int) -> bytes:
        """What there is of the body, at most `limit` bytes; a body that breaks off is as good as its beginning."""
        try:
            data = self._guarded_read(limit + 1)
        except (ConnectionLost, MalformedResponse):
            data = b""
        self._finish(whole=len(data) <= limit)
        return data[:limit]

    def _guarded_read(self, limit: int) -> bytes:
        try:
            with self._reading:
                data: bytes = self._raw.read(limit, decode_content=True)
        except (*LIBRARY_ERRORS, ValueError, AttributeError) as caught:
            error = self._limits.explain(caught)
        else:
            self._check()
            return data
        self._finish(whole=False)
        raise error

    def pieces(self) -> Iterator[bytes]:
        """The body as it arrives. Frees the connection at its end."""
        while data := self._next_piece():
            yield data
        self._finish(whole=not self._limits.guard.cut_for)

    def _next_piece(self) -> bytes:
        began = self._limits.before_read()
        try:
            with self._reading:
                data: bytes = b"" if self._finished else self._raw.read1(READ_BYTES, decode_content=True)
        except (*LIBRARY_ERRORS, ValueError, AttributeError) as caught:
            # The last two: another thread closed the response while this one read.
            error = self._limits.explain(caught)
        else:
            self._check()
            self._limits.after_read(began)
            return data
        self._finish(whole=False)
        if self._limits.winding_down:
            return b""
        raise error

    def _check(self) -> None:
        try:
            self._limits.check()
        except CallError:
            self._finish(whole=False)
            raise

    def content_seen(self) -> None:
        """Content has come: the idle clock begins anew."""
        self._limits.content_seen()

    def wind_down(self, seconds: float) -> None:
        """Wait at most `seconds` for what is left, and end quietly then."""
        self._limits.wind_down(seconds)

    def close(self) -> None:
        """Free the connection. From any thread; in a forked child nothing happens to its parent's connections."""
        if self._limits.guard.inherited:
            return
        self._limits.guard.cut("closed")
        self._finish(whole=False)

    def _finish(self, *, whole: bool) -> None:
        with self._reading:
            if self._finished:
                return
            self._finished = True
        self._limits.finish()
        with contextlib.suppress(*LIBRARY_ERRORS, ValueError):
            if not whole:
                self._raw.close()
            self._raw.release_conn()
