"""When a route's answer is late, and how many second requests it may cost: see `hedge`."""

from __future__ import annotations

import math
import threading
from bisect import bisect_left, insort
from collections import deque

RESERVE = 3.0
"""Hedges that a route has to begin with, beside the share that its calls earn."""

MOST = 10.0
"""Hedges that can be saved up: after a long calm an outage must not meet with a burst of them."""

SAMPLES, ENOUGH = 200, 20
"""Times that a percentile is taken of, and how many there must be: of fewer the 95th would be just the largest."""


class HedgeAccount:
    """What one route's hedges go by: how long its replies took lately, and how many it may still cost."""

    def __init__(self, extra: float) -> None:
        self._lock = threading.Lock()
        self._extra = extra
        self._left = RESERVE
        self._not_before = -math.inf
        self._times = {True: Times(), False: Times()}

    def earn(self) -> None:
        """A call begins."""
        with self._lock:
            self._left = min(MOST, self._left + self._extra)

    def spend(self, now: float) -> bool:
        """Pay for a hedge; says whether there may be one."""
        with self._lock:
            if self._left < 1.0 or now < self._not_before:
                return False
            self._left -= 1.0
            return True

    def give_back(self, not_before: float) -> None:
        """A hedge was not sent after all. Where one was not let in the next would not be: none before that moment."""
        with self._lock:
            self._left = min(MOST, self._left + 1.0)
            self._not_before = max(self._not_before, not_before)

    def took(self, seconds: float, *, streamed: bool) -> None:
        """A reply has opened."""
        with self._lock:
            self._times[streamed].add(seconds)

    def usual(self, share: float, *, streamed: bool) -> float | None:
        """Seconds within which that share of the replies opened; None while too few are known."""
        with self._lock:
            return self._times[streamed].percentile(share)


class Times:
    """The last times, in the order in which they came and in that of their size."""

    def __init__(self) -> None:
        self._latest: deque[float] = deque()
        self._ordered: list[float] = []

    def add(self, seconds: float) -> None:
        """Take one more; the oldest goes."""
        if len(self._latest) == SAMPLES:
            del self._ordered[bisect_left(self._ordered, self._latest.popleft())]
        self._latest.append(seconds)
        insort(self._ordered, seconds)

    def percentile(self, share: float) -> float | None:
        """The smallest time that this share of them does not exceed; None while there are too few."""
        count = len(self._ordered)
        return self._ordered[math.ceil(share * count) - 1] if count >= ENOUGH else None
