"""A loopback HTTP proxy that remembers all that a client told it.

::

    with FaultServer(tls="wrong-host") as server, Proxy(server.port) as proxy:
        ...                                     # a client of https://elsewhere.test that is told of `proxy.url`
        assert proxy.requests[0].line == "CONNECT elsewhere.test:443 HTTP/1.1"
        assert b"secret" not in proxy.received  # what it could have read

It takes CONNECT (a tunnel) and absolute targets (`POST http://host/path`, one a connection). Whatever host is named,
it connects to one port of this machine, so that a test can name hosts that do not exist.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import urlsplit

HOST = "127.0.0.1"
STOP_SECONDS = 2.0
"""How long the end of the `with` statement waits for the proxy's threads."""
PIECE = 65536


class ProxyRequest(NamedTuple):
    """What a client asked the proxy for."""

    line: str
    """The request line, such as `CONNECT elsewhere.test:443 HTTP/1.1`."""
    headers: dict[str, str]
    """Names in lower case."""


class Proxy:
    """See the module. `answer` is an HTTP status, and a reason, with which it refuses everybody, such as `407 No`."""

    def __init__(self, upstream_port: int, *, answer: str | None = None) -> None:
        self.requests: list[ProxyRequest] = []
        """Each request as it arrived, tunnelled ones left out: those are not for the proxy to read."""
        self._upstream_port = upstream_port
        self._answer = answer
        self._received = bytearray()
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._stopped = False

    @property
    def received(self) -> bytes:
        """Every byte that clients sent, tunnelled ones as well."""
        with self._lock:
            return bytes(self._received)

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`."""
        return f"http://{HOST}:{self.port}"

    def url_for(self, user: str, password: str) -> str:
        """The same with credentials."""
        return f"http://{user}:{password}@{HOST}:{self.port}"

    def __enter__(self) -> Self:
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._spawn(self._accept_all)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            self._stopped = True
            for sock in self._sockets | {self._listener}:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)  # ends every accept, read and write
        for thread in self._threads:
            thread.join(STOP_SECONDS)
        self._listener.close()
        if left := [thread.name for thread in self._threads if thread.is_alive()]:
            raise RuntimeError(f"the proxy could not end {left}")

    def _spawn(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, name=f"proxy-{len(self._threads)}")
        self._threads.append(thread)
        thread.start()

    def _accept_all(self) -> None:
        while not self._stopped:
            try:
                client, _ = self._listener.accept()
            except OSError:  # the end, or a client that left while it waited
                continue
            self._spawn(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with self._kept(client), contextlib.suppress(OSError):
            head, rest = self._read_head(client)
            if not head:
                return
            line, *lines = head.decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)}
            self.requests.append(ProxyRequest(line, headers))
            if self._answer is not None:
                client.sendall(f"HTTP/1.1 {self._answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
                return
            with self._kept(socket.create_connection((HOST, self._upstream_port))) as upstream:
                self._connect(client, upstream, line, lines, rest)

    def _connect(
        self, client: socket.socket, upstream: socket.socket, line: str, lines: list[str], rest: bytes
    ) -> None:
        method, target, version = line.split(" ")
        if method == "CONNECT":
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            path = urlsplit(target).path
            kept = [each for each in lines if not each.lower().startswith(("proxy-", "connection:"))]
            upstream.sendall("\r\n".join([f"{method} {path} {version}", *kept, "Connection: close", "", ""]).encode())
        upstream.sendall(rest)
        self._relay(client, upstream)

    def _relay(self, client: socket.socket, upstream: socket.socket) -> None:
        while True:
            for sock in select.select([client, upstream], [], [])[0]:
                data = self._receive(client) if sock is client else upstream.recv(PIECE)
                if not data:
                    return
                (upstream if sock is client else client).sendall(data)

    def _read_head(self, client: socket.socket) -> tuple[bytes, bytes]:
        """The request's head without its blank line, and what came after it; nothing if the client left."""
        data = b""
        while b"\r\n\r\n" not in data:
            piece = self._receive(client)
            if not piece:
                return b"", b""
            data += piece
        head, _, rest = data.partition(b"\r\n\r\n")
        return head, rest

    def _receive(self, client: socket.socket) -> bytes:
        data = client.recv(PIECE)
        with self._lock:
            self._received += data
        return data

    @contextlib.contextmanager
    def _kept(self, sock: socket.socket) -> Iterator[socket.socket]:
        """A socket that the end of the `with` statement can shut down."""
        with sock:
            with self._lock:
                if self._stopped:
                    return
                self._sockets.add(sock)
            try:
                yield sock
            finally:
                with self._lock:
                    self._sockets.discard(sock)
