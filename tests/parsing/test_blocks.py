"""YAML as models write it: what it means, where it is found, and which prose is none."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.parsing.blocks import YAMLBlock
from tidegate.parsing.found import RANKS, Asked, Found
from tidegate.parsing.schema import Schema
from tidegate.parsing.yaml import read_yaml

Json = Any

KEYS = st.from_regex(r"[a-z][a-z0-9_-]{0,10}", fullmatch=True)
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=10,
)
BLOCKS = st.dictionaries(KEYS, VALUES, min_size=1, max_size=4) | st.lists(VALUES, min_size=1, max_size=4)


def lines_of(value: Json, step: int, *, dashes_out: bool) -> Iterator[str]:
    """Block style, with JSON for scalars and for what is empty."""
    for name, each in value.items() if isinstance(value, dict) else [(None, each) for each in value]:
        head = "-" if name is None else f"{name}:"
        if not isinstance(each, dict | list) or not each:
            yield f"{head} {json.dumps(each, ensure_ascii=False)}"
            continue
        inner = list(lines_of(each, step, dashes_out=dashes_out))
        pad = "" if dashes_out and name is not None and isinstance(each, list) else " " * step
        if name is None:
            yield f"-{' ' * (step - 1)}{inner[0]}"
            yield from (" " * step + line for line in inner[1:])
        else:
            yield head
            yield from (pad + line for line in inner)


def all_in(text: str, into: Json = None) -> list[Found]:
    return list(YAMLBlock().find(text, Asked(Schema.of(into))))


def one_in(text: str, into: Json = None) -> Found:
    (found,) = all_in(text, into)
    assert found.typed
    return found


def read(text: str) -> Json:
    found, _ = read_yaml(text, 0, len(text))
    assert not found.repairs
    return found.value


# What it means


@given(BLOCKS, st.sampled_from([2, 4]), st.booleans(), st.sampled_from(["", "---\n", "# note\n\n"]))
def test_what_is_written_in_blocks_is_read_as_it_was(value: Json, step: int, dashes_out: bool, before: str) -> None:
    """Nested, with any indentation, lists at that of their key or deeper."""
    block = before + "\n".join(lines_of(value, step, dashes_out=dashes_out))
    assert read(block) == value
    if "```" not in block:
        found = one_in(f"Here it is:\n\n```yaml\n{block}\n```\n\nAnything else?")
        assert (found.value, found.repairs, found.rank) == (value, [], RANKS["fence"])


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("null", None), ("~", None), ("", None), ("true", True), ("False", False), ("yes", "yes"),
        ("No", "No"), ("on", "on"),
        ("12", 12), ("-3", -3), ("+4", 4), ("0x1F", 31), ("0o17", 15), ("1.5", 1.5), (".5", 0.5), ("1e3", 1000.0),
        ("2024-01-02", "2024-01-02"), ("10:30", "10:30"), ("1.2.3", "1.2.3"), ("1_000", "1_000"), ("nan", "nan"),
        ("plain text", "plain text"), ("it's # a comment", "it's"), ("a#b", "a#b"),
        ("http://x.org/?a=1#b", "http://x.org/?a=1#b"),
        ("'it''s'", "it's"), ("'C:\\new'", "C:\\new"), ('"a\\n\\"b\\""  # note', 'a\n"b"'),
        ('"\\x41\\_\\e"', "A\xa0\x1b"),
        ("[1, a, 'b', null]", [1, "a", "b", None]), ("{a: 1, 'b': [x y], c: {}}", {"a": 1, "b": ["x y"], "c": {}}),
        ('{"a": [1, 2]}', {"a": [1, 2]}), ("[\n    1,\n    2,  # two\n  ]", [1, 2]), ("[]", []), ("{}", {}),
        ("|\n    a\n      b\n\n    c\n", "a\n  b\n\nc\n"), ("|-\n    a\n    b\n\n", "a\nb"),
        (">\n    a\n    b\n\n    c\n", "a b\nc\n"), (">-\n    a\n    b", "a b"), ("|2-\n     a\n    b", "   a\n  b"),
        ("|\n    # no comment\n", "# no comment\n"), ("one\n    two\n\n    three", "one two\nthree"),
    ],
)  # fmt: skip
def test_what_scalars_mean(written: str, value: Json) -> None:
    """As in YAML 1.2's core schema: what is neither null, true, false nor a number is text."""
    assert read(f"key: {written}") == {"key": value}
    assert read(f"before: x\nkey: {written}\nafter: 1") == {"before": "x", "key": value, "after": 1}


@pytest.mark.parametrize(
    ("block", "value"),
    [
        ("- name: a\n  tags:\n  - x\n  - y\n- name: b", [{"name": "a", "tags": ["x", "y"]}, {"name": "b"}]),
        ("- - 1\n  - 2\n- - 3", [[1, 2], [3]]),
        ("-\n  a: 1\n-\n  - 2\n-", [{"a": 1}, [2], None]),
        ("a:\nb:\n  c:\nd: 1", {"a": None, "b": {"c": None}, "d": 1}),
        ("  a: 1\n  b: 2", {"a": 1, "b": 2}),
        ("# one\na: 1 # two\n\n# three\nb: 2", {"a": 1, "b": 2}),
        ("'a b': 1\n\"c: d\": 2\ne f: 3", {"a b": 1, "c: d": 2, "e f": 3}),
        ("1: a\ntrue: b", {"1": "a", "true": "b"}),
        ("a: 1\n...", {"a": 1}),
        ("a: |+\n  x\n\nb: >+\n  y\n\n\n", {"a": "x\n\n", "b": "y\n\n\n"}),
        ("-1: a\n?x: b", {"-1": "a", "?x": "b"}),
    ],
)
def test_what_blocks_mean(block: str, value: Json) -> None:
    """Compact maps, lists within lists, and keys with nothing after them."""
    assert read(block) == value


@pytest.mark.parametrize(
    ("block", "value", "kind", "certain"),
    [
        ("a:\n\tb: 1\n\tc:\n\t\t- 2", {"a": {"b": 1, "c": [2]}}, "tab", True),
        ("a:\n\tb: 1\nc:\n  d: 2", {"a": {"b": 1}, "c": {"d": 2}}, "tab", False),
        ("a: 1\na: 2", {"a": 2}, "doubled key", False),
        ("a: Note: this", {"a": "Note: this"}, "colon", True),
        ("a: 1 b: 2", {"a": "1 b: 2"}, "colon", False),
        ('a: "one" and two', {"a": '"one" and two'}, "quotes", False),
        ("a: 007", {"a": "007"}, "number", False),
    ],
)
def test_what_is_no_clean_yaml_is_a_repair(block: str, value: Json, kind: str, certain: bool) -> None:
    """Certain only where nothing else can have been meant."""
    found, _ = read_yaml(block, 0, len(block))
    assert found.value == value
    assert [(each.kind, each.certain) for each in found.repairs] == [(kind, certain)]


def test_a_key_given_twice_is_named_by_its_path() -> None:
    """As among the repairs, so among what was dropped."""
    found, _ = read_yaml("a:\n  - b: 1\n    b: 2", 0, 20)
    assert found.dropped == ["$.a[0].b"]


@pytest.mark.parametrize(
    "block",
    [
        "",
        "# only a comment",
        "a: &x 1\nb: *x",
        "a: !!python/object:os.system x",
        "%YAML 1.2\n---\na: 1",
        "---\na: 1\n---\nb: 2",
        "a: 1\n  b: 2",
        "a:\n  b: 1\n c: 2",
        "a: [1, 2",
        "a: [1, 2] 3",
        "a: {b 1}",
        'a: "open',
        'a: "one", b',
        'a: "\\q"',
        "a: .nan",
        "a: 1e999",
        "a: 1\nno key",
        "? a\n: b",
        "- a\nb: 1",
        "a: |\n   x\n  y",
        "a: " + "9" * 5000,
    ],
)
def test_what_is_no_yaml_is_refused_with_a_reason(block: str) -> None:
    """Anchors, aliases and tags as well, so that nothing grows and nothing is made."""
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        read_yaml(block, 0, len(block))


# Where it is found


@pytest.mark.parametrize(
    ("text", "value", "rank"),
    [
        ("name: f\narguments:\n  a: 1", {"name": "f", "arguments": {"a": 1}}, "whole"),
        ("a: 1\ntags:\n- x\n- y", {"a": 1, "tags": ["x", "y"]}, "whole"),
        ('name: "Ana"\nage: 7', {"name": "Ana", "age": 7}, "whole"),
        ("- a: 1\n  b: 2\n- a: 3\n  b: 4", [{"a": 1, "b": 2}, {"a": 3, "b": 4}], "whole"),
        (
            "Here is the record:\n\nname: f\nargs:\n  a: 1\n\nI hope that helps.",
            {"name": "f", "args": {"a": 1}},
            "prose",
        ),
        ("Result:\nname: f\nargs:\n  a: 1", {"name": "f", "args": {"a": 1}}, "prose"),
        ("```\na: 1\nb:\n  c: 2\n```", {"a": 1, "b": {"c": 2}}, "fence"),
        ("```yml\na: 1\n```", {"a": 1}, "fence"),
        ("```yaml\n- a\n- b\n```", ["a", "b"], "fence"),
        ("<think>x</think>\na: 1\nb:\n  c: 2<|im_end|>", {"a": 1, "b": {"c": 2}}, "whole"),
    ],
)
def test_blocks_are_found_where_models_put_them(text: str, value: Json, rank: str) -> None:
    """In a fence that says so; elsewhere if it has more structure than lines of text."""
    found = one_in(text)
    assert (found.value, found.rank) == (value, RANKS[rank])


def test_a_schema_may_know_what_looks_like_prose() -> None:
    """A key with a list under it is an outline, unless the key was asked for."""
    text = "steps:\n- open it\n- close it"
    with pytest.raises(ValueError, match="no block"):
        all_in(text)
    assert one_in(text, {"type": "object", "properties": {"steps": {}}}).value == {"steps": ["open it", "close it"]}


def test_a_fence_that_is_not_closed_leaves_a_doubt() -> None:
    """Nothing in YAML says where it ends."""
    assert one_in("```yaml\na: 1\nb: tw").doubts
    assert not one_in("```yaml\na: 1\nb: tw<|im_end|>").doubts


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Just a sentence.",
        "Tides are caused by the moon. Note: the sun matters too.\n\nIn short: gravity.",
        "name: Ana\ncity: Bath",
        "- one\n- two",
        "- name: Ana\n- city: Bath",
        "* **name**: Ana\n* **city**: Bath",
        "Here are the steps:\n- Do this\n- Do that",
        "Here are the steps:\n\n- Do this\n- Do that\n\nThen stop.",
        "What is good:\n- cheap\nWhat is bad:\n- slow",
        '{"a": 1}',
        '{"a": 1,\n"b": 2',
        "a: 1,\nb: {",
        "```json\n```",
        "```python\na: 1\nb:\n  c: 2\n```",
        '{"a": "\n```\nb: 1\nc:\n  d: 2\n```\n"}',
        '"a": 1,\n"b": [2]',
    ],
)
def test_prose_and_lines_of_text_are_no_yaml(text: str) -> None:
    """Nor is JSON, which is for others."""
    with pytest.raises(ValueError, match=r"^no block of YAML is in it$"):
        all_in(text)


@pytest.mark.slow
@pytest.mark.parametrize("label", ["", "```yaml\n"])
@pytest.mark.parametrize(
    "text",
    [
        "- " * 500_000,
        "-\n" * 500_000,
        "-\n" * 19_000,
        "a: " * 330_000,
        "a:" * 500_000,
        "a: b\n" * 19_900,
        "".join(f"k{number}: b\n" for number in range(19_900)),
        "".join(" " * depth + "a:\n" for depth in range(1400)),
        "a: [" + "[" * 1_000_000,
        "a: [" + "1," * 500_000 + "]",
        "a: [" + "b," * 500_000 + "]",
        "a: {" + "b: {" * 200_000,
        "a: {" + "b: 1, " * 150_000 + "}",
        "a: [b\n" * 150_000,
        "a: |\n" + " x\n" * 300_000,
        "a: >\n" + " x\n" * 19_000,
        "a: >\n" + "\n" * 19_000,
        "a: x\n" + " y\n" * 19_000,
        "a: x\n" + " #\n" * 19_000,
        "#\n" * 400_000,
        "\n" * 1_000_000,
        " " * 1_000_000,
        "\t" * 1_000_000,
        "a" * 1_000_000,
        "a " * 500_000,
        "a: " + "b " * 500_000,
        "a: " + "b#" * 500_000,
        "a: '" + "''" * 500_000,
        'a: "' + "\\n" * 500_000 + '"',
        'a: "' + "\\e" * 450_000 + '"',
        "'" * 1_000_000,
        "x:\n" * 330_000,
        "x:\n\n" * 250_000,
        "x: y:\n" * 160_000,
        "a:\n  b: 1\n" + "x:\n\ny z\n\n" * 100_000,
        "|" * 1_000_000,
        "a: |" + "-" * 1_000_000,
        "a: " + "1" * 1_000_000,
        "a: " + "0" * 1_000_000,
    ],
    ids=lambda text: repr(text[:12]) if isinstance(text, str) else "",
)
def test_nothing_that_is_a_megabyte_long_takes_a_second(text: str, label: str) -> None:
    """Found or refused, but never anything else."""
    began = time.process_time()
    with contextlib.suppress(ValueError):
        all_in(label + text)
    assert time.process_time() - began < 2  # of CPU time; twice that for a machine under load


PARTS = ("a: ", "b:", "- ", "-", "\n", "\n  ", "\n    ", "x", '"', "'", "|", ">", "[", "]", "{", "}", ",", "#", "1",
         "null", "---", "\t", "&", "Here:", "```yaml", "```")  # fmt: skip


@given(st.lists(st.sampled_from(PARTS), max_size=20).map("".join))
def test_whatever_is_found_is_json_and_everything_else_a_value_error(text: str) -> None:
    """Fuzzed with the parts that blocks are made of."""
    with contextlib.suppress(ValueError):
        for found in all_in(text):
            json.dumps(found.value, allow_nan=False)
            assert 0 <= found.start < found.end <= len(text)
