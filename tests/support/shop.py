"""A ledger with its till, as tests use them, and a process of its own that spends from it.

Amounts are nano-dollars.
"""

from __future__ import annotations

import contextlib
import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from sqlalchemy import func, select

from tidegate.accounting.entries import Entry
from tidegate.accounting.ledger import Ledger
from tidegate.accounting.periods import ALWAYS
from tidegate.accounting.purses import Claim, Purse, Verdict
from tidegate.accounting.schema import ATTEMPTS, HOLDERS, PURSES, RESERVATIONS
from tidegate.accounting.till import LEASE, Till
from tidegate.clock import SYSTEM_CLOCK, CancelToken, Clock
from tidegate.testing import ManualClock

ALL = Purse(*ALWAYS)


class StillClock(ManualClock):
    """Only the test moves it: nobody's wait ends by time, and none moves it on."""

    def wait(self, event: threading.Event, seconds: float) -> bool:  # noqa: ARG002 (as in the class above it)
        return event.wait()


class Shop:
    """One process's view of a ledger: where it reserves, and where it posts what it spent."""

    def __init__(self, url: str, *, lease: float = LEASE, clock: Clock = SYSTEM_CLOCK) -> None:
        self.clock = clock
        self.ledger = Ledger(url, tz="UTC", clock=clock)
        store = self.ledger.store
        self.bookkeeper = store.bookkeeper
        self.till = Till(
            store.database,
            release=self.bookkeeper.release,
            hurry=self.bookkeeper.hurry,
            take_in=store.take_in,
            lease=lease,
            clock=clock,
        )
        store._till = self.till

    def reserve(self, name: str, amount: int, *claims: Claim, **rest: Any) -> Verdict:
        return self.till.reserve(name, amount, claims, **rest)

    def spend(self, name: str, cost: int, **labels: Any) -> None:
        """Settle a reservation, or spend what was not reserved."""
        self.ledger.post(self.entry(name, cost, **labels))

    def entry(self, name: str, cost: int, **labels: Any) -> Entry:
        given = {"call_id": name, "at": int(self.clock.time() * 1_000_000), "reservation": name, **labels}
        return Entry(provider="openai", model="gpt-4o-mini", cost_nano=cost, **given)

    def release(self, name: str) -> None:
        self.bookkeeper.release(name)

    def purse(self, purse: Purse = ALL) -> tuple[int, int]:
        """What is spent and reserved of it, in the database."""
        with self.ledger.store.database().reading() as connection:
            found = connection.execute(
                select(PURSES.c.spent_nano, PURSES.c.reserved_nano).where(PURSES.c.scope == purse.scope)
            ).one()
        return found[0], found[1]

    def purses(self) -> dict[str, tuple[int, int]]:
        """The same of all, by scope."""
        with self.ledger.store.database().reading() as connection:
            rows = connection.execute(select(PURSES.c.scope, PURSES.c.spent_nano, PURSES.c.reserved_nano))
            return {scope: (spent, reserved) for scope, spent, reserved in rows}

    def reservations(self) -> set[str]:
        with self.ledger.store.database().reading() as connection:
            return set(connection.scalars(select(RESERVATIONS.c.id)))

    def leases(self) -> dict[str, int]:
        """Until when each holder counts as alive, in microseconds since 1970."""
        with self.ledger.store.database().reading() as connection:
            return {row.id: row.lease_until for row in connection.execute(select(HOLDERS))}

    def total(self) -> int:
        """What the rows add up to."""
        with self.ledger.store.database().reading() as connection:
            return int(connection.scalar(select(func.sum(ATTEMPTS.c.cost_nano))) or 0)

    def close(self) -> None:
        self.ledger.close()


@contextlib.contextmanager
def shop_at(url: str, **options: Any) -> Iterator[Shop]:
    with contextlib.closing(Shop(url, **options)) as shop:
        yield shop


def spend_all(shop: Shop, limit: int, *, threads: int, most: int, seed: str) -> Counter[str]:
    """Reserve and settle in many threads until the purse refuses; what became of it all.

    Some calls cost less than was reserved, some are given back, some are never looked after again until the end.
    """
    counts: Counter[str] = Counter()
    lock = threading.Lock()

    def work(thread: int) -> None:
        chance = random.Random(f"{seed}-{thread}")  # noqa: S311 (any amounts do)
        done: Counter[str] = Counter()
        for number in range(10_000):
            outcome = _buy(shop, f"{seed}-{thread}-{number}", limit, most, chance, done)
            done[outcome] += 1
            if outcome == "refused":
                break
        with lock:
            counts.update(done)

    workers = [threading.Thread(target=work, args=(thread,)) for thread in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    shop.ledger.flush()
    return counts


def _buy(  # noqa: PLR0917 (one caller)
    shop: Shop, name: str, limit: int, most: int, chance: random.Random, done: Counter[str]
) -> str:
    while True:
        seen = shop.till.changes
        outcome = shop.reserve(name, most, Claim(ALL, limit)).outcome
        if outcome != "wait":
            break
        done["wait"] += 1
        shop.till.wait(seen, 10, CancelToken())
    if outcome == "granted":
        time.sleep(chance.random() * 0.004)
        if chance.random() < 0.3:
            shop.release(name)
        else:
            cost = chance.randint(most // 10, most)
            done["spent"] += cost
            shop.spend(name, cost)
    return outcome


def main() -> None:
    """A process of its own: `url limit threads most seed`; says on its output what it did, as JSON."""
    url, limit, threads, most, seed = sys.argv[1:]
    with shop_at(url) as shop:
        print("ready", flush=True)  # noqa: T201 (its output is what the test reads)
        sys.stdin.readline()
        counts = spend_all(shop, int(limit), threads=int(threads), most=int(most), seed=seed)
    print(json.dumps(counts))  # noqa: T201 (see above)


if __name__ == "__main__":
    main()
