"""What calls cost: the prices that the user named, else those of the price tables."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal

from tidegate.accounting.price_options import Overrides, Price, check_prices
from tidegate.accounting.price_tables import ALWAYS, Found, ListedModel, Table, current_table
from tidegate.accounting.quotes import Quote
from tidegate.chat.usage import Usage
from tidegate.clock import SYSTEM_CLOCK, Clock
from tidegate.errors import ConfigError

__all__ = ["FREE", "ListedModel", "Price", "PriceBook", "Quote", "check_prices", "listed_models", "prices_source"]

FREE = frozenset({"local", "ollama", "llamacpp"})
"""Providers that run on the user's own machine."""

MOST_KEPT = 10_000
"""Names of models whose price is kept: a server may answer with a new one each time."""

_FREE = Quote.free()


class PriceBook:
    """Costs in US dollars; None for a model whose price nobody knows. Shared by threads."""

    def __init__(self, overrides: Mapping[str, Price] | None = None, *, clock: Clock = SYSTEM_CLOCK) -> None:
        """`overrides` by `provider/model`, or `provider/beginning*`. Raises `ConfigError` for any other key."""
        self._overrides = Overrides(overrides or {})
        self._clock = clock
        self._table: Table | None = None
        # Two threads may look the same price up at the same time, with the same result.
        self._kept: dict[tuple[str, tuple[str, ...]], Found] = {}

    def quote(
        self, provider: str, models: tuple[str, ...], at: dt.datetime | None = None, *, answers: bool = True
    ) -> Quote | None:
        """The price of the first of `models` whose price is known, now or `at` another moment.

        That is the one that answered, or else the one that was asked: an answer may name a version that the tables do
        not have. What the user named for any of them comes first. `answers=False` takes a price that has none for the
        tokens of an answer, as with models that embed text. Raises `ConfigError` for a moment without a time zone.
        """
        moment = self._clock.time() if at is None else _seconds(at)
        found = self._kept.get((provider, models))
        if found is None or not found.since <= moment < found.until:
            found = self._keep(provider, models, moment)
        quote = found.quote
        return quote if quote is None or quote.answers or not answers else None

    def cost(self, provider: str, models: tuple[str, ...], usage: Usage | None) -> Decimal | None:
        """What `usage` cost at `provider`, in whole nano-dollars; see `quote`."""
        quote = None if usage is None else self.quote(provider, models, answers=usage.output_tokens > 0)
        return None if quote is None or usage is None else quote.cost(usage)

    def _keep(self, provider: str, models: tuple[str, ...], moment: float) -> Found:
        if len(self._kept) >= MOST_KEPT:
            self._kept.clear()
        found = self._kept[provider, models] = self._look_up(provider, models, moment)
        return found

    def _look_up(self, provider: str, models: tuple[str, ...], moment: float) -> Found:
        quote = self._overrides.find(provider, models) or (_FREE if provider in FREE else None)
        since, until = -ALWAYS, ALWAYS
        for model in () if quote else models:
            if self._table is None:
                self._table = current_table()
            quote, *span = self._table.find(provider, model, moment)
            since, until = max(since, span[0]), min(until, span[1])
            if quote is not None:
                break
        return Found(quote, since, until)


def _seconds(at: dt.datetime) -> float:
    if at.tzinfo is None:
        raise ConfigError("a moment needs a time zone, such as `datetime.now(tz=UTC)`")
    return at.timestamp()


def listed_models(provider: str) -> list[ListedModel]:
    """The models of `provider` in the price tables by name, without those that are about to be withdrawn."""
    return current_table().listed(provider, SYSTEM_CLOCK.time())


def prices_source() -> str:
    """Which table is in use, such as `genai-prices 0.2.3`."""
    return current_table().source
