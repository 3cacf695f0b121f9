"""The transport: one `requests` session, its pool of kept connections, and a guard round every exchange.

`requests` and `urllib3` errors end here: each becomes one of ours, raised outside the handler that caught it, because
theirs hold the request and with it the key.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import ssl
import threading
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
import requests.adapters
import requests.utils
import urllib3.exceptions

from tidegate.errors import (
    CallError,
    Cancelled,
    ConfigError,
    ConnectFailed,
    ConnectionLost,
    DeadlineExceeded,
    FirstTokenTimeout,
    IdleTimeout,
    MalformedResponse,
    ResponseTooLarge,
    TLSFailed,
)
from tidegate.forking import reset_in_child
from tidegate.transport.base import HttpRequest, HttpResponse, Patience
from tidegate.transport.connections import POOL_CLASSES, exchange
from tidegate.transport.watchdog import WATCHDOG, Guard

POOL_SIZE = 1024
"""Connections kept a host, at least. More may be open at once; those are closed after use. The pool never blocks:
`requests` cannot bound that wait, and the deadline could not be kept."""

READ_BYTES = 65536
"""How much one read of a stream takes at most."""

_CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")

_LIBRARY_ERRORS = (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError)

_STALE = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError, ConnectionAbortedError)


class _Adapter(requests.adapters.HTTPAdapter):
    """Hands out guarded connections, also through a proxy."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 (as the base class has it)
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = POOL_CLASSES

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 (as the base class has it)
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = POOL_CLASSES
        return manager

    def build_response(self, _request: Any, response: Any) -> Any:  # noqa: ANN401 (as the base class has it)
        """The urllib3 response as it is: nobody needs cookies or a `requests.Response` here."""
        return response


class SessionTransport:
    """Carries requests over kept connections. Shared by threads; a forked child gets connections of its own.

    `ca_bundle`: a file or folder of certificates to trust instead of the usual ones; None takes the file that
    REQUESTS_CA_BUNDLE or SSL_CERT_FILE names, else the usual ones. `proxy`: a proxy's URL, `"env"` for HTTPS_PROXY
    and NO_PROXY as the environment has them (https addresses only: there the proxy sees no key), or None.
    Raises `ConfigError` for a bundle that is not there or a proxy that is no URL.
    """

    def __init__(self, *, pool_size: int = POOL_SIZE, ca_bundle: str | None = None, proxy: str | None = "env") -> None:
        self._pool_size = max(pool_size, POOL_SIZE)
        self._verify = _certificates(ca_bundle)
        self._proxy = _checked_proxy(proxy)
        self._renew()
        reset_in_child(self._renew)

    def _renew(self) -> None:
        self._session = requests.Session()
        self._session.trust_env = False  # no `.netrc` in place of our key, no proxy behind our back
        self._adapter = _Adapter(pool_connections=64, pool_maxsize=self._pool_size, max_retries=0)
        self._session.mount("https://", self._adapter)
        self._session.mount("http://", self._adapter)
        self._proxies: dict[str, dict[str, str]] = {}

    def send(self, request: HttpRequest, patience: Patience) -> HttpResponse:
        """Send, and wait for the response's head. Raises a `TransportError`, `DeadlineExceeded` or `Cancelled`."""
        response = self._try(request, patience, fresh=False)
        # A kept connection may have been closed by the other side while it lay idle, which shows only on use. Nothing
        # was answered, so this is no attempt at the model: ask again, on a connection made for it.
        return response if response is not None else self._sent(self._try(request, patience, fresh=True))

    @staticmethod
    def _sent(response: HttpResponse | None) -> HttpResponse:
        if response is None:
            raise ConnectionLost("the connection was closed before an answer")
        return response

    def _try(self, request: HttpRequest, patience: Patience, *, fresh: bool) -> HttpResponse | None:
        """The response, or None when a kept connection turned out to be dead."""
        patience.cancel.raise_if_cancelled()
        watch = _Watch(patience, streamed=request.streamed)
        try:
            raw = self._exchange(request, watch, fresh=fresh)
        except _LIBRARY_ERRORS as caught:
            stale = watch.guard.cut_for is None and not watch.guard.fresh and isinstance(_innermost(caught), _STALE)
            error = None if stale else watch.explain(caught)
        except BaseException:
            watch.finish()
            raise
        else:
            return _Response(raw, watch)
        watch.finish()
        if error is None:
            return None
        raise error

    def _exchange(self, request: HttpRequest, watch: _Watch, *, fresh: bool) -> Any:  # noqa: ANN401 (urllib3's response)
        watch.start()
        prepared = requests.PreparedRequest()
        prepared.method, prepared.url, prepared.body = request.method, request.url, request.body
        prepared.headers = _Headers(request.headers)  # type: ignore[assignment] # the adapter only looks keys up
        with exchange(watch.guard, watch.connect_by, fresh=fresh):
            return self._adapter.send(
                prepared, stream=True, timeout=None, verify=self._verify, proxies=self._proxies_for(request.url)
            )

    def _proxies_for(self, url: str) -> dict[str, str]:
        """The proxy for this address, looked up once an origin."""
        origin = url[: url.find("/", 8)]
        found = self._proxies.get(origin)
        if found is None:
            found = self._proxies[origin] = self._find_proxy(url)
        return found

    def _find_proxy(self, url: str) -> dict[str, str]:
        parts = urlsplit(url)
        if self._proxy is None or is_loopback(parts.hostname or ""):
            return {}
        if self._proxy != "env":
            return {parts.scheme: self._proxy}
        if parts.scheme != "https":
            return {}
        proxy = requests.utils.get_environ_proxies(url).get("https")
        return {"https": proxy} if proxy else {}

    def close(self) -> None:
        """Close every kept connection. An exchange under way keeps its own until it ends."""
        self._session.close()


class _Headers(dict[str, str]):
    """The request's headers with exact names; their `repr` shows no value (tracebacks with locals are common)."""

    def __repr__(self) -> str:
        return f"<headers {', '.join(self)}>"

    def copy(self) -> _Headers:
        return _Headers(self)


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine by name or number."""
    return host in ("localhost", "::1") or host.startswith("127.") or host.endswith(".localhost")


def _certificates(ca_bundle: str | None) -> str | bool:
    source, path = "`ca_bundle`", ca_bundle
    if path is None:
        source, path = next(((name, os.environ[name]) for name in _CA_VARIABLES if os.environ.get(name)), ("", None))
    if path is None:
        return True
    if not isinstance(path, str | os.PathLike) or not os.path.exists(path):
        raise ConfigError(f"{source}: there is no file or folder of certificates at `{path}`")
    return str(path)


def _checked_proxy(proxy: str | None) -> str | None:
    if proxy is None or proxy == "env":
        return proxy
    parts = urlsplit(proxy) if isinstance(proxy, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError('`proxy` is an `http://host:port` or `https://host:port` URL, "env" or None')
    return proxy


class _Watch:
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
        self._unsubscribe = patience.cancel.on_cancel(self._cancelled)

    def _cancelled(self) -> None:
        self.guard.cut("cancelled")

    def start(self) -> None:
        self._patience.trace.enter("connect")
        connect_first = self.connect_by < self.deadline
        self.guard.until(self.connect_by, "connect" if connect_first else "deadline")

    def _connected(self) -> None:
        self.connected = True
        self._patience.trace.enter("first_token")
        if self._streamed and self._patience.first_token is not None:
            self._first_token_by = self.guard.now() + self._patience.first_token
        self._until(self._first_token_by, "first_token")

    def _until(self, moment: float, reason: Any) -> None:  # noqa: ANN401 (a watchdog Reason)
        if moment < self.deadline:
            self.guard.until(moment, reason)
        else:
            self.guard.until(self.deadline, "deadline")

    def before_read(self) -> float:
        """Set the limit for one read of a stream; answers the present moment."""
        now = self.guard.now()
        if self.winding_down:
            return now
        if self._content_seen:
            self._until(now + self._idle_left, "idle")
        return now

    def after_read(self, began: float) -> None:
        """What was waited counts against the idle limit; the program's own time until the next read does not."""
        if self._content_seen and not self.winding_down:
            self._idle_left -= self.guard.now() - began
            self.guard.until(self.deadline, "deadline")

    def content_seen(self) -> None:
        self._content_seen = True
        self._idle_left = self._patience.idle or float("inf")

    def wind_down(self, seconds: float) -> None:
        self.winding_down = True
        self._until(self.guard.now() + seconds, "winding_down")

    def finish(self) -> None:
        self.guard.finish()
        self._unsubscribe()

    def explain(self, caught: BaseException) -> CallError:
        """The error to raise for what a library raised: what the guard did comes before what it looks like."""
        if self.guard.cut_for is not None:
            return self._cut()
        cause = _innermost(caught)
        if isinstance(caught, urllib3.exceptions.DecodeError):
            return MalformedResponse("the answer's compression is broken")
        if not self.connected:
            return _connect_problem(caught, cause)
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
                return DeadlineExceeded("the deadline of the call passed before its answer was whole")

    def check(self) -> None:
        """A socket that was shut down may look like one that ended well: raise when the guard did that."""
        if self.guard.cut_for is not None and not self.winding_down:
            raise self._cut()


def _innermost(error: BaseException) -> BaseException:
    """What the libraries wrapped, several times over."""
    seen = 0
    while seen < 12:
        inner = getattr(error, "reason", None) or next((arg for arg in error.args if isinstance(arg, BaseException)), None)
        inner = inner if isinstance(inner, BaseException) else error.__cause__
        if inner is None:
            return error
        error, seen = inner, seen + 1
    return error


def _connect_problem(caught: BaseException, cause: BaseException) -> CallError:
    if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return TLSFailed(f"the TLS connection was refused: {_say(cause)}")
    if isinstance(caught, requests.exceptions.ProxyError):
        return ConnectFailed(f"the proxy refused the connection: {_say(cause)}")
    return ConnectFailed(f"no connection: {_say(cause)}")


def _say(cause: BaseException) -> str:
    """The reason in a few words, nothing of the request."""
    if isinstance(cause, ssl.SSLCertVerificationError):
        return cause.verify_message
    if isinstance(cause, http.client.IncompleteRead):
        return "the body ended early"
    if isinstance(cause, http.client.RemoteDisconnected):
        return "closed without an answer"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror.lower()
    return type(cause).__name__


class _Response:
    """A response whose head has arrived."""

    def __init__(self, raw: Any, watch: _Watch) -> None:  # noqa: ANN401 (urllib3's response)
        self._raw = raw
        self._watch = watch
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
        except (*_LIBRARY_ERRORS, ValueError, AttributeError) as caught:
            error = self._watch.explain(caught)
        else:
            self._check()
            return data
        self._finish(whole=False)
        raise error

    def pieces(self) -> Iterator[bytes]:
        """The body as it arrives. Frees the connection at its end."""
        while data := self._next_piece():
            yield data
        self._finish(whole=not self._watch.guard.cut_for)

    def _next_piece(self) -> bytes:
        began = self._watch.before_read()
        try:
            with self._reading:
                data: bytes = b"" if self._finished else self._raw.read1(READ_BYTES, decode_content=True)
        except (*_LIBRARY_ERRORS, ValueError, AttributeError) as caught:
            # The last two: another thread closed the response while this one read.
            error = self._watch.explain(caught)
        else:
            self._check()
            self._watch.after_read(began)
            return data
        self._finish(whole=False)
        if self._watch.winding_down:
            return b""
        raise error

    def _check(self) -> None:
        try:
            self._watch.check()
        except CallError:
            self._finish(whole=False)
            raise

    def content_seen(self) -> None:
        """Content has come: the idle clock begins anew."""
        self._watch.content_seen()

    def wind_down(self, seconds: float) -> None:
        """Wait at most `seconds` for what is left, and end quietly then."""
        self._watch.wind_down(seconds)

    def close(self) -> None:
        """Free the connection. From any thread."""
        self._watch.guard.cut("closed")
        self._finish(whole=False)

    def _finish(self, *, whole: bool) -> None:
        with self._reading:
            if self._finished:
                return
            self._finished = True
        self._watch.finish()
        with contextlib.suppress(*_LIBRARY_ERRORS, ValueError):
            if not whole:
                self._raw.close()
            self._raw.release_conn()
