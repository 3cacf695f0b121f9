"""How many retries a route may cost the whole process: an outage must not be amplified by those who suffer from it.

As Finagle's RetryBudget (https://twitter.github.io/finagle/guide/Clients.html#retries) and botocore's retry quota:
calls earn a fraction of a retry each, and beside that a small reserve refills with time, so that a program that asks
rarely may still retry.
"""

from __future__ import annotations

import threading

from tidegate.clock import SYSTEM_CLOCK, Clock
from tidegate.forking import reset_in_child
from tidegate.pipeline.call import Route

EARNED = 0.1
"""Retries that one call earns: in an outage at most 1.1 attempts a call, and the reserve."""

RESERVE = 10.0
"""Retries that a route has to begin with, and that time gives back."""

REFILL = 1.0
"""Retries a second by which the reserve refills."""

MOST = 100.0
"""Retries that can be saved up: more would be a stampede of its own."""


class RetryBudgets:
    """One balance a route. Shared by threads, and by all clients of a process."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._renew()
        reset_in_child(self._renew)

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._balances: dict[Route, tuple[float, float]] = {}
        """Of each route the retries left and the moment at which that was so."""

    def earn(self, route: Route) -> None:
        """A call begins."""
        with self._lock:
            balance, now = self._balance(route)
            self._balances[route] = (min(MOST, balance + EARNED), now)

    def spend(self, route: Route) -> bool:
        """Pay for a retry; says whether there was enough left."""
        with self._lock:
            balance, now = self._balance(route)
            enough = balance >= 1.0
            self._balances[route] = (balance - enough, now)
            return enough

    def _balance(self, route: Route) -> tuple[float, float]:
        now = self._clock.monotonic()
        balance, since = self._balances.get(route, (RESERVE, now))
        if balance < RESERVE:
            balance = min(RESERVE, balance + REFILL * max(0.0, now - since))
        return balance, now


RETRY_BUDGETS = RetryBudgets()
"""The process's own."""
