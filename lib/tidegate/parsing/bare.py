"""Answers that are no document at all: one word where one of several was asked for, a number, a list with bullets.

Only a schema can say that such a text is the value, so without one nothing is found here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from tidegate.parsing.answer import answer_in
from tidegate.parsing.found import RANKS, Asked, Found
from tidegate.parsing.schema import Schema

LONGEST = 300
"""Characters of a line that is a value."""

MOST_ITEMS = 10_000

_LABEL = re.compile(r"[^\W\d](?:[^\W\d]|-|[ ](?=\w)){0,40}:[ \t]++(?=\S)")
"""`Answer: ` before a value."""

_ITEM = re.compile(r"(?:(?P<bullet>[-*•–])|(?P<number>\d{1,4})[.)])[ \t]++(?P<text>\S[^\n]*)\Z")
_THOUSANDS = re.compile(r"\d,\d{3}(?!\d)")
_DRESS = ("**", "__", "`", '"', "'", "*", "_")

_NARROW_FORMATS = frozenset({"date", "time", "date-time", "duration", "uuid", "decimal"})

Kind = Literal["scalar", "text", "list", "other"]


class BareValue:
    """The whole answer is one value on a line of its own, or a list of such values; as the schema wants it."""

    name = "bare"

    def find(self, text: str, asked: Asked) -> Iterator[Found]:
        """The value, as text: the schema makes of it what it has to be."""
        answer = answer_in(text)
        kind, items = _wanted(asked.schema)
        value: Any = None
        if kind == "scalar":
            value = _scalar(answer.body)
        elif kind == "list" and items in ("scalar", "text"):
            value = _bullets(answer.body)
            if value is None and items == "scalar":
                value = _with_commas(answer.body)
        if value is None:
            raise ValueError("the answer is no bare value of the kind that is wanted")
        yield Found(value, answer.start, answer.stop, typed=False, rank=RANKS["lines"])


# What is wanted


def _wanted(schema: Schema | None) -> tuple[Kind, Kind]:
    """The kind of the value, and of its items if it is a list."""
    if schema is None:
        return "other", "other"
    return schema_kind(schema, ()), schema_kind(schema, (0,))


def schema_kind(schema: Schema, path: tuple[int, ...]) -> Kind:
    """What the schema says of this place. `text` is any text at all; `scalar` is narrower than that."""
    kinds = {_kind(part) for part in schema.alternatives(path)} - {"null"}
    if kinds == {"scalar", "text"}:  # such as a Decimal: a number, or text with a pattern
        return "scalar"
    return kinds.pop() if len(kinds) == 1 else "other"  # type: ignore[return-value]  # without "null" they are such


def _kind(part: Mapping[str, Any]) -> str:
    kind = part.get("type")
    if "enum" in part or "const" in part:
        return "scalar"
    if kind == "string":
        return "scalar" if part.get("format") in _NARROW_FORMATS else "text"
    return {"integer": "scalar", "number": "scalar", "boolean": "scalar", "array": "list", "null": "null"}.get(
        str(kind), "other"
    )


# What is there


def _scalar(body: str) -> str | None:
    line = body.strip()
    if not line or "\n" in line or len(line) > LONGEST:
        return None
    label = _LABEL.match(line.replace("**", ""))
    line = line.replace("**", "")[label.end() :] if label is not None else line
    return _undressed(line) or None


def _undressed(text: str) -> str:
    """Without a full stop at the end, and without what sets all of it off: bold, a code span, quotes."""
    text = text.strip()
    for _ in range(2):
        text = text.removesuffix(".").rstrip() if not text[-2:-1].isdigit() or " " not in text else text
        dress = next((each for each in _DRESS if text.startswith(each) and text.endswith(each)), None)
        if dress is not None and len(text) > 2 * len(dress):
            text = text[len(dress) : -len(dress)].strip()
    return text


def _with_commas(body: str) -> list[str] | None:
    line = _scalar(body)
    if line is None or _THOUSANDS.search(line):
        return None
    return [_undressed(each) for each in line.split(",") if each.strip()]


def _bullets(body: str) -> list[str] | None:
    """The items of the only list. A sentence that ends in a colon may be before it, a paragraph after it."""
    lines = [line.rstrip() for line in body.strip().splitlines()]
    first = next((place for place, line in enumerate(lines) if _ITEM.match(line)), None)
    if first is None or not _introduces(lines[:first]):
        return None
    items: list[str] = []
    marks: set[str] = set()
    rest: list[str] = []
    for place, line in enumerate(lines[first:], first):
        item = _ITEM.match(line)
        if item is None and line:
            rest = lines[place:] if not lines[place - 1] and not line[0].isspace() else [""]
            break
        if item is not None:
            items.append(_in_item(item["text"]))
            marks.add(item["bullet"] or "1")
    if rest == [""] or any(_ITEM.match(line.strip()) for line in rest) or len(marks) > 1 or len(items) > MOST_ITEMS:
        return None
    return items


def _introduces(lines: list[str]) -> bool:
    said = [line for line in lines if line]
    return not said or (said[-1].rstrip("*_ ").endswith(":") and not any(_ITEM.match(line.strip()) for line in said))


def _in_item(text: str) -> str:
    """An item without what sets all of it off."""
    dress = next((each for each in _DRESS if text.startswith(each) and text.endswith(each)), None)
    if dress is None or len(text) <= 2 * len(dress) or dress in text[len(dress) : -len(dress)]:
        return text
    return text[len(dress) : -len(dress)]
