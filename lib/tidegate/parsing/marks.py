"""The strategies that go by what marks data in an answer: a fence, or a tag around it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from tidegate.parsing.answer import Answer, answer_in
from tidegate.parsing.around import is_a_field
from tidegate.parsing.documents import documents
from tidegate.parsing.found import RANKS, Asked, Found

_FENCE = re.compile(r"(`{3,}+|~{3,}+)[ \t]*+([\w+.#-]*+)")
_LINE_FENCE = re.compile(r"^[ \t]*+(?:`{3,}+|~{3,}+)", re.MULTILINE)
_TAG = re.compile(r"<([A-Za-z][\w.-]{0,60}+)>\s*+(?=[{\[\"“'&\\]|\w++[\"']?\s*+:)")

_NOT_JSON = "python py bash sh shell html css sql java c cpp go rust diff xml yaml yml toml text mermaid"
_CODE = frozenset(_NOT_JSON.split())
_PLAIN = frozenset({"text", "xml", "yaml", "yml", "toml"})
"""Labels of fences in which JSON is at most a part of something else."""

_OTHERS_TAGS = frozenset({
    "example", "examples", "sample", "draft", "schema", "format", "template", "input", "context", "prompt", "question",
    "request",
})  # fmt: skip
"""Tags of what is not the answer."""

_MOST = 200
"""Fences and tags that are looked at."""


class _Block(NamedTuple):
    start: int
    stop: int
    closed: bool
    label: str
    end: int
    """Where the text goes on."""


class Fenced:
    """JSON in fenced blocks, with whatever label."""

    name = "fenced"

    def find(self, text: str, asked: Asked) -> Iterator[Found]:
        """The documents of every fenced block."""
        answer = answer_in(text)
        at, some = answer.start, False
        for _ in range(_MOST):
            opened = _FENCE.search(text, at, answer.stop)
            if opened is None:
                break
            some = True
            found, at = self._in_block(answer, opened, asked)
            yield from found
        if not some:
            raise ValueError("there is no fenced block")

    def _in_block(self, answer: Answer, opened: re.Match[str], asked: Asked) -> tuple[list[Found], int]:
        """What is in the block, and where the text goes on. A fence in a string does not end it."""
        begin = opened.end()
        blocks = _blocks(answer, opened)
        for block in blocks:
            found = self._read(answer, block, asked)
            if not (block.closed and any(each.truncated for each in found)):
                return found, block.end
        return self._read(answer, blocks[0], asked), max(blocks[0].end, begin)

    @staticmethod
    def _read(answer: Answer, block: _Block, asked: Asked) -> list[Found]:
        repair = asked.repair != "none" and block.label.casefold() not in _CODE
        ends_here = not block.closed and not answer.ended
        # That the text breaks off inside of a block which is closed means that a fence was part of a string.
        found = documents(answer.text, block.start, block.stop, ends_here=ends_here, repair=repair, prose=False)
        for each in found:
            each.rank = RANKS["prose" if block.label.casefold() in _CODE - _PLAIN else "fence"]
        return found


def _blocks(answer: Answer, opened: re.Match[str]) -> list[_Block]:
    """What the block may be: up to the first closing fence, up to the second, and so on."""
    blocks = []
    at = opened.end()
    for closing in _LINE_FENCE.finditer(answer.text, at, answer.stop):
        blocks.append(_Block(at, closing.start(), closed=True, label=opened[2], end=closing.end()))
        if len(blocks) == 3:
            break
    if not blocks:
        close = answer.text.find(opened[1], at, answer.stop)
        stop, closed = (close, True) if close >= 0 else (answer.stop, False)
        blocks.append(_Block(at, stop, closed, opened[2], stop + len(opened[1]) * closed))
    return blocks


class Tagged:
    """JSON in a tag, such as `<answer>{…}</answer>`."""

    name = "tagged"

    def find(self, text: str, asked: Asked) -> Iterator[Found]:
        """The documents in every tag that begins with one."""
        answer = answer_in(text)
        at, some = answer.start, False
        for _ in range(_MOST):
            opened = _TAG.search(text, at, answer.stop)
            if opened is None:
                break
            at = opened.end()
            if opened[1].casefold() in _OTHERS_TAGS:
                continue
            some = True
            closed = text.find(f"</{opened[1]}>", opened.end(), answer.stop)
            stop = closed if closed >= 0 else answer.stop
            if closed >= 0 and is_a_field(text, opened.end(), closed):
                at = closed
                continue
            yield from self._read(answer, opened.end(), stop, asked, ends_here=closed < 0 and not answer.ended)
            at = stop + 1
        if not some:
            raise ValueError("no tag begins with a JSON document")

    @staticmethod
    def _read(answer: Answer, start: int, stop: int, asked: Asked, *, ends_here: bool) -> list[Found]:
        found = documents(answer.text, start, stop, ends_here=ends_here, repair=asked.repair != "none", prose=False)
        for each in found:
            each.rank = RANKS["tag"]
        return found
