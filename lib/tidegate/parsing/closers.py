"""What closes a container: its own sign, one of the other kind, none at all, and what indentation says of it."""

from __future__ import annotations

from tidegate.parsing.cursor import Cursor
from tidegate.parsing.signs import BARE_KEY, CLOSERS, COMMAS, KEY, OPENERS, skip

_CALLED = frozenset({"arguments", "parameters", "args", "input"})
"""What calls of functions have beside a name."""


class Closers(Cursor):
    """Closes containers; where another way is open, it takes the likelier one and notes that."""

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
            sure = self._sure_of_the_last() and not self._ends_in_a_line() and self.frames[-1].kind == "{"
            self._repair("missing closer", self.at, closers, certain=sure)
        while self.frames:
            self._finish()

    def _ends_in_a_line(self) -> bool:
        """Whether the last value is a number, a word or text without quotes that may be a part of what follows it."""
        if self.last == "text":
            return True
        following = self.text[self.at : min(self.stop, self.at + 40)].partition("\n")[0].strip()
        return self.last in ("number", "word") and following[:1].isalnum()

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
