"""The seam at the bottom of the corridor: what a transport is given and what it answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from tidegate.chat.timeline import Trace
from tidegate.clock import CancelToken, Deadline


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request, ready for the wire. `headers` hold the key: their `repr` must never be shown, so they have none."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes = b""
    streamed: bool = False

    def __repr__(self) -> str:
        return f"<{self.method} {self.url}, {len(self.body)} bytes>"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one exchange may take, and who may end it."""

    deadline: Deadline
    cancel: CancelToken
    trace: Trace
    connect: float = 5.0
    """Seconds for name look-up, TCP and TLS together."""
    first_token: float | None = None
    """Seconds from sending the request to a stream's first content."""
    idle: float | None = None
    """Seconds between two pieces of a stream's content, counted only while waiting for one."""


class HttpResponse(Protocol):
    """A response whose head has arrived. Everything here may raise a `CallError`."""

    status: int
    headers: Mapping[str, str]
    """Case-insensitive."""

    def read(self, limit: int) -> bytes:
        """The whole decoded body. Raises `ResponseTooLarge` beyond `limit` bytes. Frees the connection."""
        ...

    def read_some(self, limit: int) -> bytes:
        """At most `limit` bytes of the body, whatever it has; then the rest is given up. For error bodies."""
        ...

    def pieces(self) -> Iterator[bytes]:
        """The body as it arrives."""
        ...

    def content_seen(self) -> None:
        """Content has come: the idle clock begins anew. Keep-alives must not call this."""
        ...

    def wind_down(self, seconds: float) -> None:
        """All that matters has come: wait at most `seconds` for the rest, and end quietly then."""
        ...

    def close(self) -> None:
        """Free the connection, whole or not. From any thread; a waiting reader gets `Cancelled`."""
        ...


class Transport(Protocol):
    """Carries requests. Shared by threads."""

    def send(self, request: HttpRequest, patience: Patience) -> HttpResponse:
        """Send, and wait for the response's head. Raises a `CallError` when none comes."""
        ...

    def close(self) -> None:
        """Close every connection."""
        ...
