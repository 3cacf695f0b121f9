"""`tidegate models`: who can be asked, and which models each has."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, NamedTuple

from tidegate.accounting.prices import FREE, ListedModel, listed_models, prices_source
from tidegate.accounting.quotes import Tariff
from tidegate.catalog import facts, known_models
from tidegate.cli.answers import print_json
from tidegate.cli.options import add_output_options
from tidegate.cli.providers import NO_KEY, KnownProvider, key_cell, known_providers
from tidegate.cli.remarks import complain
from tidegate.cli.wrapping import write_line
from tidegate.errors import ConfigError, nearest
from tidegate.providers.registry import LOCAL_MODEL, NAMES, default_model
from tidegate.settings import load_settings
from tidegate.terminal import Cell, Column, show_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `models` can be told."""
    parser.add_argument("filter", nargs="?", metavar="FILTER", help="a provider, or a part of a model's name")
    parser.add_argument("--update-prices", action="store_true", help="fetch the newest price table, and keep it")
    parser.add_argument("--from", dest="source", metavar="URL", help="where to fetch it (where genai-prices does)")
    add_output_options(parser)


def run(options: argparse.Namespace) -> int:
    """List, or update what is listed; answers the exit code."""
    if options.update_prices:
        return _update(options)
    if options.source is not None:
        raise ConfigError("--from goes with --update-prices")
    if options.filter is None:
        return _show_providers(known_providers(load_settings({})), as_json=options.json)
    models = [model for model in _all_models(options.filter) if _fits(model, options.filter)]
    if options.json:
        print_json({"models": [_as_json(model) for model in models], "prices": prices_source()})
    elif models:
        _show_models(models)
    return 0 if models else _none_fits(options.filter)


def _update(options: argparse.Namespace) -> int:
    if options.filter is not None:
        raise ConfigError("--update-prices updates the prices of all models: name none")
    from tidegate.cli.price_update import update  # noqa: PLC0415 (it brings the transport)

    return update(options.source, as_json=options.json)


def _none_fits(wanted: str) -> int:
    names = [*NAMES, *(model.name for model in _all_models(""))]
    complain(f"no known model fits `{wanted}`{nearest(wanted, names)} (a model need not be known to be asked)")
    return 1


# Providers


def _show_providers(providers: list[KnownProvider], *, as_json: bool) -> int:
    chosen = load_settings({}).model or default_model()
    if as_json:
        print_json({"default": chosen, "providers": [dataclasses.asdict(provider) for provider in providers]})
        return 0
    heads = (Column("provider", whole=True), Column("key", whole=True), Column("default model"), Column("address"))
    rows: list[tuple[str | Cell, ...]] = [
        (provider.name, key_cell(provider), provider.default_model or "", provider.base_url or _lacking(provider))
        for provider in providers
    ]
    rows.append(("local", NO_KEY, LOCAL_MODEL.partition("/")[2], "embedded"))
    show_table(heads, rows, sys.stdout)
    how = "`tidegate models openai` lists the models of one provider"
    write_line(f"\n✓: the key is set. Asked by default: {chosen}. {how}.", sys.stdout)
    return 0


def _lacking(provider: KnownProvider) -> Cell:
    return Cell(provider.problem or "needs --base-url", "yellow")


# Models


class _Row(NamedTuple):
    """A model, as it is asked: `provider/model`."""

    name: str
    context_window: int | None
    listed: ListedModel | None = None
    """Its row in the price tables."""
    free: bool = False


def _all_models(wanted: str) -> Iterable[_Row]:
    """The models of the price tables and of the catalog, by provider; only one provider's if it is what is wanted."""
    for provider in NAMES:
        if wanted not in NAMES or wanted == provider:
            yield from _models_of(provider)


def _models_of(provider: str) -> Iterable[_Row]:
    rows = {
        name: _Row(name, facts(*name.split("/", 1)).context_window, free=provider in FREE)
        for name in known_models()
        if name.startswith(f"{provider}/")
    }
    for model in listed_models(provider):
        name = f"{provider}/{model.name}"
        window = facts(provider, model.name).context_window or model.context_window
        rows[name] = _Row(name, window, model)
    return [rows[name] for name in sorted(rows)]


def _fits(model: _Row, wanted: str) -> bool:
    return wanted in NAMES or wanted.lower() in model.name.lower()


_PRICES = {
    "input_price": "input",
    "output_price": "output",
    "cached_price": "cached",
    "cache_write_price": "written",
    "reasoning_price": "reasoning",
}
"""Prices in US dollars for a million tokens, by their names in a tariff. null: none of its own, or not known."""


def _as_json(model: _Row) -> dict[str, Any]:
    """All that is known. Beyond a number of the question's tokens all tokens of a call cost what `above` says."""
    listed = model.listed
    free = Decimal(0) if model.free else None
    found: dict[str, Any] = {"name": model.name, "context_window": model.context_window}
    found |= dict.fromkeys(_PRICES, free) if listed is None else _prices(listed.price)
    found["request_price"] = listed.price.request if listed else free
    found["tiered"] = bool(listed and listed.above)
    found["above"] = {str(start): _prices(price) for start, price in sorted(listed.above.items())} if listed else {}
    found["price_date"] = listed.date if listed else None
    return found


def _prices(tariff: Tariff) -> dict[str, Decimal | None]:
    return {name: getattr(tariff, field) for name, field in _PRICES.items()}


def _show_models(models: list[_Row]) -> None:
    heads = (
        Column("model"),
        Column("context", right=True, whole=True),
        Column("$/M in", right=True, whole=True),
        Column("$/M out", right=True, whole=True),
    )
    rows = [_cells(model) for model in models]
    show_table(heads, rows, sys.stdout)
    notes = [f"Prices in US dollars for a million tokens ({prices_source()})"]
    if any(model.listed is not None and model.listed.above for model in models):
        notes.append("+: more beyond some length")
    if any("-" in row[1:] for row in rows):
        notes.append("-: not known")
    write_line(f"\n{'; '.join(notes)}.", sys.stdout)


def _cells(model: _Row) -> tuple[str, ...]:
    window = "-" if model.context_window is None else f"{model.context_window:,}"
    if model.listed is None:
        return model.name, window, *(["0.00"] * 2 if model.free else ["-"] * 2)
    more = "+" if model.listed.above else ""
    tariff = model.listed.price
    return model.name, window, *(f"{_price(price)}{more}" for price in (tariff.input, tariff.output))


def _price(price: Decimal | None) -> str:
    if price is None:
        return "-"
    return f"{price:.2f}" if price == round(price, 2) else f"{price.normalize():f}"
