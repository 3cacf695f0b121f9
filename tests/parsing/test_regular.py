"""Long documents with regular oddities: exactly what the tolerant reader would say, in a fraction of the time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.parsing import parse
from tidegate.parsing.regular import SHORTEST, Regular
from tidegate.parsing.tolerant import Reader

SCALARS = st.none() | st.booleans() | st.integers(-9999, 9999) | st.text("abc xyz,:{}[]é'\\n\"", max_size=12)
KEYS = st.text("abcdefg_", min_size=1, max_size=6)
RECORDS = st.lists(st.dictionaries(KEYS, SCALARS | st.lists(SCALARS, max_size=3), max_size=4), min_size=1, max_size=3)


def long(records: list[Any]) -> list[Any]:
    return records * (SHORTEST // max(1, len(repr(records)) - 3) + 2)


@given(RECORDS)
def test_what_repr_writes(records: list[Any]) -> None:
    rows = long([{"first": "x", **record} for record in records])
    written = repr(rows)

    found = Regular(written, len(written)).read(0)

    assert found is not None
    assert found.value == rows
    assert found.end == len(written)


@pytest.mark.parametrize(
    ("kind", "record"),
    [
        ("unquoted key", '{name: "a, b: c", size: 1.5e3, on: true}'),
        ("single quotes", "{'name': 'a: {b}', 'its': [1, 2]}"),
        ("word", '{"on": True, "off": False, "none": None}'),
        ("trailing comma", '{"a": [1, 2,], "b": {},}'),
    ],
)
def test_repairs_are_the_tolerant_readers(kind: str, record: str) -> None:
    text = f"[{', '.join([record] * (SHORTEST // len(record) + 1))}]"

    found, other = Regular(text, len(text)).read(0), Reader(text).read()

    assert found is not None
    assert found.value == other.value
    assert [(each.kind, each.position, each.certain) for each in found.repairs] == [
        (each.kind, each.position, each.certain) for each in other.repairs
    ]
    assert {each.kind for each in found.repairs} == {kind}


@pytest.mark.parametrize(
    "record",
    [
        '{a: "say "no" to it"}',
        "{'a': 'it's'}",
        '{"a": 1 "b": 2,}',
        '{a: "C:\\temp",}',
        "{a: 1, // the rest\n b: 2}",
        '{a: "x\ny"}',
        "{a: 0x10}",
        "{a: 1, a: 2}",
        "{a: [1, ...]}",
    ],
)
def test_anything_irregular_is_left_to_the_tolerant_reader(record: str) -> None:
    text = f"[{', '.join([record] * (SHORTEST // len(record) + 1))}]"

    assert Regular(text, len(text)).read(0) is None


def test_what_follows_is_prose_or_nothing() -> None:
    rows = long([{"a": "x", "b": [True, None]}])
    text = f"The rows:\n\n{rows!r}\n\nThat is all, see {{x}}."

    result = parse(text)

    assert result.unwrap() == rows
    assert all(repair.certain for repair in result.repairs)
    assert parse(text, repair="none", strategies=["span"]).success is False


def test_a_document_that_goes_on_or_breaks_off_is_not_taken() -> None:
    rows = long([{"a": "x"}])

    assert Regular(repr(rows)[:-1], len(repr(rows)) - 1).read(0) is None
    assert [repair.kind for repair in parse(repr(rows) + "]").repairs][-1] == "extra closer"
    assert [repair.kind for repair in parse(repr(rows)[:-1], repair="all").repairs][-1] == "missing closer"
