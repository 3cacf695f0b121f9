"""The ways of reading a value in what a model wrote: tidegate's, its peers', and what people write themselves.

Run as `python -m support.readers WAY`; says that it is ready, then obeys. Orders come as JSON lines on standard input,
and each is answered by one on standard output. `{"do": "read", "text": …}` is answered by `value` and `marked` (whether
the way says that something is missing), by `refused`, or by `failed`. `{"do": "time", …}`: see `timed`.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

Read = Callable[[str], Any]
"""Gives the value in a text, or raises."""

Reading = tuple[Any, bool]
"""The value, and whether it was said that something is missing."""

_THINKING = re.compile(r"<think>.*?</think>", re.DOTALL)
_FENCE = re.compile(r"```\w*\n(.*?)(?:```|\Z)", re.DOTALL)
_OPENER = re.compile(r"\{|\[\s*\{")


class RefusedError(Exception):
    """The way does not read this text, and says so."""


def tidegate(repair: str) -> Callable[[str], Reading]:
    """Nothing is excused here: whatever is handed out as a success is judged, an empty object and a number as well."""
    parse: Any = importlib.import_module("tidegate.parsing").parse

    def read(text: str) -> Reading:
        result = parse(text, repair=repair)
        if not result.success:
            raise RefusedError(result.error)
        return result.data, bool(result.truncated or result.dropped)

    return read


def peer(read: Read) -> Callable[[str], Reading]:
    """Any exception is a refusal, and so are None and whatever is empty: whoever looks sees that it is no answer."""

    def judged(text: str) -> Reading:
        try:
            value = read(text)
        except Exception as error:
            raise RefusedError(repr(error)) from error
        if value is None or (isinstance(value, str | dict | list) and not value):
            raise RefusedError("nothing")
        return value, False

    return judged


def with_finder(read: Read) -> Callable[[str], Reading]:
    """What users put in front of a reader that cannot find JSON in prose: the first place where it reads something."""
    judged = peer(read)

    def found(text: str) -> Reading:
        for candidate in _candidates(text):
            with contextlib.suppress(RefusedError):
                value, marked = judged(candidate)
                if isinstance(value, dict | list):
                    return value, marked
        raise RefusedError("nowhere")

    return found


def _candidates(text: str) -> Iterator[str]:
    """What is in the first fence; from where an object or a list of them begins to the end; to the last closer."""
    text = _THINKING.sub("", text)
    fenced = _FENCE.search(text)
    if fenced:
        yield fenced[1]
    opener = _OPENER.search(text)
    if opener:
        yield text[opener.start() :]
        yield text[opener.start() : _last_closer(text)]


def _last_closer(text: str) -> int:
    return max(text.rfind("}"), text.rfind("]")) + 1


def json_repair(**options: Any) -> Read:
    """https://github.com/mangiucugna/json_repair, in Python."""
    loads: Any = importlib.import_module("json_repair").loads
    return lambda text: loads(text, **options)


def fast_json_repair() -> Read:
    """The same idea in Rust."""
    loads: Read = importlib.import_module("fast_json_repair").loads
    return loads


def partial_json_parser() -> Read:
    """All kinds of values may be incomplete."""
    package: Any = importlib.import_module("partial_json_parser")
    return lambda text: package.loads(text, package.ALL)


def jiter() -> Read:
    """Strings that are cut off are kept."""
    from_json: Any = importlib.import_module("jiter").from_json
    return lambda text: from_json(text.encode(), partial_mode="trailing-strings")


def langchain() -> Read:
    """What JsonOutputParser calls."""
    parse: Read = importlib.import_module("langchain_core.utils.json").parse_json_markdown
    return parse


def hand_rolled() -> Read:
    """As it stands in many code bases."""
    return _hand_rolled


def _hand_rolled(text: str) -> Any:  # noqa: ANN401 (any JSON)
    fenced = re.search(r"```(?:json)?\s*(.*?)```", text, re.DOTALL)
    text = fenced[1] if fenced else text
    start = re.search(r"[{\[]", text)
    if not start:
        return None
    text = text[start.start() : _last_closer(text)]
    try:
        return json.loads(text)
    except ValueError:
        text = re.sub(r",\s*([}\]])", r"\1", text.replace("'", '"'))
    try:
        return json.loads(text)
    except ValueError:
        return None


TIDEGATE, TIDEGATE_ALL = "tidegate", 'tidegate, repair="all"'
FINDER = ", with a finder"

WAYS: dict[str, Callable[[], Callable[[str], Reading]]] = {
    TIDEGATE: lambda: tidegate("safe"),
    TIDEGATE_ALL: lambda: tidegate("all"),
    "json-repair": lambda: peer(json_repair()),
    f"json-repair{FINDER}": lambda: with_finder(json_repair()),
    "json-repair, strict=True": lambda: peer(json_repair(strict=True)),
    "fast-json-repair": lambda: peer(fast_json_repair()),
    f"fast-json-repair{FINDER}": lambda: with_finder(fast_json_repair()),
    "partial-json-parser": lambda: peer(partial_json_parser()),
    f"partial-json-parser{FINDER}": lambda: with_finder(partial_json_parser()),
    "jiter, partial": lambda: peer(jiter()),
    f"jiter, partial{FINDER}": lambda: with_finder(jiter()),
    "LangChain": lambda: peer(langchain()),
    f"LangChain{FINDER}": lambda: with_finder(langchain()),
    "hand-rolled": lambda: peer(hand_rolled()),
    "json.loads": lambda: peer(json.loads),
}


def answered(read: Callable[[str], Reading], text: str) -> dict[str, Any]:
    """What came of one text. Rust's panics are no `Exception`."""
    try:
        value, marked = read(text)
    except RefusedError:
        return {"refused": True}
    except BaseException as error:  # noqa: BLE001 (whatever it is, it is a failure of the way)
        return {"failed": repr(error)}
    return {"value": value, "marked": marked}


def timed(read: Callable[[str], Reading], order: dict[str, Any]) -> dict[str, Any]:
    """Seconds of CPU that reading `text` takes, and what came of it.

    With `plain`, which says the same in JSON, it is the mean over `seconds`, and json.loads of `plain` is measured as
    well. Without, the text is read once.
    """
    gc.collect()
    began = time.process_time()
    answer = answered(read, order["text"])
    once = time.process_time() - began
    outcome = next(name for name in ("failed", "refused", "value") if name in answer)
    plain = order.get("plain")
    if plain is None:
        return {"s": once, "outcome": outcome}
    if outcome == "value":
        outcome = "right" if answer["value"] == json.loads(plain) else "wrong"
    del answer
    own = once if once > order["seconds"] else _mean(lambda: answered(read, order["text"]), order["seconds"])
    return {"s": own, "json_s": _mean(lambda: json.loads(plain), order["seconds"]), "outcome": outcome}


def _mean(work: Callable[[], object], seconds: float) -> float:
    """Seconds of CPU that it takes, repeated in ever larger batches for so long."""
    began, times, used = time.process_time(), 0, 0.0
    while used < seconds:
        batch = max(1, times)
        for _ in range(batch):
            work()
        times += batch
        used = time.process_time() - began
    return used / times


def main() -> None:
    """Obey until standard input ends. What a peer prints of its own accord goes to standard error."""
    orders, replies = sys.stdin, os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    read = WAYS[sys.argv[1]]()
    _say(replies, {"ready": True})
    for line in orders:
        order = json.loads(line)
        _say(replies, timed(read, order) if order["do"] == "time" else answered(read, order["text"]))


def _say(replies: Any, answer: dict[str, Any]) -> None:  # noqa: ANN401 (a text stream)
    try:
        line = json.dumps(answer, default=repr)
    except (ValueError, RecursionError) as error:
        line = json.dumps({"failed": repr(error)})
    replies.write(line + "\n")
    replies.flush()


if __name__ == "__main__":
    main()
