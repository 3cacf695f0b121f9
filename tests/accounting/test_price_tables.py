"""A price table that was fetched and kept."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import logging
import stat
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelPrice

from tidegate.accounting import kept_prices, price_tables
from tidegate.accounting.price_tables import current_table, keep_table
from tidegate.accounting.prices import PriceBook
from tidegate.chat.usage import Usage
from tidegate.errors import ConfigError

NOW = dt.datetime(2026, 12, 1, 9, 30, tzinfo=dt.UTC)
USAGE = Usage(300_001, 503, 301, 203, 77)


def table(*models: dict[str, Any], provider: str = "openai") -> bytes:
    """A table as it comes over the wire."""
    row = {"id": provider, "name": provider, "api_pattern": f"https://api\\.{provider}\\.com", "models": list(models)}
    return json.dumps([row]).encode()


def model(name: str, price: float, **more: Any) -> dict[str, Any]:
    return {"id": name, "match": {"equals": name}, "prices": {"input_mtok": price, "output_mtok": price}, **more}


def test_a_fetched_table_is_used_by_the_next_price_book_which_says_so() -> None:
    earlier = PriceBook()
    assert earlier.cost("openai", ("gpt-4o-mini",), Usage(1_000_000, 0)) == Decimal("0.15")
    change = keep_table(table(model("gpt-4o-mini", 0.17), model("gpt-7", 3)), NOW)
    quote = PriceBook().quote("openai", ("gpt-4o-mini",))
    assert quote is not None
    assert quote.cost(Usage(1_000_000, 0)) == Decimal("0.17")
    assert (quote.source, quote.date) == ("genai-prices, fetched 2026-12-01", "2026-12-01")
    assert (change.providers, change.models, change.new, change.changed) == (1, 2, 1, 1)
    assert change.gone == sum(len(provider.models) for provider in get_snapshot().providers) - 1
    assert earlier.cost("openai", ("gpt-4o-mini",), Usage(1_000_000, 0)) == Decimal("0.15")


def test_L5_the_packages_own_table_means_the_same_when_it_is_fetched() -> None:
    """Whatever its rows are made of: clauses, tiers, dates, hours, and amounts that were floats on the wire."""
    book, providers = PriceBook(), get_snapshot().providers
    models = [(provider.id, row.id) for provider in providers for row in provider.models]
    before = {row: book.quote(row[0], (row[1],), NOW, answers=False) for row in models}
    change = keep_table(json.dumps(_wire(providers)).encode(), NOW)
    assert (change.models, change.new, change.gone, change.changed) == (len(set(models)), 0, 0, 0)
    kept = PriceBook()
    for row, quote in before.items():
        again = kept.quote(row[0], (row[1],), NOW, answers=False)
        assert (again and again.cost_nano(USAGE)) == (quote and quote.cost_nano(USAGE)), row


def _wire(value: Any) -> Any:  # noqa: ANN401 (any of the library's objects, and what JSON makes of it)
    """The library's objects as they are published."""
    if dataclasses.is_dataclass(value):
        fields = {
            each.name.rstrip("_"): _wire(getattr(value, each.name)) for each in dataclasses.fields(value) if each.init
        }
        return {name: each for name, each in fields.items() if each is not None and name != "extractors"}
    if isinstance(value, ModelPrice):
        return {name: _wire(each) for name, each in vars(value).items()}
    if isinstance(value, list):
        return [_wire(each) for each in value]
    if isinstance(value, Decimal):
        return float(value)
    return value.isoformat() if isinstance(value, dt.date | dt.time) else value


def test_X8_the_file_is_its_owners_alone() -> None:
    path = Path(keep_table(table(model("m", 1)), NOW).file)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [each.name for each in path.parent.iterdir()] == ["prices.json"]


def test_it_lies_where_the_user_has_programs_keep_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "elsewhere"))
    assert Path(keep_table(table(model("m", 1)), NOW).file) == tmp_path / "elsewhere" / "tidegate" / "prices.json"


_NO_TABLES = {
    "no JSON": b"<html>",
    "cut": table(model("m", 1))[:-5],
    "an object": b'{"openai": []}',
    "a list of texts": b'["openai"]',
    "empty": b"[]",
    "no models": table(),
    "no name": b'[{"models": []}]',
    "an unknown condition": table({**model("m", 1), "match": {"sounds_like": "m"}}),
    "no amount": table({**model("m", 1), "prices": {"input_mtok": "much"}}),
}


@pytest.mark.parametrize("body", _NO_TABLES.values(), ids=_NO_TABLES)
def test_what_is_no_table_is_refused_and_the_kept_one_stays(body: bytes) -> None:
    keep_table(table(model("m", 1)), NOW)
    before = kept_prices.file().read_bytes()
    with pytest.raises(ConfigError, match="no price table"):
        keep_table(body, NOW)
    assert kept_prices.file().read_bytes() == before


def test_a_write_that_fails_leaves_the_kept_one_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_table(table(model("m", 1)), NOW)
    before = kept_prices.file().read_bytes()

    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", no_room)
    with pytest.raises(OSError, match="No space"):
        keep_table(table(model("m", 2)), NOW)
    assert [(each.name, each.read_bytes()) for each in kept_prices.file().parent.iterdir()] == [("prices.json", before)]


@pytest.mark.parametrize(
    "spoilt",
    [b"", b"[]", b'{"format": 2}', b'{"format": 1, "fetched": "x", "beside": "99", "providers": [{}]}', b"\xff"],
)
def test_a_kept_file_that_cannot_be_read_costs_a_warning_and_no_call(
    spoilt: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    keep_table(table(model("m", 1)), NOW)
    kept_prices.file().write_bytes(spoilt)
    with caplog.at_level(logging.WARNING, "tidegate"):
        for _ in range(3):
            assert PriceBook().cost("openai", ("gpt-4o-mini",), Usage(1_000_000, 0)) == Decimal("0.15")
    assert len(caplog.records) == 1
    assert current_table().source.startswith("genai-prices 0.")


@pytest.mark.parametrize(
    ("installed", "kept_counts"), [("0.2.3", True), ("0.1.9", True), ("0.2.10", False), ("1.0", False)]
)
def test_a_newer_package_brings_a_newer_table(
    installed: str, monkeypatch: pytest.MonkeyPatch, *, kept_counts: bool
) -> None:
    """The table was fetched beside version 0.2.3."""
    monkeypatch.setattr(price_tables, "version", lambda _: "0.2.3")
    keep_table(table(model("m", 1)), NOW)
    monkeypatch.setattr(price_tables, "version", lambda _: installed)
    assert current_table().source == (
        "genai-prices, fetched 2026-12-01" if kept_counts else f"genai-prices {installed}"
    )


def test_a_table_of_tomorrow_may_have_units_and_fields_that_are_not_known_here() -> None:
    new = model(
        "m", 1, moods=["good"], prices={"input_mtok": 1, "output_mtok": {"base": 2, "tiers": []}, "mood_mtok": 9}
    )
    keep_table(table(new), NOW)
    assert PriceBook().cost("openai", ("m",), Usage(1_000_000, 1_000_000)) == 3
