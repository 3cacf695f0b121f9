"""What may be a part of something, or one of several things that were written: refused, or read as it was meant."""

from __future__ import annotations

import datetime as dt
from typing import Any, Literal

import pytest
from pydantic import BaseModel, model_validator

from tidegate.parsing import parse


class Number(BaseModel):
    a: int


@pytest.mark.parametrize(
    "text",
    [
        '{name: "Bob", ok: yes, role: "admin"}',
        '{"a": "x", b: y z, c: "q"}',
        '{"name": "Bob", home address: {"city": "Bath"}}',
        '["alpha"\n 12\n "beta"]',
        '["a" 5 "b"]',
        '["a"\n {}\n "b"]',
        '{"items": "a, "b": c"}',
        "[New York, NY]",
    ],
)
def test_a_text_does_not_swallow_what_comes_after_it(text: str) -> None:
    """A quote that looks like the end of a text is no quotation inside of it."""
    assert not parse(text).success


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ('```json\n{"a": 1}\n```\nCorrected:\n```json\n{"a": 2,}\n```', None),
        ('Example: {"a": 1}\n<answer>{"a": 2,}</answer>', 2),
        ('First draft: {"a": 1}. Final: {"a": 2,}', None),
        ('<draft>{"a": 1}</draft>\n<answer>{"a": 2,}</answer>', 2),
        ('```json\n{"a": 1}\n```\n```json\n{"b": 2 ', None),
        ('**Thinking**: {"a": 1}\n**Answer**: {"a": 2}', None),
        ('<example>{"a": 1}</example>\nThe answer is {"a": 2}', None),
        ('```python\nexample = {"a": 1}\n```\nThe result is {"a": 2}.', None),
        ('in = {"a": 1}\nout = {"a": 2}', None),
    ],
)
def test_what_needs_no_repair_is_not_taken_before_what_does(text: str, meant: int | None) -> None:
    """Nor an example before the answer."""
    result = parse(text, into=Number)
    assert result.data == (None if meant is None else Number(a=meant))


@pytest.mark.parametrize(
    "text",
    [
        '{first name: Bob, tags: ["a", "b"]}',
        '{first name: "Bob", address: {"city": "Bath"}}',
        '{\n  null,\n  [],\n  "x"\n]',
        "[[1, 2]], 3]",
        "[1, 2]\n, 3]",
        '[\n  false,\n  [\n    "yes"\n  ]],\n  false\n]',
        '{"a": {"b": 1}}, c: 2}',
        '{"a": 1} "b": 2}',
        '{"a": 1}{',
        '[\n  "name"\n  {}\n  {\n    "pop": 1\n    "id": true\n  }\n]',
        '[{"a": 1}, {"a": 2}',
        'name: Bath\ncounty: Somerset\ntwin towns: ["Aix", "Kaposvár"]',
        'tags = ["a", "b"]\nname = "x"',
        'functions.f:0{"a": 1}',
        "[Note] this is it",
        "[section]\na = 1",
        "[Bath](http://x)",
        "- [x] done\n- [ ] todo",
        "| Name | Score |\n|---|---|\n| Bob | 5 |\n| Al | 6 |",
        "[1, 2, 3 and so on",
        '{"a": tru\n\nHope this helps',
    ],
)
@pytest.mark.parametrize("repair", ["none", "safe"])
def test_a_part_is_not_taken_for_the_whole(text: str, repair: Any) -> None:
    """Whatever could not be read around it is a doubt."""
    assert not parse(text, repair=repair).success


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('<person><name>Bob</name><phones>["1", "2"]</phones></person>', {"name": "Bob", "phones": ["1", "2"]}),
        ('<record><title>x</title><author>{"n": 1}</author></record>', {"title": "x", "author": {"n": 1}}),
        ('status: ok\ndata: {"q": "x"}\nerror: none', {"status": "ok", "data": {"q": "x"}, "error": "none"}),
        ('{"pages": [3, 7-9]}', {"pages": [3, "7-9"]}),
        ("[1, 2024-01-02]", [1, "2024-01-02"]),
        ('{"level": high // from enum\n}', {"level": "high"}),
        ("{status: active # current\n count: 3}", {"status": "active", "count": 3}),
        ('[TOOL_CALLS]f[ARGS]{"a": 1}', {"name": "f", "arguments": {"a": 1}}),
        (
            'Thought: t\nAction: f\nAction Input: {"a": 1}\nObservation: ok',
            {"name": "f", "arguments": {"a": 1}},
        ),
    ],
)
def test_it_is_read_as_it_was_meant(text: str, value: object) -> None:
    """Records are not their only member that is JSON, and ranges are no two numbers."""
    assert parse(text).unwrap() == value


@pytest.mark.parametrize(
    "text",
    [
        '<function_calls><invoke name="pay"><parameter name="to">Bob</parameter>',
        "<function=delete>",
        "Action: f\nAction Input: {",
        "Action: f\nAction Input: [1, 2",
        '<tool_call>{"name": "ls"}</tool_call>\n<tool_call>{"name": "rm", "ar',
        "<function=f><parameter=x>1<parameter=y>2</parameter></function>",
    ],
)
def test_a_call_that_may_not_be_whole_is_refused(text: str) -> None:
    """It would be made with less than was meant."""
    assert not parse(text).success


@pytest.mark.parametrize(
    "text",
    [
        "```yaml\na: &x 1\nb: *x\n```",
        "```yaml\na: 1\n# more items\n```",
        '{"a": 1, // rest unchanged\n}',
        '{"a": 1, /* b stays the same */ "c": 2}',
    ],
)
def test_what_says_that_something_is_left_out_is_refused(text: str) -> None:
    assert not parse(text).success


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("-1", "1"), ("+1", "-1"), ("<= 5", ">= 5"), ("C++", "C"), ("1.5", "15"), ("2023", "2024"), ("GPT-4", "GPT-3"),
        ("item10", "item1"), ("Austria", "Australia"), ("Iran", "Iraq"), ("Slovakia", "Slovenia"),
        ("hypertension", "hypotension"), ("north-east", "north-west"), ("mediumhigh", "medium"),
    ],
)  # fmt: skip
def test_another_name_is_not_a_near_one(written: str, name: str) -> None:
    """Neither one with other signs or digits."""
    assert not parse(f'{{"x": "{written}"}}', into=dict[str, Literal[name, "something"]]).success  # type: ignore[valid-type]


@pytest.mark.parametrize(("written", "name"), [("hihg", "high"), ("medum", "medium"), ("Higgh!", "high")])
def test_a_slip_is_put_right(written: str, name: str) -> None:
    assert parse(f'{{"x": "{written}"}}', into=dict[str, Literal[name, "other"]]).unwrap() == {"x": name}  # type: ignore[valid-type]


def test_what_a_users_own_validator_raises_is_a_refusal() -> None:
    """Whatever it is."""

    class Strict(BaseModel):
        a: str

        @model_validator(mode="before")
        @classmethod
        def stripped(cls, value: Any) -> Any:
            return {"a": value["a"].strip()}

    assert parse('{"a": " x "}', into=Strict).unwrap().a == "x"
    for text in ('{"b": 1}', '{"a": 5}', "[]"):
        assert not parse(text, into=Strict).success


@pytest.mark.parametrize("text", ['{"a": Infinity}', '{"a": 1e400}', '{"a": ' + "9" * 400 + "}", '{"a": NaN,}'])
def test_a_number_that_a_schema_cannot_check_is_a_refusal(text: str) -> None:
    assert not parse(text, into={"properties": {"a": {"multipleOf": 0.1}}}).success


def test_a_number_that_nobody_can_print_is_refused() -> None:
    assert not parse('{"a": 0x' + "f" * 5_000 + "}").success


@pytest.mark.parametrize("text", ['{"at": 2024}', '{"at": "2024"}', "at: 20240506"])
def test_a_year_is_no_second_of_1970(text: str) -> None:
    assert not parse(text, into=dict[str, dt.datetime]).success
    assert parse('{"at": 1700000000}', into=dict[str, dt.datetime]).success
