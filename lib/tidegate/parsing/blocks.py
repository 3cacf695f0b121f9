"""YAML as models write it: where it stands, and whether it is meant as data."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from tidegate.parsing.answer import Answer, answer_in
from tidegate.parsing.fencing import Fence, document_opens, fenced_blocks
from tidegate.parsing.found import RANKS, Asked, Found
from tidegate.parsing.signs import LEFT_OUT
from tidegate.parsing.yaml import read_yaml

_LABELS = ("yaml", "yml")
_TEXTS = ("", "text", "txt", "plain", "plaintext")
_INTRODUCED = re.compile(r"^[ \t]*+[^\s-][^\n]*:[ \t]*\n(?:[ \t]*\n)*+(?=\S)", re.MULTILINE)
_PROSE_AGAIN = re.compile(r"\n[ \t]*\n(?=[^\s-][^:\n]*(?:\n|\Z))")
_INTRODUCES = re.compile(r"(?:result|answer|output|response|record|data|yaml|here)\Z", re.IGNORECASE)
_KEY = re.compile(r"[\w.$/-]{1,60}\Z")
_DOCUMENT = ("{", "[", '"', "'")
"""What JSON begins with; a block of YAML hardly ever does."""


class _Block(NamedTuple):
    """`quoted`: whether all text in it is in quotes, as prose never is."""

    found: Found
    quoted: bool


class YAMLBlock:
    """A block of YAML: in a fence that says so, or with so much structure that it can be nothing else."""

    name = "yaml"

    def find(self, text: str, asked: Asked) -> Iterator[Found]:
        """The blocks of the surest place in which there are any."""
        answer = answer_in(text)
        problems: list[str] = []
        fences = list(fenced_blocks(answer))
        found = [each.found for each in _labelled(answer, fences, problems)]
        if not found and not problems:
            found = [each.found for each in _unlabelled(answer, fences) if _is_data(each, asked)]
        if not found:
            raise ValueError(problems[0] if problems else "no block of YAML is in it")
        yield from found


def _labelled(answer: Answer, fences: list[Fence], problems: list[str]) -> Iterator[_Block]:
    for fence in fences:
        if fence.label not in _LABELS:
            continue
        for block in _read(answer, fence.start, fence.stop, "fence", problems):
            if not fence.closed and not answer.ended:
                block.found.doubts.append("its fence is not closed, so that nothing says whether it is whole")
            yield block


def _unlabelled(answer: Answer, fences: list[Fence]) -> Iterator[_Block]:
    """A fence of text; or the answer without fences: all of it, or what comes after a line that ends in a colon."""
    if fences:
        for fence in fences:
            if fence.label in _TEXTS and not document_opens(answer.text, answer.start, fence.start):
                yield from _read(answer, fence.start, fence.stop, "fence", [])
        return
    whole = list(_read(answer, answer.start, answer.stop, "whole", []))
    yield from whole
    introduced = _INTRODUCED.search(answer.text, answer.start, answer.stop)
    if introduced is None or (whole and not _is_introduced(whole[0].found.value)):
        return
    if not document_opens(answer.text, answer.start, introduced.end()):
        again = _PROSE_AGAIN.search(answer.text, introduced.end(), answer.stop)
        yield from _read(answer, introduced.end(), again.start() if again else answer.stop, "prose", [])


def _is_introduced(value: Any) -> bool:
    """Whether the sentence before a block was read as its first key."""
    first = next(iter(value)) if isinstance(value, dict) else ""
    return " " in first or (_INTRODUCES.match(first) is not None and value[first] is None)


def _read(answer: Answer, start: int, stop: int, rank: str, problems: list[str]) -> Iterator[_Block]:
    if answer.text[start:stop].lstrip()[:1] in _DOCUMENT:
        return
    try:
        found, quoted = read_yaml(answer.text, start, stop)
    except ValueError as error:
        problems.append(str(error))
        return
    if isinstance(found.value, dict | list) and found.value:
        found.rank = RANKS[rank]
        left_out = LEFT_OUT.search(answer.text, start, stop)
        if left_out is not None:
            found.doubts.append(f"`{left_out[0][:40]}` at {left_out.start()} says that something was left out")
        yield _Block(found, quoted)


# What is data, where no label says so


def _is_data(block: _Block, asked: Asked) -> bool:
    """Whether it has what lines of text do not have, and what outlines and lists in prose do not have either."""
    value: Any = block.found.value
    if isinstance(value, list):
        return all(isinstance(each, dict) for each in value) and _is_list_of_records(value, quoted=block.quoted)
    if not _has_short_keys(value) or _is_introduced(value):
        return False
    if block.quoted:
        return True
    names = asked.schema.names if asked.schema is not None else frozenset()
    nested = [each for each in value.values() if isinstance(each, dict | list)]
    several = len(value) > 1 or bool(names & value.keys()) or any(isinstance(each, dict) for each in nested)
    return bool(nested) and several and all(_has_short_keys(each) for each in nested if isinstance(each, dict))


def _is_list_of_records(value: list[dict[str, Any]], *, quoted: bool) -> bool:
    """A list of single fields is rather lines with bullets."""
    rich = any(len(each) > 1 or any(isinstance(one, dict | list) for one in each.values()) for each in value)
    return (quoted or rich) and all(_has_short_keys(each) for each in value)


def _has_short_keys(value: dict[str, Any]) -> bool:
    return all(_KEY.match(each) for each in value)
