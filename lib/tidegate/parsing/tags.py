"""Data in tags: much like XML, but read by no parser of XML, with all that such a one can be made to do."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tidegate.parsing.answer import Answer, answer_in
from tidegate.parsing.documents import documents
from tidegate.parsing.fencing import document_opens, trimmed
from tidegate.parsing.found import RANKS, Asked, Found, Repair

DEEPEST = 100
"""Elements within each other."""

_TAG = re.compile(
    r"<(?:(?P<close>/)(?P<closed>[^\W\d][\w.:-]{0,80}+)\s*+>|(?P<name>[^\W\d][\w.:-]{0,80}+)"
    r"(?P<attributes>(?:\s++[\w:.-]{1,80}+\s*+=\s*+(?:\"[^\"]*+\"|'[^']*+'))*+)\s*+(?P<empty>/?)>)"
)
_ATTRIBUTE = re.compile(r"([\w:.-]{1,80}+)\s*+=\s*+(?:\"([^\"]*+)\"|'([^']*+)')")
_ENTITY = re.compile(r"&(?:#(\d{1,7}+)|#[xX]([0-9a-fA-F]{1,6}+)|(lt|gt|amp|quot|apos));")
_ENTITIES = {"lt": "<", "gt": ">", "amp": "&", "quot": '"', "apos": "'"}
_SPECIAL = (("<!--", "-->"), ("<![CDATA[", "]]>"), ("<?", "?>"))

_MARKUP = frozenset({
    "a", "abbr", "b", "big", "blockquote", "body", "br", "button", "center", "code", "dd", "del", "details", "div",
    "dl", "dt", "em", "font", "form", "h1", "h2", "h3", "h4", "h5", "h6", "head", "hr", "html", "i", "img", "input",
    "ins", "kbd", "li", "link", "mark", "meta", "ol", "option", "p", "pre", "q", "s", "samp", "script", "section",
    "select", "small", "span", "strike", "strong", "style", "sub", "summary", "sup", "table", "tbody", "td",
    "textarea", "tfoot", "th", "thead", "tr", "tt", "u", "ul", "var", "video", "think",
})  # fmt: skip
"""What stands in prose and in pages, and is no data there."""

_FIELDS = _MARKUP & {
    "input",
    "summary",
    "code",
    "details",
    "option",
    "section",
    "q",
    "s",
    "link",
    "body",
    "select",
    "head",
}
"""Those of them that are names of fields as well, next to others."""

_WRITTEN_BY_CALLS = frozenset({"tool_call", "tool_calls", "function_call", "function_calls", "invoke", "parameter"})

_MOST = 50_000
"""Tags that are read."""

_MOST_DOCUMENTS = 2_000
"""JSON documents in elements."""


@dataclass(slots=True)
class _Element:
    """`text[start:end]`, with what is between its tags at `text[begin:stop]`."""

    name: str
    start: int
    begin: int
    attributes: str = ""
    stop: int = -1
    end: int = -1
    closed: bool = False
    inside: list[_Element] = field(default_factory=list)
    verbatim: list[tuple[int, int, int, int]] = field(default_factory=list)
    """CDATA sections, and comments (which hold nothing): start, begin, stop, end."""


class XMLTags:
    """Elements and what is in them, as dicts; text in them is text, whatever it looks like.

    `names`: the elements that are wanted, wherever they are. Without them: what the answer has at its top, where the
    outermost element's own name is left out if it is around all the others.
    """

    name = "xml"

    def __init__(self, *names: str) -> None:
        self.names = names

    def find(self, text: str, asked: Asked) -> Iterator[Found]:
        """The elements asked for as one dict; or each group of elements that stand next to each other."""
        answer = answer_in(text)
        wanted = (*self.names, *asked.tags)
        roots = _Tree(answer, frozenset(wanted)).roots()
        groups = [_wanted(roots, wanted)] if wanted else _groups(answer, roots)
        found = [each for group in groups if group for each in _read(answer, group, asked, named=bool(wanted))]
        if not found:
            what = f"none of the tags {', '.join(wanted)} is" if wanted else "no tags with data are"
            raise ValueError(f"{what} in it")
        yield from found


# The tree


class _Tree:
    """Goes from tag to tag. Tags that nothing closes, and that close nothing, are text."""

    def __init__(self, answer: Answer, wanted: frozenset[str]) -> None:
        self.answer, self.wanted = answer, wanted
        self.open: list[_Element] = []
        self.names: Counter[str] = Counter()
        self.top = _Element("", answer.start, answer.start)
        self.missing: set[str] = set()

    def roots(self) -> list[_Element]:
        """The elements at the top."""
        text, at = self.answer.text, self.answer.start
        for _ in range(_MOST):
            place = text.find("<", at, self.answer.stop)
            if place < 0:
                break
            at = self._special(place) or self._tag(place)
        while self.open:
            self._close(self.answer.stop, self.answer.stop, closed=False)
        return self.top.inside

    def _special(self, place: int) -> int:
        """Past a comment, CDATA or the like, if one is here; else 0."""
        text = self.answer.text
        for opener, closer in _SPECIAL:
            if not text.startswith(opener, place) or closer in self.missing:
                continue
            end = text.find(closer, place + len(opener), self.answer.stop)
            if end < 0:
                self.missing.add(closer)
                return 0
            begin, stop = (place + len(opener), end) if opener == "<![CDATA[" else (end, end)
            self._inner().verbatim.append((place, begin, stop, end + len(closer)))
            return end + len(closer)
        return 0

    def _inner(self) -> _Element:
        return self.open[-1] if self.open else self.top

    def _tag(self, place: int) -> int:
        tag = _TAG.match(self.answer.text, place, self.answer.stop)
        if tag is None:
            return place + 1
        if tag["close"]:
            self._closing(tag)
        else:
            self._opening(tag)
        return tag.end()

    def _opening(self, tag: re.Match[str]) -> None:
        if len(self.open) >= DEEPEST:
            raise ValueError(f"more than {DEEPEST} tags are within each other at {tag.start()}")
        name = tag["name"]
        if not self.open and name.casefold() in _MARKUP and name not in _FIELDS and name not in self.wanted:
            return
        self.open.append(_Element(name, tag.start(), tag.end(), tag["attributes"]))
        self.names[name] += 1
        if tag["empty"]:
            self._close(tag.end(), tag.end(), closed=True)

    def _closing(self, tag: re.Match[str]) -> None:
        if not self.names[tag["closed"]]:
            return
        while self.open[-1].name != tag["closed"]:
            self._close(tag.start(), tag.start(), closed=False)
        self._close(tag.start(), tag.end(), closed=True)

    def _close(self, stop: int, end: int, *, closed: bool) -> None:
        element = self.open.pop()
        self.names[element.name] -= 1
        element.stop, element.end, element.closed = stop, end, closed
        self._inner().inside.append(element)


# What of it is data


def _wanted(roots: Sequence[_Element], names: Sequence[str]) -> list[_Element]:
    """The outermost elements of these names, in the order of the text."""
    found: list[_Element] = []
    left = list(reversed(roots))
    while left:
        element = left.pop()
        if element.name in names:
            found.append(element)
        else:
            left += reversed(element.inside)
    return found


def _groups(answer: Answer, roots: Sequence[_Element]) -> Iterator[list[_Element]]:
    """Elements with nothing but space between them, from the beginning of a line on, and not in a document."""
    groups: list[list[_Element]] = []
    for each in roots:
        if groups and not answer.text[groups[-1][-1].end : each.start].strip():
            groups[-1].append(each)
        else:
            groups.append([each])
    for group in groups:
        start = group[0].start
        line = answer.text.rfind("\n", answer.start, start) + 1
        if answer.text[max(line, answer.start) : start].strip() or document_opens(answer.text, answer.start, start):
            continue
        if _is_data(answer, group):
            yield group


def _is_data(answer: Answer, group: list[_Element]) -> bool:
    names = {each.name for each in group}
    if names & _WRITTEN_BY_CALLS:
        return False
    if len(group) == 1:
        return _has_members(answer, group[0]) and any(each.closed for each in group[0].inside)
    return not names <= _MARKUP and any(each.closed for each in group)


def _has_members(answer: Answer, element: _Element, *, inner: bool = False) -> bool:
    """Whether elements are all that is in it. Markup alone is text, except in the outermost element."""
    if not element.inside or (inner and all(each.name in _MARKUP - _FIELDS for each in element.inside)):
        return False
    at = element.begin
    for start, end in sorted(
        [(each.start, each.end) for each in element.inside] + [(each[0], each[3]) for each in element.verbatim]
    ):
        if answer.text[at:start].strip():
            return False
        at = end
    return not answer.text[at : element.stop].strip() and not any(
        begin < stop for _, begin, stop, _ in element.verbatim
    )


# Values


def _read(answer: Answer, group: list[_Element], asked: Asked, *, named: bool) -> Iterator[Found]:
    start, stop = trimmed(answer.text, answer.start, answer.stop)
    first, last = group[0], group[-1]
    whole = first.start <= start and last.end >= stop
    found = Found(None, first.start, last.end, typed=False, rank=RANKS["whole" if whole else "tag"])
    values = _Values(answer, asked, found)
    if not named and len(group) == 1 and not _is_a_field(first, asked):
        found.value = values.of(first, "$", outermost=True)
    else:
        found.value = values.members(group, "$")
    if not values.unread:
        yield found


def _is_a_field(element: _Element, asked: Asked) -> bool:
    """Whether the outermost element is what the schema has a name for, rather than a wrapper."""
    names = asked.schema.names if asked.schema is not None else frozenset()
    return element.name in names and not names & {each.name for each in element.inside}


class _Values:
    """Turns elements into values, and notes what is odd about them."""

    def __init__(self, answer: Answer, asked: Asked, found: Found) -> None:
        self.answer, self.asked, self.found = answer, asked, found
        self.unread = False
        self.documents = 0

    def of(self, element: _Element, path: str, *, outermost: bool = False) -> Any:
        """A dict if there are elements or attributes in it, else its text."""
        if not element.closed:
            self._not_closed(element, path)
        attributes = {each[1]: _plain(each[2] or each[3] or "") for each in _ATTRIBUTE.finditer(element.attributes)}
        if _has_members(self.answer, element, inner=not outermost):
            members = self.members(element.inside, path)
            return {**attributes, **members}
        value = self._leaf(element, path)
        if not attributes:
            return value
        return {**attributes, "text": value} if value != "" else attributes

    def members(self, elements: Sequence[_Element], path: str) -> dict[str, Any]:
        """By name; what is there several times is a list."""
        several = Counter(each.name for each in elements)
        members: dict[str, Any] = {}
        for each in elements:
            if several[each.name] > 1:
                items = members.setdefault(each.name, [])
                items.append(self.of(each, f"{path}.{each.name}[{len(items)}]"))
            else:
                members[each.name] = self.of(each, f"{path}.{each.name}")
        return members

    def _not_closed(self, element: _Element, path: str) -> None:
        at_the_end = element.stop >= self.answer.stop
        self.found.repairs.append(Repair("missing closer", element.stop, f"</{element.name}>", certain=False))
        if at_the_end and (self.found.truncated is None or path.startswith(self.found.truncated)):
            self.found.truncated = path

    def _leaf(self, element: _Element, path: str) -> Any:
        start, stop = trimmed(self.answer.text, element.begin, element.stop)
        if self.answer.text[start : start + 1] in ("{", "[") and not element.verbatim:
            found = self._document(start, stop, element)
            if found is not None:
                self._note(found, path)
                return found.value
            if document_opens(self.answer.text, start, min(stop, start + 300)):
                self.unread = True
        return self._text(element).strip()

    def _document(self, start: int, stop: int, element: _Element) -> Found | None:
        ends_here = not element.closed and not self.answer.ended
        self.documents += 1
        if self.documents > _MOST_DOCUMENTS:
            raise ValueError(f"more than {_MOST_DOCUMENTS:,} documents are in its tags")
        try:
            found = documents(
                self.answer.text, start, stop, ends_here=ends_here, repair=self.asked.repair != "none", prose=False
            )
        except ValueError:
            return None
        return found[0] if len(found) == 1 and found[0].start == start and found[0].end >= stop else None

    def _note(self, found: Found, path: str) -> None:
        self.found.repairs += found.repairs
        self.found.doubts += found.doubts
        self.found.cost += found.cost
        self.found.dropped += [path + each[1:] for each in found.dropped]
        if found.truncated is not None:
            self.found.truncated = path + found.truncated[1:]
        if found.rivals:
            self.found.doubts.append(f"what is at {found.start} can be read in several ways")

    def _text(self, element: _Element) -> str:
        """As it stands; entities are what they mean, but not in CDATA."""
        parts = []
        at = element.begin
        for start, begin, stop, end in _verbatim(element):
            parts += [_plain(self.answer.text[at:start]), self.answer.text[begin:stop]]
            at = end
        parts.append(_plain(self.answer.text[at : element.stop]))
        return "".join(parts)


def _verbatim(element: _Element) -> list[tuple[int, int, int, int]]:
    """Also those within markup that is text here."""
    found, left = list(element.verbatim), list(element.inside)
    while left:
        each = left.pop()
        found += each.verbatim
        left += each.inside
    return sorted(found)


def _plain(text: str) -> str:
    return _ENTITY.sub(_character, text) if "&" in text else text


def _character(found: re.Match[str]) -> str:
    if found[3]:
        return _ENTITIES[found[3]]
    code = int(found[1]) if found[1] else int(found[2], 16)
    return chr(code) if 0 < code < 0x110000 and not 0xD800 <= code < 0xE000 else found[0]
