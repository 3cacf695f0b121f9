"""The signs that a document is made of, as models write them: patterns, each linear in what it reads."""

from __future__ import annotations

import re

# Zero-width characters and byte-order marks stand between tokens as spaces do.
_INVISIBLE = "\u200b-\u200f\u2060\ufeff"

SPACE = re.compile(rf"[\s{_INVISIBLE}]*+")
ODD_SPACE = re.compile(rf"[^ \t\r\n\S]|[{_INVISIBLE}]")
_COMMENT = re.compile(r"//[^\n]*+|/\*(?:[^*]++|\*(?!/))*+\*/|#[^\n]*+")

QUOTES = {'"': '"', "'": "'", "“": "”", "”": "”", "„": "“", "‘": "’", "`": "`", "«": "»"}
"""Each opening quote, and what closes it."""

OPENERS = {"{": "}", "[": "]"}
CLOSERS = {"}": "{", "]": "["}
COMMAS = ",;，、；"

_OPENING, _CLOSING = "\"'“”„‘`", "\"'”“’`"
_VALUE = rf"(?:[{_OPENING}\[{{\d+.-]|true|false|null|True|False|None|NaN|Infinity|undefined)"
_COLON = r"(?:::?|：|=>|=(?!=))"

KEY = re.compile(rf"[{_OPENING}]((?:[^\"“”„`\n\\{{}}\[\]]|\\[^\"\n\w]|\\_){{0,80}}?)[{_CLOSING}]\s*+{_COLON}")
"""A key in quotes, with its colon."""

OPEN_KEY = re.compile(rf"[{_OPENING}]([\w.$ -]{{1,60}}?)\s*+:\s*+{_VALUE}")
"""A key whose closing quote is missing."""

BARE_KEY = re.compile(rf"([^\W\d][\w.$-]{{0,60}}+)[{_CLOSING}]?\s*+(?::|：|=>)\s*+(?!//)")
"""A key without quotes, or without the opening one; a value may follow or not."""

VALUE = re.compile(_VALUE)
"""The beginning of a value that cannot be plain text."""

MUTE_KEY = re.compile(rf"[{_OPENING}]([\w.$-]{{1,60}}+)[{_CLOSING}]\s++{_VALUE}")
"""A key without its colon."""

COLON = re.compile(_COLON)

NUMBER = re.compile(r"-?(?:0|[1-9]\d*+)(?:\.\d++)?(?:[eE][+-]?\d++)?(?![\w.])")
DRESSED = re.compile(
    r"[+-]?+(?:0[xX][0-9a-fA-F]++|\d{1,3}(?:_\d{3})++|\d++(?:\.\d*+)?+(?:[eE][+-]?\d++)?+|\.\d++(?:[eE][+-]?\d++)?+)(?![\w.])"
)
THOUSANDS = re.compile(r"[+-]?+\d{1,3}(?:,\d{3})++(?:\.\d++)?(?![\w.])")
WORD = re.compile(r"-?[A-Za-z]++(?![\w.($-])")
WORDS: dict[str, tuple[object, str]] = {
    "true": (True, ""),
    "false": (False, ""),
    "null": (None, ""),
    "True": (True, "word"),
    "False": (False, "word"),
    "None": (None, "word"),
    "TRUE": (True, "word"),
    "FALSE": (False, "word"),
    "NULL": (None, "word"),
    "nil": (None, "word"),
    "undefined": (None, "word"),
    "NaN": (float("nan"), "not-a-number"),
    "nan": (float("nan"), "not-a-number"),
    "Infinity": (float("inf"), "not-a-number"),
    "inf": (float("inf"), "not-a-number"),
    "-Infinity": (float("-inf"), "not-a-number"),
    "-inf": (float("-inf"), "not-a-number"),
}
"""What words mean, and which repair it is to read them so."""

COMMAND = re.compile(
    r"(?<!\\)(?:\\\\)*+(?:\\[bf][A-Za-z]{1,6}+|(?<=\"[A-Z]:)\\[nrt]\w{1,6}+"
    r"|\\(?:text(?:bf|it|rm)?|theta|times|tau|tfrac|to|neq|nabla|notin|rho|right(?:arrow)?)(?![A-Za-z]))"
)
r"""`\frac`, `\times` and `C:\temp`, with one backslash: valid, and hardly ever a form feed or a tab that was meant."""

CONTROL = re.compile(r"(?<!\\)(?:\\\\)*+\\[bftr][A-Za-z]")
r"""An escape that may be the beginning of a word: `\text`. Those of a broken document are looked at one by one."""

LEFT_OUT = re.compile(
    r"(?://|/\*|\#)\s*+(?:\.{3}|…|(?:[\w ]{0,20}stays? the same)|(?:\(?\d++ )?(?:more|others?|(?:the )?rest|remaining"
    r"|omitted|truncated|unchanged|existing|same as|and so on|etc)\b)",
    re.IGNORECASE,
)
"""A comment that says so."""

DOTS = re.compile(r"(?:\.{3,}+|…)(?:\s*+\([^()\n]{0,40}+\))?+")
"""An ellipsis: something was left out."""


def skip(text: str, at: int) -> int:
    """The next place that is neither space nor comment."""
    match = SPACE.match
    at = match(text, at).end()  # type: ignore[union-attr]  # it matches nothing as well
    while at < len(text) and text[at] in "/#":
        comment = _COMMENT.match(text, at)
        if comment is None:
            break
        at = match(text, comment.end()).end()  # type: ignore[union-attr]
    return at
