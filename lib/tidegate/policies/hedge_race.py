"""Two requests for one answer: whichever opens first is the call's, and the other is ended at once.

The first leg is carried by the call's own thread. When it has not opened in time, the watchdog starts a thread for the
second: a call that is answered in time costs an entry in a heap, and no thread.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable

from tidegate.chat.reply import Chunk, Completion, Ending, Reply, Stream
from tidegate.chat.timeline import Trace
from tidegate.clock import CancelToken, Clock
from tidegate.errors import CallError, Cancelled
from tidegate.pipeline.call import Call, Route
from tidegate.pipeline.chain import Proceed
from tidegate.pipeline.events import Event, HedgeSent
from tidegate.policies.hedge_budget import HedgeAccount
from tidegate.transport.watchdog import WATCHDOG, Guard

SETTLED_WITHIN = 0.02
"""Seconds for which the end of a call waits at most for the leg that was cancelled, so that its record is whole."""


class Leg:
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


class Race:
    """One call, and at most one hedge of it.

    The first leg uses the call's own trace, for its thread is the caller's; the hedge has one of its own, of which the
    attempts are taken over.
    """

    def __init__(
        self,
        call: Call,
        proceed: Proceed,
        *,
        wait: float | None,
        account: HedgeAccount,
        may_hedge: Callable[[Route], bool],
        announce: Callable[[Event], None],
        clock: Clock,
    ) -> None:
        """`wait` is in seconds, None for no hedge; `may_hedge` is asked in the watchdog's thread."""
        self._call = call
        self._proceed = proceed
        self._wait = wait
        self._account = account
        self._may_hedge = may_hedge
        self._announce = announce
        self._clock = clock
        self._lock = threading.Lock()
        self._winner: Leg | None = None
        self._decided = self._collected = False
        self._timer = Guard(WATCHDOG)
        self._first = Leg(call, call.trace)
        self._first_token_at = call.trace.first_token_at
        self._hedge: Leg | None = None

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

    def _reply_of(self, hedge: Leg) -> Reply | None:
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
        return Stream(Adopted(trace, reply))

    def _claim(self, leg: Leg | None) -> bool:
        """Whether `leg` is the first to say that it has opened; None when nobody shall any more."""
        with self._lock:
            if self._decided:
                return False
            self._decided, self._winner = True, leg
            return True

    def _note_time(self) -> None:
        since = self._first.departed_at
        if since is not None:
            self._account.took(self._clock.monotonic() - since, streamed=self._call.streamed)

    # The hedge

    def _first_departs(self) -> None:
        """The first leg is about to be sent: the time runs, unless too little of it is left for a second one."""
        self._first.departed_at = self._clock.monotonic()
        if self._wait is not None and self._call.deadline.remaining() >= 2 * self._wait:
            self._timer.wake_by(self._late)
            self._timer.until(self._timer.now() + self._wait, "deadline")

    def _late(self) -> None:
        """In the watchdog's thread: start the hedge, if there may be one. `_timer.finish` waits until this is done."""
        call, account, now = self._call, self._account, self._clock.monotonic()
        if call.cancel.cancelled or not self._may_hedge(call.route) or not account.spend(now):
            return
        self._hedge = hedge = Leg(call, Trace(self._clock.monotonic))
        thread = threading.Thread(target=self._carry, args=(hedge,), name="tidegate-hedge", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads, or the interpreter ends
            self._hedge = None
            hedge.untie()
            account.give_back(now)

    def _carry(self, hedge: Leg) -> None:
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

    def _finish(self, hedge: Leg) -> None:
        reply = hedge.reply
        if reply is not None and self._claim(hedge):
            self._first.cancel.cancel()
        elif isinstance(reply, Stream):
            reply.close()
        if self._winner is not hedge:
            hedge.reply = None
        if hedge.departed_at is None:
            now = self._clock.monotonic()
            self._account.give_back(now if hedge.cancel.cancelled else now + (self._wait or 0.0))
        hedge.over.set()
        if self._collected:
            self._take_over(hedge)

    def _hedge_departs(self, hedge: Leg) -> None:
        hedge.cancel.raise_if_cancelled()
        hedge.departed_at = self._clock.monotonic()
        waited = hedge.departed_at - (self._first.departed_at or hedge.departed_at)
        self._announce(HedgeSent(self._call, waited))

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

    def _collect(self, hedge: Leg) -> None:
        """Take over what the hedge tried; if it is still ending then, it is added when it has."""
        self._collected = True
        hedge.over.wait(SETTLED_WITHIN)
        self._take_over(hedge)

    def _take_over(self, hedge: Leg) -> None:
        with self._lock:
            attempts, hedge.trace.attempts = hedge.trace.attempts, []
            self._call.trace.attempts += attempts


class Adopted:
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
