"""An answer on a terminal as it comes, a word at a time, so that no word is torn over the edge of a line."""

from __future__ import annotations

import unicodedata
from typing import TextIO

from tidegate.cli.cells import cells, clusters
from tidegate.terminal import columns, harmless

TAB = 8
"""Cells from one tab stop to the next."""

FIRST_WIDE = "\u1100"
"""No character before this one takes two cells."""

LONGEST_CLUSTER = 16
"""Characters that are looked at to find the last one that a reader sees: a family of four with skin colours has 11."""


def write_line(text: str, stream: TextIO, *, at: int = 0) -> None:
    """A line, or as many as it needs; `at` cells of the first are taken."""
    paper = Paper(stream, at=at)
    paper.write(text)
    paper.end()


class Paper:
    """Where the pieces of an answer are written: wrapped on a terminal, as they come anywhere else."""

    def __init__(self, stream: TextIO, *, at: int = 0) -> None:
        """`at`: how many cells of the first line are taken."""
        self._stream = stream
        self._wrapped = stream.isatty()
        self._word = ""
        self._gap = 0
        self._at = at
        self._last = "\n"

    def write(self, text: str) -> None:
        """The next piece. A word is shown once it is known where it ends."""
        if not text:
            return
        if self._wrapped:
            for character in harmless(text.replace("\r\n", "\n")):
                self._take(character)
        else:
            self._put(text)
        self._stream.flush()

    def end(self) -> None:
        """The answer is over, or broken off: show the last word, and end its line."""
        self._release()
        if self._last != "\n":
            self._put("\n")
        self._gap = self._at = 0
        self._stream.flush()

    def _put(self, text: str) -> None:
        self._last = text[-1]  # first: Ctrl-C may come when the text is out already
        self._stream.write(text)

    def _take(self, character: str) -> None:
        if character == "\n":
            self._release()
            self._put("\n")
            self._gap = self._at = 0
        elif character in " \t":
            self._release()
            self._gap += 1 if character == " " else TAB - (self._at + self._gap) % TAB
        else:
            if self._word and self._may_break_before(character):
                self._release()
            self._word += character

    def _may_break_before(self, character: str) -> bool:
        """Between ideographs a line may end, though not before what closes a clause or a bracket."""
        tail = self._word[-LONGEST_CLUSTER:]
        if max(tail[-1], character) < FIRST_WIDE:
            return False
        if clusters(tail + character)[-1] != character or unicodedata.category(character) in ("Po", "Pe", "Pf"):
            return False
        return cells(character) == 2 or cells(clusters(tail)[-1]) == 2

    def _release(self) -> None:
        """Write the word that is whole now: on this line if it fits, else on the next."""
        if not self._word:
            return
        room = columns(self._stream)
        widths = [cells(cluster) for cluster in clusters(self._word)]
        if self._at and self._at + self._gap + sum(widths) > room:
            self._put("\n")
            self._gap = self._at = 0
        self._put(" " * self._gap + self._word)
        self._at += self._gap
        for width in widths:  # a word that is longer than a line is broken by the terminal itself
            self._at = self._at + width if self._at + width <= room else width
        self._word, self._gap = "", 0
