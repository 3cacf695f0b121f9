"""Tools: how they are named, and what a model's wish to call one is."""

from __future__ import annotations

from typing import Any

import pytest

from tidegate import ConfigError, Tool, ToolCall
from tidegate.chat.tools import to_tools

SCHEMA = {"type": "object", "properties": {"port": {"type": "string"}}, "required": ["port"]}
TIDE = Tool("tide", "When high tide comes.", SCHEMA)
FUNCTION = {"name": "tide", "description": "When high tide comes.", "parameters": SCHEMA}

FORMS: dict[str, Any] = {
    "typed": TIDE,
    "as OpenAI writes it": {"type": "function", "function": FUNCTION},
    "the function alone": FUNCTION,
    "with fields of null": {"type": "function", "function": {**FUNCTION, "strict": None}},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_tool_means_the_same(form: str) -> None:
    assert to_tools([FORMS[form]]) == (TIDE,)


def test_a_tool_needs_only_its_name() -> None:
    (tool,) = to_tools([{"name": "now"}])
    assert (tool.description, tool.parameters, tool.strict) == ("", {"type": "object", "properties": {}}, None)


def test_tools_may_come_one_by_one() -> None:
    assert to_tools(tool for tool in [TIDE, Tool("now")]) == (TIDE, Tool("now"))
    assert to_tools(None) == ()


WRONG: dict[str, tuple[Any, str]] = {
    "no list": (5, "`tools` is a list of tools, not `int`"),
    "one dict instead of a list": (FUNCTION, "a tool is a `Tool`, or a dict with `name`"),
    "a word": ("tide", "a tool is a `Tool`"),
    "a list of words": (["tide"], "a tool is a `Tool`"),
    "no name": ([{"description": "x"}], "a tool is a `Tool`"),
    "a provider's own tool": ([{"type": "web_search"}], "a tool is a `Tool`"),
    "an empty name": ([{"name": ""}], "1 to 128 letters"),
    "a name with a space": ([{"name": "high tide"}], "1 to 128 letters"),
    "a name with a line break": ([{"name": "tide\n"}], "1 to 128 letters"),
    "a long name": ([{"name": "x" * 129}], "1 to 128 letters"),
    "a name that is a number": ([{"name": 5}], "1 to 128 letters"),
    "a description that is a number": ([{"name": "tide", "description": 5}], "the description of the tool `tide`"),
    "parameters that are a list": ([{"name": "tide", "parameters": []}], "the parameters of the tool `tide`"),
    "two of one name": ([TIDE, Tool("now"), TIDE], "two tools are called `tide`"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_tool_that_is_none_says_what_is_wrong_with_it(wrong: str) -> None:
    tools, says = WRONG[wrong]
    with pytest.raises(ConfigError, match=says):
        to_tools(tools)


def test_the_arguments_of_a_call_are_read_when_they_are_asked_for() -> None:
    assert ToolCall("call_1", "tide", '{"port": "Emden"}').parsed() == {"port": "Emden"}
    assert ToolCall("call_1", "tide", "").parsed() == {}
    assert ToolCall("call_1", "tide").parsed() == {}
    with pytest.raises(ValueError, match="Expecting"):
        ToolCall("call_1", "tide", '{"port": ').parsed()


def test_broken_arguments_are_kept_as_the_model_wrote_them() -> None:
    wish = {"id": "call_1", "function": {"name": "tide", "arguments": '{"port": '}}
    assert ToolCall.from_dict(wish) == ToolCall("call_1", "tide", '{"port": ')
    assert ToolCall.from_dict(ToolCall("a", "b")) == ToolCall("a", "b")
