"""Long documents whose only oddities are regular ones, such as single quotes throughout: turned into JSON at once.

The tolerant reader goes from sign to sign and weighs what each may mean, which takes seconds for a megabyte. Where
every token can be read in one way only, one pattern finds them all, and `json`'s own grammar says whether they fit.
"""

from __future__ import annotations

import re

from tidegate.parsing.found import Reading, Repair
from tidegate.parsing.signs import COMMAND
from tidegate.parsing.strict import read_strict

SHORTEST = 20_000
"""Characters. What is shorter is read by the tolerant reader, which finds other ways to read it as well."""

_TOKEN = re.compile(
    r"""(?P<json>(?:[\s:{}\[\]]++|,(?!\s*+[}\]])|-?(?:0|[1-9]\d*+)(?:\.\d++)?+(?:[eE][+-]?\d++)?+(?=[\s,}\]])"""
    r"""|"(?:[^"\\\x00-\x1f]++|\\["\\/n]|\\u(?![dD][89a-fA-F])[0-9a-fA-F]{4})*+"(?=\s*+[:,}\]])"""
    r"""|(?:true|false|null)(?=[\s,}\]]))++)"""
    r"""|(?P<single>'(?:[^'\\\x00-\x1f]++|\\['\\n])*+'(?=\s*+[:,}\]]))"""
    r"""|(?P<key>[A-Za-z_]\w{0,60}+(?=\s*+:(?!/)))"""
    r"""|(?P<word>(?:True|False|None)(?=[\s,}\]]))|(?P<comma>,)"""
)
_WORDS = {"True": "true", "False": "false", "None": "null"}
_KINDS = {"single": "single quotes", "key": "unquoted key", "word": "word", "comma": "trailing comma"}


class Regular:
    """Reads regular documents in a text. Where it failed once it does not look again: that keeps it linear."""

    def __init__(self, text: str, stop: int) -> None:
        self.text, self.stop = text, stop
        self._done = 0

    def read(self, start: int) -> Reading | None:
        """The document that begins with a bracket at `start`, if it is long and all of it is regular."""
        if start < self._done or self.stop - start < SHORTEST:
            return None
        repairs: list[Repair] = []
        pieces: list[str] = []
        end = start
        while (token := _TOKEN.match(self.text, end, self.stop)) is not None:
            kind, written = token.lastgroup, token[0]
            end = token.end()
            if kind is not None and kind != "json":
                repairs.append(Repair(_KINDS[kind], token.start(), written if kind == "word" else ""))
                written = _as_json(kind, written)
            pieces.append(written)
        self._done = end
        document = "".join(pieces)
        read = None if end - start < SHORTEST or COMMAND.search(document) else read_strict(document)
        if read is None or read.doubled or not isinstance(read.value, dict | list):
            return None
        end -= len(document) - len(document.rstrip())
        return Reading(read.value, start, end, repairs, cost=0.3 * len({each.kind for each in repairs}))


def _as_json(kind: str, written: str) -> str:
    if kind == "single":
        return '"' + written[1:-1].replace("\\'", "'").replace('"', '\\"') + '"'
    return {"key": f'"{written}"', "word": _WORDS.get(written, ""), "comma": ""}[kind]
