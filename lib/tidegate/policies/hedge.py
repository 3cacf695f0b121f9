"""Ask a second time when an answer is late, take whichever opens first, and end the other at once."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable

from tidegate.chat.reply import Reply
from tidegate.clock import SYSTEM_CLOCK, Clock
from tidegate.errors import ConfigError
from tidegate.forking import reset_in_child
from tidegate.options import Fraction, Options
from tidegate.pipeline.call import Call, Route
from tidegate.pipeline.chain import Proceed
from tidegate.pipeline.events import Event
from tidegate.policies.hedge_budget import HedgeAccount
from tidegate.policies.hedge_race import Race

_PERCENTILE = re.compile(r"p([5-9][0-9])", re.ASCII)


class Hedge(Options):
    """When a second request is sent for an answer that is late, and how many of them there may be."""

    after: float | str = "p95"
    """How long the first request is waited for: a percentile of the route's last 200 times, `"p50"` to `"p99"`, or a
    number of seconds. A time is from sending to a stream's first content, or to the whole of an answer that is not
    streamed; the two are kept apart. There is no hedge before 20 times are known."""
    extra: Fraction = 0.05
    """Hedges at most as a share of the route's calls, above 0, beside a reserve of 3."""

    def __init__(self, **fields: object) -> None:
        if "after" in fields:
            fields["after"] = _checked_after(fields["after"])
        super().__init__(**fields)
        if not self.extra:
            raise ConfigError("`Hedge(extra=…)`: input should be greater than 0; `hedge=None` switches hedges off")

    @property
    def share(self) -> float | None:
        """The percentile as a share of 1; None for a number of seconds."""
        return int(self.after[1:]) / 100 if isinstance(self.after, str) else None


def _checked_after(after: object) -> float | str:
    if isinstance(after, str) and _PERCENTILE.fullmatch(after):
        return after
    try:
        seconds = math.nan if isinstance(after, bool) or not isinstance(after, int | float | str) else float(after)
    except (ValueError, OverflowError):
        seconds = math.nan
    if 0 < seconds < math.inf:
        return seconds
    raise ConfigError('`Hedge(after=…)`: a percentile from "p50" to "p99", or a number of seconds above 0')


def telling_departure(dispatch: Proceed) -> Proceed:
    """`dispatch`, which says by `call.departing` that a call is about to be sent: the wait at the gate is over."""

    def depart(call: Call) -> Reply:
        if call.departing is not None:
            call.departing()
        return dispatch(call)

    return depart


class HedgePolicy:
    """Races a second request against one that is late."""

    def __init__(
        self,
        options: Hedge,
        *,
        may_hedge: Callable[[Route], bool] = lambda _: True,
        announce: Callable[[Event], None] = lambda _: None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """`may_hedge` is asked in the watchdog's thread, where nothing may wait."""
        self._options = options
        self.may_hedge = may_hedge
        self._announce = announce
        self._clock = clock
        self._renew()
        reset_in_child(self._renew)

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._accounts: dict[Route, HedgeAccount] = {}

    def __call__(self, call: Call, proceed: Proceed) -> Reply:
        """The reply that opened first. Raises what the first leg did when there is none."""
        account = self._account(call.route)
        if call.attempt == 1:
            account.earn()
        share = self._options.share
        wait = float(self._options.after) if share is None else account.usual(share, streamed=call.streamed)
        race = Race(
            call,
            proceed,
            wait=wait,
            account=account,
            may_hedge=self.may_hedge,
            announce=self._announce,
            clock=self._clock,
        )
        return race.run()

    def _account(self, route: Route) -> HedgeAccount:
        found = self._accounts.get(route)
        if found is None:
            with self._lock:
                found = self._accounts.setdefault(route, HedgeAccount(self._options.extra))
        return found

    def __repr__(self) -> str:
        return f"Hedge(after={self._options.after})"
