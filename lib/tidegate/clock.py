"""Time and cancellation as values: a `Clock` to read and wait by, a `Deadline` to respect, a `CancelToken` to obey."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tidegate.errors import Cancelled


class Clock(Protocol):
    """Where time comes from. Tests hand in one of their own (`tidegate.testing.ManualClock`)."""

    def monotonic(self) -> float:
        """Seconds that never jump; their zero means nothing."""
        ...

    def time(self) -> float:
        """Seconds since 1970-01-01 UTC: for records and for dates in headers, never for waiting."""
        ...

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait until `event` is set or `seconds` have passed; says whether it is set."""
        ...


class SystemClock:
    """The machine's own time."""

    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait until `event` is set or `seconds` have passed; says whether it is set."""
        return event.wait(min(max(seconds, 0.0), threading.TIMEOUT_MAX))


SYSTEM_CLOCK = SystemClock()


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on a clock's monotonic scale after which a call must not go on. `at` is `inf` for never."""

    clock: Clock
    at: float

    @classmethod
    def after(cls, seconds: float | None, clock: Clock = SYSTEM_CLOCK) -> Deadline:
        """The moment `seconds` from now; None means never."""
        return cls(clock, float("inf") if seconds is None else clock.monotonic() + seconds)

    def remaining(self) -> float:
        """Seconds left, never below zero; `inf` for never."""
        return max(0.0, self.at - self.clock.monotonic())

    @property
    def expired(self) -> bool:
        """Whether the moment has come."""
        return self.clock.monotonic() >= self.at


class CancelToken:
    """Hand one to a call (`cancel=`), and call `cancel()` from any thread to end that call at once.

    A token may serve many calls; once cancelled it stays cancelled.
    """

    def __init__(self) -> None:
        # A plain Lock: nothing that runs under it can call back into the token.
        self._lock = threading.Lock()
        self._event = threading.Event()
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._next = 0

    @property
    def cancelled(self) -> bool:
        """Whether `cancel()` has been called."""
        return self._event.is_set()

    @property
    def event(self) -> threading.Event:
        """Set once cancelled: wait on it instead of sleeping."""
        return self._event

    def cancel(self) -> None:
        """End every call that holds this token. Calling it again does nothing."""
        with self._lock:
            self._event.set()
            callbacks, self._callbacks = list(self._callbacks.values()), {}
        for callback in callbacks:
            callback()

    def on_cancel(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` once on cancellation (at once if that was before). Returns a function that takes it back."""
        with self._lock:
            if not self._event.is_set():
                key = self._next
                self._next += 1
                self._callbacks[key] = callback
                return lambda: self._forget(key)
        callback()
        return lambda: None

    def _forget(self, key: int) -> None:
        with self._lock:
            self._callbacks.pop(key, None)

    def raise_if_cancelled(self) -> None:
        """Raise `Cancelled` when `cancel()` has been called."""
        if self._event.is_set():
            raise Cancelled("the call was cancelled")
