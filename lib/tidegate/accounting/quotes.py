"""A price, ready to be multiplied: a whole number for each kind of token, so that a cost is exact and takes half a µs.

The calculation of `genai-prices` takes 60 µs; a test proves that both say the same, to the nano-dollar.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple, Self

from tidegate.accounting.money import dollars_of
from tidegate.chat.usage import Usage
from tidegate.errors import ConfigError

_NANO_A_TOKEN = 1000
"""A dollar for a million tokens is so many nano-dollars for one."""
_NANO_A_REQUEST = 1_000_000
"""A dollar for a thousand requests is so many nano-dollars for one."""


class Tariff(NamedTuple):
    """US dollars for a million tokens of each kind. What is not said costs as much as other tokens of its side."""

    input: Decimal
    output: Decimal | None
    """None: answers have no price, as with models that embed text."""
    cached: Decimal | None = None
    """Input read from the provider's prompt cache."""
    written: Decimal | None = None
    """Input written to it."""
    reasoning: Decimal | None = None
    """Output that was thought, not shown."""
    request: Decimal | None = None
    """For a thousand requests, beside their tokens."""


class _Rates(NamedTuple):
    """A tariff in whole parts of a nano-dollar, for one token of each kind and one request."""

    input: int
    cached: int
    written: int
    output: int
    reasoning: int
    request: int


class Quote:
    """What one model's tokens cost. Immutable, so shared by threads."""

    __slots__ = ("_parts", "_rates", "_starts", "answers", "date", "source")

    def __init__(
        self,
        tariff: Tariff,
        above: Mapping[int, Tariff] | None = None,
        *,
        source: str,
        date: str | None = None,
    ) -> None:
        """`above`: what all of a call's tokens cost when its question has more than so many."""
        above = above or {}
        self.source = source
        """Who says so: `genai-prices 0.2.3`, `override` or `free`."""
        self.date = date
        """The day from which it holds or on which it was looked up, as ISO text; None where nobody says."""
        self.answers = tariff.output is not None
        """Whether the tokens of an answer have a price."""
        self._starts = tuple(sorted(above))
        exact = [_exact(each) for each in (tariff, *(above[start] for start in self._starts))]
        # So many parts of a nano-dollar that every rate is a whole number of them.
        self._parts = math.lcm(*(rate.denominator for rates in exact for rate in rates))
        self._rates = tuple(_Rates(*(int(rate * self._parts) for rate in rates)) for rates in exact)

    def cost_nano(self, usage: Usage) -> int:
        """Whole nano-dollars of what was used, halves to even. Raises `ConfigError` for a count that is none."""
        starts = self._starts
        total = _total(self._rates[bisect_left(starts, usage.input_tokens) if starts else 0], usage)
        if type(total) is not int:  # NaN is not below zero either
            raise ConfigError("a count of tokens is a whole number")
        return total if self._parts == 1 else _halves_to_even(total, self._parts)

    def cost(self, usage: Usage) -> Decimal:
        """The same in US dollars."""
        return dollars_of(self.cost_nano(usage))

    def worst_nano(self, input_tokens: int, output_tokens: int) -> int:
        """The most that a call with at most so many tokens can cost, in nano-dollars, rounded up.

        All of its question is uncached or written to the cache, whichever is dearer, all of its answer is thought or
        shown, whichever is dearer, at the dearest rates that a question of this length or a shorter one has.
        """
        reached = self._rates[: bisect_left(self._starts, input_tokens) + 1]
        total = max(
            input_tokens * max(rates.input, rates.cached, rates.written)
            + output_tokens * max(rates.output, rates.reasoning)
            + rates.request
            for rates in reached
        )
        return -(-total // self._parts)

    @classmethod
    def free(cls) -> Self:
        """Nothing is paid."""
        return cls(Tariff(Decimal(0), Decimal(0)), source="free")

    def __repr__(self) -> str:
        return f"Quote({self.source}{f', {self.date}' if self.date else ''})"


def _exact(tariff: Tariff) -> _ExactRates:
    output = tariff.output or Decimal(0)
    values = (
        tariff.input,
        _either(tariff.cached, tariff.input),
        _either(tariff.written, tariff.input),
        output,
        _either(tariff.reasoning, output),
    )
    request = Fraction(tariff.request or 0) * _NANO_A_REQUEST
    return (*(Fraction(value) * _NANO_A_TOKEN for value in values), request)


_ExactRates = tuple[Fraction, ...]


def _total(rates: _Rates, usage: Usage) -> int:
    into, out = usage.input_tokens, usage.output_tokens
    cached, written, thought = usage.cached_input_tokens, usage.cache_write_tokens, usage.reasoning_tokens
    if into < 0 or out < 0 or cached < 0 or written < 0 or thought < 0:
        raise ConfigError("a count of tokens is zero or more")
    if not cached and not written and not thought:
        return into * rates.input + out * rates.output + rates.request
    # A part is not more than the whole; where a provider says so, the part is paid for.
    return (
        max(0, into - cached - written) * rates.input
        + cached * rates.cached
        + written * rates.written
        + max(0, out - thought) * rates.output
        + thought * rates.reasoning
        + rates.request
    )


def _either(value: Decimal | None, otherwise: Decimal) -> Decimal:
    return otherwise if value is None else value


def _halves_to_even(total: int, parts: int) -> int:
    whole, rest = divmod(total, parts)
    return whole + (2 * rest > parts or (2 * rest == parts and whole % 2))
