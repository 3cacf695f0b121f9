"""Where a reader of broken documents is, what is open around it, and what it has noted down."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tidegate.parsing.found import Reading, Repair
from tidegate.parsing.signs import LEFT_OUT, ODD_SPACE, skip
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

_STRUCTURAL = frozenset({"missing closer", "extra closer", "wrong closer", "closing quote", "opening quote"})


class Stop(Exception):
    """The document ends here, or cannot be read on."""

    def __init__(self, problem: str | None = None) -> None:
        super().__init__(problem)
        self.problem = problem


class Frame:
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


class Cursor:
    """A place in a document that begins at `start` of a text."""

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
        self.frames: list[Frame] = []
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

    def _open(self, kind: str, at: int) -> None:
        if len(self.frames) >= DEEPEST:
            raise Stop(f"it is more than {DEEPEST} containers deep")
        self.frames.append(Frame(kind, at, self._indent(at)))

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

    def _place(self) -> Place:
        if not self.frames:
            return "alone"
        return "member" if self.frames[-1].kind == "{" else "item"

    def _in_object(self) -> bool:
        return not self.frames or self.frames[-1].kind == "{"

    def _string(self, place: Place) -> str:
        at = self.at
        stop = min(self.stop, at + LONGEST_KEY) if place == "key" else self.stop
        self.steps += len(self.text) > at and self.text[at] != '"'  # these take twice as long
        read = read_string(self.text, at, place, stop, len(self.frames))
        if not read.whole and stop < self.stop:
            raise Stop(f"there is no key at {at}: no quote ends it")
        for kind, position, certain in read.repairs:
            if kind.startswith("control "):
                self.controls.append((position, kind[-1]))
            else:
                self._repair(kind, position, certain=certain)
        self.at = read.end
        if not read.whole:
            if place == "key":
                self._cut("in a key")
                raise Stop
            self._cut("in a string")
            if not self.ends_here:
                self._repair("closing quote", self.at, certain=False)
        return read.value

    def _nothing_more(self) -> None:
        if self.ends_here:
            self._cut("where a key or a value comes")
        raise Stop

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


def shown(text: str) -> str:
    """The beginning of a text, for an error."""
    return json.dumps(text[:40], ensure_ascii=False)
