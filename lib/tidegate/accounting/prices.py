"""What an answer cost: the price tables of `genai-prices`, imported here alone, and only when first needed."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from tidegate.chat.usage import Usage
from tidegate.forking import no_fork

_PROVIDER_IDS = {"xai": "x-ai", "together": "together"}
"""Where a provider's name here differs from its name in the tables."""

FREE = frozenset({"local", "ollama", "llamacpp"})
"""Providers that run on the user's own machine."""

_PER_MILLION = Decimal(1_000_000)


_TOKENS = ("input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok")
"""The prices that bear on text; a table's other units (searches, audio, images) are not in a chat's usage."""


class _Flat:
    """A price without tiers or dates: a few products, sixty times cheaper than the library's own calculation."""

    __slots__ = ("_cached", "_input", "_output", "_written")

    def __init__(self, price: Any) -> None:  # noqa: ANN401 (the library's ModelPrice)
        self._input: Decimal = price.input_mtok / _PER_MILLION
        self._output: Decimal = price.output_mtok / _PER_MILLION
        self._cached = self._per_token(price, "cache_read_mtok")
        self._written = self._per_token(price, "cache_write_mtok")

    def _per_token(self, price: Any, name: str) -> Decimal:  # noqa: ANN401 (see above)
        value: Decimal | None = getattr(price, name, None)
        return self._input if value is None else value / _PER_MILLION

    def cost(self, usage: Usage) -> Decimal:
        cached, written = usage.cached_input_tokens, usage.cache_write_tokens
        cost = (usage.input_tokens - cached - written) * self._input + usage.output_tokens * self._output
        return cost + cached * self._cached + written * self._written if cached or written else cost

    @staticmethod
    def fits(price: Any) -> bool:  # noqa: ANN401 (the library's ModelPrice)
        """Whether it has both prices that a chat needs, and none in tiers."""
        values = [getattr(price, name, None) for name in _TOKENS]
        if getattr(price, "requests_kcount", None) is not None:
            return False  # each request costs, whatever its tokens
        return None not in values[:2] and all(value is None or isinstance(value, Decimal) for value in values)


class PriceBook:
    """Costs in US dollars; None for a model whose price nobody knows. Shared by threads."""

    def __init__(self) -> None:
        # Looked up once a model. Two threads may do that at the same time, with the same result.
        self._found: dict[tuple[str, str], _Flat | bool] = {}

    def cost(self, provider: str, models: tuple[str, ...], usage: Usage | None) -> Decimal | None:
        """What `usage` cost at `provider`, for the first of `models` whose price is known.

        That is the one that answered, or else the one that was asked: an answer may name a version that the tables do
        not have.
        """
        if usage is None:
            return None
        if provider in FREE:
            return Decimal(0)
        for model in models:
            found = self._found.get((provider, model))
            if found is None:
                found = self._found[provider, model] = self._look_up(provider, model)
            if isinstance(found, _Flat):
                return found.cost(usage)
            if found:
                return self._calculated(provider, model, usage)
        return None

    @staticmethod
    def _look_up(provider: str, model: str) -> _Flat | bool:
        """A flat price; True for a known one that is not flat, False for an unknown one."""
        with no_fork():  # the library imports its tables when it is first asked
            from genai_prices import Usage as TableUsage  # noqa: PLC0415 (0.13 s to import)
            from genai_prices import calc_price  # noqa: PLC0415

            nothing = TableUsage(input_tokens=0, output_tokens=0)
            try:
                found = calc_price(nothing, model, provider_id=_provider_id(provider))
            except LookupError:
                return False
        if isinstance(found.model.prices, list) or not _Flat.fits(found.model_price):
            return True
        return _Flat(found.model_price)

    @staticmethod
    def _calculated(provider: str, model: str, usage: Usage) -> Decimal:
        from genai_prices import Usage as TableUsage  # noqa: PLC0415 (see above)
        from genai_prices import calc_price  # noqa: PLC0415

        counts = TableUsage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=usage.cached_input_tokens,
            cache_write_tokens=usage.cache_write_tokens,
        )
        return calc_price(counts, model, provider_id=_provider_id(provider)).total_price


class ListedModel(NamedTuple):
    """A model of the price tables that answers in text. Prices are in US dollars for a million tokens."""

    name: str
    context_window: int | None
    """Tokens of the conversation and its answer together; None where the tables do not say."""
    input_price: Decimal
    output_price: Decimal
    tiered: bool
    """More is paid beyond some number of tokens: these are the prices below it."""


def listed_models(provider: str) -> list[ListedModel]:
    """The models of `provider` in the price tables by name, without those that are about to be withdrawn."""
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415 (see above)

    now = datetime.now(tz=UTC)
    tables = {table.id: table for table in get_snapshot().providers}
    found = tables.get(_provider_id(provider))
    listed = (_listed(model, now) for model in (found.models if found else ()) if not model.deprecated)
    return sorted(model for model in listed if model is not None)


def _listed(model: Any, now: datetime) -> ListedModel | None:  # noqa: ANN401 (the library's ModelInfo)
    prices = model.get_prices(now)
    found: list[Any] = [getattr(prices, name, None) for name in _TOKENS[:2]]
    if None in found or model.id.endswith("-"):  # no chat model, or a row for every name that begins so
        return None
    into, out = (getattr(price, "base", price) for price in found)
    return ListedModel(model.id, model.context_window, into, out, tiered=[into, out] != found)


def _provider_id(provider: str) -> str:
    return _PROVIDER_IDS.get(provider, provider)
