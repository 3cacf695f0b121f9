"""Entries: what is refused, what is cut, and lines that come back whole."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.accounting.entries import LONGEST_TEXT, MOST, Entry, microseconds, moment_of, storable
from tidegate.errors import ConfigError

COUNTS = [
    "attempt",
    "at",
    "input_tokens",
    "cached_tokens",
    "written_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cost_nano",
    "duration_us",
    "first_token_us",
]
FIRST, LAST = dt.datetime(1970, 1, 1), dt.datetime(5000, 1, 1)  # noqa: DTZ001 (zones are added to them)
TEXTS = ["call_id", "run", "provider", "model", "answered", "task", "price_source", "price_date", "outcome"]


def entry(**given: Any) -> Entry:
    return Entry(**{"call_id": "c", "at": 1, "provider": "p", "model": "m", **given})


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("wrong", [-1, True, 1.0, float("nan"), "1", Decimal(1), 2**63], ids=repr)
def test_L5_what_is_no_count_is_refused(name: str, wrong: object) -> None:
    with pytest.raises(ConfigError, match=f"`{name}` is a whole number from 0 to"):
        entry(**{name: wrong})


@pytest.mark.parametrize("name", ["input_tokens", "cost_nano"])
def test_L5_a_thousand_of_the_largest_add_up_within_a_databases_integer(name: str) -> None:
    assert getattr(entry(**{name: MOST}), name) * 1000 < 2**63
    with pytest.raises(ConfigError, match=name):
        entry(**{name: MOST + 1})


@pytest.mark.parametrize("name", TEXTS)
def test_what_is_no_text_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"`{name}` is a text, not 5"):
        entry(**{name: 5})


@pytest.mark.parametrize("wrong", [["a"], "a", 5])
def test_tags_that_are_none_are_refused(wrong: object) -> None:
    with pytest.raises(ConfigError, match="`tags` are names and values"):
        entry(tags=wrong)


def test_an_unknown_cost_is_not_zero() -> None:
    assert entry().cost_nano is None
    assert entry(cost_nano=0).cost_nano == 0
    assert Entry.from_line(entry(cost_nano=0).line()).cost_nano == 0
    assert Entry.from_line(entry().line()).cost_nano is None


def test_text_that_no_database_takes_is_replaced_and_long_text_is_cut() -> None:
    made = entry(task="a\0b", model="x" * 600, provider="\ud800", tags={"k\0": "v" * 600})
    assert made.task == "a\ufffdb"
    assert made.model == "x" * LONGEST_TEXT
    assert made.provider == "?"
    assert made.tags == {"k\ufffd": "v" * LONGEST_TEXT}


def test_tags_in_any_order_are_the_same_text() -> None:
    assert (
        entry(tags={"b": "1", "a": "2"}).tags_text == entry(tags={"a": "2", "b": "1"}).tags_text == '{"a":"2","b":"1"}'
    )
    assert entry().tags_text == ""


texts = st.text(max_size=40) | st.text(st.characters(codec=None, categories=["Cs", "Cc", "L"]), max_size=600)
counts = st.integers(0, MOST)


@given(
    st.builds(
        Entry,
        call_id=texts,
        attempt=st.integers(0, 2**31 - 1),
        run=st.none() | texts,
        at=counts,
        provider=texts,
        model=texts,
        task=st.none() | texts,
        tags=st.dictionaries(texts, texts, max_size=4),
        input_tokens=counts,
        cost_nano=st.none() | counts,
        first_token_us=st.none() | counts,
        estimated=st.booleans(),
        reservation=st.none() | st.text(st.characters(categories=["L"])),
    )
)
def test_L1_an_entry_comes_back_from_its_line_as_it_was(made: Entry) -> None:
    line = made.line()
    assert line.count(b"\n") == 1
    back = Entry.from_line(line)
    assert back == made
    assert back.tags_text == made.tags_text


def test_L1_a_line_that_was_cut_or_changed_anywhere_is_refused() -> None:
    line = entry(task="some task", cost_nano=12).line()
    for end in range(len(line)):
        with pytest.raises(ValueError, match="torn"):
            Entry.from_line(line[:end])
    for at in range(len(line)):
        with pytest.raises(ValueError, match="torn"):
            Entry.from_line(line[:at] + bytes([line[at] ^ 1]) + line[at + 1 :])


def test_a_line_of_a_later_version_with_more_fields_is_read() -> None:
    import zlib  # noqa: PLC0415 (this test alone writes a line by hand)

    text = b'{"call_id":"c","at":1,"provider":"p","model":"m","mood":"good"}'
    assert Entry.from_line(b"%08x %s\n" % (zlib.crc32(text), text)) == entry()


@given(st.text())
def test_storable_text_is_unicode_without_nul_and_bounded(text: str) -> None:
    kept = storable(text)
    assert len(kept) <= LONGEST_TEXT
    assert "\0" not in kept
    assert storable(kept) == kept
    kept.encode()


@given(st.datetimes(min_value=FIRST, max_value=LAST, timezones=st.timezones()))
def test_a_moment_keeps_its_microsecond(moment: dt.datetime) -> None:
    assert moment_of(microseconds(moment)) == moment.astimezone(dt.UTC)


@pytest.mark.parametrize("wrong", [dt.datetime(2026, 1, 1), dt.date(2026, 1, 1), 5, "now"])  # noqa: DTZ001 (that is it)
def test_a_moment_without_a_time_zone_is_refused(wrong: dt.datetime) -> None:
    with pytest.raises(ConfigError, match="time zone"):
        microseconds(wrong)
