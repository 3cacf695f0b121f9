"""Ask a second time when an answer is late, take whichever opens first, and end the other at once.

The first leg is carried by the call's own thread. When it has not opened in time, the watchdog starts a thread for the
second: a call that is answered in time costs an entry in a heap, and no thread.
"""

from __future__ import annotations

import dataclasses
import math
import re
import threading
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable

from tidegate.chat.reply import Chunk, Completion, Ending, Reply, Stream
from tidegate.chat.timeline import Trace
from tidegate.clock import SYSTEM_CLOCK, CancelToken, Clock
from tidegate.errors import CallError, Cancelled, ConfigError
from tidegate.forking import reset_in_child
from tidegate.options import Fraction, Options
from tidegate.pipeline.call import Call, Route
from tidegate.pipeline.chain import Proceed
from tidegate.pipeline.events import Event, HedgeSent
from tidegate.transport.watchdog import WATCHDOG, Guard

RESERVE = 3.0
"""Hedges that a route has to begin with, beside the share that its calls earn."""

MOST = 10.0
"""Hedges that can be saved up: after a long calm an outage must not meet with a burst of them."""

SAMPLES, ENOUGH = 200, 20
"""Times that a percentile is taken of, and how many there must be: below 20 the 95th is no more than the largest."""

SETTLED_WITHIN = 0.02
"""Seconds for which the end of a call waits at most for the leg that was cancelled, so that its record is whole."""

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
        self.announce = announce
        self.clock = clock
        self._renew()
        reset_in_child(self._renew)

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._accounts: dict[Route, _Account] = {}

    def __call__(self, call: Call, proceed: Proceed) -> Reply:
        """The reply that opened first. Raises what the first leg did when there is none."""
        account = self._account(call.route)
        if call.attempt == 1:
            account.earn()
        share = self._options.share
        wait = float(self._options.after) if share is None else account.usual(share, streamed=call.streamed)
        return _Race(self, account, call, proceed, wait).run()

    def _account(self, route: Route) -> _Account:
        found = self._accounts.get(route)
        if found is None:
            with self._lock:
                found = self._accounts.setdefault(route, _Account(self._options.extra))
        return found

    def __repr__(self) -> str:
        return f"Hedge(after={self._options.after})"


class _Account:
    """What one route's hedges go by: how long its replies took lately, and how many it may still cost."""

    def __init__(self, extra: float) -> None:
        self._lock = threading.Lock()
        self._extra = extra
        self._left = RESERVE
        self._not_before = -math.inf
        self._times = {True: _Times(), False: _Times()}

    def earn(self) -> None:
        """A call begins."""
        with self._lock:
            self._left = min(MOST, self._left + self._extra)

    def spend(self, now: float) -> bool:
        """Pay for a hedge; says whether there may be one."""
        with self._lock:
            if self._left < 1.0 or now < self._not_before:
                return False
            self._left -= 1.0
            return True

    def give_back(self, not_before: float) -> None:
        """A hedge was not sent after all. Where one was not let in the next would not be: none before that moment."""
        with self._lock:
            self._left = min(MOST, self._left + 1.0)
            self._not_before = max(self._not_before, not_before)

    def took(self, seconds: float, *, streamed: bool) -> None:
        """A reply has opened."""
        with self._lock:
            self._times[streamed].add(seconds)

    def usual(self, share: float, *, streamed: bool) -> float | None:
        """Seconds within which that share of the replies opened; None while too few are known."""
        with self._lock:
            return self._times[streamed].percentile(share)


class _Times:
    """The last times, in the order in which they came and in that of their size."""

    def __init__(self) -> None:
        self._latest: deque[float] = deque()
        self._ordered: list[float] = []

    def add(self, seconds: float) -> None:
        if len(self._latest) == SAMPLES:
            del self._ordered[bisect_left(self._ordered, self._latest.popleft())]
        self._latest.append(seconds)
        insort(self._ordered, seconds)

    def percentile(self, share: float) -> float | None:
        count = len(self._ordered)
        return self._ordered[math.ceil(share * count) - 1] if count >= ENOUGH else None


class _Leg:
    """One of the two requests of a call: what ends it, and what is known of it."""

    __slots__ = ("cancel", "departed_at", "over", "reply", "trace", "untie")

    def __init__(self, call: Call, trace: Trace) -> None:
        self.cancel = CancelToken()
        self.untie = call.cancel.on_cancel(self.cancel.cancel)
        self.trace = trace
        self.departed_at: float | None = None
        self.reply: Reply | None = None
        self.over = threading.Event()
        """Set when it has opened or failed, in a thread of its own."""


class _Race:
    """One call, and at most one hedge of it.

    The first leg uses the call's own trace, for its thread is the caller's; the hedge has one of its own, of which the
    attempts are taken over.
    """

    def __init__(
        self, policy: HedgePolicy, account: _Account, call: Call, proceed: Proceed, wait: float | None
    ) -> None:
        self._policy = policy
        self._account = account
        self._call = call
        self._proceed = proceed
        self._wait = wait
        self._lock = threading.Lock()
        self._winner: _Leg | None = None
        self._decided = self._collected = False
        self._timer = Guard(WATCHDOG)
        self._first = _Leg(call, call.trace)
        self._first_token_at = call.trace.first_token_at
        self._hedge: _Leg | None = None

    def run(self) -> Reply:
        """The reply that opened first."""
        try:
            return self._run()
        except BaseException:  # Ctrl-C too, wherever it strikes
            self._give_up()
            raise

    def _run(self) -> Reply:
        first = dataclasses.replace(self._call, cancel=self._first.cancel, departing=self._first_departs)
        try:
            reply = self._proceed(first)
        except CallError as caught:
            error = caught
        else:
            return self._opened(reply)
        self._timer.finish()
        return self._second(error)

    def _opened(self, reply: Reply) -> Reply:
        """The first leg has opened: it has won, unless the hedge was a moment sooner."""
        self._timer.finish()  # from here on no hedge begins
        if not self._claim(self._first):
            if isinstance(reply, Stream):
                reply.close()
            return self._second(Cancelled("the hedge opened sooner"))
        self._note_time()
        if self._hedge is not None:
            self._hedge.cancel.cancel()
        reply.when_done(self._done)
        return reply

    def _second(self, error: CallError) -> Reply:
        """What becomes of the call without its first leg, which the hedge has ended, or which failed by itself."""
        reply = None if self._hedge is None else self._reply_of(self._hedge)
        if reply is None:
            self._call.cancel.raise_if_cancelled()
            raise error
        if isinstance(error, Cancelled):
            self._note_time()  # it would have taken longer: to leave it out would make late answers seem rare
        return self._adopted(reply)

    def _reply_of(self, hedge: _Leg) -> Reply | None:
        """Wait for it; None when it has failed too."""
        deadline = self._call.deadline
        self._call.trace.enter("first_token")
        deadline.clock.wait(hedge.over, deadline.remaining() + SETTLED_WITHIN)
        self._call.trace.enter("own")
        reply, hedge.reply = hedge.reply, None
        return reply

    def _adopted(self, reply: Reply) -> Reply:
        """The hedge's reply, as the call's own."""
        trace = self._call.trace
        if self._hedge is not None and self._first_token_at is None:
            trace.first_token_at = self._hedge.trace.first_token_at
        reply.when_done(self._done)
        if isinstance(reply, Completion):
            return dataclasses.replace(reply, trace=trace)
        trace.enter("consumer")
        return Stream(_Adopted(trace, reply))

    def _claim(self, leg: _Leg | None) -> bool:
        """Whether `leg` is the first to say that it has opened; None when nobody shall any more."""
        with self._lock:
            if self._decided:
                return False
            self._decided, self._winner = True, leg
            return True

    def _note_time(self) -> None:
        since = self._first.departed_at
        if since is not None:
            self._account.took(self._policy.clock.monotonic() - since, streamed=self._call.streamed)

    # The hedge

    def _first_departs(self) -> None:
        """The first leg is about to be sent: the time runs, unless too little of it is left for a second one."""
        self._first.departed_at = self._policy.clock.monotonic()
        if self._wait is not None and self._call.deadline.remaining() >= 2 * self._wait:
            self._timer.wake_by(self._late)
            self._timer.until(self._timer.now() + self._wait, "deadline")

    def _late(self) -> None:
        """In the watchdog's thread: start the hedge, if there may be one. `_timer.finish` waits until this is done."""
        call, account, now = self._call, self._account, self._policy.clock.monotonic()
        if call.cancel.cancelled or not self._policy.may_hedge(call.route) or not account.spend(now):
            return
        self._hedge = hedge = _Leg(call, Trace(self._policy.clock.monotonic))
        thread = threading.Thread(target=self._carry, args=(hedge,), name="tidegate-hedge", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads, or the interpreter ends
            self._hedge = None
            hedge.untie()
            account.give_back(now)

    def _carry(self, hedge: _Leg) -> None:
        """The hedge's thread."""
        call = dataclasses.replace(
            self._call,
            cancel=hedge.cancel,
            trace=hedge.trace,
            patient=False,
            departing=lambda: self._hedge_departs(hedge),
        )
        try:
            hedge.reply = self._proceed(call)
        except CallError:
            pass  # the first leg decides
        finally:
            self._finish(hedge)

    def _finish(self, hedge: _Leg) -> None:
        reply = hedge.reply
        if reply is not None and self._claim(hedge):
            self._first.cancel.cancel()
        elif isinstance(reply, Stream):
            reply.close()
        if self._winner is not hedge:
            hedge.reply = None
        if hedge.departed_at is None:
            self._account.give_back(self._policy.clock.monotonic() + (self._wait or 0.0))
        hedge.over.set()
        if self._collected:
            self._take_over(hedge)

    def _hedge_departs(self, hedge: _Leg) -> None:
        hedge.cancel.raise_if_cancelled()
        hedge.departed_at = self._policy.clock.monotonic()
        waited = hedge.departed_at - (self._first.departed_at or hedge.departed_at)
        self._policy.announce(HedgeSent(self._call, waited))

    # The end

    def _done(self, _ending: Ending) -> None:
        """The reply that won is over."""
        self._first.untie()
        if self._hedge is not None:
            self._hedge.untie()
            self._collect(self._hedge)

    def _give_up(self) -> None:
        """There is no reply: end whatever is still under way."""
        self._timer.finish()
        self._claim(None)
        self._first.cancel.cancel()
        self._first.untie()
        hedge = self._hedge
        if hedge is not None:
            hedge.cancel.cancel()
            hedge.untie()
            self._collect(hedge)
            reply, hedge.reply = hedge.reply, None
            if isinstance(reply, Stream):
                reply.close()

    def _collect(self, hedge: _Leg) -> None:
        """Take over what the hedge tried; if it is still ending then, it is added when it has."""
        self._collected = True
        hedge.over.wait(SETTLED_WITHIN)
        self._take_over(hedge)

    def _take_over(self, hedge: _Leg) -> None:
        with self._lock:
            attempts, hedge.trace.attempts = hedge.trace.attempts, []
            self._call.trace.attempts += attempts


class _Adopted:
    """The source of a stream that another thread opened with a watch of its own: told on the call's."""

    def __init__(self, trace: Trace, opened: Stream) -> None:
        self._trace = trace
        self._opened = opened

    def next_chunk(self) -> Chunk | None:
        """The next piece."""
        self._trace.enter("stream")
        chunk = next(self._opened, None)
        self._trace.enter("own" if chunk is None else "consumer")
        return chunk

    def close(self) -> None:
        """End it. From any thread."""
        self._opened.close()

    def completion(self, *, interrupted: bool) -> Completion:
        """The answer so far."""
        self._opened.close()
        return dataclasses.replace(self._opened.completion, interrupted=interrupted, trace=self._trace)
