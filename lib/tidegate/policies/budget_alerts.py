"""Tells how much of a budget is used: each share once in its period, whichever process sees it first."""

from __future__ import annotations

import contextlib
import logging
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import pykka

from tidegate.accounting.money import dollars_of, spoken
from tidegate.accounting.periods import ALWAYS, Calendar
from tidegate.accounting.purses import Claim
from tidegate.errors import BudgetWarning, LedgerUnusable
from tidegate.forking import reset_in_child
from tidegate.pipeline.events import BudgetAlert, Event
from tidegate.policies.budget_options import Budget

WATCHED = 10_000
"""Purses that are watched at most; those that were not asked for longest are forgotten."""

USED_UP = 0.9
"""Share of a budget that must be spent for a refusal to mean that it is used up."""

WARNED = -1
"""Stands among the thousandths for the warning that calls go on although a budget may not suffice for them."""

CLOSING = 5.0
"""Seconds that `close` waits at most for alerts that are being told."""

_log = logging.getLogger("tidegate")


class Register(Protocol):
    """Where it is written down which alerts were given, and where more is granted than some budgets would allow."""

    def first_to_alert(self, claim: Claim, thousandths: int, name: str | None) -> bool:
        """Whether nobody has given this alert of the budget of this name before; from now on somebody has."""
        ...

    def on_excess(self, listener: Callable[[Excess], None]) -> None:
        """Call a bound method, for as long as its object lives, when more is granted than a claim would allow."""
        ...


class Excess(Protocol):
    """What was granted although it may be more than is left."""

    @property
    def claim(self) -> Claim:
        """Of whom."""
        ...

    @property
    def spent_nano(self) -> int:
        """What was spent already."""
        ...

    @property
    def asked_nano(self) -> int:
        """What was granted."""
        ...


class _Watched(NamedTuple):
    claim: Claim
    budget: Budget
    left: set[int]
    """Thousandths that were not told yet, as far as this process knows, and `WARNED`."""


class _Alert(NamedTuple):
    claim: Claim
    budget: Budget
    thousandths: int
    spent_nano: int
    asked_nano: int | None = None
    """What a call may cost that goes although less is left."""


_Identity = tuple[int, str | None, tuple[int, ...], bool, int]
"""What tells budgets of one purse from one another: those that are kept in a ledger are read anew again and again."""


def _identity(claim: Claim, budget: Budget) -> _Identity:
    return claim.limit_nano, budget.name, budget.thousandths, budget.on_reach == "warn", id(budget.on_alert)


def _new(claim: Claim, budget: Budget) -> _Watched:
    """With all that is to be told of it. A purse of a single call alerts nobody: it would be one alert a call."""
    shares = set[int]() if claim.purse.kind == "call" else set(budget.thousandths)
    return _Watched(claim, budget, shares | {WARNED} if budget.on_reach == "warn" else shares)


class _Bell(pykka.ThreadingActor):
    """Tells one alert after the other in its own thread: the program's callbacks may take their time."""

    use_daemon_thread = True

    def __init__(self, tell: Callable[[_Alert], None]) -> None:
        super().__init__()
        self._tell = tell

    def on_receive(self, message: _Alert) -> None:
        """Tell one."""
        self._tell(message)


class Alarm:
    """Watches purses. Shared by threads; a forked child has a bell of its own.

    Budgets of one purse and amount are told apart by their names. Where these are the same too, an alert that several
    of them would give is given once.
    """

    def __init__(
        self, register: Callable[[], Register], calendar: Calendar, announce: Callable[[Event], None] = lambda _: None
    ) -> None:
        self._register = register
        self._calendar = calendar
        self._announce = announce
        self._closed = False
        self._listening = False
        self._renew()
        reset_in_child(self._renew)

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._watched: OrderedDict[str, dict[_Identity, _Watched]] = OrderedDict()
        """By the purse's scope."""
        self._bell: pykka.ActorRef[_Bell] | None = None

    def watch(self, claim: Claim, budget: Budget) -> None:
        """Tell when the budget's shares are spent of this purse, and when a call goes that may cost more than is left.

        Of a purse for a single call, as one has that lacks the label by which a budget is divided, only the latter.
        """
        warns = budget.on_reach == "warn"
        if claim.purse.kind == "call" and not warns:
            return
        if warns and not self._listening:
            self._register().on_excess(self.on_excess)
            self._listening = True
        scope, identity = claim.purse.scope, _identity(claim, budget)
        with self._lock:
            found = self._watched.get(scope)
            if found is None:
                found = self._watched[scope] = {}
                if len(self._watched) > WATCHED:
                    self._watched.popitem(last=False)
            else:
                self._watched.move_to_end(scope)
            if identity not in found:
                found[identity] = _new(claim, budget)

    def on_spent(self, spent: dict[str, int]) -> None:
        """So many nano-dollars are spent of these purses now."""
        with self._lock:
            concerned = [
                (each, nano) for scope, nano in spent.items() for each in self._watched.get(scope, {}).values()
            ]
        for each, nano in concerned:
            self._check(each, nano, 1000 * nano // each.claim.limit_nano)

    def on_excess(self, excess: Excess) -> None:
        """A call goes that may cost more than is left: a budget that warns says so, once a period."""
        claim = excess.claim
        with self._lock:
            watched = self._watched.get(claim.purse.scope, {}).values()
            concerned = [each for each in watched if each.claim.limit_nano == claim.limit_nano and WARNED in each.left]
        for each in concerned:
            self._ring(each, [WARNED], excess.spent_nano, excess.asked_nano)

    def reached(self, claim: Claim, budget: Budget, spent_nano: int) -> None:
        """A call was refused because too little is left.

        A budget that prevents is never quite used up, so this is what its last alert comes from; but not when one call
        asks for more than a budget that is nearly untouched.
        """
        if claim.purse.kind == "call" or spent_nano < USED_UP * claim.limit_nano:
            return
        with self._lock:
            each = self._watched.get(claim.purse.scope, {}).get(_identity(claim, budget))
        self._check(each or _new(claim, budget), spent_nano, 1000)

    def _check(self, each: _Watched, spent_nano: int, thousandths: int) -> None:
        due = sorted(share for share in each.left.copy() if share <= thousandths and share != WARNED)
        self._ring(each, [*due, WARNED] if thousandths >= 1000 else due, spent_nano)

    def _ring(self, each: _Watched, shares: Sequence[int], spent_nano: int, asked_nano: int | None = None) -> None:
        """Have those of the shares told that were not yet."""
        with self._lock:
            due = [] if self._closed else [share for share in shares if share in each.left]
            if due and (self._bell is None or not self._bell.is_alive()):
                try:
                    self._bell = _Bell.start(self._tell)
                except RuntimeError:  # no more threads, or the interpreter ends: they stay to be told
                    return
            each.left.difference_update(due)
            bell = self._bell
        for share in due:
            if bell is not None:
                with contextlib.suppress(pykka.ActorDeadError):
                    bell.tell(_Alert(each.claim, each.budget, share, spent_nano, asked_nano))

    def _tell(self, alert: _Alert) -> None:
        try:
            if not self._is_first(alert):
                return
        except LedgerUnusable as error:  # better told twice than not at all
            _log.warning("an alert may come again: %s", error)
        event = self._event(alert)
        if alert.thousandths == WARNED:
            self._warn_of(alert, event)
            return
        self._announce(event)
        if alert.budget.on_alert is not None:
            try:
                alert.budget.on_alert(event)
            except BaseException:  # noqa: BLE001 (the program's own code; on `SystemExit` Pykka would stop every actor)
                _log.warning("`on_alert` of the budget %s failed", event.budget, exc_info=True)

    def _is_first(self, alert: _Alert) -> bool:
        if alert.claim.purse.kind == "call":  # no other process has to do with it
            return True
        return self._register().first_to_alert(alert.claim, alert.thousandths, alert.budget.name)

    def _warn_of(self, alert: _Alert, event: BudgetAlert) -> None:
        if alert.asked_nano is None:
            self.warn(f"the budget {event.budget} is used up: {spoken(event.spent)} are spent, and calls go on")
            return
        asked, left = dollars_of(alert.asked_nano), dollars_of(max(0, alert.claim.limit_nano - alert.spent_nano))
        what = f"a call may cost {spoken(asked)}, and of the budget {event.budget} {spoken(left)} are left"
        self.warn(f"{what}; it goes on")

    def _event(self, alert: _Alert) -> BudgetAlert:
        until = alert.claim.purse.until_us
        return BudgetAlert(
            budget=alert.budget.spoken(alert.claim.purse),
            share=alert.thousandths / 1000,
            spent=dollars_of(alert.spent_nano),
            usd=dollars_of(alert.claim.limit_nano),
            renews_at=None if until == ALWAYS.until_us else self._calendar.local(until),
        )

    @staticmethod
    def warn(problem: str) -> None:
        """Tell the user that a call goes on."""
        _log.warning("%s", problem)
        with contextlib.suppress(BudgetWarning):  # where warnings are errors: it goes on all the same
            warnings.warn(problem, BudgetWarning, stacklevel=2)

    def close(self) -> None:
        """Wait for the alerts that are being told, a few seconds at most."""
        with self._lock:
            bell, self._bell, self._closed = self._bell, None, True
        if bell is not None:
            with contextlib.suppress(pykka.Timeout, pykka.ActorDeadError):
                bell.stop(timeout=CLOSING)
