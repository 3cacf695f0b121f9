"""The price tables of `genai-prices`, which is imported here alone, and only when first needed.

The package carries one; a newer one may have been fetched and kept (see `kept_prices`).
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterator, Mapping
from decimal import Decimal
from importlib.metadata import version
from typing import Any, NamedTuple

from tidegate.accounting import kept_prices
from tidegate.accounting.quotes import Quote, Tariff
from tidegate.errors import ConfigError
from tidegate.forking import no_fork

_PROVIDER_IDS = {"xai": "x-ai", "gemini": "google", "openai-responses": "openai"}
"""Where a provider's name here differs from its name in the tables."""

_LISTED = {"gemini": ("gemini", "gemma")}
"""How models' names begin at a provider whose tables have those of another of its services too."""

_KEYS = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cached": "cache_read_mtok",
    "written": "cache_write_mtok",
    "reasoning": "output_reasoning_mtok",
    "request": "requests_kcount",
}
"""The prices that bear on text; the other units of a table (searches, audio, images) are not in a chat's usage."""

ALWAYS = float("inf")

_log = logging.getLogger("tidegate")


class Found(NamedTuple):
    """What a table says of a model, and from when to when (seconds since 1970) it says just that."""

    quote: Quote | None
    since: float
    until: float


class ListedModel(NamedTuple):
    """A model of the price tables that answers in text."""

    name: str
    context_window: int | None
    """Tokens of the conversation and its answer together; None where the tables do not say."""
    price: Tariff
    """In US dollars for a million tokens."""
    above: Mapping[int, Tariff]
    """What is paid instead for all tokens of a call whose question has more than so many."""
    date: str | None
    """The day from which this price holds, or on which the table was fetched, as ISO text."""


class Table:
    """One table. Shared by threads."""

    def __init__(self, providers: list[Any], source: str, date: str | None = None) -> None:
        """`providers` are the library's own objects."""
        self._providers = providers
        self.source = source
        """Such as `genai-prices 0.2.3`."""
        self.date = date
        """The day on which it was fetched; None for the one that the package carries."""

    def find(self, provider: str, model: str, at: float) -> Found:
        """The price of `model` at a moment in seconds since 1970. An unknown one is None, never zero."""
        found = self._model(provider, model)
        if found is None:
            return Found(None, -ALWAYS, ALWAYS)
        price, date = self._in_force(found, at)
        bands = _bands(price, found.id)
        quote = Quote(bands.pop(-1), bands, source=self.source, date=date) if bands else None
        return Found(quote, *_span(found.prices, at))

    def _model(self, provider: str, model: str) -> Any:  # noqa: ANN401 (the library's ModelInfo, or None)
        from genai_prices.data_snapshot import find_provider_by_id  # noqa: PLC0415

        found = find_provider_by_id(self._providers, _PROVIDER_IDS.get(provider, provider))
        return None if found is None else found.find_model(model.lower(), all_providers=self._providers)

    def _in_force(self, model: Any, at: float) -> tuple[Any, str | None]:  # noqa: ANN401 (the library's ModelInfo)
        """The price, and since when it holds."""
        if not isinstance(model.prices, list):
            return model.prices, self.date
        moment = dt.datetime.fromtimestamp(at, tz=dt.UTC)
        active = (each for each in reversed(model.prices) if each.constraint is None or each.constraint.active(moment))
        chosen = next(active, model.prices[0])  # as the library has it: later ones first, else the first
        start = getattr(chosen.constraint, "start_date", None)
        return chosen.prices, self.date if start is None else start.isoformat()

    def listed(self, provider: str, at: float) -> list[ListedModel]:
        """The models of `provider` by name, without those that are about to be withdrawn."""
        name = _PROVIDER_IDS.get(provider, provider)
        models = (model for each in self._providers if each.id == name for model in each.models)
        begins = _LISTED.get(provider, ("",))
        listed = (self._listed(model, at) for model in models if not model.deprecated and model.id.startswith(begins))
        return sorted((model for model in listed if model is not None), key=lambda model: model.name)

    def _listed(self, model: Any, at: float) -> ListedModel | None:  # noqa: ANN401 (the library's ModelInfo)
        price, date = self._in_force(model, at)
        bands = _bands(price, model.id)
        # No chat model, or a row for every name that begins so.
        if not bands or bands[-1].output is None or model.id.endswith("-"):
            return None
        return ListedModel(model.id, model.context_window, bands.pop(-1), bands, date)

    def rows(self) -> Iterator[tuple[tuple[str, str], object]]:
        """Each model of each provider with its prices, to compare two tables by."""
        for provider in self._providers:
            for model in provider.models:
                yield (provider.id, model.id), model.prices


# A model's prices


def _bands(price: Any, name: str) -> dict[int, Tariff]:  # noqa: ANN401 (the library's ModelPrice)
    """The tariff above so many tokens of a question, the first above -1; nothing where no price is known."""
    values = {field: getattr(price, key, None) for field, key in _KEYS.items()}
    if values["input"] is None:
        # No price is not a price of zero, but for what calls itself free.
        free = name.endswith(":free") and all(value is None for value in values.values())
        return {-1: Tariff(Decimal(0), Decimal(0))} if free else {}
    starts = {tier.start for value in values.values() for tier in getattr(value, "tiers", ())}
    return {
        start: Tariff(**{field: _above(value, start) for field, value in values.items()}) for start in (-1, *starts)
    }


def _above(value: Any, start: int) -> Any:  # noqa: ANN401 (a price, in tiers or not, or None)
    reached = [tier.price for tier in getattr(value, "tiers", ()) if tier.start <= start]
    return reached[-1] if reached else getattr(value, "base", value)


# From when to when


def _span(prices: object, at: float) -> tuple[float, float]:
    """The moments round `at` between which no other of a model's prices comes into force."""
    if not isinstance(prices, list):
        return -ALWAYS, ALWAYS
    changes = [moment for each in prices for moment in _changes(each.constraint, at)]
    return (
        max((moment for moment in changes if moment <= at), default=-ALWAYS),
        min((moment for moment in changes if moment > at), default=ALWAYS),
    )


def _changes(constraint: Any, at: float) -> Iterator[float]:  # noqa: ANN401 (one of the library's, or None)
    """Moments near `at` at which a constraint begins or ends to hold. They are in UTC, unless they say otherwise."""
    start = getattr(constraint, "start_date", None)
    if start is not None:
        yield dt.datetime.combine(start, dt.time(), tzinfo=dt.UTC).timestamp()
    today = dt.datetime.fromtimestamp(at, tz=dt.UTC).date()
    times: list[dt.time] = [
        getattr(constraint, name) for name in ("start_time", "end_time") if hasattr(constraint, name)
    ]
    for time in times:
        for days in (-2, -1, 0, 1, 2):
            moment = dt.datetime.combine(today + dt.timedelta(days), time)
            yield (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()


# Which table

_loaded: tuple[object, Table] | None = None
"""The table that was last loaded, and what its file looked like."""


def current_table() -> Table:
    """The newer of the table that the package carries and the one that was fetched and kept."""
    global _loaded  # noqa: PLW0603 (one table for all of a process: it takes a tenth of a second to load)
    stamp = kept_prices.stamp()
    loaded = _loaded
    if loaded is None or loaded[0] != stamp:
        with no_fork():  # the library is imported here first
            loaded = _loaded = stamp, _kept_table() or _shipped_table()
    return loaded[1]


def _shipped_table() -> Table:
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415 (an eighth of a second to import)

    return Table(get_snapshot().providers, f"genai-prices {version('genai-prices')}")


def _kept_table() -> Table | None:
    """None when nothing is kept, when the package was upgraded since, or when it cannot be read."""
    try:
        kept = kept_prices.load()
        if kept is None or _number(kept.beside) < _number(version("genai-prices")):
            return None
        return _fetched_table(kept.providers, kept.fetched[:10])
    except ConfigError as error:
        _log.warning("%s; the prices that the package carries are used", error)
        return None


def _number(text: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdecimal() else 0 for part in text.split("."))


def _fetched_table(providers: list[Any], date: str) -> Table:
    from genai_prices.types import _providers_from_raw  # noqa: PLC0415 (the library has no public name for it)

    try:
        table = Table(_providers_from_raw(providers), f"genai-prices, fetched {date}", date)
    except (ValueError, TypeError, KeyError, AssertionError) as error:  # whatever a foreign table has that ours has not
        problem = str(error).partition("\n")[0]
    else:
        if any(True for _ in table.rows()):
            return table
        problem = "it has no models"
    raise ConfigError(f"this is no price table of `genai-prices`: {problem}")


# Fetching


def default_address() -> str:
    """Where the library's own updates come from."""
    from genai_prices.update_prices import DEFAULT_UPDATE_URL  # noqa: PLC0415

    return str(DEFAULT_UPDATE_URL)


class Change(NamedTuple):
    """What a fetched table brought, against the one that was in use."""

    source: str
    providers: int
    models: int
    new: int
    gone: int
    changed: int
    """Models whose prices are others."""
    file: str
    """Where it is kept."""


def keep_table(body: bytes, now: dt.datetime) -> Change:
    """Keep the table that was fetched. Raises `ConfigError` for what is none, `OSError` when it cannot be written."""
    providers = kept_prices.providers_of(body)
    before, fetched = dict(current_table().rows()), _fetched_table(providers, now.date().isoformat())
    after = dict(fetched.rows())
    file = kept_prices.save(kept_prices.Kept(now.isoformat(timespec="seconds"), version("genai-prices"), providers))
    both = before.keys() & after.keys()
    return Change(
        source=fetched.source,
        providers=len({provider for provider, _ in after}),
        models=len(after),
        new=len(after.keys() - both),
        gone=len(before.keys() - both),
        changed=sum(before[row] != after[row] for row in both),
        file=str(file),
    )
