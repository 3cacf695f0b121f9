"""The only writer of the ledger's rows: an actor that takes what has queued up into the database in one transaction.

Who posts an entry does not wait for the database: the entry is in the journal, which survives the process. What the
database does not take (a full disk, a lock, a lost connection) is kept and tried again; the program is warned, and its
calls go on.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pykka

from tidegate.accounting.entries import Entry
from tidegate.accounting.journal import Journal, Segment
from tidegate.accounting.money import dollars_of, spoken
from tidegate.accounting.sheltered import sheltered
from tidegate.clock import SYSTEM_CLOCK, Clock
from tidegate.errors import LedgerWarning
from tidegate.forking import reset_in_child

BATCH = 500
"""Entries of one transaction at most."""

LINGER = 0.05
"""Seconds that the first entry of a batch waits for more, unless somebody waits for it."""

AGAIN = 1.0
"""Seconds until what failed is tried again."""

_log = logging.getLogger("tidegate")


class Target(Protocol):
    """Where entries go: the ledger's database."""

    def write(self, entries: Sequence[Entry], released: Iterable[str]) -> dict[str, int]:
        """Keep the entries, each once however often it comes, and end reservations, in one transaction.

        Answers what is spent of each purse that changed. Raises whatever the database does.
        """
        ...


Written = Callable[[Sequence[str], dict[str, int]], None]
"""`written(ended, spent)`: reservations that ended, and nano-dollars spent by purse, once they are in the database."""


@dataclass(frozen=True, slots=True)
class _Item:
    entry: Entry | None
    released: str | None = None
    segment: Segment | None = None

    @property
    def reservation(self) -> str | None:
        return self.released if self.entry is None else self.entry.reservation


class _Desk(pykka.ThreadingActor):
    """The actor itself: told that there is work, it works until there is none."""

    use_daemon_thread = True

    def __init__(self, work: Callable[[], None]) -> None:
        super().__init__()
        self._work = work

    def on_receive(self, message: object) -> None:  # noqa: ARG002 (there is only one)
        """Take in what has queued up."""
        self._work()


class Bookkeeper:
    """The actor's outside. Shared by threads; a forked child gets one of its own, with nothing queued."""

    def __init__(
        self,
        target: Callable[[], Target],
        journal: Journal,
        *,
        sync: bool = False,
        written: Written = lambda _ended, _spent: None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """`target` opens the database when it is first needed. `sync`: an entry survives a loss of power."""
        self._target = target
        self._journal = journal
        self._sync = sync
        self._written = written
        self._clock = clock
        self._renew()
        reset_in_child(self._fork)

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        """Held by whoever writes to the database: the actor, or a thread that flushes."""
        self._queue: deque[_Item] = deque()
        self._told = False
        self._hurry = threading.Event()
        self._desk: pykka.ActorRef[_Desk] | None = None
        self._warned: set[str] = set()
        """Of what, until it works again."""
        self._closed = False

    def _fork(self) -> None:
        self._journal.abandon()
        self._journal = Journal(self._journal.folder)
        self._renew()

    # Posting

    def post(self, entry: Entry) -> None:
        """Keep an entry. Never raises for what is wrong with the disk: then it is kept in memory, with a warning."""
        segment: Segment | None = None
        try:
            segment, number = self._journal.append(entry)
            if self._sync:
                segment.sync(number)
        except OSError as error:
            self._warn("journal", f"its journal in {self._journal.folder} cannot be written ({error.strerror})")
        else:
            self._warned.discard("journal")
        self._queue.append(_Item(entry, segment=segment))
        self._tell()

    def release(self, reservation: str) -> None:
        """End a reservation of which nothing was spent."""
        self._queue.append(_Item(None, released=reservation))
        self._tell()

    def hurry(self) -> None:
        """Somebody waits for what is queued."""
        self._hurry.set()

    def _tell(self) -> None:
        if self._told:
            return
        with self._lock:
            if self._told or self._closed:
                return
            self._told = True
            desk = self._desk
            if desk is None or not desk.is_alive():
                try:
                    desk = self._desk = _Desk.start(self._work)
                except RuntimeError:  # no more threads, or the interpreter ends: whoever posts next tries again
                    self._told = False
                    return
        with contextlib.suppress(pykka.ActorDeadError):  # closed in this moment, by which all is written
            desk.tell(None)

    # Writing

    def _work(self) -> None:
        """One round of the actor: wait for company, write, and after a failure wait and try again."""
        if len(self._queue) < BATCH:
            self._clock.wait(self._hurry, LINGER)
        while not self._try_to_write() and not self._closed:
            self._clock.wait(self._hurry, AGAIN)
            self._hurry.clear()

    def _try_to_write(self) -> bool:
        self._told = False
        self._hurry.clear()
        try:
            self._write_all()
        except Exception as error:  # noqa: BLE001 (whatever the driver raises, the program's calls go on)
            self._told = True  # this round goes on, so no other is needed
            problem = f"{self.queued} entries are not in it yet ({_first_line(error)})"
            if self._closed:  # who closes it has the last word
                return False
            self._warn("database", f"{problem}; they are kept, and tried again")
            return False
        self._warned.discard("database")
        return True

    def _write_all(self) -> None:
        """All that is queued by now. What comes meanwhile gathers: single rows cost many times as much as a batch."""
        left = len(self._queue)
        while left > 0:
            with self._writing:
                batch = [self._queue[index] for index in range(min(BATCH, len(self._queue)))]
                if batch:
                    self._write(batch)
            left -= BATCH

    def _write(self, batch: Sequence[_Item]) -> None:
        entries = [item.entry for item in batch if item.entry is not None]
        released = [item.released for item in batch if item.released is not None]
        spent = self._target().write(entries, released)
        for item in batch:
            self._queue.popleft()
            if item.segment is not None:
                self._journal.done(item.segment)
        ended = [item.reservation for item in batch if item.reservation is not None]
        if ended or spent:
            self._written(ended, spent)

    def _warn(self, place: str, problem: str) -> None:
        """Once of each place, until it could be written to again."""
        if place in self._warned:
            return
        self._warned.add(place)
        tell_user(f"the ledger: {problem}")

    # Reading one's own writes, and the end

    @property
    def queued(self) -> int:
        """Entries that are not in the database."""
        return sum(item.entry is not None for item in tuple(self._queue))

    def flush(self) -> None:
        """Have all in the database that was posted before. Raises what the database does."""
        sheltered(self._write_all)
        with self._writing:  # a batch that the actor had begun on
            pass

    def leave(self) -> None:
        """Stop, and leave what is queued in the journal."""
        if self._stop():
            self._journal.close()

    def _stop(self) -> bool:
        with self._lock:
            if self._closed:
                return False
            self._closed = True
            desk, self._desk = self._desk, None
        self._hurry.set()
        if desk is not None:
            desk.stop(block=False)
        return True

    def close(self) -> None:
        """Take in what is queued, and stop. Warns of what could not be written, and says where it is."""
        if not self._stop():
            return
        try:
            self.flush()
        except Exception as error:  # noqa: BLE001 (see `_try_to_write`)
            self._say_what_is_missing(error)
        self._journal.close()

    def _say_what_is_missing(self, error: Exception) -> None:
        items = [item for item in self._queue if item.entry is not None]
        cost = dollars_of(sum(item.entry.cost_nano or 0 for item in items if item.entry is not None))
        kept = sum(item.segment is not None for item in items)
        what = f"{_entries(len(items))} ({spoken(cost)}) could not be written ({_first_line(error)})"
        lost = len(items) - kept
        where = f"in {self._journal.folder}, and {_are(kept)} taken in when the ledger is next opened"
        parts = [
            what,
            f"{kept} of them {_are(kept)} {where}" if kept else "",
            f"{lost} {_are(lost)} lost" if lost else "",
        ]
        tell_user(f"the ledger: {'; '.join(filter(None, parts))}")


def _entries(number: int) -> str:
    return f"{number} {'entry' if number == 1 else 'entries'}"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def tell_user(problem: str) -> None:
    """Warn, and log it. Raises nothing."""
    _log.warning("%s", problem)
    with contextlib.suppress(LedgerWarning):  # where warnings are errors: the calls go on all the same
        warnings.warn(problem, LedgerWarning, stacklevel=2)


def _first_line(error: BaseException) -> str:
    original: Any = getattr(error, "orig", None) or error
    return (str(original).strip().splitlines() or [type(original).__name__])[0][:200]
