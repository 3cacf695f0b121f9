"""Calls as Python writes them: `[search(text="tides", limit=3), stop()]`. Nothing is called."""

from __future__ import annotations

import re
from typing import Any

from tidegate.parsing.found import Found, Repair
from tidegate.parsing.python import LONGEST, NAMES, read_literal, skip

CALLED = re.compile(r"[^\W\d][\w.-]{0,120}+\(")
"""The beginning of a call; functions of tools have dots and dashes in their names."""

_ARGUMENT = re.compile(r"([^\W\d]\w{0,120}+)\s*+=(?!=)")
_MOST = 500
"""Calls that are read."""


def read_calls(text: str, start: int, stop: int) -> Found:
    """`[f(a=1), g()]`, or the same without brackets; arguments by name, and literals all of them."""
    if stop - start > LONGEST:
        raise ValueError(f"calls of more than {LONGEST:,} characters are not read")
    found = Found([], start, stop)
    at = skip(text, start, stop)
    listed = text[at : at + 1] == "["
    at = skip(text, at + listed, stop)
    while at < stop and text[at] != "]":
        if len(found.value) >= _MOST:
            raise ValueError(f"there are more than {_MOST} calls")
        at = _call(text, at, stop, found)
        if at < stop and text[at] in ",;":
            at = skip(text, at + 1, stop)
        elif listed and text[at : at + 1] != "]":
            raise ValueError(f"the list of calls goes on in another way at {at}")
    if listed:
        at = skip(text, at + 1, stop) if at < stop else stop + 1
    if at != stop or not found.value:
        raise ValueError(f"something else than calls is at {at}")
    return found


def _call(text: str, at: int, stop: int, found: Found) -> int:
    """Reads one call, and says where the text goes on."""
    name = CALLED.match(text, at, stop)
    if name is None:
        raise ValueError(f"no call is at {at}")
    arguments: dict[str, Any] = {}
    at = skip(text, name.end(), stop)
    while text[at : at + 1] != ")" or at >= stop:
        named = _ARGUMENT.match(text, at, stop)
        if named is None:
            raise ValueError(f"no argument with a name is at {at}")
        value = read_literal(text, named.end(), stop, NAMES)
        path = f"$[{len(found.value)}].arguments"
        _take(found, arguments, named, value, path)
        at = skip(text, value.end, stop)
        if text[at : at + 1] == ",":
            at = skip(text, at + 1, stop)
        elif text[at : at + 1] != ")":
            raise ValueError(f"neither a comma nor `)` is at {at}")
    found.value.append({"name": name[0][:-1], "arguments": arguments})
    return skip(text, at + 1, stop)


def _take(found: Found, arguments: dict[str, Any], named: re.Match[str], value: Found, path: str) -> None:
    if named[1] in arguments:
        found.repairs.append(Repair("doubled key", named.start(), named[1], certain=False))
        found.dropped.append(f"{path}.{named[1]}")
    arguments[named[1]] = value.value
    found.repairs += [each for each in value.repairs if each.kind not in ("comment", "trailing comma", "number")]
    found.doubts += value.doubts
    found.dropped += [f"{path}.{named[1]}{each[1:]}" for each in value.dropped]
