"""What responses teach about one unit (requests, tokens): its limit, and how much of it is left.

A response says what remained when the server wrote it. What this process sent meanwhile may be counted in that figure
or not, so it gives bounds, not a value: the level is moved into them, and stale or disordered responses only give wider
ones.
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
        "_alone", "_anchor", "_at", "_charged", "_comparable", "_compared", "_done", "_exact", "_interval", "_level",
        "_others", "_sent", "bucket", "scale",
    )  # fmt: skip

    def __init__(self, *, exact: bool = False) -> None:
        """`exact`: the server counts as we do, as it does for requests."""
        self.bucket: Bucket | None = None
        """None as long as nothing is known."""
        self.scale = 1.0
        """What the server charges for a unit of ours: it counts in its own way."""
        self._exact = exact
        self._compared = False
        self._alone = self._comparable = True
        self._anchor: _Anchor | None = None
        self._charged = 0.0
        """Units that the server has charged, by our count at a scale of 1."""
        self._others = 0.0
        """Units that all who share the limit have under way, where others do."""
        self._interval: float | None = None
        self._level = 0.0
        self._at = -math.inf
        self._sent = 0.0
        """Units that were ever sent."""
        self._done = 0.0
        """Those of them whose response has come, so that the server must have counted them."""

    def level(self, now: float) -> float:
        """Units in use at this moment, as far as is known."""
        return 0.0 if self.bucket is None else self.bucket.level(self._level, max(0.0, now - self._at))

    def wait(self, now: float, units: float) -> float:
        """Seconds until `units` fit. What never fits may go when all is free: the server knows better than a guess."""
        if self.bucket is None:
            return 0.0
        wait = self.bucket.wait(self.level(now), min(units, self.bucket.size))
        return 0.0 if math.isinf(wait) else wait

    def send(self, now: float, units: float) -> float:
        """These units are about to be sent; answers what `heed` must be given for them."""
        remembered = self._done
        self._sent += units
        self._level, self._at = self.level(now) + units, now
        return remembered

    def done(self, units: float, *, charged: bool) -> None:
        """The response to these units has come, or it is certain that none will; a refusal charges nothing."""
        self._done += units
        if charged and self._alone:
            self._charged += units / self.scale

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

    def heed(self, now: float, reading: Reading, *, units: float, remembered: float, trip: float) -> None:
        """Learn from the response to `units`, sent when `send` answered `remembered`, `trip` seconds ago."""
        first = self.bucket is None
        self._learn_limit(reading)
        if self.bucket is None or reading.remaining is None:
            return
        unsure = max(0.0, self._sent - remembered - units)
        """Sent, and not certainly counted when the server wrote its response."""
        self._compare(now, reading.remaining)
        reserve = RESERVE * self.bucket.limit
        used = self.bucket.limit - reading.remaining
        lowest = used + reserve - 1 - self.bucket.rate * trip
        highest = used + reserve + unsure
        known = highest if first else self.level(now)
        self._level, self._at = max(0.0, min(max(known, lowest), highest)), now

    def _compare(self, now: float, remaining: float) -> None:
        """Compare what the server has charged with our own count, over enough units to be sure."""
        bucket, anchor = self.bucket, self._anchor
        if bucket is None or self._exact or not self._comparable:
            return
        under_way = (self._sent - self._done if self._alone else self._others) / self.scale
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

    def exhaust(self, now: float) -> None:
        """The server has refused: whatever was thought, nothing is left."""
        if self.bucket is not None:
            self._level, self._at = max(self.level(now), self.bucket.size), now

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
