"""Words, sentences and lines of a text that comes in pieces. Cut where it was, each of them is given once and whole."""

from __future__ import annotations

import re
import unicodedata

from wcwidth import iter_graphemes

_PIECE = re.compile(r"\s*\S+")

_END = re.compile(r"[.!?…]+[\"'”’»)\]*_]*(?=\s)|[。！？｡]+[」』）”’\"']*|\n[ \t]*\n")  # noqa: RUF001 (as people write)
"""Where a sentence may end: after its mark and what closes it, or at an empty line."""

_ABBREVIATIONS = frozenset({
    "al", "approx", "art", "bzw", "ca", "cf", "co", "col", "corp", "d.h", "dept", "dr", "e.g", "ed", "eds", "eg",
    "est", "etc", "ff", "fig", "figs", "gen", "i.e", "ie", "inc", "jr", "lt", "ltd", "max", "min", "mr", "mrs", "ms",
    "mt", "nr", "no", "nos", "p.s", "pp", "prof", "rev", "sec", "sen", "sgt", "sr", "st", "u.a", "u.s", "usw", "v.a",
    "capt", "vol", "vs", "z.b",
})  # fmt: skip
"""Words that end with a full stop and no sentence."""


class Words:
    """The words of a text. Where a script sets no spaces, each character is one; combining marks stay with theirs.

    With `spaces=True` every word has the space before it, so that all of them together are the text.
    """

    def __init__(self, *, spaces: bool = False) -> None:
        self._spaces = spaces
        self._held = ""

    def feed(self, text: str) -> list[str]:
        """The words whose ends have come."""
        held = self._held + text
        if held.isascii():
            pieces = _PIECE.findall(held)
            whole = sum(map(len, pieces))
            rest = held[whole:]
            # The last word may go on, and so may the space before the next.
            self._held = (pieces.pop() if pieces and not rest else "") + rest
        else:
            pieces = self._of_any_script(held)
        return pieces if self._spaces else [piece.strip() for piece in pieces]

    def _of_any_script(self, text: str) -> list[str]:
        pieces: list[str] = []
        current = ""
        last = ""
        for last in iter_graphemes(text):
            if current.strip() and (last.isspace() or _stands_alone(last) or _stood_alone(current, last)):
                pieces.append(current)
                current = ""
            current += last
        self._held = current
        return pieces

    def finish(self) -> list[str]:
        """What is left at the end."""
        held, self._held = self._held, ""
        if not self._spaces:
            held = held.strip()
        return [held] if held else []


def _stands_alone(grapheme: str) -> bool:
    """Whether it is a letter of a script without spaces."""
    first = grapheme[0]
    return unicodedata.category(first) == "Lo" and unicodedata.east_asian_width(first) in ("W", "F")


def _stood_alone(current: str, following: str) -> bool:
    """Whether `current` is such a letter, and `following` no mark behind it."""
    return _stands_alone(current.lstrip()) and not unicodedata.category(following[0]).startswith("P")


class Lines:
    """The lines of a text, without their ends."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> list[str]:
        """The lines whose ends have come."""
        *lines, self._held = (self._held + text).split("\n")
        return [line.removesuffix("\r") for line in lines]

    def finish(self) -> list[str]:
        """What is left at the end."""
        held, self._held = self._held, ""
        return [held.removesuffix("\r")] if held else []


class Sentences:
    """The sentences of a text, without the space around them.

    By the marks that end them, in the scripts that use these; not at abbreviations, initials, numbers of a list, or
    before a small letter.
    """

    def __init__(self) -> None:
        self._held = ""
        self._seen = 0
        """Before here nothing ends."""

    def feed(self, text: str) -> list[str]:
        """The sentences of which it is known that they are over."""
        self._held += text
        found: list[str] = []
        while (end := self._end()) is not None:
            sentence = self._held[:end].strip()
            self._held = self._held[end:].lstrip()
            self._seen = 0
            if sentence:
                found.append(sentence)
        return found

    def _end(self) -> int | None:
        while (match := _END.search(self._held, self._seen)) is not None:
            after = self._held[match.end() :].lstrip()
            if match[0][0] not in ".!?…":
                return match.end()
            if not after:
                self._seen = match.start()  # what follows decides
                return None
            if not self._goes_on(match, after):
                return match.end()
            self._seen = match.end()
        # A mark at the very end may get more of its kind, or the space that makes it one.
        self._seen = max(self._seen, len(self._held) - 8)
        return None

    def _goes_on(self, mark: re.Match[str], after: str) -> bool:
        if after[0].islower():
            return True
        if not mark[0].startswith("."):
            return False
        word = self._held[: mark.start()].rsplit(None, 1)[-1:] or [""]
        plain = word[0].lstrip("([\"'“‘*_").lower()  # noqa: RUF001
        initial = len(plain) == 1 and plain.isalpha()
        return plain in _ABBREVIATIONS or initial or (plain.isdigit() and self._held.lstrip().startswith(plain + "."))

    def finish(self) -> list[str]:
        """What is left at the end."""
        held, self._held = self._held.strip(), ""
        self._seen = 0
        return [held] if held else []
