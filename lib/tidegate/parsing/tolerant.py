"""The tolerant reader: JSON as models write it, with everything that was read otherwise noted down.

One pass from left to right with a stack of its own, so that neither depth nor length hurts. Where another way to read
is open, the reader takes the likelier one and notes the place; whoever called may have it read again the other way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from tidegate.parsing.found import Reading, Repair
from tidegate.parsing.signs import (
    BARE_KEY,
    CLOSERS,
    COLON,
    COMMAS,
    DOTS,
    DRESSED,
    KEY,
    LEFT_OUT,
    MUTE_KEY,
    NUMBER,
    ODD_SPACE,
    OPENERS,
    QUOTES,
    THOUSANDS,
    VALUE,
    WORD,
    WORDS,
    skip,
)
from tidegate.parsing.strict import Scan
from tidegate.parsing.strings import Place, read_string

DEEPEST = 500
"""Containers within containers."""

LONGEST_KEY = 400
"""Characters."""

LONGEST_LINE = 2_000
"""Characters of a line whose indentation is looked at."""

MOST_STEPS = 80_000
"""Tokens of a document that is broken, not counting parts that are not; more are refused. Under a second of work."""

_COSTS = {
    "comment": 0.1, "trailing comma": 0.2, "space": 0.1, "single quotes": 0.2, "smart quotes": 0.2, "backticks": 0.3,
    "unquoted key": 0.3, "word": 0.2, "not-a-number": 0.3, "line break": 0.2, "comma": 0.3, "number": 0.3,
    "triple quotes": 0.2, "joined strings": 0.4, "needless escape": 0.2, "missing comma": 0.5, "colon": 0.5,
    "unquoted text": 0.6, "quote inside": 0.6, "closing quote": 1.0, "opening quote": 1.0, "backslash": 0.4,
    "missing closer": 1.0, "extra closer": 1.0, "wrong closer": 1.0, "ellipsis": 1.0, "missing value": 1.5,
}  # fmt: skip
_MORE = 0.2
"""Of its cost, for each further repair of a kind: who makes a mistake once makes it again."""

_CALLED = frozenset({"arguments", "parameters", "args", "input"})
"""What calls of functions have beside a name."""

_STRUCTURAL = frozenset({"missing closer", "extra closer", "wrong closer", "closing quote", "opening quote"})


class _Stop(Exception):
    """The document ends here, or cannot be read on."""

    def __init__(self, problem: str | None = None) -> None:
        super().__init__(problem)
        self.problem = problem


class _Frame:
    """An object or a list that is being read."""

    __slots__ = ("container", "indent", "inner", "key", "kind", "opened", "started")

    def __init__(self, kind: str, opened: int, indent: int) -> None:
        self.indent = indent
        self.inner: int | None = None
        """Columns: of the line it was opened in, and of its members, if each has a line of its own."""
        self.kind = kind
        self.container: Any = {} if kind == "{" else []
        self.key: str | None = None
        self.opened = opened
        self.started = False

    def put(self, value: object) -> bool:
        """Keep a value; whether its key was there already."""
        if self.kind == "[":
            self.container.append(value)
            return False
        double = self.key in self.container
        self.container[self.key] = value
        self.key = None
        return double

    def step(self) -> str:
        """How the path goes on to what is read at the moment."""
        if self.kind == "[":
            return f"[{len(self.container)}]"
        return "" if self.key is None else f".{self.key}"


class Reader:
    """Reads one document that begins at `start` of a text."""

    def __init__(
        self,
        text: str,
        start: int = 0,
        stop: int | None = None,
        *,
        ends_here: bool = True,
        ways: Mapping[int, int] | None = None,
        members: bool = False,
    ) -> None:
        """`ends_here`: whether the text goes no further than `stop`. `ways`: at which place to go which other way.

        `members`: the document is an object whose outer braces are missing.
        """
        self.text = text
        self.stop = len(text) if stop is None else stop
        self.at = start
        self.ends_here = ends_here
        self.ways = ways or {}
        self.members = members
        self.frames: list[_Frame] = []
        self.found = Reading(None, start)
        self.steps = 0
        self.counts: dict[str, int] = {}
        self.root: Any = None
        self.done = False
        self.last = ""
        self.last_start = start
        self.controls: list[tuple[int, str]] = []
        self.scan = Scan(self.stop - start)
        self.tail: list[tuple[bool, int]] = []
        """The containers that were closed since the last scalar: whether in one of their kind, and their length."""
        self.early = False
        """Whether something may have been closed too early: two at once, and then the outer one went on."""

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
        except _Stop as stop:
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

    # Steps

    def _step(self) -> None:
        self.steps += 1
        if self.steps > MOST_STEPS:
            raise _Stop(f"it is broken, and has more than {MOST_STEPS:,} parts")
        frame = self.frames[-1]
        if frame.started:
            self._after_value(frame)
        elif frame.kind == "{":
            self._member(frame)
        else:
            self._item(frame)

    def _skip(self) -> str:
        """Go to the next sign, which is returned; nothing at the end."""
        start, text = self.at, self.text
        if start < self.stop and "!" <= text[start] < "\x7f" and text[start] not in "/#":
            return text[start]
        at = skip(text, start)
        self.at = at = min(at, self.stop)
        if at > start:
            gap = text[start:at]
            if "/" in gap or "#" in gap:
                self._repair("comment", start)
                self._look_for_left_out(gap, start)
            if not gap.isascii() and ODD_SPACE.search(gap):
                self._repair("space", start)
        return text[at] if at < self.stop else ""

    def _look_for_left_out(self, gap: str, start: int) -> None:
        """`// ... more` is no comment, but a part that is not there."""
        said = LEFT_OUT.search(gap)
        if said is not None and self.frames:
            frame = self.frames[-1]
            self._dropped(f"{self._path(len(self.frames) - 1)}{'[…]' if frame.kind == '[' else '.…'}")
            self._repair("ellipsis", start + said.start(), certain=False)

    def _after_value(self, frame: _Frame) -> None:
        sign = self._skip()
        if not sign:
            raise _Stop
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

    def _next_is_here(self, frame: _Frame, sign: str) -> bool:
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

    def _commas(self, frame: _Frame, sign: str) -> None:
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
        raise _Stop

    def _strange(self) -> None:
        """Something that cannot follow a value: the prose after a document whose closers are missing, or rubbish."""
        rest = self.text[self.at : min(self.stop, self.at + 2000)]
        if KEY.search(rest):
            raise _Stop(f"{_shown(rest)} follows a value at {self.at}")
        if set(rest.partition("\n")[0]) & set(CLOSERS):  # it is not over: this belongs to the value
            self._repair("rest of a value", self.at, _shown(rest), certain=False)
        self.ends_here = False
        raise _Stop

    # Containers

    def _open(self, kind: str, at: int) -> None:
        if len(self.frames) >= DEEPEST:
            raise _Stop(f"it is more than {DEEPEST} containers deep")
        self.frames.append(_Frame(kind, at, self._indent(at)))

    def _indent(self, at: int) -> int:
        """The column at which the line begins that this place is in."""
        begin = self.text.rfind("\n", max(0, at - LONGEST_LINE), at) + 1
        return len(self.text[begin : min(at, begin + 200)]) - len(self.text[begin : min(at, begin + 200)].lstrip(" \t"))

    def _column(self, at: int) -> int | None:
        """The column of what is first in its line; `None` if something is before it."""
        begin = self.text.rfind("\n", max(0, at - 200), at) + 1
        return at - begin if begin and not self.text[begin:at].strip(" \t") else None

    def _finish(self) -> None:
        """The innermost container is complete."""
        frame = self.frames.pop()
        parent = self.frames[-1].kind if self.frames else ""
        tail = [*self.tail, (frame.kind == parent, len(frame.container))]
        self._take(frame.container, "container", frame.opened)
        self.tail = tail

    def _by_column(self, fits: str) -> None:
        """What begins a line here belongs to the container with this column: inner ones are not closed."""
        frame = self.frames[-1]
        column = self._column(self.at)
        if column is None:
            return
        if frame.inner is None and not frame.container:
            frame.inner = column
            return
        if frame.inner is not None and column > frame.inner:
            self.early = True
        if frame.inner is None or column >= frame.inner:
            return
        depth = next(
            (place for place, each in enumerate(self.frames) if each.inner == column and each.kind == fits), None
        )
        if depth is not None:
            self._close_down_to(depth + 1)

    def _close_down_to(self, depth: int, *, certain: bool = True) -> None:
        """Close what is deeper than this; a closer is missing for each."""
        closers = "".join(OPENERS[each.kind] for each in reversed(self.frames[depth:]))
        self._repair("missing closer", self.at, closers, certain=certain)
        while len(self.frames) > depth:
            self._finish()
        self.frames[-1].started = False

    def _close(self, sign: str) -> None:
        at = self.at
        frame = self.frames[-1]
        if len(self.frames) == 1 and self._goes_on_after(at):
            self._repair("extra closer", at, sign)
            self.at += 1
            return
        if frame.kind == CLOSERS[sign]:
            self._close_by_column(sign)
            self.at += 1
            self._finish()
            return
        self._mismatch(sign)

    def _close_by_column(self, sign: str) -> None:
        """A closer at the beginning of a line closes what was opened in a line of this column."""
        frame = self.frames[-1]
        column = self._column(self.at)
        if column is None or frame.inner is None or frame.indent <= column:
            return
        for depth, each in enumerate(self.frames[:-1]):
            if each.kind == CLOSERS[sign] and each.inner is not None and each.indent == column:
                self._close_down_to(depth + 1)
                return

    def _goes_on_after(self, at: int) -> bool:
        """Whether the outermost closer is not the end, since members follow it."""
        text = self.text
        after = skip(text, at + 1)
        frame = self.frames[0]
        if after < self.stop and text[after] in COMMAS and text[after] == ",":
            after = skip(text, after + 1)
            if frame.kind == "{":
                return KEY.match(text, after) is not None and self._way(at, 2) == 0
        return False

    def _mismatch(self, sign: str) -> None:
        """A closer of the other kind: another one is missing before it, it is the wrong one, or one too many."""
        at = self.at
        ways = self._ways_out(sign)
        way = ways[self._way(at, len(ways))]
        self.at += 1
        if way == "missing closer":
            frame = self.frames[-1]
            forced = self._column(at) is not None or frame.kind != self.frames[-2].kind or len(frame.container) < 2
            self._repair(way, at, "]" if sign == "}" else "}", certain=forced)
            while self.frames[-1].kind != CLOSERS[sign]:
                self._finish()
            self._finish()
        elif way == "wrong closer":
            self._repair(way, at, sign)
            self._finish()
        else:
            self._repair(way, at, sign)

    def _ways_out(self, sign: str) -> list[str]:
        """What may be the matter, the likeliest first."""
        kinds = [frame.kind for frame in self.frames]
        wanted = CLOSERS[sign]
        missing = wanted in kinds[:-1] and kinds[-2] == wanted
        fits = self._what_fits(self.at)
        ways: list[tuple[int, str]] = []
        outer = kinds[-3] if len(kinds) > 2 else "" if len(kinds) == 2 else None
        if (by_column := self._way_by_column(sign)) is not None:
            return [by_column]
        if missing and outer is not None:
            ways.append((0 if outer in fits else 2, "missing closer"))
        parent = kinds[-2] if len(kinds) > 1 else ""
        ways.append((0 if parent in fits else 2, "wrong closer"))
        ways.append((1 if kinds[-1] in fits or "close" in fits else 3, "extra closer"))
        return [way for _, way in sorted(ways, key=lambda each: each[0])]

    def _way_by_column(self, sign: str) -> str | None:
        """Where lines are indented, the column says what a closer closes."""
        column = self._column(self.at)
        if column is None or self.frames[-1].inner is None:
            return None
        if column == self.frames[-1].indent:
            return "wrong closer"
        wanted = CLOSERS[sign]
        if len(self.frames) > 1 and self.frames[-2].kind == wanted and column == self.frames[-2].indent:
            return "missing closer"
        return "extra closer" if column > self.frames[-1].indent else None

    def _what_fits(self, at: int) -> set[str]:
        """In which containers what follows a closer can be: "" is the end of the document."""
        text = self.text
        after = skip(text, at + 1)
        sign = text[after : after + 1]
        if not sign or after >= self.stop:
            return {""}
        if sign in CLOSERS:
            return {CLOSERS[sign], "close"}
        if sign in COMMAS:
            after = skip(text, after + 1)
            if KEY.match(text, after) or BARE_KEY.match(text, after):
                return {"{"}
            return {"["}
        return {"", "{"} if KEY.match(text, after) else {""}

    def _close_all(self) -> None:
        """The text ends, or the document does, and containers are open."""
        if not self.frames:
            self.found.problem = self.found.problem or "no value is there"
            return
        if (
            self.found.truncated is None
            and self.ends_here
            and self.last == "number"
            and self.text[self.at - 1].isdigit()
        ):
            self._cut("in a number")
        missing = len(self.frames) - self.members
        frame = self.frames[-1]
        if frame.kind == "{" and frame.key is not None:
            self._dropped(self._path())
            frame.key = None
        if missing and self.ends_here and self.found.truncated is None and not self.tail and not self.members:
            self._cut("after a value")
        if missing:
            closers = "".join(OPENERS[each.kind] for each in reversed(self.frames[self.members :]))
            self._repair("missing closer", self.at, closers, certain=self._sure_of_the_last())
        while self.frames:
            self._finish()

    def _sure_of_the_last(self) -> bool:
        """Whether the closers that are missing are the last ones: none of those that are there can be one of them.

        An object that should have been closed earlier has more than one member, and is within an object.
        """
        outer = self.frames[0].container
        called = len(self.frames) == len(self.tail) == 1 and isinstance(outer, dict) and len(outer) == 2
        if called and outer.keys() & _CALLED:
            return True
        return self.frames[-1].inner is not None or self._none_too_late()

    def _none_too_late(self) -> bool:
        """Whether none of the containers that end here may have been meant to end earlier."""
        return not any(alike and count > 1 for alike, count in self.tail)

    # Values

    def _member(self, frame: _Frame) -> None:
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

    def _nothing_more(self) -> None:
        if self.ends_here:
            self._cut("where a key or a value comes")
        raise _Stop

    def _new_object_in_list(self, sign: str) -> None:
        """`{"a": 1, {"a": 2}`: the object before has not been closed."""
        if sign == "{" and len(self.frames) > 1 and self.frames[-2].kind == "[" and self.frames[-1].container:
            self._repair("missing closer", self.at, "}", certain=self._none_too_late())
            self._finish()
            self.frames[-1].started = False
            return
        raise _Stop(f"there is no key at {self.at}")

    def _key(self, frame: _Frame, sign: str) -> None:
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
            raise _Stop
        self._no_key()

    def _no_key(self) -> None:
        if len(self.frames) > 1 and self.frames[-2].kind == "[" and self.frames[-1].container and VALUE.match(
            self.text, self.at):  # fmt: skip
            raise _Stop(f"there is no key at {self.at}")
        raise _Stop(f"there is no key at {self.at}: {_shown(self.text[self.at : self.at + 40])}")

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
            raise _Stop(f"the key `{self.frames[-1].key}` has no value at {self.at}")
        else:
            self._repair("colon", self.at, "missing")

    def _item(self, frame: _Frame) -> None:
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

    def _key_in_list(self, frame: _Frame, sign: str) -> bool:
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
            raise _Stop(f"a value is missing at {self.at}")
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

    def _place(self) -> Place:
        if not self.frames:
            return "alone"
        return "member" if self.frames[-1].kind == "{" else "item"

    def _string(self, place: Place) -> str:
        at = self.at
        stop = min(self.stop, at + LONGEST_KEY) if place == "key" else self.stop
        self.steps += len(self.text) > at and self.text[at] != '"'  # these take twice as long
        read = read_string(self.text, at, place, stop, len(self.frames))
        if not read.whole and stop < self.stop:
            raise _Stop(f"there is no key at {at}: no quote ends it")
        for kind, position, certain in read.repairs:
            if kind.startswith("control "):
                self.controls.append((position, kind[-1]))
            else:
                self._repair(kind, position, certain=certain)
        self.at = read.end
        if not read.whole:
            if place == "key":
                self._cut("in a key")
                raise _Stop
            self._cut("in a string")
            if not self.ends_here:
                self._repair("closing quote", self.at, certain=False)
        return read.value

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

    def _in_object(self) -> bool:
        return not self.frames or self.frames[-1].kind == "{"

    def _more_digits(self, end: int) -> bool:
        """`1,234` as the value of a key is one number: what follows its comma is no key."""
        if not self._in_object() or self.text[end : end + 1] not in tuple(",_ -/:"):
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
            raise _Stop(f"a value is missing at {at}")
        prefixed = quoted and text[end] in written  # such as `b'…'`
        certain = certain and "\\" not in written and not prefixed
        self._repair("opening quote" if quoted else "unquoted text", at, certain=certain)
        self._take(written, "string", at, end + quoted)

    def _end_of_unquoted(self, at: int) -> tuple[int, bool, bool]:
        """Where it ends, whether a quote ends it, and whether that is certain."""
        text = self.text
        place = at
        certain = True
        while place < self.stop:
            sign = text[place]
            if sign == "\n":
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
        return place, False, certain

    def _key_after(self, at: int) -> bool:
        at = skip(self.text, at)
        if at >= self.stop or self.text[at] in CLOSERS:
            return True
        return KEY.match(self.text, at) is not None or BARE_KEY.match(self.text, at) is not None

    def _join(self, frame: _Frame) -> None:
        """`"a" + "b"`."""
        more: list[str] = []
        while self._skip() == "+":
            self._repair("joined strings", self.at)
            self.at += 1
            if (sign := self._skip()) not in QUOTES or not sign:
                raise _Stop(f"`+` is followed by no string at {self.at}")
            more.append(self._string(self._place()))
            self.steps += 3  # a string is more than a sign
            if self.steps > MOST_STEPS:
                break
        if frame.kind == "[":
            frame.container[-1] += "".join(more)
        else:
            frame.container[next(reversed(frame.container))] += "".join(more)

    def _take(self, value: Any, kind: str, start: int, end: int | None = None) -> None:
        """A value is complete."""
        if end is not None:
            self.at = end
        self.last = kind
        self.tail = []
        if not self.frames:
            self.root, self.done = value, True
            return
        frame = self.frames[-1]
        path = self._path()
        if frame.put(value):
            self._dropped(path)
            self._repair("doubled key", start, certain=False)
        frame.started = True

    # Notes

    def _path(self, depth: int | None = None) -> str:
        return "$" + "".join(frame.step() for frame in self.frames[:depth])

    def _cut(self, where: str) -> None:
        if self.found.truncated is None:
            self.found.truncated = self._path()
            self._repair("truncated", self.at, where, certain=False, cost=2.0)

    def _dropped(self, path: str) -> None:
        self.found.dropped.append(path)

    def _repair(
        self, kind: str, position: int, what: str = "", *, certain: bool = True, cost: float | None = None
    ) -> None:
        self.found.repairs.append(Repair(kind, position, what, certain))
        before = self.counts.get(kind, 0)
        self.counts[kind] = before + 1
        full = _COSTS.get(kind, 1.0) if cost is None else cost
        self.found.cost += full if not before or kind in _STRUCTURAL else full * _MORE

    def _way(self, position: int, count: int) -> int:
        """Which way to go here: the first, unless another one was asked for."""
        if count > 1:
            self.found.choices.append((position, count))
        return min(self.ways.get(position, 0), count - 1)


def _ends_with(value: Any, *, in_object: bool) -> list[tuple[bool, int]]:
    """The containers that end where this one does, the innermost first: see `Reader.tail`."""
    tail: list[tuple[bool, int]] = []
    while isinstance(value, dict | list):
        alike = isinstance(value, dict) == in_object
        tail.append((alike, len(value)))
        in_object = isinstance(value, dict)
        value = None if not value else value[-1] if isinstance(value, list) else value[next(reversed(value))]
    return tail[::-1]


def _number(text: str) -> int | float:
    return int(text) if text.lstrip("-").isdigit() else float(text)


def _shown(text: str) -> str:
    return json.dumps(text[:40], ensure_ascii=False)
