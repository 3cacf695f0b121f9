"""What a call would use and cost, before it is made."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Generic, TypeVar

from tidegate.accounting.money import dollar_text, dollars_of
from tidegate.accounting.quotes import Quote
from tidegate.chat.usage import Usage

T = TypeVar("T", int, Decimal)


@dataclass(frozen=True, slots=True)
class Range(Generic[T]):
    """Three figures for one thing that is not known yet."""

    low: T
    likely: T
    high: T


@dataclass(frozen=True, slots=True)
class Estimate:
    """Tokens and US dollars of a call that was not made."""

    input_tokens: Range[int]
    """Of the question; `low` and `likely` are the same; `high` is what a budget sets aside."""
    output_tokens: Range[int]
    """Of the answer."""
    cost: Range[Decimal] | None
    """In US dollars; `high` is what a budget would reserve. What a prompt cache saves is in none of them. None: the
    model's price is not known."""
    exact: bool
    """Whether the tokens of the question were counted with the model's own tokenizer."""
    price_source: str | None
    """Who says so, such as `genai-prices 0.2.3`."""

    def __str__(self) -> str:
        into, out = self.input_tokens, self.output_tokens
        question = f"{into.likely:,} tokens in" if self.exact else f"about {into.likely:,} tokens in"
        if into.high != into.likely:
            question += f" (at most {into.high:,})"
        answer = f"about {out.likely:,} out ({out.low:,} to {out.high:,})"
        return f"{question}, {answer}, {self._dollars()}"

    def _dollars(self) -> str:
        if self.cost is None:
            return "price unknown"
        if not self.cost.high:
            return "$0"
        return f"about {dollar_text(self.cost.likely)} (at most {dollar_text(self.cost.high)})"


def estimate_of(
    input: tuple[int, int],  # noqa: A002 (the word that everybody uses)
    output: tuple[int, int, int],
    quote: Quote | None,
    *,
    exact: bool = False,
) -> Estimate:
    """From `input` as (likely, highest), `output` as (low, likely, high) and the model's price, if it is known."""
    into = Range(input[0], input[0], max(input))
    low, likely, high = sorted(output)
    out = Range(low, likely, high)
    if quote is None:
        return Estimate(into, out, None, exact, None)
    return Estimate(into, out, _cost(into, out, quote), exact, quote.source)


def _cost(into: Range[int], out: Range[int], quote: Quote) -> Range[Decimal]:
    return Range(
        quote.cost(Usage(into.low, out.low)),
        quote.cost(Usage(into.likely, out.likely)),
        dollars_of(quote.worst_nano(into.high, out.high)),
    )
