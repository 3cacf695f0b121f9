"""Lines with a key and a value each, and all the prose that looks like them."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.parsing.found import RANKS, Asked, Found
from tidegate.parsing.lines import KeyValueLines
from tidegate.parsing.schema import Schema

Json = Any

KEYS = st.from_regex(r"[a-z][a-z_]{2,12}", fullmatch=True).filter(
    lambda key: key not in {"user", "human", "system", "result"}
)
VALUES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9 .:/?=&%'-]{0,30}[A-Za-z0-9.]", fullmatch=True)
RECORDS = st.dictionaries(KEYS, VALUES, min_size=2, max_size=6)
FORMS = ("{}: {}", "{} = {}", "- {}: {}", "* **{}**: {}", "**{}:** {}", "1. **{}**: {}", "• {}: {}", "`{}`: {}",
         "  {}: {}", "- [x] {}: {}", "__{}__: {}")  # fmt: skip
BEFORE = ("", "Here is what I found:\n", "Sure.\n\n", "```\n", "It is (see [1]):\n\n")
PERSON = Schema.of({"type": "object", "properties": {"full_name": {}, "city": {}, "notes": {}}})


def one_in(text: str, schema: Schema | None = None) -> Found:
    (found,) = KeyValueLines().find(text, Asked(schema))
    assert not found.typed
    assert found.rank == RANKS["lines"]
    return found


def value_of(text: str, schema: Schema | None = None) -> Json:
    found = one_in(text, schema)
    assert not found.repairs
    return found.value


@given(
    RECORDS,
    st.sampled_from(FORMS),
    st.sampled_from(BEFORE),
)
def test_lines_are_read_as_they_were_written(record: Json, form: str, before: str) -> None:
    """With a colon or an equals sign, with bullets, numbers, bold type or none, and with a word before them."""
    text = before + "\n".join(form.format(*each) for each in record.items()) + "\n\nAnything else?"
    assert value_of(text) == record


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Name: Ana\nCity: Reno, NV", {"Name": "Ana", "City": "Reno, NV"}),
        ("Full name: Ana\nHome town (now): Bath", {"Full name": "Ana", "Home town (now)": "Bath"}),
        (
            "a: 1\nurl: https://example.com/?a=1\nat: 10:30",
            {"a": "1", "url": "https://example.com/?a=1", "at": "10:30"},
        ),
        ("a = 1\nb = 'x == y'", {"a": "1", "b": "'x == y'"}),
        ('a: "quoted \\"text\\""\nb: "two" words', {"a": 'quoted "text"', "b": '"two" words'}),
        ("a: one\n  two\n  three\nb: x", {"a": "one\ntwo\nthree", "b": "x"}),
        ("a: x\nb:\none\ntwo", {"a": "x", "b": "one\ntwo"}),
        ("a: x\nb:\n- one\n- two", {"a": "x", "b": ["one", "two"]}),
        ("a: x\nb:\nc: y", {"a": "x", "b": "", "c": "y"}),
        ("**Name:** Ana\n\n**City:** Bath", {"Name": "Ana", "City": "Bath"}),
        ("Result:\nname: Ana\ncity: Bath", {"name": "Ana", "city": "Bath"}),
        ("I found this:\nname: Ana\ncity: Bath\n\nI hope that helps.", {"name": "Ana", "city": "Bath"}),
        ("| Field | Value |\n|---|:--|\n| name | Ana |\n| **city** | `Bath` |", {"name": "Ana", "city": "Bath"}),
        ("<think>a: 1\nb: 2</think>\na: 3\nb: 4<|im_end|>", {"a": "3", "b": "4"}),
    ],
)
def test_what_lines_mean(text: str, value: Json) -> None:
    """Values are text, several lines of it if they belong together."""
    assert value_of(text) == value


@pytest.mark.parametrize(
    ("text", "value", "dropped"),
    [
        ("Full Name: Ana\nCITY: Bath", {"full_name": "Ana", "city": "Bath"}, []),
        ("full_nam: Ana", {"full_name": "Ana"}, []),
        ("Full name: Ana\nAge: 7\nCity: Bath", {"full_name": "Ana", "city": "Bath"}, ["$.Age"]),
        ("Full name: Ana\n\nCity: Bath", {"full_name": "Ana", "city": "Bath"}, []),
        ("Notes:\nNB: she asked.\nAgain: she did.", {"notes": ""}, ["$.NB", "$.Again"]),
        ("City: Bath\nNotes: one\n  NB: two", {"city": "Bath", "notes": "one\nNB: two"}, []),
        ("| x | y |\n|---|---|\n| full name | Ana |\n| age | 7 |", {"full_name": "Ana"}, ["$.age"]),
    ],
)
def test_with_a_schema_only_its_names_are_keys(text: str, value: Json, dropped: list[str]) -> None:
    """They may be written a little otherwise; what else looks like a key is reported."""
    found = one_in(text, PERSON)
    assert found.value == value
    assert found.dropped == dropped


def test_a_key_given_twice_is_no_certain_thing() -> None:
    """The last one is kept, as everywhere."""
    found = one_in("a: 1\nb: 2\na: 3")
    assert found.value == {"a": "3", "b": "2"}
    assert [(each.kind, each.certain) for each in found.repairs] == [("doubled key", False)]
    assert found.dropped == ["$.a"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Tides are caused by the moon. Note: the sun matters too.\n\nIn short: gravity.",
        "Could you tell me more? For example: the city, the date, and how many people.",
        "Warning: the function search(query) failed. Reason: timeout.",
        "Note: the sun matters too.",
        "Note: one thing.\n\nWarning: another.",
        "The first of all these points is this: x\nThe second of all these points is: y",
        "Step 1: open it.\nStep 2: close it.",
        "User: hi\nAssistant: hello",
        "Q: what?\nA: that.",
        "at 10:30\nor 11:45",
        "name: Ana\nThis is more prose about her\ncity: Bath",
        '"name": "Ana",\n"city": "Bath"',
        'name: "Ana",\ncity: "Bath"',
        "a: 1,\nb: 2",
        "a: {x}\nb: [y]",
        '{"a": "\nb: c\nd: e"}',
        "customer:\n  name: Ana\n  city: Bath\ntotal: 7",
        "```python\na = 1\nb = 2\n```",
        "| City | People |\n|---|---|\n| Bath | 94,000 |\n| Reno | 264,000 |",
        "| a | b | c |\n|---|---|---|\n| 1 | 2 | 3 |",
        "https://example.com\nhttp://example.org",
    ],
)
def test_prose_is_no_data(text: str) -> None:
    """Nor are code, dialogues, steps, documents and what has fields within fields."""
    with pytest.raises(ValueError, match=r"^no lines with keys and values are in it$"):
        list(KeyValueLines().find(text, Asked()))


@pytest.mark.slow
@pytest.mark.parametrize("schema", [None, PERSON], ids=["", "schema"])
@pytest.mark.parametrize(
    "text",
    [
        "a: " * 330_000,
        "a: \n" * 250_000,
        "ab: c\n" * 16_000,
        "".join(f"key_{number}: c\n" for number in range(19_000)),
        ":" * 1_000_000,
        ":\n" * 500_000,
        "*" * 1_000_000,
        "**a" * 330_000,
        "**a\n" * 250_000,
        "- " * 500_000,
        "-" + " " * 1_000_000,
        " " * 1_000_000,
        "\n" * 1_000_000,
        "|" * 1_000_000,
        "|a|b|\n" * 160_000,
        "|-|-|\n" * 160_000,
        "`" * 1_000_000,
        "```\n" * 250_000,
        "a b " * 250_000,
        "a: x\n" + "y" * 1_000_000,
        "a:\n" + " y\n" * 19_000,
        "a: x\n" + "\n\n" * 400_000 + "b: y",
        "city: " + "x" * 1_000_000,
    ],
    ids=lambda text: repr(text[:12]) if isinstance(text, str) else "",
)
def test_nothing_that_is_a_megabyte_long_takes_a_second(text: str, schema: Schema | None) -> None:
    """Found or refused, but never anything else."""
    began = time.process_time()
    with contextlib.suppress(ValueError):
        list(KeyValueLines().find(text, Asked(schema)))
    assert time.process_time() - began < 2  # of CPU time; twice that for a machine under load


PARTS = ("a: ", "b = ", "city:", "- ", "**", ":", "\n", "\n\n", "  ", "x", '"', "|", "---", "```", "Full name: ")


@given(st.lists(st.sampled_from(PARTS), max_size=20).map("".join), st.sampled_from([None, PERSON]))
def test_whatever_is_found_is_json_and_everything_else_a_value_error(text: str, schema: Schema | None) -> None:
    """Fuzzed with the parts that lines are made of."""
    with contextlib.suppress(ValueError):
        for found in KeyValueLines().find(text, Asked(schema)):
            json.dumps(found.value, allow_nan=False)
            assert 0 <= found.start < found.end <= len(text)
