"""Prices that the user names."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tidegate.accounting.prices import Price, PriceBook, check_prices
from tidegate.chat.usage import Usage
from tidegate.errors import ConfigError

USAGE = Usage(1_000_000, 100_000, 200_000, 300_000, 40_000)


@pytest.mark.parametrize("amount", ["0.15", Decimal("0.15"), 0.15])
def test_L5_an_amount_is_what_it_is_written_as(amount: Any) -> None:  # noqa: ANN401 (each kind that is taken)
    """A float too: TOML has them."""
    assert Price(input=amount, output=1).input == Decimal("0.15")


def test_what_is_not_named_costs_as_much_as_the_rest_of_its_side() -> None:
    quote = Price(input=1, output=10).quote()
    assert quote.cost(USAGE) == Decimal(1) + Decimal(1)


def test_each_kind_of_token_and_each_request_may_have_its_price() -> None:
    quote = Price(input="1", output="10", cached="0.1", cache_write="1.25", reasoning="20", request="5").quote()
    parts = ["0.5", "0.02", "0.375", "0.6", "0.8", "0.005"]
    assert quote.cost(USAGE) == sum(map(Decimal, parts))
    assert quote.source == "override"


def test_a_long_question_may_cost_more() -> None:
    price = Price(input=1, output=1, above={200: Price(input=2, output=3), "400": {"input": 4, "output": 4}})
    quote = price.quote()
    costs = [quote.cost_nano(Usage(tokens, 1)) for tokens in (200, 201, 400, 401)]
    assert costs == [200_000 + 1_000, 402_000 + 3_000, 800_000 + 3_000, 1_604_000 + 4_000]


_WRONG = [
    True,
    "NaN",
    "sNaN",
    "Infinity",
    float("nan"),
    float("inf"),
    "-0.01",
    -1,
    "1000001",
    "0.0000000000001",
    "",
    "one",
]


@pytest.mark.parametrize("amount", _WRONG)
@pytest.mark.parametrize("field", ["input", "output", "cached", "cache_write", "reasoning", "request"])
def test_L5_what_is_no_amount_is_refused_by_the_name_of_its_field(field: str, amount: Any) -> None:  # noqa: ANN401
    fields = {"input": 1, "output": 1, field: amount}
    with pytest.raises(ConfigError, match=f"{field}=…"):
        Price(**fields)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"input": 1}, "output"),
        ({"input": 1, "output": 1, "cashed": 1}, "did you mean `cached`"),
        ({"input": 1, "output": 1, "above": {0: Price(input=1, output=1)}}, "above"),
        (
            {"input": 1, "output": 1, "above": {1: {"input": 1, "output": 1, "above": {2: Price(input=1, output=1)}}}},
            "above",
        ),
        ({"input": 1, "output": 1, "above": {1: {"input": -1, "output": 1}}}, "input"),
    ],
)
def test_a_price_that_cannot_be_meant_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Price(**fields)


PRICE = Price(input=1, output=1)


@pytest.mark.parametrize("key", ["gpt-4o", "/gpt-4o", "openai/", "*/gpt-4o", "openai/gpt-*-mini", "", 7])
def test_a_key_that_names_no_model_is_refused(key: Any) -> None:  # noqa: ANN401 (whatever somebody passes)
    for refuse in (PriceBook, lambda prices: check_prices(prices, ["openai"])):
        with pytest.raises(ConfigError, match="a key is written `provider/model`"):
            refuse({key: PRICE})


def test_a_mistyped_provider_is_refused_with_the_nearest() -> None:
    check_prices({"openai/x": PRICE, "openai/*": PRICE, "openrouter/meta/llama-*": PRICE}, ["openai", "openrouter"])
    with pytest.raises(ConfigError, match="did you mean `openai`"):
        check_prices({"opnai/x": PRICE}, ["openai", "openrouter"])


def test_a_value_that_is_no_price_is_refused() -> None:
    with pytest.raises(ConfigError, match="openai/x"):
        PriceBook({"openai/x": "0.15"})  # type: ignore[dict-item]
