"""A JSON document as a list of tokens, so that one of them can be damaged."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class Token:
    """`kind` is `key`, `string`, `number`, `word`, `space`, or the punctuation; `value`: what a key or string says."""

    kind: str
    text: str
    value: str = ""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a document is written."""

    indent: int | None = None
    comma: str = ", "
    colon: str = ": "
    ascii: bool = False


def tokens(value: Any, layout: Layout, depth: int = 0) -> Iterator[Token]:
    """The tokens of a value, spaces included."""
    if isinstance(value, dict):
        yield from _container(
            "{", "}", [_member(name, each, layout, depth) for name, each in value.items()], layout, depth
        )
    elif isinstance(value, list):
        yield from _container("[", "]", [tokens(each, layout, depth + 1) for each in value], layout, depth)
    elif isinstance(value, str):
        yield _quoted("string", value, layout)
    else:
        yield Token("word" if value is None or isinstance(value, bool) else "number", json.dumps(value))


def _container(left: str, right: str, items: list[Iterable[Token]], layout: Layout, depth: int) -> Iterator[Token]:
    yield Token(left, left)
    for number, item in enumerate(items):
        if number:
            yield Token(",", ",")
        space = _new_line(layout, depth + 1) or (layout.comma[1:] if number else "")
        yield from (Token("space", space),) if space else ()
        yield from item
    if items and layout.indent is not None:
        yield Token("space", _new_line(layout, depth))
    yield Token(right, right)


def _member(name: str, value: Any, layout: Layout, depth: int) -> Iterator[Token]:
    yield _quoted("key", name, layout)
    yield Token(":", ":")
    if layout.colon[1:]:
        yield Token("space", layout.colon[1:])
    yield from tokens(value, layout, depth + 1)


def _quoted(kind: str, value: str, layout: Layout) -> Token:
    return Token(kind, json.dumps(value, ensure_ascii=layout.ascii), value)


def _new_line(layout: Layout, depth: int) -> str:
    return "" if layout.indent is None else "\n" + " " * layout.indent * depth


def text_of(document: Iterable[Token]) -> str:
    """The document as it is written."""
    return "".join(token.text for token in document)
