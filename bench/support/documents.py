"""Large documents to measure speed with: records in JSON, the same ones broken, and what might bring a reader down."""

from __future__ import annotations

import json
import string
from collections.abc import Callable
from random import Random
from typing import Any

from corpus import truths
from corpus.damage import KINDS
from corpus.tokens import Layout, Token, text_of, tokens


def records(size: int) -> list[Any]:
    """As many as take at least `size` bytes in JSON."""
    chance, found, length = Random(size), [], 0  # noqa: S311 (the same ones each time)
    while length < size:
        found.append(truths.record(chance))
        length += len(clean(found[-1]).encode()) + 2
    return found


def clean(value: Any) -> str:  # noqa: ANN401 (any JSON)
    """In JSON."""
    return json.dumps(value, ensure_ascii=False)


def broken(value: Any, how: str) -> str:  # noqa: ANN401 (any JSON)
    """All of it, from the first record to the last."""
    document = list(tokens(value, Layout()))
    BROKEN[how](document)
    return text_of(document)


def _unquote_keys(document: list[Token]) -> None:
    for token in document:
        if token.kind == "key":
            token.text = token.value


def _damaged(kind: str) -> Callable[[list[Token]], object]:
    return lambda document: KINDS[kind](document, Random(0))  # noqa: S311 (these two leave nothing to chance)


BROKEN: dict[str, Callable[[list[Token]], object]] = {
    "unquoted keys": _unquote_keys,
    "single quotes": _damaged("single quotes"),
    "unescaped quotes": _damaged("bare double quotes inside"),
}


def _repeated(unit: str) -> Callable[[int], str]:
    return lambda size: (unit * (size // len(unit) + 1))[:size]


def _any_of(characters: str) -> Callable[[int], str]:
    return lambda size: "".join(Random(size).choices(characters, k=size))  # noqa: S311 (the same ones each time)


def _records(how: str) -> Callable[[int], str]:
    return lambda size: broken(records(size), how)


WORST: dict[str, Callable[[int], str]] = {
    "[[[[": _repeated("["),
    '{"a":{"a":': _repeated('{"a":'),
    "[{[{": _repeated("[{"),
    "{'a': 1, {'a': 1, ": _repeated("{'a': 1, "),
    "]]]]": _repeated("]"),
    '""""': _repeated('"'),
    "''''": _repeated("'"),
    "\\\\\\\\": _repeated("\\"),
    '\\"\\"': _repeated('\\"'),
    "``````": _repeated("```"),
    "fences that open only": _repeated('```json\n{"a": "\n'),
    "<a><a>": _repeated("<a>"),
    "<think><think>": _repeated("<think>"),
    "<tool_call><tool_call>": _repeated("<tool_call>"),
    "<tool_call>{": _repeated("<tool_call>{"),
    "[f(a=[f(a=": _repeated("[f(a="),
    "Action: after Action:": _repeated("Action: a\nAction Input: {\n"),
    "a: b, line after line": _repeated("a: b\n"),
    "- - - -": _repeated("- "),
    "unquoted keys, never closed": lambda size: "{" + _repeated("key: some word, ")(size - 1),
    "quotes inside of quotes": lambda size: '{"a": "' + _repeated('he said "no", and ')(size - 7),
    "objects that break off": _repeated('{"a": "b", '),
    "objects that break off, no comma": _repeated('{"a": "b" '),
    "comments": _repeated("/* "),
    "many commas": _repeated("[,"),
    "prose with braces": _repeated("Then {take one of [these], or {those: "),
    "[1] [1] [1] ": _repeated("[1] "),
    "prose with small objects": _repeated('It is {"a": 1}, or [2]. '),
    **{f"records, {how}": _records(how) for how in BROKEN},
    "random printable": _any_of(string.printable),
    "random punctuation of JSON": _any_of("{}[]\"':,\\\n a1"),
}
"""Each makes a text of so many characters, or a few more."""
