"""A quota that several processes share in a store: one for all of them, on one clock, the store's.

The first in line of each process books its turn, so that the processes are served in the order in which they came, and
each turn costs one question. What a process that died had booked drains like anything that was sent.

A store that is gone is not waited for: each process goes on with its own share, the quota divided by the processes that
were seen in the store last, and looks once in a while whether the store is back.
"""

from __future__ import annotations

import logging
import math
import os
import secrets
import threading
import warnings
from collections.abc import Sequence
from typing import Literal

from tidegate.clock import SYSTEM_CLOCK, Clock
from tidegate.forking import reset_in_child
from tidegate.pace.bucket import RESERVE, Bucket
from tidegate.pace.headers import Unit
from tidegate.pace.lessons import Sent
from tidegate.pace.levels import Quota
from tidegate.pace.pacing import Counted, Pacing, Receipt
from tidegate.pace.scripts import BUCKET, WINDOW
from tidegate.pace.window import SlidingWindow
from tidegate.storage.redis import RedisStore

KEPT = 86_400.0
"""Seconds that a state is kept when nobody asks for it."""

BEAT = 1.0
"""Seconds between two times that a process says it is there."""

LOOK_AGAIN = 1.0
"""Seconds until a store that is gone is asked again, and at least five times what the last question took."""

Operation = Literal["take", "book", "return", "change", "raise", "pause", "count", "finish", "look"]

_log = logging.getLogger("tidegate")


class StoreGone(UserWarning):
    """A store does not answer: the limits that it held are kept by each process's own share."""


class SharedQuota(Pacing):
    """Buckets or windows in a store. See `Pacing`, and the module."""

    shared = "shared"

    def __init__(
        self,
        store: RedisStore,
        name: str,
        units: Sequence[Unit],
        buckets: Sequence[Bucket],
        *,
        pace: Literal["bucket", "window"] = "bucket",
        clock: Clock = SYSTEM_CLOCK,
        store_clock: Clock | None = None,
    ) -> None:
        """`name` is the same in all processes that share it. `store_clock`: instead of the store's own, for tests."""
        self.buckets = tuple(buckets)
        self._store = store
        self._units = tuple(units)
        self._windows = pace == "window"
        self._script = WINDOW if self._windows else BUCKET
        more = ("slots", "returns") if self._windows else ("under-way",)
        # One hash tag, so that a cluster keeps them in one place.
        self._keys = [f"tidegate:{{{name}}}:{part}" for part in (pace, "members", *more)]
        self._clock = clock
        self._store_clock = store_clock
        self._binding = list(self.buckets)
        """The buckets as they are drained: the configured ones, or what the provider says where that is less."""
        self._away: _Away | None = None
        self._members = 1
        self._renew()
        reset_in_child(self._renew)

    def _renew(self) -> None:
        self._me = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._said_at = -math.inf
        self._lock = threading.Lock()
        self._turn: tuple[tuple[float, ...], float, Receipt] | None = None
        """What was booked, and for when."""

    @property
    def booked(self) -> bool:  # type: ignore[override]
        """Whether a turn is held."""
        return self._turn is not None

    # Taking

    def admit(self, now: float, units: Sequence[float], *, raw: Sequence[float] = (), book: bool = False) -> float:
        """Take `units`, or say how long to wait. A turn that is booked is kept for whoever is first when it comes."""
        wanted = tuple(units)
        if self._turn is not None:
            held, ready, receipt = self._turn
            if held == wanted:
                return self._when(ready, now, receipt)
        local = self._local(now)
        if local is not None:
            return local.admit(now, wanted)
        held = self._turn[0] if self._turn is not None else tuple(0.0 for _ in wanted)
        more = [unit - already for unit, already in zip(wanted, held, strict=True)]
        book = (book or self._turn is not None) and not self._windows
        rows = [
            (each * (gone / whole if whole else 0.0),)
            for each, gone, whole in zip(raw or wanted, more, wanted, strict=True)
        ]
        answer = self._ask("book" if book else "take", now, more, rows, number=now - self._said_at >= BEAT)
        if answer is None:
            return self.admit(now, units)
        return self._decided(answer, wanted, now)

    def _decided(self, answer: list[float], wanted: tuple[float, ...], now: float) -> float:
        verdict, wait, members, *rest = answer
        if members:
            self._members, self._said_at = int(members), now
        receipt = tuple(rest)
        if verdict == 0:
            return wait
        if verdict == 2:
            self._turn = (wanted, now + wait, receipt)
            return wait
        self._turn, self.receipt = None, receipt
        return 0.0

    def _when(self, ready: float, now: float, receipt: Receipt) -> float:
        if now < ready:
            return ready - now
        self._turn, self.receipt = None, receipt
        return 0.0

    def idle(self, now: float) -> None:
        """Give a booked turn back."""
        if self._turn is not None:
            held, self._turn = self._turn[0], None
            self.give_back(now, held)

    # Telling

    def change(self, now: float, units: Sequence[float]) -> None:
        """Add to the levels, or give back."""
        local = self._local(now)
        if local is not None:
            local.change(now, units)
        else:
            self._ask("change", now, units)

    def give_back(self, now: float, units: Sequence[float]) -> None:
        """Nothing was sent."""
        local = self._local(now)
        if local is not None:
            local.give_back(now, units)
        else:
            self._ask("return", now, units)

    def finished(self, now: float, units: Sequence[float], *, counted_at: float | None = None) -> None:
        """The call is over."""
        if not self._windows:
            return
        local = self._local(now)
        if local is not None:
            local.finished(now, units, counted_at=counted_at)
        else:
            self._ask("finish", now, units, number=0.0 if counted_at is None else max(0.0, now - counted_at))

    def pause(self, seconds: float) -> None:
        """All processes pause."""
        now = self._clock.monotonic()
        if self._local(now) is None:
            self._ask("pause", now, [0.0] * len(self.buckets), number=seconds)

    def counted(self, said: Counted) -> None:
        """Put right what the store believes by what the provider says is left."""
        now = self._clock.monotonic()
        if self._windows or not said.receipt or self._local(now) is not None:
            return
        rows = [self._row_of(index, said) for index in range(len(self.buckets))]
        self._ask("count", now, said.taken, rows, number=said.charged, other=said.receipt[0])

    def _row_of(self, index: int, said: Counted) -> tuple[float, ...]:
        """What was estimated, what had been sent before, how much of that just before, what is used, and the scale."""
        configured = self.buckets[index]
        reading = said.readings.get(self._units[index])
        used = -1.0
        if reading is not None and reading.limit is not None:
            interval = reading.interval or configured.interval
            lower = Bucket(reading.limit, interval, reading.limit)
            binds = lower.rate <= configured.rate * (1 + 1e-9) and lower.size <= configured.whole * (1 + 1e-9)
            bucket = self._binding[index] = lower if binds else configured
            if binds and reading.remaining is not None:
                used = max(0.0, bucket.limit - reading.remaining + RESERVE * bucket.limit)
        before, recent = said.receipt[1 + 2 * index : 3 + 2 * index]
        return (said.units[index], before, recent, used, said.scales[index])

    def sent(self, receipt: Receipt, units: Sequence[float]) -> Sequence[Sent] | None:
        """What all had sent when these were."""
        if not receipt:
            return None
        pairs = zip(units, receipt[1::2], receipt[2::2], strict=True)
        return [Sent(receipt[0], each, before, recent) for each, before, recent in pairs]

    def levels(self, now: float) -> tuple[float, ...]:
        """Units in use by all, or of this process's share while the store is gone."""
        away = self._away
        if away is not None:
            return away.quota.levels(now)
        answer = self._ask("look", now, [0.0] * len(self.buckets))
        return tuple(answer[3:]) if answer is not None else self.levels(now)

    # The store

    def _ask(
        self,
        operation: Operation,
        now: float,
        units: Sequence[float],
        rows: Sequence[Sequence[float]] | None = None,
        *,
        number: float = 0.0,
        other: float = 0.0,
    ) -> list[float] | None:
        """The script's answer; None when the store is gone, and this process is on its own from now on.

        The rows hold what follows the units of each bucket; what is left out is 0.
        """
        moment = "" if self._store_clock is None else repr(self._store_clock.time())
        figures: list[str | float] = [operation, moment, KEPT, self._me, float(number), other, len(self.buckets)]
        for index, bucket in enumerate(self._binding):
            row = [bucket.rate, bucket.size, units[index], *(rows[index] if rows is not None else ())]
            row += [0.0] * (8 - len(row))
            if self._windows:
                row[7] = bucket.interval
            figures += (format(each, ".17g") for each in row)
        started = self._clock.monotonic()
        try:
            return [float(word) for word in self._store.run(self._script, self._keys, figures)]
        except (ConnectionError, ValueError) as error:
            self._leave(now, error, self._clock.monotonic() - started)
            return None

    def _local(self, now: float) -> _Share | None:
        """This process's own share, while the store is gone. Looks now and then whether it is back."""
        away = self._away
        if away is None:
            return None
        with self._lock:
            if self._away is not away or now < away.look_at:
                return away.quota
            away.look_at = math.inf  # one thread looks
        self._return(now, away)
        return None if self._away is None else away.quota

    def _leave(self, now: float, error: Exception, took: float) -> None:
        look_at = now + max(LOOK_AGAIN, 5 * took)
        with self._lock:
            if self._away is not None:
                self._away.look_at = look_at
                return
            self._away = _Away(_Share(self._binding, self._members, now, windows=self._windows), look_at)
        self.shared = f"not shared now: 1/{self._members} of it"
        message = f"{error}: each process keeps to its share of the limits, 1/{self._members}, until it is back"
        _log.warning("%s", message)
        warnings.warn(message, StoreGone, stacklevel=2)

    def _return(self, now: float, away: _Away) -> None:
        """Tell a store that answers again what was used without it, and go on with it."""
        fill = [
            level / share.size * bucket.size
            for level, share, bucket in zip(away.quota.levels(now), away.quota.buckets, self._binding, strict=True)
        ]
        if self._ask("raise", now, fill, number=1.0) is None:
            return
        with self._lock:
            self._away = None
        self.shared = "shared"
        _log.warning("%s answers again: its limits are shared again", self._store.name)


class _Share(Pacing):
    """This process's part of a quota. It begins used up: what the others have used is not known."""

    def __init__(self, buckets: Sequence[Bucket], members: int, now: float, *, windows: bool) -> None:
        self.buckets = tuple(Bucket(b.limit / members, b.interval, b.size / members) for b in buckets)
        self._quota = SlidingWindow(self.buckets) if windows else Quota(self.buckets)
        self._lock = threading.Lock()
        full = [bucket.size for bucket in self.buckets]
        self._quota.change(now, full)
        self._quota.finished(now, full)

    def admit(
        self,
        now: float,
        units: Sequence[float],
        *,
        raw: Sequence[float] = (),  # noqa: ARG002 (as the base class has it)
        book: bool = False,  # noqa: ARG002
    ) -> float:
        """As `Pacing` has it. What is larger than the share waits until all of it is free, and is paid off after."""
        first = [min(wanted, bucket.size) for wanted, bucket in zip(units, self.buckets, strict=True)]
        with self._lock:
            wait = self._quota.admit(now, first)
            if wait <= 0 and any(map(float.__gt__, map(float, units), first)):
                self._quota.change(now, [wanted - taken for wanted, taken in zip(units, first, strict=True)])
        return wait

    def change(self, now: float, units: Sequence[float]) -> None:
        """As `Pacing` has it."""
        with self._lock:
            self._quota.change(now, units)

    def finished(self, now: float, units: Sequence[float], *, counted_at: float | None = None) -> None:
        """As `Pacing` has it."""
        with self._lock:
            self._quota.finished(now, units, counted_at=counted_at)

    def levels(self, now: float) -> tuple[float, ...]:
        """As `Pacing` has it."""
        with self._lock:
            return self._quota.levels(now)


class _Away:
    """A time without the store."""

    def __init__(self, quota: _Share, look_at: float) -> None:
        self.quota = quota
        self.look_at = look_at
