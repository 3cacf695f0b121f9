"""Where money is reserved before a call leaves: what was spent and what is reserved never exceed a budget together.

Reservations are rows of the ledger, so all threads and processes that share it see one sum. Threads of one process do
not compete for the database: whoever gets hold of it carries out what has queued up, for all of them in one
transaction. A process keeps its reservations alive by a lease; what a dead one has left is released when that ends.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, delete, exists, insert, select

from tidegate.accounting.database import BUSY_SECONDS, Database
from tidegate.accounting.purses import Claim, Purse, Verdict
from tidegate.accounting.rows import change_purses, end_reservations, forget_calls, settle
from tidegate.accounting.schema import ALERTS, HOLDERS, PURSES, RESERVATIONS
from tidegate.accounting.seeding import spent_before
from tidegate.accounting.sheltered import sheltered
from tidegate.accounting.sums import upsert_into
from tidegate.clock import SYSTEM_CLOCK, CancelToken, Clock
from tidegate.errors import LedgerUnusable
from tidegate.forking import reset_in_child

LEASE = 60.0
"""Seconds after its last sign of life for which a process's reservations stand."""

POLL = 0.25
"""Seconds after which a call that waits for others' reservations looks again, as they may be another process's."""

GATHERED = 200
"""Requests of one transaction at most."""

_MICRO = 1_000_000

# Made once: to make them takes as long as to execute them.
_READ = (
    select(PURSES.c.scope, PURSES.c.spent_nano, PURSES.c.reserved_nano)
    .where(PURSES.c.scope.in_(bindparam("scopes", expanding=True)))
    .order_by(PURSES.c.scope)
    .with_for_update()
)
_RESERVE = insert(RESERVATIONS)
_HOLD_NOTHING = (
    select(HOLDERS.c.id)
    .where(HOLDERS.c.lease_until < bindparam("now"), ~exists().where(RESERVATIONS.c.holder == HOLDERS.c.id))
    .with_for_update(skip_locked=True)  # whoever has one of these is about to come back to life, or to delete it
)

_GRANTED = Verdict("granted")

CLOSING = 1.0
"""Seconds that `close` may take at most to say that this process holds nothing any more."""


class Excess(NamedTuple):
    """What was granted although it may be more than is left of a claim that is not hard."""

    claim: Claim
    spent_nano: int
    asked_nano: int


ExcessListener = Callable[[Excess], None]
"""Told of each, once it is reserved."""


@dataclass(slots=True, eq=False)
class _Request:
    id: str
    amount_nano: int
    claims: Sequence[Claim]
    until: float
    """When its caller has no more time."""
    unknown: bool = False
    """Whether a transaction has it, of which nobody knows yet what became."""
    verdict: Verdict | None = None
    """As it was committed."""
    error: Exception | None = None
    done: bool = False
    abandoned: bool = False

    @property
    def may_be_reserved(self) -> bool:
        return self.unknown or self.verdict is _GRANTED


class Till:
    """Reserves and watches over leases. Shared by threads."""

    def __init__(
        self,
        database: Callable[[], Database],
        *,
        release: Callable[[str], None],
        hurry: Callable[[], None] = lambda: None,
        take_in: Callable[[], bool] = lambda: True,
        lease: float = LEASE,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """`database` opens it when it is first needed. `release` has a reservation ended some time soon.

        `hurry` asks whoever ends reservations not to tarry. `take_in` has the ledger count what dead processes spent,
        and answers False when another one is just about it. `lease` is in seconds.
        """
        self._database = database
        self._release = release
        self._hurry = hurry
        self._take_in = take_in
        self._lease = lease
        self._clock = clock
        self._listeners: list[weakref.WeakMethod[ExcessListener]] = []
        self._renew()
        reset_in_child(self._renew)

    def _renew(self) -> None:
        self._holder = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._queue: deque[_Request] = deque()
        self._changed = threading.Condition()
        self._changes = 0
        self._held: set[str] = set()
        self._renewed_at = (-inf, -inf)
        """When the lease was prolonged, by the clock that never jumps and by the one that a sleeping machine moves."""
        self._keeper: threading.Thread | None = None
        self._keeping = threading.Lock()
        self._stop = threading.Event()
        self._made: set[str] = set()
        """Scopes of purses that are known to be there."""

    # Reserving

    @property
    def changes(self) -> int:
        """Grows whenever reservations of this process end: read it before asking, and hand it to `wait`."""
        return self._changes

    def reserve(self, reservation: str, amount_nano: int, claims: Sequence[Claim], *, seconds: float = inf) -> Verdict:
        """Set the amount aside in every claim's purse, or in none.

        Raises `LedgerUnusable` when that cannot be told, or not within `seconds`.
        """
        request = _Request(reservation, amount_nano, claims, self._clock.monotonic() + seconds)
        try:
            self._queue.append(request)
            sheltered(lambda: self._have_served(request))
        except BaseException:
            self._abandon(request)
            raise
        assert request.verdict is not None  # noqa: S101 (it is done, and without an error)
        return request.verdict

    def _have_served(self, request: _Request) -> None:
        while not request.done:
            if not self._lock.acquire(timeout=min(max(self._left(request), 0.0), threading.TIMEOUT_MAX)):
                raise LedgerUnusable("the ledger was not free in time")
            try:
                if not request.done:
                    self._serve(request)
            finally:
                self._lock.release()
        if request.error is not None:
            raise LedgerUnusable(str(request.error)) from request.error  # one of its own: threads share the first

    def _left(self, request: _Request) -> float:
        return request.until - self._clock.monotonic()

    def _abandon(self, request: _Request) -> None:
        """Nobody waits for it any more. If a transaction has it at the moment, `_serve` gives it back."""
        request.abandoned = True
        if request.may_be_reserved:
            self._release(request.id)

    def _serve(self, own: _Request) -> None:
        """Decide it, and what has queued up. Whoever finds its own not done when it gets the lock does the same."""
        queued = [self._queue.popleft() for _ in range(min(GATHERED, len(self._queue)))]
        requests = [request for request in queued if not (request.done or request.abandoned)]
        if own not in requests:
            requests.insert(0, own)
        left = self._left(own)
        try:
            self._settle(requests, left)
        except LedgerUnusable as error:
            self._mark(requests if left >= BUSY_SECONDS else [own], error)  # those with more time try for themselves
        finally:
            for request in requests:
                if request.abandoned and request.may_be_reserved:
                    self._release(request.id)

    def _settle(self, requests: Sequence[_Request], seconds: float) -> None:
        excesses = self._decide(requests, seconds)
        blocked = [request for request in requests if request.verdict is not None and request.verdict.outcome == "wait"]
        self._mark([request for request in requests if request not in blocked])
        if blocked and self._release_dead(seconds):
            excesses += self._decide(blocked, seconds)
        self._mark(blocked)
        self._tell(excesses)

    def _decide(self, requests: Sequence[_Request], seconds: float) -> list[Excess]:
        """Give each its verdict; what is granted although it may be too much."""
        again = [request.id for request in requests if request.may_be_reserved]
        for request in requests:
            request.unknown = True
        try:
            try:
                verdicts, excesses = self._transact(requests, again, seconds)
            except _PursesGone:
                self._made.clear()
                verdicts, excesses = self._transact(requests, again, seconds)
        except BaseException:
            self._made.clear()  # what was made may not have been committed
            raise
        for request, verdict in zip(requests, verdicts, strict=True):
            request.verdict = verdict
            request.unknown = False
        return excesses

    def _transact(
        self, requests: Sequence[_Request], again: Sequence[str], seconds: float
    ) -> tuple[list[Verdict], list[Excess]]:
        with self._database().writing(seconds) as connection:
            session = _Session(self._database(), connection, self._holder, self._made)
            verdicts = session.decide(requests, again)
            renewed_at = self._prolong(connection) if _GRANTED in verdicts else self._renewed_at
        self._renewed_at = renewed_at
        return verdicts, session.excesses

    def _mark(self, requests: Sequence[_Request], error: Exception | None = None) -> None:
        """Hand the verdicts out."""
        waiting = [request for request in requests if not request.done]
        self._hold(request.id for request in waiting if request.verdict is _GRANTED)
        for request in waiting:
            request.error = error
            request.done = True

    def _release_dead(self, seconds: float) -> bool:
        """End the reservations of processes whose lease is over; whether there were any."""
        database = self._database()
        with database.reading() as connection:
            now = database.now(connection)
            # Our own is not: its end was missed by a machine that slept, or a process that was stopped.
            over = (HOLDERS.c.lease_until < now) & (HOLDERS.c.id != self._holder)
            dead = connection.scalars(select(HOLDERS.c.id).where(over)).all()
        # Before their reservations go: what they did spend must not be free for a moment.
        if not dead or not self._take_in():
            return False
        with database.writing(seconds) as connection:
            database.lock_charging(connection, alone=True)
            # Purses before holders, as whoever reserves: one of the dead may come back in this moment.
            held = select(RESERVATIONS.c.scope).where(RESERVATIONS.c.holder.in_(dead)).distinct()
            connection.execute(_READ, {"scopes": list(connection.scalars(held))})
            gone = delete(HOLDERS).where(HOLDERS.c.id.in_(dead), over).returning(HOLDERS.c.id)
            theirs = RESERVATIONS.c.holder.in_(connection.scalars(gone).all())
            ids = connection.scalars(select(RESERVATIONS.c.id).where(theirs).distinct()).all()
            freed = end_reservations(connection, ids)
            settle(connection, {}, freed)
        return bool(freed)

    def wait(self, seen: int, seconds: float, cancel: CancelToken) -> None:
        """Wait until reservations have ended since `seen` was read, or it is time to look again."""
        self._hurry()
        forget = cancel.on_cancel(self._wake)
        try:
            with self._changed:
                if self._changes == seen and not cancel.cancelled:
                    self._changed.wait(min(POLL, seconds))
        finally:
            forget()

    def _wake(self) -> None:
        with self._changed:
            self._changes += 1
            self._changed.notify_all()

    def ended(self, reservations: Iterable[str]) -> None:
        """The database has no longer these of our reservations."""
        self._held.difference_update(reservations)
        self._wake()

    # Leases

    def _hold(self, reservations: Iterable[str]) -> None:
        with self._keeping:
            self._held.update(reservations)
            if self._held and (self._keeper is None or not self._keeper.is_alive()):
                self._keeper = threading.Thread(
                    target=self._keep, args=(self._stop,), name="tidegate-leases", daemon=True
                )
                with contextlib.suppress(RuntimeError):  # no more threads: whoever reserves next tries again
                    self._keeper.start()

    def _keep(self, stop: threading.Event) -> None:
        """Prolong the lease while anything is reserved, and see who is dead; end when nothing has been for a while."""
        while not self._clock.wait(stop, self._lease / 3):
            with self._keeping:
                if not self._held:
                    self._keeper = None
                    return
            with contextlib.suppress(LedgerUnusable):  # the next round is early enough
                self._release_dead(self._lease / 6)
            try:
                with self._database().writing() as connection:
                    renewed_at = self._prolong(connection)
            except LedgerUnusable:
                continue  # the next round is early enough, unless the ledger stays away
            self._renewed_at = renewed_at

    def _prolong(self, connection: Connection) -> tuple[float, float]:
        """Prolong the lease, unless that was just done; when it was done last, once that is committed."""
        now = self._clock.monotonic(), self._clock.time()
        if all(0 <= new - old < self._lease / 6 for new, old in zip(now, self._renewed_at, strict=True)):
            return self._renewed_at
        moment = self._database().now(connection)
        until = moment + int(self._lease * _MICRO)
        upsert = upsert_into(connection, HOLDERS).values(id=self._holder, lease_until=until)
        connection.execute(upsert.on_conflict_do_update(index_elements=["id"], set_={"lease_until": until}))
        connection.execute(delete(HOLDERS).where(HOLDERS.c.id.in_(_HOLD_NOTHING)), {"now": moment})
        return now

    # Alerts

    def first_to_alert(self, claim: Claim, thousandths: int, name: str | None = None) -> bool:
        """Whether nobody has given this alert of the budget of this name before; from now on somebody has."""
        scope = claim.purse.scope
        if name is not None:  # a scope begins with a figure, so one with a name before it is none of those without
            scope = f"#{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:32]} {scope}"
        key = {"scope": scope, "usd_nano": claim.limit_nano, "thousandths": thousandths}
        with self._database().writing() as connection:
            # Not by `rowcount`, which is not known of every statement of every driver.
            given = upsert_into(connection, ALERTS).values(**key).on_conflict_do_nothing().returning(ALERTS.c.scope)
            return connection.scalar(given) is not None

    def on_excess(self, listener: ExcessListener) -> None:
        """Call a bound method, for as long as its object lives, when more is granted than a claim would allow."""
        if listener not in [reference() for reference in self._listeners]:
            self._listeners.append(weakref.WeakMethod(listener))

    def _tell(self, excesses: Iterable[Excess]) -> None:
        for excess in excesses:
            for listener in [reference() for reference in self._listeners]:
                if listener is not None:
                    listener(excess)

    def close(self) -> None:
        """Stop the thread that prolongs the lease, and give the lease up if nothing is reserved under it."""
        self._stop.set()
        self._wake()
        if self._renewed_at != (-inf, -inf):
            with contextlib.suppress(LedgerUnusable):  # then it ends by itself
                sheltered(self._leave)

    def _leave(self) -> None:
        if not self._lock.acquire(timeout=CLOSING):  # somebody reserves, and needs it
            return
        try:
            self._renewed_at = (-inf, -inf)  # whoever reserves all the same takes it anew
            database = self._database()
            if database.file is not None and not database.file.exists():  # to write to it would make it again
                return
            with database.writing(CLOSING) as connection:
                empty = ~exists().where(RESERVATIONS.c.holder == HOLDERS.c.id)
                connection.execute(delete(HOLDERS).where(HOLDERS.c.id == self._holder, empty))
        finally:
            self._lock.release()


class _PursesGone(Exception):
    """A purse that was there is not: it has to be made, and the lock for that comes before all others."""


class _Session:
    """One transaction in which requests are decided, in the order in which they came."""

    def __init__(self, database: Database, connection: Connection, holder: str, made: set[str]) -> None:
        self._database = database
        self._connection = connection
        self._holder = holder
        self._made = made
        self._alone = False
        """Whether nobody else makes or charges purses until the transaction ends."""
        self.excesses: list[Excess] = []

    def decide(self, requests: Sequence[_Request], again: Sequence[str] = ()) -> list[Verdict]:
        """The verdict of each. `again`: those whose decision failed, of which nobody was told.

        Locks are taken in one order everywhere: the one for charging, then purses by their names, then the rest.
        """
        purses = {claim.purse.scope: claim.purse for request in requests for claim in request.claims}
        if again:
            self._be_alone()
        known = self._find(purses)
        if again:
            settle(self._connection, {}, end_reservations(self._connection, again))
            known = self._find(purses)
        verdicts = [self._decide(request, known) for request in requests]
        self._keep([request for request, verdict in zip(requests, verdicts, strict=True) if verdict is _GRANTED])
        forget_calls(self._connection, purses)
        return verdicts

    def _be_alone(self) -> None:
        if not self._alone:
            self._database.lock_charging(self._connection, alone=True)
            self._alone = True

    def _find(self, purses: Mapping[str, Purse]) -> dict[str, list[int]]:
        """What is spent and reserved of each; those that are not there are made."""
        self._make(purses)
        known = self._read(purses)
        gone = purses.keys() - known.keys()
        if gone:  # made in a transaction that was rolled back, or removed by somebody
            if not self._alone:
                raise _PursesGone
            self._made -= gone
            self._make(purses)
            known = self._read(purses)
        return known

    def _make(self, purses: Mapping[str, Purse]) -> None:
        """Have a row for each purse; a new one begins with what the ledger has of it already."""
        missing = sorted(purses.keys() - self._made)
        if not missing:
            return
        self._be_alone()
        there = set(self._connection.scalars(select(PURSES.c.scope).where(PURSES.c.scope.in_(missing))))
        for scope in missing:
            if scope not in there:
                self._connection.execute(insert(PURSES), self._new_row(purses[scope]))
        self._remember(scope for scope in missing if purses[scope].kind != "call")  # those come and go

    def _remember(self, scopes: Iterable[str]) -> None:
        if len(self._made) > 10_000:
            self._made.clear()
        self._made.update(scopes)

    def _new_row(self, purse: Purse) -> dict[str, Any]:
        return {
            "scope": purse.scope,
            "owner": purse.owner,
            "since_us": purse.since_us,
            "until_us": purse.until_us,
            "spent_nano": spent_before(self._connection, purse),
            "reserved_nano": 0,
        }

    def _read(self, purses: Mapping[str, Purse]) -> dict[str, list[int]]:
        """What is spent and reserved of each; until the transaction ends nobody else changes it."""
        rows = self._connection.execute(_READ, {"scopes": list(purses)})
        return {scope: [spent, reserved] for scope, spent, reserved in rows}

    def _decide(self, request: _Request, known: Mapping[str, list[int]]) -> Verdict:
        waiting: Verdict | None = None
        excesses = []
        for claim in request.claims:
            spent, reserved = known[claim.purse.scope]
            too_much = spent + request.amount_nano > claim.limit_nano
            if too_much and claim.hard:
                return Verdict("refused", claim, spent, reserved)
            if too_much:
                excesses.append(Excess(claim, spent, request.amount_nano))
            if not claim.hard or spent + reserved + request.amount_nano <= claim.limit_nano:
                continue
            waiting = waiting or Verdict("wait", claim, spent, reserved)
        if waiting is not None:
            return waiting
        self.excesses += excesses
        for scope in {claim.purse.scope for claim in request.claims}:
            known[scope][1] += request.amount_nano
        return _GRANTED

    def _keep(self, requests: Sequence[_Request]) -> None:
        rows, reserved = [], dict[str, int]()
        for request in requests:
            for scope in {claim.purse.scope for claim in request.claims}:
                rows.append(
                    {"id": request.id, "scope": scope, "amount_nano": request.amount_nano, "holder": self._holder}
                )
                reserved[scope] = reserved.get(scope, 0) + request.amount_nano
        if rows:
            change_purses(self._connection, [(scope, 0, reserved[scope]) for scope in sorted(reserved)])
            self._connection.execute(_RESERVE, rows)
