"""Prices that the user names: what they look like, which models they are for, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from decimal import Decimal
from typing import Any

from tidegate.accounting.quotes import Quote, Tariff
from tidegate.errors import ConfigError, nearest
from tidegate.options import Options

LARGEST_PRICE = Decimal(1_000_000)
"""US dollars for a million tokens: a dollar a token is surely a mistake of units."""

_DECIMALS = 12
_AMOUNTS = ("input", "output", "cached", "cache_write", "reasoning", "request")


class Price(Options):
    """What a model's tokens cost: US dollars for a million of them.

    Each is given as text (`"0.15"`), a whole number or a `Decimal`. A float, as TOML has them, counts as the number
    that it is written as: `0.15` is 0.15 exactly. Raises `ConfigError` naming the field for an amount that is negative,
    no number, above a million, or has more than twelve decimals.
    """

    input: Decimal
    output: Decimal
    cached: Decimal | None = None
    """Input read from the provider's prompt cache; as other input by default."""
    cache_write: Decimal | None = None
    """Input written to it; as other input by default."""
    reasoning: Decimal | None = None
    """Output that was thought and not shown; as other output by default."""
    request: Decimal | None = None
    """For a thousand requests, beside their tokens; nothing by default."""
    above: Mapping[int, Price] = {}
    """What all tokens of a call cost when its question has more than so many: `above={200_000: Price(…)}`."""

    def __init__(self, **fields: Any) -> None:
        for name in _AMOUNTS:
            if isinstance(fields.get(name), bool):
                raise _wrong(name, "an amount of US dollars is no truth value")
        super().__init__(**fields)
        for name in _AMOUNTS:
            _check_amount(name, getattr(self, name))
        for start, price in self.above.items():
            if start < 1 or price.above:
                raise _wrong("above", "prices by the tokens, one or more, that a question has more of; one level deep")

    def quote(self) -> Quote:
        """The price, ready to be multiplied."""
        above = {start: _tariff(price) for start, price in self.above.items()}
        return Quote(_tariff(self), above, source="override")


def _tariff(price: Price) -> Tariff:
    return Tariff(price.input, price.output, price.cached, price.cache_write, price.reasoning, price.request)


def _check_amount(name: str, value: Decimal | None) -> None:
    if value is None:
        return
    if not value.is_finite() or not 0 <= value <= LARGEST_PRICE:
        raise _wrong(name, "US dollars for a million tokens are zero or more, and at most a million")
    exponent = value.normalize().as_tuple().exponent
    if isinstance(exponent, int) and exponent < -_DECIMALS:
        raise _wrong(name, f"an amount of US dollars has at most {_DECIMALS} decimals")


def _wrong(name: str, problem: str) -> ConfigError:
    return ConfigError(f"`Price({name}=…)`: {problem}")


class Overrides:
    """Prices by model. A key is `provider/model`, or `provider/beginning*` for every model that begins so."""

    def __init__(self, prices: Mapping[str, Price]) -> None:
        """Raises `ConfigError` for a key that names no model, or a value that is no `Price`."""
        self._exact: dict[str, Quote] = {}
        self._beginnings: list[tuple[str, Quote]] = []
        for key, price in prices.items():
            _split(key)
            if not isinstance(price, Price):
                raise ConfigError(f"`prices`: `{key}` needs a `Price(input=…, output=…)`")
            if key.endswith("*"):
                self._beginnings.append((key[:-1], price.quote()))
            else:
                self._exact[key] = price.quote()
        self._beginnings.sort(key=lambda pair: -len(pair[0]))  # the longest says most

    def find(self, provider: str, models: tuple[str, ...]) -> Quote | None:
        """The price of any of the models, an exact name before a beginning."""
        if not self._exact and not self._beginnings:
            return None
        return next(self._all(provider, models), None)

    def _all(self, provider: str, models: tuple[str, ...]) -> Iterator[Quote]:
        names = [f"{provider}/{model}" for model in models]
        yield from (self._exact[name] for name in names if name in self._exact)
        for name in names:
            yield from (quote for beginning, quote in self._beginnings if name.startswith(beginning))


def check_prices(prices: Mapping[str, Price], providers: Collection[str]) -> None:
    """Raise `ConfigError` for a key that is not written `provider/model`, or whose provider is none of these."""
    for key in prices:
        provider = _split(key)
        if provider not in providers:
            known = f" (providers: {', '.join(providers)})"
            raise ConfigError(
                f"`prices`: unknown provider `{provider}` in `{key}`{nearest(provider, providers)}{known}"
            )


def _split(key: str) -> str:
    """The provider of a key."""
    provider, _, model = key.partition("/") if isinstance(key, str) else ("", "", "")
    if not provider or not model or "*" in provider or "*" in model[:-1]:
        raise ConfigError(f"`prices`: a key is written `provider/model`, or `provider/beginning*`, not {key!r}")
    return provider
