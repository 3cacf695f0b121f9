"""Python literals, read from left to right without running, compiling or importing anything.

No parser of Python's is asked but for the escapes within one string: depth, runs of signs, long sums and huge numbers
cannot hurt, and nothing warns. Whatever is no literal is a `ValueError`.
"""

from __future__ import annotations

import ast
import json
import math
import re
from dataclasses import dataclass, field
from typing import Any

from tidegate.parsing.found import Found, Repair
from tidegate.parsing.signs import COMMAND

DEEPEST = 200
"""Containers within containers."""

_MOST_DIGITS = 3_000
"""Python prints no whole number of more than 4,300."""

LONGEST = 300_000
"""Characters of a literal; the tolerant reader is there for more."""

_SPACE = re.compile(r"(?:[ \t\r\n\f]++|#[^\n]*+)*+")
_STRING = re.compile(
    r"""([rRuUbBfF]{0,2}+)("{3}(?:[^\\"]++|\\.|"(?!""))*+"{3}|'{3}(?:[^\\']++|\\.|'(?!''))*+'{3}"""
    r"""|"(?:[^"\\\n]++|\\.)*+"|'(?:[^'\\\n]++|\\.)*+')""",
    re.DOTALL,
)
_NUMBER = re.compile(
    r"[+-]?+(?:0[xX](?:_?[0-9a-fA-F])++|0[oO](?:_?[0-7])++|0[bB](?:_?[01])++"
    r"|(?:\d++(?:_\d++)*+)?+(?:\.(?:\d++(?:_\d++)*+)?+)?+(?:[eE][+-]?+\d++)?+)(?![\w.])"
)
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9]\d*+)(?:\.\d++)?+(?:[eE][+-]?\d++)?+\Z")
_NAME = re.compile(r"[^\W\d]\w*+")
_ESCAPES = re.compile(
    r"(?:[^\\]++|\\(?:[\\'\"abfnrtv\n]|[0-3]?[0-7]{1,2}|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U00[01][0-9a-fA-F]{5}"
    r"|N\{[\w -]{1,90}\}))*+"
)
_ODD = re.compile(r"(?<!\\)(?:\\\\)*+\\(?:[abfv0-7]|x(?!00|1b|a0|ad))|\A[A-Za-z]:\\[nrt]\w")
"""Escapes that `repr` hardly ever writes, and paths and patterns with single backslashes do."""

_SURROGATE = re.compile("[\ud800-\udfff]")

_NAMES = {"True": True, "False": False, "None": None}
NAMES = {**_NAMES, "true": True, "false": False, "null": None}
"""What calls are written with, beside Python's own names."""


@dataclass(slots=True)
class _Frame:
    """A container that is open."""

    opener: str
    start: int
    items: list[Any] = field(default_factory=list)
    members: dict[str, Any] = field(default_factory=dict)
    keyed: bool = False
    name: str | None = None
    commas: int = 0

    def value(self) -> Any:
        return self.members if self.opener == "{" and (self.keyed or not self.items) else self.items


_CLOSER = {"{": "}", "[": "]", "(": ")"}


def read_literal(text: str, at: int, stop: int, names: dict[str, Any] | None = None) -> Found:
    """The literal that begins at `at`, made of JSON's types; raises `ValueError` if there is none.

    `end` is where the text goes on after it.
    """
    return _Reading(text, at, min(stop, at + LONGEST), names or _NAMES).read()


def skip(text: str, at: int, stop: int) -> int:
    """The next place that is neither space nor comment."""
    space = _SPACE.match(text, at, stop)
    return at if space is None else space.end()


class _Reading:
    """One literal. `python`: whether something in it is not JSON, so that it is no JSON that went wrong."""

    def __init__(self, text: str, at: int, stop: int, names: dict[str, Any]) -> None:
        self.text, self.at, self.stop, self.names = text, at, stop, names
        self.found = Found(None, at, at)
        self.frames: list[_Frame] = []
        self.python = False
        self.loose: list[Repair] = []
        self.sets: list[int] = []

    def read(self) -> Found:
        """Value after value, until the first one is complete."""
        self._skip()
        while True:
            sign = self.text[self.at : self.at + 1] if self.at < self.stop else ""
            if sign and sign in "{[(":
                self._open(sign)
            elif self.frames and sign == _CLOSER[self.frames[-1].opener]:
                self._close()
            else:
                self._put(*self._scalar(sign))
            if not self.frames:
                return self._finished()

    def _finished(self) -> Found:
        self.found.end = self.at
        if not self.python:  # then it is rather JSON that has something wrong
            self.found.repairs += self.loose
        self.found.repairs += [Repair("set", place, "became a list", certain=self.python) for place in self.sets]
        return self.found

    def _skip(self) -> None:
        at = skip(self.text, self.at, self.stop)
        if "#" in self.text[self.at : at]:
            self.loose.append(Repair("comment", self.at))
        self.at = at

    # Containers

    def _open(self, sign: str) -> None:
        if len(self.frames) >= DEEPEST:
            raise ValueError(f"there are more than {DEEPEST} brackets within each other at {self.at}")
        self.frames.append(_Frame(sign, self.at))
        self.at += 1
        self._skip()

    def _close(self) -> None:
        frame = self.frames.pop()
        if frame.name is not None:
            raise ValueError(f"a value is missing at {self.at}")
        self.at += 1
        value = frame.value()
        if frame.opener == "{" and value is frame.items and not frame.keyed and frame.items:
            self.sets.append(frame.start)
        elif frame.opener == "(" and not frame.commas and frame.items:
            self._put(frame.items[0], frame.start)  # no tuple, but a value in parentheses
            return
        elif frame.opener == "(":
            self.python = True
            self.found.repairs.append(Repair("tuple", frame.start, "became a list"))
        self._put(value, frame.start)

    def _put(self, value: Any, start: int) -> None:
        """A value is complete; what has to follow it is read as well."""
        if not self.frames:
            self.found.value = value
            return
        frame = self.frames[-1]
        self._skip()
        if frame.opener == "{" and frame.name is None and not frame.items and self._next() == ":":
            self._take_key(frame, value, start)
            return
        if frame.opener == "{" and frame.keyed:
            if frame.name is None:
                raise ValueError(f"no colon is after the key at {start}")
            self._member(frame, frame.name, value, start)
        else:
            frame.items.append(value)
        self._comma(frame)

    def _next(self) -> str:
        return self.text[self.at : self.at + 1] if self.at < self.stop else ""

    def _take_key(self, frame: _Frame, value: Any, start: int) -> None:
        frame.keyed, frame.name = True, self._key(value, start)
        self.at += 1
        self._skip()

    def _key(self, value: Any, start: int) -> str:
        if isinstance(value, str):
            return value
        if isinstance(value, dict | list):
            raise ValueError(f"the key at {start} is a container")  # noqa: TRY004 (what a text says)
        self.python = True
        name = json.dumps(value)
        self.found.repairs.append(Repair("key", start, f"{name[:40]} became text"))
        return name

    def _member(self, frame: _Frame, name: str, value: Any, start: int) -> None:
        if name in frame.members:
            self.found.repairs.append(Repair("doubled key", start, json.dumps(name)[:60], certain=False))
            self.found.dropped.append(f"{self._path()}.{name}")
        frame.members[name], frame.name = value, None

    def _path(self) -> str:
        steps = [f".{each.name}" if each.name is not None else f"[{len(each.items)}]" for each in self.frames[:-1]]
        return "$" + "".join(steps)

    def _comma(self, frame: _Frame) -> None:
        if self._next() != ",":
            if self._next() != _CLOSER[frame.opener]:
                raise ValueError(f"neither a comma nor `{_CLOSER[frame.opener]}` is at {self.at}")
            return
        comma = self.at
        frame.commas += 1
        self.at += 1
        self._skip()
        if self._next() == _CLOSER[frame.opener]:
            self.loose.append(Repair("trailing comma", comma))

    # Scalars

    def _scalar(self, sign: str) -> tuple[Any, int]:
        start = self.at
        if sign and sign in "\"'rRuUbBfF":
            string = _STRING.match(self.text, start, self.stop)
            if string is not None:
                return self._string(string), start
        if sign and (sign in "+-." or "0" <= sign <= "9"):
            return self._number(), start
        name = _NAME.match(self.text, start, self.stop)
        if name is None or name[0] not in self.names:
            raise ValueError(f"no literal is at {start}")
        self.at = name.end()
        self.python = self.python or name[0] in _NAMES
        return self.names[name[0]], start

    def _number(self) -> int | float:
        number = _NUMBER.match(self.text, self.at, self.stop)
        if number is None or not any("0" <= sign <= "9" for sign in number[0]):
            raise ValueError(f"no number is at {self.at}")
        if _JSON_NUMBER.match(number[0]) is None:
            self.loose.append(Repair("number", self.at, number[0][:40]))
        self.at = number.end()
        return _as_number(number[0])

    def _string(self, string: re.Match[str]) -> str:
        value = self._one_string(string)
        self.at = string.end()
        again = skip(self.text, self.at, self.stop)
        following = _STRING.match(self.text, again, self.stop)
        if following is None:
            return value
        if not self.frames or self.frames[-1].opener != "(":
            raise ValueError(f"no comma is between the strings at {again}")
        parts = [value]
        while following is not None:  # in parentheses, a long string is written as several
            parts.append(self._one_string(following))
            self.at = following.end()
            following = _STRING.match(self.text, skip(self.text, self.at, self.stop), self.stop)
        self.python = True
        return "".join(parts)

    def _one_string(self, string: re.Match[str]) -> str:
        prefix, quoted = string[1].lower(), string[2]
        if "b" in prefix or "f" in prefix:
            raise ValueError(f"bytes or a formatted string are at {string.start()}")
        self.python = self.python or quoted[0] == "'" or bool(prefix)
        size = 3 if len(quoted) >= 6 and quoted[:3] in ('"""', "'''") else 1
        inner = quoted[size:-size]
        if "\\" not in inner or prefix == "r":
            return inner.replace("\r\n", "\n")
        return self._unescaped(string.start(), quoted, inner)

    def _unescaped(self, start: int, quoted: str, inner: str) -> str:
        if _ESCAPES.fullmatch(inner) is None:
            raise ValueError(f"a backslash in the string at {start} begins no escape of Python's")
        try:
            value = ast.literal_eval(quoted)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise ValueError(f"the string at {start} is none of Python's") from None
        if not isinstance(value, str) or _SURROGATE.search(value):
            raise ValueError(f"the string at {start} has half of a character")
        odd = _ODD.search(inner) or COMMAND.search(quoted)
        if odd is not None:
            self.found.doubts.append(f"`{odd[0][-8:]}` in the string at {start} may be meant as it stands")
        return value


def _as_number(written: str) -> int | float:
    """Raises `ValueError` for what is too long or too large as well, and for `007`."""
    if len(written) > _MOST_DIGITS:
        raise ValueError(f"{written[:20]} … is too long")
    if written.lstrip("+-")[:2].lower() in ("0x", "0o", "0b"):
        return int(written, 0)
    if not any(sign in ".eE" for sign in written):
        return int(written, 0)
    value = float(written)
    if not math.isfinite(value):
        raise ValueError(f"{written[:20]} is too large")
    return value
