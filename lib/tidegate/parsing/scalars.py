"""Numbers, words and texts without quotes, as models write them."""

from __future__ import annotations

import re
from typing import Any

from tidegate.parsing.cursor import MOST_STEPS, Cursor, Frame, Stop
from tidegate.parsing.signs import (
    BARE_KEY,
    CLOSERS,
    COMMAS,
    DRESSED,
    KEY,
    NUMBER,
    OPENERS,
    QUOTES,
    THOUSANDS,
    VALUE,
    WORD,
    WORDS,
    skip,
)

LONGEST_UNQUOTED = 1_000
"""Characters of a text without quotes."""

_MOST_DIGITS = 3_000
"""Python prints no whole number of more than 4,300 digits."""

_COMMENT = re.compile(r"//|/\*|#")


class Scalars(Cursor):
    """Reads what is neither a container nor in quotes."""

    def _scalar(self) -> None:
        text, at = self.text, self.at
        number, word = NUMBER.match(text, at, self.stop), WORD.match(text, at, self.stop)
        if number is not None and not self._more_digits(number.end()):
            self._take(_number(number[0]), "number", at, number.end())
        elif self._in_object() and (many := THOUSANDS.match(text, at, self.stop)) and self._ends_value(many.end()):
            self._repair("number", at, many[0])
            self._take(_number(many[0].replace(",", "").lstrip("+")), "number", at, many.end())
        elif (dressed := DRESSED.match(text, at, self.stop)) and self._ends_value(dressed.end()):
            self._dressed(dressed[0], at, dressed.end())
        elif word is not None and word[0] in WORDS and (self._ends_value(word.end()) or self._before_prose(word.end())):
            self._word(word)
        elif number is not None and self._before_prose(number.end()):
            self._take(_number(number[0]), "number", at, number.end())
        else:
            self._unquoted()

    def _word(self, word: re.Match[str]) -> None:
        value, kind = WORDS[word[0]]
        if kind:
            self._repair(kind, word.start(), word[0], certain=word[0] != "undefined")
        self._take(value, "word", word.start(), word.end())

    def _before_prose(self, end: int) -> bool:
        """Whether the last value of a document without its closers ends here, in the middle of a sentence."""
        line = self.text.find("\n", end, self.stop)
        rest = self.text[end : min(line if line >= 0 else self.stop, end + 500)]
        return rest[:1] == " " and not set("}]") & set(rest) and KEY.search(rest) is None

    def _more_digits(self, end: int) -> bool:
        """`1,234` as the value of a key is one number: what follows its comma is no key."""
        following = self.text[end : end + 1]
        if following in tuple("-+/:%") and not self._ends_value(end):  # a range, a date, a sum: in lists as well
            return True
        if not self._in_object() or following not in tuple(",_ "):
            return False
        if self.text[end] != ",":
            return self.text[end] == "_" or not self._ends_value(end)
        following = self.text[end + 1 : end + 4]
        return len(following) == 3 and following.isdigit() and not self.text[end + 4 : end + 5].isdigit()

    def _ends_value(self, end: int) -> bool:
        text = self.text
        after = skip(text, end)
        sign = text[after : after + 1] if after < self.stop else ""
        if not sign or sign in CLOSERS or sign in COMMAS or sign in QUOTES or sign in OPENERS:
            return True
        if after == end:
            return False
        return "\n" in text[end:after] or any(each.match(text, after) is not None for each in (BARE_KEY, VALUE))

    def _dressed(self, written: str, at: int, end: int) -> None:
        plain = written.replace("_", "").lstrip("+")
        zeros = plain.lstrip("-")
        certain = not (len(zeros) > 1 and zeros[0] == "0" and zeros[1].isdigit())
        if len(plain) > _MOST_DIGITS:
            raise Stop(f"the number at {at} is too long")
        try:
            value: Any = int(plain, 16) if "x" in plain.lower() else _number(plain)
        except ValueError:
            self._unquoted()
            return
        self._repair("number", at, written, certain=certain)
        self._take(value, "number", at, end)

    def _unquoted(self) -> None:
        """Text without quotes, up to where the value must end."""
        text, at = self.text, self.at
        end, quoted, certain = self._end_of_unquoted(at)
        if self.ends_here and end >= self.stop:
            self._cut("in text without quotes")
        written = text[at:end].rstrip()
        if not written:
            raise Stop(f"a value is missing at {at}")
        prefixed = quoted and text[end] in written  # such as `b'…'`
        # One quotation inside of a text looks like a text that is not closed, and one that is not opened.
        split = quoted and any(each.kind == "closing quote" for each in self.found.repairs[-3:])
        several = not quoted and not self._in_object() and " " in written  # `[New York, NY]`
        # `[Note] …` and `[section]` are no lists.
        remark = len(self.frames) == 1 and not self._in_object() and not self.frames[0].container and (
            text[end : end + 1] == "]"
        )  # fmt: skip
        certain = certain and "\\" not in written and not (prefixed or split or several or remark)
        self._repair("opening quote" if quoted else "unquoted text", at, certain=certain)
        self._take(written, "text", at, end + quoted)

    def _end_of_unquoted(self, at: int) -> tuple[int, bool, bool]:
        """Where it ends, whether a quote ends it, and whether that is certain."""
        text = self.text
        place = at
        certain = True
        stop = min(self.stop, at + LONGEST_UNQUOTED)
        while place < stop:
            sign = text[place]
            if sign == "\n" or (sign in "/#" and _COMMENT.match(text, place) and text[place - 1].isspace()):
                break
            if sign in "\"'”`" and place > at and (sign != "'" or not text[place - 1].isalnum() or not text[
                place + 1 : place + 2].isalnum()):  # fmt: skip
                return place, True, certain
            if sign in CLOSERS:
                break
            if sign in COMMAS and (
                not self._in_object() or self._key_after(place + 1) or text[place + 1 : place + 2] in tuple(COMMAS)
            ):
                break
            if sign in "{[(<=:;":
                certain = False
            place += 1
        if place == stop < self.stop:
            raise Stop(f"the text without quotes at {at} is too long")
        return place, False, certain

    def _key_after(self, at: int) -> bool:
        at = skip(self.text, at)
        if at >= self.stop or self.text[at] in CLOSERS:
            return True
        return KEY.match(self.text, at) is not None or BARE_KEY.match(self.text, at) is not None

    def _join(self, frame: Frame) -> None:
        """`"a" + "b"`."""
        more: list[str] = []
        while self._skip() == "+":
            self._repair("joined strings", self.at)
            self.at += 1
            if (sign := self._skip()) not in QUOTES or not sign:
                raise Stop(f"`+` is followed by no string at {self.at}")
            more.append(self._string(self._place()))
            self.steps += 3  # a string is more than a sign
            if self.steps > MOST_STEPS:
                break
        if frame.kind == "[":
            frame.container[-1] += "".join(more)
        else:
            frame.container[next(reversed(frame.container))] += "".join(more)


def _number(text: str) -> int | float:
    return int(text) if text.lstrip("-").isdigit() else float(text)
