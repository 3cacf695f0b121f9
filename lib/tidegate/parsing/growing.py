"""A JSON document that is still arriving: a machine that keeps its state between chunks and reads nothing twice."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tidegate.parsing.cursor import DEEPEST
from tidegate.parsing.frames import Frame, frame_of
from tidegate.parsing.letters import QUOTES, Letters
from tidegate.parsing.shapes import ABSENT, Place
from tidegate.parsing.signs import CLOSERS, NUMBER, SPACE, WORDS

_space: Callable[[str, int], re.Match[str]] = SPACE.match  # type: ignore[assignment] # it matches nothing as well
_token: Callable[[str, int], re.Match[str]] = re.compile(r"[\w.$+-]*+").match  # type: ignore[assignment] # as above
_KEY = re.compile(r"[^\W\d][\w$-]*+|\$[\w$-]++")

_LONGEST_TOKEN = 5000
"""Characters of a number or a word; Python reads no longer whole numbers."""

_DOUBTFUL = 200
"""Characters of a string with which something in prose begins that may be no document."""

_LAST = " ,}]\r\n\t"

_SIGNS_PER_STEP = 8
"""Characters that are copied in the time of an item of a list, about."""

_QUOTED = 20
"""Characters of the text that a problem shows."""

State = Callable[[str, int], int]


class Document:
    """One document. `read` it from its first sign on, chunk by chunk; `view` is what has arrived.

    `sure`: whether it is a document at all, and no bracket in prose: it has a key, or an item that is text; if it is
    `direct`, where one is expected, any item will do. `ended`: it is complete, or `problem` says why it is not read on.
    `changed`: whether a view would show more than the last one.
    """

    def __init__(self, place: Place, *, direct: bool) -> None:
        self.sure = False
        self._direct = direct
        self.ended = False
        self.problem: str | None = None
        self.changed = False
        self.steps = 0
        """How often a state was entered: the work, with the characters that arrived."""
        self._root = place
        self._value: Any = ABSENT
        self._frames: list[Frame] = []
        self._hidden: int | None = None
        """How many frames are shown, if something in which we are is not."""
        self._place = place
        self._state: State = self._open_root
        self._back: State = self._open_root
        self._letters = Letters()
        self._growing = False
        """Whether they are a text that is shown as it grows."""
        self._is_key = False
        self._held: Any = ABSENT
        """A number or a word whose end is not sure yet."""
        self._token = ""
        """A number, a word or a key without quotes, as far as it is there."""
        self._star = False
        self._name = ""
        self._last_is_text = False

    def read(self, chunk: str, at: int) -> int:
        """Go on with this chunk, from here to the place that is returned: its end, unless the document ended."""
        while at < len(chunk) and not self.ended:
            self.steps += 1
            at = self._state(chunk, at)
        return at

    def view(self) -> tuple[Any, int]:
        """What has arrived, in containers which do not change later; and what it cost, in copied items of a list."""
        self.changed = False
        if not self._frames:
            return self._value, 0
        inner, cost = ABSENT, 0
        if self._growing:
            inner = self._letters.text().rstrip(_LAST)  # should its quote be missing, these are none of its own
            cost = self._letters.length // _SIGNS_PER_STEP
        for frame in reversed(self._frames[: self._hidden]):
            inner = frame.view(inner)
            cost += frame.size()
        return inner, cost

    # Where it stands

    def _stop(self, problem: str) -> None:
        self.problem, self.ended = problem, True

    def _strange(self, found: str, wanted: str) -> None:
        self._stop(f"{found[:_QUOTED]!r} where {wanted} should be")

    # Values

    def _open_root(self, chunk: str, at: int) -> int:
        return self._open(chunk[at], at)

    def _open(self, opener: str, at: int) -> int:
        if len(self._frames) >= DEEPEST:
            self._stop(f"it is more than {DEEPEST} containers deep")
            return at
        frame = frame_of(self._place, opener)
        if frame.waits is not None and self._hidden is None:
            self._hidden = len(self._frames)
        self._frames.append(frame)
        self.changed |= self._hidden is None
        if opener == "{":
            self._state = self._key
        else:
            self._place = frame.item()
            self._state = self._item
        return at + 1

    def _item(self, chunk: str, at: int) -> int:
        """An item of a list, or its end: also after a comma."""
        at = _space(chunk, at).end()
        if at < len(chunk) and chunk[at] == "]":
            return self._close(at)
        return self._begin(chunk, at, self._item)

    def _member(self, chunk: str, at: int) -> int:
        """The value of a key."""
        at = _space(chunk, at).end()
        return self._begin(chunk, at, self._member)

    def _begin(self, chunk: str, at: int, back: State) -> int:
        if at == len(chunk):
            return at
        sign = chunk[at]
        if sign in QUOTES:
            self._growing = self._place.text and self._hidden is None
            self.changed |= self._growing
            return self._begin_string(sign, at, is_key=False)
        if sign in "{[":
            return self._open(sign, at)
        if sign in "/#":
            return self._begin_comment(sign, at, back)
        if not _token(sign, 0).end():
            self._strange(chunk[at : at + _QUOTED], "a value")
            return at
        self._state = self._bare
        return at

    def _put(self, value: object, *, seen: bool = False) -> None:
        """A complete value is in its place. `seen`: it was shown already, as it grew."""
        self.sure |= self._direct
        shown = self._place.whole(value)
        if shown is not ABSENT:
            self._frames[-1].put(shown)
            self.changed |= self._hidden is None and not seen
        self._last_is_text = isinstance(value, str)
        self._state = self._after

    def _after(self, chunk: str, at: int) -> int:
        """A comma, or the end of the container."""
        at = _space(chunk, at).end()
        if at == len(chunk):
            return at
        sign, frame = chunk[at], self._frames[-1]
        if sign in "/#":
            return self._begin_comment(sign, at, self._after)
        if sign == "," or CLOSERS.get(sign) == frame.opener:  # but [1] in prose is a footnote
            self.sure |= self._last_is_text or (sign == "," and self._root.openers == "[")
        if sign == ",":
            self._state = self._key
            if frame.opener == "[":
                self._place, self._state = frame.item(), self._item
            return at + 1
        if CLOSERS.get(sign) == frame.opener:
            return self._close(at)
        self._strange(chunk[at : at + _QUOTED], "a comma or the end of a container")
        return at

    def _close(self, at: int) -> int:
        self.sure |= self._direct
        frame = self._frames.pop()
        value = frame.closed()
        self._last_is_text = False
        self._state = self._after
        if frame.waits is not None:
            self._hidden = None
            value = frame.waits.whole(value)
            self.changed |= value is not ABSENT
        if not self._frames:
            self._value, self.ended = value, True
        elif value is not ABSENT:
            self._frames[-1].put(value)
        return at + 1

    # Keys

    def _key(self, chunk: str, at: int) -> int:
        """A key, or the end of the object: also after a comma."""
        at = _space(chunk, at).end()
        if at == len(chunk):
            return at
        sign = chunk[at]
        if sign in QUOTES:
            return self._begin_string(sign, at, is_key=True)
        if sign == "}":
            return self._close(at)
        if sign in "/#":
            return self._begin_comment(sign, at, self._key)
        if not _token(sign, 0).end():
            self._strange(chunk[at : at + _QUOTED], "a key")
            return at
        self._state = self._bare_key
        return at

    def _bare_key(self, chunk: str, at: int) -> int:
        stop = self._collect(chunk, at)
        if stop < len(chunk):
            self._name, self._token = self._token, ""
            self._state = self._colon
            if _KEY.fullmatch(self._name) is None:
                self._strange(self._name, "a key")
        return stop

    def _colon(self, chunk: str, at: int) -> int:
        at = _space(chunk, at).end()
        if at == len(chunk):
            return at
        if chunk[at] in "/#":
            return self._begin_comment(chunk[at], at, self._colon)
        if chunk[at] != ":":
            self._strange(chunk[at : at + _QUOTED], "a colon")
            return at
        if not self.sure and len(self._frames) == 1 and not self._known(self._name):
            self._stop(f"`{self._name}` is no name of what is wanted")
            return at
        self.sure = True
        self._place = self._frames[-1].member(self._name)
        self._state = self._member
        return at + 1

    def _known(self, name: str) -> bool:
        fields = self._root.fields
        return fields is None or fields.open or fields.name(name) is not None

    # Numbers and words

    def _collect(self, chunk: str, at: int) -> int:
        stop = _token(chunk, at).end()
        self._token += chunk[at:stop]
        if len(self._token) > _LONGEST_TOKEN:
            self._stop(f"a number or word of more than {_LONGEST_TOKEN:,} characters")
        return stop

    def _bare(self, chunk: str, at: int) -> int:
        """A number or a word. It is complete when something else follows: 12 may become 123."""
        stop = self._collect(chunk, at)
        if stop == len(chunk):
            return stop
        token, self._token = self._token, ""
        self._held = _scalar(token)
        if self._held is ABSENT:
            self._strange(token, "a value")
        else:
            self._state = self._settle
        return stop

    def _settle(self, chunk: str, at: int) -> int:
        """A number or a word is one only if a comma or the end of the container follows: `12 apples`, `true story`."""
        at = _space(chunk, at).end()
        if at == len(chunk):
            return at
        sign, frame = chunk[at], self._frames[-1]
        if sign in "/#":
            return self._begin_comment(sign, at, self._settle)
        if sign == "," and frame.opener == "{":
            self._state = self._settle_comma
            return at + 1
        if sign == "," or CLOSERS.get(sign) == frame.opener:
            self._put(self._held)
        else:
            self._strange(chunk[at : at + _QUOTED], "a comma or the end of a container")
        return at

    def _settle_comma(self, chunk: str, at: int) -> int:
        """After a member's comma comes a key; a digit would make it `1,000`."""
        if "0" <= chunk[at] <= "9":
            self._strange(chunk[at : at + _QUOTED], "a key")
            return at
        self._put(self._held)
        self._state = self._key
        return at

    # Strings

    def _begin_string(self, quote: str, at: int, *, is_key: bool) -> int:
        self.sure |= self._direct
        self._letters.begin(quote)
        self._is_key = is_key
        self._state = self._string
        return at + 1

    def _string(self, chunk: str, at: int) -> int:
        letters = self._letters
        before = letters.length
        stop = letters.read(chunk, at)
        self.changed |= self._growing and letters.length > before
        if not self.sure and (letters.length > _DOUBTFUL or "\n" in chunk[at:stop]):
            self._stop("prose")
        elif letters.problem is not None:
            self._stop(letters.problem)
        elif letters.ended:
            self._end_string()
        return stop

    def _end_string(self) -> None:
        text, seen = self._letters.text(), self._growing
        self._growing = False
        if self._is_key:
            self._name = text
            self._state = self._colon
        else:
            self._put(text, seen=seen)

    # Comments

    def _begin_comment(self, sign: str, at: int, back: State) -> int:
        self._back = back
        self._state = self._line if sign == "#" else self._slash
        return at + 1

    def _slash(self, chunk: str, at: int) -> int:
        if chunk[at] not in "/*":
            self._strange(chunk[at : at + _QUOTED], "a comment")
            return at
        self._star = False
        self._state = self._line if chunk[at] == "/" else self._block
        return at + 1

    def _line(self, chunk: str, at: int) -> int:
        stop = chunk.find("\n", at)
        if stop < 0:
            return len(chunk)
        self._state = self._back
        return stop + 1

    def _block(self, chunk: str, at: int) -> int:
        if self._star and chunk[at] == "/":
            self._state = self._back
            return at + 1
        stop = chunk.find("*", at)
        self._star = stop >= 0
        return len(chunk) if stop < 0 else stop + 1


def _scalar(token: str) -> Any:
    value, kind = WORDS.get(token, (ABSENT, ""))
    if value is not ABSENT:
        return ABSENT if kind == "not-a-number" else value
    if NUMBER.fullmatch(token) is None or not token.isascii():
        return ABSENT
    try:
        return int(token) if token.lstrip("-").isdigit() else float(token)
    except ValueError:  # more digits than Python converts
        return ABSENT
