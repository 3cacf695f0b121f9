"""The bookkeeper: what is posted gets into the database, once, whatever the disk and the database do meanwhile."""

from __future__ import annotations

import errno
import logging
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tidegate.accounting import bookkeeper as bookkeeper_module
from tidegate.accounting.bookkeeper import AGAIN, BATCH, LINGER, Bookkeeper
from tidegate.accounting.entries import Entry
from tidegate.accounting.journal import Journal, left_behind
from tidegate.errors import LedgerUnusable, LedgerWarning
from tidegate.testing import ManualClock

PATIENCE = 30.0
"""Seconds that a test waits for what must come."""


def entry(name: object, **given: Any) -> Entry:
    return Entry(**{"call_id": str(name), "at": 1, "provider": "p", "model": "m", "cost_nano": 10, **given})


class Shelf:
    """A database in memory, which fails when it is told to."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.released: list[str] = []
        self.spent: dict[str, int] = {}
        self.before: Callable[[], None] = lambda: None
        self.written = threading.Condition()

    @property
    def calls(self) -> list[str]:
        return [name for batch in self.batches for name in batch]

    def write(self, entries: Sequence[Entry], released: Iterable[str]) -> dict[str, int]:
        self.before()
        with self.written:
            self.batches.append([each.call_id for each in entries])
            self.released += released
            self.written.notify_all()
        return self.spent

    def wait_for(self, count: int) -> None:
        with self.written:
            assert self.written.wait_for(lambda: len(self.calls) >= count, PATIENCE)

    def hold(self) -> threading.Event:
        """Nothing is written until it is set."""
        released = threading.Event()

        def before() -> None:
            assert released.wait(PATIENCE)

        self.before = before
        return released

    def fail(self, times: int, error: Exception | None = None) -> None:
        left = [times]

        def before() -> None:
            if left[0]:
                left[0] -= 1
                raise error or LedgerUnusable("the disk is full")

        self.before = before


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "usage.db.pending"


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def told() -> Iterator[list[str]]:
    """What the program was warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield Messages(caught)


class Messages(list[str]):
    def __init__(self, caught: list[warnings.WarningMessage]) -> None:
        super().__init__()
        self._caught = caught

    def __call__(self) -> list[str]:
        assert {each.category for each in self._caught} <= {LedgerWarning}
        return [str(each.message) for each in self._caught]


@pytest.fixture
def make(folder: Path, shelf: Shelf) -> Iterator[Callable[..., Bookkeeper]]:
    made: list[Bookkeeper] = []

    def build(**options: Any) -> Bookkeeper:
        keeper = Bookkeeper(lambda: shelf, Journal(folder), **{"clock": ManualClock(), **options})
        made.append(keeper)
        return keeper

    yield build
    shelf.before = lambda: None
    for keeper in made:
        keeper.close()


def read(folder: Path) -> list[str]:
    return sorted(each.call_id for _, entries, _ in left_behind(folder) for each in entries)


# Posting and writing


def test_what_is_posted_is_written_without_being_asked_for(make: Callable[..., Bookkeeper], shelf: Shelf) -> None:
    keeper = make()
    keeper.post(entry("a"))
    shelf.wait_for(1)
    keeper.post(entry("b"))
    shelf.wait_for(2)
    assert shelf.calls == ["a", "b"]


def test_the_first_of_a_batch_waits_for_company_and_not_when_somebody_waits_for_it(
    make: Callable[..., Bookkeeper], shelf: Shelf
) -> None:
    clock = ManualClock()
    keeper = make(clock=clock)
    keeper.post(entry("a"))
    shelf.wait_for(1)
    assert clock.waits == (LINGER,)
    now = clock.monotonic()
    keeper.hurry()
    keeper.post(entry("b"))
    shelf.wait_for(2)
    assert clock.monotonic() in (now, now + LINGER), "the hurry may have been for the first, which was just written"


def test_threads_that_post_share_transactions_and_each_entry_is_written_once(
    make: Callable[..., Bookkeeper], shelf: Shelf, folder: Path
) -> None:
    keeper = make()

    def work(thread: int) -> None:
        for number in range(100):
            keeper.post(entry(f"{thread}-{number}"))

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    keeper.flush()
    assert keeper.queued == 0
    assert len(shelf.calls) == 800
    for number in range(8):
        own = [name for name in shelf.calls if name.startswith(f"{number}-")]
        assert own == [f"{number}-{index}" for index in range(100)], "in the order in which it was posted"
    keeper.close()
    assert list(folder.iterdir()) == []


def test_no_transaction_is_larger_than_a_batch(make: Callable[..., Bookkeeper], shelf: Shelf) -> None:
    keeper = make()
    shelf.fail(1)
    holds = threading.Event()
    first = shelf.before

    def before() -> None:
        assert holds.wait(PATIENCE)
        first()

    shelf.before = before
    for number in range(2 * BATCH + 10):
        keeper.post(entry(number))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        holds.set()
        shelf.wait_for(2 * BATCH + 10)
    assert max(map(len, shelf.batches)) == BATCH
    assert shelf.calls == [str(number) for number in range(2 * BATCH + 10)]


def test_flushing_waits_for_a_batch_that_was_begun(make: Callable[..., Bookkeeper], shelf: Shelf) -> None:
    keeper = make()
    begun, goes_on = threading.Event(), threading.Event()

    def before() -> None:
        begun.set()
        assert goes_on.wait(PATIENCE)

    shelf.before = before
    keeper.post(entry("a"))
    assert begun.wait(PATIENCE)
    flushed: list[list[str]] = []

    def flush() -> None:
        keeper.flush()
        flushed.append(shelf.calls)

    thread = threading.Thread(target=flush)
    thread.start()
    goes_on.set()
    thread.join(PATIENCE)
    assert flushed == [["a"]]


def test_what_has_ended_and_is_spent_is_told_once_it_is_written(make: Callable[..., Bookkeeper], shelf: Shelf) -> None:
    written: list[tuple[list[str], dict[str, int]]] = []
    keeper = make(written=lambda ended, spent: written.append((list(ended), spent)))
    shelf.fail(1)
    shelf.spent = {"scope": 10}
    with pytest.raises(LedgerUnusable):
        _unwritten(keeper, entry("a", reservation="r1"))
    assert written == []
    keeper.release("r2")
    keeper.flush()
    assert shelf.released == ["r2"]
    assert [name for ended, _ in written for name in ended] == ["r1", "r2"]
    assert written[0][1] == {"scope": 10}


def _unwritten(keeper: Bookkeeper, posted: Entry) -> None:
    """Post it where the actor does not take it at once, and flush."""
    keeper._told = True
    keeper.post(posted)
    keeper._told = False
    keeper.flush()


# L2


def test_L2_a_database_that_fails_is_tried_again_and_told_once(
    make: Callable[..., Bookkeeper], shelf: Shelf, told: Messages, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock()
    keeper = make(clock=clock)
    shelf.fail(5)
    with caplog.at_level(logging.WARNING, "tidegate"):
        keeper.post(entry("a"))
        shelf.wait_for(1)
    assert shelf.calls == ["a"]
    assert told() == ["the ledger: 1 entries are not in it yet (the disk is full); they are kept, and tried again"]
    assert [record.message for record in caplog.records] == told()
    assert clock.waits == (LINGER, *[AGAIN] * 5)


def test_L2_a_second_outage_is_told_again(make: Callable[..., Bookkeeper], shelf: Shelf, told: Messages) -> None:
    keeper = make()
    for number in range(1, 3):
        shelf.fail(2)
        keeper.post(entry(number))
        shelf.wait_for(number)
        keeper.flush()
        _settled(keeper)
    assert len(told()) == 2


def _settled(keeper: Bookkeeper) -> None:
    """Wait for the end of the actor's round."""
    desk = keeper._desk
    assert desk is not None
    desk.ask(None, timeout=PATIENCE)


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), ValueError("odd"), KeyError("key"), MemoryError()])
def test_L2_whatever_the_database_raises_the_entries_are_kept(
    make: Callable[..., Bookkeeper], shelf: Shelf, told: Messages, error: Exception
) -> None:
    keeper = make()
    shelf.fail(3, error)
    keeper.post(entry("a"))
    keeper.post(entry("b"))
    shelf.wait_for(2)
    assert shelf.calls == ["a", "b"]
    assert len(told()) == 1


def test_L2_where_warnings_are_errors_calls_and_the_writer_go_on(make: Callable[..., Bookkeeper], shelf: Shelf) -> None:
    keeper = make()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shelf.fail(2)
        keeper.post(entry("a"))
        shelf.wait_for(1)
    assert shelf.calls == ["a"]


def test_L2_without_a_journal_entries_are_kept_in_memory_and_told_once(
    folder: Path, make: Callable[..., Bookkeeper], shelf: Shelf, told: Messages
) -> None:
    folder.write_text("in the way")
    keeper = make()
    holds = shelf.hold()
    for number in range(3):
        keeper.post(entry(number))
    assert keeper.queued == 3
    assert told() == [f"the ledger: its journal in {folder} cannot be written (File exists)"]
    holds.set()
    keeper.flush()
    assert shelf.calls == ["0", "1", "2"]
    folder.unlink()


def test_L2_an_fsync_that_fails_is_told_and_the_entry_is_kept(
    folder: Path, make: Callable[..., Bookkeeper], shelf: Shelf, told: Messages, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = make(sync=True)
    holds = shelf.hold()
    keeper.post(entry("before"))
    assert told() == []

    def fail(_file: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        keeper.post(entry("a"))
    assert told() == [f"the ledger: its journal in {folder} cannot be written (Input/output error)"]
    holds.set()
    keeper.flush()
    assert shelf.calls == ["before", "a"]
    keeper.close()
    assert list(folder.iterdir()) == [], "nothing is left that would come again"


def test_with_durability_disk_each_entry_is_synced(
    make: Callable[..., Bookkeeper], monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    plain, disk = make(), make(sync=True)
    plain.post(entry("a"))
    assert synced == []
    for number in range(3):
        disk.post(entry(number))
    assert len(synced) == 2 + 3, "the folders once"


def test_L2_where_no_thread_can_be_started_it_is_tried_again_and_the_end_writes_all(
    make: Callable[..., Bookkeeper], shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object, **_options: object) -> None:
        raise RuntimeError("can't start new thread")

    keeper = make()
    with monkeypatch.context() as patch:
        patch.setattr(bookkeeper_module._Desk, "start", fail)
        keeper.post(entry("a"))
        keeper.release("r")
    assert keeper.queued == 1
    keeper.post(entry("b"))
    shelf.wait_for(2)
    assert shelf.calls == ["a", "b"]
    other = make()
    with monkeypatch.context() as patch:
        patch.setattr(bookkeeper_module._Desk, "start", fail)
        other.post(entry("c"))
        other.close()
    assert shelf.calls == ["a", "b", "c"]


# The end


def test_closing_writes_what_is_queued(make: Callable[..., Bookkeeper], shelf: Shelf, folder: Path) -> None:
    keeper = make()
    for number in range(10):
        keeper.post(entry(number))
    keeper.close()
    assert len(shelf.calls) == 10
    assert list(folder.iterdir()) == []
    keeper.close()
    keeper.leave()


def test_L2_closing_says_what_could_not_be_written_and_where_it_is(
    make: Callable[..., Bookkeeper], shelf: Shelf, folder: Path, told: Messages
) -> None:
    keeper = make()
    shelf.fail(10**9)
    keeper.post(entry("a", cost_nano=1_500_000_000))
    keeper.post(entry("b", cost_nano=None))
    keeper.release("r")
    keeper.close()
    assert told()[-1] == (
        "the ledger: 2 entries ($1.50) could not be written (the disk is full); "
        f"2 of them are in {folder}, and are taken in when the ledger is next opened"
    )
    assert read(folder) == ["a", "b"]


def test_L2_closing_says_what_is_nowhere(
    make: Callable[..., Bookkeeper], shelf: Shelf, folder: Path, told: Messages
) -> None:
    """What neither the database nor the journal took is lost, and nobody is told otherwise."""
    folder.write_text("in the way")
    keeper = make()
    shelf.fail(10**9)
    keeper.post(entry("a"))
    keeper.close()
    assert told()[-1].startswith("the ledger: 1 entry ($")
    assert told()[-1].endswith("could not be written (the disk is full); 1 is lost")
    folder.unlink()


def test_L2_closing_tells_what_is_kept_from_what_is_lost(
    make: Callable[..., Bookkeeper], shelf: Shelf, folder: Path, told: Messages
) -> None:
    """The disk may have become full in between."""
    keeper = make()
    shelf.fail(10**9)
    folder.write_text("in the way")
    for name in "ab":
        keeper.post(entry(name))
    folder.unlink()
    keeper.post(entry("c"))
    keeper.close()
    assert told()[-1].endswith(
        f"; 1 of them is in {folder}, and is taken in when the ledger is next opened; 2 are lost"
    )


def test_leaving_leaves_what_is_queued_in_the_journal(
    make: Callable[..., Bookkeeper], shelf: Shelf, folder: Path
) -> None:
    keeper = make()
    keeper._told = True
    keeper.post(entry("a"))
    keeper.leave()
    assert shelf.calls == []
    assert read(folder) == ["a"]


def test_L1_what_is_posted_after_the_end_is_in_the_journal(
    make: Callable[..., Bookkeeper], shelf: Shelf, folder: Path
) -> None:
    keeper = make()
    keeper.close()
    keeper.post(entry("late"))
    assert b'"late"' in b"".join(path.read_bytes() for path in folder.iterdir())
    keeper.flush()
    assert shelf.calls == ["late"]


def test_ctrl_c_while_it_is_written_loses_nothing(make: Callable[..., Bookkeeper], shelf: Shelf) -> None:
    """It strikes the main thread, which only waits for the one that writes."""
    keeper = make()
    struck = [False]

    def before() -> None:
        if not struck[0]:
            struck[0] = True
            signal.raise_signal(signal.SIGINT)

    shelf.before = before
    with pytest.raises(KeyboardInterrupt):
        _unwritten(keeper, entry("a"))
    keeper.flush()
    assert shelf.calls == ["a"]
    assert keeper.queued == 0


# Forks


def test_T10_a_forked_child_writes_what_it_posts_and_nothing_of_its_parents(
    make: Callable[..., Bookkeeper], shelf: Shelf, folder: Path
) -> None:
    keeper = make()
    keeper._told = True
    keeper.post(entry("parent"))
    child = os.fork()
    if not child:
        try:
            keeper.post(entry("child"))
            shelf.wait_for(1)
            keeper.flush()
            os._exit(0 if shelf.calls == ["child"] else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert keeper.queued == 1
    keeper.flush()
    assert shelf.calls == ["parent"]


def test_L1_what_a_child_posted_that_died_at_once_is_in_a_journal_of_its_own(
    make: Callable[..., Bookkeeper], folder: Path
) -> None:
    keeper = make()
    keeper._told = True
    keeper.post(entry("parent"))
    child = os.fork()
    if not child:
        try:
            keeper._told = True
            keeper.post(entry("child"))
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert read(folder) == ["child"]
    keeper.leave()
    assert read(folder) == ["child", "parent"]
