"""Words, sentences and lines, however the text is cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.streaming import Lines, Sentences, Words

TEXTS = st.text(
    st.one_of(st.characters(codec="utf-8"), st.sampled_from(" \n.!?aB1é日本。e\u0301👨\u200d👩\u200d👧🇩🇪")),
    max_size=60,
)


def given_in(pieces: list[str], segments: Words | Sentences | Lines) -> list[str]:
    return [each for piece in pieces for each in segments.feed(piece)] + segments.finish()


def cut(text: str, places: list[int]) -> list[str]:
    marks = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[start:end] for start, end in itertools.pairwise(marks)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The tide comes in.", ["The", "tide", "comes", "in."]),
        ("  two\n\n words ", ["two", "words"]),
        ("café au lait", ["café", "au", "lait"]),
        ("潮が満ちる。", ["潮", "が", "満", "ち", "る。"]),
        ("now 潮 rises", ["now", "潮", "rises"]),
        ("a👨\u200d👩\u200d👧b", ["a👨\u200d👩\u200d👧b"]),
        ("e\u0301te\u0301", ["e\u0301te\u0301"]),
        ("", []),
        (" \n ", []),
    ],
)
def test_words_are_what_people_take_for_words(text: str, words: list[str]) -> None:
    assert given_in([text], Words()) == words
    assert given_in(list(text), Words()) == words


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("It rises. It falls!  Does it? Yes.", ["It rises.", "It falls!", "Does it?", "Yes."]),
        ("Dr. Smith paid 3.50 at 4 p.m. today.", ["Dr. Smith paid 3.50 at 4 p.m. today."]),
        ("See e.g. Fig. 3. It shows J. Doe.", ["See e.g. Fig. 3.", "It shows J. Doe."]),
        ("1. First of all. 2. Then.", ["1. First of all.", "2. Then."]),
        ('"Stop!" he said. "Why?"', ['"Stop!" he said.', '"Why?"']),
        ("Wait... what? Yes…", ["Wait... what?", "Yes…"]),
        ("潮が満ちる。引く。", ["潮が満ちる。", "引く。"]),
        ("A heading\n\nAnd a text", ["A heading", "And a text"]),
        ("no end", ["no end"]),
        ("", []),
    ],
)
def test_sentences_end_where_they_end(text: str, sentences: list[str]) -> None:
    assert given_in([text], Sentences()) == sentences
    assert given_in(list(text), Sentences()) == sentences


def test_lines_have_no_ends() -> None:
    assert given_in(["a\r\nb", "\n\nc\r", "\nd"], Lines()) == ["a", "b", "", "c", "d"]
    assert given_in(["a\n"], Lines()) == ["a"]


@pytest.mark.parametrize("kind", [Words, Sentences, Lines])
@given(text=TEXTS, places=st.lists(st.integers(0, 60), max_size=8))
def test_where_the_text_is_cut_makes_no_difference(
    kind: type[Words | Sentences | Lines], text: str, places: list[int]
) -> None:
    assert given_in(cut(text, places), kind()) == given_in([text], kind())


@given(text=TEXTS, places=st.lists(st.integers(0, 60), max_size=8))
def test_words_with_their_spaces_are_the_text(text: str, places: list[int]) -> None:
    assert "".join(given_in(cut(text, places), Words(spaces=True))) == text
