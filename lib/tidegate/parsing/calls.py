"""Calls of tools that stand in the text: in the tags of the common families, as `Action:` lines, or as `f(a=1)`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from tidegate.parsing.answer import Answer, answer_in
from tidegate.parsing.documents import documents
from tidegate.parsing.fencing import document_opens, fenced_blocks, trimmed
from tidegate.parsing.found import RANKS, Asked, Found, Repair
from tidegate.parsing.invocations import CALLED, read_calls
from tidegate.parsing.python import NAMES, read_literal, skip
from tidegate.parsing.strict import first_value, read_strict

_TAGS = re.compile(
    r"<(tool_calls?|function_calls?|functioncall)>|<\|(tool_call|python_tag|tool_call_start|python_start)\|>"
    r"|(\[TOOL_CALLS\])|<function=\"?([\w.-]{1,80}+)\"?>|<invoke\s++name=\"([\w.-]{1,80}+)\"\s*+>"
)
_PARAMETER = re.compile(
    r"<parameter(?:=\"?([\w.-]{1,80}+)\"?|\s++name=\"([\w.-]{1,80}+)\"(?:\s++[\w-]{1,40}+=\"[^\"<>]{0,80}+\")*+)>"
)
_LABEL = re.compile(
    r"^[ \t]*+(?:[*_#>-]{1,4}[ \t]*+)?"
    r"(thought|action[ _]?input|action(?=[ \t\d]{0,4}[*_`]{0,3}:)|observation|final answer|question)"
    r"[ \t]*+\d{0,3}[*_`]{0,3}[ \t]*+:[ \t]*+[*_]{0,3}",
    re.IGNORECASE | re.MULTILINE,
)
_ARGS = re.compile(r"([\w.-]{1,80}+)\s*+\[ARGS\]")
"""Mistral's newer form: the name, and then its arguments."""
_NAME = re.compile(r"[\w.:/-]{1,200}+\Z")
_BRACKETED = re.compile(r"([^\W\d][\w.-]{0,80}+)\[([^\[\]\n]{0,2000}+)\]\Z")
_OPENS = re.compile(r"[{\[]")

_MOST = 500
"""Calls that are read."""

_THOUGHTS = frozenset({"thought", "thinking", "reasoning"})


class ToolCallText:
    """Calls of tools as models write them where no interface for them is used."""

    name = "tool_call"

    def find(self, text: str, asked: Asked) -> Iterator[Found]:
        """The calls in tags; else the action that is to be done first; else calls written as Python would."""
        answer = answer_in(text)
        found = _in_tags(answer, asked) or _action(answer, asked) or _called(answer, asked)
        if found is None:
            raise ValueError("no call of a tool is in it")
        found.rank = RANKS["call"]
        yield found


# Tags


class _Block(NamedTuple):
    """What a tag is around. `name`: the function's, where the tag tells it."""

    start: int
    stop: int
    closed: bool
    name: str | None


def _in_tags(answer: Answer, asked: Asked) -> Found | None:
    blocks = list(_blocks(answer))
    found = [each for block in blocks for each in _in_block(answer, block, asked)]
    if not found:
        if blocks:
            raise ValueError(f"nothing in the tag at {blocks[0].start} can be read as a call")
        return None
    return _shaped(_merged(found, blocks), found, asked)


def _blocks(answer: Answer) -> Iterator[_Block]:
    """Tags that are not inside of a document; and fences that say what they are."""
    text, at = answer.text, answer.start
    first = _TAGS.search(text, at, answer.stop)
    if first is None:
        for fence in fenced_blocks(answer):
            if fence.label in ("tool_call", "tool_code", "tool_calls", "function_call"):
                yield _Block(fence.start, fence.stop, fence.closed, None)
        return
    if document_opens(text, answer.start, first.start()):
        return
    absent: set[str] = set()
    for _ in range(_MOST):
        opened = _TAGS.search(text, at, answer.stop)
        if opened is None:
            return
        block, at = _block(answer, opened, absent)
        if block is not None:
            yield block


def _block(answer: Answer, opened: re.Match[str], absent: set[str]) -> tuple[_Block | None, int]:
    """What is in the tag, and where the text goes on; no block for a tag around other tags.

    `absent`: closing tags that were looked for and are nowhere in the rest of the text.
    """
    text, start = answer.text, opened.end()
    inner = _TAGS.match(text, skip(text, start, answer.stop), answer.stop)
    if inner is not None:
        return None, inner.start()
    closing = _closing(opened)
    at = _after_document(answer, start, answer.stop)
    end = text.find(closing, at, answer.stop) if closing and closing not in absent else -1
    if end < 0:
        absent.add(closing)
    following = _TAGS.search(text, at, end if end >= 0 else answer.stop)
    stop = answer.stop if following is None else following.start()
    if end < 0 or following is not None:
        return _Block(start, stop, not closing, opened[4] or opened[5]), stop
    return _Block(start, end, True, opened[4] or opened[5]), end + len(closing)  # noqa: FBT003 (as its name says)


def _closing(opened: re.Match[str]) -> str:
    """What closes this tag; nothing, if it is one of those that are never closed."""
    plain, piped, _, function, invoke = opened.groups()
    if piped and "start" in piped:
        return f"<|{piped.replace('start', 'end')}|>"
    if piped:
        return "" if piped == "python_tag" else f"<|/{piped}|>"
    name = plain or (function and "function") or (invoke and "invoke")
    return f"</{name}>" if name else ""


def _after_document(answer: Answer, start: int, stop: int) -> int:
    """After the document that begins here, if it is valid: a tag in a string of it ends nothing."""
    at = skip(answer.text, start, stop)
    if answer.text[at : at + 1] in ("{", "["):
        read = first_value(answer.text, at, stop)
        if read is not None:
            return read.end
    return start


def _in_block(answer: Answer, block: _Block, asked: Asked) -> list[Found]:
    start, stop = trimmed(answer.text, block.start, block.stop)
    named = _ARGS.match(answer.text, start, stop) if block.name is None else None
    if named is not None:
        return _in_block(answer, block._replace(start=named.end(), name=named[1]), asked)
    parameters = _PARAMETER.match(answer.text, start, stop)
    if parameters is not None:
        found = [_parameters(answer, start, stop)]
    elif block.name is not None and start == stop:
        found = [Found({}, start, stop)]
    elif CALLED.match(answer.text, skip(answer.text, start, stop) + (answer.text[start : start + 1] == "["), stop):
        found = [read_calls(answer.text, start, stop)]
    else:
        found = _documents(answer, start, stop, asked, ends_here=not block.closed)
    if not block.closed and found:
        _note_missing_closer(block, found)
    if block.name is not None:
        for each in found:
            each.value = {"name": block.name, "arguments": each.value}
            each.truncated = each.truncated and f"$.arguments{each.truncated[1:]}"
            each.dropped = [f"$.arguments{path[1:]}" for path in each.dropped]
            each.rivals = [{"name": block.name, "arguments": rival} for rival in each.rivals]
    return found


def _note_missing_closer(block: _Block, found: list[Found]) -> None:
    whole = found[-1].truncated is None
    # A document says itself where it ends; after parameters others may have come.
    certain = whole and found[-1].typed and found[-1].end > found[-1].start
    found[-1].repairs.append(Repair("missing closer", block.stop, "of the tag", certain=certain))


def _documents(answer: Answer, start: int, stop: int, asked: Asked, *, ends_here: bool) -> list[Found]:
    ends_here = ends_here and stop >= trimmed(answer.text, start, answer.stop)[1] and not answer.ended
    found = documents(answer.text, start, stop, ends_here=ends_here, repair=asked.repair != "none", prose=False)
    return found or _literal(answer, start, stop)


def _literal(answer: Answer, start: int, stop: int) -> list[Found]:
    """Models that write Python write it there as well."""
    try:
        found = read_literal(answer.text, start, stop, NAMES)
    except ValueError:
        return []
    return [found] if skip(answer.text, found.end, stop) >= stop and isinstance(found.value, dict | list) else []


def _parameters(answer: Answer, start: int, stop: int) -> Found:
    """`<parameter=city>Bath</parameter>`: whether `5` is a number is not said."""
    values: dict[str, Any] = {}
    found = Found(values, start, stop, typed=False)
    at = start
    for _ in range(_MOST):
        opened = _PARAMETER.search(answer.text, at, stop)
        if opened is None:
            break
        name = opened[1] or opened[2]
        end = answer.text.find("</parameter>", opened.end(), stop)
        at = stop if end < 0 else end
        if end < 0:
            found.truncated = f"$.{name}"
            found.repairs.append(Repair("missing closer", stop, "of the parameter", certain=False))
        if name in values:
            found.dropped.append(f"$.{name}")
            found.repairs.append(Repair("doubled key", opened.start(), name, certain=False))
        if "<parameter" in answer.text[opened.end() : at]:
            found.doubts.append(f"the parameter at {opened.start()} is not closed before the next one")
        values[name] = _parameter(answer.text[opened.end() : at].strip())
    return found


def _parameter(written: str) -> Any:
    read = read_strict(written) if written[:1] in ("{", "[") else None
    return written if read is None else read.value


def _merged(found: list[Found], blocks: list[_Block]) -> Any:
    """One call is a dict, several are a list."""
    if len(found) == 1:
        return found[0].value
    if len(found) > len(blocks):
        found[0].doubts.append(f"several values are in the tag at {blocks[0].start}")
    return [call for each in found for call in (each.value if isinstance(each.value, list) else [each.value])]


def _shaped(value: Any, parts: list[Found], asked: Asked) -> Found:
    """All of it as one value; a list if the schema is one."""
    kind = asked.schema.json_schema().get("type") if asked.schema is not None else None
    single = isinstance(value, dict)
    rivals = parts[0].rivals if len(parts) == 1 else [rival for each in parts for rival in each.rivals]
    found = Found(value, parts[0].start, parts[-1].end, rivals=rivals, typed=all(each.typed for each in parts))
    for place, each in enumerate(parts):
        step = "$" if len(parts) == 1 else f"$[{place}]"
        found.repairs += each.repairs
        found.doubts += each.doubts
        found.cost += each.cost
        found.dropped += [step + path[1:] for path in each.dropped]
        if each.truncated is not None and found.truncated is None:
            found.truncated = step + each.truncated[1:]
    if single and kind == "array":
        found.value, found.rivals = [value], [[rival] for rival in rivals]
    elif kind == "object" and isinstance(value, list) and len(value) == 1:
        found.value = value[0]
    return found


# Thought, action, input


class _Part(NamedTuple):
    label: str
    start: int
    begin: int
    stop: int


def _parts(answer: Answer) -> list[_Part]:
    """What is after each label, up to the next."""
    labels: list[re.Match[str]] = []
    for found in _LABEL.finditer(answer.text, answer.start, answer.stop):
        labels.append(found)
        if len(labels) > _MOST:
            break
    stops = [*(each.start() for each in labels[1:]), answer.stop][: len(labels)]
    return [
        _Part(each[1].casefold().replace("_", " ").replace("action input", "input").replace("actioninput", "input"),
              each.start(), each.end(), stop)
        for each, stop in zip(labels, stops, strict=True)
    ]  # fmt: skip


def _action(answer: Answer, asked: Asked) -> Found | None:
    parts = _parts(answer)
    place = next((place for place, each in enumerate(parts) if each.label == "action"), None)
    if place is None or document_opens(answer.text, answer.start, parts[place].start):
        return None
    action, following = parts[place], parts[place + 1 : place + 2]
    if not following or following[0].label != "input":
        return _without_input(answer, action, parts[place + 1 :], asked)
    name = _bare(answer.text[action.begin : action.stop])
    if _NAME.match(name) is None:
        raise ValueError(f"what is after `Action:` at {action.start} is no name: {name[:40]!r}")
    found = _input(answer, following[0], asked)
    found.start = action.start
    _note_more(found, parts[place + 2 :], answer)
    return _shaped(_step(answer, name, found.value, parts[:place], asked), [_inside(found, name)], asked)


def _inside(found: Found, name: str) -> Found:
    found.truncated = found.truncated and f"$.arguments{found.truncated[1:]}"
    found.dropped = [f"$.arguments{path[1:]}" for path in found.dropped]
    found.rivals = [{"name": name, "arguments": rival} for rival in found.rivals]
    return found


def _bare(written: str) -> str:
    return written.strip().strip("*`\"' \t").removesuffix("()") if "\n" not in written.strip() else written.strip()


def _step(answer: Answer, name: str, arguments: Any, before: list[_Part], asked: Asked) -> dict[str, Any]:
    """The call; with the thought before it, where the schema has a place for it."""
    call = {"name": name, "arguments": arguments}
    thoughts = [each for each in before if each.label == "thought"]
    if asked.schema is not None and thoughts and _THOUGHTS & asked.schema.names:
        call["thought"] = answer.text[thoughts[-1].begin : thoughts[-1].stop].strip()
    return call


def _input(answer: Answer, part: _Part, asked: Asked) -> Found:
    """JSON if it is JSON, else the text as it stands."""
    text = answer.text
    opener = _OPENS.match(text, skip(text, part.begin, answer.stop), answer.stop)
    read = first_value(text, opener.start(), answer.stop) if opener is not None else None
    end = max(part.stop, read.end) if read is not None else part.stop
    start, stop = trimmed(text, part.begin, end)
    if opener is not None or text.startswith("```", start):
        found = _documents(answer, start, stop, asked, ends_here=part.stop >= answer.stop)
        if len(found) == 1:
            return found[0]
        if found or (opener is not None and document_opens(text, start, min(stop, start + 200))):
            raise ValueError(f"the input at {start} cannot be read")
    written = text[start:stop].strip("`").strip()
    scalar = read_strict(written)
    if scalar is None and opener is not None and part.stop >= answer.stop and not answer.ended:
        raise ValueError(f"the input at {start} breaks off")
    return Found(written if scalar is None else scalar.value, start, stop)


def _without_input(answer: Answer, action: _Part, after: list[_Part], asked: Asked) -> Found | None:
    """`Action: f(a=1)`, `Action: Search[tides]`, or a document that says both."""
    start, stop = trimmed(answer.text, action.begin, action.stop)
    bracketed = _BRACKETED.match(answer.text[start:stop].strip("*`"))
    if bracketed is not None:
        found = Found({"name": bracketed[1], "arguments": bracketed[2]}, start, stop)
    elif CALLED.match(answer.text, start, stop):
        found = read_calls(answer.text, start, stop)
        found.value = found.value[0] if len(found.value) == 1 else found.value
    else:
        documents_ = _documents(answer, start, stop, asked, ends_here=action.stop >= answer.stop)
        if len(documents_) != 1 or not isinstance(documents_[0].value, dict):
            raise ValueError(f"`Action:` at {action.start} has no `Action Input:`")
        found = documents_[0]
    _note_more(found, after, answer)
    return _shaped(found.value, [found], asked)


def _note_more(found: Found, after: list[_Part], answer: Answer) -> None:
    """A model that goes on has made up what it observed; nothing of that is the answer."""
    if not after or (len(after) == 1 and not answer.text[after[0].begin : after[0].stop].strip()):
        return
    sure = after[0].label != "action" and (
        after[0].label != "thought" or "observation" in {each.label for each in after}
    )
    found.repairs.append(
        Repair("goes on", after[0].start, f"the first action is taken, `{after[0].label}` is left out", sure)
    )


# Calls as Python writes them


def _called(answer: Answer, asked: Asked) -> Found | None:
    places = [(answer.start, answer.stop), *((each.start, each.stop) for each in fenced_blocks(answer))]
    for begin, end in places:
        start, stop = trimmed(answer.text, begin, end)
        if CALLED.match(answer.text, start + (answer.text[start : start + 1] == "["), stop) is None:
            continue
        try:
            found = read_calls(answer.text, start, stop)
        except ValueError:
            continue
        if answer.text[start] == "[" or any(each["arguments"] for each in found.value):
            return _shaped(found.value, [found], asked)
    return None
