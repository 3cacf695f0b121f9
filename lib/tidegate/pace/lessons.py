"""What responses teach about one unit (requests, tokens): its limit, and how much of it is left.

A response says what was used when the server wrote it. What this process has under way may be counted in that figure or
not: it is added in full, so that the level is never below the truth. That costs nothing in the long run: a level that
is too high by a constant lets just as much through.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tidegate.pace.bucket import Bucket
from tidegate.pace.headers import Reading

RESERVE = 0.01
"""Share of a learned limit that is never used: the server counts in its own way, and its clock is not ours."""

INTERVALS = (1.0, 60.0, 3_600.0, 86_400.0)
"""Seconds that limits are for: a second, a minute, an hour, a day."""

USUAL_INTERVAL = 60.0

COMPARED = 0.05
"""Share of a limit that is used at least between two comparisons of the server's count with ours."""

CERTAINTY = 5.0
"""How many times what is under way that must be, too: the server may have counted all of it by then, or none."""

SMALLEST_SCALE, LARGEST_SCALE = 0.5, 8.0
"""How far the server's count is believed to be from ours: headers that are wrong must not lift a limit."""

PRIOR_SCALE = 1.5
"""What is assumed until there was a comparison: to begin too slowly costs a second, too fast a refusal."""


class Lesson:
    """The learned bucket of one unit. Not safe for threads: its owner holds a lock."""

    __slots__ = (
        "_alone", "_anchor", "_charged", "_comparable", "_compared", "_exact", "_interval", "_others", "_used",
        "_used_at", "bucket", "scale", "under_way",
    )  # fmt: skip

    def __init__(self, *, exact: bool = False) -> None:
        """`exact`: the server counts as we do, as it does for requests."""
        self.bucket: Bucket | None = None
        """None as long as nothing is known."""
        self.scale = 1.0
        """What the server charges for a unit of ours: it counts in its own way."""
        self.under_way = 0.0
        """Units, as the server counts, that were sent and whose response has not come."""
        self._exact = exact
        self._compared = False
        self._alone = self._comparable = True
        self._anchor: _Anchor | None = None
        self._charged = 0.0
        """Units that the server has charged, by our count at a scale of 1."""
        self._others = 0.0
        """Units that all who share the limit have under way, where others do."""
        self._interval: float | None = None
        self._used, self._used_at = 0.0, -math.inf
        """What the server had counted at a moment, by the response that tells of the latest count."""

    def level(self, now: float) -> float:
        """Units in use at this moment, at most."""
        if self.bucket is None:
            return self.under_way
        used = self.bucket.level(self._used, max(0.0, now - self._used_at))
        return used + self.under_way + RESERVE * self.bucket.limit

    def wait(self, now: float, units: float) -> float:
        """Seconds until `units` fit; `inf` while they do not beside what is under way, however little is used.

        What never fits may go when all is free: the server knows better than a guess.
        """
        if self.bucket is None:
            return 0.0
        size = self.bucket.size
        reserve = RESERVE * self.bucket.limit
        room = size - reserve - self.under_way - min(units, size - reserve)
        if room < -1e-9 * size:
            return math.inf
        over = self.level(now) - self.under_way - reserve - room
        return over / self.bucket.rate if over > 1e-9 * size else 0.0

    def send(self, units: float) -> None:
        """These units are about to be sent."""
        self.under_way += units

    def done(self, units: float, estimated: float, *, charged: bool, told: bool) -> None:
        """The response to these units has come, or it is certain that none will.

        `estimated`: the same at a scale of 1. `charged`: a refusal charges nothing. `told`: `heed` knows the response.
        """
        self.under_way = max(0.0, self.under_way - units)
        if charged and not told:
            self._used += units
        if charged and self._alone:
            self._charged += estimated

    def counts_for_all(self, charged: float | None, under_way: float, *, alone: bool) -> None:
        """What the server has charged to all who share the limit, where that is known, by our count at a scale of 1.

        `under_way`: what they have sent and it has not answered. Where others share the limit and that is not known,
        its way of counting cannot be told from ours alone.
        """
        comparable = alone or charged is not None
        if (alone, comparable) != (self._alone, self._comparable) or (charged or math.inf) < self._charged:
            self._anchor = None
        self._alone, self._comparable, self._others = alone, comparable, under_way
        if charged is not None:
            self._charged = charged

    def heed(self, now: float, reading: Reading, sent_at: float) -> bool:
        """Learn from the response to a call that was sent at this moment; says whether it told what is left."""
        self._learn_limit(reading)
        if self.bucket is None or reading.remaining is None:
            return False
        self._compare(now, reading.remaining)
        used = max(0.0, self.bucket.limit - reading.remaining)
        before = self.bucket.level(self._used, max(0.0, now - self._used_at))
        # Of two that were under way together the later count is the higher one.
        if used >= before or sent_at >= self._used_at:
            self._used, self._used_at = used, now
        return True

    def _compare(self, now: float, remaining: float) -> None:
        """Compare what the server has charged with our own count, over enough units to be sure."""
        bucket, anchor = self.bucket, self._anchor
        if bucket is None or self._exact or not self._comparable:
            return
        under_way = (self.under_way if self._alone else self._others) / self.scale
        here = _Anchor(now, remaining, self._charged, under_way)
        if remaining >= bucket.limit - 1:  # full: what refilled meanwhile is not known
            self._anchor = None
        elif anchor is None or now < anchor.at or 2 * under_way < anchor.under_way:
            self._anchor = here
        elif (units := self._charged - anchor.charged) >= max(
            COMPARED * bucket.limit, CERTAINTY * (under_way + anchor.under_way)
        ):
            ratio = (anchor.remaining - remaining + bucket.rate * (now - anchor.at)) / units
            believed = (self.scale + ratio) / 2 if self._compared else ratio
            self.scale = min(max(believed, SMALLEST_SCALE), LARGEST_SCALE)
            self._compared = True
            self._anchor = here

    def _learn_limit(self, reading: Reading) -> None:
        limit = reading.limit
        if limit is None:
            return
        self._interval = reading.interval or self._interval or _inferred(reading)
        interval = self._interval or USUAL_INTERVAL
        if self.bucket is None or (limit, interval) != (self.bucket.limit, self.bucket.interval):
            self.bucket = Bucket(limit, interval, limit)
            if not (self._exact or self._compared):
                self.scale = PRIOR_SCALE


@dataclass(frozen=True, slots=True)
class _Anchor:
    """Where a comparison begins."""

    at: float
    remaining: float
    charged: float
    """Units that the server had charged, by our count at a scale of 1."""
    under_way: float
    """Units that it may have charged or not, by the same count."""


def _inferred(reading: Reading) -> float | None:
    """The interval from a reset to a full bucket: what is missing refills in it at the bucket's rate."""
    if not reading.limit or reading.remaining is None or not reading.reset:
        return None
    missing = reading.limit - reading.remaining
    if missing < 1:
        return None
    guess = reading.limit * reading.reset / missing
    return min(INTERVALS, key=lambda interval: abs(math.log(interval / guess)))
