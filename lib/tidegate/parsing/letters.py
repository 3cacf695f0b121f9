"""A string that is still arriving: its text grows, and no escape is ever shown by halves."""

from __future__ import annotations

import re
from collections.abc import Callable

_Matcher = Callable[[str, int], re.Match[str]]

_RUNS: dict[str, _Matcher] = {  # each matches nothing as well
    '"': re.compile(r'[^"\\]*+').match,  # type: ignore[dict-item]
    "'": re.compile(r"[^'\\]*+").match,  # type: ignore[dict-item]
}
QUOTES = "".join(_RUNS)
"""What a string may begin with."""

_HEX = re.compile(r"[0-9a-fA-F]{4}")
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"} | {each: each for each in "\"\\/'"}


class Letters:
    """Reads one string after the other. `length`: characters of its text so far, some of which may have to wait."""

    def __init__(self) -> None:
        self.begin('"')

    def begin(self, quote: str) -> None:
        """The next string; its first quote was read."""
        self.ended = False
        self.problem: str | None = None
        self.length = 0
        self._quote = quote
        self._run = _RUNS[quote]
        self._parts: list[str] = []
        self._state = self._plain
        self._high = ""
        self._digits = ""

    def read(self, chunk: str, at: int) -> int:
        """Go on from here to the place that is returned: behind the closing quote, if it is in this chunk."""
        while at < len(chunk) and not self.ended and self.problem is None:
            at = self._state(chunk, at)
        return at

    def text(self) -> str:
        """What has arrived."""
        if len(self._parts) != 1:
            self._parts = ["".join(self._parts)]
        return self._parts[0]

    def _plain(self, chunk: str, at: int) -> int:
        stop = self._run(chunk, at).end()
        if stop > at:
            self._add(chunk[at:stop])
        if stop == len(chunk):
            return stop
        if chunk[stop] == "\\":
            self._state = self._escape
        else:
            self._add("")
            self.ended = True
        return stop + 1

    def _add(self, part: str) -> None:
        part, self._high = self._high + part, ""
        self._parts.append(part)
        self.length += len(part)

    def _escape(self, chunk: str, at: int) -> int:
        sign = chunk[at]
        if sign == "u":
            self._digits = ""
            self._state = self._unicode
        elif sign in _ESCAPES:
            self._add(_ESCAPES[sign])
            self._state = self._plain
        else:  # what was meant depends on the other escapes of the string
            self.problem = f"`\\{sign}` in a string"
        return at + 1

    def _unicode(self, chunk: str, at: int) -> int:
        stop = at + 4 - len(self._digits)
        self._digits += chunk[at:stop]
        if len(self._digits) < 4:
            return len(chunk)
        self._state = self._plain
        if _HEX.fullmatch(self._digits) is None:
            self.problem = f"`\\u{self._digits}` in a string"
        else:
            self._unit(int(self._digits, 16))
        return stop

    def _unit(self, code: int) -> None:
        """One unit of UTF-16. The first of a pair waits for the second."""
        if self._high and 0xDC00 <= code < 0xE000:
            code = 0x10000 + ((ord(self._high) - 0xD800) << 10) + (code - 0xDC00)
            self._high = ""
        if 0xD800 <= code < 0xDC00:
            self._add("")
            self._high = chr(code)
        else:
            self._add(chr(code))
