"""JSON documents in a stretch of text: as they should be, or as they can be read."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from typing import Any

from tidegate.parsing.around import goes_on, is_a_field, is_a_lines_value, is_a_part, is_footnote
from tidegate.parsing.cursor import MOST_STEPS
from tidegate.parsing.found import Found, Repair
from tidegate.parsing.regular import Regular
from tidegate.parsing.signs import BARE_KEY, COMMAND, KEY, VALUE, skip
from tidegate.parsing.strict import Strict, first_value, read_strict
from tidegate.parsing.tolerant import Reader

_OPENER = re.compile(r"[{\[]")
_CLOSERS = ("}", "]")
_CLOSER = re.compile(r"[}\]]")
_ESCAPED = re.compile(r'[{\[](?:\s|\\n)*+\\"')
_OPENER_OR_SPACE = re.compile(r"\s|\\n|[{\[]")
_BARE_MEMBERS = re.compile(
    rf"^[ \t]*+(?:{KEY.pattern}|\w++\"\s*+:\s*+[\"\d{{\[tfn-])|{KEY.pattern}\s*+{VALUE.pattern}", re.MULTILINE
)
_BETWEEN = re.compile(r"[\s,;]*+(?:-{3,}+[\s,;]*+)?+")
_NOTE = re.compile(r"\[\s*+\d{1,4}(?:\s*+[,–-]\s*+\d{1,4})*+\s*+\]")

_NEAR = 20_000
"""Characters in which an object without braces has to begin."""

_MOST_OPENERS = 400
"""Brackets in prose at which a document is looked for."""

_TRIED = 4
"""Forks at which the other ways are tried as well."""

_LONG = 20_000
"""Steps of a document that is read once only, however many ways there are."""

_CLOSE = 0.6
"""Two readings whose costs differ by less are about as likely."""


def documents(
    text: str,
    start: int = 0,
    stop: int | None = None,
    *,
    ends_here: bool = True,
    repair: bool = True,
    prose: bool = True,
    alone: bool | None = None,
) -> list[Found]:
    """Every document in `text[start:stop]`, in order; what comes one right after another is one list.

    `ends_here`: whether the text breaks off at `stop`, so that a document that is open there is truncated.
    `repair=False`: only such as need none. `prose=False`: there is nothing but documents. `alone`: whether they are the
    whole text, so that what is valid in them is not doubted; as a rule that is seen.
    """
    stop = len(text) if stop is None else stop
    alone = (start, stop) == (0, len(text)) if alone is None else alone
    whole = read_strict(text[start:stop])
    if whole is not None:
        found = _exactly(text, start, stop, whole, alone=alone)
        if repair:
            return [_unwrapped(found, ends_here=ends_here)]
        return [] if _is_escaped(whole.value) and not alone else [found]
    if not repair:
        return _exact(text, start, stop)
    search = _Search(text, start, stop, ends_here=ends_here, prose=prose)
    found_here = list(search.all())
    return [] if search.in_lines else _together(text, found_here)


def _exactly(text: str, start: int, stop: int, read: Strict, *, alone: bool = False) -> Found:
    """What needs no repair. In a text that is more than a document, what may be a command of LaTeX is none for sure."""
    found = Found(read.value, start, stop, dropped=list(read.doubled))
    if not alone:
        _doubt_commands(text, found)
    return found


def _doubt_commands(text: str, found: Found) -> None:
    odd = COMMAND.search(text, found.start, found.end)
    if odd is not None:
        found.doubts.append(
            f"`{odd[0][-8:]}` at {odd.start()} reads as a control character, and may be meant as it stands"
        )


def _is_escaped(value: object) -> bool:
    return isinstance(value, str) and value.lstrip()[:1] in ("{", "[")


def _exact(text: str, start: int, stop: int) -> list[Found]:
    """Documents that need no repair; none at all, if there is one that does."""
    found: list[Found] = []
    at = start
    inside = 0
    """Brackets that were opened before and are no documents: what is in them is a part of something."""
    for _ in range(_MOST_OPENERS):
        opener = _OPENER.search(text, at, stop)
        if opener is None:
            break
        place = opener.start()
        read = first_value(text, place, stop)
        if read is None:
            if _looks_like_a_document(text, place, stop):
                return []
            inside += 1
            at = opener.end()
            continue
        inside -= len(_CLOSER.findall(text, at, place))
        if inside > 0 or _belongs_elsewhere(text, place, read.end, max(start, at), stop):
            return []
        inside = 0
        if not is_footnote(text, place, read.end):
            found.append(_exactly(text, place, read.end, read))
        at = read.end
    if len(found) > 1 and len(_together(text, found)) == 1:  # one after another is a repair
        return []
    if found and _BARE_MEMBERS.search(text, start, min(found[0].start, start + _NEAR)):
        return []
    return found


def _belongs_elsewhere(text: str, start: int, end: int, low: int, stop: int) -> bool:
    """Whether a document is a part of a larger thing: of one that is broken, of a line, of a record in tags."""
    return (
        goes_on(text, end, stop)
        or is_a_part(text, start, low)
        or is_a_lines_value(text, start)
        or is_a_field(text, start, end)
    )


def _looks_like_a_document(text: str, at: int, stop: int) -> bool:
    after = skip(text, at + 1)
    if after >= stop:
        return True
    if text[at] == "{":
        return text[after] in "\"'“}\\&" or BARE_KEY.match(text, after, stop) is not None or text[after] in "{["
    return VALUE.match(text, after, stop) is not None or text[after] in "'\\&]"


class TooMuch(ValueError):
    """A document is too deep or has too many parts to be repaired: no other way of reading is tried."""


class _Search:
    """Goes through a stretch of text from document to document."""

    def __init__(self, text: str, start: int, stop: int, *, ends_here: bool, prose: bool) -> None:
        self.text, self.start, self.stop, self.ends_here, self.prose = text, start, stop, ends_here, prose
        self.regular = Regular(text, stop)
        self.steps = 0
        self.in_lines = False
        """Whether something was the value of a line among such lines; then the others may be that as well."""

    def all(self) -> Iterator[Found]:
        again = self._rewritten()
        if again is not None:
            yield from again
            return
        at = self._bare_members()
        if at is not None:
            found = self._read(at, members=True)
            if isinstance(found, Found) and found.value:
                yield found
                return
        yield from self._from_opener_to_opener()

    def _from_opener_to_opener(self) -> Iterator[Found]:
        at, inside = self.start, 0
        for _ in range(_MOST_OPENERS):
            opener = _OPENER.search(self.text, at, self.stop)
            if opener is None or self.steps > MOST_STEPS:
                return
            place = opener.start()
            inside = max(0, inside - len(_CLOSER.findall(self.text, at, place)))
            read = first_value(self.text, place, self.stop)
            if read is not None and not goes_on(self.text, read.end, self.stop):
                found: Found | str = _exactly(self.text, place, read.end, read)
            else:
                found = self._read(place)
            if isinstance(found, Found) and not self._is_prose(found, exact=read is not None):
                yield self._whole(found, at, inside=inside > 0)
                at, inside = max(found.end, opener.end()), 0
            elif isinstance(found, str) and ("parts" in found or "deep" in found):
                raise TooMuch(found)
            elif isinstance(found, str) and KEY.match(self.text, skip(self.text, place + 1)):
                raise ValueError(found)  # a document was meant, so no other one inside of it is looked for
            elif isinstance(found, Found) and read is not None:
                at = found.end
            else:
                at, inside = opener.end(), inside + 1

    def _whole(self, found: Found, after: int, *, inside: bool) -> Found:
        """The document, with a doubt if it is rather a part of another one, which could not be read."""
        low = max(self.start, after)
        after_it = skip(self.text, found.end)
        if self.text[after_it : after_it + 1] not in _CLOSERS and goes_on(self.text, found.end, self.stop):
            found.doubts.append(f"it goes on at {after_it}, after its end")
        if inside or is_a_part(self.text, found.start, low) or (
            self.prose and is_a_field(self.text, found.start, found.end)
        ):  # fmt: skip
            found.doubts.append(f"what is at {found.start} seems to be a part of something that cannot be read")
        return found

    def _is_prose(self, found: Found, *, exact: bool) -> bool:
        """Brackets in a sentence, where nothing is written as JSON writes it; or the value of a line."""
        if not self.prose:
            return False
        if is_a_lines_value(self.text, found.start):
            self.in_lines = True
            return True
        if exact and not found.repairs:
            return is_footnote(self.text, found.start, found.end)
        value = found.value
        if not value:
            return True
        if isinstance(value, list):
            inner = self.text[found.start + 1 : found.end].lstrip()
            return any(each.kind == "unquoted text" for each in found.repairs) and VALUE.match(inner) is None
        return False

    # Reading

    def _read(self, at: int, *, members: bool = False) -> Found | str:
        """The document here, or why there is none."""
        regular = None if members else self.regular.read(at)
        if regular is not None and not goes_on(self.text, regular.end, self.stop):
            return regular
        best = self._once(at, {}, members=members)
        others = []
        if best.steps < _LONG:
            for position, count in best.found.choices[:_TRIED]:
                others += [self._once(at, {position: way}, members=members) for way in range(1, count)]
        usable = [each for each in (best, *others) if each.found.problem is None]
        if not usable:
            return best.found.problem or "no value is there"
        best = min(usable, key=lambda each: each.found.cost)
        result = best.found
        for each in usable:
            if each is not best and each.found.cost < best.found.cost + _CLOSE and each.found.value != best.found.value:
                result.rivals.append(each.found.value)
        if len(best.found.choices) > _TRIED:
            result.repairs.append(Repair("many ways", best.found.choices[_TRIED][0], certain=False))
        return result

    def _once(self, at: int, ways: dict[int, int], *, members: bool) -> Reader:
        reader = Reader(self.text, at, self.stop, ends_here=self.ends_here, ways=ways, members=members)
        reader.read()
        self.steps += reader.steps + 20
        return reader

    def _bare_members(self) -> int | None:
        """Where members begin whose object has no braces."""
        begin = skip(self.text, self.start)
        if KEY.match(self.text, begin, self.stop):
            return begin
        last = min(self.stop, self.start + _NEAR)
        opener = _OPENER.search(self.text, self.start, last)
        while opener is not None and (note := _NOTE.match(self.text, opener.start())):
            opener = _OPENER.search(self.text, note.end(), last)
        found = _BARE_MEMBERS.search(self.text, self.start, last if opener is None else opener.end())
        return None if found is None else skip(self.text, found.start())

    # Texts that are written anew before they are read

    def _rewritten(self) -> list[Found] | None:
        text = self.text[self.start : self.stop]
        if "&quot;" in text and (text.count('"') <= text.count("&quot;") // 4 or KEY.search(text) is None):
            return self._of(html.unescape(text), "HTML entities", self.start)
        escaped = _ESCAPED.search(text)
        if escaped is None:
            return None
        opener = _OPENER.search(text)
        if opener is None or _OPENER_OR_SPACE.sub("", text[opener.start() : escaped.start()][:_NEAR]):
            return None
        return self._of_escaped(text, opener.start())

    def _of_escaped(self, text: str, begin: int) -> list[Found] | None:
        end = max(text.rfind("}"), text.rfind("]"))
        inner = text[begin : end + 1]
        tail = text[end + 1 :].strip()
        if self.ends_here and (end < begin or (tail and tail[:1] in '\\,"' and tail != '"')):
            inner = text[begin:].rstrip()
        try:
            plain = json.loads(f'"{_one_level(inner)}"')
        except ValueError:
            return None
        return self._of(plain, "escaped document", self.start + begin)

    def _of(self, plain: str, kind: str, position: int) -> list[Found] | None:
        found = documents(plain, ends_here=self.ends_here, prose=self.prose, alone=False)
        if not found:
            return None
        for each in found:
            each.repairs = [Repair(kind, position), *(_moved(repair, position) for repair in each.repairs)]
            each.cost += 0.5
            each.start, each.end = position, self.stop
        return found


def _moved(repair: Repair, position: int) -> Repair:
    """Positions within a text that was written anew mean nothing to the caller: they are those of its beginning."""
    return Repair(repair.kind, position, repair.what, repair.certain)


def _one_level(inner: str) -> str:
    """Escapes of an escaped document; quotes without a backslash are taken as if they had one, raw breaks as well."""
    inner = re.sub(r'(\\.)|"', lambda found: found[1] or '\\"', inner, flags=re.DOTALL)
    return inner.replace("\r", "\\r").replace("\n", "\\n").replace("\t", "\\t")


def _unwrapped(found: Found, *, ends_here: bool) -> Found:
    """The document within a string, where the string is all that there is."""
    if not _is_escaped(found.value):
        return found
    inner = documents(found.value, ends_here=ends_here, prose=False, alone=False)
    if len(inner) != 1:
        return found
    repairs = [Repair("escaped document", found.start), *(_moved(each, found.start) for each in inner[0].repairs)]
    return Found(inner[0].value, found.start, found.end, repairs, inner[0].cost + 0.5, inner[0].truncated,
                 inner[0].dropped, inner[0].rivals, doubts=inner[0].doubts)  # fmt: skip


def _together(text: str, found: list[Found]) -> list[Found]:
    """Documents with nothing between them are the items of one list."""
    groups: list[list[Found]] = []
    for each in found:
        if groups and _BETWEEN.fullmatch(text, groups[-1][-1].end, each.start):
            groups[-1].append(each)
        else:
            groups.append([each])
    return [group[0] if len(group) == 1 else _as_list(group) for group in groups]


def _as_list(group: list[Found]) -> Found:
    first, last = group[0], group[-1]
    values: list[Any] = [each.value for each in group]
    if all(value == values[0] for value in values):  # said twice
        return first
    repairs = [Repair("one after another", group[1].start, f"{len(group)} values as a list")]
    for each in group:
        repairs += each.repairs
    rivals = [rival for each in group for rival in each.rivals]
    truncated = next((f"$[{place}]{each.truncated[1:]}" for place, each in enumerate(group) if each.truncated), None)
    dropped = [f"$[{place}]{path[1:]}" for place, each in enumerate(group) for path in each.dropped]
    return Found(
        values, first.start, last.end, repairs, sum(each.cost for each in group), truncated, dropped, rivals,
        doubts=[doubt for each in group for doubt in each.doubts],
    )  # fmt: skip
