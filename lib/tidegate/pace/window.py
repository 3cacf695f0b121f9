"""A quota that no sliding interval is ever over, for providers that count so.

What a call takes comes back one interval after its response: the provider cannot have counted it later than that.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

from tidegate.pace.bucket import Bucket
from tidegate.pace.pacing import Pacing

SLOTS = 1200
"""Parts of an interval that are told apart, 0.05 s of a minute: memory stays constant whatever the limit."""


class SlidingWindow(Pacing):
    """Buckets that do not drain but get back what was taken. Not safe for threads: its owner lets one in at a time."""

    def __init__(self, buckets: Sequence[Bucket]) -> None:
        self.buckets = tuple(buckets)
        self._used = [0.0 for _ in buckets]
        self._returning: tuple[deque[tuple[int, float]], ...] = tuple(deque() for _ in buckets)
        """For each bucket the slots of time, by number, at whose end units come back."""

    def admit(
        self,
        now: float,
        units: Sequence[float],
        *,
        raw: Sequence[float] = (),  # noqa: ARG002 (as the base class has it)
        book: bool = False,  # noqa: ARG002
    ) -> float:
        """Take `units` of each bucket, all or none: 0, or the seconds to wait; `inf` when nothing is due to return."""
        self._expire(now)
        wait = max(self._wait(index, now, wanted) for index, wanted in enumerate(units))
        if wait > 0:
            return wait
        self.change(now, units)
        return 0.0

    def change(self, now: float, units: Sequence[float]) -> None:  # noqa: ARG002 (as `Quota` has it)
        """Add to what is used, or with negative `units` give back what was not used."""
        self._used = [max(0.0, used + more) for used, more in zip(self._used, units, strict=True)]

    def finished(self, now: float, units: Sequence[float], *, counted_at: float | None = None) -> None:
        """The call is over: `units` are free again one interval after they were counted."""
        now = now if counted_at is None else min(now, counted_at)
        for bucket, returning, freed in zip(self.buckets, self._returning, units, strict=True):
            slot = math.ceil((now + bucket.interval) * SLOTS / bucket.interval)
            if returning and returning[-1][0] >= slot:
                last, before = returning.pop()
                returning.append((last, before + freed))
            else:
                returning.append((slot, freed))

    def levels(self, now: float) -> tuple[float, ...]:
        """Units in use."""
        self._expire(now)
        return tuple(self._used)

    def _expire(self, now: float) -> None:
        for index, (bucket, returning) in enumerate(zip(self.buckets, self._returning, strict=True)):
            while returning and returning[0][0] * bucket.interval <= now * SLOTS:
                self._used[index] = max(0.0, self._used[index] - returning.popleft()[1])

    def _wait(self, index: int, now: float, wanted: float) -> float:
        bucket = self.buckets[index]
        missing = self._used[index] + wanted - bucket.size
        if wanted <= 0 or missing <= 1e-9 * bucket.size:
            return 0.0
        for slot, units in self._returning[index]:
            missing -= units
            if missing <= 1e-9 * bucket.size:
                return max(0.0, slot * bucket.interval / SLOTS - now) + 1e-6
        return math.inf
