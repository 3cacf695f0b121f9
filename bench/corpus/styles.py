"""The ways in which models put a value into an answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

_BEFORE = (
    "Here is the JSON you asked for:",
    "Sure! Here's the result:",
    "Certainly. I've put everything together below.",
    "Based on the text, the answer is as follows:",
    "I'll call the function now.",
    "The user wants a record, so:",
    "Result (see [1] below):",
)
_AFTER = (
    "Let me know if you need anything else!",
    "Note: some values are estimates.",
    "I hope this helps :)",
    'If "body" should be longer, tell me.',
    "[1] as of today.",
    "This follows the {name, value} layout you described.",
)
_THOUGHTS = (
    "The user wants a record. I should answer with JSON only.",
    'Maybe {"draft": true}? No, that is not what was asked. Let me do it properly.',
    "Step 1: read the text. Step 2: fill in the fields [name, count]. Done.",
    "I need to call a function. Which one? Let me check the list: {search, write_file}.",
)

Wrap = Callable[[str, Random], str]


def _bare(body: str, chance: Random) -> str:
    return body


def _fenced(body: str, chance: Random) -> str:
    return f"```json\n{body}\n```"


def _fenced_in_prose(body: str, chance: Random) -> str:
    label = chance.choice(("json", "JSON", "", "json5", "javascript", "jsonc"))
    return f"{chance.choice(_BEFORE)}\n\n```{label}\n{body}\n```\n\n{chance.choice(_AFTER)}"


def _open_fence(body: str, chance: Random) -> str:
    return f"{chance.choice(_BEFORE)}\n```json\n{body}"


def _prose_before(body: str, chance: Random) -> str:
    return f"{chance.choice(_BEFORE)}\n\n{body}"


def _prose_around(body: str, chance: Random) -> str:
    return f"{chance.choice(_BEFORE)}\n{body}\n\n{chance.choice(_AFTER)}"


def _prose_inline(body: str, chance: Random) -> str:
    return f"The answer is {body} {chance.choice(_AFTER)}"


def _thinking(body: str, chance: Random) -> str:
    return f"<think>\n{chance.choice(_THOUGHTS)}\n</think>\n\n{body}"


def _thinking_fenced(body: str, chance: Random) -> str:
    return f"<think>{chance.choice(_THOUGHTS)}</think>\n{chance.choice(_BEFORE)}\n```json\n{body}\n```"


def _tagged(body: str, chance: Random) -> str:
    name = chance.choice(("answer", "output", "json", "result", "tool_call", "response"))
    return f"{chance.choice(('', chance.choice(_BEFORE) + chr(10)))}<{name}>\n{body}\n</{name}>"


def _ended(body: str, chance: Random) -> str:
    return body + chance.choice(("<|im_end|>", "</s>", "<|eot_id|>", "\n<|endoftext|>", "<end_of_turn>"))


WRAPS: dict[str, Wrap] = {
    "bare": _bare,
    "fence": _fenced,
    "fence in prose": _fenced_in_prose,
    "fence left open": _open_fence,
    "after prose": _prose_before,
    "between prose": _prose_around,
    "in a sentence": _prose_inline,
    "after thoughts": _thinking,
    "fence after thoughts": _thinking_fenced,
    "in a tag": _tagged,
    "end token": _ended,
}
"""Around a JSON document, by name."""


def _literal(value: Any, chance: Random) -> str:
    return chance.choice((_bare, _fenced_in_prose, _prose_before))(repr(value), chance).replace("```json", "```python")


def _twice(value: Any, chance: Random) -> str:
    body = json.dumps(value, ensure_ascii=False)
    return f"{chance.choice(_BEFORE)}\n{body}\n\nOr, easier to read:\n\n```json\n{json.dumps(value, indent=2)}\n```"


def _one_after_another(value: Any, chance: Random) -> str:
    end = chance.choice(("\n", "\n\n", " ", ""))
    return end.join(json.dumps(each, ensure_ascii=False) for each in value)


def _tool_call_tags(value: Any, chance: Random) -> str:
    calls = value if isinstance(value, list) else [value]
    body = "\n".join(f"<tool_call>\n{json.dumps(call, ensure_ascii=False)}\n</tool_call>" for call in calls)
    return chance.choice(("", "I'll look that up.\n\n")) + body


def _react(value: Any, chance: Random) -> str:
    thought = chance.choice(
        ("I need to look this up.", "First, the function.", "The input is clear: one call will do.")
    )
    arguments = json.dumps(value["arguments"], ensure_ascii=False)
    return f"Thought: {thought}\nAction: {value['name']}\nAction Input: {arguments}"


def _call_syntax(value: Any, chance: Random) -> str:
    calls = [
        f"{call['name']}({', '.join(f'{name}={argument!r}' for name, argument in call['arguments'].items())})"
        for call in value
    ]
    return f"[{', '.join(calls)}]"


def _scalar(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _xml_fields(value: Any, chance: Random) -> str:
    escape: Callable[[str], str] = lambda text: text.replace("&", "&amp;").replace("<", "&lt;")
    fields = "\n".join(f"  <{name}>{escape(_scalar(each))}</{name}>" for name, each in value.items())
    return f"{chance.choice(('', chance.choice(_BEFORE) + chr(10)))}<record>\n{fields}\n</record>"


def _key_values(value: Any, chance: Random) -> str:
    line = chance.choice(("{}: {}", "**{}:** {}", "- {}: {}", "* **{}**: {}", "{} = {}"))
    lines = "\n".join(line.format(name, _scalar(each)) for name, each in value.items())
    return f"{chance.choice(('', chance.choice(_BEFORE) + chr(10) + chr(10)))}{lines}"


def _yaml(value: Any, chance: Random) -> str:
    body = "\n".join(_yaml_lines(value, 0))
    return chance.choice((body, f"```yaml\n{body}\n```", f"{chance.choice(_BEFORE)}\n\n```yaml\n{body}\n```"))


def _yaml_lines(value: Any, depth: int) -> list[str]:
    lines: list[str] = []
    pad = "  " * depth
    for name, each in value.items() if isinstance(value, dict) else (("-", each) for each in value):
        head = f"{pad}-" if isinstance(value, list) else f"{pad}{name}:"
        if isinstance(each, dict | list) and each:
            inner = _yaml_lines(each, depth + 1)
            lines += [f"{head} {inner[0].lstrip()}", *inner[1:]] if isinstance(value, list) else [head, *inner]
        else:
            lines.append(f"{head} {json.dumps(each, ensure_ascii=False)}")
    return lines


OTHERS: dict[str, Callable[[Any, Random], str]] = {
    "Python literal": _literal,
    "given twice": _twice,
    "one after another": _one_after_another,
    "tool call tags": _tool_call_tags,
    "thought, action, input": _react,
    "call syntax": _call_syntax,
    "XML fields": _xml_fields,
    "key: value": _key_values,
    "YAML": _yaml,
}
"""Other ways than one JSON document, by name."""

NOTHING = (
    "I'm sorry, but I can't help with that.",
    "The text doesn't contain any record: there is nothing to extract.",
    "Could you tell me more about what you need? For example: the city, the date, and how many people.",
    "Tides are caused by the moon. Note: the sun matters too.\n\nIn short: gravity.",
    "Here is the JSON you asked for:",
    "```json\n```",
    "You can write `{...}` for an object and `[...]` for a list.",
    "Warning: the function search(query) failed. Reason: timeout.",
    "First, open the valve (see [2]). Second, wait {about a minute}. Third, close it.",
    '<think>Which one? {"draft": true}?</think>\nI cannot answer this.',
)
"""Answers in which no value is."""
