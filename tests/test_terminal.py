"""Tables, colours, and text that must not steer a terminal."""

from __future__ import annotations

import io

import pytest

from tidegate.terminal import Cell, Column, columns, harmless, painted, show_table

HEADS = (Column("name"), Column("tokens", right=True))


class Screen(io.StringIO):
    """A terminal, as far as a writer can tell."""

    def isatty(self) -> bool:
        return True


def table(stream: io.StringIO, *rows: tuple[str | Cell, ...], heads: tuple[Column, ...] = HEADS) -> str:
    show_table(heads, rows, stream)
    return stream.getvalue()


def test_a_table_is_aligned_by_what_is_seen_and_has_no_blanks_at_its_ends() -> None:
    shown = table(io.StringIO(), ("潮", "1"), ("[red]x[/red]", "1,000"), ("", ""))
    assert shown == "name          tokens\n潮                 1\n[red]x[/red]   1,000\n\n"


def test_a_table_on_a_pipe_is_never_broken_nor_coloured() -> None:
    shown = table(io.StringIO(), (Cell("x " * 300, "red"), "1"))
    assert shown.count("\n") == 2
    assert "\x1b" not in shown


def test_a_table_that_is_far_too_wide_for_its_terminal_becomes_paragraphs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    heads = (Column("name"), Column("about"), Column("cost"))
    wide = ("openai", "x" * 60, "y" * 60)
    narrow = table(Screen(), wide, ("groq", "", "z"), heads=heads).replace("\x1b[2m", "").replace("\x1b[0m", "")
    assert narrow.splitlines() == ["openai", f"  about  {'x' * 60}", f"  cost   {'y' * 60}", "groq", "  cost  z"]
    wide_enough = table(Screen(), ("openai", "x" * 60, "y" * 20), heads=heads)
    assert wide_enough.replace("\x1b[2m", "").replace("\x1b[0m", "").splitlines()[0].split() == [
        "name",
        "about",
        "cost",
    ]


def test_who_wants_no_colours_gets_no_bold_or_dim_either(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some who set `NO_COLOR` read a terminal's text with a program."""
    assert "\x1b[" in table(Screen(), (Cell("x", "bold"), "1"))
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in table(Screen(), (Cell("x", "bold"), Cell("1", "dim")))


def test_control_characters_are_shown_and_not_obeyed() -> None:
    assert harmless("a\x1b[2J\x07\x7f\x9b\tb\n") == "a␛[2J␇␡\ufffd\tb\n"
    assert "\x1b]" not in table(io.StringIO(), ("\x1b]0;x", "1"))


def test_colours_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert painted("x", "red", Screen()) == "\x1b[31mx\x1b[0m"
    assert painted("x", "red", io.StringIO()) == "x"
    assert painted("x", "", Screen()) == "x"
    monkeypatch.setenv("TERM", "dumb")
    assert painted("x", "red", Screen()) == "x"
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert painted("x", "red", Screen()) == "x"


def test_a_terminal_that_does_not_say_how_wide_it_is_has_80_cells() -> None:
    assert columns(Screen()) == 80
