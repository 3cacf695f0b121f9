"""What the corridor tells its listeners: one frozen record for each attempt and each call."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tidegate.attempts import Attempt
    from tidegate.chat.reply import Completion
    from tidegate.errors import CallError
    from tidegate.pipeline.call import Call, Route

_log = logging.getLogger("tidegate")


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """A request to a provider was answered, or failed."""

    call: Call
    attempt: Attempt
    error: CallError | None


@dataclass(frozen=True, slots=True)
class RetryScheduled:
    """An attempt failed; another follows after `delay` seconds."""

    call: Call
    error: CallError
    delay: float


@dataclass(frozen=True, slots=True)
class HedgeSent:
    """An answer had not opened `after` seconds after it was asked for; a second request was sent beside the first."""

    call: Call
    after: float


@dataclass(frozen=True, slots=True)
class FellBack:
    """A route could not answer; another is asked."""

    call: Call
    error: CallError
    following: Route


@dataclass(frozen=True, slots=True)
class BudgetAlert:
    """So much of a budget is used, for the first time in its period. Money is in US dollars."""

    budget: str
    """Which one, in words."""
    share: float
    """Of the budget: 0.8 for four fifths. 1.0 also when a call was refused and nine tenths were spent."""
    spent: Decimal
    usd: Decimal
    """The whole budget."""
    renews_at: dt.datetime | None
    """When it begins anew; None: never."""


@dataclass(frozen=True, slots=True)
class CallEnded:
    """A call is over. `completion` is what there is of the answer, `error` None when it is whole."""

    call: Call
    completion: Completion | None
    error: CallError | None


Event = AttemptEnded | RetryScheduled | HedgeSent | FellBack | BudgetAlert | CallEnded
Listener = Callable[[Event], None]


class Announcer:
    """Passes events on. A listener that raises is logged, and never breaks a call."""

    def __init__(self, listeners: Iterable[Listener] = ()) -> None:
        self._listeners = tuple(listeners)

    def __call__(self, event: Event) -> None:
        """Tell every listener."""
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:  # noqa: BLE001 (a listener is the program's code: it must not cost the answer)
                _log.warning("a listener failed on %s", type(event).__name__, exc_info=True)
