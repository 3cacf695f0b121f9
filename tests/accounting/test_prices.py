"""Prices: ours equal the tables' own, and an unknown one is unknown."""

from __future__ import annotations

import datetime as dt
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from decimal import Decimal
from typing import Any
from unittest.mock import Mock

import pytest
from genai_prices import Usage as TableUsage
from genai_prices import calc_price
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ConditionalPrice, ModelPrice, StartDateConstraint, TimeOfDateConstraint
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.accounting import prices as prices_module
from tidegate.accounting.money import dollars_of, nano_of
from tidegate.accounting.price_tables import Table
from tidegate.accounting.prices import Price, PriceBook, Quote
from tidegate.accounting.quotes import Tariff
from tidegate.chat.usage import Usage
from tidegate.errors import ConfigError
from tidegate.testing.clock import ManualClock

NOON = dt.datetime(2026, 11, 23, 12, 30, tzinfo=dt.UTC)
NIGHT = dt.datetime(2026, 11, 23, 1, 30, tzinfo=dt.UTC)

USAGES = [
    Usage(1001, 503),
    Usage(1000, 500, 301),
    Usage(1000, 500, 301, 203, 77),
    Usage(300_001, 11, 1000, 501, 3),
    *(Usage(tokens + more, 7, 3, 1, 2) for tokens in (32_000, 128_000, 200_000, 272_000) for more in (0, 1)),
    Usage(0, 0),
]
MODELS = [(provider.id, model) for provider in get_snapshot().providers for model in provider.models]


CONDITIONAL = [(provider, model) for provider, model in MODELS if isinstance(model.prices, list)]
BOOK = PriceBook()


def _by_the_tables(provider: str, model: str, usage: Usage, at: dt.datetime) -> int | None:
    counts = TableUsage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cached_input_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        output_reasoning_tokens=usage.reasoning_tokens,
    )
    try:
        found = calc_price(counts, model, provider_id=provider, genai_request_timestamp=at)
    except (LookupError, ValueError):
        return None
    return nano_of(found.total_price)


# As the tables


@pytest.mark.parametrize("at", [NOON, NIGHT, dt.datetime(2024, 2, 29, tzinfo=dt.UTC)])
def test_L5_a_cost_is_the_tables_own_to_the_nano_dollar_for_every_model(at: dt.datetime) -> None:
    """Costs are computed without the library: in tiers, by date, with cached, written and thought tokens."""
    book = PriceBook()
    compared, tiered = 0, set()
    for provider, model in MODELS:
        quote = book.quote(provider, (model.id,), at)
        if quote is None or quote.source == "free":
            continue
        costs = [quote.cost_nano(usage) for usage in USAGES]
        assert costs == [_by_the_tables(provider, model.id, usage, at) for usage in USAGES], (provider, model.id)
        compared += 1
        if quote._starts:
            tiered.add(model.id)
    assert compared > 2_000
    assert len(tiered) > 50


def test_L6_only_what_the_tables_have_no_price_of_tokens_for_is_unknown() -> None:
    snapshot, unknown = get_snapshot(), 0
    for provider, model in MODELS:
        if BOOK.quote(provider, (model.id,), NOON, answers=False) is None:
            with suppress(LookupError):  # some rows do not fit their own name
                _, found = snapshot.find_provider_model(model.id, None, provider, None)
                assert found.get_prices(NOON).input_mtok is None, (provider, model.id)
            unknown += 1
    assert unknown < len(MODELS) / 10


# Unknown


def test_L6_an_unknown_price_is_none_and_never_zero() -> None:
    book = PriceBook()
    for provider, model in [
        ("openai", "no-such-model-at-all"),
        ("no-such-provider", "gpt-4o"),
        ("compatible", "gpt-4o"),
    ]:
        assert book.quote(provider, (model,)) is None
        assert book.cost(provider, (model,), Usage(10, 10)) is None
    assert book.quote("openai", ()) is None


def test_L6_a_row_without_any_price_is_unknown_unless_its_name_says_free() -> None:
    book = PriceBook()
    assert book.cost("github-copilot", ("gpt-4o",), Usage(10, 10)) is None
    assert book.cost("mistral", ("mistral-nemo:free",), Usage(10, 10)) == 0


def test_L6_a_model_that_embeds_has_no_price_for_answers() -> None:
    book, model = PriceBook(), ("text-embedding-3-small",)
    assert book.quote("openai", model) is None
    assert book.cost("openai", model, Usage(1_000_000, 1)) is None
    assert book.cost("openai", model, Usage(1_000_000, 0)) == Decimal("0.02")
    assert book.quote("openai", model) is None


def test_without_usage_there_is_no_cost() -> None:
    assert PriceBook().cost("openai", ("gpt-4o-mini",), None) is None


def test_the_asked_model_counts_when_the_answered_one_is_unknown() -> None:
    book = PriceBook()
    asked = book.cost("openai", ("gpt-4o-mini",), Usage(1_000_000, 0))
    assert asked == Decimal("0.15")
    assert book.cost("openai", ("never-heard-of", "gpt-4o-mini"), Usage(1_000_000, 0)) == asked


@pytest.mark.parametrize("provider", ["local", "ollama", "llamacpp"])
def test_what_runs_on_ones_own_machine_is_free(provider: str) -> None:
    quote = PriceBook().quote(provider, ("anything",))
    assert quote is not None
    assert (quote.source, quote.date, quote.cost_nano(Usage(10, 10)), quote.worst_nano(10, 10)) == ("free", None, 0, 0)


def test_a_quote_says_who_says_so() -> None:
    quote = PriceBook().quote("openai", ("gpt-4o-mini",))
    assert quote is not None
    assert quote.source.startswith("genai-prices 0.")
    assert quote.date is None


# The user's own


def test_a_price_of_the_users_own_holds_for_the_name_that_was_asked() -> None:
    """The answer names a version that the tables have; the user's price is for the model all the same."""
    book = PriceBook({"openai/gpt-4o-mini": Price(input="1", output="2", cached="0.5")})
    quote = book.quote("openai", ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"))
    assert quote is not None
    assert (quote.source, quote.date) == ("override", None)
    assert quote.cost(Usage(1_000_000, 1_000_000, 200_000)) == Decimal("2.9")
    assert book.cost("openai", ("gpt-4o",), Usage(1_000_000, 0)) == Decimal("2.5")


def test_a_price_may_be_for_all_models_that_begin_so_and_the_longest_beginning_counts() -> None:
    prices = {"openai/*": "1", "openai/gpt-4*": "2", "openai/gpt-4o*": "3", "openai/gpt-4o-mini": "4"}
    book = PriceBook({key: Price(input=value, output="0") for key, value in prices.items()})
    for model, cost in [("x", 1), ("gpt-4.1", 2), ("gpt-4o-2024", 3), ("gpt-4o-mini", 4)]:
        assert book.cost("openai", (model,), Usage(1_000_000, 0)) == cost
    assert book.cost("groq", ("x",), Usage(1_000_000, 0)) is None


def test_a_price_of_the_users_own_holds_on_the_own_machine_too() -> None:
    book = PriceBook({"ollama/llama": Price(input="1", output="1")})
    assert book.cost("ollama", ("llama",), Usage(1_000_000, 0)) == 1
    assert book.cost("ollama", ("other",), Usage(1_000_000, 0)) == 0


# By date


def _table(*conditional: ConditionalPrice) -> Table:
    """A table whose one model costs what these say."""
    provider = next(each for each in get_snapshot().providers if each.id == "openai")
    template = next(model for model in provider.models if model.id == "gpt-4o-mini")
    return Table([_copy(provider, models=[_copy(template, prices=list(conditional))])], "a table", "2026-11-01")


def _price(dollars: str) -> ModelPrice:
    return ModelPrice(input_mtok=Decimal(dollars), output_mtok=Decimal(0))


NEW_YEAR = dt.datetime(2027, 1, 1, tzinfo=dt.UTC)
_DAYS = (
    ConditionalPrice(prices=_price("1")),
    ConditionalPrice(StartDateConstraint(NEW_YEAR.date()), prices=_price("2")),
)


def _copy(value: Any, **changes: Any) -> Any:  # noqa: ANN401 (any of the library's classes)
    return type(value)(**{**vars(value), **changes})


def test_a_kept_price_does_not_outlive_its_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long-lived process looks a price up again when another one comes into force, and only then."""
    table, clock = _table(*_DAYS), ManualClock(time=NEW_YEAR.timestamp() - 1)
    monkeypatch.setattr(prices_module, "current_table", lambda: table)
    looked_up = Mock(side_effect=table.find)
    monkeypatch.setattr(table, "find", looked_up)
    book = PriceBook(clock=clock)
    before = [book.quote("openai", ("gpt-4o-mini",)) for _ in range(2)]
    clock.advance(1)
    after = [book.quote("openai", ("gpt-4o-mini",)) for _ in range(2)]
    assert looked_up.call_count == 2
    assert [quote and (quote.cost_nano(Usage(1, 0)), quote.date) for quote in before] == [(1000, "2026-11-01")] * 2
    assert [quote and (quote.cost_nano(Usage(1, 0)), quote.date) for quote in after] == [(2000, "2027-01-01")] * 2


def test_a_clock_that_is_set_back_brings_the_earlier_price_back(monkeypatch: pytest.MonkeyPatch) -> None:
    table = _table(*_DAYS)
    monkeypatch.setattr(prices_module, "current_table", lambda: table)
    book = PriceBook()
    for days, cost in [(1, 2000), (-1, 1000), (1, 2000)]:
        quote = book.quote("openai", ("gpt-4o-mini",), NEW_YEAR + dt.timedelta(days))
        assert quote is not None
        assert quote.cost_nano(Usage(1, 0)) == cost


@settings(max_examples=20)
@given(st.datetimes(dt.datetime(2024, 1, 1), dt.datetime(2028, 1, 1), timezones=st.just(dt.UTC)))  # noqa: DTZ001
def test_prices_by_day_and_by_time_of_day_are_the_tables_own_at_any_moment(at: dt.datetime) -> None:
    """In the package's own table, for all models that have such prices."""
    quotes = {(p, model.id): BOOK.quote(p, (model.id,), at, answers=False) for p, model in CONDITIONAL}
    costs = {row: quote.cost_nano(USAGES[2]) for row, quote in quotes.items() if quote is not None}
    assert costs == {row: _by_the_tables(*row, USAGES[2], at) for row in costs}
    assert len(costs) > 100


def test_a_price_by_time_of_day_changes_at_its_hours() -> None:
    """Also where the hours reach over midnight."""
    hours = TimeOfDateConstraint(dt.time(22, 30, tzinfo=dt.UTC), dt.time(6, 0))
    table = _table(ConditionalPrice(prices=_price("2")), ConditionalPrice(hours, prices=_price("1")))
    moment = dt.datetime(2026, 11, 23, tzinfo=dt.UTC)
    spans = [table.find("openai", "gpt-4o-mini", (moment + dt.timedelta(hours=hour)).timestamp()) for hour in range(24)]
    costs = [found.quote and found.quote.cost_nano(Usage(1, 0)) for found in spans]
    assert costs == [1000] * 6 + [2000] * 17 + [1000]
    ends = [dt.datetime.fromtimestamp(found.until, tz=dt.UTC).strftime("%d %H:%M") for found in spans]
    assert ends == ["23 06:00"] * 6 + ["23 22:30"] * 17 + ["24 06:00"]
    assert {found.quote and found.quote.date for found in spans} == {"2026-11-01"}


def test_a_moment_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ConfigError, match="time zone"):
        PriceBook().quote("openai", ("gpt-4o",), dt.datetime(2026, 1, 1))  # noqa: DTZ001


# What is kept


def test_threads_that_look_one_price_up_at_once_all_have_it() -> None:
    book = PriceBook()
    with ThreadPoolExecutor(8) as pool:
        costs = set(pool.map(lambda _: book.cost("openai", ("gpt-4o-mini",), Usage(1000, 1000)), range(64)))
    assert costs == {Decimal("0.00075")}


def test_a_server_that_answers_with_ever_new_names_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prices_module, "MOST_KEPT", 10)
    book = PriceBook()
    for number in range(35):
        assert book.cost("openai", (f"odd-{number}", "gpt-4o-mini"), Usage(1_000_000, 0)) == Decimal("0.15")
    assert len(book._kept) <= 10


# Quotes

_AMOUNTS = st.integers(0, 10**7).map(lambda millionths: Decimal(millionths).scaleb(-4))
_MAYBE = st.none() | _AMOUNTS
_TARIFFS = st.builds(Tariff, _AMOUNTS, _AMOUNTS, _MAYBE, _MAYBE, _MAYBE, _MAYBE)
_COUNTS = st.integers(0, 1_000_000)


@given(_TARIFFS, st.dictionaries(st.integers(0, 1000), _TARIFFS, max_size=3), st.tuples(*[st.integers(0, 2000)] * 5))
def test_L3_no_call_costs_more_than_the_worst_that_was_foretold(
    tariff: Tariff, above: dict[int, Tariff], counts: tuple[int, ...]
) -> None:
    """Whatever of it is cached, written or thought, and with fewer tokens too."""
    quote = Quote(tariff, above, source="test")
    into, out, cached, written, thought = counts
    cached = min(cached, into)
    usage = Usage(into, out, cached, min(written, into - cached), min(thought, out))
    assert quote.cost_nano(usage) <= quote.worst_nano(into, out) <= quote.worst_nano(into + 500, out + 500)


def test_the_worst_case_is_the_dearest_of_each_side_in_the_dearest_tier_that_is_reached() -> None:
    low = Tariff(Decimal(1), Decimal(2), cached=Decimal("0.1"), written=Decimal("1.25"), reasoning=Decimal(3))
    high = Tariff(Decimal(2), Decimal(4), request=Decimal(5))
    quote = Quote(low, {200_000: high}, source="test")
    assert dollars_of(quote.worst_nano(200_000, 1_000_000)) == Decimal("0.25") + 3
    assert dollars_of(quote.worst_nano(200_001, 1_000_000)) == Decimal("0.400002") + 4 + Decimal("0.005")


def test_L5_less_than_a_nano_dollar_goes_to_the_even_one_and_the_worst_case_up() -> None:
    quote = Quote(Tariff(Decimal("0.0005"), Decimal("0.0001")), source="test")  # half a nano-dollar, and a tenth
    assert [quote.cost_nano(Usage(count, 0)) for count in range(5)] == [0, 0, 1, 2, 2]
    assert [quote.cost_nano(Usage(0, count)) for count in (4, 5, 6, 15)] == [0, 0, 1, 2]
    assert [quote.worst_nano(count, 0) for count in range(4)] == [0, 1, 1, 2]


@pytest.mark.parametrize("field", ["input_tokens", "output_tokens", "cached_input_tokens", "cache_write_tokens"])
@pytest.mark.parametrize("count", [-1, float("nan"), float("inf"), 1.5])
def test_L5_a_count_that_is_none_is_refused(field: str, count: float) -> None:
    quote = Quote(Tariff(Decimal(1), Decimal(1)), source="test")
    counts: dict[str, Any] = {"input_tokens": 10, "output_tokens": 10, field: count}
    usage = Usage(**counts)
    with pytest.raises(ConfigError, match="a count of tokens"):
        quote.cost_nano(usage)


def test_parts_that_are_more_than_the_whole_are_paid_for() -> None:
    """Some servers count what was thought beside the answer."""
    quote = Quote(Tariff(Decimal(1), Decimal(2)), source="test")
    assert quote.cost_nano(Usage(10, 5, 0, 0, 100)) == 10 * 1000 + 100 * 2000
    assert quote.cost_nano(Usage(10, 5, 8, 8)) == 16 * 1000 + 5 * 2000
