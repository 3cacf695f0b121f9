"""Answers without any form: a word, a number, a list of lines. Only a schema makes values of them."""

from __future__ import annotations

import datetime as dt
import enum
from decimal import Decimal
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from tidegate.parsing import parse

Mood = Literal["positive", "negative", "neutral"]


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


class Point(BaseModel):
    x: int


@pytest.mark.parametrize(
    ("text", "into", "value"),
    [
        ("positive", Mood, "positive"),
        ("Positive.", Mood, "positive"),
        ("**negative**", Mood, "negative"),
        ("`neutral`", Mood, "neutral"),
        ("**Sentiment:** positive\n", Mood, "positive"),
        ("<think>It may be negative.</think>\npositive", Mood, "positive"),
        ("red", Colour, Colour.RED),
        ("none", Mood | None, None),
        ("42.", int, 42),
        ("Answer: 42", int, 42),
        ("Score: 0.8", float, 0.8),
        ("Yes", bool, True),
        ("**No.**", bool, False),
        ("2026-02-03", dt.date, dt.date(2026, 2, 3)),
        ("Price: 1.50", Decimal, Decimal("1.50")),
        ("positive", {"enum": ["positive", "negative"]}, "positive"),
        ("Count: 3", {"type": "integer"}, 3),
    ],
)
def test_a_line_is_the_value_where_the_schema_is_narrow(text: str, into: Any, value: object) -> None:
    assert parse(text, into).unwrap() == value


@pytest.mark.parametrize(
    ("text", "into"),
    [
        ("not positive", Mood),
        ("positive or negative", Mood),
        ("The mood is positive.", Mood),
        ("positive\n\nbecause it glows", Mood),
        ("Step 3: 42", int),
        ("1,000", int),
        ("forty", int),
        ("85%", float),
        ("maybe", bool),
        ("hello", str),
        ("hello", None),
        ("x" * 400, Mood),
        ("", Mood),
    ],
)
def test_anything_else_is_refused(text: str, into: Any) -> None:
    assert not parse(text, into).success


@pytest.mark.parametrize(
    ("text", "into", "value"),
    [
        ("- a\n- b", list[str], ["a", "b"]),
        ("1. a\n2) b\n", list[str], ["a", "b"]),
        ("• a\n\n• b", tuple[str, ...], ("a", "b")),
        ('Here it is:\n\n- "a"\n- b, c\n\nLet me know!', list[str], ["a", "b, c"]),
        ("- **a** and **b**", list[str], ["**a** and **b**"]),
        ("- 1\n- 2", list[int], [1, 2]),
        ("Scores: 1, 2", list[int], [1, 2]),
        ("red, Green", list[Colour], [Colour.RED, Colour.GREEN]),
    ],
)
def test_lines_are_a_list_where_the_schema_wants_one(text: str, into: Any, value: object) -> None:
    assert parse(text, into).unwrap() == value


@pytest.mark.parametrize(
    "text",
    [
        "- a\n  - b",
        "- a\n  more of it",
        "- a\nmore of it",
        "- a\n1. b",
        "a, b, c",
        "- a\n\nAnd these:\n- b",
        "Some thoughts.\n- a",
    ],
)
def test_lists_that_may_be_something_else_are_refused(text: str) -> None:
    assert not parse(text, list[str]).success


def test_a_list_of_records_and_a_text_without_a_schema_are_not_for_it() -> None:
    assert not parse("- a\n- b", list[Point]).success
    assert not parse("- a\n- b").success
    assert not parse("1, x", list[int]).success
