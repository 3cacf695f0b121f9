"""JSON as the standard says, by jiter; what jiter does not take is left to `json`, whose word is the last."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

import jiter

from tidegate.parsing.signs import CONTROL


class Strict(NamedTuple):
    """A value. `end`: where the text goes on after it. `doubled`: the paths of keys that were given again later."""

    value: Any
    end: int
    doubled: tuple[str, ...] = ()


def read_strict(text: str) -> Strict | None:
    """The value of a text that is a JSON document and nothing else, exactly as `json.loads` gives it; or `None`.

    `NaN` and `Infinity` are not JSON, although `json.loads` takes them.
    """
    try:
        value = jiter.from_json(text.encode(), allow_inf_nan=False, catch_duplicate_keys=True)
    except (ValueError, RecursionError):  # doubled keys, lone surrogates, depth, or no JSON at all
        return _by_json(text)
    return Strict(value, len(text))


def _by_json(text: str) -> Strict | None:
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return Strict(value, len(text), _doubled(text))


def first_value(text: str, start: int, stop: int) -> Strict | None:
    """The list or object that begins at `start`, whatever comes after it."""
    try:
        value, end = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        return None
    return Strict(value, end, _doubled(text[start:end])) if end <= stop else None


class Scan:
    """Takes whole containers out of a document that is broken elsewhere. Its failures cost a bounded time in all."""

    def __init__(self, length: int) -> None:
        self._left = 4 * length + 10_000

    def take(self, text: str, start: int, stop: int) -> tuple[Any, int] | None:
        """The list or object at `start` and its end, if all of it is as it should be; not if a key is doubled."""
        if self._left <= 0 or not _MAY_BE_STRICT.match(text, start, stop):
            return None
        for size in _WINDOWS:  # an error costs as much as there is text before it, so there is to be little
            piece = text[start : min(start + size, stop)]
            try:
                value, end = _DECODER.raw_decode(piece)
                jiter.from_json(piece[:end].encode(), catch_duplicate_keys=True)
            except json.JSONDecodeError as error:
                self._left -= error.pos + 20
                if start + size < stop and (error.pos > len(piece) - 10 or error.msg.startswith("Unterminated")):
                    continue
                return None
            except (ValueError, RecursionError):
                self._left -= 1_000
                return None
            return None if CONTROL.search(piece, 0, end) else (value, start + end)
        return None


_WINDOWS = (1_000, 30_000, 1 << 40)
_MAY_BE_STRICT = re.compile(r"\{\s*+[\"}]|\[\s*+[\"\[{\]\dtfn-]")


def _refuse(name: str) -> Any:
    raise ValueError(name)


_DECODER = json.JSONDecoder(parse_constant=_refuse)


def _doubled(text: str) -> tuple[str, ...]:
    """The names of keys that occur twice in one object: only the last one's value is kept."""
    names: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) < len(pairs):
            seen: set[str] = set()
            names.extend(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        return members

    try:
        json.loads(text, object_pairs_hook=look)
    except (ValueError, RecursionError):
        return ()
    return tuple(f"$..{name}" for name in names)
