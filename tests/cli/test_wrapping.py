"""Text that is wrapped while it comes."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.cli.cells import cells, clusters, fitted
from tidegate.cli.wrapping import Paper

WIDTH = 80  # of a terminal that does not say

TEXTS = st.text(st.sampled_from("aé \n\tx,。潮水\u0301\u200d\ufe0f👩👧🇫🇷-"), max_size=300)


class Screen(io.StringIO):
    """A terminal, as far as a writer can tell."""

    def isatty(self) -> bool:
        return True


def shown(*pieces: str) -> str:
    screen = Screen()
    paper = Paper(screen)
    for piece in pieces:
        paper.write(piece)
    paper.end()
    return screen.getvalue()


@given(TEXTS, st.integers(1, 9))
def test_the_same_text_looks_the_same_however_it_came(text: str, size: int) -> None:
    assert shown(*(text[start : start + size] for start in range(0, len(text), size))) == shown(text)


@given(TEXTS)
def test_nothing_is_lost_but_space_at_the_ends_of_lines(text: str) -> None:
    assert shown(text).split() == [] if not text.split() else "".join(shown(text).split()) == "".join(text.split())


@given(st.lists(st.text(st.sampled_from("abé潮水"), min_size=1, max_size=WIDTH // 2), max_size=60))
def test_no_line_is_wider_than_the_terminal_if_no_word_is(words: list[str]) -> None:
    assert all(cells(line) <= WIDTH for line in shown(" ".join(words)).splitlines())


@given(st.lists(st.text(st.sampled_from("abcé'-.,"), min_size=1, max_size=WIDTH), max_size=60))
def test_no_word_of_letters_is_torn(words: list[str]) -> None:
    assert shown(" ".join(words)).split() == words


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (f"{'x' * 78} yy z", ["x" * 78, "yy z"]),
        (f"{'x' * 77} yy z", [f"{'x' * 77} yy", "z"]),
        (f"{'潮' * 40}水", ["潮" * 40, "水"]),
        (f"{'潮' * 39}x水", [f"{'潮' * 39}x", "水"]),
        (f"{'潮' * 40}。", ["潮" * 39, "潮。"]),
        ("    def f():\n\treturn 1", ["    def f():", "        return 1"]),
        ("a\r\nb", ["a", "b"]),
        ("", []),
    ],
)
def test_where_a_line_ends(text: str, lines: list[str]) -> None:
    assert shown(text).splitlines() == lines


@pytest.mark.parametrize(
    ("text", "pieces", "width"),
    [
        ("e\u0301a", ["e\u0301", "a"], 2),
        ("👩\u200d👩\u200d👧x", ["👩\u200d👩\u200d👧", "x"], 3),
        ("🇫🇷🇩🇪", ["🇫🇷", "🇩🇪"], 4),
        ("👍🏽!", ["👍🏽", "!"], 3),
        ("❤\ufe0f", ["❤\ufe0f"], 2),
        ("潮a", ["潮", "a"], 3),
    ],
)
def test_what_a_reader_takes_for_one_character_stays_one(text: str, pieces: list[str], width: int) -> None:
    assert clusters(text) == pieces
    assert cells(text) == width


def test_a_pipe_gets_the_text_as_it_came() -> None:
    pipe = io.StringIO()
    paper = Paper(pipe)
    for piece in ("one  two\x1b[0m ", "x" * 200):
        paper.write(piece)
        assert pipe.getvalue().endswith(piece)
    paper.end()
    assert pipe.getvalue() == f"one  two\x1b[0m {'x' * 200}\n"


def test_text_is_cut_between_what_a_reader_takes_for_characters() -> None:
    assert fitted("short", 5) == "short"
    assert fitted("longer", 5) == "long…"
    assert fitted("潮潮潮", 5) == "潮潮…"
    assert fitted("潮潮潮", 4) == "潮…"
