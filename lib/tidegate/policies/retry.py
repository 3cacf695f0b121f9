"""Ask again when that can help: which failures, after how long, and never past the deadline."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable

from tidegate.backoff import RETRY_AFTER_SPREAD, Backoff
from tidegate.chat.reply import Reply, Stream
from tidegate.clock import SYSTEM_CLOCK, Clock
from tidegate.errors import CallError, Cancelled, DeadlineExceeded, FirstTokenTimeout, RateLimited, StreamInterrupted
from tidegate.options import Count, Options, Seconds
from tidegate.pipeline.call import Call
from tidegate.pipeline.chain import Proceed
from tidegate.pipeline.events import Event, RetryScheduled
from tidegate.policies.restarting import Restarting
from tidegate.policies.retry_budget import RETRY_BUDGETS, RetryBudgets

__all__ = ["RETRY_AFTER_SPREAD", "Retry", "RetryPolicy"]


class Retry(Options):
    """How failures are retried: exponential backoff with full jitter, or the provider's own Retry-After.

    The wait before attempt n+1 is drawn evenly from 0 to `min(longest, first * factor ** (n - 1))` seconds (full
    jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    """

    attempts: Count = 4
    """Requests sent at most for one call, the first included."""
    first: Seconds = 0.5
    """Upper bound of the first wait, in seconds."""
    factor: Seconds = 2.0
    """By how much the bound grows with each attempt."""
    longest: Seconds = 20.0
    """The bound grows no further, in seconds. A Retry-After may be longer."""
    budget: bool = True
    """Take retries from what the route may cost the whole process (see `retry_budget`): in an outage one for ten calls,
    about."""


class RetryPolicy:
    """Carries a call again after a failure that is worth it."""

    def __init__(
        self,
        options: Retry,
        *,
        announce: Callable[[Event], None] = lambda _: None,
        clock: Clock = SYSTEM_CLOCK,
        chance: random.Random | None = None,
        budgets: RetryBudgets | None = None,
    ) -> None:
        self._options = options
        self._backoff = Backoff(options.first, options.factor, options.longest)
        self._announce = announce
        self._clock = clock
        # Those of the process go by its own clock.
        self._budgets = budgets or (RETRY_BUDGETS if clock is SYSTEM_CLOCK else RetryBudgets(clock))
        self._chance = chance or random.Random()  # noqa: S311 (spreads load, guards nothing)

    def __call__(self, call: Call, proceed: Proceed) -> Reply:
        """The reply, after as many attempts as it takes and the options allow."""
        self._budgets.earn(call.route)
        reply = self._opened(call, proceed)
        if isinstance(reply, Stream) and call.recover == "restart":
            return Stream(Restarting(call, reply, lambda broken, error: self._again(broken, error, proceed)))
        return reply

    def _again(self, call: Call, error: CallError, proceed: Proceed) -> tuple[Call, Reply]:
        """Another attempt after one that broke off. Raises what ended the last one when there is to be none."""
        while True:
            call = self.next_attempt(call, error)
            try:
                return call, proceed(call)
            except (Cancelled, DeadlineExceeded):
                raise
            except CallError as caught:
                cause = caught
            error = StreamInterrupted.because(cause)
            error.__cause__ = cause

    def _opened(self, call: Call, proceed: Proceed) -> Reply:
        while True:
            try:
                return proceed(call)
            except CallError as caught:
                error = caught
            call = self.next_attempt(call, error)

    def next_attempt(self, call: Call, error: CallError) -> Call:
        """Wait, and answer the call of the next attempt. Raises `error` when there is to be none."""
        if not error.retryable or call.attempt >= self._options.attempts:
            raise error
        if call.alternatives and isinstance(error, FirstTokenTimeout):
            raise error  # it is silent, and another route may not be
        delay = self._backoff.wait(call.attempt, error.retry_after, self._chance)
        if delay >= call.deadline.remaining():
            raise error  # the next attempt could not even begin: say now what went wrong
        if not self._affordable(call, error):
            raise error  # so many calls of this route fail that asking again would only make it worse
        self._announce(RetryScheduled(call, error, delay))
        call.trace.enter("backoff")
        self._clock.wait(call.cancel.event, delay)
        call.trace.enter("own")
        call.cancel.raise_if_cancelled()
        return dataclasses.replace(call, attempt=call.attempt + 1)

    def _affordable(self, call: Call, error: CallError) -> bool:
        """A refusal for pace is no outage: the gate sees to it that asking again is not too much."""
        return not self._options.budget or isinstance(error, RateLimited) or self._budgets.spend(call.route)

    def __repr__(self) -> str:
        return f"Retry(attempts={self._options.attempts})"
