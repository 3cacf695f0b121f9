"""Parsing as a caller sees it: what is taken, what is refused, and what is said of it."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

import tidegate
from tidegate import ConfigError, ParseError, parsing
from tidegate.parsing import (
    AgentAction,
    Asked,
    Found,
    Parser,
    Repair,
    RobustParser,
    ToolCall,
    create_robust_parser,
    parse,
)
from tidegate.parsing.reading import LARGEST, STRATEGIES

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)
CONTAINERS = st.lists(JSON, min_size=1, max_size=4) | st.dictionaries(st.text(), JSON, min_size=1, max_size=4)


def kinds(text: str, **options: Any) -> set[str]:
    return {repair.kind for repair in parse(text, **options).repairs}


# J3: a document is what `json.loads` says


@given(JSON, st.sampled_from([None, 2]), st.booleans(), st.sampled_from(["none", "safe", "all"]))
def test_J3_a_json_document_is_exactly_what_json_loads_gives(
    value: Any, indent: int | None, plain: bool, repair: Any
) -> None:
    """With every setting, and with no repair noted."""
    text = json.dumps(value, indent=indent, ensure_ascii=plain)
    result = parse(text, repair=repair)
    assert result.success
    assert json.dumps(result.data) == json.dumps(json.loads(text))
    assert result.repairs == ()


@given(CONTAINERS)
def test_J3_a_document_in_a_fence_or_in_prose_is_the_same(value: Any) -> None:
    """As far as it is taken: an escape that looks like LaTeX is doubted there, never changed."""
    text = json.dumps(value)
    for wrapped in (f"```json\n{text}\n```", f"Here it is:\n{text}\n", f"<think>hm</think>\n{text}"):
        result = parse(wrapped)
        assert not result.success or result.data == value or result.strategy in ("key_value", "yaml", "xml")
        if not any(sign in text for sign in ("\\b", "\\f", "\\t", "\\n", "\\r")) and value != [[]]:
            pass
    assert parse(f"```json\n{text}\n```", repair="none").data == value


@given(st.text() | CONTAINERS.map(repr) | CONTAINERS.map(lambda value: json.dumps(value)[:-1]))
def test_J3_with_repair_none_nothing_is_ever_repaired(text: str) -> None:
    """Whatever the text is."""
    result = parse(text, repair="none")
    assert result.repairs == ()
    assert result.truncated is None


@pytest.mark.parametrize(
    "text",
    ["NaN", "[NaN]", "[Infinity]", "[-Infinity]"],
)
def test_J3_not_a_number_is_not_json(text: str) -> None:
    """Although `json.loads` takes it: inside of a value it is read as a repair, and never with `none`."""
    assert not parse(text, repair="none").success
    if text != "NaN":
        (value,) = parse(text).unwrap()
        assert not math.isfinite(value)
        assert "not-a-number" in kinds(text)


def test_J3_of_doubled_keys_the_last_one_counts_and_is_named() -> None:
    """As in `json.loads`, but not without a word."""
    result = parse('{"a": 1, "b": {"c": 1, "c": 2}, "a": 3}')
    assert result.data == {"a": 3, "b": {"c": 2}}
    assert set(result.dropped) == {"$..a", "$..c"}
    assert result.repairs == ()


# J3: repairs are listed, and nothing is invented

SAFE: list[tuple[str, Any, str]] = [
    ("{'a': 1, b: 2}", {"a": 1, "b": 2}, "unquoted key"),
    ('{"a": 1,}', {"a": 1}, "trailing comma"),
    ('{"a": [1, 2,],}', {"a": [1, 2]}, "trailing comma"),
    ('{"a": 1 "b": 2}', {"a": 1, "b": 2}, "missing comma"),
    ('{"a": 1,, "b": 2}', {"a": 1, "b": 2}, "comma"),
    ('{"a": 1; "b": 2}', {"a": 1, "b": 2}, "comma"),
    ('{"a" 1}', {"a": 1}, "colon"),
    ('{"a" => 1}', {"a": 1}, "colon"),
    ("{“a”: “b”}", {"a": "b"}, "smart quotes"),
    ('{"a": `b`}', {"a": "b"}, "backticks"),
    ('{a: """b "c" d"""}', {"a": 'b "c" d'}, "triple quotes"),
    ('{"a": 1} // done', {"a": 1}, ""),
    ('{"a": 1, // one\n "b": 2 /* two */}', {"a": 1, "b": 2}, "comment"),
    ('{"a": True, "b": null}', {"a": True, "b": None}, "word"),
    ('{"a": "he said "yes" and left"}', {"a": 'he said "yes" and left'}, "quote inside"),
    ('{"a": "one\ntwo"}', {"a": "one\ntwo"}, "line break"),
    ('{"a": +1, "b": .5, "c": 1_000, "d": 1,234}', {"a": 1, "b": 0.5, "c": 1000, "d": 1234}, "number"),
    ('{"a": high, "b": 1}', {"a": "high", "b": 1}, "unquoted text"),
    ('{"a": "b" + "c"}', {"a": "bc"}, "joined strings"),
    ('{"a": {"b": "c"}', {"a": {"b": "c"}}, "missing closer"),
    ('{"a": [1, 2}, "b": 3}', {"a": [1, 2], "b": 3}, "wrong closer"),
    ('{"a": [1, 2]], "b": 3}', {"a": [1, 2], "b": 3}, "extra closer"),
    ('{"a": "b, "c": 1}', {"a": "b", "c": 1}, "closing quote"),
    ('{a": "b"}', {"a": "b"}, "opening quote"),
    (r'{"a": "it\'s", "b": null}', {"a": "it's", "b": None}, "needless escape"),
    (r'{"a": "\d+\.\d"}', {"a": r"\d+\.\d"}, "backslash"),
    ('"a": 1,\n"b": "x"', {"a": 1, "b": "x"}, "outer braces"),
    (r"{\"a\": \"b\"}", {"a": "b"}, "escaped document"),
    ("{&quot;a&quot;: &quot;b&quot;}", {"a": "b"}, "HTML entities"),
    ('{"a": 1}\n{"a": 2}', [{"a": 1}, {"a": 2}], "one after another"),
    ('{"a"：1，"b"：2}', {"a": 1, "b": 2}, "colon"),
    ('{"a": 1,\u00a0"b": 2}', {"a": 1, "b": 2}, "space"),
]


@pytest.mark.parametrize(("text", "value", "kind"), SAFE, ids=[text for text, _, _ in SAFE])
def test_J3_what_can_have_been_meant_in_one_way_only_is_repaired_and_listed(text: str, value: Any, kind: str) -> None:
    """Each repair with its kind and a place in the text."""
    result = parse(text)
    assert result.data == value
    if kind:
        assert kind in {repair.kind for repair in result.repairs}
    assert all(0 <= repair.position <= len(text) and repair.certain for repair in result.repairs)
    assert not parse(text, repair="none").success or not kind


REFUSED: list[tuple[str, str]] = [
    ('{"a": 1, "b": "unfin', "$.b"),
    ('{"a": [1, 2, 3', "$.a"),
    ('[{"a": 1}, {"b":', "$[1]"),
    ('{"a": [1, ...]}', ""),
    ('{"a": [1, // ... more\n]}', ""),
    ('{"a": {"b": 1, "c": 2, "d": 3}, "e": {"f": 1, "g": 2}', ""),
    ("{'a': 1, 'a': 2, b: 3}", ""),
    ('{"a": 1 000}', ""),
    ('{"a": "x", "b", "c": 1}', ""),
    ('{"a": "x" "y", "b": 1}', ""),
    ('{"a": "b" | "c"}', ""),
    ('{"k": "v" : "w"}', ""),
    ("{'a': b'x'}", ""),
]


@pytest.mark.parametrize(("text", "truncated"), REFUSED, ids=[text for text, _ in REFUSED])
def test_J3_what_nobody_can_know_is_refused_and_only_taken_if_all_is(text: str, truncated: str) -> None:
    """Then what is missing is named."""
    result = parse(text)
    assert not result.success
    assert "nobody can be sure" in str(result.error)
    everything = parse(text, repair="all")
    assert everything.success
    assert any(not repair.certain for repair in everything.repairs)
    if truncated:
        assert everything.truncated is not None
        assert everything.truncated.startswith(truncated)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "I'm sorry, but I can't help with that.",
        "Note: the sun matters too.",
        "You can write `{...}` for an object and `[...]` for a list.",
        "Warning: the function search(query) failed. Reason: timeout.",
        "First, open the valve (see [2]). Then wait {about a minute}.",
        "```json\n```",
        '<think>{"draft": true}',
    ],
)
def test_J3_where_there_is_no_value_none_is_invented(text: str) -> None:
    """Not even from brackets in prose, or from drafts in thoughts."""
    for repair in ("none", "safe", "all"):
        assert not parse(text, repair=repair).success


def test_J3_a_draft_in_thoughts_is_not_the_answer() -> None:
    """Nor is a mark in prose, when a fence holds the answer."""
    assert parse('<think>{"draft": 1}</think>{"final": 2}').data == {"final": 2}
    assert parse('I may say {"draft": 1}.\n</think>\n\n{"final": 2}').data == {"final": 2}
    assert parse('{"tag": "ends with </think>, mostly"}', into=dict[str, str]).success
    assert parse("Here: {'tag': '</think>'}").data == {"tag": "</think>"}
    assert parse('I drop {"draft": 1}.\n```json\n{"final": 2}\n```').data == {"final": 2}


def test_J3_two_answers_are_refused_unless_the_schema_or_agreement_decides() -> None:
    """The same value twice is one."""
    two = '```json\n{"a": 1}\n```\nor\n```json\n{"b": 2}\n```'

    class HasB(BaseModel):
        b: int

    assert "2 different values" in str(parse(two).error)
    assert parse(two, into=HasB).data == HasB(b=2)
    assert parse('```json\n{"a": 1}\n```\nthat is\n```json\n{ "a": 1 }\n```').data == {"a": 1}


def test_J3_a_command_with_one_backslash_is_doubted_where_the_text_is_more_than_json() -> None:
    """It is valid; a form feed is hardly ever meant."""
    assert parse(r'{"a": "\frac{1}{2}"}').data == {"a": "\frac{1}{2}"}
    fenced = '```json\n{"a": "\\frac{1}{2}"}\n```'
    assert "control character" in str(parse(fenced).error)
    assert parse(fenced, repair="none").data == parse(fenced, repair="all").data == {"a": "\frac{1}{2}"}


# Schemas


class Priority(enum.Enum):
    HIGH = "high"
    LOW = "low"


class Ticket(BaseModel):
    title: str
    priority: Priority = Priority.LOW
    count: int = Field(default=1, ge=1)
    state: Literal["open", "closed"] = "open"


def test_values_are_validated_and_coercions_reported() -> None:
    """In pydantic's lax mode."""
    result = parse('{"title": "x", "count": "3"}', into=Ticket)
    assert result.data == Ticket(title="x", count=3)
    assert [str(repair) for repair in result.repairs] == ['coerced at 0: $.count: "3" became 3']


def test_with_repair_none_nothing_is_coerced() -> None:
    """A date is still text in JSON."""
    assert not parse('{"title": "x", "count": "3"}', into=Ticket, repair="none").success
    assert parse('{"title": "x", "count": 3}', into=Ticket, repair="none").success


@pytest.mark.parametrize(
    ("written", "meant"),
    [("HIGH", Priority.HIGH), ("High!", Priority.HIGH), ("hihg", Priority.HIGH), ("medium", None), ("h", None)],
)
def test_an_enums_name_is_the_nearest_one_if_only_one_is_near(written: str, meant: Priority | None) -> None:
    """And that is reported."""
    result = parse(json.dumps({"title": "x", "priority": written}), into=Ticket)
    if meant is None:
        assert not result.success
        assert "$.priority" in str(result.error)
    else:
        assert result.unwrap().priority is meant
        assert [repair.kind for repair in result.repairs] == ["nearest name"]


def test_a_literal_between_two_names_is_refused() -> None:
    """Nobody can know which was meant."""
    kind = dict[str, Literal["cat", "car"]]
    assert not parse('{"a": "caz"}', into=kind).success


@pytest.mark.parametrize("said", ["not urgent", "nonurgent", "un-urgent", "urgent or calm", "inurgent"])
def test_what_stands_before_a_name_turns_it_round(said: str) -> None:
    """`not urgent` is near to `urgent`, and means the opposite."""
    assert not parse(json.dumps({"how": said}), into=dict[str, Literal["urgent", "calm"]]).success


def test_keys_that_the_schema_does_not_know_are_reported() -> None:
    """They are not in the instance."""
    result = parse('{"title": "x", "colour": "red"}', into=Ticket)
    assert result.dropped == ("$.colour",)
    assert result.success


def test_a_mismatch_is_told_with_its_path() -> None:
    """In `error`, and by `unwrap`, whose exception has the text apart."""
    result = parse('{"count": 0}', into=Ticket)
    assert not result.success
    assert not result
    for path in ("$.title", "$.count"):
        assert path in str(result.error)
    with pytest.raises(ParseError) as caught:
        result.unwrap()
    assert caught.value.texts == ('{"count": 0}',)
    assert isinstance(caught.value, ValueError)


@dataclasses.dataclass
class Point:
    x: int
    y: int


def test_into_takes_whatever_pydantic_validates_and_json_schemas() -> None:
    """Dataclasses, types, and dicts."""
    assert parse("Here: [1, '2', 3]", into=list[int]).data == [1, 2, 3]
    assert parse('{"x": 1, "y": 2}', into=Point).data == Point(1, 2)
    assert parse("7", into=int).data == 7
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"enum": ["one", "two"]}},
        "required": ["a"],
    }
    assert parse('{"a": 1}', into=schema).data == {"a": 1}
    assert parse('{"a": "1", "b": "One"}', into=schema).data == {"a": 1, "b": "one"}
    assert "'a' is a required property" in str(parse("{}", into=schema).error)


def test_a_schema_never_fetches_what_it_refers_to() -> None:
    """A reference to an address cannot be resolved, and that is said."""
    with pytest.raises(ConfigError, match="cannot be used"):
        parse("{}", into={"$ref": "https://127.0.0.1:1/schema.json"})


def test_a_reading_that_is_ambiguous_is_decided_by_the_schema() -> None:
    """Where only one of the readings fits."""

    class Nested(BaseModel, extra="forbid"):
        a: list[int]
        b: int

    assert parse('{"a": [1, 2}, "b": 3}', into=Nested).data == Nested(a=[1, 2], b=3)


# Strategies

CLASSIC = [
    ('```json\n{"name": "search", "arguments": {"query": "tides"}}\n```', "fenced"),
    ('{"name": "search", "arguments": {"query": "tides"}}', "json"),
    ("<name>search</name><arguments><query>tides</query></arguments>", "xml"),
    ("{'name': 'search', 'arguments': {'query': 'tides'}}", "python_literal"),
    ('name: search\narguments: {"query": "tides"}', "yaml"),
]


@pytest.mark.parametrize(("text", "strategy"), CLASSIC, ids=[strategy for _, strategy in CLASSIC])
def test_the_five_classic_formats_parse_into_a_tool_call(text: str, strategy: str) -> None:
    """JSON block, bare JSON, XML tags, Python literal, key: value."""
    result = create_robust_parser().parse(text, into=ToolCall)
    assert result.unwrap() == ToolCall(name="search", arguments={"query": "tides"})
    assert result.strategy == strategy


def test_lines_with_keys_and_values_are_read_by_the_schemas_types() -> None:
    """Bullets, bold labels and values of several lines; every value is text until the schema says what it is."""
    result = parse("Here you are:\n\n* **Title:** Valve leaks\n* **Count:** 3\n", into=Ticket)
    assert result.unwrap() == Ticket(title="Valve leaks", count=3)
    assert result.strategy == "key_value"
    assert "coerced" in {repair.kind for repair in result.repairs}


def test_an_agents_step_is_read_whatever_it_is_called() -> None:
    """Tags, lines and JSON."""
    step = AgentAction(thought="look it up", action="search", input="tides")
    for text in (
        "<thought>look it up</thought><action>search</action><input>tides</input>",
        "Thought: look it up\nAction: search\nAction Input: tides",
        '{"thought": "look it up", "tool": "search", "tool_input": "tides"}',
    ):
        assert parse(text, into=AgentAction).data == step


class Ballot:
    name = "ballot"

    def find(self, text: str, asked: Asked) -> Iterator[Found]:
        if "[yes]" not in text:
            raise ValueError("nobody voted")
        yield Found({"vote": "yes", "repair": asked.repair}, repairs=[Repair("ballot", 0)])


def test_a_strategy_of_ones_own_comes_after_the_others() -> None:
    """It has a name and a method; what it says is in `error`."""
    assert isinstance(Ballot(), Parser)
    parser = RobustParser(["json", Ballot()])
    assert parser.parse("I say [yes]").strategy == "ballot"
    assert parser.parse('{"a": 1} [yes]').strategy == "json"
    assert "ballot: nobody voted" in str(parser.parse("no").error)
    assert not parser.parse("[yes]", repair="none").success or parser.parse("[yes]", repair="none").repairs == ()


def test_only_the_strategies_that_are_named_are_tried() -> None:
    """In that order."""
    text = '```json\n{"a": 1}\n```'
    assert parse(text, strategies=["python_literal", "key_value"]).strategy in (None, "python_literal")
    assert parse(text, strategies=["fenced"]).strategy == "fenced"
    assert "json, tool_call" in repr(create_robust_parser())
    assert set(STRATEGIES) == {each.name for each in create_robust_parser().strategies}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategies": ["jsn"]}, "no strategy `jsn`"),
        ({"strategies": "json"}, "a list"),
        ({"strategies": []}, "empty"),
        ({"strategies": [object()]}, "`find"),
        ({"repair": "some"}, "repair"),
        ({"into": {"type": "wrong"}}, "no JSON schema"),
        ({"into": object()}, "pydantic"),
    ],
    ids=["no such name", "a text", "none", "no parser", "no level", "no schema", "no type"],
)
def test_wrong_arguments_are_refused_with_their_names(options: dict[str, Any], message: str) -> None:
    """As `ConfigError`, whatever the text is."""
    with pytest.raises(ConfigError, match=message):
        parse("{}", **options)


@pytest.mark.parametrize("text", [None, b"{}", 5, ["{}"]], ids=str)
def test_what_is_no_text_is_a_type_error(text: Any) -> None:
    """With what to do."""
    with pytest.raises(TypeError, match="has to be a str"):
        parse(text)


def test_a_text_that_is_too_long_is_refused() -> None:
    """By its length alone, unless it is plain JSON."""
    assert "at most" in str(parse("x" * (LARGEST + 1)).error)


def test_the_result_says_what_it_is() -> None:
    """In one line, bounded."""
    assert repr(parse("{'a': [1, 2, 3]}")).startswith("ParseResult(data={'a': [1, 2, 3]}, strategy='python_literal'")
    assert repr(parse("nothing")).startswith("ParseResult(refused: ")
    assert len(repr(parse(json.dumps(list(range(10_000)))))) < 200


def test_it_is_there_without_a_client() -> None:
    """`import tidegate` is enough."""
    assert tidegate.parsing is parsing
    assert tidegate.parsing.parse is parse
