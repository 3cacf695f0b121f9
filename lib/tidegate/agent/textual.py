"""Tools for models that have none: the model writes what it does, and a parser reads it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tidegate.chat.tools import Tool, ToolCall
from tidegate.parsing import create_robust_parser
from tidegate.parsing.models import AgentAction

_PARSER = create_robust_parser()

_FINAL = re.compile(
    r"^\s*(?:\*\*)?(?:final[ _]answer|answer)(?:\*\*)?\s*[:=]\s*(?:\*\*)?\s*(.*)\Z",
    re.IGNORECASE | re.DOTALL | re.MULTILINE,
)
_TAGGED = re.compile(r"<(final_answer|final-answer|answer|final)>\s*(.*?)\s*(?:</\1>|\Z)", re.IGNORECASE | re.DOTALL)
_THOUGHT = re.compile(
    r"^\s*(?:\*\*)?thought(?:\*\*)?\s*[:=]\s*(.*?)(?=^\s*(?:\*\*)?(?:action|final|answer)|\Z)",
    re.IGNORECASE | re.DOTALL | re.MULTILINE,
)
_ENDS = frozenset({"final", "final_answer", "finalanswer", "answer", "finish", "done", "respond", "none"})

AGAIN = (
    "That could not be read. Write one JSON object and nothing else: "
    '{"thought": "…", "action": "<tool>", "input": {…}} to use a tool, '
    'or {"thought": "…", "action": "final_answer", "input": "…"} to answer.'
)


@dataclass(frozen=True, slots=True)
class Written:
    """What a model wrote: an action, or an answer."""

    thought: str = ""
    call: ToolCall | None = None
    answer: str | None = None


def instructions(tools: Sequence[Tool]) -> str:
    """What the model is told of its tools and of how to write."""
    told = "\n".join(
        f"- {tool.name}: {tool.description or 'no description'}\n  input: {json.dumps(tool.parameters)}"
        for tool in tools
    )
    return (
        "You can use tools. Write one JSON object and nothing else, in one of these two forms:\n"
        '{"thought": "why", "action": "<name of a tool>", "input": {<its arguments>}}\n'
        '{"thought": "why", "action": "final_answer", "input": "<your answer to the user>"}\n'
        "After an action you are shown its result, and write again. Do not make results up.\n\n"
        f"Tools:\n{told}"
    )


def result(text: str) -> str:
    """How a model is shown what its action came to."""
    return f"Result:\n{text}\n\nGo on: another action, or the final answer."


def read(text: str, names: Sequence[str], number: int) -> Written | None:
    """What a model wrote, in whichever format: JSON, XML, Python, `key: value` or ReAct's lines. None for no format."""
    found = _PARSER.parse(text, into=AgentAction)
    if found.success and found.data is not None:
        return _understood(found.data, number)
    answer = _TAGGED.search(text) or _FINAL.search(text)
    thought = _THOUGHT.search(text)
    said = thought[1].strip() if thought else ""
    if answer is not None:
        return Written(said, answer=answer[answer.lastindex or 1].strip())
    only = text.strip().strip("`\"'").removesuffix("()")
    if only in names:
        return Written(said, ToolCall(f"call-{number}", only))
    return None


def _understood(action: AgentAction, number: int) -> Written:
    thought = (action.thought or "").strip()
    given = action.input
    if re.sub(r"[^a-z_]", "", action.action.lower().replace(" ", "_")) in _ENDS:
        answer = next(iter(given.values())) if isinstance(given, dict) and len(given) == 1 else given
        return Written(thought, answer=answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False))
    arguments = given if isinstance(given, str) else json.dumps({} if given is None else given)
    return Written(thought, ToolCall(f"call-{number}", action.action.strip(), arguments))
