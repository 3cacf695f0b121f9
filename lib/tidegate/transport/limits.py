"""One exchange's limits: which holds at the moment, and what its end then means."""

from __future__ import annotations

import http.client
import re
import ssl

import requests
import urllib3.exceptions

from tidegate.errors import (
    CallError,
    Cancelled,
    ConnectFailed,
    ConnectionLost,
    DeadlineExceeded,
    FirstTokenTimeout,
    IdleTimeout,
    MalformedResponse,
    TLSFailed,
)
from tidegate.transport.base import Patience
from tidegate.transport.watchdog import WATCHDOG, Guard, Reason

LIBRARY_ERRORS = (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError)
"""What the libraries below may raise."""


class Limits:
    """One exchange's clocks: which limit holds at the moment, and what a failure then means."""

    def __init__(self, patience: Patience, *, streamed: bool) -> None:
        self._patience = patience
        self._streamed = streamed
        self.guard = Guard(WATCHDOG, self._connected)
        self.deadline = self.guard.now() + patience.deadline.remaining()
        self.connect_by = min(self.deadline, self.guard.now() + patience.connect)
        self.connected = False
        self.winding_down = False
        self._content_seen = False
        self._first_token_by = float("inf")
        self._idle_left = patience.idle or float("inf")
        self._tail_left = float("inf")
        self._unsubscribe = patience.cancel.on_cancel(self._cancelled)

    def _cancelled(self) -> None:
        self.guard.cut("cancelled")

    def start(self) -> None:
        """The exchange begins: it has until `connect_by` for its connection."""
        self._patience.trace.enter("connect")
        connect_first = self.connect_by < self.deadline
        self.guard.until(self.connect_by, "connect" if connect_first else "deadline")

    def _connected(self) -> None:
        self.connected = True
        self._patience.trace.enter("first_token")
        self._patience.trace.sent = True
        if self._streamed and self._patience.first_token is not None:
            self._first_token_by = self.guard.now() + self._patience.first_token
        self._until(self._first_token_by, "first_token")

    def _until(self, moment: float, reason: Reason) -> None:
        if moment < self.deadline:
            self.guard.until(moment, reason)
        else:
            self.guard.until(self.deadline, "deadline")

    def before_read(self) -> float:
        """Set the limit for one read of a stream; answers the present moment."""
        now = self.guard.now()
        if self.winding_down:
            self._until(now + self._tail_left, "winding_down")
        elif self._content_seen:
            self._until(now + self._idle_left, "idle")
        return now

    def after_read(self, began: float) -> None:
        """What was waited counts against the limit; the program's own time until the next read does not."""
        if self.winding_down:
            self._tail_left -= self.guard.now() - began
        elif self._content_seen:
            self._idle_left -= self.guard.now() - began
        else:
            return
        self.guard.until(self.deadline, "deadline")

    def content_seen(self) -> None:
        """Content has come: the idle clock begins anew."""
        if not self._content_seen:
            self._content_seen = True
            self.guard.until(self.deadline, "deadline")  # the first token's limit has done its work
        self._idle_left = self._patience.idle or float("inf")

    def wind_down(self, seconds: float) -> None:
        """Only `seconds` of waiting are left at most, and an end is no failure any more."""
        self.winding_down = True
        self._tail_left = min(self._tail_left, seconds)

    def finish(self) -> None:
        """The exchange is over: nothing ends it any more."""
        self.guard.finish()
        self._unsubscribe()

    def explain(self, caught: BaseException) -> CallError:
        """The error to raise for what a library raised: what the guard did comes before what it looks like."""
        if self.guard.cut_for is not None:
            return self._cut()
        cause = innermost(caught)
        if isinstance(caught, urllib3.exceptions.DecodeError):
            return MalformedResponse("the answer's compression is broken")
        if not self.connected:
            return _connect_problem(caught, cause)
        if isinstance(cause, http.client.LineTooLong) or type(cause) is http.client.HTTPException:  # `got more than …`
            return ConnectionLost("the answer's head has a line that is too long, or too many lines")
        return ConnectionLost(f"the connection broke before the answer was whole: {_say(cause)}")

    def _cut(self) -> CallError:
        patience = self._patience
        match self.guard.cut_for:
            case "connect":
                return ConnectFailed(f"no connection within {patience.connect:g} s")
            case "first_token":
                return FirstTokenTimeout(f"no first token within {patience.first_token:g} s")
            case "idle":
                return IdleTimeout(f"the stream was silent for {patience.idle:g} s")
            case "cancelled":
                return Cancelled("the call was cancelled")
            case "closed":
                return Cancelled("the stream was closed before its end")
            case _:
                return DeadlineExceeded(f"the deadline of the call passed {self._doing()}")

    def _doing(self) -> str:
        if not self.connected:
            return "while it was connecting"
        return "while its answer came" if self._content_seen else "while it waited for its answer"

    def over(self) -> CallError | None:
        """The error for an exchange that was cut, or that failed because its deadline had come; else None."""
        if self.guard.cut_for is None and self.guard.now() >= self.deadline:
            self.guard.cut("deadline")
        return self._cut() if self.guard.cut_for is not None else None

    def check(self) -> None:
        """A socket that was shut down may look like one that ended well: raise when the guard did that."""
        if self.guard.cut_for is not None and not self.winding_down:
            raise self._cut()


def innermost(error: BaseException) -> BaseException:
    """What the libraries wrapped, several times over."""
    seen = 0
    while seen < 12:
        inner = getattr(error, "reason", None) or next((a for a in error.args if isinstance(a, BaseException)), None)
        inner = inner if isinstance(inner, BaseException) else error.__cause__
        if inner is None:
            return error
        error, seen = inner, seen + 1
    return error


def _connect_problem(caught: BaseException, cause: BaseException) -> CallError:
    if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return TLSFailed(f"the TLS connection was refused: {_say(cause)}")
    if isinstance(caught, urllib3.exceptions.ProxyError):
        return ConnectFailed(f"the proxy refused the connection: {_proxy_status(cause) or _say(cause)}")
    return ConnectFailed(f"no connection: {_say(cause)}")


def _proxy_status(cause: BaseException) -> str:
    """The status of a proxy that refused a tunnel: http.client says it in words, before those of the proxy."""
    found = re.match(r"Tunnel connection failed: ([0-9]{3})\b", str(cause))
    return f"HTTP {found[1]}" if found else ""


def _say(cause: BaseException) -> str:
    """The reason in a few words, nothing of the request."""
    if isinstance(cause, ssl.SSLCertVerificationError):
        return cause.verify_message.rstrip(".")
    if isinstance(cause, http.client.IncompleteRead):
        return "the body ended early"
    if isinstance(cause, http.client.RemoteDisconnected):
        return "closed without an answer"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror.lower()
    return type(cause).__name__
