"""Prices: ours equal the tables' own."""

from __future__ import annotations

from decimal import Decimal

import pytest
from genai_prices import Usage as TableUsage
from genai_prices import calc_price
from genai_prices.data_snapshot import get_snapshot

from tidegate.accounting.prices import PriceBook
from tidegate.chat.usage import Usage

USAGES = [Usage(1000, 500), Usage(1000, 500, 300), Usage(1000, 500, 300, 200), Usage(300_000, 10, 1000), Usage(0, 0)]
MODELS = [(provider.id, model.id) for provider in get_snapshot().providers for model in provider.models]


def _by_the_tables(provider: str, model: str, usage: Usage) -> Decimal | None:
    counts = TableUsage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cached_input_tokens,
        cache_write_tokens=usage.cache_write_tokens,
    )
    try:
        return calc_price(counts, model, provider_id=provider).total_price
    except (LookupError, ValueError):
        return None  # some rows cannot price these counts at all


def test_the_flat_price_is_the_tables_own_for_every_model() -> None:
    """A call's cost is computed without the library where the price is flat: it must not differ by a cent."""
    book = PriceBook()
    compared = 0
    for provider, model in MODELS:
        for usage in USAGES:
            expected = _by_the_tables(provider, model, usage)
            if expected is not None and provider != "ollama":
                assert book.cost(provider, (model,), usage) == expected, (provider, model, usage)
                compared += 1
    assert compared > 5_000


def test_an_unknown_price_is_none_and_never_zero() -> None:
    assert PriceBook().cost("openai", ("no-such-model-at-all",), Usage(10, 10)) is None
    assert PriceBook().cost("no-such-provider", ("gpt-4o",), Usage(10, 10)) is None


def test_without_usage_there_is_no_cost() -> None:
    assert PriceBook().cost("openai", ("gpt-4o-mini",), None) is None


def test_the_asked_model_counts_when_the_answered_one_is_unknown() -> None:
    book = PriceBook()
    asked = book.cost("openai", ("gpt-4o-mini",), Usage(1_000_000, 0))
    assert asked == Decimal("0.15")
    assert book.cost("openai", ("never-heard-of", "gpt-4o-mini"), Usage(1_000_000, 0)) == asked


@pytest.mark.parametrize("provider", ["local", "ollama", "llamacpp"])
def test_what_runs_on_ones_own_machine_is_free(provider: str) -> None:
    assert PriceBook().cost(provider, ("anything",), Usage(10, 10)) == Decimal(0)
