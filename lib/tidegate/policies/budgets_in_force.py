"""Which budgets a client keeps to: its own, and those that are kept in its ledger for everybody."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from tidegate.clock import SYSTEM_CLOCK, Clock
from tidegate.errors import ConfigError
from tidegate.forking import reset_in_child
from tidegate.jsontext import decode
from tidegate.policies.budget_options import Budget

EVERY = 10.0
"""Seconds after which the ledger is looked at again."""

_log = logging.getLogger("tidegate")


class BudgetsInForce:
    """Tells which they are at the moment. Shared by threads."""

    def __init__(
        self,
        own: Sequence[Budget],
        stored: Callable[[], Sequence[tuple[str, str]]],
        *,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """`stored` answers the name and the options, as JSON, of each that the ledger keeps."""
        self._own = tuple(own)
        self._stored = stored
        self._clock = clock
        self._found: tuple[Budget, ...] = ()
        self._next = float("-inf")
        self._renew()
        reset_in_child(self._renew)

    def _renew(self) -> None:
        self._looking = threading.Lock()

    def __call__(self) -> tuple[Budget, ...]:
        """Those in force now."""
        if self._clock.monotonic() >= self._next and self._looking.acquire(blocking=self._next < 0):
            try:
                self._look()
            finally:
                self._looking.release()
        return self._own + self._found

    def _look(self) -> None:
        if self._clock.monotonic() < self._next:
            return
        try:
            stored = self._stored()
        except (ConfigError, ValueError) as error:  # those that were known stay in force
            _log.warning("the budgets of the ledger cannot be read: %s", error)
        else:
            known = {budget.name: budget for budget in self._found}
            found = (self._read(name, options, known.get(name)) for name, options in stored)
            self._found = tuple(budget for budget in found if budget is not None)
        self._next = self._clock.monotonic() + EVERY

    @staticmethod
    def _read(name: str, options: str, known: Budget | None) -> Budget | None:
        try:
            return read_budget(name, options)
        except (ConfigError, ValueError) as error:  # the others hold all the same
            _log.warning("the budget “%s” of the ledger cannot be read: %s", name, error)
            return known


def read_budget(name: str, options: str) -> Budget:
    """A budget as a ledger keeps it. Raises `ConfigError` or `ValueError`."""
    fields = decode(options)
    if not isinstance(fields, dict):
        raise ValueError("its options are no table")  # noqa: TRY004 (it is data that is wrong, not a program)
    return Budget(**{**fields, "name": name})
