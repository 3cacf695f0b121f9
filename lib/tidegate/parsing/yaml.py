"""A reader of the YAML that models write; without anchors, aliases and tags, so that nothing in it can grow."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any

from tidegate.parsing.found import Found, Repair
from tidegate.parsing.strict import first_value

DEEPEST = 100
"""Blocks within each other."""

_MOST_LINES = 20_000
_LONGEST = 1_500_000
_MOST_IN_BRACKETS = 40_000

_KEY = re.compile(
    r"(?:[^\s:,\[\]{}#&*!|>'\"%@`?-]|[?-](?=[^\s]))(?:[^:#\n]|:(?![\s]|\Z)|(?<=\S)#){0,200}+:(?=\s|\Z)",
)
_QUOTED_KEY = re.compile(r"(\"(?:[^\"\\\n]++|\\.)*+\"|'(?:[^'\n]++|'')*+')[ \t]*+:(?=\s|\Z)")
_DOUBLE = re.compile(r"\"(?:[^\"\\\n]++|\\[^\n])*+\"")
_SINGLE = re.compile(r"'(?:[^'\n]++|'')*+'")
_REST = re.compile(r"[ \t]*+(?:(?<=[ \t])#[^\n]*+)?\Z")
_COMMENT = re.compile(r"[ \t]#")
_HEADER = re.compile(r"([|>])(?:([+-])([1-9])?|([1-9])([+-])?)?(?:[ \t]+#[^\n]*)?[ \t]*\Z")
_TWO_KEYS = re.compile(r"(?:\"[^\"]*+\"|[^\s:]+)[ \t]+[\w-]+:\s")
_SPACE = re.compile(r"(?:[\s]++|(?<=\s)#[^\n]*+)*+")
_FLOW_PLAIN = re.compile(r"[^\s,\[\]{}\"'#&*!|>%@`](?:[^,\[\]{}#:\n]|:(?=[^\s,\[\]{}])|(?<=\S)#)*+")

_INT = re.compile(r"[-+]?\d+\Z")
_HEX = re.compile(r"0x[0-9a-fA-F]+\Z|0o[0-7]+\Z")
_FLOAT = re.compile(r"[-+]?(?:\.\d+|\d+(?:\.\d*+)?)(?:[eE][-+]?\d+)?\Z")
_ZEROS = re.compile(r"[-+]?0\d+\Z")
_NO_NUMBER = re.compile(r"[-+]?\.(?:inf|nan)\Z", re.IGNORECASE)
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("null", "Null", "NULL", "~", "")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.DOTALL)
_ESCAPES = {
    "0": "\0", "a": "\a", "b": "\b", "t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r", "e": "\x1b", " ": " ",
    '"': '"', "/": "/", "\\": "\\", "N": "\x85", "_": "\xa0", "L": "\u2028", "P": "\u2029",
}  # fmt: skip


@dataclass(slots=True)
class _Line:
    """`text[at:end]` is what stands in it after its indentation (and the dashes that were read already)."""

    start: int
    at: int
    end: int
    indent: int


def read_yaml(text: str, start: int, stop: int) -> tuple[Found, bool]:
    """The value of a block, and whether all text in it is in quotes. Raises `ValueError` if it is none."""
    if stop - start > _LONGEST:
        raise ValueError(f"more than {_LONGEST:,} characters are not read as YAML")
    reader = _Reader(text, start, stop)
    value = reader.document()
    found = reader.found
    found.value = value
    return found, reader.quoted > 0 and not reader.unquoted


class _Reader:
    """One block, from its first line to its last."""

    def __init__(self, text: str, start: int, stop: int) -> None:
        self.text, self.stop = text, stop
        self.found = Found(None, start, stop)
        self.lines = self._split(start)
        self.next = 0
        self.depth = 0
        self.quoted = self.unquoted = self.in_brackets = 0

    def document(self) -> Any:
        """The only document of the block."""
        line = self._peek()
        if line is not None and self.text[line.at : line.end] == "---":
            self.next += 1
            line = self._peek()
        if line is None:
            raise ValueError("there is nothing in the block")
        self.found.start = line.at
        value = self._node("$")
        line = self._peek()
        if line is not None:
            raise ValueError(f"the line at {line.at} does not belong to the block before it")
        return value

    # Lines

    def _split(self, start: int) -> list[_Line]:
        lines: list[_Line] = []
        tabs: list[int] = []
        spaces = False
        while start < self.stop:
            end = self.text.find("\n", start, self.stop)
            end = self.stop if end < 0 else end
            line = self.text[start:end].rstrip()
            if line == "..." or (line == "---" and any(self._says(each) for each in lines)):
                self._ended(end)
                break
            inner = line.lstrip()
            before = line[: len(line) - len(inner)]
            if "\t" in before:
                tabs.append(start)
            spaces = spaces or (bool(before) and " " in before)
            lines.append(_Line(start, start + len(before), start + len(line), len(before.expandtabs(2))))
            if len(lines) > _MOST_LINES:
                raise ValueError(f"more than {_MOST_LINES:,} lines are not read as YAML")
            start = end + 1
        if tabs:
            self.found.repairs.append(Repair("tab", tabs[0], "as indentation", certain=not spaces))
        return lines

    def _ended(self, at: int) -> None:
        """The document ends here; it has to be the only one."""
        if self.text[at : self.stop].strip():
            raise ValueError(f"another document of YAML is at {at}")

    def _peek(self) -> _Line | None:
        """The next line that is neither blank nor a comment."""
        while self.next < len(self.lines):
            line = self.lines[self.next]
            if self._says(line):
                return line
            self.next += 1
        return None

    def _says(self, line: _Line) -> bool:
        return line.at < line.end and self.text[line.at] != "#"

    def _is_item(self, line: _Line) -> bool:
        return self.text[line.at] == "-" and (line.at + 1 >= line.end or self.text[line.at + 1] in " \t")

    def _key(self, line: _Line) -> tuple[str, int] | None:
        """The key that the line begins with, and where its colon ends."""
        quoted = _QUOTED_KEY.match(self.text, line.at, line.end)
        if quoted is not None:
            return self._unquoted(quoted[1], line.at), quoted.end()
        plain = _KEY.match(self.text, line.at, line.end)
        return None if plain is None else (plain[0][:-1].rstrip(), plain.end())

    # Blocks

    def _node(self, path: str) -> Any:
        """What begins at the next line."""
        line = self._peek()
        if line is None:
            return None
        self.depth += 1
        if self.depth > DEEPEST:
            raise ValueError(f"more than {DEEPEST} blocks are within each other at {line.at}")
        if self._is_item(line):
            value: Any = self._items(line.indent, path)
        elif self._key(line) is not None:
            value = self._members(line.indent, path)
        else:
            value = self._scalar(line, line.at, line.indent - 1, path)
        self.depth -= 1
        return value

    def _items(self, indent: int, path: str) -> list[Any]:
        items: list[Any] = []
        while (line := self._peek()) is not None and line.indent == indent and self._is_item(line):
            inner = f"{path}[{len(items)}]"
            at = _after_space(self.text, line.at + 1, line.end)
            if at >= line.end or self.text[at] == "#":
                self.next += 1
                items.append(self._below(indent, inner))
            else:
                line.indent += at - line.at
                line.at = at
                items.append(self._node_of_item(line, indent, inner))
        return items

    def _node_of_item(self, line: _Line, indent: int, path: str) -> Any:
        if self._is_item(line) or self._key(line) is not None:
            return self._node(path)
        return self._scalar(line, line.at, indent, path)

    def _below(self, indent: int, path: str) -> Any:
        """The block under an item or a key that has nothing beside it."""
        line = self._peek()
        return self._node(path) if line is not None and line.indent > indent else None

    def _members(self, indent: int, path: str) -> dict[str, Any]:
        members: dict[str, Any] = {}
        while (line := self._peek()) is not None and line.indent == indent and not self._is_item(line):
            key = self._key(line)
            if key is None:
                raise ValueError(f"no key is in the line at {line.at}")
            name, at = key
            inner = f"{path}.{name}"
            if name in members:
                self.found.repairs.append(Repair("doubled key", line.at, name[:60], certain=False))
                self.found.dropped.append(inner)
            members[name] = self._member(line, _after_space(self.text, at, line.end), indent, inner)
        return members

    def _member(self, line: _Line, at: int, indent: int, path: str) -> Any:
        if at < line.end and self.text[at] != "#":
            return self._scalar(line, at, indent, path)
        self.next += 1
        following = self._peek()
        if following is not None and following.indent == indent and self._is_item(following):
            return self._items(indent, path)
        return self._below(indent, path)

    # Scalars, and flow values

    def _scalar(self, line: _Line, at: int, indent: int, path: str) -> Any:
        """What stands in the line from `at` on. Lines that belong to it have more than `indent`."""
        sign = self.text[at]
        if sign in "&*!":
            raise ValueError(f"`{sign}` at {at}: anchors, aliases and tags are not read")
        if self.text[at : at + 2] in ("? ", ": "):
            raise ValueError(f"`{sign}` at {at}: keys of several lines are not read")
        if sign in "|>":
            header = _HEADER.match(self.text, at, line.end)
            if header is not None:
                self.next += 1
                return self._literal(header, indent)
        if sign in "{[":
            return self._flow(line, at, path)
        if sign in "\"'":
            return self._in_quotes(line, at)
        return self._plain(line, at, indent)

    def _in_quotes(self, line: _Line, at: int) -> str:
        pattern = _DOUBLE if self.text[at] == '"' else _SINGLE
        quoted = pattern.match(self.text, at, line.end)
        if quoted is None:
            raise ValueError(f"the quoted text at {at} does not end in its line")
        self.next += 1
        if _REST.match(self.text, quoted.end(), line.end) is not None:
            self.quoted += 1
            return self._unquoted(quoted[0], at)
        if self.text[quoted.end()] in ",]}:":
            raise ValueError(f"after the quoted text at {at} there is more")
        self.found.repairs.append(Repair("quotes", at, "only a part of the text is in them", certain=False))
        return self.text[at : line.end]

    def _unquoted(self, quoted: str, at: int) -> str:
        if quoted[0] == "'":
            return quoted[1:-1].replace("''", "'")
        try:
            return str(json.loads(quoted, strict=False))
        except ValueError:
            return _ESCAPE.sub(lambda found: _escape(found, at), quoted[1:-1])

    def _plain(self, line: _Line, at: int, indent: int) -> Any:
        comment = _COMMENT.search(self.text, at, line.end)
        written = self.text[at : comment.start() if comment else line.end].rstrip()
        self.next += 1
        parts = [written, *self._continued(indent)]
        if ": " in written or written.endswith(":"):
            sure = _TWO_KEYS.match(written) is None and len(parts) == 1
            self.found.repairs.append(Repair("colon", at, "is part of the text", certain=sure))
        elif written.endswith(","):
            self.found.doubts.append(f"a comma is at the end of {written[:20]!r}")
        if len(parts) > 1:
            self.unquoted += 1
            return _folded(parts)
        return self._resolved(written, at)

    def _continued(self, indent: int) -> list[str]:
        """Further lines of a plain scalar; blank ones as well, if something follows them."""
        parts: list[str] = []
        while (line := self._peek_any()) is not None and (line.at >= line.end or line.indent > indent):
            if line.at < line.end and (self.text[line.at] == "#" or self._key(line) is not None or self._is_item(line)):
                if self.text[line.at] == "#":
                    break
                raise ValueError(f"the line at {line.at} has more indentation than those that it belongs to")
            parts.append(self.text[line.at : line.end])
            self.next += 1
        while parts and not parts[-1]:
            parts.pop()
        return parts

    def _peek_any(self) -> _Line | None:
        return self.lines[self.next] if self.next < len(self.lines) else None

    def _resolved(self, written: str, at: int) -> Any:
        """As the core schema of YAML 1.2 says: `yes` and dates are text."""
        if written in _WORDS:
            return _WORDS[written]
        if _ZEROS.match(written):
            self.found.repairs.append(Repair("number", at, f"{written[:40]} stays text", certain=False))
            return written
        if _INT.match(written):
            return int(written)
        if _HEX.match(written):
            return int(written, 0)
        if _FLOAT.match(written):
            return _finite(float(written), written)
        if _NO_NUMBER.match(written):
            raise ValueError(f"{written} at {at} is nothing that JSON has")
        self.unquoted += 1
        return written

    def _literal(self, header: re.Match[str], indent: int) -> str:
        """`|` and `>`: lines as they stand, or folded."""
        lines: list[_Line] = []
        while (line := self._peek_any()) is not None and (line.at >= line.end or line.indent > indent):
            lines.append(line)
            self.next += 1
        self.quoted += 1
        given = header[3] or header[4]
        first = next((each for each in lines if each.at < each.end), None)
        width = max(indent, 0) + int(given) if given else first.at - first.start if first else 0
        texts = [self.text[min(each.start + width, each.end) : each.end] for each in lines]
        if any(self.text[each.start : min(each.start + width, each.end)].strip() for each in lines):
            raise ValueError(f"the text at {header.start()} has less indentation than its first line")
        body = len(texts)
        while body and not texts[body - 1]:
            body -= 1
        joined = "\n".join(texts[:body]) if header[1] == "|" else _folded(texts[:body])
        return joined + _tail(header[2] or header[5], len(texts) - body, bool(joined))

    def _flow(self, line: _Line, at: int, path: str) -> Any:
        """`[a, b]` and `{a: 1}`; over several lines, if it takes them."""
        read = first_value(self.text, at, self.stop)
        if read is not None and not read.doubled:
            value, end = read.value, read.end
            self.quoted += 1
        else:
            value, end = self._flow_value(at, path, 0)
        while self.next < len(self.lines) and self.lines[self.next].end < end:
            self.next += 1
        last = self.lines[self.next] if self.next < len(self.lines) else line
        if _REST.match(self.text, end, max(end, last.end)) is None:
            raise ValueError(f"something is after the brackets that end at {end}")
        self.next += 1
        return value

    def _flow_value(self, at: int, path: str, depth: int) -> tuple[Any, int]:
        at = self._skip(at)
        sign = self.text[at : at + 1] if at < self.stop else ""
        self.in_brackets += 1
        if depth > DEEPEST or self.in_brackets > _MOST_IN_BRACKETS:
            raise ValueError(f"too much is in the brackets at {at}")
        if sign == "[":
            return self._flow_items(at + 1, path, depth)
        if sign == "{":
            return self._flow_members(at + 1, path, depth)
        return self._flow_scalar(at, sign)

    def _flow_scalar(self, at: int, sign: str) -> tuple[Any, int]:
        quoted = (
            (_DOUBLE if sign == '"' else _SINGLE).match(self.text, at, self.stop) if sign and sign in "\"'" else None
        )
        if quoted is not None:
            self.quoted += 1
            return self._unquoted(quoted[0], at), quoted.end()
        plain = _FLOW_PLAIN.match(self.text, at, self.stop)
        if plain is None:
            raise ValueError(f"no value is at {at}")
        return self._resolved(plain[0].rstrip(), at), plain.end()

    def _flow_items(self, at: int, path: str, depth: int) -> tuple[list[Any], int]:
        items: list[Any] = []
        at = self._skip(at)
        while self.text[at : at + 1] != "]":
            value, at = self._flow_value(at, f"{path}[{len(items)}]" if depth < 20 else path, depth + 1)
            items.append(value)
            at = self._comma(at, "]")
        return items, at + 1

    def _flow_members(self, at: int, path: str, depth: int) -> tuple[dict[str, Any], int]:
        members: dict[str, Any] = {}
        at = self._skip(at)
        while self.text[at : at + 1] != "}":
            start = at
            name, at = self._flow_name(at)
            at = self._skip(at)
            if self.text[at : at + 1] != ":":
                raise ValueError(f"no colon is at {at}")
            value, at = self._flow_value(at + 1, path, depth + 1)
            if name in members:
                self.found.repairs.append(Repair("doubled key", start, name[:60], certain=False))
                self.found.dropped.append(f"{path}.{name}")
            members[name] = value
            at = self._comma(at, "}")
        return members, at + 1

    def _flow_name(self, at: int) -> tuple[str, int]:
        """A key, as it is written."""
        sign = self.text[at : at + 1] if at < self.stop else ""
        quoted = (_DOUBLE if sign == '"' else _SINGLE).match(self.text, at, self.stop)
        if quoted is not None:
            return self._unquoted(quoted[0], at), quoted.end()
        plain = _FLOW_PLAIN.match(self.text, at, self.stop)
        if plain is None:
            raise ValueError(f"no key is at {at}")
        return plain[0].rstrip(), plain.end()

    def _comma(self, at: int, closer: str) -> int:
        at = self._skip(at)
        sign = self.text[at : at + 1] if at < self.stop else ""
        if sign not in (",", closer):
            raise ValueError(f"neither a comma nor `{closer}` is at {at}")
        return self._skip(at + 1) if sign == "," else at

    def _skip(self, at: int) -> int:
        space = _SPACE.match(self.text, at, self.stop)
        return at if space is None else space.end()


def _after_space(text: str, at: int, end: int) -> int:
    while at < end and text[at] in " \t":
        at += 1
    return at


def _folded(lines: list[str]) -> str:
    """Line breaks are spaces; blank lines are line breaks, and so are those around lines with more indentation."""
    joined = ""
    breaks = 0
    deeper = False
    for place, line in enumerate(lines):
        if not line:
            breaks += 1
            continue
        now = line[0] in " \t"
        if place and breaks < place:
            joined += "\n" * (breaks + (deeper or now)) if breaks or deeper or now else " "
        else:
            joined += "\n" * breaks
        joined += line
        breaks, deeper = 0, now
    return joined


def _tail(chomping: str | None, blank: int, some: bool) -> str:  # noqa: FBT001 (a pure function of three things)
    """The line breaks at the end: none with `-`, all with `+`, one without either."""
    if chomping == "-":
        return ""
    return "\n" * (blank + some) if chomping == "+" else "\n" * some


def _escape(found: re.Match[str], at: int) -> str:
    code = found[1]
    if len(code) > 1:
        point = int(code[1:], 16)
        if point < 0x110000 and not 0xD800 <= point < 0xE000:
            return chr(point)
    elif code in _ESCAPES:
        return _ESCAPES[code]
    raise ValueError(f"`\\{code}` in the quoted text at {at} is no escape of YAML's")


def _finite(value: float, written: str) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{written[:20]} is too large")
    return value
