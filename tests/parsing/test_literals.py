"""Python literals: what is found is made of JSON's types, and nothing that a text says can hurt."""

from __future__ import annotations

import json
import math
import time
import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.parsing.found import Asked, Found
from tidegate.parsing.literals import PythonLiteral
from tidegate.parsing.python import read_literal

Json = Any

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)
CONTAINERS = st.lists(VALUES, min_size=1) | st.dictionaries(st.text(), VALUES, min_size=1)


def all_in(text: str) -> list[Found]:
    return list(PythonLiteral().find(text, Asked()))


def one_in(text: str) -> Found:
    (found,) = all_in(text)
    return found


def kinds(found: Found) -> list[str]:
    return [each.kind for each in found.repairs]


# What is found


@given(CONTAINERS)
def test_what_repr_writes_is_read_as_it_was(value: Json) -> None:
    """A literal of JSON's types needs no repair."""
    found = one_in(repr(value))
    assert found.value == value
    assert not found.repairs


@given(CONTAINERS, st.sampled_from(["python", "", "py", "json"]))
def test_a_fence_of_any_label_may_be_around_it(value: Json, label: str) -> None:
    """Backticks at the beginning of a line within a string would end the fence."""
    text = repr(value)
    if "```" not in text:
        assert one_in(f"Here it is:\n\n```{label}\n{text}\n```\n\nAnything else?").value == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Here: {'a': 1}", {"a": 1}),
        ("The answer is {'a': True}, as you can see.", {"a": True}),
        ("See [1] and {about that}.\n\n{'a': 'it\\'s'}\n\nThat is all.", {"a": "it's"}),
        ("```python\nresult = {'a': [1, 2]}\n```", {"a": [1, 2]}),
        ("<think>{'draft': 1}</think>{'a': None}", {"a": None}),
        ("{'a': 'x'}<|im_end|>", {"a": "x"}),
        ("{'a': \"it's\", \"b\": r'C:\\new', 'c': u'x'}", {"a": "it's", "b": "C:\\new", "c": "x"}),
        ("{'a': ('one '\n 'two')}", {"a": "one two"}),
        ("{'a': '''two\nlines'''}", {"a": "two\nlines"}),
        ("{'a': (1)}", {"a": 1}),
        (
            "{'a': -1.5e3, 'b': 0x10, 'c': 1_000, 'd': +2, 'e': .5}",
            {"a": -1500.0, "b": 16, "c": 1000, "d": 2, "e": 0.5},
        ),
        ("[{}, [], {'a': {}}]", [{}, [], {"a": {}}]),
        ("{'a': 1,  # one\n 'b': 2,\n}", {"a": 1, "b": 2}),
    ],
)
def test_literals_are_found_where_models_put_them(text: str, value: Json) -> None:
    """In the whole answer, a fence, an assignment or prose."""
    found = one_in(text)
    assert found.value == value
    assert not found.repairs
    assert text[found.start] in "{["
    assert text[found.end - 1] in "}]"


@pytest.mark.parametrize(
    ("text", "value", "repairs"),
    [
        ("('a', 1)", ["a", 1], ["tuple"]),
        ("{'a': (1,)}", {"a": [1]}, ["tuple"]),
        ("{'a': ()}", {"a": []}, ["tuple"]),
        ("{'a': {'x', 'y'}}", {"a": ["x", "y"]}, ["set"]),
        ("{1: 'a', None: 'b', True: 'c', 1.5: 'd'}", {"1": "a", "null": "b", "true": "c", "1.5": "d"}, ["key"] * 4),
    ],
)
def test_what_json_does_not_have_is_changed_and_noted(text: str, value: Json, repairs: list[str]) -> None:
    """Tuples and sets become lists, keys become text as `json.dumps` writes them."""
    found = one_in(text)
    assert found.value == value
    assert kinds(found) == repairs
    assert all(each.certain for each in found.repairs)


def test_a_key_given_twice_is_no_certain_thing() -> None:
    """The last one is kept, as everywhere, and the path of the other one is named."""
    found = one_in("{'a': {'b': 1, 'b': 2}}")
    assert found.value == {"a": {"b": 2}}
    assert found.dropped == ["$.a.b"]
    assert [each.certain for each in found.repairs] == [False]


@pytest.mark.parametrize("text", ['{"a": 1, "b": [2,],}', '{"a": 1} # one', '{"a": 0x10}', '{"a", "b"}'])
def test_json_with_something_wrong_is_not_taken_for_a_clean_literal(text: str) -> None:
    """Python would allow it, but nothing says that it is Python."""
    assert not [each for each in _found(text) if not each.repairs and text[: each.end] == text]


def _found(text: str) -> list[Found]:
    try:
        return all_in(text)
    except ValueError:
        return []


# What is not


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no literal at all",
        "42",
        "'text'",
        "{'a': 1",
        "{'a': b'bytes'}",
        "{'a': f'{x}'}",
        "{'a': 1+2j}",
        "{'a': 1j}",
        "{'a': ...}",
        "{'a': nan}",
        "{'a': 1e999}",
        "{'a': 007}",
        "{'a': 1 + 1}",
        "{'a': --1}",
        "{'a': open('x')}",
        "{'a': [1 for x in y]}",
        "{(1, 2): 'a'}",
        "{'a': 'it's'}",
        "['a' 'b']",
        "{'a': 'C:\\Users'}",
        "{'a': '\\d+'}",
        "{'a': '\\ud83d'}",
        "{'a': '\\N{NO SUCH SIGN}'}",
        "{'a': '\\777'}",
        "{'a': 1, 'b'}",
        "{'a', 'b': 1}",
        "{'a':}",
        "{,}",
        "[1,,2]",
        "(1, 2) is a pair",
        "see [1] and [2, 3]",
        "__import__('os').system('x')",
        "{'a': 1}, 'b': 2}",
        "'a': [1], 'b': ['c']",
        '"a"：["b"]',
        "{'a': ['b'], 'c': it's}",
        "{'a': 1} {'b': 2}",
        "Action: x\nAction Input: {'a': 1}",
    ],
)
def test_everything_else_is_refused_with_a_reason(text: str) -> None:
    """Also literals that are parts of something which is none."""
    with pytest.raises(ValueError, match=r"^no Python literal is in it$"):
        all_in(text)


@pytest.mark.parametrize("text", [r"{'path': 'C:\new\temp'}", r"{'path': '.\x86\a'}", r"{'math': '\frac{a}{b}'}"])
def test_single_backslashes_that_happen_to_be_escapes_are_doubted(text: str) -> None:
    """`repr` would have doubled them."""
    assert one_in(text).doubts


# What a text could do


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "(" * 1_000_000,
        "{'a':" * 100_000,
        "[" * 300 + "]" * 300,
        "[" + "-" * 250_000 + "1]",
        "[" + "1+" * 120_000 + "1]",
        "[" + "not " * 50_000 + "1]",
        "[" + "9" * 200_000 + "]",
        "[" + "1e" * 100_000 + "]",
        "{'a': " + "'" * 100_001,
        "{'" * 300_000,
        "['a', " * 150_000,
        "[a" * 400_000,
        "x [1] " * 150_000,
        "`" * 1_000_000,
        "```\n" * 250_000,
        "```[1,2]" * 120_000,
        "['\\" * 300_000,
        "[" + "#" * 1_000_000,
        "[" + "#\n" * 140_000,
        "a = " * 250_000,
        "[1, 2] " * 140_000,
        "{'a': 1}" * 120_000,
        "<think>" * 140_000,
        "['" + "\\x41" * 250_000 + "']",
    ],
    ids=lambda text: f"{text[:10]}…",
)
def test_nothing_that_is_a_megabyte_long_takes_a_second_or_warns(text: str) -> None:
    """Depth, runs of signs, sums, huge numbers and unclosed strings: found or refused, but never anything else."""
    began = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _found(text)
    assert time.process_time() - began < 2  # of CPU time; twice that for a machine under load


def test_what_is_too_long_is_left_to_the_tolerant_reader() -> None:
    """The cap is on characters."""
    assert one_in(repr(["x" * 1000] * 200)).value
    assert not _found(repr(["x" * 1000] * 400))


@given(st.text(alphabet="{}[]()'\"\\,:#\n -+.e1xbrNaTrue"))
def test_whatever_is_found_is_json_and_everything_else_a_value_error(text: str) -> None:
    """Fuzzed with the signs that literals are made of."""
    for found in _found(text):
        json.dumps(found.value, allow_nan=False)
        assert 0 <= found.start < found.end <= len(text)


@given(SCALARS)
def test_a_scalar_can_be_read_on_its_own(value: Json) -> None:
    """As calls need it for their arguments."""
    text = f"{value!r}, more"
    found = read_literal(text, 0, len(text))
    assert found.value == value or (isinstance(value, float) and math.isclose(found.value, value))
    assert text[found.end :] == ", more"
