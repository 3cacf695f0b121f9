"""Partial values: what is shown while a text arrives, and that none of it is taken back."""

from __future__ import annotations

import copy
import datetime as dt
import json
import random
from collections.abc import Iterator
from enum import Enum
from itertools import pairwise
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from tidegate.errors import ConfigError
from tidegate.parsing import partial
from tidegate.parsing.growing import Document
from tidegate.parsing.partial import PartialReader, grow
from tidegate.parsing.reading import LARGEST, parse


class Step(BaseModel):
    title: str
    minutes: int = 5


class Plan(BaseModel):
    name: str
    steps: list[Step] = []
    note: str | None = None


class Level(Enum):
    HIGH = "high"
    HIGHER = "higher"


def cut(text: str, size: int = 1) -> Iterator[str]:
    return (text[at : at + size] for at in range(0, len(text), size))


def seen(text: str, into: Any = None, size: int = 1) -> list[Any]:
    """Every snapshot of a text."""
    return list(grow(cut(text, size), PartialReader(into)))


def last(text: str, into: Any = None) -> Any:
    reader = PartialReader(into)
    for each in cut(text):
        reader.feed(each)
    return reader.snapshot


def shown(value: Any) -> Any:
    """As plain values, of instances what has arrived."""
    if isinstance(value, BaseModel):
        extra = value.__pydantic_extra__ or {}
        return {name: shown({**value.__dict__, **extra}[name]) for name in value.model_fields_set}
    if isinstance(value, dict):
        return {name: shown(each) for name, each in value.items()}
    return [shown(each) for each in value] if isinstance(value, list) else value


def extends(new: Any, old: Any) -> bool:
    """Whether `new` begins with `old`."""
    if isinstance(old, str):
        return isinstance(new, str) and new.startswith(old)
    if isinstance(old, list):
        return len(new) >= len(old) and all(extends(after, before) for after, before in zip(new, old, strict=False))
    if isinstance(old, dict):
        return list(new)[: len(old)] == list(old) and all(extends(new[name], each) for name, each in old.items())
    return type(new) is type(old) and bool(new == old)


# Plain values

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=15)
DOCUMENTS = st.lists(VALUES) | st.dictionaries(st.text(), VALUES)


@st.composite
def cuts(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> tuple[str, list[str]]:
    """A text, and the same in chunks."""
    text = draw(texts)
    places = sorted(draw(st.lists(st.integers(0, len(text)), max_size=20)))
    return text, [text[start:stop] for start, stop in zip([0, *places], [*places, len(text)], strict=True)]


def written(value: Any, style: int) -> str:
    return json.dumps(value, ensure_ascii=bool(style & 1), indent=2 if style & 2 else None)


@given(st.builds(written, DOCUMENTS, st.integers(0, 3)), st.sampled_from([1, 2, 3, 7, 10_000]))
def test_J3_each_snapshot_begins_with_the_one_before_and_the_last_is_the_truth(text: str, size: int) -> None:
    """For any JSON document cut in any way nothing is taken back, and nothing is shown that is not true."""
    truth = json.loads(text)
    reader: PartialReader[Any] = PartialReader()
    snapshots = list(grow(cut(text, size), reader))
    for old, new in zip(snapshots, [*snapshots[1:], truth], strict=True):
        assert extends(new, old)
        assert extends(truth, new)
    assert snapshots[-1] == truth
    assert reader.finish().data == truth
    assert reader.frozen is None


@given(cuts(st.builds(written, DOCUMENTS, st.integers(0, 3))))
def test_what_is_shown_depends_on_the_text_alone(case: tuple[str, list[str]]) -> None:
    """After the same text the snapshot is the same, however it was cut."""
    text, chunks = case
    pieces: PartialReader[Any] = PartialReader()
    fed = ""
    for chunk in chunks:
        pieces.feed(chunk)
        fed += chunk
        assert pieces.snapshot == PartialReader().feed(fed)
    assert pieces.text == text


NOISE = st.text(st.sampled_from(list("{}[]\"',:/*#\\u0dD8TrueNn1.-` \n<>think|é“")), max_size=60)


@given(cuts(NOISE), st.sampled_from([None, Plan, list[int], dict[str, str]]))
def test_J1_nothing_raises_whatever_arrives(case: tuple[str, list[str]], into: Any) -> None:
    """Any text in any chunks gives snapshots, and the same ones as when it comes at once."""
    text, chunks = case
    whole, pieces = PartialReader(into), PartialReader(into)
    whole.feed(text)
    for chunk in chunks:
        pieces.feed(chunk)
    assert shown(pieces.snapshot) == shown(whole.snapshot)
    assert (pieces.frozen, pieces.text) == (whole.frozen, text)


@given(cuts(NOISE.map(lambda text: "{" + text.replace("`", "").replace("<", ""))))
def test_nothing_is_taken_back_from_broken_documents_either(case: tuple[str, list[str]]) -> None:
    """Snapshots of broken documents begin with the ones before, up to where they freeze."""
    snapshots = list(grow(case[1], PartialReader()))
    assert all(extends(new, old) for old, new in pairwise(snapshots))


def test_snapshots_that_are_kept_do_not_change() -> None:
    """Each snapshot is what it was when it was made."""
    text = json.dumps({"name": "n", "steps": [{"title": "a", "minutes": 1}] * 3, "note": "text"})
    for into in (None, Plan):
        reader = PartialReader(into)
        kept: list[tuple[Any, Any]] = []
        for piece in cut(text):
            snapshot = reader.feed(piece)
            kept.append((snapshot, copy.deepcopy(snapshot)))
        assert all(now == then for now, then in kept)


def test_text_is_shown_as_it_comes() -> None:
    """A text grows; a number or a word appears when it is complete, and a key with the beginning of its value."""
    assert seen('{"a": "hé", "b": 12, "c": [true]}') == [
        {}, {"a": ""}, {"a": "h"}, {"a": "hé"}, {"a": "hé", "b": 12}, {"a": "hé", "b": 12, "c": []},
        {"a": "hé", "b": 12, "c": [True]},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "before", "whole"),
    [
        ('{"a": 1,000}', {}, {"a": 1000}),
        ('{"a": 12 apples}', {}, {"a": "12 apples"}),
        ('{"a": true story}', {}, {"a": "true story"}),
        ('{"a": "x}', {"a": "x"}, {"a": "x"}),
        ('{"a": "x, "b": 1}', {"a": "x"}, {"a": "x", "b": 1}),
    ],
)
def test_nothing_is_shown_that_a_repair_takes_back(text: str, before: object, whole: object) -> None:
    """A number is one when a comma or a closer comes; signs at the end of a text may be none of its own."""
    reader: PartialReader[Any] = PartialReader()
    shown = [json.dumps(snapshot) for letter in text if (snapshot := reader.feed(letter)) is not None]
    assert shown[-1] == json.dumps(before)
    assert reader.finish().data == whole


def test_escapes_are_whole() -> None:
    """No escape is shown by halves, and no half of a pair of surrogates."""
    assert seen(r'["\u00e9\n\ud83d\ude00!"]') == [[""], ["é"], ["é"], ["é\n😀"], ["é\n😀!"]]
    assert last(r'["\ud83d\ud83d\ude00\ud83d"]') == ["\ud83d😀\ud83d"]


@pytest.mark.parametrize(
    "text",
    [
        '{"a": [1, 2,], "b": None,}',
        "{'a': [1, 2], 'b': None}",
        "{a: [1, 2], b: null}",
        '{"a": [1, 2], // one\n "b": /* ** / */ null # two\n}',
        '\ufeff{"a"\n:\t[1 ,2],"b":NULL}',
        '<think>{"a": [3]}</think>{"a": [1, 2], "b": null}',
        '{"no": 1}</think>{"a": [1, 2], "b": null}',
        '```json\n{"a": [1, 2], "b": null}\n``` {"c": 1}',
        '~~~ {"a": [1, 2], "b": null} ~~~',
        '[Note] {{x}} [1] is `{x}` [ ] and [[Link]] {}: {"a": [1, 2], "b": null}. {"c": 1}',
        'For {"b": 1}, say:\n```\n{"a": [1, 2], "b": null}```',
        '<answer>{"a": [1, 2], "b": null}</answer>',
    ],
)
def test_what_models_write_is_read_over(text: str) -> None:
    """Trailing commas, quotes, words, comments, thoughts, fences, tags and prose do not stop the snapshots."""
    assert last(text) == {"a": [1, 2], "b": None}
    assert PartialReader().feed(text) == {"a": [1, 2], "b": None}


@pytest.mark.parametrize("text", ["", "see [1], [2, 3] and {x}", '<think>{"a": 1}', "{{x}}", "[Note]", "{", "12"])
def test_without_a_document_there_is_no_snapshot(text: str) -> None:
    """Until a document has begun for sure there is nothing to show."""
    assert last(text) is None


@pytest.mark.parametrize(
    ("text", "shows", "why"),
    [
        ('{"a": "it "is"', {"a": "it "}, "'is\"' where a comma or the end of a container should be, at 11"),
        ('{"a": 1_000, "b": 2}', {}, "'1_000' where a value should be, at 11"),
        (r'{"a": "b\d"}', {"a": "b"}, r"`\d` in a string, at 10"),
        (r'["b\u12x4"]', ["b"], r"`\u12x4` in a string, at 9"),
        ("[1, NaN]", [1], "'NaN' where a value should be, at 7"),
        ('{"a" 1}', {}, "'1}' where a colon should be, at 5"),
        ('["a", 1}', ["a"], "'}' where a comma or the end of a container should be, at 7"),
        ("{a: 1, 1a: 2}", {"a": 1}, "'1a' where a key should be, at 9"),
        ('["a", 1 /x]', ["a"], "'x]' where a comment should be, at 9"),
        ("[1, " + "9" * 6000, [1], "a number or word of more than 5,000 characters, at 6004"),
        ("[1, " + "9" * 4500 + "]", [1], "'99999999999999999999' where a value should be, at 4504"),
    ],
)
def test_it_freezes_where_nobody_can_be_sure(text: str, shows: object, why: str) -> None:
    """What was shown stays, and `frozen` says why and where."""
    reader: PartialReader[Any] = PartialReader()
    assert reader.feed(text) == shows
    assert reader.frozen == why
    reader.feed('"x"}]')
    assert reader.snapshot == shows


def test_a_key_that_comes_again_shows_its_first_value() -> None:
    """Nothing is taken back; only `finish` can tell which of the two counts."""
    assert last('{"a": 1, "a": 2, "b": 3, "b": [4]}') == {"a": 1, "b": 3}
    assert last('{"name": "x", "name": "y"}', Plan) == Plan(name="x")


def test_J1_depth_and_size_are_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too deep or too long a document is frozen, and read no further."""
    deep: PartialReader[Any] = PartialReader()
    deep.feed("[1, " + "[" * 100_000)
    assert deep.frozen == "it is more than 500 containers deep, at 503"
    assert PartialReader().feed("[" * 100_000) is None
    monkeypatch.setattr(partial, "LARGEST", 10)
    long: PartialReader[Any] = PartialReader()
    for piece in ("[1, 2, ", "3, 4, 5", "]"):
        long.feed(piece)
    assert (long.snapshot, long.frozen) == ([1, 2], "it has more than 10 characters")
    assert LARGEST > 1_000_000


# Typed values


def test_a_snapshot_is_an_instance_of_the_model() -> None:
    """Fields that have not come are what they are by default, or None, and `model_fields_set` does not have them."""
    text = '{"name": "Move", "steps": [{"title": "Pack", "minutes": "90"}, {"ti'
    plan = last(text, Plan)
    assert isinstance(plan, Plan)
    assert [type(each) for each in plan.steps] == [Step, Step]
    assert [(each.title, each.minutes) for each in plan.steps] == [("Pack", 90), (None, 5)]
    assert plan.model_fields_set == {"name", "steps"}
    assert plan.model_dump(exclude_unset=True) == {"name": "Move", "steps": [{"title": "Pack", "minutes": 90}, {}]}


class Awkward(BaseModel):
    """Each field has something that an unfinished value does not satisfy."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: Annotated[str, Field(min_length=3, pattern="^x+$")]
    number: int = Field(ge=10, lt=50)
    level: Level
    kind: Literal["a", "ab"]
    day: dt.date
    tags: set[str]
    either: int | str = 0
    maybe: Step | None = None
    steps: dict[str, Step] = {}
    anything: Any = None
    _private: list[int] = PrivateAttr(default_factory=list)
    _unset: int

    @field_validator("text")
    @classmethod
    def _whole(cls, text: str) -> str:
        raise AssertionError(text)

    @model_validator(mode="after")
    def _complete(self) -> Awkward:
        raise AssertionError

    def model_post_init(self, _: object) -> None:
        raise AssertionError


def test_what_holds_for_whole_values_only_does_not_hold_back_a_snapshot() -> None:
    """Text is shown unchecked; everything else appears when it is complete, as its type takes it."""
    text = (
        '{"text": "xy", "number": "12", "level": "high", "kind": "ab", "day": "2026-10-01", "tags": ["p", "q", "p"],'
        ' "either": "e", "other": [1], "maybe": {"title": "t"}, "steps": {"one": {"title": "o"}},'
        ' "anything": [{"x": 1}]'
    )
    snapshots = seen(text, Awkward)
    awkward = snapshots[-1]
    assert (awkward.text, awkward.number, awkward.level, awkward.kind) == ("xy", 12, Level.HIGH, "ab")
    assert (awkward.day, awkward.tags, awkward.either) == (dt.date(2026, 10, 1), {"p", "q"}, "e")
    assert (awkward.maybe.title, awkward.steps["one"].title, awkward.anything) == ("t", "o", [{"x": 1}])
    assert awkward._private == []
    assert not hasattr(awkward, "_unset")
    expected: dict[str, list[Any]] = {"level": [None, Level.HIGH], "kind": [None, "ab"], "tags": [None, {"p", "q"}]}
    for field, values in expected.items():
        assert [value for value in values if value in [getattr(each, field) for each in snapshots]] == values
        assert all(getattr(each, field) in values for each in snapshots)


def test_a_value_that_does_not_fit_is_left_out() -> None:
    """Its field stays absent, until `finish` tells."""
    reader = PartialReader(Plan)
    plan = reader.feed('{"name": 5, "steps": [{"title": "a", "minutes": "soon"}, 7], "note": {"a": 1}}')
    assert shown(plan) == {"steps": [{"title": "a"}]}
    assert not reader.finish().success


class Named(BaseModel):
    model_config = ConfigDict(extra="allow")
    tool: str = Field(validation_alias=AliasChoices("name", "tool_name"))
    given: dict[str, int] = Field(default_factory=dict, alias="arguments")
    child: Named | None = None


def test_aliases_extra_keys_and_models_in_themselves() -> None:
    """A field arrives under any of its names; a model that allows other keys keeps them."""
    text = '{"tool_name": "x", "arguments": {"a": "1", "b": "no"}, "more": [1, {"y": "z"}], "child": {"name": "c'
    named = last(text, Named)
    assert (named.tool, named.given, named.more, named.child.tool) == ("x", {"a": 1}, [1, {"y": "z"}], "c")
    assert shown(named) == {"tool": "x", "given": {"a": 1}, "more": [1, {"y": "z"}], "child": {"tool": "c"}}
    both = last('{"tool": 1, "name": "x"}', Named)
    assert (both.__dict__["tool"], both.__pydantic_extra__) == ("x", {"tool": 1})


class Point(TypedDict):
    x: int


class Box(BaseModel):
    shape: Step | Point | None = None
    corner: tuple[int, int] | None = None


@pytest.mark.parametrize(
    ("into", "text", "shows"),
    [
        (list[Step], '[{"title": "a"}, {"title": "b', [{"title": "a"}, {"title": "b"}]),
        (dict[str, int], '{"a": "1", "b": "x", "c": 3', {"a": 1}),
        (Point, '{"x": "1", ', {"x": "1"}),
        (Step | Plan, '{"title": "a', {"title": "a"}),
        ({"type": "object"}, '{"x": "1", "y": "', {"x": "1", "y": ""}),
        (Box, '{"shape": {"title": "a"}, "corner": [1, ', {"shape": {"title": "a"}}),
        (Box, '{"shape": {"title": "a', {}),
        (Box, '{"corner": [1, "2"]', {"corner": (1, 2)}),
    ],
)
def test_other_types(into: Any, text: str, shows: object) -> None:
    """Lists and dicts hold what they should; what nobody can know before it is whole waits, or is plain at the top."""
    assert shown(last(text, into)) == shows


def test_defaults_are_made_once() -> None:
    """A default that a factory makes is the same in every snapshot; one that needs other fields is None at first."""
    made = iter(range(100))

    class Made(BaseModel):
        name: str = ""
        number: int = Field(default_factory=lambda: next(made))
        again: str = Field(default_factory=lambda data: data["name"] * 2)

    snapshots = seen('{"name": "abc"}', Made)
    assert [(each.name, each.number, each.again) for each in snapshots] == [
        ("", 0, None), ("", 0, None), ("a", 0, None), ("ab", 0, None), ("abc", 0, None),
    ]  # fmt: skip


def test_in_prose_the_schema_says_what_is_a_document() -> None:
    """Neither a list nor an object with another first key is taken for the model."""
    assert last('As ["a"] or {"other": 1}: {"name": "x"}', Plan) == Plan(name="x")
    assert last("As [1] says: [3, 4", list[int]) == [3]


# Growth


def text_of(size: int) -> str:
    chance = random.Random(size)  # noqa: S311 (no secret)
    records = [{"title": "t" * chance.randrange(20), "minutes": chance.randrange(99)} for _ in range(size // 40)]
    return json.dumps({"name": "long " * (size // 10), "steps": records})


@pytest.mark.parametrize("into", [None, Plan])
def test_the_work_is_linear_in_the_text(into: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """States are entered at most thrice a character; no more is copied than what arrives pays for, and one snapshot."""
    costs: list[int] = []
    documents: list[Document] = []
    view = Document.view

    def counting(self: Document) -> tuple[Any, int]:
        value, cost = view(self)
        costs.append(cost)
        documents.append(self)
        return value, cost

    monkeypatch.setattr(Document, "view", counting)
    monkeypatch.setattr(partial, "_SAVED", 10_000)
    for size in (20_000, 40_000, 80_000):
        text = text_of(size)
        costs.clear()
        snapshots = seen(text, into)
        assert shown(snapshots[-1]) == json.loads(text)
        assert sum(costs) <= 10_000 + partial._PAID * len(text) + max(costs)
        assert documents[-1].steps <= 3 * len(text)
        assert len(snapshots) > 100


def test_there_is_a_snapshot_after_every_chunk_of_an_answer() -> None:
    """In an answer of some thousand characters each one that shows more has a snapshot."""
    text = json.dumps({"name": "x" * 5000})
    assert len(seen(text)) == 5002


def test_the_newest_can_be_asked_for_at_any_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """`latest` shows all that has arrived, also when `feed` finds it too dear; so does the last one of `grow`."""
    monkeypatch.setattr(partial, "_SAVED", -1_000_000)
    reader: PartialReader[Any] = PartialReader()
    assert reader.feed('["abc') is None
    assert reader.latest() == ["abc"]
    assert seen('["abc') == [["abc"]]
    assert seen('["abc"]') == [["abc"]]


# Use


def test_the_same_object_is_returned_while_nothing_changes() -> None:
    """Space, and what is not shown yet, gives no new snapshot."""
    reader: PartialReader[Any] = PartialReader()
    first = reader.feed('{"a": "x"')
    assert all(reader.feed(each) is first for each in [",", " ", '"key"', ": ", "12"])
    assert reader.feed("}") == {"a": "x", "key": 12}


def test_finish_is_what_parse_says() -> None:
    """The last word is that of the whole text; it is said once."""
    text = 'Sure: {"name": "x", "steps": [{"title": "a"},]}'
    reader = PartialReader(Plan)
    for _ in grow(cut(text, 5), reader):
        pass
    assert reader.finish() == parse(text, Plan)
    assert reader.finish() is reader.finish()
    assert reader.finish().data == reader.snapshot
    with pytest.raises(RuntimeError, match="reader is finished"):
        reader.feed("x")


def test_grow_takes_a_piece_when_it_is_asked() -> None:
    """Nothing is read ahead, and an error of the source goes through."""

    def source() -> Iterator[str]:
        yield '{"a": "'
        yield "b"
        raise OSError("gone")

    growing = grow(source(), PartialReader())
    assert [next(growing), next(growing)] == [{"a": ""}, {"a": "b"}]
    with pytest.raises(OSError, match="gone"):
        next(growing)


def test_bad_input() -> None:
    """Bytes and types that nothing can be validated against are refused in words."""
    with pytest.raises(TypeError, match="has to be a str, not bytes"):
        PartialReader().feed(b"{")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="nothing that pydantic can validate"):
        PartialReader(3)
