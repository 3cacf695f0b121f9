"""`tidegate models`: who can be asked, and which models each has."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple

from tidegate.accounting.prices import FREE, listed_models
from tidegate.catalog import facts, known_models
from tidegate.cli.answers import print_json
from tidegate.cli.options import add_output_options
from tidegate.cli.providers import NO_KEY, KnownProvider, key_cell, known_providers
from tidegate.cli.remarks import complain
from tidegate.cli.wrapping import write_line
from tidegate.errors import nearest
from tidegate.providers.registry import LOCAL_MODEL, NAMES, default_model
from tidegate.settings import load_settings
from tidegate.terminal import Cell, Column, show_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `models` can be told."""
    parser.add_argument("filter", nargs="?", metavar="FILTER", help="a provider, or a part of a model's name")
    add_output_options(parser)


def run(options: argparse.Namespace) -> int:
    """List; answers the exit code."""
    if options.filter is None:
        return _show_providers(known_providers(load_settings({})), as_json=options.json)
    models = [model for model in _all_models(options.filter) if _fits(model, options.filter)]
    if options.json:
        print_json({"models": [model._asdict() for model in models]})
    elif models:
        _show_models(models)
    return 0 if models else _none_fits(options.filter)


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
    """A model, as it is asked: `provider/model`. Prices are in US dollars for a million tokens."""

    name: str
    context_window: int | None
    input_price: Decimal | None
    output_price: Decimal | None
    tiered: bool = False


def _all_models(wanted: str) -> Iterable[_Row]:
    """The models of the price tables and of the catalog, by provider; only one provider's if it is what is wanted."""
    for provider in NAMES:
        if wanted not in NAMES or wanted == provider:
            yield from _models_of(provider)


def _models_of(provider: str) -> Iterable[_Row]:
    free = Decimal(0) if provider in FREE else None
    rows = {
        name: _Row(name, facts(*name.split("/", 1)).context_window, free, free)
        for name in known_models()
        if name.startswith(f"{provider}/")
    }
    for model in listed_models(provider):
        name = f"{provider}/{model.name}"
        window = facts(provider, model.name).context_window or model.context_window
        rows[name] = _Row(name, window, model.input_price, model.output_price, model.tiered)
    return [rows[name] for name in sorted(rows)]


def _fits(model: _Row, wanted: str) -> bool:
    return wanted in NAMES or wanted.lower() in model.name.lower()


def _show_models(models: list[_Row]) -> None:
    heads = (
        Column("model"),
        Column("context", right=True, whole=True),
        Column("$/M in", right=True, whole=True),
        Column("$/M out", right=True, whole=True),
    )
    show_table(heads, map(_cells, models), sys.stdout)
    notes = ["Prices in US dollars for a million tokens"]
    if any(model.tiered for model in models):
        notes.append("+: more beyond some length")
    if any(model.context_window is None or model.input_price is None for model in models):
        notes.append("-: not known")
    write_line(f"\n{'; '.join(notes)}.", sys.stdout)


def _cells(model: _Row) -> tuple[str, ...]:
    window = "-" if model.context_window is None else f"{model.context_window:,}"
    more = "+" if model.tiered else ""
    return model.name, window, _price(model.input_price) + more, _price(model.output_price) + more


def _price(price: Decimal | None) -> str:
    if price is None:
        return "-"
    return f"{price:.2f}" if price == round(price, 2) else f"{price.normalize():f}"
