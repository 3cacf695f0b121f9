"""Where a string ends whose quotes cannot be trusted, and what its escapes say."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from tidegate.parsing.signs import (
    BARE_KEY,
    CLOSERS,
    COMMAND,
    COMMAS,
    DOTS,
    KEY,
    MUTE_KEY,
    OPEN_KEY,
    QUOTES,
    VALUE,
    skip,
)

Place = Literal["key", "member", "item", "alone"]
"""What a string is: an object's key, the value of one, an item of a list, or the whole document."""

_STOPS = {close: re.compile(rf"[{re.escape(close)}\\\n]") for close in QUOTES.values()}
_STOPS["”"] = re.compile(r"[”\"\\\n]")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})(?:\\u([dD][c-fC-F][0-9a-fA-F]{2}))?|(.)|$)", re.DOTALL)
_PLAIN_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_PATH = re.compile(r"[A-Za-z]:\\|\\\\\w")
_END = re.compile(r"```|</|<\||<end_of|<eot")
_SPACES = re.compile(r"\s*+")
_TAIL = re.compile(r"[\s}\]]*+(?:```|</|<\||\Z)")


class Text(NamedTuple):
    """A string as it was read: `end` is where the document goes on. `repairs`: kinds, and whether each is certain."""

    value: str
    end: int
    repairs: tuple[tuple[str, int, bool], ...] = ()
    whole: bool = True
    """Whether its end was found, or the text ended first."""


def read_string(text: str, start: int, place: Place, stop: int, depth: int) -> Text:
    """The string whose opening quote is at `start`, in a text that ends at `stop`; `depth` containers are open."""
    opening = text[start]
    if text.startswith(opening * 3, start) and opening in "\"'":
        return _triple(text, start, opening * 3, stop)
    return _Search(text, start, place, stop, depth).read()


def _triple(text: str, start: int, quotes: str, stop: int) -> Text:
    end = text.find(quotes, start + 3, stop)
    if end < 0:
        return Text(text[start + 3 : stop], stop, (("triple quotes", start, True),), whole=False)
    value, repairs = unescape(text, start + 3, end, '"')
    return Text(
        value, end + 3, (("triple quotes", start, True), *(each for each in repairs if each[0] != "line break"))
    )


MOST_INSIDE = 50_000
"""Quotes inside of one string; with more it is taken for one that nothing ends."""


class _Search:
    """Goes from quote to quote until one ends the string."""

    def __init__(self, text: str, start: int, place: Place, stop: int, depth: int) -> None:
        self.text, self.start, self.place, self.stop, self.depth = text, start, place, stop, depth
        self.close = QUOTES[text[start]]
        self.inner: list[int] = []
        self.breaks = False

    def read(self) -> Text:
        text, at, stops = self.text, self.start + 1, _STOPS[self.close]
        if self.place == "key" and KEY.match(text, self.start) is None and (lost := OPEN_KEY.match(text, self.start)):
            return self._unclosed(lost.end(1))
        while True:
            found = stops.search(text, at, self.stop)
            if found is None:
                return self._without_end()
            at = found.start()
            sign = text[at]
            if sign == "\\":
                at += 2
            elif sign == "\n":
                if (end := self._lost_before_line(at)) is not None:
                    return self._unclosed(end)
                self.breaks = True
                at = _SPACES.match(text, at, self.stop).end()  # type: ignore[union-attr]  # it matches nothing as well
            elif self._ends(at + 1):
                return self._closed(at)
            elif (end := self._lost_before_key(at)) is not None:
                return self._unclosed(end)
            elif len(self.inner) < MOST_INSIDE:
                self.inner.append(at)
                at += 1
            else:
                return self._without_end()

    # Endings

    def _closed(self, at: int) -> Text:
        value, repairs = unescape(self.text, self.start + 1, at, self.close)
        done = list(repairs)
        if self.text[self.start] != '"':
            done.append((_QUOTE_NAMES.get(self.text[self.start], "smart quotes"), self.start, True))
        if self.inner:
            done.append(("quote inside", self.inner[0], self._sure_of_inner()))
        return Text(value, at + 1, tuple(done))

    def _unclosed(self, end: int) -> Text:
        """The closing quote is missing; the string ends before `end`."""
        value, repairs = unescape(self.text, self.start + 1, end, self.close)
        certain = not self.inner and value[-1:] not in tuple("”’\"'`")
        return Text(value, end, (*repairs, ("closing quote", end, certain)))

    def _without_end(self) -> Text:
        """No quote that is left ends it."""
        tail = self._closers_at_the_end()
        if self.inner and (end := self._before_prose()) is not None:
            self.inner = [each for each in self.inner if each < end]
            return self._closed(end)
        if tail is not None and not self.inner:
            return self._unclosed(tail)
        value, repairs = unescape(self.text, self.start + 1, self.stop, self.close)
        return Text(value, self.stop, repairs, whole=False)

    def _before_prose(self) -> int | None:
        """A quote at the end of a line: what comes after is no part of the document."""
        for at in self.inner:
            after = _SPACES.match(self.text, at + 1, self.stop).end()  # type: ignore[union-attr]
            if after >= self.stop or "\n" in self.text[at + 1 : after]:
                return at
        return None

    def _closers_at_the_end(self) -> int | None:
        """Where the closers begin that the text ends with, if they are as many as are open."""
        end = self.stop
        count = 0
        while end > self.start + 1 and (self.text[end - 1] in CLOSERS or self.text[end - 1].isspace()):
            end -= 1
            count += self.text[end] in CLOSERS
        return end if count and count == self.depth else None

    # Signs

    def _sure_of_inner(self) -> bool:
        """Whether the quotes inside come in pairs, and none of them may be the end of an item."""
        text = self.text
        counted = [at for at in self.inner if not text[at - 1].isdigit()]
        if self.close == "'":  # an apostrophe stands alone
            counted = [at for at in counted if not (text[at - 1].isalpha() and text[at + 1 : at + 2].isalpha())]
        if len(counted) % 2 or (counted and not self._opens(counted[0])):
            return False
        return self.place != "item" or not any(self._at_comma(at) for at in counted)

    def _opens(self, at: int) -> bool:
        """Whether the first quote inside is where a quotation begins, and not the end of this string."""
        before, after = self.text[at - 1], self.text[at + 1 : at + 2]
        if not after or after.isspace() or after in ",:;]})!?":
            return False
        return at == self.start + 1 or not (before.isalnum() or before in ".!?%)]}") or after.isalnum()

    def _at_comma(self, at: int) -> bool:
        before = self.text[max(self.start + 1, at - 8) : at].rstrip()[-1:]
        return bool(before and before in COMMAS) or self._sign_after(at + 1) in tuple(COMMAS)

    def _sign_after(self, at: int) -> str:
        at = skip(self.text, at)
        return self.text[at : at + 1]

    def _ends(self, after: int) -> bool:
        """Whether a quote before `after` ends the string, by what follows."""
        at = skip(self.text, after)
        if at >= self.stop or _END.match(self.text, at):
            return True
        sign = self.text[at]
        if self.place == "key":
            return sign in ":=：" or (at > after and VALUE.match(self.text, at) is not None)
        if sign in COMMAS:
            return self._goes_on(at + 1)
        if sign in CLOSERS:
            return self._closes(at)
        if sign == "+":
            return self._sign_after(at + 1) in QUOTES
        return at > after and self._next_without_comma(at)

    def _goes_on(self, at: int) -> bool:
        """Whether after a comma comes the next member, or the next item."""
        text = self.text
        at = skip(text, at)
        while at < self.stop and text[at] in COMMAS:
            at = skip(text, at + 1)
        if at >= self.stop or text[at] in CLOSERS or DOTS.match(text, at) or _END.match(text, at):
            return True
        if self.place == "item":
            return VALUE.match(text, at) is not None or text[at] in QUOTES or self._line_of_its_own(at)
        return self._key_follows(at)

    def _line_of_its_own(self, at: int) -> bool:
        """Whether an item without quotes is here: a line that ends with a comma, or that closers come after."""
        text = self.text
        begin = text.rfind("\n", self.start, at) + 1
        if not begin or text[begin:at].strip():
            return False
        end = text.find("\n", at, self.stop)
        if end < 0:
            return False
        return text[at:end].rstrip()[-1:] in tuple(COMMAS) or self._sign_after(end) in tuple(CLOSERS)

    def _key_follows(self, at: int) -> bool:
        text = self.text
        if text[at] in QUOTES:
            return any(sign.match(text, at) is not None for sign in (KEY, OPEN_KEY, MUTE_KEY))
        if text[at] == "{":  # the object that this was in has not been closed
            return True
        found = BARE_KEY.match(text, at)
        return found is not None and VALUE.match(text, skip(text, found.end())) is not None

    def _closes(self, at: int) -> bool:
        """Whether a closer is one of the document's: something of the document has to follow."""
        text = self.text
        closed = 0
        while at < self.stop and text[at] in CLOSERS:
            at = skip(text, at + 1)
            closed += 1
        if at >= self.stop or closed >= self.depth or _END.match(text, at):
            return True
        return text[at] in COMMAS or text[at] in "{[" or text[at] in QUOTES

    def _next_without_comma(self, at: int) -> bool:
        """Whether the next member or item begins, though no comma is before it."""
        text = self.text
        if self.place == "item":
            return text[at] in QUOTES and text[at] == text[self.start] and text[at - 1].isspace()
        if text[at] in QUOTES:
            return KEY.match(text, at) is not None
        found = BARE_KEY.match(text, at)
        return found is not None and VALUE.match(text, found.end()) is not None

    def _lost_before_line(self, at: int) -> int | None:
        """Where the string ends if the line break at `at` comes after it, its closing quote being lost."""
        text = self.text
        after = _SPACES.match(text, at, self.stop).end()  # type: ignore[union-attr]  # as above
        if after >= self.stop or self.place == "key":
            return None
        before = at
        while before > self.start + 1 and text[before - 1] in " \t\r":
            before -= 1
        comma = before > self.start + 1 and text[before - 1] in COMMAS
        end = before - comma
        if text[after] in QUOTES:
            if KEY.match(text, after) and (comma or self.place == "member"):
                return end
            if comma and self.place == "item" and text[after] == text[self.start]:
                return end
        if text[after] in CLOSERS and not comma and self._closers_alone(after):
            return end
        return None

    def _closers_alone(self, at: int) -> bool:
        """Whether these closers are followed by a key, or by the end."""
        text = self.text
        while at < self.stop and text[at] in CLOSERS:
            at = skip(text, at + 1)
        if at >= self.stop or _TAIL.match(text, at):
            return True
        if text[at] not in COMMAS:
            return False
        at = skip(text, at + 1)
        return KEY.match(text, at) is not None or text[at : at + 1] in ("{", "[")

    def _lost_before_key(self, at: int) -> int | None:
        """Where the string ends if the quote at `at` opens the next key, its own closing quote being lost."""
        text = self.text
        if self.place == "key":
            colon = text.find(":", self.start + 1, at)
            name = text[self.start + 1 : colon].strip() if colon > 0 else ""
            return self.start + 1 + len(name) if name and re.fullmatch(r"[\w.$ -]{1,60}", name) else None
        if KEY.match(text, at) is None:
            return None
        before = at
        while before > self.start + 1 and text[before - 1].isspace():
            before -= 1
        while before > self.start + 1 and text[before - 1] in "{[":  # the next object of a list
            before -= 1
        if text[before - 1] not in COMMAS:
            return None
        before -= 1
        while before > self.start + 1 and text[before - 1] in CLOSERS:
            before -= 1
        return before


_QUOTE_NAMES = {"'": "single quotes", "“": "smart quotes", "„": "smart quotes", "‘": "smart quotes", "`": "backticks",
                "«": "smart quotes"}  # fmt: skip


def unescape(text: str, start: int, end: int, close: str) -> tuple[str, tuple[tuple[str, int, bool], ...]]:
    """The text between two places without its escapes, and what had to be repaired: see `Text.repairs`."""
    raw = text[start:end]
    repairs: list[tuple[str, int, bool]] = []
    if "\n" in raw or "\r" in raw or "\t" in raw:
        repairs.append(("line break", start, True))
    if "\\" not in raw:
        return raw, tuple(repairs)
    return _Escapes(raw, start, close).read(repairs)


class _Escapes:
    """Reads the escapes of one string; those that mean nothing say something about the others."""

    def __init__(self, raw: str, start: int, close: str) -> None:
        self.raw, self.start, self.close = raw, start, close
        found = list(_ESCAPE.finditer(raw))
        self.unknown = [each for each in found if ((each[3] or "").isalnum() and each[3] not in _PLAIN_ESCAPES) or
                        ((each[3] or "") in tuple(".()[]{}^?+|") and each[3])]  # fmt: skip
        controls = [each for each in found if each[3] in tuple("nrt")]
        rare = [each for each in found if each[3] in tuple("bf")]
        doubled = any(each[3] == "\\" for each in found)
        path = _PATH.match(raw) is not None and not doubled
        self.literal = bool(self.unknown) or (path and bool(controls or rare))
        self.certain = (not doubled and (path if self.unknown else False)) or bool(
            self.unknown and not (controls or doubled)
        )
        self.odd = False
        self.dropped = False
        self.control: re.Match[str] | None = None
        """The first escape for a control character that may as well be a command or a path."""

    def read(self, repairs: list[tuple[str, int, bool]]) -> tuple[str, tuple[tuple[str, int, bool], ...]]:
        value = _ESCAPE.sub(self._one, self.raw)
        if self.odd:
            repairs.append(("backslash", self.start, self.certain))
        if self.dropped:
            repairs.append(("needless escape", self.start, True))
        if self.control is not None:
            repairs.append((f"control {self.control[3]}", self.start + self.control.start(), True))
        elif not self.literal and (command := COMMAND.search(self.raw)):
            repairs.append(("control b", self.start + command.start(), True))
        return value, tuple(repairs)

    def _one(self, found: re.Match[str]) -> str:
        if found[1] is not None:
            return self._by_number(found)
        sign = found[3]
        if sign is None:
            self.odd = True
            return "\\"
        if sign in '"\\/':
            return str(sign)
        if sign in _PLAIN_ESCAPES and not self.literal:
            if (
                sign in "bftr"
                and (self.control is None or self.control[3] in "tr")
                and self.raw[found.end() : found.end() + 1].isalpha()
            ):
                self.control = found
            return _PLAIN_ESCAPES[sign]
        if sign.isalnum() or sign in ".()[]{}^?+|" or (self.literal and sign in "$*-"):
            self.odd = True
            return found[0]
        self.dropped = True
        return str(sign) if sign != "\n" else "\n"

    @staticmethod
    def _by_number(found: re.Match[str]) -> str:
        first = int(found[1], 16)
        if found[2] is None:
            return chr(first)
        second = int(found[2], 16)
        if 0xD800 <= first < 0xDC00:
            return chr(0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00))
        return chr(first) + chr(second)
