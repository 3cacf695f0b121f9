"""Makes deadlines true: a thread that shuts sockets down when their time is over.

A socket's own timeout counts from one `recv` to the next, so a server that sends a byte now and then, or keep-alive
comments, is never late. And no thread can be interrupted. A shutdown of the socket from another thread ends any
read, write, connect or TLS handshake at once, so that is what a `Guard` does, on time or on demand.
"""

from __future__ import annotations

import heapq
import itertools
import socket
import threading
from collections.abc import Callable
from typing import Literal, Protocol

from tidegate.clock import SYSTEM_CLOCK, Clock
from tidegate.forking import reset_in_child

_NEVER = float("inf")

Reason = Literal["deadline", "connect", "first_token", "idle", "winding_down", "cancelled", "closed"]


class Socket(Protocol):
    """What a guard needs of a socket."""

    def fileno(self) -> int:
        """Its file descriptor."""
        ...


def _shut_down(sock: Socket) -> None:
    """Wake whoever waits on this socket, in either direction."""
    try:
        if isinstance(sock, socket.socket):
            # Not `sock.shutdown`: that of an SSLSocket drops its TLS state first, and the reader would go on in clear.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)
        else:  # urllib3's TLS-in-TLS wrapper round a proxy's socket
            inner = getattr(sock, "socket", None)
            if isinstance(inner, socket.socket):
                socket.socket.shutdown(inner, socket.SHUT_RDWR)
    except OSError:
        pass  # it was closed, or never connected: nobody waits on it


class Guard:
    """One exchange's socket, and the moment at which it is to be cut.

    The thread that carries the exchange moves the moment (`until`); the watchdog and other threads cut. After
    `finish` nothing touches the socket any more: by then it may serve another exchange.
    """

    __slots__ = (
        "_copy",
        "_generation",
        "_lock",
        "_on_connected",
        "_sock",
        "_wake",
        "_watchdog",
        "cut_for",
        "done",
        "fresh",
        "limit",
        "scheduled",
    )

    def __init__(self, watchdog: Watchdog, on_connected: Callable[[], None] | None = None) -> None:
        self._watchdog = watchdog
        self._generation = watchdog.generation
        self._on_connected = on_connected
        self._lock = threading.Lock()
        self._sock: Socket | None = None
        self._copy: socket.socket | None = None
        self._wake: Callable[[], None] | None = None
        self.limit: tuple[float, Reason] = (_NEVER, "deadline")
        """When to cut, and for what reason: one attribute, so that it changes in one step."""
        self.scheduled = _NEVER
        """When the watchdog will next look at this guard."""
        self.cut_for: Reason | None = None
        """Why the socket was cut; None while it was not."""
        self.done = False
        self.fresh = False
        """Whether the connection was made for this exchange rather than taken from the pool."""

    def attach(self, sock: Socket) -> None:
        """Guard this socket from now on; one that is too late is cut at once."""
        with self._lock:
            self._let_go()
            self._sock = sock
            if self.cut_for is not None:
                _shut_down(sock)

    def attach_copy(self, sock: socket.socket) -> None:
        """Guard a socket that is still being made into another: TLS takes its descriptor away from it.

        The copy is a descriptor of the same connection, which lives until the next `attach` or `finish`.
        """
        copy = sock.dup()
        self.attach(copy)
        self._copy = copy

    def _let_go(self) -> None:
        copy, self._copy = self._copy, None
        if copy is not None:
            copy.close()

    def wake_by(self, wake: Callable[[], None] | None) -> None:
        """What ends a wait of the exchange that is no wait on its socket; None when there is no such wait."""
        with self._lock:
            self._wake = wake
            cut = self.cut_for is not None
        if cut and wake is not None:
            wake()

    def connected(self) -> None:
        """The connection stands and the request is about to be sent."""
        if self._on_connected is not None:
            self._on_connected()

    def now(self) -> float:
        """The present moment on the scale of `until`."""
        return self._watchdog.now()

    def until(self, moment: float, reason: Reason) -> None:
        """Cut at `moment` (on the watchdog's clock) for `reason`, instead of what was set before."""
        self.limit = (moment, reason)
        if moment < self.scheduled:
            self._watchdog.schedule(self, moment)

    @property
    def inherited(self) -> bool:
        """Whether the exchange is that of the process which forked this one.

        Its connection is shared with that process, where it goes on: a shutdown here would end it there too. And its
        locks may be held by threads that do not exist here.
        """
        return self._generation != self._watchdog.generation

    def cut(self, reason: Reason) -> None:
        """End the exchange now. From any thread; the first reason stands."""
        if self.inherited:
            return
        with self._lock:
            if self.done or self.cut_for is not None:
                return
            self.cut_for = reason
            if self._sock is not None:
                _shut_down(self._sock)
            if self._wake is not None:
                self._wake()

    def finish(self) -> None:
        """The exchange is over and the socket no longer ours."""
        with self._lock:
            self.done = True
            self._sock = None
            self._wake = self._on_connected = None  # the watchdog keeps this guard a while, but not all behind it
            self._let_go()


class Watchdog:
    """One daemon thread for all guards of a process; it ends when there has been nothing to guard for a while."""

    LINGER = 5.0
    """Seconds that the thread stays when there is nothing to guard."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self.generation = 0
        """Another one in each forked child."""
        self._renew()
        reset_in_child(self._renew)

    def _renew(self) -> None:
        self.generation += 1
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._heap: list[tuple[float, int, Guard]] = []
        self._order = itertools.count()
        self._thread: threading.Thread | None = None
        self._compact_at = 256

    def now(self) -> float:
        """The present moment on the scale of `Guard.until`."""
        return self._clock.monotonic()

    def schedule(self, guard: Guard, moment: float) -> None:
        """Look at `guard` at `moment`."""
        with self._lock:
            guard.scheduled = moment
            if len(self._heap) >= self._compact_at:
                self._compact()
            heapq.heappush(self._heap, (moment, next(self._order), guard))
            earliest = self._heap[0][2] is guard
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="tidegate-watchdog", daemon=True)
                self._thread.start()
        if earliest:
            self._wake.set()

    def _compact(self) -> None:
        """Drop finished guards. Twice as many as live ones may wait here, so the cost stays constant a guard."""
        self._heap = [entry for entry in self._heap if not entry[2].done and entry[2].scheduled == entry[0]]
        heapq.heapify(self._heap)
        self._compact_at = max(256, 2 * len(self._heap))

    def _watch(self) -> None:
        wait = 0.0
        while True:
            woken = self._clock.wait(self._wake, wait)
            due, wait = self._due()
            for guard in due:
                guard.cut(guard.limit[1])
            if not (woken or due) and self._retire():
                return
            del due

    def _due(self) -> tuple[list[Guard], float]:
        """The guards whose time is over, and how many seconds to wait then."""
        due: list[Guard] = []
        with self._lock:
            self._wake.clear()
            now = self._clock.monotonic()
            while self._heap:
                moment, _, guard = self._heap[0]
                if guard.done or guard.scheduled != moment:
                    heapq.heappop(self._heap)  # nothing to wake up for
                    continue
                if moment > now:
                    break
                heapq.heappop(self._heap)
                guard.scheduled = _NEVER
                expires_at = guard.limit[0]
                if expires_at <= now:
                    due.append(guard)
                elif expires_at < _NEVER:  # it was moved on since
                    guard.scheduled = expires_at
                    heapq.heappush(self._heap, (expires_at, next(self._order), guard))
            return due, (self._heap[0][0] - now if self._heap else self.LINGER)

    def _retire(self) -> bool:
        """Let the thread end when there is nothing to guard."""
        with self._lock:
            if self._heap:
                return False
            self._thread = None
            return True


WATCHDOG = Watchdog()
"""The process's own."""
