"""Elements such as models write them: what is data in them, and what is only markup."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.parsing.found import RANKS, Asked, Found
from tidegate.parsing.schema import Schema
from tidegate.parsing.tags import XMLTags

Json = Any

NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}x", fullmatch=True)
SIGNS = st.characters(exclude_categories=["Cs", "Cc", "Z"], exclude_characters="{[")
TEXTS = st.text(SIGNS, max_size=20)
MEMBERS = st.recursive(
    TEXTS,
    lambda inner: st.dictionaries(NAMES, inner | st.lists(inner, min_size=2, max_size=3), min_size=1, max_size=3),
    max_leaves=8,
)
RECORDS = st.dictionaries(NAMES, MEMBERS, min_size=1, max_size=4)


def one_in(text: str, *names: str, into: Json = None, repair: Json = "safe") -> Found:
    (found,) = XMLTags(*names).find(text, Asked(Schema.of(into), repair))
    assert not found.typed
    return found


def value_of(text: str, *names: str, into: Json = None) -> Json:
    found = one_in(text, *names, into=into)
    assert not found.repairs
    return found.value


def rendered(name: str, value: Json) -> str:
    if isinstance(value, list):
        return "".join(rendered(name, each) for each in value)
    if isinstance(value, dict):
        return f"<{name}>\n" + "\n".join(rendered(*each) for each in value.items()) + f"\n</{name}>"
    return f"<{name}>{escape(value)}</{name}>"


@given(
    RECORDS,
    st.sampled_from(["", "Here it is:\n", "See [1] below:\n```xml\n"]),
    st.sampled_from(["", "\n\nAnything else?"]),
)
def test_what_is_written_in_tags_is_read_as_it_was(record: Json, before: str, after: str) -> None:
    """Nested, repeated, with entities, alone or in prose; the name of what is around all of it is left out."""
    text = before + rendered("record", record) + after
    assert value_of(text) == record
    assert value_of(text, "record") == {"record": record}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("<record><a>1</a><b>x</b></record>", {"a": "1", "b": "x"}),
        ("<thought>Hm.</thought>\n<action>search</action>\n<input>tides</input>",
         {"thought": "Hm.", "action": "search", "input": "tides"}),
        ('<think>no</think><action>f</action><input>{"q": [1]}</input>', {"action": "f", "input": {"q": [1]}}),
        ("<r><i>a</i><i>b</i></r>", {"i": ["a", "b"]}),
        ("<r><x><y>1</y></x><x><y>2</y></x></r>", {"x": [{"y": "1"}, {"y": "2"}]}),
        ("<r><x><![CDATA[a < b & <c>]]></x></r>", {"x": "a < b & <c>"}),
        ("<r><x>one <![CDATA[<b>]]> two &amp; three</x></r>", {"x": "one <b> two & three"}),
        ("<r><!-- <x>no</x> --><x>yes<!-- no --></x></r>", {"x": "yes"}),
        ('<?xml version="1.0"?>\n<r><x>1</x></r>', {"x": "1"}),
        ('<r><tool name="x">text</tool></r>', {"tool": {"name": "x", "text": "text"}}),
        ('<r><tool name="x"/></r>', {"tool": {"name": "x"}}),
        ("<r><tool name='x &lt; y'></tool><e/></r>", {"tool": {"name": "x < y"}, "e": ""}),
        ('<r id="7"><x>1</x></r>', {"id": "7", "x": "1"}),
        ("<r><x>&lt;&gt;&amp;&quot;&apos;&#65;&#x42;&copy;&#0;&#xD800;</x></r>", {"x": "<>&\"'AB&copy;&#0;&#xD800;"}),
        ("<r><x>&amp;lt;</x></r>", {"x": "&lt;"}),
        ("<r><x>some <b>bold</b> text<br>and more</x></r>", {"x": "some <b>bold</b> text<br>and more"}),
        ("<r><x><b>bold</b></x></r>", {"x": "<b>bold</b>"}),
        ("<r><x>List<T> of it, 1 < 2</x></r>", {"x": "List<T> of it, 1 < 2"}),
        ("<r><Name>x</Name><name>y</name></r>", {"Name": "x", "name": "y"}),
        ("<r><x>[see 2] there</x></r>", {"x": "[see 2] there"}),
        ("<r><x>  007 </x></r>", {"x": "007"}),
    ],
)  # fmt: skip
def test_what_elements_mean(text: str, value: Json) -> None:
    """Attributes and children are members, leaves are text, CDATA is verbatim."""
    assert value_of(text) == value


@pytest.mark.parametrize(
    ("text", "names", "value"),
    [
        ("So: <answer>42</answer>, that is it.", ["answer"], {"answer": "42"}),
        ("<a>x</a> and <b>y</b> and <a>z</a>", ["a", "b"], {"a": ["x", "z"], "b": "y"}),
        ("<r><deep><k>v</k></deep></r>", ["k"], {"k": "v"}),
        ("<r><k>v</k></r>", ["r"], {"r": {"k": "v"}}),
    ],
)
def test_tags_that_are_asked_for_are_found_anywhere(text: str, names: list[str], value: Json) -> None:
    """By the constructor or by the caller, also in a sentence and also with names that markup has."""
    assert value_of(text, *names) == value
    (found,) = XMLTags().find(text, Asked(tags=tuple(names)))
    assert found.value == value


def test_an_outermost_element_that_the_schema_names_is_kept() -> None:
    """Whether it is a wrapper is for the schema to say."""
    text = "<customer><name>Ana</name></customer>"
    assert value_of(text, into={"type": "object", "properties": {"customer": {}}}) == {"customer": {"name": "Ana"}}
    assert value_of(text, into={"type": "object", "properties": {"name": {}}}) == {"name": "Ana"}


def test_the_rank_says_whether_anything_else_is_in_the_answer() -> None:
    """End tokens and thoughts are not."""
    assert one_in("<think>x</think>\n<r><x>1</x></r><|im_end|>").rank == RANKS["whole"]
    assert one_in("Here:\n<r><x>1</x></r>").rank == RANKS["tag"]


def test_elements_that_are_not_closed_are_marked() -> None:
    """At the end as truncated, with the innermost path; in the middle by a repair that nobody can be sure of."""
    found = one_in("<r><x>1</x><y><z>2</z><w>thr")
    assert found.value == {"x": "1", "y": {"z": "2", "w": "thr"}}
    assert found.truncated == "$.y.w"
    assert not any(each.certain for each in found.repairs)
    found = one_in("<r><w>0</w><x>1<y>2</y></r>")
    assert found.repairs


def test_a_document_in_an_element_is_repaired_as_documents_are() -> None:
    """Without repairs, what needs some is not taken for text."""
    text = "<action>f</action><input>{'q': 'x',}</input>"
    found = one_in(text)
    assert found.value == {"action": "f", "input": {"q": "x"}}
    assert found.repairs
    with pytest.raises(ValueError, match=r"^no tags"):
        one_in(text, repair="none")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain",
        "1 < 2 and 3 > 2",
        "<b>bold</b> and <i>italic</i>",
        "<p>a</p><p>b</p>",
        "<ul><li>a</li></ul>",
        "<think>only</think>",
        "<answer>42</answer>",
        "Use <name> and <value> here.",
        "In a sentence <r><x>1</x></r> there.",
        '{"xml": "\n<r><x>1</x></r>"}',
        "{\"a\": '<r>\n<x>1</x><y>2</y>'}",
        '<tool_call>{"name": "f"}</tool_call><tool_call>{"name": "g"}</tool_call>',
        "List<String> x = new List<>();",
        "<r>text <x>1</x></r>",
        "<x>1",
        "<r><x>1",
        "</r>",
    ],
)
def test_markup_and_prose_are_no_data(text: str) -> None:
    """One leaf alone, tags in a sentence and tags within a document are none, either."""
    with pytest.raises(ValueError, match=r"^no tags with data are in it$"):
        list(XMLTags().find(text, Asked()))


def test_what_was_asked_for_and_is_not_there_is_named() -> None:
    """The reason says which."""
    with pytest.raises(ValueError, match=r"^none of the tags action, input is in it$"):
        list(XMLTags("action", "input").find("<r><x>1</x></r>", Asked()))


def test_entities_cannot_be_made_to_grow() -> None:
    """There are five, and nobody can declare others."""
    bomb = '<!DOCTYPE r [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>\n<r><x>&b;</x></r>'
    with contextlib.suppress(ValueError):
        assert one_in(bomb).value == {"x": "&b;"}


@pytest.mark.slow
@pytest.mark.parametrize("names", [(), ("a", "r")])
@pytest.mark.parametrize(
    "text",
    [
        "<a" * 500_000,
        "<" * 1_000_000,
        "<a>" * 330_000,
        "<r>" * 330_000,
        "</r>" * 250_000,
        "<r></r>" * 140_000,
        "<r><x>1</x></r>\n" * 60_000,
        "<r>" + "<x>1</x>" * 120_000 + "</r>",
        "<r>" + "<x>" * 300_000 + "</r>",
        "<r>" + "<x><y>" * 45 + "</r>" * 100_000,
        "<!--" * 250_000,
        "<![CDATA[" * 110_000,
        "<?" * 500_000,
        "<r>" + "<!---->" * 140_000 + "</r>",
        '<a b="' * 160_000,
        "<a b='\"" * 140_000,
        "<a b" * 250_000,
        "<a" + " " * 1_000_000,
        "<a" + ' b="c"' * 160_000,
        "<a" + ' b="c"' * 160_000 + "/>",
        "<" + "a" * 1_000_000,
        "<r><x>" + "&lt;" * 250_000 + "</x></r>",
        "<r><x>" + "&" * 1_000_000 + "</x></r>",
        "<r><x>" + "{" * 1_000_000 + "</x></r>",
        "<r>" + "<x>{</x>" * 120_000 + "</r>",
        "<r>" + "<x>[1]</x>" * 100_000 + "</r>",
    ],
    ids=lambda text: f"{text[:16]}…{text[-4:]}" if isinstance(text, str) else "",
)
def test_nothing_that_is_a_megabyte_long_takes_a_second(text: str, names: tuple[str, ...]) -> None:
    """Found or refused, but never anything else."""
    began = time.process_time()
    with contextlib.suppress(ValueError):
        list(XMLTags(*names).find(text, Asked()))
    assert time.process_time() - began < 2  # of CPU time; twice that for a machine under load


PARTS = (
    "<r>",
    "</r>",
    "<x>",
    "</x>",
    "<x/>",
    '<x a="1">',
    "<b>",
    "<![CDATA[",
    "]]>",
    "<!--",
    "-->",
    "&lt;",
    "<",
    ">",
    "t",
    "{",
    '"a"',
    ":",
    "}",
    "\n",
)


@given(st.lists(st.sampled_from(PARTS), max_size=20).map("".join))
def test_whatever_is_found_is_json_and_everything_else_a_value_error(text: str) -> None:
    """Fuzzed with the parts that elements are made of."""
    with contextlib.suppress(ValueError):
        for found in XMLTags().find(text, Asked()):
            json.dumps(found.value, allow_nan=False)
            assert 0 <= found.start < found.end <= len(text)
