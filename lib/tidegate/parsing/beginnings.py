"""Where a document may begin in text that is still arriving: not in a thought, at once in a fence, else in prose."""

from __future__ import annotations

import re
from collections.abc import Callable

_BLANK = " \t\r\n\ufeff\u200b"
_START = re.compile(r"[{\[`~<]")
_label: Callable[[str, int], re.Match[str]] = re.compile(r"[\w+.#-]*+").match  # type: ignore[assignment] # nothing as well
_name: Callable[[str, int], re.Match[str]] = re.compile(r"[/\w|]*+").match  # type: ignore[assignment] # as above

_THOUGHTS = frozenset(
    {"think", "thinking", "thought", "thoughts", "reasoning", "reflection", "scratchpad", "analysis"}
)  # as `answer` has them
_LONGEST = 40
"""Characters of a tag's name."""

_BEHIND = re.compile(r"</think>|```|~~~")
_WINDOW = 8
"""Characters in which one of these may have begun before the next chunk."""


class Beginning:
    """Looks for `{` and `[`. `direct`: nothing stands before it in the text, in its fence or tag, or after thoughts."""

    def __init__(self, openers: str) -> None:
        self.openers = openers
        self.direct = True
        self._state: Callable[[str, int], int] = self._seek
        self._found = False
        self._sign = ""
        self._run = 0
        self._name = ""
        self._end = _BEHIND
        self._tail = ""
        self._fences = False

    def search(self, chunk: str, at: int) -> int:
        """The place in this chunk where a document may begin; its end, if there is none."""
        self._found = False
        while at < len(chunk) and not self._found:
            at = self._state(chunk, at)
        return at

    def resume(self) -> None:
        """What began was no document: look on behind it."""
        self.direct = False

    def behind(self, *, fences: bool) -> None:
        """There was a document: only the end of a thought that it was in, or a fence, makes another one count."""
        self._fences = fences
        self._tail = ""
        self._state = self._behind

    def _seek(self, chunk: str, at: int) -> int:
        found = _START.search(chunk, at)
        stop = len(chunk) if found is None else found.start()
        if self.direct and chunk[at:stop].strip(_BLANK):
            self.direct = False
        if found is None:
            return stop
        sign = chunk[stop]
        if sign in "{[":
            self._found = sign in self.openers
            self.direct &= self._found
            return stop if self._found else stop + 1
        self._sign, self._run, self._name = sign, 0, ""
        self._state = self._tag if sign == "<" else self._fence
        return stop + (sign == "<")

    def _fence(self, chunk: str, at: int) -> int:
        if chunk[at] == self._sign:
            self._run += 1
            return at + 1
        self.direct = self._run >= 3
        self._state = self._label if self.direct else self._seek
        return at

    def _label(self, chunk: str, at: int) -> int:
        stop = _label(chunk, at).end()
        if stop < len(chunk):
            self._state = self._seek
        return stop

    def _tag(self, chunk: str, at: int) -> int:
        stop = _name(chunk, at).end()
        self._name += chunk[at : min(stop, at + _LONGEST)]
        if stop == len(chunk) and len(self._name) < _LONGEST:
            return stop
        name = self._name.casefold()
        self.direct = chunk[stop : stop + 1] == ">" and name != ""
        self._state = self._seek
        if self.direct and name in _THOUGHTS:
            self._end = re.compile(f"</{name}>", re.IGNORECASE)
            self._tail = ""
            self._state = self._thoughts
        return stop + self.direct

    def _thoughts(self, chunk: str, at: int) -> int:
        stop = self._find(self._end, chunk, at, len(self._end.pattern) - 1)
        if stop is None:
            return len(chunk)
        self.direct = True
        self._state = self._seek
        return stop

    def _behind(self, chunk: str, at: int) -> int:
        stop = self._find(_BEHIND, chunk, at, _WINDOW - 1)
        if stop is None:
            return len(chunk)
        if chunk[stop - 1] == ">":
            self.direct = True
            self._state = self._seek
        elif self._fences:
            self._sign, self._run = chunk[stop - 1], 3
            self._state = self._fence
        return stop

    def _find(self, wanted: re.Pattern[str], chunk: str, at: int, kept: int) -> int | None:
        """Where in this chunk it ends; it may have begun in the one before."""
        window = self._tail + chunk[at:]
        found = wanted.search(window)
        if found is None:
            self._tail = window[-kept:]
            return None
        stop = at + found.end() - len(self._tail)
        self._tail = ""
        return stop
