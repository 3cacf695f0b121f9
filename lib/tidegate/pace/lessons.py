"""What responses teach about one unit (requests, tokens): its limit, how much of it is left, and how the server counts.

Providers count a call when it arrives, before they answer it. So a response says what was used at some moment between
its request's departure and now: what was sent before that request is in the figure, what was sent after it is added.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass

from tidegate.pace.bucket import RESERVE, Bucket
from tidegate.pace.headers import Reading

INTERVALS = (1.0, 60.0, 3_600.0, 86_400.0)
"""Seconds that limits are for: a second, a minute, an hour, a day."""

USUAL_INTERVAL = 60.0

ARRIVED = 2.0
"""Seconds after which a call has arrived, if it ever does. A provider on the other side of the world is 0.2 s away; the
rest is for a machine that is too busy to send at once."""

CAUTIOUS = 600.0
"""Seconds after a refusal that should not have come for which what is under way is taken for not counted at all: there
may be servers that count a call only when they have answered it."""

DOUBTED = 1.2
"""What is under way may be counted as so much more than it is believed to be: not every call is counted alike. Little
is under way, nearly always; at the end of a burst this keeps its last calls from being refused."""

COMPARED = 0.05
"""Share of a limit that is used at least between two comparisons of the server's count with ours."""

CERTAINTY = 5.0
"""How many times what may have overtaken each other that must be, too: the server may have counted it, or not."""

SMALLEST_SCALE, LARGEST_SCALE = 0.5, 8.0
"""How far the server's count is believed to be from ours: headers that are wrong must not lift a limit."""

PRIOR_SCALE = 1.5
"""What is assumed until there was a comparison: to begin too slowly costs a second, too fast a refusal."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What is remembered of units that were sent, in units as they were estimated."""

    at: float
    units: float
    before: float
    """All units that had been sent before them."""
    recent: float
    """Those of them that may arrive later: sent within `ARRIVED`, and not answered."""


class _Departures:
    """How many units had been sent by when, as far back as responses come."""

    __slots__ = ("_before", "_times", "total")

    SLOT, KEPT = 0.05, 600
    """Seconds that are not told apart, and how many of them are kept."""

    def __init__(self) -> None:
        self.total = 0.0
        self._times: list[float] = []
        self._before: list[float] = []

    def add(self, now: float, units: float) -> None:
        if not self._times or now - self._times[-1] >= self.SLOT:
            if len(self._times) >= 2 * self.KEPT:
                del self._times[: self.KEPT], self._before[: self.KEPT]
            self._times.append(now)
            self._before.append(self.total)
        self.total += units

    def before(self, moment: float) -> float:
        """Units that had been sent before the slot of this moment."""
        index = bisect.bisect_right(self._times, moment)
        return self._before[index - 1] if index else 0.0

    def by(self, moment: float) -> float:
        """Units that had been sent by the end of the slot of this moment."""
        index = bisect.bisect_right(self._times, moment)
        return self._before[index] if index < len(self._before) else self.total


class Lesson:
    """The learned bucket of one unit. Not safe for threads: its owner holds a lock."""

    __slots__ = (
        "_arrived", "_arrived_at", "_cautious_until", "_changed_at", "_departures", "_interval", "_newest",
        "_under_way", "_used", "_used_at", "bucket", "calibration",
    )  # fmt: skip

    def __init__(self, *, exact: bool = False) -> None:
        """`exact`: the server counts as we do, as it does for requests."""
        self.bucket: Bucket | None = None
        """None as long as nothing is known."""
        self.calibration = Calibration(exact=exact)
        self._interval: float | None = None
        self._used, self._used_at = 0.0, -math.inf
        """What was used by the latest count that is known, and when it became known."""
        self._arrived, self._arrived_at = 0.0, -math.inf
        """What is used if the server has counted whatever has arrived, and when that was."""
        self._newest = -math.inf
        """When the newest request was sent whose response has told something."""
        self._departures = _Departures()
        self._under_way = 0.0
        """Units that are not answered, as they were estimated."""
        self._cautious_until = self._changed_at = -math.inf

    @property
    def scale(self) -> float:
        """What the server charges for a unit of ours."""
        return self.calibration.scale

    @property
    def knows_interval(self) -> bool:
        """Whether it is known what time the limit is for, so that resets need not be read."""
        return self._interval is not None

    def level(self, now: float) -> float:
        """Units in use at this moment at most, the reserve among them.

        It is one of two bounds, whichever is lower: the latest count and all that is under way, which is close while
        answers are quick; or what must have arrived by now, which is close while they are slow.
        """
        under_way = DOUBTED * self._under_way * self.scale
        if self.bucket is None:
            return under_way
        answered, arrived = self._bounds(now)
        return min(answered + under_way, arrived) + RESERVE * self.bucket.limit

    def _bounds(self, now: float) -> tuple[float, float]:
        assert self.bucket is not None  # noqa: S101 (asked by those who know it)
        answered = self.bucket.level(self._used, now - self._used_at)
        arrived = self.bucket.level(self._arrived, now - self._arrived_at)
        return answered, math.inf if now < self._cautious_until else arrived

    def wait(self, now: float, units: float) -> float:
        """Seconds until `units` of ours fit; `inf` while they do not, however long one waits for the bucket.

        What never fits may go when all is free: the server knows better than a guess.
        """
        bucket = self.bucket
        if bucket is None:
            return 0.0
        whole = bucket.size - RESERVE * bucket.limit
        room = whole - min(units * self.scale, whole)
        slack = 1e-9 * bucket.size
        answered, arrived = self._bounds(now)
        beside = room - DOUBTED * self._under_way * self.scale
        wait = max(0.0, answered - beside - slack) / bucket.rate if beside >= -slack else math.inf
        return min(wait, max(0.0, arrived - room - slack) / bucket.rate)

    def send(self, now: float, units: float) -> Sent:
        """These units are about to be sent."""
        before = self._departures.total
        sent = Sent(now, units, before, min(self._under_way, before - self._departures.before(now - ARRIVED)))
        self._departures.add(now, units)
        if self.bucket is not None:
            arrived = self.bucket.level(self._arrived, now - self._arrived_at)
            self._arrived, self._arrived_at = arrived + units * self.scale, now
        self._under_way += units
        return sent

    def done(self, sent: Sent, *, charged: bool, told: bool) -> None:
        """The response to these units has come, or it is certain that none will.

        `charged`: a refusal charges nothing. `told`: `heed` knows of the response what was left.
        """
        self._under_way = max(0.0, self._under_way - sent.units)
        if not charged:
            self.calibration.disturb()
            self._arrived = max(0.0, self._arrived - sent.units * self.scale)
        elif not told:
            self._used += sent.units * self.scale

    def doubt(self, now: float, sent: Sent) -> None:
        """A call was refused that should have fitted, unless the limit is another one by now."""
        if self.bucket is not None and sent.at > self._changed_at:
            self._cautious_until = now + CAUTIOUS

    def heed(self, now: float, reading: Reading, sent: Sent, compared: Sent | None) -> bool:
        """Learn from the response to a call; says whether it told what is left.

        `compared`: the same, seen by all who share the limit; None where that is not known, so that the server's way of
        counting cannot be told.
        """
        self._learn_limit(now, reading)
        bucket = self.bucket
        if bucket is None or reading.remaining is None:
            return False
        if compared is not None:
            # What was sent a moment later may have overtaken it.
            later = self._departures.by(sent.at + ARRIVED) - sent.before - sent.units
            unsure = compared.recent + (min(later, self._under_way) if compared is sent else compared.recent)
            self.calibration.compare(bucket, reading.remaining, compared, unsure)
        used = max(0.0, bucket.limit - reading.remaining)
        # Of two that were under way together the later count is the higher one.
        if used >= bucket.level(self._used, now - self._used_at) or sent.at >= self._used_at:
            self._used, self._used_at = used, now
        self._arrived, self._arrived_at = self._arrivals(now, used, sent, bucket), now
        return True

    def _arrivals(self, now: float, used: float, sent: Sent, bucket: Bucket) -> float:
        """What is used, if the count was taken when the call arrived, or if it was taken now: whichever is more."""
        trip = max(0.0, now - sent.at)
        if sent.at < self._newest:
            arrived = bucket.level(self._arrived, now - self._arrived_at)
            return max(arrived, used - bucket.rate * trip)
        self._newest = sent.at
        total = self._departures.total
        after = total - self._departures.before(sent.at - ARRIVED) - sent.units
        arrival = used - bucket.rate * max(0.0, trip - ARRIVED) + DOUBTED * after * self.scale
        lately = total - self._departures.before(now - ARRIVED)
        return max(0.0, arrival, used + DOUBTED * lately * self.scale)

    def _learn_limit(self, now: float, reading: Reading) -> None:
        limit = reading.limit
        if limit is None:
            return
        self._interval = reading.interval or self._interval or _inferred(reading)
        interval = self._interval or USUAL_INTERVAL
        if self.bucket is None or (limit, interval) != (self.bucket.limit, self.bucket.interval):
            if self.bucket is not None:
                self.calibration.disturb()
            self.bucket, self._changed_at = Bucket(limit, interval, limit), now
            self.calibration.begin()


class Calibration:
    """How the server's count compares with ours, found out from what it says is left before and after many calls."""

    __slots__ = ("_anchor", "_compared", "_exact", "scale")

    def __init__(self, *, exact: bool) -> None:
        self.scale = 1.0
        """What the server charges for a unit of ours."""
        self._exact = exact
        self._compared = False
        self._anchor: tuple[Sent, float, float] | None = None
        """The call from which on it is compared, what was used when it was counted, and how much of that is unsure."""

    def begin(self) -> None:
        """There is a limit to keep to."""
        if not (self._exact or self._compared):
            self.scale = PRIOR_SCALE

    def disturb(self) -> None:
        """What was sent is not what was counted: compare anew."""
        self._anchor = None

    def compare(self, bucket: Bucket, remaining: float, sent: Sent, unsure: float) -> None:
        """Compare what the server has counted with what was sent since the anchor, over enough units to be sure.

        `unsure`: units that may have been counted before or after this call.
        """
        used, anchor = bucket.limit - remaining, self._anchor
        if self._exact:
            return
        if used <= 1:  # the bucket is full: what refilled meanwhile is not known
            self._anchor = None
        elif anchor is None or 2 * unsure < anchor[2]:
            self._anchor = (sent, used, unsure)
        else:
            first, used_then, unsure_then = anchor
            units = sent.before + sent.units - first.before - first.units
            if units < max(COMPARED * bucket.limit, CERTAINTY * (unsure + unsure_then)):
                return
            ratio = (used - used_then + bucket.rate * (sent.at - first.at)) / units
            believed = (self.scale + ratio) / 2 if self._compared else ratio
            self.scale = min(max(believed, SMALLEST_SCALE), LARGEST_SCALE)
            self._compared = True
            self._anchor = (sent, used, unsure)


def _inferred(reading: Reading) -> float | None:
    """The interval from a reset to a full bucket: what is missing refills in it at the bucket's rate."""
    if not reading.limit or reading.remaining is None or not reading.reset:
        return None
    missing = reading.limit - reading.remaining
    if missing < max(3.0, 0.02 * reading.limit):  # what remains is rounded, the reset is not
        return None
    guess = reading.limit * reading.reset / missing
    return min(INTERVALS, key=lambda interval: abs(math.log(interval / guess)))
