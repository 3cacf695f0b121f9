"""What stands around a document in a text, and what that says: that it is a part of something, or no document."""

from __future__ import annotations

import re

from tidegate.parsing.signs import BARE_KEY, KEY, MUTE_KEY, VALUE, skip

_BRACKET = re.compile(r"[{}\[\]]")
_MOST_BRACKETS = 500
"""Brackets behind a document that are looked at."""

_PART = re.compile(
    r"(?:[\"'”’\]}\d]\s*+[:,=]\s*+|[(,]\s*+\w{1,60}+=|\[ARGS\]\s*+|\bfunctions\.[\w.-]{1,60}:\d+\s*+"
    r"|sep\|?[｜>|]{0,2}\s*+[\w.-]{1,60}\s*+(?:```\w*\s*+)?|argument_begin\|>\s*+)\Z"
)
"""What is before a part of a document, or of a call in a format that no strategy reads; and not before a document."""

_LINE_BEFORE = re.compile(
    r"(?:\A|\n)[ \t>*-]{0,8}+\w[\w ]{0,40}+\*{0,2}+[ \t]*+[:=]\*{0,2}+[ \t]*+\S[^\n]{0,200}\n"
    r"[ \t>*-]{0,8}+\w[\w ]{0,40}+\*{0,2}+[ \t]*+[:=]\*{0,2}+[ \t]*+\Z"
)

_ASSIGNED = re.compile(r"(?:\A|\n)[ \t]*+\w{1,40}+[ \t]*+=[ \t]*+\Z")
_ASSIGNMENT_AFTER = re.compile(r"\n[ \t]*+\w{1,40}+[ \t]*+=[ \t]*+\S")

_FOOTNOTE = re.compile(r"\[\s*+\d{1,4}(?:\s*+[,–-]\s*+\d{1,4})*+\s*+\]")
_CHECKBOX = re.compile(r"[-*+]\s\Z")

_OPENING = re.compile(r"<([A-Za-z][\w.:-]{0,60})(?:\s[^<>]{0,200})?>\s*+\Z")
_CLOSING = re.compile(r"\s{0,80}+</([A-Za-z][\w.:-]{0,60})\s*+>")
_ANSWERS = frozenset({
    "answer", "final", "final_answer", "json", "output", "response", "result", "results", "tool_call", "function_call",
    "tool_calls", "final_response", "data",
})  # fmt: skip
"""Elements that hold the answer as a whole, whatever is beside them."""


def goes_on(text: str, end: int, stop: int) -> bool:
    """Whether what ends here has more to it: a closer, or members or items that are closed after it."""
    after = skip(text, end)
    sign = text[after : after + 1] if after < stop else ""
    if sign in ("}", "]"):
        return True
    if sign == ",":
        inner = skip(text, after + 1)
        if KEY.match(text, inner):
            return True
        return _begins(text, inner) and _is_closed_later(text, end, stop)
    return bool(sign) and (KEY.match(text, after) or MUTE_KEY.match(text, after)) is not None and (
        _is_closed_later(text, end, stop)
    )  # fmt: skip


def _begins(text: str, at: int) -> bool:
    return VALUE.match(text, at) is not None or BARE_KEY.match(text, at) is not None


def _is_closed_later(text: str, end: int, stop: int) -> bool:
    """Whether a closer comes that nothing behind `end` has opened."""
    depth = 0
    for count, bracket in enumerate(_BRACKET.finditer(text, end, stop)):
        depth += 1 if bracket[0] in "{[" else -1
        if depth < 0 or count > _MOST_BRACKETS:
            return depth < 0
    return False


def is_a_part(text: str, start: int, low: int) -> bool:
    """Whether what is before `start`, back to `low`, is before a part of something only."""
    return _PART.search(text, max(low, start - 120), start) is not None


def is_a_lines_value(text: str, at: int) -> bool:
    """`arguments: {…}` below `name: search`: the value of a line among such lines."""
    if _LINE_BEFORE.search(text[max(0, at - 400) : at]) is not None:
        return True
    if _ASSIGNED.search(text, max(0, at - 80), at) is None:
        return False
    return (
        _ASSIGNMENT_AFTER.match(text, text.find("\n", at) if "\n" in text[at : at + 2_000] else len(text)) is not None
    )


def is_a_field(text: str, start: int, end: int) -> bool:
    """`<name>"Bob"</name>` beside other elements: a field of a record, and not the answer."""
    closing = _CLOSING.match(text, end)
    opening = _OPENING.search(text, max(0, start - 300), start) if closing is not None else None
    if closing is None or opening is None or opening[1] != closing[1] or closing[1].casefold() in _ANSWERS:
        return False
    before = text[max(0, opening.start() - 80) : opening.start()].rstrip()
    after = text[closing.end() : closing.end() + 80].lstrip()
    return before.endswith(">") or (after[:1] == "<" and after[:2] not in ("</", "<|"))


def is_footnote(text: str, start: int, end: int) -> bool:
    """`[2]` beside a word, or the `[ ]` of a list of tasks."""
    if text[start + 1 : end - 1].isspace() and _CHECKBOX.search(text, max(0, start - 2), start):
        return True
    if _FOOTNOTE.fullmatch(text, start, end) is None:
        return False
    before = text[max(0, start - 400) : start].rpartition("\n")[2].strip()
    after = text[end : end + 80].partition("\n")[0].strip()
    return bool((before and before[-1] not in ":=") or (after and after[0] not in ",;"))
