"""Lines with a key and a value each, as `city: Bath`, `* **City:** Bath` or the rows of a table."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tidegate.parsing.answer import Answer, answer_in
from tidegate.parsing.fencing import document_opens, fenced_blocks
from tidegate.parsing.found import RANKS, Asked, Found, Repair
from tidegate.parsing.schema import nearest
from tidegate.parsing.strict import read_strict

_LONGEST_KEY = 40
_MOST_WORDS = 4
_MOST_LINES = 20_000
_MOST_NAMES = 300
"""Keys that are compared to the schema's names."""

_BULLET = re.compile(r"[ \t]*+(?:(?:[-*+•‣▪]|\d{1,3}[.)])[ \t]++)?+(?:\[[ xX]\][ \t]++)?+")
_BOLD = re.compile(r"(\*\*|__)([^*_\n:=][^*\n:=]{0,60}?)(?:(?P<in>[ \t]*[:=])[ \t]*\1|\1[ \t]*(?P<out>[:=]))(?!=)")
_PLAIN = re.compile(r"(`?)([^\W_](?:[^\n:=|\"{}\[\]<>*`]){0,60}+)\1[ \t]*+(?P<sign>[:=])")
_WORD_IN_A_KEY = re.compile(r"[\w'’()/#&%.$-]+\Z")
_ROW = re.compile(r"[ \t]*+\|([^|\n]*+)\|([^|\n]*+)\|[ \t]*+\Z")
_RULE = re.compile(r"\s*+:?-++:?\s*+\Z")
_STEP = re.compile(
    r"(?:step|question|example|option|part|chapter)\s*+\d++\Z|(?:(?-i:[QA])\d*+|user|assistant|system|human|ai)\Z",
    re.IGNORECASE,
)
"""What begins lines of prose and dialogues, at least as often as fields."""

_INTRODUCES = re.compile(
    r"(?:result|answer|output|response|record|data|json|fields?|summary|details|here)\Z", re.IGNORECASE
)
_HEADS = re.compile(r"(?:field|key|name|property|attribute|parameter|item|column|)\Z", re.IGNORECASE)
_VALUES = re.compile(r"(?:values?|details?|description|content|data|setting|answer|result|)\Z", re.IGNORECASE)
_TEXTS = frozenset(
    {
        "",
        "text",
        "txt",
        "plain",
        "plaintext",
        "ini",
        "properties",
        "env",
        "toml",
        "md",
        "markdown",
        "conf",
    }
)


@dataclass(slots=True)
class _Line:
    """`key` is None for a line that has none."""

    start: int
    end: int
    indent: int
    text: str
    key: str | None = None
    value: str = ""
    plain: bool = True
    """Whether neither a bullet nor bold type marks the key."""


@dataclass(slots=True)
class _Entry:
    key: str
    position: int
    indent: int
    values: list[str] = field(default_factory=list)


class KeyValueLines:
    """Lines with a key and a value. Every value is text; only a schema can say what else it is.

    Without a schema it is shy: prose has colons as well. With one, lines whose key is like no name in it are no keys.
    """

    name = "key_value"

    def find(self, text: str, asked: Asked) -> Iterator[Found]:
        """Each block of such lines."""
        answer = answer_in(text)
        names = asked.schema.names if asked.schema is not None else frozenset()
        keys = _Keys(names)
        found = [each for start, stop in _regions(answer) for each in _in_region(answer, start, stop, keys)]
        if not found:
            raise ValueError("no lines with keys and values are in it" + (" that the schema knows" if names else ""))
        yield from found


def _regions(answer: Answer) -> Iterable[tuple[int, int]]:
    """Fences of text, if there are any; else what is outside of fences."""
    fences = list(fenced_blocks(answer))
    inside = [
        (each.start, each.stop)
        for each in fences
        if each.label in _TEXTS and answer.text[each.start : each.stop].strip()
    ]
    if inside:
        return inside
    starts = [answer.start, *(each.end for each in fences)]
    stops = [*(answer.text.rfind("\n", answer.start, each.start) + 1 for each in fences), answer.stop]
    return [(start, max(start, stop)) for start, stop in zip(starts, stops, strict=True)]


class _Keys:
    """What counts as a key: a name of the schema, or without one what looks like one."""

    def __init__(self, names: frozenset[str]) -> None:
        self.names = names
        self.known: dict[str, str | None] = {}

    def key(self, written: str) -> str | None:
        """The key, as it is to be called."""
        if self.names:
            if written not in self.known:
                self.known[written] = nearest(written, self.names) if len(self.known) < _MOST_NAMES else None
            return self.known[written]
        return written if _is_short(written) else None


def _is_short(written: str) -> bool:
    words = written.split()
    return (
        len(written) <= _LONGEST_KEY
        and 0 < len(words) <= _MOST_WORDS
        and all(_WORD_IN_A_KEY.match(each) for each in words)
        and _STEP.match(written) is None
    )


# Lines


def _in_region(answer: Answer, start: int, stop: int, keys: _Keys) -> Iterator[Found]:
    if document_opens(answer.text, start, stop):
        return
    lines = list(_lines(answer.text, start, stop, keys))
    if len(lines) > _MOST_LINES:
        raise ValueError(f"it has more than {_MOST_LINES:,} lines")
    table = _table(lines, keys)
    if table is not None:
        yield table
        return
    for block in _blocks(lines, keys):
        found = _of_block(block, keys)
        if found is not None:
            yield found


def _lines(text: str, start: int, stop: int, keys: _Keys) -> Iterator[_Line]:
    for _ in range(_MOST_LINES + 1):
        if start >= stop:
            return
        end = text.find("\n", start, stop)
        end = stop if end < 0 else end
        yield _line(text[start:end].rstrip(), start, keys)
        start = end + 1


def _line(text: str, start: int, keys: _Keys) -> _Line:
    bullet = _BULLET.match(text)
    at = bullet.end() if bullet is not None else 0
    indent = len(text) - len(text.lstrip())
    line = _Line(start, start + len(text), indent, text, plain=not text[indent:at].strip())
    bold = _BOLD.match(text, at)
    found = bold or _PLAIN.match(text, at)
    if found is None:
        return line
    sign = (found["in"] or found["out"] if bold else found["sign"]).strip()
    rest = text[found.end() :]
    if (sign == ":" and not bold and rest[:1].strip()) or (sign == "=" and rest[:1] in ("=", "~", ">")):
        return line  # `10:30`, `https://` and comparisons
    line.key = keys.key(found[2].strip())
    line.value = _value(rest)
    line.plain = line.plain and bold is None
    return line


def _value(rest: str) -> str:
    """The text; what is in quotes all of it is what they hold."""
    rest = rest.strip()
    read = read_strict(rest) if rest[:1] == '"' == rest[-1:] else None
    return rest if read is None else str(read.value)


# Blocks


def _blocks(lines: list[_Line], keys: _Keys) -> Iterator[list[_Line]]:
    """Lines that belong together. A blank line ends them, unless the keys after it are marked as such."""
    block: list[_Line] = []
    blank = False
    for line in lines:
        if not line.text.strip():
            blank = True
            continue
        if blank and block and not _goes_on(block, line, keys):
            yield block
            block = []
        blank = False
        if block or line.key is not None or not keys.names:
            block.append(line)
    if block:
        yield block


def _goes_on(block: list[_Line], line: _Line, keys: _Keys) -> bool:
    """Whether a line after a blank one belongs to what is before it."""
    last = block[-1]
    if line.key is not None:
        return bool(keys.names) or not (line.plain or block[-1].plain)
    if not line.plain or line.indent:
        return last.key is None or not last.value or line.indent > last.indent
    return last.key is not None and not last.value


def _of_block(lines: list[_Line], keys: _Keys) -> Found | None:
    """The members of a block; nothing, if it is rather prose."""
    lines = _without_introduction(lines, keys)
    entries, loose = _entries(lines, keys)
    few = 1 if keys.names else 2
    if len({each.key for each in entries}) < few or (loose and not keys.names) or _is_json(lines, entries):
        return None
    found = Found({}, lines[0].start + lines[0].indent, lines[-1].end, typed=False, rank=RANKS["lines"])
    for entry in entries:
        if entry.key in found.value:
            found.repairs.append(Repair("doubled key", entry.position, entry.key, certain=False))
            found.dropped.append(f"$.{entry.key}")
        found.value[entry.key] = _joined(entry.values)
    found.dropped += loose
    return found


def _joined(values: list[str]) -> str | list[str]:
    """The lines of a value; a list, if each of them is a bullet."""
    first, *rest = values
    bullets = [_BULLET.match(each) for each in rest]
    if rest and not first and all(each is not None and each[0].strip() for each in bullets):
        return [_value(each[bullet.end() :]) for each, bullet in zip(rest, bullets, strict=True) if bullet is not None]
    return "\n".join([first, *(each.strip() for each in rest)]).strip()


def _without_introduction(lines: list[_Line], keys: _Keys) -> list[_Line]:
    """`Here is the record:` right before the lines is no key of them, nor is any sentence that ends so."""
    first, following = lines[0], lines[1:2]
    if keys.names or not following or following[0].key is None:
        return lines
    if first.key is None:
        return lines[1:] if first.text.endswith(":") else lines
    around = following[0].indent > first.indent
    introduces = " " in first.key or (not around and _INTRODUCES.match(first.key) is not None)
    return lines[1:] if introduces and not first.value and first.plain else lines


def _entries(lines: list[_Line], keys: _Keys) -> tuple[list[_Entry], list[str]]:
    """The members, and what of the block belongs to none of them, as paths."""
    entries: list[_Entry] = []
    loose: list[str] = []
    unknown = False
    for line in lines:
        last = entries[-1] if entries else None
        deeper = last is not None and line.indent > last.indent
        other = _like_a_key(line) if keys.names and not deeper else None
        if line.key is not None and (last is None or not deeper or keys.names or not _is_open(last)):
            entries.append(_Entry(line.key, line.start + line.indent, line.indent, [line.value]))
            unknown = False
        elif other is not None:
            loose.append(f"$.{other}")
            unknown = True
        elif last is not None and not unknown and (deeper or _is_open(last)):
            loose += [f"line at {line.start}"] * (line.key is not None)  # fields within a field are beyond lines
            last.values.append(line.text)
        elif last is not None or not keys.names:
            loose.append(f"line at {line.start}")
    return entries, loose


def _like_a_key(line: _Line) -> str | None:
    """What would be a key, if the schema knew it."""
    found = _PLAIN.match(line.text.lstrip("*_-+• \t"))
    return found[2].strip() if found is not None and _is_short(found[2]) else None


def _is_open(entry: _Entry) -> bool:
    """Whether lines that follow are its value: none stood beside its key."""
    return not entry.values[0]


def _is_json(lines: list[_Line], entries: list[_Entry]) -> bool:
    """What has quotes and commas at the ends of its lines, or brackets for values, is no text but a document."""
    commas = sum(each.text.endswith(",") for each in lines)
    return (len(lines) > 1 and commas >= len(lines) - 1) or any(
        each.values[0][:1] in ("{", "[") or each.values[0].endswith('",') for each in entries
    )


# Tables


def _table(lines: list[_Line], keys: _Keys) -> Found | None:
    """A table of two columns, whose first row says that they are names and values."""
    rule = next((place for place, each in enumerate(lines) if _is_rule(each.text)), 0)
    if not rule:
        return None
    head = _ROW.match(lines[rule - 1].text)
    named = head is not None and _HEADS.match(_cell(head[1])) and _VALUES.match(_cell(head[2]))
    if head is None or (not keys.names and not named):
        return None
    found = Found({}, lines[rule - 1].start, lines[rule].end, typed=False, rank=RANKS["lines"])
    for line in lines[rule + 1 :]:
        row = _ROW.match(line.text)
        if row is None:
            break
        found.end = line.end
        _take_row(found, _cell(row[1]), _cell(row[2]), line.start, keys)
    return found if found.value else None


def _take_row(found: Found, written: str, value: str, position: int, keys: _Keys) -> None:
    key = keys.key(written) if keys.names else written
    if key is None:
        found.dropped.append(f"$.{written}")
        return
    if key in found.value:
        found.repairs.append(Repair("doubled key", position, key, certain=False))
        found.dropped.append(f"$.{key}")
    found.value[key] = value


def _is_rule(text: str) -> bool:
    row = _ROW.match(text)
    return row is not None and _RULE.match(row[1]) is not None and _RULE.match(row[2]) is not None


def _cell(written: str) -> str:
    return written.strip().strip("*`").strip()
