"""Fuzzes the parser with atheris: `python tests/parsing/fuzzing.py -max_total_time=60`. Any exception is a finding.

What `repair="none"` takes must have no repairs, and what `json.loads` takes must be the same.
"""

from __future__ import annotations

import json
import sys

import atheris

with atheris.instrument_imports(include=["tidegate.parsing"]):
    from tidegate.parsing import PartialReader, ToolCall, parse

LONGEST = 4_000


def one(data: bytes) -> None:
    """One input: text, or JSON-like signs chosen by its bytes."""
    provider = atheris.FuzzedDataProvider(data)
    text = provider.ConsumeUnicode(LONGEST) if provider.ConsumeBool() else pieces(provider)
    none = parse(text, repair="none")
    assert not none.repairs
    assert none.truncated is None
    for repair in ("safe", "all"):
        parse(text, into=ToolCall if provider.ConsumeBool() else None, repair=repair)
    reader = PartialReader()
    for start in range(0, len(text), 7):
        reader.feed(text[start : start + 7])
    reader.finish()
    same_as_json(text)


def same_as_json(text: str) -> None:
    try:
        value = json.loads(text, parse_constant=lambda name: (_ for _ in ()).throw(ValueError(name)))
    except (ValueError, RecursionError):
        return
    assert json.dumps(parse(text).unwrap()) == json.dumps(value)


_WORDS = """{ } [ ] " ' : , a key 1 - .5 true None ``` <tool_call> </tool_call> <a> </a> ... // /* */ # + = | ( ) f(a=1) NaN
<think> </think> “ ” &quot;"""
SIGNS = (*_WORDS.split(), "\\", '\\"', "\\n", "\n", " ", "\u200b", "```json\n", "\n- ", "Action: ", "Action Input: ")


def pieces(provider: atheris.FuzzedDataProvider) -> str:
    count = provider.ConsumeIntInRange(0, 300)
    return "".join(SIGNS[provider.ConsumeIntInRange(0, len(SIGNS) - 1)] for _ in range(count))


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
