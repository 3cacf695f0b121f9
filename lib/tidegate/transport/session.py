"""The transport: one `requests` session, its pool of kept connections, and a guard round every exchange.

`requests` and `urllib3` errors end here: each becomes one of ours, raised outside the handler that caught it, because
theirs hold the request and with it the key.
"""

from __future__ import annotations

import http.client
import ipaddress
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
import requests.adapters
import requests.utils
import urllib3

from tidegate.errors import CallError, ConfigError, ConnectFailed, ConnectionLost
from tidegate.forking import reset_in_child
from tidegate.transport.base import HttpRequest, HttpResponse, Patience
from tidegate.transport.connections import POOL_CLASSES, exchange
from tidegate.transport.limits import LIBRARY_ERRORS, Limits, innermost
from tidegate.transport.response import Response

POOL_SIZE = 1024
"""Connections kept a host, at least. More may be open at once; those are closed after use. The pool never blocks:
`requests` cannot bound that wait, and the deadline could not be kept."""

_NO_TIMEOUT = urllib3.Timeout(connect=None, read=None)
"""The guard keeps every limit; a socket with a timeout of its own would cost a `poll` a read."""

_CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")

_STALE = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError, ConnectionAbortedError)


class _Adapter(requests.adapters.HTTPAdapter):
    """Hands out guarded connections, also through a proxy."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = POOL_CLASSES

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 (as the base class has it)
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = POOL_CLASSES
        return manager

    def pool_for(self, url: str, proxies: dict[str, str], *, verify: str | bool) -> urllib3.HTTPConnectionPool:
        """The pool of kept connections to this address, made as `send` makes it: proxy, certificates and all."""
        request = requests.Request("POST", url).prepare()
        adapter: Any = self  # there are stubs for requests, and they say less than it does
        pool: urllib3.HTTPConnectionPool = adapter.get_connection_with_tls_context(request, verify, proxies=proxies)
        adapter.cert_verify(pool, url, verify, None)
        return pool


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
        self._routes: dict[str, tuple[urllib3.HTTPConnectionPool, bool]] = {}

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
        limits = Limits(patience, streamed=request.streamed)
        error: CallError | None
        try:
            raw = self._exchange(request, limits, fresh=fresh)
        except LIBRARY_ERRORS as caught:
            stale = limits.guard.cut_for is None and not limits.guard.fresh and isinstance(innermost(caught), _STALE)
            error = None if stale else limits.explain(caught)
        except ConnectFailed as caught:
            # Without its traceback: on the way there http.client's locals hold the request's head, and the key in it.
            error = limits.over() or caught.with_traceback(None)
        except BaseException:
            limits.finish()
            raise
        else:
            return Response(raw, limits)
        limits.finish()
        if error is None:
            return None
        raise error

    def _exchange(self, request: HttpRequest, limits: Limits, *, fresh: bool) -> Any:  # noqa: ANN401 (urllib3's response)
        limits.start()
        url = request.url
        split = url.find("/", 8)
        origin = url[:split]
        route = self._routes.get(origin)
        if route is None:
            route = self._routes[origin] = self._find_route(url)
        pool, through_proxy = route
        with exchange(limits.guard, limits.connect_by, fresh=fresh):
            # What `adapter.send` would do, without looking the pool and the certificates up again for each request.
            return pool.urlopen(
                request.method,
                url if through_proxy else url[split:],
                body=request.body,
                headers=_Headers(request.headers),
                retries=False,
                redirect=False,
                assert_same_host=False,
                preload_content=False,
                decode_content=False,
                timeout=_NO_TIMEOUT,
            )

    def _find_route(self, url: str) -> tuple[urllib3.HTTPConnectionPool, bool]:
        """The pool for this address, and whether requests must name the whole address (to a proxy, in clear)."""
        proxies = self._find_proxy(url)
        return self._adapter.pool_for(url, proxies, verify=self._verify), bool(proxies) and url.startswith("http:")

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
        routes, self._routes = self._routes, {}
        for pool, _ in routes.values():
            pool.close()  # the session only forgets its pools: a response that still knows one would keep it open


class _Headers(dict[str, str]):
    """The request's headers with exact names; their `repr` shows no value (tracebacks with locals are common)."""

    def __repr__(self) -> str:
        return f"<headers {', '.join(self)}>"

    def copy(self) -> _Headers:
        return _Headers(self)


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine by name or number."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, which may well begin like a number: `127.0.0.1.example.com`
        return False


def _certificates(ca_bundle: str | None) -> str | bool:
    source, path = "`ca_bundle`", ca_bundle
    if path is None:
        source, path = next(((name, os.environ[name]) for name in _CA_VARIABLES if os.environ.get(name)), ("", None))
    if path is None:
        return True
    # An empty path exists (it is the current folder), and `requests` would take it for "do not verify".
    if not isinstance(path, str | os.PathLike) or not str(path) or not Path(path).exists():
        raise ConfigError(f"{source}: there is no file or folder of certificates at `{path}`")
    return str(path)


def _checked_proxy(proxy: str | None) -> str | None:
    if proxy is None or proxy == "env" or (isinstance(proxy, str) and _is_proxy_url(proxy)):
        return proxy
    raise ConfigError('`proxy` is an `http://host:port` or `https://host:port` URL, "env" or None')


def _is_proxy_url(url: str) -> bool:
    if not url.isascii() or not url.isprintable() or " " in url:
        return False
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # its host or port cannot be read
        return False
