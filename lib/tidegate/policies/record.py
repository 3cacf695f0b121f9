"""Innermost of all: what each attempt used and cost goes into the ledger, whatever becomes of its answer."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, Protocol

from tidegate.accounting.entries import Entry
from tidegate.accounting.prices import Quote
from tidegate.chat.reply import Completion, Ending, Reply
from tidegate.chat.usage import Usage
from tidegate.clock import SYSTEM_CLOCK, Clock
from tidegate.errors import CallError, ConfigError, StreamInterrupted
from tidegate.pipeline.call import Booking, Call
from tidegate.pipeline.chain import Proceed

_MICRO = 1_000_000

_log = logging.getLogger("tidegate")

QuoteOf = Callable[[str, tuple[str, ...]], Quote | None]
"""`quote(provider, models)`: the price of the first of the models whose price is known."""
CountInput = Callable[[Call], int]
"""Tokens of a call's question, as far as they can be counted here."""


class Book(Protocol):
    """Where entries go: a ledger."""

    def post(self, entry: Entry) -> None:
        """Keep it. Never raises for what is wrong with the disk."""
        ...


class RecordPolicy:
    """One entry for each attempt that may have been billed.

    That is every one that was answered, and every one whose request had left when it broke off. What the provider
    itself refused is not billed by any of them.
    """

    def __init__(
        self,
        book: Book,
        *,
        quote: QuoteOf,
        count_input: CountInput,
        learn: Callable[[Call, Usage], None] = lambda _call, _usage: None,
        run: str | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """`learn` is told what providers say that a call used. `run` names the client in the entries."""
        self._book = book
        self._quote = quote
        self._count_input = count_input
        self._learn = learn
        self._run = run
        self._clock = clock

    def __call__(self, call: Call, proceed: Proceed) -> Reply:
        """The reply, which is posted when it is done."""
        booking = call.booking or Booking(next(call.numbers), int(self._clock.time() * _MICRO))
        began = self._clock.monotonic()
        call.trace.sent = False
        try:
            reply = proceed(call)
        except BaseException as error:
            if call.trace.sent and (not isinstance(error, CallError) or error.may_be_billed):
                self._post(call, booking, began, Usage(self._count_input(call), 0, estimated=True), None, error)
            raise
        reply.when_done(lambda ending: self._done(call, booking, began, ending))
        return reply

    def _done(self, call: Call, booking: Booking, began: float, ending: Ending) -> None:
        completion = ending.completion
        usage = completion.usage if completion is not None else None
        if usage is None:  # only where nothing counts
            usage = Usage(0, 0, estimated=True)
        self._post(call, booking, began, usage, completion, ending.error)
        if not usage.estimated:
            self._learn(call, usage)

    def _post(  # noqa: PLR0917 (all that is known of an attempt)
        self,
        call: Call,
        booking: Booking,
        began: float,
        usage: Usage,
        completion: Completion | None,
        error: BaseException | None,
    ) -> None:
        route, trace = call.route, call.trace
        answered = completion.model if completion is not None else None
        quote = self._quote(route.provider, (route.model,) if answered is None else (answered, route.model))
        first = trace.first_token_at
        known = functools.partial(
            Entry,
            call_id=call.id,
            attempt=booking.number,
            run=self._run,
            at=booking.at_us,
            provider=route.provider,
            model=route.model,
            answered=answered,
            task=call.task,
            tags=call.tags,
            price_source=None if quote is None else quote.source,
            price_date=None if quote is None else quote.date,
            duration_us=int((self._clock.monotonic() - began) * _MICRO),
            first_token_us=int((first - began) * _MICRO) if first is not None and first >= began else None,
            outcome=_outcome(error),
            reservation=booking.reservation,
        )
        try:
            entry = known(**_figures(usage, quote))
        except ConfigError as problem:  # more than any account could pay for: no reason to lose the answer
            _log.warning("what %s says that it used cannot be: %s", route, problem)
            entry = known(**_figures(Usage(self._count_input(call), 0, estimated=True), quote))
        self._book.post(entry)
        booking.kept = True

    def __repr__(self) -> str:
        return "Record"


def _figures(usage: Usage, quote: Quote | None) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens,
        "cached_tokens": usage.cached_input_tokens,
        "written_tokens": usage.cache_write_tokens,
        "output_tokens": usage.output_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "cost_nano": None if quote is None else quote.cost_nano(usage),
        "estimated": usage.estimated,
    }


def _outcome(error: BaseException | None) -> str:
    if error is None:
        return "ok"
    cause = error.__cause__ if isinstance(error, StreamInterrupted) and error.__cause__ else error
    return type(cause).__name__
