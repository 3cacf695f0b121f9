"""Any history of a till, checked against a model after each step: what is spent, what is reserved, who is dead."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import Connection

from support.shop import Shop, StillClock
from tidegate.accounting.database import BUSY_SECONDS
from tidegate.accounting.ledger import Ledger
from tidegate.accounting.periods import ALWAYS, Calendar
from tidegate.accounting.purses import Claim, Purse
from tidegate.errors import LedgerUnusable

LEASE = 60.0
UTC = Calendar("UTC")


class Held(NamedTuple):
    process: int
    amount: int
    scopes: frozenset[str]
    labels: dict[str, Any]


AMOUNTS = st.integers(1, 60)
TASKS = st.sampled_from([None, "a", "b"])
TENANTS = st.sampled_from([None, "acme"])


class History(RuleBasedStateMachine):
    """Two processes and what each of them holds. A process that dies is replaced by another one."""

    @initialize()
    def open(self) -> None:
        self._resources = contextlib.ExitStack()
        folder = Path(self._resources.enter_context(tempfile.TemporaryDirectory()))
        shutil.copy(_empty_ledger(), folder / "usage.db")
        self.url = f"sqlite:///{folder / 'usage.db'}"
        self.clock = StillClock()
        self.numbers = 0
        self.held: dict[str, Held] = {}
        self.spent: dict[str, int] = defaultdict(int)
        self.limits: dict[str, int] = {}
        self.shops: dict[int, Shop] = {}
        self.left_behind: dict[str, tuple[int, Held]] = {}
        """What the dead had recorded, and nobody has taken in: its cost, and what was held for it."""
        self.leases: dict[int, float] = {}
        """When those of the dead are over."""
        self.processes = 0
        for _ in range(2):
            self.start()

    def start(self) -> int:
        self.processes += 1
        self.shops[self.processes] = Shop(self.url, lease=LEASE, clock=self.clock)
        for cost, held in self.left_behind.values():  # an opener takes in what the dead had recorded
            self._spend(cost, held)
        for name in self.left_behind:
            del self.held[name]
        self.left_behind.clear()
        return self.processes

    # Rules

    def claims(self, task: str | None, tenant: str | None) -> list[Claim]:
        now = int(self.clock.time() * 1_000_000)
        claims = [Claim(Purse(*UTC.span("hour", now)), 150)]
        if task is not None:
            claims.append(Claim(Purse(*ALWAYS, "task", task), 100))
        if tenant is not None:
            claims += [
                Claim(Purse(*UTC.span("day", now), "tag", tenant, "tenant"), 90),
                Claim(Purse(*ALWAYS, "tag", tenant, "tenant"), 120, hard=False),
            ]
        for claim in claims:
            if claim.hard:
                self.limits[claim.purse.scope] = claim.limit_nano
        return claims

    def labels(self, task: str | None, tenant: str | None) -> dict[str, Any]:
        return {
            "task": task,
            "tags": {} if tenant is None else {"tenant": tenant},
            "at": int(self.clock.time() * 1_000_000),
        }

    @rule(which=st.integers(0, 1), amount=AMOUNTS, task=TASKS, tenant=TENANTS)
    def reserve(self, which: int, amount: int, task: str | None, tenant: str | None) -> None:
        self.numbers += 1
        process, shop = list(self.shops.items())[which]
        name, claims = f"r{self.numbers}", self.claims(task, tenant)
        expected = self._expected(amount, claims)
        if expected == "wait" and self._bury():
            expected = self._expected(amount, claims)
        assert shop.reserve(name, amount, *claims).outcome == expected
        if expected == "granted":
            scopes = frozenset(claim.purse.scope for claim in claims)
            self.held[name] = Held(process, amount, scopes, self.labels(task, tenant))

    def _expected(self, amount: int, claims: Sequence[Claim]) -> str:
        hard = [claim for claim in claims if claim.hard]
        if any(self.spent[claim.purse.scope] + amount > claim.limit_nano for claim in hard):
            return "refused"
        reserved = self._reserved()
        full = any(
            self.spent[claim.purse.scope] + reserved[claim.purse.scope] + amount > claim.limit_nano for claim in hard
        )
        return "wait" if full else "granted"

    def _reserved(self) -> dict[str, int]:
        reserved: dict[str, int] = defaultdict(int)
        for held in self.held.values():
            for scope in held.scopes:
                reserved[scope] += held.amount
        return reserved

    def _bury(self) -> bool:
        """Whoever is blocked ends what the dead held, once their leases are over."""
        over = {process for process, until in self.leases.items() if until < self.clock.time()}
        if not over:
            return False
        for name, (cost, held) in self.left_behind.items():
            self._spend(cost, held)
            del self.held[name]
        self.left_behind.clear()
        for name in [name for name, held in self.held.items() if held.process in over]:
            del self.held[name]
        for process in over:
            del self.leases[process]
        return True

    @precondition(lambda self: self._mine())
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self._mine()))
        held = self.held.pop(name)
        cost = data.draw(st.integers(0, held.amount))
        shop = self.shops[held.process]
        shop.spend(name, cost, **held.labels)
        shop.ledger.flush()
        self._spend(cost, held)

    def _spend(self, cost: int, held: Held) -> None:
        for scope in self._counting(held):
            self.spent[scope] += cost

    def _counting(self, held: Held) -> set[str]:
        """Every purse that an entry belongs to, whether its call asked it or not: others did, or will."""
        at, task, tags = held.labels["at"], held.labels["task"], held.labels["tags"]
        hour, day = UTC.span("hour", at), UTC.span("day", at)
        scopes = {Purse(*hour).scope}
        if task is not None:
            scopes.add(Purse(*ALWAYS, "task", task).scope)
        for name, value in tags.items():
            scopes |= {Purse(*span, "tag", value, name).scope for span in (day, ALWAYS)}
        return scopes

    @precondition(lambda self: self._mine())
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self._mine()))
        held = self.held.pop(name)
        self.shops[held.process].release(name)
        self.shops[held.process].ledger.flush()

    def _mine(self) -> list[str]:
        """What living processes hold."""
        return sorted(name for name, held in self.held.items() if held.process in self.shops)

    @rule(
        which=st.integers(0, 1),
        amount=AMOUNTS,
        moment=st.sampled_from(["before", "inside", "after"]),
        error=st.sampled_from([LedgerUnusable, KeyboardInterrupt]),
    )
    def fail(self, which: int, amount: int, moment: str, error: type[BaseException]) -> None:
        """A reservation whose transaction fails, or is broken off, at some moment: nothing of it stays."""
        self.numbers += 1
        shop = list(self.shops.values())[which]
        real = shop.till._database
        shop.till._database = lambda: _Failing(real(), moment, error)  # type: ignore[assignment, return-value]
        with contextlib.suppress(error):
            shop.reserve(f"r{self.numbers}", amount, *self.claims("a", "acme"))
        shop.till._database = real
        shop.ledger.flush()

    @rule(seconds=st.sampled_from([1.0, 19.0, 61.0, 3_600.0, 90_000.0]))
    def pass_time(self, seconds: float) -> None:
        """The living prolong their leases every so often."""
        step = LEASE / 3
        self.clock.advance(max(0.0, seconds - 600))  # of long times the end is enough
        seconds = min(seconds, 600)
        while seconds > 0:
            self.clock.advance(min(step, seconds))
            seconds -= step
            for shop in self.shops.values():
                if shop.till._held:
                    with shop.ledger.store.database().writing() as connection:
                        shop.till._renewed_at = shop.till._prolong(connection)

    @rule(which=st.integers(0, 1), spends=st.booleans(), data=st.data())
    def kill(self, which: int, *, spends: bool, data: st.DataObject) -> None:
        """It dies with what it holds, some of which it had spent already, as its journal knows."""
        process, shop = list(self.shops.items())[which]
        mine = [name for name in self._mine() if self.held[name].process == process]
        shop.ledger._finalizer.detach()
        with shop.bookkeeper._writing:
            for name in mine[:1] if spends else ():
                held = self.held[name]
                cost = data.draw(st.integers(0, held.amount))
                shop.spend(name, cost, **held.labels)
                self.left_behind[name] = cost, held
            shop.bookkeeper._journal.abandon()
            shop.bookkeeper._queue.clear()
        shop.till.close()
        shop.bookkeeper.close()
        holder = shop.till._holder
        until = shop.leases().get(holder)
        shop.ledger.store.database().close()
        del self.shops[process]
        if until is not None:
            self.leases[process] = until / 1_000_000
        self.start()

    # Invariants

    @invariant()
    def the_purses_are_what_the_model_says(self) -> None:
        if not hasattr(self, "shops"):
            return
        reserved = self._reserved()
        for scope, found in next(iter(self.shops.values())).purses().items():
            assert found == (self.spent[scope], reserved[scope]), scope

    @invariant()
    def no_budget_is_exceeded(self) -> None:
        if not hasattr(self, "shops"):
            return
        for scope, (spent, reserved) in next(iter(self.shops.values())).purses().items():
            if scope in self.limits:
                assert spent + reserved <= self.limits[scope]

    def teardown(self) -> None:
        """No phantom lockout: when all is over, and the leases of the dead too, nothing is reserved any more."""
        if not hasattr(self, "shops"):
            return
        with self._resources:
            for name in self._mine():
                self.shops[self.held[name].process].release(name)
                del self.held[name]
            for shop in self.shops.values():
                shop.ledger.flush()
            self.clock.advance(LEASE + 1)
            shop = next(iter(self.shops.values()))
            for scope in {scope for held in self.held.values() for scope in held.scopes}:
                since, _, rest = scope.partition("-")
                until, _, owner = rest.partition(" ")
                kind, _, value = owner.partition(":")
                tag, _, value = value.rpartition("=")
                purse = Purse(int(since), int(until), kind, value, tag)  # type: ignore[arg-type]
                assert purse.scope == scope
                spent, reserved = shop.purse(purse)
                shop.reserve(f"last {scope}", 1, Claim(purse, spent + reserved))
                shop.release(f"last {scope}")
            for each in self.shops.values():
                each.ledger.flush()
            assert {reserved for _, reserved in shop.purses().values()} <= {0}
            assert shop.reservations() == set()
            for each in self.shops.values():
                each.close()


class _Failing:
    """A database whose every transaction fails, at some moment of it."""

    def __init__(self, database: Any, moment: str, error: type[BaseException]) -> None:  # noqa: ANN401 (a database, or one of these)
        self._database, self._moment, self._error = database, moment, error

    def __getattr__(self, name: str) -> object:
        return getattr(self._database, name)

    @contextlib.contextmanager
    def writing(self, seconds: float = BUSY_SECONDS) -> Iterator[Connection]:
        if self._moment == "before":
            raise self._error("it fails")
        with self._database.writing(seconds) as connection:
            yield connection
            if self._moment == "inside":
                raise self._error("it fails")
        raise self._error("it fails")


_made: list[Path] = []


def _empty_ledger() -> Path:
    """Made once: to make it takes longer than a history."""
    if not _made:
        path = Path(tempfile.mkdtemp(prefix="tidegate-history-")) / "usage.db"
        Ledger(f"sqlite:///{path}").close()
        _made.append(path)
    return _made[0]


TestHistory = History.TestCase
TestHistory.settings = settings(max_examples=20, stateful_step_count=30, deadline=None)
