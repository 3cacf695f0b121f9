"""A corridor of Budget and Record alone, over a real ledger, with a provider that the test plays.

A token of a question costs 1,000 nano-dollars and one of an answer 10,000; a question has 100 tokens at most. So a
call with `max_tokens=90` reserves a tenth of a cent, and `ANSWERED` costs half of that.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import secrets
from collections.abc import Callable, Iterator
from typing import Any

from support.corridor import call_of
from support.shop import Shop
from tidegate.accounting.periods import Calendar
from tidegate.accounting.prices import Price, Quote
from tidegate.accounting.reports import LedgerRow
from tidegate.chat.reply import Chunk, Completion, Reply, Stream
from tidegate.chat.usage import Usage
from tidegate.clock import SYSTEM_CLOCK, Clock
from tidegate.pipeline.call import Call
from tidegate.pipeline.chain import fold
from tidegate.pipeline.events import Event
from tidegate.policies.budget import BudgetPolicy, Prices
from tidegate.policies.budget_alerts import Alarm
from tidegate.policies.budget_options import Budget
from tidegate.policies.record import RecordPolicy

PRICE = Price(input="1", output="10")
FREE = Price(input=0, output=0)
WORST = 1_000_000
"""Nano-dollars that a call with `max_tokens=90` reserves."""
ANSWERED = Usage(100, 40)
COST = 500_000
"""Nano-dollars of `ANSWERED`."""

Provider = Callable[[Call], Reply]


def answer(usage: Usage | None = ANSWERED, **rest: Any) -> Completion:
    return Completion("Hello.", "openai", "gpt-4o-mini-2024", finish_reason="stop", usage=usage, **rest)


class Source:
    """Chunks of a stream, one after the other; a `BaseException` among them is raised."""

    def __init__(self, *items: str | BaseException, usage: Usage | None = ANSWERED) -> None:
        self._items = iter(items)
        self._usage = usage
        self._index = itertools.count()

    def next_chunk(self) -> Chunk | None:
        item = next(self._items, None)
        if isinstance(item, BaseException):
            raise item
        return None if item is None else Chunk(item, next(self._index), 0.0)

    def close(self) -> None:
        pass

    def completion(self, *, interrupted: bool) -> Completion:
        return answer(self._usage, interrupted=interrupted)


class Priced:
    """Budgets in force, and what passes them."""

    def __init__(
        self,
        url: str,
        *budgets: Budget,
        clock: Clock = SYSTEM_CLOCK,
        price: Price | None = PRICE,
        tz: str = "UTC",
        **options: Any,
    ) -> None:
        self.clock = clock
        self.shop = Shop(url, clock=clock)
        self.ledger = self.shop.ledger
        self.events: list[Event] = []
        self.sent: list[Call] = []
        self.provider: Provider = lambda _call: answer()
        calendar = Calendar(tz)
        quote: Quote | None = None if price is None else price.quote()
        self.alarm = Alarm(lambda: self.shop.till, calendar, self.events.append)
        self.ledger.store.on_spent(self.alarm.on_spent)
        record = RecordPolicy(
            self.ledger,
            quote=lambda _provider, _models: quote,
            count_input=lambda _call: 100,
            run=options.get("run"),
            clock=clock,
        )
        budget = BudgetPolicy(
            lambda: budgets,
            money=options.pop("money", lambda: self.shop.till),
            release=self.shop.release,
            prices=Prices(lambda _provider, _models: quote, lambda _call: 100),
            calendar=calendar,
            alarm=self.alarm,
            clock=clock,
            **options,
        )
        self._proceed = fold((budget, record), self._send)
        self._name = secrets.token_hex(4)
        self._ids = itertools.count(1)

    def _send(self, call: Call) -> Reply:
        self.sent.append(call)
        call.trace.sent = True
        return self.provider(call)

    def call(self, *, max_tokens: int | None = 90, options: dict[str, Any] | None = None, **rest: Any) -> Call:
        call = call_of(clock=self.clock, **rest)
        request = dataclasses.replace(call.request, max_tokens=max_tokens, options=options or {})
        return dataclasses.replace(call, id=f"{self._name}-{next(self._ids)}", request=request)

    def ask(self, call: Call | None = None, **rest: Any) -> Reply:
        """Send a call, whose `rest` is as in `call`."""
        return self._proceed(self.call(**rest) if call is None else call)

    def stream(self, *items: str | BaseException, usage: Usage | None = ANSWERED, **rest: Any) -> Stream:
        self.provider = lambda _call: Stream(Source(*items, usage=usage))
        reply = self.ask(**rest)
        assert isinstance(reply, Stream)
        return reply

    def rows(self) -> list[LedgerRow]:
        return list(self.ledger.records())

    def settled(self) -> dict[str, tuple[int, int]]:
        """What is spent and reserved of each purse, by its owner's name, once all is written."""
        self.ledger.flush()
        return {scope.partition(" ")[2]: found for scope, found in self.shop.purses().items()}

    def close(self) -> None:
        self.ledger.flush_quietly()
        self.alarm.close()
        self.shop.close()


@contextlib.contextmanager
def priced(url: str, *budgets: Budget, **options: Any) -> Iterator[Priced]:
    with contextlib.closing(Priced(url, *budgets, **options)) as opened:
        yield opened
