"""The gate before a route: who may send now, who waits in line, and what is taken and given back.

One `Gate` a route (provider, address, model and key). A call waits for a slot, for the end of a pause, for what
responses have taught, and for the configured quota, and takes all of it together. The line is fair: first come, first
served, so that a heavy request is not overtaken for ever by light ones; a priority is worth so many seconds of having
come earlier, so that the lowest gets its turn too.

Nobody polls. The first in line sleeps exactly as long as it has to; whoever gives something back or is let in tries on
behalf of the first (`_pump`), and wakes it when it may go or has just become the first. So a grant costs at most two
wake-ups, however many wait.
"""

from __future__ import annotations

import heapq
import itertools
import math
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tidegate.clock import SYSTEM_CLOCK, CancelToken, Clock, Deadline
from tidegate.errors import CallError, DeadlineExceeded, RateLimited, RequestTooLarge
from tidegate.forking import reset_in_child
from tidegate.pace.bucket import Bucket
from tidegate.pace.headers import Reading, Unit
from tidegate.pace.lessons import ARRIVED, PRIOR_SCALE, Lesson, Sent
from tidegate.pace.pacing import Counted, Pacing, Receipt
from tidegate.pace.throttle import Throttle

BOOST = 10.0
"""Seconds that one step of priority is worth: as if the call had come that much earlier."""

SLACK = 0.005
"""Seconds by which the first in line may sleep too long rather than be woken once more."""

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0
"""Seconds that a route pauses after a refusal that does not say how long, doubled with each further one."""

ALONE, DOUBLED_EVERY = 0.5, 1.0
"""The first call of a route goes alone: its response may tell the limits, which a thousand callers could break at once.
They are not held up for long: after `ALONE` seconds two may be under way, and every `DOUBLED_EVERY` twice as many."""

Units = Mapping[Unit, float]
Settlement = Literal["auto", "reserved", "used"]


@dataclass(frozen=True, slots=True)
class LimitStatus:
    """What one route's limits are at a moment, and how far they are used."""

    in_use: int
    """Calls under way."""
    waiting: int
    """Calls in line."""
    allowed: float
    """Calls that may be under way; `inf` for any number."""
    paused: float
    """Seconds that the pause still lasts, 0 for none."""
    configured: dict[Unit, tuple[float, Bucket]]
    """Of each unit what is in use, and its bucket."""
    learned: dict[Unit, tuple[float, Bucket]]
    """The same of what responses have taught."""
    shared: str | None = None
    """Whether other processes share what is configured, and whether their store answers. None: it is not shared."""

    def __str__(self) -> str:
        known = [("", self.configured), ("learned ", self.learned)]
        parts = [f"{self.in_use} under way", f"{self.waiting} waiting"]
        parts += [
            f"{origin}{unit} {level:,.0f} of {bucket.limit:,.0f} in {bucket.interval:g} s"
            for origin, buckets in known
            for unit, (level, bucket) in buckets.items()
        ]
        if math.isfinite(self.allowed):
            parts.append(f"at most {self.allowed:.0f} at once")
        if self.paused:
            parts.append(f"paused for {self.paused:.3g} s")
        if self.shared:
            parts.append(self.shared)
        return ", ".join(parts)


class _Waiter:
    """A call in line."""

    __slots__ = ("deadline", "error", "event", "gone", "guessed", "patient", "rank", "receipt", "retry_at", "taking",
                 "ticket", "units")  # fmt: skip

    def __init__(self, units: Units, deadline: Deadline, rank: float, *, patient: bool = True) -> None:
        self.units = units
        self.patient = patient
        """Whether it comes back after a wait, so that its turn may be held."""
        self.guessed = False
        """Whether it may be let in before the time that it was told."""
        self.receipt: Receipt = ()
        self.taking: Sequence[float] = ()
        """What it takes of the configured buckets: the units as the server is found to count them."""
        self.deadline = deadline
        self.rank = rank
        self.event = threading.Event()
        self.retry_at = math.inf
        """When the first in line tries again by itself."""
        self.ticket: Ticket | None = None
        self.error: CallError | None = None
        self.gone = False


class Ticket:
    """What one call has taken. It must be closed exactly once; closing again does nothing."""

    __slots__ = ("_closed", "_gate", "counted", "receipt", "sent", "sent_at", "taken", "units")

    def __init__(self, gate: Gate, waiter: _Waiter, sent: dict[Unit, Sent], sent_at: float) -> None:
        self._gate = gate
        self.units = waiter.units
        """What was estimated."""
        self.taken = waiter.taking
        """What was taken of the configured buckets."""
        self.receipt: Receipt | None = waiter.receipt
        """What they answered; None once they know of the response."""
        self.sent = self.counted = sent
        """What the server is expected to count, until it has."""
        self.sent_at = sent_at
        self._closed = False

    def heed(self, readings: Mapping[Unit, Reading], *, charged: bool = True) -> None:
        """The response's head has come, and says this of the limits; `charged` when the call counts against them."""
        self._gate.heed(self, readings, charged=charged)

    def refused(self, seconds: float | None) -> None:
        """The provider refused the call for having had too many; it asked for a pause of so many `seconds`."""
        self._gate.refused(self, seconds)

    def close(self, used: Units | None = None, *, succeeded: bool = False, sent: bool = True) -> None:
        """The call is over. `used`: what it really used, where that is known. `sent`: whether it ever left."""
        if not self._closed:
            self._closed = True
            self._gate.leave(self, used, succeeded=succeeded, sent=sent)


class Gate:
    """See the module. Shared by threads; in a forked child the line is empty and nothing is under way."""

    def __init__(
        self,
        units: Sequence[Unit] = (),
        pacing: Pacing | None = None,
        *,
        concurrent: int | None = None,
        settle: Settlement = "auto",
        adaptive: bool = True,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """`units` are what the buckets of `pacing` count, in their order."""
        self._units = tuple(units)
        self._pacing = pacing
        self._shared = pacing is not None and pacing.shared is not None
        buckets = dict(zip(units, pacing.buckets if pacing is not None else (), strict=True))
        self._sizes = {unit: bucket.size for unit, bucket in buckets.items()}
        self._limits = {unit: bucket.whole for unit, bucket in buckets.items()}
        self._usual = {"requests", "tokens", *units} if adaptive else set()
        """What is kept account of before a response has told of a limit."""
        self._concurrent = concurrent
        self._settle = settle
        self._adaptive = adaptive
        self._clock = clock
        self.wants_resets = True
        """Whether a response's resets may still teach something."""
        self.wake_ups = 0
        """How often a waiter was woken by another thread."""
        self._renew()
        reset_in_child(self._renew)

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._line: list[tuple[float, int, _Waiter]] = []
        self._order = itertools.count()
        self._pumping = False
        self._again = False
        self._throttle = Throttle(self._concurrent)
        self._lessons: dict[Unit, Lesson] = {}
        self._paused_until = self._refused_at = -math.inf
        self._heard = False
        """Whether the route has ever answered, or failed to."""
        self._first_at = -math.inf
        self._refusals = 0
        """In a row; those that were under way together count once."""
        self._left = 0
        """Waiters in the line that are gone."""

    # Entering

    def enter(
        self, units: Units, *, deadline: Deadline, cancel: CancelToken | None = None, priority: int = 0
    ) -> Ticket:
        """Wait until `units` may be used, and take them.

        Raises `RequestTooLarge` when they never fit, `DeadlineExceeded` at once when they cannot fit in time,
        `RateLimited` at once when the provider asked for a longer pause, and `Cancelled`.
        """
        self._check_size(units)
        waiter = _Waiter(units, deadline, self._clock.monotonic() - BOOST * priority)
        with self._lock:
            heapq.heappush(self._line, (waiter.rank, next(self._order), waiter))
        self._wait(waiter, cancel)
        if waiter.ticket is not None:
            return waiter.ticket
        self._pump()  # someone behind may fit
        if waiter.error is not None:
            raise waiter.error
        if cancel is not None:
            cancel.raise_if_cancelled()
        raise DeadlineExceeded("the deadline of the call passed while it waited for its turn")

    def try_enter(self, units: Units) -> Ticket | None:
        """Take `units` if they may be used at once and nobody waits; else None. Raises `RequestTooLarge`."""
        self._check_size(units)
        waiter = _Waiter(units, Deadline.after(None, self._clock), self._clock.monotonic(), patient=False)
        with self._lock:
            if any(not other.gone for _, _, other in self._line):
                return None
            heapq.heappush(self._line, (waiter.rank, next(self._order), waiter))
        self._pump(waiter)
        with self._lock:
            if waiter.ticket is None:
                self._drop(waiter)
        return waiter.ticket

    def _check_size(self, units: Units) -> None:
        for unit, limit in self._limits.items():
            wanted = units.get(unit, 0.0)
            if wanted > limit:
                raise RequestTooLarge(
                    f"the call needs about {wanted:,.0f} {unit.replace('_', ' ')}, and its limit is {limit:,.0f}"
                )

    def _wait(self, waiter: _Waiter, cancel: CancelToken | None) -> None:
        """Until the waiter has a ticket or an error, its time is over, or it is cancelled."""
        forget = None
        try:
            self._pump(waiter)
            if waiter.ticket is not None:
                return
            forget = cancel.on_cancel(waiter.event.set) if cancel is not None else None
            while not self._over(waiter, cancel):
                seconds = min(waiter.deadline.remaining(), waiter.retry_at - self._clock.monotonic())
                if not self._clock.wait(waiter.event, max(0.0, seconds)):
                    waiter.retry_at = math.inf
                    self._pump(waiter)
        except BaseException:  # Ctrl-C: what was granted meanwhile is given back
            with self._lock:
                self._drop(waiter)
            if waiter.ticket is not None:
                waiter.ticket.close()
            self._pump()
            raise
        finally:
            if forget is not None:
                forget()

    def _over(self, waiter: _Waiter, cancel: CancelToken | None) -> bool:
        with self._lock:
            waiter.event.clear()
            if waiter.ticket is not None or waiter.error is not None:
                return True
            if waiter.deadline.expired or (cancel is not None and cancel.cancelled):
                self._drop(waiter)
            return waiter.gone

    # The line

    def _pump(self, own: _Waiter | None = None) -> None:
        """Let in whoever is first, as long as it may. `own` is this thread's, which needs no waking."""
        if own is None and not self._line and (self._pacing is None or not self._pacing.booked):
            return  # nobody waits; who comes now looks for itself
        while True:
            with self._lock:
                if self._pumping:
                    self._again = True  # another thread is at it, and looks once more for us
                    return
                first = self._first()
                if first is None and (self._pacing is None or not self._pacing.booked):
                    return
                self._pumping, self._again = True, False
            try:
                wait = self._attempt(first) if first is not None else self._give_up()
            except BaseException:
                with self._lock:
                    self._pumping = False
                raise
            if first is not None and self._judged(first, wait, own):
                return

    def _first(self) -> _Waiter | None:
        while self._line and self._line[0][2].gone:
            heapq.heappop(self._line)
            self._left -= 1
        return self._line[0][2] if self._line else None

    def _attempt(self, waiter: _Waiter) -> float:
        """Take what the waiter needs: 0, or the seconds until it is worth another try; `inf` for not before a change.

        One thread at a time is here, and without the lock where the store may be on another machine.
        """
        units = waiter.units
        with self._lock:
            now = self._clock.monotonic()
            wait, alone = self._own_wait(now, units), self._alone_for(now)
            waiter.guessed, wait = alone > wait, max(wait, alone)
            waiter.taking = [self._counted(unit, units.get(unit, 0.0)) for unit in self._units]
        if wait > 0 or self._pacing is None:
            return max(0.0, wait)
        raw = [units.get(unit, 0.0) for unit in self._units]
        wait = self._pacing.admit(now, waiter.taking, raw=raw, book=waiter.patient)
        waiter.receipt = self._pacing.receipt
        return wait

    def _give_up(self) -> float:
        """Nobody is left to take the turn that was booked."""
        if self._pacing is not None:
            self._pacing.idle(self._clock.monotonic())
        with self._lock:
            self._pumping = False
        return math.inf

    def _counted(self, unit: Unit, units: float) -> float:
        """`units` as the server counts them, as far as that is known, and never more than the bucket holds."""
        scale = self._lesson(unit).scale
        if self._adaptive and not self._heard and unit != "requests":
            scale = PRIOR_SCALE
        return min(units * scale, self._sizes[unit])

    def _own_wait(self, now: float, units: Units) -> float:
        if self._throttle.full:
            return math.inf
        wait = self._paused_until - now
        for unit, lesson in self._lessons.items():
            wait = max(wait, lesson.wait(now, units.get(unit, 0.0)))
        return wait

    def _alone_for(self, now: float) -> float:
        """Seconds until one more may go while nothing was heard of a route: see `ALONE`."""
        if self._heard or not self._adaptive or not self._throttle.in_use:
            return 0.0
        doubled = math.ceil(math.log2(self._throttle.in_use + 1))
        return self._first_at + ALONE + DOUBLED_EVERY * (doubled - 1) - now

    def _judged(self, waiter: _Waiter, wait: float, own: _Waiter | None) -> bool:
        """Act on what an attempt has shown; says whether there is nothing more to do."""
        with self._lock:
            if wait > 0 or not waiter.gone:
                self._pumping = False
                return self._decided(waiter, wait, own)
        if self._pacing is not None:  # it left while it was let in
            self._pacing.give_back(self._clock.monotonic(), waiter.taking)
        with self._lock:
            self._pumping = False
        return False

    def _decided(self, waiter: _Waiter, wait: float, own: _Waiter | None) -> bool:
        now = self._clock.monotonic()
        if wait <= 0:
            self._grant(waiter, now, own)
            return False
        if waiter.gone or self._again:
            return False
        if wait < math.inf and not waiter.guessed and now + wait > waiter.deadline.at:
            waiter.error = self._too_late(now, wait)
            self._drop(waiter)
            self._wake(waiter, own)
            return False
        moment = now + wait
        if moment < waiter.retry_at - SLACK:
            waiter.retry_at = moment
            self._wake(waiter, own)
        return True

    def _too_late(self, now: float, wait: float) -> CallError:
        """The error for a call whose turn comes after its deadline."""
        if self._paused_until - now >= wait - SLACK:
            return RateLimited(f"the provider asked for a pause, of which {wait:.3g} s are left", retry_after=wait)
        return DeadlineExceeded(
            f"its turn would come in {wait:.3g} s, after the deadline of the call", retry_after=wait
        )

    def _grant(self, waiter: _Waiter, now: float, own: _Waiter | None) -> None:
        if self._line[0][2] is waiter:
            heapq.heappop(self._line)
        else:  # someone with a higher priority came while the store was asked
            self._line = [entry for entry in self._line if entry[2] is not waiter]
            heapq.heapify(self._line)
        self._throttle.in_use += 1
        if self._throttle.in_use == 1:
            self._first_at = now
        sent = {
            unit: self._lesson(unit).send(now, units)
            for unit, units in waiter.units.items()
            if unit in self._lessons or unit in self._usual
        }
        waiter.ticket = Ticket(self, waiter, sent, now)
        self._wake(waiter, own)

    def _wake(self, waiter: _Waiter, own: _Waiter | None) -> None:
        if waiter is not own:
            self.wake_ups += 1
            waiter.event.set()

    def _drop(self, waiter: _Waiter) -> None:
        """Nobody waits as this any more. Those who left are taken out of the line when they are the most of it."""
        waiter.gone = True
        self._left += 1
        if self._left > 64 and 2 * self._left > len(self._line):
            self._line = [entry for entry in self._line if not entry[2].gone]
            heapq.heapify(self._line)
            self._left = 0

    # Learning and leaving

    def heed(self, ticket: Ticket, readings: Mapping[Unit, Reading], *, charged: bool) -> None:
        """See `Ticket.heed`."""
        if not self._adaptive:
            return
        by_all = self._tell(ticket, readings, charged=charged)
        with self._lock:
            now = self._clock.monotonic()
            told, changed = set(), False
            for unit, reading in readings.items():
                lesson, sent = self._lesson(unit), ticket.sent.get(unit)
                before = lesson.bucket
                if sent is not None and lesson.heed(now, reading, sent, by_all.get(unit) if self._shared else sent):
                    told.add(unit)
                changed = changed or lesson.bucket is not before
                if lesson.bucket is not None:
                    self._throttle.trust()
            self._count(ticket, charged=charged, told=told)
            if changed and self._pacing is not None:
                self._pacing.yielding = tuple(map(self._binds, self._units, self._pacing.buckets))
            self._heard = True
            self.wants_resets = self.wants_resets and not (
                readings and all(self._lessons[unit].knows_interval for unit in readings)
            )
        self._pump()

    def _binds(self, unit: Unit, configured: Bucket) -> bool:
        """Whether what responses say of a limit is at least as tight as what is configured."""
        lesson = self._lessons.get(unit)
        learned = lesson.bucket if lesson is not None else None
        return (
            learned is not None
            and learned.rate <= configured.rate * (1 + 1e-9)
            and learned.size <= configured.whole * (1 + 1e-9)
        )

    def _tell(self, ticket: Ticket, readings: Mapping[Unit, Reading], *, charged: bool) -> dict[Unit, Sent]:
        """Tell a quota that is shared; answers what all who share it had sent when the call was."""
        if self._pacing is None or not self._shared:
            return {}
        with self._lock:
            receipt, ticket.receipt = ticket.receipt, None
        if receipt is None:
            return {}
        units = [ticket.units.get(unit, 0.0) for unit in self._units]
        scales = [self._lesson(unit).scale for unit in self._units]
        self._pacing.counted(Counted(ticket.taken, units, scales, receipt, readings, charged))
        by_all = self._pacing.sent(receipt, units)
        return {} if by_all is None else dict(zip(self._units, by_all, strict=True))

    def _lesson(self, unit: Unit) -> Lesson:
        lesson = self._lessons.get(unit)
        if lesson is None:
            lesson = self._lessons[unit] = Lesson(exact=unit == "requests")
        return lesson

    def _count(self, ticket: Ticket, *, charged: bool, told: Collection[Unit] = ()) -> None:
        """The server has counted what was sent, or never will."""
        for unit, sent in ticket.sent.items():
            self._lessons[unit].done(sent, charged=charged, told=unit in told)
        ticket.sent = {}

    def refused(self, ticket: Ticket, seconds: float | None) -> None:
        """See `Ticket.refused`."""
        self._note_refusal(ticket, seconds)
        if self._pacing is not None and self._paused_until > self._clock.monotonic():
            self._pacing.pause(self._paused_until - self._clock.monotonic())

    def _note_refusal(self, ticket: Ticket, seconds: float | None) -> None:
        with self._lock:
            now = self._clock.monotonic()
            if ticket.sent_at > self._refused_at:  # else it was under way already when the last refusal came
                self._refused_at = now
                self._refusals += 1
                for unit, sent in ticket.counted.items():
                    self._lessons[unit].doubt(now, sent)
                if not any(lesson.bucket for lesson in self._lessons.values()):
                    self._throttle.refused()
            if seconds is None:
                seconds = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self._refusals - 1, 16))
            self._paused_until = max(self._paused_until, now + seconds)

    def leave(self, ticket: Ticket, used: Units | None, *, succeeded: bool, sent: bool) -> None:
        """See `Ticket.close`."""
        if self._adaptive and sent:
            self._tell(ticket, {}, charged=succeeded)
        with self._lock:
            now = self._clock.monotonic()
            self._throttle.in_use -= 1
            self._heard = self._heard or sent
            self._count(ticket, charged=succeeded)
            if succeeded:
                self._refusals = 0
                self._throttle.succeeded()
        if self._pacing is not None and not sent:
            self._pacing.give_back(now, ticket.taken)
        elif self._pacing is not None:
            change = [self._correction(u, taken, used) for u, taken in zip(self._units, ticket.taken, strict=True)]
            if any(change):
                self._pacing.change(now, change)
            self._pacing.finished(
                now, [t + c for t, c in zip(ticket.taken, change, strict=True)], counted_at=ticket.sent_at + ARRIVED
            )
        self._pump()

    def _correction(self, unit: Unit, taken: float, used: Units | None) -> float:
        """What to add to the level now that it is known what was used."""
        if used is None or unit not in used or self._settle == "reserved":
            return 0.0
        difference = used[unit] - taken
        if self._settle == "used":
            return difference
        # Most providers keep what a call was estimated at. Where responses say what is left, they have said it already.
        return max(0.0, difference) if self._lesson(unit).bucket is None else 0.0

    def status(self) -> LimitStatus:
        """What is configured, learned, in use and waiting."""
        with self._lock:
            now = self._clock.monotonic()
            learned = {
                unit: (lesson.level(now), lesson.bucket)
                for unit, lesson in self._lessons.items()
                if lesson.bucket is not None
            }
            in_use, allowed = self._throttle.in_use, self._throttle.allowed
            waiting = sum(not waiter.gone for _, _, waiter in self._line)
            paused = max(0.0, self._paused_until - now)
        levels = zip(self._pacing.levels(now), self._pacing.buckets, strict=True) if self._pacing is not None else ()
        configured = dict(zip(self._units, levels, strict=True))
        shared = self._pacing.shared if self._pacing is not None else None
        return LimitStatus(in_use, waiting, allowed, paused, configured, learned, shared)
