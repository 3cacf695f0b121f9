"""Tells how much of a budget is used: each share once in its period, whichever process sees it first."""

from __future__ import annotations

import contextlib
import logging
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable
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

CLOSING = 5.0
"""Seconds that `close` waits at most for alerts that are being told."""

_log = logging.getLogger("tidegate")


class Register(Protocol):
    """Where it is written down which alerts were given."""

    def first_to_alert(self, claim: Claim, thousandths: int) -> bool:
        """Whether nobody has given this alert before; from now on somebody has."""
        ...


class _Watched(NamedTuple):
    claim: Claim
    budget: Budget
    left: set[int]
    """Thousandths that were not told yet, as far as this process knows."""


class _Alert(NamedTuple):
    claim: Claim
    budget: Budget
    thousandths: int
    spent_nano: int


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
    """Watches purses. Shared by threads; a forked child has a bell of its own."""

    def __init__(
        self, register: Callable[[], Register], calendar: Calendar, announce: Callable[[Event], None] = lambda _: None
    ) -> None:
        self._register = register
        self._calendar = calendar
        self._announce = announce
        self._closed = False
        self._renew()
        reset_in_child(self._renew)

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._watched: OrderedDict[tuple[str, int], _Watched] = OrderedDict()
        self._bell: pykka.ActorRef[_Bell] | None = None

    def watch(self, claim: Claim, budget: Budget) -> None:
        """Tell when the budget's shares are spent of this purse. One that is for a single call tells nobody."""
        if claim.purse.kind == "call":
            return
        key = (claim.purse.scope, claim.limit_nano)
        with self._lock:
            if key in self._watched:
                self._watched.move_to_end(key)
                return
            self._watched[key] = _Watched(claim, budget, set(budget.thousandths))
            if len(self._watched) > WATCHED:
                self._watched.popitem(last=False)

    def on_spent(self, spent: dict[str, int]) -> None:
        """So many nano-dollars are spent of these purses now."""
        with self._lock:
            concerned = [each for (scope, _), each in self._watched.items() if scope in spent] if spent else []
        for each in concerned:
            nano = spent[each.claim.purse.scope]
            self._check(each, nano, 1000 * nano // each.claim.limit_nano)

    def reached(self, claim: Claim, budget: Budget, spent_nano: int) -> None:
        """A call was refused because too little is left.

        A budget that prevents is never quite used up, so this is what its last alert comes from; but not when one call
        asks for more than a budget that is nearly untouched.
        """
        if claim.purse.kind == "call" or spent_nano < USED_UP * claim.limit_nano:
            return
        with self._lock:
            each = self._watched.get((claim.purse.scope, claim.limit_nano))
        self._check(each or _Watched(claim, budget, set(budget.thousandths)), spent_nano, 1000)

    def _check(self, each: _Watched, spent_nano: int, thousandths: int) -> None:
        with self._lock:
            due = [] if self._closed else sorted(share for share in each.left if share <= thousandths)
            each.left.difference_update(due)
            if due and (self._bell is None or not self._bell.is_alive()):
                self._bell = _Bell.start(self._tell)
            bell = self._bell
        for share in due:
            if bell is not None:
                with contextlib.suppress(pykka.ActorDeadError):
                    bell.tell(_Alert(each.claim, each.budget, share, spent_nano))

    def _tell(self, alert: _Alert) -> None:
        try:
            if not self._register().first_to_alert(alert.claim, alert.thousandths):
                return
        except LedgerUnusable as error:  # better told twice than not at all
            _log.warning("an alert may come again: %s", error)
        event = self._event(alert)
        self._announce(event)
        if alert.budget.on_reach == "warn" and alert.thousandths >= 1000:
            self.warn(f"the budget {event.budget} is used up: {spoken(event.spent)} are spent, and calls go on")
        if alert.budget.on_alert is not None:
            try:
                alert.budget.on_alert(event)
            except BaseException:  # noqa: BLE001 (the program's own code; on `SystemExit` Pykka would stop every actor)
                _log.warning("`on_alert` of the budget %s failed", event.budget, exc_info=True)

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
