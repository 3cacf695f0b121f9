"""What a call would cost."""

from __future__ import annotations

from decimal import Decimal

from tidegate.accounting.estimates import Range, estimate_of
from tidegate.accounting.money import dollars_of
from tidegate.accounting.quotes import Quote, Tariff

QUOTE = Quote(Tariff(Decimal(1), Decimal(10), written=Decimal("1.25")), source="genai-prices 0.2.3")


def test_the_high_cost_is_what_a_budget_would_reserve() -> None:
    estimate = estimate_of((1000, 1200), (1, 300, 4000), QUOTE)
    assert estimate.input_tokens == Range(1000, 1000, 1200)
    assert estimate.output_tokens == Range(1, 300, 4000)
    assert estimate.cost == Range(Decimal("0.00101"), Decimal("0.004"), dollars_of(QUOTE.worst_nano(1200, 4000)))
    assert estimate.price_source == "genai-prices 0.2.3"


def test_L6_without_a_price_the_tokens_are_told_and_the_cost_is_unknown() -> None:
    estimate = estimate_of((1000, 1000), (1, 300, 4000), None, exact=True)
    assert (estimate.cost, estimate.price_source) == (None, None)
    assert str(estimate) == "1,000 tokens in, about 300 out (1 to 4,000), price unknown"


def test_figures_are_in_order_whatever_was_expected() -> None:
    """An answer may be allowed to be shorter than those that were seen before."""
    estimate = estimate_of((1000, 900), (1, 300, 100), QUOTE)
    assert estimate.output_tokens == Range(1, 100, 300)
    assert estimate.input_tokens.high == 1000
    assert estimate.cost is not None
    assert estimate.cost.low <= estimate.cost.likely <= estimate.cost.high


def test_an_estimate_is_one_line_for_people() -> None:
    line = str(estimate_of((1000, 1200), (1, 300, 4000), QUOTE))
    assert line == "about 1,000 tokens in (at most 1,200), about 300 out (1 to 4,000), about $0.0040 (at most $0.042)"
    free = estimate_of((10, 10), (1, 2, 3), Quote.free(), exact=True)
    assert str(free) == "10 tokens in, about 2 out (1 to 3), $0"
