"""Where a text that holds no JSON keeps its data: fenced blocks, and what is outside of documents."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from tidegate.parsing.answer import Answer

_FENCE = re.compile(r"(`{3,}+|~{3,}+)[ \t]*+([\w+.#-]*+)")
_CLOSING = re.compile(r"^[ \t]*+(?:`{3,}+|~{3,}+)", re.MULTILINE)
_DOCUMENT = re.compile(r"[{\[]\s*+(?:[\"'“‘{\[\\]|&quot;|[^\W\d]\w{0,40}+[\"']?+\s*+:)")
_MOST = 200


class Fence(NamedTuple):
    """`text[start:stop]` is in the fence. `label`: in lower case. `end`: where the text goes on."""

    start: int
    stop: int
    label: str
    end: int
    closed: bool


def fenced_blocks(answer: Answer) -> Iterator[Fence]:
    """The fenced blocks of an answer, each up to the first line that can close it."""
    at = answer.start
    for _ in range(_MOST):
        opened = _FENCE.search(answer.text, at, answer.stop)
        if opened is None:
            return
        fence = _fence(answer, opened)
        yield fence
        at = max(fence.end, opened.end())


def _fence(answer: Answer, opened: re.Match[str]) -> Fence:
    line = answer.text.find("\n", opened.end(), answer.stop)
    same_line = answer.text.find(opened[1], opened.end(), line if line >= 0 else answer.stop)
    if same_line >= 0:
        return Fence(opened.end(), same_line, opened[2].casefold(), same_line + len(opened[1]), closed=True)
    closing = _CLOSING.search(answer.text, opened.end(), answer.stop)
    if closing is None:
        return Fence(opened.end(), answer.stop, opened[2].casefold(), answer.stop, closed=False)
    return Fence(opened.end(), closing.start(), opened[2].casefold(), closing.end(), closed=True)


def document_opens(text: str, start: int, stop: int) -> bool:
    """Whether something like JSON begins in `text[start:stop]`, so that what comes after may be in a string of it."""
    return _DOCUMENT.search(text, start, stop) is not None


def trimmed(text: str, start: int, stop: int) -> tuple[int, int]:
    """Without the white space at both ends."""
    inner = text[start:stop]
    left = len(inner) - len(inner.lstrip())
    return start + left, max(start + left, start + len(inner.rstrip()))
