"""urllib3's connections, with three things it lacks.

* A name look-up that can be waited for with a limit: `getaddrinfo` cannot be interrupted, so it runs in a thread that
  is left behind when it takes too long.
* The socket is shown to the exchange's `Guard` from the moment it exists, so that connecting, the TLS handshake and
  headers that drip can all be cut.
* TCP keep-alive, so that a peer that vanished is noticed.
"""

from __future__ import annotations

import contextlib
import ipaddress
import queue
import socket
import threading
from collections.abc import Iterator
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from tidegate.errors import ConnectFailed
from tidegate.forking import reset_in_child
from tidegate.transport.watchdog import Guard

Address = tuple[Any, ...]

SOCKET_OPTIONS: list[tuple[int, int, int]] = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    # First probe after 30 s of silence, then every 10 s: a dead peer is noticed within 90 s, and middleboxes that
    # forget idle connections (cloud load balancers do after 60 s to 350 s) see traffic in time.
    *((socket.IPPROTO_TCP, getattr(socket, name), value) for name, value in
      (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 6)) if hasattr(socket, name)),
]  # fmt: skip


TRUSTED_FOR = 2.0
"""Seconds since its last request for which a kept connection is believed to stand. Servers keep idle ones longer (the
shortest default of a common one is 5 s: Node's)."""


class Exchange(threading.local):
    """What the connection that serves this thread's request must know."""

    guard: Guard | None = None
    connect_by: float = float("inf")
    """The moment, on the guard's clock, by which the connection must stand."""
    fresh: bool = False
    """Whether a kept connection will not do."""


EXCHANGE = Exchange()


@contextlib.contextmanager
def exchange(guard: Guard, connect_by: float, *, fresh: bool = False) -> Iterator[None]:
    """Requests that this thread sends inside belong to `guard`."""
    EXCHANGE.guard, EXCHANGE.connect_by, EXCHANGE.fresh = guard, connect_by, fresh
    try:
        yield
    finally:
        EXCHANGE.guard = None


class NameLookups:
    """Name look-ups in threads; those for one name at one time share a thread, so a dead resolver costs just one."""

    def __init__(self) -> None:
        self._renew()
        reset_in_child(self._renew)

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[tuple[str, int], list[queue.SimpleQueue[list[Address] | OSError]]] = {}

    def resolve(self, host: str, port: int, seconds: float, guard: Guard) -> list[Address]:
        """`getaddrinfo` for TCP. Raises `ConnectFailed` when it fails, takes longer than `seconds`, or is cut short."""
        if _is_address(host):
            return _getaddrinfo(host, port)
        answer: queue.SimpleQueue[list[Address] | OSError] = queue.SimpleQueue()
        with self._lock:
            waiting = self._waiting.setdefault((host, port), [])
            waiting.append(answer)
            first = len(waiting) == 1
        if first:
            threading.Thread(target=self._look_up, args=(host, port), name=f"tidegate-dns-{host}", daemon=True).start()
        guard.wake_by(lambda: answer.put(OSError("the wait for it was ended")))
        try:
            found = answer.get(timeout=max(0.0, min(seconds, threading.TIMEOUT_MAX)))
        except queue.Empty:
            problem = f"the name `{host}` was not resolved within {seconds:.3g} s"
        else:
            if isinstance(found, list):
                return found
            problem = f"the name `{host}` could not be resolved: {found.strerror or found}"
        finally:
            guard.wake_by(None)
        raise ConnectFailed(problem)

    def _look_up(self, host: str, port: int) -> None:
        found: list[Address] | OSError
        try:
            found = _getaddrinfo(host, port)
        except OSError as error:
            found = error
        except UnicodeError:  # a label that is empty or too long
            found = OSError("it is not a valid host name")
        with self._lock:
            waiting = self._waiting.pop((host, port), [])
        for answer in waiting:
            answer.put(found)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _getaddrinfo(host: str, port: int) -> list[Address]:
    return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))


NAME_LOOKUPS = NameLookups()


class _Unshown(bytes):
    """A request's bytes: the key is in them, and a traceback with locals that is taken while they leave shows them."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{len(self)} bytes of a request>"

    __str__ = __repr__


class _Guarded(HTTPConnection):
    """A connection that shows its socket to the guard of whoever uses it."""

    _owner: Guard | None = None
    _kept_since = 0.0
    _hold_head = False
    _head = b""

    def _new_conn(self) -> socket.socket:
        """Connect within `EXCHANGE.connect_by`, trying one address after the other."""
        guard = EXCHANGE.guard
        if guard is None:
            return super()._new_conn()
        guard.fresh = True
        addresses = NAME_LOOKUPS.resolve(self._dns_host, self.port or self.default_port, self._left(guard), guard)
        problem = "no address"
        for family, kind, protocol, _, address in addresses:
            left = self._left(guard)
            if left <= 0 or guard.cut_for is not None:
                problem = "no connection in time"
                break
            sock = socket.socket(family, kind, protocol)
            guard.attach_copy(sock)
            try:
                for option in SOCKET_OPTIONS:
                    sock.setsockopt(*option)
                sock.settimeout(None if left == float("inf") else left)
                sock.connect(address)
            except OSError as error:
                sock.close()
                problem = "no connection in time" if isinstance(error, TimeoutError) else (error.strerror or str(error))
            else:
                return sock
        raise ConnectFailed(f"no connection to `{self.host}` port {self.port}: {problem}")

    @staticmethod
    def _left(guard: Guard) -> float:
        return EXCHANGE.connect_by - guard.now()

    @property
    def is_connected(self) -> bool:
        """Whether the other side has not hung up, as far as can be seen.

        A connection that was in use a moment ago is believed without a look: the look is a system call, and a wrong
        belief costs one more send.
        """
        if self.sock is None:
            return False
        if self._owner is not None and self._owner.now() - self._kept_since < TRUSTED_FOR:
            return True
        return super().is_connected

    def connect(self) -> None:
        super().connect()
        if EXCHANGE.guard is not None:
            self._hand_over(EXCHANGE.guard)

    def request(self, *args: Any, **kwargs: Any) -> None:
        guard = EXCHANGE.guard
        if self.sock is not None and guard is not None:
            if EXCHANGE.fresh and not guard.fresh:
                self.close()  # http.client connects anew by itself
            else:
                self._hand_over(guard)
        self._hold_head = bool(kwargs.get("body"))
        super().request(*args, **kwargs)

    def send(self, data: Any) -> None:  # noqa: ANN401 (as http.client has it)
        """Send head and body in one go: http.client's two writes wake the server, and give the GIL away, twice."""
        if self._hold_head:
            self._hold_head, self._head = False, data
            return
        if self._head:
            data, self._head = _Unshown(self._head + data), b""
        super().send(data)

    def _hand_over(self, guard: Guard) -> None:
        """From now on the socket is this exchange's; whoever had it before may not cut it any more."""
        if self._owner is not None and self._owner is not guard:
            self._owner.finish()
        self._owner = guard
        self._kept_since = guard.now()
        guard.attach(self.sock)
        guard.connected()


class GuardedHTTPConnection(_Guarded):
    """Plain HTTP."""


class GuardedHTTPSConnection(_Guarded, HTTPSConnection):
    """HTTP over TLS."""


class GuardedHTTPConnectionPool(HTTPConnectionPool):
    """A pool of guarded connections."""

    ConnectionCls = GuardedHTTPConnection


class GuardedHTTPSConnectionPool(HTTPSConnectionPool):
    """A pool of guarded TLS connections."""

    ConnectionCls = GuardedHTTPSConnection


POOL_CLASSES = {"http": GuardedHTTPConnectionPool, "https": GuardedHTTPSConnectionPool}
