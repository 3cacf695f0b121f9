"""Calls of tools that stand in the text, as the common families of models write them."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.parsing.calls import ToolCallText
from tidegate.parsing.found import RANKS, Asked, Found
from tidegate.parsing.models import AgentAction, ToolCall
from tidegate.parsing.schema import Schema

Json = Any

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10)
NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,10}(\.[a-z][a-z0-9_]{0,10})?", fullmatch=True)
ARGUMENTS = st.dictionaries(st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True), VALUES, min_size=1, max_size=4)
CALLS = st.fixed_dictionaries({"name": NAMES, "arguments": ARGUMENTS})

ONE = {"name": "search", "arguments": {"q": "tides"}}
TWO = {"name": "stop", "arguments": {}}


def one_in(text: str, into: Json = None) -> Found:
    (found,) = ToolCallText().find(text, Asked(Schema.of(into)))
    assert found.rank == RANKS["call"]
    return found


def value_of(text: str, into: Json = None) -> Json:
    return one_in(text, into).value


def kinds(found: Found) -> dict[str, bool]:
    return {each.kind: each.certain for each in found.repairs}


# Tags


@given(st.lists(CALLS, min_size=1, max_size=3))
def test_calls_in_tags_are_read_as_they_were_written(calls: list[Json]) -> None:
    """One is a dict, several are a list; a tag within a string of JSON is none."""
    text = "Let me look.\n" + "\n".join(f"<tool_call>\n{json.dumps(each)}\n</tool_call>" for each in calls)
    found = one_in(text)
    assert found.value == (calls[0] if len(calls) == 1 else calls)
    assert not found.repairs


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (f"<tool_call>{json.dumps(ONE)}</tool_call>", ONE),
        (f"<tool_call>[{json.dumps(ONE)}, {json.dumps(TWO)}]</tool_call>", [ONE, TWO]),
        (f"<tool_calls>\n<tool_call>{json.dumps(ONE)}</tool_call>\n</tool_calls>", ONE),
        ('<function=search>{"q": "tides"}</function>', ONE),
        ("<function=stop></function>", TWO),
        (f"<|python_tag|>{json.dumps(ONE)}<|eom_id|>", ONE),
        ('<|python_tag|>search(q="tides")', [ONE]),
        ("<|python_start|>[search(q='tides'), stop()]<|python_end|>", [ONE, TWO]),
        (f"[TOOL_CALLS] [{json.dumps(ONE)}]</s>", [ONE]),
        (f"[TOOL_CALLS] [{json.dumps(ONE)}]", [ONE]),
        (f"```tool_call\n{json.dumps(ONE)}\n```", ONE),
        (f"```tool_code\n[{json.dumps(ONE)}]\n```", [ONE]),
        ('<tool_call>{"name": "write", "arguments": {"text": "</tool_call>"}}</tool_call>',
         {"name": "write", "arguments": {"text": "</tool_call>"}}),
        ("<think><tool_call>{}</tool_call></think><tool_call>" + json.dumps(ONE) + "</tool_call>", ONE),
        ("<tool_call>\n<function=search>\n<parameter=q>\ntides\n</parameter>\n</function>\n</tool_call>", ONE),
        ('<function_calls><invoke name="search"><parameter name="q">tides</parameter></invoke></function_calls>', ONE),
        ("<tool_call>{'name': 'search', 'arguments': {'q': 'tides'}}</tool_call>", ONE),
        ('<tool_call>{"name": "f", "parameters": {"a": 1}}</tool_call>', {"name": "f", "parameters": {"a": 1}}),
    ],
)  # fmt: skip
def test_the_tags_of_the_common_families_are_known(text: str, value: Json) -> None:
    """Hermes, Qwen, Llama, Mistral and those who learned from them."""
    assert value_of(text) == value


def test_parameters_in_tags_are_text_that_a_schema_may_make_numbers_of() -> None:
    """`<parameter=n>5</parameter>` does not say which it is; JSON containers do."""
    found = one_in('<function=f><parameter=n>5</parameter><parameter=l>["a"]</parameter></function>')
    assert found.value == {"name": "f", "arguments": {"n": "5", "l": ["a"]}}
    assert not found.typed


def test_a_tag_that_is_not_closed_is_noted() -> None:
    """As the document in it is whole, nothing else can be meant."""
    found = one_in(f"<tool_call>{json.dumps(ONE)}")
    assert found.value == ONE
    assert kinds(found) == {"missing closer": True}


def test_a_call_that_breaks_off_is_marked_as_truncated() -> None:
    """With the path of what breaks off, within the call."""
    found = one_in('<function=search>{"q": "tides", "where": "Bat')
    assert found.value["name"] == "search"
    assert found.truncated == "$.arguments.where"
    assert kinds(found)["missing closer"] is False
    found = one_in(f'<tool_call>{json.dumps(ONE)}</tool_call><tool_call>{{"name": "se')
    assert found.truncated == "$[1].name"


def test_a_schema_that_is_a_list_gets_a_list_and_one_that_is_none_gets_none() -> None:
    """How many calls there are says the text, in which form they are wanted the schema."""
    text = f"<tool_call>{json.dumps(ONE)}</tool_call>"
    assert value_of(text, list[ToolCall]) == [ONE]
    assert value_of(text, ToolCall) == ONE
    assert value_of("[search(q='tides')]", ToolCall) == ONE
    assert value_of("[search(q='tides')]", list[ToolCall]) == [ONE]


# Thought, action, input


@given(CALLS, st.sampled_from(["Thought: x\n", "", "**Thought:** I must: look.\n\n"]))
def test_an_action_and_its_input_are_a_call(call: Json, thought: str) -> None:
    """The input is JSON, as it was written."""
    text = f"{thought}Action: {call['name']}\nAction Input: {json.dumps(call['arguments'])}"
    found = one_in(text)
    assert found.value == call
    assert not found.repairs


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('Action: search\nAction Input: {"q": "tides"}\nObservation:', ONE),
        ('**Action:** `search`\n**Action Input:** {"q": "tides"}', ONE),
        ('**Action**: search\n**Action Input**:\n```json\n{"q": "tides"}\n```', ONE),
        ('Action 1: search\nAction Input 1: {"q": "tides"}', ONE),
        ("Action: search\nAction Input: {'q': 'tides'}", ONE),
        ("Action: search\nAction Input: tides in Bath", {"name": "search", "arguments": "tides in Bath"}),
        ('Action: search\nAction Input: "tides"', {"name": "search", "arguments": "tides"}),
        ("Action: search\nAction Input: ", {"name": "search", "arguments": ""}),
        ("Action: search\nAction Input: two\nlines\nObservation: none", {"name": "search", "arguments": "two\nlines"}),
        ("Action: Search[tides]", {"name": "Search", "arguments": "tides"}),
        ("Thought: hm\nAction: search(q='tides')", ONE),
        ('Action:\n```json\n{"action": "search", "action_input": {"q": "tides"}}\n```',
         {"action": "search", "action_input": {"q": "tides"}}),
        ('Action: search\nAction Input: {"q": "a\\nObservation: b"}',
         {"name": "search", "arguments": {"q": "a\nObservation: b"}}),
    ],
)  # fmt: skip
def test_the_ways_in_which_an_action_is_written(text: str, value: Json) -> None:
    """Bold labels, names in backticks, inputs in fences, and inputs that are no JSON."""
    assert value_of(text) == value


@pytest.mark.parametrize(
    ("rest", "certain"),
    [
        ('\nObservation: High.\nThought: so\nAction: stop\nAction Input: {"a": 1}', True),
        ("\nThought: I now know.\nObservation: High.", True),
        ("\nObservation: High.\nFinal Answer: high", True),
        ('\nAction: stop\nAction Input: {"a": 1}', False),
    ],
)
def test_of_a_model_that_goes_on_by_itself_the_first_action_is_taken(rest: str, certain: bool) -> None:
    """What it made up after that is left out, and that is said; two actions in a row leave a doubt."""
    found = one_in('Action: search\nAction Input: {"q": "tides"}' + rest)
    assert found.value == ONE
    assert kinds(found) == {"goes on": certain}


def test_the_thought_is_kept_where_the_schema_has_a_place_for_it() -> None:
    """`AgentAction` has one, `ToolCall` has none."""
    text = 'Thought: I need to look.\nAction: search\nAction Input: {"q": "tides"}'
    assert value_of(text, ToolCall) == ONE
    assert value_of(text, AgentAction) == {**ONE, "thought": "I need to look."}


def test_an_input_that_breaks_off_is_marked() -> None:
    """The path is within the arguments."""
    found = one_in('Action: search\nAction Input: {"q": "tides", "n": [1,')
    assert found.value["name"] == "search"
    assert (found.truncated or "").startswith("$.arguments")


# Calls as Python writes them


@given(st.lists(CALLS, min_size=1, max_size=3), st.booleans())
def test_calls_written_in_python_are_read_as_they_were_written(calls: list[Json], fence: bool) -> None:
    """By name and by literals only; a single one is a list as well."""
    written = [f"{each['name']}({', '.join(f'{n}={v!r}' for n, v in each['arguments'].items())})" for each in calls]
    text = f"[{', '.join(written)}]"
    if fence and "```" not in text:
        text = f"Sure:\n```python\n{text}\n```"
    found = one_in(text)
    assert found.value == calls
    assert not found.repairs


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('search(q="tides")', [ONE]),
        ('search(q="tides",)\nstop()', [ONE, TWO]),
        ("[search(q='tides'), stop()]", [ONE, TWO]),
        ("[a.b.c(x=true, y=null, z=-1)]", [{"name": "a.b.c", "arguments": {"x": True, "y": None, "z": -1}}]),
        ("[f(a=(1, 2))]", [{"name": "f", "arguments": {"a": [1, 2]}}]),
    ],
)
def test_the_ways_in_which_a_call_is_written_in_python(text: str, value: Json) -> None:
    """In brackets or not, with Python's constants or JSON's."""
    assert value_of(text) == value


# What is no call


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I cannot help.",
        "Warning: the function search(query) failed. Reason: timeout.",
        "print('x')",
        "f(*args)",
        "f(**options)",
        "f(a=g())",
        "f(a=b)",
        "f(a=1+1)",
        "[f(a=1)",
        "[f(a=1)] and more",
        "f(a=lambda: 1)",
        "plt.show()",
        "```python\nplt.show()\n```",
        "```python\nimport os\nf(a=1)\n```",
        '{"text": "<tool_call>{}</tool_call>"}',
        '{"text": "\nAction: x\nAction Input: {}"}',
        "Action: restart the server.",
        "Action: restart the server\nAction Input: now",
        "Thought: nothing to do\nFinal Answer: 42",
        "<tool_call></tool_call>",
        "<tool_call>no JSON</tool_call>",
    ],
)
def test_what_is_no_call_is_refused_with_a_reason(text: str) -> None:
    """Also code, prose about calls, and calls that stand in a document."""
    with pytest.raises(ValueError, match=r"^\S[^\n]+\S$"):
        list(ToolCallText().find(text, Asked()))


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>" * 90_000,
        "<tool_call>{" * 80_000,
        "<tool_call>{}" * 75_000,
        "<tool_call>{}</tool_call>" * 40_000,
        "<function=f>" * 80_000,
        "<function=f><parameter=a>" * 40_000,
        "<function=f>" + "<parameter=a>" * 80_000,
        "[TOOL_CALLS]" * 80_000,
        "[TOOL_CALLS] [{}]" * 60_000,
        "<|python_tag|>" * 70_000,
        "```tool_call\n" * 80_000,
        "Action:" * 140_000,
        "Action: x\n" * 100_000,
        "Action: x\nAction Input: {" * 40_000,
        "Action: x\nAction Input: {}\n" * 38_000,
        "Action: " + "x" * 1_000_000 + "\nAction Input: {}",
        "Action: x\nAction Input: " + "{" * 1_000_000,
        "*" * 1_000_000,
        ">" + " " * 1_000_000,
        "\n" * 1_000_000,
        "[f(" * 330_000,
        "f(a=" * 250_000,
        "[" + "f(a=1)," * 140_000,
        "f(" + "a=1," * 250_000 + ")",
        "f(a='" * 200_000,
        "a." * 500_000 + "(",
        "<invoke name=" * 80_000,
        '<parameter name="a" ' * 50_000,
    ],
    ids=lambda text: f"{text[:24]!r}…",
)
def test_nothing_that_is_a_megabyte_long_takes_a_second(text: str) -> None:
    """Found or refused, but never anything else."""
    began = time.process_time()
    with contextlib.suppress(ValueError):
        list(ToolCallText().find(text, Asked()))
    assert time.process_time() - began < 2  # of CPU time; twice that for a machine under load


PARTS = (
    "<tool_call> </tool_call> <function=f> </function> <parameter=a> </parameter> [TOOL_CALLS] ``` Observation: "
    '{ } [ ] ( ) f( a= , : "a" 1 x'
)


@given(st.lists(st.sampled_from([*PARTS.split(), "\n", "Action: f\n", "Action Input: "]), max_size=15).map("".join))
def test_whatever_is_found_is_json_and_everything_else_a_value_error(text: str) -> None:
    """Fuzzed with the parts that calls are made of."""
    try:
        found = one_in(text)
    except ValueError:
        return
    json.dumps(found.value, allow_nan=False)
    assert 0 <= found.start <= found.end <= len(text)
