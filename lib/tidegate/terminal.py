"""What a person sees on a terminal: colour, tables, and text that cannot take the terminal over. rich, here alone."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, TextIO

Style = Literal["", "bold", "dim", "red", "green", "yellow"]

_CODES = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33}

_PICTURES = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n"} | {0x7F: 0x2421}
_PICTURES |= dict.fromkeys(range(0x80, 0xA0), 0xFFFD)

UNBOUNDED = 100_000
"""Cells of a line that is not shown on a terminal: it is never broken."""


FAR_TOO_NARROW = 1.5
"""How many times wider than its terminal a table must be to be shown as paragraphs."""


def harmless(text: str) -> str:
    """`text` with its control characters made visible: an answer or a name must not steer the terminal."""
    return text.translate(_PICTURES)


def colourful(stream: TextIO) -> bool:
    """Whether to colour what is written there: a terminal that can, and nobody who objects (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def painted(text: str, style: Style, stream: TextIO) -> str:
    """`text` in `style`, where the stream shows colours."""
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if style and colourful(stream) else text


def columns(stream: TextIO) -> int:
    """How many cells a line of this terminal has; 80 when it does not say."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


class Column(NamedTuple):
    """A column of a table."""

    title: str
    right: bool = False
    """Figures stand to the right."""
    whole: bool = False
    """Never broken over lines: on a narrow terminal the others give way."""


class Cell(NamedTuple):
    """A text in a colour."""

    text: str
    style: Style = ""


def show_table(heads: Sequence[Column], rows: Iterable[Sequence[str | Cell]], stream: TextIO) -> None:
    """An aligned table, without a head when it has no titles.

    Where a terminal is too narrow, cells are broken into lines; where it is far too narrow, each row is a paragraph.
    """
    from rich.console import Console  # noqa: PLC0415 (0.05 s, for those who see a table)
    from rich.measure import Measurement  # noqa: PLC0415

    width = columns(stream) if stream.isatty() else UNBOUNDED
    # Without colours not bold or dim either: to rich that is a stream which is no terminal.
    console = Console(file=stream, force_terminal=colourful(stream), width=width, highlight=False)
    filled = [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in rows]
    table: Any = _aligned(heads, filled)
    if Measurement.get(console, console.options.update(max_width=UNBOUNDED), table).maximum > width * FAR_TOO_NARROW:
        table = _paragraphs(heads, filled)
    with console.capture() as shown:
        console.print(table)
    stream.writelines(f"{line.rstrip()}\n" for line in shown.get().splitlines())


def _aligned(heads: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> Any:  # noqa: ANN401 (rich's Table)
    from rich.table import Table  # noqa: PLC0415 (see above)

    table = Table(box=None, pad_edge=False, show_header=any(head.title for head in heads), header_style="dim")
    for head in heads:
        table.add_column(head.title, justify="right" if head.right else "left", no_wrap=head.whole, overflow="fold")
    for row in rows:
        table.add_row(*map(_text, row))
    return table


def _paragraphs(heads: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> Any:  # noqa: ANN401 (see above)
    from rich.console import Group  # noqa: PLC0415 (see above)
    from rich.padding import Padding  # noqa: PLC0415

    parts: list[Any] = []
    for row in rows:
        rest = [(Cell(head.title, "dim"), cell) for head, cell in zip(heads[1:], row[1:], strict=True) if cell.text]
        parts += [_text(row[0]), Padding(_aligned((Column("", whole=True), Column("")), rest), (0, 0, 0, 2))]
    return Group(*parts)


def _text(cell: Cell) -> Any:  # noqa: ANN401 (rich's Text)
    from rich.text import Text  # noqa: PLC0415 (see above)

    return Text(harmless(cell.text), style=cell.style, overflow="fold")
