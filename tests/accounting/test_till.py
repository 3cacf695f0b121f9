"""Where money is reserved: many threads, many processes, some of which die, and one sum that is never exceeded."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, delete

from support.shop import ALL, Shop, shop_at
from tidegate.accounting import queries
from tidegate.accounting import till as till_module
from tidegate.accounting.database import BUSY_SECONDS, Database
from tidegate.accounting.periods import ALWAYS, Calendar
from tidegate.accounting.purses import Claim, Purse
from tidegate.accounting.schema import PURSES
from tidegate.accounting.till import Excess, _Request
from tidegate.clock import CancelToken
from tidegate.errors import LedgerUnusable
from tidegate.testing import ManualClock

PATIENCE = 30.0
"""Seconds that a test waits for what must come."""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'usage.db'}"


@pytest.fixture
def shop(url: str) -> Iterator[Shop]:
    with shop_at(url) as opened:
        yield opened


def until(condition: Callable[[], bool]) -> None:
    """Wait for what other threads are about to do."""
    give_up = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < give_up
        threading.Event().wait(0.001)


@contextlib.contextmanager
def processes(count: int, module: str, *arguments: str) -> Iterator[list[subprocess.Popen[str]]]:
    """Programs of their own, ready to go; each is given its number as the last argument."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with contextlib.ExitStack() as stack:
        started = []
        for number in range(count):
            process = subprocess.Popen(
                [sys.executable, "-c", module, *arguments, str(number)],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            started.append(process)
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        yield started


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


# Reserving


def test_a_purse_grants_until_its_limit_is_reserved(shop: Shop) -> None:
    claim = Claim(ALL, 100)
    assert shop.reserve("a", 60, claim).outcome == "granted"
    assert shop.reserve("b", 40, claim).outcome == "granted"
    assert shop.purse() == (0, 100)


def test_what_only_reservations_forbid_has_to_wait_and_what_is_spent_refuses(shop: Shop) -> None:
    claim = Claim(ALL, 100)
    shop.reserve("a", 60, claim)
    waits = shop.reserve("b", 41, claim)
    assert (waits.outcome, waits.claim, waits.spent_nano, waits.reserved_nano) == ("wait", claim, 0, 60)
    shop.spend("a", 60)
    shop.ledger.flush()
    refused = shop.reserve("b", 41, claim)
    assert (refused.outcome, refused.claim, refused.spent_nano) == ("refused", claim, 60)
    assert shop.reserve("b", 40, claim).outcome == "granted"


def test_one_claim_that_is_refused_reserves_nothing_of_the_others(shop: Shop) -> None:
    task, tenant = Purse(*ALWAYS, "task", "t"), Purse(*ALWAYS, "tag", "acme", "tenant")
    claims = Claim(ALL, 1_000), Claim(task, 10), Claim(tenant, 1_000)
    verdict = shop.reserve("a", 11, *claims)
    assert (verdict.outcome, verdict.claim) == ("refused", claims[1])
    assert {shop.purse(each.purse) for each in claims} == {(0, 0)}
    assert shop.reservations() == set()


def test_a_refusal_is_told_before_a_wait(shop: Shop) -> None:
    """To wait would be in vain."""
    task = Purse(*ALWAYS, "task", "t")
    shop.reserve("a", 100, Claim(ALL, 100))
    assert shop.reserve("b", 20, Claim(ALL, 100), Claim(task, 10)).outcome == "refused"


def test_a_claim_that_is_not_hard_is_counted_and_stops_nothing(shop: Shop) -> None:
    assert shop.reserve("a", 500, Claim(ALL, 100, hard=False)).outcome == "granted"
    assert shop.purse() == (0, 500)


def test_two_budgets_of_one_purse_count_a_call_once(shop: Shop) -> None:
    assert shop.reserve("a", 60, Claim(ALL, 100), Claim(ALL, 80)).outcome == "granted"
    assert shop.purse() == (0, 60)
    assert shop.reserve("b", 30, Claim(ALL, 100), Claim(ALL, 80)).outcome == "wait"


def test_settling_counts_the_real_cost_and_gives_the_rest_back(shop: Shop) -> None:
    shop.reserve("a", 60, Claim(ALL, 100))
    shop.spend("a", 25)
    shop.ledger.flush()
    assert shop.purse() == (25, 0)


def test_to_settle_or_release_twice_changes_nothing(shop: Shop) -> None:
    shop.reserve("a", 60, Claim(ALL, 100))
    shop.reserve("b", 30, Claim(ALL, 100))
    for _ in range(2):
        shop.spend("a", 25)
        shop.release("a")
        shop.ledger.flush()
    assert shop.purse() == (25, 30)


def test_the_purse_of_a_single_call_goes_with_it(shop: Shop) -> None:
    own = Purse(*ALWAYS, "call", "call-1")
    shop.reserve("call-1/1", 60, Claim(own, 100))
    shop.spend("call-1/1", 25, call_id="call-1")
    shop.ledger.flush()
    assert shop.purses() == {}
    assert shop.reserve("call-1/2", 80, Claim(own, 100)).outcome == "refused", "its second attempt knows of the first"


@pytest.mark.parametrize(
    "purse",
    [
        Purse(*ALWAYS, "tag", "sales call: acme", "tenant"),
        Purse(*ALWAYS, "task", " call:1"),
        Purse(*ALWAYS, "run", "call:"),
    ],
)
def test_a_label_that_looks_like_a_call_has_a_purse_that_stays(shop: Shop, purse: Purse) -> None:
    labels: dict[str, dict[str, Any]] = {
        "tag": {"tags": {purse.tag: purse.value}},
        "task": {"task": purse.value},
        "run": {"run": purse.value},
    }
    told: list[dict[str, int]] = []
    listener = _Listener(told)
    shop.ledger.store.on_spent(listener.listen)
    shop.reserve("a", 60, Claim(purse, 100))
    shop.spend("a", 25, **labels[purse.kind])
    shop.ledger.flush()
    assert shop.purse(purse) == (25, 0)
    assert told == [{purse.scope: 25}]


class _Listener:
    def __init__(self, told: list[dict[str, int]]) -> None:
        self._told = told

    def listen(self, spent: dict[str, int]) -> None:
        self._told.append(spent)


# New purses


def test_a_new_purse_begins_with_what_the_ledger_has_of_it(shop: Shop) -> None:
    now = int(shop.clock.time() * 1_000_000)
    shop.spend("a", 1, task="t", tags={"tenant": "acme"}, run="r")
    shop.spend("b", 10, task="t")
    shop.spend("c", 100, at=now - 40 * 86_400_000_000, task="t")
    shop.spend("d", 1_000, at=now - 40 * 86_400_000_000)
    shop.ledger.flush()
    day, month = (Calendar("UTC").span(period, now) for period in ("day", "month"))
    expected = {
        ALL: 1_111,
        Purse(*day): 11,
        Purse(*month): 11,
        Purse(*ALWAYS, "task", "t"): 111,
        Purse(*ALWAYS, "task", "other"): 0,
        Purse(*day, "task", "t"): 11,
        Purse(*ALWAYS, "tag", "acme", "tenant"): 1,
        Purse(*ALWAYS, "tag", "tenant", "acme"): 0,
        Purse(*ALWAYS, "run", "r"): 1,
        Purse(*ALWAYS, "call", "c"): 100,
    }
    shop.reserve("e", 5, *(Claim(purse, 10**9) for purse in expected))
    assert {purse: shop.purse(purse) for purse in expected} == {purse: (cost, 5) for purse, cost in expected.items()}


SPEND_SMALL = """
import sys
from support.shop import shop_at
url, number = sys.argv[1:]
with shop_at(url) as shop:
    print("ready", flush=True)
    sys.stdin.readline()
    for index in range(150):
        shop.spend(f"p{number}-{index}", 7, task=str(index % 5), tags={"tenant": str(index % 3)})
        if index % 8 == 0:
            shop.ledger.flush()
"""


def test_L3_purses_that_are_made_while_two_processes_spend_miss_nothing(url: str, shop: Shop) -> None:
    made: list[Purse] = []
    with processes(2, SPEND_SMALL, url) as spenders:
        for process in spenders:
            go(process)
        names = itertools.count()
        while any(process.poll() is None for process in spenders):
            number = next(names)
            if number < 60:
                tasks = Purse(0, ALWAYS.until_us - number, "task", str(number % 5))
                tenants = Purse(0, ALWAYS.until_us - number, "tag", str(number % 3), "tenant")
                made += [tasks, tenants, Purse(0, ALWAYS.until_us - number)]
                shop.reserve(f"r{number}", 1, *(Claim(purse, 10**9) for purse in made[-3:]))
                shop.release(f"r{number}")
    assert [process.returncode for process in spenders] == [0, 0]
    shop.ledger.flush()
    cost = {"all": 2_100, "task": 420}
    assert len(made) > 5
    for purse in made:
        owed = cost.get(purse.kind) or 7 * 2 * len(range(int(purse.value), 150, 3))
        assert shop.purse(purse) == (owed, 0), purse.scope


# Locks


def test_purses_that_come_and_go_beside_a_shared_one_never_lock_each_other_out(either_url: str) -> None:
    """Four processes, as far as the database knows. A deadlock would be told by PostgreSQL after a second."""
    failed: list[object] = []

    def work(number: int) -> None:
        with shop_at(either_url) as shop:
            task = Purse(*ALWAYS, "task", f"x call:{number}")
            for index in range(25):
                name = f"{number}-{index}"
                own = Purse(*ALWAYS, "call", name)
                try:
                    shop.reserve(name, 10, Claim(ALL, 10**9), Claim(task, 10**9), Claim(own, 10**9), seconds=PATIENCE)
                    shop.spend(name, 5, task=task.value, call_id=name)
                    shop.ledger.flush()
                except Exception as error:  # noqa: BLE001 (it is told by the test)
                    failed.append(error)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(PATIENCE)
    assert failed == []
    with shop_at(either_url) as shop:
        tasks = [Purse(*ALWAYS, "task", f"x call:{number}") for number in range(4)]
        assert shop.purses() == {ALL.scope: (500, 0), **{task.scope: (125, 0) for task in tasks}}


def test_a_purse_that_somebody_removed_is_made_before_any_row_is_locked(either_url: str) -> None:
    with shop_at(either_url) as shop:
        task = Purse(*ALWAYS, "task", "t")
        shop.reserve("a", 1, Claim(ALL, 100), Claim(task, 100))
        database = shop.ledger.store.database()
        with database.writing() as connection:
            connection.execute(delete(PURSES).where(PURSES.c.scope == task.scope))
        order: list[str] = []
        Spied(shop, order)
        assert shop.reserve("b", 2, Claim(ALL, 100), Claim(task, 100)).outcome == "granted"
        assert shop.purse(task) == (0, 2)
        assert shop.purse() == (0, 3)
        assert order == ["transaction", "transaction", "lock"], "the second one, which nothing was done before"


class Spied:
    """A database that notes when it is asked for a transaction, and when for the lock."""

    def __init__(self, shop: Shop, order: list[str]) -> None:
        self._database, self._order = shop.ledger.store.database(), order
        shop.till._database = lambda: self  # type: ignore[assignment, return-value]

    def __getattr__(self, name: str) -> object:
        return getattr(self._database, name)

    def writing(self, seconds: float = BUSY_SECONDS) -> contextlib.AbstractContextManager[Connection]:
        self._order.append("transaction")
        return self._database.writing(seconds)

    def lock_charging(self, connection: Connection, *, alone: bool) -> None:
        self._order.append("lock")
        self._database.lock_charging(connection, alone=alone)


# L3


RACE = "from support.shop import main; main()"


def race(url: str, *, count: int, threads: int, limit: int, most: int) -> None:
    """Several processes spend one purse; meanwhile it is looked at all the time, and its history checked at the end."""
    seen = set[tuple[int, int]]()
    with shop_at(url) as shop, processes(count, RACE, url, str(limit), str(threads), str(most)) as spenders:
        for process in spenders:
            go(process)
        while any(process.poll() is None for process in spenders):
            for spent, reserved in shop.purses().values():
                assert 0 <= spent <= limit
                assert reserved >= 0
                assert spent + reserved <= limit
                seen.add((spent, reserved))
        said = [json.loads(process.stdout.read()) for process in spenders if process.stdout is not None]
        shop.ledger.flush()
        spent, reserved = shop.purse()
        assert len(seen) > 10, "it was looked at while it changed"
        assert reserved == 0
        assert shop.reservations() == set()
        assert spent == shop.total() == sum(each["spent"] for each in said)
        assert limit - most < spent <= limit, "refused only when it was used up"
        assert [each["refused"] for each in said] == [threads] * count
        assert sum(each.get("wait", 0) for each in said) > 0, "the last of it was competed for"


def test_L3_threads_of_two_processes_never_exceed_a_purse_together(url: str) -> None:
    race(url, count=2, threads=16, limit=2_000_000, most=20_000)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_L3_64_threads_of_4_processes_never_exceed_a_purse_together(url: str) -> None:
    race(url, count=4, threads=64, limit=30_000_000, most=20_000)


# One thread works for all


class Tripwire:
    """A database that stops its next writer: before its transaction, in it before its commit, or after it."""

    def __init__(self, shop: Shop) -> None:
        self._database = shop.ledger.store.database()
        self._armed: tuple[str, Callable[[], None]] | None = None
        shop.till._database = lambda: self  # type: ignore[assignment, return-value]

    def arm(self, moment: str, trip: Callable[[], None]) -> None:
        self._armed = moment, trip

    def __getattr__(self, name: str) -> object:
        return getattr(self._database, name)

    @contextlib.contextmanager
    def writing(self, seconds: float = BUSY_SECONDS) -> Iterator[Connection]:
        armed, self._armed = self._armed, None
        moment, trip = armed or ("", lambda: None)
        if moment == "before":
            trip()
        with self._database.writing(seconds) as connection:
            yield connection
            if moment == "inside":
                trip()
        if moment == "after":
            trip()


class Follower(threading.Thread):
    """Reserves in a thread of its own."""

    def __init__(self, shop: Shop, name: str, amount: int = 1, **rest: Any) -> None:
        super().__init__(name=name)
        self._reserve = functools.partial(shop.reserve, name, amount, Claim(ALL, 100), **rest)
        self.outcome: object = None
        self.start()

    def run(self) -> None:
        try:
            self.outcome = self._reserve().outcome
        except (LedgerUnusable, Stopped) as error:
            self.outcome = error


@contextlib.contextmanager
def followers(shop: Shop, count: int, **rest: Any) -> Iterator[list[Follower]]:
    """Threads that have queued up; whichever gets the lock first, when the block is left, works for all."""
    with shop.till._lock:
        threads = [Follower(shop, f"f{number}", **rest) for number in range(count)]
        until(lambda: len(shop.till._queue) == count)
        yield threads
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


class Stopped(BaseException):
    """As one that is thrown into a thread from outside."""


def stop() -> None:
    raise Stopped


MOMENTS = ["before", "inside", "after"]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_thread_that_is_stopped_while_it_works_for_others_blocks_nobody_and_leaks_nothing(
    shop: Shop, moment: str
) -> None:
    wire = Tripwire(shop)
    with followers(shop, 8) as threads:
        wire.arm(moment, stop)
    assert sorted(str(thread.outcome) for thread in threads) == ["", *["granted"] * 7]
    shop.ledger.flush()
    assert shop.purse() == (0, 7)
    assert shop.reservations() == {thread.name for thread in threads if thread.outcome == "granted"}


@pytest.mark.parametrize("moment", MOMENTS)
def test_ctrl_c_leaves_the_transaction_whole_and_nothing_reserved(shop: Shop, moment: str) -> None:
    """It strikes the main thread, which only waits for the one that has the transaction."""
    Tripwire(shop).arm(moment, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        shop.reserve("mine", 50, Claim(ALL, 100))
    until(lambda: not shop.till._lock.locked())
    shop.ledger.flush()
    assert shop.reservations() == set()
    assert shop.reserve("next", 100, Claim(ALL, 100)).outcome == "granted"


@pytest.mark.parametrize("moment", MOMENTS)
def test_when_the_ledger_fails_everybody_is_told_and_nothing_stays_reserved(shop: Shop, moment: str) -> None:
    def fail() -> None:
        raise LedgerUnusable("the disk is full")

    wire = Tripwire(shop)
    with followers(shop, 4) as threads:
        wire.arm(moment, fail)
    assert [str(thread.outcome) for thread in threads] == ["the disk is full"] * 4
    assert len({id(thread.outcome) for thread in threads}) == 4, "each raises an error of its own"
    shop.ledger.flush()
    assert shop.reserve("next", 100, Claim(ALL, 100)).outcome == "granted"


def test_who_has_little_time_fails_alone(shop: Shop) -> None:
    """The ledger was busy for as long as that thread could wait; the others have longer, and try for themselves."""
    patient = [_Request(f"f{number}", 1, [Claim(ALL, 100)], inf) for number in range(3)]
    shop.till._queue.extend(patient)

    def fail() -> None:
        raise LedgerUnusable("database is locked")

    Tripwire(shop).arm("before", fail)
    with pytest.raises(LedgerUnusable, match="database is locked"):
        shop.reserve("hasty", 1, Claim(ALL, 100), seconds=1)
    assert not any(request.done for request in patient)
    for request in patient:
        shop.till._have_served(request)
    assert [request.verdict and request.verdict.outcome for request in patient] == ["granted"] * 3
    shop.ledger.flush()
    assert shop.reservations() == {request.id for request in patient}


def test_the_main_thread_never_works_on_the_database_itself(shop: Shop) -> None:
    """Ctrl-C in the midst of the driver would leave a connection that holds the lock."""
    who: list[threading.Thread] = []
    Tripwire(shop).arm("inside", lambda: who.append(threading.current_thread()))
    shop.reserve("a", 1, Claim(ALL, 100))
    assert who != [threading.main_thread()]
    assert len(who) == 1


def test_who_waits_too_long_for_its_turn_reserves_nothing(shop: Shop) -> None:
    with followers(shop, 2, seconds=0.01) as threads:
        for thread in threads:
            thread.join(PATIENCE)
    assert [str(thread.outcome) for thread in threads] == ["the ledger was not free in time"] * 2
    assert shop.reserve("next", 100, Claim(ALL, 100)).outcome == "granted"
    assert shop.reservations() == {"next"}


@pytest.mark.parametrize("moment", MOMENTS)
def test_who_gives_up_while_another_reserves_for_it_gets_nothing(shop: Shop, moment: str) -> None:
    hasty = [_Request(f"f{number}", 1, [Claim(ALL, 100)], inf) for number in range(3)]
    shop.till._queue.extend(hasty)

    def give_up() -> None:
        for each in hasty:
            shop.till._abandon(each)
        if moment == "before":
            shop.ledger.flush()  # to give back now is too soon

    Tripwire(shop).arm(moment, give_up)
    assert shop.reserve("mine", 50, Claim(ALL, 100)).outcome == "granted"
    shop.ledger.flush()
    assert shop.reservations() == {"mine"}
    assert shop.purse() == (0, 50)


class Striker(threading.Thread):
    """Presses Ctrl-C some moments after each time that it is asked to."""

    def __init__(self) -> None:
        super().__init__()
        self._asked = threading.Semaphore(0)
        self._over = False
        self.start()

    def run(self) -> None:
        chance = random.Random(1)  # noqa: S311 (any moments do)
        while self._asked.acquire() and not self._over:
            time.sleep(chance.random() * 0.004)
            os.kill(os.getpid(), signal.SIGINT)

    def ask(self) -> None:
        self._asked.release()

    def close(self) -> None:
        self._over = True
        self._asked.release()
        self.join()


def reserve_until_struck(shop: Shop, striker: Striker, name: str) -> None:
    for part in itertools.count():
        try:
            if not part:
                striker.ask()
            shop.reserve(f"{name}-{part}", 3, Claim(ALL, 10**9))
            shop.release(f"{name}-{part}")
        except KeyboardInterrupt:
            shop.release(f"{name}-{part}")  # the answer was on its way, or the release was
            return


@pytest.mark.slow
def test_L3_ctrl_c_at_any_moment_leaks_nothing_and_blocks_nobody(shop: Shop) -> None:
    """Real signals, some hundred of them, in the main thread of a program whose other threads go on."""
    over = threading.Event()
    served = [0] * 4

    def work(index: int) -> None:
        while not over.is_set():
            assert shop.reserve(f"w{index}-{served[index]}", 5, Claim(ALL, 10**9)).outcome == "granted"
            shop.release(f"w{index}-{served[index]}")
            served[index] += 1

    workers = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for worker in workers:
        worker.start()
    with contextlib.closing(Striker()) as striker:
        for number in range(500):
            reserve_until_struck(shop, striker, f"m{number}")
    before = list(served)
    until(lambda: all(now > then for now, then in zip(served, before, strict=True)))
    over.set()
    for worker in workers:
        worker.join(PATIENCE)
    shop.ledger.flush()
    assert shop.reservations() == set()
    assert shop.purse() == (0, 0)


# Waiting


@pytest.fixture
def no_polling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(till_module, "POLL", 600.0)


class Waiter(threading.Thread):
    """Waits until something changes."""

    def __init__(self, shop: Shop, cancel: CancelToken | None = None) -> None:
        super().__init__()
        seen = shop.till.changes
        self._wait_for_change = functools.partial(shop.till.wait, seen, PATIENCE, cancel or CancelToken())
        self.start()
        until(lambda: bool(shop.till._changed._waiters))  # type: ignore[attr-defined]

    def run(self) -> None:
        self._wait_for_change()

    def returns(self) -> bool:
        self.join(PATIENCE / 2)
        return not self.is_alive()


def test_who_waits_is_woken_by_a_settlement_in_its_process(shop: Shop, no_polling: None) -> None:
    shop.reserve("a", 100, Claim(ALL, 100))
    waiter = Waiter(shop)
    shop.spend("a", 10)
    assert waiter.returns()
    assert shop.reserve("b", 90, Claim(ALL, 100)).outcome == "granted"


def test_who_waits_is_woken_by_a_release(shop: Shop, no_polling: None) -> None:
    shop.reserve("a", 100, Claim(ALL, 100))
    waiter = Waiter(shop)
    shop.release("a")
    assert waiter.returns()


def test_who_waits_is_woken_by_its_cancellation(shop: Shop, no_polling: None) -> None:
    cancel = CancelToken()
    waiter = Waiter(shop, cancel)
    cancel.cancel()
    assert waiter.returns()
    assert not cancel._callbacks


def test_who_waits_has_what_is_queued_written_at_once(shop: Shop) -> None:
    hurried: list[bool] = []
    shop.till._hurry = lambda: hurried.append(True)
    shop.till.wait(shop.till.changes, 0.0, CancelToken())
    assert hurried


def test_what_ended_before_the_wait_is_not_missed(shop: Shop, no_polling: None) -> None:
    shop.reserve("a", 100, Claim(ALL, 100))
    seen = shop.till.changes
    shop.spend("a", 10)
    shop.ledger.flush()
    shop.till.wait(seen, PATIENCE, CancelToken())
    assert shop.till.changes > seen


def test_who_is_cancelled_before_the_wait_does_not_wait(shop: Shop, no_polling: None) -> None:
    cancel = CancelToken()
    cancel.cancel()
    shop.till.wait(shop.till.changes, PATIENCE, cancel)


def test_who_waits_for_another_process_looks_again(url: str, shop: Shop) -> None:
    with shop_at(url) as other:
        other.reserve("a", 100, Claim(ALL, 100))
        assert shop.reserve("b", 50, Claim(ALL, 100)).outcome == "wait"
        other.release("a")
        while shop.reserve("b", 50, Claim(ALL, 100)).outcome == "wait":
            shop.till.wait(shop.till.changes, PATIENCE, CancelToken())
        assert shop.purse() == (0, 50)


# Leases


class PacedClock(ManualClock):
    """Waits end when the test has moved it far enough, not sooner."""

    def __init__(self) -> None:
        super().__init__()
        self.moved = threading.Condition()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        due = self.monotonic() + seconds
        with self.moved:
            while self.monotonic() < due and not event.is_set():
                self.moved.wait(0.01)  # events are set without notice
        return event.is_set()

    def advance(self, seconds: float) -> None:
        with self.moved:
            super().advance(seconds)
            self.moved.notify_all()


@contextlib.contextmanager
def two_shops(url: str, clock: PacedClock) -> Iterator[tuple[Shop, Shop]]:
    """Two processes, as far as the ledger knows."""
    with shop_at(url, clock=clock, lease=60) as first, shop_at(url, clock=clock, lease=60) as second:
        yield first, second


def test_L4_the_reservations_of_a_silent_process_end_with_its_lease(url: str) -> None:
    clock = PacedClock()
    with two_shops(url, clock) as (silent, other):
        silent.reserve("a", 100, Claim(ALL, 100))
        silent.till.close()  # nothing prolongs its lease any more
        clock.advance(59.9)
        assert other.reserve("b", 50, Claim(ALL, 100)).outcome == "wait"
        clock.advance(0.2)
        assert other.reserve("b", 50, Claim(ALL, 100)).outcome == "granted"
        assert other.purse() == (0, 50)
        assert len(other.leases()) == 1


def test_a_living_process_keeps_what_it_reserved_however_long_its_call_takes(url: str) -> None:
    clock = PacedClock()
    with two_shops(url, clock) as (slow, other):
        slow.reserve("a", 100, Claim(ALL, 100))
        (holder,) = slow.leases()
        for _ in range(12):
            clock.advance(20)
            until(lambda: slow.leases()[holder] >= (clock.time() + 60) * 1_000_000)
            assert other.reserve("b", 50, Claim(ALL, 100)).outcome == "wait"
        slow.spend("a", 10)
        slow.ledger.flush()
        assert other.reserve("b", 50, Claim(ALL, 100)).outcome == "granted"


def test_the_thread_that_prolongs_the_lease_ends_when_nothing_is_reserved_and_comes_again(url: str) -> None:
    clock = PacedClock()
    with shop_at(url, clock=clock) as shop:
        for name in ("a", "b"):
            shop.reserve(name, 1, Claim(ALL, 100))
            keeper = shop.till._keeper
            assert keeper is not None
            assert keeper.is_alive()
            shop.release(name)
            shop.ledger.flush()
            clock.advance(20)
            keeper.join(PATIENCE)
            assert not keeper.is_alive()


def test_L4_a_machine_that_slept_takes_its_lease_anew_and_loses_nothing_more(url: str) -> None:
    """Only the wall clock moves while it sleeps. Others may have ended its reservations; never those it makes then."""
    clock = PacedClock()
    with two_shops(url, clock) as (sleeper, other):
        sleeper.reserve("a", 40, Claim(ALL, 100))
        clock.set_time(clock.time() + 3_600)
        other.reserve("b", 60, Claim(ALL, 100))
        assert other.reserve("c", 40, Claim(ALL, 100)).outcome == "granted", "nobody knows that the sleeper lives"
        other.release("c")
        other.ledger.flush()
        assert sleeper.reserve("d", 40, Claim(ALL, 100)).outcome == "granted"
        assert other.reserve("e", 1, Claim(ALL, 100)).outcome == "wait"
        assert other.reservations() == {"b", "d"}
        assert len(other.leases()) == 2


def test_a_process_never_takes_itself_for_dead(url: str) -> None:
    clock = PacedClock()
    with shop_at(url, clock=clock, lease=60) as shop:
        shop.reserve("a", 100, Claim(ALL, 100))
        shop.till.close()
        clock.advance(100)
        assert shop.reserve("b", 1, Claim(ALL, 100)).outcome == "wait"
        assert shop.reservations() == {"a"}


def test_L4_a_lease_that_was_rolled_back_was_not_taken(shop: Shop) -> None:
    """Else what is reserved next would belong to nobody, and stay for ever when its process dies."""
    Tripwire(shop).arm("inside", stop)
    with pytest.raises(Stopped):
        shop.reserve("a", 1, Claim(ALL, 100))
    assert shop.leases() == {}
    shop.reserve("b", 1, Claim(ALL, 100))
    assert len(shop.leases()) == 1


def test_L4_nothing_is_released_while_another_one_takes_in_what_the_dead_spent(url: str) -> None:
    clock = PacedClock()
    with two_shops(url, clock) as (silent, other):
        silent.reserve("a", 100, Claim(ALL, 100))
        silent.till.close()
        clock.advance(100)
        busy = [True]
        other.till._take_in = lambda: not busy[0]
        assert other.reserve("b", 50, Claim(ALL, 100)).outcome == "wait"
        assert other.reservations() == {"a"}
        busy[0] = False
        assert other.reserve("b", 50, Claim(ALL, 100)).outcome == "granted"


@pytest.mark.parametrize("purse", [ALL, Purse(*ALWAYS, "task", "t")])
def test_what_the_dead_had_reserved_is_not_shown_as_reserved(url: str, purse: Purse) -> None:
    clock = PacedClock()
    with two_shops(url, clock) as (silent, other):
        silent.reserve("a", 100, Claim(purse, 1_000))
        silent.spend("b", 7, task="t")
        silent.till.close()
        clock.advance(50)
        other.reserve("c", 30, Claim(purse, 1_000))
        database = other.ledger.store.database()
        silent.ledger.flush()
        assert queries.standing(database, purse) == (7, 130)
        assert queries.reserved(database) == 130
        clock.advance(10.1)
        assert queries.standing(database, purse) == (7, 30)
        assert queries.reserved(database) == 30


def test_the_thread_that_prolongs_a_lease_ends_what_the_dead_held(url: str) -> None:
    """Nobody has to wait for it."""
    clock = PacedClock()
    with two_shops(url, clock) as (silent, other):
        silent.reserve("a", 10, Claim(ALL, 100))
        silent.till.close()
        other.reserve("b", 10, Claim(ALL, 100))

        def is_over() -> bool:
            clock.advance(1)
            return other.reservations() == {"b"}

        until(is_over)
        assert other.purse() == (0, 10)
        assert set(other.leases()) == {other.till._holder}


def test_a_process_that_closes_leaves_no_lease_behind(either_url: str) -> None:
    with shop_at(either_url) as shop, shop_at(either_url) as other:
        shop.reserve("a", 1, Claim(ALL, 100))
        other.reserve("b", 1, Claim(ALL, 100))
        shop.spend("a", 1)
        shop.close()
        assert set(other.leases()) == {other.till._holder}


def test_a_process_that_closes_keeps_its_lease_for_what_it_still_holds(shop: Shop) -> None:
    shop.reserve("a", 1, Claim(ALL, 100))
    shop.till.close()
    assert set(shop.leases()) == {shop.till._holder}


def test_who_reserves_after_the_close_takes_its_lease_anew(shop: Shop) -> None:
    shop.reserve("a", 1, Claim(ALL, 100))
    shop.release("a")
    shop.ledger.flush()
    shop.till.close()
    assert shop.leases() == {}
    shop.reserve("b", 1, Claim(ALL, 100))
    assert set(shop.leases()) == {shop.till._holder}


def test_a_close_makes_no_ledger_anew_that_was_removed(shop: Shop) -> None:
    shop.reserve("a", 1, Claim(ALL, 100))
    shop.release("a")
    shop.ledger.flush()
    file = shop.ledger.store.file
    assert file is not None
    file.unlink()
    shop.till.close()
    assert not file.exists()


def test_a_close_does_not_wait_for_somebody_who_reserves(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(till_module, "CLOSING", 0.01)
    shop.reserve("a", 1, Claim(ALL, 100))
    shop.release("a")
    shop.ledger.flush()
    with shop.till._lock:
        shop.till.close()
    assert set(shop.leases()) == {shop.till._holder}


def test_leases_of_the_dead_go_once_they_hold_nothing(either_url: str) -> None:
    with (
        shop_at(either_url, lease=0.2) as idle,
        shop_at(either_url, lease=0.2) as holding,
        shop_at(either_url) as other,
    ):
        for shop in (idle, holding):
            shop.reserve(shop.till._holder, 1, Claim(ALL, 100))
            shop.till._stop.set()
        idle.release(idle.till._holder)
        idle.ledger.flush()
        time.sleep(0.3)
        other.reserve("a", 1, Claim(ALL, 100))
        assert set(other.leases()) == {other.till._holder, holding.till._holder}


VICTIM = """
import sys, threading
from support.shop import ALL, shop_at
from tidegate.accounting.purses import Claim
url, number = sys.argv[1:]
with shop_at(url, lease=1.0) as shop:
    assert shop.reserve("spent", 60, Claim(ALL, 100)).outcome == "granted"
    assert shop.reserve("open", 40, Claim(ALL, 100)).outcome == "granted"
    with shop.bookkeeper._writing:  # it is in the journal, and on its way to the database for ever
        shop.spend("spent", 30)
        print("ready", flush=True)
        threading.Event().wait()
"""


def test_L4_what_a_killed_process_held_is_released_within_its_lease_and_what_it_spent_is_counted_before(
    url: str, shop: Shop
) -> None:
    with processes(1, VICTIM, url) as (victim,):
        assert shop.purse() == (0, 100)
        assert shop.reserve("b", 80, Claim(ALL, 100)).outcome == "wait"
        victim.send_signal(signal.SIGKILL)
        victim.wait(PATIENCE)
        killed = time.monotonic()
        states = set[tuple[int, int]]()
        while (verdict := shop.reserve("b", 80, Claim(ALL, 100))).outcome == "wait":
            states.add(shop.purse())
            shop.till.wait(shop.till.changes, PATIENCE, CancelToken())
    assert (verdict.outcome, verdict.spent_nano, verdict.reserved_nano) == ("refused", 30, 0), "30 are spent"
    assert time.monotonic() - killed < 15, "not the minute that others have"
    assert states <= {(0, 100), (30, 40)}
    assert shop.reserve("c", 70, Claim(ALL, 100)).outcome == "granted"
    assert shop.total() == 30


def test_a_forked_child_holds_what_it_reserves_by_itself(shop: Shop) -> None:
    shop.reserve("parent", 10, Claim(ALL, 100))
    child = os.fork()
    if not child:
        try:
            shop.reserve("child", 20, Claim(ALL, 100))
            os._exit(0 if shop.till._held == {"child"} else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert shop.reservations() == {"parent", "child"}
    assert len(shop.leases()) == 2


# Alerts


def test_an_alert_is_given_once_whichever_process_asks(either_url: str) -> None:
    claim = Claim(ALL, 100)
    with shop_at(either_url) as shop, shop_at(either_url) as other:
        assert shop.till.first_to_alert(claim, 500)
        assert not other.till.first_to_alert(claim, 500)
        assert other.till.first_to_alert(claim, 800)
        assert other.till.first_to_alert(Claim(ALL, 200), 500), "another budget"
        assert other.till.first_to_alert(Claim(Purse(0, 1), 100), 500), "another period"
        assert shop.till.first_to_alert(claim, 500, "app"), "another name"
        assert not other.till.first_to_alert(claim, 500, "app")
        assert other.till.first_to_alert(claim, 500, "\udc80")


class _Heard:
    def __init__(self) -> None:
        self.excesses: list[Excess] = []

    def listen(self, excess: Excess) -> None:
        self.excesses.append(excess)


def test_what_is_granted_beyond_a_claim_that_is_not_hard_is_told(shop: Shop) -> None:
    heard = _Heard()
    for _ in range(2):
        shop.till.on_excess(heard.listen)
    soft = Claim(ALL, 100, hard=False)
    shop.spend("a", 50)
    shop.ledger.flush()
    shop.reserve("b", 50, soft)
    shop.reserve("c", 50, soft)
    assert heard.excesses == [], "they fit what is not spent"
    shop.reserve("d", 51, soft)
    assert shop.reserve("e", 51, soft, Claim(Purse(*ALWAYS, "task", "t"), 1)).outcome == "refused"
    assert heard.excesses == [Excess(soft, 50, 51)]


def test_a_database_is_never_asked_for_more_time_than_a_call_has(shop: Shop) -> None:
    asked: list[float] = []
    wire = Tripwire(shop)
    real: Database = wire._database
    shop.till._database = lambda: _Asked(real, asked)  # type: ignore[assignment, return-value]
    shop.reserve("a", 1, Claim(ALL, 100), seconds=5)
    assert len(asked) == 1
    assert 0 < asked[0] <= 5


class _Asked:
    def __init__(self, database: Database, asked: list[float]) -> None:
        self._database, self._asked = database, asked

    def __getattr__(self, name: str) -> object:
        return getattr(self._database, name)

    def writing(self, seconds: float) -> contextlib.AbstractContextManager[Connection]:
        self._asked.append(seconds)
        return self._database.writing(seconds)
