"""The tolerant reader: JSON as models write it, with everything that was read otherwise noted down.

One pass from left to right with a stack of its own, so that neither depth nor length hurts. Where another way to read
is open, the reader takes the likelier one and notes the place; whoever called may have it read again the other way.
"""

from __future__ import annotations

from typing import Any

from tidegate.parsing.closers import Closers
from tidegate.parsing.cursor import MOST_STEPS, Frame, Stop, shown
from tidegate.parsing.found import Reading
from tidegate.parsing.scalars import Scalars
from tidegate.parsing.signs import (
    BARE_KEY,
    CLOSERS,
    COLON,
    COMMAS,
    DOTS,
    KEY,
    MUTE_KEY,
    NUMBER,
    OPENERS,
    QUOTES,
    VALUE,
    skip,
)


class Reader(Closers, Scalars):
    """Reads one document that begins at `start` of a text."""

    def read(self) -> Reading:
        """The value; `problem` says why there is none."""
        found = self.found
        try:
            if self.members:
                self._open("{", self.at)
                self._repair("outer braces", self.at, cost=0.5)
            else:
                self._value()
            while not self.done:
                self._step()
        except Stop as stop:
            found.problem = stop.problem
        if not self.done and found.problem is None:
            self._close_all()
        self._doubt_controls()
        if self.done and found.problem is None:
            self._look_behind()
        found.value, found.end = self.root, self.at
        return found

    def _look_behind(self) -> None:
        """A reading after which members or closers are left over is hardly the right one."""
        at = skip(self.text, self.at)
        sign = self.text[at : at + 1] if at < self.stop else ""
        if sign == "," and KEY.match(self.text, skip(self.text, at + 1)):
            self.found.cost += 2.0
        elif sign and sign in CLOSERS:
            self._repair("extra closer", at, sign, certain=not self.early, cost=0.5)

    def _doubt_controls(self) -> None:
        r"""Where backslashes were not doubled, `\t` may be the beginning of `\text`; `\f` and `\b` always may."""
        undoubled = "backslash" in self.counts
        for position, sign in self.controls:
            if undoubled or sign in "bf":
                self._repair("backslash", position, f"`\\{sign}` may be meant as it stands", certain=False, cost=0.1)
                return

    def _step(self) -> None:
        self.steps += 1
        if self.steps > MOST_STEPS:
            raise Stop(f"it is broken, and has more than {MOST_STEPS:,} parts")
        frame = self.frames[-1]
        if frame.started:
            self._after_value(frame)
        elif frame.kind == "{":
            self._member(frame)
        else:
            self._item(frame)

    def _after_value(self, frame: Frame) -> None:
        sign = self._skip()
        if not sign:
            raise Stop
        if sign in CLOSERS:
            self._close(sign)
        elif sign in COMMAS:
            self._commas(frame, sign)
        elif sign == "+" and self.last == "string":
            self._join(frame)
        elif dots := DOTS.match(self.text, self.at):
            self._left_out(dots.end())
        elif self._next_is_here(frame, sign):
            self._repair("missing comma", self.at)
            frame.started = False
        else:
            self._strange()

    def _next_is_here(self, frame: Frame, sign: str) -> bool:
        text, at = self.text, self.at
        key = KEY.match(text, at) if sign in QUOTES else BARE_KEY.match(text, at)
        if frame.kind == "{":
            if key is None and sign in QUOTES:
                return MUTE_KEY.match(text, at) is not None
            return key is not None and (sign in QUOTES or VALUE.match(text, skip(text, key.end())) is not None)
        if key is not None:
            return self._object_above() and (sign in QUOTES or VALUE.match(text, skip(text, key.end())) is not None)
        return VALUE.match(text, at) is not None

    def _object_above(self) -> bool:
        return any(frame.kind == "{" for frame in self.frames[:-1])

    def _commas(self, frame: Frame, sign: str) -> None:
        first = self.at
        if len(self.tail) > 1 and self.frames[0].inner is None and any(alike for alike, _ in self.tail):
            self.early = True
        if sign != ",":
            self._repair("comma", first, sign)
        self.at += 1
        while (sign := self._skip()) and sign in COMMAS:
            self._repair("comma", self.at, "one too many")
            self.at += 1
        if not sign:
            self._trailing_at_the_end(first)
        elif sign in CLOSERS:
            self._repair("trailing comma", first)
        else:
            frame.started = False

    def _trailing_at_the_end(self, first: int) -> None:
        if self.ends_here:
            self._cut("after a comma")
        self._repair("trailing comma", first)
        raise Stop

    def _strange(self) -> None:
        """Something that cannot follow a value: the prose after a document whose closers are missing, or rubbish."""
        rest = self.text[self.at : min(self.stop, self.at + 2000)]
        if KEY.search(rest):
            raise Stop(f"{shown(rest)} follows a value at {self.at}")
        if set(rest.partition("\n")[0]) & set(CLOSERS):  # it is not over: this belongs to the value
            self._repair("rest of a value", self.at, shown(rest), certain=False)
        self.ends_here = False
        raise Stop

    def _member(self, frame: Frame) -> None:
        sign = self._skip()
        if not sign:
            self._nothing_more()
        elif sign in CLOSERS:
            if frame.container or frame.kind == "[":
                self._repair("trailing comma", self.at)
            self._close(sign)
        elif sign in COMMAS:
            self._repair("comma", self.at, "one too many")
            self.at += 1
        elif dots := DOTS.match(self.text, self.at):
            self._left_out(dots.end())
        elif sign in OPENERS:
            self._new_object_in_list(sign)
        else:
            self._by_column("{")
            self._key(self.frames[-1], sign)
            self._colon()
            self._value()

    def _new_object_in_list(self, sign: str) -> None:
        """`{"a": 1, {"a": 2}`: the object before has not been closed."""
        if sign == "{" and len(self.frames) > 1 and self.frames[-2].kind == "[" and self.frames[-1].container:
            self._repair("missing closer", self.at, "}", certain=self._none_too_late())
            self._finish()
            self.frames[-1].started = False
            return
        raise Stop(f"there is no key at {self.at}")

    def _key(self, frame: Frame, sign: str) -> None:
        text, at = self.text, self.at
        if sign in QUOTES:
            frame.key = self._string("key")
            return
        bare = BARE_KEY.match(text, at)
        if bare is not None:
            frame.key = bare[1]
            self.at = bare.end(1)
            opened = text[self.at : self.at + 1] in tuple("\"'”’`")
            self._repair("opening quote" if opened else "unquoted key", at)
            self.at += opened
            return
        number = NUMBER.match(text, at)
        if number is not None and COLON.match(text, skip(text, number.end())):
            frame.key = number[0]
            self.at = number.end()
            self._repair("unquoted key", at, number[0])
            return
        if self.ends_here and text[at : self.stop].isidentifier():
            self._cut("in a key")
            raise Stop
        self._no_key()

    def _no_key(self) -> None:
        if len(self.frames) > 1 and self.frames[-2].kind == "[" and self.frames[-1].container and VALUE.match(
            self.text, self.at):  # fmt: skip
            raise Stop(f"there is no key at {self.at}")
        raise Stop(f"there is no key at {self.at}: {shown(self.text[self.at : self.at + 40])}")

    def _colon(self) -> None:
        sign = self._skip()
        colon = COLON.match(self.text, self.at) if sign else None
        if colon is not None:
            if colon[0] != ":":
                self._repair("colon", self.at, colon[0])
            self.at = colon.end()
        elif not sign:
            self._nothing_more()
        elif sign in COMMAS or sign in CLOSERS:
            raise Stop(f"the key `{self.frames[-1].key}` has no value at {self.at}")
        else:
            self._repair("colon", self.at, "missing")

    def _item(self, frame: Frame) -> None:
        sign = self._skip()
        if not sign:
            self._nothing_more()
        elif sign in CLOSERS:
            if frame.container:
                self._repair("trailing comma", self.at)
            self._close(sign)
        elif sign in COMMAS:
            self._repair("comma", self.at, "one too many")
            self.at += 1
        elif dots := DOTS.match(self.text, self.at):
            self._left_out(dots.end())
        elif self._key_in_list(frame, sign):
            sure = self._column(self.at) is not None or self._none_too_late()
            self._repair("missing closer", self.at, "]", certain=sure)
            self._finish()
            self.frames[-1].started = False
        else:
            self._by_column("[")
            self._value()

    def _key_in_list(self, frame: Frame, sign: str) -> bool:
        """Whether a key is here: then the list has not been closed."""
        if len(self.frames) < 2 or self.frames[-2].kind != "{" or sign not in QUOTES:
            return False
        comma = self.at - frame.opened < 100 and self.text[frame.opened : self.at].rstrip()[-1:] == ","
        return (bool(frame.container) or comma) and KEY.match(self.text, self.at) is not None

    def _left_out(self, end: int) -> None:
        frame = self.frames[-1]
        self._dropped(
            f"{self._path(len(self.frames) - 1)}{'[' if frame.kind == '[' else '.'}…{']' * (frame.kind == '[')}"
        )
        self._repair("ellipsis", self.at, certain=False)
        self.at = end
        frame.started = True

    def _value(self) -> None:
        sign = self._skip()
        self.last_start = self.at
        if not sign:
            self._nothing_more()
        elif sign in OPENERS:
            self._container(sign)
        elif sign in QUOTES:
            self._take(self._string(self._place()), "string", self.last_start)
        elif sign in CLOSERS or sign in COMMAS:
            raise Stop(f"a value is missing at {self.at}")
        else:
            self._scalar()

    def _container(self, sign: str) -> None:
        """Open it; if all of it is as it should be, take it at once."""
        if self.frames:
            whole = self.scan.take(self.text, self.at, self.stop)
            if whole is not None and self._column(whole[1] - 1) in (None, self._indent(self.at)):
                self._take_whole(*whole)
                return
        self._open(sign, self.at)
        self.at += 1

    def _take_whole(self, value: Any, end: int) -> None:
        """Take a container that needs no repair, as if it had been read step by step."""
        tail = _ends_with(value, in_object=self.frames[-1].kind == "{")
        self._take(value, "container", self.at, end)
        self.tail = tail


def _ends_with(value: Any, *, in_object: bool) -> list[tuple[bool, int]]:
    """The containers that end where this one does, the innermost first: see `Reader.tail`."""
    tail: list[tuple[bool, int]] = []
    while isinstance(value, dict | list):
        alike = isinstance(value, dict) == in_object
        tail.append((alike, len(value)))
        in_object = isinstance(value, dict)
        value = None if not value else value[-1] if isinstance(value, list) else value[next(reversed(value))]
    return tail[::-1]
