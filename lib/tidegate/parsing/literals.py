"""Python literals: as `repr` writes them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from tidegate.parsing.answer import Answer, answer_in
from tidegate.parsing.around import goes_on, is_a_field, is_a_lines_value, is_a_part
from tidegate.parsing.fencing import fenced_blocks, trimmed
from tidegate.parsing.found import RANKS, Asked, Found
from tidegate.parsing.python import LONGEST, read_literal, skip

_ASSIGNED = re.compile(r"[^\W\d]\w{0,60}+[ \t]*+=[ \t]*+(?=[{\[(])")
_OPENER = re.compile(r"[{\[]")
_SERIOUS = re.compile(
    r"[{\[]\s*+(?:[\"'“‘{\[(\d+&#/\\-]|[rubRUB][\"']|True\b|False\b|None\b|[^\W\d]\w{0,60}+[\"']?+\s*+:)"
)
"""Was meant as data, not as a remark."""

_PART = re.compile(
    r"[\"'”’\]}\w]\s*+[,，=]\s*+\Z|[\"'”’\]}]\s*+[:：]\s*+\Z"
    r"|[\"'”’\]}\d]\s*+[,，]\s*+[\w.$-]{1,60}+\s*+[:：]\s*+\Z|\binput\W{0,6}\Z",
    re.IGNORECASE,
)
"""What is before a part of something, and not before the whole of it."""

_GOES_ON = re.compile(r"\s*+(?:[}\]):]|,\s*+(?:[\"'“‘{\[\d]|\w{1,60}+\s*+[:=])|[*+%={\[]|\.\w)")
"""What follows a part of something; a sentence may go on after a comma, but not so."""

_MOST = 400
"""Brackets in prose at which a literal is looked for."""


class PythonLiteral:
    """Python literals in the whole answer, in a fence, or in prose. Nothing is ever run."""

    name = "python_literal"

    def find(self, text: str, asked: Asked) -> Iterator[Found]:  # noqa: ARG002 (a literal needs no repair)
        """The literals of the surest place in which there are any."""
        answer = answer_in(text)
        found = list(_whole(answer)) or list(_fenced(answer)) or _in_prose(answer)
        if not found:
            raise ValueError("no Python literal is in it")
        yield from found


def _whole(answer: Answer) -> Iterator[Found]:
    yield from _alone(answer, answer.start, answer.stop, "whole")


def _fenced(answer: Answer) -> Iterator[Found]:
    for fence in fenced_blocks(answer):
        assigned = _ASSIGNED.match(answer.text, *trimmed(answer.text, fence.start, fence.stop))
        # A program's variable is no surer to be the answer than what is said about it.
        yield from _alone(answer, fence.start, fence.stop, "fence" if assigned is None else "prose")


def _alone(answer: Answer, start: int, stop: int, rank: str) -> Iterator[Found]:
    """The literal that this stretch of the text is, if it is one."""
    start, stop = trimmed(answer.text, start, stop)
    assigned = _ASSIGNED.match(answer.text, start, stop)
    found = _read(answer.text, assigned.end() if assigned else start, stop)
    if found is not None and skip(answer.text, found.end, stop) >= stop:
        found.rank = RANKS[rank]
        yield found


def _read(text: str, at: int, stop: int) -> Found | None:
    """A container, or nothing: a number or a word alone says nothing about whose it is."""
    if at >= stop or text[at] not in "{[(#" or stop - at > LONGEST:
        return None
    try:
        found = read_literal(text, at, stop)
    except ValueError:
        return None
    return found if isinstance(found.value, dict | list) else None


def _in_prose(answer: Answer) -> list[Found]:
    """Every literal; none at all, if something was meant as data and is no literal, as they may be parts of that."""
    text, at = answer.text, answer.start
    found: list[Found] = []
    for _ in range(_MOST):
        opener = _OPENER.search(text, at, answer.stop)
        if opener is None:
            break
        at = opener.end()
        if _SERIOUS.match(text, opener.start(), answer.stop) is None:
            continue
        literal = _read(text, opener.start(), min(answer.stop, opener.start() + LONGEST))
        if literal is None or _is_part(answer, literal):
            return []
        at = literal.end
        if not _is_remark(answer, literal):
            found.append(literal)
    return _together(text, found)


def _together(text: str, found: list[Found]) -> list[Found]:
    """Literals with nothing between them are no answer each: whether a list of all was meant is not for us to say."""
    if any(not text[one.end : other.start].strip() for one, other in pairwise(found)):
        return []
    for each in found:
        each.rank = RANKS["prose"]
    return found


def _is_part(answer: Answer, found: Found) -> bool:
    before = answer.text[max(answer.start, found.start - 80) : found.start]
    if is_a_lines_value(answer.text, found.start) or is_a_field(answer.text, found.start, found.end):
        return True
    if is_a_part(answer.text, found.start, answer.start) or goes_on(answer.text, found.end, answer.stop):
        return True
    return _PART.search(before) is not None or _GOES_ON.match(answer.text, found.end, answer.stop) is not None


def _is_remark(answer: Answer, found: Found) -> bool:
    """`[2]` beside a word, and other lists of numbers in a sentence."""
    value: Any = found.value
    if not value:
        return True
    if not isinstance(value, list) or not all(isinstance(each, int | float | None) for each in value):
        return False
    before = answer.text[max(answer.start, found.start - 80) : found.start].rpartition("\n")[2].strip()
    after = answer.text[found.end : found.end + 80].partition("\n")[0].strip()
    return bool((before and before[-1] not in ":=") or after)
