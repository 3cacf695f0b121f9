"""A clock for tests: whoever waits on it moves it on instead of sleeping."""

from __future__ import annotations

import math
import threading


class ManualClock:
    """A `Clock` whose time passes only when somebody waits on it, or when the test says so.

    ::

        clock = ManualClock()
        limiter = SomethingWithAClock(clock=clock)
        limiter.acquire()              # waits 30 s by its own clock, and returns at once
        assert clock.waits == (30.0,)

    `monotonic` and `time` are the moments at which it begins, in seconds: by default 1,000 (zero would hide a mistake
    that treats the first moment as unset) and 1,700,000,000 (14 November 2023, 22:13:20 UTC).

    Threads may share it. Waits of several threads follow one another: two that wait for 1 s each move it by 2 s.
    """

    def __init__(self, *, monotonic: float = 1_000.0, time: float = 1_700_000_000.0) -> None:
        self._lock = threading.Lock()
        self._monotonic = monotonic
        self._time = time
        self._waits: list[float] = []

    def monotonic(self) -> float:
        """Seconds that never jump; their zero means nothing."""
        with self._lock:
            return self._monotonic

    def time(self) -> float:
        """Seconds since 1970-01-01 UTC."""
        with self._lock:
            return self._time

    @property
    def waits(self) -> tuple[float, ...]:
        """The seconds that each `wait` so far was asked for, oldest first; also of those that an event ended."""
        with self._lock:
            return tuple(self._waits)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Move on by `seconds` (not at all below 0), unless `event` is set already; says whether it is set then.

        Raises `ValueError` for a wait that time alone would never end: infinite seconds, or NaN.
        """
        with self._lock:
            self._waits.append(seconds)
            if event.is_set():
                return True
            self._move(max(seconds, 0.0))
        return event.is_set()

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass. Raises `ValueError` when they are negative or no number: time never goes back."""
        if seconds < 0:
            raise ValueError(f"time does not go back: {seconds!r}")
        with self._lock:
            self._move(seconds)

    def set_time(self, time: float) -> None:
        """Step the wall clock, as an administrator or NTP would. No time passes: `monotonic` stays."""
        with self._lock:
            self._time = time

    def _move(self, seconds: float) -> None:
        if not math.isfinite(seconds):
            raise ValueError(f"nothing would ever end a wait of {seconds!r} seconds")
        self._monotonic += seconds
        self._time += seconds

    def __repr__(self) -> str:
        return f"<ManualClock at {self.monotonic():.6g} s>"
